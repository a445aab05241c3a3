//! The near half of a bridge that another broker has laid for both directions.
//!
//! That broker connects as a client does, listens to the advisories of consumers here, and sends
//! what they wait for. Here is the way back: this side asks for the other's advisories, reads from
//! here what consumers there wait for, and says each message on the same socket. Always: a message
//! is settled here when the other side has answered for it, and demand that ends is given up when
//! everything said for it is answered.

mod lasting;

use std::collections::{BTreeMap, HashMap};

use self::lasting::Subscriber;
pub(super) use self::lasting::{Lasting, lasting_name};
use super::OpenWireSession;
use super::answers::NOBODY;
use super::consume::NONE_SEEN;
use super::consumer::{Consumer, ConsumerKey};
use super::fault::{CloseReason, Fault};
use super::names;
use super::network::{Network, through};
use super::present::Kind;
use super::stored::Outgoing;
use super::{Phase, limits};
use crate::broker::command::{Command, Outcome, Which};
use crate::ids::{SubscriptionId, Tag};
use crate::protocol::openwire::message::{Destination as Wire, DestinationKind, Message};
use crate::protocol::openwire::table::{
    BrokerId, ConnectionId, ConnectionInfo, ConsumerId, ConsumerInfo, DestinationInfo, MessageAck,
    ProducerId, ProducerInfo, RemoveInfo, RemovedId, SessionId, SessionInfo,
};
use crate::protocol::openwire::{CommandHead, Structure, Text, Throwable};

/// The session that consumers of a bridge have; no client has one of that number.
const SESSION: i64 = -2;
/// An acknowledgement of messages that were consumed.
const STANDARD: i8 = 2;
/// Advisories that the other side may have on their way, and of these how many are acknowledged at
/// once.
const ADVISORIES: i32 = 1000;
const ADVISORIES_ACKNOWLEDGED: i32 = 500;

#[derive(Debug)]
pub(super) struct Bridge {
    network: Network,
    /// What this side calls its half of the connection.
    name: Text,
    /// The number of the last command.
    said: i32,
    /// Advisories that are not acknowledged.
    advised: i32,
    /// What is read from here, by the numbers of the consumers that do.
    demands: BTreeMap<i64, Demand>,
    /// For which of them each consumer of the other side waits.
    consumers: HashMap<ConsumerId, i64>,
    /// And each of its durable subscriptions.
    subscribers: HashMap<Subscriber, i64>,
    /// What is kept here for the other side reads again, as far as it is to.
    restored: bool,
    last: i64,
    /// Messages for which the other side has not answered, by the numbers of their commands.
    unanswered: HashMap<i32, (i64, SubscriptionId, Tag)>,
}

/// What consumers of the other side wait for.
#[derive(Debug)]
struct Demand {
    destination: Option<Wire>,
    selector: Option<Text>,
    consumers: usize,
    unanswered: usize,
    /// It is of durable subscriptions, and so is one here.
    lasting: Option<Lasting>,
}

impl Demand {
    fn is_wanted(&self) -> bool {
        self.consumers > 0 || self.lasting.as_ref().is_some_and(|lasting| lasting.unclaimed)
    }
}

impl Bridge {
    fn new(network: Network, name: &str) -> Self {
        Self {
            network,
            name: Text::cut(name),
            said: 0,
            advised: 0,
            demands: BTreeMap::new(),
            consumers: HashMap::new(),
            subscribers: HashMap::new(),
            restored: false,
            last: 0,
            unanswered: HashMap::new(),
        }
    }

    fn next_command(&mut self) -> i32 {
        self.said = self.said.checked_add(1).unwrap_or(1);
        self.said
    }

    fn consumer_id(&self, session_id: i64, value: i64) -> ConsumerId {
        ConsumerId { connection_id: Some(self.name.clone()), session_id, value }
    }

    fn producer_id(&self) -> ProducerId {
        ProducerId { connection_id: Some(self.name.clone()), value: 1, session_id: 1 }
    }
}

impl ConsumerKey {
    /// The number of a bridge's consumer.
    pub(super) fn of_bridge(&self) -> Option<i64> {
        (self.session == SESSION).then_some(self.value)
    }
}

impl OpenWireSession {
    pub(super) fn own_broker(&self) -> BrokerId {
        BrokerId { value: Some(Text::cut(&format!("ID:{}", self.config.broker_id))) }
    }

    /// The other side is there: this side says who it is, and what it wants to hear.
    pub(super) fn begin_bridge(&mut self) {
        let Some(network) = self.network.clone().filter(|network| network.duplex) else { return };
        let config = &self.config;
        let name = format!("ID:{}-{:x}-{}", config.broker_id, config.epoch, self.connection.0);
        let client = format!("{}_{}_outbound", network.name, config.broker_name);
        let mut topics = network.advisories.clone();
        if network.temporary {
            for kind in [Kind::TempQueue, Kind::TempTopic] {
                topics = format!("{topics},{}", kind.prefix());
            }
        }
        self.advise_bridge(&network);
        let mut bridge = Bridge::new(network, &name);
        let connection_id = Some(bridge.name.clone());
        let connection = ConnectionInfo {
            command_id: bridge.next_command(),
            connection_id: Some(ConnectionId { value: connection_id.clone() }),
            client_id: Some(Text::cut(&client)),
            ..ConnectionInfo::default()
        };
        let session = SessionInfo {
            command_id: bridge.next_command(),
            session_id: Some(SessionId { connection_id, value: 1 }),
            ..SessionInfo::default()
        };
        let producer = ProducerInfo {
            command_id: bridge.next_command(),
            producer_id: Some(bridge.producer_id()),
            ..ProducerInfo::default()
        };
        let physical_name = Some(Text::cut(&topics));
        let consumer = ConsumerInfo {
            command_id: bridge.next_command(),
            consumer_id: Some(bridge.consumer_id(1, 1)),
            destination: Some(Wire { kind: DestinationKind::Topic, physical_name }),
            prefetch_size: ADVISORIES,
            dispatch_async: true,
            ..ConsumerInfo::default()
        };
        self.write(&connection);
        self.write(&session);
        self.write(&producer);
        self.write(&consumer);
        self.bridge = Some(Box::new(bridge));
        self.restore();
    }

    /// Takes an advisory of the other side; false for what is none.
    pub(super) fn hear(&mut self, head: CommandHead, message: &Message) -> bool {
        let Some(bridge) = &mut self.bridge else { return false };
        let name = message.head.destination.as_ref().and_then(|to| to.physical_name.as_ref());
        let name = name.map(Text::to_str).unwrap_or_default();
        let kinds = [Kind::Consumer, Kind::TempQueue, Kind::TempTopic];
        if !kinds.iter().any(|kind| name.starts_with(kind.prefix())) {
            return false;
        }
        bridge.advised += 1;
        if bridge.advised >= ADVISORIES_ACKNOWLEDGED {
            let ack = MessageAck {
                command_id: bridge.next_command(),
                destination: message.head.destination.clone(),
                consumer_id: Some(bridge.consumer_id(1, 1)),
                kind: STANDARD,
                last_message_id: message.head.message_id.clone(),
                message_count: std::mem::take(&mut bridge.advised),
                ..MessageAck::default()
            };
            self.write(&ack);
        }
        match message.tail.data_structure.as_deref() {
            Some(Structure::ConsumerInfo(info)) => self.demand(info),
            Some(Structure::RemoveInfo(RemoveInfo {
                object_id: Some(RemovedId::Consumer(id)),
                ..
            })) => self.demand_no_more(id),
            Some(Structure::RemoveSubscriptionInfo(info)) => self.subscriber_no_more(info),
            Some(Structure::DestinationInfo(info)) => self.temporary_of_peer(info),
            _ => {}
        }
        self.done(head);
        true
    }

    /// A consumer of the other side waits for something.
    fn demand(&mut self, info: &ConsumerInfo) {
        if info.subscription_name.is_some() {
            return self.lasting_demand(info);
        }
        let own = self.own_broker();
        let Some(bridge) = &mut self.bridge else { return };
        let Some(id) = info.consumer_id.as_ref().map(compact) else { return };
        if bridge.consumers.contains_key(&id) || !bridge.network.wants(info, &own) {
            return;
        }
        if bridge.is_full() {
            return self.break_bridge(full());
        }
        let selector = info.selector.clone().filter(|_| !bridge.network.conduit);
        let alike = |it: &Demand| {
            let same = it.destination == info.destination && it.selector == selector;
            same && it.lasting.is_none()
        };
        let known = bridge.demands.iter_mut().find(|(_, demand)| alike(demand));
        if let Some((value, demand)) = known.filter(|_| bridge.network.conduit) {
            demand.consumers += 1;
            let (value, again) = (*value, demand.consumers == 1);
            bridge.consumers.insert(id, value);
            if again {
                self.grant(&ConsumerKey { session: SESSION, value });
            }
            return;
        }
        // This one's own are no reason: who comes back has an id that was bridged before.
        if self.is_bridged(info) {
            return;
        }
        let Some(bridge) = &mut self.bridge else { unreachable!("just seen") };
        bridge.last += 1;
        let value = bridge.last;
        let local = bridge.local_consumer(info, selector.clone(), value);
        // What cannot be read from here is no demand: the other side does without.
        let Ok(Some((destinations, condition))) = self.check_consumer(&local) else { return };
        let Some(bridge) = &mut self.bridge else { unreachable!("just seen") };
        bridge.consumers.insert(id, value);
        let destination = info.destination.clone();
        let demand = Demand { destination, selector, consumers: 1, unanswered: 0, lasting: None };
        bridge.demands.insert(value, demand);
        let local = ConsumerInfo { selector: info.selector.clone(), ..local };
        self.begin_consumer(NOBODY, Consumer::new(local, destinations, condition));
    }

    /// Whether another bridge waits for what a consumer of the other side does, so that this one
    /// would bring it twice.
    fn is_bridged(&self, info: &ConsumerInfo) -> bool {
        let path = info.network_consumer_path.iter().flatten().flatten();
        let mut ids = path.chain(&info.consumer_id);
        let of = info.destination.as_ref();
        self.network.as_ref().is_some_and(|network| network.is_one_way(of))
            && self.config.registry.is_bridged(&mut ids)
    }

    /// A consumer of the other side has gone.
    fn demand_no_more(&mut self, id: &ConsumerId) {
        let Some(bridge) = &mut self.bridge else { return };
        let Some(value) = bridge.consumers.remove(id) else { return };
        let Some(demand) = bridge.demands.get_mut(&value) else { return };
        demand.consumers -= 1;
        self.stop_unwanted(value);
    }

    /// What a demand is for cannot be read: the next one tries again.
    pub(super) fn demand_refused(&mut self, value: i64) {
        let Some(bridge) = &mut self.bridge else { return };
        bridge.demands.remove(&value);
        bridge.consumers.retain(|_, of| *of != value);
        bridge.subscribers.retain(|_, of| *of != value);
    }

    /// Reads no more for a demand that nobody has any more.
    fn stop_unwanted(&mut self, value: i64) {
        let demand = self.bridge.as_ref().and_then(|bridge| bridge.demands.get(&value));
        if demand.is_none_or(Demand::is_wanted) {
            return;
        }
        let key = ConsumerKey { session: SESSION, value };
        let parts = self.consumers.get(&key).map(|consumer| consumer.parts.clone());
        for subscription in parts.unwrap_or_default() {
            self.submit(None, Command::Credit { subscription, prefetch: 0 });
        }
        self.give_up(value);
    }

    /// Ends a demand that nobody has any more, once all is answered.
    fn give_up(&mut self, value: i64) {
        let Some(bridge) = &mut self.bridge else { return };
        let Some(demand) = bridge.demands.get(&value) else { return };
        if demand.is_wanted() || demand.unanswered > 0 {
            return;
        }
        let lasting = bridge.demands.remove(&value).and_then(|demand| demand.lasting);
        self.remove_consumer(&ConsumerKey { session: SESSION, value }, NONE_SEEN);
        if let Some(lasting) = lasting {
            self.end_lasting(lasting);
        }
    }

    /// A temporary destination of the other side begins or ends, so that answers find their way.
    fn temporary_of_peer(&mut self, info: &DestinationInfo) {
        let own = self.own_broker();
        let path = info.broker_path.as_deref().unwrap_or_default();
        let known = path.iter().flatten().any(|passed| *passed == own);
        let Ok(destinations) = names::parse(info.destination.as_ref()) else { return };
        for destination in destinations.iter().filter(|it| !known && names::is_temporary(it)) {
            let remove = info.operation_type != 0;
            let changed = match remove {
                true => self.config.registry.remove(self.connection, destination),
                false => self.config.registry.add(self.connection, destination.clone()),
            };
            if changed {
                self.told_of_temporary(NOBODY, destination, remove);
            }
        }
    }

    /// Says a message to the other side.
    pub(super) fn forward(&mut self, value: i64, outgoing: Outgoing, of: (SubscriptionId, Tag)) {
        let own = self.own_broker();
        let Some(bridge) = &mut self.bridge else { return };
        let Some(demand) = bridge.demands.get_mut(&value) else { return };
        let (Outgoing::Whole(message) | Outgoing::Large { message, .. }) = &outgoing;
        // What is kept here for the other side is all that its topic gets.
        if demand.lasting.is_some() && !bridge.network.passes(&message.tail.broker_path) {
            let (subscription, which) = (of.0, Which::One(of.1));
            let outcome = Outcome::Accepted;
            return self.submit(None, Command::Settle { subscription, which, outcome });
        }
        demand.unanswered += 1;
        let command = bridge.next_command();
        bridge.unanswered.insert(command, (value, of.0, of.1));
        let producer = bridge.producer_id();
        self.dispatched += 1;
        let cross = |message: &mut Message| {
            let head = &mut message.head;
            (head.command_id, head.response_required) = (command, true);
            head.producer_id = Some(producer);
            let transaction = head.transaction_id.take();
            head.original_transaction_id = head.original_transaction_id.take().or(transaction);
            message.tail.broker_path = through(&message.tail.broker_path, &own);
        };
        match outgoing {
            Outgoing::Whole(mut message) => {
                cross(&mut message);
                self.write(&message);
            }
            Outgoing::Large { mut message, bytes, counted } => {
                cross(&mut message);
                self.begin_stream(of, &message, bytes, counted);
            }
        }
    }

    /// The other side has answered for a message.
    pub(super) fn forwarded(&mut self, correlation_id: i32, exception: Option<&Throwable>) {
        let Some(bridge) = &mut self.bridge else { return };
        let Some((value, subscription, tag)) = bridge.unanswered.remove(&correlation_id) else {
            return;
        };
        let thrown = exception.map(|it| &it.thrown);
        let text = |text: &Option<Text>| text.as_ref().map(Text::to_string).unwrap_or_default();
        let outcome = match thrown {
            None => Outcome::Accepted,
            // Who waited for it there has gone, and nobody else ever will.
            Some(it) if text(&it.class).ends_with("DestinationDoesNotExistException") => {
                Outcome::Rejected
            }
            Some(it) => {
                let why = format!("the other broker refused a message: {}", text(&it.message));
                return self.break_bridge(why);
            }
        };
        if let Some(demand) = bridge.demands.get_mut(&value) {
            demand.unanswered -= 1;
        }
        self.submit(None, Command::Settle { subscription, which: Which::One(tag), outcome });
        self.give_up(value);
    }

    /// Ends the bridge: the other side lays it anew, and what it has not answered for goes again.
    pub(super) fn break_bridge(&mut self, why: String) {
        self.phase = Phase::Closed(CloseReason::Fault(Fault::Refused { why }));
    }
}

/// Why a bridge cannot be.
fn full() -> String {
    let limit = limits::BRIDGE_CONSUMERS_MAX;
    format!("the other broker has {limit} consumers and durable subscriptions, which is the limit")
}

impl Bridge {
    fn is_full(&self) -> bool {
        self.consumers.len() + self.subscribers.len() >= limits::BRIDGE_CONSUMERS_MAX
    }

    /// A consumer here for one of the other side.
    fn local_consumer(
        &self,
        info: &ConsumerInfo,
        selector: Option<Text>,
        value: i64,
    ) -> ConsumerInfo {
        let mut condition = self.network.condition();
        if let Some(selector) = &selector {
            condition = format!("({condition}) AND ({})", selector.to_str());
        }
        let passed = info.network_consumer_path.iter().flatten().cloned();
        let passed = passed.chain([info.consumer_id.clone()]).collect();
        ConsumerInfo {
            consumer_id: Some(self.consumer_id(SESSION, value)),
            destination: info.destination.clone(),
            prefetch_size: self.network.prefetch,
            dispatch_async: true,
            selector: Some(Text::cut(&condition)),
            priority: info.priority,
            broker_path: through(&info.broker_path, &self.network.peer),
            network_subscription: true,
            network_consumer_path: Some(passed),
            ..ConsumerInfo::default()
        }
    }
}

/// An id that holds no other memory than its own.
fn compact(id: &ConsumerId) -> ConsumerId {
    let connection_id = id.connection_id.as_ref().map(|text| Text::cut(&text.to_str()));
    ConsumerId { connection_id, ..*id }
}
