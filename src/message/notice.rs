//! A content that tells of a message what became of it.
//!
//! Who listens to what advisories tell of a destination gets one for each message that expired
//! there, or was set apart. Owns the layout 6 of a content, and the names of the topics. Always:
//! the message is told of without its body; who reads messages of every kind sees a text without a
//! body, and what is told as properties.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    ADVISORY, BodyKind, Content, DLQ_FAILURE_CAUSE, Destination, JMS_TYPE, Jms, JmsBody, JmsHead,
    LargeHead, MalformedContent, get_properties, properties_len, put_properties, value_of,
    with_properties,
};
use crate::ids::Millis;

/// Version of the layout; the first byte.
const VERSION: u8 = 6;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its time was over before it was consumed.
    Expired,
    /// It was put into a queue for dead letters.
    SetApart,
}

impl Event {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Expired, Self::SetApart];

    /// How the names of the topics begin on which it is told of.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Expired => "ActiveMQ.Advisory.Expired.",
            Self::SetApart => "ActiveMQ.Advisory.MessageDLQd.",
        }
    }

    /// The topic on which it is told that this became of messages of a destination.
    #[must_use]
    pub fn topic(self, of: &Destination) -> String {
        format!("{}{}.{}", self.prefix(), kind_of(of), of.name())
    }
}

/// The kinds of destinations, as the names of these topics have them.
const KINDS: [&str; 2] = [QUEUE, TOPIC];
const QUEUE: &str = "Queue";
const TOPIC: &str = "Topic";

fn kind_of(destination: &Destination) -> &'static str {
    match destination {
        Destination::Queue(_) => QUEUE,
        Destination::Topic(_) => TOPIC,
    }
}

fn of_kind(kind: &str, name: &str) -> Destination {
    if kind == QUEUE { Destination::queue(name) } else { Destination::topic(name) }
}

/// A message of which it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Where it was.
    pub of: Destination,
    /// The broker's name for it.
    pub id: String,
    /// When the broker took it.
    pub at: Millis,
    /// When it was no longer wanted.
    pub expires: Option<Millis>,
    /// 0 to 9.
    pub priority: u8,
    /// Whether it outlived the process.
    pub persistent: bool,
    /// How often it had come back.
    pub returns: u32,
    /// Why it was set apart, if it was.
    pub cause: Option<String>,
    /// The message; its body is left out.
    pub content: Bytes,
}

const ID: &str = "orignalMessageId";
const OF: &str = "orignalDestination";
const AT: &str = "JMSTimestamp";
const EXPIRES: &str = "JMSExpiration";
const PRIORITY: &str = "JMSPriority";
const MODE: &str = "JMSDeliveryMode";
const COUNT: &str = "JMSXDeliveryCount";
const PERSISTENT: &str = "PERSISTENT";

impl Notice {
    /// Layout: version u8 = 6; count u16 and properties as in [`Content::encode`]; the rest is
    /// another content, whose body is empty.
    ///
    /// # Errors
    /// Where the message's content is malformed.
    pub fn encode(&self) -> Result<Bytes, MalformedContent> {
        let mode = if self.persistent { PERSISTENT } else { "NON_PERSISTENT" };
        let expires = self.expires.map_or(0, |at| at.0);
        let properties = [
            (JMS_TYPE, "Advisory".to_owned()),
            (ID, self.id.clone()),
            (OF, self.of.to_string()),
            (AT, self.at.0.to_string()),
            (EXPIRES, expires.to_string()),
            (PRIORITY, self.priority.to_string()),
            (MODE, mode.to_owned()),
            (COUNT, self.returns.saturating_add(1).to_string()),
        ];
        let cause = self.cause.clone().map(|cause| (DLQ_FAILURE_CAUSE, cause));
        let properties = properties.into_iter().chain(cause);
        let properties: Vec<_> = properties.map(|(name, it)| (name.to_owned(), it)).collect();
        let content = without_body(self.content.clone())?;
        let content = match &self.cause {
            Some(cause) => {
                with_properties(content, &[(DLQ_FAILURE_CAUSE.to_owned(), cause.clone())])
            }
            None => content,
        };
        let mut out = BytesMut::with_capacity(3 + properties_len(&properties) + content.len());
        out.put_u8(VERSION);
        put_properties(&properties, &mut out);
        out.put_slice(&content);
        Ok(out.freeze())
    }

    /// Whether a content is one of these.
    #[must_use]
    pub fn is(content: &[u8]) -> bool {
        content.first() == Some(&VERSION)
    }

    /// The inverse of [`Notice::encode`], but for the body.
    ///
    /// # Errors
    /// Where the bytes are no such content.
    pub fn decode(content: Bytes) -> Result<Self, MalformedContent> {
        let (properties, content) = split(content)?;
        let text = |name| value_of(&properties, name).ok_or(MalformedContent);
        let number = |name| text(name)?.parse::<u64>().map_err(|_| MalformedContent);
        let small = |name| u32::try_from(number(name)?).map_err(|_| MalformedContent);
        let of = text(OF)?;
        let of = match (of.strip_prefix("queue://"), of.strip_prefix("topic://")) {
            (Some(name), _) => Destination::queue(name),
            (_, Some(name)) => Destination::topic(name),
            (None, None) => return Err(MalformedContent),
        };
        Ok(Self {
            of,
            id: text(ID)?.to_owned(),
            at: Millis(number(AT)?),
            expires: Some(number(EXPIRES)?).filter(|at| *at > 0).map(Millis),
            priority: u8::try_from(number(PRIORITY)?).map_err(|_| MalformedContent)?,
            persistent: text(MODE)? == PERSISTENT,
            returns: small(COUNT)?.saturating_sub(1),
            cause: value_of(&properties, DLQ_FAILURE_CAUSE).map(str::to_owned),
            content,
        })
    }

    /// The destinations of whose messages who reads from a topic hears, or from a pattern of such:
    /// by names or patterns.
    #[must_use]
    pub fn heard_on(topic: &Destination) -> Vec<Destination> {
        let Destination::Topic(name) = topic else { return Vec::new() };
        let mut found = Vec::new();
        // No other pattern catches any of these.
        if !name.starts_with(ADVISORY) {
            return found;
        }
        for event in Event::ALL {
            for kind in KINDS {
                let first = format!("{}{kind}", event.prefix());
                let Some(rest) = behind(name, &first) else { continue };
                found.push(of_kind(kind, rest));
                // Of what is the broker's own a pattern may not say that it catches it.
                if rest.starts_with(['*', '>']) {
                    found.push(of_kind(kind, "ActiveMQ.>"));
                }
            }
        }
        found
    }
}

/// What a name or pattern says behind these first parts, where it can begin with them.
fn behind<'a>(name: &'a str, first: &str) -> Option<&'a str> {
    let mut rest = name;
    for part in first.split('.') {
        if rest == ">" {
            return Some(rest);
        }
        let (own, behind) = rest.split_once('.')?;
        if own != "*" && own != part {
            return None;
        }
        rest = behind;
    }
    Some(rest)
}

/// As who reads messages of every kind sees it.
pub(super) fn as_content(content: Bytes) -> Result<Content, MalformedContent> {
    let (properties, _) = split(content)?;
    Ok(Content { kind: BodyKind::Text, properties, body: Bytes::new() })
}

type Split = (Vec<(String, String)>, Bytes);

fn split(content: Bytes) -> Result<Split, MalformedContent> {
    if !Notice::is(&content) {
        return Err(MalformedContent);
    }
    let mut rest = content.slice(1..);
    Ok((get_properties(&mut rest)?, rest))
}

/// What a message says beside its body, which there is none of any more.
fn without_body(content: Bytes) -> Result<Bytes, MalformedContent> {
    let bare = super::published::bare(content);
    if Jms::is(&bare) {
        let (Jms::Whole(head, _) | Jms::Large(head, _)) = Jms::decode(bare)?;
        let head = JmsHead { body: JmsBody::default(), ..head };
        return Jms::Whole(head, Bytes::new()).encode();
    }
    let (kind, properties) = match LargeHead::decode(bare.clone()) {
        Ok(LargeHead { kind, properties, .. }) => (kind, properties),
        Err(MalformedContent) => {
            let Content { kind, properties, .. } = Content::decode(bare)?;
            (kind, properties)
        }
    };
    Ok(Content { kind, properties, body: Bytes::new() }.encode())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Value, large_bytes, on_topic, value};

    fn notice(content: Bytes) -> Notice {
        Notice {
            of: Destination::queue("a.b"),
            id: "d10".to_owned(),
            at: Millis(7),
            expires: Some(Millis(9)),
            priority: 3,
            persistent: true,
            returns: 2,
            cause: None,
            content,
        }
    }

    fn content(body: &'static str) -> Content {
        let properties = vec![("a".to_owned(), "1".to_owned())];
        Content { kind: BodyKind::Text, properties, body: Bytes::from_static(body.as_bytes()) }
    }

    #[test]
    fn a_message_is_told_of_without_its_body() {
        let large =
            LargeHead { kind: BodyKind::Text, properties: content("").properties, bytes: 9 };
        for whole in
            [content("body").encode(), large.encode(), on_topic("t", &content("x").encode())]
        {
            let told = notice(whole).encode().unwrap();
            assert_eq!(Notice::decode(told.clone()), Ok(notice(content("").encode())));
            assert_eq!((Jms::is(&told), large_bytes(&told)), (false, None));
        }
        assert_eq!(notice(Bytes::from_static(b"no content")).encode(), Err(MalformedContent));
    }

    #[test]
    fn whoever_reads_messages_of_every_kind_sees_what_is_told() {
        let cause = Some("because".to_owned());
        let told = Notice { cause, ..notice(content("body").encode()) }.encode().unwrap();
        let seen = Content::decode(told.clone()).unwrap();
        assert_eq!((seen.property("type"), seen.body.len()), (Some("Advisory"), 0));
        assert_eq!(seen.property("orignalDestination"), Some("queue://a.b"));
        let text = |text: &str| Some(Value::Text(text.to_owned()));
        assert_eq!(value(&told, "orignalMessageId"), text("d10"));
        let inner = Notice::decode(told).unwrap().content;
        assert_eq!(value(&inner, DLQ_FAILURE_CAUSE), text("because"));
        assert_eq!(value(&inner, "a"), text("1"));
    }

    #[test]
    fn a_topic_says_of_whose_messages_its_readers_hear() {
        let (queue, topic) = (|name| Destination::queue(name), |name| Destination::topic(name));
        let own = "ActiveMQ.>";
        for (name, expected) in [
            ("ActiveMQ.Advisory.Expired.Queue.a.b", vec![queue("a.b")]),
            ("ActiveMQ.Advisory.MessageDLQd.Topic.a.*", vec![topic("a.*")]),
            ("ActiveMQ.Advisory.Expired.Queue.>", vec![queue(">"), queue(own)]),
            ("ActiveMQ.Advisory.*.Queue.a", vec![queue("a"), queue("a")]),
            ("ActiveMQ.Advisory.Consumer.>", vec![]),
            ("ActiveMQ.Advisory.Expired.Queue", vec![]),
            ("a.>", vec![]),
            (">", vec![]),
        ] {
            assert_eq!(Notice::heard_on(&Destination::topic(name)), expected, "{name}");
        }
        assert_eq!(Notice::heard_on(&Destination::topic("ActiveMQ.Advisory.>")).len(), 8);
        assert_eq!(Notice::heard_on(&Destination::queue("ActiveMQ.Advisory.>")), []);
        let expected = "ActiveMQ.Advisory.MessageDLQd.Topic.t";
        assert_eq!(Event::SetApart.topic(&Destination::topic("t")), expected);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_notice_or_a_clear_no(bytes: Vec<u8>) {
            let content: Bytes = [&[VERSION], &bytes[..]].concat().into();
            let _ = Notice::decode(content.clone());
            let _ = Content::decode(content);
        }
    }
}
