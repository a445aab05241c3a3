//! Promises of names: what was done under one is done once, and the answer is the same.

use super::*;
use crate::broker::command::{Disposition, Once, Work};
use crate::broker::delta::Delta;
use crate::identity::Identity;
use crate::ids::TransactionName;

const T: TransactionName = TransactionName(1);
const ONCE: Result<Verdict, Refusal> = Ok(Verdict::Answer(Reply::Done));
const AGAIN: Result<Verdict, Refusal> = Ok(Verdict::Answer(Reply::Repeated));

fn id(number: u64) -> Identity {
    Identity::of(&number.to_le_bytes())
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

fn send_once(name: &str, number: u64) -> Command {
    let message = message(Durability::NonPersistent);
    Command::Once(Once::send(id(number), Command::Send { to: queue(name), message }))
}

fn send_once_in(name: &str, number: u64) -> Command {
    let work = Work::Send { to: queue(name), message: message(Durability::Persistent) };
    Command::Once(Once::send(id(number), Command::Transact { transaction: T, work }))
}

fn commit_as(number: u64, operations: u64) -> Command {
    Command::Once(Once::commit(id(number), T, id(operations)))
}

fn outcome(number: u64) -> Command {
    Command::Once(Once::outcome(id(number)))
}

impl Bench {
    fn depth_of(&mut self, name: &str) -> u64 {
        self.depth(name).map_or(0, |queue| queue.depth)
    }

    /// A crash, and a new life.
    fn live_again(&mut self, limits: Limits) {
        self.broker = Broker::new(Base::default(), limits, 1 << 20);
        for (written, record) in std::mem::take(&mut self.log) {
            self.broker.apply_record(written, &record).unwrap();
            self.log.push((written, record));
        }
        let epoch = self.broker.epoch() + 1;
        let mut effects = Effects::new();
        let started = Fact::Log(Record::Started { epoch, at: self.now }, Bytes::new());
        self.commit(vec![started], &mut effects);
    }

    fn known(&self) -> usize {
        self.broker.name_counts().known
    }

    fn names_agree(&self) -> bool {
        self.broker.names_agree(&Default::default())
    }
}

#[test]
fn a_message_sent_again_under_its_id_is_there_once_and_answered_as_a_repetition() {
    let mut bench = Bench::new();
    assert_eq!(bench.ask(1, &send_once("q", 1)), ONCE);
    assert_eq!(bench.ask(2, &send_once("q", 1)), AGAIN);
    assert_eq!(bench.ask(1, &send_once("q", 2)), ONCE);
    // Another queue is another matter.
    assert_eq!(bench.ask(1, &send_once("r", 1)), ONCE);
    assert_eq!((bench.depth_of("q"), bench.depth_of("r")), (2, 1));
    assert_eq!(bench.broker.name_counts().repeated, 1);
}

#[test]
fn an_id_outlives_its_message_and_the_process() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 10);
    bench.ask(2, &send_once("q", 1)).unwrap();
    bench.settle(1, Which::One(Tag(1)), Outcome::Accepted).unwrap();
    bench.live_again(Limits::default());
    assert_eq!(bench.ask(1, &send_once("q", 1)), AGAIN);
    assert_eq!(bench.depth_of("q"), 0);
}

#[test]
fn a_message_with_an_id_is_durable_whatever_it_asks_for() {
    let mut bench = Bench::new();
    bench.ask(1, &send_once("q", 1)).unwrap();
    bench.live_again(Limits::default());
    assert_eq!(bench.depth_of("q"), 1);
}

fn publish_once(name: &str, number: u64, when: When) -> Command {
    let message = Message { when, ..message(Durability::NonPersistent) };
    Command::Once(Once::send(id(number), Command::Send { to: topic(name), message }))
}

#[test]
fn a_publication_with_an_id_is_there_once_for_each_who_keeps_it() {
    let mut bench = Bench::new();
    let publish = publish_once("t", 1, When::AtOnce);
    assert_eq!(bench.ask(5, &publish), Err(Refusal::NobodyKeeps));
    bench.keep(1, "s", ("", false)).unwrap();
    bench.keep(2, "s", ("", false)).unwrap();
    assert_eq!(bench.ask(5, &publish), ONCE);
    assert_eq!(bench.ask(6, &publish), AGAIN);
    assert_eq!(bench.kept(), [1, 1]);
    bench.live_again(Limits::default());
    assert_eq!(bench.ask(5, &publish), AGAIN);
    assert_eq!(bench.kept(), [1, 1]);
    // A queue of that name, and another topic, have ids of their own.
    assert_eq!(bench.ask(5, &send_once("t", 1)), ONCE);
    assert_eq!(bench.ask(5, &publish_once("t", 2, When::AtOnce)), ONCE);
    assert_ne!(id(1).on_topic("t"), id(1).on_topic("u"));
    assert_eq!(bench.kept(), [2, 2]);
    // Who has lost the answer hears it still when nobody keeps anything any more.
    for connection in [1, 2] {
        bench.close(connection);
        bench.end_kept(connection, "s").unwrap();
    }
    assert_eq!(bench.ask(5, &publish), AGAIN);
    assert_eq!(bench.ask(5, &publish_once("t", 3, When::AtOnce)), Err(Refusal::NobodyKeeps));
}

#[test]
fn an_id_of_a_publication_in_a_transaction_is_taken_by_its_commit_alone() {
    let mut bench = Bench::new();
    bench.keep(1, "s", ("", false)).unwrap();
    let work = Work::Send { to: topic("t"), message: message(Durability::Persistent) };
    let in_unit = Command::Transact { transaction: T, work };
    let in_unit = Command::Once(Once::send(id(1), in_unit));
    let disposition = Disposition::Return;
    let ends =
        [Command::Rollback { transaction: T, disposition }, Command::Commit { transaction: T }];
    for end in ends {
        bench.ask(5, &Command::Begin { transaction: T }).unwrap();
        assert_eq!(bench.ask(5, &in_unit), ONCE);
        assert_eq!(bench.ask(5, &in_unit), AGAIN);
        let other = bench.ask(6, &publish_once("t", 1, When::AtOnce));
        assert_eq!(other, Err(Refusal::NamePending));
        bench.ask(5, &end).unwrap();
    }
    assert_eq!(bench.ask(6, &publish_once("t", 1, When::AtOnce)), AGAIN);
    bench.live_again(Limits::default());
    assert_eq!(bench.ask(6, &publish_once("t", 1, When::AtOnce)), AGAIN);
    assert_eq!(bench.kept(), [1]);
}

#[test]
fn what_is_published_later_has_its_id_from_now_on() {
    let mut bench = Bench::new();
    let later = publish_once("t", 1, When::After(1000));
    assert_eq!(bench.ask(5, &later), ONCE);
    assert_eq!(bench.ask(5, &later), AGAIN);
    bench.keep(1, "s", ("", false)).unwrap();
    bench.live_again(Limits::default());
    assert_eq!(bench.ask(5, &later), AGAIN);
    assert_eq!(bench.ask(5, &publish_once("t", 1, When::AtOnce)), AGAIN);
    assert_eq!(bench.kept(), [0]);
}

#[test]
fn a_message_that_is_to_wait_is_there_once_too() {
    let mut bench = Bench::new();
    let message = Message { when: When::After(1000), ..message(Durability::Persistent) };
    let send = Command::Once(Once::send(id(1), Command::Send { to: queue("q"), message }));
    assert_eq!(bench.ask(1, &send), ONCE);
    assert_eq!(bench.ask(1, &send), AGAIN);
    bench.live_again(Limits::default());
    assert_eq!(bench.ask(1, &send), AGAIN);
    assert_eq!(bench.depth_of("q"), 1);
}

#[test]
fn an_id_in_a_transaction_is_taken_by_its_commit_and_free_after_its_rollback() {
    let mut bench = Bench::new();
    bench.ask(1, &Command::Begin { transaction: T }).unwrap();
    assert_eq!(bench.ask(1, &send_once_in("q", 1)), ONCE);
    assert_eq!(bench.ask(1, &send_once_in("q", 1)), AGAIN);
    assert_eq!(bench.ask(2, &send_once("q", 1)), Err(Refusal::NamePending));
    let disposition = Disposition::Return;
    bench.ask(1, &Command::Rollback { transaction: T, disposition }).unwrap();
    bench.ask(1, &Command::Begin { transaction: T }).unwrap();
    assert_eq!(bench.ask(1, &send_once_in("q", 1)), ONCE);
    bench.ask(1, &Command::Commit { transaction: T }).unwrap();
    assert_eq!(bench.ask(2, &send_once("q", 1)), AGAIN);
    assert_eq!(bench.depth_of("q"), 1);
    assert!(bench.names_agree());
    bench.live_again(Limits::default());
    assert_eq!(bench.ask(2, &send_once("q", 1)), AGAIN);
}

#[test]
fn an_id_of_a_transaction_that_a_crash_cuts_short_is_free_at_once() {
    let mut bench = Bench::new();
    bench.ask(1, &Command::Begin { transaction: T }).unwrap();
    for number in 0..20 {
        bench.ask(1, &send_once_in("q", number)).unwrap();
    }
    bench.live_again(Limits::default());
    // Its operations have not all had their outcome yet.
    let mut facts = Vec::new();
    let (from, command) = (ConnectionId(1), send_once("q", 7));
    let verdict = bench.broker.decide(bench.now, from, Token(1), &command, &mut facts);
    assert_eq!(verdict, ONCE);
    bench.commit(facts, &mut Effects::new());
    bench.settle_down(Effects::new());
    assert_eq!((bench.depth_of("q"), bench.known()), (1, 1));
    assert_eq!(bench.ask(1, &send_once("q", 7)), AGAIN);
    assert_eq!(bench.ask(1, &send_once("q", 8)), ONCE);
    assert!(bench.names_agree());
}

#[test]
fn an_id_of_a_large_transaction_is_taken_though_its_operations_are_still_being_settled() {
    let mut bench = Bench::new();
    bench.ask(1, &Command::Begin { transaction: T }).unwrap();
    (0..20).for_each(|number| drop(bench.ask(1, &send_once_in("q", number)).unwrap()));
    assert_eq!(bench.ask(1, &commit_as(1, 2)), Ok(Verdict::Fence));
    assert_eq!(bench.ask(2, &send_once("q", 19)), AGAIN);
    assert_eq!(bench.ask(2, &outcome(1)), AGAIN);
    assert_eq!((bench.depth_of("q"), bench.known()), (20, 21));
    assert!(bench.names_agree());
}

#[test]
fn beyond_their_number_the_oldest_ids_are_forgotten_and_counted() {
    let limits = Limits { names_per_scope: 16, ..Limits::default() };
    let mut bench = Bench::with(limits);
    (0..100).for_each(|number| drop(bench.ask(1, &send_once("q", number)).unwrap()));
    assert!((16..24).contains(&bench.known()), "{}", bench.known());
    assert_eq!(bench.broker.name_counts().forgotten_early, 100 - bench.known() as u64);
    assert_eq!(bench.ask(1, &send_once("q", 99)), AGAIN);
    assert_eq!(bench.ask(1, &send_once("q", 0)), ONCE);
    assert!(bench.names_agree());
}

#[test]
fn beyond_their_memory_the_oldest_ids_of_all_queues_are_forgotten() {
    let names_bytes = 16 * crate::limits::NAME_BYTES;
    let mut bench = Bench::with(Limits { names_bytes, ..Limits::default() });
    for number in 0..60 {
        bench.now.0 += 1;
        let name = ["a", "b", "c"][number as usize / 20];
        bench.ask(1, &send_once(name, number)).unwrap();
    }
    assert!((16..24).contains(&bench.known()), "{}", bench.known());
    assert_eq!(bench.ask(1, &send_once("c", 59)), AGAIN);
    assert_eq!(bench.ask(1, &send_once("a", 0)), ONCE);
    assert!(bench.names_agree());
}

#[test]
fn ids_are_forgotten_when_their_time_is_over_and_not_before() {
    let mut bench = Bench::with(Limits { names_millis: 1000, ..Limits::default() });
    (0..20).for_each(|number| drop(bench.ask(1, &send_once("q", number)).unwrap()));
    bench.now.0 += 999;
    bench.ask(1, &send_once("q", 50)).unwrap();
    bench.settle_down(Effects::new());
    assert_eq!(bench.known(), 21);
    let at = bench.broker.next_deadline().expect("they grow old");
    bench.now = at;
    bench.settle_down(Effects::new());
    let counts = bench.broker.name_counts();
    assert_eq!((counts.known, counts.forgotten_early), (0, 0));
    assert_eq!(bench.broker.next_deadline(), None);
}

#[test]
fn the_ids_of_a_queue_go_with_it() {
    let mut bench = Bench::new();
    bench.ask(1, &send_once("q", 1)).unwrap();
    bench.ask(1, &Command::Purge { queue: "q".into() }).unwrap();
    assert_eq!(bench.ask(1, &send_once("q", 1)), AGAIN);
    bench.ask(1, &Command::Delete { queue: "q".into() }).unwrap();
    assert_eq!(bench.known(), 0);
    assert_eq!(bench.ask(1, &send_once("q", 1)), ONCE);
    assert!(bench.names_agree());
    let Delta { names, .. } = &bench.broker.durable.delta;
    assert_eq!(names.len(), 2, "the index forgets with the queue what the delta says of it");
}

#[test]
fn a_commit_repeated_under_its_id_does_nothing_more_and_is_answered_the_same() {
    let mut bench = Bench::new();
    for connection in 1..=2 {
        bench.ask(connection, &Command::Begin { transaction: T }).unwrap();
        let work = Work::Send { to: queue("q"), message: message(Durability::Persistent) };
        bench.ask(connection, &Command::Transact { transaction: T, work }).unwrap();
    }
    assert_eq!(bench.ask(1, &commit_as(1, 5)), ONCE);
    assert_eq!(bench.ask(2, &commit_as(1, 5)), AGAIN);
    assert_eq!(bench.depth_of("q"), 1);
    assert!(bench.broker.transactions(&Default::default()).0.is_empty());
    assert_eq!(bench.ask(3, &outcome(1)), AGAIN);
    assert!(bench.names_agree());
}

#[test]
fn a_commit_of_something_else_under_a_taken_id_is_refused_and_can_be_rolled_back() {
    let mut bench = Bench::new();
    bench.ask(1, &Command::Begin { transaction: T }).unwrap();
    assert_eq!(bench.ask(1, &commit_as(1, 5)), ONCE);
    bench.ask(1, &Command::Begin { transaction: T }).unwrap();
    bench.ask(1, &send_once_in("q", 1)).unwrap();
    assert_eq!(bench.ask(1, &commit_as(1, 6)), Err(Refusal::CommitNameTaken));
    let disposition = Disposition::Return;
    bench.ask(1, &Command::Rollback { transaction: T, disposition }).unwrap();
    assert_eq!((bench.depth_of("q"), bench.known()), (0, 1));
}

#[test]
fn who_hears_that_nothing_was_committed_can_rely_on_it() {
    let mut bench = Bench::new();
    bench.ask(1, &Command::Begin { transaction: T }).unwrap();
    bench.ask(1, &send_once_in("q", 1)).unwrap();
    let not_committed = Ok(Verdict::Answer(Reply::NotCommitted));
    assert_eq!(bench.ask(2, &outcome(1)), not_committed);
    // The commit was under way, and comes too late.
    assert_eq!(bench.ask(1, &commit_as(1, 5)), Err(Refusal::CommitVoid));
    bench.live_again(Limits::default());
    assert_eq!(bench.ask(2, &outcome(1)), not_committed);
}

#[test]
fn the_outcome_of_a_commit_is_remembered_by_the_next_life_and_only_with_it() {
    let mut bench = Bench::new();
    bench.ask(1, &Command::Begin { transaction: T }).unwrap();
    bench.ask(1, &send_once_in("q", 1)).unwrap();
    assert_eq!(bench.ask(1, &commit_as(1, 5)), ONCE);
    let whole = bench.log.len();
    bench.live_again(Limits::default());
    assert_eq!(bench.ask(2, &outcome(1)), AGAIN);
    // A crash between the name and the outcome undoes both.
    bench.log.truncate(whole - 1);
    assert!(matches!(bench.log.last(), Some((_, Record::Named(_)))));
    bench.live_again(Limits::default());
    assert_eq!(bench.ask(2, &send_once("q", 1)), ONCE);
    let not_committed = Ok(Verdict::Answer(Reply::NotCommitted));
    assert_eq!(bench.ask(2, &outcome(1)), not_committed);
    assert!(bench.names_agree());
}

/// Commits that came after, more than are remembered.
fn many_commits(bench: &mut Bench) {
    for number in 0..100 {
        bench.ask(3, &Command::Begin { transaction: T }).unwrap();
        bench.ask(3, &commit_as(100 + number, 5)).unwrap();
    }
}

#[test]
fn nobody_hears_of_a_commit_that_may_be_forgotten_that_it_was_none() {
    let limits = Limits { names_per_scope: 16, names_millis: 1000, ..Limits::default() };
    let mut bench = Bench::with(limits);
    bench.ask(1, &Command::Begin { transaction: T }).unwrap();
    bench.ask(1, &send_once_in("q", 1)).unwrap();
    assert_eq!(bench.ask(1, &commit_as(1, 5)), ONCE);
    assert_eq!(bench.ask(2, &outcome(2)), Ok(Verdict::Answer(Reply::NotCommitted)));
    many_commits(&mut bench);
    bench.now.0 += 400;
    for _ in 0..2 {
        for asked in [1, 2, 7, 7] {
            let Ok(Verdict::Answer(Reply::OutcomeForgotten { millis })) =
                bench.ask(2, &outcome(asked))
            else {
                panic!("a definite answer")
            };
            assert!((400..1000).contains(&millis), "{millis}");
        }
        assert!(bench.names_agree());
        bench.live_again(limits);
    }
    // As old as that nothing is remembered anyway.
    bench.now.0 += 1000;
    assert_eq!(bench.ask(2, &outcome(8)), Ok(Verdict::Answer(Reply::NotCommitted)));
}

#[test]
fn a_commit_of_which_it_may_have_been_said_that_there_never_will_be_one_is_refused() {
    let limits = Limits { names_per_scope: 16, ..Limits::default() };
    // Whether it has done something by the time of the question, or does later, or nothing at all.
    for (before, after) in [(true, false), (false, true), (false, false)] {
        let mut bench = Bench::with(limits);
        bench.ask(1, &Command::Begin { transaction: T }).unwrap();
        let send = |bench: &mut Bench| bench.ask(1, &send_once_in("q", 1)).unwrap();
        before.then(|| send(&mut bench));
        assert_eq!(bench.ask(2, &outcome(1)), Ok(Verdict::Answer(Reply::NotCommitted)));
        many_commits(&mut bench);
        after.then(|| send(&mut bench));
        assert_eq!(bench.ask(1, &commit_as(1, 5)), Err(Refusal::CommitVoid));
        bench
            .ask(1, &Command::Rollback { transaction: T, disposition: Disposition::Return })
            .unwrap();
        // One that begins by now has nothing to do with the question.
        bench.ask(1, &Command::Begin { transaction: T }).unwrap();
        assert_eq!(bench.ask(1, &commit_as(2, 5)), ONCE);
    }
}

#[test]
fn a_commit_of_which_that_was_said_is_refused_when_all_others_are_forgotten_too() {
    let mut bench = Bench::with(Limits { names_millis: 1000, ..Limits::default() });
    // All are forgotten, and their numbers begin anew: the one of an old question is above others.
    for round in 0..2 {
        many_commits(&mut bench);
        bench.ask(1, &Command::Begin { transaction: T }).unwrap();
        let asked = outcome(1 + round);
        assert_eq!(bench.ask(2, &asked), Ok(Verdict::Answer(Reply::NotCommitted)));
        while let Some(at) = bench.broker.next_deadline() {
            bench.now = at;
            bench.settle_down(Effects::new());
        }
        assert_eq!(bench.known(), 0);
        assert_eq!(bench.ask(1, &commit_as(1 + round, 5)), Err(Refusal::CommitVoid));
        let disposition = Disposition::Return;
        bench.ask(1, &Command::Rollback { transaction: T, disposition }).unwrap();
        // One that begins by now has nothing to do with the question.
        bench.ask(1, &Command::Begin { transaction: T }).unwrap();
        assert_eq!(bench.ask(1, &commit_as(11 + round, 5)), ONCE);
        bench.now.0 += 2000;
        bench.settle_down(Effects::new());
    }
}

#[test]
fn a_large_body_sent_again_is_given_back() {
    let mut bench = Bench::new();
    for round in 0..2 {
        let stage = crate::ids::StageId(round + 1);
        bench.ask(1, &Command::Stage { stage, to: queue("q"), bytes: 0 }).unwrap();
        let piece = Bytes::from_static(b"piece");
        bench.ask(1, &Command::StagePiece { stage, number: 1, bytes: piece }).unwrap();
        let head = crate::message::LargeHead {
            kind: crate::message::BodyKind::Bytes,
            properties: Vec::new(),
            bytes: 5,
        };
        let message = Message { content: head.encode(), ..message(Durability::Persistent) };
        let send = Command::SendStaged { stage, to: queue("q"), message };
        let answer = bench.ask(1, &Command::Once(Once::send(id(1), send)));
        assert_eq!(answer, if round == 0 { ONCE } else { AGAIN });
    }
    let (open, dead) = bench.broker.uploads();
    assert_eq!((bench.depth_of("q"), open.len(), dead.len()), (1, 0, 0));
}

#[test]
fn an_id_that_waits_for_a_transaction_is_never_forgotten_and_pushes_nobody_out() {
    let limits = Limits { names_per_scope: 16, names_millis: 1000, ..Limits::default() };
    let mut bench = Bench::with(limits);
    bench.ask(1, &Command::Begin { transaction: T }).unwrap();
    (0..4).for_each(|number| drop(bench.ask(1, &send_once_in("q", number)).unwrap()));
    (100..200).for_each(|number| drop(bench.ask(2, &send_once("q", number)).unwrap()));
    for _ in 0..2 {
        for number in 0..4 {
            assert_eq!(bench.ask(2, &send_once("q", number)), Err(Refusal::NamePending));
        }
        assert!(bench.names_agree());
        // Nor with time, and nobody waits for that in vain.
        bench.now.0 += 10_000_000;
        bench.settle_down(Effects::new());
        assert_eq!((bench.known(), bench.broker.next_deadline()), (4, None));
    }
    bench.ask(2, &send_once("q", 500)).unwrap();
    bench.ask(1, &Command::Commit { transaction: T }).unwrap();
    (0..4).for_each(|it| assert_eq!(bench.ask(2, &send_once("q", it)), AGAIN));
    bench.now = bench.broker.next_deadline().expect("they are as old as others now");
    bench.settle_down(Effects::new());
    assert_eq!((bench.known(), bench.names_agree()), (0, true));
}

#[test]
fn beyond_a_bound_a_transaction_takes_no_more_ids_and_can_only_be_rolled_back() {
    let names_bytes = 20 * crate::limits::NAME_BYTES;
    let mut bench = Bench::with(Limits { names_bytes, ..Limits::default() });
    bench.ask(1, &Command::Begin { transaction: T }).unwrap();
    (0..10).for_each(|number| drop(bench.ask(1, &send_once_in("q", number)).unwrap()));
    let refused = bench.ask(1, &send_once_in("q", 10));
    assert_eq!(refused, Err(Refusal::PendingFull { limit: names_bytes / 2 }));
    assert_eq!(bench.ask(1, &send_once_in("q", 9)), AGAIN);
    assert_eq!(bench.ask(2, &send_once("q", 10)), ONCE);
}
