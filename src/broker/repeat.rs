//! Messages that come again and again.
//!
//! Such a message waits in its queue like one that comes once (`schedule`), under a note of its
//! own that says when it comes. When its time has come its content is read, and one record states
//! an *occurrence*: another message with that content enters the queue, and the next time is known.
//! The last occurrence is the message itself. Always: each comes once, at its time or after it,
//! whatever crash comes; what was missed comes once, late; and what finds no room is tried again,
//! so that a queue that nobody reads grows no further than its limit.

use std::sync::Arc;

use bytes::Bytes;

use crate::broker::command::{Refusal, Reply, ScheduleInfo};
use crate::broker::decide::{Verdict, removed};
use crate::broker::delta::{Due, Entry, Place, Repeat, Why};
use crate::broker::durable::Durable;
use crate::broker::fact::{ContentOf, ContentRequest, Fact};
use crate::broker::schedule::expires_when_new;
use crate::broker::{Broker, Room, Written};
use crate::ids::{Body, DueTime, Millis, NoteId, QueueId};
use crate::limits;
use crate::message::{Durability, Message, SCHEDULED_JOB, with_property};
use crate::mutant::{self, Mutant};
use crate::record::{Cause, Gone, Occurred, Record, Staged};
use crate::schedule::{Plan, Turn, Wait, When};

/// What decide states.
impl Broker {
    /// Refuses a message that cannot come again.
    pub(super) fn check_repeat(
        &self,
        message: &Message,
        upload: Option<Body>,
    ) -> Result<(), Refusal> {
        let When::Again(_) = message.when else { return Ok(()) };
        if upload.is_some() {
            return Err(Refusal::TooLargeToRepeat { limit: limits::WHOLE_BODY_BYTES_MAX });
        }
        let limit = limits::REPEATED_MAX;
        let few = self.durable.notes.repeats.len() < limit;
        if few { Ok(()) } else { Err(Refusal::TooManySchedules { limit }) }
    }

    /// Takes in the content of a message whose time has come, and states its occurrence, if it is
    /// still to come; where there is no `room` on the disk or in the queue it waits a little.
    pub fn content_in(
        &mut self,
        now: Millis,
        request: &ContentRequest,
        content: &Bytes,
        room: bool,
        facts: &mut Vec<Fact>,
    ) {
        let due = match request.of {
            ContentOf::Occurrence(due) => due,
            ContentOf::Publication(id, place) => {
                return self.publication_in(now, (id, place), request, Ok(content), facts);
            }
            ContentOf::Notice(number) => return self.notice_in(number, Some(content)),
        };
        let Some((entry, note)) = self.asked(due, request) else { return };
        let repeat = self.durable.notes.repeats[&note];
        let Some(turn) = repeat.plan.next(repeat.turn, now) else { return };
        let (queue, from) = (due.queue, due.place);
        let name = Arc::clone(&self.queues[&queue].row.name);
        let bytes = content.len() as u64 + limits::SCHEDULED_OVERHEAD_BYTES;
        let judged = self.queue_room(&name, Durability::Persistent, bytes, facts);
        let full = self.lacks_room_later((queue, from), &entry, content);
        if !room || full || !matches!(judged, Ok(Room::Enough)) {
            facts.clear();
            let until = now.0.saturating_add(limits::OCCURRENCE_RETRY_MILLIS);
            let until = DueTime::at(Millis(until));
            let record = Record::PutOff { queue, until, entries: vec![(from, entry)] };
            return facts.push(Fact::Log(record, Bytes::new()));
        }
        let at = self.time(now);
        let place = Place { rank: from.rank, seq: self.queues[&queue].row.last_seq + 1 };
        let expires = expires_when_new(&entry, at);
        // One that was due before a backup was restored may have come in the store before.
        let scalars = &self.durable.scalars;
        let millis = due.at.millis();
        let seen = entry.birth.0 < scalars.restored && millis.0 <= scalars.restored_at;
        let returns = u32::from(seen);
        let occurred = Occurred { queue, from, entry, turn, place, at, expires, returns };
        facts.push(Fact::Log(Record::Occurred(occurred), of_job(content, &entry)));
    }

    /// States that a message that comes again cannot be read, and never will be: what says so takes
    /// its place where damaged messages go.
    pub fn content_lost(
        &mut self,
        now: Millis,
        request: &ContentRequest,
        content: Bytes,
        facts: &mut Vec<Fact>,
    ) {
        let due = match request.of {
            ContentOf::Occurrence(due) => due,
            ContentOf::Publication(id, place) => {
                return self.publication_in(now, (id, place), request, Err(content), facts);
            }
            ContentOf::Notice(number) => return self.notice_in(number, None),
        };
        let Some((entry, _)) = self.asked(due, request) else { return };
        let (from, place) = (due.queue, due.place);
        self.state_damaged(now, from, (place, &entry), content, facts);
    }

    /// Nothing will come of a request: its message is gone meanwhile.
    pub fn content_gone(&mut self, request: &ContentRequest) {
        match request.of {
            ContentOf::Occurrence(due) => drop(self.later.asked.remove(&due)),
            ContentOf::Publication(id, _) => self.held.spreading.answered(id),
            ContentOf::Notice(number) => self.notice_in(number, None),
        }
    }

    /// Whether the content of a message is waited for; not if it is gone meanwhile.
    #[must_use]
    pub fn awaits_content(&self, request: &ContentRequest) -> bool {
        let due = match request.of {
            ContentOf::Occurrence(due) => due,
            ContentOf::Publication(id, place) => {
                return self.awaits_publication((id, place), request);
            }
            // Nobody needs it.
            ContentOf::Notice(_) => return false,
        };
        let known = self.later.get(&due);
        known.is_some_and(|entry| entry.birth == request.birth)
    }

    fn asked(&mut self, due: Due, request: &ContentRequest) -> Option<(Entry, NoteId)> {
        self.later.asked.remove(&due);
        let entry = *self.later.get(&due)?;
        let note = entry.note.filter(|note| self.durable.notes.repeats.contains_key(note))?;
        (entry.birth == request.birth).then_some((entry, note))
    }

    /// Whether a message comes again after an occurrence now.
    pub(super) fn comes_again(&self, now: Millis, entry: &Entry) -> bool {
        let repeat = entry.note.and_then(|note| self.durable.notes.repeats.get(&note));
        repeat.is_some_and(|repeat| repeat.plan.next(repeat.turn, now).is_some())
    }

    pub(super) fn is_repeated(&self, entry: &Entry) -> bool {
        entry.note.is_some_and(|note| self.durable.notes.repeats.contains_key(&note))
    }

    /// How often it still comes, the next time included; for checks.
    #[cfg(test)]
    pub(crate) fn occurrences_left(&self, entry: &Entry) -> Option<u32> {
        let repeat = self.durable.notes.repeats.get(&entry.note?)?;
        Some(repeat.turn.left? + 1)
    }

    /// A message that a commit puts into its queue, waiting from now on if it is to wait.
    pub(super) fn wait_from(&self, now: Millis, delay: u64, entry: Entry) -> Entry {
        let repeat = entry.note.and_then(|note| self.durable.notes.repeats.get(&note));
        let due = match repeat {
            Some(repeat) => repeat.plan.first(now).due,
            None if delay > 0 => Millis(now.0.saturating_add(delay)),
            None => return entry,
        };
        Entry { due: Some(DueTime::at(due)), ..entry }
    }
}

/// What operators ask.
impl Broker {
    /// What comes again and again, after the one with that number.
    pub(super) fn list_schedules(&self, after: Option<NoteId>) -> Vec<ScheduleInfo> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let of = |(id, repeat): (&NoteId, &Repeat)| {
            let (_, _, entry) = repeat.waits?;
            Some(ScheduleInfo {
                id: *id,
                queue: self.durable.notes.get(*id)?.origin.clone(),
                message: entry.birth,
                plan: repeat.plan,
                next: entry.due.map_or(repeat.turn.due, DueTime::millis),
                left: repeat.turn.left,
            })
        };
        // One in a transaction is nobody's yet.
        let repeats = self.durable.notes.repeats.range((from, Unbounded));
        repeats.filter_map(of).take(limits::LIST_SCHEDULES_MAX).collect()
    }

    pub(super) fn decide_end_schedule(
        &self,
        id: NoteId,
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        let waits = self.durable.notes.repeats.get(&id).and_then(|repeat| repeat.waits);
        let (queue, place, entry) = waits.ok_or(Refusal::NoSuchSchedule(id))?;
        removed(queue, Cause::Purged, vec![Gone::of(place, &entry)], facts);
        Ok(Verdict::Answer(Reply::Removed(1)))
    }
}

/// What apply does, and what it looks at before.
impl Broker {
    pub(super) fn fit_occurred(&self, occurred: &Occurred) -> Result<(), &'static str> {
        let row = &self.queues.get(&occurred.queue).ok_or("no such queue")?.row;
        if row.last_seq + 1 != occurred.place.seq {
            return Err("its sequence number is not the next");
        }
        let note = occurred.entry.note.ok_or("its message does not come again")?;
        let repeat = self.durable.notes.repeats.get(&note);
        let waits = repeat.and_then(|repeat| repeat.waits).ok_or("there is no such schedule")?;
        let same = waits == (occurred.queue, occurred.from, occurred.entry);
        if same { Ok(()) } else { Err("its message is not as it says") }
    }

    pub(super) fn apply_occurred(&mut self, written: Written, occurred: &Occurred) {
        let Occurred { queue, from, entry, turn, place, at, expires, returns } = *occurred;
        let new = Entry { returns, ..Entry::born(written, at, expires, None) };
        self.apply_birth(queue, place, new);
        self.count(queue, |c| c.sent += 1);
        self.undelay(queue, from, entry.due);
        let repeat = entry.note.and_then(|id| self.durable.notes.repeats.get_mut(&id));
        if let Some(repeat) = repeat.filter(|_| !mutant::is(Mutant::OccurUncounted)) {
            repeat.turn = turn;
        }
        self.apply_changed(queue, from, Entry { due: Some(DueTime::at(turn.due)), ..entry });
    }

    pub(super) fn fit_later(&self, staged: &Staged) -> Result<(), &'static str> {
        match staged.later {
            None => Ok(()),
            Some((note, Wait::Again(_))) => self.durable.fit_own_note(note),
            Some((note, Wait::After(_))) => {
                let name = &self.queues[&staged.queue].row.name;
                self.durable.fit_note(note, name, Why::Scheduled)
            }
        }
    }

    /// What is sent in a transaction to come later has its note at once, and how long it waits
    /// after the commit.
    pub(super) fn apply_later(&mut self, staged: &Staged, entry: Entry) -> (Entry, u64) {
        let Some((note, wait)) = staged.later else { return (entry, 0) };
        let name = Arc::clone(&self.queues[&staged.queue].row.name);
        let delay = match wait {
            Wait::After(delay) => {
                self.durable.refer(note, &name, Why::Scheduled);
                delay
            }
            Wait::Again(plan) => {
                self.durable.refer_again(note, &name, plan);
                0
            }
        };
        (Entry { note: Some(note), ..entry }, delay)
    }
}

impl Durable {
    pub(super) fn fit_own_note(&self, id: NoteId) -> Result<(), &'static str> {
        if self.next_note() == id { Ok(()) } else { Err("its note is not the next") }
    }

    /// A message comes again from now on, or once its transaction is committed.
    pub(super) fn refer_again(&mut self, id: NoteId, name: &Arc<str>, plan: Plan) {
        let turn = Turn { due: Millis(0), base: Millis(0), left: plan.repeat };
        self.refer(id, name, Why::Repeated);
        self.notes.repeats.insert(id, Repeat { plan, turn, waits: None });
        self.note_changed(id);
    }

    /// A delayed message is there as this says: if it comes again its note says so.
    pub(super) fn follow(&mut self, queue: QueueId, place: Place, entry: Entry) {
        let Some(id) = entry.note else { return };
        let Some(repeat) = self.notes.repeats.get_mut(&id) else { return };
        if let (None, Some(due)) = (repeat.waits, entry.due) {
            // Its first time: the grid begins there.
            repeat.turn.due = due.millis();
            repeat.turn.base = due.millis();
        }
        repeat.waits = Some((queue, place, entry));
        self.note_changed(id);
    }
}

/// The content of an occurrence: that of the message, and of which it is one.
fn of_job(content: &Bytes, entry: &Entry) -> Bytes {
    let job = crate::broker::command::MessageId::Durable(entry.birth).to_string();
    with_property(content.clone(), SCHEDULED_JOB, &job)
}
