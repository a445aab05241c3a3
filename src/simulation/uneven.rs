//! A processor that is at times too slow for what a turn may do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::ids::Millis;
use crate::io::Clock;
use crate::limits;

/// A clock by which each look finds up to half of a turn's time gone.
#[derive(Debug)]
pub(super) struct Uneven(AtomicU64);

impl Uneven {
    pub(super) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed << 16))
    }
}

impl Clock for Uneven {
    fn wall(&self) -> Millis {
        unreachable!("turns are told the date")
    }

    fn monotonic(&self) -> Duration {
        let micros = self.0.load(Ordering::Relaxed);
        let gone = micros.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let now = micros + 1 + gone % (limits::TURN_MICROS / 2);
        self.0.store(now, Ordering::Relaxed);
        Duration::from_micros(now)
    }
}
