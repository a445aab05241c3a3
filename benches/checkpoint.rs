//! What checkpoints and compaction beside the engine cost a sender.
//!
//! Two engines in this process, each with 200 persistent sends of 1 KiB outstanding on one
//! connection, one after the other: A never checkpoints, B does so every 64 MiB of log, as a
//! broker does. Another connection sends one message at a time, and how long each takes is what
//! counts: its 99.9th percentile.
//!
//! Then two more, in which three messages of four are consumed at once and the fourth stays: C
//! neither checkpoints nor packs, D does both, as a broker does. What D reads and writes to pack is
//! told; a run in which most rounds pack nothing fails.

mod support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use escrowmq::broker::command::{Command, Confirm, Outcome, Output, Request, Which};
use escrowmq::engine::{Connection, NO_TOKEN, Running, Settings};
use escrowmq::ids::SubscriptionId;
use escrowmq::message::Destination;
use support::engine::{Producer, open, send};
use support::process::fresh_dir;
use support::report::{Goal, Series, figures, headline, quantile, verdict};
use support::{Size, wait_for_room_ahead};

const OUTSTANDING: usize = 200;

pub(crate) fn main() {
    let Some(size) = Size::asked("checkpoint") else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(checkpoints(size));
    runtime.block_on(compaction(size));
}

/// Settings with which the index is told nothing while anything is measured.
fn never() -> Settings {
    Settings {
        checkpoint_bytes: u64::MAX,
        checkpoint_changes: usize::MAX,
        checkpoint_millis: Duration::from_hours(1).as_millis() as u64,
        ..Settings::default()
    }
}

/// An engine over a new store.
struct Engine {
    running: Running,
    data: PathBuf,
}

impl Engine {
    fn new(dir: &Path, name: &str, settings: &Settings) -> Self {
        let data = dir.join(name);
        let running = open(&data, settings);
        wait_for_room_ahead(&data);
        Self { running, data }
    }

    fn end(self) {
        self.running.handle().stop();
        self.running.join().expect("a clean end");
    }

    /// How many packs are in its store.
    fn packs(&self) -> usize {
        let entries = std::fs::read_dir(&self.data).expect("the data directory");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        names.filter(|name| name.to_string_lossy().starts_with("pack-")).count()
    }
}

/// Bytes that the threads which pack have read and written in this process.
fn compaction_bytes() -> f64 {
    let of = |thread: PathBuf| {
        let name = std::fs::read_to_string(thread.join("comm")).ok()?;
        let io = std::fs::read_to_string(thread.join("io")).ok()?;
        let moved = io.lines().filter_map(|line| {
            let bytes = line.strip_prefix("rchar: ").or_else(|| line.strip_prefix("wchar: "));
            bytes?.parse::<f64>().ok()
        });
        (name.trim() == "compact").then(|| moved.sum::<f64>())
    };
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    threads.filter_map(|thread| of(thread.path())).sum()
}

async fn checkpoints(size: Size) {
    let dir = fresh_dir();
    let without = Engine::new(dir.path(), "without", &never());
    let with = Engine::new(dir.path(), "with", &Settings::default());
    let mut a = Side::new(&without.running, &["bench"]);
    let mut b = Side::new(&with.running, &["bench"]);
    for _ in 0..size.rounds {
        a.round(&without.running, size.turn).await;
        b.round(&with.running, size.turn).await;
    }
    without.end();
    with.end();
    headline("checkpoint: one send at a time beside 200 under way", size.rounds);
    a.print("A, no checkpoints");
    b.print("B, checkpoints");
    verdict("99.9th percentile, B / A", &b.worst.per(&a.worst), Goal::AtMost(3.0));
}

async fn compaction(size: Size) {
    let dir = fresh_dir();
    let without = Engine::new(dir.path(), "without", &never());
    let with = Engine::new(dir.path(), "with", &Settings::default());
    let queues = ["through", "through", "through", "staying"];
    let mut c = Side::new(&without.running, &queues);
    let mut d = Side::new(&with.running, &queues);
    c.consumer = Some(consumer(&without.running, "through").await);
    d.consumer = Some(consumer(&with.running, "through").await);
    let mut packing = Series::default();
    for _ in 0..size.rounds {
        c.round(&without.running, size.turn).await;
        let before = compaction_bytes();
        d.round(&with.running, size.turn).await;
        packing.push((compaction_bytes() - before) / f64::from(1 << 20));
    }
    let packs = with.packs();
    without.end();
    with.end();
    headline("compaction: one send at a time beside 200 under way", size.rounds);
    c.print("C, neither checkpoints nor compaction");
    d.print("D, both");
    figures("D: read and written to pack, per round", "MiB", &packing);
    // Without it nothing was measured.
    let packed = packing.median() > 0.0 && packs > 0;
    assert!(packed || !size.is_full(), "most rounds packed nothing; {packs} packs");
    verdict("99.9th percentile, D / C", &d.worst.per(&c.worst), Goal::AtMost(3.0));
}

struct Side {
    load: Producer,
    consumer: Option<Connection>,
    rate: Series,
    /// Milliseconds.
    median: Series,
    worst: Series,
}

impl Side {
    fn new(running: &Running, queues: &[&str]) -> Self {
        let load = Producer::new(running, queues, OUTSTANDING);
        let (rate, median, worst) = (Series::default(), Series::default(), Series::default());
        Self { load, consumer: None, rate, median, worst }
    }

    async fn round(&mut self, running: &Running, turn: Duration) {
        let mut times = Vec::new();
        let done = {
            let mut load = std::pin::pin!(self.load.produce(turn));
            let mut probe = std::pin::pin!(probe(running, &mut times));
            let mut accept = std::pin::pin!(accept(self.consumer.as_ref()));
            tokio::select! {
                done = &mut load => done,
                () = &mut probe => unreachable!("it never ends"),
                () = &mut accept => unreachable!("it never ends"),
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

const SUBSCRIPTION: SubscriptionId = SubscriptionId(1);

/// A connection that consumes from a queue.
async fn consumer(running: &Running, queue: &str) -> Connection {
    let connection = running.handle().connect().expect("a connection");
    let (from, mut outputs) = (Destination::Queue(queue.into()), Vec::new());
    let prefetch = 4 * OUTSTANDING as u32;
    let command = Command::Subscribe { subscription: SUBSCRIPTION, from, prefetch, selector: None };
    let request = Request { token: NO_TOKEN, confirm: Confirm::Always, command };
    connection.submit(vec![request]).await.expect("the engine runs");
    connection.receive(&mut outputs).await.expect("the engine runs");
    assert!(matches!(outputs[..], [Output::Answer { result: Ok(_), .. }]), "{outputs:?}");
    connection
}

/// Accepts everything a consumer gets, for ever; for ever nothing where there is none.
async fn accept(consumer: Option<&Connection>) {
    let Some(connection) = consumer else { return std::future::pending().await };
    let mut outputs = Vec::new();
    loop {
        connection.receive(&mut outputs).await.expect("the engine runs");
        let (mut window, mut last) = (0, None);
        for output in outputs.drain(..) {
            window += Connection::window_bytes(&output);
            let Output::Delivery(delivery) = output else { panic!("{output:?}") };
            last = Some(delivery.tag);
        }
        connection.written(window);
        if let Some(tag) = last {
            let (which, outcome) = (Which::Through(tag), Outcome::Accepted);
            let command = Command::Settle { subscription: SUBSCRIPTION, which, outcome };
            let request = Request { token: NO_TOKEN, confirm: Confirm::RefusalOnly, command };
            connection.submit(vec![request]).await.expect("the engine runs");
        }
    }
}
