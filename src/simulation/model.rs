//! What the clients know: the promises they were given, against which a store is checked.

use std::collections::{BTreeMap, BTreeSet};

use crate::broker::command::Output;
use crate::ids::Millis;

use super::again::Again;
use super::branches::Branch;
use super::node::{Contents, DEAD_LETTERS, Found, dead_letters_of, number_of};
use super::once::OnceSent;
use super::operators::Upkeep;
use super::units::InDoubt;

/// What is known of one message.
#[derive(Clone, Debug)]
pub(super) struct Fate {
    /// Where it was sent, and where an operator may have moved it since.
    pub(super) queues: BTreeSet<String>,
    /// An operator may have moved it: it may have lost its place among its neighbours.
    pub(super) moved: bool,
    /// Its messages of one priority keep their order.
    pub(super) producer: u64,
    pub(super) rank: u8,
    pub(super) persistent: bool,
    /// It was not, and a branch that has settled it may have made it so.
    pub(super) kept: bool,
    pub(super) send: Step,
    pub(super) accept: Step,
    /// An operation that may remove it (purge, expiry) was begun; it may be gone at any time.
    pub(super) doomed: bool,
    /// A confirmed purge or the like has removed it: it may not come back.
    pub(super) removed: bool,
    /// It has left the broker.
    pub(super) delivered: bool,
    /// Returns that the client asked for, and those that were confirmed.
    pub(super) returns_asked: u32,
    pub(super) returns_confirmed: u32,
    /// It was sent to be delivered later.
    pub(super) not_before: Millis,
    /// So much later.
    pub(super) delay: u64,
    /// The connection's end returned it: counted without being asked.
    pub(super) returns_by_end: u32,
}

impl Fate {
    /// A persistent message that was asked to be sent, and nothing more.
    pub(super) fn asked() -> Self {
        Self {
            queues: BTreeSet::new(),
            moved: false,
            producer: 0,
            rank: 5,
            persistent: true,
            kept: false,
            send: Step::Asked,
            accept: Step::No,
            doomed: false,
            removed: false,
            delivered: false,
            returns_asked: 0,
            returns_confirmed: 0,
            returns_by_end: 0,
            not_before: Millis(0),
            delay: 0,
        }
    }
}

impl Fate {
    /// It comes back, counted, without being asked to.
    pub(super) fn comes_back(&mut self) {
        self.returns_by_end += 1;
        self.may_be_dropped();
    }

    /// One that is not persistent may be gone when it has come back too often.
    pub(super) fn may_be_dropped(&mut self) {
        self.doomed |= !self.persistent;
    }

    /// Whether it may be in that queue.
    pub(super) fn may_be_in(&self, queue: &str) -> bool {
        let apart = |of: &String| dead_letters_of(of).is_some_and(|(name, _)| name == queue);
        self.queues.contains(queue) || self.queues.iter().any(apart)
    }

    /// Whether it is set apart there too early.
    fn is_early(&self, found: &Found) -> bool {
        let enough = |of: &String| match dead_letters_of(of) {
            Some((name, most)) => name == found.queue && found.returns > most,
            None => false,
        };
        let asked = self.queues.contains(&found.queue);
        !asked && !self.doomed && !self.queues.iter().any(enough)
    }
}

/// How far something has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    No,
    Asked,
    Confirmed,
    /// It will not happen: refused, or a crash has undone it.
    Void,
    /// It was done in a transaction that has no outcome.
    Held,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    /// The broker's time.
    pub(super) now: Millis,
    pub(super) fates: BTreeMap<u64, Fate>,
    /// An operator may have moved more into the limited queue than producers could.
    pub(super) overfilled: bool,
    /// Transactions of which nobody knows whether they happened, by connection and name.
    pub(super) units: BTreeMap<(u64, u64), InDoubt>,
    /// Branches that have been asked to prepare, and are not over.
    pub(super) branches: BTreeMap<u64, Branch>,
    pub(super) last_branch: u64,
    /// Branches that are over: others may have their names.
    pub(super) over: Vec<u64>,
    /// What was sent under ids.
    pub(super) once: OnceSent,
    /// What comes again and again.
    pub(super) again: Again,
    /// What operators have asked for, and may not have happened yet.
    pub(super) upkeep: Upkeep,
}

impl Model {
    /// Whether a store found after a crash keeps every promise.
    pub(super) fn check(&self, contents: &Contents) -> Result<(), String> {
        if let (Some(problem), false) = (&contents.over_limit, self.overfilled) {
            return Err(problem.clone());
        }
        for (number, found) in &contents.messages {
            let fate = self.fates.get(number).ok_or(format!("{number} was never sent"))?;
            check_present(fate, found).map_err(|e| format!("{number}: {e}; {fate:?} {found:?}"))?;
        }
        for (number, fate) in &self.fates {
            let must_be_there = fate.persistent
                && fate.send == Step::Confirmed
                && matches!(fate.accept, Step::No | Step::Void | Step::Held)
                && !fate.doomed;
            if must_be_there && !contents.messages.contains_key(number) {
                return Err(format!("{number} is lost: {fate:?}"));
            }
        }
        self.again.check(&contents.again)?;
        self.check_atoms(contents)?;
        self.check_branches(contents)?;
        self.check_order(contents)
    }

    /// Messages of one producer with one priority lie in the order in which they were sent.
    fn check_order(&self, contents: &Contents) -> Result<(), String> {
        let mut last: BTreeMap<(&str, u8, u64), (u64, u64)> = BTreeMap::new();
        let mut by_place: Vec<_> = contents.messages.iter().collect();
        by_place.sort_by_key(|(_, found)| (&found.queue, found.place));
        for (number, found) in by_place {
            if self.fates[number].moved || DEAD_LETTERS.contains(&found.queue.as_str()) {
                continue;
            }
            let key = (found.queue.as_str(), found.place.rank, self.fates[number].producer);
            let before = last.insert(key, (*number, found.place.seq));
            if before.is_some_and(|(before, _)| before >= *number) {
                return Err(format!("{number} lies behind {before:?} in {}", found.queue));
            }
        }
        Ok(())
    }

    /// A delivery reached a subscription that has ended: it comes back, counted once more.
    pub(super) fn comes_back_counted(&mut self, output: &Output) {
        let Output::Delivery(delivery) = output else { return };
        let number = number_of(&delivery.content).ok();
        if let Some(fate) = number.and_then(|number| self.fates.get_mut(&number)) {
            fate.comes_back();
        }
    }

    /// A crash has happened and `contents` is what was left: what was unknown is known now.
    pub(super) fn resolve(&mut self, contents: &Contents) {
        self.units.clear();
        self.upkeep.clear();
        self.again.resolve(&contents.again);
        let before = self.of_branches(contents);
        let again = self.once.resolve(&self.fates, contents);
        for (number, fate) in &mut self.fates {
            match contents.messages.get(number) {
                Some(found) => {
                    fate.send = Step::Confirmed;
                    fate.accept = Step::No;
                    fate.queues = [found.queue.clone()].into();
                    fate.returns_asked = found.returns;
                    fate.returns_confirmed = found.returns;
                    fate.returns_by_end = 0;
                    // Flagged for sure from now on: in the new life it counts as delivered.
                    fate.delivered |= found.redelivered;
                }
                None if fate.accept == Step::Asked => fate.accept = Step::Confirmed,
                None if fate.send == Step::Confirmed => fate.removed = true,
                None => fate.send = Step::Void,
            }
        }
        // What is over and absent needs no more watching.
        self.fates.retain(|number, _| contents.messages.contains_key(number));
        self.resolve_branches(contents, before);
        self.fates.extend(again);
    }
}

fn check_present(fate: &Fate, found: &Found) -> Result<(), &'static str> {
    if !fate.persistent && !fate.kept {
        return Err("it was not persistent, and has outlived the process");
    }
    if fate.send == Step::Void || fate.removed {
        return Err("it was refused or removed, and is there");
    }
    if fate.accept == Step::Confirmed {
        return Err("its acknowledgement was confirmed, and it is there");
    }
    if !fate.may_be_in(&found.queue) || fate.rank != found.place.rank {
        return Err("it is not where it was sent");
    }
    if fate.is_early(found) {
        return Err("it was set apart, and had not come back too often");
    }
    if fate.delivered && !found.redelivered {
        return Err("it was delivered, and is not flagged");
    }
    if found.returns < fate.returns_confirmed {
        return Err("a confirmed return is not counted");
    }
    // That it was perhaps delivered in an earlier life, or by the store of a backup, counts as a
    // return when it gets a new place: it is set apart, is moved, or fires.
    let placed = fate.moved || DEAD_LETTERS.contains(&found.queue.as_str());
    // A transaction that a crash has cut short counts as a return.
    let cut = u32::from(matches!(fate.accept, Step::Held | Step::Asked));
    // So it is where it fires, and nobody knows any more that it was to.
    let flagged = found.redelivered && (fate.not_before > Millis(0) || !fate.delivered);
    let more = cut + u32::from(placed || flagged);
    if found.returns > fate.returns_asked + fate.returns_by_end + more {
        return Err("it counts more returns than there were");
    }
    Ok(())
}
