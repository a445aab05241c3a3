//! `escrowmq store verify`: is every byte of a store as it was written, and would it start?
//!
//! Owns the checks that need more than one part of the store: that records decode and replay on
//! what the index holds, and that what the index keeps alive is in the log. Bytes of the log are
//! checked by the survey, pages and rows of the index by the index itself.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;

use bytes::Bytes;

use super::{CliError, Looked, Ticker, at, line_of, needed, quietly};
use crate::broker::delta::Operation;
use crate::broker::{self, Broker, Written};
use crate::ids::Lsn;
use crate::message::{Content, LargeHead};
use crate::record::{BranchRecord, Record, Staged};
use crate::store::index::{Base, INDEX_NAME, Index};
use crate::wal::format::{Identity, frame_bytes};
use crate::wal::{self, ClaimError, Finding, Item, PackId, names};

/// Rows of the index read at once.
const PAGE_ROWS: usize = 4096;

pub(super) fn verify(store: &Looked) -> Result<ExitCode, CliError> {
    let mut damages = Damages::default();
    match wal::identity_read(&*store.storage) {
        Ok(Some(identity)) => check(store, identity, &mut damages)?,
        Ok(None) => return Err(wal::SurveyError::NotAStore.into()),
        Err(error @ ClaimError::BadIdentity) => {
            damages.file(names::IDENTITY, error);
            eprintln!("without it nothing else can be checked");
        }
        Err(error) => return Err(error.into()),
    }
    damages.sum_up()
}

fn check(store: &Looked, identity: Identity, damages: &mut Damages) -> Result<(), CliError> {
    let mut ticker = Ticker::new();
    let base = check_index(store, identity, damages, &mut ticker)?;
    let mut log = LogCheck::new(identity, base.as_ref(), damages);
    let needed = base.as_ref().map(needed);
    let progress = &mut |progress: wal::Progress| {
        let (done, total) = (progress.done >> 20, progress.total >> 20);
        ticker.tick(|| format!("log: {done} of {total} MiB"));
    };
    let visit = &mut |item: Item<'_>| {
        log.item(item);
        ControlFlow::Continue(())
    };
    wal::survey(&store.storage, needed.as_ref(), progress, visit)?;
    log.finish();
    Ok(())
}

/// Everything that is wrong, told as it is found.
#[derive(Default)]
struct Damages {
    count: u64,
    failure: Option<io::Error>,
}

impl Damages {
    fn line(&mut self, line: &str) {
        self.count += 1;
        if let Err(error) = writeln!(io::stdout(), "{line}") {
            self.failure.get_or_insert(error);
        }
    }

    fn file(&mut self, file: &str, what: impl std::fmt::Display) {
        self.line(&format!("{file}: {what}"));
    }

    fn sum_up(mut self) -> Result<ExitCode, CliError> {
        let last = match self.count {
            0 => "no damage".to_owned(),
            1 => "1 damage".to_owned(),
            count => format!("{count} damages"),
        };
        if let Err(error) = writeln!(io::stdout(), "{last}") {
            self.failure.get_or_insert(error);
        }
        match self.failure {
            // The exit status says enough to one who does not read.
            Some(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e.into()),
            _ if self.count == 0 => Ok(ExitCode::SUCCESS),
            _ => Ok(ExitCode::FAILURE),
        }
    }
}

/// Checks the index by itself. Gives what it holds, or `None` where that cannot be known.
fn check_index(
    store: &Looked,
    identity: Identity,
    damages: &mut Damages,
    ticker: &mut Ticker,
) -> Result<Option<Base>, CliError> {
    let (index, base) = match store.index(identity.store) {
        Ok(Some(opened)) => opened,
        Ok(None) => {
            // The index is made before the first seal.
            if store.storage.list()?.iter().any(|name| name.starts_with("seal-")) {
                damages.file(INDEX_NAME, "it is missing");
                return Ok(None);
            }
            return Ok(Some(Base::default()));
        }
        Err(error) => {
            damages.file(INDEX_NAME, error);
            return Ok(None);
        }
    };
    let progress = &mut |done, total| ticker.tick(|| format!("index: {done} of {total} messages"));
    match quietly(|| index.check(progress)) {
        Ok(report) => {
            for problem in &report.problems {
                damages.file(INDEX_NAME, problem);
            }
            if report.further_problems > 0 {
                damages.file(INDEX_NAME, format_args!("{} more such", report.further_problems));
            }
            if report.problems.is_empty() {
                check_live(&index, &base, identity.segment_size, damages);
            }
        }
        Err(error) => damages.file(INDEX_NAME, error),
    }
    Ok(Some(base))
}

/// The bytes that the index's messages keep alive in each segment are those that it counts.
fn check_live(index: &Index, base: &Base, segment_size: u64, damages: &mut Damages) {
    let mut live: BTreeMap<u64, u64> = BTreeMap::new();
    for queue in base.queues.keys() {
        let mut after = None;
        loop {
            let page = match index.page(*queue, after, PAGE_ROWS) {
                Ok(page) => page,
                Err(error) => return damages.file(INDEX_NAME, error),
            };
            for (_, entry) in page.iter().filter(|(_, entry)| !entry.shared) {
                *live.entry(entry.birth.0 / segment_size).or_default() += u64::from(entry.size);
            }
            match page.last() {
                Some((place, _)) => after = Some(*place),
                None => break,
            }
        }
    }
    let pieces = index.each_piece(&mut |_, piece| {
        *live.entry(piece.birth.0 / segment_size).or_default() += u64::from(piece.size);
    });
    let shares = index.each_share(&mut |birth, share| {
        *live.entry(birth.0 / segment_size).or_default() += u64::from(share.size);
    });
    let staged = index.each_operation(&mut |_, operation| {
        if let Operation::Send { entry, .. } | Operation::Keep { entry, .. } = operation {
            *live.entry(entry.birth.0 / segment_size).or_default() += u64::from(entry.size);
        }
    });
    if let Err(error) = pieces.and(shares).and(staged) {
        return damages.file(INDEX_NAME, error);
    }
    let ordinals: BTreeSet<u64> = live.keys().chain(base.live.keys()).copied().collect();
    for ordinal in ordinals {
        let of = |map: &BTreeMap<u64, u64>| map.get(&ordinal).copied().unwrap_or(0);
        let (found, counted) = (of(&live), of(&base.live));
        if found != counted {
            let what = format!(
                "its messages keep {found} bytes of segment {ordinal} alive, it counts {counted}"
            );
            damages.file(INDEX_NAME, what);
        }
    }
}

/// What the log says on top of the index.
struct LogCheck<'a> {
    damages: &'a mut Damages,
    segment_size: u64,
    file: String,
    /// Ordinals of the segments that are there.
    segments: BTreeSet<u64>,
    /// What the index has already.
    through: Lsn,
    in_index: BTreeSet<u64>,
    /// The segments whose live frames lie in a pack, with the bytes that the index wants of each
    /// and what was found.
    packed: BTreeMap<u64, (PackId, u64, u64)>,
    pack: Option<PackId>,
    /// The state that a start would come to; `None` once damage makes it meaningless.
    broker: Option<Broker>,
}

impl<'a> LogCheck<'a> {
    fn new(identity: Identity, base: Option<&Base>, damages: &'a mut Damages) -> Self {
        let segment_size = identity.segment_size;
        let through = base.and_then(|base| base.replay).map_or(Lsn(0), |replay| replay.through);
        let in_index = base.map(|base| base.live.keys().copied().collect()).unwrap_or_default();
        let sound = base.filter(|_| damages.count == 0);
        let broker = sound.map(|base| {
            Broker::new(base.clone().into_durable(), broker::Limits::default(), segment_size)
        });
        let (file, segments) = (String::new(), BTreeSet::new());
        let live = |base: &Base, ordinal: &u64| base.live.get(ordinal).copied().unwrap_or(0);
        let wanted = |base: &Base| {
            let packs = base.packs.iter();
            packs.map(|(ordinal, id)| (*ordinal, (*id, live(base, ordinal), 0))).collect()
        };
        let packed = base.map(wanted).unwrap_or_default();
        let pack = None;
        Self { damages, segment_size, file, segments, through, in_index, packed, pack, broker }
    }

    fn item(&mut self, item: Item<'_>) {
        match item {
            Item::Segment { file, header, .. } => {
                file.clone_into(&mut self.file);
                self.segments.insert(header.ordinal);
            }
            Item::Frame { lsn, kind, record, payload, payload_good } => {
                match Record::decode(kind, record) {
                    Ok(decoded) => {
                        let frame_len = frame_bytes(record.len(), payload.len()) as u32;
                        self.replay(Written { lsn, frame_len }, &decoded);
                        if payload_good {
                            self.content(lsn.0 % self.segment_size, &decoded, payload);
                        }
                    }
                    Err(error) => self.record(lsn, error),
                }
            }
            Item::Pack { file, header } => {
                file.clone_into(&mut self.file);
                self.pack = Some(header.id);
            }
            Item::Packed { offset, lsn, kind, record, payload, payload_good } => {
                let ordinal = lsn.0 / self.segment_size;
                if let Some((id, _, found)) = self.packed.get_mut(&ordinal)
                    && Some(*id) == self.pack
                {
                    *found += frame_bytes(record.len(), payload.len()) as u64;
                }
                match Record::decode(kind, record) {
                    Ok(decoded) if payload_good => self.content(offset, &decoded, payload),
                    Ok(_) => {}
                    Err(error) => self.damages.line(&at(&self.file, offset, error)),
                }
            }
            Item::Problem(finding) => {
                self.damages.line(&line_of(&finding));
                if let Finding::Unusable(wal::RecoveryError::MissingSegment { ordinal, .. }) =
                    finding
                {
                    // Told, and not to be told again.
                    self.segments.insert(ordinal);
                }
                // A bad payload costs one message, and a copy of a header nothing; anything else
                // leaves a gap in what happened.
                if !matches!(finding, Finding::Damaged(_) | Finding::HeaderCopy { .. }) {
                    self.broker = None;
                }
            }
            Item::Batch { .. } | Item::End { .. } => {}
        }
    }

    fn record(&mut self, lsn: Lsn, what: impl std::fmt::Display) {
        self.damages.line(&at(&self.file, lsn.0 % self.segment_size, what));
        self.broker = None;
    }

    fn content(&mut self, offset: u64, record: &Record, payload: &Bytes) {
        let decoded = match record {
            Record::Sent { upload: None, .. }
            | Record::Moved { upload: None, .. }
            | Record::Scheduled { upload: None, .. }
            | Record::Staged(Staged { upload: None, .. })
            | Record::Branch(BranchRecord::Kept(_))
            | Record::Published(_)
            | Record::Occurred(_) => Content::decode(payload.clone()).map(drop),
            Record::Sent { .. }
            | Record::Moved { .. }
            | Record::Scheduled { .. }
            | Record::Staged(_) => LargeHead::decode(payload.clone()).map(drop),
            _ => Ok(()),
        };
        if let Err(error) = decoded {
            self.damages.line(&at(&self.file, offset, error));
        }
    }

    fn replay(&mut self, written: Written, record: &Record) {
        let Some(broker) = self.broker.as_mut().filter(|_| written.lsn > self.through) else {
            return;
        };
        if let Err(misfit) = broker.apply_record(written, record) {
            self.record(written.lsn, misfit);
        }
    }

    /// What the replay keeps alive must be there, too.
    fn finish(self) {
        for (ordinal, (id, wanted, found)) in &self.packed {
            // What has died since it was packed is there as well.
            if found < wanted {
                let what = format!(
                    "it has {found} bytes of segment {ordinal}, of which {wanted} are needed"
                );
                self.damages.file(&names::pack(*id), what);
            }
        }
        let live = match self.broker {
            Some(broker) => broker.live().into_keys().collect(),
            None => {
                eprintln!("what a start would replay was not checked, because of the damage above");
                self.in_index
            }
        };
        for ordinal in live {
            if !self.segments.contains(&ordinal) && !self.packed.contains_key(&ordinal) {
                let file = format!("wal-*-{ordinal:016x}");
                self.damages.file(&file, "it is missing, and messages lie in it");
            }
        }
    }
}
