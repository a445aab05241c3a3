//! A delivery to a dispatch.

use super::OpenWireSession;
use super::consumer::ConsumerKey;
use super::fault::Fault;
use super::names;
use super::stored::{Leaving, Outgoing};
use crate::broker::command::{Command, Delivery, Outcome, Which};
use crate::ids::{SubscriptionId, Tag};
use crate::message::{Destination, MalformedContent, Notice};
use crate::protocol::openwire::message::Message;
use crate::protocol::openwire::table::MessageDispatch;

impl OpenWireSession {
    pub(super) fn deliver(&mut self, delivery: Delivery) {
        // The broker had sent it before it heard that its consumer has gone, and takes it back.
        let Some(key) = self.consumers.of(delivery.subscription) else { return };
        let made = self.make(&delivery);
        let Ok(outgoing) = made else {
            let message = delivery.message.to_string();
            return self.close(Fault::Unreadable { message });
        };
        let of = (delivery.subscription, delivery.tag);
        let (Outgoing::Whole(message) | Outgoing::Large { message, .. }) = &outgoing;
        if self.is_own(&key, &delivery.from, message) {
            let (which, outcome) = (Which::One(delivery.tag), Outcome::Accepted);
            let subscription = delivery.subscription;
            return self.submit(None, Command::Settle { subscription, which, outcome });
        }
        let again = delivery.attempt > 1 && self.take_again(&key, of, message);
        if again {
            return self.grant(&key);
        }
        match key.of_bridge() {
            Some(value) => self.forward(value, outgoing, of),
            None => self.dispatch(&key, &delivery.from, outgoing, Some(of)),
        }
    }

    fn make(&self, delivery: &Delivery) -> Result<Outgoing, MalformedContent> {
        let leaving = Leaving {
            id: delivery.message,
            from: &delivery.from,
            origin: delivery.origin.as_ref(),
            returns: delivery.attempt.saturating_sub(1),
            priority: delivery.priority,
            persistent: delivery.persistent,
            at: delivery.at,
            expires: delivery.expires,
            dead: delivery.dead.as_deref(),
            sequence: self.dispatched + 1,
            broker: &self.config.broker_id,
        };
        if Notice::is(&delivery.content) {
            let notice = Notice::decode(delivery.content.clone())?;
            let mut message = self.notice(delivery.message, notice)?;
            leaving.address(&mut message);
            return Ok(Outgoing::Whole(message));
        }
        let mut outgoing = leaving.make(delivery.content.clone())?;
        let (Outgoing::Whole(message) | Outgoing::Large { message, .. }) = &mut outgoing;
        let grouped = message.head.group_id.is_some();
        message.tail.jmsx_group_first_for_consumer = grouped && delivery.first_of_group;
        Ok(outgoing)
    }

    /// Whether a subscriber of a topic does not want what its own connection has sent.
    fn is_own(&self, key: &ConsumerKey, from: &Destination, message: &Message) -> bool {
        let topic = matches!(from, Destination::Topic(_));
        let local = topic && self.consumers.get(key).is_some_and(|it| it.info.no_local);
        let producer = message.head.producer_id.as_ref();
        let sender = producer.and_then(|producer| producer.connection_id.as_ref());
        local && sender == Some(&self.client.name)
    }

    /// Gives a message to a consumer. Of what is no delivery of the broker's nobody hears when it
    /// is acknowledged.
    pub(super) fn dispatch(
        &mut self,
        key: &ConsumerKey,
        from: &Destination,
        outgoing: Outgoing,
        delivery: Option<(SubscriptionId, Tag)>,
    ) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        self.dispatched += 1;
        let (Outgoing::Whole(message) | Outgoing::Large { message, .. }) = &outgoing;
        if let Some(id) = &message.head.message_id {
            consumer.take(self.dispatched, id, delivery);
        }
        let pulled = consumer.pull.take().is_some();
        let consumer_id = consumer.info.consumer_id.clone();
        let redelivery_counter = message.tail.redelivery_counter;
        let destination = Some(names::wire(from));
        let dispatch = |message| MessageDispatch {
            consumer_id,
            destination,
            message: Some(Box::new(message)),
            redelivery_counter,
            ..MessageDispatch::default()
        };
        match (outgoing, delivery) {
            (Outgoing::Whole(message), _) => self.write(&dispatch(message)),
            (Outgoing::Large { message, bytes, counted }, Some(of)) => {
                self.begin_stream(of, &dispatch(message), bytes, counted);
            }
            // The body lies elsewhere, and nobody brings it.
            (Outgoing::Large { message, .. }, None) => self.write(&dispatch(message)),
        }
        if pulled {
            self.grant(key);
        }
    }
}
