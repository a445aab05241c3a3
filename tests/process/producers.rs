//! Producers that count what they send, against the real process: sent again with the same number,
//! a message is there once.

use std::collections::BTreeMap;

use crate::durable::connect_as;
use crate::support::broker::{Broker, assert_no_damage, assert_no_panic, run_to_end, said};
use crate::support::random::{Random, number_from_env};
use crate::support::stomp::{Frame, Stomp};
use crate::support::{fresh_dir, wait_until};

fn send(to: &str, producer: &str, sequence: u64) -> Frame {
    let body = format!("{producer} {sequence}");
    let frame = Frame::new("SEND").with("destination", to).with("producer-id", producer);
    frame.with("producer-sequence", &sequence.to_string()).body(body)
}

fn transaction(command: &str) -> Frame {
    Frame::new(command).with("transaction", "t")
}

/// What the broker says of a frame that it refuses.
fn refused(broker: &Broker, frame: &Frame) -> String {
    let mut stomp = broker.connect();
    stomp.send(frame).unwrap();
    let error = stomp.wait_closed().expect("an ERROR");
    error.header("message").unwrap().to_owned()
}

/// The bodies of all messages of a queue, each with how often it is there.
fn drain(stomp: &mut Stomp, queue: &str, count: u64) -> BTreeMap<String, usize> {
    stomp.subscribe(queue, queue, "auto").unwrap();
    let mut found = BTreeMap::new();
    for _ in 0..count {
        let message = stomp.message().unwrap();
        assert_eq!(message.header("producer-id"), None, "it would speak for the producer");
        *found.entry(message.text().to_owned()).or_default() += 1;
    }
    found
}

#[test]
fn a_killed_store_that_remembers_producers_is_looked_at_and_starts() {
    for to in ["/queue/q", "/topic/t"] {
        let dir = fresh_dir();
        let broker = Broker::start(&dir.path().join("data"));
        let subscribe = Frame::new("SUBSCRIBE").with("id", "1").with("destination", "/topic/t");
        let subscribe = subscribe.with("ack", "client").with("activemq.subscriptionName", "s");
        connect_as(&broker, "c").confirm(subscribe).unwrap();
        broker.connect().confirm(send(to, "p", 1)).unwrap();
        // A clean end leaves what it knows of the producer to the index.
        let broker = broker.terminate_and_restart();
        broker.connect().confirm(send(to, "p", 2)).unwrap();
        let data = broker.kill();
        let backup = dir.path().join("backup");
        let (from, into) = (data.to_str().unwrap(), backup.to_str().unwrap());
        for tool in [&["stats", from][..], &["verify", from], &["backup", from, into]] {
            let output = run_to_end(&[&["store"], tool].concat());
            assert!(output.status.success(), "{tool:?}: {output:?}");
            assert_no_panic(&said(&output));
        }
        let broker = Broker::start(&data);
        broker.connect().confirm(send(to, "p", 2)).unwrap();
        let depths: Vec<_> = broker.queues().into_iter().map(|(_, depth, _)| depth).collect();
        assert_eq!(depths.iter().sum::<u64>(), 2, "{to}: {depths:?}");
    }
}

#[test]
fn a_number_sent_again_after_a_kill_or_a_restart_is_there_once() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    for sequence in [1, 2, 5, 4] {
        stomp.confirm(send("/queue/q", "p", sequence)).unwrap();
    }
    stomp.confirm(send("/queue/other", "p", 5)).unwrap();
    let broker = broker.kill_and_restart();
    let mut stomp = broker.connect();
    for sequence in 1..=5 {
        stomp.confirm(send("/queue/q", "p", sequence)).unwrap();
    }
    let expected = (1..=5).map(|sequence| (format!("p {sequence}"), 1));
    assert_eq!(drain(&mut stomp, "/queue/q", 5), expected.collect());
    stomp.disconnect().unwrap();
    let broker = broker.terminate_and_restart();
    let mut stomp = broker.connect();
    stomp.confirm(send("/queue/q", "p", 3)).unwrap();
    wait_until("nothing more is there", || broker.queues() == [("q".to_owned(), 0, 0)]);
    let data = broker.data().to_owned();
    assert!(broker.terminate().success());
    assert_no_damage(&data);
}

#[test]
fn a_number_that_cannot_be_told_is_refused_and_so_is_half_of_one() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let said = refused(&broker, &send("/topic/t", "p", 1));
    assert!(said.contains("nobody keeps what is published"), "{said}");
    let bare = || Frame::new("SEND").with("destination", "/queue/q");
    let said = refused(&broker, &bare().with("producer-id", "p"));
    assert!(said.contains("producer-sequence"), "{said}");
    let said = refused(&broker, &bare().with("producer-sequence", "1"));
    assert!(said.contains("producer-id"), "{said}");
    let said = refused(&broker, &bare().with("producer-id", "p").with("producer-sequence", "-1"));
    assert!(said.contains("count by one"), "{said}");
    let said = refused(&broker, &send("/queue/q", "p", 1).with("duplicate-id", "x"));
    assert!(said.contains("left out"), "{said}");
    let mut stomp = broker.connect();
    for sequence in (0..100).map(|it| it * 1000) {
        stomp.send(&send("/queue/q", "p", sequence)).unwrap();
    }
    stomp.confirm(send("/queue/q", "p", 99_000)).unwrap();
    let said = refused(&broker, &send("/queue/q", "p", 1000));
    assert!(said.contains("too old to tell"), "{said}");
    assert_eq!(broker.queues(), [("q".to_owned(), 100, 0)]);
}

#[test]
fn a_transaction_takes_its_numbers_at_its_commit() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    let send_three = |stomp: &mut Stomp, end: &str| {
        stomp.send(&transaction("BEGIN")).unwrap();
        for sequence in 1..=3 {
            let frame = send("/queue/q", "p", sequence).with("transaction", "t");
            stomp.send(&frame).unwrap();
        }
        stomp.confirm(transaction(end)).unwrap();
    };
    send_three(&mut stomp, "ABORT");
    send_three(&mut stomp, "COMMIT");
    send_three(&mut stomp, "COMMIT");
    assert_eq!(broker.queues(), [("q".to_owned(), 3, 0)]);
    stomp.send(&transaction("BEGIN")).unwrap();
    stomp.confirm(send("/queue/q", "p", 4).with("transaction", "t")).unwrap();
    let said = refused(&broker, &send("/queue/q", "p", 4));
    assert!(said.contains("has not ended"), "{said}");
    let broker = broker.kill_and_restart();
    let mut stomp = broker.connect();
    send_three(&mut stomp, "COMMIT");
    stomp.confirm(send("/queue/q", "p", 4)).unwrap();
    assert_eq!(broker.queues(), [("q".to_owned(), 4, 0)]);
}

/// Producers that stop at nothing: each counts on while the broker is killed again and again, and
/// sends everything again that it has no receipt for.
#[test]
fn what_is_counted_and_sent_again_is_there_once_whatever_kills_come_between() {
    let rounds = number_from_env("ESCROW_CRASH_ROUNDS").unwrap_or(5);
    let mut random = Random::from_env();
    let dir = fresh_dir();
    let mut broker = Broker::start(&dir.path().join("data"));
    let (mut sent, mut resent) = (0_u64, 0);
    for _ in 0..rounds {
        let (from, count) = (sent, 100 + random.below(400));
        sent += count;
        let mut stomp = broker.connect();
        let heard = random.below(count);
        for (sequence, place) in (from..sent).zip(0_u64..) {
            let receipt = sequence.to_string();
            let frame = send("/queue/q", "p", sequence).with("receipt", &receipt);
            if place % 10 == 0 {
                stomp.send(&transaction("BEGIN")).unwrap();
            }
            let within = place % 10 < 3;
            let frame = if within { frame.with("transaction", "t") } else { frame };
            stomp.send(&frame).unwrap();
            if place % 10 == 2 {
                let end = if random.one_in(3) { "ABORT" } else { "COMMIT" };
                stomp.send(&transaction(end)).unwrap();
            }
        }
        (0..heard).for_each(|_| drop(stomp.receive().unwrap()));
        broker = broker.kill_and_restart();
        for _ in 0..2 {
            let mut stomp = broker.connect();
            for sequence in from..sent {
                stomp.send(&send("/queue/q", "p", sequence)).unwrap();
                resent += 1;
            }
            stomp.disconnect().unwrap();
        }
    }
    assert_eq!(broker.queues(), [("q".to_owned(), sent, 0)]);
    let found = drain(&mut broker.connect(), "/queue/q", sent);
    let expected: BTreeMap<_, _> = (0..sent).map(|number| (format!("p {number}"), 1)).collect();
    assert_eq!(found, expected);
    println!("{sent} messages, {resent} sent again");
    let data = broker.data().to_owned();
    assert!(broker.terminate().success());
    assert_no_damage(&data);
}
