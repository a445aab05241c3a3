//! Other programs' way to an embedded broker: the STOMP listeners, on a thread of their own.

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
use crate::server::{Entry, Server, Shared};

/// Listeners that are open, if any are wanted.
pub(super) struct Listening(Option<(Runtime, Server, Entry)>);

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
        let entry = Entry::new(config).map_err(|error| OpenError::Listen(error.to_string()))?;
        Ok(Self(Some((runtime, server, entry))))
    }

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let addresses = self.0.as_ref().and_then(|(_, server, _)| server.addresses().ok());
        addresses.unwrap_or_default().into_iter().map(|(_, address)| address).collect()
    }

    pub(super) fn serve(
        self,
        config: &Config,
        life: (u128, u64),
        handle: Handle,
        clock: Arc<dyn Clock>,
    ) -> Serving {
        let Some((runtime, server, entry)) = self.0 else { return Serving(None) };
        let shared = Shared::new(config, life, entry, (handle, clock));
        let (stop, stopping) = watch::channel(false);
        let task = runtime.spawn(server.serve(shared, stopping));
        Serving(Some((runtime, task, stop)))
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
