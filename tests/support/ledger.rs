//! What was promised to whom: the oracle of every test that kills, cuts or drains.
//!
//! Clients write each fact down when they learn it, and the ledger holds it against all that it
//! knows. It owns the promises checked:
//!
//! - a confirmed message is not lost, and a message whose acknowledgement was confirmed never
//!   comes again;
//! - whoever gets a message that anyone was given before is told `redelivered:true`;
//! - no message is invented, changed, or found in another queue than its own;
//! - on one subscription, what one producer sent comes in the order of sending, but for what is
//!   flagged as redelivered, as long as no other subscription ends meanwhile.
//!
//! Always: an intention (`sending`, `acking`) is written before its bytes leave, a confirmation
//! (`confirmed`, `acked`) after its bytes came. What lies between is uncertain and may go either
//! way. All clients of one life of the broker must have ended before the next life begins, so
//! that no delivery of an earlier life is written down in a later one.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, MutexGuard};

use super::random::Random;

/// Names a message and says all about it: its body follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id {
    pub(crate) producer: u32,
    pub(crate) seq: u64,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.producer, self.seq)
    }
}

impl Id {
    /// The body of the message: its name, then a filling of its own length and letters.
    pub(crate) fn body(self) -> String {
        let mut random = Random::new(u64::from(self.producer) << 40 ^ self.seq);
        let length = if random.one_in(20) { random.below(40_000) } else { random.below(300) };
        let mut body = format!("{} {} ", self.producer, self.seq);
        body.extend((0..length).map(|_| char::from(b'a' + random.below(26) as u8)));
        body
    }

    /// The message that a body names, if it is that message's body to the last byte.
    pub(crate) fn of_body(body: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?;
        let mut words = text.splitn(3, ' ');
        let producer = words.next()?.parse().ok()?;
        let id = Self { producer, seq: words.next()?.parse().ok()? };
        (id.body() == text).then_some(id)
    }
}

/// What is known of one message.
#[derive(Debug)]
struct Fate {
    queue: String,
    confirmed: bool,
    deliveries: u32,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    /// The acknowledgement was sent; nobody knows whether it was heard.
    Asked,
    Confirmed,
}

#[derive(Debug, Default)]
struct Book {
    fates: BTreeMap<Id, Fate>,
    last_seq: HashMap<u32, u64>,
    counts: Counts,
    violations: Vec<String>,
}

/// How much a run has seen; a run that saw little proves little.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) confirmed: u64,
    pub(crate) deliveries: u64,
    pub(crate) redelivered: u64,
    pub(crate) nacked: u64,
    pub(crate) acked: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} sent ({} confirmed, {} in doubt), {} deliveries ({} redelivered), {} nacked, {} \
             acknowledged",
            self.sent,
            self.confirmed,
            self.sent - self.confirmed,
            self.deliveries,
            self.redelivered,
            self.nacked,
            self.acked
        )
    }
}

/// The facts that all clients of a run have learned.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Book>);

/// The order seen on one subscription.
#[derive(Debug)]
pub(crate) enum Order {
    /// The last fresh message of each producer; the next is a later one.
    Kept(HashMap<u32, u64>),
    /// Subscriptions end, and what was on its way to one of them comes late to another, rightly
    /// without a flag: nobody has seen it.
    Free,
}

impl Ledger {
    /// Names a new message of `producer` that is about to be sent to `queue`.
    pub(crate) fn sending(&self, producer: u32, queue: &str) -> Id {
        let mut book = self.book();
        let seq = book.last_seq.entry(producer).or_default();
        *seq += 1;
        let id = Id { producer, seq: *seq };
        let queue = queue.to_owned();
        book.fates.insert(id, Fate { queue, confirmed: false, deliveries: 0, end: End::Open });
        book.counts.sent += 1;
        id
    }

    /// The broker has confirmed the message.
    pub(crate) fn confirmed(&self, id: Id) {
        let mut book = self.book();
        book.fates.get_mut(&id).expect("was sent").confirmed = true;
        book.counts.confirmed += 1;
    }

    /// A message came. `None`, and a violation, if nobody ever sent it.
    pub(crate) fn delivered(
        &self,
        body: &[u8],
        queue: &str,
        redelivered: bool,
        order: &mut Order,
    ) -> Option<Id> {
        let mut guard = self.book();
        let book = &mut *guard;
        book.counts.deliveries += 1;
        book.counts.redelivered += u64::from(redelivered);
        let known = Id::of_body(body).and_then(|id| Some((id, book.fates.get_mut(&id)?)));
        let Some((id, fate)) = known else {
            let start = String::from_utf8_lossy(&body[..body.len().min(60)]);
            book.violations.push(format!("nobody sent what came from {queue}: {start:?}..."));
            return None;
        };
        if fate.queue != queue {
            let text = format!("{id} was sent to {} and came from {queue}", fate.queue);
            book.violations.push(text);
        }
        if fate.end == End::Confirmed {
            book.violations
                .push(format!("{id} came again after its acknowledgement was confirmed"));
        }
        if fate.deliveries > 0 && !redelivered {
            book.violations.push(format!("{id} came again without redelivered:true"));
        }
        fate.deliveries += 1;
        if let (Order::Kept(order), false) = (order, redelivered) {
            let last = order.insert(id.producer, id.seq).unwrap_or(0);
            if last >= id.seq {
                book.violations.push(format!("{id} came after {last} of the same producer"));
            }
        }
        Some(id)
    }

    /// An acknowledgement is about to be sent.
    pub(crate) fn acking(&self, id: Id) {
        let mut book = self.book();
        let fate = book.fates.get_mut(&id).expect("was delivered");
        if fate.end == End::Open {
            fate.end = End::Asked;
        }
    }

    /// The broker has confirmed the acknowledgement.
    pub(crate) fn acked(&self, id: Id) {
        let mut book = self.book();
        let fate = book.fates.get_mut(&id).expect("was delivered");
        let twice = fate.end == End::Confirmed;
        fate.end = End::Confirmed;
        book.counts.acked += 1;
        if twice {
            book.violations.push(format!("the acknowledgement of {id} was confirmed twice"));
        }
    }

    /// A message is about to be given back.
    pub(crate) fn nacking(&self) {
        self.book().counts.nacked += 1;
    }

    /// Something else that must not be.
    pub(crate) fn violation(&self, what: String) {
        self.book().violations.push(what);
    }

    pub(crate) fn counts(&self) -> Counts {
        self.book().counts
    }

    pub(crate) fn has_violations(&self) -> bool {
        !self.book().violations.is_empty()
    }

    /// # Panics
    /// With the first violations, if there are any.
    #[track_caller]
    pub(crate) fn check(&self) {
        let book = self.book();
        let some = &book.violations[..book.violations.len().min(20)];
        assert!(some.is_empty(), "{} violations:\n{}", book.violations.len(), some.join("\n"));
    }

    /// After every queue was read to its end and acknowledged: nothing confirmed may be missing.
    ///
    /// # Panics
    /// With the first violations, if there are any.
    #[track_caller]
    pub(crate) fn check_drained(&self) {
        self.check();
        let book = self.book();
        let lost = |fate: &Fate| fate.confirmed && fate.end == End::Open;
        let lost: Vec<String> = (book.fates.iter().filter(|(_, fate)| lost(fate)))
            .map(|(id, fate)| format!("{id} of {}, {} deliveries", fate.queue, fate.deliveries))
            .collect();
        let some = lost[..lost.len().min(20)].join("\n");
        assert!(lost.is_empty(), "{} confirmed messages are lost:\n{some}", lost.len());
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().expect("no client panics while it writes")
    }
}
