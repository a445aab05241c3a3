//! Large publications, and somebody who only listens: each body comes as it was sent, whatever
//! becomes of those who keep it meanwhile.

use super::groups::message;
use super::{Peer, SUBSCRIPTION, T, TOPIC, World};
use crate::broker::command::{Command, Delivery, Outcome, Refusal, Which, Work};
use crate::engine::Input;
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
        let asked = match together {
            false => self.ask(peer, Command::SendStaged { stage, to, message })?,
            true => {
                let work = Work::SendStaged { stage, to, message };
                self.ask(peer, Command::Transact { transaction: T, work })?
            }
        };
        if asked.is_err() {
            self.must(peer, Command::Unstage { stage })?;
        }
        Ok(asked)
    }

    /// Somebody listens to the topic, or takes what has come, or goes.
    pub(super) fn listen(&mut self) -> Result<(), String> {
        let Some(mut peer) = self.listener.take() else {
            let mut peer = self.connect();
            // Nobody waits for it.
            let (subscription, prefetch, selector) = (SUBSCRIPTION, 1000, None);
            let from = Destination::topic(TOPIC);
            let command = Command::Subscribe { subscription, from, prefetch, selector };
            self.must(&mut peer, command)?;
            self.listener = Some(peer);
            return Ok(());
        };
        self.collect(&mut peer)?;
        if self.random.one_in(6) {
            self.node.inputs.push_back(Input::Close(peer.id));
            return Ok(());
        }
        // It has all of what it acknowledges.
        let mut whole = peer.holds.iter().map(|(tag, _)| *tag).filter(|tag| !peer.is_taking(*tag));
        if let Some(last) = whole.next_back() {
            let (which, outcome) = (Which::Through(last), Outcome::Accepted);
            let settle = Command::Settle { subscription: SUBSCRIPTION, which, outcome };
            self.must(&mut peer, settle)?;
            peer.holds.retain(|(tag, _)| *tag > last);
            self.heard += 1;
        }
        self.listener = Some(peer);
        Ok(())
    }
}

impl Peer {
    fn is_taking(&self, tag: Tag) -> bool {
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
