//! Promises to consumers that say how much they want, and what they have not seen.

use super::dead::{DLQ, governed, twice};
use super::*;
use crate::message::Durability;

impl Bench {
    fn credit(&mut self, connection: u64, prefetch: u32) {
        let subscription = SubscriptionId(1);
        self.ask(connection, &Command::Credit { subscription, prefetch }).unwrap();
    }
}

#[test]
fn a_consumer_without_credit_gets_as_much_as_it_asks_for() {
    let mut bench = Bench::new();
    for _ in 0..4 {
        bench.send("q");
    }
    bench.subscribe(1, queue("q"), 0);
    assert_eq!(bench.handed_out(), []);
    bench.credit(1, 1);
    assert_eq!(bench.handed_out(), [(1, 1)]);
    bench.credit(1, 0);
    bench.settle(1, Which::One(Tag(1)), Outcome::Accepted).unwrap();
    assert_eq!(bench.handed_out(), [], "the credit is gone");
    bench.credit(1, 2);
    assert_eq!(bench.handed_out(), [(1, 2), (1, 3)]);
}

#[test]
fn a_consumer_that_loses_its_credit_holds_up_nobody() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 1);
    bench.subscribe(2, queue("q"), 1);
    bench.credit(1, 0);
    bench.send("q");
    bench.send("q");
    assert_eq!(bench.handed_out(), [(2, 1)]);
    bench.credit(1, 1);
    assert_eq!(bench.handed_out(), [(1, 2)]);
}

#[test]
fn who_was_given_few_because_all_had_too_many_gets_the_rest_when_others_have_ended() {
    let limits = Limits { loans: 10, loans_of_all: 8, ..Limits::default() };
    let mut bench = Bench::with(limits);
    for _ in 0..20 {
        bench.send("q");
    }
    bench.subscribe(1, queue("q"), 6);
    bench.subscribe(2, queue("q"), 6);
    bench.subscribe(3, queue("q"), 6);
    // Eight are all that there may be, but for the two that everybody has.
    let to = |bench: &mut Bench, connection| {
        let (his, rest) = bench
            .delivered
            .drain(..)
            .partition::<VecDeque<_>, _>(|given| given.key.0.0 == connection);
        bench.delivered = rest;
        his.len()
    };
    assert_eq!([1, 2, 3].map(|connection| to(&mut bench, connection)), [6, 2, 2]);
    bench.credit(1, 0);
    // Neither of the others acknowledges anything before it has six.
    bench.settle(1, Which::Through(Tag(6)), Outcome::Accepted).unwrap();
    let later = [2, 3].map(|connection| to(&mut bench, connection));
    assert_eq!((later.iter().sum::<usize>(), later.contains(&0)), (4, false), "{later:?}");
    bench.close(1);
    assert_eq!(bench.broker.loans().0, bench.broker.loans().1);
}

#[test]
fn who_waited_for_its_own_when_all_came_to_have_too_many_waits_for_all_from_then_on() {
    let limits = Limits { loans: 4, loans_of_all: 8, ..Limits::default() };
    let mut bench = Bench::with(limits);
    for _ in 0..20 {
        bench.send("q");
    }
    bench.send("other");
    bench.subscribe(1, queue("q"), 4);
    let (subscription, from) = (SubscriptionId(2), queue("other"));
    let waits = Command::Subscribe { subscription, from, prefetch: 1, selector: None };
    bench.ask(1, &waits).unwrap();
    bench.subscribe(2, queue("q"), 4);
    bench.subscribe(3, queue("q"), 2);
    assert_eq!(bench.delivered.drain(..).count(), 10);
    for connection in [1, 2] {
        bench.credit(connection, 0);
    }
    bench.settle(1, Which::One(Tag(1)), Outcome::Accepted).unwrap();
    assert_eq!(bench.delivered.len(), 0);
    bench.settle(2, Which::Through(Tag(4)), Outcome::Accepted).unwrap();
    let given: Vec<_> = bench.delivered.drain(..).map(|given| given.key.1).collect();
    assert_eq!(given, [SubscriptionId(2)]);
}

#[test]
fn a_range_settles_what_is_in_it_and_nothing_before_or_after() {
    let mut bench = Bench::new();
    for _ in 0..20 {
        bench.send("q");
    }
    bench.subscribe(1, queue("q"), 20);
    bench.handed_out();
    let missing = bench.settle(1, Which::Range(Tag(3), Tag(21)), Outcome::Accepted);
    assert_eq!(missing, Err(Refusal::NotOutstanding(Tag(21))));
    // More than one step takes: it is asked again for the rest, as the engine does.
    let (subscription, which) = (SubscriptionId(1), Which::Range(Tag(3), Tag(18)));
    let settle = Command::Settle { subscription, which, outcome: Outcome::Accepted };
    let mut parts = 1;
    while matches!(bench.ask(1, &settle).unwrap(), Verdict::Part) {
        parts += 1;
    }
    assert_eq!(parts, 2);
    assert_eq!(bench.depth("q").unwrap().depth, 4);
    bench.close(1);
    bench.subscribe(2, queue("q"), 20);
    assert_eq!(bench.handed_out(), [(2, 1), (2, 2), (2, 19), (2, 20)]);
}

#[test]
fn what_its_consumer_has_not_seen_returns_uncounted() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        bench.send("q");
    }
    bench.subscribe(1, queue("q"), 3);
    bench.handed_out();
    let (subscription, unseen) = (SubscriptionId(1), Tag(2));
    bench.ask(1, &Command::Withdraw { subscription, unseen }).unwrap();
    bench.subscribe(2, queue("q"), 3);
    let attempts: Vec<_> = bench.delivered.drain(..).map(|given| given.attempt).collect();
    assert_eq!(attempts, [2, 1, 1]);
}

#[test]
fn what_its_consumer_gives_up_is_set_apart_at_once_whatever_the_rules() {
    let mut bench = governed(twice(), Vec::new());
    bench.send("q");
    bench.send("q");
    bench.send_as("q", Durability::NonPersistent, 4, None);
    bench.subscribe(1, queue("q"), 9);
    bench.handed_out();
    bench.settle(1, Which::Range(Tag(1), Tag(3)), Outcome::Rejected).unwrap();
    assert_eq!(bench.depth("q").unwrap().depth, 0);
    bench.restart();
    bench.subscribe(2, queue(DLQ), 9);
    let dead: Vec<_> = bench.delivered.drain(..).map(|given| given.dead.unwrap()).collect();
    assert_eq!(dead.len(), 2, "what lives in memory alone is dropped, as the rules say");
    assert!(dead.iter().all(|dead| &*dead.origin == "q" && dead.cause().contains("gave it up")));
}

#[test]
fn what_is_given_up_where_the_dead_lie_stays_there() {
    let mut bench = governed(twice(), Vec::new());
    bench.send(DLQ);
    bench.subscribe(1, queue(DLQ), 1);
    bench.settle(1, Which::One(Tag(1)), Outcome::Rejected).unwrap();
    assert_eq!(bench.depth(DLQ).unwrap().depth, 1);
    assert_eq!(bench.handed_out(), [(1, 1), (1, 1)]);
}
