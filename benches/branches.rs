//! What very many branches cost those who have none: ten thousand that have voted and wait for
//! their managers, and a million outcomes that are remembered.
//!
//! Each store is made by one process and opened by others, so that the memory of one is not taken
//! for that of another; they run this program with `ESCROW_PART`. A: as many messages in two queues
//! as B's branches have sent and taken. B: branches that have each taken a message of one queue,
//! sent one to another, and voted; all of them must be listed, and none of their messages be seen.
//! When all is measured, each second of them is committed and the others are rolled back, and what
//! is in both queues is looked at in another life. C: as A with nothing in it. D: a
//! million outcomes. E: as many local transactions that leave a message each and no outcome; only
//! its maker's memory is looked at, whose caches and buffers fill as D's do. Every store is killed,
//! not stopped, after a checkpoint.

mod support;

use std::path::Path;
use std::process::Command as Process;
use std::sync::Arc;
use std::time::{Duration, Instant};

use escrowmq::broker::command::{
    BranchInfo, Command, Confirm, Delivery, Disposition, Outcome, Output, Reply, Request, Which,
    Work, XaCommand,
};
use escrowmq::engine::{Connection, NO_TOKEN, Running, Settings};
use escrowmq::ids::TransactionName;
use escrowmq::message::{BodyKind, Content, Destination};
use support::engine::{Producer, open};
use support::memory::anonymous;
use support::peer::{Peer, branch, message, send, xid};
use support::process::fresh_dir;
use support::report::{Goal, Series, figures, headline, hold_all};
use support::{Size, wait_for_room_ahead};

const BRANCHES: u64 = 10_000;
const OUTCOMES: u64 = 1_000_000;

/// Requests handed in at once.
const AT_ONCE: u64 = 500;

/// From where branches take, and where they send to.
const TAKEN: &str = "taken";
const SENT: &str = "waits";
/// What is sent to [`TAKEN`] to see what comes before it.
const MARKER: u64 = 0;

pub(crate) fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    if let Ok(part) = std::env::var("ESCROW_PART") {
        let (part, count, dir) = parse(&part);
        return runtime.block_on(play(part, count, Path::new(dir)));
    }
    let Some(size) = Size::asked("branches") else { return };
    let (branches, outcomes) = if size.is_full() { (BRANCHES, OUTCOMES) } else { (100, 1000) };
    let dir = fresh_dir();
    let parts = [("messages", branches), ("branches", branches), ("nothing", 0)];
    let parts = parts.into_iter().chain([("outcomes", outcomes), ("local", outcomes)]);
    let stores: Vec<_> = parts.map(|(part, count)| Store::make(dir.path(), part, count)).collect();
    let [mut a, mut b, mut c, mut d, e]: [Store; 5] = stores.try_into().expect("five");
    for _ in 0..size.rounds {
        for store in [&mut a, &mut b, &mut c, &mut d] {
            store.open();
        }
    }
    // After that: what is sent here would have to be replayed at the next opening.
    for _ in 0..size.rounds {
        for store in [&mut a, &mut b, &mut c, &mut d] {
            store.rate.push(run("rate", 0, &store.dir)[0]);
        }
    }
    run("decide", branches, &b.dir);
    run("decided", branches, &b.dir);
    headline("branches: many that wait, and many that are over", size.rounds);
    for store in [&a, &b, &c, &d] {
        figures(&format!("{}: open", store.part), "ms", &store.millis);
        figures(&format!("{}: memory", store.part), "MiB", &store.mebibytes);
        figures(&format!("{}: sends to another queue", store.part), "messages/s", &store.rate);
    }
    figures("outcomes: memory while they came", "MiB", &Series::of(d.grown));
    figures("local: memory while they came", "MiB", &Series::of(e.grown));
    let more = d.mebibytes.median() - c.mebibytes.median();
    let while_they_came = Series::of(d.grown - e.grown);
    hold_all(&[
        ("B / A, open", "ratio", b.millis.per(&a.millis), Goal::AtMost(1.5)),
        ("B / A, sends to another queue", "ratio", b.rate.per(&a.rate), Goal::AtLeast(0.9)),
        ("D / C, open", "ratio", d.millis.per(&c.millis), Goal::AtMost(1.2)),
        ("D - C, memory", "MiB", Series::of(more), Goal::AtMost(64.0)),
        ("D - E, memory while they came", "MiB", while_they_came, Goal::AtMost(64.0)),
    ]);
}

fn parse(part: &str) -> (&str, u64, &str) {
    let mut words = part.splitn(3, ' ');
    let mut next = || words.next().expect("what the parent has said");
    (next(), next().parse().expect("a number"), next())
}

/// A store with something in it, and what opening it took.
#[derive(Debug)]
struct Store {
    part: &'static str,
    count: u64,
    dir: std::path::PathBuf,
    /// What its maker's memory has grown by, in MiB.
    grown: f64,
    millis: Series,
    mebibytes: Series,
    rate: Series,
}

impl Store {
    fn make(dir: &Path, part: &'static str, count: u64) -> Self {
        let dir = dir.join(part);
        let grown = run(part, count, &dir)[0];
        let (millis, mebibytes, rate) = Default::default();
        Self { part, count, dir, grown, millis, mebibytes, rate }
    }

    fn open(&mut self) {
        let listed = if self.part == "branches" { self.count } else { 0 };
        let figures = run("open", listed, &self.dir);
        self.millis.push(figures[0]);
        self.mebibytes.push(figures[1]);
    }
}

/// Plays a part in a process of its own; the figures it prints.
fn run(part: &str, count: u64, dir: &Path) -> Vec<f64> {
    let program = std::env::current_exe().expect("this program");
    let part = format!("{part} {count} {}", dir.display());
    let output = Process::new(program).env("ESCROW_PART", &part).output().expect("a process");
    let text = String::from_utf8_lossy(&output.stdout);
    let figures: Vec<f64> = text.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!figures.is_empty(), "{part}: {text} {errors}");
    figures
}

async fn play(part: &str, count: u64, dir: &Path) {
    // What has come into being is checkpointed soon.
    let settings = Settings { checkpoint_millis: 200, ..Settings::default() };
    let began = Instant::now();
    let running = open(dir, &settings);
    let mut asker = Asker::new(&running);
    match part {
        "open" => return opened(began, &running, count).await,
        "rate" => return rated(&running).await,
        "decide" => return decide(&running, count).await,
        "decided" => return decided(&running, count).await,
        "messages" => fill(&mut Peer::new(&running), &[TAKEN, SENT], count).await,
        "branches" => prepare(&mut Peer::new(&running), count).await,
        "outcomes" | "nothing" => {
            asker.commit(1000).await;
            let before = anonymous();
            asker.commit(count).await;
            print!("{} ", (anonymous() - before) / f64::from(1 << 20));
        }
        "local" => {
            asker.commit_local(1000).await;
            let before = anonymous();
            asker.commit_local(count).await;
            print!("{} ", (anonymous() - before) / f64::from(1 << 20));
        }
        other => unreachable!("{other}"),
    }
    wait_for_room_ahead(dir);
    // The first may have begun before the last of it; after the second all is in the index.
    let handle = running.handle();
    for _ in 0..2 {
        let before = handle.gauges().checkpoints.counted().count;
        asker.send_one().await;
        while handle.gauges().checkpoints.counted().count == before {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    println!("0");
    // Killed: it says no goodbye.
    std::process::exit(0);
}

/// The store is open: how long that took, and the memory it takes.
async fn opened(began: Instant, running: &Running, count: u64) {
    let mut asker = Asker::new(running);
    asker.send_one().await;
    let millis = began.elapsed().as_secs_f64() * 1e3;
    let listed = asker.recover().await;
    assert!(listed.iter().all(|info| info.decided.is_none()));
    assert!(listed.iter().all(|info| (info.sent, info.settled) == (1, 1)));
    let mut listed: Vec<_> = listed.into_iter().map(|info| info.xid).collect();
    let mut expected: Vec<_> = (1..=count).map(|number| (*xid(number)).clone()).collect();
    listed.sort_unstable();
    expected.sort_unstable();
    assert!(listed == expected, "recovery lists exactly them, not {}", listed.len());
    if count > 0 {
        hidden(&mut Peer::new(running), count).await;
    }
    let memory = anonymous() / f64::from(1 << 20);
    println!("{millis} {memory}");
    std::process::exit(0);
}

/// Neither what prepared branches have sent nor what they have taken is anybody's.
async fn hidden(peer: &mut Peer, count: u64) {
    assert_eq!(peer.depth(SENT).await, 0, "what they have sent is seen");
    // What they have taken is there until they end, and nobody's.
    let Reply::Queue(queue) = peer.ask(Command::ShowQueue { queue: TAKEN.into() }).await else {
        panic!("the queue is there");
    };
    assert_eq!((queue.info.depth, queue.held, queue.info.lent), (count, count, 0));
    let mut after = None;
    loop {
        let (queue, limit) = (TAKEN.into(), 256);
        let Reply::Browsed(page) = peer.ask(Command::Browse { queue, after, limit }).await else {
            panic!("the queue is there");
        };
        assert!(page.messages.iter().all(|message| message.lent), "one is said to wait");
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    // The last that was sent is the first that a consumer gets, and the only one.
    peer.ask(numbered(TAKEN, MARKER)).await;
    let subscription = peer.subscribe(TAKEN).await;
    let mut got = None;
    peer.deliver(1, |delivery| got = Some((number(&delivery), delivery.tag))).await;
    let (number, tag) = got.expect("a delivery");
    assert_eq!(number, MARKER, "what they have taken is handed out");
    let which = Which::One(tag);
    peer.ask(Command::Settle { subscription, which, outcome: Outcome::Accepted }).await;
}

/// Ends the branches: those of even numbers by a commit.
async fn decide(running: &Running, count: u64) {
    let mut peer = Peer::new(running);
    let disposition = Disposition::Return;
    let end = |number| match number % 2 {
        0 => XaCommand::Commit { xid: xid(number), one_phase: false },
        _ => XaCommand::Rollback { xid: xid(number), disposition },
    };
    peer.ask_all((1..=count).map(|number| Command::Xa(end(number)))).await;
    println!("0");
    std::process::exit(0);
}

/// What was committed is gone from one queue and in the other; what was rolled back is where it
/// was.
async fn decided(running: &Running, count: u64) {
    assert!(Asker::new(running).recover().await.is_empty(), "none is left");
    let mut peer = Peer::new(running);
    let odd: Vec<_> = (1..=count).step_by(2).map(|number| (number, true)).collect();
    let even: Vec<_> = (2..=count).step_by(2).collect();
    assert_eq!(peer.depth(TAKEN).await, odd.len());
    assert_eq!(peer.depth(SENT).await, even.len());
    peer.want(TAKEN, odd.len()).await;
    assert!(numbers(&mut peer, odd.len()).await == odd, "in order, and flagged");
    peer.want(SENT, even.len()).await;
    let mut sent: Vec<_> =
        numbers(&mut peer, even.len()).await.into_iter().map(|it| it.0).collect();
    sent.sort_unstable();
    assert!(sent == even, "each once");
    println!("0");
    std::process::exit(0);
}

/// The numbers of the next messages, and whether each may have been delivered before.
async fn numbers(peer: &mut Peer, count: usize) -> Vec<(u64, bool)> {
    let mut all = Vec::with_capacity(count);
    peer.deliver(count, |delivery| all.push((number(&delivery), delivery.redelivered))).await;
    all
}

fn number(delivery: &Delivery) -> u64 {
    let content = Content::decode(delivery.content.clone()).expect("a content");
    u64::from_le_bytes(content.body[..8].try_into().expect("eight bytes"))
}

/// A message that says its number.
fn numbered(queue: &str, number: u64) -> Command {
    let mut message = message(None, &[]);
    let body = [&number.to_le_bytes()[..], &[b'x'; 92]].concat().into();
    message.content = Content { kind: BodyKind::Bytes, properties: Vec::new(), body }.encode();
    Command::Send { to: Destination::queue(queue), message }
}

/// So many messages to each of these queues.
async fn fill(peer: &mut Peer, queues: &[&str], count: u64) {
    for queue in queues {
        peer.ask_all((1..=count).map(|number| numbered(queue, number))).await;
    }
}

/// Branches that have each taken the message of their number, sent one of the same, and voted.
async fn prepare(peer: &mut Peer, count: u64) {
    fill(peer, &[TAKEN], count).await;
    let (subscription, tags) = peer.hold(TAKEN, count as usize).await;
    let all = (1..=count).zip(tags).flat_map(|(number, tag)| {
        let transaction = TransactionName(number);
        let (which, outcome) = (Which::One(tag), Outcome::Accepted);
        let take = Command::Settle { subscription, which, outcome };
        let [start, leave, prepare] = branch(transaction, |xid| XaCommand::Prepare { xid });
        let work = [take, numbered(SENT, number)].map(|it| it.within(Some(transaction)));
        [start].into_iter().chain(work).chain([leave, prepare])
    });
    peer.ask_all(all).await;
}

/// How fast another queue is.
async fn rated(running: &Running) {
    let mut producer = Producer::new(running, &["another"], 500);
    producer.produce(Duration::from_millis(100)).await;
    let rate = producer.produce(Duration::from_millis(700)).await.rate();
    println!("{rate}");
    std::process::exit(0);
}

/// A connection that asks for much at once and waits for the last answer.
#[derive(Debug)]
struct Asker {
    connection: Connection,
    last: u64,
}

impl Asker {
    fn new(running: &Running) -> Self {
        Self { connection: running.handle().connect().expect("a connection"), last: 0 }
    }

    async fn ask(&mut self, commands: Vec<Command>) -> Reply {
        let mut requests: Vec<_> = commands.into_iter().map(unasked).collect();
        requests.last_mut().expect("some").confirm = Confirm::Always;
        self.connection.submit(requests).await.expect("the engine runs");
        let mut outputs = Vec::new();
        self.connection.receive(&mut outputs).await.expect("the engine runs");
        match outputs.pop() {
            Some(Output::Answer { result: Ok(reply), .. }) if outputs.is_empty() => reply,
            other => panic!("{other:?} after {outputs:?}"),
        }
    }

    async fn send_one(&mut self) {
        self.ask(vec![send("one", None)]).await;
    }

    /// Branches that have published a message to nobody, and were committed.
    async fn commit(&mut self, count: u64) {
        let to = Destination::topic("nobody");
        let commands = |transaction| {
            let commit = |xid| XaCommand::Commit { xid, one_phase: true };
            let [start, leave, commit] = branch(transaction, commit);
            let work = Work::Send { to: to.clone(), message: message(None, &[]) };
            vec![start, Command::Transact { transaction, work }, leave, commit]
        };
        self.transactions(count, &commands).await;
    }

    /// Local transactions that have sent a message each, and were committed.
    async fn commit_local(&mut self, count: u64) {
        let commands = |transaction| {
            let (to, message) = (Destination::queue(SENT), message(None, &[]));
            let work = Work::Send { to, message };
            let send = Command::Transact { transaction, work };
            vec![Command::Begin { transaction }, send, Command::Commit { transaction }]
        };
        self.transactions(count, &commands).await;
    }

    async fn transactions(
        &mut self,
        count: u64,
        commands: &dyn Fn(TransactionName) -> Vec<Command>,
    ) {
        let mut all = Vec::new();
        for number in 1..=count {
            self.last += 1;
            all.extend(commands(TransactionName(self.last)));
            if number % AT_ONCE == 0 || number == count {
                self.ask(std::mem::take(&mut all)).await;
            }
        }
    }

    async fn recover(&mut self) -> Vec<BranchInfo> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            match self.ask(vec![Command::Xa(XaCommand::Recover { after })]).await {
                Reply::Branches(page) if page.is_empty() => return all,
                Reply::Branches(page) => {
                    after = page.last().map(|info| Arc::new(info.xid.clone()));
                    all.extend(page);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

fn unasked(command: Command) -> Request {
    Request { token: NO_TOKEN, confirm: Confirm::RefusalOnly, command }
}
