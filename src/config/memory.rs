//! How the memory limit is divided.

use super::{Config, ConfigError, in_range};
use crate::broker::Limits;
use crate::limits;

/// What the changes for one that begins a checkpoint cost, about: there are those that a checkpoint
/// is taking, and the many that may gather behind it.
pub(crate) const CHANGE_BYTES: u64 = (1 + limits::CHECKPOINTS_AHEAD_MAX as u64) * 120;

/// What the windows need at least, together.
const WINDOWS_BYTES_MIN: u64 = 16 << 20;

/// The parts of the memory limit that have no setting of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Divided {
    /// Bytes for the windows of all connections.
    pub(super) windows: usize,
    /// Places in the windows of all queues.
    pub(super) places: usize,
    /// Deliveries outstanding on all connections.
    pub(super) loans: usize,
}

impl Config {
    /// # Errors
    /// Where the parts are more than the whole.
    pub(super) fn divided(&self) -> Result<Divided, ConfigError> {
        let memory = &self.memory;
        let changes = (self.log.checkpoint_changes as u64).saturating_mul(CHANGE_BYTES);
        let parts = [
            memory.cache.bytes(),
            memory.index.bytes(),
            memory.non_persistent.bytes(),
            memory.held.bytes(),
            self.duplicates.memory.bytes(),
            limits::pending_bytes(self.duplicates.memory.bytes()),
            self.duplicates.producer_memory.bytes(),
            limits::pending_bytes(self.duplicates.producer_memory.bytes()),
            (limits::INBOX_BYTES_MAX + 2 * limits::GATHER_BYTES_MAX) as u64,
            changes,
        ];
        let parts = parts.into_iter().fold(0, u64::saturating_add);
        let left = memory.limit.bytes().saturating_sub(parts);
        let must = "at least the sum of its parts and 16 MiB: see memory.limit in the defaults";
        in_range(left >= WINDOWS_BYTES_MIN, "memory.limit", memory.limit.bytes(), must)?;
        // The fourth part is for what the allocator keeps of memory that it was given back: it has
        // a store of its own for each of the threads that compete for it.
        let windows = usize::try_from(left / 4).unwrap_or(usize::MAX);
        let (places, loans) = (windows / Limits::PLACE_BYTES, windows / Limits::LOAN_BYTES);
        Ok(Divided { windows, places, loans })
    }
}
