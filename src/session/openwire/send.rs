//! Messages of the client to sends, and what came of them.
//!
//! A persistent message to a queue is sent under the number that its producer gave it, so that a
//! client that comes back and sends again what it has no answer for makes no doubles. Where a
//! message goes to several destinations they are sent one by one and answered together.

use std::collections::BTreeMap;

use super::OpenWireSession;
use super::advisory::is_advisory;
use super::answers::{Asked, Group};
use super::fault::Problem;
use super::names;
use super::stored::{Envelope, envelope, head_to_keep};
use crate::broker::command::{Command, Once, Refusal, Reply};
use crate::identity::{Identity, Numbered};
use crate::ids::{Token, TransactionName};
use crate::message::{self, Destination, Durability, Jms, JmsBody};
use crate::protocol::openwire::CommandHead;
use crate::protocol::openwire::message::Message;
use crate::protocol::openwire::table::{MessageHead, ProducerAck, ProducerId};

/// A send that is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SendId(u64);

/// What is to be said when a send is over.
#[derive(Debug)]
pub(super) struct Sending {
    head: CommandHead,
    /// Whose window it took of, and how much.
    window: Option<(ProducerId, i32)>,
    group: Group,
}

/// The sends that are not answered.
#[derive(Debug, Default)]
pub(super) struct Sends {
    all: BTreeMap<SendId, Sending>,
    last: u64,
}

/// Where a message goes, and in which transaction.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) to: Vec<Destination>,
    pub(super) transaction: Option<TransactionName>,
}

impl OpenWireSession {
    pub(super) fn send(&mut self, head: CommandHead, message: Message) {
        let transaction = message.head.transaction_id.clone();
        if let Err(problem) = self.try_send(head, message) {
            self.spoil(transaction.as_ref(), &problem);
            self.fail(head, &problem);
        }
    }

    fn try_send(&mut self, head: CommandHead, mut message: Message) -> Result<(), Problem> {
        let route = self.route(&message.head)?;
        let window = self.window_of(head, &message);
        let transaction = message.head.transaction_id.as_ref();
        if transaction.is_some_and(|id| self.transactions.is_in_vain(id)) {
            self.send_all(head, window, Vec::new());
            return Ok(());
        }
        let envelope = self.envelope(&mut message)?;
        let id = message.head.message_id.take();
        let (numbers, several) = (numbers(&message.head, id.as_ref()), route.to.len() > 1);
        message.head.message_id = id;
        let grouped = message.head.group_id.is_some();
        let (body, bytes) = JmsBody::of(&message);
        let producer = message.head.producer_id.clone();
        let stored = Jms::Whole(head_to_keep(message, body), bytes);
        let content = stored.encode().map_err(|why| Problem::jms(why.to_string()))?;
        let mut commands = Vec::new();
        for to in route.to {
            let message = message::Message {
                durability: durability(&envelope, &to),
                priority: envelope.priority,
                expires: envelope.expires,
                when: envelope.when.clone(),
                grouped,
                content: content.clone(),
            };
            if matches!(to, Destination::Topic(_)) && !names::is_temporary(&to) {
                self.identify();
            }
            let marks = marks(&envelope, numbers.as_ref(), &to, several);
            self.note_counted(producer.as_ref(), &marks);
            let command = Command::Send { to, message };
            commands.push(marks.apply(command.within(route.transaction)));
        }
        self.send_all(head, window, commands);
        Ok(())
    }

    /// The envelope of a message. One that another broker sends on is known by its own id, so that
    /// a bridge that broke before it had an answer makes no doubles; and by its way, since it may
    /// come by another one.
    pub(super) fn envelope(&self, message: &mut Message) -> Result<Envelope, Problem> {
        let mut envelope = envelope(message).map_err(|why| Problem::jms(why.to_string()))?;
        let persistent = envelope.durability == Durability::Persistent;
        let id = message.head.message_id.as_ref();
        let producer = id.and_then(|id| id.producer_id.as_ref());
        if let (Some(id), Some(_)) = (id, producer)
            && self.network.is_some()
            && persistent
            && envelope.name.as_ref().is_none_or(String::is_empty)
            && producer != message.head.producer_id.as_ref()
        {
            envelope.name = Some(format!(
                "{producer:?} {} {:?}",
                id.producer_sequence_id, message.tail.broker_path
            ));
        }
        Ok(envelope)
    }

    /// Where a message is to go.
    pub(super) fn route(&self, head: &MessageHead) -> Result<Route, Problem> {
        let transaction = match &head.transaction_id {
            Some(id) => Some(self.transactions.named(id)?),
            None => None,
        };
        let to = names::parse(head.destination.as_ref())?;
        for destination in &to {
            let gone = names::is_temporary(destination)
                && self.config.registry.owner(destination).is_none();
            if gone {
                return Err(Problem::no_temporary(destination.to_string()));
            }
            if self.config.login && is_advisory(destination) {
                return Err(Problem::security("only the broker makes advisories"));
            }
            if names::is_pattern(destination) {
                let why = format!("{destination} is a pattern: nothing can be sent there");
                return Err(Problem::destination(why));
            }
        }
        Ok(Route { to, transaction })
    }

    /// What a send takes of its producer's window, where that is to be given back by itself.
    pub(super) fn window_of(
        &self,
        head: CommandHead,
        message: &Message,
    ) -> Option<(ProducerId, i32)> {
        let producer = message.head.producer_id.as_ref()?;
        let windowed = self.producers.get(producer).is_some_and(|known| known.windowed);
        if head.response_required || !windowed {
            return None;
        }
        let length = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
        let bytes = length(&message.content) + length(&message.tail.marshalled_properties);
        Some((super::produce::compact(producer), i32::try_from(bytes + 1024).unwrap_or(i32::MAX)))
    }

    /// Nothing is left to do for a message that is in vain.
    pub(super) fn send_all(
        &mut self,
        head: CommandHead,
        window: Option<(ProducerId, i32)>,
        commands: Vec<Command>,
    ) {
        if commands.is_empty() {
            return self.sending_over(head, window, None);
        }
        if !head.response_required && window.is_none() {
            return commands.into_iter().for_each(|command| self.submit(None, command));
        }
        self.sends.last += 1;
        let id = SendId(self.sends.last);
        let mut group = Group::default();
        for command in commands {
            self.submit(Some(Asked::Send(id)), command);
            group.waiting.insert(self.last_token);
        }
        self.sends.all.insert(id, Sending { head, window, group });
    }

    /// One of the parts of a send is over.
    pub(super) fn sent(&mut self, id: SendId, token: Token, result: Result<Reply, Refusal>) {
        let Some(sending) = self.sends.all.get_mut(&id) else { return };
        sending.group.waiting.remove(&token.0);
        if let Err(refusal) = result {
            sending.group.problem.get_or_insert(Problem::refused(&refusal));
        }
        if !sending.group.waiting.is_empty() {
            return;
        }
        let Some(Sending { head, window, group }) = self.sends.all.remove(&id) else { return };
        self.sending_over(head, window, group.problem);
    }

    fn sending_over(
        &mut self,
        head: CommandHead,
        window: Option<(ProducerId, i32)>,
        problem: Option<Problem>,
    ) {
        match problem {
            Some(problem) => self.fail(head, &problem),
            None => self.done(head),
        }
        if let Some((producer, size)) = window {
            let producer_id = Some(producer);
            self.write(&ProducerAck { producer_id, size, ..ProducerAck::default() });
        }
    }
}

/// By what a message is told from a repetition of it.
pub(super) enum Marks {
    None,
    Name(Identity),
    Number(Numbered),
}

impl Marks {
    pub(super) fn apply(self, command: Command) -> Command {
        match self {
            Self::None => command,
            Self::Name(id) => Command::Once(Once::send(id, command).leniently()),
            Self::Number(it) => Command::Once(Once::numbered(it, command).leniently()),
        }
    }
}

/// The producer of a message and its number there, where it is the producer's own: one that a
/// bridge sends on may come by twice, and be meant to.
pub(super) fn numbers(
    head: &MessageHead,
    id: Option<&crate::protocol::openwire::table::MessageId>,
) -> Option<(String, u64)> {
    let id = id?;
    let producer = id.producer_id.as_ref()?;
    if head.producer_id.as_ref() != Some(producer) {
        return None;
    }
    let sequence = u64::try_from(id.producer_sequence_id).ok()?;
    let connection = producer.connection_id.as_ref()?;
    let name = format!("{connection}:{}:{}", producer.session_id, producer.value);
    Some((name, sequence))
}

pub(super) fn marks(
    envelope: &Envelope,
    numbers: Option<&(String, u64)>,
    to: &Destination,
    several: bool,
) -> Marks {
    // One that lives in memory alone need not outlive its connection.
    let persistent = durability(envelope, to) == Durability::Persistent;
    // What is published is as durable as it says it is, with an id or without; and what a bridge
    // publishes may come by twice, and be meant to.
    let own = matches!(to, Destination::Queue(_)) || (persistent && numbers.is_some());
    if let Some(name) = envelope.name.as_ref().filter(|name| own && !name.is_empty()) {
        return Marks::Name(Identity::of(name.as_bytes()));
    }
    match numbers.filter(|_| persistent) {
        Some((producer, sequence)) => {
            // The same number goes to each of several queues.
            let name = if several { format!("{producer} {to}") } else { producer.clone() };
            let producer = Identity::of(name.as_bytes());
            Marks::Number(Numbered { producer, sequence: *sequence })
        }
        None => Marks::None,
    }
}

/// What is sent to a temporary destination goes with that.
pub(super) fn durability(envelope: &Envelope, to: &Destination) -> Durability {
    if names::is_temporary(to) { Durability::NonPersistent } else { envelope.durability }
}
