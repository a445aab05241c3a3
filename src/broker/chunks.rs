//! A queue of anything that grows and shrinks without ever being moved as a whole.
//!
//! A ring that doubles copies everything it holds into new memory: milliseconds for a hundred
//! thousand deliveries, in the middle of a turn. Here only the list of chunks is copied, which is
//! a thousandth of it. Always: no chunk is empty.

use std::collections::VecDeque;

/// Places of one chunk.
const CHUNK: usize = 1024;

#[derive(Debug)]
pub(crate) struct Chunks<T> {
    chunks: VecDeque<VecDeque<T>>,
    len: usize,
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self { chunks: VecDeque::new(), len: 0 }
    }
}

impl<T> Chunks<T> {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn push_back(&mut self, item: T) {
        self.len += 1;
        match self.chunks.back_mut() {
            Some(last) if last.len() < CHUNK => last.push_back(item),
            _ => self.chunks.push_back([item].into()),
        }
    }

    pub(crate) fn pop_front(&mut self) -> Option<T> {
        let first = self.chunks.front_mut()?;
        let item = first.pop_front();
        self.len -= 1;
        if first.is_empty() {
            self.chunks.pop_front();
        }
        item
    }

    pub(crate) fn front(&self) -> Option<&T> {
        self.chunks.front()?.front()
    }

    pub(crate) fn front_mut(&mut self) -> Option<&mut T> {
        self.chunks.front_mut()?.front_mut()
    }

    pub(crate) fn back(&self) -> Option<&T> {
        self.chunks.back()?.back()
    }

    /// The one so many behind the first. Takes a step for each chunk before it.
    pub(crate) fn get_mut(&mut self, mut at: usize) -> Option<&mut T> {
        for chunk in &mut self.chunks {
            if at < chunk.len() {
                return chunk.get_mut(at);
            }
            at -= chunk.len();
        }
        None
    }

    /// Moves all of `other` behind these.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.len += other.len;
        self.chunks.append(&mut other.chunks);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.chunks.iter_mut().flatten()
    }

    /// How many chunks there are.
    pub(crate) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Keeps what `keeps` says of one chunk, counted from the front. Those behind it come one
    /// nearer where nothing is left of it.
    pub(crate) fn retain_in(&mut self, chunk: usize, keeps: impl Fn(&T) -> bool) {
        let Some(items) = self.chunks.get_mut(chunk) else { return };
        let before = items.len();
        items.retain(keeps);
        self.len -= before - items.len();
        if items.is_empty() {
            self.chunks.remove(chunk);
        }
    }

    /// Drops the first chunk; false when nothing is left.
    pub(crate) fn drop_some(&mut self) -> bool {
        self.len -= self.chunks.pop_front().map_or(0, |chunk| chunk.len());
        !self.chunks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_in_order_however_much_it_is() {
        let mut chunks = Chunks::default();
        let (mut next, mut expected) = (0, 0);
        for round in 0..10 {
            for _ in 0..1500 {
                chunks.push_back(next);
                next += 1;
            }
            assert_eq!(chunks.len(), next - expected);
            assert_eq!(chunks.back(), Some(&(next - 1)));
            for _ in 0..150 * round {
                assert_eq!(chunks.front(), Some(&expected));
                assert_eq!(chunks.pop_front(), Some(expected));
                expected += 1;
            }
        }
        for chunk in (0..chunks.chunks()).rev() {
            chunks.retain_in(chunk, |number| number % 3 == 0);
        }
        let left: Vec<_> = chunks.iter_mut().map(|number| *number).collect();
        assert!(left.iter().copied().eq((expected..next).filter(|number| number % 3 == 0)));
        assert_eq!(chunks.len(), left.len());
        for at in [0, 1, 700, 2000, left.len() - 1, left.len()] {
            assert_eq!(chunks.get_mut(at).copied(), left.get(at).copied());
        }
        *chunks.front_mut().unwrap() += 1;
        let mut first = left[0] + 1;
        let mut others = Chunks::default();
        (0..2000).for_each(|number| others.push_back(number));
        others.append(chunks);
        assert_eq!(others.len(), 2000 + left.len());
        let after = others.iter().skip(2000).copied();
        assert!(
            after.skip(1).eq(left.into_iter().skip(1)) && others.get_mut(2000) == Some(&mut first)
        );
        let mut chunks = others;
        while chunks.drop_some() {}
        assert!(chunks.is_empty());
        assert_eq!(chunks.pop_front(), None);
    }
}
