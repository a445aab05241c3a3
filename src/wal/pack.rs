//! One pack: the live frames of segments that have few left, side by side in a file of their own.
//!
//! Owns the reading of packs. A frame keeps its birth Lsn for ever and is found by it: the
//! directory, halved, names a group of frames that lie together, and the group is searched.
//! Always: the memory of an open pack is a number per block of its directory, whatever it holds;
//! damage costs the frames it lies in, because a frame is known by its own checksum and not by
//! its neighbours. Leaves the making of packs to `packing`.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::ids::Lsn;
use crate::io::{File, Storage};
use crate::wal::damage::{Damage, Part};
use crate::wal::error::RecoveryError;
use crate::wal::format::{
    self, BLOCK_BYTES, FRAME_ALIGN, FRAME_HEADER_BYTES, FrameView, Group, HeadFault, PackHeader,
    PackId, VERSION,
};
use crate::wal::names;
use crate::wal::reader::{Frame, ReadError};

/// An open pack. Whoever holds it keeps the file from being removed.
#[derive(Debug)]
pub(crate) struct Pack {
    pub(crate) name: String,
    pub(crate) header: PackHeader,
    pub(crate) seed: u32,
    pub(crate) file: Arc<dyn File>,
    /// The first birth that each block of the directory names.
    firsts: Vec<Lsn>,
}

impl Pack {
    /// Opens the pack and checks that it is the one its name promises, and whole in length.
    pub(crate) fn open(
        storage: &dyn Storage,
        store: u128,
        id: PackId,
    ) -> Result<Pack, RecoveryError> {
        let mut pack = Self::look(storage, store, id)?;
        let read = pack.read_firsts();
        read.map_err(|source| RecoveryError::io(&pack.name, source))?;
        Ok(pack)
    }

    /// Checks as much and gives the bytes of the file. Of a pack a start reads a block, however
    /// much is in it.
    pub(crate) fn bytes_of(
        storage: &dyn Storage,
        store: u128,
        id: PackId,
    ) -> Result<u64, RecoveryError> {
        Ok(Self::look(storage, store, id)?.header.file_bytes())
    }

    /// The pack without its directory: nothing can be found in it.
    fn look(storage: &dyn Storage, store: u128, id: PackId) -> Result<Pack, RecoveryError> {
        let name = names::pack(id);
        let io = |source| RecoveryError::io(&name, source);
        let file = match storage.open(&name) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(RecoveryError::MissingPack { file: name });
            }
            Err(source) => return Err(io(source)),
        };
        let size = file.size().map_err(io)?;
        let mut block = [0; BLOCK_BYTES];
        if size < BLOCK_BYTES as u64 {
            return Err(RecoveryError::ShortPack { file: name, size });
        }
        file.read_at(&mut block, 0).map_err(io)?;
        let header = PackHeader::decode(&block).map_err(|fault| match fault {
            HeadFault::Version(found) => {
                RecoveryError::UnknownVersion { file: name.clone(), found, newest: VERSION }
            }
            HeadFault::Magic | HeadFault::Checksum => RecoveryError::BadHead { file: name.clone() },
        })?;
        if header.store != store {
            let (found, expected) = (header.store, store);
            return Err(RecoveryError::ForeignStore { file: name, found, expected });
        }
        if header.id != id {
            return Err(RecoveryError::WrongPack { file: name, found: names::pack(header.id) });
        }
        if size < header.file_bytes() {
            return Err(RecoveryError::ShortPack { file: name, size });
        }
        let seed = header.seed();
        Ok(Pack { name, header, seed, file, firsts: Vec::new() })
    }

    fn read_firsts(&mut self) -> io::Result<()> {
        // A block that both copies have lost begins, for all we know, after the last group before
        // it.
        let mut next = Lsn(0);
        for number in 0..self.header.directory_blocks {
            let groups = self.directory(number)?;
            self.firsts.push(groups.as_ref().map_or(next, |groups| groups[0].birth));
            if let Some(last) = groups.as_ref().and_then(|groups| groups.last()) {
                next = Lsn(last.birth.0 + 1);
            }
        }
        Ok(())
    }

    /// A block of the directory, from whichever copy is good; `None` where neither is.
    pub(crate) fn directory(&self, number: u32) -> io::Result<Option<Vec<Group>>> {
        for copy in 0..2 {
            if let Some(groups) = self.directory_copy(number, copy)? {
                return Ok(Some(groups));
            }
        }
        Ok(None)
    }

    /// A block of one copy of the directory; `None` where it is not good.
    pub(crate) fn directory_copy(&self, number: u32, copy: u64) -> io::Result<Option<Vec<Group>>> {
        let mut block = [0; BLOCK_BYTES];
        self.file.read_at(&mut block, self.directory_offset(number, copy))?;
        let groups = format::directory_decode(self.seed, number, &block);
        // What its own checksum vouches for is still checked before anyone allocates by it.
        let inside = |group: &Group| {
            group.offset >= BLOCK_BYTES as u64
                && group.length >= FRAME_HEADER_BYTES as u64
                && group.offset + group.length <= self.header.frames_end
        };
        Ok(groups.filter(|groups| groups.iter().all(inside)))
    }

    pub(crate) fn directory_offset(&self, number: u32, copy: u64) -> u64 {
        self.header.directory_at(copy) + u64::from(number) * BLOCK_BYTES as u64
    }

    /// The number of the directory's block that names the group where `birth` lies, if it lies
    /// anywhere.
    pub(crate) fn block_of(&self, birth: Lsn) -> Option<u32> {
        let after = self.firsts.partition_point(|first| *first <= birth);
        after.checked_sub(1).map(|number| number as u32)
    }

    pub(crate) fn group(&self, group: &Group) -> io::Result<Bytes> {
        let mut bytes = vec![0; group.length as usize];
        self.file.read_at(&mut bytes, group.offset)?;
        Ok(Bytes::from(bytes))
    }

    /// Reads the frame born at `lsn`, which takes `frame_len` bytes, and checks both its
    /// checksums.
    pub(crate) fn read(&self, lsn: Lsn, frame_len: u32) -> Result<Frame, ReadError> {
        let io = |source: io::Error| match source.kind() {
            io::ErrorKind::UnexpectedEof => self.damage(lsn, 0, Part::Structure).into(),
            _ => ReadError::Io { file: self.name.clone(), source },
        };
        let lost = |offset| ReadError::from(self.damage(lsn, offset, Part::Structure));
        let number = self.block_of(lsn).ok_or_else(|| lost(self.header.directory_at(0)))?;
        let groups = self.directory(number).map_err(io)?;
        let groups = groups.ok_or_else(|| lost(self.directory_offset(number, 0)))?;
        let after = groups.partition_point(|group| group.birth <= lsn);
        // The block begins at or before the birth, so some group does.
        let group = groups[..after].last().ok_or_else(|| lost(self.directory_offset(number, 0)))?;
        let bytes = self.group(group).map_err(io)?;
        let (at, view) = find(self.seed, lsn, &bytes).ok_or_else(|| lost(group.offset))?;
        let offset = group.offset + at as u64;
        if view.header.frame_len() != frame_len as usize {
            return Err(lost(offset));
        }
        if !view.payload_good {
            return Err(self.damage(lsn, offset, Part::Payload).into());
        }
        Ok(Frame::of(&view, bytes.slice(at..at + frame_len as usize)))
    }

    /// The group where `lsn` lies and those after it, up to so many bytes or one group; `None`
    /// where they cannot be read.
    pub(crate) fn piece(&self, lsn: Lsn, want: u64) -> Option<Piece> {
        let mut groups = self.directory(self.block_of(lsn)?).ok()??;
        let first = groups.partition_point(|group| group.birth <= lsn).checked_sub(1)?;
        groups.drain(..first);
        let start = groups.first()?.offset;
        // Only what lies without a gap, as it was written, is one piece.
        let mut end = start;
        let together = |group: &&Group| {
            let fits = group.offset == end && (end == start || end + group.length <= start + want);
            end += if fits { group.length } else { 0 };
            fits
        };
        let count = groups.iter().take_while(together).count();
        groups.truncate(count);
        let mut bytes = vec![0; (end - start) as usize];
        self.file.read_at(&mut bytes, start).ok()?;
        Some(Piece { seed: self.seed, groups, bytes })
    }

    fn damage(&self, lsn: Lsn, offset: u64, part: Part) -> Damage {
        Damage { file: self.name.clone(), offset, lsn, part }
    }
}

/// Some groups of a pack that lie together.
#[derive(Debug)]
pub(crate) struct Piece {
    seed: u32,
    groups: Vec<Group>,
    bytes: Vec<u8>,
}

impl Piece {
    /// The payload of a frame that lies whole in the piece.
    pub(crate) fn find(&self, lsn: Lsn, frame_len: u32) -> Option<&[u8]> {
        let after = self.groups.partition_point(|group| group.birth <= lsn);
        let group = self.groups.get(after.checked_sub(1)?)?;
        let start = (group.offset - self.groups[0].offset) as usize;
        let bytes = &self.bytes[start..start + group.length as usize];
        let (at, view) = find(self.seed, lsn, bytes)?;
        let good = view.payload_good && view.header.frame_len() == frame_len as usize;
        let bytes = bytes.get(at..at + frame_len as usize)?;
        good.then(|| view.payload_of(bytes))
    }

    /// Whether someone who asks for `lsn` next goes on where the piece ends, as far as can be told.
    pub(crate) fn is_followed_by(&self, lsn: Lsn) -> bool {
        self.groups.last().is_some_and(|last| last.birth < lsn)
    }
}

/// The frame born at `lsn` among the bytes of a group, whatever lies around it.
fn find(seed: u32, lsn: Lsn, bytes: &[u8]) -> Option<(usize, FrameView)> {
    let mut places = (0..bytes.len()).step_by(FRAME_ALIGN);
    places.find_map(|at| Some((at, format::frame_decode(seed, lsn, &bytes[at..])?)))
}

/// Calls `each` with the place of every frame of a group. `false` where not all of the bytes are
/// frames with a good structure: those that are, are shown all the same.
pub(crate) fn walk(seed: u32, bytes: &[u8], mut each: impl FnMut(usize, FrameView)) -> bool {
    let (mut at, mut whole) = (0, true);
    while at < bytes.len() {
        match format::frame_born(&bytes[at..])
            .and_then(|lsn| format::frame_decode(seed, lsn, &bytes[at..]))
        {
            Some(view) => {
                each(at, view);
                at += view.header.frame_len();
            }
            None => {
                whole = false;
                at += FRAME_ALIGN;
            }
        }
    }
    whole
}
