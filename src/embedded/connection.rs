//! A program's connection to a broker of its own process: sending, and the beginning of consuming.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::consumer::Consumer;
use super::consuming::Consuming;
use super::durable::Durable;
use super::error::{Ended, OutcomeError, SendError, SubscribeError, TransactionError};
use super::link::{Link, Way};
use super::message::Message;
use super::outcome::Outcome;
use super::transaction::Transaction;
use super::xa::Xa;
use crate::broker::command::Command;
use crate::message::Destination;

/// A connection to a broker in the same process: no socket, messages by value.
///
/// A connection costs little, and clones share it: tasks and threads may send on one at the same
/// time. What is sent on one connection to a queue, with one priority, is delivered in the order in
/// which it was sent. It ends with the last of its clones, consumers and deliveries.
///
/// # Dropping a future
///
/// No method leaves half of something behind. A future that is dropped has either done nothing yet,
/// or all that it was asked for, of which only the news is lost.
#[derive(Clone)]
pub struct Connection {
    link: Arc<Link>,
}

impl Connection {
    pub(super) fn new(way: &Way) -> Result<Self, Ended> {
        match Link::new(way.clone()) {
            Ok(link) => {
                let link = Arc::new(link);
                link.router.serves(&link);
                Ok(Self { link })
            }
            Err(why) => Err(way.why_now(why)),
        }
    }

    /// Sends a message, and waits until it is durable: it is then delivered, whatever happens to
    /// the process and the machine. One that is not persistent only has to be taken.
    ///
    /// Where its destination is limited and full, and its policy is to hold, this waits for room.
    ///
    /// # Errors
    /// [`SendError::Ended`] says that nobody knows whether the message was sent; with all others it
    /// was not. What to do about a refusal, its [kind](crate::Refusal::kind) says.
    ///
    /// # Dropping the future
    /// The message may have been sent or not.
    pub async fn send(
        &self,
        to: impl Into<Destination>,
        message: impl Into<Message>,
    ) -> Result<(), SendError> {
        let asked = self.link.send(to.into(), message.into(), None).await?;
        self.link.answer(asked).await?;
        Ok(())
    }

    /// Hands a message to the broker and goes on: the [`Receipt`] tells, now or later, when it is
    /// durable. Many messages can so be on their way at a time, and are synced together.
    ///
    /// Messages are sent in the order in which these futures were first polled. It waits while the
    /// broker has more to do than it can take, and while 1,024 messages of this connection are not
    /// confirmed.
    ///
    /// ```
    /// # async fn example(connection: escrowmq::Connection) -> Result<(), escrowmq::SendError> {
    /// let orders = escrowmq::Destination::queue("orders");
    /// let mut receipts = Vec::new();
    /// for number in 0..100 {
    ///     receipts.push(connection.post(&orders, format!("order {number}")).await?);
    /// }
    /// for receipt in receipts {
    ///     receipt.await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of a message that cannot be sent. What the broker says of it, its receipt tells.
    ///
    /// # Dropping the future
    /// The message is not sent, unless the future was ready.
    pub async fn post(
        &self,
        to: impl Into<Destination>,
        message: impl Into<Message>,
    ) -> Result<Receipt, SendError> {
        let asked = self.link.send(to.into(), message.into(), None).await?;
        let link = Arc::clone(&self.link);
        Ok(Receipt(Box::pin(async move {
            link.answer(asked).await?;
            Ok(())
        })))
    }

    /// Says that nothing that was sent on this connection under a [number](Message::numbered) will
    /// be sent again, so that the broker need not remember it for a day. What was not confirmed
    /// before is unknown then.
    ///
    /// # Errors
    /// When the broker has ended.
    ///
    /// # Dropping the future
    /// Polled once, it has been said.
    pub async fn close_producers(&self) -> Result<(), SendError> {
        self.link.answer(self.link.ask_small(Command::CloseProducers)).await?;
        Ok(())
    }

    /// Begins a transaction on this connection, for what it sends and what its consumers received.
    ///
    /// # Errors
    /// Where the broker refuses it, because 256 of this connection, pieces of
    /// [work in branches](Connection::xa) included, have not ended; or has ended.
    ///
    /// # Dropping the future
    /// There is no transaction.
    pub async fn transaction(&self) -> Result<Transaction, TransactionError> {
        Transaction::begin(&self.link).await
    }

    /// What became of a transaction that was, or was to be, committed
    /// [under an id](crate::Transaction::commit_as), by whomever: for who has lost the answer.
    ///
    /// To ask is to decide: where nothing was committed under this id, nothing ever will be. Who
    /// hears [`Outcome::NotCommitted`] can rely on it over any crash, for as long as ids are kept.
    /// An id that is older than that is answered so too: ask in time. One that may have been
    /// forgotten before, for want of room, is [`Outcome::Forgotten`]. Waits until the answer is
    /// durable.
    ///
    /// # Errors
    /// See [`OutcomeError`].
    ///
    /// # Dropping the future
    /// Polled once, it is decided.
    pub async fn outcome_of(&self, id: impl AsRef<str>) -> Result<Outcome, OutcomeError> {
        self.link.outcome_of(id).await
    }

    /// This connection as a resource manager of global transactions, for work in several brokers or
    /// databases that happens in all of them or in none.
    #[must_use]
    pub fn xa(&self) -> Xa {
        Xa::new(&self.link)
    }

    /// Begins to consume from a queue, which comes into being if it does not exist, or a topic,
    /// with 100 deliveries outstanding at most. Also from all topics or queues of a pattern: `*`
    /// stands for any one part between dots, `>` at the end for the rest; queues that come later
    /// belong to it, and each delivery tells its own destination.
    ///
    /// # Errors
    /// Where the broker refuses the destination, or has ended.
    ///
    /// # Dropping the future
    /// There is no consumer.
    pub async fn subscribe(
        &self,
        from: impl Into<Destination>,
    ) -> Result<Consumer, SubscribeError> {
        self.consumer(from).subscribe().await
    }

    /// The same with another [prefetch](Consuming::prefetch).
    ///
    /// # Errors
    /// As of [`Connection::subscribe`].
    pub async fn subscribe_with(
        &self,
        from: impl Into<Destination>,
        prefetch: u32,
    ) -> Result<Consumer, SubscribeError> {
        self.consumer(from).prefetch(prefetch).subscribe().await
    }

    /// The same for those messages alone that a selector matches: a condition on properties and
    /// headers in the language of JMS, such as `colour = 'blue' AND JMSPriority > 4`. Properties
    /// are text: a selector that begins with `convert_string_expressions:` compares them with
    /// numbers, too. The others stay for other consumers.
    ///
    /// # Errors
    /// [`SubscribeError::Selector`] where the text is no selector, and as of
    /// [`Connection::subscribe`].
    pub async fn subscribe_selecting(
        &self,
        from: impl Into<Destination>,
        prefetch: u32,
        selector: &str,
    ) -> Result<Consumer, SubscribeError> {
        self.consumer(from).prefetch(prefetch).selecting(selector)?.subscribe().await
    }

    /// A consumer that is to be described further: how it stands among the others of its queue.
    pub fn consumer(&self, from: impl Into<Destination>) -> Consuming {
        Consuming::new(&self.link, from.into())
    }

    /// The durable subscriptions of a client, and this connection as one of that client's.
    #[must_use]
    pub fn durable(&self, client: impl Into<Arc<str>>) -> Durable {
        Durable::new(&self.link, client.into())
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

/// What becomes of a message that was [posted](Connection::post): a future that is ready when the
/// message is durable.
///
/// Dropping it changes nothing: the message is sent, and nobody hears of it.
#[must_use = "a message is durable only when its receipt says so"]
pub struct Receipt(Pin<Box<dyn Future<Output = Result<(), SendError>> + Send>>);

impl Future for Receipt {
    type Output = Result<(), SendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context)
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt").finish_non_exhaustive()
    }
}
