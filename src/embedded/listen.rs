//! Others' way to an embedded broker: the listeners for their programs, and the socket for the
//! operator's commands, on a thread of their own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::builder::Plan;
use super::error::OpenError;
use crate::backup::Source;
use crate::engine::Handle;
use crate::io::real::ADMIN_SOCKET_NAME;
use crate::limits;
use crate::server::admin::{Admin, Backups};
use crate::server::{Entry, Server, Shared};

/// What is open to others, if anything is to be.
pub(super) struct Listening {
    /// Where there is none, nothing is.
    runtime: Option<Runtime>,
    server: Option<(Server, Entry)>,
    admin: Option<Admin>,
}

impl Listening {
    /// Opens the listeners.
    pub(super) fn bind(plan: &Plan) -> Result<Self, OpenError> {
        if !plan.listens && !plan.operated {
            return Ok(Self { runtime: None, server: None, admin: None });
        }
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("escrowmq-others")
            .enable_all()
            .build()
            .map_err(|error| OpenError::Start(error.to_string()))?;
        let server = if plan.listens { Some(listeners(&runtime, plan)?) } else { None };
        Ok(Self { runtime: Some(runtime), server, admin: None })
    }

    /// Opens the operator's socket, when the directory is the broker's.
    pub(super) fn operate(&mut self, plan: &Plan) -> Result<(), OpenError> {
        let Some(runtime) = self.runtime.as_ref().filter(|_| plan.operated) else { return Ok(()) };
        let _inside = runtime.enter();
        let path = plan.config.data.join(ADMIN_SOCKET_NAME);
        let admin = Admin::bind(&path).map_err(|error| {
            OpenError::Listen(format!("no socket for operators at {}: {error}", path.display()))
        });
        self.admin = Some(admin?);
        Ok(())
    }

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let addresses = self.server.as_ref().and_then(|(server, _)| server.addresses().ok());
        addresses.unwrap_or_default().into_iter().map(|(_, address)| address).collect()
    }

    pub(super) fn serve(
        self,
        plan: &Plan,
        life: (u128, u64),
        source: Source,
        handle: Handle,
    ) -> Serving {
        let Some(runtime) = self.runtime else { return Serving(None) };
        let (stop, stopping) = watch::channel(false);
        let clock = || Arc::clone(&plan.clock);
        let server = self.server.map(|(server, entry)| {
            let shared = Shared::new(&plan.config, life, entry, (handle.clone(), clock()));
            runtime.spawn(server.serve(shared, stopping.clone()))
        });
        let admin = self.admin.map(|admin| {
            let backups = Backups { source, data: plan.config.data.clone(), clock: clock() };
            runtime.spawn(admin.serve(handle, backups, stopping))
        });
        Serving(Some((runtime, server.into_iter().chain(admin).collect(), stop)))
    }
}

fn listeners(runtime: &Runtime, plan: &Plan) -> Result<(Server, Entry), OpenError> {
    let listeners = plan.config.listeners()?;
    let server = runtime.block_on(Server::bind(&listeners, plan.config.limits.connections));
    let server = server.map_err(|error| OpenError::Listen(error.to_string()))?;
    let entry = Entry::new(&plan.config).map_err(|error| OpenError::Listen(error.to_string()))?;
    Ok((server, entry))
}

/// What is open to others, at work.
pub(super) struct Serving(Option<(Runtime, Vec<JoinHandle<()>>, watch::Sender<bool>)>);

impl Serving {
    /// Lets the connections say their last words, for the broker has ended.
    pub(super) fn end(self) {
        let Some((runtime, tasks, stop)) = self.0 else { return };
        let _ = stop.send(true);
        let longest = Duration::from_millis(limits::SERVER_END_MILLIS);
        let all = async {
            for task in tasks {
                let _ = task.await;
            }
        };
        let _ = runtime.block_on(async { tokio::time::timeout(longest, all).await });
        runtime.shutdown_background();
    }
}
