//! A blocking OpenWire client of the crate's own codec, small enough to be trusted.
//!
//! Owns one TCP connection, and can break every rule on it. A read without an answer ends after
//! [`PATIENCE`].

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use bytes::{Bytes, BytesMut};
use escrowmq::protocol::openwire::message::{Destination, DestinationKind, Message, MessageKind};
use escrowmq::protocol::openwire::table::{
    ConnectionId, ConnectionInfo, ConsumerId, ConsumerInfo, MessageAck, MessageId, ProducerId,
    TransactionId, TransactionInfo, XaTransactionId,
};
use escrowmq::protocol::openwire::{
    Decoder, Format, Object, Secret, Splitter, Structure, Text, WireFormat, body, encode, negotiate,
};

use super::PATIENCE;

/// A connection of one session.
pub(crate) struct OpenWire {
    socket: TcpStream,
    name: String,
    input: BytesMut,
    splitter: Splitter,
    decoder: Decoder,
    format: Format,
    commands: i32,
    dispatched: VecDeque<(Message, i32)>,
}

impl OpenWire {
    /// Connects as the client `name`.
    #[track_caller]
    pub(crate) fn connect(port: u16, name: &str) -> Self {
        let mut client = Self::open(port, name, &Self::newest());
        let answer = client.enter(None, None);
        assert!(matches!(answer, Structure::Response(_)), "{answer:?}");
        client
    }

    /// What a client of the newest version says of itself.
    pub(crate) fn newest() -> WireFormat {
        WireFormat { version: 12, ..WireFormat::default() }
    }

    /// Agrees with the broker on a format, and has not yet said who it is.
    #[track_caller]
    pub(crate) fn open(port: u16, name: &str, ours: &WireFormat) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).expect("the broker listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        let mut client = Self {
            socket,
            name: name.to_owned(),
            input: BytesMut::new(),
            splitter: Splitter::new(usize::MAX),
            decoder: Decoder::new(Format::OPENING),
            format: Format::OPENING,
            commands: 0,
            dispatched: VecDeque::new(),
        };
        client.write(&ours.to_info());
        let Structure::WireFormatInfo(theirs) = client.read() else { panic!("it opens") };
        let theirs = WireFormat::read(&theirs).expect("it says what it can");
        client.format = negotiate(ours, &theirs).expect("a common format").format;
        client.decoder.set_format(client.format);
        client
    }

    /// What says who the client is.
    pub(crate) fn introduction(
        &mut self,
        user: Option<&str>,
        password: Option<&str>,
    ) -> ConnectionInfo {
        ConnectionInfo {
            command_id: self.next(),
            response_required: true,
            connection_id: Some(ConnectionId { value: Text::new(&self.name) }),
            client_id: Text::new(&self.name),
            user_name: user.map(Text::cut),
            password: password.map(|password| Secret(Text::cut(password))),
            ..ConnectionInfo::default()
        }
    }

    /// Says who the client is; the answer.
    #[track_caller]
    pub(crate) fn enter(&mut self, user: Option<&str>, password: Option<&str>) -> Structure {
        let introduction = self.introduction(user, password);
        self.ask(&introduction)
    }

    /// How both sides write.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// The bytes of a frame.
    pub(crate) fn frame<T: Object>(&self, structure: &T) -> Vec<u8> {
        let mut frame = BytesMut::new();
        encode(structure, self.format, usize::MAX, &mut frame).expect("a frame");
        frame.to_vec()
    }

    /// Sends any bytes.
    pub(crate) fn write_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// Sends nothing more.
    pub(crate) fn end(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Waits until so many bytes have come that nobody reads.
    #[track_caller]
    pub(crate) fn wait_unread(&self, count: usize) {
        let mut bytes = vec![0; count];
        let come = |found: io::Result<usize>| found.expect("the broker writes") == count;
        super::wait_until("much has come", || come(self.socket.peek(&mut bytes)));
    }

    /// Reads on until the broker ends the connection; what it still said, as far as it is known.
    #[track_caller]
    pub(crate) fn wait_closed(&mut self) -> Vec<Structure> {
        let mut bytes = [0; 64 << 10];
        loop {
            match self.socket.read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => self.input.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) => panic!("the broker does not end the connection: {error}"),
            }
        }
        let mut said = Vec::new();
        while let Ok(Some(frame)) = self.splitter.poll(&mut self.input) {
            said.extend(self.decoder.decode(frame));
        }
        said
    }

    fn next(&mut self) -> i32 {
        self.commands += 1;
        self.commands
    }

    pub(crate) fn write<T: Object>(&mut self, structure: &T) {
        let frame = self.frame(structure);
        self.write_raw(&frame).expect("the broker reads");
    }

    /// The next that the broker says.
    #[track_caller]
    pub(crate) fn read(&mut self) -> Structure {
        loop {
            if let Some(frame) = self.splitter.poll(&mut self.input).expect("frames") {
                return self.decoder.decode(frame).expect("a structure");
            }
            let mut bytes = [0; 64 << 10];
            let count = self.socket.read(&mut bytes).expect("the broker answers");
            assert!(count > 0, "the broker has hung up");
            self.input.extend_from_slice(&bytes[..count]);
        }
    }

    /// Says something that is answered; the answer. What comes before it is kept.
    #[track_caller]
    pub(crate) fn ask<T: Object>(&mut self, structure: &T) -> Structure {
        let number = structure.command().expect("a command").command_id;
        self.write(structure);
        loop {
            let found = self.read();
            let of = match &found {
                Structure::Response(answer) => answer.correlation_id,
                Structure::ExceptionResponse(answer) => answer.correlation_id,
                Structure::IntegerResponse(answer) => answer.correlation_id,
                Structure::DataArrayResponse(answer) => answer.correlation_id,
                _ => 0,
            };
            if of == number {
                return found;
            }
            self.keep(found);
        }
    }

    fn keep(&mut self, structure: Structure) {
        if let Structure::MessageDispatch(dispatch) = structure {
            let message = dispatch.message.map(|message| *message);
            let message = message.unwrap_or_else(|| Message::new(MessageKind::Plain));
            self.dispatched.push_back((message, dispatch.redelivery_counter));
        }
    }

    /// The next message, and how often it came back. The end of a browse is one without an id.
    #[track_caller]
    pub(crate) fn message(&mut self) -> (Message, i32) {
        while self.dispatched.is_empty() {
            let found = self.read();
            self.keep(found);
        }
        self.dispatched.pop_front().expect("just seen")
    }

    /// What has come up to the last answer.
    pub(crate) fn came(&mut self) -> Vec<Message> {
        self.dispatched.drain(..).map(|(message, _)| message).collect()
    }

    fn producer(&self) -> ProducerId {
        ProducerId { connection_id: Text::new(&self.name), value: 1, session_id: 1 }
    }

    /// The message of that number of the connection's producer.
    pub(crate) fn text(&mut self, sequence: i64, to: Destination, text: &str) -> Message {
        let mut message = Message::new(MessageKind::Text);
        message.head.command_id = self.next();
        message.head.response_required = true;
        message.head.producer_id = Some(self.producer());
        message.head.destination = Some(to);
        message.head.persistent = true;
        message.head.priority = 4;
        message.head.message_id = Some(MessageId {
            producer_id: Some(self.producer()),
            producer_sequence_id: sequence,
            ..MessageId::default()
        });
        message.content = Some(body::encode_text(text));
        message
    }

    /// Sends a text and waits until it is there.
    #[track_caller]
    pub(crate) fn send(&mut self, sequence: i64, to: &str, text: &str) {
        let message = self.text(sequence, queue(to), text);
        assert!(matches!(self.ask(&message), Structure::Response(_)));
    }

    #[track_caller]
    pub(crate) fn consume(&mut self, from: &str, prefetch_size: i32, browser: bool) {
        let info = self.consumer_of(queue(from));
        let answer = self.ask(&ConsumerInfo { prefetch_size, browser, ..info });
        assert!(matches!(answer, Structure::Response(_)), "{answer:?}");
    }

    /// What begins a consumer that is sent nothing.
    pub(crate) fn consumer_of(&mut self, from: Destination) -> ConsumerInfo {
        ConsumerInfo {
            command_id: self.next(),
            response_required: true,
            consumer_id: Some(self.consumer()),
            destination: Some(from),
            ..ConsumerInfo::default()
        }
    }

    fn consumer(&self) -> ConsumerId {
        ConsumerId { connection_id: Text::new(&self.name), session_id: 1, value: 1 }
    }

    /// Acknowledges a message, perhaps in a transaction, and waits for the answer.
    #[track_caller]
    pub(crate) fn ack(&mut self, message: &Message, kind: i8, id: Option<&TransactionId>) {
        let command_id = self.next();
        let answer = self.ask(&MessageAck {
            command_id,
            response_required: true,
            consumer_id: Some(self.consumer()),
            destination: message.head.destination.clone(),
            transaction_id: id.cloned(),
            kind,
            last_message_id: message.head.message_id.clone(),
            message_count: 1,
            ..MessageAck::default()
        });
        assert!(matches!(answer, Structure::Response(_)), "{answer:?}");
    }

    /// A step in a transaction's life.
    #[track_caller]
    pub(crate) fn transaction(&mut self, id: Option<&TransactionId>, verb: i8) -> Structure {
        let command_id = self.next();
        let transaction_id = id.cloned();
        let info = TransactionInfo { transaction_id, verb, command_id, ..Default::default() };
        self.ask(&TransactionInfo { response_required: true, ..info })
    }

    /// A number for a command that the caller makes.
    pub(crate) fn number(&mut self) -> i32 {
        self.next()
    }
}

pub(crate) fn queue(name: &str) -> Destination {
    Destination { kind: DestinationKind::Queue, physical_name: Text::new(name) }
}

/// The branch of that number.
pub(crate) fn branch(number: u8) -> TransactionId {
    XaTransactionId {
        format_id: 7,
        global_transaction_id: Some(Bytes::from(vec![number])),
        branch_qualifier: Some(Bytes::from_static(b"b")),
    }
    .into()
}

/// The characters of a text message.
#[track_caller]
pub(crate) fn characters(message: &Message) -> String {
    let content = message.content.as_ref().expect("a body");
    body::decode_text(content).expect("a text").expect("not null")
}
