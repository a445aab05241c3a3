//! The broker under test, as a child process.
//!
//! Owns the process and ends it; leaves the data directory to the test. Its port is chosen by the
//! system anew at each start, so a client must never keep one across a restart.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::PATIENCE;
use super::stomp::Stomp;

/// Where tests listen: at a port that the system chooses.
pub(crate) const ANY_PORT: &str = "stomp://127.0.0.1:0";

/// The binary that Cargo built for this test run.
pub(crate) fn escrowmq() -> Command {
    Command::new(env!("CARGO_BIN_EXE_escrowmq"))
}

/// Runs the binary to its end, with what it printed.
///
/// # Panics
/// When it does not end within [`PATIENCE`]: a command that should have refused is serving.
#[track_caller]
pub(crate) fn run_to_end<A: AsRef<std::ffi::OsStr>>(args: &[A]) -> Output {
    let mut command = escrowmq();
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("start the binary");
    let pid = Pid::from_child(&child);
    let (done, end) = mpsc::channel();
    std::thread::spawn(move || done.send(child.wait_with_output()));
    match end.recv_timeout(PATIENCE) {
        Ok(output) => output.expect("the output of the binary"),
        Err(_) => {
            let _ = kill_process(pid, Signal::KILL);
            let output = end.recv().expect("the binary was killed").expect("its output");
            panic!("did not end by itself within {PATIENCE:?}: {output:?}");
        }
    }
}

/// Checks a store that no broker uses with the broker's own tool.
///
/// # Panics
/// With what the tool says, when it finds damage.
#[track_caller]
pub(crate) fn assert_no_damage(data: &Path) {
    let verify = run_to_end(&["store".as_ref(), "verify".as_ref(), data.as_os_str()]);
    assert!(verify.status.success() && said(&verify).contains("no damage"), "{verify:?}");
}

/// # Panics
/// When a command told of a bug instead of a reason.
#[track_caller]
pub(crate) fn assert_no_panic(said: &str) {
    assert!(!said.contains("panicked"), "a bug's words instead of a reason: {said}");
}

/// All that a command printed, to look for words in.
pub(crate) fn said(output: &Output) -> String {
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{out}{err}")
}

/// A running broker. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Broker {
    child: Child,
    ports: Vec<u16>,
    metrics: Option<u16>,
    data: PathBuf,
    log: PathBuf,
}

/// A broker that was started and has not yet said that it is ready.
#[derive(Debug)]
pub(crate) struct Starting {
    child: Child,
    lines: Receiver<String>,
    data: PathBuf,
    log: PathBuf,
}

impl Broker {
    /// Starts a broker on `data` and waits until it is ready.
    ///
    /// # Panics
    /// With the broker's log, when it does not become ready.
    #[track_caller]
    pub(crate) fn start(data: &Path) -> Self {
        Self::spawn(data, &data.with_extension("log")).wait_ready()
    }

    /// Starts a broker with a configuration file of these settings and waits until it serves.
    #[track_caller]
    pub(crate) fn start_configured(data: &Path, settings: &str) -> Self {
        let file = data.with_extension("toml");
        std::fs::write(&file, settings).expect("write the configuration");
        let file = file.to_str().expect("a UTF-8 path");
        Self::start_with(data, &["--config", file, "--listen", ANY_PORT])
    }

    /// Starts a broker with options beside `--data` and waits until it serves. They must say where
    /// to listen, and only at ports that the system chooses.
    #[track_caller]
    pub(crate) fn start_with(data: &Path, options: &[&str]) -> Self {
        Self::spawn_with(data, &data.with_extension("log"), options).wait_ready()
    }

    /// Starts a broker without waiting. What it logs is added to the file `log`.
    pub(crate) fn spawn(data: &Path, log: &Path) -> Starting {
        Self::spawn_with(data, log, &["--listen", ANY_PORT])
    }

    fn spawn_with(data: &Path, log: &Path, options: &[&str]) -> Starting {
        let stderr = File::options().create(true).append(true).open(log).expect("the log file");
        let mut command = escrowmq();
        command.arg("run").arg("--data").arg(data).args(options);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().expect("start the broker");
        let stdout = child.stdout.take().expect("piped");
        let (sender, lines) = mpsc::channel();
        // Reads on to the end, so that the broker never blocks on a full pipe.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Starting { child, lines, data: data.to_owned(), log: log.to_owned() }
    }

    /// The port of its first listener.
    pub(crate) fn port(&self) -> u16 {
        self.ports[0]
    }

    /// The port of each listener, in the order in which it named them.
    pub(crate) fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// The port of its metrics.
    #[track_caller]
    pub(crate) fn metrics_port(&self) -> u16 {
        self.metrics.expect("a line `metrics on http://HOST:PORT/metrics` before `ready`")
    }

    pub(crate) fn find_metrics_port(&self) -> Option<u16> {
        self.metrics
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// A connected STOMP 1.2 client.
    #[track_caller]
    pub(crate) fn connect(&self) -> Stomp {
        Stomp::connect(self.port(), "1.2").expect("connect")
    }

    /// Ends the broker as a crash of the process does, and gives back its directory.
    pub(crate) fn kill(mut self) -> PathBuf {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("the killed process");
        self.data.clone()
    }

    /// Asks the broker to end and waits until it has.
    ///
    /// # Panics
    /// When it takes longer than [`PATIENCE`].
    #[track_caller]
    pub(crate) fn terminate(self) -> ExitStatus {
        self.end_by(Signal::TERM)
    }

    /// Sends the broker a signal and waits until it has ended.
    ///
    /// # Panics
    /// When it takes longer than [`PATIENCE`].
    #[track_caller]
    pub(crate) fn end_by(mut self, signal: Signal) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), signal).expect("send a signal");
        self.wait_exit()
    }

    /// Waits until the broker ends by itself.
    ///
    /// # Panics
    /// When it does not within [`PATIENCE`].
    #[track_caller]
    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait for the broker") {
                return status;
            }
            assert!(Instant::now() < deadline, "the broker did not end within {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Whether the process has not ended.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("look at the broker").is_none()
    }

    /// Kills the broker and starts it again on the same directory.
    #[track_caller]
    pub(crate) fn kill_and_restart(self) -> Self {
        Self::start(&self.kill())
    }

    /// Kills the broker and starts it again on the same directory, with these options.
    #[track_caller]
    pub(crate) fn kill_and_restart_with(self, options: &[&str]) -> Self {
        Self::start_with(&self.kill(), options)
    }

    /// Ends the broker cleanly and starts it again on the same directory.
    #[track_caller]
    pub(crate) fn terminate_and_restart(self) -> Self {
        let data = self.data.clone();
        let status = self.terminate();
        assert!(status.success(), "a clean end: {status}");
        Self::start(&data)
    }

    /// Resident memory in bytes, as Linux counts it.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// Memory that it has for itself alone, in bytes: not what it maps of files.
    pub(crate) fn anonymous_bytes(&self) -> u64 {
        self.status_bytes("RssAnon:")
    }

    /// The most resident memory since the last [`Broker::forget_peak`].
    pub(crate) fn peak_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// From now on another peak counts.
    pub(crate) fn forget_peak(&self) {
        let path = format!("/proc/{}/clear_refs", self.child.id());
        std::fs::write(path, "5").expect("the peak of the broker's memory is forgotten");
    }

    fn status_bytes(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(&path).expect("the status of the broker");
        let line = status.lines().find(|line| line.starts_with(name)).expect(name);
        let kib = line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok());
        kib.expect("a number of kB") * 1024
    }

    /// What `escrowmq queue` says when it is asked of this broker: `args` are the command and
    /// what stands behind `--data`.
    #[track_caller]
    pub(crate) fn queue_command(&self, args: &[&str]) -> Output {
        self.command(&[&["queue"], args].concat())
    }

    /// What a command of two words says of this broker, like `dlq list`; the rest follows.
    #[track_caller]
    pub(crate) fn command(&self, args: &[&str]) -> Output {
        let data = self.data.to_str().expect("a UTF-8 path");
        run_to_end(&[&args[..2], &["--data", data], &args[2..]].concat())
    }

    /// The table of `queue list` without its head: name, depth, consumers.
    #[track_caller]
    pub(crate) fn queues(&self) -> Vec<(String, u64, u64)> {
        let list = self.queue_command(&["list"]);
        assert!(list.status.success(), "{list:?}");
        let text = String::from_utf8(list.stdout).expect("UTF-8");
        let mut lines = text.lines();
        let head = lines.next().unwrap_or_default();
        assert_eq!(head.split_whitespace().collect::<Vec<_>>(), ["NAME", "DEPTH", "CONSUMERS"]);
        let last_number = |line: &str| {
            let (rest, number) = line.rsplit_once(' ').expect("columns");
            (rest.trim_end().to_owned(), number.parse().expect("a number"))
        };
        let row = |line: &str| {
            let (rest, consumers) = last_number(line);
            let (name, depth) = last_number(&rest);
            (name, depth, consumers)
        };
        lines.map(row).collect()
    }

    /// What the broker has logged since the directory's first start.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the broker's log ends:\n{}---", tail(&self.log));
        }
    }
}

impl Starting {
    /// Waits until the broker says `ready`.
    ///
    /// # Panics
    /// With the broker's log, when it ends before or takes longer than [`PATIENCE`].
    #[track_caller]
    pub(crate) fn wait_ready(mut self) -> Broker {
        let deadline = Instant::now() + PATIENCE;
        let (mut ports, mut metrics) = (Vec::new(), None);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = match self.lines.recv_timeout(left) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    let _ = self.child.kill();
                    panic!("not ready within {PATIENCE:?}; its log ends:\n{}", tail(&self.log));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait().expect("wait for the broker");
                    panic!("ended before ready: {status}; its log ends:\n{}", tail(&self.log));
                }
            };
            if let Some(address) =
                line.strip_prefix("listening on ").and_then(|url| Some(url.split_once("://")?.1))
            {
                let port = address.rsplit(':').next().and_then(|port| port.parse().ok());
                ports.push(port.expect("a port behind the last colon"));
            }
            if let Some(address) = line.strip_prefix("metrics on http://") {
                let port = address.trim_end_matches("/metrics").rsplit(':').next();
                metrics = port.and_then(|port| port.parse().ok());
            }
            if line == "ready" {
                let named = "a line `listening on SCHEME://HOST:PORT` before `ready`";
                assert!(!ports.is_empty(), "{named}");
                let Self { child, data, log, .. } = self;
                return Broker { child, ports, metrics, data, log };
            }
        }
    }

    /// Kills the broker wherever in its start it is.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("the killed process");
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n") + "\n"
}
