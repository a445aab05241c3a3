//! Promises of an OpenWire session, without sockets: a client that speaks the wire's own codec, and
//! a broker written as calls.

mod advisories;
mod bounds;
mod consuming;
mod greeting;
mod large;
mod network;
mod sending;
mod transacted;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};

use super::*;
use crate::broker::command::{
    Delivery, MessageId as BrokerMessageId, Outcome, Output, Refusal, Reply, Which, Work,
};
use crate::ids::{Lsn, Millis, SubscriptionId, Tag};
use crate::message::Destination;
use crate::protocol::openwire::message::{
    Destination as WireDestination, DestinationKind, Message, MessageKind,
};
use crate::protocol::openwire::table::{
    ConnectionId as WireConnectionId, ConsumerId, ConsumerInfo, LocalTransactionId, MessageAck,
    MessageId, SessionId, TransactionId, TransactionInfo, WireFormatInfo,
};
use crate::protocol::openwire::{
    Decoder, SIZE_BYTES, Structure, Text, WireFormat, body, negotiate,
};

/// A waker that is not waited for.
#[derive(Debug, Default)]
pub(super) struct Bell(std::sync::atomic::AtomicUsize);

impl Waker for Bell {
    fn wake(&self) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

/// From where the client comes.
pub(super) const PEER: &str = "tcp://10.0.0.9:5000";

pub(super) struct Wire {
    pub(super) session: OpenWireSession,
    pub(super) bell: Arc<Bell>,
    pub(super) now: Duration,
    input: BytesMut,
    format: Format,
    /// Requests that have not been answered.
    owed: Vec<Request>,
}

impl Wire {
    pub(super) fn new(config: &Arc<OpenWireConfig>, connection: u64) -> Self {
        let bell = Arc::new(Bell::default());
        let waker: Arc<dyn Waker> = Arc::<Bell>::clone(&bell);
        let connection = ConnectionId(connection);
        let config = Arc::clone(config);
        let mut session = OpenWireSession::new(config, connection, waker, Duration::ZERO);
        session.comes_from(PEER);
        let (input, format) = (BytesMut::new(), Format::OPENING);
        Self { session, bell, now: Duration::ZERO, input, format, owed: Vec::new() }
    }

    /// A client of ActiveMQ 5 and 6, but for its password.
    fn client_format() -> WireFormat {
        WireFormat {
            version: 12,
            cache_enabled: true,
            tight_encoding_enabled: true,
            stack_trace_enabled: true,
            tcp_no_delay_enabled: true,
            max_inactivity_duration: 30_000,
            max_inactivity_duration_initial_delay: 10_000,
            max_frame_size: i64::MAX,
            ..WireFormat::default()
        }
    }

    pub(super) fn opened(config: &Arc<OpenWireConfig>, connection: u64) -> Self {
        let mut wire = Self::new(config, connection);
        let Some(Structure::WireFormatInfo(theirs)) = wire.frames().pop() else {
            panic!("the first frame says what it can")
        };
        let theirs = WireFormat::read(&theirs).unwrap();
        let ours: WireFormatInfo = Self::client_format().to_info();
        wire.say(&ours);
        wire.format = negotiate(&Self::client_format(), &theirs).unwrap().format;
        wire
    }

    /// Of the client `name`, with what that is answered read.
    pub(super) fn connected(config: &Arc<OpenWireConfig>, connection: u64, name: &str) -> Self {
        let mut wire = Self::opened(config, connection);
        wire.connect(name, name);
        let answers = wire.frames();
        assert!(matches!(answers[..2], [Structure::BrokerInfo(_), Structure::Response(_)]));
        wire
    }

    pub(super) fn connect(&mut self, name: &str, client: &str) {
        self.say(&ConnectionInfo {
            command_id: 1,
            response_required: true,
            connection_id: Some(WireConnectionId { value: Text::new(name) }),
            client_id: Text::new(client),
            manageable: true,
            ..ConnectionInfo::default()
        });
    }

    /// Of a client that has come back, or not, to a broker that is not the one it knew.
    pub(super) fn opened_again(config: &Arc<OpenWireConfig>, failover_reconnect: bool) -> Self {
        let mut wire = Self::opened(config, 1);
        wire.say(&ConnectionInfo {
            command_id: 1,
            connection_id: Some(WireConnectionId { value: Text::new("c") }),
            client_id: Text::new("c"),
            failover_reconnect,
            ..ConnectionInfo::default()
        });
        wire.answer_all();
        let _ = wire.frames();
        wire
    }

    /// Alone in its broker.
    pub(super) fn alone() -> Self {
        Self::connected(&Arc::default(), 1, "c")
    }

    pub(super) fn say<T: Object>(&mut self, structure: &T) {
        let mut frame = BytesMut::new();
        encode(structure, self.format, usize::MAX, &mut frame).unwrap();
        self.feed(&frame);
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        self.session.handle_bytes(self.now, &mut self.input);
    }

    /// What the session has said since.
    pub(super) fn frames(&mut self) -> Vec<Structure> {
        let mut out = BytesMut::new();
        self.session.take_bytes(&mut out);
        let mut found = Vec::new();
        while !out.is_empty() {
            let size = (&out[..SIZE_BYTES]).get_u32() as usize;
            let frame = out.split_to(SIZE_BYTES + size).freeze().slice(SIZE_BYTES..);
            found.push(Decoder::new(self.format).decode(frame).unwrap());
        }
        found
    }

    /// What it asks of the broker.
    pub(super) fn asks(&mut self) -> Vec<Command> {
        let requests = self.session.poll_requests();
        let commands = requests.iter().map(|request| request.command.clone()).collect();
        self.owed.extend(requests.into_iter().filter(|it| it.confirm != Confirm::RefusalOnly));
        commands
    }

    /// The broker answers the oldest request that wants it.
    pub(super) fn answer(&mut self, result: Result<Reply, Refusal>) {
        let _ = self.asks();
        let Request { token, .. } = self.owed.remove(0);
        self.session.handle_output(self.now, Output::Answer { token, result });
    }

    /// The broker says yes to everything.
    pub(super) fn answer_all(&mut self) {
        while !self.asks().is_empty() || !self.owed.is_empty() {
            while !self.owed.is_empty() {
                self.answer(Ok(Reply::Done));
            }
        }
    }

    /// A consumer that has begun; its subscription is that of its number where all are of one part.
    pub(super) fn consume(&mut self, value: i64, destination: WireDestination, prefetch: i32) {
        self.say(&consumer(value, destination, prefetch));
        self.answer_all();
        let _ = self.frames();
    }

    pub(super) fn deliver(&mut self, subscription: u64, tag: u64, content: Bytes) {
        self.deliver_of(subscription, tag, tag, content);
    }

    /// The same of the message that is born there.
    pub(super) fn deliver_of(&mut self, subscription: u64, tag: u64, birth: u64, content: Bytes) {
        self.deliver_for((subscription, tag), birth, 1, content);
    }

    /// The same for the second time.
    pub(super) fn deliver_again(
        &mut self,
        subscription: u64,
        tag: u64,
        birth: u64,
        content: Bytes,
    ) {
        self.deliver_for((subscription, tag), birth, 2, content);
    }

    fn deliver_for(
        &mut self,
        (subscription, tag): (u64, u64),
        birth: u64,
        attempt: u32,
        content: Bytes,
    ) {
        let delivery = Delivery {
            subscription: SubscriptionId(subscription),
            tag: Tag(tag),
            from: Destination::queue("q"),
            origin: None,
            message: BrokerMessageId::Durable(Lsn(birth)),
            redelivered: attempt > 1,
            attempt,
            first_of_group: false,
            priority: 4,
            persistent: true,
            at: Millis(1000),
            expires: None,
            dead: None,
            content,
        };
        self.session.handle_output(self.now, Output::Delivery(delivery));
    }

    /// The messages dispatched since.
    pub(super) fn dispatched(&mut self) -> Vec<Message> {
        let messages = self.frames().into_iter().filter_map(|frame| match frame {
            Structure::MessageDispatch(dispatch) => dispatch.message.map(|message| *message),
            _ => None,
        });
        messages.collect()
    }
}

pub(super) fn place(kind: DestinationKind, name: &str) -> WireDestination {
    WireDestination { kind, physical_name: Text::new(name) }
}

pub(super) fn queue(name: &str) -> WireDestination {
    place(DestinationKind::Queue, name)
}

pub(super) fn consumer_id(value: i64) -> ConsumerId {
    ConsumerId { connection_id: Text::new("c"), session_id: 1, value }
}

pub(super) fn consumer(
    value: i64,
    destination: WireDestination,
    prefetch_size: i32,
) -> ConsumerInfo {
    ConsumerInfo {
        command_id: 7,
        response_required: true,
        consumer_id: Some(consumer_id(value)),
        destination: Some(destination),
        prefetch_size,
        ..ConsumerInfo::default()
    }
}

pub(super) fn producer_id() -> ProducerId {
    ProducerId { connection_id: Text::new("c"), value: 1, session_id: 1 }
}

/// The message of a number of its producer.
pub(super) fn text(sequence: i64, to: WireDestination) -> Message {
    let mut message = Message::new(MessageKind::Text);
    message.head.producer_id = Some(producer_id());
    message.head.destination = Some(to);
    message.head.persistent = true;
    message.head.priority = 4;
    message.head.message_id = Some(MessageId {
        producer_id: Some(producer_id()),
        producer_sequence_id: sequence,
        ..MessageId::default()
    });
    message.content = Some(body::encode_text("text"));
    message
}

/// A text as the broker keeps it that got it from another wire.
pub(super) fn stored(text: &'static str) -> Bytes {
    use crate::message::{BodyKind, Content};
    let body = Bytes::from_static(text.as_bytes());
    Content { kind: BodyKind::Text, properties: Vec::new(), body }.encode()
}

pub(super) fn local(value: i64) -> TransactionId {
    let connection_id = Some(WireConnectionId { value: Text::new("c") });
    LocalTransactionId { value, connection_id }.into()
}

pub(super) fn transaction(id: TransactionId, verb: i8) -> TransactionInfo {
    let transaction_id = Some(id);
    let command_id = 50 + i32::from(verb);
    TransactionInfo {
        command_id,
        response_required: true,
        transaction_id,
        verb,
        ..Default::default()
    }
}

pub(super) fn ack(message: &Message, kind: i8, count: i32) -> MessageAck {
    MessageAck {
        consumer_id: Some(consumer_id(1)),
        destination: message.head.destination.clone(),
        kind,
        last_message_id: message.head.message_id.clone(),
        message_count: count,
        ..MessageAck::default()
    }
}

/// What a message says by its properties.
pub(super) fn said_by(message: &Message, name: &str) -> Option<crate::message::Value> {
    let body = crate::message::JmsBody::default();
    crate::message::JmsHead { message: message.clone(), body }.value(name)
}

/// The class and the words of the exception that a frame is.
pub(super) fn exception(frame: &Structure) -> (String, String) {
    let exception = match frame {
        Structure::ExceptionResponse(answer) => answer.exception.as_ref(),
        Structure::ConnectionError(error) => error.exception.as_ref(),
        other => panic!("{other:?}"),
    };
    let thrown = &exception.expect("an exception").thrown;
    let text = |text: &Option<Text>| text.as_ref().unwrap().to_string();
    (text(&thrown.class), text(&thrown.message))
}

pub(super) fn removal(
    id: impl Into<crate::protocol::openwire::table::RemovedId>,
    last: i64,
) -> crate::protocol::openwire::table::RemoveInfo {
    crate::protocol::openwire::table::RemoveInfo {
        command_id: 9,
        response_required: true,
        object_id: Some(id.into()),
        last_delivered_sequence_id: last,
    }
}

pub(super) fn session_id() -> SessionId {
    SessionId { connection_id: Text::new("c"), value: 1 }
}

pub(super) fn settled(commands: &[Command]) -> Vec<(Which, Outcome)> {
    let settled = commands.iter().filter_map(|command| match command {
        Command::Settle { which, outcome, .. }
        | Command::Transact { work: Work::Settle { which, outcome, .. }, .. } => {
            Some((*which, *outcome))
        }
        _ => None,
    });
    settled.collect()
}
