//! Advisories: messages on topics by which clients hear of each other.
//!
//! Clients need those about temporary destinations: they send to none of which they have not heard.
//! Networks of brokers live on those about consumers. The others are for applications that listen.
//! They are made where somebody does, and are messages of the broker like any on a topic. Queues
//! are told of when a client of this wire begins to use them.

use std::sync::Arc;

use super::OpenWireSession;
use super::consume::UNKNOWN;
use super::consumer::ConsumerKey;
use super::names;
use super::network::{Network, through};
use super::present::{
    Fact, Kind, Properties, STOPPED, Subject, destination_info, is_told_of, of_bridge,
};
use super::stored::head_to_keep;
use crate::broker::command::{Command, Work};
use crate::message::{self, Destination, Durability, Jms, JmsBody, Priority};
use crate::protocol::openwire::message::{
    Destination as Wire, DestinationKind, Message, MessageKind,
};
use crate::protocol::openwire::primitive::{Map, Value};
use crate::protocol::openwire::table::{
    ConnectionId, ConnectionInfo, ConsumerInfo, DestinationInfo, MessageId, ProducerId,
    ProducerInfo, RemoveInfo, RemoveSubscriptionInfo, RemovedId,
};
use crate::protocol::openwire::{Secret, Structure, Text};
use crate::schedule::When;

const PREFIX: &str = "ActiveMQ.Advisory.";
pub(super) const QUEUE: &str = "ActiveMQ.Advisory.Queue";

impl OpenWireSession {
    /// What tells those who listen to a topic; nothing where nobody does.
    pub(super) fn advise(
        &mut self,
        topic: &str,
        about: Structure,
        properties: Properties,
    ) -> Option<Command> {
        if !self.config.registry.has_audience(topic) {
            return None;
        }
        let message = self.advisory(about, properties);
        let stored = Jms::Whole(head_to_keep(message, JmsBody::default()), bytes::Bytes::new());
        let message = message::Message {
            durability: Durability::NonPersistent,
            priority: Priority::new(0).expect("the lowest"),
            expires: None,
            when: When::AtOnce,
            grouped: false,
            content: stored.encode().expect("what is made here can be written"),
        };
        Some(Command::Send { to: Destination::topic(topic), message })
    }

    /// Whether the session has seen to it that its client may do this: what is about temporary
    /// destinations it looks at itself, and advisories it makes itself.
    #[must_use]
    pub fn vouches_for(&self, command: &Command) -> bool {
        match command.bare() {
            Command::Send { to, .. }
            | Command::Stage { to, .. }
            | Command::SendStaged { to, .. }
            | Command::Transact {
                work: Work::Send { to, .. } | Work::SendStaged { to, .. }, ..
            } => names::is_temporary(to) || is_advisory(to),
            Command::Subscribe { from, .. } | Command::SubscribeAs { from, .. } => {
                let told = [Kind::TempQueue.prefix(), Kind::TempTopic.prefix()];
                let told = told.contains(&from.name());
                names::is_temporary(from) || (told && is_advisory(from))
            }
            // For a listener to what is told of queues, which it was allowed.
            Command::ListQueues { .. } => true,
            _ => false,
        }
    }

    pub(super) fn tell(&mut self, topic: &str, about: Structure, properties: Properties) {
        if let Some(command) = self.advise(topic, about, properties) {
            self.submit(None, command);
        }
    }

    pub(super) fn advisory(&mut self, about: Structure, properties: Properties) -> Message {
        self.advised += 1;
        let config = &self.config;
        let id = format!("ID:{}-{:x}-{}", config.broker_id, config.epoch, self.connection.0);
        let id = MessageId {
            producer_id: Some(ProducerId {
                connection_id: Some(Text::cut(&id)),
                value: 0,
                session_id: 0,
            }),
            producer_sequence_id: self.advised,
            ..MessageId::default()
        };
        self.advisory_under(id, about, properties)
    }

    pub(super) fn advisory_under(
        &self,
        id: MessageId,
        about: Structure,
        properties: Properties,
    ) -> Message {
        let mut message = Message::new(MessageKind::Plain);
        let config = &self.config;
        message.head.message_id = Some(id);
        message.head.jms_type = Text::new("Advisory");
        let text = |name: &str, value: &str| Some((Text::new(name)?, Value::text(value)));
        let origin = [
            text("originBrokerId", &format!("ID:{}", config.broker_id)),
            text("originBrokerName", &config.broker_name),
            text("originBrokerURL", ""),
        ];
        let own = properties.into_iter().map(|(name, value)| Some((Text::new(name)?, value)));
        let map = Map(origin.into_iter().chain(own).flatten().collect());
        message.tail.marshalled_properties = Some(map.encode());
        message.tail.data_structure = Some(Box::new(about));
        message
    }

    /// The kind of a temporary destination.
    pub(super) fn kind_of_temporary(destination: &Destination) -> Kind {
        match destination {
            Destination::Topic(_) => Kind::TempTopic,
            Destination::Queue(_) => Kind::TempQueue,
        }
    }

    pub(super) fn temporary_info(&self, destination: &Destination, remove: bool) -> Structure {
        let connection_id = Some(ConnectionId { value: Some(self.client.name.clone()) });
        // What a bridge has brought is told with where it came from.
        let broker_path = self.network.as_ref().and_then(|it| through(&None, &it.peer));
        let info = destination_info(destination, remove);
        DestinationInfo { connection_id, broker_path, ..info }.into()
    }

    pub(super) fn advise_connection(&mut self, info: &ConnectionInfo) {
        let mut info = info.clone();
        info.password = info.password.map(|_| Secret(Text::default()));
        let topic = Kind::Connection.prefix();
        let about: Structure = Box::new(info).into();
        let fact = Fact::new(topic, about.clone());
        self.config.registry.begin(Kind::Connection, self.subject(0, 0), fact);
        self.tell(topic, about, Vec::new());
    }

    /// The client goes. Said once.
    pub(super) fn advise_disconnection(&mut self) {
        let name = std::mem::take(&mut self.client.name);
        for key in self.consumers.all() {
            let Some(consumer) = self.consumers.remove(&key) else { continue };
            self.advise_no_consumer(&key, &consumer.destinations, UNKNOWN);
        }
        self.remove_all_producers();
        self.advise_no_bridge();
        self.config.registry.end(Kind::Connection, self.subject(0, 0));
        let id = RemovedId::Connection(ConnectionId { value: Some(name) });
        let about = RemoveInfo { object_id: Some(id), ..RemoveInfo::default() };
        self.tell(Kind::Connection.prefix(), about.into(), Vec::new());
    }

    /// This side's half of a bridge is there.
    pub(super) fn advise_bridge(&mut self, network: &Network) {
        let topic = Kind::Bridge.prefix();
        let about = Structure::BrokerInfo(Box::new(network.about.clone()));
        let more = of_bridge(&self.peer);
        let fact = Fact { more: more.clone(), ..Fact::new(topic, about.clone()) };
        self.config.registry.begin(Kind::Bridge, self.subject(0, 0), fact);
        self.tell(topic, about, more);
    }

    fn advise_no_bridge(&mut self) {
        if let Some(change) = self.config.registry.end(Kind::Bridge, self.subject(0, 0)) {
            self.tell(Kind::Bridge.prefix(), change.fact.about, vec![STOPPED]);
        }
    }

    pub(super) fn advise_consumer(
        &mut self,
        key: &ConsumerKey,
        info: &ConsumerInfo,
        from: &[Destination],
    ) {
        for topic in from.iter().filter(|topic| is_advisory(topic)) {
            self.config.registry.listen(topic.name(), true);
        }
        let uses = told_of(from);
        if uses.is_empty() {
            return;
        }
        let topic = topic(Kind::Consumer, info.destination.as_ref());
        let mut info = info.clone();
        info.client_id.get_or_insert_with(|| Text::cut(&self.client.words));
        let fact = Fact { uses, ..Fact::new(&topic, Box::new(info).into()) };
        self.began(Kind::Consumer, self.subject(key.session, key.value), fact);
    }

    pub(super) fn advise_no_consumer(
        &mut self,
        key: &ConsumerKey,
        from: &[Destination],
        last: i64,
    ) {
        for topic in from.iter().filter(|topic| is_advisory(topic)) {
            self.config.registry.listen(topic.name(), false);
        }
        let subject = self.subject(key.session, key.value);
        self.ended(Kind::Consumer, subject, last);
    }

    pub(super) fn advise_producer(&mut self, id: &ProducerId, info: &ProducerInfo) {
        let uses = told_of(&names::parse(info.destination.as_ref()).unwrap_or_default());
        if uses.is_empty() {
            return;
        }
        let topic = topic(Kind::Producer, info.destination.as_ref());
        let fact = Fact { uses, ..Fact::new(&topic, info.clone().into()) };
        self.began(Kind::Producer, self.subject(id.session_id, id.value), fact);
    }

    pub(super) fn advise_no_producer(&mut self, id: &ProducerId) {
        self.ended(Kind::Producer, self.subject(id.session_id, id.value), 0);
    }

    /// A durable subscription to a topic has ended.
    pub(super) fn advise_no_subscription(
        &mut self,
        of: &Destination,
        about: RemoveSubscriptionInfo,
    ) {
        let topic = topic(Kind::Consumer, Some(&names::wire(of)));
        let count = self.config.registry.consumers_of(of);
        self.tell(&topic, about.into(), Kind::Consumer.properties(count));
    }

    /// An ordinary destination was deleted.
    pub(super) fn advise_no_destination(&mut self, destination: &Destination) {
        let topic = topic_of_destination(destination);
        self.tell(topic, destination_info(destination, true).into(), Vec::new());
    }

    fn began(&mut self, kind: Kind, subject: Subject, fact: Fact) {
        let change = self.config.registry.begin(kind, subject, fact);
        for used in change.edges.iter().filter(|edge| is_told_of(edge)) {
            let about = destination_info(used, false).into();
            self.tell(topic_of_destination(used), about, Vec::new());
        }
        let Fact { topic, about, .. } = change.fact;
        self.tell(&topic, about, kind.properties(change.count));
    }

    fn ended(&mut self, kind: Kind, subject: Subject, last_delivered_sequence_id: i64) {
        let Some(change) = self.config.registry.end(kind, subject) else { return };
        let object_id = match change.fact.about {
            Structure::ConsumerInfo(info) => info.consumer_id.map(RemovedId::Consumer),
            Structure::ProducerInfo(info) => info.producer_id.map(RemovedId::Producer),
            _ => None,
        };
        let about = RemoveInfo { object_id, last_delivered_sequence_id, ..Default::default() };
        self.tell(&change.fact.topic, about.into(), kind.properties(change.count));
        // A queue stays when nobody uses it.
        let topics = change.edges.iter().filter(|edge| matches!(edge, Destination::Topic(_)));
        for topic in topics.filter(|topic| is_told_of(topic)) {
            self.advise_no_destination(topic);
        }
    }

    pub(super) fn subject(&self, session: i64, value: i64) -> Subject {
        Subject::Of(self.connection, session, value)
    }
}

/// The destinations of which it is told who uses them: all but those of advisories.
fn told_of(destinations: &[Destination]) -> Arc<[Destination]> {
    destinations.iter().filter(|it| !is_advisory(it)).cloned().collect()
}

/// The topic on which an ordinary destination is told of.
fn topic_of_destination(destination: &Destination) -> &'static str {
    match destination {
        Destination::Topic(_) => Kind::Topic.prefix(),
        Destination::Queue(_) => QUEUE,
    }
}

/// The topic on which those are told of who use a destination. A composite one has one, without
/// its commas, which would make several of it; and one that stands for many has one without its
/// wildcards, to which nothing can be sent.
fn topic(kind: Kind, destination: Option<&Wire>) -> Box<str> {
    let is_topic = |kind| matches!(kind, DestinationKind::Topic | DestinationKind::TempTopic);
    let part = if destination.is_some_and(|it| is_topic(it.kind)) { "Topic" } else { "Queue" };
    let name = destination.and_then(|it| it.physical_name.as_ref());
    let name = name.map(Text::to_str).unwrap_or_default();
    let name = name.split_once('?').map_or(&*name, |(name, _)| name);
    let plain = name.split('.').map(|part| match part {
        "*" => "&ast;",
        ">" => "&gt;",
        part => part,
    });
    let name = plain.collect::<Vec<_>>().join(".").replace(',', "&sbquo;");
    format!("{}{part}.{name}", kind.prefix()).into()
}

/// Whether it is a topic of advisories, which only the broker makes.
pub(super) fn is_advisory(destination: &Destination) -> bool {
    matches!(destination, Destination::Topic(name) if name.starts_with(PREFIX))
}
