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

mod ahead;
pub mod browse;
pub mod command;
pub mod counters;
pub mod dead;
pub mod delta;
pub mod fact;
pub mod policy;
pub mod redelivery;
pub mod scan;
pub mod sequences;
pub mod transfer;
pub mod view;
pub mod xa;

mod announcing;
mod apply;
mod bodies;
mod branch;
mod choice;
pub(crate) mod chunks;
mod consumer;
mod credit;
mod decide;
mod durable;
mod families;
mod grouped;
mod grouping;
mod held;
mod later;
mod load;
mod names;
mod notices;
mod once;
mod produce;
mod producers;
mod publication;
mod queue;
mod repeat;
mod resting;
mod returning;
mod room;
mod row;
mod schedule;
mod select;
mod selecting;
mod settle;
mod shares;
mod spreading;
mod subject;
mod subscribing;
mod topic;
mod transact;
mod transaction;
mod upload;
mod virtual_topic;
mod walk;
mod wildcards;
mod window;
mod work;

#[cfg(test)]
mod pieces;
#[cfg(test)]
mod residency;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::broker::counters::Counters;
use crate::broker::delta::Delta;
use crate::broker::fact::{ConsumerKey, Effect, Fact};
#[cfg(test)]
use crate::identity::Identity;
#[cfg(test)]
use crate::ids::TransactionId;
use crate::ids::{ByQueue, ConnectionId, IdTables, Lsn, Millis, QueueId, Tables, Tag};
use crate::limits;
use crate::mutant::{self, Mutant};
use crate::record::Record;

pub use choice::Standing;
pub use decide::Verdict;
pub use delta::Base;
pub use held::Subscription;
use queue::Queue;
pub use room::Room;
pub use select::{SelectRequest, Selected, Unjudged};
pub use selecting::GroupId;
pub use subject::Envelope;

/// Bounds of the broker's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Queues at most.
    pub queues: usize,
    /// Bytes of non-persistent messages, and of those on their way through topics, at most.
    pub volatile_bytes: u64,
    /// Bytes of one message's content at most, and of one piece of a larger one's.
    pub message_bytes: u64,
    /// Bytes of a body that comes in pieces at most.
    pub large_bytes: u64,
    /// Messages that wait in memory per queue at most.
    pub resident: usize,
    /// The same over all queues; beyond it each queue may have a few.
    pub resident_of_all: usize,
    /// Messages that wait for a slow subscriber of a topic at most.
    pub topic_backlog: usize,
    /// Outstanding deliveries of a subscription at most.
    pub prefetch: u32,
    /// The same of all of a connection's, of queues.
    pub loans: usize,
    /// The same over all connections; beyond it each connection may have a few.
    pub loans_of_all: usize,
    /// Operations of one transaction at most.
    pub transaction_operations: u64,
    /// Milliseconds after which a branch of a global transaction that has not voted is rolled
    /// back, where its manager does not say.
    pub branch_millis: u64,
    /// Milliseconds for which a prepared branch may wait for its manager before operators are
    /// warned.
    pub branch_warn_millis: u64,
    /// Milliseconds for which the outcome of a branch is remembered.
    pub outcome_millis: u64,
    /// Outcomes of branches remembered at most, and about as many as share a mark.
    pub outcomes: u64,
    /// Names remembered for one queue, and for commits, at most, about.
    pub names_per_scope: usize,
    /// Bytes of memory for all names, about.
    pub names_bytes: u64,
    /// Milliseconds after which a name is forgotten.
    pub names_millis: u64,
    /// Bytes of memory for all producers that count what they send, about.
    pub producers_bytes: u64,
    /// Milliseconds after which a producer is forgotten whose connection was lost.
    pub producers_millis: u64,
    /// The same of one whose connection was closed.
    pub producers_closed_millis: u64,
}

impl Limits {
    /// Bytes of memory that a place costs of which `resident_of_all` says how many there may be.
    pub const PLACE_BYTES: usize = queue::PLACE_BYTES;
    /// The same of a delivery, for `loans_of_all`.
    pub const LOAN_BYTES: usize = credit::LOAN_BYTES;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queues: 100_000,
            volatile_bytes: 256 << 20,
            message_bytes: (256 + 64) << 10,
            large_bytes: 1 << 30,
            resident: 1024,
            resident_of_all: 3_000_000,
            topic_backlog: 1000,
            prefetch: limits::PREFETCH_MAX,
            loans: limits::CONNECTION_LOANS_MAX,
            loans_of_all: 1_000_000,
            transaction_operations: 4_000_000,
            branch_millis: 300_000,
            branch_warn_millis: 600_000,
            outcome_millis: 24 * 3_600_000,
            outcomes: 1_000_000,
            names_per_scope: 100_000,
            names_bytes: 64 << 20,
            names_millis: 24 * 60 * 60 * 1000,
            producers_bytes: 64 << 20,
            producers_millis: 24 * 60 * 60 * 1000,
            producers_closed_millis: limits::PRODUCER_CLOSED_MILLIS,
        }
    }
}

/// The state, and its rules.
#[derive(Debug)]
pub struct Broker {
    limits: Limits,
    durable: durable::Durable,
    names: Tables<Arc<str>, QueueId>,
    /// The names in order, for those who list them piece by piece.
    sorted: BTreeSet<Arc<str>>,
    /// Boxed: a block has room for neighbours that may not be there.
    queues: ByQueue<Box<Queue>>,
    /// Those that are heard, and patterns of them.
    topics: BTreeMap<Arc<str>, topic::Topic>,
    topic_wildcards: wildcards::Wildcards,
    /// Consumers of patterns of queues.
    families: BTreeMap<Arc<str>, families::Family>,
    queue_wildcards: wildcards::Wildcards,
    /// Those with something to do, each once.
    family_line: VecDeque<Arc<str>>,
    groups: grouped::Agenda,
    /// What is to be told of messages that expired or were set apart.
    notices: notices::Agenda,
    /// Durable subscriptions.
    held: held::Held,
    consumers: IdTables<ConsumerKey, consumer::Consumer>,
    loans: credit::Loans,
    /// The subscriptions of each connection that have not ended.
    connections: BTreeMap<ConnectionId, BTreeSet<ConsumerKey>>,
    /// Bytes of content that lives in memory alone.
    volatile_bytes: u64,
    last_volatile: u64,
    /// Places in the windows of all queues.
    resident: usize,
    policies: Arc<policy::Policies>,
    dropped: policy::Dropped,
    freed: policy::Freed,
    /// The last group of consumers with one selector.
    last_group: u64,
    /// Messages published on topics.
    published: u64,
    /// The last seat that a subscription of a topic has taken.
    last_seat: u64,
    /// Topics with a line, each once, in the order of their turns.
    publishing: VecDeque<Arc<str>>,
    /// What stands in these lines, by number.
    underway: BTreeMap<u64, topic::Underway>,
    /// Bytes of all that stands in these lines.
    publishing_bytes: u64,
    /// What has happened in all queues.
    totals: Counters,
    expiries: queue::Expiries,
    /// Queues in which something may be handed out, each once, in the order of their turns.
    restless: VecDeque<QueueId>,
    bulk: work::Bulk,
    /// Subscriptions that have ended and still hold messages.
    ended: VecDeque<ConsumerKey>,
    sweeps: BTreeMap<QueueId, work::Sweep>,
    /// Moves, by the queue they take from.
    transfers: BTreeMap<QueueId, transfer::Transfer>,
    /// Delayed messages.
    later: later::Later,
    /// Non-persistent messages that came back and wait.
    resting: resting::Resting,
    /// Bodies on their way in.
    stages: upload::Stages,
    listening: bodies::Listening,
    /// Transactions as their sessions know them.
    units: transact::Units,
    /// Branches of global transactions that have something in memory.
    branches: xa::Branches,
    /// Where more names are remembered than should be.
    crowded: Option<delta::Scope>,
    counts: once::NameCounts,
    /// Who speaks for producers that count.
    speakers: produce::Speakers,
    /// Of these, how many were forgotten before their time.
    producers_forgotten: u64,
}

impl Broker {
    /// A broker that knows what the index knows; recovery then applies the records of the log
    /// after it. `segment_size` tells to which segment a position belongs.
    #[must_use]
    pub fn new(mut base: Base, limits: Limits, segment_size: u64) -> Self {
        let mut durable = durable::Durable::new(&base, segment_size);
        durable.producers = producers::Producers::new(&mut base);
        let later = later::Later::new(base.delayed);
        let expiries = queue::Expiries::new(scan::plan(&base.queues));
        let policies = Arc::<policy::Policies>::default();
        let count = base.queues.len();
        let mut names = Tables::with_room(count);
        let mut queues = ByQueue::default();
        let mut held = held::Held::default();
        for (id, row) in base.queues {
            let rules = policies.redelivery_of(&row.name);
            // An empty line is looked at, too: it may be one that is to go.
            held.learn(id, &row.name, true, Vec::new());
            let queue = Queue::new(id, row, rules);
            names.insert(Arc::clone(&queue.row.name), id);
            queues.insert(id, Box::new(queue));
        }
        if mutant::is(Mutant::ForgetReaders) {
            held.readers = virtual_topic::Readers::default();
        }
        let listening = bodies::Listening::after(&durable.bodies);
        Self {
            limits,
            durable,
            sorted: names.keys().cloned().collect(),
            names,
            queues,
            topics: BTreeMap::new(),
            topic_wildcards: wildcards::Wildcards::default(),
            families: BTreeMap::new(),
            queue_wildcards: wildcards::Wildcards::default(),
            family_line: VecDeque::new(),
            groups: grouped::Agenda::default(),
            notices: notices::Agenda::default(),
            held,
            consumers: IdTables::default(),
            connections: BTreeMap::new(),
            loans: credit::Loans::default(),
            volatile_bytes: 0,
            last_volatile: 0,
            resident: 0,
            policies,
            dropped: policy::Dropped::default(),
            freed: policy::Freed::default(),
            last_group: 0,
            published: 0,
            last_seat: 0,
            publishing: VecDeque::new(),
            underway: BTreeMap::new(),
            publishing_bytes: 0,
            totals: Counters::default(),
            expiries,
            restless: VecDeque::new(),
            bulk: work::Bulk::default(),
            ended: VecDeque::new(),
            sweeps: BTreeMap::new(),
            transfers: BTreeMap::new(),
            later,
            resting: resting::Resting::default(),
            stages: upload::Stages::default(),
            listening,
            units: transact::Units::default(),
            branches: xa::Branches::default(),
            crowded: None,
            counts: once::NameCounts::default(),
            speakers: produce::Speakers::default(),
            producers_forgotten: 0,
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
        let delta = &self.durable.delta;
        delta.live.values().any(|change| *change < 0)
            || delta.shares.values().any(|share| share.holders < 0)
    }

    /// Bytes that the last checkpoint keeps from being given back, though nobody needs them.
    #[must_use]
    pub fn freed_bytes(&self) -> u64 {
        self.durable.freed
    }

    /// Live bytes of each segment that has any, by the last checkpoint.
    #[must_use]
    pub fn live_in_index(&self) -> &BTreeMap<u64, u64> {
        self.durable.live_in_index()
    }

    /// Changes that the next checkpoint will take.
    #[must_use]
    pub fn delta_len(&self) -> usize {
        let delta = &self.durable.delta;
        // What waits for its time is in an order of its own, at random: a row costs as two others.
        let due = 2 * delta.due.len();
        let tables = delta.entries.len() + delta.pieces.len() + due;
        // An outcome has a name on the heap and two rows in the index: it weighs three times.
        let outcomes = 3 * delta.outcomes.len();
        let branches = delta.branches.len() + outcomes + delta.heuristics.len();
        let producers = self.durable.producers.changes() + delta.numbered.len();
        let tables = tables + delta.shares.len();
        tables + delta.operations.len() + delta.names.len() + branches + producers
    }

    /// Begins a checkpoint of everything up to `through`, the last record applied.
    ///
    /// # Panics
    /// If another has begun and not ended.
    pub fn freeze(&mut self, through: Lsn) {
        self.durable.freeze(through);
    }

    /// Goes on with a checkpoint that has begun, for `rows` queues. Gives its changes when they
    /// are whole; what happens meanwhile is not among them.
    pub fn freeze_rows(&mut self, rows: usize) -> Option<Arc<Delta>> {
        let queues = &self.queues;
        self.durable.freeze_rows(rows, |id| &queues[&id].row)
    }

    /// Ends the checkpoint: the index has durably taken what `freeze` gave. Gives that back, to be
    /// dropped where it keeps nobody waiting.
    ///
    /// # Panics
    /// If none has begun.
    pub fn install(&mut self) -> Arc<Delta> {
        self.durable.install()
    }

    /// The epoch of this life, from its `Started` record.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.durable.scalars.epoch
    }

    /// The first moment at which something is to be done though nothing happens: a message in
    /// memory expires, or one beyond it may, a delay is over, or the time of a branch.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        let soon = self.expiries.first().map(|(at, _, _)| *at);
        let names = self.durable.names.next_deadline(&self.limits);
        let branches = self.next_branch_deadline();
        let producers = self.next_producers_deadline();
        let spreading = self.held.spreading.next_deadline();
        let later = [self.later.next(), self.resting.next_deadline(), spreading];
        let later = later.into_iter().flatten().min();
        let others = [self.expiries.beyond.next(), later, names, producers, branches];
        others.into_iter().chain([soon]).flatten().min()
    }

    /// Whether a delivery is outstanding.
    #[must_use]
    pub fn is_lent(&self, key: ConsumerKey, tag: Tag) -> bool {
        self.consumers.get(&key).is_some_and(|consumer| consumer.loans.contains_key(&tag))
    }

    /// The birth of the durable message in an outstanding delivery.
    #[must_use]
    pub fn lent_birth(&self, key: ConsumerKey, tag: Tag) -> Option<Lsn> {
        let lent = self.consumers.get(&key)?.loans.get(&tag)?;
        lent.in_log().map(|(birth, _)| birth)
    }

    /// Messages that slow subscribers of topics have missed in this life.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.dropped.from_topics
    }

    /// What a record says of when it was stated: `now`, or the newest time in any record where the
    /// clock has gone back behind it. When something is to happen is judged by the clock alone, and
    /// counted from it: else a clock that was ahead once would put off all that waits, for good.
    fn time(&self, now: Millis) -> Millis {
        now.max(Millis(self.durable.scalars.last_at))
    }

    /// Whether a message may have reached a consumer in an earlier life or this one; for checks.
    #[cfg(test)]
    pub(crate) fn may_be_seen(
        &self,
        queue: QueueId,
        place: delta::Place,
        it: &delta::Entry,
    ) -> bool {
        self.is_seen(&self.queues[&queue], place, it)
    }

    /// How many messages refer to each note; for checks.
    #[cfg(test)]
    pub(crate) fn notes(&self) -> BTreeMap<crate::ids::NoteId, u64> {
        self.durable.notes.counts()
    }

    /// The names of all queues, with their durable facts, in order; for checks.
    #[cfg(test)]
    pub(crate) fn rows(&self) -> BTreeMap<QueueId, &delta::QueueRow> {
        self.queues.iter().map(|(id, queue)| (id, &queue.row)).collect()
    }

    /// Whether the names in memory are those of the deltas and the index; for checks.
    #[cfg(test)]
    pub(crate) fn names_agree(
        &self,
        index: &BTreeMap<(delta::Scope, u64), delta::NameRow>,
    ) -> bool {
        self.durable.names_agree(index, |queue| self.queues.contains_key(&queue))
    }

    /// The same of producers.
    #[cfg(test)]
    pub(crate) fn producers_agree(
        &self,
        index: &BTreeMap<Identity, delta::ProducerRow>,
        staged: &BTreeMap<(TransactionId, Identity), delta::Sequences>,
    ) -> bool {
        self.durable.producers_agree(index, staged)
    }

    /// All durable messages of a queue, given all that the index holds of it; for checks.
    #[cfg(test)]
    pub(crate) fn entries(
        &self,
        queue: QueueId,
        rows: &[(delta::Place, delta::Entry)],
    ) -> Vec<(delta::Place, delta::Entry)> {
        let (mut all, mut after) = (Vec::new(), Some(delta::Place::START));
        while let Some(from) = after {
            let rows = &rows[rows.partition_point(|(place, _)| *place <= from)..];
            after = self.durable.overlay(queue, from, rows, true, |place, entry| {
                all.push((place, *entry));
                true
            });
        }
        all
    }
}

/// Whether a fact takes room in the store, so that a full disk must refuse it.
#[must_use]
pub fn takes_room(facts: &[Fact]) -> bool {
    // What is set apart was in the store before; the queue for it is the one thing new.
    let apart = |fact: &Fact| matches!(fact, Fact::Log(Record::DeadLettered { .. }, _));
    let takes = |fact: &Fact| matches!(fact, Fact::Log(record, _) if !record.clears());
    facts.iter().any(takes) && !facts.iter().any(apart)
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
