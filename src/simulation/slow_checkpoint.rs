//! A checkpoint that takes long: what gathers in memory meanwhile has a bound, and goes on after.

use std::sync::Arc;

use crate::broker::command::{Command, Confirm, Output, Request};
use crate::engine::{Input, Mailbox};
use crate::ids::{ConnectionId, Millis, Token};
use crate::io::sim::SimDisk;
use crate::limits;
use crate::message::{BodyKind, Content, Destination, Durability, Message, Priority};
use crate::schedule::When;

use super::node::{Node, settings};

const NOW: Millis = Millis(1);

fn send(number: u64) -> Request {
    let properties = vec![("number".to_owned(), number.to_string())];
    let content = Content { kind: BodyKind::Bytes, properties, body: vec![0; 10].into() };
    let (durability, priority) = (Durability::Persistent, Priority::DEFAULT);
    let message = Message {
        durability,
        priority,
        expires: None,
        when: When::AtOnce,
        grouped: false,
        content: content.encode(),
    };
    let command = Command::Send { to: Destination::Queue("q".into()), message };
    Request { token: Token(number), confirm: Confirm::Always, command }
}

fn confirmed(mailbox: &Mailbox) -> usize {
    let mut outputs = Vec::new();
    mailbox.take(&mut outputs).unwrap();
    assert!(outputs.iter().all(|output| matches!(output, Output::Answer { result: Ok(_), .. })));
    outputs.len()
}

#[test]
fn changes_that_gather_behind_a_checkpoint_have_a_bound_and_none_is_lost() {
    const SENDS: u64 = 1000;
    let mut node = Node::open(&SimDisk::new(), 7, NOW).unwrap();
    let mailbox = Arc::new(Mailbox::default());
    node.inputs.push_back(Input::Connect(ConnectionId(1), Arc::clone(&mailbox)));
    node.inputs.push_back(Input::Requests(ConnectionId(1), (0..SENDS).map(send).collect(), None));
    let mut told = 0;
    for _ in 0..2000 {
        node.turn(NOW).unwrap();
        while node.log_step() || node.room_step() {}
        told += confirmed(&mailbox);
    }
    let bound = settings().checkpoint_changes * (limits::CHECKPOINTS_AHEAD_MAX + 1);
    assert!(node.engine.broker().delta_len() <= bound, "{}", node.engine.broker().delta_len());
    // What is due begins at a turn's end, so the frozen part may be one turn longer.
    assert!(told <= bound + limits::TURN_COMMANDS_MAX, "{told} confirmed meanwhile");
    for _ in 0..2000 {
        while node.job_step(0) {}
        node.turn(NOW).unwrap();
        while node.log_step() || node.room_step() {}
        told += confirmed(&mailbox);
    }
    assert_eq!(told as u64, SENDS, "the checkpoint has ended, and everything went on");
}
