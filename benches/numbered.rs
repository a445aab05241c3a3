//! What very many producers that count cost whoever starts the broker again.
//!
//! Each store is made by one process and opened by others, so that the memory of one is not taken
//! for that of another; they run this program with `ESCROW_PART`. A: messages, sent by nobody in
//! particular. B: as many, each by a producer of its own. Every store is killed, not stopped, after
//! a checkpoint, so that each opening finds the producers of an earlier life. The first answer is
//! to somebody who does not count, or to one who does. Memory is looked at when all producers are
//! known. The next opening reads what the one before has made, the empty segments ahead of its log
//! too, so each lives on until it makes no more: how long it lived would be measured otherwise.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command as Process;
use std::time::{Duration, Instant};

use escrowmq::broker::command::{Command, Confirm, Once, Output, Request};
use escrowmq::engine::{Connection, Running, Settings};
use escrowmq::identity::{Identity, Numbered};
use support::engine::{open, send};
use support::memory::anonymous;
use support::process::fresh_dir;
use support::report::{Goal, Series, figures, headline, hold_all};
use support::{Size, wait_for_room_ahead};

const COUNT: u64 = 100_000;

pub(crate) fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    if let Ok(part) = std::env::var("ESCROW_PART") {
        let words: Vec<_> = part.splitn(3, ' ').collect();
        let count = words[1].parse().expect("a number");
        return runtime.block_on(play(words[0], count, Path::new(words[2])));
    }
    let Some(size) = Size::asked("numbered") else { return };
    let count = if size.is_full() { COUNT } else { 1000 };
    let dir = fresh_dir();
    let parts = ["plain", "numbered"];
    for part in parts {
        run(part, count, &dir.path().join(part));
    }
    let mut opened = [const { [Series::EMPTY; 3] }; 2];
    // Whoever counts leaves something in the log of which the next start must know, so that comes
    // behind the others.
    for (way, figure) in [("open", 0), ("count", 1)] {
        for _ in 0..size.rounds {
            for (part, series) in parts.iter().zip(&mut opened) {
                let figures = run(way, count, &dir.path().join(part));
                series[figure].push(figures[0]);
                series[2].push(figures[1]);
            }
        }
    }
    headline(&format!("numbered: {count} producers that count"), size.rounds);
    for (part, [first, counting, memory]) in ["A", "B"].iter().zip(&opened) {
        figures(&format!("{part}: open, to the first answer"), "ms", first);
        figures(&format!("{part}: open, to the first that counts"), "ms", counting);
        figures(&format!("{part}: memory"), "MiB", memory);
    }
    let [[a, a_counting, a_memory], [b, b_counting, b_memory]] = opened;
    let more = Series::of(b_memory.median() - a_memory.median());
    hold_all(&[
        ("B / A, open", "ratio", b.per(&a), Goal::AtMost(1.2)),
        ("B / A, open, counting", "ratio", b_counting.per(&a_counting), Goal::AtMost(1.2)),
        ("B - A, memory", "MiB", more, Goal::AtMost(64.0)),
    ]);
}

/// Plays a part in a process of its own; the figures it prints.
fn run(part: &str, count: u64, dir: &Path) -> Vec<f64> {
    let program = std::env::current_exe().expect("this program");
    let part = format!("{part} {count} {}", dir.display());
    let output = Process::new(program).env("ESCROW_PART", &part).output().expect("a process");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{part}: {text} {errors}");
    text.split_whitespace().map_while(|word| word.parse().ok()).collect()
}

async fn play(part: &str, count: u64, dir: &Path) {
    // What has come into being is checkpointed soon.
    let settings = Settings { checkpoint_millis: 200, ..Settings::default() };
    let began = Instant::now();
    let running = open(dir, &settings);
    let mut connection = running.handle().connect().expect("a connection");
    if ["open", "count"].contains(&part) {
        let first = match part {
            "open" => send("another"),
            // Nobody has counted under this name so far.
            _ => numbered(count + u64::from(std::process::id())),
        };
        ask(&mut connection, vec![first]).await;
        let millis = began.elapsed().as_secs_f64() * 1e3;
        let expected = if dir.ends_with("numbered") { count } else { 0 };
        wait_for(&running, expected).await;
        println!("{millis} {}", anonymous() / f64::from(1 << 20));
        wait_for_rest(dir);
        std::process::exit(0);
    }
    let numbers: Vec<_> = (1..=count).collect();
    for some in numbers.chunks(500) {
        let requests = some.iter().map(|number| match part {
            "numbered" => numbered(*number),
            _ => send("q"),
        });
        ask(&mut connection, requests.collect()).await;
    }
    wait_for_room_ahead(dir);
    // A few checkpoints later all of it is in the index.
    for _ in 0..4 {
        ask(&mut connection, vec![send("another")]).await;
        std::thread::sleep(Duration::from_millis(600));
    }
    // Killed: it says no goodbye.
    std::process::exit(0);
}

/// Returns when so many producers are in memory.
async fn wait_for(running: &Running, count: u64) {
    let known = async || running.handle().status().await.expect("it runs").totals.producers.known;
    while (known().await as u64) < count {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Returns when the store has made and removed no file for a while.
fn wait_for_rest(dir: &Path) {
    let names = || {
        let entries = std::fs::read_dir(dir).expect("the data directory");
        entries.map(|entry| entry.expect("an entry").file_name()).collect::<BTreeSet<_>>()
    };
    let mut before = BTreeSet::new();
    while before != names() {
        before = names();
        std::thread::sleep(Duration::from_secs(2));
    }
}

/// The first message of the producer of that number.
fn numbered(number: u64) -> Request {
    let (producer, sequence) = (Identity::of(&number.to_le_bytes()), 1);
    let request = send("q");
    let command = Once::numbered(Numbered { producer, sequence }, request.command);
    Request { command: Command::Once(command), ..request }
}

/// Asks for much at once, and waits for the last answer.
async fn ask(connection: &mut Connection, mut requests: Vec<Request>) {
    let (last, others) = requests.split_last_mut().expect("some");
    others.iter_mut().for_each(|request| request.confirm = Confirm::RefusalOnly);
    last.confirm = Confirm::Always;
    connection.submit(requests).await.expect("the engine runs");
    let mut outputs = Vec::new();
    connection.receive(&mut outputs).await.expect("the engine runs");
    assert!(matches!(outputs[..], [Output::Answer { result: Ok(_), .. }]), "{outputs:?}");
}
