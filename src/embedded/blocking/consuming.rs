//! Consumers that are not like the others, whose calls wait on their thread.

use super::{Connection, Consumer, wait};
use crate::embedded::{self, SubscribeError};
use crate::message::Destination;

/// [`crate::Consuming`], whose calls wait on their thread.
#[derive(Clone, Debug)]
#[must_use = "nothing is subscribed to before `subscribe`"]
pub struct Consuming(embedded::Consuming);

impl Connection {
    /// See [`crate::Connection::consumer`].
    pub fn consumer(&self, from: impl Into<Destination>) -> Consuming {
        Consuming(self.0.consumer(from))
    }
}

impl Consuming {
    /// See [`crate::Consuming::prefetch`].
    pub fn prefetch(self, prefetch: u32) -> Self {
        Self(self.0.prefetch(prefetch))
    }

    /// See [`crate::Consuming::selecting`].
    ///
    /// # Errors
    /// [`SubscribeError::Selector`] where the text is no selector.
    pub fn selecting(self, selector: &str) -> Result<Self, SubscribeError> {
        self.0.selecting(selector).map(Self)
    }

    /// See [`crate::Consuming::priority`].
    pub fn priority(self, priority: i8) -> Self {
        Self(self.0.priority(priority))
    }

    /// See [`crate::Consuming::exclusive`].
    pub fn exclusive(self) -> Self {
        Self(self.0.exclusive())
    }

    /// See [`crate::Consuming::subscribe`].
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub fn subscribe(self) -> Result<Consumer, SubscribeError> {
        wait(self.0.subscribe()).map(Consumer)
    }
}
