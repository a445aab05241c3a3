//! The parts of a frame: command, headers, body pieces.

use std::fmt;

use bytes::Bytes;

/// A version of the protocol; a later one is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 1.0: headers have no escapes.
    V1_0,
    /// 1.1: escapes, heart-beats, NACK.
    V1_1,
    /// 1.2: CRLF, and acknowledgements by the `ack` header.
    V1_2,
}

impl Version {
    /// Every version this codec speaks, as the `version` header of an ERROR frame lists them.
    pub const ALL: &'static str = "1.0,1.1,1.2";

    /// The version of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "1.0" => Some(Self::V1_0),
            "1.1" => Some(Self::V1_1),
            "1.2" => Some(Self::V1_2),
            _ => None,
        }
    }

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1_0 => "1.0",
            Self::V1_1 => "1.1",
            Self::V1_2 => "1.2",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

macro_rules! commands {
    ($($variant:ident $name:literal),+ $(,)?) => {
        /// The first line of a frame. Of clients and servers, for the codec serves both.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Command {
            $(#[doc = concat!("`", $name, "`")] $variant,)+
        }

        impl Command {
            /// Every command.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The command of that name; names are in capital letters.
            #[must_use]
            pub fn parse(name: &[u8]) -> Option<Self> {
                $(if name == $name.as_bytes() { return Some(Self::$variant); })+
                None
            }

            /// The name on the wire.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

commands! {
    Send "SEND", Ack "ACK", Message "MESSAGE", Receipt "RECEIPT", Nack "NACK",
    Subscribe "SUBSCRIBE", Unsubscribe "UNSUBSCRIBE", Connect "CONNECT", Stomp "STOMP",
    Connected "CONNECTED", Begin "BEGIN", Commit "COMMIT", Abort "ABORT",
    Disconnect "DISCONNECT", Error "ERROR",
}

impl Command {
    /// Letters of the longest name.
    pub(super) const NAME_BYTES_MAX: usize = 11;

    /// Whether the frame may have a body.
    #[must_use]
    pub const fn may_have_body(self) -> bool {
        matches!(self, Self::Send | Self::Message | Self::Error)
    }

    /// Whether headers are written plainly in every version: the frames of the greeting, from
    /// which the version is not yet known to both sides.
    #[must_use]
    pub const fn is_greeting(self) -> bool {
        matches!(self, Self::Connect | Self::Stomp | Self::Connected)
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Headers in the order given, unescaped. Names may repeat: the first counts.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    /// Name, value, name, value, without anything between: one allocation for a head.
    text: String,
    spans: Vec<Span>,
}

/// Where a header's parts end in the text; it begins where the one before ends.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Span {
    name_end: usize,
    value_end: usize,
}

impl Headers {
    pub(super) fn with_capacity(bytes: usize, headers: usize) -> Self {
        Self { text: String::with_capacity(bytes), spans: Vec::with_capacity(headers) }
    }

    /// The end of the text, to which a parser appends a name and then a value.
    pub(super) fn text(&mut self) -> &mut String {
        &mut self.text
    }

    /// Makes a header of what was appended since the last one: the name up to `name_end`.
    pub(super) fn close(&mut self, name_end: usize) {
        self.spans.push(Span { name_end, value_end: self.text.len() });
    }

    /// How many, repeated ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Name and value, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut start = 0;
        self.spans.iter().map(move |span| {
            let name = &self.text[start..span.name_end];
            start = span.value_end;
            (name, &self.text[span.name_end..span.value_end])
        })
    }

    /// The value of the first header of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Everything of a frame before its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// What the frame asks or says.
    pub command: Command,
    /// Its headers.
    pub headers: Headers,
    /// Length of the body in bytes, where the frame says it.
    pub content_length: Option<u64>,
}

/// What a decoder finds, in order: for a frame `Head`, any number of `Body`, `End`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A frame begins.
    Head(Head),
    /// The next bytes of its body; never empty.
    Body(Bytes),
    /// The frame is complete.
    End,
    /// One or more line ends between frames.
    HeartBeat,
}

/// What a decoder accepts at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of command and headers together, with the blank line; values below 64 count as 64.
    pub head_bytes: usize,
    /// Headers of a frame.
    pub headers: usize,
    /// Bytes of a body.
    pub body_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { head_bytes: 64 << 10, headers: 256, body_bytes: 16 << 20 }
    }
}
