//! Heart-beats as data: when to send one, and when silence has lasted too long.

use std::time::Duration;

/// Both directions of a connection's heart-beats. Without agreement there are none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Beats {
    /// The peer expects something at least this often.
    send_every: Option<Duration>,
    /// The peer promised something at least this often.
    receive_every: Option<Duration>,
    sent: Duration,
    received: Duration,
}

impl Beats {
    /// Agreed at `now`; zero is none.
    pub(super) fn new(send_every: Duration, receive_every: Duration, now: Duration) -> Self {
        let some = |every: Duration| (!every.is_zero()).then_some(every);
        Self {
            send_every: some(send_every),
            receive_every: some(receive_every),
            sent: now,
            received: now,
        }
    }

    pub(super) fn sent(&mut self, now: Duration) {
        self.sent = now;
    }

    pub(super) fn received(&mut self, now: Duration) {
        self.received = now;
    }

    /// A beat is sent after three quarters of the interval, so that a late timer and a slow
    /// network do not break the promise.
    fn send_at(&self) -> Option<Duration> {
        self.send_every.map(|every| self.sent.saturating_add(every / 4 * 3))
    }

    /// The peer has twice the interval, for the same reason.
    fn silent_at(&self) -> Option<Duration> {
        self.receive_every.map(|every| self.received.saturating_add(every.saturating_mul(2)))
    }

    /// Whether it is time to send a beat.
    pub(super) fn send_due(&self, now: Duration) -> bool {
        self.send_at().is_some_and(|at| now >= at)
    }

    /// For how long nothing came, when that is too long.
    pub(super) fn silence(&self, now: Duration) -> Option<Duration> {
        self.silent_at().filter(|at| now >= *at).map(|_| now.saturating_sub(self.received))
    }

    /// When the next of the two is due.
    pub(super) fn deadline(&self) -> Option<Duration> {
        [self.send_at(), self.silent_at()].into_iter().flatten().min()
    }
}
