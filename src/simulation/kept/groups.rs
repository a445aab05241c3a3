//! Publications that happen together, and what is known of them.

use std::collections::BTreeSet;

use super::World;
use crate::ids::Millis;
use crate::message::{BodyKind, Content, Durability, Message, Priority};
use crate::schedule::When;

/// What was said of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Said {
    /// A transaction or a branch has it, which has no outcome.
    #[default]
    Nothing,
    Asked,
    Confirmed,
}

/// Publications that happen together, and what became of each in each subscription.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) numbers: Vec<u64>,
    pub(super) said: Said,
    /// The keepers that were there.
    pub(super) keepers: BTreeSet<usize>,
    /// Others that may have it or not: they came while it was on its way, or are changing.
    pub(super) others: BTreeSet<usize>,
    /// Who has published it.
    pub(super) client: Option<usize>,
    pub(super) expires: Option<Millis>,
    /// How long it is to wait before it is published, in milliseconds.
    pub(super) delay: Option<u64>,
    /// Until when that is, once it was sent or its commit was asked for.
    pub(super) due: Option<Millis>,
    /// It was published in a branch.
    pub(super) voted: bool,
    /// The branch that has voted for it.
    pub(super) branch: Option<u64>,
}

pub(super) fn message(number: u64, group: &Group) -> Message {
    let properties = vec![("number".to_owned(), number.to_string())];
    let body = vec![number as u8; 100 + (number as usize * 97) % 3000].into();
    let content = Content { kind: BodyKind::Bytes, properties, body }.encode();
    let priority = Priority::new(if number.is_multiple_of(2) { 6 } else { 4 }).unwrap();
    let when = group.delay.map_or(When::AtOnce, When::After);
    let (durability, expires) = (Durability::Persistent, group.expires);
    Message { durability, priority, expires, when, content, grouped: false }
}

impl World {
    pub(super) fn begin(&mut self, count: u64, client: Option<usize>) -> Vec<u64> {
        let numbers: Vec<_> = (1..=count).map(|n| self.last_number + n).collect();
        self.last_number += count;
        let expires = self.random.one_in(8).then(|| Millis(self.now.0 + 1500));
        self.groups.push(Group {
            numbers: numbers.clone(),
            keepers: self.there.keys().copied().collect(),
            client,
            expires,
            ..Group::default()
        });
        numbers
    }

    /// What was begun last may wait before it is published: never until a moment that comes.
    pub(super) fn delay(&mut self) {
        if self.random.one_in(4) {
            let delay = 200 + 400 * self.random.below(3);
            (self.last().delay, self.last().expires) = (Some(delay), None);
        }
    }

    /// What was begun last is asked for.
    pub(super) fn asked(&mut self) {
        let now = self.now.0;
        let group = self.last();
        group.said = Said::Asked;
        group.due = group.delay.map(|delay| Millis(now + delay));
    }

    /// A keeper comes, and may be there when something is published.
    pub(super) fn expect_later(&mut self, keeper: usize) {
        let later = self.groups.iter_mut().filter(|group| group.delay.is_some());
        for group in later.filter(|group| !group.keepers.contains(&keeper)) {
            group.others.insert(keeper);
        }
    }

    pub(super) fn last(&mut self) -> &mut Group {
        self.groups.last_mut().expect("one was begun")
    }
}
