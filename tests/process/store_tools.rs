//! Stories of `escrowmq store`: what verify and dump say of sound and of damaged stores.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use crate::support::broker::{Broker, assert_no_damage, assert_no_panic, run_to_end, said};
use crate::support::damage::{find, flip_a_bit_of, store_with_a_damaged_message};
use crate::support::fresh_dir;
use crate::support::stomp::Frame;

#[test]
fn verify_finds_no_damage_in_a_store_after_a_clean_end_or_a_kill() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    broker.connect().publish("/queue/verify", "sound").unwrap();
    let broker = broker.terminate_and_restart();
    broker.connect().publish("/queue/verify", "sound too").unwrap();
    assert_no_damage(&broker.kill());
}

#[test]
fn verify_names_the_file_and_the_frame_of_a_flipped_bit() {
    let dir = fresh_dir();
    let (data, file, changed) = store_with_a_damaged_message(&dir.path().join("data"));
    let verify = run_to_end(&["store", "verify", data.to_str().unwrap()]);
    assert_eq!(verify.status.code(), Some(1), "{verify:?}");
    // The frame that holds the changed byte is the last that begins before it.
    let dump = run_to_end(&["store", "dump", data.to_str().unwrap()]);
    let frames = frames_of_the_only_segment(&String::from_utf8(dump.stdout).unwrap());
    let frame = frames.iter().filter(|frame| **frame <= changed as u64).max().unwrap();
    assert!(changed as u64 - frame < 1024, "small messages lie in small frames: {frames:?}");
    let name = file.file_name().unwrap().to_string_lossy();
    let out = String::from_utf8(verify.stdout).unwrap();
    let lines: Vec<&str> = out.lines().collect();
    let place = format!("{name} at offset {frame}: ");
    assert!(lines.len() == 2 && lines[0].starts_with(&place), "expected {place}..., got {out}");
    assert_eq!(lines[1], "1 damage");
}

#[test]
fn dump_shows_what_the_log_of_a_store_says() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    broker.connect().publish("/queue/a.name.to.look.for", "dumped").unwrap();
    let data = broker.data().to_owned();
    assert!(broker.terminate().success());
    let dump = run_to_end(&["store", "dump", data.to_str().unwrap()]);
    assert!(dump.status.success(), "{dump:?}");
    assert!(said(&dump).contains("a.name.to.look.for"), "{dump:?}");
}

#[test]
fn store_tools_refuse_what_is_no_store() {
    let dir = fresh_dir();
    let nowhere = dir.path().join("nowhere");
    for tool in ["verify", "dump"] {
        let output = run_to_end(&["store", tool, nowhere.to_str().unwrap()]);
        assert!(!output.status.success(), "{tool}: {output:?}");
        assert!(said(&output).contains("nowhere"), "{tool}: {output:?}");
        assert!(!nowhere.exists(), "{tool} made a store where none was");
        assert_no_panic(&said(&output));
    }
}

#[test]
fn verify_and_dump_leave_a_store_exactly_as_it_was() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    broker.connect().publish("/queue/untouched", "kept").unwrap();
    let data = broker.kill();
    // A copy has no lock file, and none shall be made in it.
    std::fs::remove_file(data.join("lock")).unwrap();
    let before = content_of(&data);
    assert_no_damage(&data);
    let dump = run_to_end(&["store", "dump", data.to_str().unwrap()]);
    assert!(dump.status.success(), "{dump:?}");
    assert!(content_of(&data) == before, "a byte, a name or a time has changed");
}

#[test]
fn verify_takes_a_segment_that_its_owner_removed_for_no_damage_and_any_other_for_one() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    broker.connect().publish("/queue/kept", "stays in the first segment").unwrap();
    let broker = broker.terminate_and_restart();
    broker.connect().publish("/queue/gone", "goes with the second segment").unwrap();
    let broker = broker.terminate_and_restart();
    assert_eq!(consume(&broker, "/queue/gone"), "goes with the second segment");
    let broker = broker.terminate_and_restart();
    let data = broker.data().to_owned();
    assert!(broker.terminate().success());

    assert_eq!(segment_of(&data, 2), None, "nothing needs the segment of the second life");
    assert_no_damage(&data);
    let first = segment_of(&data, 1).expect("a message lies in it");
    std::fs::rename(data.join(&first), dir.path().join("aside")).unwrap();
    let verify = run_to_end(&["store", "verify", data.to_str().unwrap()]);
    assert_eq!(verify.status.code(), Some(1), "{verify:?}");
    let out = String::from_utf8_lossy(&verify.stdout);
    let line = out.lines().find(|line| line.starts_with(&format!("{first}: ")));
    assert!(line.is_some_and(|line| line.contains("missing")), "does not name {first}: {out}");
}

#[test]
fn verify_finds_damage_in_every_kind_of_file() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    broker.connect().publish("/queue/a.name.in.the.index", "sound").unwrap();
    let data = broker.data().to_owned();
    assert!(broker.terminate().success());
    let needles: [(&str, &[u8]); 5] = [
        ("store", b"EscMQsto"),
        ("claim-", b"EscMQcla"),
        ("seal-", b"EscMQsea"),
        ("wal-", b"a.name.in.the.index"),
        ("index.redb", b"a.name.in.the.index"),
    ];
    for (prefix, needle) in needles {
        let (name, bytes) = content_of(&data)
            .into_iter()
            .find(|(name, (bytes, _))| name.starts_with(prefix) && find(bytes, needle).is_some())
            .map(|(name, (bytes, _))| (name, bytes))
            .unwrap_or_else(|| panic!("no file {prefix}* holds {needle:?}"));
        let mut bad = bytes.clone();
        // Everywhere: the index keeps older versions of its pages.
        while let Some(at) = find(&bad, needle) {
            bad[at + 1] ^= 0x10;
        }
        std::fs::write(data.join(&name), bad).unwrap();
        let verify = run_to_end(&["store", "verify", data.to_str().unwrap()]);
        assert_eq!(verify.status.code(), Some(1), "{name}: {verify:?}");
        let out = String::from_utf8_lossy(&verify.stdout);
        let named = out.lines().any(|line| line.starts_with(&name) && line.contains(": "));
        assert!(named, "does not name {name}: {verify:?}");
        assert!(out.trim_end().ends_with("damage") || out.trim_end().ends_with("damages"));
        assert!(!out.contains("no damage"), "{verify:?}");
        assert_no_panic(&said(&verify));
        std::fs::write(data.join(&name), bytes).unwrap();
    }
    assert_no_damage(&data);
}

#[test]
fn dump_shows_damage_in_its_place_and_goes_on() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    for body in ["body before", "body to be damaged", "body after"] {
        stomp.publish("/queue/dump", body).unwrap();
    }
    let data = broker.data().to_owned();
    assert!(broker.terminate().success());
    flip_a_bit_of(&data, b"body to be damaged");
    let dump = run_to_end(&["store", "dump", data.to_str().unwrap()]);
    let said = said(&dump);
    let places = ["body before", "DAMAGED", "body after"].map(|word| said.find(word));
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{said}");
}

#[test]
fn dump_names_a_batch_that_cannot_be_read_and_a_missing_segment_and_goes_on() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    stomp.publish("/queue/dump", "in the first life").unwrap();
    let broker = broker.terminate_and_restart();
    let mut stomp = broker.connect();
    for body in ["body before", "body behind a bad head", "body after"] {
        stomp.publish("/queue/dump", body).unwrap();
    }
    let data = broker.data().to_owned();
    assert!(broker.terminate().success());
    let first = segment_of(&data, 1).expect("a message lies in it");
    std::fs::remove_file(data.join(&first)).unwrap();
    let second = segment_of(&data, 2).expect("messages lie in it");
    let mut bytes = std::fs::read(data.join(&second)).unwrap();
    // Each of these batches takes one block, and its head stands at the block's beginning.
    let block = find(&bytes, b"body behind a bad head").unwrap() / 4096 * 4096;
    bytes[block + 5] ^= 0x10;
    std::fs::write(data.join(&second), bytes).unwrap();

    let dump = run_to_end(&["store", "dump", data.to_str().unwrap()]);
    let said = said(&dump);
    let missing = format!("DAMAGED {first}: ");
    let damaged = format!("DAMAGED {second} at offset {block}: ");
    let places = [&missing, "body before", &damaged, "body after"].map(|word| said.find(word));
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?} {said}");
    assert!(!said.contains("behind a bad head"), "a batch that cannot be trusted: {said}");
    assert_no_panic(&said);
}

#[test]
fn a_reader_of_a_dump_may_go_away() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    for number in 0..2000 {
        let send = Frame::new("SEND").with("destination", "/queue/long");
        stomp.send(&send.body(format!("message {number}"))).unwrap();
    }
    stomp.publish("/queue/long", "the last").unwrap();
    let data = broker.data().to_owned();
    assert!(broker.terminate().success());
    let mut command = crate::support::broker::escrowmq();
    command.args(["store", "dump"]).arg(&data);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn store_tools_refuse_a_store_in_use() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    for tool in ["verify", "dump"] {
        let output = run_to_end(&["store", tool, broker.data().to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{tool}: {output:?}");
        assert!(said(&output).contains("open"), "{tool}: {output:?}");
    }
}

/// Consumes the one message of a queue.
#[track_caller]
fn consume(broker: &Broker, queue: &str) -> String {
    let mut stomp = broker.connect();
    stomp.subscribe("s", queue, "client-individual").unwrap();
    let message = stomp.message().unwrap();
    stomp.ack(&message).unwrap();
    stomp.disconnect().unwrap();
    message.text().to_owned()
}

/// Every file of a store, with its bytes and the time of its last change.
#[track_caller]
fn content_of(dir: &Path) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).expect("the store") {
        let entry = entry.expect("an entry of the store");
        let name = entry.file_name().into_string().expect("a UTF-8 name");
        let changed = entry.metadata().and_then(|metadata| metadata.modified()).expect("a time");
        // A socket has no bytes to read.
        files.insert(name, (std::fs::read(entry.path()).unwrap_or_default(), changed));
    }
    files
}

/// The file of the first segment of a life.
fn segment_of(data: &Path, epoch: u64) -> Option<String> {
    let prefix = format!("wal-{epoch:016x}-");
    content_of(data).into_keys().find(|name| name.starts_with(&prefix))
}

/// Where the frames of a dump begin in their file: segments lie in the log without a gap.
#[track_caller]
fn frames_of_the_only_segment(dump: &str) -> Vec<u64> {
    assert_eq!(dump.lines().filter(|line| line.starts_with("segment ")).count(), 1, "{dump}");
    let head = dump.lines().next().unwrap_or_default();
    let size = head.rsplit(' ').next().and_then(|size| size.parse::<u64>().ok());
    let size = size.expect("a first line that ends with the segment size");
    let frame = |line: &str| {
        let lsn = line.strip_prefix("    0x")?.split(' ').next()?;
        Some(u64::from_str_radix(lsn, 16).expect("a position") % size)
    };
    dump.lines().filter_map(frame).collect()
}
