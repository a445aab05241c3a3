//! A manager that names a new branch as it has named an old one, whose outcome is remembered.
//!
//! Whoever has heard that its work in the new branch ended hears nothing of the old one any more,
//! whatever crash comes. Who has heard nothing at all cannot be told from one that asks for the
//! old branch once more: both send the same request to the same store.

use std::sync::Arc;

use crate::broker::command::{Command, Confirm, Output, Refusal, Reply, Request, Work};
use crate::broker::xa::{EndAs, StartAs, XaCommand, XaError};
use crate::engine::{Input, Mailbox, Turn};
use crate::ids::{ConnectionId, Millis, Token, TransactionName, Xid};
use crate::io::sim::SimDisk;
use crate::message::{BodyKind, Content, Destination, Durability, Message, Priority};
use crate::mutant::{self, Mutant};
use crate::schedule::When;

use super::node::Node;

const NOW: Millis = Millis(1);
const T: TransactionName = TransactionName(1);

type Told = Result<Reply, Refusal>;

struct Manager {
    node: Node,
    mailbox: Arc<Mailbox>,
    asked: u64,
}

impl Manager {
    fn open(disk: &SimDisk, nonce: u64) -> Self {
        let mut node = Node::open(disk, nonce, NOW).unwrap();
        let mailbox = Arc::new(Mailbox::default());
        node.inputs.push_back(Input::Connect(ConnectionId(1), Arc::clone(&mailbox)));
        Self { node, mailbox, asked: 0 }
    }

    /// Asks, and waits for the answer: nothing happens that this does not need.
    fn ask(&mut self, command: Command) -> Told {
        self.asked += 1;
        let (token, confirm) = (Token(self.asked), Confirm::Always);
        let request = Request { token, confirm, command };
        self.node.inputs.push_back(Input::Requests(ConnectionId(1), [request].into(), None));
        loop {
            self.node.turn(NOW).unwrap();
            let mut outputs = Vec::new();
            self.mailbox.take(&mut outputs).unwrap();
            if let Some(Output::Answer { result, .. }) = outputs.pop() {
                return result;
            }
            while self.node.room_step() || self.node.job_step(0) {}
            self.node.log_step();
        }
    }

    /// Works in a branch up to the end of the association.
    fn work(&mut self, message: bool) {
        let (how, timeout, client) = (StartAs::New, None, "manager".into());
        let start = XaCommand::Start { xid: xid(), how, transaction: T, timeout, client };
        self.ask(Command::Xa(start)).unwrap();
        let to =
            if message { Destination::Queue("q".into()) } else { Destination::Topic("t".into()) };
        let work = Work::Send { to, message: text() };
        self.ask(Command::Transact { transaction: T, work }).unwrap();
        let end = XaCommand::End { xid: xid(), transaction: T, how: EndAs::Success };
        self.ask(Command::Xa(end)).unwrap();
    }

    fn commit(&mut self) -> Told {
        self.ask(Command::Xa(XaCommand::Commit { xid: xid(), one_phase: true }))
    }

    /// Ends in order, with all that is known in the index.
    fn stop(mut self) {
        self.node.inputs.push_back(Input::Stop);
        while self.node.turn(NOW).unwrap() != Turn::Stopped {
            while self.node.log_step() || self.node.room_step() || self.node.job_step(0) {}
        }
        self.node.log.goodbye();
        while self.node.log_step() {}
    }
}

fn xid() -> Arc<Xid> {
    Arc::new(Xid::new(7, b"global", b"branch").unwrap())
}

fn text() -> Message {
    let properties = vec![("number".to_owned(), "1".to_owned())];
    let content = Content { kind: BodyKind::Bytes, properties, body: vec![1; 10].into() };
    let (durability, priority) = (Durability::Persistent, Priority::DEFAULT);
    Message {
        durability,
        priority,
        expires: None,
        when: When::AtOnce,
        grouped: false,
        content: content.encode(),
    }
}

/// What a commit hears that is asked again after a crash which took the work away.
fn retried(in_index: bool) -> Told {
    let mut disk = SimDisk::new();
    let mut manager = Manager::open(&disk, 1);
    manager.work(false);
    manager.commit().unwrap();
    if in_index {
        manager.stop();
        disk = disk.kill();
        manager = Manager::open(&disk, 2);
    }
    assert_eq!(manager.commit(), Ok(Reply::Done), "the answer may have been lost");
    manager.work(true);
    let disk = disk.snapshot_synced();
    Manager::open(&disk, 3).commit()
}

#[test]
fn who_has_heard_of_the_end_of_its_work_is_not_told_of_an_older_branch() {
    for in_index in [false, true] {
        let no_branch = Err(Refusal::Xa(XaError::NotA));
        assert_eq!(retried(in_index), no_branch, "in the index: {in_index}");
        mutant::set(Some(Mutant::ForgetBegun));
        let told = retried(in_index);
        mutant::set(None);
        assert_eq!(told, Ok(Reply::Done), "who forgets that it has begun is caught");
    }
}
