//! Messages that wait for their time, and as many that wait for a consumer: what they cost in
//! memory, and to come back to.
//!
//! For each of the two a broker is filled by one producer, ended cleanly, and started a few times.
//! Compared are the most memory of the running broker, from the first send to the last start, and
//! the time from a start to the first delivery from another queue.
//!
//! `ESCROW_SCHEDULED=100000 cargo bench --bench scheduled` takes fewer than a million.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use support::Size;
use support::bulk::{self, Drain};
use support::process::{broker::Broker, fresh_dir, stomp::Frame};
use support::report::{Goal, Series, figures, headline, hold};

const OTHER: &str = "/queue/bench.other";
const BODY_BYTES: usize = 200;
const A_DAY: u64 = 24 * 3_600_000;

pub(crate) fn main() {
    let Some(size) = Size::asked("scheduled") else { return };
    let asked = std::env::var("ESCROW_SCHEDULED").ok().map(|n| n.parse().expect("a number"));
    let count = asked.unwrap_or(if size.is_full() { 1_000_000 } else { 3_000 });
    let starts = if size.is_full() { 9 } else { 3 };
    headline(&format!("scheduled: {count} messages of {BODY_BYTES} bytes"), 1);
    let plain = Story::live("A, for a consumer", count, starts, |send, _| send);
    let later = Story::live("B, for their time", count, starts, |send, nth| {
        send.with("AMQ_SCHEDULED_DELAY", &(A_DAY + 977 * nth).to_string())
    });
    hold("B: memory beyond A's", "MiB", later.memory - plain.memory, Goal::AtMost(64.0));
    hold("B: start / A's", "ratio", later.start / plain.start, Goal::AtMost(1.2));
}

/// One kind of message, from the first to the last start.
#[derive(Debug)]
struct Story {
    /// The most of it, in MiB.
    memory: f64,
    /// Seconds from a start to the first delivery, the median.
    start: f64,
}

impl Story {
    fn live(name: &str, count: usize, starts: usize, as_sent: fn(Frame, u64) -> Frame) -> Self {
        const PARTS: usize = 100;
        let dir = fresh_dir();
        let data = dir.path().join("data");
        let mut broker = Broker::start(&data);
        let mut memory = memory(&broker);
        bulk::fill(broker.port(), OTHER, starts, BODY_BYTES);
        let began = Instant::now();
        for part in 0..PARTS {
            let send = Frame::new("SEND").with("destination", "/queue/bench.waits");
            let send = as_sent(send, part as u64).body(vec![b'x'; BODY_BYTES]);
            bulk::fill_with(broker.port(), &send, count / PARTS);
            memory = memory.max(self::memory(&broker));
        }
        let filled = count as f64 / began.elapsed().as_secs_f64();
        let mut all = Vec::new();
        for _ in 0..starts {
            assert!(broker.terminate().success(), "a clean end");
            let took;
            (took, broker) = start(&data);
            all.push(took.as_secs_f64());
            memory = memory.max(self::memory(&broker));
        }
        all.sort_unstable_by(f64::total_cmp);
        let start = all[all.len() / 2];
        println!("  {name}");
        figures("filled", "messages/s", &Series::of(filled));
        figures("memory", "MiB", &Series::of(memory));
        figures("first delivery after an end", "s", &Series::of(start));
        Self { memory, start }
    }
}

fn start(data: &Path) -> (Duration, Broker) {
    let began = Instant::now();
    let broker = Broker::start(data);
    // Taken: what comes back too often is set apart, and the next start would wait for ever.
    let mut drain = Drain::subscribe(broker.port(), OTHER, 1);
    drain.take(1);
    let took = began.elapsed();
    drain.end();
    (took, broker)
}

/// Resident memory of a broker, in MiB.
fn memory(broker: &Broker) -> f64 {
    broker.resident_bytes() as f64 / f64::from(1 << 20)
}
