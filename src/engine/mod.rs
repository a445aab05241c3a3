//! The engine: one owner of the broker's state, turn by turn.
//!
//! A turn takes what has arrived, decides it, appends the records, applies them, does a bounded
//! piece of what follows by itself, and lets out what the log has made durable. It never blocks:
//! what needs the disk leaves as a [`Job`] and comes back as an [`Input`]. `threads` gives each
//! part a thread; the simulation interleaves the same steps from a seed.
//!
//! Always: nothing leaves before the record it depends on is durable, refusals included. Leaves
//! the rules to `broker`, bytes and files to `wal` and `store`.

mod cache;
mod checkpoint;
mod compactor;
mod disk;
mod driver;
mod effort;
mod flow;
mod forget;
mod gate;
mod gauges;
mod inbox;
mod input;
mod kept;
mod line;
mod linger;
mod look;
mod mailbox;
mod outbox;
mod park;
mod reads;
mod select;
mod settings;
mod start;
mod stream;
mod threads;
mod told;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::broker::command::{Confirm, Refusal, Request};
use crate::broker::fact::{Change, ContentRequest, Effect, Fact, Page, Purpose};
use crate::broker::policy::Shortage;
use crate::broker::{Broker, Effects, SelectRequest, Written, takes_room};
use crate::ids::{ConnectionId, Lsn, Millis, Token};
use crate::io::Clock;
use crate::limits;
use crate::mutant::{self, Mutant};
use crate::record::Record;
use crate::wal::{Admission, Class, Log, ReadError, ReplayPoint};

use cache::Cache;
use checkpoint::Checkpoints;
use effort::Effort;
use flow::{Fate, FlowState, Part};
use gate::{Gates, Until};
use linger::Linger;
use outbox::Outbox;
use park::{Answer, Park};
use told::Told;

pub use checkpoint::CheckpointJob;
pub use compactor::{CompactStep, Compactor};
pub use disk::DiskWatch;
pub use flow::Flow;
pub use gauges::{Counted, Gauges, Histogram};
#[cfg(test)]
pub(crate) use inbox::Inbox;
pub use inbox::{Connection, Handle, Permit};
pub use input::{Input, Job, StopError, Turn};
pub use kept::{Compacted, Dead};
pub use look::{Join, Look, Peek, Status};
pub use mailbox::{Closed, Listener, Mailbox, Unseen};
pub use outbox::Load;
pub use park::ParkLimits;
#[cfg(test)]
pub(crate) use select::judge;
pub use settings::Settings;
pub use start::{Store, StoreError, open_store};
pub use threads::{Leaving, Running, start};
#[cfg(test)]
pub(crate) use threads::{
    compact, read_later, read_operations, read_outcome, read_page, read_pieces, read_producers,
};

/// The broker with its log and everything that waits for it.
#[derive(Debug)]
pub struct Engine {
    broker: Broker,
    log: Arc<Log>,
    outbox: Outbox,
    cache: Cache,
    checkpoints: Checkpoints,
    park: Park,
    flow: FlowState,
    gates: Gates,
    disk: Arc<DiskWatch>,
    linger: Linger,
    stopping: bool,
    told: Told,
    /// Requests refused in this life.
    refused: u64,
    /// What this turn has done so far.
    effort: Effort,
    /// What would be logged by itself, and must wait because the log cannot take it.
    deferred: VecDeque<Input>,
    /// Contents to be read once they are on the disk.
    contents: Vec<ContentRequest>,
    /// Messages to be judged once they are on the disk.
    unjudged: Vec<(Lsn, SelectRequest)>,
    /// Payloads to be read.
    loads: Vec<Load>,
    // Buffers, reused.
    facts: Vec<Fact>,
    effects: Effects,
    record: Vec<u8>,
}

impl Engine {
    /// An engine over a broker that recovery has brought up to date.
    pub(crate) fn new(
        broker: Broker,
        log: Arc<Log>,
        settings: &Settings,
        checkpoints: Checkpoints,
        disk: Arc<DiskWatch>,
    ) -> Self {
        Self {
            broker,
            outbox: Outbox::new(settings.window_bytes, settings.windows_bytes),
            cache: Cache::new(settings.cache_bytes),
            checkpoints,
            park: Park::new(settings.park),
            flow: FlowState::new(settings),
            gates: Gates::default(),
            disk,
            linger: Linger::default(),
            log,
            stopping: false,
            told: Told::default(),
            refused: 0,
            effort: Effort::default(),
            deferred: VecDeque::new(),
            contents: Vec::new(),
            unjudged: Vec::new(),
            facts: Vec::new(),
            effects: Effects::new(),
            record: Vec::new(),
            loads: Vec::new(),
        }
    }

    /// Ends the parts of turns by this clock too, and not only by what they have done.
    pub(crate) fn watch(&mut self, clock: Arc<dyn Clock>) {
        self.effort.watch(clock);
    }

    /// Begins this life: what was lent in an earlier one has come back, and so has all that a
    /// restored store has.
    pub(crate) fn begin(&mut self, now: Millis, epoch: u64, restored: bool) {
        if restored {
            self.facts.push(Fact::Log(Record::Restored { at: now }, Bytes::new()));
        }
        self.facts.push(Fact::Log(Record::Started { epoch, at: now }, Bytes::new()));
        self.commit();
        self.log.submit();
        self.outbox.begin(epoch);
    }

    /// One turn. Takes from `inputs` what it can and leaves the rest for the next.
    ///
    /// # Errors
    /// When the store has failed: nothing more is confirmed, every connection is told.
    pub fn turn(
        &mut self,
        now: Millis,
        inputs: &mut VecDeque<Input>,
        jobs: &mut Vec<Job>,
    ) -> Result<Turn, StopError> {
        let turn = self.try_turn(now, inputs, jobs);
        let why = match &turn {
            Ok(Turn::Stopped) => Closed::Stopping,
            Ok(_) => return turn,
            Err(_) => Closed::Failed,
        };
        self.outbox.close(why);
        for input in inputs.drain(..) {
            // Those who had only begun to connect are told as well.
            if let Input::Connect(_, mailbox) = input {
                mailbox.close(why);
            }
        }
        turn
    }

    fn try_turn(
        &mut self,
        now: Millis,
        inputs: &mut VecDeque<Input>,
        jobs: &mut Vec<Job>,
    ) -> Result<Turn, StopError> {
        if let Some(failure) = self.log.failure() {
            return Err(StopError::Log(failure));
        }
        if self.has_room() {
            while let Some(input) = self.deferred.pop_back() {
                inputs.push_front(input);
            }
        }
        self.gates.give_back(inputs);
        if self.checkpoints.is_behind(&self.broker) {
            // Its end is what those before it in the line wait for.
            self.take_checkpoint(inputs)?;
        }
        self.effort.begin();
        let blocked = self.take(now, inputs, jobs)?;
        self.effort.leave_some();
        let worked = self.work(now, limits::TURN_STEPS_MAX);
        self.effort.leave_some();
        let more = worked | self.unpark(now) | self.broker.take_woken();
        self.follow(jobs);
        self.linger.submit(&self.log, now, blocked || self.awaits_log());
        self.fetch(jobs);
        self.have_judged(jobs);
        let freezing =
            self.checkpoints.begin(&mut self.broker, &self.log, now, self.stopping, jobs);
        let most = self.effort.leave_some() / limits::RELEASE_EFFORT;
        let unsaid = self.outbox.release(self.durable(), most, &self.cache, &mut self.loads);
        if !self.loads.is_empty() {
            jobs.push(Job::Loads(std::mem::take(&mut self.loads)));
        }
        self.look_up(jobs)?;
        self.told.tell(now, &mut self.broker);
        if self.stopping && !unsaid && self.checkpoints.is_final(&self.log) {
            return Ok(Turn::Stopped);
        }
        let more = more || self.gates.has_opened();
        let busy = freezing || unsaid || (!blocked && (more || !inputs.is_empty()));
        let deadlines = [
            self.broker.next_deadline(),
            self.checkpoints.next_deadline(),
            self.linger.next_deadline(),
            self.told.next(&self.broker),
        ];
        let deadline = deadlines.into_iter().flatten().min();
        Ok(if busy { Turn::Busy } else { Turn::Idle(deadline) })
    }

    /// Takes what a turn may; true when the log must first write or make room.
    fn take(
        &mut self,
        now: Millis,
        inputs: &mut VecDeque<Input>,
        jobs: &mut Vec<Job>,
    ) -> Result<bool, StopError> {
        while !self.effort.is_spent() {
            let Some(input) = inputs.pop_front() else { break };
            let Some(input) = self.gates.pass(input) else { continue };
            match input {
                // Whoever asks after the end has begun is told that it has, and nothing else:
                // the last checkpoint must not chase a log that grows.
                Input::Requests(..) if self.stopping => {}
                Input::Requests(from, mut requests, permit) => {
                    let mut seen = 0;
                    while let Some(request) = requests.pop_front() {
                        seen = self.ahead(seen, &requests);
                        if self.effort.is_spent() {
                            requests.push_front(request);
                            inputs.push_front(Input::Requests(from, requests, permit));
                            return Ok(false);
                        }
                        self.effort.add_request(&request);
                        let (request, blocked) = match self.request(now, from, request) {
                            Taken::Done => continue,
                            Taken::Part(request) => (request, false),
                            Taken::Blocked(request) => (request, true),
                            Taken::Fenced => {
                                self.gates.pass(Input::Requests(from, requests, permit));
                                break;
                            }
                            Taken::Gated(request) => {
                                requests.push_front(request);
                                self.gates.pass(Input::Requests(from, requests, permit));
                                break;
                            }
                        };
                        self.effort.add(limits::PART_EFFORT);
                        requests.push_front(request);
                        inputs.push_front(Input::Requests(from, requests, permit));
                        if blocked {
                            return Ok(true);
                        }
                        break;
                    }
                }
                Input::Look(look) => {
                    self.effort.add(limits::PART_EFFORT);
                    self.look(look, jobs);
                }
                Input::Close(id) => {
                    self.effort.add(limits::COMMAND_EFFORT);
                    self.end_connection(now, id, inputs);
                }
                other => {
                    self.effort.add(limits::COMMAND_EFFORT);
                    self.input(now, other)?;
                    // Before anything of others that is under the same number.
                    self.gates.give_back(inputs);
                }
            }
        }
        Ok(false)
    }

    /// Looks ahead at requests, if those are done of which that was `seen`; of how many it is now.
    fn ahead(&self, seen: usize, requests: &VecDeque<Request>) -> usize {
        if seen > 0 || requests.len() < limits::SENDS_AHEAD_MIN {
            return seen.saturating_sub(1);
        }
        self.broker.look_ahead(requests.iter().map(|request| &request.command))
    }

    fn take_checkpoint(&mut self, inputs: &mut VecDeque<Input>) -> Result<(), StopError> {
        let ended = inputs.iter().position(|input| matches!(input, Input::Checkpointed(_)));
        match ended.and_then(|at| inputs.remove(at)) {
            Some(Input::Checkpointed(result)) => self.checkpoints.end(&mut self.broker, result),
            _ => Ok(()),
        }
    }

    fn input(&mut self, now: Millis, input: Input) -> Result<(), StopError> {
        match input {
            Input::Connect(id, mailbox) => {
                if self.stopping {
                    mailbox.close(Closed::Stopping);
                }
                self.outbox.connect(id, mailbox);
            }
            Input::Close(_) | Input::Requests(..) | Input::Look(_) => {
                unreachable!("taken one by one")
            }
            // Who waits for what comes of it is told that the broker ends.
            Input::Page(_) | Input::Content(..) | Input::Selected(..) if self.stopping => {}
            Input::Page(_)
            | Input::Pieces(_)
            | Input::Operations(_)
            | Input::Content(..)
            | Input::Loaded(_, Err(_))
                if !self.has_room() =>
            {
                self.deferred.push_back(input);
            }
            Input::Operations(_) | Input::Content(..)
                if self.checkpoints.is_behind(&self.broker) =>
            {
                self.deferred.push_back(input);
            }
            Input::Operations(page) => {
                self.broker.operations_in(now, &page, &mut self.facts);
                self.commit();
            }
            Input::Outcome(page) => self.outcome(page),
            Input::Selected(selected, failed) => return self.selected(&selected, failed),
            Input::Writable(id) => self.outbox.writable(id),
            Input::Page(page) => self.page(page),
            Input::Later(page) => self.broker.later_in(&page),
            Input::Producers(page) => self.producers(page),
            Input::Content(request, content) => return self.content(now, request, content),
            Input::Pieces(page) => self.pieces(&page),
            Input::Loaded(load, Ok(payload)) => self.outbox.loaded(&load, Some(payload)),
            Input::Loaded(load, Err(ReadError::Damaged(damage))) => self.lost(now, &load, &damage),
            // A delivery that is over may be read too late, when its segment is gone.
            Input::Loaded(load, Err(error)) if self.broker.is_lent(load.key, load.tag) => {
                return Err(StopError::Read(error));
            }
            Input::Loaded(load, Err(_)) => self.outbox.loaded(&load, None),
            Input::Checkpointed(result) => self.checkpoints.end(&mut self.broker, result)?,
            Input::Compacted(compacted) => self.checkpoints.compacted(&self.broker, compacted),
            Input::Failed(error) => return Err(error),
            Input::Stop => self.stopping = true,
        }
        Ok(())
    }

    /// Ends a connection, or as many of its subscriptions as one step may. What its transactions
    /// come to is logged: where the log cannot take that, the end waits.
    fn end_connection(&mut self, now: Millis, id: ConnectionId, inputs: &mut VecDeque<Input>) {
        self.outbox.discard(id);
        self.effort.add(self.park.discard(id));
        let over = self.broker.decide_close(now, id, &mut self.facts);
        if self.admit() != Admission::Yes {
            self.facts.clear();
            return self.deferred.push_back(Input::Close(id));
        }
        self.commit();
        if over {
            self.outbox.disconnect(id);
        } else {
            inputs.push_front(Input::Close(id));
        }
    }

    fn page(&mut self, page: Page) {
        // A move takes room, and must leave the reserve to those who make some.
        let takes_room = page.request.purpose == Purpose::Transfer;
        let class = if takes_room { Class::Send } else { Class::Clear };
        let bulk =
            matches!(page.request.purpose, Purpose::Transfer | Purpose::Sweep | Purpose::Scan);
        if bulk && self.checkpoints.is_behind(&self.broker) {
            return self.deferred.push_back(Input::Page(page));
        }
        self.effort.add(page.rows.len());
        let no_room = match self.log.admit(limits::STEP_LOG_BYTES_MAX, class) {
            Admission::Yes if takes_room && self.disk.is_low() => {
                Some(Refusal::DiskLow { reserve: self.disk.reserve() })
            }
            Admission::Yes => None,
            Admission::Full => Some(Refusal::StorageFull),
            Admission::Wait => return self.deferred.push_back(Input::Page(page)),
        };
        match no_room {
            None => self.broker.page_in(&page, &mut self.facts),
            Some(refusal) => {
                self.broker.decide_no_room(&page.request, refusal, &mut self.facts);
            }
        }
        self.commit();
    }

    /// Decides one request and makes it true, or a part of it.
    fn request(&mut self, now: Millis, from: ConnectionId, request: Request) -> Taken {
        let Request { token, confirm, .. } = request;
        let alone = confirm == Confirm::Alone || request.command.is_paced();
        if let (false, Err(refusal)) = (alone, self.park.may_ask(from, &request)) {
            self.undo(from, Part::of(&request.command), &refusal);
            let Some(refusal) = self.no_vote(now, &request.command, refusal) else {
                return Taken::Blocked(request);
            };
            self.refuse(from, token, refusal);
            return Taken::Done;
        }
        if let Some(to) = self.waits_for_own(from, u64::MAX, &request.command) {
            self.hold_back(now, from, request, &to, Shortage::Destination);
            return Taken::Done;
        }
        if let Some(lacking) = self.queues_up(&request.command) {
            let to = request.command.destination().expect("only sends queue up").clone();
            self.hold_back(now, from, request, &to, lacking);
            return Taken::Done;
        }
        match self.attempt(now, from, &request) {
            Fate::Wait => return Taken::Blocked(request),
            Fate::Sought(producer) => {
                self.gates.shut(from, Until::Found(producer));
                return Taken::Gated(request);
            }
            Fate::Part => {
                self.work(now, limits::COMMAND_STEPS_MAX);
                return Taken::Part(request);
            }
            Fate::Done(need, reply) if confirm != Confirm::RefusalOnly => {
                let answer = Answer { to: from, token, need, reply };
                if alone { self.let_go(answer) } else { self.confirm(answer) }
            }
            Fate::Done(..) | Fate::Later => {}
            Fate::Refused(refusal) => self.refuse(from, token, refusal),
            Fate::Held(lacking) => {
                let to = request.command.destination().expect("only sends are held").clone();
                self.hold_back(now, from, request, &to, lacking);
            }
            Fate::HeldFor(to, lacking) => self.hold_back(now, from, request, &to, lacking),
            Fate::Fence => {
                self.gates.shut(from, Until::Answered(token));
                self.work(now, limits::COMMAND_STEPS_MAX);
                return Taken::Fenced;
            }
        }
        // What a command makes possible happens before the next one is decided, so that a send
        // to a waiting consumer is known as lent when it is written.
        self.work(now, limits::COMMAND_STEPS_MAX);
        Taken::Done
    }

    /// Whether the log can take the facts that are stated.
    fn admit(&self) -> Admission {
        let frame = |fact: &Fact| match fact {
            Fact::Log(record, payload) => Log::frame_bytes(record.size_max(), payload.len()),
            Fact::Memory(_) => 0,
        };
        let bytes: usize = self.facts.iter().map(frame).sum();
        if bytes == 0 {
            return Admission::Yes;
        }
        // Each frame but the first may begin a batch of its own.
        let bytes = bytes + (self.facts.len() - 1) * limits::BATCH_EXTRA_BYTES;
        let bytes = bytes.min(self.log.frame_bytes_max());
        if self.checkpoints.is_behind(&self.broker) {
            return Admission::Wait;
        }
        let class = if takes_room(&self.facts) { Class::Send } else { Class::Clear };
        self.log.admit(bytes, class)
    }

    /// Does what follows by itself, up to so many steps; true if there may be more.
    fn work(&mut self, now: Millis, steps: usize) -> bool {
        if self.stopping {
            return false;
        }
        for _ in 0..steps {
            // Most commands leave nothing to be done: then the log need not be asked.
            if !self.broker.has_work(now) {
                return false;
            }
            if self.effort.is_spent() {
                return true;
            }
            if !self.has_room() || !self.broker.work(now, &mut self.facts, &mut self.effects) {
                return false;
            }
            self.commit();
            self.fetch_near(now);
        }
        true
    }

    /// Whether the log can take what one step of background work may state.
    fn has_room(&self) -> bool {
        self.log.admit(limits::STEP_LOG_BYTES_MAX, Class::Clear) == Admission::Yes
    }

    /// Makes the stated facts true: append, then apply. Returns what must be durable for them
    /// to count, if anything.
    fn commit(&mut self) -> Option<Lsn> {
        let mut need = None;
        let mut facts = std::mem::take(&mut self.facts);
        for mut fact in facts.drain(..) {
            self.effort.add(fact.messages());
            match &mut fact {
                Fact::Log(record, payload) => {
                    need = Some(self.append(record, payload));
                }
                Fact::Memory(Change::Unsubscribe { key, unsent_from }) => {
                    let unsent = self.outbox.unsubscribe(*key);
                    *unsent_from = unsent_from.map_or(unsent, |unseen| {
                        Some(unsent.map_or(unseen, |unsent| unsent.min(unseen)))
                    });
                }
                Fact::Memory(Change::Subscribe { key, .. }) => self.outbox.subscribe(*key),
                Fact::Memory(_) => {}
            }
            if let Fact::Memory(change) = fact {
                self.broker.apply_change(change, &mut self.effects);
            }
            self.hold();
        }
        self.facts = facts;
        need
    }

    /// Returns the end of its frame, which is what must be durable for it to count.
    fn append(&mut self, record: &Record, payload: &Bytes) -> Lsn {
        self.record.clear();
        record.encode(&mut self.record);
        let appended = self.log.append(record.kind(), &self.record, payload);
        let written = Written { lsn: appended.lsn, frame_len: appended.frame_len };
        self.checkpoints.appended(ReplayPoint { batch: appended.batch, through: appended.lsn });
        // One large body would push every small message out.
        if !payload.is_empty() && !matches!(record, Record::Piece { .. }) {
            self.cache.put(appended.lsn, payload.clone());
        }
        self.broker.apply_record(written, record).expect("decided from this very state");
        Lsn(appended.lsn.0 + u64::from(appended.frame_len))
    }

    /// Holds the deliveries and answers that facts have brought about, until these are durable.
    fn hold(&mut self) {
        if self.effects.is_empty() {
            return;
        }
        let appended = self.log.appended();
        let mut effects = std::mem::take(&mut self.effects);
        effects.retain(|effect| match effect {
            Effect::Deliver(assignment) => {
                let waits = assignment.message.waits_for_log();
                let need = if waits { appended } else { Lsn::default() };
                self.outbox.deliver(need, assignment.clone());
                false
            }
            Effect::Answer { to, result } => {
                self.tell(*to, result.clone());
                false
            }
            _ => true,
        });
        self.effects = effects;
    }

    fn follow(&mut self, jobs: &mut Vec<Job>) {
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Page(request) => jobs.push(Job::Page(request)),
                Effect::Pieces(request) => jobs.push(Job::Pieces(request)),
                Effect::Later(request) => jobs.push(Job::Later(request)),
                Effect::Producers(request) => jobs.push(Job::Producers(request)),
                Effect::Content(request) => self.contents.push(request),
                Effect::Select(mut request) => {
                    let need = select::find(&mut request, &self.cache);
                    self.unjudged.push((need, request));
                }
                Effect::Operations(request) => jobs.push(Job::Operations(request)),
                Effect::Outcome(request) => jobs.push(Job::Outcome(request)),
                Effect::Deliver(_) | Effect::Answer { .. } => unreachable!("held before"),
            }
        }
    }

    /// Tells every connection that the broker has ended, where it does not know yet.
    fn close(&mut self, why: Closed) {
        self.outbox.close(why);
    }

    /// Whether something goes on only when all that was appended is durable.
    fn awaits_log(&self) -> bool {
        self.stopping
            || self.outbox.awaits(self.log.durable())
            || !self.deferred.is_empty()
            || !self.contents.is_empty()
            || !self.unjudged.is_empty()
            || self.checkpoints.awaits_log()
    }

    /// The end of what may be spoken of.
    fn durable(&self) -> Lsn {
        if mutant::is(Mutant::AnswerBeforeSync) { self.log.appended() } else { self.log.durable() }
    }

    /// What the last turn has done, for checks.
    #[cfg(test)]
    pub(crate) fn effort(&self) -> usize {
        self.effort.all()
    }

    /// The broker's state, for checks.
    #[cfg(test)]
    pub(crate) fn broker(&self) -> &Broker {
        &self.broker
    }
}

/// What became of a request.
enum Taken {
    Done,
    /// A part of it is done; it is to be taken again for the rest, before anything else of its
    /// connection.
    Part(Request),
    /// The log must first write or make room.
    Blocked(Request),
    /// Nothing else of its connection is to be taken before its answer.
    Fenced,
    /// The same, and it has to be taken again itself.
    Gated(Request),
}

/// A token for requests whose answers need not be told apart.
pub const NO_TOKEN: Token = Token(0);
