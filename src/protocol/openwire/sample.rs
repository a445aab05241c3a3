//! Structures made up from a seed, for tests.

use bytes::Bytes;

use super::{Object, Text};

/// Makes structures up: with the same seed the same.
#[derive(Debug)]
pub struct Sampler {
    state: u64,
    /// Levels that may still stand inside each other.
    depth: usize,
}

impl Sampler {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed, depth: 5 }
    }

    pub(super) fn structure<T: Object>(seed: u64) -> T {
        T::sample_fields(&mut Self::new(seed))
    }

    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ self.state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Yes once in `of`.
    pub(super) fn chance(&mut self, of: u64) -> bool {
        self.next().is_multiple_of(of)
    }

    pub(super) fn up_to(&mut self, most: usize) -> usize {
        (self.next() % (most as u64 + 1)) as usize
    }

    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.up_to(from.len() - 1)]
    }

    /// Any number, small ones and the ends of each width more often than others.
    pub(super) fn number(&mut self) -> i64 {
        let ends = [0, 1, -1, 0xffff, 0x1_0000, 0xffff_ffff, 0x1_0000_0000, i64::MAX, i64::MIN];
        let any = self.next();
        if self.chance(2) { *self.pick(&ends) } else { any.cast_signed() >> (any % 64) }
    }

    pub(super) fn text(&mut self) -> Text {
        let pieces = ["", "ID:host-1:1", "é", "\0", "😀", "queue.name,another", "\u{ffff}"];
        Text::cut(&(0..self.up_to(3)).map(|_| *self.pick(&pieces)).collect::<String>())
    }

    pub(super) fn bytes(&mut self) -> Bytes {
        (0..self.up_to(20)).map(|_| self.next() as u8).collect()
    }

    /// Something one level down, or nothing.
    pub(super) fn deeper<T>(&mut self, sample: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.depth == 0 || self.chance(4) {
            return None;
        }
        self.depth -= 1;
        let found = sample(self);
        self.depth += 1;
        Some(found)
    }
}
