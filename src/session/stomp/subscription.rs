//! The subscriptions of one connection, and what is outstanding on each.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::durable::Durable;
use super::fault::{Fault, excerpt};
use super::names::parse_destination;
use crate::broker::command::{MessageId, Standing, Which};
use crate::ids::{SubscriptionId, Tag};
use crate::limits;
use crate::message::Destination;
use crate::protocol::stomp::{Command, Headers, Version};
use crate::selector::Selector;

/// How deliveries are settled: the `ack` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AckMode {
    /// By being written to the socket.
    Auto,
    /// By an ACK that covers all deliveries before it.
    Cumulative,
    /// One by one.
    Individual,
}

impl AckMode {
    /// Which deliveries an ACK of `tag` settles.
    pub(super) fn which(self, tag: Tag) -> Which {
        match self {
            Self::Auto | Self::Cumulative => Which::Through(tag),
            Self::Individual => Which::One(tag),
        }
    }
}

/// SUBSCRIBE, read.
#[derive(Debug)]
pub(super) struct Subscribe {
    /// What the client calls it: its id, or in 1.0 without one the destination.
    pub(super) name: String,
    /// Whether MESSAGE says the name: not where the destination stands for it.
    pub(super) named: bool,
    pub(super) from: Destination,
    pub(super) mode: AckMode,
    pub(super) prefetch: u32,
    pub(super) selector: Option<Arc<Selector>>,
    /// How it stands among others, where it is not as most are.
    pub(super) standing: Option<Standing>,
    /// It is to outlive the connection.
    pub(super) durable: Option<Durable>,
}

impl Subscribe {
    pub(super) fn parse(headers: &Headers, version: Version, prefetch: u32) -> Result<Self, Fault> {
        let missing = |header| Fault::MissingHeader { command: Command::Subscribe, header };
        let destination = headers.get("destination").ok_or_else(|| missing("destination"))?;
        let from = parse_destination(destination)?;
        if from.is_temporary() {
            return Err(Fault::Temporary { destination: from });
        }
        let id = headers.get("id");
        if id.is_none() && version > Version::V1_0 {
            return Err(missing("id"));
        }
        let name = id.unwrap_or(destination);
        if name.len() > limits::SUBSCRIPTION_NAME_BYTES_MAX {
            return Err(Fault::bad_header("id", name, "at most 1024 bytes long"));
        }
        let mode = match headers.get("ack") {
            None | Some("auto") => AckMode::Auto,
            Some("client") => AckMode::Cumulative,
            Some("client-individual") => AckMode::Individual,
            Some(other) => {
                let expected = "auto, client or client-individual";
                return Err(Fault::bad_header("ack", other, expected));
            }
        };
        refuse_unsupported(headers)?;
        let prefetch = match headers.get("activemq.prefetchSize") {
            None => prefetch,
            Some(value) => {
                let plain = value.bytes().all(|byte| byte.is_ascii_digit());
                let bad =
                    || Fault::bad_header("activemq.prefetchSize", value, "a number of at least 1");
                value.parse().ok().filter(|n| plain && *n > 0).ok_or_else(bad)?
            }
        };
        let prefetch = prefetch.clamp(1, limits::PREFETCH_MAX);
        let selector = Selector::parse_optional(headers.get("selector").unwrap_or(""))?;
        let (name, named, standing) = (name.to_owned(), id.is_some(), parse_standing(headers)?);
        let durable = Durable::parse(headers, &from)?;
        Ok(Self { name, named, from, mode, prefetch, selector, standing, durable })
    }
}

/// What the headers say of how it stands among the consumers of its queue.
fn parse_standing(headers: &Headers) -> Result<Option<Standing>, Fault> {
    const PRIORITY: &str = "activemq.priority";
    let priority = match headers.get(PRIORITY) {
        None => 0,
        Some(text) => {
            let bad = |_| Fault::bad_header(PRIORITY, text, "a number from -128 to 127");
            text.parse().map_err(bad)?
        }
    };
    let exclusive = match headers.get("activemq.exclusive") {
        None | Some("" | "false") => false,
        Some("true") => true,
        Some(other) => {
            return Err(Fault::bad_header("activemq.exclusive", other, "true or false"));
        }
    };
    let standing = Standing { priority, exclusive, pending: None };
    Ok((standing != Standing::default()).then_some(standing))
}

/// To ignore these would give a consumer messages it did not ask for, or keep none it relies on.
fn refuse_unsupported(headers: &Headers) -> Result<(), Fault> {
    if headers.get("browser") == Some("true") {
        return Err(Fault::Browser);
    }
    const UNSUPPORTED: [(&str, &str); 1] =
        [("durable", "durable subscriptions without activemq.subscriptionName")];
    for (header, what) in UNSUPPORTED {
        if headers.get(header).is_some_and(|value| !matches!(value, "" | "false")) {
            return Err(Fault::Unsupported { header, what });
        }
    }
    Ok(())
}

/// A living subscription.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) name: String,
    pub(super) named: bool,
    pub(super) mode: AckMode,
    prefetch: u32,
    selector: Option<Arc<Selector>>,
    outstanding: Outstanding,
}

/// Deliveries the client has and has not settled; at most the prefetch. Always both maps say the
/// same: a message is lent to a subscription only once at a time.
#[derive(Debug, Default)]
struct Outstanding {
    messages: BTreeMap<Tag, MessageId>,
    tags: HashMap<MessageId, Tag>,
}

impl Subscription {
    /// Remembers a delivery that the client settles.
    pub(super) fn lend(&mut self, tag: Tag, message: MessageId) {
        assert!(self.mode != AckMode::Auto, "settled by sending");
        debug_assert!(self.outstanding.messages.len() < self.prefetch as usize);
        self.outstanding.messages.insert(tag, message);
        self.outstanding.tags.insert(message, tag);
    }

    /// Whether that delivery is outstanding.
    pub(super) fn holds(&self, tag: Tag) -> bool {
        self.outstanding.messages.contains_key(&tag)
    }

    /// The delivery of that message, if it is outstanding.
    pub(super) fn tag_of(&self, message: MessageId) -> Option<Tag> {
        self.outstanding.tags.get(&message).copied()
    }

    /// The outstanding messages that a settlement is about.
    pub(super) fn covered(&self, which: Which) -> impl Iterator<Item = MessageId> {
        let (first, last) = match which {
            Which::One(tag) => (tag, tag),
            Which::Through(tag) => (Tag(0), tag),
            Which::Range(first, last) => (first, last),
        };
        self.outstanding.messages.range(first..=last).map(|(_, message)| *message)
    }

    /// Forgets what is settled.
    pub(super) fn settle(&mut self, which: Which) {
        let Outstanding { messages, tags } = &mut self.outstanding;
        match which {
            Which::One(tag) => {
                if let Some(message) = messages.remove(&tag) {
                    tags.remove(&message);
                }
            }
            Which::Through(tag) => {
                while let Some(first) = messages.first_entry().filter(|e| *e.key() <= tag) {
                    tags.remove(&first.remove());
                }
            }
            Which::Range(first, last) => {
                let range: Vec<Tag> = messages.range(first..=last).map(|(tag, _)| *tag).collect();
                for message in range.iter().filter_map(|tag| messages.remove(tag)) {
                    tags.remove(&message);
                }
            }
        }
    }

    /// How many deliveries are outstanding.
    #[cfg(test)]
    pub(super) fn outstanding(&self) -> usize {
        assert_eq!(self.outstanding.messages.len(), self.outstanding.tags.len());
        self.outstanding.messages.len()
    }
}

/// All of a connection.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    by_name: HashMap<String, SubscriptionId>,
    by_id: BTreeMap<SubscriptionId, Subscription>,
    last: u64,
}

impl Subscriptions {
    /// Begins one, under an id that this connection never used.
    pub(super) fn add(&mut self, asked: &Subscribe) -> Result<SubscriptionId, Fault> {
        if self.by_name.contains_key(&asked.name) {
            return Err(Fault::SubscriptionExists { id: excerpt(&asked.name) });
        }
        let limit = limits::SESSION_SUBSCRIPTIONS_MAX;
        if self.by_id.len() >= limit {
            return Err(Fault::TooManySubscriptions { limit });
        }
        let bytes = |it: &Option<Arc<Selector>>| it.as_ref().map_or(0, |it| it.text().len());
        let others: usize = self.by_id.values().map(|other| bytes(&other.selector)).sum();
        let limit = limits::SESSION_SELECTOR_BYTES_MAX;
        if others + bytes(&asked.selector) > limit {
            return Err(Fault::SelectorsTooLong { limit });
        }
        self.last += 1;
        let id = SubscriptionId(self.last);
        let subscription = Subscription {
            name: asked.name.clone(),
            named: asked.named,
            mode: asked.mode,
            prefetch: asked.prefetch,
            selector: asked.selector.clone(),
            outstanding: Outstanding::default(),
        };
        self.by_name.insert(asked.name.clone(), id);
        self.by_id.insert(id, subscription);
        Ok(id)
    }

    /// The one that UNSUBSCRIBE names: by `id`, or in 1.0 by `destination`.
    pub(super) fn named_by(
        &self,
        headers: &Headers,
        version: Version,
    ) -> Result<SubscriptionId, Fault> {
        let (header, value) = match (headers.get("id"), headers.get("destination")) {
            (Some(id), _) => ("id", id),
            (None, Some(destination)) if version == Version::V1_0 => ("destination", destination),
            (None, _) => {
                let command = Command::Unsubscribe;
                return Err(Fault::MissingHeader { command, header: "id" });
            }
        };
        self.find(header, value)
    }

    /// The one the client calls `value`.
    pub(super) fn find(&self, header: &'static str, value: &str) -> Result<SubscriptionId, Fault> {
        let missing = || Fault::NoSuchSubscription { header, value: excerpt(value) };
        self.by_name.get(value).copied().ok_or_else(missing)
    }

    pub(super) fn get(&self, id: SubscriptionId) -> Option<&Subscription> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: SubscriptionId) -> Option<&mut Subscription> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SubscriptionId, &Subscription)> {
        self.by_id.iter().map(|(id, subscription)| (*id, subscription))
    }

    pub(super) fn remove(&mut self, id: SubscriptionId) {
        if let Some(subscription) = self.by_id.remove(&id) {
            self.by_name.remove(&subscription.name);
        }
    }
}
