//! A message as programs make it, and its way into the bytes that every wire of the broker reads.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::error::SendError;
use crate::identity::{Identity, Mark, Numbered};
use crate::ids::Millis;
use crate::limits;
use crate::message::{self, BodyKind, Content, DUPLICATE_ID, Durability, LargeHead, Priority};
use crate::schedule::{PlanError, When};
use crate::session::stomp::OF_THE_FRAME;

/// A message to be sent: a body, and properties beside it.
///
/// Text and bytes become one by `into`, so a string can be sent as it is. A message is persistent,
/// of priority 4, and never expires, unless it says otherwise.
///
/// ```
/// use escrowmq::Message;
/// use std::time::Duration;
///
/// let plain: Message = "some text".into();
/// let rich = Message::bytes(vec![1, 2, 3])
///     .property("colour", "red")
///     .priority(7)
///     .time_to_live(Duration::from_secs(3600));
/// ```
///
/// STOMP clients see properties as headers and the other way round. Names that STOMP gives a
/// meaning of its own (`destination`, `receipt` and the like) cannot be sent as properties.
#[derive(Clone, Debug)]
#[must_use = "a message does nothing before it is sent"]
pub struct Message {
    pub(super) body: Bytes,
    kind: BodyKind,
    properties: Vec<(String, String)>,
    priority: Priority,
    durability: Durability,
    expires: Option<Millis>,
    cron: Option<String>,
    delay: u64,
    period: u64,
    repeat: Option<u32>,
    once: Option<Known>,
}

/// By what a repetition of it is recognised.
#[derive(Clone, Debug)]
enum Known {
    Id(String),
    Number(Numbered),
}

impl Message {
    /// A message whose body is text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(BodyKind::Text, text.into().into())
    }

    /// A message whose body is bytes.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self::new(BodyKind::Bytes, bytes.into())
    }

    fn new(kind: BodyKind, body: Bytes) -> Self {
        Self {
            body,
            kind,
            properties: Vec::new(),
            priority: Priority::DEFAULT,
            durability: Durability::Persistent,
            expires: None,
            cron: None,
            delay: 0,
            period: 0,
            repeat: Some(0),
            once: None,
        }
    }

    /// Adds a property. A name may repeat; the first counts.
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((name.into(), value.into()));
        self
    }

    /// From 0 (last) to 9 (first); what is more counts as 9.
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = Priority::new(priority.min(9)).expect("9 at most");
        self
    }

    /// Lets the message be there once, however often it is sent: `id` is one that no other message
    /// of its queue or topic has. Sent again under it, on any connection and over whatever crash,
    /// it is confirmed, and nothing more happens, whatever it says and whether the first was
    /// consumed. In a transaction the id is taken by the commit, and free again after a rollback;
    /// meanwhile who else sends under it is refused ([`RefusalKind::Pending`]). The message is
    /// persistent whatever it asks for; a topic of which nobody keeps what is published refuses it
    /// ([`RefusalKind::NobodyKeeps`]), unless it is for later.
    ///
    /// [`RefusalKind::Pending`]: crate::RefusalKind::Pending
    /// [`RefusalKind::NobodyKeeps`]: crate::RefusalKind::NobodyKeeps
    ///
    /// An id has 1 byte at least. Consumers see it as the property `_AMQ_DUPL_ID`, by which STOMP
    /// and OpenWire clients send under ids of the same kind; a [property](Message::property) of
    /// that name that a program sets is one like any other. An id is remembered for 24 hours, if
    /// not so many come after it that there is no room: see [`Builder::ids`](crate::Builder::ids).
    /// [`Message::numbered`] remembers more for less; of both what was said last counts.
    ///
    /// ```
    /// use escrowmq::blocking::Broker;
    /// use escrowmq::{Destination, Message};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let directory = directory.path();
    /// let broker = Broker::open(directory)?;
    /// let connection = broker.connect()?;
    /// let orders = Destination::queue("orders");
    /// for _ in 0..2 {
    ///     let order = Message::text("two pounds of flour").once("order 17");
    ///     connection.send(&orders, order)?;
    /// }
    /// let mut consumer = connection.subscribe(&orders)?;
    /// consumer.recv()?.acknowledge()?;
    /// assert!(consumer.try_recv()?.is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn once(mut self, id: impl Into<String>) -> Self {
        self.once = Some(Known::Id(id.into()));
        self
    }

    /// Lets the message be there once, however often it is sent: `producer` names whoever sends, as
    /// nobody else in this store, and gives each of its messages another `sequence`, best by
    /// counting. Sent again with both the same, to whatever queue and over whatever crash, it is
    /// confirmed, and nothing more happens. In a transaction the sequence is taken by the commit,
    /// and free again after a rollback; meanwhile who else sends it is refused
    /// ([`RefusalKind::Pending`]). The message is persistent whatever it asks for; a topic where
    /// nobody keeps what is published refuses it ([`RefusalKind::NobodyKeeps`]), unless it is for
    /// later.
    ///
    /// Sequences may have gaps and come in any order; one that is too far behind what the producer
    /// has sent since, thousands at least, is refused ([`RefusalKind::BelowWindow`]): nobody knows
    /// then whether it was sent. A producer is remembered for 24 hours after its connection has
    /// ended, or less where memory is short.
    ///
    /// [`RefusalKind::Pending`]: crate::RefusalKind::Pending
    /// [`RefusalKind::NobodyKeeps`]: crate::RefusalKind::NobodyKeeps
    /// [`RefusalKind::BelowWindow`]: crate::RefusalKind::BelowWindow
    pub fn numbered(mut self, producer: impl AsRef<str>, sequence: u64) -> Self {
        let producer = Identity::of(producer.as_ref().as_bytes());
        self.once = Some(Known::Number(Numbered { producer, sequence }));
        self
    }

    /// What tells it from all others, if it is to be there once.
    pub(super) fn mark(&self) -> Option<Mark> {
        self.once.as_ref().map(|known| match known {
            Known::Id(id) => Mark::Name(Identity::of(id.as_bytes())),
            Known::Number(it) => Mark::Number(*it),
        })
    }

    /// Keeps the message in memory alone: it is gone with the process, and costs no disk. A body of
    /// more than 256 KiB is stored all the same.
    pub fn non_persistent(mut self) -> Self {
        self.durability = Durability::NonPersistent;
        self
    }

    /// When it is no longer wanted, to the millisecond: it is not delivered after that.
    pub fn expires_at(mut self, at: SystemTime) -> Self {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        // 0 is never, as on the wires.
        self.expires = Some(Millis(millis(since).max(1)));
        self
    }

    /// How long it is wanted, from now.
    pub fn time_to_live(self, time: Duration) -> Self {
        match SystemTime::now().checked_add(time) {
            Some(at) => self.expires_at(at),
            // So far away is never.
            None => self,
        }
    }

    /// Delivers it so much later than the broker takes it, to the millisecond; in a transaction, so
    /// much later than the commit. It is stored whatever it asks for, and counts for the limits of
    /// its queue from the beginning; its expiry counts from its delivery. To a topic it is
    /// published then, to all who are there then.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = millis(delay);
        self
    }

    /// Delivers it again and again: `times` more after the first time (`None` is without end),
    /// with `period` in between, which without a [`Message::delay`] comes before the first time,
    /// too. Each time it is a message of its own, with the property `scheduledJobId`. Of what falls
    /// into a time in which no broker runs one comes late, and the others in their time, so that it
    /// is as many in the end. Of bodies of 256 KiB at most. Where the broker is
    /// [operated](crate::Builder::operated), `escrowmq schedule` shows and ends what is repeated.
    pub fn repeat(mut self, period: Duration, times: Option<u32>) -> Self {
        (self.period, self.repeat) = (millis(period), times);
        self
    }

    /// Delivers it at the times of a cron expression, in UTC, for ever: minute, hour, day of the
    /// month, month, day of the week. Each time is the beginning of what [`Message::delay`] and
    /// [`Message::repeat`] say; those that come before that is over are left out. Otherwise as
    /// [`Message::repeat`].
    pub fn cron(mut self, expression: impl Into<String>) -> Self {
        self.cron = Some(expression.into());
        self
    }

    fn when(&self) -> Result<When, PlanError> {
        When::of(self.cron.as_deref(), self.delay, self.period, self.repeat)
    }

    /// Whether it comes again and again.
    pub(super) fn comes_again(&self) -> bool {
        matches!(self.when(), Ok(When::Again(_)))
    }

    /// Checks what the broker's codecs rely on.
    pub(super) fn check(&self) -> Result<(), SendError> {
        let wrong = |reason: String| SendError::Schedule { reason };
        self.when().map_err(|why| wrong(why.to_string()))?;
        let wrong = |name: &str, reason| SendError::Property { name: name.to_owned(), reason };
        let id = match &self.once {
            Some(Known::Id(id)) if id.is_empty() => {
                return Err(wrong(DUPLICATE_ID, "is an id that no other message has, and empty"));
            }
            Some(Known::Id(id)) => Some((DUPLICATE_ID, id.as_str())),
            Some(Known::Number(_)) | None => None,
        };
        let properties = self.properties.iter().map(|(name, value)| (&**name, &**value));
        let mut bytes = 0;
        for (index, (name, value)) in id.into_iter().chain(properties).enumerate() {
            bytes += name.len() + value.len() + 6;
            if name.is_empty() {
                return Err(wrong(name, "has no name"));
            }
            if OF_THE_FRAME.binary_search(&name).is_ok() {
                return Err(wrong(name, "has a name that is kept for the broker's own headers"));
            }
            if index >= limits::PROPERTIES_MAX || bytes > limits::PROPERTIES_BYTES_MAX {
                return Err(wrong(name, "is one too many: 256 and 63 KiB are the limits"));
            }
        }
        Ok(())
    }

    /// As the broker takes it, body and all.
    pub(super) fn whole(self) -> message::Message {
        let when = self.when().expect("checked before");
        let Self { body, kind, properties, priority, durability, expires, once, .. } = self;
        let properties = stored(once, &when, properties);
        let grouped = properties.iter().any(|(name, _)| name == message::GROUP_ID);
        let content = Content { kind, properties, body }.encode();
        message::Message { durability, priority, expires, when, grouped, content }
    }

    /// As the broker takes it beside a body that has gone ahead in pieces.
    pub(super) fn head(self) -> message::Message {
        let when = self.when().expect("checked before");
        let Self { body, kind, properties, priority, expires, once, .. } = self;
        let properties = stored(once, &when, properties);
        let grouped = properties.iter().any(|(name, _)| name == message::GROUP_ID);
        let content = LargeHead { kind, properties, bytes: body.len() as u64 }.encode();
        let durability = Durability::Persistent;
        message::Message { durability, priority, expires, when, grouped, content }
    }
}

/// Properties with those that say how it is sent: of its id the first counts, which is this one.
fn stored(
    once: Option<Known>,
    when: &When,
    mut properties: Vec<(String, String)>,
) -> Vec<(String, String)> {
    if let Some(Known::Id(id)) = once {
        properties.insert(0, (DUPLICATE_ID.to_owned(), id));
    }
    message::mark_scheduled(when, &mut properties);
    properties
}

/// What is longer than a clock can tell is as long as it can.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<&[u8]> for Message {
    fn from(bytes: &[u8]) -> Self {
        Self::bytes(bytes.to_vec())
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::bytes(bytes)
    }
}

impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Self {
        Self::bytes(bytes)
    }
}
