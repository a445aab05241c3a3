//! Large messages against the real process: they go through in pieces, whole or not at all, in
//! bounded memory, and cost nobody else anything. `ESCROW_LARGE_MIB=1024` makes the first as large
//! as one may be.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::durable::{connect_as, keep};
use crate::support::broker::{Broker, assert_no_damage};
use crate::support::damage::flip_a_bit_of;
use crate::support::random::number_from_env;
use crate::support::stomp::{Frame, Stomp};
use crate::support::{PATIENCE, fresh_dir, wait_until};

const MIB: usize = 1 << 20;

/// What the broker may grow by: buffers of the log, of the index and of connections, and what an
/// allocator keeps of them; far less than the messages below.
const GROWTH_MAX: u64 = 64 << 20;

/// Small files, so that it soon shows in the directory what has been given back.
const SETTINGS: &str = "log.segment_size = \"4MiB\"\nlog.checkpoint_bytes = \"4MiB\"\n\
                        log.spare_segments = 1\nmemory.cache = \"4MiB\"\n";

#[test]
fn a_large_message_goes_in_outlives_a_kill_and_goes_out_in_bounded_memory() {
    let mib = number_from_env("ESCROW_LARGE_MIB").unwrap_or(100);
    let size = usize::try_from(mib).expect("a size") * MIB;
    let dir = fresh_dir();
    let data = dir.path().join("data");
    let broker = Broker::start_configured(&data, SETTINGS);
    let before = broker.resident_bytes();
    let mut producer = broker.connect();
    upload(&mut producer, "/queue/large", size, true);
    assert_eq!(producer.receive().unwrap().header("receipt-id"), Some("large"));
    assert_grown_little(&broker, before);
    assert_eq!(broker.queues(), [("large".to_owned(), 1, 0)]);

    drop(broker.kill());
    let broker = Broker::start_configured(&data, SETTINGS);
    let before = broker.resident_bytes();
    let (mut stream, head, mut body) = Body::begin(&broker, "client");
    assert_eq!(head.header("content-length"), Some(size.to_string().as_str()));
    body.read_to(&mut stream, size / 2);
    assert_grown_little(&broker, before);
    body.read_to_end(&mut stream);
    assert_grown_little(&broker, before);
    write!(stream, "ACK\nid:{}\n\n\0", head.header("ack").unwrap()).unwrap();
    // When nobody needs it any more, its room comes back.
    wait_until("the pieces are given back", || bytes_of(&data) < 40 * MIB as u64);
    assert_eq!(broker.queues(), [("large".to_owned(), 0, 1)]);
    drop(stream);
    assert!(broker.terminate().success());
    assert_no_damage(&data);
}

#[test]
fn a_large_publication_is_kept_by_each_through_kills_and_heard_by_who_listens() {
    const SIZE: usize = 24 * MIB;
    let dir = fresh_dir();
    let data = dir.path().join("data");
    let broker = Broker::start_configured(&data, SETTINGS);
    let keepers = [("ann", "/topic/large"), ("bob", "/topic/large"), ("cid", "/topic/*")];
    for (client, topic) in keepers {
        let mut stomp = connect_as(&broker, client);
        stomp.confirm(keep(topic, "s")).unwrap();
        stomp.disconnect().unwrap();
    }
    let mut listener = broker.connect();
    let listen = Frame::new("SUBSCRIBE").with("id", "s").with("destination", "/topic/large");
    listener.confirm(listen).unwrap();
    let mut listener = listener.into_stream();
    let before = broker.resident_bytes();
    let mut producer = broker.connect();
    upload(&mut producer, "/topic/large", SIZE, true);
    producer.receive().unwrap();
    // In a transaction, too; what is rolled back nobody hears of.
    for (name, end) in [("a", "ABORT"), ("b", "COMMIT")] {
        producer.send(&Frame::new("BEGIN").with("transaction", name)).unwrap();
        let more = format!("transaction:{name}\n");
        begin(&mut producer, "/topic/large", Some(MIB), &more);
        write_body(&mut producer, 0, MIB);
        producer.write_raw(b"\0").unwrap();
        producer.confirm(Frame::new(end).with("transaction", name)).unwrap();
    }
    for size in [SIZE, MIB] {
        let (head, mut body) = Body::next(&mut listener);
        assert_eq!((head.header("destination"), body.size), (Some("/topic/large"), size));
        body.read_to_end(&mut listener);
    }
    assert_grown_little(&broker, before);
    assert!(bytes_of(&data) < 60 * MIB as u64, "a body is there once, however many keep it");
    drop(listener);

    let mut broker = broker;
    for (client, topic) in keepers {
        drop(broker.kill());
        broker = Broker::start_configured(&data, SETTINGS);
        let mut stream = connect_as(&broker, client).into_stream();
        stream.write_all(&keep(topic, "s").encode("1.2")).unwrap();
        for size in [SIZE, MIB] {
            let (head, mut body) = Body::next(&mut stream);
            assert_eq!((head.header("destination"), body.size), (Some("/topic/large"), size));
            body.read_to_end(&mut stream);
            let id = head.header("ack").unwrap();
            write!(stream, "ACK\nid:{id}\nreceipt:r\n\n\0").unwrap();
        }
        stream.write_all(b"DISCONNECT\nreceipt:d\n\n\0").unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    }
    wait_until("the pieces are given back", || bytes_of(&data) < 30 * MIB as u64);
    assert!(broker.terminate().success());
    assert_no_damage(&data);
}

/// Who listens reads it to the end, slowly, although nobody keeps it.
#[test]
fn a_large_publication_stays_while_somebody_reads_it_and_goes_then() {
    const SIZE: usize = 24 * MIB;
    let dir = fresh_dir();
    let data = dir.path().join("data");
    let broker = Broker::start_configured(&data, SETTINGS);
    let mut listener = broker.connect();
    let listen = Frame::new("SUBSCRIBE").with("id", "s").with("destination", "/topic/large");
    listener.confirm(listen.with("ack", "client-individual")).unwrap();
    let mut listener = listener.into_stream();
    let mut producer = broker.connect();
    upload(&mut producer, "/topic/large", SIZE, false);
    producer.receive().unwrap();
    let (head, mut body) = Body::next(&mut listener);
    body.read_to(&mut listener, MIB);
    // Checkpoints and compaction pass over it.
    for _ in 0..10 {
        upload(&mut producer, "/queue/other", 2 * MIB, true);
        producer.receive().unwrap();
    }
    body.read_to_end(&mut listener);
    let mut operator = broker.connect();
    operator.subscribe("o", "/queue/other", "auto").unwrap();
    for _ in 0..10 {
        operator.message().unwrap();
    }
    write!(listener, "ACK\nid:{}\n\n\0", head.header("ack").unwrap()).unwrap();
    wait_until("the pieces are given back", || bytes_of(&data) < 30 * MIB as u64);
    // One that nobody wants leaves nothing.
    drop(listener);
    upload(&mut producer, "/topic/unheard", SIZE, true);
    producer.receive().unwrap();
    wait_until("the pieces are given back", || bytes_of(&data) < 30 * MIB as u64);
    assert!(broker.terminate().success());
    assert_no_damage(&data);
}

#[test]
fn a_slow_consumer_of_a_large_message_holds_up_nobody() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut producer = broker.connect();
    upload(&mut producer, "/queue/large", 24 * MIB, true);
    producer.receive().unwrap();
    // The head and no more: the rest waits, here and in the broker.
    let (mut stream, _, mut body) = Body::begin(&broker, "client");
    let began = Instant::now();
    let mut other = broker.connect();
    other.subscribe("s", "/queue/small", "client").unwrap();
    for round in 0..200 {
        producer.publish("/queue/small", &round.to_string()).unwrap();
        let message = other.message().unwrap();
        assert_eq!(message.text(), round.to_string());
        other.ack(&message).unwrap();
    }
    upload(&mut producer, "/queue/other", 2 * MIB, false);
    producer.receive().unwrap();
    assert!(began.elapsed() < Duration::from_secs(20), "others waited {:?}", began.elapsed());
    body.read_to_end(&mut stream);
}

#[test]
fn what_a_producer_leaves_unfinished_is_given_back() {
    let dir = fresh_dir();
    let data = dir.path().join("data");
    let broker = Broker::start_configured(&data, SETTINGS);
    for round in 0..2 {
        let mut producer = broker.connect();
        producer.publish("/queue/small", "kept").unwrap();
        begin(&mut producer, "/queue/large", Some(60 * MIB), "");
        write_body(&mut producer, 0, 30 * MIB);
        if round == 0 {
            // The pieces are there, and nobody sees them.
            assert!(bytes_of(&data) > 20 * MIB as u64);
            assert_eq!(broker.queues(), [("small".to_owned(), 1, 0)]);
        }
    }
    wait_until("the pieces are given back", || bytes_of(&data) < 30 * MIB as u64);
    // So it is when the broker is killed meanwhile.
    let mut producer = broker.connect();
    begin(&mut producer, "/queue/large", None, "");
    write_body(&mut producer, 0, 30 * MIB);
    drop(broker.kill());
    drop(producer);
    let broker = Broker::start_configured(&data, SETTINGS);
    wait_until("the pieces are given back", || bytes_of(&data) < 30 * MIB as u64);
    assert_eq!(broker.queues(), [("small".to_owned(), 2, 0)]);
    assert!(broker.terminate().success());
    assert_no_damage(&data);
}

#[test]
fn a_frame_under_way_is_finished_before_anything_else_is_said() {
    const SIZE: usize = 6 * MIB;
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut producer = broker.connect();
    upload(&mut producer, "/queue/large", SIZE, true);
    producer.receive().unwrap();
    let (mut stream, head, mut body) = Body::begin(&broker, "client-individual");
    assert_eq!(head.header("redelivered"), None);
    // A receipt, another delivery, an end of the subscription, and the end of the connection.
    stream
        .write_all(
            b"SUBSCRIBE\nid:t\ndestination:/queue/small\nreceipt:1\n\n\0\
              SEND\ndestination:/queue/small\nreceipt:2\n\nhi\0\
              UNSUBSCRIBE\nid:s\nreceipt:3\n\n\0\
              DISCONNECT\nreceipt:4\n\n\0",
        )
        .unwrap();
    body.read_to_end(&mut stream);
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    let receipts = rest.match_indices("receipt-id:").map(|(at, _)| &rest[at + 11..][..1]);
    let receipts: Vec<_> = receipts.collect();
    assert_eq!(receipts, ["1", "2", "3", "4"], "{rest:?}");
    // It was not acknowledged, so the next one gets it, flagged.
    let (mut stream, head, mut body) = Body::begin(&broker, "client");
    assert_eq!(head.header("redelivered"), Some("true"));
    body.read_to_end(&mut stream);
}

#[test]
fn a_large_message_with_a_damaged_piece_breaks_off_once_and_is_set_apart() {
    let dir = fresh_dir();
    let data = dir.path().join("data");
    let broker = Broker::start(&data);
    let mut producer = broker.connect();
    begin(&mut producer, "/queue/large", None, "receipt:large\n");
    write_body(&mut producer, 0, MIB);
    producer.write_raw(b"a piece to be damaged on the disk").unwrap();
    write_body(&mut producer, 0, MIB);
    producer.write_raw(b"\0").unwrap();
    producer.receive().unwrap();
    producer.publish("/queue/large", "the next").unwrap();
    assert!(broker.terminate().success());
    flip_a_bit_of(&data, b"a piece to be damaged on the disk");
    let broker = Broker::start(&data);
    let (mut stream, _, _) = Body::begin(&broker, "client");
    let end = io::copy(&mut stream, &mut io::sink());
    assert!(end.is_ok_and(|bytes| bytes < 2 * MIB as u64), "the frame was not cut off");
    let mut consumer = broker.connect();
    consumer.subscribe("s", "/queue/large", "client").unwrap();
    assert_eq!(consumer.message().unwrap().text(), "the next");
    consumer.subscribe("d", "/queue/ActiveMQ.DLQ.Damaged", "client").unwrap();
    let told = consumer.message().unwrap();
    assert!(told.text().contains("is damaged"), "{told:?}");
}

#[test]
fn what_is_too_large_is_refused_by_its_head_or_when_it_turns_out() {
    let dir = fresh_dir();
    let data = dir.path().join("data");
    let settings = format!("{SETTINGS}limits.message = \"2MiB\"\n");
    let broker = Broker::start_configured(&data, &settings);
    let refused = |to: &str, length: Option<u64>, bytes: usize, says: &str| {
        let mut stomp = broker.connect();
        begin(&mut stomp, to, length.map(|length| length as usize), "receipt:r\n");
        // The broker may end the connection while this is being written.
        let _ = stomp.write_raw(&body_at(0, bytes));
        let error = stomp.wait_closed();
        if let Some(error) = error {
            let message = error.header("message").unwrap_or_default();
            assert!(message.contains(says), "{message}");
            assert_eq!(error.header("receipt-id"), Some("r"));
        } else {
            // Who goes on sending may lose the last words.
            assert!(bytes > 0, "no ERROR");
        }
    };
    let limit = "longer than the limit of 2097152 bytes";
    refused("/queue/large", Some(1_000_000_000_000_000_000), 0, limit);
    refused("/queue/large", Some(2 << 20 | 1), 0, limit);
    refused("/queue/large", None, 2 * MIB + 1, limit);
    refused("/topic/large", Some(2 << 20 | 1), 0, limit);
    refused("/topic/large", None, 2 * MIB + 1, limit);
    let mut stomp = broker.connect();
    upload(&mut stomp, "/queue/large", 2 * MIB, false);
    assert_eq!(stomp.receive().unwrap().command, "RECEIPT");
    assert_eq!(broker.queues(), [("large".to_owned(), 1, 0)]);
}

#[test]
fn many_connections_that_begin_and_never_end_a_large_message_cost_little_and_harm_nobody() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let before = broker.resident_bytes();
    let stalled: Vec<Stomp> = (0..200)
        .map(|_| {
            let mut stomp = broker.connect();
            begin(&mut stomp, "/queue/never", Some(1 << 30), "");
            write_body(&mut stomp, 0, 100 << 10);
            stomp
        })
        .collect();
    let mut stomp = broker.connect();
    upload(&mut stomp, "/queue/large", MIB, false);
    assert_eq!(stomp.receive().unwrap().command, "RECEIPT");
    assert_grown_little(&broker, before);
    drop(stalled);
    stomp.publish("/queue/small", "after").unwrap();
    assert!(broker.terminate().success());
}

/// The bytes of every body here, from a place on: none is zero, which would end one of no length.
fn body_at(place: usize, count: usize) -> Vec<u8> {
    (place..place + count).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8 | 1).collect()
}

fn begin(stomp: &mut Stomp, to: &str, length: Option<usize>, more: &str) {
    let length = length.map_or(String::new(), |length| format!("content-length:{length}\n"));
    stomp.write_raw(format!("SEND\ndestination:{to}\n{length}{more}\n").as_bytes()).unwrap();
}

fn write_body(stomp: &mut Stomp, place: usize, count: usize) {
    for at in (place..place + count).step_by(256 << 10) {
        let end = (at + (256 << 10)).min(place + count);
        stomp.write_raw(&body_at(at, end - at)).unwrap();
    }
}

/// Sends a whole message with a receipt called `large`.
fn upload(stomp: &mut Stomp, to: &str, size: usize, persistent: bool) {
    begin(stomp, to, Some(size), &format!("persistent:{persistent}\nreceipt:large\n"));
    write_body(stomp, 0, size);
    stomp.write_raw(b"\0").unwrap();
}

/// A body as it arrives, compared byte for byte and thrown away.
struct Body {
    place: usize,
    size: usize,
}

impl Body {
    /// Subscribes to the queue, reads the head of a MESSAGE and leaves the body for later.
    #[track_caller]
    fn begin(broker: &Broker, ack: &str) -> (TcpStream, Frame, Self) {
        let mut stream = broker.connect().into_stream();
        write!(stream, "SUBSCRIBE\nid:s\ndestination:/queue/large\nack:{ack}\n\n\0").unwrap();
        let (head, body) = Self::next(&mut stream);
        (stream, head, body)
    }

    /// Reads the head of the next MESSAGE and leaves the body for later; passes over receipts.
    #[track_caller]
    fn next(stream: &mut TcpStream) -> (Frame, Self) {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let frame = loop {
            let frame = Self::head(stream);
            if frame.command != "RECEIPT" {
                break frame;
            }
            let mut nul = [1];
            stream.read_exact(&mut nul).unwrap();
        };
        assert_eq!(frame.command, "MESSAGE");
        let size = frame.header("content-length").unwrap().parse().unwrap();
        (frame, Self { place: 0, size })
    }

    #[track_caller]
    fn head(stream: &mut TcpStream) -> Frame {
        let mut head = Vec::new();
        while !head.ends_with(b"\n\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let text = String::from_utf8(head).unwrap();
        let mut lines = text.trim().lines();
        let mut frame = Frame::new(lines.next().unwrap());
        for line in lines {
            let (name, value) = line.split_once(':').unwrap();
            frame = frame.with(name, &value.replace("\\c", ":"));
        }
        frame
    }

    #[track_caller]
    fn read_to(&mut self, stream: &mut TcpStream, place: usize) {
        while self.place < place {
            let mut chunk = vec![0; (place - self.place).min(256 << 10)];
            stream.read_exact(&mut chunk).unwrap();
            assert!(chunk == body_at(self.place, chunk.len()), "wrong bytes at {}", self.place);
            self.place += chunk.len();
        }
    }

    #[track_caller]
    fn read_to_end(&mut self, stream: &mut TcpStream) {
        self.read_to(stream, self.size);
        let mut nul = [1];
        stream.read_exact(&mut nul).unwrap();
        assert_eq!(nul, [0], "the frame does not end");
    }
}

#[track_caller]
fn assert_grown_little(broker: &Broker, before: u64) {
    let growth = broker.resident_bytes().saturating_sub(before);
    println!("grew by {} KiB", growth >> 10);
    assert!(growth < GROWTH_MAX, "grew by {} MiB", growth >> 20);
}

/// Bytes of all files of a store.
fn bytes_of(data: &Path) -> u64 {
    let entries = std::fs::read_dir(data).expect("the store").filter_map(Result::ok);
    entries.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum()
}
