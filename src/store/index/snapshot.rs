//! The index as it was at one moment, and a copy of that in another directory.
//!
//! Owns the copying of every table, in steps of so many rows, so that nobody waits for it: commits
//! go on beside it. Always: a copy holds what one checkpoint left, or it is an error; a table that
//! is not known here is an error, too, rather than left out.
//! Leaves to others: the log that belongs to a snapshot (`crate::backup`).

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use redb::{
    Key, ReadTransaction, ReadableDatabase, ReadableTableMetadata, Table, TableDefinition,
    TableHandle, Value,
};

use super::error::{bad_row, damaged, error, guarded, io_error};
use super::row::TRANSACTIONS;
use super::row::UPLOADS;
use super::row::{self, BadRow, ENTRIES, EntryKey, META, MOVED, PACKS, PIECES, PieceKey, QUEUES};
use super::row::{BRANCHES, HEURISTICS, OUTCOME_NUMBERS, OUTCOMES};
use super::row::{DUE, DueKey, LATE, NAMES, NOTES, NameKey, OPERATIONS, OperationKey, SEGMENTS};
use super::row::{PRODUCERS, ProducerKey, SHARES};
use super::{Base, Handle, INDEX_NAME, Index, IndexError};
use super::{begin_write, create, open_existing, read_base_in, read_head};
use crate::io::Storage;

/// Rows that one step copies, as one transaction.
const STEP_ROWS: usize = 16 * 1024;

/// The index at one moment. While it lives, the file keeps the pages it needs.
pub struct Snapshot {
    index: Arc<Index>,
    read: ReadTransaction,
    opened: u64,
    base: Base,
    rows: u64,
    file_bytes: u64,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl Index {
    /// The index as the last checkpoint left it.
    ///
    /// # Errors
    /// Those of the disk, and where it is damaged.
    pub fn snapshot(self: &Arc<Self>) -> Result<Snapshot, IndexError> {
        let state = self.database()?;
        guarded(|| {
            let opened = self.opened.load(Ordering::Acquire);
            let read = state.database().begin_read().map_err(error)?;
            let (_, base) = read_base_in(&read, self.store_id)?;
            let known: BTreeSet<&str> = [
                ENTRIES.name(),
                QUEUES.name(),
                SEGMENTS.name(),
                PIECES.name(),
                UPLOADS.name(),
                OPERATIONS.name(),
                TRANSACTIONS.name(),
                BRANCHES.name(),
                HEURISTICS.name(),
                OUTCOMES.name(),
                OUTCOME_NUMBERS.name(),
                PACKS.name(),
                MOVED.name(),
                SHARES.name(),
                NAMES.name(),
                PRODUCERS.name(),
                LATE.name(),
                DUE.name(),
                NOTES.name(),
                META.name(),
            ]
            .into();
            for table in read.list_tables().map_err(error)? {
                if !known.contains(table.name()) {
                    return Err(damaged(format_args!("its table {:?} is unknown", table.name())));
                }
            }
            let rows = read.open_table(ENTRIES).map_err(error)?.len().map_err(error)?;
            let file = self.storage.open(INDEX_NAME).and_then(|file| file.size());
            let file_bytes = file.map_err(io_error)?;
            let index = Arc::clone(self);
            Ok(Snapshot { index, read, opened, base, rows, file_bytes })
        })
    }

    /// Gives the index in `storage`, which belongs to the store `from`, to the store `to`.
    ///
    /// # Errors
    /// As [`Index::open`]; `Damaged` where there is none.
    pub fn give(
        storage: &dyn Storage,
        from: u128,
        to: u128,
        cache_bytes: usize,
    ) -> Result<(), IndexError> {
        guarded(|| {
            let database = open_existing(storage, cache_bytes)?;
            let database = database.ok_or_else(|| damaged("it is missing"))?;
            read_head(&database, from)?;
            let write = begin_write(&database)?;
            {
                let mut meta = write.open_table(META).map_err(error)?;
                let id = to.to_le_bytes();
                meta.insert(row::META_STORE, id.as_slice()).map_err(error)?;
            }
            write.commit().map_err(error)
        })
    }
}

impl Index {
    /// Forgets that these segments lie in a pack: it is lost.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn unpack(&self, ordinals: &[u64]) -> Result<(), IndexError> {
        let state = self.database()?;
        guarded(|| {
            let write = begin_write(state.database())?;
            {
                let mut packs = write.open_table(PACKS).map_err(error)?;
                for ordinal in ordinals {
                    packs.remove(ordinal).map_err(error)?;
                }
            }
            write.commit().map_err(error)
        })
    }
}

impl Snapshot {
    /// Everything but the entries.
    pub fn base(&self) -> &Base {
        &self.base
    }

    /// Bytes of the file that it is a part of.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Begins a copy of it in the directory `target`, which has no index.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn copy(self, target: &dyn Storage, cache_bytes: usize) -> Result<IndexCopy, IndexError> {
        let database = guarded(|| create(target, self.index.store_id, cache_bytes))?;
        let into = Handle(Some(database));
        Ok(IndexCopy { snapshot: self, into, stage: Stage::Entries(None), copied: 0 })
    }
}

/// A copy of a snapshot in the making.
#[derive(Debug)]
pub struct IndexCopy {
    snapshot: Snapshot,
    into: Handle,
    stage: Stage,
    copied: u64,
}

/// Which table is next, and after which of its rows.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Entries(Option<EntryKey>),
    Queues(Option<u64>),
    Segments(Option<u64>),
    Pieces(Option<PieceKey>),
    Uploads(Option<u64>),
    Operations(Option<OperationKey>),
    Transactions(Option<u64>),
    Branches(Option<u64>),
    /// Numbers of outcomes, and the outcomes along with them.
    Outcomes(Option<u64>),
    Heuristics,
    Packs(Option<u64>),
    Moved(Option<u64>),
    Shares(Option<u64>),
    Names(Option<NameKey>),
    Producers(Option<ProducerKey>),
    Late(Option<EntryKey>),
    Due(Option<DueKey>),
    Notes(Option<u32>),
    Meta,
    Done,
}

impl IndexCopy {
    /// Copies some rows, durably. `false` when it has them all.
    ///
    /// # Errors
    /// Those of either disk; where the snapshot is damaged, or has ended because the disk was
    /// full meanwhile.
    pub fn step(&mut self) -> Result<bool, IndexError> {
        let Self { snapshot, into, stage, copied } = self;
        let stage_after = guarded(|| {
            let write = begin_write(into.get())?;
            let next = snapshot.copy_some(&write, *stage, copied)?;
            write.commit().map_err(error)?;
            Ok(next)
        });
        // What was read from a file that was closed meanwhile may be anything.
        if snapshot.index.opened.load(Ordering::Acquire) != snapshot.opened {
            return Err(IndexError::Full);
        }
        *stage = stage_after?;
        Ok(!matches!(stage, Stage::Done))
    }

    /// Messages copied, and all of them.
    pub fn progress(&self) -> (u64, u64) {
        (self.copied, self.snapshot.rows)
    }
}

impl Snapshot {
    fn copy_some(
        &self,
        write: &redb::WriteTransaction,
        stage: Stage,
        copied: &mut u64,
    ) -> Result<Stage, IndexError> {
        Ok(match stage {
            Stage::Entries(after) => {
                let mut rows = 0;
                let last = self.rows_after(write, ENTRIES, after, |key, value| {
                    rows += 1;
                    row::decode_entry(key, value).map_err(|BadRow| bad_row(&key)).map(drop)
                })?;
                *copied += rows;
                last.map_or(Stage::Queues(None), |last| Stage::Entries(Some(last)))
            }
            Stage::Queues(after) => self
                .rows_after(write, QUEUES, after, |_, _| Ok(()))?
                .map_or(Stage::Segments(None), |last| Stage::Queues(Some(last))),
            Stage::Segments(after) => self
                .rows_after(write, SEGMENTS, after, |_, _| Ok(()))?
                .map_or(Stage::Pieces(None), |last| Stage::Segments(Some(last))),
            Stage::Pieces(after) => self
                .rows_after(write, PIECES, after, |_, _| Ok(()))?
                .map_or(Stage::Uploads(None), |last| Stage::Pieces(Some(last))),
            Stage::Uploads(after) => self
                .rows_after(write, UPLOADS, after, |_, _| Ok(()))?
                .map_or(Stage::Operations(None), |last| Stage::Uploads(Some(last))),
            Stage::Operations(after) => self
                .rows_after(write, OPERATIONS, after, |_, _| Ok(()))?
                .map_or(Stage::Transactions(None), |last| Stage::Operations(Some(last))),
            Stage::Transactions(after) => self
                .rows_after(write, TRANSACTIONS, after, |_, _| Ok(()))?
                .map_or(Stage::Branches(None), |last| Stage::Transactions(Some(last))),
            Stage::Branches(_) | Stage::Outcomes(_) | Stage::Heuristics => {
                self.copy_branches(write, stage)?
            }
            Stage::Packs(after) => self
                .rows_after(write, PACKS, after, |_, _| Ok(()))?
                .map_or(Stage::Moved(None), |last| Stage::Packs(Some(last))),
            Stage::Moved(after) => self
                .rows_after(write, MOVED, after, |_, _| Ok(()))?
                .map_or(Stage::Shares(None), |last| Stage::Moved(Some(last))),
            Stage::Shares(after) => self
                .rows_after(write, SHARES, after, |_, _| Ok(()))?
                .map_or(Stage::Late(None), |last| Stage::Shares(Some(last))),
            Stage::Late(after) => self
                .rows_after(write, LATE, after, |_, _| Ok(()))?
                .map_or(Stage::Due(None), |last| Stage::Late(Some(last))),
            Stage::Due(after) => self
                .rows_after(write, DUE, after, |_, ()| Ok(()))?
                .map_or(Stage::Notes(None), |last| Stage::Due(Some(last))),
            Stage::Notes(after) => self
                .rows_after(write, NOTES, after, |_, _| Ok(()))?
                .map_or(Stage::Names(None), |last| Stage::Notes(Some(last))),
            Stage::Names(_) | Stage::Producers(_) => self.copy_repetitions(write, stage)?,
            Stage::Meta => {
                let (from, mut to) = (
                    self.read.open_table(META).map_err(error)?,
                    write.open_table(META).map_err(error)?,
                );
                for found in from.range::<&str>(..).map_err(error)? {
                    let (key, value) = found.map_err(error)?;
                    to.insert(key.value(), value.value()).map_err(error)?;
                }
                Stage::Done
            }
            Stage::Done => Stage::Done,
        })
    }

    fn copy_repetitions(
        &self,
        write: &redb::WriteTransaction,
        stage: Stage,
    ) -> Result<Stage, IndexError> {
        Ok(match stage {
            Stage::Names(after) => self
                .rows_after(write, NAMES, after, |_, _| Ok(()))?
                .map_or(Stage::Producers(None), |last| Stage::Names(Some(last))),
            Stage::Producers(after) => self
                .rows_after(write, PRODUCERS, after, |_, _| Ok(()))?
                .map_or(Stage::Meta, |last| Stage::Producers(Some(last))),
            other => other,
        })
    }

    fn copy_branches(
        &self,
        write: &redb::WriteTransaction,
        stage: Stage,
    ) -> Result<Stage, IndexError> {
        Ok(match stage {
            Stage::Branches(after) => self
                .rows_after(write, BRANCHES, after, |_, _| Ok(()))?
                .map_or(Stage::Outcomes(None), |last| Stage::Branches(Some(last))),
            Stage::Outcomes(after) => self
                .copy_outcomes(write, after)?
                .map_or(Stage::Heuristics, |last| Stage::Outcomes(Some(last))),
            _ => {
                self.copy_heuristics(write)?;
                Stage::Packs(None)
            }
        })
    }

    /// Copies the next outcomes, by their numbers, and gives the last of these.
    fn copy_outcomes(
        &self,
        write: &redb::WriteTransaction,
        after: Option<u64>,
    ) -> Result<Option<u64>, IndexError> {
        let from = self.read.open_table(OUTCOMES).map_err(error)?;
        let mut to = write.open_table(OUTCOMES).map_err(error)?;
        self.rows_after(write, OUTCOME_NUMBERS, after, |_, key| {
            if let Some(row) = from.get(key).map_err(error)? {
                to.insert(key, row.value()).map_err(error)?;
            }
            Ok(())
        })
    }

    fn copy_heuristics(&self, write: &redb::WriteTransaction) -> Result<(), IndexError> {
        let from = self.read.open_table(HEURISTICS).map_err(error)?;
        let mut to = write.open_table(HEURISTICS).map_err(error)?;
        for found in from.range::<&[u8]>(..).map_err(error)? {
            let (key, value) = found.map_err(error)?;
            to.insert(key.value(), value.value()).map_err(error)?;
        }
        Ok(())
    }

    /// Copies the next rows of a table, and gives the last of them; `None` at the end.
    fn rows_after<K, V>(
        &self,
        write: &redb::WriteTransaction,
        table: TableDefinition<'_, K, V>,
        after: Option<K>,
        mut check: impl FnMut(K, V::SelfType<'_>) -> Result<(), IndexError>,
    ) -> Result<Option<K>, IndexError>
    where
        K: for<'a> Key<SelfType<'a> = K> + Copy + 'static,
        V: Value + 'static,
    {
        let from = self.read.open_table(table).map_err(error)?;
        let mut to: Table<'_, K, V> = write.open_table(table).map_err(error)?;
        let first = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = from.range::<K>((first, Bound::Unbounded)).map_err(error)?;
        let (mut last, mut count) = (None, 0);
        for found in range.take(STEP_ROWS) {
            let (key, value) = found.map_err(error)?;
            check(key.value(), value.value())?;
            to.insert(key.value(), value.value()).map_err(error)?;
            (last, count) = (Some(key.value()), count + 1);
        }
        Ok(last.filter(|_| count == STEP_ROWS))
    }
}
