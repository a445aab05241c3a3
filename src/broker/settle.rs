//! What comes of an outcome: of each operation of a transaction, some at a time.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::broker::command::Disposition;
use crate::broker::delta::{Entry, Holder, Operation, Place, Resolution};
use crate::broker::fact::{Change, ConsumerKey, Fact, Source, UnitKey};
use crate::broker::{Broker, Effects};
use crate::ids::{Millis, QueueId, TransactionId};
use crate::limits;
use crate::record::{Decided, Gone, Record, Settled, Settlement};

impl Broker {
    /// States all that comes of an outcome where that is little; where it is more, the outcome,
    /// unless that is `decided` in the log.
    pub(super) fn state_settled_at_once(
        &self,
        now: Millis,
        key: Option<UnitKey>,
        (transaction, decided): (Option<TransactionId>, bool),
        how: (Resolution, Disposition),
        facts: &mut Vec<Fact>,
    ) -> bool {
        let unit = key.and_then(|key| self.units.get(key));
        let few = unit.is_none_or(|unit| self.is_light(unit));
        let Some(transaction) = transaction else { return few };
        if let Some(known) = self.durable.transactions.small(transaction).filter(|_| few) {
            self.settle(now, transaction, known, how, facts);
            return true;
        }
        if !decided {
            let decided = Decided { transaction, resolution: how.0 };
            facts.push(Fact::Log(Record::Decided(decided), Bytes::new()));
        }
        false
    }

    /// A message that enters its queue. One that came with a restored backup may have done so in
    /// the store before.
    fn entering(&self, entry: Entry) -> Entry {
        let seen = entry.birth.0 < self.durable.scalars.restored;
        Entry { returns: entry.returns.max(u32::from(seen)), ..entry }
    }

    /// States what becomes of the next operations of a transaction.
    pub(super) fn settle(
        &self,
        now: Millis,
        transaction: TransactionId,
        operations: &[Operation],
        (resolution, disposition): (Resolution, Disposition),
        facts: &mut Vec<Fact>,
    ) {
        let row = self.durable.transactions.get(transaction).expect("the caller has seen it");
        let (mut last, mut kept) = (BTreeMap::new(), Vec::new());
        // What stays with its consumer at a new place is lent there from now on.
        let mut lent = BTreeMap::new();
        let mut place = |queue: QueueId, rank| {
            let seq = last.entry(queue).or_insert_with(|| self.queues[&queue].row.last_seq);
            *seq += 1;
            Place { rank, seq: *seq }
        };
        let keeps = |holder: Holder| {
            let key = (holder.connection, holder.subscription);
            resolution == Resolution::Rollback
                && disposition == Disposition::Keep
                // Another life gives the same names to others.
                && row.began > self.durable.life_began
                && self.consumers.get(&key).is_some_and(|consumer| consumer.ended.is_none())
        };
        let relend = |holder: Holder, queue, place, entry| {
            let (key, tag) = ((holder.connection, holder.subscription), holder.tag);
            Fact::Memory(Change::Relend { key, tag, queue, place, entry })
        };
        let outcomes = operations.iter().map(|operation| match (*operation, resolution) {
            (Operation::Send { queue, rank, delay, entry }, Resolution::Commit) => {
                let entry = self.wait_from(now, delay, self.entering(entry));
                Settlement::Enter { queue, place: place(queue, rank), entry }
            }
            (Operation::Send { queue, entry, .. }, Resolution::Rollback)
            | (Operation::Keep { queue, entry, returned: false, .. }, Resolution::Commit) => {
                let Entry { birth, size, upload, note, .. } = entry;
                Settlement::Drop { queue, birth, size, upload, note }
            }
            (Operation::Keep { queue, rank, entry, holder, .. }, _) => {
                let place = place(queue, rank);
                if keeps(holder) {
                    lent.insert((queue, rank), place.seq);
                    kept.push(relend(holder, queue, place, entry));
                    return Settlement::Enter { queue, place, entry };
                }
                Settlement::Enter { queue, place, entry: self.come_back(now, queue, entry) }
            }
            (Operation::Take { queue, place, entry, returned: false, .. }, Resolution::Commit) => {
                Settlement::Leave { queue, gone: Gone::of(place, &entry) }
            }
            (Operation::Take { queue, place, entry, holder, .. }, _) => {
                if keeps(holder) {
                    kept.push(relend(holder, queue, place, entry));
                    return Settlement::Free { queue, place, entry };
                }
                let entry = self.come_back(now, queue, entry);
                Settlement::Free { queue, place, entry }
            }
        });
        let outcomes: Vec<_> = outcomes.collect();
        let last = row.settled + outcomes.len() as u64 == row.operations;
        let settled = Settled { transaction, first: row.settled + 1, resolution, last, outcomes };
        // First, so that no crash comes between: a mark too many does no harm.
        facts.extend(lent.into_iter().map(mark));
        facts.push(Fact::Log(Record::Settled(settled), Bytes::new()));
        facts.append(&mut kept);
    }
}

impl Broker {
    /// A consumer that has a delivery again, and no credit left by that, waits for no other.
    pub(super) fn leave_line(&mut self, key: ConsumerKey) {
        let Some(consumer) = self.consumers.get_mut(&key) else { return };
        if !consumer.in_line || consumer.credit() > 0 {
            return;
        }
        consumer.in_line = false;
        let id = match consumer.source {
            Source::Queue(id) => id,
            Source::Pattern(_) => QueueId(0),
            Source::Topic(_) => return,
        };
        if let Some(line) = self.line_of(id, key) {
            line.retain(|other| *other != key);
        }
    }
}

impl Broker {
    /// A subscription may hold more deliveries than before, or fewer; those that it has it keeps.
    pub(super) fn apply_credit(&mut self, key: ConsumerKey, prefetch: u32, effects: &mut Effects) {
        let consumer = self.consumers.get_mut(&key).expect("stated of a living one");
        consumer.set_prefetch(prefetch.min(limits::CREDIT_MAX));
        match consumer.source {
            Source::Queue(_) | Source::Pattern(_) => {
                self.leave_line(key);
                self.stand_in_line(key);
            }
            Source::Topic(_) => self.serve_subscriber(key, effects),
        }
    }
}

/// States that what is in a queue up to there may have been delivered.
fn mark(((queue, rank), through): ((QueueId, u8), u64)) -> Fact {
    Fact::Log(Record::Lent { queue, rank, through }, Bytes::new())
}
