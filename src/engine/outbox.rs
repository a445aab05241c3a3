//! What may leave only when the log is durable: every answer and every delivery waits here.
//!
//! Answers to one connection leave in order; deliveries to one subscription leave in the order
//! of dispatch. A delivery whose time has come then waits for its payload and for room in its
//! connection's window. Owns no rule of the broker and no byte of the wire.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use bytes::Bytes;

use crate::broker::chunks::Chunks;
use crate::broker::command::{Delivery, MessageId, Output, Refusal, Reply};
use crate::broker::delta::PieceAt;
use crate::broker::fact::{Assignment, ConsumerKey, Lent};
use crate::engine::cache::Cache;
use crate::engine::line::Line;
use crate::engine::mailbox::{Closed, Mailbox, window_bytes};
use crate::engine::stream::{End, Lookup, Stream};
use crate::ids::{ConnectionId, IdMap, IdTables, Lsn, SubscriptionId, Tag, Token, UploadId};
use crate::limits;
use crate::message::{Destination, has_wildcards, large_bytes, topic_of};

#[derive(Debug)]
pub(crate) struct Outbox {
    /// Of one connection, and of all that consume.
    window: usize,
    windows: usize,
    /// Connections with a subscription.
    consuming: usize,
    epoch: u64,
    connections: IdTables<ConnectionId, Connection>,
    held: Line<(ConnectionId, Held)>,
    /// Connections with deliveries that could move on.
    lively: BTreeSet<ConnectionId>,
    /// The last of them that was served: they take turns.
    served: ConnectionId,
    /// Deliveries that a lost connection did not get, thrown away bit by bit.
    discarded: VecDeque<Chunks<Ready>>,
    /// Where pieces of large bodies lie, to be looked up.
    lookups: Vec<Lookup>,
    /// Deliveries whose body is not what its message says.
    mismatched: Vec<(ConsumerKey, Tag, UploadId)>,
}

#[derive(Debug)]
struct Connection {
    mailbox: Arc<Mailbox>,
    /// No answer leaves before this is durable: answers keep their order.
    need: Lsn,
    subscriptions: IdMap<SubscriptionId, Subscription>,
    /// Durable deliveries that wait for payload or window.
    ready: Chunks<Ready>,
    /// So many chunks of them, from the front, may still have some whose subscription is over.
    sift: usize,
    /// Which of them is likely to get its payload next: they are read in order.
    loads_next: usize,
    /// The large body that is under way: no other delivery leaves before its end.
    stream: Option<Stream>,
    /// It is about to end, and gets nothing any more.
    ending: bool,
}

#[derive(Debug)]
struct Subscription {
    /// No delivery leaves before this is durable: deliveries keep their order.
    need: Lsn,
    /// The next delivery to leave: those before have left.
    next: Tag,
}

#[derive(Debug)]
enum Held {
    Answer(Token, Result<Reply, Refusal>),
    Delivery(Assignment),
}

#[derive(Debug)]
struct Ready {
    assignment: Assignment,
    payload: Payload,
}

#[derive(Debug)]
enum Payload {
    Unknown,
    Asked,
    Here(Bytes),
    /// It cannot be read; the broker has been told.
    Lost,
}

/// A payload to be read from the log for a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// For whom.
    pub key: ConsumerKey,
    /// For which delivery.
    pub tag: Tag,
    /// Where its frame is.
    pub birth: Lsn,
    /// Bytes of the frame.
    pub size: u32,
}

impl Outbox {
    pub(crate) fn new(window: usize, windows: usize) -> Self {
        Self {
            window,
            windows,
            consuming: 0,
            epoch: 0,
            connections: IdTables::default(),
            held: Line::default(),
            lively: BTreeSet::new(),
            served: ConnectionId(0),
            discarded: VecDeque::new(),
            lookups: Vec::new(),
            mismatched: Vec::new(),
        }
    }

    /// The life of the broker that names its non-persistent messages.
    pub(crate) fn begin(&mut self, epoch: u64) {
        self.epoch = epoch;
    }

    /// How many connections there are.
    pub(crate) fn connections(&self) -> usize {
        self.connections.len()
    }

    pub(crate) fn connect(&mut self, id: ConnectionId, mailbox: Arc<Mailbox>) {
        let connection = Connection {
            mailbox,
            need: Lsn::default(),
            subscriptions: IdMap::default(),
            ready: Chunks::default(),
            sift: 0,
            loads_next: 0,
            stream: None,
            ending: false,
        };
        self.connections.insert(id, connection);
    }

    pub(crate) fn disconnect(&mut self, id: ConnectionId) {
        let gone = self.connections.remove(&id);
        self.consuming -= usize::from(gone.is_some_and(|it| !it.subscriptions.is_empty()));
        self.lively.remove(&id);
    }

    pub(crate) fn close(&mut self, why: Closed) {
        self.connections.values().for_each(|connection| connection.mailbox.close(why));
    }

    pub(crate) fn subscribe(&mut self, key: ConsumerKey) {
        if let Some(connection) = self.connections.get_mut(&key.0) {
            let subscription = Subscription { need: Lsn::default(), next: Tag(1) };
            self.consuming += usize::from(connection.subscriptions.is_empty());
            connection.subscriptions.insert(key.1, subscription);
        }
    }

    /// A connection is about to end: what has not left for it never will.
    pub(crate) fn discard(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id)
            && !std::mem::replace(&mut connection.ending, true)
        {
            self.discarded.push_back(std::mem::take(&mut connection.ready));
            connection.stream = None;
        }
    }

    fn throw_away(&mut self) {
        let Some(first) = self.discarded.front_mut() else { return };
        if !first.drop_some() {
            self.discarded.pop_front();
        }
    }

    /// Ends a subscription: what it has not got, it never gets. Returns the first such delivery.
    pub(crate) fn unsubscribe(&mut self, key: ConsumerKey) -> Option<Tag> {
        let connection = self.connections.get_mut(&key.0)?;
        connection.sift = connection.ready.chunks();
        connection.stream.take_if(|stream| stream.key == key);
        self.lively.insert(key.0);
        let ended = connection.subscriptions.remove(&key.1)?;
        self.consuming -= usize::from(connection.subscriptions.is_empty());
        Some(connection.mailbox.unsubscribe(key.1, ended.next))
    }

    /// Holds an answer until `need`, and everything this connection was told before, is durable.
    pub(crate) fn answer(
        &mut self,
        id: ConnectionId,
        need: Lsn,
        token: Token,
        result: Result<Reply, Refusal>,
    ) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.need = connection.need.max(need);
        self.held.push(connection.need, (id, Held::Answer(token, result)));
    }

    /// Makes every later answer to a connection wait for `need`.
    pub(crate) fn depend(&mut self, id: ConnectionId, need: Lsn) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.need = connection.need.max(need);
        }
    }

    /// Holds a delivery until `need`, and everything its subscription got before, is durable.
    pub(crate) fn deliver(&mut self, need: Lsn, assignment: Assignment) {
        let (id, subscription) = assignment.key;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Some(subscription) = connection.subscriptions.get_mut(&subscription) else { return };
        subscription.need = subscription.need.max(need);
        self.held.push(subscription.need, (id, Held::Delivery(assignment)));
    }

    /// Whether an answer or a delivery needs more than `durable` (exclusive).
    pub(crate) fn awaits(&self, durable: Lsn) -> bool {
        self.held.awaits(durable)
    }

    /// Lets out what `durable` (exclusive) allows, `most` answers and deliveries about; true if
    /// there may be more.
    pub(crate) fn release(
        &mut self,
        durable: Lsn,
        most: usize,
        cache: &Cache,
        loads: &mut Vec<Load>,
    ) -> bool {
        self.throw_away();
        let (mut told, mut left) = (Vec::new(), most);
        while left > most / 2 {
            let Some((id, held)) = self.held.pop(durable) else { break };
            left -= 1;
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            match held {
                Held::Answer(token, result) => {
                    connection.mailbox.put(Output::Answer { token, result }, 0);
                    // Answers to one connection tend to come together.
                    if told.last() != Some(&id) {
                        told.push(id);
                    }
                }
                Held::Delivery(assignment) => {
                    let living = connection.subscriptions.contains_key(&assignment.key.1);
                    if living && !connection.ending {
                        let ready = Ready { assignment, payload: Payload::Unknown };
                        connection.ready.push_back(ready);
                        self.lively.insert(id);
                    }
                }
            }
        }
        let window = self.window.min(self.windows / self.consuming.max(1)).max(1);
        while left > 0
            && let Some(id) = self.next_lively()
        {
            left -= 1;
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            let (before, asked) = (left, loads.len());
            let pump = Pump { window, epoch: self.epoch, cache, left: &mut left };
            if connection.pump(pump, loads, &mut self.lookups) {
                self.lively.insert(id);
            }
            if left < before {
                told.push(id);
            }
            // To look for a payload in memory takes its time as well.
            left = left.saturating_sub(loads.len() - asked);
            if let Some(over) = connection.stream.take_if(|stream| stream.end().is_some()) {
                // What comes behind a body that broke off goes on.
                self.lively.insert(id);
                if over.end() == Some(End::Mismatch) {
                    self.mismatched.push((over.key, over.tag, over.upload));
                }
            }
        }
        for id in told {
            self.connections[&id].mailbox.notify();
        }
        !self.lively.is_empty() || self.held.has(durable) || !self.discarded.is_empty()
    }

    /// Takes the connection that is to be served next: the next after the one before.
    fn next_lively(&mut self) -> Option<ConnectionId> {
        let after = (Excluded(self.served), Unbounded);
        let next = self.lively.range(after).next().or(self.lively.first()).copied()?;
        self.lively.remove(&next);
        self.served = next;
        Some(next)
    }

    /// The window of a connection has opened.
    pub(crate) fn writable(&mut self, id: ConnectionId) {
        self.lively.insert(id);
    }

    /// The stream of that delivery, if it is under way.
    fn stream(&mut self, key: ConsumerKey, tag: Tag) -> Option<&mut Stream> {
        let stream = self.connections.get_mut(&key.0)?.stream.as_mut();
        let stream = stream.filter(|stream| (stream.key, stream.tag) == (key, tag))?;
        self.lively.insert(key.0);
        Some(stream)
    }

    /// It is known where pieces of a large body lie; `None` where it must be asked again.
    pub(crate) fn located(
        &mut self,
        (key, tag): (ConsumerKey, Tag),
        found: Option<(Vec<(u32, PieceAt)>, bool)>,
    ) {
        if let Some(stream) = self.stream(key, tag) {
            stream.located(found);
        }
    }

    /// What is to be looked up since the last call.
    pub(crate) fn lookups(&mut self) -> impl Iterator<Item = Lookup> {
        self.lookups.drain(..)
    }

    /// The deliveries found since the last call whose body is not what its message says.
    pub(crate) fn mismatched(&mut self) -> impl Iterator<Item = (ConsumerKey, Tag, UploadId)> {
        self.mismatched.drain(..)
    }

    /// A payload has come, or will not.
    pub(crate) fn loaded(&mut self, load: &Load, payload: Option<Bytes>) {
        if let Some(stream) = self.stream(load.key, load.tag) {
            return stream.loaded(load.birth, payload);
        }
        let Some(connection) = self.connections.get_mut(&load.key.0) else { return };
        if let Some(ready) = connection.waiting(load) {
            ready.payload = payload.map_or(Payload::Lost, Payload::Here);
            self.lively.insert(load.key.0);
        }
    }
}

/// How much a connection may be given now.
struct Pump<'a> {
    window: usize,
    epoch: u64,
    cache: &'a Cache,
    /// Deliveries that may still leave in this turn.
    left: &'a mut usize,
}

impl Connection {
    /// The delivery for which that was read, if it still waits.
    fn waiting(&mut self, load: &Load) -> Option<&mut Ready> {
        let of =
            |ready: &Ready| ready.assignment.key == load.key && ready.assignment.tag == load.tag;
        let next = self.loads_next;
        let at = match self.ready.get_mut(next) {
            Some(ready) if of(ready) => next,
            _ => {
                let waiting = self.ready.iter_mut().take(limits::LOADS_AHEAD_MAX);
                waiting.enumerate().find_map(|(at, ready)| of(ready).then_some(at))?
            }
        };
        self.loads_next = at + 1;
        self.ready.get_mut(at)
    }

    fn pop_ready(&mut self) -> Option<Ready> {
        self.loads_next = self.loads_next.saturating_sub(1);
        self.ready.pop_front()
    }

    /// Throws away what ended subscriptions have not got, a chunk at a time and the last first: a
    /// window takes tens of thousands. No other subscription ever has their number.
    fn sift(&mut self, left: &mut usize) {
        self.sift -= 1;
        let Self { ready, subscriptions, .. } = self;
        ready.retain_in(self.sift, |it| subscriptions.contains_key(&it.assignment.key.1));
        *left = left.saturating_sub(limits::READY_SIFTED_STEPS);
    }

    /// Moves deliveries into the mailbox while window and payloads last; true if it stopped
    /// because enough was done.
    fn pump(&mut self, pump: Pump<'_>, loads: &mut Vec<Load>, lookups: &mut Vec<Lookup>) -> bool {
        let Pump { window, epoch, cache, left } = pump;
        while self.sift > 0 && *left > 0 {
            self.sift(left);
        }
        loop {
            if *left == 0 {
                return true;
            }
            if let Some(stream) = &mut self.stream {
                *left -= usize::from(stream.flow(&self.mailbox, window, loads, lookups));
                if stream.end() != Some(End::Done) {
                    break;
                }
                self.stream = None;
                continue;
            }
            let Some(first) = self.ready.front_mut() else { break };
            first.find(cache);
            match &first.payload {
                Payload::Lost => {
                    self.pop_ready();
                    continue;
                }
                Payload::Here(_) if self.mailbox.has_window(window) => {}
                Payload::Here(_) => break,
                Payload::Unknown | Payload::Asked => {
                    self.load_ahead(window, cache, loads);
                    break;
                }
            }
            let Some(Ready { assignment, payload: Payload::Here(content) }) = self.pop_ready()
            else {
                unreachable!("just seen")
            };
            let (_, subscription) = assignment.key;
            let Some(subscription) = self.subscriptions.get_mut(&subscription) else { continue };
            subscription.next = Tag(assignment.tag.0 + 1);
            self.stream = Stream::of(&assignment, &content);
            let output = Output::Delivery(delivery(assignment, content, epoch));
            let bytes = window_bytes(&output);
            self.mailbox.put(output, bytes);
            *left -= 1;
        }
        false
    }

    /// Asks for the payloads that the window will have room for next.
    fn load_ahead(&mut self, window: usize, cache: &Cache, loads: &mut Vec<Load>) {
        let mut bytes = 0;
        for ready in self.ready.iter_mut().take(limits::LOADS_AHEAD_MAX) {
            ready.find(cache);
            let Some((birth, size)) = ready.assignment.message.in_log() else { continue };
            if matches!(ready.payload, Payload::Unknown) {
                let Assignment { key, tag, .. } = ready.assignment;
                loads.push(Load { key, tag, birth, size });
                ready.payload = Payload::Asked;
            }
            bytes += size as usize;
            if bytes >= window {
                break;
            }
        }
    }
}

impl Stream {
    /// The body of a delivery, where that comes in pieces.
    fn of(assignment: &Assignment, content: &[u8]) -> Option<Self> {
        let body = match &assignment.message {
            Lent::Durable { entry, .. } => entry.upload?,
            Lent::Published { message, .. } => message.body?,
            Lent::Volatile { .. } => return None,
        };
        // A content that says nothing of a body is found out as one that is too short.
        let bytes = large_bytes(content).unwrap_or(0);
        Some(Self::new(assignment.key, assignment.tag, body.upload(), bytes))
    }
}

impl Ready {
    /// Finds the payload if it is in memory.
    fn find(&mut self, cache: &Cache) {
        if !matches!(self.payload, Payload::Unknown) {
            return;
        }
        match &self.assignment.message {
            Lent::Durable { entry, .. } => {
                if let Some(payload) = cache.get(entry.birth) {
                    self.payload = Payload::Here(payload.clone());
                }
            }
            Lent::Volatile { message, .. } | Lent::Published { message, .. } => {
                self.payload = Payload::Here(message.content.clone());
            }
        }
    }
}

/// What comes from a durable subscription of a pattern says itself on which topic it was published.
fn told_topic(source: Arc<str>, content: &[u8]) -> Arc<str> {
    let said = if has_wildcards(&source) { topic_of(content) } else { None };
    said.map_or(source, |topic| topic.as_ref().into())
}

fn delivery(assignment: Assignment, content: Bytes, epoch: u64) -> Delivery {
    let first_of_group = assignment.first_of_group;
    let Assignment { key, tag, source, topic, origin, message, redelivered, attempt, dead, .. } =
        assignment;
    let (id, priority, persistent, at, expires) = match &message {
        Lent::Durable { place, entry, .. } => {
            (MessageId::Durable(entry.birth), 9 - place.rank, true, entry.at, entry.expires)
        }
        Lent::Volatile { place, message: m, .. } => {
            let id = MessageId::Volatile { epoch, number: place.number };
            (id, m.priority, m.persistent, m.at, m.expires)
        }
        Lent::Published { number, message: m } => {
            let id = MessageId::Volatile { epoch, number: *number };
            (id, m.priority, m.persistent, m.at, m.expires)
        }
    };
    Delivery {
        subscription: key.1,
        tag,
        from: match topic {
            true => Destination::Topic(told_topic(source, &content)),
            false => Destination::Queue(source),
        },
        origin,
        message: id,
        redelivered,
        attempt,
        first_of_group,
        priority,
        persistent,
        at,
        expires,
        dead,
        content,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::fact::Volatile;
    use crate::ids::{Body, Millis};
    use crate::message::{BodyKind, LargeHead};

    fn published(key: ConsumerKey, tag: u64, body: Option<Body>, content: Bytes) -> Assignment {
        let message = Volatile {
            at: Millis(0),
            expires: None,
            priority: 4,
            persistent: true,
            published: false,
            with_log: true,
            body,
            content,
        };
        Assignment {
            key,
            tag: Tag(tag),
            source: "t".into(),
            topic: true,
            origin: None,
            message: Lent::Published { number: tag, message },
            redelivered: false,
            attempt: 1,
            first_of_group: false,
            dead: None,
        }
    }

    #[test]
    fn what_comes_behind_a_body_that_broke_off_goes_on() {
        let (mut outbox, mailbox) = (Outbox::new(1 << 20, 1 << 20), Arc::new(Mailbox::default()));
        let (id, subscription) = (ConnectionId(1), SubscriptionId(1));
        outbox.connect(id, Arc::clone(&mailbox));
        outbox.subscribe((id, subscription));
        let body = Some(Body::new(UploadId::new(1).unwrap(), 100));
        let head = LargeHead { kind: BodyKind::Bytes, properties: Vec::new(), bytes: 100 };
        let key = (id, subscription);
        outbox.deliver(Lsn(0), published(key, 1, body, head.encode()));
        outbox.deliver(Lsn(0), published(key, 2, None, Bytes::from_static(b"behind")));
        let (cache, mut loads) = (Cache::new(0), Vec::new());
        outbox.release(Lsn(1), 100, &cache, &mut loads);
        assert_eq!(outbox.lookups().count(), 1);
        // There are no pieces: the body breaks off.
        outbox.located((key, Tag(1)), Some((Vec::new(), false)));
        while outbox.release(Lsn(1), 100, &cache, &mut loads) {}
        let mut outputs = Vec::new();
        mailbox.take(&mut outputs).unwrap();
        let came = |tag: u64| {
            let is = |it: &&Output| matches!(it, Output::Delivery(it) if it.tag == Tag(tag));
            outputs.iter().filter(is).count()
        };
        assert_eq!((came(1), came(2)), (1, 1), "{outputs:?}");
    }

    #[test]
    fn what_an_ended_subscription_has_not_got_goes_bit_by_bit_and_the_rest_comes_in_order() {
        // A window that takes one delivery, and is not emptied before the end.
        let (mut outbox, mailbox) = (Outbox::new(1, 1), Arc::new(Mailbox::default()));
        let id = ConnectionId(1);
        let [ended, other] = [(id, SubscriptionId(1)), (id, SubscriptionId(2))];
        outbox.connect(id, Arc::clone(&mailbox));
        outbox.subscribe(ended);
        outbox.subscribe(other);
        for number in 1..=5000 {
            let key = if number % 5 == 0 { other } else { ended };
            outbox.deliver(Lsn(0), published(key, number, None, Bytes::from_static(b"it")));
        }
        let (cache, mut loads) = (Cache::new(0), Vec::new());
        while outbox.release(Lsn(1), 2000, &cache, &mut loads) {}
        let waits = |outbox: &Outbox| outbox.connections[&id].ready.len();
        let before = waits(&outbox);
        assert_eq!(outbox.unsubscribe(ended), Some(Tag(2)));
        assert_eq!(waits(&outbox), before, "nothing goes in the turn of the end itself");
        let more = outbox.release(Lsn(1), 100, &cache, &mut loads);
        assert!(more && waits(&outbox) >= before - 1024, "a chunk in a short turn");
        while outbox.release(Lsn(1), 100, &cache, &mut loads) {}
        assert_eq!(waits(&outbox), 1000, "all that is over, though nothing can leave");
        let mut came = Vec::new();
        loop {
            while outbox.release(Lsn(1), 100, &cache, &mut loads) {}
            let mut outputs = Vec::new();
            mailbox.take(&mut outputs).unwrap();
            if outputs.is_empty() {
                break;
            }
            came.extend(outputs.iter().filter_map(|output| match output {
                Output::Delivery(it) if it.subscription == other.1 => Some(it.tag.0),
                _ => None,
            }));
            mailbox.written(usize::MAX);
            outbox.writable(id);
        }
        assert_eq!(waits(&outbox), 0);
        assert!(came.into_iter().eq((1..=1000).map(|it| it * 5)));
    }
}
