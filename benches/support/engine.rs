//! Engine and log in this process, without sockets, and a producer for them.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use escrowmq::broker::command::{Command, Confirm, Output, Request};
use escrowmq::engine::{self, Connection, NO_TOKEN, Running, Settings};
use escrowmq::io::real::{DirStorage, SystemClock};
use escrowmq::io::{Clock, Storage};
use escrowmq::message::{BodyKind, Content, Destination, Durability, Message, Priority};
use escrowmq::schedule::When;
use escrowmq::wal;

use super::BODY_BYTES;
use super::crowd::Done;

/// A new store with a running engine.
pub(crate) fn open(data: &Path, settings: &Settings) -> Running {
    let storage: Arc<dyn Storage> =
        Arc::new(DirStorage::open_or_create(data).expect("a data directory"));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let nonce = SystemTime::UNIX_EPOCH.elapsed().expect("a clock after 1970").as_nanos();
    let options = wal::Options::default();
    let store = engine::open_store(&storage, options, settings, nonce, clock.wall(), &mut |_| {});
    engine::start(store.expect("a new store"), clock).expect("threads")
}

/// A persistent send of 1 KiB.
pub(crate) fn send(queue: &str) -> Request {
    send_of(queue, content())
}

fn content() -> Bytes {
    let body = vec![b'x'; BODY_BYTES].into();
    Content { kind: BodyKind::Bytes, properties: Vec::new(), body }.encode()
}

fn send_of(queue: &str, content: Bytes) -> Request {
    let (durability, priority) = (Durability::Persistent, Priority::DEFAULT);
    let message = Message {
        durability,
        priority,
        expires: None,
        when: When::AtOnce,
        grouped: false,
        content,
    };
    let command = Command::Send { to: Destination::Queue(queue.into()), message };
    Request { token: NO_TOKEN, confirm: Confirm::Always, command }
}

/// Keeps so many sends outstanding, to one queue after the other.
#[derive(Debug)]
pub(crate) struct Producer {
    connection: Connection,
    /// The queues one behind the other, each with its end of line.
    names: String,
    next: usize,
    content: Bytes,
    outstanding: usize,
    outputs: Vec<Output>,
}

impl Producer {
    pub(crate) fn new(running: &Running, queues: &[&str], outstanding: usize) -> Self {
        let connection = running.handle().connect().expect("a connection");
        // One content for all, and a name that is made for each send, as a session makes it of what
        // it has just read: a producer to many queues would measure reading what it keeps itself.
        let names = queues.iter().map(|queue| format!("{queue}\n")).collect();
        Self { connection, names, next: 0, content: content(), outstanding, outputs: Vec::new() }
    }

    pub(crate) async fn produce(&mut self, turn: Duration) -> Done {
        let began = Instant::now();
        let (mut messages, mut outstanding) = (0, 0);
        loop {
            if began.elapsed() < turn {
                let more = self.outstanding - outstanding;
                let sends = (0..more).map(|_| self.next_send()).collect();
                self.connection.submit(sends).await.expect("the engine runs");
                outstanding += more;
            } else if outstanding == 0 {
                return Done { messages, elapsed: began.elapsed() };
            }
            self.connection.receive(&mut self.outputs).await.expect("the engine runs");
            for output in self.outputs.drain(..) {
                assert!(matches!(output, Output::Answer { result: Ok(_), .. }), "{output:?}");
                outstanding -= 1;
                messages += 1;
            }
        }
    }

    fn next_send(&mut self) -> Request {
        let (name, _) = self.names[self.next..].split_once('\n').expect("each has one");
        self.next = (self.next + name.len() + 1) % self.names.len();
        send_of(name, self.content.clone())
    }
}
