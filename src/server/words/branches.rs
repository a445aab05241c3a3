//! What is said about branches of global transactions.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use crate::broker::command::{BranchInfo, Resolution, Tally};
use crate::ids::QueueId;
use crate::limits;

/// What an operator can ask about branches. Xids are text, as they are displayed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum XaAsk {
    /// Those that wait for their managers, by name.
    List {
        /// After this one.
        after: Option<String>,
        /// So many at most.
        count: u64,
    },
    /// One of them.
    Show {
        /// Which.
        xid: String,
    },
    /// Ends a prepared branch without its manager. The answer tells of the branch as it was.
    Decide {
        /// Which.
        xid: String,
        /// Commits it; else it is rolled back.
        commit: bool,
    },
    /// Forgets what an operator has decided. The answer tells of that.
    Forget {
        /// Of which branch.
        xid: String,
    },
}

/// How far a branch is that waits for its manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BranchState {
    /// It has voted, and waits for its outcome.
    Prepared,
    /// An operator has committed it, and its manager has not had that forgotten.
    HeuristicallyCommitted,
    /// An operator has rolled it back, and its manager has not had that forgotten.
    HeuristicallyRolledBack,
}

/// A branch that waits for its manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BranchLine {
    /// Its name: FORMAT:GLOBAL:BRANCH, the names in hexadecimal.
    pub xid: String,
    /// How far it is.
    pub state: BranchState,
    /// When it was prepared, or decided by an operator.
    pub at: u64,
    /// Who began it, where that is known.
    pub client: Option<String>,
    /// Messages that it has sent to queues, and that a commit puts there, or would have.
    pub sent: u64,
    /// Messages of queues that it has settled, and that a rollback returns, or would have.
    pub settled: u64,
    /// The queues with most of these, while it is prepared: 50 at most.
    pub queues: Vec<QueueWork>,
    /// How many of these messages are counted there: of a large branch the first 4096, and of
    /// those what is in the 50 queues.
    pub broken_down: u64,
}

/// What a branch has done with one queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueWork {
    /// Its name.
    pub name: String,
    /// Messages sent to it.
    pub sent: u64,
    /// Messages of it that were settled.
    pub settled: u64,
}

/// The end of a list of branches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BranchesEnd {
    /// Prepared branches in all.
    pub prepared: u64,
    /// Branches that an operator has decided, in all.
    pub decided: u64,
    /// Whether there are more after the last that was listed.
    pub more: bool,
}

impl BranchLine {
    /// A branch, and what it has done with the queues that are named with it.
    #[must_use]
    pub fn new(info: &BranchInfo, named: Vec<(String, (u64, u64))>) -> Self {
        let state = match info.decided {
            None => BranchState::Prepared,
            Some(Resolution::Commit) => BranchState::HeuristicallyCommitted,
            Some(Resolution::Rollback) => BranchState::HeuristicallyRolledBack,
        };
        let work = |(name, (sent, settled))| QueueWork { name, sent, settled };
        let queues: Vec<_> = named.into_iter().map(work).collect();
        Self {
            xid: info.xid.to_string(),
            state,
            at: info.at.0,
            client: Some(info.client.to_string()).filter(|client| !client.is_empty()),
            sent: info.sent,
            settled: info.settled,
            broken_down: queues.iter().map(|work| work.sent + work.settled).sum(),
            queues,
        }
    }
}

/// The queues of a tally that are shown: those with most messages, the largest first.
#[must_use]
pub fn shown(tally: Tally) -> Vec<(QueueId, (u64, u64))> {
    let mut queues: Vec<_> = tally.queues.into_iter().collect();
    queues.sort_by_key(|(id, (sent, settled))| (Reverse(sent + settled), *id));
    queues.truncate(limits::BRANCH_SHOWN_QUEUES);
    queues
}
