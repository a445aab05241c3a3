//! What the subscribers of a topic hold, in order, so that the fullest is known at once.
//!
//! Always: of a topic whose publishers are held or refused, each subscriber that has ever got a
//! message has its load here, as it is now. Leaves what a topic may hold to `policy`.

use std::collections::BTreeSet;

use crate::broker::Broker;
use crate::broker::consumer::Consumer;
use crate::broker::fact::{ConsumerKey, Source};
use crate::broker::policy::{Held, Limit, Measure, WhenFull};

/// What one subscriber holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Bytes, lent or waiting.
    bytes: u64,
    /// Messages that wait; where it has credit, how many fewer than none.
    waiting: i64,
}

/// Of all subscribers of a topic, with their seats.
#[derive(Debug, Default)]
pub(crate) struct Loads {
    bytes: BTreeSet<(u64, u64)>,
    waiting: BTreeSet<(i64, u64)>,
}

impl Loads {
    /// A subscriber has another load, or none any more.
    pub(super) fn replace(&mut self, seat: u64, before: Option<Load>, now: Option<Load>) {
        if let Some(before) = before {
            self.bytes.remove(&(before.bytes, seat));
            self.waiting.remove(&(before.waiting, seat));
        }
        if let Some(now) = now {
            self.bytes.insert((now.bytes, seat));
            self.waiting.insert((now.waiting, seat));
        }
    }

    /// What of a limit some subscriber would exceed if all got these messages, if anything.
    pub(super) fn exceeded(&self, limit: &Limit, more: Held) -> Option<Measure> {
        let count = |messages: u64| i64::try_from(messages).unwrap_or(i64::MAX);
        let (waiting, _) = self.waiting.last()?;
        if waiting.saturating_add(count(more.messages)) > count(limit.messages) {
            return Some(Measure::Messages(limit.messages));
        }
        let (bytes, _) = self.bytes.last()?;
        let full = bytes.saturating_add(more.bytes) > limit.bytes;
        full.then_some(Measure::Bytes(limit.bytes))
    }
}

impl Consumer {
    fn load(&self) -> Load {
        let waiting = self.backlog.len() as i64 - self.credit() as i64;
        Load { bytes: self.held_bytes + self.held_bodies, waiting }
    }
}

impl Broker {
    /// What a subscriber of a topic holds has changed.
    pub(super) fn weigh(&mut self, key: ConsumerKey) {
        let Some(consumer) = self.consumers.get_mut(&key) else { return };
        let Source::Topic(source) = &consumer.source else { return };
        let Some(topic) = self.topics.get_mut(source) else { return };
        if consumer.ended.is_none() && topic.limit.when_full != WhenFull::DropOldest {
            let now = Some(consumer.load());
            let before = std::mem::replace(&mut consumer.weighed, now);
            topic.loads.replace(consumer.seat, before, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_subscriber_decides_until_it_holds_less_or_goes() {
        let limit = Limit { messages: 3, bytes: 100, when_full: WhenFull::Hold };
        let one = Held { messages: 1, bytes: 10 };
        let load = |bytes, waiting| Some(Load { bytes, waiting });
        let mut loads = Loads::default();
        assert_eq!(loads.exceeded(&limit, one), None, "nobody is there");
        loads.replace(1, None, load(20, -2));
        loads.replace(2, None, load(10, 3));
        assert_eq!(loads.exceeded(&limit, one), Some(Measure::Messages(3)));
        loads.replace(2, load(10, 3), load(91, 2));
        assert_eq!(loads.exceeded(&limit, one), Some(Measure::Bytes(100)));
        loads.replace(2, load(91, 2), None);
        assert_eq!(loads.exceeded(&limit, one), None);
        let five = Held { messages: 5, bytes: 50 };
        assert_eq!(loads.exceeded(&limit, five), None, "two are handed out at once");
        let six = Held { messages: 6, bytes: 50 };
        assert_eq!(loads.exceeded(&limit, six), Some(Measure::Messages(3)));
    }
}
