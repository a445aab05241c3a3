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

fn main() {
    let Some(size) = Size::asked("sync_latency") else { return };
    let dir = fresh_dir();
    let mut disk = BareDisk::new(dir.path(), 4096);
    let broker = Broker::start(&dir.path().join("data"));
    let mut producer = Crowd::connect(broker.port(), 1);
    wait_for_room_ahead(broker.data());
    let mut send = || producer.produce(Duration::ZERO).elapsed;
    let mut sync = || disk.write_and_sync();
    let (mut bare, mut sends) = (Sides::default(), Sides::default());
    let mut cpu = CpuTimes::default();
    for _ in 0..size.rounds {
        bare.round(size.operations, &mut sync);
        let before = CpuTimes::of(broker.pid());
        sends.round(size.operations, &mut send);
        cpu.add(&CpuTimes::of(broker.pid()).since(&before));
    }
    headline("sync_latency: one producer, each message confirmed before the next", size.rounds);
    figures("A: write and fdatasync of 4 KiB, median", "us", &bare.median);
    figures("A: 99th of 100", "us", &bare.late);
    figures("B: SEND of 1 KiB to RECEIPT, median", "us", &sends.median);
    figures("B: 99th of 100", "us", &sends.late);
    verdict("B / A, medians", &sends.median.per(&bare.median), Goal::AtMost(2.0));
    cpu.print("the broker", size.rounds * (size.operations + warm_up(size.operations)));
}

fn warm_up(operations: usize) -> usize {
    operations / 10
}

/// Latencies of one side, in microseconds.
#[derive(Debug, Default)]
struct Sides {
    median: Series,
    late: Series,
}

impl Sides {
    fn round(&mut self, operations: usize, operation: &mut dyn FnMut() -> Duration) {
        // The first ones find cold caches and a processor that sleeps.
        for _ in 0..warm_up(operations) {
            operation();
        }
        let mut micros: Vec<f64> =
            (0..operations).map(|_| operation().as_secs_f64() * 1e6).collect();
        self.median.push(quantile(&mut micros, 0.5));
        self.late.push(quantile(&mut micros, 0.99));
    }
}
