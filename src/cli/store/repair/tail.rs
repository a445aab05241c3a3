//! What the part of a log says that a repair leaves out.
//!
//! Owns what each kind of record comes to when it is not there any more. Reads the records before
//! that part as well, from where the index is: what a transaction did there, and which have had
//! their votes and outcomes. Always: a place is one message's, so copies of a publication, and what
//! was moved and moved again, are told apart. What cannot be read is counted as if it never was.

use std::collections::{BTreeMap, BTreeSet};

use crate::broker::delta::{Operation, Phase, Place, Resolution};
use crate::ids::{QueueId, TransactionId, Xid};
use crate::record::{
    BranchRecord, Decided, Published, Record, Settled, Settlement, Spread, Staged, Taken,
};
use crate::store::index::{Base, Index, IndexError};

/// Rows of the index read at once.
const PAGE_ROWS: usize = 4096;

/// What a commit does to a queue.
#[derive(Clone, Copy, Debug)]
enum Work {
    Sends(QueueId),
    Takes(QueueId, Place),
}

impl Work {
    fn of(operation: &Operation) -> Option<Self> {
        match *operation {
            Operation::Send { queue, .. } => Some(Self::Sends(queue)),
            Operation::Take { queue, place, returned: false, .. } => {
                Some(Self::Takes(queue, place))
            }
            // It comes back whatever the outcome; or it lives in memory but for its vote.
            Operation::Take { .. } | Operation::Keep { .. } => None,
        }
    }
}

/// What the records come to that will not count any more.
#[derive(Debug, Default)]
pub(super) struct Tail {
    pub(super) records: u64,
    pub(super) places: u64,
    /// Where they have put messages, with the queue of those from before; none of those born there.
    there: BTreeMap<(QueueId, Place), Option<QueueId>>,
    /// Messages born there by commits that were not carried out to their end.
    owed: BTreeMap<QueueId, u64>,
    /// Messages from before that went there: they come back.
    pub(super) back: BTreeMap<QueueId, u64>,
    pub(super) begun: BTreeSet<QueueId>,
    pub(super) ended: BTreeSet<QueueId>,
    /// What transactions have done in the log, and was not settled.
    work: BTreeMap<TransactionId, BTreeMap<u64, Work>>,
    /// Those that had their outcome before: a start goes on with that.
    decided: BTreeMap<TransactionId, Resolution>,
    /// Those that have a commit there, and how many of their operations it reached.
    committed: BTreeMap<TransactionId, u64>,
    /// Of these, those it did not reach all of.
    unfinished: BTreeSet<TransactionId>,
    /// Branches that voted before, and have no outcome from then.
    voted: BTreeSet<Xid>,
    /// Votes there without an outcome.
    pub(super) votes: BTreeSet<Xid>,
    /// Outcomes there of branches that voted before.
    pub(super) outcomes: BTreeMap<Xid, Resolution>,
}

impl Tail {
    /// Begins with what the index has.
    pub(super) fn new(base: Option<&Base>) -> Self {
        let mut tail = Self::default();
        let Some(base) = base else { return tail };
        for (id, row) in &base.transactions {
            if let Phase::Decided(resolution) = row.phase {
                tail.decided.insert(*id, resolution);
            }
        }
        tail.voted = base.branches.values().map(|branch| branch.xid.clone()).collect();
        tail
    }

    /// A record that the index does not have, and that counts.
    pub(super) fn before(&mut self, record: &Record) {
        match record {
            Record::Staged(staged) => self.staged(staged),
            Record::Taken(taken) => self.taken(taken),
            Record::Decided(it) => drop(self.decided.insert(it.transaction, it.resolution)),
            Record::Settled(settled) => self.settle(settled),
            Record::Branch(BranchRecord::Prepared { xid, .. }) => {
                self.voted.insert(xid.clone());
            }
            Record::Branch(BranchRecord::Completed { transaction, resolution, xid, .. }) => {
                self.voted.remove(xid);
                self.decided.extend(transaction.map(|id| (id, *resolution)));
            }
            _ => {}
        }
    }

    /// A record that will not count.
    pub(super) fn record(&mut self, record: &Record) {
        self.records += 1;
        match record {
            Record::QueueCreated { queue, .. } => drop(self.begun.insert(*queue)),
            Record::QueueDeleted { queue } => {
                if !self.begun.remove(queue) {
                    self.ended.insert(*queue);
                }
            }
            Record::Sent { queue, place, .. } | Record::Scheduled { queue, place, .. } => {
                self.born(*queue, *place);
            }
            Record::Occurred(it) => self.born(it.queue, it.place),
            Record::Published(Published { rank, targets, .. }) => {
                for target in targets {
                    self.born(target.queue, Place { rank: *rank, seq: target.seq });
                }
            }
            Record::Spread(spread) => self.spread(spread),
            Record::Removed { queue, gone, .. } => {
                gone.iter().for_each(|gone| self.gone(*queue, gone.place));
            }
            Record::Moved { from, gone, to, place, .. } => {
                self.gone(*from, gone.place);
                self.born(*to, *place);
            }
            Record::Transferred { from, to, first, entries }
            | Record::DeadLettered { from, to, first, entries, .. } => {
                self.moved(*from, *to, *first, entries.iter().map(|(place, _)| *place));
            }
            Record::Fired { queue, first, entries, .. } => {
                self.moved(*queue, *queue, *first, entries.iter().map(|(place, _)| *place));
            }
            Record::Staged(staged) => self.staged(staged),
            Record::Taken(taken) => self.taken(taken),
            Record::Decided(Decided { transaction, resolution }) => {
                self.decide(*transaction, *resolution);
            }
            Record::Settled(settled) => self.settled(settled),
            Record::Branch(record) => self.branch(record),
            // What these say of messages that stay is told by their flag of redelivery; the pieces
            // of bodies go with their messages; what is remembered of names and numbers goes with
            // what was sent under them, and what is forgotten of them is remembered for longer.
            Record::Started { .. }
            | Record::Restored { .. }
            | Record::Lent { .. }
            | Record::Returned { .. }
            | Record::PutOff { .. }
            | Record::Woken { .. }
            | Record::Piece { .. }
            | Record::Abandoned { .. }
            | Record::PiecesGone { .. }
            | Record::Named(_)
            | Record::Forgotten(_)
            | Record::Producers(_) => {}
        }
    }

    /// Takes what the index knows of commits that were not carried out to their end, after the last
    /// record.
    pub(super) fn end(&mut self, index: Option<&Index>) -> Result<(), IndexError> {
        for id in std::mem::take(&mut self.unfinished) {
            let mut after = self.committed.get(&id).copied().unwrap_or(0);
            let mut work = self.work.remove(&id).unwrap_or_default();
            while let Some(index) = index {
                let page = index.operations(id, after, PAGE_ROWS)?;
                let Some((last, _)) = page.last() else { break };
                after = *last;
                let known = page.iter().map(|(number, it)| (*number, Work::of(it)));
                work.extend(known.filter_map(|(number, work)| Some((number, work?))));
            }
            for work in work.into_values() {
                match work {
                    Work::Sends(queue) => *self.owed.entry(queue).or_default() += 1,
                    Work::Takes(queue, place) => self.gone(queue, place),
                }
            }
        }
        Ok(())
    }

    /// Messages born there and not gone, by where they are.
    pub(super) fn lost(&self) -> BTreeMap<QueueId, u64> {
        let mut lost = self.owed.clone();
        let born = self.there.iter().filter(|(_, before)| before.is_none());
        born.for_each(|((queue, _), _)| *lost.entry(*queue).or_default() += 1);
        lost
    }

    /// Messages from before that moved there and are not gone, by where they were.
    pub(super) fn moved_back(&self) -> BTreeMap<QueueId, u64> {
        let mut back = BTreeMap::new();
        for ((queue, _), before) in &self.there {
            if let Some(before) = before.filter(|before| before != queue) {
                *back.entry(before).or_default() += 1;
            }
        }
        back
    }

    pub(super) fn commits(&self) -> usize {
        self.committed.len()
    }

    fn born(&mut self, queue: QueueId, place: Place) {
        self.there.insert((queue, place), None);
    }

    fn gone(&mut self, queue: QueueId, place: Place) {
        let back = match self.there.remove(&(queue, place)) {
            Some(None) => return,
            Some(Some(before)) => before,
            None => queue,
        };
        *self.back.entry(back).or_default() += 1;
    }

    fn moved(
        &mut self,
        from: QueueId,
        to: QueueId,
        first: u64,
        places: impl Iterator<Item = Place>,
    ) {
        for (old, seq) in places.zip(first..) {
            let before = self.there.remove(&(from, old)).unwrap_or(Some(from));
            self.there.insert((to, Place { rank: old.rank, seq }), before);
        }
    }

    fn spread(&mut self, spread: &Spread) {
        let Spread { from, place, ref targets, .. } = *spread;
        if targets.is_empty() {
            return self.gone(from, place);
        }
        let born = self.there.remove(&(from, place)) == Some(None);
        for target in targets {
            // One from before is in its line again, and goes the same way from there.
            let before = (!born).then_some(target.queue);
            self.there.insert((target.queue, Place { rank: place.rank, seq: target.seq }), before);
        }
    }

    fn staged(&mut self, staged: &Staged) {
        let work = self.work.entry(staged.transaction).or_default();
        work.insert(staged.number, Work::Sends(staged.queue));
    }

    fn taken(&mut self, taken: &Taken) {
        if taken.returned {
            return;
        }
        let work = self.work.entry(taken.transaction).or_default();
        for ((_, place, _), number) in taken.messages.iter().zip(taken.first..) {
            work.insert(number, Work::Takes(taken.queue, *place));
        }
    }

    /// Operations have had their outcome.
    fn settle(&mut self, settled: &Settled) {
        if settled.last {
            self.work.remove(&settled.transaction);
            self.decided.remove(&settled.transaction);
        } else if let Some(work) = self.work.get_mut(&settled.transaction) {
            let through = settled.first + settled.outcomes.len() as u64;
            *work = work.split_off(&through);
        }
    }

    /// A transaction has its outcome there.
    fn decide(&mut self, id: TransactionId, resolution: Resolution) {
        if resolution == Resolution::Commit && !self.decided.contains_key(&id) {
            self.committed.entry(id).or_default();
            self.unfinished.insert(id);
        }
    }

    fn settled(&mut self, settled: &Settled) {
        let id = settled.transaction;
        // A start goes on with what was decided before.
        let again = self.decided.contains_key(&id);
        self.decide(id, settled.resolution);
        if let Some(through) = self.committed.get_mut(&id) {
            *through = settled.first + settled.outcomes.len() as u64 - 1;
        }
        if settled.last {
            self.unfinished.remove(&id);
        }
        self.settle(settled);
        for outcome in settled.outcomes.iter().filter(|_| !again) {
            match *outcome {
                Settlement::Enter { queue, place, .. }
                    if settled.resolution == Resolution::Commit =>
                {
                    self.born(queue, place);
                }
                Settlement::Leave { queue, gone } => self.gone(queue, gone.place),
                // What comes back by a rollback is the branch's again.
                Settlement::Enter { .. } | Settlement::Free { .. } | Settlement::Drop { .. } => {}
            }
        }
    }

    fn branch(&mut self, record: &BranchRecord) {
        match record {
            BranchRecord::Prepared { xid, .. } => drop(self.votes.insert(xid.clone())),
            BranchRecord::Completed { transaction, resolution, xid, .. } => {
                self.votes.remove(xid);
                if self.voted.remove(xid) {
                    self.outcomes.insert(xid.clone(), *resolution);
                }
                transaction.iter().for_each(|id| self.decide(*id, *resolution));
            }
            // It lives in memory but for its vote. Outcomes are remembered for longer.
            BranchRecord::Kept(_)
            | BranchRecord::Forgotten { .. }
            | BranchRecord::OutcomesForgotten { .. }
            | BranchRecord::Begun { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::delta::Entry;
    use crate::ids::{ConnectionId, Lsn, Millis, NoteId, SubscriptionId, Tag};
    use crate::record::{Cause, Gone, Target};

    const T: TransactionId = TransactionId(7);
    const A: QueueId = QueueId(1);
    const B: QueueId = QueueId(2);
    const C: QueueId = QueueId(3);
    const D: QueueId = QueueId(4);

    fn place(seq: u64) -> Place {
        Place { rank: 5, seq }
    }

    fn entry() -> Entry {
        let (birth, at) = (Lsn(9), Millis(1));
        let (expires, upload, due, note) = (None, None, None, None);
        let (returns, held, shared) = (0, false, true);
        Entry { birth, size: 10, at, expires, returns, upload, due, note, held, shared }
    }

    fn removed(queue: QueueId, seq: u64) -> Record {
        let gone = vec![Gone::of(place(seq), &entry())];
        Record::Removed { queue, cause: Cause::Accepted, gone }
    }

    fn staged(number: u64, queue: QueueId) -> Record {
        let (rank, at, expires) = (5, Millis(1), None);
        let (upload, once, later) = (None, None, None);
        let transaction = T;
        Record::Staged(Staged {
            transaction,
            number,
            queue,
            rank,
            at,
            expires,
            upload,
            once,
            later,
        })
    }

    fn taken(first: u64, seq: u64) -> Record {
        let (connection, subscription) = (ConnectionId(1), SubscriptionId(1));
        let messages = vec![(Tag(1), place(seq), entry())];
        let (transaction, queue, returned) = (T, A, false);
        let taken =
            Taken { transaction, first, queue, connection, subscription, returned, messages };
        Record::Taken(taken)
    }

    fn entered(first: u64, last: bool) -> Record {
        let outcomes = vec![Settlement::Enter { queue: B, place: place(first), entry: entry() }];
        let resolution = Resolution::Commit;
        Record::Settled(Settled { transaction: T, first, resolution, last, outcomes })
    }

    fn decided() -> Record {
        Record::Decided(Decided { transaction: T, resolution: Resolution::Commit })
    }

    fn counts(tail: &mut Tail) -> [Vec<(QueueId, u64)>; 3] {
        tail.end(None).unwrap();
        [tail.lost(), tail.back.clone(), tail.moved_back()].map(|of| of.into_iter().collect())
    }

    #[test]
    fn a_commit_counts_with_all_that_it_had_not_carried_out() {
        let mut tail = Tail::default();
        [staged(1, B), staged(2, B)].iter().for_each(|record| tail.before(record));
        for record in [taken(3, 40), staged(4, C), decided(), entered(1, false)] {
            tail.record(&record);
        }
        assert_eq!(counts(&mut tail), [vec![(B, 2), (C, 1)], vec![(A, 1)], vec![]]);
        assert_eq!(tail.commits(), 1);
    }

    #[test]
    fn a_commit_that_was_decided_before_is_not_lost() {
        let mut tail = Tail::default();
        [staged(1, B), staged(2, B), decided()].iter().for_each(|record| tail.before(record));
        for record in [entered(1, false), entered(2, true), removed(B, 2)] {
            tail.record(&record);
        }
        // What it put there is consumed another time.
        assert_eq!(counts(&mut tail), [vec![], vec![(B, 1)], vec![]]);
        assert_eq!(tail.commits(), 0);
    }

    #[test]
    fn what_was_moved_and_moved_again_is_told_from_what_was_born() {
        let mut tail = Tail::default();
        let moved = |from, to, first, seq| {
            let entries = vec![(place(seq), entry())];
            Record::Transferred { from, to, first, entries }
        };
        let dead = |from, first, seq| {
            let (note, why) = (NoteId::new(1).unwrap(), crate::broker::delta::Why::Expired);
            let entries = vec![(place(seq), entry())];
            Record::DeadLettered { from, to: D, first, note, why, entries }
        };
        let seqs = |queue, seq| Target { queue, seq, lent: false };
        let targets = vec![seqs(A, 10), seqs(B, 10), seqs(C, 10)];
        let (at, expires, rank, once) = (Millis(1), None, 5, None);
        for record in [
            // One birth three times in one queue.
            Record::Published(Published { at, expires, rank, once, targets }),
            dead(A, 1, 10),
            dead(B, 2, 10),
            dead(C, 3, 10),
            removed(D, 2),
            // From before: one goes on from there and is consumed, one stays, one is back.
            moved(A, B, 20, 1),
            moved(B, C, 20, 20),
            removed(C, 20),
            moved(A, B, 21, 2),
            moved(A, B, 22, 3),
            moved(B, A, 30, 22),
        ] {
            tail.record(&record);
        }
        assert_eq!(counts(&mut tail), [vec![(D, 2)], vec![(A, 1)], vec![(A, 1)]]);
    }

    #[test]
    fn what_left_its_line_is_born_where_it_went_if_it_came_there_at_all() {
        let mut tail = Tail::default();
        let spread = |seq, to: &[QueueId]| {
            let targets = to.iter().map(|queue| Target { queue: *queue, seq, lent: false });
            let targets = targets.collect();
            Record::Spread(Spread { from: A, place: place(seq), entry: entry(), targets })
        };
        let (at, expires, upload, once, lent) = (Millis(1), None, None, None, false);
        let sent = Record::Sent { queue: A, place: place(2), at, expires, lent, upload, once };
        // The first was in its line before.
        for record in [sent, spread(1, &[B, C]), spread(2, &[B, C]), removed(B, 1), removed(B, 2)] {
            tail.record(&record);
        }
        assert_eq!(counts(&mut tail), [vec![(C, 1)], vec![(B, 1)], vec![]]);
    }
}
