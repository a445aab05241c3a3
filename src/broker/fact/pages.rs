//! What the broker wants to have read beside the engine, and what comes of that.

use crate::broker::browse::Browse;
use crate::broker::delta::{Due, Entry, Operation, PieceAt, Place, ProducerRow};
use crate::broker::fact::ConsumerKey;
use crate::broker::selecting::GroupId;
use crate::identity::Identity;
use crate::ids::{Lsn, QueueId, Tag, TransactionId, UploadId};

/// Whose content is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentOf {
    /// A message that comes again, and whose time has come.
    Occurrence(Due),
    /// A publication that waits in the line of its topic.
    Publication(QueueId, Place),
    /// A message of which is to be told what became of it, by number.
    Notice(u64),
}

/// The content of a message that comes again and whose time has come, of a publication that some
/// may want, or of a message of which is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRequest {
    /// Which.
    pub of: ContentOf,
    /// Where its frame is.
    pub birth: Lsn,
    /// Bytes of the frame.
    pub size: u32,
}

/// Delayed messages, to be read from the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaterRequest {
    /// Strictly after this turn.
    pub after: Due,
    /// At most this many.
    pub limit: usize,
    /// Which state of the index the broker's deltas continue.
    pub generation: u64,
}

/// The answer to a [`LaterRequest`].
#[derive(Clone, Debug)]
pub struct LaterPage {
    /// What was asked.
    pub request: LaterRequest,
    /// What the index holds, in order; fewer than the limit only where it ends.
    pub rows: Vec<(Due, Entry)>,
}

/// Producers that count what they send, to be read from the index: memory has no change of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProducersRequest {
    /// The next ones, in the order of their names.
    Next {
        /// Strictly after this one.
        after: Option<Identity>,
        /// At most this many.
        limit: usize,
    },
    /// One that somebody speaks for.
    One(Identity),
}

/// The answer to a [`ProducersRequest`].
#[derive(Clone, Debug)]
pub struct ProducersPage {
    /// What was asked.
    pub request: ProducersRequest,
    /// What the index holds, in order; fewer than were asked for only where it has no more.
    pub rows: Vec<(Identity, ProducerRow)>,
}

/// Places of the pieces of an upload, to be read from the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PiecesRequest {
    /// Of which upload.
    pub upload: UploadId,
    /// Strictly after this number.
    pub after: u32,
    /// At most this many.
    pub limit: usize,
    /// What for.
    pub purpose: PiecesPurpose,
    /// Which state of the index the broker's deltas continue.
    pub generation: u64,
}

/// Why the places of pieces are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PiecesPurpose {
    /// To be given back.
    GiveBack,
    /// To be delivered.
    Deliver(ConsumerKey, Tag),
}

/// The answer to a [`PiecesRequest`].
#[derive(Clone, Debug)]
pub struct PiecesPage {
    /// What was asked.
    pub request: PiecesRequest,
    /// What the index holds, in order; fewer than the limit only where it ends.
    pub rows: Vec<(u32, PieceAt)>,
}

/// Operations of a transaction to be read from the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationsRequest {
    /// Of which.
    pub transaction: TransactionId,
    /// Strictly after this number.
    pub after: u64,
    /// At most this many.
    pub limit: usize,
    /// Which state of the index the broker's deltas continue.
    pub generation: u64,
}

/// The answer to an [`OperationsRequest`].
#[derive(Clone, Debug)]
pub struct OperationsPage {
    /// What was asked.
    pub request: OperationsRequest,
    /// What the index holds, in order; fewer than the limit only where it ends.
    pub rows: Vec<(u64, Operation)>,
}

/// Entries of a queue to be read from the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Of which queue.
    pub queue: QueueId,
    /// Strictly after this place.
    pub after: Place,
    /// At most this many.
    pub limit: usize,
    /// What for.
    pub purpose: Purpose,
    /// Which state of the index the broker's deltas continue.
    pub generation: u64,
}

/// A piece of a queue that is to be read, from whatever state the index has by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageWish {
    /// Of which queue.
    pub queue: QueueId,
    /// Strictly after this place.
    pub after: Place,
    /// At most this many.
    pub limit: usize,
    /// What for.
    pub purpose: Purpose,
}

impl PageWish {
    /// The request for it, in a state of the index.
    pub(in crate::broker) fn of(self, generation: u64) -> PageRequest {
        let Self { queue, after, limit, purpose } = self;
        PageRequest { queue, after, limit, purpose, generation }
    }
}

/// Why entries are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be handed out.
    Dispatch,
    /// To be removed.
    Sweep,
    /// To be shown.
    Browse(Browse),
    /// To be moved.
    Transfer,
    /// To find those whose time is over.
    Scan,
    /// To find those that match a selector.
    Select(GroupId),
}

/// The answer to a [`PageRequest`].
#[derive(Clone, Debug)]
pub struct Page {
    /// What was asked.
    pub request: PageRequest,
    /// What the index holds, in order; fewer than the limit only where it ends.
    pub rows: Vec<(Place, Entry)>,
}
