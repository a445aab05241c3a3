//! The client's producers.

use super::OpenWireSession;
use super::fault::Problem;
use super::names;
use super::send::Marks;
use crate::broker::command::Command;
use crate::identity::Identity;
use crate::limits;
use crate::protocol::openwire::table::{ProducerId, ProducerInfo};
use crate::protocol::openwire::{CommandHead, Text};

/// A producer that has said that it is there.
#[derive(Debug)]
pub(super) struct Producer {
    /// It wants to hear when what it has sent without awaiting an answer has arrived.
    pub(super) windowed: bool,
    /// Under which it has counted: one, and one more for each of several destinations together.
    counted: Vec<Identity>,
}

impl OpenWireSession {
    pub(super) fn add_producer(&mut self, head: CommandHead, info: ProducerInfo) {
        let Some(id) = info.producer_id.as_ref().map(compact) else {
            return self.fail(head, &Problem::jms("a producer needs an id"));
        };
        if let Some(destination) = &info.destination
            && let Err(problem) = names::parse(Some(destination))
        {
            return self.fail(head, &problem);
        }
        let windowed = info.window_size > 0;
        let known = self.producers.get_mut(&id).map(|known| known.windowed = windowed).is_some();
        if !known && self.producers.len() >= limits::SESSION_PRODUCERS_MAX {
            let limit = limits::SESSION_PRODUCERS_MAX;
            let problem = format!("the connection has {limit} producers, which is the limit");
            return self.fail(head, &Problem::jms(problem));
        }
        if !known {
            self.advise_producer(&id, &info);
            self.producers.insert(id, Producer { windowed, counted: Vec::new() });
        }
        self.done(head);
    }

    /// A producer sends under this mark. Beyond a few its numbers are the connection's to the end.
    pub(super) fn note_counted(&mut self, producer: Option<&ProducerId>, marks: &Marks) {
        let (Some(producer), Marks::Number(it)) = (producer, marks) else { return };
        let Some(Producer { counted, .. }) = self.producers.get_mut(producer) else { return };
        if counted.len() < limits::PRODUCER_COUNTS_MAX && !counted.contains(&it.producer) {
            counted.push(it.producer);
        }
    }

    /// A producer ends, and its connection goes on.
    pub(super) fn end_producer(&mut self, id: &ProducerId) {
        let counted = self.remove_producer(id);
        self.end_counted(counted);
    }

    pub(super) fn end_producers_of(&mut self, session: i64) {
        let some = self.producers.keys().filter(|id| id.session_id == session);
        let some: Vec<_> = some.cloned().collect();
        let counted = some.iter().flat_map(|id| self.remove_producer(id)).collect();
        self.end_counted(counted);
    }

    fn end_counted(&mut self, counted: Vec<Identity>) {
        for producers in counted.chunks(limits::STEP_MESSAGES_MAX) {
            self.submit(None, Command::EndProducers { producers: producers.to_vec() });
        }
    }

    fn remove_producer(&mut self, id: &ProducerId) -> Vec<Identity> {
        let Some(producer) = self.producers.remove(id) else { return Vec::new() };
        self.advise_no_producer(id);
        producer.counted
    }

    pub(super) fn remove_all_producers(&mut self) {
        for id in self.producers.keys().cloned().collect::<Vec<_>>() {
            self.remove_producer(&id);
        }
    }
}

/// An id that holds no other memory than its own, for one that is kept.
pub(super) fn compact(id: &ProducerId) -> ProducerId {
    let connection_id = id.connection_id.as_ref().map(|text| Text::cut(&text.to_str()));
    ProducerId { connection_id, ..*id }
}
