//! Which numbers have been seen: an exact set, small where they come in order.
//!
//! Numbers lie in blocks of 64. A *span* is either a block of which some have been seen, a bit for
//! each, or a run of blocks of which all have. A producer that counts without a gap needs three
//! spans however far it counts: the block it began in, the run, and the block it is in; a gap costs
//! one or two more, however wide it is. Always: a number in the window is told exactly; where there
//! would be too many spans the lowest goes, and nobody knows any more what was seen up to its end.

use serde::{Deserialize, Serialize};

use crate::limits;

/// Numbers in a block.
const BLOCK: u64 = 64;

/// A set of numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequences {
    /// The first block that is in the window.
    floor: u64,
    /// In order; no two touch that could be one.
    spans: Vec<Span>,
}

/// What is known of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It is in the set.
    Yes,
    /// It is not.
    No,
    /// It is below the window: it may have been in the set.
    Below,
}

/// Some numbers of one block, or all of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Span {
    /// Twice the number of the first block, and one more for a run.
    head: u64,
    /// A bit for each number of the block, from the lowest; or the number of blocks.
    word: u64,
}

impl Span {
    fn some(block: u64, bits: u64) -> Self {
        match bits {
            u64::MAX => Self::all(block, block + 1),
            bits => Self { head: block << 1, word: bits },
        }
    }

    fn all(from: u64, to: u64) -> Self {
        Self { head: from << 1 | 1, word: to - from }
    }

    fn is_run(self) -> bool {
        self.head & 1 == 1
    }

    fn start(self) -> u64 {
        self.head >> 1
    }

    /// The block after the last.
    fn end(self) -> u64 {
        self.start().saturating_add(if self.is_run() { self.word } else { 1 })
    }

    /// The highest number.
    fn last(self) -> u64 {
        let bit = if self.is_run() { BLOCK - 1 } else { u64::from(self.word.ilog2()) };
        (self.end() - 1) * BLOCK + bit
    }
}

impl Sequences {
    /// What is known of a number.
    #[must_use]
    pub fn seen(&self, number: u64) -> Seen {
        let (block, bit) = (number / BLOCK, number % BLOCK);
        if block < self.floor {
            return Seen::Below;
        }
        match self.span_of(block) {
            Some(span) if span.is_run() || span.word >> bit & 1 == 1 => Seen::Yes,
            _ => Seen::No,
        }
    }

    /// The lowest number of which it is known whether it is in the set.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.floor * BLOCK
    }

    /// The highest number in it.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.spans.last().map(|span| span.last())
    }

    /// Adds a number. Below the window that changes nothing.
    pub fn insert(&mut self, number: u64) {
        self.add(Span::some(number / BLOCK, 1 << (number % BLOCK)));
    }

    /// Adds all numbers of another set.
    pub fn extend(&mut self, other: &Self) {
        other.spans.iter().for_each(|span| self.add(*span));
    }

    /// Whether a number can be added so that the window loses nothing.
    #[must_use]
    pub fn has_room(&self, number: u64) -> bool {
        self.spans.len() < limits::PRODUCER_SPANS_MAX || self.span_of(number / BLOCK).is_some()
    }

    /// Bytes of memory beside its own.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.spans.len() * size_of::<Span>()) as u64
    }

    fn span_of(&self, block: u64) -> Option<Span> {
        let at = self.spans.partition_point(|span| span.end() <= block);
        self.spans.get(at).copied().filter(|span| span.start() <= block)
    }

    fn add(&mut self, span: Span) {
        if span.end() <= self.floor {
            return;
        }
        // Those that it touches, and what they are together.
        let from = self.spans.partition_point(|it| it.end() < span.start());
        let to = self.spans.partition_point(|it| it.start() <= span.end());
        let union = unite(&self.spans[from..to], span, self.floor);
        self.spans.splice(from..to, union);
        while self.spans.len() > limits::PRODUCER_SPANS_MAX {
            self.floor = self.spans.remove(0).end();
        }
    }
}

/// What spans in order become with one that touches all of them.
fn unite(touched: &[Span], span: Span, floor: u64) -> Vec<Span> {
    let inside = |it: &&Span| !it.is_run() && it.start() == span.start();
    let span = match touched.iter().find(inside) {
        Some(same) if !span.is_run() => Span::some(span.start(), span.word | same.word),
        _ => span,
    };
    if !span.is_run() {
        let covered = touched.iter().any(|it| it.is_run() && covers(*it, span.start()));
        let others = touched.iter().filter(|it| it.start() != span.start() || it.is_run());
        let mut all: Vec<_> = others.copied().chain((!covered).then_some(span)).collect();
        all.sort_by_key(|it| it.start());
        return all;
    }
    let runs = || touched.iter().filter(|it| it.is_run());
    let start = runs().map(|it| it.start()).chain([span.start().max(floor)]).min();
    let end = runs().map(|it| it.end()).chain([span.end()]).max();
    let run = Span::all(start.expect("at least one"), end.expect("at least one"));
    let outside = |it: &&Span| !it.is_run() && !covers(run, it.start());
    let mut all: Vec<_> = touched.iter().filter(outside).copied().chain([run]).collect();
    all.sort_by_key(|it| it.start());
    all
}

fn covers(run: Span, block: u64) -> bool {
    run.start() <= block && block < run.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// A number in the window is told exactly, and there is a window of some size.
    fn check(set: &Sequences, model: &BTreeSet<u64>) -> Result<(), TestCaseError> {
        let near = model.iter().flat_map(|it| [it.saturating_sub(1), *it, it.saturating_add(1)]);
        for number in near.chain([0, u64::MAX]) {
            let expected = match number {
                below if below < set.floor() => Seen::Below,
                other if model.contains(&other) => Seen::Yes,
                _ => Seen::No,
            };
            prop_assert_eq!(set.seen(number), expected, "{} in {:?}", number, set);
        }
        prop_assert_eq!(set.last(), model.range(set.floor()..).next_back().copied());
        let spans = &set.spans;
        prop_assert!(spans.len() <= limits::PRODUCER_SPANS_MAX);
        for pair in spans.windows(2) {
            prop_assert!(pair[0].end() <= pair[1].start(), "{:?}", set);
            let touch = pair[0].end() == pair[1].start();
            prop_assert!(!(touch && pair[0].is_run() && pair[1].is_run()), "{:?}", set);
        }
        Ok(())
    }

    fn set_of(numbers: impl IntoIterator<Item = u64>) -> Sequences {
        let mut set = Sequences::default();
        numbers.into_iter().for_each(|number| set.insert(number));
        set
    }

    #[test]
    fn an_orderly_producer_needs_three_spans_however_far_it_counts() {
        for begin in [0, 1, 100, u64::MAX - 100_000] {
            let set = set_of((0..100_000).map(|step| begin + step));
            assert!(set.spans.len() <= 3, "{set:?}");
            assert_eq!(set.seen(begin + 5_000), Seen::Yes);
            assert_eq!(set.seen(begin + 100_000), Seen::No);
            assert_eq!(set.floor(), 0);
            assert!(limits::PRODUCER_BYTES + set.bytes() <= 300);
        }
    }

    #[test]
    fn what_comes_in_any_order_makes_the_same_set() {
        let (up, down) = (set_of(7..500), set_of((7..500).rev()));
        let (even, odd): (Vec<u64>, Vec<u64>) = (7..500).partition(|number| number % 2 == 0);
        assert_eq!(up, down);
        let mut both = set_of(even);
        both.extend(&set_of(odd));
        assert_eq!(up, both);
    }

    #[test]
    fn gaps_however_wide_leave_the_window_as_it_is() {
        let far = (0..limits::PRODUCER_SPANS_MAX as u64).map(|gap| gap << 40);
        let mut set = set_of(far);
        assert_eq!((set.floor(), set.seen(1), set.seen(1 << 40)), (0, Seen::No, Seen::Yes));
        assert!(set.has_room((1 << 40) + 1) && !set.has_room(1 << 39));
        set.insert(1 << 39);
        assert_eq!((set.floor(), set.seen(0), set.seen(63)), (64, Seen::Below, Seen::Below));
        assert_eq!((set.seen(64), set.seen(1 << 39)), (Seen::No, Seen::Yes));
        // Below the window nothing is added, not even the part of a run that lies there.
        set.insert(3);
        assert_eq!((set.floor(), set.seen(1 << 39)), (64, Seen::Yes));
        let mut set = Sequences { floor: 1, spans: Vec::new() };
        set.extend(&set_of(0..256));
        assert_eq!((set.seen(3), set.seen(64), set.seen(256)), (Seen::Below, Seen::Yes, Seen::No));
    }

    proptest! {
        #[test]
        fn a_set_says_what_a_plain_one_says(
            steps in proptest::collection::vec((0u64..4000, 1u64..200, 1u64..4), 1..60),
            scale in prop_oneof![Just(1u64), Just(7), Just(64), Just(1 << 50)],
        ) {
            let (mut set, mut model) = (Sequences::default(), BTreeSet::new());
            for (from, count, step) in steps {
                let numbers = (0..count).map(|at| (from + at * step).saturating_mul(scale));
                let numbers: Vec<_> = numbers.collect();
                if count % 2 == 0 {
                    numbers.iter().for_each(|number| set.insert(*number));
                } else {
                    set.extend(&set_of(numbers.iter().copied()));
                    // What the other set has forgotten itself it cannot give.
                    let other = set_of(numbers.iter().copied());
                    let given = numbers.iter().filter(|it| other.seen(**it) == Seen::Yes);
                    model.extend(given.copied().filter(|it| *it >= set.floor()));
                    model.retain(|it| *it >= set.floor());
                    check(&set, &model)?;
                    continue;
                }
                model.extend(numbers);
                model.retain(|it| *it >= set.floor());
                check(&set, &model)?;
            }
        }
    }
}
