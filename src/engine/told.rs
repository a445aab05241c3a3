//! What an operator is warned of when it happens again and again: at once, and then in one line a
//! minute for all that happened meanwhile.

use crate::broker::Broker;
use crate::ids::{Millis, Xid};
use crate::limits;

/// What of each has been told.
#[derive(Debug, Default)]
pub(super) struct Told {
    missed: Counted,
    names: Counted,
    producers: Counted,
    overdue: Overdue,
}

/// What is only counted.
#[derive(Debug, Default)]
struct Counted {
    /// How often it had happened when it was last told of.
    told: u64,
    quiet: Quiet,
}

impl Counted {
    /// How often it has happened since it was last told of, if it is to be told of now.
    fn news(&mut self, now: Millis, count: u64) -> Option<u64> {
        let news = count - self.told;
        let due = news > 0 && self.quiet.is_over(now);
        due.then(|| {
            self.told = count;
            self.quiet.begin(now);
            news
        })
    }

    fn next(&self, count: u64) -> Option<Millis> {
        (count > self.told).then_some(self.quiet.until)
    }
}

/// The time after a line in which there is no other.
#[derive(Debug, Default)]
struct Quiet {
    until: Millis,
}

impl Quiet {
    fn begin(&mut self, now: Millis) {
        self.until = Millis(now.0.saturating_add(limits::WARNING_QUIET_MILLIS));
    }

    /// A clock that has gone back does not make it longer.
    fn is_over(&mut self, now: Millis) -> bool {
        self.until = self.until.min(Millis(now.0.saturating_add(limits::WARNING_QUIET_MILLIS)));
        self.until <= now
    }
}

/// Prepared branches that wait for long: each is told of once, and many in one line.
#[derive(Debug, Default)]
struct Overdue {
    /// The one that has waited longest of those not told of, and since when.
    first: Option<(Xid, Millis)>,
    /// How many are not told of.
    untold: u64,
    quiet: Quiet,
}

impl Overdue {
    fn tell(&mut self, now: Millis, broker: &mut Broker) {
        for _ in 0..limits::STEP_MESSAGES_MAX {
            let Some(row) = broker.take_overdue(now) else { break };
            self.first.get_or_insert_with(|| (row.xid.clone(), row.at));
            self.untold += 1;
        }
        if self.untold == 0 || !self.quiet.is_over(now) {
            return;
        }
        let Some((xid, at)) = self.first.take() else { return };
        // Not among the arguments, which nobody looks at where warnings are not wanted.
        let branches = std::mem::take(&mut self.untold);
        tracing::warn!(
            branches,
            oldest = %xid,
            seconds = now.0.saturating_sub(at.0) / 1000,
            "prepared branches of global transactions wait for their managers for longer than \
             xa.warn_after: `escrowmq xa list` shows them"
        );
        self.quiet.begin(now);
    }

    fn next(&self, broker: &Broker) -> Option<Millis> {
        let line = (self.untold > 0).then_some(self.quiet.until);
        [line, broker.next_overdue()].into_iter().flatten().min()
    }
}

impl Told {
    /// When there is something to tell though nothing happens.
    pub(super) fn next(&self, broker: &Broker) -> Option<Millis> {
        let times = [
            self.overdue.next(broker),
            self.missed.next(broker.missed()),
            self.names.next(broker.name_counts().forgotten_early),
            self.producers.next(broker.producer_counts().forgotten_early),
        ];
        times.into_iter().flatten().min()
    }

    pub(super) fn tell(&mut self, now: Millis, broker: &mut Broker) {
        self.overdue.tell(now, broker);
        if let Some(missed) = self.missed.news(now, broker.missed()) {
            tracing::warn!(missed, "slow subscribers of topics have missed messages");
        }
        let forgotten = broker.name_counts().forgotten_early;
        if let Some(forgotten) = self.names.news(now, forgotten) {
            tracing::warn!(
                forgotten,
                "ids against duplicates were forgotten before their time, for want of room (see \
                 the settings duplicates)"
            );
        }
        let forgotten = broker.producer_counts().forgotten_early;
        if let Some(forgotten) = self.producers.news(now, forgotten) {
            tracing::warn!(
                forgotten,
                "producers that may come back were forgotten, for want of room: what they send \
                 again will be there twice (see the setting duplicates.producer_memory)"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_happens_is_told_of_within_a_minute_in_one_line() {
        let minute = limits::WARNING_QUIET_MILLIS;
        let mut counted = Counted::default();
        assert_eq!(counted.news(Millis(5), 0), None);
        assert_eq!(counted.next(0), None);
        assert_eq!(counted.news(Millis(5), 1), Some(1), "the first at once");
        assert_eq!(counted.news(Millis(6), 3), None);
        assert_eq!(counted.next(3), Some(Millis(5 + minute)));
        assert_eq!(counted.news(Millis(4 + minute), 1000), None);
        assert_eq!(counted.news(Millis(5 + minute), 1000), Some(999));
        assert_eq!(counted.next(1000), None);
    }

    #[test]
    fn a_clock_set_back_silences_nothing() {
        let minute = limits::WARNING_QUIET_MILLIS;
        let mut counted = Counted::default();
        assert_eq!(counted.news(Millis(1_000 * minute), 1), Some(1));
        assert_eq!(counted.news(Millis(7), 2), None);
        assert_eq!(counted.next(2), Some(Millis(7 + minute)));
        assert_eq!(counted.news(Millis(7 + minute), 2), Some(1));
    }
}
