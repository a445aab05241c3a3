//! What a new listener to advisories is told: what is there already.
//!
//! Always: it is told in pages, with the broker's answer between two of them, so that a listener
//! that reads slowly holds little; what changes meanwhile it hears as everybody does, at worst what
//! it was told already; and its command is answered behind the last page. Who listens to every
//! advisory there is hears of what comes alone.

use super::OpenWireSession;
use super::advisory::{QUEUE, is_advisory};
use super::answers::Asked;
use super::consumer::ConsumerKey;
use super::names;
use super::present::{Kind, Properties, Subject, destination_info};
use super::stored::Outgoing;
use crate::broker::command::{Command, Refusal, Reply};
use crate::limits;
use crate::message::Destination;
use crate::protocol::openwire::{CommandHead, Structure};

/// The pattern whose listeners are told nothing of what is there.
const EVERYTHING: &str = "ActiveMQ.Advisory.>";

/// How far a listener was told.
#[derive(Debug)]
pub(super) struct Replay {
    /// The command that is answered behind it.
    head: CommandHead,
    consumer: ConsumerKey,
    /// What is still to be told, the last first.
    kinds: Vec<Kind>,
    after: Option<Subject>,
    queues: bool,
}

impl OpenWireSession {
    /// Tells a new consumer what there is, if it listens to advisories, and answers its command.
    pub(super) fn replay_advisories(&mut self, head: CommandHead, key: &ConsumerKey) {
        let topics = self.topics_of(key);
        let wants = |prefix: &str| topics.iter().any(|topic| may_cover(topic, prefix));
        let kinds = Kind::ALL.into_iter().rev().filter(|kind| wants(kind.prefix())).collect();
        let (consumer, queues) = (key.clone(), wants(QUEUE));
        self.replay(Replay { head, consumer, kinds, after: None, queues });
    }

    /// The topics of advisories that a consumer listens to, and patterns of such.
    fn topics_of(&self, key: &ConsumerKey) -> Vec<Destination> {
        let Some(consumer) = self.consumers.get(key) else { return Vec::new() };
        let topics = consumer.destinations.iter().filter(|topic| is_advisory(topic));
        topics.filter(|topic| topic.name() != EVERYTHING).cloned().collect()
    }

    fn replay(&mut self, mut replay: Replay) {
        let (limit, topics) = (limits::ADVISORIES_A_PAGE, self.topics_of(&replay.consumer));
        let mut room = limit;
        while room > 0 && !topics.is_empty() {
            let Some(kind) = replay.kinds.last().copied() else { break };
            let page = self.config.registry.present(kind, replay.after.as_ref(), room);
            if page.len() < room {
                replay.kinds.pop();
                replay.after = None;
            } else {
                replay.after = page.last().map(|told| told.subject.clone());
            }
            room -= page.len();
            for told in page {
                let mut properties = told.kind.properties(told.count);
                properties.extend(told.fact.more);
                let (topic, about) = (&*told.fact.topic, told.fact.about);
                if topics.iter().any(|it| names::reads(it, topic)) {
                    self.tell_one(&replay.consumer, topic, about, properties);
                }
            }
        }
        match (topics.is_empty(), replay.kinds.is_empty(), replay.queues) {
            (true, ..) | (_, true, false) => self.done(replay.head),
            (_, false, _) => self.submit(Some(Asked::Replay(replay)), Command::Barrier),
            (_, true, true) => {
                let command = Command::ListQueues { after: None };
                self.submit(Some(Asked::Replay(replay)), command);
            }
        }
    }

    /// The broker has done with the page before, or tells which queues there are.
    pub(super) fn replay_on(&mut self, replay: Replay, result: Result<Reply, Refusal>) {
        let Ok(Reply::Queues(queues)) = result else { return self.replay(replay) };
        let last = queues.last().map(|queue| queue.name.clone());
        let (Some(last), Some(_)) = (last, self.consumers.get(&replay.consumer)) else {
            return self.done(replay.head);
        };
        for queue in queues {
            let queue = Destination::queue(&*queue.name);
            if !names::is_temporary(&queue) {
                let about = destination_info(&queue, false).into();
                self.tell_one(&replay.consumer, QUEUE, about, Vec::new());
            }
        }
        let command = Command::ListQueues { after: Some(last) };
        self.submit(Some(Asked::Replay(replay)), command);
    }

    /// Tells one consumer alone.
    fn tell_one(
        &mut self,
        key: &ConsumerKey,
        topic: &str,
        about: Structure,
        properties: Properties,
    ) {
        let topic = Destination::topic(topic);
        let mut message = self.advisory(about, properties);
        message.head.destination = Some(names::wire(&topic));
        if let Some(id) = &mut message.head.message_id {
            id.broker_sequence_id = self.dispatched + 1;
            message.head.producer_id.clone_from(&id.producer_id);
        }
        let consumer = self.consumers.get(key);
        message.tail.target_consumer_id =
            consumer.and_then(|consumer| consumer.info.consumer_id.clone());
        self.dispatch(key, &topic, Outgoing::Whole(message), None);
    }
}

/// Whether a name may stand for topics that begin so, or one of them.
fn may_cover(topic: &Destination, prefix: &str) -> bool {
    let name = topic.name();
    let plain = name.find(['*', '>']).map_or(name, |at| &name[..at]);
    plain.starts_with(prefix) || (plain.len() < name.len() && prefix.starts_with(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_kinds_that_a_topic_may_stand_for_are_looked_through() {
        let consumers = Kind::Consumer.prefix();
        for topic in ["Consumer.>", "Consumer.Queue.a", "*.Queue.a", "Con*"] {
            let topic = Destination::topic(format!("ActiveMQ.Advisory.{topic}"));
            assert!(may_cover(&topic, consumers), "{topic}");
        }
        for topic in ["Producer.>", "TempQueue", "Consumer"] {
            let topic = Destination::topic(format!("ActiveMQ.Advisory.{topic}"));
            assert!(!may_cover(&topic, consumers), "{topic}");
        }
    }
}
