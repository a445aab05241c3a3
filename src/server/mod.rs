//! The async shell: listeners, and a task per connection that moves bytes, requests and outputs.
//!
//! Holds no rule of any protocol and none of the broker. A connection's task owns its socket; a
//! panic in one touches no other.

pub mod admin;
mod branches;
mod connection;
mod entry;
mod exposition;
mod graves;
pub mod metrics;
mod operator;
mod session;
mod socket;
pub mod tls;
pub mod words;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::config::{Config, Listener, Wire};
use crate::engine::Handle;
use crate::io::Clock;
use crate::protocol::stomp::Limits;
use crate::session::openwire::OpenWireConfig;
use crate::session::stomp::{HeartBeat, SessionConfig};

use self::socket::Socket;
pub use entry::{Entry, EntryError};

/// What every connection shares.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The way to the broker.
    pub handle: Handle,
    /// How STOMP sessions behave.
    pub stomp: Arc<SessionConfig>,
    /// How OpenWire sessions behave.
    pub openwire: Arc<OpenWireConfig>,
    /// The time, for heart-beats.
    pub clock: Arc<dyn Clock>,
    /// Who is let in.
    pub entry: Entry,
}

impl Shared {
    /// As the settings say, for the store of that id in that life.
    #[must_use]
    pub fn new(
        config: &Config,
        (store_id, epoch): (u128, u64),
        entry: Entry,
        (handle, clock): (Handle, Arc<dyn Clock>),
    ) -> Self {
        let beat = Duration::from_millis(config.stomp.heart_beat_min.max(1));
        let default = SessionConfig::default();
        let id_prefix = format!("{}-{:08x}", config.name, store_id as u32);
        let stomp = SessionConfig {
            id_prefix: id_prefix.clone(),
            login: entry.has_users(),
            limits: Limits { body_bytes: config.limits.message.bytes(), ..default.limits },
            heart_beat: HeartBeat { send: beat, receive: beat },
            connect_timeout: Duration::from_secs(config.stomp.connect_timeout),
            prefetch: config.stomp.prefetch,
            ..default
        };
        let openwire = OpenWireConfig {
            broker_name: config.name.clone(),
            broker_id: id_prefix,
            epoch,
            login: entry.has_users(),
            body_bytes: config.limits.message.bytes(),
            connect_timeout: Duration::from_secs(config.openwire.connect_timeout),
            inactivity: Duration::from_millis(config.openwire.inactivity),
            ..OpenWireConfig::default()
        };
        let (stomp, openwire) = (Arc::new(stomp), Arc::new(openwire));
        Self { handle, stomp, openwire, clock, entry }
    }
}

/// Why a listener cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {host}:{port}: {source}")]
pub struct BindError {
    host: String,
    port: u16,
    source: io::Error,
}

/// Listeners that are open, before anyone is served.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<(Listener, TcpListener)>,
    connections: Arc<Semaphore>,
}

impl Server {
    /// Opens all listeners, for at most so many connections together.
    ///
    /// # Errors
    /// When one cannot be opened: the address is in use, or not of this machine.
    pub async fn bind(listeners: &[Listener], connections: usize) -> Result<Self, BindError> {
        let mut open = Vec::new();
        for settings in listeners {
            let Listener { host, port, .. } = settings;
            let listener = TcpListener::bind((host.as_str(), *port)).await;
            let wrong = |source| BindError { host: host.clone(), port: *port, source };
            open.push((settings.clone(), listener.map_err(wrong)?));
        }
        let connections = connections.min(Semaphore::MAX_PERMITS);
        Ok(Self { listeners: open, connections: Arc::new(Semaphore::new(connections)) })
    }

    /// Where it listens, and what is spoken there.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn addresses(&self) -> io::Result<Vec<(&'static str, SocketAddr)>> {
        let address = |(settings, listener): &(Listener, TcpListener)| {
            Ok((settings.scheme(), listener.local_addr()?))
        };
        self.listeners.iter().map(address).collect()
    }

    /// Serves until `stop` turns true, then until every connection has said its last words.
    pub async fn serve(self, shared: Shared, stop: watch::Receiver<bool>) {
        let mut tasks = JoinSet::new();
        tasks.spawn(graves::dig(shared.clone(), stop.clone()));
        for (settings, listener) in self.listeners {
            let (shared, connections) = (shared.clone(), Arc::clone(&self.connections));
            tasks.spawn(accept((settings, listener), shared, connections, stop.clone()));
        }
        while tasks.join_next().await.is_some() {}
    }
}

async fn accept(
    (settings, listener): (Listener, TcpListener),
    shared: Shared,
    connections: Arc<Semaphore>,
    mut stop: watch::Receiver<bool>,
) {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            () = stopped(&mut stop) => break,
            // Finished tasks are collected as they end, so that they do not pile up.
            Some(ended) = tasks.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection's task failed");
                }
            }
            accepted = listener.accept() => match accepted {
                Ok((socket, peer)) => match Arc::clone(&connections).try_acquire_owned() {
                    Ok(permit) => {
                        let socket = shared.entry.socket(socket, settings.tls);
                        let socket = (socket, settings.wire);
                        tasks.spawn(serve_one(socket, peer, shared.clone(), permit));
                    }
                    Err(_) => tracing::warn!(%peer, "refused: too many connections"),
                },
                Err(error) => {
                    // Out of file descriptors, most likely: others go on, and some will end.
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
    drop(listener);
    while tasks.join_next().await.is_some() {}
}

/// Waits until the server shall stop, or nobody is left to say so.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn serve_one(
    (socket, wire): (Result<Socket, rustls::Error>, Wire),
    peer: SocketAddr,
    shared: Shared,
    permit: OwnedSemaphorePermit,
) {
    let Ok(connection) = shared.handle.connect() else { return };
    let id = connection.id();
    tracing::debug!(%peer, %id, "connected");
    let socket = match socket {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(%error, "TLS cannot begin"),
    };
    let end = connection::serve(socket, (wire, peer), connection, &shared).await;
    tracing::debug!(%peer, %id, %end, "disconnected");
    drop(permit);
}
