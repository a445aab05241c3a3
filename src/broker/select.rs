//! Handing out by selectors: what follows from what `selecting` knows, and how it comes to know.
//!
//! Contents lie in the log, so the broker never judges a message of a queue: it asks beside the
//! engine which of some messages match, one question of a group at a time, and goes on when it
//! hears. So a selector that matches nothing in a long queue costs one walk through it, whoever
//! waits, and keeps no turn of the engine and no other consumer.

use std::sync::Arc;

use bytes::Bytes;

use crate::broker::command::MessageId;
use crate::broker::delta::Entry;
use crate::broker::fact::{
    Change, ConsumerKey, Fact, Page, PageWish, Purpose, Spot, VolatilePlace,
};
use crate::broker::grouping::Membership;
use crate::broker::queue::Queue;
use crate::broker::selecting::{GroupId, Waiting, Wish};
use crate::broker::subject::Envelope;
use crate::broker::walk::{What, place_before};
use crate::broker::{Broker, Effects};
use crate::ids::{Lsn, Millis, QueueId};
use crate::limits;
use crate::mutant::{self, Mutant};
use crate::record::{Cause, Record};
use crate::selector::Selector;

/// Messages of which a group of consumers wants to know whether they match.
#[derive(Clone, Debug)]
pub struct SelectRequest {
    /// Of which queue.
    pub queue: QueueId,
    /// Who wants to know.
    pub group: GroupId,
    /// What.
    pub question: Question,
    /// Which, in no order.
    pub messages: Vec<Unjudged>,
}

/// What a group of consumers wants to know of messages.
#[derive(Clone, Debug)]
pub enum Question {
    /// Whether they match this.
    Matches(Arc<Selector>),
    /// To which group of messages they belong.
    Group,
}

/// What is found out of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It does not match.
    Other,
    /// It matches.
    Matches,
    /// It belongs to this group of messages, or to none.
    Group(Option<Membership>),
}

impl Question {
    /// What a message with this content says to it.
    #[must_use]
    pub fn ask(&self, envelope: &Envelope, content: &Bytes) -> Finding {
        match self {
            Self::Matches(selector) if envelope.is_selected(selector, content) => Finding::Matches,
            Self::Matches(_) => Finding::Other,
            Self::Group => Finding::Group(Membership::of(content)),
        }
    }

    /// What counts of one that cannot be read: its delivery finds that out.
    #[must_use]
    pub fn unreadable(&self) -> Finding {
        match self {
            Self::Matches(_) => Finding::Matches,
            Self::Group => Finding::Group(None),
        }
    }
}

/// A message of which nobody knows whether it matches.
#[derive(Clone, Debug)]
pub struct Unjudged {
    /// Where it waits.
    pub spot: Spot,
    /// What is known of it without its content.
    pub envelope: Envelope,
    /// Where the frame of its content is, and its bytes; not of one that lives in memory.
    pub in_log: Option<(Lsn, u32)>,
    /// Its content, where it is at hand.
    pub content: Option<Bytes>,
}

/// The answer to a [`SelectRequest`].
#[derive(Clone, Debug)]
pub struct Selected {
    /// Of which queue.
    pub queue: QueueId,
    /// Who wanted to know.
    pub group: GroupId,
    /// What was found of each.
    pub verdicts: Vec<(Spot, Finding)>,
}

impl Broker {
    /// Does one thing for those of a queue that have selectors; false where there is none.
    pub(super) fn state_selected(
        &mut self,
        now: Millis,
        id: QueueId,
        facts: &mut Vec<Fact>,
        effects: &mut Effects,
    ) -> bool {
        let Some(queue) = self.queues.get_mut(&id) else { return false };
        let Some((group, wish)) = queue.selecting.as_mut().and_then(|it| it.next()) else {
            return false;
        };
        match wish {
            Wish::Lend(spot, waiting, key) => {
                if !self.is_ready(id, key) {
                    return true;
                }
                if self.queues[&id].is_over(now, spot, waiting) {
                    self.state_over(now, id, spot, waiting, facts);
                    return true;
                }
                let credit = self.credit_of(&self.queues[&id], group);
                self.state_lent(id, spot, credit, facts);
                facts.push(Fact::Memory(Change::Lend { queue: id, spot, key }));
            }
            wish => self.state_wish(id, group, wish, facts, effects),
        }
        true
    }

    /// Asks what a group wants to know.
    pub(super) fn state_wish(
        &mut self,
        id: QueueId,
        group: GroupId,
        wish: Wish,
        facts: &mut Vec<Fact>,
        effects: &mut Effects,
    ) {
        match wish {
            Wish::Lend(..) => unreachable!("it wants to know something"),
            Wish::Judge(messages) => self.state_question(id, group, &messages, facts),
            Wish::Walk(after) => {
                let wish = wish_of(id, group, after);
                match self.queues[&id].page_in_memory(wish.after, wish.limit) {
                    Some(rows) => {
                        let request = wish.of(self.durable.generation);
                        self.state_walked(&Page { request, rows }, group, facts);
                    }
                    None => self.want(wish, effects),
                }
            }
        }
    }

    /// States the end of one message whose time is over.
    pub(super) fn state_over(
        &self,
        now: Millis,
        id: QueueId,
        spot: Spot,
        waiting: Waiting,
        facts: &mut Vec<Fact>,
    ) {
        match (spot, waiting) {
            (Spot::Durable(place), Waiting::Durable(entry)) => {
                self.state_expired(now, id, vec![(place, entry)], facts);
            }
            (Spot::Volatile(place), _) => {
                let (cause, places) = (Cause::Expired, vec![place]);
                self.state_volatile_expired(id, &places, facts);
                facts.push(Fact::Memory(Change::Drop { queue: id, cause, places }));
            }
            (Spot::Durable(_), Waiting::Volatile) => unreachable!("durable ones have an entry"),
        }
    }

    /// States that a durable message may have been delivered, where that is not stated. All before
    /// it in its rank counts as such from then on, though it may never have matched anybody: a flag
    /// too many does no harm, and one too few would.
    pub(super) fn state_lent(&self, id: QueueId, spot: Spot, credit: usize, facts: &mut Vec<Fact>) {
        let Spot::Durable(place) = spot else { return };
        let queue = &self.queues[&id];
        if place.seq > queue.row.lent_through.of(place.rank) {
            let through = queue.lend_through(place, credit.min(limits::RECORD_ENTRIES_MAX));
            let record = Record::Lent { queue: id, rank: place.rank, through };
            facts.push(Fact::Log(record, Bytes::new()));
        }
    }

    fn credit_of(&self, queue: &Queue, group: GroupId) -> usize {
        let waiting = queue.selecting.iter().flat_map(|it| it.waiting(group));
        let keys = waiting.take(limits::STEP_MESSAGES_MAX);
        keys.map(|key| self.consumers[key].credit()).sum()
    }

    pub(super) fn state_question(
        &self,
        queue: QueueId,
        group: GroupId,
        messages: &[(Spot, Waiting)],
        facts: &mut Vec<Fact>,
    ) {
        let known = &self.queues[&queue];
        let selecting = known.selecting.as_ref().expect("it has this group");
        let question = selecting.question(group).expect("it has this group");
        let unjudged = messages.iter().filter_map(|(spot, waiting)| match (*spot, waiting) {
            (Spot::Durable(place), Waiting::Durable(entry)) => {
                Some(of_durable(*spot, 9 - place.rank, entry))
            }
            (Spot::Volatile(place), _) => self.of_volatile(known, place),
            (Spot::Durable(_), Waiting::Volatile) => unreachable!("durable ones have an entry"),
        });
        let messages = unjudged.collect();
        let request = SelectRequest { queue, group, question, messages };
        facts.push(Fact::Memory(Change::Select(request)));
    }

    fn of_volatile(&self, queue: &Queue, place: VolatilePlace) -> Option<Unjudged> {
        let message = queue.volatile_at(place)?;
        let envelope = message.envelope(self.epoch(), place.number);
        let content = Some(message.content.clone());
        Some(Unjudged { spot: Spot::Volatile(place), envelope, in_log: None, content })
    }

    /// A group has come to a piece of its queue.
    pub(super) fn state_walked(&mut self, page: &Page, group: GroupId, facts: &mut Vec<Fact>) {
        let (id, after) = (page.request.queue, page.request.after);
        let Some(queue) = self.queues.get(&id) else { return };
        let Some(selecting) = &queue.selecting else { return };
        let Some(from) = selecting.awaits(group, after) else {
            // It has begun anew meanwhile, or has ended.
            return self.answer_group(id, group);
        };
        let (rank, mut found, mut seen, mut over) = (after.rank, Vec::new(), None, false);
        let next = self.walk(page, Some(from), |it| {
            over = it.spot.position().0 != rank;
            if over {
                return false;
            }
            seen = Some(it.spot);
            match it.what {
                _ if it.lent => {}
                What::Durable(entry) if entry.is_free() => {
                    found.push((it.spot, Waiting::Durable(entry)));
                }
                What::Durable(_) => {}
                What::Volatile(..) if it.rests => {}
                What::Volatile(..) => found.push((it.spot, Waiting::Volatile)),
            }
            true
        });
        // Where nothing was left to see, the walk may have come further than what it saw.
        let further = next.filter(|spot| !over && spot.position().0 == rank);
        let complete = over || next.is_none_or(|spot| spot.position().0 > rank);
        let seen = further.or(seen);
        let queue = self.queues.get_mut(&id).expect("just seen");
        let selecting = queue.selecting.as_mut().expect("just seen");
        let unknown = selecting.walked(group, rank, seen, complete, found);
        if unknown.is_empty() {
            return self.answer_group(id, group);
        }
        self.state_question(id, group, &unknown, facts);
    }

    /// A group goes on.
    fn answer_group(&mut self, id: QueueId, group: GroupId) {
        if let Some(selecting) = self.queues.get_mut(&id).and_then(|it| it.selecting.as_mut()) {
            selecting.answered(group);
            self.stir(id);
        }
    }

    /// Takes in which messages match.
    pub fn selected_in(&mut self, selected: &Selected) {
        let Selected { queue: id, group, verdicts } = selected;
        let Some(queue) = self.queues.get_mut(id) else { return };
        let Some(selecting) = &mut queue.selecting else { return };
        let consumers = &self.consumers;
        let lives = |key: &ConsumerKey| consumers.get(key).is_some_and(|it| it.ended.is_none());
        selecting.forget_dead(*group, verdicts.iter().map(|(spot, _)| *spot), &lives);
        for (spot, finding) in verdicts {
            let all = *finding == Finding::Other && mutant::is(Mutant::SelectAll);
            selecting.judged(*group, *spot, if all { Finding::Matches } else { *finding });
        }
        self.answer_group(*id, *group);
    }

    /// Whether somebody still waits to hear whether that message matches.
    #[must_use]
    pub fn asks_about(&self, queue: QueueId, group: GroupId, spot: Spot) -> bool {
        let selecting = self.queues.get(&queue).and_then(|queue| queue.selecting.as_ref());
        selecting.is_some_and(|selecting| selecting.asks_about(group, spot))
    }
}

fn wish_of(queue: QueueId, group: GroupId, after: Spot) -> PageWish {
    let (limit, purpose) = (limits::STEP_MESSAGES_MAX, Purpose::Select(group));
    PageWish { queue, after: place_before(Some(after)), limit, purpose }
}

fn of_durable(spot: Spot, priority: u8, entry: &Entry) -> Unjudged {
    let envelope = Envelope {
        id: MessageId::Durable(entry.birth),
        persistent: true,
        priority,
        at: entry.at,
        expires: entry.expires,
    };
    Unjudged { spot, envelope, in_log: Some((entry.birth, entry.size)), content: None }
}

/// Judges messages, given where to find the contents of those in the log; for tests.
#[cfg(test)]
pub(super) fn judge(request: SelectRequest, content: impl Fn(Lsn) -> Bytes) -> Selected {
    let SelectRequest { queue, group, question, messages } = request;
    let verdicts = messages.into_iter().map(|Unjudged { spot, envelope, in_log, content: own }| {
        let found = own.or_else(|| in_log.map(|(birth, _)| content(birth)));
        (spot, question.ask(&envelope, &found.expect("it is somewhere")))
    });
    Selected { queue, group, verdicts: verdicts.collect() }
}
