//! What decide states of branches: each step of the table, and what time brings about.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::life::By;
use super::table::{Bond, Health, State, Step, Verb, next};
use super::{BranchChange, EndAs, OutcomePage, OutcomeRequest, StartAs, Vote, XaCommand, XaError};
use crate::broker::branch::Recall;
use crate::broker::command::{Disposition, Refusal, Reply};
use crate::broker::decide::{DONE, Verdict};
use crate::broker::delta::{OutcomeRow, Resolution};
use crate::broker::fact::{Asker, Change, Effect, Fact, UnitKey};
use crate::broker::{Broker, Effects};
use crate::ids::{ConnectionId, Millis, TransactionId, Xid};
use crate::limits;
use crate::mutant::{self, Mutant};
use crate::record::{BranchRecord, Decided, Record};

/// How what is not wanted ends.
pub(super) const UNDO: (Resolution, Disposition) = (Resolution::Rollback, Disposition::Return);

type Verdicts = Result<Verdict, Refusal>;

impl Broker {
    /// What is asked of a branch.
    pub(crate) fn decide_xa(
        &self,
        now: Millis,
        asker: Asker,
        command: &XaCommand,
        facts: &mut Vec<Fact>,
    ) -> Verdicts {
        let connection = asker.connection;
        match command {
            XaCommand::Start { xid, how, transaction, timeout, client } => {
                let by = (connection, *transaction);
                let deadline = now.0.saturating_add(
                    timeout.unwrap_or(self.limits.branch_millis).min(limits::BRANCH_MILLIS_MAX),
                );
                self.decide_start((xid, *how), by, Millis(deadline), client, facts)
            }
            XaCommand::End { xid, transaction, how } => {
                self.decide_leave(now, asker, xid, (connection, *transaction), *how, facts)
            }
            XaCommand::Prepare { xid } => self.decide_prepare(now, asker, xid, facts),
            XaCommand::Commit { xid, one_phase } => {
                let verb = Verb::Commit { one_phase: *one_phase };
                self.decide_ending(now, asker, xid, verb, Disposition::Return, facts)
            }
            XaCommand::Rollback { xid, disposition } => {
                self.decide_ending(now, asker, xid, Verb::Rollback, *disposition, facts)
            }
            XaCommand::Decide { xid, resolution } => {
                let verb = Verb::Decide(*resolution);
                self.decide_ending(now, asker, xid, verb, Disposition::Return, facts)
            }
            XaCommand::Forget { xid } => {
                next(self.state_of(xid, None), Verb::Forget).map_err(Refusal::Xa)?;
                facts.push(logged(BranchRecord::Forgotten { xid: Xid::clone(xid) }));
                DONE
            }
            XaCommand::Recover { after } => {
                let after = self.durable.branches.after(after.as_deref());
                let page = after.take(limits::BRANCHES_A_PAGE);
                let page = page.map(|(xid, known)| self.branch_info(xid, known));
                Ok(Verdict::Answer(Reply::Branches(page.collect())))
            }
            XaCommand::Find { xid } => {
                let found = self.durable.branches.find(xid);
                let found = found.map(|known| self.branch_info(xid, known));
                Ok(Verdict::Answer(Reply::Branches(found.into_iter().collect())))
            }
        }
    }

    fn decide_start(
        &self,
        (xid, how): (&Arc<Xid>, StartAs),
        by: By,
        deadline: Millis,
        client: &Arc<str>,
        facts: &mut Vec<Fact>,
    ) -> Verdicts {
        let step = next(self.state_of(xid, Some(by)), Verb::Start(how)).map_err(Refusal::Xa)?;
        if step == Step::Resume {
            facts.push(of(xid, BranchChange::Suspend { by, rests: false }));
            return DONE;
        }
        let taken = self.branches.associations.contains_key(&by)
            || self.units.is_open(UnitKey::Local(by.0, by.1));
        if taken {
            return Err(Refusal::TransactionExists);
        }
        // To join is also how a session makes sure that a branch can only be rolled back.
        self.check_units(by.0, usize::from(how == StartAs::Join))?;
        if step == Step::Join {
            facts.push(of(xid, BranchChange::Join { by }));
            return DONE;
        }
        let (prepared, decided) = self.durable.branches.counts();
        let limit = limits::BRANCHES_MAX;
        if self.branches.open.len().max(prepared) >= limit || decided >= limit {
            return Err(Refusal::TooManyBranches { limit });
        }
        let end = client.floor_char_boundary(limits::BRANCH_CLIENT_BYTES_MAX);
        let client = if end < client.len() { client[..end].into() } else { Arc::clone(client) };
        facts.push(of(xid, BranchChange::Begin { by, deadline, client }));
        DONE
    }

    fn decide_leave(
        &self,
        now: Millis,
        asker: Asker,
        xid: &Arc<Xid>,
        by: By,
        how: EndAs,
        facts: &mut Vec<Fact>,
    ) -> Verdicts {
        let step = next(self.state_of(xid, Some(by)), Verb::End(how)).map_err(Refusal::Xa)?;
        match step {
            Step::Suspend => facts.push(of(xid, BranchChange::Suspend { by, rests: true })),
            Step::LeaveBroken(why) => {
                facts.push(of(xid, BranchChange::Leave { by }));
                return Ok(tell(asker, Err(self.broken(xid, why)), facts));
            }
            Step::Leave(broken) => {
                facts.push(of(xid, BranchChange::Leave { by }));
                if let Some(why) = broken {
                    if how != EndAs::Lost {
                        self.state_renewed(UnitKey::Branch(self.branches.open[xid].id), facts);
                    }
                    self.state_undone(now, xid, why, facts);
                }
            }
            _ => unreachable!("no other step ends an association"),
        }
        DONE
    }

    /// The vote, and before it what is to be durable with it, some at a time.
    fn decide_prepare(
        &self,
        now: Millis,
        asker: Asker,
        xid: &Arc<Xid>,
        facts: &mut Vec<Fact>,
    ) -> Verdicts {
        let Some(state) = self.state_or_ask(asker, xid, Verb::Prepare, facts) else {
            return Ok(Verdict::Later);
        };
        let step = next(state, Verb::Prepare).map_err(Refusal::Xa)?;
        // What would have to go for it goes with the commit: it may still be rolled back. Only that
        // it waits is stated.
        let mut stated = Vec::new();
        if step == Step::Prepare
            && let Some(wait) = self.room_of(xid, &mut stated)?
        {
            facts.append(&mut stated);
            return Ok(wait);
        }
        match step {
            Step::ReadOnly => {
                self.state_end_open(now, xid, UNDO, None, facts);
                Ok(Verdict::Answer(Reply::Vote(Vote::ReadOnly)))
            }
            Step::Break(why) => {
                self.state_end_open(now, xid, UNDO, None, facts);
                Ok(tell(asker, Err(self.broken(xid, why)), facts))
            }
            Step::Prepare => {
                let branch = &self.branches.open[xid];
                let key = UnitKey::Branch(branch.id);
                let (kept, all) = self.state_kept(key, facts);
                if kept > 0 {
                    facts.push(of(xid, BranchChange::Kept { count: kept }));
                }
                if !all {
                    return Ok(Verdict::Part);
                }
                let begun = self.units.transaction(key);
                // The first that was kept has begun it.
                let next = || TransactionId(self.durable.scalars.last_transaction + 1);
                let transaction = begun.unwrap_or_else(next);
                let (at, client) = (self.time(now), Box::from(&*branch.client));
                let xid_of = Xid::clone(xid);
                facts.push(logged(BranchRecord::Prepared { transaction, at, xid: xid_of, client }));
                facts.push(of(xid, BranchChange::Prepared));
                Ok(Verdict::Answer(Reply::Vote(Vote::Ok)))
            }
            _ => unreachable!("no other step is a vote"),
        }
    }

    /// The state of a branch, its remembered end included. `None` where that lies in the index
    /// alone: it is asked for there, and the verb is answered when it is known.
    fn state_or_ask(
        &self,
        asker: Asker,
        xid: &Arc<Xid>,
        verb: Verb,
        facts: &mut Vec<Fact>,
    ) -> Option<State> {
        let state = self.state_of(xid, None);
        if state != State::Absent || matches!(verb, Verb::Decide(_)) {
            return Some(state);
        }
        match self.durable.recall(xid) {
            Recall::Known(row) => Some(remembered(row)),
            Recall::Ask => {
                let (xid, generation) = (Arc::clone(xid), self.durable.generation);
                let request = OutcomeRequest { xid, asker, verb, generation };
                facts.push(Fact::Memory(Change::Recall(request)));
                None
            }
        }
    }

    /// Commit, rollback, and what an operator decides.
    fn decide_ending(
        &self,
        now: Millis,
        asker: Asker,
        xid: &Arc<Xid>,
        verb: Verb,
        disposition: Disposition,
        facts: &mut Vec<Fact>,
    ) -> Verdicts {
        let Some(state) = self.state_or_ask(asker, xid, verb, facts) else {
            return Ok(Verdict::Later);
        };
        let at = self.time(now);
        match next(state, verb).map_err(Refusal::Xa)? {
            // The first answer may still wait for the log, and this one for the same.
            Step::Repeat => Ok(tell(asker, Ok(Reply::Done), facts)),
            Step::Break(why) => {
                self.state_end_open(now, xid, UNDO, None, facts);
                Ok(tell(asker, Err(self.broken(xid, why)), facts))
            }
            Step::RollbackOpen => {
                let how = (Resolution::Rollback, disposition);
                self.state_renewed(UnitKey::Branch(self.branches.open[xid].id), facts);
                Ok(self.state_end_open(now, xid, how, Some(asker), facts))
            }
            Step::CommitOpen => {
                if let Some(wait) = self.room_of(xid, facts)? {
                    return Ok(wait);
                }
                let branch = &self.branches.open[xid];
                let key = UnitKey::Branch(branch.id);
                let transaction = self.units.transaction(key);
                // Also where nothing was done: who asks again is to hear that it is well.
                facts.push(completed(xid, transaction, Resolution::Commit, false, at));
                let how = (Resolution::Commit, disposition);
                Ok(self.state_end(now, xid, (transaction, true), how, Some(asker), facts))
            }
            Step::Complete(resolution) | Step::Decide(resolution) => {
                let operator = matches!(verb, Verb::Decide(_));
                let transaction = self.durable.branches.prepared(xid);
                if let (Resolution::Commit, Some(branch)) =
                    (resolution, self.branches.open.get(xid))
                {
                    self.make_room(UnitKey::Branch(branch.id), facts);
                }
                facts.push(completed(xid, transaction, resolution, operator, at));
                let how = (resolution, disposition);
                Ok(self.state_end(now, xid, (transaction, true), how, Some(asker), facts))
            }
            _ => unreachable!("no other step is an outcome"),
        }
    }

    /// For what an open branch must wait, so that there is room for all it sends.
    fn room_of(&self, xid: &Xid, facts: &mut Vec<Fact>) -> Result<Option<Verdict>, Refusal> {
        self.room_of_unit(UnitKey::Branch(self.branches.open[xid].id), facts)
    }

    /// The end of a branch that has not voted and is not committed.
    fn state_end_open(
        &self,
        now: Millis,
        xid: &Arc<Xid>,
        how: (Resolution, Disposition),
        asker: Option<Asker>,
        facts: &mut Vec<Fact>,
    ) -> Verdict {
        let transaction = self.units.transaction(UnitKey::Branch(self.branches.open[xid].id));
        self.state_end(now, xid, (transaction, false), how, asker, facts)
    }

    /// The end of a branch, and all that comes of it where that is little. `decided` says that its
    /// outcome is in the log.
    fn state_end(
        &self,
        now: Millis,
        xid: &Arc<Xid>,
        (transaction, decided): (Option<TransactionId>, bool),
        (resolution, disposition): (Resolution, Disposition),
        asker: Option<Asker>,
        facts: &mut Vec<Fact>,
    ) -> Verdict {
        let key = self.branches.open.get(xid).map(|branch| UnitKey::Branch(branch.id));
        let how = (resolution, disposition);
        let at_once = self.state_settled_at_once(now, key, (transaction, decided), how, facts);
        let asker = asker.filter(|_| !at_once);
        let waits = asker.is_some();
        let at_once = if waits { 0 } else { key.map_or(0, |key| self.done_at_once(key)) };
        let end = BranchChange::End { transaction, resolution, disposition, asker, at_once };
        facts.push(of(xid, end));
        if waits { Verdict::Fence } else { Verdict::Answer(Reply::Done) }
    }

    /// What a branch is refused with that can only be rolled back: what was refused in it, where
    /// that is why.
    fn broken(&self, xid: &Arc<Xid>, why: XaError) -> Refusal {
        let unit = self.unit_of_branch(xid).and_then(|key| self.units.get(key));
        match unit.and_then(|unit| unit.doomed.clone()) {
            None | Some(Refusal::Xa(_)) => Refusal::Xa(why),
            Some(because) => Refusal::RollbackOnly { because: Box::new(because) },
        }
    }

    /// The work of a branch is undone, and it waits for its manager to hear of that. Gives how much
    /// that takes at once.
    fn state_break(
        &self,
        now: Millis,
        xid: &Arc<Xid>,
        why: XaError,
        facts: &mut Vec<Fact>,
    ) -> usize {
        self.state_renewed(UnitKey::Branch(self.branches.open[xid].id), facts);
        self.state_undone(now, xid, why, facts)
    }

    /// The same without a word of an older branch of that name.
    fn state_undone(
        &self,
        now: Millis,
        xid: &Arc<Xid>,
        why: XaError,
        facts: &mut Vec<Fact>,
    ) -> usize {
        let key = UnitKey::Branch(self.branches.open[xid].id);
        if let Some(transaction) = self.units.transaction(key) {
            let resolution = Resolution::Rollback;
            let decided = Record::Decided(Decided { transaction, resolution });
            facts.push(Fact::Log(decided, Bytes::new()));
        }
        let (at_once, deadline) = (self.done_at_once(key), self.gives_up_at(now));
        facts.push(of(xid, BranchChange::Break { why, deadline, at_once }));
        at_once
    }

    /// When a branch that is broken now is looked at again, and given up if nobody is in it.
    fn gives_up_at(&self, now: Millis) -> Millis {
        let later = self.limits.branch_millis.clamp(1, limits::BROKEN_BRANCH_MILLIS);
        Millis(now.0.saturating_add(later))
    }

    /// A vote that is refused is a no, and so is a commit without one; after that nobody asks for a
    /// rollback. False where there is nothing that could be rolled back.
    pub fn decide_no_vote(&self, now: Millis, command: &XaCommand, facts: &mut Vec<Fact>) -> bool {
        let (XaCommand::Prepare { xid } | XaCommand::Commit { xid, one_phase: true }) = command
        else {
            return false;
        };
        match self.state_of(xid, None) {
            State::Open(Bond::Free, _) => drop(self.state_end_open(now, xid, UNDO, None, facts)),
            // Those who are in it hear of it.
            State::Open(_, Health::Broken(_)) => {}
            State::Open(..) => _ = self.state_break(now, xid, XaError::RbTransient, facts),
            State::Absent | State::Prepared | State::Heuristic(_) | State::Done(_) => return false,
        }
        true
    }

    /// States what the end of a connection means for branches with which it is associated: as much
    /// as is left to a step. False where that was not all.
    pub(crate) fn decide_close_branches(
        &self,
        now: Millis,
        connection: ConnectionId,
        left: &mut usize,
        facts: &mut Vec<Fact>,
    ) -> bool {
        let mut broken = BTreeSet::new();
        for (by, association) in self.branches.of(connection) {
            if *left == 0 {
                return false;
            }
            *left -= 1;
            facts.push(of(&association.xid, BranchChange::Leave { by: *by }));
            if broken.insert(&association.xid)
                && self.branches.open[&association.xid].broken.is_none()
            {
                let undone = self.state_break(now, &association.xid, XaError::RbCommFail, facts);
                *left = left.saturating_sub(undone);
            }
        }
        true
    }

    /// Whether the name of an open branch may have been that of an older one, and this is in the
    /// log.
    #[must_use]
    pub fn has_renewed(&self, xid: &Xid) -> bool {
        let branch = self.branches.open.get(xid).map(|branch| UnitKey::Branch(branch.id));
        branch.and_then(|key| self.units.get(key)).is_some_and(|unit| unit.renewed)
    }

    /// Whether time has come for something about branches.
    pub(crate) fn has_due_branches(&self, now: Millis) -> bool {
        self.branches.next_deadline().is_some_and(|at| at <= now) || self.due_outcomes(now).is_ok()
    }

    /// When that will be.
    pub(crate) fn next_branch_deadline(&self) -> Option<Millis> {
        let outcomes = self.due_outcomes(Millis(0)).err().flatten();
        [self.branches.next_deadline(), outcomes].into_iter().flatten().min()
    }

    fn due_outcomes(&self, now: Millis) -> Result<u64, Option<Millis>> {
        let (millis, count) = (self.limits.outcome_millis, self.limits.outcomes);
        self.durable.branches.due(now, millis, count)
    }

    /// Does one thing for which the time has come; false where there is none.
    pub(crate) fn state_due_branches(&self, now: Millis, facts: &mut Vec<Fact>) -> bool {
        if let Ok(through) = self.due_outcomes(now) {
            facts.push(logged(BranchRecord::OutcomesForgotten { through }));
            return true;
        }
        let Some(((at, _), xid)) = self.branches.deadlines.first_key_value() else { return false };
        if *at > now {
            return false;
        }
        let branch = &self.branches.open[xid];
        match (branch.broken, branch.bonds) {
            (None, _) => _ = self.state_break(now, xid, XaError::RbTimeout, facts),
            (Some(_), 0) => drop(self.state_end_open(now, xid, UNDO, None, facts)),
            (Some(_), _) => {
                let deadline = self.gives_up_at(now);
                facts.push(of(xid, BranchChange::Wait { deadline }));
            }
        }
        true
    }

    /// Takes in an outcome that was asked for. What the index has moved past is asked for again.
    pub fn outcome_in(&mut self, page: OutcomePage, facts: &mut Vec<Fact>) {
        let OutcomePage { mut request, row } = page;
        let row = match self.durable.recall(&request.xid) {
            Recall::Known(row) => row,
            Recall::Ask if request.generation == self.durable.generation => self.durable.still(row),
            Recall::Ask => {
                request.generation = self.durable.generation;
                return facts.push(Fact::Memory(Change::Recall(request)));
            }
        };
        // The branch was not there when it was asked for; what has begun since is another.
        let result = match next(remembered(row), request.verb) {
            Ok(_) => Ok(Reply::Done),
            Err(error) => Err(Refusal::Xa(error)),
        };
        facts.push(Fact::Memory(Change::Tell { asker: request.asker, result }));
    }

    pub(crate) fn apply_recall(&mut self, request: OutcomeRequest, effects: &mut Effects) {
        effects.push(Effect::Outcome(request));
    }
}

fn remembered(row: Option<OutcomeRow>) -> State {
    row.filter(|_| !mutant::is(Mutant::ForgetOutcomes))
        .map_or(State::Absent, |row| State::Done(row.resolution))
}

fn of(xid: &Arc<Xid>, change: BranchChange) -> Fact {
    Fact::Memory(Change::Branch(Arc::clone(xid), change))
}

fn logged(record: BranchRecord) -> Fact {
    Fact::Log(Record::Branch(record), Bytes::new())
}

fn completed(
    xid: &Arc<Xid>,
    transaction: Option<TransactionId>,
    resolution: Resolution,
    operator: bool,
    at: Millis,
) -> Fact {
    let xid = Xid::clone(xid);
    logged(BranchRecord::Completed { transaction, resolution, operator, at, xid })
}

/// An answer that waits for everything that is decided so far.
fn tell(asker: Asker, result: Result<Reply, Refusal>, facts: &mut Vec<Fact>) -> Verdict {
    facts.push(Fact::Memory(Change::Tell { asker, result }));
    Verdict::Later
}
