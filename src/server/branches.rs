//! What the commands of an operator about branches of global transactions do.
//!
//! Always: one page of branches, and one piece of what one of them has done, in memory at a time;
//! what was told to be decided or forgotten is durable.

use std::sync::Arc;

use tokio::io::AsyncWrite;

use super::operator::{Failure, Out, request};
use super::words::{BranchLine, BranchesEnd, Told, XaAsk, shown};
use crate::broker::command::{
    BranchInfo, Command, Refusal, Reply, Resolution, Tally, XaCommand, XaError,
};
use crate::engine::{Connection, Handle};
use crate::ids::{BadXid, Xid};

/// Why the broker did not do what an operator asked about a branch.
#[derive(Debug, thiserror::Error)]
pub(super) enum BranchFailure {
    #[error(transparent)]
    BadXid(#[from] BadXid),
    #[error(
        "no branch {0} waits for an outcome (it may have ended meanwhile): `escrowmq xa list` \
         shows those that do"
    )]
    NoSuchBranch(Arc<Xid>),
    #[error(
        "the branch {0} has not voted, so there is nothing to decide: its manager ends it, or its \
         timeout rolls it back (xa.timeout)"
    )]
    NotPrepared(Arc<Xid>),
    #[error(
        "an operator has {how} the branch {xid} already: its manager will hear of it, and \
         `escrowmq xa forget {xid}` forgets it where there is no manager any more"
    )]
    Decided { xid: Arc<Xid>, how: &'static str },
    #[error(
        "no operator has decided of the branch {0}, so there is nothing to forget: `escrowmq xa \
         list` shows what waits, `xa commit` and `xa rollback` decide of a prepared one"
    )]
    NotDecided(Arc<Xid>),
}

/// Does what was asked and writes what there is to tell.
pub(super) async fn perform<W: AsyncWrite + Unpin>(
    handle: &Handle,
    ask: XaAsk,
    out: &mut Out<W>,
) -> Result<(), Failure> {
    let connection = handle.connect()?;
    let mut session = Session { handle, connection, out };
    match ask {
        XaAsk::List { after, count } => {
            let after = after.map(|xid| parse(&xid)).transpose()?;
            session.list(after, count).await
        }
        XaAsk::Show { xid } => {
            let xid = parse(&xid)?;
            match session.find(&xid).await? {
                Some(info) => session.tell(&info).await,
                None => Err(BranchFailure::NoSuchBranch(xid).into()),
            }
        }
        XaAsk::Decide { xid, commit } => {
            let resolution = if commit { Resolution::Commit } else { Resolution::Rollback };
            session.decide(parse(&xid)?, resolution).await
        }
        XaAsk::Forget { xid } => session.forget(parse(&xid)?).await,
    }
}

fn parse(xid: &str) -> Result<Arc<Xid>, BranchFailure> {
    Ok(Arc::new(xid.parse()?))
}

/// One operator at work.
struct Session<'a, W> {
    handle: &'a Handle,
    connection: Connection,
    out: &'a mut Out<W>,
}

impl<W: AsyncWrite + Unpin> Session<'_, W> {
    async fn ask(&self, command: XaCommand) -> Result<Reply, Failure> {
        request(&self.connection, Command::Xa(command)).await
    }

    async fn page(&self, command: XaCommand) -> Result<Vec<BranchInfo>, Failure> {
        match self.ask(command).await? {
            Reply::Branches(found) => Ok(found),
            other => unreachable!("it was branches that were asked, not {other:?}"),
        }
    }

    async fn find(&self, xid: &Arc<Xid>) -> Result<Option<BranchInfo>, Failure> {
        Ok(self.page(XaCommand::Find { xid: Arc::clone(xid) }).await?.pop())
    }

    async fn list(&mut self, mut after: Option<Arc<Xid>>, count: u64) -> Result<(), Failure> {
        let mut left = count;
        let more = loop {
            let page = self.page(XaCommand::Recover { after: after.clone() }).await?;
            let Some(last) = page.last() else { break false };
            after = Some(Arc::new(last.xid.clone()));
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            for info in page.iter().take(most) {
                self.tell(info).await?;
                left -= 1;
            }
            if most < page.len() {
                break true;
            }
        };
        let known = self.handle.status().await?.in_doubt;
        let (prepared, decided) = (known.prepared as u64, known.decided as u64);
        self.out.tell(&Told::BranchesEnd(BranchesEnd { prepared, decided, more })).await
    }

    async fn tell(&mut self, info: &BranchInfo) -> Result<(), Failure> {
        let line = self.line(info).await?;
        self.out.tell(&Told::Branch(line)).await
    }

    /// A branch, with what it has done by queue, as far as that is looked at.
    async fn line(&self, info: &BranchInfo) -> Result<BranchLine, Failure> {
        let mut tally = Tally::default();
        if let Some(transaction) = info.transaction {
            // Where the index cannot be read, the counts of the whole are told alone.
            while let Some(glimpse) = self.handle.done_by(transaction, tally.counted).await? {
                if !tally.add(&glimpse) {
                    break;
                }
            }
        }
        let shown = shown(tally);
        if shown.is_empty() {
            return Ok(BranchLine::new(info, Vec::new()));
        }
        let names = self.handle.names(shown.iter().map(|(id, _)| *id).collect()).await?;
        // One without a name was deleted, so the branch has ended meanwhile.
        let named = names.into_iter().zip(shown);
        let named = named.filter_map(|(name, (_, work))| Some((name?.into_string(), work)));
        Ok(BranchLine::new(info, named.collect()))
    }

    async fn decide(&mut self, xid: Arc<Xid>, resolution: Resolution) -> Result<(), Failure> {
        let before = match self.find(&xid).await? {
            Some(info) => Some(self.line(&info).await?),
            None => None,
        };
        let command = XaCommand::Decide { xid: Arc::clone(&xid), resolution };
        match self.ask(command).await {
            Ok(_) => match before {
                Some(line) => self.out.tell(&Told::Branch(line)).await,
                // It voted between the two.
                None => Ok(()),
            },
            Err(Failure::Refused(Refusal::Xa(XaError::NotA))) => {
                Err(BranchFailure::NoSuchBranch(xid).into())
            }
            Err(Failure::Refused(Refusal::Xa(XaError::Proto))) => {
                let found = self.find(&xid).await?;
                let failure = match found.and_then(|info| info.decided) {
                    None => BranchFailure::NotPrepared(xid),
                    Some(Resolution::Commit) => BranchFailure::Decided { xid, how: "committed" },
                    Some(Resolution::Rollback) => {
                        BranchFailure::Decided { xid, how: "rolled back" }
                    }
                };
                Err(failure.into())
            }
            Err(other) => Err(other),
        }
    }

    async fn forget(&mut self, xid: Arc<Xid>) -> Result<(), Failure> {
        let before = self.find(&xid).await?;
        match self.ask(XaCommand::Forget { xid: Arc::clone(&xid) }).await {
            Ok(_) => match before {
                Some(info) => self.tell(&info).await,
                None => Ok(()),
            },
            Err(Failure::Refused(Refusal::Xa(XaError::NotA | XaError::Proto))) => {
                Err(BranchFailure::NotDecided(xid).into())
            }
            Err(other) => Err(other),
        }
    }
}
