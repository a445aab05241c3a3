//! From a directory to a running state: claim, index, replay, seal.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use crate::broker::fact::{ProducersPage, ProducersRequest};
use crate::broker::{Broker, Misfit, Written};
use crate::engine::checkpoint::{Checkpoints, Segments};
use crate::engine::{Compactor, DiskWatch, Engine, Settings};
use crate::identity::Identity;
use crate::ids::{Lsn, Millis};
use crate::io::Storage;
use crate::limits;
use crate::record::{Record, RecordError};
use crate::store::index::{Index, IndexError};
use crate::store::reserve;
use crate::wal::{
    self, ClaimError, Damage, Fence, Log, Progress, Reader, RecoveryError, ReplayPoint, Room,
};

/// A store that has been recovered and belongs to this process.
#[derive(Debug)]
pub struct Store {
    /// The broker with its log.
    pub engine: Engine,
    /// The log, for the thread that writes it.
    pub log: Arc<Log>,
    /// Makes segments ahead.
    pub room: Room,
    /// Reads payloads.
    pub reader: Reader,
    /// Packs what is left of old segments.
    pub compactor: Compactor,
    /// Tells whether the store is still ours.
    pub fence: Fence,
    /// What the log need not repeat.
    pub index: Arc<Index>,
    /// Tells how much the disk has left.
    pub disk: Arc<DiskWatch>,
    /// What was found.
    pub report: Report,
}

/// What recovery found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The epoch that begins.
    pub epoch: u64,
    /// The identity of the store.
    pub store_id: u128,
    /// Records replayed.
    pub records: u64,
    /// Messages whose payload is damaged; they go to the queue for damaged ones when their turn
    /// comes.
    pub damaged: Vec<Damage>,
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be claimed.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The index cannot be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The log cannot be read.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// A record with a good checksum is unknown or malformed.
    #[error("the record at {lsn} cannot be read: {error}; was a newer version here before?")]
    Record {
        /// Where.
        lsn: Lsn,
        /// Why.
        error: RecordError,
    },
    /// A record contradicts those before it.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// Another broker has the store by now, or nobody can tell.
    #[error("the store is not to be written to: {0}")]
    Fenced(#[source] io::Error),
}

/// Opens the store in `storage`, as its next epoch. `nonce` must never repeat: take it from the
/// system's randomness. `progress` hears how far the replay has come.
///
/// # Errors
/// Where the directory is no store, belongs to someone else, or is damaged. Nothing that was
/// there has been changed then, but for a claim; what follows it fails only with the disk.
pub fn open_store(
    storage: &Arc<dyn Storage>,
    options: wal::Options,
    settings: &Settings,
    nonce: u128,
    now: Millis,
    progress: &mut dyn FnMut(Progress),
) -> Result<Store, StoreError> {
    let claim = claim(storage, options, nonce)?;
    let segment_size = claim.segment_size();
    let mut report =
        Report { epoch: claim.epoch(), store_id: claim.store_id(), ..Report::default() };
    let (mut index, mut base) =
        Index::open(Arc::clone(storage), claim.store_id(), settings.index_bytes)?;
    let (checkpointed, packed) = (base.replay, std::mem::take(&mut base.packs));
    let mut broker = Broker::new(base.into_durable(), settings.limits, segment_size);
    broker.govern(Arc::clone(&settings.policies));
    let lacked = broker.lacked_by_transactions().collect();
    load_producers(&index, &mut broker, lacked)?;
    let mut recovery = claim.recover(checkpointed)?;
    let mut last = checkpointed;
    while let Some(found) = recovery.next()? {
        let lsn = found.lsn;
        let record = Record::decode(found.kind, &found.record)
            .map_err(|error| StoreError::Record { lsn, error })?;
        let lacked = broker.lacked_by(&record).collect();
        load_producers(&index, &mut broker, lacked)?;
        broker.apply_record(Written { lsn, frame_len: found.frame_len }, &record)?;
        last = Some(ReplayPoint { batch: found.batch, through: lsn });
        report.records += 1;
        if let Err(damage) = found.payload {
            report.damaged.push(damage);
        }
        progress(recovery.progress());
    }
    // True until the log has said it: a start that is cut off before leaves it to the next.
    let restored = recovery.restored_at().is_some_and(|epoch| broker.epoch() <= epoch);
    let opened = recovery.finish(&broker.live(), &packed)?;
    raise(&index, &opened.fence)?;
    let log = opened.log;
    let checkpoints = Checkpoints::new(
        settings,
        Segments {
            past: opened.past,
            packs: opened.packs,
            first: opened.first_ordinal,
            size: segment_size,
        },
        checkpointed,
        last,
    );
    // Room for a segment that a start copies, or for what a checkpoint brings.
    index.keep_reserve(segment_size);
    let index = Arc::new(index);
    let reserve = kept_free(settings.disk_reserve, segment_size);
    let disk = Arc::new(DiskWatch::new(Arc::clone(storage), Arc::clone(&index), reserve));
    let (l, d) = (Arc::clone(&log), Arc::clone(&disk));
    let mut engine = Engine::new(broker, l, settings, checkpoints, d);
    engine.begin(now, report.epoch, restored);
    let (room, reader, fence) = (opened.room, opened.reader, opened.fence);
    let compactor = Compactor {
        packer: opened.packer,
        index: Arc::clone(&index),
        fence: fence.clone(),
        log: Arc::clone(&log),
        rate: settings.compaction_bytes,
        work: None,
    };
    Ok(Store { engine, log, room, reader, compactor, fence, index, disk, report })
}

/// Makes the store one of this version, before the first record of this life: an older one may not
/// know that. Who has lost the store meanwhile leaves its index to the new owner.
fn raise(index: &Index, fence: &Fence) -> Result<(), StoreError> {
    fence.check().map_err(StoreError::Fenced)?;
    Ok(index.raise()?)
}

/// Bytes of the disk that sends leave free. A store keeps the segments it was made with, and they
/// may be larger than those that the settings were judged by.
fn kept_free(disk_reserve: u64, segment_size: u64) -> u64 {
    if disk_reserve == 0 { 0 } else { disk_reserve.max(2 * segment_size) }
}

/// Reads these producers.
fn load_producers(
    index: &Index,
    broker: &mut Broker,
    lacked: Vec<Identity>,
) -> Result<(), IndexError> {
    for id in lacked {
        let rows = index.producer(id)?.map(|row| (id, row)).into_iter().collect();
        broker.producers_in(ProducersPage { request: ProducersRequest::One(id), rows });
    }
    Ok(())
}

/// Takes the store. On a full disk it gets the room that an earlier owner has set aside: for the
/// claim, for a copy of what is not proven, and for the first segment.
fn claim(
    storage: &Arc<dyn Storage>,
    options: wal::Options,
    nonce: u128,
) -> Result<wal::Claim, ClaimError> {
    let claim = match wal::claim(Arc::clone(storage), options.clone(), nonce) {
        Err(ClaimError::Io { source, .. })
            if source.kind() == ErrorKind::StorageFull && reserve::release(&**storage) =>
        {
            wal::claim(Arc::clone(storage), options, nonce)?
        }
        claim => claim?,
    };
    if storage.free().is_ok_and(|free| free < limits::START_SEGMENTS * claim.segment_size()) {
        reserve::release(&**storage);
    }
    Ok(claim)
}
