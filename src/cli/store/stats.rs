//! `escrowmq store stats`: what fills a store, and what keeps it from getting smaller.
//!
//! Owns the counting: the state that a start would come to, its messages by queue and by segment,
//! and what of each segment they leave over. Memory follows the number of queues and segments and
//! what lies in the log after the last checkpoint; messages are counted as their rows go by.

mod json;
mod show;
mod unsettled;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::ControlFlow;
use std::process::ExitCode;

use self::unsettled::Unsettled;
use super::{CliError, Looked, Ticker, freeze, needed, pieces_of, replayed};
use crate::backup::{MANIFEST_NAME, Manifest};
use crate::broker;
use crate::broker::delta::{Delta, Entry, PieceAt};
use crate::cli::print;
use crate::ids::{Body, Lsn, Millis, QueueId, UploadId};
use crate::io::Clock;
use crate::io::real::SystemClock;
use crate::store::index::{Base, Index};
use crate::wal::format::{BATCH_HEADER_BYTES, BLOCK_BYTES, frame_bytes};
use crate::wal::{self, Item, PackId, Peek, ReplayPoint};

/// Rows of the index read at once.
const PAGE_ROWS: usize = 4096;
/// Queues that are named for a segment.
const PINS_SHOWN: usize = 3;

pub(super) fn stats(store: &Looked, json: bool, quick: bool) -> Result<ExitCode, CliError> {
    let mut ticker = Ticker::new();
    let stats = gather(store, quick, &mut ticker)?;
    let now = SystemClock::new().wall();
    print(&if json { json::json(&stats) } else { show::table(&stats, now) })
}

/// Messages: how many, their bytes in the log, the oldest.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    messages: u64,
    bytes: u64,
    oldest: Option<(Millis, Lsn)>,
}

impl Tally {
    fn add(&mut self, entry: &Entry) {
        let this = Tally {
            messages: 1,
            bytes: u64::from(entry.size),
            oldest: Some((entry.at, entry.birth)),
        };
        self.merge(&this);
    }

    fn merge(&mut self, other: &Tally) {
        self.messages += other.messages;
        self.bytes += other.bytes;
        self.oldest = match (self.oldest, other.oldest) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
}

#[derive(Debug)]
struct QueueStats {
    name: Box<str>,
    tally: Tally,
    segments: u64,
}

/// Why a segment is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Messages lie in it, or what may come to be one.
    Messages,
    /// A start replays it.
    Replay,
    /// It was made ahead, for the log to go on.
    Ahead,
    /// It goes with the next start or checkpoint.
    Nothing,
}

/// A file in which messages lie: a segment, or a pack of what is left of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Home {
    Pack(PackId),
    Segment(u64),
}

#[derive(Debug)]
struct SegmentStats {
    epoch: u64,
    file: String,
    /// Bytes of the file.
    bytes: u64,
    /// Bytes from its start that the log has used, where that was asked for or is known.
    used: Option<u64>,
    /// Zeros between batches, where that was asked for.
    padding: Option<u64>,
    /// All that somebody needs, beside messages the pieces of bodies that are still arriving.
    live_bytes: u64,
    live: Tally,
    /// The queues with the most bytes in it.
    pins: Vec<(QueueId, Tally)>,
    /// Queues with messages in it.
    queues: u64,
    /// The queue of the oldest message in it.
    oldest: Option<QueueId>,
    /// What lies in it beside messages of queues.
    unsettled: Unsettled,
    need: Need,
}

impl SegmentStats {
    /// What was used and is neither live nor padding: records, batch headers, dead messages.
    fn dead(&self) -> Option<u64> {
        let other = self.live_bytes + self.padding? + BLOCK_BYTES as u64;
        Some(self.used?.saturating_sub(other))
    }

    fn unused(&self) -> Option<u64> {
        Some(self.bytes.saturating_sub(self.used?))
    }
}

#[derive(Debug)]
struct Stats {
    store: u128,
    segment_size: u64,
    epoch: u64,
    /// When it was made, if it is a backup.
    backup: Option<Millis>,
    /// The end of the log.
    end: Lsn,
    index_bytes: u64,
    segments: BTreeMap<Home, SegmentStats>,
    /// The segments whose messages lie in a pack.
    packed: BTreeMap<u64, PackId>,
    queues: BTreeMap<QueueId, QueueStats>,
    /// Damage met while the log was read.
    damages: u64,
    /// Branches of global transactions that wait for their managers, and those that an operator
    /// has decided.
    prepared: Vec<String>,
    decided: Vec<String>,
}

fn gather(store: &Looked, quick: bool, ticker: &mut Ticker) -> Result<Stats, CliError> {
    let refused = |error: &dyn std::fmt::Display| -> CliError {
        format!("{error}; `escrowmq store verify` shows all damage, `escrowmq store repair` a way")
            .into()
    };
    let peek = Peek::open(&store.storage).map_err(|error| refused(&error))?;
    let identity = peek.identity();
    let manifest = match store.storage.open(MANIFEST_NAME) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        _ => Some(Manifest::read(&*store.storage)?.at),
    };
    let opened = store.index(identity.store).map_err(|error| refused(&error))?;
    if opened.is_none() && peek.epoch() > 0 {
        return Err(refused(&"index.redb is missing"));
    }
    let mut stats = Stats {
        store: identity.store,
        segment_size: identity.segment_size,
        epoch: peek.epoch(),
        backup: manifest,
        end: Lsn(0),
        index_bytes: 0,
        segments: BTreeMap::new(),
        packed: BTreeMap::new(),
        queues: BTreeMap::new(),
        damages: 0,
        prepared: Vec::new(),
        decided: Vec::new(),
    };
    let Some((index, base)) = opened else { return Ok(stats) };
    stats.index_bytes = index.stats()?.file_bytes;
    let mut records = peek.records(base.replay).map_err(|error| refused(&error))?;
    let (mut broker, through) =
        replayed(&base, &mut records, identity.segment_size, ticker).map_err(|e| refused(&e))?;
    let delta = freeze(&mut broker, through);
    let mut branches = BTreeMap::new();
    for branch in broker.branches_after(None, usize::MAX) {
        branches.extend(branch.transaction.map(|id| (id, branch.xid.to_string())));
        let list = if branch.decided.is_some() { &mut stats.decided } else { &mut stats.prepared };
        list.push(branch.xid.to_string());
    }
    stats.end = records.end();
    stats.list_segments(&peek, base.replay);
    stats.list_packs(store, &base)?;
    count(&mut stats, &index, &base, &delta, ticker)?;
    unsettled::count(&mut stats, &index, &base, &delta, &branches)?;
    for (ordinal, bytes) in broker.live() {
        if let Some(segment) = stats.segments.get_mut(&stats.home(ordinal)) {
            segment.live_bytes += bytes;
            segment.need = Need::Messages;
        }
    }
    if !quick {
        read_segments(&mut stats, store, &base, ticker)?;
    }
    Ok(stats)
}

impl Stats {
    fn list_segments(&mut self, peek: &Peek, replay: Option<ReplayPoint>) {
        let replay_from = replay.map_or(0, |replay| replay.batch.0 / self.segment_size);
        let last = self.end.0.saturating_sub(1) / self.segment_size;
        for wal::Known { file, end } in peek.segments() {
            let ordinal = file.ordinal;
            let need = match ordinal {
                o if o > last && end.is_none() => Need::Ahead,
                o if o >= replay_from => Need::Replay,
                _ => Need::Nothing,
            };
            let known_end = match (end, need) {
                (None, Need::Ahead) => Some(BLOCK_BYTES as u64),
                (None, _) if ordinal == last => Some(self.end.0 - last * self.segment_size),
                (end, _) => end,
            };
            let segment = SegmentStats {
                epoch: file.epoch,
                file: file.name,
                bytes: self.segment_size,
                used: known_end,
                padding: None,
                live_bytes: 0,
                live: Tally::default(),
                pins: Vec::new(),
                queues: 0,
                oldest: None,
                unsettled: Unsettled::default(),
                need,
            };
            self.segments.insert(Home::Segment(ordinal), segment);
        }
    }

    /// The packs that the index names. What of one is not live is dead, its directory included.
    fn list_packs(&mut self, store: &Looked, base: &Base) -> Result<(), CliError> {
        for (ordinal, id) in &base.packs {
            let file = wal::names::pack(*id);
            let bytes = match store.storage.open(&file) {
                // Its segments are still there, then.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?.size()?,
            };
            self.packed.insert(*ordinal, *id);
            let pack = SegmentStats {
                epoch: id.epoch,
                file,
                bytes,
                used: Some(bytes),
                padding: Some(0),
                live_bytes: 0,
                live: Tally::default(),
                pins: Vec::new(),
                queues: 0,
                oldest: None,
                unsettled: Unsettled::default(),
                need: Need::Nothing,
            };
            self.segments.insert(Home::Pack(*id), pack);
        }
        Ok(())
    }

    /// Where the messages lie that were born in a segment.
    fn home(&self, ordinal: u64) -> Home {
        self.packed.get(&ordinal).map_or(Home::Segment(ordinal), |id| Home::Pack(*id))
    }

    /// A queue's messages by file, counted.
    fn add(&mut self, id: QueueId, name: &str, by_segment: &BTreeMap<Home, Tally>) {
        let mut all = Tally::default();
        for (home, tally) in by_segment {
            all.merge(tally);
            let Some(segment) = self.segments.get_mut(home) else { continue };
            let oldest = segment.live.oldest;
            segment.live.merge(tally);
            if segment.live.oldest != oldest {
                segment.oldest = Some(id);
            }
            segment.queues += 1;
            segment.pins.push((id, *tally));
            segment.pins.sort_by_key(|(id, tally)| (std::cmp::Reverse(tally.bytes), *id));
            segment.pins.truncate(PINS_SHOWN);
        }
        let segments = by_segment.len() as u64;
        self.queues.insert(id, QueueStats { name: name.into(), tally: all, segments });
    }

    fn name(&self, id: QueueId) -> &str {
        self.queues.get(&id).map_or("?", |queue| &queue.name)
    }
}

/// Counts every message: those of the index that the log has not changed since, and those that it
/// has put there.
fn count(
    stats: &mut Stats,
    index: &Index,
    base: &Base,
    delta: &Delta,
    ticker: &mut Ticker,
) -> Result<(), CliError> {
    let (mut done, total) = (0_u64, index.stats()?.entries);
    let ids: BTreeSet<QueueId> = base.queues.keys().chain(delta.queues.keys()).copied().collect();
    for id in ids {
        let row = match delta.queues.get(&id) {
            Some(None) => continue,
            Some(Some(row)) => row,
            None => &base.queues[&id],
        };
        let mut by_segment: BTreeMap<Home, Tally> = BTreeMap::new();
        let mut add = |entry: &Entry| -> Result<(), CliError> {
            let home = |birth: Lsn| stats.home(birth.0 / stats.segment_size);
            by_segment.entry(home(entry.birth)).or_default().add(entry);
            let Some(upload) = entry.upload.map(Body::upload) else { return Ok(()) };
            for piece in pieces(index, delta, upload)?.values() {
                by_segment.entry(home(piece.birth)).or_default().bytes += u64::from(piece.size);
            }
            Ok(())
        };
        let mut after = None;
        loop {
            let page = index.page(id, after, PAGE_ROWS)?;
            for (place, entry) in &page {
                if !delta.entries.contains_key(&(id, *place)) {
                    add(entry)?;
                }
            }
            done += page.len() as u64;
            ticker.tick(|| format!("index: {done} of {total} messages"));
            match page.last() {
                Some((place, _)) => after = Some(*place),
                None => break,
            }
        }
        let first = broker::delta::Place { rank: 0, seq: 0 };
        let changed = delta.entries.range(id, first..=broker::delta::Place::END);
        changed.filter_map(|(_, entry)| entry).try_for_each(|entry| add(&entry))?;
        stats.add(id, &row.name, &by_segment);
    }
    Ok(())
}

/// The pieces of a body as they are now.
fn pieces(
    index: &Index,
    delta: &Delta,
    upload: UploadId,
) -> Result<BTreeMap<u32, PieceAt>, CliError> {
    let mut pieces: BTreeMap<u32, PieceAt> = BTreeMap::new();
    pieces_of(index, upload, &mut |number, piece| {
        pieces.insert(number, piece);
    })?;
    for ((_, number), piece) in delta.pieces.range((upload, 0)..=(upload, u32::MAX)) {
        match piece {
            Some(piece) => pieces.insert(*number, *piece),
            None => pieces.remove(number),
        };
    }
    Ok(pieces)
}

/// Reads the log for what lies between the messages.
fn read_segments(
    stats: &mut Stats,
    store: &Looked,
    base: &Base,
    ticker: &mut Ticker,
) -> Result<(), CliError> {
    let needed = needed(base);
    let (mut current, mut damages) = (None, 0_u64);
    let segments = &mut stats.segments;
    let progress = &mut |progress: wal::Progress| {
        let (done, total) = (progress.done >> 20, progress.total >> 20);
        ticker.tick(|| format!("log: {done} of {total} MiB (--quick leaves this out)"));
    };
    let visit = &mut |item: Item<'_>| {
        match item {
            Item::Segment { header, .. } => {
                let home = Home::Segment(header.ordinal);
                current = segments.contains_key(&home).then_some(home);
            }
            Item::Batch { offset, header, .. } => {
                if let Some(segment) = current.and_then(|home| segments.get_mut(&home)) {
                    let end = offset + u64::from(header.length);
                    segment.used = Some(segment.used.unwrap_or(0).max(end));
                    let free = u64::from(header.length) - BATCH_HEADER_BYTES as u64;
                    *segment.padding.get_or_insert(0) += free;
                }
            }
            Item::Frame { record, payload, .. } => {
                if let Some(segment) = current.and_then(|home| segments.get_mut(&home)) {
                    let taken = frame_bytes(record.len(), payload.len()) as u64;
                    let padding = segment.padding.get_or_insert(0);
                    *padding = padding.saturating_sub(taken);
                }
            }
            Item::Problem(_) => damages += 1,
            Item::Pack { .. } | Item::Packed { .. } | Item::End { .. } => {}
        }
        ControlFlow::Continue(())
    };
    wal::survey(&store.storage, Some(&needed), progress, visit)?;
    for segment in stats.segments.values_mut() {
        segment.used.get_or_insert(BLOCK_BYTES as u64);
        segment.padding.get_or_insert(0);
    }
    stats.damages = damages;
    Ok(())
}
