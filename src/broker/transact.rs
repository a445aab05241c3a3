//! Transactions as sessions know them: what is done in one, and how it ends.
//!
//! Owns the units of work of connections. What is durable in a unit goes into the log as it comes,
//! as operations of a transaction (`transaction`); what lives in memory alone stays with the unit.
//! Always: nobody sees a part of a unit before its commit, and what it has settled is nobody
//! else's; a unit of which a part was refused can only be rolled back; the end of a connection
//! rolls its units back. The end of a large one takes many steps and is answered after the last.

mod ending;
mod publish;
mod room;
mod taking;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::broker::chunks::Chunks;
use crate::broker::command::{Command, Disposition, Refusal, Reply, Work};
use crate::broker::decide::{DONE, Verdict, overhead_of};
use crate::broker::delta::{Operation, Resolution};
use crate::broker::fact::{
    Asker, Change, Effect, Fact, OperationsPage, OperationsRequest, UnitChange, UnitKey, Volatile,
    VolatileWork,
};
use crate::broker::policy::Held;
use crate::broker::xa::XaError;
use crate::broker::{Broker, Effects};
use crate::ids::{Body, ConnectionId, Millis, QueueId, TransactionId, TransactionName, Xid};
use crate::limits;
use crate::message::{Destination, Durability, Message};
use crate::mutant::{self, Mutant};
use crate::record::{BranchRecord, Decided, Record, Staged};

/// What a session does as one.
#[derive(Debug, Default)]
pub(crate) struct Unit {
    /// The transaction that its first operation in the log has begun.
    id: Option<TransactionId>,
    /// The number of the next commit with a name, when it began.
    began: u64,
    /// Why it can only be rolled back.
    pub(super) doomed: Option<Refusal>,
    /// What of it lives in memory alone, and stays there when its branch votes.
    volatile: Chunks<VolatileWork>,
    /// And what goes into the log with that: messages of queues that it has settled.
    pub(super) to_keep: Chunks<VolatileWork>,
    /// And few persistent messages that it publishes on topics that nobody keeps.
    unkept: Vec<VolatileWork>,
    /// Bytes of memory that these take.
    unkept_bytes: u64,
    /// What it sends to each queue.
    sent: BTreeMap<QueueId, Held>,
    /// What it takes out of each.
    taken: BTreeMap<QueueId, Held>,
    /// What it publishes on each topic.
    published: BTreeMap<Arc<str>, Publications>,
    /// The name of its branch, while the outcome of an older one may be remembered under it.
    anew: Option<Arc<Xid>>,
    /// It is in the log that it was such a one.
    pub(super) renewed: bool,
}

impl Unit {
    /// What of it lives in memory alone.
    fn works(&self) -> impl Iterator<Item = &VolatileWork> {
        self.unkept.iter().chain(self.volatile.iter()).chain(self.to_keep.iter())
    }

    /// A message of a consumer is settled that lives in memory alone.
    fn takes(&mut self, work: VolatileWork) {
        let to = if work.is_to_be_kept() { &mut self.to_keep } else { &mut self.volatile };
        to.push_back(work);
    }

    /// How much that is.
    pub(super) fn in_memory(&self) -> usize {
        self.unkept.len() + self.volatile.len() + self.to_keep.len()
    }
}

/// What a unit publishes on one topic.
#[derive(Clone, Copy, Debug, Default)]
struct Publications {
    /// As the limits of topics count.
    held: Held,
    /// Bytes of it in memory.
    memory: u64,
    /// Some of what is persistent waits in the line of the topic, and so does all that follows.
    in_line: bool,
}

/// A unit that has its outcome, and is not done.
#[derive(Debug)]
struct Ending {
    /// Its operations that are being settled.
    id: Option<TransactionId>,
    resolution: Resolution,
    disposition: Disposition,
    volatile: Chunks<VolatileWork>,
    /// Messages that it has published and that have not gone to all of their subscribers.
    publishing: usize,
    /// Who waits for it.
    asker: Option<Asker>,
}

/// The units of all connections.
#[derive(Debug, Default)]
pub(crate) struct Units {
    open: BTreeMap<UnitKey, Unit>,
    endings: BTreeMap<u64, Ending>,
    /// Of these, the ones with work in memory that is not done.
    busy: BTreeSet<u64>,
    /// And those of which operations in the log wait for their outcome.
    settling: BTreeMap<TransactionId, u64>,
    last_ending: u64,
    /// Of those that wait for room in several queues the one that has waited longest, and in which
    /// of them there was room meanwhile.
    patient: Option<(UnitKey, BTreeSet<QueueId>)>,
    /// Operations are being read from the index.
    reading: bool,
    /// The transaction of which some operations were settled last.
    turn: Option<TransactionId>,
}

impl Units {
    fn of(&self, connection: ConnectionId) -> impl Iterator<Item = (&UnitKey, &Unit)> {
        let key = |name| UnitKey::Local(connection, TransactionName(name));
        self.open.range(key(0)..=key(u64::MAX))
    }

    pub(super) fn begin(&mut self, key: UnitKey, anew: Option<Arc<Xid>>, began: u64) {
        self.open.insert(key, Unit { anew, began, ..Unit::default() });
    }

    /// The number of the next commit with a name, when a unit began.
    pub(super) fn began(&self, key: UnitKey) -> Option<u64> {
        self.open.get(&key).map(|unit| unit.began)
    }

    /// A unit of which nothing is left, and that can only be rolled back.
    pub(super) fn begin_broken(&mut self, key: UnitKey, why: XaError) {
        self.open.insert(key, Unit { doomed: Some(Refusal::Xa(why)), ..Unit::default() });
    }

    /// A unit waits for room no longer.
    pub(super) fn has_room(&mut self, key: UnitKey) {
        self.patient.take_if(|(patient, _)| *patient == key);
    }

    pub(super) fn take(&mut self, key: UnitKey) -> Option<Unit> {
        self.has_room(key);
        self.open.remove(&key)
    }

    pub(super) fn get(&self, key: UnitKey) -> Option<&Unit> {
        self.open.get(&key)
    }

    pub(super) fn is_open(&self, key: UnitKey) -> bool {
        self.open.contains_key(&key)
    }

    /// Whether a unit can only be rolled back, and whether anything was done in it.
    pub(super) fn state(&self, key: UnitKey) -> (bool, bool) {
        let unit = self.open.get(&key);
        let doomed = unit.is_some_and(|unit| unit.doomed.is_some());
        (doomed, unit.is_some_and(|unit| unit.id.is_some() || unit.in_memory() > 0))
    }

    /// The transaction that a unit's first operation has begun.
    pub(super) fn transaction(&self, key: UnitKey) -> Option<TransactionId> {
        self.open.get(&key)?.id
    }

    /// Whether there was room in a queue while a unit waited; `None` where another is more patient.
    fn has_met(&self, key: UnitKey, queue: QueueId) -> Option<bool> {
        match &self.patient {
            Some((patient, met)) if *patient == key => Some(met.contains(&queue)),
            Some(_) => None,
            None => Some(false),
        }
    }

    /// One with work in memory that is not done.
    fn next_ending(&self) -> Option<u64> {
        self.busy.first().copied()
    }
}

/// What decide states.
impl Broker {
    /// What is asked of transactions.
    pub(super) fn decide_transacted(
        &self,
        now: Millis,
        asker: Asker,
        command: &Command,
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        let connection = asker.connection;
        match command {
            Command::Begin { transaction } => self.decide_begin(connection, *transaction, facts),
            Command::Transact { transaction, work } => {
                let key = self.unit_named(connection, *transaction)?;
                let verdict = self.decide_work(now, connection, key, work, facts)?;
                if !verdict.is_hold() {
                    self.state_renewed(key, facts);
                }
                Ok(verdict)
            }
            Command::Commit { transaction } => {
                let key = UnitKey::Local(connection, *transaction);
                if let Some(because) = &self.unit(key)?.doomed {
                    return Err(Refusal::RollbackOnly { because: Box::new(because.clone()) });
                }
                if self.state_next_stored(now, (connection, key), facts)? {
                    return Ok(Verdict::Part);
                }
                let room = match mutant::is(Mutant::CommitWithoutRoom) {
                    true => None,
                    false => self.room_of_unit(key, facts)?,
                };
                if let Some(wait) = room {
                    return Ok(wait);
                }
                let end = (Resolution::Commit, Disposition::Return);
                Ok(self.decide_end(now, asker, *transaction, end, facts))
            }
            Command::Rollback { transaction, disposition } => {
                self.unit(UnitKey::Local(connection, *transaction))?;
                let end = (Resolution::Rollback, *disposition);
                Ok(self.decide_end(now, asker, *transaction, end, facts))
            }
            _ => unreachable!("the other commands are decided elsewhere"),
        }
    }

    fn unit(&self, key: UnitKey) -> Result<&Unit, Refusal> {
        self.units.open.get(&key).ok_or(Refusal::NoSuchTransaction)
    }

    /// The transaction that a unit has begun in the log, if it has.
    pub(super) fn transaction_of(
        &self,
        connection: ConnectionId,
        name: TransactionName,
    ) -> Result<Option<TransactionId>, Refusal> {
        let key = self.unit_named(connection, name)?;
        self.unit(key).map(|unit| unit.id)
    }

    fn decide_begin(
        &self,
        connection: ConnectionId,
        name: TransactionName,
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        let key = UnitKey::Local(connection, name);
        if self.unit_named(connection, name) != Ok(key) || self.units.is_open(key) {
            return Err(Refusal::TransactionExists);
        }
        self.check_units(connection, 0)?;
        facts.push(Fact::Memory(Change::Unit(key, UnitChange::Begin)));
        DONE
    }

    /// Whether a connection may begin something more, of which so much is beyond the limit.
    pub(super) fn check_units(
        &self,
        connection: ConnectionId,
        spare: usize,
    ) -> Result<(), Refusal> {
        let limit = limits::TRANSACTIONS_MAX;
        let count = self.units.of(connection).count() + self.associations_of(connection);
        if count < limit + spare { Ok(()) } else { Err(Refusal::TooManyTransactions { limit }) }
    }

    fn decide_work(
        &self,
        now: Millis,
        connection: ConnectionId,
        key: UnitKey,
        work: &Work,
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        let unit = self.unit(key)?;
        if let Some(because) = &unit.doomed {
            return Err(Refusal::RollbackOnly { because: Box::new(because.clone()) });
        }
        let limit = self.limits.transaction_operations;
        if self.operations_of(unit) >= limit {
            return Err(Refusal::TransactionTooLarge { limit });
        }
        if let Work::Send { to, .. } | Work::SendStaged { to, .. } = work {
            self.check_width(unit, to)?;
        }
        match work {
            Work::Send { to: Destination::Queue(name), message } => {
                self.decide_send_in(now, key, name, message, None, facts)
            }
            Work::Send { to: Destination::Topic(name), message } => {
                self.decide_publish_in(now, (connection, key), name, (message, None), facts)
            }
            Work::SendStaged { stage, to, message } => {
                let stage = (connection, *stage);
                let body = Some(self.complete(stage, to, message)?);
                let verdict = match to {
                    Destination::Queue(name) => {
                        self.decide_send_in(now, key, name, message, body, facts)
                    }
                    Destination::Topic(name) => {
                        let what = (message, body);
                        self.decide_publish_in(now, (connection, key), name, what, facts)
                    }
                };
                Self::end_stage(stage, verdict?, facts)
            }
            Work::Settle { subscription, which, outcome } => {
                self.decide_take(key, (connection, *subscription), *which, *outcome, facts)
            }
        }
    }

    /// States that what is remembered under the name of a unit's branch is of an older one.
    pub(super) fn state_renewed(&self, key: UnitKey, facts: &mut Vec<Fact>) {
        if let Some(xid) = self.units.get(key).and_then(|unit| unit.anew.as_ref()) {
            let begun = Record::Branch(BranchRecord::Begun { xid: Xid::clone(xid) });
            if !mutant::is(Mutant::ForgetBegun) {
                facts.push(Fact::Log(begun, Bytes::new()));
            }
            facts.push(Fact::Memory(Change::Unit(key, UnitChange::Renewed)));
        }
    }

    fn operations_of(&self, unit: &Unit) -> u64 {
        let logged = unit.id.and_then(|id| self.durable.transactions.get(id));
        logged.map_or(0, |row| row.operations) + unit.in_memory() as u64
    }

    /// The transaction of a unit and the number of its next operation, stating what it begins.
    pub(super) fn next_operation(
        &self,
        key: UnitKey,
        facts: &mut Vec<Fact>,
    ) -> (TransactionId, u64) {
        let unit = &self.units.open[&key];
        if let Some(id) = unit.id {
            let row = self.durable.transactions.get(id).expect("a unit's transaction is open");
            return (id, row.operations + 1);
        }
        let id = TransactionId(self.durable.scalars.last_transaction + 1);
        facts.push(Fact::Memory(Change::Unit(key, UnitChange::Logged(id))));
        (id, 1)
    }

    /// As `decide_send`, in a transaction.
    pub(super) fn decide_send_in(
        &self,
        now: Millis,
        key: UnitKey,
        name: &Arc<str>,
        message: &Message,
        upload: Option<Body>,
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        self.check(name, message)?;
        self.decide_send_to(now, key, name, message, upload, facts)
    }

    /// The same with a name that is known to be good.
    fn decide_send_to(
        &self,
        now: Millis,
        key: UnitKey,
        name: &Arc<str>,
        message: &Message,
        upload: Option<Body>,
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        self.check_count(name)?;
        self.check_repeat(message, upload)?;
        let (rank, wait) = (9 - message.priority.get(), message.when.wait());
        let (queue, _) = self.queue_or_new(now, name, facts);
        self.state_of_group(queue, message, facts);
        let body = upload.map_or(0, Body::bytes);
        let overhead = limits::STORED_OVERHEAD_BYTES + overhead_of(&message.when);
        let bytes = message.content.len() as u64 + body + overhead;
        self.fits_alone(key, queue, name, bytes)?;
        facts.push(Fact::Memory(Change::Unit(key, UnitChange::Sent { queue, bytes })));
        let few = self.unit(key)?.in_memory() < limits::TRANSACTION_VOLATILE_MAX;
        // What a branch has sent is to be as durable as its vote.
        let branch = matches!(key, UnitKey::Branch(_));
        let persistent = message.durability == Durability::Persistent;
        let volatile = !persistent && !branch && upload.is_none() && wait.is_none();
        if volatile && few && self.has_memory(message) {
            let message = Volatile { with_log: true, ..self.volatile(now, message) };
            let work = VolatileWork::Enqueue { queue, rank, message };
            facts.push(Fact::Memory(Change::Unit(key, UnitChange::Work(work))));
            return DONE;
        }
        let (transaction, number) = self.next_operation(key, facts);
        let (at, expires, once) = (self.time(now), message.expires, None);
        let later = wait.map(|wait| (self.note_to_wait(name, wait), wait));
        let staged = Staged { transaction, number, queue, rank, at, expires, upload, once, later };
        facts.push(Fact::Log(Record::Staged(staged), message.content.clone()));
        DONE
    }

    /// States the outcome of a unit, and all that comes of it where that is little.
    pub(super) fn decide_end(
        &self,
        now: Millis,
        asker: Asker,
        name: TransactionName,
        (resolution, disposition): (Resolution, Disposition),
        facts: &mut Vec<Fact>,
    ) -> Verdict {
        let key = UnitKey::Local(asker.connection, name);
        let (id, how) = (self.units.transaction(key), (resolution, disposition));
        let at_once = self.state_settled_at_once(now, Some(key), (id, false), how, facts);
        let asker = (!at_once).then_some(asker);
        let done = if at_once { self.done_at_once(key) } else { 0 };
        let end = UnitChange::End { resolution, disposition, asker, at_once: done };
        facts.push(Fact::Memory(Change::Unit(key, end)));
        if at_once { Verdict::Answer(Reply::Done) } else { Verdict::Fence }
    }

    /// States that a unit can only be rolled back, because a part of it was refused.
    pub fn decide_doom(
        &self,
        connection: ConnectionId,
        transaction: TransactionName,
        because: &Refusal,
        facts: &mut Vec<Fact>,
    ) {
        let Ok(key) = self.unit_named(connection, transaction) else { return };
        if self.units.open.get(&key).is_some_and(|unit| unit.doomed.is_none()) {
            let because = because.clone();
            facts.push(Fact::Memory(Change::Unit(key, UnitChange::Doom(because))));
        }
    }

    /// States the end of units of a connection, as many as are left to a step. False where those
    /// were not all.
    pub(super) fn decide_close_units(
        &self,
        now: Millis,
        connection: ConnectionId,
        left: &mut usize,
        facts: &mut Vec<Fact>,
    ) -> bool {
        let (resolution, disposition) = (Resolution::Rollback, Disposition::Return);
        for (key, unit) in self.units.of(connection) {
            if *left == 0 {
                return false;
            }
            *left -= 1;
            if let Some(transaction) = unit.id {
                let small = self.durable.transactions.small(transaction);
                match small.filter(|small| small.len() <= *left) {
                    Some(known) => {
                        *left -= known.len();
                        self.settle(now, transaction, known, (resolution, disposition), facts);
                    }
                    None => {
                        let decided = Decided { transaction, resolution };
                        facts.push(Fact::Log(Record::Decided(decided), Bytes::new()));
                    }
                }
            }
            let at_once = self.done_at_once(*key).min(*left);
            *left -= at_once;
            let end = UnitChange::End { resolution, disposition, asker: None, at_once };
            facts.push(Fact::Memory(Change::Unit(*key, end)));
        }
        true
    }
}

/// What follows by itself.
impl Broker {
    /// Whether a unit or a transaction has its outcome, and more of it can be done now.
    pub(super) fn has_endings(&self) -> bool {
        self.units.next_ending().is_some()
            || (self.durable.transactions.has_decided() && !self.units.reading)
    }

    /// States some of what is left to be done of a transaction that has its outcome, or asks for
    /// its operations. False when nothing can be done now.
    pub(super) fn state_endings(
        &mut self,
        now: Millis,
        facts: &mut Vec<Fact>,
        effects: &mut Effects,
    ) -> bool {
        if let Some(number) = self.units.next_ending() {
            facts.push(Fact::Memory(Change::EndOn { number }));
            return true;
        }
        if self.units.reading {
            return false;
        }
        let Some(transaction) = self.durable.transactions.next_decided(self.units.turn) else {
            return false;
        };
        self.units.turn = Some(transaction);
        let limit = limits::OUTCOMES_A_STEP;
        if let Some(known) = self.durable.next_operations(transaction, limit, None) {
            self.state_settled(now, transaction, &known, facts);
            return true;
        }
        let after = self.durable.transactions.get(transaction).expect("it is decided").settled;
        let generation = self.durable.generation;
        let request = OperationsRequest { transaction, after, limit, generation };
        self.units.reading = true;
        effects.push(Effect::Operations(request));
        true
    }

    fn state_settled(
        &self,
        now: Millis,
        transaction: TransactionId,
        operations: &[Operation],
        facts: &mut Vec<Fact>,
    ) {
        let row = self.durable.transactions.get(transaction).expect("it is decided");
        let resolution = row.resolution().expect("it is decided");
        let ending = self.units.settling.get(&transaction).map(|it| &self.units.endings[it]);
        let disposition = ending.map_or(Disposition::Return, |ending| ending.disposition);
        self.settle(now, transaction, operations, (resolution, disposition), facts);
        if row.settled + operations.len() as u64 == row.operations {
            facts.push(Fact::Memory(Change::EndSettled { transaction }));
        }
    }

    /// Takes in operations that were asked for. What the index has moved past is asked for again.
    pub fn operations_in(&mut self, now: Millis, page: &OperationsPage, facts: &mut Vec<Fact>) {
        self.units.reading = false;
        let transaction = page.request.transaction;
        let limit = page.request.limit;
        if let Some(known) = self.durable.next_operations(transaction, limit, Some(page)) {
            self.state_settled(now, transaction, &known, facts);
        }
    }
}

/// What apply does.
impl Broker {
    pub(super) fn apply_unit(&mut self, key: UnitKey, change: UnitChange, effects: &mut Effects) {
        if let UnitChange::Begin = change {
            self.units.begin(key, None, self.durable.names.next_commit());
            return;
        }
        match change {
            UnitChange::Begin => unreachable!("done above"),
            UnitChange::Logged(id) => self.open_unit(key).id = Some(id),
            UnitChange::Renewed => {
                let unit = self.open_unit(key);
                (unit.anew, unit.renewed) = (None, true);
            }
            UnitChange::Sent { queue, bytes } => {
                self.open_unit(key).sent.entry(queue).or_default().add(bytes);
            }
            UnitChange::Met(queues) => {
                let patient = self.units.patient.get_or_insert_with(|| (key, BTreeSet::new()));
                debug_assert_eq!(patient.0, key, "stated of the one that has waited longest");
                patient.1.extend(queues);
            }
            UnitChange::Doom(because) => self.open_unit(key).doomed = Some(because),
            UnitChange::Work(work) => {
                work.message().iter().for_each(|message| self.hold(message));
                let unit = self.open_unit(key);
                if let VolatileWork::Publish { topic, message, .. } = &work {
                    let published = unit.published.entry(Arc::clone(topic)).or_default();
                    published.held.add(message.load());
                    published.memory += message.charge();
                    if message.persistent {
                        unit.unkept_bytes += message.charge();
                        return unit.unkept.push(work);
                    }
                }
                unit.volatile.push_back(work);
            }
            UnitChange::Published { topic, bytes } => {
                let published = self.open_unit(key).published.entry(topic).or_default();
                published.held.add(bytes);
                published.in_line = true;
            }
            UnitChange::Stored(topic) => self.apply_stored(key, &topic),
            UnitChange::Take { key: consumer, which, returned, .. } => {
                self.apply_take(key, consumer, which, returned, effects);
            }
            UnitChange::End { resolution, disposition, asker, at_once } => {
                let unit = self.units.take(key);
                let how = (resolution, disposition);
                self.begin_ending(unit, None, how, (asker, at_once), effects);
            }
        }
    }

    /// What is left of a unit gets its outcome. One of an earlier life is its transaction alone.
    pub(super) fn begin_ending(
        &mut self,
        unit: Option<Unit>,
        transaction: Option<TransactionId>,
        (resolution, disposition): (Resolution, Disposition),
        (asker, at_once): (Option<Asker>, usize),
        effects: &mut Effects,
    ) {
        let Unit { id, unkept, volatile: rest, to_keep, .. } = unit.unwrap_or_default();
        let mut volatile = Chunks::default();
        unkept.into_iter().for_each(|work| volatile.push_back(work));
        volatile.append(rest);
        volatile.append(to_keep);
        let id = transaction.or(id).filter(|id| self.durable.transactions.get(*id).is_some());
        self.units.last_ending += 1;
        let number = self.units.last_ending;
        if !volatile.is_empty() {
            self.units.busy.insert(number);
        }
        self.units.settling.extend(id.map(|id| (id, number)));
        let ending = Ending { id, resolution, disposition, volatile, publishing: 0, asker };
        self.units.endings.insert(number, ending);
        if asker.is_none() {
            self.end_some(number, at_once, effects);
        }
    }

    pub(super) fn open_unit(&mut self, key: UnitKey) -> &mut Unit {
        self.units.open.get_mut(&key).expect("stated of one that is open")
    }
}
