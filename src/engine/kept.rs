//! The files that hold what is still needed of the log's past: which are dead, and which hold so
//! little that they are worth packing.
//!
//! Owns the account of closed segments and of packs. Pure: told of live bytes, it says what to give
//! back and what to pack, in a way that a store whose traffic has stopped ends with little waste,
//! and that every pack made sets free more than it takes.
//! Leaves to others: when to ask (`checkpoint`), and the doing (`compactor`, `wal`).

use std::collections::{BTreeMap, BTreeSet};

use crate::mutant::{self, Mutant};
use crate::wal::format::PACK_ORDINALS_MAX;
use crate::wal::{PackId, PastPack, PastSegment};

/// What compaction leaves alone: bytes of closed files that nobody needs, as a part of the live
/// bytes and as a part of a segment. Segments on their way through a queue die by themselves.
const WASTE_BUSY: Waste = Waste { of_live: 7, of_segment: 1 };
/// The same while little happens: nothing dies by itself any more, and nobody is disturbed.
const WASTE_RESTING: Waste = Waste { of_live: 20, of_segment: 4 };

/// A file is worth reading where at least this part of it is wasted.
const FILE_WASTE_PART: u64 = 32;
/// A pack must set free at least this part of a segment, and this part of what it writes.
const GAIN_PART: u64 = 16;

/// So many packs of about one size become one, however little they waste: each file costs memory
/// and time at a start. The new one is of the next size, so that no frame is copied often.
const MERGED: u64 = 8;

/// What a pack takes beside its frames: a block of header, a directory of two blocks at least,
/// and an entry in both for every group.
fn pack_bytes(live: u64) -> u64 {
    const BLOCKS: u64 = 3 * 4096;
    BLOCKS + live + live / 64
}

#[derive(Clone, Copy)]
struct Waste {
    of_live: u64,
    of_segment: u64,
}

/// Live bytes of each segment that has any, as the index has them.
pub(crate) type Live = BTreeMap<u64, u64>;

/// Files in which nothing is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dead {
    /// Segments, by ordinal.
    pub segments: Vec<u64>,
    /// Packs.
    pub packs: Vec<PackId>,
}

/// A pack that the index knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// The pack with its bytes; `None` where nothing was left to be packed.
    pub pack: Option<(PackId, u64)>,
    /// The segments whose live frames are read from it.
    pub packed: Vec<u64>,
    /// Segments that could not be packed, and stay as they are in this life.
    pub left: Vec<u64>,
}

#[derive(Debug)]
pub(crate) struct Kept {
    segment_size: u64,
    /// Bytes of the file of each segment that has one of its own.
    segments: BTreeMap<u64, u64>,
    packs: BTreeMap<PackId, PackFile>,
    /// Segments that could not be packed.
    left: BTreeSet<u64>,
}

#[derive(Debug, Default)]
struct PackFile {
    bytes: u64,
    /// The segments with live bytes whose frames it has.
    ordinals: BTreeSet<u64>,
}

/// A file that could be packed.
#[derive(Debug)]
struct Source {
    bytes: u64,
    live: u64,
    ordinals: Vec<u64>,
}

impl Dead {
    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.packs.is_empty()
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.segments.extend(other.segments);
        self.packs.extend(other.packs);
    }
}

impl Kept {
    pub(crate) fn new(segment_size: u64, segments: Vec<PastSegment>, packs: Vec<PastPack>) -> Self {
        let segments = segments.into_iter().map(|past| (past.ordinal, past.bytes)).collect();
        let file = |past: PastPack| {
            let ordinals = past.ordinals.into_iter().collect();
            (past.id, PackFile { bytes: past.bytes, ordinals })
        };
        let packs = packs.into_iter().map(file).collect();
        Self { segment_size, segments, packs, left: BTreeSet::new() }
    }

    /// How many files there are, and their bytes.
    pub(crate) fn files(&self) -> (u64, u64) {
        let packs = self.packs.values().map(|pack| pack.bytes);
        let bytes = self.segments.values().copied().chain(packs);
        (self.segments.len() as u64 + self.packs.len() as u64, bytes.sum())
    }

    /// A segment of this life is full, and all of it is in the index or gone.
    pub(crate) fn close(&mut self, ordinal: u64) {
        self.segments.insert(ordinal, self.segment_size);
    }

    /// Takes out what is dead.
    pub(crate) fn take_dead(&mut self, live: &Live) -> Dead {
        let is_dead =
            |ordinal: &u64| !live.contains_key(ordinal) || mutant::is(Mutant::RetireTheLiving);
        let segments: Vec<u64> = self.segments.keys().copied().filter(is_dead).collect();
        for ordinal in &segments {
            self.segments.remove(ordinal);
        }
        for pack in self.packs.values_mut() {
            pack.ordinals.retain(|ordinal| !is_dead(ordinal));
        }
        Dead { segments, packs: self.take_empty_packs() }
    }

    fn take_empty_packs(&mut self) -> Vec<PackId> {
        let empty = |(id, pack): (&PackId, &PackFile)| pack.ordinals.is_empty().then_some(*id);
        let dead: Vec<PackId> = self.packs.iter().filter_map(empty).collect();
        for id in &dead {
            self.packs.remove(id);
        }
        dead
    }

    /// A pack was made, and the index knows it. Takes out what it replaces.
    pub(crate) fn compacted(&mut self, live: &Live, compacted: Compacted) -> Dead {
        self.left.extend(compacted.left);
        let Some((id, bytes)) = compacted.pack else { return Dead::default() };
        let ordinals: BTreeSet<u64> =
            compacted.packed.into_iter().filter(|ordinal| live.contains_key(ordinal)).collect();
        let mut segments = Vec::new();
        for ordinal in &ordinals {
            if self.segments.remove(ordinal).is_some() {
                segments.push(*ordinal);
            }
            for pack in self.packs.values_mut() {
                pack.ordinals.remove(ordinal);
            }
        }
        self.packs.insert(id, PackFile { bytes, ordinals });
        Dead { segments, packs: self.take_empty_packs() }
    }

    /// The segments whose live frames are worth packing together now, ascending; all of them lie
    /// before the segment `before`. `None` where there is too little to be gained.
    pub(crate) fn plan(&self, live: &Live, before: u64, resting: bool) -> Option<Vec<u64>> {
        self.plan_waste(live, before, resting).or_else(|| self.plan_small())
    }

    /// Packs of about one size, of which there are many.
    fn plan_small(&self) -> Option<Vec<u64>> {
        let mut sizes: BTreeMap<u32, Vec<&PackFile>> = BTreeMap::new();
        let movable = |pack: &&PackFile| pack.ordinals.is_disjoint(&self.left);
        for pack in self.packs.values().filter(movable) {
            let size = (self.segment_size / pack.bytes.max(1)).checked_ilog(MERGED).unwrap_or(0);
            sizes.entry(size).or_default().push(pack);
        }
        // One stands for so many segments and no more.
        sizes.values_mut().for_each(|packs| packs.sort_by_key(|pack| pack.ordinals.len()));
        // Of size 0 are those of which not so many have room in one.
        let many = |packs: &Vec<&PackFile>| {
            let few = packs.get(..MERGED as usize)?.iter();
            let ordinals: Vec<u64> = few.flat_map(|pack| &pack.ordinals).copied().collect();
            (ordinals.len() <= PACK_ORDINALS_MAX).then_some(ordinals)
        };
        let mut ordinals = sizes.range(1..).find_map(|(_, packs)| many(packs))?;
        ordinals.sort_unstable();
        Some(ordinals)
    }

    fn plan_waste(&self, live: &Live, before: u64, resting: bool) -> Option<Vec<u64>> {
        let mut sources: Vec<Source> = self.sources(live, before).collect();
        let waste: u64 = sources.iter().map(Source::waste).sum();
        let Waste { of_live, of_segment } = if resting { WASTE_RESTING } else { WASTE_BUSY };
        let total: u64 = live.values().sum();
        if waste <= total / of_live + self.segment_size / of_segment {
            return None;
        }
        // The sparsest first, the oldest first among equals.
        sources.sort_by_key(|source| {
            let density = u128::from(source.live) * (1 << 32) / u128::from(source.bytes.max(1));
            (density, source.ordinals[0])
        });
        let (mut bytes, mut kept, mut ordinals) = (0, 0, Vec::new());
        for source in sources {
            let dense = source.waste() < source.bytes / FILE_WASTE_PART;
            let full = kept + source.live > self.segment_size
                || ordinals.len() + source.ordinals.len() > PACK_ORDINALS_MAX;
            if !dense && !full && !source.ordinals.iter().any(|it| self.left.contains(it)) {
                bytes += source.bytes;
                kept += source.live;
                ordinals.extend(source.ordinals);
            }
        }
        let written = pack_bytes(kept);
        let gain = bytes.saturating_sub(written);
        ordinals.sort_unstable();
        (gain >= self.segment_size / GAIN_PART && gain >= written / GAIN_PART).then_some(ordinals)
    }

    fn sources(&self, live: &Live, before: u64) -> impl Iterator<Item = Source> {
        let of = |ordinal: &u64| live.get(ordinal).copied();
        let segments = self.segments.range(..before).filter_map(move |(ordinal, bytes)| {
            Some(Source { bytes: *bytes, live: of(ordinal)?, ordinals: vec![*ordinal] })
        });
        let packs = self.packs.values().map(move |pack| {
            let ordinals: Vec<u64> = pack.ordinals.iter().copied().collect();
            let live = ordinals.iter().filter_map(of).sum();
            Source { bytes: pack.bytes, live, ordinals }
        });
        segments.chain(packs)
    }
}

impl Source {
    fn waste(&self) -> u64 {
        self.bytes.saturating_sub(self.live)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEGMENT: u64 = 1 << 20;
    const ID: PackId = PackId { epoch: 1, number: 1 };

    fn kept(segments: u64) -> Kept {
        let mut kept = Kept::new(SEGMENT, Vec::new(), Vec::new());
        (1..=segments).for_each(|ordinal| kept.close(ordinal));
        kept
    }

    fn live(bytes: &[(u64, u64)]) -> Live {
        bytes.iter().copied().collect()
    }

    fn made(number: u64, bytes: u64, packed: &[u64]) -> Compacted {
        let pack = Some((PackId { epoch: 1, number }, bytes));
        Compacted { pack, packed: packed.to_vec(), left: Vec::new() }
    }

    #[test]
    fn one_old_message_pins_a_segment_while_busy_and_none_at_rest() {
        let (kept, live) = (kept(1), live(&[(1, 200)]));
        assert_eq!(kept.plan(&live, 2, false), None);
        assert_eq!(kept.plan(&live, 2, true), Some(vec![1]));
        // What the index has not taken over is left alone.
        assert_eq!(kept.plan(&live, 1, true), None);
    }

    #[test]
    fn dense_segments_are_left_alone_and_the_sparsest_go_first() {
        let dense = SEGMENT - SEGMENT / 50;
        let all: Vec<_> = (1..=9).map(|ordinal| (ordinal, dense)).collect();
        assert_eq!(kept(9).plan(&live(&all), 10, true), None);
        let sparse = [(3, SEGMENT / 2), (5, 100), (7, SEGMENT / 3), (8, SEGMENT / 4)];
        let mut some = live(&all);
        some.extend(sparse);
        // The others fill the pack; the half full one would be too much.
        assert_eq!(kept(9).plan(&some, 10, true), Some(vec![5, 7, 8]));
    }

    #[test]
    fn a_segment_that_cannot_be_packed_is_not_tried_again() {
        let (mut kept, live) = (kept(2), live(&[(1, 100), (2, 100)]));
        let left = Compacted { pack: None, packed: Vec::new(), left: vec![1] };
        assert_eq!(kept.compacted(&live, left), Dead::default());
        assert_eq!(kept.plan(&live, 3, true), Some(vec![2]));
    }

    #[test]
    fn what_a_pack_replaces_goes_and_the_pack_goes_with_its_last_message() {
        let (mut kept, mut live) = (kept(3), live(&[(1, 100), (2, 100), (3, 100)]));
        let dead = kept.compacted(&live, made(1, 16_384, &[1, 2]));
        assert_eq!(dead, Dead { segments: vec![1, 2], packs: vec![] });
        live.remove(&1);
        assert_eq!(kept.take_dead(&live), Dead::default());
        let dead = kept.compacted(&live, made(2, 16_384, &[2, 3]));
        assert_eq!(dead, Dead { segments: vec![3], packs: vec![ID] });
        live.clear();
        let last = PackId { epoch: 1, number: 2 };
        assert_eq!(kept.take_dead(&live), Dead { segments: vec![], packs: vec![last] });
    }

    #[test]
    fn a_pack_whose_messages_died_while_it_was_made_goes_at_once() {
        let mut kept = kept(1);
        assert_eq!(kept.take_dead(&Live::new()), Dead { segments: vec![1], packs: vec![] });
        let dead = kept.compacted(&Live::new(), made(1, 16_384, &[1]));
        assert_eq!(dead, Dead { segments: vec![], packs: vec![ID] });
    }

    #[test]
    fn a_store_under_constant_load_gathers_few_packs_and_copies_no_frame_often() {
        const SEGMENT: u64 = 64 << 20;
        let (mut kept, mut live) = (Kept::new(SEGMENT, Vec::new(), Vec::new()), Live::new());
        let (mut written, mut number) = (0, 0);
        for ordinal in 1..=2000 {
            kept.close(ordinal);
            live.insert(ordinal, SEGMENT / 100);
            while let Some(plan) = kept.plan(&live, ordinal, false) {
                let sum: u64 = plan.iter().map(|ordinal| live[ordinal]).sum();
                assert!(sum <= SEGMENT);
                written += sum;
                number += 1;
                kept.compacted(&live, made(number, pack_bytes(sum), &plan));
            }
            let total: u64 = live.values().sum();
            let packs = kept.packs.len() as u64;
            assert!(packs <= 3 * MERGED + MERGED * total / SEGMENT, "{packs} for {total}");
        }
        let total: u64 = live.values().sum();
        assert!(written < 5 * total, "{written} bytes written for {total}");
    }

    proptest! {
        /// Carried out again and again, plans come to an end, and then little is wasted.
        #[test]
        fn plans_come_to_an_end_with_little_waste(
            bytes in proptest::collection::vec((0u64..=SEGMENT, 1u64..50), 1..300),
        ) {
            let mut kept = kept(bytes.len() as u64);
            let live: Live = (1..).zip(bytes.iter().map(|(b, part)| b / part + 1)).collect();
            let mut disk: BTreeMap<PackId, u64> = BTreeMap::new();
            let (mut number, mut segments) = (0, bytes.len() as u64);
            while let Some(plan) = kept.plan(&live, u64::MAX, true) {
                number += 1;
                prop_assert!(number < 2 * bytes.len() as u64, "no end");
                prop_assert!(plan.len() <= PACK_ORDINALS_MAX);
                let sum: u64 = plan.iter().map(|ordinal| live[ordinal]).sum();
                prop_assert!(sum <= SEGMENT + 1, "{sum} bytes in one pack");
                disk.insert(PackId { epoch: 1, number }, pack_bytes(sum));
                let dead = kept.compacted(&live, made(number, pack_bytes(sum), &plan));
                segments -= dead.segments.len() as u64;
                disk.retain(|id, _| !dead.packs.contains(id));
            }
            let total: u64 = live.values().sum();
            let taken = segments * SEGMENT + disk.values().sum::<u64>();
            prop_assert!(taken <= total + total / 8 + SEGMENT, "{taken} for {total}");
        }
    }
}
