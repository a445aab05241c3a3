//! A STOMP connection: bytes to requests, and the broker's outputs to bytes.
//!
//! Owns the greeting, heart-beats, receipts, and the client's names for subscriptions and
//! deliveries. Always: a RECEIPT leaves only on the broker's answer, and confirms every frame
//! before it on the connection; nothing confirms anything once a frame was refused; what is kept
//! for a peer is bounded ([`crate::limits`]). Leaves to others: sockets (the shell), bytes of
//! frames ([`crate::protocol::stomp`]), and everything that messages do.

mod beats;
mod config;
mod deliver;
mod durable;
mod fault;
mod frames;
pub mod fuzz;
mod greeting;
mod large;
mod names;
mod outputs;
mod receipts;
mod schedule;
mod send;
mod settle;
mod subscription;
mod transactions;
mod upload;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use self::beats::Beats;
use self::greeting::Agreement;
use self::large::Streaming;
use self::receipts::{Asked, Receipts};
use self::send::Send;
use self::subscription::Subscriptions;
use self::transactions::Transactions;
use self::upload::Uploads;
use crate::broker::command::{Command, Confirm, Outcome, Request};
use crate::ids::{ConnectionId, SubscriptionId, Tag};
use crate::limits;
use crate::protocol::stomp::{Decoder, Head, Limits, Version};
use crate::session::Login;

pub use self::config::{HeartBeat, Pieces, SessionConfig};
pub use self::fault::Fault;
pub use self::send::OF_THE_FRAME;

/// The life of one STOMP connection.
///
/// 1. *Greeting*: only CONNECT or STOMP, soon and small.
/// 2. *Login*, where the configuration wants it: nothing is read until it is answered.
/// 3. *Open*: frames become requests; answers and deliveries become frames.
/// 4. *Ending*, after DISCONNECT or a mistake: nothing is read any more, and receipts still owed
///    go out first.
/// 5. *Closed*: nothing more happens; the last bytes are to be written, then the socket closed.
///
/// The methods are of four kinds:
/// - **getters** tell what the session is ready for: [`wants_bytes`](Self::wants_bytes),
///   [`wants_outputs`](Self::wants_outputs), [`is_closing`](Self::is_closing);
/// - **`handle_*`** tell it what happened;
/// - **`poll_*`** and **`take_bytes`** give what came of that. Call them after every `handle_*`,
///   and act on them in the order requests, bytes, closing, timeout.
///
/// Bytes the session left in the buffer are handed in again after it changed in any way: an
/// output came, requests were taken, bytes were written. `now` is any clock that never runs back.
/// Before [`handle_timeout`](Self::handle_timeout), what the socket holds is handed in, or a peer
/// may be called silent that the shell did not listen to.
#[derive(Debug)]
pub struct StompSession {
    config: Arc<SessionConfig>,
    connection: ConnectionId,
    phase: Phase,
    decoder: Decoder,
    /// Agreed in the greeting.
    version: Option<Version>,
    /// Who the client says that it is, where it does.
    client: Option<Arc<str>>,
    connect_by: Duration,
    beats: Beats,
    /// Bytes that came and could not be read yet.
    unread: usize,
    /// The frame whose end has not come.
    incoming: Option<Incoming>,
    /// The receipt that the frame being read or acted on asks for.
    receipt: Option<String>,
    receipts: Receipts,
    subscriptions: Subscriptions,
    transactions: Transactions,
    /// Ends as soon as its deliveries are written: they are settled then, and would go to another
    /// consumer too if the broker took them back before.
    unsubscribing: Option<Unsubscribing>,
    /// The newest `ack:auto` delivery of each subscription in `out`.
    unwritten: BTreeMap<SubscriptionId, Tag>,
    /// The same, of what was taken and is on its way to the socket.
    writing: BTreeMap<SubscriptionId, Tag>,
    requests: Vec<Request>,
    request_bytes: usize,
    out: BytesMut,
    /// Pieces of a large body on their way to the broker.
    uploads: Uploads,
    /// The MESSAGE in `out`, or written, whose body is not complete: nothing else may be written
    /// before its end.
    streaming: Option<Streaming>,
}

#[derive(Debug)]
enum Phase {
    Greeting,
    /// The client has said who it is.
    Login(Agreement, Asking),
    Open,
    Ending(Ending),
    Closed(CloseReason),
}

/// How far the question is whether a client is let in.
#[derive(Debug)]
enum Asking {
    /// Not asked.
    New(Login),
    /// Asked and not answered.
    Asked,
}

/// What happens when no receipt is owed any more.
#[derive(Debug)]
enum Ending {
    Disconnect,
    Fault {
        fault: Fault,
        receipt: Option<String>,
    },
    /// The same, once a MESSAGE is complete, and without the receipts owed.
    Refused {
        fault: Fault,
        receipt: Option<String>,
    },
}

/// An UNSUBSCRIBE that waits for a write.
#[derive(Debug)]
struct Unsubscribing {
    subscription: SubscriptionId,
    receipt: Option<String>,
}

/// The frame that is being read.
#[derive(Debug)]
enum Incoming {
    Send(Send),
    Bodyless(Head),
}

/// Why a session has closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The client said DISCONNECT.
    Disconnected,
    /// The client was told ERROR.
    Fault(Fault),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected => f.write_str("the client disconnected"),
            Self::Fault(fault) => fault.fmt(f),
        }
    }
}

impl StompSession {
    /// A connection that was accepted at `now`. `connection` makes its session id.
    #[must_use]
    pub fn new(config: Arc<SessionConfig>, connection: ConnectionId, now: Duration) -> Self {
        let greeting = Limits {
            head_bytes: limits::GREETING_HEAD_BYTES_MAX,
            headers: config.limits.headers,
            body_bytes: 0,
        };
        Self {
            connection,
            phase: Phase::Greeting,
            decoder: Decoder::new(greeting),
            version: None,
            client: None,
            connect_by: now.saturating_add(config.connect_timeout),
            beats: Beats::default(),
            unread: 0,
            incoming: None,
            receipt: None,
            receipts: Receipts::default(),
            subscriptions: Subscriptions::default(),
            transactions: Transactions::default(),
            unsubscribing: None,
            unwritten: BTreeMap::new(),
            writing: BTreeMap::new(),
            requests: Vec::new(),
            request_bytes: 0,
            out: BytesMut::new(),
            uploads: Uploads::default(),
            streaming: None,
            config,
        }
    }

    /// Whether [`handle_bytes`](Self::handle_bytes) would read. If not, the shell leaves the
    /// socket alone, and so slows the peer down.
    #[must_use]
    pub fn wants_bytes(&self) -> bool {
        matches!(self.phase, Phase::Greeting | Phase::Open)
            && self.unsubscribing.is_none()
            && self.requests.len() < limits::SESSION_REQUESTS_MAX
            && self.request_bytes < limits::SESSION_REQUEST_BYTES_MAX
            && !self.receipts.is_full()
            && self.takes_body()
            && self.out.len() < limits::SESSION_OUT_BYTES_MAX
    }

    /// Whether the shell should ask the engine for more outputs: not while many bytes wait for
    /// the socket. Those it has already it may always hand in.
    #[must_use]
    pub fn wants_outputs(&self) -> bool {
        self.out.len() < limits::SESSION_OUT_BYTES_MAX
    }

    /// Why the session is closed, once it is: what [`take_bytes`](Self::take_bytes) gives is then
    /// the last. The requests polled before are still to be submitted, and so are those that
    /// [`handle_written`](Self::handle_written) makes of the last write.
    #[must_use]
    pub fn is_closing(&self) -> Option<&CloseReason> {
        match &self.phase {
            Phase::Closed(reason) => Some(reason),
            _ => None,
        }
    }

    /// Everything that [`take_bytes`](Self::take_bytes) gave so far has been written to the
    /// socket: only now are deliveries settled that the client does not acknowledge.
    pub fn handle_written(&mut self) {
        for (subscription, tag) in std::mem::take(&mut self.writing) {
            let Some(mode) = self.subscriptions.get(subscription).map(|s| s.mode) else { continue };
            let which = mode.which(tag);
            let command = Command::Settle { subscription, which, outcome: Outcome::Accepted };
            self.submit(Asked::Written, None, command);
        }
        let (unwritten, streaming) = (&self.unwritten, &self.streaming);
        let written = |id| {
            let streams = streaming.as_ref().is_some_and(|streaming| streaming.subscription == id);
            !unwritten.contains_key(&id) && !streams
        };
        if let Some(Unsubscribing { subscription, receipt }) =
            self.unsubscribing.take_if(|it| written(it.subscription))
        {
            self.unsubscribe(subscription, receipt);
        }
    }

    /// The broker has ended and answers nothing more: says so to the client and closes.
    pub fn handle_broker_gone(&mut self, why: &str) {
        if self.is_closing().is_none() {
            self.fail_from_the_broker(Fault::BrokerGone { why: why.to_owned() }, None);
        }
    }

    /// A deadline of [`poll_timeout`](Self::poll_timeout) may have passed.
    pub fn handle_timeout(&mut self, now: Duration) {
        if self.is_closing().is_some() {
            return;
        }
        if let Phase::Greeting | Phase::Login(..) = self.phase {
            if now >= self.connect_by {
                let within = self.config.connect_timeout;
                let fault = match self.phase {
                    Phase::Greeting => Fault::ConnectTimeout { within },
                    _ => Fault::LoginTimeout { within },
                };
                self.close_with(fault, None);
            }
            return;
        }
        if let Some(silence) = self.beats.silence(now) {
            if matches!(self.phase, Phase::Open) && self.wants_bytes() {
                self.close_with(Fault::Silent { silence }, None);
                return;
            }
            // It is this side that does not listen.
            self.beats.received(now);
        }
        if self.beats.send_due(now) {
            // Inside a body a line end would be a byte of it.
            if self.out.is_empty() && self.streaming.is_none() {
                self.out.extend_from_slice(b"\n");
            }
            self.beats.sent(now);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called, if nothing else happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        match self.phase {
            Phase::Greeting | Phase::Login(..) => Some(self.connect_by),
            Phase::Open | Phase::Ending(_) => self.beats.deadline(),
            Phase::Closed(_) => None,
        }
    }

    /// Who the client says it is, once, where somebody has to decide about that.
    pub fn poll_login(&mut self) -> Option<Login> {
        let Phase::Login(_, asking) = &mut self.phase else { return None };
        match std::mem::replace(asking, Asking::Asked) {
            Asking::New(login) => Some(login),
            Asking::Asked => None,
        }
    }

    /// The client is let in, or is not, and why.
    pub fn handle_login(&mut self, now: Duration, verdict: Result<(), String>) {
        let Phase::Login(agreement, _) = self.phase else { return };
        match verdict {
            Ok(()) => self.greet(now, agreement),
            Err(why) => self.close_with(Fault::Denied { why }, None),
        }
    }

    /// Takes the requests made so far, for the engine, in order.
    pub fn poll_requests(&mut self) -> Vec<Request> {
        self.request_bytes = 0;
        std::mem::take(&mut self.requests)
    }

    /// Moves the bytes made so far, for the socket, behind what `out` holds.
    pub fn take_bytes(&mut self, out: &mut BytesMut) {
        self.writing.append(&mut self.unwritten);
        if out.is_empty() {
            out.clear();
            std::mem::swap(out, &mut self.out);
        } else {
            out.extend_from_slice(&self.out);
            self.out.clear();
        }
        // One large message does not leave its room behind on a connection that then idles.
        if self.out.capacity() > limits::SESSION_OUT_BYTES_MAX {
            self.out = BytesMut::new();
        }
    }

    fn submit(&mut self, asked: Asked, receipt: Option<String>, command: Command) {
        self.request_bytes += command.content_bytes();
        let confirm = if receipt.is_some() { Confirm::Always } else { Confirm::RefusalOnly };
        let token = self.receipts.token(asked, receipt);
        self.requests.push(Request { token, confirm, command });
    }

    /// Ends the session for a mistake of the client. Receipts of frames before it are still owed
    /// and go first, so that the client knows what got through.
    fn fail(&mut self, fault: Fault) {
        let receipt = self.receipt.take();
        if self.receipts.is_empty() && self.streaming.is_none() {
            self.close_with(fault, receipt);
        } else {
            self.end(Ending::Fault { fault, receipt });
        }
    }

    fn end(&mut self, ending: Ending) {
        self.incoming = None;
        self.phase = Phase::Ending(ending);
        self.close_if_nothing_is_owed();
    }

    fn close_if_nothing_is_owed(&mut self) {
        let owed = match &self.phase {
            Phase::Ending(Ending::Refused { .. }) => false,
            Phase::Ending(_) => !self.receipts.is_empty(),
            _ => true,
        };
        if owed || self.streaming.is_some() {
            return;
        }
        let closed = Phase::Closed(CloseReason::Disconnected);
        if let Phase::Ending(
            Ending::Fault { fault, receipt } | Ending::Refused { fault, receipt },
        ) = std::mem::replace(&mut self.phase, closed)
        {
            self.close_with(fault, receipt);
        }
    }

    fn close_with(&mut self, fault: Fault, receipt: Option<String>) {
        // Inside a body an ERROR would be bytes of it: then the end itself must do.
        if self.streaming.take().is_none() {
            fault.encode(self.version, receipt.as_deref(), &mut self.out);
        }
        self.incoming = None;
        self.phase = Phase::Closed(CloseReason::Fault(fault));
    }
}

#[cfg(test)]
mod tests;
