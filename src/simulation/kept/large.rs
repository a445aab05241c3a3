//! Large publications: each body comes as it was sent, whatever becomes of those who keep it
//! meanwhile.

use super::groups::message;
use super::{Peer, T, TOPIC, World};
use crate::broker::command::{Command, Delivery, Refusal, Work};
use crate::ids::{StageId, Tag};
use crate::message::{Destination, Message};
use crate::simulation::bodies::{Receiving, Sending};
use crate::simulation::node::number_of;

impl World {
    /// Publishes a message, alone or in the transaction: every third has a body in pieces.
    pub(super) fn send(
        &mut self,
        peer: &mut Peer,
        number: u64,
        together: bool,
    ) -> Result<Result<(), Refusal>, String> {
        let (message, to) = (message(number, self.last()), Destination::topic(TOPIC));
        if !number.is_multiple_of(3) {
            let within = |work| Command::Transact { transaction: T, work };
            let command = match together {
                true => within(Work::Send { to, message }),
                false => Command::Send { to, message },
            };
            return self.ask(peer, command);
        }
        let stage = StageId(number);
        let mut sending = Sending::new(stage, number, &mut self.random);
        let asked = self.ask(peer, Command::Stage { stage, to: to.clone(), bytes: 0 })?;
        if asked.is_err() {
            return Ok(asked);
        }
        while let Some(piece) = sending.piece(&mut self.random) {
            self.must(peer, piece)?;
        }
        let message = Message { content: sending.content(), ..message };
        // Refused, nothing of it is left.
        match together {
            false => self.ask(peer, Command::SendStaged { stage, to, message }),
            true => {
                let work = Work::SendStaged { stage, to, message };
                self.ask(peer, Command::Transact { transaction: T, work })
            }
        }
    }
}

impl Peer {
    pub(super) fn is_taking(&self, tag: Tag) -> bool {
        self.taking.is_some_and(|taking| taking.tag == tag)
    }

    /// A message has come, or its head.
    pub(super) fn take(&mut self, delivery: &Delivery) -> Result<(), String> {
        if let Some(taking) = self.taking.filter(|taking| self.has(taking.tag)) {
            return Err(format!("the body of message {} was broken off", taking.number));
        }
        let number = number_of(&delivery.content)?;
        self.taking = Receiving::of(delivery, number);
        self.holds.push((delivery.tag, number));
        self.came.push(number);
        Ok(())
    }

    /// A piece of its body has.
    pub(super) fn take_piece(&mut self, tag: Tag, bytes: &[u8]) -> Result<(), String> {
        match &mut self.taking {
            Some(taking) if taking.tag == tag => {
                if taking.take(bytes)? {
                    self.taking = None;
                }
                Ok(())
            }
            other => {
                Err(format!("a piece came for {tag:?} and not for {:?}", other.map(|it| it.tag)))
            }
        }
    }

    pub(super) fn has(&self, tag: Tag) -> bool {
        self.holds.iter().any(|(other, _)| *other == tag)
    }
}
