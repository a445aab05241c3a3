//! One segment file: open, checked, with the seed of its checksums.

use std::io;
use std::sync::Arc;

use crate::ids::Lsn;
use crate::io::{File, Storage};
use crate::wal::format::{BLOCK_BYTES, HeadFault, SegmentHeader, VERSION};
use crate::wal::names;
use crate::wal::replay::RecoveryError;

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
    pub(crate) segment_size: u64,
}

impl Expected {
    pub(crate) fn name(&self) -> String {
        names::segment(self.epoch, self.ordinal)
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
        if size < want.segment_size {
            return Err(RecoveryError::ShortSegment { file: name, size });
        }
        Ok(Segment::new(name, header, file))
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
