//! What of a store's log is no message of a queue: what transactions have sent that are not over,
//! and bodies that no message has yet, or any more.

use std::collections::BTreeMap;

use super::{CliError, Home, PINS_SHOWN, Stats, pieces};
use crate::broker::delta::{Delta, Operation, UploadRow};
use crate::ids::{Body, Lsn, TransactionId, UploadId};
use crate::store::index::{Base, Index};

/// Whose that is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Holder {
    /// A prepared branch of this name.
    Branch(String),
    /// Transactions that a start rolls back, or goes on to settle.
    Transactions,
    /// Messages that had not arrived whole.
    Arriving,
    /// Nobody's: it is being given back.
    Leaving,
}

impl Holder {
    pub(super) fn words(&self) -> String {
        match self {
            Self::Branch(xid) => format!("branch {xid}"),
            Self::Transactions => "transactions without an end".to_owned(),
            Self::Arriving => "bodies still arriving".to_owned(),
            Self::Leaving => "bodies being given back".to_owned(),
        }
    }
}

/// What such holders have in a file.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    pub(super) holders: u64,
    /// Those with the most bytes.
    pub(super) top: Vec<(Holder, u64)>,
}

/// Finds it all in the index and in what the log has changed since.
pub(super) fn count(
    stats: &mut Stats,
    index: &Index,
    base: &Base,
    delta: &Delta,
    branches: &BTreeMap<TransactionId, String>,
) -> Result<(), CliError> {
    let mut held: BTreeMap<Home, BTreeMap<Holder, u64>> = BTreeMap::new();
    let home = |birth: Lsn| stats.home(birth.0 / stats.segment_size);
    let mut add = |birth, holder: Holder, size| {
        *held.entry(home(birth)).or_default().entry(holder).or_default() += u64::from(size);
    };
    let mut bodies: Vec<(UploadId, Holder)> = Vec::new();
    let mut operation = |id: TransactionId, operation: &Operation| {
        // What it has taken from a queue is still among the messages there.
        let (Operation::Send { entry, .. } | Operation::Keep { entry, .. }) = operation else {
            return;
        };
        let branch = branches.get(&id).cloned();
        let holder = branch.map_or(Holder::Transactions, Holder::Branch);
        bodies.extend(entry.upload.map(|body: Body| (body.upload(), holder.clone())));
        add(entry.birth, holder, entry.size);
    };
    index.each_operation(&mut |key, known| {
        if !delta.operations.contains_key(&key) {
            operation(key.0, &known);
        }
    })?;
    for ((id, _), known) in &delta.operations {
        known.iter().for_each(|known| operation(*id, known));
    }
    let mut uploads = base.uploads.clone();
    for (id, row) in &delta.uploads {
        match row {
            Some(row) => drop(uploads.insert(*id, *row)),
            None => drop(uploads.remove(id)),
        }
    }
    bodies.extend(uploads.into_iter().filter_map(|(id, row)| match row {
        UploadRow::Open { .. } => Some((id, Holder::Arriving)),
        UploadRow::Dead { .. } => Some((id, Holder::Leaving)),
        // Messages in queues have it.
        UploadRow::Shared { .. } => None,
    }));
    for (id, holder) in bodies {
        let pieces = pieces(index, delta, id)?;
        pieces.values().for_each(|piece| add(piece.birth, holder.clone(), piece.size));
    }
    for (home, holders) in held {
        let Some(segment) = stats.segments.get_mut(&home) else { continue };
        let number = holders.len() as u64;
        let mut top: Vec<_> = holders.into_iter().collect();
        top.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        top.truncate(PINS_SHOWN);
        segment.unsettled = Unsettled { holders: number, top };
    }
    Ok(())
}
