//! One connection that sends or takes very many messages, as fast as it can.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::process::stomp::{Frame, Stomp};

/// Frames written, or acknowledged, at once.
const AT_ONCE: usize = 500;

/// Sends `count` persistent messages of `body` bytes to `queue` and waits until all are confirmed.
pub(crate) fn fill(port: u16, queue: &str, count: usize, body: usize) -> Duration {
    let send = Frame::new("SEND").with("destination", queue).body(vec![b'x'; body]);
    fill_with(port, &send, count)
}

/// As [`fill`], with this frame so many times.
pub(crate) fn fill_with(port: u16, send: &Frame, count: usize) -> Duration {
    let began = Instant::now();
    let mut stomp = Stomp::connect(port, "1.2").expect("connect a producer");
    let one = send.encode("1.2");
    let many = one.repeat(AT_ONCE);
    for _ in 0..count / AT_ONCE {
        stomp.write_raw(&many).expect("send");
    }
    for _ in 0..count % AT_ONCE {
        stomp.write_raw(&one).expect("send");
    }
    // Its receipt says that all before it is confirmed; it is given so long as the disk needs.
    let mut stream = stomp.into_stream();
    stream.set_read_timeout(None).expect("patience");
    let end = Frame::new("DISCONNECT").with("receipt", "all").encode("1.2");
    stream.write_all(&end).expect("send");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the answer");
    assert!(answer.starts_with(b"RECEIPT"), "{}", String::from_utf8_lossy(&answer));
    began.elapsed()
}

/// A consumer that accepts cumulatively.
#[derive(Debug)]
pub(crate) struct Drain {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Where in `buffer` the next frame begins.
    at: usize,
    /// Up to where no end of a frame was found.
    seen: usize,
}

impl Drain {
    pub(crate) fn subscribe(port: u16, queue: &str, prefetch: usize) -> Self {
        let mut stomp = Stomp::connect(port, "1.2").expect("connect a consumer");
        let frame = Frame::new("SUBSCRIBE").with("id", "0").with("destination", queue);
        let frame = frame.with("ack", "client");
        let frame = frame.with("activemq.prefetchSize", &prefetch.to_string());
        stomp.send(&frame).expect("subscribe");
        Self { stream: stomp.into_stream(), buffer: Vec::new(), at: 0, seen: 0 }
    }

    /// Takes `count` messages and accepts them all.
    pub(crate) fn take(&mut self, count: usize) -> Duration {
        let began = Instant::now();
        let mut accepted = 0;
        for taken in 1..=count {
            let frame = self.next_frame();
            if taken - accepted == AT_ONCE || taken == count {
                let ack = ack_of(frame);
                self.stream.write_all(&ack).expect("acknowledge");
                accepted = taken;
            }
        }
        began.elapsed()
    }

    /// Waits for one message and leaves it unaccepted.
    pub(crate) fn first(&mut self) {
        self.next_frame();
    }

    fn next_frame(&mut self) -> &[u8] {
        loop {
            if let Some(end) = memchr::memchr(0, &self.buffer[self.seen..]) {
                let (at, end) = (self.at, self.seen + end);
                (self.at, self.seen) = (end + 1, end + 1);
                let frame = self.buffer[at..end].trim_ascii_start();
                assert!(frame.starts_with(b"MESSAGE"), "{}", String::from_utf8_lossy(frame));
                return frame;
            }
            self.buffer.drain(..self.at);
            (self.at, self.seen) = (0, self.buffer.len());
            self.buffer.resize(self.seen + (256 << 10), 0);
            let length = self.stream.read(&mut self.buffer[self.seen..]).expect("read");
            assert!(length > 0, "the broker hung up");
            self.buffer.truncate(self.seen + length);
        }
    }

    /// Waits until the broker has taken every acknowledgement.
    pub(crate) fn end(mut self) {
        let end = Frame::new("DISCONNECT").with("receipt", "all").encode("1.2");
        self.stream.write_all(&end).expect("send");
        let mut answer = Vec::new();
        self.stream.read_to_end(&mut answer).expect("the answer");
        let text = String::from_utf8_lossy(&answer);
        assert!(text.contains("receipt-id:all"), "{text}");
    }
}

fn ack_of(frame: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(frame);
    let id = text.lines().find_map(|line| line.strip_prefix("ack:")).expect("an ack header");
    Frame::new("ACK").with("id", id).encode("1.2")
}
