//! Durable subscriptions across a bridge that is for both directions.
//!
//! What those of the other side wait for is kept here by a durable subscription of this side's own,
//! one for each topic, whatever their selectors are. Always: it outlives the bridge, and ends when
//! the other side has told that the last one it is for has ended; what may not cross is settled
//! when it comes up. Where the other side says which it has, those here that are for none of them
//! end.

use std::sync::Arc;

use super::super::OpenWireSession;
use super::super::consumer::{Consumer, ConsumerKey};
use super::super::names;
use super::super::network::{LASTING, Network};
use super::{Bridge, Demand, SESSION, full};
use crate::limits;
use crate::message::Destination;
use crate::protocol::openwire::table::{
    BrokerSubscriptionInfo, ConsumerInfo, RemoveSubscriptionInfo,
};
use crate::protocol::openwire::{CommandHead, Text};

/// The durable subscription here of a demand.
#[derive(Debug)]
pub(in super::super) struct Lasting {
    pub(in super::super) name: Arc<str>,
    pub(in super::super) topic: Arc<str>,
    /// It was here before the bridge, and the other side has not said for whom.
    pub(super) unclaimed: bool,
}

/// A durable subscription of the other side: whose it is, and what that calls it.
pub(super) type Subscriber = (Text, Text);

impl OpenWireSession {
    /// The other side has a durable subscription.
    pub(super) fn lasting_demand(&mut self, info: &ConsumerInfo) {
        let own = self.own_broker();
        let Some(bridge) = &self.bridge else { return };
        let subscriber = subscriber(info.client_id.as_ref(), info.subscription_name.as_ref());
        if bridge.subscribers.contains_key(&subscriber) || !bridge.network.wants(info, &own) {
            return;
        }
        if bridge.is_full() {
            return self.break_bridge(full());
        }
        let Some((value, new)) = self.keep_for_peer(info) else { return };
        let Some(bridge) = &mut self.bridge else { unreachable!("just seen") };
        bridge.subscribers.insert(subscriber, value);
        let demand = bridge.demands.get_mut(&value).expect("it has just been found");
        let again = !new && !demand.is_wanted();
        demand.consumers += 1;
        demand.lasting.as_mut().expect("of this kind").unclaimed = false;
        if again {
            self.grant(&ConsumerKey { session: SESSION, value });
        }
    }

    /// The demand by which a topic is kept for the other side, and whether it is new.
    fn keep_for_peer(&mut self, info: &ConsumerInfo) -> Option<(i64, bool)> {
        let bridge = self.bridge.as_mut()?;
        let alike = |it: &Demand| it.lasting.is_some() && it.destination == info.destination;
        if let Some((value, _)) = bridge.demands.iter().find(|(_, demand)| alike(demand)) {
            return Some((*value, false));
        }
        if self.is_bridged(info) {
            return None;
        }
        let bridge = self.bridge.as_mut()?;
        bridge.last += 1;
        let value = bridge.last;
        let topic: Arc<str> = match &names::parse(info.destination.as_ref()).ok()?[..] {
            // What two of them catch would cross twice: patterns are not kept for the other side.
            [topic] if names::is_pattern(topic) => return None,
            [Destination::Topic(topic)] => Arc::clone(topic),
            _ => return None,
        };
        let name: Arc<str> = lasting_name(&self.config.broker_name, &topic).into();
        let client = &bridge.network.client;
        // Its own memory: a list of many is one frame.
        let destination = Some(names::wire(&Destination::Topic(Arc::clone(&topic))));
        // What cannot be kept here is no demand: the other side does without.
        if name.len().max(client.len()) > limits::HELD_NAME_BYTES_MAX {
            return None;
        }
        let local = ConsumerInfo {
            destination: destination.clone(),
            client_id: Some(Text::cut(client)),
            subscription_name: Some(Text::cut(&name)),
            selector: None,
            ..bridge.local_consumer(info, None, value)
        };
        let (destinations, _) = self.check_consumer(&local).ok()??;
        let lasting = Lasting { name, topic, unclaimed: false };
        let demand = Demand {
            destination,
            selector: None,
            consumers: 0,
            unanswered: 0,
            lasting: Some(lasting),
        };
        self.bridge.as_mut()?.demands.insert(value, demand);
        let head = CommandHead { command_id: 0, response_required: false };
        self.begin_consumer(head, Consumer::new(local, destinations, None));
        Some((value, true))
    }

    /// A durable subscription of the other side has ended.
    pub(super) fn subscriber_no_more(&mut self, info: &RemoveSubscriptionInfo) {
        let Some(bridge) = &mut self.bridge else { return };
        let subscriber = subscriber(info.client_id.as_ref(), info.subscription_name.as_ref());
        let Some(value) = bridge.subscribers.remove(&subscriber) else { return };
        if let Some(demand) = bridge.demands.get_mut(&value) {
            demand.consumers -= 1;
        }
        self.stop_unwanted(value);
    }

    /// What is kept here for the other side on a topic since an earlier bridge goes on.
    pub(in super::super) fn restored(&mut self, topic: &str) {
        let destination = Some(names::wire(&Destination::topic(topic)));
        let info = ConsumerInfo { destination, ..ConsumerInfo::default() };
        let Some((value, true)) = self.keep_for_peer(&info) else { return };
        let demand = self.bridge.as_mut().and_then(|bridge| bridge.demands.get_mut(&value));
        if let Some(lasting) = demand.and_then(|demand| demand.lasting.as_mut()) {
            lasting.unclaimed = true;
        }
    }

    /// What an earlier bridge has left goes on. What the other side has told can be taken now.
    pub(in super::super) fn all_restored(&mut self) {
        if let Some(bridge) = &mut self.bridge {
            bridge.restored = true;
            self.compare();
        }
    }

    /// The other side tells which durable subscriptions it has.
    pub(in super::super) fn told_subscriptions(&mut self, info: BrokerSubscriptionInfo) {
        // Over a bridge for one direction nothing goes there.
        let counts = |it: &&Network| it.duplex && it.syncs && it.conduit && !it.dynamic_only;
        if self.network.as_ref().filter(counts).is_some() {
            self.told = Some(Box::new(info));
            self.compare();
        }
    }

    /// Adds what it waits for, and ends what nobody there does any more.
    fn compare(&mut self) {
        if self.bridge.as_ref().is_none_or(|bridge| !bridge.restored) {
            return;
        }
        let Some(told) = self.told.take() else { return };
        for info in told.subscription_infos.iter().flatten().flatten() {
            let Some(bridge) = &self.bridge else { return };
            if info.subscription_name.is_some() && bridge.is_told_of(info) {
                self.lasting_demand(info);
            }
        }
        let Some(bridge) = &mut self.bridge else { return };
        let mut ends = Vec::new();
        for (value, demand) in &mut bridge.demands {
            if let Some(lasting) = &mut demand.lasting
                && lasting.unclaimed
                && bridge.network.includes(&lasting.topic)
            {
                lasting.unclaimed = false;
                ends.push(*value);
            }
        }
        for value in ends {
            self.stop_unwanted(value);
        }
    }
}

impl Bridge {
    fn is_told_of(&self, info: &ConsumerInfo) -> bool {
        let text = |text: &Option<Text>| text.as_ref().map(Text::to_string).unwrap_or_default();
        let topics = names::parse(info.destination.as_ref()).unwrap_or_default();
        let (client, name) = (text(&info.client_id), text(&info.subscription_name));
        topics.iter().any(|topic| self.network.tells_of(&client, &name, topic.name()))
    }
}

/// What this side calls its durable subscription to a topic for another.
pub(in super::super) fn lasting_name(own: &str, topic: &str) -> String {
    format!("{LASTING}{own}_{topic}")
}

/// A key that holds no other memory than its own.
fn subscriber(client: Option<&Text>, name: Option<&Text>) -> Subscriber {
    let own = |text: Option<&Text>| text.map(|it| Text::cut(&it.to_str())).unwrap_or_default();
    (own(client), own(name))
}
