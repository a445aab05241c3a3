//! Promises about messages that are to be published later.

use super::*;
use crate::broker::command::{Disposition, WhenFull, Work};
use crate::broker::policy::{Limit, Pattern, Policies};
use crate::ids::TransactionName;
use crate::limits;

const T: TransactionName = TransactionName(1);

fn later(when: When, expires: Option<u64>) -> Message {
    Message {
        durability: Durability::NonPersistent,
        priority: Priority::DEFAULT,
        expires: expires.map(Millis),
        when,
        grouped: false,
        content: Bytes::from_static(b"news"),
    }
}

impl Bench {
    fn publish_later(&mut self, when: When, expires: Option<u64>) -> Verdict {
        self.ask(7, &Command::Send { to: topic("t"), message: later(when, expires) }).unwrap()
    }

    fn publish_in_unit(&mut self, delay: u64, end: &Command) {
        self.ask(7, &Command::Begin { transaction: T }).unwrap();
        let work = Work::Send { to: topic("t"), message: later(When::After(delay), None) };
        self.ask(7, &Command::Transact { transaction: T, work }).unwrap();
        self.ask(7, end).unwrap();
    }

    /// Who was handed a message since, and when that was published.
    fn heard(&mut self) -> Vec<(u64, u64)> {
        let at = |given: &Assignment| match &given.message {
            Lent::Published { message, .. } => message.at.0,
            other => panic!("{other:?} is in a queue"),
        };
        self.delivered.drain(..).map(|given| (given.key.0.0, at(&given))).collect()
    }

    fn lines(&mut self) -> usize {
        match self.ask(9, &Command::ListQueues { after: None }) {
            Ok(Verdict::Answer(Reply::Queues(all))) => {
                all.iter().filter(|it| it.name.starts_with("scheduled-publications://")).count()
            }
            other => panic!("{other:?}"),
        }
    }

    fn wait_until(&mut self, now: u64) {
        self.now = Millis(now);
        self.settle_down(Effects::new());
    }
}

#[test]
fn what_is_published_later_goes_once_to_all_who_are_there_when_its_time_has_come() {
    let mut bench = Bench::new();
    bench.subscribe(1, topic("t"), 10);
    bench.keep(2, "before", ("", false)).unwrap();
    bench.close(2);
    bench.publish_later(When::After(500), None);
    bench.restart();
    bench.keep(3, "meanwhile", ("", false)).unwrap();
    bench.keep(4, "others", ("JMSPriority = 9", false)).unwrap();
    [3, 4].into_iter().for_each(|connection| bench.close(connection));
    bench.subscribe(5, topic("t"), 10);
    bench.subscribe(6, topic(">"), 10);
    bench.wait_until(1499);
    assert!(bench.delivered.is_empty() && bench.kept() == [0, 0, 0]);
    bench.wait_until(1600);
    assert_eq!(bench.heard(), [(5, 1600), (6, 1600)], "as if it were sent then");
    assert_eq!((bench.kept(), bench.lines()), (vec![1, 1, 0], 0));
    bench.restart();
    bench.subscribe(5, topic("t"), 10);
    bench.wait_until(9000);
    assert!(bench.heard().is_empty(), "it is over");
    assert_eq!(bench.broker.next_deadline(), None);
}

#[test]
fn who_listens_hears_of_it_no_earlier_than_it_is_durable_that_it_was_published() {
    let mut bench = Bench::new();
    bench.subscribe(1, topic("t"), 10);
    bench.publish_later(When::After(500), None);
    bench.publish_in_unit(0, &Command::Commit { transaction: T });
    bench.wait_until(2000);
    assert_eq!(bench.delivered.len(), 2);
    assert!(bench.delivered.iter().all(|given| given.message.waits_for_log()));
    bench.ask(7, &topics::publish_on("t")).unwrap();
    assert!(!bench.delivered.back().expect("three").message.waits_for_log(), "it is nowhere else");
}

#[test]
fn a_transaction_publishes_later_from_its_commit_on_and_rolled_back_never() {
    let mut bench = Bench::new();
    bench.subscribe(1, topic("t"), 10);
    let disposition = Disposition::Return;
    bench.publish_in_unit(500, &Command::Rollback { transaction: T, disposition });
    assert_eq!(bench.lines(), 0);
    bench.publish_in_unit(500, &Command::Commit { transaction: T });
    assert!(bench.heard().is_empty());
    bench.restart();
    bench.subscribe(1, topic("t"), 10);
    bench.wait_until(1500);
    assert_eq!(bench.heard(), [(1, 1500)]);
    assert_eq!((bench.lines(), bench.broker.notes().len()), (0, 0));
}

#[test]
fn what_is_published_again_and_again_has_its_times_and_its_end() {
    let mut bench = Bench::new();
    bench.subscribe(1, topic("t"), 10);
    let content = crate::message::Content {
        kind: crate::message::BodyKind::Text,
        properties: Vec::new(),
        body: Bytes::from_static(b"again"),
    };
    let when = When::of(None, 100, 200, Some(2)).unwrap();
    let message = Message { content: content.encode(), ..later(when, None) };
    bench.ask(7, &Command::Send { to: topic("t"), message }).unwrap();
    [1100, 1300, 1500, 1700, 9000].into_iter().for_each(|now| bench.wait_until(now));
    assert_eq!(bench.heard(), [(1, 1100), (1, 1300), (1, 1500)]);
    assert_eq!(bench.lines(), 0);
}

#[test]
fn what_has_expired_when_its_time_comes_late_is_published_all_the_same_and_lasts_from_then() {
    let mut bench = Bench::new();
    bench.keep(1, "s", ("", false)).unwrap();
    bench.close(1);
    bench.publish_later(When::After(500), Some(1600));
    bench.wait_until(1700);
    assert_eq!(bench.kept(), [1]);
    bench.wait_until(2300);
    assert_eq!(bench.kept(), [0]);
}

#[test]
fn who_may_hold_no_more_is_waited_for_and_nothing_is_lost() {
    let mut bench = Bench::with(Limits::default());
    let hold = Limit { messages: 3, bytes: u64::MAX, when_full: WhenFull::Hold };
    let pattern = Pattern::parse("topic://t").unwrap();
    let policies = Policies::new(vec![(pattern, hold)], WhenFull::Hold).unwrap();
    bench.broker.govern(Arc::new(policies));
    bench.subscribe(1, topic("t"), 1);
    (0..3).for_each(|_| drop(bench.ask(7, &topics::publish_on("t")).unwrap()));
    (0..2).for_each(|number| drop(bench.publish_later(When::After(100 + number), None)));
    bench.wait_until(1200);
    assert_eq!((bench.heard(), bench.lines()), (vec![(1, 1000)], 1), "it holds three");
    let mut heard = Vec::new();
    for round in 1..=5 {
        bench.settle(1, Which::One(Tag(round)), Outcome::Accepted).unwrap();
        bench.wait_until(1200 + round * limits::OCCURRENCE_RETRY_MILLIS);
        heard.extend(bench.heard().into_iter().map(|(_, at)| at > 1000));
    }
    assert_eq!(heard, [false, false, true, true]);
    assert_eq!(bench.lines(), 0);
}

#[test]
fn who_keeps_it_has_no_more_than_he_may_and_whoever_publishes_waits() {
    let mut bench = Bench::with(Limits::default());
    let hold = Limit { messages: 2, bytes: u64::MAX, when_full: WhenFull::Hold };
    let pattern = Pattern::parse("topic://t").unwrap();
    let policies = Policies::new(vec![(pattern, hold)], WhenFull::Hold).unwrap();
    bench.broker.govern(Arc::new(policies));
    bench.keep(1, "s", ("", false)).unwrap();
    bench.close(1);
    bench.publish_later(When::of(None, 100, 1, None).unwrap(), None);
    // Nothing keeps the schedule itself from being long.
    (0..3).for_each(|_| drop(bench.publish_later(When::After(100), None)));
    for now in [1100, 1200, 9000, 20_000, 30_000] {
        bench.wait_until(now);
    }
    assert_eq!((bench.kept(), bench.lines()), (vec![2], 1));
    let waiting = bench.depth("scheduled-publications://t").map(|line| line.depth);
    assert!(waiting.is_some_and(|depth| depth < 6), "{waiting:?} wait");
    let message = later(When::After(100), None);
    let (verdict, _) = bench.begin_to(7, &Command::Send { to: topic("t"), message }).unwrap();
    assert!(verdict.is_hold());
    bench.broker.watch(&topic("t"));
    bench.keep(1, "s", ("", false)).unwrap();
    bench.settle(1, Which::Through(Tag(2)), Outcome::Accepted).unwrap();
    assert!(bench.broker.take_freed().contains(&topic("t")));
    bench.wait_until(40_000);
    assert_eq!(bench.kept(), [2]);
}

#[test]
fn a_full_keeper_refuses_what_is_published_later_in_the_name_of_its_topic() {
    let mut bench = Bench::with(Limits::default());
    let refuse = Limit { messages: 1, bytes: u64::MAX, when_full: WhenFull::Refuse };
    let pattern = Pattern::parse("topic://t").unwrap();
    let policies = Policies::new(vec![(pattern, refuse)], WhenFull::Hold).unwrap();
    bench.broker.govern(Arc::new(policies));
    bench.keep(1, "s", ("", false)).unwrap();
    bench.close(1);
    bench.publish_later(When::After(100), None);
    bench.wait_until(2000);
    let message = later(When::After(100), None);
    match bench.ask(7, &Command::Send { to: topic("t"), message }) {
        Err(Refusal::DestinationFull { destination, .. }) => assert_eq!(destination, topic("t")),
        other => panic!("{other:?}"),
    }
}
