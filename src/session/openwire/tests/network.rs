//! Bridges of other brokers, and the durable subscriptions that both sides tell of.

use super::*;
use crate::broker::command::{KeptInfo, KeptPage};
use crate::protocol::openwire::table::{
    BrokerId, BrokerInfo, BrokerSubscriptionInfo, RemoveSubscriptionInfo, Response,
};

const TOPIC: DestinationKind = DestinationKind::Topic;
const SYNC: &str =
    "name=NC\nsyncDurableSubs=true\ndynamicallyIncludedDestinations=[topic\\://t.>]\n";

/// What a broker says that lays a bridge.
fn bridge(properties: &str, duplex: bool) -> BrokerInfo {
    BrokerInfo {
        broker_id: Some(BrokerId { value: Text::new("ID:far") }),
        broker_name: Text::new("far"),
        network_connection: true,
        duplex_connection: duplex,
        network_properties: Text::new(properties),
        ..BrokerInfo::default()
    }
}

fn bridged(config: &Arc<OpenWireConfig>, properties: &str, duplex: bool) -> Wire {
    bridged_from(config, 1, properties, duplex)
}

fn bridged_from(
    config: &Arc<OpenWireConfig>,
    connection: u64,
    properties: &str,
    duplex: bool,
) -> Wire {
    let mut wire = Wire::opened(config, connection);
    wire.say(&bridge(properties, duplex));
    wire.connect(&format!("far->near:{connection}"), &format!("NC_far_outbound:{connection}"));
    wire
}

/// A duplex bridge of which nothing was kept here.
fn duplex() -> Wire {
    let mut wire = bridged(&Arc::default(), "name=NC\n", true);
    wire.answer(kept(&[], false));
    let _ = wire.frames();
    wire
}

fn kept(all: &[(&str, &str, &str)], more: bool) -> Result<Reply, Refusal> {
    let of = |(client, name, topic): &(&str, &str, &str)| KeptInfo {
        client: (*client).into(),
        name: (*name).into(),
        topic: (*topic).into(),
    };
    let next = more.then(|| ("z".into(), "z".into()));
    Ok(Reply::Kept(KeptPage { kept: all.iter().map(of).collect(), next }))
}

/// An advisory of the other side.
fn advisory(about: Structure) -> Message {
    let mut message = Message::new(MessageKind::Plain);
    message.head.destination = Some(place(TOPIC, "ActiveMQ.Advisory.Consumer.Topic.t"));
    message.tail.data_structure = Some(Box::new(about));
    message
}

fn durable(value: i64, client: &str, name: &str, topic: &str) -> ConsumerInfo {
    ConsumerInfo {
        client_id: Text::new(client),
        subscription_name: Text::new(name),
        ..consumer(value, place(TOPIC, topic), 100)
    }
}

fn ended(client: &str, name: &str) -> RemoveSubscriptionInfo {
    RemoveSubscriptionInfo {
        client_id: Text::new(client),
        subscription_name: Text::new(name),
        ..RemoveSubscriptionInfo::default()
    }
}

/// The durable subscriptions that begin, and those that end.
fn changes(wire: &mut Wire) -> Vec<String> {
    let changes = wire.asks().into_iter().filter_map(|command| match command {
        Command::Keep { keep, .. } => {
            assert!(keep.selector.is_none(), "{keep:?}");
            Some(format!("+{} {} {}", keep.client, keep.name, keep.topic))
        }
        Command::EndKept { client, name, .. } => Some(format!("-{client} {name}")),
        _ => None,
    });
    changes.collect()
}

fn told(frames: Vec<Structure>) -> Vec<String> {
    let infos = frames.into_iter().filter_map(|frame| match frame {
        Structure::BrokerSubscriptionInfo(info) => info.subscription_infos,
        _ => None,
    });
    let text = |text: Option<Text>| text.map(|text| text.to_string()).unwrap_or_default();
    let of = |info: ConsumerInfo| {
        assert!(info.consumer_id.is_some());
        let topic = text(info.destination.and_then(|it| it.physical_name));
        format!("{} {} {topic}", text(info.client_id), text(info.subscription_name))
    };
    infos.flatten().flatten().map(of).collect()
}

#[test]
fn a_bridge_that_asks_is_told_of_the_durable_subscriptions_that_it_includes() {
    let config = Arc::default();
    let mut other = Wire::connected(&config, 2, "d");
    other.consume(1, place(TOPIC, "t.forced"), 10);
    let properties = SYNC.replace("[", "[topic\\://t.forced?forceDurable\\=true, ");
    let mut wire = bridged(&config, &properties, false);
    wire.answer(kept(&[("c", "s", "t.a"), ("c", "u", "other")], true));
    let before = wire.frames();
    assert_eq!(told(before), [""; 0], "not before all is known");
    wire.answer(kept(&[("NC_far_inbound_escrowmq", "NC-DS_escrowmq_t.a", "t.a")], false));
    assert_eq!(told(wire.frames()), ["c s t.a", "d  t.forced"]);
}

#[test]
fn who_does_not_ask_is_told_nothing_of_durable_subscriptions() {
    for duplex in [false, true] {
        let mut wire = bridged(&Arc::default(), "name=NC\n", duplex);
        let lists = |command: &&Command| matches!(command, Command::ListKept { .. });
        assert_eq!(wire.asks().iter().filter(lists).count(), usize::from(duplex));
        wire.answer_all();
        assert_eq!(told(wire.frames()), [""; 0]);
    }
    let mut client = Wire::alone();
    client.say(&BrokerSubscriptionInfo { command_id: 1, ..Default::default() });
    assert!(exception(&client.frames()[0]).1.contains("not known here"));
}

#[test]
fn nobody_is_told_of_durable_subscriptions_before_he_is_let_in() {
    let config = Arc::new(OpenWireConfig { login: true, ..OpenWireConfig::default() });
    let mut wire = Wire::opened(&config, 1);
    wire.say(&bridge(SYNC, false));
    wire.say(&BrokerSubscriptionInfo::default());
    wire.connect("far->near", "NC_far_outbound");
    assert_eq!(wire.asks().len(), 0);
    wire.session.handle_login(Ok("ann".to_owned()));
    assert!(matches!(wire.asks()[..], [Command::ListKept { .. }]));
}

#[test]
fn a_list_of_subscriptions_comes_after_that_of_a_bridge_alone() {
    let mut wire = Wire::opened(&Arc::default(), 1);
    wire.say(&BrokerSubscriptionInfo::default());
    let unexpected = CloseReason::Fault(Fault::Unexpected { code: 92 });
    assert_eq!(wire.session.is_closing(), Some(&unexpected));
}

#[test]
fn all_durable_subscribers_of_a_topic_there_are_one_durable_subscription_here() {
    let mut wire = duplex();
    wire.say(&advisory(Box::new(durable(1, "a", "s", "t")).into()));
    wire.say(&advisory(Box::new(durable(2, "b", "s", "t")).into()));
    wire.say(&advisory(Box::new(durable(3, "c", "s", "t.>")).into()));
    assert_eq!(changes(&mut wire), ["+NC_far_inbound_escrowmq NC-DS_escrowmq_t t"], "no pattern");
    wire.answer_all();
    // Who goes may come back.
    wire.say(&advisory(removal(consumer_id(1), -2).into()));
    wire.say(&advisory(ended("a", "s").into()));
    wire.say(&advisory(ended("a", "s").into()));
    assert_eq!(wire.asks().len(), 0);
    wire.say(&advisory(ended("b", "s").into()));
    assert_eq!(changes(&mut wire), ["-NC_far_inbound_escrowmq NC-DS_escrowmq_t"]);
}

#[test]
fn a_durable_subscription_for_the_other_side_ends_when_all_is_answered() {
    let mut wire = duplex();
    wire.say(&advisory(Box::new(durable(1, "a", "s", "t")).into()));
    wire.answer_all();
    wire.deliver(1, 1, stored("text"));
    let [Structure::Message(message)] = &wire.frames()[..] else { panic!("it goes over") };
    let correlation_id = message.head.command_id;
    wire.say(&advisory(ended("a", "s").into()));
    assert_eq!(changes(&mut wire), [""; 0]);
    wire.say(&Response { correlation_id, ..Response::default() });
    assert_eq!(changes(&mut wire), ["-NC_far_inbound_escrowmq NC-DS_escrowmq_t"]);
}

#[test]
fn what_came_from_there_is_kept_for_there_and_settled_without_going_back() {
    let mut wire = duplex();
    wire.say(&advisory(Box::new(durable(1, "a", "s", "t")).into()));
    wire.answer_all();
    let mut message = text(1, place(TOPIC, "t"));
    message.tail.broker_path = Some(vec![Some(BrokerId { value: Text::new("ID:far") })]);
    wire.say(&message);
    let sent = wire.asks().into_iter().find_map(|command| match command.bare() {
        Command::Send { message, .. } => Some(message.content.clone()),
        _ => None,
    });
    let _ = wire.frames();
    wire.deliver(1, 1, sent.expect("a publication"));
    assert_eq!(wire.frames(), []);
    assert_eq!(settled(&wire.asks()), [(Which::One(Tag(1)), Outcome::Accepted)]);
}

#[test]
fn what_an_earlier_bridge_has_kept_goes_on_until_the_other_side_says_it_is_for_nobody() {
    let client = "NC_far_inbound_escrowmq";
    let mut wire = Wire::opened(&Arc::default(), 1);
    wire.say(&bridge(SYNC, true));
    // It says so before it is let in, and so before what is here is known.
    let infos = vec![Some(durable(1, "a", "s", "t.a"))];
    wire.say(&BrokerSubscriptionInfo {
        subscription_infos: Some(infos),
        ..BrokerSubscriptionInfo::default()
    });
    wire.connect("far->near", "NC_far_outbound");
    let of = |topic: &str| (client, format!("NC-DS_escrowmq_{topic}"), topic.to_owned());
    let all = ["other", "t.a", "t.b"].map(of);
    let all: Vec<_> =
        all.iter().map(|(client, name, topic)| (*client, &**name, &**topic)).collect();
    wire.answer(kept(&all, true));
    let begun = all.iter().map(|(client, name, topic)| format!("+{client} {name} {topic}"));
    let ended = format!("-{client} NC-DS_escrowmq_t.b");
    assert!(changes(&mut wire).into_iter().eq(begun.chain([ended])));
}

#[test]
fn a_bridge_comes_up_however_many_subscriptions_it_tells_of_before_it_is_let_in() {
    let mut wire = Wire::opened(&Arc::default(), 1);
    wire.say(&bridge(SYNC, true));
    let infos = vec![Some(durable(1, "a", "s", "t.a")); 1000];
    wire.say(&BrokerSubscriptionInfo { subscription_infos: Some(infos), ..Default::default() });
    wire.connect("far->near", "NC_far_outbound");
    assert!(matches!(wire.frames()[1], Structure::Response(_)));
}

#[test]
fn of_two_bridges_to_one_consumer_of_a_topic_one_waits_for_it() {
    let config = Arc::default();
    let mut wires = [1, 2].map(|connection| {
        let mut wire = bridged_from(&config, connection, "name=NC\nnetworkTTL=3\n", true);
        wire.answer(kept(&[], false));
        wire
    });
    let direct = |name: &str| consumer(1, place(TOPIC, name), 100);
    // The same, as another broker tells of it that waits for it there.
    let behind = |name: &str| ConsumerInfo {
        consumer_id: Some(consumer_id(2)),
        network_subscription: true,
        network_consumer_path: Some(vec![Some(consumer_id(1))]),
        ..direct(name)
    };
    let begun = |wire: &mut Wire, info: ConsumerInfo| {
        wire.say(&advisory(Box::new(info).into()));
        wire.asks().iter().filter(|it| matches!(it, Command::Subscribe { .. })).count()
    };
    let [first, second] = &mut wires;
    assert_eq!((begun(first, direct("t")), begun(second, behind("t"))), (1, 0));
    // When nobody does any more, the next one may.
    first.say(&advisory(removal(consumer_id(1), -2).into()));
    assert_eq!((begun(second, behind("t")), begun(first, direct("t"))), (1, 0));
}

#[test]
fn a_consumer_that_comes_back_while_others_wait_is_waited_for() {
    let config = Arc::default();
    let mut wire = bridged_from(&config, 1, "name=NC\nnetworkTTL=3\n", true);
    wire.answer(kept(&[], false));
    let direct = |value: i64| consumer(value, place(TOPIC, "t"), 100);
    let begun = |wire: &mut Wire, value: i64| {
        wire.say(&advisory(Box::new(direct(value)).into()));
        wire.asks().iter().filter(|it| matches!(it, Command::Subscribe { .. })).count()
    };
    assert_eq!((begun(&mut wire, 1), begun(&mut wire, 2)), (1, 0));
    wire.say(&advisory(removal(consumer_id(1), -2).into()));
    assert_eq!(begun(&mut wire, 1), 0);
    wire.say(&advisory(removal(consumer_id(2), -2).into()));
    assert_eq!(wire.asks().len(), 0, "the first is there");
    wire.say(&advisory(removal(consumer_id(1), -2).into()));
    assert!(!wire.asks().is_empty(), "nobody is there");
}

#[test]
fn a_bridge_for_both_directions_is_told_of_while_it_is_up() {
    let config = Arc::default();
    let mut other = Wire::connected(&config, 9, "d");
    let listener = consumer(1, place(TOPIC, "ActiveMQ.Advisory.NetworkBridge"), 1000);
    other.consume(1, listener.destination.clone().unwrap(), 1000);
    let said = |wire: &mut Wire| {
        let said = wire.asks().into_iter().filter_map(|command| match command {
            Command::Send { to, message } if to.name().ends_with("NetworkBridge") => {
                Some(crate::message::Jms::decode(message.content).unwrap().head().message.clone())
            }
            _ => None,
        });
        said.collect::<Vec<_>>()
    };
    let about = |message: &Message| match message.tail.data_structure.as_deref() {
        Some(Structure::BrokerInfo(info)) => info.broker_name.clone(),
        other => panic!("{other:?}"),
    };
    let mut one_way = bridged_from(&config, 1, "name=NC\n", false);
    assert_eq!(said(&mut one_way), []);
    let mut wire = bridged_from(&config, 2, "name=NC\n", true);
    let up = said(&mut wire);
    assert_eq!((up.len(), about(&up[0])), (1, Text::new("far")));
    // Who begins to listen hears of it, too.
    let mut third = Wire::connected(&config, 3, "e");
    third.say(&listener);
    third.answer_all();
    let heard = third.dispatched();
    assert_eq!(heard.len(), 1);
    for told in [&up[0], &heard[0]] {
        let from = Some(crate::message::Value::Text(PEER.to_owned()));
        assert_eq!(said_by(told, "remoteIp"), from);
    }
    wire.session.handle_gone();
    let down = said(&mut wire);
    assert_eq!((down.len(), about(&down[0])), (1, Text::new("far")));
    assert_ne!(up[0].tail.marshalled_properties, down[0].tail.marshalled_properties);
}
