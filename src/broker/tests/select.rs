//! Promises of selectors: who gets what, in which order, and what it costs.

use super::*;
use crate::broker::command::{Disposition, Work};
use crate::broker::redelivery::Redelivery;
use crate::ids::TransactionName;
use crate::limits;
use crate::message::{BodyKind, Content};
use crate::mutant::{self, Mutant};
use crate::selector::Selector;

impl Bench {
    fn send_with(&mut self, to: Destination, durability: Durability, priority: u8, colour: &str) {
        let properties = vec![("colour".to_owned(), colour.to_owned())];
        let content = Content { kind: BodyKind::Text, properties, body: Bytes::new() };
        let priority = Priority::new(priority).unwrap();
        let (expires, when, content) = (None, When::AtOnce, content.encode());
        let message = Message { durability, priority, expires, when, grouped: false, content };
        self.ask(9, &Command::Send { to, message }).unwrap();
    }

    fn send_coloured(&mut self, colours: &[&str]) {
        for colour in colours {
            self.send_with(queue("q"), Durability::Persistent, 4, colour);
        }
    }

    fn select(&mut self, connection: u64, from: Destination, prefetch: u32, selector: &str) {
        let subscription = SubscriptionId(1);
        let selector = Selector::parse_optional(selector).unwrap();
        let command = Command::Subscribe { subscription, from, prefetch, selector };
        self.ask(connection, &command).unwrap();
    }

    fn accept_all(&mut self, connection: u64) {
        while let Some(held) =
            self.broker.consumers.get(&(ConnectionId(connection), SubscriptionId(1)))
            && let Some((last, _)) = held.loans.last_key_value()
        {
            let which = Which::Through(*last);
            self.settle(connection, which, Outcome::Accepted).unwrap();
        }
    }

    /// All that a consumer gets when it accepts everything, until nothing more comes.
    fn got_by(&mut self, connection: u64) -> Vec<u64> {
        let mut got = Vec::new();
        loop {
            let more = self.handed_out();
            if more.is_empty() {
                return got;
            }
            got.extend(
                more.into_iter().filter(|(who, _)| *who == connection).map(|(_, what)| what),
            );
            self.accept_all(connection);
        }
    }
}

#[test]
fn a_consumer_gets_what_its_selector_matches_in_order_and_others_get_the_rest() {
    let mut bench = Bench::new();
    bench.send_coloured(&["red", "blue", "red", "green", "blue", "red"]);
    bench.select(1, queue("q"), 10, "colour = 'red'");
    assert_eq!(bench.handed_out(), [(1, 1), (1, 3), (1, 6)]);
    bench.select(2, queue("q"), 10, "colour <> 'red' AND colour <> 'green'");
    assert_eq!(bench.handed_out(), [(2, 2), (2, 5)]);
    bench.subscribe(3, queue("q"), 10);
    assert_eq!(bench.handed_out(), [(3, 4)]);
    // What is sent while they wait goes to one of those who want it.
    bench.select(4, queue("q"), 10, "colour = 'nobody'");
    bench.close(3);
    assert_eq!(bench.handed_out(), []);
    bench.send_coloured(&["red", "green", "blue"]);
    assert_eq!(bench.handed_out(), [(1, 7), (2, 9)]);
    bench.subscribe(3, queue("q"), 10);
    assert_eq!(bench.handed_out(), [(3, 4), (3, 8)]);
}

#[test]
fn headers_select_as_properties_do_and_both_sequences_keep_their_order() {
    let mut bench = Bench::new();
    let kinds = [
        (Durability::NonPersistent, 4),
        (Durability::Persistent, 4),
        (Durability::NonPersistent, 9),
        (Durability::Persistent, 2),
        (Durability::NonPersistent, 4),
        (Durability::Persistent, 9),
    ];
    for (durability, priority) in kinds {
        bench.send_with(queue("q"), durability, priority, "red");
    }
    bench.select(1, queue("q"), 10, "JMSPriority >= 4 AND colour = 'red'");
    // Persistent ones by their places, the others from 1001.
    assert_eq!(bench.handed_out(), [(1, 1002), (1, 3), (1, 1001), (1, 1), (1, 1003)]);
    bench.select(2, queue("q"), 10, "JMSDeliveryMode = 'PERSISTENT'");
    assert_eq!(bench.handed_out(), [(2, 2)]);
}

#[test]
fn a_selector_that_matches_nothing_looks_at_each_message_once_whoever_waits() {
    let mut bench = Bench::new();
    let count = 20 * limits::STEP_MESSAGES_MAX;
    bench.send_coloured(&vec!["red"; count]);
    bench.select(1, queue("q"), 10, "colour = 'blue'");
    assert_eq!((bench.judged, bench.handed_out()), (count, vec![]));
    // A second consumer with an equal selector knows what the first does.
    bench.select(2, queue("q"), 10, "colour=  'blue'");
    bench.send_coloured(&["red", "blue"]);
    assert_eq!((bench.judged, bench.handed_out()), (count + 2, vec![(1, count as u64 + 2)]));
    bench.send_coloured(&["blue"]);
    assert_eq!((bench.judged, bench.handed_out()), (count + 3, vec![(2, count as u64 + 3)]));
    // Another takes what they do not want, and they hear nothing of it.
    bench.subscribe(3, queue("q"), 1);
    assert_eq!((bench.judged, bench.handed_out()), (count + 3, vec![(3, 1)]));
}

#[test]
fn what_matches_beyond_the_window_is_found_and_handed_out_in_order() {
    let mut bench = Bench::new();
    let mut expected = Vec::new();
    for number in 1..=150u64 {
        let matches = number % 7 == 0;
        bench.send_coloured(&[if matches { "blue" } else { "red" }]);
        expected.extend(matches.then_some(number));
    }
    bench.select(1, queue("q"), 3, "colour = 'blue'");
    assert_eq!(bench.got_by(1), expected);
    assert_eq!(bench.depth("q").unwrap().depth, 150 - expected.len() as u64);
    bench.close(1);
    bench.subscribe(2, queue("q"), 10);
    assert_eq!(bench.got_by(2), (1..=150).filter(|n| n % 7 != 0).collect::<Vec<_>>());
}

#[test]
fn what_comes_back_is_handed_out_again_before_what_is_later() {
    let mut bench = Bench::new();
    bench.send_coloured(&["blue", "red", "blue", "blue"]);
    bench.select(1, queue("q"), 2, "colour = 'blue'");
    assert_eq!(bench.handed_out(), [(1, 1), (1, 3)]);
    bench.settle(1, Which::One(Tag(1)), Outcome::Returned).unwrap();
    assert_eq!(bench.handed_out(), [(1, 1)]);
    // One that another had, without a selector, is looked at when it comes back.
    bench.close(1);
    bench.subscribe(2, queue("q"), 10);
    assert_eq!(bench.handed_out(), [(2, 1), (2, 2), (2, 3), (2, 4)]);
    bench.select(1, queue("q"), 10, "colour = 'blue'");
    assert_eq!(bench.handed_out(), []);
    bench.close(2);
    assert_eq!(bench.handed_out(), [(1, 1), (1, 3), (1, 4)]);
}

#[test]
fn what_nobody_could_see_when_a_selector_had_looked_at_all_is_found_when_it_comes_back() {
    for delay in [0, 100] {
        let rules = Redelivery { delay, delay_max: 1000, ..Redelivery::none() };
        let mut bench = dead::governed(rules, Vec::new());
        bench.send_coloured(&["blue"]);
        bench.subscribe(2, queue("q"), 1);
        if delay > 0 {
            let lent = bench.delivered.pop_front().unwrap();
            bench.settle(2, Which::One(lent.tag), Outcome::Returned).unwrap();
        }
        bench.delivered.clear();
        // The index alone tells of it now, and is not asked: all that waits is in memory.
        bench.broker.freeze(bench.log.last().unwrap().0.lsn);
        bench.broker.freeze_rows(100).unwrap();
        bench.broker.install();
        bench.select(1, queue("q"), 10, "colour = 'blue'");
        assert_eq!(bench.handed_out(), []);
        bench.close(2);
        bench.now = Millis(1100);
        bench.settle_down(Effects::new());
        assert_eq!(bench.handed_out(), [(1, 1)]);
    }
}

#[test]
fn more_comes_back_than_anybody_notes_and_all_of_it_is_found() {
    let mut bench = Bench::new();
    let count = 5 * limits::SELECTED_RETURNS_MAX as u64;
    for number in 1..=count {
        let durability =
            if number % 3 == 0 { Durability::NonPersistent } else { Durability::Persistent };
        bench.send_with(queue("q"), durability, 4, "blue");
    }
    bench.subscribe(2, queue("q"), 1000);
    assert_eq!(bench.handed_out().len() as u64, count);
    bench.select(1, queue("q"), 1, "colour = 'blue'");
    bench.close(2);
    assert_eq!(bench.got_by(1).len() as u64, count);
}

#[test]
fn a_transaction_holds_what_a_selector_has_matched_and_its_rollback_gives_it_back() {
    let mut bench = Bench::new();
    let transaction = TransactionName(1);
    for disposition in [Disposition::Return, Disposition::Keep] {
        bench.send_coloured(&["blue"]);
        bench.select(1, queue("q"), 1, "colour = 'blue'");
        let [(1, what)] = bench.handed_out()[..] else { panic!("one of them") };
        bench.ask(1, &Command::Begin { transaction }).unwrap();
        let (subscription, which) = (SubscriptionId(1), Which::Through(Tag(1)));
        let work = Work::Settle { subscription, which, outcome: Outcome::Accepted };
        bench.ask(1, &Command::Transact { transaction, work }).unwrap();
        bench.select(2, queue("q"), 5, "colour = 'blue'");
        assert_eq!(bench.handed_out(), []);
        bench.ask(1, &Command::Rollback { transaction, disposition }).unwrap();
        bench.close(1);
        let got = bench.handed_out();
        assert_eq!(got.last(), Some(&(2, what)), "{got:?}");
        bench.accept_all(2);
        bench.close(2);
        assert_eq!(bench.depth("q").unwrap().depth, 0);
    }
}

#[test]
fn what_is_purged_moved_or_over_is_not_handed_out_though_it_matched() {
    let mut bench = Bench::new();
    bench.send_coloured(&["blue"; 20]);
    bench.select(1, queue("q"), 1, "colour = 'blue'");
    assert_eq!(bench.handed_out(), [(1, 1)]);
    bench.ask(9, &Command::Purge { queue: "q".into() }).unwrap();
    bench.accept_all(1);
    assert_eq!(bench.handed_out(), []);
    bench.send_coloured(&["blue"; 3]);
    assert_eq!(bench.handed_out(), [(1, 21)]);
    assert_eq!(bench.depth("q").unwrap().depth, 3);
}

#[test]
fn a_topic_gives_each_subscriber_what_its_selector_matches() {
    let mut bench = Bench::new();
    bench.select(1, topic("t"), 10, "colour = 'blue'");
    bench.subscribe(2, topic("t"), 10);
    for colour in ["red", "blue", "red"] {
        bench.send_with(topic("t"), Durability::Persistent, 4, colour);
    }
    let got = bench.handed_out();
    let of = |who| got.iter().filter(|(other, _)| *other == who).count();
    assert_eq!((of(1), of(2)), (1, 3), "{got:?}");
}

#[test]
fn a_new_life_needs_nothing_of_selectors() {
    let mut bench = Bench::new();
    bench.send_coloured(&["red", "blue", "blue"]);
    bench.select(1, queue("q"), 1, "colour = 'blue'");
    assert_eq!(bench.handed_out(), [(1, 2)]);
    bench.restart();
    bench.select(1, queue("q"), 10, "colour = 'blue'");
    assert_eq!(bench.handed_out(), [(1, 2), (1, 3)]);
}

#[test]
fn a_search_that_looks_nowhere_twice_would_miss_what_comes_back() {
    let mut bench = Bench::new();
    bench.send_coloured(&["blue"]);
    bench.subscribe(2, queue("q"), 10);
    bench.select(1, queue("q"), 10, "colour = 'blue'");
    assert_eq!(bench.handed_out(), [(2, 1)]);
    mutant::set(Some(Mutant::SelectOnce));
    bench.close(2);
    mutant::set(None);
    assert_eq!(bench.handed_out(), []);
}
