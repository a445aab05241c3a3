//! What a transaction manager asks of an embedded broker: to vote, commit, roll back, recover.
//!
//! Owns the verbs that concern a branch whoever has worked in it. Leaves the work to `branch`, and
//! what is answered in which state to the broker.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::branch::Branch;
use super::delivery::time;
use super::error::BranchError;
use super::link::Link;
use crate::broker::command::{
    BranchInfo, Disposition, Reply, Resolution, StartAs, Vote, XaCommand, XaError,
};
use crate::ids::Xid;

/// A connection as a resource manager of global transactions (X/Open XA); made by
/// [`Connection::xa`]. Costs nothing, and clones share the connection.
///
/// A transaction manager names each branch by an [`Xid`]. Work in a branch is done through the
/// [`Branch`] that [`start`](Xa::start) gives, which it ends before it asks for the vote. A branch
/// that has voted, with [`Vote::Ok`], belongs to nobody: it survives connections, brokers and
/// crashes, and ends by [`commit`](Xa::commit) or [`rollback`](Xa::rollback) alone, on whichever
/// connection. After a crash [`recover`](Xa::recover) tells which wait.
///
/// Until it has voted a branch is rolled back when a connection that works in it ends, when its
/// [`timeout`](Xa::timeout) is over, or when the broker ends; its manager hears so when it asks
/// next.
///
/// ```
/// # async fn example(
/// #     here: escrowmq::Connection,
/// #     there: escrowmq::Connection,
/// # ) -> Result<(), Box<dyn std::error::Error>> {
/// use escrowmq::{Destination, Vote, Xid};
///
/// // One global transaction in two brokers: a message moves from one to the other.
/// let here_xid = Xid::new(7, b"transfer-1", b"here")?;
/// let there_xid = Xid::new(7, b"transfer-1", b"there")?;
/// let mut orders = here.subscribe(Destination::queue("orders")).await?;
/// let order = orders.recv().await?;
///
/// let branch = here.xa().start(&here_xid).await?;
/// branch.acknowledge(&order).await?;
/// branch.end().await?;
/// let branch = there.xa().start(&there_xid).await?;
/// branch.send(Destination::queue("orders"), order.body().to_vec()).await?;
/// branch.end().await?;
///
/// let votes = (here.xa().prepare(&here_xid).await?, there.xa().prepare(&there_xid).await?);
/// assert_eq!(votes, (Vote::Ok, Vote::Ok));
/// // Here a transaction manager makes its decision durable: `examples/xa_transfer.rs` is one.
/// here.xa().commit(&here_xid).await?;
/// there.xa().commit(&there_xid).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Dropping a future
///
/// Polled once, what was asked for is done, and only the news of it is lost; before, nothing is.
///
/// [`Connection::xa`]: crate::Connection::xa
#[derive(Clone)]
pub struct Xa {
    link: Arc<Link>,
    client: Arc<str>,
    timeout: Option<u64>,
}

impl Xa {
    pub(super) fn new(link: &Arc<Link>) -> Self {
        let client = format!("a program that embeds the broker, process {}", std::process::id());
        Self { link: Arc::clone(link), client: client.into(), timeout: None }
    }

    /// What operators are told of who has begun a branch, like the name of the program: 256 bytes
    /// at most are kept.
    #[must_use]
    pub fn named(mut self, client: &str) -> Self {
        self.client = client.into();
        self
    }

    /// How long a branch that is started here may take to vote, to the millisecond; a year at most.
    /// Without, and with 0 as XA has it, the settings of the broker say so (5 minutes by default).
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        self.timeout = (!timeout.is_zero()).then_some(millis.max(1));
        self
    }

    /// Begins a new branch, to work in (`xa_start` with `TMNOFLAGS`).
    ///
    /// # Errors
    /// [`XaError::DupId`] where there is such a branch, and [`XaError::RmErr`] where there are as
    /// many as the broker keeps, or 256 pieces of work of this connection have not ended.
    ///
    /// # Dropping the future
    /// There is no branch, or one in which nothing was done.
    pub async fn start(&self, xid: &Xid) -> Result<Branch, BranchError> {
        self.begin(xid, StartAs::New).await
    }

    /// Works in a branch that there is, beside others (`xa_start` with `TMJOIN`).
    ///
    /// # Errors
    /// [`XaError::NotA`] where there is none, [`XaError::Proto`] where it has voted, and the cause
    /// where it can only be rolled back.
    ///
    /// # Dropping the future
    /// The branch is as it was.
    pub async fn join(&self, xid: &Xid) -> Result<Branch, BranchError> {
        self.begin(xid, StartAs::Join).await
    }

    async fn begin(&self, xid: &Xid, how: StartAs) -> Result<Branch, BranchError> {
        let client = Arc::clone(&self.client);
        Branch::begin(&self.link, Arc::new(xid.clone()), how, client, self.timeout).await
    }

    async fn ask(&self, command: XaCommand) -> Result<Reply, BranchError> {
        self.link.ask_xa(command).await
    }

    /// Asks a branch for its vote (`xa_prepare`), and waits until that is durable. After
    /// [`Vote::ReadOnly`] it is over. Where a destination to which it sends is limited and full,
    /// and its policy is to hold, this waits for room, too; the branch's [timeout](Xa::timeout)
    /// goes on meanwhile.
    ///
    /// # Errors
    /// A code that says why it was rolled back (100 to 107): then it is over, and where something
    /// was refused, the [kind](crate::Refusal::kind) of that says what to do. [`XaError::NotA`]
    /// where there is no such branch, and [`XaError::Proto`] where somebody still works in it or
    /// it has voted.
    pub async fn prepare(&self, xid: &Xid) -> Result<Vote, BranchError> {
        match self.ask(XaCommand::Prepare { xid: Arc::new(xid.clone()) }).await? {
            Reply::Vote(vote) => Ok(vote),
            other => unreachable!("it was a vote that was asked, not {other:?}"),
        }
    }

    /// Commits a branch that has voted (`xa_commit`), and waits until that is durable. Asked again
    /// after a lost answer it says yes again, for 24 hours unless the settings say otherwise.
    ///
    /// # Errors
    /// [`XaError::NotA`] where there is no such branch, and no such outcome is remembered;
    /// [`XaError::Proto`] where it has not voted; [`XaError::HeurCommit`] or
    /// [`XaError::HeurRollback`] where an operator has decided it, until it is
    /// [forgotten](Xa::forget). [`XaError::Retry`] says that it stays as it is, and to ask again.
    pub async fn commit(&self, xid: &Xid) -> Result<(), BranchError> {
        self.end(XaCommand::Commit { xid: Arc::new(xid.clone()), one_phase: false }).await
    }

    /// Commits a branch that has not voted and is the only one of its transaction (`xa_commit` with
    /// `TMONEPHASE`), and waits until that is durable. It waits for room as [`Xa::prepare`] does.
    ///
    /// # Errors
    /// As of [`Xa::prepare`] where it cannot be committed; else as of [`Xa::commit`].
    pub async fn commit_one_phase(&self, xid: &Xid) -> Result<(), BranchError> {
        self.end(XaCommand::Commit { xid: Arc::new(xid.clone()), one_phase: true }).await
    }

    /// Rolls a branch back, whether it has voted or not (`xa_rollback`), and waits until that is
    /// durable. What it has acknowledged returns to its queues, and counts one more attempt; what
    /// has returned too often, by default for the seventh time, is set apart instead, unless
    /// [`Redelivery::maximum`](crate::Redelivery::maximum) of its queue is 0.
    ///
    /// # Errors
    /// As of [`Xa::commit`]; [`XaError::Proto`] where somebody still works in it, or it was
    /// committed.
    pub async fn rollback(&self, xid: &Xid) -> Result<(), BranchError> {
        let (xid, disposition) = (Arc::new(xid.clone()), Disposition::Return);
        self.end(XaCommand::Rollback { xid, disposition }).await
    }

    /// Forgets a branch that an operator has decided (`xa_forget`).
    ///
    /// # Errors
    /// [`XaError::NotA`] where no operator has decided of such a branch, and [`XaError::Proto`]
    /// where it waits for its outcome.
    pub async fn forget(&self, xid: &Xid) -> Result<(), BranchError> {
        self.end(XaCommand::Forget { xid: Arc::new(xid.clone()) }).await
    }

    async fn end(&self, command: XaCommand) -> Result<(), BranchError> {
        self.ask(command).await?;
        Ok(())
    }

    /// The branches that wait for their managers (`xa_recover`), of all managers: prepared ones,
    /// and those that an operator has decided.
    pub fn recover(&self) -> Recovery {
        Recovery { xa: self.clone(), after: None, page: VecDeque::new(), over: false }
    }
}

impl fmt::Debug for Xa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Xa").field("client", &self.client).finish_non_exhaustive()
    }
}

/// A look through the branches that wait for their managers, by name, a page at a time; made by
/// [`Xa::recover`]. Those that come or end meanwhile may be among them or not.
///
/// ```
/// # async fn example(connection: escrowmq::Connection) -> Result<(), escrowmq::BranchError> {
/// # fn was_decided(_: &escrowmq::Xid) -> bool { false }
/// let xa = connection.xa();
/// let mut recovery = xa.recover();
/// while let Some(branch) = recovery.next().await? {
///     // Other managers have branches here, too: each looks after its own format or names.
///     if branch.xid().format() != 7 || branch.heuristic().is_some() {
///         continue;
///     }
///     if was_decided(branch.xid()) {
///         xa.commit(branch.xid()).await?;
///     } else {
///         xa.rollback(branch.xid()).await?;
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "it asks for nothing before `next`"]
pub struct Recovery {
    xa: Xa,
    after: Option<Arc<Xid>>,
    page: VecDeque<BranchInfo>,
    over: bool,
}

impl Recovery {
    /// The next of them; `None` at the end.
    ///
    /// # Errors
    /// When the broker has ended.
    ///
    /// # Dropping the future
    /// The next call gives what this one would have given.
    pub async fn next(&mut self) -> Result<Option<RecoveredBranch>, BranchError> {
        if self.page.is_empty() && !self.over {
            let command = XaCommand::Recover { after: self.after.clone() };
            let Reply::Branches(page) = self.xa.ask(command).await? else {
                unreachable!("it was branches that were asked")
            };
            match page.last() {
                Some(last) => self.after = Some(Arc::new(last.xid.clone())),
                None => self.over = true,
            }
            self.page = page.into();
        }
        Ok(self.page.pop_front().map(RecoveredBranch))
    }

    /// All that are left. There may be 100,000 of each kind.
    ///
    /// # Errors
    /// When the broker has ended.
    pub async fn all(mut self) -> Result<Vec<RecoveredBranch>, BranchError> {
        let mut all = Vec::new();
        while let Some(branch) = self.next().await? {
            all.push(branch);
        }
        Ok(all)
    }
}

/// A branch that waits for its manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredBranch(BranchInfo);

impl RecoveredBranch {
    /// Its name.
    #[must_use]
    pub fn xid(&self) -> &Xid {
        &self.0.xid
    }

    /// What an operator has decided, where one has: [`XaError::HeurCommit`] or
    /// [`XaError::HeurRollback`], which commit and rollback answer until it is forgotten.
    #[must_use]
    pub fn heuristic(&self) -> Option<XaError> {
        self.0.decided.map(|resolution| match resolution {
            Resolution::Commit => XaError::HeurCommit,
            Resolution::Rollback => XaError::HeurRollback,
        })
    }

    /// When it voted, or was decided by an operator, to the millisecond.
    #[must_use]
    pub fn since(&self) -> SystemTime {
        time(self.0.at)
    }
}
