//! Looks into the engine that ask for nothing: numbers for whoever watches over a broker.
//!
//! They do not wait for the log, unlike answers: when the disk stands still, these numbers are
//! what tells so. What they count may be ahead of the disk by as much as `appended - durable`.

use tokio::sync::oneshot;

use crate::broker::command::{Glimpse, InDoubt, QueueInfo, Totals};
use crate::engine::{Closed, Engine, Flow, Handle, Input, Job};
use crate::ids::{Lsn, QueueId, TransactionId};
use crate::limits;
use crate::wal::ReadError;

/// What somebody wants to see.
#[derive(Debug)]
pub enum Look {
    /// The broker in numbers.
    Status(oneshot::Sender<Status>),
    /// The next queues after a name.
    Queues(Option<Box<str>>, oneshot::Sender<Vec<QueueInfo>>),
    /// The payload of a message in the log.
    Payload(Peek),
    /// What a prepared branch has done, after the operation of this number.
    Done(TransactionId, u64, oneshot::Sender<Glimpse>),
    /// The names of queues that there are.
    Names(Vec<QueueId>, oneshot::Sender<Vec<Option<Box<str>>>>),
}

/// Operations of a prepared branch to be joined with what the index has of them.
#[derive(Debug)]
pub struct Join {
    /// Of which.
    pub transaction: TransactionId,
    /// After which number; [`limits::GLIMPSE_OPERATIONS`] at most.
    pub after: u64,
    /// What memory has.
    pub glimpse: Glimpse,
    /// Who waits for all of it; never told where the index cannot be read.
    pub to: oneshot::Sender<Glimpse>,
}

/// A payload to be read for somebody who looks.
#[derive(Debug)]
pub struct Peek {
    /// Where its frame is.
    pub birth: Lsn,
    /// Bytes of the frame.
    pub size: u32,
    /// Who waits for it.
    pub to: oneshot::Sender<Result<bytes::Bytes, ReadError>>,
}

/// The broker in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Of its state.
    pub totals: Totals,
    /// Connections, operators' included.
    pub connections: usize,
    /// Requests refused since the start.
    pub refused: u64,
    /// Of flow control.
    pub flow: Flow,
    /// Branches of global transactions that wait for their managers.
    pub in_doubt: InDoubt,
    /// Bytes of log appended and not yet durable.
    pub lag_bytes: u64,
    /// Segments in use, dead ones that wait for a checkpoint included.
    pub segments: u64,
    /// Bytes of these.
    pub log_bytes: u64,
    /// Of these bytes, those of the newest segment to which nothing was appended yet.
    pub unused_bytes: u64,
    /// Bytes of the newest payloads kept in memory.
    pub cache_bytes: usize,
    /// Bytes that wait for the log thread.
    pub gathered_bytes: usize,
}

impl Engine {
    pub(super) fn look(&mut self, look: Look, jobs: &mut Vec<Job>) {
        // Who has gone away meanwhile needs no answer.
        match look {
            Look::Status(to) => drop(to.send(self.status())),
            Look::Queues(after, to) => drop(to.send(self.broker.list(after.as_deref()))),
            Look::Payload(peek) => jobs.push(Job::Peek(peek)),
            Look::Done(transaction, after, to) => {
                let most = limits::GLIMPSE_OPERATIONS;
                let glimpse = self.broker.glimpse(transaction, after, most);
                if glimpse.complete {
                    drop(to.send(glimpse));
                } else {
                    jobs.push(Job::Join(Join { transaction, after, glimpse, to }));
                }
            }
            Look::Names(queues, to) => {
                let name = |id: &QueueId| self.broker.queue_name(*id).map(Into::into);
                drop(to.send(queues.iter().map(name).collect()));
            }
        }
    }

    fn status(&self) -> Status {
        let (appended, durable) = (self.log.appended(), self.log.durable());
        let (segments, log_bytes) = self.checkpoints.segments(appended);
        Status {
            totals: self.broker.totals(),
            connections: self.outbox.connections(),
            refused: self.refused,
            flow: self.flow(),
            in_doubt: self.broker.in_doubt(),
            lag_bytes: appended.0.saturating_sub(durable.0),
            segments,
            log_bytes,
            unused_bytes: self.checkpoints.unused(appended),
            cache_bytes: self.cache.bytes(),
            gathered_bytes: self.log.gathered(),
        }
    }
}

impl Handle {
    /// The broker in numbers, as of now.
    ///
    /// # Errors
    /// When the broker has ended.
    pub async fn status(&self) -> Result<Status, Closed> {
        self.see(Look::Status).await
    }

    /// The next queues after a name, in order; none at the end.
    ///
    /// # Errors
    /// When the broker has ended.
    pub async fn queues(&self, after: Option<Box<str>>) -> Result<Vec<QueueInfo>, Closed> {
        self.see(|to| Look::Queues(after, to)).await
    }

    /// The payload of the message born there.
    ///
    /// # Errors
    /// The outer one when the broker has ended; the inner one where the payload cannot be read,
    /// perhaps because the message is gone meanwhile.
    pub async fn payload(
        &self,
        birth: Lsn,
        size: u32,
    ) -> Result<Result<bytes::Bytes, ReadError>, Closed> {
        self.see(|to| Look::Payload(Peek { birth, size, to })).await
    }

    /// What a prepared branch has done after the operation of this number, or `None` where the
    /// index cannot be read.
    ///
    /// # Errors
    /// When the broker has ended.
    pub async fn done_by(
        &self,
        transaction: TransactionId,
        after: u64,
    ) -> Result<Option<Glimpse>, Closed> {
        let (to, seen) = oneshot::channel();
        if !self.bring(Input::Look(Look::Done(transaction, after, to))) {
            return Err(self.why_closed());
        }
        match seen.await {
            Ok(glimpse) => Ok(Some(glimpse)),
            // Either the broker has ended, or the index has failed; the next to ask learns which.
            Err(_) => self.status().await.map(|_| None),
        }
    }

    /// The names of queues, as many as are asked for.
    ///
    /// # Errors
    /// When the broker has ended.
    pub async fn names(&self, queues: Vec<QueueId>) -> Result<Vec<Option<Box<str>>>, Closed> {
        self.see(|to| Look::Names(queues, to)).await
    }

    async fn see<T>(&self, look: impl FnOnce(oneshot::Sender<T>) -> Look) -> Result<T, Closed> {
        let (to, seen) = oneshot::channel();
        if !self.bring(Input::Look(look(to))) {
            return Err(self.why_closed());
        }
        seen.await.map_err(|_| self.why_closed())
    }
}
