//! Facts: what `decide` states and `apply` makes true, and the effects that follow.

mod pages;
mod volatile;

use std::sync::Arc;

use bytes::Bytes;

use crate::broker::choice::Standing;
use crate::broker::command::{Confirm, Disposition, Outcome, Refusal, Reply, Which};
use crate::broker::dead::DeadLetter;
use crate::broker::delta::{Entry, Place, Resolution};
use crate::broker::notices::Notices;
use crate::broker::scan::Scanned;
use crate::broker::select::SelectRequest;
use crate::broker::transfer::{Rest, Transfer};
use crate::broker::xa::{BranchChange, OutcomeRequest};
use crate::identity::Identity;
use crate::ids::{
    BranchId, ConnectionId, Lsn, Millis, QueueId, StageId, SubscriptionId, Tag, Token,
    TransactionId, TransactionName, UploadId, Xid,
};
use crate::limits;
use crate::record::{BranchRecord, Cause, Record, Settlement};
use crate::selector::Selector;

pub use self::volatile::Volatile;

pub use self::pages::{
    ContentOf, ContentRequest, LaterPage, LaterRequest, OperationsPage, OperationsRequest, Page,
    PageRequest, PageWish, PiecesPage, PiecesPurpose, PiecesRequest, ProducersPage,
    ProducersRequest, Purpose,
};

/// One step of the broker's state.
#[derive(Clone, Debug)]
pub enum Fact {
    /// A durable one: appended to the log with its payload, then applied.
    Log(Record, Bytes),
    /// One that lives as long as the process: applied only.
    Memory(Change),
}

impl Fact {
    /// Messages that it touches, for one who bounds how much is done at once.
    #[must_use]
    pub fn messages(&self) -> usize {
        match self {
            Self::Log(Record::Removed { gone, .. }, _) => gone.len(),
            Self::Log(Record::Returned { entries, .. }, _) => entries.len(),
            Self::Log(Record::PutOff { entries, .. } | Record::Woken { entries, .. }, _) => {
                entries.len()
            }
            // Out of one queue and into another.
            Self::Log(
                Record::Transferred { entries, .. }
                | Record::DeadLettered { entries, .. }
                | Record::Fired { entries, .. },
                _,
            ) => 2 * entries.len(),
            Self::Memory(Change::TransferTo { carried, .. }) => 1 + 2 * carried.len(),
            Self::Log(Record::PiecesGone { gone, .. }, _) => gone.len(),
            Self::Log(Record::Published(published), _) => 1 + published.targets.len(),
            Self::Log(Record::Spread(spread), _) => 1 + spread.targets.len(),
            Self::Log(Record::Abandoned { uploads }, _) => uploads.len(),
            Self::Memory(Change::EndOn { .. }) => limits::OUTCOMES_A_STEP * limits::TAKEN_EFFORT,
            Self::Log(Record::Taken(taken), _) => taken.messages.len(),
            // What a transaction has taken lies anywhere in its queue.
            Self::Log(Record::Settled(settled), _) => {
                let effort =
                    |it: &Settlement| if it.was_taken() { limits::TAKEN_EFFORT } else { 1 };
                settled.outcomes.iter().map(effort).sum()
            }
            // With its content, as if it were sent.
            Self::Log(Record::Branch(BranchRecord::Kept(_)), _) => limits::COMMAND_EFFORT,
            Self::Log(Record::Producers(record), _) => record.producers().len(),
            Self::Log(Record::Forgotten(_), _) => limits::STEP_MESSAGES_MAX,
            Self::Log(Record::QueueCreated { .. }, _) => limits::QUEUE_EFFORT,
            Self::Memory(Change::Drop { places, .. } | Change::Oust { places, .. }) => places.len(),
            Self::Memory(Change::Rest { places, .. } | Change::Rested { places, .. }) => {
                places.len()
            }
            Self::Memory(Change::TakeBack { count, .. }) => *count,
            // Each is known in several places.
            Self::Memory(Change::Unlearn) => 2 * limits::STEP_MESSAGES_MAX,
            Self::Memory(Change::Select(request)) => 1 + request.messages.len(),
            Self::Memory(Change::Notice(notices)) => 1 + notices.len(),
            Self::Memory(Change::Publish { reach, .. }) => 1 + reach * limits::PUBLISH_EFFORT,
            Self::Memory(Change::PublishOn { .. }) => limits::PUBLISH_STEP * limits::PUBLISH_EFFORT,
            Self::Memory(Change::Unsubscribe { .. }) => limits::COMMAND_EFFORT,
            Self::Memory(Change::Settle { effort, .. }) => 1 + effort,
            Self::Memory(Change::Unit(_, UnitChange::Take { effort, .. })) => *effort,
            Self::Memory(Change::Unit(_, UnitChange::End { at_once, .. })) => 1 + at_once,
            Self::Memory(Change::Branch(_, change)) => change.messages(),
            Self::Log(..) | Self::Memory(_) => 1,
        }
    }
}

/// A subscription, told apart over all connections.
pub type ConsumerKey = (ConnectionId, SubscriptionId);

/// A body on its way in, told apart over all connections.
pub type StageKey = (ConnectionId, StageId);

/// From what a subscription consumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A queue.
    Queue(QueueId),
    /// A topic, by name.
    Topic(Arc<str>),
    /// All queues of a pattern.
    Pattern(Arc<str>),
}

/// The place of a non-persistent message in a queue: by rank, then after every durable message
/// that came before it, then by its own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolatilePlace {
    /// 9 minus the priority.
    pub rank: u8,
    /// It comes before durable messages with this sequence number or a later one.
    pub before: u64,
    /// Grows with each non-persistent message of this life of the broker.
    pub number: u64,
}

/// A message that waits in a queue, in either sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spot {
    /// A durable one.
    Durable(Place),
    /// A non-persistent one.
    Volatile(VolatilePlace),
}

/// Who asked for what takes several turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The connection.
    pub connection: ConnectionId,
    /// Its mark on the request.
    pub token: Token,
    /// How it wants to hear.
    pub confirm: Confirm,
}

/// Who hears that a message has gone to every subscription of its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publisher {
    /// Whoever has sent it.
    Asker(Asker),
    /// The unit of work of that ending.
    Ending(u64),
    /// Nobody waits for it. It is for those who have a seat up to this one: what has waited in the
    /// line of its topic is for those who listened when it came there.
    Gone {
        /// The last of them.
        through: u64,
    },
}

/// A change of what lives in memory alone.
#[derive(Clone, Debug)]
pub enum Change {
    /// A subscription begins.
    Subscribe {
        /// Which.
        key: ConsumerKey,
        /// From what.
        source: Source,
        /// Outstanding deliveries at most.
        prefetch: u32,
        /// What it wants of what there is.
        selector: Option<Arc<Selector>>,
    },
    /// A subscription that has just begun stands before others of its queue, or behind.
    Stand {
        /// Which.
        key: ConsumerKey,
        /// How.
        standing: Standing,
    },
    /// Some of what was known for consumers that have gone is dropped.
    Unlearn,
    /// A queue has messages of groups.
    HasGroups {
        /// Which.
        queue: QueueId,
    },
    /// A subscription ends; its loans return over the next turns.
    Unsubscribe {
        /// Which.
        key: ConsumerKey,
        /// The first delivery that has not left the broker; the engine, which knows, fills it in.
        unsent_from: Option<Tag>,
    },
    /// A non-persistent message enters a queue.
    Enqueue {
        /// Which.
        queue: QueueId,
        /// 9 minus its priority.
        rank: u8,
        /// The message.
        message: Volatile,
    },
    /// A message goes to every subscription of a topic.
    Publish {
        /// The topic.
        topic: Arc<str>,
        /// The message.
        message: Volatile,
        /// Who hears when all have it, where that takes several steps.
        from: Publisher,
        /// How many get it in this step.
        reach: usize,
    },
    /// The first message in the line of a topic goes to some more of its subscriptions.
    PublishOn {
        /// Which topic.
        topic: Arc<str>,
    },
    /// A subscription may hold so many deliveries from now on.
    Credit {
        /// Whose.
        key: ConsumerKey,
        /// How many.
        prefetch: u32,
    },
    /// A message is handed to a subscription.
    Lend {
        /// From where.
        queue: QueueId,
        /// Which.
        spot: Spot,
        /// To whom.
        key: ConsumerKey,
    },
    /// Deliveries are settled; durable ones have their record already.
    Settle {
        /// Whose.
        key: ConsumerKey,
        /// Which.
        which: Which,
        /// How.
        outcome: Outcome,
        /// What it takes beside their records.
        effort: usize,
    },
    /// Loans of an ended subscription come back; durable ones that count have their record.
    TakeBack {
        /// Whose.
        key: ConsumerKey,
        /// How many, from the oldest.
        count: usize,
    },
    /// A loan is over because its payload cannot be read; its record says where it went.
    Forfeit {
        /// Whose.
        key: ConsumerKey,
        /// Which.
        tag: Tag,
    },
    /// A body begins to arrive.
    StageBegin {
        /// Which.
        key: StageKey,
    },
    /// Its first piece has begun this upload.
    StageUpload {
        /// Which.
        key: StageKey,
        /// The upload.
        upload: UploadId,
    },
    /// It is complete and has its message.
    StageEnd {
        /// Which.
        key: StageKey,
    },
    /// It will never be complete; the next turns say so of its upload.
    StageAbandon {
        /// Which.
        key: StageKey,
    },
    /// Non-persistent messages of a queue are gone.
    Drop {
        /// From where.
        queue: QueueId,
        /// Why.
        cause: Cause,
        /// Which.
        places: Vec<VolatilePlace>,
    },
    /// Non-persistent messages of a queue that came back are not handed out before these moments.
    Rest {
        /// Of which queue.
        queue: QueueId,
        /// Which, and until when.
        places: Vec<(Millis, VolatilePlace)>,
    },
    /// Their time has come.
    Rested {
        /// Of which queue.
        queue: QueueId,
        /// Which, and when that was to be.
        places: Vec<(Millis, VolatilePlace)>,
    },
    /// Non-persistent messages of a queue made room for newer ones.
    Oust {
        /// From where.
        queue: QueueId,
        /// Which.
        places: Vec<VolatilePlace>,
    },
    /// An emptying of a queue begins.
    Sweep {
        /// Which.
        queue: QueueId,
        /// Who wants to know when it is done.
        asker: Option<Asker>,
        /// Whether the queue itself goes in the end.
        delete: bool,
    },
    /// A connection is that client's, or nobody's any more.
    Identified {
        /// Which.
        connection: ConnectionId,
        /// Whose.
        client: Option<Arc<str>>,
    },
    /// A durable subscription gets nothing any more, and goes.
    Forsake {
        /// Its queue.
        queue: QueueId,
        /// Who wants to know when it has gone.
        asker: Asker,
    },
    /// The sweep has come this far.
    SweepTo {
        /// Which queue.
        queue: QueueId,
        /// Everything up to here is done; `None` when all is.
        cursor: Option<Spot>,
        /// Messages that this step has removed.
        removed: u64,
    },
    /// A piece of a queue is to be read.
    Want(PageWish),
    /// Messages are to be judged by a selector.
    Select(SelectRequest),
    /// Somebody who has asked is answered.
    Tell {
        /// Who.
        asker: Asker,
        /// What came of it.
        result: Result<Reply, Refusal>,
    },
    /// Listeners are to be told what became of messages.
    Notice(Notices),
    /// A move from queue to queue begins.
    Transfer(Transfer),
    /// A move has come this far; durable messages have their record already.
    TransferTo {
        /// From which queue.
        from: QueueId,
        /// Non-persistent messages: where they were, where they are now, and their returns.
        carried: Vec<(VolatilePlace, VolatilePlace, u32)>,
        /// Messages of both kinds that this step has moved.
        moved: u64,
        /// What is left; `None` when everything has been looked at.
        rest: Option<Rest>,
    },
    /// A move ends where it is.
    TransferOver {
        /// From which queue.
        from: QueueId,
    },
    /// A look for expired messages has come this far.
    ScanTo(Scanned),
    /// Something about a unit of work.
    Unit(UnitKey, UnitChange),
    /// Something about a branch of a global transaction.
    Branch(Arc<Xid>, BranchChange),
    /// The outcome of a branch is to be looked up.
    Recall(OutcomeRequest),
    /// What was asked had happened before under the same name.
    Repeated,
    /// A connection speaks for a producer from now on.
    Speaks {
        /// Which.
        connection: ConnectionId,
        /// For whom.
        producer: Identity,
    },
    /// The producers of a connection have gone; the next turns say so of each.
    Part {
        /// Which.
        connection: ConnectionId,
        /// It has said that they would.
        closed: bool,
    },
    /// Producers of a connection that goes on have ended; a later turn says so of each.
    EndProducers {
        /// Which.
        producers: Vec<Identity>,
        /// When.
        at: Millis,
    },
    /// A unit that has its outcome gets on with it.
    EndOn {
        /// The number of its ending.
        number: u64,
    },
    /// All operations of a transaction have had their outcome; their records have said so.
    EndSettled {
        /// Which.
        transaction: TransactionId,
    },
    /// A message that a transaction has given back stays with its consumer.
    Relend {
        /// Whose.
        key: ConsumerKey,
        /// By which delivery, as before.
        tag: Tag,
        /// From which queue.
        queue: QueueId,
        /// Its place there.
        place: Place,
        /// The message.
        entry: Entry,
    },
}

/// A unit of work, told apart over all connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnitKey {
    /// A transaction of one connection.
    Local(ConnectionId, TransactionName),
    /// A branch of a global transaction, whoever works in it.
    Branch(BranchId),
}

/// A change of a unit of work.
#[derive(Clone, Debug)]
pub enum UnitChange {
    /// It begins.
    Begin,
    /// Its first operation in the log has begun this transaction.
    Logged(TransactionId),
    /// It is in the log that its branch has its name anew.
    Renewed,
    /// It sends a message to a queue.
    Sent {
        /// Which.
        queue: QueueId,
        /// Bytes, as a limit counts them.
        bytes: u64,
    },
    /// While it waits, there was room in these queues for what it sends to them.
    Met(Vec<QueueId>),
    /// A part of it was refused, so it can only be rolled back.
    Doom(Refusal),
    /// It publishes a message on a topic, which waits in the line of that.
    Published {
        /// Which.
        topic: Arc<str>,
        /// Bytes, as a limit counts them.
        bytes: u64,
    },
    /// What it has published on a topic lies in the log from now on.
    Stored(Arc<str>),
    /// Something is done in it that lives in memory alone.
    Work(VolatileWork),
    /// Deliveries are settled in it; durable ones have their record already.
    Take {
        /// Whose.
        key: ConsumerKey,
        /// Which.
        which: Which,
        /// They are to come back, whatever the outcome.
        returned: bool,
        /// What it takes beside their records.
        effort: usize,
    },
    /// It has its outcome; durable operations have their record already.
    End {
        /// Which.
        resolution: Resolution,
        /// What becomes of deliveries where it is rollback.
        disposition: Disposition,
        /// Who waits for the end of all of it, where that takes several steps.
        asker: Option<Asker>,
        /// How much of what lives in memory alone is done at once, in messages; the rest in steps.
        at_once: usize,
    },
}

/// What a unit of work has done that lives in memory alone.
#[derive(Clone, Debug)]
pub enum VolatileWork {
    /// Sent a non-persistent message to a queue.
    Enqueue {
        /// Which.
        queue: QueueId,
        /// 9 minus its priority.
        rank: u8,
        /// The message.
        message: Volatile,
    },
    /// Published a message.
    Publish {
        /// On which topic.
        topic: Arc<str>,
        /// The message.
        message: Volatile,
        /// Who has.
        client: Option<Arc<str>>,
    },
    /// Settled a delivery of a message that lives in memory alone.
    Took {
        /// Whose.
        key: ConsumerKey,
        /// Which.
        tag: Tag,
        /// From what.
        source: Source,
        /// The message.
        loan: Lent,
        /// It is to come back, whatever the outcome.
        returned: bool,
    },
}

impl VolatileWork {
    /// Whether it settles a message of a queue: such a thing is durable with a vote.
    #[must_use]
    pub fn is_to_be_kept(&self) -> bool {
        let Self::Took { source: Source::Queue(_), loan, .. } = self else { return false };
        matches!(loan, Lent::Volatile { .. })
    }

    /// The message that it holds in memory, where that counts nowhere else.
    #[must_use]
    pub fn message(&self) -> Option<&Volatile> {
        match self {
            Self::Enqueue { message, .. } | Self::Publish { message, .. } => Some(message),
            Self::Took { .. } => None,
        }
    }
}

/// What follows from a fact for the world outside the broker's state.
#[derive(Clone, Debug)]
pub enum Effect {
    /// A request that took several turns is done.
    Answer {
        /// Whose.
        to: Asker,
        /// What came of it.
        result: Result<Reply, Refusal>,
    },
    /// A message leaves for a subscription.
    Deliver(Assignment),
    /// The broker needs a piece of a queue that is not in memory.
    Page(PageRequest),
    /// The broker needs to know where pieces of a large body lie.
    Pieces(PiecesRequest),
    /// The broker needs operations of a transaction that are not in memory.
    Operations(OperationsRequest),
    /// The broker needs the outcome of a branch that is not in memory.
    Outcome(OutcomeRequest),
    /// The broker needs to know which delayed messages are due next.
    Later(LaterRequest),
    /// The broker needs producers that are not in memory.
    Producers(ProducersRequest),
    /// The broker needs the content of a message.
    Content(ContentRequest),
    /// The broker needs to know which messages match a selector.
    Select(SelectRequest),
}

/// A message handed to a subscription, its content still where it lies.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// To whom.
    pub key: ConsumerKey,
    /// Settles it.
    pub tag: Tag,
    /// From where.
    pub source: Arc<str>,
    /// Whether the source is a topic.
    pub topic: bool,
    /// The topic on which it was published, where its source is a queue that reads that.
    pub origin: Option<Arc<str>>,
    /// Its place, priority and times.
    pub message: Lent,
    /// It may have been delivered before.
    pub redelivered: bool,
    /// The how-manieth delivery, from 1.
    pub attempt: u32,
    /// If it belongs to a group of messages, it is the first of that which this subscription gets,
    /// or nobody knows whether it is.
    pub first_of_group: bool,
    /// Why it was set apart, if it was.
    pub dead: Option<Arc<DeadLetter>>,
}

/// A message in the hands of a subscription.
#[derive(Clone, Debug)]
pub enum Lent {
    /// A durable one, its content in the log.
    Durable {
        /// Of which queue.
        queue: QueueId,
        /// Where it belongs.
        place: Place,
        /// The entry as it was when lent.
        entry: Entry,
    },
    /// A non-persistent one of a queue.
    Volatile {
        /// Of which one.
        queue: QueueId,
        /// Where it belongs.
        place: VolatilePlace,
        /// The message.
        message: Volatile,
        /// How often it came back.
        returns: u32,
    },
    /// One from a topic.
    Published {
        /// Its number in this life of the broker.
        number: u64,
        /// The message.
        message: Volatile,
    },
}

impl Lent {
    /// The queue that it is of; a topic lends without one.
    #[must_use]
    pub fn queue(&self) -> Option<QueueId> {
        match self {
            Self::Durable { queue, .. } | Self::Volatile { queue, .. } => Some(*queue),
            Self::Published { .. } => None,
        }
    }

    /// Bytes that it counts for, as a limit counts them.
    #[must_use]
    pub fn charge(&self) -> u64 {
        match self {
            Self::Durable { entry, .. } => entry.charge(),
            Self::Volatile { message, .. } | Self::Published { message, .. } => message.charge(),
        }
    }

    /// Whether it leaves only when the log is durable so far. One that does not waits for its place
    /// in the line alone.
    #[must_use]
    pub fn waits_for_log(&self) -> bool {
        match self {
            Self::Durable { .. } => true,
            Self::Volatile { message, .. } | Self::Published { message, .. } => message.with_log,
        }
    }

    /// The position of the payload in the log, and the size of its frame.
    #[must_use]
    pub fn in_log(&self) -> Option<(Lsn, u32)> {
        match self {
            Self::Durable { entry, .. } => Some((entry.birth, entry.size)),
            Self::Volatile { .. } | Self::Published { .. } => None,
        }
    }
}
