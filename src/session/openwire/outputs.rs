//! What the broker says to frames for the client.

use std::time::Duration;

use super::consume::NONE_SEEN;
use super::{OpenWireSession, Phase};
use crate::broker::command::Output;
use crate::ids::SubscriptionId;
use crate::protocol::openwire::table::ConsumerControl;

impl OpenWireSession {
    /// Turns an output of the broker into bytes.
    pub fn handle_output(&mut self, _now: Duration, output: Output) {
        if !matches!(self.phase, Phase::Open) {
            return;
        }
        match output {
            Output::Answer { token, result } => self.answered(token, result),
            Output::Delivery(delivery) => self.deliver(delivery),
            Output::Piece { subscription, tag, bytes } => self.stream(subscription, tag, &bytes),
            Output::Broken { subscription, tag } => self.broken(subscription, tag),
            Output::Cancelled { subscription, .. } => self.cancelled(subscription),
        }
    }

    /// Everything that [`take_bytes`](Self::take_bytes) gave so far has been written.
    pub fn handle_written(&mut self) {}

    /// A subscription has ended without being asked to: its consumer is told.
    fn cancelled(&mut self, subscription: SubscriptionId) {
        let Some(key) = self.consumers.of(subscription) else { return };
        let Some(consumer) = self.consumers.remove(&key) else { return };
        self.advise_no_consumer(&key, &consumer.destinations, NONE_SEEN);
        if self.client.manageable {
            let consumer_id = consumer.info.consumer_id.clone();
            let destination = consumer.info.destination.clone();
            let control =
                ConsumerControl { destination, close: true, consumer_id, ..Default::default() };
            self.write(&control);
        }
    }
}
