//! Which durable subscriptions there are, and how their queues are called.
//!
//! A durable subscription owns a queue, and that queue's name says all that it is: whose, of which
//! topic, and what of it. So it is there when its queue is, and it never changes: another selector
//! makes another subscription under the same identity, and the older of two is a *remnant* whose
//! queue goes. What is to be decided later which subscriptions get (a publication of a transaction)
//! waits in the *line* of its topic, which is a queue as well; what is to be published later waits
//! in another. The topic may be a pattern: what is published on all that it catches enters the one
//! queue, and says itself on which. Always: no destination of a client spells such a name, so
//! nobody sends to these queues or reads from them by name; and none of these is a pattern itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

use crate::broker::announcing::Marks;
use crate::broker::command::{KeptName, Refusal};
use crate::broker::fact::Asker;
use crate::broker::spreading::Spreading;
use crate::broker::virtual_topic::{Readers, topic_of};
use crate::broker::wildcards::{Wildcards, check_parts};
use crate::ids::{ConnectionId, QueueId};
use crate::limits;
use crate::message::{Destination, Wildcard, has_wildcards};
use crate::selector::Selector;

const SUBSCRIPTION: &str = "subscription://";
const LINE: &str = "publications://";
const SCHEDULED: &str = "scheduled-publications://";

/// What a durable subscription is.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The client whose it is.
    pub client: Arc<str>,
    /// What that calls it.
    pub name: Arc<str>,
    /// The topic, or the pattern of topics.
    pub topic: Arc<str>,
    /// What it wants of what is published there: everything without.
    pub selector: Option<Arc<Selector>>,
    /// Nothing that its own client publishes.
    pub no_local: bool,
    /// Lines of the topic in which something waited when it began: what has a place there up to
    /// this number was published before. A line has gone when its number is another's.
    pub after: Vec<(QueueId, u64)>,
    /// Tells it from one with the same words that is still to go; 0 where there is none.
    pub again: u64,
}

impl Subscription {
    fn words(&self) -> (&str, bool, &str) {
        (&self.topic, self.no_local, self.selector.as_ref().map_or("", |selector| selector.text()))
    }

    /// Whether it gets the same as another.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.words() == other.words()
    }

    /// The name of its queue.
    pub(super) fn queue_name(&self) -> String {
        let mut name = SUBSCRIPTION.to_owned();
        escape(&self.client, &mut name);
        name.push('/');
        escape(&self.name, &mut name);
        name.push_str("?topic=");
        escape_pattern(&self.topic, &mut name);
        if self.no_local {
            name.push_str("&no-local");
        }
        for (QueueId(line), seq) in &self.after {
            write!(name, "&after={line}:{seq}").expect("a text takes it");
        }
        if self.again > 0 {
            write!(name, "&again={}", self.again).expect("a text takes it");
        }
        if let Some(selector) = &self.selector {
            name.push_str("&selector=");
            escape(selector.text(), &mut name);
        }
        name
    }

    /// The inverse of [`Subscription::queue_name`]; `None` for every other name.
    pub(super) fn parse(queue: &str) -> Option<Self> {
        let (whose, what) = queue.strip_prefix(SUBSCRIPTION)?.split_once('?')?;
        let (client, name) = whose.split_once('/')?;
        let mut it = Self {
            client: unescape(client)?.into(),
            name: unescape(name)?.into(),
            topic: "".into(),
            selector: None,
            no_local: false,
            after: Vec::new(),
            again: 0,
        };
        for word in what.split('&') {
            match word.split_once('=') {
                Some(("topic", topic)) => it.topic = unescape(topic)?.into(),
                Some(("after", place)) => {
                    let (line, seq) = place.split_once(':')?;
                    it.after.push((QueueId(line.parse().ok()?), seq.parse().ok()?));
                }
                Some(("again", number)) => it.again = number.parse().ok()?,
                // One that is not understood wants everything: too much can be passed over.
                Some(("selector", text)) => {
                    it.selector = Selector::parse_optional(&unescape(text)?).ok().flatten();
                }
                None if word == "no-local" => it.no_local = true,
                _ => return None,
            }
        }
        Some(it)
    }
}

/// What the publications of a line have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) topic: Arc<str>,
    /// Who has published them, where some subscription wants nothing of its own client.
    pub(super) client: Option<Arc<str>>,
    /// Nobody has them yet: they are published when their time has come.
    pub(super) scheduled: bool,
}

impl Line {
    pub(super) fn queue_name(&self) -> String {
        let mut name = if self.scheduled { SCHEDULED } else { LINE }.to_owned();
        escape(&self.topic, &mut name);
        if let Some(client) = &self.client {
            name.push_str("?client=");
            escape(client, &mut name);
        }
        name
    }

    /// The topic whose line this queue is.
    pub(super) fn topic_of(queue: &str) -> Option<Arc<str>> {
        Self::parse(queue).map(|line| line.topic)
    }

    fn parse(queue: &str) -> Option<Self> {
        let scheduled = queue.strip_prefix(SCHEDULED);
        let (name, scheduled) = (scheduled.or(queue.strip_prefix(LINE))?, scheduled.is_some());
        let (topic, client) = match name.split_once("?client=") {
            Some((topic, client)) => (topic, Some(unescape(client)?.into())),
            None => (name, None),
        };
        Some(Self { topic: unescape(topic)?.into(), client, scheduled })
    }
}

/// What a queue is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Whoever sends to it and reads from it.
    Plain,
    /// A durable subscription of this topic, or pattern of topics.
    Keeps(Arc<str>),
    /// As `Plain`, and what is published on this topic.
    Reads(Arc<str>),
    /// Publications that are to go to subscriptions.
    Line,
}

impl Role {
    pub(super) fn of(queue: &str) -> Self {
        match Subscription::parse(queue) {
            Some(subscription) => Self::Keeps(subscription.topic),
            None if Line::parse(queue).is_some() => Self::Line,
            None => topic_of(queue).map_or(Self::Plain, |topic| Self::Reads(topic.into())),
        }
    }

    /// Whether it keeps what is published on a topic by a pattern.
    pub(super) fn catches(&self, topic: &str) -> bool {
        matches!(self, Self::Keeps(name) if **name != *topic)
    }
}

/// What a subscription catches whose topic is a pattern.
fn pattern_of(topic: &str) -> Option<Wildcard> {
    // Most are none, and cost nothing to know.
    has_wildcards(topic).then(|| Wildcard::of(&Destination::topic(topic)).ok().flatten()).flatten()
}

fn size(topic: &OfTopic) -> usize {
    topic.values().map(|alike| alike.members.len()).sum()
}

/// Whether a name is none that a client may use.
pub(crate) fn is_reserved(queue: &str) -> bool {
    [SUBSCRIPTION, LINE, SCHEDULED].iter().any(|prefix| queue.starts_with(prefix))
}

fn escape(text: &str, out: &mut String) {
    escape_as(text, |_| false, out);
}

/// The same without wildcards: the name of a queue that keeps a pattern is none.
fn escape_pattern(text: &str, out: &mut String) {
    escape_as(text, |c| matches!(c, '*' | '>'), out);
}

fn escape_as(text: &str, also: impl Fn(char) -> bool, out: &mut String) {
    let special = |c| matches!(c, '%' | '/' | '?' | '&' | '=') || also(c);
    for c in text.chars() {
        if special(c) || c.is_whitespace() || c.is_control() {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                write!(out, "%{byte:02X}").expect("a text takes it");
            }
        } else {
            out.push(c);
        }
    }
}

fn unescape(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(code, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

/// Subscriptions of one topic that want the same of it.
#[derive(Debug, Default)]
struct Alike {
    selector: Option<Arc<Selector>>,
    members: BTreeMap<QueueId, Arc<Subscription>>,
}

/// Those of one topic or pattern, by the text of the selector.
type OfTopic = BTreeMap<Box<str>, Alike>;

/// A queue that gets a publication, with the lines of its topic as they were when it came, as in
/// [`Subscription::after`].
pub(super) type Taker<'a> = (QueueId, &'a [(QueueId, u64)]);

/// Whether a queue was there when what has that place in a line was published.
pub(super) fn was_there(after: &[(QueueId, u64)], line: QueueId, seq: u64) -> bool {
    after.iter().all(|(of, after)| *of != line || seq > *after)
}

/// All that keeps what is published: durable subscriptions, and queues that read topics.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(super) readers: Readers,
    all: BTreeMap<QueueId, Arc<Subscription>>,
    by_identity: BTreeMap<KeptName, QueueId>,
    /// By topic or pattern, then by the text of the selector.
    topics: BTreeMap<Arc<str>, OfTopic>,
    /// Those of these that are patterns.
    wildcards: Wildcards,
    /// Those that are to go, and who waits for that.
    pub(super) remnants: BTreeMap<QueueId, Option<Asker>>,
    /// Of these, the ones that are not being swept.
    pub(super) resting_remnants: BTreeSet<QueueId>,
    lines: BTreeMap<QueueId, Arc<Line>>,
    /// Which of these have something to go on with.
    pub(super) spreading: Spreading,
    /// Who listened when something came into them.
    pub(super) marks: Marks,
    /// Some that waited for room may go on.
    pub(super) woken: bool,
    /// The topics on which someone waits for room in what is kept by a pattern.
    pub(super) awaited: BTreeMap<QueueId, BTreeSet<Arc<str>>>,
    /// How connections call themselves.
    pub(super) clients: BTreeMap<ConnectionId, Arc<str>>,
}

impl Held {
    /// A queue is there. `after` is of a queue that reads a topic.
    pub(super) fn learn(
        &mut self,
        id: QueueId,
        name: &str,
        waits: bool,
        after: Vec<(QueueId, u64)>,
    ) {
        self.readers.learn(id, name, after);
        if let Some(line) = Line::parse(name) {
            self.lines.insert(id, Arc::new(line));
            if waits {
                self.spreading.wake(id);
            }
        }
        let Some(subscription) = Subscription::parse(name).map(Arc::new) else { return };
        let identity = (Arc::clone(&subscription.client), Arc::clone(&subscription.name));
        if let Some(older) = self.by_identity.get(&identity).copied() {
            self.forsake(older, None);
        }
        self.by_identity.insert(identity, id);
        self.all.insert(id, Arc::clone(&subscription));
        let selector = subscription.selector.clone();
        let text = selector.as_ref().map_or("", |selector| selector.text());
        if let Some(wildcard) = pattern_of(&subscription.topic) {
            self.wildcards.add(wildcard);
        }
        let topic = self.topics.entry(Arc::clone(&subscription.topic)).or_default();
        let alike = topic.entry(text.into()).or_default();
        alike.selector = selector;
        alike.members.insert(id, subscription);
    }

    /// A subscription gets nothing any more, and its queue is to go.
    pub(super) fn forsake(&mut self, id: QueueId, asker: Option<Asker>) {
        self.leave(id);
        self.remnants.insert(id, asker);
        self.resting_remnants.insert(id);
    }

    fn leave(&mut self, id: QueueId) {
        let Some(subscription) = self.all.remove(&id) else { return };
        let identity = (Arc::clone(&subscription.client), Arc::clone(&subscription.name));
        if self.by_identity.get(&identity) == Some(&id) {
            self.by_identity.remove(&identity);
        }
        let Some(topic) = self.topics.get_mut(&subscription.topic) else { return };
        topic.values_mut().for_each(|alike| drop(alike.members.remove(&id)));
        topic.retain(|_, alike| !alike.members.is_empty());
        if topic.is_empty() {
            self.topics.remove(&subscription.topic);
            pattern_of(&subscription.topic).iter().for_each(|it| self.wildcards.remove(it));
        }
    }

    /// A queue is gone.
    pub(super) fn gone(&mut self, id: QueueId, role: &Role) {
        self.readers.gone(id, role);
        self.leave(id);
        // Whoever waits for it hears when its sweep ends.
        if self.remnants.get(&id) == Some(&None) {
            self.remnants.remove(&id);
        }
        self.resting_remnants.remove(&id);
        self.lines.remove(&id);
        self.spreading.gone(id);
        self.marks.clear(id);
    }

    pub(super) fn find(&self, client: &str, name: &str) -> Option<(QueueId, &Arc<Subscription>)> {
        let identity = (Arc::from(client), Arc::from(name));
        let id = self.by_identity.get(&identity)?;
        Some((*id, &self.all[id]))
    }

    /// The subscriptions from this one on, in order.
    pub(super) fn from(&self, first: &KeptName) -> impl Iterator<Item = &Arc<Subscription>> {
        self.by_identity.range(first.clone()..).map(|(_, id)| &self.all[id])
    }

    /// Whether that is the queue of a subscription that is not to go.
    pub(super) fn is_there(&self, id: QueueId) -> bool {
        self.all.contains_key(&id)
    }

    pub(super) fn line(&self, id: QueueId) -> Option<&Arc<Line>> {
        self.lines.get(&id)
    }

    /// Lines of a topic, or of all that a pattern catches, in which something may wait.
    pub(super) fn waiting(&self, topic: &str) -> impl Iterator<Item = QueueId> {
        let pattern = pattern_of(topic);
        let reads = move |of: &str| pattern.as_ref().map_or(of == topic, |it| it.catches(of));
        // What is to be published later is for who is there then.
        let is_of = move |id: &QueueId| {
            self.lines.get(id).is_some_and(|it| !it.scheduled && reads(&it.topic))
        };
        self.spreading.pending().filter(is_of)
    }

    /// The subscriptions of a topic, and those of the patterns that catch it.
    fn of(&self, topic: &str) -> impl Iterator<Item = &Alike> {
        let caught = self.wildcards.catching(topic);
        // A name that looks like a pattern is caught by itself.
        let own = Some(topic).filter(|_| !caught.iter().any(|name| **name == *topic));
        let own = own.and_then(|own| self.topics.get(own));
        let caught = caught.into_iter().filter_map(|name| self.topics.get(&name));
        own.into_iter().chain(caught).flat_map(BTreeMap::values)
    }

    fn subscriptions(&self, topic: &str) -> usize {
        self.of(topic).map(|alike| alike.members.len()).sum()
    }

    /// How many may keep what is published on a topic.
    pub(super) fn count(&self, topic: &str) -> usize {
        self.subscriptions(topic) + self.readers.of(topic).count()
    }

    /// The most that may keep what is published on a topic, with those that keep nothing as things
    /// are; of a pattern, on any that it catches. Two patterns with a name in common count as if
    /// each caught all of the other's: names are without number, and one publication must not reach
    /// more than there may be.
    pub(super) fn known(&self, topic: &str) -> usize {
        let Some(wildcard) = pattern_of(topic) else {
            return self.subscriptions(topic) + self.readers.count(topic);
        };
        let (mut of_patterns, mut of_one) = (0, 0);
        for (name, those) in &self.topics {
            match pattern_of(name) {
                Some(it) if it.pattern().overlaps(wildcard.pattern()) => of_patterns += size(those),
                None if wildcard.catches(name) => {
                    of_one = of_one.max(size(those) + self.readers.count(name));
                }
                _ => {}
            }
        }
        for (name, count) in self.readers.topics() {
            if count > of_one && wildcard.catches(name) {
                of_one = count;
            }
        }
        of_patterns + of_one
    }

    /// Whether there is somebody for whom something of a topic will be again, of that name alone:
    /// what patterns catch is without number.
    pub(super) fn lasts(&self, topic: &str) -> bool {
        self.topics.contains_key(topic) || self.readers.of(topic).next().is_some()
    }

    /// Whether a pattern catches what is published on a topic.
    pub(super) fn is_caught(&self, topic: &str) -> bool {
        !self.wildcards.catching(topic).is_empty()
    }

    /// Refuses a subscription of a pattern that cannot be, or is one too many.
    pub(super) fn check_pattern(&self, topic: &Arc<str>) -> Result<(), Refusal> {
        let bad = |_| Refusal::BadPattern { limit: limits::WILDCARD_PARTS_MAX };
        let destination = Destination::Topic(Arc::clone(topic));
        let Some(wildcard) = Wildcard::of(&destination).map_err(bad)? else { return Ok(()) };
        check_parts(&wildcard)?;
        let limit = limits::WILDCARDS_MAX;
        if !self.topics.contains_key(topic) && self.wildcards.len() >= limit {
            return Err(Refusal::TooManyPatterns { limit });
        }
        Ok(())
    }

    /// Whether some subscription of a topic has a selector.
    pub(super) fn selects(&self, topic: &str) -> bool {
        self.of(topic).any(|alike| alike.selector.is_some())
    }

    fn members(
        &self,
        topic: &str,
        mut wants: impl FnMut(&Selector) -> bool,
    ) -> impl Iterator<Item = (QueueId, &Subscription)> {
        // A topic and the patterns that catch it may have selectors in common.
        let mut judged: BTreeMap<&str, bool> = BTreeMap::new();
        let mut groups: Vec<&Alike> = self.of(topic).collect();
        groups.retain(|it| match &it.selector {
            Some(selector) => *judged.entry(selector.text()).or_insert_with(|| wants(selector)),
            None => true,
        });
        groups.into_iter().flat_map(|alike| &alike.members).map(|(id, it)| (*id, &**it))
    }

    /// The queues that get a message which `client` has published on a topic, in order. `wants` is
    /// asked once of each selector.
    pub(super) fn takers(
        &self,
        topic: &str,
        client: Option<&str>,
        wants: impl FnMut(&Selector) -> bool,
    ) -> Vec<Taker<'_>> {
        let local = |it: &Subscription| it.no_local && Some(&*it.client) == client;
        let members = self.members(topic, wants).filter(|(_, it)| !local(it));
        let members = members.map(|(id, it)| (id, &*it.after));
        let mut takers: Vec<_> = members.chain(self.readers.of(topic)).collect();
        takers.sort_unstable_by_key(|(id, _)| *id);
        takers
    }

    /// The subscriptions of a topic that want all that is published there.
    pub(super) fn take_all(&self, topic: &str) -> impl Iterator<Item = QueueId> {
        self.members(topic, |_| false).filter(|(_, it)| !it.no_local).map(|(id, _)| id)
    }

    /// Whether some subscription of a topic wants nothing of this client.
    pub(super) fn is_local(&self, topic: &str, client: &str) -> bool {
        let mut members = self.of(topic).flat_map(|alike| alike.members.values());
        members.any(|it| it.no_local && *it.client == *client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_name_of_its_queue_says_all_that_a_subscription_is(
            (client, name, topic) in ("\\PC{1,9}", "[ -~]{1,9}", "[a-z.?&%/=*>]{1,9}"),
            (no_local, again) in (any::<bool>(), 0u64..3),
            after in proptest::collection::vec((1u64..9, 0u64..9), 0..3),
            selector in proptest::option::of("a = '[a-z%&=?]{0,5}'"),
        ) {
            let selector = selector.and_then(|it| Selector::parse_optional(&it).unwrap());
            let (client, name, topic) = (client.into(), name.into(), topic.into());
            let after: Vec<_> = after.into_iter().map(|(id, seq)| (QueueId(id), seq)).collect();
            let lines = after.clone();
            let it =
                Subscription { client, name, topic, selector, no_local, after: lines, again };
            let queue = it.queue_name();
            prop_assert!(is_reserved(&queue) && !queue.contains(char::is_whitespace));
            prop_assert_eq!(Role::of(&queue), Role::Keeps(Arc::clone(&it.topic)));
            let found = Subscription::parse(&queue).unwrap();
            prop_assert!(found.is_like(&it));
            prop_assert_eq!((found.client, found.name), (it.client, it.name));
            prop_assert_eq!((found.after, found.again), (after, again));
        }
    }

    #[test]
    fn a_line_is_known_by_its_name() {
        for (client, scheduled) in [
            (None, false),
            (Some("c?client=d".into()), false),
            (None, true),
            (Some("c".into()), true),
        ] {
            let line = Line { topic: "a/b?c".into(), client, scheduled };
            let name = line.queue_name();
            assert_eq!((Line::parse(&name), Role::of(&name)), (Some(line), Role::Line));
            assert!(is_reserved(&name));
        }
        assert_eq!(Role::of("publications"), Role::Plain);
        assert!(!is_reserved("subscription:/x"));
    }
}
