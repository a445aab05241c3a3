//! Which pack the live frames of a segment lie in, and what one who packs wants to know.
//!
//! Always: a segment is said to lie in a pack only while it has live bytes, so a pack that no row
//! names is nobody's. A row is written in a transaction of its own; a checkpoint takes it away
//! with the segment's last live byte.

use std::fmt;
use std::sync::atomic::Ordering;

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable};

use super::error::{bad_row, error, guarded};
use super::row::{self, BadRow, ENTRIES, OPERATIONS, PACKS, PIECES, SEGMENTS};
use super::{CommitError, Index, IndexError, State, UNPOISONED, begin_write};
use crate::broker::delta::{Operation, PayloadOf};
use crate::ids::Lsn;
use crate::wal::PackId;

/// The index as it was at one moment, whatever is committed meanwhile. To be let go soon: the file
/// keeps every page of that moment.
pub struct View {
    read: ReadTransaction,
    /// Which opening of the file it is of.
    opened: u64,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("opened", &self.opened).finish_non_exhaustive()
    }
}

impl Index {
    /// The index as it is now.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn view(&self) -> Result<View, IndexError> {
        let state = self.database()?;
        let read = guarded(|| state.database().begin_read().map_err(error))?;
        Ok(View { read, opened: self.opened.load(Ordering::Acquire) })
    }

    /// Asks a snapshot something, if the file was not closed since it was taken: it is opened again
    /// after the disk was full, and the pages of a snapshot are not kept then.
    pub(super) fn ask<T>(
        &self,
        view: &View,
        question: impl FnOnce(&ReadTransaction) -> Result<T, IndexError>,
    ) -> Result<T, IndexError> {
        let _open = self.database()?;
        if self.opened.load(Ordering::Acquire) != view.opened {
            return Err(IndexError::Full);
        }
        guarded(|| question(&view.read))
    }

    /// The births of some payloads; `None` where there is no such message or piece.
    ///
    /// # Errors
    /// [`IndexError::Damaged`] where a row is not what its key says, and those of the disk;
    /// [`IndexError::Full`] where the snapshot is lost because the disk was full.
    pub fn births(
        &self,
        view: &View,
        payloads: &[PayloadOf],
    ) -> Result<Vec<Option<Lsn>>, IndexError> {
        self.ask(view, |read| {
            let entries = read.open_table(ENTRIES).map_err(error)?;
            let pieces = read.open_table(PIECES).map_err(error)?;
            let operations = read.open_table(OPERATIONS).map_err(error)?;
            let birth = |payload: &PayloadOf| match *payload {
                PayloadOf::Message(queue, place) => {
                    let key = row::entry_key(queue, place);
                    let Some(found) = entries.get(key).map_err(error)? else { return Ok(None) };
                    let entry = row::decode_entry(key, found.value());
                    Ok(Some(entry.map_err(|BadRow| bad_row(&key))?.birth))
                }
                PayloadOf::Piece(upload, number) => {
                    let key = (upload.get(), number);
                    let Some(found) = pieces.get(key).map_err(error)? else { return Ok(None) };
                    let piece = row::decode_piece(key, found.value());
                    Ok(Some(piece.map_err(|BadRow| bad_row(&key))?.birth))
                }
                PayloadOf::Staged(transaction, number) => {
                    let key = (transaction.0, number);
                    let Some(found) = operations.get(key).map_err(error)? else { return Ok(None) };
                    Ok(match super::operations::decode(key, found.value())? {
                        Operation::Send { entry, .. } => Some(entry.birth),
                        Operation::Take { .. } => None,
                    })
                }
            };
            payloads.iter().map(birth).collect()
        })
    }

    /// Live bytes of a segment.
    ///
    /// # Errors
    /// As [`Index::births`].
    pub fn live_bytes(&self, view: &View, ordinal: u64) -> Result<u64, IndexError> {
        self.ask(view, |read| {
            let segments = read.open_table(SEGMENTS).map_err(error)?;
            let live = segments.get(ordinal).map_err(error)?;
            Ok(live.map_or(0, |live| live.value()))
        })
    }

    /// Says durably that the live frames of these segments lie in a pack, which must be durable
    /// itself. Those that have none any more are left out; gives the others.
    ///
    /// # Errors
    /// [`CommitError::Full`] changes nothing; after [`CommitError::Failed`] the index is closed
    /// for good.
    pub fn commit_pack(&self, id: PackId, ordinals: &[u64]) -> Result<Vec<u64>, CommitError> {
        let commits = self.commits.lock().expect("no commit panicked before");
        let result = match self.database() {
            Ok(state) => write_pack(state.database(), id, ordinals),
            Err(error) => Err(error),
        };
        let result = match result {
            // redb goes no further after any error; only opening it again tells what became of it.
            Err(IndexError::Full) => self.reopen().and_then(|_| self.packed_in(id, ordinals)),
            result => result,
        };
        drop(commits);
        match result {
            Ok(packed) => Ok(packed),
            Err(IndexError::Full) => Err(CommitError::Full),
            Err(error) => {
                *self.state.write().expect(UNPOISONED) = State::Failed;
                Err(CommitError::Failed(error))
            }
        }
    }

    /// What of an interrupted commit is there: all of it, or nothing, because the disk was full.
    fn packed_in(&self, id: PackId, ordinals: &[u64]) -> Result<Vec<u64>, IndexError> {
        let state = self.database()?;
        let read = state.database().begin_read().map_err(error)?;
        let packs = read.open_table(PACKS).map_err(error)?;
        let mut packed = Vec::new();
        for ordinal in ordinals {
            let found = packs.get(*ordinal).map_err(error)?;
            let found = found.map(|found| row::decode_pack(*ordinal, found.value())).transpose();
            if found.map_err(|BadRow| bad_row(ordinal))? == Some(id) {
                packed.push(*ordinal);
            }
        }
        if packed.is_empty() { Err(IndexError::Full) } else { Ok(packed) }
    }
}

fn write_pack(database: &Database, id: PackId, ordinals: &[u64]) -> Result<Vec<u64>, IndexError> {
    let write = begin_write(database)?;
    let mut packed = Vec::new();
    {
        let segments = write.open_table(SEGMENTS).map_err(error)?;
        let mut packs = write.open_table(PACKS).map_err(error)?;
        for ordinal in ordinals {
            if segments.get(*ordinal).map_err(error)?.is_some() {
                packs.insert(*ordinal, &row::encode_pack(*ordinal, id)).map_err(error)?;
                packed.push(*ordinal);
            }
        }
    }
    if packed.is_empty() {
        write.abort().map_err(error)?;
    } else {
        write.commit().map_err(error)?;
    }
    Ok(packed)
}
