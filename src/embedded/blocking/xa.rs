//! Branches of global transactions, whose calls wait on their thread.

use std::time::Duration;

use super::{Connection, Delivery, wait};
use crate::broker::command::Vote;
use crate::embedded::{self, BranchError, Message, RecoveredBranch, SendError};
use crate::ids::Xid;
use crate::message::Destination;

/// [`crate::Xa`], whose calls wait on their thread.
///
/// ```
/// use escrowmq::blocking::Broker;
/// use escrowmq::{Destination, Vote, Xid};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let directory = directory.path();
/// let broker = Broker::open(directory)?;
/// let connection = broker.connect()?;
/// let (xa, xid) = (connection.xa(), Xid::new(7, b"a global transaction", b"this broker")?);
/// let branch = xa.start(&xid)?;
/// branch.send(Destination::queue("orders"), "an order")?;
/// branch.end()?;
/// assert_eq!(xa.prepare(&xid)?, Vote::Ok);
/// broker.close()?;
///
/// // In another life of the broker, after a crash perhaps, the branch still waits.
/// let broker = Broker::open(directory)?;
/// let connection = broker.connect()?;
/// let xa = connection.xa();
/// for branch in xa.recover() {
///     xa.commit(branch?.xid())?;
/// }
/// let mut orders = connection.subscribe(Destination::queue("orders"))?;
/// assert_eq!(orders.recv()?.text(), Some("an order"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Xa(embedded::Xa);

/// [`crate::Branch`], whose calls wait on their thread.
#[derive(Debug)]
#[must_use = "work in a branch that is dropped has failed"]
pub struct Branch(embedded::Branch);

/// [`crate::Suspended`], whose calls wait on their thread.
#[derive(Debug)]
#[must_use = "work in a branch that is dropped has failed"]
pub struct Suspended(embedded::Suspended);

/// [`crate::Recovery`], an iterator whose calls wait on their thread. After an error it asks again.
#[derive(Debug)]
#[must_use = "it asks for nothing before `next`"]
pub struct Recovery(embedded::Recovery);

impl Connection {
    /// See [`crate::Connection::xa`].
    #[must_use]
    pub fn xa(&self) -> Xa {
        Xa(self.0.xa())
    }
}

impl Xa {
    /// See [`crate::Xa::named`].
    #[must_use]
    pub fn named(self, client: &str) -> Self {
        Self(self.0.named(client))
    }

    /// See [`crate::Xa::timeout`].
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self(self.0.timeout(timeout))
    }

    /// See [`crate::Xa::start`].
    ///
    /// # Errors
    /// See [`BranchError`].
    pub fn start(&self, xid: &Xid) -> Result<Branch, BranchError> {
        wait(self.0.start(xid)).map(Branch)
    }

    /// See [`crate::Xa::join`].
    ///
    /// # Errors
    /// See [`BranchError`].
    pub fn join(&self, xid: &Xid) -> Result<Branch, BranchError> {
        wait(self.0.join(xid)).map(Branch)
    }

    /// See [`crate::Xa::prepare`].
    ///
    /// # Errors
    /// See [`BranchError`].
    pub fn prepare(&self, xid: &Xid) -> Result<Vote, BranchError> {
        wait(self.0.prepare(xid))
    }

    /// See [`crate::Xa::commit`].
    ///
    /// # Errors
    /// See [`BranchError`].
    pub fn commit(&self, xid: &Xid) -> Result<(), BranchError> {
        wait(self.0.commit(xid))
    }

    /// See [`crate::Xa::commit_one_phase`].
    ///
    /// # Errors
    /// See [`BranchError`].
    pub fn commit_one_phase(&self, xid: &Xid) -> Result<(), BranchError> {
        wait(self.0.commit_one_phase(xid))
    }

    /// See [`crate::Xa::rollback`].
    ///
    /// # Errors
    /// See [`BranchError`].
    pub fn rollback(&self, xid: &Xid) -> Result<(), BranchError> {
        wait(self.0.rollback(xid))
    }

    /// See [`crate::Xa::forget`].
    ///
    /// # Errors
    /// See [`BranchError`].
    pub fn forget(&self, xid: &Xid) -> Result<(), BranchError> {
        wait(self.0.forget(xid))
    }

    /// See [`crate::Xa::recover`].
    pub fn recover(&self) -> Recovery {
        Recovery(self.0.recover())
    }
}

impl Iterator for Recovery {
    type Item = Result<RecoveredBranch, BranchError>;

    fn next(&mut self) -> Option<Self::Item> {
        wait(self.0.next()).transpose()
    }
}

impl Branch {
    /// Its name.
    #[must_use]
    pub fn xid(&self) -> &Xid {
        self.0.xid()
    }

    /// See [`crate::Branch::send`].
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn send(
        &self,
        to: impl Into<Destination>,
        message: impl Into<Message>,
    ) -> Result<(), SendError> {
        wait(self.0.send(to, message))
    }

    /// See [`crate::Branch::acknowledge`].
    ///
    /// # Errors
    /// See [`BranchError`].
    pub fn acknowledge(&self, delivery: &Delivery) -> Result<(), BranchError> {
        wait(self.0.acknowledge(&delivery.0))
    }

    /// See [`crate::Branch::end`].
    ///
    /// # Errors
    /// See [`BranchError`].
    pub fn end(self) -> Result<(), BranchError> {
        wait(self.0.end())
    }

    /// See [`crate::Branch::fail`].
    ///
    /// # Errors
    /// See [`BranchError`].
    pub fn fail(self) -> Result<(), BranchError> {
        wait(self.0.fail())
    }

    /// See [`crate::Branch::suspend`].
    ///
    /// # Errors
    /// See [`BranchError`].
    pub fn suspend(self) -> Result<Suspended, BranchError> {
        wait(self.0.suspend()).map(Suspended)
    }
}

impl Suspended {
    /// The name of the branch.
    #[must_use]
    pub fn xid(&self) -> &Xid {
        self.0.xid()
    }

    /// See [`crate::Suspended::resume`].
    ///
    /// # Errors
    /// See [`BranchError`].
    pub fn resume(self) -> Result<Branch, BranchError> {
        wait(self.0.resume()).map(Branch)
    }

    /// See [`crate::Suspended::end`].
    ///
    /// # Errors
    /// See [`BranchError`].
    pub fn end(self) -> Result<(), BranchError> {
        wait(self.0.end())
    }

    /// See [`crate::Suspended::fail`].
    ///
    /// # Errors
    /// See [`BranchError`].
    pub fn fail(self) -> Result<(), BranchError> {
        wait(self.0.fail())
    }
}
