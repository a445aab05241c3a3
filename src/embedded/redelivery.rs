//! What becomes of messages that come back to a queue, as a program sets it.

use std::time::Duration;

use super::builder::Builder;
use crate::broker::redelivery::Ending;
use crate::config::RedeliveryConfig;

/// What becomes of messages that come back from their consumers, and of those that expire; for
/// [`Builder::redelivery`].
///
/// By default a message is delivered again at once, six times at most, then set apart in the queue
/// `ActiveMQ.DLQ`, and so is a persistent one that expires.
///
/// ```
/// use escrowmq::{Broker, Redelivery};
/// use std::time::Duration;
///
/// # async fn example() -> Result<(), escrowmq::OpenError> {
/// let patient = Redelivery::new().maximum(10).delay(Duration::from_secs(1)).backoff(2);
/// let broker = Broker::builder("./orders-data")
///     .redelivery("queue://orders.>", patient.dead_letters("DLQ."))
///     .open()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "rules count where they are given to a builder"]
pub struct Redelivery(RedeliveryConfig);

impl Redelivery {
    /// The rules of a queue of which nothing is said.
    pub fn new() -> Self {
        Self::default()
    }

    /// How often a message is delivered after the first time; when it comes back once more it is
    /// set apart. 6 by default; 0 is any number.
    pub fn maximum(mut self, times: u32) -> Self {
        self.0.maximum = times;
        self
    }

    /// How long a message waits before it is delivered again, to the millisecond; not at all by
    /// default. It keeps its place, and holds up nobody behind it.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.0.delay = millis(delay);
        self
    }

    /// Makes each further delay so many times as long; at least 1, which is the default.
    pub fn backoff(mut self, factor: u32) -> Self {
        self.0.backoff = factor;
        self
    }

    /// How long a delay is at most: an hour by default, and up to a year.
    pub fn delay_max(mut self, delay: Duration) -> Self {
        self.0.delay_max = millis(delay);
        self
    }

    /// The queue where messages are set apart, of 256 bytes at most; with `.` at its end, like
    /// `DLQ.`, each queue has one of its own: that, and its name.
    pub fn dead_letters(mut self, queue: impl Into<String>) -> Self {
        self.0.dead_letters = queue.into();
        self
    }

    /// Removes persistent messages that expire, instead of setting them apart. Others always are.
    pub fn drop_expired(mut self) -> Self {
        self.0.when_expired = Ending::Drop;
        self
    }

    /// Sets apart, in memory, also non-persistent messages that came back too often or were given
    /// up, which by default are removed.
    pub fn keep_non_persistent(mut self) -> Self {
        self.0.non_persistent = Ending::DeadLetter;
        self
    }
}

impl Builder {
    /// Says what becomes of messages that come back to queues of such names, and of those that
    /// expire there. `pattern` is `queue://` and a name as in [`Builder::limit`]; the most specific
    /// counts, and it alone.
    pub fn redelivery(mut self, pattern: impl Into<String>, rules: Redelivery) -> Self {
        let rules = RedeliveryConfig { name: pattern.into(), ..rules.0 };
        self.config().redelivery.push(rules);
        self
    }
}

/// What is longer than a setting can say is refused as too long.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
