//! What a transaction publishes.
//!
//! Always: who listens at its commit hears of it from memory; what somebody may keep waits in the
//! line of its topic as well (`publication`), where it is as durable as the transaction. Leaves to
//! others: to which line, and who gets it from there.

use std::sync::Arc;

use crate::broker::Broker;
use crate::broker::command::Refusal;
use crate::broker::decide::{DONE, Verdict};
use crate::broker::fact::{Change, Fact, UnitChange, UnitKey, Volatile, VolatileWork};
use crate::broker::publication::in_line;
use crate::ids::{Body, ConnectionId, Millis};
use crate::message::{Destination, Durability, Message};

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
        let limit = self.limits.volatile_bytes;
        if !self.has_memory(message) {
            return Err(Refusal::MemoryFull { limit });
        }
        if !message.when.is_at_once() {
            let line = self.scheduled_line(connection, name);
            return self.decide_send_to(now, key, &line, &in_line(name, message), body, facts);
        }
        let in_branch = matches!(key, UnitKey::Branch(_));
        let line = match body {
            // There its body is somebody's.
            Some(_) => Some(self.line_name(connection, name)),
            None => self.line_for(connection, name, message, in_branch),
        };
        let durability = if line.is_some() { Durability::Persistent } else { message.durability };
        let (whole, message) = (message, &Message { durability, ..message.clone() });
        let topic = Arc::clone(name);
        let message = Volatile { with_log: true, body, ..self.volatile(now, message) };
        let before = self.unit(key)?.published.get(name).copied().unwrap_or_default();
        if let Some(limit) = self.topic_bound(name).exceeded(before.held, message.load()) {
            let destination = Destination::Topic(topic);
            return Err(Refusal::DestinationFull { destination, limit });
        }
        let client = self.client_of(connection).cloned();
        let work = VolatileWork::Publish { topic, message, client };
        facts.push(Fact::Memory(Change::Unit(key, UnitChange::Work(work))));
        match line {
            Some(line) => self.decide_send_to(now, key, &line, &in_line(name, whole), body, facts),
            None => DONE,
        }
    }
}
