//! Stories of backups: made under load, of stores at rest, cut off, restored, refused.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crate::support::broker::{
    ANY_PORT, Broker, assert_no_damage, assert_no_panic, run_to_end, said,
};
use crate::support::stomp::{Frame, Stomp};
use crate::support::{fresh_dir, wait_until};

/// Segments and checkpoints that come and go while a test looks.
const SMALL: &str = "[log]\nsegment_size = \"1MiB\"\ncheckpoint_bytes = \"1MiB\"\n\
                     checkpoint_changes = 1000\n[limits]\nmessage = \"64KiB\"\n";

#[test]
fn a_backup_under_load_holds_all_that_was_confirmed_before_and_restores_under_a_new_id() {
    let dir = fresh_dir();
    let data = dir.path().join("data");
    let broker = Broker::start_configured(&data, SMALL);
    let load = Load::start(&broker);
    load.wait_for(2_000);
    let before = load.known();
    let backup = dir.path().join("backup");
    store(&["backup", path(&data), path(&backup), "--rate", "0"]);
    let after = load.known();
    assert_no_damage(&backup);

    let restored = dir.path().join("restored");
    let told = store(&["restore", path(&backup), path(&restored)]);
    assert!(told.contains("prepared transactions: none"), "{told}");
    let ids = [&data, &restored].map(|data| std::fs::read(data.join("store")).unwrap());
    assert!(ids[0] != ids[1], "the restored store has the id of the other");
    assert_no_damage(&restored);

    // The other goes on beside it.
    load.wait_for(after.kept + 500);
    let copy = Broker::start_configured(&restored, SMALL);
    let (kept, kept_flagged) = read_all(&copy, "/queue/kept");
    assert!(kept.len() as u64 >= before.kept, "{} of {} messages", kept.len(), before.kept);
    assert!(kept.iter().copied().eq(1..=kept.len() as u64), "a hole in what one producer sent");
    let (passing, passing_flagged) = read_all(&copy, "/queue/passing");
    let again = passing.iter().find(|number| **number <= before.acked);
    assert_eq!(again, None, "acknowledged before the backup began, and {} were", before.acked);
    assert!(kept_flagged && passing_flagged, "not all of a restored store is redelivered");
    // What is new in it is not.
    let mut stomp = copy.connect();
    stomp.publish("/queue/new", "new").unwrap();
    stomp.subscribe("s", "/queue/new", "client").unwrap();
    assert!(!stomp.message().unwrap().is_redelivered());
    assert!(copy.terminate().success());
    assert_no_damage(&restored);

    let sent = load.end();
    let broker = broker.terminate_and_restart();
    let (kept, _) = read_all(&broker, "/queue/kept");
    assert!(kept.iter().copied().eq(1..=sent), "{} of {sent} in the original", kept.len());
    let data = broker.kill();
    assert_no_damage(&data);
}

#[test]
fn backups_made_one_after_the_other_while_segments_come_and_go_are_all_sound() {
    let dir = fresh_dir();
    let data = dir.path().join("data");
    let broker = Broker::start_configured(&data, SMALL);
    // What passes through leaves nothing behind that keeps a segment.
    let load = Load::start_passing(&broker);
    for round in 0..4 {
        let before = load.known();
        wait_until("messages passed through", || load.known().acked >= before.acked + 3_000);
        let backup = dir.path().join(format!("backup-{round}"));
        // Slow enough that segments die while it is made.
        store(&["backup", path(&data), path(&backup), "--rate", "2"]);
        assert_no_damage(&backup);
    }
    load.end();
    let segments = |dir: &Path| -> BTreeSet<String> {
        names(dir).into_iter().filter(|name| name.starts_with("wal-")).collect()
    };
    let first = segments(&dir.path().join("backup-0"));
    let last = segments(&dir.path().join("backup-3"));
    assert!(!first.is_subset(&last), "no segment died in this test: {first:?} {last:?}");
    assert!(broker.terminate().success());
    assert_no_damage(&data);
}

#[test]
fn a_backup_of_a_store_at_rest_is_that_store() {
    let dir = fresh_dir();
    let data = dir.path().join("data");
    let broker = Broker::start_configured(&data, SMALL);
    let mut stomp = broker.connect();
    for number in 1..=200 {
        publish(&mut stomp, "/queue/kept", number);
    }
    // After a kill the log has what the index does not.
    let data = broker.kill();
    let (backup, restored) = (dir.path().join("backup"), dir.path().join("restored"));
    store(&["backup", path(&data), path(&backup)]);
    assert_no_damage(&backup);
    // A backup of a backup is one, too; so is one of a restored store.
    let second = dir.path().join("second");
    let again = run_to_end(&["store", "backup", path(&backup), path(&second)]);
    assert!(again.status.success(), "{again:?}");
    store(&["restore", path(&second), path(&restored)]);
    let third = dir.path().join("third");
    store(&["backup", path(&restored), path(&third)]);
    let last = dir.path().join("last");
    store(&["restore", path(&third), path(&last)]);
    let broker = Broker::start_configured(&last, SMALL);
    let (kept, flagged) = read_all(&broker, "/queue/kept");
    assert!(kept.iter().copied().eq(1..=200) && flagged, "{kept:?}");
    let broker = broker.kill_and_restart();
    let (kept, flagged) = read_all(&broker, "/queue/kept");
    assert!(kept.iter().copied().eq(1..=200) && flagged, "{kept:?}");
}

#[test]
fn a_segment_that_died_after_the_last_checkpoint_is_missed_by_nobody() {
    let settings = "[log]\nsegment_size = \"1MiB\"\n[limits]\nmessage = \"256KiB\"\n";
    let dir = fresh_dir();
    let data = dir.path().join("data");
    let broker = Broker::start_configured(&data, settings);
    let mut stomp = broker.connect();
    for _ in 0..25 {
        stomp.publish("/queue/passing", &"x".repeat(100_000)).unwrap();
    }
    assert!(broker.terminate().success());
    let broker = Broker::start_configured(&data, settings);
    let mut stomp = broker.connect();
    stomp.subscribe("s", "/queue/passing", "client").unwrap();
    let last = (0..25).map(|_| stomp.message().unwrap()).last().unwrap();
    stomp.ack(&last).unwrap();
    stomp.publish("/queue/kept", "kept").unwrap();
    let first = data.join("wal-0000000000000001-0000000000000001");
    assert!(first.exists());
    // The index says that messages lie there; the log, that they are gone; the start believes it.
    broker.kill();
    let broker = Broker::start_configured(&data, settings);
    assert!(!first.exists(), "the start has kept what nobody needs");
    let (online, resting) = (dir.path().join("online"), dir.path().join("resting"));
    store(&["backup", path(&data), path(&online)]);
    broker.kill();
    store(&["backup", path(&data), path(&resting)]);
    for data in [&data, &online, &resting] {
        assert_no_damage(data);
        assert!(store(&["stats", path(data)]).contains("1 messages in 2 queues"));
        assert!(store(&["repair", path(data)]).contains("nothing to repair"));
    }
    let restored = dir.path().join("restored");
    store(&["restore", path(&online), path(&restored)]);
    let broker = Broker::start_configured(&restored, settings);
    assert_eq!(broker.queues(), [("kept".into(), 1, 0), ("passing".into(), 0, 0)]);
}

#[test]
fn a_broker_killed_while_it_writes_a_backup_leaves_a_good_store_and_a_backup_that_is_refused() {
    let dir = fresh_dir();
    let data = dir.path().join("data");
    let broker = Broker::start_configured(&data, SMALL);
    let mut stomp = broker.connect();
    for number in 1..=3_000 {
        send(&mut stomp, "/queue/kept", number);
    }
    publish(&mut stomp, "/queue/kept", 3_001);
    let backup = dir.path().join("backup");
    let asked = spawn_store(&["backup", path(&data), path(&backup), "--rate", "1"]);
    wait_until("the backup has begun", || backup.join("index.redb").exists());
    let data = broker.kill();
    let output = asked.wait_with_output().unwrap();
    assert!(!output.status.success() && said(&output).contains("begin again"), "{output:?}");
    assert!(backup.join("store.backup").exists() && !backup.join("backup").exists());
    let restored = dir.path().join("restored");
    for refused in [
        &["restore", path(&backup), path(&restored)][..],
        &["verify", path(&backup)],
        &["backup", path(&data), path(&backup)],
    ] {
        let output = run_to_end(&[&["store"], refused].concat());
        assert_eq!(output.status.code(), Some(1), "{refused:?}: {output:?}");
        let named = said(&output).contains("finished") || said(&output).contains("not empty");
        assert!(named, "{output:?}");
    }
    let run = run_to_end(&["run", "--data", path(&backup), "--listen", ANY_PORT]);
    assert!(!run.status.success() && said(&run).contains("store restore"), "{run:?}");
    assert_no_damage(&data);
    let broker = Broker::start(&data);
    assert_eq!(read_all(&broker, "/queue/kept").0.len(), 3_001);
}

#[test]
fn an_operator_who_goes_away_calls_the_backup_off() {
    let dir = fresh_dir();
    let data = dir.path().join("data");
    let broker = Broker::start_configured(&data, SMALL);
    let mut stomp = broker.connect();
    // Enough for many seconds at this rate.
    for number in 1..=12_000 {
        send(&mut stomp, "/queue/kept", number);
    }
    publish(&mut stomp, "/queue/kept", 12_001);
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let mut asked = spawn_store(&["backup", path(&data), path(&first), "--rate", "1"]);
    wait_until("the backup has begun", || first.join("index.redb").exists());
    asked.kill().unwrap();
    asked.wait().unwrap();
    wait_until("another backup may be made", || {
        let _ = std::fs::remove_dir_all(&second);
        run_to_end(&["store", "backup", path(&data), path(&second)]).status.success()
    });
    assert!(!first.join("backup").exists(), "a backup that was called off is whole");
    assert_no_damage(&second);
}

#[test]
fn a_damaged_backup_is_refused_by_the_name_of_the_file_and_leaves_nothing() {
    let dir = fresh_dir();
    let data = dir.path().join("data");
    let broker = Broker::start_configured(&data, SMALL);
    publish(&mut broker.connect(), "/queue/kept", 1);
    let backup = dir.path().join("backup");
    store(&["backup", path(&data), path(&backup)]);
    for name in names(&backup) {
        let file = backup.join(&name);
        let bytes = std::fs::read(&file).unwrap();
        let mut bad = bytes.clone();
        bad[30] ^= 0x10;
        std::fs::write(&file, &bad).unwrap();
        refuse_to_restore(&backup, &name);
        std::fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
        refuse_to_restore(&backup, &name);
        std::fs::remove_file(&file).unwrap();
        refuse_to_restore(&backup, &name);
        std::fs::write(&file, &bytes).unwrap();
    }
    let restored = dir.path().join("restored");
    store(&["restore", path(&backup), path(&restored)]);
    // A second time: there is something now.
    let output = run_to_end(&["store", "restore", path(&backup), path(&restored)]);
    assert!(!output.status.success() && said(&output).contains("not empty"), "{output:?}");
    assert_no_damage(&restored);
}

#[test]
fn a_target_that_holds_anything_or_lies_in_the_store_is_refused() {
    let dir = fresh_dir();
    let data = dir.path().join("data");
    let broker = Broker::start(&data);
    let full = dir.path().join("full");
    std::fs::create_dir(&full).unwrap();
    std::fs::create_dir(full.join("only-a-directory")).unwrap();
    let inside = data.join("backup");
    for (target, word) in [(&full, "not empty"), (&data, "not empty"), (&inside, "inside")] {
        let output = run_to_end(&["store", "backup", path(&data), path(target)]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(said(&output).contains(word), "{output:?}");
        assert_no_panic(&said(&output));
    }
    assert!(!inside.exists());
    assert!(broker.terminate().success());
}

#[track_caller]
fn refuse_to_restore(backup: &Path, name: &str) {
    let target = backup.with_extension("target");
    let output = run_to_end(&["store", "restore", path(backup), path(&target)]);
    assert_eq!(output.status.code(), Some(1), "{name}: {output:?}");
    assert!(said(&output).contains(name), "{name} is not named: {output:?}");
    assert_no_panic(&said(&output));
    assert!(names_if_any(&target).is_empty(), "{name}: {:?}", names_if_any(&target));
}

/// Clients that fill one queue and pass messages through another, and what they know.
struct Load {
    stop: Arc<AtomicBool>,
    kept: Arc<AtomicU64>,
    acked: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    /// Confirmed in `/queue/kept`: all numbers up to it.
    kept: u64,
    /// Confirmed as acknowledged in `/queue/passing`: all numbers up to it.
    acked: u64,
}

impl Load {
    fn start(broker: &Broker) -> Self {
        let mut load = Self::start_passing(broker);
        let (port, s, k) = (broker.port(), Arc::clone(&load.stop), Arc::clone(&load.kept));
        load.threads.push(std::thread::spawn(move || {
            let mut stomp = Stomp::connect(port, "1.2").unwrap();
            for batch in 0.. {
                if s.load(Ordering::Relaxed) {
                    break;
                }
                for number in batch * 20 + 1..batch * 20 + 20 {
                    send(&mut stomp, "/queue/kept", number);
                }
                publish(&mut stomp, "/queue/kept", batch * 20 + 20);
                k.store(batch * 20 + 20, Ordering::Release);
            }
        }));
        load
    }

    fn start_passing(broker: &Broker) -> Self {
        let (stop, acked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (port, s, a) = (broker.port(), Arc::clone(&stop), Arc::clone(&acked));
        let thread = std::thread::spawn(move || {
            let mut sends = Stomp::connect(port, "1.2").unwrap();
            let mut takes = Stomp::connect(port, "1.2").unwrap();
            takes.subscribe("s", "/queue/passing", "client").unwrap();
            for batch in 0.. {
                if s.load(Ordering::Relaxed) {
                    break;
                }
                let numbers = batch * 50 + 1..=batch * 50 + 50;
                numbers.clone().for_each(|n| send(&mut sends, "/queue/passing", n));
                let last = numbers.map(|_| takes.message().unwrap()).last().unwrap();
                takes.ack(&last).unwrap();
                a.store(batch * 50 + 50, Ordering::Release);
            }
        });
        Self { stop, kept: Arc::default(), acked, threads: vec![thread] }
    }

    fn known(&self) -> Known {
        let acked = self.acked.load(Ordering::Acquire);
        Known { kept: self.kept.load(Ordering::Acquire), acked }
    }

    #[track_caller]
    fn wait_for(&self, kept: u64) {
        wait_until("the clients got work through", || self.known().kept >= kept);
    }

    /// Ends the clients: how many messages the kept queue was given.
    fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().expect("a client panicked"));
        self.known().kept
    }
}

fn frame(queue: &str, number: u64) -> Frame {
    let filling = "x".repeat((number % 7 * 100) as usize);
    let send = Frame::new("SEND").with("destination", queue).with("persistent", "true");
    send.body(format!("{number} {filling}"))
}

fn send(stomp: &mut Stomp, queue: &str, number: u64) {
    stomp.send(&frame(queue, number)).unwrap();
}

/// Sends and waits until it is confirmed, and all before it.
fn publish(stomp: &mut Stomp, queue: &str, number: u64) {
    stomp.confirm(frame(queue, number)).unwrap();
}

/// The numbers of all messages of a queue, in order, and whether all are flagged redelivered.
/// They stay there: nothing is acknowledged.
#[track_caller]
fn read_all(broker: &Broker, queue: &str) -> (Vec<u64>, bool) {
    let name = queue.strip_prefix("/queue/").unwrap();
    let depth = broker.queues().into_iter().find(|row| row.0 == name).map_or(0, |row| row.1);
    let mut stomp = broker.connect();
    let subscribe = Frame::new("SUBSCRIBE").with("id", "all").with("destination", queue);
    let window = ("activemq.prefetchSize", "1000");
    stomp.confirm(subscribe.with("ack", "client").with(window.0, window.1)).unwrap();
    let (mut numbers, mut flagged) = (Vec::new(), true);
    for _ in 0..depth {
        let message = stomp.message().unwrap();
        numbers.push(message.text().split(' ').next().unwrap().parse().unwrap());
        flagged &= message.is_redelivered();
        if numbers.len().is_multiple_of(500) {
            // More may lie there than one consumer may hold.
            stomp.ack(&message).unwrap();
        }
    }
    stomp.disconnect().unwrap();
    (numbers, flagged)
}

/// What `escrowmq store` says, which must succeed.
#[track_caller]
fn store(args: &[&str]) -> String {
    let output = run_to_end(&[&["store"], args].concat());
    assert!(output.status.success(), "{args:?}: {output:?}");
    said(&output)
}

fn spawn_store(args: &[&str]) -> std::process::Child {
    let mut command = crate::support::broker::escrowmq();
    command.arg("store").args(args);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    command.spawn().unwrap()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a UTF-8 path")
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("the directory");
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
    entries.map(|entry| name(entry).into_string().unwrap()).collect()
}

fn names_if_any(dir: &Path) -> Vec<String> {
    if dir.exists() { names(dir) } else { Vec::new() }
}
