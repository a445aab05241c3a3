//! The engine, the log thread and the maker of segments, each on a thread of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use crate::io::sim::SimDisk;
use crate::wal::tests::bench::{open, payload};
use crate::wal::{Admission, Class, Log, RoomStep, Wake};

#[test]
fn three_threads_hand_over_without_timers_and_every_frame_becomes_durable() {
    const FRAMES: u64 = 3000;
    let disk = SimDisk::new();
    let bench = open(&disk);
    let (log, mut room) = (bench.log, bench.room);
    let (wake, woken) = channel();

    let writer = {
        let (log, wake) = (Arc::clone(&log), wake.clone());
        thread::spawn(move || {
            while log.wait() == Wake::Work {
                let mut group = log.take().expect("there was work");
                let result = group.write().and_then(|()| group.sync());
                log.complete(group, result).expect("a disk that works");
                wake.send(()).expect("the engine lives");
            }
        })
    };
    let maker = thread::spawn(move || {
        while room.wait() == Wake::Work {
            while room.step().expect("a disk that works") == RoomStep::Worked {}
            wake.send(()).expect("the engine lives");
        }
        // Dropped here: the engine's channel must outlive it.
        drop(wake);
    });

    for number in 0..FRAMES {
        let record = number.to_le_bytes();
        let body = payload(number, number as usize % 700);
        while log.admit(Log::frame_bytes(8, body.len()), Class::Send) != Admission::Yes {
            log.submit();
            woken.recv().expect("the threads live");
        }
        log.append(1, &record, &body);
        if number % 3 == 0 {
            log.submit();
        }
        if number % 700 == 0 {
            log.submit();
            let wanted = log.appended();
            while log.durable() < wanted {
                woken.recv().expect("the threads live");
            }
        }
    }
    let wanted = log.appended();
    log.close();
    writer.join().expect("the writer ends");
    maker.join().expect("the maker ends");
    assert!(log.durable() >= wanted);
    assert_eq!(open(&disk.snapshot_crash(1)).numbers(), (0..FRAMES).collect::<Vec<_>>());
}

/// What an append costs; run with `--release -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement: `cargo test --lib append_cost -- --ignored --nocapture`"]
fn append_cost() {
    use std::time::Instant;
    let disk = SimDisk::new();
    let options = crate::wal::Options::default();
    let claim = crate::wal::claim(Arc::new(disk), options, 1).expect("free");
    let mut recovery = claim.recover(None).expect("new");
    assert!(recovery.next().expect("new").is_none());
    let mut opened = recovery.finish(&BTreeMap::new(), &BTreeMap::new()).expect("new");
    while opened.room.step().expect("works") == RoomStep::Worked {}
    for size in [0, 100, 1024, 10240] {
        let (record, body) = ([1; 100], vec![2; size]);
        let bytes = Log::frame_bytes(record.len(), size);
        let count = (8 << 20) / bytes;
        let mut best = f64::MAX;
        for _ in 0..6 {
            let begun = Instant::now();
            for _ in 0..count {
                assert_eq!(opened.log.admit(bytes, Class::Clear), Admission::Yes);
                opened.log.append(1, &record, &body);
            }
            best = best.min(begun.elapsed().as_nanos() as f64 / count as f64);
            let begun = Instant::now();
            opened.log.submit();
            let group = opened.log.take().expect("gathered");
            let taken = begun.elapsed();
            opened.log.complete(group, Ok(())).expect("works");
            while opened.room.step().expect("works") == RoomStep::Worked {}
            if size == 1024 {
                println!("take of 8 MiB: {taken:?}");
            }
        }
        println!("append of {size} bytes of payload and 100 of record: {best:.0} ns");
    }
}
