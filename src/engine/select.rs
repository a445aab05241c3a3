//! Messages judged by selectors, beside the engine: where their contents are, and what comes back.
//!
//! A thread of its own judges, so that whoever waits for a delivery never waits for a search. What
//! the cache has goes along; the rest is read from the log, once it is durable there.

use crate::broker::fact::Spot;
use crate::broker::{SelectRequest, Selected, Unjudged};
use crate::engine::cache::Cache;
use crate::engine::{Engine, Input, Job, StopError};
use crate::ids::Lsn;
use crate::limits;
use crate::wal::{ReadAhead, ReadError};

/// Adds the contents that are in memory, and tells up to where the log must be durable to have the
/// others.
pub(super) fn find(request: &mut SelectRequest, cache: &Cache) -> Lsn {
    let (mut need, mut bytes) = (Lsn::default(), 0);
    for Unjudged { in_log, content, .. } in &mut request.messages {
        let Some((birth, size)) = in_log else { continue };
        // What goes along stays in memory, whatever the cache forgets meanwhile.
        if bytes < limits::SELECT_BYTES_MAX {
            *content = cache.get(*birth).cloned();
        }
        if let Some(content) = content {
            bytes += content.len();
        } else {
            need = need.max(Lsn(birth.0 + u64::from(*size)));
        }
    }
    need
}

/// Judges messages, as far as they can be read. A message that is damaged counts as one that
/// matches: its delivery finds the damage, and sets it apart.
pub(crate) fn judge(request: SelectRequest, reader: &mut ReadAhead) -> Input {
    let SelectRequest { queue, group, question, messages } = request;
    let (mut verdicts, mut failed) = (Vec::with_capacity(messages.len()), Vec::new());
    for Unjudged { spot, envelope, in_log, content } in messages {
        let content = match (content, in_log) {
            (Some(content), _) => Ok(content),
            (None, Some((birth, size))) => reader.read(birth, size),
            (None, None) => unreachable!("what lives in memory is at hand"),
        };
        match content {
            Ok(content) => verdicts.push((spot, question.ask(&envelope, &content))),
            Err(ReadError::Damaged(_)) => verdicts.push((spot, question.unreadable())),
            Err(error) => failed.push((spot, error)),
        }
    }
    Input::Selected(Selected { queue, group, verdicts }, failed)
}

impl Engine {
    /// Has messages judged that can be read by now.
    pub(super) fn have_judged(&mut self, jobs: &mut Vec<Job>) {
        let durable = self.durable();
        let ready = self.unjudged.extract_if(.., |(need, _)| *need <= durable);
        jobs.extend(ready.map(|(_, request)| Job::Select(request)));
    }

    /// It is known which messages match.
    pub(super) fn selected(
        &mut self,
        selected: &Selected,
        failed: Vec<(Spot, ReadError)>,
    ) -> Result<(), StopError> {
        self.effort.add(selected.verdicts.len());
        // One that has left its queue may be read too late, when its segment is gone.
        let (queue, group) = (selected.queue, selected.group);
        let mut failed = failed.into_iter();
        if let Some((_, error)) = failed.find(|it| self.broker.asks_about(queue, group, it.0)) {
            return Err(StopError::Read(error));
        }
        self.broker.selected_in(selected);
        Ok(())
    }
}
