//! Frames to bytes.

use std::fmt::{self, Write as _};

use bytes::{BufMut, BytesMut};

use super::{Command, Version};

/// Writes one frame behind what a buffer holds.
///
/// ```
/// # use bytes::BytesMut;
/// # use escrowmq::protocol::stomp::{Command, FrameEncoder, Version};
/// let mut out = BytesMut::new();
/// FrameEncoder::new(&mut out, Some(Version::V1_2), Command::Receipt)
///     .header("receipt-id", "a:1")
///     .end();
/// assert_eq!(&out[..], b"RECEIPT\nreceipt-id:a\\c1\n\n\0");
/// ```
///
/// No header can break out of its line: what a version has no escape for (a line feed in 1.0, a
/// NUL in any) becomes a space in a value and `_` in a name.
#[derive(Debug)]
#[must_use = "a frame is complete only with `end` or `body`"]
pub struct FrameEncoder<'a> {
    out: &'a mut BytesMut,
    escapes: Escapes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escapes {
    None,
    V1_1,
    V1_2,
}

impl<'a> FrameEncoder<'a> {
    /// Begins a frame as `version` writes it; with none, as the greeting does, without escapes.
    pub fn new(out: &'a mut BytesMut, version: Option<Version>, command: Command) -> Self {
        let escapes = match version {
            _ if command.is_greeting() => Escapes::None,
            None | Some(Version::V1_0) => Escapes::None,
            Some(Version::V1_1) => Escapes::V1_1,
            Some(Version::V1_2) => Escapes::V1_2,
        };
        out.put_slice(command.name().as_bytes());
        out.put_u8(b'\n');
        Self { out, escapes }
    }

    /// Adds a header.
    pub fn header(self, name: &str, value: &str) -> Self {
        self.escapes.write(self.out, Part::Name, name);
        self.out.put_u8(b':');
        self.escapes.write(self.out, Part::Value, value);
        self.out.put_u8(b'\n');
        self
    }

    /// Adds a header whose value is what `value` displays.
    pub fn display(self, name: &str, value: impl fmt::Display) -> Self {
        self.escapes.write(self.out, Part::Name, name);
        self.out.put_u8(b':');
        write!(Value { out: self.out, escapes: self.escapes }, "{value}")
            .expect("a buffer takes everything");
        self.out.put_u8(b'\n');
        self
    }

    /// Ends the frame without a body.
    pub fn end(self) {
        self.out.put_slice(b"\n\0");
    }

    /// Adds the `content-length` of a body that comes in pieces. Whoever writes those adds a NUL
    /// behind them.
    pub fn body_follows(self, length: u64) {
        let this = self.display("content-length", length);
        this.out.put_u8(b'\n');
    }

    /// Adds `content-length` and the body, and ends the frame.
    pub fn body(self, body: &[u8]) {
        let this = self.display("content-length", body.len());
        this.out.reserve(body.len() + 2);
        this.out.put_u8(b'\n');
        this.out.put_slice(body);
        this.out.put_u8(0);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Name,
    Value,
}

impl Escapes {
    fn write(self, out: &mut BytesMut, part: Part, text: &str) {
        let mut plain = 0;
        for (at, byte) in text.bytes().enumerate() {
            if let Some(instead) = self.instead(part, byte) {
                out.put_slice(&text.as_bytes()[plain..at]);
                out.put_slice(instead);
                plain = at + 1;
            }
        }
        out.put_slice(&text.as_bytes()[plain..]);
    }

    /// What stands for a byte that cannot stand for itself. All such bytes are ASCII, so text cut
    /// around them stays UTF-8.
    fn instead(self, part: Part, byte: u8) -> Option<&'static [u8]> {
        let lost: &[u8] = if part == Part::Name { b"_" } else { b" " };
        match (byte, self) {
            (0, _) => Some(lost),
            (b'\n', Self::None) => Some(lost),
            (b'\n', _) => Some(b"\\n"),
            (b'\r', Self::None) => Some(lost),
            // 1.1 has no escape for it, and none is needed: its lines end with a line feed alone.
            (b'\r', Self::V1_1) => None,
            (b'\r', Self::V1_2) => Some(b"\\r"),
            (b':', Self::None) => (part == Part::Name).then_some(lost),
            (b':', _) => Some(b"\\c"),
            (b'\\', Self::None) => None,
            (b'\\', _) => Some(b"\\\\"),
            _ => None,
        }
    }
}

struct Value<'a> {
    out: &'a mut BytesMut,
    escapes: Escapes,
}

impl fmt::Write for Value<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.escapes.write(self.out, Part::Value, text);
        Ok(())
    }
}
