//! `work`: the facts that follow by themselves, one bounded step at a time.
//!
//! Dispatch, expiry, the return of what an ended subscription held, and sweeps (purge, delete).
//! Each step states facts and changes nothing but its own agenda; the engine logs and applies
//! them and asks again, for as long as its turn lasts.

use bytes::Bytes;

use crate::broker::command::{Refusal, Reply};
use crate::broker::delta::QueueRow;
use crate::broker::fact::{
    Asker, Change, ConsumerKey, Effect, Fact, Page, PageRequest, PageWish, Purpose, Source, Spot,
};
use crate::broker::queue::{Head, Queue};
use crate::broker::walk::{What, place_before};
use crate::broker::{Broker, Effects, decide};
use crate::ids::{Millis, QueueId};
use crate::limits;
use crate::record::{Cause, Gone, Record};

/// An emptying of a queue, page by page, up to what was in it when it was asked for.
#[derive(Debug)]
pub(crate) struct Sweep {
    /// Who waits for the end; nobody where a subscription goes that has been made anew.
    pub(crate) asker: Option<Asker>,
    /// The queue goes in the end.
    pub(crate) delete: bool,
    /// Done up to here.
    pub(crate) cursor: Option<Spot>,
    /// The last durable message it takes.
    through: u64,
    /// The last non-persistent one it takes.
    volatile_through: u64,
    /// A page is on its way.
    pub(crate) paging: bool,
    /// Messages it has removed.
    pub(crate) removed: u64,
}

/// Whose turn it is among what may be very much.
#[derive(Debug, Default)]
pub(super) struct Bulk {
    turn: u8,
    /// All else comes first this time.
    rests: bool,
}

impl Sweep {
    pub(crate) fn new(
        row: &QueueRow,
        last_volatile: u64,
        asker: Option<Asker>,
        delete: bool,
    ) -> Self {
        Self {
            asker,
            delete,
            cursor: None,
            through: row.last_seq,
            volatile_through: last_volatile,
            paging: false,
            removed: 0,
        }
    }
}

impl Broker {
    /// Whether [`Broker::work`] would find something to look at.
    #[must_use]
    pub fn has_work(&self, now: Millis) -> bool {
        let due = || self.expiries.first().is_some_and(|(at, _, _)| *at <= now);
        let sought = || self.expiries.beyond.next().is_some_and(|at| at <= now);
        let swept = !self.sweeps.is_empty() || self.has_due_branches(now);
        let later = self.later.is_due(now) || self.resting.is_due(now);
        let uploads = self.has_dead_uploads() || self.has_endings() || later;
        let names = || self.has_names_to_forget(now) || self.has_producers_to_state(now);
        uploads
            || !self.publishing.is_empty()
            || self.has_publications(now)
            || self.has_remnants()
            || !self.ended.is_empty()
            || !self.restless.is_empty()
            || !self.family_line.is_empty()
            || self.has_crowded()
            || !self.groups.is_empty()
            || self.notices.any()
            || swept
            || due()
            || sought()
            || names()
    }

    /// States the facts of one step of what is to be done, and asks for what it needs to go on.
    /// False when there is nothing to do until something happens.
    pub fn work(&mut self, now: Millis, facts: &mut Vec<Fact>, effects: &mut Effects) -> bool {
        // Before anything else, since it is one short step now and then, and makes room.
        if self.state_uploads(facts, effects) {
            return true;
        }
        // What is to be said of producers waits for the last of them: however much else there is.
        if self.ask_producers(now, effects) {
            return true;
        }
        if let Some(key) = self.ended.front() {
            self.state_take_back(now, *key, facts);
            return true;
        }
        if self.state_later(now, facts, effects) {
            return true;
        }
        if self.state_resting(now, facts) {
            return true;
        }
        if self.state_due_branches(now, facts) {
            return true;
        }
        if !std::mem::take(&mut self.bulk.rests) && self.state_bulk(now, facts, effects) {
            return true;
        }
        let tended = self.tend_crowded();
        if self.tend_family() || self.tend_groups() {
            return true;
        }
        // Queues take turns, one step each, so that a busy one keeps no other waiting.
        for looked_at in 0.. {
            let Some(id) = self.restless.pop_front() else { break };
            let handed_out = self.state_handed_out(now, id, facts, effects);
            self.stir_families_of(id);
            if handed_out {
                self.restless.push_back(id);
                return true;
            }
            if let Some(queue) = self.queues.get_mut(&id) {
                queue.restless = false;
            }
            if looked_at == limits::STEP_MESSAGES_MAX {
                return true;
            }
        }
        if !self.family_line.is_empty() {
            return true;
        }
        // More dead bodies than are given back must not pile up in memory.
        if self.durable.dead_uploads() >= limits::DEAD_UPLOADS_MAX {
            return self.state_spread(now, facts, effects) || self.state_publication(facts);
        }
        if self.expiries.first().is_some_and(|(at, _, _)| *at <= now) {
            self.state_expiry(now, facts);
            return true;
        }
        self.state_sweep(effects)
            || self.state_remnant(facts)
            || self.state_scan(now, effects)
            || self.state_bulk(now, facts, effects)
            || self.state_forgotten(now, facts)
            || self.state_producers(now, facts)
            || tended
    }

    /// One step of what may be very much: what large transactions have published for subscriptions,
    /// the ends of such transactions, messages for very many subscribers, what was known for
    /// consumers that have gone, what is told of messages. They take turns with each other, and
    /// with all else; where there is none of them that changes nobody's turn.
    fn state_bulk(&mut self, now: Millis, facts: &mut Vec<Fact>, effects: &mut Effects) -> bool {
        for _ in 0..5 {
            self.bulk.turn = (self.bulk.turn + 1) % 5;
            self.bulk.rests = match self.bulk.turn {
                0 => self.state_spread(now, facts, effects),
                1 => self.state_endings(now, facts, effects),
                2 => self.groups.state_unlearnt(facts),
                3 => self.state_told(now, facts),
                _ => self.state_publication(facts),
            };
            if self.bulk.rests {
                return true;
            }
        }
        false
    }

    /// An emptying of a queue begins.
    pub(super) fn apply_sweep(&mut self, queue: QueueId, asker: Option<Asker>, delete: bool) {
        let row = &self.queues[&queue].row;
        let sweep = Sweep::new(row, self.last_volatile, asker, delete);
        self.sweeps.insert(queue, sweep);
        self.held.resting_remnants.remove(&queue);
    }

    pub(super) fn apply_sweep_to(
        &mut self,
        id: QueueId,
        cursor: Option<Spot>,
        removed: u64,
        effects: &mut Effects,
    ) {
        let sweep = self.sweeps.get_mut(&id).expect("stated of a sweep");
        sweep.paging = false;
        sweep.removed += removed;
        if cursor.is_some() {
            sweep.cursor = cursor;
            return;
        }
        let sweep = self.sweeps.remove(&id).expect("just seen");
        let result = match self.queues.get(&id) {
            Some(queue) if sweep.delete => Err(Refusal::QueueUsedAgain {
                queue: (&*queue.row.name).into(),
                removed: sweep.removed,
            }),
            _ => Ok(Reply::Removed(sweep.removed)),
        };
        // A line that it has left empty may go.
        if self.held.line(id).is_some() {
            self.held.spreading.wake(id);
        }
        // A subscription that is still there is tried again.
        let over = sweep.delete && result.is_ok();
        let waits = if over { self.held.remnants.remove(&id).flatten() } else { None };
        if self.held.remnants.contains_key(&id) {
            self.held.resting_remnants.insert(id);
        }
        let told = [sweep.asker, waits].into_iter().flatten();
        effects.extend(told.map(|to| Effect::Answer { to, result: result.clone() }));
    }

    fn state_take_back(&self, now: Millis, key: ConsumerKey, facts: &mut Vec<Fact>) {
        let consumer = &self.consumers[&key];
        let ended = consumer.ended.expect("only ended ones are on the agenda");
        // What has only waited for it goes after what it had.
        let held = consumer.loans.len() + consumer.backlog.len();
        let count = held.min(limits::STEP_MESSAGES_MAX);
        let tags = consumer.loans.keys().take(count).copied().collect();
        let tags: Vec<_> = consumer.of_one_source(tags);
        let source = tags.first().map(|tag| consumer.source_of(*tag));
        let Some(Source::Queue(queue)) = source else {
            return facts.push(Fact::Memory(Change::TakeBack { key, count }));
        };
        let count = tags.len();
        let loans = consumer.loans.iter().take(count);
        let sent = loans.filter(|(tag, _)| ended.was_sent(**tag)).map(|(_, loan)| loan);
        self.state_returned(now, queue, sent, facts);
        facts.push(Fact::Memory(Change::TakeBack { key, count }));
    }

    /// Hands out something of a queue: those with selectors and the others take turns. False when
    /// nobody can be given anything now.
    fn state_handed_out(
        &mut self,
        now: Millis,
        id: QueueId,
        facts: &mut Vec<Fact>,
        effects: &mut Effects,
    ) -> bool {
        if self.queues.get(&id).is_some_and(|queue| queue.is_owned()) {
            return self.state_dispatch(now, id, facts, effects);
        }
        let selecting = self.queues.get_mut(&id).and_then(|queue| queue.selecting.as_mut());
        let first = selecting.is_some_and(|selecting| selecting.turn());
        (first && self.state_selected(now, id, facts, effects))
            || self.state_dispatch(now, id, facts, effects)
            || (!first && self.state_selected(now, id, facts, effects))
    }

    /// Hands out the head of a queue; false when that cannot be done now.
    fn state_dispatch(
        &mut self,
        now: Millis,
        id: QueueId,
        facts: &mut Vec<Fact>,
        effects: &mut Effects,
    ) -> bool {
        if self.goes_by_groups(id) {
            return self.state_grouped(now, id, facts, effects);
        }
        let limit = self.window_max();
        let Some(key) = self.next_ready(id) else { return false };
        let Some(queue) = self.queues.get_mut(&id) else { return false };
        if queue.resident_len() < limit.div_ceil(2)
            && !queue.paging
            && let Some(after) = queue.horizon()
        {
            queue.paging = true;
            effects.push(Effect::Page(PageRequest {
                queue: id,
                after,
                limit,
                purpose: Purpose::Dispatch,
                generation: self.durable.generation,
            }));
        }
        let queue = &self.queues[&id];
        let spot = match queue.head() {
            Head::Empty | Head::Absent => return false,
            Head::Durable(place, entry) => {
                if entry.expires.is_some_and(|at| at <= now) {
                    self.state_expiry(now, facts);
                    return true;
                }
                if place.seq > queue.row.lent_through.of(place.rank) {
                    let credit = self.credit(queue).max(self.consumers[&key].credit());
                    let credit = credit.min(limits::RECORD_ENTRIES_MAX);
                    let through = queue.lend_through(place, credit);
                    let record = Record::Lent { queue: id, rank: place.rank, through };
                    facts.push(Fact::Log(record, Bytes::new()));
                }
                Spot::Durable(place)
            }
            Head::Volatile(place) => {
                if queue.volatile_at(place).and_then(|m| m.expires).is_some_and(|at| at <= now) {
                    self.state_expiry(now, facts);
                    return true;
                }
                Spot::Volatile(place)
            }
        };
        facts.push(Fact::Memory(Change::Lend { queue: id, spot, key }));
        true
    }

    /// Deliveries that the consumers in line will take now, counted up to one record's worth.
    fn credit(&self, queue: &Queue) -> usize {
        let mut credit = 0;
        for key in &queue.ready {
            credit += self.consumers[key].credit();
            if credit >= limits::RECORD_ENTRIES_MAX {
                return limits::RECORD_ENTRIES_MAX;
            }
        }
        credit
    }

    /// States the end of some messages whose time is over, all of one queue.
    fn state_expiry(&self, now: Millis, facts: &mut Vec<Fact>) {
        let Some((_, id, _)) = self.expiries.first() else { return };
        let queue = &self.queues[id];
        let due = self.expiries.iter().take_while(|(at, other, _)| *at <= now && other == id);
        let (mut over, mut places) = (Vec::new(), Vec::new());
        for (_, _, spot) in due.take(limits::STEP_MESSAGES_MAX) {
            match spot {
                Spot::Durable(place) => {
                    let entry = queue.resident_at(*place).expect("only what waits expires");
                    over.push((*place, *entry));
                }
                Spot::Volatile(place) => places.push(*place),
            }
        }
        self.state_expired(now, *id, over, facts);
        if !places.is_empty() {
            self.state_volatile_expired(*id, &places, facts);
            facts.push(Fact::Memory(Change::Drop { queue: *id, cause: Cause::Expired, places }));
        }
    }

    /// An emptying of a queue begins.
    fn state_sweep(&mut self, effects: &mut Effects) -> bool {
        let Some((id, sweep)) = self.sweeps.iter_mut().find(|(_, sweep)| !sweep.paging) else {
            return false;
        };
        sweep.paging = true;
        let (queue, after) = (*id, place_before(sweep.cursor));
        let (limit, purpose) = (limits::STEP_MESSAGES_MAX, Purpose::Sweep);
        self.want(PageWish { queue, after, limit, purpose }, effects);
        true
    }

    /// Takes in a piece of a queue that was asked for. One that the state has moved past is
    /// dropped, and asked for again if it is still wanted.
    pub fn page_in(&mut self, page: &Page, facts: &mut Vec<Fact>) {
        let PageRequest { queue: id, after, limit, purpose, generation } = page.request;
        let current = generation == self.durable.generation;
        let exhausted = page.rows.len() < limit;
        if !current && !matches!(purpose, Purpose::Dispatch | Purpose::Sweep) {
            let wish = PageWish { queue: id, after, limit, purpose };
            return facts.push(Fact::Memory(Change::Want(wish)));
        }
        match purpose {
            Purpose::Browse(browse) => self.state_browsed(page, browse, facts),
            Purpose::Transfer => self.state_transferred(page, facts),
            Purpose::Scan => self.state_scanned(page, facts),
            Purpose::Select(group) => self.state_walked(page, group, facts),
            Purpose::Dispatch => {
                let Some(queue) = self.queues.get_mut(&id) else { return };
                queue.paging = false;
                if current && queue.horizon() == Some(after) {
                    self.extend_window(page, exhausted);
                }
                self.held.spreading.paged(id);
                self.stir(id);
            }
            Purpose::Sweep => {
                let Some(sweep) = self.sweeps.get_mut(&id) else { return };
                if current {
                    self.state_sweep_step(page, facts);
                } else {
                    sweep.paging = false;
                }
            }
        }
    }

    fn extend_window(&mut self, page: &Page, exhausted: bool) {
        let PageRequest { queue: id, after, limit, .. } = page.request;
        let queue = &self.queues[&id];
        let mut found = Vec::new();
        let reached = self.durable.overlay(id, after, &page.rows, exhausted, |place, entry| {
            if entry.is_free() && !queue.on_loan.contains(&place) {
                found.push((place, *entry));
            }
            found.len() < limit
        });
        let queue = self.queues.get_mut(&id).expect("just seen");
        queue.extend(reached);
        // The window may grow past its usual size here: it was below half of it.
        let max = queue.resident_len() + found.len() + 1;
        for (place, entry) in found {
            queue.admit(place, entry, max, &mut self.expiries);
            self.resident += 1;
        }
    }

    fn state_sweep_step(&self, page: &Page, facts: &mut Vec<Fact>) {
        let id = page.request.queue;
        let (queue, sweep) = (&self.queues[&id], &self.sweeps[&id]);
        let (mut gone, mut places) = (Vec::new(), Vec::new());
        let cursor = self.walk(page, sweep.cursor, |seen| {
            match (seen.spot, seen.what) {
                _ if seen.lent => {}
                (Spot::Durable(place), What::Durable(entry)) if place.seq <= sweep.through => {
                    gone.push(Gone::of(place, &entry));
                }
                (Spot::Volatile(place), _) if place.number <= sweep.volatile_through => {
                    places.push(place);
                }
                _ => {}
            }
            true
        });
        let removed = (gone.len() + places.len()) as u64;
        let left = queue.row.depth - gone.len() as u64;
        let volatile = queue.volatile_len() + queue.volatile_on_loan.len() - places.len();
        decide::removed(id, Cause::Purged, gone, facts);
        if !places.is_empty() {
            facts.push(Fact::Memory(Change::Drop { queue: id, cause: Cause::Purged, places }));
        }
        let unused = queue.consumers.is_empty() && volatile == 0 && queue.row.staged == 0;
        if cursor.is_none() && sweep.delete && left == 0 && unused {
            facts.push(Fact::Log(Record::QueueDeleted { queue: id }, Bytes::new()));
        }
        facts.push(Fact::Memory(Change::SweepTo { queue: id, cursor, removed }));
    }
}
