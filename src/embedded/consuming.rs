//! A consumer that is not like the others, before it begins.

use std::fmt;
use std::sync::Arc;

use super::consumer::Consumer;
use super::error::SubscribeError;
use super::link::Link;
use crate::broker::command::{Command, Standing};
use crate::limits;
use crate::message::Destination;
use crate::selector::Selector;

/// What a consumer is to be like; made by [`Connection::consumer`].
///
/// ```
/// # async fn example(connection: escrowmq::Connection) -> Result<(), Box<dyn std::error::Error>> {
/// # use escrowmq::Destination;
/// // It gets orders while it has room for more; only then do others.
/// let orders = connection.consumer(Destination::queue("orders"));
/// let mut first = orders.prefetch(10).priority(5).subscribe().await?;
/// let order = first.recv().await?;
/// # drop(order);
/// # Ok(())
/// # }
/// ```
///
/// [`Connection::consumer`]: crate::Connection::consumer
#[derive(Clone)]
#[must_use = "nothing is subscribed to before `subscribe`"]
pub struct Consuming {
    link: Arc<Link>,
    from: Destination,
    prefetch: u32,
    selector: Option<Arc<Selector>>,
    standing: Standing,
}

impl Consuming {
    pub(super) fn new(link: &Arc<Link>, from: Destination) -> Self {
        Self {
            link: Arc::clone(link),
            from,
            prefetch: limits::EMBEDDED_PREFETCH,
            selector: None,
            standing: Standing::default(),
        }
    }

    /// With another prefetch than 100: so many deliveries may be outstanding, which is to say
    /// handed to this consumer, waiting in it or received, and not yet settled. At least 1.
    ///
    /// More lets a consumer work on without waiting for the broker; less spreads a queue evenly
    /// over its consumers. It is also what bounds the memory: messages of up to 256 KiB wait in
    /// their consumer whole.
    pub fn prefetch(self, prefetch: u32) -> Self {
        Self { prefetch: prefetch.clamp(1, limits::PREFETCH_MAX), ..self }
    }

    /// Those messages alone that a selector matches, as for
    /// [`Connection::subscribe_selecting`](crate::Connection::subscribe_selecting).
    ///
    /// # Errors
    /// [`SubscribeError::Selector`] where the text is no selector.
    pub fn selecting(self, selector: &str) -> Result<Self, SubscribeError> {
        Ok(Self { selector: Selector::parse_optional(selector)?, ..self })
    }

    /// Before or behind the other consumers of its queue: those of a higher priority get messages
    /// first, while they may hold more; 0 by default. Those with selectors take turns with all, and
    /// so do those of patterns. STOMP clients say it in the header `activemq.priority`. Of a topic
    /// it means nothing.
    pub fn priority(mut self, priority: i8) -> Self {
        self.standing.priority = priority;
        self
    }

    /// With the queue to itself: the others get nothing until it ends. Of several that want it so,
    /// the one of the highest priority has it, then the one that came first. Of a topic it means
    /// nothing.
    pub fn exclusive(mut self) -> Self {
        self.standing.exclusive = true;
        self
    }

    /// Begins to consume.
    ///
    /// # Errors
    /// Where the broker refuses the destination, or has ended.
    ///
    /// # Dropping the future
    /// There is no consumer.
    pub async fn subscribe(self) -> Result<Consumer, SubscribeError> {
        let Self { link, from, prefetch, selector, standing } = self;
        let plain = standing == Standing::default();
        let command = |subscription| match plain {
            true => Command::Subscribe { subscription, from, prefetch, selector },
            false => Command::SubscribeAs { subscription, from, prefetch, selector, standing },
        };
        Consumer::begin(&link, command).await
    }
}

impl fmt::Debug for Consuming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consuming").field("from", &self.from).finish_non_exhaustive()
    }
}
