//! What a connection may ask of the broker, and what it hears back.

mod kept;
mod once;
mod refusal;
mod schedule;

use std::sync::Arc;

use bytes::Bytes;

use crate::identity::{Identity, Mark};
use crate::ids::{Lsn, Millis, NoteId, StageId, SubscriptionId, Tag, Token, TransactionName};
use crate::limits;
use crate::message::{Destination, Message};
use crate::selector::Selector;

pub use self::kept::{KeptInfo, KeptName, KeptPage};
pub use self::once::Once;
pub use self::refusal::Refusal;
pub use self::schedule::ScheduleInfo;
pub(crate) use super::held::is_reserved;
pub use crate::broker::Limits;
pub use crate::broker::browse::{Browsable, Browsed, Held};
pub use crate::broker::choice::Standing;
pub use crate::broker::counters::Counters;
pub use crate::broker::dead::DeadLetter;
pub use crate::broker::delta::Resolution;
pub use crate::broker::fact::Spot;
pub use crate::broker::once::NameCounts;
pub use crate::broker::policy::WhenFull;
pub use crate::broker::produce::ProducerCounts;
pub use crate::broker::subject::Envelope;
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
    /// Sends the message: like [`Command::Send`], and as one fact with the end of its stage. That
    /// ends where it is refused, too, and what came of the body is given back.
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
        /// Deliveries outstanding (unsettled) at most; with 0 none before a [`Command::Credit`].
        prefetch: u32,
        /// What it wants of what there is: everything without.
        selector: Option<Arc<Selector>>,
    },
    /// As [`Command::Subscribe`], of a consumer that is not like the others.
    SubscribeAs {
        /// Chosen by the session, new on this connection.
        subscription: SubscriptionId,
        /// Comes into being if it does not exist.
        from: Destination,
        /// Deliveries outstanding (unsettled) at most.
        prefetch: u32,
        /// What it wants of what there is: everything without.
        selector: Option<Arc<Selector>>,
        /// How it stands among the others of a queue, and what may wait for it of a topic.
        standing: Standing,
    },
    /// Says whose connection this is, so that subscriptions of the same client that want nothing
    /// local get nothing that it publishes.
    Identify {
        /// The client; as long as [`KeepAs::client`] may be.
        client: Arc<str>,
    },
    /// Begins to consume what a durable subscription keeps. It comes into being if there is none of
    /// that identity, and anew if there is another one.
    Keep {
        /// Chosen by the session, new on this connection.
        subscription: SubscriptionId,
        /// Which.
        keep: Box<KeepAs>,
    },
    /// Removes a durable subscription that has no consumer, with what it has kept; as
    /// [`Reply::Removed`] when nothing of it is left.
    EndKept {
        /// Whose it is.
        client: Arc<str>,
        /// What that calls it.
        name: Arc<str>,
        /// Who asks: he must be allowed to read its topic. None where nobody guards the connection.
        reader: Option<Arc<dyn Reader>>,
    },
    /// Which durable subscriptions there are, as [`Reply::Kept`].
    ListKept {
        /// The first of them, or what would come in its place.
        from: KeptName,
        /// Who asks: he is told of those whose topic he may read. None where nobody guards the
        /// connection.
        reader: Option<Arc<dyn Reader>>,
    },
    /// Changes how many deliveries may be outstanding; 0 lets none more through.
    Credit {
        /// Whose.
        subscription: SubscriptionId,
        /// Deliveries outstanding at most.
        prefetch: u32,
    },
    /// Stops consuming; what is unsettled returns to its queue.
    Unsubscribe {
        /// The subscription that ends.
        subscription: SubscriptionId,
    },
    /// As [`Command::Unsubscribe`], of a consumer that has not seen some of its deliveries: these
    /// return uncounted.
    Withdraw {
        /// The subscription that ends.
        subscription: SubscriptionId,
        /// The first delivery that it has not seen.
        unseen: Tag,
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
    /// Says the same of some, whose connection goes on. That is believed a while later, for what
    /// they have sent may not be answered yet: they are lost with a connection that is lost before.
    EndProducers {
        /// Which, [`limits::STEP_MESSAGES_MAX`] at most.
        producers: Vec<Identity>,
    },
    /// Something that was not allowed, and is refused in its place among what its connection asks.
    Forbidden(Forbidden),
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
    /// The same in a transaction, where it is in one; what cannot be in one stays as it is.
    #[must_use]
    pub fn within(self, transaction: Option<TransactionName>) -> Self {
        let Some(transaction) = transaction else { return self };
        let work = match self {
            Self::Send { to, message } => Work::Send { to, message },
            Self::SendStaged { stage, to, message } => Work::SendStaged { stage, to, message },
            Self::Settle { subscription, which, outcome } => {
                Work::Settle { subscription, which, outcome }
            }
            other => return other,
        };
        Self::Transact { transaction, work }
    }

    /// What is done, whatever name it has.
    #[must_use]
    pub fn bare(&self) -> &Self {
        match self {
            Self::Once(once) => once.command(),
            other => other,
        }
    }

    /// The producer under whose number it is sent.
    #[must_use]
    pub fn producer(&self) -> Option<Identity> {
        match self {
            Self::Once(once) => match once.mark() {
                Mark::Number(it) => Some(it.producer),
                Mark::Name(_) => None,
            },
            _ => None,
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
            Self::Forbidden(forbidden) => forbidden.transaction,
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

/// A durable subscription as its client describes it. Another topic, selector or choice of what is
/// local makes another subscription of the same identity, which keeps nothing of what the older
/// did.
#[derive(Clone, Debug)]
pub struct KeepAs {
    /// Whose it is: one to 1,024 bytes.
    pub client: Arc<str>,
    /// What that calls it: as long.
    pub name: Arc<str>,
    /// The topic.
    pub topic: Arc<str>,
    /// Deliveries outstanding (unsettled) at most.
    pub prefetch: u32,
    /// What it wants of what is published: everything without.
    pub selector: Option<Arc<Selector>>,
    /// Nothing that connections of the same client publish.
    pub no_local: bool,
    /// Who asks: he must be allowed to read the topic of one that goes for this one. None where
    /// nobody guards the connection.
    pub reader: Option<Arc<dyn Reader>>,
}

/// Who asks for something of which the broker alone knows to what topic it belongs.
pub trait Reader: std::fmt::Debug + Send + Sync {
    /// # Errors
    /// [`Refusal::NotAllowed`] where he may not read what is published there.
    fn check(&self, topic: &Arc<str>) -> Result<(), Refusal>;
}

/// What a connection was not allowed to ask.
#[derive(Clone, Debug)]
pub struct Forbidden {
    /// The transaction of which it was to be a part: that cannot be committed any more.
    pub transaction: Option<TransactionName>,
    /// How it is refused.
    pub refusal: Box<Refusal>,
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
    /// Every outstanding one from the first to the second, which is outstanding.
    Range(Tag, Tag),
}

impl Which {
    /// The last that it names, which must be outstanding.
    #[must_use]
    pub const fn last(self) -> Tag {
        match self {
            Self::One(tag) | Self::Through(tag) | Self::Range(_, tag) => tag,
        }
    }
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Consumed: the message is gone for good.
    Accepted,
    /// Not consumed: back to its place in the queue, its delivery count raised.
    Returned,
    /// Given up by its consumer: set apart, however seldom it came back. In a transaction it only
    /// comes back.
    Rejected,
    /// Taken for one whose time is over. By the broker's clock that may not be so yet: a durable
    /// message rests until it is, and goes to nobody meanwhile; one that has no such time is given
    /// up. In a transaction it only comes back.
    Expired,
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
    /// The same of the time since then; what was before is not remembered any more.
    OutcomeForgotten {
        /// How many milliseconds ago that was.
        millis: u64,
    },
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
    /// Durable subscriptions.
    Kept(KeptPage),
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
    /// The topic on which it was published, where it comes from a queue that reads that.
    pub origin: Option<Arc<str>>,
    /// Names the message for ever; the same at each redelivery.
    pub message: MessageId,
    /// It may have been delivered before.
    pub redelivered: bool,
    /// This is the how-manieth delivery, from 1.
    pub attempt: u32,
    /// If it belongs to a group of messages, it is the first of that which this subscription gets,
    /// or nobody knows whether it is.
    pub first_of_group: bool,
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
