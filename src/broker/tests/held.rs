//! Promises of durable subscriptions.

use super::*;
use crate::broker::Standing;
use crate::broker::command::{KeepAs, Reader, Work};
use crate::ids::TransactionName;
use crate::selector::Selector;

const T: TransactionName = TransactionName(1);

impl Bench {
    pub(super) fn keep(
        &mut self,
        connection: u64,
        name: &str,
        words: (&str, bool),
    ) -> Result<(), Refusal> {
        let (selector, no_local) = (Selector::parse_optional(words.0).unwrap(), words.1);
        let (client, topic) = (Arc::from(format!("c{connection}")), Arc::from("t"));
        let identify = Command::Identify { client: Arc::clone(&client) };
        self.ask(connection, &identify)?;
        let name = Arc::from(name);
        let keep =
            Box::new(KeepAs { client, name, topic, prefetch: 9, selector, no_local, reader: None });
        let subscription = SubscriptionId(1);
        self.ask(connection, &Command::Keep { subscription, keep }).map(drop)
    }

    pub(super) fn end_kept(&mut self, connection: u64, name: &str) -> Result<(), Refusal> {
        let client = format!("c{connection}").into();
        self.ask(connection, &Command::EndKept { client, name: name.into(), reader: None })
            .map(drop)
    }

    fn publish(&mut self, connection: u64, priority: u8) {
        let message = text(Durability::Persistent, priority);
        self.ask(connection, &Command::Send { to: topic("t"), message }).unwrap();
    }

    pub(super) fn kept(&mut self) -> Vec<u64> {
        let Ok(Verdict::Answer(Reply::Queues(all))) =
            self.ask(9, &Command::ListQueues { after: None })
        else {
            panic!("a list is answered")
        };
        let kept = all.into_iter().filter(|queue| queue.name.starts_with("subscription://"));
        kept.map(|queue| queue.depth).collect()
    }
}

pub(super) fn text(durability: Durability, priority: u8) -> Message {
    let (priority, content) = (Priority::new(priority).unwrap(), Bytes::from_static(b"content"));
    Message { durability, priority, expires: None, when: When::AtOnce, content, grouped: false }
}

#[test]
fn what_is_published_while_nobody_is_there_waits_for_each_and_is_in_the_log_once() {
    let mut bench = Bench::new();
    for connection in [1, 2, 3] {
        bench.keep(connection, "s", ("", false)).unwrap();
        bench.close(connection);
    }
    let before = bench.log.len();
    bench.publish(7, 4);
    assert_eq!(bench.log.len() - before, 1);
    assert_eq!((bench.kept(), bench.live_bytes()), (vec![1, 1, 1], 71));
    bench.restart();
    for (connection, live) in [(1, 71), (2, 71), (3, 0)] {
        bench.keep(connection, "s", ("", false)).unwrap();
        assert_eq!(bench.handed_out(), [(connection, 1)]);
        bench.settle(connection, Which::One(Tag(1)), Outcome::Accepted).unwrap();
        assert_eq!(bench.live_bytes(), live);
    }
}

#[test]
fn only_what_is_wanted_is_kept() {
    let mut bench = Bench::new();
    bench.keep(1, "urgent", ("JMSPriority > 5", false)).unwrap();
    bench.keep(2, "foreign", ("", true)).unwrap();
    [1, 2].into_iter().for_each(|connection| bench.close(connection));
    bench.keep(3, "other", ("", true)).unwrap();
    bench.publish(3, 4);
    bench.publish(3, 9);
    bench.publish(8, 4);
    bench.close(3);
    assert_eq!(bench.kept(), [2 - 1, 3, 1]);
    let before = bench.log.len();
    bench.end_kept(2, "foreign").unwrap();
    bench.end_kept(3, "other").unwrap();
    assert_eq!(bench.kept(), [1]);
    assert!(bench.log.len() > before);
    let before = bench.log.len();
    bench.publish(8, 4);
    assert_eq!(bench.log.len(), before, "nobody wants it");
}

#[test]
fn one_that_is_in_use_is_nobody_elses_and_does_not_end() {
    let mut bench = Bench::new();
    bench.keep(1, "s", ("", false)).unwrap();
    let in_use = Err(Refusal::KeptInUse { client: "c1".into(), name: "s".into() });
    let keep = |client: &str| KeepAs {
        client: client.into(),
        name: "s".into(),
        topic: "t".into(),
        prefetch: 1,
        selector: None,
        no_local: false,
        reader: None,
    };
    let command =
        |client| Command::Keep { subscription: SubscriptionId(2), keep: Box::new(keep(client)) };
    assert_eq!(bench.ask(2, &command("c1")).map(drop), in_use);
    assert_eq!(bench.end_kept(1, "s"), in_use);
    let unknown = Refusal::NoSuchKept { client: "c2".into(), name: "s".into() };
    assert_eq!(bench.end_kept(2, "s"), Err(unknown));
    bench.ask(2, &command("c2")).unwrap();
}

/// Somebody who may read nothing.
#[derive(Debug)]
struct Stranger;

impl Reader for Stranger {
    fn check(&self, topic: &Arc<str>) -> Result<(), Refusal> {
        let (user, right) = ("stranger".into(), "read".into());
        Err(Refusal::NotAllowed { user, right, destination: topic_of(topic) })
    }
}

fn topic_of(name: &Arc<str>) -> Destination {
    Destination::Topic(Arc::clone(name))
}

#[test]
fn who_may_not_read_a_topic_ends_no_subscription_of_it_and_makes_none_anew() {
    let mut bench = Bench::new();
    bench.keep(1, "s", ("", false)).unwrap();
    bench.close(1);
    let reader: Option<Arc<dyn Reader>> = Some(Arc::new(Stranger));
    let (client, name): (Arc<str>, Arc<str>) = ("c1".into(), "s".into());
    let end = Command::EndKept {
        client: Arc::clone(&client),
        name: Arc::clone(&name),
        reader: reader.clone(),
    };
    assert!(matches!(bench.ask(2, &end), Err(Refusal::NotAllowed { .. })));
    let (topic, selector, no_local) = ("other".into(), None, false);
    let keep = Box::new(KeepAs { client, name, topic, prefetch: 9, selector, no_local, reader });
    let keep = Command::Keep { subscription: SubscriptionId(1), keep };
    assert!(matches!(bench.ask(2, &keep), Err(Refusal::NotAllowed { .. })));
    bench.publish(7, 4);
    assert_eq!(bench.kept(), [1]);
}

#[test]
fn other_words_make_it_anew_and_what_the_older_kept_goes() {
    let mut bench = Bench::new();
    bench.keep(1, "s", ("", false)).unwrap();
    bench.publish(7, 4);
    bench.delivered.clear();
    bench.close(1);
    for words in [("a = 1", false), ("", false), ("", true)] {
        bench.keep(1, "s", words).unwrap();
        assert_eq!((bench.handed_out(), bench.kept(), bench.live_bytes()), (vec![], vec![0], 0));
        bench.close(1);
    }
    bench.publish(7, 4);
    bench.restart();
    assert_eq!(bench.kept(), [1]);
}

#[test]
fn what_a_transaction_publishes_is_kept_from_its_commit_on_by_those_who_are_there() {
    for selector in ["", "JMSPriority = 4"] {
        let mut bench = Bench::new();
        for connection in [1, 2] {
            bench.keep(connection, "s", (selector, false)).unwrap();
            bench.close(connection);
        }
        bench.ask(7, &Command::Begin { transaction: T }).unwrap();
        for priority in [4, 4] {
            let message = text(Durability::Persistent, priority);
            let work = Work::Send { to: topic("t"), message };
            bench.ask(7, &Command::Transact { transaction: T, work }).unwrap();
        }
        bench.keep(3, "late", ("", false)).unwrap();
        bench.close(3);
        assert_eq!(bench.kept(), [0, 0, 0]);
        bench.ask(7, &Command::Commit { transaction: T }).unwrap();
        assert_eq!((bench.kept(), bench.live_bytes()), (vec![2, 2, 2], 150));
        bench.keep(4, "later", ("", false)).unwrap();
        bench.restart();
        assert_eq!(bench.kept(), [2, 2, 2, 0]);
        for connection in [1, 2, 3] {
            bench
                .keep(
                    connection,
                    if connection == 3 { "late" } else { "s" },
                    (if connection == 3 { "" } else { selector }, false),
                )
                .unwrap();
            bench.settle(connection, Which::Through(Tag(2)), Outcome::Accepted).unwrap();
        }
        assert_eq!((bench.kept(), bench.live_bytes()), (vec![0, 0, 0, 0], 0));
    }
}

#[test]
fn a_commit_is_spread_after_a_restart_as_well_and_not_to_those_who_came_later() {
    let mut bench = Bench::new();
    bench.keep(1, "s", ("", false)).unwrap();
    bench.close(1);
    bench.ask(7, &Command::Begin { transaction: T }).unwrap();
    let work = Work::Send { to: topic("t"), message: text(Durability::Persistent, 4) };
    bench.ask(7, &Command::Transact { transaction: T, work }).unwrap();
    bench.begin_to(7, &Command::Commit { transaction: T }).unwrap();
    bench.restart();
    let client: Arc<str> = "c2".into();
    let (name, topic) = ("s".into(), "t".into());
    let keep =
        KeepAs { client, name, topic, prefetch: 1, selector: None, no_local: false, reader: None };
    let subscription = SubscriptionId(1);
    bench.begin_to(2, &Command::Keep { subscription, keep: Box::new(keep) }).unwrap();
    bench.settle_down(Effects::new());
    assert_eq!((bench.kept(), bench.live_bytes()), (vec![1, 0], 75));
}

#[test]
fn a_message_that_is_not_persistent_waits_as_long_as_the_broker_runs() {
    let mut bench = Bench::new();
    bench.keep(1, "s", ("", false)).unwrap();
    bench.close(1);
    let message = text(Durability::NonPersistent, 4);
    bench.ask(7, &Command::Send { to: topic("t"), message }).unwrap();
    assert_eq!((bench.kept(), bench.live_bytes()), (vec![1], 0));
    bench.keep(1, "s", ("", false)).unwrap();
    assert_eq!(bench.handed_out(), [(1, 1001)]);
    bench.restart();
    assert_eq!(bench.kept(), [0]);
}

#[test]
fn nobody_sends_to_what_a_subscription_keeps_or_reads_it_by_name() {
    let mut bench = Bench::new();
    for name in ["subscription://c/s?topic=t", "publications://t"] {
        let message = text(Durability::Persistent, 4);
        let send = Command::Send { to: queue(name), message };
        assert_eq!(bench.ask(1, &send), Err(Refusal::ReservedName));
        let (subscription, from) = (SubscriptionId(1), queue(name));
        let read =
            Command::Subscribe { subscription, from: from.clone(), prefetch: 1, selector: None };
        assert_eq!(bench.ask(1, &read), Err(Refusal::ReservedName));
        let standing = Standing { priority: 1, ..Standing::default() };
        let read =
            Command::SubscribeAs { subscription, from, prefetch: 1, selector: None, standing };
        assert_eq!(bench.ask(1, &read), Err(Refusal::ReservedName));
    }
}

#[test]
fn a_payload_is_shared_over_checkpoints_and_dies_with_its_last_holder() {
    let mut bench = Bench::new();
    for connection in [1, 2] {
        bench.keep(connection, "s", ("", false)).unwrap();
        bench.close(connection);
    }
    bench.publish(7, 4);
    let through = bench.log.last().unwrap().0.lsn;
    bench.broker.freeze(through);
    bench.broker.freeze_rows(100).unwrap();
    assert_eq!(bench.broker.shares(false).values().map(|it| it.holders).sum::<i64>(), 2);
    bench.broker.install();
    for connection in [1, 2] {
        bench.keep(connection, "s", ("", false)).unwrap();
        bench.settle(connection, Which::One(Tag(1)), Outcome::Accepted).unwrap();
        bench.close(connection);
    }
    let shares: Vec<_> = bench.broker.shares(false).values().map(|it| it.holders).collect();
    // What the index makes of that is dead: only it knows how many there were.
    assert_eq!((shares, bench.live_bytes()), (vec![-2], 71));
    bench.broker.freeze(bench.log.last().unwrap().0.lsn);
    bench.broker.freeze_rows(100).unwrap();
    bench.broker.unshared([(0, 71)].into());
    bench.broker.install();
    assert_eq!(bench.live_bytes(), 0);
}

#[test]
fn what_a_subscription_keeps_is_in_no_pattern_of_queues() {
    let mut bench = Bench::new();
    bench.subscribe(8, queue(">"), 9);
    bench.keep(1, "s", ("", false)).unwrap();
    bench.close(1);
    bench.publish(7, 4);
    bench.subscribe(9, queue(">"), 9);
    assert_eq!((bench.delivered.len(), bench.kept()), (0, vec![1]));
}

#[test]
fn what_was_published_before_anybody_kept_it_is_kept_by_who_has_come_before_the_commit() {
    let mut bench = Bench::new();
    bench.ask(7, &Command::Begin { transaction: T }).unwrap();
    let publish = |bench: &mut Bench| {
        let work = Work::Send { to: topic("t"), message: text(Durability::Persistent, 4) };
        bench.do_all(7, &Command::Transact { transaction: T, work });
    };
    publish(&mut bench);
    bench.keep(1, "s", ("", false)).unwrap();
    publish(&mut bench);
    publish(&mut bench);
    assert_eq!(bench.kept(), [0]);
    bench.do_all(7, &Command::Commit { transaction: T });
    assert_eq!(bench.kept(), [3]);
}

#[test]
fn a_large_commit_for_subscriptions_keeps_no_queue_waiting() {
    let mut bench = Bench::new();
    bench.keep(1, "s", ("", false)).unwrap();
    bench.close(1);
    bench.subscribe(2, queue("q"), 10);
    bench.ask(7, &Command::Begin { transaction: T }).unwrap();
    for _ in 0..600 {
        let work = Work::Send { to: topic("t"), message: text(Durability::Persistent, 4) };
        bench.ask(7, &Command::Transact { transaction: T, work }).unwrap();
    }
    let (_, mut effects) = bench.begin_to(7, &Command::Commit { transaction: T }).unwrap();
    while !bench.broker.has_publications(bench.now) {
        let mut facts = Vec::new();
        assert!(bench.broker.work(bench.now, &mut facts, &mut effects));
        bench.commit(facts, &mut effects);
    }
    let (_, more) = bench
        .begin_to(8, &Command::Send { to: queue("q"), message: text(Durability::Persistent, 4) })
        .unwrap();
    effects.extend(more);
    let mut steps = 0;
    while !effects.iter().any(|effect| matches!(effect, Effect::Deliver(_))) {
        let mut facts = Vec::new();
        assert!(bench.broker.work(bench.now, &mut facts, &mut effects));
        bench.commit(facts, &mut effects);
        steps += 1;
    }
    assert!(steps <= 3 && bench.broker.has_publications(bench.now), "after {steps} steps");
    bench.settle_down(effects);
}

#[test]
fn no_line_is_left_of_what_was_published_and_rolled_back() {
    let mut bench = Bench::new();
    for to in ["VirtualTopic.a", "VirtualTopic.b"] {
        bench.ask(7, &Command::Begin { transaction: T }).unwrap();
        let work = Work::Send { to: topic(to), message: text(Durability::Persistent, 4) };
        bench.ask(7, &Command::Transact { transaction: T, work }).unwrap();
        let disposition = crate::broker::command::Disposition::Return;
        bench.ask(7, &Command::Rollback { transaction: T, disposition }).unwrap();
    }
    let Ok(Verdict::Answer(Reply::Queues(all))) =
        bench.ask(9, &Command::ListQueues { after: None })
    else {
        panic!("a list is answered")
    };
    assert!(all.is_empty(), "{all:?}");
}

/// Who may read this topic alone.
#[derive(Debug)]
struct ReadsOnly(&'static str);

impl Reader for ReadsOnly {
    fn check(&self, topic: &Arc<str>) -> Result<(), Refusal> {
        if **topic == *self.0 { Ok(()) } else { Err(Refusal::ForOperators) }
    }
}

#[test]
fn a_list_tells_each_subscription_once_in_pages_and_hides_what_may_not_be_read() {
    let mut bench = Bench::new();
    let count = crate::limits::LIST_QUEUES_MAX + 2;
    for number in 0..count {
        bench.keep(1, &format!("s{number:04}"), ("", false)).unwrap();
        bench.close(1);
    }
    bench.end_kept(1, "s0001").unwrap();
    let mut list = |from, reader| match bench.ask(9, &Command::ListKept { from, reader }).unwrap() {
        Verdict::Answer(Reply::Kept(page)) => page,
        other => panic!("{other:?}"),
    };
    let first = list(("".into(), "".into()), None);
    assert_eq!(first.kept.len(), crate::limits::LIST_QUEUES_MAX);
    let second = list(first.next.clone().unwrap(), None);
    let names = first.kept.iter().chain(&second.kept).map(|it| &*it.name);
    let expected = (0..count).filter(|number| *number != 1).map(|number| format!("s{number:04}"));
    assert!(names.eq(expected) && second.next.is_none());
    assert_eq!((&*first.kept[0].client, &*first.kept[0].topic), ("c1", "t"));
    let hidden = list(("".into(), "".into()), Some(Arc::new(ReadsOnly("u"))));
    assert_eq!((hidden.kept.len(), hidden.next), (0, first.next));
    let shown = list(("c1".into(), "s0129".into()), Some(Arc::new(ReadsOnly("t"))));
    assert_eq!(shown.kept.len(), 1);
}
