//! The promises of the index, on a disk that crashes, fills and fails.

mod golden;
mod reserve;
mod versions;

use std::time::Instant;

use super::*;
use crate::broker::delta::PieceAt;
use crate::ids::Millis;
use crate::ids::{Body, Lsn};
use crate::io::real::DirStorage;
use crate::io::sim::{Fault, SimDisk};

const STORE: u128 = 0x5709E;
const CACHE: usize = 1 << 20;
const UPLOADS: u64 = 3;

fn try_open(disk: &SimDisk) -> Result<(Index, Base), IndexError> {
    Index::open(Arc::new(disk.clone()), STORE, CACHE)
}

fn open(disk: &SimDisk) -> (Index, Base) {
    try_open(disk).unwrap_or_else(|e| panic!("{e}"))
}

/// All that an index holds.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    base: Base,
    entries: BTreeMap<(QueueId, Place), Entry>,
    pieces: BTreeMap<(UploadId, u32), PieceAt>,
}

impl Model {
    fn of(disk: &SimDisk) -> Self {
        Self::of_open(&open(disk))
    }

    /// Reads it page by page.
    fn of_open((index, base): &(Index, Base)) -> Self {
        let mut entries = BTreeMap::new();
        for queue in (0..=8).map(QueueId) {
            let mut after = None;
            loop {
                let page = index.page(queue, after, 7).unwrap();
                after = page.last().map(|last| last.0);
                if after.is_none() {
                    break;
                }
                for (place, entry) in page {
                    assert!(entries.insert((queue, place), entry).is_none());
                }
            }
        }
        let mut pieces = BTreeMap::new();
        for id in (1..=UPLOADS).filter_map(UploadId::new) {
            let mut after = 0;
            loop {
                let page = index.pieces(id, after, 3).unwrap();
                pieces.extend(page.iter().map(|(number, at)| ((id, *number), *at)));
                match page.last() {
                    Some((last, _)) => after = *last,
                    None => break,
                }
            }
        }
        Self { base: base.clone(), entries, pieces }
    }

    fn after(&self, delta: &Delta, replay: ReplayPoint) -> Self {
        let mut next = self.clone();
        next.base.replay = Some(replay);
        next.base.scalars = delta.scalars;
        for (&id, queue) in &delta.queues {
            if let Some(queue) = queue {
                next.base.queues.insert(id, queue.clone());
            } else {
                next.base.queues.remove(&id);
                next.entries.retain(|key, _| key.0 != id);
            }
        }
        for (key, entry) in delta.entries.iter() {
            match entry {
                Some(entry) => next.entries.insert(key, entry),
                None => next.entries.remove(&key),
            };
        }
        for (&key, piece) in &delta.pieces {
            match piece {
                Some(piece) => next.pieces.insert(key, *piece),
                None => next.pieces.remove(&key),
            };
        }
        for (&id, upload) in &delta.uploads {
            match upload {
                Some(upload) => next.base.uploads.insert(id, *upload),
                None => next.base.uploads.remove(&id),
            };
        }
        for (&ordinal, change) in &delta.live {
            let live = next.base.live.entry(ordinal).or_default();
            *live = live.checked_add_signed(*change).unwrap();
        }
        next.base.live.retain(|_, live| *live > 0);
        next
    }
}

fn entry(number: u64) -> Entry {
    let expires = number.is_multiple_of(3).then_some(Millis(number + 1000));
    let (birth, at, upload) =
        (Lsn(number * 64), Millis(number), UploadId::new(number % 4).map(|id| Body::new(id, 4096)));
    let (due, note, held) = (None, None, false);
    let shared = false;
    Entry { birth, size: 64, at, expires, returns: 1, upload, due, note, held, shared }
}

fn queue_row(name: &str, depth: u64) -> QueueRow {
    QueueRow {
        name: name.into(),
        last_seq: 1 << 20,
        depth,
        bytes: 0,
        lent_through: [depth; 10].into(),
        redelivered_through: [0; 10].into(),
        staged: depth / 2,
        staged_bytes: depth,
        held: depth / 3,
        expiring: false,
        delayed: 0,
        restored_through: 0,
    }
}

fn replay(number: u64) -> ReplayPoint {
    ReplayPoint { batch: Lsn(number * 4096), through: Lsn(number * 4096 + 64) }
}

/// The delta of checkpoint `number`: adds, changes and removes; `size` entries or so.
fn delta(number: u64, size: u64, before: &Model) -> Delta {
    let mut delta = Delta::default();
    delta.scalars.last_at = number;
    for (index, key) in before.entries.keys().enumerate() {
        match (index as u64 * 7 + number) % 5 {
            0 | 1 => delta.entries.insert(*key, None),
            2 => delta.entries.insert(*key, Some(entry(number))),
            _ => {}
        }
    }
    for seq in number * size..(number + 1) * size {
        let place = Place { rank: (seq % 10) as u8, seq };
        delta.entries.insert((QueueId(1 + seq % 4), place), Some(entry(seq)));
    }
    for number in 1..=UPLOADS {
        let id = UploadId::new(number).unwrap();
        let piece = PieceAt { birth: Lsn(number * 64), size: before.entries.len() as u32 };
        let last = before.pieces.keys().filter(|key| key.0 == id).count() as u32;
        for step in 1..=number as u32 {
            delta.pieces.insert((id, last + step), Some(piece));
        }
        delta.pieces.insert((id, 1 + last / 2), None);
        let row = UploadRow::Dead { gone: last };
        delta.uploads.insert(id, (!last.is_multiple_of(3)).then_some(row));
    }
    for id in 1..=4 {
        delta.queues.insert(QueueId(id), Some(queue_row("some.queue", number + id)));
    }
    if number.is_multiple_of(3) {
        delta.queues.insert(QueueId(1 + number % 4), None);
        let others = delta.entries.iter().filter(|(key, _)| key.0 != QueueId(1 + number % 4));
        delta.entries = others.collect();
    }
    let live = before.base.live.get(&(number / 2)).copied().unwrap_or_default();
    delta.live.insert(number / 2, if live == 0 { 4096 } else { -(live as i64) });
    delta.live.insert(100, 10);
    delta
}

/// Opens and commits until done or the disk fails; the states before and after each commit, of
/// which the last may not have come to be.
fn run(disk: &SimDisk, commits: u64, size: u64) -> (Vec<Model>, Result<(), IndexError>) {
    let mut states = vec![Model::default()];
    let (index, base) = match try_open(disk) {
        Ok(opened) => opened,
        Err(e) => return (states, Err(e)),
    };
    assert_eq!(base, Base::default());
    for number in 1..=commits {
        let before = states.last().unwrap();
        let delta = delta(number, size, before);
        states.push(before.after(&delta, replay(number)));
        match index.commit(&delta, replay(number)) {
            Ok(_) => {}
            Err(CommitError::Full) => return (states, Err(IndexError::Full)),
            Err(CommitError::Failed(e)) => return (states, Err(e)),
        }
    }
    (states, Ok(()))
}

#[test]
fn what_was_committed_is_found_again() {
    let disk = SimDisk::new();
    let (states, result) = run(&disk, 12, 150);
    result.unwrap();
    assert_eq!(disk.list().unwrap(), [INDEX_NAME]);
    assert_eq!(&Model::of(&disk), states.last().unwrap());
    assert!(states.last().unwrap().entries.len() > 100);
}

/// A run of commits to be crashed.
struct Trial {
    disk: fn() -> SimDisk,
    commits: u64,
    size: u64,
    /// Crash at every so-manieth operation, and at each near a change of the file's size.
    step: u64,
    seeds: u64,
}

impl Trial {
    /// Where to crash.
    fn operations(&self) -> Vec<u64> {
        let disk = (self.disk)();
        disk.start_trace();
        run(&disk, self.commits, self.size).1.unwrap();
        let trace = disk.trace();
        let resizes = |lines: &[String]| lines.iter().any(|line| line.starts_with("set_size"));
        let near = |at: usize| resizes(&trace[at.saturating_sub(4)..(at + 4).min(trace.len())]);
        (0..trace.len() as u64).filter(|&o| o % self.step == 0 || near(o as usize)).collect()
    }

    /// Says which crash left something other than the state before or after a commit.
    fn crash_everywhere(&self) -> Result<(), String> {
        let operations = self.operations();
        let mut met = BTreeMap::<String, u64>::new();
        let (mut before, mut after) = (0, 0);
        for operation in operations {
            let disk = (self.disk)();
            disk.fail_at(operation, Fault::PowerOff);
            let (begun, result) = run(&disk, self.commits, self.size);
            *met.entry(disk.last_label()).or_default() += self.seeds;
            for seed in 0..self.seeds {
                let disk = disk.snapshot_crash(seed);
                // The power may go again while the index is being opened.
                disk.fail_at(seed, Fault::PowerOff);
                drop(try_open(&disk));
                let disk = disk.snapshot_crash(seed + 1);
                let opened = try_open(&disk).map_err(|e| format!("{operation} {seed}: {e}"))?;
                let found = Model::of_open(&opened);
                let last = begun.len() - 1;
                if found == begun[last] {
                    after += 1;
                } else if result.is_err() && last > 0 && found == begun[last - 1] {
                    before += 1;
                } else {
                    return Err(format!("operation {operation}, seed {seed}: neither nor"));
                }
            }
        }
        println!("crashes at {met:?}");
        println!("found the state before {before} times and after {after} times");
        assert!(before >= self.seeds && after >= self.seeds);
        Ok(())
    }
}

#[test]
fn a_crash_anywhere_leaves_the_state_before_or_after_a_commit() {
    Trial { disk: SimDisk::new, commits: 5, size: 60, step: 1, seeds: 12 }
        .crash_everywhere()
        .unwrap();
}

#[test]
fn a_crash_while_the_file_grows_and_shrinks_leaves_the_state_before_or_after_a_commit() {
    Trial { disk: SimDisk::new, commits: 3, size: 6000, step: 17, seeds: 3 }
        .crash_everywhere()
        .unwrap();
}

#[test]
fn a_disk_that_does_not_sync_is_found_out() {
    let disk = || {
        let disk = SimDisk::new();
        disk.ignore_sync(INDEX_NAME);
        disk
    };
    Trial { disk, commits: 3, size: 60, step: 1, seeds: 12 }.crash_everywhere().unwrap_err();
    let disk = || {
        let disk = SimDisk::new();
        disk.ignore_sync_dir();
        disk
    };
    Trial { disk, commits: 3, size: 60, step: 1, seeds: 12 }.crash_everywhere().unwrap_err();
}

#[test]
fn a_commit_that_was_confirmed_survives_a_failed_sync_of_a_later_one() {
    let disk = SimDisk::new();
    run(&disk, 4, 60).1.unwrap();
    for operation in 0..disk.operations() {
        let disk = SimDisk::new();
        disk.fail_at(operation, Fault::Io);
        let (begun, result) = run(&disk, 4, 60);
        // What the next process is shown must then be on the disk, too: it acts on it.
        let disk = disk.kill();
        let (index, base) = open(&disk);
        let shown = Model::of_open(&(index, base));
        let last = begun.len() - 1;
        let allowed = [&begun[last.saturating_sub(usize::from(result.is_err()))], &begun[last]];
        assert!(allowed.contains(&&shown), "operation {operation}");
        for seed in 0..8 {
            assert_eq!(Model::of(&disk.snapshot_crash(seed)), shown, "operation {operation}");
        }
    }
}

#[test]
fn a_full_disk_refuses_a_commit_and_harms_nothing() {
    let mut refused = 0;
    for spare in (0..1_200_000).step_by(97_000) {
        let disk = SimDisk::new();
        let (index, _) = open(&disk);
        let small = delta(1, 100, &Model::default());
        index.commit(&small, replay(1)).unwrap();
        let state = Model::default().after(&small, replay(1));
        disk.set_capacity(disk.used() + spare);
        let large = delta(2, 20_000, &state);
        let result = index.commit(&large, replay(2));
        if result.is_err() {
            refused += 1;
            assert!(matches!(result, Err(CommitError::Full)), "{result:?}");
            let base = state.base.clone();
            let again = Model::of_open(&(open(&disk.kill()).0, base.clone()));
            assert_eq!(again, state);
            assert!(matches!(index.commit(&large, replay(2)), Err(CommitError::Full)));
            assert_eq!(index.page(QueueId(1), None, 1000).unwrap().len(), 25);
            // Small things may still find room, and then they count.
            disk.set_capacity(u64::MAX);
            index.commit(&large, replay(2)).unwrap();
        }
        drop(index);
        assert_eq!(Model::of(&disk), state.after(&large, replay(2)), "{spare} bytes to spare");
    }
    assert!(refused > 3, "{refused}");
}

#[test]
fn a_disk_that_is_full_from_any_operation_on_loses_no_commit() {
    let trial = Trial { disk: SimDisk::new, commits: 3, size: 6000, step: 29, seeds: 1 };
    let mut refused = 0;
    for operation in trial.operations() {
        let disk = SimDisk::new();
        disk.fail_at(operation, Fault::Full);
        let (begun, result) = run(&disk, 3, 6000);
        disk.set_capacity(u64::MAX);
        let found = Model::of(&disk.snapshot_crash(operation));
        let last = begun.len() - 1;
        if result.is_ok() {
            assert_eq!(found, begun[last], "operation {operation}");
        } else {
            refused += 1;
            assert!(matches!(result, Err(IndexError::Full)), "{result:?}");
            assert_eq!(found, begun[last.saturating_sub(1)], "operation {operation}");
        }
    }
    assert!(refused >= 5, "{refused}");
}

#[test]
fn after_a_failure_of_the_disk_nothing_more_is_committed() {
    let disk = SimDisk::new();
    let (index, _) = open(&disk);
    disk.fail_at(disk.operations() + 1, Fault::Io);
    let delta = delta(1, 10, &Model::default());
    assert!(matches!(index.commit(&delta, replay(1)), Err(CommitError::Failed(IndexError::Io(_)))));
    let again = index.commit(&delta, replay(1));
    assert!(matches!(again, Err(CommitError::Failed(IndexError::Failed))), "{again:?}");
    assert!(matches!(index.page(QueueId(1), None, 1), Err(IndexError::Failed)));
}

#[test]
fn pages_follow_one_another_in_the_order_of_delivery() {
    let disk = SimDisk::new();
    let (index, _) = open(&disk);
    let mut delta = Delta::default();
    let place = |rank, seq| Place { rank, seq };
    let places = [place(0, 9), place(3, 1), place(3, 4), place(9, 2), place(9, u64::MAX)];
    for (number, place) in places.into_iter().enumerate() {
        delta.entries.insert((QueueId(2), place), Some(entry(number as u64)));
        delta.entries.insert((QueueId(3), place), Some(entry(100)));
    }
    index.commit(&delta, replay(1)).unwrap();
    let page = |after, limit| -> Vec<Place> {
        index.page(QueueId(2), after, limit).unwrap().into_iter().map(|found| found.0).collect()
    };
    assert_eq!(page(None, 10), places);
    assert_eq!(page(None, 2), places[..2]);
    assert_eq!(page(Some(places[1]), 2), places[2..4]);
    assert_eq!(page(Some(place(3, 2)), 1), places[2..3]);
    assert_eq!(page(Some(places[4]), 2), []);
    assert_eq!(index.page(QueueId(4), None, 2).unwrap(), []);
}

#[test]
fn readers_go_on_while_a_commit_is_made_and_see_the_state_before_it_or_after_it() {
    let (index, _) = open(&SimDisk::new());
    let mut delta = Delta::default();
    for number in 1..=20 {
        for seq in 1..=500 {
            let place = Place { rank: 0, seq };
            delta.entries.insert((QueueId(1), place), Some(entry(number)));
        }
        std::thread::scope(|scope| {
            let commit = scope.spawn(|| index.commit(&delta, replay(number)).unwrap());
            while !commit.is_finished() {
                let page = index.page(QueueId(1), None, 1000).unwrap();
                let seen: Vec<u64> = page.iter().map(|found| found.1.at.0).collect();
                assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:?}");
                let state = (seen.len(), seen.first().copied().unwrap_or_default());
                let before = if number == 1 { (0, 0) } else { (500, number - 1) };
                assert!(state == before || state == (500, number), "{state:?}");
            }
        });
    }
}

#[test]
fn an_index_in_a_directory_is_found_again() {
    let directory = tempfile::tempdir().unwrap();
    let storage = Arc::new(DirStorage::open_or_create(directory.path()).unwrap());
    let delta = delta(1, 3000, &Model::default());
    let expected = Model::default().after(&delta, replay(1));
    let (index, base) = Index::open(storage.clone(), STORE, CACHE).unwrap();
    assert_eq!(base, Base::default());
    index.commit(&delta, replay(1)).unwrap();
    drop(index);
    let opened = Index::open(storage, STORE, CACHE).unwrap();
    assert_eq!(Model::of_open(&opened), expected);
}

#[test]
#[should_panic(expected = "segment 7: 10 live bytes, -11")]
fn live_bytes_below_zero_are_a_bug() {
    let (index, _) = open(&SimDisk::new());
    let commit = |change, number| {
        let live = BTreeMap::from([(7, change)]);
        index.commit(&Delta { live, ..Delta::default() }, replay(number)).unwrap();
    };
    commit(10, 1);
    commit(-11, 2);
}

fn with_meta(key: &str, value: &[u8]) -> SimDisk {
    let disk = SimDisk::new();
    drop(open(&disk));
    let file = disk.open(INDEX_NAME).unwrap();
    let database = builder(CACHE).create_with_backend(Backend(file)).unwrap();
    let write = begin_write(&database).unwrap();
    write.open_table(META).unwrap().insert(key, value).unwrap();
    write.commit().unwrap();
    disk
}

#[test]
fn each_file_that_is_not_the_right_index_gets_its_own_answer() {
    let refused = |disk: &SimDisk| try_open(disk).map(drop).unwrap_err();
    let disk = SimDisk::new();
    disk.write_file(INDEX_NAME, b"");
    assert!(matches!(refused(&disk), IndexError::Damaged { .. }));
    disk.write_file(INDEX_NAME, b"short");
    assert!(matches!(refused(&disk), IndexError::Damaged { .. } | IndexError::Foreign { .. }));
    disk.write_file(INDEX_NAME, &[7; 10_000]);
    assert!(matches!(refused(&disk), IndexError::Foreign { .. }));
    disk.remove(INDEX_NAME).unwrap();
    let file = disk.create(INDEX_NAME).unwrap();
    drop(builder(CACHE).create_with_backend(Backend(file)).unwrap());
    assert!(matches!(refused(&disk), IndexError::Foreign { .. }));
    let disk = with_meta(row::META_FORMAT, &(FORMAT + 1).to_le_bytes());
    let unknown = refused(&disk);
    assert!(
        matches!(unknown, IndexError::UnknownVersion { found, newest: FORMAT } if found > FORMAT)
    );
    let disk = with_meta(row::META_STORE, &77u128.to_le_bytes());
    assert!(matches!(refused(&disk), IndexError::OtherStore { found: 77, expected: STORE }));
    let disk = with_meta(row::META_SCALARS, b"nonsense");
    assert!(matches!(refused(&disk), IndexError::Damaged { .. }));
}

#[test]
fn a_check_finds_nothing_in_a_sound_index_and_names_what_is_wrong() {
    let disk = SimDisk::new();
    let (index, _) = open(&disk);
    let mut delta = Delta::default();
    for seq in 1..=1000 {
        let entry = Entry { upload: None, ..entry(seq) };
        delta.entries.insert((QueueId(1), Place { rank: 4, seq }), Some(entry));
    }
    delta.queues.insert(QueueId(1), Some(queue_row("one", 1000)));
    index.commit(&delta, replay(1)).unwrap();
    let mut told = Vec::new();
    let report = index.check(&mut |done, total| told.push((done, total))).unwrap();
    assert_eq!(report, Report { entries: 1000, queues: 1, ..Report::default() });
    assert_eq!(told, [(1000, 1000)]);
    delta.queues.insert(QueueId(1), Some(queue_row("one", 999)));
    let entry = Entry { upload: None, ..entry(1) };
    delta.entries.insert((QueueId(2), Place { rank: 0, seq: 1 }), Some(entry));
    index.commit(&delta, replay(2)).unwrap();
    let problems = index.check(&mut |_, _| {}).unwrap().problems;
    assert_eq!(
        problems,
        [
            "queue-1 says 999 messages and has 1000",
            "there are messages of queue-2, which does not exist"
        ]
    );
    assert_eq!(index.stats().unwrap().entries, 1001);
}

#[test]
fn a_check_names_bodies_without_pieces_pieces_without_a_body_and_moves_of_nothing() {
    let disk = SimDisk::new();
    let (index, _) = open(&disk);
    let [whole, torn, none, dead, stray] = [1, 2, 3, 4, 5].map(|id| UploadId::new(id).unwrap());
    let mut delta = Delta::default();
    for (seq, upload) in (1..).zip([whole, torn, none]) {
        let entry = Entry { upload: Some(Body::new(upload, 1)), ..entry(seq) };
        delta.entries.insert((QueueId(1), Place { rank: 4, seq }), Some(entry));
    }
    delta.queues.insert(QueueId(1), Some(queue_row("one", 3)));
    let pieces = [(whole, 1), (whole, 2), (torn, 1), (torn, 3), (dead, 8), (stray, 1)];
    for (number, key) in (1..).zip(pieces) {
        delta.pieces.insert(key, Some(PieceAt { birth: Lsn(number * 4096), size: 64 }));
    }
    delta.uploads.insert(dead, Some(UploadRow::Dead { gone: 7 }));
    index.commit(&delta, replay(1)).unwrap();
    {
        let state = index.database().unwrap();
        let write = begin_write(state.database()).unwrap();
        write.open_table(MOVED).unwrap().insert(0x77, ()).unwrap();
        write.commit().unwrap();
    }
    assert_eq!(
        index.check(&mut |_, _| {}).unwrap().problems,
        [
            format!("the message born at {} was moved, and is in no queue", Lsn(0x77)),
            "of the body upload-2 piece 2 is missing".to_owned(),
            "piece 1 of upload-5 belongs to no message".to_owned(),
            "of the body upload-3 nothing is there".to_owned(),
        ]
    );
}

#[test]
fn a_flipped_bit_is_found_by_the_check_or_harms_nothing() {
    let disk = SimDisk::new();
    let (states, result) = run(&disk, 3, 200);
    result.unwrap();
    let sound = states.last().unwrap();
    // The rows of this model say nothing true of each other.
    let said = open(&disk.snapshot_crash(0)).0.check(&mut |_, _| {}).unwrap().problems;
    let size = disk.read_file(INDEX_NAME).len() as u64;
    let mut found = 0;
    for number in 0..300 {
        let disk = disk.snapshot_crash(0);
        disk.flip_bit(INDEX_NAME, number * 7919 % size, (number % 8) as u8);
        let checked = || {
            let (index, base) = try_open(&disk).ok()?;
            let report = index.check(&mut |_, _| {}).ok()?;
            (report.problems == said).then_some((index, base))
        };
        match checked() {
            Some(opened) => assert_eq!(&Model::of_open(&opened), sound, "bit flip {number}"),
            None => found += 1,
        }
    }
    println!("{found} of 300 flipped bits matter");
    assert!(found > 0);
}

#[test]
fn the_same_calls_make_the_same_writes() {
    let trace = || {
        let disk = SimDisk::new();
        disk.start_trace();
        run(&disk, 6, 500).1.unwrap();
        drop(open(&disk));
        (disk.trace(), disk.fingerprint())
    };
    let (first, second) = (trace(), trace());
    assert!(first.0.len() > 100);
    assert_eq!(first, second);
}

/// Disk operations that something takes.
fn operations(disk: &SimDisk, work: impl FnOnce()) -> u64 {
    let before = disk.operations();
    work();
    disk.operations() - before
}

#[test]
fn opening_and_small_commits_take_few_disk_operations() {
    let disk = SimDisk::new();
    let (index, _) = open(&disk);
    let small = delta(1, 100, &Model::default());
    let committed = operations(&disk, || drop(index.commit(&small, replay(1)).unwrap()));
    let crashed = disk.kill();
    let opened = operations(&crashed, || drop(open(&crashed)));
    println!("commit of 100: {committed}, open after a crash: {opened}");
    assert!(committed <= 60 && opened <= 60, "{committed} {opened}");
}

#[test]
fn a_large_sorted_commit_writes_many_entries_at_once() {
    const ENTRIES: u64 = 100_000;
    let disk = SimDisk::new();
    let (index, _) = Index::open(Arc::new(disk.clone()), STORE, 64 << 20).unwrap();
    let mut delta = sorted(ENTRIES);
    let added = operations(&disk, || drop(index.commit(&delta, replay(1)).unwrap()));
    assert_eq!(index.page(QueueId(1), None, usize::MAX).unwrap().len() as u64, ENTRIES);
    delta.entries = delta.entries.iter().map(|(key, _)| (key, None)).collect();
    let removed = operations(&disk, || drop(index.commit(&delta, replay(2)).unwrap()));
    assert_eq!(index.page(QueueId(1), None, 10).unwrap(), []);
    println!("added with {added} operations, removed with {removed}");
    // A page takes some forty entries.
    assert!(added < ENTRIES / 20, "{added} operations for {ENTRIES} entries");
    assert!(removed < ENTRIES / 20, "{removed} operations to remove {ENTRIES} entries");
}

/// The first entries of one queue, in the order of delivery.
fn sorted(count: u64) -> Delta {
    let mut delta = Delta::default();
    for seq in 0..count {
        delta.entries.insert((QueueId(1), Place { rank: 5, seq }), Some(entry(seq)));
    }
    delta
}

#[test]
#[ignore = "a measurement: `cargo test --lib what_the_index_costs -- --ignored --nocapture`"]
fn what_the_index_costs() {
    fn time<T>(what: &str, times: u32, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let done = work();
        println!("{what}: {:?}", start.elapsed() / times);
        done
    }
    const TIMES: u32 = 200;
    let disk = SimDisk::new();
    let (index, _) = time("create", 1, || open(&disk));
    println!("fresh file: {} bytes", index.stats().unwrap().file_bytes);
    let small = delta(1, 100, &Model::default());
    time("commit of 100", 1, || drop(index.commit(&small, replay(1)).unwrap()));
    let crashed: Vec<SimDisk> =
        time("copy of the disk", TIMES, || (0..TIMES).map(|_| disk.kill()).collect());
    let opened: Vec<_> = time("open after a crash", TIMES, || crashed.iter().map(open).collect());
    time("close", TIMES, || drop(opened));

    let (index, _) = Index::open(Arc::new(SimDisk::new()), STORE, 64 << 20).unwrap();
    let mut large = sorted(100_000);
    time("commit of 100,000", 1, || index.commit(&large, replay(1)).unwrap());
    println!("file: {} bytes", index.stats().unwrap().file_bytes);
    large.entries = large.entries.iter().map(|(key, _)| (key, None)).collect();
    time("removal of 100,000", 1, || index.commit(&large, replay(2)).unwrap());
}
