//! A backup in the making, step by step.
//!
//! Owns the order in which a backup becomes one: its identity, under a name that makes no store;
//! the index; the small files and the segments; everything synced; the manifest. Whatever ends it
//! before the last step leaves a directory that says of itself that it is not whole.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::backup::manifest::{FileOf, Manifest};
use crate::backup::source::{Moment, Source};
use crate::ids::{Lsn, Millis};
use crate::io::{File, Storage};
use crate::store::index::{INDEX_NAME, IndexCopy, IndexError};
use crate::wal::{Hold, PackId, names};

/// Bytes that one step copies at most.
const STEP_BYTES: u64 = 1 << 20;
/// Bytes that may wait to be synced: a sync of more would be felt by the log.
const UNSYNCED_BYTES_MAX: u64 = 8 << 20;
/// Memory for pages of the new index.
const INDEX_CACHE_BYTES: usize = 16 << 20;

/// Why a backup has not come to be.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Another one is being made.
    #[error("another backup of this store is being made: wait until it has ended")]
    Busy,
    /// The store cannot be read.
    #[error("the store's {file} cannot be read: {source}")]
    Source {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// The target cannot be written.
    #[error(
        "{file} cannot be written into the backup: {source}; remove the directory, make room, \
             and begin again"
    )]
    Target {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// The index cannot be copied.
    #[error("the index cannot be copied: {0}")]
    Index(#[from] IndexError),
    /// A later owner has the store.
    #[error("{0}: ask the broker that has it")]
    Lost(io::Error),
    /// Whoever asked for it has gone, or the broker ends.
    #[error("the backup was called off and is not whole: remove its directory")]
    CalledOff,
}

impl BackupError {
    pub(crate) fn source(file: &str, source: io::Error) -> Self {
        Self::Source { file: file.to_owned(), source }
    }

    pub(crate) fn target(file: &str, source: io::Error) -> Self {
        Self::Target { file: file.to_owned(), source }
    }
}

/// How far a backup or restore has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes done.
    pub done: u64,
    /// Bytes in all, about.
    pub total: u64,
}

/// A backup that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Files in it.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// What lies before this in the log is in it; 0 where nothing was in the log.
    pub end: Lsn,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It wrote so many bytes; there is more.
    More(u64),
    /// The backup is whole.
    Done(Summary),
}

/// A backup in the making.
#[derive(Debug)]
pub struct Backup {
    source: Source,
    target: Arc<dyn Storage>,
    manifest: Manifest,
    index: Option<IndexCopy>,
    index_bytes: u64,
    waiting: VecDeque<Piece>,
    copying: Option<Copying>,
    hold: Option<Hold>,
    progress: Progress,
}

/// A file to be copied, or one that was made here and needs a checksum.
#[derive(Clone, Debug)]
struct Piece {
    name: String,
    /// Of a segment: which.
    ordinal: Option<u64>,
    /// Of a pack: which.
    pack: Option<PackId>,
    /// Bytes that count; `None`: all it has.
    content: Option<u64>,
    made_here: bool,
}

#[derive(Debug)]
struct Copying {
    piece: Piece,
    from: Arc<dyn File>,
    /// `None` where nothing is to be written.
    to: Option<Arc<dyn File>>,
    size: u64,
    content: u64,
    at: u64,
    unsynced: u64,
    sum: crc32fast::Hasher,
}

impl Backup {
    /// Begins a backup into `target`, an empty directory. What is confirmed now will be in it.
    ///
    /// # Errors
    /// See [`BackupError`].
    pub fn begin(
        source: &Source,
        target: Arc<dyn Storage>,
        at: Millis,
    ) -> Result<Self, BackupError> {
        let identity = names::IDENTITY_IN_BACKUP;
        let made = target.create(identity).and_then(|file| {
            file.write_at(&source.identity.encode(), 0)?;
            file.sync()?;
            target.sync_dir()
        });
        made.map_err(|e| BackupError::target(identity, e))?;
        let Moment { snapshot, end, segments, packs, small, hold } = source.moment()?;
        let size = source.identity.segment_size;
        let piece =
            |name| Piece { name, ordinal: None, pack: None, content: None, made_here: false };
        let mut waiting: VecDeque<Piece> = small.into_iter().map(piece).collect();
        waiting.push_back(Piece { made_here: true, ..piece(INDEX_NAME.to_owned()) });
        let (mut total, index_bytes) = (snapshot.file_bytes(), snapshot.file_bytes());
        for file in segments {
            let first = file.ordinal * size;
            let content = end.map(|end| end.0.saturating_sub(first).min(size));
            total += content.unwrap_or(size);
            waiting.push_back(Piece { ordinal: Some(file.ordinal), content, ..piece(file.name) });
        }
        for id in packs {
            // Its size is not known before it is opened; the total is about right without.
            waiting.push_back(Piece { pack: Some(id), ..piece(names::pack(id)) });
        }
        let manifest = Manifest {
            store: source.identity.store,
            segment_size: size,
            epoch: source.epoch,
            end: end.unwrap_or_default(),
            at,
            files: Vec::new(),
        };
        let index = Some(snapshot.copy(&*target, INDEX_CACHE_BYTES)?);
        let progress = Progress { done: 0, total };
        let (source, copying) = (source.clone(), None);
        Ok(Self { source, target, manifest, index, index_bytes, waiting, copying, hold, progress })
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Whether the index is not copied yet.
    pub(super) fn is_in_index(&self) -> bool {
        self.index.is_some()
    }

    /// Does one short piece of work.
    ///
    /// # Errors
    /// See [`BackupError`]: then it is over, and not whole.
    pub fn step(&mut self) -> Result<Step, BackupError> {
        if let Some(index) = &mut self.index {
            let more = index.step()?;
            let (rows, all) = index.progress();
            let share = u128::from(self.index_bytes) * u128::from(rows) / u128::from(all.max(1));
            let done = if more { share as u64 } else { self.index_bytes };
            let bytes = done.saturating_sub(self.progress.done);
            self.progress.done = done;
            if !more {
                self.index = None;
            }
            return Ok(Step::More(bytes));
        }
        if self.copying.is_none() {
            let Some(piece) = self.waiting.pop_front() else {
                return self.finish().map(Step::Done);
            };
            self.copying = Some(self.open(piece)?);
        }
        let copying = self.copying.as_mut().expect("just opened");
        let bytes = copying.step()?;
        if copying.at == copying.content {
            let copying = self.copying.take().expect("still there");
            self.close(copying)?;
        }
        self.progress.done = (self.progress.done + bytes).min(self.progress.total);
        Ok(Step::More(bytes))
    }

    fn open(&self, piece: Piece) -> Result<Copying, BackupError> {
        let name = &piece.name;
        let source = if piece.made_here { &self.target } else { &self.source.storage };
        let io = |e| BackupError::source(name, e);
        let from = source.open(name).map_err(io)?;
        let size = from.size().map_err(io)?;
        let to = match piece.made_here {
            true => None,
            false => Some(self.target.create(name).map_err(|e| BackupError::target(name, e))?),
        };
        let content = piece.content.unwrap_or(size).min(size);
        let sum = crc32fast::Hasher::new();
        Ok(Copying { piece, from, to, size, content, at: 0, unsynced: 0, sum })
    }

    /// A file is copied: it gets the length it had, is made durable, and goes into the manifest.
    fn close(&mut self, copying: Copying) -> Result<(), BackupError> {
        let Copying { piece, to, size, content, sum, .. } = copying;
        if let Some(to) = to {
            let filled = if content < size { to.set_size(size) } else { Ok(()) };
            let synced = filled.and_then(|()| to.sync());
            synced.map_err(|e| BackupError::target(&piece.name, e))?;
        }
        if let (Some(ordinal), Some(hold)) = (piece.ordinal, &self.hold) {
            hold.release(ordinal);
        }
        if let (Some(id), Some(hold)) = (piece.pack, &self.hold) {
            hold.release_pack(id);
        }
        let sum = sum.finalize();
        self.manifest.files.push(FileOf { name: piece.name, size, content, sum });
        Ok(())
    }

    fn finish(&mut self) -> Result<Summary, BackupError> {
        self.source.check()?;
        self.target.sync_dir().map_err(|e| BackupError::target(".", e))?;
        let written = self.manifest.write(&*self.target);
        written.map_err(|e| BackupError::target(super::MANIFEST_NAME, e))?;
        self.hold = None;
        let files = &self.manifest.files;
        let bytes = files.iter().map(|file| file.size).sum();
        Ok(Summary { files: files.len() as u64, bytes, end: self.manifest.end })
    }
}

impl Copying {
    fn step(&mut self) -> Result<u64, BackupError> {
        let length = (self.content - self.at).min(STEP_BYTES);
        let mut bytes = vec![0; length as usize];
        let name = &self.piece.name;
        self.from.read_at(&mut bytes, self.at).map_err(|e| BackupError::source(name, e))?;
        self.sum.update(&bytes);
        if let Some(to) = &self.to {
            self.unsynced += length;
            let mut written = to.write_at(&bytes, self.at);
            if self.unsynced >= UNSYNCED_BYTES_MAX {
                self.unsynced = 0;
                written = written.and_then(|()| to.sync());
            }
            written.map_err(|e| BackupError::target(name, e))?;
        }
        self.at += length;
        Ok(length)
    }
}
