//! What checkpoints beside the engine cost a sender.
//!
//! Two engines in this process, each with 200 persistent sends of 1 KiB outstanding on one
//! connection, one after the other: A never checkpoints, B does so every 64 MiB of log, as a
//! broker does. Another connection sends one message at a time, and how long each takes is what
//! counts: its 99.9th percentile.

mod support;

use std::time::{Duration, Instant};

use escrowmq::broker::command::Output;
use escrowmq::engine::{Running, Settings};
use support::engine::{Producer, open, send};
use support::process::fresh_dir;
use support::report::{Goal, Series, figures, headline, quantile, verdict};
use support::{Size, wait_for_room_ahead};

const OUTSTANDING: usize = 200;

fn main() {
    let Some(size) = Size::asked("checkpoint") else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(measure(size));
}

async fn measure(size: Size) {
    let dir = fresh_dir();
    let never = Settings {
        checkpoint_bytes: u64::MAX,
        checkpoint_changes: usize::MAX,
        ..Settings::default()
    };
    let engine = |name: &str, settings: &Settings| {
        let data = dir.path().join(name);
        let running = open(&data, settings);
        wait_for_room_ahead(&data);
        running
    };
    let (without, with) = (engine("without", &never), engine("with", &Settings::default()));
    let (mut a, mut b) = (Side::new(&without), Side::new(&with));
    for _ in 0..size.rounds {
        a.round(&without, size.turn).await;
        b.round(&with, size.turn).await;
    }
    for running in [without, with] {
        running.handle().stop();
        running.join().expect("a clean end");
    }
    headline("checkpoint: one send at a time beside 200 under way", size.rounds);
    a.print("A, no checkpoints");
    b.print("B, checkpoints");
    verdict("99.9th percentile, B / A", &b.worst.per(&a.worst), Goal::AtMost(3.0));
}

struct Side {
    load: Producer,
    rate: Series,
    /// Milliseconds.
    median: Series,
    worst: Series,
}

impl Side {
    fn new(running: &Running) -> Self {
        let load = Producer::new(running, &["bench"], OUTSTANDING);
        let (rate, median, worst) = (Series::default(), Series::default(), Series::default());
        Self { load, rate, median, worst }
    }

    async fn round(&mut self, running: &Running, turn: Duration) {
        let mut times = Vec::new();
        let done = {
            let mut load = std::pin::pin!(self.load.produce(turn));
            let mut probe = std::pin::pin!(probe(running, &mut times));
            tokio::select! {
                done = &mut load => done,
                () = &mut probe => unreachable!("it never ends"),
            }
        };
        self.rate.push(done.rate());
        self.median.push(quantile(&mut times.clone(), 0.5));
        self.worst.push(quantile(&mut times, 0.999));
    }

    fn print(&self, name: &str) {
        figures(&format!("{name}: load"), "messages/s", &self.rate);
        figures(&format!("{name}: a send, median"), "ms", &self.median);
        figures(&format!("{name}: a send, 99.9th percentile"), "ms", &self.worst);
    }
}

/// Sends one message after the other, for ever.
async fn probe(running: &Running, times: &mut Vec<f64>) {
    let connection = running.handle().connect().expect("a connection");
    let (one, mut outputs) = (send("bench.probe"), Vec::new());
    loop {
        let began = Instant::now();
        connection.submit(vec![one.clone()]).await.expect("the engine runs");
        connection.receive(&mut outputs).await.expect("the engine runs");
        assert!(matches!(outputs[..], [Output::Answer { result: Ok(_), .. }]), "{outputs:?}");
        outputs.clear();
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
}
