//! A message as every wire and the log share it: an envelope, properties and an opaque body.
//!
//! Owns the bytes of a message's payload in the log (`encode`, `decode`). What routing needs
//! (destination, priority, times) travels in the record, not here.

mod jms;
mod notice;
mod pattern;
mod published;
mod view;

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::ids::Millis;
use crate::schedule::When;

pub use self::jms::{Jms, JmsBody, JmsHead};
pub use self::notice::{Event, Notice};
pub(crate) use self::pattern::Part;
pub use self::pattern::{ADVISORY, MalformedPattern, NamePattern, Wildcard, has_wildcards};
pub use self::published::{on_topic, topic_of};
pub use self::view::{
    CORRELATION_ID, GROUP_ID, GROUP_SEQUENCE, JMS_TYPE, REPLY_TO, TEMPORARY, TEMPORARY_TOPIC,
    USER_ID, Value, value, values,
};

/// Where a message is sent and from where it is consumed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Destination {
    /// Each message goes to one consumer and waits for it.
    Queue(Arc<str>),
    /// Each message goes to every subscriber connected now.
    Topic(Arc<str>),
}

impl Destination {
    /// The queue of that name.
    pub fn queue(name: impl Into<Arc<str>>) -> Self {
        Self::Queue(name.into())
    }

    /// The topic of that name.
    pub fn topic(name: impl Into<Arc<str>>) -> Self {
        Self::Topic(name.into())
    }

    /// The name without its kind.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Queue(name) | Self::Topic(name) => name,
        }
    }

    /// Whether it ends with the connection that has made it, which alone may read from it.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Queue(name) => name.starts_with(TEMPORARY),
            Self::Topic(name) => name.starts_with(TEMPORARY_TOPIC),
        }
    }
}

impl From<&Destination> for Destination {
    fn from(destination: &Destination) -> Self {
        destination.clone()
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
    /// When it is handed out.
    pub when: When,
    /// Whether it names a group of messages, as its content says ([`GROUP_ID`]).
    pub grouped: bool,
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

/// The property of such a message that says why, as ActiveMQ names it.
pub const DLQ_FAILURE_CAUSE: &str = "dlqDeliveryFailureCause";

/// The property of a message that was delivered later than it was sent, as ActiveMQ names it: which
/// schedule it is of. Empty where the schedule is the message itself: its id stands there then.
pub const SCHEDULED_JOB: &str = "scheduledJobId";

/// The property of a message that says under which name it was sent against repetitions, as another
/// broker calls it.
pub const DUPLICATE_ID: &str = "_AMQ_DUPL_ID";

/// Properties as they are stored of a message that is handed out then.
pub fn mark_scheduled(when: &When, properties: &mut Vec<(String, String)>) {
    if !when.is_at_once() {
        properties.push((SCHEDULED_JOB.to_owned(), String::new()));
    }
}

/// The queue from which a message was set apart, as its properties have it: `queue://NAME` or the
/// plain name. One that says `topic://NAME` may have the queue under the other property.
#[must_use]
pub fn origin_of<'a>(property: impl Fn(&str) -> Option<&'a str>) -> Option<&'a str> {
    let names = [ORIGINAL_DESTINATION, DLQ_ORIGINAL_DESTINATION];
    let said = names.into_iter().filter_map(property);
    let mut queues = said.filter(|origin| !origin.starts_with("topic://"));
    let queue = queues.next()?;
    Some(queue.strip_prefix("queue://").unwrap_or(queue)).filter(|queue| !queue.is_empty())
}

/// Bytes that are not a [`Content`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes of a message's content are malformed")]
pub struct MalformedContent;

/// Version of a whole content's layout; the first byte.
const VERSION: u8 = 1;
/// Version of the layout of a head whose body lies elsewhere.
const VERSION_LARGE: u8 = 2;

impl BodyKind {
    const fn number(self) -> u8 {
        match self {
            Self::Text => 1,
            Self::Bytes => 2,
        }
    }

    const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Text),
            2 => Some(Self::Bytes),
            _ => None,
        }
    }
}

impl Content {
    /// Layout, little-endian: version u8 = 1; kind u8 (1 text, 2 bytes); count u16; per property
    /// name length u16, value length u32, name, value; the rest is the body.
    ///
    /// # Panics
    /// With more than 65,535 properties or a name or value beyond its length field: the codecs
    /// hold far lower limits.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let head = properties_len(&self.properties);
        let mut out = BytesMut::with_capacity(4 + head + self.body.len());
        out.put_u8(VERSION);
        out.put_u8(self.kind.number());
        put_properties(&self.properties, &mut out);
        out.put_slice(&self.body);
        out.freeze()
    }

    /// The inverse of [`Content::encode`]; the body shares the bytes given. A whole message of JMS
    /// is seen as one of these, and so is one that says on which topic it was published, and one
    /// that tells of another.
    ///
    /// # Errors
    /// Where the bytes are not those of a content. Allocates no more than they justify.
    pub fn decode(mut bytes: Bytes) -> Result<Self, MalformedContent> {
        bytes = published::bare(bytes);
        if Jms::is(&bytes) {
            return Self::of_jms(Jms::decode(bytes)?);
        }
        if Notice::is(&bytes) {
            return notice::as_content(bytes);
        }
        if bytes.remaining() < 4 || bytes.get_u8() != VERSION {
            return Err(MalformedContent);
        }
        let kind = BodyKind::from_number(bytes.get_u8()).ok_or(MalformedContent)?;
        let properties = get_properties(&mut bytes)?;
        Ok(Self { kind, properties, body: bytes })
    }

    /// The first value of a property.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&str> {
        value_of(&self.properties, name)
    }
}

/// What a message with a large body says beside it: the body lies elsewhere, in pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LargeHead {
    /// How the body is to be read.
    pub kind: BodyKind,
    /// As those of a [`Content`].
    pub properties: Vec<(String, String)>,
    /// Bytes of the body.
    pub bytes: u64,
}

impl LargeHead {
    /// Layout, little-endian: version u8 = 2; kind u8; bytes of the body u64; count u16 and
    /// properties as in [`Content::encode`]; nothing after them.
    ///
    /// # Panics
    /// As [`Content::encode`] does.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(12 + properties_len(&self.properties));
        out.put_u8(VERSION_LARGE);
        out.put_u8(self.kind.number());
        out.put_u64_le(self.bytes);
        put_properties(&self.properties, &mut out);
        out.freeze()
    }

    /// The inverse of [`LargeHead::encode`]. The head of a large message of JMS is seen as one of
    /// these.
    ///
    /// # Errors
    /// Where the bytes are not those of such a head. Allocates no more than they justify.
    pub fn decode(bytes: Bytes) -> Result<Self, MalformedContent> {
        let mut bytes = published::bare(bytes);
        if bytes.first() == Some(&jms::VERSION_LARGE) {
            return Self::of_jms(&Jms::decode(bytes)?);
        }
        if bytes.remaining() < 10 || bytes.get_u8() != VERSION_LARGE {
            return Err(MalformedContent);
        }
        let kind = BodyKind::from_number(bytes.get_u8()).ok_or(MalformedContent)?;
        let total = bytes.get_u64_le();
        let properties = get_properties(&mut bytes)?;
        if !bytes.is_empty() {
            return Err(MalformedContent);
        }
        Ok(Self { kind, properties, bytes: total })
    }
}

impl LargeHead {
    /// The first value of a property.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&str> {
        value_of(&self.properties, name)
    }
}

/// The length of a body that lies elsewhere, where `content` is that of a [`LargeHead`].
#[must_use]
pub fn large_bytes(content: &[u8]) -> Option<u64> {
    match published::inner(content) {
        [VERSION_LARGE | jms::VERSION_LARGE, _, rest @ ..] => {
            rest.first_chunk().map(|total| u64::from_le_bytes(*total))
        }
        _ => None,
    }
}

/// A content with more properties, which come before its own; as it is where it cannot have more.
#[must_use]
pub fn with_properties(content: Bytes, properties: &[(String, String)]) -> Bytes {
    if let Some(topic) = topic_of(&content) {
        let bare = published::bare(content.clone());
        return on_topic(&topic, &with_properties(bare, properties));
    }
    if Jms::is(&content) {
        let Ok(mut jms) = Jms::decode(content.clone()) else { return content };
        for (name, value) in properties {
            jms.head_mut().set(name, value);
        }
        return jms.encode().unwrap_or(content);
    }
    let Ok(mut decoded) = Content::decode(content.clone()) else { return content };
    if decoded.properties.len() + properties.len() > usize::from(u16::MAX) {
        return content;
    }
    decoded.properties.splice(..0, properties.iter().cloned());
    decoded.encode()
}

/// A content in which a property that it has is another.
#[must_use]
pub fn with_property(content: Bytes, name: &str, value: &str) -> Bytes {
    if let Some(topic) = topic_of(&content) {
        let bare = published::bare(content.clone());
        return on_topic(&topic, &with_property(bare, name, value));
    }
    if Jms::is(&content) {
        return with_properties(content, &[(name.to_owned(), value.to_owned())]);
    }
    let Ok(mut decoded) = Content::decode(content.clone()) else { return content };
    if let Some(own) = decoded.properties.iter_mut().find(|(other, _)| other == name) {
        value.clone_into(&mut own.1);
    }
    decoded.encode()
}

fn value_of<'a>(properties: &'a [(String, String)], name: &str) -> Option<&'a str> {
    properties.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

fn properties_len(properties: &[(String, String)]) -> usize {
    properties.iter().map(|(name, value)| 6 + name.len() + value.len()).sum()
}

fn put_properties(properties: &[(String, String)], out: &mut BytesMut) {
    out.put_u16_le(u16::try_from(properties.len()).expect("limited by the codec"));
    for (name, value) in properties {
        out.put_u16_le(u16::try_from(name.len()).expect("limited by the codec"));
        out.put_u32_le(u32::try_from(value.len()).expect("limited by the codec"));
        out.put_slice(name.as_bytes());
        out.put_slice(value.as_bytes());
    }
}

fn get_properties(bytes: &mut Bytes) -> Result<Vec<(String, String)>, MalformedContent> {
    if bytes.remaining() < 2 {
        return Err(MalformedContent);
    }
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
        let name = text(bytes, name)?;
        properties.push((name, text(bytes, value)?));
    }
    Ok(properties)
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
            let bytes = body.len() as u64;
            let large = LargeHead { kind, properties: properties.clone(), bytes };
            prop_assert_eq!(large_bytes(&large.encode()), Some(bytes));
            prop_assert_eq!(LargeHead::decode(large.encode()), Ok(large));
            let content = Content { kind, properties, body: body.into() };
            prop_assert_eq!(large_bytes(&content.encode()), None);
            prop_assert_eq!(Content::decode(content.encode()), Ok(content));
        }

        #[test]
        fn any_bytes_are_a_content_or_a_clear_no(bytes: Vec<u8>) {
            let _ = large_bytes(&bytes);
            let _ = LargeHead::decode(bytes.clone().into());
            let _ = Content::decode(bytes.into());
        }
    }
}
