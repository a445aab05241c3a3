//! Records of publications that subscriptions keep, and queues that read topics; and their bytes.
//!
//! | kind | what | bytes |
//! |---|---|---|
//! | 80 | `Published` | at u64, expires u64, rank u8, T; the payload is the message |
//! | 81 | `Published` | as 80 with a number as in 65 before T |
//! | 82 | `Spread` | from u64, place, entry, T |
//!
//! T is of each queue that gets it: queue u64, seq u64 with the highest bit set where a consumer
//! waits for it. In `Spread` there may be none.
//!
//! In every kind, the size of an entry or of a gone message has its highest bit set where others
//! may hold its payload: it was published.

use super::form::Form;
use super::once::SENT_NUMBERED;
use super::{Reader, Record, Writer};
use crate::broker::delta::{Entry, Place};
use crate::identity::Mark;
use crate::ids::{Millis, QueueId};

pub(super) const PUBLISHED: u16 = 80;
pub(super) const PUBLISHED_NUMBERED: u16 = 81;
pub(super) const SPREAD: u16 = 82;

/// A consumer was waiting.
const LENT: u64 = 1 << 63;

/// A message entered the queues that keep what is published on its topic, all of them at once; its
/// content is the payload of the frame, and all of them hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// When.
    pub at: Millis,
    /// When it is no longer wanted.
    pub expires: Option<Millis>,
    /// 9 minus its priority.
    pub rank: u8,
    /// The number under which it was sent: taken from now on. Never a name.
    pub once: Option<Mark>,
    /// Where it went; not nowhere.
    pub targets: Vec<Target>,
}

/// A message that waited in the queue of its topic left it for those that keep what is published
/// there, all of them at once: they hold its payload from now on, or nobody does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spread {
    /// From where.
    pub from: QueueId,
    /// Its place there.
    pub place: Place,
    /// It, as it was there.
    pub entry: Entry,
    /// Where it went.
    pub targets: Vec<Target>,
}

/// A queue that gets a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Which.
    pub queue: QueueId,
    /// Its sequence number there: the next.
    pub seq: u64,
    /// A consumer was waiting: it counts as lent from the start.
    pub lent: bool,
}

/// Bytes it takes at most.
pub(super) fn size_max(record: &Record) -> usize {
    let targets = match record {
        Record::Published(published) => published.targets.len(),
        Record::Spread(spread) => spread.targets.len(),
        _ => 0,
    };
    96 + targets * 16
}

pub(super) fn kind(record: &Record) -> u16 {
    match record {
        Record::Published(published) if published.once.is_some() => PUBLISHED_NUMBERED,
        Record::Published(_) => PUBLISHED,
        _ => SPREAD,
    }
}

impl Writer<'_> {
    pub(super) fn published(&mut self, published: &Published) {
        self.u64(published.at.0);
        self.time(published.expires);
        self.0.push(published.rank);
        self.mark(published.once);
        self.targets(&published.targets);
    }

    pub(super) fn spread(&mut self, spread: &Spread) {
        self.u64(spread.from.0);
        self.place(spread.place);
        self.entry(&spread.entry);
        self.targets(&spread.targets);
    }

    fn targets(&mut self, targets: &[Target]) {
        for target in targets {
            self.u64(target.queue.0);
            self.u64(target.seq | if target.lent { LENT } else { 0 });
        }
    }
}

impl Reader<'_> {
    pub(super) fn published(&mut self, kind: u16) -> Option<Record> {
        let mark = if kind == PUBLISHED_NUMBERED { SENT_NUMBERED } else { PUBLISHED };
        let published = Published {
            at: self.millis()?,
            expires: self.time()?,
            rank: self.rank()?,
            once: self.mark(mark)?,
            targets: self.targets()?,
        };
        (!published.targets.is_empty()).then_some(Record::Published(published))
    }

    pub(super) fn spread(&mut self) -> Option<Record> {
        Some(Record::Spread(Spread {
            from: self.queue()?,
            place: self.place()?,
            entry: self.entry(Form::Small)?,
            targets: self.targets()?,
        }))
    }

    fn targets(&mut self) -> Option<Vec<Target>> {
        let mut targets = Vec::new();
        while !self.0.is_empty() {
            let (queue, seq) = (self.queue()?, self.u64()?);
            targets.push(Target { queue, seq: seq & !LENT, lent: seq & LENT != 0 });
        }
        Some(targets)
    }
}
