//! Compaction, step by step: reads the segments of a plan, asks the index which of their frames
//! are needed, has those packed, and tells the index where they lie now.
//!
//! Always: a segment is given up only for a pack that is durable and that the index durably knows;
//! only where all live bytes that the index counts for it were found, so that a frame whose kind
//! this part does not understand keeps its segment as it is; and only by an owner that has looked
//! for a later claim in between. Where messages are not found at the places that their records
//! name, because they were transferred to other queues, the whole index is searched for them. Whatever a crash leaves, one of the two is whole.
//! Runs beside the engine, one bounded step after the other; the thread that runs it adds the
//! waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::broker::delta::PayloadOf;
use crate::engine::kept::Compacted;
use crate::engine::{Input, StopError};
use crate::mutant::{self, Mutant};
use crate::record::Record;
use crate::store::index::{CommitError, Index, IndexError, Row, Snapshot};
use crate::wal::{Candidate, Fence, Found, Log, Made, Packer, Packing};

/// Rows of the index that one step of a search looks at, and what that is taken to cost in bytes.
const SEARCH_ROWS: usize = 8192;
const SEARCH_BYTES: u64 = 1 << 20;

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
    /// Segments of which messages have strayed: they are no longer where their records say, but
    /// were transferred to other queues.
    pub(crate) strayed: BTreeSet<u64>,
}

/// How far a plan has come.
#[derive(Debug)]
pub(crate) enum Work {
    /// A state of the index is searched for messages that have strayed, from this row on.
    Searching(Box<Plan>, Option<(Snapshot, Row)>),
    Packing(Box<Plan>),
    /// The pack is durable, and nobody knows of it.
    Made {
        made: Made,
        left: Vec<u64>,
    },
}

/// A plan that is being carried out.
#[derive(Debug)]
pub(crate) struct Plan {
    packing: Packing,
    /// While a segment is read.
    tally: Option<Tally>,
    left: Vec<u64>,
    /// Segments of the plan of which messages have strayed, with the live bytes that they had when
    /// the index was searched.
    strayed: BTreeMap<u64, u64>,
    /// The births of all their messages then, ascending.
    births: Vec<Lsn>,
}

/// What was found of the segment that is being read, by one state of the index.
#[derive(Debug)]
pub(crate) struct Tally {
    ordinal: u64,
    index: Snapshot,
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
        let strayed = ordinals.iter().filter(|ordinal| self.strayed.contains(ordinal));
        let strayed = strayed.map(|ordinal| (*ordinal, 0)).collect();
        match self.packer.begin(ordinals) {
            Ok(packing) => {
                let (tally, left, births) = (None, Vec::new(), Vec::new());
                let plan = Box::new(Plan { packing, tally, left, strayed, births });
                self.work = Some(match plan.strayed.is_empty() {
                    true => Work::Packing(plan),
                    false => Work::Searching(plan, None),
                });
                CompactStep::Worked(0)
            }
            Err(error) => CompactStep::Done(ended(Err(error.into()))),
        }
    }

    /// Does one piece of work.
    pub fn step(&mut self) -> CompactStep {
        match self.work.take() {
            None => CompactStep::Idle,
            Some(Work::Searching(plan, after)) => self.search(plan, after),
            Some(Work::Packing(plan)) => self.pack(plan),
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
            Some(Work::Searching(plan, _) | Work::Packing(plan)) => plan.packing.give_up(),
            // Best effort: a leftover is swept by the next owner.
            Some(Work::Made { made, .. }) => drop(self.packer.discard(made.id)),
            None => {}
        }
    }

    fn search(&mut self, mut plan: Box<Plan>, from: Option<(Snapshot, Row)>) -> CompactStep {
        match plan.search(&self.index, self.packer.segment_size, from) {
            Ok(Some(next)) => self.work = Some(Work::Searching(plan, Some(next))),
            Ok(None) => {
                plan.births.sort_unstable();
                self.work = Some(Work::Packing(plan));
            }
            Err(error) => {
                plan.packing.give_up();
                return CompactStep::Done(ended(Err(error.into())));
            }
        }
        CompactStep::Worked(SEARCH_BYTES)
    }

    fn pack(&mut self, mut plan: Box<Plan>) -> CompactStep {
        let found = match plan.packing.read() {
            Found::All => return self.finish(plan.packing, plan.left),
            found => found,
        };
        match plan.take(&self.index, &mut self.strayed, found) {
            Ok(()) => {
                let bytes = plan.packing.take_bytes();
                self.work = Some(Work::Packing(plan));
                CompactStep::Worked(bytes)
            }
            Err(trouble) => {
                plan.packing.give_up();
                CompactStep::Done(ended(Err(trouble)))
            }
        }
    }

    fn finish(&mut self, packing: Packing, left: Vec<u64>) -> CompactStep {
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
    tally: &mut Tally,
    left: &mut Vec<u64>,
    found: Found,
) -> Result<(), Trouble> {
    match found {
        Found::Begin(ordinal) => {
            let before = index.live_bytes(ordinal)?;
            *tally = Tally { ordinal, before, ..Tally::default() };
        }
        Found::Frames(frames) => {
            let known: Vec<_> = frames.iter().filter_map(payload_of).collect();
            let births =
                index.births(&known.iter().map(|(_, payload)| *payload).collect::<Vec<_>>())?;
            // What is not where its record says may have been moved.
            let lsns: Vec<_> = known.iter().map(|(frame, _)| frame.lsn).collect();
            let moved = index.moved(&lsns)?;
            for (((frame, _), birth), moved) in known.into_iter().zip(births).zip(moved) {
                if birth != Some(frame.lsn) && !moved {
                    continue;
                }
                tally.found += u64::from(frame.frame_len);
                if frame.payload_good {
                    packing.keep(frame)?;
                } else {
                    // A copy would have a good checksum over bad bytes.
                    tally.damaged = true;
                }
                (snapshot, None)
            }
        };
        let segments = self.strayed.keys().copied().collect();
        let within = (&segments, segment_size);
        let (births, next) = index.births_in(&snapshot, within, after, SEARCH_ROWS)?;
        self.births.extend(births);
        Ok(next.map(|row| (snapshot, row)))
    }

    /// Takes what was found of a source into the pack, as far as it is needed.
    fn take(
        &mut self,
        index: &Index,
        strayed: &mut BTreeSet<u64>,
        found: Found,
    ) -> Result<(), Trouble> {
        match found {
            // All of a segment is judged by one state of the index: what comes to stray meanwhile
            // was found, and cannot be hidden by what dies meanwhile.
            Found::Begin(ordinal) => {
                let index = index.snapshot()?;
                self.tally = Some(Tally { ordinal, index, found: 0, damaged: false });
            }
            Found::Frames(frames) => self.keep(index, &frames)?,
            Found::End => self.end(index, strayed)?,
            Found::Lost(ordinal, error) => {
                tracing::warn!(%error, "a segment cannot be packed");
                self.tally = None;
                self.left.push(ordinal);
            }
            Found::All => unreachable!("the caller has looked"),
        }
        Ok(())
    }

    fn keep(&mut self, index: &Index, frames: &[Candidate]) -> Result<(), Trouble> {
        let tally = self.tally.as_mut().expect("a segment has begun");
        let needed: Vec<&Candidate> = if self.strayed.contains_key(&tally.ordinal) {
            let known = |frame: &&Candidate| self.births.binary_search(&frame.lsn).is_ok();
            frames.iter().filter(known).collect()
        } else {
            in_place(index, &tally.index, frames)?
        };
        for frame in needed {
            tally.found += u64::from(frame.frame_len);
            if frame.payload_good {
                self.packing.keep(frame)?;
            } else {
                // A copy would have a good checksum over bad bytes.
                tally.damaged = true;
            }
        }
        Ok(())
    }

    /// The pack stands for a segment if all its live bytes were found. If some are missing the
    /// first time, they may have strayed: then they are searched for.
    fn end(&mut self, index: &Index, strayed: &mut BTreeSet<u64>) -> Result<(), Trouble> {
        let tally = self.tally.take().expect("a segment has begun");
        let Tally { ordinal, found, damaged, .. } = tally;
        let searched = self.strayed.get(&ordinal).copied();
        let live = match searched {
            Some(live) => live,
            None => index.live_bytes(&tally.index, ordinal)?,
        };
        if found == live && !damaged {
            self.packing.cover(ordinal);
        } else if found < live && !damaged && searched.is_none() {
            strayed.insert(ordinal);
        } else {
            tracing::warn!(ordinal, found, live, "a segment cannot be packed");
            self.left.push(ordinal);
        }
        Ok(())
    }
}

/// The frames whose messages are at the places that their records name.
fn in_place<'a>(
    index: &Index,
    snapshot: &Snapshot,
    frames: &'a [Candidate],
) -> Result<Vec<&'a Candidate>, IndexError> {
    let (named, places): (Vec<_>, Vec<_>) = frames.iter().filter_map(place_of).unzip();
    let births = index.births(snapshot, &places)?;
    let pairs = named.into_iter().zip(births);
    let known = |(frame, birth): (&'a Candidate, _)| (birth == Some(frame.lsn)).then_some(frame);
    Ok(pairs.filter_map(known).collect())
}

/// Where the index would know a frame, if its payload is needed: as its record says.
fn payload_of(frame: &Candidate) -> Option<(&Candidate, PayloadOf)> {
    let payload = match Record::decode(frame.kind, &frame.record).ok()? {
        Record::Sent { queue, place, .. } => PayloadOf::Message(queue, place),
        Record::Moved { to, place, .. } => PayloadOf::Message(to, place),
        Record::Piece { upload, number, .. } => PayloadOf::Piece(upload, number),
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
