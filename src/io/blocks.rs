//! Memory that a disk can take from as it is: whole blocks, aligned to blocks.
//!
//! A write past the page cache needs its memory, place and length aligned. Owns that alignment,
//! and the reuse of memory: bytes that were written once are not filled with zeros again.

use std::ops::{Deref, DerefMut};

/// Bytes of a block: what every disk and file system in use takes as a unit, or a multiple of it.
pub const BLOCK: usize = 4096;

/// Bytes in a buffer that begins at a multiple of [`BLOCK`] and grows.
#[derive(Debug, Default)]
pub struct Blocks {
    /// All of it holds values, those after the end included: growing costs nothing then.
    memory: Vec<u8>,
    /// Where in `memory` the alignment begins.
    start: usize,
    len: usize,
}

impl Blocks {
    /// An empty buffer; takes memory only when it grows.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Zeros.
    #[must_use]
    pub fn zeros(len: usize) -> Self {
        let mut blocks = Self::new();
        // Fresh memory is zero.
        blocks.grow(len);
        blocks
    }

    /// An empty buffer that takes so many bytes without being moved. The system gives memory page
    /// by page as it is used.
    #[must_use]
    pub fn with_room(bytes: usize) -> Self {
        let mut blocks = Self::new();
        blocks.move_to_larger(bytes);
        blocks
    }

    /// Adds `more` bytes at the end and gives them to be written: what they hold is left over from
    /// earlier use.
    pub fn grow(&mut self, more: usize) -> &mut [u8] {
        let (old, len) = (self.len, self.len + more);
        if self.start + len > self.memory.len() {
            self.move_to_larger(len);
        }
        self.len = len;
        &mut self.memory[self.start + old..self.start + len]
    }

    /// Fills up with zeros to a whole number of blocks.
    pub fn pad(&mut self) {
        let more = self.len.next_multiple_of(BLOCK) - self.len;
        self.grow(more).fill(0);
    }

    /// Forgets the content and keeps the memory.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    fn move_to_larger(&mut self, len: usize) {
        let room = len.max(2 * self.len).next_multiple_of(BLOCK);
        let mut memory = vec![0; room + BLOCK];
        // It may say that it cannot tell; whoever writes looks again.
        let start = memory.as_ptr().align_offset(BLOCK).min(BLOCK);
        memory[start..start + self.len].copy_from_slice(self);
        (self.memory, self.start) = (memory, start);
    }

    /// Bytes of memory it holds.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.memory.len()
    }

    /// Whether the memory is aligned and holds whole blocks.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.as_ptr().align_offset(BLOCK) == 0 && self.len.is_multiple_of(BLOCK)
    }
}

impl Deref for Blocks {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl DerefMut for Blocks {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_keeps_its_content_and_its_alignment() {
        let mut blocks = Blocks::new();
        let mut plain = Vec::new();
        for step in 1..200 {
            let piece = vec![step as u8; step * 37];
            blocks.grow(piece.len()).copy_from_slice(&piece);
            plain.extend_from_slice(&piece);
            assert_eq!(&blocks[..], plain);
            assert_eq!(blocks.as_ptr().align_offset(BLOCK), 0);
        }
        blocks.pad();
        assert!(blocks.is_whole());
        assert!(blocks[plain.len()..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn memory_is_used_again_and_padding_is_zero_all_the_same() {
        let mut blocks = Blocks::zeros(3 * BLOCK);
        blocks.fill(7);
        let memory = blocks.as_ptr();
        blocks.clear();
        blocks.grow(10).fill(1);
        blocks.pad();
        assert_eq!((blocks.as_ptr(), blocks.len()), (memory, BLOCK));
        assert!(blocks[10..].iter().all(|byte| *byte == 0));
    }
}
