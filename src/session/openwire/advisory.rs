//! Advisories: messages on topics by which clients hear of each other.
//!
//! Clients need those about temporary destinations: they send to none of which they have not heard.
//! The others are for applications that listen. They are made where somebody does, and are messages
//! of the broker like any on a topic.

use super::OpenWireSession;
use super::consumer::ConsumerKey;
use super::names;
use super::stored::{Outgoing, head_to_keep};
use crate::broker::command::{Command, Work};
use crate::message::{self, Destination, Durability, Jms, JmsBody, Priority};
use crate::protocol::openwire::message::{Message, MessageKind};
use crate::protocol::openwire::primitive::{Map, Value};
use crate::protocol::openwire::table::{
    ConnectionId, ConnectionInfo, ConsumerInfo, DestinationInfo, MessageId, ProducerId,
    ProducerInfo, RemoveInfo, RemovedId,
};
use crate::protocol::openwire::{Secret, Structure, Text};
use crate::schedule::When;

const PREFIX: &str = "ActiveMQ.Advisory.";
const TEMP_QUEUE: &str = "ActiveMQ.Advisory.TempQueue";
const TEMP_TOPIC: &str = "ActiveMQ.Advisory.TempTopic";
const CONNECTION: &str = "ActiveMQ.Advisory.Connection";

impl OpenWireSession {
    /// Tells those who listen to a topic; false where nobody does.
    pub(super) fn advise(&mut self, topic: &str, about: Structure) -> Option<Command> {
        if !self.config.registry.has_audience(topic) {
            return None;
        }
        let message = self.advisory(about);
        let stored = Jms::Whole(head_to_keep(message, JmsBody::default()), bytes::Bytes::new());
        let message = message::Message {
            durability: Durability::NonPersistent,
            priority: Priority::new(0).expect("the lowest"),
            expires: None,
            when: When::AtOnce,
            content: stored.encode().ok()?,
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
            Command::Subscribe { from, .. } => {
                let told = [TEMP_QUEUE, TEMP_TOPIC].contains(&from.name());
                names::is_temporary(from) || (told && is_advisory(from))
            }
            _ => false,
        }
    }

    fn tell(&mut self, topic: &str, about: Structure) {
        if let Some(command) = self.advise(topic, about) {
            self.submit(None, command);
        }
    }

    fn advisory(&mut self, about: Structure) -> Message {
        self.advised += 1;
        let mut message = Message::new(MessageKind::Plain);
        let config = &self.config;
        let id = format!("ID:{}-{:x}-{}", config.broker_id, config.epoch, self.connection.0);
        message.head.message_id = Some(MessageId {
            producer_id: Some(ProducerId {
                connection_id: Some(Text::cut(&id)),
                value: 0,
                session_id: 0,
            }),
            producer_sequence_id: self.advised,
            ..MessageId::default()
        });
        message.head.jms_type = Text::new("Advisory");
        let text = |name: &str, value: &str| Some((Text::new(name)?, Value::text(value)));
        let properties = [
            text("originBrokerId", &format!("ID:{}", config.broker_id)),
            text("originBrokerName", &config.broker_name),
            text("originBrokerURL", ""),
        ];
        let map = Map(properties.into_iter().flatten().collect());
        message.tail.marshalled_properties = Some(map.encode());
        message.tail.data_structure = Some(Box::new(about));
        message
    }

    /// The topic on which a temporary destination is told of.
    pub(super) fn topic_of_temporary(destination: &Destination) -> &'static str {
        match destination {
            Destination::Topic(_) => TEMP_TOPIC,
            _ => TEMP_QUEUE,
        }
    }

    pub(super) fn temporary_info(&self, destination: &Destination, remove: bool) -> Structure {
        DestinationInfo {
            connection_id: Some(ConnectionId { value: Some(self.client.name.clone()) }),
            destination: Some(names::wire(destination)),
            operation_type: i8::from(remove),
            ..DestinationInfo::default()
        }
        .into()
    }

    /// Tells a new consumer of the temporary destinations that there are.
    pub(super) fn replay_advisories(&mut self, key: &ConsumerKey) {
        let Some(consumer) = self.consumers.get(key) else { return };
        let topics = consumer.destinations.clone();
        for destination in self.config.registry.temporary() {
            let name = Self::topic_of_temporary(&destination);
            let Some(topic) = topics.iter().find(|topic| topic.name() == name) else { continue };
            let mut message = self.advisory(self.temporary_info(&destination, false));
            message.head.destination = Some(names::wire(topic));
            if let Some(id) = &mut message.head.message_id {
                id.broker_sequence_id = self.dispatched + 1;
                message.head.producer_id.clone_from(&id.producer_id);
            }
            message.tail.target_consumer_id =
                self.consumers.get(key).and_then(|consumer| consumer.info.consumer_id.clone());
            self.dispatch(key, topic, Outgoing::Whole(message), None);
        }
    }

    pub(super) fn advise_connection(&mut self, info: &ConnectionInfo) {
        let mut info = info.clone();
        info.password = info.password.map(|_| Secret(Text::default()));
        self.tell(CONNECTION, Box::new(info).into());
    }

    /// The client goes. Said once.
    pub(super) fn advise_disconnection(&mut self) {
        let name = std::mem::take(&mut self.client.name);
        for consumer in self.consumers.all() {
            let Some(consumer) = self.consumers.remove(&consumer) else { continue };
            self.advise_no_consumer(&consumer.info, &consumer.destinations, -2);
        }
        let id = RemovedId::Connection(ConnectionId { value: Some(name) });
        self.tell(CONNECTION, RemoveInfo { object_id: Some(id), ..RemoveInfo::default() }.into());
    }

    pub(super) fn advise_consumer(&mut self, info: &ConsumerInfo, from: &[Destination]) {
        for destination in from {
            if destination.name().starts_with(PREFIX) {
                self.config.registry.listen(destination.name(), true);
            } else {
                self.tell(&topic("Consumer", destination), Box::new(info.clone()).into());
            }
        }
    }

    pub(super) fn advise_no_consumer(
        &mut self,
        info: &ConsumerInfo,
        from: &[Destination],
        last: i64,
    ) {
        for destination in from {
            if destination.name().starts_with(PREFIX) {
                self.config.registry.listen(destination.name(), false);
                continue;
            }
            let object_id = info.consumer_id.clone().map(RemovedId::Consumer);
            let last_delivered_sequence_id = last;
            let about = RemoveInfo { object_id, last_delivered_sequence_id, ..Default::default() };
            self.tell(&topic("Consumer", destination), about.into());
        }
    }

    pub(super) fn advise_producer(&mut self, info: &ProducerInfo) {
        for destination in names::parse(info.destination.as_ref()).unwrap_or_default() {
            self.tell(&topic("Producer", &destination), info.clone().into());
        }
    }

    pub(super) fn advise_no_producer(&mut self, info: &ProducerInfo) {
        for destination in names::parse(info.destination.as_ref()).unwrap_or_default() {
            let object_id = info.producer_id.clone().map(RemovedId::Producer);
            let about = RemoveInfo { object_id, ..RemoveInfo::default() };
            self.tell(&topic("Producer", &destination), about.into());
        }
    }
}

/// The topic on which something about a destination is told.
fn topic(what: &str, destination: &Destination) -> String {
    let kind = match destination {
        Destination::Topic(_) => "Topic",
        _ => "Queue",
    };
    let wire = names::wire(destination);
    let name = wire.physical_name.unwrap_or_default();
    format!("{PREFIX}{what}.{kind}.{name}")
}

/// Whether it is a topic of advisories, which only the broker makes.
pub(super) fn is_advisory(destination: &Destination) -> bool {
    matches!(destination, Destination::Topic(name) if name.starts_with(PREFIX))
}
