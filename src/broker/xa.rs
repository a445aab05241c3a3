//! Branches of global transactions, as their managers ask for them (XA).
//!
//! Owns the life of a branch up to its vote, the associations of connections with it, and what a
//! manager is answered. Always: a branch belongs to no connection: whoever knows its name may join,
//! prepare or end it. One that has not voted is rolled back when its time is over, when a
//! connection goes that is associated with it, and when the broker's life ends; one that has voted
//! only by its outcome. Work in a branch is durable with the vote, whatever it asks for, but for
//! what is published not persistently and nobody keeps.
//! Leaves to others: the answer in each state (`table`), what is durable of branches
//! (`super::branch`), and the work itself (`super::transact`).

mod keep;
mod life;
mod steps;
pub(super) mod table;
mod view;

use std::sync::Arc;

use crate::broker::command::{Disposition, Refusal};
use crate::broker::delta::Resolution;
use crate::broker::fact::Asker;
use crate::ids::{ConnectionId, Millis, TransactionId, TransactionName, Xid};

pub(crate) use life::Branches;
pub use table::{EndAs, StartAs, XaError};
pub use view::{Glimpse, InDoubt, Tally};

/// What a transaction manager or an operator asks of a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum XaCommand {
    /// Associates the connection with a branch: until the end, `transaction` names the branch in
    /// what this connection does.
    Start {
        /// Which branch.
        xid: Arc<Xid>,
        /// How.
        how: StartAs,
        /// Chosen by the session, new on this connection; that of the association that goes on
        /// where it is resumed.
        transaction: TransactionName,
        /// Milliseconds after which a new branch that has not voted is rolled back; else as the
        /// settings say.
        timeout: Option<u64>,
        /// Who asks, in words for operators.
        client: Arc<str>,
    },
    /// Ends the association, or suspends it.
    End {
        /// Which branch.
        xid: Arc<Xid>,
        /// What names the association; any other where there is none.
        transaction: TransactionName,
        /// How.
        how: EndAs,
    },
    /// Asks for the vote, as [`crate::broker::command::Reply::Vote`].
    Prepare {
        /// Of which branch.
        xid: Arc<Xid>,
    },
    /// Commits a branch.
    Commit {
        /// Which.
        xid: Arc<Xid>,
        /// It has not voted, and there is no other.
        one_phase: bool,
    },
    /// Rolls a branch back.
    Rollback {
        /// Which.
        xid: Arc<Xid>,
        /// What becomes of the deliveries it has settled.
        disposition: Disposition,
    },
    /// Forgets what an operator has decided of a branch.
    Forget {
        /// Which.
        xid: Arc<Xid>,
    },
    /// The next branches that wait for their managers, as
    /// [`crate::broker::command::Reply::Branches`]: prepared ones and those an operator has
    /// decided, in the order of their names; none at the end.
    Recover {
        /// After this one; from the first without.
        after: Option<Arc<Xid>>,
    },
    /// One of those that [`XaCommand::Recover`] lists, or none, in the same form.
    Find {
        /// Which.
        xid: Arc<Xid>,
    },
    /// An operator ends a prepared branch without its manager, which hears of it when it asks.
    Decide {
        /// Which.
        xid: Arc<Xid>,
        /// How.
        resolution: Resolution,
    },
}

impl XaCommand {
    /// The branch that it asks for a vote, or to be committed without one.
    #[must_use]
    pub fn votes(&self) -> Option<&Xid> {
        match self {
            Self::Prepare { xid } | Self::Commit { xid, one_phase: true } => Some(xid),
            _ => None,
        }
    }

    /// The code that tells a manager of a refusal.
    #[must_use]
    pub fn code_of(&self, refusal: &Refusal) -> XaError {
        match (refusal, self) {
            (Refusal::Xa(error), _) => *error,
            (Refusal::RollbackOnly { .. }, _) => XaError::RbRollback,
            // Its work was rolled back.
            (_, Self::Prepare { .. } | Self::Commit { one_phase: true, .. }) => {
                XaError::RbTransient
            }
            // It stays as it is, and will be asked again.
            (_, Self::Commit { one_phase: false, .. }) => XaError::Retry,
            (_, Self::Start { .. }) => XaError::RmErr,
            _ => XaError::RmFail,
        }
    }
}

/// What a branch says when it is asked to prepare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    /// It can be committed, whatever happens.
    Ok,
    /// There is nothing to be committed: the branch is over.
    ReadOnly,
}

/// A branch that waits for its manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchInfo {
    /// Its name.
    pub xid: Xid,
    /// What an operator has decided, if one has.
    pub decided: Option<Resolution>,
    /// When it was prepared, or decided.
    pub at: Millis,
    /// What it has done, while it is prepared.
    pub transaction: Option<TransactionId>,
    /// Messages that it has sent to queues, or had when an operator decided.
    pub sent: u64,
    /// Messages of queues that it has settled, or had then.
    pub settled: u64,
    /// Who began it, in words.
    pub client: Box<str>,
}

/// An outcome to be looked up in the index.
#[derive(Clone, Debug)]
pub struct OutcomeRequest {
    /// Of which branch.
    pub xid: Arc<Xid>,
    /// Who asks.
    pub(crate) asker: Asker,
    /// And for what.
    pub(crate) verb: table::Verb,
    /// Which state of the index the broker's deltas continue.
    pub generation: u64,
}

/// The answer to an [`OutcomeRequest`].
#[derive(Clone, Debug)]
pub struct OutcomePage {
    /// What was asked.
    pub request: OutcomeRequest,
    /// What the index holds.
    pub row: Option<crate::broker::delta::OutcomeRow>,
}

/// A change of a branch that has not voted, or of what it has in memory.
#[derive(Clone, Debug)]
pub enum BranchChange {
    /// It begins, and the connection is associated with it.
    Begin {
        /// By whom, and under which name.
        by: (ConnectionId, TransactionName),
        /// When it is rolled back.
        deadline: Millis,
        /// Who that is, in words.
        client: Arc<str>,
    },
    /// Another association begins.
    Join {
        /// By whom, and under which name.
        by: (ConnectionId, TransactionName),
    },
    /// An association rests, or goes on.
    Suspend {
        /// Which.
        by: (ConnectionId, TransactionName),
        /// It rests.
        rests: bool,
    },
    /// An association ends.
    Leave {
        /// Which.
        by: (ConnectionId, TransactionName),
    },
    /// Its work is rolled back, and it can only end so; its manager is to hear why.
    Break {
        /// Why.
        why: XaError,
        /// When it is forgotten, if nobody has asked.
        deadline: Millis,
        /// How much of what lives in memory alone is undone at once, in messages.
        at_once: usize,
    },
    /// It waits some more for whoever is associated with it.
    Wait {
        /// Until then.
        deadline: Millis,
    },
    /// Messages that it has settled are in the log from now on.
    Kept {
        /// How many of those that were not.
        count: usize,
    },
    /// It has voted.
    Prepared,
    /// It is over.
    End {
        /// Its transaction, if it has one.
        transaction: Option<TransactionId>,
        /// How.
        resolution: Resolution,
        /// What becomes of deliveries where that is rollback.
        disposition: Disposition,
        /// Who waits for the end of all of it, where that takes several steps.
        asker: Option<Asker>,
        /// How much of what lives in memory alone is done at once, in messages; the rest in steps.
        at_once: usize,
    },
}

impl BranchChange {
    /// How many messages applying this touches, about.
    pub(super) fn messages(&self) -> usize {
        match self {
            Self::Kept { count } => 1 + count,
            Self::Break { at_once, .. } | Self::End { at_once, .. } => 1 + at_once,
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manager that is told "rolled back" of a branch that is still prepared forgets it.
    #[test]
    fn what_a_full_broker_refuses_has_the_code_of_what_became_of_the_branch() {
        let xid = Arc::new(Xid::new(1, b"global", b"branch").expect("a name"));
        let full = Refusal::TooManyBranches { limit: 1 };
        let commit = |one_phase| XaCommand::Commit { xid: Arc::clone(&xid), one_phase };
        assert_eq!(commit(false).code_of(&full), XaError::Retry);
        assert_eq!(commit(true).code_of(&full), XaError::RbTransient);
        assert_eq!(
            XaCommand::Prepare { xid: Arc::clone(&xid) }.code_of(&full),
            XaError::RbTransient
        );
        let start = XaCommand::Start {
            xid: Arc::clone(&xid),
            how: StartAs::New,
            transaction: TransactionName(1),
            timeout: None,
            client: "a client".into(),
        };
        assert_eq!(start.code_of(&full), XaError::RmErr);
        let forget = XaCommand::Forget { xid };
        assert_eq!(forget.code_of(&full), XaError::RmFail);
        assert_eq!(forget.code_of(&Refusal::Xa(XaError::NotA)), XaError::NotA);
    }
}
