//! Reading frames by their Lsn, from any thread, while the log goes on.
//!
//! Owns the catalog: which segments there are, and which of their files are open. A read holds its
//! segment, and a held segment is not recycled. At most [`OPEN_MAX`] files stay open.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;

use crate::ids::Lsn;
use crate::io::Storage;
use crate::wal::damage::{Damage, Part};
use crate::wal::error::RecoveryError;
use crate::wal::format::{
    self, BATCH_HEADER_BYTES, BLOCK_BYTES, FRAME_ALIGN, FRAME_HEADER_BYTES, FrameView,
};
use crate::wal::hold::{Held, Hold};
use crate::wal::segment::{Expected, Segment};
use crate::wal::sync::{AtomicU64, Ordering};

/// Files kept open for reading: well below the usual limit of 1024 descriptors a process.
const OPEN_MAX: usize = 128;

/// Bytes a [`ReadAhead`] reads at once where nothing follows.
const PIECE_BYTES_MIN: usize = 16 << 10;

/// Bytes it reads at once at most.
const PIECE_BYTES_MAX: usize = 256 << 10;

/// A frame as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The kind of its record.
    pub kind: u16,
    /// Its record.
    pub record: Bytes,
    /// Its payload; both share one allocation.
    pub payload: Bytes,
}

/// Why a frame could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Its segment is not part of the log any more.
    #[error("the segment of {lsn} is gone")]
    Gone {
        /// What was asked for.
        lsn: Lsn,
    },
    /// It is not on the disk yet.
    #[error("{lsn} is not durable yet")]
    NotDurable {
        /// What was asked for.
        lsn: Lsn,
    },
    /// Its bytes are not what was written.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The file could not be read.
    #[error("{file}: {source}")]
    Io {
        /// The segment's file name.
        file: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Reads frames of one log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader {
    catalog: Arc<Catalog>,
}

impl Reader {
    pub(crate) fn new(catalog: Arc<Catalog>) -> Self {
        Self { catalog }
    }

    /// Keeps the segment of `lsn` from being recycled while the pin lives: for one who will read
    /// many frames of it and must not lose it on the way.
    pub fn pin(&self, lsn: Lsn) -> Result<Pin, ReadError> {
        let ordinal = lsn.0 / self.catalog.segment_size;
        Ok(Pin { _segment: self.catalog.open(ordinal, lsn)? })
    }

    /// Keeps every segment there is, and every one to come, from being taken back; `None` where
    /// someone else does so already.
    pub fn hold(&self) -> Option<Hold> {
        Hold::take(&self.catalog)
    }

    /// Reads the frame at `lsn`, which takes `frame_len` bytes, and checks both its checksums.
    pub fn read(&self, lsn: Lsn, frame_len: u32) -> Result<Frame, ReadError> {
        let segment = self.locate(lsn, frame_len)?;
        let offset = lsn.0 % self.catalog.segment_size;
        let damage = |part| Damage { file: segment.name.clone(), offset, lsn, part };
        let mut bytes = vec![0; frame_len as usize];
        match segment.file.read_at(&mut bytes, offset) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(damage(Part::Structure).into());
            }
            Err(source) => return Err(ReadError::Io { file: segment.name.clone(), source }),
        }
        let view = format::frame_decode(segment.seed, lsn, &bytes)
            .ok_or_else(|| damage(Part::Structure))?;
        if !view.payload_good {
            return Err(damage(Part::Payload).into());
        }
        Ok(Frame::of(&view, Bytes::from(bytes)))
    }

    /// The segment of a frame that can be there, by its position and length.
    fn locate(&self, lsn: Lsn, frame_len: u32) -> Result<Arc<Segment>, ReadError> {
        if lsn >= self.catalog.durable() {
            return Err(ReadError::NotDurable { lsn });
        }
        let size = self.catalog.segment_size;
        let (ordinal, offset) = (lsn.0 / size, lsn.0 % size);
        let segment = self.catalog.open(ordinal, lsn)?;
        // A length or position that no frame has comes from a damaged index as well as from a
        // damaged log; neither may make us allocate or read beyond a segment.
        let fits = frame_len as usize >= FRAME_HEADER_BYTES
            && offset >= (BLOCK_BYTES + BATCH_HEADER_BYTES) as u64
            && offset.is_multiple_of(FRAME_ALIGN as u64)
            && offset + u64::from(frame_len) <= size;
        if fits {
            return Ok(segment);
        }
        let (file, part) = (segment.name.clone(), Part::Structure);
        Err(Damage { file, offset, lsn, part }.into())
    }
}

impl Frame {
    /// The frame that `bytes` hold, as `view` has found it.
    fn of(view: &FrameView, bytes: Bytes) -> Self {
        let payload_at = view.header.payload_at();
        let payload_end = payload_at + view.header.payload_len as usize;
        Self {
            kind: view.header.kind,
            record: bytes.slice(FRAME_HEADER_BYTES..payload_at),
            payload: bytes.slice(payload_at..payload_end),
        }
    }
}

/// Reads frames that tend to follow each other: a piece of the log at a time, growing while they
/// do. What it holds of a segment was durable when it was read, so it stays true.
#[derive(Debug)]
pub struct ReadAhead {
    reader: Reader,
    piece: Vec<u8>,
    /// The position of the first byte of `piece`.
    start: Lsn,
    /// The seed of its segment's checksums.
    seed: u32,
    /// Bytes that the next piece will have.
    want: usize,
}

impl ReadAhead {
    /// Reads by way of `reader`.
    #[must_use]
    pub fn new(reader: Reader) -> Self {
        Self { reader, piece: Vec::new(), start: Lsn(0), seed: 0, want: PIECE_BYTES_MIN }
    }

    /// As [`Reader::read`].
    ///
    /// # Errors
    /// As there.
    pub fn read(&mut self, lsn: Lsn, frame_len: u32) -> Result<Frame, ReadError> {
        if let Some(frame) = self.find(lsn, frame_len) {
            return Ok(frame);
        }
        if frame_len as usize <= PIECE_BYTES_MAX / 4 {
            self.fetch(lsn, frame_len);
            if let Some(frame) = self.find(lsn, frame_len) {
                return Ok(frame);
            }
        }
        // Large, or not as it should be: read by itself it tells what is wrong.
        self.reader.read(lsn, frame_len)
    }

    /// Takes a whole frame out of the piece. Its bytes are copied, since one small message must
    /// not keep a large piece in memory.
    fn find(&self, lsn: Lsn, frame_len: u32) -> Option<Frame> {
        let at = usize::try_from(lsn.0.checked_sub(self.start.0)?).ok()?;
        let bytes = self.piece.get(at..at.checked_add(frame_len as usize)?)?;
        let view = format::frame_decode(self.seed, lsn, bytes)?;
        view.payload_good.then(|| Frame::of(&view, Bytes::copy_from_slice(bytes)))
    }

    /// Fills the piece from `lsn` on; leaves it empty where that fails.
    fn fetch(&mut self, lsn: Lsn, frame_len: u32) {
        let end = self.start.0 + self.piece.len() as u64;
        let follows = lsn.0 >= self.start.0 && lsn.0 <= end + PIECE_BYTES_MIN as u64;
        self.want = if follows { self.want * 2 } else { PIECE_BYTES_MIN };
        self.want = self.want.min(PIECE_BYTES_MAX);
        self.piece.clear();
        let Ok(segment) = self.reader.locate(lsn, frame_len) else { return };
        let size = self.reader.catalog.segment_size;
        let segment_end = (lsn.0 / size + 1) * size;
        let end = self.reader.catalog.durable().0.min(segment_end);
        let len = (self.want.max(frame_len as usize) as u64).min(end - lsn.0);
        self.piece.resize(len as usize, 0);
        if segment.file.read_at(&mut self.piece, lsn.0 % size).is_err() {
            self.piece.clear();
        }
        (self.start, self.seed) = (lsn, segment.seed);
    }
}

/// Holds the segment of a frame in its place; see [`Reader::pin`].
#[derive(Debug)]
pub struct Pin {
    _segment: Arc<Segment>,
}

/// The segments there are, and the open ones among them.
#[derive(Debug)]
pub(crate) struct Catalog {
    storage: Arc<dyn Storage>,
    segment_size: u64,
    durable: Arc<AtomicU64>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// By ordinal: which file it is, and the open file where someone holds it.
    segments: BTreeMap<u64, (Expected, Weak<Segment>)>,
    /// The files kept open, least recently opened first.
    open: VecDeque<Arc<Segment>>,
    /// What someone who copies them keeps from being taken back.
    held: Held,
}

/// What became of a segment that was to go.
#[derive(Debug)]
pub(crate) enum Removed {
    /// Nobody holds it; this is its file.
    Yes(Expected),
    /// Someone reads it: ask again later.
    Pinned,
    /// It is not there.
    Unknown,
}

impl Catalog {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        segment_size: u64,
        durable: Arc<AtomicU64>,
    ) -> Self {
        Self { storage, segment_size, durable, known: Mutex::default() }
    }

    fn durable(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    /// Changes what is held.
    pub(crate) fn held<T>(&self, change: impl FnOnce(&mut Held) -> T) -> T {
        change(&mut self.known().held)
    }

    /// Every segment there is, by ordinal.
    pub(crate) fn files(&self) -> Vec<Expected> {
        self.known().segments.values().map(|(file, _)| *file).collect()
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        // Every change under this lock is one call long, so a dead reader leaves it whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn insert(&self, segment: Expected) {
        self.known().segments.insert(segment.ordinal, (segment, Weak::new()));
    }

    /// Enters a segment that is open already.
    pub(crate) fn insert_open(&self, segment: &Arc<Segment>) {
        let (file, open) = (Expected::original(&segment.header), Arc::downgrade(segment));
        self.known().segments.insert(file.ordinal, (file, open));
    }

    fn open(&self, ordinal: u64, lsn: Lsn) -> Result<Arc<Segment>, ReadError> {
        let want = {
            let known = self.known();
            let (file, open) = known.segments.get(&ordinal).ok_or(ReadError::Gone { lsn })?;
            match open.upgrade() {
                Some(segment) => return Ok(segment),
                None => *file,
            }
        };
        // Opened without the lock: a slow disk stops only those who want this file.
        let opened = Segment::open(&*self.storage, &want);
        let mut known = self.known();
        let Some((_, open)) = known.segments.get_mut(&ordinal) else {
            // It went while we opened it: what we hold may be recycled under our hands.
            return Err(ReadError::Gone { lsn });
        };
        if let Some(segment) = open.upgrade() {
            return Ok(segment);
        }
        let segment = Arc::new(opened.map_err(|error| read_error(error, &want, lsn))?);
        *open = Arc::downgrade(&segment);
        known.open.push_back(Arc::clone(&segment));
        if known.open.len() > OPEN_MAX {
            known.open.pop_front();
        }
        Ok(segment)
    }

    /// Takes a segment out, unless someone holds it. From then on its reads find it gone.
    pub(crate) fn remove(&self, ordinal: u64) -> Removed {
        let mut known = self.known();
        if known.held.holds(ordinal) {
            return Removed::Pinned;
        }
        known.open.retain(|segment| segment.header.ordinal != ordinal);
        match known.segments.get(&ordinal) {
            None => Removed::Unknown,
            Some((_, open)) if open.strong_count() > 0 => Removed::Pinned,
            Some((file, _)) => {
                let file = *file;
                known.segments.remove(&ordinal);
                Removed::Yes(file)
            }
        }
    }
}

fn read_error(error: RecoveryError, want: &Expected, lsn: Lsn) -> ReadError {
    let file = want.name();
    match error {
        RecoveryError::Io { file, source } => ReadError::Io { file, source },
        // A segment that is gone or is another one now: all of it is damaged, this frame too.
        _ => Damage { file, offset: lsn.0 % want.segment_size, lsn, part: Part::Structure }.into(),
    }
}
