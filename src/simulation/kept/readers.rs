//! Queues that read the topic, among those who keep what is published there.

use super::{SUBSCRIPTION, SUBSCRIPTIONS, TOPIC, World};
use crate::broker::command::Command;
use crate::message::Destination;

/// The queue of a keeper that is no subscription.
pub(super) fn queue_of(keeper: usize) -> Option<String> {
    (keeper >= SUBSCRIPTIONS).then(|| format!("Consumer.c{keeper}.{TOPIC}"))
}

/// Consumes from a queue, which comes into being with that.
pub(super) fn consume(queue: &str) -> Command {
    let (subscription, prefetch, selector) = (SUBSCRIPTION, 3, None);
    Command::Subscribe { subscription, from: Destination::queue(queue), prefetch, selector }
}

impl World {
    /// Whether a queue comes into being while something waits in a line. It gets nothing of that,
    /// but after a crash nobody may know any more: so it may.
    pub(super) fn comes_early(&mut self, keeper: usize) -> bool {
        let rows = self.node.engine.broker().rows();
        let waits = rows.values().any(|it| it.name.starts_with("publications:") && it.depth > 0);
        let early = waits && queue_of(keeper).is_some();
        for group in self.groups.iter_mut().filter(|_| early) {
            group.others.insert(keeper);
        }
        early
    }
}
