//! When the index takes over what the log has said, and which segments that sets free.
//!
//! A checkpoint freezes the changes since the last one in memory, waits until the log is durable
//! to that point, and has them merged into the index beside the engine. Only then is a segment
//! without live bytes given back: whatever a crash leaves, the index never knows more than the
//! log, and nothing is thrown away that either still needs.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::broker::Broker;
use crate::broker::delta::Delta;
use crate::engine::{Job, Settings, StopError};
use crate::ids::Lsn;
use crate::limits;
use crate::mutant::{self, Mutant};
use crate::store::index::CommitError;
use crate::wal::{Log, ReplayPoint};

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
    /// Segments of the log that have not been given back, oldest first.
    kept: BTreeSet<u64>,
    next_segment: u64,
    retire: Vec<u64>,
}

/// The segments that a recovery leaves.
#[derive(Clone, Debug)]
pub(crate) struct Segments {
    /// Earlier ones that still count, by ordinal.
    pub(crate) past: Vec<u64>,
    /// The first of this life.
    pub(crate) first: u64,
    /// Bytes of each.
    pub(crate) size: u64,
}

#[derive(Debug)]
enum State {
    Idle,
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
            kept: segments.past.into_iter().collect(),
            next_segment: segments.first,
            retire: Vec::new(),
        }
    }

    pub(crate) fn appended(&mut self, at: ReplayPoint) {
        self.last = Some(at);
    }

    /// Begins what is due and hands over what is ready.
    pub(crate) fn begin(
        &mut self,
        broker: &mut Broker,
        log: &Log,
        stopping: bool,
        jobs: &mut Vec<Job>,
    ) {
        if !self.retire.is_empty() {
            jobs.push(Job::Retire(std::mem::take(&mut self.retire)));
        }
        if matches!(self.state, State::Idle) && self.is_due(broker, log, stopping) {
            let replay = self.last.expect("due only after a record");
            let delta = broker.freeze(replay.through);
            self.state = State::Waiting(CheckpointJob { delta, replay });
        }
        // Never before the log: what the index knows must be true after any crash.
        let durable = |replay: ReplayPoint| {
            log.durable() > replay.through || mutant::is(Mutant::IndexBeforeLog)
        };
        let ready = match &self.state {
            State::Waiting(job) => durable(job.replay),
            // At the end it is not tried again: the log has it all.
            State::Refused(_) => !stopping,
            State::Idle | State::Running(_) => false,
        };
        if ready {
            let job = match std::mem::replace(&mut self.state, State::Idle) {
                State::Waiting(job) | State::Refused(job) => job,
                State::Idle | State::Running(_) => unreachable!("not ready"),
            };
            jobs.push(Job::Checkpoint(job.clone()));
            self.state = State::Running(job);
        }
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
            || (log.is_full() && (broker.frees_room() || since >= self.segment_size / 16))
    }

    /// The index has taken the changes, or has no room for them.
    ///
    /// # Errors
    /// When it failed for another reason: then nothing more is known of the index.
    pub(crate) fn end(
        &mut self,
        broker: &mut Broker,
        result: Result<(), CommitError>,
    ) -> Result<(), StopError> {
        let State::Running(job) = std::mem::replace(&mut self.state, State::Idle) else {
            panic!("a checkpoint ended that had not begun");
        };
        match result {
            Ok(()) => {}
            Err(CommitError::Full) => {
                tracing::warn!("the disk is full: the checkpoint is tried again");
                self.state = State::Refused(job);
                return Ok(());
            }
            Err(error) => return Err(StopError::Checkpoint(error)),
        }
        broker.install();
        self.known = Some(job.replay);
        let first_needed = job.replay.batch.0 / self.segment_size;
        while self.next_segment < first_needed {
            self.kept.insert(self.next_segment);
            self.next_segment += 1;
        }
        let dead: Vec<u64> =
            self.kept.iter().copied().filter(|segment| is_dead(broker, *segment)).collect();
        dead.iter().for_each(|segment| {
            self.kept.remove(segment);
        });
        self.retire.extend(dead);
        Ok(())
    }

    /// Whether everything is durable and the index knows what it can.
    pub(crate) fn is_final(&self, log: &Log) -> bool {
        let caught_up = self.last.map(|last| last.through) == self.known.map(|known| known.through);
        let settled = match self.state {
            State::Idle => caught_up,
            // The log has it all; the next start replays what the index had no room for.
            State::Refused(_) => true,
            State::Waiting(_) | State::Running(_) => false,
        };
        settled && log.durable() >= log.appended()
    }
}

fn is_dead(broker: &Broker, segment: u64) -> bool {
    broker.is_dead(segment) || mutant::is(Mutant::RetireTheLiving)
}
