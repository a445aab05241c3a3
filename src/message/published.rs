//! A content that says on which topic it was published.
//!
//! Who reads from a pattern of topics is told of each message which of them it was published on,
//! and where such a reader is away meanwhile nothing but the message itself knows. Owns the layout
//! 5 of a content. Always: such a content reads like the one in it; none is in another such.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};

/// Version of the layout; the first byte.
const VERSION: u8 = 5;
/// Bytes before the name.
const HEAD_BYTES: usize = 3;

/// A content that says so. One that says so already stays as it is, and so does what cannot: a
/// name beyond its length field.
///
/// Layout, little-endian: version u8 = 5; length u16 of the name; the name; the rest is another
/// content.
#[must_use]
pub fn on_topic(topic: &str, content: &Bytes) -> Bytes {
    let length = u16::try_from(topic.len()).ok().filter(|_| split(content).is_none());
    let Some(length) = length else { return content.clone() };
    let mut out = BytesMut::with_capacity(HEAD_BYTES + topic.len() + content.len());
    out.put_u8(VERSION);
    out.put_u16_le(length);
    out.put_slice(topic.as_bytes());
    out.put_slice(content);
    out.freeze()
}

/// The topic on which a content says that it was published.
#[must_use]
pub fn topic_of(content: &[u8]) -> Option<Cow<'_, str>> {
    split(content).map(|(name, _)| String::from_utf8_lossy(name))
}

/// A content without saying so.
pub(super) fn bare(content: Bytes) -> Bytes {
    match split(&content) {
        Some((_, rest)) => content.slice_ref(rest),
        None => content,
    }
}

/// The bytes of [`bare`].
pub(super) fn inner(content: &[u8]) -> &[u8] {
    split(content).map_or(content, |(_, rest)| rest)
}

fn split(content: &[u8]) -> Option<(&[u8], &[u8])> {
    let [VERSION, low, high, rest @ ..] = content else { return None };
    rest.split_at_checked(usize::from(u16::from_le_bytes([*low, *high])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{
        BodyKind, Content, LargeHead, Value, large_bytes, value, with_properties, with_property,
    };
    use proptest::prelude::*;

    fn content(body: &str) -> Content {
        let properties = vec![("a".to_owned(), "1".to_owned())];
        Content { kind: BodyKind::Text, properties, body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    proptest! {
        #[test]
        fn it_says_its_topic_and_reads_like_what_is_in_it(
            (topic, body) in ("\\PC{0,9}", "\\PC{0,9}"),
        ) {
            let plain = content(&body);
            let said = on_topic(&topic, &plain.encode());
            prop_assert!(topic_of(&said).is_some_and(|it| it == topic));
            prop_assert!(topic_of(&plain.encode()).is_none());
            prop_assert_eq!(&on_topic("other", &said), &said);
            prop_assert_eq!(Content::decode(said.clone()), Ok(plain));
            prop_assert_eq!(value(&said, "a"), Some(Value::Text("1".to_owned())));
        }

        #[test]
        fn any_bytes_are_one_or_none(bytes in proptest::collection::vec(0u8..8, 0..24)) {
            let _ = topic_of(&bytes);
            let _ = Content::decode(bytes.into());
        }
    }

    #[test]
    fn the_head_of_a_large_one_reads_like_any() {
        let properties = vec![("a".to_owned(), "1".to_owned())];
        let head = LargeHead { kind: BodyKind::Text, properties, bytes: 1 << 20 };
        let said = on_topic("t", &head.encode());
        assert_eq!((topic_of(&said).as_deref(), large_bytes(&said)), (Some("t"), Some(1 << 20)));
        assert_eq!(value(&said, "a"), Some(Value::Text("1".to_owned())));
        assert_eq!(LargeHead::decode(said), Ok(head));
    }

    #[test]
    fn what_is_said_of_it_more_leaves_its_topic() {
        let said = on_topic("t", &content("x").encode());
        let more = with_property(said.clone(), "a", "2");
        assert_eq!((topic_of(&more).as_deref(), value(&more, "a")), (Some("t"), text("2")));
        let more = with_properties(said, &[("b".to_owned(), "3".to_owned())]);
        assert_eq!((topic_of(&more).as_deref(), value(&more, "b")), (Some("t"), text("3")));
    }

    fn text(text: &str) -> Option<Value> {
        Some(Value::Text(text.to_owned()))
    }
}
