//! Promises about consumers that are not all alike: of patterns, of priorities, exclusive ones.

use super::super::redelivery::Redelivery;
use super::dead::governed;
use super::*;
use crate::broker::Standing;
use crate::limits;

fn stand(bench: &mut Bench, who: u64, prefetch: u32, standing: Standing) -> Result<(), Refusal> {
    let (subscription, from, selector) = (SubscriptionId(1), queue("q"), None);
    let command = Command::SubscribeAs { subscription, from, prefetch, selector, standing };
    bench.ask(who, &command).map(drop)
}

fn of_priority(priority: i8) -> Standing {
    Standing { priority, ..Standing::default() }
}

fn exclusive(priority: i8) -> Standing {
    Standing { priority, exclusive: true, pending: None }
}

/// Settles in as many parts as it takes.
fn accept(bench: &mut Bench, who: u64, through: u64) {
    let (subscription, outcome) = (SubscriptionId(1), Outcome::Accepted);
    let command = Command::Settle { subscription, which: Which::Through(Tag(through)), outcome };
    while bench.ask(who, &command).unwrap() == Verdict::Part {}
}

/// Who got what from where since the last call.
fn got(bench: &mut Bench) -> Vec<(u64, String)> {
    bench.delivered.drain(..).map(|it| (it.key.0.0, it.source.to_string())).collect()
}

fn whose(bench: &mut Bench) -> Vec<u64> {
    got(bench).into_iter().map(|(who, _)| who).collect()
}

#[test]
fn a_consumer_of_a_pattern_reads_from_queues_that_are_there_and_that_come_within_its_own_credit() {
    let mut bench = Bench::new();
    let many = 3 * limits::STEP_MESSAGES_MAX;
    for number in 0..many {
        bench.send(&format!("a.{number}"));
    }
    bench.send("b");
    bench.send("ActiveMQ.DLQ");
    bench.subscribe(1, queue("a.*"), 4);
    assert_eq!(whose(&mut bench), [1; 4]);
    assert!(bench.depth("a.*").is_none(), "a pattern is no queue");
    let mut count = 4;
    while count < many {
        let tag = Tag(count as u64 - 3);
        bench.settle(1, Which::One(tag), Outcome::Accepted).unwrap();
        count += got(&mut bench).len();
        assert!(count <= many);
    }
    accept(&mut bench, 1, many as u64);
    assert_eq!(got(&mut bench), []);
    bench.send("a.later");
    bench.send_as("a.0", Durability::NonPersistent, 4, None);
    bench.send("a.b.c");
    assert_eq!(got(&mut bench), [(1, "a.later".to_owned()), (1, "a.0".to_owned())]);
    accept(&mut bench, 1, many as u64 + 2);
    let later = bench.depth("a.later").unwrap();
    assert_eq!((later.depth, later.consumers), (0, 1), "operators see who reads from it");
    bench.close(1);
    assert!(bench.broker.families.is_empty() && bench.broker.queue_wildcards.is_empty());
    bench.send("a.later");
    assert_eq!(got(&mut bench), []);
    bench.subscribe(2, queue("a.later"), 4);
    assert_eq!(whose(&mut bench), [2]);
    assert_eq!(bench.broker.loans(), (1, 1));
}

#[test]
fn what_a_consumer_of_a_pattern_settles_or_leaves_goes_to_the_queue_it_came_from() {
    let rules = Redelivery { maximum: 1, ..Redelivery::none() };
    let mut bench = governed(rules, vec![]);
    bench.subscribe(1, queue(">"), 100);
    for name in ["a", "b", "a", "c", "c"] {
        bench.send(name);
    }
    bench.send_as("b", Durability::NonPersistent, 4, None);
    assert_eq!(got(&mut bench).len(), 6);
    // In parts, each of one queue, and answered once.
    let (subscription, which) = (SubscriptionId(1), Which::Through(Tag(4)));
    let settle = |outcome| Command::Settle { subscription, which, outcome };
    for _ in 0..3 {
        assert_eq!(bench.ask(1, &settle(Outcome::Accepted)), Ok(Verdict::Part));
    }
    assert_eq!(bench.ask(1, &settle(Outcome::Accepted)), Ok(Verdict::Answer(Reply::Done)));
    bench.close(1);
    let depth = |bench: &mut Bench, name| bench.depth(name).map_or(0, |it| it.depth);
    let depths = ["a", "b", "c"].map(|name| depth(&mut bench, name));
    assert_eq!(depths, [0, 1, 1], "two were left, one of each kind");
    assert_eq!(bench.broker.loans(), (0, 0));
    // What comes back too often leaves its own queue.
    bench.subscribe(2, queue("*"), 100);
    assert_eq!(got(&mut bench).len(), 2);
    bench.settle(2, Which::One(Tag(1)), Outcome::Returned).unwrap();
    bench.settle(2, Which::One(Tag(2)), Outcome::Returned).unwrap();
    let left = depth(&mut bench, "b") + depth(&mut bench, "c");
    assert_eq!(
        (left, depth(&mut bench, "ActiveMQ.DLQ")),
        (0, 1),
        "a non-persistent one is dropped"
    );
}

#[test]
fn consumers_of_patterns_and_of_the_queue_itself_take_turns() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 100);
    bench.subscribe(2, queue("*"), 100);
    (0..20).for_each(|_| bench.send("q"));
    let got = whose(&mut bench);
    let of = |who: u64| got.iter().filter(|other| **other == who).count();
    assert_eq!((of(1), of(2)), (10, 10));
}

#[test]
fn higher_consumers_go_first_while_they_have_credit() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 1);
    stand(&mut bench, 2, 2, of_priority(5)).unwrap();
    stand(&mut bench, 3, 1, of_priority(-5)).unwrap();
    stand(&mut bench, 4, 2, of_priority(5)).unwrap();
    (0..8).for_each(|_| bench.send("q"));
    assert_eq!(whose(&mut bench), [2, 4, 2, 4, 1, 3]);
    bench.settle(1, Which::One(Tag(1)), Outcome::Accepted).unwrap();
    assert_eq!(whose(&mut bench), [1]);
    bench.close(1);
    bench.settle(4, Which::One(Tag(1)), Outcome::Accepted).unwrap();
    assert_eq!(whose(&mut bench), [4], "what came back was next");
    (2..=4).for_each(|who| bench.close(who));
    bench.subscribe(1, queue("q"), 100);
    assert_eq!(whose(&mut bench).len(), 6, "nothing is lost");
}

#[test]
fn one_exclusive_consumer_gets_all_and_the_next_takes_over() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 100);
    stand(&mut bench, 2, 2, exclusive(0)).unwrap();
    stand(&mut bench, 3, 100, exclusive(0)).unwrap();
    (0..4).for_each(|_| bench.send("q"));
    assert_eq!(whose(&mut bench), [2, 2], "the others wait though it has no credit");
    bench.settle(2, Which::One(Tag(1)), Outcome::Accepted).unwrap();
    assert_eq!(whose(&mut bench), [2]);
    stand(&mut bench, 4, 1, exclusive(7)).unwrap();
    assert_eq!(whose(&mut bench), [4], "a higher one takes it over");
    bench.close(4);
    bench.settle(2, Which::Through(Tag(3)), Outcome::Accepted).unwrap();
    assert_eq!(whose(&mut bench), [2]);
    bench.close(2);
    assert_eq!(whose(&mut bench), [3]);
    bench.close(3);
    assert_eq!(whose(&mut bench), [1]);
    let selector = crate::selector::Selector::parse_optional("a = 1").unwrap();
    let (subscription, from, standing) = (SubscriptionId(1), queue("q"), exclusive(0));
    let command = Command::SubscribeAs { subscription, from, prefetch: 1, selector, standing };
    assert_eq!(bench.ask(5, &command), Err(Refusal::ExclusiveSelector));
}

#[test]
fn consumers_of_patterns_and_selectors_get_nothing_of_a_queue_that_one_has_to_itself() {
    let mut bench = Bench::new();
    stand(&mut bench, 1, 1, exclusive(0)).unwrap();
    bench.subscribe(2, queue(">"), 100);
    let selector = crate::selector::Selector::parse_optional("JMSPriority = 4").unwrap();
    let (subscription, from) = (SubscriptionId(1), queue("q"));
    bench.ask(3, &Command::Subscribe { subscription, from, prefetch: 9, selector }).unwrap();
    (0..3).for_each(|_| bench.send("q"));
    assert_eq!(whose(&mut bench), [1]);
    bench.close(1);
    assert_eq!(whose(&mut bench).len(), 3);
}

#[test]
fn a_consumer_of_a_pattern_with_little_credit_reads_from_all_queues_in_turn() {
    let mut bench = Bench::new();
    for name in ["a.1", "a.2", "a.1", "a.2", "a.1", "a.2"] {
        bench.send(name);
    }
    bench.subscribe(1, queue("a.*"), 1);
    let mut from = Vec::new();
    for tag in 1..=4 {
        from.extend(got(&mut bench).into_iter().map(|(_, from)| from));
        bench.settle(1, Which::One(Tag(tag)), Outcome::Accepted).unwrap();
    }
    assert_eq!(from, ["a.1", "a.2", "a.1", "a.2"]);
}

#[test]
fn a_queue_that_goes_keeps_the_others_of_its_pattern_from_nobody() {
    let mut bench = Bench::new();
    ["a.0", "a.1", "a.2"].into_iter().for_each(|name| bench.send(name));
    bench.subscribe(1, queue("a.*"), 1);
    assert_eq!(got(&mut bench), [(1, "a.0".to_owned())]);
    bench.ask(9, &Command::Delete { queue: "a.1".into() }).unwrap();
    bench.settle(1, Which::One(Tag(1)), Outcome::Accepted).unwrap();
    assert_eq!(got(&mut bench), [(1, "a.2".to_owned())]);
}
