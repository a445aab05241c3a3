//! Flow control in the engine: sends that must wait, and when they are tried again.
//!
//! Always: a send that waits is decided only when its turn has come, as if it came then; nothing
//! that its connection asked before it or after it says yes for it. Leaves the lines to `park`, and
//! the limits to the broker.

use crate::broker::command::{Command, Confirm, Refusal, Reply, Request};
use crate::broker::fact::{Asker, Fact};
use crate::broker::policy::{Dropped, Shortage, WhenFull};
use crate::broker::xa::{OutcomePage, XaCommand, XaError};
use crate::broker::{Verdict, takes_room};
use crate::engine::gate::Until;
use crate::engine::park::{Answer, Waiting};
use crate::engine::{Engine, Settings};
use crate::identity::Identity;
use crate::ids::{ConnectionId, Lsn, Millis, StageId, Token, TransactionName};
use crate::limits;
use crate::message::{Destination, Durability};
use crate::mutant::{self, Mutant};
use crate::record::{BranchRecord, Record};
use crate::wal::Admission;

/// Counts of flow control, for operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Connections of which sends wait for room now.
    pub held_producers: usize,
    /// Their sends.
    pub held_messages: usize,
    /// Bytes of these.
    pub held_bytes: usize,
    /// Sends refused for want of room since the start.
    pub refused: u64,
    /// Messages dropped for want of room since the start.
    pub dropped: Dropped,
    /// Bytes of messages that live in memory alone.
    pub volatile_bytes: u64,
    /// The disk is full, or has less left than is kept free.
    pub disk_short: bool,
}

/// What became of a request that was tried.
#[derive(Debug)]
pub(super) enum Fate {
    Done(Lsn, Reply),
    /// The answer comes by itself.
    Later,
    /// As `Later`, and its connection waits for that.
    Fence,
    /// A part of it is done; it is to be tried again for the next.
    Part,
    Refused(Refusal),
    /// It must wait for room.
    Held(Shortage),
    /// It must wait for room in this destination, which it does not name itself.
    HeldFor(Destination, Shortage),
    /// The log must first write, or make room.
    Wait,
    /// It must first be known what was seen of this producer.
    Sought(Identity),
}

/// What of the work of several requests a command is a part of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    of: Option<TransactionName>,
    stage: Option<StageId>,
}

impl Part {
    pub(super) fn of(command: &Command) -> Self {
        Self { of: command.works_in(), stage: command.stage() }
    }
}

/// What flow control remembers beside the lines.
#[derive(Debug)]
pub(super) struct FlowState {
    when_disk_full: WhenFull,
    refused: u64,
    /// What was in memory when a send last lacked room there.
    memory_then: u64,
}

impl FlowState {
    pub(super) fn new(settings: &Settings) -> Self {
        Self { when_disk_full: settings.when_disk_full, refused: 0, memory_then: 0 }
    }
}

impl Engine {
    /// Counts of flow control as they are now.
    #[must_use]
    pub fn flow(&self) -> Flow {
        let parked = self.park.parked();
        Flow {
            held_producers: parked.producers,
            held_messages: parked.messages,
            held_bytes: parked.bytes,
            refused: self.flow.refused,
            dropped: self.broker.dropped(),
            volatile_bytes: self.broker.volatile_bytes(),
            disk_short: self.log.is_full() || self.disk.is_low(),
        }
    }

    /// The outcome of a branch was looked up: who has asked is told.
    pub(super) fn outcome(&mut self, page: OutcomePage) {
        self.broker.outcome_in(page, &mut self.facts);
        self.commit();
    }

    /// Why a new request must wait behind others, whatever it would find itself.
    pub(super) fn queues_up(&self, command: &Command) -> Option<Shortage> {
        let to = command.destination()?;
        if self.park.has_line(to) {
            return Some(Shortage::Destination);
        }
        let shortage = match command.bare() {
            Command::Send { to: Destination::Queue(_), message } => match message.durability {
                Durability::Persistent => Shortage::Disk,
                Durability::NonPersistent => Shortage::Memory,
            },
            Command::SendStaged { .. } => Shortage::Disk,
            _ => return None,
        };
        // What makes room for itself never waits for what others are to make.
        let waits = |to: &Destination| match (shortage, to) {
            (Shortage::Memory, Destination::Queue(name)) => !self.broker.drops_oldest(name),
            _ => true,
        };
        (self.park.queues_lack(shortage) && waits(to)).then_some(shortage)
    }

    /// Where sends of the same connection wait that came before this commit or vote, and to where
    /// it sends, too: it comes after them.
    pub(super) fn waits_for_own(
        &self,
        from: ConnectionId,
        arrival: u64,
        command: &Command,
    ) -> Option<Destination> {
        let mut lines = self.park.lines_before(from, arrival);
        lines.find(|to| self.broker.sends_with(from, command, to)).cloned()
    }

    /// A part of something was refused: what is left of its transaction must not be committed, and
    /// what came of its body is given back.
    pub(super) fn undo(&mut self, from: ConnectionId, part: Part, because: &Refusal) {
        if let Some(transaction) = part.of {
            self.broker.decide_doom(from, transaction, because, &mut self.facts);
        }
        if let Some(stage) = part.stage {
            self.broker.decide_abandon(from, stage, &mut self.facts);
        }
        self.commit();
    }

    /// A branch that was refused its vote is rolled back: its manager does not ask for that. Gives
    /// what is to be said of it, which is another thing where that cannot be; and nothing where the
    /// log has a moment's work before it takes that.
    pub(super) fn no_vote(
        &mut self,
        now: Millis,
        command: &Command,
        refusal: Refusal,
    ) -> Option<Refusal> {
        let Command::Xa(xa) = command else { return Some(refusal) };
        // What the table says is about the state of the branch, and changes nothing.
        if matches!(refusal, Refusal::Xa(_)) || xa.votes().is_none() {
            return Some(refusal);
        }
        let undone = self.broker.decide_no_vote(now, xa, &mut self.facts);
        match self.admit() {
            Admission::Yes => drop(self.commit()),
            Admission::Wait => {
                self.facts.clear();
                return None;
            }
            // Where the disk cannot take even that, it may be asked again, or its time runs out.
            Admission::Full => {
                self.facts.clear();
                return Some(Refusal::Xa(XaError::RmFail));
            }
        }
        Some(if undone { refusal } else { Refusal::Xa(XaError::RmFail) })
    }

    /// Decides a request and makes it true, if it can be now.
    pub(super) fn attempt(&mut self, now: Millis, from: ConnectionId, request: &Request) -> Fate {
        let Request { token, confirm, ref command } = *request;
        let asker = Asker { connection: from, token, confirm };
        if let Some(id) = command.producer().filter(|id| self.broker.awaits_producer(*id)) {
            self.broker.seek_producer(id, &mut self.effects);
            return Fate::Sought(id);
        }
        let verdict = match self.broker.decide_asked(now, asker, command, &mut self.facts) {
            Ok(Verdict::Hold(shortage)) => {
                assert!(self.facts.is_empty(), "what is held states nothing");
                return Fate::Held(shortage);
            }
            Ok(Verdict::HoldFor(to, shortage)) => {
                let need = self.commit();
                assert!(need.is_none(), "what is held states nothing durable");
                return Fate::HeldFor(to, shortage);
            }
            Ok(verdict) => verdict,
            Err(refusal) => {
                // What it would have needed is not to be: a queue, for one.
                self.facts.clear();
                return self.refused(now, from, command, refusal);
            }
        };
        if let Some(fate) = self.hindered(command) {
            self.facts.clear();
            let Fate::Refused(refusal) = fate else { return fate };
            return self.refused(now, from, command, refusal);
        }
        let promises = self.promises(command);
        let need = self.commit();
        if let Some(need) = need.filter(|_| promises) {
            self.outbox.depend(from, need);
        }
        match verdict {
            Verdict::Answer(reply) => {
                // What tells of the state waits for all that made it.
                let need = match reply {
                    // Of what another connection has done there, too.
                    Reply::Done if self.ends_renewed(command) => self.log.appended(),
                    Reply::Done => Lsn::default(),
                    Reply::Repeated if mutant::is(Mutant::RepeatBeforeSync) => Lsn::default(),
                    _ => self.log.appended(),
                };
                Fate::Done(need, reply)
            }
            Verdict::Later => Fate::Later,
            Verdict::Fence => Fate::Fence,
            Verdict::Part => Fate::Part,
            Verdict::Hold(_) | Verdict::HoldFor(..) => unreachable!("seen above"),
        }
    }

    fn refused(
        &mut self,
        now: Millis,
        from: ConnectionId,
        command: &Command,
        refusal: Refusal,
    ) -> Fate {
        self.undo(from, Part::of(command), &refusal);
        self.no_vote(now, command, refusal).map_or(Fate::Wait, Fate::Refused)
    }

    /// Whether an answer to what is stated promises something. What is done in a transaction does
    /// not: its vote and its commit do, and they are behind it in the log. But who has heard that
    /// its work in a branch ended is to hear nothing of an older one of that name.
    fn promises(&self, command: &Command) -> bool {
        let begun =
            |fact: &Fact| matches!(fact, Fact::Log(Record::Branch(BranchRecord::Begun { .. }), _));
        command.works_in().is_none() || self.facts.iter().any(begun)
    }

    fn ends_renewed(&self, command: &Command) -> bool {
        let Command::Xa(XaCommand::End { xid, .. }) = command else { return false };
        self.broker.has_renewed(xid)
    }

    /// What keeps the stated facts from the log, if anything.
    fn hindered(&self, command: &Command) -> Option<Fate> {
        let refusal = match self.admit() {
            Admission::Wait => return Some(Fate::Wait),
            Admission::Full => Refusal::StorageFull,
            Admission::Yes if takes_room(&self.facts) && self.disk.is_low() => {
                Refusal::DiskLow { reserve: self.disk.reserve() }
            }
            Admission::Yes => return None,
        };
        let holds = self.flow.when_disk_full == WhenFull::Hold && command.destination().is_some();
        Some(if holds { Fate::Held(Shortage::Disk) } else { Fate::Refused(refusal) })
    }

    /// Lets a send wait for room, or refuses it where too much waits already.
    pub(super) fn hold_back(
        &mut self,
        now: Millis,
        from: ConnectionId,
        mut request: Request,
        to: &Destination,
        lacking: Shortage,
    ) {
        let token = request.token;
        if mutant::is(Mutant::ConfirmHeld) && request.confirm == Confirm::Always {
            request.confirm = Confirm::RefusalOnly;
            self.outbox.answer(from, Lsn::default(), token, Ok(Reply::Done));
        }
        let begins = !self.park.has_line(to);
        let part = Part::of(&request.command);
        let votes = matches!(request.command, Command::Xa(_)).then(|| request.command.clone());
        match self.park.put(from, to, request, lacking) {
            Ok(()) if begins => self.await_room(to, lacking),
            Ok(()) => {}
            Err(mut refusal) => {
                self.undo(from, part, &refusal);
                if let Some(command) = votes {
                    let rolled_back = self.no_vote(now, &command, refusal);
                    refusal = rolled_back.unwrap_or(Refusal::Xa(XaError::RmFail));
                }
                self.refuse(from, token, refusal);
            }
        }
    }

    fn await_room(&mut self, to: &Destination, lacking: Shortage) {
        match lacking {
            Shortage::Destination => self.broker.watch(to),
            Shortage::Memory => {
                self.flow.memory_then = self.flow.memory_then.max(self.broker.volatile_bytes());
                // How much a publication needs changes with its subscribers.
                if let Destination::Topic(_) = to {
                    self.broker.watch(to);
                }
            }
            // Looked at in each turn: it is a flag.
            Shortage::Disk => {}
        }
    }

    /// Says no. A refusal may tell of a record that is not yet durable, so it waits for the log
    /// like any answer; it does not wait for what is parked, for it confirms nothing.
    pub(super) fn refuse(&mut self, from: ConnectionId, token: Token, why: Refusal) {
        self.refused += 1;
        self.flow.refused += u64::from(why.is_want_of_room());
        self.outbox.answer(from, self.log.appended(), token, Err(why));
    }

    /// Says yes, once everything that the connection asked before is over.
    pub(super) fn confirm(&mut self, answer: Answer) {
        if let Some(answer) = self.park.say(answer) {
            self.let_go(answer);
        }
    }

    /// Says what came of something that took several steps.
    pub(super) fn tell(&mut self, asker: Asker, result: Result<Reply, Refusal>) {
        let need = self.log.appended();
        let Asker { connection: to, token, confirm } = asker;
        self.gates.answered(to, token);
        let (now, in_order) = match (result, confirm) {
            (Ok(_), Confirm::RefusalOnly) => (None, None),
            (Ok(reply), Confirm::Always) => (None, Some(Answer { to, token, need, reply })),
            (result, _) => (Some(result), None),
        };
        if let Some(result) = now {
            self.outbox.answer(to, need, token, result);
        }
        let said = self.park.ended((to, token, confirm), in_order);
        said.into_iter().for_each(|answer| self.let_go(answer));
    }

    pub(super) fn let_go(&mut self, answer: Answer) {
        let Answer { to, token, need, reply } = answer;
        self.outbox.answer(to, need, token, Ok(reply));
    }

    /// Tries the sends for which there may be room again, in the order in which they came; true
    /// if there are more to try at once.
    pub(super) fn unpark(&mut self, now: Millis) -> bool {
        if self.stopping {
            return false;
        }
        for _ in 0..limits::TURN_UNPARKED_MAX {
            self.stir_park();
            if self.effort.is_spent() {
                break;
            }
            let Some((to, waiting)) = self.park.next() else { return false };
            let (from, token) = (waiting.from, waiting.request.token);
            let command = &waiting.request.command;
            if let Some(other) = self.waits_for_own(from, waiting.arrival(), command) {
                self.park.shift(&to, waiting, (&other, Shortage::Destination));
                continue;
            }
            self.effort.add_request(&waiting.request);
            let fate = if mutant::is(Mutant::ForgetHeld) {
                Fate::Done(Lsn::default(), Reply::Done)
            } else {
                self.attempt(now, from, &waiting.request)
            };
            let answer = match fate {
                // What is found of a producer comes as an input, and so with a turn.
                Fate::Wait | Fate::Sought(_) => {
                    self.park.still(&to, waiting, None);
                    return false;
                }
                Fate::Held(lacking) => {
                    self.park.still(&to, waiting, Some(lacking));
                    self.await_room(&to, lacking);
                    continue;
                }
                Fate::HeldFor(other, lacking) => {
                    self.wait_for(&to, waiting, &other, lacking);
                    continue;
                }
                Fate::Done(need, reply) if waiting.request.confirm == Confirm::Always => {
                    Some(Answer { to: from, token, need, reply })
                }
                Fate::Done(need, reply) if waiting.request.confirm == Confirm::Alone => {
                    self.let_go(Answer { to: from, token, need, reply });
                    None
                }
                Fate::Fence => {
                    self.gates.shut(from, Until::Answered(token));
                    self.park.begun(&to, &waiting);
                    self.work(now, limits::COMMAND_STEPS_MAX);
                    continue;
                }
                Fate::Part => {
                    self.park.still(&to, waiting, None);
                    self.work(now, limits::COMMAND_STEPS_MAX);
                    continue;
                }
                Fate::Done(..) | Fate::Later => None,
                Fate::Refused(refusal) => {
                    self.refuse(from, token, refusal);
                    None
                }
            };
            if mutant::is(Mutant::RepeatHeld) {
                self.attempt(now, from, &waiting.request);
            }
            self.served(&to, &waiting, answer);
            self.work(now, limits::COMMAND_STEPS_MAX);
        }
        self.park.has_due()
    }

    /// What waited for room is over, and so is what waited behind it to be said.
    fn served(&mut self, to: &Destination, waiting: &Waiting, answer: Option<Answer>) {
        let mut said = self.park.served(to, waiting, answer);
        if mutant::is(Mutant::SilenceHeld) {
            said.clear();
        }
        if mutant::is(Mutant::AnswerHeldTwice) {
            said.extend_from_within(..);
        }
        said.into_iter().for_each(|answer| self.let_go(answer));
    }

    /// One that stood in front of a line lacks room, there or elsewhere.
    fn wait_for(
        &mut self,
        to: &Destination,
        waiting: Waiting,
        other: &Destination,
        lacking: Shortage,
    ) {
        if other == to {
            self.park.still(to, waiting, Some(lacking));
        } else {
            self.park.shift(to, waiting, (other, lacking));
        }
        self.await_room(other, lacking);
    }

    /// Finds out for which lines there may be room.
    fn stir_park(&mut self) {
        for to in self.broker.take_freed() {
            self.park.stir(&to);
        }
        if self.park.lacks(Shortage::Memory) && self.broker.volatile_bytes() < self.flow.memory_then
        {
            self.flow.memory_then = 0;
            self.park.stir_all(Shortage::Memory);
        }
        if self.park.lacks(Shortage::Disk) && !self.log.is_full() && !self.disk.is_low() {
            self.park.stir_all(Shortage::Disk);
        }
    }
}
