//! What the tests of the real process share: the broker as a child process, a blocking STOMP
//! client that can also misbehave, random choices from a seed, and the ledger of what was promised.
//!
//! Always: every wait is for a fact (a line, a frame, an end of file, an exit) and has a limit.

#![allow(dead_code, reason = "every test crate includes this module and uses a part of it")]

pub(crate) mod broker;
pub(crate) mod damage;
pub(crate) mod exposition;
pub(crate) mod java;
pub(crate) mod ledger;
pub(crate) mod load;
pub(crate) mod openwire;
pub(crate) mod random;
pub(crate) mod security;
pub(crate) mod stomp;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long any single fact may take on a slow, busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A fresh directory on the disk under test: the build's own, because `/tmp` may be memory.
pub(crate) fn fresh_dir() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory")
}

/// Asks `fact` again and again until it holds. For facts that nothing announces.
///
/// # Panics
/// Names `what` when it does not come to hold within [`PATIENCE`].
#[track_caller]
pub(crate) fn wait_until(what: &str, mut fact: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !fact() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A moment by the clock that the broker's delays are told by: the machine's, in whole
/// milliseconds. By a finer clock a message may seem to come up to a millisecond too early.
#[derive(Clone, Copy)]
pub(crate) struct Moment(u128);

impl Moment {
    pub(crate) fn now() -> Self {
        Self(SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that is set").as_millis())
    }

    /// # Panics
    /// When less than `time` has passed since.
    #[track_caller]
    pub(crate) fn assert_passed(self, time: Duration) {
        let passed = Self::now().0 - self.0;
        assert!(passed >= time.as_millis(), "{passed} ms are less than {time:?}");
    }
}
