//! Power cuts at every operation of a start and of a life: what was durable is there, and nothing
//! that was never appended.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::io::Storage;
use crate::io::sim::{Fault, SimDisk};
use crate::wal::tests::bench::{Bench, SEGMENT, open, options, payload, try_open};
use crate::wal::{
    Admission, ClaimError, Class, Finding, Item, Log, RecoveryError, ReplayPoint, RoomStep, claim,
    survey,
};

/// Opens, unless the disk fails or the power goes meanwhile.
fn open_until_it_fails(disk: &SimDisk) -> Option<Bench> {
    let nonce = u128::from(disk.fingerprint()) << 32 | 77;
    let claim = match claim(Arc::new(disk.clone()), options(), nonce) {
        Ok(claim) => claim,
        Err(ClaimError::Io { .. }) => return None,
        Err(other) => panic!("{other}"),
    };
    let opened = (|| {
        let mut recovery = claim.recover(None)?;
        let mut recovered = Vec::new();
        while let Some(record) = recovery.next()? {
            recovered.push(record);
        }
        recovery.finish(&BTreeMap::new(), &BTreeMap::new()).map(|opened| (opened, recovered))
    })();
    match opened {
        Ok((opened, recovered)) => Some(Bench {
            log: opened.log,
            room: opened.room,
            reader: opened.reader,
            packer: opened.packer,
            packs: opened.packs,
            tail: opened.tail,
            recovered,
        }),
        Err(RecoveryError::Io { .. }) => None,
        Err(other) => panic!("{other}"),
    }
}

/// A store with sealed segments, segments of the last owner, and a torn tail.
fn used_store() -> (SimDisk, u64) {
    let disk = SimDisk::new();
    let mut number = 0;
    for _ in 0..2 {
        let mut bench = open(&disk);
        for _ in 0..30 {
            bench.append(number, 3000);
            bench.commit();
            number += 1;
        }
    }
    let mut bench = open(&disk);
    bench.append(number, 3000);
    bench.commit();
    bench.append(number + 1, 3000);
    bench.write_unsynced();
    (disk, number + 1)
}

/// Opens what a crash left, twice with a power cut between: what an owner has seen stays seen.
fn survives(disk: &SimDisk, durable: u64, appended: u64) {
    let bench = open(disk);
    is_prefix(&bench, durable, appended);
    let again = open(&disk.snapshot_crash(durable));
    assert_eq!(again.numbers(), bench.numbers());
}

fn is_prefix(bench: &Bench, durable: u64, appended: u64) {
    let numbers = bench.numbers();
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
    let count = numbers.len() as u64;
    assert!((durable..=appended).contains(&count), "{durable} <= {count} <= {appended}");
    for (number, found) in bench.recovered.iter().enumerate() {
        let frame = bench.reader.read(found.lsn, found.frame_len).expect("it is durable");
        assert_eq!(frame.payload[..], payload(number as u64, 3000)[..]);
    }
}

#[test]
fn a_power_cut_at_any_operation_of_a_start_loses_nothing() {
    let (disk, durable) = used_store();
    let disk = disk.snapshot_crash(3);
    let mut places = BTreeMap::new();
    for operation in 0.. {
        let cut = disk.snapshot_crash(0);
        cut.fail_at(operation, Fault::PowerOff);
        let opened = open_until_it_fails(&cut);
        if opened.is_some() && !cut.is_off() {
            break;
        }
        *places.entry(cut.last_label()).or_insert(0) += 1;
        for seed in 0..8 {
            let found = cut.snapshot_crash(seed);
            survives(&found, durable, durable + 1);
        }
    }
    for named in ["link claim-", "sync_dir", "link seal-", "write tmp-wal-", "rename wal-"] {
        assert!(places.contains_key(named), "no cut at {named}: {places:?}");
    }
}

#[test]
fn five_starts_in_a_row_that_die_between_claim_and_seal_harm_nothing() {
    let (disk, durable) = used_store();
    let mut disk = disk.snapshot_crash(1);
    for round in 0..5 {
        claim(Arc::new(disk.clone()), options(), 100 + round).expect("free");
        disk = if round % 2 == 0 { disk.kill() } else { disk.snapshot_crash(round as u64) };
    }
    let bench = open(&disk);
    is_prefix(&bench, durable, durable + 1);
    assert!(bench.log.epoch() > 5);
}

#[test]
fn a_start_cut_at_any_operation_five_times_in_a_row_loses_nothing() {
    let (first, durable) = used_store();
    for seed in 0..40 {
        let mut disk = first.snapshot_crash(seed);
        for round in 0..5 {
            disk.fail_at((seed * 7 + round * 13) % 24, Fault::PowerOff);
            let opened = open_until_it_fails(&disk);
            drop(opened);
            disk = disk.snapshot_crash(seed * 31 + round);
        }
        survives(&disk, durable, durable + 1);
    }
}

#[test]
fn a_power_cut_at_any_operation_of_a_life_keeps_what_was_confirmed() {
    for operation in 0.. {
        let disk = SimDisk::new();
        disk.fail_at(operation, Fault::PowerOff);
        let (confirmed, appended) = live(&disk);
        for seed in 0..4 {
            let found = disk.snapshot_crash(seed);
            survives(&found, confirmed, appended);
        }
        survives(&disk.kill(), confirmed, appended);
        if !disk.is_off() {
            break;
        }
    }
}

#[test]
fn what_a_failed_sync_left_in_the_cache_alone_is_made_durable_before_anyone_rests_on_it() {
    let mut only_cached = 0;
    for operation in 0.. {
        let disk = SimDisk::new();
        disk.fail_at(operation, Fault::Io);
        let (confirmed, appended) = live(&disk);
        // The process goes, the cache stays: the next owner sees what the disk may not have.
        let killed = disk.kill();
        let seen = open(&killed);
        only_cached += u64::from(seen.numbers().len() as u64 > confirmed);
        for seed in 0..4 {
            let again = open(&killed.snapshot_crash(seed));
            assert_eq!(again.numbers(), seen.numbers(), "operation {operation}, seed {seed}");
            is_prefix(&again, confirmed, appended);
        }
        if disk.operations() <= operation {
            break;
        }
    }
    assert!(only_cached > 3, "{only_cached}");
}

#[test]
fn after_a_goodbye_nothing_is_copied_and_otherwise_only_what_is_unproven() {
    let disk = SimDisk::new();
    let mut bench = open(&disk);
    for number in 0..40 {
        bench.append(number, 3000);
        bench.commit();
    }
    let unclean = disk.kill();
    assert!(bench.log.goodbye());
    bench.commit();
    for (disk, copies) in [(disk, 0), (unclean, 1)] {
        assert_eq!(open(&disk).numbers().len(), 40);
        let listed = disk.list().expect("works");
        assert_eq!(listed.iter().filter(|name| name.starts_with("copy-")).count(), copies);
        let mut next = open(&disk);
        is_prefix(&next, 40, 40);
        let point = next.recovered.last().map(|last| (last.batch, last.lsn)).expect("some");
        let point = ReplayPoint { batch: point.0, through: point.1 };
        next = try_open(&disk, Some(point), &BTreeMap::from([(3, 1)])).expect("opens");
        // A dead copy goes like every file of an earlier owner.
        next.append(40, 3000);
        next.commit();
        next.room.retire(&[3]);
        next.make_room();
        let listed = disk.list().expect("works");
        assert!(!listed.iter().any(|name| name.starts_with("copy-")), "{listed:?}");
    }
}

/// A life with batches of several sizes, rolls, and segments made on the way, until the power goes.
/// Returns how many frames were confirmed and how many appended.
fn live(disk: &SimDisk) -> (u64, u64) {
    open_until_it_fails(disk).map_or((0, 0), live_on)
}

fn live_on(mut bench: Bench) -> (u64, u64) {
    let (mut confirmed, mut appended) = (0, 0);
    for round in 0..12 {
        while bench.log.ready() < 2 {
            if bench.room.step().is_err() {
                return (confirmed, appended);
            }
        }
        for _ in 0..1 + round % 5 * 2 {
            bench.log.append(1, &u64::to_le_bytes(appended), &payload(appended, 3000));
            appended += 1;
        }
        bench.log.submit();
        let mut group = bench.log.take().expect("gathered");
        let result = group.write().and_then(|()| group.sync());
        if bench.log.complete(group, result).is_err() {
            return (confirmed, appended);
        }
        confirmed = appended;
    }
    (confirmed, appended)
}

/// A life whose index follows every commit, so that segments die and are recycled all the time.
/// Returns the index's point, and how many frames were confirmed and appended.
fn live_recycling(disk: &SimDisk) -> (Option<ReplayPoint>, u64, u64) {
    let (mut point, mut confirmed, mut appended) = (None, 0, 0);
    let Some(mut bench) = open_until_it_fails(disk) else { return (None, 0, 0) };
    let mut retired = bench.log.durable().0 / SEGMENT;
    for _ in 0..12 {
        while bench.room.step().unwrap_or(RoomStep::Idle) == RoomStep::Worked {}
        let mut last = None;
        for _ in 0..8 {
            if bench.log.admit(Log::frame_bytes(8, 3000), Class::Clear) == Admission::Yes {
                let record = u64::to_le_bytes(appended);
                last = Some(bench.log.append(1, &record, &payload(appended, 3000)));
                appended += 1;
            }
        }
        bench.log.submit();
        let (Some(last), Some(mut group)) = (last, bench.log.take()) else { break };
        let result = group.write().and_then(|()| group.sync());
        if bench.log.complete(group, result).is_err() {
            break;
        }
        confirmed = appended;
        point = Some(ReplayPoint { batch: last.batch, through: last.lsn });
        let dead: Vec<u64> = (retired..last.batch.0 / SEGMENT).collect();
        retired = last.batch.0 / SEGMENT;
        bench.room.retire(&dead);
    }
    (point, confirmed, appended)
}

/// What a survey finds wrong; nothing where there is no store yet.
fn findings(storage: &Arc<dyn Storage>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut visit = |item: Item<'_>| {
        if let Item::Problem(finding) = item {
            findings.push(finding);
        }
        ControlFlow::Continue(())
    };
    let _ = survey(storage, None, &mut |_| {}, &mut visit);
    findings
}

#[test]
fn a_power_cut_at_any_operation_of_recycling_keeps_what_was_confirmed() {
    let mut places = BTreeMap::new();
    for operation in 0.. {
        let disk = SimDisk::new();
        disk.fail_at(operation, Fault::PowerOff);
        let (point, confirmed, appended) = live_recycling(&disk);
        *places.entry(disk.last_label()).or_insert(0) += 1;
        for seed in 0..4 {
            let found = disk.snapshot_crash(seed);
            let storage: Arc<dyn Storage> = Arc::new(found.clone());
            let findings = findings(&storage);
            assert!(findings.is_empty(), "{findings:?}");
            let bench = try_open(&found, point, &BTreeMap::new()).expect("opens");
            let mut numbers = bench.numbers();
            if point.is_some() {
                // The index has all that was confirmed; what was under way may be there too.
                let first = numbers.first().copied().unwrap_or(confirmed);
                assert_eq!(first, confirmed);
            }
            numbers.retain(|number| *number >= confirmed);
            let end = confirmed + numbers.len() as u64;
            assert_eq!(numbers, (confirmed..end).collect::<Vec<_>>());
            assert!(end <= appended);
        }
        if !disk.is_off() {
            break;
        }
    }
    for named in ["rename spare-", "write spare-", "sync spare-"] {
        assert!(places.contains_key(named), "no cut at {named}: {places:?}");
    }
}

#[test]
fn a_lying_disk_is_found_out_and_not_taken_for_a_torn_tail() {
    let mut refused = 0;
    for seed in 0..40 {
        let disk = SimDisk::new();
        let mut bench = open(&disk);
        bench.make_room();
        disk.ignore_sync("wal-");
        for number in 0..10 {
            bench.append(number, 3000);
            bench.commit();
        }
        match try_open(&disk.snapshot_crash(seed), None, &BTreeMap::new()) {
            Err(RecoveryError::Corrupt { .. }) => refused += 1,
            Err(other) => panic!("{other}"),
            // Whoever loses the end alone cannot be found out; and payloads are lost one by one.
            Ok(bench) => {
                let numbers = bench.numbers();
                assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
            }
        }
    }
    assert!(refused > 20, "{refused}");
}
