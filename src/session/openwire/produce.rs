//! The client's producers.

use super::OpenWireSession;
use super::fault::Problem;
use super::names;
use crate::limits;
use crate::protocol::openwire::table::{ProducerId, ProducerInfo};
use crate::protocol::openwire::{CommandHead, Text};

/// A producer that has said that it is there.
#[derive(Debug)]
pub(super) struct Producer {
    /// It wants to hear when what it has sent without awaiting an answer has arrived.
    pub(super) windowed: bool,
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
        let known = self.producers.contains_key(&id);
        if !known && self.producers.len() >= limits::SESSION_PRODUCERS_MAX {
            let limit = limits::SESSION_PRODUCERS_MAX;
            let problem = format!("the connection has {limit} producers, which is the limit");
            return self.fail(head, &Problem::jms(problem));
        }
        if !known {
            self.advise_producer(&id, &info);
        }
        self.producers.insert(id, Producer { windowed: info.window_size > 0 });
        self.done(head);
    }

    pub(super) fn remove_producer(&mut self, id: &ProducerId) {
        if self.producers.remove(id).is_some() {
            self.advise_no_producer(id);
        }
    }

    pub(super) fn remove_producers_of(&mut self, session: i64) {
        let some = self.producers.keys().filter(|id| id.session_id == session);
        for id in some.cloned().collect::<Vec<_>>() {
            self.remove_producer(&id);
        }
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
