//! Every benchmark at a small size, so that none rots: whether they run, not how fast.
//!
//! Built as one program, because one for each takes longer to build than to run. Each still runs in
//! a process of its own, as it does for `cargo bench`: some end theirs, or measure its memory.

#![allow(clippy::duplicate_mod, reason = "each benchmark is a program of its own as well")]

#[path = "../benches/backlog.rs"]
mod backlog;
#[path = "../benches/branches.rs"]
mod branches;
#[path = "../benches/checkpoint.rs"]
mod checkpoint;
#[path = "../benches/commits.rs"]
mod commits;
#[path = "../benches/decide_apply.rs"]
mod decide_apply;
#[path = "../benches/engine_log.rs"]
mod engine_log;
#[path = "../benches/lives.rs"]
mod lives;
#[path = "../benches/numbered.rs"]
mod numbered;
#[path = "../benches/producers.rs"]
mod producers;
#[path = "../benches/queues.rs"]
mod queues;
#[path = "../benches/scheduled.rs"]
mod scheduled;
#[path = "../benches/space.rs"]
mod space;
#[path = "../benches/sync_latency.rs"]
mod sync_latency;
#[path = "../benches/turns.rs"]
mod turns;

use std::collections::VecDeque;
use std::process::{Child, Command, ExitCode, Stdio};

/// Which benchmark a process is to run; what it starts inherits that.
const BENCH: &str = "ESCROW_BENCH";

/// `jms` is not among them: it needs what `.ci/run peers` brings.
const BENCHES: [(&str, fn()); 14] = [
    ("backlog", backlog::main),
    ("branches", branches::main),
    ("checkpoint", checkpoint::main),
    ("commits", commits::main),
    ("decide_apply", decide_apply::main),
    ("engine_log", engine_log::main),
    ("lives", lives::main),
    ("numbered", numbered::main),
    ("producers", producers::main),
    ("queues", queues::main),
    ("scheduled", scheduled::main),
    ("space", space::main),
    ("sync_latency", sync_latency::main),
    ("turns", turns::main),
];

/// They wait for the disk more than they compute.
const AT_ONCE: usize = 4;

fn main() -> ExitCode {
    if let Ok(name) = std::env::var(BENCH) {
        let (_, run) = BENCHES.iter().find(|(known, _)| *known == name).expect("a benchmark");
        run();
        return ExitCode::SUCCESS;
    }
    let mut waiting = BENCHES.map(|(name, _)| name).into_iter().filter(|name| is_asked(name));
    let mut running: VecDeque<_> = waiting.by_ref().take(AT_ONCE).map(start).collect();
    let mut all_work = true;
    while let Some((name, child)) = running.pop_front() {
        all_work &= works(name, child);
        running.extend(waiting.next().map(start));
    }
    if all_work { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether the words on the command line, if there are any, mean this benchmark.
fn is_asked(name: &str) -> bool {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with('-')).peekable();
    words.peek().is_none() || words.any(|word| name.contains(&word))
}

fn start(name: &'static str) -> (&'static str, Child) {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command.env(BENCH, name).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    (name, command.spawn().expect("a process"))
}

fn works(name: &str, child: Child) -> bool {
    let output = child.wait_with_output().expect("its end");
    let works = output.status.success();
    println!("benchmark {name} ... {}", if works { "ok" } else { "FAILED" });
    if !works {
        print!("{}", String::from_utf8_lossy(&output.stdout));
        print!("{}", String::from_utf8_lossy(&output.stderr));
    }
    works
}
