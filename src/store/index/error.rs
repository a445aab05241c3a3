//! What can go wrong with the index, and what an error or a panic of redb means.
//!
//! Always: each variant leads to another act of the operator or the caller, and says to which.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{INDEX_NAME, row};

/// Why the index cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The file was not made by this program.
    #[error(
        "{INDEX_NAME} is not an EscrowMQ index ({reason}): move it out of the store's directory \
         and put the right one in its place"
    )]
    Foreign {
        /// What is there instead.
        reason: String,
    },
    /// The file belongs to the log of another store.
    #[error(
        "{INDEX_NAME} belongs to the store {found:032x} and the log beside it to {expected:032x}: \
         put back the files that belong together"
    )]
    OtherStore {
        /// The store it names.
        found: u128,
        /// The store of the log.
        expected: u128,
    },
    /// The file was made by another version.
    #[error(
        "{INDEX_NAME} has format {found} and this version reads {} to {newest}: {}",
        row::OLDEST,
        if found < newest {
            "an older version wrote it. Start that version and let it hand out what is in the \
             store, or copy it with that version's `escrowmq store backup`; then begin with an \
             empty directory"
        } else {
            "a newer version wrote it. Start that version"
        }
    )]
    UnknownVersion {
        /// Its format.
        found: u32,
        /// The format known here.
        newest: u32,
    },
    /// The file is not as it was written.
    #[error(
        "{INDEX_NAME} is damaged ({reason}): restore the store from a backup, or see what can be \
         saved with `escrowmq store repair DIR`"
    )]
    Damaged {
        /// What was found.
        reason: String,
    },
    /// The disk is full: the file cannot be made or reopened. Nothing is lost.
    #[error("there is no room on the disk for {INDEX_NAME}")]
    Full,
    /// An earlier failure; nothing more is read or written until the store is opened again.
    #[error("{INDEX_NAME} failed before: open the store again")]
    Failed,
    /// The operating system refused.
    #[error("{INDEX_NAME}: {0}")]
    Io(io::Error),
}

/// Why a commit did not happen, or may not have.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The disk is full. Nothing has changed and what was committed stays readable; the same
    /// commit may be tried again when there is room.
    #[error("there is no room on the disk for a checkpoint")]
    Full,
    /// Nobody knows what is on the disk. Nothing more is read or written until the store is
    /// opened again; that finds the state before the commit or after it.
    #[error("the checkpoint failed: {0}")]
    Failed(IndexError),
}

/// What an error of redb means to us.
pub(super) fn error(error: impl Into<redb::Error>) -> IndexError {
    match error.into() {
        redb::Error::Io(e) => io_error(e),
        redb::Error::PreviousIo | redb::Error::DatabaseClosed => IndexError::Failed,
        e @ redb::Error::UpgradeRequired(_) => IndexError::Foreign { reason: e.to_string() },
        e => damaged(e),
    }
}

/// redb asserts some of what it reads, so a damaged page can be a panic; for us it is damage.
pub(super) fn guarded<T>(
    question: impl FnOnce() -> Result<T, IndexError>,
) -> Result<T, IndexError> {
    catch_unwind(AssertUnwindSafe(question)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(damaged(format_args!("redb: {}", said.unwrap_or("panic"))))
    })
}

pub(super) fn io_error(e: io::Error) -> IndexError {
    match e.kind() {
        io::ErrorKind::StorageFull => IndexError::Full,
        // So redb says that a file does not begin like one of its own.
        io::ErrorKind::InvalidData => IndexError::Foreign { reason: e.to_string() },
        // A page lies past the end of the file.
        io::ErrorKind::UnexpectedEof => damaged("it is too short"),
        _ => IndexError::Io(e),
    }
}

pub(super) fn damaged(reason: impl fmt::Display) -> IndexError {
    IndexError::Damaged { reason: reason.to_string() }
}

pub(super) fn bad_row(key: &dyn fmt::Debug) -> IndexError {
    damaged(format_args!("the row {key:?} does not hold what it should"))
}
