//! An OpenWire connection: bytes to requests, and the broker's outputs to bytes.
//!
//! Owns the handshake, the silence of both sides, answers to commands, and the client's names for
//! producers, consumers, deliveries and transactions. Always: an answer leaves only when the broker
//! has given its own; commands have their effect in the order in which they came; what is kept for
//! a peer is bounded ([`crate::limits`]). Leaves to others: sockets (the shell), bytes of frames
//! ([`crate::protocol::openwire`]), and everything that messages do.

mod acks;
mod advisory;
mod answers;
mod bridge;
mod browse;
mod config;
mod consume;
mod consumer;
mod deliver;
mod durable;
mod fault;
mod frames;
mod greeting;
mod kept;
mod large;
mod names;
mod network;
mod notice;
mod outputs;
mod present;
mod produce;
mod registry;
mod replay;
mod said;
mod send;
mod stored;
mod temporary;
mod transactions;
mod upload;
mod xa;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use self::answers::Asked;
use self::bridge::Bridge;
use self::browse::Reading;
use self::consumer::Consumers;
use self::greeting::Client;
use self::large::Streaming;
use self::network::Network;
use self::produce::Producer;
use self::send::Sends;
use self::transactions::Transactions;
use self::upload::{Incoming, Uploads};
use crate::broker::command::{Command, Confirm, Request};
use crate::ids::{ConnectionId, Lsn, Token};
use crate::limits;
use crate::protocol::openwire::table::{
    BrokerSubscriptionInfo, ConnectionInfo, KeepAliveInfo, ProducerId,
};
use crate::protocol::openwire::{Format, Limits, Object, Receiver, Silence, SilenceWatch, encode};
use crate::session::Login;

pub use self::config::OpenWireConfig;
pub use self::fault::{CloseReason, Fault};
pub use self::registry::{Registry, Waker};

/// The life of one OpenWire connection.
///
/// 1. *Opening*: both sides say what they can; nothing else is read.
/// 2. *Greeting*: only `ConnectionInfo` and what may come before it, soon and little in all. Where
///    another connection has the same name, that ends first.
/// 3. *Open*: commands become requests; answers and deliveries become frames.
/// 4. *Closed*: nothing more happens; the last bytes are to be written, then the socket closed.
///
/// The methods are of the four kinds that those of [`crate::session::stomp::StompSession`] are of,
/// and used alike. Beyond these, [`poll_read`](Self::poll_read) asks the shell for the content of a
/// message that a browser is to see, [`handle_wake`](Self::handle_wake) is called when the waker
/// was, and [`handle_gone`](Self::handle_gone) before the connection to the broker is given up.
#[derive(Debug)]
pub struct OpenWireSession {
    config: Arc<OpenWireConfig>,
    connection: ConnectionId,
    waker: Arc<dyn Waker>,
    phase: Phase,
    receiver: Receiver,
    format: Format,
    /// Bytes of a frame that the peer takes.
    frame_bytes: usize,
    /// The client has said who it is, or is given up then.
    connect_by: Duration,
    /// Bytes of the frames that came before that.
    greeted: usize,
    watch: Option<SilenceWatch>,
    /// Bytes that came and could not be read yet.
    unread: usize,
    client: Client,
    /// From where it comes.
    peer: Box<str>,
    /// As whom the client was let in, where that is asked.
    user: Option<String>,
    /// The peer is a broker that has laid a bridge.
    network: Option<Network>,
    /// This side's half of it.
    bridge: Option<Box<Bridge>>,
    /// What that broker has told of its durable subscriptions, until it can be taken.
    told: Option<Box<BrokerSubscriptionInfo>>,
    producers: HashMap<ProducerId, Producer>,
    consumers: Consumers,
    transactions: Transactions,
    asked: BTreeMap<Token, Asked>,
    last_token: u64,
    requests: Vec<Request>,
    request_bytes: usize,
    out: BytesMut,
    /// The large message that is being read.
    incoming: Option<Box<Incoming>>,
    sends: Sends,
    uploads: Uploads,
    /// The frame in `out`, or written, whose body is not complete.
    streaming: Option<Streaming>,
    /// What browsers are to see next.
    reading: VecDeque<Reading>,
    /// Messages that were dispatched on this connection.
    dispatched: i64,
    /// Advisories that were made on it.
    advised: i64,
}

#[derive(Debug)]
enum Phase {
    Opening,
    Greeting,
    /// Is the client let in?
    Login(Box<ConnectionInfo>, Option<Login>),
    /// Another connection of this name is on its way out.
    Waiting(Box<ConnectionInfo>),
    Open,
    Closed(CloseReason),
}

impl OpenWireSession {
    /// A connection that was accepted at `now`. `waker` is woken when
    /// [`handle_wake`](Self::handle_wake) is to be called.
    #[must_use]
    pub fn new(
        config: Arc<OpenWireConfig>,
        connection: ConnectionId,
        waker: Arc<dyn Waker>,
        now: Duration,
    ) -> Self {
        let mut session = Self {
            connection,
            waker,
            phase: Phase::Opening,
            receiver: Receiver::new(SMALL),
            format: Format::OPENING,
            frame_bytes: limits::OPENWIRE_GREETING_BYTES_MAX,
            connect_by: now.saturating_add(config.connect_timeout),
            greeted: 0,
            watch: None,
            unread: 0,
            client: Client::default(),
            peer: Box::default(),
            user: None,
            network: None,
            bridge: None,
            told: None,
            producers: HashMap::new(),
            consumers: Consumers::default(),
            transactions: Transactions::default(),
            asked: BTreeMap::new(),
            last_token: 0,
            requests: Vec::new(),
            request_bytes: 0,
            out: BytesMut::new(),
            incoming: None,
            sends: Sends::default(),
            uploads: Uploads::default(),
            streaming: None,
            reading: VecDeque::new(),
            dispatched: 0,
            advised: 0,
            config,
        };
        let info = session.config.wire_format().to_info();
        session.write(&info);
        session
    }

    /// Says from where the client comes, for those who are told of it.
    pub fn comes_from(&mut self, peer: &str) {
        self.peer = peer.into();
    }

    /// Whether [`handle_bytes`](Self::handle_bytes) would read. If not, the shell leaves the
    /// socket alone, and so slows the peer down.
    #[must_use]
    pub fn wants_bytes(&self) -> bool {
        matches!(self.phase, Phase::Opening | Phase::Greeting | Phase::Open)
            && self.requests.len() < limits::SESSION_REQUESTS_MAX
            && self.request_bytes < limits::SESSION_REQUEST_BYTES_MAX
            && self.asked.len() + self.transactions.recovers.len() < limits::SESSION_RECEIPTS_MAX
            && self.takes_body()
            && self.out.len() < limits::SESSION_OUT_BYTES_MAX
            && self.behind_bytes() < limits::SESSION_OUT_BYTES_MAX
    }

    /// Whether the shell should ask the engine for more outputs: not while many bytes wait for
    /// the socket. Those it has already it may always hand in.
    #[must_use]
    pub fn wants_outputs(&self) -> bool {
        self.out.len() < limits::SESSION_OUT_BYTES_MAX
    }

    /// Why the session is closed, once it is: what [`take_bytes`](Self::take_bytes) gives is then
    /// the last. The requests polled before are still to be submitted.
    #[must_use]
    pub fn is_closing(&self) -> Option<&CloseReason> {
        match &self.phase {
            Phase::Closed(reason) => Some(reason),
            _ => None,
        }
    }

    /// The broker has ended and answers nothing more. Clients take the end of a socket for that,
    /// and look for another broker.
    pub fn handle_broker_gone(&mut self, why: &str) {
        if self.is_closing().is_none() {
            self.close(Fault::BrokerGone { why: why.to_owned() });
        }
    }

    /// The waker was woken: another connection comes in place of this one, or one that stood in the
    /// way of this has gone.
    pub fn handle_wake(&mut self) {
        if self.is_closing().is_none() && self.config.registry.is_evicted(self.connection) {
            return self.close(Fault::Replaced);
        }
        if matches!(self.phase, Phase::Waiting(_))
            && let Phase::Waiting(info) = std::mem::replace(&mut self.phase, Phase::Greeting)
        {
            self.enter(info);
        }
    }

    /// A deadline of [`poll_timeout`](Self::poll_timeout) may have passed.
    pub fn handle_timeout(&mut self, now: Duration) {
        match self.phase {
            Phase::Closed(_) => return,
            Phase::Open => self.pulls_due(now),
            Phase::Opening | Phase::Greeting | Phase::Login(..) | Phase::Waiting(_) => {
                if now >= self.connect_by {
                    let within = self.config.connect_timeout;
                    return self.close(Fault::ConnectTimeout { within });
                }
            }
        }
        while let Some(found) = self.watch.as_mut().and_then(|watch| watch.look(now)) {
            match found {
                Silence::Theirs if self.wants_bytes() => return self.close(Fault::Silent),
                // It is this side that does not listen.
                Silence::Theirs => {}
                // What waits to be written says so as well; inside a body nothing else can.
                Silence::Ours if self.out.is_empty() && self.streaming.is_none() => {
                    self.write(&KeepAliveInfo::default());
                }
                Silence::Ours => {}
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called, if nothing else happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let of_phase = match self.phase {
            Phase::Closed(_) => return None,
            Phase::Open => self.consumers.next_pull(),
            Phase::Opening | Phase::Greeting | Phase::Login(..) | Phase::Waiting(_) => {
                Some(self.connect_by)
            }
        };
        let watch = self.watch.as_ref().map(SilenceWatch::deadline);
        of_phase.into_iter().chain(watch).min()
    }

    /// Takes the requests made so far, for the engine, in order.
    pub fn poll_requests(&mut self) -> Vec<Request> {
        self.recover_next();
        self.request_bytes = 0;
        std::mem::take(&mut self.requests)
    }

    /// A message whose content a browser is to see: where its frame is, and how large that is. It
    /// is asked for until [`handle_read`](Self::handle_read).
    #[must_use]
    pub fn poll_read(&self) -> Option<(Lsn, u32)> {
        if self.out.len() >= limits::SESSION_OUT_BYTES_MAX || self.streaming.is_some() {
            return None;
        }
        self.reading.front().and_then(Reading::place)
    }

    /// The content asked for, or nothing where it cannot be read.
    pub fn handle_read(&mut self, content: Option<Bytes>) {
        if self.is_closing().is_none() {
            self.seen_by_browser(content);
        }
    }

    /// Moves the bytes made so far, for the socket, behind what `out` holds.
    pub fn take_bytes(&mut self, out: &mut BytesMut) {
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

    /// Asks the broker for something; without `asked` nobody is to hear of success.
    fn submit(&mut self, asked: Option<Asked>, command: Command) {
        self.last_token += 1;
        let token = Token(self.last_token);
        let confirm = match asked {
            Some(asked) => {
                // What a browser sees says nothing of what was sent before; and what was refused is
                // never to be committed, however much waits.
                let alone = matches!(asked, Asked::Browsed { .. } | Asked::Doom);
                self.asked.insert(token, asked);
                if alone { Confirm::Alone } else { Confirm::Always }
            }
            None => Confirm::RefusalOnly,
        };
        self.request_bytes += command.content_bytes();
        self.requests.push(Request { token, confirm, command });
    }

    /// Writes a frame, behind the one that is not complete.
    fn write<T: Object>(&mut self, structure: &T) {
        let (format, limit) = (self.format, self.frame_bytes);
        let written = encode(structure, format, limit, self.between_frames());
        if let Some(watch) = &mut self.watch {
            watch.sent();
        }
        if let Err(error) = written {
            self.close(Fault::Encode(error));
        }
    }

    fn close(&mut self, fault: Fault) {
        self.phase = Phase::Closed(CloseReason::Fault(fault));
    }
}

impl Drop for OpenWireSession {
    /// Its name is free, for a connection that comes in its place, when nothing of it goes to the
    /// broker any more.
    fn drop(&mut self) {
        self.config.registry.leave(self.connection);
    }
}

/// Before the client is known frames are small.
const SMALL: Limits = Limits {
    frame_bytes: limits::OPENWIRE_GREETING_BYTES_MAX,
    whole_bytes: limits::OPENWIRE_GREETING_BYTES_MAX,
    head_bytes: limits::OPENWIRE_GREETING_BYTES_MAX,
};

#[cfg(test)]
mod tests;
