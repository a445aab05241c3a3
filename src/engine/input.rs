//! What comes to the engine, what leaves it for the disk, and how it ends.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::broker::command::Request;
use crate::broker::delta::Delta;
use crate::broker::delta::Unshared;
use crate::broker::fact::{
    ContentRequest, LaterPage, LaterRequest, OperationsPage, OperationsRequest, Page, PageRequest,
    PiecesPage, PiecesRequest, ProducersPage, ProducersRequest, Spot,
};
use crate::broker::{SelectRequest, Selected, xa};
use crate::engine::{CheckpointJob, Compacted, Dead, Join, Load, Look, Mailbox, Peek, Permit};
use crate::ids::{ConnectionId, Millis};
use crate::store::index::{CommitError, IndexError};
use crate::wal::{Failure, ReadError};

/// Something that has happened, for the engine's next turn.
#[derive(Debug)]
pub enum Input {
    /// A connection begins.
    Connect(ConnectionId, Arc<Mailbox>),
    /// A connection is gone.
    Close(ConnectionId),
    /// A connection asks; the permit is given back when all of it is decided.
    Requests(ConnectionId, VecDeque<Request>, Permit),
    /// A connection that did not read does so again.
    Writable(ConnectionId),
    /// A piece of a queue has been read.
    Page(Page),
    /// It has been read where pieces of a large body lie.
    Pieces(PiecesPage),
    /// It has been read which delayed messages are due next.
    Later(LaterPage),
    /// Producers have been read.
    Producers(ProducersPage),
    /// The content of a message that comes again has been read, or cannot be.
    Content(ContentRequest, Result<Bytes, ReadError>),
    /// Operations of a transaction have been read.
    Operations(OperationsPage),
    /// The outcome of a branch has been looked up.
    Outcome(xa::OutcomePage),
    /// Messages have been judged by a selector, or some cannot be.
    Selected(Selected, Vec<(Spot, ReadError)>),
    /// A payload has been read, or cannot be.
    Loaded(Load, Result<Bytes, ReadError>),
    /// Somebody wants to see something.
    Look(Look),
    /// A checkpoint has ended.
    Checkpointed(Result<Unshared, CommitError>),
    /// A plan of compaction has ended, or was given up and is to be tried again later.
    Compacted(Option<Compacted>),
    /// A part beside the engine has failed for good.
    Failed(StopError),
    /// The broker shall end.
    Stop,
}

/// Why a broker ended other than by being asked to.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// The log failed.
    #[error("{0}; what was not confirmed is unknown, and a restart finds what is durable")]
    Log(Failure),
    /// The index failed.
    #[error("{0}; a restart finds what is durable")]
    Index(IndexError),
    /// A checkpoint failed.
    #[error("{0}; a restart finds what is durable")]
    Checkpoint(CommitError),
    /// A payload cannot be read, though nothing says that it is damaged.
    #[error("{0}; a restart finds what is durable")]
    Read(ReadError),
    /// A thread beside the engine panicked: a defect, or damage that a library did not expect.
    #[error("the {0} thread has panicked; a restart finds what is durable")]
    Panic(&'static str),
    /// A thread could not be started.
    #[error("a thread could not be started: {0}")]
    Thread(std::io::Error),
}

/// Work beside the engine, that comes back as an [`Input`].
#[derive(Debug)]
pub enum Job {
    /// Read a piece of a queue from the index.
    Page(PageRequest),
    /// Read from the index where pieces of a large body lie.
    Pieces(PiecesRequest),
    /// Read from the index which delayed messages are due next.
    Later(LaterRequest),
    /// Read producers from the index.
    Producers(ProducersRequest),
    /// Read the content of a message that comes again from the log.
    Content(ContentRequest),
    /// Read operations of a transaction from the index.
    Operations(OperationsRequest),
    /// Judge messages by a selector.
    Select(SelectRequest),
    /// Look up the outcome of a branch in the index.
    Outcome(xa::OutcomeRequest),
    /// Read payloads from the log.
    Loads(Vec<Load>),
    /// Read a payload from the log for an operator; it goes to whoever waits for it.
    Peek(Peek),
    /// Read from the index what a prepared branch has done; it goes to whoever waits for it.
    Join(Join),
    /// Merge changes into the index.
    Checkpoint(CheckpointJob),
    /// Drop changes that the index has taken; nothing comes back.
    Forget(Arc<Delta>),
    /// Take back files in which nothing is needed; nothing comes back.
    Retire(Dead),
    /// Pack the live frames of these segments together.
    Compact(Vec<u64>),
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// There is more to do at once.
    Busy,
    /// Nothing to do until something happens, or this time comes.
    Idle(Option<Millis>),
    /// The broker has ended: everything is durable, and the index knows it all.
    Stopped,
}
