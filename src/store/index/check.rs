//! A full check of the index, for `store verify`: every page, every row, and what rows say of
//! each other.

use std::collections::BTreeMap;

use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use super::error::{error, guarded};
use super::row::{self, ENTRIES};
use super::{Index, IndexError, State, UNPOISONED, read_base};
use crate::ids::QueueId;

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
    let depths = check_entries(database, &mut report, progress)?;
    for (id, queue) in &base.queues {
        let (depth, last_seq) = depths.get(id).copied().unwrap_or_default();
        if depth != queue.depth {
            report.problem(format!("{id} says {} messages and has {depth}", queue.depth));
        }
        if last_seq > queue.last_seq {
            report.problem(format!("{id} gave {} last and has {last_seq}", queue.last_seq));
        }
    }
    super::pieces::check(database, &mut |problem| report.problem(problem))?;
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
fn check_entries(
    database: &Database,
    report: &mut Report,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<BTreeMap<QueueId, (u64, u64)>, IndexError> {
    let mut depths: BTreeMap<QueueId, (u64, u64)> = BTreeMap::new();
    let entries = database.begin_read().map_err(error)?.open_table(ENTRIES).map_err(error)?;
    let total = entries.len().map_err(error)?;
    for found in entries.iter().map_err(error)? {
        let (key, value) = found.map_err(error)?;
        let key = key.value();
        if row::decode_entry(key, value.value()).is_err() {
            report.problem(format!("the entry {key:?} does not hold what it should"));
        }
        let depth = depths.entry(QueueId(key.0)).or_default();
        *depth = (depth.0 + 1, depth.1.max(key.2));
        report.entries += 1;
        if report.entries.is_multiple_of(PROGRESS_ROWS) {
            progress(report.entries, total);
        }
    }
    progress(report.entries, total);
    Ok(depths)
}
