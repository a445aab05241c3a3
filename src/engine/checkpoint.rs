//! When the index takes over what the log has said, which files that sets free, and when the sparse
//! ones among them are packed.
//!
//! A checkpoint freezes the changes since the last one in memory, waits until the log is durable
//! to that point, and has them merged into the index beside the engine. Only then is a segment
//! without live bytes given back: whatever a crash leaves, the index never knows more than the
//! log, and nothing is thrown away that either still needs. After each checkpoint compaction may
//! follow.
//!
//! A checkpoint comes after so much log, after so many changes, and after so much time: one that
//! comes by time says that little happens. The broker *rests* then: it keeps no spare files and
//! packs what it would leave alone otherwise, until a checkpoint comes for another reason.

use std::sync::Arc;

use crate::broker::Broker;
use crate::broker::delta::Delta;
use crate::broker::delta::Unshared;
use crate::engine::kept::{Compacted, Dead, Kept};
use crate::engine::{Job, Settings, StopError};
use crate::ids::{Lsn, Millis};
use crate::limits;
use crate::mutant::{self, Mutant};
use crate::store::index::CommitError;
use crate::wal::{Log, PastPack, PastSegment, ReplayPoint};

/// Changes to be merged into the index, as one transaction.
#[derive(Clone, Debug)]
pub struct CheckpointJob {
    /// What has changed.
    pub delta: Arc<Delta>,
    /// Where replay begins once this is in the index.
    pub replay: ReplayPoint,
}

#[derive(Debug)]
pub(crate) struct Checkpoints {
    bytes: u64,
    changes: usize,
    segment_size: u64,
    /// The last record appended or recovered.
    last: Option<ReplayPoint>,
    /// What the index knows.
    known: Option<ReplayPoint>,
    state: State,
    kept: Kept,
    next_segment: u64,
    retire: Dead,
    /// Milliseconds after which a checkpoint begins, whatever has happened.
    period: u64,
    /// When so much time is over; `None` at rest where nothing has happened since.
    due_at: Option<Millis>,
    resting: bool,
    /// Whether compaction may have something to do.
    look: bool,
    /// Whether a plan is being carried out.
    compacting: bool,
    /// What the last checkpoint has merged, to be dropped beside the engine.
    merged: Option<Arc<Delta>>,
}

/// The segments that a recovery leaves.
#[derive(Clone, Debug)]
pub(crate) struct Segments {
    /// Earlier ones that still count, in files of their own.
    pub(crate) past: Vec<PastSegment>,
    /// The packs that have what is needed of others.
    pub(crate) packs: Vec<PastPack>,
    /// The first of this life.
    pub(crate) first: u64,
    /// Bytes of each.
    pub(crate) size: u64,
}

#[derive(Debug)]
enum State {
    Idle,
    /// The rows of queues are being taken, some each turn.
    Freezing(ReplayPoint),
    /// Frozen; the log is not durable so far.
    Waiting(CheckpointJob),
    /// The index is taking it.
    Running(CheckpointJob),
    /// The disk was full; it is tried again in the next turn. The thread that tries takes its time.
    Refused(CheckpointJob),
}

impl Checkpoints {
    pub(crate) fn new(
        settings: &Settings,
        segments: Segments,
        known: Option<ReplayPoint>,
        last: Option<ReplayPoint>,
    ) -> Self {
        Self {
            bytes: settings.checkpoint_bytes,
            changes: settings.checkpoint_changes,
            segment_size: segments.size,
            last,
            known,
            state: State::Idle,
            kept: Kept::new(segments.size, segments.past, segments.packs),
            next_segment: segments.first,
            retire: Dead::default(),
            period: settings.checkpoint_millis,
            due_at: None,
            resting: false,
            look: false,
            compacting: false,
            merged: None,
        }
    }

    pub(crate) fn appended(&mut self, at: ReplayPoint) {
        self.last = Some(at);
    }

    /// When the next checkpoint is due by time alone.
    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        // One that is under way is waited for by itself.
        self.due_at.filter(|_| matches!(self.state, State::Idle))
    }

    /// Whether one goes on only when the log is durable.
    pub(crate) fn awaits_log(&self) -> bool {
        matches!(self.state, State::Waiting(_))
    }

    /// Begins what is due and hands over what is ready. True while there is more to freeze at once.
    pub(crate) fn begin(
        &mut self,
        broker: &mut Broker,
        log: &Log,
        now: Millis,
        stopping: bool,
        jobs: &mut Vec<Job>,
    ) -> bool {
        if let Some(delta) = self.merged.take() {
            jobs.push(Job::Forget(delta));
        }
        if mutant::is(Mutant::JudgeByMemory) {
            self.retire.extend(self.kept.take_dead(&broker.live()));
        }
        if !self.retire.is_empty() {
            jobs.push(Job::Retire(std::mem::take(&mut self.retire)));
        }
        if matches!(self.state, State::Idle) {
            let time_is_over = self.time_is_over(now);
            if time_is_over {
                self.resting = true;
                self.look = true;
                log.rest();
            }
            let by_itself = self.is_due(broker, log, stopping);
            if by_itself || (time_is_over && self.has_changed()) {
                self.resting &= !by_itself;
                let replay = self.last.expect("due only after a record");
                broker.freeze(replay.through);
                self.state = State::Freezing(replay);
            }
        }
        if let State::Freezing(replay) = self.state {
            match broker.freeze_rows(limits::FREEZE_ROWS_MAX) {
                Some(delta) => self.state = State::Waiting(CheckpointJob { delta, replay }),
                None => return true,
            }
        }
        self.plan(broker, stopping, jobs);
        // Never before the log: what the index knows must be true after any crash.
        let durable = |replay: ReplayPoint| {
            log.durable() > replay.through || mutant::is(Mutant::IndexBeforeLog)
        };
        let ready = match &self.state {
            State::Waiting(job) => durable(job.replay),
            // At the end it is not tried again: the log has it all.
            State::Refused(_) => !stopping,
            State::Idle | State::Freezing(_) | State::Running(_) => false,
        };
        if ready {
            let job = match std::mem::replace(&mut self.state, State::Idle) {
                State::Waiting(job) | State::Refused(job) => job,
                State::Idle | State::Freezing(_) | State::Running(_) => {
                    unreachable!("not ready")
                }
            };
            if mutant::is(Mutant::RetireBeforeIndex) {
                self.close_before(job.replay);
                jobs.push(Job::Retire(self.kept.take_dead(&broker.live())));
            }
            jobs.push(Job::Checkpoint(job.clone()));
            self.state = State::Running(job);
        }
        false
    }

    /// Keeps the time; true when a period has gone by.
    fn time_is_over(&mut self, now: Millis) -> bool {
        let latest = Millis(now.0.saturating_add(self.period));
        match self.due_at {
            Some(at) if at <= now => {
                self.due_at = None;
                return true;
            }
            // The clock has gone back.
            Some(at) if at > latest => self.due_at = Some(latest),
            Some(_) => {}
            None if self.has_changed() || !self.resting => self.due_at = Some(latest),
            None => {}
        }
        false
    }

    /// Whether the log has something that the index does not know.
    fn has_changed(&self) -> bool {
        self.last.map(|last| last.through) != self.known.map(|known| known.through)
    }

    /// Has the sparsest files packed, if that is worth it.
    fn plan(&mut self, broker: &Broker, stopping: bool, jobs: &mut Vec<Job>) {
        // What the index has not taken over is still read from the log by a start.
        let Some(known) = self.known.filter(|_| self.look && !self.compacting && !stopping) else {
            return;
        };
        self.look = false;
        let before = known.batch.0 / self.segment_size;
        if let Some(ordinals) = self.kept.plan(broker.live_in_index(), before, self.resting) {
            self.compacting = true;
            jobs.push(Job::Compact(ordinals));
        }
    }

    /// A plan has ended, and what it says is durable in the index; or it was given up.
    pub(crate) fn compacted(&mut self, broker: &Broker, compacted: Option<Compacted>) {
        self.compacting = false;
        let Some(compacted) = compacted else { return };
        self.retire.extend(self.kept.compacted(broker.live_in_index(), compacted));
        self.look = true;
    }

    /// Whether the changes since the last freeze have become too many, or their log too long,
    /// while the index still takes the earlier ones: then nothing is taken in until it has.
    pub(crate) fn is_behind(&self, broker: &Broker) -> bool {
        let State::Running(job) = &self.state else { return false };
        let ahead = self.last.map_or(0, |last| last.through.0 - job.replay.through.0);
        broker.delta_len() >= self.changes.saturating_mul(limits::CHECKPOINTS_AHEAD_MAX)
            || ahead >= self.bytes.saturating_mul(limits::CHECKPOINTS_AHEAD_MAX as u64)
    }

    fn is_due(&self, broker: &Broker, log: &Log, stopping: bool) -> bool {
        let Some(last) = self.last else { return false };
        let known = self.known.map_or(Lsn::default(), |known| known.through);
        if last.through == known {
            return false;
        }
        let since = last.through.0 - known.0.min(last.through.0);
        // On a full disk only a checkpoint can set segments free: one comes with everything that
        // is consumed, and before acknowledgements have eaten the reserve.
        stopping
            || broker.delta_len() >= self.changes
            || since >= self.bytes
            // One large message may free more than many records take.
            || broker.freed_bytes() >= self.bytes
            || (log.is_full() && (broker.frees_room() || since >= self.segment_size / 16))
    }

    /// The index has taken the changes, or has no room for them.
    ///
    /// # Errors
    /// When it failed for another reason: then nothing more is known of the index.
    pub(crate) fn end(
        &mut self,
        broker: &mut Broker,
        result: Result<Unshared, CommitError>,
    ) -> Result<(), StopError> {
        let State::Running(job) = std::mem::replace(&mut self.state, State::Idle) else {
            panic!("a checkpoint ended that had not begun");
        };
        match result {
            Ok(bytes) => broker.unshared(bytes),
            Err(CommitError::Full) => {
                tracing::warn!("the disk is full: the checkpoint is tried again");
                self.state = State::Refused(job);
                return Ok(());
            }
            Err(error) => return Err(StopError::Checkpoint(error)),
        }
        self.merged = Some(broker.install());
        self.known = Some(job.replay);
        self.close_before(job.replay);
        self.retire.extend(self.kept.take_dead(broker.live_in_index()));
        // The next period begins with the end of this checkpoint.
        self.due_at = None;
        self.look = true;
        Ok(())
    }

    /// Counts the full segments that a start would not replay.
    fn close_before(&mut self, replay: ReplayPoint) {
        let first_needed = replay.batch.0 / self.segment_size;
        while self.next_segment < first_needed {
            self.kept.close(self.next_segment);
            self.next_segment += 1;
        }
    }

    /// How many files there are up to the end of the log, and their bytes.
    pub(crate) fn segments(&self, appended: Lsn) -> (u64, u64) {
        let since = (appended.0 / self.segment_size + 1).saturating_sub(self.next_segment);
        let (files, bytes) = self.kept.files();
        (files + since, bytes + since * self.segment_size)
    }

    /// Bytes of the newest segment behind the end of the log.
    pub(crate) fn unused(&self, appended: Lsn) -> u64 {
        self.segment_size - appended.0 % self.segment_size
    }

    /// Whether everything is durable and the index knows what it can.
    pub(crate) fn is_final(&self, log: &Log) -> bool {
        let caught_up = !self.has_changed();
        let settled = match self.state {
            State::Idle => caught_up,
            // The log has it all; the next start replays what the index had no room for.
            State::Refused(_) => true,
            State::Freezing(_) | State::Waiting(_) | State::Running(_) => false,
        };
        settled && log.durable() >= log.appended()
    }
}
