//! A message as a selector sees it: the headers of JMS, and its properties.
//!
//! The one place that knows which header of another protocol a name of JMS stands for. Names that
//! tell of one delivery and not of the message (how often it was delivered) have no value: what
//! matches must not change while the message waits.

use std::cell::OnceCell;

use bytes::Bytes;

use crate::broker::command::MessageId;
use crate::ids::Millis;
use crate::message::{self, CORRELATION_ID, JMS_TYPE, REPLY_TO};
use crate::selector::{Selector, Subject, Value};

/// What is known of a message without its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Its name.
    pub id: MessageId,
    /// What its sender asked for.
    pub persistent: bool,
    /// 0 to 9.
    pub priority: u8,
    /// When the broker took it.
    pub at: Millis,
    /// When it is no longer wanted.
    pub expires: Option<Millis>,
}

impl Envelope {
    /// Whether a message with this content matches. One whose content is not understood has no
    /// properties.
    #[must_use]
    pub fn is_selected(&self, selector: &Selector, content: &Bytes) -> bool {
        selector.matches(&Seen::new(*self, content.clone()))
    }
}

/// A message as selectors see it, read no sooner than one asks, and once for all.
pub(super) struct Seen {
    envelope: Envelope,
    content: Bytes,
    properties: OnceCell<Vec<(String, message::Value)>>,
    id: OnceCell<String>,
}

impl Seen {
    pub(super) fn new(envelope: Envelope, content: Bytes) -> Self {
        Self { envelope, content, properties: OnceCell::new(), id: OnceCell::new() }
    }

    fn property(&self, name: &str) -> Value<'_> {
        let properties = self.properties.get_or_init(|| message::values(&self.content));
        let found = properties.iter().find(|(own, _)| own == name);
        found.map_or(Value::Null, |(_, value)| match value {
            message::Value::Null => Value::Null,
            message::Value::Bool(yes) => Value::Boolean(*yes),
            message::Value::Integer(number) => Value::Long(*number),
            message::Value::Float(number) => Value::Double(f64::from(*number)),
            message::Value::Double(number) => Value::Double(*number),
            message::Value::Text(text) => Value::Text(text),
        })
    }

    /// A header of JMS that another wire calls otherwise.
    fn header(&self, name: &str, other: &str) -> Value<'_> {
        self.property(name).or(|| self.property(other))
    }
}

impl Subject for Seen {
    fn value(&self, name: &str) -> Value<'_> {
        let long = |it: u64| Value::Long(i64::try_from(it).unwrap_or(i64::MAX));
        match name {
            "JMSDeliveryMode" if self.envelope.persistent => Value::Text("PERSISTENT"),
            "JMSDeliveryMode" => Value::Text("NON_PERSISTENT"),
            "JMSPriority" => long(u64::from(self.envelope.priority)),
            "JMSExpiration" => long(self.envelope.expires.map_or(0, |at| at.0)),
            // When its sender says that it was sent, or else when the broker took it.
            "JMSTimestamp" => match self.property(name) {
                it @ Value::Long(_) => it,
                _ => long(self.envelope.at.0),
            },
            // What its client has called it, or else the broker.
            "JMSMessageID" => self
                .property(name)
                .or(|| Value::Text(self.id.get_or_init(|| self.envelope.id.to_string()).as_str())),
            "JMSCorrelationID" => self.header(name, CORRELATION_ID),
            "JMSType" => self.header(name, JMS_TYPE),
            "JMSReplyTo" => self.header(name, REPLY_TO),
            "JMSRedelivered" | "JMSXDeliveryCount" => Value::Null,
            _ => self.property(name),
        }
    }
}
