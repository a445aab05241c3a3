//! Money that is never lost: amounts move from a queue to a table and on to another queue, under a
//! transaction manager, while the broker, the database and the manager are killed at random. At the
//! end each amount is in exactly one place, and nothing was set apart.
//!
//! The managers are Narayana and Bitronix, each in a test of its own, the database PostgreSQL, the
//! programs are in `Money.java` and beside it. Long, and with other choices:
//! `ESCROW_MONEY_KILLS=500 ESCROW_SEED=7` in front of
//! `cargo test --release --features interop --test interop money -- --nocapture`, or in place of
//! `money` the name of one test.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver};
use std::time::Instant;

use super::jms::Server;
use super::support::java::{compile, java};
use super::support::random::{Random, number_from_env};
use super::support::{PATIENCE, fresh_dir, wait_until};

/// More than can be moved before each kill, so that something is always on its way.
const AMOUNTS_A_KILL: u64 = 100;

#[test]
fn money_is_never_lost_with_narayana() {
    money_is_never_lost("Narayana");
}

#[test]
fn money_is_never_lost_with_bitronix() {
    money_is_never_lost("Bitronix");
}

fn money_is_never_lost(manager: &'static str) {
    let kills = number_from_env("ESCROW_MONEY_KILLS").unwrap_or(3);
    let mut random = Random::from_env();
    let mut bank = Bank::open(manager, AMOUNTS_A_KILL * (kills + 1));
    bank.run("fill");
    let mut mover = Mover::start(&bank);
    for kill in 0..kills {
        // What is killed is in the middle of something: after some moves, and a little.
        mover.wait_for_moves(random.below(40));
        std::thread::sleep(std::time::Duration::from_micros(random.below(20_000)));
        // Each once in a small run.
        match if kill < 3 { kill } else { random.below(3) } {
            0 => {
                bank.broker.kill();
                bank.broker.start_again();
            }
            1 => bank.database.kill_and_restart(),
            _ => {
                drop(mover);
                mover = Mover::start(&bank);
            }
        }
    }
    mover.wait_for_moves(1);
    drop(mover);
    let settled = bank.run("settle");
    let said = String::from_utf8_lossy(&settled.stdout);
    println!("{manager}, {kills} kills: {said}");
    assert!(said.contains("every amount is in one place"), "{settled:?}");
}

/// The resources, and the program that uses them.
#[derive(Debug)]
struct Bank {
    /// The name of the class that says how the transaction manager is used.
    manager: &'static str,
    amounts: u64,
    broker: Server,
    database: Postgres,
    classes: PathBuf,
    logs: tempfile::TempDir,
}

impl Bank {
    fn open(manager: &'static str, amounts: u64) -> Self {
        static CLASSES: OnceLock<PathBuf> = OnceLock::new();
        let classes = CLASSES.get_or_init(|| compile(&JARS, "javax", is_of_money));
        let (broker, database) = (Server::start(), Postgres::start());
        let (classes, logs) = (classes.clone(), fresh_dir());
        Self { manager, amounts, broker, database, classes, logs }
    }

    fn program(&self, what: &str) -> Command {
        let mut command = java(&JARS, &self.classes);
        command.args(["Money", what, self.manager]).arg(self.logs.path()).arg(self.broker.url());
        command.arg(self.database.url()).arg(self.amounts.to_string()).stderr(Stdio::piped());
        command
    }

    #[track_caller]
    fn run(&self, what: &str) -> Output {
        let output = self.program(what).output().expect("missing peer: java");
        assert!(output.status.success(), "{what}: {output:?}");
        output
    }
}

const JARS: [&str; 2] = ["javax", "manager"];

/// Whether a class in the folder of the programs is of this story: it needs the managers' jars.
pub(super) fn is_of_money(class: &str) -> bool {
    ["Bitronix", "Manager", "Money", "Narayana", "Resource"].contains(&class)
}

/// The transaction manager at work. Dropped, it is killed.
#[derive(Debug)]
struct Mover {
    child: Child,
    lines: Receiver<String>,
}

impl Mover {
    fn start(bank: &Bank) -> Self {
        let mut command = bank.program("move");
        let mut child = command.stderr(Stdio::null()).spawn().expect("missing peer: java");
        let stdout = child.stdout.take().expect("piped");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, lines }
    }

    /// Waits until so many more moves are done, whatever fails in between.
    #[track_caller]
    fn wait_for_moves(&self, moves: u64) {
        // Those that were done before are no news.
        while self.lines.try_recv().is_ok() {}
        let (mut left, mut since, mut failures) = (moves, Instant::now(), Vec::new());
        while left > 0 {
            let patience = (2 * PATIENCE).saturating_sub(since.elapsed());
            match self.lines.recv_timeout(patience).ok().filter(|_| !patience.is_zero()) {
                Some(line) if line == "moved" => (left, since) = (left - 1, Instant::now()),
                Some(line) if failures.last() != Some(&line) => failures.push(line),
                Some(_) => {}
                None => panic!("no money moves any more: {failures:?}"),
            }
        }
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A database server of its own. Dropped, it is killed.
#[derive(Debug)]
struct Postgres {
    child: Child,
    programs: PathBuf,
    dir: tempfile::TempDir,
    port: u16,
}

impl Postgres {
    fn start() -> Self {
        let programs = programs();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let data = dir.path().join("data");
        std::fs::create_dir(&data).expect("the directory of the database");
        if let Some((user, group)) = other_user() {
            // It does not run as root, and must come through to its directory.
            std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("chmod");
            chown(&data, Some(user), Some(group)).expect("chown");
        }
        let mut make = as_other_user(&programs.join("initdb"));
        make.args(["--no-sync", "--auth=trust", "--username=money", "-D"]).arg(&data);
        let made = make.output().expect("missing peer: PostgreSQL");
        assert!(made.status.success(), "{made:?}");
        // Free now, and so quickly asked for that it still is.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let port = free.expect("a port").port();
        let child = Self::spawn(&programs, &data, port);
        Self { child, programs, dir, port }
    }

    fn spawn(programs: &Path, data: &Path, port: u16) -> Child {
        let mut command = as_other_user(&programs.join("postgres"));
        command.arg("-D").arg(data).args(["-p", &port.to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "max_prepared_transactions=50",
        ] {
            command.args(["-c", setting]);
        }
        let log = File::options().create(true).append(true).open(data.with_extension("log"));
        command.stdout(Stdio::null()).stderr(log.expect("the log of the database"));
        let child = command.spawn().expect("missing peer: PostgreSQL");
        let mut ask = Command::new(programs.join("pg_isready"));
        ask.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]);
        wait_until("PostgreSQL serves", || ask.status().is_ok_and(|status| status.success()));
        child
    }

    fn url(&self) -> String {
        format!("jdbc:postgresql://127.0.0.1:{}/postgres?user=money", self.port)
    }

    /// Its own processes end with the first of them, and only then can it start again.
    fn kill_and_restart(&mut self) {
        self.kill();
        let data = self.dir.path().join("data");
        self.child = Self::spawn(&self.programs, &data, self.port);
    }

    /// SIGQUIT has it fall at once, without a checkpoint, and take its processes with it.
    fn kill(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        let _ = self.child.wait();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.path().join("data.log"));
            eprintln!("--- the database's log:\n{}---", log.unwrap_or_default());
        }
    }
}

/// Where Debian has put the newest server's programs.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let programs = versions.map(|version| version.path().join("bin"));
    let newest = programs.filter(|dir| dir.join("postgres").exists()).max();
    newest.expect("missing peer: PostgreSQL (run .ci/run peers)")
}

/// Whom Debian has made to run it, where we are root.
fn other_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").expect("the users");
    let user = users.lines().find(|line| line.starts_with("postgres:")).expect("user postgres");
    let mut numbers = user.split(':').skip(2).map(|id| id.parse().expect("a number"));
    Some((numbers.next()?, numbers.next()?))
}

fn as_other_user(program: &Path) -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(program);
    if let Some((user, group)) = other_user() {
        command.uid(user).gid(group);
    }
    command
}
