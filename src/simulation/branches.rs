//! Branches of the simulated clients, and what a store must look like after each.
//!
//! A transaction of a client may be a branch: it is ended, votes, and gets its outcome later, from
//! whichever client comes by, after whatever has happened meanwhile, or from an operator. A vote
//! that was heard is there after every crash; an outcome whose answer was lost is told again, and
//! what an operator has decided until it is forgotten by request.

use std::sync::Arc;

use crate::broker::command::{Command, Disposition, EndAs, Refusal, StartAs, XaCommand, XaError};
use crate::broker::delta::Resolution;
use crate::ids::{TransactionName, Xid};

use super::clients::{Asked, Client, Surroundings};
use super::model::{Fate, Model, Step};
use super::node::Contents;
use super::random::Random;
use super::units::{InDoubt, Unit};

/// A branch as its transaction manager knows it.
#[derive(Clone, Debug)]
pub(super) struct Branch {
    sends: Vec<u64>,
    takes: Vec<u64>,
    stage: Stage,
    /// Its vote was heard.
    heard: bool,
    /// How often it was still associated with a connection that had gone.
    waited: u32,
    operator: Operator,
}

/// What an operator has to do with the outcome of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Nothing,
    /// It was asked to decide.
    Asked,
    /// It was, and nobody waits for the answer.
    Unknown,
    /// It has: its manager is told so.
    Decided,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It was asked to prepare.
    Asked,
    /// It may have been; nobody waits for the answer.
    Unknown,
    Voted,
    /// It was asked to end so.
    Ending(Resolution),
    /// It was, and nobody waits for the answer.
    Again(Resolution),
}

pub(super) fn xid_of(number: u64) -> Arc<Xid> {
    Arc::new(Xid::new(7, &number.to_le_bytes(), b"simulated").expect("short"))
}

pub(super) fn number_of_xid(xid: &Xid) -> u64 {
    u64::from_le_bytes(xid.global().try_into().expect("as it was made"))
}

impl Model {
    /// The name of the next branch: a new one, or that of one that is over.
    fn name_branch(&mut self, random: &mut Random) -> u64 {
        if !self.over.is_empty() && random.one_in(3) {
            return self.over.swap_remove(random.below(self.over.len() as u64) as usize);
        }
        self.last_branch += 1;
        self.last_branch
    }

    fn set_sends(&mut self, numbers: &[u64], step: Step) {
        for number in numbers {
            if let Some(fate) = self.fates.get_mut(number) {
                fate.send = step;
            }
        }
    }

    fn set_takes(&mut self, numbers: &[u64], step: Step) {
        for number in numbers {
            if let Some(fate) = self.fates.get_mut(number) {
                fate.accept = step;
            }
        }
    }

    /// What a branch has settled comes back, counted.
    fn give_back(&mut self, takes: &[u64]) {
        self.set_takes(takes, Step::No);
        for number in takes {
            if let Some(fate) = self.fates.get_mut(number) {
                fate.returns_by_end += 1;
            }
        }
    }

    /// Whether every vote that was heard is there.
    pub(super) fn check_branches(&self, contents: &Contents) -> Result<(), String> {
        for (number, branch) in &self.branches {
            if branch.operator == Operator::Decided && contents.prepared.contains(number) {
                return Err(format!("what was decided of branch {number} is forgotten"));
            }
            if branch.stage == Stage::Voted && !contents.prepared.contains(number) {
                return Err(format!("the vote of branch {number} is forgotten: {branch:?}"));
            }
        }
        match contents.prepared.iter().find(|number| !self.branches.contains_key(number)) {
            Some(number) => Err(format!("branch {number} is over, and is prepared")),
            None => Ok(()),
        }
    }

    /// What prepared branches have done is still as unknown as before: to be put back after what
    /// else was unknown is known.
    pub(super) fn of_branches(&self, contents: &Contents) -> Vec<(u64, Fate)> {
        let prepared = self.branches.iter().filter(|(it, _)| contents.prepared.contains(it));
        let numbers = prepared.flat_map(|(_, branch)| branch.sends.iter().chain(&branch.takes));
        numbers.filter_map(|it| Some((*it, self.fates.get(it)?.clone()))).collect()
    }

    pub(super) fn resolve_branches(&mut self, contents: &Contents, before: Vec<(u64, Fate)>) {
        for (number, fate) in before {
            self.fates.entry(number).or_insert(fate);
        }
        let mut branches = std::mem::take(&mut self.branches);
        branches.retain(|number, branch| {
            if contents.prepared.contains(number) {
                (branch.stage, branch.operator) = (Stage::Voted, Operator::Nothing);
                branch.heard = true;
                self.set_sends(&branch.sends, Step::Void);
                self.set_takes(&branch.takes, Step::Held);
                return true;
            }
            match branch.stage {
                Stage::Ending(resolution) | Stage::Again(resolution) => {
                    branch.stage = Stage::Again(resolution);
                    true
                }
                Stage::Asked | Stage::Unknown | Stage::Voted => false,
            }
        });
        self.branches = branches;
    }
}

impl Client {
    pub(super) fn begin_branch(&mut self, around: &mut Surroundings<'_>) {
        self.last_unit += 1;
        let (name, number) = (self.last_unit, around.model.name_branch(around.random));
        self.unit = Some(Unit::of_branch(name, number));
        let (xid, transaction) = (xid_of(number), TransactionName(name));
        let (how, timeout, client) = (StartAs::New, None, "simulated".into());
        let start = XaCommand::Start { xid, how, transaction, timeout, client };
        self.ask(around, Command::Xa(start), Asked::Other);
    }

    /// Ends the work in a branch, and asks it to prepare or to undo it.
    pub(super) fn end_branch(&mut self, around: &mut Surroundings<'_>) {
        let Some(unit) = &self.unit else { return };
        let fails = unit.refused || around.random.one_in(5);
        if unit.unanswered > 0 && !fails {
            return;
        }
        let unit = self.unit.take().expect("just seen");
        let number = unit.branch.expect("the caller has seen it");
        let (xid, transaction) = (xid_of(number), TransactionName(unit.name));
        if fails {
            return self.fail_branch(around, &unit);
        }
        let end = XaCommand::End { xid: Arc::clone(&xid), transaction, how: EndAs::Success };
        self.ask(around, Command::Xa(end), Asked::Other);
        let (sends, takes) = unit.numbers();
        // What was not in the log is from now on, and comes back behind the others.
        for take in &takes {
            if let Some(fate) = around.model.fates.get_mut(take).filter(|fate| !fate.persistent) {
                fate.kept = true;
                fate.moved = true;
            }
        }
        let operator = Operator::Nothing;
        let (heard, waited, stage) = (false, 0, Stage::Asked);
        let branch = Branch { sends, takes, stage, heard, waited, operator };
        around.model.branches.insert(number, branch);
        self.ask(around, Command::Xa(XaCommand::Prepare { xid }), Asked::Prepare(number));
    }

    /// Ends the work in a branch as failed, and undoes it.
    pub(super) fn fail_branch(&mut self, around: &mut Surroundings<'_>, unit: &Unit) {
        let number = unit.branch.expect("the caller has seen it");
        let (xid, transaction) = (xid_of(number), TransactionName(unit.name));
        let end = XaCommand::End { xid: Arc::clone(&xid), transaction, how: EndAs::Fail };
        self.ask(around, Command::Xa(end), Asked::Other);
        let (sends, _) = unit.numbers();
        sends.iter().for_each(|number| around.model.once.unsure(*number));
        unit.undo(around.model);
        let rollback = XaCommand::Rollback { xid, disposition: Disposition::Return };
        self.ask(around, Command::Xa(rollback), Asked::Other);
    }

    pub(super) fn prepare_answered(
        &mut self,
        around: &mut Surroundings<'_>,
        number: u64,
        refusal: Option<&Refusal>,
    ) -> Result<(), String> {
        let model = &mut *around.model;
        let branch = model.branches.get_mut(&number).ok_or("a vote of no branch")?;
        match refusal {
            None if branch.sends.is_empty() && branch.takes.is_empty() => {
                model.branches.remove(&number);
            }
            None => (branch.stage, branch.heard) = (Stage::Voted, true),
            Some(refusal) if refusal.is_want_of_room() => {
                let branch = model.branches.remove(&number).expect("just seen");
                model.give_back(&branch.takes);
            }
            Some(refusal) => return Err(format!("a vote was refused: {refusal:?}")),
        }
        Ok(())
    }

    /// Ends some branch that waits for that, whoever has begun it.
    pub(super) fn finish_branch(&mut self, around: &mut Surroundings<'_>) {
        let waiting = around.model.branches.iter();
        let waiting =
            waiting.filter(|(_, it)| !matches!(it.stage, Stage::Asked | Stage::Ending(_)));
        let waiting: Vec<_> = waiting.map(|(number, it)| (*number, it.stage)).collect();
        if waiting.is_empty() {
            return;
        }
        let (number, stage) = waiting[around.random.below(waiting.len() as u64) as usize];
        let resolution = match stage {
            Stage::Again(resolution) => resolution,
            Stage::Unknown => Resolution::Rollback,
            _ if around.random.one_in(3) => Resolution::Rollback,
            _ => Resolution::Commit,
        };
        self.finish_as(around, number, resolution);
    }

    /// Ends all that wait for that.
    pub(super) fn finish_branches(&mut self, around: &mut Surroundings<'_>) {
        for _ in 0..around.model.branches.len() {
            self.finish_branch(around);
        }
    }

    fn finish_as(&mut self, around: &mut Surroundings<'_>, number: u64, resolution: Resolution) {
        let model = &mut *around.model;
        let mut branch = model.branches[&number].clone();
        let again = matches!(branch.stage, Stage::Again(_));
        let operator = branch.stage == Stage::Voted && around.random.one_in(4);
        branch.stage = Stage::Ending(resolution);
        if branch.operator == Operator::Asked {
            branch.operator = Operator::Unknown;
        }
        let xid = xid_of(number);
        let decide = XaCommand::Decide { xid: Arc::clone(&xid), resolution };
        let command = match resolution {
            Resolution::Commit => {
                if !again {
                    model.set_sends(&branch.sends, Step::Asked);
                    model.set_takes(&branch.takes, Step::Asked);
                    let in_doubt = InDoubt::of(&branch.sends, &branch.takes);
                    model.units.insert((number, u64::MAX), in_doubt);
                }
                XaCommand::Commit { xid, one_phase: false }
            }
            Resolution::Rollback => {
                if !again {
                    model.give_back(&branch.takes);
                }
                XaCommand::Rollback { xid, disposition: Disposition::Return }
            }
        };
        let command = if operator {
            branch.operator = Operator::Asked;
            decide
        } else {
            command
        };
        model.branches.insert(number, branch);
        self.ask(around, Command::Xa(command), Asked::Outcome(number, resolution));
    }

    pub(super) fn outcome_answered(
        &mut self,
        around: &mut Surroundings<'_>,
        number: u64,
        resolution: Resolution,
        refusal: Option<&Refusal>,
    ) -> Result<(), String> {
        let taken = around.model.branches.remove(&number);
        let mut branch = taken.ok_or("an outcome of no branch")?;
        let told = self.operator_told(around, number, resolution, &branch, refusal)?;
        let refusal = refusal.filter(|_| !told);
        let model = &mut *around.model;
        let unheard = refusal == Some(&Refusal::Xa(XaError::NotA)) && !branch.heard;
        // Where nothing was done in it, nothing is durable of its having taken the name: this may
        // be told of the one that had the name before, or of it as long as its connection, which
        // has gone, waits for what is read. So the name is not given to another.
        let empty = branch.sends.is_empty() && branch.takes.is_empty() && !branch.heard;
        let lost = empty && refusal == Some(&Refusal::Xa(XaError::Proto));
        let unheard = unheard || lost;
        // The connection that worked in it has gone, and may still wait for what is read of a
        // producer of its own: until then the branch is associated with it.
        let waits = !branch.heard && resolution == Resolution::Rollback && !unheard;
        let waits = waits && refusal == Some(&Refusal::Xa(XaError::Proto));
        branch.waited += u32::from(waits);
        if branch.waited > 1000 {
            return Err(format!("branch {number} stays with a connection that has gone"));
        }
        match refusal {
            Some(refusal) if refusal.is_want_of_room() || waits => {
                (branch.stage, branch.operator) = (Stage::Again(resolution), Operator::Nothing);
                model.branches.insert(number, branch);
                return Ok(());
            }
            Some(_) if resolution == Resolution::Rollback && unheard => {}
            Some(refusal) => {
                return Err(format!("the end of branch {number} was refused: {refusal:?}"));
            }
            None if resolution == Resolution::Commit => {
                model.units.remove(&(number, u64::MAX));
                model.set_sends(&branch.sends, Step::Confirmed);
                model.set_takes(&branch.takes, Step::Confirmed);
            }
            None => {}
        }
        if branch.operator == Operator::Asked {
            // Its manager will ask, and is told so.
            (branch.stage, branch.operator) = (Stage::Again(resolution), Operator::Decided);
            model.branches.insert(number, branch);
        } else if !told && !lost {
            model.over.push(number);
        }
        Ok(())
    }

    /// Whether a manager was told what an operator has decided, which it must be; it has that
    /// forgotten then.
    fn operator_told(
        &mut self,
        around: &mut Surroundings<'_>,
        number: u64,
        resolution: Resolution,
        branch: &Branch,
        refusal: Option<&Refusal>,
    ) -> Result<bool, String> {
        let heuristic = Refusal::Xa(match resolution {
            Resolution::Commit => XaError::HeurCommit,
            Resolution::Rollback => XaError::HeurRollback,
        });
        let may = matches!(branch.operator, Operator::Unknown | Operator::Decided);
        let told = may && refusal == Some(&heuristic);
        if branch.operator == Operator::Decided && !told {
            return Err(format!("what was decided of branch {number} is not told: {refusal:?}"));
        }
        if told {
            let forget = XaCommand::Forget { xid: xid_of(number) };
            // Its name is free when that is answered: others may be heard before it.
            self.ask(around, Command::Xa(forget), Asked::Forget(number));
        }
        Ok(told)
    }

    /// Nobody will hear the answers that this client still waits for.
    pub(super) fn leave_branches(&mut self, around: &mut Surroundings<'_>) {
        for asked in self.asked.values() {
            let (number, stage) = match asked {
                Asked::Prepare(number) => (number, Stage::Unknown),
                Asked::Outcome(number, resolution) => (number, Stage::Again(*resolution)),
                _ => continue,
            };
            if let Some(branch) = around.model.branches.get_mut(number) {
                branch.stage = stage;
            }
        }
    }
}
