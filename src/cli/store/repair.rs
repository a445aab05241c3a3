//! `escrowmq store repair`: what a start refuses, what would be lost by going on without it, and
//! a store that does.
//!
//! Owns the findings and the choice between the ways there are. Nothing in the damaged store is
//! ever changed: the repaired one is made in another directory (`make`), under an id of its own,
//! so a wrong decision costs nothing.
//!
//! - The log is cut before the first batch that cannot be replayed.
//! - Where not even the records that the index has are there, the log after it is left out.
//! - A segment that holds payloads alone and cannot be opened gets a stand-in: its messages are
//!   set apart when their turn comes.
//! - An index that is damaged or gone is made again from a log that is there from the beginning.

mod loss;
mod make;
mod tail;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use super::describe::Names;
use super::{CliError, Looked, Ticker, at, freeze, line_of, look, quietly};
use crate::broker::{self, Broker, Written};
use crate::cli::print;
use crate::ids::{Lsn, QueueId};
use crate::record::{Record, RecordError};
use crate::store::index::{Base, INDEX_NAME, Index, IndexError};
use crate::wal::{Faulty, Finding, PackId, Peek, Records, RecoveryError, ReplayPoint};

/// The exit code of a store that can be repaired and was not, because nobody said where.
const REPAIRABLE: u8 = 3;

/// Changes that are held in memory at once while a log is replayed.
const DELTA_CHANGES_MAX: usize = 100_000;

/// Segments that a broker makes ahead: so many may be missing between two owners and have never
/// been used.
const AHEAD_MAX: u64 = 2;

pub(in crate::cli) fn repair(dir: &Path, into: Option<&Path>) -> Result<ExitCode, CliError> {
    let store = look(dir)?;
    let stuck = |error: &dyn std::fmt::Display| -> CliError {
        format!(
            "{}: cannot be repaired: {error}\nrestore a backup; `escrowmq store dump` shows what \
             can be read",
            dir.display()
        )
        .into()
    };
    let peek = Peek::open(&store.storage).map_err(|error| stuck(&error))?;
    let mut ticker = Ticker::new();
    let plan = match diagnose(&store, &peek, &mut ticker)? {
        Diagnosis::Sound => {
            return print("nothing to repair: a start would not be refused\n");
        }
        Diagnosis::Stuck(why) => return Err(stuck(&why)),
        Diagnosis::Repairable(plan) => plan,
    };
    let lost = loss::tell(&store, &peek, &plan, &mut ticker)?;
    print(&plan.text(&lost))?;
    let Some(into) = into else {
        let dir = dir.display();
        print(&format!(
            "nothing was changed: `escrowmq store repair {dir} --into NEW` makes the repaired \
             store in the new directory NEW and leaves {dir} as it is\n"
        ))?;
        return Ok(ExitCode::from(REPAIRABLE));
    };
    make::make(&store, &peek, &plan, dir, into, &mut ticker)
}

enum Diagnosis {
    Sound,
    Repairable(Box<Plan>),
    Stuck(String),
}

/// How a store can go on.
struct Plan {
    /// Why a start is refused, line by line.
    found: Vec<String>,
    /// What the index has, where it is kept; it is made again otherwise.
    index: Option<(Arc<Index>, Base)>,
    log: LogPlan,
    stand_ins: Vec<Faulty>,
    /// Packs that cannot be opened, and the segments that they stood for.
    lost_packs: BTreeMap<PackId, Vec<u64>>,
    /// What cannot be known.
    doubts: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LogPlan {
    /// It is whole, to its end.
    Whole { end: Lsn },
    /// It counts up to here, the beginning of a batch.
    Cut { end: Lsn },
    /// It counts only for the payloads of what the index has, up to this record.
    PayloadsOnly { through: Lsn },
}

impl LogPlan {
    /// Records from here on do not count.
    fn lost_from(self) -> Option<Lsn> {
        match self {
            LogPlan::Whole { .. } => None,
            LogPlan::Cut { end } => Some(end),
            LogPlan::PayloadsOnly { through } => Some(Lsn(through.0 + 1)),
        }
    }
}

impl Plan {
    fn replay(&self) -> Option<ReplayPoint> {
        self.index.as_ref().and_then(|(_, base)| base.replay)
    }

    fn text(&self, lost: &str) -> String {
        let mut text = String::from("a start is refused:\n");
        let lines = |text: &mut String, lines: &[String]| {
            lines.iter().for_each(|line| *text += &format!("  {line}\n"));
        };
        lines(&mut text, &self.found);
        text.push_str("a repair would lose:\n");
        text.push_str(lost);
        if !self.doubts.is_empty() {
            text.push_str("what cannot be known:\n");
            lines(&mut text, &self.doubts);
        }
        text
    }
}

fn diagnose(store: &Looked, peek: &Peek, ticker: &mut Ticker) -> Result<Diagnosis, CliError> {
    let mut found = Vec::new();
    let index = match sound_index(store, peek, ticker) {
        Ok(index) => index,
        Err(IndexFault::Stuck(error)) => return Ok(Diagnosis::Stuck(error.to_string())),
        Err(IndexFault::Damaged(lines)) => {
            found = lines;
            None
        }
    };
    if index.is_none() && found.is_empty() {
        // Made before the first seal, so it is not there only where nothing ever was.
        if peek.epoch() == 0 {
            return Ok(Diagnosis::Sound);
        }
        found.push(format!("{INDEX_NAME}: it is missing"));
    }
    let mut doubts = Vec::new();
    if index.is_none() {
        match whole_log(peek) {
            Ok(more) => doubts = more,
            Err(why) => return Ok(Diagnosis::Stuck(why)),
        }
    }
    let empty = Base::default();
    let base = index.as_ref().map_or(&empty, |(_, base)| base);
    let (mut records, missing) = peek.records_there(base.replay);
    let replayed = replay(peek, &mut records, base, ticker);
    if let Some(newer) = replayed.newer {
        let what = "a newer version wrote it, and reads all of it: repair with that version";
        return Ok(Diagnosis::Stuck(format!("{newer}; {what}")));
    }
    let why = replayed.why.or(missing.map(unusable));
    found.extend(why.clone());
    let through = base.replay.map_or(Lsn(0), |replay| replay.through);
    let log = match (why, base.replay) {
        (None, _) => LogPlan::Whole { end: replayed.end },
        (Some(_), None) if replayed.records == 0 => {
            let why = "nothing of the log can be replayed, and there is no index";
            return Ok(Diagnosis::Stuck(format!("{}; {why}", found.join("; "))));
        }
        (Some(_), Some(_)) if replayed.end <= through => LogPlan::PayloadsOnly { through },
        (Some(_), _) => LogPlan::Cut { end: replayed.end },
    };
    let lost_packs = lost_packs(peek, base, &replayed.live, &mut found);
    let packed =
        |ordinal: &u64| base.packs.get(ordinal).is_some_and(|id| !lost_packs.contains_key(id));
    let stand_ins = stand_ins(peek, base, &replayed.live, &packed, log);
    let faults = stand_ins.iter().filter(|faulty| base.live.contains_key(&faulty.ordinal));
    let of_pack = |ordinal: &u64| lost_packs.values().any(|lost| lost.contains(ordinal));
    let faults = faults.filter(|faulty| !of_pack(&faulty.ordinal));
    let faults: Vec<String> = faults.map(|faulty| unusable_line(&faulty.error)).collect();
    for line in faults {
        if !found.contains(&line) {
            found.push(line);
        }
    }
    if found.is_empty() {
        return Ok(Diagnosis::Sound);
    }
    let plan = Plan { found, index, log, stand_ins, lost_packs, doubts };
    Ok(Diagnosis::Repairable(Box::new(plan)))
}

/// The packs that are needed and cannot be opened, with the segments that they stand for.
fn lost_packs(
    peek: &Peek,
    base: &Base,
    live: &BTreeMap<u64, u64>,
    found: &mut Vec<String>,
) -> BTreeMap<PackId, Vec<u64>> {
    let mut lost = BTreeMap::new();
    let needed = base.packs.iter().filter(|(ordinal, _)| live.contains_key(ordinal));
    let ids: BTreeSet<PackId> = needed.map(|(_, id)| *id).collect();
    for (id, error) in peek.faulty_packs(ids.into_iter()) {
        let stood_for = base.packs.iter().filter(|(_, pack)| **pack == id);
        let ordinals: Vec<u64> = stood_for.map(|(ordinal, _)| *ordinal).collect();
        // Where it is gone and all of these are still there, a start goes on with them.
        let there = peek.faulty(ordinals.iter().copied()).is_empty();
        if !(there && matches!(error, RecoveryError::MissingPack { .. })) {
            found.push(unusable_line(&error));
            lost.insert(id, ordinals);
        }
    }
    lost
}

/// The segments that go on counting and cannot be opened.
fn stand_ins(
    peek: &Peek,
    base: &Base,
    live: &BTreeMap<u64, u64>,
    packed: &dyn Fn(&u64) -> bool,
    log: LogPlan,
) -> Vec<Faulty> {
    let size = peek.identity().segment_size;
    let replay_from = base.replay.map_or(0, |replay| replay.batch.0 / size);
    let wanted: BTreeSet<u64> = match log {
        // The name of the last must not be given away again: the index knows positions in it.
        LogPlan::PayloadsOnly { through } => {
            let live = base.live.keys().copied().filter(|ordinal| !packed(ordinal));
            live.chain([replay_from, through.0 / size]).collect()
        }
        // The replay has read the later ones; what has died in it a start may have removed.
        LogPlan::Whole { .. } | LogPlan::Cut { .. } => {
            let before = |ordinal: &u64| *ordinal < replay_from && !packed(ordinal);
            live.keys().copied().filter(before).collect()
        }
    };
    peek.faulty(wanted.into_iter())
}

enum IndexFault {
    /// It can be made again from the log.
    Damaged(Vec<String>),
    /// It is not ours to touch.
    Stuck(IndexError),
}

/// The index, if every page and row of it is as it was written; `None` where there is none.
fn sound_index(
    store: &Looked,
    peek: &Peek,
    ticker: &mut Ticker,
) -> Result<Option<(Arc<Index>, Base)>, IndexFault> {
    let damaged = |error: IndexError| match error {
        error @ (IndexError::UnknownVersion { .. } | IndexError::Io(_) | IndexError::Full) => {
            IndexFault::Stuck(error)
        }
        error => IndexFault::Damaged(vec![format!("{INDEX_NAME}: {error}")]),
    };
    let Some((index, base)) = store.index(peek.identity().store).map_err(damaged)? else {
        return Ok(None);
    };
    let progress = &mut |done, total| ticker.tick(|| format!("index: {done} of {total} messages"));
    let report = quietly(|| index.check(progress)).map_err(damaged)?;
    if !report.problems.is_empty() {
        let line = |problem: &String| format!("{INDEX_NAME}: {problem}");
        return Err(IndexFault::Damaged(report.problems.iter().map(line).collect()));
    }
    Ok(Some((Arc::new(index), base)))
}

/// Whether the log is there from its beginning, so that it says all there is to know; what is in
/// doubt then, or why it is not.
fn whole_log(peek: &Peek) -> Result<Vec<String>, String> {
    let without = format!("{INDEX_NAME} is damaged or gone, and it cannot be made again: ");
    let segments = peek.segments();
    let Some(first) = segments.first() else {
        return Err(without + "there is no log");
    };
    let mut doubts = Vec::new();
    let (mut last, mut epoch) = (0, first.file.epoch);
    for known in &segments {
        let (ordinal, owner) = (known.file.ordinal, known.file.epoch);
        let gap = ordinal - last - 1;
        let (from, to) = (last + 1, ordinal - 1);
        if gap > 0 && (owner == epoch || gap > AHEAD_MAX) {
            return Err(format!(
                "{without}segments {from} to {to} of the log are gone. What was sent, and what was \
                 acknowledged, in them is known to the index alone"
            ));
        }
        if gap > 0 {
            doubts.push(format!(
                "segments {from} to {to} are not there. If they were made ahead and never used, as \
                 is usual, nothing is missing; if they were used and given back, messages that \
                 were acknowledged in them come back"
            ));
        }
        (last, epoch) = (ordinal, owner);
    }
    Ok(doubts)
}

/// How far a replay comes.
struct Replayed {
    /// The beginning of the first batch that does not count, or the end.
    end: Lsn,
    /// Why it does not.
    why: Option<String>,
    /// What it is there, where it is no damage: a record of a newer version.
    newer: Option<String>,
    records: u64,
    /// Live bytes per segment then.
    live: BTreeMap<u64, u64>,
}

/// Replays what a start would replay, keeping no more than a broker would.
fn replay(peek: &Peek, records: &mut Records, base: &Base, ticker: &mut Ticker) -> Replayed {
    let mut broker = broker_of(base, peek.identity().segment_size);
    let mut count = 0;
    loop {
        let progress = records.progress();
        let (done, total) = (progress.done >> 20, progress.total >> 20);
        ticker.tick(|| format!("log: {done} of {total} MiB"));
        let found = match records.next() {
            Ok(Some(found)) => found,
            Ok(None) => {
                let (end, live) = (records.end(), broker.live());
                return Replayed { end, why: None, newer: None, records: count, live };
            }
            Err(error) => {
                let (end, why, live) = (records.end(), Some(unusable(error)), broker.live());
                return Replayed { end, why, newer: None, records: count, live };
            }
        };
        let written = Written { lsn: found.lsn, frame_len: found.frame_len };
        let record = Record::decode(found.kind, &found.record);
        let newer = matches!(record, Err(RecordError::UnknownKind(_)));
        let applied = record.map_err(|error| error.to_string()).and_then(|record| {
            broker.apply_record(written, &record).map_err(|misfit| misfit.to_string())
        });
        if let Err(why) = applied {
            let why = Some(place(peek, found.lsn, &why));
            let newer = why.clone().filter(|_| newer);
            let (end, live) = (found.batch, broker.live());
            return Replayed { end, why, newer, records: count, live };
        }
        count += 1;
        if broker.delta_len() >= DELTA_CHANGES_MAX {
            freeze(&mut broker, found.lsn);
            broker.install();
        }
    }
}

fn broker_of(base: &Base, segment_size: u64) -> Broker {
    Broker::new(base.clone().into_durable(), broker::Limits::default(), segment_size)
}

/// A position as file and offset, with what is wrong there.
fn place(peek: &Peek, lsn: Lsn, what: &str) -> String {
    let size = peek.identity().segment_size;
    at(&file_of(peek, lsn.0 / size), lsn.0 % size, what)
}

fn file_of(peek: &Peek, ordinal: u64) -> String {
    let segments = peek.segments();
    let known = segments.into_iter().find(|known| known.file.ordinal == ordinal);
    known.map_or_else(|| format!("wal-*-{ordinal:016x}"), |known| known.file.name)
}

fn unusable(error: RecoveryError) -> String {
    unusable_line(&error)
}

/// What is wrong, without what a start advises.
fn unusable_line(error: &RecoveryError) -> String {
    match error {
        RecoveryError::Corrupt { file, offset, reason } => {
            line_of(&Finding::Corrupt { file: file.clone(), offset: *offset, reason: *reason })
        }
        RecoveryError::MissingSegment { file, .. } => format!("{file}: it is missing"),
        RecoveryError::ShortSegment { file, size } => {
            format!("{file}: it has {size} bytes, and they are not all")
        }
        RecoveryError::MissingPack { file } => format!("{file}: it is missing"),
        RecoveryError::ShortPack { file, size } => {
            format!("{file}: it has {size} bytes, and they are not all")
        }
        RecoveryError::NotASegment { file } => format!("{file}: it is no segment"),
        RecoveryError::BadHead { file } => format!("{file}: its head is damaged"),
        error => error.to_string(),
    }
}

/// The names of queues as the index has them.
fn names_of(base: Option<&Base>) -> Names {
    let queues = base.into_iter().flat_map(|base| &base.queues);
    queues.map(|(id, queue)| (*id, (&*queue.name).into())).collect()
}

/// Counts by queue, in words.
fn by_queue(counts: &BTreeMap<QueueId, u64>, names: &Names) -> String {
    let mut text = String::new();
    for (id, count) in counts {
        let name = names.get(id).map_or_else(|| id.to_string(), |n| n.escape_debug().to_string());
        let between = if text.is_empty() { "" } else { ", " };
        write!(text, "{between}{count} of {name}").expect("a string takes all");
    }
    if text.is_empty() { "none".to_owned() } else { text }
}
