//! A full disk, step by step: what is refused, what goes on, and how it ends.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::broker::command::{Command, Confirm, Outcome, Output, Refusal, Reply, Request, Which};
use crate::engine::{Input, Mailbox};
use crate::ids::{ConnectionId, Millis, SubscriptionId, Tag, Token};
use crate::io::sim::SimDisk;
use crate::message::{BodyKind, Content, Destination, Durability, Message, Priority};

use super::node::Node;

const NOW: Millis = Millis(1);

struct Bench {
    disk: SimDisk,
    node: Node,
    mailbox: Arc<Mailbox>,
    tokens: u64,
    delivered: VecDeque<Tag>,
}

impl Bench {
    fn new() -> Self {
        let disk = SimDisk::new();
        let mut node = Node::open(&disk, 7, NOW).unwrap();
        let mailbox = Arc::new(Mailbox::default());
        node.inputs.push_back(Input::Connect(ConnectionId(1), Arc::clone(&mailbox)));
        Self { disk, node, mailbox, tokens: 0, delivered: VecDeque::new() }
    }

    /// Asks, and runs everything until the answer is there.
    fn ask(&mut self, command: Command) -> Result<Reply, Refusal> {
        self.tokens += 1;
        let token = Token(self.tokens);
        let request = Request { token, confirm: Confirm::Always, command };
        self.node.inputs.push_back(Input::Requests(ConnectionId(1), [request].into(), None));
        for _ in 0..10_000 {
            self.node.turn(NOW).unwrap();
            self.node.log_step();
            self.node.room_step();
            self.node.job_step(0);
            let mut outputs = Vec::new();
            self.mailbox.take(&mut outputs).unwrap();
            let mut answer = None;
            for output in outputs {
                match output {
                    Output::Answer { token: answered, result } if answered == token => {
                        answer = Some(result);
                    }
                    Output::Delivery(delivery) => {
                        self.mailbox.written(usize::MAX);
                        self.node.inputs.push_back(Input::Writable(ConnectionId(1)));
                        self.delivered.push_back(delivery.tag);
                    }
                    other => panic!("{other:?}"),
                }
            }
            if let Some(answer) = answer {
                return answer;
            }
        }
        panic!("no answer")
    }

    fn send(&mut self) -> Result<Reply, Refusal> {
        let content = Content {
            kind: BodyKind::Bytes,
            properties: vec![("number".to_owned(), "0".to_owned())],
            body: vec![0; 1000].into(),
        };
        let message = Message {
            durability: Durability::Persistent,
            priority: Priority::DEFAULT,
            expires: None,
            content: content.encode(),
        };
        self.ask(Command::Send { to: Destination::Queue("q".into()), message })
    }
}

#[test]
fn a_full_disk_refuses_sends_takes_acknowledgements_and_recovers_by_itself() {
    let mut bench = Bench::new();
    let from = Destination::Queue("q".into());
    let subscription = SubscriptionId(1);
    bench.ask(Command::Subscribe { subscription, from, prefetch: 1000 }).unwrap();
    bench.disk.set_capacity(bench.disk.used());
    let mut sent = 0;
    while bench.send().is_ok() {
        sent += 1;
        assert!(sent < 10_000, "a full disk takes everything");
    }
    assert!(sent > 20, "there was some room: {sent}");
    assert_eq!(bench.send(), Err(Refusal::StorageFull));
    while bench.delivered.len() < sent {
        bench.ask(Command::Barrier).unwrap();
    }
    // Each acknowledgement takes a block of the reserve; checkpoints give back what was consumed
    // before the reserve is gone.
    for tag in std::mem::take(&mut bench.delivered) {
        let (which, outcome) = (Which::One(tag), Outcome::Accepted);
        bench.ask(Command::Settle { subscription, which, outcome }).unwrap();
    }
    bench.disk.set_capacity(u64::MAX);
    // The makers of room try again by themselves; the next sends find it, without a restart.
    while bench.send() == Err(Refusal::StorageFull) {
        sent += 1;
        assert!(sent < 10_000, "room is never found again");
    }
    bench.send().unwrap();
}
