//! Stories of messages that come back: how often, after how long, where they are set apart, and how
//! they get another try.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::durable::{connect_as, keep};
use crate::support::broker::{Broker, assert_no_damage, said};
use crate::support::stomp::{Frame, Stomp};
use crate::support::{Moment, fresh_dir};

/// Takes the next message of a subscription and gives it back.
fn give_back(stomp: &mut Stomp) -> Frame {
    let message = stomp.message().unwrap();
    stomp.nack(&message).unwrap();
    message
}

fn depth(broker: &Broker, name: &str) -> u64 {
    let queues = broker.queues();
    queues.iter().find(|(queue, ..)| queue == name).map_or(0, |(_, depth, _)| *depth)
}

#[test]
fn a_message_nobody_can_use_is_set_apart_and_goes_back_on_an_operators_word() {
    let dir = fresh_dir();
    let data = dir.path().join("data");
    let broker = Broker::start(&data);
    let mut stomp = broker.connect();
    stomp.publish("/queue/orders", "poison").unwrap();
    stomp.publish("/queue/orders", "good").unwrap();
    let subscribe = Frame::new("SUBSCRIBE").with("id", "s").with("destination", "/queue/orders");
    let subscribe = subscribe.with("ack", "client-individual").with("activemq.prefetchSize", "1");
    stomp.confirm(subscribe).unwrap();
    // Six deliveries after the first, as clients of ActiveMQ do it.
    for attempt in 1..=7 {
        let message = give_back(&mut stomp);
        assert_eq!(message.text(), "poison");
        assert_eq!(message.header("JMSXDeliveryCount"), Some(attempt.to_string().as_str()));
    }
    let good = stomp.message().unwrap();
    assert_eq!(good.text(), "good", "what is behind it goes on");
    stomp.ack(&good).unwrap();
    stomp.disconnect().unwrap();

    let broker = broker.kill_and_restart();
    let listed = said(&broker.command(&["dlq", "list"]));
    assert!(listed.contains("originalDestination: queue://orders"), "{listed}");
    let mut stomp = broker.connect();
    stomp.subscribe("d", "/queue/ActiveMQ.DLQ", "client-individual").unwrap();
    let apart = stomp.message().unwrap();
    assert_eq!(apart.text(), "poison");
    assert_eq!(apart.header("original-destination"), Some("/queue/orders"));
    assert_eq!(apart.header("originalDestination"), Some("queue://orders"));
    assert!(apart.header("dlqDeliveryFailureCause").unwrap().contains("came back"), "{apart:?}");
    assert!(apart.is_redelivered());
    stomp.disconnect().unwrap();

    crate::support::wait_until("the reader has gone", || broker.queues().iter().all(|q| q.2 == 0));
    let none = said(&broker.command(&["dlq", "retry", "--origin", "bills"]));
    assert!(none.contains("0 moved"), "{none}");
    let retried = said(&broker.command(&["dlq", "retry", "--count", "5"]));
    assert!(retried.contains("1 moved"), "{retried}");
    let mut stomp = broker.connect();
    stomp.subscribe("s", "/queue/orders", "client-individual").unwrap();
    let again = give_back(&mut stomp);
    assert_eq!((again.text(), again.header("original-destination")), ("poison", None));
    // It has all its tries before it again.
    assert_eq!(stomp.message().unwrap().text(), "poison");
    drop(stomp);
    assert!(broker.terminate().success());
    assert_no_damage(&data);
}

#[test]
fn a_delay_is_kept_over_a_kill_and_holds_up_nobody() {
    let dir = fresh_dir();
    let settings = r#"
        [[redelivery]]
        name = "queue://slow.>"
        maximum = 1
        delay = 1500
        dead_letters = "DLQ."
    "#;
    let broker = Broker::start_configured(&dir.path().join("data"), settings);
    let mut stomp = broker.connect();
    stomp.publish("/queue/slow.one", "later").unwrap();
    stomp.publish("/queue/slow.one", "now").unwrap();
    stomp.subscribe("s", "/queue/slow.one", "client-individual").unwrap();
    let began = Moment::now();
    let first = give_back(&mut stomp);
    assert_eq!(first.text(), "later");
    let second = stomp.message().unwrap();
    assert_eq!(second.text(), "now");
    stomp.ack(&second).unwrap();
    let shown = said(&broker.queue_command(&["show", "slow.one", "--over", "0"]));
    assert!(shown.contains("1 are delayed"), "{shown}");

    let broker = Broker::start_configured(&broker.kill(), settings);
    let mut stomp = broker.connect();
    stomp.subscribe("s", "/queue/slow.one", "client-individual").unwrap();
    let again = give_back(&mut stomp);
    began.assert_passed(Duration::from_millis(1500));
    assert_eq!((again.text(), again.header("JMSXDeliveryCount")), ("later", Some("2")));
    assert_eq!((depth(&broker, "slow.one"), depth(&broker, "DLQ.slow.one")), (0, 1));
}

#[test]
fn what_expires_is_set_apart_if_its_queue_says_nothing_else() {
    let dir = fresh_dir();
    let settings = "[[redelivery]]\nname = \"queue://gone\"\nwhen_expired = \"drop\"\n";
    let broker = Broker::start_configured(&dir.path().join("data"), settings);
    let mut stomp = broker.connect();
    for name in ["/queue/kept", "/queue/gone"] {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_millis(50);
        let send = Frame::new("SEND").with("destination", name);
        let send = send.with("expires", &at.as_millis().to_string());
        stomp.confirm(send.body(name)).unwrap();
    }
    crate::support::wait_until("both are over", || {
        depth(&broker, "kept") == 0 && depth(&broker, "gone") == 0
    });
    assert_eq!(depth(&broker, "ActiveMQ.DLQ"), 1);
    stomp.subscribe("d", "/queue/ActiveMQ.DLQ", "client-individual").unwrap();
    let apart = stomp.message().unwrap();
    assert_eq!((apart.text(), apart.header("expires")), ("/queue/kept", None));
    assert!(apart.header("dlqDeliveryFailureCause").unwrap().contains("time was over"));
}

#[test]
fn a_scheduled_message_survives_a_kill_and_comes_once_at_its_time() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    let send = Frame::new("SEND").with("destination", "/queue/later");
    let began = Moment::now();
    let late = send.clone().with("AMQ_SCHEDULED_DELAY", "2000").with("persistent", "false");
    stomp.confirm(late.body("late")).unwrap();
    stomp.publish("/queue/later", "soon").unwrap();
    let shown = said(&broker.queue_command(&["browse", "later"]));
    assert!(shown.contains("delayed until"), "{shown}");

    let broker = broker.kill_and_restart();
    let mut stomp = broker.connect();
    stomp.subscribe("s", "/queue/later", "client-individual").unwrap();
    let soon = stomp.message().unwrap();
    let late = stomp.message().unwrap();
    began.assert_passed(Duration::from_millis(2000));
    assert_eq!((soon.text(), late.text()), ("soon", "late"));
    assert_eq!((late.is_redelivered(), late.header("AMQ_SCHEDULED_DELAY")), (false, None));
    stomp.ack(&soon).unwrap();
    stomp.ack(&late).unwrap();
    assert_eq!(depth(&broker, "later"), 0);
}

/// Sends what is set apart at once, and waits for that.
#[track_caller]
pub(crate) fn expire(broker: &Broker, stomp: &mut Stomp, destination: &str, text: &str) {
    let apart = || depth(broker, "ActiveMQ.DLQ");
    let before = apart();
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_millis(50);
    let at = at.as_millis().to_string();
    let send = Frame::new("SEND").with("destination", destination).with("persistent", "true");
    stomp.confirm(send.with("expires", &at).body(text)).unwrap();
    crate::support::wait_until("it is set apart", || apart() == before + 1);
}

#[test]
fn what_a_pattern_has_kept_is_retried_by_the_topic_it_was_published_on() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut ann = connect_as(&broker, "ann");
    ann.confirm(keep("/topic/prices.*", "all")).unwrap();
    ann.disconnect().unwrap();
    let mut stomp = broker.connect();
    for to in ["/topic/prices.tin", "/topic/prices.gold", "/topic/prices.tin"] {
        expire(&broker, &mut stomp, to, to);
    }
    let mut ann = connect_as(&broker, "ann");
    ann.confirm(keep("/topic/prices.*", "all")).unwrap();
    for (origin, count) in
        [("topic://prices", 0), ("topic://prices.gold", 1), ("topic://prices.*", 2)]
    {
        let retried = said(&broker.command(&["dlq", "retry", "--origin", origin]));
        assert!(retried.contains(&format!("{count} moved")), "{origin}: {retried}");
    }
    let texts: Vec<_> = (0..3).map(|_| ann.message().unwrap().text().to_owned()).collect();
    assert_eq!(texts, ["/topic/prices.gold", "/topic/prices.tin", "/topic/prices.tin"]);
}

#[test]
fn what_a_subscription_kept_comes_from_its_topic_and_stays_apart_once_that_has_ended() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut ann = connect_as(&broker, "ann");
    ann.confirm(keep("/topic/news", "all")).unwrap();
    ann.disconnect().unwrap();
    let mut stomp = broker.connect();
    for (to, text) in
        [("/topic/news", "goes back"), ("/topic/news", "stays"), ("/queue/orders", "behind it")]
    {
        expire(&broker, &mut stomp, to, text);
    }
    let shown = said(&broker.command(&["dlq", "list"]));
    assert!(shown.contains("originalDestination: topic://news"), "{shown}");
    assert!(!shown.contains("subscription://"), "{shown}");
    stomp.subscribe("d", "/queue/ActiveMQ.DLQ", "client-individual").unwrap();
    for origin in ["topic://news", "topic://news", "queue://orders"] {
        let apart = stomp.message().unwrap();
        let short = origin.replacen("://", "/", 1);
        assert_eq!(apart.header("original-destination"), Some(&*format!("/{short}")));
        assert_eq!(apart.header("originalDestination"), Some(origin));
    }
    stomp.disconnect().unwrap();
    crate::support::wait_until("the reader has gone", || broker.queues().iter().all(|q| q.2 == 0));

    let retry = ["dlq", "retry", "--origin", "topic://news", "--count", "1"];
    let retried = said(&broker.command(&retry));
    assert!(retried.contains("1 moved"), "{retried}");
    let mut ann = connect_as(&broker, "ann");
    ann.confirm(keep("/topic/news", "all")).unwrap();
    let again = ann.message().unwrap();
    assert_eq!((again.text(), again.header("originalDestination")), ("goes back", None));
    let end = Frame::new("UNSUBSCRIBE").with("activemq.subscriptionName", "all");
    ann.confirm(end.with("id", "all")).unwrap();

    // What has to stay is none of those that are to be moved.
    let retried = broker.command(&["dlq", "retry", "--count", "1"]);
    assert!(retried.status.success(), "{retried:?}");
    assert!(said(&retried).contains("1 moved, 1 stayed"), "{retried:?}");
    assert_eq!((depth(&broker, "orders"), depth(&broker, "ActiveMQ.DLQ")), (1, 1));
}
