//! The repaired store, in a directory of its own.
//!
//! Owns the order: copies of what counts, under an identity that makes no store yet; a claim, and
//! a replay that ends where the plan says; a seal, which says so for ever; and last the name that
//! makes it a store. Whatever ends it before leaves a directory that no broker takes.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use super::{DELTA_CHANGES_MAX, LogPlan, Plan, broker_of};
use crate::backup::Place;
use crate::broker::{Broker, Written};
use crate::cli::print;
use crate::cli::store::{CliError, INDEX_CACHE_BYTES, Looked, Ticker, freeze};
use crate::ids::Millis;
use crate::io::alias::AliasStorage;
use crate::io::real::SystemClock;
use crate::io::{Clock, Storage};
use crate::record::Record;
use crate::store::index::{Base, Index};
use crate::wal::format::{Identity, Origin};
use crate::wal::{self, Claim, Opened, PackId, Peek, ReplayPoint, names};

const PIECE_BYTES: u64 = 1 << 20;

pub(super) fn make(
    store: &Looked,
    peek: &Peek,
    plan: &Plan,
    dir: &Path,
    into: &Path,
    ticker: &mut Ticker,
) -> Result<ExitCode, CliError> {
    let target = Place::make(into, dir)?.storage();
    let (id, nonce) = (random()?, random()?);
    let Identity { store: from, segment_size } = peek.identity();
    let identity = Identity { store: id, segment_size };
    small(&*target, names::IDENTITY_UNFINISHED, &identity.encode())?;
    let origin = Origin { store: id, epoch: peek.epoch(), from };
    copy(store, peek, plan, &*target, nonce, ticker)?;
    let name = wal::origin_name(peek.epoch());
    if peek.small_files().contains(&name) {
        // Nothing was written under the id that it was to have.
        target.remove(&name)?;
        small(&*target, &name, &Origin { from: peek.wrote_last(), ..origin }.encode())?;
    } else {
        small(&*target, &name, &origin.encode())?;
    }
    let seen = AliasStorage::new(Arc::clone(&target), names::IDENTITY, names::IDENTITY_UNFINISHED);
    let seen: Arc<dyn Storage> = Arc::new(seen);
    let (index, base) = index(plan, &seen, from, id)?;
    let options = wal::Options { segment_size, ..wal::Options::default() };
    let claim = wal::claim(Arc::clone(&seen), options, nonce)?;
    let at = SystemClock::new().wall();
    replay(plan, claim, &index, &base, segment_size, at, ticker)?;
    drop(index);
    target.sync_dir()?;
    target.rename(names::IDENTITY_UNFINISHED, names::IDENTITY)?;
    target.sync_dir()?;
    let (dir, into) = (dir.display(), into.display());
    print(&format!(
        "repaired store in {into}, with the new id {id:032x}; {dir} is as it was: keep it until \
         you are sure\n"
    ))
}

fn random() -> Result<u128, CliError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(u128::from_le_bytes(bytes))
}

fn small(target: &dyn Storage, name: &str, bytes: &[u8]) -> Result<(), CliError> {
    let file = target.create(name)?;
    file.write_at(bytes, 0)?;
    Ok(file.sync()?)
}

/// Copies what says what counts, the segments that go on counting, and stand-ins.
fn copy(
    store: &Looked,
    peek: &Peek,
    plan: &Plan,
    target: &dyn Storage,
    nonce: u128,
    ticker: &mut Ticker,
) -> Result<(), CliError> {
    let source = &*store.storage;
    for name in peek.small_files() {
        copy_file(source, target, &name, u64::MAX, &mut |_| {})?;
    }
    for faulty in &plan.stand_ins {
        let nonce = (nonce as u64).wrapping_add(faulty.ordinal);
        faulty.stand_in(source, target, nonce)?;
    }
    let packs: BTreeSet<PackId> =
        plan.index.iter().flat_map(|(_, base)| base.packs.values().copied()).collect();
    for id in packs.into_iter().filter(|id| !plan.lost_packs.contains_key(id)) {
        let name = names::pack(id);
        // Where it is gone, the segments that it stands for are there.
        if source.open(&name).is_ok() {
            copy_file(source, target, &name, u64::MAX, &mut |_| {})?;
        }
    }
    let size = peek.identity().segment_size;
    let replaced: BTreeSet<u64> = plan.stand_ins.iter().map(|faulty| faulty.ordinal).collect();
    let replay_from = plan.replay().map_or(0, |replay| replay.batch.0 / size);
    let end = match plan.log {
        LogPlan::Whole { end } | LogPlan::Cut { end } => Some(end),
        LogPlan::PayloadsOnly { .. } => None,
    };
    let live = |ordinal| plan.index.as_ref().is_some_and(|(_, b)| b.live.contains_key(&ordinal));
    for wal::Known { file, .. } in peek.segments() {
        let first = file.ordinal * size;
        let replayed = file.ordinal >= replay_from && end.is_some_and(|end| first < end.0);
        // The index knows positions in it, so its number must stay taken.
        let known = end.is_none() && file.ordinal == replay_from;
        if replaced.contains(&file.ordinal) || !(replayed || known || live(file.ordinal)) {
            continue;
        }
        let content = end.map_or(u64::MAX, |end| end.0.saturating_sub(first));
        copy_file(source, target, &file.name, content, &mut |done| {
            ticker.tick(|| format!("{}: {} MiB copied", file.name, done >> 20));
        })?;
    }
    Ok(())
}

/// Copies the first `content` bytes of a file; zeros follow to its length.
fn copy_file(
    source: &dyn Storage,
    target: &dyn Storage,
    name: &str,
    content: u64,
    copied: &mut dyn FnMut(u64),
) -> Result<(), CliError> {
    let (from, to) = (source.open(name)?, target.create(name)?);
    let size = from.size()?;
    let content = content.min(size);
    let mut at = 0;
    while at < content {
        let mut bytes = vec![0; (content - at).min(PIECE_BYTES) as usize];
        from.read_at(&mut bytes, at)?;
        to.write_at(&bytes, at)?;
        at += bytes.len() as u64;
        copied(at);
    }
    if content < size {
        to.set_size(size)?;
    }
    Ok(to.sync()?)
}

/// The index of the repaired store: a copy, or an empty one to be filled from the log.
fn index(
    plan: &Plan,
    target: &Arc<dyn Storage>,
    from: u128,
    id: u128,
) -> Result<(Index, Base), CliError> {
    if let Some((index, _)) = &plan.index {
        let mut copy = index.snapshot()?.copy(&**target, INDEX_CACHE_BYTES)?;
        while copy.step()? {}
        drop(copy);
        Index::give(&**target, from, id, INDEX_CACHE_BYTES)?;
    }
    let (index, base) = Index::open(Arc::clone(target), id, INDEX_CACHE_BYTES)?;
    let mut base = base.with_producers(&index)?;
    for ordinals in plan.lost_packs.values() {
        index.unpack(ordinals)?;
        base.packs.retain(|ordinal, _| !ordinals.contains(ordinal));
    }
    Ok((index, base))
}

/// Replays the log as far as it counts, and seals that.
fn replay(
    plan: &Plan,
    claim: Claim,
    index: &Index,
    base: &Base,
    segment_size: u64,
    at: Millis,
    ticker: &mut Ticker,
) -> Result<(), CliError> {
    let end = match plan.log {
        LogPlan::Whole { end } | LogPlan::Cut { end } => Some(end),
        LogPlan::PayloadsOnly { .. } => None,
    };
    let mut broker = broker_of(base, segment_size);
    let mut recovery = claim.recover_until(base.replay, end)?;
    let mut last = None;
    while let Some(found) = recovery.next()? {
        let record = Record::decode(found.kind, &found.record)?;
        broker.apply_record(Written { lsn: found.lsn, frame_len: found.frame_len }, &record)?;
        last = Some(ReplayPoint { batch: found.batch, through: found.lsn });
        if plan.index.is_none() && broker.delta_len() >= DELTA_CHANGES_MAX {
            commit(index, &mut broker, last.expect("just set"))?;
        }
        let (done, total) = (recovery.progress().done >> 20, recovery.progress().total >> 20);
        ticker.tick(|| format!("replay: {done} of {total} MiB"));
    }
    let opened = recovery.finish(&broker.live(), &base.packs)?;
    match (plan.log, last) {
        (LogPlan::PayloadsOnly { .. }, _) => begin_anew(&opened, index, &mut broker, at),
        (_, Some(last)) if plan.index.is_none() => commit(index, &mut broker, last),
        _ => Ok(()),
    }
}

fn commit(index: &Index, broker: &mut Broker, replay: ReplayPoint) -> Result<(), CliError> {
    let delta = freeze(broker, replay.through);
    broker.unshared(index.commit(&delta, replay)?);
    broker.install();
    Ok(())
}

/// Gives the index a place in the new log from which replay can go on.
fn begin_anew(
    opened: &Opened,
    index: &Index,
    broker: &mut Broker,
    at: Millis,
) -> Result<(), CliError> {
    let record = Record::Restored { at };
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    let log = &opened.log;
    let appended = log.append(record.kind(), &bytes, &[]);
    log.submit();
    let mut group = log.take().ok_or("the new log takes nothing")?;
    let written = group.write().and_then(|()| group.sync());
    log.complete(group, written)?;
    let written = Written { lsn: appended.lsn, frame_len: appended.frame_len };
    broker.apply_record(written, &record)?;
    commit(index, broker, ReplayPoint { batch: appended.batch, through: appended.lsn })
}
