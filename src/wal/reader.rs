//! Reading frames by their Lsn, from any thread, while the log goes on.
//!
//! Owns the catalog: which segments and packs there are, and which of their files are open. A read
//! holds its file, and a held file is neither recycled nor removed. At most [`OPEN_MAX`] segments
//! and [`OPEN_PACKS_MAX`] packs stay open.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::{Bytes, BytesMut};

use crate::ids::Lsn;
use crate::io::Storage;
use crate::wal::damage::{Damage, Part};
use crate::wal::error::RecoveryError;
use crate::wal::format::{
    self, BATCH_HEADER_BYTES, BLOCK_BYTES, FRAME_ALIGN, FRAME_HEADER_BYTES, FrameView, PackId,
};
use crate::wal::hold::{Held, Hold};
use crate::wal::lineage::Lineage;
use crate::wal::names;
use crate::wal::pack::{Pack, Piece};
use crate::wal::segment::{Expected, Segment};
use crate::wal::sync::{AtomicU64, Ordering};

/// Files kept open for reading: well below the usual limit of 1024 descriptors a process.
const OPEN_MAX: usize = 128;

/// Packs kept open for reading: what a reader holds of each are some numbers for every mebibyte.
const OPEN_PACKS_MAX: usize = 64;

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

    /// Keeps the file that holds `lsn` from being recycled or removed while the pin lives: for one
    /// who will read many frames of it and must not lose it on the way.
    pub fn pin(&self, lsn: Lsn) -> Result<Pin, ReadError> {
        let ordinal = lsn.0 / self.catalog.segment_size;
        Ok(Pin { _home: self.catalog.open(ordinal, lsn)? })
    }

    /// Keeps every segment there is, and every one to come, from being taken back; `None` where
    /// someone else does so already.
    pub fn hold(&self) -> Option<Hold> {
        Hold::take(&self.catalog)
    }

    /// Reads the frame at `lsn`, which takes `frame_len` bytes, and checks both its checksums.
    pub fn read(&self, lsn: Lsn, frame_len: u32) -> Result<Frame, ReadError> {
        let segment = match self.locate(lsn, frame_len)? {
            Home::Segment(segment) => segment,
            Home::Pack(pack) => return pack.read(lsn, frame_len),
        };
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

    /// Where a frame lies that can be there, by its position and length.
    fn locate(&self, lsn: Lsn, frame_len: u32) -> Result<Home, ReadError> {
        if lsn >= self.catalog.durable() {
            return Err(ReadError::NotDurable { lsn });
        }
        let size = self.catalog.segment_size;
        let (ordinal, offset) = (lsn.0 / size, lsn.0 % size);
        let home = self.catalog.open(ordinal, lsn)?;
        // A length or position that no frame has comes from a damaged index as well as from a
        // damaged log; neither may make us allocate or read beyond a segment.
        let fits = frame_len as usize >= FRAME_HEADER_BYTES
            && offset >= (BLOCK_BYTES + BATCH_HEADER_BYTES) as u64
            && offset.is_multiple_of(FRAME_ALIGN as u64)
            && offset + u64::from(frame_len) <= size;
        if fits {
            return Ok(home);
        }
        let (file, offset) = match &home {
            Home::Segment(segment) => (segment.name.clone(), offset),
            Home::Pack(pack) => (pack.name.clone(), 0),
        };
        Err(Damage { file, offset, lsn, part: Part::Structure }.into())
    }
}

impl Frame {
    /// The frame that `bytes` hold, as `view` has found it.
    pub(crate) fn of(view: &FrameView, bytes: Bytes) -> Self {
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
    /// A piece of a pack, where the frames read last lie in one.
    packed: Option<Piece>,
    piece: Vec<u8>,
    /// The position of the first byte of `piece`.
    start: Lsn,
    /// The seed of its segment's checksums.
    seed: u32,
    /// Bytes that the next piece will have.
    want: usize,
    /// Where the next payloads are copied to as long as it has room.
    shared: BytesMut,
}

impl ReadAhead {
    /// Reads by way of `reader`.
    #[must_use]
    pub fn new(reader: Reader) -> Self {
        let (piece, packed, shared) = (Vec::new(), None, BytesMut::new());
        Self { reader, packed, piece, start: Lsn(0), seed: 0, want: PIECE_BYTES_MIN, shared }
    }

    /// The next payloads, of so many bytes in all, share one allocation, which lives as long as
    /// any of them: for one who gets them together and lets go of them together.
    pub fn share(&mut self, bytes: usize) {
        self.shared = BytesMut::with_capacity(bytes);
    }

    /// The payload of a frame; for the rest see [`Reader::read`].
    ///
    /// # Errors
    /// As there.
    pub fn read(&mut self, lsn: Lsn, frame_len: u32) -> Result<Bytes, ReadError> {
        if let Some(payload) = self.find(lsn, frame_len) {
            return Ok(payload);
        }
        if frame_len as usize <= PIECE_BYTES_MAX / 4 {
            self.fetch(lsn, frame_len);
            if let Some(payload) = self.find(lsn, frame_len) {
                return Ok(payload);
            }
        }
        // Large, or not as it should be: read by itself it tells what is wrong.
        self.reader.read(lsn, frame_len).map(|frame| frame.payload)
    }

    /// Takes the payload of a whole frame out of the piece. It is copied, since one small message
    /// must not keep a large piece in memory.
    fn find(&mut self, lsn: Lsn, frame_len: u32) -> Option<Bytes> {
        if let Some(packed) = &self.packed {
            let payload = packed.find(lsn, frame_len)?;
            return Some(copy(&mut self.shared, payload));
        }
        let at = usize::try_from(lsn.0.checked_sub(self.start.0)?).ok()?;
        let bytes = self.piece.get(at..at.checked_add(frame_len as usize)?)?;
        let view = format::frame_decode(self.seed, lsn, bytes)?;
        view.payload_good.then(|| copy(&mut self.shared, view.payload_of(bytes)))
    }

    /// Fills the piece from `lsn` on; leaves it empty where that fails.
    fn fetch(&mut self, lsn: Lsn, frame_len: u32) {
        let end = self.start.0 + self.piece.len() as u64;
        let follows = match self.packed.take() {
            Some(packed) => packed.is_followed_by(lsn),
            None => lsn.0 >= self.start.0 && lsn.0 <= end + PIECE_BYTES_MIN as u64,
        };
        self.want = if follows { self.want * 2 } else { PIECE_BYTES_MIN };
        self.want = self.want.min(PIECE_BYTES_MAX);
        // What it had is overwritten: to clear it first would cost as much as to read it.
        let mut piece = std::mem::take(&mut self.piece);
        let segment = match self.reader.locate(lsn, frame_len) {
            Ok(Home::Segment(segment)) => segment,
            Ok(Home::Pack(pack)) => {
                self.packed = pack.piece(lsn, self.want as u64);
                return;
            }
            Err(_) => return,
        };
        let size = self.reader.catalog.segment_size;
        let segment_end = (lsn.0 / size + 1) * size;
        let end = self.reader.catalog.durable().0.min(segment_end);
        let len = (self.want.max(frame_len as usize) as u64).min(end - lsn.0);
        piece.resize(len as usize, 0);
        if segment.file.read_at(&mut piece, lsn.0 % size).is_ok() {
            self.piece = piece;
        }
        (self.start, self.seed) = (lsn, segment.seed);
    }
}

/// A copy of a payload; in `shared`, where that has room.
fn copy(shared: &mut BytesMut, payload: &[u8]) -> Bytes {
    if payload.is_empty() || payload.len() > shared.capacity() {
        return Bytes::copy_from_slice(payload);
    }
    shared.extend_from_slice(payload);
    shared.split().freeze()
}

/// Holds the file of a frame in its place; see [`Reader::pin`].
#[derive(Debug)]
pub struct Pin {
    _home: Home,
}

/// Where the frames of a segment lie now.
#[derive(Clone, Debug)]
pub(crate) enum Home {
    /// Where they were written.
    Segment(Arc<Segment>),
    /// What was live of them was copied here.
    Pack(Arc<Pack>),
}

/// The segments and packs there are, and the open ones among them.
#[derive(Debug)]
pub(crate) struct Catalog {
    storage: Arc<dyn Storage>,
    lineage: Lineage,
    segment_size: u64,
    durable: Arc<AtomicU64>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// By ordinal: which file it is, and the open file where someone holds it.
    segments: BTreeMap<u64, (Expected, Weak<Segment>)>,
    /// The segments kept open, least recently opened first.
    open: VecDeque<Arc<Segment>>,
    /// The segments, by ordinal, whose live frames lie in a pack.
    packed: BTreeMap<u64, PackId>,
    packs: BTreeMap<PackId, Weak<Pack>>,
    /// The packs kept open, least recently opened first.
    open_packs: VecDeque<Arc<Pack>>,
    /// What someone who copies them keeps from being taken back.
    held: Held,
}

/// What a position leads to, before it is opened.
enum Want {
    Segment(Expected),
    Pack(PackId),
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
        lineage: Lineage,
        segment_size: u64,
        durable: Arc<AtomicU64>,
    ) -> Self {
        Self { storage, lineage, segment_size, durable, known: Mutex::default() }
    }

    fn durable(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    pub(crate) fn lineage(&self) -> &Lineage {
        &self.lineage
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

    /// Enters a pack, which from now on is where the live frames of these segments are read.
    pub(crate) fn insert_pack(&self, id: PackId, ordinals: &[u64]) {
        let mut known = self.known();
        known.packs.entry(id).or_default();
        known.packed.extend(ordinals.iter().map(|ordinal| (*ordinal, id)));
    }

    pub(crate) fn open(&self, ordinal: u64, lsn: Lsn) -> Result<Home, ReadError> {
        loop {
            let want = {
                let known = self.known();
                let open = match known.packed.get(&ordinal) {
                    Some(id) => known.packs[id].upgrade().map(Home::Pack).ok_or(Want::Pack(*id)),
                    None => {
                        let found = known.segments.get(&ordinal);
                        let (file, open) = found.ok_or(ReadError::Gone { lsn })?;
                        open.upgrade().map(Home::Segment).ok_or(Want::Segment(*file))
                    }
                };
                match open {
                    Ok(home) => return Ok(home),
                    Err(want) => want,
                }
            };
            // Opened without the lock: a slow disk stops only those who want this file.
            let opened = match want {
                Want::Segment(file) => self.open_segment(&file, lsn)?.map(Home::Segment),
                Want::Pack(id) => self.open_pack(id, lsn)?.map(Home::Pack),
            };
            if let Some(home) = opened {
                return Ok(home);
            }
            // It went while it was opened: a pack may have its frames now.
        }
    }

    /// `None` where the segment is not in the catalog any more: its file may be recycled under
    /// our hands.
    fn open_segment(&self, want: &Expected, lsn: Lsn) -> Result<Option<Arc<Segment>>, ReadError> {
        let opened = Segment::open(&*self.storage, want);
        let mut known = self.known();
        let Some((_, open)) = known.segments.get_mut(&want.ordinal) else { return Ok(None) };
        if let Some(segment) = open.upgrade() {
            return Ok(Some(segment));
        }
        let segment =
            opened.map_err(|e| read_error(e, want.name(), lsn, lsn.0 % self.segment_size));
        let segment = Arc::new(segment?);
        *open = Arc::downgrade(&segment);
        keep_open(&mut known.open, Arc::clone(&segment), OPEN_MAX);
        Ok(Some(segment))
    }

    /// `None` where the pack is not in the catalog any more.
    fn open_pack(&self, id: PackId, lsn: Lsn) -> Result<Option<Arc<Pack>>, ReadError> {
        let opened = Pack::open(&*self.storage, self.lineage.store_of(id.epoch), id);
        let mut known = self.known();
        let Some(open) = known.packs.get_mut(&id) else { return Ok(None) };
        if let Some(pack) = open.upgrade() {
            return Ok(Some(pack));
        }
        let pack = Arc::new(opened.map_err(|e| read_error(e, names::pack(id), lsn, 0))?);
        *open = Arc::downgrade(&pack);
        keep_open(&mut known.open_packs, Arc::clone(&pack), OPEN_PACKS_MAX);
        Ok(Some(pack))
    }

    /// Takes a pack out; `false` where someone reads it: ask again later.
    pub(crate) fn remove_pack(&self, id: PackId) -> bool {
        let mut known = self.known();
        if known.held.holds_pack(id) {
            return false;
        }
        known.open_packs.retain(|pack| pack.header.id != id);
        let free = known.packs.get(&id).is_none_or(|open| open.strong_count() == 0);
        if free {
            known.packs.remove(&id);
            known.packed.retain(|_, home| *home != id);
        }
        free
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

fn keep_open<T>(open: &mut VecDeque<Arc<T>>, file: Arc<T>, max: usize) {
    open.push_back(file);
    if open.len() > max {
        open.pop_front();
    }
}

fn read_error(error: RecoveryError, file: String, lsn: Lsn, offset: u64) -> ReadError {
    match error {
        RecoveryError::Io { file, source } => ReadError::Io { file, source },
        // A file that is gone or is another one now: all of it is damaged, this frame too.
        _ => Damage { file, offset, lsn, part: Part::Structure }.into(),
    }
}
