//! Stories of virtual topics over STOMP: queues that get what is published on the topic in their
//! name.

use crate::support::broker::{Broker, assert_no_damage};
use crate::support::stomp::{Frame, Stomp};
use crate::support::{fresh_dir, wait_until};

const TOPIC: &str = "/topic/VirtualTopic.orders";
const BILLING: &str = "/queue/Consumer.billing.VirtualTopic.orders";

fn send(to: &str, body: &str) -> Frame {
    Frame::new("SEND").with("destination", to).with("persistent", "true").body(body)
}

/// Takes a message, and checks what it says of itself.
#[track_caller]
fn expect(stomp: &mut Stomp, text: &str, origin: Option<&str>) {
    let message = stomp.message().unwrap();
    let (from, of) = (message.header("destination"), message.header("original-destination"));
    assert_eq!((message.text(), from, of), (text, Some(BILLING), origin));
    stomp.ack(&message).unwrap();
}

#[test]
fn a_queue_gets_what_is_published_once_and_over_a_kill() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut publisher = broker.connect();
    publisher.publish(TOPIC, "before it").unwrap();
    for queue in [BILLING, "/queue/Consumer.archive.VirtualTopic.orders"] {
        let mut stomp = broker.connect();
        stomp.subscribe("s", queue, "client-individual").unwrap();
        stomp.disconnect().unwrap();
    }
    let mut listener = broker.connect();
    listener.subscribe("s", TOPIC, "auto").unwrap();
    publisher.publish(TOPIC, "one").unwrap();
    publisher.send(&Frame::new("BEGIN").with("transaction", "t")).unwrap();
    publisher.send(&send(TOPIC, "two").with("transaction", "t")).unwrap();
    publisher.confirm(Frame::new("COMMIT").with("transaction", "t")).unwrap();
    publisher.publish(BILLING, "three").unwrap();
    assert_eq!(listener.message().unwrap().text(), "one");
    assert_eq!(listener.message().unwrap().text(), "two");

    let broker = broker.kill_and_restart();
    let mut queues = broker.queues();
    queues.retain(|(name, ..)| name.starts_with("Consumer."));
    let of = |name: &str, depth| (format!("Consumer.{name}.VirtualTopic.orders"), depth, 0);
    assert_eq!(queues, [of("archive", 2), of("billing", 3)]);
    let mut billing = broker.connect();
    billing.subscribe("s", BILLING, "client-individual").unwrap();
    let topic = Some(TOPIC);
    expect(&mut billing, "one", topic);
    expect(&mut billing, "two", topic);
    expect(&mut billing, "three", None);
    broker.connect().publish(TOPIC, "four").unwrap();
    expect(&mut billing, "four", topic);
    let broker = broker.kill_and_restart();
    broker.connect().publish(TOPIC, "five").unwrap();
    let mut billing = broker.connect();
    billing.subscribe("s", BILLING, "client-individual").unwrap();
    expect(&mut billing, "five", topic);
    assert_no_damage(&broker.kill());
}

#[test]
fn whoever_publishes_into_a_full_queue_waits_for_it_and_so_does_who_sends_there() {
    let dir = fresh_dir();
    let limit = "[[destinations]]\nname = \"queue://Consumer.*.VirtualTopic.>\"\nmessages = 1\n\
                 when_full = \"hold\"\n";
    let broker = Broker::start_configured(&dir.path().join("data"), limit);
    let (mut publisher, mut sender) = (broker.connect(), broker.connect());
    sender.publish(BILLING, "1").unwrap();
    let published = publisher.ask(send(TOPIC, "2")).unwrap();
    let sent = sender.ask(send(BILLING, "3")).unwrap();
    let name = BILLING.trim_start_matches("/queue/").to_owned();
    wait_until("the queue is full", || broker.queues().contains(&(name.clone(), 1, 0)));
    let mut consumer = broker.connect();
    consumer.subscribe("s", BILLING, "client-individual").unwrap();
    let mut texts = Vec::new();
    for _ in 0..3 {
        let message = consumer.message().unwrap();
        texts.push(message.text().to_owned());
        consumer.ack(&message).unwrap();
    }
    texts.sort();
    assert_eq!(texts, ["1", "2", "3"]);
    assert_eq!(publisher.receive().unwrap().header("receipt-id"), Some(&*published));
    assert_eq!(sender.receive().unwrap().header("receipt-id"), Some(&*sent));
}

#[test]
fn switched_off_they_are_topics_and_queues_like_others() {
    let dir = fresh_dir();
    let broker = Broker::start_configured(&dir.path().join("data"), "virtual_topics = false\n");
    let mut stomp = broker.connect();
    stomp.subscribe("s", BILLING, "client-individual").unwrap();
    stomp.publish(TOPIC, "nobody's").unwrap();
    stomp.publish(BILLING, "its own").unwrap();
    expect(&mut stomp, "its own", None);
}
