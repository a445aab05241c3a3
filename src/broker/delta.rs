//! What the log's records have changed since a checkpoint: the part of the durable state that is
//! not yet in the index.
//!
//! `apply` writes here and nowhere else. A checkpoint takes a delta whole and merges it into the
//! index; the durable state is always index, then deltas in order, the later one winning.

use std::collections::BTreeMap;

use crate::ids::{Lsn, Millis, QueueId};

/// The place of a message in a queue: higher priority first, then the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// 9 minus the priority, so that places sort in the order of delivery.
    pub rank: u8,
    /// Grows by one with each durable message of the queue, from 1.
    pub seq: u64,
}

/// A durable message that waits in a queue or is lent from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The position of its birth in the log: names it, and finds its payload.
    pub birth: Lsn,
    /// Bytes it keeps alive in the log, frame header and record included.
    pub size: u32,
    /// When the broker took it.
    pub at: Millis,
    /// When it is no longer wanted.
    pub expires: Option<Millis>,
    /// How often it came back from a consumer.
    pub returns: u32,
}

/// A queue's own facts.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct QueueRow {
    /// Its name.
    pub name: Box<str>,
    /// The last sequence number given; 0 before the first.
    pub last_seq: u64,
    /// Durable messages in it.
    pub depth: u64,
    /// Per rank: everything up to this sequence number may have been lent to a consumer.
    pub lent_through: [u64; 10],
    /// Per rank: what of `lent_through` belongs to an earlier life, so is flagged redelivered.
    pub redelivered_through: [u64; 10],
    /// Some durable message in it may expire. Certain where false: then nobody need look.
    pub expiring: bool,
}

/// Changes to the durable state.
#[derive(Clone, Debug, Default)]
pub struct Delta {
    /// The entry as it is now, or `None` where it is gone.
    pub entries: BTreeMap<(QueueId, Place), Option<Entry>>,
    /// The queue as it is now, or `None` where it is gone.
    pub queues: BTreeMap<QueueId, Option<QueueRow>>,
    /// Change of the live bytes of each segment, by its ordinal.
    pub live: BTreeMap<u64, i64>,
    /// Scalars as they are now.
    pub scalars: Scalars,
}

/// Single facts of the durable state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Scalars {
    /// The last queue id given; 0 before the first.
    pub last_queue: u64,
    /// The newest time written in any record, in milliseconds: time in records never goes back.
    pub last_at: u64,
    /// The epoch of the last `Started` record.
    pub epoch: u64,
}
