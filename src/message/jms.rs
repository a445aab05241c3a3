//! A message as a JMS client has sent it, kept so that a JMS client gets it back: its class, its
//! properties in the bytes they had, and what else its producer said.
//!
//! Owns the layouts 3 (whole) and 4 (the body elsewhere) of a content. What a message says beside
//! its body is stored as the wire of such clients has it, in its newest version and plainest
//! encoding, so that nothing is lost and nothing is invented. Who reads messages of every kind, as
//! a text with properties, has `view`.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{MalformedContent, published};
use crate::protocol::openwire::message::{Message, MessageKind};
use crate::protocol::openwire::{Decoder, Format, SIZE_BYTES, Structure, Version, encode};

/// Version of the layout of a whole message of JMS.
pub(super) const VERSION_WHOLE: u8 = 3;
/// Version of the layout of one whose body lies elsewhere.
pub(super) const VERSION_LARGE: u8 = 4;

const HAS_BODY: u8 = 1;
const CUT: u8 = 2;
const UTF8: u8 = 4;

/// How a stored head is written.
const FORMAT: Format =
    Format { version: Version::NEWEST, tight: false, cache_slots: None, stack_traces: false };

/// How a body lies beside its message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JmsBody {
    /// There is one, though it may be empty.
    pub present: bool,
    /// The four bytes with its length that stand before a text are left out: they say what the
    /// length of the body does.
    pub cut: bool,
    /// It is UTF-8, not looked at further.
    pub utf8: bool,
}

/// What there is of a message of JMS beside the bytes of its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JmsHead {
    /// The message, without its body. Its destination, durability, priority and expiry are the
    /// broker's to know; those here do not count.
    pub message: Message,
    /// How the body lies.
    pub body: JmsBody,
}

/// A stored message of JMS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Jms {
    /// With its body.
    Whole(JmsHead, Bytes),
    /// Without; it has so many bytes.
    Large(JmsHead, u64),
}

impl JmsBody {
    fn flags(self) -> u8 {
        let flag = |yes, flag| if yes { flag } else { 0 };
        flag(self.present, HAS_BODY) | flag(self.cut, CUT) | flag(self.utf8, UTF8)
    }

    fn of_flags(flags: u8) -> Option<Self> {
        let has = |flag| flags & flag != 0;
        let known = flags & !(HAS_BODY | CUT | UTF8) == 0;
        known.then(|| Self { present: has(HAS_BODY), cut: has(CUT), utf8: has(UTF8) })
    }

    /// How the body of such a message lies, and its bytes as they are stored.
    #[must_use]
    pub fn of(message: &Message) -> (Self, Bytes) {
        let Some(content) = &message.content else { return (Self::default(), Bytes::new()) };
        let says = |mut head: &[u8]| head.try_get_i32().ok();
        let length = i32::try_from(content.len()).ok().map(|length| length - 4);
        let cut = message.kind == MessageKind::Text
            && !message.tail.compressed
            && says(content) == length;
        let body = if cut { content.slice(4..) } else { content.clone() };
        (Self { present: true, cut, utf8: false }, body)
    }

    /// The body as the wire has it.
    #[must_use]
    pub fn on_wire(self, body: Bytes) -> Option<Bytes> {
        match self {
            Self { present: false, .. } => None,
            Self { cut: false, .. } => Some(body),
            Self { cut: true, .. } => {
                let mut content = BytesMut::with_capacity(4 + body.len());
                content.put_i32(i32::try_from(body.len()).expect("a frame was larger"));
                content.extend_from_slice(&body);
                Some(content.freeze())
            }
        }
    }
}

impl Jms {
    /// Layout, little-endian. Whole: version u8 = 3; flags u8; length u32 of the head; the head;
    /// the rest is the body. Large: version u8 = 4; flags u8; bytes of the body u64; the rest is
    /// the head. Flags: 1 there is a body, 2 the length before a text is left out of it, 4 it is
    /// UTF-8. The head is a message of OpenWire, version 12, loose encoding, from its type code on,
    /// without its content.
    ///
    /// # Errors
    /// Where the head cannot be written; one that was read from a wire can.
    pub fn encode(&self) -> Result<Bytes, MalformedContent> {
        let (Self::Whole(head, _) | Self::Large(head, _)) = self;
        let mut frame = BytesMut::new();
        let message = Message { content: None, ..head.message.clone() };
        encode(&message, FORMAT, i32::MAX as usize, &mut frame).map_err(|_| MalformedContent)?;
        frame.advance(SIZE_BYTES);
        let flags = head.body.flags();
        let mut out = BytesMut::new();
        match self {
            Self::Whole(_, body) => {
                out.reserve(6 + frame.len() + body.len());
                out.put_slice(&[VERSION_WHOLE, flags]);
                out.put_u32_le(u32::try_from(frame.len()).map_err(|_| MalformedContent)?);
                out.put_slice(&frame);
                out.put_slice(body);
            }
            Self::Large(_, bytes) => {
                out.reserve(10 + frame.len());
                out.put_slice(&[VERSION_LARGE, flags]);
                out.put_u64_le(*bytes);
                out.put_slice(&frame);
            }
        }
        Ok(out.freeze())
    }

    /// Whether this is the content of a message of JMS.
    #[must_use]
    pub fn is(content: &[u8]) -> bool {
        matches!(published::inner(content).first(), Some(&(VERSION_WHOLE | VERSION_LARGE)))
    }

    /// The inverse of [`Jms::encode`]. On which topic it says that it was published is left out.
    ///
    /// # Errors
    /// Where the bytes are no such message. Allocates no more than they justify.
    pub fn decode(mut content: Bytes) -> Result<Self, MalformedContent> {
        content = published::bare(content);
        let cut = |_| MalformedContent;
        let version = content.try_get_u8().map_err(cut)?;
        let body = JmsBody::of_flags(content.try_get_u8().map_err(cut)?).ok_or(MalformedContent)?;
        let head = |frame: Bytes| {
            let decoded = Decoder::new(FORMAT).decode(frame).map_err(|_| MalformedContent)?;
            let Structure::Message(message) = decoded else { return Err(MalformedContent) };
            Ok(JmsHead { message: *message, body })
        };
        match version {
            VERSION_WHOLE => {
                let length = content.try_get_u32_le().map_err(cut)? as usize;
                if length > content.len() {
                    return Err(MalformedContent);
                }
                let frame = content.split_to(length);
                Ok(Self::Whole(head(frame)?, content))
            }
            VERSION_LARGE => {
                let bytes = content.try_get_u64_le().map_err(cut)?;
                Ok(Self::Large(head(content)?, bytes))
            }
            _ => Err(MalformedContent),
        }
    }

    /// What there is beside the body.
    #[must_use]
    pub fn head(&self) -> &JmsHead {
        let (Self::Whole(head, _) | Self::Large(head, _)) = self;
        head
    }

    /// The same, to be changed.
    pub fn head_mut(&mut self) -> &mut JmsHead {
        let (Self::Whole(head, _) | Self::Large(head, _)) = self;
        head
    }
}
