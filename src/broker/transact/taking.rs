//! What a unit settles.
//!
//! Always: what it has taken is nobody else's until its outcome, in the hands of its consumer as
//! well as in the queue. Leaves to others: what the outcome makes of it (`settle`, `ending`).

use bytes::Bytes;

use crate::broker::command::{Outcome, Refusal, Which};
use crate::broker::decide::{DONE, Verdict};
use crate::broker::delta::{Entry, Place};
use crate::broker::fact::{
    Change, ConsumerKey, Fact, Lent, Source, Spot, UnitChange, UnitKey, VolatileWork,
};
use crate::broker::{Broker, Effects};
use crate::ids::{QueueId, Tag};
use crate::record::{Record, Taken};

impl Broker {
    pub(super) fn decide_take(
        &self,
        unit: UnitKey,
        key: ConsumerKey,
        which: Which,
        outcome: Outcome,
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        let (consumer, tags, which, all) = self.covered(key, which)?;
        let returned = outcome != Outcome::Accepted;
        if let Source::Queue(queue) = consumer.source_of(tags[0]) {
            let durable = tags.iter().filter_map(|tag| match consumer.loans[tag] {
                Lent::Durable { place, entry, .. } => Some((*tag, place, entry)),
                Lent::Volatile { .. } | Lent::Published { .. } => None,
            });
            let messages: Vec<_> = durable.collect();
            if !messages.is_empty() {
                let (transaction, first) = self.next_operation(unit, facts);
                let taken = Taken {
                    transaction,
                    first,
                    queue,
                    connection: key.0,
                    subscription: key.1,
                    returned,
                    messages,
                };
                facts.push(Fact::Log(Record::Taken(taken), Bytes::new()));
            }
        }
        let effort = consumer.effort_of(which, tags.len());
        let take = UnitChange::Take { key, which, returned, effort };
        facts.push(Fact::Memory(Change::Unit(unit, take)));
        if all { DONE } else { Ok(Verdict::Part) }
    }

    pub(super) fn apply_take(
        &mut self,
        unit: UnitKey,
        key: ConsumerKey,
        which: Which,
        returned: bool,
        effects: &mut Effects,
    ) {
        let consumer = self.consumers.get_mut(&key).expect("stated of a living one");
        let tags = consumer.named(which, usize::MAX).expect("stated of outstanding ones");
        let (source, count) = (consumer.source_of(tags[0]), tags.len());
        for tag in tags {
            let loan = consumer.loans.remove(&tag).expect("named");
            let unit = self.units.open.get_mut(&unit).expect("stated of one that is open");
            if let (Source::Queue(id), false) = (&source, returned) {
                unit.taken.entry(*id).or_default().add(loan.charge());
            }
            match (&source, &loan) {
                (Source::Queue(id), Lent::Durable { place, .. }) => {
                    let queue = self.queues.get_mut(id).expect("a loan keeps its queue");
                    queue.on_loan.remove(place);
                    continue;
                }
                (_, Lent::Published { message, .. }) => consumer.loses(message),
                _ => {}
            }
            let source = source.clone();
            let work = VolatileWork::Took { key, tag, source, loan, returned };
            unit.takes(work);
        }
        self.loans_over(key, &source, count);
        match source {
            Source::Queue(_) | Source::Pattern(_) => self.stand_in_line(key),
            Source::Topic(_) => self.serve_subscriber(key, effects),
        }
    }

    /// A message is in the hands of its consumer again.
    pub(in crate::broker) fn apply_relend(
        &mut self,
        key: ConsumerKey,
        tag: Tag,
        id: QueueId,
        loan: (Place, Entry),
    ) {
        let (place, entry) = loan;
        let queue = self.queues.get_mut(&id).expect("a loan keeps its queue");
        let waited = queue.release(place, &mut self.expiries);
        self.resident -= usize::from(waited.is_some());
        queue.on_loan.insert(place);
        let consumer = self.consumers.get_mut(&key).expect("stated of a living one");
        if let (Some(group), Some(selecting)) = (consumer.group, &mut queue.selecting) {
            selecting.lent(group, Spot::Durable(place));
        }
        consumer.loans.insert(tag, Lent::Durable { queue: id, place, entry });
        self.loans.lent_to(key.0);
        self.leave_line(key);
    }
}
