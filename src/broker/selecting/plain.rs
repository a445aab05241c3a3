//! The consumers without selectors of a queue whose messages may belong to groups: they look
//! through it as a group of consumers does, and hand out what they know of.
//!
//! Always: what came back is looked at before anything is handed out, so that the messages of a
//! group keep their order. What is next waits for what had come of better ranks by then and is not
//! known yet, and for nothing that has come since: else what keeps coming for others would hold it
//! up for as long.

use crate::broker::fact::{ConsumerKey, Spot};
use crate::broker::grouping::{Grouping, Membership};
use crate::broker::selecting::{
    Group, GroupId, HeldBack, Known, LAST_RANK, Position, Selecting, Waiting, Wish, spot_at,
};
use crate::limits;

impl Selecting {
    /// They begin to look at what messages say, under that id.
    pub(in crate::broker) fn watch_groups(&mut self, new: GroupId) {
        self.groups.insert(new, Group::new(None, self.last_returned));
        self.plain = Some((new, Box::default()));
    }

    /// They look no more. True where there is nobody else: then this is to be discarded.
    pub(in crate::broker) fn unwatch_groups(&mut self) -> bool {
        if self.plain.is_some() && self.groups.len() == 1 {
            return true;
        }
        if let Some((id, grouping)) = self.plain.take() {
            self.part_with(id, Some(grouping));
        }
        self.groups.is_empty()
    }

    /// Under which id they look at messages.
    pub(in crate::broker) fn plain(&self) -> Option<GroupId> {
        self.plain.as_ref().map(|(id, _)| *id)
    }

    pub(in crate::broker) fn grouping(&mut self) -> Option<&mut Grouping> {
        self.plain.as_mut().map(|(_, grouping)| &mut **grouping)
    }

    /// What is known of the group of a message that waits.
    pub(in crate::broker) fn member(&self, spot: Spot) -> Option<Option<Membership>> {
        self.plain.as_ref()?.1.member(spot.position())
    }

    /// Looks at what came back and is not known: nothing else is handed out before, so that the
    /// messages of a group keep their order. `Err` while that is waited for.
    pub(in crate::broker) fn look_back_first(&mut self) -> Result<Option<(GroupId, Wish)>, ()> {
        let Some(id) = self.plain() else { return Ok(None) };
        let group = &self.groups[&id];
        let news = group.returned < self.last_returned;
        match (group.looks_back, group.asked) {
            (true, _) => Err(()),
            (false, true) if news => Err(()),
            (false, false) if news => Ok(self.look_behind(id).map(|wish| (id, wish))),
            (false, _) => Ok(None),
        }
    }

    /// Looks further where it knows of few messages, and of no more than it may.
    pub(in crate::broker) fn look_ahead(&mut self, enough: usize) -> Option<(GroupId, Wish)> {
        let (id, grouping) = self.plain.as_ref()?;
        let id = *id;
        if grouping.len(self.behind(id)?) >= enough {
            return None;
        }
        self.look_further(id).map(|wish| (id, wish))
    }

    /// Up to which rank messages may be handed out: of this one something has come that nobody
    /// knows yet. Of no more than may be known: then others need not wait.
    pub(in crate::broker) fn known_through(&self) -> u8 {
        let Some((id, grouping)) = &self.plain else { return LAST_RANK };
        let group = &self.groups[id];
        let due = group.held_back.as_ref().map_or(&self.arrivals, |it| &it.arrivals);
        let mut ranks = (0..).zip(group.ranks.iter().zip(due));
        let unknown = ranks.find(|(_, (progress, due))| progress.known_at < Some(**due));
        let unknown = unknown.map(|(rank, _)| rank);
        let bounded = unknown.filter(|rank| grouping.len(*rank) < limits::GROUPS_AHEAD_MAX);
        bounded.unwrap_or(LAST_RANK)
    }

    /// What is next, and so many behind it, wait for what has come of that rank until now.
    pub(in crate::broker) fn hold_back(
        &mut self,
        rank: u8,
        count: usize,
    ) -> Option<(GroupId, Wish)> {
        let (arrivals, id) = (self.arrivals, self.plain()?);
        let group = self.groups.get_mut(&id).expect("it is there with it");
        group.held_back.get_or_insert(HeldBack { arrivals, count });
        // Each question has its answer, and then it is the turn of this one.
        let asked = group.asked;
        (!asked).then(|| (id, self.look_at(id, rank)))
    }

    /// One of what was held back is handed out.
    pub(in crate::broker) fn hands_out(&mut self) {
        let group = self.plain().and_then(|id| self.groups.get_mut(&id));
        let Some(held) = group.map(|it| &mut it.held_back) else { return };
        held.take_if(|it| {
            it.count = it.count.saturating_sub(1);
            it.count == 0
        });
    }

    /// Nothing is next, so nothing is held back.
    pub(in crate::broker) fn holds_nothing(&mut self) {
        if let Some(group) = self.plain().and_then(|id| self.groups.get_mut(&id)) {
            group.held_back = None;
        }
    }

    /// Messages that a consumer without selector has are being looked at; nothing is handed out
    /// before that is known.
    pub(in crate::broker) fn ask_of_lent(
        &mut self,
        key: ConsumerKey,
        spots: impl Iterator<Item = Spot>,
    ) -> GroupId {
        let id = self.plain().expect("they look at what messages say");
        for spot in spots {
            self.learn(id, spot.position(), Known::AskedOf(key));
        }
        let group = self.groups.get_mut(&id).expect("it is there with it");
        (group.asked, group.looks_back) = (true, true);
        id
    }

    /// All that waits was looked at, no message of it is of a group, and nobody else looks.
    pub(in crate::broker) fn is_without_groups(&self) -> bool {
        let Some((id, grouping)) = &self.plain else { return false };
        let group = &self.groups[id];
        let mut ranks = group.ranks.iter().zip(&self.arrivals);
        let complete = ranks.all(|(progress, arrived)| progress.complete_at == Some(*arrived));
        complete && !group.asked && !grouping.found && self.groups.len() == 1
    }

    /// Where the consumers without selectors begin anew, they forget what waits: of a group what
    /// comes first must be found first.
    pub(super) fn know_less(&mut self, id: GroupId) {
        let Some((_, grouping)) = self.plain.as_mut().filter(|(plain, _)| *plain == id) else {
            return;
        };
        let group = self.groups.get_mut(&id).expect("it is there with it");
        let waits = |known: &mut Known| matches!(known, Known::Matched(_));
        let gone: Vec<_> = group.known.extract_if(.., |_, it| waits(it)).map(|it| it.0).collect();
        gone.iter().for_each(|position| grouping.forget(*position));
        gone.into_iter().for_each(|position| self.let_go(position, id));
    }

    /// What waits in that place, if it is known.
    pub(in crate::broker) fn waits_at(&self, position: Position) -> Option<(Spot, Waiting)> {
        let spot = spot_at(position);
        self.candidate(self.plain()?, spot).map(|waiting| (spot, waiting))
    }
}
