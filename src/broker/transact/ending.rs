//! What comes of a unit's work that lives in memory alone, some at a time.
//!
//! Owns how much of it one step does. Always: a unit is over when all of it is done, what it has
//! published included, and whoever waits for that is told once. Leaves what is durable to `settle`.

use crate::broker::command::{Disposition, Reply};
use crate::broker::delta::Resolution;
use crate::broker::fact::{Change, Effect, Lent, Publisher, Source, UnitKey, VolatileWork};
use crate::broker::transact::Unit;
use crate::broker::{Broker, Effects};
use crate::ids::TransactionId;
use crate::limits;

impl Broker {
    /// Messages that some work of a unit touches when the unit is committed; `None` where that
    /// takes several steps.
    fn weight(&self, work: &VolatileWork) -> Option<usize> {
        match work {
            VolatileWork::Publish { topic, message, .. } => {
                let kept = if message.persistent { 0 } else { self.held.count(topic) };
                Some(1 + kept + self.reach(topic)?)
            }
            VolatileWork::Enqueue { .. } | VolatileWork::Took { .. } => Some(1),
        }
    }

    /// Whether what a unit has in memory gets its outcome in one step.
    pub(in crate::broker) fn is_light(&self, unit: &Unit) -> bool {
        let most = limits::STEP_MESSAGES_MAX;
        let weights = unit.works().map(|work| self.weight(work));
        let weigh = |all: usize, weight: Option<usize>| Some(all + weight?);
        unit.in_memory() <= most
            && weights.into_iter().try_fold(0, weigh).is_some_and(|all| all <= most)
    }

    /// How much of what a unit has in memory one step does, in messages.
    pub(in crate::broker) fn done_at_once(&self, key: UnitKey) -> usize {
        let works = self.units.get(key).into_iter().flat_map(Unit::works);
        let weights = works.take(limits::STEP_MESSAGES_MAX).map(|work| self.weight(work));
        let all: usize = weights.map(|weight| weight.unwrap_or(1)).sum();
        all.min(limits::STEP_MESSAGES_MAX)
    }

    /// Some more of what a unit has in memory gets its outcome.
    pub(in crate::broker) fn apply_end_on(&mut self, number: u64, effects: &mut Effects) {
        self.end_some(number, limits::OUTCOMES_A_STEP, effects);
    }

    /// The same, as much as `left` says, in messages.
    pub(super) fn end_some(&mut self, number: u64, mut left: usize, effects: &mut Effects) {
        let Some(ending) = self.units.endings.get_mut(&number) else { return };
        let (resolution, disposition) = (ending.resolution, ending.disposition);
        let mut works = std::mem::take(&mut ending.volatile);
        let mut publishing = 0;
        while left > 0
            && let Some(work) = works.pop_front()
        {
            left = left.saturating_sub(self.weight(&work).unwrap_or(1));
            work.message().iter().for_each(|message| self.let_go(message));
            match resolution {
                Resolution::Commit => {
                    publishing += usize::from(self.apply_committed(work, number, effects));
                }
                Resolution::Rollback => self.apply_rolled_back(work, disposition),
            }
        }
        if works.is_empty() {
            self.units.busy.remove(&number);
        }
        let ending = self.units.endings.get_mut(&number).expect("just seen");
        ending.volatile = works;
        ending.publishing += publishing;
        self.end_if_done(number, effects);
    }

    /// A message that a unit has published has gone to all of its subscribers.
    pub(in crate::broker) fn apply_published(&mut self, number: u64, effects: &mut Effects) {
        let ending = self.units.endings.get_mut(&number).expect("it waits for what it publishes");
        ending.publishing -= 1;
        self.end_if_done(number, effects);
    }

    /// The operations of a transaction have all had their outcome.
    pub(in crate::broker) fn apply_end_settled(
        &mut self,
        id: TransactionId,
        effects: &mut Effects,
    ) {
        let Some(number) = self.units.settling.remove(&id) else { return };
        self.units.endings.get_mut(&number).expect("it waits for that").id = None;
        self.end_if_done(number, effects);
    }

    fn end_if_done(&mut self, number: u64, effects: &mut Effects) {
        let ending = &self.units.endings[&number];
        if ending.id.is_some() || !ending.volatile.is_empty() || ending.publishing > 0 {
            return;
        }
        let ending = self.units.endings.remove(&number).expect("just seen");
        if let Some(to) = ending.asker {
            effects.push(Effect::Answer { to, result: Ok(Reply::Done) });
        }
    }

    /// True where it is not over with this step.
    fn apply_committed(&mut self, work: VolatileWork, number: u64, effects: &mut Effects) -> bool {
        match work {
            // A queue may have been deleted meanwhile, and what was to go there with it.
            VolatileWork::Enqueue { queue, rank, message } => {
                if self.queues.contains_key(&queue) {
                    self.apply_change(Change::Enqueue { queue, rank, message }, effects);
                }
            }
            VolatileWork::Publish { topic, message, client } => {
                self.keep_volatile(&topic, &message, client.as_deref(), effects);
                return self.publish(&topic, message, Publisher::Ending(number), effects);
            }
            VolatileWork::Took { source, loan, returned: true, .. } => {
                self.take_back(&source, loan, true);
            }
            VolatileWork::Took { source, loan, .. } => {
                if let Source::Queue(id) = source {
                    self.count(id, |c| c.acknowledged += 1);
                }
                self.end_loan(&source, &loan);
            }
        }
        false
    }

    fn apply_rolled_back(&mut self, work: VolatileWork, disposition: Disposition) {
        let VolatileWork::Took { key, tag, source, loan, .. } = work else { return };
        let living = self.consumers.get_mut(&key).filter(|consumer| consumer.ended.is_none());
        match living.filter(|_| disposition == Disposition::Keep) {
            Some(consumer) => {
                match &loan {
                    Lent::Published { message, .. } => consumer.holds(message),
                    _ => self.loans.lent_to(key.0),
                }
                consumer.loans.insert(tag, loan);
                self.leave_line(key);
                self.weigh(key);
            }
            None => self.take_back(&source, loan, true),
        }
    }
}
