//! Transactions in the index: those that are not over, and their operations.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};

use redb::{ReadTransaction, ReadableDatabase, ReadableTable, WriteTransaction};

use super::error::{bad_row, error, guarded};
use super::row::{self, BadRow, OPERATIONS, OperationKey, TRANSACTIONS};
use super::{Index, IndexError};
use crate::broker::delta::{Delta, Operation, TransactionRow};
use crate::ids::TransactionId;

impl Index {
    /// At most `limit` operations of `transaction`, in their order, strictly after the one
    /// numbered `after`.
    ///
    /// # Errors
    /// [`IndexError::Damaged`] where a row is not what its key says, and those of the disk.
    pub fn operations(
        &self,
        transaction: TransactionId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Operation)>, IndexError> {
        let state = self.database()?;
        guarded(|| {
            let read = state.database().begin_read().map_err(error)?;
            let table = read.open_table(OPERATIONS).map_err(error)?;
            let id = transaction.0;
            let range = (Excluded((id, after)), Included((id, u64::MAX)));
            let mut page = Vec::with_capacity(limit.min(1024));
            for found in table.range::<OperationKey>(range).map_err(error)?.take(limit) {
                let (key, value) = found.map_err(error)?;
                let key = key.value();
                page.push((key.1, decode(key, value.value())?));
            }
            Ok(page)
        })
    }

    /// Shows every operation there is, by transaction and number.
    ///
    /// # Errors
    /// As [`Index::operations`].
    pub fn each_operation(
        &self,
        visit: &mut dyn FnMut((TransactionId, u64), Operation),
    ) -> Result<(), IndexError> {
        let state = self.database()?;
        guarded(|| {
            let read = state.database().begin_read().map_err(error)?;
            let table = read.open_table(OPERATIONS).map_err(error)?;
            let all = (Unbounded::<OperationKey>, Unbounded);
            for found in table.range::<OperationKey>(all).map_err(error)? {
                let (key, value) = found.map_err(error)?;
                let key = key.value();
                visit((TransactionId(key.0), key.1), decode(key, value.value())?);
            }
            Ok(())
        })
    }
}

pub(super) fn decode(key: OperationKey, row: &[u8]) -> Result<Operation, IndexError> {
    row::decode(&row::operation_key_bytes(key), row).map_err(|BadRow| bad_row(&key))
}

pub(super) fn read_transactions(
    read: &ReadTransaction,
) -> Result<BTreeMap<TransactionId, TransactionRow>, IndexError> {
    let mut transactions = BTreeMap::new();
    for found in read.open_table(TRANSACTIONS).map_err(error)?.iter().map_err(error)? {
        let (id, value) = found.map_err(error)?;
        let id = TransactionId(id.value());
        let row = row::decode(&id.0.to_le_bytes(), value.value());
        transactions.insert(id, row.map_err(|BadRow| bad_row(&id))?);
    }
    Ok(transactions)
}

/// Merges what a delta says of transactions.
pub(super) fn write(write: &WriteTransaction, delta: &Delta) -> Result<(), IndexError> {
    let mut operations = write.open_table(OPERATIONS).map_err(error)?;
    for ((transaction, number), operation) in &delta.operations {
        let key = (transaction.0, *number);
        if let Some(operation) = operation {
            let row = row::encode(&row::operation_key_bytes(key), operation);
            operations.insert(key, row.as_slice()).map_err(error)?;
        } else {
            operations.remove(key).map_err(error)?;
        }
    }
    let mut transactions = write.open_table(TRANSACTIONS).map_err(error)?;
    for (transaction, row) in &delta.transactions {
        let id = transaction.0;
        if let Some(row) = row {
            let row = row::encode(&id.to_le_bytes(), row);
            transactions.insert(id, row.as_slice()).map_err(error)?;
        } else {
            transactions.remove(id).map_err(error)?;
        }
    }
    Ok(())
}
