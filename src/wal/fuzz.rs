//! A door for fuzzers: hostile bytes where a log should be.
//!
//! Random bytes alone would never pass a checksum, so the input is also read as a script that
//! writes batches and frames with good checksums and wrong everything else.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::ids::Lsn;
use crate::io::Storage;
use crate::io::sim::SimDisk;
use crate::wal::format::{
    BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, Identity, SEGMENT_BYTES_MIN, Seal, SegmentHeader,
    digest_next, frame_bytes, frame_encode,
};
use crate::wal::{Item, Options, ReplayPoint, claim, names, survey};

const STORE: u128 = 0x5107_e000;

/// Recovers from, surveys and reads a store whose last segment is made of `data`. Never panics,
/// whatever `data` is; what it finds is not judged.
pub fn fuzz_recovery(data: &[u8]) {
    let disk = SimDisk::new();
    let mut input = Input { data };
    let from = input.replay_point();
    let segment_size = SEGMENT_BYTES_MIN;
    let options = Options::small(segment_size);
    disk.write_file(names::IDENTITY, &Identity { store: STORE, segment_size }.encode());
    let seal = Seal { store: STORE, epoch: 1, first_ordinal: 1, segments: Vec::new() };
    let (bytes, sum) = seal.encode();
    disk.write_file(&names::claim(1), &[]);
    disk.write_file(&names::seal(1), &bytes);
    let mut previous = sum;
    for ordinal in 1..=2 {
        let header = SegmentHeader { store: STORE, epoch: 1, ordinal, segment_size, nonce: 7 };
        let content = input.segment(&header, &mut previous);
        disk.write_file(&names::segment(1, ordinal), &content);
    }
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let visit = &mut |_: Item<'_>| ControlFlow::Continue(());
    let _ = survey(&storage, None, &mut |_| {}, visit);
    let Ok(claim) = claim(storage, options, 9) else { return };
    let Ok(mut recovery) = claim.recover(from) else { return };
    let mut found = Vec::new();
    loop {
        match recovery.next() {
            Ok(Some(record)) => found.push(record),
            Ok(None) => break,
            Err(_) => return,
        }
    }
    let Ok(opened) = recovery.finish(&BTreeMap::new(), &BTreeMap::new()) else { return };
    for record in found {
        let _ = opened.reader.read(record.lsn, record.frame_len);
    }
}

/// The fuzzer's bytes, taken from the front; zeros when they are used up.
struct Input<'a> {
    data: &'a [u8],
}

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.data.split_first() else { return 0 };
        self.data = rest;
        *first
    }

    fn short(&mut self) -> u64 {
        u64::from(u16::from_le_bytes([self.byte(), self.byte()]))
    }

    /// A number that is mostly `right`.
    fn near(&mut self, right: u64) -> u64 {
        match self.byte() {
            0..=199 => right,
            200..=229 => right.wrapping_add(self.short()),
            230..=249 => right.wrapping_sub(self.short()),
            _ => u64::MAX - self.short(),
        }
    }

    fn replay_point(&mut self) -> Option<ReplayPoint> {
        let first = SEGMENT_BYTES_MIN + BLOCK_BYTES as u64;
        (self.byte() > 128).then(|| {
            let batch = self.near(first);
            let through = self.near(batch.wrapping_add(BATCH_HEADER_BYTES as u64));
            ReplayPoint { batch: Lsn(batch), through: Lsn(through) }
        })
    }

    fn segment(&mut self, header: &SegmentHeader, previous: &mut u32) -> Vec<u8> {
        let mut content = header.encode().to_vec();
        content.resize(header.segment_size as usize, 0);
        let mut at = BLOCK_BYTES;
        while at < content.len() && !self.data.is_empty() {
            at = if self.byte() < 40 {
                self.noise(&mut content, at)
            } else {
                self.batch(header, previous, &mut content, at)
            };
        }
        content
    }

    fn noise(&mut self, content: &mut [u8], at: usize) -> usize {
        let (length, fill) = (self.short() as usize % BLOCK_BYTES, self.byte());
        let end = (at + length).min(content.len());
        content[at..end].fill(fill);
        at + BLOCK_BYTES
    }

    fn batch(
        &mut self,
        segment: &SegmentHeader,
        previous: &mut u32,
        content: &mut [u8],
        at: usize,
    ) -> usize {
        let seed = segment.seed();
        let lsn = segment.first_lsn().0 + at as u64;
        let mut batch = vec![0; BATCH_HEADER_BYTES];
        let mut digest = seed;
        let count = self.byte() % 5;
        for _ in 0..count {
            let own = self.near(lsn + batch.len() as u64);
            let (record, payload) = (vec![1; self.byte().into()], vec![2; self.byte().into()]);
            let kind = u16::from(self.byte() != 0);
            let at = batch.len();
            batch.resize(at + frame_bytes(record.len(), payload.len()), 0);
            let sum = frame_encode(seed, Lsn(own), kind, &record, &payload, &mut batch[at..]);
            digest = digest_next(digest, sum);
        }
        batch.resize(batch.len().next_multiple_of(BLOCK_BYTES), 0);
        let header = BatchHeader {
            count: self.near(count.into()) as u32,
            epoch: self.near(segment.epoch),
            lsn: Lsn(self.near(lsn)),
            durable: Lsn(self.near(lsn)),
            previous_end: Lsn(match at {
                BLOCK_BYTES => self.near(0),
                _ => self.near(lsn),
            }),
            length: self.near(batch.len() as u64) as u32,
            digest: self.near(digest.into()) as u32,
            previous: self.near((*previous).into()) as u32,
        };
        *previous = header.encode(seed, &mut batch);
        if self.byte() > 230 {
            let hit = self.short() as usize % batch.len();
            batch[hit] ^= 1 << (self.byte() % 8);
        }
        let end = (at + batch.len()).min(content.len());
        content[at..end].copy_from_slice(&batch[..end - at]);
        at + batch.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_logs_are_refused_or_read_and_never_panic() {
        let mut state = 1u64;
        for _ in 0..2000 {
            let data: Vec<u8> = (0..200)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 56) as u8
                })
                .collect();
            fuzz_recovery(&data);
        }
        fuzz_recovery(&[]);
    }
}
