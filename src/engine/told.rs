//! What an operator is warned of when it happens again and again: each time it has doubled.

use crate::broker::Broker;
use crate::ids::{Millis, Xid};
use crate::limits;

/// How often each had happened when it was last told of.
#[derive(Debug, Default)]
pub(super) struct Told {
    missed: u64,
    forgotten: u64,
    producers: u64,
    overdue: Overdue,
}

/// Prepared branches that wait for long: each is told of once, and many in one line.
#[derive(Debug, Default)]
struct Overdue {
    /// The one that has waited longest of those not told of, and since when.
    first: Option<(Xid, Millis)>,
    /// How many are not told of.
    untold: u64,
    /// No line before this time.
    quiet_until: Millis,
}

impl Overdue {
    fn tell(&mut self, now: Millis, broker: &mut Broker) {
        for _ in 0..limits::STEP_MESSAGES_MAX {
            let Some(row) = broker.take_overdue(now) else { break };
            self.first.get_or_insert_with(|| (row.xid.clone(), row.at));
            self.untold += 1;
        }
        if self.untold == 0 || now < self.quiet_until {
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
        self.quiet_until = Millis(now.0.saturating_add(limits::OVERDUE_QUIET_MILLIS));
    }

    fn next(&self, broker: &Broker) -> Option<Millis> {
        let line = (self.untold > 0).then_some(self.quiet_until);
        [line, broker.next_overdue()].into_iter().flatten().min()
    }
}

impl Told {
    /// When there is something to tell though nothing happens.
    pub(super) fn next(&self, broker: &Broker) -> Option<Millis> {
        self.overdue.next(broker)
    }

    pub(super) fn tell(&mut self, now: Millis, broker: &mut Broker) {
        self.overdue.tell(now, broker);
        let missed = broker.missed();
        if has_doubled(&mut self.missed, missed) {
            tracing::warn!(missed, "slow subscribers of topics have missed messages");
        }
        let forgotten = broker.name_counts().forgotten_early;
        if has_doubled(&mut self.forgotten, forgotten) {
            tracing::warn!(
                forgotten,
                "ids against duplicates were forgotten before their time, for want of room (see \
                 the settings duplicates)"
            );
        }
        let forgotten = broker.producer_counts().forgotten_early;
        if has_doubled(&mut self.producers, forgotten) {
            tracing::warn!(
                forgotten,
                "producers that may come back were forgotten, for want of room: what they send \
                 again will be there twice (see the setting duplicates.producer_memory)"
            );
        }
    }
}

fn has_doubled(told: &mut u64, now: u64) -> bool {
    let much = now >= told.saturating_mul(2).max(*told + 1);
    if much {
        *told = now;
    }
    much
}
