//! The life of an embedded broker, on a thread of its own: it opens, waits for the end, lets go.
//!
//! Always: what blocks happens here and never in the program's tasks; whoever waits for the end is
//! told why it came as soon as that is known; and the lock on the directory goes last, when nobody
//! touches the store any more, whatever the program still holds.

use std::sync::Arc;
use std::thread::{Builder as Thread, sleep};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use super::builder::Plan;
use super::error::{Failure, OpenError};
use super::link::{Life, Way};
use super::listen::Listening;
use crate::backup::Source;
use crate::engine::{self, Handle, Store};
use crate::io::real::{DirStorage, LockError, StoreLock};
use crate::io::{Clock, Storage};
use crate::limits;

/// What a broker is when it has been opened.
#[derive(Debug)]
pub(super) struct Opened {
    way: Way,
    addresses: Vec<std::net::SocketAddr>,
    nobodys: Nobodys,
}

impl Opened {
    /// From here on it ends when its owner says so.
    pub(super) fn own(self) -> (Way, Vec<std::net::SocketAddr>) {
        let Self { way, addresses, mut nobodys } = self;
        nobodys.0 = None;
        (way, addresses)
    }
}

/// A broker that nobody has taken yet. Whoever opened it may not want it any more, and that may be
/// so when it was told already that it is open.
#[derive(Debug)]
struct Nobodys(Option<Handle>);

impl Drop for Nobodys {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.stop();
        }
    }
}

/// Begins the life; what is waited for tells whether it has.
pub(super) fn begin(plan: Plan) -> Result<oneshot::Receiver<Result<Opened, OpenError>>, OpenError> {
    plan.config.check()?;
    let (told, opened) = oneshot::channel();
    let body = move || live(plan, told);
    let thread = Thread::new().name("escrowmq".to_owned()).spawn(body);
    thread.map_err(|error| OpenError::Start(error.to_string()))?;
    Ok(opened)
}

fn live(plan: Plan, told: oneshot::Sender<Result<Opened, OpenError>>) {
    let (tell, life) = watch::channel(Life::Running);
    let (place, listening) = match Place::take(&plan) {
        Ok(taken) => taken,
        Err(error) => return drop(told.send(Err(error))),
    };
    let clock = Arc::clone(&plan.clock);
    let store = match open(&plan, &place.storage, &*clock) {
        Ok(store) => store,
        Err(error) => {
            give_up(listening, place);
            return drop(told.send(Err(error)));
        }
    };
    let source = Source::running(&store, &place.storage);
    let index = Arc::clone(&store.index);
    let life_of_store = (store.report.store_id, store.report.epoch);
    let running = match engine::start(store, clock) {
        Ok(running) => running,
        Err(error) => {
            give_up(listening, place);
            return drop(told.send(Err(OpenError::Start(error.to_string()))));
        }
    };
    let handle = running.handle().clone();
    let addresses = listening.addresses();
    let serving = listening.serve(&plan, life_of_store, source, handle.clone());
    let message_limit = plan.config.limits.message.bytes();
    let nobodys = Nobodys(Some(handle.clone()));
    let way = Way { handle, life, message_limit };
    drop(told.send(Ok(Opened { way, addresses, nobodys })));
    let (result, leaving) = running.wait();
    let result = result.map_err(Failure::new);
    if let Err(failure) = &result {
        tell.send_replace(Life::Failed(failure.clone()));
    }
    serving.end();
    let result = result.and(leaving.join().map_err(Failure::new));
    // The program may keep a connection, and with it the index, for ever.
    index.close();
    drop(index);
    drop(place);
    tell.send_replace(Life::Over(result));
}

/// An opening that has failed leaves nothing to the next: others' way in goes first, since that
/// lies in the directory.
fn give_up(listening: Listening, place: Place) {
    drop(listening);
    drop(place);
}

/// The directory, and the right to be there.
struct Place {
    storage: Arc<dyn Storage>,
    /// Held to the end; the epoch is what makes a second owner harmless.
    _lock: Option<StoreLock>,
}

impl Place {
    fn take(plan: &Plan) -> Result<(Self, Listening), OpenError> {
        // The address first: a second broker by mistake should not touch the store.
        let mut listening = Listening::bind(plan)?;
        if let Some(storage) = &plan.storage {
            return Ok((Self { storage: Arc::clone(storage), _lock: None }, listening));
        }
        let directory = DirStorage::open_or_create(&plan.config.data);
        let directory = directory.map_err(OpenError::Directory)?;
        let lock = lock(&directory, plan.patience)?;
        listening.operate(plan)?;
        Ok((Self { storage: Arc::new(directory), _lock: Some(lock) }, listening))
    }
}

/// The lock tells nobody when it is free, so it is tried again.
fn lock(directory: &DirStorage, patience: Duration) -> Result<StoreLock, LockError> {
    let begun = Instant::now();
    loop {
        match directory.try_lock() {
            Err(LockError::Held { .. }) if begun.elapsed() < patience => {
                sleep(Duration::from_millis(limits::LOCK_RETRY_MILLIS));
            }
            result => return result,
        }
    }
}

fn open(plan: &Plan, storage: &Arc<dyn Storage>, clock: &dyn Clock) -> Result<Store, OpenError> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(|error| OpenError::Start(error.to_string()))?;
    let store = engine::open_store(
        storage,
        plan.config.wal_options(),
        &plan.config.engine_settings(),
        u128::from_le_bytes(nonce),
        clock.wall(),
        &mut |_| {},
    )?;
    for damage in &store.report.damaged {
        tracing::error!(%damage, "a message's content is damaged; it will be set apart");
    }
    Ok(store)
}
