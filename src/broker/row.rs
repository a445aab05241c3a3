//! Entries and rows of queues as they begin, and how one return changes an entry.

use std::sync::Arc;

use crate::broker::Written;
use crate::broker::delta::{Entry, Marks, QueueRow};
use crate::ids::{Body, Millis};

impl Entry {
    /// The entry of a message that was written there.
    pub(super) fn born(
        written: Written,
        at: Millis,
        expires: Option<Millis>,
        upload: Option<Body>,
    ) -> Self {
        let Written { lsn: birth, frame_len: size } = written;
        let (due, note, held) = (None, None, false);
        Self { birth, size, at, expires, returns: 0, upload, due, note, held, shared: false }
    }

    /// The entry after one more return from a consumer.
    pub(super) fn returned(mut self) -> Self {
        self.returns = self.returns.saturating_add(1);
        self
    }
}

impl QueueRow {
    /// A queue in which nothing has been yet.
    #[must_use]
    pub fn new(name: Arc<str>) -> Self {
        Self {
            name,
            last_seq: 0,
            depth: 0,
            bytes: 0,
            lent_through: Marks::default(),
            redelivered_through: Marks::default(),
            staged: 0,
            staged_bytes: 0,
            held: 0,
            expiring: false,
            delayed: 0,
            restored_through: 0,
        }
    }

    /// An empty queue holds nothing that expires.
    pub(super) fn settle_hint(&mut self) {
        self.expiring &= self.depth > 0;
    }
}
