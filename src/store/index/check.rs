//! A full check of the index, for `store verify`: every page, every row, and what rows say of
//! each other.

use std::collections::{BTreeMap, BTreeSet};

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use super::error::{error, guarded};
use super::row::{self, ENTRIES, MOVED, OPERATIONS, SHARES};
use super::{Index, IndexError, State, UNPOISONED, pieces, read_base};
use crate::broker::delta::{Operation, UploadRow};
use crate::ids::{Body, Lsn, QueueId, UploadId};

/// Rows between two calls of the progress function.
const PROGRESS_ROWS: u64 = 64 * 1024;
/// Problems that are named one by one; the rest is counted.
const PROBLEMS_MAX: usize = 100;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Entries looked at.
    pub entries: u64,
    /// Queues looked at.
    pub queues: u64,
    /// What is wrong, in words; none if the index is sound. The first hundred are named.
    pub problems: Vec<String>,
    /// How many more there are.
    pub further_problems: u64,
}

impl Report {
    fn problem(&mut self, problem: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        } else {
            self.further_problems += 1;
        }
    }
}

impl Index {
    /// Reads and checks everything, telling `progress` now and then how many of how many entries
    /// are done. Other calls wait meanwhile.
    ///
    /// # Errors
    /// Where the damage is such that there is nothing to report on.
    pub fn check(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<Report, IndexError> {
        drop(self.database()?);
        let mut state = self.state.write().expect(UNPOISONED);
        let State::Open(handle) = &mut *state else {
            return Err(IndexError::Failed);
        };
        let result = guarded(|| check(handle.get(), self.store_id, progress));
        if result.is_err() {
            *state = State::Failed;
        }
        result
    }
}

fn check(
    database: &mut Database,
    store_id: u128,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, IndexError> {
    let mut report = Report::default();
    if !database.check_integrity().map_err(error)? {
        report.problem("the pages of the file were not in order, and were mended".into());
    }
    let (_, base) = read_base(database, store_id)?;
    report.queues = base.queues.len() as u64;
    let (depths, Owned { mut alone, several }) = check_entries(database, &mut report, progress)?;
    for (id, queue) in &base.queues {
        let (depth, last_seq) = depths.get(id).copied().unwrap_or_default();
        if depth != queue.depth {
            report.problem(format!("{id} says {} messages and has {depth}", queue.depth));
        }
        if last_seq > queue.last_seq {
            report.problem(format!("{id} gave {} last and has {last_seq}", queue.last_seq));
        }
    }
    check_operations(database, &mut alone, &mut report)?;
    check_bodies(&several, &base.uploads, &mut report);
    let owned = alone.into_iter().chain(several.into_keys()).collect();
    pieces::check(database, &owned, &base.uploads, &mut |problem| report.problem(problem))?;
    super::producers::check(database, &mut |problem| report.problem(problem))?;
    super::late::check(database, &mut |problem| report.problem(problem))?;
    for ordinal in base.packs.keys().filter(|ordinal| !base.live.contains_key(ordinal)) {
        report.problem(format!("segment {ordinal} has no live bytes, and lies in a pack"));
    }
    for id in depths.keys().filter(|id| !base.queues.contains_key(id)) {
        report.problem(format!("there are messages of {id}, which does not exist"));
    }
    Ok(report)
}

/// Per queue: how many entries, and the largest sequence number.
type Depths = BTreeMap<QueueId, (u64, u64)>;

/// The large bodies that entries name.
#[derive(Default)]
struct Owned {
    /// Of one message.
    alone: BTreeSet<UploadId>,
    /// Of publications, with how many entries name them.
    several: BTreeMap<UploadId, u64>,
}

impl Owned {
    /// Another entry names a body; false where that is another's alone.
    fn take(&mut self, upload: UploadId, shared: bool) -> bool {
        if shared {
            *self.several.entry(upload).or_default() += 1;
            return !self.alone.contains(&upload);
        }
        !self.several.contains_key(&upload) && self.alone.insert(upload)
    }
}

/// Compares how many entries are said to name each body of a publication with how many do.
fn check_bodies(
    several: &BTreeMap<UploadId, u64>,
    said: &BTreeMap<UploadId, UploadRow>,
    report: &mut Report,
) {
    let holders = |row: &UploadRow| match row {
        UploadRow::Shared { holders } => Some(*holders),
        UploadRow::Open { .. } | UploadRow::Dead { .. } => None,
    };
    let said: BTreeMap<_, _> =
        said.iter().filter_map(|(upload, row)| Some((*upload, holders(row)?))).collect();
    let all: BTreeSet<_> = said.keys().chain(several.keys()).copied().collect();
    for upload in all {
        let (says, has) = (said.get(&upload), several.get(&upload).copied().unwrap_or_default());
        if says != Some(&has) {
            report.problem(format!("{has} messages have the body {upload}, and not {says:?}"));
        }
    }
}

/// Looks at every entry; also tells which large bodies they own. Memory follows the messages that
/// were moved, publications and those with large bodies.
fn check_entries(
    database: &Database,
    report: &mut Report,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(Depths, Owned), IndexError> {
    let (mut depths, mut owned) = (Depths::new(), Owned::default());
    let read = database.begin_read().map_err(error)?;
    let mut moved = BTreeSet::new();
    for found in read.open_table(MOVED).map_err(error)?.iter().map_err(error)? {
        moved.insert(Lsn(found.map_err(error)?.0.value()));
    }
    let mut shares = shares_in(&read)?;
    let entries = read.open_table(ENTRIES).map_err(error)?;
    let total = entries.len().map_err(error)?;
    for found in entries.iter().map_err(error)? {
        let (key, value) = found.map_err(error)?;
        let key = key.value();
        match row::decode_entry(key, value.value()) {
            Ok(entry) => {
                moved.remove(&entry.birth);
                if entry.shared {
                    *shares.entry(entry.birth).or_default() -= 1;
                }
                let upload = entry.upload.map(Body::upload);
                if let Some(upload) = upload.filter(|upload| !owned.take(*upload, entry.shared)) {
                    report.problem(format!("two messages have the body {upload}"));
                }
            }
            Err(_) => report.problem(format!("the entry {key:?} does not hold what it should")),
        }
        let depth = depths.entry(QueueId(key.0)).or_default();
        *depth = (depth.0 + 1, depth.1.max(key.2));
        report.entries += 1;
        if report.entries.is_multiple_of(PROGRESS_ROWS) {
            progress(report.entries, total);
        }
    }
    progress(report.entries, total);
    for birth in moved {
        report.problem(format!("the message born at {birth} was moved, and is in no queue"));
    }
    for (birth, left) in shares.into_iter().filter(|(_, left)| *left != 0) {
        report.problem(format!("{left} more hold the publication born at {birth} than there are"));
    }
    Ok((depths, owned))
}

/// How many are said to hold each publication.
fn shares_in(read: &ReadTransaction) -> Result<BTreeMap<Lsn, i64>, IndexError> {
    let mut shares = BTreeMap::new();
    for found in read.open_table(SHARES).map_err(error)?.iter().map_err(error)? {
        let (birth, share) = found.map_err(error)?;
        let share = super::shares::decode(birth.value(), share.value())?;
        shares.insert(Lsn(birth.value()), share.holders);
    }
    Ok(shares)
}

/// A message that a transaction sends owns its body before it is in a queue.
fn check_operations(
    database: &Database,
    owned: &mut BTreeSet<UploadId>,
    report: &mut Report,
) -> Result<(), IndexError> {
    let read = database.begin_read().map_err(error)?;
    for found in read.open_table(OPERATIONS).map_err(error)?.iter().map_err(error)? {
        let (key, value) = found.map_err(error)?;
        let key = key.value();
        match row::decode(&row::operation_key_bytes(key), value.value()) {
            Ok(Operation::Send { entry, .. }) => {
                if let Some(upload) =
                    entry.upload.map(Body::upload).filter(|upload| !owned.insert(*upload))
                {
                    report.problem(format!("two messages have the body {upload}"));
                }
            }
            Ok(Operation::Take { .. } | Operation::Keep { .. }) => {}
            Err(_) => report.problem(format!("the operation {key:?} does not hold what it should")),
        }
    }
    Ok(())
}
