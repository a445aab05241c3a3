//! What queue commands print for a person: tables and lines without control characters.

use std::fmt::Write;

use crate::broker::command::WhenFull;
use crate::cli::store::describe::time;
use crate::ids::Millis;
use crate::server::words::{BodyLine, Details, MessageLine, QueueLine, ScheduleLine};

/// The table of `queue list`.
pub(super) fn table(queues: &[QueueLine]) -> String {
    let names: Vec<String> = queues.iter().map(|queue| plain(&queue.name)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max("NAME".len());
    let mut text = format!("{:<width$}  {:>10}  {:>9}\n", "NAME", "DEPTH", "CONSUMERS");
    for (name, queue) in names.iter().zip(queues) {
        let (depth, consumers) = (queue.depth, queue.consumers);
        writeln!(text, "{name:<width$}  {depth:>10}  {consumers:>9}").expect("a string takes all");
    }
    text
}

/// The table of `schedule list`.
pub(super) fn schedules(all: &[ScheduleLine]) -> String {
    let mut text =
        format!("{:>6}  {:<24}  {:>8}  {:<10}  PLAN, QUEUE\n", "ID", "NEXT", "LEFT", "JOB");
    for schedule in all {
        let ScheduleLine { id, queue, job, next, cron, delay, period, repeat, left } = schedule;
        let left = left.map_or("no end".to_owned(), |left| left.to_string());
        let mut plan = String::new();
        if let Some(cron) = cron {
            write!(plan, "cron {cron}, ").expect("a string takes all");
        }
        if *delay > 0 {
            write!(plan, "delay {delay} ms, ").expect("a string takes all");
        }
        if *repeat != Some(0) {
            let times = repeat.map_or("without end".to_owned(), |times| format!("{times} times"));
            write!(plan, "every {period} ms {times}, ").expect("a string takes all");
        }
        let (next, queue) = (time(Millis(*next)), plain(queue));
        writeln!(text, "{id:>6}  {next:<24}  {left:>8}  {job:<10}  {plan}{queue}")
            .expect("a string takes all");
    }
    text
}

/// What `queue show` says; with the same a moment later, rates per second as well.
pub(super) fn details(now: Millis, first: &Details, later: Option<(&Details, f64)>) -> String {
    let shown = later.map_or(first, |(later, _)| later);
    let queue = &shown.queue;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        writeln!(text, "{name:<16}{value}").expect("a string takes all");
    };
    line("queue", plain(&queue.name));
    let waiting = queue.depth.saturating_sub(queue.lent + queue.delayed + shown.held);
    let delayed = match queue.delayed {
        0 => String::new(),
        delayed => format!(", {delayed} are delayed"),
    };
    line("depth", format!("{} ({waiting} wait, {} are lent{delayed})", queue.depth, queue.lent));
    if shown.staged + shown.held > 0 {
        let (sent, settled) = (shown.staged, shown.held);
        let rest = "by transactions without an outcome (`escrowmq xa list`)";
        line("in transactions", format!("{sent} sent and {settled} settled {rest}"));
    }
    line("bytes", shown.bytes.to_string());
    line("limit", limit(shown));
    line("oldest waits", age(now, queue.oldest));
    let before = &first.queue;
    for (name, count, earlier) in [
        ("sent", queue.sent, before.sent),
        ("delivered", queue.delivered, before.delivered),
        ("redelivered", queue.redelivered, before.redelivered),
        ("acknowledged", queue.acknowledged, before.acknowledged),
        ("returned", queue.returned, before.returned),
        ("expired", queue.expired, before.expired),
        ("purged", queue.purged, before.purged),
        ("discarded", queue.discarded, before.discarded),
        ("set apart", queue.dead_lettered, before.dead_lettered),
        ("moved in", queue.moved_in, before.moved_in),
        ("moved out", queue.moved_out, before.moved_out),
    ] {
        let rate = later.map_or(String::new(), |(_, seconds)| {
            format!(" ({:.1}/s)", count.saturating_sub(earlier) as f64 / seconds)
        });
        line(name, format!("{count} since the start{rate}"));
    }
    line(
        "limits",
        format!(
            "{} messages of a subscription outstanding, {} in memory, {} bytes a message",
            shown.limit_prefetch, shown.limit_resident, shown.limit_message_bytes
        ),
    );
    line("consumers", queue.consumers.to_string());
    for reader in &shown.readers {
        let selector = reader.selector.as_ref().map_or(String::new(), |it| format!(", where {it}"));
        line(
            "",
            format!(
                "{} {}: {} of {} outstanding, the oldest sent {}{selector}",
                reader.connection,
                reader.subscription,
                reader.outstanding,
                reader.prefetch,
                age(now, reader.oldest)
            ),
        );
    }
    if queue.consumers > shown.readers.len() as u64 {
        line("", format!("and {} more", queue.consumers - shown.readers.len() as u64));
    }
    text
}

/// How much a queue may hold, and what becomes of more.
fn limit(shown: &Details) -> String {
    let messages = shown.limit_messages.map(|most| format!("{most} messages"));
    let bytes = shown.limit_bytes.map(|most| format!("{most} bytes"));
    let parts: Vec<String> = messages.into_iter().chain(bytes).collect();
    if parts.is_empty() {
        return "none".to_owned();
    }
    let beyond = match shown.when_full {
        WhenFull::Hold => "sends wait for room",
        WhenFull::Refuse => "sends are refused",
        WhenFull::DropOldest => "non-persistent messages make room, or sends are refused",
    };
    format!("{}; beyond it {beyond}", parts.join(" and "))
}

/// A message of `queue browse`.
pub(super) fn message(message: &MessageLine) -> String {
    let MessageLine { id, priority, returns, bytes, .. } = message;
    let state = match (message.settled, message.lent) {
        (true, _) => "settled",
        (false, true) => "lent",
        (false, false) => "waits",
    };
    let sent = time(Millis(message.at));
    let mut text = format!("{id}  {state}  priority {priority}  sent {sent}");
    let mut add = |part: String| text.push_str(&part);
    if let Some(at) = message.expires {
        add(format!("  expires {}", time(Millis(at))));
    }
    if let Some(at) = message.due {
        add(format!("  delayed until {}", time(Millis(at))));
    }
    if !message.persistent {
        add("  non-persistent".to_owned());
    }
    if message.redelivered {
        add(format!("  redelivered, {returns} returns"));
    }
    add(format!("  {bytes} bytes\n"));
    for (name, value) in message.properties.iter().flatten() {
        add(format!("    {}: {}\n", plain(name), plain(value)));
    }
    match &message.body {
        Some(BodyLine::Text(body)) => {
            body.lines().for_each(|line| add(format!("    | {}\n", plain(line))));
        }
        Some(BodyLine::Hex(hex)) => add(format!("    | {hex}\n")),
        None => {}
    }
    if let Some(problem) = &message.problem {
        add(format!("    {}\n", plain(problem)));
    }
    text
}

/// Text without control characters: a name must not be able to write elsewhere on a terminal.
pub(in crate::cli) fn plain(text: &str) -> String {
    let tame = |c: char| !c.is_control();
    if text.chars().all(tame) { text.to_owned() } else { text.escape_debug().to_string() }
}

pub(in crate::cli) fn age(now: Millis, at: Option<u64>) -> String {
    let Some(at) = at else { return "-".to_owned() };
    let millis = now.0.saturating_sub(at);
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}.{:01} s", millis / 100),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_queues_has_aligned_columns_and_shows_no_control_characters() {
        let queue = |name: &str, depth, consumers| QueueLine {
            name: name.to_owned(),
            depth,
            consumers,
            ..QueueLine::default()
        };
        let shown = table(&[queue("a\x1b[2J", 3, 0), queue("orders.of.the.day", 1_000_000, 12)]);
        let expected = "\
NAME                    DEPTH  CONSUMERS
a\\u{1b}[2J                  3          0
orders.of.the.day     1000000         12
";
        assert_eq!(shown, expected);
    }

    #[test]
    fn ages_are_told_in_the_two_units_that_matter() {
        let table = [
            (5_250, "5.2 s"),
            (65_000, "1 min 5 s"),
            (3_720_000, "1 h 2 min"),
            (90_000_000, "1 d 1 h"),
        ];
        for (millis, expected) in table {
            assert_eq!(age(Millis(100_000_000), Some(100_000_000 - millis)), expected);
        }
        assert_eq!(age(Millis(1), None), "-");
        assert_eq!(age(Millis(1), Some(2)), "0.0 s", "the clock was set back");
    }
}
