//! The search for messages whose time is over where nobody looks: beyond the windows.
//!
//! What waits in memory expires by itself (`queue::Expiries`). What lies beyond a queue's window
//! would keep its disk until a consumer came: so a queue that holds something that expires is
//! walked, page by page, when the earliest of it is due. One page at a time over all queues, and
//! a rest between two walks of the same queue, so that a broker with much to look at does it
//! slowly beside its work.

use std::collections::{BTreeMap, BTreeSet};

use crate::broker::delta::Place;
use crate::broker::fact::{Change, Effect, Fact, Page, PageWish, Purpose};
use crate::broker::{Broker, Effects};
use crate::ids::{IdTables, Millis, QueueId};
use crate::limits;

/// Which queues are to be looked through, and when.
#[derive(Debug, Default)]
pub(crate) struct Scans {
    due: BTreeSet<(Millis, QueueId)>,
    queues: IdTables<QueueId, Plan>,
    running: Option<Running>,
}

/// What is known of one queue.
#[derive(Clone, Copy, Debug, Default)]
struct Plan {
    /// When it is to be looked through.
    due: Option<Millis>,
    /// Not before.
    rested: Millis,
}

/// The walk under way.
#[derive(Clone, Copy, Debug)]
struct Running {
    queue: QueueId,
    /// When it began: what is due later is found by a later walk.
    at: Millis,
    after: Place,
    /// The earliest expiry of what it has seen and left.
    soonest: Option<Millis>,
    pages: u64,
}

/// One step of a walk.
#[derive(Clone, Copy, Debug)]
pub struct Scanned {
    queue: QueueId,
    /// Done up to here; `None` at the end.
    cursor: Option<Place>,
    soonest: Option<Millis>,
}

impl Scans {
    /// Something beyond the window of a queue expires at `at`.
    pub(crate) fn note(&mut self, queue: QueueId, at: Millis) {
        let plan = self.queues.get_or_default(queue);
        let at = at.max(plan.rested);
        if plan.due.is_some_and(|due| due <= at) {
            return;
        }
        if let Some(due) = plan.due.replace(at) {
            self.due.remove(&(due, queue));
        }
        self.due.insert((at, queue));
    }

    /// When the next walk is due.
    pub(crate) fn next(&self) -> Option<Millis> {
        if self.running.is_some() { None } else { self.due.first().map(|(at, _)| *at) }
    }

    fn begin(&mut self, now: Millis) -> Option<QueueId> {
        if self.running.is_some() {
            return None;
        }
        let (at, queue) = *self.due.first()?;
        if at > now {
            return None;
        }
        self.due.pop_first();
        self.queues.get_mut(&queue).expect("what is due is known").due = None;
        Some(queue)
    }
}

impl Broker {
    /// Begins a walk that is due. False when none is.
    pub(super) fn state_scan(&mut self, now: Millis, effects: &mut Effects) -> bool {
        let scans = &mut self.expiries.beyond;
        let Some(id) = scans.begin(now) else { return false };
        match self.queues.get(&id).map(|queue| (queue.row.expiring, queue.horizon())) {
            Some((true, Some(after))) => {
                scans.running =
                    Some(Running { queue: id, at: now, after, soonest: None, pages: 0 });
                self.want(wish(id, after), effects);
            }
            // Everything it holds is in memory, where it expires by itself.
            Some(_) => {}
            None => drop(scans.queues.remove(&id)),
        }
        true
    }

    /// Takes out what is over in a page.
    pub(super) fn state_scanned(&self, page: &Page, facts: &mut Vec<Fact>) {
        let Some(running) = self.expiries.beyond.running else { return };
        let id = running.queue;
        debug_assert_eq!(id, page.request.queue, "one walk at a time");
        let (mut over, mut soonest) = (Vec::new(), running.soonest);
        let mut cursor = None;
        if let Some(queue) = self.queues.get(&id) {
            let exhausted = page.rows.len() < page.request.limit;
            let on_loan = |place| queue.on_loan.contains(&place);
            let mut seen = 0;
            let after = page.request.after;
            cursor = self.durable.overlay(id, after, &page.rows, exhausted, |place, entry| {
                seen += 1;
                match entry.expires {
                    // What is lent may still be accepted, and what is delayed is looked at when
                    // that is over; if they wait again, they are noted again.
                    Some(at) if at <= running.at && entry.is_free() && !on_loan(place) => {
                        over.push((place, *entry));
                    }
                    Some(at) if at > running.at => {
                        soonest = Some(soonest.map_or(at, |soonest| soonest.min(at)));
                    }
                    _ => {}
                }
                seen < page.request.limit
            });
        }
        self.state_expired(running.at, id, over, facts);
        facts.push(Fact::Memory(Change::ScanTo(Scanned { queue: id, cursor, soonest })));
    }

    pub(super) fn apply_scan_to(&mut self, scanned: Scanned, effects: &mut Effects) {
        let scans = &mut self.expiries.beyond;
        let Some(running) = &mut scans.running else { return };
        let Scanned { queue, cursor, soonest } = scanned;
        running.pages += 1;
        running.soonest = soonest;
        if let Some(after) = cursor {
            running.after = after;
            return self.want(wish(queue, after), effects);
        }
        // A long walk earns a long rest.
        let rest = limits::SCAN_REST_MILLIS.max(running.pages * limits::SCAN_PAGE_MILLIS);
        let rested = Millis(running.at.0 + rest);
        scans.running = None;
        let plan = scans.queues.get_or_default(queue);
        plan.rested = rested;
        // What was noted meanwhile waits for the rest, too.
        let due = plan.due.take();
        if let Some(due) = due {
            scans.due.remove(&(due, queue));
        }
        match [due, soonest].into_iter().flatten().min() {
            Some(at) => scans.note(queue, at),
            None if !self.queues.contains_key(&queue) => drop(scans.queues.remove(&queue)),
            None => {}
        }
    }

    /// Asks for a piece of a queue.
    pub(super) fn want(&self, wish: PageWish, effects: &mut Effects) {
        effects.push(Effect::Page(wish.of(self.durable.generation)));
    }
}

fn wish(queue: QueueId, after: Place) -> PageWish {
    PageWish { queue, after, limit: limits::STEP_MESSAGES_MAX, purpose: Purpose::Scan }
}

/// The queues that may hold something that expires, as a life begins: all are due at once.
pub(crate) fn plan(rows: &BTreeMap<QueueId, crate::broker::delta::QueueRow>) -> Scans {
    let mut scans = Scans::default();
    for (id, _) in rows.iter().filter(|(_, row)| row.expiring) {
        scans.note(*id, Millis::default());
    }
    scans
}
