//! Messages and commits under ids, against the real process: sent as often as it takes, there once.

use std::collections::BTreeMap;

use crate::durable::connect_as;
use crate::support::broker::{Broker, assert_no_damage};
use crate::support::random::{Random, number_from_env};
use crate::support::stomp::{Frame, Stomp};
use crate::support::{fresh_dir, wait_until};

fn send(to: &str, id: &str, body: &str) -> Frame {
    Frame::new("SEND").with("destination", to).with("duplicate-id", id).body(body)
}

fn transaction(command: &str) -> Frame {
    Frame::new(command).with("transaction", "t")
}

fn commit(id: &str) -> Frame {
    transaction("COMMIT").with("commit-id", id)
}

/// Asks what became of a commit; the ERROR if it did not happen.
fn outcome(broker: &Broker, id: &str) -> Option<String> {
    let mut stomp = broker.connect();
    let ask = Frame::new("COMMIT").with("commit-id", id).with("receipt", "r");
    stomp.send(&ask).unwrap();
    let answer = stomp.receive().unwrap();
    match answer.command.as_str() {
        "RECEIPT" => None,
        "ERROR" => Some(answer.header("message").unwrap_or_default().to_owned()),
        other => panic!("{other}"),
    }
}

/// The bodies of all messages of a queue, each with how often it is there.
fn drain(stomp: &mut Stomp, queue: &str, count: u64) -> BTreeMap<String, usize> {
    stomp.subscribe(queue, queue, "auto").unwrap();
    let mut found = BTreeMap::new();
    for _ in 0..count {
        *found.entry(stomp.message().unwrap().text().to_owned()).or_default() += 1;
    }
    found
}

#[test]
fn a_message_sent_again_after_a_kill_or_a_restart_is_there_once() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    stomp.confirm(send("/queue/q", "one", "first")).unwrap();
    // What other brokers' clients send means the same.
    let again = Frame::new("SEND").with("destination", "/queue/q").with("_AMQ_DUPL_ID", "one");
    stomp.confirm(again.body("again")).unwrap();
    let broker = broker.kill_and_restart();
    let mut stomp = broker.connect();
    stomp.confirm(send("/queue/q", "one", "after a kill")).unwrap();
    stomp.confirm(send("/queue/r", "one", "elsewhere")).unwrap();
    assert_eq!(drain(&mut stomp, "/queue/q", 1), [("first".to_owned(), 1)].into());
    stomp.disconnect().unwrap();
    let broker = broker.terminate_and_restart();
    let mut stomp = broker.connect();
    stomp.confirm(send("/queue/q", "one", "after it was consumed")).unwrap();
    wait_until("nothing more is there", || {
        broker.queues() == [("q".to_owned(), 0, 0), ("r".to_owned(), 1, 0)]
    });
    let data = broker.data().to_owned();
    assert!(broker.terminate().success());
    assert_no_damage(&data);
}

#[test]
fn a_publication_sent_again_after_a_kill_or_a_restart_is_kept_once() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let subscribe = Frame::new("SUBSCRIBE").with("id", "1").with("destination", "/topic/t");
    let subscribe = subscribe.with("ack", "auto").with("activemq.subscriptionName", "s");
    let mut listener = connect_as(&broker, "c");
    listener.confirm(subscribe.clone()).unwrap();
    listener.disconnect().unwrap();
    let mut stomp = broker.connect();
    stomp.confirm(send("/topic/t", "one", "first")).unwrap();
    stomp.confirm(send("/topic/t", "one", "again")).unwrap();
    stomp.confirm(transaction("BEGIN")).unwrap();
    let in_unit = send("/topic/t", "two", "in a transaction").with("transaction", "t");
    stomp.confirm(in_unit).unwrap();
    stomp.confirm(transaction("COMMIT")).unwrap();
    let broker = broker.kill_and_restart();
    broker.connect().confirm(send("/topic/t", "one", "after a kill")).unwrap();
    let broker = broker.terminate_and_restart();
    let mut stomp = broker.connect();
    for id in ["one", "two"] {
        stomp.confirm(send("/topic/t", id, "after a restart")).unwrap();
    }
    stomp.confirm(send("/topic/t", "three", "last")).unwrap();
    let mut listener = connect_as(&broker, "c");
    listener.confirm(subscribe).unwrap();
    for text in ["first", "in a transaction", "last"] {
        assert_eq!(listener.message().unwrap().text(), text);
    }
    let data = broker.data().to_owned();
    assert!(broker.terminate().success());
    assert_no_damage(&data);
}

#[test]
fn an_id_where_nobody_keeps_anything_and_two_ids_of_one_message_are_refused() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let refused = |frame: Frame| {
        let mut stomp = broker.connect();
        stomp.send(&frame).unwrap();
        let error = stomp.wait_closed().expect("an ERROR");
        error.header("message").unwrap().to_owned()
    };
    let said = refused(send("/topic/t", "one", "x"));
    assert!(said.contains("nobody keeps what is published"), "{said}");
    let said = refused(send("/queue/q", "one", "x").with("_AMQ_DUPL_ID", "two"));
    assert!(said.contains("the same as _AMQ_DUPL_ID"), "{said}");
}

/// Producers that stop at nothing: each message is sent until its receipt has come, alone or in a
/// transaction of a few, while the broker is killed again and again.
#[test]
fn what_is_resent_until_it_is_confirmed_is_there_once_whatever_kills_come_between() {
    let rounds = number_from_env("ESCROW_CRASH_ROUNDS").unwrap_or(6);
    let mut random = Random::from_env();
    let dir = fresh_dir();
    let mut broker = Broker::start(&dir.path().join("data"));
    let (mut sent, mut resent) = (0_u64, 0);
    for _ in 0..rounds {
        let (from, count) = (sent, 100 + random.below(400));
        sent += count;
        let mut stomp = broker.connect();
        // Nobody knows what of it is durable, or in a transaction that was cut short, when the
        // kill comes: after so many of the answers.
        let heard = random.below(count);
        for (number, place) in (from..sent).zip(0_u64..) {
            let id = number.to_string();
            let frame = send("/queue/q", &id, &id).with("receipt", &id);
            let within = place % 10 < 3;
            if place % 10 == 0 {
                stomp.send(&transaction("BEGIN")).unwrap();
            }
            let frame = if within { frame.with("transaction", "t") } else { frame };
            stomp.send(&frame).unwrap();
            if place % 10 == 2 {
                let end = if random.one_in(3) { "ABORT" } else { "COMMIT" };
                stomp.send(&transaction(end)).unwrap();
            }
        }
        (0..heard).for_each(|_| drop(stomp.receive().unwrap()));
        broker = broker.kill_and_restart();
        // All of it again, and once more.
        for _ in 0..2 {
            let mut stomp = broker.connect();
            for number in from..sent {
                let id = number.to_string();
                stomp.send(&send("/queue/q", &id, &id)).unwrap();
                resent += 1;
            }
            stomp.disconnect().unwrap();
        }
    }
    assert_eq!(broker.queues(), [("q".to_owned(), sent, 0)]);
    let found = drain(&mut broker.connect(), "/queue/q", sent);
    let expected: BTreeMap<_, _> = (0..sent).map(|number| (number.to_string(), 1)).collect();
    assert_eq!(found, expected);
    println!("{sent} messages, {resent} sent again");
    let data = broker.data().to_owned();
    assert!(broker.terminate().success());
    assert_no_damage(&data);
}

#[test]
fn a_commit_whose_answer_was_lost_is_done_again_or_asked_for_and_happens_once() {
    let dir = fresh_dir();
    let mut broker = Broker::start(&dir.path().join("data"));
    for (round, wait) in [true, false].into_iter().enumerate() {
        let id = format!("commit {round}");
        for attempt in 0..3 {
            let mut stomp = broker.connect();
            stomp.send(&transaction("BEGIN")).unwrap();
            for body in ["a", "b"] {
                let frame = transaction("SEND").with("destination", "/queue/q").body(body);
                stomp.send(&frame).unwrap();
            }
            if attempt > 0 || wait {
                stomp.confirm(commit(&id)).unwrap();
            } else {
                stomp.send(&commit(&id)).unwrap();
            }
            if attempt == 0 {
                broker = broker.kill_and_restart();
            }
        }
        let there = 2 * (round as u64 + 1);
        wait_until("it is there once", || broker.queues() == [("q".to_owned(), there, 0)]);
        assert_eq!(outcome(&broker, &id), None);
    }
    // The same id for something else.
    let mut stomp = broker.connect();
    stomp.send(&transaction("BEGIN")).unwrap();
    let frame = transaction("SEND").with("destination", "/queue/q").body("c");
    stomp.send(&frame).unwrap();
    stomp.send(&commit("commit 0")).unwrap();
    let error = stomp.wait_closed().expect("an ERROR");
    assert!(error.header("message").unwrap().contains("something else"), "{error:?}");
}

#[test]
fn who_asks_for_a_commit_that_never_came_hears_so_and_it_never_comes() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    stomp.publish("/queue/in", "wanted").unwrap();
    stomp.subscribe("s", "/queue/in", "client-individual").unwrap();
    let message = stomp.message().unwrap();
    stomp.send(&transaction("BEGIN")).unwrap();
    stomp.confirm(stomp.ack_of(&message).with("transaction", "t")).unwrap();
    let said = outcome(&broker, "late").expect("nothing was committed");
    assert!(said.contains("nothing ever will be"), "{said}");
    stomp.send(&commit("late")).unwrap();
    let error = stomp.wait_closed().expect("an ERROR");
    assert!(error.header("message").unwrap().contains("asked before"), "{error:?}");
    // Under another id it works, and is remembered though its message is gone.
    let mut stomp = broker.connect();
    stomp.subscribe("s", "/queue/in", "client-individual").unwrap();
    let message = stomp.message().unwrap();
    stomp.send(&transaction("BEGIN")).unwrap();
    stomp.send(&stomp.ack_of(&message).with("transaction", "t")).unwrap();
    stomp.confirm(commit("in time")).unwrap();
    let broker = broker.kill_and_restart();
    assert_eq!(outcome(&broker, "in time"), None);
    assert!(outcome(&broker, "late").is_some());
    assert_eq!(broker.queues(), [("in".to_owned(), 0, 0)]);
}
