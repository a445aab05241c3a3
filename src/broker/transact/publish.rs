//! What a transaction publishes.
//!
//! What is persistent waits in the line of its topic (`publication`), where it is as durable as the
//! transaction and takes no memory; who listens hears of it from there (`announcing`). Few messages
//! on topics that nobody keeps stay in memory with the unit, so that such a commit writes nothing.
//! Always: of one topic all that is persistent goes one way, and behind what waits in the line
//! already. What is not persistent is in memory until the outcome. Leaves to others: to which line,
//! and who gets it from there.

use std::sync::Arc;

use crate::broker::Broker;
use crate::broker::command::Refusal;
use crate::broker::decide::{DONE, Verdict};
use crate::broker::fact::{Change, Fact, UnitChange, UnitKey, Volatile, VolatileWork};
use crate::broker::grouping::Membership;
use crate::broker::publication::in_line;
use crate::broker::transact::Unit;
use crate::ids::{Body, ConnectionId, Millis};
use crate::limits;
use crate::message::{Destination, Durability, Message, on_topic};
use crate::record::{Record, Staged};

/// Where a message waits for the outcome.
enum Place {
    Memory,
    Line,
}

impl Broker {
    /// States that a message is published when the transaction is committed.
    pub(super) fn decide_publish_in(
        &self,
        now: Millis,
        (connection, key): (ConnectionId, UnitKey),
        name: &Arc<str>,
        (message, body): (&Message, Option<Body>),
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        self.check(name, message)?;
        if !message.when.is_at_once() {
            let line = self.scheduled_line(connection, name);
            return self.decide_send_to(now, key, &line, &in_line(name, message), body, facts);
        }
        let (unit, topic) = (self.unit(key)?, Arc::clone(name));
        let before = unit.published.get(name).copied().unwrap_or_default();
        let sent = Volatile { with_log: true, body, ..self.volatile(now, message) };
        if let Some(limit) = self.topic_bound(name).exceeded(before.held, sent.load()) {
            let destination = Destination::Topic(topic);
            return Err(Refusal::DestinationFull { destination, limit });
        }
        if let Place::Memory = self.place_for(key, name, (message, body))? {
            let client = self.client_of(connection).cloned();
            let work = VolatileWork::Publish { topic, message: sent, client };
            facts.push(Fact::Memory(Change::Unit(key, UnitChange::Work(work))));
            return DONE;
        }
        if self.listeners_never_take(name, sent.content.len() as u64) {
            let limit = self.limits.volatile_bytes;
            return Err(Refusal::MemoryFull { limit });
        }
        if unit.unkept_on(name).next().is_some() {
            self.state_stored(now, (connection, key), name, facts)?;
            return Ok(Verdict::Part);
        }
        let published = UnitChange::Published { topic, bytes: sent.load() };
        facts.push(Fact::Memory(Change::Unit(key, published)));
        let (line, durability) = (self.line_name(connection, name), Durability::Persistent);
        let message = Message { durability, ..in_line(name, message) };
        self.decide_send_to(now, key, &line, &message, body, facts)
    }

    fn place_for(
        &self,
        key: UnitKey,
        topic: &str,
        (message, body): (&Message, Option<Body>),
    ) -> Result<Place, Refusal> {
        let persistent = message.durability == Durability::Persistent;
        let branch = matches!(key, UnitKey::Branch(_));
        // What a branch publishes is to be as durable as its vote, and whoever begins to keep it
        // between vote and commit is to have it. A large body is somebody's in the line.
        let lasts = body.is_some() || branch && persistent;
        if lasts || (persistent || branch) && self.is_kept(topic) {
            return Ok(Place::Line);
        }
        let (unit, room) = (self.unit(key)?, self.has_memory(message));
        if !persistent {
            let limit = self.limits.volatile_bytes;
            return if room { Ok(Place::Memory) } else { Err(Refusal::MemoryFull { limit }) };
        }
        let in_line = unit.published.get(topic).is_some_and(|published| published.in_line);
        let few = unit.unkept.len() < limits::TRANSACTION_VOLATILE_MAX
            && unit.unkept_bytes < limits::TRANSACTION_UNKEPT_BYTES_MAX;
        Ok(if few && room && !in_line { Place::Memory } else { Place::Line })
    }

    /// States that what a unit has published and somebody keeps by now, or what must not overtake
    /// what waits already, goes into a line; of one topic at a time. False where there is nothing.
    pub(super) fn state_next_stored(
        &self,
        now: Millis,
        (connection, key): (ConnectionId, UnitKey),
        facts: &mut Vec<Fact>,
    ) -> Result<bool, Refusal> {
        let client = self.client_of(connection).map(|client| &**client);
        let goes = |it: &&Arc<str>| self.is_kept(it) || self.busy_line(it, client).is_some();
        let Some(topic) = self.unit(key)?.unkept_topics().find(goes) else { return Ok(false) };
        self.state_stored(now, (connection, key), topic, facts)?;
        Ok(true)
    }

    /// States that what a unit has published on a topic waits in the line of that.
    fn state_stored(
        &self,
        now: Millis,
        (connection, key): (ConnectionId, UnitKey),
        topic: &Arc<str>,
        facts: &mut Vec<Fact>,
    ) -> Result<(), Refusal> {
        let line = self.line_name(connection, topic);
        self.check_count(&line)?;
        let (queue, _) = self.queue_or_new(now, &line, facts);
        let (transaction, first) = self.next_operation(key, facts);
        for (message, number) in self.unit(key)?.unkept_on(topic).zip(first..) {
            let content = on_topic(topic, &message.content);
            if Membership::of(&content).is_some() {
                facts.push(Fact::Memory(Change::HasGroups { queue }));
            }
            let bytes = content.len() as u64 + limits::STORED_OVERHEAD_BYTES;
            facts.push(Fact::Memory(Change::Unit(key, UnitChange::Sent { queue, bytes })));
            let Volatile { at, expires, priority, .. } = *message;
            let (rank, upload, once, later) = (9 - priority, None, None, None);
            let staged =
                Staged { transaction, number, queue, rank, at, expires, upload, once, later };
            facts.push(Fact::Log(Record::Staged(staged), content));
        }
        let stored = UnitChange::Stored(Arc::clone(topic));
        facts.push(Fact::Memory(Change::Unit(key, stored)));
        Ok(())
    }

    /// What a unit has published on a topic is in the log.
    pub(super) fn apply_stored(&mut self, key: UnitKey, topic: &Arc<str>) {
        let unit = self.open_unit(key);
        let unkept = std::mem::take(&mut unit.unkept).into_iter();
        let stored: Vec<_>;
        (stored, unit.unkept) = unkept.partition(|work| work.publishes_on(topic));
        let published = unit.published.get_mut(topic).expect("it has published there");
        published.in_line = true;
        let charges = stored.iter().filter_map(VolatileWork::message).map(Volatile::charge);
        let bytes: u64 = charges.sum();
        published.memory -= bytes;
        unit.unkept_bytes -= bytes;
        stored.iter().filter_map(VolatileWork::message).for_each(|message| self.let_go(message));
    }
}

impl Unit {
    /// The persistent messages on a topic that it has in memory.
    fn unkept_on(&self, topic: &str) -> impl Iterator<Item = &Volatile> {
        let those = self.unkept.iter().filter(move |work| work.publishes_on(topic));
        those.filter_map(VolatileWork::message)
    }

    /// The topics on which it has any, some of them more than once.
    fn unkept_topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.unkept.iter().filter_map(|work| match work {
            VolatileWork::Publish { topic, .. } => Some(topic),
            _ => None,
        })
    }
}

impl VolatileWork {
    fn publishes_on(&self, name: &str) -> bool {
        matches!(self, Self::Publish { topic, .. } if **topic == *name)
    }
}
