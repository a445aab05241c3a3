//! What a transaction has done so far, as a digest.
//!
//! A commit under an id is bound to it: by it the same transaction, done again after its answer was
//! lost, is told from another one under the same id. Always: the same work in the same order has
//! the same digest, on whatever wire and connection it is done. Leaves to others: what is part of
//! a transaction, and what becomes of a commit that is asked for again.

use crate::broker::command::{Command, MessageId, Outcome, Work};
use crate::identity::{Identity, Listing};
use crate::message::{Durability, Message};
use crate::schedule::{Cron, Plan, When};

/// The digest of what a transaction has done, as it grows.
#[derive(Clone, Debug, Default)]
pub struct Done(Listing);

impl Done {
    /// Takes note of a message that is sent in a transaction; other commands change nothing. A
    /// `body` that went ahead in pieces is known by the [`Listing`] of these.
    pub fn send(&mut self, command: &Command, body: Option<Identity>) {
        let Command::Transact { work, .. } = command.bare() else { return };
        let (Work::Send { to, message } | Work::SendStaged { to, message, .. }) = work else {
            return;
        };
        self.0.add(to.to_string().as_bytes());
        self.0.add(&message.content);
        // Not when it expires: who does the same again says so anew.
        let Message { durability, priority, when, .. } = message;
        self.0.add(&[u8::from(*durability == Durability::Persistent), priority.get()]);
        match when {
            When::AtOnce => {}
            When::After(millis) => self.0.add(&millis.to_le_bytes()),
            When::Again(plan) => {
                let Plan { cron, delay, period, repeat } = &**plan;
                self.0.add(cron.as_ref().map_or_else(String::new, Cron::to_string).as_bytes());
                let repeat = repeat.map_or(u64::MAX, u64::from);
                [*delay, *period, repeat].iter().for_each(|part| self.0.add(&part.to_le_bytes()));
            }
        }
        body.iter().for_each(|body| self.0.add(&body.0));
    }

    /// Takes note of what becomes of a message that was delivered.
    pub fn settle(&mut self, outcome: Outcome, message: MessageId) {
        let outcome = match outcome {
            Outcome::Accepted => "ACK",
            Outcome::Returned | Outcome::Rejected | Outcome::Expired => "NACK",
        };
        self.0.add(outcome.as_bytes());
        self.0.add(message.to_string().as_bytes());
    }

    /// The digest of all of it.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.0.identity()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::ids::{Lsn, TransactionName};
    use crate::message::{Destination, Priority};

    fn message() -> Message {
        Message {
            durability: Durability::Persistent,
            priority: Priority::DEFAULT,
            expires: None,
            when: When::AtOnce,
            grouped: false,
            content: Bytes::from_static(b"content"),
        }
    }

    fn sent(to: &str, message: Message) -> Identity {
        let work = Work::Send { to: Destination::queue(to), message };
        let mut done = Done::default();
        done.send(&Command::Transact { transaction: TransactionName(1), work }, None);
        done.identity()
    }

    /// Whoever does another thing under the id of a commit is not to be told that it was done.
    #[test]
    fn what_was_sent_otherwise_or_settled_otherwise_is_another_transaction() {
        let cron = Cron::parse("0 5 * * *").expect("a time");
        let plan = |cron, delay, period, repeat| {
            When::Again(Box::new(Plan { cron, delay, period, repeat }))
        };
        let whens = [
            When::After(1),
            When::After(2),
            plan(None, 1, 2, Some(3)),
            plan(None, 2, 2, Some(3)),
            plan(None, 1, 3, Some(3)),
            plan(None, 1, 2, Some(4)),
            plan(None, 1, 2, None),
            plan(Some(cron), 1, 2, Some(3)),
        ];
        let mut all = vec![
            sent("q", message()),
            sent("other", message()),
            sent("q", Message { durability: Durability::NonPersistent, ..message() }),
            sent("q", Message { priority: Priority::new(5).expect("a priority"), ..message() }),
            sent("q", Message { content: Bytes::from_static(b"other"), ..message() }),
        ];
        all.extend(whens.map(|when| sent("q", Message { when, ..message() })));
        for (outcome, lsn) in
            [(Outcome::Accepted, 1), (Outcome::Returned, 1), (Outcome::Accepted, 2)]
        {
            let mut done = Done::default();
            done.settle(outcome, MessageId::Durable(Lsn(lsn)));
            all.push(done.identity());
        }
        for (nth, one) in all.iter().enumerate() {
            assert!(all[nth + 1..].iter().all(|other| other != one), "{nth}");
        }
        // Who does the same again later says anew how long it lives.
        let later = Message { expires: Some(crate::ids::Millis(7)), ..message() };
        assert_eq!(sent("q", later), sent("q", message()));
    }
}
