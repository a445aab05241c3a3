//! Other programs' way to an embedded broker: the listeners, on a thread of their own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::error::OpenError;
use crate::config::Config;
use crate::engine::Handle;
use crate::io::Clock;
use crate::limits;
use crate::protocol::stomp::Limits;
use crate::server::{self, Server, Shared};
use crate::session::stomp::{HeartBeat, SessionConfig};

/// Listeners that are open, if any are wanted.
pub(super) struct Listening(Option<(Runtime, Server)>);

impl Listening {
    pub(super) fn bind(config: &Config, listens: bool) -> Result<Self, OpenError> {
        if !listens {
            return Ok(Self(None));
        }
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("escrowmq-stomp")
            .enable_all()
            .build()
            .map_err(|error| OpenError::Start(error.to_string()))?;
        let listeners = config.listeners()?;
        let server = runtime.block_on(Server::bind(&listeners, config.limits.connections));
        let server = server.map_err(|error| OpenError::Listen(error.to_string()))?;
        Ok(Self(Some((runtime, server))))
    }

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let server = self.0.as_ref().map(|(_, server)| server);
        let addresses = server.and_then(|server| server.addresses().ok()).unwrap_or_default();
        addresses.into_iter().map(|(address, _)| address).collect()
    }

    pub(super) fn serve(
        self,
        config: &Config,
        (store_id, epoch): (u128, u64),
        handle: Handle,
        clock: Arc<dyn Clock>,
    ) -> Serving {
        let Some((runtime, server)) = self.0 else { return Serving(None) };
        let id_prefix = format!("{}-{:08x}", config.name, store_id as u32);
        let openwire = Arc::new(server::openwire_config(config, &id_prefix, epoch));
        let stomp = Arc::new(session_config(config, id_prefix));
        let (stop, stopping) = watch::channel(false);
        let task = runtime.spawn(server.serve(Shared { handle, stomp, openwire, clock }, stopping));
        Serving(Some((runtime, task, stop)))
    }
}

fn session_config(config: &Config, id_prefix: String) -> SessionConfig {
    let beat = Duration::from_millis(config.stomp.heart_beat_min);
    let default = SessionConfig::default();
    SessionConfig {
        id_prefix,
        limits: Limits { body_bytes: config.limits.message.bytes(), ..default.limits },
        heart_beat: HeartBeat { send: beat, receive: beat },
        connect_timeout: Duration::from_secs(config.stomp.connect_timeout),
        prefetch: config.stomp.prefetch,
        ..default
    }
}

/// Listeners at work.
pub(super) struct Serving(Option<(Runtime, JoinHandle<()>, watch::Sender<bool>)>);

impl Serving {
    /// Lets the connections say their last words, for the broker has ended.
    pub(super) fn end(self) {
        let Some((runtime, task, stop)) = self.0 else { return };
        let _ = stop.send(true);
        let longest = Duration::from_millis(limits::SERVER_END_MILLIS);
        let _ = runtime.block_on(async { tokio::time::timeout(longest, task).await });
        runtime.shutdown_background();
    }
}
