//! What waits to be written to one connection, between the engine and the connection's task.
//!
//! Bounded by a window of bytes: the engine hands over a delivery only while less than the window
//! is unwritten, so a peer that does not read costs the window and no more.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::broker::command::Output;
use crate::ids::{SubscriptionId, Tag};

/// A connection of this process, which takes its outputs as they come.
///
/// It is called by whoever runs the engine's turn, and so must be short, never wait, and ask
/// nothing of the engine.
pub trait Listener: Debug + Send + Sync {
    /// Something has come, or nothing will any more: [`Mailbox::take`] tells.
    fn arrived(&self, mailbox: &Mailbox);

    /// A subscription ends: forgets what was not seen of it, and tells that.
    fn forget(&self, subscription: SubscriptionId) -> Unseen;
}

/// What a listener had taken of a subscription and its consumer has not seen.
#[derive(Clone, Copy, Debug)]
pub struct Unseen {
    /// The first such delivery.
    pub from: Tag,
    /// Bytes of the window that it gives back.
    pub bytes: usize,
}

/// The queue of one connection's outputs.
#[derive(Debug, Default)]
pub struct Mailbox {
    state: Mutex<State>,
    listener: Option<Arc<dyn Listener>>,
    arrived: Notify,
    ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    outputs: Vec<Output>,
    /// Bytes of deliveries handed over and not yet written.
    unwritten: usize,
    /// The engine waits to hear when the window opens.
    starving: bool,
    closed: Option<Closed>,
}

/// Why a mailbox is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// The broker shuts down.
    #[error("the broker is shutting down")]
    Stopping,
    /// The store failed: nothing more is confirmed.
    #[error("the broker's store has failed; what was not confirmed is unknown")]
    Failed,
}

impl Mailbox {
    pub(crate) fn with_listener(listener: Arc<dyn Listener>) -> Self {
        Self { listener: Some(listener), ..Self::default() }
    }

    /// Whether a delivery may be handed over now; if not, the next `written` says so.
    pub(crate) fn has_window(&self, window: usize) -> bool {
        let mut state = self.state.lock().expect("no panic holds it");
        let open = state.unwritten < window;
        state.starving |= !open;
        open
    }

    /// Hands over an output; `bytes` is what it takes of the window. The caller notifies.
    pub(crate) fn put(&self, output: Output, bytes: usize) {
        let mut state = self.state.lock().expect("no panic holds it");
        // A listener holds as many deliveries as its prefetch says; only of a large body, which
        // nobody else bounds, it takes no more than its consumer wants.
        let counts = self.listener.is_none() || matches!(output, Output::Piece { .. });
        state.unwritten += if counts { bytes } else { 0 };
        state.outputs.push(output);
    }

    /// Tells the connection's task that something is there.
    pub(crate) fn notify(&self) {
        match &self.listener {
            Some(listener) => listener.arrived(self),
            None => self.arrived.notify_one(),
        }
    }

    /// A subscription ends. The first delivery of it that its consumer has not seen, if it is less
    /// than what has left: `left` is the first that has not.
    pub(crate) fn unsubscribe(&self, subscription: SubscriptionId, left: Tag) -> Tag {
        let Some(listener) = &self.listener else { return left };
        let unseen = listener.forget(subscription);
        self.written(unseen.bytes);
        left.min(unseen.from)
    }

    pub(crate) fn close(&self, why: Closed) {
        self.state.lock().expect("no panic holds it").closed.get_or_insert(why);
        self.notify();
        self.ended.notify_one();
    }

    /// Takes everything that is there.
    ///
    /// # Errors
    /// When nothing is left and nothing will come.
    pub fn take(&self, into: &mut Vec<Output>) -> Result<(), Closed> {
        let mut state = self.state.lock().expect("no panic holds it");
        if state.outputs.is_empty()
            && let Some(why) = state.closed
        {
            return Err(why);
        }
        into.append(&mut state.outputs);
        Ok(())
    }

    /// Waits until something is there and takes it.
    ///
    /// # Errors
    /// When nothing is left and nothing will come.
    pub async fn receive(&self, into: &mut Vec<Output>) -> Result<(), Closed> {
        loop {
            self.take(into)?;
            if !into.is_empty() {
                return Ok(());
            }
            self.arrived.notified().await;
        }
    }

    /// Waits until the mailbox is closed, whatever is still in it.
    pub async fn closed(&self) -> Closed {
        loop {
            if let Some(why) = self.state.lock().expect("no panic holds it").closed {
                return why;
            }
            self.ended.notified().await;
        }
    }

    /// Says that deliveries of so many bytes have been written; true when the engine waits to
    /// hear of it.
    pub(crate) fn written(&self, bytes: usize) -> bool {
        let mut state = self.state.lock().expect("no panic holds it");
        state.unwritten -= bytes.min(state.unwritten);
        std::mem::take(&mut state.starving)
    }
}

/// Bytes that an output takes of its connection's window.
pub(crate) fn window_bytes(output: &Output) -> usize {
    match output {
        Output::Delivery(delivery) => delivery.content.len() + 256,
        Output::Piece { bytes, .. } => bytes.len(),
        Output::Answer { .. } | Output::Cancelled { .. } | Output::Broken { .. } => 0,
    }
}
