//! From a claim to a log in use: what of the past counts, then a seal, then a segment of our own.
//!
//! Owns the order of steps of a start, which is what makes a crash between any two harmless:
//!
//! 1. Read the newest seal, and from it which files are the past.
//! 2. Replay: the owner takes every record.
//! 3. Check that all that is needed is there.
//! 4. Copy the segments whose last batches nothing proves durable: a dead process may have left
//!    them in a cache alone, after a sync that failed.
//! 5. Publish our seal. From here on the past is fixed.
//! 6. Look for a later claim: who has lost the store removes nothing.
//! 7. Remove what is dead, stale or half made.
//! 8. Make the first segment.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;

use crate::io::Storage;
use crate::wal::claim::{self, Claim, publish, read_whole, remove};
use crate::wal::error::RecoveryError;
use crate::wal::fence::Fence;
use crate::wal::format::{
    BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHead, BatchHeader, End, HeadFault, Identity,
    SEAL_BYTES_MAX, Seal, Sealed, SegmentHeader, VERSION,
};
use crate::wal::lineage::Lineage;
use crate::wal::log::Log;
use crate::wal::names::{self, Name};
use crate::wal::reader::{Catalog, Reader};
use crate::wal::replay::{
    Progress, Recovered, ReplayPoint, TailVerdict, ToRead, Unproven, Walk, WalkStart, WasRead,
};
use crate::wal::room::{Making, Room, segment_nonce};
use crate::wal::segment::{Expected, Segment};
use crate::wal::sync::AtomicU64;

/// A log ready for use, with its parts.
#[derive(Debug)]
pub struct Opened {
    /// What the engine and the log thread share.
    pub log: Arc<Log>,
    /// The maker of segments.
    pub room: Room,
    /// Reads frames by their Lsn.
    pub reader: Reader,
    /// How the log of the last owner ended.
    pub tail: TailVerdict,
    /// Tells whether the store is still ours.
    pub fence: Fence,
    /// The ordinals of the earlier segments that go on counting, oldest first.
    pub past: Vec<u64>,
    /// The ordinal of the first segment of this epoch.
    pub first_ordinal: u64,
}

/// What the directory says about the past.
#[derive(Debug)]
pub(crate) struct Past {
    /// Which id each epoch wrote under.
    pub(crate) lineage: Lineage,
    /// The newest seal, with its checksum.
    pub(crate) seal: Option<(Seal, u32)>,
    /// The segments that count: those the seal lists, then those of the seal's owner.
    pub(crate) segments: Vec<ToRead>,
}

/// The past being read. [`Recovery::next`] until it gives `None`, then [`Recovery::finish`].
#[derive(Debug)]
pub struct Recovery {
    pub(crate) claim: Claim,
    pub(crate) past: Past,
    pub(crate) replay_from: u64,
    pub(crate) walk: Walk,
}

impl Claim {
    /// Begins to read the past: all of it, or what follows the records that the index has.
    pub fn recover(self, from: Option<ReplayPoint>) -> Result<Recovery, RecoveryError> {
        let segment_size = self.options.segment_size;
        let identity = Identity { store: self.store, segment_size };
        let past = Past::read(&*self.storage, identity, self.epoch, &self.names)?;
        let replay_from = from.map_or(0, |from| from.batch.0 / segment_size);
        let parts = past.to_read(replay_from, from)?;
        let seal = past.seal.as_ref().map(|(seal, sum)| (seal.first_ordinal, *sum));
        let storage = Arc::clone(&self.storage);
        let walk = Walk::new(WalkStart { storage, segment_size, from, parts, seal });
        Ok(Recovery { claim: self, past, replay_from, walk })
    }
}

impl Past {
    pub(crate) fn read(
        storage: &dyn Storage,
        identity: Identity,
        epoch: u64,
        names: &[Name],
    ) -> Result<Past, RecoveryError> {
        let Identity { store, segment_size } = identity;
        let seals = names.iter().filter_map(|name| match name {
            Name::Seal { epoch } => Some(*epoch),
            _ => None,
        });
        let newest = seals.max();
        if newest.is_some_and(|newest| newest >= epoch) {
            return Err(RecoveryError::Superseded { epoch });
        }
        // Whoever wrote a segment had sealed before it.
        for name in names {
            if let Name::Segment { epoch: wrote, .. } = name
                && Some(*wrote) > newest
                && *wrote < epoch
            {
                return Err(RecoveryError::MissingSeal { file: names::seal(*wrote) });
            }
        }
        let lineage = Lineage::read(storage, store, names)?;
        let Some(newest) = newest else {
            return Ok(Past { lineage, seal: None, segments: Vec::new() });
        };
        let (seal, sum) = seal_read(storage, lineage.store_of(newest), newest)?;
        let mut segments: Vec<ToRead> = Vec::with_capacity(seal.segments.len());
        for sealed in &seal.segments {
            let wrote = lineage.store_of(sealed.epoch);
            let file = Expected::sealed(wrote, segment_size, sealed);
            segments.push(ToRead { file, sealed: sealed.end, own: false });
        }
        let own: BTreeSet<u64> = names
            .iter()
            .filter_map(|name| match name {
                Name::Segment { epoch, ordinal } if *epoch == newest => Some(*ordinal),
                _ => None,
            })
            .collect();
        for ordinal in own {
            let written = Sealed { epoch: newest, ordinal, copied_by: 0, end: None };
            let file = Expected::sealed(lineage.store_of(newest), segment_size, &written);
            segments.push(ToRead { file, sealed: None, own: true });
        }
        Ok(Past { lineage, seal: Some((seal, sum)), segments })
    }

    /// The segments to replay, in order, without a hole.
    pub(crate) fn to_read(
        &self,
        replay_from: u64,
        from: Option<ReplayPoint>,
    ) -> Result<VecDeque<ToRead>, RecoveryError> {
        let parts: VecDeque<ToRead> =
            self.segments.iter().filter(|part| part.file.ordinal >= replay_from).copied().collect();
        let missing = |epoch, ordinal| RecoveryError::MissingSegment {
            file: names::segment(epoch, ordinal),
            ordinal,
        };
        let owner = self.seal.as_ref().map(|(seal, _)| (seal.epoch, seal.first_ordinal));
        if let Some(from) = from {
            let ahead = RecoveryError::IndexAhead { through: from.through };
            let (epoch, first_own) = owner.ok_or(ahead)?;
            match parts.front() {
                Some(part) if part.file.ordinal == replay_from => {}
                Some(part) if part.file.ordinal < first_own => {
                    return Err(missing(part.file.epoch, replay_from));
                }
                _ => return Err(missing(epoch, replay_from)),
            }
        }
        if let Some(part) = parts.iter().find(|part| !part.own && part.sealed.is_none()) {
            // Replay has been beyond it before, so the index has gone back.
            return Err(missing(part.file.epoch, part.file.ordinal));
        }
        let first_own = owner.map_or(0, |(_, first)| first).max(replay_from);
        for (expected, part) in (first_own..).zip(parts.iter().filter(|part| part.own)) {
            if part.file.ordinal != expected {
                return Err(missing(part.file.epoch, expected));
            }
        }
        Ok(parts)
    }
}

pub(crate) fn seal_read(
    storage: &dyn Storage,
    store: u128,
    epoch: u64,
) -> Result<(Seal, u32), RecoveryError> {
    let name = names::seal(epoch);
    let io = |source| RecoveryError::io(&name, source);
    let file = storage.open(&name).map_err(io)?;
    let bytes = read_whole(&*file, SEAL_BYTES_MAX).map_err(io)?;
    let (seal, sum) = match Seal::decode(bytes.as_deref().unwrap_or_default()) {
        Ok(read) => read,
        Err(HeadFault::Version(found)) => {
            return Err(RecoveryError::UnknownVersion { file: name, found, newest: VERSION });
        }
        Err(HeadFault::Magic | HeadFault::Checksum) => {
            return Err(RecoveryError::BadHead { file: name });
        }
    };
    if seal.store != store {
        let (found, expected) = (seal.store, store);
        return Err(RecoveryError::ForeignStore { file: name, found, expected });
    }
    if seal.epoch != epoch {
        return Err(RecoveryError::BadHead { file: name });
    }
    Ok((seal, sum))
}

impl Recovery {
    /// The next record after the replay point, in the order of the log.
    #[expect(clippy::should_implement_trait, reason = "it fails, and then it is over")]
    pub fn next(&mut self) -> Result<Option<Recovered>, RecoveryError> {
        self.walk.next()
    }

    /// The last epoch of the store that this one was restored from, if it was.
    pub fn restored_at(&self) -> Option<u64> {
        self.past.lineage.restored_at()
    }

    /// How far the replay has come.
    pub fn progress(&self) -> Progress {
        self.walk.progress()
    }

    /// Seals the past and opens a log of our own. `live` says how many bytes each earlier segment
    /// still holds that someone needs; what holds none, and lies before the replay, is removed.
    ///
    /// # Panics
    ///
    /// Before [`Recovery::next`] has given `None`.
    pub fn finish(self, live: &BTreeMap<u64, u64>) -> Result<Opened, RecoveryError> {
        let tail = self.walk.tail().expect("a recovery is finished after its last record").clone();
        let kept = self.kept(live)?;
        let kept = self.copy_unproven(kept)?;
        let Claim { storage, options, store, epoch, nonce, names } = self.claim;
        let storage_ref = &*storage;
        let first_ordinal = first_ordinal(&names, &self.past);
        let seal = Seal { store, epoch, first_ordinal, segments: kept };
        let (bytes, sum) = seal.encode();
        let name = names::seal(epoch);
        publish(storage_ref, &name, &bytes, nonce).map_err(|e| match e.kind() {
            // Only the holder of a later claim sweeps temporary files away.
            io::ErrorKind::NotFound => RecoveryError::Superseded { epoch },
            _ => RecoveryError::io(&name, e),
        })?;
        let lost = claim::is_superseded(storage_ref, epoch);
        if lost.map_err(|e| RecoveryError::io(&names::claim(epoch + 1), e))? {
            return Err(RecoveryError::Superseded { epoch });
        }
        sweep(storage_ref, &seal, &names, self.past.seal.as_ref().map(|(seal, _)| seal.epoch))?;
        let segment_size = options.segment_size;
        let header = SegmentHeader {
            store,
            epoch,
            ordinal: first_ordinal,
            segment_size,
            nonce: segment_nonce(nonce, epoch, first_ordinal),
        };
        let segment = Arc::new(make_first(storage_ref, header, nonce)?);

        let durable = Arc::new(AtomicU64::new(0));
        let past = seal.segments.iter().map(|sealed| sealed.ordinal).collect();
        let catalog = Catalog::new(Arc::clone(&storage), segment_size, Arc::clone(&durable));
        for sealed in &seal.segments {
            let wrote = self.past.lineage.store_of(sealed.epoch);
            catalog.insert(Expected::sealed(wrote, segment_size, sealed));
        }
        catalog.insert_open(&segment);
        let catalog = Arc::new(catalog);
        let log = Arc::new(Log::new(options, segment, sum, durable));
        let fence = Fence { storage: Arc::clone(&storage), epoch };
        let reader = Reader::new(Arc::clone(&catalog));
        let room = Room {
            storage,
            log: Arc::clone(&log),
            catalog,
            store,
            nonce,
            making: None,
            dying: Vec::new(),
            spares: Vec::new(),
        };
        Ok(Opened { log, room, reader, tail, fence, past, first_ordinal })
    }

    /// The segments that go on counting, each with its end where that is known; an error where
    /// one that is needed is not there.
    fn kept(&self, live: &BTreeMap<u64, u64>) -> Result<Vec<Sealed>, RecoveryError> {
        let mut kept = BTreeMap::new();
        let before = |part: &&ToRead| part.file.ordinal < self.replay_from;
        for part in self.past.segments.iter().filter(before) {
            let Expected { epoch, ordinal, copied_by, .. } = part.file;
            if live.get(&ordinal).is_some_and(|bytes| *bytes > 0) {
                let segment = self.open(part)?;
                let end = match part.sealed {
                    Some(end) => Some(end),
                    None => self.end_by_successor(&segment)?,
                };
                kept.insert(ordinal, Sealed { epoch, ordinal, copied_by, end });
            }
        }
        for WasRead { file, end } in self.walk.segments_read() {
            let Expected { epoch, ordinal, copied_by, .. } = *file;
            kept.insert(ordinal, Sealed { epoch, ordinal, copied_by, end: Some(*end) });
        }
        let needed = live.iter().filter(|(_, bytes)| **bytes > 0);
        for (ordinal, _) in needed {
            if !kept.contains_key(ordinal) {
                let file = format!("wal-*-{ordinal:016x}");
                return Err(RecoveryError::MissingSegment { file, ordinal: *ordinal });
            }
        }
        Ok(kept.into_values().collect())
    }

    /// The end of a segment that was not replayed, as the first batch of the next one tells it.
    fn end_by_successor(&self, segment: &Segment) -> Result<Option<End>, RecoveryError> {
        let (epoch, ordinal) = (segment.header.epoch, segment.header.ordinal + 1);
        let mut parts = self.past.segments.iter();
        let is_next = |part: &&ToRead| part.file.epoch == epoch && part.file.ordinal == ordinal;
        let Some(next) = parts.find(is_next) else { return Ok(None) };
        let next = self.open(next)?;
        let mut head = [0; BATCH_HEADER_BYTES];
        let offset = BLOCK_BYTES as u64;
        let io = |source| RecoveryError::io(&next.name, source);
        next.file.read_at(&mut head, offset).map_err(io)?;
        let first = segment.header.first_lsn().0;
        Ok(match BatchHeader::decode(next.seed, &head, next.lsn(offset)) {
            BatchHead::Good(header, _) => {
                let length = header.previous_end.0.checked_sub(first);
                let length = length.filter(|length| *length <= segment.header.segment_size);
                length.map(|length| End { length, chain: header.previous })
            }
            BatchHead::Broken | BatchHead::Blank => None,
        })
    }

    fn open(&self, part: &ToRead) -> Result<Segment, RecoveryError> {
        Segment::open(&*self.claim.storage, &part.file)
    }

    /// Copies each segment that has unproven batches, up to its end, and lists the copy instead.
    /// Nothing is written into the original: its owner may only sleep.
    fn copy_unproven(&self, mut kept: Vec<Sealed>) -> Result<Vec<Sealed>, RecoveryError> {
        let storage = &*self.claim.storage;
        let unproven: BTreeSet<u64> = self.walk.unproven().iter().map(|b| b.ordinal).collect();
        let by = self.claim.epoch;
        for sealed in kept.iter_mut().filter(|sealed| unproven.contains(&sealed.ordinal)) {
            let segment_size = self.claim.options.segment_size;
            let store = self.past.lineage.store_of(sealed.epoch);
            let segment = Segment::open(storage, &Expected::sealed(store, segment_size, sealed))?;
            let name = names::copy(by, sealed.ordinal);
            let temporary = names::temporary(&name, self.claim.nonce);
            let batches = self.walk.unproven().iter().filter(|b| b.ordinal == sealed.ordinal);
            copy(storage, &segment, batches, &temporary)
                .and_then(|()| storage.rename(&temporary, &name))
                .map_err(|e| {
                    // Best effort: a leftover is swept by the next owner.
                    let _ = remove(storage, &temporary);
                    RecoveryError::io(&name, e)
                })?;
            sealed.copied_by = by;
        }
        if !unproven.is_empty() {
            storage.sync_dir().map_err(|e| RecoveryError::io(".", e))?;
        }
        Ok(kept)
    }
}

/// Writes what is proven from the file, and what is not as it was read when it was judged: the
/// cache that showed it may have forgotten it since.
fn copy<'a>(
    storage: &dyn Storage,
    segment: &Segment,
    batches: impl Iterator<Item = &'a Unproven>,
    temporary: &str,
) -> io::Result<()> {
    const PIECE_BYTES: usize = 1 << 20;
    let file = storage.create(temporary)?;
    let mut batches = batches.peekable();
    let proven = batches.peek().expect("it has unproven batches").offset;
    let mut piece = vec![0; PIECE_BYTES];
    let mut at = 0;
    while at < proven {
        let length = (proven - at).min(PIECE_BYTES as u64) as usize;
        segment.file.read_at(&mut piece[..length], at)?;
        file.write_at(&piece[..length], at)?;
        at += length as u64;
    }
    for batch in batches {
        file.write_at(&batch.bytes, batch.offset)?;
    }
    file.sync()
}

/// Greater than every number that any owner may have given away, whether it counts or not: an Lsn
/// is never used twice.
fn first_ordinal(names: &[Name], past: &Past) -> u64 {
    let listed = names.iter().filter_map(|name| match name {
        Name::Segment { ordinal, .. }
        | Name::Copy { ordinal, .. }
        | Name::Spare { ordinal, .. } => Some(*ordinal),
        _ => None,
    });
    let sealed = past.seal.as_ref().map_or(0, |(seal, _)| seal.first_ordinal);
    listed.max().unwrap_or(0).max(sealed) + 1
}

/// Removes what no owner will ever want again.
fn sweep(
    storage: &dyn Storage,
    seal: &Seal,
    names: &[Name],
    previous_seal: Option<u64>,
) -> Result<(), RecoveryError> {
    let kept: BTreeSet<(u64, u64, u64)> =
        seal.segments.iter().map(|kept| (kept.epoch, kept.ordinal, kept.copied_by)).collect();
    let copies: BTreeSet<(u64, u64)> =
        seal.segments.iter().map(|kept| (kept.copied_by, kept.ordinal)).collect();
    for name in names {
        let file = match name {
            // Those of a later epoch are not ours to judge.
            Name::Segment { epoch, ordinal }
                if *epoch < seal.epoch && !kept.contains(&(*epoch, *ordinal, 0)) =>
            {
                names::segment(*epoch, *ordinal)
            }
            Name::Copy { by, ordinal }
                if *by < seal.epoch && !copies.contains(&(*by, *ordinal)) =>
            {
                names::copy(*by, *ordinal)
            }
            Name::Spare { epoch, ordinal } if *epoch < seal.epoch => names::spare(*epoch, *ordinal),
            Name::Seal { epoch } if Some(*epoch) < previous_seal => names::seal(*epoch),
            _ => continue,
        };
        remove(storage, &file).map_err(|e| RecoveryError::io(&file, e))?;
    }
    Ok(())
}

fn make_first(
    storage: &dyn Storage,
    header: SegmentHeader,
    nonce: u128,
) -> Result<Segment, RecoveryError> {
    let name = names::segment(header.epoch, header.ordinal);
    let io = |e: io::Error| RecoveryError::io(&name, e);
    let mut making = Making::begin(storage, header, nonce).map_err(io)?;
    let temporary = making.temporary().to_owned();
    let made = loop {
        match making.fill() {
            Ok(false) => {}
            Ok(true) => break making.finish(storage),
            Err(e) => break Err(e),
        }
    };
    made.map_err(|e| {
        // Best effort: a leftover is swept by the next owner.
        let _ = remove(storage, &temporary);
        io(e)
    })
}
