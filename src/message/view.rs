//! Messages of every kind as one: properties with texts, and a body that is text or bytes; and a
//! property or header by its name, as a typed value.
//!
//! Owns what a message of JMS looks like to who speaks another wire, and the names under which
//! headers of JMS are known there. Always: what cannot be told as a text (maps, lists, nothing) is
//! no property, and what cannot be read as text is bytes.

use std::borrow::Cow;

use bytes::Bytes;

use super::jms::{Jms, JmsHead};
use super::{BodyKind, Content, LargeHead, MalformedContent};
use crate::protocol::openwire::message::{Destination, DestinationKind, MessageKind};
use crate::protocol::openwire::primitive::{Map, Room, Value as Primitive};
use crate::protocol::openwire::{Text, characters};

/// The header of JMS that another wire calls so.
pub const CORRELATION_ID: &str = "correlation-id";
/// Where an answer is to be sent: `/queue/NAME` or `/topic/NAME`.
pub const REPLY_TO: &str = "reply-to";
/// The type that the application gave the message.
pub const JMS_TYPE: &str = "type";
/// The group that the message belongs to.
pub const GROUP_ID: &str = "JMSXGroupID";
/// Its number in that.
pub const GROUP_SEQUENCE: &str = "JMSXGroupSeq";
/// Who has sent it.
pub const USER_ID: &str = "JMSXUserID";

/// How the queue of a temporary queue's name begins. Its wire says the rest, and that it is one.
pub const TEMPORARY: &str = "temp-queue://";
/// The same of topics.
pub const TEMPORARY_TOPIC: &str = "temp-topic://";

/// A property or a header.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// It is there and says nothing.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A whole number of any size.
    Integer(i64),
    /// A number with a point, of four bytes.
    Float(f32),
    /// A number with a point, of eight bytes.
    Double(f64),
    /// Characters.
    Text(String),
}

impl Content {
    /// A message of JMS as the others are.
    pub(super) fn of_jms(jms: Jms) -> Result<Self, MalformedContent> {
        let Jms::Whole(head, body) = jms else { return Err(MalformedContent) };
        let properties = head.properties();
        if head.message.kind != MessageKind::Text || (head.body.present && !head.body.cut) {
            return Ok(Self { kind: BodyKind::Bytes, properties, body });
        }
        let body = match characters(&body) {
            Cow::Borrowed(_) => body,
            Cow::Owned(text) => Bytes::from(text),
        };
        Ok(Self { kind: BodyKind::Text, properties, body })
    }
}

impl LargeHead {
    /// A message of JMS as the others are.
    pub(super) fn of_jms(jms: &Jms) -> Result<Self, MalformedContent> {
        let Jms::Large(head, bytes) = jms else { return Err(MalformedContent) };
        // A part of it is given out as it lies, so all of it must be as the others have it.
        let text = head.message.kind == MessageKind::Text && head.body.cut && head.body.utf8;
        let kind = if text { BodyKind::Text } else { BodyKind::Bytes };
        Ok(Self { kind, properties: head.properties(), bytes: *bytes })
    }
}

impl JmsHead {
    /// The map of properties; empty where it is none.
    #[must_use]
    pub fn map(&self) -> Map {
        let Some(bytes) = &self.message.tail.marshalled_properties else { return Map::default() };
        Map::decode(bytes.clone(), Room::of(bytes.len())).unwrap_or_default()
    }

    /// Gives a property a value, whether or not it has one.
    pub fn set(&mut self, name: &str, value: &str) {
        let Some(key) = Text::new(name) else { return };
        let mut map = self.map();
        map.0.retain(|(other, _)| *other != key);
        map.0.push((key, Primitive::text(value)));
        self.message.tail.marshalled_properties = Some(map.encode());
    }

    /// What is said beside the body, as texts.
    fn properties(&self) -> Vec<(String, String)> {
        let head = &self.message.head;
        let text = |text: &Option<Text>| text.as_ref().map(|text| text.to_str().into_owned());
        let sequence = head.group_id.is_some().then(|| head.group_sequence.to_string());
        let headers = [
            (CORRELATION_ID, text(&head.correlation_id)),
            (REPLY_TO, head.reply_to.as_ref().map(address)),
            (JMS_TYPE, text(&head.jms_type)),
            (GROUP_ID, text(&head.group_id)),
            (GROUP_SEQUENCE, sequence),
            (USER_ID, text(&self.message.tail.user_id)),
        ];
        let headers = headers.into_iter();
        let headers = headers.filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let map = self.map().0.into_iter();
        let map = map.filter_map(|(name, value)| Some((name.to_string(), as_text(&value)?)));
        // No more than other messages can have.
        headers.chain(map).take(usize::from(u16::MAX)).collect()
    }

    /// All properties and the headers that the message itself has, by the names that JMS gives
    /// them. Properties that have a header's name do not count.
    #[must_use]
    pub fn values(&self) -> Vec<(String, Value)> {
        let headers = OWN_HEADERS.iter().map(|name| (*name, self.value(name)));
        let headers = headers.filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let map = self.map().0.into_iter().map(|(name, value)| (name.to_string(), typed(&value)));
        headers.chain(map.filter_map(|(name, value)| Some((name, value?)))).collect()
    }

    /// The brokers that have sent it on, as ActiveMQ's selectors see them.
    fn broker_path(&self) -> Option<Value> {
        let path = self.message.tail.broker_path.as_ref()?.iter().flatten();
        let names = path.map(|it| it.value.as_ref().map(Text::to_string).unwrap_or_default());
        let names: Vec<String> = names.collect();
        Some(Value::Text(format!("[{}]", names.join(", "))))
    }

    /// The id of JMS: what its client has called it.
    fn id(&self) -> Option<String> {
        let id = self.message.head.message_id.as_ref()?;
        if let Some(text) = &id.text_view {
            return Some(text.to_string());
        }
        let producer = id.producer_id.as_ref()?;
        let connection = producer.connection_id.as_ref()?;
        let (session, value) = (producer.session_id, producer.value);
        Some(format!("{connection}:{session}:{value}:{}", id.producer_sequence_id))
    }

    /// A property, or a header that the message itself has. Those that its place in a queue has
    /// (priority, delivery mode, expiry, redelivery) are not among them.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<Value> {
        let head = &self.message.head;
        let text =
            |text: &Option<Text>| text.as_ref().map(|text| Value::Text(text.to_str().into_owned()));
        match name {
            "JMSMessageID" => self.id().map(Value::Text),
            "JMSType" => text(&head.jms_type),
            "JMSCorrelationID" => text(&head.correlation_id),
            "JMSReplyTo" => head.reply_to.as_ref().map(|to| Value::Text(address(to))),
            "JMSTimestamp" => Some(Value::Integer(head.timestamp)),
            BROKER_PATH => self.broker_path(),
            GROUP_ID => text(&head.group_id),
            GROUP_SEQUENCE if head.group_id.is_none() => None,
            GROUP_SEQUENCE => Some(Value::Integer(head.group_sequence.into())),
            USER_ID => text(&self.message.tail.user_id),
            _ => self.map().get(name).and_then(typed),
        }
    }
}

/// The name under which selectors see the brokers that have sent a message on.
const BROKER_PATH: &str = "JMSActiveMQBrokerPath";

/// Headers that a message of JMS itself has.
const OWN_HEADERS: [&str; 8] = [
    "JMSMessageID",
    "JMSType",
    "JMSCorrelationID",
    "JMSReplyTo",
    "JMSTimestamp",
    GROUP_ID,
    GROUP_SEQUENCE,
    USER_ID,
];

/// All that a stored message says beside its body: of one of JMS by the names that JMS gives them,
/// of any other its properties.
#[must_use]
pub fn values(content: &Bytes) -> Vec<(String, Value)> {
    if Jms::is(content) {
        let jms = Jms::decode(content.clone());
        return jms.map(|jms| jms.head().values()).unwrap_or_default();
    }
    let properties = match LargeHead::decode(content.clone()) {
        Ok(head) => head.properties,
        Err(MalformedContent) => {
            Content::decode(content.clone()).map(|content| content.properties).unwrap_or_default()
        }
    };
    properties.into_iter().map(|(name, value)| (name, Value::Text(value))).collect()
}

/// A property or header of a stored message of any kind, by the name that JMS gives it; `None`
/// where it has none, and for what the message's place in a queue says.
#[must_use]
pub fn value(content: &Bytes, name: &str) -> Option<Value> {
    if Jms::is(content) {
        return Jms::decode(content.clone()).ok()?.head().value(name);
    }
    let name = match name {
        "JMSType" => JMS_TYPE,
        "JMSCorrelationID" => CORRELATION_ID,
        "JMSReplyTo" => REPLY_TO,
        name => name,
    };
    let find = |properties: &[(String, String)]| {
        let found = properties.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| Value::Text(value.clone()))
    };
    match LargeHead::decode(content.clone()) {
        Ok(head) => find(&head.properties),
        Err(MalformedContent) => find(&Content::decode(content.clone()).ok()?.properties),
    }
}

/// A destination as other wires name it.
fn address(destination: &Destination) -> String {
    let name = destination.physical_name.as_ref().map(|name| name.to_str()).unwrap_or_default();
    match destination.kind {
        DestinationKind::Queue => format!("/queue/{name}"),
        DestinationKind::Topic => format!("/topic/{name}"),
        DestinationKind::TempQueue => format!("/queue/{TEMPORARY}{name}"),
        DestinationKind::TempTopic => format!("/topic/{TEMPORARY_TOPIC}{name}"),
    }
}

fn as_text(value: &Primitive) -> Option<String> {
    Some(match typed(value)? {
        Value::Null => return None,
        Value::Bool(yes) => yes.to_string(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Text(text) => text,
    })
}

fn typed(value: &Primitive) -> Option<Value> {
    Some(match value {
        Primitive::Null => Value::Null,
        Primitive::Float(bits) => Value::Float(f32::from_bits(*bits)),
        Primitive::Double(bits) => Value::Double(f64::from_bits(*bits)),
        Primitive::Char(unit) => Value::Text(String::from_utf16_lossy(&[*unit])),
        Primitive::Bytes(_) | Primitive::Map(_) | Primitive::List(_) => return None,
        value => {
            let text = || value.as_text().map(|text| Value::Text(text.into_owned()));
            let number = value.as_integer().map(Value::Integer);
            value.as_bool().map(Value::Bool).or(number).or_else(text)?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{JmsBody, large_bytes, with_properties};
    use crate::protocol::openwire::body::encode_text;
    use crate::protocol::openwire::message::Message;

    fn message(kind: MessageKind, content: Option<Bytes>) -> Message {
        let text = |text: &str| Text::new(text);
        let mut message = Message::new(kind);
        message.content = content;
        message.head.correlation_id = text("c-1");
        message.head.jms_type = text("order");
        message.head.group_id = text("g");
        message.head.group_sequence = 3;
        let reply_to =
            Destination { kind: DestinationKind::TempQueue, physical_name: text("ID:a") };
        message.head.reply_to = Some(reply_to);
        let map = Map(vec![
            (text("color").unwrap(), Primitive::text("blue")),
            (text("count").unwrap(), Primitive::Int(7)),
            (text("ratio").unwrap(), Primitive::Double(1.5_f64.to_bits())),
            (text("yes").unwrap(), Primitive::Bool(1)),
            (text("nothing").unwrap(), Primitive::Null),
        ]);
        message.tail.marshalled_properties = Some(map.encode());
        message
    }

    fn stored(message: &Message) -> Bytes {
        let (body, bytes) = JmsBody::of(message);
        let head = JmsHead { message: Message { content: None, ..message.clone() }, body };
        Jms::Whole(head, bytes).encode().unwrap()
    }

    #[test]
    fn a_message_of_jms_is_kept_to_the_byte() {
        let texts = ["", "text", "nul \0 and \u{1F980}"].map(|text| Some(encode_text(text)));
        let odd =
            [None, Some(Bytes::from_static(b"\0\0\0\x09no")), Some(Bytes::from_static(b"\0"))];
        for content in texts.into_iter().chain(odd) {
            let message = message(MessageKind::Text, content.clone());
            let Ok(Jms::Whole(head, bytes)) = Jms::decode(stored(&message)) else { panic!() };
            assert_eq!(head.body.on_wire(bytes), content);
            assert_eq!(Message { content, ..head.message }, message);
        }
    }

    #[test]
    fn others_read_a_text_with_its_properties_and_headers() {
        let text = "nul \0 and \u{1F980}";
        let message = message(MessageKind::Text, Some(encode_text(text)));
        let content = Content::decode(stored(&message)).unwrap();
        assert_eq!((content.kind, &content.body[..]), (BodyKind::Text, text.as_bytes()));
        let expected = [
            ("correlation-id", "c-1"),
            ("reply-to", "/queue/temp-queue://ID:a"),
            ("type", "order"),
            ("JMSXGroupID", "g"),
            ("JMSXGroupSeq", "3"),
            ("color", "blue"),
            ("count", "7"),
            ("ratio", "1.5"),
            ("yes", "true"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(content.properties, expected);
        let bytes = Bytes::from_static(b"\x01\x02");
        let content =
            Content::decode(stored(&self::message(MessageKind::Map, Some(bytes.clone()))));
        assert_eq!(
            content.map(|content| (content.kind, content.body)),
            Ok((BodyKind::Bytes, bytes))
        );
    }

    #[test]
    fn a_value_is_found_by_its_name_in_messages_of_every_wire() {
        let jms = stored(&message(MessageKind::Plain, None));
        let properties =
            vec![("color".to_owned(), "blue".to_owned()), (JMS_TYPE.into(), "o".into())];
        let body = Bytes::new();
        let other = Content { kind: BodyKind::Text, properties, body }.encode();
        let text = |text: &str| Some(Value::Text(text.to_owned()));
        for (content, name, expected) in [
            (&jms, "color", text("blue")),
            (&jms, "count", Some(Value::Integer(7))),
            (&jms, "ratio", Some(Value::Double(1.5))),
            (&jms, "yes", Some(Value::Bool(true))),
            (&jms, "nothing", Some(Value::Null)),
            (&jms, "JMSType", text("order")),
            (&jms, "JMSXGroupSeq", Some(Value::Integer(3))),
            (&jms, "missing", None),
            (&other, "color", text("blue")),
            (&other, "JMSType", text("o")),
            (&other, "count", None),
        ] {
            assert_eq!(value(content, name), expected, "{name}");
            // Another wire's names are not those of JMS.
            let of_all = values(content).into_iter().find(|(other, _)| other == name);
            if content == &jms || name != "JMSType" {
                assert_eq!(of_all.map(|(_, value)| value), expected, "{name}");
            }
        }
    }

    #[test]
    fn what_is_said_of_a_dead_letter_leaves_the_message_one_of_jms() {
        let message = message(MessageKind::Text, Some(encode_text("t")));
        let more = [("why".to_owned(), "because".to_owned())];
        let marked = with_properties(stored(&message), &more);
        assert_eq!(value(&marked, "why"), Some(Value::Text("because".to_owned())));
        assert_eq!(value(&marked, "count"), Some(Value::Integer(7)));
        let Ok(Jms::Whole(head, _)) = Jms::decode(marked) else { panic!("it is one of JMS") };
        assert_eq!(head.message.head, message.head);
    }

    #[test]
    fn a_large_one_says_how_large_and_is_text_only_where_it_is_utf8() {
        for (utf8, kind) in [(true, BodyKind::Text), (false, BodyKind::Bytes)] {
            let message = message(MessageKind::Text, None);
            let body = JmsBody { present: true, cut: true, utf8 };
            let content = Jms::Large(JmsHead { message, body }, 1 << 20).encode().unwrap();
            assert_eq!(large_bytes(&content), Some(1 << 20));
            let head = LargeHead::decode(content).unwrap();
            assert_eq!((head.kind, head.bytes, head.property("count")), (kind, 1 << 20, Some("7")));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_message_of_jms_or_a_clear_no(bytes: Vec<u8>, version in 3u8..5) {
            let mut content = vec![version];
            content.extend(bytes);
            let _ = Content::decode(content.clone().into());
            let _ = LargeHead::decode(content.clone().into());
            let _ = value(&content.into(), "name");
        }
    }
}
