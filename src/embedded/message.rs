//! A message as programs make it, and its way into the bytes that every wire of the broker reads.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::error::SendError;
use crate::identity::{Identity, Numbered};
use crate::ids::Millis;
use crate::limits;
use crate::message::{self, BodyKind, Content, Durability, LargeHead, Priority};
use crate::session::stomp::OF_THE_FRAME;

/// A message to be sent: a body, and properties beside it.
///
/// Text and bytes become one by `into`, so a string can be sent as it is. A message is persistent,
/// of priority 4, and never expires, unless it says otherwise.
///
/// ```
/// use escrowmq::Message;
/// use std::time::Duration;
///
/// let plain: Message = "some text".into();
/// let rich = Message::bytes(vec![1, 2, 3])
///     .property("colour", "red")
///     .priority(7)
///     .time_to_live(Duration::from_secs(3600));
/// ```
///
/// STOMP clients see properties as headers and the other way round. Names that STOMP gives a
/// meaning of its own (`destination`, `receipt` and the like) cannot be sent as properties.
#[derive(Clone, Debug)]
#[must_use = "a message does nothing before it is sent"]
pub struct Message {
    pub(super) body: Bytes,
    kind: BodyKind,
    properties: Vec<(String, String)>,
    priority: Priority,
    durability: Durability,
    expires: Option<Millis>,
    number: Option<Numbered>,
}

impl Message {
    /// A message whose body is text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(BodyKind::Text, text.into().into())
    }

    /// A message whose body is bytes.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self::new(BodyKind::Bytes, bytes.into())
    }

    fn new(kind: BodyKind, body: Bytes) -> Self {
        Self {
            body,
            kind,
            properties: Vec::new(),
            priority: Priority::DEFAULT,
            durability: Durability::Persistent,
            expires: None,
            number: None,
        }
    }

    /// Adds a property. A name may repeat; the first counts.
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((name.into(), value.into()));
        self
    }

    /// From 0 (last) to 9 (first); what is more counts as 9.
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = Priority::new(priority.min(9)).expect("9 at most");
        self
    }

    /// Lets the message be there once, however often it is sent: `producer` names whoever sends, as
    /// nobody else in this store, and gives each of its messages another `sequence`, best by
    /// counting. Sent again with both the same, to whatever queue and over whatever crash, it is
    /// confirmed, and nothing more happens. In a transaction the sequence is taken by the commit,
    /// and free again after a rollback. The message is persistent whatever it asks for; a topic
    /// refuses it.
    ///
    /// Sequences may have gaps and come in any order; one that is too far behind what the producer
    /// has sent since, thousands at least, is refused. A producer is remembered for 24 hours after
    /// its connection has ended, or less where memory is short.
    pub fn numbered(mut self, producer: impl AsRef<str>, sequence: u64) -> Self {
        let producer = Identity::of(producer.as_ref().as_bytes());
        self.number = Some(Numbered { producer, sequence });
        self
    }

    /// What of it is to be there once.
    pub(super) fn number(&self) -> Option<Numbered> {
        self.number
    }

    /// Keeps the message in memory alone: it is gone with the process, and costs no disk. A body of
    /// more than 256 KiB is stored all the same.
    pub fn non_persistent(mut self) -> Self {
        self.durability = Durability::NonPersistent;
        self
    }

    /// When it is no longer wanted, to the millisecond: it is not delivered after that.
    pub fn expires_at(mut self, at: SystemTime) -> Self {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.expires = Some(Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)));
        self
    }

    /// How long it is wanted, from now.
    pub fn time_to_live(self, time: Duration) -> Self {
        match SystemTime::now().checked_add(time) {
            Some(at) => self.expires_at(at),
            // So far away is never.
            None => self,
        }
    }

    /// Checks what the broker's codecs rely on.
    pub(super) fn check(&self) -> Result<(), SendError> {
        let wrong = |name: &str, reason| SendError::Property { name: name.to_owned(), reason };
        let mut bytes = 0;
        for (index, (name, value)) in self.properties.iter().enumerate() {
            bytes += name.len() + value.len() + 6;
            if name.is_empty() {
                return Err(wrong(name, "has no name"));
            }
            if OF_THE_FRAME.binary_search(&name.as_str()).is_ok() {
                return Err(wrong(name, "has a name that is kept for the broker's own headers"));
            }
            if index >= limits::PROPERTIES_MAX || bytes > limits::PROPERTIES_BYTES_MAX {
                return Err(wrong(name, "is one too many: 256 and 63 KiB are the limits"));
            }
        }
        Ok(())
    }

    /// As the broker takes it, body and all.
    pub(super) fn whole(self) -> message::Message {
        let Self { body, kind, properties, priority, durability, expires, .. } = self;
        let content = Content { kind, properties, body }.encode();
        message::Message { durability, priority, expires, delay: 0, content }
    }

    /// As the broker takes it beside a body that has gone ahead in pieces.
    pub(super) fn head(self) -> message::Message {
        let Self { body, kind, properties, priority, expires, .. } = self;
        let content = LargeHead { kind, properties, bytes: body.len() as u64 }.encode();
        let durability = Durability::Persistent;
        message::Message { durability, priority, expires, delay: 0, content }
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<&[u8]> for Message {
    fn from(bytes: &[u8]) -> Self {
        Self::bytes(bytes.to_vec())
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::bytes(bytes)
    }
}

impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Self {
        Self::bytes(bytes)
    }
}
