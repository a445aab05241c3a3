//! Records of transactions, and their bytes.
//!
//! | kind | what | bytes |
//! |---|---|---|
//! | 50 | `Staged` | transaction u64, number u64, queue u64, rank u8, at u64, expires u64, then B |
//! | 51 | `Taken` | transaction u64, first u64, queue u64, connection u64, then C |
//! | 52 | `Decided` | transaction u64, resolution u8 |
//! | 53 | `Settled` | transaction u64, first u64, resolution u8, last u8 (0, 1), outcomes |
//!
//! B is body u64; the payload is the message. C is subscription u64, returned u8 (0, 1), then of
//! each message: tag u64, place, entry, body u64, due u64, note u32.
//!
//! A resolution is 1 for commit and 2 for rollback. An outcome is one of
//! - 1 `Enter`: queue u64, place, entry, body u64, due u64, note u32
//! - 2 `Leave`: queue u64, place, birth u64, size u32, body u64, due u64, note u32
//! - 3 `Free`: as 1
//! - 4 `Drop`: queue u64, birth u64, size u32, body u64, note u32

use super::form::Form;
use super::{Gone, Reader, Record, Writer};
use crate::broker::delta::{Entry, Holder, Place, Resolution};
use crate::identity::Mark;
use crate::ids::{
    Body, ConnectionId, Lsn, Millis, NoteId, QueueId, SubscriptionId, Tag, TransactionId,
};
use crate::schedule::Wait;

pub(super) const STAGED: u16 = 50;
pub(super) const TAKEN: u16 = 51;
pub(super) const DECIDED: u16 = 52;
pub(super) const SETTLED: u16 = 53;

/// A message was sent in a transaction; its content is the payload of the frame. The first
/// operation begins the transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// Of which transaction.
    pub transaction: TransactionId,
    /// The number of the operation in it, from 1.
    pub number: u64,
    /// Where it goes.
    pub queue: QueueId,
    /// 9 minus its priority.
    pub rank: u8,
    /// When.
    pub at: Millis,
    /// When it is no longer wanted.
    pub expires: Option<Millis>,
    /// Its body lies in the pieces of this upload, and belongs to it from now on.
    pub upload: Option<Body>,
    /// The mark under which it was sent: taken until the outcome, and by a commit.
    pub once: Option<Mark>,
    /// It is handed out later than it is committed: its note, as that of [`Record::Scheduled`], and
    /// when.
    pub later: Option<(NoteId, Wait)>,
}

/// Messages were settled in a transaction: they are held until it has its outcome. The first
/// operation begins the transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Of which transaction.
    pub transaction: TransactionId,
    /// The number of the first operation.
    pub first: u64,
    /// From where.
    pub queue: QueueId,
    /// Who had them.
    pub connection: ConnectionId,
    /// Through which subscription.
    pub subscription: SubscriptionId,
    /// They are to come back, whatever the outcome.
    pub returned: bool,
    /// Each by its delivery, with its place and as it was lent.
    pub messages: Vec<(Tag, Place, Entry)>,
}

impl Taken {
    /// Who had one of them.
    #[must_use]
    pub fn holder(&self, tag: Tag) -> Holder {
        Holder { connection: self.connection, subscription: self.subscription, tag }
    }
}

/// A transaction has its outcome; its operations get it by `Settled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decided {
    /// Which.
    pub transaction: TransactionId,
    /// What.
    pub resolution: Resolution,
}

/// The next operations of a transaction have their outcome. One record with all of them is the
/// outcome as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Of which transaction.
    pub transaction: TransactionId,
    /// The number of the first.
    pub first: u64,
    /// The outcome.
    pub resolution: Resolution,
    /// There are no more: the transaction is over.
    pub last: bool,
    /// What becomes of each.
    pub outcomes: Vec<Settlement>,
}

/// What becomes of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// A message that was sent enters its queue.
    Enter {
        /// Which.
        queue: QueueId,
        /// Its place there: the next.
        place: Place,
        /// The message.
        entry: Entry,
    },
    /// A message that was consumed is gone.
    Leave {
        /// From where.
        queue: QueueId,
        /// The message.
        gone: Gone,
    },
    /// A message that a consumer had waits again.
    Free {
        /// Where.
        queue: QueueId,
        /// Its place, as before.
        place: Place,
        /// The message as it is from now on.
        entry: Entry,
    },
    /// A message that was sent never was.
    Drop {
        /// Where it would have gone.
        queue: QueueId,
        /// Its birth.
        birth: Lsn,
        /// Bytes it kept alive.
        size: u32,
        /// Where its body lies, if that is in pieces.
        upload: Option<Body>,
        /// Its note, if it has one.
        note: Option<NoteId>,
    },
}

impl Settlement {
    /// The queue that it is about.
    #[must_use]
    pub fn queue(&self) -> QueueId {
        match self {
            Self::Enter { queue, .. }
            | Self::Leave { queue, .. }
            | Self::Free { queue, .. }
            | Self::Drop { queue, .. } => *queue,
        }
    }

    /// Whether it is about a message that was there before the transaction.
    #[must_use]
    pub fn was_taken(&self) -> bool {
        matches!(self, Self::Leave { .. } | Self::Free { .. })
    }
}

impl Resolution {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Commit => 1,
            Self::Rollback => 2,
        }
    }
}

/// Bytes of an entry with its place, upload, due and note, and what names its queue or delivery.
const MESSAGE_BYTES: usize = 8 + 9 + 32 + 8 + 12;

pub(super) fn size_max(record: &Record) -> usize {
    match record {
        Record::Taken(taken) => 48 + taken.messages.len() * MESSAGE_BYTES,
        Record::Settled(settled) => 32 + settled.outcomes.len() * (1 + MESSAGE_BYTES),
        _ => 160,
    }
}

pub(super) fn encode(record: &Record, w: &mut Writer<'_>) {
    match record {
        Record::Staged(staged) => {
            let Staged { transaction, number, queue, rank, at, expires, upload, .. } = staged;
            w.u64(transaction.0);
            w.u64(*number);
            w.u64(queue.0);
            w.0.push(*rank);
            w.u64(at.0);
            w.time(*expires);
            w.upload(Form::Full, *upload);
            w.later(staged.later);
            w.mark(staged.once);
        }
        Record::Taken(taken) => {
            w.u64(taken.transaction.0);
            w.u64(taken.first);
            w.u64(taken.queue.0);
            w.u64(taken.connection.0);
            w.u64(taken.subscription.0);
            w.0.push(u8::from(taken.returned));
            for (tag, place, entry) in &taken.messages {
                w.u64(tag.0);
                w.message(*place, entry);
            }
        }
        Record::Decided(decided) => {
            w.u64(decided.transaction.0);
            w.0.push(decided.resolution.code());
        }
        Record::Settled(settled) => {
            w.u64(settled.transaction.0);
            w.u64(settled.first);
            w.0.push(settled.resolution.code());
            w.0.push(u8::from(settled.last));
            settled.outcomes.iter().for_each(|outcome| w.settlement(outcome));
        }
        _ => unreachable!("the other kinds have their bytes elsewhere"),
    }
}

impl Writer<'_> {
    fn message(&mut self, place: Place, entry: &Entry) {
        self.place(place);
        self.entry(entry);
        self.upload(Form::Full, entry.upload);
        self.late(Form::Full, entry.due, entry.note);
    }

    fn settlement(&mut self, settlement: &Settlement) {
        match settlement {
            Settlement::Enter { queue, place, entry } => {
                self.0.push(1);
                self.u64(queue.0);
                self.message(*place, entry);
            }
            Settlement::Leave { queue, gone } => {
                self.0.push(2);
                self.u64(queue.0);
                self.gone(gone);
                self.upload(Form::Full, gone.upload);
                self.late(Form::Full, gone.due, gone.note);
            }
            Settlement::Free { queue, place, entry } => {
                self.0.push(3);
                self.u64(queue.0);
                self.message(*place, entry);
            }
            Settlement::Drop { queue, birth, size, upload, note } => {
                self.0.push(4);
                self.u64(queue.0);
                self.u64(birth.0);
                self.u32(*size);
                self.upload(Form::Full, *upload);
                self.u32(note.map_or(0, NoteId::get));
            }
        }
    }
}

impl Reader<'_> {
    pub(super) fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(super) fn transaction(&mut self) -> Option<TransactionId> {
        self.u64().map(TransactionId)
    }

    pub(super) fn resolution(&mut self) -> Option<Resolution> {
        match self.u8()? {
            1 => Some(Resolution::Commit),
            2 => Some(Resolution::Rollback),
            _ => None,
        }
    }

    pub(super) fn staged(&mut self, kind: u16) -> Option<Record> {
        Some(Record::Staged(Staged {
            transaction: self.transaction()?,
            number: self.u64()?,
            queue: self.queue()?,
            rank: self.rank()?,
            at: self.millis()?,
            expires: self.time()?,
            upload: self.upload(Form::Full)?,
            once: self.mark(kind)?,
            later: None,
        }))
    }

    pub(super) fn taken(&mut self) -> Option<Record> {
        let mut taken = Taken {
            transaction: self.transaction()?,
            first: self.u64()?,
            queue: self.queue()?,
            connection: ConnectionId(self.u64()?),
            subscription: SubscriptionId(self.u64()?),
            returned: self.flag()?,
            messages: Vec::new(),
        };
        while !self.0.is_empty() {
            taken.messages.push((Tag(self.u64()?), self.place()?, self.entry(Form::Full)?));
        }
        Some(Record::Taken(taken))
    }

    pub(super) fn decided(&mut self) -> Option<Record> {
        let (transaction, resolution) = (self.transaction()?, self.resolution()?);
        Some(Record::Decided(Decided { transaction, resolution }))
    }

    pub(super) fn settled(&mut self) -> Option<Record> {
        let mut settled = Settled {
            transaction: self.transaction()?,
            first: self.u64()?,
            resolution: self.resolution()?,
            last: self.flag()?,
            outcomes: Vec::new(),
        };
        while !self.0.is_empty() {
            settled.outcomes.push(self.settlement()?);
        }
        Some(Record::Settled(settled))
    }

    fn settlement(&mut self) -> Option<Settlement> {
        let (code, queue) = (self.u8()?, self.queue()?);
        Some(match code {
            1 => Settlement::Enter { queue, place: self.place()?, entry: self.entry(Form::Full)? },
            2 => Settlement::Leave { queue, gone: self.gone(Form::Full)? },
            3 => Settlement::Free { queue, place: self.place()?, entry: self.entry(Form::Full)? },
            4 => Settlement::Drop {
                queue,
                birth: Lsn(self.u64()?),
                size: self.u32()?,
                upload: self.upload(Form::Full)?,
                note: self.note(Form::Full)?,
            },
            _ => return None,
        })
    }
}
