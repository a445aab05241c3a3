//! What an operator is warned of when it happens again and again: each time it has doubled.

use crate::broker::Broker;

/// How often each had happened when it was last told of.
#[derive(Debug, Default)]
pub(super) struct Told {
    missed: u64,
    forgotten: u64,
    producers: u64,
}

impl Told {
    pub(super) fn tell(&mut self, broker: &Broker) {
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
