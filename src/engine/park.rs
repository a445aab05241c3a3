//! Sends that wait for room, and the answers that wait behind them.
//!
//! Owns a line for each destination in which sends wait, and for each connection the order of what
//! it is still to be told. Always: a line is served from its front, so first parked is first
//! served, whoever sent it; no answer says yes while something that its connection asked before
//! still waits; what waits is bounded per connection and over all. A line is looked at again when
//! something has made room for it, and not before. Leaves to others: whether there is room
//! (`broker`), and what a held producer may do meanwhile (its session reads on).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::broker::command::{Confirm, Refusal, Reply, Request};
use crate::broker::policy::{Measure, Shortage};
use crate::ids::{ConnectionId, IdMap, Lsn, Token};
use crate::limits;
use crate::message::Destination;

/// How much may wait for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParkLimits {
    /// Messages of one connection.
    pub messages: usize,
    /// Bytes of one connection; a single message may have more.
    pub bytes: usize,
    /// Bytes over all connections.
    pub bytes_of_all: usize,
}

impl Default for ParkLimits {
    fn default() -> Self {
        Self { messages: 1000, bytes: 1 << 20, bytes_of_all: 64 << 20 }
    }
}

/// What waits now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parked {
    pub(crate) producers: usize,
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

/// A yes that is to be said in its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) to: ConnectionId,
    pub(crate) token: Token,
    /// What must be durable first.
    pub(crate) need: Lsn,
    pub(crate) reply: Reply,
}

/// A send that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// Grows with each that is parked.
    arrival: u64,
    pub(crate) from: ConnectionId,
    pub(crate) request: Request,
}

#[derive(Debug)]
pub(crate) struct Park {
    limits: ParkLimits,
    lines: BTreeMap<Destination, Line>,
    producers: IdMap<ConnectionId, Producer>,
    /// Lines whose front may find room now, by the arrival of that front.
    due: BTreeSet<(u64, Destination)>,
    /// Lines whose front waits for what all destinations share.
    for_memory: BTreeSet<Destination>,
    for_disk: BTreeSet<Destination>,
    arrivals: u64,
    parked: Parked,
}

#[derive(Debug, Default)]
struct Line {
    /// By arrival, so that what comes over from another line has its place here too.
    waiting: BTreeMap<u64, Waiting>,
    /// The front with which it is due.
    due: Option<u64>,
    /// Others may wait behind it for memory: they are tried when it waits for that no longer.
    for_memory: bool,
}

impl Line {
    fn front(&self) -> Option<u64> {
        self.waiting.first_key_value().map(|(arrival, _)| *arrival)
    }
}

/// What waits of one connection.
#[derive(Debug, Default)]
struct Producer {
    /// In the order asked, from the first send that waits.
    slots: VecDeque<(u64, Slot)>,
    /// Which stand in each line, by arrival.
    lines: BTreeMap<Destination, BTreeSet<u64>>,
    messages: usize,
    bytes: usize,
    /// Confirmations that wait: of sends, and behind them.
    answers: usize,
}

#[derive(Debug)]
enum Slot {
    /// A send waits in a line.
    Waiting,
    /// It has left its line, and takes several steps.
    Begun(Token),
    /// To be said once everything before it is over.
    Answer(Answer),
}

impl Waiting {
    /// Grows with each that is parked.
    pub(crate) fn arrival(&self) -> u64 {
        self.arrival
    }
}

impl Park {
    pub(crate) fn new(limits: ParkLimits) -> Self {
        Self {
            limits,
            lines: BTreeMap::new(),
            producers: IdMap::default(),
            due: BTreeSet::new(),
            for_memory: BTreeSet::new(),
            for_disk: BTreeSet::new(),
            arrivals: 0,
            parked: Parked::default(),
        }
    }

    pub(crate) fn parked(&self) -> Parked {
        self.parked
    }

    /// Whether sends wait for this destination: another then waits behind them.
    pub(crate) fn has_line(&self, to: &Destination) -> bool {
        self.lines.contains_key(to)
    }

    /// Whether something waits for want of this, which all destinations share.
    pub(crate) fn lacks(&self, shortage: Shortage) -> bool {
        match shortage {
            Shortage::Destination => false,
            Shortage::Memory => !self.for_memory.is_empty(),
            Shortage::Disk => !self.for_disk.is_empty(),
        }
    }

    /// Whether another send to a queue would wait behind some for want of this. A publication needs
    /// room for all of its subscribers at once: it waits by itself and keeps nobody from less.
    pub(crate) fn queues_lack(&self, shortage: Shortage) -> bool {
        let first = match shortage {
            Shortage::Destination => None,
            Shortage::Memory => self.for_memory.first(),
            Shortage::Disk => self.for_disk.first(),
        };
        // Queues sort before topics.
        matches!(first, Some(Destination::Queue(_)))
    }

    /// Whether the confirmation of this request could wait if it must.
    ///
    /// # Errors
    /// Where as many of its connection wait as may.
    pub(crate) fn may_ask(&self, from: ConnectionId, request: &Request) -> Result<(), Refusal> {
        let Some(producer) = self.producers.get(&from) else { return Ok(()) };
        let limit = limits::HELD_ANSWERS_MAX;
        if request.confirm == Confirm::RefusalOnly || producer.answers < limit {
            return Ok(());
        }
        // While only what was begun is not over, nothing more of the connection is taken.
        let Some((destination, _)) = producer.lines.first_key_value() else { return Ok(()) };
        Err(held_full(destination, Measure::Confirmations(limit as u64), "one connection"))
    }

    /// Parks a send. It begins a line where there is none, for want of what `lacking` says.
    ///
    /// # Errors
    /// Where as much waits as may; the send is gone then.
    pub(crate) fn put(
        &mut self,
        from: ConnectionId,
        to: &Destination,
        request: Request,
        lacking: Shortage,
    ) -> Result<(), Refusal> {
        let bytes = request.command.bytes();
        let producer = self.producers.entry(from).or_default();
        let ParkLimits { messages, bytes: bytes_max, bytes_of_all } = self.limits;
        let alone = producer.messages == 0;
        let refusal = if producer.messages >= messages {
            Some((Measure::Messages(messages as u64), "one connection"))
        } else if !alone && producer.bytes + bytes > bytes_max {
            Some((Measure::Bytes(bytes_max as u64), "one connection"))
        } else if self.parked.bytes + bytes > bytes_of_all {
            Some((Measure::Bytes(bytes_of_all as u64), "all connections together"))
        } else {
            None
        };
        if let Some((limit, whose)) = refusal {
            if alone {
                self.producers.remove(&from);
            }
            return Err(held_full(to, limit, whose));
        }
        self.arrivals += 1;
        let arrival = self.arrivals;
        self.parked.producers += usize::from(alone);
        self.parked.messages += 1;
        self.parked.bytes += bytes;
        producer.messages += 1;
        producer.bytes += bytes;
        producer.answers += usize::from(request.confirm == Confirm::Always);
        producer.slots.push_back((arrival, Slot::Waiting));
        producer.lines.entry(to.clone()).or_default().insert(arrival);
        let begins = !self.lines.contains_key(to);
        let line = self.lines.entry(to.clone()).or_default();
        line.waiting.insert(arrival, Waiting { arrival, from, request });
        if begins {
            self.wait_for(to, lacking);
        }
        Ok(())
    }

    fn wait_for(&mut self, to: &Destination, lacking: Shortage) {
        match lacking {
            // The broker says when there is room in it.
            Shortage::Destination => self.lacks_no_memory(to),
            Shortage::Memory => {
                self.for_memory.insert(to.clone());
                self.lines.get_mut(to).expect("it waits").for_memory = true;
            }
            Shortage::Disk => {
                self.for_disk.insert(to.clone());
                self.lacks_no_memory(to);
            }
        };
    }

    /// The front of a line does not wait for memory, or not any more: whoever waited behind it for
    /// that may find what it has not taken.
    fn lacks_no_memory(&mut self, to: &Destination) {
        let line = self.lines.get_mut(to).expect("it was taken from it");
        if std::mem::take(&mut line.for_memory) {
            self.stir_all(Shortage::Memory);
        }
    }

    /// There may be room in a destination, if a line waits for it.
    pub(crate) fn stir(&mut self, to: &Destination) {
        self.for_memory.remove(to);
        self.for_disk.remove(to);
        self.make_due(to);
    }

    /// The front of a line is to be tried.
    fn make_due(&mut self, to: &Destination) {
        let Some(line) = self.lines.get_mut(to) else { return };
        let front = line.front();
        if let Some(before) = std::mem::replace(&mut line.due, front) {
            self.due.remove(&(before, to.clone()));
        }
        self.due.extend(front.map(|front| (front, to.clone())));
    }

    /// There may be more of what all destinations share.
    pub(crate) fn stir_all(&mut self, shortage: Shortage) {
        let lines = match shortage {
            Shortage::Destination => return,
            Shortage::Memory => std::mem::take(&mut self.for_memory),
            Shortage::Disk => std::mem::take(&mut self.for_disk),
        };
        for to in &lines {
            if let (Shortage::Memory, Some(line)) = (shortage, self.lines.get_mut(to)) {
                // All that wait for memory are tried now.
                line.for_memory = false;
            }
            self.stir(to);
        }
    }

    /// Takes the send that has waited longest of those that may find room. It is to be given back
    /// with [`Park::served`] or [`Park::still`].
    pub(crate) fn next(&mut self) -> Option<(Destination, Waiting)> {
        let (_, to) = self.due.pop_first()?;
        let line = self.lines.get_mut(&to).expect("only lines are due");
        line.due = None;
        let (_, waiting) = line.waiting.pop_first().expect("a line is not empty");
        Some((to, waiting))
    }

    pub(crate) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// It still lacks room, or, where it does not, could not be tried.
    pub(crate) fn still(&mut self, to: &Destination, waiting: Waiting, lacking: Option<Shortage>) {
        let line = self.lines.get_mut(to).expect("it was taken from it");
        line.waiting.insert(waiting.arrival, waiting);
        match lacking {
            Some(lacking) => self.wait_for(to, lacking),
            None => self.make_due(to),
        }
    }

    /// It waits for room in another destination, before those there who came after it: what needs
    /// room in several would otherwise be the last in each.
    pub(crate) fn shift(
        &mut self,
        to: &Destination,
        waiting: Waiting,
        (other, lacking): (&Destination, Shortage),
    ) {
        assert_ne!(to, other, "it stands in its own line");
        let arrival = waiting.arrival;
        let producer = self.producers.get_mut(&waiting.from).expect("something of it waits");
        producer.leave_line(to, arrival);
        producer.lines.entry(other.clone()).or_default().insert(arrival);
        let line = self.lines.entry(other.clone()).or_default();
        line.waiting.insert(arrival, waiting);
        match line.due {
            Some(_) => self.make_due(other),
            None if line.front() == Some(arrival) => self.wait_for(other, lacking),
            None => {}
        }
        self.advance(to);
    }

    /// The lines in which sends of a connection stand that came before `arrival`.
    pub(crate) fn lines_before(
        &self,
        from: ConnectionId,
        arrival: u64,
    ) -> impl Iterator<Item = &Destination> {
        let lines = self.producers.get(&from).into_iter().flat_map(|producer| &producer.lines);
        let before = move |arrivals: &BTreeSet<u64>| arrivals.first().is_some_and(|a| *a < arrival);
        lines.filter(move |(_, arrivals)| before(arrivals)).map(|(to, _)| to)
    }

    /// The front of a line has left it.
    fn advance(&mut self, to: &Destination) {
        self.lacks_no_memory(to);
        self.make_due(to);
        if self.lines[to].waiting.is_empty() {
            self.lines.remove(to);
            self.for_memory.remove(to);
            self.for_disk.remove(to);
        }
    }

    /// It waits no longer. Gives what may be said now: its own answer, where it has one, and what
    /// waited behind it.
    pub(crate) fn served(
        &mut self,
        to: &Destination,
        waiting: &Waiting,
        answer: Option<Answer>,
    ) -> Vec<Answer> {
        let (producer, at) = self.leave(to, waiting);
        match answer {
            Some(answer) => producer.slots[at].1 = Slot::Answer(answer),
            None => {
                producer.answers -= usize::from(waiting.request.confirm == Confirm::Always);
                drop(producer.slots.remove(at));
            }
        }
        self.say_in_order(waiting.from)
    }

    /// It has left its line, and is over only with [`Park::ended`].
    pub(crate) fn begun(&mut self, to: &Destination, waiting: &Waiting) {
        let (producer, at) = self.leave(to, waiting);
        // It is counted where it is to be confirmed in its order.
        producer.slots[at].1 = Slot::Begun(waiting.request.token);
    }

    /// What took several steps is over, whether or not it had waited in a line. `answer` is what is
    /// to be said in its order, and `confirm` how it was asked. Gives what may be said now.
    pub(crate) fn ended(
        &mut self,
        (from, token, confirm): (ConnectionId, Token, Confirm),
        answer: Option<Answer>,
    ) -> Vec<Answer> {
        let Some(producer) = self.producers.get_mut(&from) else {
            return answer.into_iter().collect();
        };
        let begun = |(_, slot): &(u64, Slot)| matches!(slot, Slot::Begun(it) if *it == token);
        match (producer.slots.iter().position(begun), answer) {
            (Some(at), Some(answer)) => producer.slots[at].1 = Slot::Answer(answer),
            (Some(at), None) => {
                producer.answers -= usize::from(confirm == Confirm::Always);
                drop(producer.slots.remove(at));
            }
            (None, Some(answer)) => return self.say(answer).into_iter().collect(),
            (None, None) => return Vec::new(),
        }
        self.say_in_order(from)
    }

    /// Takes a send out of its line. Gives its producer and its slot there.
    fn leave(&mut self, to: &Destination, waiting: &Waiting) -> (&mut Producer, usize) {
        self.advance(to);
        let bytes = waiting.request.command.bytes();
        self.parked.messages -= 1;
        self.parked.bytes -= bytes;
        let producer = self.producers.get_mut(&waiting.from).expect("something of it waits");
        producer.leave(to, waiting.arrival, bytes);
        let at = producer.slots.binary_search_by_key(&waiting.arrival, |(arrival, _)| *arrival);
        (producer, at.expect("it has a slot"))
    }

    /// Takes the answers before which nothing waits any more.
    fn say_in_order(&mut self, from: ConnectionId) -> Vec<Answer> {
        let producer = self.producers.get_mut(&from).expect("something of it waited");
        let (slots, mut said) = (&mut producer.slots, Vec::new());
        while let Some((_, Slot::Answer(_))) = slots.front() {
            let Some((_, Slot::Answer(answer))) = slots.pop_front() else { unreachable!() };
            producer.answers -= 1;
            said.push(answer);
        }
        if slots.is_empty() {
            self.producers.remove(&from);
            self.parked.producers -= 1;
        }
        said
    }

    /// A yes of the broker: given back if it may be said now, kept if something that its
    /// connection asked before still waits.
    pub(crate) fn say(&mut self, answer: Answer) -> Option<Answer> {
        let Some(producer) = self.producers.get_mut(&answer.to) else { return Some(answer) };
        self.arrivals += 1;
        producer.answers += 1;
        producer.slots.push_back((self.arrivals, Slot::Answer(answer)));
        None
    }

    /// A connection has gone: nothing of it was confirmed, and nothing of it is done any more.
    /// Gives how many messages of it waited.
    pub(crate) fn discard(&mut self, from: ConnectionId) -> usize {
        let Some(producer) = self.producers.remove(&from) else { return 0 };
        self.parked.producers -= 1;
        self.parked.messages -= producer.messages;
        self.parked.bytes -= producer.bytes;
        for (to, arrivals) in &producer.lines {
            let line = self.lines.get_mut(to).expect("it stood in it");
            let front = line.front();
            arrivals.iter().for_each(|arrival| drop(line.waiting.remove(arrival)));
            if line.waiting.is_empty() {
                self.advance(to);
            } else if line.front() != front {
                // Who is in front now may need less.
                self.stir(to);
            }
        }
        producer.messages
    }
}

impl Producer {
    fn leave(&mut self, to: &Destination, arrival: u64, bytes: usize) {
        self.messages -= 1;
        self.bytes -= bytes;
        self.leave_line(to, arrival);
    }

    fn leave_line(&mut self, to: &Destination, arrival: u64) {
        let arrivals = self.lines.get_mut(to).expect("it stood in it");
        arrivals.remove(&arrival);
        if arrivals.is_empty() {
            self.lines.remove(to);
        }
    }
}

fn held_full(destination: &Destination, limit: Measure, whose: &'static str) -> Refusal {
    Refusal::HeldFull { destination: destination.clone(), limit, whose }
}

#[cfg(test)]
mod tests;
