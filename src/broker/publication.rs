//! Publications that durable subscriptions keep, and queues that read topics.
//!
//! A persistent one is one record with its content once, which enters the queues of all who want
//! it: what selectors and no-local say is judged here, so that nothing is kept that nobody wants.
//! One of a transaction waits in its topic's *line* from the commit on, and leaves it by a record
//! that says where it goes: until then it is there as a whole, whatever crash comes. One that is to
//! be published later waits in a line of its own (`schedule`). Always: what is published and
//! persistent while something waits in the first stands behind it. A non-persistent one lives in
//! memory, as in every queue. Leaves to others: what subscriptions are (`held`), how they begin and
//! end (`subscribing`), who only listens (`announcing`), and who holds a payload (`shares`).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::broker::command::Refusal;
use crate::broker::delta::{Entry, NameRow, Place};
use crate::broker::fact::{
    Change, ContentOf, ContentRequest, Effect, Fact, Lent, PageRequest, Publisher, Purpose,
    Volatile,
};
use crate::broker::grouping::Membership;
use crate::broker::held::{Line, Role, was_there};
use crate::broker::policy::{Held, Shortage};
use crate::broker::queue::{Head, Queue};
use crate::broker::subject::Seen;
use crate::broker::{Broker, Effects, Room, Written};
use crate::ids::{Body, ConnectionId, Millis, QueueId};
use crate::limits;
use crate::message::{Destination, Durability, Message, on_topic};
use crate::mutant::{self, Mutant};
use crate::record::{OnceThere, Published, Record, Spread, Target};

/// How what is published comes to those who get it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// At once.
    Direct,
    /// By the line of its topic, behind what waits there.
    Line,
    /// Not yet: it must wait.
    Wait(Shortage),
}

/// What decide states.
impl Broker {
    /// How the connection calls itself.
    pub(super) fn client_of(&self, connection: ConnectionId) -> Option<&Arc<str>> {
        self.held.clients.get(&connection)
    }

    /// States that a persistent message is kept by all who want it, or waits in the line of its
    /// topic. Of one that is not persistent it is said only whether there is room.
    pub(super) fn state_kept_publication(
        &self,
        now: Millis,
        connection: ConnectionId,
        topic: &Arc<str>,
        message: &Message,
        facts: &mut Vec<Fact>,
    ) -> Result<Way, Refusal> {
        let client = self.client_of(connection).map(|client| &**client);
        let persistent = message.durability == Durability::Persistent;
        let line = if persistent { self.busy_line(topic, client) } else { None };
        if !persistent && self.takes_room_of_line(topic, client) {
            return Ok(Way::Wait(Shortage::Destination));
        }
        if self.held.count(topic) == 0 && line.is_none() || mutant::is(Mutant::ForgetKept) {
            return Ok(Way::Direct);
        }
        let volatile = self.volatile(now, message);
        let takers = self.takers(topic, client, &volatile);
        let content = match self.held.is_caught(topic) {
            true => on_topic(topic, &message.content),
            false => message.content.clone(),
        };
        if line.is_some_and(|(line, _)| self.is_long(line)) {
            return Ok(Way::Wait(Shortage::Destination));
        }
        let sent = (message.durability, content.len() as u64);
        if let Room::Lacking(shortage) = self.room_of_takers(topic, &takers, sent, facts)? {
            return Ok(Way::Wait(shortage));
        }
        let (at, rank) = (volatile.at, 9 - message.priority.get());
        if let Some((queue, seq)) = line {
            // Who catches it by a pattern may come before it leaves.
            let content = on_topic(topic, &message.content);
            let place = Place { rank, seq };
            let (expires, lent, upload, once) = (message.expires, false, None, None);
            let sent = Record::Sent { queue, place, at, expires, lent, upload, once };
            self.state_of_group(queue, message, facts);
            facts.push(Fact::Log(sent, content));
            return Ok(Way::Line);
        }
        if persistent && !takers.is_empty() {
            self.state_of_groups(&takers, message, facts);
            let (expires, once, targets) = (message.expires, None, self.targets(&takers));
            let published = Published { at, expires, rank, once, targets };
            facts.push(Fact::Log(Record::Published(published), content));
        }
        Ok(Way::Direct)
    }

    /// States that a large message waits in the line of its topic, where its body is somebody's,
    /// from where it goes to all who want it.
    pub(super) fn state_large_publication(
        &self,
        now: Millis,
        connection: ConnectionId,
        topic: &Arc<str>,
        (message, body): (&Message, Body),
        facts: &mut Vec<Fact>,
    ) -> Result<Way, Refusal> {
        let line = self.line_name(connection, topic);
        self.check_count(&line)?;
        if self.names.get(&*line).is_some_and(|line| self.is_long(*line)) {
            return Ok(Way::Wait(Shortage::Destination));
        }
        let message = &in_line(topic, message);
        let client = self.client_of(connection).map(|client| &**client);
        let takers = self.takers(topic, client, &self.volatile(now, message));
        let sent = (Durability::Persistent, message.content.len() as u64 + body.bytes());
        if let Room::Lacking(shortage) = self.room_of_takers(topic, &takers, sent, facts)? {
            return Ok(Way::Wait(shortage));
        }
        let (queue, seq) = self.queue_or_new(now, &line, facts);
        self.state_of_group(queue, message, facts);
        let place = Place { rank: 9 - message.priority.get(), seq };
        let (at, expires, upload) = (self.time(now), message.expires, Some(body));
        let sent = Record::Sent { queue, place, at, expires, lent: false, upload, once: None };
        facts.push(Fact::Log(sent, message.content.clone()));
        Ok(Way::Line)
    }

    /// The queues that get a message.
    pub(super) fn takers(
        &self,
        topic: &str,
        client: Option<&str>,
        message: &Volatile,
    ) -> Vec<QueueId> {
        let envelope = message.envelope(self.epoch(), 0);
        let seen = Seen::new(envelope, message.content.clone());
        let takers = self.held.takers(topic, client, |selector| selector.matches(&seen));
        takers.into_iter().map(|(id, _)| id).collect()
    }

    fn targets(&self, takers: &[QueueId]) -> Vec<Target> {
        let target = |id: &QueueId| {
            let queue = &self.queues[id];
            let lent = queue.is_idle() && !queue.ready.is_empty();
            Target { queue: *id, seq: queue.row.last_seq + 1, lent }
        };
        let most = if mutant::is(Mutant::PublishToOne) { 1 } else { usize::MAX };
        takers.iter().map(target).take(most).collect()
    }

    pub(super) fn room_of_takers(
        &self,
        topic: &Arc<str>,
        takers: &[QueueId],
        (durability, bytes): (Durability, u64),
        facts: &mut Vec<Fact>,
    ) -> Result<Room, Refusal> {
        let stated = facts.len();
        if durability == Durability::NonPersistent {
            let all = (bytes + limits::VOLATILE_OVERHEAD_BYTES) * takers.len() as u64;
            let limit = self.limits.volatile_bytes;
            if self.volatile_bytes.saturating_add(all) > limit {
                return Err(Refusal::MemoryFull { limit });
            }
        }
        for id in takers {
            let name = &self.queues[id].row.name;
            match self.queue_room(name, durability, bytes, facts) {
                Ok(Room::Enough) => {}
                Ok(lacking) => {
                    facts.truncate(stated);
                    return Ok(lacking);
                }
                Err(refusal) => {
                    facts.truncate(stated);
                    return Err(self.of_topic(refusal, topic, *id));
                }
            }
        }
        Ok(Room::Enough)
    }

    /// Judges what a transaction publishes, as one, by those who get all of it, when what it has
    /// `taken` out of them goes. What others want of it its contents alone say: by one transaction
    /// these may get too much.
    pub(super) fn room_of_keepers(
        &self,
        topic: &Arc<str>,
        sent: Held,
        taken: &BTreeMap<QueueId, Held>,
        facts: &mut Vec<Fact>,
    ) -> Result<Room, Refusal> {
        let mut room = Room::Enough;
        let limited = self.policies.of_topic(topic).is_some();
        // A pattern has the limit of its own name.
        let limited = |id: &QueueId| limited || self.queues[id].role.catches(topic);
        let subscriptions = self.held.take_all(topic).filter(limited);
        let readers = self.held.readers.of(topic).map(|(id, _)| id);
        for id in subscriptions.chain(readers) {
            let queue = &self.queues[&id];
            let taken = taken.get(&id).copied().unwrap_or_default();
            let judged = self.room_for_many(id, queue, (sent, taken), facts);
            match judged.map_err(|refusal| self.of_topic(refusal, topic, id))? {
                Room::Enough => {}
                lacking => room = lacking,
            }
        }
        Ok(room)
    }

    /// Asks to hear when there may be room again in what is kept of a topic, and in its lines;
    /// false where nobody keeps anything of it, and nothing waits.
    pub(super) fn watch_kept(&mut self, topic: &str) -> bool {
        let takers = self.held.takers(topic, None, |_| true);
        let takers: Vec<_> = takers.into_iter().map(|(id, _)| id).collect();
        for id in &takers {
            let queue = self.queues.get_mut(id).expect("whoever keeps has a queue");
            queue.watched = true;
            if queue.role.catches(topic) {
                self.held.awaited.entry(*id).or_default().insert(topic.into());
            }
        }
        let lines: Vec<_> = self.held.waiting(topic).collect();
        for id in &lines {
            self.queues.get_mut(id).expect("a line is a queue").watched = true;
        }
        !takers.is_empty() || !lines.is_empty()
    }

    /// A refusal of a queue that keeps a publication, as whoever publishes understands it: that of
    /// a subscription is its topic's.
    fn of_topic(&self, refusal: Refusal, topic: &Arc<str>, queue: QueueId) -> Refusal {
        if !matches!(self.queues[&queue].role, Role::Keeps(_)) {
            return refusal;
        }
        let destination = Destination::Topic(Arc::clone(topic));
        match refusal {
            Refusal::DestinationFull { limit, .. } => {
                Refusal::DestinationFull { destination, limit }
            }
            Refusal::NeverFits { size, limit, .. } => {
                Refusal::NeverFits { destination, size, limit }
            }
            other => other,
        }
    }

    /// The line of a topic, for one who publishes as that client.
    fn line(&self, topic: &Arc<str>, client: Option<&str>) -> Line {
        let client = client.filter(|client| self.held.is_local(topic, client));
        Line { topic: Arc::clone(topic), client: client.map(Arc::from), scheduled: false }
    }

    /// Where a message waits that is to be published later.
    pub(super) fn scheduled_line(&self, connection: ConnectionId, topic: &Arc<str>) -> Arc<str> {
        let client = self.client_of(connection).map(|client| &**client);
        Line { scheduled: true, ..self.line(topic, client) }.queue_name().into()
    }

    /// The line behind which a publication must stand, and its next place.
    pub(super) fn busy_line(
        &self,
        topic: &Arc<str>,
        client: Option<&str>,
    ) -> Option<(QueueId, u64)> {
        if self.held.spreading.is_idle() {
            return None;
        }
        let id = *self.names.get(&*self.line(topic, client).queue_name())?;
        self.held.spreading.is_pending(id).then(|| (id, self.queues[&id].row.last_seq + 1))
    }

    /// Whether so much waits in a line that whoever publishes waits, too.
    pub(super) fn is_long(&self, line: QueueId) -> bool {
        self.queues[&line].row.depth >= limits::LINE_MAX
    }

    /// Whether somebody keeps what is published on a topic, or may come to do so unasked.
    pub(super) fn is_kept(&self, topic: &str) -> bool {
        self.held.count(topic) > 0 || self.held.readers.may_come(topic)
    }

    /// The line of a topic, for what a connection publishes.
    pub(super) fn line_name(&self, connection: ConnectionId, topic: &Arc<str>) -> Arc<str> {
        let client = self.client_of(connection).map(|client| &**client);
        self.line(topic, client).queue_name().into()
    }
}

/// What follows by itself.
impl Broker {
    /// Whether something in a line can go on.
    pub(super) fn has_publications(&self, now: Millis) -> bool {
        self.held.spreading.any(now)
    }

    /// States where the next publication of a line goes, or asks for what must be known of it
    /// before. False when there is nothing to do.
    pub(super) fn state_spread(
        &mut self,
        now: Millis,
        facts: &mut Vec<Fact>,
        effects: &mut Effects,
    ) -> bool {
        let Some(id) = self.held.spreading.next(now) else { return false };
        let line = Arc::clone(self.held.line(id).expect("only lines are pending"));
        match self.queues[&id].head() {
            Head::Absent => {
                let queue = self.queues.get_mut(&id).expect("a line is a queue");
                let after = queue.horizon().expect("something is not in memory");
                queue.paging = true;
                self.held.spreading.page(id);
                let (limit, purpose) = (self.limits.resident, Purpose::Dispatch);
                let generation = self.durable.generation;
                let request = PageRequest { queue: id, after, limit, purpose, generation };
                effects.push(Effect::Page(request));
            }
            Head::Durable(place, entry)
                if line.scheduled
                    || self.held.selects(&line.topic)
                    || self.is_heard(id, &line, place) =>
            {
                self.held.spreading.ask(id);
                let (of, Entry { birth, size, .. }) = (ContentOf::Publication(id, place), entry);
                effects.push(Effect::Content(ContentRequest { of, birth, size }));
            }
            Head::Durable(place, entry) => {
                self.state_spread_of(now, (id, place, entry), &Bytes::new(), facts);
            }
            // What waits there is settled by somebody else, or was taken away.
            Head::Volatile(_) | Head::Empty => {
                self.held.spreading.empty(id);
                if self.queues[&id].row.depth == 0 {
                    self.held.marks.clear(id);
                }
                if self.is_spent(id, &line) {
                    facts.push(Fact::Log(Record::QueueDeleted { queue: id }, Bytes::new()));
                }
            }
        }
        true
    }

    /// Whether nothing is in a line, and nobody is there for whom something would be again: lines
    /// must not outlive every topic on which a transaction has ever published.
    fn is_spent(&self, id: QueueId, line: &Line) -> bool {
        let row = &self.queues[&id].row;
        let moved = self.transfers.values().any(|transfer| transfer.is_to(id));
        let idle = !moved && !self.transfers.contains_key(&id) && !self.sweeps.contains_key(&id);
        let lasts = !line.scheduled && self.held.lasts(&line.topic);
        idle && row.depth == 0 && row.staged == 0 && !lasts
    }

    /// States where the first publication of a line goes; who listens hears of it now. It waits on
    /// where he has no room, and one that was to wait also where who keeps it has none.
    fn state_spread_of(
        &mut self,
        now: Millis,
        (from, place, entry): (QueueId, Place, Entry),
        content: &Bytes,
        facts: &mut Vec<Fact>,
    ) {
        let line = Arc::clone(self.held.line(from).expect("only lines are pending"));
        let message = publication(place, &entry, content);
        if entry.expires.is_some_and(|at| at <= now) {
            return self.state_expired(now, from, vec![(place, entry)], facts);
        }
        let takers = match mutant::is(Mutant::SpreadToNobody) {
            true => Vec::new(),
            false => self.takers_of(&line, (from, place), &message),
        };
        let size = (content.len() as u64, message.body_bytes());
        let heard = self.is_heard(from, &line, place);
        let judged = if line.scheduled { &takers[..] } else { &[] };
        let lacks = heard || line.scheduled;
        if lacks && self.lacks_room(&line.topic, judged, size, facts) {
            self.watch(&Destination::Topic(Arc::clone(&line.topic)));
            let until = Millis(now.0.saturating_add(limits::OCCURRENCE_RETRY_MILLIS));
            return self.held.spreading.rest(from, until);
        }
        let spread = Spread { from, place, entry, targets: self.targets(&takers) };
        facts.push(Fact::Log(Record::Spread(spread), Bytes::new()));
        let heard = heard && !self.listeners_never_take(&line.topic, content.len() as u64);
        let through = if heard { self.heard_through(from, &line, place) } else { 0 };
        let reach = if heard { self.reach(&line.topic).unwrap_or(0) } else { 0 };
        let (topic, gone) = (Arc::clone(&line.topic), Publisher::Gone { through });
        facts.push(Fact::Memory(Change::Publish { topic, message, from: gone, reach }));
        let row = &self.queues[&from].row;
        // As many have left as came before it.
        if row.last_seq - row.depth + 1 >= place.seq {
            self.held.marks.trim(from, place.seq);
        }
    }

    /// The queues that get a message of a line: those that were there when it was committed, or
    /// are when one that was to wait is published.
    pub(super) fn takers_of(
        &self,
        line: &Line,
        (from, place): (QueueId, Place),
        message: &Volatile,
    ) -> Vec<QueueId> {
        let seen = Seen::new(message.envelope(self.epoch(), 0), message.content.clone());
        let wants = |selector: &crate::selector::Selector| selector.matches(&seen);
        let takers = self.held.takers(&line.topic, line.client.as_deref(), wants);
        let there = |after: &[(QueueId, u64)]| line.scheduled || was_there(after, from, place.seq);
        takers.into_iter().filter(|(_, after)| there(after)).map(|(id, _)| id).collect()
    }

    /// The publication whose content was asked for, if it waits still.
    fn awaited(&self, id: QueueId, place: Place, request: &ContentRequest) -> Option<Entry> {
        let entry = self.queues.get(&id)?.resident_at(place)?;
        (entry.birth == request.birth).then_some(*entry)
    }

    /// Whether the content of a publication is waited for.
    pub(super) fn awaits_publication(
        &self,
        of: (QueueId, Place),
        request: &ContentRequest,
    ) -> bool {
        self.awaited(of.0, of.1, request).is_some()
    }

    /// Takes in the content of a publication, and states where it goes; or without it that it
    /// cannot be read, and what says so instead.
    pub(super) fn publication_in(
        &mut self,
        now: Millis,
        (id, place): (QueueId, Place),
        request: &ContentRequest,
        content: Result<&Bytes, Bytes>,
        facts: &mut Vec<Fact>,
    ) {
        self.held.spreading.answered(id);
        let Some(entry) = self.awaited(id, place, request) else { return };
        match content {
            Ok(content) => self.state_spread_of(now, (id, place, entry), content, facts),
            Err(cause) => self.state_damaged(now, id, (place, &entry), cause, facts),
        }
    }
}

/// What apply does, and what it looks at before.
impl Broker {
    /// A message goes to all who listen now, and if it is not persistent to all who keep it.
    pub(super) fn apply_publish(
        &mut self,
        topic: &Arc<str>,
        message: Volatile,
        from: Publisher,
        effects: &mut Effects,
    ) {
        if let Publisher::Asker(asker) = from {
            let client = self.client_of(asker.connection).cloned();
            self.keep_volatile(topic, &message, client.as_deref(), effects);
        }
        self.publish(topic, message, from, effects);
    }

    /// A non-persistent message goes to all who keep it, as long as the broker runs.
    pub(super) fn keep_volatile(
        &mut self,
        topic: &str,
        message: &Volatile,
        client: Option<&str>,
        effects: &mut Effects,
    ) {
        if message.persistent || self.held.count(topic) == 0 {
            return;
        }
        let rank = 9 - message.priority;
        let mut said = None;
        for queue in self.takers(topic, client, message) {
            let mut message = Volatile { published: true, ..message.clone() };
            if self.queues[&queue].role.catches(topic) {
                let say = || on_topic(topic, &message.content);
                message.content = said.get_or_insert_with(say).clone();
            }
            let groups = Membership::of(&message.content).is_some();
            let known = self.queue(queue);
            known.groups.seen |= groups && matches!(known.role, Role::Reads(_));
            self.apply_change(Change::Enqueue { queue, rank, message }, effects);
        }
    }

    pub(super) fn fit_published(&self, published: &Published) -> Result<(), &'static str> {
        match published.once {
            None => {}
            Some(OnceThere::Name(scope, id)) => self.durable.fit_name(scope, id)?,
            Some(OnceThere::Number(it)) => self.durable.fit_number(it)?,
        }
        self.fit_targets(&published.targets)
    }

    pub(super) fn fit_spread(&self, spread: &Spread) -> Result<(), &'static str> {
        let row = &self.queues.get(&spread.from).ok_or("no such queue")?.row;
        if row.depth == 0 || row.bytes < spread.entry.charge() {
            return Err("more messages gone than there are");
        }
        self.fit_targets(&spread.targets)
    }

    fn fit_targets(&self, targets: &[Target]) -> Result<(), &'static str> {
        if !targets.is_sorted_by(|a, b| a.queue < b.queue) {
            return Err("a queue is named twice, or not in order");
        }
        for target in targets {
            let known = self.queues.get(&target.queue).ok_or("no such queue")?;
            if known.row.last_seq + 1 != target.seq {
                return Err("its sequence number is not the next");
            }
        }
        Ok(())
    }

    pub(super) fn apply_publication(&mut self, written: Written, published: &Published) {
        let Published { at, expires, rank, once, ref targets } = *published;
        let entry = Entry::born(written, at, expires, None);
        self.saw(at);
        self.durable.born(&entry);
        match once {
            None => {}
            Some(OnceThere::Name(scope, id)) => {
                let (birth, transaction, operations) = (written.lsn, None, None);
                self.take_name(scope, NameRow { id, birth, at, transaction, operations });
            }
            Some(OnceThere::Number(it)) => self.durable.take_number(it, at, None),
        }
        self.apply_targets(rank, entry, targets);
    }

    pub(super) fn apply_spread(&mut self, spread: &Spread) {
        let Spread { from, place, entry, ref targets } = *spread;
        self.depart(from, place, &entry);
        // One that was committed in the store that this is a copy of may have been seen there.
        let seen = u32::from(entry.birth.0 < self.durable.scalars.restored);
        let entry = Entry { returns: entry.returns.max(seen), ..entry };
        if targets.is_empty() {
            self.durable.dead(entry.birth, entry.size);
        }
        self.spread_body(&entry, targets.len());
        targets.iter().for_each(|target| self.may_bring_groups(from, target.queue));
        self.apply_targets(place.rank, entry, targets);
    }

    fn apply_targets(&mut self, rank: u8, entry: Entry, targets: &[Target]) {
        if !targets.is_empty() {
            self.durable.share(entry.birth, entry.size, targets.len());
        }
        let entry = Entry { shared: true, ..entry };
        for Target { queue, seq, lent } in targets {
            let place = Place { rank, seq: *seq };
            self.durable.put(*queue, place, entry);
            self.arrive(*queue, place, entry);
            if *lent {
                self.changing(*queue).mark_lent(rank, *seq);
            }
            self.count(*queue, |c| c.sent += 1);
        }
    }
}

impl Queue {
    /// Where a client is told that a message comes from, whether that is a topic, and the topic on
    /// which it was published where that is another question.
    pub(super) fn told_as(&self, message: &Lent) -> (Arc<str>, bool, Option<Arc<str>>) {
        match &self.role {
            Role::Keeps(topic) => (Arc::clone(topic), true, None),
            _ => (Arc::clone(&self.row.name), false, self.origin(message.was_published())),
        }
    }

    /// The topic on which a message was published that lies in a queue which reads that.
    pub(super) fn origin(&self, published: bool) -> Option<Arc<str>> {
        match &self.role {
            Role::Reads(topic) if published => Some(Arc::clone(topic)),
            _ => None,
        }
    }
}

impl Lent {
    /// Whether it lies in a queue because it was published on a topic.
    fn was_published(&self) -> bool {
        match self {
            Self::Durable { entry, .. } => entry.shared,
            Self::Volatile { message, .. } => message.published,
            Self::Published { .. } => false,
        }
    }
}

/// A message that is to wait in a line of its topic: who catches it by a pattern may come later.
pub(super) fn in_line(topic: &str, message: &Message) -> Message {
    Message { content: on_topic(topic, &message.content), ..message.clone() }
}

/// What waits in a line, as those see it who get it.
pub(super) fn publication(place: Place, entry: &Entry, content: &Bytes) -> Volatile {
    Volatile {
        at: entry.at,
        expires: entry.expires,
        priority: 9 - place.rank,
        persistent: true,
        published: false,
        with_log: true,
        body: entry.upload,
        content: content.clone(),
    }
}
