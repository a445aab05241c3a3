//! Messages that wait for their time, and as many that wait for a consumer: what they cost in
//! memory, and to come back to.
//!
//! For each of the two a broker is filled by one producer, and started a few times, in turns: first
//! after clean ends, then after kills. Compared are the most memory of the running broker, from the
//! first send to the last start, and the time from a start to the first delivery from another
//! queue. Before each kill more of the same is sent, which the index does not know yet: the start
//! after it replays that.
//!
//! `ESCROW_SCHEDULED=100000 cargo bench --bench scheduled` takes fewer than a million.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use support::Size;
use support::bulk::{self, Drain};
use support::process::{broker::Broker, fresh_dir, stomp::Frame};
use support::report::{Goal, Series, figures, headline, hold_all};
use tempfile::TempDir;

const OTHER: &str = "/queue/bench.other";
const BODY_BYTES: usize = 200;
const A_DAY: u64 = 24 * 3_600_000;
/// Which part of the messages is sent again before each kill.
const BEFORE_A_KILL: usize = 20;

pub(crate) fn main() {
    let Some(size) = Size::asked("scheduled") else { return };
    let asked = std::env::var("ESCROW_SCHEDULED").ok().map(|n| n.parse().expect("a number"));
    let count = asked.unwrap_or(if size.is_full() { 1_000_000 } else { 3_000 });
    let (ends, kills) = if size.is_full() { (9, 5) } else { (2, 2) };
    headline(&format!("scheduled: {count} messages of {BODY_BYTES} bytes"), 1);
    let kinds: [(&str, AsSent); 2] = [
        ("A, for a consumer", |send, _| send),
        ("B, for their time", |send, nth| {
            send.with("AMQ_SCHEDULED_DELAY", &(A_DAY + 977 * nth).to_string())
        }),
    ];
    let mut stories = kinds.map(|(name, as_sent)| Story::begin(name, count, as_sent, ends + kills));
    for _ in 0..ends {
        stories = stories.map(Story::end);
    }
    for round in 0..kills {
        stories = stories.map(|story| story.kill(round as u64, count / BEFORE_A_KILL));
    }
    for story in &stories {
        println!("  {}", story.name);
        figures("filled", "messages/s", &story.filled);
        figures("memory", "MiB", &Series::of(story.memory));
        figures("first delivery after an end", "s", &story.ended);
        figures("first delivery after a kill", "s", &story.killed);
    }
    let [plain, later] = stories;
    let more = Series::of(later.memory - plain.memory);
    hold_all(&[
        ("B: memory beyond A's", "MiB", more, Goal::AtMost(64.0)),
        ("B: start / A's", "ratio", later.ended.per(&plain.ended), Goal::AtMost(1.2)),
        ("B: start / A's, killed", "ratio", later.killed.per(&plain.killed), Goal::AtMost(1.2)),
    ]);
}

/// A frame as messages of a kind are sent, by which part of them it is for.
type AsSent = fn(Frame, u64) -> Frame;

/// One kind of message, from the first to the last start.
struct Story {
    name: &'static str,
    as_sent: AsSent,
    _dir: TempDir,
    broker: Broker,
    filled: Series,
    /// The most of it, in MiB.
    memory: f64,
    /// Seconds from a start to the first delivery, after each clean end.
    ended: Series,
    /// The same after each kill.
    killed: Series,
}

impl Story {
    fn begin(name: &'static str, count: usize, as_sent: AsSent, starts: usize) -> Self {
        const PARTS: usize = 100;
        let dir = fresh_dir();
        let broker = Broker::start(&dir.path().join("data"));
        bulk::fill(broker.port(), OTHER, starts, BODY_BYTES);
        let (filled, ended, killed) = Default::default();
        let mut story =
            Self { name, as_sent, _dir: dir, broker, filled, memory: 0.0, ended, killed };
        let began = Instant::now();
        for part in 0..PARTS {
            story.fill(part as u64, count / PARTS);
        }
        story.filled.push(count as f64 / began.elapsed().as_secs_f64());
        story
    }

    fn fill(&mut self, part: u64, count: usize) {
        let send = Frame::new("SEND").with("destination", "/queue/bench.waits");
        let send = (self.as_sent)(send, part).body(vec![b'x'; BODY_BYTES]);
        bulk::fill_with(self.broker.port(), &send, count);
        self.look();
    }

    fn look(&mut self) {
        let memory = self.broker.resident_bytes() as f64 / f64::from(1 << 20);
        self.memory = self.memory.max(memory);
    }

    /// Ends cleanly and starts again.
    fn end(mut self) -> Self {
        let data = self.broker.data().to_owned();
        assert!(self.broker.terminate().success(), "a clean end");
        let took;
        (took, self.broker) = start(&data);
        self.ended.push(took.as_secs_f64());
        self.look();
        self
    }

    /// Is killed when so much was sent, and starts again.
    fn kill(mut self, round: u64, count: usize) -> Self {
        self.fill(round, count);
        let data = self.broker.kill();
        let took;
        (took, self.broker) = start(&data);
        self.killed.push(took.as_secs_f64());
        self.look();
        self
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
