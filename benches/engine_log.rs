//! Engine and log without sockets against the bare disk, with a thousand messages under way.
//!
//! A: a thousand messages of 1 KiB in one write and one fdatasync, one after the other: what a
//! disk gives to a log that syncs in series and does nothing else. B: a thousand persistent sends
//! of 1 KiB outstanding at the engine in this process, each followed by the next when confirmed.
//! C: the same, with a consumer that accepts them all.

mod support;

use std::time::{Duration, Instant};

use escrowmq::broker::command::{Command, Confirm, Outcome, Output, Request, Which};
use escrowmq::engine::{Connection, NO_TOKEN, Running, Settings};
use escrowmq::ids::{SubscriptionId, Tag};
use escrowmq::message::Destination;
use support::cpu::CpuTimes;
use support::crowd::Done;
use support::disk::BareDisk;
use support::engine::{Producer, open};
use support::process::fresh_dir;
use support::report::{Goal, Series, figures, headline, verdict};
use support::{BODY_BYTES, Size, wait_for_room_ahead};

const OUTSTANDING: usize = 1000;

pub(crate) fn main() {
    let Some(size) = Size::asked("engine_log") else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(measure(size));
}

async fn measure(size: Size) {
    let dir = fresh_dir();
    let mut disk = BareDisk::new(dir.path(), size.disk_bytes, OUTSTANDING * BODY_BYTES);
    let data = dir.path().join("data");
    let running = open(&data, &Settings::default());
    let mut producer = Producer::new(&running, &["bench"], OUTSTANDING);
    let mut consumed = Producer::new(&running, &["bench.consumed"], OUTSTANDING);
    let mut consumer = Consumer::new(&running, "bench.consumed").await;
    wait_for_room_ahead(&data);
    let (mut bare, mut sent, mut through) = (Side::default(), Side::default(), Side::default());
    for _ in 0..size.rounds {
        bare.add(async || write_in_series(&mut disk, size.turn)).await;
        sent.add(async || producer.produce(size.turn).await).await;
        through.add(async || consumer.beside(&mut consumed, size.turn).await).await;
    }
    running.handle().stop();
    running.join().expect("a clean end");
    headline("engine_log: a thousand persistent messages under way", size.rounds);
    figures("A: write and fdatasync of 1,000 x 1 KiB", "messages/s", &bare.rate);
    figures("B: engine and log, sent", "messages/s", &sent.rate);
    figures("C: engine and log, sent and accepted", "messages/s", &through.rate);
    verdict("B / A", &sent.rate.per(&bare.rate), Goal::AtLeast(0.5));
    figures("C / A", "ratio", &through.rate.per(&bare.rate));
    bare.cpu.print("A: this process", bare.messages);
    sent.cpu.print("B: this process", sent.messages);
    through.cpu.print("C: this process", through.messages);
}

/// One side of the comparison.
#[derive(Debug, Default)]
struct Side {
    rate: Series,
    messages: usize,
    cpu: CpuTimes,
}

impl Side {
    async fn add(&mut self, turn: impl AsyncFnOnce() -> Done) {
        let before = CpuTimes::of(std::process::id());
        let done = turn().await;
        self.cpu.add(&CpuTimes::of(std::process::id()).since(&before));
        self.messages += done.messages;
        self.rate.push(done.rate());
    }
}

fn write_in_series(disk: &mut BareDisk, turn: Duration) -> Done {
    let (began, mut messages) = (Instant::now(), 0);
    while began.elapsed() < turn {
        disk.write_and_sync();
        messages += OUTSTANDING;
    }
    Done { messages, elapsed: began.elapsed() }
}

/// Accepts everything it gets.
#[derive(Debug)]
struct Consumer {
    connection: Connection,
    outputs: Vec<Output>,
}

const SUBSCRIPTION: SubscriptionId = SubscriptionId(1);

impl Consumer {
    async fn new(running: &Running, queue: &str) -> Self {
        let connection = running.handle().connect().expect("a connection");
        let from = Destination::Queue(queue.into());
        let prefetch = 2 * OUTSTANDING as u32;
        let command =
            Command::Subscribe { subscription: SUBSCRIPTION, from, prefetch, selector: None };
        let request = Request { token: NO_TOKEN, confirm: Confirm::Always, command };
        connection.submit(vec![request]).await.expect("the engine runs");
        let mut outputs = Vec::new();
        connection.receive(&mut outputs).await.expect("the engine runs");
        outputs.clear();
        Self { connection, outputs }
    }

    /// Consumes while a producer sends for so long, to the last message.
    async fn beside(&mut self, producer: &mut Producer, turn: Duration) -> Done {
        let began = Instant::now();
        let (mut consumed, mut produced) = (0, None);
        let mut producing = std::pin::pin!(producer.produce(turn));
        while produced != Some(consumed) {
            tokio::select! {
                done = &mut producing, if produced.is_none() => produced = Some(done.messages),
                received = self.connection.receive(&mut self.outputs) => {
                    received.expect("the engine runs");
                    consumed += self.accept().await;
                }
            }
        }
        Done { messages: consumed, elapsed: began.elapsed() }
    }

    /// Accepts what has come, with one cumulative settlement.
    async fn accept(&mut self) -> usize {
        let (mut count, mut window, mut last) = (0, 0, None);
        for output in self.outputs.drain(..) {
            window += Connection::window_bytes(&output);
            let Output::Delivery(delivery) = output else { panic!("{output:?}") };
            last = Some(delivery.tag);
            count += 1;
        }
        self.connection.written(window);
        if let Some(tag) = last {
            self.connection.submit(vec![settle(tag)]).await.expect("the engine runs");
        }
        count
    }
}

fn settle(tag: Tag) -> Request {
    let which = Which::Through(tag);
    let outcome = Outcome::Accepted;
    let command = Command::Settle { subscription: SUBSCRIPTION, which, outcome };
    Request { token: NO_TOKEN, confirm: Confirm::RefusalOnly, command }
}
