//! A store from a backup: the same content under an identity of its own.
//!
//! Owns the order: everything is copied and compared with the manifest while the identity still
//! has a name that makes no store; the last step gives it its name. The new id keeps the files of
//! the two apart for ever; that what is in it may have been delivered by the other since is said
//! by the first life of the new store (`Record::Restored`).

use std::io;

use crate::backup::copy::Progress;
use crate::backup::manifest::{FileOf, Manifest, ManifestError};
use crate::ids::{Lsn, Millis};
use crate::io::Storage;
use crate::store::index::{Index, IndexError};
use crate::wal::format::{Identity, ORIGIN_BYTES, Origin};
use crate::wal::{names, origin_name};

const STEP_BYTES: u64 = 1 << 20;
/// Memory for pages of the index, of which one is written.
const INDEX_CACHE_BYTES: usize = 1 << 20;

/// Why no store was made.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is no backup.
    #[error("the directory is no backup: it has no file `{}`", names::IDENTITY_IN_BACKUP)]
    NotABackup,
    /// It was never whole.
    #[error(
        "the backup is not finished: it has no file `{}`, which is written last; take another one",
        super::MANIFEST_NAME
    )]
    Unfinished,
    /// The manifest cannot be read.
    #[error("{0}: the backup cannot be trusted; take another one")]
    Manifest(ManifestError),
    /// A file of it is not as it was written.
    #[error("the backup is damaged: {file} {what}; take another one")]
    Damaged {
        /// The file.
        file: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The target has something in it.
    #[error("the directory holds {file}: a store is only made in an empty one")]
    NotEmpty {
        /// One of the files found.
        file: String,
    },
    /// The index cannot be given to the new store.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A file of the backup cannot be read.
    #[error("the backup's {file} cannot be read: {source}")]
    Source {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// The new store cannot be written.
    #[error("{file}: {source}")]
    Target {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
}

impl RestoreError {
    fn source(file: &str) -> impl Fn(io::Error) -> Self {
        let file = file.to_owned();
        move |source| Self::Source { file: file.clone(), source }
    }

    fn target(file: &str) -> impl Fn(io::Error) -> Self {
        let file = file.to_owned();
        move |source| Self::Target { file: file.clone(), source }
    }
}

/// A store that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Its id.
    pub store: u128,
    /// That of the store that was backed up.
    pub from: u128,
    /// When the backup was begun.
    pub at: Millis,
    /// What lay before this in the log is in it; 0 where nothing was in the log.
    pub end: Lsn,
    /// Files copied.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
}

/// Makes a store with the id `id`, which must never repeat, in the empty directory `target`.
///
/// # Errors
/// See [`RestoreError`]. What was made is removed then, as far as that goes; what is left is no
/// store.
pub fn restore(
    backup: &dyn Storage,
    target: &dyn Storage,
    id: u128,
    progress: &mut dyn FnMut(Progress),
) -> Result<Restored, RestoreError> {
    let manifest = read(backup)?;
    let listed = target.list().map_err(RestoreError::target("."))?;
    if let Some(file) = listed.first() {
        return Err(RestoreError::NotEmpty { file: file.clone() });
    }
    let made = make(backup, target, &manifest, id, progress);
    if made.is_err() {
        // Best effort: the error is what counts, and what is left has no identity.
        for file in target.list().unwrap_or_default() {
            let _ = target.remove(&file);
        }
    }
    made?;
    let Manifest { store: from, end, at, files, .. } = manifest;
    let bytes = files.iter().map(|file| file.size).sum();
    Ok(Restored { store: id, from, at, end, files: files.len() as u64, bytes })
}

fn read(backup: &dyn Storage) -> Result<Manifest, RestoreError> {
    let identity = names::IDENTITY_IN_BACKUP;
    let file = match backup.open(identity) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(RestoreError::NotABackup),
        Err(e) => return Err(RestoreError::source(identity)(e)),
    };
    let manifest = match Manifest::read(backup) {
        Ok(manifest) => manifest,
        Err(ManifestError::Missing) => return Err(RestoreError::Unfinished),
        Err(error) => return Err(RestoreError::Manifest(error)),
    };
    let Manifest { store, segment_size, .. } = manifest;
    let expected = Identity { store, segment_size }.encode();
    let mut found = expected;
    let same = file.size().and_then(|size| {
        file.read_at(&mut found, 0).map(|()| size == expected.len() as u64 && found == expected)
    });
    match same {
        Ok(true) => Ok(manifest),
        Ok(false) => Err(RestoreError::Damaged {
            file: identity.to_owned(),
            what: "is not that of the manifest",
        }),
        Err(e) => Err(RestoreError::source(identity)(e)),
    }
}

fn make(
    backup: &dyn Storage,
    target: &dyn Storage,
    manifest: &Manifest,
    id: u128,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), RestoreError> {
    let Manifest { store: from, segment_size, epoch, .. } = *manifest;
    let identity = Identity { store: id, segment_size }.encode();
    small(target, names::IDENTITY_UNFINISHED, &identity)?;
    // Before all else: whatever a power cut leaves says what it is.
    target.sync_dir().map_err(RestoreError::target("."))?;
    let total = manifest.files.iter().map(|file| file.content).sum();
    let mut done = 0;
    for file in &manifest.files {
        copy(backup, target, file, &mut |bytes| {
            done += bytes;
            progress(Progress { done, total });
        })?;
    }
    let name = origin_name(epoch);
    let mut origin = Origin { store: id, epoch, from };
    if manifest.files.iter().any(|file| file.name == name) {
        // The store was itself restored and never ran, so nothing carries its id.
        origin.from = origin_of(target, &name)?.from;
        target.remove(&name).map_err(RestoreError::target(&name))?;
    }
    small(target, &name, &origin.encode())?;
    Index::give(target, from, id, INDEX_CACHE_BYTES)?;
    target.sync_dir().map_err(RestoreError::target("."))?;
    // From here on it is a store.
    let named = target.rename(names::IDENTITY_UNFINISHED, names::IDENTITY);
    named.and_then(|()| target.sync_dir()).map_err(RestoreError::target(names::IDENTITY))
}

fn origin_of(target: &dyn Storage, name: &str) -> Result<Origin, RestoreError> {
    let mut bytes = [0; ORIGIN_BYTES];
    let read = target.open(name).and_then(|file| file.read_at(&mut bytes, 0));
    read.map_err(RestoreError::target(name))?;
    let damaged = |_| RestoreError::Damaged { file: name.to_owned(), what: "is no origin" };
    Origin::decode(&bytes).map_err(damaged)
}

fn small(target: &dyn Storage, name: &str, bytes: &[u8]) -> Result<(), RestoreError> {
    let made = target.create(name).and_then(|file| {
        file.write_at(bytes, 0)?;
        file.sync()
    });
    made.map_err(RestoreError::target(name))
}

fn copy(
    backup: &dyn Storage,
    target: &dyn Storage,
    file: &FileOf,
    copied: &mut dyn FnMut(u64),
) -> Result<(), RestoreError> {
    let damaged = |what| RestoreError::Damaged { file: file.name.clone(), what };
    let (read, write) = (RestoreError::source(&file.name), RestoreError::target(&file.name));
    let from = match backup.open(&file.name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(damaged("is missing")),
        opened => opened.map_err(&read)?,
    };
    if from.size().map_err(&read)? != file.size {
        return Err(damaged("has another length than it had"));
    }
    let to = target.create(&file.name).map_err(&write)?;
    let mut sum = crc32fast::Hasher::new();
    let mut at = 0;
    while at < file.content {
        let mut bytes = vec![0; (file.content - at).min(STEP_BYTES) as usize];
        from.read_at(&mut bytes, at).map_err(&read)?;
        sum.update(&bytes);
        to.write_at(&bytes, at).map_err(&write)?;
        at += bytes.len() as u64;
        copied(bytes.len() as u64);
    }
    if sum.finalize() != file.sum {
        return Err(damaged("does not hold what was backed up"));
    }
    if file.content < file.size {
        to.set_size(file.size).map_err(&write)?;
    }
    to.sync().map_err(&write)
}
