//! What is held, by what must be durable first, then in the order of arrival.
//!
//! Nearly all of it comes in that order, as the log grows; only what waits for less than what came
//! before it (a non-persistent message, a barrier) has to be sorted in.

use std::collections::BTreeMap;

use crate::broker::chunks::Chunks;
use crate::ids::Lsn;

#[derive(Debug)]
pub(crate) struct Line<T> {
    in_order: Chunks<(Lsn, u64, T)>,
    sorted: BTreeMap<(Lsn, u64), T>,
    arrivals: u64,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self { in_order: Chunks::default(), sorted: BTreeMap::new(), arrivals: 0 }
    }
}

impl<T> Line<T> {
    pub(crate) fn push(&mut self, need: Lsn, held: T) {
        self.arrivals += 1;
        if self.in_order.back().is_none_or(|last| last.0 <= need) {
            self.in_order.push_back((need, self.arrivals, held));
        } else {
            self.sorted.insert((need, self.arrivals), held);
        }
    }

    /// Whether there is one that needs more than `durable` (exclusive).
    pub(crate) fn awaits(&self, durable: Lsn) -> bool {
        let last = self.in_order.back().map(|(need, ..)| *need);
        let other = self.sorted.last_key_value().map(|((need, _), _)| *need);
        last.into_iter().chain(other).any(|need| need > durable)
    }

    /// Whether there is one that needs no more than `durable` (exclusive).
    pub(crate) fn has(&self, durable: Lsn) -> bool {
        let first = self.in_order.front().map(|(need, ..)| *need);
        let other = self.sorted.first_key_value().map(|((need, _), _)| *need);
        first.into_iter().chain(other).any(|need| need <= durable)
    }

    /// Takes the first, if it needs no more than `durable` (exclusive).
    pub(crate) fn pop(&mut self, durable: Lsn) -> Option<T> {
        let first = self.in_order.front().map(|(need, arrival, ..)| (*need, *arrival));
        let other = self.sorted.first_key_value().map(|(key, _)| *key);
        let next = [first, other].into_iter().flatten().min()?;
        if next.0 > durable {
            return None;
        }
        if first == Some(next) {
            return self.in_order.pop_front().map(|(_, _, held)| held);
        }
        self.sorted.pop_first().map(|(_, held)| held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_held_leaves_by_need_and_then_by_arrival(
            needs in proptest::collection::vec(0u64..8, 0..60),
            durable in 0u64..9,
        ) {
            let mut line = Line::default();
            let mut expected = Vec::new();
            for (number, need) in (0..).zip(needs) {
                line.push(Lsn(need), number);
                if need <= durable {
                    expected.push((need, number));
                }
            }
            expected.sort_unstable();
            let left: Vec<_> = std::iter::from_fn(|| line.pop(Lsn(durable))).collect();
            let expected: Vec<_> = expected.into_iter().map(|(_, number)| number).collect();
            prop_assert_eq!(left, expected);
        }
    }
}
