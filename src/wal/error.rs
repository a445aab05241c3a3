//! Why a start is refused: each reason its own, with the file and the place.

use std::io;

use crate::ids::Lsn;
use crate::wal::damage::Corruption;

/// Why the past could not be read or sealed: the start is refused.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// What was durable is not there. Nothing was changed.
    #[error(
        "{file} is corrupt at offset {offset}: {reason}; nothing was changed; restore the \
             store from a backup, or see what can be saved with `escrowmq store repair DIR`"
    )]
    Corrupt {
        /// The file.
        file: String,
        /// The first bad byte's batch or frame.
        offset: u64,
        /// What is wrong there.
        reason: Corruption,
    },
    /// A segment that is needed does not exist.
    #[error(
        "{file} is missing: it holds what the store still needs; put it back, restore the store \
             from a backup, or see what can be saved with `escrowmq store repair DIR`"
    )]
    MissingSegment {
        /// Its name, or that of its number where nobody knows its epoch.
        file: String,
        /// Its number.
        ordinal: u64,
    },
    /// A pack that is needed does not exist.
    #[error("{file} is missing: it holds what the store still needs; restore it from a backup")]
    MissingPack {
        /// Its name.
        file: String,
    },
    /// A pack is shorter than its header says.
    #[error("{file} has {size} bytes, which is less than it should; restore it from a backup")]
    ShortPack {
        /// The file.
        file: String,
        /// Its bytes.
        size: u64,
    },
    /// The file is a pack, but not the one its name says: files were swapped.
    #[error("{file} holds what {found} should: files were swapped")]
    WrongPack {
        /// The file.
        file: String,
        /// The name it should have.
        found: String,
    },
    /// A segment is shorter than segments are.
    #[error("{file} has {size} bytes, which is less than a segment; restore it from a backup")]
    ShortSegment {
        /// The file.
        file: String,
        /// Its bytes.
        size: u64,
    },
    /// A file with a segment's name is none.
    #[error("{file} is not a segment of a log; restore it from a backup")]
    NotASegment {
        /// The file.
        file: String,
    },
    /// The head of a segment or a pack, in both copies, or a seal is damaged.
    #[error("the head of {file} is damaged; restore it from a backup")]
    BadHead {
        /// The file.
        file: String,
    },
    /// A newer program wrote the file.
    #[error("{file} has format version {found}; this program knows up to {newest}")]
    UnknownVersion {
        /// The file.
        file: String,
        /// Its version.
        found: u32,
        /// The newest version known here.
        newest: u32,
    },
    /// The file belongs to another store.
    #[error("{file} belongs to store {found:032x}, not to {expected:032x}")]
    ForeignStore {
        /// The file.
        file: String,
        /// The store it names.
        found: u128,
        /// The store it lies in.
        expected: u128,
    },
    /// The file is a segment, but not the one its name says: files were swapped.
    #[error("{file} holds segment {ordinal:#x} of epoch {epoch:#x}: files were swapped")]
    WrongSegment {
        /// The file.
        file: String,
        /// The epoch it names.
        epoch: u64,
        /// The ordinal it names.
        ordinal: u64,
    },
    /// Segments of an owner lie there without the seal that it wrote before them.
    #[error("{file} is missing, and segments that rest on it are there; restore it from a backup")]
    MissingSeal {
        /// The seal's name.
        file: String,
    },
    /// The index speaks of a part of the log that the log does not have.
    #[error("the index ends at {through}, where there is no log; restore both from one backup")]
    IndexAhead {
        /// The last record the index has.
        through: Lsn,
    },
    /// A later owner has claimed the store.
    #[error("epoch {epoch} has lost the store: a later one was claimed")]
    Superseded {
        /// The epoch that lost.
        epoch: u64,
    },
    /// There is no room for the first segment.
    #[error("the disk is full: there is no room for {file}")]
    NoSpace {
        /// What should have been made.
        file: String,
    },
    /// A file could not be read or written.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
}

impl RecoveryError {
    /// The file that it is about; none where it is about the store as a whole.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        match self {
            Self::Corrupt { file, .. }
            | Self::MissingSegment { file, .. }
            | Self::MissingPack { file }
            | Self::ShortPack { file, .. }
            | Self::WrongPack { file, .. }
            | Self::ShortSegment { file, .. }
            | Self::NotASegment { file }
            | Self::BadHead { file }
            | Self::UnknownVersion { file, .. }
            | Self::ForeignStore { file, .. }
            | Self::WrongSegment { file, .. }
            | Self::MissingSeal { file }
            | Self::NoSpace { file }
            | Self::Io { file, .. } => Some(file),
            Self::IndexAhead { .. } | Self::Superseded { .. } => None,
        }
    }

    pub(crate) fn io(file: &str, source: io::Error) -> Self {
        let file = file.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull => RecoveryError::NoSpace { file },
            _ => RecoveryError::Io { file, source },
        }
    }
}
