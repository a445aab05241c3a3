//! Messages on their way to the broker.

use super::*;
use crate::broker::command::Once;
use crate::identity::{Identity, Mark, Numbered};
use crate::ids::StageId;
use crate::message::{Content, Durability};
use crate::protocol::openwire::primitive::{Map, Value};
use crate::protocol::openwire::table::{DestinationInfo, ProducerInfo};

fn awaited(mut message: Message) -> Message {
    message.head.command_id = 5;
    message.head.response_required = true;
    message
}

fn with_property(mut message: Message, name: &str, value: Value) -> Message {
    let map = Map(vec![(Text::new(name).unwrap(), value)]);
    message.tail.marshalled_properties = Some(map.encode());
    message
}

#[test]
fn a_persistent_message_is_sent_under_its_producers_number_and_answered_by_the_broker() {
    let mut wire = Wire::alone();
    wire.say(&awaited(text(3, queue("q"))));
    let [Command::Once(once)] = &wire.asks()[..] else { panic!("it is told from a repetition") };
    let producer = Identity::of(b"c:1:1");
    assert_eq!(once.mark(), Mark::Number(Numbered { producer, sequence: 3 }));
    let Command::Send { to, message } = once.command() else { panic!("{once:?}") };
    assert_eq!((to, message.priority.get()), (&Destination::queue("q"), 4));
    assert_eq!(&Content::decode(message.content.clone()).unwrap().body[..], b"text");
    assert_eq!(wire.frames(), []);
    wire.answer(Ok(Reply::Repeated));
    let [Structure::Response(yes)] = &wire.frames()[..] else { panic!("an answer") };
    assert_eq!(yes.correlation_id, 5);
}

#[test]
fn the_broker_hears_of_the_end_of_a_producer_that_has_counted() {
    let session = SessionId { connection_id: Text::new("c"), value: 1 };
    let ends: [fn(&mut Wire, SessionId); 2] = [
        |wire, _| wire.say(&removal(producer_id(), -2)),
        |wire, session| wire.say(&removal(session, -2)),
    ];
    for end in ends {
        let mut wire = Wire::alone();
        let info = ProducerInfo { producer_id: Some(producer_id()), ..ProducerInfo::default() };
        wire.say(&info);
        wire.say(&text(1, queue("q")));
        wire.say(&text(2, queue("q")));
        wire.say(&text(3, queue("a,b")));
        // It is there already.
        wire.say(&info);
        let _ = wire.asks();
        end(&mut wire, session.clone());
        let asks = wire.asks();
        let [Command::EndProducers { producers }, Command::Barrier] = &asks[..] else {
            panic!("{asks:?}")
        };
        let names = ["c:1:1", "c:1:1 queue://a", "c:1:1 queue://b"];
        assert_eq!(*producers, names.map(|name| Identity::of(name.as_bytes())));
        // One that has said nothing persistent has counted nothing.
        wire.say(&info);
        let mut message = text(4, queue("q"));
        message.head.persistent = false;
        wire.say(&message);
        let _ = wire.asks();
        end(&mut wire, session.clone());
        let asks = wire.asks();
        assert!(matches!(asks[..], [Command::Barrier]), "{asks:?}");
    }
}

#[test]
fn what_a_bridge_sends_on_has_no_number_here() {
    let mut wire = Wire::alone();
    let mut message = text(3, queue("q"));
    message.head.producer_id = Some(ProducerId { value: 9, ..producer_id() });
    wire.say(&message);
    assert!(matches!(wire.asks()[..], [Command::Send { .. }]));
}

#[test]
fn each_of_several_queues_gets_it_once_and_all_are_answered_as_one() {
    let mut wire = Wire::alone();
    wire.say(&awaited(text(3, queue("a,topic://b,c"))));
    let asks = wire.asks();
    // Who publishes says whose connection this is.
    let [Command::Identify { .. }, Command::Once(a), Command::Once(b), Command::Once(c)] =
        &asks[..]
    else {
        panic!("{asks:?}")
    };
    assert_ne!(a.mark(), c.mark());
    assert_eq!(Once::sends_to(b), Some(&Destination::topic("b")));
    assert_eq!(Once::sends_to(c), Some(&Destination::queue("c")));
    wire.answer(Ok(Reply::Done));
    wire.answer(Err(Refusal::StorageFull));
    assert_eq!(wire.frames(), []);
    wire.answer(Ok(Reply::Done));
    let frames = wire.frames();
    assert_eq!(exception(&frames[0]).0, "javax.jms.ResourceAllocationException");
}

#[test]
fn a_message_nobody_awaits_gives_its_window_back_when_it_is_there() {
    let mut wire = Wire::alone();
    let info = ProducerInfo {
        producer_id: Some(producer_id()),
        window_size: 4096,
        ..ProducerInfo::default()
    };
    wire.say(&info);
    wire.say(&text(1, queue("q")));
    assert_eq!(wire.frames(), []);
    wire.answer(Ok(Reply::Done));
    let [Structure::ProducerAck(ack)] = &wire.frames()[..] else { panic!("room in the window") };
    assert_eq!(ack.size, 1024 + 8);
}

#[test]
fn a_refused_message_nobody_awaits_is_told_by_a_word_of_its_own() {
    let mut wire = Wire::alone();
    wire.say(&text(1, queue("q")));
    let [request] = &wire.session.poll_requests()[..] else { panic!("one send") };
    assert_eq!(request.confirm, Confirm::RefusalOnly);
    let (token, result) = (request.token, Err(Refusal::StorageFull));
    wire.session.handle_output(wire.now, Output::Answer { token, result });
    assert!(matches!(wire.frames()[..], [Structure::ConnectionError(_)]));
    assert!(wire.session.is_closing().is_none());
}

#[test]
fn a_delay_is_taken_from_the_properties_and_says_which_schedule_it_was() {
    let mut wire = Wire::alone();
    wire.say(&with_property(text(1, queue("q")), "AMQ_SCHEDULED_DELAY", Value::Long(500)));
    let [Command::Once(once)] = &wire.asks()[..] else { panic!("a send") };
    let Command::Send { message, .. } = once.command() else { panic!("{once:?}") };
    assert_eq!(message.when, crate::schedule::When::After(500));
    let content = Content::decode(message.content.clone()).unwrap();
    assert_eq!(content.properties, [("scheduledJobId".to_owned(), String::new())]);
    let published = text(2, place(DestinationKind::Topic, "t"));
    wire.say(&with_property(published, "AMQ_SCHEDULED_DELAY", Value::Long(500)));
    let asks = wire.asks();
    let [Command::Identify { .. }, Command::Once(once)] = &asks[..] else { panic!("{asks:?}") };
    let Command::Send { to, message } = once.command() else { panic!("{once:?}") };
    assert!(matches!(to, Destination::Topic(_)) && !message.when.is_at_once());
}

#[test]
fn an_id_against_duplicates_goes_before_the_producers_number() {
    let mut wire = Wire::alone();
    wire.say(&with_property(text(1, queue("q")), "_AMQ_DUPL_ID", Value::text("a-1")));
    let [Command::Once(once)] = &wire.asks()[..] else { panic!("a send") };
    assert_eq!(once.mark(), Mark::Name(Identity::of(b"a-1")));
    // On a topic too, where nothing is refused because nobody keeps it.
    let published = text(2, place(DestinationKind::Topic, "t"));
    wire.say(&with_property(published, "_AMQ_DUPL_ID", Value::text("a-1")));
    let asks = wire.asks();
    let Some(Command::Once(once)) = asks.last() else { panic!("a publication: {asks:?}") };
    assert_eq!((once.mark(), once.is_lenient()), (Mark::Name(Identity::of(b"a-1")), true));
}

#[test]
fn a_temporary_queue_is_its_connections_and_takes_nothing_to_the_disk() {
    let config = Arc::default();
    let (mut one, mut other) = (Wire::connected(&config, 1, "c"), Wire::connected(&config, 2, "d"));
    let mine = place(DestinationKind::TempQueue, "c:1");
    other.say(&awaited(text(1, mine.clone())));
    let frames = other.frames();
    assert_eq!(exception(&frames[0]).0, "org.apache.activemq.DestinationDoesNotExistException");
    let destination = Some(mine.clone());
    let add = DestinationInfo {
        command_id: 3,
        response_required: true,
        destination,
        ..Default::default()
    };
    one.say(&add);
    assert!(matches!(one.frames()[..], [Structure::Response(_)]));
    other.say(&text(2, mine.clone()));
    let [Command::Send { to, message }] = &other.asks()[..] else { panic!("a send") };
    assert_eq!(to, &Destination::queue("temp-queue://c:1"));
    assert_eq!(message.durability, Durability::NonPersistent);
    other.say(&consumer(1, mine, 1));
    let frames = other.frames();
    assert_eq!(exception(&frames[0]).0, "javax.jms.InvalidDestinationException");
    drop(one);
    assert_eq!(config.registry.take_doomed(), [Box::from("temp-queue://c:1")]);
}

#[test]
fn all_clients_hear_of_a_temporary_queue_before_its_owner_has_an_answer() {
    let config = Arc::default();
    let mut wire = Wire::connected(&config, 1, "c");
    let advisories = "ActiveMQ.Advisory.TempQueue,ActiveMQ.Advisory.TempTopic";
    wire.consume(1, place(DestinationKind::Topic, advisories), 1000);
    let destination = Some(place(DestinationKind::TempQueue, "c:1"));
    let add = DestinationInfo {
        command_id: 3,
        response_required: true,
        destination,
        ..Default::default()
    };
    wire.say(&add);
    let asks = wire.asks();
    let [Command::Send { to: Destination::Topic(topic), .. }] = &asks[..] else {
        panic!("{asks:?}")
    };
    assert_eq!(&**topic, "ActiveMQ.Advisory.TempQueue");
    assert_eq!(wire.frames(), []);
    wire.answer(Ok(Reply::Done));
    assert!(matches!(wire.frames()[..], [Structure::Response(_)]));
    // Who comes later is told of what there is.
    let mut late = Wire::connected(&config, 2, "d");
    late.say(&consumer(1, place(DestinationKind::Topic, advisories), 1000));
    late.answer(Ok(Reply::Done));
    late.answer(Ok(Reply::Done));
    let told = late.dispatched();
    assert!(matches!(
        told[0].tail.data_structure.as_deref(),
        Some(Structure::DestinationInfo(DestinationInfo { operation_type: 0, .. }))
    ));
}

#[test]
fn who_listens_by_a_pattern_is_told_until_it_goes() {
    let config = Arc::default();
    let mut listener = Wire::connected(&config, 1, "c");
    listener.consume(1, place(DestinationKind::Topic, "ActiveMQ.Advisory.Consumer.>"), 1000);
    let mut wire = Wire::connected(&config, 2, "d");
    wire.say(&consumer(1, place(DestinationKind::Queue, "q"), 1));
    let asks = wire.asks();
    let [Command::Send { to, .. }, Command::Subscribe { .. }] = &asks[..] else {
        panic!("{asks:?}")
    };
    assert_eq!(to, &Destination::topic("ActiveMQ.Advisory.Consumer.Queue.q"));
    listener.say(&removal(consumer_id(1), -1));
    wire.say(&consumer(2, place(DestinationKind::Queue, "q"), 1));
    let asks = wire.asks();
    assert!(matches!(asks[..], [Command::Subscribe { .. }]), "{asks:?}");
}

#[test]
fn the_session_vouches_for_temporary_destinations_whatever_the_size_and_for_nothing_else() {
    let wire = Wire::alone();
    let stage = |to| Command::Stage { stage: StageId(1), to, bytes: 1 };
    let read = |from| {
        let (subscription, prefetch, selector) = (SubscriptionId(1), 1, None);
        Command::Subscribe { subscription, from, prefetch, selector }
    };
    let temporary = || Destination::queue("temp-queue://ID:a:1");
    let advisory = "ActiveMQ.Advisory.TempQueue";
    for (command, vouched) in [
        (stage(temporary()), true),
        (stage(Destination::queue("q")), false),
        (read(temporary()), true),
        (read(Destination::topic(advisory)), true),
        (read(Destination::queue(advisory)), false),
        (read(Destination::topic("ActiveMQ.Advisory.Connection")), false),
    ] {
        assert_eq!(wire.session.vouches_for(&command), vouched, "{command:?}");
    }
}
