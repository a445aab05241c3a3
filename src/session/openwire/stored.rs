//! Messages of the wire to what the broker keeps, and back; those of other wires to what JMS
//! clients read.

use std::sync::Arc;

use bytes::Bytes;

use super::names;
use crate::broker::command::{DeadLetter, MessageId as BrokerMessageId};
use crate::ids::Millis;
use crate::message::{
    BodyKind, CORRELATION_ID, Content, DLQ_FAILURE_CAUSE, Destination, Durability, GROUP_ID,
    GROUP_SEQUENCE, JMS_TYPE, Jms, JmsBody, JmsHead, LargeHead, MalformedContent, Priority,
    REPLY_TO, SCHEDULED_JOB, USER_ID,
};
use crate::protocol::openwire::body::encode_text;
use crate::protocol::openwire::message::{Message, MessageKind};
use crate::protocol::openwire::primitive::{Map, Value};
use crate::protocol::openwire::table::{MessageId, ProducerId};
use crate::protocol::openwire::{Text, characters};
use crate::schedule::{PlanError, When};

const CRON: &str = "AMQ_SCHEDULED_CRON";
const DELAY: &str = "AMQ_SCHEDULED_DELAY";
const PERIOD: &str = "AMQ_SCHEDULED_PERIOD";
const REPEAT: &str = "AMQ_SCHEDULED_REPEAT";

/// The name of a message against repetitions, as another broker calls it.
pub(super) const DUPLICATE_ID: &str = "_AMQ_DUPL_ID";

/// What the broker is to know of a message beside its content.
#[derive(Clone, Debug)]
pub(super) struct Envelope {
    pub(super) durability: Durability,
    pub(super) priority: Priority,
    pub(super) expires: Option<Millis>,
    pub(super) when: When,
    /// Its name against repetitions, if it has one.
    pub(super) name: Option<String>,
}

/// Reads the envelope of a message, and takes from it what is said there.
pub(super) fn envelope(message: &mut Message) -> Result<Envelope, PlanError> {
    let head = &mut message.head;
    let durability =
        if head.persistent { Durability::Persistent } else { Durability::NonPersistent };
    let priority = u8::try_from(head.priority.clamp(0, 9)).ok().and_then(Priority::new);
    let expires = u64::try_from(head.expiration).ok().filter(|at| *at > 0).map(Millis);
    let mut stored = JmsHead { message: message.clone(), body: JmsBody::default() };
    let mut map = stored.map();
    let name = map.get(DUPLICATE_ID).and_then(Value::as_text).map(std::borrow::Cow::into_owned);
    let when = when(&mut map)?;
    if !when.is_at_once() {
        stored.message.tail.marshalled_properties = Some(map.encode());
        // Its id stands there when it is delivered.
        stored.set(SCHEDULED_JOB, "");
        message.tail.marshalled_properties = stored.message.tail.marshalled_properties;
    }
    let priority = priority.unwrap_or(Priority::DEFAULT);
    Ok(Envelope { durability, priority, expires, when, name })
}

/// When a message is to be delivered; what says so is taken out.
fn when(map: &mut Map) -> Result<When, PlanError> {
    let number = |name| {
        let value: &Value = map.get(name)?;
        let of_text = || value.as_text().and_then(|text| text.trim().parse().ok());
        value.as_integer().or_else(of_text)
    };
    let millis =
        |name| number(name).and_then(|number: i64| u64::try_from(number).ok()).unwrap_or(0);
    let repeat = number(REPEAT).unwrap_or(0);
    let repeat = if repeat == -1 { None } else { Some(u32::try_from(repeat).unwrap_or(0)) };
    let cron = map.get(CRON).and_then(Value::as_text).filter(|text| !text.is_empty());
    let when = When::of(cron.as_deref(), millis(DELAY), millis(PERIOD), repeat)?;
    // One that was delivered by a schedule and is sent on goes at once.
    if map.get(SCHEDULED_JOB).is_some() {
        return Ok(When::AtOnce);
    }
    map.0.retain(|(name, _)| ![CRON, DELAY, PERIOD, REPEAT].contains(&&*name.to_str()));
    Ok(when)
}

/// What is kept of a message: without what the broker knows itself, and without what was for the
/// way here alone.
pub(super) fn head_to_keep(mut message: Message, body: JmsBody) -> JmsHead {
    message.content = None;
    let head = &mut message.head;
    (head.command_id, head.response_required) = (0, false);
    let of_id = head.message_id.as_ref().and_then(|id| id.producer_id.as_ref());
    if of_id == head.producer_id.as_ref() {
        head.producer_id = None;
    }
    head.destination = None;
    (head.persistent, head.priority, head.expiration) = (false, 0, 0);
    let tail = &mut message.tail;
    tail.target_consumer_id = None;
    tail.redelivery_counter = 0;
    tail.recieved_by_df_bridge = false;
    (tail.broker_in_time, tail.broker_out_time) = (0, 0);
    tail.jmsx_group_first_for_consumer = false;
    JmsHead { message, body }
}

/// What the broker says of a message that goes to a consumer.
#[derive(Clone, Debug)]
pub(super) struct Leaving<'a> {
    pub(super) id: BrokerMessageId,
    pub(super) from: &'a Destination,
    /// The topic on which it was published, where that is not from where it comes.
    pub(super) origin: Option<&'a Arc<str>>,
    pub(super) returns: u32,
    pub(super) priority: u8,
    pub(super) persistent: bool,
    pub(super) at: Millis,
    pub(super) expires: Option<Millis>,
    pub(super) dead: Option<&'a DeadLetter>,
    /// Its number on this connection.
    pub(super) sequence: i64,
    /// What stands in the ids of messages that did not come from a client of this wire.
    pub(super) broker: &'a str,
}

/// A message that goes to a consumer.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// With its body.
    Whole(Message),
    /// Its body comes in pieces: so many bytes, behind some that say how many they are.
    Large { message: Message, bytes: u64, counted: bool },
}

impl Leaving<'_> {
    /// The message for the wire.
    pub(super) fn make(&self, content: Bytes) -> Result<Outgoing, MalformedContent> {
        let apart = self.dead.map(|dead| dead.destination(&content));
        let mut outgoing = if Jms::is(&content) {
            match Jms::decode(content)? {
                Jms::Whole(JmsHead { mut message, body }, bytes) => {
                    message.content = body.on_wire(bytes);
                    Outgoing::Whole(message)
                }
                Jms::Large(JmsHead { message, body }, bytes) => {
                    Outgoing::Large { message, bytes, counted: body.cut }
                }
            }
        } else {
            self.of_another_wire(content)?
        };
        let (Outgoing::Whole(message) | Outgoing::Large { message, .. }) = &mut outgoing;
        self.address(message);
        if let Some(origin) = apart {
            message.head.original_destination = Some(names::wire(&origin));
        }
        Ok(outgoing)
    }

    fn of_another_wire(&self, content: Bytes) -> Result<Outgoing, MalformedContent> {
        if let Ok(head) = LargeHead::decode(content.clone()) {
            // The characters of a text would have to be looked at before it begins.
            let message = self.dressed(MessageKind::Bytes, head.properties);
            return Ok(Outgoing::Large { message, bytes: head.bytes, counted: false });
        }
        let Content { kind, properties, body } = Content::decode(content)?;
        let kind = match kind {
            BodyKind::Text => MessageKind::Text,
            BodyKind::Bytes => MessageKind::Bytes,
        };
        let mut message = self.dressed(kind, properties);
        message.content = match kind {
            MessageKind::Text => Some(encode_text(&characters(&body))),
            _ => Some(body).filter(|body| !body.is_empty()),
        };
        Ok(Outgoing::Whole(message))
    }

    /// A message with the properties of another wire, which has some of them as headers.
    fn dressed(&self, kind: MessageKind, properties: Vec<(String, String)>) -> Message {
        let mut message = Message::new(kind);
        let head = &mut message.head;
        let mut map = Map::default();
        for (name, value) in properties {
            match &*name {
                CORRELATION_ID => head.correlation_id = Some(Text::cut(&value)),
                REPLY_TO => head.reply_to = names::of_address(&value),
                JMS_TYPE => head.jms_type = Some(Text::cut(&value)),
                GROUP_ID => head.group_id = Some(Text::cut(&value)),
                GROUP_SEQUENCE => head.group_sequence = value.parse().unwrap_or(0),
                USER_ID => message.tail.user_id = Some(Text::cut(&value)),
                _ if map.get(&name).is_none() => {
                    map.0.extend(Text::new(&name).map(|name| (name, Value::text(&value))));
                }
                _ => {}
            }
        }
        head.timestamp = i64::try_from(self.at.0).unwrap_or(i64::MAX);
        if !map.0.is_empty() {
            message.tail.marshalled_properties = Some(map.encode());
        }
        // Its own producer, so that nobody takes one message for a repetition of another.
        let id = Text::cut(&format!("ID:{}-{}", self.broker, self.id));
        let producer = ProducerId { connection_id: Some(id.clone()), value: 1, session_id: 1 };
        head.message_id = Some(MessageId {
            text_view: Some(id),
            producer_id: Some(producer),
            producer_sequence_id: 1,
            broker_sequence_id: 0,
        });
        message
    }

    /// Says what the broker knows of it.
    pub(super) fn address(&self, message: &mut Message) {
        let returns = i32::try_from(self.returns).unwrap_or(i32::MAX);
        let at = i64::try_from(self.at.0).unwrap_or(i64::MAX);
        let scheduled = |bytes: &Bytes| contains(bytes, SCHEDULED_JOB.as_bytes());
        if self.dead.is_some() || message.tail.marshalled_properties.as_ref().is_some_and(scheduled)
        {
            self.mark(message);
        }
        let (head, tail) = (&mut message.head, &mut message.tail);
        head.destination = Some(names::wire(self.from));
        if let Some(topic) = self.origin {
            let topic = Destination::Topic(Arc::clone(topic));
            head.original_destination = Some(names::wire(&topic));
        }
        if let Some(id) = &mut head.message_id {
            id.broker_sequence_id = self.sequence;
            if head.producer_id.is_none() {
                head.producer_id.clone_from(&id.producer_id);
            }
        }
        head.persistent = self.persistent;
        head.priority = self.priority.cast_signed();
        head.expiration = self.expires.map_or(0, |at| i64::try_from(at.0).unwrap_or(i64::MAX));
        tail.redelivery_counter = returns;
        (tail.broker_in_time, tail.broker_out_time) = (at, at);
    }

    /// Says why it was set apart, or by which schedule it comes.
    fn mark(&self, message: &mut Message) {
        let mut head = JmsHead { message: message.clone(), body: JmsBody::default() };
        if let Some(dead) = self.dead {
            head.set(DLQ_FAILURE_CAUSE, dead.cause());
        }
        if head.map().get(SCHEDULED_JOB).and_then(Value::as_text).is_some_and(|it| it.is_empty()) {
            head.set(SCHEDULED_JOB, &self.id.to_string());
        }
        message.tail.marshalled_properties = head.message.tail.marshalled_properties;
    }
}

/// Whether some bytes are among others: a look that is cheaper than to read a map.
fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
