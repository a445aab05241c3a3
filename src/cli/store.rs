//! `escrowmq store`: looks into a store without changing it, and makes copies of it.
//!
//! Owns what its commands share: how a store is opened to be looked at, how far a long work has
//! come, and the words for what the survey of a log finds.

mod backup;
mod branches;
pub(super) mod describe;
mod dump;
mod repair;
mod stats;
mod verify;

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::CliError;
use crate::backup::MANIFEST_NAME;
use crate::broker::delta::{Delta, PieceAt};
use crate::broker::{self, Broker, Written};
use crate::ids::{Lsn, UploadId};
use crate::io::Storage;
use crate::io::alias::AliasStorage;
use crate::io::look::LookStorage;
use crate::io::real::{LockError, StoreLock};
use crate::record::Record;
use crate::store::index::{Base, INDEX_NAME, Index, IndexError};
use crate::wal::names;
use crate::wal::{Finding, Needed, Records};

/// Memory for pages of the index: more would be quicker, and a person waits.
const INDEX_CACHE_BYTES: usize = 64 << 20;

/// Pieces of a large body read at once.
const PAGE_PIECES: usize = 1024;

/// How often a long work says how far it has come.
const PROGRESS_PERIOD: Duration = Duration::from_secs(1);

pub(super) fn verify(dir: &Path) -> Result<ExitCode, CliError> {
    verify::verify(&look(dir)?)
}

pub(super) fn dump(dir: &Path) -> Result<ExitCode, CliError> {
    dump::dump(&look(dir)?)
}

pub(super) use backup::{backup, restore_into};
pub(super) use branches::branches;
pub(super) use repair::repair;

pub(super) fn stats(dir: &Path, json: bool, quick: bool) -> Result<ExitCode, CliError> {
    let store = look(dir).map_err(|error| match error.downcast_ref::<LockError>() {
        Some(LockError::Held { .. }) => format!(
            "{dir}: the store is in use. While a broker runs on it, `escrowmq queue list` tells \
             the depth of its queues, and `escrowmq store backup {dir} TARGET` makes a copy whose \
             numbers this command can tell",
            dir = dir.display()
        )
        .into(),
        _ => error,
    })?;
    stats::stats(&store, json, quick)
}

/// A store that nobody changes while it is looked at.
struct Looked {
    storage: Arc<dyn Storage>,
    _lock: Option<StoreLock>,
}

fn look(dir: &Path) -> Result<Looked, CliError> {
    let look = LookStorage::open(dir)?;
    match look.open(names::IDENTITY) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return look_at_backup(look, dir),
        result => result.map(drop)?,
    }
    let lock = look.try_lock()?;
    Ok(Looked { storage: Arc::new(look), _lock: lock })
}

/// A backup is a store under another name, if it is whole.
fn look_at_backup(look: LookStorage, dir: &Path) -> Result<Looked, CliError> {
    let there = |name| match look.open(name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        result => result.map(|_| true),
    };
    let (identity, dir) = (names::IDENTITY, dir.display());
    if there(names::IDENTITY_UNFINISHED)? {
        return Err(format!(
            "{dir}: a restore or repair into it has not ended; remove it and begin it again"
        )
        .into());
    }
    if !there(names::IDENTITY_IN_BACKUP)? {
        return Err(format!("{dir}: not a store: no file `{identity}`").into());
    }
    if !there(MANIFEST_NAME)? {
        return Err(format!(
            "{dir}: an unfinished backup: no file `{MANIFEST_NAME}`, which is written last; \
             remove it and take another one"
        )
        .into());
    }
    let storage = AliasStorage::new(Arc::new(look), identity, names::IDENTITY_IN_BACKUP);
    Ok(Looked { storage: Arc::new(storage), _lock: None })
}

impl Looked {
    /// The index, or `None` where none was made yet.
    fn index(&self, store: u128) -> Result<Option<(Index, Base)>, IndexError> {
        match self.storage.open(INDEX_NAME) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            _ => quietly(|| {
                let opened = Index::open(Arc::clone(&self.storage), store, INDEX_CACHE_BYTES);
                let (index, base) = opened?;
                let base = base.with_producers(&index)?;
                Ok(Some((index, base)))
            }),
        }
    }
}

/// Asks the index something. It makes an error of a panic over damaged pages, so a person need not
/// read of it twice.
fn quietly<T>(question: impl FnOnce() -> T) -> T {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let answer = question();
    std::panic::set_hook(hook);
    answer
}

/// Shows every piece of a large body that the index has.
fn pieces_of(
    index: &Index,
    upload: UploadId,
    visit: &mut dyn FnMut(u32, PieceAt),
) -> Result<(), IndexError> {
    let mut after = 0;
    loop {
        let page = index.pieces(upload, after, PAGE_PIECES)?;
        page.iter().for_each(|(number, piece)| visit(*number, *piece));
        match page.last() {
            Some((number, _)) => after = *number,
            None => return Ok(()),
        }
    }
}

/// The state that a start would come to, and its last record.
fn replayed(
    base: &Base,
    records: &mut Records,
    segment_size: u64,
    ticker: &mut Ticker,
) -> Result<(Broker, Lsn), CliError> {
    let base = base.clone().into_durable();
    let mut through = base.through;
    let mut broker = Broker::new(base, broker::Limits::default(), segment_size);
    while let Some(found) = records.next()? {
        let record = Record::decode(found.kind, &found.record)
            .map_err(|error| format!("the record at {}: {error}", found.lsn))?;
        broker.apply_record(Written { lsn: found.lsn, frame_len: found.frame_len }, &record)?;
        through = found.lsn;
        let (done, total) = (records.progress().done >> 20, records.progress().total >> 20);
        ticker.tick(|| format!("log after the last checkpoint: {done} of {total} MiB"));
    }
    Ok((broker, through))
}

/// Everything that was applied to a broker up to `through`, the last record, and not taken before.
fn freeze(broker: &mut Broker, through: Lsn) -> Arc<Delta> {
    broker.freeze(through);
    broker.freeze_rows(usize::MAX).expect("all rows at once are whole")
}

fn needed(base: &Base) -> Needed {
    Needed { replay: base.replay, live: base.live.clone(), packs: base.packs.clone() }
}

/// Tells a person who waits how far it is.
struct Ticker {
    told: Instant,
}

impl Ticker {
    fn new() -> Self {
        Self { told: Instant::now() }
    }

    fn tick(&mut self, text: impl FnOnce() -> String) {
        if self.told.elapsed() >= PROGRESS_PERIOD {
            self.told = Instant::now();
            eprintln!("{}", text());
        }
    }
}

/// A finding as `FILE at offset N: what`, or `FILE: what` where it is about a whole file.
fn line_of(finding: &Finding) -> String {
    match finding {
        Finding::Damaged(damage) => {
            let (part, lsn) = (damage.part, damage.lsn);
            at(&damage.file, damage.offset, format_args!("the {part} of the frame at {lsn}"))
        }
        Finding::Corrupt { file, offset, reason } => at(file, *offset, reason),
        Finding::HeaderCopy { .. } => finding.to_string(),
        Finding::Unusable(error) => match error.file() {
            Some(file) => format!("{file}: {error}"),
            None => error.to_string(),
        },
        Finding::MissingClaim { file } => format!("{file}: {finding}"),
    }
}

fn at(file: &str, offset: u64, what: impl std::fmt::Display) -> String {
    format!("{file} at offset {offset}: {what}")
}
