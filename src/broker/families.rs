//! Consumers that read from all queues of a pattern.
//!
//! Those of one pattern are a *family*: one line of those with credit, for all of their queues.
//! Always: a consumer's credit is its own, whatever queue its messages come from; a queue that
//! comes into being later knows its families at once, and those that are there already are found
//! some at a time. A queue that has something for a family in which nobody has credit rests, and
//! is stirred when somebody has, the one that has rested longest first. So that credit for few does
//! not wake many, as many are stirred as have credit, and more when one of them was looked at.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use crate::broker::Broker;
use crate::broker::fact::ConsumerKey;
use crate::broker::held;
use crate::broker::queue::{Head, Queue};
use crate::ids::QueueId;
use crate::limits;
use crate::message::{Destination, Wildcard};

/// All consumers of one pattern.
#[derive(Debug)]
pub(crate) struct Family {
    wildcard: Wildcard,
    consumers: BTreeSet<ConsumerKey>,
    /// Those with credit, the next one first.
    pub(crate) ready: VecDeque<ConsumerKey>,
    /// Queues that had something when nobody had credit, the one that has rested longest first.
    hungry: VecDeque<QueueId>,
    /// The same, to find one.
    rests: BTreeSet<QueueId>,
    /// The queues that there were before it are found after this name; from the first without.
    found: Option<Arc<str>>,
    /// All of them are found.
    complete: bool,
    /// It stands in the line of families with something to do.
    in_line: bool,
}

impl Broker {
    /// A consumer begins to read from a pattern.
    pub(super) fn join_family(&mut self, name: &Arc<str>, key: ConsumerKey) {
        if !self.families.contains_key(name) {
            let wildcard = Wildcard::of(&Destination::Queue(Arc::clone(name)));
            let wildcard = wildcard.ok().flatten().expect("checked when it was stated");
            self.queue_wildcards.add(wildcard.clone());
            let family = Family {
                wildcard,
                consumers: BTreeSet::new(),
                ready: VecDeque::new(),
                hungry: VecDeque::new(),
                rests: BTreeSet::new(),
                found: None,
                complete: false,
                in_line: false,
            };
            self.families.insert(Arc::clone(name), family);
        }
        self.families.get_mut(name).expect("just made").consumers.insert(key);
        self.stir_family(name);
    }

    /// A consumer of a pattern has credit.
    pub(super) fn stand_in_family(&mut self, name: &Arc<str>, key: ConsumerKey) {
        self.families.get_mut(name).expect("a consumer keeps its family").ready.push_back(key);
        self.stir_family(name);
    }

    /// A consumer of a pattern ends. Queues forget the family of the last when they look for it.
    pub(super) fn leave_family(&mut self, name: &Arc<str>, key: ConsumerKey) {
        let family = self.families.get_mut(name).expect("a consumer keeps its family");
        family.consumers.remove(&key);
        family.ready.retain(|other| *other != key);
        if family.consumers.is_empty() {
            let family = self.families.remove(name).expect("just seen");
            self.queue_wildcards.remove(&family.wildcard);
        }
        self.disown_all(key);
    }

    /// A family may have something to do.
    pub(super) fn stir_family(&mut self, name: &Arc<str>) {
        let Some(family) = self.families.get_mut(name) else { return };
        let wants = !family.complete || !(family.hungry.is_empty() || family.ready.is_empty());
        if wants && !std::mem::replace(&mut family.in_line, true) {
            self.family_line.push_back(Arc::clone(name));
        }
    }

    /// Does one thing for the next family in line; false where there is none.
    pub(super) fn tend_family(&mut self) -> bool {
        let Some(name) = self.family_line.pop_front() else { return false };
        let Some(family) = self.families.get_mut(&name) else { return true };
        family.in_line = false;
        let (mut stirred, mut goes_on): (Vec<QueueId>, bool) = (Vec::new(), true);
        if !family.complete {
            let from = family.found.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let names = self.sorted.range::<Arc<str>, _>((from, Bound::Unbounded));
            let some: Vec<_> = names.take(limits::STEP_MESSAGES_MAX).cloned().collect();
            family.complete = some.len() < limits::STEP_MESSAGES_MAX;
            family.found = some.last().cloned();
            let of_clients = some.iter().filter(|queue| !held::is_reserved(queue));
            let caught = of_clients.filter(|queue| family.wildcard.catches(queue));
            stirred.extend(caught.map(|queue| self.names[queue]));
            for id in &stirred {
                let queue = self.queues.get_mut(id).expect("named");
                queue.families_mut().insert(Arc::clone(&name));
            }
        } else if !family.ready.is_empty() {
            let few = family.ready.len().min(limits::STEP_MESSAGES_MAX);
            for _ in 0..limits::STEP_MESSAGES_MAX {
                if stirred.len() == few {
                    break;
                }
                let Some(id) = family.hungry.pop_front() else { break };
                family.rests.remove(&id);
                // Others are gone, and nobody looks at them.
                stirred.extend(self.queues.contains_key(&id).then_some(id));
            }
            goes_on = stirred.len() < few;
        }
        stirred.into_iter().for_each(|id| self.stir(id));
        if goes_on {
            self.stir_family(&name);
        }
        true
    }

    /// A queue was looked at, or goes: what its families have credit for may be in others.
    pub(super) fn stir_families_of(&mut self, id: QueueId) {
        let Some(families) = self.queues.get(&id).and_then(|queue| queue.families()) else {
            return;
        };
        let names: Vec<_> = families.iter().cloned().collect();
        names.iter().for_each(|name| self.stir_family(name));
    }

    /// A queue comes into being: those who read from its pattern read from it.
    pub(super) fn families_of(&self, name: &str) -> BTreeSet<Arc<str>> {
        // What durable subscriptions keep is for them alone.
        let caught = (!held::is_reserved(name)).then(|| self.queue_wildcards.catching(name));
        caught.into_iter().flatten().collect()
    }

    fn families_at(&self, queue: &Queue) -> impl Iterator<Item = &Family> {
        queue.families().into_iter().flatten().filter_map(|name| self.families.get(name))
    }

    /// The consumers of patterns that read from a queue.
    pub(super) fn readers_by_pattern(&self, queue: &Queue) -> impl Iterator<Item = &ConsumerKey> {
        self.families_at(queue).flat_map(|family| &family.consumers)
    }

    /// How many these are.
    pub(super) fn count_by_pattern(&self, queue: &Queue) -> usize {
        self.families_at(queue).map(|family| family.consumers.len()).sum()
    }

    /// The next consumer of a pattern that may have a message of a queue. Where there is none, its
    /// families remember that something is there.
    pub(super) fn next_of_families(&mut self, id: QueueId) -> Option<ConsumerKey> {
        let families = self.queues.get(&id)?.families()?;
        let mut names: Vec<_> = families.iter().cloned().collect();
        let known = names.len();
        names.retain(|name| self.families.contains_key(name));
        let queue = self.queues.get_mut(&id).expect("just seen");
        if names.len() < known {
            *queue.families_mut() = names.iter().cloned().collect();
            queue.drop_idle_choice();
        }
        for name in &names {
            while let Some(key) = self.families[name].ready.front().copied() {
                if self.may_lend(key.0) {
                    return Some(key);
                }
                self.pass_over(id, key);
            }
        }
        if matches!(self.queues[&id].head(), Head::Empty) {
            return None;
        }
        for name in &names {
            let family = self.families.get_mut(name).expect("just seen");
            if family.rests.insert(id) {
                family.hungry.push_back(id);
            }
        }
        None
    }
}
