//! Keep-alive and inactivity: when to say that we live, and when to give the peer up.
//!
//! A pure machine over times that the caller tells, from any fixed start. Leaves to others: timers,
//! and the bytes of a `KeepAliveInfo`.

use std::time::Duration;

use super::Inactivity;

/// Watches the silence of both sides of a connection.
///
/// It looks where the peer does: for something sent every third of the agreed time, for something
/// received every whole of it. Partial frames count. So a peer is given up after one to two of
/// these times without a byte.
#[derive(Clone, Debug)]
pub struct SilenceWatch {
    rules: Inactivity,
    /// When to look whether anything was sent, and received.
    look_sent: Duration,
    look_received: Duration,
    sent: bool,
    received: bool,
}

/// What [`SilenceWatch::look`] finds to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// Nothing was sent for a while: a `KeepAliveInfo` is due.
    Ours,
    /// Nothing came for too long: the connection is dead.
    Theirs,
}

impl SilenceWatch {
    /// A watch that begins when both sides have agreed on `rules`.
    #[must_use]
    pub fn new(now: Duration, rules: Inactivity) -> Self {
        let begin = now.saturating_add(rules.initial_delay);
        Self {
            rules,
            look_sent: begin.saturating_add(rules.keep_alive_after()),
            look_received: begin.saturating_add(rules.dead_after),
            sent: false,
            received: false,
        }
    }

    /// Something was sent.
    pub fn sent(&mut self) {
        self.sent = true;
    }

    /// Something came.
    pub fn received(&mut self) {
        self.received = true;
    }

    /// Looks, where it is time to; to be called again until it finds nothing.
    pub fn look(&mut self, now: Duration) -> Option<Silence> {
        if now >= self.look_received {
            // The next look is a whole time away even where this one is late: what came in between
            // may still wait to be read.
            self.look_received = now.saturating_add(self.rules.dead_after);
            if !std::mem::take(&mut self.received) {
                return Some(Silence::Theirs);
            }
        }
        if now >= self.look_sent {
            self.look_sent = now.saturating_add(self.rules.keep_alive_after());
            if !std::mem::take(&mut self.sent) {
                return Some(Silence::Ours);
            }
        }
        None
    }

    /// When to look next.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.look_sent.min(self.look_received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    fn watch() -> SilenceWatch {
        let rules = Inactivity { initial_delay: millis(100), dead_after: millis(1500) };
        SilenceWatch::new(millis(0), rules)
    }

    #[test]
    fn an_idle_side_says_every_third_of_the_time_that_it_lives() {
        let mut watch = watch();
        assert_eq!(watch.deadline(), millis(600));
        assert_eq!(watch.look(millis(599)), None);
        for at in [600, 1100] {
            assert_eq!(watch.look(millis(at)), Some(Silence::Ours));
            assert_eq!(watch.look(millis(at)), None);
        }
        watch.sent();
        assert_eq!(watch.deadline(), millis(1600));
        watch.received();
        assert_eq!(watch.look(millis(1600)), None);
        assert_eq!(watch.look(millis(2100)), Some(Silence::Ours));
    }

    #[test]
    fn a_peer_is_given_up_after_a_whole_time_without_a_byte() {
        let mut watch = watch();
        watch.sent();
        watch.received();
        assert_eq!(watch.look(millis(1600)), None);
        watch.sent();
        assert_eq!(watch.look(millis(3099)), None);
        assert_eq!(watch.look(millis(3100)), Some(Silence::Theirs));
    }

    #[test]
    fn a_watch_over_all_of_time_does_not_end_it() {
        let rules = Inactivity { initial_delay: Duration::MAX, dead_after: Duration::MAX };
        let mut watch = SilenceWatch::new(millis(1), rules);
        assert_eq!(watch.look(millis(u64::MAX)), None);
        assert_eq!(watch.deadline(), Duration::MAX);
    }
}
