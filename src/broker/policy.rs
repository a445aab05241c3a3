//! Policies: how much a destination may hold, and what becomes of a send for which it has no room.
//!
//! Owns which pattern of destination names counts for a name, and what a limit says.
//! Always: the most specific pattern wins, part by part from the left: a name before `*` before
//! `>`. Leaves to others: what a destination holds (`queue`, `topic`), and where a held send waits
//! (`engine`).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::broker::held::Role;
use crate::broker::redelivery::Redelivery;
use crate::limits;
use crate::message::{Destination, NamePattern, Wildcard};

/// What becomes of a send for which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum WhenFull {
    /// It waits for room; its confirmation waits with it.
    Hold,
    /// It is refused.
    Refuse,
    /// Non-persistent messages make room for it: of a queue the oldest of the lowest priority, of
    /// a topic the oldest that wait for a slow subscriber. Where that is not enough it is refused.
    DropOldest,
}

/// How much a queue may hold, or a topic for each of its subscribers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Messages at most.
    pub messages: u64,
    /// Bytes at most: of a persistent message what it takes in the log, of another what it is
    /// charged in memory.
    pub bytes: u64,
    /// What becomes of a send beyond that.
    pub when_full: WhenFull,
}

impl Limit {
    /// No limit.
    pub const NONE: Self =
        Self { messages: u64::MAX, bytes: u64::MAX, when_full: WhenFull::Refuse };

    /// What a send of `bytes` exceeds beside what is `held` already, if anything.
    pub(super) fn exceeded(&self, held: Held, bytes: u64) -> Option<Measure> {
        if held.messages >= self.messages {
            return Some(Measure::Messages(self.messages));
        }
        let full = held.bytes.saturating_add(bytes) > self.bytes;
        full.then_some(Measure::Bytes(self.bytes))
    }
}

/// What a destination holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

impl Held {
    /// One more message.
    pub(super) fn add(&mut self, bytes: u64) {
        self.messages += 1;
        self.bytes += bytes;
    }
}

/// The limit that a send exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// So many messages.
    Messages(u64),
    /// So many bytes.
    Bytes(u64),
    /// So many confirmations, of sends and of what came behind them.
    Confirmations(u64),
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Messages(count) => write!(f, "{count} messages"),
            Self::Bytes(bytes) => write!(f, "{bytes} bytes"),
            Self::Confirmations(count) => write!(f, "{count} confirmations"),
        }
    }
}

/// Of what there is too little for a send that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// Its destination is full.
    Destination,
    /// The memory for non-persistent messages is full.
    Memory,
    /// The disk is full, or nearly.
    Disk,
}

/// Which destinations a limit is for: `queue://` or `topic://`, then a name of which `.`
/// separates the parts. `*` stands for any one part, `>` as the last for any number, none too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern {
    // In this order: the most specific sorts first.
    topic: bool,
    name: NamePattern,
}

/// Why a text is no pattern, or patterns do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Neither queue nor topic.
    #[error("{0:?} must begin with queue:// or topic://")]
    Kind(String),
    /// A part is empty, or `>` is not the last.
    #[error("{0:?} has an empty part, or a > that is not the last part")]
    Parts(String),
    /// Two limits for one pattern, or two sets of rules.
    #[error("{0:?} has two limits, or two sets of rules")]
    Twice(String),
    /// Rules for messages that come back, for a topic: none do.
    #[error("{0:?} must begin with queue://: messages of topics do not come back")]
    NoQueue(String),
}

impl Pattern {
    /// From its text.
    ///
    /// # Errors
    /// [`PatternError::Kind`] and [`PatternError::Parts`].
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let (topic, name) = match (text.strip_prefix("queue://"), text.strip_prefix("topic://")) {
            (Some(name), _) => (false, name),
            (_, Some(name)) => (true, name),
            (None, None) => return Err(PatternError::Kind(text.to_owned())),
        };
        let name = NamePattern::parse(name).map_err(|_| PatternError::Parts(text.to_owned()))?;
        Ok(Self { topic, name })
    }

    /// Whether it is for that destination.
    #[must_use]
    pub fn covers(&self, destination: &Destination) -> bool {
        self.topic == matches!(destination, Destination::Topic(_))
            && self.matches(destination.name())
    }

    /// Whether it is for some of what a consumer with wildcards reads from, and whether it is for
    /// all of that.
    #[must_use]
    pub fn meets(&self, names: &Wildcard) -> (bool, bool) {
        if self.topic != names.is_topic() {
            return (false, false);
        }
        let covers = self.name.includes(names.pattern());
        let some = self.name.overlaps(names.pattern()) && names.may_see(&self.name.to_string());
        (some || covers, covers)
    }

    fn matches(&self, name: &str) -> bool {
        self.name.matches(name)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.topic { "topic://" } else { "queue://" }, self.name)
    }
}

/// All limits of destinations, and what becomes of sends when memory is full.
#[derive(Clone, Debug)]
pub struct Policies {
    /// The most specific first.
    limits: Vec<(Pattern, Limit)>,
    /// What becomes of messages that come back, by queue; the most specific first.
    redelivery: Vec<(Pattern, Arc<Redelivery>)>,
    /// The rules of every other queue.
    redelivery_else: Arc<Redelivery>,
    /// Those of a queue in which messages are set apart.
    redelivery_of_dead: Arc<Redelivery>,
    /// What becomes of a non-persistent send to a queue when memory is full; one that would drop
    /// the oldest is refused.
    pub when_memory_full: WhenFull,
    /// Whether queues get what is published on the topic in their name: `VirtualTopic.NAME` in
    /// `Consumer.ANY.VirtualTopic.NAME`.
    pub virtual_topics: bool,
}

impl Default for Policies {
    /// No destination has a limit; full memory refuses; messages come back at once and any number
    /// of times; queues get what is published on the topic in their name.
    fn default() -> Self {
        let none = Arc::new(Redelivery::none());
        Self {
            limits: Vec::new(),
            redelivery: Vec::new(),
            redelivery_else: Arc::clone(&none),
            redelivery_of_dead: none,
            when_memory_full: WhenFull::Refuse,
            virtual_topics: true,
        }
    }
}

impl Policies {
    /// Of limits in any order.
    ///
    /// # Errors
    /// [`PatternError::Twice`].
    pub fn new(
        mut limits: Vec<(Pattern, Limit)>,
        when_memory_full: WhenFull,
    ) -> Result<Self, PatternError> {
        limits.sort_by(|(a, _), (b, _)| a.cmp(b));
        twice(&limits)?;
        Ok(Self { limits, when_memory_full, ..Self::default() })
    }

    /// The same with rules for messages that come back, in any order, and those for all other
    /// queues.
    ///
    /// # Errors
    /// [`PatternError::Twice`] and [`PatternError::NoQueue`].
    pub fn with_redelivery(
        mut self,
        rules: Vec<(Pattern, Redelivery)>,
        others: Redelivery,
    ) -> Result<Self, PatternError> {
        if let Some((pattern, _)) = rules.iter().find(|(pattern, _)| pattern.topic) {
            return Err(PatternError::NoQueue(pattern.to_string()));
        }
        let rules = rules.into_iter().map(|(pattern, rules)| (pattern, Arc::new(rules)));
        self.redelivery = rules.collect();
        self.redelivery.sort_by(|(a, _), (b, _)| a.cmp(b));
        twice(&self.redelivery)?;
        self.redelivery_else = Arc::new(others);
        Ok(self)
    }

    /// The rules of the queue of that name. Nothing is set apart from a queue for that.
    #[must_use]
    pub fn redelivery_of(&self, name: &str) -> Arc<Redelivery> {
        let all = || self.redelivery.iter().map(|(_, rules)| rules);
        let is_target = all().chain([&self.redelivery_else]).any(|rules| rules.is_target(name));
        if is_target || [limits::DEAD_LETTER_QUEUE, limits::DAMAGED_QUEUE].contains(&name) {
            return Arc::clone(&self.redelivery_of_dead);
        }
        let found = self.redelivery.iter().find(|(pattern, _)| pattern.matches(name));
        Arc::clone(found.map_or(&self.redelivery_else, |(_, rules)| rules))
    }

    /// Whether these rules are those of a queue in which messages are set apart.
    #[must_use]
    pub fn is_for_dead(&self, rules: &Arc<Redelivery>) -> bool {
        Arc::ptr_eq(rules, &self.redelivery_of_dead)
    }

    /// The limit of the queue of that name.
    #[must_use]
    pub fn of_queue(&self, name: &str) -> Limit {
        match Role::of(name) {
            // What a durable subscription keeps is its topic's.
            Role::Keeps(topic) => self.of_topic(&topic).unwrap_or(Limit::NONE),
            // What goes through a line is judged by those to whom it goes.
            Role::Line => Limit::NONE,
            Role::Plain | Role::Reads(_) => self.find(false, name).unwrap_or(Limit::NONE),
        }
    }

    /// The limit of each subscriber of the topic of that name, if there is one of its own.
    #[must_use]
    pub fn of_topic(&self, name: &str) -> Option<Limit> {
        self.find(true, name)
    }

    fn find(&self, topic: bool, name: &str) -> Option<Limit> {
        let mut of_kind = self.limits.iter().filter(|(pattern, _)| pattern.topic == topic);
        of_kind.find(|(pattern, _)| pattern.matches(name)).map(|(_, limit)| *limit)
    }
}

fn twice<T>(sorted: &[(Pattern, T)]) -> Result<(), PatternError> {
    match sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => Err(PatternError::Twice(pair[0].0.to_string())),
        None => Ok(()),
    }
}

/// What becomes of messages for which there was no room, since this life of the broker began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Non-persistent messages of queues that made room for newer ones.
    pub from_queues: u64,
    /// Messages of topics that slow subscribers missed.
    pub from_topics: u64,
}

/// Destinations in which there may be room again, for those who asked to hear of it.
#[derive(Debug, Default)]
pub(super) struct Freed(Vec<Destination>);

impl Freed {
    /// Says it if it was asked for; `watched` is then no longer set.
    pub(super) fn tell(&mut self, watched: &mut bool, destination: impl FnOnce() -> Destination) {
        if std::mem::take(watched) {
            self.0.push(destination());
        }
    }

    /// The same for those who wait on several topics.
    pub(super) fn tell_topics(&mut self, watched: &mut BTreeSet<Arc<str>>) {
        self.0.extend(std::mem::take(watched).into_iter().map(Destination::Topic));
    }

    pub(super) fn push(&mut self, destination: Destination) {
        self.0.push(destination);
    }

    pub(super) fn take(&mut self) -> Vec<Destination> {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(messages: u64) -> Limit {
        Limit { messages, ..Limit::NONE }
    }

    fn policies(patterns: &[&str]) -> Policies {
        let limits = patterns.iter().zip(1..);
        let limits = limits.map(|(text, n)| (Pattern::parse(text).unwrap(), limit(n)));
        Policies::new(limits.collect(), WhenFull::Refuse).unwrap()
    }

    #[test]
    fn the_most_specific_pattern_wins() {
        let patterns = ["queue://>", "queue://a.>", "queue://a.*", "queue://a.b", "queue://*.b.c"];
        let forth = policies(&patterns);
        for (name, winner) in [
            ("a.b", "queue://a.b"),
            ("a.c", "queue://a.*"),
            ("a.c.d", "queue://a.>"),
            ("a", "queue://a.>"),
            ("b", "queue://>"),
            ("x.b.c", "queue://*.b.c"),
            ("a.b.c", "queue://a.>"),
        ] {
            let index = patterns.iter().position(|pattern| *pattern == winner).unwrap() as u64;
            assert_eq!(forth.of_queue(name), limit(index + 1), "{name}");
            assert_eq!(forth.of_topic(name), None);
        }
        assert_eq!(policies(&["topic://a"]).of_queue("a"), Limit::NONE);
        assert_eq!(policies(&["topic://a"]).of_topic("a"), Some(limit(1)));
    }

    #[test]
    fn a_pattern_is_understood_or_refused_with_its_text() {
        for text in ["a", "queue://", "queue://a..b", "queue://>.a", "topic://a.", "QUEUE://a"] {
            let error = Pattern::parse(text).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
        for text in ["queue://a", "topic://a.*.>", "queue://*"] {
            assert_eq!(Pattern::parse(text).unwrap().to_string(), text);
        }
        let twice = vec![(Pattern::parse("queue://a").unwrap(), limit(1)); 2];
        let twice = Policies::new(twice, WhenFull::Hold).unwrap_err();
        assert_eq!(twice, PatternError::Twice("queue://a".to_owned()));
    }

    #[test]
    fn a_limit_is_exceeded_by_what_would_not_fit_and_not_by_what_fills_it() {
        let limit = Limit { messages: 3, bytes: 100, when_full: WhenFull::Hold };
        let check = |messages, bytes, more, exceeded| {
            assert_eq!(limit.exceeded(Held { messages, bytes }, more), exceeded);
        };
        check(0, 0, 100, None);
        check(2, 90, 10, None);
        check(2, 90, 11, Some(Measure::Bytes(100)));
        check(3, 0, 0, Some(Measure::Messages(3)));
        check(0, 0, u64::MAX, Some(Measure::Bytes(100)));
    }
}
