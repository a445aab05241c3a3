//! Topics: a message goes to every subscription connected now, and waits for none of them.
//!
//! A subscriber that is too slow misses the oldest messages, and the others and the publisher
//! do not notice: a topic without durable subscriptions promises no more. Where a limit says so
//! the publisher is held or refused instead (`room`).
//!
//! A message for few subscriptions goes to all of them at once. One for more stands in the topic's
//! *line* and goes to some of them at a time; its publisher waits for the last. Always: what is
//! published while the line is not empty stands behind it, so each subscription gets everything in
//! one order; a message goes to those who had subscribed when it was published and have not left.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound::{Excluded, Included};
use std::sync::Arc;

use crate::broker::command::Reply;
use crate::broker::fact::{
    Assignment, Change, ConsumerKey, Effect, Fact, Lent, Publisher, Source, Volatile,
};
use crate::broker::load::{Load, Loads};
use crate::broker::policy::{Limit, WhenFull};
use crate::broker::subject::Seen;
use crate::broker::{Broker, Effects};
use crate::limits;
use crate::message::Destination;

#[derive(Debug)]
pub(crate) struct Topic {
    /// By their seats, which are counted out in the order they came.
    pub(crate) subscribers: BTreeMap<u64, ConsumerKey>,
    last_seat: u64,
    /// What has not gone to all of its subscribers, the oldest first.
    pub(crate) line: VecDeque<Publication>,
    /// What each of them may hold.
    pub(crate) limit: Limit,
    /// What each of them holds, where a limit holds publishers or refuses them.
    pub(crate) loads: Loads,
    /// Someone waits for room in it.
    pub(crate) watched: bool,
}

/// A message that goes to its subscribers some at a time.
#[derive(Debug)]
pub(crate) struct Publication {
    number: u64,
    message: Volatile,
    /// The seat of the last that has it.
    reached: u64,
    /// The last seat when it was published.
    through: u64,
    publisher: Publisher,
}

impl Topic {
    fn new(limit: Limit) -> Self {
        let (subscribers, line) = (BTreeMap::new(), VecDeque::new());
        let loads = Loads::default();
        Self { subscribers, last_seat: 0, line, limit, loads, watched: false }
    }
}

impl Broker {
    /// How many subscriptions a message gets at once; `None` where it stands in line.
    pub(super) fn reach(&self, topic: &str) -> Option<usize> {
        let Some(topic) = self.topics.get(topic) else { return Some(0) };
        let at_once = topic.line.is_empty() && topic.subscribers.len() <= limits::PUBLISH_STEP;
        at_once.then_some(topic.subscribers.len())
    }

    /// Takes a seat for a subscription.
    pub(super) fn join_topic(&mut self, topic: &Arc<str>, key: ConsumerKey) -> u64 {
        let limit = self.topic_limit(topic);
        let known = self.topics.entry(Arc::clone(topic)).or_insert_with(|| Topic::new(limit));
        known.last_seat += 1;
        known.subscribers.insert(known.last_seat, key);
        known.last_seat
    }

    /// Publishes a message: to all at once where they are few, otherwise in its turn. Whoever is to
    /// hear of the end hears only where it is not at once; true in that case.
    pub(super) fn publish(
        &mut self,
        topic: &Arc<str>,
        message: Volatile,
        publisher: Publisher,
        effects: &mut Effects,
    ) -> bool {
        self.published += 1;
        let at_once = self.reach(topic).is_some();
        let Some(known) = self.topics.get_mut(topic) else { return false };
        self.last_volatile += 1;
        let (number, through) = (self.last_volatile, known.last_seat);
        if at_once {
            let keys: Vec<_> = known.subscribers.values().copied().collect();
            let seen = self.seen(number, &message);
            keys.into_iter().for_each(|key| self.offer(key, number, &message, &seen, effects));
            return false;
        }
        if known.line.is_empty() {
            self.publishing.push_back(Arc::clone(topic));
        }
        self.volatile_bytes += message.charge();
        self.publishing_bytes += message.charge();
        known.line.push_back(Publication { number, message, reached: 0, through, publisher });
        true
    }

    /// States that the next topic with a line comes on with it; false where there is none.
    pub(super) fn state_publication(&self, facts: &mut Vec<Fact>) -> bool {
        let Some(topic) = self.publishing.front() else { return false };
        facts.push(Fact::Memory(Change::PublishOn { topic: Arc::clone(topic) }));
        true
    }

    /// The first message in a topic's line goes to some more of its subscribers.
    pub(super) fn apply_publish_on(&mut self, topic: &Arc<str>, effects: &mut Effects) {
        let known = self.topics.get_mut(topic).expect("one with a line stays");
        let first = known.line.front_mut().expect("stated of one with a line");
        // A range that begins behind its end would be a defect of the map's caller.
        let range = (Excluded(first.reached), Included(first.through.max(first.reached + 1)));
        let seats = known.subscribers.range(range).take_while(|(seat, _)| **seat <= first.through);
        let some: Vec<_> = seats.take(limits::PUBLISH_STEP).map(|(s, key)| (*s, *key)).collect();
        let is_over = some.len() < limits::PUBLISH_STEP;
        first.reached = some.last().map_or(first.reached, |(seat, _)| *seat);
        let (number, message) = (first.number, first.message.clone());
        let over = if is_over { known.line.pop_front() } else { None };
        let seen = self.seen(number, &message);
        for (_, key) in some {
            self.offer(key, number, &message, &seen, effects);
        }
        // Topics take turns.
        let turn = self.publishing.pop_front();
        debug_assert_eq!(turn.as_ref(), Some(topic), "stated of the first");
        let known = self.topics.get_mut(topic).expect("just seen");
        if is_over {
            self.freed.tell(&mut known.watched, || Destination::Topic(Arc::clone(topic)));
        }
        if known.line.is_empty() {
            if known.subscribers.is_empty() {
                self.topics.remove(topic);
            }
        } else {
            self.publishing.extend(turn);
        }
        if let Some(over) = over {
            self.volatile_bytes -= over.message.charge();
            self.publishing_bytes -= over.message.charge();
            self.tell_publisher(over.publisher, effects);
        }
    }

    /// A message has gone to all of its subscribers.
    fn tell_publisher(&mut self, publisher: Publisher, effects: &mut Effects) {
        match publisher {
            Publisher::Asker(to) => {
                effects.push(Effect::Answer { to, result: Ok(Reply::Done) });
            }
            Publisher::Ending(number) => self.apply_published(number, effects),
        }
    }

    /// A message as the selectors of its subscribers see it.
    fn seen(&self, number: u64, message: &Volatile) -> Seen {
        Seen::new(message.envelope(self.epoch(), number), message.content.clone())
    }

    /// A message waits for a subscriber that wants it, and goes there as soon as its credit allows.
    fn offer(
        &mut self,
        key: ConsumerKey,
        number: u64,
        message: &Volatile,
        seen: &Seen,
        effects: &mut Effects,
    ) {
        let consumer = self.consumers.get_mut(&key).expect("a topic knows only the living");
        if consumer.selector.as_ref().is_some_and(|selector| !selector.matches(seen)) {
            return;
        }
        consumer.backlog.push_back((number, message.clone()));
        self.volatile_bytes += message.charge();
        consumer.held_bytes += message.charge();
        self.serve_subscriber(key, effects);
    }

    /// Drops the oldest of what waits for a subscriber beyond its share of the memory, then hands
    /// out what its credit allows. One message it may hold, however large.
    pub(super) fn serve_subscriber(&mut self, key: ConsumerKey, effects: &mut Effects) {
        self.hand_to_subscriber(key, effects);
        self.weigh(key);
    }

    fn hand_to_subscriber(&mut self, key: ConsumerKey, effects: &mut Effects) {
        let limit = self.limits.volatile_bytes;
        let consumer = self.consumers.get_mut(&key).expect("served while it exists");
        let Source::Topic(source) = consumer.source.clone() else { return };
        let topic = self.topics.get_mut(&source).expect("it has this subscriber");
        let Limit { messages, bytes, when_full } = topic.limit;
        // Where publishers are held or refused, only what there was room for has come this far.
        let drops = when_full == WhenFull::DropOldest;
        while drops
            && (consumer.backlog.len() + consumer.loans.len() > 1
                && (consumer.held_bytes > (limit / limits::TOPIC_SHARE).min(bytes)
                    || self.volatile_bytes > limit)
                || consumer.backlog.len() as u64 > messages + consumer.credit() as u64)
        {
            let Some((_, message)) = consumer.backlog.pop_front() else { return };
            consumer.held_bytes -= message.charge();
            self.volatile_bytes -= message.charge();
            self.dropped.from_topics += 1;
        }
        self.freed.tell(&mut topic.watched, || Destination::Topic(Arc::clone(&source)));
        while consumer.credit() > 0 {
            let Some((number, message)) = consumer.backlog.pop_front() else { return };
            let lent = Lent::Published { number, message };
            effects.push(Effect::Deliver(Assignment {
                key,
                tag: consumer.lend(lent.clone()),
                source: Arc::clone(&source),
                topic: true,
                message: lent,
                redelivered: false,
                attempt: 1,
                dead: None,
            }));
        }
    }

    /// What one transaction may publish on a topic: where that is bounded, no more than a
    /// subscriber may hold that waits for all of it.
    pub(super) fn topic_bound(&self, topic: &str) -> Limit {
        let known = self.topics.get(topic).map(|known| known.limit);
        let limit = known.unwrap_or_else(|| self.topic_limit(topic));
        if limit.when_full == WhenFull::DropOldest { Limit::NONE } else { limit }
    }

    /// What each subscriber of a topic may hold.
    pub(super) fn topic_limit(&self, topic: &str) -> Limit {
        let messages = self.limits.topic_backlog as u64;
        let general = Limit { messages, bytes: u64::MAX, when_full: WhenFull::DropOldest };
        self.policies.of_topic(topic).unwrap_or(general)
    }

    pub(super) fn leave_topic(&mut self, topic: &Arc<str>, seat: u64, weighed: Option<Load>) {
        if let Some(known) = self.topics.get_mut(topic) {
            known.subscribers.remove(&seat);
            known.loads.replace(seat, weighed, None);
            self.freed.tell(&mut known.watched, || Destination::Topic(Arc::clone(topic)));
            // Whoever stands in line is told first.
            if known.subscribers.is_empty() && known.line.is_empty() {
                self.topics.remove(topic);
            }
        }
    }
}
