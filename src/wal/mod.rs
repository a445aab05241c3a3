//! The write-ahead log: bytes that are durable before anyone is told of them.
//!
//! Owns the files `store`, `claim-*`, `origin-*`, `seal-*`, `wal-*`, `copy-*`, `spare-*` and
//! `pack-*` of a store's directory, all described to the byte in `wal-format.md`. Knows no message:
//! a frame is a kind, a record and a payload, and what they mean is the owner's business.
//!
//! The life of a log:
//!
//! 1. `claim` makes this process the owner, as one epoch.
//! 2. [`Claim::recover`] reads the past; [`Recovery::next`] gives its records in order.
//! 3. [`Recovery::finish`] seals the past and begins a segment of its own.
//! 4. [`Log::append`] gathers; the log thread takes a [`Group`], writes it, syncs it, completes it.
//! 5. [`Room`] makes segments ahead and takes dead ones back; [`Reader`] reads frames by their Lsn.
//! 6. [`Packer`] copies the few live frames of old segments together, so that these can go.
//!
//! Always: a file of an earlier epoch is never written, only removed; a block is never written
//! twice in one life of a file; the first failed write or sync is the last thing the log does.

pub mod format;
pub mod names;

mod claim;
mod damage;
mod error;
mod fence;
mod gather;
mod hold;
mod lineage;
mod log;
mod mend;
mod pack;
mod packing;
mod peek;
mod reader;
mod recovery;
mod replay;
mod room;
mod segment;
mod start;
mod survey;
mod sync;

pub mod fuzz;

#[cfg(test)]
mod tests;

pub use claim::{Claim, ClaimError, claim, identity_read, is_superseded};
pub use damage::{Corruption, Damage, Part};
pub use error::RecoveryError;
pub use fence::Fence;
pub use format::PackId;
pub use hold::{Hold, SegmentFile};
pub use log::{Admission, Appended, Class, Failure, Group, Log, Wake};
pub use mend::Faulty;
pub use names::origin as origin_name;
pub use packing::{Candidate, Found, Made, Packer, Packing};
pub use peek::{Known, Peek, PeekError, Records, small_files};
pub use reader::{Frame, Pin, ReadAhead, ReadError, Reader};
pub use recovery::{Head, Signs, Verdict};
pub use replay::{Progress, Recovered, ReplayPoint, TailVerdict};
pub use room::{Room, RoomStep};
pub use start::{Opened, PastPack, PastSegment, Recovery};
pub use survey::{Finding, Item, Needed, SurveyError, survey};

use format::{BATCH_HEADER_BYTES, BLOCK_BYTES};

/// What can be chosen about a log. The defaults fit most stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of a segment; counts only when the store is made. A multiple of 4 KiB.
    pub segment_size: u64,
    /// Bytes of one batch at most, so also of one frame. A larger one is read and checked as one.
    pub batch_bytes_max: usize,
    /// Bytes that may wait for the log thread, so also the largest single write.
    pub gather_bytes_max: usize,
    /// Segments kept ready ahead of the one in use.
    pub ready_segments: usize,
    /// Dead segments kept to become new ones.
    pub spare_segments_max: usize,
    /// Bytes of ready segments that only [`Class::Clear`] may use: what frees room must not
    /// itself be refused for lack of room.
    pub reserve_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        const MIB: usize = 1 << 20;
        Self {
            segment_size: 64 * MIB as u64,
            batch_bytes_max: MIB,
            gather_bytes_max: 4 * MIB,
            ready_segments: 2,
            spare_segments_max: 4,
            reserve_bytes: 64 * MIB as u64,
        }
    }
}

impl Options {
    /// The defaults with small segments, and everything else in proportion.
    pub fn small(segment_size: u64) -> Self {
        Self { segment_size, reserve_bytes: segment_size, ..Self::default() }
    }

    /// Bytes a batch may really have: what is asked for, in whole blocks, within a segment.
    pub(crate) fn batch_bytes(&self) -> usize {
        let segment = self.segment_size as usize - BLOCK_BYTES;
        let asked = self.batch_bytes_max / BLOCK_BYTES * BLOCK_BYTES;
        asked.clamp(BLOCK_BYTES, segment)
    }

    /// Bytes one frame may have, its header and padding included.
    pub(crate) fn frame_bytes(&self) -> usize {
        self.batch_bytes() - BATCH_HEADER_BYTES
    }
}
