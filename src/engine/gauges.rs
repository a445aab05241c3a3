//! How long things take: histograms that the threads write and whoever wants reads, without a lock.
//!
//! Measured with the machine's monotonic clock, outside everything that is deterministic.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper ends of the buckets in microseconds; the last bucket has none.
const BUCKETS: [u64; 14] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 2_000_000,
    10_000_000,
];

/// Everything that is measured in a running broker.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Turns of the engine.
    pub turns: Histogram,
    /// Syncs of the log, its write not included.
    pub syncs: Histogram,
    /// Checkpoints, from the first byte to the last sync.
    pub checkpoints: Histogram,
    /// When the last checkpoint ended, in milliseconds of monotonic time; 0 before the first.
    checkpoint_ended: AtomicU64,
}

/// Durations, counted by how long they are.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
    longest: AtomicU64,
}

/// What a histogram has counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Counted {
    /// Upper end in seconds, and how many were at most so long; the last is without an end.
    pub buckets: Vec<(f64, u64)>,
    /// How many.
    pub count: u64,
    /// All together, in seconds.
    pub sum: f64,
    /// The longest, in seconds.
    pub longest: f64,
}

impl Histogram {
    /// Counts one.
    pub fn add(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.partition_point(|end| *end < micros);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        self.longest.fetch_max(micros, Ordering::Relaxed);
    }

    /// What was counted so far.
    #[must_use]
    pub fn counted(&self) -> Counted {
        let ends = BUCKETS.iter().map(|end| *end as f64 / 1e6).chain([f64::INFINITY]);
        let mut count = 0;
        let buckets = ends.zip(&self.buckets).map(|(end, bucket)| {
            count += bucket.load(Ordering::Relaxed);
            (end, count)
        });
        let buckets = buckets.collect();
        let sum = self.micros.load(Ordering::Relaxed) as f64 / 1e6;
        let longest = self.longest.load(Ordering::Relaxed) as f64 / 1e6;
        Counted { buckets, count, sum, longest }
    }
}

impl Gauges {
    /// A checkpoint ended at `now`.
    pub(crate) fn checkpoint(&self, now: Duration, took: Duration) {
        self.checkpoints.add(took);
        let ended = u64::try_from(now.as_millis()).unwrap_or(u64::MAX).max(1);
        self.checkpoint_ended.store(ended, Ordering::Relaxed);
    }

    /// How long ago the last checkpoint ended; `None` before the first.
    #[must_use]
    pub fn checkpoint_age(&self, now: Duration) -> Option<Duration> {
        let ended = self.checkpoint_ended.load(Ordering::Relaxed);
        (ended > 0).then(|| now.saturating_sub(Duration::from_millis(ended)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_counted_in_its_bucket_and_in_all_longer_ones() {
        let histogram = Histogram::default();
        for micros in [10, 50, 51, 1_000, 20_000_000] {
            histogram.add(Duration::from_micros(micros));
        }
        let counted = histogram.counted();
        let up_to = |end: f64| counted.buckets.iter().find(|(e, _)| *e == end).unwrap().1;
        assert_eq!((up_to(0.00005), up_to(0.0001), up_to(0.001)), (2, 3, 4));
        assert_eq!((up_to(10.0), up_to(f64::INFINITY), counted.count), (4, 5, 5));
        assert_eq!(counted.longest, 20.0);
        assert!((counted.sum - 20.001_111).abs() < 1e-9, "{counted:?}");
    }
}
