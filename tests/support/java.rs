//! Java: the peers' jars, our programs in `tests/interop/java`, and ActiveMQ itself.
//!
//! Always: what is started here ends with its standard input, so with whoever started it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;

/// Where `.ci/run peers` has put other makers' programs.
pub(crate) fn peers() -> PathBuf {
    let other = std::env::var_os("ESCROW_PEERS");
    other.map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/ci"), PathBuf::from)
}

/// ActiveMQ, with the same durability as EscrowMQ. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Classic {
    child: Child,
    _stdin: ChildStdin,
    port: u16,
}

impl Classic {
    /// Starts it on `data`, at a port that the system chooses where it is 0. Among the options is
    /// `prioritized`.
    #[track_caller]
    pub(crate) fn start(data: &Path, port: u16, options: &[&str]) -> Self {
        static CLASSES: OnceLock<PathBuf> = OnceLock::new();
        let classes =
            CLASSES.get_or_init(|| compile(&["classic"], "javax", |name| name == "Classic"));
        let mut command = java(&["classic"], classes);
        command.arg("Classic").arg(data).arg(port.to_string()).args(options);
        let mut child = command.spawn().expect("missing peer: java");
        let stdin = child.stdin.take().expect("piped");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = lines.next().expect("a line").expect("UTF-8");
        let port = line.rsplit(':').next().and_then(|port| port.parse().ok());
        assert_eq!(lines.next().expect("a second line").expect("UTF-8"), "ready");
        Self { child, _stdin: stdin, port: port.expect("a port behind the last colon") }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Classic {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A virtual machine with the jars of these folders and our classes, to be told what to run.
pub(crate) fn java(jars: &[&str], classes: &Path) -> Command {
    let mut command = Command::new("java");
    command.args(["-Xmx1g", "-cp", &class_path(jars, Some(classes))]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

fn class_path(jars: &[&str], classes: Option<&Path>) -> String {
    let mut path: Vec<String> = classes.iter().map(|dir| dir.display().to_string()).collect();
    for name in jars {
        let folder = peers().join("java").join(name);
        assert!(folder.exists(), "missing peer: {name} (run .ci/run peers)");
        path.push(folder.join("*").display().to_string());
    }
    path.join(":")
}

/// Compiles the classes that are `wanted` against the jars of these folders, with the interfaces of
/// this package, and gives back where the classes are.
pub(crate) fn compile(jars: &[&str], package: &str, wanted: fn(&str) -> bool) -> PathBuf {
    let work = Path::new(env!("CARGO_TARGET_TMPDIR")).join("java").join(jars.concat());
    let (sources, classes) = (work.join("sources"), work.join("classes"));
    for dir in [&sources, &classes] {
        let _ = std::fs::remove_dir_all(dir);
        std::fs::create_dir_all(dir).expect("a directory of the build");
    }
    let mut command = Command::new("javac");
    command.args(["-nowarn", "-d"]).arg(&classes).args(["-cp", &class_path(jars, None)]);
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/java");
    for entry in std::fs::read_dir(&own).expect("the folder of the sources") {
        let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        if !name.strip_suffix(".java").is_some_and(wanted) {
            continue;
        }
        // The one difference between the lines.
        let source = std::fs::read_to_string(own.join(&name)).expect("a source");
        let source = source.replace("javax.jms.", &format!("{package}.jms."));
        std::fs::write(sources.join(&name), source).expect("write a source");
        command.arg(sources.join(&name));
    }
    let output = command.output().expect("missing peer: javac");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    classes
}
