//! Promises about messages for very many subscriptions, counted in steps and not in time.

use super::super::command::{Standing, Work};
use super::*;
use crate::ids::TransactionName;
use crate::limits;

/// More subscriptions than get a message in one step.
const MANY: u64 = 5 * limits::PUBLISH_STEP as u64;

pub(super) fn publish_on(name: &str) -> Command {
    let message = Message {
        durability: Durability::NonPersistent,
        priority: Priority::DEFAULT,
        expires: None,
        when: When::AtOnce,
        grouped: false,
        content: Bytes::from_static(b"news"),
    };
    Command::Send { to: topic(name), message }
}

fn publish() -> Command {
    publish_on("t")
}

/// One step of what follows by itself: who gets which message, and whether there may be more.
fn step(bench: &mut Bench) -> (Vec<(u64, u64)>, bool) {
    let (mut facts, mut effects) = (Vec::new(), Effects::new());
    let more = bench.broker.work(bench.now, &mut facts, &mut effects);
    bench.commit(facts, &mut effects);
    for effect in effects {
        match effect {
            Effect::Deliver(assignment) => bench.delivered.push_back(assignment),
            Effect::Answer { result, .. } => bench.answers.push(result),
            other => panic!("{other:?}"),
        }
    }
    (bench.handed_out(), more)
}

fn many_subscribers() -> Bench {
    let mut bench = Bench::with(Limits { topic_backlog: 100, ..Limits::default() });
    (1..=MANY).for_each(|who| bench.subscribe(who, topic("t"), 100));
    bench
}

#[test]
fn a_message_for_very_many_goes_to_some_in_each_step_and_its_publisher_waits_for_the_last() {
    let mut bench = many_subscribers();
    let (verdict, effects) = bench.begin_to(99, &publish()).unwrap();
    assert!(matches!(verdict, Verdict::Fence) && effects.is_empty());
    let mut got = Vec::new();
    while bench.answers.is_empty() {
        let (given, more) = step(&mut bench);
        assert!(more, "nobody else brings it on");
        assert!(given.len() <= limits::PUBLISH_STEP, "{given:?} in one step");
        got.extend(given);
    }
    assert_eq!(bench.answers, [Ok(Reply::Done)]);
    assert_eq!(got, (1..=MANY).map(|who| (who, 2001)).collect::<Vec<_>>());
    while step(&mut bench).1 {}
    assert!(!bench.broker.has_work(bench.now));
}

#[test]
fn nothing_that_is_published_later_overtakes_a_message_that_stands_in_line() {
    let mut bench = many_subscribers();
    bench.begin_to(98, &publish()).unwrap();
    let mut got = step(&mut bench).0;
    bench.begin_to(99, &publish()).unwrap();
    // One who comes now gets what comes after; of those who go nobody gets anything more.
    bench.begin_to(50, &subscribe()).unwrap();
    (2..=MANY).for_each(|who| leave(&mut bench, who));
    let before = got.iter().filter(|(who, _)| *who > 1).count();
    let (verdict, _) = bench.begin_to(97, &publish()).unwrap();
    assert!(matches!(verdict, Verdict::Fence), "few are left, and others stand in line");
    loop {
        let (given, more) = step(&mut bench);
        got.extend(given);
        if !more {
            break;
        }
    }
    let of = |who: u64| got.iter().filter(move |(other, _)| *other == who).map(|(_, what)| *what);
    assert_eq!(of(1).collect::<Vec<_>>(), [2001, 2002, 2003]);
    assert_eq!(of(50).collect::<Vec<_>>(), [2003]);
    assert_eq!(got.len(), 4 + before);
    assert_eq!(bench.answers.len(), 3);
}

fn leave(bench: &mut Bench, who: u64) {
    let mut facts = Vec::new();
    assert!(bench.broker.decide_close(bench.now, ConnectionId(who), &mut facts));
    bench.commit(facts, &mut Effects::new());
}

fn subscribe() -> Command {
    Command::Subscribe {
        subscription: SubscriptionId(1),
        from: topic("t"),
        prefetch: 100,
        selector: None,
    }
}

#[test]
fn a_publisher_is_told_though_everyone_has_left_and_nothing_is_kept_in_memory() {
    let mut bench = many_subscribers();
    bench.begin_to(99, &publish()).unwrap();
    assert!(bench.broker.volatile_bytes() > 0);
    (1..=MANY).for_each(|who| leave(&mut bench, who));
    bench.settle_down(Effects::new());
    assert_eq!(bench.handed_out(), []);
    assert_eq!(bench.answers, [Ok(Reply::Done)]);
    assert_eq!(bench.broker.volatile_bytes(), 0);
    assert!(bench.broker.topics.is_empty());
    bench.ask(99, &publish()).unwrap();
    assert_eq!(bench.handed_out(), []);
}

#[test]
fn a_commit_is_answered_when_everybody_has_what_it_publishes_and_no_step_of_it_is_long() {
    let mut bench = many_subscribers();
    let transaction = TransactionName(1);
    bench.ask(99, &Command::Begin { transaction }).unwrap();
    for _ in 0..3 {
        let Command::Send { to, message } = publish() else { unreachable!() };
        let work = Work::Send { to, message };
        bench.ask(99, &Command::Transact { transaction, work }).unwrap();
    }
    let commit = Command::Commit { transaction };
    let (verdict, _) = bench.begin_to(99, &commit).unwrap();
    assert!(matches!(verdict, Verdict::Fence));
    let mut got = Vec::new();
    while bench.answers.is_empty() {
        let given = step(&mut bench).0;
        assert!(given.len() <= limits::PUBLISH_STEP, "{given:?} in one step");
        got.extend(given);
    }
    let all = (2001..=2003).flat_map(|what| (1..=MANY).map(move |who| (who, what)));
    assert_eq!(got, all.collect::<Vec<_>>());
    assert_eq!(bench.answers, [Ok(Reply::Done)]);
    while step(&mut bench).1 {}
    bench.ask(99, &Command::Begin { transaction }).unwrap();
}

#[test]
fn a_connection_with_very_many_subscriptions_ends_some_in_each_step() {
    let mut bench = Bench::new();
    let count = 3 * limits::STEP_ENDS_MAX as u64 + 1;
    for number in 1..=count {
        let (subscription, from) = (SubscriptionId(number), queue("q"));
        bench
            .ask(1, &Command::Subscribe { subscription, from, prefetch: 1, selector: None })
            .unwrap();
    }
    let (mut ended, mut over) = (0, false);
    while !over {
        let mut facts = Vec::new();
        over = bench.broker.decide_close(bench.now, ConnectionId(1), &mut facts);
        assert!(facts.len() <= limits::STEP_ENDS_MAX, "{} facts in one step", facts.len());
        ended += facts.len() as u64;
        bench.commit(facts, &mut Effects::new());
    }
    assert_eq!(ended, count);
}

#[test]
fn the_line_of_a_topic_is_bounded_and_the_next_publisher_waits() {
    let mut bench = many_subscribers();
    for who in 0..limits::PUBLICATIONS_MAX as u64 {
        let (verdict, _) = bench.begin_to(100 + who, &publish()).unwrap();
        assert!(matches!(verdict, Verdict::Fence));
    }
    let hold =
        |bench: &mut Bench| matches!(bench.begin_to(99, &publish()), Ok((it, _)) if it.is_hold());
    assert!(hold(&mut bench));
    bench.broker.watch(&topic("t"));
    while bench.answers.is_empty() {
        assert!(hold(&mut bench));
        assert!(step(&mut bench).1);
    }
    assert_eq!(bench.broker.take_freed(), [topic("t")]);
    assert!(!hold(&mut bench));
}

#[test]
fn bytes_in_the_lines_of_topics_are_bounded_but_for_one_message_each() {
    let volatile_bytes = limits::TOPIC_SHARE * 1000;
    let limits = Limits { topic_backlog: 100, volatile_bytes, ..Limits::default() };
    let mut bench = Bench::with(limits);
    for who in 1..=MANY {
        bench.subscribe(who, topic("t"), 100);
        let (subscription, from) = (SubscriptionId(2), topic("u"));
        bench
            .ask(who, &Command::Subscribe { subscription, from, prefetch: 9, selector: None })
            .unwrap();
    }
    let Command::Send { message, .. } = publish() else { unreachable!() };
    let elsewhere = Command::Send { to: topic("u"), message };
    for who in 100..102 {
        assert_eq!(bench.begin_to(who, &publish()).unwrap().0, Verdict::Fence);
    }
    assert!(bench.begin_to(102, &publish()).unwrap().0.is_hold());
    assert_eq!(bench.begin_to(103, &elsewhere).unwrap().0, Verdict::Fence);
    assert!(bench.begin_to(104, &elsewhere).unwrap().0.is_hold());
    bench.settle_down(Effects::new());
    assert_eq!(bench.begin_to(102, &publish()).unwrap().0, Verdict::Fence);
}

#[test]
fn who_wants_few_to_wait_keeps_the_newest_and_the_others_keep_all() {
    let mut bench = Bench::with(Limits { topic_backlog: 100, ..Limits::default() });
    bench.subscribe(1, topic("t"), 1);
    let standing = Standing { pending: Some(2), ..Standing::default() };
    let (subscription, from) = (SubscriptionId(1), topic("t"));
    let few = Command::SubscribeAs { subscription, from, prefetch: 1, selector: None, standing };
    bench.ask(2, &few).unwrap();
    for _ in 0..5 {
        bench.ask(99, &publish()).unwrap();
    }
    for tag in 1..=5 {
        bench.settle(1, Which::One(Tag(tag)), Outcome::Accepted).unwrap();
    }
    for tag in 1..=3 {
        bench.settle(2, Which::One(Tag(tag)), Outcome::Accepted).unwrap();
    }
    let given = bench.handed_out();
    let to = |who| given.iter().filter(move |it| it.0 == who).map(|it| it.1 - 2000);
    assert_eq!(to(1).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(to(2).collect::<Vec<_>>(), [1, 4, 5]);
    assert_eq!(bench.broker.dropped().from_topics, 2);
}

#[test]
fn what_has_waited_for_a_subscriber_that_goes_is_dropped_some_in_each_step() {
    let mut bench = Bench::with(Limits { topic_backlog: 100, ..Limits::default() });
    bench.subscribe(1, topic("t"), 1);
    for _ in 0..50 {
        bench.ask(99, &publish()).unwrap();
    }
    let one = bench.broker.volatile_bytes() / 50;
    leave(&mut bench, 1);
    let mut before = bench.broker.volatile_bytes();
    assert_eq!(before, 50 * one);
    while before > 0 {
        assert!(step(&mut bench).1);
        let now = bench.broker.volatile_bytes();
        assert!(now < before && before - now <= limits::STEP_MESSAGES_MAX as u64 * one);
        before = now;
    }
    while step(&mut bench).1 {}
    assert!(bench.broker.topics.is_empty() && !bench.broker.has_work(bench.now));
}
