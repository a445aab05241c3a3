//! The log in use: what the engine appends, the log thread makes durable.
//!
//! Owns the hand-over between the two, under one small lock: the engine appends and submits while
//! a group is on its way to the disk, and the log thread takes whatever has gathered meanwhile.
//! There is no timer: an idle log writes at once what is submitted, a busy one after the last sync.
//! So what one turn of the engine appends shares a sync, unless the one before ends meanwhile.
//!
//! Always: one group at a time is under way; `durable` only grows, and only after a sync; after
//! the first failure nothing is taken, and nothing ever becomes durable again.
//! Leaves to others: bytes (`gather`, `format`), new segments (`room`), whether this process still
//! owns the store (its owner, who looks after every sync and before any answer).

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::ids::Lsn;
use crate::wal::Options;
use crate::wal::format::{self, FRAME_ALIGN, PackId};
use crate::wal::gather::{Chain, Gather, Run};
use crate::wal::segment::Segment;
use crate::wal::sync::{AtomicU64, Condvar, Mutex, Ordering, lock};

/// So much is submitted by itself: it takes longer to write than to start.
const SUBMIT_BYTES: usize = 64 << 10;

/// What a frame is for, when room is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Brings something in.
    Send,
    /// Takes something out, so helps to make room: may use the reserve.
    Clear,
}

/// Whether a frame may be appended now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Admission {
    /// It may.
    Yes,
    /// Not yet: too much waits for the disk, or a segment is being made.
    Wait,
    /// The disk is full: making a segment failed, and none was made since.
    Full,
}

/// Where a frame was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its position: its name for ever.
    pub lsn: Lsn,
    /// The first byte of its batch: where a replay up to it begins.
    pub batch: Lsn,
    /// Bytes it takes, so what a reader must ask for.
    pub frame_len: u32,
}

/// The write or sync that ended the log.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the log failed at {at}: {cause}")]
pub struct Failure {
    /// Nothing from here on is known to be durable.
    pub at: Lsn,
    /// What the system said.
    pub cause: Arc<io::Error>,
}

/// Why the log thread woke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Something was submitted.
    Work,
    /// The log is closed and all of it is written, or it has failed.
    Closed,
}

/// The log of one owner.
///
/// The engine calls [`admit`](Log::admit), [`append`](Log::append) and [`submit`](Log::submit); one
/// log thread calls [`wait`](Log::wait), [`take`](Log::take), and [`complete`](Log::complete).
#[derive(Debug)]
pub struct Log {
    options: Options,
    epoch: u64,
    state: Mutex<State>,
    /// The log thread waits here for something to write.
    work: Condvar,
    /// The maker of segments waits here for something to make.
    making: Condvar,
    /// A copy of the state's, for readers, who take no lock of the log.
    durable: Arc<AtomicU64>,
}

#[derive(Debug)]
struct State {
    gather: Gather,
    ready: VecDeque<Arc<Segment>>,
    chain: Chain,
    durable: Lsn,
    /// The exclusive end of the group on its way to the disk.
    in_flight: Option<Lsn>,
    failure: Option<Failure>,
    closed: bool,
    /// The log thread may take what has gathered; what is added meanwhile goes with it.
    submitted: bool,
    /// Making a segment failed for lack of room.
    full: bool,
    /// The disk may have room again: making a segment is to be tried once more. Until that
    /// succeeds the disk counts as full, so that senders are told and not kept waiting.
    retry: bool,
    log_waits: bool,
    /// Dead files that the maker has not yet been told of.
    retired: Vec<Dead>,
    /// Little happens: spares only take room.
    resting: bool,
}

/// A file in which nothing is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dead {
    /// The segment with this ordinal.
    Segment(u64),
    Pack(PackId),
}

/// Everything gathered up to one moment: written, then synced, then completed.
#[derive(Debug)]
#[must_use = "a group that is not completed stops the log"]
pub struct Group {
    runs: Vec<Run>,
    chain: Chain,
    /// Where the group begins: what a failure names.
    start: Lsn,
}

/// What the maker of segments finds to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) segment: bool,
    pub(crate) closed: bool,
    /// Spares to be kept at most.
    pub(crate) spares: usize,
}

impl Log {
    pub(crate) fn new(
        options: Options,
        segment: Arc<Segment>,
        seal_sum: u32,
        durable: Arc<AtomicU64>,
    ) -> Self {
        let epoch = segment.header.epoch;
        let gather = Gather::new(segment, options.batch_bytes(), options.gather_bytes_max);
        let end = gather.end();
        durable.store(end.0, Ordering::Release);
        let state = State {
            gather,
            ready: VecDeque::new(),
            chain: Chain { value: seal_sum, end: Lsn(0) },
            durable: end,
            in_flight: None,
            failure: None,
            closed: false,
            submitted: false,
            full: false,
            retry: false,
            log_waits: false,
            retired: Vec::new(),
            resting: false,
        };
        let state = Mutex::new(state);
        Self { options, epoch, state, work: Condvar::new(), making: Condvar::new(), durable }
    }

    /// The owner's epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Bytes of a segment.
    pub fn segment_size(&self) -> u64 {
        self.options.segment_size
    }

    /// Bytes a frame takes in the log.
    pub const fn frame_bytes(record: usize, payload: usize) -> usize {
        format::frame_bytes(record, payload)
    }

    /// Bytes a frame may take at most.
    pub fn frame_bytes_max(&self) -> usize {
        self.options.frame_bytes()
    }

    /// Bytes of the largest payload that leaves a quarter of the largest frame, though no more
    /// than 64 KiB, for its head and record.
    pub fn payload_max(&self) -> usize {
        let frame = self.options.frame_bytes();
        (frame - (frame / 4).min(64 << 10)) / FRAME_ALIGN * FRAME_ALIGN
    }

    /// Whether one frame of `bytes` (see [`Log::frame_bytes`]) may be appended now. The answer
    /// holds until the next `append`, whatever the other threads do meanwhile.
    pub fn admit(&self, bytes: usize, class: Class) -> Admission {
        assert!(bytes <= self.options.frame_bytes(), "a frame of {bytes} bytes never fits");
        let bytes = bytes.next_multiple_of(FRAME_ALIGN);
        let state = lock(&self.state);
        let gathered = state.gather.bytes();
        if gathered > 0 && gathered + bytes > self.options.gather_bytes_max {
            return Admission::Wait;
        }
        // The log thread may take the open batch before the frame comes, and so close it.
        let rolls = state.gather.may_roll(bytes);
        let left = state.ready.len().checked_sub(usize::from(rolls));
        let enough = left.is_some_and(|left| match class {
            Class::Send => left as u64 * self.options.segment_size >= self.options.reserve_bytes,
            Class::Clear => true,
        });
        match (enough, state.full) {
            (true, _) => Admission::Yes,
            (false, false) => Admission::Wait,
            (false, true) => Admission::Full,
        }
    }

    /// Appends a frame: a record of `kind`, and a payload that belongs to it.
    ///
    /// The log thread takes it once it is submitted, which much does by itself. It is durable once
    /// [`durable`](Log::durable) is greater than its Lsn: never, after a failure. A failure is no
    /// reason to refuse it, since the disk may fail between any look at
    /// [`failure`](Log::failure) and the append.
    ///
    /// # Panics
    ///
    /// Where the frame was not admitted, where `kind` is zero, and after `close`.
    pub fn append(&self, kind: u16, record: &[u8], payload: &[u8]) -> Appended {
        assert_ne!(kind, 0, "kind zero means never written");
        let frame_len = format::frame_bytes(record.len(), payload.len());
        assert!(frame_len <= self.options.frame_bytes(), "a frame of {frame_len} bytes");
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        assert!(!state.closed, "the log is closed");
        let ready_before = state.ready.len();
        let placed = state.gather.append(kind, record, payload, &mut state.ready);
        if state.ready.len() < ready_before {
            state.resting = false;
            self.making.notify_one();
        }
        if state.gather.bytes() >= SUBMIT_BYTES {
            self.hand_over(state);
        }
        Appended { lsn: placed.lsn, batch: placed.batch, frame_len: frame_len as u32 }
    }

    /// Gives the log thread all that has gathered, to write when the group under way is durable.
    pub fn submit(&self) {
        let mut state = lock(&self.state);
        if !state.gather.is_empty() {
            self.hand_over(&mut state);
        }
    }

    /// Whether something has gathered that waits to be submitted.
    pub fn lingers(&self) -> bool {
        let state = lock(&self.state);
        !state.gather.is_empty() && !state.submitted
    }

    fn hand_over(&self, state: &mut State) {
        state.submitted = true;
        if state.log_waits {
            state.log_waits = false;
            self.work.notify_one();
        }
    }

    /// Gathers an empty batch whose mark says that everything before it is durable: the next start
    /// then knows that nothing is missing. Call it last, when `durable` has reached `appended`;
    /// the log thread writes it like any batch. `false`: not all is durable, or there is no room.
    pub fn goodbye(&self) -> bool {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let quiet = state.gather.is_empty() && state.in_flight.is_none();
        if !quiet || state.closed || state.failure.is_some() {
            return false;
        }
        if !state.gather.append_mark(&mut state.ready) {
            return false;
        }
        self.hand_over(state);
        true
    }

    /// The exclusive end of everything appended.
    pub fn appended(&self) -> Lsn {
        lock(&self.state).gather.end()
    }

    /// The exclusive end of what is durable: a record is durable when its Lsn lies before it.
    pub fn durable(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    /// Whether the disk was found full and no segment was made since.
    pub fn is_full(&self) -> bool {
        lock(&self.state).full
    }

    /// Whether what was gathered has reached the disk and nothing is under way.
    pub fn is_quiet(&self) -> bool {
        let state = lock(&self.state);
        state.gather.is_empty() && state.in_flight.is_none()
    }

    /// Bytes gathered and not yet taken.
    pub fn gathered(&self) -> usize {
        lock(&self.state).gather.bytes()
    }

    /// The failure that ended the log, if one did.
    pub fn failure(&self) -> Option<Failure> {
        lock(&self.state).failure.clone()
    }

    /// Everything gathered so far, finished for writing. `None` where nothing was submitted, while
    /// a group is under way, and after a failure.
    pub fn take(&self) -> Option<Group> {
        let (mut runs, mut chain, durable) = {
            let mut state = lock(&self.state);
            if !state.submitted || state.in_flight.is_some() || state.failure.is_some() {
                return None;
            }
            state.submitted = false;
            let runs = state.gather.take();
            state.in_flight = Some(state.gather.end());
            (runs, state.chain, state.durable)
        };
        // The headers are finished outside the lock: nobody else sees these bytes any more.
        let start = runs[0].segment.lsn(runs[0].offset);
        for run in &mut runs {
            chain = run.finish(chain, durable);
        }
        Some(Group { runs, chain, start })
    }

    /// Blocks the log thread until there is something to take, or nothing ever will be.
    pub fn wait(&self) -> Wake {
        let mut state = lock(&self.state);
        loop {
            if state.failure.is_some() {
                return Wake::Closed;
            }
            if state.submitted && state.in_flight.is_none() {
                return Wake::Work;
            }
            if state.closed && state.in_flight.is_none() {
                return Wake::Closed;
            }
            state.log_waits = true;
            state = self.work.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    /// Says how the writing and the syncing of a group went; returns what is durable now.
    ///
    /// An error ends the log: after it nobody knows what the disk holds, and a second sync that
    /// succeeds would prove nothing.
    pub fn complete(&self, group: Group, result: io::Result<()>) -> Result<Lsn, Failure> {
        let mut state = lock(&self.state);
        let end = state.in_flight.take().expect("a group is completed once, after it was taken");
        let answer = match result {
            Ok(()) => {
                assert!(end > state.durable, "durable moves from {} to {end}", state.durable);
                assert_eq!(group.chain.end, end, "the group ends where it was taken");
                state.chain = group.chain;
                state.durable = end;
                self.durable.store(end.0, Ordering::Release);
                state.gather.give_back(group.runs);
                Ok(end)
            }
            Err(cause) => {
                let failure = Failure { at: group.start, cause: Arc::new(cause) };
                state.failure = Some(failure.clone());
                self.making.notify_all();
                Err(failure)
            }
        };
        self.work.notify_all();
        answer
    }

    /// Ends appending. The log thread still writes what has gathered, then finds the log closed.
    pub fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        state.submitted = !state.gather.is_empty();
        drop(state);
        self.work.notify_all();
        self.making.notify_all();
    }

    /// Hands dead segments to the maker of segments, which may be another thread. Only for
    /// ordinals whose death is durable in the index, by an owner that has looked for a later
    /// claim since.
    pub fn retire(&self, ordinals: &[u64]) {
        let mut state = lock(&self.state);
        for ordinal in ordinals {
            assert!(*ordinal < state.gather.ordinal(), "segment {ordinal} is in use");
        }
        state.retired.extend(ordinals.iter().map(|ordinal| Dead::Segment(*ordinal)));
        self.making.notify_one();
    }

    /// Hands dead packs to the maker of segments, as [`Log::retire`] does segments.
    pub fn retire_packs(&self, packs: &[PackId]) {
        lock(&self.state).retired.extend(packs.iter().map(|id| Dead::Pack(*id)));
        self.making.notify_one();
    }

    /// Lets no spare files be kept until a new segment is begun: little happens, and they would
    /// only take room.
    pub fn rest(&self) {
        lock(&self.state).resting = true;
        self.making.notify_one();
    }

    /// Whether the log takes nothing more.
    pub fn is_closed(&self) -> bool {
        let state = lock(&self.state);
        state.closed || state.failure.is_some()
    }

    /// Lets the maker of segments try again after it found the disk full.
    pub fn retry_room(&self) {
        lock(&self.state).retry = true;
        self.making.notify_one();
    }

    /// Segments ready ahead of the one in use.
    pub fn ready(&self) -> usize {
        lock(&self.state).ready.len()
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// Blocks the maker of segments until it has something to do, given how many spares it keeps;
    /// no longer than `moment`, if that is given.
    pub(crate) fn wait_room(&self, spares: usize, moment: Option<Duration>) -> Wake {
        let mut state = lock(&self.state);
        loop {
            if state.closed || state.failure.is_some() {
                return Wake::Closed;
            }
            let wanted = state.ready.len() < self.options.ready_segments;
            let short = wanted && (!state.full || state.retry);
            if short || !state.retired.is_empty() || spares > self.spares_max(&state) {
                return Wake::Work;
            }
            let Some(moment) = moment else {
                state = self.making.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
                continue;
            };
            let waited = self.making.wait_timeout(state, moment);
            drop(waited.unwrap_or_else(|poisoned| poisoned.into_inner()));
            return Wake::Work;
        }
    }

    fn spares_max(&self, state: &State) -> usize {
        if state.resting { 0 } else { self.options.spare_segments_max }
    }

    pub(crate) fn wanted(&self) -> Wanted {
        let state = lock(&self.state);
        let closed = state.closed || state.failure.is_some();
        let segment = state.ready.len() < self.options.ready_segments;
        Wanted { segment, closed, spares: self.spares_max(&state) }
    }

    pub(crate) fn retired(&self) -> Vec<Dead> {
        std::mem::take(&mut lock(&self.state).retired)
    }

    pub(crate) fn made(&self, segment: Arc<Segment>) {
        let mut state = lock(&self.state);
        let last = state.ready.back().map_or(state.gather.ordinal(), |last| last.header.ordinal);
        assert_eq!(segment.header.ordinal, last + 1, "segments are made in order");
        state.ready.push_back(segment);
        (state.full, state.retry) = (false, false);
    }

    pub(crate) fn found_full(&self) {
        let mut state = lock(&self.state);
        (state.full, state.retry) = (true, false);
    }

    /// The number of the next segment to make.
    pub(crate) fn next_ordinal(&self) -> u64 {
        let state = lock(&self.state);
        state.ready.back().map_or(state.gather.ordinal(), |last| last.header.ordinal) + 1
    }
}

impl Group {
    /// Writes every run: one write for what lies together.
    pub fn write(&mut self) -> io::Result<()> {
        for run in &self.runs {
            run.segment.file.write_blocks(&run.buf, run.offset)?;
        }
        Ok(())
    }

    /// Makes every file that was written durable, in the order of the log.
    pub fn sync(&self) -> io::Result<()> {
        for run in &self.runs {
            run.segment.file.sync()?;
        }
        Ok(())
    }

    /// Bytes of the group.
    pub fn bytes(&self) -> usize {
        self.runs.iter().map(|run| run.buf.len()).sum()
    }

    /// Where the group begins.
    pub fn start(&self) -> Lsn {
        self.start
    }
}
