//! What has happened since this life of the broker began, counted for operators.
//!
//! Volatile, and read by nobody who decides. A queue's counters go with it; those of the whole
//! broker stay.

use crate::broker::Broker;
use crate::ids::QueueId;
use crate::record::Cause;

/// Messages counted since the broker started, replay not included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Taken into a queue, non-persistent ones included.
    pub sent: u64,
    /// Handed to subscriptions, again and again if need be.
    pub delivered: u64,
    /// Of `delivered`, those flagged redelivered.
    pub redelivered: u64,
    /// Accepted by consumers.
    pub acknowledged: u64,
    /// Given back by consumers, or by the end of a connection after they had left the broker.
    pub returned: u64,
    /// Removed because their time was over.
    pub expired: u64,
    /// Removed by an operator.
    pub purged: u64,
    /// Non-persistent ones removed because they came back too often.
    pub discarded: u64,
    /// Set apart because they came back too often or expired.
    pub dead_lettered: u64,
    /// Brought by an operator from another queue, or set apart in this one.
    pub moved_in: u64,
    /// Taken by an operator to another queue, or set apart as damaged.
    pub moved_out: u64,
}

impl Counters {
    pub(super) fn gone(&mut self, cause: Cause, count: u64) {
        *match cause {
            Cause::Accepted => &mut self.acknowledged,
            Cause::Expired => &mut self.expired,
            Cause::Purged => &mut self.purged,
            Cause::Returned => &mut self.discarded,
        } += count;
    }
}

impl Broker {
    /// Counts for one queue and for the whole.
    pub(super) fn count(&mut self, queue: QueueId, count: impl Fn(&mut Counters)) {
        count(&mut self.totals);
        if let Some(queue) = self.queues.get_mut(&queue) {
            count(&mut queue.counters);
        }
    }

    /// A life begins: what was counted while its past was replayed is not its own.
    pub(super) fn count_anew(&mut self) {
        self.totals = Counters::default();
        self.queues.values_mut().for_each(|queue| queue.counters = Counters::default());
    }
}
