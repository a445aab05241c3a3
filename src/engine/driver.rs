//! Who runs the engine's turns: whoever brings news, if nobody else is at it.
//!
//! The state has one owner at a time, behind a lock that is only ever tried by those who bring
//! news: a connection with requests, the log thread with a sync. Each runs the turns that follow
//! itself, which saves waking the engine's thread: two of six thread switches of a confirmation
//! to a lone client. Where the engine is busy the news waits in the inbox; the
//! engine's own thread takes what is left, keeps the deadlines, and ends the broker.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use crate::broker::SelectRequest;
use crate::engine::inbox::Inbox;
use crate::engine::mailbox::Closed;
use crate::engine::threads::{Merge, Read};
use crate::engine::{Engine, Gauges, Input, Job, StopError, Turn};
use crate::ids::Millis;
use crate::io::Clock;
use crate::limits;
use crate::wal::{Fence, Log};

#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) inbox: Inbox,
    turns: Mutex<Turns>,
    log: Arc<Log>,
    pub(crate) clock: Arc<dyn Clock>,
    fence: Fence,
    pub(crate) gauges: Gauges,
}

/// The ways to the threads beside the engine.
#[derive(Debug)]
pub(crate) struct Helpers {
    pub(crate) reads: Sender<Read>,
    pub(crate) questions: Sender<SelectRequest>,
    pub(crate) checkpoints: Sender<Merge>,
    pub(crate) plans: Sender<Vec<u64>>,
}

/// The engine with what its turns need.
#[derive(Debug)]
struct Turns {
    engine: Engine,
    inputs: VecDeque<Input>,
    jobs: Vec<Job>,
    /// To the threads beside the engine, which end when these are gone.
    helpers: Option<Helpers>,
    /// Until when the engine's thread sleeps at most.
    awaited: Option<Millis>,
    life: Life,
}

/// How far the broker's life has come.
#[derive(Debug)]
enum Life {
    Running,
    /// It has ended so, and nothing is run any more; the engine's thread is to tell.
    Ended(Result<(), StopError>),
    Told,
}

/// What is to be done when a drive is over.
enum Next {
    /// More turns are due at once.
    Busy,
    /// Nothing, until something happens or this time comes.
    Wait(Option<Millis>),
    /// Nothing more: the broker has ended.
    End,
}

impl Driver {
    pub(crate) fn new(
        mut engine: Engine,
        log: Arc<Log>,
        clock: Arc<dyn Clock>,
        fence: Fence,
        helpers: Helpers,
    ) -> Self {
        engine.watch(Arc::clone(&clock));
        let turns = Turns {
            engine,
            inputs: VecDeque::new(),
            jobs: Vec::new(),
            helpers: Some(helpers),
            awaited: None,
            life: Life::Running,
        };
        Self {
            inbox: Inbox::new(),
            turns: Mutex::new(turns),
            log,
            clock,
            fence,
            gauges: Gauges::default(),
        }
    }

    /// Brings an input, and runs what follows if nobody else does. False when the broker has
    /// ended.
    pub(crate) fn bring(&self, input: Input) -> bool {
        let taken = self.inbox.post(input);
        self.follow_up();
        taken
    }

    /// The log is durable further: lets out what waits for that.
    pub(crate) fn bring_durable(&self) {
        self.inbox.note();
        self.follow_up();
    }

    /// Runs turns if nobody else does; if somebody does, or more are due than one should run on
    /// the side, the engine's thread goes on.
    fn follow_up(&self) {
        // A panic in a turn ends the broker, and not whoever brought the news: in a program that
        // embeds the broker that may be its main thread. The engine's own finds the lock poisoned.
        if catch_unwind(AssertUnwindSafe(|| self.turns_on_the_side())).is_err() {
            self.inbox.wake();
        }
    }

    fn turns_on_the_side(&self) {
        let mut turns = match self.turns.try_lock() {
            Ok(turns) => turns,
            // A panic in a turn ends the broker; its own thread finds it.
            Err(TryLockError::Poisoned(_) | TryLockError::WouldBlock) => {
                return self.inbox.rouse();
            }
        };
        let next = self.drive(&mut turns, limits::TURNS_ON_THE_SIDE_MAX);
        let sooner = match next {
            Next::Wait(None) => false,
            // Where its time has passed the clock was set, and its sleep may be a long one.
            Next::Wait(Some(at)) => {
                let now = self.clock.wall();
                turns.awaited.is_none_or(|awaited| at < awaited || awaited < now)
            }
            Next::Busy | Next::End => true,
        };
        drop(turns);
        if sooner {
            self.inbox.wake();
        }
    }

    /// Runs turns until nothing is due, or so many have been run.
    fn drive(&self, turns: &mut MutexGuard<'_, Turns>, count: usize) -> Next {
        for _ in 0..count {
            if !matches!(turns.life, Life::Running) {
                return Next::End;
            }
            self.inbox.take(&mut turns.inputs);
            let now = self.clock.wall();
            let Turns { engine, inputs, jobs, .. } = &mut **turns;
            let begun = self.clock.monotonic();
            let turn = engine.turn(now, inputs, jobs);
            self.gauges.turns.add(self.clock.monotonic().saturating_sub(begun));
            turns.hand_out(&self.log, &self.fence);
            match turn {
                Ok(Turn::Busy) => {}
                Ok(Turn::Idle(deadline)) => return Next::Wait(deadline),
                Ok(Turn::Stopped) => {
                    // The last word of a clean stop: the next start knows that nothing is missing.
                    self.log.goodbye();
                    turns.life = Life::Ended(Ok(()));
                }
                Err(error) => turns.life = Life::Ended(Err(error)),
            }
        }
        Next::Busy
    }

    /// The broker has ended: tells every connection, though a panic may have kept its last turn
    /// from that, and lets the threads beside the engine end.
    pub(crate) fn dismiss(&self, why: Closed) {
        let mut turns = self.turns.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        turns.engine.close(why);
        turns.helpers = None;
    }

    /// The engine's own thread: runs what nobody else does, until the broker ends.
    pub(crate) fn run(&self) -> Result<(), StopError> {
        loop {
            let mut turns = self.turns.lock().map_err(|_| StopError::Panic("engine"))?;
            let deadline = match self.drive(&mut turns, usize::MAX) {
                Next::Busy => continue,
                Next::Wait(deadline) => deadline,
                Next::End => match std::mem::replace(&mut turns.life, Life::Told) {
                    Life::Ended(result) => return result,
                    Life::Running | Life::Told => unreachable!("it ends once"),
                },
            };
            turns.awaited = deadline;
            drop(turns);
            let now = self.clock.wall();
            let until = deadline.map_or(u64::MAX, |at| at.0.saturating_sub(now.0).max(1));
            self.inbox.wait(Duration::from_millis(until.min(limits::SLEEP_MILLIS_MAX)));
        }
    }
}

impl Turns {
    /// Gives jobs to the threads beside the engine; these end only after it has.
    fn hand_out(&mut self, log: &Log, fence: &Fence) {
        for job in self.jobs.drain(..) {
            let helpers = self.helpers.as_ref().expect("they end after the engine");
            let Helpers { reads, questions, checkpoints, plans } = helpers;
            let _ = match job {
                Job::Page(request) => reads.send(Read::Page(request)).is_ok(),
                Job::Pieces(request) => reads.send(Read::Pieces(request)).is_ok(),
                Job::Later(request) => reads.send(Read::Later(request)).is_ok(),
                Job::Producers(request) => reads.send(Read::Producers(request)).is_ok(),
                Job::Content(request) => reads.send(Read::Content(request)).is_ok(),
                Job::Operations(request) => reads.send(Read::Operations(request)).is_ok(),
                Job::Outcome(request) => reads.send(Read::Outcome(request)).is_ok(),
                Job::Select(request) => questions.send(request).is_ok(),
                Job::Loads(loads) => reads.send(Read::Loads(loads)).is_ok(),
                Job::Join(join) => reads.send(Read::Join(join)).is_ok(),
                Job::Peek(peek) => reads.send(Read::Peek(peek)).is_ok(),
                Job::Checkpoint(job) => checkpoints.send(Merge::Checkpoint(job)).is_ok(),
                Job::Forget(delta) => checkpoints.send(Merge::Forget(delta)).is_ok(),
                Job::Compact(ordinals) => plans.send(ordinals).is_ok(),
                // Who has lost the store leaves its files to the new owner.
                Job::Retire(dead) => {
                    let owned = fence.check().is_ok();
                    if owned {
                        log.retire(&dead.segments);
                        log.retire_packs(&dead.packs);
                    }
                    owned
                }
            };
        }
    }
}
