//! What is answered before the log is durable, and what is not; and when the log is written.

use std::sync::Arc;

use crate::broker::command::{Command, Confirm, Output, Request, Work};
use crate::engine::{Input, Mailbox, Turn};
use crate::ids::{ConnectionId, Millis, Token, TransactionName};
use crate::io::sim::SimDisk;
use crate::limits;
use crate::message::{BodyKind, Content, Destination, Durability, Message, Priority};
use crate::schedule::When;

use super::node::Node;

const NOW: Millis = Millis(1_000);

/// A broker with one connection, all of it written.
fn begin() -> (SimDisk, Node, Arc<Mailbox>) {
    let disk = SimDisk::new();
    let mut node = Node::open(&disk, 7, NOW).unwrap();
    let mailbox = Arc::new(Mailbox::default());
    node.inputs.push_back(Input::Connect(ConnectionId(1), Arc::clone(&mailbox)));
    node.turn(NOW).unwrap();
    while node.log_step() || node.room_step() {}
    (disk, node, mailbox)
}

fn message() -> Message {
    Message {
        durability: Durability::Persistent,
        priority: Priority::DEFAULT,
        expires: None,
        when: When::AtOnce,
        grouped: false,
        content: Content { kind: BodyKind::Bytes, properties: vec![], body: "x".into() }.encode(),
    }
}

/// Asks something and lets the engine run, but not the log. Gives whether it is answered.
fn is_answered(node: &mut Node, mailbox: &Arc<Mailbox>, command: Command) -> bool {
    let request = Request { token: Token(1), confirm: Confirm::Always, command };
    node.inputs.push_back(Input::Requests(ConnectionId(1), [request].into(), None));
    while !node.inputs.is_empty() {
        node.turn(NOW).unwrap();
    }
    let mut outputs = Vec::new();
    mailbox.take(&mut outputs).unwrap();
    outputs.iter().any(|output| matches!(output, Output::Answer { result: Ok(_), .. }))
}

#[test]
fn work_in_a_transaction_is_answered_at_once_and_its_commit_when_it_is_durable() {
    let (_disk, mut node, mailbox) = begin();
    let message = message();
    let (transaction, to) = (TransactionName(1), Destination::Queue("q".into()));
    assert!(is_answered(&mut node, &mailbox, Command::Begin { transaction }));
    let work = Work::Send { to: to.clone(), message: message.clone() };
    assert!(is_answered(&mut node, &mailbox, Command::Transact { transaction, work }));
    // A message that belongs to no transaction is promised with its answer.
    assert!(!is_answered(&mut node, &mailbox, Command::Send { to, message }));
    assert!(!is_answered(&mut node, &mailbox, Command::Commit { transaction }));
    while node.log_step() || node.room_step() {}
    node.turn(NOW).unwrap();
    let mut outputs = Vec::new();
    mailbox.take(&mut outputs).unwrap();
    assert_eq!(outputs.len(), 2);
}

#[test]
fn work_in_a_transaction_is_written_with_its_commit_or_by_itself_a_little_later() {
    let (disk, mut node, mailbox) = begin();
    let (transaction, to) = (TransactionName(1), Destination::Queue("q".into()));
    assert!(is_answered(&mut node, &mailbox, Command::Begin { transaction }));
    let send = || Work::Send { to: to.clone(), message: message() };
    for _ in 0..3 {
        let work = Command::Transact { transaction, work: send() };
        assert!(is_answered(&mut node, &mailbox, work));
        assert!(!node.log_step(), "nobody waits for it");
    }
    assert!(!is_answered(&mut node, &mailbox, Command::Commit { transaction }));
    let before = disk.operations();
    while node.log_step() {}
    assert_eq!(disk.operations(), before + 2, "one write and one sync for all of it");

    let work = Command::Transact { transaction: TransactionName(2), work: send() };
    assert!(is_answered(&mut node, &mailbox, Command::Begin { transaction: TransactionName(2) }));
    assert!(is_answered(&mut node, &mailbox, work));
    let Turn::Idle(Some(deadline)) = node.turn(NOW).unwrap() else { panic!("it waits") };
    assert_eq!(deadline.0, NOW.0 + limits::LINGER_MILLIS);
    node.turn(Millis(deadline.0 - 1)).unwrap();
    assert!(!node.log_step());
    node.turn(deadline).unwrap();
    while node.log_step() {}
    assert_eq!(node.log.durable(), node.log.appended());
}
