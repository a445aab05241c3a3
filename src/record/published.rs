//! Records of publications that subscriptions keep, and queues that read topics; and their bytes.
//!
//! | kind | what | bytes |
//! |---|---|---|
//! | 80 | `Published` | at u64, expires u64, rank u8, T; the payload is the message |
//! | 81 | `Published` | as 80 with a number as in 65 before T |
//! | 82 | `Spread` | from u64, place, entry, T |
//! | 83 | `Published` | as 80 with scope u64 and a name as in 60 before T |
//! | 84 | `Spread` | as 82 with the body of the message u64 before T |
//!
//! T is of each queue that gets it: queue u64, seq u64 with the highest bit set where a consumer
//! waits for it. In `Spread` there may be none.
//!
//! In every kind, the size of an entry or of a gone message has its highest bit set where others
//! may hold its payload: it was published.

use super::form::Form;
use super::{Reader, Record, Writer};
use crate::broker::delta::{Entry, Place, Scope};
use crate::identity::{Identity, Mark, Numbered};
use crate::ids::{Millis, QueueId};

pub(super) const PUBLISHED: u16 = 80;
pub(super) const PUBLISHED_NUMBERED: u16 = 81;
pub(super) const SPREAD: u16 = 82;
pub(super) const PUBLISHED_ONCE: u16 = 83;
pub(super) const SPREAD_LARGE: u16 = 84;

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
    /// Under what it was sent: taken from now on.
    pub once: Option<OnceThere>,
    /// Where it went; not nowhere.
    pub targets: Vec<Target>,
}

/// By what a publication is told from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnceThere {
    /// Its name in the scope of its topic.
    Name(Scope, Identity),
    /// Its number among all that its producer sends.
    Number(Numbered),
}

impl OnceThere {
    /// What was published on this topic under this mark.
    #[must_use]
    pub fn on(topic: &str, mark: Mark) -> Self {
        match mark {
            Mark::Name(id) => Self::Name(Scope::of_topic(topic), id),
            Mark::Number(it) => Self::Number(it),
        }
    }

    /// The mark, wherever it was.
    #[must_use]
    pub fn mark(self) -> Mark {
        match self {
            Self::Name(_, id) => Mark::Name(id),
            Self::Number(it) => Mark::Number(it),
        }
    }
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
    104 + targets * 16
}

pub(super) fn kind(record: &Record) -> u16 {
    match record {
        Record::Published(published) => match published.once {
            None => PUBLISHED,
            Some(OnceThere::Name(..)) => PUBLISHED_ONCE,
            Some(OnceThere::Number(_)) => PUBLISHED_NUMBERED,
        },
        Record::Spread(spread) if spread.entry.upload.is_some() => SPREAD_LARGE,
        _ => SPREAD,
    }
}

impl Writer<'_> {
    pub(super) fn published(&mut self, published: &Published) {
        self.u64(published.at.0);
        self.time(published.expires);
        self.0.push(published.rank);
        match published.once {
            None => {}
            Some(OnceThere::Name(scope, id)) => {
                self.u64(scope.number());
                self.mark(Some(Mark::Name(id)));
            }
            Some(OnceThere::Number(it)) => self.mark(Some(Mark::Number(it))),
        }
        self.targets(&published.targets);
    }

    pub(super) fn spread(&mut self, spread: &Spread) {
        self.u64(spread.from.0);
        self.place(spread.place);
        self.entry(&spread.entry);
        let large = spread.entry.upload.is_some();
        self.upload(if large { Form::Large } else { Form::Small }, spread.entry.upload);
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
        let published = Published {
            at: self.millis()?,
            expires: self.time()?,
            rank: self.rank()?,
            once: self.once_there(kind)?,
            targets: self.targets()?,
        };
        (!published.targets.is_empty()).then_some(Record::Published(published))
    }

    fn once_there(&mut self, kind: u16) -> Option<Option<OnceThere>> {
        match kind {
            PUBLISHED_ONCE => {
                let scope = Scope::of(self.u64()?);
                let id = Identity(self.array()?);
                matches!(scope, Scope::Topic(_)).then_some(Some(OnceThere::Name(scope, id)))
            }
            PUBLISHED_NUMBERED => {
                let (producer, sequence) = (Identity(self.array()?), self.u64()?);
                Some(Some(OnceThere::Number(Numbered { producer, sequence })))
            }
            _ => Some(None),
        }
    }

    pub(super) fn spread(&mut self, kind: u16) -> Option<Record> {
        let form = if kind == SPREAD_LARGE { Form::Large } else { Form::Small };
        Some(Record::Spread(Spread {
            from: self.queue()?,
            place: self.place()?,
            entry: self.entry(form)?,
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
