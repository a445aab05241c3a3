//! Producers that the index has and memory has not yet.
//!
//! There may be very many, and a start is not to wait for them: they are read some at a time while
//! the broker already serves. Always: as long as one is lacking, no record touches any, so that the
//! index has each as it is; whoever sends under a number waits until all are here, and a start
//! reads all of them at once where the log has such a record.

use crate::broker::delta::ProducerRow;
use crate::broker::durable::Durable;
use crate::broker::fact::{Effect, ProducersPage, ProducersRequest};
use crate::broker::{Broker, Effects};
use crate::identity::Identity;
use crate::limits;
use crate::record::Record;

/// How far memory has what the index has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Lack {
    /// All of it.
    #[default]
    None,
    /// Up to this one.
    After(Option<Identity>),
    /// The same, and what follows is being read.
    Asked(Option<Identity>),
}

impl Durable {
    /// Whether some are not here.
    pub(in crate::broker) fn lacks_producers(&self) -> bool {
        self.producers.lack != Lack::None
    }
}

impl Broker {
    /// Whether the index has producers that are not here: then nothing is decided under a number.
    #[must_use]
    pub fn lacks_producers(&self) -> bool {
        self.durable.lacks_producers()
    }

    /// Whether they must be here before a record is applied.
    #[must_use]
    pub fn needs_producers(&self, record: &Record) -> bool {
        self.lacks_producers() && (record.is_of_producers() || self.settles_producers())
    }

    /// Whether they must be here before anything is decided: transactions have sent for some, and
    /// records of several kinds settle that.
    #[must_use]
    pub fn settles_producers(&self) -> bool {
        self.lacks_producers() && !self.durable.producers.staged.is_empty()
    }

    /// Whether there is something to be read of them.
    pub(in crate::broker) fn has_producers_to_read(&self) -> bool {
        matches!(self.durable.producers.lack, Lack::After(_))
    }

    /// What is to be read next of them.
    #[must_use]
    pub fn next_producers(&self) -> Option<ProducersRequest> {
        match self.durable.producers.lack {
            Lack::After(after) => Some(ProducersRequest { after, limit: limits::PRODUCERS_PAGE }),
            Lack::None | Lack::Asked(_) => None,
        }
    }

    /// Asks for some; false where there is nothing to ask for now.
    pub(in crate::broker) fn ask_producers(&mut self, effects: &mut Effects) -> bool {
        let Some(request) = self.next_producers() else { return false };
        self.durable.producers.lack = Lack::Asked(request.after);
        effects.push(Effect::Producers(request));
        true
    }

    /// Takes in some that were asked for.
    pub fn producers_in(&mut self, page: ProducersPage) {
        let ProducersPage { request, rows } = page;
        let producers = &mut self.durable.producers;
        let expected = [Lack::After(request.after), Lack::Asked(request.after)];
        assert!(expected.contains(&producers.lack), "these were not asked for: {request:?}");
        let last = rows.last().map(|(id, _): &(Identity, ProducerRow)| *id);
        let more = rows.len() >= request.limit;
        rows.into_iter().for_each(|(id, row)| producers.put(id, row));
        producers.lack = if more { Lack::After(last) } else { Lack::None };
    }
}
