//! What a start reads: the log since the last checkpoint, and of the rest next to nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::broker::command::{Command, Confirm, Once, Output, Reply, Request, Work};
use crate::broker::xa::{EndAs, StartAs, XaCommand};
use crate::engine::{Input, Mailbox, Turn};
use crate::identity::{Identity, Numbered};
use crate::ids::{ConnectionId, Millis, Token, TransactionName, Xid};
use crate::io::Storage;
use crate::io::blocks::BLOCK;
use crate::io::sim::SimDisk;
use crate::message::{BodyKind, Content, Destination, Durability, Message, Priority};
use crate::schedule::When;

use super::node::Node;

const NOW: Millis = Millis(1);

/// Leaves a store with so many messages, ended cleanly or by a power cut after the last checkpoint.
fn filled(count: u64, clean: bool) -> SimDisk {
    filled_with(count, clean, send)
}

fn filled_with(count: u64, clean: bool, send: fn(u64) -> Request) -> SimDisk {
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
        grouped: false,
        content: content.encode(),
    };
    let command = Command::Send { to: Destination::Queue("q".into()), message };
    Request { token: Token(number), confirm: Confirm::Always, command }
}

/// The same, by a producer that sends nothing else.
fn send_numbered(number: u64) -> Request {
    let Request { token, confirm, command } = send(number);
    let producer = Identity::of(&number.to_le_bytes());
    let once = Once::numbered(Numbered { producer, sequence: 1 }, command);
    Request { token, confirm, command: Command::Once(once) }
}

/// What each of these hears of a broker that has just started, in its first turn and in the end.
fn hear(disk: &SimDisk, requests: Vec<Request>) -> (usize, Vec<Output>) {
    let mut node = Node::open(disk, 9, NOW).unwrap();
    let mailbox = Arc::new(Mailbox::default());
    let count = requests.len();
    node.inputs.push_back(Input::Connect(ConnectionId(1), Arc::clone(&mailbox)));
    node.inputs.push_back(Input::Requests(ConnectionId(1), requests.into(), None));
    let (mut first, mut heard) = (None, Vec::new());
    while heard.len() < count {
        // What is durable is said in a later turn. At first, what the index has is not read.
        for _ in 0..if first.is_none() { 8 } else { 1 } {
            node.turn(NOW).unwrap();
            while node.log_step() || node.room_step() {}
        }
        mailbox.take(&mut heard).unwrap();
        first.get_or_insert(heard.len());
        while node.job_step(0) {}
    }
    (first.unwrap(), heard)
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

#[test]
fn a_start_waits_for_no_producer_and_a_number_waits_for_all_of_them() {
    let plain = read_at_start(&filled(1_000, true));
    let disk = filled_with(1_000, true, send_numbered);
    let numbered = read_at_start(&disk);
    assert!(numbered < plain + (64 << 10), "{plain} became {numbered}");
    // What has no number is answered before any producer was read.
    let (first, heard) = hear(&disk, vec![send(1), send_numbered(500), send(2)]);
    let replies = heard.iter().map(|output| match output {
        Output::Answer { result: Ok(reply), .. } => reply.clone(),
        other => panic!("{other:?}"),
    });
    let replies: Vec<_> = replies.collect();
    assert_eq!((first, &replies[..]), (1, &[Reply::Done, Reply::Repeated, Reply::Done][..]));
}

/// What a manager does up to the vote of a branch that has sent under a number.
fn vote(number: u64) -> Request {
    let (xid, transaction) = (Arc::new(Xid::new(1, b"g", b"b").unwrap()), TransactionName(1));
    let Request { token, confirm, command } = send_numbered(number);
    let command = match (number, command) {
        (0, _) => {
            let (how, timeout, client) = (StartAs::New, None, "manager".into());
            Command::Xa(XaCommand::Start { xid, how, transaction, timeout, client })
        }
        (1, Command::Once(once)) => {
            let Command::Send { to, message } = once.command().clone() else { unreachable!() };
            let work = Work::Send { to, message };
            let (producer, sequence) = (Identity::of(&number.to_le_bytes()), 1);
            let command = Command::Transact { transaction, work };
            Command::Once(Once::numbered(Numbered { producer, sequence }, command))
        }
        (2, _) => Command::Xa(XaCommand::End { xid, transaction, how: EndAs::Success }),
        (3, _) => Command::Xa(XaCommand::Prepare { xid }),
        (4, _) => Command::Xa(XaCommand::Commit { xid, one_phase: false }),
        (_, other) => other,
    };
    Request { token, confirm, command }
}

#[test]
fn a_vote_of_an_earlier_life_finds_the_producers_that_it_has_sent_for() {
    // Others are there, so that something is lacking.
    let disk = filled_with(20, true, |number| vote(if number < 4 { number } else { number + 1 }));
    let (_, heard) = hear(&disk, vec![vote(4), send_numbered(1), send_numbered(7)]);
    let replies = heard.iter().map(|output| match output {
        Output::Answer { result: Ok(reply), .. } => reply.clone(),
        other => panic!("{other:?}"),
    });
    assert_eq!(replies.collect::<Vec<_>>(), [Reply::Done, Reply::Repeated, Reply::Repeated]);
}
