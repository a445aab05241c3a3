//! A subscription of a program: what it receives, one by one.

use std::fmt;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::sync::Notify;

use super::delivery::{Delivery, MessageId};
use super::error::{RecvError, SettleError, SubscribeError};
use super::link::Link;
use super::router::Arrived;
use crate::broker::command::{self, Command};
use crate::ids::SubscriptionId;
use crate::message::{Content, LargeHead, MalformedContent};

/// Receives messages from a queue or a topic; made by [`Connection::subscribe`].
///
/// What it receives is lent to it: it goes when it is [acknowledged](Delivery::acknowledge), and
/// back to its place in the queue when it is [returned](Delivery::give_back), when the [`Delivery`]
/// is dropped, or when the consumer ends. What the consumer holds and `recv` has not handed out
/// goes back as if it had never come.
///
/// A message of more than 256 KiB comes as others do, in one piece, and is read from the disk while
/// `recv` waits for it. Until it is there, other consumers of the same connection wait too: give
/// consumers of large messages connections of their own.
///
/// Dropping it ends it, without waiting for the broker.
///
/// [`Connection::subscribe`]: crate::Connection::subscribe
pub struct Consumer {
    id: SubscriptionId,
    link: Arc<Link>,
    news: Arc<Notify>,
    /// A large message whose body is not complete.
    partial: Option<Partial>,
    /// The broker has ended it, for this reason.
    cancelled: Option<&'static str>,
    open: bool,
}

struct Partial {
    delivery: Box<command::Delivery>,
    head: LargeHead,
    body: BytesMut,
}

impl Consumer {
    pub(super) async fn begin(
        link: &Arc<Link>,
        command: impl FnOnce(SubscriptionId) -> Command,
    ) -> Result<Self, SubscribeError> {
        let (id, news) = link.router.open();
        // From here on, dropping this future ends it again.
        let mut this =
            Self { id, link: Arc::clone(link), news, partial: None, cancelled: None, open: true };
        let asked = link.ask_small(command(id));
        match link.answer(asked).await {
            Ok(_) => Ok(this),
            Err(error) => {
                this.open = false;
                link.router.discard(id);
                Err(error.into())
            }
        }
    }

    /// Waits for the next message.
    ///
    /// # Errors
    /// See [`RecvError`]. After [`RecvError::Unreadable`] there are more to come.
    ///
    /// # Dropping the future
    /// Nothing is lost: what would have been received is received by the next call. So it may be
    /// one of several in `select!`, or under a timeout.
    pub async fn recv(&mut self) -> Result<Delivery, RecvError> {
        loop {
            match self.next() {
                Ok(Some(delivery)) => return Ok(delivery),
                Ok(None) => self.news.notified().await,
                Err(Stop::Recv(error)) => return Err(error),
                Err(Stop::Closed(why)) => return Err(self.link.way.why(why).await.into()),
            }
        }
    }

    /// The next message if it is here already.
    ///
    /// # Errors
    /// As of [`Consumer::recv`]. As this waits for nothing, what it tells of a store that has just
    /// failed may not say why yet; [`Broker::failed`](crate::Broker::failed) does.
    pub fn try_recv(&mut self) -> Result<Option<Delivery>, RecvError> {
        self.next().map_err(|stop| match stop {
            Stop::Recv(error) => error,
            Stop::Closed(why) => self.link.way.why_now(why).into(),
        })
    }

    /// Ends the consumer and waits until the broker knows: what was not settled is back in its
    /// queue, or on its way there. Deliveries that the program still has cannot be acknowledged any
    /// more.
    ///
    /// # Errors
    /// When the broker has ended.
    pub async fn close(mut self) -> Result<(), SettleError> {
        self.open = false;
        let asked = self.link.ask_small(Command::Unsubscribe { subscription: self.id });
        self.link.answer(asked).await?;
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Delivery>, Stop> {
        while let Some(arrived) = self.link.router.take(self.id).map_err(Stop::Closed)? {
            if let Some(delivery) = self.take(arrived)? {
                self.link.router.see(self.id, delivery.tag());
                return Ok(Some(delivery));
            }
        }
        match self.cancelled {
            Some(reason) => Err(Stop::Recv(RecvError::Cancelled { reason })),
            None => Ok(None),
        }
    }

    fn take(&mut self, arrived: Arrived) -> Result<Option<Delivery>, Stop> {
        match arrived {
            Arrived::Delivery(delivery) => self.begin_delivery(delivery),
            Arrived::Piece(bytes) => {
                self.link.taken(bytes.len());
                let Some(partial) = &mut self.partial else { return Ok(None) };
                partial.body.extend_from_slice(&bytes);
                Ok(self.complete())
            }
            // The broker has set it apart, with the cause; there are others.
            Arrived::Broken => {
                self.partial = None;
                Ok(None)
            }
            Arrived::Cancelled(reason) => {
                self.cancelled = Some(reason);
                Ok(None)
            }
        }
    }

    fn begin_delivery(
        &mut self,
        delivery: Box<command::Delivery>,
    ) -> Result<Option<Delivery>, Stop> {
        match LargeHead::decode(delivery.content.clone()) {
            Ok(head) => {
                self.partial = Some(Partial { delivery, head, body: BytesMut::new() });
                Ok(self.complete())
            }
            Err(MalformedContent) => match Content::decode(delivery.content.clone()) {
                Ok(content) => Ok(Some(Delivery::new(&self.link, *delivery, content))),
                Err(MalformedContent) => {
                    let message = MessageId(delivery.message);
                    Err(Stop::Recv(RecvError::Unreadable { message }))
                }
            },
        }
    }

    /// The large message, once all of its body is there.
    fn complete(&mut self) -> Option<Delivery> {
        let whole = |partial: &mut Partial| partial.body.len() as u64 >= partial.head.bytes;
        let Partial { delivery, head, body } = self.partial.take_if(whole)?;
        let LargeHead { kind, properties, .. } = head;
        let content = Content { kind, properties, body: body.freeze() };
        Some(Delivery::new(&self.link, *delivery, content))
    }
}

enum Stop {
    Recv(RecvError),
    Closed(crate::engine::Closed),
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if self.open {
            self.link.leave(Command::Unsubscribe { subscription: self.id });
        }
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("id", &self.id).finish_non_exhaustive()
    }
}
