//! What transactions and branches come to, in plain maps: every message is somewhere, once.

use std::collections::BTreeMap;

use super::{
    Disposition, EndAs, PREFETCH, Resolution, StartAs, TIMEOUT, Verb, Vote, XIDS, XaError,
};
use crate::ids::Tag;
use crate::limits::BROKEN_BRANCH_MILLIS;

/// Clients with a connection each, which consume from all queues.
pub(super) const CLIENTS: usize = 3;

pub(super) const QUEUES: usize = 2;

/// In what something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// The transaction of a connection.
    Local(u64),
    Branch(usize),
}

/// A consumer: its connection, and from which queue it takes.
type By = (u64, usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    /// Sent in a transaction that has no outcome.
    Unborn(Unit),
    Waiting,
    Lent(By, Tag),
    /// In a transaction that has no outcome, and whether it is to come back.
    Settled {
        unit: Unit,
        by: (By, Tag),
        returned: bool,
    },
    Gone,
}

#[derive(Clone, Copy, Debug)]
struct Message {
    queue: usize,
    /// It outlives the process.
    logged: bool,
    /// A vote has put it into the log: it is in its queue no more.
    kept: bool,
    returns: u32,
    /// It was delivered.
    delivered: bool,
    /// In an earlier life.
    seen: bool,
    place: Where,
}

/// A branch in memory or waiting for its manager.
#[derive(Clone, Debug)]
enum Branch {
    Open {
        /// The connections associated with it, and whether their associations rest.
        bonds: BTreeMap<u64, bool>,
        broken: Option<XaError>,
        deadline: u64,
    },
    Prepared,
    Decided(Resolution),
}

#[derive(Debug)]
pub(super) struct Plain {
    connections: [u64; CLIENTS],
    last_connection: u64,
    /// By number, from 1.
    messages: BTreeMap<u64, Message>,
    /// Connections in a transaction of their own.
    local: Vec<u64>,
    branches: [Option<Branch>; XIDS],
    /// The last outcomes.
    remembered: [Option<Resolution>; XIDS],
    /// Lives before this one.
    lives: u64,
}

type Said = Result<Option<Vote>, XaError>;

const RETURN: Disposition = Disposition::Return;

impl Plain {
    pub(super) fn new() -> Self {
        Self {
            connections: std::array::from_fn(|client| 1 + client as u64),
            last_connection: CLIENTS as u64,
            messages: BTreeMap::new(),
            local: Vec::new(),
            branches: std::array::from_fn(|_| None),
            remembered: [None; XIDS],
            lives: 0,
        }
    }

    pub(super) fn connection(&self, client: usize) -> u64 {
        self.connections[client]
    }

    pub(super) fn next_number(&self) -> u64 {
        self.messages.len() as u64 + 1
    }

    pub(super) fn send(&mut self, queue: usize, logged: bool, unit: Option<Unit>) {
        self.renew(unit);
        let place = unit.map_or(Where::Waiting, Where::Unborn);
        let (kept, returns, delivered, seen) = (false, 0, false, false);
        let message = Message { queue, logged, kept, returns, delivered, seen, place };
        self.messages.insert(self.next_number(), message);
    }

    /// The oldest delivery of a client from a queue.
    pub(super) fn loan(&self, client: usize, queue: usize) -> Option<u64> {
        let by = (self.connections[client], queue);
        let is = |message: &Message| matches!(message.place, Where::Lent(of, _) if of == by);
        self.messages.iter().find(|(_, message)| is(message)).map(|(number, _)| *number)
    }

    pub(super) fn tag(&self, number: u64) -> Tag {
        match self.messages[&number].place {
            Where::Lent(_, tag) => tag,
            _ => unreachable!("only loans are asked for"),
        }
    }

    pub(super) fn settle(&mut self, number: u64, returned: bool, unit: Option<Unit>) {
        self.renew(unit);
        let message = self.messages.get_mut(&number).expect("a loan");
        let Where::Lent(by, tag) = message.place else { unreachable!("a loan") };
        match unit {
            Some(unit) => message.place = Where::Settled { unit, by: (by, tag), returned },
            None if returned => message.come_back(),
            None => message.place = Where::Gone,
        }
    }

    pub(super) fn begin(&mut self, client: usize) -> bool {
        let connection = self.connections[client];
        let new = !self.local.contains(&connection);
        if new {
            self.local.push(connection);
        }
        new
    }

    /// Commits the transaction of a client, or rolls it back so; false where there is none.
    pub(super) fn end(&mut self, client: usize, rollback: Option<Disposition>) -> bool {
        let connection = self.connections[client];
        let Some(at) = self.local.iter().position(|it| *it == connection) else { return false };
        self.local.remove(at);
        match rollback {
            None => self.finish(Unit::Local(connection), Resolution::Commit, RETURN),
            Some(how) => self.finish(Unit::Local(connection), Resolution::Rollback, how),
        }
        true
    }

    /// What a client means by the name of a transaction or branch, or why it may not.
    pub(super) fn unit(
        &self,
        client: usize,
        within: Option<usize>,
    ) -> Result<Unit, Option<XaError>> {
        let connection = self.connections[client];
        let Some(xid) = within else {
            let open = self.local.contains(&connection);
            return if open { Ok(Unit::Local(connection)) } else { Err(None) };
        };
        match &self.branches[xid] {
            Some(Branch::Open { bonds, broken, .. }) => match (bonds.get(&connection), broken) {
                (None, _) => Err(None),
                (Some(true), _) => Err(Some(XaError::Proto)),
                (Some(false), Some(why)) => Err(Some(*why)),
                (Some(false), None) => Ok(Unit::Branch(xid)),
            },
            _ => Err(None),
        }
    }

    /// Everything that was done in a unit gets its outcome.
    fn finish(&mut self, unit: Unit, resolution: Resolution, disposition: Disposition) {
        let living = self.connections;
        for message in self.messages.values_mut() {
            match (message.place, resolution) {
                (Where::Unborn(of), Resolution::Commit) if of == unit => {
                    message.place = Where::Waiting;
                }
                (Where::Unborn(of), Resolution::Rollback) if of == unit => {
                    message.place = Where::Gone;
                }
                (Where::Settled { unit: of, by: (by, tag), returned }, resolution)
                    if of == unit =>
                {
                    message.kept = false;
                    let keeps = resolution == Resolution::Rollback
                        && disposition == Disposition::Keep
                        && living.contains(&by.0);
                    match resolution {
                        Resolution::Commit if !returned => message.place = Where::Gone,
                        _ if keeps => message.place = Where::Lent(by, tag),
                        _ => message.come_back(),
                    }
                }
                _ => {}
            }
        }
    }

    /// What is done in a branch makes its name its own.
    fn renew(&mut self, unit: Option<Unit>) {
        if let Some(Unit::Branch(xid)) = unit {
            self.remembered[xid] = None;
        }
    }

    fn has_work(&self, unit: Unit) -> bool {
        self.messages.values().any(|message| match message.place {
            Where::Unborn(of) | Where::Settled { unit: of, .. } => of == unit,
            _ => false,
        })
    }

    /// What a question about a branch is answered; `now` is the broker's time.
    pub(super) fn xa(&mut self, xid: usize, verb: Verb, now: u64) -> Said {
        match verb {
            Verb::Start { client, how } => self.start(xid, self.connections[client], how, now),
            Verb::End { client, how } => self.leave(xid, self.connections[client], how, now),
            Verb::Prepare => self.prepare(xid),
            Verb::Commit { one_phase } => self.commit(xid, one_phase),
            Verb::Rollback(disposition) => self.roll_back(xid, disposition),
            Verb::Decide(resolution) => match self.branches[xid] {
                Some(Branch::Prepared) => {
                    self.finish(Unit::Branch(xid), resolution, RETURN);
                    self.branches[xid] = Some(Branch::Decided(resolution));
                    Ok(None)
                }
                Some(_) => Err(XaError::Proto),
                None => Err(XaError::NotA),
            },
            Verb::Forget => match self.branches[xid] {
                Some(Branch::Decided(_)) => {
                    self.branches[xid] = None;
                    Ok(None)
                }
                Some(_) => Err(XaError::Proto),
                None => Err(XaError::NotA),
            },
        }
    }

    fn start(&mut self, xid: usize, connection: u64, how: StartAs, now: u64) -> Said {
        match (how, &mut self.branches[xid]) {
            (StartAs::New | StartAs::Either, branch @ None) => {
                let (bonds, broken) = ([(connection, false)].into(), None);
                *branch = Some(Branch::Open { bonds, broken, deadline: now + TIMEOUT });
                Ok(None)
            }
            (StartAs::New, Some(_)) => Err(XaError::DupId),
            (_, None) => Err(XaError::NotA),
            (how, Some(Branch::Open { bonds, broken, .. })) => {
                let (mine, expected) = (
                    bonds.get(&connection).copied(),
                    match how {
                        StartAs::Resume => Some(true),
                        StartAs::New | StartAs::Join | StartAs::Either => None,
                    },
                );
                match broken {
                    _ if mine != expected => Err(XaError::Proto),
                    Some(why) => Err(*why),
                    None => {
                        bonds.insert(connection, false);
                        Ok(None)
                    }
                }
            }
            (_, Some(_)) => Err(XaError::Proto),
        }
    }

    fn leave(&mut self, xid: usize, connection: u64, how: EndAs, now: u64) -> Said {
        let branch = self.branches[xid].as_mut().ok_or(XaError::NotA)?;
        let Branch::Open { bonds, broken, .. } = branch else { return Err(XaError::Proto) };
        let rests = *bonds.get(&connection).ok_or(XaError::Proto)?;
        if how == EndAs::Suspend && rests {
            return Err(XaError::Proto);
        }
        if how == EndAs::Suspend && broken.is_none() {
            bonds.insert(connection, true);
            return Ok(None);
        }
        bonds.remove(&connection);
        if let Some(why) = broken {
            return Err(*why);
        }
        if how == EndAs::Fail {
            self.break_off(xid, XaError::RbRollback, now);
        }
        Ok(None)
    }

    fn prepare(&mut self, xid: usize) -> Said {
        let unit = Unit::Branch(xid);
        match self.idle(xid) {
            Some(Err(why)) => {
                self.branches[xid] = None;
                return Err(why);
            }
            Some(Ok(())) => {}
            None if self.branches[xid].is_some() => return Err(XaError::Proto),
            None => {
                return Err(match self.remembered[xid] {
                    None => XaError::NotA,
                    Some(Resolution::Rollback) => XaError::RbRollback,
                    Some(Resolution::Commit) => XaError::Proto,
                });
            }
        }
        if !self.has_work(unit) {
            self.branches[xid] = None;
            return Ok(Some(Vote::ReadOnly));
        }
        self.branches[xid] = Some(Branch::Prepared);
        self.remembered[xid] = None;
        for message in self.messages.values_mut().filter(|it| !it.logged) {
            if matches!(message.place, Where::Settled { unit: of, .. } if of == unit) {
                (message.logged, message.kept) = (true, true);
            }
        }
        Ok(Some(Vote::Ok))
    }

    /// Whether a branch is open and nobody is associated with it, and then why it is broken.
    fn idle(&self, xid: usize) -> Option<Result<(), XaError>> {
        match &self.branches[xid] {
            Some(Branch::Open { bonds, broken, .. }) if bonds.is_empty() => {
                Some(broken.map_or(Ok(()), Err))
            }
            _ => None,
        }
    }

    fn commit(&mut self, xid: usize, one_phase: bool) -> Said {
        match (&self.branches[xid], self.idle(xid)) {
            (None, _) => match self.remembered[xid] {
                None => Err(XaError::NotA),
                Some(Resolution::Commit) => Ok(None),
                Some(Resolution::Rollback) if one_phase => Err(XaError::RbRollback),
                Some(Resolution::Rollback) => Err(XaError::NotA),
            },
            (Some(Branch::Decided(resolution)), _) => Err(heuristic(*resolution)),
            (_, Some(Err(why))) if one_phase => {
                self.branches[xid] = None;
                Err(why)
            }
            (_, Some(Ok(()))) if one_phase => {
                self.finish(Unit::Branch(xid), Resolution::Commit, RETURN);
                self.branches[xid] = None;
                self.remembered[xid] = Some(Resolution::Commit);
                Ok(None)
            }
            (Some(Branch::Prepared), _) if !one_phase => {
                self.outcome(xid, Resolution::Commit, RETURN);
                Ok(None)
            }
            _ => Err(XaError::Proto),
        }
    }

    fn roll_back(&mut self, xid: usize, disposition: Disposition) -> Said {
        match (&self.branches[xid], self.idle(xid)) {
            (None, _) => match self.remembered[xid] {
                None => Err(XaError::NotA),
                Some(Resolution::Commit) => Err(XaError::Proto),
                Some(Resolution::Rollback) => Ok(None),
            },
            (Some(Branch::Decided(resolution)), _) => Err(heuristic(*resolution)),
            (_, Some(_)) => {
                self.finish(Unit::Branch(xid), Resolution::Rollback, disposition);
                self.branches[xid] = None;
                self.remembered[xid] = None;
                Ok(None)
            }
            (Some(Branch::Prepared), _) => {
                self.outcome(xid, Resolution::Rollback, disposition);
                Ok(None)
            }
            _ => Err(XaError::Proto),
        }
    }

    fn outcome(&mut self, xid: usize, resolution: Resolution, disposition: Disposition) {
        self.finish(Unit::Branch(xid), resolution, disposition);
        self.branches[xid] = None;
        self.remembered[xid] = Some(resolution);
    }

    fn break_off(&mut self, xid: usize, why: XaError, now: u64) {
        self.finish(Unit::Branch(xid), Resolution::Rollback, RETURN);
        self.remembered[xid] = None;
        if let Some(Branch::Open { broken, deadline, .. }) = &mut self.branches[xid] {
            *broken = Some(why);
            *deadline = now + BROKEN_BRANCH_MILLIS;
        }
    }

    /// What time brings about.
    pub(super) fn due(&mut self, now: u64) {
        for xid in 0..XIDS {
            while let Some(Branch::Open { bonds, broken, deadline }) = &mut self.branches[xid]
                && *deadline <= now
            {
                match (broken, bonds.is_empty()) {
                    (None, _) => self.break_off(xid, XaError::RbTimeout, now),
                    (Some(_), true) => self.branches[xid] = None,
                    (Some(_), false) => *deadline = now + BROKEN_BRANCH_MILLIS,
                }
            }
        }
    }

    /// The connection of a client goes, and it gets another.
    pub(super) fn close(&mut self, client: usize, now: u64) {
        let connection = self.connections[client];
        self.end(client, Some(RETURN));
        for xid in 0..XIDS {
            let Some(Branch::Open { bonds, broken, .. }) = &mut self.branches[xid] else {
                continue;
            };
            if bonds.remove(&connection).is_some() && broken.is_none() {
                self.break_off(xid, XaError::RbCommFail, now);
            }
        }
        self.end_loans(|(of, _)| of == connection, Message::come_back);
        self.reconnect(client);
    }

    fn end_loans(&mut self, whose: impl Fn(By) -> bool, end: impl Fn(&mut Message)) {
        for message in self.messages.values_mut() {
            if let Where::Lent(by, _) = message.place
                && whose(by)
            {
                end(message);
            }
        }
    }

    fn reconnect(&mut self, client: usize) {
        self.last_connection += 1;
        self.connections[client] = self.last_connection;
    }

    /// The process ends, and another begins with what is in the log.
    pub(super) fn restart(&mut self) {
        self.lives += 1;
        (0..CLIENTS).for_each(|client| self.reconnect(client));
        for connection in std::mem::take(&mut self.local) {
            self.finish(Unit::Local(connection), Resolution::Rollback, RETURN);
        }
        for xid in 0..XIDS {
            if let Some(Branch::Open { .. }) = self.branches[xid] {
                self.finish(Unit::Branch(xid), Resolution::Rollback, RETURN);
                self.branches[xid] = None;
            }
        }
        self.end_loans(|_| true, |message| message.place = Where::Waiting);
        for message in self.messages.values_mut() {
            message.seen |= message.delivered;
            if !message.logged {
                message.place = Where::Gone;
            }
        }
    }

    /// Judges a delivery, and makes it true.
    pub(super) fn deliver(
        &mut self,
        number: u64,
        by: By,
        tag: Tag,
        (redelivered, attempt): (bool, u32),
    ) -> Result<(), String> {
        let mine = self.loans_of(by);
        let living = self.connections.contains(&by.0);
        let lives = self.lives;
        let message = self.messages.get_mut(&number).ok_or(format!("nobody sent {number}"))?;
        let free = message.place == Where::Waiting && message.queue == by.1;
        if !free || !living || mine >= PREFETCH as usize {
            return Err(format!("{number} to {by:?}, who has {mine}: {message:?}"));
        }
        let again = message.seen || message.returns > 0;
        // A new life may flag too much, as marks are of places and not of messages.
        let said = redelivered == again || redelivered && lives > 0;
        let attempts = (message.returns + 1).max(1 + u32::from(redelivered));
        if !said || attempt != attempts {
            return Err(format!("{number} as {redelivered}, {attempt}: {message:?}"));
        }
        message.delivered = true;
        message.place = Where::Lent(by, tag);
        Ok(())
    }

    fn loans_of(&self, by: By) -> usize {
        let is = |message: &&Message| matches!(message.place, Where::Lent(of, _) if of == by);
        self.messages.values().filter(is).count()
    }

    /// Nothing waits while somebody could have it.
    pub(super) fn nobody_waits_in_vain(&self) -> Result<(), String> {
        for queue in 0..QUEUES {
            let waits = |it: &Message| it.place == Where::Waiting && it.queue == queue;
            let Some((number, _)) = self.messages.iter().find(|(_, it)| waits(it)) else {
                continue;
            };
            let idle = |of: &&u64| self.loans_of((**of, queue)) < PREFETCH as usize;
            if let Some(connection) = self.connections.iter().find(idle) {
                return Err(format!("{number} waits, and {connection} could have it"));
            }
        }
        Ok(())
    }

    /// Messages in a queue, those that are somebody's and those that are held among them.
    pub(super) fn depth(&self, queue: usize) -> u64 {
        let there = |message: &&Message| match message.place {
            Where::Waiting | Where::Lent(..) => true,
            Where::Settled { .. } => !message.kept,
            Where::Unborn(_) | Where::Gone => false,
        };
        let of_queue = self.messages.values().filter(|message| message.queue == queue);
        of_queue.filter(there).count() as u64
    }

    /// What recovery lists.
    pub(super) fn to_recover(&self) -> Vec<(usize, Option<Resolution>)> {
        let known = self.branches.iter().enumerate().filter_map(|(xid, branch)| match branch {
            Some(Branch::Prepared) => Some((xid, None)),
            Some(Branch::Decided(resolution)) => Some((xid, Some(*resolution))),
            _ => None,
        });
        known.collect()
    }
}

impl Message {
    fn come_back(&mut self) {
        self.returns += 1;
        self.place = Where::Waiting;
    }
}

fn heuristic(resolution: Resolution) -> XaError {
    match resolution {
        Resolution::Commit => XaError::HeurCommit,
        Resolution::Rollback => XaError::HeurRollback,
    }
}
