//! Reading ahead shows what reading one by one shows, and asks the disk less often.

use proptest::prelude::*;

use crate::io::sim::SimDisk;
use crate::wal::ReadAhead;
use crate::wal::tests::bench::{open, payload};

proptest! {
    #[test]
    fn what_is_read_ahead_is_what_a_single_read_gives(
        sizes in proptest::collection::vec(0usize..3000, 1..60),
        order in proptest::collection::vec((0usize..60, 1usize..20), 1..20),
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
        for (from, count) in order {
            for placed in placed.iter().skip(from).take(count) {
                let one = bench.reader.read(placed.lsn, placed.frame_len);
                let one = one.map(|frame| frame.payload);
                let other = ahead.read(placed.lsn, placed.frame_len);
                prop_assert_eq!(one.as_ref().ok(), other.as_ref().ok());
                prop_assert_eq!(one.is_err(), other.is_err());
            }
        }
    }
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
