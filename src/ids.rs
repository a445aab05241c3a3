//! Identities: each its own type, none interchangeable, each with a `Display` for logs.

mod body;
mod by_queue;
mod tables;
mod xid;

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::num::{NonZeroU32, NonZeroU64};

pub use body::Body;
pub use by_queue::ByQueue;
pub use tables::{IdTables, Tables};
pub use xid::{BadXid, XID_PART_BYTES_MAX, Xid};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(
            Clone,
            Copy,
            Debug,
            PartialEq,
            Eq,
            PartialOrd,
            Ord,
            Hash,
            serde::Serialize,
            serde::Deserialize,
        )]
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
id!(
    /// A transaction of one connection; chosen by its session, unique within the connection.
    TransactionName,
    "tx-"
);
id!(
    /// A transaction that has an operation in the log, for as long as it is not settled; durable,
    /// never reused within a store.
    TransactionId,
    "transaction-"
);
id!(
    /// A large body on its way in; chosen by its session, unique within the connection.
    StageId,
    "stage-"
);
id!(
    /// A branch of a global transaction in the memory of one life of the broker; never reused in
    /// it.
    BranchId,
    "branch-"
);

/// A large body in pieces, for as long as any of them is kept; durable, never reused within a
/// store. None is zero, so that a message without one says so in no extra byte of memory.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct UploadId(pub NonZeroU64);

impl UploadId {
    /// The upload of that number; zero is none.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "upload-{}", self.0)
    }
}

/// What is remembered of messages that were set apart, for as long as any of them is there;
/// durable, never reused within a store. None is zero.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct NoteId(pub NonZeroU32);

impl NoteId {
    /// The note of that number; zero is none.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for NoteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "note-{}", self.0)
    }
}

/// A moment before which something is not done. Never zero, so that one that is not there takes
/// no room of its own.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct DueTime(NonZeroU64);

impl DueTime {
    /// That moment, or the first of 1970 that is one.
    #[must_use]
    pub const fn at(at: Millis) -> Self {
        match NonZeroU64::new(at.0) {
            Some(at) => Self(at),
            None => Self(NonZeroU64::MIN),
        }
    }

    /// When.
    #[must_use]
    pub const fn millis(self) -> Millis {
        Millis(self.0.get())
    }
}

/// A position in the log: the byte address of a frame.
///
/// Segments have one fixed size per store, so `lsn / segment size` is the ordinal of the segment
/// and `lsn % segment size` is the offset inside its file. An Lsn is never used twice within a
/// store, whatever becomes of its file.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Milliseconds of wall-clock time since the Unix epoch.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Millis(pub u64);

/// A map by ids that this program has counted out itself.
///
/// Nobody else chooses them, so the hash need not resist anyone and may be cheap; and the order
/// of a walk over the map is the same in each run.
pub type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// The hash of [`IdMap`]: one multiplication per number.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write_u64(&mut self, id: u64) {
        // An odd constant without pattern (2^64 over the golden ratio) carries every bit of the id
        // upwards; finish brings them down again.
        self.0 = (self.0.rotate_left(26) ^ id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::hash::BuildHasher;

    #[test]
    fn ids_that_are_counted_out_fill_a_table_evenly() {
        let hash = |id: (ConnectionId, SubscriptionId)| {
            BuildHasherDefault::<IdHasher>::default().hash_one(id)
        };
        let ids =
            (1..=64).flat_map(|c| (1..=64).map(move |s| (ConnectionId(c), SubscriptionId(s))));
        let hashes: Vec<u64> = ids.map(hash).collect();
        // A table of the standard library takes its slot from the low bits and tells the ids of
        // one slot apart by the highest seven: of 4096 random values, 2589 low parts differ.
        let low: HashSet<u64> = hashes.iter().map(|hash| hash & 4095).collect();
        let high: HashSet<u64> = hashes.iter().map(|hash| hash >> 57).collect();
        assert!(low.len() > 2400, "{} low parts of 4096", low.len());
        assert_eq!(high.len(), 128);
    }
}
