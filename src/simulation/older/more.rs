//! What the first stores lack: commits under a name, series of occurrences that have begun, what an
//! operator has rolled back, and branches that hold what only their votes made durable, messages
//! for later and publications.

use super::*;
use crate::broker::command::{BranchInfo, Disposition, MessageId};
use crate::schedule::Cron;
use crate::selector::Selector;

const MINUTE: u64 = 60_000;
/// When the two halves of the store were written.
const WRITTEN: [(u64, u64); 2] = [(0, HOUR), (10, HOUR + 3150)];
/// So long a half takes: less than until the next checkpoint.
const BEGINS: u64 = 150;

/// Each hour at half past, and twice more.
fn at_half_past() -> Plan {
    let cron = Some(Cron::parse("30 * * * *").unwrap());
    Plan { cron, delay: MINUTE, period: 2 * MINUTE, repeat: Some(2) }
}

/// One that has come for the first time when the store is written.
fn begun() -> Plan {
    Plan { cron: None, delay: BEGINS - 50, period: HOUR, repeat: Some(2) }
}

fn endless() -> Plan {
    Plan { cron: None, delay: 0, period: HOUR, repeat: None }
}

fn again(plan: Plan) -> When {
    When::Again(Box::new(plan))
}

fn commit_id(number: u64) -> Identity {
    Identity::of(format!("commit {number}").as_bytes())
}

/// Commits a transaction under a name; what is refused is rolled back.
fn commit_as(bench: &mut Bench, number: u64, operations: &[u8]) -> Result<Reply, Refusal> {
    let transaction = TransactionName(1000 + number);
    bench.done(Command::Begin { transaction });
    let work = Work::Send { to: queue("committed"), message: message(When::AtOnce) };
    bench.done(Command::Transact { transaction, work });
    let once = Once::commit(commit_id(number), transaction, Identity::of(operations));
    let said = bench.ask(Command::Once(once));
    if said.is_err() {
        let disposition = Disposition::Return;
        bench.done(Command::Rollback { transaction, disposition });
    }
    said
}

fn outcome_of(bench: &mut Bench, number: u64) -> Result<Reply, Refusal> {
    bench.ask(Command::Once(Once::outcome(commit_id(number))))
}

/// A message that has a property.
fn chosen() -> Message {
    let properties = vec![("kind".to_owned(), "a".to_owned())];
    let content = Content { kind: BodyKind::Bytes, properties, body: "chosen".into() }.encode();
    Message { content, ..message(When::AtOnce) }
}

/// A message that comes into the log with a vote alone.
fn volatile() -> Message {
    let priority = Priority::new(7).unwrap();
    let expires = Some(Millis(100 * HOUR));
    Message { durability: Durability::NonPersistent, priority, expires, ..message(When::AtOnce) }
}

fn topic() -> Destination {
    Destination::Topic("t".into())
}

fn subscribe(bench: &mut Bench) {
    for keep in [keep(), keep_pattern(), keep_chosen()] {
        let Command::Keep { subscription, .. } = &keep else { panic!("it is one") };
        let subscription = *subscription;
        bench.done(keep);
        bench.done(Command::Unsubscribe { subscription });
    }
}

/// A subscription to what [`chosen`] is.
fn keep_chosen() -> Command {
    let Command::Keep { subscription, mut keep } = keep_as(400, "chosen", "t") else {
        panic!("it is one")
    };
    keep.selector = Some(Arc::new(Selector::parse("kind = 'a'").unwrap()));
    Command::Keep { subscription, keep }
}

/// A branch that has received a message which is not persistent.
fn vote_volatile(bench: &mut Bench, number: u64, outcome: Outcome) {
    let from = format!("in.{number}");
    bench.done(Command::Send { to: queue(&from), message: volatile() });
    begin(bench, number);
    receive(bench, number, &from, outcome);
    prepare(bench, number);
    bench.done(Command::Unsubscribe { subscription: SubscriptionId(number) });
}

/// Some of everything. As with the first stores, what is at 0 is in the index in the end, and what
/// is at 10 in the log alone.
fn fill(bench: &mut Bench, first: u64) {
    bench.done(send("half", again(at_half_past())));
    bench.done(send("begun", again(begun())));
    bench.done(send("endless", again(endless())));
    assert_eq!(commit_as(bench, first + 1, b"a send"), Ok(Reply::Done));
    assert_eq!(outcome_of(bench, first + 2), Ok(Reply::NotCommitted));
    vote(bench, first + 1);
    bench.done(Command::Unsubscribe { subscription: SubscriptionId(first + 1) });
    let resolution = Resolution::Rollback;
    bench.done(Command::Xa(XaCommand::Decide { xid: xid(first + 1), resolution }));
    vote_volatile(bench, first + 2, Outcome::Accepted);
    vote_volatile(bench, first + 3, Outcome::Accepted);
    vote_volatile(bench, first + 4, Outcome::Returned);
    begin(bench, first + 5);
    let (delayed, repeated) = (message(When::After(HOUR)), message(again(endless())));
    within(bench, first + 5, Work::Send { to: queue("delayed"), message: delayed });
    within(bench, first + 5, Work::Send { to: queue("repeated"), message: repeated });
    prepare(bench, first + 5);
    begin(bench, first + 6);
    within(bench, first + 6, Work::Send { to: topic(), message: chosen() });
    prepare(bench, first + 6);
    bench.done(publish("t", When::AtOnce));
    bench.done(Command::Send { to: topic(), message: chosen() });
    bench.done(publish("p.one", When::AtOnce));
    bench.pass(BEGINS);
}

/// Writes the store of this version: `cargo test --lib write_more -- --ignored`.
#[test]
#[ignore = "writes the golden store of this version, by name; it is never rewritten"]
fn write_more() {
    let disk = SimDisk::new();
    // A checkpoint comes with time alone.
    let settings =
        Settings { checkpoint_changes: usize::MAX, checkpoint_bytes: u64::MAX, ..settings() };
    let mut bench = Bench::open_with(&disk, HOUR, &settings);
    bench.done(Command::Identify { client: "client".into() });
    subscribe(&mut bench);
    for (first, at) in WRITTEN {
        assert_eq!(bench.now, Millis(at));
        fill(&mut bench, first);
        if first == 0 {
            bench.pass(10 * settings.checkpoint_millis);
        }
    }
    let names = bench.node.index.names().unwrap();
    assert_eq!(names.len(), 2, "the second half is in the log alone");
    write_newest("more", &disk.kill());
}

#[test]
fn what_the_first_stores_lack_is_there_in_the_others_and_nothing_of_it_is_lost() {
    for path in stores("more") {
        let mut bench = Bench::open(&unpack(&path), HOUR + 10 * MINUTE);
        bench.pass(settings().checkpoint_millis);
        check_commits(&mut bench);
        check_decided(&mut bench);
        check_volatile(&mut bench);
        check_schedules(&mut bench);
        check_later(&mut bench);
        check_subscriptions(&mut bench);
    }
}

fn check_commits(bench: &mut Bench) {
    for (first, _) in WRITTEN {
        let (done, void) = (first + 1, first + 2);
        assert_eq!(outcome_of(bench, done), Ok(Reply::Repeated));
        assert_eq!(commit_as(bench, done, b"a send"), Ok(Reply::Repeated));
        assert_eq!(commit_as(bench, done, b"another"), Err(Refusal::CommitNameTaken));
        assert_eq!(outcome_of(bench, void), Ok(Reply::NotCommitted));
        assert_eq!(commit_as(bench, void, b"a send"), Err(Refusal::CommitVoid));
    }
    assert_eq!(bench.depth("committed"), 2, "each was committed once");
}

fn branches(bench: &mut Bench) -> Vec<BranchInfo> {
    match bench.xa(XaCommand::Recover { after: None }) {
        Ok(Reply::Branches(all)) => all,
        other => panic!("{other:?}"),
    }
}

fn commit(bench: &mut Bench, number: u64) -> Result<Reply, Refusal> {
    bench.xa(XaCommand::Commit { xid: xid(number), one_phase: false })
}

fn check_decided(bench: &mut Bench) {
    let listed = branches(bench);
    let numbers = [1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16];
    assert_eq!(
        listed.iter().map(|it| it.xid.clone()).collect::<Vec<_>>(),
        numbers.map(|it| (*xid(it)).clone())
    );
    let decided: Vec<_> = listed.into_iter().filter(|it| it.decided.is_some()).collect();
    for ((first, at), found) in WRITTEN.into_iter().zip(&decided) {
        let xid = xid(first + 1);
        let expected = BranchInfo {
            xid: Xid::clone(&xid),
            decided: Some(Resolution::Rollback),
            at: Millis(at),
            transaction: None,
            sent: 1,
            settled: 1,
            client: "client".into(),
        };
        assert_eq!(*found, expected);
        for _ in 0..2 {
            assert_eq!(commit(bench, first + 1), Err(Refusal::Xa(XaError::HeurRollback)));
        }
        bench.done(Command::Xa(XaCommand::Forget { xid }));
        assert_eq!(commit(bench, first + 1), Err(Refusal::Xa(XaError::NotA)));
        assert_eq!(bench.depth(&format!("in.{}", first + 1)), 1, "it came back");
    }
    assert_eq!((decided.len(), branches(bench).len(), bench.depth("out")), (2, 10, 0));
}

/// Takes what is in a queue.
fn consume(bench: &mut Bench, name: &str) -> Vec<Delivery> {
    let subscription = SubscriptionId(1000 + bench.deliveries.len() as u64);
    let (before, from) = (bench.deliveries.len(), queue(name));
    bench.done(Command::Subscribe { subscription, from, prefetch: 9, selector: None });
    bench.take_all();
    let taken = bench.deliveries[before..].to_vec();
    bench.done(Command::Unsubscribe { subscription });
    taken
}

fn check_volatile(bench: &mut Bench) {
    for (first, at) in WRITTEN {
        let [gone, back, put_back] = [2, 3, 4].map(|it| format!("in.{}", first + it));
        for name in [&gone, &back, &put_back] {
            assert_eq!(bench.depth(name), 0, "nobody has it while its branch has no outcome");
        }
        assert_eq!(commit(bench, first + 2), Ok(Reply::Done));
        let disposition = Disposition::Return;
        bench.done(Command::Xa(XaCommand::Rollback { xid: xid(first + 3), disposition }));
        assert_eq!(commit(bench, first + 4), Ok(Reply::Done));
        assert_eq!(consume(bench, &gone).len(), 0, "it is consumed");
        for name in [&back, &put_back] {
            let taken = consume(bench, name);
            let [it] = &taken[..] else { panic!("{taken:?}") };
            let found = (it.attempt, it.redelivered, it.priority, it.at, it.expires);
            assert_eq!(found, (2, true, 7, Millis(at), Some(Millis(100 * HOUR))));
            assert!(matches!(it.message, MessageId::Durable(_)));
            assert_eq!(it.content, volatile().content);
        }
    }
}

/// The schedules: each of which queue, how, when next, and how often after that.
fn schedules(bench: &mut Bench) -> Vec<(String, Plan, Millis, Option<u32>)> {
    match bench.ask(Command::ListSchedules { after: None }) {
        Ok(Reply::Schedules(all)) => {
            let all = all.into_iter();
            all.map(|it| (it.queue.to_string(), it.plan, it.next, it.left)).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn check_schedules(bench: &mut Bench) {
    let at = |minutes: u64| Millis(HOUR + minutes * MINUTE);
    let expected = WRITTEN.map(|(_, at_first)| {
        let begins = at_first + begun().delay + HOUR;
        [
            ("half".to_owned(), at_half_past(), at(31), Some(2)),
            ("begun".to_owned(), begun(), Millis(begins), Some(1)),
            ("endless".to_owned(), endless(), Millis(at_first + HOUR), None),
        ]
    });
    assert_eq!(schedules(bench), expected.concat());
    let depths = |bench: &mut Bench| ["half", "begun", "endless"].map(|name| bench.depth(name));
    // With each waits what it comes of, as long as it comes.
    assert_eq!(depths(bench), [2, 4, 2]);
    bench.pass(24 * MINUTE);
    assert_eq!(depths(bench), [6, 4, 2], "at 31 and 33 minutes past");
    bench.pass(HOUR);
    assert_eq!(depths(bench), [12, 6, 4], "once more, and twice in the next hour");
    bench.pass(HOUR);
    assert_eq!(depths(bench), [18, 6, 6], "one is over");
    let left = schedules(bench).into_iter().map(|(name, ..)| name).collect::<Vec<_>>();
    assert_eq!(left, ["half", "endless", "half", "endless"]);
}

fn check_later(bench: &mut Bench) {
    assert_eq!((bench.depth("delayed"), bench.depth("repeated")), (0, 0));
    for (first, _) in WRITTEN {
        assert_eq!(commit(bench, first + 5), Ok(Reply::Done));
    }
    assert_eq!((bench.depth("delayed"), bench.depth("repeated")), (2, 2));
    let next = Some(Millis(bench.now.0 + HOUR));
    let of_branches = schedules(bench).into_iter().filter(|(name, ..)| name == "repeated");
    let next_of: Vec<_> = of_branches.map(|(_, _, next, _)| Some(next)).collect();
    assert_eq!(next_of, [next, next], "it is counted from the commit");
    bench.pass(HOUR - 1);
    assert_eq!(consume(bench, "delayed").len() + consume(bench, "repeated").len(), 0);
    bench.pass(1);
    assert_eq!((consume(bench, "delayed").len(), consume(bench, "repeated").len()), (2, 2));
}

fn check_subscriptions(bench: &mut Bench) {
    bench.done(Command::Identify { client: "client".into() });
    for (first, _) in WRITTEN {
        assert_eq!(commit(bench, first + 6), Ok(Reply::Done));
    }
    let mut kept = |keep| {
        let before = bench.deliveries.len();
        bench.done(keep);
        bench.take_all();
        let content = |it: &Delivery| Content::decode(it.content.clone()).unwrap();
        let all: Vec<_> = bench.deliveries[before..].iter().map(content).collect();
        let chosen =
            all.iter().filter(|it| it.property("kind") == Some("a") && *it.body == *b"chosen");
        (all.len(), chosen.count())
    };
    assert_eq!(kept(keep()), (6, 4), "two of them came of branches");
    assert_eq!(kept(keep_pattern()), (2, 0));
    assert_eq!(kept(keep_chosen()), (4, 4));
}
