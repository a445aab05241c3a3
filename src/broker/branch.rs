//! Branches of global transactions in the durable state: those that have voted, and how others
//! have ended.
//!
//! Always: a prepared branch ends by its outcome and by nothing else; what an operator has decided
//! is known until it is forgotten by request; other outcomes are remembered for a time, and up to a
//! number. Memory knows prepared branches, operators' decisions and the outcomes that no
//! checkpoint has taken; older ones are in the index.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::broker::delta::{
    Base, BranchRow, Entry, HeuristicRow, Operation, OutcomeRow, Phase, Remembered, Resolution,
    TransactionRow,
};
use crate::broker::durable::Durable;
use crate::broker::{Broker, Written};
use crate::ids::{Lsn, Millis, TransactionId, Xid};
use crate::limits;
use crate::mutant::{self, Mutant};
use crate::record::{BranchRecord, Kept};

/// Branches that only their managers can end, and which outcomes are remembered.
#[derive(Debug, Default)]
pub(crate) struct KnownBranches {
    rows: BTreeMap<TransactionId, BranchRow>,
    prepared: BTreeMap<Xid, TransactionId>,
    heuristics: BTreeMap<Xid, HeuristicRow>,
    pub(super) remembered: Remembered,
    /// Prepared ones by when they voted, and of these the ones that have been found to wait long.
    waiting: BTreeSet<(Millis, TransactionId)>,
    overdue: BTreeSet<(Millis, TransactionId)>,
}

/// What memory knows of the outcome of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recall {
    /// This is it, or there is none that is remembered.
    Known(Option<OutcomeRow>),
    /// The index must be asked.
    Ask,
}

impl KnownBranches {
    pub(super) fn new(base: &Base) -> Self {
        let rows = base.branches.clone();
        let prepared = rows.iter().map(|(id, row)| (row.xid.clone(), *id)).collect();
        let (heuristics, remembered) = (base.heuristics.clone(), base.remembered.clone());
        let waiting = rows.iter().map(|(id, row)| (row.at, *id)).collect();
        Self { rows, prepared, heuristics, remembered, waiting, overdue: BTreeSet::new() }
    }

    /// A defect on purpose.
    pub(super) fn forget_prepared(&mut self) {
        self.rows.clear();
        self.prepared.clear();
        self.waiting.clear();
        self.overdue.clear();
    }

    /// The transaction of a prepared branch.
    pub(super) fn prepared(&self, xid: &Xid) -> Option<TransactionId> {
        self.prepared.get(xid).copied()
    }

    /// How many branches are prepared, and how many an operator has decided.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.prepared.len(), self.heuristics.len())
    }

    pub(super) fn heuristic(&self, xid: &Xid) -> Option<&HeuristicRow> {
        self.heuristics.get(xid)
    }

    /// The names of prepared branches; for checks.
    #[cfg(test)]
    pub(crate) fn xids(&self) -> impl Iterator<Item = &Xid> {
        self.prepared.keys()
    }

    /// When the oldest of the prepared branches voted.
    pub(super) fn oldest(&self) -> Option<Millis> {
        let firsts = [self.overdue.first(), self.waiting.first()];
        firsts.into_iter().flatten().map(|(at, _)| *at).min()
    }

    /// When the next prepared branch will have waited for so long.
    pub(super) fn next_overdue(&self, millis: u64) -> Option<Millis> {
        self.waiting.first().map(|(at, _)| Millis(at.0.saturating_add(millis)))
    }

    /// The branch that has waited longest of those that have for so long and were not given here.
    pub(super) fn take_overdue(&mut self, now: Millis, millis: u64) -> Option<&BranchRow> {
        let due = self.next_overdue(millis)? <= now;
        let found = if due { self.waiting.pop_first() } else { None }?;
        self.overdue.insert(found);
        self.rows.get(&found.1)
    }

    /// How many have been found to wait for long.
    pub(super) fn overdue(&self) -> usize {
        self.overdue.len()
    }

    /// A branch that waits for its manager, prepared or decided by an operator.
    pub(super) fn find(
        &self,
        xid: &Xid,
    ) -> Option<Result<(TransactionId, &BranchRow), &HeuristicRow>> {
        match self.prepared.get(xid) {
            Some(id) => Some(Ok((*id, &self.rows[id]))),
            None => self.heuristics.get(xid).map(Err),
        }
    }

    /// Prepared branches and operators' decisions after this name, in the order of names.
    pub(super) fn after(
        &self,
        after: Option<&Xid>,
    ) -> impl Iterator<Item = (&Xid, Result<(TransactionId, &BranchRow), &HeuristicRow>)> {
        let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let mut prepared = self.prepared.range::<Xid, _>(range).peekable();
        let mut decided = self.heuristics.range::<Xid, _>(range).peekable();
        std::iter::from_fn(move || {
            let first = match (prepared.peek(), decided.peek()) {
                (Some((one, _)), Some((other, _))) => one < other,
                (one, _) => one.is_some(),
            };
            if first {
                return prepared.next().map(|(xid, id)| (xid, Ok((*id, &self.rows[id]))));
            }
            decided.next().map(|(xid, row)| (xid, Err(row)))
        })
    }

    /// The number up to which outcomes have been remembered long enough, and otherwise when that
    /// will be so.
    pub(super) fn due(&self, now: Millis, millis: u64, count: u64) -> Result<u64, Option<Millis>> {
        let Remembered { forgotten, last, marks } = &self.remembered;
        let Some((_, began)) = marks.first() else { return Err(None) };
        // All up to the next mark were made by its time.
        let (through, made) = match marks.get(1) {
            Some((number, at)) => (number - 1, at.0),
            None => (*last, began.0.saturating_add(limits::OUTCOME_MARK_MILLIS)),
        };
        let over = Millis(made.saturating_add(millis));
        // Never the newest for their number alone: somebody may still ask for them.
        let too_many = last - forgotten > count && marks.len() > 1;
        if over <= now || too_many { Ok(through) } else { Err(Some(over)) }
    }
}

impl Durable {
    /// How a branch has ended, as far as memory knows.
    pub(super) fn recall(&self, xid: &Xid) -> Recall {
        let frozen = self.frozen.as_ref().and_then(|delta| delta.outcomes.get(xid));
        let known = self.delta.outcomes.get(xid).or(frozen).copied();
        let remembered = &self.branches.remembered;
        match known {
            Some(known) => Recall::Known(self.still(known)),
            None if remembered.forgotten == remembered.last => Recall::Known(None),
            None => Recall::Ask,
        }
    }

    /// An outcome, unless it has been forgotten meanwhile.
    pub(super) fn still(&self, known: Option<OutcomeRow>) -> Option<OutcomeRow> {
        known.filter(|row| row.number > self.branches.remembered.forgotten)
    }

    pub(super) fn fit_branch(&self, record: &BranchRecord) -> Result<(), &'static str> {
        match record {
            BranchRecord::Kept(kept) => self.fit_operation(kept.transaction, kept.number),
            BranchRecord::Prepared { transaction, xid, .. } => {
                let known = &self.branches;
                if known.prepared.contains_key(xid) || known.heuristics.contains_key(xid) {
                    return Err("there is such a branch already");
                }
                match self.transactions.get(*transaction) {
                    Some(row) if row.phase == Phase::Open => Ok(()),
                    Some(_) => Err("its transaction is not open"),
                    None if transaction.0 == self.scalars.last_transaction + 1 => Ok(()),
                    None => Err("no such transaction"),
                }
            }
            BranchRecord::Completed { transaction: None, operator, .. } => {
                if *operator {
                    Err("an operator decides of prepared ones")
                } else {
                    Ok(())
                }
            }
            BranchRecord::Completed { transaction: Some(id), operator, xid, .. } => {
                let phase = self.transactions.get(*id).map(|row| row.phase);
                match (phase, self.branches.rows.get(id)) {
                    (Some(Phase::Prepared), Some(row)) if row.xid == *xid => Ok(()),
                    (Some(Phase::Open), _) if !operator => Ok(()),
                    _ => Err("it is not the transaction of the branch"),
                }
            }
            BranchRecord::Forgotten { xid } => {
                let known = self.branches.heuristics.contains_key(xid);
                if known { Ok(()) } else { Err("no operator has decided of such a branch") }
            }
            BranchRecord::OutcomesForgotten { through } => {
                let Remembered { forgotten, last, .. } = self.branches.remembered;
                let some = forgotten < *through && *through <= last;
                if some { Ok(()) } else { Err("such outcomes are not remembered") }
            }
            BranchRecord::Begun { xid } => {
                let known = &self.branches;
                let waits = known.prepared.contains_key(xid) || known.heuristics.contains_key(xid);
                if waits { Err("there is such a branch already") } else { Ok(()) }
            }
        }
    }

    fn prepare(&mut self, id: TransactionId, began: Lsn, row: BranchRow) {
        let new = TransactionRow::new(began);
        self.scalars.last_transaction = self.scalars.last_transaction.max(id.0);
        self.phase(id, new, Phase::Prepared);
        self.branches.prepared.insert(row.xid.clone(), id);
        self.branches.waiting.insert((row.at, id));
        self.delta.branches.insert(id, Some(row.clone()));
        self.forget_outcome(&row.xid);
        self.branches.rows.insert(id, row);
    }

    /// A new branch has this name: an older one is not spoken of any more.
    fn forget_outcome(&mut self, xid: &Xid) {
        if self.recall(xid) != Recall::Known(None) {
            self.delta.outcomes.insert(xid.clone(), None);
        }
    }

    fn complete(
        &mut self,
        transaction: Option<TransactionId>,
        resolution: Resolution,
        operator: bool,
        at: Millis,
        xid: &Xid,
    ) {
        let (mut done, mut client) = ((0, 0), Box::default());
        if let Some(id) = transaction {
            self.decide(id, resolution);
            done = self.transactions.get(id).map_or(done, |row| (row.sends, row.operations));
            if let Some(row) = self.branches.rows.remove(&id) {
                self.branches.prepared.remove(&row.xid);
                self.branches.waiting.remove(&(row.at, id));
                self.branches.overdue.remove(&(row.at, id));
                self.delta.branches.insert(id, None);
                client = row.client;
            }
        }
        if mutant::is(if operator { Mutant::ForgetDecisions } else { Mutant::ForgetOutcomes }) {
            return;
        }
        if operator {
            let (sent, settled) = (done.0, done.1 - done.0);
            let row = HeuristicRow { resolution, at, sent, settled, client };
            self.branches.heuristics.insert(xid.clone(), row.clone());
            self.delta.heuristics.insert(xid.clone(), Some(row));
            return;
        }
        let Remembered { last, marks, .. } = &mut self.branches.remembered;
        *last += 1;
        let marks_it = marks.last().is_none_or(|(number, then)| {
            *last - number >= limits::OUTCOMES_A_MARK
                || at.0 >= then.0.saturating_add(limits::OUTCOME_MARK_MILLIS)
        });
        if marks_it {
            marks.push((*last, at));
            thin(marks);
        }
        let row = OutcomeRow { number: *last, resolution, at };
        self.delta.outcomes.insert(xid.clone(), Some(row));
    }
}

/// Leaves out every second of too many marks: what lies between two of them is forgotten together.
fn thin(marks: &mut Vec<(u64, Millis)>) {
    if marks.len() >= limits::OUTCOME_MARKS_MAX {
        let mut count = 0;
        marks.retain(|_| {
            count += 1;
            count % 2 == 0
        });
    }
}

impl Broker {
    pub(super) fn fit_branch(&self, record: &BranchRecord) -> Result<(), &'static str> {
        match record {
            BranchRecord::Kept(kept) if !self.queues.contains_key(&kept.queue) => {
                Err("no such queue")
            }
            _ => self.durable.fit_branch(record),
        }
    }

    pub(super) fn apply_branch(&mut self, written: Written, record: &BranchRecord) {
        match record {
            BranchRecord::Kept(kept) => self.apply_kept(written, kept),
            BranchRecord::Prepared { transaction, at, xid, client } => {
                self.saw(*at);
                let row = BranchRow { xid: xid.clone(), at: *at, client: client.clone() };
                self.durable.prepare(*transaction, written.lsn, row);
                self.keep_room(*transaction);
            }
            BranchRecord::Completed { transaction, resolution, operator, at, xid } => {
                self.saw(*at);
                self.durable.complete(*transaction, *resolution, *operator, *at, xid);
            }
            BranchRecord::Forgotten { xid } => {
                self.durable.branches.heuristics.remove(xid);
                self.durable.delta.heuristics.insert(xid.clone(), None);
            }
            BranchRecord::OutcomesForgotten { through } => {
                let remembered = &mut self.durable.branches.remembered;
                remembered.forgotten = *through;
                remembered.marks.retain(|(number, _)| number > through);
            }
            BranchRecord::Begun { xid } => self.durable.forget_outcome(xid),
        }
    }

    /// The names of prepared branches; for checks.
    #[cfg(test)]
    pub(crate) fn prepared_xids(&self) -> impl Iterator<Item = &Xid> {
        self.durable.branches.xids()
    }

    fn apply_kept(&mut self, written: Written, kept: &Kept) {
        let Kept { transaction, number, queue, rank, returned, holder, .. } = *kept;
        let born = Entry::born(written, kept.at, kept.expires, None);
        let entry = Entry { returns: kept.returns, ..born };
        self.durable.born(&entry);
        let operation = Operation::Keep { queue, rank, entry, returned, holder };
        self.durable.extend(transaction, number, operation, written.lsn);
        self.stage(transaction, queue, entry.charge());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_outcomes_are_bounded_and_the_newest_is_one_of_them() {
        let mut marks = Vec::new();
        for number in 1..100_000 {
            marks.push((number, Millis(10 * number)));
            thin(&mut marks);
            assert!(marks.len() < limits::OUTCOME_MARKS_MAX);
            assert_eq!(marks.last(), Some(&(number, Millis(10 * number))));
        }
        assert!(marks.len() >= limits::OUTCOME_MARKS_MAX / 2 && marks.is_sorted());
    }
}
