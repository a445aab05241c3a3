//! Messages that live in memory, or whose heads do.

use bytes::Bytes;

use crate::broker::command::MessageId;
use crate::broker::subject::Envelope;
use crate::ids::{Body, Millis};
use crate::limits;

/// A non-persistent message, or one on its way through a topic.
#[derive(Clone, Debug)]
pub struct Volatile {
    /// When the broker took it.
    pub at: Millis,
    /// When it is no longer wanted.
    pub expires: Option<Millis>,
    /// 0 to 9.
    pub priority: u8,
    /// What its sender asked for.
    pub persistent: bool,
    /// It lies in a queue because it was published on a topic.
    pub published: bool,
    /// It came together with what is in the log, and leaves no earlier than that is durable.
    pub with_log: bool,
    /// Where its body lies, if that is in pieces: in the log, as long as anybody holds it.
    pub body: Option<Body>,
    /// Properties, and the body otherwise.
    pub content: Bytes,
}

impl Volatile {
    /// What is known of it without its content, given its number in a life of the broker.
    #[must_use]
    pub fn envelope(&self, epoch: u64, number: u64) -> Envelope {
        Envelope {
            id: MessageId::Volatile { epoch, number },
            persistent: self.persistent,
            priority: self.priority,
            at: self.at,
            expires: self.expires,
        }
    }

    /// Bytes of memory that each holder of it counts for: its content, and about what its place
    /// costs.
    #[must_use]
    pub fn charge(&self) -> u64 {
        self.content.len() as u64 + limits::VOLATILE_OVERHEAD_BYTES
    }

    /// Bytes for which it counts in the limit of a topic: its body, too.
    #[must_use]
    pub fn load(&self) -> u64 {
        self.charge() + self.body_bytes()
    }

    /// Bytes of a body in pieces.
    #[must_use]
    pub fn body_bytes(&self) -> u64 {
        self.body.map_or(0, Body::bytes)
    }
}
