//! The async shell: listeners, and a task per connection that moves bytes, requests and outputs.
//!
//! Holds no rule of any protocol and none of the broker. A connection's task owns its socket; a
//! panic in one touches no other.

pub mod admin;
mod branches;
mod connection;
mod exposition;
mod graves;
pub mod metrics;
mod operator;
mod session;
pub mod words;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::config::{Config, Listener, Wire};
use crate::engine::Handle;
use crate::io::Clock;
use crate::session::openwire::OpenWireConfig;
use crate::session::stomp::{Pieces, SessionConfig};

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
}

/// Why a listener cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {host}:{port}: {source}")]
pub struct BindError {
    host: String,
    port: u16,
    source: io::Error,
}

/// How OpenWire sessions behave under these settings. `id_prefix` tells the store from others, and
/// `epoch` this life of it.
#[must_use]
pub fn openwire_config(config: &Config, id_prefix: &str, epoch: u64) -> OpenWireConfig {
    OpenWireConfig {
        broker_name: config.name.clone(),
        broker_id: id_prefix.to_owned(),
        epoch,
        body_bytes: config.limits.message.bytes(),
        connect_timeout: Duration::from_secs(config.openwire.connect_timeout),
        inactivity: Duration::from_millis(config.openwire.inactivity),
        pieces: Pieces::default(),
        registry: Arc::default(),
    }
}

/// Listeners that are open, before anyone is served.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<(TcpListener, Wire)>,
    connections: Arc<Semaphore>,
}

impl Server {
    /// Opens all listeners, for at most so many connections together.
    ///
    /// # Errors
    /// When one cannot be opened: the address is in use, or not of this machine.
    pub async fn bind(listeners: &[Listener], connections: usize) -> Result<Self, BindError> {
        let mut open = Vec::new();
        for Listener { wire, host, port } in listeners {
            let listener = TcpListener::bind((host.as_str(), *port)).await;
            let wrong = |source| BindError { host: host.clone(), port: *port, source };
            open.push((listener.map_err(wrong)?, *wire));
        }
        let connections = connections.min(Semaphore::MAX_PERMITS);
        Ok(Self { listeners: open, connections: Arc::new(Semaphore::new(connections)) })
    }

    /// Where it listens, and what it speaks there.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn addresses(&self) -> io::Result<Vec<(SocketAddr, Wire)>> {
        let address = |(listener, wire): &(TcpListener, Wire)| Ok((listener.local_addr()?, *wire));
        self.listeners.iter().map(address).collect()
    }

    /// Serves until `stop` turns true, then until every connection has said its last words.
    pub async fn serve(self, shared: Shared, stop: watch::Receiver<bool>) {
        let mut tasks = JoinSet::new();
        tasks.spawn(graves::dig(shared.clone(), stop.clone()));
        for (listener, wire) in self.listeners {
            let (shared, connections) = (shared.clone(), Arc::clone(&self.connections));
            tasks.spawn(accept((listener, wire), shared, connections, stop.clone()));
        }
        while tasks.join_next().await.is_some() {}
    }
}

async fn accept(
    (listener, wire): (TcpListener, Wire),
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
                        tasks.spawn(serve_one((socket, wire), peer, shared.clone(), permit));
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
    (socket, wire): (TcpStream, Wire),
    peer: SocketAddr,
    shared: Shared,
    permit: OwnedSemaphorePermit,
) {
    let Ok(connection) = shared.handle.connect() else { return };
    let id = connection.id();
    tracing::debug!(%peer, %id, "connected");
    let end = connection::serve(socket, wire, connection, &shared).await;
    tracing::debug!(%peer, %id, %end, "disconnected");
    drop(permit);
}
