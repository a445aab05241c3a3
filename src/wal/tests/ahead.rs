//! Reading ahead shows what reading one by one shows, and asks the disk less often.

use proptest::prelude::*;

use crate::io::sim::SimDisk;
use crate::wal::tests::bench::{open, payload};
use crate::wal::{Appended, ReadAhead};

proptest! {
    #[test]
    fn what_is_read_ahead_is_what_a_single_read_gives(
        sizes in proptest::collection::vec(0usize..3000, 1..60),
        order in proptest::collection::vec((0usize..60, 1usize..20, 0usize..9000), 1..20),
        durable in 0usize..60,
    ) {
        let mut bench = open(&SimDisk::new());
        let mut placed = Vec::new();
        for (number, size) in sizes.iter().enumerate() {
            placed.push(bench.append(number as u64, *size));
            if number == durable || number % 7 == 0 {
                bench.commit();
            }
        }
        let mut ahead = ReadAhead::new(bench.reader.clone());
        let mut kept = Vec::new();
        for (from, count, shared) in order {
            ahead.share(shared);
            for placed in placed.iter().skip(from).take(count) {
                let one = bench.reader.read(placed.lsn, placed.frame_len);
                let one = one.map(|frame| frame.payload);
                let other = ahead.read(placed.lsn, placed.frame_len);
                prop_assert_eq!(one.as_ref().ok(), other.as_ref().ok());
                prop_assert_eq!(one.is_err(), other.is_err());
                kept.extend(one.ok().zip(other.ok()));
            }
        }
        // What is read later does not touch what was read before.
        prop_assert!(kept.iter().all(|(one, other)| one == other));
    }
}

#[test]
fn payloads_that_share_an_allocation_lie_one_behind_another_as_far_as_it_goes() {
    let mut bench = open(&SimDisk::new());
    let placed: Vec<_> = (0..4).map(|number| bench.append(number, 100)).collect();
    bench.commit();
    let mut ahead = ReadAhead::new(bench.reader.clone());
    ahead.share(300);
    let read = |placed: &Appended| ahead.read(placed.lsn, placed.frame_len).expect("it is durable");
    let found: Vec<_> = placed.iter().map(read).collect();
    let ends = |nth: usize| found[nth].as_ptr_range().end;
    assert_eq!(ends(0), found[1].as_ptr());
    assert_eq!(ends(1), found[2].as_ptr());
    for (number, found) in found.iter().enumerate() {
        assert_eq!(found[..], payload(number as u64, 100)[..]);
    }
    assert_ne!(ends(2), found[3].as_ptr(), "the fourth had no room there");
}

#[test]
fn frames_that_follow_each_other_cost_few_reads() {
    let disk = SimDisk::new();
    let mut bench = open(&disk);
    let placed: Vec<_> = (0..200).map(|number| bench.append(number, 100)).collect();
    bench.commit();
    let mut ahead = ReadAhead::new(bench.reader.clone());
    let (before, _) = disk.reads();
    for (number, placed) in placed.iter().enumerate() {
        let found = ahead.read(placed.lsn, placed.frame_len).expect("it is durable");
        assert_eq!(found[..], payload(number as u64, 100)[..]);
    }
    let reads = disk.reads().0 - before;
    assert!(reads < 10, "{reads} reads for 200 frames");
}
