//! What operators and whoever watches see of branches that wait for their managers.
//!
//! Changes nothing that is durable, and never looks into the index: what a branch has done lies in
//! part there, so whoever wants to see it joins the two ([`Glimpse`]).

use std::collections::BTreeMap;

use crate::broker::Broker;
use crate::broker::delta::{BranchRow, Delta, HeuristicRow, Operation};
use crate::broker::xa::BranchInfo;
use crate::ids::{Millis, QueueId, TransactionId, Xid};
use crate::limits;

/// Branches that wait for their managers, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InDoubt {
    /// Prepared ones.
    pub prepared: usize,
    /// Of these, how many have been found to wait for longer than the settings want.
    pub overdue: usize,
    /// When the oldest of them voted.
    pub oldest: Option<Millis>,
    /// Those that an operator has decided, and no manager has had forgotten.
    pub decided: usize,
}

/// What memory knows of some operations of a prepared branch: those with these numbers, in order.
/// The others lie in the index, and did so before: a branch that has voted does nothing more.
#[derive(Clone, Debug, Default)]
pub struct Glimpse {
    /// What is in memory.
    pub operations: Vec<(u64, Operation)>,
    /// Whether nothing of them is elsewhere.
    pub complete: bool,
}

impl Glimpse {
    /// Adds what the index has of them.
    pub fn join(&mut self, rows: &[(u64, Operation)]) {
        self.operations.extend_from_slice(rows);
        self.operations.sort_by_key(|(number, _)| *number);
        self.operations.dedup_by_key(|(number, _)| *number);
    }
}

/// What a branch has done, by queue, as far as it has been looked at.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Messages sent to each queue, and settled of it.
    pub queues: BTreeMap<QueueId, (u64, u64)>,
    /// Operations that are counted there: those up to this number.
    pub counted: u64,
}

impl Tally {
    /// Counts the next operations; false where there are no more.
    pub fn add(&mut self, glimpse: &Glimpse) -> bool {
        for (_, operation) in &glimpse.operations {
            let (queue, sends) = operation.about();
            let (sent, settled) = self.queues.entry(queue).or_default();
            *if sends { sent } else { settled } += 1;
        }
        self.counted += glimpse.operations.len() as u64;
        glimpse.operations.len() == limits::GLIMPSE_OPERATIONS
            && self.counted < limits::BRANCH_SHOWN_OPERATIONS
    }
}

impl Operation {
    /// The queue it is about, and whether it sends to it.
    #[must_use]
    pub fn about(&self) -> (QueueId, bool) {
        match self {
            Self::Send { queue, .. } => (*queue, true),
            Self::Take { queue, .. } | Self::Keep { queue, .. } => (*queue, false),
        }
    }
}

impl Broker {
    pub(super) fn branch_info(
        &self,
        xid: &Xid,
        known: Result<(TransactionId, &BranchRow), &HeuristicRow>,
    ) -> BranchInfo {
        match known {
            Ok((id, row)) => {
                let done = self.durable.transactions.get(id);
                let (all, sent) = done.map_or((0, 0), |row| (row.operations, row.sends));
                BranchInfo {
                    xid: xid.clone(),
                    decided: None,
                    at: row.at,
                    transaction: Some(id),
                    sent,
                    settled: all - sent,
                    client: row.client.clone(),
                }
            }
            Err(row) => BranchInfo {
                xid: xid.clone(),
                decided: Some(row.resolution),
                at: row.at,
                transaction: None,
                sent: row.sent,
                settled: row.settled,
                client: row.client.clone(),
            },
        }
    }

    /// The next branches that wait for their managers, so many at most, by name.
    #[must_use]
    pub fn branches_after(&self, after: Option<&Xid>, limit: usize) -> Vec<BranchInfo> {
        let all = self.durable.branches.after(after).take(limit);
        all.map(|(xid, known)| self.branch_info(xid, known)).collect()
    }

    /// What memory knows of the operations of a transaction after this number, so many at most.
    #[must_use]
    pub fn glimpse(&self, transaction: TransactionId, after: u64, limit: usize) -> Glimpse {
        let Some(row) = self.durable.transactions.get(transaction) else {
            return Glimpse { operations: Vec::new(), complete: true };
        };
        let through = row.operations.min(after.saturating_add(limit as u64));
        if through <= after {
            return Glimpse { operations: Vec::new(), complete: true };
        }
        let range = (transaction, after + 1)..=(transaction, through);
        let nothing = Delta::default();
        let frozen = self.durable.frozen.as_deref().unwrap_or(&nothing);
        let old = frozen.operations.range(range.clone());
        let all = old.chain(self.durable.delta.operations.range(range));
        let all = all.filter_map(|((_, number), operation)| Some((*number, (*operation)?)));
        let mut found = Glimpse::default();
        found.join(&all.collect::<Vec<_>>());
        found.complete = found.operations.len() as u64 == through - after;
        found
    }

    /// The name of a queue that there is.
    #[must_use]
    pub fn queue_name(&self, id: QueueId) -> Option<&str> {
        self.queues.get(&id).map(|queue| &*queue.row.name)
    }

    /// Branches that wait for their managers, in numbers.
    #[must_use]
    pub fn in_doubt(&self) -> InDoubt {
        let known = &self.durable.branches;
        let (prepared, decided) = known.counts();
        InDoubt { prepared, overdue: known.overdue(), oldest: known.oldest(), decided }
    }

    /// When the next prepared branch will have waited for longer than the settings want.
    #[must_use]
    pub fn next_overdue(&self) -> Option<Millis> {
        self.durable.branches.next_overdue(self.limits.branch_warn_millis)
    }

    /// One that has, and that was not given here before.
    pub fn take_overdue(&mut self, now: Millis) -> Option<&BranchRow> {
        self.durable.branches.take_overdue(now, self.limits.branch_warn_millis)
    }
}
