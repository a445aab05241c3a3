//! The entries that a delta changes, queue by queue.
//!
//! What counts with very many queues is how many places of memory a message touches. So a queue is
//! found as [`ByQueue`] finds it, and its few changes lie side by side, in the order of delivery;
//! where there are more they are in chunks (`many`). Always: the walk over all of them is in the
//! order of queues and places.

use std::ops::Bound::{self, Unbounded};
use std::ops::RangeBounds;

use crate::broker::delta::change::Change;
use crate::broker::delta::many::{Many, is_before, within};
use crate::broker::delta::{Entry, Place};
use crate::ids::{ByQueue, QueueId};

/// Changes of one queue that lie side by side at most.
const FEW: usize = 32;

/// The entry as it is now, or `None` where it is gone, of each place that has changed.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    queues: ByQueue<Places>,
    len: usize,
}

#[derive(Clone, Debug)]
enum Places {
    /// In order. Perhaps none: a queue that is used once is used again.
    Few(Vec<Change>),
    Many(Many),
}

/// One of two iterators.
enum Either<A, B> {
    One(A),
    Other(B),
}

impl<T, A: Iterator<Item = T>, B: Iterator<Item = T>> Iterator for Either<A, B> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        match self {
            Self::One(one) => one.next(),
            Self::Other(other) => other.next(),
        }
    }
}

impl Entries {
    /// Reads what the next change of a queue reads.
    #[must_use]
    pub fn look(&self, queue: QueueId) -> u64 {
        let last = match self.queues.get(&queue) {
            Some(Places::Few(few)) => few.last(),
            Some(Places::Many(many)) => many.last(),
            None => None,
        };
        last.map_or(0, |last| last.place().seq)
    }

    /// How many places have changed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What is known of a place; `None` where it has not changed.
    #[must_use]
    pub fn get(&self, (queue, place): &(QueueId, Place)) -> Option<Option<Entry>> {
        match self.queues.get(queue)? {
            Places::Few(few) => find(few, *place).ok().map(|at| few[at].entry()),
            Places::Many(many) => many.get(*place),
        }
    }

    /// Whether a place has changed.
    #[must_use]
    pub fn contains_key(&self, key: &(QueueId, Place)) -> bool {
        self.get(key).is_some()
    }

    /// A place has changed.
    pub fn insert(&mut self, (queue, place): (QueueId, Place), entry: Option<Entry>) {
        let places = self.queues.get_or_insert_with(queue, || Places::Few(Vec::new()));
        self.len += usize::from(places.insert(place, entry));
    }

    /// A place is as it was.
    pub fn remove(&mut self, (queue, place): &(QueueId, Place)) {
        if let Some(places) = self.queues.get_mut(queue) {
            self.len -= usize::from(places.remove(*place));
        }
    }

    /// What is known of the places of one queue, in order.
    pub fn range(
        &self,
        queue: QueueId,
        range: impl RangeBounds<Place>,
    ) -> impl Iterator<Item = (Place, Option<Entry>)> {
        self.queues.get(&queue).into_iter().flat_map(move |places| {
            places.range((range.start_bound().cloned(), range.end_bound().cloned()))
        })
    }

    /// What is known of all places.
    pub fn iter(&self) -> impl Iterator<Item = ((QueueId, Place), Option<Entry>)> {
        self.queues.iter().flat_map(|(queue, places)| {
            let all = places.range((Unbounded, Unbounded));
            all.map(move |(place, entry)| ((queue, place), entry))
        })
    }
}

impl IntoIterator for Entries {
    type Item = Option<Entry>;
    type IntoIter = Box<dyn Iterator<Item = Option<Entry>>>;

    /// All of them, to be dropped one by one.
    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.queues.into_values().flat_map(|places| match places {
            Places::Few(few) => Either::One(few.into_iter().map(|change| change.entry())),
            Places::Many(many) => Either::Other(many.into_values()),
        }))
    }
}

impl FromIterator<((QueueId, Place), Option<Entry>)> for Entries {
    fn from_iter<T: IntoIterator<Item = ((QueueId, Place), Option<Entry>)>>(all: T) -> Self {
        let mut entries = Self::default();
        all.into_iter().for_each(|(key, entry)| entries.insert(key, entry));
        entries
    }
}

impl Places {
    /// True where the place has not changed before.
    fn insert(&mut self, place: Place, entry: Option<Entry>) -> bool {
        let few = match self {
            Self::Few(few) => few,
            Self::Many(many) => return many.insert(place, entry),
        };
        // Nearly all messages come behind all others.
        let at = match few.last() {
            Some(last) if last.place() >= place => find(few, place),
            _ => Err(few.len()),
        };
        match at {
            Ok(at) => few[at] = Change::new(place, entry),
            Err(_) if few.len() == FEW => {
                let mut many = Many::new(std::mem::take(few));
                many.insert(place, entry);
                *self = Self::Many(many);
                return true;
            }
            Err(at) => {
                // A queue in which there is one message takes no room for four.
                if few.capacity() == 0 {
                    few.reserve_exact(1);
                }
                few.insert(at, Change::new(place, entry));
            }
        }
        at.is_err()
    }

    /// True where the place had changed.
    fn remove(&mut self, place: Place) -> bool {
        match self {
            Self::Few(few) => {
                let found = find(few, place);
                found.is_ok_and(|at| {
                    few.remove(at);
                    true
                })
            }
            Self::Many(many) => {
                let removed = many.remove(place);
                if many.is_empty() {
                    *self = Self::Few(Vec::new());
                }
                removed
            }
        }
    }

    fn range(
        &self,
        range: (Bound<Place>, Bound<Place>),
    ) -> impl Iterator<Item = (Place, Option<Entry>)> {
        match self {
            Self::Few(few) => {
                let at = few.partition_point(|change| is_before(change, range.0));
                let some = few[at..].iter();
                Either::One(some.map_while(move |change| within(change, range.1)))
            }
            Self::Many(many) => Either::Other(many.range(range)),
        }
    }
}

fn find(few: &[Change], place: Place) -> Result<usize, usize> {
    few.binary_search_by_key(&place, Change::place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Written;
    use crate::ids::{Lsn, Millis};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::ops::Bound::{Excluded, Included};

    fn entry(birth: u64) -> Entry {
        Entry::born(Written { lsn: Lsn(birth), frame_len: 1 }, Millis(1), None, None)
    }

    proptest! {
        #[test]
        fn few_and_many_are_one_map_in_the_order_of_queues_and_places(
            steps in proptest::collection::vec((0u8..6, 1u64..3, 0u8..2, 0u64..900), 0..2500),
            (after, through) in (0u64..900, 0u64..900),
        ) {
            let (mut entries, mut model) = (Entries::default(), BTreeMap::new());
            for (birth, (what, queue, rank, seq)) in (1..).zip(steps) {
                let key = (QueueId(queue), Place { rank, seq });
                match what {
                    0..=2 => {
                        entries.insert(key, Some(entry(birth)));
                        model.insert(key, Some(entry(birth)));
                    }
                    3 => {
                        entries.insert(key, None);
                        model.insert(key, None);
                    }
                    _ => {
                        entries.remove(&key);
                        model.remove(&key);
                    }
                }
                prop_assert_eq!(entries.get(&key), model.get(&key).copied());
                prop_assert_eq!(entries.len(), model.len());
                prop_assert_eq!(entries.is_empty(), model.is_empty());
            }
            let all: Vec<_> = entries.iter().collect();
            let expected: Vec<_> = model.iter().map(|(key, it)| (*key, *it)).collect();
            prop_assert_eq!(all, expected);
            let place = |rank, seq| Place { rank, seq };
            let bounds = (Excluded(place(0, after)), Included(place(1, through)));
            let some: Vec<_> = entries.range(QueueId(1), bounds).collect();
            let (first, last) = (place(0, after), place(1, through));
            let expected = model.iter().filter(|((queue, at), _)| {
                *queue == QueueId(1) && *at > first && *at <= last
            });
            let expected: Vec<_> = expected.map(|((_, at), it)| (*at, *it)).collect();
            prop_assert_eq!(some, expected);
            prop_assert_eq!(entries.into_iter().count(), model.len());
        }
    }
}
