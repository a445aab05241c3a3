//! The locks and atomics of the hand-over between the threads, in their ordinary or their model
//! form.
//!
//! Under `cfg(model_loom)` the same code runs on `loom`'s, so that `tests::loom` can try every
//! interleaving of the hand-over. What takes no part in it stays ordinary: reference counts, and
//! the catalog's lock, under which nothing of the hand-over is ever touched.

#[cfg(model_loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(model_loom)]
pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(model_loom))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(model_loom))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};

/// Locks, going on where another thread died: the state under these locks is changed in one step
/// at a time, and a log whose thread died is failed by its owner anyway.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
