//! One subscription: its credit, and the messages it holds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::broker::choice::Standing;
use crate::broker::command::Which;
use crate::broker::fact::{Lent, Source, Volatile};
use crate::broker::load::Load;
use crate::broker::selecting::GroupId;
use crate::broker::topic::News;
use crate::ids::{QueueId, Tag};
use crate::limits;
use crate::selector::Selector;

#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) source: Source,
    prefetch: u32,
    last_tag: u64,
    /// Its seat in its topic; 0 in a queue.
    pub(crate) seat: u64,
    /// What it wants of what there is.
    pub(crate) selector: Option<Arc<Selector>>,
    /// In a queue: those who want the same.
    pub(crate) group: Option<GroupId>,
    /// How it stands among others of its queue.
    pub(crate) standing: Standing,
    /// What it holds, in the order of delivery.
    pub(crate) loans: BTreeMap<Tag, Lent>,
    /// Of a pattern: the queues of whose groups of messages it owns some, perhaps no more.
    pub(crate) owns: BTreeSet<QueueId>,
    /// Of these, where something may wait that is for it alone.
    pub(crate) owed: BTreeSet<QueueId>,
    /// It stands in its queue's line of those with credit.
    pub(crate) in_line: bool,
    /// It has ended, and its loans are on their way back.
    pub(crate) ended: Option<Ended>,
    /// Bytes of memory charged for what it holds of a topic, lent or waiting.
    pub(crate) held_bytes: u64,
    /// Bytes of the large bodies of that.
    pub(crate) held_bodies: u64,
    /// What its topic knows of that, where publishers wait for it.
    pub(crate) weighed: Option<Load>,
    /// Messages of a topic that wait for credit, oldest first.
    pub(crate) backlog: VecDeque<News>,
}

/// How a subscription ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    /// Deliveries from this one on never left the broker: they return uncounted.
    pub(crate) unsent_from: Option<Tag>,
}

impl Ended {
    pub(crate) fn was_sent(self, tag: Tag) -> bool {
        self.unsent_from.is_none_or(|first| tag < first)
    }
}

impl Consumer {
    pub(crate) fn new(
        source: Source,
        prefetch: u32,
        seat: u64,
        selector: Option<Arc<Selector>>,
        group: Option<GroupId>,
    ) -> Self {
        Self {
            source,
            prefetch,
            last_tag: 0,
            seat,
            selector,
            group,
            standing: Standing::default(),
            loans: BTreeMap::new(),
            owns: BTreeSet::new(),
            owed: BTreeSet::new(),
            in_line: false,
            ended: None,
            held_bytes: 0,
            held_bodies: 0,
            weighed: None,
            backlog: VecDeque::new(),
        }
    }

    pub(crate) fn prefetch(&self) -> u32 {
        self.prefetch
    }

    pub(crate) fn set_prefetch(&mut self, prefetch: u32) {
        self.prefetch = prefetch;
    }

    /// How many more deliveries it may hold.
    pub(crate) fn credit(&self) -> usize {
        if self.ended.is_some() {
            return 0;
        }
        (self.prefetch as usize).saturating_sub(self.loans.len())
    }

    /// Whether more of a topic waits for it than it wants.
    pub(crate) fn is_behind(&self) -> bool {
        let most = self.standing.pending.map(|most| most as usize);
        most.is_some_and(|most| self.backlog.len() > most.saturating_add(self.credit()))
    }

    /// A message of a topic is for it.
    pub(crate) fn holds(&mut self, message: &Volatile) {
        self.held_bytes += message.charge();
        self.held_bodies += message.body_bytes();
    }

    /// It has one no longer, lent or waiting.
    pub(crate) fn loses(&mut self, message: &Volatile) {
        self.held_bytes -= message.charge();
        self.held_bodies -= message.body_bytes();
    }

    /// From what a message came that it holds.
    pub(crate) fn source_of(&self, tag: Tag) -> Source {
        let queue = self.loans.get(&tag).and_then(Lent::queue);
        queue.map_or_else(|| self.source.clone(), Source::Queue)
    }

    /// The first of some of its loans, as many as are of one queue.
    pub(crate) fn of_one_source(&self, mut tags: Vec<Tag>) -> Vec<Tag> {
        if let Source::Pattern(_) = self.source {
            let of = |tag: &Tag| self.loans.get(tag).and_then(Lent::queue);
            let first = tags.first().and_then(of);
            let others = tags.iter().position(|tag| of(tag) != first);
            tags.truncate(others.unwrap_or(tags.len()));
        }
        tags
    }

    pub(crate) fn lend(&mut self, message: Lent) -> Tag {
        self.last_tag += 1;
        let tag = Tag(self.last_tag);
        self.loans.insert(tag, message);
        tag
    }

    /// What it takes to settle these beside what so many messages take.
    pub(crate) fn effort_of(&self, which: Which, messages: usize) -> usize {
        match which {
            Which::One(_) if self.loans.len() > limits::LOANS_NEAR => messages + limits::FAR_EFFORT,
            _ => messages,
        }
    }

    /// The first loans that a settlement names, so many at most; `None` if it names one that is
    /// not outstanding.
    pub(crate) fn named(&self, which: Which, most: usize) -> Option<Vec<Tag>> {
        match which {
            Which::One(tag) => self.loans.contains_key(&tag).then(|| vec![tag]),
            Which::Through(tag) => self
                .loans
                .contains_key(&tag)
                .then(|| self.loans.range(..=tag).take(most).map(|(tag, _)| *tag).collect()),
            Which::Range(first, last) if first <= last => self
                .loans
                .contains_key(&last)
                .then(|| self.loans.range(first..=last).take(most).map(|(tag, _)| *tag).collect()),
            Which::Range(..) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Written;
    use crate::broker::delta::{Entry, Place};
    use crate::ids::{Lsn, Millis};

    /// Named alone and in any order they are slow to find where they are many.
    #[test]
    fn one_of_very_many_deliveries_takes_more_than_one_of_few() {
        let queue = QueueId(1);
        let mut consumer = Consumer::new(Source::Queue(queue), 100, 1, None, None);
        let written = Written { lsn: Lsn(1), frame_len: 10 };
        let entry = Entry::born(written, Millis(1), None, None);
        let mut lend = || consumer.lend(Lent::Durable { queue, place: Place::START, entry });
        let first = lend();
        let last = (0..limits::LOANS_NEAR).map(|_| lend()).last().expect("some");
        assert_eq!(consumer.effort_of(Which::One(last), 1), 1 + limits::FAR_EFFORT);
        assert_eq!(consumer.effort_of(Which::Through(last), 9), 9);
        consumer.loans.remove(&first);
        assert_eq!(consumer.effort_of(Which::One(last), 1), 1);
    }
}
