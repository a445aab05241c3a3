//! The files that hold what is still needed of the log's past: which are dead, and which hold so
//! little that they are worth packing.
//!
//! Owns the account of closed segments and of packs. Pure: told of live bytes, it says what to give
//! back and what to pack, in a way that a store whose traffic has stopped ends with little waste,
//! and that every pack made sets free more than it takes. There may be tens of thousands of files,
//! and the engine waits: accounts are walked side by side, and nothing is looked up file by file.
//! Leaves to others: when to ask (`checkpoint`), and the doing (`compactor`, `wal`).

use std::collections::{BTreeMap, BTreeSet, HashMap};

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

/// So many files are compared with each other at most, the sparsest of all.
const CANDIDATES: usize = 4 * PACK_ORDINALS_MAX;

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
    /// The pack that has the frames of each of the packs' segments.
    pack_of: BTreeMap<u64, PackId>,
    /// Segments that could not be packed.
    left: BTreeSet<u64>,
}

#[derive(Debug, Default)]
struct PackFile {
    bytes: u64,
    /// The segments with live bytes whose frames it has.
    ordinals: BTreeSet<u64>,
}

#[derive(Debug)]
enum File {
    Segment(u64),
    Pack(PackId),
}

/// A file that could be packed.
#[derive(Debug)]
struct Source {
    file: File,
    /// The first of its segments.
    first: u64,
    bytes: u64,
    live: u64,
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
        let packs: BTreeMap<PackId, PackFile> = packs.into_iter().map(file).collect();
        let all = packs.iter().flat_map(|(id, pack)| pack.ordinals.iter().map(|it| (*it, *id)));
        let pack_of = all.collect();
        Self { segment_size, segments, packs, pack_of, left: BTreeSet::new() }
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
        let segments = dead_of(&self.segments, live);
        for ordinal in &segments {
            self.segments.remove(ordinal);
        }
        let packed = dead_of(&self.pack_of, live);
        let packs = packed.into_iter().filter_map(|ordinal| self.leave_pack(ordinal)).collect();
        Dead { segments, packs }
    }

    /// A segment's frames are not in a pack any more; the pack, if it had no others.
    fn leave_pack(&mut self, ordinal: u64) -> Option<PackId> {
        let id = self.pack_of.remove(&ordinal)?;
        let pack = self.packs.get_mut(&id).expect("both know of it");
        pack.ordinals.remove(&ordinal);
        let is_empty = pack.ordinals.is_empty();
        is_empty.then(|| drop(self.packs.remove(&id)));
        is_empty.then_some(id)
    }

    /// A pack was made, and the index knows it. Takes out what it replaces.
    pub(crate) fn compacted(&mut self, live: &Live, compacted: Compacted) -> Dead {
        self.left.extend(compacted.left);
        let Some((id, bytes)) = compacted.pack else { return Dead::default() };
        let ordinals: BTreeSet<u64> =
            compacted.packed.into_iter().filter(|ordinal| live.contains_key(ordinal)).collect();
        let mut dead = Dead::default();
        for ordinal in &ordinals {
            if self.segments.remove(ordinal).is_some() {
                dead.segments.push(*ordinal);
            }
            dead.packs.extend(self.leave_pack(*ordinal));
        }
        if ordinals.is_empty() {
            dead.packs.push(id);
            return dead;
        }
        self.pack_of.extend(ordinals.iter().map(|ordinal| (*ordinal, id)));
        self.packs.insert(id, PackFile { bytes, ordinals });
        dead
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
        let mut sources = self.sources(live, before);
        let waste: u64 = sources.iter().map(Source::waste).sum();
        let Waste { of_live, of_segment } = if resting { WASTE_RESTING } else { WASTE_BUSY };
        let total: u64 = live.values().sum();
        if waste <= total / of_live + self.segment_size / of_segment {
            return None;
        }
        let is_dense = |source: &Source| source.waste() < source.bytes / FILE_WASTE_PART;
        let is_left = |source: &Source| !self.left.is_empty() && self.has_left(&source.file);
        sources.retain(|source| !is_dense(source) && !is_left(source));
        if sources.len() > CANDIDATES {
            sources.select_nth_unstable_by_key(CANDIDATES, Source::order);
            sources.truncate(CANDIDATES);
        }
        sources.sort_by_cached_key(Source::order);
        let (mut bytes, mut kept, mut ordinals) = (0, 0, Vec::new());
        for source in sources {
            let full = kept + source.live > self.segment_size
                || ordinals.len() + self.count_of(&source.file) > PACK_ORDINALS_MAX;
            if full {
                continue;
            }
            bytes += source.bytes;
            kept += source.live;
            match source.file {
                File::Segment(ordinal) => ordinals.push(ordinal),
                File::Pack(id) => ordinals.extend(&self.packs[&id].ordinals),
            }
        }
        let written = pack_bytes(kept);
        let gain = bytes.saturating_sub(written);
        ordinals.sort_unstable();
        (gain >= self.segment_size / GAIN_PART && gain >= written / GAIN_PART).then_some(ordinals)
    }

    /// How many segments a file stands for.
    fn count_of(&self, file: &File) -> usize {
        match file {
            File::Segment(_) => 1,
            File::Pack(id) => self.packs[id].ordinals.len(),
        }
    }

    /// Whether a segment of a file could not be packed.
    fn has_left(&self, file: &File) -> bool {
        match file {
            File::Segment(ordinal) => self.left.contains(ordinal),
            File::Pack(id) => !self.packs[id].ordinals.is_disjoint(&self.left),
        }
    }

    fn sources(&self, live: &Live, before: u64) -> Vec<Source> {
        let mut of_packs: HashMap<PackId, u64> = HashMap::new();
        let mut sources = Vec::new();
        let mut segments = self.segments.range(..before).peekable();
        let mut packed = self.pack_of.iter().peekable();
        for (ordinal, live) in live {
            while segments.next_if(|(it, _)| *it < ordinal).is_some() {}
            while packed.next_if(|(it, _)| *it < ordinal).is_some() {}
            if let Some((first, bytes)) = segments.next_if(|(it, _)| *it == ordinal) {
                let (first, bytes, live) = (*first, *bytes, *live);
                sources.push(Source { file: File::Segment(first), first, bytes, live });
            } else if let Some((_, id)) = packed.next_if(|(it, _)| *it == ordinal) {
                *of_packs.entry(*id).or_default() += live;
            }
        }
        sources.extend(self.packs.iter().map(|(id, pack)| {
            let first = *pack.ordinals.first().expect("one without any is gone");
            let live = of_packs.get(id).copied().unwrap_or(0);
            Source { file: File::Pack(*id), first, bytes: pack.bytes, live }
        }));
        sources
    }
}

/// Those of these segments that have no live bytes.
fn dead_of<T>(segments: &BTreeMap<u64, T>, live: &Live) -> Vec<u64> {
    let mut live = live.keys().peekable();
    let is_dead = |ordinal: &u64| {
        while live.next_if(|it| *it < ordinal).is_some() {}
        live.peek() != Some(&ordinal) || mutant::is(Mutant::RetireTheLiving)
    };
    segments.keys().copied().filter(is_dead).collect()
}

impl Source {
    fn waste(&self) -> u64 {
        self.bytes.saturating_sub(self.live)
    }

    /// The sparsest first, the oldest first among equals.
    fn order(&self) -> (u128, u64) {
        let density = u128::from(self.live) * (1 << 32) / u128::from(self.bytes.max(1));
        (density, self.first)
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
