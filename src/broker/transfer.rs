//! Moves of messages from one queue to another at an operator's word, step by step.
//!
//! A step is one record: every message in it is in exactly one of the two queues, whatever crash
//! comes. The order is kept; what is lent stays; payloads are not touched, and a message keeps its
//! birth, so its name. A move takes what was in the queue when it began, and no more.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::broker::command::{Refusal, Reply};
use crate::broker::delta::{Entry, Place};
use crate::broker::fact::{
    Asker, Change, Effect, Fact, Page, PageRequest, PageWish, Purpose, Spot, VolatilePlace,
};
use crate::broker::selecting::Waiting;
use crate::broker::walk::{What, place_before};
use crate::broker::{Broker, Effects};
use crate::ids::{Millis, QueueId};
use crate::limits;
use crate::mutant::{self, Mutant};
use crate::record::Record;

/// Which messages are to be moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pick {
    /// The first so many.
    First(u64),
    /// So many more of a move that was begun.
    More(Rest, u64),
    /// These, of that very queue.
    These(QueueId, Arc<BTreeSet<Spot>>),
}

/// What their number of returns is after a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returns {
    /// What it was.
    Keep,
    /// As after the first: it is flagged redelivered, and may be tried as often as a new one.
    Reset,
}

/// How far a move has come, to go on from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// From where.
    queue: QueueId,
    /// Done up to here.
    after: Option<Spot>,
    /// The last durable message it takes.
    through: u64,
    /// The last non-persistent one it takes.
    volatile_through: u64,
}

/// What a move has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MovedReply {
    /// Messages moved by this command.
    pub moved: u64,
    /// What is left of it; `None` when it is done.
    pub rest: Option<Rest>,
}

/// A move under way.
#[derive(Clone, Debug)]
pub struct Transfer {
    asker: Asker,
    to: QueueId,
    rest: Rest,
    /// Messages still to be moved at most.
    left: u64,
    these: Option<Arc<BTreeSet<Spot>>>,
    returns: Returns,
    moved: u64,
}

impl Transfer {
    /// Whether a message is one of those to be moved.
    fn takes(&self, spot: Spot) -> bool {
        let old = match spot {
            Spot::Durable(place) => place.seq <= self.rest.through,
            Spot::Volatile(place) => place.number <= self.rest.volatile_through,
        };
        old && self.these.as_ref().is_none_or(|these| these.contains(&spot))
    }

    pub(super) fn is_to(&self, queue: QueueId) -> bool {
        self.to == queue
    }

    fn wish(&self) -> PageWish {
        let purpose = Purpose::Transfer;
        let limit = limits::STEP_MESSAGES_MAX;
        PageWish { queue: self.rest.queue, after: place_before(self.rest.after), limit, purpose }
    }
}

impl Broker {
    /// States the beginning of a move.
    pub(super) fn decide_move(
        &self,
        now: Millis,
        asker: Asker,
        (from, to): (&str, &str),
        (pick, returns): (&Pick, Returns),
        facts: &mut Vec<Fact>,
    ) -> Result<(), Refusal> {
        let id = *self.names.get(from).ok_or_else(|| Refusal::NoSuchQueue(from.into()))?;
        super::decide::check_name(to)?;
        super::wildcards::check_no_wildcards(to)?;
        if from == to {
            return Err(Refusal::SameQueue(from.into()));
        }
        self.check_count(to)?;
        // What a move brings into a queue must not be taken for what was there before.
        let busy = |id| self.sweeps.contains_key(id) || self.transfers.contains_key(id);
        if busy(&id) || self.transfers.values().any(|transfer| transfer.is_to(id)) {
            return Err(Refusal::QueueBusy(from.into()));
        }
        if self.names.get(to).is_some_and(busy) {
            return Err(Refusal::QueueBusy(to.into()));
        }
        let all = Rest {
            queue: id,
            after: None,
            through: self.queues[&id].row.last_seq,
            volatile_through: self.last_volatile,
        };
        let (rest, left, these) = match pick {
            Pick::First(count) => (all, *count, None),
            Pick::More(rest, count) => (*rest, *count, None),
            Pick::These(queue, these) => (Rest { queue: *queue, ..all }, u64::MAX, Some(these)),
        };
        // The queue that was looked at may be gone, and another have its name.
        if rest.queue != id {
            return Err(Refusal::NoSuchQueue(from.into()));
        }
        let these = these.cloned();
        let to = self.queue_or_new(now, to, facts).0;
        let transfer = Transfer { asker, to, rest, left, these, returns, moved: 0 };
        facts.push(Fact::Memory(Change::Transfer(transfer)));
        Ok(())
    }

    /// States one step of a move, from what a page has brought.
    pub(super) fn state_transferred(&self, page: &Page, facts: &mut Vec<Fact>) {
        let from = page.request.queue;
        let Some(transfer) = self.transfers.get(&from) else { return };
        let source = &self.queues[&from];
        let to = transfer.to;
        let first = self.queues[&to].row.last_seq + 1;
        let (mut entries, mut carried) = (Vec::new(), Vec::new());
        let mut moved = 0;
        let mut after = self.walk(page, transfer.rest.after, |seen| {
            // What comes again stays: it is no message yet.
            let again = matches!(seen.what, What::Durable(entry) if self.is_repeated(&entry));
            let more = moved < transfer.left;
            if more && !seen.lent && !again && transfer.takes(seen.spot) {
                moved += 1;
                match (seen.spot, seen.what) {
                    (Spot::Durable(place), What::Durable(entry)) => {
                        let seen = self.is_seen(source, place, &entry);
                        let returns = transfer.returns.of(entry.returns, seen);
                        entries.push((place, Entry { returns, ..entry }));
                    }
                    (Spot::Volatile(place), What::Volatile(_, returns)) => {
                        let before = first + entries.len() as u64;
                        let returns = transfer.returns.of(returns, returns > 0);
                        carried.push((place, VolatilePlace { before, ..place }, returns));
                    }
                    _ => unreachable!("a spot and what lies there are of one sequence"),
                }
            }
            moved < transfer.left
        });
        let these = transfer.these.as_ref();
        // Those who have picked a few do not want to see all between them.
        if let Some(these) = these
            && let Some(at) = after
        {
            let left = these.iter().filter(|spot| spot.position() > at.position());
            let next = left.min_by_key(|spot| spot.position());
            after = next
                .map(|next| before(*next))
                .map(|next| if next.position() > at.position() { next } else { at });
        }
        if !entries.is_empty() {
            let record = Record::Transferred { from, to, first, entries };
            facts.push(Fact::Log(record, Bytes::new()));
        }
        let rest = after.map(|after| Rest { after: Some(after), ..transfer.rest });
        facts.push(Fact::Memory(Change::TransferTo { from, carried, moved, rest }));
    }

    /// Ends a move where it is, because the store has no room for its records.
    pub fn decide_no_room(&self, request: &PageRequest, refusal: Refusal, facts: &mut Vec<Fact>) {
        if let Some(transfer) = self.transfers.get(&request.queue) {
            let (asker, from) = (transfer.asker, request.queue);
            facts.push(Fact::Memory(Change::TransferOver { from }));
            let result = Err(refusal);
            facts.push(Fact::Memory(Change::Tell { asker, result }));
        }
    }

    pub(super) fn apply_transfer(&mut self, transfer: Transfer, effects: &mut Effects) {
        self.want(transfer.wish(), effects);
        self.transfers.insert(transfer.rest.queue, transfer);
    }

    pub(super) fn apply_transfer_to(
        &mut self,
        from: QueueId,
        carried: Vec<(VolatilePlace, VolatilePlace, u32)>,
        moved: u64,
        rest: Option<Rest>,
        effects: &mut Effects,
    ) {
        let transfer = self.transfers.get_mut(&from).expect("stated of a move");
        transfer.moved += moved;
        transfer.left -= moved;
        let to = transfer.to;
        let over = rest.is_none() || transfer.left == 0;
        let reply = MovedReply { moved: transfer.moved, rest };
        if let Some(rest) = rest {
            transfer.rest = rest;
        }
        let (asker, wish) = (transfer.asker, transfer.wish());
        for (old, new, returns) in carried {
            let queue = self.queues.get_mut(&from).expect("a move keeps its queue");
            let (message, _) = queue.dequeue(old, &mut self.expiries).expect("it waits");
            queue.volatile_bytes -= message.charge();
            let grouped = queue.groups.seen || queue.groups.unknown;
            self.knows_less(from);
            self.free(from);
            let queue = self.queues.get_mut(&to).expect("a move keeps its queue");
            queue.volatile_bytes += message.charge();
            queue.groups.seen |= grouped;
            self.count(from, |c| c.moved_out += 1);
            self.count(to, |c| c.moved_in += 1);
            self.enqueue(to, new, message, returns);
            // Its number is older than those of its neighbours.
            let queue = self.queues.get_mut(&to).expect("just seen");
            queue.waits_again(Spot::Volatile(new), Waiting::Volatile);
        }
        if over {
            self.transfers.remove(&from);
            let result = Ok(Reply::Moved(reply));
            effects.push(Effect::Answer { to: asker, result });
        } else {
            self.want(wish, effects);
        }
    }

    /// Makes true that messages have gone from one queue to another.
    pub(super) fn apply_transferred(
        &mut self,
        from: QueueId,
        to: QueueId,
        first: u64,
        entries: &[(Place, Entry)],
    ) {
        for ((old, entry), seq) in entries.iter().zip(first..) {
            let new = Place { rank: old.rank, seq };
            if !mutant::is(Mutant::MoveWithoutLeaving) {
                self.depart(from, *old, entry);
            }
            // What waited for its time waits no more.
            let note = self.durable.unschedule(entry.note);
            let entry = self.moved_out(from, *entry);
            self.carry(to, new, Entry { due: None, note, ..entry });
        }
        self.count(from, |c| c.moved_out += entries.len() as u64);
        self.count(to, |c| c.moved_in += entries.len() as u64);
    }
}

impl Broker {
    /// A durable message leaves a queue for another, where it will be by the same record.
    pub(super) fn depart(&mut self, from: QueueId, place: Place, entry: &Entry) {
        self.undelay(from, place, entry.due);
        self.durable.left(from, place, entry);
        let queue = self.changing(from);
        queue.row.depth -= 1;
        queue.row.bytes -= entry.charge();
        queue.row.settle_hint();
        let queue = self.queues.get_mut(&from).expect("fits");
        let waited = queue.release(place, &mut self.expiries);
        self.resident -= usize::from(waited.is_some());
        self.knows_less(from);
        self.free(from);
    }

    /// A durable message that has left another queue is in this one from now on.
    pub(super) fn carry(&mut self, to: QueueId, place: Place, entry: Entry) {
        self.durable.put(to, place, entry);
        self.durable.delta.moved.insert(entry.birth, (to, place));
        self.queue(to).groups.unknown = true;
        self.arrive(to, place, entry);
    }
}

impl Returns {
    fn of(self, returns: u32, seen: bool) -> u32 {
        // A new place is beyond every mark of what was delivered before: the count must say it.
        let least = u32::from(seen);
        match self {
            Self::Keep => returns.max(least),
            Self::Reset => least,
        }
    }
}

/// A spot closely before this one.
fn before(spot: Spot) -> Spot {
    let (rank, seq) = match spot {
        Spot::Durable(place) => (place.rank, place.seq),
        Spot::Volatile(place) => (place.rank, place.before),
    };
    Spot::Durable(Place { rank, seq: seq.saturating_sub(1) })
}

const _: () = assert!(limits::STEP_MESSAGES_MAX * 41 + 64 < limits::STEP_LOG_BYTES_MAX);
