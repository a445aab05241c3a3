//! What the benchmarks share: sizes, rounds, the report, a bare disk to compare with, a crowd of
//! light clients, and where the broker's processor time goes.
//!
//! Always: what is compared is measured in turns within one run, so that a noisy neighbour or a
//! slow disk meets both sides; only ratios are worth comparing between machines.

#![allow(dead_code, reason = "every benchmark includes this module and uses a part of it")]

pub(crate) mod bulk;
pub(crate) mod cpu;
pub(crate) mod crowd;
pub(crate) mod disk;
pub(crate) mod engine;
pub(crate) mod log;
pub(crate) mod memory;
pub(crate) mod peer;
#[path = "../../tests/support/mod.rs"]
pub(crate) mod process;
pub(crate) mod report;

use std::path::Path;
use std::time::Duration;

/// Bytes of a message's body.
pub(crate) const BODY_BYTES: usize = 1024;

/// How much a run measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// Turns that each side gets.
    pub(crate) rounds: usize,
    /// How long one turn of one side lasts, where it is measured by time.
    pub(crate) turn: Duration,
    /// How many operations one turn has, where it is measured by count.
    pub(crate) operations: usize,
    /// Bytes of the file that the bare disk writes round and round: for figures, larger than any
    /// cache that a disk shows for small files.
    pub(crate) disk_bytes: u64,
}

impl Size {
    /// For figures.
    const FULL: Self =
        Self { rounds: 9, turn: Duration::from_secs(2), operations: 400, disk_bytes: 256 << 20 };

    /// Only to see that the benchmark still works: its figures mean nothing.
    const SMALL: Self =
        Self { rounds: 1, turn: Duration::from_millis(50), operations: 20, disk_bytes: 8 << 20 };

    /// The size asked for: `cargo bench` says `--bench`, `cargo test` does not. `None` where a
    /// filter on the command line means other targets.
    pub(crate) fn asked(bench: &str) -> Option<Self> {
        let args: Vec<String> = std::env::args().skip(1).collect();
        let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
        if !filters.is_empty() && !filters.iter().any(|filter| bench.contains(*filter)) {
            return None;
        }
        let full = args.iter().any(|arg| arg == "--bench");
        Some(if full { Self::FULL } else { Self::SMALL })
    }

    /// Whether the figures are meant to be read.
    pub(crate) fn is_full(self) -> bool {
        self == Self::FULL
    }
}

/// Waits until a broker that has just started has made the log segments it keeps ahead: making
/// them fills 128 MiB with zeros, which is over once and no part of any measurement.
pub(crate) fn wait_for_room_ahead(data: &Path) {
    let segments = || {
        let entries = std::fs::read_dir(data).expect("the data directory");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        names.filter(|name| name.to_string_lossy().starts_with("wal-")).count()
    };
    process::wait_until("three log segments are there", || segments() >= 3);
}
