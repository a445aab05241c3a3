//! Promises about what listeners are told of messages that expired, or were set apart.

use super::dead::{DLQ, governed, twice};
use super::*;
use crate::broker::command::KeepAs;
use crate::broker::fact::Change;
use crate::broker::redelivery::{Ending, Redelivery};
use crate::limits::NOTICES_MAX;
use crate::message::{BodyKind, Content, DLQ_FAILURE_CAUSE, Notice};

const EXPIRED: &str = "ActiveMQ.Advisory.Expired";
const APART: &str = "ActiveMQ.Advisory.MessageDLQd";
const ALL: &str = "ActiveMQ.Advisory.>";

impl Bench {
    fn send_said(&mut self, to: Destination, durability: Durability, expires: Option<u64>) {
        let properties = vec![("mine".to_owned(), "1".to_owned())];
        let body = Bytes::from_static(b"body");
        let message = Message {
            durability,
            priority: Priority::new(6).unwrap(),
            expires: expires.map(Millis),
            when: When::AtOnce,
            grouped: false,
            content: Content { kind: BodyKind::Text, properties, body }.encode(),
        };
        self.ask(9, &Command::Send { to, message }).unwrap();
    }

    /// What listeners were told since, and on which topics.
    fn notices(&mut self) -> Vec<(String, Notice)> {
        let told = self.delivered.drain(..).filter_map(|given| match given.message {
            Lent::Published { message, .. } => {
                assert!(message.with_log, "nobody hears of what a crash could undo");
                let notice = Notice::decode(message.content).ok()?;
                Some((given.source.to_string(), notice))
            }
            _ => None,
        });
        told.collect()
    }

    fn topics_told(&mut self) -> Vec<String> {
        self.notices().into_iter().map(|(topic, _)| topic).collect()
    }
}

#[test]
fn listeners_are_told_of_what_expired_and_of_what_was_set_apart() {
    let mut bench = governed(twice(), Vec::new());
    bench.subscribe(5, topic(ALL), 100);
    bench.send_said(queue("q"), Durability::Persistent, Some(1500));
    bench.send_said(queue("q"), Durability::NonPersistent, Some(1500));
    bench.now = Millis(2000);
    bench.settle_down(Effects::new());
    let told = bench.notices();
    let topics: Vec<_> = told.iter().map(|(topic, _)| &**topic).collect();
    let (expired, apart) = (format!("{EXPIRED}.Queue.q"), format!("{APART}.Queue.q"));
    assert_eq!(topics, [&expired, &expired, &apart], "a non-persistent one is just gone");
    let bare = |content: &Bytes| Content::decode(content.clone()).unwrap();
    for (topic, notice) in &told {
        assert_eq!((&notice.of, notice.priority), (&queue("q"), 6));
        assert_eq!((notice.at, notice.expires), (Millis(1000), Some(Millis(1500))));
        let content = bare(&notice.content);
        assert_eq!((content.property("mine"), content.body.len()), (Some("1"), 0));
        let cause = content.property(DLQ_FAILURE_CAUSE);
        assert_eq!(cause.is_some_and(|cause| cause.contains("time")), *topic == apart);
    }
    let ids: Vec<_> = told.iter().filter(|it| it.1.persistent).map(|it| &it.1.id).collect();
    assert_eq!((ids.len(), ids[0]), (2, ids[1]), "it is one message");
}

#[test]
fn what_comes_back_too_often_or_is_given_up_is_told_as_set_apart_alone() {
    let rules = Redelivery { non_persistent: Ending::DeadLetter, ..twice() };
    for durability in [Durability::Persistent, Durability::NonPersistent] {
        let mut bench = governed(rules.clone(), Vec::new());
        bench.subscribe(5, topic(&format!("{APART}.Queue.q")), 100);
        bench.subscribe(6, topic(&format!("{EXPIRED}.>")), 100);
        bench.subscribe(1, queue("q"), 1);
        bench.send_said(queue("q"), durability, None);
        for _ in 0..3 {
            let given = bench.delivered.pop_front().expect("it comes again");
            bench.settle(1, Which::One(given.tag), Outcome::Returned).unwrap();
        }
        let told = bench.notices();
        assert_eq!((told.len(), told[0].1.returns), (1, 3), "{durability:?}");
        bench.send_said(queue("q"), durability, None);
        let given = bench.delivered.pop_front().expect("the next");
        bench.settle(1, Which::One(given.tag), Outcome::Rejected).unwrap();
        assert_eq!(bench.notices().len(), 1);
        assert_eq!(bench.depth(DLQ).unwrap().depth, 2);
    }
}

#[test]
fn nothing_is_read_or_stated_where_nobody_listens_to_that() {
    let mut bench = governed(twice(), Vec::new());
    for (who, name) in ["TempQueue", "Consumer.>", "Expired.Queue.other"].iter().enumerate() {
        bench.subscribe(20 + who as u64, topic(&format!("ActiveMQ.Advisory.{name}")), 100);
    }
    // A pattern that does not name what is the broker's own catches none of it.
    bench.subscribe(5, topic(">"), 100);
    bench.subscribe(1, queue("q"), 1);
    bench.send_said(queue("q"), Durability::Persistent, None);
    let given = bench.delivered.pop_front().unwrap();
    bench.settle(1, Which::One(given.tag), Outcome::Rejected).unwrap();
    bench.close(1);
    bench.send_said(queue("q"), Durability::NonPersistent, Some(1500));
    bench.send_said(queue("q"), Durability::Persistent, Some(1500));
    bench.now = Millis(2000);
    let mut facts = Vec::new();
    while bench.broker.work(bench.now, &mut facts, &mut Effects::new()) {
        let noticed = |fact: &Fact| matches!(fact, Fact::Memory(Change::Notice(_)));
        assert!(!facts.iter().any(noticed));
        let facts = std::mem::take(&mut facts);
        bench.commit(facts, &mut Effects::new());
    }
    assert_eq!((bench.depth(DLQ).unwrap().depth, bench.broker.missed()), (2, 0));
}

#[test]
fn what_many_expire_at_once_is_told_of_a_bounded_number_and_the_rest_is_counted() {
    let mut bench = Bench::with(Limits { topic_backlog: 1000, ..Limits::default() });
    bench.subscribe(5, topic(ALL), 1000);
    // Whoever has no credit keeps the rest in memory.
    bench.subscribe(1, queue("q"), 1);
    bench.send_said(queue("q"), Durability::Persistent, None);
    let all = 10 * NOTICES_MAX as u64;
    for _ in 0..all {
        bench.send_said(queue("q"), Durability::Persistent, Some(1500));
    }
    bench.now = Millis(2000);
    let (mut effects, mut more) = (Effects::new(), true);
    while more {
        let mut facts = Vec::new();
        more = bench.broker.work(bench.now, &mut facts, &mut effects);
        bench.commit(facts, &mut effects);
    }
    assert_eq!(bench.depth("q").unwrap().depth, 1, "none waits for what is told of it");
    let read = effects.iter().filter(|effect| matches!(effect, Effect::Content(_))).count();
    assert_eq!((read, bench.broker.missed()), (NOTICES_MAX, all - NOTICES_MAX as u64));
    bench.settle_down(effects);
    assert_eq!(bench.notices().len(), NOTICES_MAX);
    // What was bounded is free again.
    bench.send_said(queue("q"), Durability::Persistent, Some(2500));
    bench.now = Millis(3000);
    bench.settle_down(Effects::new());
    assert_eq!(bench.notices().len(), 1);
}

#[test]
fn what_cannot_be_read_any_more_is_missed_and_holds_nothing() {
    let mut bench = Bench::new();
    bench.subscribe(5, topic(ALL), 100);
    for round in 1..=2 * NOTICES_MAX as u64 {
        bench.send_said(queue("q"), Durability::Persistent, Some(bench.now.0 + 1));
        bench.now = Millis(bench.now.0 + 1);
        let (mut facts, mut effects) = (Vec::new(), Effects::new());
        bench.broker.work(bench.now, &mut facts, &mut effects);
        bench.commit(facts, &mut effects);
        let [Effect::Content(request)] = &effects[..] else { panic!("{effects:?}") };
        assert!(!bench.broker.awaits_content(request), "the store has not failed for it");
        bench.broker.content_gone(request);
        assert_eq!(bench.broker.missed(), round);
    }
}

#[test]
fn what_durable_subscriptions_keep_is_told_of_by_the_topic_of_its_publication() {
    let mut bench = Bench::new();
    for (connection, of) in [(1, "a.b"), (2, "a.*")] {
        let client: Arc<str> = format!("c{connection}").into();
        bench.ask(connection, &Command::Identify { client: Arc::clone(&client) }).unwrap();
        let (name, topic, selector) = ("s".into(), of.into(), None);
        let (prefetch, no_local, reader) = (9, false, None);
        let keep = KeepAs { client, name, topic, prefetch, selector, no_local, reader };
        let keep = Command::Keep { subscription: SubscriptionId(1), keep: Box::new(keep) };
        bench.ask(connection, &keep).unwrap();
        bench.close(connection);
    }
    bench.subscribe(5, topic(&format!("{EXPIRED}.Topic.a.b")), 100);
    bench.send_said(topic("a.b"), Durability::Persistent, Some(1500));
    bench.now = Millis(2000);
    bench.settle_down(Effects::new());
    let told = bench.notices();
    let all: Vec<_> = told.iter().map(|(_, notice)| (&notice.of, &notice.id)).collect();
    assert_eq!(all.len(), 2, "each of the two had it");
    assert_eq!((all[0], all[0].0), (all[1], &topic("a.b")));
}

#[test]
fn a_listener_that_takes_a_message_for_expired_tells_of_it_and_temporary_ones_are_told_of_never() {
    let mut bench = Bench::new();
    bench.subscribe(5, topic(ALL), 100);
    bench.subscribe(1, topic("t"), 1);
    bench.send_said(topic("t"), Durability::NonPersistent, Some(1500));
    let given = bench.delivered.pop_front().unwrap();
    bench.settle(1, Which::One(given.tag), Outcome::Expired).unwrap();
    assert_eq!(bench.topics_told(), [format!("{EXPIRED}.Topic.t")]);
    bench.send_said(queue("temp-queue://ID:x"), Durability::NonPersistent, Some(1500));
    bench.now = Millis(2000);
    bench.settle_down(Effects::new());
    assert_eq!(bench.topics_told(), [""; 0]);
}
