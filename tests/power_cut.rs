//! The power fails under the real process, again and again, and it must keep every promise.
//!
//! The data lies on an ext4 file system in a loop-mounted image, which is shut down without a
//! flush while clients work: what was not synced is gone, whatever the page cache held. Needs
//! root and a loop device. `ESCROW_POWER_CUTS` sets how often (5 unless told); many:
//!
//! ```text
//! ESCROW_POWER_CUTS=1000 cargo test --features interop --test power_cut -- --nocapture
//! ```

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use support::broker::{Broker, assert_no_damage};
use support::ledger::Ledger;
use support::load::{Clients, Errors, drain};
use support::random::{Random, number_from_env};

#[test]
fn power_cut_under_load_again_and_again_loses_repeats_and_invents_nothing() {
    let cuts = number_from_env("ESCROW_POWER_CUTS").unwrap_or(5);
    let mut random = Random::from_env();
    let dir = support::fresh_dir();
    let log = dir.path().join("log");
    let mut disk = Disk::make(dir.path());
    let ledger = Arc::new(Ledger::default());
    let started = Instant::now();

    for _ in 0..cuts {
        disk.mount();
        let mut broker = Broker::spawn(&disk.data(), &log).wait_ready();
        let clients = Clients::start(&ledger, broker.port(), Errors::Allowed, &mut random);
        let sends = ledger.counts().confirmed + 20 + random.below(500);
        support::wait_until("the clients got work through", || {
            ledger.has_violations() || ledger.counts().confirmed >= sends
        });
        std::thread::sleep(Duration::from_micros(random.below(5_000)));
        disk.cut();
        // A broker that cannot write must not go on: nothing more is confirmed, and it says why.
        let status = broker.wait_exit();
        assert!(!status.success(), "the disk failed and the broker ended with {status}");
        drop(broker);
        clients.join();
        disk.unmount();
        ledger.check();
    }

    disk.mount();
    let broker = Broker::spawn(&disk.data(), &log).wait_ready();
    drain(&ledger, broker.port());
    ledger.check_drained();
    assert!(broker.terminate().success());
    assert_no_damage(&disk.data());
    println!("{cuts} power cuts in {:.1?}: {}", started.elapsed(), ledger.counts());
}

/// An ext4 file system in an image file. Dropped, it is unmounted.
#[derive(Debug)]
struct Disk {
    image: PathBuf,
    mount: PathBuf,
    mounted: bool,
}

impl Disk {
    /// Makes the image and its mount point in `dir`.
    fn make(dir: &Path) -> Self {
        let (image, mount) = (dir.join("disk.img"), dir.join("mount"));
        let file = std::fs::File::create(&image).expect("the image");
        // Sparse: room for several segments and the index, and no more than is written.
        file.set_len(2 << 30).expect("the size of the image");
        std::fs::create_dir(&mount).expect("the mount point");
        run(Command::new("mkfs.ext4").arg("-q").arg("-F").arg(&image));
        Self { image, mount, mounted: false }
    }

    fn data(&self) -> PathBuf {
        self.mount.join("data")
    }

    fn mount(&mut self) {
        run(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.mount));
        self.mounted = true;
    }

    fn unmount(&mut self) {
        run(Command::new("umount").arg(&self.mount));
        self.mounted = false;
    }

    /// From here on nothing reaches the image.
    fn cut(&self) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/cut_power.py");
        run(Command::new("python3").arg(script).arg(&self.mount));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            // Lazily: a failed test may leave the broker's files open for a moment longer.
            let _ = Command::new("umount").arg("-l").arg(&self.mount).status();
        }
    }
}

/// Runs a tool of the machine to its end.
#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} (needs root and a loop device): {said}");
}
