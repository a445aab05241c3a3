//! The numbers of a store as a table for a person, and as JSON for a program.

use std::fmt::Write;

use super::{Home, Need, QueueStats, SegmentStats, Stats};
use crate::cli::store::describe;
use crate::ids::Millis;

const ENOUGH: &str = "a string takes all";

/// What all segments add up to; `None` where the log was not read.
struct Totals {
    messages: u64,
    bytes: u64,
    live: u64,
    dead: Option<u64>,
    padding: Option<u64>,
    unused: Option<u64>,
}

impl Totals {
    fn of(stats: &Stats) -> Self {
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
    text.push_str("prepared transactions: none\n");
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

pub(super) fn json(stats: &Stats) -> String {
    let Totals { messages, bytes, live, dead, padding, unused } = Totals::of(stats);
    let queues = stats.queues.values().map(|queue| {
        format!(
            "{{\"name\":{},\"messages\":{},\"bytes\":{},\"segments\":{},\"oldest_at\":{}}}",
            string(&queue.name),
            queue.tally.messages,
            queue.tally.bytes,
            queue.segments,
            number(queue.tally.oldest.map(|(at, _)| at.0))
        )
    });
    let segments = stats.segments.iter().map(|(home, segment)| segment_json(stats, *home, segment));
    format!(
        "{{\"store\":\"{:032x}\",\"segment_size\":{},\"epoch\":{},\"backup_at\":{},\
         \"log_end\":{},\"index_bytes\":{},\"damages\":{},\"totals\":{{\"messages\":{messages},\
         \"bytes\":{bytes},\"live\":{live},\"dead\":{},\"padding\":{},\"unused\":{}}},\
         \"prepared\":[],\"segments\":[{}],\"queues\":[{}]}}\n",
        stats.store,
        stats.segment_size,
        stats.epoch,
        number(stats.backup.map(|at| at.0)),
        stats.end.0,
        stats.index_bytes,
        stats.damages,
        number(dead),
        number(padding),
        number(unused),
        segments.collect::<Vec<_>>().join(","),
        queues.collect::<Vec<_>>().join(",")
    )
}

fn segment_json(stats: &Stats, home: Home, segment: &SegmentStats) -> String {
    let pin = |(id, tally): &(_, super::Tally)| {
        format!(
            "{{\"name\":{},\"messages\":{},\"bytes\":{}}}",
            string(stats.name(*id)),
            tally.messages,
            tally.bytes
        )
    };
    let oldest = match (segment.live.oldest, segment.oldest) {
        (Some((at, lsn)), Some(id)) => {
            format!("{{\"queue\":{},\"at\":{},\"lsn\":{}}}", string(stats.name(id)), at.0, lsn.0)
        }
        _ => "null".to_owned(),
    };
    let need = match segment.need {
        Need::Messages => "messages",
        Need::Replay => "replay",
        Need::Ahead => "ahead",
        Need::Nothing => "nothing",
    };
    let ordinal = match home {
        Home::Segment(ordinal) => Some(ordinal),
        Home::Pack(_) => None,
    };
    let ordinal = number(ordinal);
    format!(
        "{{\"ordinal\":{ordinal},\"epoch\":{},\"file\":{},\"bytes\":{},\"live\":{},\"dead\":{},\
         \"padding\":{},\"unused\":{},\"messages\":{},\"kept_by\":\"{need}\",\"queues\":{},\
         \"top_queues\":[{}],\"oldest\":{oldest}}}",
        segment.epoch,
        string(&segment.file),
        segment.bytes,
        segment.live_bytes,
        number(segment.dead()),
        number(segment.padding),
        number(segment.unused()),
        segment.live.messages,
        segment.queues,
        segment.pins.iter().map(pin).collect::<Vec<_>>().join(",")
    )
}

fn number(value: Option<u64>) -> String {
    value.map_or("null".to_owned(), |value| value.to_string())
}

/// A string of JSON.
fn string(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => write!(out, "\\u{:04x}", u32::from(c)).expect(ENOUGH),
            c => out.push(c),
        }
    }
    out.push('"');
    out
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

    #[test]
    fn a_name_is_one_string_of_json_whatever_is_in_it() {
        assert_eq!(string("a\"b\\c\n\u{7}ä"), "\"a\\\"b\\\\c\\u000a\\u0007ä\"");
    }
}
