//! A backup from its beginning to its end, at a bounded rate, into a directory of the system.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backup::{Backup, BackupError, Progress, Source, Step, Summary};
use crate::ids::Millis;
use crate::io::Storage;
use crate::io::real::DirStorage;

/// Why a directory cannot take a backup or a store.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Something is in it.
    #[error("{}: the directory is not empty; give one that is, or a new one", .0.display())]
    NotEmpty(PathBuf),
    /// It lies inside the directory that is copied.
    #[error("{}: lies inside the store's own directory; give one elsewhere", .0.display())]
    Inside(PathBuf),
    /// It cannot be used.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Bytes a second of the index that are copied at least.
const INDEX_RATE_MIN: u64 = 64 << 20;

/// A new or empty directory.
#[derive(Debug)]
pub struct Place {
    storage: Arc<DirStorage>,
}

impl Place {
    /// Makes the directory `path`, or takes it where it is there and empty; it must not lie inside
    /// `beside`.
    ///
    /// # Errors
    /// See [`PlaceError`].
    pub fn make(path: &Path, beside: &Path) -> Result<Self, PlaceError> {
        match fs::read_dir(path) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return Err(PlaceError::NotEmpty(path.to_owned()));
                }
            }
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(io::Error::new(e.kind(), format!("{}: {e}", path.display())).into());
            }
            Err(_) => {}
        }
        let beside = beside.canonicalize()?;
        let there = path.ancestors().find_map(|ancestor| ancestor.canonicalize().ok());
        if there.is_some_and(|there| there.starts_with(&beside)) {
            return Err(PlaceError::Inside(path.to_owned()));
        }
        let storage = DirStorage::open_or_create(path)?;
        Ok(Self { storage: Arc::new(storage) })
    }

    /// The directory.
    #[must_use]
    pub fn storage(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.storage) as Arc<dyn Storage>
    }
}

/// Makes a backup, at most `rate` bytes a second (0: as fast as it goes) but for the index, which
/// comes first and not slower than 64 MiB a second, telling `progress` after each step, which may
/// call it off.
///
/// # Errors
/// See [`BackupError`]. What was made so far stays behind, and says that it is not whole.
pub fn run(
    source: &Source,
    target: Arc<dyn Storage>,
    at: Millis,
    rate: u64,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Summary, BackupError> {
    let mut backup = Backup::begin(source, target, at)?;
    let (mut began, mut written) = (Instant::now(), 0_u64);
    let mut in_index = true;
    loop {
        match backup.step()? {
            Step::Done(summary) => return Ok(summary),
            Step::More(bytes) => written += bytes,
        }
        // While the index is read at one moment, no page of it is used again: it would grow.
        let rate = if in_index && rate > 0 { rate.max(INDEX_RATE_MIN) } else { rate };
        if in_index && !backup.is_in_index() {
            (began, written, in_index) = (Instant::now(), 0, false);
        }
        if progress(backup.progress()).is_break() {
            return Err(BackupError::CalledOff);
        }
        if rate > 0 {
            let due =
                Duration::from_micros((u128::from(written) * 1_000_000 / u128::from(rate)) as u64);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
    }
}
