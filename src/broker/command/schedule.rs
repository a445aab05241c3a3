//! What operators are told of messages that come again and again.

use std::sync::Arc;

use crate::ids::{Lsn, Millis, NoteId};
use crate::schedule::Plan;

/// A message that comes again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleInfo {
    /// Its number, by which it is ended.
    pub id: NoteId,
    /// Its queue.
    pub queue: Arc<str>,
    /// Its birth: the name that its occurrences have as their `scheduledJobId`.
    pub message: Lsn,
    /// When it comes.
    pub plan: Plan,
    /// Its next occurrence.
    pub next: Millis,
    /// Occurrences of its series after that; `None` is without end.
    pub left: Option<u32>,
}
