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
use crate::mutant::{self, Mutant};
use crate::wal::claim::{self, Claim, publish, read_whole, remove};
use crate::wal::error::RecoveryError;
use crate::wal::fence::Fence;
use crate::wal::format::{
    BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHead, BatchHeader, End, HeadFault, Identity, PackId,
    SEAL_BYTES_MAX, Seal, Sealed, SegmentHeader, VERSION,
};
use crate::wal::lineage::Lineage;
use crate::wal::log::Log;
use crate::wal::names::{self, Name};
use crate::wal::pack::Pack;
use crate::wal::packing::Packer;
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
    /// The earlier segments that go on counting and lie in files of their own, oldest first.
    pub past: Vec<PastSegment>,
    /// The packs that go on counting, each with the segments it stands for.
    pub packs: Vec<PastPack>,
    /// Makes packs.
    pub packer: Packer,
    /// The ordinal of the first segment of this epoch.
    pub first_ordinal: u64,
}

/// A segment of an earlier owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastSegment {
    /// Its number.
    pub ordinal: u64,
    /// Bytes of its file.
    pub bytes: u64,
}

/// A pack of an earlier owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastPack {
    /// Its name.
    pub id: PackId,
    /// Bytes of its file.
    pub bytes: u64,
    /// The segments whose live frames are read from it.
    pub ordinals: Vec<u64>,
}

/// What the directory says about the past.
#[derive(Debug)]
pub(crate) struct Past {
    /// Which id each epoch wrote under.
    pub(crate) lineage: Lineage,
    /// The newest seal, with its checksum.
    pub(crate) seal: Option<(Seal, u32)>,
    /// The segments that count, ascending: those the seal lists, then those of the seal's owner.
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

    /// A segment that counts.
    fn segment(&self, ordinal: u64) -> Option<&ToRead> {
        let at = self.segments.binary_search_by_key(&ordinal, |part| part.file.ordinal);
        at.ok().map(|at| &self.segments[at])
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
    /// `packed` says in which pack the live frames of a segment lie, where they lie in one.
    ///
    /// # Panics
    ///
    /// Before [`Recovery::next`] has given `None`.
    pub fn finish(
        self,
        live: &BTreeMap<u64, u64>,
        packed: &BTreeMap<u64, PackId>,
    ) -> Result<Opened, RecoveryError> {
        let tail = self.walk.tail().expect("a recovery is finished after its last record").clone();
        let packs = self.packs(live, packed)?;
        let packed = packs.iter().flat_map(|pack| pack.ordinals.iter().copied()).collect();
        let kept = self.kept(live, &packed)?;
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
        let previous_seal = self.past.seal.as_ref().map(|(seal, _)| seal.epoch);
        sweep(storage_ref, &seal, &packs, &names, previous_seal)?;
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
        let lineage = self.past.lineage;
        let (own, shared) = (Arc::clone(&storage), Arc::clone(&durable));
        let catalog = Arc::new(Catalog::new(own, lineage, segment_size, shared));
        let past = enter_past(&catalog, segment_size, &seal, &packs);
        catalog.insert_open(&segment);
        let log = Arc::new(Log::new(options, segment, sum, durable));
        let fence = Fence { storage: Arc::clone(&storage), epoch };
        let reader = Reader::new(Arc::clone(&catalog));
        let packer = Packer {
            storage: Arc::clone(&storage),
            catalog: Arc::clone(&catalog),
            store,
            epoch,
            nonce,
            segment_size,
            last: 0,
        };
        let room = Room {
            storage,
            log: Arc::clone(&log),
            catalog,
            store,
            nonce,
            making: None,
            dying: Vec::new(),
            spares: Vec::new(),
            leftovers: Vec::new(),
        };
        Ok(Opened { log, room, reader, tail, fence, past, packs, packer, first_ordinal })
    }

    /// The packs in which somebody still needs something, each there and whole in length.
    ///
    /// A pack may be missing while every segment that it stands for is still there: an owner that
    /// had lost the store finished the commit in which it slept, after the next one had swept a
    /// pack that nobody knew of. The segments count then, as they did for that owner.
    fn packs(
        &self,
        live: &BTreeMap<u64, u64>,
        packed: &BTreeMap<u64, PackId>,
    ) -> Result<Vec<PastPack>, RecoveryError> {
        let mut needed: BTreeMap<PackId, Vec<u64>> = BTreeMap::new();
        for (ordinal, id) in packed {
            if live.get(ordinal).is_some_and(|bytes| *bytes > 0) {
                needed.entry(*id).or_default().push(*ordinal);
            }
        }
        let mut packs = Vec::with_capacity(needed.len());
        for (id, ordinals) in needed {
            match Pack::bytes_of(&*self.claim.storage, self.past.lineage.store_of(id.epoch), id) {
                Ok(bytes) => packs.push(PastPack { id, bytes, ordinals }),
                Err(RecoveryError::MissingPack { .. }) if self.are_there(&ordinals) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(packs)
    }

    /// Whether all of these segments lie in files of their own.
    fn are_there(&self, ordinals: &[u64]) -> bool {
        ordinals
            .iter()
            .all(|ordinal| self.past.segment(*ordinal).is_some_and(|part| self.open(part).is_ok()))
    }

    /// The segments that go on counting, each with its end where that is known; an error where
    /// one that is needed is not there.
    fn kept(
        &self,
        live: &BTreeMap<u64, u64>,
        packed: &BTreeSet<u64>,
    ) -> Result<Vec<Sealed>, RecoveryError> {
        let mut kept = BTreeMap::new();
        // A segment whose live frames were packed may still lie there: its owner died between.
        let before = |part: &&ToRead| {
            part.file.ordinal < self.replay_from && !packed.contains(&part.file.ordinal)
        };
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
            if !kept.contains_key(ordinal) && !packed.contains(ordinal) {
                let file = format!("wal-*-{ordinal:016x}");
                return Err(RecoveryError::MissingSegment { file, ordinal: *ordinal });
            }
        }
        Ok(kept.into_values().collect())
    }

    /// The end of a segment that was not replayed, as the first batch of the next one tells it.
    fn end_by_successor(&self, segment: &Segment) -> Result<Option<End>, RecoveryError> {
        let (epoch, ordinal) = (segment.header.epoch, segment.header.ordinal + 1);
        let next = self.past.segment(ordinal).filter(|next| next.file.epoch == epoch);
        let Some(next) = next else { return Ok(None) };
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
    let mut piece = vec![0; proven.min(PIECE_BYTES as u64) as usize];
    let mut at = 0;
    while at < proven {
        let length = (proven - at).min(piece.len() as u64) as usize;
        segment.file.read_at(&mut piece[..length], at)?;
        file.write_at(&piece[..length], at)?;
        at += length as u64;
    }
    for batch in batches {
        file.write_at(&batch.bytes, batch.offset)?;
    }
    if mutant::is(Mutant::ListUnsyncedCopy) { Ok(()) } else { file.sync() }
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

/// Lets readers find what of the past counts; gives the segments among it.
fn enter_past(
    catalog: &Catalog,
    segment_size: u64,
    seal: &Seal,
    packs: &[PastPack],
) -> Vec<PastSegment> {
    for pack in packs {
        catalog.insert_pack(pack.id, &pack.ordinals);
    }
    let enter = |sealed: &Sealed| {
        let wrote = catalog.lineage().store_of(sealed.epoch);
        let file = Expected::sealed(wrote, segment_size, sealed);
        catalog.insert(file);
        PastSegment { ordinal: file.ordinal, bytes: file.bytes_min }
    };
    seal.segments.iter().map(enter).collect()
}

/// Removes what no owner will ever want again.
fn sweep(
    storage: &dyn Storage,
    seal: &Seal,
    packs: &[PastPack],
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
            Name::Pack(id) if id.epoch < seal.epoch && !packs.iter().any(|pack| pack.id == *id) => {
                names::pack(*id)
            }
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
