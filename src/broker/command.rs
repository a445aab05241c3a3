//! What a connection may ask of the broker, and what it hears back.

mod once;
mod schedule;

use std::sync::Arc;

use bytes::Bytes;

use crate::broker::policy::Measure;
use crate::ids::{Lsn, Millis, NoteId, StageId, SubscriptionId, Tag, Token, TransactionName};
use crate::limits;
use crate::message::{Destination, Message};

pub use self::once::Once;
pub use self::schedule::ScheduleInfo;
pub use crate::broker::Limits;
pub use crate::broker::browse::{Browsable, Browsed, Held};
pub use crate::broker::counters::Counters;
pub use crate::broker::dead::DeadLetter;
pub use crate::broker::delta::Resolution;
pub use crate::broker::fact::Spot;
pub use crate::broker::once::NameCounts;
pub use crate::broker::policy::WhenFull;
pub use crate::broker::produce::ProducerCounts;
pub use crate::broker::transfer::{MovedReply, Pick, Rest, Returns};
pub use crate::broker::view::{QueueDetails, QueueInfo, ReaderInfo, Totals};
pub use crate::broker::xa::{
    BranchInfo, EndAs, Glimpse, InDoubt, StartAs, Tally, Vote, XaCommand, XaError,
};

/// A command with the mark its answer carries.
#[derive(Clone, Debug)]
pub struct Request {
    /// Given back in [`Output::Answer`].
    pub token: Token,
    /// Whether success is worth an answer.
    pub confirm: Confirm,
    /// What is asked.
    pub command: Command,
}

/// Whether the session wants to hear of success; of a refusal it always hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirm {
    /// Answer either way, when everything this connection asked before is durable.
    Always,
    /// Answer either way, for this request alone: a yes says nothing of what was asked before, so
    /// it does not wait for sends that are held.
    Alone,
    /// Answer only a refusal.
    RefusalOnly,
}

/// Everything a connection can ask.
#[derive(Clone, Debug)]
pub enum Command {
    /// Puts a message into a queue or publishes it on a topic.
    Send {
        /// Comes into being if it does not exist.
        to: Destination,
        /// The message.
        message: Message,
    },
    /// Begins a message whose body comes in pieces, because it is too large for one command.
    Stage {
        /// Chosen by the session, new on this connection.
        stage: StageId,
        /// Where it is to go: a queue.
        to: Destination,
        /// Bytes of the body, where they are known; else 0.
        bytes: u64,
    },
    /// The next piece of such a body. Stored at once, and seen by nobody before the message is.
    StagePiece {
        /// Of which.
        stage: StageId,
        /// Counts from 1: a piece that was refused leaves a gap, and the rest is refused too.
        number: u32,
        /// Its bytes; not none.
        bytes: Bytes,
    },
    /// Sends the message: like [`Command::Send`], and as one fact with the end of its stage.
    SendStaged {
        /// Of which.
        stage: StageId,
        /// Where it goes, as said when it began.
        to: Destination,
        /// The message; its content is a [`crate::message::LargeHead`]. It is durable whatever it
        /// asks for.
        message: Message,
    },
    /// The body will not be finished: what came of it is given back. So it is when the connection
    /// ends.
    Unstage {
        /// Of which.
        stage: StageId,
    },
    /// Begins to consume.
    Subscribe {
        /// Chosen by the session, new on this connection.
        subscription: SubscriptionId,
        /// Comes into being if it does not exist.
        from: Destination,
        /// Deliveries outstanding (unsettled) at most; at least 1.
        prefetch: u32,
    },
    /// Stops consuming; what is unsettled returns to its queue.
    Unsubscribe {
        /// The subscription that ends.
        subscription: SubscriptionId,
    },
    /// Says what became of deliveries.
    Settle {
        /// Whose.
        subscription: SubscriptionId,
        /// Which.
        which: Which,
        /// What became of them.
        outcome: Outcome,
    },
    /// Begins a transaction: what is done in it happens together, or not at all.
    Begin {
        /// Chosen by the session, new on this connection.
        transaction: TransactionName,
    },
    /// Does something in a transaction.
    Transact {
        /// In which.
        transaction: TransactionName,
        /// What.
        work: Work,
    },
    /// Ends a transaction: all of it happens, and is answered when that is durable.
    Commit {
        /// Which.
        transaction: TransactionName,
    },
    /// Ends a transaction: none of it has happened. So it is when the connection ends.
    Rollback {
        /// Which.
        transaction: TransactionName,
        /// What becomes of the deliveries it has settled.
        disposition: Disposition,
    },
    /// Something about a branch of a global transaction.
    Xa(XaCommand),
    /// Sends or commits under a name, and does nothing where that was done before.
    Once(Once),
    /// Says that the producers of this connection will not come back, so that nothing need be
    /// remembered of what they have sent. Its answer confirms like that of [`Command::Barrier`].
    CloseProducers,
    /// Asks for nothing: its answer confirms what this connection asked before.
    Barrier,
    /// The next queues in the order of names, as [`Reply::Queues`]: none at the end.
    ListQueues {
        /// After this name; from the first without.
        after: Option<Box<str>>,
    },
    /// What is known of a queue, as [`Reply::Queue`].
    ShowQueue {
        /// The queue.
        queue: Box<str>,
    },
    /// A piece of a queue, as [`Reply::Browsed`].
    Browse {
        /// The queue.
        queue: Box<str>,
        /// After this message; from the head without.
        after: Option<Spot>,
        /// Messages at most; 1 to [`crate::limits::STEP_MESSAGES_MAX`].
        limit: usize,
    },
    /// Takes messages that wait in one queue to another, as [`Reply::Moved`].
    Move {
        /// From where.
        from: Box<str>,
        /// Where to; comes into being if it does not exist.
        to: Box<str>,
        /// Which.
        pick: Pick,
        /// What becomes of their number of returns.
        returns: Returns,
    },
    /// Removes every message that waits in a queue now and is not lent to a consumer, as
    /// [`Reply::Removed`].
    Purge {
        /// The queue.
        queue: Box<str>,
    },
    /// Removes a queue that has no consumer, with what is in it.
    Delete {
        /// The queue.
        queue: Box<str>,
    },
    /// The next messages that come again and again, as [`Reply::Schedules`]: none at the end.
    ListSchedules {
        /// After this one; from the first without.
        after: Option<NoteId>,
    },
    /// Removes such a message, as [`Reply::Removed`]: it does not come again.
    EndSchedule(NoteId),
}

impl Command {
    /// What is done, whatever name it has.
    #[must_use]
    pub fn bare(&self) -> &Self {
        match self {
            Self::Once(once) => once.command(),
            other => other,
        }
    }

    /// The stage of which it sends the message.
    #[must_use]
    pub fn stage(&self) -> Option<StageId> {
        match self.bare() {
            Self::SendStaged { stage, .. }
            | Self::Transact { work: Work::SendStaged { stage, .. }, .. } => Some(*stage),
            _ => None,
        }
    }

    /// Where it brings a message, if it does: such a command can be held for want of room. What is
    /// sent in a transaction is not: what its commit would wait for could wait for its commit.
    #[must_use]
    pub fn destination(&self) -> Option<&Destination> {
        match self.bare() {
            Self::Send { to, .. } | Self::SendStaged { to, .. } => Some(to),
            _ => None,
        }
    }

    /// The transaction of which it is a part.
    #[must_use]
    pub fn works_in(&self) -> Option<TransactionName> {
        match self.bare() {
            Self::Transact { transaction, .. } => Some(*transaction),
            _ => None,
        }
    }

    /// The transaction that it commits.
    #[must_use]
    pub fn commits(&self) -> Option<TransactionName> {
        match self.bare() {
            Self::Commit { transaction } => Some(*transaction),
            _ => None,
        }
    }

    /// Whether its answer only paces its session, which reads on when it comes: it confirms nothing
    /// to the peer, so it waits for nothing that is held.
    #[must_use]
    pub fn is_paced(&self) -> bool {
        matches!(self, Self::Stage { .. } | Self::StagePiece { .. } | Self::Unstage { .. })
    }

    /// Bytes it takes while it waits, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.content_bytes() + limits::REQUEST_OVERHEAD_BYTES
    }

    /// Bytes of content that it brings.
    #[must_use]
    pub fn content_bytes(&self) -> usize {
        match self.bare() {
            Self::Send { message, .. }
            | Self::SendStaged { message, .. }
            | Self::Transact {
                work: Work::Send { message, .. } | Work::SendStaged { message, .. },
                ..
            } => message.content.len(),
            Self::StagePiece { bytes, .. } => bytes.len(),
            _ => 0,
        }
    }
}

/// What can be done in a transaction.
#[derive(Clone, Debug)]
pub enum Work {
    /// As [`Command::Send`]: the message is seen by nobody before the commit.
    Send {
        /// Comes into being if it does not exist, whatever the outcome.
        to: Destination,
        /// The message.
        message: Message,
    },
    /// As [`Command::SendStaged`].
    SendStaged {
        /// Of which stage.
        stage: StageId,
        /// Where it goes.
        to: Destination,
        /// The message.
        message: Message,
    },
    /// As [`Command::Settle`]: until the outcome the message is neither gone nor anybody else's,
    /// and the subscription has its credit back.
    Settle {
        /// Whose.
        subscription: SubscriptionId,
        /// Which.
        which: Which,
        /// What is to become of them.
        outcome: Outcome,
    },
}

/// What becomes of the deliveries that a transaction has settled when it is rolled back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// They return to their places, counted once more.
    Return,
    /// They stay with their subscription, outstanding as before, for clients that deliver them
    /// again themselves. Those of a subscription that has ended return.
    Keep,
}

/// Which outstanding deliveries of a subscription are settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// This one.
    One(Tag),
    /// This one and every outstanding one before it.
    Through(Tag),
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Consumed: the message is gone for good.
    Accepted,
    /// Not consumed: back to its place in the queue, its delivery count raised.
    Returned,
}

/// Why the broker will not do what was asked; fit for the peer to read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The session used a subscription id twice.
    #[error("the subscription {0} exists already on this connection")]
    SubscriptionExists(SubscriptionId),
    /// No such subscription on this connection.
    #[error("there is no subscription {0} on this connection")]
    NoSuchSubscription(SubscriptionId),
    /// Settled a delivery that is not outstanding.
    #[error("{0} is not an outstanding delivery of this subscription")]
    NotOutstanding(Tag),
    /// The disk is full.
    #[error("the store's disk is full: nothing more is stored until there is room again")]
    StorageFull,
    /// Non-persistent messages fill the memory set aside for them.
    #[error("the memory for non-persistent messages ({limit} bytes) is full")]
    MemoryFull {
        /// The limit in bytes.
        limit: u64,
    },
    /// The destination holds all that its limit allows.
    #[error(
        "{destination} is full: its limit is {limit}; send again when some of it has been \
         consumed, or raise its limit in the broker's settings (destinations)"
    )]
    DestinationFull {
        /// Where it was sent.
        destination: Destination,
        /// The limit.
        limit: Measure,
    },
    /// The message alone exceeds the limit of its destination.
    #[error(
        "the message takes {size} bytes and {destination} may hold {limit} bytes in all: send \
         smaller ones, or raise its limit in the broker's settings (destinations)"
    )]
    NeverFits {
        /// Where it was sent.
        destination: Destination,
        /// What it would take.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// As much as may be waits for room already, of this connection or of all.
    #[error(
        "{destination} is full, and {limit} wait for room already, which is the limit for \
         {whose}: wait for confirmations while sending, so that fewer are on their way"
    )]
    HeldFull {
        /// Where it, or what its confirmation waits for, was sent.
        destination: Destination,
        /// How much waits.
        limit: Measure,
        /// Of whom.
        whose: &'static str,
    },
    /// The disk is nearly full: what is left is kept for acknowledgements and clean-up.
    #[error(
        "the store's disk has less than {reserve} bytes free, which are kept for acknowledgements \
         and clean-up (log.disk_reserve): nothing more is stored until there is more room"
    )]
    DiskLow {
        /// The bytes kept free.
        reserve: u64,
    },
    /// The message is larger than the log takes.
    #[error("the message has {size} bytes and the limit is {limit}")]
    MessageTooLarge {
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A message to a topic does not go in pieces.
    #[error("a message to a topic may have {limit} bytes at most; a queue takes larger ones")]
    TooLargeForTopic {
        /// The limit in bytes.
        limit: u64,
    },
    /// The session used the id of a stage twice, or has too many at a time.
    #[error("the message {0} has begun already, or too many have on this connection")]
    StageExists(StageId),
    /// No such stage on this connection.
    #[error("the message {0} has not begun on this connection")]
    NoSuchStage(StageId),
    /// A piece of the body is missing: it was refused before.
    #[error("a part of the message is missing: it was refused before, or never sent")]
    PieceMissing,
    /// The session used the name of a transaction twice.
    #[error("the transaction has begun already on this connection")]
    TransactionExists,
    /// As many transactions as a connection may have.
    #[error("the connection has {limit} transactions that have not ended, which is the limit")]
    TooManyTransactions {
        /// The limit.
        limit: usize,
    },
    /// No such transaction on this connection.
    #[error("the transaction has not begun on this connection, or has ended")]
    NoSuchTransaction,
    /// A part of the transaction was refused.
    #[error("the transaction can only be rolled back, because a part of it was refused: {because}")]
    RollbackOnly {
        /// Why that was.
        because: Box<Refusal>,
    },
    /// More operations than a transaction may have.
    #[error(
        "the transaction has {limit} operations, which is the limit \
         (limits.transaction_operations)"
    )]
    TransactionTooLarge {
        /// The limit.
        limit: u64,
    },
    /// What the XA specification says.
    #[error("{0}")]
    Xa(XaError),
    /// There are as many branches of global transactions as the broker keeps.
    #[error(
        "there are {limit} branches that wait for their transaction managers, which is the limit"
    )]
    TooManyBranches {
        /// The limit.
        limit: usize,
    },
    /// A message to a topic cannot be sent under a name: nothing remembers it.
    #[error(
        "a message to a topic cannot have an id against duplicates: a topic keeps nothing; send \
         it without, or to a queue"
    )]
    NameOnTopic,
    /// The same name was used in a transaction that has no outcome.
    #[error(
        "a transaction that has not ended has done something under the same id: ask again when it \
         has, and use no id twice at a time"
    )]
    NamePending,
    /// The same number of a producer was used in a transaction that has no outcome.
    #[error(
        "a transaction that has not ended has sent a message with the same producer-sequence: send \
         again when it has"
    )]
    NumberPending,
    /// The number is too far behind what its producer has sent since.
    #[error(
        "producer-sequence {sequence} is too old to tell whether it was sent before: of this \
         producer what is below {floor} is not remembered any more, and nothing was done"
    )]
    BelowWindow {
        /// The number.
        sequence: u64,
        /// The first of which it is known.
        floor: u64,
    },
    /// The numbers that a producer has used in one transaction lie too far apart.
    #[error(
        "the transaction has messages of one producer whose producer-sequences have gaps in more \
         than {limit} places, which is the limit: count by one"
    )]
    TooManyGaps {
        /// The limit.
        limit: usize,
    },
    /// The name of a commit was used for another.
    #[error(
        "another transaction, which did something else, was committed under this commit-id: \
         nothing of this one has happened"
    )]
    CommitNameTaken,
    /// Somebody has asked for a commit of that name and heard that it had not happened.
    #[error(
        "it was asked before what became of this commit-id, and answered that nothing ever will: \
         nothing of the transaction has happened; do it again under another id"
    )]
    CommitVoid,
    /// There are as many queues as the configuration allows.
    #[error("there are {limit} destinations already, which is the limit")]
    TooManyDestinations {
        /// The limit.
        limit: usize,
    },
    /// A destination's name is empty or too long.
    #[error("the destination name is empty or longer than {limit} bytes")]
    BadDestinationName {
        /// The limit in bytes.
        limit: usize,
    },
    /// Purge or delete of a queue that does not exist.
    #[error("there is no queue {0}")]
    NoSuchQueue(Box<str>),
    /// Delete of a queue in use.
    #[error("the queue {0} has consumers, or messages came in while it was being deleted")]
    QueueInUse(Box<str>),
    /// Delete of a queue to which transactions without an outcome have sent, or from which they
    /// have settled messages.
    #[error(
        "transactions without an outcome have sent to the queue {0} or taken from it: it can be \
         deleted when they have ended; `escrowmq xa list` shows those that wait for their managers"
    )]
    QueueInTransactions(Box<str>),
    /// Purge, delete or move of a queue while another is under way.
    #[error("the queue {0} is being purged, deleted or moved already: try again when that is done")]
    QueueBusy(Box<str>),
    /// Move of a queue into itself.
    #[error("the queue {0} cannot be moved to itself")]
    SameQueue(Box<str>),
    /// A large message cannot come again and again.
    #[error("a message that is delivered again and again may have {limit} bytes at most")]
    TooLargeToRepeat {
        /// The limit in bytes.
        limit: usize,
    },
    /// As many messages come again as the broker keeps.
    #[error("there are {limit} messages that are delivered again and again, which is the limit")]
    TooManySchedules {
        /// The limit.
        limit: usize,
    },
    /// Nothing comes again under that number.
    #[error("there is no schedule {}", .0.get())]
    NoSuchSchedule(NoteId),
}

impl Refusal {
    /// Whether the same might be taken when there is more room.
    #[must_use]
    pub fn is_want_of_room(&self) -> bool {
        matches!(
            self,
            Self::StorageFull
                | Self::DiskLow { .. }
                | Self::MemoryFull { .. }
                | Self::DestinationFull { .. }
                | Self::NeverFits { .. }
                | Self::HeldFull { .. }
        )
    }
}

/// What the broker tells a connection.
#[derive(Clone, Debug)]
pub enum Output {
    /// The answer to a [`Request`].
    Answer {
        /// The request's own mark.
        token: Token,
        /// What came of it.
        result: Result<Reply, Refusal>,
    },
    /// A message for a subscription. Where its content is a [`crate::message::LargeHead`] the
    /// body follows as [`Output::Piece`]s, with answers between them and no other delivery.
    Delivery(Delivery),
    /// The next piece of the body of the delivery before.
    Piece {
        /// Whose.
        subscription: SubscriptionId,
        /// Of which delivery.
        tag: Tag,
        /// Never none.
        bytes: Bytes,
    },
    /// The rest of that body cannot be read: the message is set apart, and the delivery is over.
    Broken {
        /// Whose.
        subscription: SubscriptionId,
        /// Which.
        tag: Tag,
    },
    /// A subscription ended without being asked to.
    Cancelled {
        /// Which.
        subscription: SubscriptionId,
        /// Why, for the peer to read.
        reason: &'static str,
    },
}

/// What success says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done.
    Done,
    /// Done before, under the same name; nothing happened now.
    Repeated,
    /// Nothing was committed under that name, and nothing ever will be.
    NotCommitted,
    /// The queues, by name.
    Queues(Vec<QueueInfo>),
    /// A queue.
    Queue(Box<QueueDetails>),
    /// A piece of a queue.
    Browsed(Browsed),
    /// What a move has done.
    Moved(MovedReply),
    /// What a branch says when it is asked to prepare.
    Vote(Vote),
    /// Branches that wait for their managers.
    Branches(Vec<BranchInfo>),
    /// What comes again and again, by number.
    Schedules(Vec<ScheduleInfo>),
    /// A purge or deletion is done, and has removed so many messages.
    Removed(u64),
}

/// A message handed to a subscription.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Whose.
    pub subscription: SubscriptionId,
    /// Settles it.
    pub tag: Tag,
    /// From where it comes.
    pub from: Destination,
    /// Names the message for ever; the same at each redelivery.
    pub message: MessageId,
    /// It may have been delivered before.
    pub redelivered: bool,
    /// This is the how-manieth delivery, from 1.
    pub attempt: u32,
    /// 0 to 9.
    pub priority: u8,
    /// Whether it outlives the process.
    pub persistent: bool,
    /// When the broker took it.
    pub at: Millis,
    /// When it is no longer wanted.
    pub expires: Option<Millis>,
    /// Why it was set apart, if it was.
    pub dead: Option<Arc<DeadLetter>>,
    /// Properties and body, in the bytes of [`crate::message::Content`], or of a
    /// [`crate::message::LargeHead`] where the body follows in pieces.
    pub content: Bytes,
}

/// Text that names no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no message id")]
pub struct BadMessageId;

/// Names a message for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MessageId {
    /// A persistent message, by the position of its birth in the log.
    Durable(Lsn),
    /// A non-persistent one, by the life of the broker that took it and its number in it.
    Volatile {
        /// The epoch of the store.
        epoch: u64,
        /// Counts from 1 in each epoch.
        number: u64,
    },
}

impl std::str::FromStr for MessageId {
    type Err = BadMessageId;

    /// Reads an id as it is displayed, or a header `message-id` that ends with one.
    fn from_str(text: &str) -> Result<Self, BadMessageId> {
        let hex = |digits: &str| u64::from_str_radix(digits, 16).map_err(|_| BadMessageId);
        let (head, last) = text.rsplit_once('-').unwrap_or(("", text));
        if let Some(birth) = last.strip_prefix('d') {
            return Ok(Self::Durable(Lsn(hex(birth)?)));
        }
        let epoch = head.rsplit('-').next().and_then(|epoch| epoch.strip_prefix('v'));
        let epoch = hex(epoch.ok_or(BadMessageId)?)?;
        Ok(Self::Volatile { epoch, number: hex(last)? })
    }
}

impl std::fmt::Display for MessageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Durable(lsn) => write!(f, "d{:x}", lsn.0),
            Self::Volatile { epoch, number } => write!(f, "v{epoch:x}-{number:x}"),
        }
    }
}
