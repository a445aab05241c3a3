//! One synchronous producer against the bare disk: how long it waits for each confirmation.
//!
//! A: 4 KiB written and synced, which is what the log does for one such message. B: SEND of 1 KiB,
//! persistent, with a receipt, over loopback to the real broker, until the RECEIPT is there.

mod support;

use std::time::Duration;

use support::cpu::CpuTimes;
use support::crowd::Crowd;
use support::disk::BareDisk;
use support::process::{broker::Broker, fresh_dir};
use support::report::{Goal, Series, figures, headline, quantile, verdict};
use support::{Size, wait_for_room_ahead};

pub(crate) fn main() {
    let Some(size) = Size::asked("sync_latency") else { return };
    let dir = fresh_dir();
    let mut disk = BareDisk::new(dir.path(), size.disk_bytes, 4096);
    let broker = Broker::start(&dir.path().join("data"));
    let mut producer = Crowd::connect(broker.port(), 1);
    wait_for_room_ahead(broker.data());
    let mut send = || producer.produce(Duration::ZERO).elapsed;
    let mut sync = || disk.write_and_sync();
    let (mut bare, mut sends) = (Side::default(), Side::default());
    let mut cpu = CpuTimes::default();
    for _ in 0..size.rounds {
        for _ in 0..size.operations / BLOCK {
            bare.block(&mut sync);
            let before = CpuTimes::of(broker.pid());
            sends.block(&mut send);
            cpu.add(&CpuTimes::of(broker.pid()).since(&before));
        }
        bare.end_round();
        sends.end_round();
    }
    headline("sync_latency: one producer, each message confirmed before the next", size.rounds);
    figures("A: write and fdatasync of 4 KiB, median", "us", &bare.median);
    figures("A: 10th of 100", "us", &bare.early);
    figures("A: 99th of 100", "us", &bare.late);
    figures("B: SEND of 1 KiB to RECEIPT, median", "us", &sends.median);
    figures("B: 10th of 100", "us", &sends.early);
    figures("B: 99th of 100", "us", &sends.late);
    verdict("B / A, medians", &sends.median.per(&bare.median), Goal::AtMost(2.0));
    figures("B / A, 10th of 100", "ratio", &sends.early.per(&bare.early));
    let blocks = size.rounds * (size.operations / BLOCK);
    cpu.print("the broker", blocks * (WARM_UP + BLOCK));
}

/// Operations of one side before the other's turn: few, because a disk's mood changes quickly.
const BLOCK: usize = 20;

/// Operations that begin a block and are not counted: they find cold caches.
const WARM_UP: usize = 2;

/// Latencies of one side, in microseconds.
#[derive(Debug, Default)]
struct Side {
    round: Vec<f64>,
    median: Series,
    /// What neighbours disturb least.
    early: Series,
    late: Series,
}

impl Side {
    fn block(&mut self, operation: &mut dyn FnMut() -> Duration) {
        for _ in 0..WARM_UP {
            operation();
        }
        self.round.extend((0..BLOCK).map(|_| operation().as_secs_f64() * 1e6));
    }

    fn end_round(&mut self) {
        self.median.push(quantile(&mut self.round, 0.5));
        self.early.push(quantile(&mut self.round, 0.1));
        self.late.push(quantile(&mut self.round, 0.99));
        self.round.clear();
    }
}
