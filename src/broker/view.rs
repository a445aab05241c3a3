//! What an operator sees of queues: facts read from memory, a bounded number at a time.
//!
//! Changes nothing and never looks into the index, so that a view of a queue costs the same
//! whatever is in it.

use std::ops::Bound::{Excluded, Unbounded};

use crate::broker::counters::Counters;
use crate::broker::delta::Place;
use crate::broker::fact::{Lent, VolatilePlace};
use crate::broker::once::NameCounts;
use crate::broker::policy::Limit;
use crate::broker::produce::ProducerCounts;
use crate::broker::queue::Queue;
use crate::broker::{Broker, Limits};
use crate::ids::{ConnectionId, Millis, QueueId, SubscriptionId};
use crate::limits;

/// A queue as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueInfo {
    /// Its name.
    pub name: Box<str>,
    /// Messages that wait or are lent.
    pub depth: u64,
    /// Of these, how many are lent to consumers.
    pub lent: u64,
    /// Of these, how many are delayed: not handed out before some time.
    pub delayed: u64,
    /// Subscriptions on it, those of patterns that catch its name included.
    pub consumers: usize,
    /// When the oldest message was sent, of those that wait in memory: per priority the first.
    /// `None` where none waits, and where all that wait are in the index alone.
    pub oldest: Option<Millis>,
    /// What has happened to it since the broker started.
    pub counters: Counters,
}

/// Everything about one queue that is in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueDetails {
    /// What a list shows of it, too.
    pub info: QueueInfo,
    /// Bytes it holds, as its limit counts them.
    pub bytes: u64,
    /// Messages that transactions without an outcome have sent to it.
    pub staged: u64,
    /// Of those in it, how many such transactions have settled.
    pub held: u64,
    /// What it may hold.
    pub limit: Limit,
    /// Its subscriptions, some at most.
    pub readers: Vec<ReaderInfo>,
    /// What holds for every queue.
    pub limits: Limits,
}

/// A subscription as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReaderInfo {
    /// Of which connection.
    pub connection: ConnectionId,
    /// Which of that connection's.
    pub subscription: SubscriptionId,
    /// Deliveries it may have outstanding.
    pub prefetch: u32,
    /// Deliveries it has outstanding, of all its queues.
    pub outstanding: usize,
    /// When the message was sent that it has held longest.
    pub oldest: Option<Millis>,
    /// Which messages it wants, if not all: the beginning of its selector.
    pub selector: Option<Box<str>>,
}

/// The whole broker in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Queues.
    pub queues: usize,
    /// Subscriptions, ended ones that still hold messages included.
    pub subscriptions: usize,
    /// Over all queues, those that are gone included.
    pub counters: Counters,
    /// Messages published on topics.
    pub published: u64,
    /// Messages that slow subscribers of topics have missed.
    pub missed: u64,
    /// Bytes of content that lives in memory alone.
    pub volatile_bytes: u64,
    /// Changes in memory that no checkpoint has taken.
    pub changes: usize,
    /// Bytes of the log that messages keep.
    pub live_bytes: u64,
    /// Names against repetitions.
    pub names: NameCounts,
    /// Producers that count what they send.
    pub producers: ProducerCounts,
}

impl Broker {
    /// Queues after a name in the order of names, [`limits::LIST_QUEUES_MAX`] at most.
    #[must_use]
    pub fn list(&self, after: Option<&str>) -> Vec<QueueInfo> {
        let from = after.map_or(Unbounded, Excluded);
        let names = self.sorted.range::<str, _>((from, Unbounded));
        let queues =
            names.take(limits::LIST_QUEUES_MAX).map(|name| &self.queues[&self.names[name]]);
        queues.map(|queue| self.info(queue)).collect()
    }

    /// One queue.
    pub(super) fn details(&self, id: QueueId) -> QueueDetails {
        let queue = &self.queues[&id];
        let reader = |key| {
            let consumer = &self.consumers[key];
            ReaderInfo {
                connection: key.0,
                subscription: key.1,
                prefetch: consumer.prefetch(),
                outstanding: consumer.loans.len(),
                oldest: consumer.loans.first_key_value().map(|(_, loan)| sent_at(loan)),
                selector: consumer.selector.as_ref().map(|it| shown(it.text())),
            }
        };
        let keys = queue.consumers.iter().chain(self.readers_by_pattern(queue));
        let readers = keys.take(limits::SHOW_CONSUMERS_MAX).map(reader);
        QueueDetails {
            info: self.info(queue),
            bytes: queue.bytes(),
            staged: queue.row.staged,
            held: queue.row.held,
            limit: queue.limit,
            readers: readers.collect(),
            limits: self.limits,
        }
    }

    fn info(&self, queue: &Queue) -> QueueInfo {
        let mut info = queue.info();
        info.consumers += self.count_by_pattern(queue);
        info
    }

    /// The whole in numbers.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            queues: self.queues.len(),
            subscriptions: self.consumers.len(),
            counters: self.totals,
            published: self.published,
            missed: self.missed(),
            volatile_bytes: self.volatile_bytes,
            changes: self.delta_len(),
            live_bytes: self.durable.live_bytes(),
            names: self.name_counts(),
            producers: self.producer_counts(),
        }
    }
}

/// The beginning of a selector, short enough for a line.
fn shown(selector: &str) -> Box<str> {
    match selector.char_indices().nth(limits::SHOW_SELECTOR_CHARACTERS) {
        Some((end, _)) => format!("{}…", &selector[..end]).into(),
        None => selector.into(),
    }
}

fn sent_at(loan: &Lent) -> Millis {
    match loan {
        Lent::Durable { entry, .. } => entry.at,
        Lent::Volatile { message, .. } | Lent::Published { message, .. } => message.at,
    }
}

impl Queue {
    fn info(&self) -> QueueInfo {
        let lent = (self.on_loan.len() + self.volatile_on_loan.len()) as u64;
        let of_volatile = (self.volatile_len() + self.volatile_on_loan.len()) as u64;
        QueueInfo {
            name: (&*self.row.name).into(),
            depth: self.row.depth + of_volatile,
            lent,
            delayed: self.row.delayed,
            consumers: self.consumers.len(),
            oldest: self.oldest(),
            counters: self.counters,
        }
    }

    /// When the oldest waiting message was sent, judged by the first of each rank in memory.
    fn oldest(&self) -> Option<Millis> {
        let mut oldest: Option<Millis> = None;
        let mut saw = |at: Millis| oldest = Some(oldest.map_or(at, |oldest| oldest.min(at)));
        let mut rank = 0;
        while let Some((place, entry)) = self.resident_from(Place { rank, seq: 0 }) {
            saw(entry.at);
            rank = place.rank + 1;
        }
        let mut rank = 0;
        while let Some((place, at)) = self.volatile_from(VolatilePlace::first_of(rank)) {
            saw(at);
            rank = place.rank + 1;
        }
        oldest
    }
}
