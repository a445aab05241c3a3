//! A full disk, step by step: what is refused, what goes on, and how it ends.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::broker::command::{
    Command, Confirm, Disposition, EndAs, Outcome, Output, Pick, Refusal, Reply, Request, Returns,
    StartAs, Which, Work, XaCommand,
};
use crate::broker::policy::WhenFull;
use crate::engine::{Input, Mailbox, Settings};
use crate::ids::{ConnectionId, Millis, StageId, SubscriptionId, Tag, Token, TransactionName, Xid};
use crate::io::Storage;
use crate::io::sim::SimDisk;
use crate::limits;
use crate::message::{BodyKind, Content, Destination, Durability, LargeHead, Message, Priority};
use crate::schedule::When;
use crate::store::reserve::RESERVE_NAME;

use super::node::{Node, options, settings};

const NOW: Millis = Millis(1);

struct Bench {
    disk: SimDisk,
    node: Node,
    connection: ConnectionId,
    mailbox: Arc<Mailbox>,
    tokens: u64,
    delivered: VecDeque<Tag>,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(set: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings { policies: Arc::default(), ..settings() };
        set(&mut settings);
        let disk = SimDisk::new();
        let mut node = Node::open_with(&disk, 7, NOW, &settings).unwrap();
        let mailbox = Arc::new(Mailbox::default());
        let connection = ConnectionId(1);
        node.inputs.push_back(Input::Connect(connection, Arc::clone(&mailbox)));
        Self { disk, node, connection, mailbox, tokens: 0, delivered: VecDeque::new() }
    }

    /// Asks, and runs everything until the answer is there.
    fn ask(&mut self, command: Command) -> Result<Reply, Refusal> {
        self.begin(command);
        self.answer().expect("an answer comes")
    }

    /// Asks for much at once, and waits for the last answer: none of it is refused.
    fn ask_all(&mut self, mut commands: Vec<Command>) {
        let last = commands.pop().expect("some");
        for command in commands {
            let request = Request { token: Token(0), confirm: Confirm::RefusalOnly, command };
            self.node.inputs.push_back(Input::Requests(self.connection, [request].into(), None));
        }
        self.ask(last).unwrap();
    }

    fn begin(&mut self, command: Command) {
        self.tokens += 1;
        let token = Token(self.tokens);
        let request = Request { token, confirm: Confirm::Always, command };
        self.node.inputs.push_back(Input::Requests(self.connection, [request].into(), None));
    }

    /// Runs everything until the last question is answered; `None` if that does not happen.
    fn answer(&mut self) -> Option<Result<Reply, Refusal>> {
        self.answer_helped(true)
    }

    /// The same; without help nobody makes room for the log.
    fn answer_helped(&mut self, helped: bool) -> Option<Result<Reply, Refusal>> {
        let token = Token(self.tokens);
        for _ in 0..1_000 {
            self.node.turn(NOW).unwrap();
            self.node.log_step();
            if helped {
                self.node.room_step();
            }
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
                        self.node.inputs.push_back(Input::Writable(self.connection));
                        self.delivered.push_back(delivery.tag);
                    }
                    other => panic!("{other:?}"),
                }
            }
            if answer.is_some() {
                return answer;
            }
        }
        None
    }

    fn send(&mut self) -> Result<Reply, Refusal> {
        self.ask(message())
    }
}

fn message() -> Command {
    message_of(1000)
}

fn message_of(bytes: usize) -> Command {
    let content = Content {
        kind: BodyKind::Bytes,
        properties: vec![("number".to_owned(), "0".to_owned())],
        body: vec![0; bytes].into(),
    };
    let message = Message {
        durability: Durability::Persistent,
        priority: Priority::DEFAULT,
        expires: None,
        when: When::AtOnce,
        grouped: false,
        content: content.encode(),
    };
    Command::Send { to: Destination::Queue("q".into()), message }
}

#[test]
fn a_full_disk_refuses_sends_takes_acknowledgements_and_recovers_by_itself() {
    let mut bench = Bench::new();
    let from = Destination::Queue("q".into());
    let subscription = SubscriptionId(1);
    bench.ask(Command::Subscribe { subscription, from, prefetch: 1000, selector: None }).unwrap();
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

#[test]
fn on_a_full_disk_all_goes_on_that_makes_room() {
    const T: TransactionName = TransactionName(1);
    // As little as a configuration may say.
    let reserve = 2 * options().segment_size;
    let mut bench = Bench::with(|settings| settings.disk_reserve = reserve);
    let (from, subscription) = (Destination::Queue("q".into()), SubscriptionId(1));
    bench.ask(Command::Subscribe { subscription, from, prefetch: 50, selector: None }).unwrap();
    // There is something to decide from before.
    let xid = |name: &[u8]| Arc::new(Xid::new(1, name, b"").unwrap());
    let before = [(&b"commits"[..], true), (b"rolls back", false)];
    for (name, _) in before {
        let steps = branch(&xid(name), Some(work_of(message())));
        steps.into_iter().for_each(|step| drop(bench.ask(step).unwrap()));
    }
    bench.disk.set_capacity(bench.disk.used() + reserve + (1 << 20));
    let mut sent = 0;
    while bench.send().is_ok() {
        sent += 1;
        bench.node.disk.look();
    }
    assert!((100..10_000).contains(&sent), "there was some room: {sent}");
    assert_eq!(bench.send(), Err(Refusal::DiskLow { reserve }));

    let take = |bench: &mut Bench, outcome| loop {
        if let Some(tag) = bench.delivered.pop_front() {
            return Command::Settle { subscription, which: Which::One(tag), outcome };
        }
        bench.ask(Command::Barrier).unwrap();
    };
    let accept = |bench: &mut Bench| match take(bench, Outcome::Accepted) {
        Command::Settle { subscription, which, outcome } => {
            Work::Settle { subscription, which, outcome }
        }
        other => unreachable!("{other:?}"),
    };
    for round in 0..30u8 {
        // Transactions of acknowledgements, by every way to their end.
        let commits = round % 8 > 0;
        let mut steps = vec![Command::Begin { transaction: T }];
        steps.push(Command::Transact { transaction: T, work: accept(&mut bench) });
        let disposition = Disposition::Return;
        steps.push(match commits {
            true => Command::Commit { transaction: T },
            false => Command::Rollback { transaction: T, disposition },
        });
        let name = xid(&[round]);
        steps.extend(branch(&name, Some(accept(&mut bench))));
        steps.push(outcome(&name, commits));
        if !commits {
            // What is set apart was there before.
            steps.push(take(&mut bench, Outcome::Rejected));
        }
        for step in steps {
            bench.ask(step.clone()).unwrap_or_else(|why| panic!("{round}: {step:?}: {why}"));
            bench.node.disk.look();
        }
    }
    for (name, commits) in before {
        bench.ask(outcome(&xid(name), commits)).unwrap();
    }
    bench.ask(Command::Unsubscribe { subscription }).unwrap();
    bench.ask(Command::Purge { queue: "q".into() }).unwrap();
    assert_eq!(bench.node.engine.broker().holds("q").0, 0);
    // What they have made room for is taken again.
    let again = (0..1_000).any(|_| {
        bench.node.disk.look();
        bench.send().is_ok()
    });
    assert!(again, "no room is made");
}

/// A branch up to its vote, with that work, if any, in it.
fn branch(xid: &Arc<Xid>, work: Option<Work>) -> Vec<Command> {
    const T: TransactionName = TransactionName(1);
    let (xid, client, timeout) = (|| Arc::clone(xid), Arc::from("c"), None);
    let how = StartAs::New;
    let start = XaCommand::Start { xid: xid(), how, transaction: T, timeout, client };
    let end = XaCommand::End { xid: xid(), transaction: T, how: EndAs::Success };
    let mut steps = vec![Command::Xa(start)];
    steps.extend(work.map(|work| Command::Transact { transaction: T, work }));
    steps.extend([end, XaCommand::Prepare { xid: xid() }].map(Command::Xa));
    steps
}

fn outcome(xid: &Arc<Xid>, commits: bool) -> Command {
    let xid = Arc::clone(xid);
    Command::Xa(match commits {
        true => XaCommand::Commit { xid, one_phase: false },
        false => XaCommand::Rollback { xid, disposition: Disposition::Return },
    })
}

fn work_of(send: Command) -> Work {
    let Command::Send { to, message } = send else { unreachable!("it is a send") };
    Work::Send { to, message }
}

#[test]
fn a_connection_that_ends_while_the_log_is_full_gives_back_what_its_transactions_held() {
    const MESSAGES: usize = 400;
    let mut bench = Bench::new();
    let from = Destination::Queue("q".into());
    let subscription = SubscriptionId(1);
    bench
        .ask(Command::Subscribe {
            subscription,
            from: from.clone(),
            prefetch: 1000,
            selector: None,
        })
        .unwrap();
    bench.ask_all((0..MESSAGES).map(|_| message_of(10)).collect());
    while bench.delivered.len() < MESSAGES {
        bench.ask(Command::Barrier).unwrap();
    }
    let mut tags = std::mem::take(&mut bench.delivered);
    let (which, outcome) = (Which::One, Outcome::Accepted);
    let mut settle = |transaction: TransactionName| {
        let tag = tags.pop_front().expect("there are many");
        let work = Work::Settle { subscription, which: which(tag), outcome };
        Command::Transact { transaction, work }
    };
    // Their end takes more of the log than is ever left of it.
    let names = || (1..=100).map(TransactionName);
    bench.ask_all(names().map(|transaction| Command::Begin { transaction }).collect());
    bench.ask_all(names().chain(names()).map(&mut settle).collect());
    bench.disk.set_capacity(bench.disk.used());
    // The log is filled to its last block.
    let full = (0..190).any(|_| {
        bench.begin(settle(TransactionName(1)));
        let answered = bench.answer_helped(false) == Some(Ok(Reply::Done));
        // It is answered before it is written: a block for each.
        bench.node.write_all();
        !answered
    });
    assert!(full, "the log was never full");
    // What waits for room would keep the end from being looked at.
    bench.node.inputs.clear();
    let appended = bench.node.log.appended();
    bench.node.inputs.push_back(Input::Close(bench.connection));
    for _ in 0..100 {
        bench.node.turn(NOW).unwrap();
        bench.node.log_step();
        bench.node.job_step(0);
    }
    assert_eq!(bench.node.log.appended(), appended, "there is no room for what it comes to");
    bench.disk.set_capacity(u64::MAX);
    (bench.connection, bench.mailbox) = (ConnectionId(2), Arc::new(Mailbox::default()));
    let mailbox = Arc::clone(&bench.mailbox);
    bench.node.inputs.push_back(Input::Connect(bench.connection, mailbox));
    while bench.ask(message()) == Err(Refusal::StorageFull) {}
    bench.ask(Command::Subscribe { subscription, from, prefetch: 1000, selector: None }).unwrap();
    for _ in 0..1000 {
        bench.ask(Command::Barrier).unwrap();
        if bench.delivered.len() > MESSAGES {
            return;
        }
    }
    panic!("{} of {MESSAGES} came back", bench.delivered.len());
}

#[test]
fn a_large_message_that_is_refused_at_its_end_leaves_nothing_of_its_body() {
    const STAGES: usize = 3 * limits::STAGES_MAX;
    let reserve = 2 * options().segment_size;
    let mut bench = Bench::with(|settings| settings.disk_reserve = reserve);
    let (to, all) = (Destination::Queue("q".into()), bench.disk.used() + reserve);
    for stage in (0..STAGES as u64).map(StageId) {
        bench.disk.set_capacity(u64::MAX);
        bench.node.disk.look();
        bench.ask(Command::Stage { stage, to: to.clone(), bytes: 100 }).unwrap();
        let piece = Command::StagePiece { stage, number: 1, bytes: vec![7; 100].into() };
        bench.ask(piece).unwrap();
        bench.disk.set_capacity(all - 1);
        bench.node.disk.look();
        let head = LargeHead { kind: BodyKind::Bytes, properties: Vec::new(), bytes: 100 };
        let Command::Send { message, .. } = message() else { unreachable!("it is one") };
        let message = Message { content: head.encode(), ..message };
        let send = Command::SendStaged { stage, to: to.clone(), message };
        assert_eq!(bench.ask(send), Err(Refusal::DiskLow { reserve }));
    }
    bench.ask(Command::Barrier).unwrap();
    let (open, _) = bench.node.engine.broker().uploads();
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn a_move_leaves_free_what_sends_leave_free() {
    let reserve = 2 * options().segment_size;
    let mut bench = Bench::with(|settings| settings.disk_reserve = reserve);
    let shift = |from: &str, to: &str| {
        let (from, to, pick) = (from.into(), to.into(), Pick::First(9));
        Command::Move { from, to, pick, returns: Returns::Keep }
    };
    bench.send().unwrap();
    // From now on it is there.
    bench.ask(shift("q", "other")).unwrap();
    bench.send().unwrap();
    bench.disk.set_capacity(bench.disk.used() + reserve - 1);
    bench.node.disk.look();
    let refused = bench.ask(shift("q", "other"));
    assert_eq!(refused, Err(Refusal::DiskLow { reserve }));
    bench.disk.set_capacity(u64::MAX);
    bench.node.disk.look();
    let moved = bench.ask(shift("q", "other"));
    assert!(matches!(&moved, Ok(Reply::Moved(it)) if it.moved == 1), "{moved:?}");
}

#[test]
fn two_segments_of_the_store_stay_free_whatever_the_settings_were_judged_by() {
    let reserve = 2 * options().segment_size;
    for set in [1, reserve - 1, reserve] {
        let mut bench = Bench::with(|settings| settings.disk_reserve = set);
        bench.disk.set_capacity(bench.disk.used() + reserve - 1);
        bench.node.disk.look();
        assert_eq!(bench.send(), Err(Refusal::DiskLow { reserve }), "{set} were set");
    }
}

#[test]
fn sends_are_refused_while_less_is_free_than_is_kept_and_the_rest_goes_on() {
    const RESERVE: u64 = 300_000;
    let mut bench = Bench::with(|settings| settings.disk_reserve = RESERVE);
    let from = Destination::Queue("q".into());
    let subscription = SubscriptionId(1);
    bench.ask(Command::Subscribe { subscription, from, prefetch: 1000, selector: None }).unwrap();
    bench.send().unwrap();
    bench.disk.set_capacity(bench.disk.used() + RESERVE - 1);
    bench.node.disk.look();
    assert_eq!(bench.send(), Err(Refusal::DiskLow { reserve: RESERVE }));
    assert!(bench.node.engine.flow().disk_short);
    let settle =
        Command::Settle { subscription, which: Which::One(Tag(1)), outcome: Outcome::Accepted };
    bench.ask(settle).unwrap();
    bench.disk.set_capacity(bench.disk.used() + RESERVE);
    assert!(bench.node.disk.look());
    bench.send().unwrap();
}

#[test]
fn a_full_disk_may_hold_sends_until_there_is_room() {
    let mut bench = Bench::with(|settings| settings.when_disk_full = WhenFull::Hold);
    bench.disk.set_capacity(bench.disk.used());
    for sent in 0.. {
        assert!(sent < 10_000, "a full disk takes everything");
        bench.begin(message());
        if bench.answer().is_none() {
            break;
        }
    }
    assert_eq!(bench.node.engine.flow().held_messages, 1);
    bench.disk.set_capacity(u64::MAX);
    assert_eq!(bench.answer(), Some(Ok(Reply::Done)));
}

#[test]
fn a_start_on_a_full_disk_gets_by_with_what_was_set_aside() {
    let mut bench = Bench::new();
    (0..40).for_each(|_| drop(bench.send().unwrap()));
    let mut disk = bench.disk.kill();
    for life in 0..5 {
        assert!(disk.open(RESERVE_NAME).is_ok(), "life {life} has set something aside");
        disk.set_capacity(disk.used());
        let node = Node::open(&disk, 100 + life, NOW);
        let node = node.unwrap_or_else(|error| panic!("life {life}: {error}"));
        disk.set_capacity(disk.used() + 4 * options().segment_size + (4 << 20));
        node.disk.look();
        drop(node);
        disk = disk.snapshot_crash(life);
    }
}

#[test]
fn a_start_after_a_crash_on_a_full_disk_needs_no_more_than_there_is() {
    for seed in 0..10 {
        let mut bench = Bench::with(|settings| settings.disk_reserve = 256 << 10);
        bench.disk.set_capacity(bench.disk.used() + (1 << 20));
        let mut sent = 0;
        while bench.send().is_ok() {
            sent += 1;
            bench.node.disk.look();
        }
        assert!(sent > 5, "there was some room: {sent}");
        // Somebody else has taken what was kept free.
        let crashed = bench.disk.snapshot_crash(seed);
        crashed.set_capacity(crashed.used());
        let node = Node::open(&crashed, seed, NOW);
        let node = node.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(node.engine.broker().holds("q").0, sent, "seed {seed}");
    }
}
