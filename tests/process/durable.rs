//! Stories of durable subscriptions over STOMP: what a topic keeps for who is away.

use std::path::Path;

use crate::support::broker::{ANY_PORT, Broker, assert_no_damage, run_to_end, said};
use crate::support::exposition::scrape;
use crate::support::fresh_dir;
use crate::support::stomp::{Frame, Stomp};

/// A connection of a client that says who it is.
pub(crate) fn connect_as(broker: &Broker, client: &str) -> Stomp {
    let mut stomp = Stomp::open(broker.port()).unwrap();
    let connect = Frame::new("CONNECT").with("accept-version", "1.2").with("host", "localhost");
    stomp.send(&connect.with("client-id", client)).unwrap();
    assert_eq!(stomp.receive().unwrap().command, "CONNECTED");
    stomp.speak("1.2");
    stomp
}

pub(crate) fn keep(topic: &str, name: &str) -> Frame {
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
    let pattern = other.confirm(keep("/topic/news.>.x", "all")).unwrap_err().to_string();
    assert!(pattern.contains("the name is no pattern"), "{pattern}");
    let mut nobody = broker.connect();
    let nameless = nobody.confirm(keep("/topic/news", "all")).unwrap_err().to_string();
    assert!(nameless.contains("client-id"), "{nameless}");
    let broker = broker.kill_and_restart();
    assert_eq!(kept(&broker), []);
}

/// Reads and settles so many messages, and tells on which topic each was published.
fn read_caught(stomp: &mut Stomp, count: usize) -> Vec<(String, String)> {
    let mut read = || {
        let message = stomp.message().unwrap();
        stomp.ack(&message).unwrap();
        (message.header("destination").unwrap().to_owned(), message.text().to_owned())
    };
    (0..count).map(|_| read()).collect()
}

#[test]
fn a_pattern_keeps_what_it_catches_and_each_message_tells_its_own_topic() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    for (client, of) in [("ann", "/topic/orders.>"), ("bob", "/topic/orders.*.new")] {
        let mut stomp = connect_as(&broker, client);
        stomp.confirm(keep(of, "all")).unwrap();
        stomp.disconnect().unwrap();
    }
    let mut publisher = broker.connect();
    publisher.publish("/topic/orders.a.new", "one").unwrap();
    publisher.publish("/topic/orders.a.old", "two").unwrap();
    publisher.publish("/topic/others", "nobody's").unwrap();
    publisher.send(&Frame::new("BEGIN").with("transaction", "t")).unwrap();
    let part = Frame::new("SEND").with("destination", "/topic/orders.b.new");
    let part = part.with("persistent", "true").with("transaction", "t");
    publisher.send(&part.body("three")).unwrap();
    publisher.confirm(Frame::new("COMMIT").with("transaction", "t")).unwrap();

    let broker = broker.kill_and_restart();
    let name = |client: &str, of: &str| format!("subscription://{client}/all?topic=orders.{of}");
    assert_eq!(kept(&broker), [(name("ann", "%3E"), 3), (name("bob", "%2A.new"), 2)]);
    let expected = |all: &[(&str, &str)]| -> Vec<_> {
        let owned = |(of, text): &(&str, &str)| (format!("/topic/orders.{of}"), (*text).to_owned());
        all.iter().map(owned).collect()
    };
    let (one, two, three) = (("a.new", "one"), ("a.old", "two"), ("b.new", "three"));
    let mut ann = connect_as(&broker, "ann");
    ann.confirm(keep("/topic/orders.>", "all")).unwrap();
    assert_eq!(read_caught(&mut ann, 3), expected(&[one, two, three]));
    let mut publisher = broker.connect();
    publisher.publish("/topic/orders.c", "four").unwrap();
    let send = Frame::new("SEND").with("destination", "/topic/orders");
    publisher.confirm(send.with("persistent", "false").body("five")).unwrap();
    let (four, five) = (("c", "four"), ("/topic/orders".to_owned(), "five".to_owned()));
    let mut live = expected(&[four]);
    live.push(five);
    assert_eq!(read_caught(&mut ann, 2), live);
    let mut bob = connect_as(&broker, "bob");
    bob.confirm(keep("/topic/orders.*.new", "all")).unwrap();
    assert_eq!(read_caught(&mut bob, 2), expected(&[one, three]));
    assert_no_damage(&broker.kill());
}

/// What of the topic a client finds in a store, and whether all of it is flagged.
fn read(data: &Path, client: &str, count: usize) -> (Vec<String>, bool) {
    let broker = Broker::start(data);
    let mut stomp = connect_as(&broker, client);
    stomp.confirm(keep("/topic/news", "all")).unwrap();
    let messages: Vec<_> = (0..count).map(|_| stomp.message().unwrap()).collect();
    for message in &messages {
        stomp.ack(message).unwrap();
    }
    let flagged = messages.iter().all(Frame::is_redelivered);
    assert_no_damage(&broker.kill());
    (messages.iter().map(|message| message.text().to_owned()).collect(), flagged)
}

#[test]
fn what_it_keeps_survives_moves_backups_and_an_index_that_is_made_again() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    for client in ["ann", "bob"] {
        let mut stomp = connect_as(&broker, client);
        stomp.confirm(keep("/topic/news", "all")).unwrap();
        stomp.disconnect().unwrap();
    }
    let texts = ["one", "two", "three"];
    let mut publisher = broker.connect();
    for text in texts {
        publisher.publish("/topic/news", text).unwrap();
    }
    // What an operator sets aside comes back, and nobody else's goes with it.
    let [(ann, 3), (_, 3)] = &kept(&broker)[..] else { panic!("{:?}", kept(&broker)) };
    for (from, to, left) in [(&**ann, "aside", 0), ("aside", ann, 3)] {
        let moved = broker.queue_command(&["move", from, to]);
        assert!(moved.status.success(), "{moved:?}");
        let depths: Vec<u64> = kept(&broker).into_iter().map(|(_, depth)| depth).collect();
        assert_eq!(depths, [left, 3]);
    }
    let nowhere = said(&broker.queue_command(&["move", "aside", "subscription://x/y?topic=z"]));
    assert!(nowhere.contains("belong to topics"), "{nowhere}");
    let broker = broker.terminate_and_restart();
    let (data, to) = (broker.data().to_owned(), |name: &str| dir.path().join(name));
    let run = |args: &[&Path]| {
        let output = run_to_end(&[&[Path::new("store")], args].concat());
        assert!(output.status.success(), "{output:?}");
    };
    let (backup, restored, mended) = (to("backup"), to("restored"), to("mended"));
    run(&[Path::new("backup"), &data, &backup]);
    assert!(broker.terminate().success());
    assert_no_damage(&data);
    run(&[Path::new("restore"), &backup, &restored]);
    let expected: Vec<String> = texts.map(str::to_owned).into();
    assert_eq!(read(&restored, "bob", 3), (expected.clone(), true));
    assert_eq!(read(&restored, "ann", 3).0, expected);
    std::fs::remove_file(data.join("index.redb")).unwrap();
    run(&[Path::new("repair"), &data, Path::new("--into"), &mended]);
    assert_no_damage(&mended);
    assert_eq!(read(&mended, "ann", 3).0, expected);
    assert_eq!(read(&mended, "bob", 3).0, expected);
}

#[test]
fn a_publication_for_a_thousand_subscriptions_is_one_sync_and_there_are_no_more() {
    let dir = fresh_dir();
    let args = ["--listen", ANY_PORT, "--metrics", "127.0.0.1:0"];
    let broker = Broker::start_with(&dir.path().join("data"), &args);
    let mut ann = connect_as(&broker, "ann");
    for number in 0..1024 {
        ann.confirm(keep("/topic/news", &format!("s{number}"))).unwrap();
        ann.send(&Frame::new("UNSUBSCRIBE").with("id", &format!("s{number}"))).unwrap();
    }
    let refused = ann.confirm(keep("/topic/news", "one more")).unwrap_err().to_string();
    assert!(refused.contains("1024"), "{refused}");

    let mut publisher = broker.connect();
    let of = |name: &str| scrape(broker.metrics_port())[name];
    for number in [1.0, 2.0] {
        let before = of("escrowmq_sync_seconds_count");
        publisher.publish("/topic/news", "told").unwrap();
        assert_eq!(of("escrowmq_sync_seconds_count") - before, 1.0);
        assert_eq!(of("escrowmq_depth"), number * 1024.0);
    }
    let broker = broker.kill_and_restart();
    assert_eq!(kept(&broker).iter().map(|(_, depth)| depth).sum::<u64>(), 2048);
    let mut last = connect_as(&broker, "ann");
    last.confirm(keep("/topic/news", "s1023")).unwrap();
    expect(&mut last, &["told", "told"]);
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
