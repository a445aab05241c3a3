//! Handing out where messages may belong to groups.
//!
//! A queue of which nobody knows that it has none is looked through as selectors do it
//! (`selecting`), a bounded number of messages ahead of what was handed out; when all of it was
//! looked at and none names a group, its consumers are served from its head again. Consumers with
//! selectors take no part: what they want they get. Nor do groups count where one consumer has the
//! queue to itself.
//!
//! Always: nothing is handed out before what came back was looked at, so that the messages of a
//! group keep their order, nor before what had come of a better rank; an owner that takes no more
//! is passed over once, until it has credit.

use std::collections::{BTreeSet, VecDeque};

use crate::broker::fact::{Change, ConsumerKey, Fact, Lent, Source, Spot};
use crate::broker::grouping::Groups;
use crate::broker::selecting::{GroupId, LAST_RANK, Position, Selecting, Waiting, Wish};
use crate::broker::{Broker, Effects};
use crate::ids::{Millis, QueueId, Tag};
use crate::limits;
use crate::message::Message;

/// What is to be done for consumers of patterns that own groups, some queues at a time, and for
/// those that nobody looks for any more.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// Those with credit for which something waits.
    hungry: VecDeque<ConsumerKey>,
    /// Those that have gone, and where they owned groups.
    gone: VecDeque<(ConsumerKey, BTreeSet<QueueId>)>,
    /// What was known for consumers that have gone, of very many messages perhaps.
    discarded: VecDeque<Box<Selecting>>,
    /// Queues that know much for some of their consumers that have gone.
    left: VecDeque<QueueId>,
}

/// What may be handed out of a queue that may have groups.
enum Offer {
    /// This consumer gets what is there.
    Lends(ConsumerKey, Position),
    /// It waits until it is known what has come of this rank, since that goes before it.
    Waits(u8, ConsumerKey),
    Nothing,
}

impl Agenda {
    pub(super) fn is_empty(&self) -> bool {
        let known = !self.discarded.is_empty() || !self.left.is_empty();
        self.hungry.is_empty() && self.gone.is_empty() && !known
    }

    pub(super) fn drop_some(&mut self) {
        if self.discarded.front_mut().is_some_and(|over| !over.drop_some()) {
            self.discarded.pop_front();
        }
    }

    /// Drops that, at once if it is little and else some at a time.
    pub(super) fn discard(&mut self, over: Option<Box<Selecting>>) {
        self.discarded.extend(over.filter(|it| it.len() > limits::STEP_MESSAGES_MAX));
    }

    /// States that some is dropped; false where there is nothing to drop.
    pub(super) fn state_unlearnt(&self, facts: &mut Vec<Fact>) -> bool {
        let some = !self.discarded.is_empty() || !self.left.is_empty();
        facts.extend(some.then_some(Fact::Memory(Change::Unlearn)));
        some
    }
}

impl Broker {
    /// Drops what a queue knew, and looks whether what it still knows is for nobody in part.
    pub(super) fn discard(&mut self, id: QueueId, over: Option<Box<Selecting>>) {
        self.groups.discard(over);
        let known = self.queues.get(&id).and_then(|queue| queue.selecting.as_ref());
        if known.is_some_and(|it| it.has_left()) && !self.groups.left.contains(&id) {
            self.groups.left.push_back(id);
        }
    }

    /// Drops some of what was known for consumers that have gone.
    pub(super) fn apply_unlearnt(&mut self) {
        let Some(id) = self.groups.left.front() else { return self.groups.drop_some() };
        let known = self.queues.get_mut(id).and_then(|queue| queue.selecting.as_mut());
        if !known.is_some_and(|it| it.drop_left()) {
            self.groups.left.pop_front();
        }
    }

    /// States that a queue has messages of groups from now on, where a message names one.
    pub(super) fn state_of_group(&self, id: QueueId, message: &Message, facts: &mut Vec<Fact>) {
        let known = || self.queues.get(&id).is_some_and(|queue| queue.groups.seen);
        if message.grouped && !known() {
            facts.push(Fact::Memory(Change::HasGroups { queue: id }));
        }
    }

    /// Whether it must be known of a queue's messages to which groups they belong. Not while there
    /// is one consumer and no more: it gets all of them, and what of that it holds is looked at
    /// when there is another. So who has no groups comes back to a backlog as fast as ever.
    pub(super) fn goes_by_groups(&mut self, id: QueueId) -> bool {
        let Some(queue) = self.queues.get_mut(&id) else { return false };
        let Groups { seen, unknown, unseen } = queue.groups;
        if !(seen || unknown) || queue.is_owned() {
            return false;
        }
        let looks = queue.selecting.as_ref().is_some_and(|it| it.plain().is_some());
        let one = queue.consumers.first().filter(|_| queue.consumers.len() == 1);
        match one.filter(|_| !seen && !looks && queue.families().is_none_or(BTreeSet::is_empty)) {
            None => true,
            // What a selector has chosen says nothing of groups.
            Some(key) if self.consumers[key].group.is_some() => false,
            Some(key) => {
                let from = unseen.filter(|(other, _)| other == key).map_or(Tag(0), |it| it.1);
                queue.groups.unseen = Some((*key, from));
                false
            }
        }
    }

    /// Asks about some of what one consumer got while there was no other, so that its groups are
    /// its own. False where nothing is left.
    fn state_unseen(&mut self, id: QueueId, facts: &mut Vec<Fact>) -> bool {
        let Some(queue) = self.queues.get_mut(&id) else { return false };
        let Some((key, from)) = queue.groups.unseen.take() else { return false };
        let Some(consumer) = self.consumers.get(&key).filter(|it| it.ended.is_none()) else {
            return false;
        };
        let durable = consumer.loans.range(from..).filter_map(|(tag, loan)| match loan {
            Lent::Durable { place, entry, .. } => Some((*tag, Spot::Durable(*place), *entry)),
            Lent::Volatile { .. } | Lent::Published { .. } => None,
        });
        let some: Vec<_> = durable.take(limits::STEP_MESSAGES_MAX).collect();
        let Some((last, ..)) = some.last() else { return false };
        queue.groups.unseen = Some((key, Tag(last.0 + 1)));
        let some = some.into_iter().map(|(_, spot, entry)| (spot, Waiting::Durable(entry)));
        let some: Vec<_> = some.collect();
        let spots = some.iter().map(|(spot, _)| *spot);
        let selecting = queue.selecting.as_mut().expect("it is watched");
        let group = selecting.ask_of_lent(key, spots);
        self.state_question(id, group, &some, facts);
        true
    }

    /// Hands out a message of a queue that may have groups; false when that cannot be done now.
    pub(super) fn state_grouped(
        &mut self,
        now: Millis,
        id: QueueId,
        facts: &mut Vec<Fact>,
        effects: &mut Effects,
    ) -> bool {
        let Some(next) = self.next_ready(id) else {
            self.watched(id).into_iter().for_each(Selecting::holds_nothing);
            return false;
        };
        match self.watch_groups(id).look_back_first() {
            Err(()) => return false,
            Ok(None) if self.state_unseen(id, facts) => return true,
            Ok(None) => {}
            wish => return self.state_look(id, wish.ok().flatten(), facts, effects),
        }
        let offer = self.next_of_group(id, next);
        if let Offer::Waits(rank, key) = offer {
            let credit = self.consumers[&key].credit();
            let wish = self.watch_groups(id).hold_back(rank, credit);
            return self.state_look(id, wish, facts, effects);
        }
        let wish = self.watch_groups(id).look_ahead(limits::GROUPS_AHEAD_FEW);
        if self.state_look(id, wish, facts, effects) {
            return true;
        }
        if self.is_without_groups(id) {
            let over = self.queues.get_mut(&id).expect("just seen").end_groups();
            self.discard(id, over);
            return true;
        }
        if let Offer::Lends(key, position) = offer {
            self.state_lent_of_group(now, id, (key, position), facts);
            return true;
        }
        let selecting = self.watch_groups(id);
        selecting.holds_nothing();
        let wish = selecting.look_ahead(limits::GROUPS_AHEAD_MAX);
        self.state_look(id, wish, facts, effects)
    }

    /// Asks what is to be known, if anything.
    fn state_look(
        &mut self,
        id: QueueId,
        wish: Option<(GroupId, Wish)>,
        facts: &mut Vec<Fact>,
        effects: &mut Effects,
    ) -> bool {
        let Some((group, wish)) = wish else { return false };
        self.state_wish(id, group, wish, facts, effects);
        true
    }

    fn watched(&mut self, id: QueueId) -> Option<&mut Selecting> {
        self.queues.get_mut(&id)?.selecting.as_deref_mut()
    }

    /// What is known of a queue's groups: begins to look where nobody does yet.
    fn watch_groups(&mut self, id: QueueId) -> &mut Selecting {
        let queue = self.queues.get_mut(&id).expect("it is looked at");
        let selecting = queue.selecting.get_or_insert_default();
        if selecting.plain().is_none() {
            self.last_group += 1;
            selecting.watch_groups(GroupId(self.last_group));
        }
        selecting
    }

    /// Whether all of a queue was looked at, and nothing of a group can come of what is in it.
    fn is_without_groups(&self, id: QueueId) -> bool {
        let queue = &self.queues[&id];
        let row = &queue.row;
        let none = !queue.groups.seen && row.delayed == 0 && row.staged == 0 && row.held == 0;
        none && queue.selecting.as_ref().is_some_and(|it| it.is_without_groups())
    }

    /// Who gets what next: the message that comes first of those for which somebody is ready,
    /// unless what nobody knows yet may come before it.
    fn next_of_group(&mut self, id: QueueId, next: ConsumerKey) -> Offer {
        let through = self.watch_groups(id).known_through();
        if let Some((key, position)) = self.first_through(id, next, through) {
            return Offer::Lends(key, position);
        }
        let behind = self.first_through(id, next, LAST_RANK);
        behind.map_or(Offer::Nothing, |(key, _)| Offer::Waits(through, key))
    }

    /// The same of what is known up to a rank.
    fn first_through(
        &mut self,
        id: QueueId,
        next: ConsumerKey,
        rank: u8,
    ) -> Option<(ConsumerKey, Position)> {
        loop {
            let grouping = self.watched(id)?.grouping()?;
            let open = grouping.open(rank);
            let (key, first) = match grouping.eager(rank) {
                Some((key, first)) if open.is_none_or(|open| first < open) => (key, first),
                _ => return open.map(|open| (next, open)),
            };
            if self.may_have(id, key) {
                return Some((key, first));
            }
            self.watched(id)?.grouping()?.is_sated(key);
            if let Some(consumer) = self.consumers.get_mut(&key)
                && let Source::Pattern(_) = consumer.source
            {
                consumer.owed.insert(id);
            }
        }
    }

    fn state_lent_of_group(
        &mut self,
        now: Millis,
        id: QueueId,
        (key, position): (ConsumerKey, Position),
        facts: &mut Vec<Fact>,
    ) {
        let queue = &self.queues[&id];
        let known = queue.selecting.as_ref().and_then(|it| it.waits_at(position));
        let (spot, waiting) = known.expect("only what waits is on offer");
        if queue.is_over(now, spot, waiting) {
            return self.state_over(now, id, spot, waiting, facts);
        }
        self.watch_groups(id).hands_out();
        self.state_lent(id, spot, self.consumers[&key].credit(), facts);
        facts.push(Fact::Memory(Change::Lend { queue: id, spot, key }));
    }

    /// A consumer of a queue has credit: what waits of its groups is for it.
    pub(super) fn has_credit_for_groups(&mut self, id: QueueId, key: ConsumerKey) {
        let selecting = self.queues.get_mut(&id).and_then(|queue| queue.selecting.as_mut());
        if let Some(grouping) = selecting.and_then(|it| it.grouping()) {
            grouping.has_credit(key);
        }
    }

    /// A consumer of a pattern has credit.
    pub(super) fn is_owed(&mut self, key: ConsumerKey) {
        if !self.consumers[&key].owed.is_empty() {
            self.groups.hungry.push_back(key);
        }
    }

    /// A consumer of a pattern has a message of a group for the first time.
    pub(super) fn owns_group(&mut self, id: QueueId, key: ConsumerKey) {
        let consumer = self.consumers.get_mut(&key).expect("it has a message");
        if let Source::Pattern(_) = consumer.source {
            consumer.owns.insert(id);
        }
    }

    /// A consumer of a queue ends: its groups are for others.
    pub(super) fn disown(&mut self, id: QueueId, key: ConsumerKey) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let Some(selecting) = &mut queue.selecting else { return };
        let Some(grouping) = selecting.grouping() else { return };
        grouping.disown(key);
        self.stir(id);
    }

    /// A consumer of a pattern ends.
    pub(super) fn disown_all(&mut self, key: ConsumerKey) {
        let consumer = self.consumers.get_mut(&key).expect("it has just ended");
        let owns = std::mem::take(&mut consumer.owns);
        consumer.owed.clear();
        if !owns.is_empty() {
            self.groups.gone.push_back((key, owns));
        }
    }

    /// Does one thing for consumers of patterns that own groups; false where there is none.
    pub(super) fn tend_groups(&mut self) -> bool {
        if let Some((key, queues)) = self.groups.gone.front_mut() {
            let (key, id) = (*key, queues.pop_first());
            if queues.is_empty() {
                self.groups.gone.pop_front();
            }
            if let Some(id) = id {
                self.disown(id, key);
            }
            return true;
        }
        let Some(key) = self.groups.hungry.pop_front() else { return false };
        let Some(consumer) = self.consumers.get_mut(&key) else { return true };
        let some = std::iter::from_fn(|| consumer.owed.pop_first());
        let some: Vec<_> = some.take(limits::STEP_MESSAGES_MAX).collect();
        if !consumer.owed.is_empty() {
            self.groups.hungry.push_back(key);
        }
        for id in some {
            self.has_credit_for_groups(id, key);
            self.stir(id);
        }
        true
    }
}
