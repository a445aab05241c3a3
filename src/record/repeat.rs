//! Records of messages that are sent in a transaction to be delivered later, and of those that
//! come again and again.
//!
//! | kind | what | bytes |
//! |---|---|---|
//! | 70 | `Staged` | as 50, note u32, delay u64, P if the delay is 0, then perhaps a mark |
//! | 71 | `Scheduled` | as 48, P, then perhaps a mark |
//! | 72 | `Occurred` | queue u64, its place, it as each in 41, T, N |
//!
//! P is a plan: the bits of a cron expression (minutes u64, hours u32, days u32, months u16, days
//! of the week u8; all 0 is none), delay u64, period u64, repeat u64. T is the next time u64, the
//! first of its series u64, left u64; N of the new message place, at u64, expires u64, returns u32.
//! Of `left` and `repeat` 2^64 - 1 is without end. A mark is a
//! name or a number as in 60 and up, told apart by their lengths.

use super::delay::SCHEDULED;
use super::form::Form;
use super::transacted::{STAGED, Staged};
use super::{Reader, Record, Writer};
use crate::broker::delta::{Entry, Place};
use crate::ids::{Millis, NoteId, QueueId};
use crate::schedule::{Cron, Plan, Turn, Wait};

pub(super) const STAGED_LATER: u16 = 70;
pub(super) const REPEATED: u16 = 71;
pub(super) const OCCURRED: u16 = 72;

const WITHOUT_END: u64 = u64::MAX;

/// A message that comes again has come: another entered its queue, and the next time is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occurred {
    /// Where.
    pub queue: QueueId,
    /// Where the message waits that comes again.
    pub from: Place,
    /// It, as it was; from now on it waits for `turn`.
    pub entry: Entry,
    /// Its next occurrence.
    pub turn: Turn,
    /// The place of the new message: the next.
    pub place: Place,
    /// When.
    pub at: Millis,
    /// When the new message is no longer wanted.
    pub expires: Option<Millis>,
    /// 1 where it may have come before, in a store of which this one is a copy.
    pub returns: u32,
}

impl Occurred {
    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.u64(self.queue.0);
        w.entries(Form::Full, &[(self.from, self.entry)]);
        w.u64(self.turn.due.0);
        w.u64(self.turn.base.0);
        w.times(self.turn.left);
        w.place(self.place);
        w.u64(self.at.0);
        w.time(self.expires);
        w.u32(self.returns);
    }
}

impl Writer<'_> {
    pub(super) fn plan(&mut self, plan: &Plan) {
        let cron = plan.cron.map_or([0; Cron::BYTES], |cron| cron.to_bytes());
        self.0.extend_from_slice(&cron);
        self.u64(plan.delay);
        self.u64(plan.period);
        self.times(plan.repeat);
    }

    fn times(&mut self, times: Option<u32>) {
        self.u64(times.map_or(WITHOUT_END, u64::from));
    }

    pub(super) fn later(&mut self, later: Option<(NoteId, Wait)>) {
        let Some((note, wait)) = later else { return };
        self.u32(note.get());
        match wait {
            Wait::After(millis) => self.u64(millis),
            Wait::Again(plan) => {
                self.u64(0);
                self.plan(&plan);
            }
        }
    }
}

impl Reader<'_> {
    fn plan(&mut self) -> Option<Plan> {
        let cron = match self.array()? {
            none if none == [0; Cron::BYTES] => None,
            cron => Some(Cron::from_bytes(&cron)?),
        };
        let (delay, period) = (self.u64()?, self.u64()?);
        Some(Plan { cron, delay, period, repeat: self.times()? })
    }

    fn times(&mut self) -> Option<Option<u32>> {
        match self.u64()? {
            WITHOUT_END => Some(None),
            times => u32::try_from(times).ok().map(Some),
        }
    }

    pub(super) fn staged_later(&mut self) -> Option<Record> {
        let Record::Staged(staged) = self.staged(STAGED)? else { return None };
        let (note, delay) = (NoteId::new(self.u32()?)?, self.u64()?);
        let wait = if delay > 0 { Wait::After(delay) } else { Wait::Again(self.plan()?) };
        let once = self.mark_at_end()?;
        Some(Record::Staged(Staged { later: Some((note, wait)), once, ..staged }))
    }

    pub(super) fn repeated(&mut self) -> Option<Record> {
        let mut record = self.scheduled(SCHEDULED)?;
        let (new, mark) = (self.plan()?, self.mark_at_end()?);
        if let Record::Scheduled { plan, once, .. } = &mut record {
            (*plan, *once) = (Some(new), mark);
        }
        Some(record)
    }

    pub(super) fn occurred(&mut self) -> Option<Record> {
        Some(Record::Occurred(Occurred {
            queue: self.queue()?,
            from: self.place()?,
            entry: self.entry(Form::Full)?,
            turn: Turn { due: self.millis()?, base: self.millis()?, left: self.times()? },
            place: self.place()?,
            at: self.millis()?,
            expires: self.time()?,
            returns: self.u32()?,
        }))
    }
}
