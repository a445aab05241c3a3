//! Stories of a store whose old messages outlive the traffic around them.

use std::path::Path;

use crate::support::broker::{Broker, assert_no_damage, run_to_end, said};
use crate::support::damage::find;
use crate::support::stomp::Frame;
use crate::support::{fresh_dir, wait_until};

/// Small segments, and rest after a second.
const SETTINGS: &str = "\
    [log]\nsegment_size = \"1MiB\"\ncheckpoint_bytes = \"1MiB\"\ncheckpoint_seconds = 1\n\
    [limits]\nmessage = \"200KiB\"\n";

const KEPT: [&str; 4] =
    ["the first that is kept", "a second one", "a third one", "the last of those that are kept"];

/// Messages that stay, each with traffic after it that is purged; returned at rest, packed.
fn packed_store(data: &Path) -> Broker {
    let broker = Broker::start_configured(data, SETTINGS);
    let mut stomp = broker.connect();
    for body in KEPT {
        stomp.publish("/queue/kept", body).unwrap();
        for _ in 0..16 {
            let send = Frame::new("SEND").with("destination", "/queue/through");
            stomp.confirm(send.with("persistent", "true").body(vec![b'x'; 100_000])).unwrap();
        }
        assert!(broker.queue_command(&["purge", "through"]).status.success());
    }
    wait_until("the store is packed and at rest", || {
        // What is set aside for a full disk is no part of what is kept.
        let kept = files(data, "").into_iter().filter(|(name, _)| name != "reserve");
        let taken: u64 = kept.map(|(_, bytes)| bytes).sum();
        files(data, "pack-").len() == 1 && files(data, "spare-").is_empty() && taken < 6 << 20
    });
    broker
}

/// The names and sizes of files.
fn files(data: &Path, prefix: &str) -> Vec<(String, u64)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(data).expect("the store") {
        let entry = entry.expect("an entry of the store");
        let name = entry.file_name().into_string().expect("a UTF-8 name");
        if name.starts_with(prefix) {
            // One that goes meanwhile takes nothing any more.
            files.push((name, entry.metadata().map_or(0, |file| file.len())));
        }
    }
    files
}

fn consume(broker: &Broker, queue: &str) -> Frame {
    let mut stomp = broker.connect();
    stomp.subscribe("s", queue, "client-individual").unwrap();
    let message = stomp.message().unwrap();
    stomp.ack(&message).unwrap();
    stomp.disconnect().unwrap();
    message
}

#[test]
fn old_messages_are_packed_at_rest_and_come_out_as_they_were_after_a_kill() {
    let dir = fresh_dir();
    let broker = packed_store(&dir.path().join("data"));
    let data = broker.kill();
    assert_no_damage(&data);
    let dump = run_to_end(&["store", "dump", data.to_str().unwrap()]);
    let (pack, _) = files(&data, "pack-").remove(0);
    assert!(said(&dump).contains(&format!("pack {pack} ")), "{}", said(&dump));
    assert!(KEPT.iter().any(|body| said(&dump).contains(body)), "{}", said(&dump));
    let broker = Broker::start_configured(&data, SETTINGS);
    for body in KEPT {
        assert_eq!(consume(&broker, "/queue/kept").text(), body);
    }
    wait_until("the pack goes with its last message", || files(&data, "pack-").is_empty());
    assert_no_damage(&broker.kill());
}

#[test]
fn a_damaged_message_in_a_pack_costs_itself_alone_and_verify_names_it() {
    let dir = fresh_dir();
    let data = packed_store(&dir.path().join("data")).kill();
    let (pack, _) = files(&data, "pack-").remove(0);
    let mut bytes = std::fs::read(data.join(&pack)).unwrap();
    let at = find(&bytes, KEPT[1].as_bytes()).expect("it is packed");
    bytes[at] ^= 1;
    std::fs::write(data.join(&pack), bytes).unwrap();
    let verify = run_to_end(&["store", "verify", data.to_str().unwrap()]);
    assert_eq!(verify.status.code(), Some(1), "{verify:?}");
    let out = String::from_utf8_lossy(&verify.stdout);
    assert!(out.starts_with(&format!("{pack} at offset ")) && out.contains("1 damage"), "{out}");

    let broker = Broker::start_configured(&data, SETTINGS);
    let mut stomp = broker.connect();
    stomp.subscribe("s", "/queue/kept", "auto").unwrap();
    let bodies = [(); 3].map(|()| stomp.message().unwrap().text().to_owned());
    assert_eq!(bodies, [KEPT[0], KEPT[2], KEPT[3]]);
    let lost = consume(&broker, "/queue/ActiveMQ.DLQ.Damaged");
    assert_eq!(lost.header("damagedFile"), Some(pack.as_str()), "{lost:?}");
}

#[test]
fn a_missing_pack_refuses_the_start_by_name() {
    let dir = fresh_dir();
    let data = packed_store(&dir.path().join("data")).kill();
    let (pack, _) = files(&data, "pack-").remove(0);
    std::fs::rename(data.join(&pack), dir.path().join("aside")).unwrap();
    let verify = run_to_end(&["store", "verify", data.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&verify.stdout).contains(&format!("{pack}: ")), "{verify:?}");
    let run = run_to_end(&["run", "--data", data.to_str().unwrap()]);
    assert!(!run.status.success(), "{run:?}");
    assert!(said(&run).contains(&pack) && said(&run).contains("missing"), "{run:?}");
    // Nothing was changed.
    std::fs::rename(dir.path().join("aside"), data.join(&pack)).unwrap();
    assert_no_damage(&data);
}
