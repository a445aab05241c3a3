//! What can be chosen about the engine.

use std::sync::Arc;

use super::ParkLimits;
use crate::broker::policy::{Policies, WhenFull};

/// What can be chosen about the engine. The defaults fit most brokers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bounds of the broker's state.
    pub limits: crate::broker::Limits,
    /// Bytes of the newest payloads kept in memory.
    pub cache_bytes: usize,
    /// Bytes handed to one connection and not yet written, at most (and one message).
    pub window_bytes: usize,
    /// The same over all connections that consume: where they are many, each has less.
    pub windows_bytes: usize,
    /// Bytes of log after which a checkpoint begins: what a restart reads at most, about.
    pub checkpoint_bytes: u64,
    /// Changes in memory after which a checkpoint begins; about 120 bytes each.
    pub checkpoint_changes: usize,
    /// Milliseconds after which a checkpoint begins if anything has changed.
    pub checkpoint_millis: u64,
    /// Bytes that compaction reads and writes in a second, at most.
    pub compaction_bytes: u64,
    /// Bytes of the index kept in memory.
    pub index_bytes: usize,
    /// Limits of destinations.
    pub policies: Arc<Policies>,
    /// How much may wait for room.
    pub park: ParkLimits,
    /// Bytes of the disk kept free: with less, no sends are taken.
    pub disk_reserve: u64,
    /// What becomes of a send that the disk has no room for: held or refused.
    pub when_disk_full: WhenFull,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: crate::broker::Limits::default(),
            cache_bytes: 32 << 20,
            window_bytes: 256 << 10,
            windows_bytes: 256 << 20,
            checkpoint_bytes: 128 << 20,
            checkpoint_changes: 120_000,
            checkpoint_millis: 30_000,
            compaction_bytes: 64 << 20,
            index_bytes: 16 << 20,
            policies: Arc::default(),
            park: ParkLimits::default(),
            disk_reserve: 0,
            when_disk_full: WhenFull::Refuse,
        }
    }
}
