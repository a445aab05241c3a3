//! Stories of `escrowmq store stats`: its numbers are those of a store whose content is known.

use std::path::Path;

use crate::support::broker::{Broker, run_to_end, said};
use crate::support::damage::find;
use crate::support::fresh_dir;
use crate::support::stomp::{Frame, Stomp};

use escrowmq::{Destination, Xid};

const SMALL: &str = "[log]\nsegment_size = \"1MiB\"\ncheckpoint_bytes = \"1MiB\"\n\
                     [limits]\nmessage = \"256KiB\"\n";
const BODY: usize = 100_000;
const SEGMENT: u64 = 1 << 20;

#[test]
fn stats_agree_with_a_store_whose_content_is_known() {
    let dir = fresh_dir();
    let broker = Broker::start_configured(&dir.path().join("data"), SMALL);
    let mut stomp = broker.connect();
    // Two segments and more: ten of such messages fill one.
    for _ in 0..21 {
        publish(&mut stomp, "/queue/large.consumed");
    }
    for _ in 0..3 {
        publish(&mut stomp, "/queue/large \"kept\"");
    }
    stomp.publish("/queue/small", "little").unwrap();
    consume(&mut stomp, "/queue/large.consumed", 20);
    // Once with the log ahead of the index, once with all in the index.
    let data = broker.kill();
    let after_kill = json(&data, &[]);
    let broker = Broker::start_configured(&data, SMALL);
    assert!(broker.terminate().success());
    let after_stop = json(&data, &[]);
    for json in [&after_kill, &after_stop] {
        let queues = array(json, "queues");
        assert_eq!(
            queues.iter().map(|q| text(q, "name")).collect::<Vec<_>>(),
            ["\"large.consumed\"", "\"large \\\"kept\\\"\"", "\"small\""]
        );
        let messages: Vec<u64> = queues.iter().map(|q| number(q, "messages")).collect();
        assert_eq!(messages, [1, 3, 1]);
        for (queue, large) in queues.iter().zip(messages) {
            let bytes = number(queue, "bytes");
            let content = if text(queue, "name") == "\"small\"" { 6 } else { large * BODY as u64 };
            assert!((content..content + 200 * large).contains(&bytes), "{queue}");
        }
        let sum = |name| queues.iter().map(|q| number(q, name)).sum::<u64>();
        let totals = text(json, "totals");
        assert_eq!(number(totals, "live"), sum("bytes"));
        assert_eq!(number(totals, "messages"), 5);
        // Twenty messages and all that was said of them are dead, where their segments are.
        let mut live = 0;
        for segment in array(json, "segments") {
            let parts = ["live", "dead", "padding", "unused"].map(|part| number(segment, part));
            assert_eq!(parts.iter().sum::<u64>() + 4096, SEGMENT, "{segment}");
            live += parts[0];
        }
        assert_eq!(live, sum("bytes"));
        assert_eq!(number(json, "damages"), 0);
    }
    // The last of the first queue and the three that came after it.
    let segments = array(&after_stop, "segments");
    let pinned = segments.iter().find(|s| number(s, "messages") > 0).expect("messages lie there");
    let top = array(pinned, "top_queues");
    assert_eq!(text(top[0], "name"), "\"large \\\"kept\\\"\"", "{pinned}");
    assert_eq!(text(text(pinned, "oldest"), "queue"), "\"large.consumed\"", "{pinned}");
    assert!(number(&after_kill, "log_end") > 2 * SEGMENT);
}

#[test]
fn what_was_consumed_goes_from_live_to_dead() {
    let dir = fresh_dir();
    let data = dir.path().join("data");
    let broker = Broker::start_configured(&data, SMALL);
    let mut stomp = broker.connect();
    for _ in 0..4 {
        publish(&mut stomp, "/queue/a");
    }
    let data = broker.kill();
    let before = json(&data, &[]);
    let broker = Broker::start_configured(&data, SMALL);
    consume(&mut broker.connect(), "/queue/a", 4);
    // A message holds the segment, which would be gone.
    let data = broker.kill();
    let after = json(&data, &[]);
    let of = |json: &str, part| number(text(json, "totals"), part);
    assert!(of(&before, "live") > 4 * BODY as u64 && of(&before, "dead") < 10_000, "{before}");
    assert!(of(&after, "live") == 0 && of(&after, "dead") > 4 * BODY as u64, "{after}");
    // Without reading the log nobody knows.
    let quick = json(&data, &["--quick"]);
    assert_eq!(text(text(&quick, "totals"), "dead"), "null");
    assert_eq!(of(&quick, "live"), 0);
}

#[test]
fn the_table_names_queues_and_what_keeps_a_segment() {
    let dir = fresh_dir();
    let data = dir.path().join("data");
    let broker = Broker::start_configured(&data, SMALL);
    let mut stomp = broker.connect();
    for _ in 0..3 {
        publish(&mut stomp, "/queue/orders");
    }
    let refused = run_to_end(&["store", "stats", data.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(said(&refused).contains("queue list") && said(&refused).contains("store backup"));
    let backup = dir.path().join("backup");
    let made = run_to_end(&["store", "backup", data.to_str().unwrap(), backup.to_str().unwrap()]);
    assert!(made.status.success(), "{made:?}");
    for store in [&backup, &broker.kill()] {
        let output = run_to_end(&["store", "stats", store.to_str().unwrap()]);
        assert!(output.status.success(), "{output:?}");
        let said = said(&output);
        for words in ["3 messages in 1 queues", "orders 293.", "in 3; oldest", "prepared"] {
            assert!(said.contains(words), "{words:?} is missing:\n{said}");
        }
        assert_eq!(said.contains("this is a backup"), store == &backup);
    }
}

#[test]
fn what_a_branch_has_sent_and_bodies_that_broke_off_are_told_to_keep_their_segments() {
    let dir = fresh_dir();
    let data = dir.path().join("data");
    let builder = escrowmq::Broker::builder(&data).segment_size(SEGMENT).disk_reserve(2 * SEGMENT);
    let broker = builder.open_blocking().unwrap();
    let connection = broker.connect().unwrap();
    let branch = connection.xa().start(&Xid::new(7, b"a", b"b").unwrap()).unwrap();
    for _ in 0..12 {
        branch.send(Destination::queue("out"), "x".repeat(BODY)).unwrap();
    }
    let xid = branch.xid().clone();
    branch.end().unwrap();
    connection.xa().prepare(&xid).unwrap();
    broker.close().unwrap();
    let stopped = json(&data, &[]);
    let first = array(&stopped, "segments")[0];
    let top = array(first, "top_unsettled");
    assert_eq!((top.len(), number(first, "unsettled")), (1, 1), "{first}");
    assert_eq!((text(top[0], "kind"), text(top[0], "xid")), ("\"branch\"", "\"7:61:62\""));
    assert_eq!(number(top[0], "bytes"), number(first, "live"), "{first}");
    let table = said(&run_to_end(&["store", "stats", data.to_str().unwrap()]));
    assert!(table.contains("  branch 7:61:62 "), "{table}");

    let broker = Broker::start_configured(&data, "[log]\nsegment_size = \"1MiB\"\n");
    let mut stomp = broker.connect();
    let head = "SEND\ndestination:/queue/large\ncontent-length:1000000\n\n";
    stomp.write_raw(head.as_bytes()).unwrap();
    stomp.write_raw(&[b'y'; 700_000]).unwrap();
    let written = || {
        let files = std::fs::read_dir(broker.data()).unwrap();
        let mut files = files.map(|file| std::fs::read(file.unwrap().path()).unwrap_or_default());
        files.any(|bytes| find(&bytes, &[b'y'; 1000]).is_some())
    };
    crate::support::wait_until("some of the body is in the log", written);
    let killed = said(&run_to_end(&["store", "stats", broker.kill().to_str().unwrap()]));
    assert!(killed.contains("bodies still arriving "), "{killed}");
    assert!(killed.contains("branch 7:61:62 "), "{killed}");
}

fn publish(stomp: &mut Stomp, queue: &str) {
    let frame = Frame::new("SEND").with("destination", queue).with("persistent", "true");
    stomp.confirm(frame.body("x".repeat(BODY))).unwrap();
}

#[track_caller]
fn consume(stomp: &mut Stomp, queue: &str, count: usize) {
    stomp.subscribe("s", queue, "client-individual").unwrap();
    for _ in 0..count {
        let message = stomp.message().unwrap();
        stomp.ack(&message).unwrap();
    }
}

#[track_caller]
fn json(data: &Path, options: &[&str]) -> String {
    let args = [&["store", "stats", "--json", data.to_str().unwrap()], options].concat();
    let output = run_to_end(&args);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The value of a member of an object of JSON, as it stands there.
#[track_caller]
fn text<'a>(json: &'a str, name: &str) -> &'a str {
    let key = format!("\"{name}\":");
    let at = json.find(&key).unwrap_or_else(|| panic!("no {name} in {json}")) + key.len();
    &json[at..at + value_length(&json[at..])]
}

#[track_caller]
fn number(json: &str, name: &str) -> u64 {
    text(json, name).parse().unwrap_or_else(|_| panic!("{name} is no number in {json}"))
}

#[track_caller]
fn array<'a>(json: &'a str, name: &str) -> Vec<&'a str> {
    let key = format!("\"{name}\":[");
    let at = json.find(&key).unwrap_or_else(|| panic!("no list {name} in {json}")) + key.len();
    let (mut rest, mut values) = (&json[at..], Vec::new());
    while !rest.starts_with(']') {
        let length = value_length(rest);
        values.push(&rest[..length]);
        rest = rest[length..].trim_start_matches(',');
    }
    values
}

/// Bytes of the first value: to the comma or bracket that ends it.
fn value_length(json: &str) -> usize {
    let (mut depth, mut quoted, mut escaped) = (0_i32, false, false);
    for (at, c) in json.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '{' | '[' => depth += 1,
            '}' | ']' | ',' if depth == 0 => return at,
            '}' | ']' => depth -= 1,
            _ => {}
        }
    }
    json.len()
}
