//! Large bodies: they arrive in pieces, belong to a message, and are given back piece by piece.
//!
//! The life of an upload:
//!
//! 1. *Open*: its first piece begins it; each further one follows the last. A connection sends it
//!    as one *stage*, which lives in memory alone.
//! 2. *Owned*: the `Sent` record of its message names it. From then on the message's entry tells
//!    of it, wherever that moves, and nothing is kept of it in memory.
//!    The body of a publication has as many owners as queues keep it (`bodies`).
//! 3. *Dead*: its message is gone for good, or it never got one (its connection has ended, its
//!    stage was given up, a new life of the broker has begun). Background work reads where its
//!    pieces lie and gives them back to their segments, some at a time, until none is left.
//!
//! Always: whatever its size, an upload costs a few numbers of memory; only open and dead ones
//! cost any. Leaves to others: the bytes of pieces, which lie in the log as they were written.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound::{Excluded, Included};

use bytes::Bytes;

use crate::broker::bodies::Bodies;
use crate::broker::command::Refusal;
use crate::broker::decide::{DONE, check_name};
use crate::broker::delta::{Delta, PieceAt, UploadRow};
use crate::broker::durable::{Durable, newest};
use crate::broker::fact::{
    Asker, Change, Effect, Fact, PiecesPage, PiecesPurpose, PiecesRequest, StageKey,
};
use crate::broker::wildcards::check_no_wildcards;
use crate::broker::{Broker, Effects, Verdict, Written};
use crate::ids::{Body, ConnectionId, Millis, StageId, UploadId};
use crate::limits;
use crate::message::{Destination, Durability, Message, large_bytes};
use crate::mutant::{self, Mutant};
use crate::record::Record;

/// The uploads that no message owns.
#[derive(Debug, Default)]
pub(crate) struct Uploads {
    open: BTreeMap<UploadId, Open>,
    /// With the number up to which their pieces are gone.
    dead: BTreeMap<UploadId, u32>,
}

/// What has come of an upload.
#[derive(Clone, Copy, Debug, Default)]
struct Open {
    pieces: u32,
    bytes: u64,
}

impl Uploads {
    /// The uploads in the index, and the bodies of publications beside them.
    pub(crate) fn new(rows: &BTreeMap<UploadId, UploadRow>) -> (Self, Bodies) {
        let (mut uploads, mut bodies) = (Self::default(), Bodies::default());
        for (id, row) in rows {
            match *row {
                UploadRow::Shared { holders } => bodies.learn(*id, holders),
                UploadRow::Open { pieces, bytes } => {
                    uploads.open.insert(*id, Open { pieces, bytes });
                }
                UploadRow::Dead { gone } => {
                    uploads.dead.insert(*id, gone);
                }
            }
        }
        (uploads, bodies)
    }
}

/// What apply does, and what it looks at before.
impl Durable {
    pub(super) fn dead_uploads(&self) -> usize {
        self.uploads.dead.len()
    }

    pub(super) fn fit_piece(&self, upload: UploadId, number: u32) -> Result<(), &'static str> {
        match self.uploads.open.get(&upload) {
            Some(open) if open.pieces.checked_add(1) == Some(number) => Ok(()),
            None if number == 1 && upload.get() == self.scalars.last_upload + 1 => Ok(()),
            Some(_) => Err("it is not the next piece of its upload"),
            None => Err("its upload is not open"),
        }
    }

    pub(super) fn fit_sent(&self, body: Option<Body>) -> Result<(), &'static str> {
        let Some(body) = body else { return Ok(()) };
        match self.uploads.open.get(&body.upload()) {
            None => Err("its upload is not open"),
            Some(open) if body != Body::new(body.upload(), open.bytes) => {
                Err("its body is not as large as what came of it")
            }
            Some(_) => Ok(()),
        }
    }

    pub(super) fn fit_abandoned(&self, uploads: &[UploadId]) -> Result<(), &'static str> {
        let open = |upload: &UploadId| self.uploads.open.contains_key(upload);
        let may_go = |upload: &UploadId| open(upload) || self.bodies.is_spare(*upload);
        if uploads.iter().all(may_go) { Ok(()) } else { Err("an upload is not open, nor spare") }
    }

    pub(super) fn fit_gone(&self, upload: UploadId, first: u32) -> Result<(), &'static str> {
        match self.uploads.dead.get(&upload) {
            Some(gone) if gone.checked_add(1) == Some(first) => Ok(()),
            Some(_) => Err("they are not the next pieces to go"),
            None => Err("the upload is not dead"),
        }
    }

    pub(super) fn piece_born(
        &mut self,
        upload: UploadId,
        number: u32,
        bytes: u32,
        written: Written,
    ) {
        let open = self.uploads.open.entry(upload).or_default();
        *open = Open { pieces: number, bytes: open.bytes + u64::from(bytes) };
        let row = UploadRow::Open { pieces: open.pieces, bytes: open.bytes };
        self.delta.uploads.insert(upload, Some(row));
        self.scalars.last_upload = self.scalars.last_upload.max(upload.get());
        let at = PieceAt { birth: written.lsn, size: written.frame_len };
        self.delta.pieces.insert((upload, number), Some(at));
        let live = self.delta.live.entry(at.birth.0 / self.segment_size).or_default();
        *live += i64::from(at.size);
        self.live_bytes += u64::from(at.size);
    }

    /// A message owns the upload from now on.
    pub(super) fn adopt(&mut self, upload: UploadId) {
        self.uploads.open.remove(&upload);
        self.delta.uploads.insert(upload, None);
    }

    /// Nobody will read the upload any more.
    pub(super) fn kill(&mut self, upload: UploadId) {
        self.uploads.open.remove(&upload);
        self.bodies.forget(upload);
        self.uploads.dead.insert(upload, 0);
        self.delta.uploads.insert(upload, Some(UploadRow::Dead { gone: 0 }));
    }

    /// Who was sending has gone with the life before.
    pub(super) fn kill_open(&mut self) {
        if !mutant::is(Mutant::ForgetUploads) {
            let open: Vec<_> = self.uploads.open.keys().copied().collect();
            open.into_iter().for_each(|upload| self.kill(upload));
        }
    }

    pub(super) fn pieces_gone(
        &mut self,
        upload: UploadId,
        first: u32,
        gone: &[PieceAt],
        last: bool,
    ) {
        let mut number = first - 1;
        for piece in gone {
            number += 1;
            // The index need not hear of one that lived and died since it last did.
            if piece.birth > self.settled_through {
                self.delta.pieces.remove(&(upload, number));
            } else {
                self.delta.pieces.insert((upload, number), None);
                self.freed += u64::from(piece.size);
            }
            let live = self.delta.live.entry(piece.birth.0 / self.segment_size).or_default();
            *live -= i64::from(piece.size);
            self.live_bytes = self.live_bytes.saturating_sub(u64::from(piece.size));
        }
        if last {
            self.uploads.dead.remove(&upload);
        } else {
            self.uploads.dead.insert(upload, number);
        }
        let row = (!last).then_some(UploadRow::Dead { gone: number });
        self.delta.uploads.insert(upload, row);
    }

    /// The first pieces of an upload after those that were asked for, as `Durable::overlay` shows
    /// entries; whether there may be more; `None` where the index has moved on since.
    pub(crate) fn pieces(&self, page: &PiecesPage) -> Option<(Vec<(u32, PieceAt)>, bool)> {
        let PiecesRequest { upload, after, limit, generation, .. } = page.request;
        if generation != self.generation {
            return None;
        }
        let exhausted = page.rows.len() < limit;
        let end = if exhausted { u32::MAX } else { page.rows.last().map_or(after, |row| row.0) };
        if end <= after {
            return Some((Vec::new(), !exhausted));
        }
        let range = (Excluded((upload, after)), Included((upload, end)));
        let nothing = Delta::default();
        let frozen = self.frozen.as_deref().unwrap_or(&nothing);
        let new = self.delta.pieces.range(range).map(|(k, v)| (k.1, v.as_ref()));
        let old = frozen.pieces.range(range).map(|(k, v)| (k.1, v.as_ref()));
        let index = page.rows.iter().map(|(number, at)| (*number, Some(at)));
        let living = newest(new, old, index).filter_map(|(number, at)| Some((number, *at?)));
        let found: Vec<_> = living.take(limit).collect();
        let more = !exhausted || found.len() == limit;
        Some((found, more))
    }
}

/// The bodies on their way in, as their connections call them.
#[derive(Debug, Default)]
pub(crate) struct Stages {
    /// With the upload that the first piece began.
    stages: BTreeMap<StageKey, Option<UploadId>>,
    /// Uploads that will not be finished, and of which no record says so yet.
    abandoned: VecDeque<UploadId>,
    /// It is being read where the pieces of a dead upload lie.
    reading: bool,
}

impl Stages {
    pub(super) fn begin(&mut self, key: StageKey) {
        self.stages.insert(key, None);
    }

    pub(super) fn upload(&mut self, key: StageKey, upload: UploadId) {
        self.stages.insert(key, Some(upload));
    }

    pub(super) fn end(&mut self, key: StageKey) {
        self.stages.remove(&key);
    }

    pub(super) fn abandon(&mut self, key: StageKey) {
        self.abandoned.extend(self.stages.remove(&key).flatten());
    }

    fn of(&self, id: ConnectionId) -> impl Iterator<Item = StageKey> {
        self.stages.range((id, StageId(0))..=(id, StageId(u64::MAX))).map(|(key, _)| *key)
    }
}

/// What decide states.
impl Broker {
    pub(super) fn decide_stage(
        &self,
        key: StageKey,
        to: &Destination,
        bytes: u64,
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        self.check_large(to, bytes)?;
        // One that would only be held comes in all the same, and is held at its end: who does not
        // read its body does not read the acknowledgements behind it, either.
        if self.stages.stages.contains_key(&key) {
            return Err(Refusal::StageExists(key.1));
        }
        let limit = limits::STAGES_MAX;
        if self.stages.of(key.0).count() >= limit {
            return Err(Refusal::TooManyStages { limit });
        }
        facts.push(Fact::Memory(Change::StageBegin { key }));
        DONE
    }

    fn check_large(&self, to: &Destination, size: u64) -> Result<(), Refusal> {
        check_name(to.name())?;
        check_no_wildcards(to.name())?;
        let limit = self.limits.large_bytes;
        // Refused at its head rather than after its body; one that must wait waits at its end.
        match to {
            Destination::Queue(name) => {
                self.check_count(name)?;
                self.queue_room(name, Durability::Persistent, size, &mut Vec::new())?;
            }
            Destination::Topic(name) => _ = self.topic_room(name, (0, size))?,
        }
        if size > limit { Err(Refusal::MessageTooLarge { size, limit }) } else { Ok(()) }
    }

    /// What has come of a stage, and its upload if there is one yet.
    fn staged(&self, key: StageKey) -> Result<(Option<UploadId>, Open), Refusal> {
        let upload = *self.stages.stages.get(&key).ok_or(Refusal::NoSuchStage(key.1))?;
        let open = upload.map(|upload| self.durable.uploads.open[&upload]);
        Ok((upload, open.unwrap_or_default()))
    }

    pub(super) fn decide_piece(
        &self,
        key: StageKey,
        number: u32,
        bytes: &Bytes,
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        let (upload, open) = self.staged(key)?;
        let next = open.pieces.checked_add(1);
        let number = if mutant::is(Mutant::TakeGaps) { next } else { Some(number) };
        let Some(number) = number.filter(|number| Some(*number) == next && !bytes.is_empty())
        else {
            return Err(Refusal::PieceMissing);
        };
        let length = bytes.len() as u64;
        for (size, limit) in
            [(length, self.limits.message_bytes), (open.bytes + length, self.limits.large_bytes)]
        {
            if size > limit {
                return Err(Refusal::MessageTooLarge { size, limit });
            }
        }
        let length = u32::try_from(length).expect("no frame of the log is so long");
        let next = || UploadId::new(self.durable.scalars.last_upload + 1).expect("never wraps");
        let record = Record::Piece { upload: upload.unwrap_or_else(next), number, bytes: length };
        facts.push(Fact::Log(record, bytes.clone()));
        if upload.is_none() {
            facts.push(Fact::Memory(Change::StageUpload { key, upload: next() }));
        }
        DONE
    }

    pub(super) fn decide_send_staged(
        &self,
        now: Millis,
        asker: Asker,
        stage: StageId,
        (to, message): (&Destination, &Message),
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        let key = (asker.connection, stage);
        let body = Some(self.complete(key, to, message)?);
        let verdict = match to {
            Destination::Queue(name) => self.decide_send(now, name, message, body, facts),
            Destination::Topic(name) => {
                self.decide_publish(now, asker, name, (message, body), facts)
            }
        };
        Self::end_stage(key, verdict?, facts)
    }

    /// The body of a stage that is complete, for the message that is to own it.
    pub(super) fn complete(
        &self,
        key: StageKey,
        to: &Destination,
        message: &Message,
    ) -> Result<Body, Refusal> {
        let (upload, open) = self.staged(key)?;
        self.check_large(to, open.bytes)?;
        let said = large_bytes(&message.content);
        let whole = said == Some(open.bytes) || mutant::is(Mutant::TakeGaps);
        match upload.filter(|_| whole) {
            Some(upload) => Ok(Body::new(upload, open.bytes)),
            None => Err(Refusal::PieceMissing),
        }
    }

    /// States that a stage is over with the message that owns its body, unless that must wait.
    pub(super) fn end_stage(
        key: StageKey,
        verdict: Verdict,
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        if !matches!(verdict, Verdict::Hold(_) | Verdict::Part) {
            facts.push(Fact::Memory(Change::StageEnd { key }));
        }
        Ok(verdict)
    }

    pub(super) fn decide_unstage(
        &self,
        key: StageKey,
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        self.staged(key)?;
        facts.push(Fact::Memory(Change::StageAbandon { key }));
        DONE
    }

    /// States that a message which was refused leaves nothing of its body, if it has one.
    pub fn decide_abandon(&self, from: ConnectionId, stage: StageId, facts: &mut Vec<Fact>) {
        let key = (from, stage);
        if self.stages.stages.contains_key(&key) {
            facts.push(Fact::Memory(Change::StageAbandon { key }));
        }
    }

    pub(super) fn abandon_stages(&self, connection: ConnectionId, facts: &mut Vec<Fact>) {
        let stages = self.stages.of(connection);
        facts.extend(stages.map(|key| Fact::Memory(Change::StageAbandon { key })));
    }
}

/// What follows by itself.
impl Broker {
    /// Whether anything is to be given back, or is being looked up for that.
    pub(super) fn has_dead_uploads(&self) -> bool {
        !self.stages.abandoned.is_empty()
            || self.has_left_bodies()
            || self.durable.dead_uploads() > 0
    }

    /// Says of what was given up that it is dead, or asks for pieces of what is; false when there
    /// is nothing to do until something happens.
    pub(super) fn state_uploads(&mut self, facts: &mut Vec<Fact>, effects: &mut Effects) -> bool {
        let most = limits::STEP_MESSAGES_MAX;
        let count = self.stages.abandoned.len().min(most);
        let mut uploads: Vec<_> = self.stages.abandoned.drain(..count).collect();
        let looked = self.has_left_bodies();
        uploads.extend(self.left_bodies(most - count));
        if !uploads.is_empty() {
            facts.push(Fact::Log(Record::Abandoned { uploads }, Bytes::new()));
            return true;
        }
        if looked {
            return true;
        }
        if self.stages.reading {
            return false;
        }
        let Some((upload, gone)) = self.durable.uploads.dead.first_key_value() else {
            return false;
        };
        self.stages.reading = true;
        effects.push(Effect::Pieces(PiecesRequest {
            upload: *upload,
            after: *gone,
            limit: limits::STEP_MESSAGES_MAX,
            purpose: PiecesPurpose::GiveBack,
            generation: self.durable.generation,
        }));
        true
    }

    /// States that the pieces of a dead upload go, now that it is known where they lie.
    pub fn give_back(&mut self, page: &PiecesPage, facts: &mut Vec<Fact>) {
        self.stages.reading = false;
        // What the index has moved past is asked for again.
        let Some((found, more)) = self.durable.pieces(page) else { return };
        let upload = page.request.upload;
        let first = page.request.after + 1;
        debug_assert!(found.iter().zip(first..).all(|((number, _), next)| *number == next));
        let gone = found.into_iter().map(|(_, at)| at).collect();
        let record = Record::PiecesGone { upload, first, gone, last: !more };
        facts.push(Fact::Log(record, Bytes::new()));
    }

    /// Where the pieces lie that a delivery asked for, and whether there may be more; `None` where
    /// the index has moved on since and they must be asked for again.
    #[must_use]
    pub fn locate(&self, page: &PiecesPage) -> Option<(Vec<(u32, PieceAt)>, bool)> {
        self.durable.pieces(page)
    }

    /// Names the state of the index that the deltas continue, for a [`PiecesRequest`].
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.durable.generation
    }

    /// Uploads that are arriving, and dead ones; for checks.
    #[cfg(test)]
    pub(crate) fn uploads(&self) -> (Vec<UploadId>, Vec<UploadId>) {
        let uploads = &self.durable.uploads;
        (uploads.open.keys().copied().collect(), uploads.dead.keys().copied().collect())
    }

    /// All pieces there are, given all that the index holds; for checks.
    #[cfg(test)]
    pub(crate) fn all_pieces(
        &self,
        rows: &BTreeMap<(UploadId, u32), PieceAt>,
    ) -> BTreeMap<(UploadId, u32), PieceAt> {
        let nothing = Delta::default();
        let frozen = self.durable.frozen.as_deref().unwrap_or(&nothing);
        let new = self.durable.delta.pieces.iter().map(|(k, v)| (*k, v.as_ref()));
        let old = frozen.pieces.iter().map(|(k, v)| (*k, v.as_ref()));
        let index = rows.iter().map(|(k, v)| (*k, Some(v)));
        newest(new, old, index).filter_map(|(key, at)| Some((key, *at?))).collect()
    }
}
