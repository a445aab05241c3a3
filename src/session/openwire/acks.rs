//! Acknowledgements of a client to settlements.
//!
//! A client delivers again by itself what it has rolled back, so that what a transaction has taken
//! stays in its consumer's hands until the outcome, and after a rollback is there as before.

use super::OpenWireSession;
use super::consumer::{Consumer, ConsumerKey, Held};
use super::fault::Problem;
use crate::broker::command::{Command, Outcome, Which};
use crate::ids::{SubscriptionId, Tag, TransactionName};
use crate::protocol::openwire::CommandHead;
use crate::protocol::openwire::table::{AckKind, MessageAck};

/// How a client begins to say that it takes a message for a repetition of one that it has seen.
const DUPLICATE: &str = "Suppressing duplicate delivery";

impl OpenWireSession {
    pub(super) fn acknowledge(&mut self, head: CommandHead, ack: &MessageAck) {
        let result = self.try_acknowledge(ack);
        if let Err(problem) = &result {
            self.spoil(ack.transaction_id.as_ref(), problem);
        }
        // Whoever waits for the answer relies on it after a crash. What is acknowledged in a
        // transaction counts with its commit, which has an answer of its own.
        if result.is_ok() && ack.transaction_id.is_none() {
            return self.confirm(head);
        }
        self.conclude(head, result);
    }

    fn try_acknowledge(&mut self, ack: &MessageAck) -> Result<(), Problem> {
        let kind = AckKind::new(ack.kind);
        let kind = kind.ok_or_else(|| Problem::jms("no such acknowledgement is known"))?;
        let transaction = match &ack.transaction_id {
            Some(id) => Some(self.transactions.named(id)?),
            None => None,
        };
        // One of a consumer that has gone, or of a time before this connection, is of no use any
        // more. A transaction that counts on it must not do the rest: its client would have sent
        // on what comes to another as well.
        let useless = || match (transaction, kind) {
            (None, _) | (_, AckKind::Delivered | AckKind::Redelivered) => Ok(()),
            (Some(_), _) => Err(unmatched(ack)),
        };
        let Some(key) = ack.consumer_id.as_ref().map(ConsumerKey::of) else { return useless() };
        let Some(consumer) = self.consumers.get_mut(&key) else { return useless() };
        let count = i64::from(ack.message_count.max(0));
        match kind {
            AckKind::Delivered => {
                if consumer.extend(count) {
                    self.grant(&key);
                }
                return Ok(());
            }
            AckKind::Redelivered => return Ok(()),
            AckKind::Poison if transaction.is_some() => {
                return Err(Problem::jms("a message cannot be given up in a transaction"));
            }
            _ => {}
        }
        let Some((first, last)) = range(consumer, kind, ack)? else { return useless() };
        if kind == AckKind::Poison && is_of_audit(ack) {
            // Nobody knows whether what the client saw of it ever counted. It stays where it is,
            // and goes to another when this consumer ends.
            consumer.extend(1);
            self.grant(&key);
            return Ok(());
        }
        let outcome = match kind {
            AckKind::Poison => Outcome::Rejected,
            AckKind::Expired => Outcome::Expired,
            _ => Outcome::Accepted,
        };
        let taken = consumer.release(first, last);
        let shorter = consumer.extend(-i64::try_from(taken.len()).unwrap_or(i64::MAX));
        let singly = consumer.singly;
        self.settle(&taken, singly, transaction, outcome);
        if let Some(transaction) = transaction {
            self.transactions.note_taken(transaction, &key, taken);
        }
        if shorter {
            self.grant(&key);
        }
        Ok(())
    }

    /// Settles messages, each by itself or those of one subscription together.
    fn settle(
        &mut self,
        taken: &[(i64, Held)],
        singly: bool,
        transaction: Option<TransactionName>,
        outcome: Outcome,
    ) {
        let mut runs: Vec<(SubscriptionId, Tag, Tag)> = Vec::new();
        for (subscription, tag) in taken.iter().filter_map(|(_, held)| held.delivery) {
            match runs.iter_mut().find(|(known, ..)| *known == subscription && !singly) {
                // Tags grow with each delivery, and all between the two are in the range.
                Some((_, _, last)) => *last = tag,
                None => runs.push((subscription, tag, tag)),
            }
        }
        for (subscription, first, last) in runs {
            let which = if first == last { Which::One(last) } else { Which::Range(first, last) };
            let command = Command::Settle { subscription, which, outcome };
            self.submit(None, command.within(transaction));
        }
    }
}

/// The messages that an acknowledgement is about, by their numbers; none where it is of a time
/// before this connection.
fn range(
    consumer: &Consumer,
    kind: AckKind,
    ack: &MessageAck,
) -> Result<Option<(i64, i64)>, Problem> {
    let id = ack.last_message_id.as_ref();
    let id = id.ok_or_else(|| Problem::jms("an acknowledgement needs a message id"))?;
    let Some(last) = consumer.number_of(id) else {
        if !consumer.began || kind == AckKind::Individual {
            return Ok(None);
        }
        return Err(unmatched(ack));
    };
    if kind == AckKind::Individual {
        return Ok(Some((last, last)));
    }
    let first = match &ack.first_message_id {
        Some(id) => consumer.number_of(id).ok_or_else(|| unmatched(ack))?,
        // Clients say of one message that its time is over, and name no first: what they hold
        // before it is not meant.
        None if kind == AckKind::Expired => consumer.last_of(last, ack.message_count),
        None => 0,
    };
    let last = consumer.end_of(first, id, ack.message_count);
    last.map(|last| Some((first, last))).ok_or_else(|| unmatched(ack))
}

fn unmatched(ack: &MessageAck) -> Problem {
    let name = |id: &Option<crate::protocol::openwire::table::MessageId>| {
        id.as_ref().map_or_else(String::new, |id| id.producer_sequence_id.to_string())
    };
    let (first, last) = (name(&ack.first_message_id), name(&ack.last_message_id));
    Problem::jms(format!(
        "Unmatched acknowledge: messages {first} to {last} of their producers are not in the \
         hands of the consumer"
    ))
}

fn is_of_audit(ack: &MessageAck) -> bool {
    let message = ack.poison_cause.as_ref().and_then(|cause| cause.thrown.message.as_ref());
    message.is_some_and(|message| message.to_str().contains(DUPLICATE))
}
