//! One segment file: open, checked, with the seed of its checksums.

use std::io;
use std::sync::Arc;

use crate::ids::Lsn;
use crate::io::{File, Storage};
use crate::wal::error::RecoveryError;
use crate::wal::format::{BLOCK_BYTES, HeadFault, Sealed, SegmentHeader, VERSION};
use crate::wal::names;

/// An open segment. Whoever holds it pins the file against being recycled.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) name: String,
    pub(crate) header: SegmentHeader,
    pub(crate) seed: u32,
    pub(crate) file: Arc<dyn File>,
}

/// Which segment a name promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) store: u128,
    pub(crate) epoch: u64,
    pub(crate) ordinal: u64,
    /// The owner whose copy it is, or 0.
    pub(crate) copied_by: u64,
    pub(crate) segment_size: u64,
    /// Bytes that must be there: a copy has only what counts.
    pub(crate) bytes_min: u64,
}

impl Expected {
    /// A segment as its writer wrote it.
    pub(crate) fn original(header: &SegmentHeader) -> Expected {
        let SegmentHeader { store, epoch, ordinal, segment_size, .. } = *header;
        let (copied_by, bytes_min) = (0, segment_size);
        Expected { store, epoch, ordinal, copied_by, segment_size, bytes_min }
    }

    /// A segment as a seal lists it.
    pub(crate) fn sealed(store: u128, segment_size: u64, sealed: &Sealed) -> Expected {
        let Sealed { epoch, ordinal, copied_by, end } = *sealed;
        let bytes_min = match (copied_by, end) {
            (0, _) => segment_size,
            (_, end) => end.map_or(0, |end| end.length),
        };
        Expected { store, epoch, ordinal, copied_by, segment_size, bytes_min }
    }

    pub(crate) fn name(&self) -> String {
        match self.copied_by {
            0 => names::segment(self.epoch, self.ordinal),
            by => names::copy(by, self.ordinal),
        }
    }
}

impl Segment {
    pub(crate) fn new(name: String, header: SegmentHeader, file: Arc<dyn File>) -> Self {
        Self { name, header, seed: header.seed(), file }
    }

    /// Opens the segment and checks that it is the one its name promises.
    pub(crate) fn open(storage: &dyn Storage, want: &Expected) -> Result<Segment, RecoveryError> {
        let name = want.name();
        let file = match storage.open(&name) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(RecoveryError::MissingSegment { file: name, ordinal: want.ordinal });
            }
            Err(source) => return Err(RecoveryError::Io { file: name, source }),
        };
        let header = read_header(&*file, &name)?;
        if header.store != want.store {
            let (found, expected) = (header.store, want.store);
            return Err(RecoveryError::ForeignStore { file: name, found, expected });
        }
        let same = header.epoch == want.epoch
            && header.ordinal == want.ordinal
            && header.segment_size == want.segment_size;
        if !same {
            let (epoch, ordinal) = (header.epoch, header.ordinal);
            return Err(RecoveryError::WrongSegment { file: name, epoch, ordinal });
        }
        let size = file.size().map_err(|source| RecoveryError::io(&name, source))?;
        if size < want.bytes_min {
            return Err(RecoveryError::ShortSegment { file: name, size });
        }
        Ok(Segment::new(name, header, file))
    }

    /// The header of a file, whatever its name promises.
    pub(crate) fn header_of(
        storage: &dyn Storage,
        name: &str,
    ) -> Result<SegmentHeader, RecoveryError> {
        let file = storage.open(name).map_err(|source| RecoveryError::io(name, source))?;
        read_header(&*file, name)
    }

    /// Where the copy of the header lies that is not as it was written, while the other one is.
    pub(crate) fn damaged_header_copy(&self) -> Option<u64> {
        let mut block = [0; BLOCK_BYTES];
        // What cannot be read at all was not opened.
        self.file.read_at(&mut block, 0).ok()?;
        self.header.damaged_copy(&block).map(|at| at as u64)
    }

    /// The Lsn of the byte at `offset`.
    pub(crate) fn lsn(&self, offset: u64) -> Lsn {
        Lsn(self.header.first_lsn().0 + offset)
    }
}

fn read_header(file: &dyn File, name: &str) -> Result<SegmentHeader, RecoveryError> {
    let mut block = [0; BLOCK_BYTES];
    match file.read_at(&mut block, 0) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            let size = file.size().map_err(|source| RecoveryError::io(name, source))?;
            return Err(RecoveryError::ShortSegment { file: name.to_owned(), size });
        }
        Err(source) => return Err(RecoveryError::io(name, source)),
    }
    let file = name.to_owned();
    SegmentHeader::decode(&block).map_err(|fault| match fault {
        HeadFault::Magic => RecoveryError::NotASegment { file },
        HeadFault::Version(found) => RecoveryError::UnknownVersion { file, found, newest: VERSION },
        HeadFault::Checksum => RecoveryError::BadHead { file },
    })
}
