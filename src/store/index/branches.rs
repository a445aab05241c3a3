//! Branches of global transactions in the index: prepared ones, what operators have decided, and
//! the outcomes that are remembered.

use std::collections::BTreeMap;

use redb::{ReadTransaction, ReadableDatabase, ReadableTable, WriteTransaction};

use super::error::{bad_row, error, guarded};
use super::row::{
    self, BRANCHES, BadRow, HEURISTICS, META, META_REMEMBERED, OUTCOME_NUMBERS, OUTCOMES,
};
use super::{Base, Index, IndexError};
use crate::broker::delta::{Delta, HeuristicRow, OutcomeRow, Remembered};
use crate::ids::{TransactionId, Xid};
use crate::limits;

/// Marks of outcomes are a row: two numbers each.
const _: () = assert!(16 * limits::OUTCOME_MARKS_MAX + 64 < limits::INDEX_ROW_BYTES_MAX as usize);

impl Index {
    /// How a branch has ended, if that is remembered.
    ///
    /// # Errors
    /// [`IndexError::Damaged`] where a row is not what its key says, and those of the disk.
    pub fn outcome(&self, xid: &Xid) -> Result<Option<OutcomeRow>, IndexError> {
        let state = self.database()?;
        guarded(|| {
            let read = state.database().begin_read().map_err(error)?;
            let key = xid.to_bytes();
            let found = read.open_table(OUTCOMES).map_err(error)?.get(&key[..]).map_err(error)?;
            let row = found.map(|row| row::decode(&key, row.value()));
            row.transpose().map_err(|BadRow| bad_row(xid))
        })
    }
}

fn xid_of(key: &[u8]) -> Result<Xid, IndexError> {
    match Xid::split(key) {
        Some((xid, [])) => Ok(xid),
        _ => Err(bad_row(&key)),
    }
}

/// What the index knows of branches.
pub(super) fn read(read: &ReadTransaction, base: &mut Base) -> Result<(), IndexError> {
    for found in read.open_table(BRANCHES).map_err(error)?.iter().map_err(error)? {
        let (id, value) = found.map_err(error)?;
        let id = TransactionId(id.value());
        let row = row::decode(&id.0.to_le_bytes(), value.value());
        base.branches.insert(id, row.map_err(|BadRow| bad_row(&id))?);
    }
    base.heuristics = heuristics(read)?;
    let meta = read.open_table(META).map_err(error)?;
    if let Some(found) = meta.get(META_REMEMBERED).map_err(error)? {
        let row = row::decode(META_REMEMBERED.as_bytes(), found.value());
        base.remembered = row.map_err(|BadRow| bad_row(&META_REMEMBERED))?;
    }
    Ok(())
}

fn heuristics(read: &ReadTransaction) -> Result<BTreeMap<Xid, HeuristicRow>, IndexError> {
    let mut heuristics = BTreeMap::new();
    for found in read.open_table(HEURISTICS).map_err(error)?.iter().map_err(error)? {
        let (key, value) = found.map_err(error)?;
        let xid = xid_of(key.value())?;
        let row = row::decode(key.value(), value.value()).map_err(|BadRow| bad_row(&xid))?;
        heuristics.insert(xid, row);
    }
    Ok(heuristics)
}

/// Merges what a delta says of branches.
pub(super) fn write(write: &WriteTransaction, delta: &Delta) -> Result<(), IndexError> {
    let mut branches = write.open_table(BRANCHES).map_err(error)?;
    for (transaction, row) in &delta.branches {
        let id = transaction.0;
        if let Some(row) = row {
            let row = row::encode(&id.to_le_bytes(), row);
            branches.insert(id, row.as_slice()).map_err(error)?;
        } else {
            branches.remove(id).map_err(error)?;
        }
    }
    let mut heuristics = write.open_table(HEURISTICS).map_err(error)?;
    for (xid, row) in &delta.heuristics {
        let key = xid.to_bytes();
        if let Some(row) = row {
            heuristics.insert(&key[..], row::encode(&key, row).as_slice()).map_err(error)?;
        } else {
            heuristics.remove(&key[..]).map_err(error)?;
        }
    }
    write_outcomes(write, delta)?;
    let mut meta = write.open_table(META).map_err(error)?;
    let row = row::encode(META_REMEMBERED.as_bytes(), &delta.remembered);
    meta.insert(META_REMEMBERED, row.as_slice()).map_err(error)?;
    Ok(())
}

fn write_outcomes(write: &WriteTransaction, delta: &Delta) -> Result<(), IndexError> {
    let Remembered { forgotten, .. } = delta.remembered;
    let mut outcomes = write.open_table(OUTCOMES).map_err(error)?;
    let mut numbers = write.open_table(OUTCOME_NUMBERS).map_err(error)?;
    for (xid, row) in &delta.outcomes {
        let key = xid.to_bytes();
        match row {
            Some(row) if row.number > forgotten => {
                outcomes.insert(&key[..], row::encode(&key, row).as_slice()).map_err(error)?;
                numbers.insert(row.number, &key[..]).map_err(error)?;
            }
            // Of an older one with this name its number goes in its turn.
            _ => drop(outcomes.remove(&key[..]).map_err(error)?),
        }
    }
    loop {
        let first = numbers.first().map_err(error)?;
        let first = first.map(|(number, key)| (number.value(), key.value().to_vec()));
        let Some((number, key)) = first.filter(|(number, _)| *number <= forgotten) else { break };
        let row = match outcomes.get(&key[..]).map_err(error)? {
            Some(found) => row::decode::<OutcomeRow>(&key, found.value()).ok(),
            None => None,
        };
        // A name that was used again has a newer one.
        if row.is_some_and(|row| row.number == number) {
            outcomes.remove(&key[..]).map_err(error)?;
        }
        numbers.remove(number).map_err(error)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::broker::delta::{BranchRow, Resolution};
    use crate::ids::{Lsn, Millis};
    use crate::io::sim::SimDisk;
    use crate::wal::ReplayPoint;

    #[test]
    fn branches_and_outcomes_are_found_again_until_they_are_forgotten() {
        let disk = SimDisk::new();
        let open = || Index::open(Arc::new(disk.clone()), 1, 1 << 20).unwrap();
        let xid = |number| Xid::new(1, &[number], b"").unwrap();
        let (at, resolution) = (Millis(5), Resolution::Commit);
        let row = |number| OutcomeRow { number, resolution, at };
        let branch = BranchRow { xid: xid(9), at, client: "a client".into() };
        let id = TransactionId(3);
        let (index, _) = open();
        let mut lsn = 0;
        let mut commit = |index: &Index, delta: &Delta| {
            lsn += 4096;
            index.commit(delta, ReplayPoint { batch: Lsn(lsn), through: Lsn(lsn) }).unwrap();
        };
        let remembered = Remembered { forgotten: 0, last: 2, marks: vec![(1, at)] };
        let mut delta = Delta { remembered: remembered.clone(), ..Delta::default() };
        delta.branches.insert(id, Some(branch.clone()));
        delta.outcomes = [(xid(1), Some(row(1))), (xid(2), Some(row(2)))].into();
        let (sent, settled, client) = (3, 4, "a client".into());
        let decided = HeuristicRow { resolution, at, sent, settled, client };
        delta.heuristics.insert(xid(7), Some(decided.clone()));
        commit(&index, &delta);
        drop(index);
        let (index, base) = open();
        assert_eq!(base.branches, [(id, branch)].into());
        assert_eq!(base.remembered, remembered);
        assert_eq!(base.heuristics, [(xid(7), decided)].into());
        assert_eq!(index.outcome(&xid(1)).unwrap(), Some(row(1)));
        // A name that is used again keeps its newer outcome when the older one is forgotten.
        let remembered = Remembered { forgotten: 2, last: 3, marks: vec![(3, at)] };
        let mut delta = Delta { remembered, ..Delta::default() };
        delta.outcomes = [(xid(1), Some(row(3)))].into();
        delta.branches.insert(id, None);
        delta.heuristics.insert(xid(7), None);
        commit(&index, &delta);
        assert_eq!(index.outcome(&xid(1)).unwrap(), Some(row(3)));
        assert_eq!(index.outcome(&xid(2)).unwrap(), None);
        // One that a new branch has is nobody's.
        let remembered = Remembered { forgotten: 2, last: 3, marks: vec![(3, at)] };
        let mut delta = Delta { remembered, ..Delta::default() };
        delta.outcomes = [(xid(1), None)].into();
        commit(&index, &delta);
        assert_eq!(index.outcome(&xid(1)).unwrap(), None);
        drop(index);
        let (_, base) = open();
        assert!(base.branches.is_empty() && base.heuristics.is_empty());
    }
}
