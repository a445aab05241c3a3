//! What becomes of messages that come back: delivered again, at once or later, or set apart.
//!
//! Owns the rules for it and their arithmetic, and the statement of a return: the count that is
//! raised, the moment before which a message is not handed out again. What a delay means for a
//! queue is in `later`, for non-persistent messages in `resting`; setting apart is in `dead`.

use std::sync::Arc;

use bytes::Bytes;

use crate::broker::Broker;
use crate::broker::delta::{Entry, Place, Why};
use crate::broker::fact::{Fact, Lent, Source};
use crate::ids::{DueTime, Millis, QueueId};
use crate::limits;
use crate::message::{Destination, Event};
use crate::record::{Cause, Gone, Record};

/// What becomes of a message that its queue is not to hand out any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// It is removed.
    Drop,
    /// It goes to the queue for such messages.
    DeadLetter,
}

/// The rules of a queue for messages that come back, and for those that end without a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redelivery {
    /// Deliveries after the first at most; 0: any number.
    pub maximum: u32,
    /// Milliseconds before the second delivery of a message.
    pub delay: u64,
    /// Each further delay is so many times the one before; 1 or more.
    pub backoff: u32,
    /// Milliseconds that a delay has at most.
    pub delay_max: u64,
    /// Where messages are set apart: a queue, or with `.` at the end the beginning of a name that
    /// ends with the name of the queue they come from.
    pub dead_letters: Arc<str>,
    /// What becomes of persistent messages whose time is over; others are removed.
    pub expired: Ending,
    /// What becomes of non-persistent messages that came back too often.
    pub non_persistent: Ending,
}

impl Redelivery {
    /// Messages come back at once and any number of times, and nothing is set apart.
    #[must_use]
    pub fn none() -> Self {
        Self {
            maximum: 0,
            delay: 0,
            backoff: 1,
            delay_max: 0,
            dead_letters: limits::DEAD_LETTER_QUEUE.into(),
            expired: Ending::Drop,
            non_persistent: Ending::Drop,
        }
    }

    /// The name of the queue in which messages of the queue `name` are set apart. Those of a name
    /// that is too long for a queue of their own go where all do that have none.
    #[must_use]
    pub fn target(&self, name: &str) -> Arc<str> {
        let longest = limits::DESTINATION_NAME_BYTES_MAX.saturating_sub(self.dead_letters.len());
        match self.dead_letters.ends_with('.') {
            true if name.len() > longest => limits::DEAD_LETTER_QUEUE.into(),
            true => format!("{}{name}", self.dead_letters).into(),
            false => Arc::clone(&self.dead_letters),
        }
    }

    /// Whether a queue is one in which these rules set messages apart.
    pub(super) fn is_target(&self, name: &str) -> bool {
        let dead_letters = &*self.dead_letters;
        name == dead_letters || (dead_letters.ends_with('.') && name.starts_with(dead_letters))
    }

    pub(super) fn is_too_often(&self, returns: u32) -> bool {
        self.maximum > 0 && returns > self.maximum
    }

    /// How long a message waits that has come back so often.
    fn delay(&self, returns: u32) -> u64 {
        let factor = u64::from(self.backoff).saturating_pow(returns.saturating_sub(1));
        self.delay.saturating_mul(factor).min(self.delay_max)
    }

    /// Whether a message is not handed out again at once that has come back so often.
    pub(super) fn holds_back(&self, returns: u32) -> bool {
        self.delay > 0 && self.delay(returns) > 0 || self.is_too_often(returns)
    }

    /// Until when a non-persistent message rests that has come back so often.
    pub(super) fn rest_until(&self, now: Millis, returns: u32) -> Millis {
        Millis(now.0.saturating_add(self.delay(returns)))
    }

    /// Until when it waits, if it does.
    fn due(&self, now: Millis, returns: u32) -> Option<DueTime> {
        let delay = self.delay(returns);
        (delay > 0).then(|| DueTime::at(Millis(now.0.saturating_add(delay))))
    }
}

impl Broker {
    /// States that messages came back, each counted once more, in records of a bounded size.
    pub(super) fn state_returned<'a>(
        &self,
        now: Millis,
        queue: QueueId,
        loans: impl Iterator<Item = &'a Lent>,
        facts: &mut Vec<Fact>,
    ) {
        let rules = &self.queues[&queue].redelivery;
        let (mut back, mut dead): (Vec<(Place, Entry)>, Vec<_>) = (Vec::new(), Vec::new());
        for loan in loans {
            let Lent::Durable { place, entry, .. } = loan else { continue };
            let entry = entry.returned();
            if rules.is_too_often(entry.returns) {
                dead.push((*place, entry));
            } else {
                back.push((*place, Entry { due: rules.due(now, entry.returns), ..entry }));
            }
        }
        while !back.is_empty() {
            let rest = back.split_off(back.len().min(limits::RECORD_ENTRIES_MAX));
            facts.push(Fact::Log(Record::Returned { queue, entries: back }, Bytes::new()));
            back = rest;
        }
        if !dead.is_empty() {
            self.state_dead(now, queue, Why::Returned, dead, facts);
        }
    }

    /// States that durable messages are set apart because their consumer has given them up.
    pub(super) fn state_rejected<'a>(
        &self,
        now: Millis,
        queue: QueueId,
        loans: impl Iterator<Item = &'a Lent>,
        facts: &mut Vec<Fact>,
    ) {
        let dead = loans.filter_map(|loan| match loan {
            Lent::Durable { place, entry, .. } => Some((*place, entry.returned())),
            Lent::Volatile { .. } | Lent::Published { .. } => None,
        });
        let dead: Vec<_> = dead.collect();
        if dead.is_empty() {
            return;
        }
        // Where messages are set apart nothing is set apart once more.
        if self.policies.is_for_dead(&self.queues[&queue].redelivery) {
            facts.push(Fact::Log(Record::Returned { queue, entries: dead }, Bytes::new()));
        } else {
            self.state_dead(now, queue, Why::Rejected, dead, facts);
        }
    }

    /// States what becomes of durable messages that their consumer takes for expired. Whoever has
    /// seen one so is not to see it again: it rests for as long as the broker's clock says
    /// otherwise, uncounted.
    pub(super) fn state_overdue<'a>(
        &self,
        now: Millis,
        queue: QueueId,
        loans: impl Iterator<Item = &'a Lent> + Clone,
        facts: &mut Vec<Fact>,
    ) {
        let rules = &self.queues[&queue].redelivery;
        // Messages are set apart once in a step: those without a time go with the others, where
        // these are set apart too.
        let together = rules.expired == Ending::DeadLetter && !self.policies.is_for_dead(rules);
        let (mut over, mut early) = (Vec::new(), Vec::new());
        for loan in loans.clone() {
            let Lent::Durable { place, entry, .. } = loan else { continue };
            match entry.expires {
                Some(at) if at > now => {
                    early.push((*place, Entry { due: Some(DueTime::at(at)), ..*entry }));
                }
                Some(_) => over.push((*place, *entry)),
                None if together => over.push((*place, *entry)),
                None => {}
            }
        }
        self.state_expired(now, queue, over, facts);
        for some in early.chunks(limits::RECORD_ENTRIES_MAX) {
            let record = Record::Returned { queue, entries: some.to_vec() };
            facts.push(Fact::Log(record, Bytes::new()));
        }
        let timeless =
            |loan: &&Lent| matches!(loan, Lent::Durable { entry, .. } if entry.expires.is_none());
        self.state_rejected(now, queue, loans.filter(timeless).filter(|_| !together), facts);
    }

    /// A non-persistent message is gone for good that its consumer has taken for expired: it was
    /// never to outlive much.
    pub(super) fn end_expired(&mut self, source: &Source, loan: &Lent) {
        if let Source::Queue(id) = source {
            self.count(*id, |counters| counters.gone(Cause::Expired, 1));
        }
        self.end_loan(source, loan);
    }

    /// A durable message that a transaction gives back, as it is then. One that has come back too
    /// often is delayed by nothing: it is set apart by the step that would hand it out again.
    pub(super) fn come_back(&self, now: Millis, queue: QueueId, entry: Entry) -> Entry {
        let rules = &self.queues[&queue].redelivery;
        let entry = entry.returned();
        let dead = rules.is_too_often(entry.returns).then(|| DueTime::at(now));
        Entry { due: dead.or_else(|| rules.due(now, entry.returns)), ..entry }
    }

    /// States what becomes of non-persistent messages that their consumer has given up. Their
    /// return is stated before this.
    pub(super) fn state_volatile_rejected<'a>(
        &self,
        now: Millis,
        id: QueueId,
        loans: impl Iterator<Item = &'a Lent>,
        facts: &mut Vec<Fact>,
    ) {
        let rules = &self.queues[&id].redelivery;
        if self.policies.is_for_dead(rules) {
            return;
        }
        let dead = loans.filter_map(|loan| match loan {
            Lent::Volatile { place, message, .. } => Some((*place, message.clone())),
            Lent::Durable { .. } | Lent::Published { .. } => None,
        });
        // One for which there is no room comes back to its consumer.
        self.state_dead_volatile(now, id, dead.collect(), facts);
    }

    /// States the end of messages whose time is over.
    pub(super) fn state_expired(
        &self,
        now: Millis,
        queue: QueueId,
        entries: Vec<(Place, Entry)>,
        facts: &mut Vec<Fact>,
    ) {
        if entries.is_empty() {
            return;
        }
        // Of what waits in a line for nobody but who listens nothing is to be kept.
        let line = self.held.line(queue).filter(|line| !line.scheduled);
        let unkept = line.is_some_and(|line| self.held.count(&line.topic) == 0);
        let ending = self.queues[&queue].redelivery.expired;
        match if unkept { Ending::Drop } else { ending } {
            Ending::Drop => {
                self.state_notices(queue, (Event::Expired, None), &entries, facts);
                let gone = entries.iter().map(|(place, entry)| Gone::of(*place, entry));
                super::decide::removed(queue, Cause::Expired, gone.collect(), facts);
            }
            Ending::DeadLetter => {
                self.state_dead(now, queue, Why::Expired, entries, facts);
            }
        }
    }
}

/// The destination that a queue is, as the properties of a message name it.
pub(super) fn queue_named(name: &str) -> String {
    Destination::Queue(name.into()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_up_to_their_maximum() {
        let check = |delay, backoff, delay_max, expected: [u64; 4]| {
            let rules = Redelivery { delay, backoff, delay_max, ..Redelivery::none() };
            assert_eq!([1, 2, 3, 4_000_000_000].map(|returns| rules.delay(returns)), expected);
        };
        check(0, 1, 1000, [0, 0, 0, 0]);
        check(100, 1, 1000, [100, 100, 100, 100]);
        check(100, 5, 1000, [100, 500, 1000, 1000]);
        check(100, 1000, u64::MAX, [100, 100_000, 100_000_000, u64::MAX]);
        check(100, 2, 10, [10, 10, 10, 10]);
    }

    #[test]
    fn messages_are_set_apart_in_one_queue_or_in_one_of_each() {
        let one = Redelivery::none();
        assert_eq!(&*one.target("a.b"), "ActiveMQ.DLQ");
        assert!(one.is_target("ActiveMQ.DLQ") && !one.is_target("ActiveMQ.DLQs"));
        let each = Redelivery { dead_letters: "DLQ.".into(), ..Redelivery::none() };
        assert_eq!(&*each.target("a.b"), "DLQ.a.b");
        let long = "a".repeat(limits::DESTINATION_NAME_BYTES_MAX - "DLQ.".len());
        assert_eq!(each.target(&long).len(), limits::DESTINATION_NAME_BYTES_MAX);
        assert_eq!(&*each.target(&(long + "a")), "ActiveMQ.DLQ");
        assert!(each.is_target("DLQ.a") && !each.is_target("DLQ"));
    }
}
