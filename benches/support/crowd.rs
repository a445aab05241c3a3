//! Many synchronous STOMP producers in one thread, as light as they can be.
//!
//! Each sends one persistent message with a receipt and the next when the receipt has come: two
//! system calls a message. The two cores belong to the broker as far as possible.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventData, EventFlags};

use super::BODY_BYTES;
use super::process::stomp::{Frame, Stomp};

/// The SEND that all producers repeat.
pub(crate) fn send_bytes() -> Vec<u8> {
    let frame = Frame::new("SEND").with("destination", "/queue/bench").with("persistent", "true");
    frame.with("receipt", "r").body(vec![b'x'; BODY_BYTES]).encode("1.2")
}

/// Producers with a connection each.
#[derive(Debug)]
pub(crate) struct Crowd {
    epoll: OwnedFd,
    members: Vec<Member>,
    send: Vec<u8>,
}

#[derive(Debug)]
struct Member {
    stream: TcpStream,
    /// What has come of the next receipt.
    answer: Vec<u8>,
}

/// What a crowd got done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pub(crate) messages: usize,
    pub(crate) elapsed: Duration,
}

impl Done {
    /// Messages a second.
    pub(crate) fn rate(self) -> f64 {
        self.messages as f64 / self.elapsed.as_secs_f64()
    }
}

impl Crowd {
    pub(crate) fn connect(port: u16, count: usize) -> Self {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll");
        let member = |index: usize| {
            let stomp = Stomp::connect(port, "1.2").expect("connect a producer");
            let stream = stomp.into_stream();
            stream.set_nonblocking(true).expect("a non-blocking socket");
            let data = EventData::new_u64(index as u64);
            epoll::add(&epoll, &stream, data, EventFlags::IN).expect("watch a socket");
            Member { stream, answer: Vec::new() }
        };
        let members = (0..count).map(member).collect();
        Self { epoll, members, send: send_bytes() }
    }

    /// Lets all of them send for so long, and waits for the last receipts.
    pub(crate) fn produce(&mut self, turn: Duration) -> Done {
        let began = Instant::now();
        for member in &mut self.members {
            member.send(&self.send);
        }
        let (mut messages, mut outstanding) = (0, self.members.len());
        let mut events: Vec<Event> = Vec::with_capacity(self.members.len());
        while outstanding > 0 {
            events.clear();
            epoll::wait(&self.epoll, spare_capacity(&mut events), None).expect("wait");
            let goes_on = began.elapsed() < turn;
            for event in &events {
                let member = &mut self.members[event.data.u64() as usize];
                if !member.is_confirmed() {
                    continue;
                }
                messages += 1;
                if goes_on {
                    member.send(&self.send);
                } else {
                    outstanding -= 1;
                }
            }
        }
        Done { messages, elapsed: began.elapsed() }
    }
}

impl Member {
    fn send(&mut self, bytes: &[u8]) {
        // One message is outstanding, so the socket has room for it.
        self.stream.write_all(bytes).expect("send");
    }

    /// Reads what is there; true when the receipt is whole.
    fn is_confirmed(&mut self) -> bool {
        let mut piece = [0; 256];
        match self.stream.read(&mut piece) {
            Ok(0) => panic!("the broker hung up"),
            Ok(length) => self.answer.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("read: {error}"),
        }
        let whole = self.answer.contains(&0);
        if whole {
            let answer = self.answer.trim_ascii_start();
            assert!(answer.starts_with(b"RECEIPT"), "{}", String::from_utf8_lossy(answer));
            self.answer.clear();
        }
        whole
    }
}
