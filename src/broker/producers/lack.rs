//! Producers that the index has and memory has not yet.
//!
//! There may be very many, and a start is not to wait for them: they are read some at a time while
//! the broker already serves, when those who have waited for it have had their first answers, and
//! one that somebody speaks for is read at once, by name. Always: no
//! record touches one that is lacking, so that the index has it as it is; and what was read by name
//! is not read again, for it may have changed since.

use std::collections::BTreeSet;

use crate::broker::durable::Durable;
use crate::broker::fact::{Effect, ProducersPage, ProducersRequest};
use crate::broker::{Broker, Effects};
use crate::identity::Identity;
use crate::ids::Millis;
use crate::limits;
use crate::record::Record;

/// What of the index memory has not.
#[derive(Debug, Default)]
pub(super) struct Lack {
    read: Read,
    /// Beyond what was read in order: those that are known, in memory or to be nowhere.
    known: BTreeSet<Identity>,
    /// Those that are being read by name.
    sought: BTreeSet<Identity>,
}

/// How far they were read in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Read {
    #[default]
    All,
    /// Up to this one.
    To(Option<Identity>),
    /// The same, and what follows is being read.
    Asked(Option<Identity>),
}

impl Lack {
    pub(super) fn of_all() -> Self {
        Self { read: Read::To(None), ..Self::default() }
    }

    pub(super) fn is_none(&self) -> bool {
        self.read == Read::All
    }

    fn has(&self, id: Identity) -> bool {
        match self.read {
            Read::All => false,
            Read::To(last) | Read::Asked(last) => {
                last.is_none_or(|last| id > last) && !self.known.contains(&id)
            }
        }
    }
}

impl Durable {
    /// Whether this one is not here, or whether it is not known.
    pub(in crate::broker) fn lacks_producer(&self, id: Identity) -> bool {
        self.producers.lack.has(id)
    }
}

impl Broker {
    /// Whether the index has producers that are not here: then none is forgotten or said to have
    /// parted.
    pub(in crate::broker) fn lacks_producers(&self) -> bool {
        !self.durable.producers.lack.is_none()
    }

    /// Whether it is not known if the index has this one.
    #[must_use]
    pub fn lacks_producer(&self, id: Identity) -> bool {
        self.durable.lacks_producer(id)
    }

    /// Whether nothing is to be decided yet under a number of this one. That is so until it was
    /// read by name, where it is, though it may have come with others: who speaks for it meanwhile
    /// comes after those who wait.
    #[must_use]
    pub fn awaits_producer(&self, id: Identity) -> bool {
        self.lacks_producer(id) || self.durable.producers.lack.sought.contains(&id)
    }

    /// Those of which a record tells and that must be here before it is applied.
    pub fn lacked_by<'a>(&'a self, record: &'a Record) -> impl Iterator<Item = Identity> + 'a {
        let all = if self.lacks_producers() { record.producers() } else { &[] };
        all.iter().copied().filter(|id| self.lacks_producer(*id))
    }

    /// Those that must be here before anything is decided or applied: transactions that are not
    /// over have sent under their numbers, and records of several kinds settle that.
    pub fn lacked_by_transactions(&self) -> impl Iterator<Item = Identity> {
        let staging = self.durable.producers.staging.keys().copied();
        staging.filter(|id| self.lacks_producer(*id))
    }

    /// When the next of them are to be read, unless that is under way.
    pub(in crate::broker) fn next_producers_read(&self) -> Option<Millis> {
        let waits = matches!(self.durable.producers.lack.read, Read::To(_));
        let at = self.durable.scalars.life_at.saturating_add(limits::PRODUCERS_REST_MILLIS);
        waits.then_some(Millis(at))
    }

    /// Whether there is something to be read of them now.
    pub(in crate::broker) fn has_producers_to_read(&self, now: Millis) -> bool {
        // A clock that was set back meanwhile says nothing.
        let began = Millis(self.durable.scalars.life_at);
        self.next_producers_read().is_some_and(|at| at <= now || now < began)
    }

    /// Asks for some; false where there is nothing to ask for now.
    pub(in crate::broker) fn ask_producers(&mut self, now: Millis, effects: &mut Effects) -> bool {
        if !self.has_producers_to_read(now) {
            return false;
        }
        let lack = &mut self.durable.producers.lack;
        let Read::To(after) = lack.read else { return false };
        lack.read = Read::Asked(after);
        let limit = limits::PRODUCERS_PAGE;
        effects.push(Effect::Producers(ProducersRequest::Next { after, limit }));
        true
    }

    /// Asks for one that is lacking. Its page comes once, however often it is asked for before.
    pub fn seek_producer(&mut self, id: Identity, effects: &mut Effects) {
        if self.durable.producers.lack.sought.insert(id) {
            effects.push(Effect::Producers(ProducersRequest::One(id)));
        }
    }

    /// Takes in what was asked for.
    pub fn producers_in(&mut self, page: ProducersPage) {
        let ProducersPage { request, mut rows } = page;
        let producers = &mut self.durable.producers;
        match request {
            ProducersRequest::One(id) => {
                producers.lack.sought.remove(&id);
                // It may have come with the others meanwhile, and be another one since.
                if !producers.lack.has(id) {
                    return;
                }
                producers.lack.known.insert(id);
            }
            ProducersRequest::Next { after, limit } => {
                let lack = &mut producers.lack;
                assert_eq!(lack.read, Read::Asked(after), "these were not asked for");
                let last = rows.last().map(|(id, _)| *id);
                let more = rows.len() >= limit;
                rows.retain(|(id, _)| !lack.known.contains(id));
                lack.read = if more { Read::To(last) } else { Read::All };
                lack.known = match last {
                    Some(last) if more => lack.known.split_off(&last),
                    _ => BTreeSet::new(),
                };
            }
        }
        rows.into_iter().for_each(|(id, row)| producers.put(id, row));
    }
}
