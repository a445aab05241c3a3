//! Names in the index: what programs have called what they did.

use std::collections::BTreeMap;

#[cfg(test)]
use redb::ReadableDatabase;
use redb::{ReadTransaction, ReadableTable, WriteTransaction};

use super::IndexError;
use super::error::{bad_row, error};
use super::row::{self, BadRow, NAMES};
use crate::broker::delta::{Delta, NameRow, Scope};
use crate::ids::QueueId;

pub(super) fn read(read: &ReadTransaction) -> Result<BTreeMap<(Scope, u64), NameRow>, IndexError> {
    let mut names = BTreeMap::new();
    for found in read.open_table(NAMES).map_err(error)?.iter().map_err(error)? {
        let (key, value) = found.map_err(error)?;
        let key = key.value();
        let row = row::decode(&row::operation_key_bytes(key), value.value());
        names.insert((Scope::of(key.0), key.1), row.map_err(|BadRow| bad_row(&key))?);
    }
    Ok(names)
}

impl super::Index {
    /// All names, for checks.
    ///
    /// # Errors
    /// Those of the disk, and where it is damaged.
    #[cfg(test)]
    pub(crate) fn names(&self) -> Result<BTreeMap<(Scope, u64), NameRow>, IndexError> {
        read(&self.database()?.database().begin_read().map_err(error)?)
    }
}

/// Merges what a delta says of names; those of queues that are gone, it need not say.
pub(super) fn write(write: &WriteTransaction, delta: &Delta) -> Result<(), IndexError> {
    let mut names = write.open_table(NAMES).map_err(error)?;
    for ((scope, number), name) in &delta.names {
        let key = (scope.number(), *number);
        let gone = matches!(scope, Scope::Queue(id) if delta.queues.get(id) == Some(&None));
        match name {
            Some(name) if !gone => {
                let row = row::encode(&row::operation_key_bytes(key), name);
                names.insert(key, row.as_slice()).map_err(error)?;
            }
            _ => drop(names.remove(key).map_err(error)?),
        }
    }
    Ok(())
}

/// Removes all names of a queue that is gone.
pub(super) fn remove_all(write: &WriteTransaction, queue: QueueId) -> Result<(), IndexError> {
    let mut names = write.open_table(NAMES).map_err(error)?;
    let all = (queue.0, 0)..=(queue.0, u64::MAX);
    names.retain_in::<row::NameKey, _>(all, |_, _| false).map_err(error)
}
