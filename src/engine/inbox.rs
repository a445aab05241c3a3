//! How connections, timers and helpers reach the engine, and how many bytes may wait for it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::broker::command::{Output, Request};
use crate::engine::driver::Driver;
use crate::engine::mailbox::{Closed, Listener, Mailbox, window_bytes};
use crate::engine::{Gauges, Input};
use crate::ids::ConnectionId;
use crate::limits;

/// Room taken in the inbox; given back when dropped.
pub type Permit = Option<OwnedSemaphorePermit>;

/// The engine's queue of inputs.
#[derive(Debug)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct State {
    inputs: VecDeque<Input>,
    /// Something else has happened: the log is durable further, or has more room.
    woken: bool,
    /// The engine waits. Only then is it woken: a wake-up is a system call even where nobody
    /// listens, and a busy engine takes everything at its next turn anyway.
    waits: bool,
    /// The engine has ended and takes nothing more.
    closed: Option<Closed>,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::default(), arrived: Condvar::new() }
    }

    /// Leaves an input, and wakes the engine's thread. False when the engine has ended.
    pub(crate) fn push(&self, input: Input) -> bool {
        let taken = self.post(input);
        self.rouse();
        taken
    }

    /// Leaves an input for whoever runs the next turn. False when the engine has ended.
    pub(crate) fn post(&self, input: Input) -> bool {
        self.post_all([input])
    }

    /// The same of several, which are there already: the lock is held while they are taken.
    pub(crate) fn post_all(&self, inputs: impl IntoIterator<Item = Input>) -> bool {
        let mut state = self.lock();
        let open = state.closed.is_none();
        if open {
            state.inputs.extend(inputs);
        }
        open
    }

    /// Something else has happened that a turn should see; wakes the engine's thread.
    pub(crate) fn wake(&self) {
        self.note();
        self.rouse();
    }

    /// Something else has happened that a turn should see.
    pub(crate) fn note(&self) {
        self.lock().woken = true;
    }

    /// Wakes the engine's thread if it waits.
    pub(crate) fn rouse(&self) {
        let mut state = self.lock();
        if std::mem::take(&mut state.waits) {
            // Woken while the lock is held, the engine would only wait for that.
            drop(state);
            self.arrived.notify_one();
        }
    }

    /// Waits until something has arrived, at most so long.
    pub(crate) fn wait(&self, longest: Duration) {
        let quiet = |state: &mut State| {
            state.waits = state.inputs.is_empty() && !state.woken;
            state.waits
        };
        let waited = self.arrived.wait_timeout_while(self.lock(), longest, quiet);
        // Still set where the wait was over before anything came.
        waited.expect("no panic holds it").0.waits = false;
    }

    /// Takes all that has arrived.
    pub(crate) fn take(&self, into: &mut VecDeque<Input>) {
        let mut state = self.lock();
        state.woken = false;
        into.append(&mut state.inputs);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic holds it")
    }

    /// The engine has ended: whoever comes now, and whoever waits in line, is told.
    pub(crate) fn close(&self, why: Closed) {
        let mut state = self.state.lock().expect("no panic holds it");
        state.closed = Some(why);
        for input in state.inputs.drain(..) {
            if let Input::Connect(_, mailbox) = input {
                mailbox.close(why);
            }
        }
    }

    fn closed(&self) -> Option<Closed> {
        self.state.lock().expect("no panic holds it").closed
    }
}

/// A way to the engine, for whoever opens connections.
#[derive(Clone, Debug)]
pub struct Handle {
    driver: Arc<Driver>,
    next: Arc<AtomicU64>,
    /// Bytes of requests that may wait for the engine, over all connections.
    room: Arc<Semaphore>,
}

impl Handle {
    pub(crate) fn new(driver: Arc<Driver>) -> Self {
        let room = Arc::new(Semaphore::new(limits::INBOX_BYTES_MAX));
        Self { driver, next: Arc::new(AtomicU64::new(1)), room }
    }

    /// Opens a connection to the broker; it ends when it is dropped.
    ///
    /// # Errors
    /// When the broker has ended.
    pub fn connect(&self) -> Result<Connection, Closed> {
        self.connect_with(Mailbox::default())
    }

    /// Opens a connection whose outputs go to `listener` as they come.
    ///
    /// # Errors
    /// When the broker has ended.
    pub fn connect_listener(&self, listener: Arc<dyn Listener>) -> Result<Connection, Closed> {
        self.connect_with(Mailbox::with_listener(listener))
    }

    fn connect_with(&self, mailbox: Mailbox) -> Result<Connection, Closed> {
        let id = ConnectionId(self.next.fetch_add(1, Ordering::Relaxed));
        let mailbox = Arc::new(mailbox);
        if !self.driver.inbox.push(Input::Connect(id, Arc::clone(&mailbox))) {
            return Err(self.driver.inbox.closed().unwrap_or(Closed::Stopping));
        }
        let (driver, room) = (Arc::clone(&self.driver), Arc::clone(&self.room));
        Ok(Connection { id, driver, room, mailbox })
    }

    /// How long things take in this broker.
    #[must_use]
    pub fn gauges(&self) -> &Gauges {
        &self.driver.gauges
    }

    /// Bytes of requests that wait for the engine.
    #[must_use]
    pub fn inbox_bytes(&self) -> usize {
        limits::INBOX_BYTES_MAX - self.room.available_permits()
    }

    pub(super) fn bring(&self, input: Input) -> bool {
        self.driver.bring(input)
    }

    pub(super) fn why_closed(&self) -> Closed {
        self.driver.inbox.closed().unwrap_or(Closed::Stopping)
    }

    /// Asks the broker to end; `Running::join` tells when it has.
    pub fn stop(&self) {
        self.driver.inbox.push(Input::Stop);
    }
}

/// One connection's way to the engine and back.
#[derive(Debug)]
pub struct Connection {
    id: ConnectionId,
    driver: Arc<Driver>,
    room: Arc<Semaphore>,
    mailbox: Arc<Mailbox>,
}

impl Connection {
    /// Which connection this is.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// Hands requests to the engine, in order. Waits while too much waits there already: this is
    /// what holds a peer that sends faster than the log can write.
    ///
    /// # Errors
    /// When the broker has ended.
    pub async fn submit(&self, requests: Vec<Request>) -> Result<(), Closed> {
        let permit = self.room(requests.iter().map(request_bytes).sum()).await;
        self.hand_in(requests, permit)
    }

    /// Waits until so many bytes of requests may be handed in, and takes room for them. Those who
    /// wait are served in the order in which they came; dropped, it has taken nothing.
    pub async fn room(&self, bytes: usize) -> Permit {
        let permits = u32::try_from(bytes.min(limits::INBOX_BYTES_MAX)).expect("a small limit");
        let room = Arc::clone(&self.room).acquire_many_owned(permits);
        Some(room.await.expect("never closed"))
    }

    /// Hands requests to the engine, in order, without waiting. Without a permit they must be few
    /// and small, bounded by something else.
    ///
    /// # Errors
    /// When the broker has ended.
    pub fn hand_in(&self, requests: Vec<Request>, permit: Permit) -> Result<(), Closed> {
        if self.driver.bring(Input::Requests(self.id, requests.into(), permit)) {
            Ok(())
        } else {
            Err(self.driver.inbox.closed().unwrap_or(Closed::Stopping))
        }
    }

    /// Leaves a small request for the engine's own thread: the caller, who ends something, runs no
    /// turn for it. An engine that has ended does without.
    pub fn leave(&self, request: Request) {
        self.driver.inbox.push(Input::Requests(self.id, VecDeque::from([request]), None));
    }

    /// Waits for outputs and takes all there are. May be dropped and called again without loss.
    ///
    /// # Errors
    /// When nothing is left and nothing will come.
    pub async fn receive(&self, into: &mut Vec<Output>) -> Result<(), Closed> {
        self.mailbox.receive(into).await
    }

    /// Waits until the broker has ended, whatever is still to be received.
    pub async fn closed(&self) -> Closed {
        self.mailbox.closed().await
    }

    /// Says that a delivery has been written to the peer: there is room for the next.
    pub fn written(&self, outputs_bytes: usize) {
        if self.mailbox.written(outputs_bytes) {
            self.driver.inbox.push(Input::Writable(self.id));
        }
    }

    /// What an output takes of the window; to be given back with [`Connection::written`].
    #[must_use]
    pub fn window_bytes(output: &Output) -> usize {
        window_bytes(output)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.inbox.push(Input::Close(self.id));
    }
}

/// Bytes that a request takes of the inbox.
pub(crate) fn request_bytes(request: &Request) -> usize {
    request.command.bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_waits_is_woken_by_every_input_and_every_wake() {
        const ROUNDS: u64 = 5_000;
        let inbox = Arc::new(Inbox::new());
        let pusher = Arc::clone(&inbox);
        let (taken, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            for number in 0..ROUNDS {
                if number % 2 == 0 {
                    assert!(pusher.push(Input::Stop));
                } else {
                    pusher.wake();
                }
                told.recv().expect("the engine took it");
            }
        });
        let mut inputs = VecDeque::new();
        for number in 0..ROUNDS {
            let begun = std::time::Instant::now();
            inbox.wait(Duration::from_secs(20));
            inbox.take(&mut inputs);
            assert!(begun.elapsed() < Duration::from_secs(10), "nobody woke the engine");
            assert_eq!(inputs.drain(..).count() as u64, 1 - number % 2);
            taken.send(()).expect("the pusher goes on");
        }
        thread.join().expect("the pusher ends");
    }
}
