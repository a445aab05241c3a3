//! Sends and acknowledgements of a program that happen together, or not at all.

use std::fmt;
use std::sync::{Arc, Mutex};

use super::delivery::Delivery;
use super::error::{SendError, TransactionError};
use super::link::{Asked, Link};
use super::message::Message;
use super::outcome::id_of;
use super::upload::Part;
use crate::broker::command::{Command, Disposition, Once, Outcome};
use crate::ids::TransactionName;
use crate::message::Destination;
use crate::session::Done;

/// A transaction of a connection; made by [`Connection::transaction`].
///
/// What is sent in it is seen by nobody, and what is acknowledged in it is neither gone nor anybody
/// else's, until [`commit`](Transaction::commit). Then all of it has happened, in one moment,
/// whatever crash comes. [`rollback`](Transaction::rollback) and a drop, which waits for nothing,
/// let none of it happen, and neither does the end of the broker before the commit: the deliveries
/// return to their queues and count one more attempt. One that has done so too often, by default
/// seven times, is set apart; [`Redelivery::maximum`](crate::Redelivery::maximum) says how often
/// that is, and with 0 never.
///
/// ```
/// # async fn example(connection: escrowmq::Connection) -> Result<(), Box<dyn std::error::Error>> {
/// # use escrowmq::Destination;
/// let mut orders = connection.subscribe(Destination::queue("orders")).await?;
/// let order = orders.recv().await?;
/// let transaction = connection.transaction().await?;
/// transaction.send(Destination::queue("invoices"), "one for this order").await?;
/// transaction.acknowledge(&order).await?;
/// transaction.commit().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Limits
///
/// A transaction sends and acknowledges 4,000,000 messages at most. It sends to 1,024 destinations,
/// of which a topic may count for two, and under the [numbers](Message::numbered) of 1,024
/// producers, those of each with gaps in 32 places; and to a destination no more than
/// [that may hold](crate::Builder::limit). What is more is refused
/// ([`RefusalKind::TransactionTooLarge`](crate::RefusalKind::TransactionTooLarge)), and the
/// transaction can only be rolled back. Of its non-persistent messages to queues 256 are kept in
/// memory; the others are stored. Those to topics are all in memory, which may be too little for
/// them.
///
/// [`Connection::transaction`]: crate::Connection::transaction
#[must_use = "a transaction that is dropped is rolled back"]
pub struct Transaction {
    link: Arc<Link>,
    name: TransactionName,
    /// What was done in it, for a commit under an id.
    done: Mutex<Done>,
    open: bool,
    /// A commit that is handed in and not answered.
    commit: Option<Asked>,
}

impl Transaction {
    pub(super) async fn begin(link: &Arc<Link>) -> Result<Self, TransactionError> {
        let name = link.transaction();
        // From here on, dropping this future rolls it back again.
        let done = Mutex::default();
        let mut this = Self { link: Arc::clone(link), name, done, open: true, commit: None };
        match link.answer(link.ask_small(Command::Begin { transaction: name })).await {
            Ok(_) => Ok(this),
            Err(error) => {
                this.open = false;
                Err(error.into())
            }
        }
    }

    /// Sends a message as a part of the transaction. It waits while the broker has more to do than
    /// it can take, and not for the disk. What the broker refuses of it, [`commit`] tells.
    ///
    /// # Errors
    /// Those of a message that cannot be sent; the transaction can go on without it.
    ///
    /// # Dropping the future
    /// The message is not a part of the transaction, unless the future was ready.
    ///
    /// [`commit`]: Transaction::commit
    pub async fn send(
        &self,
        to: impl Into<Destination>,
        message: impl Into<Message>,
    ) -> Result<(), SendError> {
        let part = Part { of: self.name, done: Some(&self.done) };
        // Whether it was refused, the commit tells as well.
        let _ = self.link.send(to.into(), message.into(), Some(part)).await?;
        Ok(())
    }

    /// Acknowledges a delivery as a part of the transaction. From here on that decides what becomes
    /// of it, and the delivery may be dropped. What the broker refuses of it, `commit` tells.
    ///
    /// # Errors
    /// [`TransactionError::OtherConnection`]. The transaction can go on without it.
    pub async fn acknowledge(&self, delivery: &Delivery) -> Result<(), TransactionError> {
        if !delivery.is_of(&self.link) {
            return Err(TransactionError::OtherConnection);
        }
        let mut done = self.done.lock().expect("no panic holds it");
        done.settle(Outcome::Accepted, delivery.id().0);
        self.link.hand_over(delivery, self.name);
        Ok(())
    }

    /// Lets all of it happen, and waits until that is durable. Where a destination to which it
    /// sends is limited and full, and its policy is to hold, this waits for room, too.
    ///
    /// # Errors
    /// [`TransactionError::Refused`] where it, or a part of it, was refused: it is rolled back, and
    /// the [kind](crate::Refusal::kind) of the refusal says what to do. With
    /// [`TransactionError::Ended`] all of it may have happened, or nothing.
    ///
    /// # Dropping the future
    /// Polled once, it commits, and waits for room if it must, unless that is refused or the
    /// connection ends first; before, the transaction is rolled back.
    pub async fn commit(self) -> Result<(), TransactionError> {
        let transaction = self.name;
        self.end_by(Command::Commit { transaction }).await
    }

    /// As [`Transaction::commit`], under an id that no other commit in this store has: so a program
    /// that has lost the answer can learn what became of it.
    ///
    /// It may ask: [`Connection::outcome_of`] tells, on any connection, over any crash. Or it does
    /// the same again under the same id: the same messages to the same destinations with the same
    /// properties, the same deliveries acknowledged, in the same order. Where the first has
    /// happened, the second is answered like it and does nothing. Another transaction under that id
    /// is refused.
    ///
    /// An id has 1 byte at least. It is remembered for 24 hours from the commit, if not so many
    /// come after it that there is no room: see [`Builder::ids`](crate::Builder::ids). A commit
    /// under one that was forgotten is a new one. STOMP clients use the same ids, in the header
    /// `commit-id`.
    ///
    /// ```
    /// use escrowmq::blocking::Broker;
    /// use escrowmq::{Destination, Outcome, TransactionError};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let directory = directory.path();
    /// let broker = Broker::open(directory)?;
    /// let connection = broker.connect()?;
    /// let transaction = connection.transaction()?;
    /// transaction.send(Destination::queue("payments"), "30 from alice to bob")?;
    /// // The id is in the program's own books before it commits.
    /// transaction.commit_as("payment 4711")?;
    /// broker.close()?;
    ///
    /// // After a crash nobody knows whether the commit was answered. The broker does.
    /// let broker = Broker::open(directory)?;
    /// let connection = broker.connect()?;
    /// assert_eq!(connection.outcome_of("payment 4711")?, Outcome::Committed);
    /// // One that had not happened never will, so its work can be done under another id.
    /// assert_eq!(connection.outcome_of("payment 4712")?, Outcome::NotCommitted);
    /// let late = connection.transaction()?.commit_as("payment 4712");
    /// assert!(matches!(late, Err(TransactionError::IdVoid)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As of [`Transaction::commit`]; and where the id is empty, or in use, the transaction is
    /// rolled back.
    ///
    /// # Dropping the future
    /// As of [`Transaction::commit`].
    ///
    /// [`Connection::outcome_of`]: crate::Connection::outcome_of
    pub async fn commit_as(self, id: impl AsRef<str>) -> Result<(), TransactionError> {
        let id = id_of(id).ok_or(TransactionError::NoId)?;
        let done = self.done.lock().expect("no panic holds it").identity();
        let commit = Once::commit(id, self.name, done);
        self.end_by(Command::Once(commit)).await
    }

    async fn end_by(mut self, commit: Command) -> Result<(), TransactionError> {
        let asked = self.commit.insert(self.link.ask_small(commit));
        // Refused, it can only be rolled back; done, there is nothing that this could roll back.
        let result = self.link.answer_to(asked).await;
        self.commit = None;
        self.open = result.is_err();
        result?;
        Ok(())
    }

    /// Lets none of it happen, and waits until the broker has done so. What it has acknowledged
    /// returns to its queues and counts one more attempt; what has returned too often, by default
    /// for the seventh time, is set apart instead, unless
    /// [`Redelivery::maximum`](crate::Redelivery::maximum) of its queue is 0.
    ///
    /// # Errors
    /// When the broker has ended: none of it has happened.
    pub async fn rollback(mut self) -> Result<(), TransactionError> {
        self.open = false;
        let asked = self.link.ask_small(self.end());
        self.link.answer(asked).await?;
        Ok(())
    }

    fn end(&self) -> Command {
        Command::Rollback { transaction: self.name, disposition: Disposition::Return }
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        match self.commit.take() {
            // It waits for room, perhaps, and a rollback would overtake it.
            Some(commit) => self.link.leave_if_refused(commit, self.end()),
            None if self.open => self.link.leave(self.end()),
            None => {}
        }
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("name", &self.name).finish_non_exhaustive()
    }
}
