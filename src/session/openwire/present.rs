//! What advisories tell of: who and what is there now.
//!
//! Owns one fact for each connection, bridge, temporary destination, topic in use, producer and
//! consumer, with the topic of advisories that it is told on. Always: what there is of a connection
//! goes with it, so that there are no more facts than the connections may have things; pages of
//! facts come in one order. Queues are the broker's to list.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use super::advisory::is_advisory;
use super::names;
use crate::ids::ConnectionId;
use crate::message::Destination;
use crate::protocol::openwire::Structure;
use crate::protocol::openwire::primitive::Value;
use crate::protocol::openwire::table::{ConsumerId, DestinationInfo};

/// The kinds of facts, in the order in which they are told: where a message could go, before those
/// who wait for it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Connection,
    Bridge,
    TempQueue,
    TempTopic,
    Topic,
    Producer,
    Consumer,
}

impl Kind {
    pub(super) const ALL: [Self; 7] = [
        Self::Connection,
        Self::Bridge,
        Self::TempQueue,
        Self::TempTopic,
        Self::Topic,
        Self::Producer,
        Self::Consumer,
    ];

    /// How the names of its topics begin.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Connection => "ActiveMQ.Advisory.Connection",
            Self::Bridge => "ActiveMQ.Advisory.NetworkBridge",
            Self::TempQueue => "ActiveMQ.Advisory.TempQueue",
            Self::TempTopic => "ActiveMQ.Advisory.TempTopic",
            Self::Topic => "ActiveMQ.Advisory.Topic",
            Self::Producer => "ActiveMQ.Advisory.Producer.",
            Self::Consumer => "ActiveMQ.Advisory.Consumer.",
        }
    }

    /// What is told of such a fact, where `count` use the destination.
    pub(super) fn properties(self, count: usize) -> Properties {
        let count = Value::Int(i32::try_from(count).unwrap_or(i32::MAX));
        match self {
            Self::Producer => vec![("producerCount", count)],
            Self::Consumer => vec![("consumerCount", count)],
            _ => Vec::new(),
        }
    }
}

/// What is told of a bridge that is up, and that comes from there.
pub(super) fn of_bridge(peer: &str) -> Properties {
    // It is the other side that lays bridges.
    vec![STARTED, ("createdByDuplex", Value::Bool(1)), ("remoteIp", Value::text(peer))]
}

/// What an advisory tells by its properties.
pub(super) type Properties = Vec<(&'static str, Value)>;

/// Of a bridge, that it is up; and that it is no longer.
const STARTED: (&str, Value) = ("started", Value::Bool(1));
pub(super) const STOPPED: (&str, Value) = ("started", Value::Bool(0));

/// What a fact is about, among those of its kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// Something that a connection has numbered.
    Of(ConnectionId, i64, i64),
    Destination(Destination),
}

impl Subject {
    const FIRST: Self = Self::Of(ConnectionId(0), i64::MIN, i64::MIN);
}

#[derive(Clone, Debug)]
pub(super) struct Fact {
    /// The topic that it is told on.
    pub(super) topic: Box<str>,
    pub(super) about: Structure,
    /// The destinations that a producer or a consumer uses.
    pub(super) uses: Arc<[Destination]>,
    /// What is told of it beside itself and how many there are.
    pub(super) more: Properties,
}

impl Fact {
    /// Something that uses no destination.
    pub(super) fn new(topic: &str, about: Structure) -> Self {
        Self { topic: topic.into(), about, uses: [].into(), more: Vec::new() }
    }
}

/// A fact, and how many now use what it uses.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) kind: Kind,
    pub(super) subject: Subject,
    pub(super) fact: Fact,
    pub(super) count: usize,
}

/// What changed with a producer or a consumer.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) fact: Fact,
    /// How many there are of its kind, now.
    pub(super) count: usize,
    /// Destinations that nobody used before, or that nobody uses any longer.
    pub(super) edges: Vec<Destination>,
}

#[derive(Debug, Default)]
pub(super) struct Present {
    facts: BTreeMap<(Kind, Subject), Fact>,
    users: HashMap<Destination, Users>,
    /// Consumers of other brokers for which bridges wait, each with how many do.
    bridged: HashMap<ConsumerId, usize>,
}

#[derive(Debug, Default)]
struct Users {
    producers: usize,
    consumers: usize,
}

impl Users {
    fn of(&mut self, kind: Kind) -> &mut usize {
        if kind == Kind::Producer { &mut self.producers } else { &mut self.consumers }
    }

    fn none(&self) -> bool {
        self.producers == 0 && self.consumers == 0
    }
}

impl Present {
    /// Something is there now, if it was not.
    pub(super) fn begin(&mut self, kind: Kind, subject: Subject, fact: Fact) -> Change {
        let key = (kind, subject);
        let mut edges = Vec::new();
        if !self.facts.contains_key(&key) {
            for destination in fact.uses.iter() {
                let users = self.users.entry(destination.clone()).or_default();
                if users.none() {
                    edges.push(destination.clone());
                }
                *users.of(kind) += 1;
            }
            for id in bridged(&fact) {
                *self.bridged.entry(id.clone()).or_default() += 1;
            }
            self.facts.insert(key, fact.clone());
            for topic in edges.iter().filter(|edge| is_topic(edge)) {
                let key = (Kind::Topic, Subject::Destination(topic.clone()));
                self.facts.insert(key, topic_in_use(topic));
            }
        }
        Change { count: self.count(kind, &fact), fact, edges }
    }

    /// Something is there no longer; nothing where it was not.
    pub(super) fn end(&mut self, kind: Kind, subject: Subject) -> Option<Change> {
        let fact = self.facts.remove(&(kind, subject))?;
        for id in bridged(&fact) {
            let Some(count) = self.bridged.get_mut(id) else { continue };
            *count -= 1;
            if *count == 0 {
                self.bridged.remove(id);
            }
        }
        let mut edges = Vec::new();
        for destination in fact.uses.iter() {
            let Some(users) = self.users.get_mut(destination) else { continue };
            *users.of(kind) -= 1;
            if users.none() {
                self.users.remove(destination);
                self.facts.remove(&(Kind::Topic, Subject::Destination(destination.clone())));
                edges.push(destination.clone());
            }
        }
        Some(Change { count: self.count(kind, &fact), fact, edges })
    }

    /// Everything of a connection goes.
    pub(super) fn end_all(&mut self, of: ConnectionId) {
        for kind in [Kind::Connection, Kind::Bridge, Kind::Producer, Kind::Consumer] {
            let first = (kind, Subject::Of(of, i64::MIN, i64::MIN));
            let last = (kind, Subject::Of(of, i64::MAX, i64::MAX));
            let mine: Vec<_> = self.facts.range(first..=last).map(|(key, _)| key.clone()).collect();
            for (kind, subject) in mine {
                self.end(kind, subject);
            }
        }
    }

    fn count(&self, kind: Kind, fact: &Fact) -> usize {
        let users = fact.uses.iter().filter_map(|used| self.users.get(used));
        users.map(|it| if kind == Kind::Producer { it.producers } else { it.consumers }).sum()
    }

    /// Whether a bridge waits for what this consumer of another broker does.
    pub(super) fn is_bridged(&self, id: &ConsumerId) -> bool {
        self.bridged.contains_key(id)
    }

    pub(super) fn consumers_of(&self, destination: &Destination) -> usize {
        self.users.get(destination).map_or(0, |users| users.consumers)
    }

    /// The next facts of a kind, behind this one.
    pub(super) fn page(&self, kind: Kind, after: Option<&Subject>, limit: usize) -> Vec<Told> {
        let start = match after {
            Some(subject) => Bound::Excluded((kind, subject.clone())),
            None => Bound::Included((kind, Subject::FIRST)),
        };
        let facts = self.facts.range((start, Bound::Unbounded));
        let told = facts.take_while(|((of, _), _)| *of == kind).take(limit);
        let told = told.map(|((_, subject), fact)| Told {
            kind,
            subject: subject.clone(),
            fact: fact.clone(),
            count: self.count(kind, fact),
        });
        told.collect()
    }
}

/// The consumers that one of a bridge stands for: that of the other broker, and those that its own
/// stands for.
fn bridged(fact: &Fact) -> impl Iterator<Item = &ConsumerId> {
    let path = match &fact.about {
        Structure::ConsumerInfo(info) if info.network_subscription => &info.network_consumer_path,
        _ => &None,
    };
    path.iter().flatten().flatten()
}

/// Whether a destination is told of where it begins to be used: not what stands for many, what is
/// told of by itself, or what advisories are on.
pub(super) fn is_told_of(destination: &Destination) -> bool {
    !names::is_pattern(destination)
        && !names::is_temporary(destination)
        && !is_advisory(destination)
}

fn is_topic(destination: &Destination) -> bool {
    matches!(destination, Destination::Topic(_)) && is_told_of(destination)
}

fn topic_in_use(topic: &Destination) -> Fact {
    Fact::new(Kind::Topic.prefix(), destination_info(topic, false).into())
}

/// That a destination is there, or, with `remove`, no longer.
pub(super) fn destination_info(destination: &Destination, remove: bool) -> DestinationInfo {
    DestinationInfo {
        destination: Some(names::wire(destination)),
        operation_type: i8::from(remove),
        ..DestinationInfo::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::openwire::table::ConsumerInfo;

    fn consumer(of: &str) -> Fact {
        Fact {
            topic: format!("ActiveMQ.Advisory.Consumer.Topic.{of}").into(),
            about: Box::new(ConsumerInfo::default()).into(),
            uses: [Destination::topic(of)].into(),
            more: Vec::new(),
        }
    }

    fn subject(connection: u64, value: i64) -> Subject {
        Subject::Of(ConnectionId(connection), 1, value)
    }

    #[test]
    fn the_first_user_begins_a_destination_and_the_last_ends_it() {
        let mut present = Present::default();
        let first = present.begin(Kind::Consumer, subject(1, 1), consumer("t"));
        assert_eq!((first.count, first.edges.len()), (1, 1));
        let second = present.begin(Kind::Consumer, subject(2, 1), consumer("t"));
        assert_eq!((second.count, second.edges.len()), (2, 0));
        // Said twice, as by a client that comes back, it counts once.
        let again = present.begin(Kind::Consumer, subject(2, 1), consumer("t"));
        assert_eq!((again.count, again.edges.len()), (2, 0));
        let end = present.end(Kind::Consumer, subject(1, 1)).unwrap();
        assert_eq!((end.count, end.edges.len()), (1, 0));
        let end = present.end(Kind::Consumer, subject(2, 1)).unwrap();
        assert_eq!((end.count, end.edges.len()), (0, 1));
        assert!(present.end(Kind::Consumer, subject(2, 1)).is_none());
        assert!(present.users.is_empty() && present.facts.is_empty());
    }

    #[test]
    fn pages_tell_every_fact_of_a_kind_once() {
        let mut present = Present::default();
        for value in 0..10 {
            present.begin(Kind::Consumer, subject(value % 3, value as i64), consumer("t"));
            present.begin(Kind::Producer, subject(value % 3, value as i64), consumer("t"));
        }
        let (mut after, mut told) = (None, 0);
        loop {
            let page = present.page(Kind::Consumer, after.as_ref(), 4);
            let Some(last) = page.last() else { break };
            assert!(page.iter().all(|it| it.count == 10));
            told += page.len();
            after = Some(last.subject.clone());
        }
        assert_eq!(told, 10);
    }

    #[test]
    fn nothing_of_a_connection_stays_behind_it() {
        let mut present = Present::default();
        for connection in 1..=2 {
            present.begin(Kind::Consumer, subject(connection, 1), consumer("t"));
            present.begin(Kind::Producer, subject(connection, 2), consumer("u"));
        }
        // Two of its own, two topics, and two of another.
        assert_eq!(present.facts.len(), 6);
        present.end_all(ConnectionId(1));
        assert_eq!(present.facts.len(), 4);
        present.end_all(ConnectionId(2));
        assert!(present.users.is_empty() && present.facts.is_empty());
    }
}
