//! What a repair would lose, as far as anyone can read it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::ops::ControlFlow;

use super::{LogPlan, Plan, by_queue, file_of, names_of};
use crate::cli::store::describe::Names;
use crate::cli::store::{CliError, Looked, Ticker, needed, pieces_of};
use crate::ids::{Lsn, QueueId};
use crate::record::{Gone, Record};
use crate::wal::{self, Item, Peek};

/// Rows of the index read at once.
const PAGE_ROWS: usize = 4096;

/// What the part of the log says that will not count any more.
#[derive(Default)]
struct Tail {
    records: u64,
    places: u64,
    /// Messages born there, and not gone again.
    born: BTreeMap<Lsn, QueueId>,
    /// Messages from before that went there: they come back.
    back: BTreeMap<QueueId, u64>,
}

impl Tail {
    fn record(&mut self, lsn: Lsn, record: &Record) {
        self.records += 1;
        match record {
            Record::Sent { queue, .. } | Record::Scheduled { queue, .. } => {
                self.born.insert(lsn, *queue);
            }
            Record::Published(it) => {
                self.born.extend(it.targets.first().map(|target| (lsn, target.queue)));
            }
            Record::Removed { queue, gone, .. } => {
                gone.iter().for_each(|gone| self.gone(*queue, gone));
            }
            Record::Moved { from, gone, to, .. } => {
                self.gone(*from, gone);
                self.born.insert(lsn, *to);
            }
            Record::Transferred { to, entries, .. } | Record::DeadLettered { to, entries, .. } => {
                for (_, entry) in entries {
                    if let Some(queue) = self.born.get_mut(&entry.birth) {
                        *queue = *to;
                    }
                }
            }
            _ => {}
        }
    }

    fn gone(&mut self, queue: QueueId, gone: &Gone) {
        if self.born.remove(&gone.birth).is_none() {
            *self.back.entry(queue).or_default() += 1;
        }
    }
}

/// The losses of a plan, a line each.
pub(super) fn tell(
    store: &Looked,
    peek: &Peek,
    plan: &Plan,
    ticker: &mut Ticker,
) -> Result<String, CliError> {
    let mut names = names_of(plan.index.as_ref().map(|(_, base)| base));
    let mut text = String::new();
    if let Some(from) = plan.log.lost_from() {
        let tail = read_tail(store, plan, from, &mut names, ticker)?;
        tell_tail(&mut text, peek, plan.log, &tail, &names)?;
    }
    let live = plan.index.as_ref().map(|(_, base)| &base.live);
    let lost: BTreeSet<u64> = plan.stand_ins.iter().map(|faulty| faulty.ordinal).collect();
    let lost: BTreeSet<u64> =
        lost.into_iter().filter(|ordinal| live.is_some_and(|l| l.contains_key(ordinal))).collect();
    if !lost.is_empty() {
        let of_pack = |ordinal: &u64| plan.lost_packs.values().any(|lost| lost.contains(ordinal));
        let alone = plan.stand_ins.iter().filter(|faulty| !of_pack(&faulty.ordinal));
        let packs = plan.lost_packs.keys().map(|id| wal::names::pack(*id));
        let files: Vec<String> = alone.map(wal::Faulty::file).chain(packs).collect();
        let counts = count_births(plan, &lost, peek.identity().segment_size, ticker)?;
        let (files, counts) = (files.join(", "), by_queue(&counts, &names));
        writeln!(text, "  the content of messages that lie in {files}: {counts};")?;
        writeln!(text, "    each moves to {} when its turn comes", crate::limits::DAMAGED_QUEUE)?;
    }
    if plan.index.is_none() {
        text.push_str("  nothing of the index: it is made again from the log\n");
    }
    text.push_str("every message of the repaired store will be flagged as redelivered\n");
    Ok(text)
}

fn tell_tail(
    text: &mut String,
    peek: &Peek,
    log: LogPlan,
    tail: &Tail,
    names: &Names,
) -> Result<(), CliError> {
    let size = peek.identity().segment_size;
    match log {
        LogPlan::Whole { .. } => {}
        LogPlan::Cut { end } => {
            let (file, offset) = (file_of(peek, (end.0 - 1) / size), (end.0 - 1) % size + 1);
            writeln!(text, "  the log from {file} at offset {offset} on (Lsn {end})")?;
        }
        LogPlan::PayloadsOnly { through } => {
            writeln!(text, "  the log after what the index has, which ends at Lsn {through}")?;
        }
    }
    let mut born: BTreeMap<QueueId, u64> = BTreeMap::new();
    tail.born.values().for_each(|queue| *born.entry(*queue).or_default() += 1);
    let Tail { records, places, back, .. } = tail;
    writeln!(text, "  there, {records} records can be read, and {places} places cannot")?;
    writeln!(text, "  messages sent there and not gone: {}", by_queue(&born, names))?;
    writeln!(text, "  messages gone there, which come back: {}", by_queue(back, names))?;
    if *places > 0 {
        text.push_str("  what the places say that cannot be read is not known\n");
    }
    Ok(())
}

fn read_tail(
    store: &Looked,
    plan: &Plan,
    from: Lsn,
    names: &mut Names,
    ticker: &mut Ticker,
) -> Result<Tail, CliError> {
    let mut tail = Tail::default();
    let progress = &mut |progress: wal::Progress| {
        let (done, total) = (progress.done >> 20, progress.total >> 20);
        ticker.tick(|| format!("what would be lost: {done} of {total} MiB"));
    };
    let visit = &mut |item: Item<'_>| {
        match item {
            Item::Frame { lsn, kind, record, .. } => match Record::decode(kind, record) {
                Ok(record) => {
                    if let Record::QueueCreated { queue, name, .. } = &record {
                        names.insert(*queue, name.clone());
                    }
                    if lsn >= from {
                        tail.record(lsn, &record);
                    }
                }
                Err(_) if lsn >= from => tail.places += 1,
                Err(_) => {}
            },
            // What is damaged before the cut is only payloads.
            Item::Problem(wal::Finding::Damaged(_)) => {}
            Item::Problem(_) => tail.places += 1,
            _ => {}
        }
        ControlFlow::Continue(())
    };
    let needed = plan.index.as_ref().map(|(_, base)| needed(base));
    wal::survey(&store.storage, needed.as_ref(), progress, visit)?;
    Ok(tail)
}

/// Messages of the index of which something lies in these segments, by queue.
fn count_births(
    plan: &Plan,
    ordinals: &BTreeSet<u64>,
    segment_size: u64,
    ticker: &mut Ticker,
) -> Result<BTreeMap<QueueId, u64>, CliError> {
    let mut counts = BTreeMap::new();
    let Some((index, base)) = &plan.index else { return Ok(counts) };
    let mut done = 0_u64;
    for id in base.queues.keys() {
        let mut after = None;
        loop {
            let page = index.page(*id, after, PAGE_ROWS)?;
            for (_, entry) in &page {
                let mut lost = ordinals.contains(&(entry.birth.0 / segment_size));
                if let Some(body) = entry.upload {
                    pieces_of(index, body.upload(), &mut |_, piece| {
                        lost |= ordinals.contains(&(piece.birth.0 / segment_size));
                    })?;
                }
                if lost {
                    *counts.entry(*id).or_default() += 1;
                }
            }
            done += page.len() as u64;
            ticker.tick(|| format!("index: {done} messages"));
            match page.last() {
                Some((place, _)) => after = Some(*place),
                None => break,
            }
        }
    }
    Ok(counts)
}
