//! The numbers of a broker in the text format of Prometheus, version 0.0.4.
//!
//! Owns the names of all metrics: each is here once, with what it means. Numbers in, text out.

use std::fmt::{Display, Write};
use std::time::Duration;

use crate::broker::command::{Counters, InDoubt, QueueInfo};
use crate::engine::{Counted, Flow, Status};
use crate::ids::Millis;

/// What a page is made from.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers {
    pub(super) status: Status,
    /// The deepest queues, deepest first.
    pub(super) queues: Vec<QueueInfo>,
    /// How many queues are not among them, and the messages in those.
    pub(super) other_queues: u64,
    pub(super) other_depth: u64,
    /// Messages in all queues, and those lent to consumers.
    pub(super) depth: u64,
    pub(super) lent: u64,
    pub(super) inbox_bytes: usize,
    pub(super) resident_bytes: Option<u64>,
    pub(super) now: Millis,
    pub(super) checkpoint_age: Option<Duration>,
}

/// How long things took.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub(super) turns: Counted,
    pub(super) syncs: Counted,
    pub(super) checkpoints: Counted,
}

/// Bytes that a change in memory is taken to cost.
const CHANGE_BYTES: usize = 150;

/// The page.
pub(super) fn render(numbers: &Numbers, measured: &Measured) -> String {
    let mut page = Page(String::new());
    page.broker(numbers);
    page.messages(&numbers.status.totals.counters);
    page.queues(numbers);
    page.log(numbers);
    page.memory(numbers);
    for (name, help, counted) in [
        ("turn", "Turns of the engine, in which everything is decided", &measured.turns),
        ("sync", "Syncs of the log", &measured.syncs),
        ("checkpoint", "Checkpoints: merges of changes into the index", &measured.checkpoints),
    ] {
        page.histogram(name, help, counted);
    }
    page.0
}

/// One number with its labels.
type Sample<'a> = (&'a [(&'a str, &'a str)], f64);

struct Page(String);

impl Page {
    fn line(&mut self, line: impl Display) {
        writeln!(self.0, "{line}").expect("a string takes all");
    }

    fn metric<'a>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: impl IntoIterator<Item = Sample<'a>>,
    ) {
        self.line(format_args!("# HELP escrowmq_{name} {help}."));
        self.line(format_args!("# TYPE escrowmq_{name} {kind}"));
        for (labels, value) in samples {
            let labels: Vec<String> = labels
                .iter()
                .map(|(label, text)| format!("{label}=\"{}\"", escape(text)))
                .collect();
            let labels =
                if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            self.line(format_args!("escrowmq_{name}{labels} {value}"));
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Into<Number>) {
        self.metric(name, "gauge", help, [(&[][..], value.into().0)]);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Into<Number>) {
        self.metric(name, "counter", help, [(&[][..], value.into().0)]);
    }

    fn broker(&mut self, numbers: &Numbers) {
        let (status, totals) = (&numbers.status, &numbers.status.totals);
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        self.metric(
            "build_info",
            "gauge",
            "The version that runs; always 1",
            [(&version[..], 1.0)],
        );
        let help = "Connections of clients and operators, to all protocols";
        self.gauge("connections", help, status.connections);
        self.gauge("consumers", "Subscriptions to queues and topics", totals.subscriptions);
        self.gauge("queues", "Queues", totals.queues);
        let help = "Messages published on topics since the start";
        self.counter("topic_published_total", help, totals.published);
        let help = "Messages that slow subscribers of topics have missed since the start";
        self.counter("topic_missed_total", help, totals.missed);
        self.counter("refused_total", "Requests refused since the start", status.refused);
        let help = "Messages and commits recognised as repetitions since the start";
        self.counter("duplicates_total", help, totals.names.repeated);
        let help = "Ids forgotten before their time for want of room since the start";
        self.counter("duplicate_ids_forgotten_total", help, totals.names.forgotten_early);
        self.gauge("duplicate_ids", "Ids that are remembered", totals.names.known);
        let producers = &totals.producers;
        let help = "Producers forgotten before their time for want of room since the start";
        self.counter("producers_forgotten_total", help, producers.forgotten_early);
        self.gauge("producers", "Producers that count and are remembered", producers.known);
        let help = "Bytes of memory for what is remembered of producers, about";
        self.gauge("producers_bytes", help, producers.bytes);
        self.in_doubt(&status.in_doubt, numbers.now);
        self.flow(&status.flow);
    }

    fn in_doubt(&mut self, in_doubt: &InDoubt, now: Millis) {
        let help = "Prepared branches of global transactions, which wait for their managers";
        self.gauge("xa_prepared", help, in_doubt.prepared);
        let help = "Prepared branches found to wait for longer than xa.warn_after";
        self.gauge("xa_overdue", help, in_doubt.overdue);
        let help = "Seconds since the oldest prepared branch voted; 0 without one";
        let age = in_doubt.oldest.map_or(0, |at| now.0.saturating_sub(at.0));
        self.gauge("xa_oldest_prepared_seconds", help, age / 1000);
        let help = "Branches that an operator has decided and no manager has had forgotten";
        self.gauge("xa_heuristic", help, in_doubt.decided);
    }

    fn flow(&mut self, flow: &Flow) {
        let help = "Connections of which sends wait for room";
        self.gauge("held_producers", help, flow.held_producers);
        self.gauge("held_messages", "Sends that wait for room", flow.held_messages);
        self.gauge("held_bytes", "Bytes of sends that wait for room", flow.held_bytes);
        let help = "Sends refused for want of room since the start";
        self.counter("refused_for_room_total", help, flow.refused);
        let help = "Non-persistent messages of queues dropped for newer ones since the start";
        self.counter("messages_ousted_total", help, flow.dropped.from_queues);
        let help = "Whether the disk is full or has less free than is kept";
        self.gauge("disk_short", help, usize::from(flow.disk_short));
    }

    fn messages(&mut self, counters: &Counters) {
        for (event, help, count) in events(counters) {
            let name = format!("messages_{event}_total");
            self.counter(&name, &format!("Messages {help}, in all queues since the start"), count);
        }
    }

    fn queues(&mut self, numbers: &Numbers) {
        self.gauge("depth", "Messages that wait or are lent, in all queues", numbers.depth);
        self.gauge("lent", "Messages lent to consumers, in all queues", numbers.lent);
        let help = "Queues without lines of their own: only the deepest have them";
        self.gauge("other_queues", help, numbers.other_queues);
        let help = "Messages in queues without lines of their own";
        self.gauge("other_depth", help, numbers.other_depth);
        let queues = &numbers.queues;
        let help = "Messages that wait or are lent";
        self.per_queue("queue_depth", "gauge", help, queues, |q| Some(q.depth as f64));
        let help = "Messages lent to consumers";
        self.per_queue("queue_lent", "gauge", help, queues, |q| Some(q.lent as f64));
        let help = "Subscriptions";
        self.per_queue("queue_consumers", "gauge", help, queues, |q| Some(q.consumers as f64));
        let help = "Seconds since the oldest message that waits near the head was sent";
        let age = |queue: &QueueInfo| {
            queue.oldest.map(|at| numbers.now.0.saturating_sub(at.0) as f64 / 1000.0)
        };
        self.per_queue("queue_oldest_seconds", "gauge", help, queues, age);
        for (index, (event, help, _)) in events(&Counters::default()).into_iter().enumerate() {
            let name = format!("queue_{event}_total");
            let help = format!("Messages {help} since the start");
            let count = |queue: &QueueInfo| Some(events(&queue.counters)[index].2 as f64);
            self.per_queue(&name, "counter", &help, queues, count);
        }
    }

    fn per_queue(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        queues: &[QueueInfo],
        value: impl Fn(&QueueInfo) -> Option<f64>,
    ) {
        let values: Vec<_> =
            queues.iter().filter_map(|q| Some(([("queue", &*q.name)], value(q)?))).collect();
        self.metric(name, kind, help, values.iter().map(|(labels, value)| (&labels[..], *value)));
    }

    fn log(&mut self, numbers: &Numbers) {
        let status = &numbers.status;
        let live = status.totals.live_bytes;
        let help = "Bytes of the log: live ones are of messages that are there, unused ones are \
                    still to be written in the newest segment, dead are the others";
        let unused = status.unused_bytes;
        let dead = status.log_bytes.saturating_sub(live + unused);
        let samples: [Sample<'_>; 3] = [
            (&[("state", "live")], live as f64),
            (&[("state", "dead")], dead as f64),
            (&[("state", "unused")], unused as f64),
        ];
        self.metric("log_bytes", "gauge", help, samples);
        self.gauge("log_segments", "Files of the log that hold or held something", status.segments);
        let help = "Bytes of log that are not durable yet: what answers wait for";
        self.gauge("log_lag_bytes", help, status.lag_bytes);
        let help = "Changes in memory that no checkpoint has taken";
        self.gauge("index_changes", help, status.totals.changes);
        if let Some(age) = numbers.checkpoint_age {
            let help = "Seconds since the last checkpoint of this process ended";
            self.metric("checkpoint_age_seconds", "gauge", help, [(&[][..], age.as_secs_f64())]);
        }
    }

    fn memory(&mut self, numbers: &Numbers) {
        if let Some(resident) = numbers.resident_bytes {
            self.gauge("memory_resident_bytes", "Memory of the process in RAM", resident);
        }
        let status = &numbers.status;
        let parts = [
            ("cache", status.cache_bytes as u64),
            ("non_persistent", status.totals.volatile_bytes),
            ("changes", (status.totals.changes * CHANGE_BYTES) as u64),
            ("inbox", numbers.inbox_bytes as u64),
            ("log", status.gathered_bytes as u64),
        ];
        let labels = parts.map(|(part, bytes)| ([("part", part)], bytes as f64));
        let help = "Memory by what it is for, as far as it is counted";
        let samples = labels.iter().map(|(labels, bytes)| (&labels[..], *bytes));
        self.metric("memory_bytes", "gauge", help, samples);
    }

    fn histogram(&mut self, name: &str, help: &str, counted: &Counted) {
        self.line(format_args!("# HELP escrowmq_{name}_seconds {help}."));
        self.line(format_args!("# TYPE escrowmq_{name}_seconds histogram"));
        for (end, count) in &counted.buckets {
            let end = if end.is_infinite() { "+Inf".to_owned() } else { end.to_string() };
            self.line(format_args!("escrowmq_{name}_seconds_bucket{{le=\"{end}\"}} {count}"));
        }
        self.line(format_args!("escrowmq_{name}_seconds_sum {}", counted.sum));
        self.line(format_args!("escrowmq_{name}_seconds_count {}", counted.count));
        let samples: [Sample<'_>; 1] = [(&[], counted.longest)];
        let help = format!("The longest so far of: {help}");
        self.metric(&format!("{name}_longest_seconds"), "gauge", &help, samples);
    }
}

/// Each counter, in words.
fn events(counters: &Counters) -> [(&'static str, &'static str, u64); 11] {
    [
        ("sent", "taken in", counters.sent),
        ("delivered", "handed to consumers", counters.delivered),
        ("redelivered", "handed to consumers again", counters.redelivered),
        ("acknowledged", "accepted by consumers", counters.acknowledged),
        ("returned", "given back by consumers", counters.returned),
        ("expired", "that expired", counters.expired),
        ("purged", "removed by an operator", counters.purged),
        ("discarded", "that came back too often and were removed", counters.discarded),
        ("dead_lettered", "set apart", counters.dead_lettered),
        ("moved_in", "brought from another queue", counters.moved_in),
        ("moved_out", "taken to another queue", counters.moved_out),
    ]
}

/// A number of any kind: beyond 2^53 it is told roughly.
struct Number(f64);

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self(value as f64)
    }
}

impl From<usize> for Number {
    fn from(value: usize) -> Self {
        Self(value as f64)
    }
}

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
