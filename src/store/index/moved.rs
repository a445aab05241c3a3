//! Which messages lie elsewhere than the record of their birth says, because they were moved.
//!
//! Always: the births of exactly those messages that are in the index and have been moved. One who
//! packs a segment looks here for what is not where its record says.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use redb::{ReadableTable, ReadableTableMetadata, Table, WriteTransaction};

use super::error::{bad_row, error};
use super::row::{self, BadRow, ENTRIES, ENTRY, EntryKey, LATE, LATE_ROW, MOVED};
use super::{Index, IndexError, View};
use crate::broker::delta::{Entry, Place};
use crate::ids::{Lsn, QueueId};

impl Index {
    /// For each birth, whether a message born there is in the index and has been moved.
    ///
    /// # Errors
    /// As [`Index::births`].
    pub fn moved(&self, view: &View, births: &[Lsn]) -> Result<Vec<bool>, IndexError> {
        self.ask(view, |read| {
            let moved = read.open_table(MOVED).map_err(error)?;
            let is_moved = |birth: &Lsn| Ok(moved.get(birth.0).map_err(error)?.is_some());
            births.iter().map(is_moved).collect()
        })
    }
}

/// Entries in the making: takes away what is said elsewhere of those that go.
pub(super) struct Entries<'a> {
    table: Table<'a, EntryKey, &'static [u8; ENTRY]>,
    /// What more there is to say of a few.
    late: Table<'a, EntryKey, &'static [u8; LATE_ROW]>,
    moved: Table<'a, u64, ()>,
    /// Whether anything was ever moved: nearly always not, and then nothing is looked up.
    any: bool,
}

impl<'a> Entries<'a> {
    pub(super) fn open(write: &'a WriteTransaction) -> Result<Self, IndexError> {
        let table = write.open_table(ENTRIES).map_err(error)?;
        let late = write.open_table(LATE).map_err(error)?;
        let moved = write.open_table(MOVED).map_err(error)?;
        let any = !moved.is_empty().map_err(error)?;
        Ok(Self { table, late, moved, any })
    }

    pub(super) fn put(&mut self, key: EntryKey, entry: &Entry) -> Result<(), IndexError> {
        let new = row::encode_entry(key, entry);
        let old = self.table.insert(key, &new).map_err(error)?;
        let was_late = old.is_some_and(|old| row::is_late(old.value()));
        if row::is_late(&new) {
            self.late.insert(key, &row::encode_late(key, entry)).map_err(error)?;
        } else if was_late {
            self.late.remove(key).map_err(error)?;
        }
        Ok(())
    }

    /// Removes what there is from one key to another.
    pub(super) fn remove(&mut self, keys: RangeInclusive<EntryKey>) -> Result<(), IndexError> {
        let (any, mut late, mut births) = (self.any, Vec::new(), Vec::new());
        let mut gone = |key: EntryKey, old: &[u8; ENTRY]| {
            late.extend(row::is_late(old).then_some(key));
            births.extend(any.then(|| (key, row::decode_entry(key, old))));
        };
        if keys.start() == keys.end() {
            let key = *keys.start();
            let old = self.table.remove(key).map_err(error)?;
            old.into_iter().for_each(|old| gone(key, old.value()));
        } else {
            let take = |key, old: &[u8; ENTRY]| {
                gone(key, old);
                false
            };
            self.table.retain_in(keys, take).map_err(error)?;
        }
        for key in late {
            self.late.remove(key).map_err(error)?;
        }
        for (key, entry) in births {
            let entry = entry.map_err(|BadRow| bad_row(&key))?;
            self.moved.remove(entry.birth.0).map_err(error)?;
        }
        Ok(())
    }

    /// Says which messages have been moved, if they are still where they were moved to.
    pub(super) fn note(
        &mut self,
        moves: &BTreeMap<Lsn, (QueueId, Place)>,
    ) -> Result<(), IndexError> {
        for (birth, (queue, place)) in moves {
            let key = row::entry_key(*queue, *place);
            let found = self.table.get(key).map_err(error)?;
            let entry = found.map(|found| row::decode_entry(key, found.value())).transpose();
            let entry = entry.map_err(|BadRow| bad_row(&key))?;
            if entry.is_some_and(|entry| entry.birth == *birth) {
                self.moved.insert(birth.0, ()).map_err(error)?;
            } else {
                self.moved.remove(birth.0).map_err(error)?;
            }
        }
        Ok(())
    }
}
