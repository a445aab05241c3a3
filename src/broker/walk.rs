//! A walk through both sequences of a queue, durable and non-persistent, piece by piece.
//!
//! Everything that goes through a whole queue (browsing, moves, purges) does it with this: the
//! durable part of each piece was read beside the engine and is overlaid with the deltas here.
//! Always: a piece looks at a bounded number of messages, in the order of delivery, lent ones
//! included; going on from where it says shows each message that stays exactly once.

use std::ops::Bound::{Excluded, Included, Unbounded};

use crate::broker::Broker;
use crate::broker::delta::{Entry, Place};
use crate::broker::fact::{Lent, Page, Spot, Volatile, VolatilePlace};
use crate::broker::queue::Queue;

/// A message that a walk has come to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub(super) spot: Spot,
    pub(super) what: What<'a>,
    /// A consumer has it, or a transaction.
    pub(super) lent: bool,
    /// It is not handed out yet.
    pub(super) rests: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum What<'a> {
    Durable(Entry),
    /// With how often it came back.
    Volatile(&'a Volatile, u32),
}

impl Broker {
    /// Walks on after a spot through what `page` shows, and calls `visit` for at most as many
    /// messages as the page was asked for, until that says stop. Returns from where to go on, or
    /// `None` when everything to the end was seen. The queue must be there.
    pub(super) fn walk<'a>(
        &'a self,
        page: &Page,
        after: Option<Spot>,
        mut visit: impl FnMut(Seen<'a>) -> bool,
    ) -> Option<Spot> {
        let (id, limit) = (page.request.queue, page.request.limit);
        debug_assert_eq!(page.request.after, place_before(after), "another page was asked for");
        let queue = &self.queues[&id];
        let exhausted = page.rows.len() < limit;
        let mut durable = Vec::with_capacity(limit.min(page.rows.len() + 16));
        let reached =
            self.durable.overlay(id, page.request.after, &page.rows, exhausted, |place, entry| {
                durable.push((place, *entry));
                durable.len() < limit
            });
        let mut durable = durable.into_iter().peekable();
        let mut volatile = self.volatile_between(queue, after, reached).peekable();
        let mut last = after;
        for _ in 0..limit {
            let first = match (volatile.peek(), durable.peek()) {
                (Some((v, ..)), Some((d, _))) => v.precedes(*d),
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => return reached.map(Spot::Durable),
            };
            let seen = if first {
                let (place, message, returns, lent) = volatile.next().expect("just seen");
                let what = What::Volatile(message, returns);
                let rests = queue.resting_at(place).is_some();
                Seen { spot: Spot::Volatile(place), what, lent, rests }
            } else {
                let (place, entry) = durable.next().expect("just seen");
                let lent = entry.held || queue.on_loan.contains(&place);
                let rests = entry.due.is_some();
                Seen { spot: Spot::Durable(place), what: What::Durable(entry), lent, rests }
            };
            last = Some(seen.spot);
            if !visit(seen) {
                break;
            }
        }
        last
    }

    /// The non-persistent messages of a queue after a spot and up to a place, in order.
    fn volatile_between<'a>(
        &'a self,
        queue: &'a Queue,
        after: Option<Spot>,
        through: Option<Place>,
    ) -> impl Iterator<Item = (VolatilePlace, &'a Volatile, u32, bool)> {
        let from = after.map_or(Unbounded, |spot| Excluded(spot.volatile_end()));
        let to = through.map_or(Unbounded, |place| Included(Spot::Durable(place).volatile_end()));
        // A walk may have come further among these than the piece of the durable ones reaches.
        let empty = matches!((from, to), (Excluded(from), Included(to)) if from >= to);
        let range = if empty { None } else { Some((from, to)) };
        let mut waiting = range
            .into_iter()
            .flat_map(|range| queue.volatile_in(range))
            .map(|(place, message, returns)| (place, message, returns, false))
            .peekable();
        let mut lent = range
            .into_iter()
            .flat_map(|range| queue.volatile_on_loan.range(range))
            .filter_map(|(place, (key, tag))| match self.consumers.get(key)?.loans.get(tag)? {
                Lent::Volatile { message, returns, .. } => Some((*place, message, *returns, true)),
                Lent::Durable { .. } | Lent::Published { .. } => None,
            })
            .peekable();
        std::iter::from_fn(move || match (waiting.peek(), lent.peek()) {
            (Some(one), Some(other)) if one.0 > other.0 => lent.next(),
            (Some(_), _) => waiting.next(),
            (None, _) => lent.next(),
        })
    }
}

/// The place after which the durable part of a walk goes on.
pub(super) fn place_before(spot: Option<Spot>) -> Place {
    match spot {
        None => Place::START,
        Some(Spot::Durable(place)) => place,
        Some(Spot::Volatile(VolatilePlace { rank, before, .. })) => {
            Place { rank, seq: before.saturating_sub(1) }
        }
    }
}

impl Spot {
    /// The last place of a non-persistent message that does not lie after it.
    fn volatile_end(self) -> VolatilePlace {
        match self {
            Self::Durable(place) => {
                VolatilePlace { rank: place.rank, before: place.seq, number: u64::MAX }
            }
            Self::Volatile(place) => place,
        }
    }

    /// Its position among all messages of a queue, in the order of delivery.
    pub(super) fn position(self) -> (u8, u64, bool, u64) {
        match self {
            Self::Volatile(place) => (place.rank, place.before, false, place.number),
            Self::Durable(place) => (place.rank, place.seq, true, 0),
        }
    }
}
