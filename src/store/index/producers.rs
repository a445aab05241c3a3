//! Producers in the index: which of their numbers have been seen.

use std::ops::Bound;

use redb::{Database, ReadTransaction, ReadableDatabase, WriteTransaction};

use super::error::{bad_row, error, guarded};
use super::row::{self, BadRow, PRODUCERS, ProducerKey};
use super::{Base, Index, IndexError};
#[cfg(test)]
use crate::broker::delta::Sequences;
use crate::broker::delta::{Delta, ProducerRow};
use crate::identity::Identity;
use crate::ids::TransactionId;

/// What a start reads: what producers have sent in transactions, and whether there are others.
pub(super) fn read(read: &ReadTransaction, base: &mut Base) -> Result<(), IndexError> {
    let table = read.open_table(PRODUCERS).map_err(error)?;
    base.has_producers = table.range(..STAGED).map_err(error)?.next().is_some();
    for found in table.range(STAGED..).map_err(error)? {
        let (key, value) = found.map_err(error)?;
        let (key, value) = (key.value(), value.value());
        let set = row::decode(&row::producer_key_bytes(key), value);
        let set = set.map_err(|BadRow| bad_row(&key))?;
        base.numbered.insert((TransactionId(key.0), row::producer_of(key)), set);
    }
    Ok(())
}

/// Where what was sent in transactions begins.
const STAGED: ProducerKey = (1, 0);

impl Base {
    /// Reads all producers now: for one who replays a log where nothing serves meanwhile.
    ///
    /// # Errors
    /// As [`Index::producers`].
    pub fn with_producers(mut self, index: &Index) -> Result<Self, IndexError> {
        if std::mem::take(&mut self.has_producers) {
            self.producers = index.producers(None, usize::MAX)?;
        }
        Ok(self)
    }
}

impl Index {
    /// At most `limit` producers, in the order of their names, strictly after `after`.
    ///
    /// # Errors
    /// [`IndexError::Damaged`] where a row is not what its key says, and those of the disk.
    pub fn producers(
        &self,
        after: Option<Identity>,
        limit: usize,
    ) -> Result<Vec<(Identity, ProducerRow)>, IndexError> {
        let state = self.database()?;
        guarded(|| page(&state.database().begin_read().map_err(error)?, after, limit))
    }

    /// One producer, where there is such a row.
    ///
    /// # Errors
    /// As [`Index::producers`].
    pub fn producer(&self, id: Identity) -> Result<Option<ProducerRow>, IndexError> {
        let state = self.database()?;
        guarded(|| one(&state.database().begin_read().map_err(error)?, id))
    }
}

/// What producers have sent in transactions.
#[cfg(test)]
impl Index {
    pub(crate) fn numbered(
        &self,
    ) -> Result<std::collections::BTreeMap<(TransactionId, Identity), Sequences>, IndexError> {
        let mut base = Base::default();
        read(&self.database()?.database().begin_read().map_err(error)?, &mut base)?;
        Ok(base.numbered)
    }
}

pub(super) fn page(
    read: &ReadTransaction,
    after: Option<Identity>,
    limit: usize,
) -> Result<Vec<(Identity, ProducerRow)>, IndexError> {
    let table = read.open_table(PRODUCERS).map_err(error)?;
    let after = after.map_or(Bound::Unbounded, |id| Bound::Excluded(row::producer_key(0, id)));
    let range = table.range((after, Bound::Excluded(STAGED))).map_err(error)?;
    let mut page = Vec::with_capacity(limit.min(1024));
    for found in range.take(limit) {
        let (key, value) = found.map_err(error)?;
        let key = key.value();
        let row = row::decode(&row::producer_key_bytes(key), value.value());
        page.push((row::producer_of(key), row.map_err(|BadRow| bad_row(&key))?));
    }
    Ok(page)
}

fn one(read: &ReadTransaction, id: Identity) -> Result<Option<ProducerRow>, IndexError> {
    let table = read.open_table(PRODUCERS).map_err(error)?;
    let key = row::producer_key(0, id);
    let Some(found) = table.get(key).map_err(error)? else { return Ok(None) };
    let row = row::decode(&row::producer_key_bytes(key), found.value());
    row.map(Some).map_err(|BadRow| bad_row(&key))
}

/// Looks at all of them.
pub(super) fn check(
    database: &Database,
    problem: &mut dyn FnMut(String),
) -> Result<(), IndexError> {
    let read = database.begin_read().map_err(error)?;
    for found in read.open_table(PRODUCERS).map_err(error)?.range(..STAGED).map_err(error)? {
        let (key, value) = found.map_err(error)?;
        let key = key.value();
        if row::decode::<ProducerRow>(&row::producer_key_bytes(key), value.value()).is_err() {
            problem(format!("the producer {} does not hold what it should", row::producer_of(key)));
        }
    }
    Ok(())
}

/// Merges what a delta says of producers.
pub(super) fn write(write: &WriteTransaction, delta: &Delta) -> Result<(), IndexError> {
    let mut producers = write.open_table(PRODUCERS).map_err(error)?;
    let rows = delta.producers.iter().map(|(id, producer)| {
        let key = row::producer_key(0, *id);
        let encode = |it| row::encode(&row::producer_key_bytes(key), it);
        (key, producer.as_ref().map(encode))
    });
    let sets = delta.numbered.iter().map(|((transaction, id), set)| {
        let key = row::producer_key(transaction.0, *id);
        let encode = |it| row::encode(&row::producer_key_bytes(key), it);
        (key, set.as_ref().map(encode))
    });
    for (key, row) in rows.chain(sets) {
        match row {
            Some(row) => drop(producers.insert(key, row.as_slice()).map_err(error)?),
            None => drop(producers.remove(key).map_err(error)?),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::delta::Bond;
    use crate::broker::sequences::Sequences;
    use crate::ids::Millis;

    #[test]
    fn an_orderly_producer_has_a_row_of_about_a_hundred_bytes_under_its_own_key() {
        let mut seen = Sequences::default();
        (1..100_000).for_each(|number| seen.insert(number));
        let row = ProducerRow { seen, bond: Bond::Lost, at: Millis(9) };
        let id = Identity::of(b"p");
        let (key, next) = (row::producer_key(0, id), row::producer_key(1, id));
        assert_eq!((row::producer_of(key), row::producer_of(next)), (id, id));
        let bytes = row::encode(&row::producer_key_bytes(key), &row);
        assert!(bytes.len() < 100, "{}", bytes.len());
        assert_eq!(row::decode(&row::producer_key_bytes(key), &bytes), Ok(row));
        let foreign = row::decode::<ProducerRow>(&row::producer_key_bytes(next), &bytes);
        assert_eq!(foreign, Err(BadRow));
    }

    #[test]
    fn keys_sort_as_producers_do() {
        let mut ids: Vec<_> = (0..100_u64).map(|it| Identity::of(&it.to_le_bytes())).collect();
        ids.sort_unstable();
        assert!(ids.iter().map(|id| row::producer_key(0, *id)).is_sorted());
    }
}
