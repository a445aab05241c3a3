//! Stories of durable subscriptions over STOMP: what a topic keeps for who is away.

use crate::support::broker::{Broker, assert_no_damage, said};
use crate::support::fresh_dir;
use crate::support::stomp::{Frame, Stomp};

/// A connection of a client that says who it is.
fn connect_as(broker: &Broker, client: &str) -> Stomp {
    let mut stomp = Stomp::open(broker.port()).unwrap();
    let connect = Frame::new("CONNECT").with("accept-version", "1.2").with("host", "localhost");
    stomp.send(&connect.with("client-id", client)).unwrap();
    assert_eq!(stomp.receive().unwrap().command, "CONNECTED");
    stomp.speak("1.2");
    stomp
}

fn keep(topic: &str, name: &str) -> Frame {
    let subscribe = Frame::new("SUBSCRIBE").with("id", name).with("destination", topic);
    subscribe.with("ack", "client-individual").with("activemq.subscriptionName", name)
}

#[track_caller]
fn expect(stomp: &mut Stomp, texts: &[&str]) {
    for text in texts {
        let message = stomp.message().unwrap();
        assert_eq!(message.text(), *text);
        stomp.ack(&message).unwrap();
    }
}

/// What subscriptions keep: the names of their queues, and how many messages.
fn kept(broker: &Broker) -> Vec<(String, u64)> {
    let queues = broker.queues().into_iter();
    let kept = queues.filter(|(name, ..)| name.starts_with("subscription://"));
    kept.map(|(name, depth, _)| (name, depth)).collect()
}

#[test]
fn who_was_away_gets_what_was_published_once_and_over_a_kill() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    for client in ["ann", "bob"] {
        let mut stomp = connect_as(&broker, client);
        stomp.confirm(keep("/topic/news", "all")).unwrap();
        stomp.disconnect().unwrap();
    }
    let mut publisher = broker.connect();
    publisher.publish("/topic/news", "one").unwrap();
    let begin = Frame::new("BEGIN").with("transaction", "t");
    publisher.send(&begin).unwrap();
    let part = Frame::new("SEND").with("destination", "/topic/news").with("persistent", "true");
    publisher.send(&part.with("transaction", "t").body("two")).unwrap();
    publisher.confirm(Frame::new("COMMIT").with("transaction", "t")).unwrap();

    let broker = broker.kill_and_restart();
    let queue = |client: &str| format!("subscription://{client}/all?topic=news");
    assert_eq!(kept(&broker), [(queue("ann"), 2), (queue("bob"), 2)]);
    let mut ann = connect_as(&broker, "ann");
    ann.confirm(keep("/topic/news", "all")).unwrap();
    let first = ann.message().unwrap();
    assert_eq!((first.text(), first.header("destination")), ("one", Some("/topic/news")));
    ann.ack(&first).unwrap();
    expect(&mut ann, &["two"]);

    let broker = broker.kill_and_restart();
    assert_eq!(kept(&broker), [(queue("ann"), 0), (queue("bob"), 2)]);
    let mut bob = connect_as(&broker, "bob");
    bob.confirm(keep("/topic/news", "all")).unwrap();
    expect(&mut bob, &["one", "two"]);
    broker.connect().publish("/topic/news", "three").unwrap();
    expect(&mut bob, &["three"]);
    let mut ann = connect_as(&broker, "ann");
    ann.confirm(keep("/topic/news", "all")).unwrap();
    expect(&mut ann, &["three"]);
    assert_no_damage(&broker.kill());
}

#[test]
fn one_ends_when_its_client_says_so_and_not_while_it_is_in_use() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut ann = connect_as(&broker, "ann");
    ann.confirm(keep("/topic/news", "all")).unwrap();
    let mut second = connect_as(&broker, "ann");
    let refused = second.confirm(keep("/topic/news", "all")).unwrap_err().to_string();
    assert!(refused.contains("Durable consumer is in use for client: ann"), "{refused}");
    broker.connect().publish("/topic/news", "kept").unwrap();
    let end = Frame::new("UNSUBSCRIBE").with("activemq.subscriptionName", "all");
    let mut other = connect_as(&broker, "ann");
    let refused = other.confirm(end.clone()).unwrap_err().to_string();
    assert!(refused.contains("in use"), "{refused}");
    // It ends its own consumer, and the subscription with it.
    ann.confirm(end.clone().with("id", "all")).unwrap();
    assert_eq!(kept(&broker), []);
    let unknown = connect_as(&broker, "ann").confirm(end).unwrap_err().to_string();
    assert!(unknown.contains("No durable subscription exists for clientID: ann"), "{unknown}");
    let mut other = connect_as(&broker, "ann");
    let pattern = other.confirm(keep("/topic/news.>", "all")).unwrap_err().to_string();
    assert!(pattern.contains("a durable subscription is of one topic"), "{pattern}");
    let mut nobody = broker.connect();
    let nameless = nobody.confirm(keep("/topic/news", "all")).unwrap_err().to_string();
    assert!(nameless.contains("client-id"), "{nameless}");
    let broker = broker.kill_and_restart();
    assert_eq!(kept(&broker), []);
}

#[test]
fn an_operator_deletes_one_that_nobody_uses() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut ann = connect_as(&broker, "ann");
    ann.confirm(keep("/topic/news", "all").with("selector", "colour = 'red'")).unwrap();
    let name = kept(&broker)[0].0.clone();
    let refused = said(&broker.queue_command(&["delete", &name]));
    assert!(refused.contains("consumer"), "{refused}");
    ann.disconnect().unwrap();
    let colours = ["red", "blue"];
    let mut publisher = broker.connect();
    for colour in colours {
        let send = Frame::new("SEND").with("destination", "/topic/news").with("colour", colour);
        publisher.confirm(send.with("persistent", "true").body(colour)).unwrap();
    }
    assert_eq!(kept(&broker), [(name.clone(), 1)]);
    let deleted = broker.queue_command(&["delete", &name]);
    assert!(deleted.status.success(), "{deleted:?}");
    assert_eq!(kept(&broker), []);
}
