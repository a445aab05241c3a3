//! The client's consumers, and what each holds.
//!
//! A consumer is one subscription of the broker, or several where its destination is a composite.
//! Always: what it holds is in the order in which it was dispatched, and known by the message's id
//! as well: an acknowledgement names the first and the last of a range. Several may have one id: a
//! publication is set apart from each queue that keeps it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::answers::Group;
use super::browse::Look;
use super::produce::compact;
use crate::broker::command::Standing;
use crate::ids::{SubscriptionId, Tag};
use crate::message::Destination;
use crate::protocol::openwire::table::{ConsumerId, ConsumerInfo, MessageId, ProducerId};
use crate::selector::Selector;

/// A consumer, by the numbers that its client has given it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ConsumerKey {
    pub(super) session: i64,
    pub(super) value: i64,
}

impl ConsumerKey {
    pub(super) fn of(id: &ConsumerId) -> Self {
        Self { session: id.session_id, value: id.value }
    }
}

/// What makes a message on the wire; the rest of its id does not count.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct MessageKey(Option<ProducerId>, i64);

impl MessageKey {
    pub(super) fn of(id: &MessageId) -> Self {
        Self(id.producer_id.clone(), id.producer_sequence_id)
    }
}

/// A message in the hands of a consumer.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) key: MessageKey,
    /// The delivery that it was; none of what the session has made itself, and of copies.
    pub(super) delivery: Option<(SubscriptionId, Tag)>,
    /// A branch in which it was taken is over, and how nobody has told this connection: the
    /// delivery may be no more.
    pub(super) doubtful: bool,
}

impl Held {
    /// Whether it was a delivery of that message to that subscription.
    pub(super) fn is_of(&self, key: &MessageKey, subscription: SubscriptionId) -> bool {
        self.key == *key && self.delivery.is_some_and(|(of, _)| of == subscription)
    }
}

/// How a consumer gets its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// They come, as far as its window goes.
    Pushed,
    /// It asks for each.
    Pulled,
    /// It looks at copies.
    Browser,
}

/// A wish for one message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pull {
    pub(super) number: u64,
    /// When it is told that there is none.
    pub(super) until: Option<Duration>,
    /// It is told so as soon as that is known.
    pub(super) impatient: bool,
    /// Nothing was there when it asked, or what was has not come for long.
    pub(super) over: bool,
}

#[derive(Debug)]
pub(super) struct Consumer {
    /// What it said; not the memory of its frame.
    pub(super) info: ConsumerInfo,
    pub(super) destinations: Vec<Destination>,
    pub(super) parts: Vec<SubscriptionId>,
    /// What it wants of what there is: everything without.
    pub(super) selector: Option<Arc<Selector>>,
    pub(super) manner: Manner,
    prefetch: u32,
    /// What it has seen and not acknowledged: so much more it may hold.
    extension: u32,
    pub(super) held: BTreeMap<i64, Held>,
    /// The first of each id.
    numbers: HashMap<MessageKey, i64>,
    /// The others.
    copies: HashMap<MessageKey, BTreeSet<i64>>,
    /// Something was dispatched to it.
    pub(super) began: bool,
    /// What it holds may be no more, or have another place among its deliveries than it was
    /// dispatched in: no range of them is what its client means.
    pub(super) singly: bool,
    pub(super) pull: Option<Pull>,
    /// Its parts that have not begun.
    pub(super) beginning: Group,
    /// What it has still to look at, as a browser.
    pub(super) look: Look,
}

impl Consumer {
    pub(super) fn new(
        info: ConsumerInfo,
        destinations: Vec<Destination>,
        selector: Option<Arc<Selector>>,
    ) -> Self {
        let prefetch = u32::try_from(info.prefetch_size).unwrap_or(0);
        let manner = match (info.browser, prefetch) {
            (true, _) => Manner::Browser,
            (false, 0) => Manner::Pulled,
            (false, _) => Manner::Pushed,
        };
        Self {
            info,
            destinations,
            parts: Vec::new(),
            selector,
            manner,
            prefetch,
            extension: 0,
            held: BTreeMap::new(),
            numbers: HashMap::new(),
            copies: HashMap::new(),
            began: false,
            singly: false,
            pull: None,
            beginning: Group::default(),
            look: Look::default(),
        }
    }

    /// Deliveries that it may hold.
    pub(super) fn window(&self) -> u32 {
        let window = match self.manner {
            Manner::Pulled => 0,
            _ => self.prefetch,
        };
        window.saturating_add(self.extension)
    }

    /// How it stands among others of a destination, where it is not as most are.
    pub(super) fn standing(&self, from: &Destination) -> Option<Standing> {
        let ConsumerInfo { priority, exclusive, maximum_pending_message_limit, .. } = self.info;
        let topic = matches!(from, Destination::Topic(_));
        let pending = u32::try_from(maximum_pending_message_limit).ok();
        let pending = pending.filter(|most| topic && *most > 0);
        let standing = Standing { priority, exclusive, pending };
        (standing != Standing::default()).then_some(standing)
    }

    pub(super) fn set_prefetch(&mut self, prefetch: i32) {
        self.prefetch = u32::try_from(prefetch).unwrap_or(0);
        if self.manner != Manner::Browser {
            self.manner = if self.prefetch == 0 { Manner::Pulled } else { Manner::Pushed };
        }
    }

    /// It has seen so many, or, negative, it has done with them: whether its window is another now.
    pub(super) fn extend(&mut self, count: i64) -> bool {
        let before = self.extension;
        let now = (i64::from(before) + count).clamp(0, i64::from(u32::MAX / 2));
        self.extension = u32::try_from(now).unwrap_or(0);
        self.extension != before
    }

    /// It gets a message.
    pub(super) fn take(
        &mut self,
        number: i64,
        id: &MessageId,
        delivery: Option<(SubscriptionId, Tag)>,
    ) {
        // The id shares the memory of its message, which is not to live as long.
        let key = MessageKey(id.producer_id.as_ref().map(compact), id.producer_sequence_id);
        self.began = true;
        self.put(number, Held { key, delivery, doubtful: false });
    }

    /// A message is in its hands, or is again.
    pub(super) fn put(&mut self, number: i64, held: Held) {
        self.singly |= held.doubtful;
        let first = self.numbers.entry(held.key.clone()).or_insert(number);
        if *first != number {
            let later = number.max(*first);
            *first = number.min(*first);
            self.copies.entry(held.key.clone()).or_default().insert(later);
        }
        self.held.insert(number, held);
    }

    /// The first message of that id in its hands.
    pub(super) fn number_of(&self, id: &MessageId) -> Option<i64> {
        self.numbers.get(&MessageKey::of(id)).copied()
    }

    /// A message in its hands of which nobody knows whether it is: the broker says that now, by a
    /// delivery. True where there is one.
    pub(super) fn confirm(&mut self, key: &MessageKey, delivery: (SubscriptionId, Tag)) -> bool {
        let copies = self.copies.get(key).into_iter().flatten();
        let numbers = self.numbers.get(key).into_iter().chain(copies);
        let doubted = |number: &&i64| {
            let held = self.held.get(*number);
            held.is_some_and(|held| held.doubtful && held.is_of(key, delivery.0))
        };
        let number = numbers.into_iter().find(doubted).copied();
        let Some(held) = number.and_then(|number| self.held.get_mut(&number)) else { return false };
        (held.delivery, held.doubtful) = (Some(delivery), false);
        true
    }

    /// The message of that id which ends a range of `count` from that number on; if none does, the
    /// first of them behind it.
    pub(super) fn end_of(&self, first: i64, id: &MessageId, count: i32) -> Option<i64> {
        let key = MessageKey::of(id);
        let known = self.numbers.get(&key).copied()?;
        let Some(copies) = self.copies.get(&key) else {
            return Some(known).filter(|known| *known >= first);
        };
        let fits = |last: &i64| {
            let covered = self.held.range(first..=*last).count();
            i32::try_from(covered) == Ok(count)
        };
        let ends = || [known].into_iter().chain(copies.iter().copied()).filter(|it| *it >= first);
        ends().find(fits).or_else(|| ends().next())
    }

    /// The first of so many messages that end with this one; one at least.
    pub(super) fn last_of(&self, last: i64, count: i32) -> i64 {
        let before = usize::try_from(count.max(1) - 1).unwrap_or(0);
        let mut back = self.held.range(..=last).rev().map(|(number, _)| *number);
        back.nth(before).unwrap_or(0)
    }

    /// Takes a range of messages from it.
    pub(super) fn release(&mut self, first: i64, last: i64) -> Vec<(i64, Held)> {
        let range: Vec<i64> = self.held.range(first..=last).map(|(number, _)| *number).collect();
        let taken = range.into_iter().filter_map(|number| {
            let held = self.held.remove(&number)?;
            self.forget(&held.key, number);
            Some((number, held))
        });
        taken.collect()
    }

    fn forget(&mut self, key: &MessageKey, number: i64) {
        let is_first = self.numbers.get(key) == Some(&number);
        let Some(copies) = self.copies.get_mut(key) else {
            if is_first {
                self.numbers.remove(key);
            }
            return;
        };
        if is_first {
            let next = copies.pop_first().expect("copies are kept while there are some");
            self.numbers.insert(key.clone(), next);
        } else {
            copies.remove(&number);
        }
        if copies.is_empty() {
            self.copies.remove(key);
        }
    }

    /// How many it holds.
    pub(super) fn holds(&self) -> u32 {
        u32::try_from(self.held.len()).unwrap_or(u32::MAX)
    }
}

/// All of a connection.
#[derive(Debug, Default)]
pub(super) struct Consumers {
    by_key: BTreeMap<ConsumerKey, Consumer>,
    by_subscription: BTreeMap<SubscriptionId, ConsumerKey>,
    last: u64,
    pulls: u64,
}

impl Consumers {
    pub(super) fn get(&self, key: &ConsumerKey) -> Option<&Consumer> {
        self.by_key.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &ConsumerKey) -> Option<&mut Consumer> {
        self.by_key.get_mut(key)
    }

    /// Whose a subscription is.
    pub(super) fn of(&self, subscription: SubscriptionId) -> Option<ConsumerKey> {
        self.by_subscription.get(&subscription).cloned()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Consumer> {
        self.by_key.values()
    }

    pub(super) fn all(&self) -> Vec<ConsumerKey> {
        self.by_key.keys().cloned().collect()
    }

    pub(super) fn of_session(&self, session: i64) -> Vec<ConsumerKey> {
        self.by_key.keys().filter(|key| key.session == session).cloned().collect()
    }

    /// Subscriptions of the broker that these are, and names at which browsers look.
    pub(super) fn subscriptions(&self) -> usize {
        let browsers = self.by_key.values().filter(|it| it.manner == Manner::Browser);
        self.by_subscription.len() + browsers.map(|it| it.destinations.len()).sum::<usize>()
    }

    pub(super) fn add(&mut self, key: ConsumerKey, mut consumer: Consumer) -> &mut Consumer {
        if consumer.manner != Manner::Browser {
            for _ in &consumer.destinations {
                self.last += 1;
                consumer.parts.push(SubscriptionId(self.last));
                self.by_subscription.insert(SubscriptionId(self.last), key.clone());
            }
        }
        self.by_key.entry(key).insert_entry(consumer).into_mut()
    }

    pub(super) fn remove(&mut self, key: &ConsumerKey) -> Option<Consumer> {
        let consumer = self.by_key.remove(key)?;
        for part in &consumer.parts {
            self.by_subscription.remove(part);
        }
        Some(consumer)
    }

    /// A number for the next pull.
    pub(super) fn next_pull_number(&mut self) -> u64 {
        self.pulls += 1;
        self.pulls
    }

    /// When the next pull is to be told that there is nothing.
    pub(super) fn next_pull(&self) -> Option<Duration> {
        self.by_key.values().filter_map(|consumer| consumer.pull?.until).min()
    }

    /// A consumer whose pull is to be told so.
    pub(super) fn due(&self, now: Duration) -> Option<ConsumerKey> {
        let due = |it: &Consumer| it.pull.is_some_and(|it| it.until.is_some_and(|at| at <= now));
        self.by_key.iter().find(|(_, consumer)| due(consumer)).map(|(key, _)| key.clone())
    }
}
