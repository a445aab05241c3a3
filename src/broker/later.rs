//! Delayed messages: in their queue, not handed out before a moment that a record has fixed.
//!
//! A delayed message keeps its place and holds up nobody behind it; when its time has come a
//! record says that it waits again. Owns the line of all that are delayed, the soonest first, as
//! far as it is in memory: complete up to its horizon, while what lies beyond is in the deltas
//! and the index, so that a million of them cost no more memory than a few thousand.
//! Always: what is in memory never changes a record.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::broker::Broker;
use crate::broker::Effects;
use crate::broker::delta::{Delta, Due, Entry, Place, Why};
use crate::broker::durable::{Durable, newest};
use crate::broker::fact::{ContentOf, ContentRequest, Effect, Fact, LaterPage, LaterRequest};
use crate::broker::held::Role;
use crate::broker::redelivery::Ending;
use crate::broker::selecting::Waiting;
use crate::ids::{DueTime, Millis, QueueId};
use crate::limits;
use crate::mutant::{self, Mutant};
use crate::record::Record;

/// The delayed messages in memory.
#[derive(Debug)]
pub(crate) struct Later {
    soon: BTreeMap<Due, Entry>,
    /// How far `soon` is complete; `None` where it is so to the end.
    horizon: Option<Due>,
    /// What comes next is being read.
    paging: bool,
    /// Messages that come again and whose time has come: their contents are being read.
    pub(super) asked: BTreeSet<Due>,
}

impl Later {
    /// As a life begins: whether the index has any.
    pub(crate) fn new(any: bool) -> Self {
        let horizon = any.then_some(Due::START);
        Self { soon: BTreeMap::new(), horizon, paging: false, asked: BTreeSet::new() }
    }

    fn admit(&mut self, due: Due, entry: Entry) {
        if self.horizon.is_some_and(|horizon| due > horizon) {
            return;
        }
        self.soon.insert(due, entry);
        if self.soon.len() > limits::DELAYED_WINDOW {
            self.soon.pop_last();
            self.horizon = self.soon.last_key_value().map(|(due, _)| *due);
        }
    }

    /// When the first is due, of those in memory of which nobody waits for the content.
    pub(crate) fn next(&self) -> Option<Millis> {
        self.free().next().map(|(due, _)| due.at.millis())
    }

    /// Those of which nobody waits for the content; none where that is so of as many as may be.
    fn free(&self) -> impl Iterator<Item = (&Due, &Entry)> {
        let none = self.asked.len() >= limits::OCCURRENCES_AT_ONCE;
        let soon = (!none).then(|| self.soon.iter()).into_iter().flatten();
        soon.filter(|(due, _)| !self.asked.contains(due))
    }

    /// A delayed message in memory.
    pub(super) fn get(&self, due: &Due) -> Option<&Entry> {
        self.soon.get(due)
    }

    /// Whether something is to be done at `now`.
    pub(crate) fn is_due(&self, now: Millis) -> bool {
        self.wants().is_some() || self.next().is_some_and(|at| at <= now)
    }

    /// From where on more is to be read, if so.
    fn wants(&self) -> Option<Due> {
        let low = self.soon.len() < limits::DELAYED_WINDOW / 2;
        self.horizon.filter(|_| low && !self.paging)
    }
}

impl Durable {
    /// A message that the delta has among its entries is delayed.
    fn delay(&mut self, due: Due) {
        self.delta.due.insert(due, Some(()));
    }

    fn undelay(&mut self, due: Due) {
        self.delta.due.insert(due, None);
    }

    /// As [`Durable::overlay`], of the delayed messages of all queues.
    pub(crate) fn overlay_later(
        &self,
        after: Due,
        rows: &[(Due, Entry)],
        exhausted: bool,
        mut visit: impl FnMut(Due, &Entry) -> bool,
    ) -> Option<Due> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let end = rows.last().map_or(after, |row| row.0);
        if !exhausted && end <= after {
            return Some(after);
        }
        let range = (Excluded(after), if exhausted { Unbounded } else { Included(end) });
        let nothing = Delta::default();
        let frozen = self.frozen.as_deref().unwrap_or(&nothing);
        let new = self.delta.due.range(range).map(|(due, waits)| (*due, *waits));
        let old = frozen.due.range(range).map(|(due, waits)| (*due, *waits));
        let index = rows.iter().map(|(due, _)| (*due, Some(())));
        let entry = |due: &Due| {
            let key = (due.queue, due.place);
            let changed = self.delta.entries.get(&key).or_else(|| frozen.entries.get(&key));
            let row = || rows.binary_search_by_key(due, |row| row.0).map(|at| rows[at].1);
            let found = changed.unwrap_or_else(|| row().ok());
            found.expect("a delayed message has an entry")
        };
        for (looked, (due, waits)) in (1..).zip(newest(new, old, index)) {
            let go_on = waits.is_none_or(|()| visit(due, &entry(&due)));
            if !go_on || looked == limits::OVERLAY_PLACES_MAX {
                return Some(due);
            }
        }
        (!exhausted).then_some(end)
    }
}

impl Broker {
    /// Asks for what comes next, and states what becomes of messages whose delay is over, all of
    /// one queue. False when there is nothing to state.
    pub(super) fn state_later(
        &mut self,
        now: Millis,
        facts: &mut Vec<Fact>,
        effects: &mut Effects,
    ) -> bool {
        if let Some(after) = self.later.wants() {
            self.later.paging = true;
            let (limit, generation) = (limits::DELAYED_PAGE, self.durable.generation);
            effects.push(Effect::Later(LaterRequest { after, limit, generation }));
        }
        let is_due = |(due, _): &(&Due, &Entry)| due.at.millis() <= now;
        let first = self.later.free().next().filter(is_due);
        let Some((first, entry)) = first.map(|(due, entry)| (*due, *entry)) else { return false };
        let id = first.queue;
        let next = self.next(now, id, &entry);
        if next == Next::Occurs {
            let Entry { birth, size, .. } = entry;
            self.later.asked.insert(first);
            effects.push(Effect::Content(ContentRequest {
                of: ContentOf::Occurrence(first),
                birth,
                size,
            }));
            return true;
        }
        let mut entries = vec![(first.place, entry)];
        let due = self.later.free().take_while(is_due).skip(1);
        for (due, entry) in due.take(limits::STEP_MESSAGES_MAX - 1) {
            if due.queue != id || self.next(now, id, entry) != next {
                break;
            }
            entries.push((due.place, *entry));
        }
        match next {
            Next::Waits => {
                let record = Record::Woken { queue: id, entries };
                facts.push(Fact::Log(record, Bytes::new()));
            }
            Next::Fires => self.state_fired(now, id, entries, facts),
            Next::Occurs => unreachable!("done above"),
            Next::Dead(why) => self.state_dead(now, id, why, entries, facts),
        }
        true
    }

    /// Takes in a part of the line that was asked for. One that the state has moved past is
    /// dropped, and asked for again.
    pub fn later_in(&mut self, page: &LaterPage) {
        let LaterRequest { after, limit, generation } = page.request;
        self.later.paging = false;
        if generation != self.durable.generation || self.later.horizon != Some(after) {
            return;
        }
        let (mut found, exhausted) = (Vec::new(), page.rows.len() < limit);
        let reached = self.durable.overlay_later(after, &page.rows, exhausted, |due, entry| {
            found.push((due, *entry));
            found.len() < limit
        });
        self.later.horizon = reached;
        found.into_iter().for_each(|(due, entry)| self.later.admit(due, entry));
    }

    /// A durable message of a queue has changed, and may be delayed from now on.
    pub(super) fn apply_changed(&mut self, id: QueueId, place: Place, entry: Entry) {
        self.durable.put(id, place, entry);
        let queue = self.queues.get_mut(&id).expect("fits");
        let Some(at) = entry.due else { return queue.update(place, entry) };
        self.durable.change(id, &queue.row, &mut queue.changed);
        queue.row.delayed += 1;
        let waited = queue.release(place, &mut self.expiries);
        self.resident -= usize::from(waited.is_some());
        let due = Due { at, queue: id, place };
        self.durable.delay(due);
        self.durable.follow(id, place, entry);
        self.later.admit(due, entry);
    }

    /// The delay of a message in a queue is over, if it had one.
    pub(super) fn undelay(&mut self, id: QueueId, place: Place, at: Option<DueTime>) {
        let Some(at) = at else { return };
        let due = Due { at, queue: id, place };
        self.durable.undelay(due);
        self.changing(id).row.delayed -= 1;
        self.later.soon.remove(&due);
    }

    pub(super) fn apply_put_off(&mut self, id: QueueId, until: DueTime, put: &[(Place, Entry)]) {
        for (place, entry) in put {
            self.undelay(id, *place, entry.due);
            self.apply_changed(id, *place, Entry { due: Some(until), ..*entry });
        }
    }

    pub(super) fn apply_woken(&mut self, id: QueueId, woken: &[(Place, Entry)]) {
        for (place, entry) in woken {
            self.undelay(id, *place, entry.due);
            let entry = Entry { due: None, ..*entry };
            if mutant::is(Mutant::WakeIntoNothing) {
                continue;
            }
            self.durable.put(id, *place, entry);
            self.waits_again(id, *place, entry);
        }
    }

    /// A durable message waits in its place from now on.
    pub(super) fn waits_again(&mut self, id: QueueId, place: Place, entry: Entry) {
        let max = self.window_max();
        let queue = self.queues.get_mut(&id).expect("a message has a queue");
        let before = queue.resident_len();
        queue.admit(place, entry, max, &mut self.expiries);
        queue.waits_again(crate::broker::fact::Spot::Durable(place), Waiting::Durable(entry));
        self.resident = self.resident + queue.resident_len() - before;
        if queue.role == Role::Line {
            self.held.spreading.wake(id);
        }
        self.stir(id);
    }

    /// All delayed messages, given all that the index has of them; for checks.
    #[cfg(test)]
    pub(crate) fn all_delayed(&self, rows: &[(Due, Entry)]) -> BTreeMap<Due, Entry> {
        let (mut all, mut after) = (BTreeMap::new(), Some(Due::START));
        while let Some(from) = after {
            let rows = &rows[rows.partition_point(|(due, _)| *due <= from)..];
            after = self.durable.overlay_later(from, rows, true, |due, entry| {
                all.insert(due, *entry);
                true
            });
        }
        all
    }
}

/// What becomes of a message whose delay is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Waits,
    /// It is handed out for the first time.
    Fires,
    /// Another is handed out like it, and it comes again.
    Occurs,
    /// It was to be set apart before, and there was no room.
    Dead(Why),
}

impl Broker {
    fn next(&self, now: Millis, id: QueueId, entry: &Entry) -> Next {
        let queue = &self.queues[&id];
        if self.is_scheduled(entry) {
            return if self.comes_again(now, entry) { Next::Occurs } else { Next::Fires };
        }
        if queue.redelivery.is_too_often(entry.returns) {
            return Next::Dead(Why::Returned);
        }
        let over = entry.expires.is_some_and(|at| at <= now);
        if over && queue.redelivery.expired == Ending::DeadLetter {
            return Next::Dead(Why::Expired);
        }
        Next::Waits
    }
}

impl Due {
    /// Before every turn.
    pub const START: Self =
        Self { at: DueTime::at(Millis(0)), queue: QueueId(0), place: Place::START };
}
