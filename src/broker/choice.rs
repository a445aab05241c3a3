//! Who of a queue's consumers is next, where they are not all alike.
//!
//! Higher consumers go first while they have credit; where somebody wants a queue to itself, the
//! first of those gets everything, and when it goes the next. Those of patterns take turns with the
//! queue's own. A queue whose consumers are plain has nothing of this, and pays nothing for it.
//!
//! Always: what a priority says counts among consumers without selectors; those with selectors take
//! turns with all others, and get nothing while somebody has the queue to itself.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::broker::Broker;
use crate::broker::fact::{ConsumerKey, Source};
use crate::broker::queue::Queue;
use crate::ids::QueueId;

/// How a consumer stands among the others of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Those of a higher one get messages first, while they may hold more; 0 for most.
    pub priority: i8,
    /// It wants the queue to itself. Of several the one of the highest priority gets it, then the
    /// one that came first; the others wait for it to go.
    pub exclusive: bool,
    /// Of a topic: so many messages may wait for it beside those that it holds, and the oldest make
    /// room for others; without, as many as its topic says.
    pub pending: Option<u32>,
}

/// What there is to choose by.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    /// Those with credit of other priorities than 0, the next one first.
    lines: BTreeMap<Reverse<i8>, VecDeque<ConsumerKey>>,
    /// Those who want all of it, the one who has it first; by when they came.
    exclusive: BTreeSet<(Reverse<i8>, u64, ConsumerKey)>,
    last_exclusive: u64,
    /// Patterns that catch its name, perhaps some from which nobody reads any more.
    families: BTreeSet<Arc<str>>,
    /// Whether those of patterns go first this time.
    families_first: bool,
}

impl Choice {
    fn owner(&self) -> Option<ConsumerKey> {
        self.exclusive.first().map(|(_, _, key)| *key)
    }

    fn is_idle(&self) -> bool {
        self.lines.values().all(VecDeque::is_empty)
            && self.exclusive.is_empty()
            && self.families.is_empty()
    }
}

impl Queue {
    /// Whether somebody may want what comes.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.ready.is_empty() || self.selecting.is_some() || self.choice.is_some()
    }

    pub(crate) fn families(&self) -> Option<&BTreeSet<Arc<str>>> {
        self.choice.as_ref().map(|choice| &choice.families)
    }

    pub(crate) fn families_mut(&mut self) -> &mut BTreeSet<Arc<str>> {
        &mut self.choice.get_or_insert_default().families
    }

    /// Whether one consumer has it to itself.
    pub(crate) fn is_owned(&self) -> bool {
        self.choice.as_ref().is_some_and(|choice| !choice.exclusive.is_empty())
    }

    /// Gives back what nobody needs.
    pub(crate) fn drop_idle_choice(&mut self) {
        self.choice.take_if(|choice| choice.is_idle());
    }
}

impl Broker {
    /// A consumer that has just begun stands before others, or behind.
    pub(super) fn apply_stand(&mut self, key: ConsumerKey, standing: Standing) {
        let consumer = self.consumers.get_mut(&key).expect("it has just begun");
        let Source::Queue(id) = consumer.source else {
            consumer.standing = standing;
            return;
        };
        let in_line = std::mem::take(&mut consumer.in_line);
        if in_line && let Some(line) = self.line_of(id, key) {
            line.retain(|other| *other != key);
        }
        self.consumers.get_mut(&key).expect("just seen").standing = standing;
        if standing.exclusive {
            let queue = self.queues.get_mut(&id).expect("a consumer keeps its queue");
            let choice = queue.choice.get_or_insert_default();
            choice.last_exclusive += 1;
            let age = choice.last_exclusive;
            choice.exclusive.insert((Reverse(standing.priority), age, key));
        }
        self.stand_in_line(key);
    }

    /// A consumer of a queue waits for it no more: whoever is next may have it.
    pub(super) fn give_up_queue(&mut self, id: QueueId, key: ConsumerKey) {
        if let Some(line) = self.line_of(id, key) {
            line.retain(|other| *other != key);
        }
        self.disown(id, key);
        let queue = self.queues.get_mut(&id).expect("a consumer keeps its queue");
        if let Some(choice) = &mut queue.choice {
            choice.exclusive.retain(|(_, _, other)| *other != key);
            queue.drop_idle_choice();
            self.stir(id);
        }
    }

    /// One of a line has a message. If it is the first it stands behind the others then, where it
    /// may have more: the next is the one that has waited longest. Who has a message because its
    /// group is its own keeps its place.
    pub(super) fn has_had_its_turn(&mut self, id: QueueId, key: ConsumerKey, again: bool) {
        if let Some(line) = self.line_of(id, key) {
            if line.front() == Some(&key) {
                line.pop_front();
                if again {
                    line.push_back(key);
                }
            } else if !again {
                line.retain(|other| *other != key);
            }
        }
        let queue = self.queues.get_mut(&id).expect("a consumer keeps its queue");
        if let Some(choice) = &mut queue.choice {
            choice.families_first = !matches!(self.consumers[&key].source, Source::Pattern(_));
        }
    }

    /// The line in which a consumer waits while it has credit; nothing where it waits for no other.
    pub(super) fn line_of(
        &mut self,
        id: QueueId,
        key: ConsumerKey,
    ) -> Option<&mut VecDeque<ConsumerKey>> {
        let consumer = &self.consumers[&key];
        if let Source::Pattern(name) = &consumer.source {
            return self.families.get_mut(name).map(|family| &mut family.ready);
        }
        let (group, standing) = (consumer.group, consumer.standing);
        let queue = self.queues.get_mut(&id).expect("a consumer keeps its queue");
        match standing {
            Standing { exclusive: true, .. } => None,
            Standing { priority: 0, .. } => Some(queue.line(group)),
            _ if group.is_some() => Some(queue.line(group)),
            Standing { priority, .. } => {
                let choice = queue.choice.get_or_insert_default();
                Some(choice.lines.entry(Reverse(priority)).or_default())
            }
        }
    }

    /// The next of a queue's consumers where they are not all alike.
    pub(super) fn next_by_choice(&mut self, id: QueueId) -> Option<ConsumerKey> {
        let choice = self.queues.get_mut(&id)?.choice.as_mut()?;
        if let Some(owner) = choice.owner() {
            if !self.consumers[&owner].in_line {
                return None;
            }
            let may = self.may_lend(owner.0);
            if !may {
                self.pass_over(id, owner);
            }
            return may.then_some(owner);
        }
        let families_first = choice.families_first;
        let mut key = self.next_of_lines(id, |priority| priority > 0);
        if families_first {
            key = key.or_else(|| self.next_of_families(id));
        }
        key = key.or_else(|| self.next_of_lines(id, |priority| priority == 0));
        if !families_first {
            key = key.or_else(|| self.next_of_families(id));
        }
        key.or_else(|| self.next_of_lines(id, |priority| priority < 0))
    }

    fn next_of_lines(&mut self, id: QueueId, of: impl Fn(i8) -> bool) -> Option<ConsumerKey> {
        loop {
            let queue = &self.queues[&id];
            let plain = queue.ready.front().filter(|_| of(0));
            let mut lines = queue.choice.iter().flat_map(|choice| &choice.lines);
            let other = || lines.find_map(|(rank, it)| it.front().filter(|_| of(rank.0)));
            let key = *plain.or_else(other)?;
            if self.may_lend(key.0) {
                return Some(key);
            }
            self.pass_over(id, key);
        }
    }
}
