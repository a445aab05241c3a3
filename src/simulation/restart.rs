//! What a start reads: the log since the last checkpoint, and of the rest next to nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::broker::command::{Command, Confirm, Request};
use crate::engine::{Input, Mailbox, Turn};
use crate::ids::{ConnectionId, Millis, Token};
use crate::io::Storage;
use crate::io::blocks::BLOCK;
use crate::io::sim::SimDisk;
use crate::message::{BodyKind, Content, Destination, Durability, Message, Priority};
use crate::schedule::When;

use super::node::Node;

const NOW: Millis = Millis(1);

/// Leaves a store with so many messages, ended cleanly or by a power cut after the last checkpoint.
fn filled(count: u64, clean: bool) -> SimDisk {
    let disk = SimDisk::new();
    let mut node = Node::open(&disk, 7, NOW).unwrap();
    let mailbox = Arc::new(Mailbox::default());
    node.inputs.push_back(Input::Connect(ConnectionId(1), Arc::clone(&mailbox)));
    let requests: VecDeque<Request> = (0..count).map(send).collect();
    node.inputs.push_back(Input::Requests(ConnectionId(1), requests, None));
    let mut told = 0;
    while told < count {
        step(&mut node);
        let mut outputs = Vec::new();
        mailbox.take(&mut outputs).unwrap();
        told += outputs.len() as u64;
    }
    if !clean {
        // Before anything ends in order.
        return disk.snapshot_crash(1);
    }
    node.inputs.push_back(Input::Stop);
    while step(&mut node) != Turn::Stopped {}
    node.log.goodbye();
    while node.log_step() {}
    drop(node);
    disk.kill()
}

fn step(node: &mut Node) -> Turn {
    let turn = node.turn(NOW).unwrap();
    while node.log_step() || node.room_step() || node.job_step(0) {}
    turn
}

fn send(number: u64) -> Request {
    let properties = vec![("number".to_owned(), number.to_string())];
    let content = Content { kind: BodyKind::Bytes, properties, body: vec![0; 100].into() };
    let (durability, priority) = (Durability::Persistent, Priority::DEFAULT);
    let message = Message {
        durability,
        priority,
        expires: None,
        when: When::AtOnce,
        content: content.encode(),
    };
    let command = Command::Send { to: Destination::Queue("q".into()), message };
    Request { token: Token(number), confirm: Confirm::Always, command }
}

/// Bytes that a start reads until the broker serves.
fn read_at_start(disk: &SimDisk) -> u64 {
    let (_, before) = disk.reads();
    Node::open(disk, 8, NOW).unwrap();
    disk.reads().1 - before
}

#[test]
fn a_start_reads_no_message_of_a_backlog() {
    for clean in [false, true] {
        let (few, many) = (filled(4_000, clean), filled(40_000, clean));
        let segments = many.list().unwrap().iter().filter(|name| name.starts_with("wal-")).count();
        let (few, many) = (read_at_start(&few), read_at_start(&many));
        println!("clean {clean}: {few} bytes read with 4,000 messages, {many} with 40,000");
        // Of each segment the header and where it ends, and of the index a few pages more; the
        // messages have nine megabytes and their entries three.
        let of_segments = segments as u64 * 3 * BLOCK as u64;
        assert!(many < few + of_segments + (64 << 10), "{few} became {many}; {segments} segments");
    }
}
