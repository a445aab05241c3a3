//! Advisories: what clients and other brokers are told of each other.

use super::*;
use crate::broker::command::{KeptInfo, KeptPage};
use crate::protocol::openwire::table::{RemoveInfo, RemoveSubscriptionInfo, RemovedId};

fn topic(name: &str) -> WireDestination {
    place(DestinationKind::Topic, &format!("ActiveMQ.Advisory.{name}"))
}

/// Where advisories were sent since, and what these are about.
fn told(wire: &mut Wire) -> Vec<(String, Structure)> {
    let told = wire.asks().into_iter().filter_map(|command| match command {
        Command::Send { to, message } => Some((to.name().to_owned(), about(message.content)?)),
        _ => None,
    });
    told.collect()
}

fn about(content: Bytes) -> Option<Structure> {
    let message = crate::message::Jms::decode(content).ok()?;
    message.head().message.tail.data_structure.as_deref().cloned()
}

#[test]
fn nothing_is_told_where_nobody_listens() {
    let config = Arc::default();
    let mut one = Wire::connected(&config, 1, "c");
    one.say(&consumer(1, queue("q"), 1));
    assert_eq!(told(&mut one), []);
    let mut other = Wire::connected(&config, 2, "d");
    other.consume(1, topic("Consumer.Queue.q"), 1000);
    one.say(&consumer(2, queue("q"), 1));
    one.say(&consumer(3, queue("r"), 1));
    let heard = told(&mut one);
    assert_eq!(heard.len(), 1);
    assert_eq!(heard[0].0, "ActiveMQ.Advisory.Consumer.Queue.q");
}

#[test]
fn who_reads_from_many_is_told_of_where_something_can_be_sent() {
    let config = Arc::default();
    let mut other = Wire::connected(&config, 2, "d");
    other.consume(1, topic("Consumer.>"), 1000);
    let mut one = Wire::connected(&config, 1, "c");
    one.say(&consumer(1, place(DestinationKind::Topic, "a.*.b,c.>"), 1));
    let heard = told(&mut one);
    assert_eq!(heard[0].0, "ActiveMQ.Advisory.Consumer.Topic.a.&ast;.b&sbquo;c.&gt;");
}

#[test]
fn who_begins_to_listen_hears_of_all_that_is_there_before_the_answer() {
    let config = Arc::default();
    let mut one = Wire::connected(&config, 1, "c");
    for value in 1..=10 {
        one.consume(value, queue("q"), 1);
    }
    let mut other = Wire::connected(&config, 2, "d");
    let mut listener = consumer(1, topic("Consumer.Queue.q"), 1000);
    listener.response_required = true;
    other.say(&listener);
    other.answer(Ok(Reply::Done));
    // A page, and then the broker's turn.
    let first = other.dispatched();
    assert_eq!(first.len(), limits::ADVISORIES_A_PAGE);
    assert!(matches!(other.asks()[..], [Command::Barrier]));
    other.answer(Ok(Reply::Done));
    assert_eq!(other.dispatched().len(), limits::ADVISORIES_A_PAGE);
    other.answer(Ok(Reply::Done));
    let rest = other.frames();
    assert_eq!(rest.len(), 10 - 2 * limits::ADVISORIES_A_PAGE + 1);
    assert!(matches!(rest.last(), Some(Structure::Response(_))));
    assert!(first[0].tail.target_consumer_id == listener.consumer_id);
}

#[test]
fn the_end_of_a_connection_is_the_end_of_its_consumers() {
    let config = Arc::default();
    let mut other = Wire::connected(&config, 2, "d");
    other.consume(1, topic("Consumer.Queue.q"), 1000);
    let mut one = Wire::connected(&config, 1, "c");
    one.consume(1, queue("q"), 1);
    let _ = told(&mut one);
    one.session.handle_gone();
    let heard = told(&mut one);
    assert!(matches!(
        heard[..],
        [(_, Structure::RemoveInfo(RemoveInfo { object_id: Some(RemovedId::Consumer(_)), .. }))]
    ));
}

#[test]
fn the_end_of_a_durable_subscription_is_told_on_its_topic_when_it_has_ended() {
    let config = Arc::default();
    let mut other = Wire::connected(&config, 2, "d");
    other.consume(1, topic("Consumer.Topic.t"), 1000);
    let mut one = Wire::connected(&config, 1, "c");
    let ends = |name: &str| RemoveSubscriptionInfo {
        command_id: 5,
        response_required: true,
        client_id: Text::new("another"),
        subscription_name: Text::new(name),
        ..RemoveSubscriptionInfo::default()
    };
    let page = |name: &str| KeptPage {
        kept: vec![KeptInfo { client: "c".into(), name: name.into(), topic: "t".into() }],
        next: None,
    };
    one.say(&ends("s"));
    one.answer(Ok(Reply::Kept(page("s"))));
    assert_eq!(told(&mut one), []);
    one.answer(Ok(Reply::Removed(0)));
    let heard = told(&mut one);
    let [(on, Structure::RemoveSubscriptionInfo(info))] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!(on, "ActiveMQ.Advisory.Consumer.Topic.t");
    // Whose it was is what the broker knows, not what was said.
    assert_eq!((&info.client_id, &info.subscription_name), (&Text::new("c"), &Text::new("s")));
    assert!(matches!(one.frames()[..], [Structure::Response(_)]));
    // There is none of that name, but a next one.
    one.say(&ends("r"));
    one.answer(Ok(Reply::Kept(page("s"))));
    let none = Refusal::NoSuchKept { client: "c".into(), name: "r".into() };
    one.answer(Err(none));
    assert_eq!(told(&mut one), []);
    assert_eq!(one.frames().len(), 1);
}

#[test]
fn what_became_of_a_message_is_told_as_an_advisory_about_it_without_its_body() {
    use crate::message::{Jms, JmsBody, Notice, Value};
    let mut wire = Wire::alone();
    wire.consume(1, topic("Expired.>"), 1000);
    let text = |text: &str| Some(Value::Text(text.to_owned()));
    let mut sent = super::text(7, queue("q"));
    sent.head.correlation_id = Text::new("order");
    let id = sent.head.message_id.clone();
    let (body, bytes) = JmsBody::of(&sent);
    let head = crate::message::JmsHead { message: sent, body };
    let whole = Jms::Whole(head, bytes).encode().unwrap();
    for (birth, content, name) in
        [(16, whole, "c:1:1:7"), (17, stored("of another wire"), "ID:escrowmq-d11")]
    {
        let notice = Notice {
            of: Destination::queue("q"),
            id: BrokerMessageId::Durable(Lsn(birth)).to_string(),
            at: Millis(5),
            expires: Some(Millis(9)),
            priority: 3,
            persistent: true,
            returns: 2,
            cause: None,
            content,
        };
        wire.deliver(1, birth, notice.encode().unwrap());
        let told = wire.dispatched();
        let [advisory] = &told[..] else { panic!("{told:?}") };
        assert_eq!(advisory.head.jms_type, Text::new("Advisory"));
        assert_eq!(said_by(advisory, "orignalMessageId"), text(name));
        assert_eq!(said_by(advisory, "orignalDestination"), text("queue://q"));
        assert_eq!(said_by(advisory, "originBrokerName"), text("escrowmq"));
        let Some(Structure::Message(about)) = advisory.tail.data_structure.as_deref() else {
            panic!("it is about a message")
        };
        assert_eq!((about.kind, &about.content), (MessageKind::Text, &None));
        assert_eq!(about.head.destination, Some(queue("q")));
        assert_eq!((about.head.priority, about.head.expiration), (3, 9));
        assert_eq!((about.head.persistent, about.tail.redelivery_counter), (true, 2));
        if birth == 16 {
            assert_eq!(about.head.correlation_id, Text::new("order"));
            let of = |id: &MessageId| (id.producer_id.clone(), id.producer_sequence_id);
            assert_eq!(about.head.message_id.as_ref().map(of), id.as_ref().map(of));
        }
    }
}
