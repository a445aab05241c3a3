//! Stories of consumers that want a part of what a queue or a topic holds, and say so by a
//! selector.

use std::time::{Duration, Instant};

use crate::support::broker::{Broker, assert_no_damage, said};
use crate::support::stomp::{Frame, Stomp};
use crate::support::{fresh_dir, wait_until};

fn send(colour: &str, body: &str) -> Frame {
    let send = Frame::new("SEND").with("destination", "/queue/paint").with("persistent", "true");
    send.with("colour", colour).body(body)
}

/// Subscribes with a selector, to be settled one by one.
fn select(stomp: &mut Stomp, id: &str, from: &str, selector: &str, prefetch: u32) {
    let subscribe = Frame::new("SUBSCRIBE").with("id", id).with("destination", from);
    let subscribe = subscribe.with("ack", "client-individual").with("selector", selector);
    stomp.confirm(subscribe.with("activemq.prefetchSize", &prefetch.to_string())).unwrap();
}

/// Sends many at once, and waits for the last.
fn send_all(stomp: &mut Stomp, frames: impl IntoIterator<Item = Frame>) {
    for frame in frames {
        stomp.send(&frame).unwrap();
    }
    // What is confirmed here confirms all before it.
    stomp.confirm(send("none", "barrier").with("barrier", "yes")).unwrap();
}

#[track_caller]
fn take(stomp: &mut Stomp) -> String {
    let message = stomp.message().unwrap();
    stomp.ack(&message).unwrap();
    message.text().to_owned()
}

fn depth(broker: &Broker) -> u64 {
    let queues = broker.queues();
    queues.iter().find(|(queue, ..)| queue == "paint").map_or(0, |(_, depth, _)| *depth)
}

#[test]
fn each_gets_what_its_selector_matches_in_order_and_another_gets_the_rest() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let (mut red, mut blue) = (broker.connect(), broker.connect());
    select(&mut red, "s", "/queue/paint", "colour = 'red' AND JMSPriority < 9", 100);
    select(&mut blue, "s", "/queue/paint", "colour LIKE 'b%e' OR colour IN ('azure')", 3);
    let mut producer = broker.connect();
    let colours = ["red", "blue", "azure", "green"];
    let some = (0..400).map(|number| {
        // Non-persistent ones stand in the same line.
        let persistent = if number % 5 == 0 { "false" } else { "true" };
        let mut frame = send(colours[number % 4], &number.to_string());
        frame.headers.retain(|(name, _)| name != "persistent");
        frame.with("persistent", persistent)
    });
    send_all(&mut producer, some);
    for number in (0..400).step_by(4) {
        assert_eq!(take(&mut red), number.to_string());
    }
    for number in (0..400).filter(|number| matches!(number % 4, 1 | 2)) {
        assert_eq!(take(&mut blue), number.to_string());
    }
    wait_until("the rest is left", || depth(&broker) == 101);
    let mut rest = broker.connect();
    rest.subscribe("s", "/queue/paint", "client-individual").unwrap();
    for number in (3..400).step_by(4) {
        assert_eq!(take(&mut rest), number.to_string());
    }
    assert_eq!(take(&mut rest), "barrier");
    assert_eq!(depth(&broker), 0);
}

#[test]
fn one_that_matches_behind_very_many_that_do_not_is_found_while_others_work() {
    let dir = fresh_dir();
    let count = 20_000;
    let broker = Broker::start(&dir.path().join("data"));
    let mut producer = broker.connect();
    send_all(&mut producer, (0..count).map(|number| send("grey", &number.to_string())));
    producer.confirm(send("gold", "found")).unwrap();
    // After a restart nothing of it is in memory.
    let broker = broker.kill_and_restart();
    let mut seekers: Vec<_> = (0..3).map(|_| broker.connect()).collect();
    for seeker in &mut seekers {
        select(seeker, "s", "/queue/paint", "colour = 'gold'", 1);
    }
    // Whoever wants everything waits for no search.
    let mut other = broker.connect();
    other.subscribe("o", "/queue/paint", "client-individual").unwrap();
    let begun = Instant::now();
    for number in 0..50 {
        assert_eq!(take(&mut other), number.to_string());
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    other.disconnect().unwrap();
    assert_eq!(take(&mut seekers[0]), "found");
    // Those who come later, with the same wish, go on where the first ones are.
    let mut producer = broker.connect();
    for number in 0..30 {
        producer.confirm(send("gold", &number.to_string())).unwrap();
        let found = take(&mut seekers[(number as usize + 1) % 3]);
        assert_eq!(found, number.to_string());
    }
    assert_eq!(depth(&broker), count - 50 + 1);
    assert_no_damage(&broker.kill());
}

#[test]
fn what_matches_far_beyond_what_is_in_memory_comes_in_order_and_over_kills() {
    let dir = fresh_dir();
    let settings = "[memory]\nqueue_window = 16\n";
    let data = dir.path().join("data");
    let broker = Broker::start_configured(&data, settings);
    let mut producer = broker.connect();
    let colour = |number: u64| if number.is_multiple_of(10) { "gold" } else { "grey" };
    let all = (0..3000).map(|number| send(colour(number), &number.to_string()));
    send_all(&mut producer, all);
    let mut stomp = broker.connect();
    select(&mut stomp, "s", "/queue/paint", "colour = 'gold'", 7);
    for number in (0..1500).step_by(10) {
        assert_eq!(take(&mut stomp), number.to_string());
    }
    let held = stomp.message().unwrap();
    assert_eq!(held.text(), "1500");
    let broker = broker.kill_and_restart();
    let mut stomp = broker.connect();
    select(&mut stomp, "s", "/queue/paint", "colour = 'gold'", 7);
    let again = stomp.message().unwrap();
    assert_eq!((again.text(), again.is_redelivered()), ("1500", true));
    stomp.ack(&again).unwrap();
    for number in (1510..3000).step_by(10) {
        assert_eq!(take(&mut stomp), number.to_string());
    }
    assert_eq!(depth(&broker), 2701);
    assert_no_damage(&broker.kill());
}

#[test]
fn what_is_given_back_is_seen_again_whoever_had_it() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut producer = broker.connect();
    for (colour, body) in [("gold", "1"), ("grey", "2"), ("gold", "3"), ("gold", "4")] {
        producer.confirm(send(colour, body)).unwrap();
    }
    // Another, who wants everything, has them all when the search begins.
    let mut other = broker.connect();
    other.subscribe("o", "/queue/paint", "client-individual").unwrap();
    let held: Vec<_> = (0..4).map(|_| other.message().unwrap()).collect();
    let mut stomp = broker.connect();
    select(&mut stomp, "s", "/queue/paint", "colour = 'gold'", 1);
    other.ack(&held[2]).unwrap();
    other.disconnect().unwrap();
    let first = stomp.message().unwrap();
    assert_eq!((first.text(), first.is_redelivered()), ("1", true));
    // It comes first again for the one who gives it back.
    stomp.nack(&first).unwrap();
    let first = stomp.message().unwrap();
    assert_eq!((first.text(), first.header("JMSXDeliveryCount")), ("1", Some("3")));
    stomp.ack(&first).unwrap();
    assert_eq!(take(&mut stomp), "4");
    // In a transaction that is undone it comes back, too.
    producer.confirm(send("gold", "5")).unwrap();
    let fifth = stomp.message().unwrap();
    stomp.send(&Frame::new("BEGIN").with("transaction", "t")).unwrap();
    stomp.confirm(stomp.ack_of(&fifth).with("transaction", "t")).unwrap();
    stomp.confirm(Frame::new("ABORT").with("transaction", "t")).unwrap();
    assert_eq!(take(&mut stomp), "5");
    assert_eq!(depth(&broker), 1);
}

#[test]
fn headers_are_text_and_compared_with_numbers_where_a_selector_says_so() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut producer = broker.connect();
    for size in [5, 12, 100] {
        producer.confirm(send("any", &size.to_string()).with("size", &size.to_string())).unwrap();
    }
    let mut stomp = broker.connect();
    select(&mut stomp, "text", "/queue/paint", "size > 10", 10);
    select(&mut stomp, "one", "/queue/paint", "size = '5'", 10);
    select(&mut stomp, "number", "/queue/paint", "convert_string_expressions:size > 10", 10);
    let mut got: Vec<_> = (0..3)
        .map(|_| {
            let message = stomp.message().unwrap();
            (message.text().to_owned(), message.header("subscription").unwrap().to_owned())
        })
        .collect();
    got.sort();
    let expected = [("100", "number"), ("12", "number"), ("5", "one")];
    assert_eq!(got, expected.map(|(body, id)| (body.to_owned(), id.to_owned())));
    let shown = said(&broker.queue_command(&["show", "paint"]));
    assert!(shown.contains("where size = '5'"), "{shown}");
}

#[test]
fn a_topic_is_filtered_for_each_subscriber_as_messages_come() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    select(&mut stomp, "gold", "/topic/news", "colour = 'gold'", 10);
    let mut all = broker.connect();
    all.subscribe("all", "/topic/news", "auto").unwrap();
    let mut producer = broker.connect();
    for (colour, body) in [("grey", "1"), ("gold", "2"), ("grey", "3"), ("gold", "4")] {
        let frame = Frame::new("SEND").with("destination", "/topic/news").with("colour", colour);
        producer.confirm(frame.body(body)).unwrap();
    }
    for body in ["2", "4"] {
        assert_eq!(take(&mut stomp), body);
    }
    for body in ["1", "2", "3", "4"] {
        assert_eq!(all.message().unwrap().text(), body);
    }
}

#[test]
fn a_bad_selector_is_refused_with_the_place_of_the_mistake() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    for (selector, says) in [
        ("colour = 'gold", "at character 10: this quote is never closed"),
        ("colour = 'gold' AND", "at character 20: expected a name"),
        ("XPATH '//gold'", "XPATH looks into bodies"),
    ] {
        let mut stomp = broker.connect();
        let subscribe = Frame::new("SUBSCRIBE").with("id", "s").with("selector", selector);
        stomp.send(&subscribe.with("destination", "/queue/paint")).unwrap();
        let error = stomp.receive().unwrap();
        assert_eq!(error.command, "ERROR");
        let message = error.header("message").unwrap();
        assert!(message.contains(says), "{message}");
        stomp.wait_closed();
    }
}
