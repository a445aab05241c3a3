//! Reading a store's past without owning it: which files count, and the records after those that
//! the index has.
//!
//! Takes no claim and writes nothing. Judges each place as a start would, so what it comes to is
//! what a start would come to, and what it refuses a start refuses.

use std::sync::Arc;

use crate::ids::Lsn;
use crate::io::Storage;
use crate::wal::claim::{ClaimError, identity_read};
use crate::wal::error::RecoveryError;
use crate::wal::format::{End, Identity};
use crate::wal::hold::SegmentFile;
use crate::wal::names::{self, Name};
use crate::wal::replay::{Progress, Recovered, ReplayPoint, TailVerdict, ToRead, Walk, WalkStart};
use crate::wal::start::Past;

/// Why there is nothing to be seen.
#[derive(Debug, thiserror::Error)]
pub enum PeekError {
    /// The directory is no store.
    #[error("the directory has no file `store`: it is not a store")]
    NotAStore,
    /// The store's identity could not be read.
    #[error(transparent)]
    Identity(#[from] ClaimError),
    /// A start would be refused.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
}

/// A segment that counts, as the newest seal and the directory tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its file.
    pub file: SegmentFile,
    /// Where it ends, if a seal says so.
    pub end: Option<u64>,
}

/// The past of a store that is looked at.
#[derive(Debug)]
pub struct Peek {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) identity: Identity,
    names: Vec<Name>,
    pub(crate) past: Past,
}

impl Peek {
    /// Reads the small files.
    ///
    /// # Errors
    /// Where there is no store, or none that could be started.
    pub fn open(storage: &Arc<dyn Storage>) -> Result<Self, PeekError> {
        let identity = identity_read(&**storage)?.ok_or(PeekError::NotAStore)?;
        let listed = storage.list().map_err(|e| RecoveryError::io(".", e))?;
        let names: Vec<Name> = listed.iter().filter_map(|name| Name::parse(name)).collect();
        let past = Past::read(&**storage, identity, u64::MAX, &names)?;
        Ok(Self { storage: Arc::clone(storage), identity, names, past })
    }

    /// What is fixed for the life of the store.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The newest owner.
    pub fn epoch(&self) -> u64 {
        self.past.seal.as_ref().map_or(0, |(seal, _)| seal.epoch)
    }

    /// The id that the newest owner wrote under: the store's, unless that was restored and never
    /// ran.
    pub fn wrote_last(&self) -> u128 {
        self.past.lineage.store_of(self.epoch())
    }

    /// The small files that say what counts: origins, and claim and seal of the newest owner.
    pub fn small_files(&self) -> Vec<String> {
        small_names(&self.names, self.epoch())
    }

    /// The segments that count, oldest first.
    pub fn segments(&self) -> Vec<Known> {
        let known = |part: &ToRead| Known {
            file: SegmentFile::of(&part.file),
            end: part.sealed.map(|End { length, .. }| length),
        };
        self.past.segments.iter().map(known).collect()
    }

    /// Begins to read the records after those that the index has.
    ///
    /// # Errors
    /// Where a segment is missing.
    pub fn records(&self, from: Option<ReplayPoint>) -> Result<Records, RecoveryError> {
        let segment_size = self.identity.segment_size;
        let replay_from = from.map_or(0, |from| from.batch.0 / segment_size);
        let parts = self.past.to_read(replay_from, from)?;
        let seal = self.past.seal.as_ref().map(|(seal, sum)| (seal.first_ordinal, *sum));
        let storage = Arc::clone(&self.storage);
        Ok(Records { walk: Walk::new(WalkStart { storage, segment_size, from, parts, seal }) })
    }
}

/// The records of the past; see [`Peek::records`].
#[derive(Debug)]
pub struct Records {
    pub(crate) walk: Walk,
}

impl Records {
    /// The next one.
    ///
    /// # Errors
    /// Where a start would be refused.
    #[expect(clippy::should_implement_trait, reason = "it fails, and then it is over")]
    pub fn next(&mut self) -> Result<Option<Recovered>, RecoveryError> {
        let next = self.walk.next();
        // They are for one who will write them again.
        self.walk.forget_unproven();
        next
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        self.walk.progress()
    }

    /// How the log ended, once there are no more.
    pub fn tail(&self) -> Option<&TailVerdict> {
        self.walk.tail()
    }

    /// The end of what was read.
    pub fn end(&self) -> Lsn {
        self.walk.end()
    }
}

/// The small files that say what counts where `epoch` owns the store in `storage`.
///
/// # Errors
/// Where the directory cannot be listed.
pub fn small_files(storage: &dyn Storage, epoch: u64) -> std::io::Result<Vec<String>> {
    let names: Vec<Name> = storage.list()?.iter().filter_map(|name| Name::parse(name)).collect();
    Ok(small_names(&names, epoch))
}

fn small_names(names: &[Name], epoch: u64) -> Vec<String> {
    let mut files: Vec<String> = names
        .iter()
        .filter_map(|name| match name {
            Name::Origin { epoch } => Some(names::origin(*epoch)),
            _ => None,
        })
        .collect();
    if epoch > 0 {
        files.extend([names::claim(epoch), names::seal(epoch)]);
    }
    files
}
