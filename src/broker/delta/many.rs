//! The many changes of one queue, in the order of delivery.
//!
//! A sorted sequence in chunks, because changes are made and dropped by the hundred thousand: a
//! tree with a dozen to a node would be that many more pieces of memory, half of each empty, and an
//! allocator sorts what comes back from it in the middle of a turn. Always: the key of a chunk is
//! no larger than its places and larger than all places before it; the first begins before
//! everything; no other is empty.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound::{self, Excluded, Included, Unbounded};

use crate::broker::delta::change::Change;
use crate::broker::delta::{Entry, Place};

/// Changes in one chunk at most: to make room in the middle of it is a matter of a microsecond.
const CHUNK: usize = 128;

#[derive(Clone, Debug)]
pub(super) struct Many {
    /// Rings: acknowledged messages go from the front.
    chunks: BTreeMap<Place, VecDeque<Change>>,
}

impl Many {
    /// Of changes that are in order.
    pub(super) fn new(few: Vec<Change>) -> Self {
        Self { chunks: BTreeMap::from([(Place::START, few.into())]) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.len() == 1 && self.chunks.values().all(VecDeque::is_empty)
    }

    pub(super) fn last(&self) -> Option<&Change> {
        self.chunks.last_key_value()?.1.back()
    }

    fn chunk(&self, place: Place) -> &VecDeque<Change> {
        let found = self.chunks.range(..=place).next_back();
        found.expect("the first chunk begins before everything").1
    }

    fn chunk_mut(&mut self, place: Place) -> (Place, &mut VecDeque<Change>) {
        let found = self.chunks.range_mut(..=place).next_back();
        let (key, chunk) = found.expect("the first chunk begins before everything");
        (*key, chunk)
    }

    pub(super) fn get(&self, place: Place) -> Option<Option<Entry>> {
        let chunk = self.chunk(place);
        find(chunk, place).ok().map(|at| chunk[at].entry())
    }

    /// True where the place has not changed before.
    pub(super) fn insert(&mut self, place: Place, entry: Option<Entry>) -> bool {
        let (_, chunk) = self.chunk_mut(place);
        let at = match chunk.back() {
            // Nearly all messages come behind all others.
            Some(last) if last.place() < place => chunk.len(),
            _ => match find(chunk, place) {
                Ok(at) => {
                    chunk[at] = Change::new(place, entry);
                    return false;
                }
                Err(at) => at,
            },
        };
        if chunk.len() < CHUNK {
            chunk.insert(at, Change::new(place, entry));
            return true;
        }
        // What comes behind a full chunk begins the next one, so that chunks filled in order stay
        // full; what belongs between others parts it in the middle.
        let mut next = VecDeque::with_capacity(CHUNK);
        if at == CHUNK {
            next.push_back(Change::new(place, entry));
        } else {
            next.extend(chunk.drain(CHUNK / 2..));
            match at.checked_sub(CHUNK / 2) {
                Some(at) if at > 0 => next.insert(at, Change::new(place, entry)),
                _ => chunk.insert(at, Change::new(place, entry)),
            }
        }
        self.chunks.insert(next[0].place(), next);
        true
    }

    /// True where the place had changed.
    pub(super) fn remove(&mut self, place: Place) -> bool {
        let (key, chunk) = self.chunk_mut(place);
        let Ok(at) = find(chunk, place) else { return false };
        chunk.remove(at);
        if !chunk.is_empty() {
            return true;
        }
        if key == Place::START {
            *chunk = VecDeque::new();
        } else {
            self.chunks.remove(&key);
        }
        true
    }

    pub(super) fn range(
        &self,
        (from, to): (Bound<Place>, Bound<Place>),
    ) -> impl Iterator<Item = (Place, Option<Entry>)> {
        let first = match from {
            Included(place) | Excluded(place) => place,
            Unbounded => Place::START,
        };
        let chunk = self.chunks.range(..=first).next_back().map_or(Place::START, |(key, _)| *key);
        let chunks = self.chunks.range(chunk..).map(|(_, chunk)| chunk);
        let some = chunks.flat_map(move |chunk| {
            let at = chunk.partition_point(|change| is_before(change, from));
            chunk.range(at..)
        });
        some.map_while(move |change| within(change, to))
    }

    pub(super) fn into_values(self) -> impl Iterator<Item = Option<Entry>> {
        self.chunks.into_values().flatten().map(|change| change.entry())
    }
}

fn find(chunk: &VecDeque<Change>, place: Place) -> Result<usize, usize> {
    chunk.binary_search_by_key(&place, Change::place)
}

/// Whether a change comes before all that begins at a bound.
pub(super) fn is_before(change: &Change, from: Bound<Place>) -> bool {
    match from {
        Included(from) => change.place() < from,
        Excluded(from) => change.place() <= from,
        Unbounded => false,
    }
}

/// A change, if its place is not behind a bound.
pub(super) fn within(change: &Change, to: Bound<Place>) -> Option<(Place, Option<Entry>)> {
    let place = change.place();
    let is_within = match to {
        Included(to) => place <= to,
        Excluded(to) => place < to,
        Unbounded => true,
    };
    is_within.then(|| (place, change.entry()))
}
