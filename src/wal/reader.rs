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
use crate::wal::format::{self, BATCH_HEADER_BYTES, BLOCK_BYTES, FRAME_ALIGN, FRAME_HEADER_BYTES};
use crate::wal::hold::{Held, Hold};
use crate::wal::segment::{Expected, Segment};
use crate::wal::sync::{AtomicU64, Ordering};

/// Files kept open for reading: well below the usual limit of 1024 descriptors a process.
const OPEN_MAX: usize = 128;

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
        if lsn >= self.catalog.durable() {
            return Err(ReadError::NotDurable { lsn });
        }
        let size = self.catalog.segment_size;
        let (ordinal, offset) = (lsn.0 / size, lsn.0 % size);
        let segment = self.catalog.open(ordinal, lsn)?;
        let damage = |part| Damage { file: segment.name.clone(), offset, lsn, part };
        // A length or position that no frame has comes from a damaged index as well as from a
        // damaged log; neither may make us allocate or read beyond a segment.
        let fits = frame_len as usize >= FRAME_HEADER_BYTES
            && offset >= (BLOCK_BYTES + BATCH_HEADER_BYTES) as u64
            && offset.is_multiple_of(FRAME_ALIGN as u64)
            && offset + u64::from(frame_len) <= size;
        if !fits {
            return Err(damage(Part::Structure).into());
        }
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
        let bytes = Bytes::from(bytes);
        let payload_at = view.header.payload_at();
        let payload_end = payload_at + view.header.payload_len as usize;
        Ok(Frame {
            kind: view.header.kind,
            record: bytes.slice(FRAME_HEADER_BYTES..payload_at),
            payload: bytes.slice(payload_at..payload_end),
        })
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
