//! Frames gathering into batches, in the very bytes that will be written.
//!
//! Owns the position where the next frame goes, and closes batches: at their size, at the end of
//! a segment, and when the log thread takes what is there. Pure but for the segments it names;
//! who waits for whom is the business of `log`.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::ids::Lsn;
use crate::io::blocks::Blocks;
use crate::wal::format::{self, BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader};
use crate::wal::segment::Segment;

/// Buffers kept for reuse: one gathers, one is written, one more for a roll.
const BUFFERS_MAX: usize = 3;

/// A buffer that one large frame has made larger than this is not kept.
const BUFFER_BYTES_MAX: usize = 8 << 20;

/// Batches that lie one after the other in one segment: one write.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) segment: Arc<Segment>,
    /// Where in the file the first byte goes.
    pub(crate) offset: u64,
    pub(crate) buf: Blocks,
    pub(crate) batches: Vec<Batch>,
}

/// A batch inside a run, as far as it is known before its turn in the chain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    /// Where in the run's buffer it begins.
    at: usize,
    count: u32,
    digest: u32,
}

/// The last link: what the next batch follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) value: u32,
    pub(crate) end: Lsn,
}

/// Where a frame will go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    SameBatch,
    NewBatch,
    NextSegment,
}

/// Where a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) lsn: Lsn,
    pub(crate) batch: Lsn,
}

#[derive(Debug)]
pub(crate) struct Gather {
    batch_bytes_max: usize,
    /// What a new buffer has room for: one that grows copies all of itself at a bad moment.
    room: usize,
    segment: Arc<Segment>,
    /// Where in the file the next run would begin; moves when what is gathered is taken.
    offset: u64,
    /// Oldest first; only the last one grows.
    runs: Vec<Run>,
    /// Whether the last batch of the last run still grows.
    open: bool,
    /// Bytes in finished runs and in the growing one.
    before_last: usize,
    spare: Vec<(Blocks, Vec<Batch>)>,
}

impl Gather {
    pub(crate) fn new(segment: Arc<Segment>, batch_bytes_max: usize, room: usize) -> Self {
        Self {
            batch_bytes_max,
            room,
            segment,
            offset: BLOCK_BYTES as u64,
            runs: Vec::new(),
            open: false,
            before_last: 0,
            spare: Vec::new(),
        }
    }

    /// Bytes gathered and not yet taken.
    pub(crate) fn bytes(&self) -> usize {
        self.before_last + self.runs.last().map_or(0, |run| run.buf.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(crate) fn ordinal(&self) -> u64 {
        self.segment.header.ordinal
    }

    /// The exclusive end of all that was placed.
    pub(crate) fn end(&self) -> Lsn {
        self.segment.lsn(self.file_end())
    }

    /// Where in the file of the current segment the next byte would go.
    fn file_end(&self) -> u64 {
        match self.runs.last() {
            Some(run) => run.offset + run.buf.len() as u64,
            None => self.offset,
        }
    }

    /// Where a frame of `bytes` goes.
    pub(crate) fn place(&self, bytes: usize) -> Place {
        debug_assert!(bytes.is_multiple_of(format::FRAME_ALIGN));
        if self.open {
            let (size, end) = (self.segment.header.segment_size, self.file_end());
            let run = self.runs.last().expect("an open batch lies in a run");
            let batch = run.batches.last().expect("an open batch is in its run");
            let batch_len = run.buf.len() - batch.at + bytes;
            if batch_len <= self.batch_bytes_max && end + bytes as u64 <= size {
                return Place::SameBatch;
            }
        }
        if self.may_roll(bytes) { Place::NextSegment } else { Place::NewBatch }
    }

    /// Whether a frame of `bytes` needs the next segment should it begin a batch: which it does if
    /// what has gathered is taken before the frame comes.
    pub(crate) fn may_roll(&self, bytes: usize) -> bool {
        let start = self.file_end().next_multiple_of(BLOCK_BYTES as u64);
        start + (BATCH_HEADER_BYTES + bytes) as u64 > self.segment.header.segment_size
    }

    /// Places a frame. A segment is taken from `ready` where `place` says so.
    pub(crate) fn append(
        &mut self,
        kind: u16,
        record: &[u8],
        payload: &[u8],
        ready: &mut VecDeque<Arc<Segment>>,
    ) -> Placed {
        self.make_place(format::frame_bytes(record.len(), payload.len()), ready);
        if !self.open {
            self.open_batch();
        }
        let seed = self.segment.seed;
        let first = self.segment.header.first_lsn().0;
        let run = self.runs.last_mut().expect("a batch is open");
        let batch = run.batches.last_mut().expect("a batch is open");
        let base = first + run.offset;
        let lsn = Lsn(base + run.buf.len() as u64);
        let frame = run.buf.grow(format::frame_bytes(record.len(), payload.len()));
        let sum = format::frame_encode(seed, lsn, kind, record, payload, frame);
        batch.digest = format::digest_next(batch.digest, sum);
        batch.count += 1;
        Placed { lsn, batch: Lsn(base + batch.at as u64) }
    }

    /// Places a batch without frames, which only carries a mark. `false` where there is no room.
    pub(crate) fn append_mark(&mut self, ready: &mut VecDeque<Arc<Segment>>) -> bool {
        assert!(self.is_empty(), "a mark stands alone");
        if self.place(0) == Place::NextSegment && ready.is_empty() {
            return false;
        }
        self.make_place(0, ready);
        self.open_batch();
        true
    }

    fn make_place(&mut self, bytes: usize, ready: &mut VecDeque<Arc<Segment>>) {
        match self.place(bytes) {
            Place::SameBatch => {}
            Place::NewBatch => self.close_batch(),
            Place::NextSegment => {
                self.close_batch();
                self.before_last = self.bytes();
                let next = ready.pop_front().expect("a frame is appended only when admitted");
                assert!(next.header.ordinal > self.ordinal(), "segments are used in order");
                self.segment = next;
                self.offset = BLOCK_BYTES as u64;
                self.open_run();
            }
        }
    }

    fn open_run(&mut self) {
        let fresh = || (Blocks::with_room(self.room), Vec::new());
        let (buf, batches) = self.spare.pop().unwrap_or_else(fresh);
        debug_assert!(buf.is_empty() && batches.is_empty());
        let (segment, offset) = (Arc::clone(&self.segment), self.offset);
        self.runs.push(Run { segment, offset, buf, batches });
    }

    fn open_batch(&mut self) {
        if self.runs.is_empty() {
            self.open_run();
        }
        let seed = self.segment.seed;
        let run = self.runs.last_mut().expect("just opened");
        let at = run.buf.len();
        run.batches.push(Batch { at, count: 0, digest: seed });
        run.buf.grow(BATCH_HEADER_BYTES);
        self.open = true;
    }

    fn close_batch(&mut self) {
        if self.open {
            let run = self.runs.last_mut().expect("an open batch lies in a run");
            run.buf.pad();
            self.open = false;
        }
    }

    /// Gives away everything gathered. What is placed from now on begins a new block.
    pub(crate) fn take(&mut self) -> Vec<Run> {
        self.close_batch();
        self.offset = self.file_end();
        self.before_last = 0;
        std::mem::take(&mut self.runs)
    }

    /// Takes the buffers of a finished group back.
    pub(crate) fn give_back(&mut self, runs: Vec<Run>) {
        for run in runs {
            let Run { mut buf, mut batches, .. } = run;
            if self.spare.len() < BUFFERS_MAX && buf.capacity() <= BUFFER_BYTES_MAX {
                buf.clear();
                batches.clear();
                self.spare.push((buf, batches));
            }
        }
    }
}

impl Run {
    /// Writes the headers of the run's batches, each following the one before it.
    pub(crate) fn finish(&mut self, mut chain: Chain, durable: Lsn) -> Chain {
        for index in 0..self.batches.len() {
            let batch = self.batches[index];
            let until = self.batches.get(index + 1).map_or(self.buf.len(), |next| next.at);
            let lsn = self.segment.lsn(self.offset + batch.at as u64);
            let length = until - batch.at;
            assert!(durable <= lsn, "the mark {durable} lies beyond the batch {lsn}");
            assert!(length.is_multiple_of(BLOCK_BYTES));
            let header = BatchHeader {
                count: batch.count,
                epoch: self.segment.header.epoch,
                lsn,
                durable,
                previous_end: chain.end,
                length: length as u32,
                digest: batch.digest,
                previous: chain.value,
            };
            let value = header.encode(self.segment.seed, &mut self.buf[batch.at..until]);
            chain = Chain { value, end: Lsn(lsn.0 + length as u64) };
        }
        chain
    }
}
