//! Messages that wait for their time, and as many that wait for a consumer: what they cost in
//! memory, and to come back to.
//!
//! For each of the two a broker is filled by one producer, ended cleanly, started a few times, each
//! after a clean end, and then a few times after a kill. Compared are the most memory of the running
//! broker, from the first send to the last start, and the time from a start to the first delivery
//! from another queue. Each kill comes when so much was sent since the last checkpoint that the
//! start after it replays that: the same kind of message as before, so that it is in the log and
//! not in the index.
//!
//! `ESCROW_SCHEDULED=100000 cargo bench --bench scheduled` takes fewer than a million.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use support::Size;
use support::bulk::{self, Drain};
use support::process::{broker::Broker, fresh_dir, stomp::Frame};
use support::report::{Goal, Series, figures, headline, hold_all};

const OTHER: &str = "/queue/bench.other";
const BODY_BYTES: usize = 200;
const A_DAY: u64 = 24 * 3_600_000;
/// Which part of the messages is sent again before each kill.
const BEFORE_A_KILL: usize = 20;

pub(crate) fn main() {
    let Some(size) = Size::asked("scheduled") else { return };
    let asked = std::env::var("ESCROW_SCHEDULED").ok().map(|n| n.parse().expect("a number"));
    let count = asked.unwrap_or(if size.is_full() { 1_000_000 } else { 3_000 });
    let starts = if size.is_full() { (9, 5) } else { (2, 2) };
    headline(&format!("scheduled: {count} messages of {BODY_BYTES} bytes"), 1);
    let plain = Story::live("A, for a consumer", count, starts, |send, _| send);
    let later = Story::live("B, for their time", count, starts, |send, nth| {
        send.with("AMQ_SCHEDULED_DELAY", &(A_DAY + 977 * nth).to_string())
    });
    let more = Series::of(later.memory - plain.memory);
    let ratio = |b: &Series, a: &Series| Series::of(b.median() / a.median());
    hold_all(&[
        ("B: memory beyond A's", "MiB", more, Goal::AtMost(64.0)),
        ("B: start / A's", "ratio", ratio(&later.ended, &plain.ended), Goal::AtMost(1.2)),
        ("B: start / A's, killed", "ratio", ratio(&later.killed, &plain.killed), Goal::AtMost(1.2)),
    ]);
}

/// One kind of message, from the first to the last start.
#[derive(Debug)]
struct Story {
    /// The most of it, in MiB.
    memory: f64,
    /// Seconds from a start to the first delivery, after each clean end.
    ended: Series,
    /// The same after each kill.
    killed: Series,
}

impl Story {
    fn live(
        name: &str,
        count: usize,
        (ends, kills): (usize, usize),
        as_sent: fn(Frame, u64) -> Frame,
    ) -> Self {
        const PARTS: usize = 100;
        let dir = fresh_dir();
        let data = dir.path().join("data");
        let mut broker = Broker::start(&data);
        let mut memory = memory(&broker);
        bulk::fill(broker.port(), OTHER, ends + kills, BODY_BYTES);
        let fill = |broker: &Broker, part: usize, count: usize| {
            let send = Frame::new("SEND").with("destination", "/queue/bench.waits");
            let send = as_sent(send, part as u64).body(vec![b'x'; BODY_BYTES]);
            bulk::fill_with(broker.port(), &send, count);
        };
        let began = Instant::now();
        for part in 0..PARTS {
            fill(&broker, part, count / PARTS);
            memory = memory.max(self::memory(&broker));
        }
        let filled = count as f64 / began.elapsed().as_secs_f64();
        let (mut ended, mut killed) = (Series::EMPTY, Series::EMPTY);
        for part in 0..ends + kills {
            let took;
            if part < ends {
                assert!(broker.terminate().success(), "a clean end");
                (took, broker) = start(&data);
                ended.push(took.as_secs_f64());
            } else {
                fill(&broker, part, count / BEFORE_A_KILL);
                broker.kill();
                (took, broker) = start(&data);
                killed.push(took.as_secs_f64());
            }
            memory = memory.max(self::memory(&broker));
        }
        println!("  {name}");
        figures("filled", "messages/s", &Series::of(filled));
        figures("memory", "MiB", &Series::of(memory));
        figures("first delivery after an end", "s", &ended);
        figures("first delivery after a kill", "s", &killed);
        Self { memory, ended, killed }
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
