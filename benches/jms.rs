//! EscrowMQ against ActiveMQ, by ActiveMQ's own client for Java, with the same durability: what is
//! confirmed is synced. One virtual machine is the client of both, in turns.
//!
//! Needs `.ci/run peers`.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout};
use std::time::Duration;

use support::cpu::{CpuTimes, process_time};
use support::disk::BareDisk;
use support::process::java::{Classic, compile, java};
use support::process::{broker::Broker, fresh_dir};
use support::report::{Goal, Series, figures, headline, hold_all};
use support::{BODY_BYTES, Size, wait_for_room_ahead};

/// What is compared: its name, the kind of work and how many clients do it (see `Load.java`), and
/// how many times as fast it should be.
const LOADS: &[(&str, &str, usize, f64)] = &[
    ("persistent sends of 100 clients", "send", 100, 5.0),
    ("persistent sends of 1 client", "send", 1, 2.0),
    ("transactions of 16 sessions", "transaction", 16, 5.0),
    ("branches of 16 sessions", "branch", 16, 3.0),
    ("non-persistent, 1 to 1", "relay", 1, 2.0),
];

fn main() {
    let Some(size) = Size::asked("jms") else { return };
    let dir = fresh_dir();
    let broker = Broker::start_with(&dir.path().join("data"), &["--listen", "tcp://127.0.0.1:0"]);
    let classic = Classic::start(&dir.path().join("classic"), 0, &[]);
    let mut disk = BareDisk::new(dir.path(), size.disk_bytes, BODY_BYTES);
    wait_for_room_ahead(broker.data());
    let mut load = Load::start();
    let client = load.child.id();
    let mut goals = Vec::new();
    headline("jms: EscrowMQ against ActiveMQ, same client, the confirmed is synced", size.rounds);
    for &(name, kind, clients, least) in LOADS {
        let mut work = |port, turn| load.turn(kind, clients, port, turn);
        // Virtual machines are slow until they have compiled what is hot.
        if size.is_full() {
            work(classic.port(), 2 * size.turn);
            work(broker.port(), 2 * size.turn);
        }
        let (mut theirs, mut ours) = (Side::default(), Side::default());
        let (mut cpu, mut clients_own) = (CpuTimes::default(), Duration::ZERO);
        let (mut bare, mut asked_of_one) = (Series::default(), Series::default());
        for _ in 0..size.rounds {
            let their_rate = theirs.round(|| work(classic.port(), size.turn));
            let before = (CpuTimes::of(broker.pid()), process_time(client));
            ours.round(|| work(broker.port(), size.turn));
            cpu.add(&CpuTimes::of(broker.pid()).since(&before.0));
            clients_own += process_time(client).saturating_sub(before.1);
            let bare_rate = bare_rate(&mut disk, size.operations);
            bare.push(bare_rate);
            asked_of_one.push((least * their_rate).min(0.6 * bare_rate));
        }
        figures(&format!("ActiveMQ: {name}"), "/s", &theirs.rate);
        figures(&format!("EscrowMQ: {name}"), "/s", &ours.rate);
        cpu.print("EscrowMQ", ours.done);
        print_ceiling(clients_own, ours.done);
        let ratio = ours.rate.per(&theirs.rate);
        if clients == 1 && kind == "send" {
            // It waits for the disk most of the time, and no broker makes a disk faster.
            figures("bare write and fdatasync", "/s", &bare);
            figures(name, "ratio", &ratio);
            let what = "1 client, of the lesser of 2 ActiveMQ and 0.6 bare";
            goals.push((what, "ratio", ours.rate.per(&asked_of_one), Goal::AtLeast(1.0)));
        } else {
            goals.push((name, "ratio", ratio, Goal::AtLeast(least)));
        }
    }
    hold_all(&goals);
}

/// What the client itself takes, which no broker can take from it.
fn print_ceiling(clients_own: Duration, done: usize) {
    let micros = clients_own.as_secs_f64() * 1e6 / done as f64;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let most = processors as f64 * 1e6 / micros;
    figures("the client", "us of processor a message", &Series::of(micros));
    figures("with a broker that takes none, at most", "/s", &Series::of(most));
}

/// How many blocks are written and synced in a second, one after the other.
fn bare_rate(disk: &mut BareDisk, operations: usize) -> f64 {
    let elapsed: Duration = (0..operations).map(|_| disk.write_and_sync()).sum();
    operations as f64 / elapsed.as_secs_f64()
}

/// One broker's side of a comparison.
#[derive(Debug, Default)]
struct Side {
    rate: Series,
    done: usize,
}

impl Side {
    /// One turn; gives back its rate.
    fn round(&mut self, work: impl FnOnce() -> (usize, Duration)) -> f64 {
        let (done, elapsed) = work();
        self.done += done;
        let rate = done as f64 / elapsed.as_secs_f64();
        self.rate.push(rate);
        rate
    }
}

/// The virtual machine of the clients.
#[derive(Debug)]
struct Load {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Load {
    fn start() -> Self {
        let classes = compile(&["javax"], "javax", |name| name == "Load");
        let mut child = java(&["javax"], &classes).arg("Load").spawn().expect("missing peer: java");
        let asks = child.stdin.take().expect("piped");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, asks, answers }
    }

    /// Works at the broker there for so long: how many were done, and in which time.
    fn turn(&mut self, kind: &str, clients: usize, port: u16, turn: Duration) -> (usize, Duration) {
        let millis = turn.as_millis();
        writeln!(self.asks, "{kind} {clients} tcp://127.0.0.1:{port} {millis}").expect("ask");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("an answer");
        let (done, nanos) = line.trim().split_once(' ').expect("two numbers, or it failed");
        let nanos = nanos.parse().expect("nanoseconds");
        (done.parse().expect("a number"), Duration::from_nanos(nanos))
    }
}
