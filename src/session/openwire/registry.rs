//! What OpenWire connections know of each other: who is there, whose temporary destinations, and
//! what advisories tell of.
//!
//! Always: a client's name, and a connection's, belong to one connection at a time; who comes back
//! under the name of a connection of the same user ends the other one, and is served when that has
//! gone.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard};

use super::present::{Change, Fact, Kind, Present, Subject, Told};
use crate::ids::ConnectionId;
use crate::message::{Destination, TEMPORARY, Wildcard};
use crate::protocol::openwire::table::ConsumerId;

/// Wakes whoever waits for a change in the registry.
pub trait Waker: Debug + Send + Sync {
    /// Something has changed that concerns it.
    fn wake(&self);
}

/// All connections of a broker.
#[derive(Debug, Default)]
pub struct Registry(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    living: HashMap<ConnectionId, Living>,
    /// By the names that clients give their connections, and themselves.
    by_name: HashMap<String, ConnectionId>,
    by_client: HashMap<String, ConnectionId>,
    /// The temporary destinations, as the broker names them.
    temporary: BTreeMap<Destination, ConnectionId>,
    /// How many consumers each topic of advisories has.
    audience: HashMap<String, usize>,
    /// Those of them that are patterns.
    patterns: HashMap<String, Wildcard>,
    /// What they are told of.
    present: Present,
    /// Temporary queues whose connection has gone.
    doomed: Vec<Box<str>>,
    undertaker: Option<Arc<dyn Waker>>,
}

#[derive(Debug)]
struct Living {
    name: String,
    client: String,
    user: Option<String>,
    evicted: bool,
    waker: Arc<dyn Waker>,
    /// Those who come in its place.
    heirs: Vec<Arc<dyn Waker>>,
}

/// Who wants to be there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Newcomer<'a> {
    /// What it calls the connection, and itself.
    pub(super) name: &'a str,
    pub(super) client: &'a str,
    /// As whom it was let in, where that is asked.
    pub(super) user: Option<&'a str>,
}

/// What comes of a wish to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// It is.
    Granted,
    /// Another connection of that name is on its way out: ask again when woken.
    Wait,
    /// Another client has that name, or another user that connection.
    Taken,
}

impl Registry {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic holds it")
    }

    pub(super) fn enter(
        &self,
        me: ConnectionId,
        Newcomer { name, client, user }: Newcomer<'_>,
        waker: &Arc<dyn Waker>,
    ) -> Entry {
        let mut state = self.state();
        if let Some(other) = state.by_name.get(name).copied() {
            let living = state.living.get_mut(&other).expect("named while it lives");
            // Who has heard of the name of another's connection does not end it.
            if living.user.as_deref() != user {
                return Entry::Taken;
            }
            living.evicted = true;
            living.waker.wake();
            living.heirs.push(Arc::clone(waker));
            return Entry::Wait;
        }
        if state.by_client.contains_key(client) {
            return Entry::Taken;
        }
        state.by_name.insert(name.to_owned(), me);
        state.by_client.insert(client.to_owned(), me);
        let living = Living {
            name: name.to_owned(),
            client: client.to_owned(),
            user: user.map(str::to_owned),
            evicted: false,
            waker: Arc::clone(waker),
            heirs: Vec::new(),
        };
        state.living.insert(me, living);
        Entry::Granted
    }

    /// Whether another connection comes in place of this one.
    pub(super) fn is_evicted(&self, me: ConnectionId) -> bool {
        self.state().living.get(&me).is_some_and(|living| living.evicted)
    }

    /// A connection has gone, and so have its temporary destinations.
    pub(super) fn leave(&self, me: ConnectionId) {
        let mut state = self.state();
        let Some(living) = state.living.remove(&me) else { return };
        state.by_name.remove(&living.name);
        state.by_client.remove(&living.client);
        let mine = state.temporary.iter().filter(|(_, owner)| **owner == me);
        let mine: Vec<_> = mine.map(|(destination, _)| destination.clone()).collect();
        for destination in mine {
            state.temporary.remove(&destination);
            state.doom(&destination);
        }
        state.present.end_all(me);
        living.heirs.iter().for_each(|heir| heir.wake());
    }

    /// Somebody listens to a topic of advisories, or, where it is not `more`, does not any longer.
    pub(super) fn listen(&self, topic: &str, more: bool) {
        let mut state = self.state();
        let count = state.audience.entry(topic.to_owned()).or_default();
        *count = if more { *count + 1 } else { count.saturating_sub(1) };
        let heard = *count > 0;
        if let Ok(Some(pattern)) = Wildcard::of(&Destination::topic(topic)) {
            state.patterns.insert(topic.to_owned(), pattern);
        }
        if !heard {
            state.audience.remove(topic);
            state.patterns.remove(topic);
        }
    }

    /// Whether somebody listens to a topic of advisories, perhaps by a pattern.
    pub(super) fn has_audience(&self, topic: &str) -> bool {
        let state = self.state();
        state.audience.contains_key(topic) || state.patterns.values().any(|it| it.catches(topic))
    }

    /// Something is there now that advisories tell of.
    pub(super) fn begin(&self, kind: Kind, subject: Subject, fact: Fact) -> Change {
        self.state().present.begin(kind, subject, fact)
    }

    /// Something is there no longer; nothing where it was not.
    pub(super) fn end(&self, kind: Kind, subject: Subject) -> Option<Change> {
        self.state().present.end(kind, subject)
    }

    /// Whether a bridge waits for what one of these consumers of other brokers does.
    pub(super) fn is_bridged<'a>(&self, mut ids: impl Iterator<Item = &'a ConsumerId>) -> bool {
        let state = self.state();
        ids.any(|id| state.present.is_bridged(id))
    }

    /// How many consumers of this wire a destination has.
    pub(super) fn consumers_of(&self, destination: &Destination) -> usize {
        self.state().present.consumers_of(destination)
    }

    /// The next of what is there, of a kind.
    pub(super) fn present(&self, kind: Kind, after: Option<&Subject>, limit: usize) -> Vec<Told> {
        self.state().present.page(kind, after, limit)
    }

    /// A temporary destination begins; false where it is there already.
    pub(super) fn add(&self, me: ConnectionId, destination: Destination) -> bool {
        let mut state = self.state();
        let new = !state.temporary.contains_key(&destination);
        if new {
            state.temporary.insert(destination, me);
        }
        new
    }

    /// A temporary destination ends; false where it is not this connection's.
    pub(super) fn remove(&self, me: ConnectionId, destination: &Destination) -> bool {
        let mut state = self.state();
        let mine = state.temporary.get(destination) == Some(&me);
        if mine {
            state.temporary.remove(destination);
            state.doom(destination);
        }
        mine
    }

    /// Whose a temporary destination is.
    pub(super) fn owner(&self, destination: &Destination) -> Option<ConnectionId> {
        self.state().temporary.get(destination).copied()
    }

    /// The temporary destinations of one connection.
    pub(super) fn temporary_of(&self, me: ConnectionId) -> Vec<Destination> {
        let state = self.state();
        let mine = state.temporary.iter().filter(|(_, owner)| **owner == me);
        mine.map(|(destination, _)| destination.clone()).collect()
    }

    /// Names who removes the queues of temporary destinations that have ended.
    pub fn set_undertaker(&self, waker: Arc<dyn Waker>) {
        self.state().undertaker = Some(waker);
    }

    /// Takes the queues that are to be removed.
    #[must_use]
    pub fn take_doomed(&self) -> Vec<Box<str>> {
        std::mem::take(&mut self.state().doomed)
    }

    /// Whether a queue of that name is a temporary one of nobody.
    #[must_use]
    pub fn is_orphan(&self, queue: &str) -> bool {
        let destination = Destination::queue(queue);
        queue.starts_with(TEMPORARY) && !self.state().temporary.contains_key(&destination)
    }
}

impl State {
    fn doom(&mut self, destination: &Destination) {
        let Destination::Queue(name) = destination else { return };
        self.doomed.push((**name).into());
        if let Some(undertaker) = &self.undertaker {
            undertaker.wake();
        }
    }
}
