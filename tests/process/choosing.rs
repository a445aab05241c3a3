//! Stories of which consumer gets which message: exclusive ones, priorities, patterns of queues,
//! groups of messages.

use crate::support::broker::Broker;
use crate::support::fresh_dir;
use crate::support::stomp::{Frame, Stomp};

fn send(stomp: &mut Stomp, queue: &str, body: &str, headers: &[(&str, &str)]) {
    let send = Frame::new("SEND").with("destination", queue).with("persistent", "true").body(body);
    let send = headers.iter().fold(send, |frame, (name, value)| frame.with(name, value));
    stomp.confirm(send).unwrap();
}

fn subscribe(stomp: &mut Stomp, from: &str, headers: &[(&str, &str)]) {
    let subscribe = Frame::new("SUBSCRIBE").with("id", "s").with("destination", from);
    let subscribe = subscribe.with("ack", "client-individual");
    let subscribe = headers.iter().fold(subscribe, |frame, (name, value)| frame.with(name, value));
    stomp.confirm(subscribe).unwrap();
}

#[track_caller]
fn take(stomp: &mut Stomp) -> Frame {
    let message = stomp.message().unwrap();
    stomp.ack(&message).unwrap();
    message
}

#[track_caller]
fn expect(stomp: &mut Stomp, texts: &[&str]) {
    for text in texts {
        assert_eq!(take(stomp).text(), *text);
    }
}

#[test]
fn an_exclusive_consumer_gets_all_and_when_it_is_lost_the_next_has_what_it_held() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let (mut first, mut second, mut plain) = (broker.connect(), broker.connect(), broker.connect());
    subscribe(&mut plain, "/queue/q", &[]);
    subscribe(&mut first, "/queue/q", &[("activemq.exclusive", "true")]);
    subscribe(&mut second, "/queue/q", &[("activemq.exclusive", "true")]);
    let mut producer = broker.connect();
    for body in ["a", "b", "c"] {
        send(&mut producer, "/queue/q", body, &[]);
    }
    expect(&mut first, &["a"]);
    assert_eq!(first.message().unwrap().text(), "b");
    // It goes without a word, and holds two.
    drop(first);
    expect(&mut second, &["b", "c"]);
    drop(second);
    send(&mut producer, "/queue/q", "d", &[]);
    expect(&mut plain, &["d"]);
}

#[test]
fn the_higher_consumer_goes_first_and_the_other_has_what_it_has_no_room_for() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let (mut low, mut high) = (broker.connect(), broker.connect());
    subscribe(&mut low, "/queue/q", &[("activemq.priority", "-1")]);
    let higher = [("activemq.priority", "127"), ("activemq.prefetchSize", "2")];
    subscribe(&mut high, "/queue/q", &higher);
    let mut producer = broker.connect();
    for body in ["a", "b", "c"] {
        send(&mut producer, "/queue/q", body, &[]);
    }
    expect(&mut low, &["c"]);
    expect(&mut high, &["a", "b"]);
}

#[test]
fn a_consumer_of_a_pattern_reads_from_queues_that_come_later_and_hears_from_which() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let (mut star, mut producer) = (broker.connect(), broker.connect());
    send(&mut producer, "/queue/x.1", "before", &[]);
    subscribe(&mut star, "/queue/x.*", &[]);
    expect(&mut star, &["before"]);
    send(&mut producer, "/queue/x.2", "later", &[]);
    send(&mut producer, "/queue/x.2.deep", "deeper", &[]);
    let later = take(&mut star);
    assert_eq!((later.text(), later.header("destination")), ("later", Some("/queue/x.2")));
    let mut rest = broker.connect();
    subscribe(&mut rest, "/queue/x.>", &[]);
    expect(&mut rest, &["deeper"]);
}

#[test]
fn a_group_stays_with_its_consumer_over_a_full_window_and_moves_when_that_is_lost() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut producer = broker.connect();
    let of = |group: &'static str| [("JMSXGroupID", group)];
    send(&mut producer, "/queue/q", "r1", &of("red"));
    drop(producer);
    // What a new life finds belongs to groups as well.
    let broker = broker.kill_and_restart();
    let (mut one, mut two) = (broker.connect(), broker.connect());
    subscribe(&mut one, "/queue/q", &[("activemq.prefetchSize", "1")]);
    let mut producer = broker.connect();
    let r1 = one.message().unwrap();
    assert_eq!((r1.text(), r1.header("JMSXGroupFirstForConsumer")), ("r1", Some("true")));
    subscribe(&mut two, "/queue/q", &[]);
    send(&mut producer, "/queue/q", "r2", &of("red"));
    send(&mut producer, "/queue/q", "b1", &of("blue"));
    send(&mut producer, "/queue/q", "r3", &of("red"));
    // The window of the first is full: the other has the other group, and no message of this.
    let b1 = take(&mut two);
    assert_eq!((b1.text(), b1.header("JMSXGroupFirstForConsumer")), ("b1", Some("true")));
    one.ack(&r1).unwrap();
    let r2 = one.message().unwrap();
    assert_eq!((r2.text(), r2.header("JMSXGroupFirstForConsumer")), ("r2", None));
    drop(one);
    let r2 = take(&mut two);
    assert_eq!((r2.text(), r2.header("JMSXGroupFirstForConsumer")), ("r2", Some("true")));
    expect(&mut two, &["r3"]);
}
