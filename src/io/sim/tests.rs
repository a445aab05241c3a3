//! That each rule of the simulated disk holds, and that each allowed outcome is met.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::time::Duration;

use super::*;
use crate::ids::Millis;
use crate::io::Clock;

const SEEDS: u64 = 400;

/// What `look` sees after power cuts with many seeds.
fn outcomes<T: Ord>(disk: &SimDisk, look: impl Fn(&SimDisk) -> T) -> BTreeSet<T> {
    (0..SEEDS).map(|seed| look(&disk.snapshot_crash(seed))).collect()
}

fn names(disk: &SimDisk) -> String {
    disk.list().unwrap().join(" ")
}

/// A durable file `a`.
fn with_file(content: &[u8]) -> (SimDisk, Arc<dyn File>) {
    let disk = SimDisk::new();
    disk.write_file("a", content);
    let file = disk.open("a").unwrap();
    (disk, file)
}

/// Per sector: what fills it, or `?` where it is mixed.
fn sectors(disk: &SimDisk) -> String {
    let sector = |sector: &[u8]| match sector[0] {
        first if sector.iter().any(|&byte| byte != first) => '?',
        0 => '0',
        first => char::from(first),
    };
    disk.read_file("a").chunks(512).map(sector).collect()
}

#[test]
fn what_was_synced_survives_every_power_cut() {
    let disk = SimDisk::new();
    let file = disk.create("a").unwrap();
    file.write_at(&[b'x'; 6000], 100).unwrap();
    file.sync().unwrap();
    disk.sync_dir().unwrap();
    let synced = disk.read_file("a");
    assert!(!disk.has_unsynced());
    file.write_at(&[b'y'; 6000], 8192).unwrap();
    assert!(disk.has_unsynced());
    for seed in 0..SEEDS {
        assert_eq!(disk.snapshot_crash(seed).read_file("a")[..6100], synced);
    }
}

#[test]
fn unsynced_sectors_survive_vanish_or_tear_one_by_one() {
    let (disk, file) = with_file(&[b'o'; 4096]);
    file.write_at(&[b'n'; 2048], 0).unwrap();
    let seen = outcomes(&disk, sectors);
    for expected in ["oooooooo", "nnnnoooo", "nonooooo", "onnooooo"] {
        assert!(seen.contains(expected), "{expected} in {seen:?}");
    }
    assert!(seen.iter().any(|s| s.contains('?')), "torn in {seen:?}");
    assert!(seen.iter().all(|s| s.ends_with("oooo")), "unharmed in {seen:?}");
}

#[test]
fn a_power_cut_harms_no_byte_that_was_not_being_written() {
    let (disk, file) = with_file(&[b'o'; 1024]);
    file.write_at(&[b'n'; 200], 100).unwrap();
    for seed in 0..4 * SEEDS {
        let found = disk.snapshot_crash(seed).read_file("a");
        assert!(found[..100].iter().all(|&byte| byte == b'o'));
        assert!(found[300..].iter().all(|&byte| byte == b'o'));
        let new = found[100..300].iter().take_while(|&&byte| byte == b'n').count();
        assert!(found[100 + new..300].iter().all(|&byte| byte == b'o'));
    }
}

#[test]
fn writes_to_one_sector_keep_their_order_and_writes_to_others_do_not() {
    let (disk, file) = with_file(&[b'o'; 1024]);
    for (letter, offset) in [(b'1', 0), (b'2', 512), (b'3', 0)] {
        file.write_at(&[letter; 512], offset).unwrap();
    }
    let mut seen = outcomes(&disk, sectors);
    seen.retain(|s| !s.contains('?'));
    let expected = ["oo", "1o", "3o", "o2", "12", "32"].map(str::to_owned);
    assert_eq!(seen, BTreeSet::from(expected));
}

#[test]
fn an_extension_that_vanished_takes_its_bytes_along_and_one_that_survived_may_show_zeros() {
    let (disk, file) = with_file(&[b'o'; 512]);
    file.write_at(&[b'n'; 512], 512).unwrap();
    let mut seen = outcomes(&disk, sectors);
    seen.retain(|s| !s.contains('?'));
    assert_eq!(seen, BTreeSet::from(["o", "o0", "on"].map(str::to_owned)));
}

#[test]
fn bytes_before_a_cut_that_survived_do_not_come_back() {
    let (disk, file) = with_file(&[b'o'; 1024]);
    file.set_size(512).unwrap();
    file.set_size(1024).unwrap();
    file.write_at(&[b'n'; 512], 512).unwrap();
    let mut seen = outcomes(&disk, sectors);
    seen.retain(|s| !s.contains('?'));
    // "oo": the cut vanished, and with it all that came after.
    assert_eq!(seen, BTreeSet::from(["oo", "o", "o0", "on"].map(str::to_owned)));
}

#[test]
fn bytes_written_after_a_cut_that_vanished_vanish_too() {
    let (disk, file) = with_file(&[b'o'; 1024]);
    file.set_size(512).unwrap();
    file.write_at(&[b'n'; 1024], 512).unwrap();
    let mut seen = outcomes(&disk, sectors);
    seen.retain(|s| !s.contains('?'));
    // Never "on": that would be a byte of the new tail within the old length.
    let expected = ["oo", "o", "o00", "on0", "o0n", "onn"].map(str::to_owned);
    assert_eq!(seen, BTreeSet::from(expected));
}

#[test]
fn an_unsynced_rename_shows_the_old_name_or_the_new_one() {
    let (disk, _) = with_file(b"one");
    disk.write_file("b", b"two");
    disk.rename("a", "b").unwrap();
    let seen = outcomes(&disk, |disk| (names(disk), disk.read_file("b")));
    let old = ("a b".to_owned(), b"two".to_vec());
    let new = ("b".to_owned(), b"one".to_vec());
    assert_eq!(seen, BTreeSet::from([old, new]));
    disk.sync_dir().unwrap();
    assert_eq!(outcomes(&disk, names), BTreeSet::from(["b".to_owned()]));
}

#[test]
fn a_chain_of_renames_leaves_a_file_exactly_one_name() {
    let (disk, _) = with_file(b"");
    disk.rename("a", "b").unwrap();
    disk.rename("b", "c").unwrap();
    disk.create("a").unwrap();
    let seen = outcomes(&disk, |disk| {
        let first = disk.disk().names.iter().filter(|(_, inode)| **inode == 1).count();
        (first, names(disk))
    });
    let expected = ["a", "b", "a b", "c", "a c"].map(|names| (1, names.to_owned()));
    assert_eq!(seen, BTreeSet::from(expected));
}

#[test]
fn a_synced_file_whose_name_was_not_synced_may_vanish() {
    let disk = SimDisk::new();
    let file = disk.create("a").unwrap();
    file.write_at(b"content", 0).unwrap();
    file.sync().unwrap();
    assert_eq!(outcomes(&disk, names), BTreeSet::from(["a", ""].map(str::to_owned)));
    for seed in 0..SEEDS {
        let found = disk.snapshot_crash(seed);
        assert!(found.list().unwrap().is_empty() || found.read_file("a") == b"content");
    }
}

#[test]
fn unsynced_removals_and_links_survive_or_vanish_each_for_itself() {
    let (disk, _) = with_file(b"one");
    disk.write_file("b", b"two");
    disk.link("a", "c").unwrap();
    disk.remove("b").unwrap();
    let expected = ["a b", "a", "a b c", "a c"].map(str::to_owned);
    assert_eq!(outcomes(&disk, names), BTreeSet::from(expected));
}

#[test]
fn a_killed_process_loses_nothing_until_the_power_goes_too() {
    let (disk, file) = with_file(&[b'o'; 512]);
    file.write_at(&[b'n'; 512], 0).unwrap();
    disk.create("b").unwrap();
    disk.fail_at(disk.operations(), Fault::Persistent);
    file.sync().unwrap_err();
    let file = disk.open("a").unwrap();
    let again = disk.kill();
    assert_eq!((sectors(&again), names(&again)), ("n".to_owned(), "a b".to_owned()));
    again.create("c").unwrap();
    // The two lead separate lives.
    assert_eq!(names(&disk), "a b");
    drop(file);
    let seen = outcomes(&again, names);
    assert!(seen.contains("a") && seen.contains("a b c"), "{seen:?}");
}

#[test]
fn a_crash_depends_on_the_seed_alone() {
    let run = || {
        let disk = SimDisk::new();
        let file = disk.create("a").unwrap();
        disk.sync_dir().unwrap();
        file.write_at(&[b'x'; 9000], 0).unwrap();
        file.write_at(&[b'y'; 3000], 3000).unwrap();
        disk.rename("a", "b").unwrap();
        (0..SEEDS).map(|s| disk.snapshot_crash(s)).map(|d| (names(&d), content(&d))).collect()
    };
    fn content(disk: &SimDisk) -> Vec<u8> {
        disk.read_file(&names(disk))
    }
    let (first, second): (Vec<_>, Vec<_>) = (run(), run());
    assert_eq!(first, second);
    assert!(first.iter().collect::<BTreeSet<_>>().len() > 50);
}

#[test]
fn the_power_goes_during_an_operation_and_every_later_call_fails() {
    let (disk, file) = with_file(&[b'o'; 512]);
    disk.fail_at(1, Fault::PowerOff);
    file.write_at(&[b'1'; 512], 0).unwrap();
    file.write_at(&[b'2'; 512], 0).unwrap_err();
    assert!(disk.is_off());
    assert_eq!(disk.last_label(), "write a");
    file.sync().unwrap_err();
    file.read_at(&mut [0], 0).unwrap_err();
    file.size().unwrap_err();
    disk.list().unwrap_err();
    disk.open("a").unwrap_err();
    assert_eq!(disk.operations(), 2);
    let seen = outcomes(&disk, sectors);
    assert!(["o", "1", "2"].iter().all(|s| seen.contains(*s)), "{seen:?}");
}

#[test]
fn after_a_failed_sync_a_later_one_does_not_write_what_was_lost() {
    let (disk, file) = with_file(&[b'o'; 8192]);
    file.write_at(&[b'n'; 4096], 0).unwrap();
    disk.fail_at(disk.operations(), Fault::Io);
    file.sync().unwrap_err();
    file.write_at(&[b'm'; 4096], 4096).unwrap();
    file.sync().unwrap();
    assert_eq!(sectors(&disk), "nnnnnnnnmmmmmmmm");
    assert!(!disk.has_unsynced());
    let seen = outcomes(&disk, sectors);
    assert_eq!(seen.len(), 1, "{seen:?}");
    let only = seen.first().unwrap();
    assert!(only.ends_with("mmmmmmmm") && only[..8].contains('o'), "{only}");
}

#[test]
fn a_failed_write_may_have_written_its_first_part_only() {
    let (disk, file) = with_file(&[b'o'; 8192]);
    disk.fail_at(0, Fault::Io);
    file.write_at(&[b'n'; 8192], 0).unwrap_err();
    let found = disk.read_file("a");
    let new = found.iter().take_while(|&&byte| byte == b'n').count();
    assert!(found[new..].iter().all(|&byte| byte == b'o'));
    file.write_at(&[b'n'; 8192], 0).unwrap();
}

#[test]
fn a_persistent_fault_fails_all_changes_and_no_reads() {
    let (disk, file) = with_file(b"one");
    disk.fail_at(1, Fault::Persistent);
    file.sync().unwrap();
    file.sync().unwrap_err();
    disk.sync_dir().unwrap_err();
    disk.create("b").unwrap_err();
    file.read_at(&mut [0; 3], 0).unwrap();
    assert_eq!(names(&disk), "a");
}

#[test]
fn a_full_disk_refuses_growth_alone_until_there_is_room() {
    let disk = SimDisk::with_capacity(8192);
    let full = |result: io::Result<()>| result.unwrap_err().kind() == ErrorKind::StorageFull;
    let file = disk.create("a").unwrap();
    assert!(full(file.set_size(8193)));
    assert_eq!(file.size().unwrap(), 0);
    file.set_size(8000).unwrap();
    file.write_at(b"x", 8191).unwrap();
    assert!(full(file.write_at(b"xy", 8191)));
    assert!(full(disk.create("b").map(drop)));
    disk.set_capacity(1 << 20);
    disk.create("b").unwrap();
    disk.fail_at(disk.operations(), Fault::Full);
    file.sync().unwrap();
    assert!(full(file.set_size(8193)));
    file.set_size(0).unwrap();
    file.set_size(8192).unwrap();
}

#[test]
fn a_lying_sync_says_yes_and_keeps_nothing() {
    let (disk, file) = with_file(&[b'o'; 512]);
    disk.ignore_sync("a");
    disk.ignore_sync_dir();
    file.write_at(&[b'n'; 512], 0).unwrap();
    file.sync().unwrap();
    disk.create("b").unwrap();
    disk.sync_dir().unwrap();
    assert!(outcomes(&disk, sectors).contains("o"));
    assert!(outcomes(&disk, names).contains("a"));
}

#[test]
fn a_flipped_bit_is_on_the_disk_and_in_memory() {
    let (disk, file) = with_file(b"one");
    disk.flip_bit("a", 1, 0);
    let mut byte = [0];
    file.read_at(&mut byte, 1).unwrap();
    assert_eq!(byte[0], b'n' ^ 1);
    assert_eq!(disk.snapshot_crash(0).read_file("a")[1], b'n' ^ 1);
}

#[test]
fn labels_and_traces_tell_kinds_and_places() {
    let disk = SimDisk::new();
    disk.start_trace();
    let file = disk.create("wal-00017.tmp").unwrap();
    assert_eq!(disk.last_label(), "create wal-");
    disk.rename("wal-00017.tmp", "index.redb").unwrap();
    file.write_at(b"abc", 5).unwrap();
    assert_eq!(disk.last_label(), "write index");
    disk.sync_dir().unwrap();
    assert_eq!(disk.last_label(), "sync_dir");
    assert_eq!(disk.trace()[2], "write index.redb 5+3 352441c2");
    assert_eq!(disk.trace().len(), 4);
}

#[test]
fn the_clock_moves_only_when_told() {
    let clock = SimClock::new(Millis(1000));
    clock.advance(Duration::from_millis(5));
    assert_eq!((clock.wall(), clock.monotonic()), (Millis(1005), Duration::from_millis(5)));
    clock.set_wall(Millis(10));
    clock.set_monotonic(Duration::from_secs(1));
    assert_eq!((clock.wall(), clock.monotonic()), (Millis(10), Duration::from_secs(1)));
}

/// The crash tests of the whole need very many; the usual is 30 µs.
#[test]
#[ignore = "a measurement: `cargo test --lib what_a_crash_state_costs -- --ignored --nocapture`"]
fn what_a_crash_state_costs() {
    let disk = SimDisk::new();
    for segment in 0..8 {
        disk.write_file(&format!("wal-{segment}"), &[1; 1 << 18]);
    }
    disk.write_file("index.redb", &[1; 1 << 20]);
    let wal = disk.open("wal-3").unwrap();
    let index = disk.open("index.redb").unwrap();
    for offset in 0..16 {
        index.write_at(&[2; 4096], offset * 8192).unwrap();
    }
    wal.write_at(&[3; 8192], 4096).unwrap();
    let start = std::time::Instant::now();
    for seed in 0..1000 {
        drop(disk.snapshot_crash(seed));
    }
    println!("one crash state: {:?}", start.elapsed() / 1000);
}
