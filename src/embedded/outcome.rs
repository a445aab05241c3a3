//! What became of a commit: the answer that a program asks for when it has lost the first.

use std::time::Duration;

use super::error::{AskError, OutcomeError};
use super::link::Link;
use crate::broker::command::{Command, Once, Reply};
use crate::identity::Identity;

/// What became of a transaction that was, or was to be, committed
/// [under an id](crate::Transaction::commit_as).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// All of it has happened, and is durable.
    Committed,
    /// Nothing of it has happened, and nothing ever will: a commit under this id that is still on
    /// its way is refused, whatever crash comes. To do the work again takes another id.
    NotCommitted,
    /// The same of the time since then; what was before is not known any more, because the oldest
    /// commits are forgotten where there is no room for them
    /// ([`Builder::ids`](crate::Builder::ids)).
    Forgotten {
        /// The commits of so long are remembered, by the wall clock: where that was set forward
        /// meanwhile, of less.
        within: Duration,
    },
}

/// The id of a commit as the broker knows it; none where the text is empty.
pub(super) fn id_of(id: impl AsRef<str>) -> Option<Identity> {
    let id = id.as_ref();
    (!id.is_empty()).then(|| Identity::of(id.as_bytes()))
}

impl Link {
    pub(super) async fn outcome_of(&self, id: impl AsRef<str>) -> Result<Outcome, OutcomeError> {
        let id = id_of(id).ok_or(OutcomeError::NoId)?;
        let asked = self.ask_small(Command::Once(Once::outcome(id)));
        match self.answer(asked).await {
            Ok(Reply::NotCommitted) => Ok(Outcome::NotCommitted),
            Ok(Reply::OutcomeForgotten { millis }) => {
                Ok(Outcome::Forgotten { within: Duration::from_millis(millis) })
            }
            Ok(_) => Ok(Outcome::Committed),
            Err(AskError::Refused(why)) => Err(why.into()),
            Err(AskError::Ended(ended)) => Err(ended.into()),
        }
    }
}
