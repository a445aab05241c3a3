//! Reading a store without owning it: for `store verify` and `store dump`.
//!
//! Owns a walk over the small files and over every segment that counts, payloads included, that
//! goes on after whatever it finds. Takes no claim and writes nothing, so it says what is wrong
//! and never what to make of it. Where the newest seal cannot be read, so that nobody knows what
//! counts, it shows every segment there is.

mod packs;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use crate::ids::Lsn;
use crate::io::Storage;
use crate::wal::claim::{ClaimError, identity_read, read_whole};
use crate::wal::damage::{Corruption, Damage, Part};
use crate::wal::error::RecoveryError;
use crate::wal::format::{
    self, BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHead, BatchHeader, CLAIM_BYTES, End,
    FRAME_HEADER_BYTES, HeadFault, Identity, PackHeader, PackId, SegmentHeader, VERSION,
};
use crate::wal::gather::Chain;
use crate::wal::lineage::Lineage;
use crate::wal::names::{self, Name};
use crate::wal::replay::{Progress, ReplayPoint, ToRead, highest_mark};
use crate::wal::segment::{Expected, Segment};
use crate::wal::start::{Past, seal_read};

/// Why there was nothing to survey.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// The directory is no store.
    #[error("the directory has no file `store`: it is not a store")]
    NotAStore,
    /// The store's identity could not be read.
    #[error(transparent)]
    Identity(#[from] ClaimError),
    /// The directory could not be listed.
    #[error("the directory cannot be listed: {0}")]
    List(io::Error),
}

/// Something that is not as it was written.
#[derive(Debug, thiserror::Error)]
pub enum Finding {
    /// One frame; where only its payload is bad, one message.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// A place where something was durable once: a start that replays it is refused.
    #[error("{file} is corrupt at offset {offset}: {reason}")]
    Corrupt {
        /// The file.
        file: String,
        /// The first byte of the batch.
        offset: u64,
        /// What is wrong there.
        reason: Corruption,
    },
    /// One of the two copies of a segment's header: the other is read, and nothing is lost.
    #[error("{file} at offset {offset}: a damaged copy of the header; the other one is good")]
    HeaderCopy {
        /// The file.
        file: String,
        /// The copy's first byte.
        offset: u64,
    },
    /// A whole file.
    #[error(transparent)]
    Unusable(RecoveryError),
    /// The claim of an owner that sealed the past is gone.
    #[error("{file} is missing: its owner could be taken for one that never was")]
    MissingClaim {
        /// Its name.
        file: String,
    },
}

/// What the index still wants of the log; without it nobody knows which segments may be gone.
#[derive(Clone, Debug, Default)]
pub struct Needed {
    /// Where replay begins.
    pub replay: Option<ReplayPoint>,
    /// Live bytes per segment, by ordinal.
    pub live: BTreeMap<u64, u64>,
    /// The pack in which the live frames of a segment lie, where they lie in one.
    pub packs: BTreeMap<u64, PackId>,
}

/// What the walk meets, in the order of the log.
#[derive(Debug)]
pub enum Item<'a> {
    /// A segment begins.
    Segment {
        /// Its file name.
        file: &'a str,
        /// Its header.
        header: &'a SegmentHeader,
        /// Where it ends, if a seal says so.
        sealed: Option<u64>,
    },
    /// A batch with a good header.
    Batch {
        /// Its first byte in the file.
        offset: u64,
        /// Its header.
        header: &'a BatchHeader,
        /// Its chain value.
        chain: u32,
    },
    /// A frame with a good structure.
    Frame {
        /// Its position.
        lsn: Lsn,
        /// Its kind.
        kind: u16,
        /// Its record.
        record: &'a [u8],
        /// Its payload, damaged or not.
        payload: &'a Bytes,
        /// Whether the payload's checksum is good.
        payload_good: bool,
    },
    /// A pack begins. Packs come before the segments, since what they hold is older.
    Pack {
        /// Its file name.
        file: &'a str,
        /// Its header.
        header: &'a PackHeader,
    },
    /// A frame of a pack with a good structure.
    Packed {
        /// Its first byte in the file.
        offset: u64,
        /// Its birth.
        lsn: Lsn,
        /// Its kind.
        kind: u16,
        /// Its record.
        record: &'a [u8],
        /// Its payload, damaged or not.
        payload: &'a Bytes,
        /// Whether the payload's checksum is good.
        payload_good: bool,
    },
    /// Something is wrong.
    Problem(Finding),
    /// The log ends here.
    End {
        /// The last segment's file name.
        file: &'a str,
        /// Where in it.
        offset: u64,
        /// Whether a batch lies there that was being written.
        torn: bool,
    },
}

/// Hears of everything, and says when it has heard enough.
type Visit<'v> = dyn FnMut(Item<'_>) -> ControlFlow<()> + 'v;

/// Shows `visit` everything that counts, in the order of the log, and what is wrong with it, until
/// it breaks. `progress` is called with each batch.
///
/// # Errors
/// Where there is no store, or one whose identity is lost: then nothing can be read at all.
pub fn survey(
    storage: &Arc<dyn Storage>,
    needed: Option<&Needed>,
    progress: &mut dyn FnMut(Progress),
    visit: &mut Visit<'_>,
) -> Result<(), SurveyError> {
    let identity = identity_read(&**storage)?.ok_or(SurveyError::NotAStore)?;
    let listed = storage.list().map_err(SurveyError::List)?;
    let names: Vec<Name> = listed.iter().filter_map(|name| Name::parse(name)).collect();
    let lineage = Lineage::of(identity.store);
    let mut walk = Walk { storage: &**storage, identity, lineage, needed, progress, visit };
    // That someone has heard enough is no error.
    let _ = walk.store(&names);
    Ok(())
}

struct Walk<'a> {
    storage: &'a dyn Storage,
    identity: Identity,
    lineage: Lineage,
    needed: Option<&'a Needed>,
    progress: &'a mut dyn FnMut(Progress),
    visit: &'a mut Visit<'a>,
}

/// One segment under survey.
struct Leaf<'a> {
    segment: &'a Segment,
    /// Where it ends, if a seal says so.
    sealed: Option<End>,
    /// Where it ends, or may end.
    limit: u64,
    /// What lies before this was durable once.
    mark: Lsn,
    /// Where the next segment's first batch says that the log left this one.
    left_at: Option<Lsn>,
    /// The last link, where it is known.
    chain: Option<Chain>,
    /// Bytes of the log before this segment, and all of them.
    progress: Progress,
}

/// What follows a segment.
enum After {
    /// Perhaps the next one, which continues the chain if it is known.
    Next(Option<Chain>),
    /// Nothing: the log ends in it.
    Nothing,
}

impl Walk<'_> {
    fn problem(&mut self, finding: impl Into<Finding>) -> ControlFlow<()> {
        (self.visit)(Item::Problem(finding.into()))
    }

    fn store(&mut self, names: &[Name]) -> ControlFlow<()> {
        // Where it cannot be read, neither can the past, and that is told below.
        if let Ok(lineage) = Lineage::read(self.storage, self.identity.store, names) {
            self.lineage = lineage;
        }
        self.claims(names)?;
        let (parts, mut seal) = match Past::read(self.storage, self.identity, u64::MAX, names) {
            Ok(past) => {
                self.missing(&past)?;
                let first = past.seal.map(|(seal, sum)| (seal.first_ordinal, sum));
                (past.segments, first)
            }
            Err(error) => {
                self.problem(error)?;
                (self.all_segments(names), None)
            }
        };
        let marks = self.marks(&parts);
        let total =
            parts.iter().map(|part| self.length(part)).sum::<u64>() + self.pack_bytes(names);
        let (mut done, mut chain, mut before) = (self.packs(names, total)?, None, None);
        for (at, part) in parts.iter().enumerate() {
            let progress = Progress { done, total };
            (self.progress)(progress);
            done += self.length(part);
            let Some(segment) = self.open(part)? else { continue };
            let follows = (part.file.epoch, part.file.ordinal);
            if before != Some(follows) {
                chain = None;
            }
            // An owner's first batch follows its seal.
            if part.own && seal.is_some_and(|(ordinal, _)| ordinal == part.file.ordinal) {
                chain = seal.take().map(|(_, value)| Chain { value, end: Lsn(0) });
            }
            before = Some((follows.0, follows.1 + 1));
            let next = parts.get(at + 1).filter(|_| part.sealed.is_none());
            let next = next.and_then(|next| Segment::open(self.storage, &next.file).ok());
            let leaf = Leaf {
                segment: &segment,
                sealed: part.sealed,
                limit: limit(&segment, part.sealed),
                mark: marks[at],
                left_at: next.and_then(|next| left_at(&segment, &next)),
                chain,
                progress,
            };
            if let Some(offset) = segment.damaged_header_copy() {
                self.problem(Finding::HeaderCopy { file: segment.name.clone(), offset })?;
            }
            let sealed = part.sealed.map(|end| end.length);
            (self.visit)(Item::Segment { file: &segment.name, header: &segment.header, sealed })?;
            match self.leaf(leaf, part.own)? {
                After::Next(known) => chain = known,
                After::Nothing => break,
            }
        }
        (self.progress)(Progress { done: total, total });
        ControlFlow::Continue(())
    }

    /// The small files: who owned the store, and what each took over.
    fn claims(&mut self, names: &[Name]) -> ControlFlow<()> {
        let storage = self.storage;
        let newest = names.iter().filter(|name| matches!(name, Name::Seal { .. })).max();
        for name in names {
            let result = match *name {
                Name::Claim { epoch } => claim_check(storage, self.lineage.store_of(epoch), epoch),
                // The newest one is read for what it says.
                Name::Seal { epoch } if Some(name) != newest => {
                    seal_read(storage, self.lineage.store_of(epoch), epoch).map(drop)
                }
                _ => Ok(()),
            };
            if let Err(error) = result {
                self.problem(error)?;
            }
            if let Name::Seal { epoch } = *name
                && !names.contains(&Name::Claim { epoch })
            {
                self.problem(Finding::MissingClaim { file: names::claim(epoch) })?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Segments that a replay asks for and that nobody lists. Whether those that the index keeps
    /// alive may be gone is known only after the replay: they may have died in it.
    fn missing(&mut self, past: &Past) -> ControlFlow<()> {
        let listed: BTreeSet<u64> = past.segments.iter().map(|part| part.file.ordinal).collect();
        let own: BTreeSet<u64> =
            past.segments.iter().filter(|part| part.own).map(|part| part.file.ordinal).collect();
        let mut wanted = BTreeMap::new();
        if let Some(needed) = self.needed {
            let replay_from = needed.replay.map(|replay| replay.batch.0 / self.size());
            wanted.extend(replay_from.map(|ordinal| (ordinal, format!("wal-*-{ordinal:016x}"))));
            if let (Some((seal, _)), Some(last)) = (&past.seal, own.last()) {
                let first = seal.first_ordinal.max(replay_from.unwrap_or(0));
                let holes = (first..*last).filter(|ordinal| !own.contains(ordinal));
                wanted.extend(holes.map(|o| (o, names::segment(seal.epoch, o))));
            }
        }
        for (ordinal, file) in wanted {
            if !listed.contains(&ordinal) {
                self.problem(RecoveryError::MissingSegment { file, ordinal })?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Every segment there is, for when nobody knows which ones count.
    fn all_segments(&self, names: &[Name]) -> Vec<ToRead> {
        let segment_size = self.size();
        let mut parts: Vec<ToRead> = Vec::new();
        for name in names {
            let (epoch, ordinal, copied_by) = match *name {
                Name::Segment { epoch, ordinal } => (epoch, ordinal, 0),
                Name::Copy { by, ordinal } => {
                    let copy = names::copy(by, ordinal);
                    let Ok(header) = Segment::header_of(self.storage, &copy) else { continue };
                    (header.epoch, ordinal, by)
                }
                _ => continue,
            };
            let sealed = format::Sealed { epoch, ordinal, copied_by, end: None };
            let file = Expected::sealed(self.lineage.store_of(epoch), segment_size, &sealed);
            parts.push(ToRead { file, sealed: None, own: false });
        }
        parts.sort_by_key(|part| (part.file.ordinal, part.file.epoch));
        parts
    }

    fn size(&self) -> u64 {
        self.identity.segment_size
    }

    fn length(&self, part: &ToRead) -> u64 {
        part.sealed.map_or(self.size(), |end| end.length)
    }

    /// Per segment: what of it is known to have been durable. What a seal lists, was.
    ///
    /// A mark looks back over all that lies before it, so the last segments that have any tell it.
    fn marks(&self, parts: &[ToRead]) -> Vec<Lsn> {
        let mut mark = Lsn(0);
        let mut marks = vec![Lsn(u64::MAX); parts.len()];
        for (at, part) in parts.iter().enumerate().rev().filter(|(_, part)| part.own) {
            if mark.0 < (part.file.ordinal + 1) * self.size()
                && let Ok(segment) = Segment::open(self.storage, &part.file)
            {
                // A segment that cannot be read is reported by the walk itself.
                let own = highest_mark(&segment, BLOCK_BYTES as u64, self.size());
                mark = mark.max(own.unwrap_or_default());
            }
            marks[at] = mark;
        }
        marks
    }

    fn open(&mut self, part: &ToRead) -> ControlFlow<(), Option<Segment>> {
        match Segment::open(self.storage, &part.file) {
            Ok(segment) => return ControlFlow::Continue(Some(segment)),
            // Its owner removed it when nothing in it was wanted any more.
            Err(RecoveryError::MissingSegment { ordinal, .. }) if self.may_be_gone(ordinal) => {}
            Err(error) => self.problem(error)?,
        }
        ControlFlow::Continue(None)
    }

    fn may_be_gone(&self, ordinal: u64) -> bool {
        self.needed.is_some_and(|needed| {
            let replayed =
                needed.replay.is_none_or(|replay| replay.batch.0 / self.size() <= ordinal);
            let lies_here =
                needed.live.contains_key(&ordinal) && !needed.packs.contains_key(&ordinal);
            !replayed && !lies_here
        })
    }

    fn leaf(&mut self, mut leaf: Leaf<'_>, own: bool) -> ControlFlow<(), After> {
        let after = match leaf.walk(own, self.progress, self.visit) {
            Ok(flow) => flow?,
            Err(error) => {
                self.problem(error)?;
                After::Next(None)
            }
        };
        ControlFlow::Continue(after)
    }
}

impl From<RecoveryError> for Finding {
    fn from(error: RecoveryError) -> Self {
        Finding::Unusable(error)
    }
}

impl Leaf<'_> {
    fn walk(
        &mut self,
        own: bool,
        progress: &mut dyn FnMut(Progress),
        visit: &mut Visit<'_>,
    ) -> Result<ControlFlow<(), After>, RecoveryError> {
        let segment = self.segment;
        let io = |source| RecoveryError::io(&segment.name, source);
        let mut offset = BLOCK_BYTES as u64;
        let mut whole = true;
        while offset < self.limit {
            let Progress { done, total } = self.progress;
            progress(Progress { done: done + offset, total });
            let (head, fits) = self.head(offset).map_err(io)?;
            if let (BatchHead::Good(header, chain), true) = (head, fits) {
                let mut bytes = vec![0; header.length as usize];
                segment.file.read_at(&mut bytes, offset).map_err(io)?;
                match self.batch(offset, &header, chain, bytes.into(), visit) {
                    ControlFlow::Continue(true) => {}
                    ControlFlow::Continue(false) => return Ok(self.end(offset, true, visit)),
                    ControlFlow::Break(()) => return Ok(ControlFlow::Break(())),
                }
                (offset, whole) = (offset + u64::from(header.length), true);
                continue;
            }
            if self.rolled(offset) {
                return Ok(ControlFlow::Continue(After::Next(self.chain)));
            }
            if own && segment.lsn(offset) >= self.mark {
                return Ok(self.end(offset, head != BatchHead::Blank, visit));
            }
            // Once for a stretch of bad blocks: the walk goes on where it finds the log again.
            if std::mem::take(&mut whole)
                && visit(self.corrupt(offset, Corruption::Header)).is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
            self.chain = None;
            offset += BLOCK_BYTES as u64;
        }
        Ok(self.last_link(offset, visit))
    }

    /// What lies where a batch may begin, and whether it is one that can stand there.
    fn head(&self, offset: u64) -> io::Result<(BatchHead, bool)> {
        let (lsn, room) = (self.segment.lsn(offset), self.limit - offset);
        if room < BLOCK_BYTES as u64 {
            return Ok((BatchHead::Blank, false));
        }
        let mut block = [0; BATCH_HEADER_BYTES];
        self.segment.file.read_at(&mut block, offset)?;
        let head = BatchHeader::decode(self.segment.seed, &block, lsn);
        let epoch = self.segment.header.epoch;
        let fits = matches!(head, BatchHead::Good(header, _) if header.fits(epoch, lsn, room));
        Ok((head, fits))
    }

    fn end(&self, offset: u64, torn: bool, visit: &mut Visit<'_>) -> ControlFlow<(), After> {
        visit(Item::End { file: &self.segment.name, offset, torn })?;
        ControlFlow::Continue(After::Nothing)
    }

    /// The segment is full, or ends as its seal says: with the batch that the seal names.
    fn last_link(&self, offset: u64, visit: &mut Visit<'_>) -> ControlFlow<(), After> {
        if let (Some(end), Some(chain)) = (self.sealed, self.chain)
            && offset > BLOCK_BYTES as u64
            && (end.chain != chain.value || offset != end.length)
        {
            visit(self.corrupt(offset, Corruption::Seal))?;
        }
        ControlFlow::Continue(After::Next(self.chain))
    }

    /// Whether the log left the segment here for the next one: as that says, or, where that is
    /// gone, because nothing of this segment follows.
    fn rolled(&self, offset: u64) -> bool {
        if let Some(left_at) = self.left_at {
            return left_at == self.segment.lsn(offset);
        }
        let covered = self.segment.lsn(offset) < self.mark;
        let later = || highest_mark(self.segment, offset, self.limit);
        covered && self.sealed.is_none() && later().is_ok_and(|mark| mark == Lsn(0))
    }

    fn corrupt(&self, offset: u64, reason: Corruption) -> Item<'static> {
        let file = self.segment.name.clone();
        Item::Problem(Finding::Corrupt { file, offset, reason })
    }

    /// Shows a batch and its frames. `false` where it is a torn one, which does not count.
    fn batch(
        &mut self,
        offset: u64,
        header: &BatchHeader,
        chain: u32,
        bytes: Bytes,
        visit: &mut Visit<'_>,
    ) -> ControlFlow<(), bool> {
        let mut frames = Vec::new();
        let seed = self.segment.seed;
        let walked = format::batch_walk(seed, header, &bytes, |at, view| frames.push((at, view)));
        let good = walked.is_ok() && frames.iter().all(|(_, view)| view.payload_good);
        if !good && header.lsn >= self.mark {
            return ControlFlow::Continue(false);
        }
        visit(Item::Batch { offset, header, chain })?;
        let follows =
            |link: Chain| (link.value, link.end) == (header.previous, header.previous_end);
        if self.chain.is_some_and(|link| !follows(link)) {
            visit(self.corrupt(offset, Corruption::Chain))?;
        }
        let end = Lsn(header.lsn.0 + u64::from(header.length));
        self.chain = Some(Chain { value: chain, end });
        for (at, view) in frames {
            let (lsn, kind, payload_good) = (view.header.lsn, view.header.kind, view.payload_good);
            let record = &bytes[at + FRAME_HEADER_BYTES..at + view.header.payload_at()];
            let payload_at = at + view.header.payload_at();
            let payload = &bytes.slice(payload_at..payload_at + view.header.payload_len as usize);
            visit(Item::Frame { lsn, kind, record, payload, payload_good })?;
            if !payload_good {
                let (file, offset) = (self.segment.name.clone(), offset + at as u64);
                let damage = Damage { file, offset, lsn, part: Part::Payload };
                visit(Item::Problem(damage.into()))?;
            }
        }
        if let Err(at) = walked {
            visit(self.corrupt(offset + at as u64, Corruption::Structure))?;
        }
        ControlFlow::Continue(true)
    }
}

/// Where a segment ends, or may end: a copy whose seal is lost ends with its file.
fn limit(segment: &Segment, sealed: Option<End>) -> u64 {
    // Where the size cannot be asked for, the first read tells why.
    let file = segment.file.size().unwrap_or(u64::MAX);
    sealed.map_or(u64::MAX, |end| end.length).min(segment.header.segment_size).min(file)
}

/// What the first batch of `next` says of where the log left `segment`.
fn left_at(segment: &Segment, next: &Segment) -> Option<Lsn> {
    let follows = segment.header.epoch == next.header.epoch
        && segment.header.ordinal + 1 == next.header.ordinal;
    let offset = BLOCK_BYTES as u64;
    let mut head = [0; BATCH_HEADER_BYTES];
    next.file.read_at(&mut head, offset).ok()?;
    match BatchHeader::decode(next.seed, &head, next.lsn(offset)) {
        BatchHead::Good(header, _) if follows => Some(header.previous_end),
        _ => None,
    }
}

/// Whether a claim is the one that its name promises.
fn claim_check(storage: &dyn Storage, store: u128, epoch: u64) -> Result<(), RecoveryError> {
    let file = names::claim(epoch);
    let io = |source| RecoveryError::io(&file, source);
    let bytes = storage.open(&file).and_then(|f| read_whole(&*f, CLAIM_BYTES)).map_err(io)?;
    match format::claim_decode(bytes.as_deref().unwrap_or_default()) {
        Ok((found, named)) if (found, named) == (store, epoch) => Ok(()),
        Ok((found, _)) if found != store => {
            Err(RecoveryError::ForeignStore { file, found, expected: store })
        }
        Err(HeadFault::Version(found)) => {
            Err(RecoveryError::UnknownVersion { file, found, newest: VERSION })
        }
        _ => Err(RecoveryError::BadHead { file }),
    }
}
