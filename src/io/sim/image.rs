//! The bytes of one simulated file, cheap to copy.
//!
//! Always: pages are shared between copies until written (copy on write, in chunks so that a copy
//! costs little for a large file); a page never written is zeros and costs nothing; bytes past the
//! length are zeros.

use std::sync::Arc;

/// Bytes of a page.
pub(super) const PAGE: usize = 4096;
/// Pages of a chunk.
const CHUNK: usize = 64;

type Page = [u8; PAGE];

#[derive(Clone, Debug)]
struct Chunk([Option<Arc<Page>>; CHUNK]);

/// A file's content and length.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    len: u64,
    chunks: Vec<Option<Arc<Chunk>>>,
}

impl Image {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Cuts or extends with zeros.
    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.zero(len, self.len);
            self.chunks.truncate(index(len).div_ceil(PAGE * CHUNK));
        }
        self.len = len;
    }

    /// Fills `buf` from `offset`; what lies past the length reads as zeros.
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) {
        for (number, within, part) in pieces(index(offset), buf.len()) {
            let part = &mut buf[part];
            match self.page(number) {
                Some(page) => part.copy_from_slice(&page[within..within + part.len()]),
                None => part.fill(0),
            }
        }
    }

    /// Writes `bytes` at `offset`, extending where needed.
    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        self.len = self.len.max(offset + bytes.len() as u64);
        for (number, within, part) in pieces(index(offset), bytes.len()) {
            let part = &bytes[part];
            if part.len() == PAGE && zeros(part) {
                self.clear_page(number);
            } else {
                self.page_mut(number)[within..within + part.len()].copy_from_slice(part);
            }
        }
    }

    /// Writes zeros from `from` to `to` without changing the length.
    pub(super) fn zero(&mut self, from: u64, to: u64) {
        for (number, within, part) in pieces(index(from), index(to - from)) {
            if part.len() == PAGE {
                self.clear_page(number);
            } else if self.page(number).is_some() {
                self.page_mut(number)[within..within + part.len()].fill(0);
            }
        }
    }

    /// Takes over the pages that `from..to` touches, whole, from `other`.
    pub(super) fn take_pages(&mut self, other: &Self, from: u64, to: u64) {
        for (number, ..) in pieces(index(from), index(to - from)) {
            match other.page(number) {
                Some(page) => *self.slot(number) = Some(Arc::clone(page)),
                None => self.clear_page(number),
            }
        }
    }

    fn page(&self, number: usize) -> Option<&Arc<Page>> {
        self.chunks.get(number / CHUNK)?.as_ref()?.0[number % CHUNK].as_ref()
    }

    fn slot(&mut self, number: usize) -> &mut Option<Arc<Page>> {
        let chunk = number / CHUNK;
        if self.chunks.len() <= chunk {
            self.chunks.resize(chunk + 1, None);
        }
        let empty = || Arc::new(Chunk([const { None }; CHUNK]));
        let chunk = self.chunks[chunk].get_or_insert_with(empty);
        &mut Arc::make_mut(chunk).0[number % CHUNK]
    }

    fn page_mut(&mut self, number: usize) -> &mut Page {
        Arc::make_mut(self.slot(number).get_or_insert_with(|| Arc::new([0; PAGE])))
    }

    fn clear_page(&mut self, number: usize) {
        if self.page(number).is_some() {
            *self.slot(number) = None;
        }
    }
}

/// Whether all bytes are zero.
pub(super) fn zeros(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| *word == [0; 16]) && rest.iter().all(|byte| *byte == 0)
}

/// Cuts `length` bytes at `offset` into pages: page number, offset in it, range of the bytes.
fn pieces(
    offset: usize,
    length: usize,
) -> impl Iterator<Item = (usize, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let (number, within) = ((offset + done) / PAGE, (offset + done) % PAGE);
        let part = (PAGE - within).min(length - done);
        done += part;
        (part > 0).then(|| (number, within, done - part..done))
    })
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("a simulated file fits into memory")
}
