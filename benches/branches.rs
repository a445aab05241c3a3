//! What very many branches cost those who have none: ten thousand that have voted and wait for
//! their managers, and a million outcomes that are remembered.
//!
//! Each store is made by one process and opened by others, so that the memory of one is not taken
//! for that of another; they run this program with `ESCROW_PART`. A: as many messages as B's
//! branches have sent, sent by themselves. B: branches that have each sent one message and voted;
//! all of them must be listed, and none of their messages be seen. C: as A with nothing in it. D: a
//! million outcomes. E: as many local transactions that leave a message each and no outcome; only
//! its maker's memory is looked at, whose caches and buffers fill as D's do. Every store is killed,
//! not stopped, after a checkpoint.

mod support;

use std::path::Path;
use std::process::Command as Process;
use std::sync::Arc;
use std::time::{Duration, Instant};

use escrowmq::broker::command::{
    BranchInfo, Command, Confirm, EndAs, Output, Reply, Request, StartAs, Work, XaCommand,
};
use escrowmq::engine::{Connection, NO_TOKEN, Running, Settings};
use escrowmq::ids::{TransactionName, Xid};
use escrowmq::message::{BodyKind, Content, Destination, Durability, Message, Priority};
use escrowmq::schedule::When;
use support::engine::{Producer, open};
use support::memory::anonymous;
use support::process::fresh_dir;
use support::report::{Goal, Series, figures, headline, hold_all};
use support::{Size, wait_for_room_ahead};

const BRANCHES: u64 = 10_000;
const OUTCOMES: u64 = 1_000_000;

/// Requests handed in at once.
const AT_ONCE: u64 = 500;

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
        "open" => return opened(began, &mut asker, count).await,
        "rate" => return rated(&running).await,
        "messages" => asker.send(count).await,
        "branches" => asker.prepare(count).await,
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
async fn opened(began: Instant, asker: &mut Asker, count: u64) {
    asker.send_one().await;
    let millis = began.elapsed().as_secs_f64() * 1e3;
    let listed = asker.recover().await;
    assert_eq!(listed.len() as u64, count, "recovery lists exactly them");
    assert!(listed.iter().all(|info| info.decided.is_none()));
    let waiting = asker.depth("waits").await;
    assert!(waiting == 0 || count == 0, "{waiting} of their messages are seen");
    let memory = anonymous() / f64::from(1 << 20);
    println!("{millis} {memory}");
    std::process::exit(0);
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
        self.ask(vec![send("one")]).await;
    }

    async fn send(&mut self, count: u64) {
        for _ in 0..count / AT_ONCE.min(count) {
            self.ask((0..AT_ONCE.min(count)).map(|_| send("waits")).collect()).await;
        }
    }

    /// Branches that have sent a message each, and voted.
    async fn prepare(&mut self, count: u64) {
        let to = Destination::Queue("waits".into());
        let commands = |transaction| {
            let prepare = |xid| XaCommand::Prepare { xid };
            branch(transaction, to.clone(), prepare)
        };
        self.transactions(count, &commands).await;
    }

    /// Branches that have published a message to nobody, and were committed.
    async fn commit(&mut self, count: u64) {
        let to = Destination::Topic("nobody".into());
        let commands = |transaction| {
            let commit = |xid| XaCommand::Commit { xid, one_phase: true };
            branch(transaction, to.clone(), commit)
        };
        self.transactions(count, &commands).await;
    }

    /// Local transactions that have sent a message each, and were committed.
    async fn commit_local(&mut self, count: u64) {
        let commands = |transaction| {
            let to = Destination::Queue("waits".into());
            let work = Work::Send { to, message: message() };
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

    async fn depth(&mut self, name: &str) -> u64 {
        match self.ask(vec![Command::ListQueues { after: None }]).await {
            Reply::Queues(all) => all.iter().find(|it| &*it.name == name).map_or(0, |it| it.depth),
            other => panic!("{other:?}"),
        }
    }
}

/// A branch that sends a message, from its start to this end.
fn branch(
    transaction: TransactionName,
    to: Destination,
    end: impl Fn(Arc<Xid>) -> XaCommand,
) -> Vec<Command> {
    let global = [&transaction.0.to_le_bytes()[..], &[7; 24]].concat();
    let xid = Arc::new(Xid::new(1, &global, b"a branch").expect("short"));
    let of = || Arc::clone(&xid);
    let (how, timeout, client) = (StartAs::New, None, "bench".into());
    let start = XaCommand::Start { xid: of(), how, transaction, timeout, client };
    let work = Work::Send { to, message: message() };
    let leave = XaCommand::End { xid: of(), transaction, how: EndAs::Success };
    let work = Command::Transact { transaction, work };
    vec![Command::Xa(start), work, Command::Xa(leave), Command::Xa(end(of()))]
}

fn unasked(command: Command) -> Request {
    Request { token: NO_TOKEN, confirm: Confirm::RefusalOnly, command }
}

fn message() -> Message {
    let body = vec![b'x'; 100].into();
    let content = Content { kind: BodyKind::Bytes, properties: Vec::new(), body }.encode();
    let (durability, priority) = (Durability::Persistent, Priority::DEFAULT);
    Message { durability, priority, expires: None, when: When::AtOnce, grouped: false, content }
}

fn send(queue: &str) -> Command {
    Command::Send { to: Destination::Queue(queue.into()), message: message() }
}
