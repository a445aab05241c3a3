//! Who only listens, and what waits in the line of a topic.
//!
//! What is published directly goes to all who listen at once (`topic`). What waits in a line lies
//! in the log, however much it is, and who listens hears of it when it leaves: its content is read
//! then. Always: it goes to those who listened when it came there, or to those who listen when it
//! leaves if it was to be published later; nobody hears of what an earlier life has left. It stays
//! while one of them has no room where that holds publishers. Leaves to others: where it goes
//! beside that, and when (`publication`, `spreading`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::broker::command::Refusal;
use crate::broker::delta::{Entry, Place};
use crate::broker::fact::Fact;
use crate::broker::held::{Held, Line};
use crate::broker::policy::WhenFull;
use crate::broker::publication::publication;
use crate::broker::{Broker, Room};
use crate::ids::QueueId;
use crate::limits;
use crate::message::{Destination, Durability};
use crate::mutant::{self, Mutant};

/// Who listened when something came into a line: the last seat of theirs, by the first place.
#[derive(Debug, Default)]
pub(crate) struct Marks(BTreeMap<QueueId, VecDeque<(u64, u64)>>);

impl Marks {
    /// Something came into a line.
    fn arrived(&mut self, line: QueueId, seq: u64, last_seat: u64) {
        if last_seat == 0 && !self.0.contains_key(&line) {
            return;
        }
        let marks = self.0.entry(line).or_default();
        if marks.back().is_none_or(|(_, seat)| *seat != last_seat) {
            marks.push_back((seq, last_seat));
        }
    }

    /// Hardly anything before this is in a line: what is counts as if it had come with it.
    pub(super) fn trim(&mut self, line: QueueId, seq: u64) {
        let Some(marks) = self.0.get_mut(&line) else { return };
        while let Some((oldest, next)) = marks.front().copied().zip(marks.get(1).copied())
            && next.0 <= seq
        {
            marks.pop_front();
            // What an earlier life has left is before all of them.
            marks[0] = (oldest.0, next.1);
        }
    }

    /// The last seat that was taken when this came into a line.
    fn through(&self, line: QueueId, seq: u64) -> u64 {
        let Some(marks) = self.0.get(&line) else { return 0 };
        let count = marks.partition_point(|(first, _)| *first <= seq);
        count.checked_sub(1).map_or(0, |at| marks[at].1)
    }

    /// Nothing is in a line.
    pub(super) fn clear(&mut self, line: QueueId) {
        self.0.remove(&line);
    }
}

impl Held {
    /// There may be room on a topic: what waits for that is tried again.
    fn freed(&mut self, topic: &str) {
        let of = |line: &QueueId| self.line(*line).is_some_and(|line| *line.topic == *topic);
        let lines: Vec<_> = self.spreading.resting().filter(of).collect();
        self.woken |= !lines.is_empty();
        lines.into_iter().for_each(|line| self.spreading.rested(line));
    }
}

impl Broker {
    /// Something came into a line; nobody listens during recovery.
    pub(super) fn came_into_line(&mut self, id: QueueId, seq: u64) {
        let Some(line) = self.held.line(id).filter(|line| !line.scheduled) else { return };
        let last = |name| self.topics[&name].subscribers.last_key_value().map(|(seat, _)| *seat);
        let last = self.audiences(&line.topic).filter_map(last).max();
        self.held.marks.arrived(id, seq, last.unwrap_or(0));
    }

    /// Up to which seat those who listen are to hear of what has that place in a line.
    pub(super) fn heard_through(&self, id: QueueId, line: &Line, place: Place) -> u64 {
        if line.scheduled { u64::MAX } else { self.held.marks.through(id, place.seq) }
    }

    /// Whether anybody is to hear of it.
    pub(super) fn is_heard(&self, id: QueueId, line: &Line, place: Place) -> bool {
        let through = self.heard_through(id, line, place);
        let listens = |name| self.topics[&name].subscribers.range(..=through).next().is_some();
        let heard = through > 0 && !mutant::is(Mutant::ForgetToAnnounce);
        heard && self.audiences(&line.topic).any(listens)
    }

    /// The destinations watched in which there may be room since the last call.
    pub fn take_freed(&mut self) -> Vec<Destination> {
        let freed = self.freed.take();
        for to in &freed {
            if let Destination::Topic(topic) = to {
                self.held.freed(topic);
            }
        }
        freed
    }

    /// Whether the last call has found something that [`Broker::work`] can go on with.
    pub fn take_woken(&mut self) -> bool {
        std::mem::take(&mut self.held.woken)
    }

    /// Whether a message that comes again is to wait, because somebody who is to have it then has
    /// no room: its line must not grow meanwhile.
    pub(super) fn lacks_room_later(
        &self,
        (queue, place): (QueueId, Place),
        entry: &Entry,
        content: &Bytes,
    ) -> bool {
        let Some(line) = self.held.line(queue) else { return false };
        let message = publication(place, entry, content);
        let takers = self.takers_of(line, (queue, place), &message);
        let size = (content.len() as u64, message.body_bytes());
        let waits = self.held.spreading.is_resting(queue);
        waits || self.lacks_room(&line.topic, &takers, size, &mut Vec::new())
    }

    /// Whether someone who is to have a message is to take something else first. Nobody is waited
    /// for who can never take it.
    pub(super) fn lacks_room(
        &self,
        topic: &Arc<str>,
        takers: &[QueueId],
        (bytes, body): (u64, u64),
        facts: &mut Vec<Fact>,
    ) -> bool {
        let lacks = |room| !matches!(room, Ok(Room::Enough) | Err(Refusal::NeverFits { .. }));
        let listened = !self.listeners_never_take(topic, bytes);
        let kept = (Durability::Persistent, bytes + body);
        listened && lacks(self.topic_room(topic, (bytes, body)))
            || lacks(self.room_of_takers(topic, takers, kept, facts))
    }

    /// Whether a message is too large for all who listen together, however little they hold. Where
    /// they miss the oldest none is.
    pub(super) fn listeners_never_take(&self, topic: &str, bytes: u64) -> bool {
        let topics = self.audiences(topic).map(|name| &self.topics[&name]);
        let waits = topics.filter(|topic| topic.limit.when_full != WhenFull::DropOldest);
        let listeners: usize = waits.map(|topic| topic.subscribers.len()).sum();
        let each = bytes + limits::VOLATILE_OVERHEAD_BYTES;
        listeners as u64 * each > self.limits.volatile_bytes
    }

    /// Whether what is not persistent is to wait as well, where the line waits for who listens: it
    /// would take the room for which that waits.
    pub(super) fn takes_room_of_line(&self, topic: &Arc<str>, client: Option<&str>) -> bool {
        let mut audiences = self.audiences(topic).map(|name| &self.topics[&name]);
        self.busy_line(topic, client).is_some_and(|(line, _)| self.queues[&line].row.depth > 0)
            && audiences.any(|topic| topic.limit.when_full != WhenFull::DropOldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_tell_who_listened_and_stay_few() {
        let (mut marks, line) = (Marks::default(), QueueId(1));
        marks.arrived(line, 5, 0);
        assert!(marks.0.is_empty());
        for seq in 6..=1000 {
            marks.arrived(line, seq, seq / 2);
            assert_eq!((marks.through(line, 5), marks.through(line, seq)), (0, seq / 2));
            let out = (seq.saturating_sub(10)).max(6);
            assert_eq!(marks.through(line, out), out / 2);
            marks.trim(line, out);
            assert_eq!(marks.through(line, out), out / 2);
            assert!(marks.0[&line].len() < 10);
        }
        // Everybody has gone.
        marks.arrived(line, 1001, 0);
        assert_eq!((marks.through(line, 1000), marks.through(line, 1001)), (500, 0));
    }
}
