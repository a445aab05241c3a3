//! Stories of `escrowmq store repair`: each kind of damage is named, what would be lost is told,
//! and that and nothing else is lost.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;

use escrowmq::engine::{Settings, open_store};
use escrowmq::ids::Millis;
use escrowmq::io::Storage;
use escrowmq::io::real::DirStorage;
use escrowmq::protocol::openwire::Structure;
use escrowmq::record::Record;
use escrowmq::wal::Options;

use crate::durable::{connect_as, keep};
use crate::support::broker::{
    ANY_PORT, Broker, assert_no_damage, assert_no_panic, escrowmq, run_to_end, said,
};
use crate::support::damage::{find, store_with_a_damaged_message};
use crate::support::openwire::{OpenWire, branch, queue};
use crate::support::stomp::Frame;
use crate::support::{fresh_dir, wait_until};

/// Segments that a test can fill, and no checkpoint while it does.
const SMALL: &str = "[log]\nsegment_size = \"1MiB\"\n[limits]\nmessage = \"256KiB\"\n";

#[test]
fn a_sound_store_and_one_with_a_damaged_message_need_no_repair() {
    let dir = fresh_dir();
    let broker = start(&dir.path().join("data"));
    broker.connect().publish("/queue/a", "sound").unwrap();
    let data = broker.kill();
    let (damaged, ..) = store_with_a_damaged_message(&dir.path().join("damaged"));
    for data in [&data, &damaged] {
        let output = run_to_end(&["store", "repair", path(data)]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(said(&output).contains("nothing to repair"), "{output:?}");
    }
}

#[test]
fn a_log_is_cut_before_the_batch_that_cannot_be_read() {
    let dir = fresh_dir();
    let broker = start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    for number in 1..=10 {
        stomp.publish("/queue/cut", &format!("message {number}.")).unwrap();
    }
    let data = broker.kill();
    let (file, block) = damage_head_of_batch_with(&data, b"message 6.");
    let told = refuse_start_and_look(&data);
    let place = format!("{file} at offset {block}: no good batch header");
    for words in [&place, "4 records can be read, and 1 places cannot", "not gone: 4 of cut"] {
        assert!(told.contains(words), "{words:?} is missing:\n{told}");
    }
    let new = repair(&data, &dir.path().join("new"));
    let expected: Vec<String> = (1..=5).map(|number| format!("message {number}.")).collect();
    assert_eq!(read_all(&new, "cut"), (expected, true));
}

#[test]
fn acknowledgements_behind_the_cut_are_told_and_their_messages_come_back() {
    let dir = fresh_dir();
    let broker = start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    for number in 1..=3 {
        stomp.publish("/queue/cut", &format!("message {number}.")).unwrap();
    }
    stomp.publish("/queue/other", "to be damaged").unwrap();
    stomp.subscribe("s", "/queue/cut", "client-individual").unwrap();
    for _ in 0..2 {
        let message = stomp.message().unwrap();
        stomp.ack(&message).unwrap();
    }
    let data = broker.kill();
    damage_head_of_batch_with(&data, b"to be damaged");
    let told = refuse_start_and_look(&data);
    assert!(told.contains("which come back: 2 of cut"), "{told}");
    let new = repair(&data, &dir.path().join("new"));
    let expected: Vec<String> = (1..=3).map(|number| format!("message {number}.")).collect();
    assert_eq!(read_all(&new, "cut"), (expected, true));
}

/// A branch that has sent a message to `out`, and voted.
#[track_caller]
fn prepare(jms: &mut OpenWire, number: u8) {
    let id = branch(number);
    let _ = jms.transaction(Some(&id), 0);
    let mut sent = jms.text(i64::from(number), queue("out"), "sent");
    sent.head.transaction_id = Some(id.clone());
    assert!(matches!(jms.ask(&sent), Structure::Response(_)));
    let _ = jms.transaction(Some(&id), 7);
    assert!(matches!(jms.transaction(Some(&id), 1), Structure::IntegerResponse(_)));
}

#[test]
fn transactions_and_publications_behind_the_cut_are_told_and_undone() {
    let dir = fresh_dir();
    let data = dir.path().join("data");
    let file = dir.path().join("settings.toml");
    std::fs::write(&file, SMALL).unwrap();
    let listen = ["--listen", ANY_PORT, "--listen", "tcp://127.0.0.1:0"];
    let broker = Broker::start_with(&data, &[&["--config", path(&file)][..], &listen].concat());
    for client in ["ann", "bob", "cy"] {
        let mut stomp = connect_as(&broker, client);
        stomp.confirm(keep("/topic/news", "all")).unwrap();
        stomp.disconnect().unwrap();
    }
    let mut stomp = broker.connect();
    for number in 1..=3 {
        stomp.publish("/queue/from", &format!("message {number}.")).unwrap();
    }
    let mut jms = OpenWire::connect(broker.ports()[1], "c");
    prepare(&mut jms, 1);
    stomp.publish("/queue/other", "to be damaged").unwrap();

    prepare(&mut jms, 2);
    assert!(matches!(jms.transaction(Some(&branch(1)), 3), Structure::Response(_)));
    stomp.subscribe("s", "/queue/from", "client-individual").unwrap();
    let taken = stomp.message().unwrap();
    stomp.send(&Frame::new("BEGIN").with("transaction", "t")).unwrap();
    for body in ["one", "two"] {
        let send = Frame::new("SEND").with("destination", "/queue/to").with("persistent", "true");
        stomp.send(&send.with("transaction", "t").body(body)).unwrap();
    }
    stomp.send(&stomp.ack_of(&taken).with("transaction", "t")).unwrap();
    stomp.confirm(Frame::new("COMMIT").with("transaction", "t")).unwrap();
    for body in ["one", "two"] {
        stomp.publish("/topic/news", body).unwrap();
    }
    for client in ["ann", "bob", "cy"] {
        let mut stomp = connect_as(&broker, client);
        stomp.confirm(keep("/topic/news", "all")).unwrap();
        let message = stomp.message().unwrap();
        stomp.ack(&message).unwrap();
    }
    let data = broker.kill();
    damage_head_of_batch_with(&data, b"to be damaged");
    let told = refuse_start_and_look(&data);
    let kept = ["ann", "bob", "cy"].map(|it| format!("1 of subscription://{it}/all?topic=news"));
    for words in [
        format!("not gone: {}, 1 of out, 2 of to\n", kept.join(", ")),
        "which come back: 1 of from\n".to_owned(),
        "queues and durable subscriptions made there: to\n".to_owned(),
        "commits there, which have not happened then: 2\n".to_owned(),
        "votes there of branches, which are gone for their managers: 7:02:62\n".to_owned(),
        "branches, which are prepared again: 7:01:62 (committed)\n".to_owned(),
    ] {
        assert!(told.contains(&words), "{words:?} is missing:\n{told}");
    }
    let new = repair(&data, &dir.path().join("new"));
    let branches = said(&run_to_end(&["xa", "list", "--store", path(&new)]));
    assert!(branches.contains("7:01:62") && branches.contains("1 prepared"), "{branches}");
    let expected: Vec<String> = (1..=3).map(|number| format!("message {number}.")).collect();
    assert_eq!(read_all(&new, "from"), (expected, true));
    let queues = start(&new).queues();
    let mut others = queues.iter().filter(|(name, ..)| !["from", "other"].contains(&&**name));
    assert!(others.all(|(_, depth, _)| *depth == 0), "{queues:?}");
}

#[test]
fn a_log_is_cut_before_a_segment_that_is_missing() {
    let dir = fresh_dir();
    let broker = start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    // Ten of these fill a segment, so these fill two and begin a third.
    for number in 1..=25 {
        stomp.publish("/queue/cut", &format!("{number} {}", "x".repeat(100_000))).unwrap();
    }
    let data = broker.kill();
    let second = segments(&data).remove(1);
    std::fs::remove_file(data.join(&second)).unwrap();
    let told = refuse_start_and_look(&data);
    assert!(told.contains(&format!("{second}: it is missing")), "{told}");
    let new = repair(&data, &dir.path().join("new"));
    let (bodies, flagged) = read_all(&new, "cut");
    let numbers = bodies.iter().map(|body| body.split(' ').next().unwrap().parse().unwrap());
    let numbers: Vec<u64> = numbers.collect();
    assert!(flagged && (9..=10).contains(&numbers.len()), "{numbers:?}");
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "{numbers:?}");
}

#[test]
fn messages_of_a_lost_segment_are_set_apart_and_the_others_stay() {
    for kind in ["missing", "without a head", "too short"] {
        let dir = fresh_dir();
        let broker = start(&dir.path().join("data"));
        broker.connect().publish("/queue/kept", "in the lost segment").unwrap();
        let broker = restart(broker);
        broker.connect().publish("/queue/kept", "in the next segment").unwrap();
        let broker = restart(broker);
        let data = broker.data().to_owned();
        assert!(broker.terminate().success());
        let lost = segments(&data).remove(0);
        let bytes = std::fs::read(data.join(&lost)).unwrap();
        assert!(find(&bytes, b"in the lost segment").is_some());
        match kind {
            "missing" => std::fs::remove_file(data.join(&lost)).unwrap(),
            "without a head" => {
                let zeros = [&[0; 4096], &bytes[4096..]].concat();
                std::fs::write(data.join(&lost), zeros).unwrap();
            }
            _ => std::fs::write(data.join(&lost), &bytes[..4096]).unwrap(),
        }
        let told = refuse_start_and_look(&data);
        assert!(told.contains(&lost), "{kind}: {told}");
        assert!(told.contains("1 of kept") && told.contains("ActiveMQ.DLQ.Damaged"), "{told}");
        let new = repair(&data, &dir.path().join("new"));
        let broker = start(&new);
        let mut stomp = broker.connect();
        stomp.subscribe("s", "/queue/kept", "client").unwrap();
        let damaged = ("ActiveMQ.DLQ.Damaged".to_owned(), 1, 0);
        wait_until("the message is set apart", || broker.queues().contains(&damaged));
        broker.kill();
        assert_eq!(read_all(&new, "kept"), (vec!["in the next segment".to_owned()], true));
        let (set_apart, _) = read_all(&new, "ActiveMQ.DLQ.Damaged");
        assert!(set_apart.len() == 1 && set_apart[0].contains("is damaged"), "{set_apart:?}");
    }
}

#[test]
fn a_damaged_or_missing_index_is_made_again_from_a_log_that_is_there_from_its_beginning() {
    for kind in ["missing", "damaged", "empty"] {
        let dir = fresh_dir();
        let broker = start(&dir.path().join("data"));
        let mut stomp = broker.connect();
        for number in 1..=5 {
            stomp.publish("/queue/a.name.in.the.index", &format!("message {number}.")).unwrap();
        }
        stomp.subscribe("s", "/queue/a.name.in.the.index", "client-individual").unwrap();
        let message = stomp.message().unwrap();
        stomp.ack(&message).unwrap();
        let broker = restart(broker);
        broker.connect().publish("/queue/a.name.in.the.index", "message 6.").unwrap();
        let data = broker.data().to_owned();
        assert!(broker.terminate().success());
        let index = data.join("index.redb");
        match kind {
            "missing" => std::fs::remove_file(&index).unwrap(),
            "empty" => std::fs::write(&index, b"").unwrap(),
            _ => {
                let mut bytes = std::fs::read(&index).unwrap();
                while let Some(at) = find(&bytes, b"a.name.in.the.index") {
                    bytes[at + 1] ^= 0x10;
                }
                std::fs::write(&index, bytes).unwrap();
            }
        }
        let told = look(&data);
        assert!(told.contains("index.redb") && told.contains("made again"), "{kind}: {told}");
        let new = repair(&data, &dir.path().join("new"));
        let expected: Vec<String> = (2..=6).map(|number| format!("message {number}.")).collect();
        assert_eq!(read_all(&new, "a.name.in.the.index"), (expected, true), "{kind}");
    }
}

#[test]
fn an_index_whose_log_has_no_beginning_cannot_be_made_again_and_that_is_said() {
    let dir = fresh_dir();
    let broker = start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    stomp.publish("/queue/gone", "goes with the first segment").unwrap();
    stomp.subscribe("s", "/queue/gone", "client").unwrap();
    let message = stomp.message().unwrap();
    stomp.ack(&message).unwrap();
    let broker = restart(broker);
    broker.connect().publish("/queue/kept", "stays").unwrap();
    let broker = restart(broker);
    let data = broker.data().to_owned();
    assert!(broker.terminate().success());
    std::fs::remove_file(data.join("index.redb")).unwrap();
    let new = dir.path().join("new");
    let output = run_to_end(&["store", "repair", path(&data), "--into", path(&new)]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    for words in ["index.redb", "segments 1 to ", "restore a backup"] {
        assert!(said(&output).contains(words), "{words:?}: {output:?}");
    }
    assert!(!new.exists());
}

#[test]
fn what_the_index_has_outlives_the_log_that_it_rests_on() {
    let dir = fresh_dir();
    let broker = start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    for number in 1..=3 {
        stomp.publish("/queue/kept", &format!("message {number}.")).unwrap();
    }
    let data = broker.data().to_owned();
    assert!(broker.terminate().success());
    // The last record that the index has is the last message.
    damage_head_of_batch_with(&data, b"message 3.");
    let told = refuse_start_and_look(&data);
    assert!(told.contains("after what the index has"), "{told}");
    let new = repair(&data, &dir.path().join("new"));
    let expected: Vec<String> = (1..=3).map(|number| format!("message {number}.")).collect();
    assert_eq!(read_all(&new, "kept"), (expected.clone(), true));
    // And again after that life.
    assert_eq!(read_all(&new, "kept"), (expected, true));
}

#[test]
fn a_log_is_cut_before_a_record_that_does_not_fit() {
    let dir = fresh_dir();
    let broker = start(&dir.path().join("data"));
    broker.connect().publish("/queue/kept", "before").unwrap();
    let data = broker.kill();
    append_a_record_that_does_not_fit(&data);
    let told = refuse_start_and_look(&data);
    assert!(told.contains("at offset 8192") && told.contains("1 records can be read"), "{told}");
    let new = repair(&data, &dir.path().join("new"));
    assert_eq!(read_all(&new, "kept"), (vec!["before".to_owned()], true));
}

#[test]
fn what_a_newer_version_has_written_is_not_cut_off() {
    let dir = fresh_dir();
    let broker = start(&dir.path().join("data"));
    broker.connect().publish("/queue/kept", "before").unwrap();
    let data = broker.kill();
    append(&data, 999, &[]);
    let run = run_to_end(&["run", "--data", path(&data), "--listen", ANY_PORT]);
    assert!(said(&run).contains("was a newer version here before?"), "{run:?}");
    let new = dir.path().join("new");
    let output = run_to_end(&["store", "repair", path(&data), "--into", path(&new)]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = said(&output);
    assert!(told.contains("record kind 999") && told.contains("with that version"), "{told}");
    assert!(!new.exists());
}

#[test]
fn a_store_without_its_seal_is_not_repaired_and_nothing_is_made() {
    let dir = fresh_dir();
    let broker = start(&dir.path().join("data"));
    broker.connect().publish("/queue/kept", "kept").unwrap();
    let data = broker.kill();
    std::fs::remove_file(data.join("seal-0000000000000001")).unwrap();
    let new = dir.path().join("new");
    let output = run_to_end(&["store", "repair", path(&data), "--into", path(&new)]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(&output).contains("seal-0000000000000001"), "{output:?}");
    assert_no_panic(&said(&output));
    assert!(!new.exists());
}

#[track_caller]
fn start(data: &Path) -> Broker {
    Broker::start_configured(data, SMALL)
}

/// Ends the broker cleanly and starts it again.
#[track_caller]
fn restart(broker: Broker) -> Broker {
    let data = broker.data().to_owned();
    assert!(broker.terminate().success());
    start(&data)
}

/// Breaks the head of the batch that holds a small message sent alone: its file and offset.
#[track_caller]
fn damage_head_of_batch_with(data: &Path, body: &[u8]) -> (String, usize) {
    for name in segments(data) {
        let mut bytes = std::fs::read(data.join(&name)).unwrap();
        if let Some(at) = find(&bytes, body) {
            let block = at / 4096 * 4096;
            bytes[block + 5] ^= 0x10;
            std::fs::write(data.join(&name), bytes).unwrap();
            return (name, block);
        }
    }
    panic!("no segment holds the body");
}

fn append_a_record_that_does_not_fit(data: &Path) {
    let record = Record::QueueDeleted { queue: escrowmq::ids::QueueId(77) };
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    append(data, record.kind(), &bytes);
}

/// Appends a record in a life of its own.
fn append(data: &Path, kind: u16, bytes: &[u8]) {
    let storage: Arc<dyn Storage> = Arc::new(DirStorage::open_or_create(data).unwrap());
    let (options, settings) = (Options::default(), Settings::default());
    let store = open_store(&storage, options, &settings, 77, Millis(1), &mut |_| {})
        .expect("a sound store");
    let log = &store.log;
    let write = || {
        log.submit();
        let mut group = log.take().expect("something was appended");
        let written = group.write().and_then(|()| group.sync());
        log.complete(group, written).unwrap();
    };
    write();
    log.append(kind, bytes, &[]);
    write();
}

/// Sees that a start is refused, and what a repair would do.
#[track_caller]
fn refuse_start_and_look(data: &Path) -> String {
    let run = run_to_end(&["run", "--data", path(data), "--listen", ANY_PORT]);
    assert!(!run.status.success(), "{run:?}");
    look(data)
}

/// What a repair would do; nothing is changed.
#[track_caller]
fn look(data: &Path) -> String {
    let before = content(data);
    let output = run_to_end(&["store", "repair", path(data)]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(content(data) == before, "a look has changed something");
    let said = said(&output);
    assert!(said.contains("nothing was changed") && said.contains("--into"), "{said}");
    assert_no_panic(&said);
    said
}

/// Makes the repaired store, which is sound, has an id of its own, and leaves the other as it is.
#[track_caller]
fn repair(data: &Path, new: &Path) -> PathBuf {
    let before = content(data);
    let output: Output = run_to_end(&["store", "repair", path(data), "--into", path(new)]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_no_panic(&said(&output));
    assert!(content(data) == before, "a repair has changed the damaged store");
    assert_ne!(
        std::fs::read(data.join("store")).unwrap(),
        std::fs::read(new.join("store")).unwrap()
    );
    // What is kept for its payloads alone stays damaged; everything else is sound.
    let payloads = ["ActiveMQ.DLQ.Damaged", "after what the index has"];
    if !payloads.iter().any(|words| said(&output).contains(words)) {
        assert_no_damage(new);
    }
    new.to_owned()
}

/// The bodies of all messages of a queue in a store, and whether all are flagged redelivered. The
/// messages stay there.
#[track_caller]
fn read_all(data: &Path, queue: &str) -> (Vec<String>, bool) {
    let broker = start(data);
    let mut stomp = broker.connect();
    let to = format!("/queue/{queue}");
    stomp.subscribe("s", &to, "client").unwrap();
    // A non-persistent message lies behind all that are there.
    let end = Frame::new("SEND").with("destination", &to).with("persistent", "false");
    stomp.confirm(end.body("the end")).unwrap();
    let (mut bodies, mut flagged) = (Vec::new(), true);
    loop {
        let message = stomp.message().unwrap();
        if message.body == b"the end" {
            break;
        }
        bodies.push(message.text().to_owned());
        flagged &= message.is_redelivered();
    }
    broker.kill();
    (bodies, flagged)
}

/// The log's segments, in order.
fn segments(data: &Path) -> Vec<String> {
    content(data).into_keys().filter(|name| name.starts_with("wal-")).collect()
}

fn content(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(dir).expect("the store");
    let file = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().expect("a UTF-8 name");
        // A socket has no bytes to read.
        (name, std::fs::read(entry.path()).unwrap_or_default())
    };
    entries.map(|entry| file(entry.unwrap())).collect()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a UTF-8 path")
}

#[test]
fn help_of_the_store_commands_tells_their_exit_codes() {
    for command in ["verify", "stats", "backup", "restore", "repair"] {
        let output = escrowmq().args(["store", command, "--help"]).output().unwrap();
        assert!(said(&output).contains("xits with 0"), "{command}: {output:?}");
    }
}
