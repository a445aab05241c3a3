//! Promises of a session, as transcripts of its wire.

mod bounds;
mod deliveries;
mod endings;
mod heart_beats;
mod large;
mod login;
mod transcripts;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::broker::command::{Delivery, MessageId, Output, Refusal, Reply, Which, Work};
use crate::ids::{Lsn, Millis, Token};
use crate::message::{BodyKind, Content, Destination, Durability, LargeHead};

/// A session between a client written as text and a broker written as calls. In text `^` is NUL.
struct Wire {
    session: StompSession,
    now: Duration,
    input: BytesMut,
    /// Tokens of requests that want an answer, in order.
    owed: Vec<Token>,
}

impl Wire {
    fn new() -> Self {
        Self::with(SessionConfig {
            server: "EscrowMQ/0".to_owned(),
            id_prefix: "h".to_owned(),
            ..SessionConfig::default()
        })
    }

    fn with(config: SessionConfig) -> Self {
        let session = StompSession::new(Arc::new(config), ConnectionId(7), Duration::ZERO);
        Self { session, now: Duration::ZERO, input: BytesMut::new(), owed: Vec::new() }
    }

    /// Connected in that version, with CONNECTED read.
    fn connected(version: &str) -> Self {
        let mut wire = Self::new();
        wire.feed(&format!("CONNECT\naccept-version:{version}\nhost:h\n\n^"));
        assert!(wire.written().starts_with("CONNECTED\n"));
        wire
    }

    /// The client sends; the requests that come of it.
    fn feed(&mut self, text: &str) -> Vec<String> {
        self.feed_bytes(text.replace('^', "\0").as_bytes())
    }

    fn feed_bytes(&mut self, bytes: &[u8]) -> Vec<String> {
        self.input.extend_from_slice(bytes);
        self.session.handle_bytes(self.now, &mut self.input);
        self.requests()
    }

    /// The requests not seen yet.
    fn requests(&mut self) -> Vec<String> {
        let requests = self.session.poll_requests();
        for request in &requests {
            if request.confirm == Confirm::Always {
                self.owed.push(request.token);
            }
        }
        requests.iter().map(brief).collect()
    }

    /// The broker answers the oldest request that wants it.
    fn answer(&mut self, result: Result<Reply, Refusal>) {
        let token = self.owed.remove(0);
        self.session.handle_output(self.now, Output::Answer { token, result });
    }

    fn deliver(&mut self, delivery: Delivery) {
        self.session.handle_output(self.now, Output::Delivery(delivery));
    }

    /// What the client gets, without saying yet that it was written.
    fn taken(&mut self) -> String {
        let mut out = BytesMut::new();
        self.session.take_bytes(&mut out);
        String::from_utf8(out.to_vec()).unwrap().replace('\0', "^")
    }

    /// What the client gets, written to the socket.
    fn written(&mut self) -> String {
        let taken = self.taken();
        self.session.handle_written();
        taken
    }

    fn closed(&self) -> Option<String> {
        self.session.is_closing().map(ToString::to_string)
    }
}

/// A request in one line; `!` where it wants an answer.
fn brief(request: &Request) -> String {
    let confirm = if request.confirm == Confirm::Always { "!" } else { "" };
    format!("{}{confirm}", brief_command(&request.command))
}

fn brief_command(command: &Command) -> String {
    match command {
        Command::Send { to, message } => {
            let content = Content::decode(message.content.clone()).unwrap();
            let durable = match message.durability {
                Durability::Persistent => "",
                Durability::NonPersistent => " non-persistent",
            };
            let expires = message.expires.map_or(String::new(), |at| format!(" expires {}", at.0));
            let kind = if content.kind == BodyKind::Text { "text" } else { "bytes" };
            let properties: Vec<_> =
                content.properties.iter().map(|(n, v)| format!("{n}={v}")).collect();
            format!(
                "send {to} p{}{durable}{expires} [{}] {kind} '{}'",
                message.priority.get(),
                properties.join(" "),
                content.body.escape_ascii()
            )
        }
        Command::Stage { stage, to, bytes } => format!("stage {} {to} {bytes}", stage.0),
        Command::StagePiece { stage, number, bytes } => {
            format!("piece {}.{number} '{}'", stage.0, bytes.escape_ascii())
        }
        Command::SendStaged { stage, to, message } => {
            let head = LargeHead::decode(message.content.clone()).unwrap();
            let kind = if head.kind == BodyKind::Text { "text" } else { "bytes" };
            let properties: Vec<_> =
                head.properties.iter().map(|(n, v)| format!("{n}={v}")).collect();
            let (stage, properties, bytes) = (stage.0, properties.join(" "), head.bytes);
            format!("send staged {stage} {to} {kind} [{properties}] {bytes}")
        }
        Command::Subscribe { subscription, from, prefetch, selector } => {
            let selector = selector.as_ref().map_or(String::new(), |it| format!(" where {it}"));
            format!("subscribe {} {from} {prefetch}{selector}", subscription.0)
        }
        Command::SubscribeAs { subscription, from, prefetch, standing, .. } => {
            let all = if standing.exclusive { " alone" } else { "" };
            let priority = standing.priority;
            format!("subscribe {} {from} {prefetch} before {priority}{all}", subscription.0)
        }
        Command::Unsubscribe { subscription } => format!("unsubscribe {}", subscription.0),
        Command::Settle { subscription, which, outcome } => {
            let which = match which {
                Which::One(tag) => format!("one {}", tag.0),
                Which::Through(tag) => format!("through {}", tag.0),
                Which::Range(first, last) => format!("range {} {}", first.0, last.0),
            };
            format!("{outcome:?} {} {which}", subscription.0)
        }
        Command::Transact { transaction, work } => {
            let command = match work.clone() {
                Work::Send { to, message } => Command::Send { to, message },
                Work::SendStaged { stage, to, message } => {
                    Command::SendStaged { stage, to, message }
                }
                Work::Settle { subscription, which, outcome } => {
                    Command::Settle { subscription, which, outcome }
                }
            };
            format!("in {}: {}", transaction.0, brief_command(&command))
        }
        Command::Once(once) => format!("once: {}", brief_command(once.command())),
        other => format!("{other:?}"),
    }
}

/// The delivery of message `tag` (born at 0x100 + tag) to a subscription, with no frills.
fn delivery(subscription: u64, tag: u64) -> Delivery {
    Delivery {
        subscription: SubscriptionId(subscription),
        tag: Tag(tag),
        from: Destination::Queue("a".into()),
        origin: None,
        message: MessageId::Durable(Lsn(0x100 + tag)),
        redelivered: false,
        attempt: 1,
        first_of_group: false,
        priority: 4,
        persistent: true,
        at: Millis(5),
        expires: None,
        dead: None,
        content: content(&[], "hi"),
    }
}

fn content(properties: &[(&str, &str)], body: &str) -> Bytes {
    let properties = properties.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let body = Bytes::copy_from_slice(body.as_bytes());
    Content { kind: BodyKind::Text, properties, body }.encode()
}

/// The `message` header of the ERROR frame in `text`, unescaped as far as tests need.
fn error_message(text: &str) -> String {
    let (_, error) = text.split_once("ERROR\nmessage:").unwrap_or_else(|| panic!("in {text}"));
    error.split('\n').next().unwrap().replace("\\c", ":").replace("\\\\", "\\")
}
