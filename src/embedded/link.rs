//! One connection to the engine, shared by all that a program holds of it.
//!
//! Always: a request is handed in whole or not at all, at once, and its answer comes whether or not
//! anybody waits; so a future that is dropped has either done nothing yet, or all of it. The
//! connection ends when the last who shares it is gone.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::delivery::Delivery;
use super::error::{AskError, BranchError, Ended, Failure, Refusal};
use super::router::{Answer, Router};
use crate::broker::command::{Command, Confirm, Outcome, Reply, Request, Which, Work, XaCommand};
use crate::engine::{self, Closed, Handle, Permit};
use crate::ids::{StageId, SubscriptionId, Tag, TransactionName};
use crate::limits;

/// How far the life of a broker has come.
#[derive(Clone, Debug)]
pub(super) enum Life {
    Running,
    /// Its store has failed; threads may still be at their last step.
    Failed(Failure),
    /// Nobody touches the store any more.
    Over(Result<(), Failure>),
}

/// What all connections of a broker know.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) handle: Handle,
    pub(super) life: watch::Receiver<Life>,
    /// Bytes of a body at most.
    pub(super) message_limit: u64,
}

impl Way {
    /// Why the broker has ended, once it has.
    pub(super) async fn why(&self, closed: Closed) -> Ended {
        if closed == Closed::Stopping {
            return Ended::Closed;
        }
        let mut life = self.life.clone();
        // It follows at once: the engine's thread has only to return.
        let life = life.wait_for(|life| !matches!(life, Life::Running)).await;
        match life.as_deref() {
            Ok(Life::Failed(failure) | Life::Over(Err(failure))) => Ended::Failed(failure.clone()),
            Ok(Life::Running | Life::Over(Ok(()))) | Err(_) => Ended::Closed,
        }
    }

    /// The same for who must not wait. What has failed is no clean end, though it may not be known
    /// why yet.
    pub(super) fn why_now(&self, closed: Closed) -> Ended {
        match &*self.life.borrow() {
            Life::Failed(failure) | Life::Over(Err(failure)) => Ended::Failed(failure.clone()),
            Life::Running if closed == Closed::Failed => Ended::Failed(Failure::not_known_yet()),
            Life::Running | Life::Over(Ok(())) => Ended::Closed,
        }
    }
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) way: Way,
    pub(super) router: Arc<Router>,
    engine: engine::Connection,
    /// Sends that may be unconfirmed.
    slots: Arc<Semaphore>,
    /// Large bodies that may be on their way at a time.
    pub(super) stages: Semaphore,
    last_stage: AtomicU64,
    last_transaction: AtomicU64,
    /// Deliveries that were handed over to transactions, until it is known that these have them.
    handed: Mutex<VecDeque<(Asked, SubscriptionId, Tag)>>,
    /// Commits whose answers nobody awaits any more, and what is to follow a refusal.
    unawaited: Mutex<Vec<(Asked, Command)>>,
}

/// An answer to come.
#[derive(Debug)]
pub(super) struct Asked(oneshot::Receiver<Answer>);

impl Link {
    pub(super) fn new(way: Way) -> Result<Self, Closed> {
        let router = Arc::new(Router::default());
        let listener: Arc<dyn engine::Listener> = Arc::<Router>::clone(&router);
        let engine = way.handle.connect_listener(listener)?;
        Ok(Self {
            way,
            router,
            engine,
            slots: Arc::new(Semaphore::new(limits::UNCONFIRMED_SENDS_MAX)),
            stages: Semaphore::new(limits::STAGES_MAX),
            last_stage: AtomicU64::new(0),
            last_transaction: AtomicU64::new(0),
            handed: Mutex::default(),
            unawaited: Mutex::default(),
        })
    }

    /// Waits until a send may be handed in, in turn.
    pub(super) async fn room(&self, bytes: usize) -> (Permit, Option<OwnedSemaphorePermit>) {
        let slot = Arc::clone(&self.slots).acquire_owned().await.expect("never closed");
        let room = self.engine.room(bytes + limits::REQUEST_OVERHEAD_BYTES).await;
        (room, Some(slot))
    }

    /// Hands a request in.
    pub(super) fn ask(
        &self,
        command: Command,
        (room, slot): (Permit, Option<OwnedSemaphorePermit>),
    ) -> Asked {
        let (token, answer) = self.router.expect(slot);
        let request = Request { token, confirm: Confirm::Alone, command };
        if let Err(why) = self.engine.hand_in(vec![request], room) {
            self.router.give_up(token, why);
        }
        Asked(answer)
    }

    /// Hands a small request in, of which there are few, or as many as deliveries.
    pub(super) fn ask_small(&self, command: Command) -> Asked {
        self.ask(command, (None, None))
    }

    /// Leaves a small request whose answer nobody waits for.
    pub(super) fn leave(&self, command: Command) {
        let token = self.router.token();
        self.engine.leave(Request { token, confirm: Confirm::RefusalOnly, command });
    }

    /// Leaves it to a transaction what becomes of a delivery.
    pub(super) fn hand_over(&self, delivery: &Delivery, to: TransactionName) {
        let (subscription, tag) = delivery.hand_over();
        let (which, outcome) = (Which::One(tag), Outcome::Accepted);
        let work = Work::Settle { subscription, which, outcome };
        let asked = self.ask_small(Command::Transact { transaction: to, work });
        self.handed.lock().expect("no panic holds it").push_back((asked, subscription, tag));
        self.return_refused();
    }

    /// What a transaction has refused to take, because of another part of it or because it is over,
    /// no end of it gives back. Whoever brings the answer calls this, and whoever may have been
    /// overtaken by it.
    pub(super) fn return_refused(&self) {
        let mut handed = self.handed.lock().expect("no panic holds it");
        while let Some((asked, subscription, tag)) = handed.front_mut() {
            match asked.0.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => break,
                Ok(Ok(Err(_))) => {
                    let (which, outcome) = (Which::One(*tag), Outcome::Returned);
                    self.leave(Command::Settle { subscription: *subscription, which, outcome });
                }
                Ok(_) | Err(oneshot::error::TryRecvError::Closed) => {}
            }
            handed.pop_front();
        }
    }

    /// Leaves a request to follow another, whose answer nobody awaits any more, if that is refused.
    pub(super) fn leave_if_refused(&self, asked: Asked, command: Command) {
        self.unawaited.lock().expect("no panic holds it").push((asked, command));
        self.follow_refused();
    }

    /// Asks for what is to follow refusals. Whoever brings the answer calls this, and whoever may
    /// have been overtaken by it.
    fn follow_refused(&self) {
        let mut unawaited = self.unawaited.lock().expect("no panic holds it");
        for (mut asked, command) in std::mem::take(&mut *unawaited) {
            match asked.0.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => unawaited.push((asked, command)),
                Ok(Ok(Err(_))) => self.leave(command),
                Ok(_) | Err(oneshot::error::TryRecvError::Closed) => {}
            }
        }
    }

    /// Something was refused, perhaps what nobody waits for.
    pub(super) fn refused(&self) {
        self.return_refused();
        self.follow_refused();
    }

    /// The answer to a request.
    pub(super) async fn answer(&self, mut asked: Asked) -> Result<Reply, AskError> {
        self.answer_to(&mut asked).await
    }

    /// The same for who may stop waiting for it.
    pub(super) async fn answer_to(&self, asked: &mut Asked) -> Result<Reply, AskError> {
        // Whoever would have answered is gone where the engine has panicked.
        let answer = (&mut asked.0).await.unwrap_or(Err(Closed::Failed));
        match answer {
            Ok(result) => result.map_err(AskError::Refused),
            Err(why) => Err(AskError::Ended(self.way.why(why).await)),
        }
    }

    /// Asks something about a branch. It is handed in when the future is made.
    pub(super) fn ask_xa(
        &self,
        command: XaCommand,
    ) -> impl Future<Output = Result<Reply, BranchError>> + use<'_> {
        let asked = self.ask_small(Command::Xa(command.clone()));
        async move {
            self.answer(asked).await.map_err(|error| match error {
                AskError::Refused(why) => {
                    BranchError::Refused { code: command.code_of(&why), why: Refusal(why) }
                }
                AskError::Ended(ended) => BranchError::Ended(ended),
            })
        }
    }

    /// Says that pieces of a large body have been taken.
    pub(super) fn taken(&self, bytes: usize) {
        self.engine.written(bytes);
    }

    pub(super) fn transaction(&self) -> TransactionName {
        TransactionName(self.last_transaction.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(super) fn stage(&self) -> StageId {
        StageId(self.last_stage.fetch_add(1, Ordering::Relaxed) + 1)
    }
}
