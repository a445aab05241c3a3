//! Peers that break the protocol or never read, against the real process: the offender meets an
//! end or a limit, others are served, and memory stays bounded.

use std::io;
use std::time::{Duration, Instant};

use crate::support::broker::Broker;
use crate::support::stomp::{Frame, Stomp};
use crate::support::{fresh_dir, wait_until};
use rustix::process::{Resource, getrlimit, setrlimit};

/// What no attack of one connection may add to the broker's memory: the largest frame it takes,
/// and room for its working sets.
const GROWTH_MAX: u64 = 192 << 20;

/// What an endless frame sends at most before the broker must have ended the connection.
const ENDLESS: usize = 512 << 20;

#[test]
fn a_frame_that_declares_more_than_the_limit_is_refused_before_it_is_stored() {
    let case = Case::start();
    let mut stomp = case.broker.connect();
    let head = "SEND\ndestination:/queue/x\ncontent-length:1099511627776\n\nthe beginning";
    stomp.write_raw(head.as_bytes()).unwrap();
    assert_ended_with_error(stomp);
    assert_eq!(case.stored(), []);
    case.assert_bounded_and_serving();
}

#[test]
fn a_peer_that_goes_on_after_its_refusal_is_cut_off() {
    let case = Case::start();
    let mut stomp = case.broker.connect();
    let head = "SEND\ndestination:/queue/x\ncontent-length:1099511627776\n\n";
    stomp.write_raw(head.as_bytes()).unwrap();
    pour(&mut stomp, b"x");
    // Closing on a peer that still sends may cost it the last words: no ERROR can be required.
    stomp.wait_closed();
    assert_eq!(case.stored(), []);
    case.assert_bounded_and_serving();
}

#[test]
fn a_body_without_length_and_end_is_cut_off() {
    let case = Case::start_configured("limits.message = \"16MiB\"\n");
    let mut stomp = case.broker.connect();
    stomp.write_raw(b"SEND\ndestination:/queue/x\n\n").unwrap();
    pour(&mut stomp, b"x");
    stomp.wait_closed();
    assert_eq!(case.stored(), []);
    case.assert_bounded_and_serving();
}

#[test]
fn a_head_without_end_is_cut_off() {
    for endless in [&b"x"[..], b"y:z\n"] {
        let case = Case::start();
        let mut stomp = case.broker.connect();
        stomp.write_raw(b"SEND\ndestination:/queue/x\n").unwrap();
        pour(&mut stomp, endless);
        stomp.wait_closed();
        assert_eq!(case.stored(), []);
        case.assert_bounded_and_serving();
    }
}

#[test]
fn a_command_without_end_is_cut_off_before_anyone_has_connected() {
    let case = Case::start();
    let mut stomp = Stomp::open(case.broker.port()).unwrap();
    pour(&mut stomp, b"A");
    stomp.wait_closed();
    case.assert_bounded_and_serving();
}

#[test]
fn ten_thousand_headers_are_refused_with_an_error() {
    let case = Case::start();
    let mut stomp = case.broker.connect();
    stomp.write_raw(&frame_with_headers(10_000)).unwrap();
    assert_ended_with_error(stomp);
    assert_eq!(case.stored(), []);
    case.assert_bounded_and_serving();
}

#[test]
fn a_million_headers_are_cut_off() {
    let case = Case::start();
    let mut stomp = case.broker.connect();
    // The broker may end the connection before it has read all of it, and its ERROR be lost.
    let _ = stomp.write_raw(&frame_with_headers(1_000_000));
    stomp.wait_closed();
    assert_eq!(case.stored(), []);
    case.assert_bounded_and_serving();
}

#[test]
fn a_peer_that_sends_byte_by_byte_is_understood() {
    let case = Case::start();
    let mut stomp = Stomp::open(case.broker.port()).unwrap();
    let conversation = "CONNECT\naccept-version:1.0\nhost:localhost\n\n\0\
                        SUBSCRIBE\nid:s\ndestination:/queue/slow\nack:auto\n\n\0\
                        SEND\ndestination:/queue/slow\nreceipt:done\n\nbyte by byte\0";
    for byte in conversation.as_bytes() {
        stomp.write_raw(&[*byte]).unwrap();
    }
    assert_eq!(stomp.receive().unwrap().command, "CONNECTED");
    let mut frames = [stomp.receive().unwrap(), stomp.receive().unwrap()];
    frames.sort_by(|a, b| a.command.cmp(&b.command));
    assert_eq!((frames[0].command.as_str(), frames[0].text()), ("MESSAGE", "byte by byte"));
    assert_eq!(frames[1].header("receipt-id"), Some("done"));
}

#[test]
fn what_is_no_stomp_is_ended_with_an_error() {
    let case = Case::start();
    let garbage: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\xff\xfe\xfd\xfc\xfb\xfa\n\n\0",
        b"SEND\ndestination:/queue/x\n\ntoo early\0",
        b"CONNECT\nno colon in this line\n\n\0",
        b"CONNECT\naccept-version:9.9\nhost:localhost\n\n\0",
        b"\0\0\0\0\0\0\0\0",
    ];
    for bytes in garbage {
        let mut stomp = Stomp::open(case.broker.port()).unwrap();
        stomp.write_raw(bytes).unwrap();
        // The peer waits: the broker must see for itself that this can never be a frame.
        assert_ended_with_error(stomp);
    }
    assert_eq!(case.stored(), []);
    case.assert_bounded_and_serving();
}

#[test]
fn a_length_that_is_no_length_ends_the_connection_with_an_error() {
    let case = Case::start();
    for length in ["-1", "x", "", "1e3", "99999999999999999999999", "0x10"] {
        let mut stomp = case.broker.connect();
        let frame = format!("SEND\ndestination:/queue/x\ncontent-length:{length}\n\nbody\0");
        stomp.write_raw(frame.as_bytes()).unwrap();
        println!("content-length {length:?}");
        assert_ended_with_error(stomp);
    }
    assert_eq!(case.stored(), []);
    case.assert_bounded_and_serving();
}

#[test]
fn what_cannot_be_done_ends_the_connection_with_an_error_and_stores_nothing() {
    let case = Case::start();
    let wrong = [
        Frame::new("SEND").body("to nowhere"),
        Frame::new("SEND").with("destination", "").body("to nowhere"),
        Frame::new("SUBSCRIBE").with("id", "s"),
        Frame::new("SUBSCRIBE").with("destination", "/queue/x"),
        Frame::new("UNSUBSCRIBE").with("id", "never subscribed"),
        Frame::new("ACK").with("id", "never delivered"),
        Frame::new("NACK").with("id", "never delivered"),
        Frame::new("DANCE"),
        Frame::new("COMMIT").with("transaction", "never begun"),
    ];
    for frame in wrong {
        let mut stomp = case.broker.connect();
        stomp.send(&frame).unwrap();
        println!("{frame:?}");
        assert_ended_with_error(stomp);
    }
    assert_eq!(case.stored(), []);
    // The same look finds what was rightly sent.
    case.broker.connect().publish("/queue/x", "to somewhere").unwrap();
    assert_eq!(case.stored(), [("x".to_owned(), 1)]);
    case.assert_bounded_and_serving();
}

#[test]
fn a_thousand_silent_connections_keep_nobody_from_working() {
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).expect("as many open files as allowed");
    let case = Case::start();
    let silent: io::Result<Vec<Stomp>> =
        (0..1000).map(|_| Stomp::open(case.broker.port())).collect();
    let silent = silent.unwrap();
    case.assert_bounded_and_serving();
    drop(silent);
    case.assert_bounded_and_serving();
}

#[test]
fn a_peer_that_does_not_connect_in_time_is_dropped_and_told_why() {
    let dir = fresh_dir();
    let settings = "[stomp]\nconnect_timeout = 1\n";
    let broker = Broker::start_configured(&dir.path().join("data"), settings);
    let mut honest = broker.connect();
    let began = Instant::now();
    let open = |number| {
        let mut stomp = Stomp::open(broker.port()).unwrap();
        // To have begun to speak is not to have connected.
        let said: &[u8] = if number % 2 == 0 { b"" } else { b"\nCONNECT\nhost:local" };
        stomp.write_raw(said).unwrap();
        stomp
    };
    let mut silent: Vec<Stomp> = (0..100).map(open).collect();
    for stomp in &mut silent {
        let error = stomp.wait_closed().expect("an ERROR as its reason");
        assert!(began.elapsed() >= Duration::from_secs(1), "dropped before its time: {error:?}");
        let reason = error.header("message").unwrap_or_default();
        assert!(reason.contains("within 1s"), "does not speak of the time there was: {error:?}");
    }
    honest.publish("/queue/honest", "whoever has connected stays").unwrap();
}

#[test]
fn a_connection_beyond_the_limit_is_closed_at_once_and_the_others_work() {
    let dir = fresh_dir();
    let settings = "[limits]\nconnections = 5\n";
    let broker = Broker::start_configured(&dir.path().join("data"), settings);
    let mut served: Vec<Stomp> = (0..5).map(|_| broker.connect()).collect();
    for _ in 0..3 {
        let mut beyond = Stomp::open(broker.port()).unwrap();
        // One that was served would hear an ERROR when its time to connect is over.
        assert_eq!(beyond.wait_closed(), None, "nobody speaks with it");
    }
    for (number, stomp) in served.iter_mut().enumerate() {
        let queue = format!("/queue/{number}");
        stomp.publish(&queue, "work").unwrap();
        stomp.subscribe("s", &queue, "auto").unwrap();
        assert_eq!(stomp.message().unwrap().text(), "work");
    }
    // Whoever leaves makes room for one.
    drop(served.pop());
    let mut next = None;
    wait_until("there is room again", || {
        next = Stomp::connect(broker.port(), "1.2").ok();
        next.is_some()
    });
    next.unwrap().publish("/queue/next", "work").unwrap();
}

#[test]
fn a_peer_that_promised_heart_beats_and_falls_silent_gives_up_what_it_held() {
    // One hears nothing of the broker; one does, and has stopped in the midst of a frame.
    for (beats, last) in [("200,0", ""), ("200,100", "SEND\ndestination:/queue/x\n")] {
        let case = Case::start();
        let mut silent = Stomp::open(case.broker.port()).unwrap();
        let connect = Frame::new("CONNECT").with("accept-version", "1.2").with("host", "localhost");
        silent.send(&connect.with("heart-beat", beats)).unwrap();
        let connected = silent.receive().unwrap();
        let wants = connected.header("heart-beat").and_then(|beat| beat.split(',').nth(1));
        assert!(wants.is_some_and(|wants| wants != "0"), "wants no heart-beats: {connected:?}");
        silent.publish("/queue/beat", "held").unwrap();
        silent.subscribe("s", "/queue/beat", "client-individual").unwrap();
        assert_eq!(silent.message().unwrap().text(), "held");
        silent.write_raw(last.as_bytes()).unwrap();

        // The socket stands, and nothing comes: only the missing beats can tell.
        let mut next = case.broker.connect();
        next.subscribe("s", "/queue/beat", "client-individual").unwrap();
        let message = next.message().unwrap();
        assert_eq!(message.text(), "held");
        assert!(message.is_redelivered(), "{message:?}");
        silent.wait_closed();
        case.assert_bounded_and_serving();
    }
}

#[test]
fn a_subscriber_that_never_reads_harms_nobody_and_takes_no_memory_without_end() {
    let case = Case::start();
    let mut lazy = case.broker.connect();
    lazy.subscribe("lazy", "/queue/lazy", "auto").unwrap();
    let mut producer = case.broker.connect();
    let body = vec![b'x'; 64 << 10];
    let count = 4_000;
    let mut receipts = Vec::new();
    for _ in 0..count {
        let send = Frame::new("SEND").with("destination", "/queue/lazy");
        receipts.push(producer.ask(send.body(body.clone())).unwrap());
        // A window: a producer that reads none of its receipts would be lazy, too.
        if receipts.len() == 32 {
            for receipt in receipts.drain(..) {
                let frame = producer.receive().unwrap();
                assert_eq!(frame.header("receipt-id"), Some(receipt.as_str()), "{frame:?}");
            }
        }
    }
    case.assert_bounded_and_serving();
    drop(lazy);
    case.assert_bounded_and_serving();
}

#[test]
fn a_subscriber_that_never_reads_does_not_keep_the_broker_from_ending() {
    let case = Case::start();
    let mut lazy = case.broker.connect();
    lazy.subscribe("lazy", "/queue/lazy", "auto").unwrap();
    let mut producer = case.broker.connect();
    // More than the socket's buffers take, so that the broker has something left to write.
    for _ in 0..256 {
        let send = Frame::new("SEND").with("destination", "/queue/lazy");
        producer.confirm(send.body(vec![b'x'; 64 << 10])).unwrap();
    }
    assert!(case.broker.terminate().success());
    drop(lazy);
}

#[test]
fn a_topic_subscriber_that_never_reads_does_not_hold_up_the_others() {
    let case = Case::start();
    let mut lazy = case.broker.connect();
    lazy.subscribe("lazy", "/topic/news", "auto").unwrap();
    let mut keen = case.broker.connect();
    keen.subscribe("keen", "/topic/news", "auto").unwrap();
    let mut producer = case.broker.connect();
    let body = vec![b'x'; 64 << 10];
    for _ in 0..4_000 {
        let send = Frame::new("SEND").with("destination", "/topic/news");
        producer.confirm(send.body(body.clone())).unwrap();
        assert_eq!(keen.message().unwrap().body.len(), body.len());
    }
    case.assert_bounded_and_serving();
}

/// A broker under attack, and what it weighed before.
struct Case {
    broker: Broker,
    before: u64,
    _dir: tempfile::TempDir,
}

impl Case {
    fn start() -> Self {
        Self::start_configured("")
    }

    fn start_configured(settings: &str) -> Self {
        let dir = fresh_dir();
        let broker = Broker::start_configured(&dir.path().join("data"), settings);
        // One round of honest work, so that what any work needs is there before the attack.
        serve_one(&broker);
        let before = broker.resident_bytes();
        Self { broker, before, _dir: dir }
    }

    /// The queues that have come to be since the start, and how much is in them.
    #[track_caller]
    fn stored(&self) -> Vec<(String, u64)> {
        let queues = self.broker.queues().into_iter().map(|(name, depth, _)| (name, depth));
        queues.filter(|queue| *queue != ("honest".to_owned(), 0)).collect()
    }

    /// Others are served at once, and the memory has not grown beyond its bound.
    #[track_caller]
    fn assert_bounded_and_serving(&self) {
        let started = Instant::now();
        serve_one(&self.broker);
        let took = started.elapsed();
        assert!(took < Duration::from_secs(10), "others waited {took:?}");
        let growth = self.broker.resident_bytes().saturating_sub(self.before);
        println!("grew by {} KiB", growth >> 10);
        assert!(growth < GROWTH_MAX, "grew by {} MiB", growth >> 20);
    }
}

/// The broker ends the connection of a peer that waits for it, and says why.
#[track_caller]
fn assert_ended_with_error(mut stomp: Stomp) {
    let error = stomp.wait_closed().expect("an ERROR before the end");
    let reason = error.header("message").unwrap_or_default();
    assert!(!reason.is_empty(), "an ERROR without a message: {error:?}");
}

fn frame_with_headers(count: u32) -> Vec<u8> {
    let mut frame = b"SEND\ndestination:/queue/x\n".to_vec();
    for number in 0..count {
        frame.extend(format!("h{number}:v\n").bytes());
    }
    frame.extend(b"\nbody\0");
    frame
}

/// An honest client sends, receives and acknowledges one message.
#[track_caller]
fn serve_one(broker: &Broker) {
    let mut stomp = broker.connect();
    stomp.publish("/queue/honest", "work").unwrap();
    stomp.subscribe("s", "/queue/honest", "client-individual").unwrap();
    let message = stomp.message().unwrap();
    assert_eq!(message.text(), "work");
    stomp.ack(&message).unwrap();
    stomp.disconnect().unwrap();
}

/// Writes `piece` again and again, until the broker ends the connection.
///
/// # Panics
/// When the broker takes [`ENDLESS`] bytes.
#[track_caller]
fn pour(stomp: &mut Stomp, piece: &[u8]) {
    let chunk = piece.repeat((64 << 10) / piece.len());
    for _ in 0..ENDLESS / chunk.len() {
        if stomp.write_raw(&chunk).is_err() {
            return;
        }
    }
    panic!("the broker took {ENDLESS} bytes of one frame");
}
