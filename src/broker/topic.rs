//! Topics: a message goes to every subscription connected now, and waits for none of them.
//!
//! A subscriber that is too slow misses the oldest messages, and the others and the publisher
//! do not notice: a topic without durable subscriptions promises no more. Where a limit says so
//! the publisher is held or refused instead (`room`).

use std::sync::Arc;

use crate::broker::fact::{Assignment, ConsumerKey, Effect, Lent, Source, Volatile};
use crate::broker::policy::{Limit, WhenFull};
use crate::broker::{Broker, Effects};
use crate::limits;
use crate::message::Destination;

#[derive(Debug)]
pub(crate) struct Topic {
    /// In the order they came.
    pub(crate) subscribers: Vec<ConsumerKey>,
    /// What each of them may hold.
    pub(crate) limit: Limit,
    /// Someone waits for room in it.
    pub(crate) watched: bool,
}

impl Broker {
    pub(super) fn publish(&mut self, topic: &Arc<str>, message: &Volatile, effects: &mut Effects) {
        let Some(subscribers) = self.topics.get(topic).map(|topic| topic.subscribers.clone())
        else {
            return;
        };
        self.last_volatile += 1;
        for key in subscribers {
            let consumer = self.consumers.get_mut(&key).expect("a topic knows only the living");
            consumer.backlog.push_back((self.last_volatile, message.clone()));
            self.volatile_bytes += message.charge();
            consumer.held_bytes += message.charge();
            self.serve_subscriber(key, effects);
        }
    }

    /// Drops the oldest of what waits for a subscriber beyond its share of the memory, then hands
    /// out what its credit allows. One message it may hold, however large.
    pub(super) fn serve_subscriber(&mut self, key: ConsumerKey, effects: &mut Effects) {
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

    /// What each subscriber of a topic may hold.
    pub(super) fn topic_limit(&self, topic: &str) -> Limit {
        let messages = self.limits.topic_backlog as u64;
        let general = Limit { messages, bytes: u64::MAX, when_full: WhenFull::DropOldest };
        self.policies.of_topic(topic).unwrap_or(general)
    }

    pub(super) fn leave_topic(&mut self, topic: &Arc<str>, key: ConsumerKey) {
        if let Some(known) = self.topics.get_mut(topic) {
            known.subscribers.retain(|subscriber| *subscriber != key);
            self.freed.tell(&mut known.watched, || Destination::Topic(Arc::clone(topic)));
            if known.subscribers.is_empty() {
                self.topics.remove(topic);
            }
        }
    }
}
