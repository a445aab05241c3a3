//! Promises to those who only listen, of what waits in the line of its topic before they hear it.

use std::ops::Range;

use super::*;
use crate::broker::command::{Disposition, EndAs, StartAs, Work, XaCommand};
use crate::broker::policy::{Limit, Pattern, Policies, Shortage, WhenFull};
use crate::broker::redelivery::{Ending, Redelivery};
use crate::ids::{TransactionName, Xid};
use crate::limits;
use crate::message::on_topic;

const T: TransactionName = TransactionName(1);
const OTHER: TransactionName = TransactionName(2);
const COMMIT: Command = Command::Commit { transaction: T };

fn numbered(number: usize) -> Message {
    Message {
        durability: Durability::Persistent,
        priority: Priority::DEFAULT,
        expires: None,
        when: When::AtOnce,
        grouped: false,
        content: crate::message::Content {
            kind: crate::message::BodyKind::Text,
            properties: Vec::new(),
            body: number.to_string().into(),
        }
        .encode(),
    }
}

impl Bench {
    fn begin_as(&mut self, transaction: TransactionName) {
        self.ask(7, &Command::Begin { transaction }).unwrap();
    }

    fn publish_as(&mut self, transaction: TransactionName, number: usize) {
        let work = Work::Send { to: topic("t"), message: numbered(number) };
        self.do_all(7, &Command::Transact { transaction, work });
    }

    fn publish_now(&mut self, number: usize) -> Verdict {
        let send = Command::Send { to: topic("t"), message: numbered(number) };
        self.begin_to(7, &send).unwrap().0
    }

    /// A branch that publishes these, and that has not voted.
    fn branch(&mut self, name: u8, numbers: Range<usize>) -> Arc<Xid> {
        self.branch_on("t", name, numbers.map(numbered))
    }

    fn branch_on(
        &mut self,
        to: &str,
        name: u8,
        messages: impl Iterator<Item = Message>,
    ) -> Arc<Xid> {
        let xid = Arc::new(Xid::new(1, b"global", &[name]).unwrap());
        let (how, client) = (StartAs::New, "a client".into());
        let start = Arc::clone(&xid);
        let start = XaCommand::Start { xid: start, how, transaction: T, timeout: None, client };
        self.xa(7, start).unwrap();
        for message in messages {
            let work = Work::Send { to: topic(to), message };
            self.do_all(7, &Command::Transact { transaction: T, work });
        }
        let (ended, how) = (Arc::clone(&xid), EndAs::Success);
        self.xa(7, XaCommand::End { xid: ended, transaction: T, how }).unwrap();
        xid
    }

    /// Commits of so many messages, of which nothing has left the line.
    fn commit_many(&mut self, count: usize) {
        // Each small enough to end in one step.
        let size = limits::STEP_MESSAGES_MAX;
        let parts = (0..count).step_by(size).map(|first| first..count.min(first + size));
        let branches: Vec<_> = (1..).zip(parts).map(|(name, it)| self.branch(name, it)).collect();
        branches.into_iter().for_each(|xid| self.commit_branch_now(xid));
    }

    fn commit_branch_now(&mut self, xid: Arc<Xid>) {
        let commit = Command::Xa(XaCommand::Commit { xid, one_phase: true });
        assert_eq!(self.begin_to(7, &commit).unwrap().0, Verdict::Answer(Reply::Done));
    }

    /// A commit, and nothing that follows from it by itself.
    fn commit_now(&mut self, transaction: TransactionName) {
        let commit = Command::Commit { transaction };
        let done = Verdict::Answer(Reply::Done);
        assert_eq!(self.begin_to(7, &commit).unwrap().0, done);
    }

    /// What a connection was handed since.
    fn heard_by(&mut self, connection: u64) -> Vec<usize> {
        let number = |given: &Assignment| {
            let Lent::Published { message, .. } = &given.message else { panic!("from a queue") };
            let all: Vec<_> = (0..200).map(|number| numbered(number).content).collect();
            let is = |content: &Bytes| {
                message.content == *content || message.content == on_topic("t", content)
            };
            all.iter().position(is).expect("one of those that are published")
        };
        let (his, rest): (VecDeque<_>, VecDeque<_>) =
            self.delivered.drain(..).partition(|given| given.key.0.0 == connection);
        self.delivered = rest;
        his.iter().map(number).collect()
    }

    /// Lets everything happen that follows by itself, as where somebody asks who has room.
    fn go_on(&mut self) {
        loop {
            self.settle_down(Effects::new());
            self.broker.take_freed();
            if !self.broker.take_woken() {
                return;
            }
        }
    }

    /// A subscription begins, and nothing follows yet.
    fn listen(&mut self, connection: u64) {
        let (subscription, from) = (SubscriptionId(1), topic("t"));
        let subscribe = Command::Subscribe { subscription, from, prefetch: 99, selector: None };
        self.begin_to(connection, &subscribe).unwrap();
    }
}

/// Patterns of names so that each of them holds so many.
fn holding(messages: u64) -> Arc<Policies> {
    let limit = Limit { messages, when_full: WhenFull::Hold, ..Limit::NONE };
    let pattern = Pattern::parse("topic://t").unwrap();
    Arc::new(Policies::new(vec![(pattern, limit)], WhenFull::Hold).unwrap())
}

/// An acknowledgement of this delivery.
fn accept(tag: u64) -> Command {
    let (subscription, which) = (SubscriptionId(1), Which::One(Tag(tag)));
    Command::Settle { subscription, which, outcome: Outcome::Accepted }
}

fn all(count: usize) -> Vec<usize> {
    (0..count).collect()
}

#[test]
fn what_a_transaction_publishes_takes_no_memory_and_is_heard_after_its_commit() {
    for kept in [true, false] {
        let mut bench = Bench::with(Limits::default());
        bench.subscribe(1, topic("t"), 100);
        if kept {
            bench.keep(2, "s", ("", false)).unwrap();
            bench.close(2);
        }
        bench.begin_as(T);
        (0..40).for_each(|number| bench.publish_as(T, number));
        assert_eq!((bench.heard_by(1), bench.broker.volatile_bytes()), (vec![], 0), "{kept}");
        bench.do_all(7, &COMMIT);
        assert_eq!(bench.heard_by(1), all(40), "{kept}");
    }
}

#[test]
fn few_messages_that_nobody_keeps_are_not_in_the_log() {
    let mut bench = Bench::with(Limits::default());
    bench.subscribe(1, topic("t"), 100);
    bench.begin_as(T);
    (0..limits::TRANSACTION_VOLATILE_MAX).for_each(|number| bench.publish_as(T, number));
    assert_eq!(bench.log.len(), 0);
    bench.begin_as(OTHER);
    bench.publish_as(OTHER, 0);
    bench
        .ask(7, &Command::Rollback { transaction: OTHER, disposition: Disposition::Return })
        .unwrap();
    bench.do_all(7, &COMMIT);
    assert_eq!(bench.heard_by(1), all(limits::TRANSACTION_VOLATILE_MAX));
    assert_eq!((bench.log.len(), bench.broker.volatile_bytes() > 0), (0, true));
}

#[test]
fn what_a_branch_publishes_is_heard_after_a_restart_by_who_listens_at_the_commit() {
    let mut bench = Bench::with(Limits::default());
    let xid = bench.branch(1, 0..20);
    bench.xa(7, XaCommand::Prepare { xid: Arc::clone(&xid) }).unwrap();
    assert_eq!(bench.broker.volatile_bytes(), 0);
    bench.restart();
    bench.subscribe(1, topic("t"), 100);
    bench.xa(8, XaCommand::Commit { xid, one_phase: false }).unwrap();
    assert_eq!(bench.heard_by(1), all(20));
}

#[test]
fn nothing_that_is_published_later_is_heard_before_what_waits_in_the_line() {
    let mut bench = Bench::with(Limits::default());
    bench.subscribe(1, topic("t"), 100);
    bench.begin_as(OTHER);
    bench.publish_as(OTHER, 21);
    bench.commit_many(20);
    assert_eq!(bench.publish_now(20), Verdict::Answer(Reply::Done));
    let commit = Command::Commit { transaction: OTHER };
    assert_eq!(bench.begin_to(7, &commit).unwrap().0, Verdict::Part);
    bench.commit_now(OTHER);
    bench.go_on();
    assert_eq!(bench.heard_by(1), all(22));
}

#[test]
fn who_comes_after_the_commit_does_not_hear_of_it_and_who_leaves_holds_nothing_up() {
    let mut bench = Bench::with(Limits::default());
    bench.subscribe(1, topic("t"), 100);
    bench.subscribe(2, topic(">"), 100);
    bench.commit_many(20);
    bench.listen(3);
    bench.publish_now(20);
    bench.close(1);
    bench.go_on();
    assert_eq!((bench.heard_by(2), bench.heard_by(3)), (all(21), vec![20]));
}

#[test]
fn nobody_hears_of_what_an_earlier_life_has_left_in_a_line() {
    let mut bench = Bench::with(Limits::default());
    bench.subscribe(1, topic("t"), 100);
    bench.commit_many(20);
    bench.restart();
    bench.listen(1);
    bench.publish_now(20);
    bench.go_on();
    assert_eq!(bench.heard_by(1), [20]);
}

#[test]
fn the_line_waits_for_who_has_no_room_and_goes_on_as_soon_as_he_has() {
    let mut bench = Bench::with(Limits::default());
    bench.broker.govern(holding(20));
    bench.subscribe(1, topic("t"), 1);
    // Each commit has room, and all together have not.
    bench.commit_many(24);
    bench.go_on();
    assert!(bench.broker.publications_rest());
    for number in 0..24 {
        assert_eq!(bench.heard_by(1), [number]);
        bench.settle(1, Which::One(Tag(number as u64 + 1)), Outcome::Accepted).unwrap();
        bench.go_on();
    }
    assert!(!bench.broker.publications_rest());
}

#[test]
fn who_publishes_behind_a_long_line_waits_until_it_is_shorter() {
    let mut bench = Bench::with(Limits::default());
    bench.subscribe(1, topic("t"), 200);
    bench.begin_as(OTHER);
    bench.publish_as(OTHER, 101);
    bench.commit_many(limits::LINE_MAX as usize);
    let wait = Shortage::Destination;
    assert_eq!(bench.publish_now(100), Verdict::Hold(wait));
    let commit = Command::Commit { transaction: OTHER };
    // What was in memory goes into the line first.
    assert_eq!(bench.begin_to(7, &commit).unwrap().0, Verdict::Part);
    assert_eq!(bench.begin_to(7, &commit).unwrap().0, Verdict::HoldFor(topic("t"), wait));
    bench.broker.watch(&topic("t"));
    assert_eq!(bench.broker.take_freed(), []);
    bench.settle_down(Effects::new());
    assert!(bench.broker.take_freed().contains(&topic("t")));
    assert_eq!(bench.publish_now(100), Verdict::Answer(Reply::Done));
    assert_eq!(bench.heard_by(1), all(limits::LINE_MAX as usize));
}

#[test]
fn lines_take_turns() {
    let mut bench = Bench::with(Limits::default());
    let (size, mut branches) = (limits::STEP_MESSAGES_MAX, Vec::new());
    for (name, to) in [(1, "a"), (2, "b")] {
        bench.subscribe(name.into(), topic(to), 100);
        branches.push(bench.branch_on(to, name, (0..size).map(numbered)));
    }
    branches.into_iter().for_each(|xid| bench.commit_branch_now(xid));
    bench.go_on();
    let who: Vec<_> = bench.delivered.iter().map(|given| given.key.0.0).collect();
    assert_eq!(who, [1, 2].repeat(size));
}

#[test]
fn everybody_hears_of_what_all_together_have_no_memory_for_where_they_miss_the_oldest() {
    let mut bench = Bench::with(Limits { volatile_bytes: 1000, ..Limits::default() });
    (1..=3).for_each(|connection| bench.subscribe(connection, topic("t"), 100));
    bench.commit_many(1);
    bench.go_on();
    assert_eq!([1, 2, 3].map(|connection| bench.heard_by(connection)), [[0], [0], [0]]);
}

#[test]
fn what_is_too_large_for_all_who_hold_publishers_is_refused_to_a_transaction() {
    let mut bench = Bench::with(Limits { volatile_bytes: 1000, ..Limits::default() });
    bench.broker.govern(holding(20));
    (1..=3).for_each(|connection| bench.subscribe(connection, topic("t"), 100));
    bench.begin_as(T);
    let work = Work::Send { to: topic("t"), message: numbered(0) };
    bench.keep(4, "s", ("", false)).unwrap();
    let refused = bench.ask(7, &Command::Transact { transaction: T, work });
    assert_eq!(refused, Err(Refusal::MemoryFull { limit: 1000 }));
}

#[test]
fn what_expires_in_a_line_for_nobody_but_who_listens_is_set_apart_nowhere() {
    let dead = |bench: &mut Bench| bench.depth("ActiveMQ.DLQ").map_or(0, |queue| queue.depth);
    for (kept, apart) in [(false, 0), (true, 1)] {
        let mut bench = Bench::with(Limits::default());
        let rules = Redelivery { expired: Ending::DeadLetter, ..Redelivery::none() };
        let policies = Policies::clone(&holding(1)).with_redelivery(Vec::new(), rules).unwrap();
        bench.broker.govern(Arc::new(policies));
        bench.subscribe(1, topic("t"), 1);
        if kept {
            bench.keep(2, "s", ("JMSPriority = 9", false)).unwrap();
        }
        // The first is in his hands, the second waits for him, and the third in the line.
        let expires = [None, None, Some(Millis(bench.now.0 + 100))];
        let messages = expires.map(|expires| Message { expires, ..numbered(0) });
        let branches = [1, 2, 3].map(|name| {
            let message = messages[usize::from(name) - 1].clone();
            bench.branch_on("t", name, std::iter::once(message))
        });
        branches.into_iter().for_each(|xid| bench.commit_branch_now(xid));
        bench.go_on();
        assert!(bench.broker.publications_rest());
        bench.now.0 += 200;
        bench.go_on();
        assert_eq!(dead(&mut bench), apart);
        assert!(!bench.broker.publications_rest());
    }
}

#[test]
fn what_is_not_persistent_does_not_take_the_room_for_which_the_line_waits() {
    let mut bench = Bench::with(Limits::default());
    bench.broker.govern(holding(2));
    bench.subscribe(1, topic("t"), 1);
    let branches =
        [1, 2, 3, 4].map(|name| bench.branch(name, usize::from(name)..usize::from(name) + 1));
    branches.into_iter().for_each(|xid| bench.commit_branch_now(xid));
    bench.go_on();
    assert!(bench.broker.publications_rest());
    assert_eq!(bench.heard_by(1), [1]);
    let fast = Message { durability: Durability::NonPersistent, ..numbered(9) };
    let send = Command::Send { to: topic("t"), message: fast };
    bench.begin_to(1, &accept(1)).unwrap();
    assert_eq!(bench.ask(7, &send), Ok(Verdict::Hold(Shortage::Destination)));
    bench.go_on();
    for number in 2..=4 {
        bench.ask(1, &accept(number)).unwrap();
        bench.go_on();
    }
    assert_eq!(bench.heard_by(1).last(), Some(&4));
    assert_eq!(bench.ask(7, &send), Ok(Verdict::Answer(Reply::Done)));
}
