//! How many entries hold the payload of a publication.
//!
//! Always: the births of exactly those publications that entries of the index hold, each with how
//! many. A commit adds what has changed, and finds which payloads nobody holds any more.

use std::collections::BTreeMap;

use redb::{Database, ReadableDatabase, ReadableTable, WriteTransaction};

use super::error::{bad_row, error, guarded};
use super::row::{self, BadRow, SHARES};
use super::{Index, IndexError, View};
use crate::broker::delta::Unshared;
use crate::broker::delta::{Delta, Share};
use crate::ids::Lsn;
use crate::mutant::{self, Mutant};

/// The rows as they are after a delta, and what dies by it.
#[derive(Debug, Default)]
pub(super) struct Sums {
    rows: Vec<(Lsn, Share)>,
    pub(super) unshared: Unshared,
}

impl Index {
    /// For each birth, whether an entry of the index holds the payload that was published there.
    ///
    /// # Errors
    /// As [`Index::births`].
    pub fn shared(&self, view: &View, births: &[Lsn]) -> Result<Vec<bool>, IndexError> {
        self.ask(view, |read| {
            let shares = read.open_table(SHARES).map_err(error)?;
            let is_shared = |birth: &Lsn| Ok(shares.get(birth.0).map_err(error)?.is_some());
            births.iter().map(is_shared).collect()
        })
    }

    /// Calls `each` with all of them, in the order of births.
    ///
    /// # Errors
    /// As [`Index::page`].
    pub fn each_share(&self, each: &mut dyn FnMut(Lsn, Share)) -> Result<(), IndexError> {
        let state = self.database()?;
        guarded(|| {
            let read = state.database().begin_read().map_err(error)?;
            for found in read.open_table(SHARES).map_err(error)?.iter().map_err(error)? {
                let (birth, share) = found.map_err(error)?;
                each(Lsn(birth.value()), decode(birth.value(), share.value())?);
            }
            Ok(())
        })
    }
}

pub(super) fn decode(birth: u64, row: &[u8]) -> Result<Share, IndexError> {
    row::decode(&birth.to_le_bytes(), row).map_err(|BadRow| bad_row(&Lsn(birth)))
}

/// Adds up what a delta says and what is there.
pub(super) fn add_up(database: &Database, delta: &Delta) -> Result<Sums, IndexError> {
    let mut sums = Sums::default();
    if delta.shares.is_empty() {
        return Ok(sums);
    }
    let read = database.begin_read().map_err(error)?;
    let shares = read.open_table(SHARES).map_err(error)?;
    for (birth, change) in &delta.shares {
        let old = shares.get(birth.0).map_err(error)?;
        let old = old.map(|old| decode(birth.0, old.value())).transpose()?;
        let holders = old.map_or(0, |old| old.holders) + change.holders;
        if holders < 0 {
            return Err(bad_row(birth));
        }
        if holders == 0 {
            let segment = birth.0 / delta.segment_size;
            *sums.unshared.entry(segment).or_default() += u64::from(change.size);
        }
        sums.rows.push((*birth, Share { holders, ..*change }));
    }
    Ok(sums)
}

pub(super) fn write(write: &WriteTransaction, sums: &Sums) -> Result<(), IndexError> {
    if sums.rows.is_empty() || mutant::is(Mutant::LoseShares) {
        return Ok(());
    }
    let mut shares = write.open_table(SHARES).map_err(error)?;
    for (birth, share) in &sums.rows {
        if share.holders == 0 {
            shares.remove(birth.0).map_err(error)?;
        } else {
            let row = row::encode(&birth.0.to_le_bytes(), share);
            shares.insert(birth.0, row.as_slice()).map_err(error)?;
        }
    }
    Ok(())
}

/// Live bytes of each segment as a delta changes them, with what dies by these sums.
pub(super) fn live(delta: &Delta, sums: &Sums) -> BTreeMap<u64, i64> {
    let mut live = delta.live.clone();
    for (segment, bytes) in &sums.unshared {
        *live.entry(*segment).or_default() -= i64::try_from(*bytes).unwrap_or(i64::MAX);
    }
    live
}
