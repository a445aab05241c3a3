//! Flow control of the real process, over raw STOMP: who waits for room, who is told, and that
//! nobody stands still for ever.

use crate::support::broker::Broker;
use crate::support::stomp::{Frame, Stomp};
use crate::support::{fresh_dir, wait_until};

/// A broker on which the queues `few.*` hold two messages.
fn limited(when_full: &str) -> (tempfile::TempDir, Broker) {
    limited_to(&format!("name = \"queue://few.*\"\nmessages = 2\nwhen_full = \"{when_full}\""), "")
}

fn limited_to(limit: &str, others: &str) -> (tempfile::TempDir, Broker) {
    let dir = fresh_dir();
    let settings = format!("{others}\n[[destinations]]\n{limit}\n");
    let broker = Broker::start_configured(&dir.path().join("data"), &settings);
    (dir, broker)
}

fn send(to: &str, body: &str) -> Frame {
    Frame::new("SEND").with("destination", to).body(body)
}

#[test]
fn a_producer_to_a_full_queue_waits_until_a_consumer_comes() {
    let (_dir, broker) = limited("hold");
    let mut producer = broker.connect();
    for body in ["1", "2"] {
        producer.publish("/queue/few.a", body).unwrap();
    }
    let third = producer.ask(send("/queue/few.a", "3")).unwrap();
    // Others are served, and know that the first two alone are there.
    let mut other = broker.connect();
    other.publish("/queue/free", "x").unwrap();
    wait_until("the queue is full", || broker.queues().contains(&("few.a".to_owned(), 2, 0)));
    let mut consumer = broker.connect();
    consumer.subscribe("s", "/queue/few.a", "client-individual").unwrap();
    let first = consumer.message().unwrap();
    consumer.ack(&first).unwrap();
    let receipt = producer.receive().unwrap();
    assert_eq!(receipt.header("receipt-id"), Some(&*third), "{receipt:?}");
    assert_eq!(consumer.message().unwrap().text(), "2");
    assert_eq!(consumer.message().unwrap().text(), "3");
}

#[test]
fn one_connection_that_produces_into_a_full_queue_and_consumes_from_it_gets_through() {
    const MESSAGES: usize = 300;
    for (receipts, ack) in [(true, "client-individual"), (false, "client"), (false, "auto")] {
        let (_dir, broker) = limited("hold");
        let mut stomp = broker.connect();
        let subscribe = Frame::new("SUBSCRIBE").with("id", "s").with("destination", "/queue/few.a");
        let subscribe = subscribe.with("ack", ack).with("activemq.prefetchSize", "1");
        stomp.confirm(subscribe).unwrap();
        // All of them at once: most wait for room that only this connection's own ACKs make.
        let sends = if receipts { 200 } else { MESSAGES };
        for number in 0..sends {
            let frame = send("/queue/few.a", &number.to_string());
            if receipts {
                stomp.ask(frame).unwrap();
            } else {
                stomp.send(&frame).unwrap();
            }
        }
        let (mut confirmed, mut consumed) = (0, 0);
        while consumed < sends || (receipts && confirmed < sends) {
            let frame = stomp.receive().unwrap();
            match frame.command.as_str() {
                "RECEIPT" => confirmed += 1,
                "MESSAGE" => {
                    assert_eq!(frame.text(), consumed.to_string(), "in order, {ack}");
                    consumed += 1;
                    if ack != "auto" {
                        let ack = stomp.ack_of(&frame);
                        stomp.send(&ack).unwrap();
                    }
                }
                _ => panic!("{frame:?}"),
            }
        }
        stomp.disconnect().unwrap();
    }
}

#[test]
fn a_hundred_producers_that_await_nothing_cost_bounded_memory_and_are_told_in_the_end() {
    const HELD: usize = 8 << 20;
    let others = "[memory]\nheld = \"8MiB\"\nheld_by_connection = \"256KiB\"";
    let limit = "name = \"queue://few.*\"\nmessages = 2\nwhen_full = \"hold\"";
    let dir = fresh_dir();
    let settings = format!("{others}\n[[destinations]]\n{limit}\n");
    let broker = Broker::start_configured(&dir.path().join("data"), &settings);
    broker.connect().publish("/queue/free", "x").unwrap();
    let before = broker.resident_bytes();
    let body = "x".repeat(20_000);
    let frame = send("/queue/few.a", &body);
    let mut producers: Vec<Stomp> = (0..100).map(|_| broker.connect()).collect();
    for producer in &mut producers {
        // More than one connection may have parked, and in sum more than all may. One that is
        // refused meanwhile hears nothing more.
        for _ in 0..30 {
            if producer.send(&frame).is_err() {
                break;
            }
        }
    }
    for producer in &mut producers {
        let error = producer.wait_closed().expect("an ERROR before the end");
        let reason = error.header("message").unwrap_or_default();
        assert!(reason.contains("queue://few.a is full") && reason.contains("wait"), "{reason}");
    }
    let growth = broker.resident_bytes().saturating_sub(before) as usize;
    println!("grew by {} KiB", growth >> 10);
    assert!(growth < 6 * HELD, "grew by {} MiB", growth >> 20);
    // What they had parked has gone with them: the next one waits alone, and gets its turn.
    wait_until("the queue is full", || broker.queues().contains(&("few.a".to_owned(), 2, 0)));
    let mut consumer = broker.connect();
    consumer.subscribe("s", "/queue/few.a", "client-individual").unwrap();
    let mut late = broker.connect();
    let receipt = late.ask(send("/queue/few.a", "late")).unwrap();
    loop {
        let message = consumer.message().unwrap();
        consumer.ack(&message).unwrap();
        if message.body == b"late" {
            break;
        }
    }
    assert_eq!(late.receive().unwrap().header("receipt-id"), Some(&*receipt));
}

#[test]
fn a_queue_that_refuses_says_which_it_is_what_its_limit_is_and_what_to_do() {
    let (_dir, broker) = limited("refuse");
    let mut producer = broker.connect();
    for body in ["1", "2"] {
        producer.publish("/queue/few.a", body).unwrap();
    }
    producer.publish("/queue/free", "elsewhere").unwrap();
    let refused = producer.publish("/queue/few.a", "3").unwrap_err().to_string();
    for part in ["SEND was refused", "queue://few.a", "2 messages", "destinations", "Try again"] {
        assert!(refused.contains(part), "{part} is not in {refused}");
    }
    assert_eq!(broker.queues().iter().find(|it| it.0 == "few.a").map(|it| it.1), Some(2));
}

#[test]
fn a_queue_that_drops_the_oldest_keeps_the_newest_of_what_is_not_persistent() {
    let (_dir, broker) = limited("drop-oldest");
    let mut producer = broker.connect();
    for body in ["1", "2", "3", "4"] {
        let frame = send("/queue/few.a", body).with("persistent", "false");
        producer.confirm(frame).unwrap();
    }
    assert_eq!(broker.queues(), [("few.a".to_owned(), 2, 0)]);
    producer.subscribe("s", "/queue/few.a", "auto").unwrap();
    assert_eq!(producer.message().unwrap().text(), "3");
    assert_eq!(producer.message().unwrap().text(), "4");
}

#[test]
fn what_waits_for_room_is_confirmed_neither_by_a_later_receipt_nor_by_the_broker_s_end() {
    let (_dir, broker) = limited("hold");
    let mut producer = broker.connect();
    for body in ["1", "2"] {
        producer.publish("/queue/few.a", body).unwrap();
    }
    producer.send(&send("/queue/few.a", "parked")).unwrap();
    producer.ask(send("/queue/free", "done")).unwrap();
    // The later one is there for others, and its producer does not hear of it.
    wait_until("it is there", || broker.queues().iter().any(|it| it.0 == "free" && it.1 == 1));
    let data = broker.data().to_owned();
    assert!(broker.terminate().success());
    while let Ok(frame) = producer.receive() {
        assert_ne!(frame.command, "RECEIPT", "{frame:?}");
    }
    let broker = Broker::start(&data);
    let depths: Vec<_> = broker.queues().into_iter().map(|it| (it.0, it.1)).collect();
    assert_eq!(depths, [("few.a".to_owned(), 2), ("free".to_owned(), 1)]);
}

#[test]
fn a_disk_with_less_free_than_is_kept_takes_acknowledgements_and_refuses_sends() {
    let dir = fresh_dir();
    let data = dir.path().join("data");
    let broker = Broker::start(&data);
    broker.connect().publish("/queue/q", "before").unwrap();
    assert!(broker.terminate().success());
    // More than any disk has.
    let broker = Broker::start_configured(&data, "log.disk_reserve = \"1000000GiB\"");
    let refused = broker.connect().publish("/queue/q", "after").unwrap_err().to_string();
    assert!(refused.contains("log.disk_reserve"), "{refused}");
    let mut stomp = broker.connect();
    stomp.subscribe("s", "/queue/q", "client-individual").unwrap();
    let message = stomp.message().unwrap();
    stomp.ack(&message).unwrap();
    assert_eq!(broker.queues(), [("q".to_owned(), 0, 1)]);
}
