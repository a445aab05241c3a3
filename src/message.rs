//! A message as every wire and the log share it: an envelope, properties and an opaque body.
//!
//! Owns the bytes of a message's payload in the log (`encode`, `decode`). What routing needs
//! (destination, priority, times) travels in the record, not here.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::ids::Millis;

/// Where a message is sent and from where it is consumed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Destination {
    /// Each message goes to one consumer and waits for it.
    Queue(Arc<str>),
    /// Each message goes to every subscriber connected now.
    Topic(Arc<str>),
}

impl Destination {
    /// The name without its kind.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Queue(name) | Self::Topic(name) => name,
        }
    }
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Queue(name) => write!(f, "queue://{name}"),
            Self::Topic(name) => write!(f, "topic://{name}"),
        }
    }
}

/// Whether a message outlives the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Confirmed only when it is on stable storage.
    Persistent,
    /// Kept in memory; gone with the process.
    NonPersistent,
}

/// How the body is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// UTF-8 text.
    Text,
    /// Bytes.
    Bytes,
}

/// Priorities run from 0 (last) to 9 (first), as in JMS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(u8);

impl Priority {
    /// 4, the default of JMS.
    pub const DEFAULT: Self = Self(4);

    /// `value`, or `None` above 9.
    #[must_use]
    pub const fn new(value: u8) -> Option<Self> {
        if value <= 9 { Some(Self(value)) } else { None }
    }

    /// 0 to 9.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// A message on its way in, before the broker has given it a place.
#[derive(Clone, Debug)]
pub struct Message {
    /// Whether it outlives the process.
    pub durability: Durability,
    /// Who goes first.
    pub priority: Priority,
    /// When it is no longer wanted; `None` is never.
    pub expires: Option<Millis>,
    /// Properties and body, in the bytes of [`Content`].
    pub content: Bytes,
}

/// What a message says: properties in the order they were given, and a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// How the body is to be read.
    pub kind: BodyKind,
    /// Name and value, in order; a name may repeat (the first counts).
    pub properties: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// The property of a message that was set apart (dead-lettered) that says from where, as ActiveMQ
/// names it.
pub const ORIGINAL_DESTINATION: &str = "originalDestination";

/// The same under the name that plugins of ActiveMQ use.
pub const DLQ_ORIGINAL_DESTINATION: &str = "dlqOriginalDestination";

/// From where a message was set apart, as its properties have it: `queue://NAME`, `topic://NAME`,
/// or the plain name of a queue.
#[must_use]
pub fn origin_of(content: &Content) -> Option<Destination> {
    let origin = content.property(ORIGINAL_DESTINATION);
    let origin = origin.or_else(|| content.property(DLQ_ORIGINAL_DESTINATION))?;
    if let Some(topic) = origin.strip_prefix("topic://") {
        return Some(Destination::Topic(topic.into()));
    }
    let queue = origin.strip_prefix("queue://").unwrap_or(origin);
    (!queue.is_empty()).then(|| Destination::Queue(queue.into()))
}

/// Bytes that are not a [`Content`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes of a message's content are malformed")]
pub struct MalformedContent;

/// Version of the layout below; the first byte.
const VERSION: u8 = 1;

impl Content {
    /// Layout, little-endian: version u8 = 1; kind u8 (1 text, 2 bytes); count u16; per property
    /// name length u16, value length u32, name, value; the rest is the body.
    ///
    /// # Panics
    /// With more than 65,535 properties or a name or value beyond its length field: the codecs
    /// hold far lower limits.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let head: usize = self.properties.iter().map(|(n, v)| 6 + n.len() + v.len()).sum();
        let mut out = BytesMut::with_capacity(4 + head + self.body.len());
        out.put_u8(VERSION);
        out.put_u8(match self.kind {
            BodyKind::Text => 1,
            BodyKind::Bytes => 2,
        });
        out.put_u16_le(u16::try_from(self.properties.len()).expect("limited by the codec"));
        for (name, value) in &self.properties {
            out.put_u16_le(u16::try_from(name.len()).expect("limited by the codec"));
            out.put_u32_le(u32::try_from(value.len()).expect("limited by the codec"));
            out.put_slice(name.as_bytes());
            out.put_slice(value.as_bytes());
        }
        out.put_slice(&self.body);
        out.freeze()
    }

    /// The inverse of [`Content::encode`]; the body shares the bytes given.
    ///
    /// # Errors
    /// Where the bytes are not those of a content. Allocates no more than they justify.
    pub fn decode(mut bytes: Bytes) -> Result<Self, MalformedContent> {
        if bytes.remaining() < 4 || bytes.get_u8() != VERSION {
            return Err(MalformedContent);
        }
        let kind = match bytes.get_u8() {
            1 => BodyKind::Text,
            2 => BodyKind::Bytes,
            _ => return Err(MalformedContent),
        };
        let count = usize::from(bytes.get_u16_le());
        if count * 6 > bytes.remaining() {
            return Err(MalformedContent);
        }
        let mut properties = Vec::with_capacity(count);
        for _ in 0..count {
            if bytes.remaining() < 6 {
                return Err(MalformedContent);
            }
            let name = usize::from(bytes.get_u16_le());
            let value = bytes.get_u32_le() as usize;
            let text = |bytes: &mut Bytes, length: usize| {
                if length > bytes.remaining() {
                    return Err(MalformedContent);
                }
                let part = bytes.split_to(length);
                std::str::from_utf8(&part).map(str::to_owned).map_err(|_| MalformedContent)
            };
            let name = text(&mut bytes, name)?;
            properties.push((name, text(&mut bytes, value)?));
        }
        Ok(Self { kind, properties, body: bytes })
    }

    /// The first value of a property.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn content_reads_back_as_it_was_written(
            text: bool,
            properties in proptest::collection::vec((".{0,20}", ".{0,40}"), 0..8),
            body: Vec<u8>,
        ) {
            let kind = if text { BodyKind::Text } else { BodyKind::Bytes };
            let content = Content { kind, properties, body: body.into() };
            prop_assert_eq!(Content::decode(content.encode()), Ok(content));
        }

        #[test]
        fn any_bytes_are_a_content_or_a_clear_no(bytes: Vec<u8>) {
            let _ = Content::decode(bytes.into());
        }
    }
}
