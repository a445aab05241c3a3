//! A store that comes to rest: what it keeps on the disk follows what lives in it, and then nothing
//! wakes it any more.

use std::sync::Arc;

use crate::broker::command::{Command, Confirm, Output, Pick, Request, Returns};
use crate::engine::{Input, Mailbox};
use crate::ids::{ConnectionId, Millis, Token};
use crate::io::Storage;
use crate::io::sim::SimDisk;
use crate::message::{BodyKind, Content, Destination, Durability, Message, Priority};
use crate::schedule::When;

use super::node::{Node, options, settings};

const KEPT: u64 = 12;

struct Bench {
    disk: SimDisk,
    node: Node,
    mailbox: Arc<Mailbox>,
    now: Millis,
}

impl Bench {
    fn new() -> Self {
        let (disk, now) = (SimDisk::new(), Millis(1_000));
        let mut node = Node::open(&disk, 7, now).unwrap();
        let mailbox = Arc::new(Mailbox::default());
        node.inputs.push_back(Input::Connect(ConnectionId(1), Arc::clone(&mailbox)));
        Self { disk, node, mailbox, now }
    }

    fn ask(&mut self, command: Command) {
        let request = Request { token: Token(1), confirm: Confirm::Always, command };
        self.node.inputs.push_back(Input::Requests(ConnectionId(1), [request].into(), None));
        self.run();
        let mut outputs = Vec::new();
        self.mailbox.take(&mut outputs).unwrap();
        let yes = |output: &Output| matches!(output, Output::Answer { result: Ok(_), .. });
        assert!(outputs.len() == 1 && yes(&outputs[0]), "{outputs:?}");
    }

    fn send(&mut self, queue: &str, number: u64, bytes: usize) {
        let properties = vec![("number".to_owned(), number.to_string())];
        let body = vec![number as u8; bytes].into();
        let content = Content { kind: BodyKind::Bytes, properties, body }.encode();
        let (durability, priority) = (Durability::Persistent, Priority::DEFAULT);
        let message = Message {
            durability,
            priority,
            expires: None,
            when: When::AtOnce,
            grouped: false,
            content,
        };
        self.ask(Command::Send { to: Destination::Queue(queue.into()), message });
    }

    /// Runs until nothing moves; gives what the engine waits for then.
    fn run(&mut self) -> Option<Millis> {
        self.node.rest(self.now)
    }

    /// Lets time pass until nothing is waited for any more.
    fn rest(&mut self) -> u64 {
        let began = self.now.0;
        while let Some(deadline) = self.run() {
            self.now = deadline;
            assert!(self.now.0 < began + 100 * settings().checkpoint_millis, "no rest");
        }
        (self.now.0 - began) / settings().checkpoint_millis
    }

    fn files(&self, prefix: &str) -> usize {
        self.disk.list().unwrap().iter().filter(|name| name.starts_with(prefix)).count()
    }
}

#[test]
fn a_store_at_rest_holds_little_more_than_what_lives_in_it_and_sleeps() {
    let mut bench = Bench::new();
    for number in 0..KEPT {
        bench.send("kept", number, 300);
        for passing in 0..4 {
            bench.send("through", 1000 + number * 10 + passing, 30_000);
        }
        bench.ask(Command::Purge { queue: "through".into() });
    }
    // Some of them are not where their records say any more.
    bench.ask(Command::Move {
        from: "kept".into(),
        to: "moved".into(),
        pick: Pick::First(KEPT / 2),
        returns: Returns::Keep,
    });
    let periods = bench.rest();
    assert!(periods <= 3, "it took {periods} periods");
    assert_eq!((bench.files("spare-"), bench.files("pack-")), (0, 1));
    let size = |name| bench.disk.open(name).unwrap().size().unwrap().next_multiple_of(4096);
    let log = bench.disk.used() - size("index.redb") - size("reserve");
    assert!(log <= 4 * options().segment_size, "{log} bytes");
    // All of it can be read, after a crash as well.
    let crashed = Node::open(&bench.disk.snapshot_crash(3), 8, bench.now).unwrap();
    for node in [&bench.node, &crashed] {
        assert_eq!(node.contents().unwrap().messages.len() as u64, KEPT);
    }
    for queue in ["kept", "moved"] {
        bench.ask(Command::Purge { queue: queue.into() });
    }
    bench.rest();
    assert_eq!((bench.files("spare-"), bench.files("pack-")), (0, 0));
}
