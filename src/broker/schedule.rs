//! Messages that are sent to be delivered later.
//!
//! Such a message is in its queue from the beginning, delayed (`later`), and counts for its
//! limits; a note tells it from one that came back. When its time has come one record *fires* it:
//! it takes the next place of its priority, as if it were sent in that moment, and its expiry
//! counts from then on. One that is to be published waits in a line of its topic (`publication`),
//! and is published as soon as it has fired, to those who are there then. Always: it fires once, at
//! its time or after it, whatever crash comes.

use std::sync::Arc;

use bytes::Bytes;

use crate::broker::command::{Refusal, Reply};
use crate::broker::decide::Verdict;
use crate::broker::delta::{Entry, Place, Why};
use crate::broker::durable::Durable;
use crate::broker::fact::Fact;
use crate::broker::publication::in_line;
use crate::broker::queue::Queue;
use crate::broker::{Broker, Room, Written};
use crate::ids::{Body, ConnectionId, DueTime, Millis, NoteId, QueueId};
use crate::message::{Durability, Message};
use crate::mutant::{self, Mutant};
use crate::record::Record;
use crate::schedule::Wait;

impl Broker {
    /// States that a message enters a queue, to be handed out later.
    pub(super) fn state_scheduled(
        &self,
        now: Millis,
        queue: QueueId,
        name: &str,
        place: Place,
        (message, upload, wait): (&Message, Option<Body>, Wait),
        facts: &mut Vec<Fact>,
    ) {
        let at = self.time(now);
        let (until, plan) = match wait {
            Wait::After(millis) => (Millis(now.0.saturating_add(millis)), None),
            Wait::Again(plan) => (plan.first(now).due, Some(plan)),
        };
        let (until, note) = (DueTime::at(until), self.note_to_wait(name, wait));
        let (expires, once) = (message.expires, None);
        let record =
            Record::Scheduled { queue, place, at, expires, until, note, upload, once, plan };
        facts.push(Fact::Log(record, message.content.clone()));
    }

    /// States that a message waits in a line of its topic, to be published later. It is durable
    /// whatever it asks for, as in a queue. Who would have it now is to have room for it.
    pub(super) fn decide_publish_later(
        &self,
        now: Millis,
        connection: ConnectionId,
        topic: &Arc<str>,
        (message, body, wait): (&Message, Option<Body>, Wait),
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        let line = self.scheduled_line(connection, topic);
        self.check_count(&line)?;
        self.check_repeat(message, body)?;
        let message = &in_line(topic, message);
        let (bytes, large) = (message.content.len() as u64, body.map_or(0, Body::bytes));
        let client = self.client_of(connection).map(|client| &**client);
        let takers = self.takers(topic, client, &self.volatile(now, message));
        let kept = (Durability::Persistent, bytes + large);
        for room in [
            self.topic_room(topic, (bytes, large)),
            self.room_of_takers(topic, &takers, kept, &mut Vec::new()),
        ] {
            if let Room::Lacking(shortage) = room? {
                return Ok(Verdict::Hold(shortage));
            }
        }
        let (queue, seq) = self.queue_or_new(now, &line, facts);
        self.state_of_group(queue, message, facts);
        let place = Place { rank: 9 - message.priority.get(), seq };
        self.state_scheduled(now, queue, &line, place, (message, body, wait), facts);
        Ok(Verdict::Answer(Reply::Done))
    }

    /// The note of a message that is to wait.
    pub(super) fn note_to_wait(&self, name: &str, wait: Wait) -> NoteId {
        match wait {
            Wait::After(_) => self.durable.note_or_new(name, Why::Scheduled),
            Wait::Again(_) => self.durable.next_note(),
        }
    }

    /// States that the time of messages has come.
    pub(super) fn state_fired(
        &self,
        now: Millis,
        queue: QueueId,
        entries: Vec<(Place, Entry)>,
        facts: &mut Vec<Fact>,
    ) {
        let first = self.queues[&queue].row.last_seq + 1;
        let record = Record::Fired { queue, first, at: self.time(now), entries };
        facts.push(Fact::Log(record, Bytes::new()));
    }

    pub(super) fn apply_schedule(&mut self, written: Written, record: &Record) {
        match record {
            Record::Scheduled { queue, place, at, expires, until, note, upload, once, plan } => {
                if let Some(upload) = upload {
                    self.durable.adopt(upload.upload());
                }
                let entry = Entry::born(written, *at, *expires, *upload);
                self.apply_birth(*queue, *place, entry);
                let name = self.queues[queue].row.name.clone();
                match plan {
                    None => self.durable.refer(*note, &name, Why::Scheduled),
                    Some(plan) => self.durable.refer_again(*note, &name, *plan),
                }
                let entry = Entry { due: Some(*until), note: Some(*note), ..entry };
                self.apply_changed(*queue, *place, entry);
                self.apply_sent_once(written, *queue, *once, *at, None);
                self.count(*queue, |c| c.sent += 1);
            }
            Record::Fired { queue, first, at, entries } => {
                let restored = self.queues[queue].row.restored_through;
                for ((old, entry), seq) in entries.iter().zip(*first..) {
                    let seen = u32::from(old.seq <= restored);
                    if let Some(note) = entry.note {
                        self.durable.unrefer(note);
                    }
                    if !mutant::is(Mutant::FireWithoutLeaving) {
                        self.depart(*queue, *old, entry);
                    }
                    self.carry(*queue, Place { rank: old.rank, seq }, fired(entry, *at, seen));
                }
            }
            _ => unreachable!("the other records are not of the schedule"),
        }
    }

    /// Whether a record of the schedule fits the state.
    pub(super) fn fit_schedule(&self, record: &Record) -> Result<(), &'static str> {
        let row = |id| self.queues.get(id).map(|queue| &queue.row).ok_or("no such queue");
        match record {
            Record::Scheduled { queue, place, note, upload, once, plan, .. } => {
                let row = row(queue)?;
                if row.last_seq + 1 != place.seq {
                    return Err("its sequence number is not the next");
                }
                self.durable.fit_sent(*upload)?;
                self.fit_mark(*queue, *once)?;
                match plan {
                    None => self.durable.fit_note(*note, &row.name, Why::Scheduled),
                    Some(_) => self.durable.fit_own_note(*note),
                }
            }
            Record::Fired { queue, first, entries, .. } => {
                let row = row(queue)?;
                match () {
                    () if row.last_seq + 1 != *first => Err("its sequence number is not the next"),
                    () if row.delayed < entries.len() as u64 => Err("more fired than waited"),
                    () => Ok(()),
                }
            }
            _ => unreachable!("the other records are not of the schedule"),
        }
    }

    /// Whether a message may have reached a consumer in an earlier life. One that has not fired has
    /// not, though its place is among those that have; unless the store is a restored one, since it
    /// may have fired in the other.
    pub(super) fn is_seen(&self, queue: &Queue, place: Place, entry: &Entry) -> bool {
        let waits = self.is_scheduled(entry) && place.seq > queue.row.restored_through;
        entry.returns > 0 || (queue.lent_before(place) && !waits)
    }

    /// Whether a message waits for its first delivery. When it fires it has a new place, and no
    /// note.
    pub(super) fn is_scheduled(&self, entry: &Entry) -> bool {
        let of = |note: NoteId| self.durable.notes.get(note);
        let note = entry.note.and_then(of);
        note.is_some_and(|note| matches!(note.why, Why::Scheduled | Why::Repeated))
    }
}

impl Durable {
    /// What is left of a note when its message is moved by an operator.
    pub(super) fn unschedule(&mut self, note: Option<NoteId>) -> Option<NoteId> {
        let id = note?;
        if self.notes.get(id).is_some_and(|note| note.why == Why::Scheduled) {
            self.unrefer(id);
            return None;
        }
        note
    }
}

/// The entry of a message that has waited and is as new now.
fn fired(entry: &Entry, at: Millis, returns: u32) -> Entry {
    let expires = expires_when_new(entry, at);
    Entry { at, expires, returns, due: None, note: None, ..*entry }
}

/// When a message is no longer wanted that is handed out as if it were sent at that time.
pub(super) fn expires_when_new(entry: &Entry, at: Millis) -> Option<Millis> {
    let lasts = entry.expires.map(|end| end.0.saturating_sub(entry.at.0));
    lasts.map(|lasts| Millis(at.0.saturating_add(lasts)))
}
