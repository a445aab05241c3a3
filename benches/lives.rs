//! Processor time of the broker for the whole life of a persistent message: sent, confirmed,
//! delivered, acknowledged.
//!
//! A: one client sends 1 KiB with a thousand unconfirmed, another acknowledges each as it comes.
//! B: a hundred clients, each of which sends one to a queue of its own, waits for its receipt and
//! for the message, acknowledges it, and waits for that receipt before the next. All over loopback,
//! by clients that only count frames, to the real broker. What counts is time on a processor, as
//! the system tells it of the broker's process, so neighbours matter little.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use support::cpu::CpuTimes;
use support::process::stomp::{Frame, Stomp};
use support::process::{broker::Broker, fresh_dir};
use support::report::{Goal, Series, figures, headline, hold_all};
use support::{BODY_BYTES, Size, wait_for_room_ahead};

/// Messages of A that are sent and not confirmed, at most.
const WINDOW: usize = 1000;

/// Messages of A that one write carries.
const BURST: usize = 50;

/// Clients of B.
const CLIENTS: usize = 100;

pub(crate) fn main() {
    let Some(size) = Size::asked("lives") else { return };
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    wait_for_room_ahead(broker.data());
    let mut one = Pipeline::connect(broker.port());
    let mut many = Circle::connect(broker.port(), if size.is_full() { CLIENTS } else { 4 });
    let (mut a, mut b) = (Side::default(), Side::default());
    for _ in 0..size.rounds {
        a.round(&broker, || one.run(size.operations));
        b.round(&broker, || many.run(size.turn));
    }
    headline("lives: persistent messages from send to acknowledgement", size.rounds);
    figures("A: a thousand under way", "messages/s", &a.rate);
    a.cpu.print("A: the broker", a.messages);
    figures("B: a hundred clients, one message each", "messages/s", &b.rate);
    b.cpu.print("B: the broker", b.messages);
    hold_all(&[
        ("A: processor time a message", "us", a.micros, Goal::AtMost(15.0)),
        ("B: processor time a message", "us", b.micros, Goal::AtMost(40.0)),
    ]);
}

/// What the broker spent on one kind of work.
#[derive(Debug, Default)]
struct Side {
    rate: Series,
    micros: Series,
    messages: usize,
    cpu: CpuTimes,
}

impl Side {
    fn round(&mut self, broker: &Broker, work: impl FnOnce() -> usize) {
        let (before, began) = (CpuTimes::of(broker.pid()), Instant::now());
        let messages = work();
        let elapsed = began.elapsed();
        let used = CpuTimes::of(broker.pid()).since(&before);
        self.rate.push(messages as f64 / elapsed.as_secs_f64());
        self.micros.push(used.total().as_secs_f64() * 1e6 / messages as f64);
        self.messages += messages;
        self.cpu.add(&used);
    }
}

fn send_to(queue: &str) -> Vec<u8> {
    let frame = Frame::new("SEND").with("destination", queue).with("persistent", "true");
    frame.with("receipt", "r").body(vec![b'x'; BODY_BYTES]).encode("1.2")
}

fn subscribed(port: u16, queue: &str) -> TcpStream {
    let mut stomp = Stomp::connect(port, "1.2").expect("connect");
    stomp.subscribe("s", queue, "client-individual").expect("subscribe");
    stomp.into_stream()
}

/// Frames as they come, seen only as far as this benchmark must: neither headers nor bodies of its
/// messages hold a zero byte, so each frame ends at the next one.
#[derive(Debug)]
struct Frames {
    bytes: Vec<u8>,
    taken: usize,
    /// Bytes that a read takes at most.
    room: usize,
}

impl Frames {
    fn new(room: usize) -> Self {
        Self { bytes: Vec::new(), taken: 0, room }
    }

    /// Reads what has come; a socket that waits does so here.
    fn read(&mut self, stream: &mut TcpStream) {
        self.bytes.drain(..std::mem::take(&mut self.taken));
        let old = self.bytes.len();
        self.bytes.resize(old + self.room, 0);
        let count = match stream.read(&mut self.bytes[old..]) {
            Ok(0) => panic!("the broker hung up"),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => panic!("read: {error}"),
        };
        self.bytes.truncate(old + count);
    }

    fn next(&mut self) -> Option<&[u8]> {
        let rest = &self.bytes[self.taken..];
        let length = memchr::memchr(0, rest)?;
        self.taken += length + 1;
        Some(rest[..length].trim_ascii_start())
    }
}

/// The ACK that a message asks for.
fn acknowledge(message: &[u8], receipt: &str, out: &mut Vec<u8>) {
    assert!(message.starts_with(b"MESSAGE\n"), "{}", String::from_utf8_lossy(message));
    let at = memchr::memmem::find(message, b"\nack:").expect("a message to be acknowledged") + 5;
    let end = at + memchr::memchr(b'\n', &message[at..]).expect("a line");
    out.extend_from_slice(b"ACK\n");
    out.extend_from_slice(receipt.as_bytes());
    out.extend_from_slice(b"id:");
    out.extend_from_slice(&message[at..end]);
    out.extend_from_slice(b"\n\n\0");
}

/// A's two clients.
#[derive(Debug)]
struct Pipeline {
    producer: TcpStream,
    consumer: TcpStream,
    burst: Vec<u8>,
}

impl Pipeline {
    fn connect(port: u16) -> Self {
        const QUEUE: &str = "/queue/bench.pipeline";
        let producer = Stomp::connect(port, "1.2").expect("connect").into_stream();
        Self { producer, consumer: subscribed(port, QUEUE), burst: send_to(QUEUE).repeat(BURST) }
    }

    /// Brings so many messages from the one client to the other.
    fn run(&mut self, bursts: usize) -> usize {
        let messages = bursts * BURST;
        let Self { producer, consumer, burst } = self;
        std::thread::scope(|scope| {
            scope.spawn(|| consume(consumer, messages));
            let (mut sent, mut confirmed) = (0, 0);
            let mut frames = Frames::new(16 << 10);
            while confirmed < messages {
                while sent < messages && sent - confirmed <= WINDOW - BURST {
                    producer.write_all(burst).expect("send");
                    sent += BURST;
                }
                frames.read(producer);
                while let Some(frame) = frames.next() {
                    expect_receipt(frame);
                    confirmed += 1;
                }
            }
        });
        messages
    }
}

/// Acknowledges so many messages as they come, and waits until the last one is settled durably.
fn consume(stream: &mut TcpStream, messages: usize) {
    let (mut frames, mut acks) = (Frames::new(256 << 10), Vec::new());
    let mut settled = 0;
    while settled < messages {
        frames.read(stream);
        acks.clear();
        while let Some(message) = frames.next() {
            settled += 1;
            let receipt = if settled == messages { "receipt:r\n" } else { "" };
            acknowledge(message, receipt, &mut acks);
        }
        stream.write_all(&acks).expect("acknowledge");
    }
    loop {
        frames.read(stream);
        if let Some(frame) = frames.next() {
            return expect_receipt(frame);
        }
    }
}

fn expect_receipt(frame: &[u8]) {
    assert!(frame.starts_with(b"RECEIPT"), "{}", String::from_utf8_lossy(frame));
}

/// B's clients, in one thread.
#[derive(Debug)]
struct Circle {
    epoll: OwnedFd,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    stream: TcpStream,
    frames: Frames,
    send: Vec<u8>,
    ack: Vec<u8>,
    /// Frames of the broker that are still awaited before the next step.
    awaited: usize,
}

impl Circle {
    fn connect(port: u16, count: usize) -> Self {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll");
        let member = |index: usize| {
            let queue = format!("/queue/bench.circle.{index}");
            let stream = subscribed(port, &queue);
            stream.set_nonblocking(true).expect("a non-blocking socket");
            let data = EventData::new_u64(index as u64);
            epoll::add(&epoll, &stream, data, EventFlags::IN).expect("watch a socket");
            let (frames, ack) = (Frames::new(4 << 10), Vec::new());
            Member { stream, frames, send: send_to(&queue), ack, awaited: 0 }
        };
        Self { members: (0..count).map(member).collect(), epoll }
    }

    /// Goes round for so long; how many messages came to their end.
    fn run(&mut self, turn: Duration) -> usize {
        let began = Instant::now();
        self.members.iter_mut().for_each(Member::send);
        let (mut ended, mut at_work) = (0, self.members.len());
        let mut events: Vec<Event> = Vec::with_capacity(at_work);
        while at_work > 0 {
            events.clear();
            epoll::wait(&self.epoll, spare_capacity(&mut events), None).expect("wait");
            for event in &events {
                let member = &mut self.members[event.data.u64() as usize];
                if !member.is_settled() {
                    continue;
                }
                ended += 1;
                if began.elapsed() < turn {
                    member.send();
                } else {
                    at_work -= 1;
                }
            }
        }
        ended
    }
}

impl Member {
    fn send(&mut self) {
        self.stream.write_all(&self.send).expect("send");
        // The receipt and the message, whichever comes first.
        self.awaited = 2;
    }

    /// Reads what is there, and takes the next step if that was awaited; true at the end.
    fn is_settled(&mut self) -> bool {
        self.frames.read(&mut self.stream);
        while let Some(frame) = self.frames.next() {
            self.awaited -= 1;
            if frame.starts_with(b"MESSAGE") {
                acknowledge(frame, "receipt:r\n", &mut self.ack);
            } else {
                expect_receipt(frame);
            }
        }
        if self.awaited > 0 {
            return false;
        }
        let settled = self.ack.is_empty();
        if !settled {
            self.stream.write_all(&self.ack).expect("acknowledge");
            self.ack.clear();
            self.awaited = 1;
        }
        settled
    }
}
