//! Transactions in the durable state: their operations, and the outcomes that these get.
//!
//! Every operation is in the log before the outcome: a message that is sent lies there and in no
//! queue, one that is settled is *held* in its queue, nobody's. A small transaction gets its
//! outcome as one record with all of its operations. A large one is *decided* by a short record
//! and settled by bounded ones; so is one whose life has ended without an outcome.
//! Always: once decided, a transaction ends so, whatever happens; memory knows a few numbers of
//! each, and its operations are in the deltas or the index.

use std::collections::{BTreeMap, BTreeSet};

use crate::broker::delta::{Delta, Entry, Operation, Phase, Resolution, TransactionRow, charge};
use crate::broker::durable::{Durable, newest};
use crate::broker::fact::OperationsPage;
use crate::broker::policy::Held;
use crate::broker::{Broker, Written};
use crate::ids::{Lsn, QueueId, TransactionId};
use crate::limits;
use crate::mutant::{self, Mutant};
use crate::record::{Decided, Record, Settled, Settlement, Staged, Taken};

/// Transactions that have operations in the log and are not over.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    rows: BTreeMap<TransactionId, TransactionRow>,
    /// Those that have their outcome.
    decided: BTreeSet<TransactionId>,
    /// All operations of small ones that began in this life: these end at once.
    small: BTreeMap<TransactionId, Vec<Operation>>,
    /// How many operations there are in `small`.
    resident: usize,
    /// What those that began in this life and have not voted put into each queue.
    staged: BTreeMap<(TransactionId, QueueId), Held>,
    /// Those for which queues keep room: the ones that have voted, and all of earlier lives.
    voted: BTreeSet<TransactionId>,
}

impl Transactions {
    pub(super) fn new(rows: &BTreeMap<TransactionId, TransactionRow>) -> Self {
        let decided = rows.iter().filter(|(_, row)| row.resolution().is_some());
        let decided = decided.map(|(id, _)| *id).collect();
        let voted = rows.keys().copied().collect();
        Self { rows: rows.clone(), decided, voted, ..Self::default() }
    }

    /// A transaction puts a message into a queue if it is committed. Whether the queue is to keep
    /// room for it.
    fn stage(&mut self, id: TransactionId, queue: QueueId, bytes: u64) -> bool {
        if self.voted.contains(&id) {
            return true;
        }
        let staged = self.staged.entry((id, queue)).or_default();
        staged.messages += 1;
        staged.bytes += bytes;
        false
    }

    /// What a transaction would put into each queue is not counted by itself any more.
    fn unstage(&mut self, id: TransactionId) -> Vec<(QueueId, Held)> {
        let range = (id, QueueId(0))..=(id, QueueId(u64::MAX));
        let all: Vec<_> = self.staged.range(range).map(|((_, queue), it)| (*queue, *it)).collect();
        for (queue, _) in &all {
            self.staged.remove(&(id, *queue));
        }
        all
    }

    /// All operations of a transaction that is small enough to end at once.
    pub(super) fn small(&self, id: TransactionId) -> Option<&[Operation]> {
        if self.get(id).is_some_and(|row| row.operations == 0) {
            return Some(&[]);
        }
        self.small.get(&id).map(|operations| &operations[..])
    }

    fn remember(&mut self, id: TransactionId, number: u64, operation: Operation) {
        if number == 1 && self.resident < limits::OPERATIONS_RESIDENT_MAX {
            self.small.insert(id, Vec::new());
        }
        let Some(known) = self.small.get_mut(&id) else { return };
        if known.len() == limits::STEP_MESSAGES_MAX {
            return self.forget(id);
        }
        known.push(operation);
        self.resident += 1;
    }

    fn forget(&mut self, id: TransactionId) {
        self.resident -= self.small.remove(&id).map_or(0, |operations| operations.len());
    }

    pub(super) fn get(&self, id: TransactionId) -> Option<&TransactionRow> {
        self.rows.get(&id)
    }

    /// One that has its outcome and operations that wait for theirs, the first after `last`, and
    /// from the beginning again.
    pub(super) fn next_decided(&self, last: Option<TransactionId>) -> Option<TransactionId> {
        let after = last.map_or(0, |last| last.0 + 1);
        let after = self.decided.range(TransactionId(after)..).next();
        after.or_else(|| self.decided.first()).copied()
    }

    pub(super) fn has_decided(&self) -> bool {
        !self.decided.is_empty()
    }

    /// All of them; for checks.
    #[cfg(test)]
    pub(crate) fn rows(&self) -> &BTreeMap<TransactionId, TransactionRow> {
        &self.rows
    }
}

impl TransactionRow {
    /// One that has no operations yet.
    pub(super) fn new(began: Lsn) -> Self {
        Self { began, operations: 0, sends: 0, settled: 0, phase: Phase::Open }
    }

    /// The outcome, once there is one.
    #[must_use]
    pub fn resolution(&self) -> Option<Resolution> {
        match self.phase {
            Phase::Open | Phase::Prepared => None,
            Phase::Decided(resolution) => Some(resolution),
        }
    }
}

/// What apply does, and what it looks at before.
impl Durable {
    pub(super) fn fit_operation(&self, id: TransactionId, number: u64) -> Result<(), &'static str> {
        match self.transactions.get(id) {
            Some(row) if row.phase != Phase::Open => Err("its transaction takes no operations"),
            Some(row) if row.operations.checked_add(1) == Some(number) => Ok(()),
            None if number == 1 && id.0 == self.scalars.last_transaction + 1 => Ok(()),
            Some(_) => Err("it is not the next operation of its transaction"),
            None => Err("its transaction is not open"),
        }
    }

    /// An operation is there from now on.
    pub(super) fn extend(
        &mut self,
        id: TransactionId,
        number: u64,
        operation: Operation,
        began: Lsn,
    ) {
        self.delta.operations.insert((id, number), Some(operation));
        self.transactions.remember(id, number, operation);
        let new = TransactionRow::new(began);
        let row = self.transactions.rows.entry(id).or_insert(new);
        row.operations = number;
        row.sends += u64::from(matches!(operation, Operation::Send { .. }));
        self.scalars.last_transaction = self.scalars.last_transaction.max(id.0);
        self.delta.transactions.insert(id, Some(*row));
    }

    pub(super) fn decide(&mut self, id: TransactionId, resolution: Resolution) {
        let row = self.transactions.rows.get_mut(&id).expect("fits");
        row.phase = Phase::Decided(resolution);
        self.delta.transactions.insert(id, Some(*row));
        self.transactions.forget(id);
        self.transactions.decided.insert(id);
    }

    /// A transaction is this far; it may begin so.
    pub(super) fn phase(&mut self, id: TransactionId, new: TransactionRow, phase: Phase) {
        let row = self.transactions.rows.entry(id).or_insert(new);
        row.phase = phase;
        self.delta.transactions.insert(id, Some(*row));
    }

    /// Who was working has gone with the life before; what has voted waits for its outcome.
    pub(super) fn roll_back_open(&mut self) {
        let forgets = mutant::is(Mutant::ForgetPrepared);
        if forgets {
            self.branches.forget_prepared();
        }
        let ends = |phase| phase == Phase::Open || (forgets && phase == Phase::Prepared);
        let open = self.transactions.rows.iter().filter(|(_, row)| ends(row.phase));
        let open: Vec<_> = open.map(|(id, _)| *id).collect();
        let outcome = match mutant::is(Mutant::CommitOpen) {
            true => Resolution::Commit,
            false => Resolution::Rollback,
        };
        open.into_iter().for_each(|id| self.decide(id, outcome));
    }

    /// Operations have had their outcome.
    fn settle(&mut self, settled: &Settled) {
        let (id, count) = (settled.transaction, settled.outcomes.len() as u64);
        for number in settled.first..settled.first + count {
            // The index need not hear of one that came and went since it last did.
            if self.delta.operations.remove(&(id, number)).is_none() {
                self.delta.operations.insert((id, number), None);
            }
        }
        let row = self.transactions.rows.get_mut(&id).expect("fits");
        row.settled += count;
        if !settled.last {
            self.delta.transactions.insert(id, Some(*row));
            return;
        }
        let began = row.began;
        self.transactions.forget(id);
        self.transactions.unstage(id);
        self.transactions.voted.remove(&id);
        self.transactions.rows.remove(&id);
        self.transactions.decided.remove(&id);
        if began > self.settled_through {
            self.delta.transactions.remove(&id);
        } else {
            self.delta.transactions.insert(id, None);
        }
    }

    fn fit_settled(&self, settled: &Settled) -> Result<(), &'static str> {
        let row = self.transactions.get(settled.transaction).ok_or("no such transaction")?;
        let through = row.settled + settled.outcomes.len() as u64;
        if settled.first != row.settled + 1 || through > row.operations {
            return Err("they are not the next operations of the transaction");
        }
        if settled.last != (through == row.operations) {
            return Err("it is not the end of the transaction, or not said to be");
        }
        match row.resolution() {
            Some(resolution) if resolution != settled.resolution => Err("the outcome was another"),
            None if row.phase == Phase::Prepared => Err("the outcome of its branch is not known"),
            None if !settled.last => Err("a part of a transaction that has no outcome"),
            _ => Ok(()),
        }
    }

    /// The next operations of a transaction that wait for its outcome, so many at most: what the
    /// index holds (`page`, if it was asked), overlaid with the deltas. `None` where the index
    /// must be asked first.
    pub(super) fn next_operations(
        &self,
        id: TransactionId,
        limit: usize,
        page: Option<&OperationsPage>,
    ) -> Option<Vec<Operation>> {
        let row = self.transactions.get(id)?;
        let rows = match page {
            Some(page) if page.request.generation != self.generation => return None,
            Some(page) => &page.rows[..],
            None => &[],
        };
        let range = (id, row.settled + 1)..=(id, u64::MAX);
        let nothing = Delta::default();
        let frozen = self.frozen.as_deref().unwrap_or(&nothing);
        let new = self.delta.operations.range(range.clone()).map(|(k, v)| (k.1, v.as_ref()));
        let old = frozen.operations.range(range).map(|(k, v)| (k.1, v.as_ref()));
        let index = rows.iter().map(|(number, operation)| (*number, Some(operation)));
        let index = index.filter(|(number, _)| *number > row.settled);
        let all = newest(new, old, index).filter_map(|(number, it)| Some((number, *it?)));
        // Numbers have no gaps: one that is missing is in the index.
        let known = all.zip(row.settled + 1..).take_while(|((number, _), next)| number == next);
        let known: Vec<_> = known.map(|((_, operation), _)| operation).take(limit).collect();
        // The pieces are the same whatever is in memory.
        let left = row.operations - row.settled;
        (known.len() == limit || known.len() as u64 == left).then_some(known)
    }
}

impl Broker {
    pub(super) fn fit_transacted(&self, record: &Record) -> Result<(), &'static str> {
        match record {
            Record::Staged(staged) => self.fit_staged(staged),
            Record::Taken(taken) => self.fit_taken(taken),
            Record::Decided(decided) => self.fit_decided(*decided),
            Record::Settled(settled) => self.fit_settled(settled),
            _ => unreachable!("the other kinds are judged elsewhere"),
        }
    }

    pub(super) fn apply_transacted(&mut self, written: Written, record: &Record) {
        match record {
            Record::Staged(staged) => self.apply_staged(written, staged),
            Record::Taken(taken) => self.apply_taken(written, taken),
            Record::Decided(decided) => {
                self.durable.decide(decided.transaction, decided.resolution);
            }
            Record::Settled(settled) => self.apply_settled(settled),
            _ => unreachable!("the other kinds are applied elsewhere"),
        }
    }

    fn fit_staged(&self, staged: &Staged) -> Result<(), &'static str> {
        if !self.queues.contains_key(&staged.queue) {
            return Err("no such queue");
        }
        self.durable.fit_operation(staged.transaction, staged.number)?;
        self.fit_mark(staged.queue, staged.once)?;
        self.fit_later(staged)?;
        self.durable.fit_sent(staged.upload)
    }

    fn fit_taken(&self, taken: &Taken) -> Result<(), &'static str> {
        let known = self.queues.get(&taken.queue).ok_or("no such queue")?;
        if known.row.depth < taken.messages.len() as u64 {
            return Err("more messages taken than there are");
        }
        self.durable.fit_operation(taken.transaction, taken.first)
    }

    fn fit_decided(&self, decided: Decided) -> Result<(), &'static str> {
        match self.durable.transactions.get(decided.transaction) {
            Some(row) if row.phase == Phase::Open => Ok(()),
            Some(_) => Err("it has its outcome already"),
            None => Err("no such transaction"),
        }
    }

    fn fit_settled(&self, settled: &Settled) -> Result<(), &'static str> {
        self.durable.fit_settled(settled)?;
        let (mut last, mut left) = (BTreeMap::new(), BTreeMap::new());
        let mut held = BTreeMap::new();
        for outcome in &settled.outcomes {
            let queue = outcome.queue();
            let row = &self.queues.get(&queue).ok_or("no such queue")?.row;
            if let Settlement::Leave { .. } | Settlement::Free { .. } = outcome {
                let held = held.entry(queue).or_insert(row.held);
                *held = held.checked_sub(1).ok_or("more settled than are held")?;
            }
            match outcome {
                Settlement::Enter { place, .. } => {
                    let last = last.entry(queue).or_insert(row.last_seq);
                    *last += 1;
                    if place.seq != *last {
                        return Err("its sequence number is not the next");
                    }
                }
                Settlement::Leave { gone, .. } => {
                    let (messages, bytes) = left.entry(queue).or_insert((row.depth, row.bytes));
                    let fewer = messages.checked_sub(1).zip(bytes.checked_sub(gone.charge()));
                    (*messages, *bytes) = fewer.ok_or("more gone than there is")?;
                }
                Settlement::Free { .. } | Settlement::Drop { .. } => {}
            }
        }
        Ok(())
    }

    fn apply_staged(&mut self, written: Written, staged: &Staged) {
        let Staged { transaction, number, queue, rank, at, expires, upload, once, .. } = *staged;
        if let Some(upload) = upload {
            self.durable.adopt(upload.upload());
        }
        let entry = Entry::born(written, at, expires, upload);
        self.saw(at);
        self.durable.born(&entry);
        let (entry, delay) = self.apply_later(staged, entry);
        let operation = Operation::Send { queue, rank, delay, entry };
        self.durable.extend(transaction, number, operation, written.lsn);
        self.apply_sent_once(written, queue, once, at, Some(transaction));
        self.stage(transaction, queue, entry.charge());
    }

    /// A transaction puts a message into a queue if it is committed, or else comes to nothing.
    pub(super) fn stage(&mut self, transaction: TransactionId, queue: QueueId, bytes: u64) {
        let keeps_room = self.durable.transactions.stage(transaction, queue, bytes);
        let known = self.changing(queue);
        known.row.staged += 1;
        known.row.staged_bytes += bytes;
        known.voted.messages += u64::from(keeps_room);
        known.voted.bytes += if keeps_room { bytes } else { 0 };
    }

    /// A transaction has voted: what it would put into queues has its room there from now on.
    pub(super) fn keep_room(&mut self, transaction: TransactionId) {
        self.durable.transactions.voted.insert(transaction);
        for (queue, staged) in self.durable.transactions.unstage(transaction) {
            let known = self.queues.get_mut(&queue).expect("what is staged keeps its queue");
            known.voted.messages += staged.messages;
            known.voted.bytes += staged.bytes;
        }
    }

    fn apply_taken(&mut self, written: Written, taken: &Taken) {
        let Taken { transaction, first, queue, returned, .. } = *taken;
        for (number, (tag, place, entry)) in (first..).zip(&taken.messages) {
            let held = Entry { held: !mutant::is(Mutant::ForgetHolds), ..*entry };
            self.durable.put(queue, *place, held);
            let holder = taken.holder(*tag);
            let (place, entry) = (*place, *entry);
            let operation = Operation::Take { queue, place, entry, returned, holder };
            self.durable.extend(transaction, number, operation, written.lsn);
            let known = self.queues.get_mut(&queue).expect("fits");
            let waited = known.release(place, &mut self.expiries);
            self.resident -= usize::from(waited.is_some());
        }
        self.changing(queue).row.held += taken.messages.len() as u64;
    }

    fn apply_settled(&mut self, settled: &Settled) {
        let voted = self.durable.transactions.voted.contains(&settled.transaction);
        self.durable.settle(settled);
        if settled.last {
            self.durable.settle_commit(settled.transaction, settled.resolution);
            self.durable.settle_numbers(settled.transaction, settled.resolution);
        }
        for outcome in &settled.outcomes {
            match *outcome {
                Settlement::Enter { queue, place, entry } => {
                    self.unstage(queue, entry.charge(), voted);
                    self.durable.settle_name(entry.birth, Resolution::Commit);
                    let waits = entry.due.map(|_| entry);
                    let entry = Entry { due: None, ..entry };
                    self.durable.put(queue, place, entry);
                    // Whoever packs its segment learns here where it is.
                    if !mutant::is(Mutant::ForgetEntered) {
                        self.durable.delta.moved.insert(entry.birth, (queue, place));
                    }
                    self.arrive(queue, place, entry);
                    if let Some(entry) = waits {
                        self.apply_changed(queue, place, entry);
                    }
                    self.count(queue, |c| c.sent += 1);
                }
                Settlement::Leave { queue, gone } => {
                    self.changing(queue).row.held -= 1;
                    self.apply_gone(queue, &gone);
                    self.count(queue, |c| c.acknowledged += 1);
                }
                Settlement::Free { queue, place, entry } => {
                    self.changing(queue).row.held -= 1;
                    self.apply_changed(queue, place, entry);
                    if entry.due.is_none() {
                        self.waits_again(queue, place, entry);
                    }
                    self.count(queue, |c| c.returned += 1);
                }
                Settlement::Drop { queue, birth, size, upload, note } => {
                    self.unstage(queue, charge(size, upload), voted);
                    note.into_iter().for_each(|note| self.durable.unrefer(note));
                    self.durable.settle_name(birth, Resolution::Rollback);
                    self.durable.dead(birth, size);
                    upload.into_iter().for_each(|body| self.durable.kill(body.upload()));
                    self.free(queue);
                }
            }
        }
    }

    fn unstage(&mut self, queue: QueueId, bytes: u64, keeps_room: bool) {
        let known = self.changing(queue);
        known.row.staged -= 1;
        known.row.staged_bytes -= bytes;
        known.voted.messages -= u64::from(keeps_room);
        known.voted.bytes -= if keeps_room { bytes } else { 0 };
    }

    /// Transactions that are not over, and their operations, given all that the index holds; for
    /// checks.
    #[cfg(test)]
    pub(crate) fn transactions(
        &self,
        rows: &BTreeMap<(TransactionId, u64), Operation>,
    ) -> (BTreeMap<TransactionId, TransactionRow>, BTreeMap<(TransactionId, u64), Operation>) {
        let nothing = Delta::default();
        let frozen = self.durable.frozen.as_deref().unwrap_or(&nothing);
        let new = self.durable.delta.operations.iter().map(|(k, v)| (*k, v.as_ref()));
        let old = frozen.operations.iter().map(|(k, v)| (*k, v.as_ref()));
        let index = rows.iter().map(|(k, v)| (*k, Some(v)));
        let all = newest(new, old, index).filter_map(|(key, it)| Some((key, *it?)));
        (self.durable.transactions.rows().clone(), all.collect())
    }
}
