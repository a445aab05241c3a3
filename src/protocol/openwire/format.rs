//! What both sides have agreed on: how the frames after the handshake are written.

use std::fmt;

/// A version of the wire: 1 to 12, a later one is greater. Later ones add fields; the table of
/// structures says which field came when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u8);

impl Version {
    /// The oldest, of ActiveMQ 4.0.
    pub const OLDEST: Self = Self(1);
    /// The newest, of ActiveMQ 5.14 and everything after it.
    pub const NEWEST: Self = Self(12);

    /// The version of that number, if it is one of those spoken here.
    #[must_use]
    pub fn new(number: i32) -> Option<Self> {
        let number = u8::try_from(number).ok()?;
        (Self::OLDEST.0..=Self::NEWEST.0).contains(&number).then_some(Self(number))
    }

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// How frames are written, in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Which fields there are.
    pub version: Version,
    /// Booleans stand as bits before the fields, and small numbers are short.
    pub tight: bool,
    /// Ids and destinations are sent once and then named by the slot they were put into; so many
    /// slots there are.
    pub cache_slots: Option<u16>,
    /// Throwables come with their stack and what caused them.
    pub stack_traces: bool,
}

impl Format {
    /// How `WireFormatInfo` is written, before anything is agreed.
    pub const OPENING: Self =
        Self { version: Version::OLDEST, tight: false, cache_slots: None, stack_traces: false };
}
