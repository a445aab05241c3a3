//! What is to happen once, under a name that its program has given it.
//!
//! A message has a name of its own in its queue, or a number of its own among all that its producer
//! sends; a commit has a name over the whole store. Always: what
//! has happened under a name does not happen again under it, and whoever asks again hears the same
//! as the first, once that is durable; a name of which a transaction has not decided is refused,
//! for nobody knows yet which of the two answers would be true. Leaves to others: what is
//! remembered, and how long (`names`, `producers`).

use bytes::Bytes;

use crate::broker::command::{Command, Disposition, Once, Refusal, Reply};
use crate::broker::decide::Verdict;
use crate::broker::delta::{NameRow, Resolution, Scope};
use crate::broker::fact::{Asker, Change, Fact};
use crate::broker::held::Line;
pub(super) use crate::broker::names::Standing;
use crate::broker::{Broker, Written};
use crate::identity::{Identity, Mark};
use crate::ids::{Millis, QueueId, TransactionId, TransactionName};
use crate::limits;
use crate::message::Destination;
use crate::record::{Named, OnceThere, Record};

/// What is remembered of names, and how well, for operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NameCounts {
    /// Names that are remembered.
    pub known: usize,
    /// Messages and commits that were recognised as repetitions since the start.
    pub repeated: u64,
    /// Names forgotten before their time for want of room since the start.
    pub forgotten_early: u64,
}

/// What decide states.
impl Broker {
    pub(super) fn decide_once(
        &self,
        now: Millis,
        asker: Asker,
        once: &Once,
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        match (once.command(), once.mark(), once.operations()) {
            (Command::Commit { transaction }, Mark::Name(id), Some(operations)) => {
                self.decide_named_commit(now, asker, id, *transaction, operations, facts)
            }
            (Command::Barrier, Mark::Name(id), _) => self.decide_outcome(now, id, facts),
            _ => self.decide_send_once(now, asker, once, facts),
        }
    }

    fn decide_send_once(
        &self,
        now: Millis,
        asker: Asker,
        once: &Once,
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        let (mark, command) = (once.mark(), once.command());
        let to = once.sends_to().expect("made of a send");
        let topic = matches!(to, Destination::Topic(_));
        let mark = match mark {
            Mark::Name(id) if topic => Mark::Name(id.on_topic(to.name())),
            other => other,
        };
        let own = match command.works_in() {
            Some(unit) => self.transaction_of(asker.connection, unit)?,
            None => None,
        };
        let standing = match mark {
            Mark::Name(id) => self.name_standing(to, id, own)?,
            Mark::Number(it) => self.number_standing(it, own)?,
        };
        if standing.is_some() {
            return self.decide_repeated(asker, command, facts);
        }
        // What waits for its time is remembered whoever will be there then.
        let durable = !topic || once.is_for_later() || self.held.count(to.name()) > 0;
        if !durable && !once.is_lenient() {
            return Err(Refusal::NobodyKeeps);
        }
        if command.works_in().is_some()
            && let Err(refusal) = self.may_pend(mark, own)
        {
            // Such a client says a lost transaction again as a whole, and a repetition within one
            // is less than one that can never be committed.
            let goes_without = once.is_lenient() && matches!(mark, Mark::Number(_));
            return match goes_without {
                true => self.decide_asked(now, asker, command, facts),
                false => Err(refusal),
            };
        }
        let verdict = self.decide_asked(now, asker, command, facts)?;
        // What a transaction has published before is stored first.
        if verdict == Verdict::Part {
            return Ok(verdict);
        }
        if !facts.iter_mut().any(|fact| fact.take_mark(mark, to)) {
            // What nobody keeps nobody remembers.
            assert!(topic || verdict.is_hold(), "what is to be there once is durable");
            return Ok(verdict);
        }
        if let Mark::Number(it) = mark {
            self.state_speaks(asker.connection, it.producer, facts);
        }
        Ok(verdict)
    }

    /// Refuses what waits for a transaction where too much does already.
    fn may_pend(&self, mark: Mark, transaction: Option<TransactionId>) -> Result<(), Refusal> {
        let limits = &self.limits;
        let (may, of) = match mark {
            Mark::Name(_) => (self.durable.names.may_wait(limits), limits.names_bytes),
            Mark::Number(_) => (self.durable.producers.may_wait(limits), limits.producers_bytes),
        };
        if !may {
            return Err(Refusal::PendingFull { limit: limits::pending_bytes(of) });
        }
        match mark {
            Mark::Name(_) => Ok(()),
            Mark::Number(it) => self.durable.producers.fits(it, transaction),
        }
    }

    fn name_standing(
        &self,
        to: &Destination,
        id: Identity,
        own: Option<TransactionId>,
    ) -> Result<Option<Standing>, Refusal> {
        let scope = match to {
            Destination::Topic(topic) => Scope::of_topic(topic),
            Destination::Queue(queue) => match self.names.get(queue) {
                Some(queue) => Scope::Queue(*queue),
                None => return Ok(None),
            },
        };
        match self.durable.standing(scope, id) {
            Some((Standing::Pending(other), _)) if Some(other) != own => Err(Refusal::NamePending),
            known => Ok(known.map(|(standing, _)| standing)),
        }
    }

    /// A message is there already: nothing is done but to say so, and to give back what came of
    /// its body.
    fn decide_repeated(
        &self,
        asker: Asker,
        command: &Command,
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        if let Some(stage) = command.stage() {
            self.decide_unstage((asker.connection, stage), facts)?;
        }
        facts.push(Fact::Memory(Change::Repeated));
        Ok(Verdict::Answer(Reply::Repeated))
    }

    fn decide_named_commit(
        &self,
        now: Millis,
        asker: Asker,
        id: Identity,
        name: TransactionName,
        operations: Identity,
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        let transaction = self.transaction_of(asker.connection, name)?;
        match self.durable.standing(Scope::Commits, id) {
            None => {}
            Some((Standing::Pending(_), _)) => return Err(Refusal::NamePending),
            Some((Standing::Done, row)) if row.operations == Some(operations) => {
                facts.push(Fact::Memory(Change::Repeated));
                let undone = (Resolution::Rollback, Disposition::Return);
                return Ok(match self.decide_end(now, asker, name, undone, facts) {
                    Verdict::Answer(_) => Verdict::Answer(Reply::Repeated),
                    verdict => verdict,
                });
            }
            Some((Standing::Done, row)) if row.operations.is_none() => {
                return Err(Refusal::CommitVoid);
            }
            Some((Standing::Done, _)) => return Err(Refusal::CommitNameTaken),
        }
        let began = self.units.began(self.unit_named(asker.connection, name)?);
        if began.is_some_and(|began| self.durable.names.may_be_void(began)) {
            return Err(Refusal::CommitVoid);
        }
        let commit = Command::Commit { transaction: name };
        let verdict = self.decide_asked(now, asker, &commit, facts)?;
        if verdict.is_hold() || verdict == Verdict::Part {
            return Ok(verdict);
        }
        let named = Named { id, at: self.time(now), transaction, operations: Some(operations) };
        // Before the outcome: a crash between them undoes both.
        facts.insert(0, Fact::Log(Record::Named(named), Bytes::new()));
        Ok(verdict)
    }

    /// What became of a commit. Where it has not happened it never will: who hears so may do all
    /// of it again under another name. Nobody hears so where it may have been forgotten before its
    /// time.
    fn decide_outcome(
        &self,
        now: Millis,
        id: Identity,
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        match self.durable.standing(Scope::Commits, id) {
            Some((Standing::Pending(_), _)) => return Err(Refusal::NamePending),
            Some((Standing::Done, row)) if row.operations.is_some() => {
                return Ok(Verdict::Answer(Reply::Repeated));
            }
            Some(_) => {}
            None => {
                let named = Named { id, at: self.time(now), transaction: None, operations: None };
                facts.push(Fact::Log(Record::Named(named), Bytes::new()));
            }
        }
        let until = self.durable.names.commits_until();
        let ago = until.map(|at| self.time(now).0.saturating_sub(at.0));
        Ok(Verdict::Answer(match ago.filter(|ago| *ago < self.limits.names_millis) {
            Some(millis) => Reply::OutcomeForgotten { millis },
            None => Reply::NotCommitted,
        }))
    }
}

impl Fact {
    /// Says of a message that it is sent under this mark, where this is what is stated.
    fn take_mark(&mut self, mark: Mark, to: &Destination) -> bool {
        let Self::Log(record, _) = self else { return false };
        match record {
            Record::Sent { once, .. } | Record::Scheduled { once, .. } => *once = Some(mark),
            Record::Staged(staged) => staged.once = Some(mark),
            Record::Published(published) => {
                published.once = Some(OnceThere::on(to.name(), mark));
            }
            _ => return false,
        }
        true
    }
}

/// What follows by itself.
impl Broker {
    /// Whether there are names to be forgotten.
    pub(super) fn has_names_to_forget(&self, now: Millis) -> bool {
        self.crowded.is_some()
            || self.durable.names.has_rest()
            || self.durable.names.excess(now, &self.limits).is_some()
    }

    /// States that names are forgotten, some at a time; false when none are to be.
    pub(super) fn state_forgotten(&mut self, now: Millis, facts: &mut Vec<Fact>) -> bool {
        if self.durable.names.drop_some() {
            return true;
        }
        let names = &self.durable.names;
        let crowded = self.crowded.and_then(|scope| names.crowded(scope, now, &self.limits));
        if crowded.is_none() {
            self.crowded = None;
        }
        let Some(excess) = crowded.or_else(|| names.excess(now, &self.limits)) else {
            return false;
        };
        self.counts.forgotten_early += excess.early;
        facts.push(Fact::Log(Record::Forgotten(excess.forgotten), Bytes::new()));
        true
    }

    /// Counts of names as they are now.
    #[must_use]
    pub fn name_counts(&self) -> NameCounts {
        NameCounts { known: self.durable.names.len(), ..self.counts }
    }
}

/// What apply does.
impl Broker {
    /// A message was sent under a name or a number.
    pub(super) fn apply_sent_once(
        &mut self,
        written: Written,
        queue: QueueId,
        once: Option<Mark>,
        at: Millis,
        transaction: Option<TransactionId>,
    ) {
        match once {
            None => {}
            Some(Mark::Name(id)) => {
                let row = NameRow { id, birth: written.lsn, at, transaction, operations: None };
                self.take_name(self.scope_of(queue), row);
            }
            Some(Mark::Number(it)) => self.durable.take_number(it, at, transaction),
        }
    }

    /// Among what the names of what enters a queue are told apart: what waits in the line of a
    /// topic was published on it.
    fn scope_of(&self, queue: QueueId) -> Scope {
        let topic = self.queues.get(&queue).and_then(|queue| Line::topic_of(&queue.row.name));
        topic.map_or(Scope::Queue(queue), |topic| Scope::of_topic(&topic))
    }

    /// Whether what a message is sent under is free.
    pub(super) fn fit_mark(&self, queue: QueueId, once: Option<Mark>) -> Result<(), &'static str> {
        match once {
            None => Ok(()),
            once => self.durable.fit_mark(self.scope_of(queue), once),
        }
    }

    pub(super) fn apply_named(&mut self, written: Written, named: &Named) {
        let Named { id, at, transaction, operations } = *named;
        self.saw(at);
        let row = NameRow { id, birth: written.lsn, at, transaction, operations };
        self.take_name(Scope::Commits, row);
    }

    pub(super) fn take_name(&mut self, scope: Scope, row: NameRow) {
        self.durable.take_name(scope, row);
        if self.durable.names.crowded(scope, row.at, &self.limits).is_some() {
            self.crowded = Some(scope);
        }
    }
}
