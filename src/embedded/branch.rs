//! Work of a program in a branch of a global transaction.

use std::fmt;
use std::sync::Arc;

use super::delivery::Delivery;
use super::error::{BranchError, SendError};
use super::link::Link;
use super::message::Message;
use super::upload::Part;
use crate::broker::command::{Command, EndAs, StartAs, XaCommand};
use crate::ids::{TransactionName, Xid};
use crate::message::Destination;

/// The work of one connection in a branch of a global transaction; made by [`Xa::start`] and
/// [`Xa::join`].
///
/// What is sent in it is seen by nobody, and what is acknowledged in it is neither gone nor anybody
/// else's, until the branch is committed. Everything that is sent to a queue in a branch is
/// persistent, whatever the message says. It has the [limits](crate::Transaction#limits) of a
/// transaction.
///
/// When the work is done, [`end`](Branch::end) says so; only then can the branch vote. One that is
/// dropped has failed: the branch can only be rolled back.
///
/// [`Xa::start`]: crate::Xa::start
/// [`Xa::join`]: crate::Xa::join
#[must_use = "work in a branch that is dropped has failed"]
pub struct Branch(Association);

/// The work of a connection in a branch while it rests; made by [`Branch::suspend`]. The branch
/// cannot vote before it has ended. Dropped, it has failed.
#[must_use = "work in a branch that is dropped has failed"]
pub struct Suspended(Association);

/// Names a branch in what a connection does.
struct Association {
    link: Arc<Link>,
    xid: Arc<Xid>,
    name: TransactionName,
    client: Arc<str>,
    /// What a drop says of it, while there is something to be said.
    ends: Option<EndAs>,
}

impl Association {
    async fn end(mut self, how: EndAs) -> Result<(), BranchError> {
        let answer = self.link.ask_xa(self.ending(how));
        // Asked or not: it is over where this is refused.
        self.ends = None;
        answer.await.map(drop)
    }

    fn ending(&self, how: EndAs) -> XaCommand {
        XaCommand::End { xid: Arc::clone(&self.xid), transaction: self.name, how }
    }

    async fn start(&mut self, how: StartAs, timeout: Option<u64>) -> Result<(), BranchError> {
        let (xid, client) = (Arc::clone(&self.xid), Arc::clone(&self.client));
        let command = XaCommand::Start { xid, how, transaction: self.name, timeout, client };
        self.link.ask_xa(command).await.map(drop)
    }
}

impl Drop for Association {
    fn drop(&mut self) {
        if let Some(how) = self.ends {
            self.link.leave(Command::Xa(self.ending(how)));
        }
    }
}

impl Branch {
    pub(super) async fn begin(
        link: &Arc<Link>,
        xid: Arc<Xid>,
        how: StartAs,
        client: Arc<str>,
        timeout: Option<u64>,
    ) -> Result<Self, BranchError> {
        let (link, name) = (Arc::clone(link), link.transaction());
        // Dropped while it is asked for, nothing was done in it.
        let mut this = Association { link, xid, name, client, ends: Some(EndAs::Success) };
        match this.start(how, timeout).await {
            Ok(()) => {
                this.ends = Some(EndAs::Fail);
                Ok(Self(this))
            }
            Err(error) => {
                this.ends = None;
                Err(error)
            }
        }
    }

    /// Its name.
    #[must_use]
    pub fn xid(&self) -> &Xid {
        &self.0.xid
    }

    /// Sends a message as a part of the branch. It waits while the broker has more to do than it
    /// can take, and not for the disk. What the broker refuses of it, the vote tells.
    ///
    /// # Errors
    /// Those of a message that cannot be sent; the branch can go on without it.
    ///
    /// # Dropping the future
    /// The message is not a part of the branch, unless the future was ready.
    pub async fn send(
        &self,
        to: impl Into<Destination>,
        message: impl Into<Message>,
    ) -> Result<(), SendError> {
        let Association { link, name, .. } = &self.0;
        let part = Part { of: *name, done: None };
        // Whether it was refused, the vote tells as well.
        let _ = link.send(to.into(), message.into(), Some(part)).await?;
        Ok(())
    }

    /// Acknowledges a delivery as a part of the branch. From here on that decides what becomes of
    /// it, and the delivery may be dropped. What the broker refuses of it, the vote tells.
    ///
    /// # Errors
    /// [`BranchError::OtherConnection`]. The branch can go on without it.
    pub async fn acknowledge(&self, delivery: &Delivery) -> Result<(), BranchError> {
        let Association { link, name, .. } = &self.0;
        if !delivery.is_of(link) {
            return Err(BranchError::OtherConnection);
        }
        link.hand_over(delivery, *name);
        Ok(())
    }

    /// Says that this work is done (`xa_end` with `TMSUCCESS`).
    ///
    /// # Errors
    /// A code that says why the branch can only be rolled back (100 to 107), where it can. The work
    /// has ended all the same.
    pub async fn end(self) -> Result<(), BranchError> {
        self.0.end(EndAs::Success).await
    }

    /// Says that this work has failed (`xa_end` with `TMFAIL`): the branch can only be rolled back.
    ///
    /// # Errors
    /// As of [`Branch::end`].
    pub async fn fail(self) -> Result<(), BranchError> {
        self.0.end(EndAs::Fail).await
    }

    /// Lets this work rest (`xa_end` with `TMSUSPEND`).
    ///
    /// # Errors
    /// As of [`Branch::end`].
    pub async fn suspend(mut self) -> Result<Suspended, BranchError> {
        match self.0.link.ask_xa(self.0.ending(EndAs::Suspend)).await {
            Ok(_) => Ok(Suspended(self.0)),
            Err(error) => {
                self.0.ends = None;
                Err(error)
            }
        }
    }
}

impl Suspended {
    /// The name of the branch.
    #[must_use]
    pub fn xid(&self) -> &Xid {
        &self.0.xid
    }

    /// Goes on with the work (`xa_start` with `TMRESUME`).
    ///
    /// # Errors
    /// A code that says why the branch can only be rolled back (100 to 107), where it can; the work
    /// has ended then.
    pub async fn resume(mut self) -> Result<Branch, BranchError> {
        self.0.start(StartAs::Resume, None).await?;
        Ok(Branch(self.0))
    }

    /// As [`Branch::end`].
    ///
    /// # Errors
    /// As of [`Branch::end`].
    pub async fn end(self) -> Result<(), BranchError> {
        self.0.end(EndAs::Success).await
    }

    /// As [`Branch::fail`].
    ///
    /// # Errors
    /// As of [`Branch::end`].
    pub async fn fail(self) -> Result<(), BranchError> {
        self.0.end(EndAs::Fail).await
    }
}

impl fmt::Debug for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Branch").field("xid", &self.0.xid).finish_non_exhaustive()
    }
}

impl fmt::Debug for Suspended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suspended").field("xid", &self.0.xid).finish_non_exhaustive()
    }
}
