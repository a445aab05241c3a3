//! Transactions against the real process: all or nothing, over kills, lost connections and size.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::broker::{Broker, assert_no_damage};
use crate::support::exposition::scrape;
use crate::support::random::{Random, number_from_env};
use crate::support::stomp::{Frame, Stomp};
use crate::support::{fresh_dir, wait_until};

fn in_transaction(command: &str, name: &str) -> Frame {
    Frame::new(command).with("transaction", name)
}

fn send_in(name: &str, to: &str, body: &str) -> Frame {
    in_transaction("SEND", name).with("destination", to).body(body)
}

#[test]
fn a_commit_is_seen_whole_after_a_kill_and_what_had_none_is_not() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    stomp.publish("/queue/in", "taken for good").unwrap();
    stomp.publish("/queue/in", "taken and given back").unwrap();
    stomp.subscribe("s", "/queue/in", "client-individual").unwrap();
    let (first, second) = (stomp.message().unwrap(), stomp.message().unwrap());
    for (name, message, body) in [("a", &first, "committed"), ("b", &second, "never seen")] {
        stomp.send(&in_transaction("BEGIN", name)).unwrap();
        stomp.send(&stomp.ack_of(message).with("transaction", name)).unwrap();
        stomp.confirm(send_in(name, "/queue/out", body)).unwrap();
    }
    assert_eq!(broker.queues(), [("in".to_owned(), 2, 1), ("out".to_owned(), 0, 0)]);
    stomp.confirm(in_transaction("COMMIT", "a")).unwrap();
    assert_eq!(broker.queues(), [("in".to_owned(), 1, 1), ("out".to_owned(), 1, 0)]);

    let broker = broker.kill_and_restart();
    wait_until("what had no outcome is rolled back", || {
        broker.queues() == [("in".to_owned(), 1, 0), ("out".to_owned(), 1, 0)]
    });
    let mut stomp = broker.connect();
    stomp.subscribe("in", "/queue/in", "auto").unwrap();
    let again = stomp.message().unwrap();
    assert_eq!(again.text(), "taken and given back");
    assert!(again.is_redelivered());
    stomp.subscribe("out", "/queue/out", "auto").unwrap();
    assert_eq!(stomp.message().unwrap().text(), "committed");
    stomp.disconnect().unwrap();
    let data = broker.data().to_owned();
    assert!(broker.terminate().success());
    assert_no_damage(&data);
}

#[test]
fn an_abort_and_a_lost_connection_give_everything_back() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    stomp.publish("/queue/q", "wanted").unwrap();
    stomp.subscribe("s", "/queue/q", "client").unwrap();
    let first = stomp.message().unwrap();
    stomp.send(&in_transaction("BEGIN", "t")).unwrap();
    stomp.send(&stomp.ack_of(&first).with("transaction", "t")).unwrap();
    stomp.send(&send_in("t", "/queue/r", "unwanted")).unwrap();
    stomp.send(&in_transaction("ABORT", "t")).unwrap();
    let second = stomp.message().unwrap();
    assert_eq!((second.text(), second.header("JMSXDeliveryCount")), ("wanted", Some("2")));

    stomp.send(&in_transaction("BEGIN", "t")).unwrap();
    stomp.send(&send_in("t", "/queue/r", "unwanted")).unwrap();
    stomp.confirm(stomp.ack_of(&second).with("transaction", "t")).unwrap();
    drop(stomp);
    let mut other = broker.connect();
    other.subscribe("s", "/queue/q", "auto").unwrap();
    let third = other.message().unwrap();
    assert_eq!((third.text(), third.header("JMSXDeliveryCount")), ("wanted", Some("3")));
    wait_until("the sends are gone", || broker.queues()[1] == ("r".to_owned(), 0, 0));
}

#[test]
fn a_mistake_in_a_transaction_is_told_and_nothing_of_it_happens() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    stomp.send(&in_transaction("BEGIN", "t")).unwrap();
    stomp.send(&send_in("t", "/queue/q", "never")).unwrap();
    stomp.send(&in_transaction("COMMIT", "other")).unwrap();
    let error = stomp.wait_closed().expect("an ERROR");
    let message = error.header("message").unwrap();
    assert!(message.contains("\"other\"") && message.contains("no transaction"), "{message}");
    wait_until("it is rolled back", || broker.queues() == [("q".to_owned(), 0, 0)]);
}

/// All of it is on its way before the broker has said anything: the COMMIT comes after the mistake.
#[test]
fn an_acknowledgement_of_what_was_never_delivered_makes_its_commit_an_error_and_nothing_happen() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut other = broker.connect();
    other.publish("/queue/in", "delivered").unwrap();
    other.publish("/queue/other", "delivered to another").unwrap();
    other.subscribe("s", "/queue/other", "client-individual").unwrap();
    let foreign = other.message().unwrap();
    for (version, attempt) in [("1.2", 1), ("1.1", 2), ("1.0", 3)] {
        let mut stomp = Stomp::connect(broker.port(), version).unwrap();
        let ack = if version == "1.2" { "client-individual" } else { "client" };
        stomp.subscribe("s", "/queue/in", ack).unwrap();
        let message = stomp.message().unwrap();
        assert_eq!(message.header("JMSXDeliveryCount").unwrap_or("1"), attempt.to_string());
        let never = foreign.header("message-id").unwrap();
        let never = match version {
            // Of the next delivery of this subscription.
            "1.2" => Frame::new("ACK").with("id", "1-2"),
            _ => Frame::new("ACK").with("message-id", never).with("subscription", "s"),
        };
        let mut bytes = in_transaction("BEGIN", "t").encode(version);
        for frame in [
            send_in("t", "/queue/out", "never seen"),
            stomp.ack_of(&message).with("transaction", "t"),
            never.with("transaction", "t"),
            send_in("t", "/queue/out", "never seen"),
            in_transaction("COMMIT", "t").with("receipt", "committed"),
        ] {
            bytes.extend(frame.encode(version));
        }
        stomp.write_raw(&bytes).unwrap();
        let error = stomp.receive().unwrap();
        assert_eq!(error.command, "ERROR", "and no RECEIPT: {error:?}");
        let text = error.header("message").unwrap();
        assert!(text.contains("names no message that waits to be settled"), "{text}");
        assert_eq!(stomp.wait_closed(), None, "nothing more is said");
        wait_until("it is rolled back", || {
            let queues = broker.queues();
            let there = |name: &str, depth, lent| queues.contains(&(name.to_owned(), depth, lent));
            there("in", 1, 0) && there("other", 1, 1) && there("out", 0, 0)
        });
    }
    // The one to whom it was delivered has it still.
    other.ack(&foreign).unwrap();
    other.subscribe("in", "/queue/in", "auto").unwrap();
    assert_eq!(other.message().unwrap().text(), "delivered");
}

/// Memory does not follow the number of operations; what follows on the connection waits.
#[test]
fn a_large_transaction_is_one_atom_in_bounded_memory() {
    let operations = number_from_env("ESCROW_OPERATIONS").unwrap_or(30_000);
    let dir = fresh_dir();
    let data = dir.path().join("data");
    let broker = Broker::start_configured(&data, "log.checkpoint_changes = 5000\n");
    let mut stomp = broker.connect();
    let before = broker.resident_bytes();
    let last = send_in_bulk(&mut stomp, operations, "COMMIT");
    assert_eq!(depth_of(&broker, "bulk"), 0);
    stomp.confirm(last).unwrap();
    let grown = broker.resident_bytes().saturating_sub(before);
    // Its caches fill once, whatever comes: 32 MiB of payloads, 16 MiB of index, what gathers.
    assert!(grown < 128 << 20, "it has grown by {} MiB", grown >> 20);
    // What the connection asks after it comes after it.
    stomp.publish("/queue/bulk", "after").unwrap();
    assert_eq!(depth_of(&broker, "bulk"), operations + 1);
    let broker = broker.kill_and_restart();
    assert_eq!(depth_of(&broker, "bulk"), operations + 1);
    let mut stomp = broker.connect();
    let subscribe = Frame::new("SUBSCRIBE").with("id", "s").with("destination", "/queue/bulk");
    let subscribe = subscribe.with("ack", "client").with("activemq.prefetchSize", "1000");
    stomp.confirm(subscribe).unwrap();
    for number in 0..1000.min(operations) {
        assert_eq!(stomp.message().unwrap().text(), number.to_string());
    }
}

/// What is published waits in the log for who listens, who hears all of it where that holds
/// publishers.
#[test]
fn a_transaction_publishes_more_than_memory_takes_and_who_listens_hears_all_of_it() {
    let dir = fresh_dir();
    let settings = "memory.non_persistent = \"1MiB\"\n\
                    [[destinations]]\nname = \"topic://news\"\nmessages = 10000\n\
                    when_full = \"hold\"\n";
    let broker = Broker::start_configured(&dir.path().join("data"), settings);
    let mut listener = broker.connect();
    let subscribe = Frame::new("SUBSCRIBE").with("id", "s").with("destination", "/topic/news");
    let subscribe = subscribe.with("ack", "client").with("activemq.prefetchSize", "100");
    listener.confirm(subscribe).unwrap();
    let mut publisher = broker.connect();
    publisher.send(&in_transaction("BEGIN", "t")).unwrap();
    let body = |number: u64| format!("{number} {}", "x".repeat(1024));
    let send = |number: u64| send_in("t", "/topic/news", &body(number));
    publisher.send_all((0..5000).map(send)).unwrap();
    publisher.confirm(in_transaction("COMMIT", "t")).unwrap();
    let direct = Frame::new("SEND").with("destination", "/topic/news").body(body(5000));
    publisher.send(&direct).unwrap();
    for number in 0..=5000 {
        let message = listener.message().unwrap();
        assert_eq!(message.text(), body(number));
        if number % 50 == 0 {
            listener.ack(&message).unwrap();
        }
    }
}

/// Half of what it does takes: neither that nor its end follows the number of operations, in memory
/// or in what must be durable for the outcome.
#[test]
fn a_large_transaction_that_takes_and_sends_is_one_atom_in_bounded_memory() {
    let half = number_from_env("ESCROW_OPERATIONS").unwrap_or(100_000) / 2;
    let dir = fresh_dir();
    let settings = "metrics = \"127.0.0.1:0\"\nlog.checkpoint_changes = 5000\n";
    let broker = Broker::start_configured(&dir.path().join("data"), settings);
    let mut stomp = broker.connect();
    fill(&mut stomp, "/queue/in", half);
    stomp.disconnect().unwrap();
    let before = broker.anonymous_bytes();
    // Rolled back: all of it is back in its order and flagged, and nothing was sent.
    let mut stomp = broker.connect();
    assert!(take_and_send(&mut stomp, half, false), "as they were sent");
    assert_eq!((depth_of(&broker, "in"), depth_of(&broker, "bulk")), (half, 0));
    stomp.confirm(in_transaction("ABORT", "t")).unwrap();
    drop(stomp);
    wait_until("nothing is lent", || lent(&broker) == 0);
    assert_eq!((depth_of(&broker, "in"), depth_of(&broker, "bulk")), (half, 0));
    let mut stomp = broker.connect();
    assert!(take_and_send(&mut stomp, half, true), "in order, and flagged");
    stomp.confirm(in_transaction("COMMIT", "t")).unwrap();
    let grown = broker.anonymous_bytes().saturating_sub(before);
    assert!(grown < 128 << 20, "it has grown by {} MiB", grown >> 20);
    assert_eq!((depth_of(&broker, "in"), depth_of(&broker, "bulk")), (0, half));
    println!("{} MiB more memory", grown >> 20);
    let broker = broker.kill_and_restart();
    assert_eq!((depth_of(&broker, "in"), depth_of(&broker, "bulk")), (0, half));
    let mut stomp = broker.connect();
    stomp.subscribe("s", "/queue/bulk", "auto").unwrap();
    for number in 0..1000.min(half) {
        assert_eq!(stomp.message().unwrap().text(), number.to_string());
    }
}

fn lent(broker: &Broker) -> u64 {
    scrape(broker.metrics_port())["escrowmq_lent"] as u64
}

/// Its outcome is one record, however much it has done: wherever a kill meets the commit, all of it
/// has happened or nothing.
#[test]
fn a_large_commit_that_a_kill_cuts_off_has_happened_or_not() {
    const HALF: u64 = 5000;
    let rounds = number_from_env("ESCROW_CRASH_ROUNDS").unwrap_or(6);
    let mut random = Random::from_env();
    let (mut done, mut undone) = (0, 0);
    for round in 0..rounds {
        let dir = fresh_dir();
        let broker = Broker::start(&dir.path().join("data"));
        let mut stomp = broker.connect();
        fill(&mut stomp, "/queue/in", HALF);
        assert!(take_and_send(&mut stomp, HALF, false), "as they were sent");
        stomp.ask(in_transaction("COMMIT", "t")).unwrap();
        // The first comes at once, the last when it is answered.
        if round + 1 < rounds {
            let micros = if round == 0 { 0 } else { random.below(30_000) };
            std::thread::sleep(std::time::Duration::from_micros(micros));
        } else {
            assert_eq!(stomp.receive().unwrap().command, "RECEIPT");
        }
        let broker = broker.kill_and_restart();
        let mut stomp = broker.connect();
        for queue in ["/queue/in", "/queue/bulk"] {
            stomp.subscribe(queue, queue, "auto").unwrap();
        }
        let first = stomp.message().unwrap();
        let from = first.header("destination").unwrap().to_owned();
        for number in 1..HALF {
            let next = stomp.message().unwrap();
            assert_eq!(next.header("destination"), Some(&*from), "message {number}");
            assert_eq!(next.text(), number.to_string());
        }
        wait_until("nothing is left", || broker.queues().iter().all(|(_, depth, _)| *depth == 0));
        let committed = from == "/queue/bulk";
        assert!(committed || round + 1 < rounds, "its commit was confirmed");
        if committed { done += 1 } else { undone += 1 }
    }
    println!("{done} commits have happened, {undone} have not");
}

/// Sends messages that say their numbers.
fn fill(stomp: &mut Stomp, to: &str, count: u64) {
    let send = |number: u64| Frame::new("SEND").with("destination", to).body(number.to_string());
    stomp.send_all((0..count).map(send)).unwrap();
}

/// In a transaction `t` takes so many messages and sends as many; whether each came in the order in
/// which it was sent, and was flagged or not as it should be.
fn take_and_send(stomp: &mut Stomp, count: u64, redelivered: bool) -> bool {
    const TOGETHER: u64 = 1000;
    stomp.send(&in_transaction("BEGIN", "t")).unwrap();
    let subscribe = Frame::new("SUBSCRIBE").with("id", "in").with("destination", "/queue/in");
    let subscribe = subscribe.with("ack", "client-individual");
    stomp.send(&subscribe.with("activemq.prefetchSize", "5000")).unwrap();
    let (mut bytes, mut right) = (Vec::new(), true);
    for number in 0..count {
        let message = stomp.message().unwrap();
        right &= message.text() == number.to_string() && message.is_redelivered() == redelivered;
        bytes.extend(stomp.ack_of(&message).with("transaction", "t").encode("1.2"));
        bytes.extend(send_in("t", "/queue/bulk", &number.to_string()).encode("1.2"));
        if (number + 1) % TOGETHER == 0 || number + 1 == count {
            stomp.write_raw(&std::mem::take(&mut bytes)).unwrap();
        }
    }
    // All of it is done when this is.
    stomp.confirm(Frame::new("UNSUBSCRIBE").with("id", "in")).unwrap();
    right
}

/// Sends in a transaction `t` and gives the frame that ends it.
fn send_in_bulk(stomp: &mut Stomp, operations: u64, end: &str) -> Frame {
    stomp.send(&in_transaction("BEGIN", "t")).unwrap();
    let send = |number: u64| send_in("t", "/queue/bulk", &number.to_string());
    stomp.send_all((0..operations).map(send)).unwrap();
    in_transaction(end, "t")
}

fn depth_of(broker: &Broker, name: &str) -> u64 {
    let queues = broker.queues();
    queues.iter().find(|(queue, ..)| queue == name).map_or(0, |(_, depth, _)| *depth)
}

/// Amounts move from account to account, each move one transaction of a receive and two sends (the
/// rest and the transferred part); the broker is killed again and again. No money is made or lost.
#[test]
fn money_moved_in_transactions_under_kills_is_neither_made_nor_lost() {
    const ACCOUNTS: u64 = 4;
    const START: u64 = 1000;
    let rounds = number_from_env("ESCROW_CRASH_ROUNDS").unwrap_or(6);
    let mut random = Random::from_env();
    let dir = fresh_dir();
    let data = dir.path().join("data");
    let mut broker = Broker::start(&data);
    let mut stomp = broker.connect();
    for account in 0..ACCOUNTS {
        stomp.publish(&format!("/queue/account.{account}"), &START.to_string()).unwrap();
    }
    drop(stomp);
    for _ in 0..rounds {
        let (port, seed) = (broker.port(), random.below(u64::MAX));
        let commits = Arc::new(AtomicU64::new(0));
        let movers: Vec<_> = (0..3)
            .map(|mover| {
                let commits = Arc::clone(&commits);
                std::thread::spawn(move || move_money(port, ACCOUNTS, seed ^ mover, &commits))
            })
            .collect();
        let enough = 1 + random.below(60);
        wait_until("money is moved", || commits.load(Ordering::Relaxed) >= enough);
        broker = broker.kill_and_restart();
        movers.into_iter().for_each(|mover| mover.join().unwrap());
    }
    let mut stomp = broker.connect();
    let mut sums = BTreeMap::new();
    for account in 0..ACCOUNTS {
        let name = format!("account.{account}");
        stomp.subscribe(&name, &format!("/queue/{name}"), "auto").unwrap();
    }
    let mut total = 0;
    while total < ACCOUNTS * START {
        let message = stomp.message().expect("money is missing");
        let amount: u64 = message.text().parse().unwrap();
        *sums.entry(message.header("destination").unwrap().to_owned()).or_insert(0) += amount;
        total += amount;
    }
    assert_eq!(total, ACCOUNTS * START, "{sums:?}");
    wait_until("nothing is left", || broker.queues().iter().all(|(_, depth, _)| *depth == 0));
    assert!(broker.terminate().success());
    assert_no_damage(&data);
}

/// Moves amounts until the broker is gone, counting the commits that were confirmed.
fn move_money(port: u16, accounts: u64, seed: u64, commits: &AtomicU64) {
    let mut random = Random::new(seed);
    let mut work = || -> std::io::Result<()> {
        let mut stomp = Stomp::connect(port, "1.2")?;
        for account in 0..accounts {
            let (id, to) = (account.to_string(), format!("/queue/account.{account}"));
            let subscribe = Frame::new("SUBSCRIBE").with("id", &id).with("destination", &to);
            let subscribe = subscribe.with("ack", "client-individual");
            stomp.confirm(subscribe.with("activemq.prefetchSize", "1"))?;
        }
        for round in 0_u64.. {
            let message = stomp.message()?;
            let amount: u64 = message.text().parse().expect("an amount");
            let moved = random.below(amount + 1);
            let from = message.header("destination").expect("a destination").to_owned();
            let to = format!("/queue/account.{}", random.below(accounts));
            let name = round.to_string();
            let mut bytes = in_transaction("BEGIN", &name).encode("1.2");
            let ack = stomp.ack_of(&message).with("transaction", &name);
            bytes.extend(ack.encode("1.2"));
            for (to, part) in [(&from, amount - moved), (&to, moved)] {
                if part > 0 {
                    bytes.extend(send_in(&name, to, &part.to_string()).encode("1.2"));
                }
            }
            stomp.write_raw(&bytes)?;
            let end = if random.one_in(5) { "ABORT" } else { "COMMIT" };
            stomp.confirm(in_transaction(end, &name))?;
            commits.fetch_add(u64::from(end == "COMMIT"), Ordering::Relaxed);
        }
        Ok(())
    };
    // It ends with the broker.
    let _ = work();
}
