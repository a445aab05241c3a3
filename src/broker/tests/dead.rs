//! Promises about messages that come back: delayed, counted, and set apart.

use super::*;
use crate::broker::command::{DeadLetter, Pick, Returns};
use crate::broker::delta::Why;
use crate::broker::policy::{Limit, Pattern, Policies, WhenFull};
use crate::broker::redelivery::{Ending, Redelivery};
use crate::limits::{DEAD_RETRY_MILLIS, DELAYED_WINDOW};
use crate::message::{BodyKind, Content};

pub(super) const DLQ: &str = "ActiveMQ.DLQ";

pub(super) fn governed(rules: Redelivery, limits: Vec<(Pattern, Limit)>) -> Bench {
    let policies = Policies::new(limits, WhenFull::Refuse).unwrap();
    let policies = policies.with_redelivery(Vec::new(), rules).unwrap();
    let mut bench = Bench::new();
    bench.broker.govern(Arc::new(policies));
    bench
}

pub(super) fn twice() -> Redelivery {
    Redelivery { maximum: 2, expired: Ending::DeadLetter, ..Redelivery::none() }
}

impl Bench {
    /// Gives the next delivery of consumer 1 back; gives its attempt.
    fn give_back(&mut self) -> Option<u32> {
        let given = self.delivered.pop_front()?;
        self.settle(given.key.0.0, Which::One(given.tag), Outcome::Returned).unwrap();
        Some(given.attempt)
    }

    fn depths(&mut self, name: &str) -> (u64, u64) {
        self.depth(name).map_or((0, 0), |queue| (queue.depth, queue.delayed))
    }

    fn at(&mut self, now: u64) {
        self.now = Millis(now);
        self.settle_down(Effects::new());
    }

    /// A restart that keeps the rules.
    fn restart_governed(&mut self) {
        let policies = Arc::clone(&self.broker.policies);
        self.restart();
        self.broker.govern(policies);
    }
}

#[test]
fn a_clock_that_was_ahead_once_puts_nothing_off() {
    const YEAR: u64 = 365 * 24 * 3_600_000;
    let rules = Redelivery { delay: 1000, delay_max: 1000, ..Redelivery::none() };
    let mut bench = governed(rules, Vec::new());
    let now = bench.now.0;
    bench.at(now + YEAR);
    bench.send("other");
    bench.at(now);
    // It is durable that it was so late once.
    bench.restart_governed();
    bench.subscribe(1, queue("q"), 9);
    bench.send("q");
    bench.send_as("q", Durability::NonPersistent, 4, None);
    let later = Message {
        durability: Durability::Persistent,
        priority: Priority::DEFAULT,
        expires: None,
        when: When::After(1000),
        grouped: false,
        content: Bytes::from_static(b"later"),
    };
    bench.ask(9, &Command::Send { to: queue("q"), message: later }).unwrap();
    let again = When::of(None, 0, 1000, Some(0)).unwrap();
    let content = Content { kind: BodyKind::Text, properties: Vec::new(), body: "again".into() };
    let again = Message {
        durability: Durability::Persistent,
        priority: Priority::DEFAULT,
        expires: Some(Millis(now + 600_000)),
        when: again,
        grouped: false,
        content: content.encode(),
    };
    bench.ask(9, &Command::Send { to: queue("q"), message: again }).unwrap();
    assert_eq!((bench.give_back(), bench.give_back()), (Some(1), Some(1)));
    bench.at(now + 999);
    assert!(bench.delivered.is_empty());
    bench.at(now + 2000);
    let attempts: Vec<_> = bench.delivered.drain(..).map(|given| given.attempt).collect();
    assert_eq!(attempts.iter().filter(|attempt| **attempt == 2).count(), 2, "{attempts:?}");
    assert_eq!(attempts.len(), 4, "{attempts:?}");
}

#[test]
fn a_message_that_comes_back_too_often_is_set_apart_with_why_and_from_where() {
    let mut bench = governed(twice(), Vec::new());
    bench.send_as("q", Durability::Persistent, 7, None);
    bench.send("q");
    bench.subscribe(1, queue("q"), 1);
    let attempts: Vec<_> = (0..3).map(|_| bench.give_back()).collect();
    assert_eq!(attempts, [Some(1), Some(2), Some(3)]);
    assert_eq!(bench.handed_out(), [(1, 2)], "the next is not held up");
    for _ in 0..2 {
        assert_eq!((bench.depths("q"), bench.depths(DLQ)), ((1, 0), (1, 0)));
        bench.subscribe(3, queue(DLQ), 1);
        let apart = bench.delivered.pop_front().expect("it is there");
        let dead = apart.dead.expect("it says why");
        assert_eq!((&*dead.origin, dead.cause().contains("came back")), ("q", true));
        assert!(apart.redelivered && apart.attempt > 3);
        let Lent::Durable { place, entry, .. } = apart.message else { panic!("it is durable") };
        assert_eq!((place.rank, entry.returns > 2), (2, true), "it keeps its priority");
        bench.restart_governed();
    }
    // There it is not set apart again, however often it comes back.
    bench.subscribe(3, queue(DLQ), 1);
    while bench.give_back().is_some_and(|attempt| attempt < 20) {}
    assert_eq!(bench.depths(DLQ), (1, 0));
}

#[test]
fn a_retry_takes_what_was_set_apart_back_for_another_round() {
    let mut bench = governed(twice(), Vec::new());
    bench.send("q");
    bench.subscribe(1, queue("q"), 1);
    for _ in 0..2 {
        let attempts = (0..3).filter_map(|_| bench.give_back()).count();
        assert!(attempts >= 2, "it was tried {attempts} times");
        assert_eq!((bench.depths("q"), bench.depths(DLQ)), ((0, 0), (1, 0)));
        let (from, to, returns) = (DLQ.into(), "q".into(), Returns::Reset);
        let pick = Pick::First(1);
        bench.ask(8, &Command::Move { from, to, pick, returns }).unwrap();
        assert_eq!(bench.depths(DLQ), (0, 0));
        let again = bench.delivered.front().expect("it is handed out");
        assert!(again.redelivered && again.dead.is_none(), "it is back where it came from");
    }
    assert_eq!(bench.broker.notes().values().sum::<u64>(), 1);
    let given = bench.delivered.pop_front().unwrap();
    bench.settle(1, Which::One(given.tag), Outcome::Accepted).unwrap();
    assert!(bench.broker.notes().is_empty(), "a note goes with the last that refers to it");
}

#[test]
fn what_finds_no_room_where_it_is_to_be_set_apart_stays_and_is_tried_again() {
    let limit = Limit { messages: 1, ..Limit::NONE };
    let mut bench =
        governed(twice(), vec![(Pattern::parse("queue://ActiveMQ.DLQ").unwrap(), limit)]);
    (0..2).for_each(|_| bench.send("q"));
    bench.subscribe(1, queue("q"), 1);
    while bench.give_back().is_some() {}
    assert_eq!((bench.depths("q"), bench.depths(DLQ)), ((1, 1), (1, 0)));
    // Through a restart, and while there is no room, it is kept from consumers.
    bench.restart_governed();
    bench.subscribe(1, queue("q"), 1);
    bench.at(1000 + DEAD_RETRY_MILLIS);
    assert_eq!((bench.depths("q"), bench.handed_out()), ((1, 1), vec![]));
    bench.subscribe(3, queue(DLQ), 1);
    let apart = bench.delivered.pop_front().unwrap();
    bench.settle(3, Which::One(apart.tag), Outcome::Accepted).unwrap();
    bench.at(1000 + 2 * DEAD_RETRY_MILLIS);
    assert_eq!((bench.depths("q"), bench.depths(DLQ)), ((0, 0), (1, 0)));
}

#[test]
fn a_delayed_message_keeps_its_place_and_holds_up_nobody() {
    let rules = Redelivery { delay: 100, backoff: 3, delay_max: 1000, ..Redelivery::none() };
    let mut bench = governed(rules, Vec::new());
    (0..3).for_each(|_| bench.send("q"));
    bench.subscribe(1, queue("q"), 1);
    bench.give_back();
    assert_eq!(bench.depths("q"), (3, 1));
    assert_eq!(bench.broker.next_deadline(), Some(Millis(1100)));
    let second = bench.delivered.pop_front().unwrap();
    assert_eq!(seq(&second.message), 2);
    bench.at(1099);
    assert_eq!(bench.depths("q"), (3, 1));
    bench.restart_governed();
    bench.at(1099);
    bench.subscribe(1, queue("q"), 1);
    assert_eq!(bench.handed_out(), [(1, 2)], "no crash ends a delay");
    bench.at(1100);
    bench.settle(1, Which::One(Tag(1)), Outcome::Accepted).unwrap();
    // Its place is before the third.
    let first = bench.delivered.pop_front().unwrap();
    assert_eq!((seq(&first.message), first.attempt), (1, 2));
    bench.settle(1, Which::One(first.tag), Outcome::Returned).unwrap();
    assert_eq!(bench.broker.next_deadline(), Some(Millis(1400)), "the second delay is longer");
}

#[test]
fn a_purge_takes_the_delayed_too_and_a_move_ends_their_delay() {
    let rules = Redelivery { delay: 100, delay_max: 1000, ..Redelivery::none() };
    let mut bench = governed(rules, Vec::new());
    (0..4).for_each(|_| bench.send("q"));
    bench.subscribe(1, queue("q"), 4);
    while bench.give_back().is_some() {}
    assert_eq!(bench.depths("q"), (4, 4));
    let (from, to) = ("q".into(), "r".into());
    let (pick, returns) = (Pick::First(2), Returns::Keep);
    bench.ask(8, &Command::Move { from, to, pick, returns }).unwrap();
    assert_eq!((bench.depths("q"), bench.depths("r")), ((2, 2), (2, 0)));
    bench.ask(8, &Command::Purge { queue: "q".into() }).unwrap();
    assert_eq!(bench.depths("q"), (0, 0));
    assert!(bench.broker.all_delayed(&[]).is_empty());
    assert_eq!(bench.broker.next_deadline(), None);
}

#[test]
fn more_delayed_messages_than_memory_holds_all_come_back_in_their_time() {
    let rules = Redelivery { delay: 10, delay_max: 1000, ..Redelivery::none() };
    let mut bench = governed(rules, Vec::new());
    let count = 5 * DELAYED_WINDOW as u64;
    (0..count).for_each(|_| bench.send("q"));
    bench.subscribe(1, queue("q"), 1);
    for number in 0..count {
        bench.at(1000 + 9 * number / count);
        assert_eq!(bench.give_back(), Some(1));
    }
    assert_eq!(bench.depths("q"), (count, count));
    bench.at(1010 + 9);
    assert_eq!(bench.depths("q"), (count, 0));
    for seq in 1..=count {
        assert_eq!(bench.handed_out(), [(1, seq)]);
        bench.settle(1, Which::One(Tag(count + seq)), Outcome::Accepted).unwrap();
    }
}

#[test]
fn what_expires_is_set_apart_or_removed_as_its_queue_says() {
    for (expired, apart) in [(Ending::DeadLetter, 1), (Ending::Drop, 0)] {
        let mut bench = governed(Redelivery { expired, ..twice() }, Vec::new());
        bench.send_as("q", Durability::Persistent, 4, Some(1500));
        bench.send_as("q", Durability::NonPersistent, 4, Some(1500));
        bench.at(2000);
        assert_eq!((bench.depths("q"), bench.depths(DLQ)), ((0, 0), (apart, 0)));
        // There it stays: its time is over only once.
        bench.at(1_000_000_000);
        assert_eq!(bench.depths(DLQ), (apart, 0));
        bench.subscribe(1, queue(DLQ), 1);
        if let Some(given) = bench.delivered.pop_front() {
            assert!(given.dead.unwrap().cause().contains("time was over"));
            assert!(!given.redelivered, "nobody had it before");
        }
    }
}

#[test]
fn what_its_consumer_takes_for_expired_goes_to_nobody_until_it_is() {
    let mut bench = governed(twice(), Vec::new());
    bench.now = Millis(1000);
    bench.subscribe(1, queue("q"), 5);
    bench.subscribe(2, queue("q"), 5);
    for expires in [Some(1500), Some(3000), None] {
        bench.send_as("q", Durability::Persistent, 4, expires);
        bench.send_as("q", Durability::NonPersistent, 4, expires);
    }
    let given: Vec<_> = bench.delivered.drain(..).collect();
    assert_eq!(given.len(), 6);
    bench.now = Millis(2000);
    for one in given {
        bench.settle(one.key.0.0, Which::One(one.tag), Outcome::Expired).unwrap();
    }
    assert_eq!(bench.handed_out(), [], "nobody sees one again");
    // One is over by this clock too, and one never would be.
    assert_eq!((bench.depths("q"), bench.depths(DLQ)), ((1, 1), (2, 0)));
    bench.restart_governed();
    bench.subscribe(1, queue("q"), 5);
    bench.at(2999);
    assert_eq!((bench.handed_out(), bench.depths("q")), (vec![], (1, 1)));
    bench.at(3000);
    assert_eq!((bench.handed_out(), bench.depths("q")), (vec![], (0, 0)));
    assert_eq!(bench.depths(DLQ), (3, 0));
}

#[test]
fn what_its_consumer_takes_for_expired_may_be_of_every_kind_at_once() {
    for (expired, apart) in [(Ending::DeadLetter, 4), (Ending::Drop, 2)] {
        let mut bench = governed(Redelivery { expired, ..twice() }, Vec::new());
        bench.now = Millis(1000);
        bench.subscribe(1, queue("q"), 10);
        for expires in [Some(1500), None, Some(3000), Some(1500), None] {
            bench.send_as("q", Durability::Persistent, 4, expires);
        }
        bench.send_as("q", Durability::NonPersistent, 4, Some(1500));
        let last = bench.delivered.drain(..).last().unwrap().tag;
        bench.now = Millis(2000);
        bench.settle(1, Which::Through(last), Outcome::Expired).unwrap();
        assert_eq!((bench.depths("q"), bench.depths(DLQ)), ((1, 1), (apart, 0)));
        bench.restart_governed();
        assert_eq!((bench.depths("q"), bench.depths(DLQ)), ((1, 1), (apart, 0)));
        // There nothing is set apart once more.
        bench.subscribe(2, queue(DLQ), 10);
        let last = bench.delivered.drain(..).last().unwrap().tag;
        bench.settle(2, Which::Through(last), Outcome::Expired).unwrap();
        assert_eq!(bench.depths(DLQ), (apart, 0));
    }
}

#[test]
fn a_non_persistent_message_that_comes_back_too_often_goes_as_its_queue_says() {
    for (ending, apart) in [(Ending::DeadLetter, 1), (Ending::Drop, 0)] {
        let mut bench = governed(Redelivery { non_persistent: ending, ..twice() }, Vec::new());
        let content = Content {
            kind: BodyKind::Text,
            properties: vec![("mine".to_owned(), "1".to_owned())],
            body: Bytes::from_static(b"body"),
        };
        let message = Message {
            durability: Durability::NonPersistent,
            priority: Priority::new(4).unwrap(),
            expires: None,
            when: When::AtOnce,
            grouped: false,
            content: content.encode(),
        };
        bench.ask(9, &Command::Send { to: queue("q"), message }).unwrap();
        // With durable ones in the same acknowledgement there is still one queue made for both.
        bench.send("q");
        bench.subscribe(1, queue("q"), 2);
        for _ in 0..3 {
            let last = bench.delivered.drain(..).last().unwrap().tag;
            bench.settle(1, Which::Through(last), Outcome::Returned).unwrap();
        }
        assert_eq!((bench.depths("q"), bench.depths(DLQ)), ((0, 0), (1 + apart, 0)));
        assert_eq!(bench.broker.totals().counters.discarded, 1);
        bench.subscribe(3, queue(DLQ), 5);
        let kept = bench.delivered.drain(..).find_map(|given| match given.message {
            Lent::Volatile { message, .. } => Some(Content::decode(message.content).unwrap()),
            _ => None,
        });
        let said = kept.map(|kept| (kept.property("originalDestination").map(str::to_owned), kept));
        match said {
            None => assert_eq!(apart, 0),
            Some((origin, kept)) => {
                assert_eq!((apart, origin.as_deref()), (1, Some("queue://q")));
                assert_eq!((kept.property("mine"), &*kept.body), (Some("1"), &b"body"[..]));
            }
        }
    }
}

#[test]
fn a_non_persistent_message_that_a_subscription_kept_says_its_topic_and_its_queue_apart() {
    let rules = Redelivery { non_persistent: Ending::DeadLetter, ..twice() };
    let mut bench = governed(rules, Vec::new());
    bench.keep(1, "s", ("", false)).unwrap();
    let (kind, body) = (BodyKind::Text, Bytes::from_static(b"body"));
    let content = Content { kind, properties: Vec::new(), body }.encode();
    let message = Message { content, ..held::text(Durability::NonPersistent, 4) };
    bench.ask(2, &Command::Send { to: topic("t"), message }).unwrap();
    while bench.give_back().is_some() {}
    bench.subscribe(3, queue(DLQ), 5);
    let given = bench.delivered.pop_front().expect("it is apart");
    let Lent::Volatile { message, .. } = given.message else { panic!("it is in memory") };
    let kept = Content::decode(message.content).unwrap();
    assert_eq!(kept.property("originalDestination"), Some("topic://t"));
    let queue = crate::message::origin_of(|name| kept.property(name));
    assert_eq!(queue, Some("subscription://c1/s?topic=t"), "a retry finds the way");
}

#[test]
fn what_a_line_or_a_pattern_had_was_published_on_a_topic() {
    let of = |origin: &str| {
        let dead = DeadLetter { origin: origin.into(), why: Why::Expired };
        let said = crate::message::on_topic("news.now", &Bytes::from_static(b"x"));
        (dead.destination(b"x").to_string(), dead.destination(&said).to_string())
    };
    let same = |destination: &str| (destination.to_owned(), destination.to_owned());
    assert_eq!(of("orders"), same("queue://orders"));
    assert_eq!(of("Consumer.a.VirtualTopic.b"), same("queue://Consumer.a.VirtualTopic.b"));
    assert_eq!(of("scheduled-publications://a%2Fb"), same("topic://a/b"));
    assert_eq!(of("publications://a?client=c"), same("topic://a"));
    assert_eq!(of("subscription://c/s?topic=a"), same("topic://a"));
    let pattern = ("topic://news.>".to_owned(), "topic://news.now".to_owned());
    assert_eq!(of("subscription://c/s?topic=news.%3E"), pattern);
}

#[test]
fn a_non_persistent_message_that_finds_no_room_apart_stays_and_is_tried_again() {
    let limit = Limit { messages: 1, ..Limit::NONE };
    let rules = Redelivery { non_persistent: Ending::DeadLetter, ..twice() };
    for reject in [false, true] {
        let limits = vec![(Pattern::parse("queue://ActiveMQ.DLQ").unwrap(), limit)];
        let mut bench = governed(rules.clone(), limits);
        bench.send(DLQ);
        bench.send_as("q", Durability::NonPersistent, 4, None);
        bench.subscribe(1, queue("q"), 1);
        for attempt in 1..=3 {
            let given = bench.delivered.pop_front().expect("it is handed out");
            assert_eq!(given.attempt, attempt);
            let outcome = if reject { Outcome::Rejected } else { Outcome::Returned };
            bench.settle(1, Which::One(given.tag), outcome).unwrap();
        }
        assert_eq!((bench.depths("q").0, bench.handed_out()), (1, vec![]), "it waits for room");
        bench.at(1000 + DEAD_RETRY_MILLIS);
        assert_eq!((bench.depths("q").0, bench.handed_out()), (1, vec![]));
        bench.subscribe(3, queue(DLQ), 1);
        bench.delivered.clear();
        bench.settle(3, Which::One(Tag(1)), Outcome::Accepted).unwrap();
        bench.at(1000 + 2 * DEAD_RETRY_MILLIS);
        assert_eq!((bench.depths("q").0, bench.depths(DLQ).0), (0, 1));
    }
}

#[test]
fn a_non_persistent_message_rests_before_it_comes_again_and_holds_up_nobody() {
    let rules = Redelivery { delay: 100, backoff: 2, delay_max: 1000, ..twice() };
    let mut bench = governed(rules, Vec::new());
    let start = bench.now.0;
    (0..2).for_each(|_| bench.send_as("q", Durability::NonPersistent, 4, None));
    bench.subscribe(1, queue("q"), 1);
    assert_eq!(bench.give_back(), Some(1));
    let other = bench.delivered.pop_front().expect("the next is not held up");
    assert_eq!(other.attempt, 1);
    bench.settle(1, Which::One(other.tag), Outcome::Accepted).unwrap();
    bench.at(start + 99);
    assert_eq!((bench.depths("q").0, bench.delivered.len()), (1, 0));
    assert_eq!(bench.broker.next_deadline(), Some(Millis(start + 100)));
    bench.at(start + 100);
    assert_eq!(bench.give_back(), Some(2));
    bench.at(start + 299);
    assert!(bench.delivered.is_empty(), "the second delay is twice the first");
    bench.at(start + 300);
    assert_eq!(bench.give_back(), Some(3));
    assert_eq!(bench.depths("q").0, 0, "it came back too often");
}

#[test]
fn what_rests_is_purged_and_expires_like_what_waits() {
    let rules = Redelivery { delay: 100, delay_max: 1000, ..twice() };
    let mut bench = governed(rules, Vec::new());
    let start = bench.now.0;
    bench.send_as("q", Durability::NonPersistent, 4, Some(start + 50));
    bench.subscribe(1, queue("q"), 1);
    bench.give_back().unwrap();
    bench.at(start + 50);
    assert_eq!(bench.depths("q").0, 0, "its time was over first");
    bench.send_as("q", Durability::NonPersistent, 4, None);
    bench.give_back().unwrap();
    bench.ask(9, &Command::Purge { queue: "q".into() }).unwrap();
    assert_eq!(bench.answers.pop(), Some(Ok(Reply::Removed(1))));
    bench.at(start + 1000);
    assert_eq!((bench.depths("q").0, bench.delivered.len()), (0, 0));
}

#[test]
fn a_non_persistent_message_that_a_transaction_gives_back_rests_and_counts_as_well() {
    use crate::broker::command::{Disposition, Work};
    let transaction = crate::ids::TransactionName(1);
    let rules = Redelivery { delay: 100, delay_max: 1000, maximum: 1, ..twice() };
    let mut bench = governed(rules, Vec::new());
    bench.send_as("q", Durability::NonPersistent, 4, None);
    bench.subscribe(1, queue("q"), 1);
    for attempt in [1, 2] {
        let given = bench.delivered.pop_front().expect("its time has come");
        assert_eq!(given.attempt, attempt);
        bench.ask(1, &Command::Begin { transaction }).unwrap();
        let (which, outcome) = (Which::One(given.tag), Outcome::Accepted);
        let work = Work::Settle { subscription: SubscriptionId(1), which, outcome };
        bench.ask(1, &Command::Transact { transaction, work }).unwrap();
        let disposition = Disposition::Return;
        bench.ask(1, &Command::Rollback { transaction, disposition }).unwrap();
        assert!(bench.delivered.is_empty());
        bench.at(bench.now.0 + 100);
    }
    assert_eq!((bench.depths("q").0, bench.delivered.len()), (0, 0), "it came back too often");
}
