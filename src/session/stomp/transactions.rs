//! BEGIN, COMMIT and ABORT, and the client's names for transactions.
//!
//! A name means something on its own connection alone, from BEGIN to COMMIT or ABORT; then it may
//! be used again. What ABORT gives back comes again as new deliveries.
//!
//! A COMMIT may carry a name that means something for all connections: the header `commit-id`. Who
//! has lost its answer does the same again, on any connection, and it happens once; or asks, by a
//! COMMIT without a transaction, what became of it.

use std::collections::BTreeMap;

use super::StompSession;
use super::fault::{Fault, excerpt};
use super::receipts::Asked;
use crate::broker::command::{Command, Disposition, MessageId, Once, Outcome};
use crate::identity::Identity;
use crate::ids::TransactionName;
use crate::limits;
use crate::protocol::stomp::{self, Head};
use crate::session::Done;

/// The transactions that have begun and not ended. The broker bounds their number.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    names: BTreeMap<String, TransactionName>,
    /// What has been done in each.
    done: BTreeMap<TransactionName, Done>,
    last: u64,
}

impl Transactions {
    fn begin(&mut self, name: &str) -> Result<TransactionName, Fault> {
        if self.names.contains_key(name) {
            return Err(Fault::TransactionExists { name: excerpt(name) });
        }
        if name.is_empty() || name.len() > limits::TRANSACTION_NAME_BYTES_MAX {
            return Err(Fault::bad_header("transaction", name, "1 to 512 bytes long"));
        }
        self.last += 1;
        let transaction = TransactionName(self.last);
        self.names.insert(name.to_owned(), transaction);
        self.done.insert(transaction, Done::default());
        Ok(transaction)
    }

    /// Takes note of a SEND. `body` is that of a large one.
    pub(super) fn note_send(&mut self, command: &Command, body: Option<Identity>) {
        let Some(transaction) = command.works_in() else { return };
        let Some(done) = self.done.get_mut(&transaction) else { return };
        done.send(command, body);
    }

    /// Takes note of an ACK or NACK of some messages.
    pub(super) fn note_settled(
        &mut self,
        transaction: TransactionName,
        outcome: Outcome,
        messages: impl Iterator<Item = MessageId>,
    ) {
        let Some(done) = self.done.get_mut(&transaction) else { return };
        messages.for_each(|message| done.settle(outcome, message));
    }

    fn find(&self, name: &str) -> Result<TransactionName, Fault> {
        let found = self.names.get(name).copied();
        found.ok_or_else(|| Fault::NoSuchTransaction { name: excerpt(name) })
    }

    /// The transaction that a frame belongs to, if it says so.
    pub(super) fn of(&self, head: &Head) -> Result<Option<TransactionName>, Fault> {
        head.headers.get("transaction").map(|name| self.find(name)).transpose()
    }
}

impl StompSession {
    pub(super) fn transact(&mut self, head: &Head) -> Result<(), Fault> {
        let missing = |header| Fault::MissingHeader { command: head.command, header };
        let commit_id = commit_id(head)?;
        let name = match (head.headers.get("transaction"), commit_id) {
            (Some(name), _) => name,
            (None, None) => return Err(missing("transaction")),
            (None, Some(id)) => {
                let receipt = self.receipt.take().ok_or_else(|| missing("receipt"))?;
                self.submit(Asked::Commit, Some(receipt), Command::Once(Once::outcome(id)));
                return Ok(());
            }
        };
        let (asked, command) = match head.command {
            stomp::Command::Begin => {
                (Asked::Begin, Command::Begin { transaction: self.transactions.begin(name)? })
            }
            stomp::Command::Commit => {
                let transaction = self.transactions.find(name)?;
                let command = match (commit_id, self.transactions.done.get(&transaction)) {
                    (Some(id), Some(done)) => {
                        Command::Once(Once::commit(id, transaction, done.identity()))
                    }
                    _ => Command::Commit { transaction },
                };
                (Asked::Commit, command)
            }
            stomp::Command::Abort => {
                let transaction = self.transactions.find(name)?;
                let disposition = Disposition::Return;
                (Asked::Abort, Command::Rollback { transaction, disposition })
            }
            other => unreachable!("{other} is no frame of transactions"),
        };
        if asked != Asked::Begin {
            let ended = self.transactions.names.remove(name);
            if let Some(ended) = ended {
                self.transactions.done.remove(&ended);
            }
        }
        let receipt = self.receipt.take();
        self.submit(asked, receipt, command);
        Ok(())
    }
}

/// The name of a commit.
fn commit_id(head: &Head) -> Result<Option<Identity>, Fault> {
    match head.headers.get("commit-id").filter(|_| head.command == stomp::Command::Commit) {
        Some("") => Err(Fault::bad_header("commit-id", "", "an id that no other commit has")),
        id => Ok(id.map(|id| Identity::of(id.as_bytes()))),
    }
}
