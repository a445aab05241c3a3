//! What operators do beside the clients: they purge, delete, move and look.
//!
//! Two connections are promised no order: what is sent while a move or a purge is asked and not
//! answered may be taken by it too.

use super::clients::{Asked, Client, QUEUES, Surroundings};
use super::model::{Fate, Model};
use super::node::LIMITED;
use crate::broker::command::{Command, Pick, Returns, Spot};
use crate::broker::delta::Place;
use crate::ids::Millis;

/// What was asked and may not have happened yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Upkeep {
    last: u64,
    open: Vec<Task>,
}

#[derive(Clone, Debug)]
struct Task {
    number: u64,
    from: &'static str,
    /// Where a move takes it; a purge or the deletion of a queue takes it nowhere.
    to: Option<&'static str>,
}

impl Upkeep {
    pub(super) fn answered(&mut self, number: u64) {
        self.open.retain(|task| task.number != number);
    }

    /// A life has ended, and what was asked in it with it.
    pub(super) fn clear(&mut self) {
        self.open.clear();
    }
}

impl Task {
    /// Whether it may take a message from where that may be, and nothing says so yet.
    fn is_news_to(&self, fate: &Fate) -> bool {
        match self.to {
            Some(to) => fate.may_be_in(self.from) && !(fate.moved && fate.queues.contains(to)),
            None => fate.queues.contains(self.from) && !fate.doomed,
        }
    }

    /// It may take a message, if that is there.
    fn may_take(&self, fate: &mut Fate) {
        let Some(to) = self.to else {
            // What is set apart is in another queue.
            fate.doomed |= fate.queues.contains(self.from);
            return;
        };
        if !fate.may_be_in(self.from) {
            return;
        }
        fate.queues.insert(to.to_owned());
        fate.moved = true;
        // A move ends every delay.
        fate.not_before = Millis(0);
        fate.doomed |= to == QUEUES[2];
        // That it was delivered in an earlier life is a return from now on.
        fate.returns_by_end += u32::from(fate.delivered);
        fate.may_be_dropped();
    }
}

impl Upkeep {
    /// What is under way may take a message, one after another and in any order.
    fn may_take(&self, fate: &mut Fate) {
        while let Some(task) = self.open.iter().find(|task| task.is_news_to(fate)) {
            task.may_take(fate);
        }
    }
}

impl Model {
    /// A message is sent, perhaps while operators are at work.
    pub(super) fn is_sent(&mut self, number: u64, mut fate: Fate) {
        self.upkeep.may_take(&mut fate);
        self.fates.insert(number, fate);
    }

    /// An operator asks that what waits in one queue go to another, or away. What is lent stays,
    /// and nobody outside knows what is lent: each message is in one of the two.
    fn may_take(&mut self, from: &'static str, to: Option<&'static str>) -> u64 {
        self.overfilled |= to == Some(LIMITED);
        self.upkeep.last += 1;
        let number = self.upkeep.last;
        let task = Task { number, from, to };
        for fate in self.fates.values_mut() {
            task.may_take(fate);
        }
        self.upkeep.open.push(task);
        for fate in self.fates.values_mut() {
            self.upkeep.may_take(fate);
        }
        number
    }
}

impl Client {
    pub(super) fn sweep(&mut self, around: &mut Surroundings<'_>) {
        let from = QUEUES[2];
        let number = around.model.may_take(from, None);
        let queue = from.into();
        let command = if around.random.one_in(2) {
            Command::Purge { queue }
        } else {
            Command::Delete { queue }
        };
        self.ask(around, command, Asked::Upkeep(number));
    }

    /// Moves messages as an operator does.
    pub(super) fn shift(&mut self, around: &mut Surroundings<'_>) {
        let from = around.random.below(3);
        let to = (from + 1 + around.random.below(2)) % 3;
        let (mut from, mut to) = (QUEUES[from as usize], QUEUES[to as usize]);
        if around.random.one_in(3) {
            (from, to) = ("DLQ.b", "b");
        }
        let number = around.model.may_take(from, Some(to));
        let all = around.random.one_in(2);
        let pick = Pick::First(if all { u64::MAX } else { 1 + around.random.below(30) });
        let returns = Returns::Keep;
        let command = Command::Move { from: from.into(), to: to.into(), pick, returns };
        self.ask(around, command, Asked::Upkeep(number));
    }

    /// Looks at messages as an operator does.
    pub(super) fn browse(&mut self, around: &mut Surroundings<'_>) {
        let queue = QUEUES[around.random.below(3) as usize].into();
        let place = Place { rank: around.random.below(10) as u8, seq: around.random.below(100) };
        let after = around.random.one_in(2).then_some(Spot::Durable(place));
        let limit = 1 + around.random.below(10) as usize;
        self.ask(around, Command::Browse { queue, after, limit }, Asked::Other);
    }
}
