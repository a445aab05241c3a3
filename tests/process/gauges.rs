//! Numbers of the page of metrics that tell of trouble: each is made to say something else than it
//! says of a broker that does nothing, and then to go back.

use std::path::Path;
use std::time::{Duration, Instant};

use escrowmq::{Destination, Vote, Xid};
use serde_json::Value;

use crate::support::broker::{ANY_PORT, Broker, run_to_end, said};
use crate::support::exposition::{Page, scrape};
use crate::support::stomp::Frame;
use crate::support::{fresh_dir, wait_until};

fn start(data: &Path, settings: &str) -> Broker {
    Broker::start_configured(data, &format!("metrics = \"127.0.0.1:0\"\n{settings}"))
}

#[track_caller]
fn of(page: &Page, name: &str) -> f64 {
    let name = format!("escrowmq_{name}");
    page.get(&name).copied().unwrap_or_else(|| panic!("{name}: {page:#?}"))
}

/// Waits until some numbers of the page are these.
#[track_caller]
fn wait_for(broker: &Broker, expected: &[(&str, f64)]) {
    wait_until(&format!("the page says {expected:?}"), || {
        let page = scrape(broker.metrics_port());
        expected.iter().all(|(name, value)| of(&page, name) == *value)
    });
}

#[test]
fn sends_that_wait_for_room_are_counted_while_they_wait() {
    let dir = fresh_dir();
    let settings = "[[destinations]]\nname = \"queue://few\"\nmessages = 1\nwhen_full = \"hold\"\n";
    let broker = start(&dir.path().join("data"), settings);
    let mut consumer = broker.connect();
    consumer.publish("/queue/few", "first").unwrap();
    wait_for(&broker, &[("held_producers", 0.0), ("held_messages", 0.0), ("held_bytes", 0.0)]);
    let mut producers = [broker.connect(), broker.connect()];
    // Two of the one, one of the other.
    for nth in [0, 0, 1] {
        let send = Frame::new("SEND").with("destination", "/queue/few").body([b'x'; 1000]);
        producers[nth].ask(send).unwrap();
    }
    wait_for(&broker, &[("held_producers", 2.0), ("held_messages", 3.0)]);
    let bytes = of(&scrape(broker.metrics_port()), "held_bytes");
    assert!((3000.0..6000.0).contains(&bytes), "{bytes}");
    // Each that is taken makes room for one of them.
    consumer.subscribe("s", "/queue/few", "client-individual").unwrap();
    for left in [2.0, 1.0, 0.0] {
        let message = consumer.message().unwrap();
        consumer.ack(&message).unwrap();
        wait_for(&broker, &[("held_messages", left)]);
        let bytes = of(&scrape(broker.metrics_port()), "held_bytes");
        assert!((1000.0 * left..=2000.0 * left).contains(&bytes), "{bytes}");
    }
    wait_for(&broker, &[("held_producers", 0.0), ("held_messages", 0.0), ("held_bytes", 0.0)]);
}

#[test]
fn what_was_consumed_is_counted_as_dead_in_the_log() {
    const MESSAGES: usize = 100;
    const BODY: usize = 50_000;
    let dir = fresh_dir();
    // Many segments, and no checkpoint before it is asked for.
    let settings = "limits.message = \"256KiB\"\n[log]\nsegment_size = \"1MiB\"\n\
                    checkpoint_changes = 1000\ncheckpoint_seconds = 3600\n";
    let broker = start(&dir.path().join("data"), settings);
    let mut stomp = broker.connect();
    for _ in 0..MESSAGES {
        stomp.publish("/queue/q", &"x".repeat(BODY)).unwrap();
    }
    let bytes = || {
        let page = scrape(broker.metrics_port());
        ["live", "dead", "unused"]
            .map(|state| of(&page, &format!("log_bytes{{state=\"{state}\"}}")))
    };
    let all = (MESSAGES * BODY) as f64;
    let [live, dead, unused] = bytes();
    // What is dead so far is padding; the rest of the last segment is nothing yet.
    assert!((all..all * 1.1).contains(&live) && dead < all * 0.2, "{live} and {dead}");
    assert!(unused <= 1048576.0, "{unused}");
    assert_eq!((live + dead + unused) % 1048576.0, 0.0, "{live}, {dead} and {unused}");
    stomp.subscribe("s", "/queue/q", "client-individual").unwrap();
    for _ in 0..MESSAGES {
        let message = stomp.message().unwrap();
        stomp.ack(&message).unwrap();
    }
    let [live, after, _] = bytes();
    assert!(live == 0.0 && after >= dead + all, "{live} and {dead}, then {after}");
    let send = Frame::new("SEND").with("destination", "/queue/other").body("x").encode("1.2");
    stomp.write_raw(&send.repeat(1500)).unwrap();
    wait_until("a checkpoint gives the segments back", || bytes()[1] < all / 2.0);
    assert!(bytes()[0] > 0.0);
}

#[test]
fn the_age_of_a_checkpoint_grows_and_begins_anew_with_the_next() {
    let dir = fresh_dir();
    let broker = start(&dir.path().join("data"), "log.checkpoint_changes = 1000\n");
    let page = || scrape(broker.metrics_port());
    let age = || page().get("escrowmq_checkpoint_age_seconds").copied();
    let mut stomp = broker.connect();
    stomp.publish("/queue/q", "too few for one").unwrap();
    let count = of(&page(), "checkpoint_seconds_count");
    assert_eq!(age().is_some(), count > 0.0);
    let mut checkpoint = || {
        let (began, count) = (Instant::now(), of(&page(), "checkpoint_seconds_count"));
        let send = Frame::new("SEND").with("destination", "/queue/q").body("x").encode("1.2");
        stomp.write_raw(&send.repeat(1500)).unwrap();
        wait_until("a checkpoint ends", || of(&page(), "checkpoint_seconds_count") > count);
        began
    };
    let began = checkpoint();
    // The next comes by itself after thirty seconds: later than this takes.
    let (before, first) = (Instant::now(), age().expect("there was one"));
    assert!(first <= began.elapsed().as_secs_f64(), "{first}");
    std::thread::sleep(Duration::from_millis(700));
    let second = age().expect("there was one");
    let passed = before.elapsed().as_secs_f64();
    assert!((0.69..=passed + 0.01).contains(&(second - first)), "{first} to {second} in {passed}");
    let began = checkpoint();
    let third = age().expect("there was one");
    assert!(third <= began.elapsed().as_secs_f64(), "{third}");
}

#[test]
fn the_oldest_message_is_as_old_as_it_is_in_every_life() {
    let dir = fresh_dir();
    let broker = start(&dir.path().join("data"), "");
    let mut stomp = broker.connect();
    let before = Instant::now();
    stomp.publish("/queue/q", "old").unwrap();
    let after = Instant::now();
    std::thread::sleep(Duration::from_millis(1200));
    let young = Instant::now();
    stomp.publish("/queue/q", "young").unwrap();
    let age =
        |broker: &Broker| of(&scrape(broker.metrics_port()), "queue_oldest_seconds{queue=\"q\"}");
    let holds = |broker: &Broker, before: Instant, after: Instant| {
        let least = after.elapsed().as_secs_f64();
        let age = age(broker);
        let most = before.elapsed().as_secs_f64();
        assert!((least - 0.01..=most + 0.01).contains(&age), "{least} <= {age} <= {most}");
    };
    holds(&broker, before, after);
    // After a kill from the log, after a clean end from the index.
    let options = ["--listen", ANY_PORT, "--metrics", "127.0.0.1:0"];
    let broker = broker.kill_and_restart_with(&options);
    holds(&broker, before, after);
    let data = broker.data().to_owned();
    assert!(broker.terminate().success());
    let broker = Broker::start_with(&data, &options);
    holds(&broker, before, after);
    let mut stomp = broker.connect();
    stomp.subscribe("s", "/queue/q", "client-individual").unwrap();
    let message = stomp.message().unwrap();
    assert_eq!(message.text(), "old");
    stomp.ack(&message).unwrap();
    // The other was lent, and waits when its consumer has gone.
    stomp.disconnect().unwrap();
    wait_for(&broker, &[("lent", 0.0), ("depth", 1.0)]);
    let age = age(&broker);
    assert!(age <= young.elapsed().as_secs_f64() + 0.01, "{age}");
}

#[test]
fn the_oldest_vote_is_as_old_as_it_is_until_its_branch_ends() {
    let dir = fresh_dir();
    let data = dir.path().join("data");
    let prepared = || {
        let here = escrowmq::Broker::builder(&data).disk_reserve(32 << 20).open_blocking().unwrap();
        let xa = here.connect().unwrap().xa();
        let vote = |number: u8| {
            let xid = Xid::new(7, &[number], b"a branch").unwrap();
            let branch = xa.start(&xid).unwrap();
            branch.send(Destination::queue("out"), "x").unwrap();
            branch.end().unwrap();
            let before = Instant::now();
            assert_eq!(xa.prepare(&xid).unwrap(), Vote::Ok);
            (xid, before, Instant::now())
        };
        let first = vote(1);
        std::thread::sleep(Duration::from_millis(2100));
        let both = [first, vote(2)];
        here.close().unwrap();
        both
    };
    let prepared = prepared();
    let broker = start(&data, "");
    wait_for(&broker, &[("xa_prepared", 2.0)]);
    for (xid, before, after) in &prepared {
        // Told in whole seconds.
        let least = after.elapsed().as_secs_f64() - 1.0;
        let age = of(&scrape(broker.metrics_port()), "xa_oldest_prepared_seconds");
        let most = before.elapsed().as_secs_f64() + 0.01;
        assert!((least..=most).contains(&age), "{least} <= {age} <= {most}");
        let ended = broker.command(&["xa", "rollback", &xid.to_string(), "--yes"]);
        assert!(ended.status.success(), "{ended:?}");
    }
    let over = [("xa_prepared", 0.0), ("xa_oldest_prepared_seconds", 0.0), ("xa_heuristic", 2.0)];
    wait_for(&broker, &over);
}

#[test]
fn what_is_forgotten_for_want_of_room_is_counted() {
    const FEW: u64 = 900;
    const SENT: u64 = 8000;
    let dir = fresh_dir();
    let settings = "[duplicates]\nids = 1000\nproducer_memory = \"1MiB\"\n";
    let broker = start(&dir.path().join("data"), settings);
    let mut stomp = broker.connect();
    let mut send = |numbers: std::ops::Range<u64>| {
        let mut bytes = Vec::new();
        let send = Frame::new("SEND").with("destination", "/queue/q");
        for number in numbers {
            let name = format!("p{number}");
            let named = send.clone().with("duplicate-id", &name);
            let counted = send.clone().with("producer-id", &name).with("producer-sequence", "1");
            for frame in [named, counted] {
                bytes.extend(frame.body("x").encode("1.2"));
            }
        }
        stomp.write_raw(&bytes).unwrap();
        stomp.publish("/queue/q", "all are there").unwrap();
    };
    let counts = || {
        let page = scrape(broker.metrics_port());
        let of = |name| of(&page, name);
        let ids = (of("duplicate_ids"), of("duplicate_ids_forgotten_total"));
        (ids, (of("producers"), of("producers_forgotten_total"), of("producers_bytes")))
    };
    send(0..FEW);
    let (ids, (producers, forgotten, bytes)) = counts();
    assert_eq!((ids, (producers, forgotten)), ((FEW as f64, 0.0), (FEW as f64, 0.0)));
    assert!((100.0..300.0).contains(&(bytes / producers)), "{bytes} for {producers}");
    send(FEW..SENT);
    // Some more are remembered than is said, because they are forgotten some at a time.
    wait_until("the oldest ids are forgotten", || counts().0.0 <= 1256.0);
    wait_until("the first producers are forgotten", || counts().1.2 <= f64::from(1 << 20));
    let ((ids, ids_forgotten), (producers, producers_forgotten, _)) = counts();
    assert!(ids >= 900.0 && producers > 3000.0, "{ids} ids, {producers} producers");
    assert_eq!(ids + ids_forgotten, SENT as f64, "{ids} are known");
    assert_eq!(producers + producers_forgotten, SENT as f64, "{producers} are known");
}

#[test]
fn stats_tell_when_the_oldest_message_was_sent() {
    let now = || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.expect("a clock after 1970").as_millis() as u64
    };
    let dir = fresh_dir();
    let broker = start(&dir.path().join("data"), "");
    let mut stomp = broker.connect();
    let mut sent = Vec::new();
    for body in ["first", "second"] {
        let before = now();
        stomp.publish("/queue/q", body).unwrap();
        sent.push(before..=now());
        std::thread::sleep(Duration::from_millis(20));
    }
    stomp.subscribe("s", "/queue/q", "client-individual").unwrap();
    let first = stomp.message().unwrap();
    let data = broker.kill();
    let oldest = || {
        let output = run_to_end(&["store", "stats", data.to_str().unwrap(), "--json"]);
        assert!(output.status.success(), "{output:?}");
        let stats: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(stats["queues"][0]["name"], "q", "{}", said(&output));
        stats["queues"][0]["oldest_at"].as_u64()
    };
    assert!(oldest().is_some_and(|at| sent[0].contains(&at)), "{:?} in {sent:?}", oldest());
    drop(first);
    for left in [Some(&sent[1]), None] {
        let broker = Broker::start(&data);
        let mut stomp = broker.connect();
        stomp.subscribe("s", "/queue/q", "client-individual").unwrap();
        let message = stomp.message().unwrap();
        stomp.ack(&message).unwrap();
        stomp.disconnect().unwrap();
        broker.kill();
        let at = oldest();
        assert_eq!(at.is_some(), left.is_some());
        assert!(at.zip(left).is_none_or(|(at, sent)| sent.contains(&at)), "{at:?} in {left:?}");
    }
}
