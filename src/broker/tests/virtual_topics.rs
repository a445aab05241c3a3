//! Promises of virtual topics: queues that get what is published on the topic in their name.

use super::super::policy::{Limit, Measure, Pattern, Policies, Shortage, WhenFull};
use super::*;
use crate::broker::command::{Once, Work};
use crate::broker::virtual_topic::topic_of;
use crate::identity::{Identity, Numbered};
use crate::ids::TransactionName;
use crate::limits;
use crate::message::{BodyKind, Content, GROUP_ID};

const T: TransactionName = TransactionName(1);
const TOPIC: &str = "VirtualTopic.orders.new";
const OF_A: &str = "Consumer.a.VirtualTopic.orders.new";
const OF_B: &str = "Consumer.b.VirtualTopic.orders.new";

fn text(durability: Durability) -> Message {
    let (priority, content) = (Priority::DEFAULT, Bytes::from_static(b"content"));
    Message { durability, priority, expires: None, when: When::AtOnce, content, grouped: false }
}

fn publication(durability: Durability) -> Command {
    Command::Send { to: topic(TOPIC), message: text(durability) }
}

impl Bench {
    /// A queue comes into being, and nobody consumes from it.
    fn name(&mut self, name: &str) {
        self.subscribe(8, queue(name), 1);
        self.close(8);
    }

    fn publish_new(&mut self) {
        self.ask(7, &publication(Durability::Persistent)).unwrap();
    }

    fn depths_of(&mut self, names: &[&str]) -> Vec<Option<u64>> {
        names.iter().map(|name| self.depth(name).map(|queue| queue.depth)).collect()
    }

    fn begin_with(&mut self, count: usize) {
        self.ask(7, &Command::Begin { transaction: T }).unwrap();
        for _ in 0..count {
            let work = Work::Send { to: topic(TOPIC), message: text(Durability::Persistent) };
            self.ask(7, &Command::Transact { transaction: T, work }).unwrap();
        }
    }

    fn govern(&mut self, limits: &[(&str, Limit)], virtual_topics: bool) {
        let limits = limits.iter().map(|(name, limit)| (Pattern::parse(name).unwrap(), *limit));
        let mut policies = Policies::new(limits.collect(), WhenFull::Refuse).unwrap();
        policies.virtual_topics = virtual_topics;
        self.broker.govern(Arc::new(policies));
    }
}

#[test]
fn the_name_of_a_queue_says_which_topic_it_reads() {
    for (name, topic) in [
        (OF_A, Some(TOPIC)),
        ("Consumer.a.VirtualTopic.x", Some("VirtualTopic.x")),
        ("Consumer..VirtualTopic.x", None),
        ("Consumer.a.b.VirtualTopic.x", None),
        ("Consumer.VirtualTopic.x", None),
        ("Consumer.a.VirtualTopic.", None),
        ("Consumer.a.VirtualTopic", None),
        ("Consumer.a.virtualtopic.x", None),
        ("x.Consumer.a.VirtualTopic.x", None),
        ("VirtualTopic.x", None),
        ("q", None),
    ] {
        assert_eq!(topic_of(name), topic, "{name}");
    }
}

#[test]
fn a_publication_goes_to_subscribers_and_into_each_queue_that_is_there_once_in_the_log() {
    let mut bench = Bench::new();
    bench.publish_new();
    let names = [OF_A, OF_B, "Consumer.a.VirtualTopic.orders", "orders.new"];
    names.into_iter().for_each(|name| bench.name(name));
    bench.subscribe(1, topic(TOPIC), 9);
    bench.subscribe(2, queue(OF_B), 1);
    bench.subscribe(3, queue(OF_B), 1);
    let before = bench.log.len();
    bench.publish_new();
    bench.publish_new();
    assert_eq!(bench.log.len() - before, 2);
    let mut given: Vec<_> = bench.delivered.drain(..).collect();
    given.sort_by_key(|it| it.key);
    let told = |it: &Assignment| (it.key.0.0, it.source.to_string(), it.topic, it.origin.clone());
    let [_, _, second, third] = &given[..] else { panic!("{given:?}") };
    // Who consumes from a queue share what comes, as from any queue.
    assert_eq!(told(second), (2, OF_B.to_owned(), false, Some(TOPIC.into())));
    assert_eq!(told(third), (3, OF_B.to_owned(), false, Some(TOPIC.into())));
    assert_eq!(told(&given[0]), (1, TOPIC.to_owned(), true, None));
    assert_eq!(bench.depths_of(&names), [Some(2), Some(2), Some(0), Some(0)]);
    // Nobody is flagged who has had nothing, and what was lent is.
    bench.restart();
    bench.publish_new();
    assert_eq!(bench.depths_of(&[OF_A, OF_B]), [Some(3), Some(3)]);
    bench.subscribe(1, queue(OF_A), 9);
    bench.subscribe(2, queue(OF_B), 9);
    let given: Vec<_> = bench.delivered.drain(..).map(|it| (it.key.0.0, it.redelivered)).collect();
    let [a, b] = [1, 2].map(|who| given.iter().filter(move |it| it.0 == who).map(|it| it.1));
    assert_eq!(a.collect::<Vec<_>>(), [false, false, false]);
    assert_eq!(b.collect::<Vec<_>>(), [true, true, false]);
}

#[test]
fn what_is_sent_to_the_queue_itself_is_its_alone() {
    let mut bench = Bench::new();
    [OF_A, OF_B].into_iter().for_each(|name| bench.name(name));
    bench.send(OF_A);
    bench.subscribe(1, queue(OF_A), 9);
    let given = bench.delivered.pop_front().unwrap();
    assert_eq!((&*given.source, given.origin), (OF_A, None));
    assert_eq!(bench.depths_of(&[OF_A, OF_B]), [Some(1), Some(0)]);
}

#[test]
fn what_is_not_persistent_waits_in_the_queue_as_long_as_the_broker_runs() {
    let mut bench = Bench::new();
    bench.name(OF_A);
    bench.ask(7, &publication(Durability::NonPersistent)).unwrap();
    bench.ask(7, &Command::Begin { transaction: T }).unwrap();
    let work = Work::Send { to: topic(TOPIC), message: text(Durability::NonPersistent) };
    bench.ask(7, &Command::Transact { transaction: T, work }).unwrap();
    assert_eq!(bench.depths_of(&[OF_A]), [Some(1)]);
    bench.ask(7, &Command::Commit { transaction: T }).unwrap();
    bench.subscribe(1, queue(OF_A), 9);
    let given: Vec<_> = bench.delivered.drain(..).collect();
    let seen = |it: &Assignment| (seq(&it.message) > 1000, it.origin.clone());
    let expected = (true, Some(Arc::from(TOPIC)));
    assert_eq!(given.iter().map(seen).collect::<Vec<_>>(), vec![expected; 2]);
    bench.restart();
    assert_eq!(bench.depths_of(&[OF_A]), [Some(0)]);
}

#[test]
fn a_queue_that_goes_gets_nothing_and_one_that_comes_again_begins_anew() {
    let mut bench = Bench::new();
    bench.name(OF_A);
    bench.publish_new();
    bench.ask(9, &Command::Delete { queue: OF_A.into() }).unwrap();
    bench.publish_new();
    assert_eq!(bench.depths_of(&[OF_A]), [None]);
    assert_eq!(bench.broker.live().values().sum::<u64>(), 0);
    bench.name(OF_A);
    assert_eq!(bench.depths_of(&[OF_A]), [Some(0)]);
    bench.publish_new();
    bench.restart();
    bench.ask(9, &Command::Purge { queue: OF_A.into() }).unwrap();
    bench.publish_new();
    assert_eq!(bench.depths_of(&[OF_A]), [Some(1)]);
}

#[test]
fn a_commit_goes_into_the_queues_that_are_there_with_it_and_not_into_those_that_come_later() {
    let mut bench = Bench::new();
    bench.begin_with(2);
    bench.name(OF_A);
    bench.begin_to(7, &Command::Commit { transaction: T }).unwrap();
    // Something waits in the line: this one comes too late for it, and not for what follows.
    let (subscription, selector) = (SubscriptionId(1), None);
    let late = Command::Subscribe { subscription, from: queue(OF_B), prefetch: 1, selector };
    let (_, effects) = bench.begin_to(8, &late).unwrap();
    let (_, more) = bench.begin_to(6, &publication(Durability::Persistent)).unwrap();
    bench.restart();
    bench.settle_down(effects.into_iter().chain(more).collect());
    assert_eq!(bench.depths_of(&[OF_A, OF_B]), [Some(3), Some(1)]);
}

#[test]
fn what_a_transaction_publishes_while_no_queue_is_there_is_gone_with_its_outcome() {
    let mut bench = Bench::new();
    bench.begin_with(1);
    bench.ask(7, &Command::Commit { transaction: T }).unwrap();
    // Not even the line that it stood in is left.
    assert_eq!(bench.broker.rows().len(), 0);
    bench.name(OF_A);
    assert_eq!(bench.depths_of(&[OF_A]), [Some(0)]);
    assert_eq!(bench.broker.live().values().sum::<u64>(), 0);
    bench.begin_with(1);
    bench.ask(7, &Command::Commit { transaction: T }).unwrap();
    assert_eq!(bench.broker.rows().len(), 2);
}

#[test]
fn the_limit_of_the_queue_counts_and_says_what_becomes_of_a_publication() {
    let mut bench = Bench::new();
    let limit = |messages, when_full| Limit { messages, when_full, ..Limit::NONE };
    let of_a = format!("queue://{OF_A}");
    [OF_A, OF_B].into_iter().for_each(|name| bench.name(name));
    bench.govern(
        &[(&of_a, limit(1, WhenFull::Refuse)), ("topic://>", limit(9, WhenFull::Hold))],
        true,
    );
    bench.publish_new();
    let full = |limit| {
        Err(Refusal::DestinationFull { destination: queue(OF_A), limit: Measure::Messages(limit) })
    };
    let publish = publication(Durability::Persistent);
    assert_eq!(bench.ask(7, &publish), full(1));
    bench.begin_with(1);
    assert_eq!(bench.ask(7, &Command::Commit { transaction: T }), full(1));
    bench.govern(&[(&of_a, limit(1, WhenFull::Hold))], true);
    assert_eq!(bench.ask(7, &publish), Ok(Verdict::Hold(Shortage::Destination)));
    let held = Verdict::HoldFor(topic(TOPIC), Shortage::Destination);
    assert_eq!(bench.ask(7, &Command::Commit { transaction: T }), Ok(held));
    // Nowhere was anything of it taken; who waits for the topic and for the queue is told.
    assert_eq!(bench.depths_of(&[OF_A, OF_B]), [Some(1), Some(1)]);
    bench.broker.watch(&topic(TOPIC));
    assert_eq!(bench.broker.take_freed(), []);
    bench.subscribe(1, queue(OF_A), 1);
    bench.settle(1, Which::One(Tag(1)), Outcome::Accepted).unwrap();
    assert_eq!(bench.broker.take_freed(), [topic(TOPIC), queue(OF_A)]);
    assert_eq!(bench.ask(7, &Command::Commit { transaction: T }), Ok(Verdict::Answer(Reply::Done)));
    assert_eq!(bench.depths_of(&[OF_A, OF_B]), [Some(1), Some(2)]);
}

#[test]
fn who_takes_out_of_a_full_queue_may_publish_into_it_with_that() {
    let mut bench = Bench::new();
    let limit = Limit { messages: 1, when_full: WhenFull::Hold, ..Limit::NONE };
    bench.govern(&[("queue://>", limit)], true);
    bench.subscribe(7, queue(OF_A), 1);
    bench.publish_new();
    bench.begin_with(1);
    let (which, outcome) = (Which::One(Tag(1)), Outcome::Accepted);
    let work = Work::Settle { subscription: SubscriptionId(1), which, outcome };
    bench.ask(7, &Command::Transact { transaction: T, work }).unwrap();
    assert_eq!(bench.ask(7, &Command::Commit { transaction: T }), Ok(Verdict::Answer(Reply::Done)));
    assert_eq!(bench.depths_of(&[OF_A]), [Some(1)]);
}

#[test]
fn one_that_is_sent_again_under_its_number_is_in_the_queue_once() {
    let mut bench = Bench::new();
    bench.name(OF_A);
    let it = Numbered { producer: Identity::of(b"p"), sequence: 7 };
    let once = Command::Once(Once::numbered(it, publication(Durability::Persistent)));
    bench.ask(7, &once).unwrap();
    bench.restart();
    assert_eq!(bench.ask(6, &once), Ok(Verdict::Answer(Reply::Repeated)));
    assert_eq!(bench.depths_of(&[OF_A]), [Some(1)]);
}

#[test]
fn groups_go_to_one_consumer_each_whichever_way_they_were_published() {
    let of_group = |group: &str, durability| {
        let properties = vec![(GROUP_ID.to_owned(), group.to_owned())];
        let content = Content { kind: BodyKind::Text, properties, body: Bytes::new() }.encode();
        Message { content, grouped: true, ..text(durability) }
    };
    let groups = ["red", "blue", "red", "blue", "red", "red", "blue"];
    for (durability, transacted) in [
        (Durability::Persistent, false),
        (Durability::NonPersistent, false),
        (Durability::Persistent, true),
        (Durability::NonPersistent, true),
    ] {
        let mut bench = Bench::new();
        bench.subscribe(1, queue(OF_A), 100);
        bench.subscribe(2, queue(OF_A), 100);
        bench.ask(7, &Command::Begin { transaction: T }).unwrap();
        for group in groups {
            let (to, message) = (topic(TOPIC), of_group(group, durability));
            let send = match transacted {
                true => Command::Transact { transaction: T, work: Work::Send { to, message } },
                false => Command::Send { to, message },
            };
            bench.ask(7, &send).unwrap();
        }
        bench.ask(7, &Command::Commit { transaction: T }).unwrap();
        let mut given = bench.handed_out();
        given.sort_by_key(|(_, seq)| *seq);
        let owners: Vec<_> = given.iter().map(|(who, _)| *who).collect();
        assert_eq!(owners, [1, 2, 1, 2, 1, 1, 2], "{durability:?} {transacted}");
    }
}

#[test]
fn a_queue_beyond_what_a_publication_reaches_does_not_come_into_being() {
    let mut bench = Bench::new();
    let limit = limits::HELD_OF_TOPIC_MAX;
    (0..limit).for_each(|n| bench.name(&format!("Consumer.c{n}.{TOPIC}")));
    let message = text(Durability::Persistent);
    let refused = Err(Refusal::TooManySubscriptions { topic: TOPIC.into(), limit });
    let send = Command::Send { to: queue(OF_A), message };
    assert_eq!(bench.ask(7, &send), refused);
    let before = bench.log.len();
    bench.publish_new();
    assert_eq!(bench.log.len() - before, 1);
    bench.ask(7, &Command::Delete { queue: format!("Consumer.c7.{TOPIC}").into() }).unwrap();
    bench.ask(7, &send).unwrap();
}

#[test]
fn a_pattern_of_queues_reads_those_that_are_there_and_is_none() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("Consumer.a.VirtualTopic.>"), 9);
    bench.publish_new();
    assert_eq!(bench.handed_out(), []);
    bench.name(OF_A);
    bench.publish_new();
    assert_eq!(bench.handed_out(), [(1, 1)]);
    bench.settle(1, Which::One(Tag(1)), Outcome::Accepted).unwrap();
    assert_eq!(bench.broker.live().values().sum::<u64>(), 0);
}

#[test]
fn switched_off_they_are_topics_and_queues_like_others() {
    let mut bench = Bench::new();
    bench.govern(&[], false);
    bench.name(OF_A);
    bench.publish_new();
    let before = bench.log.len();
    bench.begin_with(1);
    bench.ask(7, &Command::Commit { transaction: T }).unwrap();
    assert_eq!((bench.log.len(), bench.depths_of(&[OF_A])), (before, vec![Some(0)]));
    bench.govern(&[], true);
    bench.publish_new();
    assert_eq!(bench.depths_of(&[OF_A]), [Some(1)]);
}
