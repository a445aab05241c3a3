//! What can go wrong, an enum for each question, and what a program does about it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::broker::command::{self, XaError};
use crate::config::ConfigError;
use crate::engine::{Closed, StopError, StoreError};
use crate::io::real::LockError;
use crate::selector::SelectorError;

/// Why a broker does not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another broker, of this process or another, has the directory, or a tool looks into it.
    /// Nothing was touched. A broker that was dropped without [`close`](crate::Broker::close) has
    /// it for a moment longer: see [`Builder::wait_for_store`](crate::Builder::wait_for_store).
    #[error("{}: another broker has this store open", path.display())]
    InUse {
        /// The lock file in the directory.
        path: PathBuf,
    },
    /// A setting cannot be used.
    #[error(transparent)]
    Setting(SettingError),
    /// The directory cannot be made, opened or locked.
    #[error("the directory of the store cannot be used: {0}")]
    Directory(#[source] std::io::Error),
    /// The directory holds no store of this version, or a damaged one; the text names the file,
    /// the place in it and what to do.
    #[error(transparent)]
    Store(StoreRefused),
    /// A listener cannot be opened.
    #[error("{0}")]
    Listen(String),
    /// The system gives no thread, or opening the store panicked: a defect.
    #[error("the broker cannot be started: {0}")]
    Start(String),
}

/// A setting that cannot be used, and what it must be.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct SettingError(ConfigError);

/// Why a store was not opened: damage, a missing file, a newer version, a full disk.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StoreRefused(StoreError);

impl From<ConfigError> for OpenError {
    fn from(error: ConfigError) -> Self {
        Self::Setting(SettingError(error))
    }
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        Self::Store(StoreRefused(error))
    }
}

impl From<LockError> for OpenError {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Held { path } => Self::InUse { path },
            LockError::Io { source, .. } => Self::Directory(source),
        }
    }
}

/// Why a store failed while its broker ran. The program lives on, and may open the store again:
/// that finds everything that was confirmed.
///
/// Where a call that waits for nothing finds a store that has just failed, it says only that it
/// has; [`Broker::failed`](crate::Broker::failed) and [`close`](crate::Broker::close) say why.
#[derive(Clone, Debug)]
pub struct Failure(Option<Arc<StopError>>);

impl Failure {
    pub(super) fn new(error: StopError) -> Self {
        Self(Some(Arc::new(error)))
    }

    /// It has failed, and whoever knows why has not said so yet.
    pub(super) fn not_known_yet() -> Self {
        Self(None)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(why) => why.fmt(f),
            None => Closed::Failed.fmt(f),
        }
    }
}

impl std::error::Error for Failure {}

/// The broker answers nothing any more. What was not confirmed is unknown: it may have been done.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Ended {
    /// It was closed or dropped.
    #[error("the broker is closed")]
    Closed,
    /// Its store failed.
    #[error("{0}")]
    Failed(#[source] Failure),
}

/// The broker says no, and nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub(super) command::Refusal);

impl Refusal {
    /// What a program can do about it. Of a transaction or a branch that was refused because of a
    /// part of it, this is what became of that part.
    #[must_use]
    pub fn kind(&self) -> RefusalKind {
        kind_of(&self.0)
    }

    /// Whether the same may be taken later, when there is more room: it is [`RefusalKind::Room`].
    #[must_use]
    pub fn is_for_want_of_room(&self) -> bool {
        self.kind() == RefusalKind::Room
    }
}

/// What a program can do about a [`Refusal`]; its text says more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusalKind {
    /// The destination, memory or the disk is full, or too many sends of this connection wait for
    /// room already. The same may be taken later.
    Room,
    /// The message alone is larger than its destination may hold, or than messages may be: it
    /// never will be taken.
    NeverFits,
    /// The transaction, or branch, has more operations, destinations or producers that count than
    /// [it may](crate::Transaction#limits), their numbers have gaps in too many places, or it alone
    /// sends more to a destination than that may hold. Divided, it may be taken.
    TransactionTooLarge,
    /// There are as many of them as there may be: transactions of the connection, branches, ids and
    /// numbers in transactions that have not ended, destinations, durable subscriptions of a topic,
    /// patterns, messages that come again. The same may be taken when some have ended.
    TooMany,
    /// A transaction that has not ended has sent a message under the same
    /// [id](crate::Message::once) or [number](crate::Message::numbered). Send again when it has.
    Pending,
    /// The [number](crate::Message::numbered) is too far behind what its producer has sent since:
    /// nobody knows any more whether a message was sent under it before. Now none was, and none
    /// will be under this number.
    BelowWindow,
    /// Nobody keeps what is published on the topic, so that nothing would remember the id or number
    /// of the message. Send it without, to a queue, or when there is a durable subscription.
    NobodyKeeps,
    /// The durable subscription has a consumer, or transactions that have not ended have taken from
    /// it. Try again when these have ended.
    InUse,
    /// There is no such durable subscription.
    Missing,
    /// A name is empty, too long, kept for the broker, or a pattern where none can be; or what is
    /// wanted of a consumer does not go together. It never will be taken.
    Invalid,
    /// None of these.
    Other,
}

fn kind_of(why: &command::Refusal) -> RefusalKind {
    use RefusalKind as Kind;
    use command::Refusal as R;
    match why {
        R::RollbackOnly { because } => match **because {
            // No part of a transaction is refused because of what others have there.
            R::DestinationFull { .. } => Kind::TransactionTooLarge,
            ref part => kind_of(part),
        },
        R::StorageFull
        | R::DiskLow { .. }
        | R::MemoryFull { .. }
        | R::DestinationFull { .. }
        | R::HeldFull { .. } => Kind::Room,
        R::NeverFits { .. } | R::MessageTooLarge { .. } | R::TooLargeToRepeat { .. } => {
            Kind::NeverFits
        }
        R::TransactionTooLarge { .. } | R::TransactionTooWide { .. } | R::TooManyGaps { .. } => {
            Kind::TransactionTooLarge
        }
        R::TooManyTransactions { .. }
        | R::TooManyBranches { .. }
        | R::TooManyStages { .. }
        | R::TooManyDestinations { .. }
        | R::TooManySubscriptions { .. }
        | R::TooManyPatterns { .. }
        | R::TooManySchedules { .. }
        | R::PendingFull { .. } => Kind::TooMany,
        R::NamePending | R::NumberPending => Kind::Pending,
        R::BelowWindow { .. } => Kind::BelowWindow,
        R::NobodyKeeps => Kind::NobodyKeeps,
        R::KeptInUse { .. } | R::QueueInTransactions(_) => Kind::InUse,
        R::NoSuchKept { .. } => Kind::Missing,
        R::BadDestinationName { .. }
        | R::ReservedName
        | R::BadSubscriptionName { .. }
        | R::SelectorTooLong { .. }
        | R::SendToPattern { .. }
        | R::BadPattern { .. }
        | R::PlainPattern { .. }
        | R::ExclusiveSelector => Kind::Invalid,
        // What operators ask, what only a connection asks that has lost count, and what has an
        // error of its own.
        _ => Kind::Other,
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Refusal {}

/// Why a message was not sent, or is not known to be.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The broker does not take it; it was not sent. [`Refusal::kind`] says what to do about that.
    #[error("{0}")]
    Refused(#[source] Refusal),
    /// The body is larger than messages may be; it was not sent.
    #[error("the message has {size} bytes, and the limit is {limit}")]
    TooLarge {
        /// Bytes of the body.
        size: u64,
        /// The limit in bytes: [`Builder::message_limit`](crate::Builder::message_limit), or
        /// 256 KiB for what is repeated.
        limit: u64,
    },
    /// A property cannot go with a message; it was not sent.
    #[error("the property {name:?} {reason}")]
    Property {
        /// Its name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// It cannot be delivered when it says; it was not sent.
    #[error("the message says when it is to be delivered, but {reason}")]
    Schedule {
        /// What is wrong with that.
        reason: String,
    },
    /// The broker has ended: unless it was confirmed before, the message may have been sent.
    #[error(transparent)]
    Ended(#[from] Ended),
}

/// Why there is no consumer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The broker does not want it.
    #[error("{0}")]
    Refused(#[source] Refusal),
    /// The text is no selector.
    #[error(transparent)]
    Selector(#[from] SelectorError),
    /// The broker has ended.
    #[error(transparent)]
    Ended(#[from] Ended),
}

/// Why there will be no delivery.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The broker has ended this consumer: its queue was deleted, perhaps.
    #[error("the broker has ended the subscription: {reason}")]
    Cancelled {
        /// Why.
        reason: &'static str,
    },
    /// The bytes of a message are whole, and not what a message looks like: a newer version wrote
    /// them. It stays lent until this consumer ends; the next call goes on with the next message.
    #[error("the content of the message {message} cannot be understood")]
    Unreadable {
        /// Which message.
        message: super::MessageId,
    },
    /// The broker has ended.
    #[error(transparent)]
    Ended(#[from] Ended),
}

/// Why a delivery was not settled, or is not known to be.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettleError {
    /// It is no longer lent to this consumer, which has ended: the message went back to its queue
    /// before, and is delivered again.
    #[error("the consumer has ended, and its messages went back to the queue: {0}")]
    NotLent(#[source] Refusal),
    /// The broker does not do it now, for want of room in the log, and the message stays lent until
    /// its consumer ends.
    #[error("{0}")]
    Refused(#[source] Refusal),
    /// The broker has ended: unless it was confirmed before, the message may be settled or not.
    #[error(transparent)]
    Ended(#[from] Ended),
}

/// Why a transaction, or a part of it, did not happen, or is not known to have.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransactionError {
    /// The id of its commit is empty: nothing was asked for, and none of it has happened.
    #[error("the id of the commit is empty")]
    NoId,
    /// The same id is that of a transaction whose outcome the broker is about to settle, by another
    /// connection: none of this one has happened. What becomes of the other, the question
    /// [tells](crate::Connection::outcome_of) when it has.
    #[error("a commit under the same id is on its way: ask what became of it")]
    IdPending,
    /// Another transaction, which did something else, was committed under this id: none of this one
    /// has happened.
    #[error("another transaction, which did something else, was committed under this id")]
    IdTaken,
    /// Somebody has [asked](crate::Connection::outcome_of) what became of this id before, and heard
    /// that nothing ever will: none of it has happened. Do it again under another id.
    #[error("it was asked before what became of this id, and answered that nothing ever will")]
    IdVoid,
    /// A delivery belongs to the connection whose consumer received it, and so to its transactions.
    #[error("the delivery came by another connection than the one of this transaction")]
    OtherConnection,
    /// The broker refused it, or a part of it: none of it has happened. [`Refusal::kind`] says what
    /// to do about that.
    #[error("{0}")]
    Refused(#[source] Refusal),
    /// The broker has ended: what was not committed before has not happened, and of a commit that
    /// was under way nobody knows.
    #[error(transparent)]
    Ended(#[from] Ended),
}

/// Why something was not done with a branch of a global transaction, or is not known to be.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BranchError {
    /// A delivery belongs to the connection whose consumer received it, and so to its branches.
    #[error("the delivery came by another connection than the one that works in this branch")]
    OtherConnection,
    /// The broker says no, or tells what has become of the branch.
    #[error("{}", told(*code, why))]
    Refused {
        /// What the XA specification calls it.
        code: XaError,
        /// Why, in words.
        why: Refusal,
    },
    /// The broker has ended: of what was under way nobody knows, and
    /// [`Xa::recover`](crate::Xa::recover) of its next life tells what has become of it.
    #[error(transparent)]
    Ended(#[from] Ended),
}

impl BranchError {
    /// What the XA specification calls it.
    #[must_use]
    pub fn code(&self) -> XaError {
        match self {
            Self::OtherConnection => XaError::Inval,
            Self::Refused { code, .. } => *code,
            Self::Ended(_) => XaError::RmFail,
        }
    }
}

fn told(code: XaError, why: &Refusal) -> String {
    match &why.0 {
        command::Refusal::Xa(_) => why.to_string(),
        why => format!("{code}: {why}"),
    }
}

/// Why nobody can tell, now or yet, what became of a commit.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutcomeError {
    /// The id is empty.
    #[error("the id of the commit is empty")]
    NoId,
    /// The commit is on its way. Ask again.
    #[error("the commit is on its way: ask again")]
    Pending,
    /// The broker does not answer now, for want of room in the log. Nothing is decided.
    #[error("{0}")]
    Refused(#[source] Refusal),
    /// The broker has ended. Ask its next life.
    #[error(transparent)]
    Ended(#[from] Ended),
}

impl From<command::Refusal> for OutcomeError {
    fn from(refusal: command::Refusal) -> Self {
        match refusal {
            command::Refusal::NamePending => Self::Pending,
            refusal => Self::Refused(Refusal(refusal)),
        }
    }
}

impl From<AskError> for TransactionError {
    fn from(error: AskError) -> Self {
        use command::Refusal as R;
        match error {
            AskError::Refused(R::NamePending) => Self::IdPending,
            AskError::Refused(R::CommitNameTaken) => Self::IdTaken,
            AskError::Refused(R::CommitVoid) => Self::IdVoid,
            AskError::Refused(refusal) => Self::Refused(Refusal(refusal)),
            AskError::Ended(ended) => Self::Ended(ended),
        }
    }
}

/// Why an asked broker did not do something.
#[derive(Debug)]
pub(super) enum AskError {
    Refused(command::Refusal),
    Ended(Ended),
}

impl From<AskError> for SendError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Refused(refusal) => Self::Refused(Refusal(refusal)),
            AskError::Ended(ended) => Self::Ended(ended),
        }
    }
}

impl From<AskError> for SubscribeError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Refused(refusal) => Self::Refused(Refusal(refusal)),
            AskError::Ended(ended) => Self::Ended(ended),
        }
    }
}

impl From<AskError> for SettleError {
    fn from(error: AskError) -> Self {
        use command::Refusal as R;
        match error {
            AskError::Refused(why @ (R::NoSuchSubscription(_) | R::NotOutstanding(_))) => {
                Self::NotLent(Refusal(why))
            }
            AskError::Refused(refusal) => Self::Refused(Refusal(refusal)),
            AskError::Ended(ended) => Self::Ended(ended),
        }
    }
}
