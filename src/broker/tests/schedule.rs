//! Promises about messages that are sent to be delivered later.

use super::*;
use crate::broker::command::{Pick, Returns};

impl Bench {
    fn send_later(&mut self, name: &str, delay: u64, expires: Option<u64>) {
        let message = Message {
            durability: Durability::NonPersistent,
            priority: Priority::new(4).unwrap(),
            expires: expires.map(Millis),
            delay,
            content: Bytes::from_static(b"content"),
        };
        self.ask(9, &Command::Send { to: queue(name), message }).unwrap();
    }

    fn pass_to(&mut self, now: u64) {
        self.now = Millis(now);
        self.settle_down(Effects::new());
    }
}

#[test]
fn a_scheduled_message_fires_once_at_its_time_as_if_it_were_sent_then() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 10);
    bench.send_later("q", 500, Some(1600));
    bench.send("q");
    assert_eq!(bench.handed_out(), [(1, 2)], "what is sent later goes before it");
    for _ in 0..2 {
        // A crash neither fires nor forgets it.
        bench.restart();
        bench.subscribe(1, queue("q"), 10);
        assert_eq!(bench.broker.next_deadline(), Some(Millis(1500)));
        bench.handed_out();
        bench.pass_to(1499);
        assert!(bench.handed_out().is_empty());
    }
    // It fires late, and its expiry counts from then: it has as long as it had when it was sent.
    bench.pass_to(1700);
    let given = bench.delivered.pop_front().expect("it has fired");
    let Lent::Durable { place, entry } = &given.message else { panic!("it is durable") };
    assert_eq!((place.seq, entry.at, entry.expires), (3, Millis(1700), Some(Millis(2300))));
    assert!(!given.redelivered && given.attempt == 1 && given.dead.is_none());
    bench.settle(1, Which::One(given.tag), Outcome::Accepted).unwrap();
    bench.restart();
    bench.pass_to(1_000_000);
    assert!(bench.broker.notes().is_empty() && bench.broker.all_delayed(&[]).is_empty());
    assert_eq!(bench.depth("q").map(|queue| queue.depth), Some(1), "only the other is left");
}

#[test]
fn scheduled_messages_fire_in_the_order_of_their_times() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 100);
    for number in 0..30 {
        bench.send_later("q", 30 - number, None);
    }
    bench.pass_to(1010);
    let fired: Vec<_> = bench.delivered.iter().map(|given| given.message.in_log()).collect();
    bench.pass_to(1030);
    let all: Vec<_> = bench.delivered.drain(..).map(|given| given.message.in_log()).collect();
    assert_eq!((fired.len(), all.len()), (10, 30));
    assert!(all.is_sorted_by(|one, other| one > other), "the last sent is the first due");
}

#[test]
fn a_purge_takes_what_is_scheduled() {
    let mut bench = Bench::new();
    (0..20).for_each(|number| bench.send_later("q", 100 + number, None));
    assert_eq!(bench.depth("q").map(|queue| (queue.depth, queue.delayed)), Some((20, 20)));
    bench.ask(8, &Command::Purge { queue: "q".into() }).unwrap();
    assert_eq!(bench.depth("q").map(|queue| (queue.depth, queue.delayed)), Some((0, 0)));
    assert!(bench.broker.notes().is_empty());
    assert_eq!(bench.broker.next_deadline(), None);
}

#[test]
fn a_message_that_is_moved_there_and_back_waits_no_more_and_keeps_its_flag() {
    let mut bench = Bench::new();
    bench.send_later("q", 500, None);
    let shift = |bench: &mut Bench, from: &str, to: &str| {
        let (pick, returns) = (Pick::First(9), Returns::Keep);
        let (from, to) = (from.into(), to.into());
        bench.ask(8, &Command::Move { from, to, pick, returns }).unwrap();
    };
    shift(&mut bench, "q", "r");
    shift(&mut bench, "r", "q");
    bench.subscribe(1, queue("q"), 1);
    assert_eq!(bench.handed_out(), [(1, 2)]);
    bench.restart();
    shift(&mut bench, "q", "r");
    bench.subscribe(1, queue("r"), 1);
    assert!(bench.delivered.pop_front().expect("it is there").redelivered);
}
