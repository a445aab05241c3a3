//! Virtual topics: queues that get what is published on the topic in their name.
//!
//! What is published on `VirtualTopic.Orders` enters, beside its subscribers', every queue
//! `Consumer.NAME.VirtualTopic.Orders` that is there, with any one part for `NAME`: so ActiveMQ's
//! clients expect it. To whoever sends to such a queue, consumes from it or looks after it, it is a
//! queue like every other, with its own limit and rules. Always: which topic a queue reads its name
//! says, so nothing about it is durable but the queue; it gets what is published from when it comes
//! into being until it is deleted. Leaves to others: how a publication enters queues
//! (`publication`), and which queues keep one beside these (`held`).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::broker::Broker;
use crate::broker::command::Refusal;
use crate::broker::fact::Fact;
use crate::broker::held::{Role, Taker};
use crate::ids::QueueId;
use crate::limits;
use crate::message::Message;

const TOPIC: &str = "VirtualTopic.";
const QUEUE: &str = "Consumer.";

/// The topic that a queue of that name reads; `None` for a queue that reads none.
pub(super) fn topic_of(queue: &str) -> Option<&str> {
    let (name, topic) = queue.strip_prefix(QUEUE)?.split_once('.')?;
    (!name.is_empty() && is_virtual(topic)).then_some(topic)
}

fn is_virtual(topic: &str) -> bool {
    topic.strip_prefix(TOPIC).is_some_and(|rest| !rest.is_empty())
}

/// The queues that read one topic, with the lines of it in which something waited when they came.
type OfTopic = BTreeMap<QueueId, Box<[(QueueId, u64)]>>;

/// The queues that read topics.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    /// They get nothing.
    pub(super) off: bool,
    topics: BTreeMap<Arc<str>, OfTopic>,
}

impl Readers {
    /// A queue is there.
    pub(super) fn learn(&mut self, id: QueueId, name: &str, after: Vec<(QueueId, u64)>) {
        let Some(topic) = topic_of(name) else { return };
        if let Some(known) = self.topics.get_mut(topic) {
            known.insert(id, after.into());
        } else {
            self.topics.insert(topic.into(), [(id, after.into())].into());
        }
    }

    /// A queue is gone.
    pub(super) fn gone(&mut self, id: QueueId, role: &Role) {
        let Role::Reads(topic) = role else { return };
        let Some(known) = self.topics.get_mut(topic) else { return };
        known.remove(&id);
        if known.is_empty() {
            self.topics.remove(topic);
        }
    }

    /// Those of a topic that get what is published there, in order.
    pub(super) fn of(&self, topic: &str) -> impl Iterator<Item = Taker<'_>> {
        let known = self.topics.get(topic).filter(|_| !self.off);
        known.into_iter().flatten().map(|(id, after)| (*id, &**after))
    }

    /// How many read a topic, those included that get nothing now.
    pub(super) fn count(&self, topic: &str) -> usize {
        self.topics.get(topic).map_or(0, BTreeMap::len)
    }

    /// The topics that queues read, and how many read each, as in [`Readers::count`].
    pub(super) fn topics(&self) -> impl Iterator<Item = (&Arc<str>, usize)> {
        self.topics.iter().map(|(name, readers)| (name, readers.len()))
    }

    /// Whether queues may come to read a topic, so that what a transaction publishes there is kept
    /// until its commit although none does yet.
    pub(super) fn may_come(&self, topic: &str) -> bool {
        !self.off && is_virtual(topic)
    }
}

impl Broker {
    /// Refuses a queue that would be one too many to read its topic.
    pub(super) fn check_reader(&self, name: &str) -> Result<(), Refusal> {
        topic_of(name).map_or(Ok(()), |topic| self.check_keepers(topic))
    }

    /// Refuses one more to keep what is published on a topic than one record reaches.
    pub(super) fn check_keepers(&self, topic: &str) -> Result<(), Refusal> {
        let limit = limits::HELD_OF_TOPIC_MAX;
        if self.held.known(topic) < limit {
            return Ok(());
        }
        Err(Refusal::TooManySubscriptions { topic: topic.into(), limit })
    }

    /// A queue has come into being. What waits in a line of the topic that it reads was published
    /// before it; that is forgotten with this life, as far as the index has the queue.
    pub(super) fn learn_queue(&mut self, id: QueueId, name: &str) {
        let after = topic_of(name).map(|topic| self.lines_now(topic)).unwrap_or_default();
        self.held.learn(id, name, false, after);
    }

    /// The lines of a topic in which something waits, and the last place in each.
    pub(super) fn lines_now(&self, topic: &str) -> Vec<(QueueId, u64)> {
        let rows = self.held.waiting(topic).map(|line| (line, &self.queues[&line].row));
        let waits = rows.filter(|(_, row)| row.depth > 0).take(limits::HELD_LINES_MAX);
        waits.map(|(line, row)| (line, row.last_seq)).collect()
    }

    fn reads(&self, id: QueueId) -> bool {
        matches!(self.queues[&id].role, Role::Reads(_))
    }

    /// States that those of the queues that get a publication which hand out groups have messages
    /// of some, where it names one. A durable subscription has one consumer, who gets all.
    pub(super) fn state_of_groups(
        &self,
        takers: &[QueueId],
        message: &Message,
        facts: &mut Vec<Fact>,
    ) {
        for id in takers.iter().filter(|id| message.grouped && self.reads(**id)) {
            self.state_of_group(*id, message, facts);
        }
    }

    /// What has left a line for a queue may name groups, where that of the line may.
    pub(super) fn may_bring_groups(&mut self, line: QueueId, to: QueueId) {
        let groups = self.queues[&line].groups;
        if (groups.seen || groups.unknown) && self.reads(to) {
            self.queue(to).groups.unknown = true;
        }
    }
}
