//! Producers in the index: which of their numbers have been seen.

#[cfg(test)]
use redb::ReadableDatabase;
use redb::{ReadTransaction, ReadableTable, WriteTransaction};

use super::error::{bad_row, error};
use super::row::{self, BadRow, PRODUCERS};
use super::{Base, IndexError};
use crate::broker::delta::Delta;
use crate::ids::TransactionId;

pub(super) fn read(read: &ReadTransaction, base: &mut Base) -> Result<(), IndexError> {
    for found in read.open_table(PRODUCERS).map_err(error)?.iter().map_err(error)? {
        let (key, value) = found.map_err(error)?;
        let (key, value) = (key.value(), value.value());
        let (id, bytes) = (row::producer_of(key), row::producer_key_bytes(key));
        let bad = |BadRow| bad_row(&key);
        if key.0 == 0 {
            base.producers.insert(id, row::decode(&bytes, value).map_err(bad)?);
        } else {
            let set = row::decode(&bytes, value).map_err(bad)?;
            base.numbered.insert((TransactionId(key.0), id), set);
        }
    }
    Ok(())
}

impl super::Index {
    /// All producers, and nothing else; for checks.
    ///
    /// # Errors
    /// Those of the disk, and where it is damaged.
    #[cfg(test)]
    pub(crate) fn producers(&self) -> Result<crate::broker::delta::Base, IndexError> {
        let mut base = Base::default();
        read(&self.database()?.database().begin_read().map_err(error)?, &mut base)?;
        Ok(base.into_durable())
    }
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
    use crate::broker::delta::{Bond, ProducerRow};
    use crate::broker::sequences::Sequences;
    use crate::identity::Identity;
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
