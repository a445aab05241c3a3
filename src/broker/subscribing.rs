//! Durable subscriptions as their clients begin and end them.
//!
//! Always: a subscription has one consumer at most; one that is made anew with other words keeps
//! nothing of what the older kept; what is to go goes some messages at a time, and whoever waits
//! for it hears when nothing of it is left. A subscription whose consumer has gone stays.

use std::sync::Arc;

use crate::broker::Broker;
use crate::broker::command::{
    Command, KeepAs, KeptInfo, KeptName, KeptPage, Reader, Refusal, Work,
};
use crate::broker::decide::{DONE, Verdict, check_name};
use crate::broker::fact::{Asker, Change, ConsumerKey, Fact, Source};
use crate::broker::held::{Subscription, is_reserved};
use crate::broker::transfer::Transfer;
use crate::ids::{ConnectionId, Millis, QueueId};
use crate::limits;
use crate::message::Destination;

/// What decide states.
impl Broker {
    /// Refuses what names a queue that is a subscription's, or its topic's, to put something there
    /// or to take it away as if it were a queue like others.
    pub(super) fn check_reserved(&self, command: &Command) -> Result<(), Refusal> {
        let named = match command {
            Command::Send { to, .. }
            | Command::Stage { to, .. }
            | Command::SendStaged { to, .. }
            | Command::Transact {
                work: Work::Send { to, .. } | Work::SendStaged { to, .. }, ..
            }
            | Command::Subscribe { from: to, .. }
            | Command::SubscribeAs { from: to, .. } => to,
            // What was set apart of a subscription may go back there.
            Command::Move { to, .. } if is_reserved(to) => {
                let known = self.names.get(&**to);
                let there = known.is_some_and(|id| self.held.is_there(*id));
                return if there { Ok(()) } else { Err(Refusal::ReservedName) };
            }
            _ => return Ok(()),
        };
        match named {
            Destination::Queue(name) if is_reserved(name) => Err(Refusal::ReservedName),
            _ => Ok(()),
        }
    }

    /// States that a connection is that client's, unless it is known.
    pub(super) fn decide_identify(
        &self,
        connection: ConnectionId,
        client: &Arc<str>,
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        check_held_name(client)?;
        let client = Some(Arc::clone(client));
        facts.push(Fact::Memory(Change::Identified { connection, client }));
        DONE
    }

    pub(super) fn decide_keep(
        &self,
        now: Millis,
        key: ConsumerKey,
        keep: &KeepAs,
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        if self.consumers.contains_key(&key) {
            return Err(Refusal::SubscriptionExists(key.1));
        }
        let wanted = self.wanted(keep)?;
        let known = self.held.find(&keep.client, &keep.name);
        if known.is_some_and(|(id, _)| !self.queues[&id].consumers.is_empty()) {
            return Err(in_use(&keep.client, &keep.name));
        }
        let queue = match known {
            Some((id, known)) if known.is_like(&wanted) => id,
            older => {
                let guarded = older.zip(keep.reader.as_ref());
                guarded.map_or(Ok(()), |((_, older), reader)| reader.check(&older.topic))?;
                self.state_new(now, wanted, facts)?
            }
        };
        if self.client_of(key.0) != Some(&keep.client) {
            let (connection, client) = (key.0, Some(keep.client.clone()));
            facts.push(Fact::Memory(Change::Identified { connection, client }));
        }
        let (source, prefetch) = (Source::Queue(queue), keep.prefetch.min(self.limits.prefetch));
        // What it wants of its topic was judged before anything came here.
        let selector = None;
        facts.push(Fact::Memory(Change::Subscribe { key, source, prefetch, selector }));
        DONE
    }

    fn wanted(&self, keep: &KeepAs) -> Result<Subscription, Refusal> {
        check_name(&keep.topic)?;
        check_held_name(&keep.client)?;
        check_held_name(&keep.name)?;
        let selector = keep.selector.clone();
        let limit = limits::HELD_SELECTOR_BYTES_MAX;
        if selector.as_ref().is_some_and(|selector| selector.text().len() > limit) {
            return Err(Refusal::SelectorTooLong { limit });
        }
        let (client, name, topic) = (keep.client.clone(), keep.name.clone(), keep.topic.clone());
        let (no_local, after, again) = (keep.no_local, Vec::new(), 0);
        Ok(Subscription { client, name, topic, selector, no_local, after, again })
    }

    /// States that a subscription is there from now on, in the place of any of its identity.
    fn state_new(
        &self,
        now: Millis,
        wanted: Subscription,
        facts: &mut Vec<Fact>,
    ) -> Result<QueueId, Refusal> {
        self.held.check_pattern(&wanted.topic)?;
        self.check_keepers(&wanted.topic)?;
        let after = self.lines_now(&wanted.topic);
        let mut wanted = Subscription { after, ..wanted };
        if self.names.contains_key(&*wanted.queue_name()) {
            wanted.again = self.durable.scalars.last_queue + 1;
        }
        let name = wanted.queue_name();
        self.check_count(&name)?;
        Ok(self.queue_or_new(now, &name, facts).0)
    }

    pub(super) fn decide_end_kept(
        &self,
        asker: Asker,
        (client, name): (&str, &str),
        reader: Option<&dyn Reader>,
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        let unknown = || Refusal::NoSuchKept { client: client.into(), name: name.into() };
        let (id, known) = self.held.find(client, name).ok_or_else(unknown)?;
        reader.map_or(Ok(()), |reader| reader.check(&known.topic))?;
        let queue = &self.queues[&id];
        if !queue.consumers.is_empty() {
            return Err(in_use(client, name));
        }
        if queue.row.held > 0 || queue.row.staged > 0 {
            return Err(Refusal::QueueInTransactions((&*queue.row.name).into()));
        }
        facts.push(Fact::Memory(Change::Forsake { queue: id, asker }));
        Ok(Verdict::Later)
    }

    /// Durable subscriptions from this one on, of a bounded number those that `reader` may know.
    pub(super) fn list_kept(&self, from: &KeptName, reader: Option<&dyn Reader>) -> KeptPage {
        let mut all = self.held.from(from);
        let page: Vec<_> = all.by_ref().take(limits::LIST_QUEUES_MAX).collect();
        let known = |topic| reader.is_none_or(|reader| reader.check(topic).is_ok());
        let kept = page.into_iter().filter(|it| known(&it.topic)).map(|it| KeptInfo {
            client: Arc::clone(&it.client),
            name: Arc::clone(&it.name),
            topic: Arc::clone(&it.topic),
        });
        let next = all.next().map(|it| (Arc::clone(&it.client), Arc::clone(&it.name)));
        KeptPage { kept: kept.collect(), next }
    }
}

/// What follows by itself.
impl Broker {
    /// A subscription that is to go and of which nobody has anything, and that is not going yet.
    fn next_remnant(&self) -> Option<QueueId> {
        let is_free = |id: &&QueueId| {
            self.queues.get(id).is_some_and(|queue| {
                let rests = queue.on_loan.is_empty() && queue.volatile_on_loan.is_empty();
                let decided = queue.row.held == 0 && queue.row.staged == 0;
                rests && decided && queue.consumers.is_empty()
            })
        };
        let moved = |id: &QueueId| {
            let into = |transfer: &Transfer| transfer.is_to(*id);
            self.transfers.contains_key(id) || self.transfers.values().any(into)
        };
        // Some at a time: who looks for one that can go on looks at all of them.
        if self.sweeps.len() >= limits::REMNANTS_AT_ONCE {
            return None;
        }
        let idle = |id: &&QueueId| !self.sweeps.contains_key(*id) && !moved(id);
        self.held.resting_remnants.iter().filter(idle).find(is_free).copied()
    }

    pub(super) fn has_remnants(&self) -> bool {
        !self.held.resting_remnants.is_empty() && self.next_remnant().is_some()
    }

    /// States that what a subscription has kept begins to go; false where none is to.
    pub(super) fn state_remnant(&self, facts: &mut Vec<Fact>) -> bool {
        let Some(queue) = self.next_remnant() else { return false };
        facts.push(Fact::Memory(Change::Sweep { queue, asker: None, delete: true }));
        true
    }
}

/// What apply does.
impl Broker {
    pub(super) fn apply_held(&mut self, change: Change) {
        match change {
            Change::Identified { connection, client } => {
                self.held.clients.remove(&connection);
                self.held.clients.extend(client.map(|client| (connection, client)));
            }
            Change::Forsake { queue, asker } => self.held.forsake(queue, Some(asker)),
            _ => unreachable!("the others are not of durable subscriptions"),
        }
    }
}

fn in_use(client: &str, name: &str) -> Refusal {
    Refusal::KeptInUse { client: client.into(), name: name.into() }
}

fn check_held_name(name: &str) -> Result<(), Refusal> {
    let limit = limits::HELD_NAME_BYTES_MAX;
    let fits = !name.is_empty() && name.len() <= limit;
    if fits { Ok(()) } else { Err(Refusal::BadSubscriptionName { limit }) }
}
