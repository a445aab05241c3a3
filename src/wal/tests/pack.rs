//! What a pack promises: every frame it kept, found by its birth, whatever else goes wrong.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use proptest::prelude::*;

use crate::ids::Lsn;
use crate::io::Storage;
use crate::io::sim::SimDisk;
use crate::wal::format::{BLOCK_BYTES, Group, PackHeader, directory_encode};
use crate::wal::names;
use crate::wal::tests::bench::{Bench, SEGMENT, open, payload, try_open_packed};
use crate::wal::{
    Appended, Corruption, Finding, Found, Item, Made, Needed, PackId, Packer, Part, ReadError,
    RecoveryError, ReplayPoint, Wake, survey,
};

/// A frame that somebody needs.
#[derive(Clone, Copy, Debug)]
struct Live {
    number: u64,
    at: Appended,
    bytes: usize,
}

impl Live {
    fn ordinal(&self) -> u64 {
        self.at.lsn.0 / SEGMENT
    }
}

/// A store with several full segments, of which every seventh frame is needed.
struct Sparse {
    disk: SimDisk,
    bench: Bench,
    live: Vec<Live>,
    last: Appended,
}

fn sparse() -> Sparse {
    let disk = SimDisk::new();
    let mut bench = open(&disk);
    let (mut live, mut last) = (Vec::new(), None);
    for number in 0..300 {
        let bytes = match number % 49 {
            0 => 9000,
            7 => 0,
            _ => (number as usize * 37) % 1500,
        };
        let at = bench.append(number, bytes);
        if number % 3 != 0 {
            bench.commit();
        }
        if number % 7 == 0 {
            live.push(Live { number, at, bytes });
        }
        last = Some(at);
    }
    if bench.log.gathered() > 0 {
        bench.commit();
    }
    let last = last.expect("appended");
    live.retain(|live| live.ordinal() < last.lsn.0 / SEGMENT);
    Sparse { disk, bench, live, last }
}

/// Packs what is needed of some segments.
fn pack(packer: &mut Packer, ordinals: &[u64], live: &[Live]) -> Made {
    let mut packing = packer.begin(ordinals).expect("a disk with room");
    let mut ordinal = 0;
    loop {
        match packing.read() {
            Found::Begin(begun) => ordinal = begun,
            Found::Frames(frames) => {
                for frame in frames {
                    if live.iter().any(|live| live.at.lsn == frame.lsn) {
                        packing.keep(&frame).expect("a disk with room");
                    }
                }
            }
            Found::End => packing.cover(ordinal),
            Found::Lost(ordinal, error) => panic!("{ordinal}: {error}"),
            Found::All => break,
        }
    }
    packing.finish().expect("a disk with room").expect("something is needed")
}

fn ordinals(live: &[Live]) -> Vec<u64> {
    let mut ordinals: Vec<u64> = live.iter().map(Live::ordinal).collect();
    ordinals.dedup();
    ordinals
}

fn live_bytes(live: &[Live]) -> BTreeMap<u64, u64> {
    let mut bytes = BTreeMap::new();
    for live in live {
        *bytes.entry(live.ordinal()).or_default() += u64::from(live.at.frame_len);
    }
    bytes
}

impl Sparse {
    /// Packs every full segment and gives the segments back.
    fn pack(&mut self) -> Made {
        let made = pack(&mut self.bench.packer, &ordinals(&self.live), &self.live);
        self.bench.packer.publish(made.id, &made.ordinals);
        self.bench.log.retire(&made.ordinals);
        self.bench.make_room();
        made
    }

    fn replay(&self) -> Option<ReplayPoint> {
        Some(ReplayPoint { batch: self.last.batch, through: self.last.lsn })
    }

    fn lives_again(&self, packed: &BTreeMap<u64, PackId>) -> Result<Bench, RecoveryError> {
        try_open_packed(&self.disk, self.replay(), &live_bytes(&self.live), packed)
    }
}

#[track_caller]
fn reads(bench: &Bench, live: &Live) {
    let frame = bench.reader.read(live.at.lsn, live.at.frame_len).expect("it is needed");
    assert_eq!(frame.kind, 1);
    assert_eq!(frame.record[..], live.number.to_le_bytes());
    assert_eq!(frame.payload[..], payload(live.number, live.bytes));
}

fn packed_by(made: &Made) -> BTreeMap<u64, PackId> {
    made.ordinals.iter().map(|ordinal| (*ordinal, made.id)).collect()
}

fn files(disk: &SimDisk, prefix: &str) -> Vec<String> {
    let names = disk.list().expect("works");
    names.into_iter().filter(|name| name.starts_with(prefix)).collect()
}

#[test]
fn what_a_pack_kept_is_read_as_before_and_its_segments_are_gone() {
    let mut store = sparse();
    let all = ordinals(&store.live);
    assert!(all.len() >= 3, "{all:?}");
    let made = store.pack();
    assert_eq!(made.ordinals, all);
    assert!(made.bytes < SEGMENT * 2, "{} bytes", made.bytes);
    for ordinal in &all {
        let name = names::segment(1, *ordinal);
        assert!(store.disk.open(&name).is_err(), "{name} is still there");
    }
    store.live.iter().for_each(|live| reads(&store.bench, live));
    // What nobody needed is not there.
    let absent = store.live[0].at.lsn.0 + u64::from(store.live[0].at.frame_len);
    let read = store.bench.reader.read(Lsn(absent), 64);
    assert!(matches!(read, Err(ReadError::Damaged(_))), "{read:?}");
}

#[test]
fn the_next_owner_reads_a_block_of_each_pack_before_it_serves() {
    let read = |needed: bool| {
        let mut store = sparse();
        let made = store.pack();
        if !needed {
            store.live.clear();
        }
        let before = store.disk.reads().1;
        store.lives_again(&packed_by(&made)).expect("all is there");
        store.disk.reads().1 - before
    };
    assert_eq!(read(true) - read(false), BLOCK_BYTES as u64);
}

#[test]
fn the_next_owner_reads_from_the_pack_and_sweeps_what_nobody_knows_of() {
    let mut store = sparse();
    let made = store.pack();
    let unknown = {
        let last = store.live.last().copied().expect("some");
        pack(&mut store.bench.packer, &[last.ordinal()], &[last])
    };
    store.disk.write_file("tmp-pack-half-made", b"half made");
    assert_eq!(files(&store.disk, "pack-").len(), 2);
    let bench = store.lives_again(&packed_by(&made)).expect("all is there");
    assert_eq!(bench.packs.len(), 1);
    assert_eq!((bench.packs[0].id, bench.packs[0].bytes), (made.id, made.bytes));
    assert_eq!(files(&store.disk, "pack-"), [names::pack(made.id)]);
    assert_ne!(unknown.id, made.id);
    assert_eq!(files(&store.disk, "tmp-"), [""; 0]);
    store.live.iter().for_each(|live| reads(&bench, live));
}

#[test]
fn a_segment_that_is_packed_and_still_there_is_swept_and_read_from_the_pack() {
    let mut store = sparse();
    let made = pack(&mut store.bench.packer, &ordinals(&store.live), &store.live);
    let bench = store.lives_again(&packed_by(&made)).expect("all is there");
    for ordinal in &made.ordinals {
        let name = names::segment(1, *ordinal);
        assert!(store.disk.open(&name).is_err(), "{name} is still there");
    }
    store.live.iter().for_each(|live| reads(&bench, live));
}

#[test]
fn segments_count_where_a_pack_is_missing_that_a_sleeper_spoke_of_too_late() {
    let mut store = sparse();
    let made = pack(&mut store.bench.packer, &ordinals(&store.live), &store.live);
    // The next owner had not heard of the pack, and swept it; then the sleeper's commit came.
    let next = store.lives_again(&BTreeMap::new()).expect("all is there");
    assert_eq!(files(&store.disk, "pack-"), [""; 0]);
    drop(next);
    let bench = store.lives_again(&packed_by(&made)).expect("the segments are there");
    store.live.iter().for_each(|live| reads(&bench, live));
}

#[test]
fn a_pack_that_is_missing_short_or_another_refuses_the_start_by_name() {
    type Spoil = fn(&SimDisk, &str, &Made);
    let spoil: [(Spoil, &str); 5] = [
        (|disk, name, _| disk.remove(name).expect("it is there"), "is missing"),
        (
            |disk, name, made| {
                let file = disk.open(name).expect("it is there");
                file.set_size(made.bytes - 1).expect("works");
            },
            "less than it should",
        ),
        (|disk, name, _| disk.write_file(name, &[0; 8192]), "head of"),
        (
            |disk, name, _| {
                let (mut bytes, other) = (disk.read_file(name), PackId { epoch: 1, number: 77 });
                let head: &[u8; BLOCK_BYTES] = bytes[..BLOCK_BYTES].try_into().expect("a block");
                let header = PackHeader::decode(head).expect("good");
                let header = PackHeader { id: other, ..header };
                bytes[..BLOCK_BYTES].copy_from_slice(&header.encode());
                disk.write_file(name, &bytes);
            },
            "were swapped",
        ),
        (
            |disk, name, _| {
                let mut bytes = disk.read_file(name);
                let head: &[u8; BLOCK_BYTES] = bytes[..BLOCK_BYTES].try_into().expect("a block");
                let header = PackHeader::decode(head).expect("good");
                bytes[..BLOCK_BYTES].copy_from_slice(&PackHeader { store: 5, ..header }.encode());
                disk.write_file(name, &bytes);
            },
            "belongs to store",
        ),
    ];
    for (spoil, says) in spoil {
        let mut store = sparse();
        let made = store.pack();
        let name = names::pack(made.id);
        spoil(&store.disk, &name, &made);
        let refused = match store.lives_again(&packed_by(&made)) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("nobody has missed what {says:?} is about"),
        };
        assert!(refused.contains(says) && refused.contains(&name), "{refused}");
        // Where nothing in it is needed it is not asked for.
        store.live.clear();
        store.lives_again(&packed_by(&made)).map(drop).expect("nothing is needed");
    }
}

#[test]
fn a_pack_grown_sparse_is_packed_again_with_a_segment_beside_it() {
    let mut store = sparse();
    let all = ordinals(&store.live);
    let (first, rest) = (&all[..2], &all[2..]);
    let old = pack(&mut store.bench.packer, first, &store.live);
    store.bench.packer.publish(old.id, first);
    // Most of what it kept has died since.
    let mut nth = 0;
    store.live.retain(|live| {
        nth += 1;
        !first.contains(&live.ordinal()) || nth % 3 == 0
    });
    let new = pack(&mut store.bench.packer, &all, &store.live);
    assert_eq!(new.ordinals, all);
    store.bench.packer.publish(new.id, &new.ordinals);
    store.bench.log.retire(rest);
    store.bench.log.retire(first);
    store.bench.log.retire_packs(&[old.id]);
    store.bench.make_room();
    assert_eq!(files(&store.disk, "pack-"), [names::pack(new.id)]);
    store.live.iter().for_each(|live| reads(&store.bench, live));
    let bench = store.lives_again(&packed_by(&new)).expect("all is there");
    store.live.iter().for_each(|live| reads(&bench, live));
}

#[test]
fn a_pack_that_is_read_stays_until_it_is_let_go() {
    let mut store = sparse();
    let made = store.pack();
    let pin = store.bench.reader.pin(store.live[0].at.lsn).expect("it is there");
    store.bench.log.retire_packs(&[made.id]);
    store.bench.make_room();
    assert_eq!(files(&store.disk, "pack-").len(), 1);
    drop(pin);
    // Nobody tells the maker of segments: it looks again by itself.
    assert_eq!(store.bench.room.wait(), Wake::Work);
    store.bench.make_room();
    assert_eq!(files(&store.disk, "pack-").len(), 0);
}

#[test]
fn readers_never_miss_a_frame_while_its_home_changes() {
    let mut store = sparse();
    let all = ordinals(&store.live);
    let (reader, live) = (store.bench.reader.clone(), store.live.clone());
    let (over, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (watch, told) = (Arc::clone(&over), Arc::clone(&rounds));
    let reading = std::thread::spawn(move || {
        while !watch.load(Ordering::Relaxed) {
            for live in &live {
                reader.read(live.at.lsn, live.at.frame_len).expect("it is needed");
            }
            told.fetch_add(1, Ordering::Relaxed);
        }
    });
    let (mut old, mut packs): (Option<PackId>, _) = (None, 0);
    // Until the reader has been through, however seldom it gets a processor.
    while packs < 30 || (rounds.load(Ordering::Relaxed) < 3 && !reading.is_finished()) {
        packs += 1;
        let made = pack(&mut store.bench.packer, &all, &store.live);
        store.bench.packer.publish(made.id, &made.ordinals);
        match old.replace(made.id) {
            Some(old) => store.bench.log.retire_packs(&[old]),
            None => store.bench.log.retire(&all),
        }
        store.bench.make_room();
    }
    over.store(true, Ordering::Relaxed);
    reading.join().expect("every frame was read");
}

fn findings(store: &Sparse, made: &Made) -> Vec<Finding> {
    let storage: Arc<dyn Storage> = Arc::new(store.disk.clone());
    let (live, packs) = (live_bytes(&store.live), packed_by(made));
    let needed = Needed { replay: store.replay(), live, packs };
    let mut findings = Vec::new();
    let visit = &mut |item: Item<'_>| {
        if let Item::Problem(finding) = item {
            findings.push(finding);
        }
        ControlFlow::Continue(())
    };
    survey(&storage, Some(&needed), &mut |_| {}, visit).expect("a store");
    findings
}

/// The frames that cannot be read.
fn lost(bench: &Bench, live: &[Live]) -> Vec<(u64, Part)> {
    let read = |live: &Live| match bench.reader.read(live.at.lsn, live.at.frame_len) {
        Ok(_) => None,
        Err(ReadError::Damaged(damage)) => Some((live.number, damage.part)),
        Err(error) => panic!("{error}"),
    };
    live.iter().filter_map(read).collect()
}

#[test]
fn a_flipped_bit_costs_one_frame_at_most_and_is_found_by_file_and_offset() {
    let mut store = sparse();
    let made = store.pack();
    let name = names::pack(made.id);
    assert_eq!(findings(&store, &made).len(), 0);
    let bytes = store.disk.read_file(&name);
    let head: &[u8; BLOCK_BYTES] = bytes[..BLOCK_BYTES].try_into().expect("a block");
    let header = PackHeader::decode(head).expect("good");
    let mut parts = [0; 2];
    for offset in (0..bytes.len() as u64).step_by(97) {
        store.disk.flip_bit(&name, offset, 3);
        let bench = open_readers(&store, &made);
        let lost = lost(&bench, &store.live);
        let found = findings(&store, &made);
        let inside = (BLOCK_BYTES as u64..header.frames_end).contains(&offset);
        // Padding is covered by nothing, as in the log.
        assert!(lost.len() <= 1, "offset {offset}: {lost:?}");
        assert!(inside || lost.is_empty(), "offset {offset}: {lost:?}");
        match (found.first(), lost.first()) {
            (Some(Finding::Damaged(damage)), Some((_, Part::Payload))) => {
                parts[0] += 1;
                assert!(damage.file == name && damage.offset <= offset, "{damage} {offset}");
            }
            (Some(Finding::Corrupt { file, offset: at, reason }), lost) => {
                parts[1] += 1;
                assert!(*file == name && *at <= offset, "{file} {at} {offset}");
                let expected = match (offset, lost) {
                    (_, Some((_, part))) => {
                        assert_eq!(*part, Part::Structure);
                        Corruption::Structure
                    }
                    (0..4096, None) => Corruption::Header,
                    (_, None) => Corruption::Directory,
                };
                assert_eq!(*reason, expected, "offset {offset}");
            }
            (None, None) => {}
            other => panic!("offset {offset}: {other:?}"),
        }
        assert!(found.len() <= 1, "offset {offset}: {found:?}");
        store.disk.flip_bit(&name, offset, 3);
    }
    assert!(parts.iter().all(|count| *count > 10), "{parts:?}");
}

/// Readers of the same files that know nothing of what was read before.
fn open_readers(store: &Sparse, made: &Made) -> Bench {
    let disk = store.disk.kill();
    let live = live_bytes(&store.live);
    try_open_packed(&disk, store.replay(), &live, &packed_by(made)).expect("it opens")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a pack is made of, it gives back exactly that.
    #[test]
    fn any_choice_of_frames_reads_back(keep in proptest::collection::vec(any::<bool>(), 43)) {
        let mut store = sparse();
        let mut keep = keep.into_iter().cycle();
        store.live.retain(|_| keep.next() == Some(true));
        prop_assume!(!store.live.is_empty());
        let made = store.pack();
        prop_assert_eq!(&made.ordinals, &ordinals(&store.live));
        store.live.iter().for_each(|live| reads(&store.bench, live));
    }

    /// A directory that lies with a good checksum leads nowhere, and never out of the file.
    #[test]
    fn a_directory_that_lies_gives_what_was_written_or_a_clear_no(
        lies in proptest::collection::vec((0u64..200, 0u64..1 << 35, 0u64..1 << 35), 1..20),
    ) {
        let mut store = sparse();
        let made = store.pack();
        let name = names::pack(made.id);
        let mut bytes = store.disk.read_file(&name);
        let head: &[u8; BLOCK_BYTES] = bytes[..BLOCK_BYTES].try_into().expect("a block");
        let header = PackHeader::decode(head).expect("good");
        let (first, seed) = (store.live[0].at.lsn.0, header.seed());
        let mut groups: BTreeMap<Lsn, Group> = BTreeMap::new();
        for (birth, offset, length) in lies {
            let birth = Lsn(first + birth * 1000);
            let (offset, length) = (offset / 8 * 8, length / 8 * 8);
            groups.insert(birth, Group { birth, offset, length });
        }
        let groups: Vec<Group> = groups.into_values().collect();
        for copy in 0..2 {
            let at = header.directory_at(copy) as usize;
            let block = directory_encode(seed, 0, &groups);
            bytes[at..at + BLOCK_BYTES].copy_from_slice(&block);
        }
        store.disk.write_file(&name, &bytes);
        let _ = findings(&store, &made);
        let bench = open_readers(&store, &made);
        let lost = lost(&bench, &store.live);
        let whole = |live: &&Live| lost.iter().all(|(number, _)| *number != live.number);
        store.live.iter().filter(whole).for_each(|live| reads(&bench, live));
    }

    /// Garbage anywhere is a clear no, or a frame as it was written.
    #[test]
    fn a_garbled_pack_gives_what_was_written_or_a_clear_no(
        places in proptest::collection::vec(any::<(prop::sample::Index, [u8; 16])>(), 1..8),
    ) {
        let mut store = sparse();
        let made = store.pack();
        let name = names::pack(made.id);
        let mut bytes = store.disk.read_file(&name);
        for (place, garbage) in places {
            let at = place.index(bytes.len() - garbage.len());
            bytes[at..at + garbage.len()].copy_from_slice(&garbage);
        }
        store.disk.write_file(&name, &bytes);
        let _ = findings(&store, &made);
        let live = live_bytes(&store.live);
        let disk = store.disk.kill();
        if let Ok(bench) = try_open_packed(&disk, store.replay(), &live, &packed_by(&made)) {
            let lost = lost(&bench, &store.live);
            let whole = |live: &&Live| lost.iter().all(|(number, _)| *number != live.number);
            store.live.iter().filter(whole).for_each(|live| reads(&bench, live));
        }
    }
}
