//! Payloads that several entries hold: a publication lies in the log once, however many
//! subscriptions keep it.
//!
//! Always: such a payload is live while any entry holds it, and counts once in the live bytes of
//! its segment. How many hold it is a number in the index, and in a delta how many more or fewer:
//! so memory follows what has changed since a checkpoint, and not what is kept. That the last
//! holder of an older payload has gone is found when a checkpoint adds the numbers up.

#[cfg(test)]
use std::collections::BTreeMap;

use crate::broker::Broker;
use crate::broker::delta::{Share, Unshared};
use crate::broker::durable::Durable;
use crate::ids::Lsn;
use crate::mutant::{self, Mutant};

impl Durable {
    /// So many entries hold a payload from now on, whose bytes count as live already.
    pub(super) fn share(&mut self, birth: Lsn, size: u32, holders: usize) {
        let share = self.delta.shares.entry(birth).or_insert(Share { holders: 0, size });
        share.holders += holders as i64;
    }

    /// An entry holds a payload no longer.
    pub(super) fn unshare(&mut self, birth: Lsn, size: u32) {
        if mutant::is(Mutant::DropShared) {
            return self.dead(birth, size);
        }
        let share = self.delta.shares.entry(birth).or_insert(Share { holders: 0, size });
        share.holders -= 1;
        // The index need not hear of one that came and went since it last did.
        if share.holders == 0 && birth > self.settled_through {
            self.delta.shares.remove(&birth);
            self.dead(birth, size);
        }
    }

    /// The index has found these to be needed no longer, in the commit that ends.
    pub(super) fn unshared(&mut self, bytes: Unshared) {
        self.unshared = bytes;
    }

    /// Takes them off, once what else the commit says counts.
    pub(super) fn settle_unshared(&mut self) {
        for (segment, bytes) in std::mem::take(&mut self.unshared) {
            self.live_bytes = self.live_bytes.saturating_sub(bytes);
            let live = self.base_live.entry(segment).or_default();
            *live = live.checked_sub(bytes).expect("a segment lost more than it had");
            if *live == 0 {
                self.base_live.remove(&segment);
            }
        }
    }
}

impl Broker {
    /// Says what the commit of a checkpoint has found beside what was frozen; before
    /// [`Broker::install`].
    pub fn unshared(&mut self, bytes: Unshared) {
        self.durable.unshared(bytes);
    }

    /// How many entries hold each payload, by how many more or fewer than the index says, which is
    /// `ahead` where it has what is frozen already; for checks.
    #[cfg(test)]
    pub(crate) fn shares(&self, ahead: bool) -> BTreeMap<Lsn, Share> {
        let nothing = crate::broker::delta::Delta::default();
        let frozen = self.durable.frozen.as_deref().unwrap_or(&nothing);
        let mut all = frozen.shares.clone();
        all.values_mut().filter(|_| ahead).for_each(|share| share.holders = 0);
        for (birth, share) in &self.durable.delta.shares {
            all.entry(*birth).or_insert(Share { holders: 0, ..*share }).holders += share.holders;
        }
        all
    }
}
