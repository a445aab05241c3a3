//! Transactions of the simulated clients, and what a store must look like after each.
//!
//! A client works in one transaction at a time. What it sends in it must not be seen before the
//! commit; what it settles in it must go to nobody meanwhile; a crash leaves all of it or nothing.

use crate::broker::command::{Command, Disposition, Refusal, Work};
use crate::ids::{Millis, SubscriptionId, Tag, TransactionName};

use super::clients::{Asked, Client, Surroundings};
use super::model::{Model, Step};
use super::node::Contents;

/// A transaction as its client knows it.
#[derive(Clone, Debug, Default)]
pub(super) struct Unit {
    pub(super) name: u64,
    /// It is this branch of a global transaction.
    pub(super) branch: Option<u64>,
    sends: Vec<u64>,
    takes: Vec<(SubscriptionId, Tag, u64)>,
    /// Parts that have not been answered.
    pub(super) unanswered: usize,
    /// A part of it was refused.
    pub(super) refused: bool,
}

/// A transaction of which a commit was asked and not answered: all of it, or nothing.
#[derive(Clone, Debug)]
pub(super) struct InDoubt {
    sends: Vec<u64>,
    takes: Vec<u64>,
}

impl InDoubt {
    pub(super) fn of(sends: &[u64], takes: &[u64]) -> Self {
        Self { sends: sends.into(), takes: takes.into() }
    }
}

impl Unit {
    pub(super) fn of_branch(name: u64, branch: u64) -> Self {
        Self { name, branch: Some(branch), ..Self::default() }
    }

    /// What it has sent, and what it has settled.
    pub(super) fn numbers(&self) -> (Vec<u64>, Vec<u64>) {
        (self.sends.clone(), self.takes.iter().map(|(_, _, number)| *number).collect())
    }

    pub(super) fn send(&mut self, number: u64) {
        self.sends.push(number);
        self.unanswered += 1;
    }

    pub(super) fn take(&mut self, subscription: SubscriptionId, messages: &[(Tag, u64)]) {
        self.takes.extend(messages.iter().map(|(tag, number)| (subscription, *tag, *number)));
        self.unanswered += 1;
    }

    /// It will not happen; what it has settled comes back, counted.
    pub(super) fn undo(&self, model: &mut Model) {
        for (_, _, number) in &self.takes {
            if let Some(fate) = model.fates.get_mut(number) {
                fate.accept = Step::No;
                fate.returns_by_end += 1;
            }
        }
    }
}

impl Model {
    /// A commit is asked: from now on all of it may have happened.
    fn in_doubt(&mut self, key: (u64, u64), unit: &Unit) {
        for number in &unit.sends {
            if let Some(fate) = self.fates.get_mut(number) {
                fate.send = Step::Asked;
                // Nobody knows any more whether it will be: a part may have been refused.
                fate.doomed |= unit.unanswered > 0;
            }
        }
        for (_, _, number) in &unit.takes {
            if let Some(fate) = self.fates.get_mut(number) {
                fate.accept = Step::Asked;
            }
        }
        let takes = unit.takes.iter().map(|(_, _, number)| *number).collect();
        self.units.insert(key, InDoubt { sends: unit.sends.clone(), takes });
    }

    /// Whether every commit that was asked and not answered has happened whole or not at all.
    pub(super) fn check_atoms(&self, contents: &Contents) -> Result<(), String> {
        for unit in self.units.values() {
            let there = |number: &u64| contents.messages.contains_key(number);
            let sure = |number: &&u64| {
                self.fates.get(number).is_some_and(|fate| fate.persistent && !fate.doomed)
            };
            let untouched = |number: &&u64| {
                let fate = &self.fates[*number];
                sure(number) && fate.accept == Step::No && !fate.delivered
            };
            let sends: Vec<_> = unit.sends.iter().filter(untouched).collect();
            let takes: Vec<_> = unit.takes.iter().filter(sure).collect();
            let done = sends.iter().any(|it| there(it)) || takes.iter().any(|it| !there(it));
            let undone = sends.iter().any(|it| !there(it)) || takes.iter().any(|it| there(it));
            if done && undone {
                return Err(format!("a half of a transaction: {unit:?}"));
            }
        }
        Ok(())
    }
}

impl Client {
    /// Begins a transaction, or ends the one there is.
    pub(super) fn begin_or_end(&mut self, around: &mut Surroundings<'_>) {
        let Some(unit) = &self.unit else {
            if around.random.one_in(2) {
                return self.begin_branch(around);
            }
            self.last_unit += 1;
            let name = self.last_unit;
            self.unit = Some(Unit { name, ..Unit::default() });
            let command = Command::Begin { transaction: TransactionName(name) };
            return self.ask(around, command, Asked::Other);
        };
        if unit.branch.is_some() {
            return self.end_branch(around);
        }
        if unit.refused || around.random.one_in(4) {
            return self.roll_back(around);
        }
        // A commit that comes soon may have to wait for parts that wait for room.
        if unit.unanswered > 0 && !around.random.one_in(3) {
            return;
        }
        let unit = self.unit.take().expect("just seen");
        for number in &unit.sends {
            // Its delay begins with the commit.
            let fate = around.model.fates.get_mut(number).filter(|fate| fate.delay > 0);
            if let Some(fate) = fate.filter(|fate| fate.not_before > Millis(0)) {
                fate.not_before = Millis(around.now.0 + fate.delay);
            }
        }
        around.model.in_doubt((self.connection.0, unit.name), &unit);
        let command = Command::Commit { transaction: TransactionName(unit.name) };
        self.ask(around, command, Asked::Commit(unit));
    }

    /// Ends the transaction that is open, if one is.
    pub(super) fn roll_back(&mut self, around: &mut Surroundings<'_>) {
        let Some(unit) = self.unit.take() else { return };
        if unit.branch.is_some() {
            return self.fail_branch(around, &unit);
        }
        // What waits for room is overtaken by what comes after the end: kept deliveries are not
        // settled before they are kept.
        unit.sends.iter().for_each(|number| around.model.once.unsure(*number));
        let keep = around.random.one_in(2) && unit.unanswered == 0;
        let disposition = if keep { Disposition::Keep } else { Disposition::Return };
        for (subscription, tag, number) in &unit.takes {
            let Some(fate) = around.model.fates.get_mut(number) else { continue };
            fate.accept = Step::No;
            // A crash before it is kept counts it.
            fate.returns_by_end += 1;
            let held = self.subscriptions.get_mut(subscription).filter(|_| keep && !unit.refused);
            if let Some(held) = held {
                held.messages.insert(*tag, *number);
            }
        }
        let transaction = TransactionName(unit.name);
        self.ask(around, Command::Rollback { transaction, disposition }, Asked::Other);
    }

    /// The end of the connection ends its transactions; of a commit that was asked nobody will say
    /// whether it was refused.
    pub(super) fn leave_units(&mut self, around: &mut Surroundings<'_>) {
        if let Some(unit) = self.unit.take() {
            unit.sends.iter().for_each(|number| around.model.once.unsure(*number));
            unit.undo(around.model);
        }
        for asked in self.asked.values() {
            let Asked::Commit(unit) = asked else { continue };
            unit.undo(around.model);
            for (_, _, number) in &unit.takes {
                if let Some(fate) = around.model.fates.get_mut(number) {
                    fate.doomed = true;
                }
            }
        }
    }

    /// A part of a transaction was answered: a send, or the settlement of some.
    pub(super) fn part_of_unit_answered(
        &mut self,
        around: &mut Surroundings<'_>,
        name: u64,
        sent: Option<u64>,
        refusal: Option<&Refusal>,
    ) -> Result<(), String> {
        if let Some(refusal) = refusal {
            let scattered =
                matches!(refusal, Refusal::TooManyGaps { .. } | Refusal::BelowWindow { .. });
            let doomed = matches!(refusal, Refusal::RollbackOnly { .. });
            if !refusal.is_want_of_room() && !doomed && !scattered {
                return Err(format!("a part of a transaction was refused: {refusal:?}"));
            }
            if let Some(fate) = sent.and_then(|number| around.model.fates.get_mut(&number)) {
                fate.doomed = true;
            }
        }
        if let Some(unit) = self.unit.as_mut().filter(|unit| unit.name == name) {
            unit.unanswered -= 1;
            unit.refused |= refusal.is_some();
        }
        Ok(())
    }

    pub(super) fn commit_answered(
        &mut self,
        around: &mut Surroundings<'_>,
        unit: &Unit,
        refusal: Option<&Refusal>,
    ) -> Result<(), String> {
        around.model.units.remove(&(self.connection.0, unit.name));
        let Some(refusal) = refusal else {
            for number in &unit.sends {
                around.model.once.confirmed(*number);
                if let Some(fate) = around.model.fates.get_mut(number) {
                    fate.send = Step::Confirmed;
                }
            }
            for (_, _, number) in &unit.takes {
                if let Some(fate) = around.model.fates.get_mut(number) {
                    fate.accept = Step::Confirmed;
                }
            }
            return Ok(());
        };
        let expected = matches!(refusal, Refusal::RollbackOnly { .. }) && unit.unanswered > 0;
        if !expected && !refusal.is_want_of_room() {
            return Err(format!("a commit was refused: {refusal:?}"));
        }
        for number in &unit.sends {
            if let Some(fate) = around.model.fates.get_mut(number) {
                fate.send = Step::Void;
            }
        }
        unit.undo(around.model);
        let (transaction, disposition) = (TransactionName(unit.name), Disposition::Return);
        self.ask(around, Command::Rollback { transaction, disposition }, Asked::Other);
        Ok(())
    }

    /// A command as a part of the transaction there is.
    pub(super) fn within(&self, work: Work) -> Command {
        let name = self.unit.as_ref().expect("the caller has seen it").name;
        Command::Transact { transaction: TransactionName(name), work }
    }
}
