//! What the log's records have changed since a checkpoint: the part of the durable state that is
//! not yet in the index.
//!
//! `apply` writes here and nowhere else. A checkpoint takes a delta whole and merges it into the
//! index; the durable state is always index, then deltas in order, the later one winning.

mod branch;
mod change;
mod entries;
mod many;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::identity::Identity;
use crate::ids::{
    Body, ConnectionId, DueTime, Lsn, Millis, NoteId, QueueId, SubscriptionId, Tag, TransactionId,
    UploadId, Xid,
};

use crate::schedule::{Plan, Turn};

pub use crate::broker::sequences::Sequences;
pub use branch::{BranchRow, HeuristicRow, OutcomeRow, Remembered};
pub use entries::Entries;

/// The place of a message in a queue: higher priority first, then the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// 9 minus the priority, so that places sort in the order of delivery.
    pub rank: u8,
    /// Grows by one with each durable message of the queue, from 1.
    pub seq: u64,
}

/// A durable message that waits in a queue or is lent from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The position of its birth in the log: names it, and finds its payload.
    pub birth: Lsn,
    /// Bytes it keeps alive in the log, frame header and record included.
    pub size: u32,
    /// When the broker took it.
    pub at: Millis,
    /// When it is no longer wanted.
    pub expires: Option<Millis>,
    /// How often it came back from a consumer.
    pub returns: u32,
    /// Where its body lies, if that is in pieces.
    pub upload: Option<Body>,
    /// It is not handed out before.
    pub due: Option<DueTime>,
    /// Why it was set apart and from where, if it ever was.
    pub note: Option<NoteId>,
    /// A transaction has settled it and has no outcome yet: it is nobody's until then.
    pub held: bool,
    /// It was published, and others may hold the same payload (`shares`).
    pub shared: bool,
}

/// Bytes for which a message counts in its queue.
pub(crate) fn charge(size: u32, body: Option<Body>) -> u64 {
    u64::from(size) + body.map_or(0, Body::bytes)
}

impl Entry {
    /// Whether it may be handed out: it is not delayed, and no transaction holds it.
    #[must_use]
    pub fn is_free(&self) -> bool {
        !self.held && self.due.is_none()
    }

    /// Bytes it counts for in its queue: what it keeps alive, its body included.
    #[must_use]
    pub fn charge(&self) -> u64 {
        charge(self.size, self.upload)
    }
}

/// How many entries hold the payload of a publication; in a delta, by how many more or less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Entries.
    pub holders: i64,
    /// Bytes that they keep alive in the log together.
    pub size: u32,
}

/// Bytes of each segment that the commit of a checkpoint has found to be needed no longer.
pub type Unshared = BTreeMap<u64, u64>;

/// The place of a delayed message among all of them: the soonest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Due {
    /// When its delay is over.
    pub at: DueTime,
    /// The queue it is in.
    pub queue: QueueId,
    /// Its place there.
    pub place: Place,
}

/// Why something is remembered of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// They came back from consumers more often than their queue allows.
    Returned,
    /// Their time was over.
    Expired,
    /// They were not set apart: they wait to be handed out for the first time, later than they were
    /// sent.
    Scheduled,
    /// As those, and it comes again and again: a note of its own.
    Repeated,
    /// Their consumer gave them up.
    Rejected,
}

/// A message that comes again and again: each occurrence is another message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeat {
    /// When.
    pub plan: Plan,
    /// The occurrence that comes next.
    pub turn: Turn,
    /// Where it waits, as it is there; `None` before its transaction is committed.
    pub waits: Option<(QueueId, Place, Entry)>,
}

/// What is remembered of messages that were set apart from one queue for one reason, or that wait
/// in it for their time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteRow {
    /// The queue, which may be gone since.
    pub name: Box<str>,
    /// The reason.
    pub why: Why,
    /// Messages that refer to it; a note without any is gone.
    pub count: u64,
    /// What there is to say where the reason is [`Why::Repeated`].
    pub repeat: Option<Repeat>,
}

/// An operation of a transaction that waits for the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// A message that a commit puts into a queue.
    Send {
        /// Which.
        queue: QueueId,
        /// 9 minus its priority.
        rank: u8,
        /// Milliseconds from the commit until it is handed out, where that is not at once and its
        /// note does not say when.
        delay: u64,
        /// The message as it will be there.
        entry: Entry,
    },
    /// A message that a consumer had and has settled. Its entry in the queue is held.
    Take {
        /// From where.
        queue: QueueId,
        /// Its place there.
        place: Place,
        /// The message as it was lent.
        entry: Entry,
        /// A commit counts it as not consumed and puts it back, too.
        returned: bool,
        /// Who had it.
        holder: Holder,
    },
    /// A message that was not in the log, and that a consumer had and has settled.
    Keep {
        /// From where.
        queue: QueueId,
        /// 9 minus its priority.
        rank: u8,
        /// The message as it will be there if it comes back.
        entry: Entry,
        /// A commit counts it as not consumed and puts it back, too.
        returned: bool,
        /// Who had it.
        holder: Holder,
    },
}

/// The delivery by which a consumer has a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Whose.
    pub connection: ConnectionId,
    /// Through which subscription.
    pub subscription: SubscriptionId,
    /// Which delivery.
    pub tag: Tag,
}

/// What is known of a transaction beside its operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionRow {
    /// The position of its first record.
    pub began: Lsn,
    /// Its operations, numbered from 1.
    pub operations: u64,
    /// Of these, messages that it sends.
    pub sends: u64,
    /// Those up to this number have had their outcome.
    pub settled: u64,
    /// How far it is.
    pub phase: Phase,
}

/// How far a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// It takes operations; the end of this life rolls it back.
    Open,
    /// It has voted, as a branch of a global transaction: only its outcome ends it.
    Prepared,
    /// It has its outcome, and its operations get it one after the other.
    Decided(Resolution),
}

/// The outcome of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resolution {
    /// All of it happens.
    Commit,
    /// None of it has happened.
    Rollback,
}

/// Among what a name is told apart from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Commits, over the whole store.
    Commits,
    /// What was sent to this queue.
    Queue(QueueId),
    /// What was published on a topic of this digest, of 63 bits. A name there holds all of its
    /// topic's name, so that two topics of one digest share a bound and nothing else.
    Topic(u64),
}

/// Set in the number of a topic's scope, and of no queue.
const TOPIC: u64 = 1 << 63;

impl Scope {
    /// That of a topic.
    #[must_use]
    pub fn of_topic(topic: &str) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = Identity::of(topic.as_bytes()).0;
        Self::Topic(u64::from_le_bytes([a, b, c, d, e, f, g, h]) & !TOPIC)
    }

    /// In records and keys: that of the queue, or 0, or that of a topic with the highest bit set.
    #[must_use]
    pub fn number(self) -> u64 {
        match self {
            Self::Commits => 0,
            Self::Queue(queue) => queue.0,
            Self::Topic(topic) => topic | TOPIC,
        }
    }

    /// The inverse of [`Scope::number`]: no queue has the number 0.
    #[must_use]
    pub fn of(number: u64) -> Self {
        match number {
            0 => Self::Commits,
            topic if topic & TOPIC != 0 => Self::Topic(topic & !TOPIC),
            queue => Self::Queue(QueueId(queue)),
        }
    }
}

/// A name that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRow {
    /// The name.
    pub id: Identity,
    /// The position of the message, or of what was said of the commit.
    pub birth: Lsn,
    /// When it was taken.
    pub at: Millis,
    /// It is taken by what this transaction does, if that is committed.
    pub transaction: Option<TransactionId>,
    /// What a commit of that name has done; `None` where it never will be, and for messages.
    pub operations: Option<Identity>,
}

/// A producer that counts what it sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerRow {
    /// What it has sent.
    pub seen: Sequences,
    /// Whether it may come back.
    pub bond: Bond,
    /// Since when; of one that is there, when it sent last, about.
    pub at: Millis,
}

/// Whether a producer may come back, from the least worth remembering to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Bond {
    /// It has said that it does not.
    Closed,
    /// Its connection was lost.
    Lost,
    /// It is there, unless the broker's life has ended since.
    There,
}

/// Where a piece of a large body lies in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceAt {
    /// The position of its birth.
    pub birth: Lsn,
    /// Bytes it keeps alive in the log, frame header and record included.
    pub size: u32,
}

/// What a payload in the log is of, so where the durable state tells whether it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadOf {
    /// The message in this place.
    Message(QueueId, Place),
    /// The piece with this number of an upload.
    Piece(UploadId, u32),
    /// What a transaction sends, by the number of the operation.
    Staged(TransactionId, u64),
}

/// An upload that no message owns alone. Of one that a message does its entry tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UploadRow {
    /// It is arriving.
    Open {
        /// Pieces so far, numbered from 1.
        pieces: u32,
        /// Bytes of them.
        bytes: u64,
    },
    /// Nobody will ever read it: its pieces are being given back.
    Dead {
        /// Pieces up to this number are gone.
        gone: u32,
    },
    /// It is the body of a publication.
    Shared {
        /// Entries that name it.
        holders: u64,
    },
}

/// A sequence number per rank. While all are 0 it takes no room beside itself: so it is in a queue
/// from which nothing was ever lent.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(from = "[u64; 10]", into = "[u64; 10]")]
pub struct Marks(Option<Box<[u64; 10]>>);

impl Marks {
    /// That of a rank.
    ///
    /// # Panics
    /// There are ten ranks.
    #[must_use]
    pub fn of(&self, rank: u8) -> u64 {
        self.0.as_ref().map_or(0, |marks| marks[usize::from(rank)])
    }

    /// Raises that of a rank to `through` at least.
    ///
    /// # Panics
    /// There are ten ranks.
    pub fn raise(&mut self, rank: u8, through: u64) {
        if through > self.of(rank) {
            self.0.get_or_insert_default()[usize::from(rank)] = through;
        }
    }
}

impl From<[u64; 10]> for Marks {
    fn from(marks: [u64; 10]) -> Self {
        Self((marks != [0; 10]).then(|| Box::new(marks)))
    }
}

impl From<Marks> for [u64; 10] {
    fn from(marks: Marks) -> Self {
        marks.0.map_or([0; 10], |marks| *marks)
    }
}

/// A queue's own facts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueRow {
    /// Its name.
    pub name: Arc<str>,
    /// The last sequence number given; 0 before the first.
    pub last_seq: u64,
    /// Durable messages in it.
    pub depth: u64,
    /// Bytes that these keep alive in the log.
    pub bytes: u64,
    /// Per rank: everything up to this sequence number may have been lent to a consumer.
    pub lent_through: Marks,
    /// Per rank: what of `lent_through` belongs to an earlier life, so is flagged redelivered.
    pub redelivered_through: Marks,
    /// Messages that transactions have sent to it and not committed.
    pub staged: u64,
    /// Bytes that these keep alive in the log.
    pub staged_bytes: u64,
    /// Of `depth`, how many transactions have settled that have no outcome.
    pub held: u64,
    /// Some durable message in it may expire. Certain where false: then nobody need look.
    pub expiring: bool,
    /// Of `depth`, how many are not handed out before some time.
    pub delayed: u64,
    /// Everything up to this sequence number came with a restored backup.
    pub restored_through: u64,
}

/// The durable state as the index holds it.
#[derive(Clone, Debug, Default)]
pub struct Base {
    /// The last record it contains; `Lsn(0)` for an empty one.
    pub through: Lsn,
    /// All queues.
    pub queues: BTreeMap<QueueId, QueueRow>,
    /// Uploads that no message owns.
    pub uploads: BTreeMap<UploadId, UploadRow>,
    /// Transactions that are not over.
    pub transactions: BTreeMap<TransactionId, TransactionRow>,
    /// Prepared branches, by their transactions.
    pub branches: BTreeMap<TransactionId, BranchRow>,
    /// What operators have decided of branches.
    pub heuristics: BTreeMap<Xid, HeuristicRow>,
    /// Which outcomes of branches are remembered.
    pub remembered: Remembered,
    /// Names that are taken, numbered in their scopes in the order of time.
    pub names: BTreeMap<(Scope, u64), NameRow>,
    /// There are producers that count what they send: they are read when they are needed.
    pub has_producers: bool,
    /// Those that have been read already: all of them, or none.
    pub producers: Vec<(Identity, ProducerRow)>,
    /// What producers have sent in transactions that are not over.
    pub numbered: BTreeMap<(TransactionId, Identity), Sequences>,
    /// What is remembered of messages that were set apart or wait for their time.
    pub notes: BTreeMap<NoteId, NoteRow>,
    /// Some message is delayed.
    pub delayed: bool,
    /// Live bytes of each segment that has any.
    pub live: BTreeMap<u64, u64>,
    /// Single facts.
    pub scalars: Scalars,
}

/// Changes to the durable state.
#[derive(Clone, Debug, Default)]
pub struct Delta {
    /// The entry as it is now, or `None` where it is gone.
    pub entries: Entries,
    /// The queue as it is now, or `None` where it is gone.
    pub queues: BTreeMap<QueueId, Option<QueueRow>>,
    /// Where messages were moved to, by their birth: perhaps moved on, or gone, since.
    pub moved: BTreeMap<Lsn, (QueueId, Place)>,
    /// The piece with that number, or `None` where it is gone.
    pub pieces: BTreeMap<(UploadId, u32), Option<PieceAt>>,
    /// The upload as it is now, or `None` where a message owns it or it is gone.
    pub uploads: BTreeMap<UploadId, Option<UploadRow>>,
    /// The delayed messages, or `None` where one is delayed no longer. Always: what one is like
    /// stands in `entries`, of this delta or of one that the index has taken since.
    pub due: BTreeMap<Due, Option<()>>,
    /// The note as it is now, or `None` where it is gone.
    pub notes: BTreeMap<NoteId, Option<NoteRow>>,
    /// The operation with that number, or `None` where it has had its outcome.
    pub operations: BTreeMap<(TransactionId, u64), Option<Operation>>,
    /// The transaction as it is now, or `None` where it is over.
    pub transactions: BTreeMap<TransactionId, Option<TransactionRow>>,
    /// The branch as it is now, or `None` where it has its outcome.
    pub branches: BTreeMap<TransactionId, Option<BranchRow>>,
    /// Outcomes that are remembered from now on, each the newest of its name, or `None` where a new
    /// branch has the name.
    pub outcomes: BTreeMap<Xid, Option<OutcomeRow>>,
    /// What operators have decided of a branch, or `None` where it is forgotten.
    pub heuristics: BTreeMap<Xid, Option<HeuristicRow>>,
    /// Which outcomes are remembered, as it is now.
    pub remembered: Remembered,
    /// The name with that number, or `None` where it is forgotten.
    pub names: BTreeMap<(Scope, u64), Option<NameRow>>,
    /// The producer as it is now, or `None` where it is forgotten.
    pub producers: BTreeMap<Identity, Option<ProducerRow>>,
    /// What a producer has sent in a transaction, or `None` where that is over.
    pub numbered: BTreeMap<(TransactionId, Identity), Option<Sequences>>,
    /// Changes of who holds payloads of publications, by their births.
    pub shares: BTreeMap<Lsn, Share>,
    /// Bytes of a segment: tells to which a birth belongs.
    pub segment_size: u64,
    /// Change of the live bytes of each segment, by its ordinal.
    pub live: BTreeMap<u64, i64>,
    /// Scalars as they are now.
    pub scalars: Scalars,
}

/// Single facts of the durable state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scalars {
    /// The last queue id given; 0 before the first.
    pub last_queue: u64,
    /// The newest time written in any record, in milliseconds: time in records never goes back.
    pub last_at: u64,
    /// The epoch of the last `Started` record.
    pub epoch: u64,
    /// The time of that record.
    pub life_at: u64,
    /// The last upload id given; 0 before the first.
    pub last_upload: u64,
    /// The last note id given; 0 before the first.
    pub last_note: u32,
    /// The last transaction id given; 0 before the first.
    pub last_transaction: u64,
    /// The position of the record `Restored`, 0 where there is none: what was born before may have
    /// been delivered by the store that this one is a copy of.
    pub restored: u64,
    /// When that was, in milliseconds.
    pub restored_at: u64,
}
