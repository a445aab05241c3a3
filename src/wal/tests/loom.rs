//! Every interleaving of the hand-over between engine, log thread and maker of segments, by
//! `loom`: small models of the real [`Log`], each tried in all orders with few preemptions.
//!
//! Compiled under `cfg(model_loom)` alone, where `wal::sync` gives loom's locks; `.ci/run loom`
//! runs it. A wake-up that is lost shows as a deadlock. The disk here keeps no bytes: what it
//! was told to sync is one number, which loom sees, so that the order between a sync and the mark
//! that tells of it is tried too.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64 as Unmodelled;

use loom::model::Builder;
use loom::thread;

use crate::ids::Lsn;
use crate::io::sim::SimDisk;
use crate::io::{File, Storage};
use crate::wal::format::{BLOCK_BYTES, SegmentHeader};
use crate::wal::lineage::Lineage;
use crate::wal::log::{Dead, Log};
use crate::wal::reader::Catalog;
use crate::wal::room::{Making, Room};
use crate::wal::segment::Segment;
use crate::wal::sync::{AtomicU64, Condvar, Mutex, Ordering, lock};
use crate::wal::{Admission, Class, Failure, Options, RoomStep, Wake};

/// One block for the header and one for a batch: every group taken needs a segment of its own.
const SMALLEST_SEGMENT: u64 = 2 * BLOCK_BYTES as u64;
const SEGMENT: u64 = 16 * BLOCK_BYTES as u64;

/// Tries every order of steps in which at most `preemptions` threads are stopped midway.
fn in_every_order(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// How the engine is woken: what its inbox does, without an inbox.
#[derive(Debug)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    fn new() -> Arc<Self> {
        Arc::new(Self { rung: Mutex::new(false), changed: Condvar::new() })
    }

    fn ring(&self) {
        *lock(&self.rung) = true;
        self.changed.notify_one();
    }

    fn wait(&self) {
        let mut rung = lock(&self.rung);
        while !*rung {
            rung = self.changed.wait(rung).expect("nobody dies here");
        }
        *rung = false;
    }
}

/// The file of the segment in use: remembers how far it is written and synced, as Lsns.
#[derive(Debug)]
struct Marks {
    first: u64,
    /// Only the log thread writes, so loom need not try orders of it.
    written: Unmodelled,
    synced: AtomicU64,
    /// Syncs that succeed before one fails.
    syncs_left: Unmodelled,
}

impl File for Marks {
    fn size(&self) -> io::Result<u64> {
        Ok(SEGMENT)
    }

    fn set_size(&self, _: u64) -> io::Result<()> {
        unreachable!("a segment in use keeps its size")
    }

    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
        unreachable!("nobody reads here")
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.written.store(self.first + offset + buf.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let left = self.syncs_left.load(Ordering::Relaxed);
        if left == 0 {
            return Err(io::Error::other("the disk is gone"));
        }
        self.syncs_left.store(left - 1, Ordering::Relaxed);
        // Relaxed: who sees a mark must see the sync through the log's own ordering.
        self.synced.store(self.written.load(Ordering::Relaxed), Ordering::Relaxed);
        Ok(())
    }
}

fn header(ordinal: u64, segment_size: u64) -> SegmentHeader {
    SegmentHeader { store: 1, epoch: 1, ordinal, segment_size, nonce: 7 }
}

/// The engine's side of a log whose disk does `syncs` syncs before it fails.
struct Engine {
    log: Arc<Log>,
    bell: Arc<Bell>,
    disk: Arc<Marks>,
}

impl Engine {
    fn new(syncs: u64) -> Self {
        let header = header(1, SEGMENT);
        let first = header.first_lsn().0;
        let (written, syncs_left) = (Unmodelled::new(first), Unmodelled::new(syncs));
        let synced = AtomicU64::new(first + BLOCK_BYTES as u64);
        let disk = Arc::new(Marks { first, written, synced, syncs_left });
        let file: Arc<dyn File> = Arc::clone(&disk) as _;
        let segment = Arc::new(Segment::new("in use".to_owned(), header, file));
        // No segment is made here, so a maker finds work only where a model gives it some.
        let options = Options { ready_segments: 0, ..Options::small(SEGMENT) };
        let log = Arc::new(Log::new(options, segment, 0, Arc::new(AtomicU64::new(0))));
        Self { log, bell: Bell::new(), disk }
    }

    fn start_log_thread(&self) -> thread::JoinHandle<Result<(), Failure>> {
        let (log, bell) = (Arc::clone(&self.log), Arc::clone(&self.bell));
        thread::spawn(move || write_log(&log, &bell))
    }

    /// Appends a record and returns where it ends.
    fn append(&self) -> Lsn {
        assert_eq!(self.log.admit(Log::frame_bytes(8, 0), Class::Clear), Admission::Yes);
        self.log.append(1, &[1; 8], &[]);
        self.log.submit();
        self.log.appended()
    }

    /// What the log calls durable, held against what the disk has synced.
    fn durable(&self) -> Lsn {
        let durable = self.log.durable();
        let synced = Lsn(self.disk.synced.load(Ordering::Relaxed));
        assert!(durable <= synced, "durable to {durable}, synced to {synced}");
        durable
    }

    fn wait_until_durable(&self, end: Lsn) {
        while self.durable() < end {
            self.bell.wait();
        }
    }

    fn wait_until_failed(&self) -> Failure {
        loop {
            if let Some(failure) = self.log.failure() {
                return failure;
            }
            self.bell.wait();
        }
    }
}

/// The log thread, as the engine runs it.
fn write_log(log: &Log, bell: &Bell) -> Result<(), Failure> {
    while log.wait() == Wake::Work {
        let Some(mut group) = log.take() else { continue };
        let result = group.write().and_then(|()| group.sync());
        let completed = log.complete(group, result);
        bell.ring();
        completed?;
    }
    Ok(())
}

#[test]
fn every_record_becomes_durable_whenever_the_log_thread_looks() {
    in_every_order(3, || {
        let engine = Engine::new(u64::MAX);
        let log_thread = engine.start_log_thread();
        let first = engine.append();
        engine.durable();
        let second = engine.append();
        assert!(first < second);
        // Nothing else will wake the log thread: a wake-up that is lost is lost for good.
        engine.wait_until_durable(second);
        engine.log.close();
        log_thread.join().expect("no panic").expect("a disk that works");
        assert!(engine.log.is_quiet());
    });
}

#[test]
fn what_gathers_when_the_log_is_closed_is_still_made_durable() {
    in_every_order(3, || {
        let engine = Engine::new(u64::MAX);
        let log_thread = engine.start_log_thread();
        engine.append();
        // The last of it was not submitted.
        engine.log.append(1, &[1; 8], &[]);
        let end = engine.log.appended();
        engine.log.close();
        log_thread.join().expect("no panic").expect("a disk that works");
        assert!(engine.durable() >= end);
        assert!(engine.log.is_quiet());
    });
}

#[test]
fn a_goodbye_after_all_is_durable_is_accepted_and_written() {
    in_every_order(3, || {
        let engine = Engine::new(u64::MAX);
        let log_thread = engine.start_log_thread();
        let end = engine.append();
        engine.wait_until_durable(end);
        assert!(engine.log.goodbye(), "all is durable");
        engine.log.close();
        log_thread.join().expect("no panic").expect("a disk that works");
        assert!(engine.durable() > end);
    });
}

#[test]
fn a_failed_sync_reaches_the_engine_and_nothing_becomes_durable_after_it() {
    for syncs in [0, 1] {
        in_every_order(3, move || {
            let engine = Engine::new(syncs);
            let log_thread = engine.start_log_thread();
            let mut good = engine.log.durable();
            for _ in 0..syncs {
                good = engine.append();
                engine.wait_until_durable(good);
            }
            let durable = engine.durable();
            engine.append();
            // The engine may be in the middle of a turn when the disk fails.
            engine.append();
            let failure = engine.wait_until_failed();
            assert!(failure.at >= good);
            log_thread.join().expect("no panic").expect_err("a disk that fails");
            assert_eq!(engine.durable(), durable);
            assert!(engine.log.take().is_none());
            assert_eq!(engine.log.wait(), Wake::Closed);
            assert!(!engine.log.goodbye());
        });
    }
}

#[test]
fn a_failed_sync_ends_the_maker_of_segments() {
    in_every_order(3, || {
        let engine = Engine::new(0);
        let log = Arc::clone(&engine.log);
        let maker = thread::spawn(move || log.wait_room(0, None));
        engine.append();
        write_log(&engine.log, &engine.bell).expect_err("a disk that fails");
        assert_eq!(maker.join().expect("no panic"), Wake::Closed);
    });
}

#[test]
fn what_is_retired_reaches_the_maker_of_segments() {
    in_every_order(3, || {
        let engine = Engine::new(u64::MAX);
        let (log, bell) = (Arc::clone(&engine.log), Arc::clone(&engine.bell));
        let maker = thread::spawn(move || {
            assert_eq!(log.wait_room(0, None), Wake::Work);
            assert_eq!(log.retired(), [Dead::Segment(0)]);
            bell.ring();
            assert_eq!(log.wait_room(0, None), Wake::Closed);
        });
        engine.log.retire(&[0]);
        engine.bell.wait();
        engine.log.close();
        maker.join().expect("no panic");
    });
}

/// A log on segments of one batch each, and their maker, on a simulated disk.
fn smallest_segments() -> (Arc<Log>, Room) {
    let (store, nonce) = (1, 2);
    let storage: Arc<dyn Storage> = Arc::new(SimDisk::new());
    let mut making =
        Making::begin(&*storage, header(0, SMALLEST_SEGMENT), nonce).expect("a disk with room");
    assert!(making.fill().expect("a disk with room"));
    let segment = Arc::new(making.finish(&*storage).expect("a disk that works"));
    let durable = Arc::new(AtomicU64::new(0));
    let catalog =
        Catalog::new(Arc::clone(&storage), Lineage::of(1), SMALLEST_SEGMENT, Arc::clone(&durable));
    catalog.insert_open(&segment);
    let options =
        Options { ready_segments: 1, reserve_bytes: 0, ..Options::small(SMALLEST_SEGMENT) };
    let log = Arc::new(Log::new(options, segment, 0, durable));
    let room = Room {
        storage,
        log: Arc::clone(&log),
        catalog: Arc::new(catalog),
        store,
        nonce,
        making: None,
        dying: Vec::new(),
        spares: Vec::new(),
        leftovers: Vec::new(),
    };
    (log, room)
}

#[test]
fn an_engine_that_waits_for_a_segment_gets_it() {
    in_every_order(2, || {
        let (log, mut room) = smallest_segments();
        let bell = Bell::new();
        let maker = {
            let bell = Arc::clone(&bell);
            thread::spawn(move || {
                while room.wait() == Wake::Work {
                    if room.step().expect("a disk that works") == RoomStep::Worked {
                        bell.ring();
                    }
                }
            })
        };
        let log_thread = {
            let (log, bell) = (Arc::clone(&log), Arc::clone(&bell));
            thread::spawn(move || write_log(&log, &bell))
        };
        for _ in 0..2 {
            while log.admit(Log::frame_bytes(8, 0), Class::Clear) != Admission::Yes {
                bell.wait();
            }
            log.append(1, &[1; 8], &[]);
            log.submit();
        }
        let end = log.appended();
        while log.durable() < end {
            bell.wait();
        }
        log.close();
        log_thread.join().expect("no panic").expect("a disk that works");
        maker.join().expect("no panic");
    });
}
