//! Deliveries that are over: their messages are gone, or back in their places.
//!
//! Owns what memory forgets with each. Always: what a durable message comes to has its record
//! before. Leaves to others: whether a return counts (`redelivery`), and who is served next.

use crate::broker::fact::{ConsumerKey, Lent, Source, Spot};
use crate::broker::{Broker, Effects};
use crate::ids::Tag;

/// What apply does.
impl Broker {
    /// A loan is over and its message gone; a durable one's record has said so.
    pub(super) fn end_loan(&mut self, source: &Source, loan: &Lent) {
        match (source, loan) {
            (Source::Queue(id), Lent::Durable { place, .. }) => {
                self.queue(*id).on_loan.remove(place);
            }
            (_, Lent::Durable { .. }) => unreachable!("topics lend nothing durable"),
            (source, Lent::Volatile { message, place, .. }) => {
                self.volatile_bytes -= message.charge();
                if let Source::Queue(id) = source {
                    let queue = self.queue(*id);
                    queue.volatile_on_loan.remove(place);
                    queue.forget(Spot::Volatile(*place));
                    queue.volatile_bytes -= message.charge();
                    self.free(*id);
                }
            }
            (_, Lent::Published { message, .. }) => self.let_go(message),
        }
    }

    /// A loan comes back to its place; one of a topic has none and is gone.
    pub(super) fn take_back(&mut self, source: &Source, loan: Lent, counted: bool) {
        match (source, loan) {
            (Source::Queue(id), Lent::Durable { place, entry, .. }) => {
                self.queue(*id).on_loan.remove(&place);
                // One that counts has its record, which may have delayed it or set it apart.
                let now = if counted { self.durable.as_stated(*id, place) } else { Some(entry) };
                if let Some(entry) = now.filter(|entry| entry.due.is_none()) {
                    self.waits_again(*id, place, entry);
                }
            }
            (Source::Queue(id), loan @ Lent::Volatile { .. }) => {
                self.take_back_volatile(*id, loan, counted);
            }
            (source, loan) => self.end_loan(source, &loan),
        }
    }

    pub(super) fn apply_take_back(&mut self, key: ConsumerKey, count: usize) {
        let consumer = self.consumers.get_mut(&key).expect("stated of an ended one");
        let ended = consumer.ended.expect("stated of an ended one");
        let first = consumer.loans.keys().next().copied();
        let source = first.map_or_else(|| consumer.source.clone(), |tag| consumer.source_of(tag));
        let loans: Vec<_> = std::iter::from_fn(|| consumer.loans.pop_first()).take(count).collect();
        let waited = (count - loans.len()).min(consumer.backlog.len());
        let waited: Vec<_> = consumer.backlog.drain(..waited).collect();
        let done = consumer.loans.is_empty() && consumer.backlog.is_empty();
        waited.iter().for_each(|news| self.let_go(&news.message));
        self.loans_over(key, &source, loans.len());
        for (tag, loan) in loans {
            self.take_back(&source, loan, ended.was_sent(tag));
        }
        if done {
            self.consumers.remove(&key);
            let first = self.ended.pop_front();
            debug_assert_eq!(first, Some(key), "loans return in the order of the ends");
        }
    }

    pub(super) fn apply_forfeit(&mut self, key: ConsumerKey, tag: Tag, effects: &mut Effects) {
        let consumer = self.consumers.get_mut(&key).expect("stated of a living one");
        let source = consumer.source_of(tag);
        if let Some(loan) = consumer.loans.remove(&tag) {
            if let Lent::Published { message, .. } = &loan {
                consumer.loses(message);
            }
            self.loans_over(key, &source, 1);
            self.end_loan(&source, &loan);
        }
        match source {
            Source::Topic(_) => self.serve_subscriber(key, effects),
            Source::Queue(_) | Source::Pattern(_) => self.stand_in_line(key),
        }
    }
}
