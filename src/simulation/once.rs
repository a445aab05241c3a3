//! Messages that simulated clients send under ids, and send again when they do not know whether
//! they were taken: each must be there once.

use std::collections::{BTreeMap, BTreeSet};

use crate::broker::command::{Command, Once, Refusal, Work};
use crate::identity::Identity;
use crate::message::{Destination, Durability};

use super::clients::{Asked, Client, Surroundings};
use super::model::{Fate, Model, Step};
use super::node::Contents;

/// What was sent under ids and not confirmed.
#[derive(Clone, Debug, Default)]
pub(super) struct OnceSent {
    /// As it is sent again, by the number of the message.
    commands: BTreeMap<u64, Command>,
    /// Those of which nobody will hear anything more by themselves.
    unsure: BTreeSet<u64>,
}

impl OnceSent {
    /// The message was taken, or its first sending refused.
    pub(super) fn answered(&mut self, number: u64) {
        self.commands.remove(&number);
        self.unsure.remove(&number);
    }

    /// No answer will come.
    pub(super) fn unsure(&mut self, number: u64) {
        if self.commands.contains_key(&number) {
            self.unsure.insert(number);
        }
    }

    /// A crash has left `contents`. Gives the fates of those that may be sent again and are not
    /// there: they will be, but for those that have been there.
    pub(super) fn resolve(
        &mut self,
        fates: &BTreeMap<u64, Fate>,
        contents: &Contents,
    ) -> BTreeMap<u64, Fate> {
        let mut again = BTreeMap::new();
        self.commands.retain(|number, _| match fates.get(number) {
            _ if contents.messages.contains_key(number) => true,
            Some(fate) if !fate.doomed => {
                let over = fate.delivered || fate.removed || fate.accept != Step::No;
                let fate = Fate { send: Step::Void, removed: over, ..fate.clone() };
                again.insert(*number, Fate { accept: Step::No, ..fate });
                true
            }
            _ => false,
        });
        self.unsure = self.commands.keys().copied().collect();
        again
    }
}

impl Model {
    /// Gives a message an id now and then.
    pub(super) fn name(&mut self, number: u64, command: Command) -> Command {
        let (Command::Send { to, message }
        | Command::Transact { work: Work::Send { to, message }, .. }) = &command
        else {
            return command;
        };
        let durable = message.durability == Durability::Persistent && message.expires.is_none();
        // What goes with its queue is another story.
        let stays = matches!(to, Destination::Queue(name) if &**name != "swept");
        if !durable || !stays || number.is_multiple_of(2) {
            return command;
        }
        let again = Command::Send { to: to.clone(), message: message.clone() };
        self.once.commands.insert(number, again);
        named(number, command)
    }
}

fn named(number: u64, command: Command) -> Command {
    Command::Once(Once::send(Identity::of(&number.to_le_bytes()), command))
}

impl Client {
    /// Sends something again of which nobody knows whether it was taken.
    pub(super) fn resend(&mut self, around: &mut Surroundings<'_>) {
        let unsure = &around.model.once.unsure;
        if unsure.is_empty() {
            return;
        }
        let pick = around.random.below(unsure.len() as u64) as usize;
        let number = *unsure.iter().nth(pick).expect("in range");
        around.model.once.unsure.remove(&number);
        let command = around.model.once.commands[&number].clone();
        let Some(fate) = around.model.fates.get_mut(&number).filter(|fate| !fate.doomed) else {
            return around.model.once.answered(number);
        };
        if let Command::Send { to, .. } = &command {
            fate.queues.insert(to.name().to_owned());
        }
        // It may come behind what was sent after it.
        fate.producer = 1000 + number;
        if fate.send == Step::Void && !fate.removed {
            fate.send = Step::Asked;
        }
        self.ask(around, named(number, command), Asked::Resend(number));
    }

    pub(super) fn resend_answered(
        &mut self,
        around: &mut Surroundings<'_>,
        number: u64,
        refusal: Option<Refusal>,
    ) -> Result<(), String> {
        match refusal {
            None => {
                around.model.once.answered(number);
                let fate = around.model.fates.get_mut(&number);
                let fate = fate.filter(|fate| !fate.removed);
                fate.into_iter().for_each(|fate| fate.send = Step::Confirmed);
                Ok(())
            }
            // Whether the first was taken is as unknown as before.
            Some(refusal) if refusal.is_want_of_room() || refusal == Refusal::NamePending => {
                around.model.once.unsure(number);
                Ok(())
            }
            Some(refusal) => Err(format!("{number}, sent again, was refused: {refusal:?}")),
        }
    }
}
