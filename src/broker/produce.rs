//! Producers that count what they send, and the connections through which they do.
//!
//! A producer belongs to the connection that has sent in its name last. Two connections that use
//! one name are one producer to the broker: their numbers go into one set. When its connection
//! ends, the producer is remembered for as long as its client may come back and send again what it
//! does not know to be there. One that has ended before its connection is no different until that
//! has lived on for a while: what it has sent may not be answered yet. Always: what a connection
//! leaves to be said is said some at a time.
//! Leaves to others: what is remembered, and in which order it is forgotten (`producers`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use crate::broker::command::Refusal;
use crate::broker::fact::{Change, Fact};
use crate::broker::producers::Taken;
use crate::broker::{Broker, once::Standing};
use crate::identity::{Identity, Numbered};
use crate::ids::{ConnectionId, Millis, TransactionId};
use crate::limits;
use crate::record::{ProducersRecord, Record};

/// What is remembered of producers, and how well, for operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProducerCounts {
    /// Producers that are remembered.
    pub known: usize,
    /// Bytes of memory that this is taken to cost.
    pub bytes: u64,
    /// Producers forgotten before their time for want of room since the start.
    pub forgotten_early: u64,
}

/// Who speaks for which producers.
#[derive(Debug, Default)]
pub(crate) struct Speakers {
    of: BTreeMap<Identity, Speaker>,
    by: BTreeMap<ConnectionId, BTreeSet<Identity>>,
    /// Those of connections that have ended, and of which no record says so yet; with whether they
    /// said that they would.
    parting: VecDeque<(ConnectionId, bool, BTreeSet<Identity>)>,
    /// Those that have ended before their connection, since when.
    ended: BTreeSet<(Millis, Identity)>,
}

/// Who speaks for a producer.
#[derive(Clone, Copy, Debug)]
struct Speaker {
    connection: ConnectionId,
    /// Since when it does not mean to speak for it any more.
    ended: Option<Millis>,
}

impl Speakers {
    fn speaks(&mut self, connection: ConnectionId, producer: Identity) {
        self.forget(producer);
        self.of.insert(producer, Speaker { connection, ended: None });
        self.by.entry(connection).or_default().insert(producer);
    }

    fn leave(&mut self, connection: ConnectionId, producer: Identity) {
        let Some(all) = self.by.get_mut(&connection) else { return };
        all.remove(&producer);
        if all.is_empty() {
            self.by.remove(&connection);
        }
    }

    fn forget(&mut self, producer: Identity) {
        if let Some(Speaker { connection, ended }) = self.of.remove(&producer) {
            self.leave(connection, producer);
            ended.iter().for_each(|at| _ = self.ended.remove(&(*at, producer)));
        }
    }

    fn is_of(&self, connection: ConnectionId, producer: Identity) -> bool {
        self.of.get(&producer).is_some_and(|speaker| speaker.connection == connection)
    }

    fn end(&mut self, producer: Identity, at: Millis) {
        let Some(speaker) = self.of.get_mut(&producer) else { return };
        if speaker.ended.is_none() {
            speaker.ended = Some(at);
            self.ended.insert((at, producer));
        }
    }

    /// Some of those that have ended by then.
    fn take_ended(&mut self, by: Millis) -> Vec<Identity> {
        let ended = self.ended.iter().take_while(|(at, _)| *at <= by);
        let some: Vec<_> = ended.take(limits::STEP_MESSAGES_MAX).map(|(_, id)| *id).collect();
        some.iter().for_each(|id| self.forget(*id));
        some
    }

    fn part(&mut self, connection: ConnectionId, closed: bool) {
        if let Some(all) = self.by.remove(&connection) {
            self.parting.push_back((connection, closed, all));
        }
    }

    /// Some of those that have gone together and have not come back since.
    fn next_parted(&mut self) -> Option<(bool, Vec<Identity>)> {
        let (connection, closed, all) = self.parting.front_mut()?;
        let (connection, closed) = (*connection, *closed);
        let some = std::iter::from_fn(|| all.pop_first()).take(limits::STEP_MESSAGES_MAX);
        let mut some: Vec<_> = some.collect();
        if all.is_empty() {
            self.parting.pop_front();
        }
        some.retain(|id| self.is_of(connection, *id));
        some.iter().for_each(|id| self.forget(*id));
        Some((closed, some))
    }
}

/// What decide states.
impl Broker {
    /// Whether a number was sent before; refuses one of which nobody knows.
    pub(super) fn number_standing(
        &self,
        it: Numbered,
        transaction: Option<TransactionId>,
    ) -> Result<Option<Standing>, Refusal> {
        match self.durable.taken(it) {
            Taken::Done => Ok(Some(Standing::Done)),
            Taken::Pending(other) if Some(other) != transaction => Err(Refusal::NumberPending),
            Taken::Pending(other) => Ok(Some(Standing::Pending(other))),
            Taken::Below(floor) => Err(Refusal::BelowWindow { sequence: it.sequence, floor }),
            Taken::Free => Ok(None),
        }
    }

    /// States that a connection speaks for a producer, unless that is known.
    pub(super) fn state_speaks(
        &self,
        connection: ConnectionId,
        producer: Identity,
        facts: &mut Vec<Fact>,
    ) {
        if !self.speakers.is_of(connection, producer) {
            facts.push(Fact::Memory(Change::Speaks { connection, producer }));
        }
    }

    /// States that some producers of a connection have ended.
    pub(super) fn state_ended(
        &self,
        now: Millis,
        connection: ConnectionId,
        producers: &[Identity],
        facts: &mut Vec<Fact>,
    ) {
        let own = |id: &&Identity| self.speakers.is_of(connection, **id);
        let producers: Vec<_> = producers.iter().filter(own).copied().collect();
        if !producers.is_empty() {
            facts.push(Fact::Memory(Change::EndProducers { producers, at: now }));
        }
    }

    /// States that the producers of a connection have gone with it.
    pub(super) fn state_parting(
        &self,
        connection: ConnectionId,
        closed: bool,
        facts: &mut Vec<Fact>,
    ) {
        if self.speakers.by.contains_key(&connection) {
            facts.push(Fact::Memory(Change::Part { connection, closed }));
        }
    }
}

/// What follows by itself.
impl Broker {
    /// Those that were there in an earlier life, and are not said to be gone.
    fn left_behind(&self) -> impl Iterator<Item = Identity> {
        self.durable.producers.left_behind(Millis(self.durable.scalars.life_at))
    }

    /// Up to when those have ended of which it is to be said now: when it is for the first, or
    /// where others would have to go for them.
    fn ended_by(&self, now: Millis) -> Option<Millis> {
        let due = self.next_ended()?;
        if self.durable.producers.is_crowded(&self.limits) {
            return Some(Millis(u64::MAX));
        }
        (due <= now).then(|| Millis(now.0.saturating_sub(self.limits.producers_closed_millis)))
    }

    fn next_ended(&self) -> Option<Millis> {
        let (first, _) = self.speakers.ended.first()?;
        // Some time later, so that many go together.
        let wait = self.limits.producers_closed_millis.saturating_add(limits::FORGET_REST_MILLIS);
        Some(Millis(first.0.saturating_add(wait)))
    }

    /// When there is something to be said of producers, or to be read.
    pub(super) fn next_producers_deadline(&self) -> Option<Millis> {
        if self.lacks_producers() {
            return self.next_producers_read();
        }
        let forgotten = self.durable.producers.next_deadline(&self.limits);
        self.next_ended().into_iter().chain(forgotten).min()
    }

    /// Whether there is something to be said of producers.
    pub(super) fn has_producers_to_state(&self, now: Millis) -> bool {
        if self.lacks_producers() {
            return self.has_producers_to_read(now);
        }
        !self.speakers.parting.is_empty()
            || self.ended_by(now).is_some()
            || self.left_behind().next().is_some()
            || self.durable.producers.has_excess(now, &self.limits)
    }

    /// States that producers have parted, or are forgotten, some at a time; false when there is
    /// nothing of the kind.
    pub(super) fn state_producers(&mut self, now: Millis, facts: &mut Vec<Fact>) -> bool {
        if self.lacks_producers() {
            return false;
        }
        let (mut closed, mut producers) = (false, Vec::new());
        if let Some((said, some)) = self.speakers.next_parted() {
            closed = said;
            let known = |id: &Identity| self.durable.producers.knows(*id);
            producers.extend(some.into_iter().filter(known));
        } else if let Some(by) = self.ended_by(now) {
            closed = true;
            let known = |id: &Identity| self.durable.producers.knows(*id);
            producers.extend(self.speakers.take_ended(by).into_iter().filter(known));
        } else {
            producers.extend(self.left_behind().take(limits::STEP_MESSAGES_MAX));
            if producers.is_empty() {
                return self.state_forgotten_producers(now, facts);
            }
        }
        if !producers.is_empty() {
            let parted = ProducersRecord::Parted { at: self.time(now), closed, producers };
            facts.push(Fact::Log(Record::Producers(parted), Bytes::new()));
        }
        true
    }

    fn state_forgotten_producers(&mut self, now: Millis, facts: &mut Vec<Fact>) -> bool {
        if !self.durable.producers.has_excess(now, &self.limits) {
            return false;
        }
        let leaving = self.durable.producers.excess(now, &self.limits);
        self.producers_forgotten += leaving.early;
        let forgotten = ProducersRecord::Forgotten { producers: leaving.producers };
        facts.push(Fact::Log(Record::Producers(forgotten), Bytes::new()));
        true
    }

    /// Counts of producers as they are now.
    #[must_use]
    pub fn producer_counts(&self) -> ProducerCounts {
        let producers = &self.durable.producers;
        let (known, bytes) = (producers.len(), producers.bytes());
        ProducerCounts { known, bytes, forgotten_early: self.producers_forgotten }
    }
}

/// What apply does.
impl Broker {
    pub(super) fn apply_speaks(&mut self, connection: ConnectionId, producer: Identity) {
        self.speakers.speaks(connection, producer);
    }

    pub(super) fn apply_ended(&mut self, producers: &[Identity], at: Millis) {
        producers.iter().for_each(|id| self.speakers.end(*id, at));
    }

    pub(super) fn apply_part(&mut self, connection: ConnectionId, closed: bool) {
        self.speakers.part(connection, closed);
    }

    pub(super) fn apply_producers(&mut self, record: &ProducersRecord) {
        if let ProducersRecord::Parted { at, .. } = record {
            self.saw(*at);
        }
        self.durable.apply_producers(record);
        // Whoever has a connection that sends on is known anew then.
        if let ProducersRecord::Forgotten { producers } = record {
            producers.iter().for_each(|id| self.speakers.forget(*id));
        }
    }
}
