//! Identities: each its own type, none interchangeable, each with a `Display` for logs.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

id!(
    /// One network or in-process connection in the life of this process; never reused within it.
    ConnectionId,
    "conn-"
);
id!(
    /// One subscription of one connection; chosen by its session, unique within the connection.
    SubscriptionId,
    "sub-"
);
id!(
    /// A queue for as long as it exists; durable, never reused within a store.
    QueueId,
    "queue-"
);
id!(
    /// Names one delivery of one message to one subscription; grows with each delivery on it.
    Tag,
    "tag-"
);
id!(
    /// A session's own mark on a request, given back with its answer.
    Token,
    "token-"
);

/// A position in the log: the byte address of a frame.
///
/// Segments have one fixed size per store, so `lsn / segment size` is the ordinal of the segment
/// and `lsn % segment size` is the offset inside its file. An Lsn is never used twice within a
/// store, whatever becomes of its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Milliseconds of wall-clock time since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);
