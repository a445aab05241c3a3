//! BEGIN, COMMIT and ABORT, and the client's names for transactions.
//!
//! A name means something on its own connection alone, from BEGIN to COMMIT or ABORT; then it may
//! be used again. What ABORT gives back comes again as new deliveries.

use std::collections::BTreeMap;

use super::StompSession;
use super::fault::{Fault, excerpt};
use super::receipts::Asked;
use crate::broker::command::{Command, Disposition, Work};
use crate::ids::TransactionName;
use crate::limits;
use crate::protocol::stomp::{self, Head};

/// The transactions that have begun and not ended. The broker bounds their number.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    names: BTreeMap<String, TransactionName>,
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
        Ok(transaction)
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
        let missing = Fault::MissingHeader { command: head.command, header: "transaction" };
        let name = head.headers.get("transaction").ok_or(missing)?;
        let (asked, command) = match head.command {
            stomp::Command::Begin => {
                (Asked::Begin, Command::Begin { transaction: self.transactions.begin(name)? })
            }
            stomp::Command::Commit => {
                (Asked::Commit, Command::Commit { transaction: self.transactions.find(name)? })
            }
            stomp::Command::Abort => {
                let transaction = self.transactions.find(name)?;
                let disposition = Disposition::Return;
                (Asked::Abort, Command::Rollback { transaction, disposition })
            }
            other => unreachable!("{other} is no frame of transactions"),
        };
        if asked != Asked::Begin {
            self.transactions.names.remove(name);
        }
        let receipt = self.receipt.take();
        self.submit(asked, receipt, command);
        Ok(())
    }
}

/// A command as it is in a transaction, where it is in one.
pub(super) fn within(transaction: Option<TransactionName>, command: Command) -> Command {
    let Some(transaction) = transaction else { return command };
    let work = match command {
        Command::Send { to, message } => Work::Send { to, message },
        Command::SendStaged { stage, to, message } => Work::SendStaged { stage, to, message },
        Command::Settle { subscription, which, outcome } => {
            Work::Settle { subscription, which, outcome }
        }
        other => return other,
    };
    Command::Transact { transaction, work }
}
