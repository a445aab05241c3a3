//! What a transaction has done so far, as a digest.
//!
//! A commit under an id is bound to it: by it the same transaction, done again after its answer was
//! lost, is told from another one under the same id. Always: the same work in the same order has
//! the same digest, on whatever wire and connection it is done. Leaves to others: what is part of
//! a transaction, and what becomes of a commit that is asked for again.

use crate::broker::command::{Command, MessageId, Outcome, Work};
use crate::identity::{Identity, Listing};

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
