//! What a repair would lose, as far as anyone can read it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::ops::ControlFlow;

use super::tail::Tail;
use super::{LogPlan, Plan, by_queue, file_of, names_of};
use crate::broker::delta::Resolution;
use crate::cli::store::describe::Names;
use crate::cli::store::{CliError, Looked, Ticker, needed, pieces_of};
use crate::ids::{Lsn, QueueId, Xid};
use crate::record::Record;
use crate::wal::{self, Item, Peek};

/// Rows of the index read at once.
const PAGE_ROWS: usize = 4096;

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
    let Tail { records, places, back, .. } = tail;
    writeln!(text, "  there, {records} records can be read, and {places} places cannot")?;
    writeln!(text, "  messages sent there and not gone: {}", by_queue(&tail.lost(), names))?;
    writeln!(text, "  messages gone there, which come back: {}", by_queue(back, names))?;
    let moved = tail.moved_back();
    if !moved.is_empty() {
        let moved = by_queue(&moved, names);
        writeln!(text, "  messages moved there, which are where they were: {moved}")?;
    }
    tell_queues(text, tail, names)?;
    tell_transactions(text, tail)?;
    if *places > 0 {
        text.push_str("  what the places say that cannot be read is not known\n");
    }
    Ok(())
}

fn tell_queues(text: &mut String, tail: &Tail, names: &Names) -> Result<(), CliError> {
    let name = |id: &QueueId| {
        names.get(id).map_or_else(|| id.to_string(), |name| name.escape_debug().to_string())
    };
    let list = |ids: &BTreeSet<QueueId>| ids.iter().map(name).collect::<Vec<_>>().join(", ");
    if !tail.begun.is_empty() {
        let begun = list(&tail.begun);
        writeln!(text, "  queues and durable subscriptions made there: {begun}")?;
    }
    if !tail.ended.is_empty() {
        let ended = list(&tail.ended);
        writeln!(text, "  queues and durable subscriptions gone there, which come back: {ended}")?;
    }
    Ok(())
}

fn tell_transactions(text: &mut String, tail: &Tail) -> Result<(), CliError> {
    let commits = tail.commits();
    if commits > 0 {
        writeln!(text, "  commits there, which have not happened then: {commits}")?;
    }
    if !tail.votes.is_empty() {
        let votes: Vec<_> = tail.votes.iter().map(Xid::to_string).collect();
        let votes = votes.join(", ");
        writeln!(text, "  votes there of branches, which are gone for their managers: {votes}")?;
    }
    if !tail.outcomes.is_empty() {
        let outcomes = tail.outcomes.iter().map(|(xid, resolution)| match resolution {
            Resolution::Commit => format!("{xid} (committed)"),
            Resolution::Rollback => format!("{xid} (rolled back)"),
        });
        let outcomes = outcomes.collect::<Vec<_>>().join(", ");
        writeln!(text, "  outcomes there of branches, which are prepared again: {outcomes}")?;
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
    let base = plan.index.as_ref().map(|(_, base)| base);
    let replay = base.and_then(|base| base.replay);
    let mut tail = Tail::new(base);
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
                        tail.record(&record);
                    } else if replay.is_none_or(|replay| lsn > replay.through) {
                        tail.before(&record);
                    }
                }
                Err(_) if lsn >= from => tail.places += 1,
                Err(_) => {}
            },
            // What is damaged before the cut is only payloads.
            Item::Problem(wal::Finding::Damaged(_) | wal::Finding::HeaderCopy { .. }) => {}
            Item::Problem(_) => tail.places += 1,
            _ => {}
        }
        ControlFlow::Continue(())
    };
    let needed = base.map(needed);
    wal::survey(&store.storage, needed.as_ref(), progress, visit)?;
    tail.end(plan.index.as_ref().map(|(index, _)| &**index))?;
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
