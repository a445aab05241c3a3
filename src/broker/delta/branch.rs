//! What the durable state knows of branches of global transactions.

use serde::{Deserialize, Serialize};

use crate::broker::delta::Resolution;
use crate::ids::{Millis, Xid};

/// A prepared branch, beside what its transaction says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BranchRow {
    /// Its name.
    pub xid: Xid,
    /// When it was prepared.
    pub at: Millis,
    /// Who began it, in words for operators.
    pub client: Box<str>,
}

/// How a branch has ended that its transaction manager may still ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeRow {
    /// Grows by one with each outcome, from 1.
    pub number: u64,
    /// What.
    pub resolution: Resolution,
    /// When.
    pub at: Millis,
}

/// What an operator has decided of a prepared branch; kept until it is forgotten by request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeuristicRow {
    /// What.
    pub resolution: Resolution,
    /// When.
    pub at: Millis,
    /// Messages that the branch had sent to queues.
    pub sent: u64,
    /// Messages of queues that it had settled.
    pub settled: u64,
    /// Who began it, in words for operators.
    pub client: Box<str>,
}

/// Which outcomes are remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// Those up to this number are forgotten.
    pub forgotten: u64,
    /// The last number given.
    pub last: u64,
    /// Some numbers, and when they were given: the first that is remembered is among them. Tells
    /// what is old without a look at every outcome.
    pub marks: Vec<(u64, Millis)>,
}
