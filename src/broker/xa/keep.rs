//! What a branch has settled of messages that live in memory alone: durable with its vote.

use crate::broker::Broker;
use crate::broker::delta::Holder;
use crate::broker::fact::{Fact, Lent, Source, UnitKey, Volatile, VolatileWork};
use crate::broker::transact::Unit;
use crate::ids::QueueId;
use crate::limits;
use crate::record::{BranchRecord, Kept, Record};

impl Unit {
    /// The settled messages of queues that live in memory alone: who had each, of which queue, and
    /// whether it is to come back.
    fn to_keep(&self) -> impl Iterator<Item = (Holder, QueueId, &Lent, bool)> {
        self.to_keep.iter().filter_map(|work| match work {
            VolatileWork::Took { key, tag, source: Source::Queue(queue), loan, returned } => {
                let (connection, subscription) = *key;
                let holder = Holder { connection, subscription, tag: *tag };
                Some((holder, *queue, loan, *returned))
            }
            _ => None,
        })
    }
}

impl Broker {
    /// States that messages which a unit has settled are in the log from now on, some at a time:
    /// how many of those that live in memory, and whether these were all.
    pub(super) fn state_kept(&self, key: UnitKey, facts: &mut Vec<Fact>) -> (usize, bool) {
        let (mut count, mut bytes) = (0, 0);
        let mut next = None;
        let Some(unit) = self.units.get(key) else { return (0, true) };
        for (holder, queue, loan, returned) in unit.to_keep() {
            let Lent::Volatile { place, message, returns, .. } = loan else { continue };
            if count == limits::OUTCOMES_A_STEP || bytes > limits::KEPT_BYTES_A_STEP {
                return (count, false);
            }
            let (transaction, number) = next.unwrap_or_else(|| self.next_operation(key, facts));
            next = Some((transaction, number + 1));
            let Volatile { at, expires, .. } = *message;
            let (rank, returns) = (place.rank, *returns);
            let kept =
                Kept { transaction, number, queue, rank, at, expires, returns, returned, holder };
            bytes += message.content.len();
            count += 1;
            let record = Record::Branch(BranchRecord::Kept(kept));
            facts.push(Fact::Log(record, message.content.clone()));
        }
        (count, true)
    }

    /// Messages that a unit has settled are in the log, and no longer in memory.
    pub(super) fn apply_kept_in(&mut self, key: UnitKey, count: usize) {
        for _ in 0..count {
            let Some(work) = self.open_unit(key).to_keep.pop_front() else { break };
            let VolatileWork::Took { source, loan, .. } = work else { continue };
            self.end_loan(&source, &loan);
        }
    }
}
