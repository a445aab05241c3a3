//! Which lines of publications have something to go on with.
//!
//! A step takes one that is ready, however many there are: those of which something is being read,
//! and those that wait for room, are looked at again when that is over. Leaves to others: what a
//! line is (`held`), and where a publication goes (`publication`).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::ids::{Millis, QueueId};
use crate::limits;

#[derive(Debug, Default)]
pub(crate) struct Spreading {
    /// Lines in which something waits, or of which somebody is to see that nothing does.
    pending: BTreeSet<QueueId>,
    /// Of these, the ones that can go on.
    ready: BTreeSet<QueueId>,
    /// The one that went on last: they take turns.
    turn: Option<QueueId>,
    /// Those of which entries are being read.
    paging: BTreeSet<QueueId>,
    /// And those of which the content of the first is.
    asked: BTreeSet<QueueId>,
    /// Those whose first has found no room, and when it is tried again.
    resting: BTreeMap<QueueId, Millis>,
    alarms: BTreeSet<(Millis, QueueId)>,
}

impl Spreading {
    /// Something waits in a line, or nothing does any more.
    pub(super) fn wake(&mut self, id: QueueId) {
        self.pending.insert(id);
        let idle = !self.paging.contains(&id) && !self.asked.contains(&id);
        if idle && !self.resting.contains_key(&id) {
            self.ready.insert(id);
        }
    }

    /// The next that can go on.
    pub(super) fn next(&mut self, now: Millis) -> Option<QueueId> {
        while let Some((_, id)) = self.alarms.first().copied().filter(|(at, _)| *at <= now) {
            self.alarms.pop_first();
            self.resting.remove(&id);
            self.wake(id);
        }
        if !self.may_read() {
            return None;
        }
        let after = self.turn.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.ready.range((after, Bound::Unbounded)).next();
        self.turn = next.or(self.ready.first()).copied();
        self.turn
    }

    /// Whether some can go on.
    pub(super) fn any(&self, now: Millis) -> bool {
        let over = self.alarms.first().is_some_and(|(at, _)| *at <= now);
        over || (self.may_read() && !self.ready.is_empty())
    }

    /// Contents lie in memory from then on.
    fn may_read(&self) -> bool {
        self.asked.len() < limits::OCCURRENCES_AT_ONCE
    }

    /// Entries of a line are being read.
    pub(super) fn page(&mut self, id: QueueId) {
        self.ready.remove(&id);
        self.paging.insert(id);
    }

    /// They have been.
    pub(super) fn paged(&mut self, id: QueueId) {
        self.paging.remove(&id);
        self.go_on(id);
    }

    /// The content of the first in a line is being read.
    pub(super) fn ask(&mut self, id: QueueId) {
        self.ready.remove(&id);
        self.asked.insert(id);
    }

    /// It has been.
    pub(super) fn answered(&mut self, id: QueueId) {
        self.asked.remove(&id);
        self.go_on(id);
    }

    fn go_on(&mut self, id: QueueId) {
        if self.pending.contains(&id) {
            self.wake(id);
        }
    }

    /// The first in a line has found no room.
    pub(super) fn rest(&mut self, id: QueueId, until: Millis) {
        self.ready.remove(&id);
        if let Some(before) = self.resting.insert(id, until) {
            self.alarms.remove(&(before, id));
        }
        self.alarms.insert((until, id));
    }

    /// Those whose first waits for room.
    pub(super) fn resting(&self) -> impl Iterator<Item = QueueId> {
        self.resting.keys().copied()
    }

    /// The first in a line may find room.
    pub(super) fn rested(&mut self, id: QueueId) {
        if let Some(until) = self.resting.remove(&id) {
            self.alarms.remove(&(until, id));
            self.wake(id);
        }
    }

    /// Whether nothing waits in any line.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Nothing waits in a line.
    pub(super) fn empty(&mut self, id: QueueId) {
        self.pending.remove(&id);
        self.ready.remove(&id);
    }

    /// A line is gone.
    pub(super) fn gone(&mut self, id: QueueId) {
        self.empty(id);
        self.paging.remove(&id);
        self.asked.remove(&id);
        if let Some(until) = self.resting.remove(&id) {
            self.alarms.remove(&(until, id));
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Millis> {
        self.alarms.first().map(|(at, _)| *at)
    }

    /// Whether the first in a line has found no room.
    pub(super) fn is_resting(&self, id: QueueId) -> bool {
        self.resting.contains_key(&id)
    }

    /// Whether something waits in a line.
    pub(super) fn is_pending(&self, id: QueueId) -> bool {
        self.pending.contains(&id)
    }

    /// The lines in which something waits.
    pub(super) fn pending(&self) -> impl Iterator<Item = QueueId> {
        self.pending.iter().copied()
    }
}

#[cfg(test)]
impl crate::broker::Broker {
    /// Whether some line waits for room.
    pub(crate) fn publications_rest(&self) -> bool {
        !self.held.spreading.resting.is_empty()
    }
}
