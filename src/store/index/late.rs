//! Delayed messages and those that were set apart, in the index: what more there is to say of their
//! entries, the order in which delays end, and what is remembered of why.
//!
//! Always: an entry with a due time has a row in `DUE`, and every row there has an entry with that
//! time; an entry without either costs nothing here.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    WriteTransaction,
};

use super::error::{bad_row, error, guarded};
use super::row::{self, BadRow, DUE, DueKey, ENTRIES, ENTRY, EntryKey, LATE, LATE_ROW, NOTES};
use super::{Index, IndexError};
use crate::broker::delta::{Delta, Due, Entry, NoteRow};
use crate::ids::NoteId;

impl Index {
    /// At most `limit` delayed messages, the soonest first, strictly after `after`.
    ///
    /// # Errors
    /// [`IndexError::Damaged`] where a row is not what its key says, and those of the disk.
    pub fn delayed(&self, after: Due, limit: usize) -> Result<Vec<(Due, Entry)>, IndexError> {
        let state = self.database()?;
        guarded(|| {
            let read = state.database().begin_read().map_err(error)?;
            let due = read.open_table(DUE).map_err(error)?;
            let entries = read.open_table(ENTRIES).map_err(error)?;
            let late = read.open_table(LATE).map_err(error)?;
            let range = (Excluded(row::due_key(&after)), Unbounded);
            let mut page = Vec::with_capacity(limit.min(1024));
            for found in due.range::<DueKey>(range).map_err(error)?.take(limit) {
                let key = found.map_err(error)?.0.value();
                let due = row::due_of(key).ok_or_else(|| bad_row(&key))?;
                let key = row::entry_key(due.queue, due.place);
                let value = entries.get(key).map_err(error)?.ok_or_else(|| bad_row(&due))?;
                let entry = whole(&late, key, value.value())?;
                if entry.due != Some(due.at) {
                    return Err(bad_row(&due));
                }
                page.push((due, entry));
            }
            Ok(page)
        })
    }
}

/// An entry with all that is said of it.
pub(super) fn whole(
    late: &impl ReadableTable<EntryKey, &'static [u8; LATE_ROW]>,
    key: EntryKey,
    value: &[u8; ENTRY],
) -> Result<Entry, IndexError> {
    let entry = row::decode_entry(key, value).map_err(|BadRow| bad_row(&key))?;
    if !row::is_late(value) {
        return Ok(entry);
    }
    let more = late.get(key).map_err(error)?.ok_or_else(|| bad_row(&key))?;
    row::decode_late(key, more.value(), entry).map_err(|BadRow| bad_row(&key))
}

pub(super) fn any_delayed(read: &ReadTransaction) -> Result<bool, IndexError> {
    Ok(!read.open_table(DUE).map_err(error)?.is_empty().map_err(error)?)
}

pub(super) fn read_notes(read: &ReadTransaction) -> Result<BTreeMap<NoteId, NoteRow>, IndexError> {
    let mut notes = BTreeMap::new();
    for found in read.open_table(NOTES).map_err(error)?.iter().map_err(error)? {
        let (id, value) = found.map_err(error)?;
        let id = id.value();
        let row = row::decode(&id.to_le_bytes(), value.value()).ok();
        let known = NoteId::new(id).zip(row).ok_or_else(|| bad_row(&format!("note-{id}")))?;
        notes.insert(known.0, known.1);
    }
    Ok(notes)
}

/// Merges what a delta says of delays and notes.
pub(super) fn write(write: &WriteTransaction, delta: &Delta) -> Result<(), IndexError> {
    let mut due = write.open_table(DUE).map_err(error)?;
    for (key, waits) in &delta.due {
        if waits.is_some() {
            due.insert(row::due_key(key), ()).map_err(error)?;
        } else {
            due.remove(row::due_key(key)).map_err(error)?;
        }
    }
    let mut notes = write.open_table(NOTES).map_err(error)?;
    for (note, row) in &delta.notes {
        let id = note.get();
        if let Some(row) = row {
            let row = row::encode(&id.to_le_bytes(), row);
            notes.insert(id, row.as_slice()).map_err(error)?;
        } else {
            notes.remove(id).map_err(error)?;
        }
    }
    Ok(())
}

/// Tells of every delayed entry that does not have its turn, and of every turn without an entry.
pub(super) fn check(
    database: &Database,
    problem: &mut dyn FnMut(String),
) -> Result<(), IndexError> {
    let read = database.begin_read().map_err(error)?;
    let (late, due) = (read.open_table(LATE).map_err(error)?, read.open_table(DUE).map_err(error)?);
    let entries = read.open_table(ENTRIES).map_err(error)?;
    let mut delayed = 0;
    for found in late.iter().map_err(error)? {
        let key = found.map_err(error)?.0.value();
        let entry = match entries.get(key).map_err(error)? {
            Some(value) => whole(&late, key, value.value()).ok(),
            None => None,
        };
        let Some(entry) = entry else {
            problem(format!("what is said of the entry {key:?} is not of it"));
            continue;
        };
        let Some(at) = entry.due else { continue };
        delayed += 1;
        if due.get((at.millis().0, key.0, key.1, key.2)).map_err(error)?.is_none() {
            problem(format!("the delay of the entry {key:?} would never end"));
        }
    }
    let turns = due.len().map_err(error)?;
    if turns != delayed {
        problem(format!("{delayed} messages are delayed, and {turns} are waited for"));
    }
    Ok(())
}
