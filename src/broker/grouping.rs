//! Groups of messages in a queue: whose each is, and what waits of each.
//!
//! A message may name a group. All of a group go to one consumer, in order, for as long as that
//! lives; then another has them. Owners are kept for a fixed number of *buckets*, told by a hash of
//! a group's name, so that memory is bounded whatever names there are: groups of one bucket have
//! one owner, and the end of one ends the others' too. Knows what is known of messages that wait;
//! what they say is found out beside the engine (`select`), and who has credit is `credit`'s.
//!
//! Always: of a bucket only the first message that waits is on offer, to its owner or, where it has
//! none, to whoever is next. So an owner that takes no more keeps nobody from other groups.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;

use crate::broker::fact::ConsumerKey;
use crate::broker::selecting::{Position, RANKS, some};
use crate::ids::Tag;
use crate::limits;
use crate::message::{self, GROUP_ID, GROUP_SEQUENCE, Value};

/// Groups that have one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bucket(u16);

/// What a message says of its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    bucket: Bucket,
    /// It is the last: its number is below zero.
    closes: bool,
}

impl Membership {
    /// Of a stored message; nothing where it names no group.
    #[must_use]
    pub fn of(content: &Bytes) -> Option<Self> {
        let Some(Value::Text(name)) = message::value(content, GROUP_ID) else { return None };
        if name.is_empty() {
            return None;
        }
        let number = match message::value(content, GROUP_SEQUENCE) {
            Some(Value::Integer(number)) => number,
            Some(Value::Text(text)) => text.trim().parse().unwrap_or(0),
            _ => 0,
        };
        let hash = crc32fast::hash(name.as_bytes()) % u32::from(limits::GROUP_BUCKETS);
        let bucket = Bucket(u16::try_from(hash).expect("fewer than that"));
        Some(Self { bucket, closes: number < 0 })
    }
}

/// Whether a queue has messages of groups.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Groups {
    /// Some were sent in this life.
    pub(crate) seen: bool,
    /// It has messages of which nobody knows.
    pub(crate) unknown: bool,
    /// Who got some of these while there was nobody else, and is asked about from this one on when
    /// there is.
    pub(crate) unseen: Option<(ConsumerKey, Tag)>,
}

/// What is known of a queue's groups.
#[derive(Debug, Default)]
pub(super) struct Grouping {
    owners: BTreeMap<Bucket, ConsumerKey>,
    /// What is known of messages that wait.
    known: BTreeMap<Position, Option<Membership>>,
    /// How many these are, per rank.
    of_rank: [usize; RANKS],
    /// The same of those that are lent.
    lent: BTreeMap<Position, Option<Membership>>,
    /// What waits of each bucket.
    waiting: BTreeMap<Bucket, BTreeSet<Position>>,
    /// For whoever is next: messages of no group, and the first of each bucket without owner.
    open: BTreeSet<Position>,
    /// For each owner: the first of each of its buckets.
    owned: BTreeMap<ConsumerKey, BTreeSet<Position>>,
    /// Owners that may have credit and something to take.
    eager: BTreeSet<ConsumerKey>,
    /// The last of these that had its turn.
    turn: Option<ConsumerKey>,
    /// A message of a group was seen.
    pub(super) found: bool,
}

impl Grouping {
    /// A message waits, and this is what it says.
    pub(super) fn waits(&mut self, position: Position, member: Option<Membership>) {
        if self.known.insert(position, member).is_none() {
            self.of_rank[usize::from(position.0)] += 1;
        }
        let Some(Membership { bucket, .. }) = member else {
            self.open.insert(position);
            return;
        };
        self.found = true;
        self.change(bucket, |waiting| _ = waiting.insert(position));
    }

    /// A message that was lent waits again; false where nobody knows what it says.
    pub(super) fn waits_again(&mut self, position: Position) -> bool {
        let known = self.lent.remove(&position);
        known.map(|member| self.waits(position, member)).is_some()
    }

    /// What is known of a message.
    pub(super) fn member(&self, position: Position) -> Option<Option<Membership>> {
        self.known.get(&position).copied()
    }

    /// A message waits no longer, or is lent no longer.
    pub(super) fn forget(&mut self, position: Position) {
        self.lent.remove(&position);
        let Some(member) = self.known.remove(&position) else { return };
        self.of_rank[usize::from(position.0)] -= 1;
        match member {
            Some(Membership { bucket, .. }) => {
                self.change(bucket, |waiting| _ = waiting.remove(&position));
            }
            None => _ = self.open.remove(&position),
        }
    }

    /// A message that was known to wait, and is forgotten, is lent. True where it is the first of
    /// its group that this consumer gets.
    pub(super) fn lent(
        &mut self,
        position: Position,
        member: Option<Membership>,
        key: ConsumerKey,
    ) -> bool {
        self.lent.insert(position, member);
        let Some(Membership { bucket, closes }) = member else { return false };
        self.found = true;
        let before = self.withdraw(bucket);
        self.turn = Some(key);
        let owner =
            if closes { self.owners.remove(&bucket) } else { self.owners.insert(bucket, key) };
        self.offer(bucket, before);
        owner != Some(key)
    }

    /// A consumer has gone: its groups are for others.
    pub(super) fn disown(&mut self, key: ConsumerKey) {
        self.eager.remove(&key);
        let of_it: Vec<_> =
            self.owners.iter().filter(|(_, owner)| **owner == key).map(|(it, _)| *it).collect();
        for bucket in of_it {
            let first = self.withdraw(bucket);
            self.owners.remove(&bucket);
            self.offer(bucket, first);
        }
    }

    /// A consumer has credit.
    pub(super) fn has_credit(&mut self, key: ConsumerKey) {
        if self.owned.contains_key(&key) {
            self.eager.insert(key);
        }
    }

    /// Drops some of what it knows; false when nothing is left.
    pub(super) fn drop_some(&mut self) -> bool {
        let mut left = some(|| self.known.pop_first().is_some());
        left |= some(|| self.lent.pop_first().is_some());
        left |= some(|| self.open.pop_first().is_some());
        left |= some(|| {
            let Some(mut bucket) = self.waiting.first_entry() else { return false };
            if bucket.get_mut().pop_first().is_none() {
                bucket.remove();
            }
            true
        });
        left
    }

    /// How many messages that wait it knows of, up to a rank.
    pub(super) fn len(&self, rank: u8) -> usize {
        self.of_rank[..=usize::from(rank)].iter().sum()
    }

    /// The next owner that may have credit, and what it gets then, up to a rank. They take turns.
    pub(super) fn eager(&self, rank: u8) -> Option<(ConsumerKey, Position)> {
        let after = self.turn.map_or(Bound::Unbounded, Bound::Excluded);
        let in_turn = self.eager.range((after, Bound::Unbounded)).chain(&self.eager);
        let mut offers = in_turn.take(limits::STEP_MESSAGES_MAX).map(|key| {
            let first = self.owned.get(key).and_then(BTreeSet::first);
            (*key, *first.expect("only who has something is eager"))
        });
        offers.find(|(_, first)| first.0 <= rank)
    }

    /// An owner has no credit, or has gone.
    pub(super) fn is_sated(&mut self, key: ConsumerKey) {
        self.eager.remove(&key);
    }

    /// What the next in line gets, up to a rank.
    pub(super) fn open(&self, rank: u8) -> Option<Position> {
        self.open.first().copied().filter(|first| first.0 <= rank)
    }

    fn change(&mut self, bucket: Bucket, with: impl FnOnce(&mut BTreeSet<Position>)) {
        self.withdraw(bucket);
        let waiting = self.waiting.entry(bucket).or_default();
        with(waiting);
        let first = waiting.first().copied();
        if first.is_none() {
            self.waiting.remove(&bucket);
        }
        self.offer(bucket, first);
    }

    /// Takes back what is on offer of a bucket.
    fn withdraw(&mut self, bucket: Bucket) -> Option<Position> {
        let first = self.waiting.get(&bucket).and_then(|waiting| waiting.first().copied())?;
        match self.owners.get(&bucket) {
            None => _ = self.open.remove(&first),
            Some(owner) => {
                let owned = self.owned.get_mut(owner).expect("it has this one");
                owned.remove(&first);
                if owned.is_empty() {
                    self.owned.remove(owner);
                    self.eager.remove(owner);
                }
            }
        }
        Some(first)
    }

    fn offer(&mut self, bucket: Bucket, first: Option<Position>) {
        let Some(first) = first else { return };
        match self.owners.get(&bucket).copied() {
            None => _ = self.open.insert(first),
            Some(owner) => {
                self.owned.entry(owner).or_default().insert(first);
                self.has_credit(owner);
            }
        }
    }
}

/// For checks.
#[cfg(test)]
impl Grouping {
    pub(super) fn known_len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn lent_len(&self) -> usize {
        self.lent.len()
    }

    pub(super) fn waiting_len(&self) -> usize {
        self.waiting.values().map(BTreeSet::len).sum()
    }
}
