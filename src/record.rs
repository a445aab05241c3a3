//! Every durable fact the broker can state, and its bytes in a frame of the log.
//!
//! Owns the numbers of the record kinds (explicit, never reused) and the layout of each, all
//! little-endian. A record carries everything its `apply` changes: replay needs no lookup.
//! Leaves frames, checksums and positions to `wal`.
//!
//! A kind for large bodies is the one it stands for with what it says of its body behind each
//! entry, gone message or record, as `body u64`: 0 is none; else the upload is in the lower 40 bits
//! and the size, in whole KiB, in those above (`Body`):
//!
//! | kind | what | bytes |
//! |---|---|---|
//! | 30 | `Sent` | as 5, body |
//! | 31 | `Returned` | as 7, each entry with its body |
//! | 32 | `Removed` | as 8, each gone message with its body |
//! | 33 | `Moved` | as 9, body of the gone message, body that goes along |
//! | 34 | `Piece` | upload u64, number u32, bytes u32; the payload is the piece |
//! | 35 | `Abandoned` | upload u64, any number of times |
//! | 36 | `PiecesGone` | upload u64, first u32, last u8 (0, 1), then birth u64, size u32 of each |
//! | 37 | `Transferred` | as 20, each entry with its body |
//!
//! The kinds for messages that are delayed or were set apart are in `delay`; those of transactions,
//! 50 and up, are in `transacted`, those of branches, 54 and up, in `branch`, those of names and
//! numbers, 60 and up, in `once` and `producers`, those of what comes later or again, 70 and up, in
//! `repeat`, and those of publications, 80 and up, in `published`.

mod branch;
mod bytes;
mod delay;
mod form;
mod once;
mod pieces;
mod producers;
mod published;
mod repeat;
mod transacted;

use crate::broker::delta::{Entry, PieceAt, Place, Why, charge};
use crate::identity::Mark;
use crate::ids::{Body, DueTime, Lsn, Millis, NoteId, QueueId, UploadId};
use crate::schedule::Plan;
use branch::{BEGUN, COMPLETED, KEPT, OUTCOMES_FORGOTTEN, PREPARED};
pub use branch::{BranchRecord, Kept};
use bytes::{Reader, Writer};
use form::{Form, form_of};

use once::{FORGOTTEN, NAMED, SCHEDULED_ONCE, SENT_ONCE, STAGED_ONCE};
pub use once::{Forgotten, Named};
use once::{SCHEDULED_NUMBERED, SENT_NUMBERED, STAGED_NUMBERED};
pub use producers::ProducersRecord;
use producers::{PRODUCERS_FORGOTTEN, PRODUCERS_PARTED};
pub use published::{OnceThere, Published, Spread, Target};
use published::{PUBLISHED, PUBLISHED_NUMBERED, PUBLISHED_ONCE, SPREAD, SPREAD_LARGE};
pub use repeat::Occurred;
use transacted::{DECIDED, SETTLED, STAGED, TAKEN};
pub use transacted::{Decided, Settled, Settlement, Staged, Taken};

/// A durable fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A life of the broker begins: what was lent to consumers has come back.
    Started {
        /// The epoch of this life.
        epoch: u64,
        /// When.
        at: Millis,
    },
    /// The store was restored from a backup of another: whatever is in it may have been delivered
    /// there since. Stands before the first `Started` of the new store.
    Restored {
        /// When.
        at: Millis,
    },
    /// A queue came into being.
    QueueCreated {
        /// Its identity.
        queue: QueueId,
        /// Its name.
        name: Box<str>,
        /// When.
        at: Millis,
    },
    /// An empty queue is gone.
    QueueDeleted {
        /// Which.
        queue: QueueId,
    },
    /// A message entered a queue; its content is the payload of the frame.
    Sent {
        /// Where.
        queue: QueueId,
        /// Its place there.
        place: Place,
        /// When.
        at: Millis,
        /// When it is no longer wanted.
        expires: Option<Millis>,
        /// A consumer was waiting: it counts as lent from the start.
        lent: bool,
        /// Its body lies in the pieces of this upload, and belongs to it from now on.
        upload: Option<Body>,
        /// The name or number under which it was sent: taken from now on.
        once: Option<Mark>,
    },
    /// Messages are about to leave for consumers.
    Lent {
        /// From where.
        queue: QueueId,
        /// The rank they have.
        rank: u8,
        /// All up to this sequence number may have been delivered.
        through: u64,
    },
    /// Messages came back from a consumer.
    Returned {
        /// Where.
        queue: QueueId,
        /// Each as it is now, its count raised, and delayed or not.
        entries: Vec<(Place, Entry)>,
    },
    /// Messages left a queue for good.
    Removed {
        /// From where.
        queue: QueueId,
        /// Why.
        cause: Cause,
        /// Which.
        gone: Vec<Gone>,
    },
    /// A message left one queue and a message about it entered another, as one fact; the new
    /// content is the payload of the frame.
    Moved {
        /// From where.
        from: QueueId,
        /// Which.
        gone: Gone,
        /// Where to.
        to: QueueId,
        /// Its place there.
        place: Place,
        /// When.
        at: Millis,
        /// The upload that goes along; without, the one of the message that is gone dies.
        upload: Option<Body>,
    },
    /// The next piece of a large body; its bytes are the payload of the frame. The first piece
    /// begins its upload.
    Piece {
        /// Of which upload.
        upload: UploadId,
        /// Counts from 1.
        number: u32,
        /// Bytes of the payload.
        bytes: u32,
    },
    /// Uploads that had begun will not be finished: they are dead.
    Abandoned {
        /// Which.
        uploads: Vec<UploadId>,
    },
    /// Pieces of a dead upload are given back.
    PiecesGone {
        /// Of which.
        upload: UploadId,
        /// The number of the first.
        first: u32,
        /// Each, in order.
        gone: Vec<PieceAt>,
        /// There are no more: the upload itself is gone.
        last: bool,
    },
    /// Messages that should have left a queue and cannot now are delayed.
    PutOff {
        /// Where.
        queue: QueueId,
        /// How long.
        until: DueTime,
        /// Each as it was; if it was delayed already, that is over.
        entries: Vec<(Place, Entry)>,
    },
    /// The delay of messages is over.
    Woken {
        /// Where.
        queue: QueueId,
        /// Each as it was.
        entries: Vec<(Place, Entry)>,
    },
    /// A message entered a queue, to be handed out later; its content is the payload of the frame.
    Scheduled {
        /// Where.
        queue: QueueId,
        /// Its place there while it waits.
        place: Place,
        /// When.
        at: Millis,
        /// When it would no longer be wanted if it were handed out at once.
        expires: Option<Millis>,
        /// When it is handed out.
        until: DueTime,
        /// The note of what waits so in this queue: the next, or one that is there.
        note: NoteId,
        /// As that of [`Record::Sent`].
        upload: Option<Body>,
        /// As that of [`Record::Sent`].
        once: Option<Mark>,
        /// It comes again and again; its note is the next, and its own.
        plan: Option<Plan>,
    },
    /// An occurrence of a message that comes again: another message enters the queue; its content
    /// is the payload of the frame.
    Occurred(Occurred),
    /// The time of scheduled messages has come: each is as new, and takes the next sequence number.
    Fired {
        /// Where.
        queue: QueueId,
        /// The sequence number of the first.
        first: u64,
        /// When.
        at: Millis,
        /// The old place of each, and the entry as it was.
        entries: Vec<(Place, Entry)>,
    },
    /// Messages left a queue for the one in which they are set apart, as they were but for the
    /// note, which replaces any they had, and a delay, which is over.
    DeadLettered {
        /// From where.
        from: QueueId,
        /// Where to.
        to: QueueId,
        /// The sequence number of the first there.
        first: u64,
        /// The note of the queue they leave and this reason: the next, or one that is there.
        note: NoteId,
        /// Why.
        why: Why,
        /// The old place of each, and the entry as it is from now on but for note and delay, which
        /// are as they were.
        entries: Vec<(Place, Entry)>,
    },
    /// Messages left one queue and entered another as they were: their payloads stay where they
    /// are. Each keeps its rank and takes the next sequence number; a delay is over, and with it
    /// the note of one that waited for its first delivery.
    Transferred {
        /// From where.
        from: QueueId,
        /// Where to.
        to: QueueId,
        /// The sequence number of the first there.
        first: u64,
        /// The old place of each, and the entry as it is from now on.
        entries: Vec<(Place, Entry)>,
    },
    /// A message was sent in a transaction.
    Staged(Staged),
    /// Messages were settled in a transaction.
    Taken(Taken),
    /// A transaction has its outcome.
    Decided(Decided),
    /// Operations of a transaction have their outcome.
    Settled(Settled),
    /// Something about a branch of a global transaction.
    Branch(BranchRecord),
    /// A commit has a name.
    Named(Named),
    /// Names are not remembered any more.
    Forgotten(Forgotten),
    /// Something about producers that count what they send.
    Producers(ProducersRecord),
    /// A message entered the queues of subscriptions.
    Published(Published),
    /// A message that waited in the queue of its topic entered those of subscriptions.
    Spread(Spread),
}

/// Why messages left a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A consumer accepted them.
    Accepted,
    /// Their time was over.
    Expired,
    /// An operator emptied the queue.
    Purged,
    /// They came back too often, and are not set apart.
    Returned,
}

/// A message that is gone, with what its segment loses by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Its place.
    pub place: Place,
    /// Its birth.
    pub birth: Lsn,
    /// Bytes it kept alive.
    pub size: u32,
    /// Where its body lies, if that is in pieces.
    pub upload: Option<Body>,
    /// It was delayed until then.
    pub due: Option<DueTime>,
    /// It was set apart once.
    pub note: Option<NoteId>,
    /// It was published, and others may hold the same payload.
    pub shared: bool,
}

impl Gone {
    /// Bytes it counted for in its queue.
    #[must_use]
    pub fn charge(&self) -> u64 {
        charge(self.size, self.upload)
    }

    /// The end of an entry.
    #[must_use]
    pub fn of(place: Place, entry: &Entry) -> Self {
        let Entry { birth, size, upload, due, note, shared, .. } = *entry;
        Self { place, birth, size, upload, due, note, shared }
    }
}

/// Bytes with a good checksum that are no record this version knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A kind from a newer version, or no kind at all.
    #[error("record kind {0} is unknown to this version")]
    UnknownKind(u16),
    /// Too short, too long, or a value out of its range.
    #[error("a record of kind {0} is malformed")]
    Malformed(u16),
}

const STARTED: u16 = 1;
// 2 was never written.
const QUEUE_CREATED: u16 = 3;
const QUEUE_DELETED: u16 = 4;
const SENT: u16 = 5;
const LENT: u16 = 6;
const RETURNED: u16 = 7;
const REMOVED: u16 = 8;
const MOVED: u16 = 9;
const TRANSFERRED: u16 = 20;

// The kinds above as they are where a body lies in pieces; the others stay short.
const SENT_LARGE: u16 = 30;
const RETURNED_LARGE: u16 = 31;
const REMOVED_LARGE: u16 = 32;
const MOVED_LARGE: u16 = 33;
const PIECE: u16 = 34;
const ABANDONED: u16 = 35;
const PIECES_GONE: u16 = 36;
const TRANSFERRED_LARGE: u16 = 37;

const RESTORED: u16 = 40;

const FLAG_LENT: u8 = 1;

impl Record {
    /// The number of its kind.
    #[must_use]
    pub fn kind(&self) -> u16 {
        match self {
            Self::Started { .. } => STARTED,
            Self::Restored { .. } => RESTORED,
            Self::QueueCreated { .. } => QUEUE_CREATED,
            Self::QueueDeleted { .. } => QUEUE_DELETED,
            Self::Sent { upload, once, .. } => {
                let bare = if upload.is_some() { SENT_LARGE } else { SENT };
                once::marked([bare, SENT_ONCE, SENT_NUMBERED], *once)
            }
            Self::Lent { .. } => LENT,
            Self::Returned { .. } => self.kind_of([RETURNED, RETURNED_LARGE, delay::RETURNED]),
            Self::Removed { .. } => self.kind_of([REMOVED, REMOVED_LARGE, delay::REMOVED]),
            Self::Moved { .. } => self.kind_of([MOVED, MOVED_LARGE, delay::MOVED]),
            Self::Transferred { .. } => {
                self.kind_of([TRANSFERRED, TRANSFERRED_LARGE, delay::TRANSFERRED])
            }
            Self::PutOff { .. } => delay::PUT_OFF,
            Self::Woken { .. } => delay::WOKEN,
            Self::DeadLettered { .. } => delay::DEAD_LETTERED,
            Self::Scheduled { plan: Some(_), .. } => repeat::REPEATED,
            Self::Occurred(_) => repeat::OCCURRED,
            Self::Scheduled { once, .. } => {
                once::marked([delay::SCHEDULED, SCHEDULED_ONCE, SCHEDULED_NUMBERED], *once)
            }
            Self::Fired { .. } => delay::FIRED,
            Self::Piece { .. } => PIECE,
            Self::Abandoned { .. } => ABANDONED,
            Self::PiecesGone { .. } => PIECES_GONE,
            Self::Staged(Staged { later: Some(_), .. }) => repeat::STAGED_LATER,
            Self::Staged(Staged { once, .. }) => {
                once::marked([STAGED, STAGED_ONCE, STAGED_NUMBERED], *once)
            }
            Self::Taken(_) => TAKEN,
            Self::Decided(_) => DECIDED,
            Self::Settled(_) => SETTLED,
            Self::Branch(record) => record.kind(),
            Self::Named(_) => NAMED,
            Self::Forgotten(_) => FORGOTTEN,
            Self::Producers(record) => record.kind(),
            Self::Published(_) | Self::Spread(_) => published::kind(self),
        }
    }

    /// Whether it makes room rather than taking it: such records may use the reserve of a full
    /// disk, because refusing them would keep the disk full.
    #[must_use]
    pub fn clears(&self) -> bool {
        let takes = matches!(
            self,
            Self::Sent { .. }
                | Self::Scheduled { .. }
                | Self::Occurred(_)
                | Self::Published(_)
                | Self::QueueCreated { .. }
                | Self::Transferred { .. }
                | Self::Piece { .. }
                | Self::Staged(_)
                | Self::Branch(BranchRecord::Kept(_))
        );
        !takes
    }

    /// Appends its bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let form = self.form();
        let mut w = Writer(out);
        match self {
            Self::Started { epoch, at } => {
                w.u64(*epoch);
                w.u64(at.0);
            }
            Self::Restored { at } => w.u64(at.0),
            Self::QueueCreated { queue, name, at } => {
                w.u64(queue.0);
                w.u64(at.0);
                w.0.extend_from_slice(name.as_bytes());
            }
            Self::QueueDeleted { queue } => w.u64(queue.0),
            Self::Sent { queue, place, at, expires, lent, upload, once } => {
                w.u64(queue.0);
                w.place(*place);
                w.u64(at.0);
                w.time(*expires);
                w.0.push(if *lent { FLAG_LENT } else { 0 });
                w.upload(form, *upload);
                w.mark(*once);
            }
            Self::Lent { queue, rank, through } => {
                w.u64(queue.0);
                w.0.push(*rank);
                w.u64(*through);
            }
            Self::Returned { queue, entries } => {
                w.u64(queue.0);
                w.entries(form, entries);
            }
            Self::Removed { queue, cause, gone } => {
                w.u64(queue.0);
                w.0.push(match cause {
                    Cause::Accepted => 1,
                    Cause::Expired => 2,
                    Cause::Purged => 3,
                    Cause::Returned => 4,
                });
                for gone in gone {
                    w.gone(gone);
                    w.upload(form, gone.upload);
                    w.late(form, gone.due, gone.note);
                }
            }
            Self::Moved { from, gone, to, place, at, upload } => {
                w.u64(from.0);
                w.gone(gone);
                w.u64(to.0);
                w.place(*place);
                w.u64(at.0);
                w.upload(form, gone.upload);
                w.upload(form, *upload);
                w.late(form, gone.due, gone.note);
            }
            Self::Transferred { from, to, first, entries } => {
                w.u64(from.0);
                w.u64(to.0);
                w.u64(*first);
                w.entries(form, entries);
            }
            Self::Piece { .. } | Self::Abandoned { .. } | Self::PiecesGone { .. } => {
                self.encode_pieces(&mut w);
            }
            Self::Named(_) | Self::Forgotten(_) | Self::Producers(_) => once::encode(self, &mut w),
            _ => self.encode_delay(&mut w),
        }
    }

    /// The inverse of [`Record::encode`].
    ///
    /// # Errors
    /// Where the bytes are not exactly those of a record of this kind.
    pub fn decode(kind: u16, bytes: &[u8]) -> Result<Self, RecordError> {
        let mut r = Reader(bytes);
        let record = Self::read(kind, &mut r)?.ok_or(RecordError::Malformed(kind))?;
        if r.0.is_empty() { Ok(record) } else { Err(RecordError::Malformed(kind)) }
    }

    /// `Ok(None)` where the bytes end early or hold a value out of range.
    fn read(kind: u16, r: &mut Reader<'_>) -> Result<Option<Self>, RecordError> {
        Ok(match kind {
            STARTED => r.started(),
            RESTORED => r.millis().map(|at| Self::Restored { at }),
            QUEUE_CREATED => r.queue_created(),
            QUEUE_DELETED => r.u64().map(|queue| Self::QueueDeleted { queue: QueueId(queue) }),
            SENT | SENT_LARGE | SENT_ONCE | SENT_NUMBERED => r.sent(form_of(kind), kind),
            LENT => r.lent(),
            RETURNED | RETURNED_LARGE | delay::RETURNED => r.returned(form_of(kind)),
            REMOVED | REMOVED_LARGE | delay::REMOVED => r.removed(form_of(kind)),
            MOVED | MOVED_LARGE | delay::MOVED => r.moved(form_of(kind)),
            PIECE => r.piece(),
            ABANDONED => r.abandoned(),
            PIECES_GONE => r.pieces_gone(),
            TRANSFERRED | TRANSFERRED_LARGE | delay::TRANSFERRED => r.transferred(form_of(kind)),
            delay::PUT_OFF => r.put_off(),
            delay::WOKEN => r.woken(),
            delay::DEAD_LETTERED => r.dead_lettered(),
            delay::SCHEDULED | SCHEDULED_ONCE | SCHEDULED_NUMBERED => r.scheduled(kind),
            delay::FIRED => r.fired(),
            repeat::REPEATED => r.repeated(),
            repeat::OCCURRED => r.occurred(),
            repeat::STAGED_LATER => r.staged_later(),
            STAGED | STAGED_ONCE | STAGED_NUMBERED => r.staged(kind),
            TAKEN => r.taken(),
            DECIDED => r.decided(),
            SETTLED => r.settled(),
            KEPT | PREPARED | COMPLETED | branch::FORGOTTEN | OUTCOMES_FORGOTTEN | BEGUN => {
                r.branch(kind)
            }
            NAMED => r.named(),
            FORGOTTEN => r.forgotten(),
            PUBLISHED | PUBLISHED_NUMBERED | PUBLISHED_ONCE => r.published(kind),
            SPREAD | SPREAD_LARGE => r.spread(kind),
            PRODUCERS_PARTED | PRODUCERS_FORGOTTEN => r.producers(kind),
            other => return Err(RecordError::UnknownKind(other)),
        }
        // A record has one form: the long one only where it is needed.
        .filter(|record| record.kind() == kind))
    }
}

/// Any bytes decode to a record that encodes to the same bytes, or to a clear no.
#[doc(hidden)]
pub fn fuzz_record(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    if let Ok(record) = Record::decode(u16::from(*kind), bytes) {
        let mut again = Vec::new();
        record.encode(&mut again);
        assert_eq!(again, bytes, "a record has one form: {record:?}");
        assert_eq!(record.kind(), u16::from(*kind));
    }
}

#[cfg(test)]
mod tests;
