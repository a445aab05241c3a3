//! The same broker for programs without async code: every call waits on its thread.
//!
//! ```
//! use escrowmq::{Destination, blocking::Broker};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let directory = directory.path();
//! let broker = Broker::open(directory)?;
//! let connection = broker.connect()?;
//! let orders = Destination::queue("orders");
//! connection.send(&orders, "a durable message")?;
//! let mut consumer = connection.subscribe(&orders)?;
//! consumer.recv()?.acknowledge()?;
//! broker.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Panics
//!
//! Calls that wait panic on a thread that drives a tokio runtime's tasks, as those of tokio do:
//! they would keep other tasks from running. In `spawn_blocking` they are in their place.

mod consuming;
mod durable;
mod xa;

pub use self::consuming::Consuming;
pub use self::durable::{Durable, Keeping};
pub use self::xa::{Branch, Recovery, Suspended, Xa};

use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{Thread, current, park, park_timeout};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::error::{
    Ended, Failure, OpenError, OutcomeError, RecvError, SendError, SettleError, SubscribeError,
    TransactionError,
};
use super::{Builder, Message, Outcome};
use crate::message::Destination;

/// [`crate::Broker`], whose calls wait on their thread.
#[derive(Debug)]
pub struct Broker(super::Broker);

/// [`crate::Connection`], whose calls wait on their thread.
#[derive(Clone, Debug)]
pub struct Connection(super::Connection);

/// [`crate::Consumer`], whose calls wait on their thread.
#[derive(Debug)]
pub struct Consumer(super::Consumer);

/// [`crate::Delivery`], whose calls wait on their thread. It can be looked at like that one.
#[derive(Debug)]
#[must_use = "a delivery that is dropped goes back to its queue"]
pub struct Delivery(super::Delivery);

/// [`crate::Receipt`], to be waited for.
#[derive(Debug)]
#[must_use = "a message is durable only when its receipt says so"]
pub struct Receipt(super::Receipt);

/// [`crate::Transaction`], whose calls wait on their thread.
#[derive(Debug)]
#[must_use = "a transaction that is dropped is rolled back"]
pub struct Transaction(super::Transaction);

impl Transaction {
    /// See [`crate::Transaction::send`].
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn send(
        &self,
        to: impl Into<Destination>,
        message: impl Into<Message>,
    ) -> Result<(), SendError> {
        wait(self.0.send(to, message))
    }

    /// See [`crate::Transaction::acknowledge`].
    ///
    /// # Errors
    /// See [`TransactionError`].
    pub fn acknowledge(&self, delivery: &Delivery) -> Result<(), TransactionError> {
        wait(self.0.acknowledge(&delivery.0))
    }

    /// See [`crate::Transaction::commit`].
    ///
    /// # Errors
    /// See [`TransactionError`].
    pub fn commit(self) -> Result<(), TransactionError> {
        wait(self.0.commit())
    }

    /// See [`crate::Transaction::commit_as`].
    ///
    /// # Errors
    /// See [`TransactionError`].
    pub fn commit_as(self, id: impl AsRef<str>) -> Result<(), TransactionError> {
        wait(self.0.commit_as(id))
    }

    /// See [`crate::Transaction::rollback`].
    ///
    /// # Errors
    /// See [`TransactionError`].
    pub fn rollback(self) -> Result<(), TransactionError> {
        wait(self.0.rollback())
    }
}

impl Builder {
    /// [`Builder::open`], waiting on this thread.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_blocking(self) -> Result<Broker, OpenError> {
        wait(self.open()).map(Broker)
    }
}

impl Broker {
    /// See [`crate::Broker::open`].
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, OpenError> {
        super::Broker::builder(directory).open_blocking()
    }

    /// See [`crate::Broker::connect`].
    ///
    /// # Errors
    /// When the broker has ended.
    pub fn connect(&self) -> Result<Connection, Ended> {
        self.0.connect().map(Connection)
    }

    /// The broker itself, for what waits for nothing, and for async code beside.
    #[must_use]
    pub fn broker(&self) -> &super::Broker {
        &self.0
    }

    /// See [`crate::Broker::failed`]: for a thread that waits for nothing else.
    pub fn failed(&self) -> Failure {
        wait(self.0.failed())
    }

    /// The same for so long at most; `None` when the store has not failed.
    pub fn failed_timeout(&self, longest: Duration) -> Option<Failure> {
        wait_until(self.0.failed(), Instant::now().checked_add(longest))
    }

    /// See [`crate::Broker::close`].
    ///
    /// # Errors
    /// When the store has failed, now or before.
    pub fn close(self) -> Result<(), Failure> {
        wait(self.0.close())
    }
}

impl Connection {
    /// See [`crate::Connection::send`].
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn send(
        &self,
        to: impl Into<Destination>,
        message: impl Into<Message>,
    ) -> Result<(), SendError> {
        wait(self.0.send(to, message))
    }

    /// See [`crate::Connection::post`].
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn post(
        &self,
        to: impl Into<Destination>,
        message: impl Into<Message>,
    ) -> Result<Receipt, SendError> {
        wait(self.0.post(to, message)).map(Receipt)
    }

    /// See [`crate::Connection::close_producers`].
    ///
    /// # Errors
    /// When the broker has ended.
    pub fn close_producers(&self) -> Result<(), SendError> {
        wait(self.0.close_producers())
    }

    /// See [`crate::Connection::outcome_of`].
    ///
    /// # Errors
    /// See [`OutcomeError`].
    pub fn outcome_of(&self, id: impl AsRef<str>) -> Result<Outcome, OutcomeError> {
        wait(self.0.outcome_of(id))
    }

    /// See [`crate::Connection::transaction`].
    ///
    /// # Errors
    /// See [`TransactionError`].
    pub fn transaction(&self) -> Result<Transaction, TransactionError> {
        wait(self.0.transaction()).map(Transaction)
    }

    /// See [`crate::Connection::subscribe`].
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub fn subscribe(&self, from: impl Into<Destination>) -> Result<Consumer, SubscribeError> {
        wait(self.0.subscribe(from)).map(Consumer)
    }

    /// See [`crate::Connection::subscribe_with`].
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub fn subscribe_with(
        &self,
        from: impl Into<Destination>,
        prefetch: u32,
    ) -> Result<Consumer, SubscribeError> {
        wait(self.0.subscribe_with(from, prefetch)).map(Consumer)
    }

    /// See [`crate::Connection::subscribe_selecting`].
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub fn subscribe_selecting(
        &self,
        from: impl Into<Destination>,
        prefetch: u32,
        selector: &str,
    ) -> Result<Consumer, SubscribeError> {
        wait(self.0.subscribe_selecting(from, prefetch, selector)).map(Consumer)
    }
}

impl Receipt {
    /// Waits until the message is durable.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn wait(self) -> Result<(), SendError> {
        wait(self.0)
    }
}

impl Consumer {
    /// See [`crate::Consumer::recv`].
    ///
    /// # Errors
    /// See [`RecvError`].
    pub fn recv(&mut self) -> Result<Delivery, RecvError> {
        wait(self.0.recv()).map(Delivery)
    }

    /// The same for so long at most; `None` when nothing has come.
    ///
    /// # Errors
    /// See [`RecvError`].
    pub fn recv_timeout(&mut self, longest: Duration) -> Result<Option<Delivery>, RecvError> {
        let deadline = Instant::now().checked_add(longest);
        wait_until(self.0.recv(), deadline).transpose().map(|found| found.map(Delivery))
    }

    /// See [`crate::Consumer::try_recv`].
    ///
    /// # Errors
    /// See [`RecvError`].
    pub fn try_recv(&mut self) -> Result<Option<Delivery>, RecvError> {
        Ok(self.0.try_recv()?.map(Delivery))
    }

    /// See [`crate::Consumer::close`].
    ///
    /// # Errors
    /// When the broker has ended.
    pub fn close(self) -> Result<(), SettleError> {
        wait(self.0.close())
    }
}

impl Delivery {
    /// See [`crate::Delivery::reject`].
    ///
    /// # Errors
    /// See [`SettleError`].
    pub fn reject(self) -> Result<(), SettleError> {
        wait(self.0.reject())
    }

    /// See [`crate::Delivery::acknowledge`].
    ///
    /// # Errors
    /// See [`SettleError`].
    pub fn acknowledge(self) -> Result<(), SettleError> {
        wait(self.0.acknowledge())
    }

    /// See [`crate::Delivery::give_back`].
    ///
    /// # Errors
    /// See [`SettleError`].
    pub fn give_back(self) -> Result<(), SettleError> {
        wait(self.0.give_back())
    }
}

impl std::ops::Deref for Delivery {
    type Target = super::Delivery;

    fn deref(&self) -> &super::Delivery {
        &self.0
    }
}

fn wait<F: Future>(future: F) -> F::Output {
    wait_until(future, None).expect("there is no deadline")
}

/// Runs a future on this thread, which sleeps while that waits; `None` after the deadline.
fn wait_until<F: Future>(future: F, deadline: Option<Instant>) -> Option<F::Output> {
    assert_may_wait();
    let waker = Waker::from(Arc::new(Unpark(current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        match deadline {
            None => park(),
            Some(deadline) => match deadline.checked_duration_since(Instant::now()) {
                Some(left) if !left.is_zero() => park_timeout(left),
                _ => return None,
            },
        }
    }
}

/// Asks tokio, which knows its own threads, by a wait that is over at once.
fn assert_may_wait() {
    let (to, from) = oneshot::channel();
    let _ = to.send(());
    let _: Result<(), _> = from.blocking_recv();
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
