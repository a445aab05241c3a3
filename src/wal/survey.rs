//! Reading a store without owning it: for `store verify` and `store dump`.
//!
//! Owns a walk over every segment that counts, payloads included, that goes on after whatever it
//! finds. Takes no claim and writes nothing, so it says what is wrong and never what to make of
//! it; on a store in use it may see the last batches half written, and says so.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::ids::Lsn;
use crate::io::Storage;
use crate::wal::claim::{ClaimError, identity_read};
use crate::wal::damage::{Corruption, Damage, Part};
use crate::wal::error::RecoveryError;
use crate::wal::format::{
    self, BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHead, BatchHeader, FRAME_HEADER_BYTES, Identity,
    SegmentHeader,
};
use crate::wal::names::{self, Name};
use crate::wal::replay::{Progress, ToRead, highest_mark};
use crate::wal::segment::Segment;
use crate::wal::start::Past;

/// Why there was nothing to survey.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// The directory is no store.
    #[error("the directory has no file `store`: it is not a store")]
    NotAStore,
    /// The store's identity could not be read.
    #[error(transparent)]
    Identity(#[from] ClaimError),
    /// What counts in the store could not be found out.
    #[error(transparent)]
    Past(#[from] RecoveryError),
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
    /// A whole segment.
    #[error(transparent)]
    Unusable(RecoveryError),
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
        /// Bytes of its payload.
        payload_len: u32,
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

/// What `verify` found.
#[derive(Debug, Default)]
pub struct Report {
    /// Segments read.
    pub segments: u64,
    /// Batches with a good header.
    pub batches: u64,
    /// Frames with a good structure.
    pub frames: u64,
    /// Bytes of payload with a good checksum.
    pub payload_bytes: u64,
    /// Everything that is wrong, in the order of the log.
    pub findings: Vec<Finding>,
}

/// Checks every byte that counts, calling `progress` after each segment.
pub fn verify(
    storage: &Arc<dyn Storage>,
    mut progress: impl FnMut(Progress),
) -> Result<Report, SurveyError> {
    let mut report = Report::default();
    let survey = Survey::open(storage)?;
    let total = survey.segments.len() as u64 * survey.identity.segment_size;
    survey.walk(&mut |item| match item {
        Item::Segment { .. } => {
            let done = report.segments * survey.identity.segment_size;
            progress(Progress { done, total });
            report.segments += 1;
        }
        Item::Batch { .. } => report.batches += 1,
        Item::Frame { payload_good, payload_len, .. } => {
            report.frames += 1;
            if payload_good {
                report.payload_bytes += u64::from(payload_len);
            }
        }
        Item::Problem(finding) => report.findings.push(finding),
        Item::End { .. } => {}
    });
    progress(Progress { done: total, total });
    Ok(report)
}

/// Shows `visit` everything that counts, in the order of the log, and what is wrong with it.
pub fn dump(
    storage: &Arc<dyn Storage>,
    mut visit: impl FnMut(Item<'_>),
) -> Result<(), SurveyError> {
    Survey::open(storage)?.walk(&mut visit);
    Ok(())
}

struct Survey {
    storage: Arc<dyn Storage>,
    identity: Identity,
    segments: Vec<ToRead>,
}

/// One segment under survey.
struct Leaf<'a> {
    segment: &'a Segment,
    /// Where it ends, or may end.
    limit: u64,
    /// What lies before this was durable once.
    mark: Lsn,
    sealed: bool,
    /// Where the next segment's first batch says that the log left this one.
    left_at: Option<Lsn>,
    chain: Option<u32>,
}

impl Survey {
    fn open(storage: &Arc<dyn Storage>) -> Result<Survey, SurveyError> {
        let identity = identity_read(&**storage)?.ok_or(SurveyError::NotAStore)?;
        let listed = storage.list().map_err(SurveyError::List)?;
        let names: Vec<Name> = listed.iter().filter_map(|name| Name::parse(name)).collect();
        let past = Past::read(&**storage, identity, u64::MAX, &names)?;
        Ok(Survey { storage: Arc::clone(storage), identity, segments: past.segments })
    }

    fn walk(&self, visit: &mut dyn FnMut(Item<'_>)) {
        let mut opened = Vec::new();
        for part in &self.segments {
            opened.push(self.segment(part, visit));
        }
        // Marks look back: what one says of the past holds for all segments before it.
        let mut mark = Lsn(0);
        let mut marks = vec![mark; opened.len()];
        for (index, segment) in opened.iter().enumerate().rev() {
            if let Some(segment) = segment {
                let own = highest_mark(segment, BLOCK_BYTES as u64, self.identity.segment_size);
                // A segment that cannot be read is reported by the walk itself.
                mark = mark.max(own.unwrap_or_default());
            }
            marks[index] = mark;
        }
        for (index, (part, segment)) in self.segments.iter().zip(&opened).enumerate() {
            let Some(segment) = segment else { continue };
            let sealed = part.sealed.map(|end| end.length);
            visit(Item::Segment { file: &segment.name, header: &segment.header, sealed });
            let limit = sealed.unwrap_or(u64::MAX).min(self.identity.segment_size);
            let mark = if sealed.is_some() { Lsn(u64::MAX) } else { marks[index] };
            let last = index + 1 == opened.len();
            let next = opened.get(index + 1).and_then(Option::as_ref);
            let left_at = next.and_then(|next| left_at(segment, next));
            let leaf =
                Leaf { segment, limit, mark, sealed: sealed.is_some(), left_at, chain: None };
            if let Err(error) = leaf.walk(last, visit) {
                visit(Item::Problem(Finding::Unusable(error)));
            }
        }
    }

    fn segment(&self, part: &ToRead, visit: &mut dyn FnMut(Item<'_>)) -> Option<Segment> {
        match Segment::open(&*self.storage, &part.file) {
            Ok(segment) => Some(segment),
            Err(error) => {
                visit(Item::Problem(Finding::Unusable(error)));
                None
            }
        }
    }
}

impl Leaf<'_> {
    fn walk(mut self, last: bool, visit: &mut dyn FnMut(Item<'_>)) -> Result<(), RecoveryError> {
        let io = |source| RecoveryError::io(&self.segment.name, source);
        let mut offset = BLOCK_BYTES as u64;
        let mut whole = true;
        while offset < self.limit {
            let lsn = self.segment.lsn(offset);
            let room = self.limit - offset;
            let mut block = vec![0; BLOCK_BYTES.min(room as usize)];
            self.segment.file.read_at(&mut block, offset).map_err(io)?;
            let head = match block.len() {
                BLOCK_BYTES => BatchHeader::decode(self.segment.seed, &block, lsn),
                _ => BatchHead::Blank,
            };
            let epoch = self.segment.header.epoch;
            if let BatchHead::Good(header, chain) = head
                && header.fits(epoch, lsn, room)
            {
                let mut bytes = vec![0; header.length as usize];
                self.segment.file.read_at(&mut bytes, offset).map_err(io)?;
                if !self.batch(offset, &header, chain, bytes.into(), visit) {
                    visit(Item::End { file: &self.segment.name, offset, torn: true });
                    return Ok(());
                }
                (offset, whole) = (offset + u64::from(header.length), true);
                continue;
            }
            if lsn >= self.mark {
                // In a segment before the last one, the log went on in the next.
                if last {
                    let torn = head != BatchHead::Blank;
                    visit(Item::End { file: &self.segment.name, offset, torn });
                }
                return Ok(());
            }
            if self.rolled(offset) {
                return Ok(());
            }
            // Once for a stretch of bad blocks: the walk goes on where it finds the log again.
            if std::mem::take(&mut whole) {
                visit(self.corrupt(offset, Corruption::Header));
            }
            self.chain = None;
            offset += BLOCK_BYTES as u64;
        }
        if last {
            visit(Item::End { file: &self.segment.name, offset, torn: false });
        }
        Ok(())
    }

    /// Whether the log left the segment here for the next one: as that says, or, where that is
    /// gone, because nothing of this segment follows.
    fn rolled(&self, offset: u64) -> bool {
        match self.left_at {
            Some(left_at) => left_at == self.segment.lsn(offset),
            None => {
                let size = self.segment.header.segment_size;
                let later = highest_mark(self.segment, offset, size);
                !self.sealed && later.is_ok_and(|mark| mark == Lsn(0))
            }
        }
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
        visit: &mut dyn FnMut(Item<'_>),
    ) -> bool {
        let mut frames = Vec::new();
        let seed = self.segment.seed;
        let walked = format::batch_walk(seed, header, &bytes, |at, view| frames.push((at, view)));
        let good = walked.is_ok() && frames.iter().all(|(_, view)| view.payload_good);
        if !good && header.lsn >= self.mark {
            return false;
        }
        visit(Item::Batch { offset, header, chain });
        if self.chain.is_some_and(|before| before != header.previous) {
            visit(self.corrupt(offset, Corruption::Chain));
        }
        self.chain = Some(chain);
        for (at, view) in frames {
            let (lsn, kind, payload_good) = (view.header.lsn, view.header.kind, view.payload_good);
            let record = &bytes[at + FRAME_HEADER_BYTES..at + view.header.payload_at()];
            let payload_len = view.header.payload_len;
            visit(Item::Frame { lsn, kind, record, payload_len, payload_good });
            if !payload_good {
                let (file, offset) = (self.segment.name.clone(), offset + at as u64);
                let damage = Damage { file, offset, lsn, part: Part::Payload };
                visit(Item::Problem(damage.into()));
            }
        }
        if let Err(at) = walked {
            visit(self.corrupt(offset + at as u64, Corruption::Structure));
        }
        true
    }
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

/// The newest claim's epoch, for people: who owns the store, or owned it last.
pub fn newest_claim(storage: &dyn Storage) -> io::Result<Option<u64>> {
    let listed = storage.list()?;
    let claims = listed.iter().filter_map(|name| match Name::parse(name) {
        Some(Name::Claim { epoch }) => Some(epoch),
        _ => None,
    });
    let newest = claims.max();
    debug_assert!(newest.is_none_or(|epoch| listed.contains(&names::claim(epoch))));
    Ok(newest)
}
