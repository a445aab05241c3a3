//! A message as a selector sees it: the headers of JMS, and its properties.
//!
//! The one place that knows which header of another protocol a name of JMS stands for. Names that
//! tell of one delivery and not of the message (how often it was delivered) have no value: what
//! matches must not change while the message waits.

use std::cell::OnceCell;

use bytes::Bytes;

use crate::broker::command::MessageId;
use crate::ids::Millis;
use crate::message::{Content, LargeHead};
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
        let properties = match Content::decode(content.clone()) {
            Ok(content) => content.properties,
            Err(_) => {
                LargeHead::decode(content.clone()).map(|it| it.properties).unwrap_or_default()
            }
        };
        selector.matches(&Seen { envelope: self, properties, id: OnceCell::new() })
    }
}

struct Seen<'a> {
    envelope: &'a Envelope,
    properties: Vec<(String, String)>,
    /// Written out only for those who ask.
    id: OnceCell<String>,
}

impl Seen<'_> {
    fn property(&self, name: &str) -> Value<'_> {
        let found = self.properties.iter().find(|(own, _)| own == name);
        found.map_or(Value::Null, |(_, value)| Value::Text(value))
    }

    /// A header of JMS that another protocol calls otherwise.
    fn header(&self, name: &str, other: &str) -> Value<'_> {
        match self.property(name) {
            Value::Null => self.property(other),
            value => value,
        }
    }
}

impl Subject for Seen<'_> {
    fn value(&self, name: &str) -> Value<'_> {
        let long = |it: u64| Value::Long(i64::try_from(it).unwrap_or(i64::MAX));
        match name {
            "JMSDeliveryMode" if self.envelope.persistent => Value::Text("PERSISTENT"),
            "JMSDeliveryMode" => Value::Text("NON_PERSISTENT"),
            "JMSPriority" => long(u64::from(self.envelope.priority)),
            "JMSTimestamp" => long(self.envelope.at.0),
            "JMSExpiration" => long(self.envelope.expires.map_or(0, |at| at.0)),
            "JMSMessageID" => {
                Value::Text(self.id.get_or_init(|| self.envelope.id.to_string()).as_str())
            }
            "JMSCorrelationID" => self.header(name, "correlation-id"),
            "JMSType" => self.header(name, "type"),
            "JMSReplyTo" => self.header(name, "reply-to"),
            "JMSRedelivered" | "JMSXDeliveryCount" => Value::Null,
            _ => self.property(name),
        }
    }
}
