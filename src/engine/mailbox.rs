//! What waits to be written to one connection, between the engine and the connection's task.
//!
//! Bounded by a window of bytes: the engine hands over a delivery only while less than the window
//! is unwritten, so a peer that does not read costs the window and no more.

use std::sync::Mutex;

use tokio::sync::Notify;

use crate::broker::command::Output;

/// The queue of one connection's outputs.
#[derive(Debug, Default)]
pub struct Mailbox {
    state: Mutex<State>,
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
        state.unwritten += bytes;
        state.outputs.push(output);
    }

    /// Tells the connection's task that something is there.
    pub(crate) fn notify(&self) {
        self.arrived.notify_one();
    }

    pub(crate) fn close(&self, why: Closed) {
        self.state.lock().expect("no panic holds it").closed.get_or_insert(why);
        self.arrived.notify_one();
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
