//! What `verify` and `dump` see of a store without owning it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::io::Storage;
use crate::io::sim::SimDisk;
use crate::wal::format::{SEGMENT_HEADER_COPY, Seal};
use crate::wal::tests::bench::{SEGMENT, open};
use crate::wal::{Corruption, Finding, Item, Needed, Part, Progress, RecoveryError, survey};

/// What a survey to the end has shown.
#[derive(Debug, Default)]
struct Seen {
    frames: u64,
    payload_bytes: u64,
    findings: Vec<Finding>,
    end: Option<(String, u64, bool)>,
    progress: Option<Progress>,
}

fn seen(disk: &SimDisk, needed: Option<&Needed>) -> Seen {
    let mut seen = Seen::default();
    let mut last = None;
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let visit = &mut |item: Item<'_>| {
        match item {
            Item::Frame { payload, payload_good, .. } => {
                seen.frames += 1;
                seen.payload_bytes += if payload_good { payload.len() as u64 } else { 0 };
            }
            Item::Problem(finding) => seen.findings.push(finding),
            Item::End { file, offset, torn } => {
                assert!(seen.end.is_none(), "a log has one end");
                seen.end = Some((file.to_owned(), offset, torn));
            }
            Item::Segment { .. } | Item::Batch { .. } | Item::Pack { .. } | Item::Packed { .. } => {
            }
        }
        ControlFlow::Continue(())
    };
    survey(&storage, needed, &mut |progress| last = Some(progress), visit).expect("a store");
    seen.progress = last;
    seen
}

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

#[test]
fn a_whole_store_has_no_findings_and_nothing_is_written() {
    let disk = used_store();
    let before = disk.operations();
    let seen = seen(&disk, None);
    assert!(seen.findings.is_empty(), "{:?}", seen.findings);
    assert_eq!((seen.frames, seen.payload_bytes), (80, 80 * 3000));
    let last = seen.progress.expect("progress is told");
    assert_eq!(last.done, last.total);
    assert_eq!(disk.operations(), before);
}

#[test]
fn a_segment_may_be_gone_only_when_nothing_needs_it() {
    let disk = used_store();
    let names = disk.list().expect("works");
    let segments = || names.iter().filter(|name| name.starts_with("wal-"));
    let ordinal = |name: &str| u64::from_str_radix(&name[name.len() - 16..], 16).expect("hex");
    let (first, second) = (segments().next().expect("one"), segments().nth(1).expect("two"));
    disk.remove(first).expect("works");
    let replay = seen_positions(&disk).into_iter().find(|at| at.0 / SEGMENT > ordinal(second));
    let replay = replay.map(|lsn| crate::wal::ReplayPoint { batch: lsn, through: lsn });
    let live = BTreeMap::from([(ordinal(second), 1)]);
    let mut needed = Needed { replay, live, ..Needed::default() };
    assert!(seen(&disk, Some(&needed)).findings.is_empty());
    needed.live.insert(ordinal(first), 1);
    let findings = seen(&disk, Some(&needed)).findings;
    let [Finding::Unusable(RecoveryError::MissingSegment { ordinal: missing, .. })] = &findings[..]
    else {
        panic!("{findings:?}");
    };
    assert_eq!(*missing, ordinal(first));
    assert!(!seen(&disk, Some(&Needed::default())).findings.is_empty(), "all is to be replayed");
}

#[test]
fn a_damaged_copy_of_a_header_is_found_and_costs_nothing() {
    let disk = used_store();
    let names = disk.list().expect("works");
    let first = names.iter().find(|name| name.starts_with("wal-")).expect("one");
    for at in [0, SEGMENT_HEADER_COPY as u64] {
        disk.flip_bit(first, at + 20, 1);
        let seen = seen(&disk, None);
        let [Finding::HeaderCopy { file, offset }] = &seen.findings[..] else {
            panic!("{:?}", seen.findings);
        };
        assert_eq!((file, *offset, seen.frames), (first, at, 80));
        disk.flip_bit(first, at + 20, 1);
    }
}

fn seen_positions(disk: &SimDisk) -> Vec<crate::ids::Lsn> {
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let mut positions = Vec::new();
    let visit = &mut |item: Item<'_>| {
        if let Item::Frame { lsn, .. } = item {
            positions.push(lsn);
        }
        ControlFlow::Continue(())
    };
    survey(&storage, None, &mut |_| {}, visit).expect("a store");
    positions
}

#[test]
fn damage_in_a_claim_or_a_seal_is_found_and_the_segments_are_shown_all_the_same() {
    let disk = used_store();
    let names = disk.list().expect("works");
    let name = |prefix: &str| names.iter().rfind(|name| name.starts_with(prefix)).expect("one");
    for prefix in ["claim-", "seal-"] {
        disk.flip_bit(name(prefix), 20, 1);
        let seen = seen(&disk, None);
        let [Finding::Unusable(error)] = &seen.findings[..] else {
            panic!("{:?}", seen.findings);
        };
        assert_eq!(error.file(), Some(&**name(prefix)));
        assert_eq!(seen.frames, 80);
        disk.flip_bit(name(prefix), 20, 1);
    }
}

#[test]
fn a_segment_that_does_not_end_as_its_seal_says_and_a_batch_that_does_not_follow_are_found() {
    let disk = used_store();
    let mut bench = open(&disk);
    bench.append(80, 3000);
    bench.commit();
    let names = disk.list().expect("works");
    let name = names.iter().rfind(|name| name.starts_with("seal-")).expect("one");
    let file = disk.open(name).expect("it is there");
    let mut bytes = vec![0; file.size().expect("works") as usize];
    file.read_at(&mut bytes, 0).expect("works");
    let (mut seal, _) = Seal::decode(&bytes).expect("as it was written");
    let end = seal.segments.last_mut().and_then(|last| last.end.as_mut()).expect("an end");
    end.chain ^= 1;
    disk.write_file(name, &seal.encode().0);
    let reasons: Vec<Corruption> = seen(&disk, None)
        .findings
        .iter()
        .map(|finding| match finding {
            Finding::Corrupt { reason, .. } => *reason,
            other => panic!("{other}"),
        })
        .collect();
    // The owner's first batch follows the seal that it wrote, and this is another.
    assert_eq!(reasons, [Corruption::Seal, Corruption::Chain]);
}

#[test]
fn a_survey_ends_when_its_visitor_has_seen_enough() {
    let disk = used_store();
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let mut items = 0;
    let visit = &mut |_: Item<'_>| {
        items += 1;
        if items == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    survey(&storage, None, &mut |_| {}, visit).expect("a store");
    assert_eq!(items, 5);
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
    let findings = seen(&disk, None).findings;
    let [Finding::Damaged(first), second, third] = &findings[..] else {
        panic!("{findings:?}");
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
    let seen = seen(&disk, None);
    assert!(seen.findings.is_empty(), "{:?}", seen.findings);
    assert_eq!(seen.frames, 81);
    assert_eq!(seen.end, Some((file, placed.batch.0 % SEGMENT, true)));
}
