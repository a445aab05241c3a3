//! Somebody who only listens: what is published while he does comes to him once and in order, and
//! nothing else does.

use std::collections::BTreeMap;

use super::groups::{Group, Said};
use super::{Peer, SUBSCRIPTION, TOPIC, World};
use crate::broker::command::{Command, Outcome, Which};
use crate::engine::{Input, Turn};
use crate::limits;
use crate::message::Destination;

/// Who listens.
pub(super) struct Listener {
    peer: Peer,
    /// The last number that was published before he came.
    after: u64,
}

impl World {
    /// Somebody listens to the topic, or takes what has come, or goes.
    pub(super) fn listen(&mut self) -> Result<(), String> {
        let Some(mut listener) = self.listener.take() else {
            let mut peer = self.connect();
            // Nobody waits for it.
            let (subscription, prefetch, selector) = (SUBSCRIPTION, 1000, None);
            let from = Destination::topic(TOPIC);
            let command = Command::Subscribe { subscription, from, prefetch, selector };
            self.must(&mut peer, command)?;
            self.listener = Some(Listener { peer, after: self.last_number });
            return Ok(());
        };
        let peer = &mut listener.peer;
        self.collect(peer)?;
        if self.random.one_in(6) {
            self.hear_out(&mut listener)?;
            self.node.inputs.push_back(Input::Close(listener.peer.id));
            return Ok(());
        }
        // It has all of what it acknowledges.
        let mut whole = peer.holds.iter().map(|(tag, _)| *tag).filter(|tag| !peer.is_taking(*tag));
        if let Some(last) = whole.next_back() {
            let (which, outcome) = (Which::Through(last), Outcome::Accepted);
            let settle = Command::Settle { subscription: SUBSCRIPTION, which, outcome };
            self.must(peer, settle)?;
            peer.holds.retain(|(tag, _)| *tag > last);
            self.heard += 1;
        }
        self.check_heard(&listener)?;
        self.listener = Some(listener);
        Ok(())
    }

    /// What has come to who listens is what was published, once and in order.
    fn check_heard(&self, listener: &Listener) -> Result<(), String> {
        let groups = self.groups.iter().flat_map(|it| it.numbers.iter().map(move |n| (*n, it)));
        let groups: BTreeMap<u64, &Group> = groups.collect();
        let mut last = [0, 0];
        let mut came = listener.peer.came.clone();
        came.sort_unstable();
        if let Some(twice) = came.windows(2).find(|two| two[0] == two[1]) {
            return Err(format!("{} was heard twice", twice[0]));
        }
        for number in &listener.peer.came {
            let group = groups.get(number).ok_or(format!("{number} was heard, and never was"))?;
            // In one order with others is what one client publishes alone or in transactions.
            if group.client.is_some() || group.delay.is_some() || group.voted {
                continue;
            }
            // Those of each priority.
            let last = &mut last[(number % 2) as usize];
            if number < last {
                return Err(format!("{number} was heard after {last}"));
            }
            *last = *number;
        }
        Ok(())
    }

    /// Everything that follows by itself has happened: then he has heard all.
    fn hear_out(&mut self, listener: &mut Listener) -> Result<(), String> {
        let mut still = 0;
        while still < 3 {
            if self.node.log.lingers() {
                self.now.0 += limits::LINGER_MILLIS;
            }
            let busy = self.node.turn(self.now).map_err(|e| e.to_string())? == Turn::Busy;
            let busy = busy | self.node.log_step() | self.node.room_step() | self.node.job_step(0);
            self.collect(&mut listener.peer)?;
            // It may have room for more now.
            let busy = busy || !self.node.inputs.is_empty();
            still = if busy { 0 } else { still + 1 };
        }
        // Whoever checks lets a little time pass, too, and nothing may be due by that.
        self.now.0 = self.now.0.next_multiple_of(100);
        self.check_heard(listener)?;
        let sure =
            |it: &&Group| it.said == Said::Confirmed && it.expires.is_none() && it.delay.is_none();
        let numbers = self.groups.iter().filter(sure).flat_map(|group| &group.numbers);
        let mut unheard =
            numbers.filter(|it| **it > listener.after && !listener.peer.came.contains(it));
        match unheard.next() {
            None => Ok(()),
            Some(number) => {
                let of = |it: &&Group| it.numbers.contains(number);
                let (group, came) = (self.groups.iter().find(of), &listener.peer.came);
                Err(format!("{number} was never heard, but {came:?}: {group:?}"))
            }
        }
    }
}
