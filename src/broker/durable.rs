//! The durable part of the state: what `apply` of a record changes, in recovery as in live work.
//!
//! Owns the deltas since the index's checkpoint and the live bytes of each segment. Never reads
//! what is volatile, and never needs what is not in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::broker::bodies::Bodies;
use crate::broker::branch::KnownBranches;
use crate::broker::dead::Notes;
use crate::broker::delta::Unshared;
use crate::broker::delta::{Base, Delta, Entry, Place, QueueRow, Scalars};
use crate::broker::names::Names;
use crate::broker::producers::Producers;
use crate::broker::transaction::Transactions;
use crate::broker::upload::Uploads;
use crate::ids::{Lsn, QueueId};
use crate::limits;
use crate::record::Gone;

#[derive(Debug)]
pub(crate) struct Durable {
    pub(super) segment_size: u64,
    /// Changes that no checkpoint has taken.
    pub(crate) delta: Delta,
    /// Changes that a checkpoint is merging into the index.
    pub(crate) frozen: Option<Arc<Delta>>,
    /// The last record of which the index or `frozen` may know.
    pub(super) settled_through: Lsn,
    /// Uploads that no message owns.
    pub(super) uploads: Uploads,
    /// Large bodies of what was published.
    pub(super) bodies: Bodies,
    /// What is remembered of messages that were set apart.
    pub(super) notes: Notes,
    /// Transactions that are not over.
    pub(super) transactions: Transactions,
    /// Branches of global transactions that have voted, and remembered outcomes.
    pub(super) branches: KnownBranches,
    /// Where this life of the broker began.
    pub(super) life_began: Lsn,
    /// Names that are taken.
    pub(super) names: Names,
    /// Producers that count what they send.
    pub(super) producers: Producers,
    /// Bytes that the index counts as needed and that no longer are.
    pub(super) freed: u64,
    /// Live bytes per segment as the index has them.
    pub(super) base_live: BTreeMap<u64, u64>,
    /// What the commit that ends has found that nobody holds any more.
    pub(super) unshared: Unshared,
    freezes: Freezes,
    /// Queues whose rows changed since the last freeze.
    dirty: BTreeSet<QueueId>,
    /// Queues whose rows `frozen` is to take and has not taken yet.
    to_freeze: BTreeSet<QueueId>,
    /// Bytes that messages keep in the log, over all segments.
    pub(super) live_bytes: u64,
    /// Grows with each checkpoint: names the state of the index that the deltas continue.
    pub(crate) generation: u64,
    pub(crate) scalars: Scalars,
}

/// How often changes were frozen in this life, counted from 1; 0 is before any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Freezes(u64);

impl Durable {
    pub(crate) fn new(base: &Base, segment_size: u64) -> Self {
        let (uploads, bodies) = Uploads::new(&base.uploads);
        Self {
            segment_size,
            delta: Delta::default(),
            frozen: None,
            settled_through: base.through,
            uploads,
            bodies,
            notes: Notes::new(&base.notes),
            transactions: Transactions::new(&base.transactions),
            branches: KnownBranches::new(base),
            life_began: Lsn::default(),
            names: Names::new(&base.names),
            producers: Producers::default(),
            freed: 0,
            base_live: base.live.clone(),
            unshared: Unshared::new(),
            freezes: Freezes(1),
            dirty: BTreeSet::new(),
            to_freeze: BTreeSet::new(),
            live_bytes: base.live.values().sum(),
            generation: 0,
            scalars: base.scalars,
        }
    }

    /// The row of a queue is about to change; `row` is what it was. A checkpoint that has begun
    /// takes it as it was. Only the first change after a freeze costs anything: `since` keeps
    /// which.
    pub(crate) fn change(&mut self, queue: QueueId, row: &QueueRow, since: &mut Freezes) {
        if *since != self.freezes {
            *since = self.freezes;
            self.note(queue, row);
        }
    }

    fn note(&mut self, queue: QueueId, row: &QueueRow) {
        self.dirty.insert(queue);
        if !self.to_freeze.is_empty() && self.to_freeze.remove(&queue) {
            self.freeze_row(queue, row);
        }
    }

    fn freeze_row(&mut self, queue: QueueId, row: &QueueRow) {
        let frozen = self.frozen.as_mut().expect("only a checkpoint has rows to take");
        let frozen = Arc::get_mut(frozen).expect("nobody has it before it is whole");
        frozen.queues.insert(queue, Some(row.clone()));
    }

    pub(crate) fn put(&mut self, queue: QueueId, place: Place, entry: Entry) {
        self.delta.entries.insert((queue, place), Some(entry));
    }

    /// A message has left a queue and is not gone: another has it from now on.
    pub(crate) fn left(&mut self, queue: QueueId, place: Place, entry: &Entry) {
        self.forget(queue, place, entry.birth);
    }

    /// A message as the record says that has just changed it; `None` if it has left its queue.
    pub(crate) fn as_stated(&self, queue: QueueId, place: Place) -> Option<Entry> {
        self.delta.entries.get(&(queue, place)).flatten()
    }

    /// The index need not hear of a message that lived and died since it last did.
    fn forget(&mut self, queue: QueueId, place: Place, birth: Lsn) {
        if birth > self.settled_through {
            self.delta.entries.remove(&(queue, place));
        } else {
            self.delta.entries.insert((queue, place), None);
        }
    }

    /// A message is born: its segment has more to keep.
    pub(crate) fn born(&mut self, entry: &Entry) {
        *self.delta.live.entry(entry.birth.0 / self.segment_size).or_default() +=
            i64::from(entry.size);
        self.live_bytes += u64::from(entry.size);
    }

    /// Bytes that messages keep in the log.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// A message is gone.
    pub(crate) fn gone(&mut self, queue: QueueId, gone: &Gone) {
        self.forget(queue, gone.place, gone.birth);
        // The index takes its word on a move back with the entry.
        if !self.delta.moved.is_empty() {
            self.delta.moved.remove(&gone.birth);
        }
        if gone.shared {
            self.unshare(gone.birth, gone.size);
        } else {
            self.dead(gone.birth, gone.size);
        }
    }

    /// A payload is not needed any more.
    pub(super) fn dead(&mut self, birth: Lsn, size: u32) {
        if birth <= self.settled_through {
            self.freed += u64::from(size);
        }
        self.live_bytes = self.live_bytes.saturating_sub(u64::from(size));
        *self.delta.live.entry(birth.0 / self.segment_size).or_default() -= i64::from(size);
    }

    pub(crate) fn queue_gone(&mut self, queue: QueueId, row: &QueueRow) {
        self.note(queue, row);
        self.dirty.remove(&queue);
        self.delta.queues.insert(queue, None);
    }

    /// Takes the changes up to `through` for a checkpoint, in a time that does not depend on how
    /// many there are; live work goes on in a new delta. The rows of queues come by
    /// [`Durable::freeze_rows`].
    pub(crate) fn freeze(&mut self, through: Lsn) {
        assert!(self.frozen.is_none(), "a checkpoint began while another was under way");
        assert!(through >= self.settled_through, "a checkpoint went back");
        let mut delta = std::mem::take(&mut self.delta);
        self.to_freeze = std::mem::take(&mut self.dirty);
        self.producers.freeze();
        delta.scalars = self.scalars;
        delta.segment_size = self.segment_size;
        delta.remembered = self.branches.remembered.clone();
        delta.live.retain(|_, change| *change != 0);
        self.settled_through = through;
        self.freezes.0 += 1;
        self.freed = 0;
        self.frozen = Some(Arc::new(delta));
    }

    /// Takes some more rows as they were when the checkpoint began, and gives its changes when
    /// they are whole.
    pub(crate) fn freeze_rows<'a>(
        &mut self,
        count: usize,
        row: impl Fn(QueueId) -> &'a QueueRow,
    ) -> Option<Arc<Delta>> {
        for _ in 0..count {
            let Some(queue) = self.to_freeze.pop_first() else { break };
            self.freeze_row(queue, row(queue));
        }
        let whole = self.freeze_producers(count) && self.to_freeze.is_empty();
        if whole { self.frozen.clone() } else { None }
    }

    /// The index has taken what was frozen. Gives it back: to drop so much takes its time.
    pub(crate) fn install(&mut self) -> Arc<Delta> {
        let frozen = self.frozen.take().expect("a checkpoint ended that had not begun");
        for (segment, change) in &frozen.live {
            let live = self.base_live.entry(*segment).or_default();
            *live = live.checked_add_signed(*change).expect("a segment lost more than it had");
            if *live == 0 {
                self.base_live.remove(segment);
            }
        }
        self.settle_unshared();
        self.generation += 1;
        frozen
    }

    /// Live bytes per segment, as the index has them.
    pub(crate) fn live_in_index(&self) -> &BTreeMap<u64, u64> {
        &self.base_live
    }

    /// Live bytes per segment, as of now.
    pub(crate) fn live(&self) -> BTreeMap<u64, u64> {
        let mut live = self.base_live.clone();
        let frozen = self.frozen.iter().flat_map(|delta| &delta.live);
        for (segment, change) in frozen.chain(&self.delta.live) {
            let bytes = live.entry(*segment).or_default();
            *bytes = bytes.checked_add_signed(*change).expect("a segment lost more than it had");
        }
        live.retain(|_, bytes| *bytes > 0);
        live
    }

    /// The waiting and lent messages of a queue strictly after a place: what the index holds
    /// there (`rows`, complete up to its last or, if `exhausted`, to the end), overlaid with the
    /// deltas. Calls `visit` in order until it says stop or a bounded number of places has been
    /// looked at, those of messages that are gone included. Returns the last place looked at, or
    /// `None` when everything to the end was.
    pub(crate) fn overlay(
        &self,
        queue: QueueId,
        after: Place,
        rows: &[(Place, Entry)],
        exhausted: bool,
        mut visit: impl FnMut(Place, &Entry) -> bool,
    ) -> Option<Place> {
        use std::ops::Bound::{Excluded, Included};
        let end = if exhausted { Place::END } else { rows.last().map_or(after, |row| row.0) };
        if end <= after {
            return Some(after);
        }
        let range = (Excluded(after), Included(end));
        let nothing = Delta::default();
        let frozen = self.frozen.as_deref().unwrap_or(&nothing);
        let new = self.delta.entries.range(queue, range);
        let old = frozen.entries.range(queue, range);
        let index = rows.iter().map(|(place, entry)| (*place, Some(*entry)));
        for (looked, (place, entry)) in (1..).zip(newest(new, old, index)) {
            let go_on = entry.is_none_or(|entry| visit(place, &entry));
            if !go_on || looked == limits::OVERLAY_PLACES_MAX {
                return Some(place);
            }
        }
        (!exhausted).then_some(end)
    }
}

/// The newest word on each place, in the order of places; the older ones are passed over.
pub(super) fn newest<P: Ord + Copy, T>(
    new: impl Iterator<Item = (P, T)>,
    old: impl Iterator<Item = (P, T)>,
    index: impl Iterator<Item = (P, T)>,
) -> impl Iterator<Item = (P, T)> {
    let (mut new, mut old, mut index) = (new.peekable(), old.peekable(), index.peekable());
    std::iter::from_fn(move || {
        let places = [new.peek(), old.peek(), index.peek()];
        let place = places.iter().flatten().map(|(place, _)| *place).min()?;
        let words = [
            new.next_if(|(p, _)| *p == place),
            old.next_if(|(p, _)| *p == place),
            index.next_if(|(p, _)| *p == place),
        ];
        words.into_iter().flatten().next()
    })
}

impl Place {
    /// After every message.
    pub const END: Self = Self { rank: 9, seq: u64::MAX };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Millis;
    use proptest::prelude::*;

    fn entry(birth: u64) -> Entry {
        let at = Millis(1);
        Entry {
            birth: Lsn(birth),
            size: 1,
            at,
            expires: None,
            returns: 0,
            upload: None,
            due: None,
            note: None,
            held: false,
            shared: false,
        }
    }

    fn gone(seq: u64) -> Gone {
        Gone {
            place: Place { rank: 5, seq },
            birth: Lsn(seq),
            size: 1,
            upload: None,
            due: None,
            note: None,
            shared: false,
        }
    }

    #[test]
    fn a_message_that_lived_and_died_in_one_delta_leaves_no_trace() {
        let mut durable = Durable::new(&Base::default(), 100);
        durable.born(&entry(7));
        durable.put(QueueId(1), Place { rank: 5, seq: 7 }, entry(7));
        durable.gone(QueueId(1), &gone(7));
        assert!(durable.delta.entries.is_empty());
        assert!(durable.live().is_empty());
    }

    proptest! {
        /// Whatever was put and removed in whichever delta, an overlay in pieces of any size
        /// shows the same as one map that saw all changes.
        #[test]
        fn an_overlay_shows_index_and_deltas_as_one(
            changes in proptest::collection::vec((1u64..40, any::<bool>()), 0..120),
            cuts in (0usize..120, 0usize..120),
            page in 1usize..10,
            stop in 1usize..10,
        ) {
            let queue = QueueId(1);
            let mut durable = Durable::new(&Base::default(), 100);
            let mut index: BTreeMap<Place, Entry> = BTreeMap::new();
            let mut model: BTreeMap<Place, Entry> = BTreeMap::new();
            let mut born = 0;
            let row = QueueRow {
                name: "q".into(), last_seq: 0, depth: 0, bytes: 0,
                lent_through: [0; 10].into(), redelivered_through: [0; 10].into(),
                staged: 0, staged_bytes: 0, held: 0, expiring: false, delayed: 0,
                restored_through: 0,
            };
            for (step, (pick, put)) in changes.iter().enumerate() {
                let victim = model.keys().nth(*pick as usize % 40).copied();
                if *put || victim.is_none() {
                    born += 1;
                    // A place is never used twice; an urgent message comes before older ones.
                    let place = Place { rank: (pick % 3) as u8, seq: born };
                    let entry = entry(born);
                    durable.born(&entry);
                    durable.put(queue, place, entry);
                    model.insert(place, entry);
                } else if let Some(place) = victim {
                    let entry = model.remove(&place).unwrap();
                    durable.gone(queue, &Gone::of(place, &entry));
                }
                if step == cuts.0 || (step == cuts.1 && cuts.1 > cuts.0) {
                    if let Some(frozen) = durable.frozen.clone() {
                        for ((_, place), entry) in frozen.entries.iter() {
                            match entry {
                                Some(entry) => { index.insert(place, entry); }
                                None => { index.remove(&place); }
                            }
                        }
                        durable.install();
                    }
                    durable.freeze(Lsn(born));
                    durable.freeze_rows(usize::MAX, |_| &row);
                }
            }
            let (mut seen, mut after) = (Vec::new(), Some(Place::START));
            while let Some(from) = after {
                let rows: Vec<_> = index
                    .range((std::ops::Bound::Excluded(from), std::ops::Bound::Unbounded))
                    .take(page)
                    .map(|(p, e)| (*p, *e))
                    .collect();
                let mut count = 0;
                after = durable.overlay(queue, from, &rows, rows.len() < page, |place, entry| {
                    seen.push((place, *entry));
                    count += 1;
                    count < stop
                });
            }
            prop_assert_eq!(seen, model.into_iter().collect::<Vec<_>>());
        }
    }
}
