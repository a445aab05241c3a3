//! One owner after the other: what is durable is there, in order, and readable.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ids::Lsn;
use crate::io::Storage;
use crate::io::sim::{Fault, SimDisk};
use crate::wal::tests::bench::{SEGMENT, open, options, payload, try_open};
use crate::wal::{
    Admission, ClaimError, Class, Log, Options, ReadError, RecoveryError, ReplayPoint, RoomStep,
    TailVerdict, Wake, claim, is_superseded,
};

#[test]
fn durable_frames_are_replayed_in_order_and_read_back_by_the_next_owner() {
    let disk = SimDisk::new();
    let mut bench = open(&disk);
    let mut placed = Vec::new();
    for number in 0..200 {
        placed.push(bench.append(number, number as usize * 17 % 5000));
        if number % 3 == 0 {
            bench.commit();
        }
    }
    bench.commit();
    let second = open(&disk.snapshot_crash(1));
    assert_eq!(second.numbers(), (0..200).collect::<Vec<_>>());
    for (number, (placed, found)) in placed.iter().zip(&second.recovered).enumerate() {
        assert_eq!((found.lsn, found.batch), (placed.lsn, placed.batch));
        assert_eq!(found.frame_len, placed.frame_len);
        let wanted = payload(number as u64, number * 17 % 5000);
        for reader in [&bench.reader, &second.reader] {
            let frame = reader.read(placed.lsn, placed.frame_len).expect("it is durable");
            assert_eq!(frame.record[..], (number as u64).to_le_bytes());
            assert_eq!(frame.payload[..], wanted[..]);
        }
    }
}

#[test]
fn a_frame_is_durable_only_after_its_group_is_complete() {
    let mut bench = open(&SimDisk::new());
    let placed = bench.append(1, 10);
    assert!(bench.log.durable() <= placed.lsn);
    let mut group = bench.log.take().expect("gathered");
    let later = bench.append(2, 10);
    assert!(bench.log.take().is_none(), "one group at a time");
    group.write().expect("works");
    group.sync().expect("works");
    assert!(bench.log.durable() <= placed.lsn);
    assert!(matches!(
        bench.reader.read(placed.lsn, placed.frame_len),
        Err(ReadError::NotDurable { .. })
    ));
    let durable = bench.log.complete(group, Ok(())).expect("works");
    assert!(placed.lsn < durable && durable <= later.lsn);
    assert_eq!(bench.log.durable(), durable);
    assert!(bench.log.appended() > later.lsn);
    assert_eq!(bench.log.wait(), Wake::Work);
    bench.commit();
    assert_eq!(bench.log.durable(), bench.log.appended());
}

#[test]
fn what_is_appended_waits_until_it_is_submitted_unless_it_is_much() {
    let mut bench = open(&SimDisk::new());
    bench.log.append(1, &[1; 8], &[]);
    assert!(bench.log.lingers() && bench.log.take().is_none());
    bench.log.submit();
    let group = bench.log.take().expect("it was submitted");
    bench.log.append(1, &[2; 8], &[]);
    bench.log.complete(group, Ok(())).expect("works");
    assert!(bench.log.lingers() && bench.log.take().is_none());
    for _ in 0..16 {
        bench.make_room();
        bench.log.append(1, &[3; 8], &[3; 4 << 10]);
    }
    assert!(!bench.log.lingers() && bench.log.take().is_some());
}

#[test]
fn the_first_failed_sync_is_final() {
    let disk = SimDisk::new();
    let mut bench = open(&disk);
    bench.append(1, 10);
    let durable = bench.commit();
    bench.append(2, 10);
    let mut group = bench.log.take().expect("gathered");
    group.write().expect("works");
    disk.fail_at(disk.operations(), Fault::Io);
    let result = group.sync();
    assert!(result.is_err());
    let failure = bench.log.complete(group, result).expect_err("the sync failed");
    assert_eq!(failure.at, durable);
    assert!(bench.log.failure().is_some());
    assert!(bench.log.take().is_none());
    assert_eq!(bench.log.durable(), durable);
    assert_eq!(bench.log.wait(), Wake::Closed);
    assert_eq!(bench.room.wait(), Wake::Closed);
    // An engine in the middle of a turn appends on, to no effect.
    bench.append(3, 10);
    assert!(bench.log.take().is_none());
    assert_eq!(bench.log.durable(), durable);
}

#[test]
fn replay_begins_after_the_point_that_the_index_names() {
    let disk = SimDisk::new();
    let mut bench = open(&disk);
    let mut placed = Vec::new();
    for number in 0..60 {
        placed.push(bench.append(number, 3000));
        if number % 4 == 0 {
            bench.commit();
        }
    }
    bench.commit();
    for known in 0..60 {
        let disk = disk.kill();
        let point = ReplayPoint { batch: placed[known].batch, through: placed[known].lsn };
        let live = BTreeMap::from([(1, 100)]);
        let next = try_open(&disk, Some(point), &live).expect("opens");
        assert_eq!(next.numbers(), (known as u64 + 1..60).collect::<Vec<_>>());
        let first = next.reader.read(placed[0].lsn, placed[0].frame_len).expect("it is live");
        assert_eq!(first.payload[..], payload(0, 3000)[..]);
        // And what the seal now says is read the same way by the owner after.
        let after = try_open(&disk, Some(point), &live).expect("opens");
        assert_eq!(after.numbers(), next.numbers());
    }
}

#[test]
fn dead_segments_of_ours_become_new_ones_and_those_of_others_go() {
    let disk = SimDisk::new();
    let mut bench = open(&disk);
    let mut placed = Vec::new();
    for number in 0..40 {
        placed.push(bench.append(number, 9000));
        bench.commit();
    }
    bench.make_room();
    let before = disk.operations();
    bench.room.retire(&[1, 2]);
    bench.make_room();
    assert!(disk.operations() > before);
    let names = disk.list().expect("works");
    assert_eq!(names.iter().filter(|name| name.starts_with("spare-")).count(), 2, "{names:?}");
    assert!(matches!(
        bench.reader.read(placed[0].lsn, placed[0].frame_len),
        Err(ReadError::Gone { .. })
    ));
    for number in 40..80 {
        placed.push(bench.append(number, 9000));
        bench.commit();
    }
    let names = disk.list().expect("works");
    assert_eq!(names.iter().filter(|name| name.starts_with("spare-")).count(), 0, "{names:?}");

    let known = placed[20];
    let point = ReplayPoint { batch: known.batch, through: known.lsn };
    let mut next = try_open(&disk, Some(point), &BTreeMap::from([(3, 1)])).expect("opens");
    assert_eq!(next.numbers(), (21..80).collect::<Vec<_>>());
    next.room.retire(&[3]);
    next.make_room();
    assert!(!disk.list().expect("works").contains(&"wal-0000000000000001-0000000000000003".into()));
}

#[test]
fn a_segment_that_is_being_read_is_not_recycled() {
    let disk = SimDisk::new();
    let mut bench = open(&disk);
    let placed = bench.append(0, 9000);
    bench.commit();
    while bench.append(1, 9000).lsn.0 / SEGMENT < 2 {
        bench.commit();
    }
    bench.commit();
    let pin = bench.reader.pin(placed.lsn).expect("it is there");
    bench.room.retire(&[1]);
    bench.make_room();
    assert!(bench.reader.read(placed.lsn, placed.frame_len).is_ok());
    drop(pin);
    bench.make_room();
    assert!(bench.reader.read(placed.lsn, placed.frame_len).is_err());
}

#[test]
fn a_held_segment_is_not_recycled_until_it_is_let_go() {
    let disk = SimDisk::new();
    let mut bench = open(&disk);
    let placed = bench.append(0, 9000);
    bench.commit();
    while bench.append(1, 9000).lsn.0 / SEGMENT < 2 {
        bench.commit();
    }
    bench.commit();
    let reader = bench.reader.clone();
    let is_there = || reader.read(placed.lsn, placed.frame_len).is_ok();
    let hold = bench.reader.hold().expect("nobody else holds anything");
    assert!(bench.reader.hold().is_none(), "two may hold at once, and one would let go of all");
    bench.room.retire(&[1]);
    bench.make_room();
    assert!(is_there(), "all are held");
    hold.keep([1].into(), [].into());
    bench.make_room();
    assert!(is_there(), "this one is held");
    hold.release(1);
    bench.make_room();
    assert!(!is_there());
    drop(hold);
    assert!(bench.reader.hold().is_some());
}

#[test]
fn a_full_disk_refuses_sends_keeps_room_for_clearing_and_recovers() {
    let disk = SimDisk::new();
    let mut bench = open(&disk);
    bench.make_room();
    disk.set_capacity(disk.used());
    let bytes = Log::frame_bytes(8, 9000);
    let mut sends = 0;
    let refusal = loop {
        match bench.log.admit(bytes, Class::Send) {
            Admission::Yes => {
                bench.append(sends, 9000);
                bench.commit();
                sends += 1;
            }
            Admission::Wait => {
                assert_eq!(bench.room.step().expect("no failure"), RoomStep::NoSpace);
            }
            Admission::Full => break Admission::Full,
        }
    };
    assert_eq!(refusal, Admission::Full);
    assert!(sends > 6);
    assert!(!disk.list().expect("works").iter().any(|name| name.starts_with("tmp-")));
    let mut clears = 0;
    while bench.log.admit(bytes, Class::Clear) == Admission::Yes {
        bench.log.append(1, &9u64.to_le_bytes(), &[0; 9000]);
        bench.commit();
        clears += 1;
    }
    assert!(clears >= 5, "a segment was kept for clearing: {clears}");
    // Clearing made a segment dead: the log goes on without the disk's help.
    bench.room.retire(&[1, 2]);
    bench.make_room();
    assert_eq!(bench.log.admit(bytes, Class::Send), Admission::Yes);
    disk.set_capacity(1 << 30);
    bench.log.retry_room();
    bench.make_room();
    assert_eq!(bench.log.ready(), 2);
}

#[test]
fn an_admitted_frame_has_its_place_though_the_open_batch_is_taken_first() {
    let disk = SimDisk::new();
    let bench = open(&disk);
    assert_eq!(bench.log.ready(), 0);
    let bytes = Log::frame_bytes(8, 0);
    let mut admitted = 0;
    while bench.log.admit(bytes, Class::Clear) == Admission::Yes {
        // What the log thread does at the worst moment, and the best one in between.
        if admitted % 2 == 1 {
            let mut group = bench.log.take().expect("one has gathered");
            let result = group.write().and_then(|()| group.sync());
            bench.log.complete(group, result).expect("a disk that works");
        }
        bench.log.append(1, &[1; 8], &[]);
        bench.log.submit();
        admitted += 1;
    }
    assert!(admitted > 8);
}

#[test]
fn too_much_gathered_waits_for_the_disk() {
    let disk = SimDisk::new();
    let options = Options { gather_bytes_max: 32 << 10, ..options() };
    let claim = claim(Arc::new(disk), options, 5).expect("free");
    let mut recovery = claim.recover(None).expect("new");
    assert!(recovery.next().expect("new").is_none());
    let mut opened = recovery.finish(&BTreeMap::new(), &BTreeMap::new()).expect("new");
    while opened.room.step().expect("works") == RoomStep::Worked {}
    let bytes = Log::frame_bytes(8, 3000);
    while opened.log.admit(bytes, Class::Send) == Admission::Yes {
        opened.log.append(1, &[1; 8], &[2; 3000]);
    }
    assert!((28 << 10..=32 << 10).contains(&opened.log.gathered()));
    opened.log.submit();
    let mut group = opened.log.take().expect("gathered");
    group.write().and_then(|()| group.sync()).expect("works");
    opened.log.complete(group, Ok(())).expect("works");
    assert_eq!(opened.log.admit(bytes, Class::Send), Admission::Yes);
}

#[test]
fn a_goodbye_tells_the_next_owner_that_nothing_is_missing() {
    let disk = SimDisk::new();
    let mut bench = open(&disk);
    bench.append(1, 100);
    assert!(!bench.log.goodbye(), "not all is durable");
    bench.commit();
    assert!(bench.log.goodbye());
    let end = bench.commit();
    bench.log.close();
    assert_eq!(bench.log.wait(), Wake::Closed);
    let next = open(&disk);
    assert_eq!(next.tail, TailVerdict::Stopped { end });
    assert_eq!(next.numbers(), [1]);
}

#[test]
fn of_two_claimants_one_is_the_owner_and_the_other_learns_it() {
    let disk = SimDisk::new();
    let first = claim(Arc::new(disk.clone()), options(), 1).expect("free");
    assert!(first.is_new());
    assert!(!is_superseded(&disk, first.epoch()).expect("works"));
    let second = claim(Arc::new(disk.clone()), options(), 2).expect("free");
    assert_eq!((first.epoch(), second.epoch()), (1, 2));
    assert_eq!(first.store_id(), second.store_id());
    assert!(is_superseded(&disk, first.epoch()).expect("works"));
    // The one that slept between claim and seal may still seal, and must then leave.
    let mut late = first.recover(None).expect("reads");
    assert!(late.next().expect("reads").is_none());
    let lost = late.finish(&BTreeMap::new(), &BTreeMap::new()).expect_err("a later claim is there");
    assert!(matches!(lost, RecoveryError::Superseded { epoch: 1 }));
    let mut recovery = second.recover(None).expect("reads");
    assert!(recovery.next().expect("reads").is_none());
    recovery.finish(&BTreeMap::new(), &BTreeMap::new()).expect("it is the owner");
}

#[test]
fn a_claim_that_is_taken_while_we_claim_is_lost() {
    let disk = SimDisk::new();
    claim(Arc::new(disk.clone()), options(), 1).expect("free");
    let racing = Racing { disk: disk.clone() };
    let lost = claim(Arc::new(racing), options(), 2).expect_err("someone was quicker");
    assert!(matches!(lost, ClaimError::LostRace { epoch: 2 }), "{lost}");
}

/// A disk on which someone else publishes the claim just before we link ours.
#[derive(Debug)]
struct Racing {
    disk: SimDisk,
}

impl Storage for Racing {
    fn open(&self, name: &str) -> std::io::Result<Arc<dyn crate::io::File>> {
        self.disk.open(name)
    }
    fn create(&self, name: &str) -> std::io::Result<Arc<dyn crate::io::File>> {
        self.disk.create(name)
    }
    fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
        self.disk.rename(from, to)
    }
    fn link(&self, from: &str, to: &str) -> std::io::Result<()> {
        claim(Arc::new(self.disk.clone()), options(), 3).expect("the quicker one");
        self.disk.link(from, to)
    }
    fn remove(&self, name: &str) -> std::io::Result<()> {
        self.disk.remove(name)
    }
    fn list(&self) -> std::io::Result<Vec<String>> {
        self.disk.list()
    }
    fn sync_dir(&self) -> std::io::Result<()> {
        self.disk.sync_dir()
    }
    fn free(&self) -> std::io::Result<u64> {
        self.disk.free()
    }
}

#[test]
fn a_directory_of_something_else_is_refused_untouched() {
    let disk = SimDisk::new();
    disk.write_file("thesis.txt", b"years of work");
    let refused = claim(Arc::new(disk.clone()), options(), 1).expect_err("not a store");
    assert!(matches!(&refused, ClaimError::NotAStore { file } if file == "thesis.txt"));
    assert_eq!(disk.list().expect("works"), ["thesis.txt"]);
}

#[test]
fn lsns_name_segment_and_offset_and_are_never_given_twice() {
    let disk = SimDisk::new();
    let mut last = Lsn(0);
    for life in 0..4 {
        let mut bench = open(&disk);
        let placed = bench.append(life, 100);
        assert!(placed.lsn > last && placed.lsn.0 / SEGMENT > last.0 / SEGMENT);
        last = placed.lsn;
        if life % 2 == 0 {
            bench.commit();
        } else {
            bench.write_unsynced();
        }
    }
}
