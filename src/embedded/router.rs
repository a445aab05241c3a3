//! From what the broker tells a connection to whoever waits for it.
//!
//! Owns the answers that are awaited and what each consumer has not taken yet. Always: it is filled
//! by whoever runs the engine's turn, so nothing here waits, and wakers are called with no lock
//! held; who stopped waiting is skipped; of a consumer no more is held than its prefetch, and of
//! large bodies no more than the connection's window. Leaves to others: what is asked, and what
//! answers mean.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};

use crate::broker::command::{Delivery, Output, Refusal, Reply};
use crate::embedded::link::Link;
use crate::engine::{Closed, Listener, Mailbox, Unseen};
use crate::ids::{IdMap, SubscriptionId, Tag, Token};

/// What comes of a request.
pub(super) type Answer = Result<Result<Reply, Refusal>, Closed>;

/// What has come for a consumer.
#[derive(Debug)]
pub(super) enum Arrived {
    Delivery(Box<Delivery>),
    /// The next piece of the delivery before.
    Piece(Bytes),
    /// The rest of that delivery cannot be read: the broker has set the message apart.
    Broken,
    Cancelled(&'static str),
}

#[derive(Debug, Default)]
pub(super) struct Router {
    state: Mutex<State>,
    /// Whose it is.
    link: OnceLock<Weak<Link>>,
}

#[derive(Debug, Default)]
struct State {
    last_token: u64,
    last_subscription: u64,
    waiting: IdMap<Token, Waiting>,
    inlets: IdMap<SubscriptionId, Inlet>,
    closed: Option<Closed>,
    outputs: Vec<Output>,
}

/// Somebody waits for an answer.
#[derive(Debug)]
struct Waiting {
    to: oneshot::Sender<Answer>,
    /// Given back when it has come.
    _slot: Option<OwnedSemaphorePermit>,
}

/// What a consumer has not taken.
#[derive(Debug)]
struct Inlet {
    arrived: VecDeque<Arrived>,
    news: Arc<Notify>,
    /// The first delivery that its consumer has not seen.
    unseen: Tag,
}

/// What is to be told when the lock is free again.
#[derive(Default)]
struct News {
    answers: Vec<(Waiting, Answer)>,
    /// Something was refused.
    refused: bool,
    consumers: Vec<Arc<Notify>>,
}

impl News {
    fn tell(self) {
        for (waiting, answer) in self.answers {
            // Who does not wait any more need not know.
            let _ = waiting.to.send(answer);
        }
        self.consumers.iter().for_each(|news| news.notify_one());
    }
}

impl Router {
    /// Tells whose it is, before anything comes.
    pub(super) fn serves(&self, link: &Arc<Link>) {
        // Once for each.
        let _ = self.link.set(Arc::downgrade(link));
    }

    /// A new token, and where its answer will come.
    pub(super) fn expect(
        &self,
        slot: Option<OwnedSemaphorePermit>,
    ) -> (Token, oneshot::Receiver<Answer>) {
        let (to, answer) = oneshot::channel();
        let mut state = self.lock();
        state.last_token += 1;
        let token = Token(state.last_token);
        match state.closed {
            Some(why) => drop(to.send(Err(why))),
            None => drop(state.waiting.insert(token, Waiting { to, _slot: slot })),
        }
        (token, answer)
    }

    /// That request was not taken: the broker has ended.
    pub(super) fn give_up(&self, token: Token, why: Closed) {
        let waiting = self.lock().waiting.remove(&token);
        News { answers: waiting.map(|it| (it, Err(why))).into_iter().collect(), ..News::default() }
            .tell();
    }

    /// A token whose answer nobody waits for.
    pub(super) fn token(&self) -> Token {
        let mut state = self.lock();
        state.last_token += 1;
        Token(state.last_token)
    }

    /// Makes room for what comes to a new consumer.
    pub(super) fn open(&self) -> (SubscriptionId, Arc<Notify>) {
        let news = Arc::new(Notify::new());
        let mut state = self.lock();
        state.last_subscription += 1;
        let id = SubscriptionId(state.last_subscription);
        let inlet = Inlet { arrived: VecDeque::new(), news: Arc::clone(&news), unseen: Tag(0) };
        state.inlets.insert(id, inlet);
        (id, news)
    }

    /// There is no such consumer, and there was none.
    pub(super) fn discard(&self, consumer: SubscriptionId) {
        self.lock().inlets.remove(&consumer);
    }

    /// The next of what has come for a consumer, if anything has.
    ///
    /// # Errors
    /// When the broker has ended: what is left could not be settled.
    pub(super) fn take(&self, consumer: SubscriptionId) -> Result<Option<Arrived>, Closed> {
        let mut state = self.lock();
        match state.closed {
            Some(why) => Err(why),
            None => Ok(state.inlets.get_mut(&consumer).and_then(|it| it.arrived.pop_front())),
        }
    }

    /// A consumer sees this delivery now.
    pub(super) fn see(&self, consumer: SubscriptionId, tag: Tag) {
        if let Some(inlet) = self.lock().inlets.get_mut(&consumer) {
            inlet.unseen = Tag(tag.0 + 1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic holds it")
    }
}

impl State {
    fn route(&mut self, output: Output, news: &mut News) {
        match output {
            Output::Answer { token, result } => {
                let waiting = self.waiting.remove(&token);
                news.refused |= result.is_err();
                news.answers.extend(waiting.map(|waiting| (waiting, Ok(result))));
            }
            Output::Delivery(delivery) => {
                let id = delivery.subscription;
                self.bring(id, Arrived::Delivery(Box::new(delivery)), news);
            }
            Output::Piece { subscription, bytes, .. } => {
                self.bring(subscription, Arrived::Piece(bytes), news);
            }
            Output::Broken { subscription, .. } => {
                self.bring(subscription, Arrived::Broken, news);
            }
            Output::Cancelled { subscription, reason } => {
                self.bring(subscription, Arrived::Cancelled(reason), news);
            }
        }
    }

    fn bring(&mut self, id: SubscriptionId, what: Arrived, news: &mut News) {
        let Some(inlet) = self.inlets.get_mut(&id) else { return };
        // It is told already where something waits to be taken.
        if inlet.arrived.is_empty() {
            news.consumers.push(Arc::clone(&inlet.news));
        }
        inlet.arrived.push_back(what);
    }

    fn close(&mut self, why: Closed, news: &mut News) {
        self.closed = Some(why);
        news.answers.extend(self.waiting.drain().map(|(_, waiting)| (waiting, Err(why))));
        news.consumers.extend(self.inlets.values().map(|inlet| Arc::clone(&inlet.news)));
    }
}

impl Listener for Router {
    fn arrived(&self, mailbox: &Mailbox) {
        let mut news = News::default();
        let mut state = self.lock();
        let mut outputs = std::mem::take(&mut state.outputs);
        loop {
            match mailbox.take(&mut outputs) {
                Ok(()) if outputs.is_empty() => break,
                Ok(()) => outputs.drain(..).for_each(|output| state.route(output, &mut news)),
                Err(why) => {
                    state.close(why, &mut news);
                    break;
                }
            }
        }
        state.outputs = outputs;
        drop(state);
        let refused = news.refused;
        news.tell();
        // Perhaps nobody asks for anything any more who would look at it.
        let link = self.link.get().filter(|_| refused).and_then(Weak::upgrade);
        link.iter().for_each(|link| link.refused());
    }

    fn forget(&self, subscription: SubscriptionId) -> Unseen {
        let Some(inlet) = self.lock().inlets.remove(&subscription) else {
            return Unseen { from: Tag(u64::MAX), bytes: 0 };
        };
        let bytes = |arrived: &Arrived| match arrived {
            Arrived::Piece(bytes) => bytes.len(),
            _ => 0,
        };
        Unseen { from: inlet.unseen, bytes: inlet.arrived.iter().map(bytes).sum() }
    }
}
