//! The consumers of a queue that have selectors: what is known to match, and how far that is.
//!
//! Consumers with equal selectors are a *group*. A group looks through the queue once, in the order
//! of places, and keeps per rank how far it has come; what it has come to and matches waits in a
//! short list for its consumers. Behind that point all is known: a message there matches and is in
//! the list, or does not and is forgotten. What arrives lies beyond it. What comes back to a place
//! behind it is noted once for all groups, and looked at by each.
//!
//! Always: whatever ceases to wait is forgotten here at once, so that what is in a list can be
//! handed out; lists are bounded; nothing here is durable, and nothing durable depends on it. What
//! matches is found out beside the engine (`select`), so this knows no content.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::broker::delta::{Entry, Place};
use crate::broker::fact::{ConsumerKey, Spot, VolatilePlace};
use crate::broker::grouping::{Grouping, Membership};
use crate::broker::select::{Finding, Question};
use crate::limits;
use crate::selector::Selector;

mod plain;

#[cfg(test)]
mod tests;

/// A group of consumers, told apart over all queues and never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub(super) u64);

/// A place among all messages of a queue, in the order of delivery.
pub(super) type Position = (u8, u64, bool, u64);

#[derive(Debug, Default)]
pub(crate) struct Selecting {
    groups: BTreeMap<GroupId, Group>,
    /// Which groups know something of a place; those that have gone do not count.
    holders: BTreeMap<Position, Vec<GroupId>>,
    /// What groups knew that have gone, where that is much.
    left: Vec<Left>,
    /// Messages that have arrived, per rank.
    arrivals: [u64; RANKS],
    /// Messages that wait again, by numbers that grow, and the number of each.
    returned: BTreeMap<u64, (Position, Waiting)>,
    returned_at: BTreeMap<Position, u64>,
    last_returned: u64,
    /// The last of these that has been given up.
    given_up: u64,
    /// Groups with something to do, each once, in the order of their turns.
    line: VecDeque<GroupId>,
    /// Something has come that every group may want.
    news: bool,
    /// Whether these consumers go first this time, before those without selectors.
    first: bool,
    /// Where messages may belong to groups: the walk of the consumers without selectors, and what
    /// they know.
    plain: Option<(GroupId, Box<Grouping>)>,
}

#[derive(Debug)]
struct Group {
    /// Consumers without selectors have none.
    selector: Option<Arc<Selector>>,
    consumers: usize,
    /// Those with credit, the next one first.
    ready: VecDeque<ConsumerKey>,
    known: BTreeMap<Position, Known>,
    /// Those that match and wait.
    matched: BTreeSet<Position>,
    ranks: [Progress; RANKS],
    /// The last of `Selecting::returned` it has looked at.
    returned: u64,
    /// It waits for a piece of the queue, or for what matches in one.
    asked: bool,
    /// That is about messages behind the point to which it has come.
    looks_back: bool,
    /// Something is next, and waits for what is not known of a better rank.
    held_back: Option<HeldBack>,
    in_line: bool,
}

/// What is handed out when it is known what had come of better ranks when it was next.
#[derive(Debug)]
struct HeldBack {
    /// Messages that had arrived by then, per rank. What has come since comes too late.
    arrivals: [u64; RANKS],
    /// So many could have been handed out then.
    count: usize,
}

/// What a group knew.
#[derive(Debug)]
struct Left {
    id: GroupId,
    known: BTreeMap<Position, Known>,
    grouping: Option<Box<Grouping>>,
}

/// How far a group has come in one rank.
#[derive(Clone, Copy, Debug)]
struct Progress {
    /// Everything up to here has been looked at.
    seen: Spot,
    /// It was everything, when so many had arrived.
    complete_at: Option<u64>,
    /// The same of what was found then: it is known what it says.
    known_at: Option<u64>,
}

/// A message that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// A durable one.
    Durable(Entry),
    /// A non-persistent one.
    Volatile,
}

#[derive(Clone, Copy, Debug)]
enum Known {
    /// Whether it matches is being found out.
    Asked(Waiting),
    Matched(Waiting),
    /// One of a queue's consumers without selectors has it, and its group is being found out.
    AskedOf(ConsumerKey),
    /// One of its own consumers has it.
    Lent,
}

/// What a group wants next.
#[derive(Debug)]
pub(super) enum Wish {
    /// To hand this out to the first of its consumers in line.
    Lend(Spot, Waiting, ConsumerKey),
    /// To know which of these match.
    Judge(Vec<(Spot, Waiting)>),
    /// To look at what comes after this.
    Walk(Spot),
}

pub(super) const RANKS: usize = 10;

/// The one that is delivered last.
pub(super) const LAST_RANK: u8 = 9;

impl Waiting {
    pub(super) fn entry(self) -> Option<Entry> {
        match self {
            Self::Durable(entry) => Some(entry),
            Self::Volatile => None,
        }
    }
}

impl Selecting {
    /// A consumer begins. A new selector is a new group, under that id.
    pub(super) fn join(&mut self, selector: &Arc<Selector>, new: GroupId) -> GroupId {
        let equal = |group: &Group| group.selector.as_ref() == Some(selector);
        let known = self.groups.iter_mut().find(|(_, group)| equal(group));
        if let Some((id, group)) = known {
            group.consumers += 1;
            return *id;
        }
        let returned = self.last_returned;
        self.groups.insert(new, Group::new(Some(Arc::clone(selector)), returned));
        new
    }

    /// A consumer has ended. True where it was the last of all: then this is to be discarded.
    pub(super) fn leave(&mut self, id: GroupId, key: ConsumerKey) -> bool {
        let group = self.groups.get_mut(&id).expect("a consumer keeps its group");
        group.ready.retain(|other| *other != key);
        group.consumers -= 1;
        if group.consumers == 0 {
            if self.groups.len() == 1 {
                return true;
            }
            self.part_with(id, None);
        }
        false
    }

    /// A group is gone. What it knew goes at once if it is little, and else some at a time.
    fn part_with(&mut self, id: GroupId, grouping: Option<Box<Grouping>>) {
        let Group { known, .. } = self.groups.remove(&id).expect("it was there");
        let little = known.len() <= limits::STEP_MESSAGES_MAX;
        self.left.push(Left { id, known, grouping });
        while little && self.left.last().is_some_and(|it| it.id == id) {
            self.drop_left();
        }
    }

    /// Whether it knows something for groups that have gone.
    pub(super) fn has_left(&self) -> bool {
        !self.left.is_empty()
    }

    /// Drops some of that; false when nothing is left.
    pub(super) fn drop_left(&mut self) -> bool {
        let Some(mut it) = self.left.pop() else { return false };
        let known = some(|| {
            let first = it.known.pop_first();
            first.is_some_and(|(position, _)| {
                self.let_go(position, it.id);
                true
            })
        });
        if it.grouping.as_mut().is_some_and(|it| it.drop_some()) || known {
            self.left.push(it);
        }
        self.has_left()
    }

    /// Of how many messages it knows something.
    pub(super) fn len(&self) -> usize {
        self.holders.len()
    }

    /// Drops some of what it knows, where nobody needs any of it; false when nothing is left.
    pub(super) fn drop_some(&mut self) -> bool {
        let mut left = some(|| self.holders.pop_first().is_some());
        for group in self.groups.values_mut() {
            left |= some(|| group.known.pop_first().is_some());
            left |= some(|| group.matched.pop_first().is_some());
        }
        for it in &mut self.left {
            left |= some(|| it.known.pop_first().is_some());
            left |= it.grouping.as_mut().is_some_and(|it| it.drop_some());
        }
        if let Some(grouping) = self.grouping() {
            left |= grouping.drop_some();
        }
        left
    }

    /// What a group wants to know of messages.
    pub(super) fn question(&self, id: GroupId) -> Option<Question> {
        let selector = &self.groups.get(&id)?.selector;
        Some(selector.as_ref().map_or(Question::Group, |it| Question::Matches(Arc::clone(it))))
    }

    /// Its consumers with credit.
    pub(super) fn ready(&mut self, id: GroupId) -> &mut VecDeque<ConsumerKey> {
        &mut self.groups.get_mut(&id).expect("a consumer keeps its group").ready
    }

    /// Whether these consumers go first now: every other time.
    pub(super) fn turn(&mut self) -> bool {
        self.first = !self.first;
        self.first
    }

    /// How many of its consumers have credit, and which.
    pub(super) fn waiting(&self, id: GroupId) -> impl Iterator<Item = &ConsumerKey> {
        self.groups.get(&id).into_iter().flat_map(|group| &group.ready)
    }

    /// A group may have something to do.
    pub(super) fn stir(&mut self, id: GroupId) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        if !std::mem::replace(&mut group.in_line, true) {
            self.line.push_back(id);
        }
    }

    /// A message has arrived, behind all others of its rank.
    pub(super) fn arrived(&mut self, rank: u8) {
        self.arrivals[usize::from(rank)] += 1;
        self.news = true;
    }

    /// A message waits again in a place where it was before. Whoever has lent it knows it.
    pub(super) fn waits_again(&mut self, spot: Spot, waiting: Waiting) {
        let position = spot.position();
        let mut stranger = None;
        for id in self.holders.get(&position).into_iter().flatten() {
            let Some(group) = self.groups.get_mut(id) else { continue };
            let known = group.known.get_mut(&position);
            let Some(known @ (Known::Lent | Known::AskedOf(_))) = known else { continue };
            *known = Known::Matched(waiting);
            let plain = self.plain.as_mut().filter(|(plain, _)| plain == id);
            let Some((plain, grouping)) = plain else {
                group.matched.insert(position);
                continue;
            };
            if !grouping.waits_again(position) {
                // It was lent when nobody asked for its group.
                stranger = group.known.remove(&position).and(Some(*plain));
            }
        }
        if let Some(plain) = stranger {
            self.let_go(position, plain);
        }
        self.news = true;
        self.last_returned += 1;
        self.returned.insert(self.last_returned, (position, waiting));
        if let Some(before) = self.returned_at.insert(position, self.last_returned) {
            self.returned.remove(&before);
        }
        if self.returned.len() > limits::SELECTED_RETURNS_MAX {
            let (number, (position, _)) = self.returned.pop_first().expect("too many");
            self.returned_at.remove(&position);
            self.given_up = number;
        }
    }

    /// A message waits no longer, or is no longer lent.
    pub(super) fn forget(&mut self, spot: Spot) {
        let position = spot.position();
        if let Some(number) = self.returned_at.remove(&position) {
            self.returned.remove(&number);
        }
        for id in self.holders.remove(&position).into_iter().flatten() {
            let Some(group) = self.groups.get_mut(&id) else { continue };
            group.known.remove(&position);
            group.matched.remove(&position);
        }
        if let Some((_, grouping)) = &mut self.plain {
            grouping.forget(position);
        }
    }

    /// What is known of a message that a group is about to be lent.
    pub(super) fn candidate(&self, id: GroupId, spot: Spot) -> Option<Waiting> {
        match self.groups.get(&id)?.known.get(&spot.position())? {
            Known::Matched(waiting) => Some(*waiting),
            Known::Asked(_) | Known::AskedOf(_) | Known::Lent => None,
        }
    }

    /// A consumer of a group has it: should it come back, the group knows that it matches.
    pub(super) fn lent(&mut self, id: GroupId, spot: Spot) {
        self.learn(id, spot.position(), Known::Lent);
    }

    /// The same, where it may be known what group of messages it belongs to. True where it is the
    /// first of that which this consumer gets.
    pub(super) fn lent_to(
        &mut self,
        key: ConsumerKey,
        id: GroupId,
        spot: Spot,
        member: Option<Option<Membership>>,
    ) -> bool {
        self.lent(id, spot);
        let Some((grouping, member)) = self.grouping().zip(member) else { return false };
        grouping.lent(spot.position(), member, key)
    }

    fn learn(&mut self, id: GroupId, position: Position, known: Known) {
        let group = self.groups.get_mut(&id).expect("a consumer keeps its group");
        if group.known.insert(position, known).is_none() {
            self.holders.entry(position).or_default().push(id);
        }
    }

    fn let_go(&mut self, position: Position, id: GroupId) {
        if let Some(holders) = self.holders.get_mut(&position) {
            holders.retain(|other| *other != id);
            if holders.is_empty() {
                self.holders.remove(&position);
            }
        }
    }

    /// What the next group with something to do wants, which keeps its place in the line.
    pub(super) fn next(&mut self) -> Option<(GroupId, Wish)> {
        if std::mem::take(&mut self.news) {
            let eager: Vec<_> =
                self.groups.iter().filter(|(_, it)| !it.ready.is_empty()).map(|it| *it.0).collect();
            eager.into_iter().for_each(|id| self.stir(id));
        }
        while let Some(id) = self.line.pop_front() {
            if let Some(wish) = self.wish(id) {
                self.line.push_back(id);
                return Some((id, wish));
            }
            if let Some(group) = self.groups.get_mut(&id) {
                group.in_line = false;
            }
        }
        None
    }

    fn wish(&mut self, id: GroupId) -> Option<Wish> {
        let group = self.groups.get_mut(&id)?;
        let key = *group.ready.front()?;
        if let Some(first) = group.matched.first() {
            let Some(Known::Matched(waiting)) = group.known.get(first) else {
                unreachable!("what is matched is known to be")
            };
            return Some(Wish::Lend(spot_at(*first), *waiting, key));
        }
        self.look_further(id)
    }

    /// What a group wants to know next, if it does not wait for an answer.
    fn look_further(&mut self, id: GroupId) -> Option<Wish> {
        if self.groups.get(&id)?.asked {
            return None;
        }
        let back = self.look_behind(id);
        if back.is_some() {
            return back;
        }
        let rank = self.behind(id)?;
        Some(self.look_at(id, rank))
    }

    /// The best rank of which a group has not come to all.
    fn behind(&self, id: GroupId) -> Option<u8> {
        let ranks = (0..).zip(self.groups[&id].ranks.iter().zip(&self.arrivals));
        let mut behind = ranks.filter(|(_, (it, arrived))| it.complete_at != Some(**arrived));
        behind.next().map(|(rank, _)| rank)
    }

    fn look_at(&mut self, id: GroupId, rank: u8) -> Wish {
        let group = self.groups.get_mut(&id).expect("just seen");
        debug_assert!(!group.asked, "it waits for an answer");
        group.asked = true;
        Wish::Walk(group.ranks[usize::from(rank)].seen)
    }

    fn look_behind(&mut self, id: GroupId) -> Option<Wish> {
        let back = self.look_back(id);
        if back.is_empty() {
            return None;
        }
        let group = self.groups.get_mut(&id).expect("it has looked");
        (group.asked, group.looks_back) = (true, true);
        Some(Wish::Judge(back))
    }

    /// What waits again behind the point to which a group has come, and which it does not know:
    /// some of it, and none where it has looked at all.
    fn look_back(&mut self, id: GroupId) -> Vec<(Spot, Waiting)> {
        let group = self.groups.get_mut(&id).expect("just seen");
        if group.returned < self.given_up {
            // It has missed some, nobody knows where: it begins anew.
            group.ranks = Progress::all();
            group.returned = self.last_returned;
            self.know_less(id);
            return Vec::new();
        }
        let mut found = Vec::new();
        for (number, (position, waiting)) in self.returned.range(group.returned + 1..) {
            group.returned = *number;
            // Where a look at all was a look at what waits, it may lie beyond all that was seen.
            let Progress { seen, complete_at, .. } = group.ranks[usize::from(position.0)];
            let passed = *position <= seen.position() || complete_at.is_some();
            if passed && !group.known.contains_key(position) {
                found.push((*position, *waiting));
            }
            if found.len() == limits::STEP_MESSAGES_MAX {
                break;
            }
        }
        for (position, waiting) in &found {
            self.learn(id, *position, Known::Asked(*waiting));
        }
        found.into_iter().map(|(position, waiting)| (spot_at(position), waiting)).collect()
    }

    /// Whether a group still is where a piece of the queue begins that it has asked for.
    pub(super) fn awaits(&self, id: GroupId, after: Place) -> Option<Spot> {
        let group = self.groups.get(&id)?;
        let seen = group.ranks[usize::from(after.rank)].seen;
        (super::walk::place_before(Some(seen)) == after).then_some(seen)
    }

    /// A group has looked at a rank up to there, or to its end, and wants to know of these whether
    /// they match. Gives those of which it does not know already.
    pub(super) fn walked(
        &mut self,
        id: GroupId,
        rank: u8,
        seen: Option<Spot>,
        complete: bool,
        found: Vec<(Spot, Waiting)>,
    ) -> Vec<(Spot, Waiting)> {
        let arrived = self.arrivals[usize::from(rank)];
        let group = self.groups.get_mut(&id).expect("it awaits this");
        let progress = &mut group.ranks[usize::from(rank)];
        progress.seen = seen.unwrap_or(progress.seen);
        progress.complete_at = complete.then_some(arrived);
        let mut unknown = found;
        unknown.retain(|(spot, _)| !group.known.contains_key(&spot.position()));
        for (spot, waiting) in &unknown {
            self.learn(id, spot.position(), Known::Asked(*waiting));
        }
        unknown
    }

    /// A group asks for nothing any more.
    pub(super) fn answered(&mut self, id: GroupId) {
        if let Some(group) = self.groups.get_mut(&id) {
            (group.asked, group.looks_back) = (false, false);
            group.ranks.iter_mut().for_each(|it| it.known_at = it.complete_at);
            self.stir(id);
        }
    }

    /// Asks no more of messages whose consumers have ended since: they come back as anybody's.
    pub(super) fn forget_dead(
        &mut self,
        id: GroupId,
        spots: impl Iterator<Item = Spot>,
        lives: &dyn Fn(&ConsumerKey) -> bool,
    ) {
        for position in spots.map(Spot::position) {
            let Some(group) = self.groups.get_mut(&id) else { return };
            if let Some(Known::AskedOf(key)) = group.known.get(&position)
                && !lives(key)
            {
                group.known.remove(&position);
                self.let_go(position, id);
            }
        }
    }

    /// What a group has asked of a message; nothing where it has gone since.
    pub(super) fn judged(&mut self, id: GroupId, spot: Spot, finding: Finding) {
        let position = spot.position();
        let Some(group) = self.groups.get_mut(&id) else { return };
        let Some(known) = group.known.get_mut(&position) else { return };
        let mut plain = self.plain.as_mut().filter(|(plain, _)| *plain == id);
        if let (Known::AskedOf(key), Some((_, grouping)), Finding::Group(member)) =
            (*known, &mut plain, finding)
        {
            *known = Known::Lent;
            grouping.lent(position, member, key);
            return;
        }
        let Known::Asked(waiting) = *known else { return };
        if let (Some((_, grouping)), Finding::Group(member)) = (plain, finding) {
            *known = Known::Matched(waiting);
            grouping.waits(position, member);
        } else if finding != Finding::Other {
            *known = Known::Matched(waiting);
            group.matched.insert(position);
        } else {
            group.known.remove(&position);
            self.let_go(position, id);
        }
    }

    /// Whether a group waits to hear of a message.
    pub(super) fn asks_about(&self, id: GroupId, spot: Spot) -> bool {
        let group = self.groups.get(&id);
        let known = group.and_then(|group| group.known.get(&spot.position()));
        matches!(known, Some(Known::Asked(_) | Known::AskedOf(_)))
    }
}

impl Group {
    fn new(selector: Option<Arc<Selector>>, returned: u64) -> Self {
        Self {
            selector,
            consumers: 1,
            ready: VecDeque::new(),
            known: BTreeMap::new(),
            matched: BTreeSet::new(),
            ranks: Progress::all(),
            returned,
            asked: false,
            looks_back: false,
            held_back: None,
            in_line: false,
        }
    }
}

impl Progress {
    /// Of one who has seen nothing.
    fn all() -> [Self; RANKS] {
        let mut rank = 0;
        [(); RANKS].map(|()| {
            let seen = Spot::Durable(Place { rank, seq: 0 });
            rank += 1;
            Self { seen, complete_at: None, known_at: None }
        })
    }
}

/// Does that a bounded number of times, as long as it is true; false when it no longer is.
pub(super) fn some(mut drop_one: impl FnMut() -> bool) -> bool {
    (0..limits::STEP_MESSAGES_MAX).all(|_| drop_one())
}

/// The inverse of `Spot::position`.
fn spot_at((rank, before, durable, number): Position) -> Spot {
    if durable {
        Spot::Durable(Place { rank, seq: before })
    } else {
        Spot::Volatile(VolatilePlace { rank, before, number })
    }
}
