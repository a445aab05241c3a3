//! Messages that are set apart: the move to the queue for them, and what is remembered of why.
//!
//! The move is one record: whatever crash comes, a message is in one of the two queues. It keeps
//! its birth, so its name and its payload; what is remembered (from which queue, for which reason)
//! is a *note* that all messages of one queue and reason share, and that goes with the last of
//! them. Always: a message that cannot be moved now stays, is not handed out, and is tried again.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::broker::Broker;
use crate::broker::delta::{Entry, NoteRow, Place, Repeat, Why};
use crate::broker::durable::Durable;
use crate::broker::fact::{Change, Fact, Volatile, VolatilePlace};
use crate::broker::grouping::Membership;
use crate::broker::held::{Line, Role};
use crate::broker::redelivery::{Ending, queue_named};
use crate::ids::{DueTime, Millis, NoteId, QueueId};
use crate::limits;
use crate::message::{
    DLQ_FAILURE_CAUSE, DLQ_ORIGINAL_DESTINATION, Destination, Event, ORIGINAL_DESTINATION,
    has_wildcards, topic_of, with_properties,
};
use crate::mutant::{self, Mutant};
use crate::record::{Cause, Record};

/// How many reasons there are, [`Why::Rejected`] the last of them.
const REASONS: usize = 1 + Why::Rejected as usize;

/// Why a message was set apart and from where, for whoever reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The queue it was in.
    pub origin: Arc<str>,
    /// The reason.
    pub why: Why,
}

impl DeadLetter {
    /// The reason in words.
    #[must_use]
    pub fn cause(&self) -> &'static str {
        match self.why {
            Why::Returned => "it came back from its consumers more often than its queue allows",
            Why::Expired => "its time was over before it was consumed",
            Why::Rejected => "its consumer gave it up as one that it cannot process",
            Why::Scheduled | Why::Repeated => "it was sent to be delivered later",
        }
    }
}

/// All notes, by their ids.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    all: BTreeMap<NoteId, (Arc<DeadLetter>, u64)>,
    /// For each queue of which there are any, the note of each reason that messages share.
    by_origin: BTreeMap<Arc<str>, [Option<NoteId>; REASONS]>,
    /// What comes again and again.
    pub(super) repeats: BTreeMap<NoteId, Repeat>,
}

impl Notes {
    pub(crate) fn new(rows: &BTreeMap<NoteId, NoteRow>) -> Self {
        let mut notes = Self::default();
        for (id, row) in rows {
            let note = DeadLetter { origin: Arc::from(&*row.name), why: row.why };
            notes.insert(*id, note, row.count);
            notes.repeats.extend(row.repeat.map(|repeat| (*id, repeat)));
        }
        notes
    }

    fn insert(&mut self, id: NoteId, note: DeadLetter, count: u64) {
        if note.why != Why::Repeated {
            let of_origin = self.by_origin.entry(Arc::clone(&note.origin)).or_default();
            of_origin[note.why as usize] = Some(id);
        }
        self.all.insert(id, (Arc::new(note), count));
    }

    fn remove(&mut self, id: NoteId) {
        let Some((note, _)) = self.all.remove(&id) else { return };
        if self.repeats.remove(&id).is_some() {
            return;
        }
        let of_origin = self.by_origin.get_mut(&note.origin).expect("inserted with it");
        of_origin[note.why as usize] = None;
        if *of_origin == [None; REASONS] {
            self.by_origin.remove(&note.origin);
        }
    }

    pub(crate) fn get(&self, id: NoteId) -> Option<&Arc<DeadLetter>> {
        self.all.get(&id).map(|(note, _)| note)
    }

    fn find(&self, name: &str, why: Why) -> Option<NoteId> {
        self.by_origin.get(name)?[why as usize]
    }

    /// How many messages refer to each; for checks.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> BTreeMap<NoteId, u64> {
        self.all.iter().map(|(id, (_, count))| (*id, *count)).collect()
    }
}

impl Durable {
    /// The note for messages of a queue and a reason: one that is there, or the next.
    pub(super) fn note_or_new(&self, name: &str, why: Why) -> NoteId {
        self.notes.find(name, why).unwrap_or_else(|| self.next_note())
    }

    /// The note that is made next: ids come round, and one that is in use is passed over.
    pub(super) fn next_note(&self) -> NoteId {
        let mut id = self.scalars.last_note;
        loop {
            id = id % u32::MAX + 1;
            let next = NoteId::new(id).expect("at least one");
            if self.notes.get(next).is_none() {
                return next;
            }
        }
    }

    /// Whether a record may refer to this note.
    pub(super) fn fit_note(&self, id: NoteId, name: &str, why: Why) -> Result<(), &'static str> {
        let fits = self.note_or_new(name, why) == id;
        if fits { Ok(()) } else { Err("its note is neither the next nor that of its queue") }
    }

    pub(super) fn refer(&mut self, id: NoteId, name: &Arc<str>, why: Why) {
        if self.notes.get(id).is_none() {
            self.scalars.last_note = id.get();
            self.notes.insert(id, DeadLetter { origin: Arc::clone(name), why }, 0);
        }
        self.notes.all.get_mut(&id).expect("just seen to").1 += 1;
        self.note_changed(id);
    }

    /// A message that referred to a note is gone, or refers to another.
    pub(super) fn unrefer(&mut self, id: NoteId) {
        if let Some((_, count)) = self.notes.all.get_mut(&id) {
            *count -= 1;
            if *count == 0 {
                self.notes.remove(id);
            }
            self.note_changed(id);
        }
    }

    pub(super) fn note_changed(&mut self, id: NoteId) {
        let row = self.notes.all.get(&id).map(|(note, count)| NoteRow {
            name: (*note.origin).into(),
            why: note.why,
            count: *count,
            repeat: self.notes.repeats.get(&id).copied(),
        });
        self.delta.notes.insert(id, row);
    }
}

impl Broker {
    /// States that messages are set apart, as far as there is room for them; the others are
    /// delayed, to be tried again. At most once among the facts of one step.
    pub(super) fn state_dead(
        &self,
        now: Millis,
        from: QueueId,
        why: Why,
        mut entries: Vec<(Place, Entry)>,
        facts: &mut Vec<Fact>,
    ) {
        debug_assert!(entries.len() <= limits::STEP_MESSAGES_MAX, "a step is bounded");
        let source = &self.queues[&from];
        let target = source.redelivery.target(&source.row.name);
        let bytes = entries.iter().map(|(_, entry)| entry.charge());
        let fit = self.room_apart(&target, bytes);
        let stay = entries.split_off(fit);
        if !stay.is_empty() {
            let until = DueTime::at(Millis(now.0.saturating_add(limits::DEAD_RETRY_MILLIS)));
            let record = Record::PutOff { queue: from, until, entries: stay };
            facts.push(Fact::Log(record, Bytes::new()));
        }
        if entries.is_empty() {
            return;
        }
        let note = self.durable.note_or_new(&source.row.name, why);
        if why == Why::Expired {
            self.state_notices(from, (Event::Expired, None), &entries, facts);
        }
        self.state_notices(from, (Event::SetApart, Some(why)), &entries, facts);
        let (to, first) = self.queue_or_new(now, &target, facts);
        // What is set apart has no end but by an operator's hand or a consumer's.
        for (place, entry) in &mut entries {
            entry.expires = None;
            // Its new place is beyond every mark of what was delivered before.
            entry.returns = entry.returns.max(u32::from(source.lent_before(*place)));
        }
        let record = Record::DeadLettered { from, to, first, note, why, entries };
        facts.push(Fact::Log(record, Bytes::new()));
    }

    /// How many of these messages, by their bytes and from the first on, their queue has room for.
    fn room_apart(&self, target: &str, bytes: impl Iterator<Item = u64>) -> usize {
        if super::decide::check_name(target).and(self.check_count(target)).is_err() {
            return 0;
        }
        let known = self.names.get(target).map(|id| &self.queues[id]);
        let limit = known.map_or_else(|| self.policies.of_queue(target), |queue| queue.limit);
        let mut held = known.map(|queue| queue.held()).unwrap_or_default();
        let fits = |size: &u64| -> bool {
            let fits = limit.exceeded(held, *size).is_none();
            held.messages += 1;
            held.bytes += size;
            fits
        };
        bytes.take_while(fits).count()
    }

    /// States what becomes of non-persistent messages that are handed out no more: they are gone,
    /// or set apart, as new ones with the cause among their properties. Gives those for which there
    /// is no room; they stay as they are.
    pub(super) fn state_dead_volatile(
        &self,
        now: Millis,
        from: QueueId,
        mut messages: Vec<(VolatilePlace, Volatile)>,
        facts: &mut Vec<Fact>,
    ) -> Vec<VolatilePlace> {
        let source = &self.queues[&from];
        let target = source.redelivery.target(&source.row.name);
        let set_apart = source.redelivery.non_persistent == Ending::DeadLetter;
        let bytes = messages.iter().map(|(_, message)| message.charge());
        let fit = if set_apart { self.room_apart(&target, bytes) } else { messages.len() };
        let stay = messages.split_off(fit).into_iter().map(|(place, _)| place).collect();
        if messages.is_empty() {
            return stay;
        }
        if set_apart {
            let returns = |place: &VolatilePlace| source.known_at(*place).map_or(0, |it| it.1);
            let told = messages.iter().map(|(at, message)| (*at, message, returns(at)));
            let what = (Event::SetApart, Some(Why::Returned));
            self.state_volatile_notices(from, what, told, facts);
        }
        let places = messages.iter().map(|(place, _)| *place).collect();
        facts.push(Fact::Memory(Change::Drop { queue: from, cause: Cause::Returned, places }));
        if !set_apart {
            return stay;
        }
        let dead = DeadLetter { origin: Arc::clone(&source.row.name), why: Why::Returned };
        let queue = self.queue_or_new(now, &target, facts).0;
        for (place, message) in messages {
            let content = dead.mark(message.content);
            let message = Volatile { content, expires: None, ..message };
            if Membership::of(&message.content).is_some() {
                facts.push(Fact::Memory(Change::HasGroups { queue }));
            }
            facts.push(Fact::Memory(Change::Enqueue { queue, rank: place.rank, message }));
        }
        stay
    }

    pub(super) fn apply_dead(
        &mut self,
        (from, to): (QueueId, QueueId),
        first: u64,
        (note, why): (NoteId, Why),
        entries: &[(Place, Entry)],
    ) {
        let name = Arc::clone(&self.queues[&from].row.name);
        for ((old, entry), seq) in entries.iter().zip(first..) {
            if let Some(old) = entry.note {
                self.durable.unrefer(old);
            }
            self.durable.refer(note, &name, why);
            let new = Place { rank: old.rank, seq };
            self.depart(from, *old, entry);
            if !mutant::is(Mutant::DeadLetterIntoNothing) {
                let entry = self.moved_out(from, *entry);
                self.carry(to, new, Entry { note: Some(note), due: None, ..entry });
            }
        }
        self.count(from, |c| {
            c.dead_lettered += entries.len() as u64;
            c.expired += if why == Why::Expired { entries.len() as u64 } else { 0 };
        });
        self.count(to, |c| c.moved_in += entries.len() as u64);
    }

    /// What is remembered of an entry that lies in `queue`; nothing of one that is back where it
    /// came from.
    pub(super) fn dead_letter(&self, queue: &str, entry: &Entry) -> Option<Arc<DeadLetter>> {
        let note = self.durable.notes.get(entry.note?)?;
        let waits = matches!(note.why, Why::Scheduled | Why::Repeated);
        let apart = !waits && *note.origin != *queue;
        apart.then(|| Arc::clone(note))
    }
}

impl DeadLetter {
    /// Where it was, as clients know that: what is kept of a topic was published there. Of what a
    /// pattern has caught the content says on which topic.
    #[must_use]
    pub fn destination(&self, content: &[u8]) -> Destination {
        let topic = self.topic();
        let Some(topic) = topic else { return Destination::Queue(Arc::clone(&self.origin)) };
        let said = topic_of(content).filter(|_| has_wildcards(&topic));
        Destination::Topic(said.map_or(topic, |said| said.as_ref().into()))
    }

    /// The topic, or the pattern, of which it was kept.
    fn topic(&self) -> Option<Arc<str>> {
        match Role::of(&self.origin) {
            Role::Plain | Role::Reads(_) => None,
            Role::Keeps(topic) => Some(topic),
            Role::Line => Line::topic_of(&self.origin),
        }
    }

    /// A pattern has caught it: the content alone says on which topic.
    #[must_use]
    pub fn is_of_pattern(&self) -> bool {
        self.topic().is_some_and(|topic| has_wildcards(&topic))
    }

    /// The properties that tell of it beside such a content.
    #[must_use]
    pub fn properties(&self, content: &[u8]) -> [(String, String); 2] {
        [
            (DLQ_FAILURE_CAUSE.to_owned(), self.cause().to_owned()),
            (ORIGINAL_DESTINATION.to_owned(), self.destination(content).to_string()),
        ]
    }

    /// A content with the properties that tell of it before its own. Nothing else remembers of a
    /// non-persistent message where it was, so a queue that is no destination of clients stands
    /// beside its topic, for an operator's retry.
    fn mark(&self, content: Bytes) -> Bytes {
        let mut properties = self.properties(&content).to_vec();
        if let Destination::Topic(_) = self.destination(&content) {
            let queue = queue_named(&self.origin);
            properties.push((DLQ_ORIGINAL_DESTINATION.to_owned(), queue));
        }
        with_properties(content, &properties)
    }
}
