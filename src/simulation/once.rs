//! Messages that simulated clients send under ids, or with the numbers of producers, and send again
//! when they do not know whether they were taken: each must be there once.

use std::collections::{BTreeMap, BTreeSet};

use crate::broker::command::{Command, Once, Refusal, Work};
use crate::identity::{Identity, Numbered};
use crate::message::{Destination, Durability};

use super::clients::{Asked, Client, Surroundings};
use super::model::{Fate, Model, Step};
use super::node::Contents;

/// What was sent under ids and not confirmed.
#[derive(Clone, Debug, Default)]
pub(super) struct OnceSent {
    /// As it is sent again, by the number of the message.
    commands: BTreeMap<u64, (Option<Numbered>, Command)>,
    /// Those of which nobody will hear anything more by themselves.
    unsure: BTreeSet<u64>,
    /// Those that were confirmed, and are sent again all the same.
    sure: BTreeMap<u64, (Option<Numbered>, Command)>,
}

impl OnceSent {
    /// The message was taken, or its first sending refused.
    pub(super) fn answered(&mut self, number: u64) {
        self.commands.remove(&number);
        self.unsure.remove(&number);
    }

    /// The first sending of the message was confirmed, or refused.
    pub(super) fn heard(&mut self, number: u64, confirmed: bool) {
        if confirmed { self.confirmed(number) } else { self.answered(number) }
    }

    /// The message was confirmed.
    pub(super) fn confirmed(&mut self, number: u64) {
        self.unsure.remove(&number);
        self.sure.extend(self.commands.remove(&number).map(|command| (number, command)));
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
    /// Gives a message of a client an id or a number now and then.
    pub(super) fn name(&mut self, client: u64, number: u64, command: Command) -> Command {
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
        let number_of = number_of(client, number);
        self.once.commands.insert(number, (number_of, again));
        marked(number, number_of, command)
    }
}

/// The number that a producer gives to a message, if it has one. Some clients are one producer, and
/// that leaves so much between two numbers that the window takes a few of them only.
fn number_of(client: u64, number: u64) -> Option<Numbered> {
    if number.is_multiple_of(3) {
        return None;
    }
    let (producer, gap) = if client % 2 == 1 { (u64::MAX, 67) } else { (client, 1) };
    Some(Numbered { producer: producer_of(producer), sequence: number / 2 * gap })
}

impl Client {
    /// Says now and then that nothing will be sent again, where that is so.
    pub(super) fn close_producers(&mut self, around: &mut Surroundings<'_>) {
        let mut unsure = around.model.once.commands.values().filter_map(|(it, _)| *it);
        let own = producer_of(self.index);
        if !unsure.any(|it| it.producer == own) {
            let other = |it: &Option<Numbered>| it.is_none_or(|it| it.producer != own);
            around.model.once.sure.retain(|_, (it, _)| other(it));
            self.ask(around, Command::CloseProducers, Asked::Other);
        }
    }
}

fn producer_of(client: u64) -> Identity {
    Identity::of(&[b"producer".as_slice(), &client.to_le_bytes()].concat())
}

fn marked(number: u64, it: Option<Numbered>, command: Command) -> Command {
    match it {
        Some(it) => Command::Once(Once::numbered(it, command)),
        None => Command::Once(Once::send(Identity::of(&number.to_le_bytes()), command)),
    }
}

impl Client {
    /// Sends something again of which nobody knows whether it was taken.
    pub(super) fn resend(&mut self, around: &mut Surroundings<'_>) {
        if around.random.one_in(3) {
            return self.send_in_vain(around);
        }
        let unsure = &around.model.once.unsure;
        if unsure.is_empty() {
            return;
        }
        let pick = around.random.below(unsure.len() as u64) as usize;
        let number = *unsure.iter().nth(pick).expect("in range");
        around.model.once.unsure.remove(&number);
        let (it, command) = around.model.once.commands[&number].clone();
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
        self.ask(around, marked(number, it, command), Asked::Resend(number));
    }

    /// Sends something again that was confirmed, perhaps long ago.
    fn send_in_vain(&mut self, around: &mut Surroundings<'_>) {
        let sure = &around.model.once.sure;
        if !sure.is_empty() {
            let pick = around.random.below(sure.len() as u64) as usize;
            let (number, (it, command)) = sure.iter().nth(pick).expect("in range");
            let command = marked(*number, *it, command.clone());
            self.ask(around, command, Asked::Other);
        }
    }

    pub(super) fn resend_answered(
        &mut self,
        around: &mut Surroundings<'_>,
        number: u64,
        refusal: Option<Refusal>,
    ) -> Result<(), String> {
        match refusal {
            None => {
                around.model.once.confirmed(number);
                let fate = around.model.fates.get_mut(&number);
                let fate = fate.filter(|fate| !fate.removed);
                fate.into_iter().for_each(|fate| fate.send = Step::Confirmed);
                Ok(())
            }
            // Whether the first was taken is as unknown as before.
            Some(refusal)
                if refusal.is_want_of_room()
                    || matches!(refusal, Refusal::NamePending | Refusal::NumberPending) =>
            {
                around.model.once.unsure(number);
                Ok(())
            }
            // Nobody will ever know.
            Some(Refusal::BelowWindow { .. }) => {
                around.model.once.answered(number);
                Ok(())
            }
            Some(refusal) => Err(format!("{number}, sent again, was refused: {refusal:?}")),
        }
    }
}
