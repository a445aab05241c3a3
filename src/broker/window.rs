//! The durable messages of a queue that wait in memory, in the order of their places.
//!
//! One piece of memory with room at both ends, because nearly everything happens there: messages
//! arrive at the end and are lent and come back at the front. What belongs between others moves
//! the shorter side. Leaves how many there may be, and what they are a window of, to `queue`.

use std::collections::VecDeque;

use crate::broker::delta::{Entry, Place};

/// An empty window with room for more than so many gives it back.
const ROOM_KEPT: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Window(VecDeque<(Place, Entry)>);

impl Window {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn first(&self) -> Option<&(Place, Entry)> {
        self.0.front()
    }

    pub(super) fn last(&self) -> Option<&(Place, Entry)> {
        self.0.back()
    }

    /// Puts an entry into a place, whether or not another is there.
    pub(super) fn insert(&mut self, place: Place, entry: Entry) {
        if self.last().is_none_or(|(last, _)| *last < place) {
            return self.0.push_back((place, entry));
        }
        match self.find(place) {
            Ok(at) => self.0[at].1 = entry,
            Err(at) => self.0.insert(at, (place, entry)),
        }
    }

    pub(super) fn get(&self, place: Place) -> Option<&Entry> {
        self.find(place).ok().map(|at| &self.0[at].1)
    }

    pub(super) fn get_mut(&mut self, place: Place) -> Option<&mut Entry> {
        self.find(place).ok().map(|at| &mut self.0[at].1)
    }

    /// The first at a place or after it.
    pub(super) fn from(&self, place: Place) -> Option<&(Place, Entry)> {
        self.0.get(self.find(place).unwrap_or_else(|at| at))
    }

    /// Those after a place.
    pub(super) fn after(&self, place: Place) -> impl Iterator<Item = &(Place, Entry)> {
        let at = self.find(place).map_or_else(|at| at, |at| at + 1);
        self.0.range(at..)
    }

    pub(super) fn remove(&mut self, place: Place) -> Option<Entry> {
        let at = self.find(place).ok()?;
        let (_, entry) = self.0.remove(at)?;
        self.settle();
        Some(entry)
    }

    pub(super) fn pop_last(&mut self) -> Option<(Place, Entry)> {
        let last = self.0.pop_back();
        self.settle();
        last
    }

    fn find(&self, place: Place) -> Result<usize, usize> {
        match self.first() {
            Some((first, _)) if *first == place => Ok(0),
            _ => self.0.binary_search_by_key(&place, |(place, _)| *place),
        }
    }

    /// A queue that was long once must not cost its window for ever.
    fn settle(&mut self) {
        if self.0.is_empty() && self.0.capacity() > ROOM_KEPT {
            self.0 = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Lsn, Millis};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::ops::Bound::{Excluded, Unbounded};

    fn entry(birth: u64) -> Entry {
        let (birth, at) = (Lsn(birth), Millis(1));
        Entry {
            birth,
            size: 10,
            at,
            expires: None,
            returns: 0,
            upload: None,
            held: false,
            shared: false,
            due: None,
            note: None,
        }
    }

    proptest! {
        #[test]
        fn a_window_is_a_map_in_the_order_of_places(
            steps in proptest::collection::vec((0u8..4, 0u8..3, 0u64..20), 0..200),
        ) {
            let (mut window, mut model) = (Window::default(), BTreeMap::new());
            for (birth, (what, rank, seq)) in (1..).zip(steps) {
                let place = Place { rank, seq };
                match what {
                    0 | 1 => {
                        window.insert(place, entry(birth));
                        model.insert(place, entry(birth));
                    }
                    2 => prop_assert_eq!(window.remove(place), model.remove(&place)),
                    _ => prop_assert_eq!(window.pop_last(), model.pop_last()),
                }
                prop_assert_eq!(window.get(place), model.get(&place));
                prop_assert_eq!(window.get_mut(place), model.get_mut(&place));
                let from = model.range(place..).next().map(|(place, entry)| (*place, *entry));
                prop_assert_eq!(window.from(place).copied(), from);
                let after = model.range((Excluded(place), Unbounded));
                let after = after.map(|(place, entry)| (*place, *entry));
                prop_assert!(window.after(place).copied().eq(after));
                let first = model.first_key_value().map(|(place, entry)| (*place, *entry));
                prop_assert_eq!(window.first().copied(), first);
                let last = model.last_key_value().map(|(place, entry)| (*place, *entry));
                prop_assert_eq!(window.last().copied(), last);
                prop_assert_eq!(window.len(), model.len());
            }
        }
    }

    #[test]
    fn a_window_that_was_long_and_is_empty_keeps_no_room() {
        let mut window = Window::default();
        (1..=1000).for_each(|seq| window.insert(Place { rank: 5, seq }, entry(seq)));
        (1..=1000).for_each(|seq| assert!(window.remove(Place { rank: 5, seq }).is_some()));
        assert!(window.0.capacity() <= ROOM_KEPT, "room for {}", window.0.capacity());
    }
}
