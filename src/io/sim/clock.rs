//! A simulated clock: time as a test wants it.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::ids::Millis;
use crate::io::Clock;

/// A clock that stands still until it is moved. Clones are handles to the same clock.
#[derive(Clone, Debug, Default)]
pub struct SimClock(Arc<Mutex<(Millis, Duration)>>);

impl SimClock {
    /// Wall time `wall`, monotonic time zero.
    #[must_use]
    pub fn new(wall: Millis) -> Self {
        Self(Arc::new(Mutex::new((wall, Duration::ZERO))))
    }

    /// Lets both clocks run for `time`.
    pub fn advance(&self, time: Duration) {
        let mut now = self.times();
        now.0.0 += u64::try_from(time.as_millis()).expect("a simulation is short");
        now.1 += time;
    }

    /// Lets the wall clock jump.
    pub fn set_wall(&self, wall: Millis) {
        self.times().0 = wall;
    }

    /// Sets the monotonic clock.
    ///
    /// # Panics
    /// If it would run backwards.
    pub fn set_monotonic(&self, monotonic: Duration) {
        let mut now = self.times();
        assert!(monotonic >= now.1, "{:?} -> {monotonic:?}: runs backwards", now.1);
        now.1 = monotonic;
    }

    fn times(&self) -> MutexGuard<'_, (Millis, Duration)> {
        self.0.lock().expect("no call on a simulated clock panics half way")
    }
}

impl Clock for SimClock {
    fn wall(&self) -> Millis {
        self.times().0
    }

    fn monotonic(&self) -> Duration {
        self.times().1
    }
}
