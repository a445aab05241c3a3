//! Compaction, step by step: reads the segments of a plan, asks the index which of their frames
//! are needed, has those packed, and tells the index where they lie now.
//!
//! Always: a segment is given up only for a pack that is durable and that the index durably knows;
//! only where all live bytes that the index counts for it were found, so that a frame whose kind
//! or place this part does not understand keeps its segment as it is; and only by an owner that
//! has looked for a later claim in between. Whatever a crash leaves, one of the two is whole.
//! Runs beside the engine, one bounded step after the other; the thread that runs it adds the
//! waiting.

use std::sync::Arc;
use std::time::Duration;

use crate::broker::delta::{PayloadOf, Place};
use crate::engine::kept::Compacted;
use crate::engine::{Input, StopError};
use crate::ids::Lsn;
use crate::mutant::{self, Mutant};
use crate::record::{BranchRecord, Record, Target};
use crate::store::index::{CommitError, Index, IndexError, View};
use crate::wal::{Candidate, Fence, Found, Log, Made, Packer, Packing};

/// Makes packs by plan.
#[derive(Debug)]
pub struct Compactor {
    pub(crate) packer: Packer,
    pub(crate) index: Arc<Index>,
    pub(crate) fence: Fence,
    pub(crate) log: Arc<Log>,
    /// Bytes a second, at most.
    pub(crate) rate: u64,
    pub(crate) work: Option<Work>,
}

/// How far a plan has come.
#[derive(Debug)]
pub(crate) enum Work {
    Packing {
        packing: Box<Packing>,
        tally: Option<Tally>,
        left: Vec<u64>,
    },
    /// The pack is durable, and nobody knows of it.
    Made {
        made: Made,
        left: Vec<u64>,
    },
}

/// What was found of the segment that is being read.
#[derive(Debug)]
pub(crate) struct Tally {
    ordinal: u64,
    /// The state of the index by which all of it is judged. By two states, what dies meanwhile
    /// could hide in the sums what was not found.
    state: View,
    found: u64,
    /// A payload that is needed is damaged: it is to be found where it was written.
    damaged: bool,
}

/// What a step did.
#[derive(Debug)]
pub enum CompactStep {
    /// There is nothing to do.
    Idle,
    /// So many bytes were read and written.
    Worked(u64),
    /// A plan has ended: what the engine is to hear.
    Done(Input),
}

/// Why a plan came to nothing.
enum Trouble {
    /// Nothing has changed, and a later plan may do better.
    Now(std::io::Error),
    Fatal(StopError),
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Now(error)
    }
}

impl From<IndexError> for Trouble {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Full => Self::Now(std::io::ErrorKind::StorageFull.into()),
            error => Self::Fatal(StopError::Index(error)),
        }
    }
}

impl Compactor {
    /// Begins to pack these segments, in later steps.
    ///
    /// # Panics
    /// If the plan before has not ended.
    pub fn begin(&mut self, ordinals: &[u64]) -> CompactStep {
        assert!(self.work.is_none(), "a plan began while another was under way");
        match self.packer.begin(ordinals) {
            Ok(packing) => {
                let packing = Box::new(packing);
                let (tally, left) = (None, Vec::new());
                self.work = Some(Work::Packing { packing, tally, left });
                CompactStep::Worked(0)
            }
            Err(error) => CompactStep::Done(ended(Err(error.into()))),
        }
    }

    /// Does one piece of work.
    pub fn step(&mut self) -> CompactStep {
        match self.work.take() {
            None => CompactStep::Idle,
            Some(Work::Packing { packing, tally, left }) => self.pack(packing, tally, left),
            Some(Work::Made { made, left }) => CompactStep::Done(ended(self.commit(made, left))),
        }
    }

    /// How long to wait after so many bytes.
    #[must_use]
    pub fn pause_after(&self, bytes: u64) -> Duration {
        Duration::from_micros(bytes.saturating_mul(1_000_000) / self.rate.max(1))
    }

    /// Gives up what is under way: the broker ends.
    pub fn give_up(&mut self) {
        match self.work.take() {
            Some(Work::Packing { packing, .. }) => packing.give_up(),
            // Best effort: a leftover is swept by the next owner.
            Some(Work::Made { made, .. }) => drop(self.packer.discard(made.id)),
            None => {}
        }
    }

    fn pack(
        &mut self,
        mut packing: Box<Packing>,
        mut tally: Option<Tally>,
        mut left: Vec<u64>,
    ) -> CompactStep {
        let found = match packing.read() {
            Found::All => return self.finish(packing, left),
            found => found,
        };
        match take(&self.index, &mut packing, &mut tally, &mut left, found) {
            Ok(()) => {
                let bytes = packing.take_bytes();
                self.work = Some(Work::Packing { packing, tally, left });
                CompactStep::Worked(bytes)
            }
            Err(trouble) => {
                packing.give_up();
                CompactStep::Done(ended(Err(trouble)))
            }
        }
    }

    fn finish(&mut self, packing: Box<Packing>, left: Vec<u64>) -> CompactStep {
        match packing.finish() {
            Ok(Some(made)) => {
                if mutant::is(Mutant::RecycleBeforeIndex) {
                    self.packer.publish(made.id, &made.ordinals);
                    self.log.retire(&made.ordinals);
                }
                let bytes = made.bytes;
                self.work = Some(Work::Made { made, left });
                CompactStep::Worked(bytes)
            }
            Ok(None) => {
                let compacted = Compacted { pack: None, packed: Vec::new(), left };
                CompactStep::Done(ended(Ok(compacted)))
            }
            Err(error) => CompactStep::Done(ended(Err(error.into()))),
        }
    }

    /// Makes it known durably where the frames lie now.
    fn commit(&mut self, made: Made, left: Vec<u64>) -> Result<Compacted, Trouble> {
        let Made { id, bytes, ordinals } = made;
        let lost =
            |e| Trouble::Fatal(StopError::Checkpoint(CommitError::Failed(IndexError::Io(e))));
        self.fence.check().map_err(lost)?;
        let packed = if mutant::is(Mutant::PackWithoutPlace) {
            Ok(ordinals)
        } else {
            self.index.commit_pack(id, &ordinals)
        };
        match packed {
            Ok(packed) if !packed.is_empty() => {
                self.packer.publish(id, &packed);
                Ok(Compacted { pack: Some((id, bytes)), packed, left })
            }
            Ok(packed) => {
                self.packer.discard(id)?;
                Ok(Compacted { pack: None, packed, left })
            }
            Err(CommitError::Full) => {
                self.packer.discard(id)?;
                Err(std::io::Error::from(std::io::ErrorKind::StorageFull).into())
            }
            Err(error) => Err(Trouble::Fatal(StopError::Checkpoint(error))),
        }
    }
}

/// Takes what was found of a source into the pack, as far as it is needed.
fn take(
    index: &Index,
    packing: &mut Packing,
    tally: &mut Option<Tally>,
    left: &mut Vec<u64>,
    found: Found,
) -> Result<(), Trouble> {
    match found {
        Found::Begin(ordinal) => {
            let state = index.view()?;
            *tally = Some(Tally { ordinal, state, found: 0, damaged: false });
        }
        Found::Frames(frames) => {
            let tally = tally.as_mut().expect("a segment has begun");
            for frame in needed(index, &tally.state, &frames)? {
                tally.found += u64::from(frame.frame_len);
                if frame.payload_good {
                    packing.keep(frame)?;
                } else {
                    // A copy would have a good checksum over bad bytes.
                    tally.damaged = true;
                }
            }
        }
        Found::End => {
            let tally = tally.take().expect("a segment has begun");
            let Tally { ordinal, state, found, damaged } = tally;
            let later = mutant::is(Mutant::JudgeByTwoStates).then(|| index.view()).transpose()?;
            let live = index.live_bytes(later.as_ref().unwrap_or(&state), ordinal)?;
            if found == live && !damaged {
                packing.cover(ordinal);
            } else {
                tracing::warn!(ordinal, found, live, "a segment cannot be packed");
                left.push(ordinal);
            }
        }
        Found::Lost(ordinal, error) => {
            tracing::warn!(%error, "a segment cannot be packed");
            *tally = None;
            left.push(ordinal);
        }
        Found::All => unreachable!("the caller has looked"),
    }
    Ok(())
}

/// The frames that a state of the index knows.
fn needed<'a>(
    index: &Index,
    state: &View,
    frames: &'a [Candidate],
) -> Result<Vec<&'a Candidate>, IndexError> {
    let (known, payloads): (Vec<_>, Vec<_>) = frames.iter().filter_map(payload_of).unzip();
    let births = index.births(state, &payloads)?;
    // What is not where its record says may have been moved, or others may hold it.
    let lsns: Vec<_> = known.iter().map(|frame| frame.lsn).collect();
    let moved = index.moved(state, &lsns)?;
    let mut shared = index.shared(state, &lsns)?;
    if mutant::is(Mutant::PackUnshared) {
        shared.fill(false);
    }
    let elsewhere = moved.into_iter().zip(shared).map(|(moved, shared)| moved || shared);
    let looked_up = known.into_iter().zip(births).zip(elsewhere);
    let is_needed = |((frame, birth), moved): ((&'a Candidate, Option<Lsn>), bool)| {
        (birth == Some(frame.lsn) || moved).then_some(frame)
    };
    Ok(looked_up.filter_map(is_needed).collect())
}

/// Where the index would know a frame, if its payload is needed: as its record says.
fn payload_of(frame: &Candidate) -> Option<(&Candidate, PayloadOf)> {
    let payload = match Record::decode(frame.kind, &frame.record).ok()? {
        Record::Sent { queue, place, .. } => PayloadOf::Message(queue, place),
        Record::Moved { to, place, .. } => PayloadOf::Message(to, place),
        Record::Scheduled { queue, place, .. } => PayloadOf::Message(queue, place),
        Record::Published(it) => {
            let Target { queue, seq, .. } = *it.targets.first()?;
            PayloadOf::Message(queue, Place { rank: it.rank, seq })
        }
        Record::Occurred(it) => PayloadOf::Message(it.queue, it.place),
        Record::Piece { upload, number, .. } => PayloadOf::Piece(upload, number),
        Record::Staged(staged) => PayloadOf::Staged(staged.transaction, staged.number),
        Record::Branch(BranchRecord::Kept(kept)) => {
            PayloadOf::Staged(kept.transaction, kept.number)
        }
        _ => return None,
    };
    Some((frame, payload))
}

fn ended(result: Result<Compacted, Trouble>) -> Input {
    match result {
        Ok(compacted) => Input::Compacted(Some(compacted)),
        Err(Trouble::Now(error)) => {
            // Nothing in use was touched; the next checkpoint has it tried again.
            tracing::warn!(%error, "compaction was given up; it is tried again later");
            Input::Compacted(None)
        }
        Err(Trouble::Fatal(error)) => Input::Failed(error),
    }
}
