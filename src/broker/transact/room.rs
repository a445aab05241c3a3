//! Whether there is room for what a unit sends, and for what it waits.
//!
//! Always: a unit holds no room before its vote, so two that wait cannot wait for each other's.

use std::sync::Arc;

use crate::broker::command::{Command, Refusal};
use crate::broker::decide::Verdict;
use crate::broker::fact::{Change, Fact, UnitChange, UnitKey};
use crate::broker::policy::Shortage;
use crate::broker::transact::Unit;
use crate::broker::{Broker, Room, room};
use crate::ids::{ConnectionId, QueueId};
use crate::limits;
use crate::message::{Destination, Message};

impl Broker {
    pub(super) fn has_memory(&self, message: &Message) -> bool {
        let bytes = message.content.len() as u64 + limits::VOLATILE_OVERHEAD_BYTES;
        self.volatile_bytes.saturating_add(bytes) <= self.limits.volatile_bytes
    }

    /// Refuses a send by which its transaction alone would be more than a queue may hold.
    pub(super) fn fits_alone(
        &self,
        key: UnitKey,
        queue: QueueId,
        name: &Arc<str>,
        bytes: u64,
    ) -> Result<(), Refusal> {
        let known = self.queues.get(&queue);
        let limit = known.map_or_else(|| self.policies.of_queue(name), |known| known.limit);
        let before = self.unit(key)?.sent.get(&queue).copied().unwrap_or_default();
        match limit.exceeded(before, bytes) {
            None => Ok(()),
            Some(limit) => {
                let destination = Destination::Queue(Arc::clone(name));
                Err(Refusal::DestinationFull { destination, limit })
            }
        }
    }

    /// Refuses a send to one destination more than a unit may send to: its commit judges them all
    /// in one step.
    pub(super) fn check_width(&self, unit: &Unit, to: &Destination) -> Result<(), Refusal> {
        let limit = limits::TRANSACTION_WIDTH_MAX;
        if unit.sent.len() + unit.published.len() < limit {
            return Ok(());
        }
        let known = match to {
            Destination::Queue(name) => {
                self.names.get(name).is_some_and(|id| unit.sent.contains_key(id))
            }
            Destination::Topic(name) => unit.published.contains_key(name),
        };
        if known { Ok(()) } else { Err(Refusal::TransactionTooWide { limit }) }
    }

    /// Judges all that a unit sends; what must go for it is stated in `facts`. Gives for what it
    /// must wait, if for anything: only all of it together may wait, holding no room meanwhile. So
    /// that others do not take the room of each queue in turn, for ever, the one that has waited
    /// longest does not ask again where there was room since: a queue may have that much too much.
    pub(in crate::broker) fn room_of_unit(
        &self,
        key: UnitKey,
        facts: &mut Vec<Fact>,
    ) -> Result<Option<Verdict>, Refusal> {
        let (unit, stated) = (self.unit(key)?, facts.len());
        let (mut wait, mut met) = (None, Vec::new());
        for (id, sent) in &unit.sent {
            let Some(queue) = self.queues.get(id) else { continue };
            if let Some(line) = self.held.line(*id).filter(|it| !it.scheduled && self.is_long(*id))
            {
                let topic = Destination::Topic(Arc::clone(&line.topic));
                wait = wait.or(Some(Verdict::HoldFor(topic, Shortage::Destination)));
            }
            let taken = unit.taken.get(id).copied().unwrap_or_default();
            let room = self.room_for_many(*id, queue, (*sent, taken), facts);
            let has_met = self.units.has_met(key, *id);
            match room.inspect_err(|_| facts.truncate(stated))? {
                Room::Enough => met.extend(has_met.filter(|met| !met).map(|_| *id)),
                Room::Lacking(_) if has_met == Some(true) => {}
                room => wait = wait.or(room.wait(Destination::Queue(Arc::clone(&queue.row.name)))),
            }
        }
        for (topic, sent) in &unit.published {
            let room = self.topic_room_for_many(topic, sent.held, sent.memory, sent.memory);
            let room = room.inspect_err(|_| facts.truncate(stated))?;
            wait = wait.or(room.wait(Destination::Topic(Arc::clone(topic))));
            let room = self.room_of_keepers(topic, sent.held, &unit.taken, facts);
            let room = room.inspect_err(|_| facts.truncate(stated))?;
            wait = wait.or(room.wait(Destination::Topic(Arc::clone(topic))));
        }
        if wait.is_some() {
            facts.truncate(stated);
            if !met.is_empty() {
                facts.push(Fact::Memory(Change::Unit(key, UnitChange::Met(met))));
            }
        }
        Ok(wait)
    }

    /// States what must go for what a unit sends that has voted.
    pub(in crate::broker) fn make_room(&self, key: UnitKey, facts: &mut Vec<Fact>) {
        for id in self.units.get(key).into_iter().flat_map(|unit| unit.sent.keys()) {
            let queue = self.queues.get(id).expect("what is staged keeps its queue");
            let places = room::excess(queue);
            if !places.is_empty() {
                facts.push(Fact::Memory(Change::Oust { queue: *id, places }));
            }
        }
    }

    /// Whether that sends to this destination which a command commits, or of which it asks for the
    /// vote.
    #[must_use]
    pub fn sends_with(
        &self,
        connection: ConnectionId,
        command: &Command,
        to: &Destination,
    ) -> bool {
        let local = |name| Some(UnitKey::Local(connection, name));
        let key = match command {
            Command::Xa(command) => command.votes().and_then(|xid| self.unit_of_branch(xid)),
            other => other.commits().and_then(local),
        };
        let Some(unit) = key.and_then(|key| self.units.open.get(&key)) else { return false };
        match to {
            Destination::Queue(name) => {
                self.names.get(name).is_some_and(|id| unit.sent.contains_key(id))
            }
            Destination::Topic(name) => unit.published.contains_key(name),
        }
    }
}
