//! Durable subscriptions: what a topic keeps for a program that is away.

use std::fmt;
use std::sync::Arc;

use super::consumer::Consumer;
use super::error::SubscribeError;
use super::link::Link;
use crate::broker::command::{Command, KeepAs};
use crate::limits;
use crate::selector::Selector;

/// The durable subscriptions of one client; made by [`Connection::durable`].
///
/// A durable subscription has a name among those of its client. From its first consumer on it keeps
/// what is published on its topic and is wanted, whether it has a consumer or not: persistent
/// messages until they are acknowledged, whatever happens to the process and the machine, others
/// as long as the broker runs. A message is stored once, however many subscriptions keep it. It has
/// one consumer at a time, and ends by [`Durable::unsubscribe`] alone.
///
/// ```
/// # async fn example(connection: escrowmq::Connection) -> Result<(), Box<dyn std::error::Error>> {
/// let billing = connection.durable("billing");
/// let mut orders = billing.topic("orders").selecting("size = 'large'")?.subscribe("large").await?;
/// let order = orders.recv().await?;
/// order.acknowledge().await?;
/// orders.close().await?;
/// // It goes on keeping orders until it is told not to.
/// billing.unsubscribe("large").await?;
/// # Ok(())
/// # }
/// ```
///
/// [`Connection::durable`]: crate::Connection::durable
#[derive(Clone)]
pub struct Durable {
    link: Arc<Link>,
    client: Arc<str>,
}

/// What a durable subscription is to keep; made by [`Durable::topic`].
///
/// A subscription whose topic, selector or choice of what is local is another than before is made
/// anew: what it has kept goes.
#[derive(Clone)]
#[must_use = "nothing is subscribed to before `subscribe`"]
pub struct Keeping {
    link: Arc<Link>,
    client: Arc<str>,
    topic: Arc<str>,
    prefetch: u32,
    selector: Option<Arc<Selector>>,
    no_local: bool,
}

impl Durable {
    pub(super) fn new(link: &Arc<Link>, client: Arc<str>) -> Self {
        Self { link: Arc::clone(link), client }
    }

    /// What is published on a topic, all of it; or on all topics of a pattern: `*` is any one part
    /// of a name, `>` as the last any number of them. Each message tells its own topic.
    pub fn topic(&self, topic: impl Into<Arc<str>>) -> Keeping {
        Keeping {
            link: Arc::clone(&self.link),
            client: Arc::clone(&self.client),
            topic: topic.into(),
            prefetch: limits::EMBEDDED_PREFETCH,
            selector: None,
            no_local: false,
        }
    }

    /// Ends a subscription that has no consumer, and waits until all that it has kept is gone.
    ///
    /// # Errors
    /// Where there is no such subscription, it has a consumer, or transactions without an outcome
    /// have taken from it; or the broker has ended.
    ///
    /// # Dropping the future
    /// It may have ended or not.
    pub async fn unsubscribe(&self, name: &str) -> Result<(), SubscribeError> {
        let (client, name) = (Arc::clone(&self.client), Arc::from(name));
        let asked = self.link.ask_small(Command::EndKept { client, name, reader: None });
        self.link.answer(asked).await?;
        Ok(())
    }
}

impl Keeping {
    /// Of it, those messages alone that a selector matches, as for
    /// [`Connection::subscribe_selecting`](crate::Connection::subscribe_selecting): the others are
    /// not kept.
    ///
    /// # Errors
    /// [`SubscribeError::Selector`] where the text is no selector.
    pub fn selecting(self, selector: &str) -> Result<Self, SubscribeError> {
        Ok(Self { selector: Selector::parse_optional(selector)?, ..self })
    }

    /// Of it, nothing that connections of the same client publish.
    pub fn without_local(self) -> Self {
        Self { no_local: true, ..self }
    }

    /// With another prefetch than 100; at least 1.
    pub fn prefetch(self, prefetch: u32) -> Self {
        Self { prefetch: prefetch.clamp(1, limits::PREFETCH_MAX), ..self }
    }

    /// Begins to consume what the subscription of that name keeps. It comes into being if there is
    /// none.
    ///
    /// # Errors
    /// Where it has a consumer already, its topic has 1,024 durable subscriptions, its pattern is
    /// none, a name is empty or longer than 1,024 bytes; or the broker has ended.
    ///
    /// # Dropping the future
    /// There is no consumer; there may be a subscription.
    pub async fn subscribe(self, name: impl Into<Arc<str>>) -> Result<Consumer, SubscribeError> {
        let Self { link, client, topic, prefetch, selector, no_local } = self;
        let identify = link.ask_small(Command::Identify { client: Arc::clone(&client) });
        link.answer(identify).await?;
        let name = name.into();
        let reader = None;
        let keep = Box::new(KeepAs { client, name, topic, prefetch, selector, no_local, reader });
        Consumer::begin(&link, |subscription| Command::Keep { subscription, keep }).await
    }
}

impl fmt::Debug for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Durable").field("client", &self.client).finish_non_exhaustive()
    }
}

impl fmt::Debug for Keeping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeping").field("topic", &self.topic).finish_non_exhaustive()
    }
}
