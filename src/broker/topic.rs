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
//!
//! A pattern (`wildcards`) is a topic to those who read from it, with a line of its own: what is
//! published goes to its own topic and to every pattern that catches its name.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
use crate::message::{Destination, Wildcard};

#[derive(Debug)]
pub(crate) struct Topic {
    /// By their seats, which are counted out to those of all topics in the order they came.
    pub(crate) subscribers: BTreeMap<u64, ConsumerKey>,
    /// What has not gone to all of its subscribers, the oldest first.
    pub(crate) line: VecDeque<Publication>,
    /// What each of them may hold.
    pub(crate) limit: Limit,
    /// What each of them holds, where a limit holds publishers or refuses them.
    pub(crate) loads: Loads,
    /// The topics on which someone waits for room in it.
    pub(crate) watched: BTreeSet<Arc<str>>,
    /// The pattern that it is.
    wildcard: Option<Wildcard>,
}

/// A message on its way to those who hear of it.
#[derive(Clone, Debug)]
pub(crate) struct News {
    number: u64,
    /// On which it was published.
    topic: Arc<str>,
    pub(crate) message: Volatile,
}

/// A message that goes to its subscribers some at a time.
#[derive(Debug)]
pub(crate) struct Publication {
    news: News,
    /// The seat of the last that has it.
    reached: u64,
    /// The last seat when it was published.
    through: u64,
}

/// A message that stands in line.
#[derive(Debug)]
pub(crate) struct Underway {
    publisher: Publisher,
    /// In how many lines: its own topic's and those of patterns.
    lines: usize,
}

impl Topic {
    fn new(limit: Limit, wildcard: Option<Wildcard>) -> Self {
        let (subscribers, line) = (BTreeMap::new(), VecDeque::new());
        let (loads, watched) = (Loads::default(), BTreeSet::new());
        Self { subscribers, line, limit, loads, watched, wildcard }
    }
}

impl Broker {
    /// How many subscriptions a message gets at once; `None` where it stands in line.
    pub(super) fn reach(&self, topic: &str) -> Option<usize> {
        let mut reach = 0;
        for name in self.audiences(topic) {
            let known = &self.topics[&name];
            reach += known.subscribers.len();
            if !known.line.is_empty() || reach > limits::PUBLISH_STEP {
                return None;
            }
        }
        Some(reach)
    }

    /// Takes a seat for a subscription.
    pub(super) fn join_topic(&mut self, topic: &Arc<str>, key: ConsumerKey) -> u64 {
        if !self.topics.contains_key(topic) {
            let wildcard = Wildcard::of(&Destination::Topic(Arc::clone(topic)));
            let wildcard = wildcard.expect("checked when it was stated");
            wildcard.iter().for_each(|it| self.topic_wildcards.add(it.clone()));
            let new = Topic::new(self.topic_limit(topic), wildcard);
            self.topics.insert(Arc::clone(topic), new);
        }
        self.last_seat += 1;
        let known = self.topics.get_mut(topic).expect("just made");
        known.subscribers.insert(self.last_seat, key);
        self.last_seat
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
        let through = match publisher {
            Publisher::Gone { through } => through.min(self.last_seat),
            Publisher::Asker(_) | Publisher::Ending(_) => self.last_seat,
        };
        let audiences: Vec<_> = self.audiences(topic).collect();
        if audiences.is_empty() || through == 0 {
            return false;
        }
        let at_once = self.reach(topic).is_some();
        self.last_volatile += 1;
        let news = News { number: self.last_volatile, topic: Arc::clone(topic), message };
        if at_once {
            let seen = self.seen(&news);
            for audience in audiences {
                let those = self.topics[&audience].subscribers.range(..=through);
                let keys: Vec<_> = those.map(|(_, key)| *key).collect();
                keys.into_iter().for_each(|key| self.offer(key, &news, &seen, effects));
            }
            return false;
        }
        self.underway.insert(news.number, Underway { publisher, lines: audiences.len() });
        for audience in audiences {
            self.hold(&news.message);
            let known = self.topics.get_mut(&audience).expect("just found");
            self.publishing_bytes += news.message.charge();
            known.line.push_back(Publication { news: news.clone(), reached: 0, through });
            if known.line.len() == 1 {
                self.publishing.push_back(audience);
            }
        }
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
        let news = first.news.clone();
        let over = if is_over { known.line.pop_front() } else { None };
        let seen = self.seen(&news);
        for (_, key) in some {
            self.offer(key, &news, &seen, effects);
        }
        // Topics take turns.
        let turn = self.publishing.pop_front();
        debug_assert_eq!(turn.as_ref(), Some(topic), "stated of the first");
        let known = self.topics.get_mut(topic).expect("just seen");
        if is_over {
            self.freed.tell_topics(&mut known.watched);
        }
        if known.line.is_empty() {
            self.drop_topic_if_idle(topic);
        } else {
            self.publishing.extend(turn);
        }
        if let Some(Publication { news, .. }) = over {
            self.let_go(&news.message);
            self.publishing_bytes -= news.message.charge();
            self.leaves_a_line(news.number, effects);
        }
    }

    /// A message stands in one line less. Its publisher hears when it has left the last.
    fn leaves_a_line(&mut self, number: u64, effects: &mut Effects) {
        let underway = self.underway.get_mut(&number).expect("it stood in line");
        underway.lines -= 1;
        if underway.lines > 0 {
            return;
        }
        let underway = self.underway.remove(&number).expect("just seen");
        match underway.publisher {
            Publisher::Asker(to) => {
                effects.push(Effect::Answer { to, result: Ok(Reply::Done) });
            }
            Publisher::Ending(number) => self.apply_published(number, effects),
            Publisher::Gone { .. } => {}
        }
    }

    /// A topic that nobody hears and in whose line nothing stands is no more.
    fn drop_topic_if_idle(&mut self, topic: &Arc<str>) {
        let Some(known) = self.topics.get(topic) else { return };
        if known.subscribers.is_empty() && known.line.is_empty() {
            known.wildcard.iter().for_each(|wildcard| self.topic_wildcards.remove(wildcard));
            self.topics.remove(topic);
        }
    }

    /// A message as the selectors of its subscribers see it.
    fn seen(&self, news: &News) -> Seen {
        let message = &news.message;
        Seen::new(message.envelope(self.epoch(), news.number), message.content.clone())
    }

    /// A message waits for a subscriber that wants it, and goes there as soon as its credit allows.
    fn offer(&mut self, key: ConsumerKey, news: &News, seen: &Seen, effects: &mut Effects) {
        let consumer = self.consumers.get_mut(&key).expect("a topic knows only the living");
        if consumer.selector.as_ref().is_some_and(|selector| !selector.matches(seen)) {
            return;
        }
        consumer.backlog.push_back(news.clone());
        consumer.holds(&news.message);
        self.hold(&news.message);
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
        let bodies = self.limits.large_bytes.max(limit / limits::TOPIC_SHARE);
        let (memory, mut dropped) = (self.volatile_bytes, Vec::new());
        let mut freed = 0;
        while consumer.is_behind()
            || drops
                && (consumer.backlog.len() + consumer.loans.len() > 1
                    && (consumer.held_bytes > limit / limits::TOPIC_SHARE
                        || consumer.held_bodies > bodies
                            && consumer.backlog.len() > consumer.credit()
                        || consumer.held_bytes + consumer.held_bodies > bytes
                        || memory - freed > limit)
                    || consumer.backlog.len() as u64 > messages + consumer.credit() as u64)
        {
            let Some(News { message, .. }) = consumer.backlog.pop_front() else { break };
            consumer.loses(&message);
            freed += message.charge();
            dropped.push(message);
        }
        self.freed.tell_topics(&mut topic.watched);
        self.dropped.from_topics += dropped.len() as u64;
        dropped.iter().for_each(|message| self.let_go(message));
        let consumer = self.consumers.get_mut(&key).expect("just seen");
        while consumer.credit() > 0 {
            let Some(News { number, topic, message }) = consumer.backlog.pop_front() else {
                return;
            };
            let lent = Lent::Published { number, message };
            effects.push(Effect::Deliver(Assignment {
                key,
                tag: consumer.lend(lent.clone()),
                source: topic,
                topic: true,
                origin: None,
                message: lent,
                redelivered: false,
                attempt: 1,
                first_of_group: false,
                dead: None,
            }));
        }
    }

    /// What one transaction may publish on a topic: where that is bounded, no more than a
    /// subscriber may hold that waits for all of it.
    pub(super) fn topic_bound(&self, topic: &str) -> Limit {
        let mut limits: Vec<_> = self.audiences(topic).map(|it| self.topics[&it].limit).collect();
        limits.push(self.topic_limit(topic));
        limits.retain(|limit| limit.when_full != WhenFull::DropOldest);
        let least = |least: Limit, limit: Limit| Limit {
            messages: least.messages.min(limit.messages),
            bytes: least.bytes.min(limit.bytes),
            when_full: limit.when_full,
        };
        limits.into_iter().fold(Limit::NONE, least)
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
            self.freed.tell_topics(&mut known.watched);
            // Whoever stands in line is told first.
            self.drop_topic_if_idle(topic);
        }
    }
}
