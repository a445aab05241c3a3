//! The memory limit of the real process, with everything at once that may take memory.

use crate::durable::connect_as;
use crate::support::broker::Broker;
use crate::support::stomp::{Frame, Stomp};
use crate::support::{fresh_dir, wait_until};

const MIB: u64 = 1 << 20;
const LIMIT: u64 = 112 * MIB;
/// What connections need themselves is beside the limit: each has room for one read.
const OWN: u64 = CONNECTIONS * (16 << 10);
const CONNECTIONS: u64 = 250;
const QUEUES: u64 = 100;
const DEEP: u64 = 40_000;

/// Small parts, each of which is filled below; what is left is some 10 MiB for each kind of window.
const SETTINGS: &str = "\
[log]
checkpoint_changes = 10000
[memory]
limit = \"112MiB\"
cache = \"8MiB\"
index = \"8MiB\"
non_persistent = \"8MiB\"
held = \"8MiB\"
held_by_connection = \"1MiB\"
[duplicates]
memory = \"2MiB\"
producer_memory = \"2MiB\"
[[destinations]]
name = \"queue://full\"
messages = 2
when_full = \"hold\"
";

fn send(to: &str, bytes: usize) -> Frame {
    Frame::new("SEND").with("destination", to).body("x".repeat(bytes))
}

/// Sends all of them, and waits for the last.
fn send_all(stomp: &mut Stomp, frames: impl Iterator<Item = Frame>) {
    stomp.send_all(frames).unwrap();
    stomp.publish("/queue/end", "x").unwrap();
}

/// Consumers that take as much as they are given, read none of it and acknowledge nothing.
fn lazy(broker: &Broker, queue: &str, count: usize) -> Vec<Stomp> {
    let subscribe = Frame::new("SUBSCRIBE").with("id", "s").with("destination", queue);
    let subscribe = subscribe.with("ack", "client").with("activemq.prefetchSize", "100000");
    let consumers = (0..count).map(|_| {
        let mut stomp = broker.connect();
        stomp.send(&subscribe).unwrap();
        stomp
    });
    consumers.collect()
}

#[test]
fn a_broker_on_which_all_comes_at_once_stays_within_its_memory_limit() {
    let dir = fresh_dir();
    let broker = Broker::start_configured(&dir.path().join("data"), SETTINGS);
    let mut producer = broker.connect();
    // A deep queue, many that are not, ids, numbers, and messages that wait for their time.
    send_all(&mut producer, (0..DEEP).map(|_| send("/queue/deep", 1000)));
    let many = (0..QUEUES * 1000).map(|number| send(&format!("/queue/q{}", number % QUEUES), 100));
    send_all(&mut producer, many);
    let named = |id: u64| send("/queue/ids", 10).with("duplicate-id", &id.to_string());
    send_all(&mut producer, (0..30_000).map(named));
    let numbered = |id: u64| {
        let frame = send("/queue/numbers", 10).with("producer-sequence", "1");
        frame.with("producer-id", &id.to_string())
    };
    send_all(&mut producer, (0..20_000).map(numbered));
    let later = |_| send("/queue/later", 100).with("AMQ_SCHEDULED_DELAY", "3600000");
    send_all(&mut producer, (0..20_000).map(later));
    // What subscriptions keep, and who listens and does not read.
    let kept = Frame::new("SUBSCRIBE").with("id", "k").with("destination", "/topic/t");
    let kept = kept.with("ack", "client").with("activemq.subscriptionName", "s");
    for client in ["a", "b", "c"] {
        connect_as(&broker, client).confirm(kept.clone()).unwrap();
    }
    let listeners = lazy(&broker, "/topic/t", 20);
    let published = (0..20_000).map(|_| send("/topic/t", 1000).with("persistent", "true"));
    send_all(&mut producer, published);
    let consumers = [lazy(&broker, "/queue/deep", 200), lazy(&broker, "/queue/ids", 10)];
    // Who does not await an answer of a full queue, and a transaction that has not ended.
    let mut pushers: Vec<Stomp> = (0..20).map(|_| broker.connect()).collect();
    for pusher in &mut pushers {
        // One that is refused meanwhile hears nothing more.
        let _ = (0..40).try_for_each(|_| pusher.send(&send("/queue/full", 20_000)));
    }
    let mut unit = broker.connect();
    unit.confirm(Frame::new("BEGIN").with("transaction", "t")).unwrap();
    send_all(&mut unit, (0..30_000).map(|_| send("/queue/unit", 100).with("transaction", "t")));
    let consuming = || broker.queues().iter().map(|(.., consumers)| consumers).sum::<u64>();
    wait_until("all of them consume", || consuming() == 210);
    // While others are served, these get what there is for them.
    let mut served = broker.connect();
    let anonymous = (0..500).map(|_| {
        served.publish("/queue/served", "x").unwrap();
        broker.anonymous_bytes()
    });
    let anonymous = anonymous.max().unwrap_or_default();
    println!("{} of {} MiB", anonymous / MIB, LIMIT / MIB);
    assert!(anonymous < LIMIT + OWN, "{} MiB of {}", anonymous / MIB, (LIMIT + OWN) / MIB);
    drop((listeners, consumers, pushers, unit));
    let broker = broker.kill_and_restart();
    assert!(broker.anonymous_bytes() < LIMIT);
}
