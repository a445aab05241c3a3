//! Stories of clients of ActiveMQ's wire with the real process: what is kept over a kill and a
//! reconnect, and what clients of different wires see of each other.

use crate::durable::{connect_as, keep};
use crate::redelivery::expire;
use crate::support::broker::Broker;
use crate::support::openwire::{OpenWire, branch, characters, queue};
use crate::support::stomp::Frame;
use crate::support::{fresh_dir, wait_until};
use escrowmq::protocol::openwire::Structure;
use escrowmq::protocol::openwire::Text;
use escrowmq::protocol::openwire::message::{Destination, DestinationKind};
use escrowmq::protocol::openwire::table::{
    ConnectionId, DestinationInfo, LocalTransactionId, ProducerId, TransactionId,
};

const BOTH: &[&str] = &["--listen", "stomp://127.0.0.1:0", "--listen", "tcp://127.0.0.1:0"];
const BEGIN: i8 = 0;
const PREPARE: i8 = 1;
const COMMIT: i8 = 2;
const COMMIT_TWO_PHASE: i8 = 3;
const ROLLBACK: i8 = 4;
const END: i8 = 7;

fn client(broker: &Broker, name: &str) -> OpenWire {
    OpenWire::connect(broker.ports()[1], name)
}

#[test]
fn clients_of_both_wires_read_each_others_messages() {
    let dir = fresh_dir();
    let broker = Broker::start_with(&dir.path().join("data"), BOTH);
    let mut stomp = broker.connect();
    let mut jms = client(&broker, "c");
    let text = "a text with \u{1F980}";
    let frame = Frame::new("SEND").with("destination", "/queue/to-jms");
    stomp.confirm(frame.with("amq-msg-type", "text").body(text)).unwrap();
    jms.consume("to-jms", 10, false);
    let (message, _) = jms.message();
    assert_eq!(characters(&message), text);
    assert!(message.head.message_id.unwrap().text_view.is_some(), "it has the id that STOMP sees");

    let mut message = jms.text(1, queue("to-stomp"), text);
    message.head.correlation_id = Text::new("c-1");
    assert!(matches!(jms.ask(&message), Structure::Response(_)));
    stomp.subscribe("s", "/queue/to-stomp", "client").unwrap();
    let frame = stomp.message().unwrap();
    assert_eq!((frame.text(), frame.header("correlation-id")), (text, Some("c-1")));
}

#[test]
fn a_transaction_commits_however_many_producers_it_has_and_whatever_is_persistent_in_it() {
    let dir = fresh_dir();
    let broker = Broker::start_with(&dir.path().join("data"), BOTH);
    let connection_id = Some(ConnectionId { value: Text::new("c") });
    let local = |value| LocalTransactionId { value, connection_id: connection_id.clone() }.into();
    let mut jms = client(&broker, "c");
    let send = |jms: &mut OpenWire, id: &TransactionId, producer, sequence, persistent| {
        let mut message = jms.text(sequence, queue("q"), "a part");
        let connection_id = Text::new("c");
        let producer = Some(ProducerId { connection_id, session_id: 1, value: producer });
        message.head.message_id.as_mut().unwrap().producer_id.clone_from(&producer);
        message.head.producer_id = producer;
        message.head.transaction_id = Some(id.clone());
        message.head.persistent = persistent;
        message.head.response_required = false;
        jms.write(&message);
    };
    let (many, one, depth) = (local(1), local(2), || broker.queues()[0].1);
    assert!(matches!(jms.transaction(Some(&many), BEGIN), Structure::Response(_)));
    // One for each send, as a template makes them.
    (1..=1100).for_each(|producer| send(&mut jms, &many, producer, 1, true));
    let answer = jms.transaction(Some(&many), COMMIT);
    assert!(matches!(answer, Structure::Response(_)), "{answer:?}");
    assert_eq!(depth(), 1100);
    assert!(matches!(jms.transaction(Some(&one), BEGIN), Structure::Response(_)));
    (1..=4400).for_each(|sequence| send(&mut jms, &one, 2000, sequence, sequence % 2 == 0));
    let answer = jms.transaction(Some(&one), COMMIT);
    assert!(matches!(answer, Structure::Response(_)), "{answer:?}");
    assert_eq!(depth(), 5500);
}

#[test]
fn what_was_answered_outlives_a_kill_and_is_not_there_twice_when_sent_again() {
    let dir = fresh_dir();
    let broker = Broker::start_with(&dir.path().join("data"), BOTH);
    let mut jms = client(&broker, "c");
    jms.send(1, "q", "one");
    let broker = broker.kill_and_restart_with(BOTH);
    let mut jms = client(&broker, "c");
    jms.send(1, "q", "one");
    jms.send(2, "q", "two");
    jms.consume("q", 10, false);
    let (one, two) = (jms.message().0, jms.message().0);
    assert_eq!((&*characters(&one), &*characters(&two)), ("one", "two"));
    jms.ack(&two, 2, None);
    wait_until("both are gone", || broker.queues().iter().all(|(_, depth, _)| *depth == 0));
}

#[test]
fn a_branch_that_has_voted_is_found_after_a_kill_and_ended_by_another_client() {
    let dir = fresh_dir();
    let broker = Broker::start_with(&dir.path().join("data"), BOTH);
    let mut jms = client(&broker, "c");
    jms.send(1, "from", "message");
    jms.consume("from", 10, false);
    let (message, _) = jms.message();
    let id = branch(1);
    let _ = jms.transaction(Some(&id), 0);
    let mut sent = jms.text(2, queue("to"), "sent");
    sent.head.transaction_id = Some(id.clone());
    assert!(matches!(jms.ask(&sent), Structure::Response(_)));
    jms.ack(&message, 2, Some(&id));
    let _ = jms.transaction(Some(&id), 7);
    let Structure::IntegerResponse(vote) = jms.transaction(Some(&id), 1) else { panic!("a vote") };
    assert_eq!(vote.result, 0);

    let broker = broker.kill_and_restart_with(BOTH);
    let mut manager = client(&broker, "m");
    let Structure::DataArrayResponse(found) = manager.transaction(None, 5) else {
        panic!("a scan")
    };
    assert_eq!(found.data.unwrap().len(), 1);
    assert!(matches!(manager.transaction(Some(&id), 3), Structure::Response(_)));
    manager.consume("to", 10, false);
    assert_eq!(characters(&manager.message().0), "sent");
    let depth = |name: &str| broker.queues().into_iter().find(|(n, ..)| n == name).unwrap().1;
    assert_eq!((depth("from"), depth("to")), (0, 1));
    let unknown = manager.transaction(Some(&branch(2)), 3);
    let Structure::ExceptionResponse(no) = unknown else { panic!("there is no such branch") };
    let words = no.exception.unwrap().thrown.message.unwrap().to_string();
    assert!(words.ends_with("xaErrorCode:-4"), "{words}");
}

#[test]
fn a_vote_is_given_again_while_the_branch_is_there_and_not_when_another_has_ended_it() {
    let dir = fresh_dir();
    let broker = Broker::start_with(&dir.path().join("data"), BOTH);
    let (mut jms, mut manager) = (client(&broker, "c"), client(&broker, "m"));
    for (number, end, code) in [(1, ROLLBACK, 100), (2, COMMIT_TWO_PHASE, -4)] {
        let id = branch(number);
        let _ = jms.transaction(Some(&id), BEGIN);
        let mut sent = jms.text(number.into(), queue("to"), "sent");
        sent.head.transaction_id = Some(id.clone());
        assert!(matches!(jms.ask(&sent), Structure::Response(_)));
        let _ = jms.transaction(Some(&id), END);
        for _ in 0..2 {
            let answer = jms.transaction(Some(&id), PREPARE);
            let Structure::IntegerResponse(vote) = answer else { panic!("{answer:?}") };
            assert_eq!(vote.result, 0);
        }
        assert!(matches!(manager.transaction(Some(&id), end), Structure::Response(_)));
        let answer = jms.transaction(Some(&id), PREPARE);
        let Structure::ExceptionResponse(no) = answer else { panic!("{answer:?}") };
        let words = no.exception.unwrap().thrown.message.unwrap().to_string();
        assert!(words.ends_with(&format!("xaErrorCode:{code}")), "{words}");
    }
}

#[test]
fn a_message_of_many_mebibytes_goes_in_and_out_and_a_browser_takes_nothing() {
    let dir = fresh_dir();
    let broker = Broker::start_with(&dir.path().join("data"), BOTH);
    let mut jms = client(&broker, "c");
    let large = "0123456789abcdef".repeat(200_000);
    jms.send(1, "q", "small");
    jms.send(2, "q", &large);
    let mut browser = client(&broker, "b");
    browser.consume("q", 500, true);
    assert_eq!(characters(&browser.message().0), "small");
    assert!(browser.message().0.head.message_id.is_some());
    assert!(browser.message().0.head.message_id.is_none(), "the end of what there is");
    jms.consume("q", 10, false);
    assert_eq!(characters(&jms.message().0), "small");
    let (message, returns) = jms.message();
    assert_eq!((characters(&message) == large, returns), (true, 0));
}

#[test]
fn a_browser_of_many_names_sees_one_queue_after_the_other() {
    let dir = fresh_dir();
    let broker = Broker::start_with(&dir.path().join("data"), BOTH);
    let mut jms = client(&broker, "c");
    let sent = ["z", "a.2", "a.1", "b.1", "a.2"];
    for (number, to) in (1..).zip(sent) {
        jms.send(number, to, &format!("{number} to {to}"));
    }
    let seen = |from: &str| {
        let mut browser = client(&broker, "b");
        browser.consume(from, 500, true);
        let all = std::iter::from_fn(|| {
            let (message, _) = browser.message();
            message.head.message_id.is_some().then(|| characters(&message))
        });
        all.collect::<Vec<_>>()
    };
    assert_eq!(seen("a.*"), ["3 to a.1", "2 to a.2", "5 to a.2"]);
    assert_eq!(seen("z,b.>,nothing.here"), ["1 to z", "4 to b.1"]);
    assert_eq!(seen("c.>"), [] as [String; 0]);
}

#[test]
fn what_a_client_gives_up_is_set_apart_and_what_a_lost_one_had_comes_again() {
    let dir = fresh_dir();
    let broker = Broker::start_with(&dir.path().join("data"), BOTH);
    let mut jms = client(&broker, "c");
    jms.send(1, "q", "poison");
    jms.send(2, "q", "good");
    jms.consume("q", 10, false);
    let poison = jms.message().0;
    jms.ack(&poison, 1, None);
    let _ = jms.message();
    drop(jms);
    let mut next = client(&broker, "d");
    next.consume("q", 10, false);
    let (good, returns) = next.message();
    assert_eq!((&*characters(&good), returns), ("good", 1));
    let mut dead = client(&broker, "e");
    dead.consume("ActiveMQ.DLQ", 10, false);
    let (message, _) = dead.message();
    assert_eq!(characters(&message), "poison");
    assert_eq!(message.head.message_id, poison.head.message_id, "it is the same message");
    assert_eq!(message.head.original_destination, Some(queue("q")));
}

#[test]
fn what_a_subscription_kept_and_was_set_apart_comes_from_its_topic() {
    let dir = fresh_dir();
    let broker = Broker::start_with(&dir.path().join("data"), BOTH);
    let mut ann = connect_as(&broker, "ann");
    ann.confirm(keep("/topic/news.>", "all")).unwrap();
    ann.disconnect().unwrap();
    expire(&broker, &mut broker.connect(), "/topic/news.now", "late");
    let mut jms = client(&broker, "c");
    jms.consume("ActiveMQ.DLQ", 10, false);
    let (message, _) = jms.message();
    assert_eq!(message.content.as_deref(), Some(&b"late"[..]));
    let topic = Destination { kind: DestinationKind::Topic, physical_name: Text::new("news.now") };
    assert_eq!(message.head.original_destination, Some(topic));
}

#[test]
fn a_temporary_queue_goes_with_its_connection_and_with_its_broker() {
    let dir = fresh_dir();
    let broker = Broker::start_with(&dir.path().join("data"), BOTH);
    let temporary = |name: &str| Destination {
        kind: DestinationKind::TempQueue,
        physical_name: Text::new(name),
    };
    let begin = |jms: &mut OpenWire, name: &str| {
        let destination = Some(temporary(name));
        let command_id = jms.number();
        let add = DestinationInfo { command_id, destination, ..DestinationInfo::default() };
        let add = DestinationInfo { response_required: true, ..add };
        assert!(matches!(jms.ask(&add), Structure::Response(_)));
        let message = jms.text(1, temporary(name), "answer");
        assert!(matches!(jms.ask(&message), Structure::Response(_)));
    };
    let mut jms = client(&broker, "c");
    begin(&mut jms, "c:1");
    assert_eq!(broker.queues().len(), 1);
    drop(jms);
    wait_until("the queue is gone", || broker.queues().is_empty());
    let mut jms = client(&broker, "c");
    begin(&mut jms, "c:1");
    let broker = broker.kill_and_restart_with(BOTH);
    wait_until("the queue is gone", || broker.queues().is_empty());
}
