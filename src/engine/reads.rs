//! What the reader brings back: where pieces of large bodies lie, and payloads that are damaged.
//!
//! A damaged payload costs its message and no more. Leaves to others: the order in which a body
//! goes out (`stream`), and where a damaged message goes (`broker`).

use bytes::Bytes;

use crate::broker::command::MessageId;
use crate::broker::fact::{
    ContentOf, ContentRequest, Effect, PiecesPage, PiecesPurpose, PiecesRequest, ProducersPage,
    ProducersRequest,
};
use crate::engine::outbox::Load;
use crate::engine::stream::Lookup;
use crate::engine::{Engine, Input, Job, StopError};
use crate::ids::{Lsn, Millis};
use crate::limits;
use crate::message::{BodyKind, Content};
use crate::store::index::IndexError;
use crate::wal::{Admission, Class, Damage, Log, ReadError};

impl Engine {
    /// It is known where pieces of a large body lie.
    pub(super) fn pieces(&mut self, page: &PiecesPage) {
        match page.request.purpose {
            PiecesPurpose::GiveBack => {
                self.broker.give_back(page, &mut self.facts);
                self.commit();
            }
            PiecesPurpose::Deliver(key, tag) => {
                self.outbox.located((key, tag), self.broker.locate(page));
            }
        }
    }

    /// Has looked up where the next pieces of large bodies lie.
    pub(super) fn look_up(&mut self, jobs: &mut Vec<Job>) -> Result<(), StopError> {
        let generation = self.broker.generation();
        jobs.extend(self.outbox.lookups().map(|Lookup { key, tag, upload, after }| {
            let purpose = PiecesPurpose::Deliver(key, tag);
            let limit = limits::STREAM_PLACES_MAX;
            Job::Pieces(PiecesRequest { upload, after, limit, purpose, generation })
        }));
        for (key, tag, upload) in self.outbox.mismatched() {
            // Of a delivery that is over the pieces may be gone, and a listener misses no more than
            // what it has.
            if self.broker.lent_birth(key, tag).is_some() {
                let reason = format!("{upload} is not the body that its message says");
                return Err(StopError::Index(IndexError::Damaged { reason }));
            }
        }
        Ok(())
    }

    /// Producers have been read: who sends under a number of one may go on.
    pub(super) fn producers(&mut self, page: ProducersPage) {
        let request = page.request;
        self.broker.producers_in(page);
        if let ProducersRequest::One(id) = request {
            self.gates.found(id);
        }
    }

    /// Gives the broker the contents that it asks for and that are in memory.
    pub(super) fn fetch_near(&mut self, now: Millis) {
        if self.effects.is_empty() || self.checkpoints.is_behind(&self.broker) {
            return;
        }
        let near = |effect: &mut Effect| match effect {
            Effect::Content(request) => self.cache.get(request.birth).is_some(),
            _ => false,
        };
        let asked: Vec<_> = self.effects.extract_if(.., near).collect();
        for effect in asked {
            let Effect::Content(request) = effect else { continue };
            let Some(content) = self.cache.get(request.birth).cloned() else { continue };
            self.take_content(now, request, content);
        }
    }

    /// Has the contents of messages read that come again and whose time has come, or that leave the
    /// line of a topic on which somebody listens.
    pub(super) fn fetch(&mut self, jobs: &mut Vec<Job>) {
        let durable = self.durable();
        let written = |it: &mut ContentRequest| it.birth.0 + u64::from(it.size) <= durable.0;
        jobs.extend(self.contents.extract_if(.., written).map(Job::Content));
    }

    /// The content of a message that comes again, or of which is told, is here, or will never be.
    pub(super) fn content(
        &mut self,
        now: Millis,
        request: ContentRequest,
        content: Result<Bytes, ReadError>,
    ) -> Result<(), StopError> {
        if let ContentOf::Notice(_) = request.of {
            match content {
                Ok(content) => {
                    self.broker.content_in(now, &request, &content, true, &mut self.facts);
                }
                // Its message has gone, and perhaps its segment.
                Err(_) => self.broker.content_gone(&request),
            }
            return Ok(());
        }
        match content {
            Ok(content) => {
                self.take_content(now, request, content);
                return Ok(());
            }
            Err(ReadError::Damaged(damage)) => {
                tracing::error!(%damage, "what comes again is damaged; it is set apart");
                let content = lost_content(request.birth, &damage);
                self.broker.content_lost(now, &request, content, &mut self.facts);
            }
            // One that was removed meanwhile may be read too late, when its segment is gone.
            Err(error) if self.broker.awaits_content(&request) => {
                return Err(StopError::Read(error));
            }
            Err(_) => self.broker.content_gone(&request),
        }
        self.commit();
        Ok(())
    }

    fn take_content(&mut self, now: Millis, request: ContentRequest, content: Bytes) {
        let bytes = Log::frame_bytes(limits::OCCURRENCE_RECORD_BYTES_MAX, content.len());
        let bytes = bytes.max(limits::STEP_LOG_BYTES_MAX).min(self.log.frame_bytes_max());
        let room = match self.log.admit(bytes, Class::Send) {
            Admission::Wait => {
                return self.deferred.push_back(Input::Content(request, Ok(content)));
            }
            Admission::Full => false,
            Admission::Yes => !self.disk.is_low(),
        };
        // Selectors judge it.
        self.effort.add(limits::COMMAND_EFFORT);
        self.broker.content_in(now, &request, &content, room, &mut self.facts);
        self.commit();
    }

    /// A payload is damaged: the message goes where an operator finds it, the queue goes on.
    pub(super) fn lost(&mut self, now: Millis, load: &Load, damage: &Damage) {
        tracing::error!(%damage, "the content of a message is damaged; it is set apart");
        let (key, tag) = (load.key, load.tag);
        // What is damaged may be a piece of the message's body.
        let birth = self.broker.lent_birth(key, tag).unwrap_or(load.birth);
        let content = lost_content(birth, damage);
        self.broker.decide_damaged(now, key, tag, content, &mut self.facts);
        self.commit();
        self.outbox.loaded(load, None);
    }
}

/// What stands in for a message whose payload is damaged.
fn lost_content(birth: Lsn, damage: &Damage) -> Bytes {
    let properties = vec![
        ("dlqDeliveryFailureCause".to_owned(), damage.to_string()),
        ("damagedMessage".to_owned(), MessageId::Durable(birth).to_string()),
        ("damagedFile".to_owned(), damage.file.clone()),
        ("damagedOffset".to_owned(), damage.offset.to_string()),
    ];
    let body = format!("The content of the message at {birth} is damaged: {damage}\n");
    Content { kind: BodyKind::Text, properties, body: body.into() }.encode()
}
