//! The session of a connection, whatever it speaks, as the connection's task drives it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use crate::broker::command::{Command, Output, Request};
use crate::config::Wire;
use crate::ids::{ConnectionId, Lsn};
use crate::server::Shared;
use crate::session::Login;
use crate::session::openwire::{self, OpenWireSession, Waker};
use crate::session::stomp::{self, StompSession};

/// A session.
#[derive(Debug)]
pub(super) enum Session {
    Stomp(Box<StompSession>),
    OpenWire(Box<OpenWireSession>, Arc<Bell>),
}

/// How a session ended.
#[derive(Clone, Debug)]
pub(super) enum Ended {
    Stomp(stomp::CloseReason),
    OpenWire(openwire::CloseReason),
}

impl Ended {
    /// Whether its peer has left it for another connection.
    pub(super) fn is_replaced(&self) -> bool {
        matches!(self, Self::OpenWire(openwire::CloseReason::Fault(openwire::Fault::Replaced)))
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stomp(reason) => reason.fmt(f),
            Self::OpenWire(reason) => reason.fmt(f),
        }
    }
}

/// What wakes a connection's task where another has done something that concerns it.
#[derive(Debug, Default)]
pub(super) struct Bell(Notify);

impl Bell {
    pub(super) async fn rung(&self) {
        self.0.notified().await;
    }
}

impl Waker for Bell {
    fn wake(&self) {
        self.0.notify_one();
    }
}

/// What both do alike.
macro_rules! either {
    ($self:ident, $session:ident => $what:expr) => {
        match $self {
            Self::Stomp($session) => $what,
            Self::OpenWire($session, _) => $what,
        }
    };
}

impl Session {
    pub(super) fn new(
        wire: Wire,
        shared: &Shared,
        (connection, peer): (ConnectionId, SocketAddr),
        now: Duration,
    ) -> Self {
        match wire {
            Wire::Stomp => {
                let config = Arc::clone(&shared.stomp);
                Self::Stomp(Box::new(StompSession::new(config, connection, now)))
            }
            Wire::OpenWire => {
                let (config, bell) = (Arc::clone(&shared.openwire), Arc::new(Bell::default()));
                let waker: Arc<dyn Waker> = Arc::<Bell>::clone(&bell);
                let mut session = OpenWireSession::new(config, connection, waker, now);
                session.comes_from(&format!("tcp://{peer}"));
                Self::OpenWire(Box::new(session), bell)
            }
        }
    }

    pub(super) fn wants_bytes(&self) -> bool {
        either!(self, session => session.wants_bytes())
    }

    pub(super) fn wants_outputs(&self) -> bool {
        either!(self, session => session.wants_outputs())
    }

    pub(super) fn is_closing(&self) -> Option<Ended> {
        match self {
            Self::Stomp(session) => session.is_closing().cloned().map(Ended::Stomp),
            Self::OpenWire(session, _) => session.is_closing().cloned().map(Ended::OpenWire),
        }
    }

    pub(super) fn handle_bytes(&mut self, now: Duration, bytes: &mut BytesMut) {
        either!(self, session => session.handle_bytes(now, bytes));
    }

    pub(super) fn handle_output(&mut self, now: Duration, output: Output) {
        either!(self, session => session.handle_output(now, output));
    }

    /// OpenWire has no use for it: its clients acknowledge everything.
    pub(super) fn handle_written(&mut self) {
        if let Self::Stomp(session) = self {
            session.handle_written();
        }
    }

    pub(super) fn handle_broker_gone(&mut self, why: &str) {
        either!(self, session => session.handle_broker_gone(why));
    }

    pub(super) fn handle_timeout(&mut self, now: Duration) {
        either!(self, session => session.handle_timeout(now));
    }

    pub(super) fn handle_wake(&mut self) {
        if let Self::OpenWire(session, _) = self {
            session.handle_wake();
        }
    }

    pub(super) fn handle_read(&mut self, content: Option<Bytes>) {
        if let Self::OpenWire(session, _) = self {
            session.handle_read(content);
        }
    }

    pub(super) fn poll_login(&mut self) -> Option<Login> {
        either!(self, session => session.poll_login())
    }

    /// Somebody is let in, as this user, or is not.
    pub(super) fn handle_login(&mut self, now: Duration, verdict: Result<String, String>) {
        match self {
            Self::Stomp(session) => session.handle_login(now, verdict.map(drop)),
            Self::OpenWire(session, _) => session.handle_login(verdict),
        }
    }

    /// Whether the session has seen to it that its client may do this.
    pub(super) fn vouches_for(&self, command: &Command) -> bool {
        match self {
            Self::Stomp(_) => false,
            Self::OpenWire(session, _) => session.vouches_for(command),
        }
    }

    /// The connection to the broker is given up next.
    pub(super) fn handle_gone(&mut self) {
        if let Self::OpenWire(session, _) = self {
            session.handle_gone();
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        either!(self, session => session.poll_timeout())
    }

    pub(super) fn poll_requests(&mut self) -> Vec<Request> {
        either!(self, session => session.poll_requests())
    }

    pub(super) fn poll_read(&self) -> Option<(Lsn, u32)> {
        match self {
            Self::Stomp(_) => None,
            Self::OpenWire(session, _) => session.poll_read(),
        }
    }

    pub(super) fn take_bytes(&mut self, out: &mut BytesMut) {
        either!(self, session => session.take_bytes(out));
    }

    /// Waits until another connection has done something that concerns this one.
    pub(super) async fn woken(&self) {
        match self {
            Self::Stomp(_) => std::future::pending().await,
            Self::OpenWire(_, bell) => bell.rung().await,
        }
    }
}
