//! What is answered before the log is durable, and what is not.

use std::sync::Arc;

use crate::broker::command::{Command, Confirm, Output, Request, Work};
use crate::engine::{Input, Mailbox};
use crate::ids::{ConnectionId, Millis, Token, TransactionName};
use crate::io::sim::SimDisk;
use crate::message::{BodyKind, Content, Destination, Durability, Message, Priority};
use crate::schedule::When;

use super::node::Node;

/// Asks something and lets the engine run, but not the log. Gives whether it is answered.
fn is_answered(node: &mut Node, mailbox: &Arc<Mailbox>, command: Command) -> bool {
    let request = Request { token: Token(1), confirm: Confirm::Always, command };
    node.inputs.push_back(Input::Requests(ConnectionId(1), [request].into(), None));
    while !node.inputs.is_empty() {
        node.turn(Millis(1_000)).unwrap();
    }
    let mut outputs = Vec::new();
    mailbox.take(&mut outputs).unwrap();
    outputs.iter().any(|output| matches!(output, Output::Answer { result: Ok(_), .. }))
}

#[test]
fn work_in_a_transaction_is_answered_at_once_and_its_commit_when_it_is_durable() {
    let disk = SimDisk::new();
    let mut node = Node::open(&disk, 7, Millis(1_000)).unwrap();
    let mailbox = Arc::new(Mailbox::default());
    node.inputs.push_back(Input::Connect(ConnectionId(1), Arc::clone(&mailbox)));
    while node.log_step() || node.room_step() {}
    let message = Message {
        durability: Durability::Persistent,
        priority: Priority::DEFAULT,
        expires: None,
        when: When::AtOnce,
        grouped: false,
        content: Content { kind: BodyKind::Bytes, properties: vec![], body: "x".into() }.encode(),
    };
    let (transaction, to) = (TransactionName(1), Destination::Queue("q".into()));
    assert!(is_answered(&mut node, &mailbox, Command::Begin { transaction }));
    let work = Work::Send { to: to.clone(), message: message.clone() };
    assert!(is_answered(&mut node, &mailbox, Command::Transact { transaction, work }));
    // A message that belongs to no transaction is promised with its answer.
    assert!(!is_answered(&mut node, &mailbox, Command::Send { to, message }));
    assert!(!is_answered(&mut node, &mailbox, Command::Commit { transaction }));
    while node.log_step() || node.room_step() {}
    node.turn(Millis(1_000)).unwrap();
    let mut outputs = Vec::new();
    mailbox.take(&mut outputs).unwrap();
    assert_eq!(outputs.len(), 2);
}
