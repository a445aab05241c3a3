//! What a backup is made of: a store whose broker runs, or one at rest.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use crate::backup::BackupError;
use crate::broker::{self, Broker, Written};
use crate::engine::Store;
use crate::ids::Lsn;
use crate::io::Storage;
use crate::record::Record;
use crate::store::index::{Base, INDEX_NAME, Index, IndexError, Snapshot};
use crate::wal::format::Identity;
use crate::wal::names;
use crate::wal::{self, Fence, Hold, Log, PackId, Peek, PeekError, Reader, Records, SegmentFile};

/// A store that can be backed up. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Source {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) identity: Identity,
    pub(crate) epoch: u64,
    pub(crate) index: Arc<Index>,
    log: Of,
}

#[derive(Clone, Debug)]
enum Of {
    Running { log: Arc<Log>, reader: Reader, fence: Fence },
    Resting { segments: Vec<SegmentFile>, small: Vec<String>, end: Option<Lsn> },
}

/// Why a store at rest cannot be backed up.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A start would be refused, too.
    #[error(transparent)]
    Past(#[from] PeekError),
    /// The index cannot be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A record cannot be replayed.
    #[error("{0}: see `escrowmq store repair`")]
    Replay(Box<dyn std::error::Error + Send + Sync>),
    /// Messages lie in a segment that is not there.
    #[error(
        "segment {ordinal} of the log is missing, and messages lie in it: see \
             `escrowmq store repair`"
    )]
    MissingSegment {
        /// Its number.
        ordinal: u64,
    },
    /// The index is gone.
    #[error("{INDEX_NAME} is missing: see `escrowmq store repair`")]
    NoIndex,
    /// No broker has ever run on it.
    #[error("the store has never been used: there is nothing to back up")]
    Unused,
}

/// One moment of a store, and what of its log that needs.
#[derive(Debug)]
pub(crate) struct Moment {
    pub(crate) snapshot: Snapshot,
    /// What lies before this in the log belongs to it; `None` where all does.
    pub(crate) end: Option<Lsn>,
    pub(crate) segments: Vec<SegmentFile>,
    pub(crate) packs: BTreeSet<PackId>,
    pub(crate) small: Vec<String>,
    /// Keeps the files until they are copied, where someone would take them back.
    pub(crate) hold: Option<Hold>,
}

impl Source {
    /// The store of a broker that is about to run.
    pub fn running(store: &Store, storage: &Arc<dyn Storage>) -> Self {
        let (log, reader) = (Arc::clone(&store.log), store.reader.clone());
        let identity =
            Identity { store: store.report.store_id, segment_size: store.log.segment_size() };
        Self {
            storage: Arc::clone(storage),
            identity,
            epoch: store.log.epoch(),
            index: Arc::clone(&store.index),
            log: Of::Running { log, reader, fence: store.fence.clone() },
        }
    }

    /// A store at rest that nobody changes meanwhile. `index_bytes` bounds the memory for pages.
    ///
    /// # Errors
    /// Where a start would be refused, or there is nothing in it.
    pub fn resting(storage: &Arc<dyn Storage>, index_bytes: usize) -> Result<Self, SourceError> {
        let peek = Peek::open(storage)?;
        if peek.epoch() == 0 {
            return Err(SourceError::Unused);
        }
        match storage.open(INDEX_NAME) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(SourceError::NoIndex),
            // What else is wrong with it is found when it is opened.
            _ => {}
        }
        let identity = peek.identity();
        let (index, base) = Index::open(Arc::clone(storage), identity.store, index_bytes)?;
        let base = base.with_producers(&index)?;
        // Replayed as a start would do it: what could not be started is not copied, and segments
        // that were made ahead and never used need not be.
        let mut records = peek.records(base.replay).map_err(PeekError::from)?;
        let live = live_after(&base, &mut records, identity.segment_size)?;
        let end = Some(records.end()).filter(|end| end.0 > 0);
        let segments: Vec<SegmentFile> =
            peek.segments().into_iter().map(|known| known.file).collect();
        let there = |ordinal| segments.iter().any(|file| file.ordinal == ordinal);
        let packed = |ordinal| base.packs.contains_key(&ordinal);
        let gone = |ordinal: &u64| !there(*ordinal) && !packed(*ordinal);
        if let Some(ordinal) = live.into_iter().find(gone) {
            return Err(SourceError::MissingSegment { ordinal });
        }
        Ok(Self {
            storage: Arc::clone(storage),
            identity,
            epoch: peek.epoch(),
            index: Arc::new(index),
            log: Of::Resting { segments, small: peek.small_files(), end },
        })
    }

    /// The store as it is now.
    pub(crate) fn moment(&self) -> Result<Moment, BackupError> {
        let size = self.identity.segment_size;
        match &self.log {
            Of::Running { log, reader, .. } => {
                // First nothing goes any more; then the index says what it needs; only then is the
                // log's end asked for, so that no record the index has lies beyond it.
                let hold = reader.hold().ok_or(BackupError::Busy)?;
                let snapshot = self.index.snapshot()?;
                let end = log.durable();
                let (segments, packs) =
                    needed(&*self.storage, snapshot.base(), hold.files(), Some(end), size)?;
                hold.keep(segments.iter().map(|file| file.ordinal).collect(), packs.clone());
                let small = wal::small_files(&*self.storage, self.epoch);
                let small = small.map_err(|e| BackupError::source(".", e))?;
                Ok(Moment { snapshot, end: Some(end), segments, packs, small, hold: Some(hold) })
            }
            Of::Resting { segments, small, end } => {
                let snapshot = self.index.snapshot()?;
                let (segments, packs) =
                    needed(&*self.storage, snapshot.base(), segments.clone(), *end, size)?;
                let (end, small) = (*end, small.clone());
                Ok(Moment { snapshot, end, segments, packs, small, hold: None })
            }
        }
    }

    /// Whether the store is still ours: what a later owner wrote is not in the backup.
    pub(crate) fn check(&self) -> Result<(), BackupError> {
        match &self.log {
            Of::Running { fence, .. } => fence.check().map_err(BackupError::Lost),
            Of::Resting { .. } => Ok(()),
        }
    }
}

/// The segments that messages lie in, once the log after the index has been replayed.
fn live_after(
    base: &Base,
    records: &mut Records,
    segment_size: u64,
) -> Result<Vec<u64>, SourceError> {
    let base = base.clone().into_durable();
    let mut broker = Broker::new(base, broker::Limits::default(), segment_size);
    while let Some(found) = records.next().map_err(PeekError::from)? {
        let record = Record::decode(found.kind, &found.record);
        let record = record.map_err(|error| SourceError::Replay(error.into()))?;
        let written = Written { lsn: found.lsn, frame_len: found.frame_len };
        let applied = broker.apply_record(written, &record);
        applied.map_err(|error| SourceError::Replay(error.into()))?;
    }
    Ok(broker.live().into_keys().collect())
}

/// The files of the log that one state of the index needs, of those there are: what it refers to,
/// and what a replay reads. A segment that the index refers to and that is not there has died in
/// the log since, and a start has removed it. A pack stands for its segments, but where it is gone
/// and they are still there: see `wal-format.md`.
fn needed(
    storage: &dyn Storage,
    base: &Base,
    mut there: Vec<SegmentFile>,
    end: Option<Lsn>,
    segment_size: u64,
) -> Result<(Vec<SegmentFile>, BTreeSet<PackId>), BackupError> {
    let replay_from = base.replay.map_or(0, |replay| replay.batch.0 / segment_size);
    // The end is exclusive, and a segment may be full to the last byte.
    let last = end.map_or(u64::MAX, |end| end.0.saturating_sub(1) / segment_size);
    let mut packs = BTreeSet::new();
    for id in base.packs.values().collect::<BTreeSet<_>>() {
        let name = names::pack(*id);
        match storage.open(&name) {
            Ok(_) => drop(packs.insert(*id)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(BackupError::source(&name, e)),
        }
    }
    let packed = |ordinal| base.packs.get(&ordinal).is_some_and(|id| packs.contains(id));
    there.retain(|file| {
        (base.live.contains_key(&file.ordinal) && !packed(file.ordinal))
            || (replay_from..=last).contains(&file.ordinal)
    });
    Ok((there, packs))
}
