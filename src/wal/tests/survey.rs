//! What `verify` and `dump` see of a store without owning it.

use std::sync::Arc;

use crate::io::Storage;
use crate::io::sim::SimDisk;
use crate::wal::tests::bench::{SEGMENT, open};
use crate::wal::{Corruption, Finding, Item, Part, dump, verify};

fn used_store() -> SimDisk {
    let disk = SimDisk::new();
    for life in 0..2 {
        let mut bench = open(&disk);
        for number in 0..40 {
            bench.append(life * 40 + number, 3000);
            bench.commit();
        }
    }
    disk
}

fn shared(disk: &SimDisk) -> Arc<dyn Storage> {
    Arc::new(disk.clone())
}

#[test]
fn a_whole_store_has_no_findings_and_nothing_is_written() {
    let disk = used_store();
    let before = disk.operations();
    let mut last = None;
    let report = verify(&shared(&disk), |progress| last = Some(progress)).expect("a store");
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!((report.frames, report.payload_bytes), (80, 80 * 3000));
    let last = last.expect("progress is told");
    assert_eq!(last.done, last.total);
    assert_eq!(disk.operations(), before);
}

#[test]
fn every_damage_is_found_with_file_and_offset_and_the_walk_goes_on() {
    let disk = used_store();
    let bench = open(&disk);
    let placed: Vec<_> = bench.recovered.iter().map(|found| found.lsn).collect();
    let file = |number: usize| {
        let segment = placed[number].0 / SEGMENT;
        let names = disk.list().expect("works");
        let is_it =
            |name: &String| name.starts_with("wal-") && name.ends_with(&format!("-{segment:016x}"));
        names.into_iter().find(is_it).expect("it is there")
    };
    let offset = |number: usize| placed[number].0 % SEGMENT;
    disk.flip_bit(&file(3), offset(3) + 100, 1);
    disk.flip_bit(&file(20), offset(20) + 34, 1);
    disk.flip_bit(&file(60), offset(60) - 64 + 5, 1);
    let report = verify(&shared(&disk), |_| {}).expect("a store");
    let [Finding::Damaged(first), second, third] = &report.findings[..] else {
        panic!("{:?}", report.findings);
    };
    assert_eq!((first.part, first.offset, &first.file), (Part::Payload, offset(3), &file(3)));
    assert!(
        matches!(second, Finding::Corrupt { file: f, offset: o, reason: Corruption::Structure }
        if *f == file(20) && *o == offset(20))
    );
    assert!(matches!(third, Finding::Corrupt { file: f, offset: o, reason: Corruption::Header }
        if *f == file(60) && *o == offset(60) - 64));
}

#[test]
fn a_torn_tail_is_an_end_and_no_finding() {
    let disk = used_store();
    let mut bench = open(&disk);
    bench.append(80, 3000);
    bench.commit();
    let placed = bench.append(81, 3000);
    bench.write_unsynced();
    let file = format!("wal-{:016x}-{:016x}", bench.log.epoch(), placed.lsn.0 / SEGMENT);
    disk.flip_bit(&file, placed.lsn.0 % SEGMENT + 1000, 0);
    assert!(verify(&shared(&disk), |_| {}).expect("a store").findings.is_empty());
    let mut kinds = Vec::new();
    let mut end = None;
    dump(&shared(&disk), |item| match item {
        Item::Frame { kind, .. } => kinds.push(kind),
        Item::End { file, offset, torn } => end = Some((file.to_owned(), offset, torn)),
        _ => {}
    })
    .expect("a store");
    assert_eq!(kinds, [1; 81]);
    assert_eq!(end, Some((file, placed.batch.0 % SEGMENT, true)));
}
