//! The patterns from which consumers read, or which durable subscriptions keep, and which of them
//! catch a name.
//!
//! A tree with one level for each part of a name, so that what a name costs to look up grows with
//! the patterns that look like it, and not with all there are. Always: a pattern is in here once,
//! while somebody reads from it or keeps it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::broker::Broker;
use crate::broker::command::Refusal;
use crate::limits;
use crate::message::{ADVISORY, Destination, Part, Wildcard, has_wildcards};

/// Of one kind of destination.
#[derive(Debug, Default)]
pub(super) struct Wildcards {
    root: Node,
    count: usize,
}

#[derive(Debug, Default)]
struct Node {
    named: BTreeMap<Box<str>, Node>,
    any: Option<Box<Node>>,
    /// A pattern that ends here, and one that goes on to any end.
    here: Option<Wildcard>,
    rest: Option<Wildcard>,
}

impl Wildcards {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn add(&mut self, wildcard: Wildcard) {
        let parts = wildcard.pattern().parts().to_vec();
        self.count += usize::from(self.root.place(&parts).replace(wildcard).is_none());
    }

    pub(super) fn remove(&mut self, wildcard: &Wildcard) {
        let gone = self.root.take(wildcard.pattern().parts());
        self.count -= usize::from(gone);
    }

    /// Those that catch a name, in a fixed order.
    pub(super) fn catching(&self, name: &str) -> Vec<Arc<str>> {
        let mut found = Vec::new();
        if !self.is_empty() {
            self.root.find(Some(name), &mut |wildcard| {
                if wildcard.may_see(name) {
                    found.push(Arc::clone(wildcard.name()));
                }
            });
        }
        found
    }
}

impl Node {
    fn place(&mut self, parts: &[Part]) -> &mut Option<Wildcard> {
        match parts.split_first() {
            None => &mut self.here,
            Some((Part::Rest, _)) => &mut self.rest,
            Some((Part::Any, parts)) => self.any.get_or_insert_default().place(parts),
            Some((Part::Named(name), parts)) => {
                self.named.entry(name.clone()).or_default().place(parts)
            }
        }
    }

    /// True where there was one. Branches without any go.
    fn take(&mut self, parts: &[Part]) -> bool {
        match parts.split_first() {
            None => self.here.take().is_some(),
            Some((Part::Rest, _)) => self.rest.take().is_some(),
            Some((Part::Any, parts)) => {
                let Some(node) = &mut self.any else { return false };
                let gone = node.take(parts);
                self.any.take_if(|node| node.is_bare());
                gone
            }
            Some((Part::Named(name), parts)) => {
                let Some(node) = self.named.get_mut(name) else { return false };
                let gone = node.take(parts);
                if node.is_bare() {
                    self.named.remove(name);
                }
                gone
            }
        }
    }

    fn is_bare(&self) -> bool {
        self.named.is_empty() && self.any.is_none() && self.here.is_none() && self.rest.is_none()
    }

    /// `name` is what is left of it; `None` at its end.
    fn find(&self, name: Option<&str>, found: &mut impl FnMut(&Wildcard)) {
        self.rest.iter().for_each(&mut *found);
        let Some(name) = name else { return self.here.iter().for_each(found) };
        let (part, others) = match name.split_once('.') {
            Some((part, others)) => (part, Some(others)),
            None => (name, None),
        };
        if let Some(node) = self.named.get(part) {
            node.find(others, found);
        }
        if let Some(node) = &self.any {
            node.find(others, found);
        }
    }
}

impl Broker {
    /// Who hears of what is published on a topic: those of it, and of the patterns that catch it.
    pub(super) fn audiences(&self, topic: &str) -> impl Iterator<Item = Arc<str>> {
        let wildcards = self.topic_wildcards.catching(topic);
        let own = self.topics.get_key_value(topic).map(|(name, _)| Arc::clone(name));
        // A name that looks like a pattern is caught by itself.
        let own = own.filter(|name| !wildcards.contains(name));
        own.into_iter().chain(wildcards)
    }

    /// The pattern that a new consumer names, if it names one.
    pub(super) fn check_wildcard(&self, from: &Destination) -> Result<Option<Wildcard>, Refusal> {
        let bad = |_| Refusal::BadPattern { limit: limits::WILDCARD_PARTS_MAX };
        let Some(wildcard) = Wildcard::of(from).map_err(bad)? else { return Ok(None) };
        check_parts(&wildcard)?;
        let limit = limits::WILDCARDS_MAX;
        let (known, count) = match from {
            Destination::Queue(name) => {
                (self.families.contains_key(name), self.queue_wildcards.len())
            }
            Destination::Topic(name) => {
                (self.topics.contains_key(name), self.topic_wildcards.len())
            }
        };
        if !known && count >= limit {
            return Err(Refusal::TooManyPatterns { limit });
        }
        Ok(Some(wildcard))
    }
}

/// Refuses a pattern of more parts than one may have.
pub(super) fn check_parts(wildcard: &Wildcard) -> Result<(), Refusal> {
    let limit = limits::WILDCARD_PARTS_MAX;
    let fits = wildcard.pattern().parts().len() <= limit;
    if fits { Ok(()) } else { Err(Refusal::BadPattern { limit }) }
}

/// Refuses a name with wildcards as one to send to. Advisories tell in their names of what they are
/// about, patterns too.
pub(super) fn check_no_wildcards(name: &str) -> Result<(), Refusal> {
    if has_wildcards(name) && !name.starts_with(ADVISORY) {
        return Err(Refusal::SendToPattern { name: name.into() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wildcard(text: &str) -> Wildcard {
        Wildcard::of(&Destination::topic(text)).unwrap().unwrap()
    }

    #[test]
    fn a_tree_of_patterns_finds_what_each_alone_would_and_forgets_what_has_gone() {
        let texts = ["a.*", "a.>", "*.b", ">", "a.*.c", "*.*", "*", "a.b.>", "ActiveMQ.Advisory.>"];
        let names = ["a", "a.b", "a.x", "a.b.c", "x.b", "x", "a.b.c.d", "ActiveMQ.Advisory.b"];
        let mut tree = Wildcards::default();
        for text in texts.iter().chain(&texts) {
            tree.add(wildcard(text));
        }
        assert_eq!(tree.len(), texts.len());
        for gone in 0..=texts.len() {
            for name in names {
                let mut found = tree.catching(name);
                let alone = texts[gone..].iter().filter(|text| wildcard(text).catches(name));
                let mut alone: Vec<Arc<str>> = alone.map(|text| Arc::from(*text)).collect();
                found.sort();
                alone.sort();
                assert_eq!(found, alone, "{name} without {gone}");
            }
            if let Some(text) = texts.get(gone) {
                tree.remove(&wildcard(text));
                tree.remove(&wildcard(text));
            }
        }
        assert!(tree.is_empty() && tree.root.is_bare());
    }
}
