//! Whether the disk has less left than is kept free.
//!
//! Owns a flag that the threads beside the engine keep true by looking, and that the engine reads:
//! a turn asks no disk. Always: while the index's own reserve is out, the disk counts as short.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::io::Storage;
use crate::store::index::Index;

/// What is known of the room on the disk.
#[derive(Debug)]
pub struct DiskWatch {
    storage: Arc<dyn Storage>,
    index: Arc<Index>,
    reserve: u64,
    low: AtomicBool,
}

impl DiskWatch {
    pub(crate) fn new(storage: Arc<dyn Storage>, index: Arc<Index>, reserve: u64) -> Self {
        let watch = Self { storage, index, reserve, low: AtomicBool::new(false) };
        watch.look();
        watch
    }

    /// Looks at the disk; true if sends may go on that could not before.
    pub fn look(&self) -> bool {
        self.index.restore_reserve();
        // Where the system cannot tell, the log finds out when it makes its next segment.
        let short = self.storage.free().is_ok_and(|free| free < self.reserve);
        let low = short || (self.reserve > 0 && !self.index.has_reserve());
        let before = self.low.swap(low, Ordering::AcqRel);
        if low && !before {
            tracing::warn!(
                reserve = self.reserve,
                "the disk has less free than log.disk_reserve: no sends are taken"
            );
        }
        if before && !low {
            tracing::info!("the disk has room again: sends are taken");
        }
        before && !low
    }

    /// Whether sends are to be refused, though the log could take them.
    #[must_use]
    pub fn is_low(&self) -> bool {
        self.low.load(Ordering::Acquire)
    }

    /// Bytes kept free.
    #[must_use]
    pub fn reserve(&self) -> u64 {
        self.reserve
    }
}
