//! A message in the hands of a program, until it says what became of it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::error::SettleError;
use super::link::Link;
use crate::broker::command::{self, BadMessageId, Command, Outcome, Which};
use crate::ids::{Millis, SubscriptionId, Tag};
use crate::message::{BodyKind, Content, Destination, GROUP_ID, SCHEDULED_JOB};

/// Names a message for as long as its store exists; the same at each redelivery. Other wires show
/// it as the end of their message ids, and `escrowmq queue browse`, where the broker is
/// [operated](crate::Builder::operated), as it is displayed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub(super) command::MessageId);

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Text that names no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct MessageIdError(#[from] BadMessageId);

impl std::str::FromStr for MessageId {
    type Err = MessageIdError;

    fn from_str(text: &str) -> Result<Self, MessageIdError> {
        Ok(Self(text.parse()?))
    }
}

/// A message that is lent to a consumer until it is settled.
///
/// [Acknowledge](Delivery::acknowledge) it when its work is done. A delivery that is dropped
/// without a word, because of an early return, a panic or a cancelled task, goes back to its place
/// in the queue as by [`give_back`](Delivery::give_back), and is delivered again, marked as
/// [`redelivered`](Delivery::is_redelivered): a message never gets stuck, and whoever drops one
/// that he cannot handle sees it again at once.
///
/// It stays lent only while its [`Consumer`](crate::Consumer) lives.
#[must_use = "a delivery that is dropped goes back to its queue"]
pub struct Delivery {
    link: Arc<Link>,
    about: command::Delivery,
    content: Content,
    /// What becomes of it is said already.
    settled: AtomicBool,
}

impl Delivery {
    pub(super) fn new(
        link: &Arc<Link>,
        mut about: command::Delivery,
        mut content: Content,
    ) -> Self {
        let stored = std::mem::take(&mut about.content);
        if let Some(dead) = &about.dead {
            content.properties.splice(0..0, dead.properties(&stored));
        }
        let properties = content.properties.iter_mut();
        for (_, job) in properties.filter(|(name, job)| name == SCHEDULED_JOB && job.is_empty()) {
            *job = about.message.to_string();
        }
        Self { link: Arc::clone(link), about, content, settled: AtomicBool::new(false) }
    }

    pub(super) fn tag(&self) -> Tag {
        self.about.tag
    }

    pub(super) fn is_of(&self, link: &Arc<Link>) -> bool {
        Arc::ptr_eq(&self.link, link)
    }

    /// Somebody else says what becomes of it.
    pub(super) fn hand_over(&self) -> (SubscriptionId, Tag) {
        self.settled.store(true, Ordering::Relaxed);
        (self.about.subscription, self.about.tag)
    }

    /// Consumes the message, and waits until that is durable: it never comes again.
    ///
    /// # Errors
    /// [`SettleError::NotLent`] where the consumer has ended before: the message comes again. With
    /// [`SettleError::Ended`] it may come again.
    ///
    /// # Dropping the future
    /// Polled once, it has acknowledged; before, the message goes back to the queue.
    pub async fn acknowledge(self) -> Result<(), SettleError> {
        self.settle(Outcome::Accepted).await
    }

    /// Gives the message up: it is set apart at once, as one that has come back too often, and
    /// comes to nobody who reads this queue again. Where to, [`Redelivery`](crate::Redelivery)
    /// says, and [`Delivery::property`] what its reader there finds; by that, too, one that is not
    /// persistent is removed. Waits until that is durable. Of a topic it is gone, and in a queue
    /// where messages are set apart it only comes back.
    ///
    /// # Errors
    /// As of [`Delivery::acknowledge`].
    pub async fn reject(self) -> Result<(), SettleError> {
        self.settle(Outcome::Rejected).await
    }

    /// Gives the message back to its place in the queue: it is delivered again, to whoever is next,
    /// and its [`attempt`](Delivery::attempt) counts one more. Waits until that is durable. Of a
    /// topic it is gone.
    ///
    /// # Errors
    /// As of [`Delivery::acknowledge`].
    pub async fn give_back(self) -> Result<(), SettleError> {
        self.settle(Outcome::Returned).await
    }

    async fn settle(self, outcome: Outcome) -> Result<(), SettleError> {
        self.settled.store(true, Ordering::Relaxed);
        let asked = self.link.ask_small(self.settlement(outcome));
        self.link.answer(asked).await?;
        Ok(())
    }

    fn settlement(&self, outcome: Outcome) -> Command {
        let (subscription, tag) = (self.about.subscription, self.about.tag);
        Command::Settle { subscription, which: Which::One(tag), outcome }
    }

    /// Names the message.
    #[must_use]
    pub fn id(&self) -> MessageId {
        MessageId(self.about.message)
    }

    /// The body. To keep it beyond the delivery, clone it: that copies no bytes.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.content.body
    }

    /// The body as text; `None` where it is no UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.content.body).ok()
    }

    /// Whether it was sent as text. A STOMP client that sends a length sends bytes, even of a text.
    #[must_use]
    pub fn is_text(&self) -> bool {
        self.content.kind == BodyKind::Text
    }

    /// The first value of a property; STOMP clients know them as headers. One that was set apart
    /// says why in `dlqDeliveryFailureCause`, and from where in `originalDestination`, as
    /// `queue://` and a name, or `topic://` of what a topic has kept; whatever its sender has said
    /// there comes after that.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&str> {
        self.content.property(name)
    }

    /// All properties, names and values, in the order in which they were given.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        self.content.properties.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Where it was sent to.
    #[must_use]
    pub fn destination(&self) -> &Destination {
        &self.about.from
    }

    /// Whether it may have been delivered before: perhaps too often so after a crash, and never too
    /// seldom.
    #[must_use]
    pub fn is_redelivered(&self) -> bool {
        self.about.redelivered
    }

    /// This is the how-manieth delivery, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.about.attempt
    }

    /// Whether it is the first message of its group (the property `JMSXGroupID`) that this consumer
    /// gets, or nobody knows whether it is: what it remembers of the group may be out of date.
    #[must_use]
    pub fn is_first_of_group(&self) -> bool {
        self.about.first_of_group && self.property(GROUP_ID).is_some()
    }

    /// 0 to 9.
    #[must_use]
    pub fn priority(&self) -> u8 {
        self.about.priority
    }

    /// Whether it outlives the process.
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        self.about.persistent
    }

    /// When the broker took it, to the millisecond.
    #[must_use]
    pub fn sent_at(&self) -> SystemTime {
        time(self.about.at)
    }

    /// When it is no longer wanted, if ever.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.about.expires.map(time)
    }
}

/// A time that the system's clock cannot tell is as late as a clock may say.
pub(super) fn time(at: Millis) -> SystemTime {
    let longest = Duration::from_secs(u64::from(u32::MAX));
    UNIX_EPOCH.checked_add(Duration::from_millis(at.0)).unwrap_or(UNIX_EPOCH + longest)
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !*self.settled.get_mut() {
            self.link.leave(self.settlement(Outcome::Returned));
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("Delivery");
        f.field("id", &self.about.message).field("from", &self.about.from);
        f.field("attempt", &self.about.attempt).field("bytes", &self.content.body.len());
        f.finish_non_exhaustive()
    }
}
