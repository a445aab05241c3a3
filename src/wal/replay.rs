//! Reading the past: batch after batch, each place judged by the table of `recovery`.
//!
//! Owns the walk over the segments of earlier owners, and finding the signs that a verdict needs.
//! Writes nothing. Keeps the bytes of the batches that no mark proves durable: a dead process may
//! have left them in a cache alone, so they must be written again before anyone rests on them.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::ids::Lsn;
use crate::io::Storage;
use crate::wal::damage::{Corruption, Damage, Part};
use crate::wal::error::RecoveryError;
use crate::wal::format::{
    self, BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHead, BatchHeader, End, FRAME_HEADER_BYTES,
    FrameView,
};
use crate::wal::gather::Chain;
use crate::wal::recovery::{Head, Signs, Verdict};
use crate::wal::segment::{Expected, Segment};

/// The log is read in pieces of this size, unless a batch is larger.
const WINDOW_BYTES: usize = 1 << 20;

/// Where replay begins: what the index has already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayPoint {
    /// The first byte of the batch that holds the last record the index has.
    pub batch: Lsn,
    /// That record's Lsn: the first one replayed is the next.
    pub through: Lsn,
}

/// How far a replay has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read.
    pub done: u64,
    /// Bytes to read in all, at most.
    pub total: u64,
}

/// A record found in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Its position.
    pub lsn: Lsn,
    /// The start of its batch.
    pub batch: Lsn,
    /// Its kind.
    pub kind: u16,
    /// Its bytes.
    pub record: Bytes,
    /// Bytes its frame takes.
    pub frame_len: u32,
    /// Bytes of its payload, where that is whole.
    pub payload: Result<u32, Damage>,
}

/// How the log of the last owner ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TailVerdict {
    /// Nobody has written anything since the last seal.
    Empty,
    /// It said goodbye: everything before was durable.
    Stopped {
        /// The end of the log.
        end: Lsn,
    },
    /// It stopped without a word, between two batches.
    Ended {
        /// The end of the log.
        end: Lsn,
    },
    /// It stopped in the middle of a write, of which nothing was ever confirmed.
    Torn {
        /// The end of the log.
        end: Lsn,
        /// The segment with the torn batch.
        file: String,
        /// The torn batch's first byte in the file.
        offset: u64,
    },
}

/// A segment that replay will read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ToRead {
    pub(crate) file: Expected,
    /// Where it ends, by a seal; `None` in what the last owner wrote.
    pub(crate) sealed: Option<End>,
    /// Whether the last owner wrote it, so that its end is for the walk to find.
    pub(crate) own: bool,
}

/// A segment that was read, or is known, with its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WasRead {
    pub(crate) file: Expected,
    pub(crate) end: End,
}

/// A batch that nothing proves durable, as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Unproven {
    pub(crate) ordinal: u64,
    /// Where in the file it begins.
    pub(crate) offset: u64,
    pub(crate) bytes: Bytes,
}

/// A piece of the file, read once.
#[derive(Debug, Default)]
struct Window {
    start: u64,
    bytes: Bytes,
}

/// The place where the walk stands.
#[derive(Debug)]
struct Place {
    segment: Segment,
    file: Expected,
    sealed: Option<End>,
    offset: u64,
    window: Window,
    /// The end of the last batch that holds anything.
    end: Option<End>,
}

/// What lies at a place.
struct Found {
    signs: Signs,
    batch: Option<(BatchHeader, u32)>,
    bytes: Bytes,
    frames: Vec<(usize, FrameView)>,
    /// Where in the batch the first bad frame is.
    bad_at: usize,
}

/// The walk over the past.
#[derive(Debug)]
pub(crate) struct Walk {
    storage: Arc<dyn Storage>,
    segment_size: u64,
    from: Option<ReplayPoint>,
    parts: VecDeque<ToRead>,
    place: Option<Place>,
    /// The last link; `None` where the batch before is not known, and the next is believed.
    chain: Option<Chain>,
    /// The first link of the last owner, for its first segment.
    seal: Option<(u64, u32)>,
    /// The highest durable mark seen.
    mark: Lsn,
    /// Whether `mark` is the highest there is after the place, too.
    mark_final: bool,
    said_goodbye: bool,
    pending: VecDeque<Recovered>,
    unproven: VecDeque<Unproven>,
    read: Vec<WasRead>,
    progress: Progress,
    tail: Option<TailVerdict>,
    /// Where the log ends for one who knows that what follows is lost.
    stop: Option<Lsn>,
}

pub(crate) struct WalkStart {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) segment_size: u64,
    pub(crate) from: Option<ReplayPoint>,
    pub(crate) parts: VecDeque<ToRead>,
    /// The first ordinal after the newest seal, and the seal's checksum.
    pub(crate) seal: Option<(u64, u32)>,
}

impl Walk {
    pub(crate) fn new(start: WalkStart) -> Self {
        let WalkStart { storage, segment_size, from, parts, seal } = start;
        let length = |part: &ToRead| part.sealed.map_or(segment_size, |end| end.length);
        let skipped = from.map_or(0, |from| from.batch.0 % segment_size);
        let total = parts.iter().map(length).sum::<u64>().saturating_sub(skipped);
        Self {
            storage,
            segment_size,
            from,
            parts,
            place: None,
            chain: None,
            seal,
            mark: from.map_or(Lsn(0), |from| Lsn(from.through.0.saturating_add(1))),
            mark_final: false,
            said_goodbye: false,
            pending: VecDeque::new(),
            unproven: VecDeque::new(),
            read: Vec::new(),
            progress: Progress { done: 0, total },
            tail: None,
            stop: None,
        }
    }

    /// Ends the log at the batch that begins at `stop`, whatever is there.
    pub(crate) fn stop_at(&mut self, stop: Lsn) {
        self.stop = Some(stop);
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress
    }

    /// How the log ended, once the walk is over.
    pub(crate) fn tail(&self) -> Option<&TailVerdict> {
        self.tail.as_ref()
    }

    /// The segments that hold batches, with their ends.
    pub(crate) fn segments_read(&self) -> &[WasRead] {
        &self.read
    }

    /// The batches that were accepted and that nothing proves durable, in order.
    pub(crate) fn unproven(&self) -> &VecDeque<Unproven> {
        &self.unproven
    }

    /// Lets go of the batches that nothing proves durable: nobody will write them again.
    pub(crate) fn forget_unproven(&mut self) {
        self.unproven.clear();
    }

    pub(crate) fn next(&mut self) -> Result<Option<Recovered>, RecoveryError> {
        loop {
            if let Some(recovered) = self.pending.pop_front() {
                return Ok(Some(recovered));
            }
            if self.tail.is_some() {
                return Ok(None);
            }
            self.step()?;
        }
    }

    /// Judges one place.
    fn step(&mut self) -> Result<(), RecoveryError> {
        if self.place.is_none() && !self.enter()? {
            self.finish_at_last_part();
            return Ok(());
        }
        if self.at_sealed_end()? {
            return Ok(());
        }
        let end = self.end();
        if self.stop.is_some_and(|stop| end >= stop) {
            self.finish(TailVerdict::Ended { end });
            return Ok(());
        }
        let found = self.look()?;
        match found.signs.verdict() {
            Verdict::Accept | Verdict::AcceptDamaged => self.accept(found),
            Verdict::Roll => self.leave(),
            Verdict::End => {
                let end = self.end();
                self.finish(match self.said_goodbye {
                    true => TailVerdict::Stopped { end },
                    false => TailVerdict::Ended { end },
                });
            }
            Verdict::Torn => {
                let end = self.end();
                let place = self.place.as_ref().expect("a place was judged");
                let (file, offset) = (place.segment.name.clone(), place.offset);
                self.finish(TailVerdict::Torn { end, file, offset });
            }
            Verdict::Corrupt(reason) => {
                let place = self.place.as_ref().expect("a place was judged");
                let offset = place.offset + found.bad_at as u64;
                return Err(self.corrupt(offset, reason));
            }
        }
        Ok(())
    }

    fn corrupt(&self, offset: u64, reason: Corruption) -> RecoveryError {
        let place = self.place.as_ref().expect("something is corrupt at a place");
        RecoveryError::Corrupt { file: place.segment.name.clone(), offset, reason }
    }

    /// Opens the next segment. `false` when there is none.
    fn enter(&mut self) -> Result<bool, RecoveryError> {
        let Some(part) = self.parts.pop_front() else { return Ok(false) };
        let segment = self.open(&part)?;
        let ordinal = part.file.ordinal;
        let mut offset = BLOCK_BYTES as u64;
        match self.from {
            Some(from) if from.batch.0 / self.segment_size == ordinal => {
                offset = from.batch.0 % self.segment_size;
            }
            _ => {}
        }
        let first_of_owner = self.seal.filter(|(first, _)| *first == ordinal);
        if let Some((_, sum)) = first_of_owner {
            let begins = offset == BLOCK_BYTES as u64;
            self.chain = begins.then_some(Chain { value: sum, end: Lsn(0) });
        } else if self.read.last().is_none_or(|last| {
            last.file.epoch != part.file.epoch || last.file.ordinal + 1 != ordinal
        }) {
            // Between owners the seal is the link, and it has been checked.
            self.chain = None;
        }
        let ToRead { file, sealed, .. } = part;
        let window = Window::default();
        self.place = Some(Place { segment, file, sealed, offset, window, end: None });
        Ok(true)
    }

    fn open(&self, part: &ToRead) -> Result<Segment, RecoveryError> {
        Segment::open(&*self.storage, &part.file)
    }

    /// Leaves a sealed segment at its end, where it must be what the seal says.
    fn at_sealed_end(&mut self) -> Result<bool, RecoveryError> {
        let place = self.place.as_ref().expect("entered");
        let Some(end) = place.sealed else { return Ok(false) };
        if place.offset < end.length {
            return Ok(false);
        }
        let chain = self.chain.map(|chain| chain.value);
        if place.offset > end.length || (place.end.is_some() && chain != Some(end.chain)) {
            return Err(self.corrupt(end.length, Corruption::Seal));
        }
        if let Some(from) = self.from
            && place.end.is_none()
            && from.batch.0 / self.segment_size == place.segment.header.ordinal
        {
            // The batch that the index knows lies at or beyond the end of what counts.
            return Err(RecoveryError::IndexAhead { through: from.through });
        }
        self.leave();
        Ok(true)
    }

    fn leave(&mut self) {
        let place = self.place.take().expect("left where it was entered");
        if let Some(end) = place.end {
            self.read.push(WasRead { file: place.file, end });
        }
    }

    pub(crate) fn end(&self) -> Lsn {
        match (&self.place, self.read.last()) {
            (Some(place), _) => place.segment.lsn(place.offset),
            (None, Some(last)) => Lsn(last.file.ordinal * self.segment_size + last.end.length),
            (None, None) => Lsn(0),
        }
    }

    fn finish(&mut self, tail: TailVerdict) {
        self.leave();
        self.progress.done = self.progress.total;
        self.tail = Some(tail);
    }

    /// All that there was is sealed.
    fn finish_at_last_part(&mut self) {
        self.progress.done = self.progress.total;
        self.tail = Some(TailVerdict::Empty);
    }

    fn accept(&mut self, found: Found) {
        let (header, value) = found.batch.expect("an accepted batch has a header");
        let place = self.place.as_mut().expect("a place was judged");
        let through = self.from.map_or(Lsn(0), |from| from.through);
        for (at, view) in found.frames {
            let lsn = view.header.lsn;
            if lsn <= through {
                continue;
            }
            let payload = match view.payload_good {
                true => Ok(view.header.payload_len),
                false => Err(Damage {
                    file: place.segment.name.clone(),
                    offset: place.offset + at as u64,
                    lsn,
                    part: Part::Payload,
                }),
            };
            let record = found.bytes.slice(at + FRAME_HEADER_BYTES..at + view.header.payload_at());
            let (kind, batch) = (view.header.kind, header.lsn);
            let frame_len = view.header.frame_len() as u32;
            self.pending.push_back(Recovered { lsn, batch, kind, record, frame_len, payload });
        }
        let end = Lsn(header.lsn.0 + u64::from(header.length));
        let offset = place.offset;
        place.offset += u64::from(header.length);
        self.progress.done += u64::from(header.length);
        self.said_goodbye = header.count == 0;
        self.chain = Some(Chain { value, end });
        self.mark = self.mark.max(header.durable);
        if self.from.is_some_and(|from| from.batch == header.lsn) {
            // The index has a record of it, so all of it is durable.
            self.mark = self.mark.max(end);
        }
        // A goodbye holds nothing that must stay, and nothing proves that it will.
        if header.count > 0 {
            place.end = Some(End { length: place.offset, chain: value });
            if place.sealed.is_none() {
                let ordinal = place.file.ordinal;
                self.unproven.push_back(Unproven { ordinal, offset, bytes: found.bytes });
            }
        }
        self.forget_proven();
    }

    fn forget_proven(&mut self) {
        let mark = self.mark;
        let proven = |batch: &Unproven| batch.ordinal * self.segment_size + batch.offset < mark.0;
        while self.unproven.front().is_some_and(proven) {
            self.unproven.pop_front();
        }
    }

    /// Finds the signs at the place.
    fn look(&mut self) -> Result<Found, RecoveryError> {
        let place = self.place.as_mut().expect("entered");
        let lsn = place.segment.lsn(place.offset);
        let limit = place.sealed.map_or(self.segment_size, |end| end.length);
        let room = limit.min(self.segment_size) - place.offset;
        let mut found = Found::blank();
        let io_name = place.segment.name.clone();
        let io = move |source| RecoveryError::io(&io_name, source);
        if room >= BLOCK_BYTES as u64 {
            let head = place.bytes(BATCH_HEADER_BYTES, limit).map_err(&io)?;
            match BatchHeader::decode(place.segment.seed, &head, lsn) {
                BatchHead::Blank => {}
                BatchHead::Broken => found.signs.head = Head::Broken,
                BatchHead::Good(header, value) => {
                    found.signs.head = Head::Good;
                    found.batch = Some((header, value));
                    found.signs.place_fits = header.fits(place.segment.header.epoch, lsn, room);
                }
            }
        }
        if let (true, Some((header, _))) = (found.signs.place_fits, found.batch) {
            found.signs.chain_fits = follows(&header, self.chain, place);
            if found.signs.chain_fits {
                found.bytes = place.bytes(header.length as usize, limit).map_err(&io)?;
                found.walk(place.segment.seed, &header);
            }
        }
        if !found.signs.good() {
            self.look_further(&mut found.signs)?;
        }
        Ok(found)
    }

    /// Finds the signs that lie elsewhere, which only a batch that is not good needs.
    fn look_further(&mut self, signs: &mut Signs) -> Result<(), RecoveryError> {
        let place = self.place.as_ref().expect("entered");
        if place.sealed.is_some() {
            signs.covered = true;
            return Ok(());
        }
        let lsn = place.segment.lsn(place.offset);
        if signs.head != Head::Good {
            signs.linked = self.next_links(lsn)?;
        }
        // After a goodbye nothing was written, so there is no later mark to look for.
        let search = !signs.linked && self.mark <= lsn && !self.said_goodbye;
        if search && !self.mark_final {
            self.mark = self.mark.max(self.highest_mark_after()?);
            self.mark_final = true;
            self.forget_proven();
        }
        signs.covered = self.mark > lsn;
        Ok(())
    }

    /// Whether the first batch of the next segment follows the last one before `lsn`.
    fn next_links(&self, lsn: Lsn) -> Result<bool, RecoveryError> {
        let Some(next) = self.parts.front() else { return Ok(false) };
        let Some(chain) = self.chain else { return Ok(false) };
        let segment = self.open(next)?;
        let mut head = [0; BATCH_HEADER_BYTES];
        let offset = BLOCK_BYTES as u64;
        let io = |source| RecoveryError::io(&segment.name, source);
        segment.file.read_at(&mut head, offset).map_err(io)?;
        let first = segment.lsn(offset);
        let room = self.segment_size - offset;
        Ok(match BatchHeader::decode(segment.seed, &head, first) {
            BatchHead::Good(header, _) => {
                header.fits(next.file.epoch, first, room)
                    && chain.end == lsn
                    && header.previous == chain.value
                    && header.previous_end == chain.end
            }
            BatchHead::Broken | BatchHead::Blank => false,
        })
    }

    /// The highest durable mark of any batch header after the place: in the rest of the segment,
    /// at every block, and in the segments after it. A header with a good checksum is enough: what
    /// its writer knew was true, whether the rest of its batch arrived or not.
    fn highest_mark_after(&self) -> Result<Lsn, RecoveryError> {
        let place = self.place.as_ref().expect("entered");
        let after = place.offset + BLOCK_BYTES as u64;
        let mut mark = highest_mark(&place.segment, after, self.segment_size)?;
        for part in &self.parts {
            let segment = self.open(part)?;
            mark = mark.max(highest_mark(&segment, BLOCK_BYTES as u64, self.segment_size)?);
        }
        Ok(mark)
    }
}

/// Whether the batch follows `chain`, or begins a walk that knows no link yet.
fn follows(header: &BatchHeader, chain: Option<Chain>, place: &Place) -> bool {
    match chain {
        Some(chain) => header.previous == chain.value && header.previous_end == chain.end,
        None => place.offset == BLOCK_BYTES as u64 || header.previous_end == header.lsn,
    }
}

pub(crate) fn highest_mark(
    segment: &Segment,
    from: u64,
    segment_size: u64,
) -> Result<Lsn, RecoveryError> {
    let mut mark = Lsn(0);
    let left = usize::try_from(segment_size.saturating_sub(from)).unwrap_or(WINDOW_BYTES);
    let mut buf = vec![0; left.min(WINDOW_BYTES)];
    let mut at = from;
    while at < segment_size {
        let length = (segment_size - at).min(buf.len() as u64) as usize;
        let io = |source| RecoveryError::io(&segment.name, source);
        segment.file.read_at(&mut buf[..length], at).map_err(io)?;
        for offset in (0..length).step_by(BLOCK_BYTES) {
            let lsn = segment.lsn(at + offset as u64);
            let head = BatchHeader::decode(segment.seed, &buf[offset..], lsn);
            if let BatchHead::Good(header, _) = head {
                let room = segment_size - at - offset as u64;
                if header.fits(segment.header.epoch, lsn, room) {
                    mark = mark.max(header.durable);
                }
            }
        }
        at += length as u64;
    }
    Ok(mark)
}

impl Found {
    fn blank() -> Self {
        let signs = Signs {
            head: Head::Blank,
            place_fits: false,
            chain_fits: false,
            structure: false,
            payload: false,
            covered: false,
            linked: false,
        };
        Self { signs, batch: None, bytes: Bytes::new(), frames: Vec::new(), bad_at: 0 }
    }

    fn walk(&mut self, seed: u32, header: &BatchHeader) {
        let mut payload = true;
        let frames = &mut self.frames;
        let walked = format::batch_walk(seed, header, &self.bytes, |at, view| {
            payload &= view.payload_good;
            frames.push((at, view));
        });
        match walked {
            Ok(()) => {
                self.signs.structure = true;
                self.signs.payload = payload;
            }
            Err(at) => self.bad_at = at,
        }
    }
}

impl Place {
    /// `length` bytes at the place, from the window where they are in it.
    fn bytes(&mut self, length: usize, limit: u64) -> io::Result<Bytes> {
        let inside = self.offset.checked_sub(self.window.start).map(|at| at as usize);
        match inside {
            Some(at) if at + length <= self.window.bytes.len() => {
                return Ok(self.window.bytes.slice(at..at + length));
            }
            _ => {}
        }
        let left = (limit.min(self.segment.header.segment_size) - self.offset) as usize;
        let mut bytes = vec![0; left.min(WINDOW_BYTES.max(length))];
        self.segment.file.read_at(&mut bytes, self.offset)?;
        self.window = Window { start: self.offset, bytes: Bytes::from(bytes) };
        Ok(self.window.bytes.slice(..length))
    }
}
