//! Browsing: a look at any part of a queue that disturbs nobody.
//!
//! Stateless between pages: who browses goes on from the spot the last page ended with. A page is
//! what the queue holds in one moment, waiting and lent; contents stay where they lie, but for
//! non-persistent ones, which have no other place.

use std::sync::Arc;

use bytes::Bytes;

use crate::broker::Broker;
use crate::broker::command::{MessageId, Refusal, Reply};
use crate::broker::dead::DeadLetter;
use crate::broker::fact::{Asker, Change, Fact, Page, PageWish, Purpose, Spot};
use crate::broker::walk::{What, place_before};
use crate::ids::{Body, DueTime, Lsn, Millis, QueueId};
use crate::limits;

/// A browse that waits for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Browse {
    /// Who wants to know.
    pub asker: Asker,
    /// Strictly after this message; `None` is the head.
    pub after: Option<Spot>,
}

/// A piece of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Browsed {
    /// The queue as it was: a later one of the same name is another.
    pub queue: QueueId,
    /// In the order of delivery.
    pub messages: Vec<Browsable>,
    /// From where to go on; `None` at the end.
    pub next: Option<Spot>,
}

/// A message as a browse shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Browsable {
    /// Its place in the queue.
    pub spot: Spot,
    /// Its name.
    pub id: MessageId,
    /// 0 to 9.
    pub priority: u8,
    /// When the broker took it.
    pub at: Millis,
    /// When it is no longer wanted.
    pub expires: Option<Millis>,
    /// How often it came back from a consumer.
    pub returns: u32,
    /// It may have been delivered before.
    pub redelivered: bool,
    /// A consumer holds it, or a transaction.
    pub lent: bool,
    /// Of `lent`: a transaction that has no outcome yet has settled it.
    pub settled: bool,
    /// It is not handed out before.
    pub due: Option<Millis>,
    /// Why it was set apart, if it was.
    pub dead: Option<Arc<DeadLetter>>,
    /// The topic on which it was published, where its queue reads that.
    pub origin: Option<Arc<str>>,
    /// Bytes of its body in whole KiB, where that is in pieces: its content is a head that says how
    /// many they are.
    pub pieces: Option<u64>,
    /// Its content.
    pub content: Held,
}

/// Where a message's content is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// In the log, as the payload of the frame born there.
    Log {
        /// Its birth.
        birth: Lsn,
        /// Bytes of the frame.
        size: u32,
    },
    /// Here: it lives in memory alone.
    Memory(Bytes),
}

impl Broker {
    pub(super) fn decide_browse(
        &self,
        browse: Browse,
        queue: &str,
        limit: usize,
        facts: &mut Vec<Fact>,
    ) -> Result<(), Refusal> {
        let queue = *self.names.get(queue).ok_or_else(|| Refusal::NoSuchQueue(queue.into()))?;
        let limit = limit.clamp(1, limits::STEP_MESSAGES_MAX);
        facts.push(Fact::Memory(Change::Want(browse.wish(queue, limit))));
        Ok(())
    }

    /// Shows what a page has brought.
    pub(super) fn state_browsed(&self, page: &Page, browse: Browse, facts: &mut Vec<Fact>) {
        let id = page.request.queue;
        let asker = browse.asker;
        let Some(queue) = self.queues.get(&id) else {
            let result = Err(Refusal::NoSuchQueue("that was browsed, any more".into()));
            return facts.push(Fact::Memory(Change::Tell { asker, result }));
        };
        let (mut messages, mut bytes) = (Vec::new(), 0);
        let next = self.walk(page, browse.after, |seen| {
            let lent = seen.lent;
            let spot = seen.spot;
            messages.push(match (spot, seen.what) {
                (Spot::Durable(place), What::Durable(entry)) => Browsable {
                    spot,
                    id: MessageId::Durable(entry.birth),
                    priority: 9 - place.rank,
                    at: entry.at,
                    expires: entry.expires,
                    returns: entry.returns,
                    redelivered: self.is_seen(queue, place, &entry),
                    lent,
                    settled: entry.held,
                    due: entry.due.map(DueTime::millis),
                    dead: self.dead_letter(&queue.row.name, &entry),
                    origin: queue.origin(entry.shared),
                    pieces: entry.upload.map(Body::bytes),
                    content: Held::Log { birth: entry.birth, size: entry.size },
                },
                (Spot::Volatile(place), What::Volatile(message, returns)) => {
                    bytes += message.content.len();
                    Browsable {
                        spot,
                        id: MessageId::Volatile { epoch: self.epoch(), number: place.number },
                        priority: message.priority,
                        at: message.at,
                        expires: message.expires,
                        returns,
                        redelivered: returns > 0,
                        lent,
                        settled: false,
                        due: None,
                        dead: None,
                        origin: queue.origin(message.published),
                        pieces: None,
                        content: Held::Memory(message.content.clone()),
                    }
                }
                (Spot::Durable(_), What::Volatile(..)) | (Spot::Volatile(_), What::Durable(_)) => {
                    unreachable!("a spot and what lies there are of one sequence")
                }
            });
            // What is shown here stays in memory until it is told.
            bytes < limits::BROWSE_BYTES_MAX
        });
        let browsed = Browsed { queue: id, messages, next };
        let result = Ok(Reply::Browsed(browsed));
        facts.push(Fact::Memory(Change::Tell { asker, result }));
    }
}

impl Browse {
    fn wish(self, queue: QueueId, limit: usize) -> PageWish {
        let purpose = Purpose::Browse(self);
        PageWish { queue, after: place_before(self.after), limit, purpose }
    }
}
