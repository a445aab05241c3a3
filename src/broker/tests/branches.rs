//! Promises of branches of global transactions.

mod names;

use super::*;
use crate::broker::command::{
    BranchInfo, Disposition, EndAs, Glimpse, InDoubt, StartAs, Tally, Vote, Work, XaCommand,
    XaError,
};
use crate::broker::delta::Resolution;
use crate::broker::redelivery::Redelivery;
use crate::ids::{QueueId, TransactionName, Xid};

const NAME: TransactionName = TransactionName(7);
const SUBSCRIPTION: SubscriptionId = SubscriptionId(1);

fn xid(branch: u8) -> Arc<Xid> {
    Arc::new(Xid::new(1, b"global", &[branch]).unwrap())
}

fn message(durability: Durability) -> Message {
    let content = Bytes::from_static(b"content");
    Message {
        durability,
        priority: Priority::DEFAULT,
        expires: None,
        when: When::AtOnce,
        grouped: false,
        content,
    }
}

/// The answer of one command about a branch.
type Said = Result<Option<Reply>, Refusal>;

const YES: Said = Ok(Some(Reply::Done));

fn no(error: XaError) -> Said {
    Err(Refusal::Xa(error))
}

fn vote(vote: Vote) -> Said {
    Ok(Some(Reply::Vote(vote)))
}

impl Bench {
    /// Asks until it is done, and gives the answer, however it came.
    pub(super) fn xa(&mut self, connection: u64, command: XaCommand) -> Said {
        let command = Command::Xa(command);
        loop {
            self.answers.clear();
            match self.ask(connection, &command)? {
                Verdict::Part => {}
                Verdict::Answer(reply) => return Ok(Some(reply)),
                Verdict::Later | Verdict::Fence => {
                    return self.answers.pop().map_or(Ok(None), |said| said.map(Some));
                }
                Verdict::Hold(_) | Verdict::HoldFor(..) => {
                    unreachable!("no command about a branch is held")
                }
            }
        }
    }

    fn start_as(&mut self, connection: u64, branch: u8, how: StartAs) -> Said {
        let (xid, transaction, client) = (xid(branch), NAME, "a client".into());
        self.xa(connection, XaCommand::Start { xid, how, transaction, timeout: None, client })
    }

    fn start(&mut self, connection: u64, branch: u8) {
        assert_eq!(self.start_as(connection, branch, StartAs::New), YES);
    }

    fn end_as(&mut self, connection: u64, branch: u8, how: EndAs) -> Said {
        self.xa(connection, XaCommand::End { xid: xid(branch), transaction: NAME, how })
    }

    fn end_branch(&mut self, connection: u64, branch: u8) {
        assert_eq!(self.end_as(connection, branch, EndAs::Success), YES);
    }

    fn prepare(&mut self, branch: u8) -> Said {
        self.xa(50, XaCommand::Prepare { xid: xid(branch) })
    }

    fn commit_branch(&mut self, branch: u8, one_phase: bool) -> Said {
        self.xa(51, XaCommand::Commit { xid: xid(branch), one_phase })
    }

    fn rollback_branch(&mut self, branch: u8, disposition: Disposition) -> Said {
        self.xa(51, XaCommand::Rollback { xid: xid(branch), disposition })
    }

    pub(super) fn recover(&mut self) -> Vec<BranchInfo> {
        match self.xa(52, XaCommand::Recover { after: None }) {
            Ok(Some(Reply::Branches(found))) => found,
            other => panic!("{other:?}"),
        }
    }

    fn recovered(&mut self) -> Vec<Xid> {
        self.recover().into_iter().map(|info| info.xid).collect()
    }

    fn do_in(&mut self, connection: u64, work: Work) -> Result<Verdict, Refusal> {
        self.ask(connection, &Command::Transact { transaction: NAME, work })
    }

    fn send_within(&mut self, connection: u64, name: &str, durability: Durability) {
        let work = Work::Send { to: queue(name), message: message(durability) };
        self.do_in(connection, work).unwrap();
    }

    fn take_within(&mut self, connection: u64, which: Which) -> Result<(), Refusal> {
        let (subscription, outcome) = (SUBSCRIPTION, Outcome::Accepted);
        let work = Work::Settle { subscription, which, outcome };
        while let Verdict::Part = self.do_in(connection, work.clone())? {}
        Ok(())
    }

    /// A branch that has sent to `q` and voted.
    fn prepared(&mut self, branch: u8) {
        self.start(40, branch);
        self.send_within(40, "q", Durability::Persistent);
        self.end_branch(40, branch);
        assert_eq!(self.prepare(branch), vote(Vote::Ok));
    }

    fn waiting(&mut self, name: &str) -> u64 {
        self.depth(name).map_or(0, |queue| queue.depth)
    }
}

/// A branch publishes, votes, and is committed in another life.
pub(super) fn publish_and_commit(bench: &mut Bench, to: Destination, message: Message) {
    bench.start(40, 1);
    bench.do_in(40, Work::Send { to, message }).unwrap();
    bench.end_branch(40, 1);
    assert_eq!(bench.prepare(1), vote(Vote::Ok));
    bench.restart();
    assert_eq!(bench.commit_branch(1, false), YES);
}

#[test]
fn a_prepared_branch_survives_its_connection_and_a_new_life_and_ends_by_its_outcome() {
    for outcome in [Resolution::Commit, Resolution::Rollback] {
        let mut bench = Bench::new();
        bench.subscribe(1, queue("in"), 10);
        (0..2).for_each(|_| bench.send("in"));
        bench.start(1, 1);
        bench.send_within(1, "out", Durability::Persistent);
        bench.take_within(1, Which::One(Tag(1))).unwrap();
        bench.end_branch(1, 1);
        assert_eq!(bench.prepare(1), vote(Vote::Ok));
        bench.close(1);
        for _ in 0..2 {
            assert_eq!(bench.recovered(), [Xid::clone(&xid(1))]);
            bench.restart();
            bench.settle_down(Effects::new());
            bench.subscribe(2, queue("in"), 10);
            // What it has settled is nobody's, and what it has sent is nowhere.
            assert_eq!(bench.handed_out(), [(2, 2)]);
            assert_eq!((bench.waiting("in"), bench.waiting("out")), (2, 0));
        }
        let (left, came) = match outcome {
            Resolution::Commit => (1, 1),
            Resolution::Rollback => (2, 0),
        };
        let said = match outcome {
            Resolution::Commit => bench.commit_branch(1, false),
            Resolution::Rollback => bench.rollback_branch(1, Disposition::Keep),
        };
        assert_eq!(said, YES);
        assert_eq!((bench.waiting("in"), bench.waiting("out")), (left, came));
        assert_eq!(bench.recovered(), []);
        // A delivery of an earlier life stays with nobody, whoever has its name now.
        let expected: &[_] = if outcome == Resolution::Commit { &[] } else { &[(2, 1)] };
        assert_eq!(bench.handed_out(), expected);
    }
}

#[test]
fn an_outcome_that_was_lost_on_its_way_is_told_again() {
    let mut bench = Bench::new();
    (1..=3).for_each(|branch| bench.prepared(branch));
    assert_eq!(bench.commit_branch(1, false), YES);
    assert_eq!(bench.rollback_branch(2, Disposition::Return), YES);
    bench.start(1, 4);
    bench.send_within(1, "q", Durability::Persistent);
    bench.end_branch(1, 4);
    assert_eq!(bench.commit_branch(4, true), YES);
    for _ in 0..2 {
        assert_eq!(bench.commit_branch(1, false), YES);
        assert_eq!(bench.rollback_branch(1, Disposition::Return), no(XaError::Proto));
        assert_eq!(bench.commit_branch(2, false), no(XaError::NotA));
        assert_eq!(bench.commit_branch(2, true), no(XaError::RbRollback));
        assert_eq!(bench.rollback_branch(2, Disposition::Return), YES);
        assert_eq!(bench.commit_branch(4, true), YES);
        assert_eq!(bench.commit_branch(9, false), no(XaError::NotA));
        assert_eq!(bench.waiting("q"), 2);
        assert_eq!(bench.recovered(), [Xid::clone(&xid(3))]);
        bench.restart();
    }
}

#[test]
fn outcomes_are_forgotten_with_time_and_beyond_a_number() {
    let day = Limits::default().outcome_millis;
    let mut bench = Bench::new();
    bench.prepared(1);
    assert_eq!(bench.commit_branch(1, false), YES);
    bench.now = Millis(bench.now.0 + day - 1);
    bench.settle_down(Effects::new());
    assert_eq!(bench.commit_branch(1, false), YES);
    let due = bench.broker.next_deadline().unwrap();
    bench.now = due;
    bench.settle_down(Effects::new());
    assert_eq!(bench.commit_branch(1, false), no(XaError::NotA));
    assert_eq!(bench.broker.next_deadline(), None);

    let limits = Limits { outcomes: 2, ..Limits::default() };
    let mut bench = Bench::with(limits);
    for branch in 1..=3 {
        bench.prepared(branch);
        bench.now = Millis(bench.now.0 + crate::limits::OUTCOME_MARK_MILLIS);
        assert_eq!(bench.commit_branch(branch, false), YES);
    }
    bench.settle_down(Effects::new());
    assert_eq!(bench.commit_branch(1, false), no(XaError::NotA));
    assert_eq!(bench.commit_branch(3, false), YES);

    // However many there may be, the newest is known.
    let mut bench = Bench::with(limits);
    for branch in 1..=4 {
        bench.prepared(branch);
        assert_eq!(bench.commit_branch(branch, false), YES);
        bench.settle_down(Effects::new());
        assert_eq!(bench.commit_branch(branch, false), YES);
    }
}

#[test]
fn what_an_operator_decides_is_told_until_it_is_forgotten_by_request() {
    let mut bench = Bench::new();
    let decide = |branch, resolution| XaCommand::Decide { xid: xid(branch), resolution };
    bench.prepared(1);
    bench.prepared(2);
    assert_eq!(bench.xa(9, decide(1, Resolution::Commit)), YES);
    assert_eq!(bench.xa(9, decide(2, Resolution::Rollback)), YES);
    assert_eq!(bench.waiting("q"), 1);
    for _ in 0..2 {
        assert_eq!(bench.commit_branch(1, false), no(XaError::HeurCommit));
        assert_eq!(bench.commit_branch(2, false), no(XaError::HeurRollback));
        let decided: Vec<_> = bench.recover().iter().map(|info| info.decided).collect();
        assert_eq!(decided, [Some(Resolution::Commit), Some(Resolution::Rollback)]);
        for info in bench.recover() {
            assert_eq!((info.sent, info.settled, &*info.client), (1, 0, "a client"));
        }
        bench.now = Millis(bench.now.0 + 10 * Limits::default().outcome_millis);
        bench.restart();
        bench.settle_down(Effects::new());
    }
    assert_eq!(bench.xa(9, XaCommand::Forget { xid: xid(1) }), YES);
    assert_eq!(bench.xa(9, XaCommand::Forget { xid: xid(1) }), no(XaError::NotA));
    assert_eq!(bench.recovered(), [Xid::clone(&xid(2))]);
}

#[test]
fn a_branch_that_has_not_voted_ends_with_its_time_and_its_manager_hears_why() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 10);
    bench.send("q");
    bench.delivered.clear();
    bench.start(1, 1);
    bench.take_within(1, Which::One(Tag(1))).unwrap();
    bench.prepared(2);
    bench.now = bench.broker.next_deadline().unwrap();
    bench.settle_down(Effects::new());
    // Its work is undone at once.
    assert_eq!(bench.handed_out(), [(1, 1)]);
    let work = Work::Send { to: queue("q"), message: message(Durability::Persistent) };
    let refusal = bench.do_in(1, work).unwrap_err();
    assert!(matches!(refusal, Refusal::RollbackOnly { .. }));
    assert_eq!(bench.prepare(1), no(XaError::Proto));
    assert_eq!(bench.end_as(1, 1, EndAs::Success), no(XaError::RbTimeout));
    assert_eq!(bench.prepare(1), no(XaError::RbTimeout));
    assert_eq!(bench.prepare(1), no(XaError::NotA));
    // One that has voted waits for ever.
    bench.now = Millis(bench.now.0 * 1000);
    bench.settle_down(Effects::new());
    assert_eq!(bench.recovered(), [Xid::clone(&xid(2))]);
}

#[test]
fn a_branch_goes_with_a_connection_that_works_in_it_and_with_no_other() {
    let mut bench = Bench::new();
    bench.start(1, 1);
    bench.send_within(1, "q", Durability::Persistent);
    bench.end_branch(1, 1);
    bench.close(1);
    assert_eq!(bench.start_as(2, 1, StartAs::Join), YES);
    bench.send_within(2, "q", Durability::Persistent);
    assert_eq!(bench.start_as(3, 1, StartAs::Join), YES);
    bench.close(3);
    assert_eq!(bench.end_as(2, 1, EndAs::Success), no(XaError::RbCommFail));
    assert_eq!(bench.prepare(1), no(XaError::RbCommFail));
    assert_eq!(bench.waiting("q"), 0);
    assert_eq!(bench.live_bytes_now(), 0);
}

#[test]
fn a_branch_with_nothing_in_it_votes_that_and_is_over() {
    let mut bench = Bench::new();
    bench.start(1, 1);
    bench.end_branch(1, 1);
    assert_eq!(bench.prepare(1), vote(Vote::ReadOnly));
    assert_eq!(bench.commit_branch(1, false), no(XaError::NotA));
    assert!(bench.log.is_empty());
}

#[test]
fn two_branches_of_one_transaction_and_work_outside_are_apart() {
    let mut bench = Bench::new();
    bench.start(1, 1);
    bench.start(2, 2);
    bench.send_within(1, "q", Durability::Persistent);
    bench.send_within(2, "q", Durability::Persistent);
    assert_eq!(bench.end_as(1, 1, EndAs::Suspend), YES);
    let work = Work::Send { to: queue("q"), message: message(Durability::Persistent) };
    assert_eq!(bench.do_in(1, work), Err(Refusal::Xa(XaError::Proto)));
    assert_eq!(bench.start_as(1, 1, StartAs::Resume), YES);
    bench.send_within(1, "q", Durability::Persistent);
    bench.end_branch(1, 1);
    bench.end_branch(2, 2);
    assert_eq!(bench.prepare(1), vote(Vote::Ok));
    assert_eq!(bench.rollback_branch(2, Disposition::Return), YES);
    assert_eq!(bench.commit_branch(1, false), YES);
    assert_eq!(bench.waiting("q"), 2);
}

#[test]
fn non_persistent_work_is_durable_with_the_vote() {
    for outcome in [Resolution::Commit, Resolution::Rollback] {
        let mut bench = Bench::new();
        bench.subscribe(1, queue("q"), 1000);
        for _ in 0..600 {
            bench.send_as("q", Durability::NonPersistent, 4, None);
        }
        bench.delivered.clear();
        bench.start(1, 1);
        bench.take_within(1, Which::Through(Tag(600))).unwrap();
        bench.send_within(1, "r", Durability::NonPersistent);
        bench.end_branch(1, 1);
        assert_eq!(bench.prepare(1), vote(Vote::Ok));
        assert_eq!(bench.broker.volatile_bytes(), 0);
        bench.restart();
        bench.settle_down(Effects::new());
        match outcome {
            Resolution::Commit => assert_eq!(bench.commit_branch(1, false), YES),
            Resolution::Rollback => {
                assert_eq!(bench.rollback_branch(1, Disposition::Return), YES);
            }
        }
        bench.subscribe(2, queue("q"), 1000);
        let again: Vec<_> = bench.delivered.drain(..).map(|d| d.redelivered).collect();
        let (left, came) = if outcome == Resolution::Commit { (0, 1) } else { (600, 0) };
        assert_eq!(again, vec![true; left]);
        assert_eq!(bench.waiting("r"), came);
    }
}

#[test]
fn what_a_branch_gives_back_rests_as_its_queue_says_though_it_was_not_persistent() {
    let rules = Redelivery { delay: 1000, delay_max: 1000, ..Redelivery::none() };
    let mut bench = dead::governed(rules, Vec::new());
    bench.subscribe(1, queue("q"), 1);
    bench.send_as("q", Durability::NonPersistent, 4, None);
    bench.delivered.clear();
    bench.start(1, 1);
    bench.take_within(1, Which::One(Tag(1))).unwrap();
    bench.end_branch(1, 1);
    assert_eq!(bench.prepare(1), vote(Vote::Ok));
    assert_eq!(bench.rollback_branch(1, Disposition::Return), YES);
    assert_eq!(bench.handed_out(), []);
    bench.now.0 += 1000;
    bench.settle_down(Effects::new());
    assert_eq!(bench.handed_out().len(), 1);
}

#[test]
fn deliveries_of_this_life_stay_with_a_consumer_who_keeps_them() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 10);
    bench.send("q");
    bench.send_as("q", Durability::NonPersistent, 4, None);
    bench.delivered.clear();
    bench.start(1, 1);
    bench.take_within(1, Which::Through(Tag(2))).unwrap();
    bench.end_branch(1, 1);
    assert_eq!(bench.prepare(1), vote(Vote::Ok));
    assert_eq!(bench.rollback_branch(1, Disposition::Keep), YES);
    assert_eq!(bench.handed_out(), []);
    bench.settle(1, Which::Through(Tag(2)), Outcome::Accepted).unwrap();
    assert_eq!(bench.waiting("q"), 0);
    assert_eq!(bench.live_bytes_now(), 0);
}

#[test]
fn a_queue_that_a_prepared_branch_needs_is_not_deleted_and_a_purge_leaves_its_messages() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("in"), 1);
    bench.send("in");
    bench.start(1, 1);
    bench.take_within(1, Which::One(Tag(1))).unwrap();
    bench.send_within(1, "out", Durability::Persistent);
    bench.end_branch(1, 1);
    assert_eq!(bench.prepare(1), vote(Vote::Ok));
    bench.close(1);
    bench.restart();
    for name in ["in", "out"] {
        let why = bench.ask(9, &Command::Delete { queue: name.into() }).unwrap_err();
        assert_eq!(why, Refusal::QueueInTransactions(name.into()));
        bench.ask(9, &Command::Purge { queue: name.into() }).unwrap();
    }
    assert_eq!(bench.commit_branch(1, false), YES);
    assert_eq!((bench.waiting("in"), bench.waiting("out")), (0, 1));
    bench.ask(9, &Command::Delete { queue: "in".into() }).unwrap();
    assert!(bench.depth("in").is_none());
}

#[test]
fn a_branch_that_waits_for_long_is_found_once_in_each_life_and_until_it_ends() {
    let mut bench = Bench::new();
    let long = Limits::default().branch_warn_millis;
    bench.prepared(1);
    let voted = bench.now;
    bench.now = Millis(voted.0 + 5);
    bench.prepared(2);
    for _ in 0..2 {
        assert_eq!(bench.broker.next_overdue(), Some(Millis(voted.0 + long)));
        bench.now = Millis(voted.0 + long - 1);
        assert_eq!(bench.broker.take_overdue(bench.now), None);
        bench.now = Millis(voted.0 + long);
        assert_eq!(bench.broker.take_overdue(bench.now).map(|row| row.at), Some(voted));
        assert_eq!(bench.broker.take_overdue(bench.now), None);
        let InDoubt { prepared, overdue, oldest, decided } = bench.broker.in_doubt();
        assert_eq!((prepared, overdue, oldest, decided), (2, 1, Some(voted), 0));
        bench.restart();
    }
    bench.broker.take_overdue(bench.now);
    assert_eq!(bench.commit_branch(1, false), YES);
    let InDoubt { prepared, overdue, oldest, .. } = bench.broker.in_doubt();
    assert_eq!((prepared, overdue, oldest), (1, 0, Some(Millis(voted.0 + 5))));
}

#[test]
fn what_a_branch_has_done_is_seen_in_pieces_and_counted_by_queue() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("in"), 1);
    bench.send("in");
    bench.start(1, 1);
    bench.take_within(1, Which::One(Tag(1))).unwrap();
    (0..600).for_each(|_| bench.send_within(1, "out", Durability::Persistent));
    bench.end_branch(1, 1);
    assert_eq!(bench.prepare(1), vote(Vote::Ok));
    let found = match bench.xa(9, XaCommand::Find { xid: xid(1) }) {
        Ok(Some(Reply::Branches(mut found))) => found.pop().unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!((found.sent, found.settled, &*found.client), (600, 1, "a client"));
    let none = XaCommand::Find { xid: xid(2) };
    assert_eq!(bench.xa(9, none), Ok(Some(Reply::Branches(Vec::new()))));
    let (mut tally, mut pieces) = (Tally::default(), 0);
    loop {
        let id = found.transaction.unwrap();
        let all = bench.broker.glimpse(id, tally.counted, crate::limits::GLIMPSE_OPERATIONS);
        assert!(all.complete);
        // What the index has and memory has too is counted once.
        let mut glimpse = Glimpse { operations: all.operations[..9].to_vec(), complete: false };
        glimpse.join(&all.operations[5..]);
        assert_eq!(glimpse.operations, all.operations);
        pieces += 1;
        if !tally.add(&glimpse) {
            break;
        }
    }
    assert_eq!((pieces, tally.counted), (3, 601));
    let named = |(id, work): (&QueueId, &(u64, u64))| (bench.broker.queue_name(*id), *work);
    let named: Vec<_> = tally.queues.iter().map(named).collect();
    assert_eq!(named, [(Some("in"), (0, 1)), (Some("out"), (600, 0))]);
    assert_eq!(bench.commit_branch(1, false), YES);
    assert!(bench.broker.glimpse(found.transaction.unwrap(), 0, 256).operations.is_empty());
}

/// A scan of recovery begins without a name (`TMSTARTRSCAN`), goes on after one (`TMNOFLAGS`), and
/// is over when nothing comes (`TMENDRSCAN`): the broker keeps no place in it.
#[test]
fn recovery_names_in_every_scan_what_has_voted_or_was_decided_and_nothing_in_another_state() {
    let mut bench = Bench::new();
    let (commit, rollback) = (Resolution::Commit, Resolution::Rollback);
    // Open ones: free, worked in, resting and broken, with something in them and without.
    for (branch, work) in [(2, false), (3, true), (4, true)] {
        bench.start(u64::from(branch), branch);
        work.then(|| bench.send_within(u64::from(branch), "q", Durability::Persistent));
        let how = if branch == 4 { EndAs::Fail } else { EndAs::Success };
        assert_eq!(bench.end_as(u64::from(branch), branch, how), YES);
    }
    for branch in [5, 6, 7] {
        bench.start(u64::from(branch), branch);
        bench.send_within(u64::from(branch), "q", Durability::Persistent);
    }
    assert_eq!(bench.end_as(6, 6, EndAs::Suspend), YES);
    assert_eq!(bench.start_as(8, 7, StartAs::Join), YES);
    bench.close(8);
    (10..16).for_each(|branch| bench.prepared(branch));
    let decide = |branch, resolution| XaCommand::Decide { xid: xid(branch), resolution };
    assert_eq!(bench.xa(9, decide(11, commit)), YES);
    assert_eq!(bench.xa(9, decide(12, rollback)), YES);
    assert_eq!(bench.commit_branch(13, false), YES);
    assert_eq!(bench.rollback_branch(14, Disposition::Return), YES);
    let all = [(10, None), (11, Some(commit)), (12, Some(rollback)), (15, None)];
    for life in 0..2 {
        // Whatever the name after which a scan goes on: it need not be one that is listed.
        for after in (0..20).map(Some).chain([None]) {
            let asked = XaCommand::Recover { after: after.map(xid) };
            let Ok(Some(Reply::Branches(found))) = bench.xa(52, asked) else { panic!("{after:?}") };
            let found: Vec<_> = found.iter().map(|it| (it.xid.branch()[0], it.decided)).collect();
            let rest = all.iter().filter(|(branch, _)| after.is_none_or(|after| *branch > after));
            assert_eq!(found, rest.copied().collect::<Vec<_>>(), "after {after:?} in {life}");
        }
        bench.restart();
        bench.settle_down(Effects::new());
    }
}

#[test]
fn ten_thousand_prepared_branches_come_out_of_recovery_in_pages() {
    let mut bench = Bench::new();
    bench
        .ask(
            9,
            &Command::Subscribe {
                subscription: SUBSCRIPTION,
                from: queue("q"),
                prefetch: 1,
                selector: None,
            },
        )
        .unwrap();
    let mut xids = Vec::new();
    for number in 0..10_000u32 {
        let xid = Arc::new(Xid::new(1, b"many", &number.to_le_bytes()).unwrap());
        let (how, transaction, client) = (StartAs::New, NAME, "a client".into());
        let start =
            XaCommand::Start { xid: Arc::clone(&xid), how, transaction, timeout: None, client };
        bench.xa(1, start).unwrap();
        bench.send_within(1, "r", Durability::Persistent);
        let (xid_of, how) = (Arc::clone(&xid), EndAs::Success);
        bench.xa(1, XaCommand::End { xid: xid_of, transaction, how }).unwrap();
        bench.xa(1, XaCommand::Prepare { xid: Arc::clone(&xid) }).unwrap();
        xids.push(Xid::clone(&xid));
    }
    bench.restart();
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = bench.xa(5, XaCommand::Recover { after }).unwrap();
        let Some(Reply::Branches(page)) = page else { panic!("{page:?}") };
        let Some(last) = page.last() else { break };
        after = Some(Arc::new(last.xid.clone()));
        found.extend(page.into_iter().map(|info| info.xid));
    }
    xids.sort();
    assert_eq!(found, xids);
}

#[test]
fn a_branch_has_its_time_by_the_clock_though_that_was_ahead_once() {
    let mut bench = Bench::new();
    let (now, later) = (bench.now, Millis(bench.now.0 + 365 * 24 * 3_600_000));
    bench.now = later;
    bench.send("q");
    bench.now = now;
    bench.restart();
    bench.start(1, 1);
    assert_eq!(bench.broker.next_deadline().unwrap().0 - now.0, Limits::default().branch_millis);
}

#[test]
fn a_broken_branch_is_given_up_soon_however_long_it_might_have_taken() {
    let mut bench = Bench::new();
    let (how, transaction, client) = (StartAs::New, NAME, "a client".into());
    let (xid, timeout) = (xid(1), Some(crate::limits::BRANCH_MILLIS_MAX));
    let start = XaCommand::Start { xid, how, transaction, timeout, client };
    assert_eq!(bench.xa(1, start), YES);
    bench.send_within(1, "q", Durability::Persistent);
    bench.close(1);
    let given_up = bench.broker.next_deadline().unwrap();
    assert_eq!(given_up.0 - bench.now.0, crate::limits::BROKEN_BRANCH_MILLIS);
    bench.now = Millis(given_up.0 - 1);
    bench.settle_down(Effects::new());
    assert_eq!(bench.start_as(2, 1, StartAs::Join), no(XaError::RbCommFail));
    bench.now = given_up;
    bench.settle_down(Effects::new());
    assert_eq!(bench.prepare(1), no(XaError::NotA));
    bench.start(2, 1);
}

#[test]
fn what_a_branch_publishes_is_kept_by_whoever_keeps_it_when_it_is_committed() {
    for (before, durability) in [(true, Durability::NonPersistent), (false, Durability::Persistent)]
    {
        let mut bench = Bench::new();
        if before {
            bench.keep(7, "s", ("", false)).unwrap();
            bench.close(7);
        }
        bench.start(40, 1);
        bench.do_in(40, Work::Send { to: topic("t"), message: message(durability) }).unwrap();
        bench.end_branch(40, 1);
        assert_eq!(bench.prepare(1), vote(Vote::Ok));
        if !before {
            bench.keep(7, "s", ("", false)).unwrap();
            bench.close(7);
        }
        bench.restart();
        assert_eq!(bench.commit_branch(1, false), YES);
        assert_eq!(bench.kept(), [1], "{durability:?}");
    }
}

#[test]
fn there_are_only_so_many_branches_at_a_time() {
    let mut bench = Bench::new();
    let most = crate::limits::BRANCHES_MAX;
    let each = crate::limits::TRANSACTIONS_MAX;
    let start = |bench: &mut Bench, number: u64| {
        let xid = Arc::new(Xid::new(1, b"many", &number.to_le_bytes()).unwrap());
        let (connection, transaction) = (1 + number / each as u64, TransactionName(number));
        let (how, timeout, client) = (StartAs::New, None, "a client".into());
        bench.xa(connection, XaCommand::Start { xid, how, transaction, timeout, client })
    };
    for number in 0..most as u64 {
        assert_eq!(start(&mut bench, number), YES);
    }
    let refused = start(&mut bench, most as u64);
    assert_eq!(refused, Err(Refusal::TooManyBranches { limit: most }));
}
