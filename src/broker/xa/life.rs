//! Branches that have not voted, and who is associated with them; they live in memory alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::table::{Bond, Health, State};
use super::{BranchChange, XaError};
use crate::broker::branch::Recall;
use crate::broker::command::Refusal;
use crate::broker::fact::UnitKey;
use crate::broker::{Broker, Effects};
use crate::ids::{BranchId, ConnectionId, Millis, TransactionName, Xid};

/// An association, told apart over all connections.
pub(super) type By = (ConnectionId, TransactionName);

#[derive(Debug)]
pub(super) struct Branch {
    pub(super) id: BranchId,
    /// Associations, those that rest included.
    pub(super) bonds: usize,
    /// Its work was rolled back, for this cause.
    pub(super) broken: Option<XaError>,
    /// When it is rolled back, or looked at again; none once it has voted.
    pub(super) deadline: Option<Millis>,
    pub(super) client: Arc<str>,
}

#[derive(Debug)]
pub(super) struct Association {
    pub(super) xid: Arc<Xid>,
    pub(super) rests: bool,
}

/// All that have something in memory: those that have voted in this life are among them.
#[derive(Debug, Default)]
pub(crate) struct Branches {
    pub(super) open: BTreeMap<Arc<Xid>, Branch>,
    pub(super) associations: BTreeMap<By, Association>,
    pub(super) deadlines: BTreeMap<(Millis, BranchId), Arc<Xid>>,
    last: u64,
}

impl Branches {
    /// The associations of a connection.
    pub(super) fn of(&self, connection: ConnectionId) -> impl Iterator<Item = (&By, &Association)> {
        let all = (connection, TransactionName(0))..=(connection, TransactionName(u64::MAX));
        self.associations.range(all)
    }

    /// When something is to be done about one though nothing happens.
    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        self.deadlines.first_key_value().map(|((at, _), _)| *at)
    }

    fn wait_until(&mut self, xid: &Arc<Xid>, deadline: Option<Millis>) {
        let Some(branch) = self.open.get_mut(xid) else { return };
        if let Some(old) = std::mem::replace(&mut branch.deadline, deadline) {
            self.deadlines.remove(&(old, branch.id));
        }
        if let Some(new) = deadline {
            self.deadlines.insert((new, branch.id), Arc::clone(xid));
        }
    }
}

impl Broker {
    /// What a connection names so: a branch, or a transaction of its own.
    pub(crate) fn unit_named(
        &self,
        connection: ConnectionId,
        name: TransactionName,
    ) -> Result<UnitKey, Refusal> {
        match self.branches.associations.get(&(connection, name)) {
            None => Ok(UnitKey::Local(connection, name)),
            Some(association) if association.rests => Err(Refusal::Xa(XaError::Proto)),
            Some(association) => Ok(UnitKey::Branch(self.branches.open[&association.xid].id)),
        }
    }

    /// What is done in a branch that is in memory.
    pub(crate) fn unit_of_branch(&self, xid: &Xid) -> Option<UnitKey> {
        self.branches.open.get(xid).map(|branch| UnitKey::Branch(branch.id))
    }

    /// Associations of a connection, which count as transactions of its own do.
    pub(crate) fn associations_of(&self, connection: ConnectionId) -> usize {
        self.branches.of(connection).count()
    }

    /// The state of a branch for the association that asks, as far as memory knows.
    pub(super) fn state_of(&self, xid: &Xid, by: Option<By>) -> State {
        let known = &self.durable.branches;
        if known.prepared(xid).is_some() {
            return State::Prepared;
        }
        if let Some(row) = known.heuristic(xid) {
            return State::Heuristic(row.resolution);
        }
        let Some(branch) = self.branches.open.get(xid) else { return State::Absent };
        let mine = by.and_then(|by| self.branches.associations.get(&by));
        let bond = match mine.filter(|association| *association.xid == *xid) {
            Some(association) if association.rests => Bond::Suspended,
            Some(_) => Bond::Mine,
            None if branch.bonds > 0 => Bond::Others,
            None => Bond::Free,
        };
        let health = match (branch.broken, self.units.state(UnitKey::Branch(branch.id))) {
            (Some(why), _) => Health::Broken(why),
            (None, (true, _)) => Health::Broken(XaError::RbRollback),
            (None, (false, true)) => Health::Sound,
            (None, (false, false)) => Health::Empty,
        };
        State::Open(bond, health)
    }

    pub(crate) fn apply_branch_change(
        &mut self,
        xid: &Arc<Xid>,
        change: BranchChange,
        effects: &mut Effects,
    ) {
        match change {
            BranchChange::Begin { by, deadline, client } => {
                self.branches.last += 1;
                let id = BranchId(self.branches.last);
                let branch = Branch { id, bonds: 0, broken: None, deadline: None, client };
                self.branches.open.insert(Arc::clone(xid), branch);
                self.branches.wait_until(xid, Some(deadline));
                // What the index remembers is looked up by nobody who begins: it is not to wait.
                let known = self.durable.recall(xid) == Recall::Known(None);
                let anew = (!known).then(|| Arc::clone(xid));
                self.units.begin(UnitKey::Branch(id), anew, self.durable.names.next_commit());
                self.join(xid, by);
            }
            BranchChange::Join { by } => self.join(xid, by),
            BranchChange::Suspend { by, rests } => {
                let association = self.branches.associations.get_mut(&by);
                association.expect("stated of one that there is").rests = rests;
            }
            BranchChange::Leave { by } => {
                self.branches.associations.remove(&by).expect("stated of one that there is");
                self.open_branch(xid).bonds -= 1;
            }
            BranchChange::Break { why, deadline, at_once } => {
                let branch = self.open_branch(xid);
                branch.broken = Some(why);
                let key = UnitKey::Branch(branch.id);
                self.branches.wait_until(xid, Some(deadline));
                let unit = self.units.take(key);
                let (resolution, disposition) = super::steps::UNDO;
                let how = (resolution, disposition);
                self.begin_ending(unit, None, how, (None, at_once), effects);
                self.units.begin_broken(key, why);
            }
            BranchChange::Wait { deadline } => self.branches.wait_until(xid, Some(deadline)),
            BranchChange::Kept { count } => {
                let key = UnitKey::Branch(self.open_branch(xid).id);
                self.apply_kept_in(key, count);
            }
            BranchChange::Prepared => {
                // It may be long until its outcome, and it waits for no room any more.
                let key = UnitKey::Branch(self.open_branch(xid).id);
                self.units.has_room(key);
                self.branches.wait_until(xid, None);
            }
            BranchChange::End { transaction, resolution, disposition, asker, at_once } => {
                self.branches.wait_until(xid, None);
                let branch = self.branches.open.remove(xid);
                let unit = branch.and_then(|it| self.units.take(UnitKey::Branch(it.id)));
                let how = (resolution, disposition);
                self.begin_ending(unit, transaction, how, (asker, at_once), effects);
            }
        }
    }

    fn join(&mut self, xid: &Arc<Xid>, by: By) {
        let association = Association { xid: Arc::clone(xid), rests: false };
        self.branches.associations.insert(by, association);
        self.open_branch(xid).bonds += 1;
    }

    fn open_branch(&mut self, xid: &Arc<Xid>) -> &mut Branch {
        self.branches.open.get_mut(xid).expect("stated of one that is open")
    }
}
