//! The numbers of a store as JSON for a program. Its names are a contract: what reads them may
//! be anybody's.

use serde::Serialize;

use super::show::Totals;
use super::unsettled::Holder;
use super::{Home, Need, SegmentStats, Stats, Tally};

#[derive(Serialize)]
struct Store<'a> {
    /// 32 hexadecimal digits.
    store: String,
    segment_size: u64,
    epoch: u64,
    backup_at: Option<u64>,
    log_end: u64,
    index_bytes: u64,
    damages: u64,
    totals: Totals,
    /// Xids of branches of global transactions that have voted.
    prepared: &'a [String],
    /// Xids of those that an operator has decided.
    decided: &'a [String],
    segments: Vec<Segment<'a>>,
    queues: Vec<Queue<'a>>,
}

#[derive(Serialize)]
struct Queue<'a> {
    name: &'a str,
    messages: u64,
    bytes: u64,
    segments: u64,
    oldest_at: Option<u64>,
}

#[derive(Serialize)]
struct Segment<'a> {
    /// None for a pack.
    ordinal: Option<u64>,
    epoch: u64,
    file: &'a str,
    bytes: u64,
    live: u64,
    dead: Option<u64>,
    padding: Option<u64>,
    unused: Option<u64>,
    messages: u64,
    kept_by: &'static str,
    queues: u64,
    top_queues: Vec<Pin<'a>>,
    oldest: Option<Oldest<'a>>,
    /// How many have something in it that is no message of a queue, and those with the most.
    unsettled: u64,
    top_unsettled: Vec<Unsettled<'a>>,
}

/// What has sent something that is in no queue.
#[derive(Serialize)]
struct Unsettled<'a> {
    kind: &'static str,
    /// Of a branch.
    xid: Option<&'a str>,
    bytes: u64,
}

/// What one queue has in a segment.
#[derive(Serialize)]
struct Pin<'a> {
    name: &'a str,
    messages: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Oldest<'a> {
    queue: &'a str,
    at: u64,
    lsn: u64,
}

pub(super) fn json(stats: &Stats) -> String {
    let queues = stats.queues.values().map(|queue| Queue {
        name: &queue.name,
        messages: queue.tally.messages,
        bytes: queue.tally.bytes,
        segments: queue.segments,
        oldest_at: queue.tally.oldest.map(|(at, _)| at.0),
    });
    let store = Store {
        store: format!("{:032x}", stats.store),
        segment_size: stats.segment_size,
        epoch: stats.epoch,
        backup_at: stats.backup.map(|at| at.0),
        log_end: stats.end.0,
        index_bytes: stats.index_bytes,
        damages: stats.damages,
        totals: Totals::of(stats),
        prepared: &stats.prepared,
        decided: &stats.decided,
        segments: stats.segments.iter().map(|(home, of)| segment(stats, *home, of)).collect(),
        queues: queues.collect(),
    };
    serde_json::to_string(&store).expect("strings and numbers are JSON") + "\n"
}

fn segment<'a>(stats: &'a Stats, home: Home, segment: &'a SegmentStats) -> Segment<'a> {
    let oldest = segment.live.oldest.zip(segment.oldest);
    let pin = |(id, tally): &(_, Tally)| {
        let (messages, bytes) = (tally.messages, tally.bytes);
        Pin { name: stats.name(*id), messages, bytes }
    };
    Segment {
        ordinal: match home {
            Home::Segment(ordinal) => Some(ordinal),
            Home::Pack(_) => None,
        },
        epoch: segment.epoch,
        file: &segment.file,
        bytes: segment.bytes,
        live: segment.live_bytes,
        dead: segment.dead(),
        padding: segment.padding,
        unused: segment.unused(),
        messages: segment.live.messages,
        kept_by: match segment.need {
            Need::Messages => "messages",
            Need::Replay => "replay",
            Need::Ahead => "ahead",
            Need::Nothing => "nothing",
        },
        queues: segment.queues,
        top_queues: segment.pins.iter().map(pin).collect(),
        oldest: oldest.map(|((at, lsn), id)| Oldest {
            queue: stats.name(id),
            at: at.0,
            lsn: lsn.0,
        }),
        unsettled: segment.unsettled.holders,
        top_unsettled: segment.unsettled.top.iter().map(unsettled).collect(),
    }
}

fn unsettled((holder, bytes): &(Holder, u64)) -> Unsettled<'_> {
    let (kind, xid) = match holder {
        Holder::Branch(xid) => ("branch", Some(xid.as_str())),
        Holder::Transactions => ("transactions", None),
        Holder::Arriving => ("arriving", None),
        Holder::Leaving => ("leaving", None),
    };
    Unsettled { kind, xid, bytes: *bytes }
}
