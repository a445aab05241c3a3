//! Stores as older versions of this program have left them: they start, and nothing of them is
//! lost. Of each version of the index there is one, since format 12 another with what that lacks
//! (`more`), and since format 13 one that has forgotten commits; each is written once and never
//! again.

mod forgotten;
mod more;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::broker::command::{
    Command, Confirm, Delivery, EndAs, KeepAs, Once, Outcome, Output, Refusal, Reply, Request,
    StartAs, Which, Work, XaCommand,
};
use crate::broker::delta::Resolution;
use crate::broker::xa::XaError;
use crate::engine::{Input, Mailbox, Settings};
use crate::identity::{Identity, Numbered};
use crate::ids::{ConnectionId, Millis, StageId, SubscriptionId, Tag, Token, TransactionName, Xid};
use crate::io::Storage;
use crate::io::sim::SimDisk;
use crate::message::{BodyKind, Content, Destination, Durability, LargeHead, Message, Priority};
use crate::schedule::{Plan, When};
use crate::store::index::FORMAT;

use super::node::{Node, settings};

const HOUR: u64 = 3_600_000;
const BLOCK: usize = 4096;

struct Bench {
    node: Node,
    mailbox: Arc<Mailbox>,
    now: Millis,
    deliveries: Vec<Delivery>,
    pieces: u64,
}

impl Bench {
    fn open(disk: &SimDisk, now: u64) -> Self {
        Self::open_with(disk, now, &settings())
    }

    fn open_with(disk: &SimDisk, now: u64, settings: &Settings) -> Self {
        let now = Millis(now);
        let mut node = Node::open_with(disk, 7, now, settings).unwrap();
        let mailbox = Arc::new(Mailbox::default());
        node.inputs.push_back(Input::Connect(ConnectionId(1), Arc::clone(&mailbox)));
        Self { node, mailbox, now, deliveries: Vec::new(), pieces: 0 }
    }

    fn ask(&mut self, command: Command) -> Result<Reply, Refusal> {
        let request = Request { token: Token(1), confirm: Confirm::Always, command };
        self.node.inputs.push_back(Input::Requests(ConnectionId(1), [request].into(), None));
        self.run();
        let (mut outputs, mut answers) = (Vec::new(), Vec::new());
        self.mailbox.take(&mut outputs).unwrap();
        for output in outputs {
            match output {
                Output::Answer { result, .. } => answers.push(result),
                Output::Delivery(delivery) => self.deliveries.push(delivery),
                Output::Piece { .. } => self.pieces += 1,
                other => panic!("{other:?}"),
            }
        }
        if self.mailbox.written(usize::MAX) {
            self.node.inputs.push_back(Input::Writable(ConnectionId(1)));
        }
        assert_eq!(answers.len(), 1, "it is answered once");
        answers.remove(0)
    }

    fn done(&mut self, command: Command) {
        let reply = self.ask(command).unwrap();
        assert!(matches!(reply, Reply::Done | Reply::Vote(_)), "{reply:?}");
    }

    fn xa(&mut self, command: XaCommand) -> Result<Reply, Refusal> {
        self.ask(Command::Xa(command))
    }

    fn run(&mut self) -> Option<Millis> {
        self.node.rest(self.now)
    }

    fn pass(&mut self, millis: u64) {
        let until = Millis(self.now.0 + millis);
        while let Some(deadline) = self.run().filter(|deadline| *deadline <= until) {
            self.now = deadline;
        }
        self.now = until;
        self.run();
    }

    /// Takes what comes, as long as anything does.
    fn take_all(&mut self) {
        let mut before = None;
        while before != Some((self.deliveries.len(), self.pieces)) {
            before = Some((self.deliveries.len(), self.pieces));
            self.run();
            self.done(Command::Barrier);
        }
    }

    /// The depths of all queues of clients.
    fn depths(&mut self) -> Vec<(String, u64)> {
        let Ok(Reply::Queues(all)) = self.ask(Command::ListQueues { after: None }) else {
            panic!("a list is answered")
        };
        let plain = all.into_iter().filter(|queue| !queue.name.contains("://"));
        plain.map(|queue| (queue.name.to_string(), queue.depth)).collect()
    }

    fn depth(&mut self, name: &str) -> u64 {
        let found = self.depths().into_iter().find(|(queue, _)| queue == name);
        found.map_or(0, |(_, depth)| depth)
    }
}

fn queue(name: &str) -> Destination {
    Destination::Queue(name.into())
}

fn message(when: When) -> Message {
    Message {
        durability: Durability::Persistent,
        priority: Priority::DEFAULT,
        expires: None,
        when,
        grouped: false,
        content: Content { kind: BodyKind::Bytes, properties: vec![], body: "body".into() }
            .encode(),
    }
}

fn send(name: &str, when: When) -> Command {
    Command::Send { to: queue(name), message: message(when) }
}

fn named(number: u64) -> Command {
    let id = Identity::of(format!("name {number}").as_bytes());
    Command::Once(Once::send(id, send("named", When::AtOnce)))
}

fn numbered(sequence: u64) -> Command {
    let it = Numbered { producer: Identity::of(b"producer"), sequence };
    Command::Once(Once::numbered(it, send("numbered", When::AtOnce)))
}

fn xid(number: u64) -> Arc<Xid> {
    Arc::new(Xid::new(1, b"older", &number.to_le_bytes()).unwrap())
}

fn keep() -> Command {
    keep_as(100, "name", "t")
}

fn keep_pattern() -> Command {
    keep_as(200, "pattern", "p.>")
}

fn keep_large() -> Command {
    keep_as(300, "large", "p.large")
}

fn keep_as(subscription: u64, name: &str, topic: &str) -> Command {
    let (client, name, topic) = ("client".into(), name.into(), topic.into());
    let keep =
        KeepAs { client, name, topic, prefetch: 9, selector: None, no_local: false, reader: None };
    Command::Keep { subscription: SubscriptionId(subscription), keep: Box::new(keep) }
}

fn publish(topic: &str, when: When) -> Command {
    Command::Send { to: Destination::Topic(topic.into()), message: message(when) }
}

fn published(number: u64) -> Command {
    let id = Identity::of(format!("publication {number}").as_bytes());
    Command::Once(Once::send(id, publish("t", When::AtOnce)))
}

/// A branch that has received a message and sent one, and has voted.
fn vote(bench: &mut Bench, number: u64) {
    let from = format!("in.{number}");
    bench.done(send(&from, When::AtOnce));
    begin(bench, number);
    receive(bench, number, &from, Outcome::Accepted);
    within(bench, number, Work::Send { to: queue("out"), message: message(When::AtOnce) });
    prepare(bench, number);
}

/// Begins a branch.
fn begin(bench: &mut Bench, number: u64) {
    let (how, transaction, client) = (StartAs::New, TransactionName(number), "client".into());
    let start = XaCommand::Start { xid: xid(number), how, transaction, timeout: None, client };
    bench.done(Command::Xa(start));
}

fn within(bench: &mut Bench, number: u64, work: Work) {
    bench.done(Command::Transact { transaction: TransactionName(number), work });
}

/// Settles the first message of a queue in a branch.
fn receive(bench: &mut Bench, number: u64, from: &str, outcome: Outcome) {
    let (subscription, selector) = (SubscriptionId(number), None);
    bench.done(Command::Subscribe { subscription, from: queue(from), prefetch: 1, selector });
    within(bench, number, Work::Settle { subscription, which: Which::One(Tag(1)), outcome });
}

/// Ends the work in a branch and asks for its vote.
fn prepare(bench: &mut Bench, number: u64) {
    let (transaction, how) = (TransactionName(number), EndAs::Success);
    bench.done(Command::Xa(XaCommand::End { xid: xid(number), transaction, how }));
    bench.done(Command::Xa(XaCommand::Prepare { xid: xid(number) }));
}

/// Some of everything that a store keeps. What is at 0 is in the index in the end, what is at 10 in
/// the log alone.
fn fill(bench: &mut Bench, first: u64) {
    bench.done(send("q", When::AtOnce));
    bench.done(named(first));
    bench.done(numbered(first + 1));
    bench.done(numbered(first + 3));
    bench.done(send("later", When::After(10 * HOUR)));
    let plan = Plan { cron: None, delay: 10 * HOUR, period: HOUR, repeat: Some(1) };
    bench.done(send("again", When::Again(Box::new(plan))));
    (1..=3).for_each(|number| vote(bench, first + number));
    let decide = XaCommand::Decide { xid: xid(first + 2), resolution: Resolution::Commit };
    bench.done(Command::Xa(decide));
    bench.done(Command::Xa(XaCommand::Commit { xid: xid(first + 3), one_phase: false }));
    bench.done(publish("t", When::AtOnce));
    // Since format 11.
    bench.done(published(first));
    bench.done(publish("t", When::After(10 * HOUR)));
    bench.done(publish("p.one", When::AtOnce));
    // Since format 12.
    publish_large(bench, StageId(first + 1));
}

/// A publication with a body in pieces, which two keep.
fn publish_large(bench: &mut Bench, stage: StageId) {
    let to = Destination::Topic("p.large".into());
    bench.done(Command::Stage { stage, to: to.clone(), bytes: 200 });
    for number in 1..=2 {
        bench.done(Command::StagePiece { stage, number, bytes: vec![7; 100].into() });
    }
    let head = LargeHead { kind: BodyKind::Bytes, properties: vec![], bytes: 200 };
    let message = Message { content: head.encode(), ..message(When::AtOnce) };
    bench.done(Command::SendStaged { stage, to, message });
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/stores")
}

/// The store of this version.
fn newest(kind: &str) -> PathBuf {
    directory().join(format!("{kind}-{FORMAT}.bin"))
}

/// The stores of all versions.
fn stores(kind: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(directory()).unwrap().map(|it| it.unwrap().path());
    let is = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().starts_with(kind);
    let mut stores: Vec<_> = all.filter(is).collect();
    stores.sort();
    assert!(stores.contains(&newest(kind)), "there is none of this version: see its writer");
    stores
}

/// Keeps a store that has been killed as the one of this version.
fn write_newest(kind: &str, disk: &SimDisk) {
    fs::create_dir_all(directory()).unwrap();
    let path = newest(kind);
    assert!(!path.exists(), "{} is there, and is never rewritten", path.display());
    fs::write(path, pack(disk)).unwrap();
}

/// Each file: length of its name u8, name, size u64, count u32, and so often the number of a block
/// of 4 KiB u32 and its bytes. Blocks of zeros are left out.
fn pack(disk: &SimDisk) -> Vec<u8> {
    let mut packed = Vec::new();
    for name in disk.list().unwrap() {
        let content = disk.read_file(&name);
        let blocks = content.chunks(BLOCK).enumerate();
        let blocks: Vec<_> = blocks.filter(|(_, block)| block.iter().any(|it| *it != 0)).collect();
        packed.push(name.len() as u8);
        packed.extend(name.as_bytes());
        packed.extend((content.len() as u64).to_le_bytes());
        packed.extend((blocks.len() as u32).to_le_bytes());
        for (number, block) in blocks {
            packed.extend((number as u32).to_le_bytes());
            packed.extend(block);
            packed.resize(packed.len() + BLOCK - block.len(), 0);
        }
    }
    packed
}

fn unpack(path: &Path) -> SimDisk {
    let (packed, disk) = (fs::read(path).unwrap(), SimDisk::new());
    let mut rest = &packed[..];
    let mut take = |count: usize| {
        let (taken, after) = rest.split_at(count);
        rest = after;
        (taken.to_vec(), after.is_empty())
    };
    loop {
        let length = take(1).0[0];
        let name = String::from_utf8(take(length.into()).0).unwrap();
        let size = u64::from_le_bytes(take(8).0.try_into().unwrap()) as usize;
        let (count, mut over) = take(4);
        let mut content = vec![0; size.next_multiple_of(BLOCK)];
        for _ in 0..u32::from_le_bytes(count.try_into().unwrap()) {
            let number = u32::from_le_bytes(take(4).0.try_into().unwrap()) as usize;
            let block;
            (block, over) = take(BLOCK);
            content[number * BLOCK..][..BLOCK].copy_from_slice(&block);
        }
        disk.write_file(&name, &content[..size]);
        if over {
            return disk;
        }
    }
}

/// Writes the store of this version: `cargo test --lib write_a_store -- --ignored`.
#[test]
#[ignore = "writes the golden store of this version, by name; it is never rewritten"]
fn write_a_store() {
    let disk = SimDisk::new();
    let mut bench = Bench::open(&disk, HOUR);
    bench.done(Command::Identify { client: "client".into() });
    bench.done(keep());
    bench.done(Command::Unsubscribe { subscription: SubscriptionId(100) });
    bench.done(keep_pattern());
    bench.done(Command::Unsubscribe { subscription: SubscriptionId(200) });
    bench.done(keep_large());
    bench.done(Command::Unsubscribe { subscription: SubscriptionId(300) });
    fill(&mut bench, 0);
    bench.pass(10 * settings().checkpoint_millis);
    fill(&mut bench, 10);
    write_newest("index", &disk.kill());
}

#[test]
fn a_store_of_every_version_starts_and_nothing_of_it_is_lost() {
    for path in stores("index") {
        let mut bench = Bench::open(&unpack(&path), 2 * HOUR);
        assert_eq!(bench.node.index.format(), FORMAT, "an older version refuses it by name now");
        let is_10 = path.ends_with("index-10.bin");
        let has_large = !is_10 && !path.ends_with("index-11.bin");
        bench.pass(settings().checkpoint_millis);
        check_branches(&mut bench);
        check_once(&mut bench);
        let named = [0, 10].map(|number| bench.ask(published(number)));
        assert!(is_10 || named.iter().all(|said| matches!(said, Ok(Reply::Repeated))), "{named:?}");
        let Ok(Reply::Schedules(all)) = bench.ask(Command::ListSchedules { after: None }) else {
            panic!("a list is answered")
        };
        let plan = Plan { cron: None, delay: 10 * HOUR, period: HOUR, repeat: Some(1) };
        assert_eq!(all.iter().map(|it| it.plan).collect::<Vec<_>>(), [plan, plan]);
        assert_eq!((bench.depth("q"), bench.depth("later"), bench.depth("again")), (2, 2, 2));
        bench.pass(12 * HOUR);
        assert_eq!(bench.depth("again"), 4, "both have come twice, and are over");
        bench.done(Command::Identify { client: "client".into() });
        let before = bench.deliveries.len();
        bench.done(keep());
        bench.run();
        bench.done(Command::Barrier);
        // Those that were to wait have come meanwhile; in the older the others are new.
        let kept = if is_10 { 4 } else { 6 };
        assert_eq!(bench.deliveries.len() - before, kept, "all publications were kept");
        let before = bench.deliveries.len();
        if !is_10 {
            bench.done(keep_pattern());
            bench.take_all();
            let kept = if has_large { 4 } else { 2 };
            assert_eq!(bench.deliveries.len() - before, kept, "all were kept for the pattern");
        }
        let (before, pieces) = (bench.deliveries.len(), bench.pieces);
        if has_large {
            bench.done(keep_large());
            bench.take_all();
            let found = (bench.deliveries.len() - before, bench.pieces - pieces);
            assert_eq!(found, (2, 4), "both were kept, with their bodies");
        }
        let before = bench.deliveries.len();
        let subscription = SubscriptionId(101);
        let (from, selector) = (queue("later"), None);
        bench.done(Command::Subscribe { subscription, from, prefetch: 9, selector });
        bench.done(Command::Barrier);
        assert_eq!(bench.deliveries.len() - before, 2, "both delays are over");
    }
}

fn check_branches(bench: &mut Bench) {
    let Ok(Reply::Branches(all)) = bench.xa(XaCommand::Recover { after: None }) else {
        panic!("a scan is answered")
    };
    let found: Vec<_> = all.into_iter().map(|it| (Arc::new(it.xid), it.decided)).collect();
    let committed = Some(Resolution::Commit);
    let expected = [(1, None), (2, committed), (11, None), (12, committed)];
    assert_eq!(found, expected.map(|(number, decided)| (xid(number), decided)));
    for number in [3, 13] {
        let again = XaCommand::Commit { xid: xid(number), one_phase: false };
        assert!(matches!(bench.xa(again), Ok(Reply::Done)), "its outcome is remembered");
    }
    assert_eq!(bench.depth("out"), 4);
    let commit = XaCommand::Commit { xid: xid(1), one_phase: false };
    assert!(matches!(bench.xa(commit), Ok(Reply::Done)));
    let commit = XaCommand::Commit { xid: xid(2), one_phase: false };
    assert!(matches!(bench.xa(commit), Err(Refusal::Xa(XaError::HeurCommit))));
    let disposition = crate::broker::command::Disposition::Return;
    let rollback = XaCommand::Rollback { xid: xid(11), disposition };
    assert!(matches!(bench.xa(rollback), Ok(Reply::Done)));
    let left = ["in.1", "in.2", "in.3", "in.11", "in.12", "out"].map(|name| bench.depth(name));
    assert_eq!(left, [0, 0, 0, 1, 0, 5]);
}

fn check_once(bench: &mut Bench) {
    for number in [0, 10] {
        assert!(matches!(bench.ask(named(number)), Ok(Reply::Repeated)));
        for sequence in [number + 1, number + 3] {
            assert!(matches!(bench.ask(numbered(sequence)), Ok(Reply::Repeated)), "{sequence}");
        }
        bench.done(numbered(number + 2));
    }
    bench.done(named(20));
    assert_eq!((bench.depth("named"), bench.depth("numbered")), (3, 6));
}
