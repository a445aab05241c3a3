//! A broker in a program's own process.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::sync::watch;

use super::builder::Builder;
use super::connection::Connection;
use super::error::{Ended, Failure, OpenError};
use super::life::Opened;
use super::link::{Life, Way};
use crate::engine::StopError;

/// A broker with its store, in this process.
///
/// It runs on threads of its own, and needs no runtime: its futures can be awaited on any. It ends
/// with [`close`](Broker::close), or when it is dropped. Connections that are left then get
/// [`Ended::Closed`].
///
/// A failure of the store ends the broker and not the program: nothing more is confirmed, and every
/// call, those that wait already too, is answered with [`Ended::Failed`]. [`Broker::open`] on the
/// same directory then finds everything that was confirmed.
///
/// # Dropping it
///
/// A drop waits for nothing, and so may happen in an async task. The broker ends cleanly beside the
/// program, and if the program ends first, that is no worse than a crash: what was confirmed is
/// durable. Until it has ended, its directory is in use.
pub struct Broker {
    way: Way,
    addresses: Vec<SocketAddr>,
}

impl Broker {
    /// Opens the broker whose store is in `directory`, and makes it where there is none, with the
    /// default settings.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(directory: impl Into<PathBuf>) -> Result<Self, OpenError> {
        Self::builder(directory).open().await
    }

    /// The same with settings.
    pub fn builder(directory: impl Into<PathBuf>) -> Builder {
        Builder::new(directory.into())
    }

    pub(super) fn new(opened: Opened) -> Self {
        let (way, addresses) = opened.own();
        Self { way, addresses }
    }

    /// A connection to it.
    ///
    /// # Errors
    /// When the broker has ended: its store failed. As this waits for nothing, it may not say why
    /// yet; [`Broker::failed`] does.
    pub fn connect(&self) -> Result<Connection, Ended> {
        Connection::new(&self.way)
    }

    /// Where it [listens](Builder::listen) for other programs, in the order in which that was
    /// asked for.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Waits until the broker's store has failed, and tells why; for a program that wants to hear
    /// of it at once, and perhaps open it again. Never ready otherwise.
    pub async fn failed(&self) -> Failure {
        let mut life = self.way.life.clone();
        let failed = |life: &Life| matches!(life, Life::Failed(_) | Life::Over(Err(_)));
        if let Ok(life) = life.wait_for(failed).await
            && let Life::Failed(failure) | Life::Over(Err(failure)) = &*life
        {
            return failure.clone();
        }
        std::future::pending().await
    }

    /// Ends the broker, and waits until its store is at rest, its last checkpoint is made, and the
    /// directory is free. What was handed in before and is not confirmed then is unknown, as it is
    /// after a crash: await receipts before closing.
    ///
    /// # Errors
    /// When the store has failed, now or before. Everything that was confirmed is durable all the
    /// same.
    ///
    /// # Dropping the future
    /// The broker ends all the same.
    pub async fn close(self) -> Result<(), Failure> {
        self.way.handle.stop();
        over(self.way.life.clone()).await
    }
}

async fn over(mut life: watch::Receiver<Life>) -> Result<(), Failure> {
    match life.wait_for(|life| matches!(life, Life::Over(_))).await.as_deref() {
        Ok(Life::Over(result)) => result.clone(),
        // Nobody lets go of a life before it is over.
        Ok(_) | Err(_) => Err(Failure::new(StopError::Panic("escrowmq"))),
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.way.handle.stop();
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}
