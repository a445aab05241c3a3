//! Durable subscriptions, whose calls wait on their thread.

use std::sync::Arc;

use super::{Connection, Consumer, wait};
use crate::embedded::{self, SubscribeError};

/// [`crate::Durable`], whose calls wait on their thread.
///
/// ```
/// use escrowmq::{Destination, blocking::Broker};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let directory = directory.path();
/// let broker = Broker::open(directory)?;
/// let connection = broker.connect()?;
/// let billing = connection.durable("billing");
/// billing.topic("orders").subscribe("all")?.close()?;
/// connection.send(Destination::topic("orders"), "an order")?;
/// let mut orders = billing.topic("orders").subscribe("all")?;
/// orders.recv()?.acknowledge()?;
/// orders.close()?;
/// billing.unsubscribe("all")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Durable(embedded::Durable);

/// [`crate::Keeping`], whose calls wait on their thread.
#[derive(Clone, Debug)]
#[must_use = "nothing is subscribed to before `subscribe`"]
pub struct Keeping(embedded::Keeping);

impl Connection {
    /// See [`crate::Connection::durable`].
    #[must_use]
    pub fn durable(&self, client: impl Into<Arc<str>>) -> Durable {
        Durable(self.0.durable(client))
    }
}

impl Durable {
    /// See [`crate::Durable::topic`].
    pub fn topic(&self, topic: impl Into<Arc<str>>) -> Keeping {
        Keeping(self.0.topic(topic))
    }

    /// See [`crate::Durable::unsubscribe`].
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub fn unsubscribe(&self, name: &str) -> Result<(), SubscribeError> {
        wait(self.0.unsubscribe(name))
    }
}

impl Keeping {
    /// See [`crate::Keeping::selecting`].
    ///
    /// # Errors
    /// [`SubscribeError::Selector`] where the text is no selector.
    pub fn selecting(self, selector: &str) -> Result<Self, SubscribeError> {
        self.0.selecting(selector).map(Self)
    }

    /// See [`crate::Keeping::without_local`].
    pub fn without_local(self) -> Self {
        Self(self.0.without_local())
    }

    /// See [`crate::Keeping::prefetch`].
    pub fn prefetch(self, prefetch: u32) -> Self {
        Self(self.0.prefetch(prefetch))
    }

    /// See [`crate::Keeping::subscribe`].
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub fn subscribe(self, name: impl Into<Arc<str>>) -> Result<Consumer, SubscribeError> {
        wait(self.0.subscribe(name)).map(Consumer)
    }
}
