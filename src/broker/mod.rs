//! The broker's rules: pure, no I/O, clock, thread or randomness.
//!
//! Owns every decision about messages. [`Broker::decide`] reads the state and answers a command
//! with facts, in which id, order, time and every choice are fixed; [`Broker::apply_record`] and
//! [`Broker::apply_change`] make a fact true, and nothing else changes the state;
//! [`Broker::work`] states the facts that follow by themselves (dispatch, expiry, returns,
//! sweeps). The same `apply_record` runs live and in recovery.
//!
//! Always: a durable fact's `apply` reads nothing volatile; no step is longer than a bounded
//! number of messages. Leaves to others: bytes (`record`), files (`wal`, `store`), who waits for
//! what to be durable (`engine`).

pub mod command;
pub mod delta;
pub mod fact;

mod apply;
mod consumer;
mod decide;
mod durable;
mod queue;
mod topic;
mod work;

#[cfg(test)]
mod residency;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use crate::broker::delta::Delta;
use crate::broker::fact::{ConsumerKey, Effect, Fact};
use crate::ids::{ConnectionId, IdMap, Lsn, Millis, QueueId, Tag};
use crate::limits;
use crate::record::Record;

pub use decide::Verdict;
pub use durable::Base;

/// Bounds of the broker's state.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Queues at most.
    pub queues: usize,
    /// Bytes of non-persistent messages, and of those on their way through topics, at most.
    pub volatile_bytes: u64,
    /// Bytes of one message's content at most.
    pub message_bytes: u64,
    /// Messages that wait in memory per queue at most.
    pub resident: usize,
    /// Messages that wait for a slow subscriber of a topic at most.
    pub topic_backlog: usize,
    /// Outstanding deliveries of a subscription at most.
    pub prefetch: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queues: 100_000,
            volatile_bytes: 256 << 20,
            message_bytes: 16 << 20,
            resident: 1024,
            topic_backlog: 1000,
            prefetch: limits::PREFETCH_MAX,
        }
    }
}

/// The state, and its rules.
#[derive(Debug)]
pub struct Broker {
    limits: Limits,
    durable: durable::Durable,
    names: HashMap<Arc<str>, QueueId>,
    queues: IdMap<QueueId, queue::Queue>,
    topics: BTreeMap<Arc<str>, topic::Topic>,
    consumers: IdMap<ConsumerKey, consumer::Consumer>,
    /// The subscriptions of each connection, ended ones included.
    connections: BTreeMap<ConnectionId, BTreeSet<ConsumerKey>>,
    /// Bytes of content that lives in memory alone.
    volatile_bytes: u64,
    last_volatile: u64,
    /// Messages that slow subscribers of topics have missed.
    missed: u64,
    expiries: queue::Expiries,
    /// Queues in which something may be handed out, each once, in the order of their turns.
    restless: VecDeque<QueueId>,
    /// Subscriptions that have ended and still hold messages.
    ended: VecDeque<ConsumerKey>,
    sweeps: BTreeMap<QueueId, work::Sweep>,
}

impl Broker {
    /// A broker that knows what the index knows; recovery then applies the records of the log
    /// after it. `segment_size` tells to which segment a position belongs.
    #[must_use]
    pub fn new(base: Base, limits: Limits, segment_size: u64) -> Self {
        let durable = durable::Durable::new(&base, segment_size);
        let mut names = HashMap::new();
        let mut queues = IdMap::default();
        for (id, row) in base.queues {
            let queue = queue::Queue::new(id, row);
            names.insert(Arc::clone(&queue.name), id);
            queues.insert(id, queue);
        }
        Self {
            limits,
            durable,
            names,
            queues,
            topics: BTreeMap::new(),
            consumers: IdMap::default(),
            connections: BTreeMap::new(),
            volatile_bytes: 0,
            last_volatile: 0,
            missed: 0,
            expiries: queue::Expiries::new(),
            restless: VecDeque::new(),
            ended: VecDeque::new(),
            sweeps: BTreeMap::new(),
        }
    }

    /// Live bytes of each segment of the log that has any.
    #[must_use]
    pub fn live(&self) -> BTreeMap<u64, u64> {
        self.durable.live()
    }

    /// Whether the next checkpoint will find less needed in some segment.
    #[must_use]
    pub fn frees_room(&self) -> bool {
        self.durable.delta.live.values().any(|change| *change < 0)
    }

    /// Whether, by the last checkpoint, nothing in a segment is needed any more.
    #[must_use]
    pub fn is_dead(&self, segment: u64) -> bool {
        self.durable.is_dead(segment)
    }

    /// Changes that the next checkpoint will take.
    #[must_use]
    pub fn delta_len(&self) -> usize {
        self.durable.delta.entries.len()
    }

    /// Begins a checkpoint of everything up to `through`, the last record applied.
    ///
    /// # Panics
    /// If another has begun and not ended.
    pub fn freeze(&mut self, through: Lsn) -> Arc<Delta> {
        let queues = &self.queues;
        self.durable.freeze(through, |id| &queues[&id].row)
    }

    /// Ends the checkpoint: the index has durably taken what `freeze` gave.
    ///
    /// # Panics
    /// If none has begun.
    pub fn install(&mut self) {
        self.durable.install();
    }

    /// The epoch of this life, from its `Started` record.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.durable.scalars.epoch
    }

    /// The first moment at which a message in memory expires.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        self.expiries.first().map(|(at, _, _)| *at)
    }

    /// Whether a delivery is outstanding.
    #[must_use]
    pub fn is_lent(&self, key: ConsumerKey, tag: Tag) -> bool {
        self.consumers.get(&key).is_some_and(|consumer| consumer.loans.contains_key(&tag))
    }

    /// Messages that slow subscribers of topics have missed in this life.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// `now`, or the newest time in any record where the clock has gone back behind it.
    fn time(&self, now: Millis) -> Millis {
        now.max(Millis(self.durable.scalars.last_at))
    }

    /// The names of all queues, with their durable facts, in order; for checks.
    #[cfg(test)]
    pub(crate) fn rows(&self) -> BTreeMap<QueueId, &delta::QueueRow> {
        self.queues.iter().map(|(id, queue)| (*id, &queue.row)).collect()
    }

    /// All durable messages of a queue, given all that the index holds of it; for checks.
    #[cfg(test)]
    pub(crate) fn entries(
        &self,
        queue: QueueId,
        rows: &[(delta::Place, delta::Entry)],
    ) -> Vec<(delta::Place, delta::Entry)> {
        let mut all = Vec::new();
        self.durable.overlay(queue, delta::Place::START, rows, true, |place, entry| {
            all.push((place, *entry));
            true
        });
        all
    }
}

/// Whether a fact takes room in the store, so that a full disk must refuse it.
#[must_use]
pub fn takes_room(facts: &[Fact]) -> bool {
    facts.iter().any(|fact| matches!(fact, Fact::Log(record, _) if !record.clears()))
}

/// Where a record was written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Written {
    /// Its position.
    pub lsn: Lsn,
    /// Bytes of its frame.
    pub frame_len: u32,
}

/// A record of the log contradicts the state: the log or this program is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record at {lsn} ({record:?}) does not fit the state: {reason}")]
pub struct Misfit {
    /// Where.
    pub lsn: Lsn,
    /// What it says.
    pub record: Box<Record>,
    /// Why it cannot be.
    pub reason: &'static str,
}

/// What `apply` leaves to be done outside.
pub type Effects = Vec<Effect>;
