//! What a script must come to, in plain lists: no places, no log, no records.
//!
//! Always: a step happens whole or not at all, so that what a crash leaves is the model before a
//! step or after it, and nothing between.

use std::collections::BTreeSet;

use crate::broker::command::{Disposition, XaError};
use crate::broker::delta::Resolution;

use super::{Operation, Step};

/// A message as the store has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) number: u64,
    /// It is in the log.
    logged: bool,
    returns: u32,
    /// It has been handed to a consumer, where it lies now.
    lent: bool,
    /// That was in an earlier life.
    seen: bool,
}

impl Message {
    pub(super) fn new(number: u64, logged: bool) -> Self {
        Self { number, logged, returns: 0, lent: false, seen: false }
    }

    fn returned(self) -> Self {
        Self { returns: self.returns + 1, ..self }
    }

    /// As it lies at another place, and in the log.
    fn placed_anew(self, lent: bool) -> Self {
        Self { logged: true, lent, seen: false, ..self }
    }

    fn is_redelivered(&self) -> bool {
        self.seen || self.returns > 0
    }
}

/// One operation of the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    /// Under a number of its producer's, if it has one.
    Sent {
        queue: usize,
        message: Message,
        sequence: Option<u64>,
    },
    Settled {
        queue: usize,
        message: Message,
        returned: bool,
    },
}

/// How far the transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not begun, or over and forgotten.
    None,
    Open,
    Prepared,
    /// It has ended so, and that is remembered.
    Over(Resolution),
    /// An operator has ended it so.
    Decided(Resolution),
}

/// What the first connection has to do with the branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bond {
    None,
    Works,
    Rests,
}

/// What is known of a number of the producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Free,
    /// A transaction has taken it, and is not over.
    Pending,
    Taken,
}

/// A message as a start finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) number: u64,
    pub(super) returns: u32,
    /// It came back, or may have been delivered in an earlier life.
    pub(super) redelivered: bool,
    /// It waits for the outcome of a branch.
    pub(super) held: bool,
}

/// A message as a consumer gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivered {
    pub(super) number: u64,
    pub(super) attempt: u32,
    pub(super) redelivered: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Model {
    queues: [Vec<Message>; 2],
    /// What the consumer of each queue has and has not settled. It takes one at a time.
    loans: [Vec<u64>; 2],
    consumes: bool,
    done: Vec<Done>,
    branch: bool,
    pub(super) phase: Phase,
    pub(super) bond: Bond,
    /// Another connection is associated with the branch.
    pub(super) joined: bool,
    /// The work in the branch was undone, for this cause.
    pub(super) broken: Option<XaError>,
    /// Numbers of the producer under which something was sent.
    numbers: BTreeSet<u64>,
    /// Something was committed under the name that the commit has.
    pub(super) committed: bool,
}

impl Model {
    pub(super) fn new(queues: [Vec<Message>; 2]) -> Self {
        let (loans, done) = ([Vec::new(), Vec::new()], Vec::new());
        let mut model = Self {
            queues,
            loans,
            consumes: true,
            done,
            branch: false,
            phase: Phase::None,
            bond: Bond::None,
            joined: false,
            broken: None,
            numbers: BTreeSet::new(),
            committed: false,
        };
        model.lend();
        model
    }

    /// What is handed to the consumers, of the oldest that are free.
    fn lend(&mut self) {
        let held: Vec<u64> = self.held().collect();
        for (queue, loans) in self.queues.iter_mut().zip(&mut self.loans) {
            let free =
                |it: &&mut Message| !held.contains(&it.number) && !loans.contains(&it.number);
            if self.consumes
                && loans.is_empty()
                && let Some(message) = queue.iter_mut().find(free)
            {
                message.lent = true;
                loans.push(message.number);
            }
        }
    }

    fn held(&self) -> impl Iterator<Item = u64> + use<'_> {
        self.done.iter().filter_map(|done| match done {
            Done::Settled { message, .. } => Some(message.number),
            Done::Sent { .. } => None,
        })
    }

    /// Nothing was done in the transaction.
    pub(super) fn is_empty(&self) -> bool {
        self.done.is_empty()
    }

    /// The oldest delivery of a queue.
    pub(super) fn loan(&self, queue: usize) -> Option<u64> {
        self.loans[queue].first().copied()
    }

    /// Nobody is associated with the branch.
    pub(super) fn is_free(&self) -> bool {
        self.bond == Bond::None && !self.joined
    }

    pub(super) fn is_branch(&self) -> bool {
        self.branch
    }

    /// What is sent is sent by the other connection: it has joined the branch.
    pub(super) fn sends_by_other(&self) -> bool {
        self.joined
    }

    pub(super) fn standing(&self, of: u64) -> Standing {
        let waits = |it: &Done| matches!(it, Done::Sent { sequence: Some(it), .. } if *it == of);
        match self.numbers.contains(&of) {
            true => Standing::Taken,
            false if self.done.iter().any(waits) => Standing::Pending,
            false => Standing::Free,
        }
    }

    /// A message comes to a queue, in no transaction.
    pub(super) fn send(&mut self, queue: usize, number: u64, sequence: Option<u64>) {
        self.queues[queue].push(Message::new(number, true));
        self.numbers.extend(sequence);
    }

    pub(super) fn take(&mut self, step: Step, number: u64) {
        match step {
            Step::Begin => self.phase = Phase::Open,
            Step::Start => {
                (self.phase, self.branch, self.bond) = (Phase::Open, true, Bond::Works);
            }
            Step::Do(operation) => self.operate(operation, number),
            Step::Commit => self.settle(Resolution::Commit, Disposition::Return),
            Step::CommitOnce => {
                self.settle(Resolution::Commit, Disposition::Return);
                self.committed = true;
            }
            Step::Rollback(disposition) => self.settle(Resolution::Rollback, disposition),
            Step::Join => self.joined = self.broken.is_none(),
            Step::Leave => self.joined = false,
            Step::LoseOther => {
                self.joined = false;
                self.break_off(XaError::RbCommFail);
            }
            Step::Suspend if self.broken.is_none() => self.bond = Bond::Rests,
            Step::Resume if self.broken.is_none() => self.bond = Bond::Works,
            Step::Resume => {}
            Step::End | Step::Suspend => self.bond = Bond::None,
            Step::Fail => {
                self.bond = Bond::None;
                self.break_off(XaError::RbRollback);
            }
            Step::Expire => self.expire(),
            Step::Prepare => self.prepare(),
            Step::OnePhase | Step::Outcome(..) | Step::Decide(_) => self.end_branch(step),
            Step::Forget => {
                if let Phase::Decided(_) = self.phase {
                    self.phase = Phase::None;
                }
            }
            Step::Lose => self.lose(),
        }
        self.lend();
    }

    /// What was done in the branch is undone, and it waits for its manager to hear why.
    fn break_off(&mut self, why: XaError) {
        if self.broken.is_none() {
            self.settle(Resolution::Rollback, Disposition::Return);
            (self.phase, self.broken) = (Phase::Open, Some(why));
        }
    }

    /// The time of an open branch is over, or that of a broken one.
    fn expire(&mut self) {
        match (self.phase, self.broken) {
            (Phase::Open, None) if self.branch => self.break_off(XaError::RbTimeout),
            (Phase::Open, Some(_)) if self.is_free() => self.give_up(),
            _ => {}
        }
    }

    /// There is no such branch any more.
    fn give_up(&mut self) {
        (self.phase, self.broken) = (Phase::None, None);
    }

    /// Whether an operation is refused: its connection rests, or the work is undone already.
    fn refuses(&self, operation: Operation) -> bool {
        let by_other = self.sends_by_other() && !matches!(operation, Operation::Settle { .. });
        self.broken.is_some() || (self.bond == Bond::Rests && !by_other)
    }

    fn operate(&mut self, operation: Operation, number: u64) {
        if self.refuses(operation) {
            return;
        }
        match operation {
            Operation::Send { queue, persistent } => {
                let message = Message::new(number, persistent || self.branch);
                self.done.push(Done::Sent { queue, message, sequence: None });
            }
            Operation::Number { sequence, .. } if self.standing(sequence) != Standing::Free => {}
            Operation::Number { queue, sequence } if self.phase == Phase::None => {
                self.send(queue, number, Some(sequence));
            }
            Operation::Number { queue, sequence } => {
                let message = Message::new(number, true);
                self.done.push(Done::Sent { queue, message, sequence: Some(sequence) });
            }
            Operation::Settle { queue, returned } => {
                let number = self.loans[queue].remove(0);
                let message = self.queues[queue].iter().find(|it| it.number == number);
                let message = *message.expect("it is lent");
                self.done.push(Done::Settled { queue, message, returned });
            }
        }
    }

    /// What was settled and is not in the log leaves its queue for it.
    fn prepare(&mut self) {
        if self.phase != Phase::Open || !self.is_free() {
            return;
        }
        if self.done.is_empty() {
            self.give_up();
            return;
        }
        self.phase = Phase::Prepared;
        for done in &self.done {
            if let Done::Settled { queue, message, .. } = done
                && !message.logged
            {
                self.queues[*queue].retain(|it| it.number != message.number);
            }
        }
    }

    fn end_branch(&mut self, step: Step) {
        let (resolution, disposition) = match step {
            Step::OnePhase => (Resolution::Commit, Disposition::Return),
            Step::Outcome(resolution, disposition) => (resolution, disposition),
            Step::Decide(resolution) => (resolution, Disposition::Return),
            _ => unreachable!("the others end no branch"),
        };
        let one_phase = step == Step::OnePhase;
        let open = self.phase == Phase::Open && self.is_free();
        let ends = match step {
            // What is broken ends so, and nobody remembers that.
            Step::OnePhase | Step::Outcome(Resolution::Rollback, _) if open => true,
            _ => self.phase == Phase::Prepared && !one_phase,
        };
        if !ends {
            return;
        }
        if self.broken.is_some() {
            return self.give_up();
        }
        let is_kept = self.phase == Phase::Prepared || resolution == Resolution::Commit;
        self.settle(resolution, disposition);
        if is_kept {
            let decided = matches!(step, Step::Decide(_));
            self.phase = if decided { Phase::Decided(resolution) } else { Phase::Over(resolution) };
        }
    }

    /// Everything that was done in the transaction gets its outcome: first what is in the log, in
    /// the order in which it came there, then what is in memory.
    pub(super) fn settle(&mut self, resolution: Resolution, disposition: Disposition) {
        let voted = self.phase == Phase::Prepared;
        let all = std::mem::take(&mut self.done);
        let class = |done: &Done| match done {
            Done::Sent { message, .. } | Done::Settled { message, .. } => u8::from(!message.logged),
        };
        let mut ordered = all;
        ordered.sort_by_key(class);
        for done in ordered {
            match done {
                Done::Sent { queue, message, sequence } => {
                    if resolution == Resolution::Commit {
                        self.queues[queue].push(message);
                        self.numbers.extend(sequence);
                    }
                }
                Done::Settled { queue, message, returned } => {
                    // It has no place any more.
                    let kept = voted && !message.logged;
                    let goes = resolution == Resolution::Commit && !returned;
                    let stays = resolution == Resolution::Rollback
                        && disposition == Disposition::Keep
                        && self.consumes;
                    let after = if stays { message } else { message.returned() };
                    let after = if kept { after.placed_anew(stays) } else { after };
                    let queue_of = &mut self.queues[queue];
                    let at = queue_of.iter().position(|it| it.number == message.number);
                    match (at, goes) {
                        (Some(at), true) => drop(queue_of.remove(at)),
                        (Some(at), false) => queue_of[at] = after,
                        (None, true) => {}
                        (None, false) => queue_of.push(after),
                    }
                    if stays && kept {
                        // One mark for each queue says up to where it was lent.
                        queue_of.iter_mut().for_each(|it| it.lent = true);
                    }
                    if stays {
                        self.loans[queue].push(message.number);
                    }
                }
            }
        }
        self.phase = Phase::None;
    }

    /// The connection is gone, and with it what only belonged to it.
    fn lose(&mut self) {
        if self.phase == Phase::Open && !self.branch {
            self.settle(Resolution::Rollback, Disposition::Return);
        }
        if self.bond != Bond::None {
            self.bond = Bond::None;
            self.break_off(XaError::RbCommFail);
        }
        for (queue, loans) in self.queues.iter_mut().zip(&mut self.loans) {
            for message in queue.iter_mut().filter(|it| loans.contains(&it.number)) {
                *message = message.returned();
            }
            loans.clear();
        }
        self.consumes = false;
    }

    /// The same in a new life.
    pub(super) fn crashed(&self) -> Self {
        let mut next = self.clone();
        next.consumes = false;
        next.loans = [Vec::new(), Vec::new()];
        (next.bond, next.joined, next.broken) = (Bond::None, false, None);
        if next.phase == Phase::Open {
            next.settle(Resolution::Rollback, Disposition::Return);
        }
        for queue in &mut next.queues {
            queue.retain(|message| message.logged);
            for message in queue {
                message.seen |= message.lent;
            }
        }
        next
    }

    /// What a start finds.
    pub(super) fn found(&self) -> [Vec<Found>; 2] {
        let held: Vec<u64> = self.held().collect();
        let found = |it: &Message| Found {
            number: it.number,
            returns: it.returns,
            redelivered: it.is_redelivered(),
            held: held.contains(&it.number),
        };
        [0, 1].map(|queue: usize| self.queues[queue].iter().map(found).collect())
    }

    /// What a consumer gets who takes everything that is free.
    pub(super) fn delivered(&self) -> [Vec<Delivered>; 2] {
        let held: Vec<u64> = self.held().collect();
        let delivered = |it: &Message| {
            let redelivered = it.is_redelivered();
            let attempt = (it.returns + 1).max(1 + u32::from(redelivered));
            Delivered { number: it.number, attempt, redelivered }
        };
        let free = |it: &&Message| !held.contains(&it.number);
        [0, 1].map(|queue: usize| self.queues[queue].iter().filter(free).map(delivered).collect())
    }
}
