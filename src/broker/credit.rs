//! Deliveries outstanding over all subscriptions of a connection, and over all connections.
//!
//! Each is a few hundred bytes of memory, and a subscription may ask for very many. Always: a
//! subscription of which the connection has as many as it may gets no more and is told nothing: it
//! waits beside its queue's line until some of the connection's are settled. Where all together
//! have too many, a connection may have few, and waits for others' as well: its own may be of a
//! kind that ends only when it gets more, as with one who acknowledges every hundredth. What is
//! lent of a topic counts as memory (`topic`) and not here; the credit of each subscription is
//! `consumer`'s.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;

use crate::broker::Broker;
use crate::broker::delta::Place;
use crate::broker::fact::{ConsumerKey, Lent, Source};
use crate::ids::{ConnectionId, IdMap, QueueId, Tag};
use crate::limits;

/// What one costs in memory, about: in the trees of its subscription and of its queue, which are
/// two thirds full, and what a session remembers of it.
pub(super) const LOAN_BYTES: usize = size_of::<(Tag, Lent, Place)>() * 3 / 2 + 128;

/// Outstanding deliveries of all queues.
#[derive(Debug, Default)]
pub(crate) struct Loans {
    all: usize,
    connections: IdMap<ConnectionId, OfConnection>,
    /// Of the subscriptions that wait, those that do because all together have too many.
    crowded: BTreeSet<ConsumerKey>,
    /// The one of these that went on last: they take turns.
    turn: Option<ConsumerKey>,
}

#[derive(Debug, Default)]
struct OfConnection {
    count: usize,
    /// Subscriptions with credit that wait for others of the connection.
    waiting: BTreeSet<ConsumerKey>,
}

impl Loans {
    /// A message of a queue was handed to a connection.
    pub(super) fn lent_to(&mut self, connection: ConnectionId) {
        self.all += 1;
        self.connections.entry(connection).or_default().count += 1;
    }

    fn next_crowded(&mut self) -> Option<ConsumerKey> {
        let after = self.turn.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.crowded.range((after, Bound::Unbounded)).next();
        self.turn = next.or(self.crowded.first()).copied();
        self.crowded.take(&self.turn?)
    }
}

impl Broker {
    /// How many a connection may have: few where all together have too many.
    fn loans_max(&self) -> usize {
        if self.loans.all < self.limits.loans_of_all {
            return self.limits.loans;
        }
        self.limits.loans.min(limits::CONNECTION_LOANS_MIN)
    }

    /// Whether another message of a queue may be handed to a connection.
    pub(super) fn may_lend(&self, connection: ConnectionId) -> bool {
        let known = self.loans.connections.get(&connection);
        known.is_none_or(|known| known.count < self.loans_max())
    }

    /// Puts a consumer with credit at the end of its queue's line, or aside.
    pub(super) fn stand_in_line(&mut self, key: ConsumerKey) {
        let Some(consumer) = self.consumers.get_mut(&key) else { return };
        let source = consumer.source.clone();
        if matches!(source, Source::Topic(_)) || consumer.in_line || consumer.credit() == 0 {
            return;
        }
        if !self.may_lend(key.0) {
            return self.wait_aside(key);
        }
        let consumer = self.consumers.get_mut(&key).expect("just seen");
        consumer.in_line = true;
        let id = match source {
            Source::Queue(id) => id,
            Source::Pattern(name) => {
                self.is_owed(key);
                return self.stand_in_family(&name, key);
            }
            Source::Topic(_) => return,
        };
        if let Some(line) = self.line_of(id, key) {
            line.push_back(key);
        }
        let consumer = &self.consumers[&key];
        let queue = self.queues.get_mut(&id).expect("a consumer keeps its queue");
        if let (Some(group), Some(selecting)) = (consumer.group, &mut queue.selecting) {
            selecting.stir(group);
        }
        self.has_credit_for_groups(id, key);
        self.stir(id);
    }

    /// The next subscription in a queue's line that may have a message. Those before it whose
    /// connections have as many as they may leave the line.
    pub(super) fn next_ready(&mut self, id: QueueId) -> Option<ConsumerKey> {
        loop {
            let queue = self.queues.get(&id)?;
            if queue.choice.is_some() {
                return self.next_by_choice(id);
            }
            let key = *queue.ready.front()?;
            if self.may_lend(key.0) {
                return Some(key);
            }
            self.pass_over(id, key);
        }
    }

    /// The first in a line of a queue leaves it: its connection has as many as it may.
    pub(super) fn pass_over(&mut self, id: QueueId, key: ConsumerKey) {
        self.line_of(id, key).map(VecDeque::pop_front);
        self.consumers.get_mut(&key).expect("it stands in line").in_line = false;
        self.wait_aside(key);
    }

    /// Whether a consumer may have a message, wherever it stands in its line; one whose connection
    /// has as many as it may leaves the line.
    pub(super) fn may_have(&mut self, id: QueueId, key: ConsumerKey) -> bool {
        let stands = self.consumers.get(&key).is_some_and(|consumer| consumer.in_line);
        if !stands || self.may_lend(key.0) {
            return stands;
        }
        if let Some(line) = self.line_of(id, key) {
            line.retain(|other| *other != key);
        }
        self.consumers.get_mut(&key).expect("just seen").in_line = false;
        self.wait_aside(key);
        false
    }

    /// Whether the first of a group may have a message; otherwise it leaves the group's line.
    pub(super) fn is_ready(&mut self, id: QueueId, key: ConsumerKey) -> bool {
        let may = self.may_lend(key.0);
        if !may {
            self.pass_over(id, key);
        }
        may
    }

    /// A subscription waits for others of its connection.
    fn wait_aside(&mut self, key: ConsumerKey) {
        let known = self.loans.connections.entry(key.0).or_default();
        known.waiting.insert(key);
        if known.count < self.limits.loans {
            self.loans.crowded.insert(key);
        }
    }

    /// Whether somebody waits for others' deliveries though there is room.
    pub(super) fn has_crowded(&self) -> bool {
        self.loans.all < self.limits.loans_of_all && !self.loans.crowded.is_empty()
    }

    /// Lets the next one of these stand in line again, one in each step: the others have to wait
    /// again if that takes the room. False where there is none.
    pub(super) fn tend_crowded(&mut self) -> bool {
        if !self.has_crowded() {
            return false;
        }
        let Some(key) = self.loans.next_crowded() else { return false };
        if let Some(known) = self.loans.connections.get_mut(&key.0) {
            known.waiting.remove(&key);
        }
        self.stand_in_line(key);
        true
    }

    /// So many outstanding deliveries of a subscription are over. Where that leaves its connection
    /// with clearly fewer than it may have, all that wait stand in line again: whichever finds a
    /// message has it.
    pub(super) fn loans_over(&mut self, key: ConsumerKey, source: &Source, count: usize) {
        if let Source::Topic(_) = source {
            return;
        }
        let max = self.loans_max();
        let Some(known) = self.loans.connections.get_mut(&key.0) else { return };
        self.loans.all -= count;
        known.count -= count;
        if known.count > max - max.div_ceil(limits::LOANS_REST_PART) {
            // Those that waited for their own connection may wait for all together from now on.
            if max < self.limits.loans && known.count < self.limits.loans {
                self.loans.crowded.extend(known.waiting.iter().copied());
            }
            return;
        }
        let waiting = std::mem::take(&mut known.waiting);
        if known.count == 0 {
            self.loans.connections.remove(&key.0);
        }
        for key in waiting {
            self.loans.crowded.remove(&key);
            self.stand_in_line(key);
        }
    }

    /// A subscription has ended and waits for nothing any more.
    pub(super) fn waits_no_more(&mut self, key: ConsumerKey) {
        if let Some(known) = self.loans.connections.get_mut(&key.0) {
            known.waiting.remove(&key);
        }
        self.loans.crowded.remove(&key);
    }

    /// Outstanding deliveries, as counted and as there are; for checks.
    #[cfg(test)]
    pub(crate) fn loans(&self) -> (usize, usize) {
        let of_queues = |source: &Source| !matches!(source, Source::Topic(_));
        let all = self.consumers.values().filter(|consumer| of_queues(&consumer.source));
        (self.loans.all, all.map(|consumer| consumer.loans.len()).sum())
    }
}
