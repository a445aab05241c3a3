//! What can be made of a log that a start refuses: how far it is whole, and how to go on from
//! there.
//!
//! Owns the good prefix of a replay, the segments that cannot be opened, and stand-ins for them: a
//! segment with a good head and what it had where that head was good, else nothing. What is missing
//! of it reads as damaged, so that each message there is set apart when its turn comes. A recovery
//! may be told where the log ends; its seal then says so, and no byte that was written is changed
//! for it.
//! Leaves to others: what is lost, and whether that is wanted.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use crate::ids::Lsn;
use crate::io::Storage;
use crate::wal::claim::Claim;
use crate::wal::error::RecoveryError;
use crate::wal::format::{BLOCK_BYTES, Identity, PackId, Sealed, SegmentHeader};
use crate::wal::pack::Pack;
use crate::wal::peek::{Peek, Records};
use crate::wal::replay::{ReplayPoint, ToRead, Walk, WalkStart};
use crate::wal::segment::{Expected, Segment};
use crate::wal::start::{Past, Recovery};

/// A segment that is needed and cannot be opened.
#[derive(Debug)]
pub struct Faulty {
    /// Its number.
    pub ordinal: u64,
    /// Why not.
    pub error: RecoveryError,
    want: Expected,
}

impl Faulty {
    /// The name of its file.
    pub fn file(&self) -> String {
        self.want.name()
    }

    /// Makes a file for it in `target`: what `source` has of it, where its head is good, else one
    /// with nothing in it. `nonce` must never repeat.
    ///
    /// # Errors
    /// Those of the disks.
    pub fn stand_in(
        &self,
        source: &dyn Storage,
        target: &dyn Storage,
        nonce: u64,
    ) -> io::Result<()> {
        let Expected { store, epoch, ordinal, segment_size, bytes_min, .. } = self.want;
        let name = self.want.name();
        let to = target.create(&name)?;
        let whole_head = Segment::header_of(source, &name).is_ok_and(|header| {
            (header.store, header.epoch, header.ordinal) == (store, epoch, ordinal)
        });
        let size = if bytes_min == 0 { segment_size } else { bytes_min };
        to.set_size(size.max(BLOCK_BYTES as u64))?;
        if whole_head {
            let from = source.open(&name)?;
            let length = from.size()?.min(size);
            let mut at = 0;
            while at < length {
                let mut bytes = vec![0; (length - at).min(1 << 20) as usize];
                from.read_at(&mut bytes, at)?;
                to.write_at(&bytes, at)?;
                at += bytes.len() as u64;
            }
        } else {
            let header = SegmentHeader { store, epoch, ordinal, segment_size, nonce };
            to.write_at(&header.encode(), 0)?;
        }
        to.sync()
    }
}

impl Peek {
    /// The segments among `ordinals` that cannot be opened.
    pub fn faulty(&self, ordinals: impl Iterator<Item = u64>) -> Vec<Faulty> {
        let known: BTreeMap<u64, Expected> =
            self.past.segments.iter().map(|part| (part.file.ordinal, part.file)).collect();
        let want = |ordinal| known.get(&ordinal).copied().unwrap_or_else(|| self.unlisted(ordinal));
        let fault = |ordinal| {
            let want = want(ordinal);
            let error = Segment::open(&*self.storage, &want).err()?;
            Some(Faulty { ordinal, error, want })
        };
        ordinals.filter_map(fault).collect()
    }

    /// The packs among `ids` that cannot be opened, and why not.
    pub fn faulty_packs(&self, ids: impl Iterator<Item = PackId>) -> Vec<(PackId, RecoveryError)> {
        let open = |id: PackId| {
            let store = self.past.lineage.store_of(id.epoch);
            Pack::open(&*self.storage, store, id).err().map(|error| (id, error))
        };
        ids.filter_map(open).collect()
    }

    /// A segment that neither the seal nor the directory names: the last owner's, as far as
    /// anyone can tell.
    fn unlisted(&self, ordinal: u64) -> Expected {
        let Identity { segment_size, .. } = self.identity;
        let epoch = self.epoch();
        let written = Sealed { epoch, ordinal, copied_by: 0, end: None };
        Expected::sealed(self.past.lineage.store_of(epoch), segment_size, &written)
    }

    /// Begins to read the records after those that the index has, as far as no segment is missing;
    /// the second is what is missing then.
    pub fn records_there(&self, from: Option<ReplayPoint>) -> (Records, Option<RecoveryError>) {
        let segment_size = self.identity.segment_size;
        let missing = self.records(from).err();
        let parts = self.past.prefix(from, segment_size);
        let seal = self.past.seal.as_ref().map(|(seal, sum)| (seal.first_ordinal, *sum));
        let storage = Arc::clone(&self.storage);
        let walk = Walk::new(WalkStart { storage, segment_size, from, parts, seal });
        (Records { walk }, missing)
    }
}

impl Past {
    /// The segments to replay, in order, up to the first that is missing.
    fn prefix(&self, from: Option<ReplayPoint>, segment_size: u64) -> VecDeque<ToRead> {
        let replay_from = from.map_or(0, |from| from.batch.0 / segment_size);
        let first_own = self.seal.as_ref().map_or(0, |(seal, _)| seal.first_ordinal);
        let mut next_own = first_own.max(replay_from);
        let mut parts = VecDeque::new();
        for part in self.segments.iter().filter(|part| part.file.ordinal >= replay_from) {
            let ordinal = part.file.ordinal;
            let first = parts.is_empty() && from.is_some();
            let missing = match part.own {
                true => ordinal != next_own,
                false => part.sealed.is_none() || (first && ordinal != replay_from),
            };
            if missing {
                break;
            }
            next_own += u64::from(part.own);
            parts.push_back(*part);
        }
        parts
    }
}

impl Claim {
    /// As [`Claim::recover`], where the log is known to end at `end`: at the beginning of a batch,
    /// whatever is there. `None`: nothing of the log counts but the payloads that the index has.
    pub fn recover_until(
        self,
        from: Option<ReplayPoint>,
        end: Option<Lsn>,
    ) -> Result<Recovery, RecoveryError> {
        let segment_size = self.options.segment_size;
        let identity = Identity { store: self.store, segment_size };
        let past = Past::read(&*self.storage, identity, self.epoch, &self.names)?;
        let mut parts = match end {
            Some(_) => past.prefix(from, segment_size),
            None => VecDeque::new(),
        };
        parts.retain(|part| end.is_some_and(|end| part.file.ordinal * segment_size < end.0));
        let replay_from = match end {
            Some(_) => from.map_or(0, |from| from.batch.0 / segment_size),
            None => u64::MAX,
        };
        let seal = past.seal.as_ref().map(|(seal, sum)| (seal.first_ordinal, *sum));
        let storage = Arc::clone(&self.storage);
        let mut walk = Walk::new(WalkStart { storage, segment_size, from, parts, seal });
        if let Some(end) = end {
            walk.stop_at(end);
        }
        Ok(Recovery { claim: self, past, replay_from, walk })
    }
}
