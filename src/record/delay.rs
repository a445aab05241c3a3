//! The records of messages that are delayed or set apart, and of what becomes of such messages.
//!
//! | kind | what | bytes |
//! |---|---|---|
//! | 41 | `Returned` | as 31, each entry with due u64, note u32 behind its upload |
//! | 42 | `Removed` | as 32, each gone message with due and note behind its upload |
//! | 43 | `Moved` | as 33, due and note of the gone message at the end |
//! | 44 | `Transferred` | as 37, each entry with due and note behind its upload |
//! | 45 | `PutOff` | queue u64, until u64; each entry as in 41 |
//! | 46 | `Woken` | queue u64; each entry as in 41 |
//! | 47 | `DeadLettered` | from u64, to u64, first u64, note u32, why u8; each entry as in 41 |
//! | 48 | `Scheduled` | queue u64, rank u8, seq, at, expires, until u64, note u32, body u64 |
//! | 49 | `Fired` | queue u64, first u64, at u64; each entry as in 41 |
//!
//! Why is 1 for returned, 2 for expired, 5 for given up. A due time or a note of zero is none. Of
//! 41 to 44 and the kinds they stand for a record has the first that says all there is to say.

use super::{Form, Reader, Record, Writer, transacted};
use crate::broker::delta::{Entry, Why};
use crate::ids::{DueTime, NoteId};

pub(super) const RETURNED: u16 = 41;
pub(super) const REMOVED: u16 = 42;
pub(super) const MOVED: u16 = 43;
pub(super) const TRANSFERRED: u16 = 44;
pub(super) const PUT_OFF: u16 = 45;
pub(super) const WOKEN: u16 = 46;
pub(super) const DEAD_LETTERED: u16 = 47;
pub(super) const SCHEDULED: u16 = 48;
pub(super) const FIRED: u16 = 49;

impl Record {
    /// Whether it names a message that is delayed or was set apart.
    pub(super) fn is_full(&self) -> bool {
        let late = |entry: &Entry| entry.due.is_some() || entry.note.is_some();
        match self {
            Self::Returned { entries, .. } | Self::Transferred { entries, .. } => {
                entries.iter().any(|(_, entry)| late(entry))
            }
            Self::Removed { gone, .. } => {
                gone.iter().any(|gone| gone.due.is_some() || gone.note.is_some())
            }
            Self::Moved { gone, .. } => gone.due.is_some() || gone.note.is_some(),
            _ => false,
        }
    }

    pub(super) fn encode_delay(&self, w: &mut Writer<'_>) {
        match self {
            Self::Branch(record) => record.encode(w),
            Self::PutOff { queue, until, entries } => {
                w.u64(queue.0);
                w.u64(until.millis().0);
                w.entries(Form::Full, entries);
            }
            Self::Woken { queue, entries } => {
                w.u64(queue.0);
                w.entries(Form::Full, entries);
            }
            Self::DeadLettered { from, to, first, note, why, entries } => {
                w.u64(from.0);
                w.u64(to.0);
                w.u64(*first);
                w.u32(note.get());
                w.0.push(match why {
                    Why::Returned => 1,
                    Why::Expired => 2,
                    Why::Scheduled => 3,
                    Why::Repeated => 4,
                    Why::Rejected => 5,
                });
                w.entries(Form::Full, entries);
            }
            Self::Scheduled { queue, place, at, expires, until, note, upload, once, plan } => {
                w.u64(queue.0);
                w.place(*place);
                w.u64(at.0);
                w.time(*expires);
                w.u64(until.millis().0);
                w.u32(note.get());
                w.upload(Form::Full, *upload);
                plan.iter().for_each(|plan| w.plan(plan));
                w.mark(*once);
            }
            Self::Fired { queue, first, at, entries } => {
                w.u64(queue.0);
                w.u64(*first);
                w.u64(at.0);
                w.entries(Form::Full, entries);
            }
            Self::Occurred(occurred) => occurred.encode(w),
            Self::Published(it) => w.published(it),
            Self::Spread(it) => w.spread(it),
            _ => transacted::encode(self, w),
        }
    }
}

impl Writer<'_> {
    /// Only in the kinds that say it: due u64, note u32, zero is none.
    pub(super) fn late(&mut self, form: Form, due: Option<DueTime>, note: Option<NoteId>) {
        if form == Form::Full {
            self.u64(due.map_or(0, |due| due.millis().0));
            self.u32(note.map_or(0, NoteId::get));
        }
    }
}

impl Reader<'_> {
    pub(super) fn due(&mut self, form: Form) -> Option<Option<DueTime>> {
        if form < Form::Full {
            return Some(None);
        }
        self.time().map(|at| at.map(DueTime::at))
    }

    pub(super) fn note(&mut self, form: Form) -> Option<Option<NoteId>> {
        if form < Form::Full { Some(None) } else { self.u32().map(NoteId::new) }
    }

    pub(super) fn until(&mut self) -> Option<DueTime> {
        self.due(Form::Full)?
    }

    pub(super) fn scheduled(&mut self, kind: u16) -> Option<Record> {
        Some(Record::Scheduled {
            queue: self.queue()?,
            place: self.place()?,
            at: self.millis()?,
            expires: self.time()?,
            until: self.until()?,
            note: self.note(Form::Full)??,
            upload: self.upload(Form::Full)?,
            once: self.mark(kind)?,
            plan: None,
        })
    }

    pub(super) fn fired(&mut self) -> Option<Record> {
        Some(Record::Fired {
            queue: self.queue()?,
            first: self.u64()?,
            at: self.millis()?,
            entries: self.entries(Form::Full)?,
        })
    }

    pub(super) fn put_off(&mut self) -> Option<Record> {
        let (queue, until) = (self.queue()?, self.until()?);
        Some(Record::PutOff { queue, until, entries: self.entries(Form::Full)? })
    }

    pub(super) fn woken(&mut self) -> Option<Record> {
        Some(Record::Woken { queue: self.queue()?, entries: self.entries(Form::Full)? })
    }

    pub(super) fn dead_lettered(&mut self) -> Option<Record> {
        Some(Record::DeadLettered {
            from: self.queue()?,
            to: self.queue()?,
            first: self.u64()?,
            note: NoteId::new(self.u32()?)?,
            why: match self.u8()? {
                1 => Why::Returned,
                2 => Why::Expired,
                5 => Why::Rejected,
                _ => return None,
            },
            entries: self.entries(Form::Full)?,
        })
    }
}
