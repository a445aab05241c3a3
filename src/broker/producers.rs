//! Producers in the durable state: which of their numbers have been seen.
//!
//! A producer's number is taken by the very record of its message. One that is sent in a
//! transaction is taken in a set of the transaction's, which a commit adds to the producer's and a
//! rollback drops. Always: within a producer's window, what was seen is told exactly from what was
//! not; which producers are known follows from the log, not from the settings. One is in memory
//! before it is spoken of, since a repetition must be known before anything else is decided, and
//! all are before one is forgotten; a life begins without them, and `lack` gets them from the
//! index. A checkpoint takes
//! their rows some at a time, each as it was when the checkpoint began, since a row changes with
//! each message.

mod lack;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::broker::Limits;
use crate::broker::command::Refusal;
use crate::broker::delta::{Base, Bond, ProducerRow, Resolution};
use crate::broker::durable::Durable;
use crate::broker::sequences::{Seen, Sequences};
use crate::identity::{Identity, Numbered};
use crate::ids::{Millis, TransactionId};
use crate::limits;
use crate::mutant::{self, Mutant};
use crate::record::ProducersRecord;

use lack::Lack;

/// Producers that count what they send.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    rows: BTreeMap<Identity, ProducerRow>,
    /// All of them: those that are forgotten first, first.
    order: BTreeSet<(Bond, Millis, Identity)>,
    /// What is sent in transactions that are not over.
    staged: BTreeMap<(Identity, TransactionId), Sequences>,
    /// Of each of these producers, in how many transactions, and a number above which none of them
    /// has any: a producer that counts on is asked about nothing of what it has in doubt.
    staging: BTreeMap<Identity, (usize, u64)>,
    /// The same as `staged` by transaction.
    of_transactions: BTreeMap<TransactionId, BTreeSet<Identity>>,
    /// Bytes of memory for `rows`, about.
    bytes: u64,
    /// The same for `staged`: these push nobody out.
    staged_bytes: u64,
    /// Rows that have changed since the last freeze.
    dirty: BTreeSet<Identity>,
    /// Rows that a checkpoint is to take and has not taken yet.
    to_freeze: BTreeSet<Identity>,
    /// What of them is not here yet.
    lack: Lack,
}

/// What is known of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It has not been sent.
    Free,
    /// It was sent, or will have been whatever comes.
    Done,
    /// It was sent in this transaction, which has not decided.
    Pending(TransactionId),
    /// Nobody knows any more: it is below this number.
    Below(u64),
}

/// Producers that are to be forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Leaving {
    pub(super) producers: Vec<Identity>,
    /// How many of them may still come back.
    pub(super) early: u64,
}

impl Producers {
    /// Those that the index has: whether there are any, and what waits for transactions.
    pub(super) fn new(base: &mut Base) -> Self {
        let lack = if base.has_producers { Lack::of_all() } else { Lack::default() };
        let mut this = Self { lack, ..Self::default() };
        for (id, row) in std::mem::take(&mut base.producers) {
            this.put(id, row);
        }
        for ((transaction, id), set) in std::mem::take(&mut base.numbered) {
            this.stage(id, transaction, set);
        }
        this
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Bytes of memory for all of it, about.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes + self.staged_bytes
    }

    pub(super) fn changes(&self) -> usize {
        self.dirty.len()
    }

    pub(super) fn knows(&self, id: Identity) -> bool {
        self.rows.contains_key(&id)
    }

    /// Whether all that there are are here, and so which of them comes first.
    fn is_whole(&self) -> bool {
        self.lack.is_none()
    }

    fn put(&mut self, id: Identity, row: ProducerRow) {
        self.bytes += limits::PRODUCER_BYTES + row.seen.bytes();
        self.order.insert((row.bond, row.at, id));
        self.rows.insert(id, row);
    }

    fn take(&mut self, id: Identity) -> Option<ProducerRow> {
        let row = self.rows.remove(&id)?;
        self.bytes -= limits::PRODUCER_BYTES + row.seen.bytes();
        self.order.remove(&(row.bond, row.at, id));
        Some(row)
    }

    fn stage(&mut self, id: Identity, transaction: TransactionId, set: Sequences) {
        self.staged_bytes += limits::PRODUCER_BYTES + set.bytes();
        self.of_transactions.entry(transaction).or_default().insert(id);
        let (count, top) = self.staging.entry(id).or_default();
        *count += 1;
        *top = set.last().unwrap_or(0).max(*top);
        self.staged.insert((id, transaction), set);
    }

    fn unstage(&mut self, id: Identity, transaction: TransactionId) -> Option<Sequences> {
        let set = self.staged.remove(&(id, transaction))?;
        self.staged_bytes -= limits::PRODUCER_BYTES + set.bytes();
        let all = self.of_transactions.get_mut(&transaction).expect("both know of it");
        all.remove(&id);
        if all.is_empty() {
            self.of_transactions.remove(&transaction);
        }
        let (count, _) = self.staging.get_mut(&id).expect("both know of it");
        *count -= 1;
        if *count == 0 {
            self.staging.remove(&id);
        }
        Some(set)
    }

    /// The sets in transactions in which a number of a producer may be.
    fn perhaps_in(
        &self,
        Numbered { producer, sequence }: Numbered,
    ) -> impl Iterator<Item = (TransactionId, &Sequences)> {
        let staging = self.staging.get(&producer);
        let range = (producer, TransactionId(0))..=(producer, TransactionId(u64::MAX));
        let sets = staging.filter(|(_, top)| sequence <= *top).map(|_| self.staged.range(range));
        sets.into_iter().flatten().map(|((_, transaction), set)| (*transaction, set))
    }

    /// Refuses a number that what a transaction has of its producer cannot take too, and one
    /// producer more than may count in a transaction: its outcome settles them all in one step.
    pub(super) fn fits(
        &self,
        it: Numbered,
        transaction: Option<TransactionId>,
    ) -> Result<(), Refusal> {
        let Some(transaction) = transaction else { return Ok(()) };
        if let Some(set) = self.staged.get(&(it.producer, transaction)) {
            let limit = limits::PRODUCER_SPANS_MAX;
            let fits = set.has_room(it.sequence);
            return if fits { Ok(()) } else { Err(Refusal::TooManyGaps { limit }) };
        }
        let limit = limits::TRANSACTION_WIDTH_MAX;
        let width = self.of_transactions.get(&transaction).map_or(0, BTreeSet::len);
        if width < limit { Ok(()) } else { Err(Refusal::TransactionTooWide { limit }) }
    }

    /// Whether transactions may use more numbers.
    pub(super) fn may_wait(&self, limits: &Limits) -> bool {
        self.staged_bytes + limits::PRODUCER_BYTES <= limits::pending_bytes(limits.producers_bytes)
    }

    /// A checkpoint begins.
    pub(super) fn freeze(&mut self) {
        self.to_freeze = std::mem::take(&mut self.dirty);
    }

    /// Those that were there when the last life ended; this one began then.
    pub(super) fn left_behind(&self, life_at: Millis) -> impl Iterator<Item = Identity> {
        let first = (Bond::There, Millis(0), Identity([0; 16]));
        let end = (Bond::There, life_at, Identity([0; 16]));
        self.order.range(first..end).map(|(_, _, id)| *id)
    }

    /// The first of a kind.
    fn first(&self, bond: Bond) -> Option<(Millis, Identity)> {
        let from = (bond, Millis(0), Identity([0; 16]));
        let first = self.order.range(from..).next();
        first.filter(|(other, _, _)| *other == bond).map(|(_, at, id)| (*at, *id))
    }

    /// When the first of them has been remembered for long enough.
    pub(super) fn next_deadline(&self, limits: &Limits) -> Option<Millis> {
        if !self.is_whole() {
            return None;
        }
        let over = |bond| {
            let (at, _) = self.first(bond)?;
            // Some time later, so that many go together.
            let rest = lasts(bond, limits).saturating_add(limits::FORGET_REST_MILLIS);
            Some(Millis(at.0.saturating_add(rest)))
        };
        over(Bond::Closed).into_iter().chain(over(Bond::Lost)).min()
    }

    pub(super) fn is_crowded(&self, limits: &Limits) -> bool {
        self.is_whole() && self.bytes > limits.producers_bytes && !self.rows.is_empty()
    }

    /// Whether some are to be forgotten.
    pub(super) fn has_excess(&self, now: Millis, limits: &Limits) -> bool {
        self.is_crowded(limits) || self.next_deadline(limits).is_some_and(|at| at <= now)
    }

    /// Producers that are more than there may be, or that have been away for long enough, some at
    /// a time.
    pub(super) fn excess(&self, now: Millis, limits: &Limits) -> Leaving {
        let is_over = |(bond, at, _): &(Bond, Millis, Identity)| {
            *bond != Bond::There && at.0.saturating_add(lasts(*bond, limits)) <= now.0
        };
        let mut leaving = Leaving::default();
        if self.next_deadline(limits).is_some_and(|at| at <= now) {
            for bond in [Bond::Closed, Bond::Lost] {
                let from = (bond, Millis(0), Identity([0; 16]));
                let over = self.order.range(from..).take_while(|it| it.0 == bond && is_over(it));
                let left = limits::STEP_MESSAGES_MAX - leaving.producers.len();
                leaving.producers.extend(over.take(left).map(|(_, _, id)| *id));
            }
            return leaving;
        }
        let mut bytes = self.bytes;
        for it in self.order.iter().take(limits::STEP_MESSAGES_MAX) {
            if bytes <= limits.producers_bytes {
                break;
            }
            bytes -= limits::PRODUCER_BYTES + self.rows[&it.2].seen.bytes();
            leaving.early += u64::from(it.0 != Bond::Closed && !is_over(it));
            leaving.producers.push(it.2);
        }
        leaving
    }
}

/// How long a producer is remembered that has gone.
fn lasts(bond: Bond, limits: &Limits) -> u64 {
    match bond {
        Bond::Closed => limits.producers_closed_millis,
        Bond::Lost | Bond::There => limits.producers_millis,
    }
}

impl Durable {
    /// What is known of a number.
    pub(super) fn taken(&self, it: Numbered) -> Taken {
        let Numbered { producer, sequence } = it;
        for (transaction, set) in self.producers.perhaps_in(it) {
            if set.seen(sequence) != Seen::Yes {
                continue;
            }
            let known = self.transactions.get(transaction);
            match known.and_then(|transaction| transaction.resolution()) {
                Some(Resolution::Commit) => return Taken::Done,
                Some(Resolution::Rollback) => {}
                None => return Taken::Pending(transaction),
            }
        }
        let Some(row) = self.producers.rows.get(&producer) else { return Taken::Free };
        match row.seen.seen(sequence) {
            Seen::Yes => Taken::Done,
            Seen::No => Taken::Free,
            Seen::Below if mutant::is(Mutant::TakeBelow) => Taken::Free,
            Seen::Below => Taken::Below(row.seen.floor()),
        }
    }

    pub(super) fn fit_number(&self, it: Numbered) -> Result<(), &'static str> {
        assert!(!self.lacks_producer(it.producer), "what has a number waits for its producer");
        match self.taken(it) {
            Taken::Free => Ok(()),
            Taken::Below(_) => Err("its number is below the window of its producer"),
            Taken::Done | Taken::Pending(_) => Err("its number is taken"),
        }
    }

    /// A number is taken from now on, by a commit where it was sent in a transaction.
    pub(super) fn take_number(
        &mut self,
        it: Numbered,
        at: Millis,
        transaction: Option<TransactionId>,
    ) {
        let id = it.producer;
        self.change_producer(id, at, |row, life_at| {
            let stale = at.0 >= row.at.0.saturating_add(limits::PRODUCER_AT_MILLIS);
            if row.bond != Bond::There || row.at < life_at || stale {
                (row.bond, row.at) = (Bond::There, at);
            }
            if transaction.is_none() {
                row.seen.insert(it.sequence);
            }
        });
        let Some(transaction) = transaction else { return };
        let mut set = self.producers.unstage(id, transaction).unwrap_or_default();
        set.insert(it.sequence);
        self.delta.numbered.insert((transaction, id), Some(set.clone()));
        self.producers.stage(id, transaction, set);
    }

    /// A transaction is over: what was sent in it counts, or never was.
    pub(super) fn settle_numbers(&mut self, transaction: TransactionId, how: Resolution) {
        let all = self.producers.of_transactions.get(&transaction).cloned().unwrap_or_default();
        for id in all {
            let set = self.producers.unstage(id, transaction).expect("both sets agree");
            self.delta.numbered.insert((transaction, id), None);
            if how == Resolution::Rollback && !mutant::is(Mutant::KeepNumbers) {
                continue;
            }
            // One that was forgotten meanwhile has had its time; one that has closed meanwhile has
            // its time from now on.
            let at = Millis(self.scalars.last_at);
            self.change_producer(id, at, |row, _| {
                row.seen.extend(&set);
                if row.bond == Bond::Closed {
                    row.at = row.at.max(at);
                }
            });
        }
    }

    fn change_producer(
        &mut self,
        id: Identity,
        at: Millis,
        change: impl FnOnce(&mut ProducerRow, Millis),
    ) {
        assert!(!self.lacks_producer(id), "the row of {id} may be in the index alone");
        self.freeze_producer(id);
        let new = || ProducerRow { seen: Sequences::default(), bond: Bond::Lost, at };
        let mut row = self.producers.take(id).unwrap_or_else(new);
        change(&mut row, Millis(self.scalars.life_at));
        self.producers.put(id, row);
        if !mutant::is(Mutant::ForgetNumbers) {
            self.producers.dirty.insert(id);
        }
    }

    pub(super) fn apply_producers(&mut self, record: &ProducersRecord) {
        match record {
            ProducersRecord::Parted { at, closed, producers } => {
                let bond = if *closed { Bond::Closed } else { Bond::Lost };
                for id in producers {
                    if self.producers.knows(*id) {
                        self.change_producer(*id, *at, |row, _| (row.bond, row.at) = (bond, *at));
                    }
                }
            }
            ProducersRecord::Forgotten { producers } => {
                for id in producers {
                    assert!(!self.lacks_producer(*id), "the row of {id} would come back");
                    self.freeze_producer(*id);
                    self.producers.take(*id);
                    self.producers.dirty.remove(id);
                    self.delta.producers.insert(*id, None);
                }
            }
        }
    }

    /// The row of a producer is about to change: a checkpoint that has begun takes it as it was.
    fn freeze_producer(&mut self, id: Identity) {
        if !self.producers.to_freeze.remove(&id) {
            return;
        }
        let frozen = self.frozen.as_mut().expect("only a checkpoint has rows to take");
        let frozen = Arc::get_mut(frozen).expect("nobody has it before it is whole");
        let row = self.producers.rows.get(&id).expect("what has changed is there");
        frozen.producers.insert(id, Some(row.clone()));
    }

    /// A checkpoint takes so many rows; whether it has all.
    pub(super) fn freeze_producers(&mut self, count: usize) -> bool {
        for _ in 0..count {
            let Some(id) = self.producers.to_freeze.first().copied() else { break };
            self.freeze_producer(id);
        }
        self.producers.to_freeze.is_empty()
    }

    /// Whether what is remembered is what the index and the deltas say; for checks.
    #[cfg(test)]
    pub(crate) fn producers_agree(
        &self,
        index: &BTreeMap<Identity, ProducerRow>,
        staged: &BTreeMap<(TransactionId, Identity), Sequences>,
    ) -> bool {
        let (mut rows, mut sets) = (index.clone(), staged.clone());
        let frozen = self.frozen.as_deref();
        for delta in frozen.into_iter().chain([&self.delta]) {
            for (id, row) in &delta.producers {
                drop(rows.remove(id));
                rows.extend(row.iter().map(|row| (*id, row.clone())));
            }
            for (key, set) in &delta.numbered {
                drop(sets.remove(key));
                sets.extend(set.iter().map(|set| (*key, set.clone())));
            }
        }
        // What no checkpoint has taken yet is in memory alone.
        let known = &self.producers;
        for id in known.to_freeze.iter().chain(&known.dirty) {
            rows.insert(*id, known.rows[id].clone());
        }
        let staging = known.staged.iter().map(|((id, it), set)| ((*it, *id), set.clone()));
        let sets_agree = staging.collect::<BTreeMap<_, _>>() == sets;
        let bytes = |set: &Sequences| limits::PRODUCER_BYTES + set.bytes();
        let of_rows = known.rows.values().map(|row| bytes(&row.seen)).sum::<u64>();
        let of_staged = known.staged.values().map(bytes).sum::<u64>();
        let counted = (of_rows, of_staged) == (known.bytes, known.staged_bytes);
        let mut transactions = BTreeMap::<_, usize>::new();
        for ((id, _), set) in &known.staged {
            *transactions.entry(*id).or_default() += 1;
            assert!(set.last() <= Some(known.staging[id].1), "a number is overlooked");
        }
        let of_each = known.staging.iter().map(|(id, (count, _))| (*id, *count));
        assert_eq!(of_each.collect::<BTreeMap<_, _>>(), transactions);
        let all = known.rows == rows && known.order.len() == rows.len();
        let some = || known.rows.iter().all(|(id, row)| rows.get(id) == Some(row));
        sets_agree && counted && (all || !known.is_whole() && some())
    }
}
