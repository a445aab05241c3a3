//! A backlog and ten times the backlog: what it costs in memory, and to come back to.
//!
//! For each of the two sizes a broker is filled by one producer, killed, started, ended cleanly,
//! started again, and drained by one consumer. Compared are the memory of the running broker, the
//! time from its start to the first delivery, the bytes it reads for that, and the rate of the
//! drain, which is also compared, in turns, with that of few messages that lie in memory.
//!
//! `ESCROW_BACKLOG=100000000 ESCROW_BODY=100 cargo bench --bench backlog` fills with a hundred
//! million small messages instead of ten million of 1 KiB (the smaller side is a tenth of it). For
//! sizes that were asked for, all memory together has a goal, and not what ten times as many add;
//! what the drain loses is told and has none.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use support::bulk::{self, Drain};
use support::cpu::CpuTimes;
use support::process::{broker::Broker, fresh_dir};
use support::report::{Goal, Series, figures, headline, hold_all};
use support::{BODY_BYTES, Size};

const QUEUE: &str = "/queue/bench.backlog";
const PREFETCH: usize = 2000;

/// Messages that lie in the broker's memory all the time.
const RESIDENT: usize = 10_000;

/// Of these so many are taken in a turn, bit by bit.
const RESIDENT_TURN: usize = 100_000;

pub(crate) fn main() {
    let Some(size) = Size::asked("backlog") else { return };
    let asked = |name: &str| std::env::var(name).ok().map(|n| n.parse().expect("a number"));
    let special = ["ESCROW_BACKLOG", "ESCROW_BODY"].iter().any(|name| asked(name).is_some());
    let most = asked("ESCROW_BACKLOG").unwrap_or(if size.is_full() { 10_000_000 } else { 5_000 });
    let body = asked("ESCROW_BODY").unwrap_or(BODY_BYTES);
    headline(&format!("backlog: {} and {most} messages of {body} bytes", most / 10), 1);
    let small = Story::live("A", most / 10, body);
    let large = Story::live("B", most, body);
    let one = Series::of;
    let mut goals = if special {
        // Where nearly all of a message is what the broker adds, a drain is worth a figure.
        figures("B: drain / from memory", "ratio", &large.drain);
        vec![("B: memory", "MiB", one(large.memory.all), Goal::AtMost(512.0))]
    } else {
        let more = large.memory.all - small.memory.all;
        vec![
            ("B: memory beyond A's", "MiB", one(more), Goal::AtMost(16.0)),
            ("B: anonymous memory", "MiB", one(large.memory.anonymous), Goal::AtMost(192.0)),
            ("B: drain / from memory", "ratio", large.drain, Goal::AtLeast(0.8)),
        ]
    };
    // After an end next to nothing; after a kill the log since the last checkpoint, however much
    // is queued: how far a checkpoint was behind is chance, and bounded (five times what makes one
    // due).
    let more = large.ended.read - small.ended.read;
    goals.extend([
        ("B: first delivery after a kill", "s", one(large.killed.first), Goal::AtMost(3.0)),
        ("B: first delivery after an end", "s", one(large.ended.first), Goal::AtMost(1.0)),
        ("B: read after an end beyond A's", "MiB", one(more), Goal::AtMost(4.0)),
        ("B: read after a kill", "MiB", one(large.killed.read), Goal::AtMost(688.0)),
    ]);
    hold_all(&goals);
}

/// One backlog, from the first message to the last.
#[derive(Debug)]
struct Story {
    memory: Memory,
    killed: Start,
    ended: Start,
    /// How many times as fast as from memory, in each turn.
    drain: Series,
}

/// The most that a broker had, in MiB.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    all: f64,
    anonymous: f64,
}

/// What it took a broker to come back, until the first delivery.
#[derive(Clone, Copy, Debug)]
struct Start {
    /// Seconds.
    first: f64,
    /// MiB.
    read: f64,
}

impl Story {
    fn live(name: &str, count: usize, body: usize) -> Self {
        let dir = fresh_dir();
        let data = dir.path().join("data");
        let mut broker = Broker::start(&data);
        let (fill, filled) = Memory::during(&broker, |port| bulk::fill(port, QUEUE, count, body));
        broker.kill();
        let (killed, running) = start(&data);
        broker = running;
        assert!(broker.terminate().success(), "a clean end");
        let (ended, running) = start(&data);
        broker = running;
        let mut turns = Turns::default();
        let (drain, ()) = Memory::during(&broker, |_| turns.take(&broker, count, body));
        let per_second = |took: Duration| count as f64 / took.as_secs_f64();
        println!("  {name}: {count} messages");
        let line = |what: &str, unit, value| {
            figures(&format!("{name}: {what}"), unit, &Series::of(value));
        };
        line("filled", "messages/s", per_second(filled));
        line("memory, filling", "MiB", fill.all);
        line("memory, filling, anonymous", "MiB", fill.anonymous);
        line("memory, draining", "MiB", drain.all);
        line("memory, draining, anonymous", "MiB", drain.anonymous);
        line("first delivery after a kill", "s", killed.first);
        line("bytes read for it", "MiB", killed.read);
        line("first delivery after an end", "s", ended.first);
        line("bytes read for it", "MiB", ended.read);
        for (side, what) in [(&turns.backlog, "drained"), (&turns.memory, "from memory")] {
            figures(&format!("{name}: {what}"), "messages/s", &side.rate);
            side.cpu.print(&format!("{name}: {what}"), side.taken);
        }
        let drained = turns.backlog.rate.per(&turns.memory.rate);
        Self { memory: fill.max(drain), killed, ended, drain: drained }
    }
}

fn start(data: &Path) -> (Start, Broker) {
    let began = Instant::now();
    let broker = Broker::start(data);
    Drain::subscribe(broker.port(), QUEUE, 1).first();
    let first = began.elapsed().as_secs_f64();
    (Start { first, read: read_by(&broker) }, broker)
}

/// Turns in which a backlog is drained.
const TURNS: usize = 20;

/// What the turns of a drain came to.
#[derive(Debug, Default)]
struct Turns {
    backlog: Side,
    memory: Side,
}

/// One side of them.
#[derive(Debug, Default)]
struct Side {
    /// Messages a second.
    rate: Series,
    taken: usize,
    cpu: CpuTimes,
}

impl Turns {
    /// Drains `count` messages, and in turns with them few that another broker has in memory.
    fn take(&mut self, broker: &Broker, count: usize, body: usize) {
        let dir = fresh_dir();
        let other = Broker::start(&dir.path().join("data"));
        let mut drain = Drain::subscribe(broker.port(), QUEUE, PREFETCH);
        for turn in 0..TURNS {
            let part = count * (turn + 1) / TURNS - count * turn / TURNS;
            let took = self.backlog.take(broker, &mut drain, part);
            self.backlog.rate.push(part as f64 / took.as_secs_f64());
            let (mut took, mut taken) = (Duration::ZERO, 0);
            let few = part.min(RESIDENT);
            while taken < part.min(RESIDENT_TURN) {
                bulk::fill(other.port(), QUEUE, few, body);
                let mut drain = Drain::subscribe(other.port(), QUEUE, PREFETCH);
                took += self.memory.take(&other, &mut drain, few);
                taken += few;
                drain.end();
            }
            self.memory.rate.push(taken as f64 / took.as_secs_f64());
        }
        drain.end();
    }
}

impl Side {
    fn take(&mut self, broker: &Broker, drain: &mut Drain, count: usize) -> Duration {
        let before = CpuTimes::of(broker.pid());
        let took = drain.take(count);
        self.cpu.add(&CpuTimes::of(broker.pid()).since(&before));
        self.taken += count;
        took
    }
}

impl Memory {
    /// The most a broker has while something is done with it.
    fn during<T: Send>(broker: &Broker, work: impl FnOnce(u16) -> T + Send) -> (Self, T) {
        let port = broker.port();
        std::thread::scope(|scope| {
            let work = scope.spawn(move || work(port));
            let mut most = Self::default();
            while !work.is_finished() {
                most = most.max(Self::of(broker));
                std::thread::sleep(Duration::from_millis(20));
            }
            most = most.max(Self::of(broker));
            (most, work.join().expect("the work"))
        })
    }

    fn of(broker: &Broker) -> Self {
        let path = format!("/proc/{}/status", broker.pid());
        let status = std::fs::read_to_string(path).unwrap_or_default();
        let mib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
            kib.unwrap_or_default() / 1024.0
        };
        Self { all: mib("VmRSS:"), anonymous: mib("RssAnon:") }
    }

    fn max(self, other: Self) -> Self {
        Self { all: self.all.max(other.all), anonymous: self.anonymous.max(other.anonymous) }
    }
}

/// MiB that a broker has read so far, from the disk or from the system's memory.
fn read_by(broker: &Broker) -> f64 {
    let io = std::fs::read_to_string(format!("/proc/{}/io", broker.pid())).unwrap_or_default();
    let read = io.lines().find_map(|line| line.strip_prefix("rchar: "));
    read.and_then(|bytes| bytes.parse::<f64>().ok()).unwrap_or_default() / f64::from(1 << 20)
}
