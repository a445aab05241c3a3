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

/// What each of these hears of a broker that has just started.
fn hear(disk: &SimDisk, requests: Vec<Request>) -> Vec<Output> {
    let mut node = Node::open(disk, 9, NOW).unwrap();
    let mailbox = Arc::new(Mailbox::default());
    let count = requests.len();
    node.inputs.push_back(Input::Connect(ConnectionId(1), Arc::clone(&mailbox)));
    node.inputs.push_back(Input::Requests(ConnectionId(1), requests.into(), None));
    let mut heard = Vec::new();
    while heard.len() < count {
        step(&mut node);
        mailbox.take(&mut heard).unwrap();
    }
    heard
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
fn a_start_waits_for_no_producer_and_a_number_for_its_own_alone() {
    let plain = read_at_start(&filled(1_000, true));
    let disk = filled_with(1_000, true, send_numbered);
    let numbered = read_at_start(&disk);
    assert!(numbered < plain + (64 << 10), "{plain} became {numbered}");
    let mut node = Node::open(&disk, 9, NOW).unwrap();
    let mut clients = Vec::new();
    let asked = [vec![send(1), send_numbered(500), send(2)], vec![send(3), send_numbered(2_000)]];
    for (id, requests) in (1..).map(ConnectionId).zip(asked) {
        let (mailbox, count) = (Arc::new(Mailbox::default()), requests.len());
        node.inputs.push_back(Input::Connect(id, Arc::clone(&mailbox)));
        node.inputs.push_back(Input::Requests(id, requests.into(), None));
        clients.push((mailbox, count, Vec::new()));
    }
    // What has no number is answered before any producer was read, but for what is behind one.
    for _ in 0..8 {
        node.turn(NOW).unwrap();
        while node.log_step() || node.room_step() {}
    }
    for (mailbox, _, heard) in &mut clients {
        mailbox.take(heard).unwrap();
        assert_eq!(replies(heard), [Reply::Done]);
    }
    while clients.iter().any(|(_, count, heard)| heard.len() < *count) {
        step(&mut node);
        for (mailbox, _, heard) in &mut clients {
            mailbox.take(heard).unwrap();
        }
    }
    let known = node.engine.broker().producer_counts().known;
    assert!(known < 100, "{known} were read before two of them were answered");
    assert_eq!(replies(&clients[0].2), [Reply::Done, Reply::Repeated, Reply::Done]);
    assert_eq!(replies(&clients[1].2), [Reply::Done, Reply::Done]);
    // All of them come in the end, and the two are what they have become.
    for _ in 0..2_000 {
        step(&mut node);
    }
    assert_eq!(node.engine.broker().producer_counts().known, 1_001);
    node.check_names().unwrap();
}

#[test]
fn a_start_reads_of_producers_those_that_the_log_tells_of() {
    let disk = filled_with(1_000, true, send_numbered);
    let mut node = Node::open(&disk, 9, NOW).unwrap();
    let mailbox = Arc::new(Mailbox::default());
    node.inputs.push_back(Input::Connect(ConnectionId(1), Arc::clone(&mailbox)));
    let requests = [2_000, 500, 2_000, 2_001].map(send_numbered).into();
    node.inputs.push_back(Input::Requests(ConnectionId(1), requests, None));
    let mut heard = Vec::new();
    while heard.len() < 4 {
        step(&mut node);
        mailbox.take(&mut heard).unwrap();
    }
    let disk = disk.snapshot_crash(1);
    let node = Node::open(&disk, 10, NOW).unwrap();
    assert_eq!(node.engine.broker().producer_counts().known, 2);
    let again = vec![2_000, 2_001, 2_002, 500].into_iter().map(send_numbered).collect();
    let heard = hear(&disk, again);
    let expected = [Reply::Repeated, Reply::Repeated, Reply::Done, Reply::Repeated];
    assert_eq!(replies(&heard), expected);
}

#[test]
fn who_speaks_for_a_producer_comes_after_those_who_wait_for_it_to_be_read() {
    let disk = filled_with(100, true, send_numbered);
    let mut node = Node::open(&disk, 9, NOW).unwrap();
    let mailboxes = [1, 2].map(|id| {
        let mailbox = Arc::new(Mailbox::default());
        node.inputs.push_back(Input::Connect(ConnectionId(id), Arc::clone(&mailbox)));
        mailbox
    });
    let ask = |node: &mut Node, id, number| {
        let requests = VecDeque::from([send_numbered(number)]);
        node.inputs.push_back(Input::Requests(ConnectionId(id), requests, None));
    };
    ask(&mut node, 1, 50);
    let settle = |node: &mut Node| {
        node.turn(NOW).unwrap();
        while node.log_step() || node.room_step() {}
    };
    // All of them come with the others, while the one that is read by name is not yet here.
    while node.engine.broker().producer_counts().known < 100 {
        settle(&mut node);
        assert!(node.job_step(1));
    }
    ask(&mut node, 2, 50);
    let mut heard = Vec::new();
    for _ in 0..8 {
        settle(&mut node);
        mailboxes.iter().for_each(|mailbox| mailbox.take(&mut heard).unwrap());
    }
    assert!(heard.is_empty(), "{heard:?}");
    while heard.len() < 2 {
        step(&mut node);
        mailboxes.iter().for_each(|mailbox| mailbox.take(&mut heard).unwrap());
    }
    assert_eq!(replies(&heard), [Reply::Repeated, Reply::Repeated]);
}

fn replies(heard: &[Output]) -> Vec<Reply> {
    let replies = heard.iter().map(|output| match output {
        Output::Answer { result: Ok(reply), .. } => reply.clone(),
        other => panic!("{other:?}"),
    });
    replies.collect()
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
    let heard = hear(&disk, vec![vote(4), send_numbered(1), send_numbered(7)]);
    assert_eq!(replies(&heard), [Reply::Done, Reply::Repeated, Reply::Repeated]);
}
