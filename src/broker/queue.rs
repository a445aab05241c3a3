//! One queue in memory: what waits near its head, and who waits for it.
//!
//! Owns the window of resident entries and its horizon: every durable message that waits at or
//! before the horizon is in the window; what lies beyond is in the deltas and the index and is
//! asked for when the window runs low. Residency is a cache: it never changes a record.
//! Leaves the durable facts to `durable`, and whom to serve to `work`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use crate::broker::choice::Choice;
use crate::broker::counters::Counters;
use crate::broker::delta::{Entry, Place, QueueRow};
use crate::broker::durable::Freezes;
use crate::broker::fact::{ConsumerKey, Spot, Volatile, VolatilePlace};
use crate::broker::grouping::Groups;
use crate::broker::held::Role;
use crate::broker::policy::{Held, Limit};
use crate::broker::redelivery::Redelivery;
use crate::broker::scan::Scans;
use crate::broker::selecting::{GroupId, Selecting, Waiting};
use crate::broker::window::Window;
use crate::ids::{Millis, QueueId, Tag};
use crate::mutant::{self, Mutant};

/// What the place of a waiting message costs, about: in the window, a ring that has room for up to
/// as many again when it grows, and where the message expires in a tree that is two thirds full.
pub(super) const PLACE_BYTES: usize =
    size_of::<((Place, Entry), (Millis, QueueId, Spot))>() * 3 / 2;

/// When what waits is no longer wanted.
#[derive(Debug, Default)]
pub(crate) struct Expiries {
    /// What waits in memory, soonest first.
    soon: BTreeSet<(Millis, QueueId, Spot)>,
    /// What lies beyond the windows.
    pub(crate) beyond: Scans,
}

impl Expiries {
    pub(crate) fn new(beyond: Scans) -> Self {
        Self { soon: BTreeSet::new(), beyond }
    }

    fn insert(&mut self, due: (Millis, QueueId, Spot)) {
        self.soon.insert(due);
    }

    fn remove(&mut self, due: &(Millis, QueueId, Spot)) {
        self.soon.remove(due);
    }

    /// What is over first of all that waits in memory.
    pub(crate) fn first(&self) -> Option<&(Millis, QueueId, Spot)> {
        self.soon.first()
    }

    /// What waits in memory, soonest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(Millis, QueueId, Spot)> {
        self.soon.iter()
    }
}

#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) id: QueueId,
    /// The durable facts about the queue itself.
    pub(crate) row: QueueRow,
    /// The freeze since which the row has changed.
    pub(crate) changed: Freezes,
    /// Durable messages that wait, from the head up to the horizon.
    resident: Window,
    /// How far `resident` is complete; `None` where it is so to the end.
    horizon: Option<Place>,
    /// It stands in the line of queues in which something may be handed out.
    pub(crate) restless: bool,
    /// A page of the index is on its way.
    pub(crate) paging: bool,
    /// Non-persistent messages that wait, with how often they came back.
    volatile: BTreeMap<VolatilePlace, (Volatile, u32)>,
    /// The same of those that came back and are not handed out again yet.
    resting: BTreeMap<VolatilePlace, (Volatile, u32)>,
    /// Durable messages in the hands of consumers.
    pub(crate) on_loan: BTreeSet<Place>,
    /// Non-persistent messages in the hands of consumers, ended ones included, and whose.
    pub(crate) volatile_on_loan: BTreeMap<VolatilePlace, (ConsumerKey, Tag)>,
    /// Subscriptions that have not ended.
    pub(crate) consumers: BTreeSet<ConsumerKey>,
    /// What has happened to it.
    pub(crate) counters: Counters,
    /// Those with credit and without selector, the next one first.
    pub(crate) ready: VecDeque<ConsumerKey>,
    /// What to choose by, where those without selectors are not all alike.
    pub(crate) choice: Option<Box<Choice>>,
    /// Whether messages of groups are in it.
    pub(crate) groups: Groups,
    /// Those with selectors, where there are any, and what is known of groups.
    pub(crate) selecting: Option<Box<Selecting>>,
    /// What non-persistent messages are charged, lent ones included.
    pub(crate) volatile_bytes: u64,
    /// What branches that have voted would put into it, and transactions of earlier lives: nothing
    /// may take the room for it.
    pub(crate) voted: Held,
    /// What it may hold.
    pub(crate) limit: Limit,
    /// What becomes of messages that come back to it.
    pub(crate) redelivery: Arc<Redelivery>,
    /// Someone waits for room in it.
    pub(crate) watched: bool,
    /// What it is for.
    pub(crate) role: Role,
}

/// What is next in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// This durable message.
    Durable(Place, Entry),
    /// This non-persistent one.
    Volatile(VolatilePlace),
    /// Something that is not in memory.
    Absent,
    /// Nothing waits.
    Empty,
}

impl Queue {
    /// A queue as the index knows it: nothing of it is in memory yet.
    pub(crate) fn new(id: QueueId, row: QueueRow, redelivery: Arc<Redelivery>) -> Self {
        let horizon = (row.depth > 0).then_some(Place::START);
        let voted = Held { messages: row.staged, bytes: row.staged_bytes };
        let role = Role::of(&row.name);
        Self {
            id,
            row,
            changed: Freezes::default(),
            resident: Window::default(),
            horizon,
            restless: false,
            paging: false,
            volatile: BTreeMap::new(),
            resting: BTreeMap::new(),
            on_loan: BTreeSet::new(),
            volatile_on_loan: BTreeMap::new(),
            consumers: BTreeSet::new(),
            counters: Counters::default(),
            ready: VecDeque::new(),
            choice: None,
            groups: Groups::default(),
            selecting: None,
            volatile_bytes: 0,
            voted,
            limit: Limit::NONE,
            redelivery,
            watched: false,
            role,
        }
    }

    /// Its last subscription has ended: gives back the room of what is empty, since a queue may
    /// stand idle for as long as the broker runs.
    #[must_use]
    pub(crate) fn rest(&mut self) -> Option<Box<Selecting>> {
        if !self.consumers.is_empty() {
            return None;
        }
        self.consumers = BTreeSet::new();
        self.ready = VecDeque::new();
        let alone = self.families().is_none_or(BTreeSet::is_empty);
        let over = if alone { self.forget_groups() } else { None };
        if self.on_loan.is_empty() {
            self.on_loan = BTreeSet::new();
        }
        if self.volatile.is_empty() {
            self.volatile = BTreeMap::new();
        }
        if self.volatile_on_loan.is_empty() {
            self.volatile_on_loan = BTreeMap::new();
        }
        over
    }

    /// Nothing in it belongs to a group.
    #[must_use]
    pub(crate) fn end_groups(&mut self) -> Option<Box<Selecting>> {
        self.groups.unknown = false;
        self.forget_groups()
    }

    /// Gives what nobody needs any more.
    fn forget_groups(&mut self) -> Option<Box<Selecting>> {
        self.selecting.take_if(|selecting| selecting.unwatch_groups())
    }

    pub(crate) fn horizon(&self) -> Option<Place> {
        self.horizon
    }

    /// Reads here and there what a send reads.
    pub(super) fn look(&self) -> u64 {
        let lengths = self.volatile.len() ^ self.volatile_on_loan.len() ^ self.ready.len();
        self.row.depth ^ self.row.delayed ^ self.voted.bytes ^ self.counters.sent ^ lengths as u64
    }

    pub(crate) fn resident_len(&self) -> usize {
        self.resident.len()
    }

    pub(crate) fn volatile_len(&self) -> usize {
        self.volatile.len() + self.resting.len()
    }

    /// Whether nobody will ask for a message of it soon: it has no consumer, and the message does
    /// not expire, which is told to the moment only while it is in memory.
    pub(crate) fn is_left_alone(&self, entry: &Entry) -> bool {
        self.consumers.is_empty() && entry.expires.is_none()
    }

    /// A durable message waits: it joins the window if it belongs there.
    pub(crate) fn admit(&mut self, place: Place, entry: Entry, max: usize, due: &mut Expiries) {
        if self.horizon.is_some_and(|horizon| place > horizon) {
            if let Some(at) = entry.expires {
                due.beyond.note(self.id, at);
            }
            return;
        }
        if let Some(at) = entry.expires {
            due.insert((at, self.id, Spot::Durable(place)));
        }
        self.resident.insert(place, entry);
        if self.resident.len() > max {
            let (place, entry) = self.resident.pop_last().expect("just inserted");
            if let Some(at) = entry.expires {
                due.remove(&(at, self.id, Spot::Durable(place)));
                due.beyond.note(self.id, at);
            }
            let (last, _) = self.resident.last().expect("max is at least 1");
            self.horizon = Some(*last);
        }
    }

    /// A page has shown everything up to `horizon`.
    pub(crate) fn extend(&mut self, horizon: Option<Place>) {
        debug_assert!(self.horizon.is_some(), "a complete window was extended");
        self.horizon = horizon;
    }

    /// The line of the consumers with credit that belong together.
    pub(crate) fn line(&mut self, group: Option<GroupId>) -> &mut VecDeque<ConsumerKey> {
        match (group, &mut self.selecting) {
            (Some(group), Some(selecting)) => selecting.ready(group),
            _ => &mut self.ready,
        }
    }

    /// What is known of it no longer holds: it waits no longer, or is lent no longer.
    pub(crate) fn forget(&mut self, spot: Spot) {
        if let Some(selecting) = &mut self.selecting {
            selecting.forget(spot);
        }
    }

    /// A message waits again where it was before, or where others were already.
    pub(crate) fn waits_again(&mut self, spot: Spot, waiting: Waiting) {
        if let Some(selecting) = &mut self.selecting
            && !mutant::is(Mutant::SelectOnce)
        {
            selecting.waits_again(spot, waiting);
        }
    }

    /// Whether the time of a message that waits is over.
    pub(crate) fn is_over(&self, now: Millis, spot: Spot, waiting: Waiting) -> bool {
        let expires = match (spot, waiting) {
            (Spot::Volatile(place), _) => self.volatile_at(place).and_then(|m| m.expires),
            (_, Waiting::Durable(entry)) => entry.expires,
            (_, Waiting::Volatile) => unreachable!("durable ones have an entry"),
        };
        expires.is_some_and(|at| at <= now)
    }

    /// A durable message no longer waits, or is gone.
    pub(crate) fn release(&mut self, place: Place, due: &mut Expiries) -> Option<Entry> {
        self.forget(Spot::Durable(place));
        let entry = self.resident.remove(place)?;
        if let Some(at) = entry.expires {
            due.remove(&(at, self.id, Spot::Durable(place)));
        }
        Some(entry)
    }

    /// A durable message that waits has changed; one that is not resident needs nothing.
    pub(crate) fn update(&mut self, place: Place, entry: Entry) {
        if let Some(known) = self.resident.get_mut(place) {
            *known = entry;
        }
    }

    pub(crate) fn enqueue(
        &mut self,
        place: VolatilePlace,
        message: Volatile,
        returns: u32,
        due: &mut Expiries,
    ) {
        if let Some(at) = message.expires {
            due.insert((at, self.id, Spot::Volatile(place)));
        }
        self.volatile.insert(place, (message, returns));
    }

    /// As [`Queue::enqueue`], of one that is not handed out yet.
    pub(crate) fn rest_at(
        &mut self,
        place: VolatilePlace,
        message: Volatile,
        returns: u32,
        due: &mut Expiries,
    ) {
        if let Some(at) = message.expires {
            due.insert((at, self.id, Spot::Volatile(place)));
        }
        self.resting.insert(place, (message, returns));
    }

    /// A non-persistent message that is not handed out yet, and how often it came back.
    pub(crate) fn resting_at(&self, place: VolatilePlace) -> Option<(&Volatile, u32)> {
        self.resting.get(&place).map(|(message, returns)| (message, *returns))
    }

    pub(crate) fn dequeue(
        &mut self,
        place: VolatilePlace,
        due: &mut Expiries,
    ) -> Option<(Volatile, u32)> {
        self.forget(Spot::Volatile(place));
        let known = self.volatile.remove(&place).or_else(|| self.resting.remove(&place));
        let (message, returns) = known?;
        if let Some(at) = message.expires {
            due.remove(&(at, self.id, Spot::Volatile(place)));
        }
        Some((message, returns))
    }

    /// The non-persistent messages that wait or rest in a part of the queue, with their returns.
    pub(crate) fn volatile_in(
        &self,
        range: (Bound<VolatilePlace>, Bound<VolatilePlace>),
    ) -> impl Iterator<Item = (VolatilePlace, &Volatile, u32)> {
        let all = in_order(self.volatile.range(range), self.resting.range(range));
        all.map(|(place, (message, returns))| (*place, message, *returns))
    }

    /// The first non-persistent message that waits or rests at a place or after it, and when it was
    /// sent.
    pub(crate) fn volatile_from(&self, place: VolatilePlace) -> Option<(VolatilePlace, Millis)> {
        let first = in_order(self.volatile.range(place..), self.resting.range(place..)).next();
        first.map(|(place, (message, _))| (*place, message.at))
    }

    /// The first durable message in memory that waits at a place or after it.
    pub(crate) fn resident_from(&self, place: Place) -> Option<(Place, &Entry)> {
        self.resident.from(place).map(|(place, entry)| (*place, entry))
    }

    /// The durable messages that wait after a place, so many at most, where all that the queue has
    /// there is in memory.
    pub(crate) fn page_in_memory(&self, after: Place, limit: usize) -> Option<Vec<(Place, Entry)>> {
        let rows: Vec<_> = self.resident.after(after).take(limit).copied().collect();
        (rows.len() == limit || self.horizon.is_none()).then_some(rows)
    }

    /// What it holds in both sequences, lent messages included, as a limit counts it.
    pub(crate) fn held(&self) -> Held {
        let volatile = (self.volatile_len() + self.volatile_on_loan.len()) as u64;
        let Held { messages, bytes } = self.voted;
        Held { messages: messages + self.row.depth + volatile, bytes: bytes + self.bytes() }
    }

    /// Bytes of what is in it.
    pub(crate) fn bytes(&self) -> u64 {
        self.row.bytes + self.volatile_bytes
    }

    /// Non-persistent messages that wait or rest, those first that are missed least: the oldest of
    /// the lowest priority.
    pub(crate) fn least_first(&self) -> impl Iterator<Item = (VolatilePlace, &Volatile)> {
        let of_rank = |rank| {
            let place = |before| VolatilePlace { rank, before, number: before };
            let all = place(0)..=place(u64::MAX);
            in_order(self.volatile.range(all.clone()), self.resting.range(all))
        };
        (0..10).rev().flat_map(of_rank).map(|(place, (message, _))| (*place, message))
    }

    pub(crate) fn volatile_at(&self, place: VolatilePlace) -> Option<&Volatile> {
        self.known_at(place).map(|(message, _)| message)
    }

    /// A non-persistent message that waits, and how often it came back.
    pub(crate) fn known_at(&self, place: VolatilePlace) -> Option<(&Volatile, u32)> {
        let known = self.volatile.get(&place).or_else(|| self.resting.get(&place));
        known.map(|(message, returns)| (message, *returns))
    }

    pub(crate) fn resident_at(&self, place: Place) -> Option<&Entry> {
        self.resident.get(place)
    }

    /// Whether a message sent now would be the next to leave, with nothing before it. Told by
    /// numbers: where groups are looked for, nobody looks again whether something lies beyond the
    /// window.
    pub(crate) fn is_idle(&self) -> bool {
        let taken = self.on_loan.len() as u64 + self.row.held + self.row.delayed;
        self.row.depth <= taken && self.volatile.is_empty()
    }

    /// The next message of both sequences: by rank, then in the order of arrival.
    pub(crate) fn head(&self) -> Head {
        let durable = self.resident.first();
        let volatile = self.volatile.first_key_value().map(|(place, _)| *place);
        match (durable, volatile) {
            (Some((place, entry)), Some(other)) if !other.precedes(*place) => {
                Head::Durable(*place, *entry)
            }
            (_, Some(place)) if self.horizon.is_none_or(|horizon| place.precedes(horizon)) => {
                Head::Volatile(place)
            }
            (Some((place, entry)), None) => Head::Durable(*place, *entry),
            (None, None) if self.horizon.is_none() => Head::Empty,
            _ => Head::Absent,
        }
    }

    /// Up to where messages count as lent when the head is, and `count` may follow at once. Told
    /// by sequence numbers alone: what happens to be in memory must not change a record.
    pub(crate) fn lend_through(&self, head: Place, count: usize) -> u64 {
        (head.seq + count.max(1) as u64 - 1).min(self.row.last_seq)
    }

    /// Marks everything up to `through` as perhaps lent.
    pub(crate) fn mark_lent(&mut self, rank: u8, through: u64) {
        self.row.lent_through.raise(rank, through);
    }

    /// Whether a message may have reached a consumer in an earlier life.
    pub(crate) fn lent_before(&self, place: Place) -> bool {
        place.seq <= self.row.redelivered_through.of(place.rank)
    }
}

/// Both, in the order of places.
fn in_order<'a, T: 'a>(
    one: impl Iterator<Item = (&'a VolatilePlace, &'a T)>,
    other: impl Iterator<Item = (&'a VolatilePlace, &'a T)>,
) -> impl Iterator<Item = (&'a VolatilePlace, &'a T)> {
    let (mut one, mut other) = (one.peekable(), other.peekable());
    std::iter::from_fn(move || match (one.peek(), other.peek()) {
        (Some((first, _)), Some((second, _))) if second < first => other.next(),
        (Some(_), _) => one.next(),
        (None, _) => other.next(),
    })
}

impl VolatilePlace {
    /// Before every non-persistent message of a rank.
    pub(crate) fn first_of(rank: u8) -> Self {
        Self { rank, before: 0, number: 0 }
    }

    /// Whether it is handed out before the durable message at `place`.
    pub(crate) fn precedes(self, place: Place) -> bool {
        (self.rank, self.before) <= (place.rank, place.seq)
    }
}

impl Place {
    /// Before every message.
    pub const START: Self = Self { rank: 0, seq: 0 };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Lsn;
    use bytes::Bytes;

    fn queue(depth: u64) -> Queue {
        let row =
            QueueRow { last_seq: depth, depth, bytes: 10 * depth, ..QueueRow::new("q".into()) };
        Queue::new(QueueId(1), row, Arc::new(Redelivery::none()))
    }

    fn place(rank: u8, seq: u64) -> Place {
        Place { rank, seq }
    }

    fn entry(seq: u64) -> Entry {
        let (birth, at) = (Lsn(seq * 100), Millis(1));
        let (expires, upload, due, note) = (None, None, None, None);
        let (held, shared) = (false, false);
        Entry { birth, size: 10, at, expires, returns: 0, upload, due, note, held, shared }
    }

    fn volatile() -> Volatile {
        Volatile {
            at: Millis(1),
            expires: Some(Millis(9)),
            priority: 4,
            persistent: false,
            published: false,
            with_log: false,
            body: None,
            content: Bytes::new(),
        }
    }

    #[test]
    fn both_sequences_leave_in_the_order_of_arrival() {
        let (mut queue, mut due) = (queue(0), Expiries::default());
        queue.admit(place(5, 1), entry(1), 10, &mut due);
        let between = VolatilePlace { rank: 5, before: 2, number: 1 };
        queue.enqueue(between, volatile(), 0, &mut due);
        queue.admit(place(5, 2), entry(2), 10, &mut due);
        assert_eq!(queue.head(), Head::Durable(place(5, 1), entry(1)));
        queue.release(place(5, 1), &mut due);
        assert_eq!(queue.head(), Head::Volatile(between));
        queue.dequeue(between, &mut due);
        assert_eq!(due.first(), None);
        assert_eq!(queue.head(), Head::Durable(place(5, 2), entry(2)));
        queue.release(place(5, 2), &mut due);
        assert_eq!(queue.head(), Head::Empty);
    }

    #[test]
    fn a_window_that_is_full_keeps_the_head_and_remembers_how_far_it_reaches() {
        let (mut queue, mut due) = (queue(0), Expiries::default());
        for seq in 1..=5 {
            queue.admit(place(5, seq), entry(seq), 3, &mut due);
        }
        assert_eq!((queue.resident_len(), queue.horizon()), (3, Some(place(5, 3))));
        // A more urgent one belongs before the horizon, so it takes the place of the last.
        queue.admit(place(0, 6), entry(6), 3, &mut due);
        assert_eq!(queue.head(), Head::Durable(place(0, 6), entry(6)));
        assert_eq!(queue.horizon(), Some(place(5, 2)));
    }

    #[test]
    fn a_volatile_message_does_not_overtake_what_is_not_in_memory() {
        let (mut queue, mut due) = (queue(3), Expiries::default());
        let late = VolatilePlace { rank: 5, before: 4, number: 1 };
        queue.enqueue(late, volatile(), 0, &mut due);
        assert_eq!(queue.head(), Head::Absent);
        queue.extend(None);
        assert_eq!(queue.head(), Head::Volatile(late));
    }
}
