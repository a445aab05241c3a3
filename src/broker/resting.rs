//! Non-persistent messages that came back and are not handed out again at once.
//!
//! Such a message keeps its place and counts in its queue as before, so that it is purged, moved
//! and expires there; it is only out of the sight of consumers until its time has come. How long
//! that is, or whether it came back too often, is found by a step of work, since whoever takes it
//! back may do so without a clock. Always: what rests is in its queue, and what is told of it here
//! may be out of date.

use std::collections::{BTreeSet, VecDeque};

use crate::broker::Broker;
use crate::broker::fact::{Change, Fact, Lent, Spot, VolatilePlace};
use crate::broker::selecting::Waiting;
use crate::ids::{Millis, QueueId};
use crate::limits;

/// What rests, over all queues.
#[derive(Debug, Default)]
pub(crate) struct Resting {
    /// Those of which it is not known yet until when.
    new: VecDeque<(QueueId, VolatilePlace)>,
    /// The others, the soonest first.
    until: BTreeSet<(Millis, QueueId, VolatilePlace)>,
}

impl Resting {
    /// When the first is to be looked at.
    pub(super) fn next_deadline(&self) -> Option<Millis> {
        self.until.first().map(|(at, _, _)| *at)
    }

    pub(super) fn is_due(&self, now: Millis) -> bool {
        !self.new.is_empty() || self.next_deadline().is_some_and(|at| at <= now)
    }

    /// Some of one queue that have just come back.
    fn take_new(&mut self) -> Option<(QueueId, Vec<VolatilePlace>)> {
        let (id, _) = *self.new.front()?;
        let mut places = Vec::new();
        while places.len() < limits::STEP_MESSAGES_MAX
            && let Some((_, place)) = self.new.pop_front_if(|(queue, _)| *queue == id)
        {
            places.push(place);
        }
        Some((id, places))
    }

    /// Some of one queue that have rested for long enough.
    fn over(&self, now: Millis) -> Option<(QueueId, Vec<(Millis, VolatilePlace)>)> {
        let (_, id, _) = *self.until.first().filter(|(at, _, _)| *at <= now)?;
        let over = self.until.iter().take_while(|(at, queue, _)| *at <= now && *queue == id);
        let over = over.take(limits::STEP_MESSAGES_MAX);
        Some((id, over.map(|(at, _, place)| (*at, *place)).collect()))
    }
}

impl Broker {
    /// A non-persistent message comes back to its place.
    pub(super) fn take_back_volatile(&mut self, id: QueueId, loan: Lent, counted: bool) {
        let Lent::Volatile { place, message, returns, .. } = loan else {
            unreachable!("the others come back by other ways")
        };
        let returns = returns + u32::from(counted);
        self.queue(id).volatile_on_loan.remove(&place);
        self.count(id, |c| c.returned += u64::from(counted));
        let queue = self.queues.get_mut(&id).expect("a loan keeps its queue");
        if counted && queue.redelivery.holds_back(returns) {
            queue.rest_at(place, message, returns, &mut self.expiries);
            return self.resting.new.push_back((id, place));
        }
        self.enqueue(id, place, message, returns);
        self.queue(id).waits_again(Spot::Volatile(place), Waiting::Volatile);
        self.stir(id);
    }

    /// States until when some rest that have come back, what becomes of those that did so too
    /// often, and that the time of others has come. False where there is none of either.
    pub(super) fn state_resting(&mut self, now: Millis, facts: &mut Vec<Fact>) -> bool {
        if let Some((id, places)) = self.resting.take_new() {
            self.state_rests(now, id, &places, facts);
            return true;
        }
        let Some((queue, places)) = self.resting.over(now) else { return false };
        facts.push(Fact::Memory(Change::Rested { queue, places }));
        true
    }

    fn state_rests(&self, now: Millis, id: QueueId, new: &[VolatilePlace], facts: &mut Vec<Fact>) {
        // A queue may be gone, and so may each of the messages.
        let Some(queue) = self.queues.get(&id) else { return };
        let rules = &queue.redelivery;
        let (mut rest, mut dead) = (Vec::new(), Vec::new());
        for place in new {
            let Some((message, returns)) = queue.resting_at(*place) else { continue };
            if rules.is_too_often(returns) {
                dead.push((*place, message.clone()));
            } else {
                // Not beyond its own end: nothing is kept of one that has gone.
                let until = rules.rest_until(now, returns);
                let until = message.expires.map_or(until, |expires| until.min(expires));
                rest.push((until, *place));
            }
        }
        let until = Millis(now.0.saturating_add(limits::DEAD_RETRY_MILLIS));
        let stay = self.state_dead_volatile(now, id, dead, facts);
        rest.extend(stay.into_iter().map(|place| (until, place)));
        if !rest.is_empty() {
            facts.push(Fact::Memory(Change::Rest { queue: id, places: rest }));
        }
    }

    pub(super) fn apply_rest(&mut self, id: QueueId, places: Vec<(Millis, VolatilePlace)>) {
        self.resting.until.extend(places.into_iter().map(|(at, place)| (at, id, place)));
    }

    pub(super) fn apply_rested(&mut self, id: QueueId, places: Vec<(Millis, VolatilePlace)>) {
        for (at, place) in places {
            self.resting.until.remove(&(at, id, place));
            let Some(queue) = self.queues.get_mut(&id) else { continue };
            let Some((_, returns)) = queue.resting_at(place) else { continue };
            // It found no room where it is to be set apart.
            if queue.redelivery.is_too_often(returns) {
                self.resting.new.push_back((id, place));
                continue;
            }
            let known = queue.dequeue(place, &mut self.expiries);
            let (message, returns) = known.expect("just seen");
            self.enqueue(id, place, message, returns);
            self.queue(id).waits_again(Spot::Volatile(place), Waiting::Volatile);
            self.stir(id);
        }
    }
}
