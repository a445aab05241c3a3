//! When what a turn has appended goes to the disk: at once if somebody waits for it, else with what
//! comes next.
//!
//! The operations of a transaction come one by one, and nobody waits for them before its commit:
//! each would cost a sync, and the commit would wait for the end of one that helps nobody. So they
//! linger, though never for long: what was not asked about should not be lost either.

use crate::ids::Millis;
use crate::limits;
use crate::wal::Log;

#[derive(Debug, Default)]
pub(super) struct Linger {
    /// Since when something has gathered for which nobody waits.
    since: Option<Millis>,
}

impl Linger {
    /// Submits what has gathered, if it is `awaited` or has lingered for long enough.
    pub(super) fn submit(&mut self, log: &Log, now: Millis, awaited: bool) {
        let since = self.since.filter(|_| log.lingers());
        let over = |since: Millis| {
            // The clock may go back.
            now < since || now.0 - since.0 >= limits::LINGER_MILLIS
        };
        if awaited || since.is_some_and(over) {
            log.submit();
        }
        self.since = log.lingers().then_some(since.unwrap_or(now));
    }

    /// When that must be looked at again.
    pub(super) fn next_deadline(&self) -> Option<Millis> {
        self.since.map(|since| Millis(since.0.saturating_add(limits::LINGER_MILLIS)))
    }
}
