//! Making a pack: the frames of some closed segments are read, and those that somebody still needs
//! are written side by side into a new file.
//!
//! Owns files that are half made, and the order that makes a crash harmless: all bytes, a sync,
//! the name, a sync of the directory; only then may anyone rest on the pack. Every call is a
//! bounded piece of work. Which frames are needed is the business of the caller, and so is to make
//! it known durably that they lie here: until then the segments stay what they are.
//!
//! Always: frames are kept in the order of their births, so the sources are read by ordinal,
//! wherever each lies: a pack that has become sparse is packed again like any segment.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::ids::Lsn;
use crate::io::blocks::Blocks;
use crate::io::{File, Storage};
use crate::mutant::{self, Mutant};
use crate::wal::claim::remove;
use crate::wal::format::{
    self, BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHead, BatchHeader, DIRECTORY_GROUPS_MAX,
    FRAME_HEADER_BYTES, FrameView, GROUP_BYTES, Group, PACK_ORDINALS_MAX, PackHeader, PackId,
};
use crate::wal::names;
use crate::wal::pack::{self, Pack};
use crate::wal::reader::{Catalog, Home, ReadError};
use crate::wal::room::segment_nonce;
use crate::wal::segment::Segment;

/// Bytes that one call reads or writes, about, where no single batch or frame is larger.
const PIECE_BYTES_MAX: u64 = 1 << 20;

/// Pieces written before a sync: each sync of a growing file costs the file system a journal entry.
const SYNC_PIECES: u64 = 4;

/// Makes packs, one after the other, and tells the readers of them.
#[derive(Debug)]
pub struct Packer {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) store: u128,
    pub(crate) epoch: u64,
    pub(crate) nonce: u128,
    pub(crate) segment_size: u64,
    /// The number of the last pack begun.
    pub(crate) last: u64,
}

/// A frame of a source, to be judged.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its birth.
    pub lsn: Lsn,
    /// Its kind.
    pub kind: u16,
    /// Its record.
    pub record: Bytes,
    /// Its payload.
    pub payload: Bytes,
    /// Whether the payload is what was written.
    pub payload_good: bool,
    /// Bytes of the frame.
    pub frame_len: u32,
}

/// What the next piece of the sources holds.
#[derive(Debug)]
pub enum Found {
    /// The segment with this ordinal begins.
    Begin(u64),
    /// Frames of it, in order.
    Frames(Vec<Candidate>),
    /// The segment has no more frames that can be read.
    End,
    /// The segment with this ordinal cannot be read, or not further.
    Lost(u64, ReadError),
    /// All sources were read.
    All,
}

/// What a piece of a source holds, and where the next one begins, if there is one.
type Read<Place> = (Vec<Candidate>, Option<Place>);

/// A pack that is durable under its name, and that nobody knows of yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Its name.
    pub id: PackId,
    /// Bytes of the file.
    pub bytes: u64,
    /// The segments that it can stand for, ascending.
    pub ordinals: Vec<u64>,
}

/// A pack being made.
#[derive(Debug)]
pub struct Packing {
    storage: Arc<dyn Storage>,
    catalog: Arc<Catalog>,
    header: PackHeader,
    seed: u32,
    temporary: String,
    file: Arc<dyn File>,
    piece: u64,
    sources: VecDeque<u64>,
    source: Option<Source>,
    /// Frames that are not written yet, and where in the file they go.
    buf: Vec<u8>,
    at: u64,
    out: Blocks,
    groups: Vec<Group>,
    /// Bytes written since the last sync.
    unsynced: u64,
    /// The last frame kept.
    last: Lsn,
    /// Bytes read and written since [`Packing::take_bytes`].
    bytes: u64,
}

/// The segment that is being read, and how far.
#[derive(Debug)]
enum Source {
    Segment {
        segment: Arc<Segment>,
        offset: u64,
        limit: u64,
    },
    Pack {
        pack: Arc<Pack>,
        ordinal: u64,
        block: u32,
        group: usize,
    },
    /// All of it was read, or it is gone, so that nobody needs anything of it.
    Over,
}

impl Packer {
    /// Begins a pack of what is needed of these segments, wherever they lie.
    ///
    /// # Errors
    /// What the disk said; nothing is left behind.
    ///
    /// # Panics
    /// Where there are more of them than a pack can stand for, or they do not ascend.
    pub fn begin(&mut self, ordinals: &[u64]) -> io::Result<Packing> {
        assert!(ordinals.len() <= PACK_ORDINALS_MAX, "{} segments", ordinals.len());
        assert!(ordinals.is_sorted_by(|a, b| a < b), "{ordinals:?}");
        self.last += 1;
        let id = PackId { epoch: self.epoch, number: self.last };
        let header = PackHeader {
            store: self.store,
            id,
            nonce: segment_nonce(self.nonce, !self.epoch, self.last),
            segment_size: self.segment_size,
            frames_end: BLOCK_BYTES as u64,
            directory_blocks: 0,
            ordinals: Vec::new(),
        };
        let temporary = names::temporary(&names::pack(id), self.nonce);
        let file = self.storage.create(&temporary)?;
        let eighth = self.segment_size / 8 / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
        Ok(Packing {
            storage: Arc::clone(&self.storage),
            catalog: Arc::clone(&self.catalog),
            seed: header.seed(),
            header,
            temporary,
            file,
            piece: eighth.clamp(BLOCK_BYTES as u64, PIECE_BYTES_MAX),
            sources: ordinals.iter().copied().collect(),
            source: None,
            buf: Vec::new(),
            at: BLOCK_BYTES as u64,
            out: Blocks::new(),
            groups: Vec::new(),
            unsynced: 0,
            last: Lsn(0),
            bytes: 0,
        })
    }

    /// Lets readers find the frames of these segments in the pack. Only after everyone who will
    /// ever open the store is told so.
    pub fn publish(&self, id: PackId, ordinals: &[u64]) {
        self.catalog.insert_pack(id, ordinals);
    }

    /// Removes a pack that nobody was told of.
    ///
    /// # Errors
    /// What the disk said. The next owner removes it then.
    pub fn discard(&self, id: PackId) -> io::Result<()> {
        remove(&*self.storage, &names::pack(id))
    }
}

impl Packing {
    /// Reads on.
    pub fn read(&mut self) -> Found {
        match self.source.take() {
            None => match self.sources.pop_front() {
                None => Found::All,
                Some(ordinal) => self.enter(ordinal),
            },
            Some(Source::Over) => Found::End,
            Some(Source::Segment { segment, offset, limit }) => {
                match self.read_segment(&segment, offset, limit) {
                    Ok((frames, next)) => {
                        self.source = Some(next.map_or(Source::Over, |offset| Source::Segment {
                            segment,
                            offset,
                            limit,
                        }));
                        Found::Frames(frames)
                    }
                    Err(source) => lost(segment.header.ordinal, &segment.name, source),
                }
            }
            Some(Source::Pack { pack, ordinal, block, group }) => {
                match self.read_pack(&pack, ordinal, (block, group)) {
                    Ok((frames, next)) => {
                        self.source = Some(next.map_or(Source::Over, |(block, group)| {
                            Source::Pack { pack, ordinal, block, group }
                        }));
                        Found::Frames(frames)
                    }
                    Err(source) => lost(ordinal, &pack.name, source),
                }
            }
        }
    }

    fn enter(&mut self, ordinal: u64) -> Found {
        let first = Lsn(ordinal * self.header.segment_size);
        let source = match self.catalog.open(ordinal, first) {
            Ok(Home::Segment(segment)) => match segment.file.size() {
                Ok(size) => {
                    let limit = size.min(segment.header.segment_size);
                    Source::Segment { segment, offset: BLOCK_BYTES as u64, limit }
                }
                Err(source) => return lost(ordinal, &segment.name, source),
            },
            Ok(Home::Pack(pack)) => {
                let block = pack.block_of(first).unwrap_or(0);
                Source::Pack { pack, ordinal, block, group: 0 }
            }
            // Everything in it has died since it was chosen.
            Err(ReadError::Gone { .. }) => Source::Over,
            Err(error) => return Found::Lost(ordinal, error),
        };
        self.source = Some(source);
        Found::Begin(ordinal)
    }

    /// The frames of the whole batches that a piece holds, and where the next piece begins.
    fn read_segment(
        &mut self,
        segment: &Segment,
        offset: u64,
        limit: u64,
    ) -> io::Result<Read<u64>> {
        let mut frames = Vec::new();
        let mut bytes = self.read_at(&*segment.file, offset, self.piece.min(limit - offset))?;
        let mut at = 0;
        while at + BATCH_HEADER_BYTES <= bytes.len() {
            let place = offset + at as u64;
            let lsn = segment.lsn(place);
            let header = match BatchHeader::decode(segment.seed, &bytes[at..], lsn) {
                BatchHead::Good(header, _)
                    if header.fits(segment.header.epoch, lsn, limit - place) =>
                {
                    header
                }
                // The end of what was written, or of what can be read.
                _ => return Ok((frames, None)),
            };
            let length = header.length as usize;
            if at + length > bytes.len() {
                if at > 0 {
                    break;
                }
                bytes = self.read_at(&*segment.file, offset, length as u64)?;
            }
            let batch = bytes.slice(at..at + length);
            let each = |at, view: FrameView| frames.push(candidate(&batch, at, &view));
            if format::batch_walk(segment.seed, &header, &batch, each).is_err() {
                return Ok((frames, None));
            }
            at += length;
        }
        let next = offset + at as u64;
        Ok((frames, (at > 0 && next < limit).then_some(next)))
    }

    /// The frames of one segment that some groups of a pack hold, and the next group.
    fn read_pack(
        &mut self,
        pack: &Pack,
        ordinal: u64,
        (block, mut group): (u32, usize),
    ) -> io::Result<Read<(u32, usize)>> {
        let size = self.header.segment_size;
        let (first, end) = (Lsn(ordinal * size), Lsn((ordinal + 1) * size));
        let mut frames = Vec::new();
        if block >= pack.header.directory_blocks {
            return Ok((frames, None));
        }
        self.bytes += BLOCK_BYTES as u64;
        // A block that cannot be read hides its frames, and the caller misses them.
        let groups = pack.directory(block)?.unwrap_or_default();
        group = group.max(groups.partition_point(|group| group.birth <= first).saturating_sub(1));
        let mut read = 0;
        while let Some(next) = groups.get(group) {
            if next.birth >= end {
                return Ok((frames, None));
            }
            if read > 0 && read + next.length > self.piece {
                return Ok((frames, Some((block, group))));
            }
            let bytes = pack.group(next)?;
            read += next.length;
            self.bytes += next.length;
            pack::walk(pack.seed, &bytes, |at, view| {
                if (first..end).contains(&view.header.lsn) {
                    frames.push(candidate(&bytes, at, &view));
                }
            });
            group += 1;
        }
        Ok((frames, Some((block + 1, 0))))
    }

    fn read_at(&mut self, file: &dyn File, offset: u64, length: u64) -> io::Result<Bytes> {
        let mut bytes = vec![0; length as usize];
        file.read_at(&mut bytes, offset)?;
        self.bytes += length;
        Ok(Bytes::from(bytes))
    }

    /// Takes a frame into the pack.
    ///
    /// # Errors
    /// What the disk said: the pack is to be given up.
    ///
    /// # Panics
    /// Where the frame does not follow the one kept before.
    pub fn keep(&mut self, frame: &Candidate) -> io::Result<()> {
        assert!(self.last < frame.lsn, "{} comes after {}", frame.lsn, self.last);
        self.last = frame.lsn;
        let offset = self.at + self.buf.len() as u64;
        let (at, record, payload) = (self.buf.len(), &frame.record, &frame.payload);
        self.buf.resize(at + format::frame_bytes(record.len(), payload.len()), 0);
        let (seed, kind, out) = (self.seed, frame.kind, &mut self.buf[at..]);
        format::frame_encode(seed, frame.lsn, kind, record, payload, out);
        let length = (self.buf.len() - at) as u64;
        match self.groups.last_mut() {
            Some(group) if group.length + length <= GROUP_BYTES as u64 => group.length += length,
            _ => self.groups.push(Group { birth: frame.lsn, offset, length }),
        }
        if self.buf.len() as u64 >= self.piece { self.flush() } else { Ok(()) }
    }

    /// Lets the pack stand for a segment all of whose needed frames were kept.
    pub fn cover(&mut self, ordinal: u64) {
        self.header.ordinals.push(ordinal);
    }

    /// Bytes read and written since this was last asked.
    pub fn take_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.bytes)
    }

    /// Writes the whole blocks that there are, past the page cache, which is for others. A sync now
    /// and then keeps that of the log from ever waiting behind a whole pack.
    fn flush(&mut self) -> io::Result<()> {
        let length = self.buf.len() / BLOCK_BYTES * BLOCK_BYTES;
        self.out.clear();
        self.out.grow(length).copy_from_slice(&self.buf[..length]);
        self.buf.drain(..length);
        self.file.write_blocks(&self.out, self.at)?;
        self.at += length as u64;
        self.bytes += length as u64;
        self.unsynced += length as u64;
        if self.unsynced < SYNC_PIECES * self.piece {
            return Ok(());
        }
        self.unsynced = 0;
        self.file.sync()
    }

    /// Ends the pack: directory, header, sync, name, directory of the store. `None`, and no file,
    /// where it has no frames or stands for no segment.
    ///
    /// # Errors
    /// What the disk said. Nothing is left behind, but for what the next owner removes.
    pub fn finish(mut self) -> io::Result<Option<Made>> {
        let empty = self.groups.is_empty() || self.header.ordinals.is_empty();
        let made = if empty { Ok(()) } else { self.write_head_and_name() };
        match made {
            Ok(()) if !empty => Ok(Some(Made {
                id: self.header.id,
                bytes: self.header.file_bytes(),
                ordinals: std::mem::take(&mut self.header.ordinals),
            })),
            made => {
                self.give_up();
                made.map(|()| None)
            }
        }
    }

    fn write_head_and_name(&mut self) -> io::Result<()> {
        self.header.frames_end = self.at + self.buf.len() as u64;
        let blocks = self.groups.len().div_ceil(DIRECTORY_GROUPS_MAX);
        self.header.directory_blocks = blocks as u32;
        self.buf.resize((self.header.directory_at(0) - self.at) as usize, 0);
        // Twice, because one bad block of it would cost a mebibyte of messages.
        for _ in 0..2 {
            for (number, groups) in self.groups.chunks(DIRECTORY_GROUPS_MAX).enumerate() {
                let block = format::directory_encode(self.seed, number as u32, groups);
                self.buf.extend_from_slice(&block);
            }
        }
        self.flush()?;
        assert!(self.buf.is_empty(), "a pack is whole blocks");
        self.file.write_at(&self.header.encode(), 0)?;
        // Everything that was written, and the length.
        if !mutant::is(Mutant::NameUnsyncedPack) {
            self.file.sync()?;
        }
        self.storage.rename(&self.temporary, &names::pack(self.header.id))?;
        self.storage.sync_dir()
    }

    /// Gives the pack up, before or after an error.
    pub fn give_up(self) {
        // Best effort: a leftover is swept by the next owner.
        let _ = remove(&*self.storage, &self.temporary);
        let _ = remove(&*self.storage, &names::pack(self.header.id));
    }
}

fn lost(ordinal: u64, file: &str, source: io::Error) -> Found {
    Found::Lost(ordinal, ReadError::Io { file: file.to_owned(), source })
}

fn candidate(bytes: &Bytes, at: usize, view: &FrameView) -> Candidate {
    let payload_at = at + view.header.payload_at();
    Candidate {
        lsn: view.header.lsn,
        kind: view.header.kind,
        record: bytes.slice(at + FRAME_HEADER_BYTES..payload_at),
        payload: bytes.slice(payload_at..payload_at + view.header.payload_len as usize),
        payload_good: view.payload_good,
        frame_len: view.header.frame_len() as u32,
    }
}
