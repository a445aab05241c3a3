//! What the broker says no with: each refusal with what there is to know, and what to do next.

use crate::broker::policy::Measure;
use crate::broker::xa::XaError;
use crate::ids::{NoteId, StageId, SubscriptionId, Tag};
use crate::message::Destination;

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
    /// The session used the id of a stage twice.
    #[error("the message {0} has begun already on this connection")]
    StageExists(StageId),
    /// As many large messages as a connection may have under way.
    #[error(
        "this connection has {limit} large messages under way, which is the limit: wait for the \
         receipts of some before sending more"
    )]
    TooManyStages {
        /// The limit.
        limit: usize,
    },
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
    /// More destinations, or more producers that count, than a transaction may have.
    #[error(
        "the transaction sends to {limit} destinations or for {limit} producers, which is the \
         limit: divide it"
    )]
    TransactionTooWide {
        /// The limit.
        limit: usize,
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
    /// A message to a topic of which nobody keeps anything cannot be sent under a name or a number:
    /// nothing would remember that.
    #[error(
        "nobody keeps what is published on this topic, so an id against duplicates cannot be \
         remembered: send it without, to a queue, or subscribe durably first"
    )]
    NobodyKeeps,
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
    /// Transactions without an outcome have used as many names or numbers as they may.
    #[error(
        "transactions that have not ended have sent as much under ids, or of producers that count, \
         as the memory for that takes ({limit} bytes): end some, or raise duplicates.memory and \
         duplicates.producer_memory in the broker's settings"
    )]
    PendingFull {
        /// The limit in bytes.
        limit: u64,
    },
    /// The name of a commit was used for another.
    #[error(
        "another transaction, which did something else, was committed under this commit-id: \
         nothing of this one has happened"
    )]
    CommitNameTaken,
    /// Somebody has asked for a commit of that name and heard that it had not happened.
    #[error(
        "it was asked before what became of this commit-id, or may have been, and answered that \
         nothing ever will: nothing of the transaction has happened; do it again under another id"
    )]
    CommitVoid,
    /// The user has no right to do that.
    #[error(
        "{user} has no right to {right} {destination}: an operator gives it in the broker's \
         settings (access)"
    )]
    NotAllowed {
        /// The user's name.
        user: Box<str>,
        /// The right: read, write or admin.
        right: Box<str>,
        /// With what.
        destination: Destination,
    },
    /// Only operators may do that, through the admin socket.
    #[error("only the broker's operators can do that, with its own command")]
    ForOperators,
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
    /// A queue of that name belongs to a durable subscription, or to a topic.
    #[error(
        "queues whose names begin with subscription://, publications:// or \
         scheduled-publications:// belong to topics: nothing is sent to them or read from them by \
         name"
    )]
    ReservedName,
    /// A durable subscription, or its client, has a name that is empty or too long.
    #[error(
        "the name of a durable subscription or of its client is empty or longer than {limit} bytes"
    )]
    BadSubscriptionName {
        /// The limit in bytes.
        limit: usize,
    },
    /// The selector of a durable subscription is too long to be kept.
    #[error("the selector of a durable subscription may have {limit} bytes at most")]
    SelectorTooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// As many durable subscriptions, and queues that read it, as a topic may have.
    #[error("{limit} durable subscriptions and queues keep what topic {topic} has: the limit")]
    TooManySubscriptions {
        /// The topic.
        topic: Box<str>,
        /// The limit.
        limit: usize,
    },
    /// A durable subscription has a consumer.
    #[error("Durable consumer is in use for client: {client} and subscriptionName: {name}")]
    KeptInUse {
        /// Whose it is.
        client: Box<str>,
        /// What that calls it.
        name: Box<str>,
    },
    /// There is no such durable subscription.
    #[error("No durable subscription exists for clientID: {client} and subscriptionName: {name}")]
    NoSuchKept {
        /// Whose it would be.
        client: Box<str>,
        /// What that calls it.
        name: Box<str>,
    },
    /// A message for a name with wildcards.
    #[error(
        "{name} is a pattern, and a message goes to one name: send to each destination, or to \
         several as one transaction"
    )]
    SendToPattern {
        /// The name.
        name: Box<str>,
    },
    /// A name with wildcards from which nobody can read.
    #[error(
        "the name is no pattern: no part between two dots may be empty, > must be the last, and \
         there may be {limit} parts at most"
    )]
    BadPattern {
        /// The limit.
        limit: usize,
    },
    /// A consumer of a pattern of queues that asks for more than that.
    #[error("a consumer of a pattern of queues cannot have {what}: name one queue")]
    PlainPattern {
        /// For what.
        what: &'static str,
    },
    /// A consumer that wants all of a queue, and a part of it.
    #[error("an exclusive consumer gets all of its queue: it cannot have a selector")]
    ExclusiveSelector,
    /// As many patterns as the broker keeps.
    #[error("consumers read from {limit} patterns already, which is the limit")]
    TooManyPatterns {
        /// The limit.
        limit: usize,
    },
    /// Purge or delete of a queue that does not exist.
    #[error("there is no queue {0}")]
    NoSuchQueue(Box<str>),
    /// Delete of a queue in use.
    #[error("the queue {0} has consumers")]
    QueueInUse(Box<str>),
    /// Somebody has used a queue while it was being deleted.
    #[error(
        "messages or a consumer came to the queue {queue} while it was being deleted: {removed} \
         messages that it had before are removed, and it stays; try again"
    )]
    QueueUsedAgain {
        /// Its name.
        queue: Box<str>,
        /// How many messages are gone.
        removed: u64,
    },
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
