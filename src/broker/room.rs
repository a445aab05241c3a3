//! Whether there is room for a send, what makes room for it, and who hears when there is again.
//!
//! Owns the judgement of limits against the state. Always: what is judged to fit exceeds no limit
//! when it is applied, and a send that can never fit is refused and not held. Leaves the limits
//! to `policy`, and the sends that wait to the engine.

use std::sync::Arc;

use crate::broker::command::Refusal;
use crate::broker::fact::{Change, Fact, VolatilePlace};
use crate::broker::held::Role;
use crate::broker::policy::{Dropped, Held, Limit, Policies, Shortage, WhenFull};
use crate::broker::queue::Queue;
use crate::broker::topic::Topic;
use crate::broker::{Broker, Limits, Verdict};
use crate::ids::QueueId;
use crate::limits;
use crate::message::{Destination, Durability};

/// Whether a send may be taken now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It may.
    Enough,
    /// It must wait.
    Lacking(Shortage),
}

impl Room {
    /// What one must do for it that does not name the destination itself.
    pub(super) fn wait(self, to: Destination) -> Option<Verdict> {
        match self {
            Self::Enough => None,
            Self::Lacking(shortage) => Some(Verdict::HoldFor(to, shortage)),
        }
    }
}

/// Whether it may, and what must go for it.
type Judgement = Result<(Room, Vec<VolatilePlace>), Refusal>;

impl Broker {
    /// Puts destinations under limits and rules; without it none has any. Also those that exist.
    pub fn govern(&mut self, policies: Arc<Policies>) {
        for queue in self.queues.values_mut() {
            queue.limit = policies.of_queue(&queue.row.name);
            queue.redelivery = policies.redelivery_of(&queue.row.name);
        }
        self.held.readers.off = !policies.virtual_topics;
        self.policies = policies;
    }

    /// Whether a message of `content` bytes may be sent now, for those who would know before it
    /// has come. The send is judged again when it is decided.
    ///
    /// # Errors
    /// The refusal that it would meet.
    pub fn room_for(
        &self,
        to: &Destination,
        durability: Durability,
        content: u64,
    ) -> Result<Room, Refusal> {
        match to {
            Destination::Queue(name) => self.queue_room(name, durability, content, &mut Vec::new()),
            Destination::Topic(name) => self.topic_room(name, (content, 0)),
        }
    }

    /// Whether what is sent to a queue makes its own room there.
    pub(crate) fn drops_oldest(&self, name: &Arc<str>) -> bool {
        self.limit_of(name, self.known(name)).when_full == WhenFull::DropOldest
    }

    /// What a queue may hold, or would.
    fn limit_of(&self, name: &str, known: Option<(QueueId, &Queue)>) -> Limit {
        known.map_or_else(|| self.policies.of_queue(name), |(_, queue)| queue.limit)
    }

    /// Judges a send to a queue; what must go for it is stated in `facts`.
    pub(super) fn queue_room(
        &self,
        name: &Arc<str>,
        durability: Durability,
        content: u64,
        facts: &mut Vec<Fact>,
    ) -> Result<Room, Refusal> {
        self.room_in(name, self.known(name), (durability, content), facts)
    }

    /// The same of a queue that was looked up.
    pub(super) fn room_in(
        &self,
        name: &Arc<str>,
        known: Option<(QueueId, &Queue)>,
        (durability, content): (Durability, u64),
        facts: &mut Vec<Fact>,
    ) -> Result<Room, Refusal> {
        let (room, ousted) = match durability {
            Durability::Persistent => {
                self.judge(name, known, content + limits::STORED_OVERHEAD_BYTES, false)?
            }
            Durability::NonPersistent => {
                self.judge(name, known, content + limits::VOLATILE_OVERHEAD_BYTES, true)?
            }
        };
        if let (Some((queue, _)), false) = (known, ousted.is_empty()) {
            facts.push(Fact::Memory(Change::Oust { queue, places: ousted }));
        }
        Ok(room)
    }

    fn judge(
        &self,
        name: &Arc<str>,
        known: Option<(QueueId, &Queue)>,
        bytes: u64,
        volatile: bool,
    ) -> Judgement {
        let limit = self.limit_of(name, known);
        let destination = || Destination::Queue(Arc::clone(name));
        never_fits(&limit, bytes, destination)?;
        let memory = self.limits.volatile_bytes;
        let short = if volatile { (self.volatile_bytes + bytes).saturating_sub(memory) } else { 0 };
        if volatile && bytes > memory {
            return Err(Refusal::MemoryFull { limit: memory });
        }
        let held = known.map_or(Held::default(), |(_, queue)| queue.held());
        let exceeded = limit.exceeded(held, bytes);
        let Some((_, queue)) = known.filter(|_| limit.when_full == WhenFull::DropOldest) else {
            return match (exceeded, short) {
                (None, 0) => Ok((Room::Enough, Vec::new())),
                (Some(measure), _) if limit.when_full != WhenFull::Hold => {
                    Err(Refusal::DestinationFull { destination: destination(), limit: measure })
                }
                (Some(_), _) => Ok((Room::Lacking(Shortage::Destination), Vec::new())),
                (None, _) if self.policies.when_memory_full == WhenFull::Hold => {
                    Ok((Room::Lacking(Shortage::Memory), Vec::new()))
                }
                (None, _) => Err(Refusal::MemoryFull { limit: memory }),
            };
        };
        let ousted = oust(queue, queue.held(), &limit, bytes, short);
        match (ousted, exceeded) {
            (Some(ousted), _) => Ok((Room::Enough, ousted)),
            (None, Some(limit)) => {
                Err(Refusal::DestinationFull { destination: destination(), limit })
            }
            (None, None) => Err(Refusal::MemoryFull { limit: memory }),
        }
    }

    /// Judges what a transaction sends to a queue, as one, when what it has `taken` out of it goes;
    /// what must go for it beside that is stated in `facts`.
    pub(super) fn room_for_many(
        &self,
        id: QueueId,
        queue: &Queue,
        (sent, taken): (Held, Held),
        facts: &mut Vec<Fact>,
    ) -> Result<Room, Refusal> {
        // However full the queue is, this makes it no fuller, and may be all that is ever taken.
        if sent.messages <= taken.messages && sent.bytes <= taken.bytes {
            return Ok(Room::Enough);
        }
        let Held { messages, bytes } = queue.held();
        let held = Held {
            messages: (messages + sent.messages - 1).saturating_sub(taken.messages),
            bytes: bytes.saturating_sub(taken.bytes),
        };
        let Some(limit) = queue.limit.exceeded(held, sent.bytes) else { return Ok(Room::Enough) };
        let ousted = match queue.limit.when_full {
            WhenFull::Hold => return Ok(Room::Lacking(Shortage::Destination)),
            WhenFull::Refuse => None,
            WhenFull::DropOldest => oust(queue, held, &queue.limit, sent.bytes, 0),
        };
        let destination = Destination::Queue(Arc::clone(&queue.row.name));
        let places = ousted.ok_or(Refusal::DestinationFull { destination, limit })?;
        facts.push(Fact::Memory(Change::Oust { queue: id, places }));
        Ok(Room::Enough)
    }

    /// Judges a message published on a topic, of so many bytes of content, and of a body that lies
    /// in the log.
    pub(super) fn topic_room(
        &self,
        name: &Arc<str>,
        (content, body): (u64, u64),
    ) -> Result<Room, Refusal> {
        let memory = content + limits::VOLATILE_OVERHEAD_BYTES;
        let sent = Held { messages: 1, bytes: memory + body };
        self.topic_room_for_many(name, sent, memory, 0)
    }

    /// Judges what is published on a topic as one, and takes so much of memory for each who hears
    /// of it. So many bytes of it are counted already.
    pub(super) fn topic_room_for_many(
        &self,
        name: &Arc<str>,
        sent: Held,
        memory: u64,
        counted: u64,
    ) -> Result<Room, Refusal> {
        let (mut room, mut all) = (Room::Enough, 0);
        for audience in self.audiences(name) {
            let topic = &self.topics[&audience];
            let of_topic = self.room_of_topic(name, topic, (sent, memory), (&mut all, counted))?;
            if room == Room::Enough {
                room = of_topic;
            }
        }
        Ok(room)
    }

    /// The same of one of those who hear of it; `all` is what those before it take.
    fn room_of_topic(
        &self,
        name: &Arc<str>,
        topic: &Topic,
        (sent, each): (Held, u64),
        (all, counted): (&mut u64, u64),
    ) -> Result<Room, Refusal> {
        let memory = self.limits.volatile_bytes;
        if topic.limit.when_full == WhenFull::DropOldest {
            // Nobody is waited for, only the broker itself; one message a topic may always have.
            let full = !topic.line.is_empty()
                && (topic.line.len() >= limits::PUBLICATIONS_MAX
                    || self.publishing_bytes + each > memory / limits::TOPIC_SHARE);
            let lacking = Room::Lacking(Shortage::Destination);
            return Ok(if full { lacking } else { Room::Enough });
        }
        // What stands in line has not taken its room everywhere: until it has, nobody can tell.
        if !topic.line.is_empty() {
            return Ok(Room::Lacking(Shortage::Destination));
        }
        let destination = || Destination::Topic(Arc::clone(name));
        never_fits(&topic.limit, sent.bytes, destination)?;
        let refuses = topic.limit.when_full == WhenFull::Refuse;
        if let Some(limit) = topic.loads.exceeded(&topic.limit, sent) {
            let refusal = Refusal::DestinationFull { destination: destination(), limit };
            return if refuses { Err(refusal) } else { Ok(Room::Lacking(Shortage::Destination)) };
        }
        *all = all.saturating_add(each.saturating_mul(topic.subscribers.len() as u64));
        if (self.volatile_bytes - counted).saturating_add(*all) <= memory {
            return Ok(Room::Enough);
        }
        let refuses = refuses || *all > memory;
        let refusal = Refusal::MemoryFull { limit: memory };
        if refuses { Err(refusal) } else { Ok(Room::Lacking(Shortage::Memory)) }
    }

    /// Asks to hear, by [`Broker::take_freed`], when there may be room in a destination again.
    pub fn watch(&mut self, to: &Destination) {
        let found = match to {
            Destination::Queue(name) => {
                let queue = self.names.get(name).and_then(|id| self.queues.get_mut(id));
                queue.map(|queue| queue.watched = true).is_some()
            }
            Destination::Topic(name) => {
                let audiences: Vec<_> = self.audiences(name).collect();
                for audience in &audiences {
                    let topic = self.topics.get_mut(audience).expect("just found");
                    topic.watched.insert(Arc::clone(name));
                }
                self.watch_kept(name) || !audiences.is_empty()
            }
        };
        // It has gone meanwhile: whoever is held begins it anew.
        if !found {
            self.freed.push(to.clone());
        }
    }

    /// Places that a queue's window may have: few where all windows together are full.
    pub(super) fn window_max(&self) -> usize {
        let Limits { resident, resident_of_all, .. } = self.limits;
        if self.resident < resident_of_all {
            return resident;
        }
        resident.min(limits::QUEUE_WINDOW_MIN)
    }

    /// Something has left a queue.
    pub(super) fn free(&mut self, id: QueueId) {
        if let Some(queue) = self.queues.get_mut(&id) {
            let Queue { watched, row, role, .. } = &mut **queue;
            // A line in which nothing is any more may go.
            if *role == Role::Line && row.depth == 0 && row.staged == 0 {
                self.held.spreading.wake(id);
            }
            let by_topic = |topic: &Arc<str>| Destination::Topic(Arc::clone(topic));
            // Those who send to it wait for it, and those who publish.
            if let (true, Role::Reads(topic)) = (*watched, &*role) {
                self.freed.push(by_topic(topic));
            }
            if let Some(mut topics) = self.held.awaited.remove(&id) {
                self.freed.tell_topics(&mut topics);
            }
            self.freed.tell(watched, || match role {
                Role::Keeps(topic) => by_topic(topic),
                Role::Line => by_topic(&self.held.line(id).expect("it is one").topic),
                Role::Plain | Role::Reads(_) => Destination::Queue(Arc::clone(&row.name)),
            });
        }
    }

    /// Bytes of messages that live in memory alone.
    #[must_use]
    pub fn volatile_bytes(&self) -> u64 {
        self.volatile_bytes
    }

    /// What a queue holds, in messages and bytes; for checks.
    #[cfg(test)]
    pub(crate) fn holds(&self, name: &str) -> (u64, u64) {
        let held = self.names.get(name).map(|id| self.queues[id].held()).unwrap_or_default();
        (held.messages, held.bytes)
    }

    /// Whether the count of places in windows is that of the windows; for checks.
    #[cfg(test)]
    pub(crate) fn counts_windows(&self) -> bool {
        self.resident == self.queues.values().map(|queue| queue.resident_len()).sum::<usize>()
    }

    /// What was dropped for want of room in this life.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }
}

fn never_fits(
    limit: &Limit,
    bytes: u64,
    destination: impl Fn() -> Destination,
) -> Result<(), Refusal> {
    if limit.when_full != WhenFull::DropOldest && bytes > limit.bytes {
        let (destination, limit) = (destination(), limit.bytes);
        return Err(Refusal::NeverFits { destination, size: bytes, limit });
    }
    Ok(())
}

/// The messages of a queue that must go for one of `bytes`, so that `short` bytes of memory are
/// free too; `None` where all that may go are not enough, or are too many for one step.
fn oust(
    queue: &Queue,
    mut held: Held,
    limit: &Limit,
    bytes: u64,
    short: u64,
) -> Option<Vec<VolatilePlace>> {
    let (mut freed, mut ousted) = (0, Vec::new());
    let mut least = queue.least_first();
    while limit.exceeded(held, bytes).is_some() || freed < short {
        let (place, message) = least.next()?;
        if ousted.len() == limits::STEP_MESSAGES_MAX {
            return None;
        }
        held.messages -= 1;
        held.bytes -= message.charge();
        freed += message.charge();
        ousted.push(place);
    }
    Some(ousted)
}

/// Messages of a queue that goes beyond its limit that may go, as many as must and as one step may.
pub(super) fn excess(queue: &Queue) -> Vec<VolatilePlace> {
    let (limit, mut held, mut places) = (&queue.limit, queue.held(), Vec::new());
    if limit.when_full != WhenFull::DropOldest {
        return places;
    }
    let mut least = queue.least_first().take(limits::STEP_MESSAGES_MAX);
    while held.messages > limit.messages || held.bytes > limit.bytes {
        let Some((place, message)) = least.next() else { break };
        held.messages -= 1;
        held.bytes -= message.charge();
        places.push(place);
    }
    places
}
