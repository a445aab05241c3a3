//! What listeners are told of messages that expired, or were set apart.
//!
//! A notice is a message on a topic of its own for each destination and event, as clients of
//! ActiveMQ know such advisories. Nothing is done for it where nobody listens to that topic.
//! Always: what waits to be told is bounded in number and bytes, and beyond that listeners miss it;
//! a message does not wait for what is told of it. Contents lie in the log, so most are read before
//! they are told of, and what cannot be read any more is not. Who is away when it happens hears
//! nothing: durable subscriptions keep no notices. Of temporary destinations nothing is told: they
//! are their connection's alone.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound::{Included, Unbounded};
use std::sync::Arc;

use bytes::Bytes;

use crate::broker::command::MessageId;
use crate::broker::dead::DeadLetter;
use crate::broker::delta::{Entry, Place, Why};
use crate::broker::fact::{
    Change, ContentOf, ContentRequest, Effect, Fact, Lent, Publisher, Source, Volatile,
    VolatilePlace,
};
use crate::broker::held::Role;
use crate::broker::queue::Queue;
use crate::broker::{Broker, Effects, Room};
use crate::ids::{Lsn, Millis, QueueId};
use crate::limits;
use crate::message::{ADVISORY, Destination, Event, Notice, has_wildcards, topic_of};

/// What became of some messages of one destination.
#[derive(Clone, Debug)]
pub struct Notices {
    event: Event,
    /// Where they were; of what a durable subscription has from a pattern, that pattern.
    of: Destination,
    why: Option<Why>,
    messages: Vec<Noticed>,
    /// Those of which nothing is told.
    missed: u64,
}

impl Notices {
    /// How many it tells of.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len()
    }
}

/// What is known of such a message without its content.
#[derive(Clone, Debug)]
struct Noticed {
    id: MessageId,
    at: Millis,
    expires: Option<Millis>,
    priority: u8,
    persistent: bool,
    returns: u32,
    content: Where,
}

#[derive(Clone, Debug)]
enum Where {
    /// The frame, and its bytes.
    InLog(Lsn, u32),
    Here(Bytes),
}

impl Noticed {
    fn of_entry(place: Place, entry: &Entry) -> Self {
        Self {
            id: MessageId::Durable(entry.birth),
            at: entry.at,
            expires: entry.expires,
            priority: 9 - place.rank,
            persistent: true,
            returns: entry.returns,
            content: Where::InLog(entry.birth, entry.size),
        }
    }

    fn of_volatile(id: MessageId, message: &Volatile, returns: u32) -> Self {
        Self {
            id,
            at: message.at,
            expires: message.expires,
            priority: message.priority,
            persistent: message.persistent,
            returns,
            content: Where::Here(message.content.clone()),
        }
    }

    fn bytes(&self) -> u64 {
        match &self.content {
            Where::InLog(_, size) => u64::from(*size),
            Where::Here(content) => content.len() as u64,
        }
    }
}

/// What waits to be told.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// Their contents are being read.
    asked: BTreeMap<u64, Waiting>,
    last: u64,
    /// What can be told.
    ready: VecDeque<Waiting>,
    bytes: u64,
}

#[derive(Debug)]
struct Waiting {
    event: Event,
    of: Destination,
    why: Option<Why>,
    noticed: Noticed,
    /// Bytes for which it counts.
    bytes: u64,
}

impl Agenda {
    fn room(&self) -> usize {
        let known = self.asked.len() + self.ready.len();
        if self.bytes < limits::NOTICES_BYTES_MAX {
            limits::NOTICES_MAX.saturating_sub(known)
        } else {
            0
        }
    }

    /// Whether something can be told.
    pub(super) fn any(&self) -> bool {
        !self.ready.is_empty()
    }
}

/// What others state.
impl Broker {
    /// States that durable messages of a queue expired or were set apart, for those who listen.
    pub(super) fn state_notices(
        &self,
        id: QueueId,
        (event, why): (Event, Option<Why>),
        entries: &[(Place, Entry)],
        facts: &mut Vec<Fact>,
    ) {
        let noticed = entries.iter().map(|(place, entry)| Noticed::of_entry(*place, entry));
        if let Some(of) = self.heard(event, self.told_of(&self.queues[&id])) {
            self.state_noticed(of, (event, why), noticed, facts);
        }
    }

    /// The same of non-persistent ones, each with its returns.
    pub(super) fn state_volatile_notices<'a>(
        &self,
        id: QueueId,
        (event, why): (Event, Option<Why>),
        messages: impl ExactSizeIterator<Item = (VolatilePlace, &'a Volatile, u32)>,
        facts: &mut Vec<Fact>,
    ) {
        let epoch = self.epoch();
        let noticed = messages.map(|(place, message, returns)| {
            let id = MessageId::Volatile { epoch, number: place.number };
            Noticed::of_volatile(id, message, returns)
        });
        if let Some(of) = self.heard(event, self.told_of(&self.queues[&id])) {
            self.state_noticed(of, (event, why), noticed, facts);
        }
    }

    /// The same of those of a queue that expired where they wait.
    pub(super) fn state_volatile_expired(
        &self,
        id: QueueId,
        places: &[VolatilePlace],
        facts: &mut Vec<Fact>,
    ) {
        let queue = &self.queues[&id];
        let Some(of) = self.heard(Event::Expired, self.told_of(queue)) else { return };
        let epoch = self.epoch();
        let noticed = places.iter().filter_map(|place| {
            let (message, returns) = queue.known_at(*place)?;
            let id = MessageId::Volatile { epoch, number: place.number };
            Some(Noticed::of_volatile(id, message, returns))
        });
        let noticed: Vec<_> = noticed.collect();
        self.state_noticed(of, (Event::Expired, None), noticed.into_iter(), facts);
    }

    /// The same of deliveries that live in memory alone and that their consumer takes for expired.
    pub(super) fn state_loans_expired<'a>(
        &self,
        source: &Source,
        loans: impl Iterator<Item = &'a Lent>,
        facts: &mut Vec<Fact>,
    ) {
        let of = match source {
            Source::Queue(id) => self.told_of(&self.queues[id]),
            // Of what comes by a pattern it is not known on which topic that was.
            Source::Topic(topic) if has_wildcards(topic) => None,
            Source::Topic(topic) => of_topic(topic),
            Source::Pattern(_) => None,
        };
        let Some(of) = self.heard(Event::Expired, of) else { return };
        let epoch = self.epoch();
        let noticed = loans.filter_map(|loan| match loan {
            Lent::Durable { .. } => None,
            Lent::Volatile { place, message, returns, .. } => {
                let id = MessageId::Volatile { epoch, number: place.number };
                Some(Noticed::of_volatile(id, message, *returns))
            }
            Lent::Published { number, message } => {
                let id = MessageId::Volatile { epoch, number: *number };
                Some(Noticed::of_volatile(id, message, 0))
            }
        });
        let noticed: Vec<_> = noticed.collect();
        self.state_noticed(of, (Event::Expired, None), noticed.into_iter(), facts);
    }

    fn state_noticed(
        &self,
        of: Destination,
        (event, why): (Event, Option<Why>),
        mut noticed: impl ExactSizeIterator<Item = Noticed>,
        facts: &mut Vec<Fact>,
    ) {
        if noticed.len() == 0 {
            return;
        }
        let messages: Vec<_> = noticed.by_ref().take(self.notices.room()).collect();
        let missed = noticed.len() as u64;
        let notices = Notices { event, of, why, messages, missed };
        facts.push(Fact::Memory(Change::Notice(notices)));
    }

    /// As what the messages of a queue are told of, if they are.
    fn told_of(&self, queue: &Queue) -> Option<Destination> {
        match &queue.role {
            Role::Plain | Role::Reads(_) => {
                let of = Destination::Queue(Arc::clone(&queue.row.name));
                (!of.is_temporary()).then_some(of)
            }
            Role::Keeps(topic) => of_topic(topic),
            Role::Line => None,
        }
    }

    /// Of what is to be told, where anybody listens to that.
    fn heard(&self, event: Event, of: Option<Destination>) -> Option<Destination> {
        of.filter(|of| self.is_listened_to(event, of))
    }

    fn is_listened_to(&self, event: Event, of: &Destination) -> bool {
        let begins = |prefix: &str| {
            let first = self.topics.range::<str, _>((Included(prefix), Unbounded)).next();
            first.is_some_and(|(name, _)| name.starts_with(prefix))
        };
        if !begins(ADVISORY) {
            return false;
        }
        // Of a pattern it is known later which topic it is.
        let many = has_wildcards(of.name());
        let topic = if many { format!("{}Topic", event.prefix()) } else { event.topic(of) };
        self.audiences(&topic).next().is_some() || (many && begins(event.prefix()))
    }
}

fn of_topic(topic: &Arc<str>) -> Option<Destination> {
    let of = Destination::Topic(Arc::clone(topic));
    (!of.is_temporary() && !topic.starts_with(ADVISORY)).then_some(of)
}

/// What follows by itself.
impl Broker {
    /// Something is to be told, as far as there is room for it: what lies in the log is read first.
    pub(super) fn apply_notices(&mut self, notices: Notices, effects: &mut Effects) {
        let Notices { event, of, why, messages, missed } = notices;
        self.dropped.from_topics += missed;
        for noticed in messages {
            if self.notices.room() == 0 {
                self.dropped.from_topics += 1;
                continue;
            }
            let bytes = noticed.bytes();
            self.notices.bytes += bytes;
            let content = noticed.content.clone();
            let waiting = Waiting { event, of: of.clone(), why, noticed, bytes };
            match content {
                Where::InLog(birth, size) => {
                    self.notices.last += 1;
                    self.notices.asked.insert(self.notices.last, waiting);
                    let of = ContentOf::Notice(self.notices.last);
                    effects.push(Effect::Content(ContentRequest { of, birth, size }));
                }
                Where::Here(_) => self.notices.ready.push_back(waiting),
            }
        }
    }

    /// The content of a message of which is to be told; nothing where it cannot be read.
    pub(super) fn notice_in(&mut self, number: u64, content: Option<&Bytes>) {
        let Some(mut waiting) = self.notices.asked.remove(&number) else { return };
        let Some(content) = content else {
            self.notices.bytes -= waiting.bytes;
            self.dropped.from_topics += 1;
            return;
        };
        waiting.noticed.content = Where::Here(content.clone());
        self.notices.ready.push_back(waiting);
    }

    /// States that some of what can be told goes to those who listen; false where there is nothing.
    pub(super) fn state_told(&mut self, now: Millis, facts: &mut Vec<Fact>) -> bool {
        let mut bytes = 0;
        for told in 0..limits::NOTICES_A_STEP {
            if bytes > limits::NOTICES_STEP_BYTES {
                break;
            }
            let Some(waiting) = self.notices.ready.pop_front() else { return told > 0 };
            bytes += waiting.bytes;
            self.notices.bytes -= waiting.bytes;
            if self.state_one_told(now, waiting, facts).is_none() {
                self.dropped.from_topics += 1;
            }
        }
        true
    }

    /// Nothing where it cannot be told, or nobody listens any longer.
    fn state_one_told(&self, now: Millis, waiting: Waiting, facts: &mut Vec<Fact>) -> Option<()> {
        let Waiting { event, of, why, noticed, .. } = waiting;
        let Where::Here(content) = noticed.content else { unreachable!("it is there") };
        let of = match topic_of(&content).map(Cow::into_owned) {
            Some(topic) if has_wildcards(of.name()) => of_topic(&topic.into())?,
            _ => of,
        };
        let topic: Arc<str> = event.topic(&of).into();
        let cause = why.map(|why| DeadLetter { origin: of.name().into(), why }.cause().to_owned());
        let Noticed { id, at, expires, priority, persistent, returns, .. } = noticed;
        let id = id.to_string();
        let notice = Notice { of, id, at, expires, priority, persistent, returns, cause, content };
        let content = notice.encode().ok()?;
        if self.topic_room(&topic, (content.len() as u64, 0)) != Ok(Room::Enough) {
            return None;
        }
        let message = Volatile {
            at: self.time(now),
            expires: None,
            priority: 0,
            persistent: false,
            published: false,
            // Nobody hears of what a crash could undo.
            with_log: true,
            body: None,
            content,
        };
        let reach = self.reach(&topic).unwrap_or(0);
        let from = Publisher::Gone { through: u64::MAX };
        facts.push(Fact::Memory(Change::Publish { topic, message, from, reach }));
        Some(())
    }
}
