//! The numbers of a store as a table for a person.

use std::fmt::Write;

use serde::Serialize;

use super::{Need, QueueStats, SegmentStats, Stats};
use crate::cli::store::describe;
use crate::ids::Millis;

const ENOUGH: &str = "a string takes all";

/// What all segments add up to; `None` where the log was not read.
#[derive(Serialize)]
pub(super) struct Totals {
    messages: u64,
    bytes: u64,
    live: u64,
    dead: Option<u64>,
    padding: Option<u64>,
    unused: Option<u64>,
}

impl Totals {
    pub(super) fn of(stats: &Stats) -> Self {
        let segments = || stats.segments.values();
        Self {
            messages: stats.queues.values().map(|queue| queue.tally.messages).sum(),
            bytes: segments().map(|segment| segment.bytes).sum(),
            live: segments().map(|segment| segment.live_bytes).sum(),
            dead: segments().map(SegmentStats::dead).sum(),
            padding: segments().map(|segment| segment.padding).sum(),
            unused: segments().map(SegmentStats::unused).sum(),
        }
    }
}

pub(super) fn table(stats: &Stats, now: Millis) -> String {
    let mut text = format!("store {:032x}\n", stats.store);
    if let Some(at) = stats.backup {
        writeln!(text, "this is a backup, begun at {}", describe::time(at)).expect(ENOUGH);
    }
    let Totals { messages, bytes, live, dead, padding, unused } = Totals::of(stats);
    let (queues, segments) = (stats.queues.len(), stats.segments.len());
    writeln!(text, "{messages} messages in {queues} queues").expect(ENOUGH);
    writeln!(
        text,
        "log: {segments} files, segments of {}, {}: live {}, dead {}, padding {}, unused {}; \
         ends at {}",
        size(stats.segment_size),
        size(bytes),
        size(live),
        maybe(dead),
        maybe(padding),
        maybe(unused),
        stats.end
    )
    .expect(ENOUGH);
    writeln!(text, "index: {}", size(stats.index_bytes)).expect(ENOUGH);
    match stats.prepared.len() {
        0 => text.push_str("prepared transactions: none\n"),
        some => {
            let more = "which `escrowmq xa list --store DIR` shows";
            writeln!(text, "prepared transactions: {some}, {more}").expect(ENOUGH);
        }
    }
    if stats.damages > 0 {
        let damages = stats.damages;
        writeln!(text, "DAMAGED: {damages}; `escrowmq store verify` names them").expect(ENOUGH);
    }
    text.push('\n');
    segment_table(&mut text, stats, now);
    text.push('\n');
    queue_table(&mut text, stats, now);
    text
}

fn segment_table(text: &mut String, stats: &Stats, now: Millis) {
    let width = stats.segments.values().map(|segment| segment.file.len()).max().unwrap_or(7).max(7);
    writeln!(
        text,
        "{:<width$}  {:>10}  {:>10}  {:>10}  {:>10}  KEPT BY",
        "SEGMENT", "LIVE", "DEAD", "PADDING", "UNUSED"
    )
    .expect(ENOUGH);
    for segment in stats.segments.values() {
        writeln!(
            text,
            "{:<width$}  {:>10}  {:>10}  {:>10}  {:>10}  {}",
            segment.file,
            size(segment.live_bytes),
            maybe(segment.dead()),
            maybe(segment.padding),
            maybe(segment.unused()),
            kept_by(stats, segment, now)
        )
        .expect(ENOUGH);
    }
}

fn kept_by(stats: &Stats, segment: &SegmentStats, now: Millis) -> String {
    let queue = |(id, tally): &(_, super::Tally)| {
        format!("{} {} in {}", stats.name(*id).escape_debug(), size(tally.bytes), tally.messages)
    };
    let mut text = match segment.need {
        Need::Messages => segment.pins.iter().map(queue).collect::<Vec<_>>().join(", "),
        Need::Replay => return "a restart replays it".to_owned(),
        Need::Ahead => return "made ahead".to_owned(),
        Need::Nothing => return "nothing: goes with the next start".to_owned(),
    };
    let others = segment.queues - segment.pins.len() as u64;
    if others > 0 {
        write!(text, " and {others} more queues").expect(ENOUGH);
    }
    for (holder, bytes) in &segment.unsettled.top {
        let between = if text.is_empty() { "" } else { ", " };
        write!(text, "{between}{} {}", holder.words(), size(*bytes)).expect(ENOUGH);
    }
    let others = segment.unsettled.holders - segment.unsettled.top.len() as u64;
    if others > 0 {
        write!(text, " and {others} more branches and others").expect(ENOUGH);
    }
    if let (Some((at, lsn)), Some(id)) = (segment.live.oldest, segment.oldest) {
        let (name, age) = (stats.name(id).escape_debug(), age(at, now));
        write!(text, "; oldest {age} in {name} ({lsn})").expect(ENOUGH);
    }
    text
}

fn queue_table(text: &mut String, stats: &Stats, now: Millis) {
    let shown = |queue: &QueueStats| queue.name.escape_debug().to_string();
    let widths = stats.queues.values().map(|queue| shown(queue).chars().count());
    let width = widths.max().unwrap_or(0).max("QUEUE".len());
    let head = ["MESSAGES", "BYTES", "SEGMENTS", "OLDEST"];
    let [messages, bytes, segments, oldest] = head;
    writeln!(text, "{:<width$}  {messages:>10}  {bytes:>10}  {segments:>8}  {oldest:>10}", "QUEUE")
        .expect(ENOUGH);
    for queue in stats.queues.values() {
        let oldest = queue.tally.oldest.map_or("-".to_owned(), |(at, _)| age(at, now));
        let (name, bytes) = (shown(queue), size(queue.tally.bytes));
        let (messages, segments) = (queue.tally.messages, queue.segments);
        writeln!(text, "{name:<width$}  {messages:>10}  {bytes:>10}  {segments:>8}  {oldest:>10}")
            .expect(ENOUGH);
    }
}

fn maybe(bytes: Option<u64>) -> String {
    bytes.map_or("-".to_owned(), size)
}

/// Bytes, with three digits or four.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let power = (63 - bytes.leading_zeros()) / 10;
    let tenths = (u128::from(bytes) * 10) >> (10 * power);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[power as usize - 1])
}

/// How long ago, in the two largest units.
fn age(at: Millis, now: Millis) -> String {
    let seconds = now.0.saturating_sub(at.0) / 1000;
    match seconds {
        s if s < 60 => format!("{s}s"),
        s if s < 3600 => format!("{}m {}s", s / 60, s % 60),
        s if s < 86_400 => format!("{}h {}m", s / 3600, s / 60 % 60),
        s => format!("{}d {}h", s / 86_400, s / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages_are_short() {
        let sizes = [0, 1023, 1024, 1_500_000, 5 << 40, u64::MAX].map(size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.4 MiB", "5.0 TiB", "15.9 EiB"]);
        let ages = [0, 59, 60, 3_600, 90_061].map(|s| age(Millis(5), Millis(5 + s * 1000)));
        assert_eq!(ages, ["0s", "59s", "1m 0s", "1h 0m", "1d 1h"]);
        assert_eq!(age(Millis(9), Millis(5)), "0s");
    }
}
