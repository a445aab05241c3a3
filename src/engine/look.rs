//! Looks into the engine that ask for nothing: numbers for whoever watches over a broker.
//!
//! They do not wait for the log, unlike answers: when the disk stands still, these numbers are
//! what tells so. What they count may be ahead of the disk by as much as `appended - durable`.

use tokio::sync::oneshot;

use crate::broker::command::{QueueInfo, Totals};
use crate::engine::{Closed, Engine, Handle, Input, Job};
use crate::ids::Lsn;
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
    /// Bytes of log appended and not yet durable.
    pub lag_bytes: u64,
    /// Segments in use, dead ones that wait for a checkpoint included.
    pub segments: u64,
    /// Bytes of these.
    pub log_bytes: u64,
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
        }
    }

    fn status(&self) -> Status {
        let (appended, durable) = (self.log.appended(), self.log.durable());
        let (segments, log_bytes) = self.checkpoints.segments(appended);
        Status {
            totals: self.broker.totals(),
            connections: self.outbox.connections(),
            refused: self.refused,
            lag_bytes: appended.0.saturating_sub(durable.0),
            segments,
            log_bytes,
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

    async fn see<T>(&self, look: impl FnOnce(oneshot::Sender<T>) -> Look) -> Result<T, Closed> {
        let (to, seen) = oneshot::channel();
        if !self.bring(Input::Look(look(to))) {
            return Err(self.why_closed());
        }
        seen.await.map_err(|_| self.why_closed())
    }
}
