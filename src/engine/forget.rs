//! Gives back the memory of changes that the index has taken.
//!
//! An allocator sorts what was given back when somebody next wants memory, and that is the engine:
//! for the hundreds of thousands of pieces of a whole delta it takes milliseconds, in the middle of
//! a turn. So they are given back some at a time, with rests in which the engine takes its share.

use std::sync::Arc;
use std::time::Duration;

use crate::broker::delta::Delta;
use crate::limits;

/// Drops changes, slowly.
pub(super) fn forget(delta: Arc<Delta>) {
    // Whoever else still has it drops it.
    let Some(delta) = Arc::into_inner(delta) else { return };
    let Delta { entries, queues, moved, pieces, due, operations, outcomes, names, .. } = delta;
    some_at_a_time(delta.shares);
    some_at_a_time(delta.producers);
    some_at_a_time(delta.numbered);
    some_at_a_time(delta.transactions);
    some_at_a_time(delta.branches);
    some_at_a_time(entries);
    some_at_a_time(queues);
    some_at_a_time(moved);
    some_at_a_time(pieces);
    some_at_a_time(due);
    some_at_a_time(operations);
    some_at_a_time(outcomes);
    some_at_a_time(names);
}

fn some_at_a_time<T>(all: impl IntoIterator<Item = T>) {
    let mut all = all.into_iter();
    while all.by_ref().take(limits::FORGET_AT_ONCE).count() == limits::FORGET_AT_ONCE {
        std::thread::sleep(Duration::from_micros(limits::FORGET_REST_MICROS));
    }
}
