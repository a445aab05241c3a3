//! A store that comes to rest: what it keeps on the disk follows what lives in it, and then nothing
//! wakes it any more.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::broker::command::{Command, Confirm, Output, Pick, Request, Returns};
use crate::engine::{Inbox, Input, Job, Mailbox, Turn, compact};
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

    fn begin(&mut self, command: Command) {
        let request = Request { token: Token(1), confirm: Confirm::Always, command };
        self.node.inputs.push_back(Input::Requests(ConnectionId(1), [request].into(), None));
    }

    fn ask(&mut self, command: Command) {
        self.begin(command);
        self.run();
        let mut outputs = Vec::new();
        self.mailbox.take(&mut outputs).unwrap();
        let yes = |output: &Output| matches!(output, Output::Answer { result: Ok(_), .. });
        assert!(outputs.len() == 1 && yes(&outputs[0]), "{outputs:?}");
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

    /// Lets time pass until something is to be packed, and gives which segments.
    fn plan(&mut self) -> Vec<u64> {
        for _ in 0..100_000 {
            let turn = self.node.turn(self.now).unwrap();
            for job in &self.node.jobs {
                if let Job::Compact(ordinals) = job {
                    return ordinals.clone();
                }
            }
            while self.node.log_step() || self.node.room_step() {}
            let moved = self.node.job_step(0) || !self.node.inputs.is_empty();
            if let (Turn::Idle(Some(deadline)), false) = (turn, moved) {
                self.now = deadline.max(self.now);
            }
        }
        panic!("nothing is ever packed");
    }

    fn files(&self, prefix: &str) -> usize {
        self.disk.list().unwrap().iter().filter(|name| name.starts_with(prefix)).count()
    }
}

fn send(queue: &str, number: u64, bytes: usize) -> Command {
    let properties = vec![("number".to_owned(), number.to_string())];
    let body = vec![number as u8; bytes].into();
    let content = Content { kind: BodyKind::Bytes, properties, body }.encode();
    let message = Message {
        durability: Durability::Persistent,
        priority: Priority::DEFAULT,
        expires: None,
        when: When::AtOnce,
        grouped: false,
        content,
    };
    Command::Send { to: Destination::Queue(queue.into()), message }
}

/// What leaves messages that stay, each in the midst of some that do not.
fn scattered() -> impl Iterator<Item = Command> {
    (0..KEPT).flat_map(|number| {
        let passing = (0..4).map(move |it| send("through", 1000 + number * 10 + it, 30_000));
        let purge = Command::Purge { queue: "through".into() };
        [send("kept", number, 300)].into_iter().chain(passing).chain([purge])
    })
}

#[test]
fn a_store_at_rest_holds_little_more_than_what_lives_in_it_and_sleeps() {
    let mut bench = Bench::new();
    scattered().for_each(|command| bench.ask(command));
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

#[test]
fn compaction_takes_as_long_as_its_rate_says_however_fast_the_disk_is() {
    let mut bench = Bench::new();
    scattered().for_each(|command| bench.begin(command));
    let ordinals = bench.plan();
    // Each of them is read, and is full but for what was too large for its end.
    let least = ordinals.len() as u64 * options().segment_size / 2;
    let Node { mut compactor, log, .. } = bench.node;
    compactor.rate = 2 * least;
    let (plans, to_compact) = channel();
    plans.send(ordinals).unwrap();
    drop(plans);
    let (inbox, began) = (Inbox::new(), Instant::now());
    compact(&to_compact, compactor, &log, &inbox);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(500), "{least} bytes in {took:?}");
    let files = bench.disk.list().unwrap();
    assert!(files.iter().any(|name| name.starts_with("pack-")), "nothing was packed: {files:?}");
}
