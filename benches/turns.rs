//! The longest turn of the engine while the heaviest work is done: nobody is served meanwhile.
//!
//! Each line is one kind of work on an engine in this process, opened anew for it. What counts is
//! the processor time of each turn, as the engine's own gauges count it: the clock that they are
//! given here tells what the thread had, not what its neighbours took. The checkpoints and the
//! connections that come with the work are part of it.
//!
//! What the system takes of the thread (a page fault, a processor taken away without its clock
//! noticing) is longer than some of these turns, and strikes anywhere; a step that is too large is
//! so in every round. So the median of the rounds is judged.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use escrowmq::broker::Limits;
use escrowmq::broker::browse::Browsed;
use escrowmq::broker::command::{
    Command, Confirm, Disposition, Outcome, Output, Pick, Reply, Request, Returns, Which, Work,
};
use escrowmq::engine::{self, Connection, NO_TOKEN, Running, Settings};
use escrowmq::ids::{Millis, SubscriptionId, Tag, TransactionName};
use escrowmq::io::real::{DirStorage, SystemClock};
use escrowmq::io::{Clock, Storage};
use escrowmq::message::{BodyKind, Content, Destination, Durability, Message, Priority};
use escrowmq::schedule::When;
use escrowmq::wal;
use support::Size;
use support::process::fresh_dir;
use support::report::{Goal, Series, figures, headline, hold_all};

/// Milliseconds that one turn may last.
const TURN_MAX: f64 = 1.0;
/// What may last longer, in a thousand turns: the system takes a while now and then.
const LONGER_MAX: f64 = 2.0;
/// Milliseconds that no turn may last, whatever the system does: no step is so long.
const STEP_MAX: f64 = 5.0;
/// How often everything is done.
const ROUNDS: usize = 3;
/// Requests under way while a store is filled.
const UNDER_WAY: usize = 2000;
/// What a page of a browse shows at most.
const BROWSE_AT_ONCE: usize = 256;
/// What one subscription may hold at most.
const PREFETCH: u32 = 32_767;

pub(crate) fn main() {
    let Some(size) = Size::asked("turns") else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let full = size.is_full();
    let (messages, queues) = if full { (1_000_000, 100_000) } else { (2_000, 300) };
    let rounds = if full { ROUNDS } else { 1 };
    headline(&format!("turns: {messages} messages, {queues} queues; processor time"), rounds);
    figures(
        "nothing: the longest of 0.2 ms",
        "ms",
        &Series::of(noise(if full { 5000 } else { 10 })),
    );
    let mut worst = Vec::new();
    for round in 1..=rounds {
        println!("  round {round}");
        let dir = fresh_dir();
        runtime.block_on(all(dir.path(), full, (messages, queues), &mut worst));
    }
    let names = worst.iter().map(|Worst { what, .. }| {
        (format!("{what}: longer than {TURN_MAX} ms"), format!("{what}: the longest"))
    });
    let names: Vec<_> = names.collect();
    let goals = worst.into_iter().zip(&names).flat_map(|(worst, (over, most))| {
        let Worst { longest, longer, .. } = worst;
        [
            (over.as_str(), "of 1000", longer, Goal::AtMost(LONGER_MAX)),
            (most.as_str(), "ms", longest, Goal::AtMost(STEP_MAX)),
        ]
    });
    hold_all(&goals.collect::<Vec<_>>());
}

/// Every kind of work once.
async fn all(dir: &Path, full: bool, (messages, queues): (usize, usize), worst: &mut Vec<Worst>) {
    let mut bench = Bench { data: dir.join("one"), worst };
    one_queue(&mut bench, messages).await;
    loans(&mut bench, messages / 10).await;
    bench.data = dir.join("expiry");
    expiry(&mut bench, messages).await;
    bench.data = dir.join("many");
    many_queues(&mut bench, queues).await;
    bench.data = dir.join("topic");
    topic(&mut bench, if full { 10_000 } else { 100 }).await;
    bench.data = dir.join("transactions");
    transactions(&mut bench, messages).await;
}

/// Browse, move and purge of one long queue.
async fn one_queue(bench: &mut Bench<'_>, messages: usize) {
    let fill = (0..messages).map(|_| send("one", None));
    bench.run("sends to one queue", async |peer| peer.ask_all(fill).await).await;
    bench.run("browse", async |peer| while_browsing(peer).await).await;
    bench.run("move", async |peer| while_moving(peer).await).await;
    let purge = || Command::Purge { queue: "two".into() };
    bench.run("purge", async |peer| drop(peer.ask(purge()).await)).await;
}

async fn while_browsing(peer: &mut Peer) {
    let mut after = None;
    loop {
        let (queue, limit) = ("one".into(), BROWSE_AT_ONCE);
        match peer.ask(Command::Browse { queue, after, limit }).await {
            Reply::Browsed(Browsed { next: Some(next), .. }) => after = Some(next),
            Reply::Browsed(_) => return,
            other => panic!("{other:?}"),
        }
    }
}

async fn while_moving(peer: &mut Peer) {
    let mut pick = Pick::First(u64::MAX);
    loop {
        let (from, to, returns) = ("one".into(), "two".into(), Returns::Keep);
        match peer.ask(Command::Move { from, to, pick, returns }).await {
            Reply::Moved(moved) => match moved.rest {
                Some(rest) => pick = Pick::More(rest, u64::MAX),
                None => return,
            },
            other => panic!("{other:?}"),
        }
    }
}

/// A transaction of so many sends, committed, and another, rolled back.
async fn transactions(bench: &mut Bench<'_>, operations: usize) {
    let transaction = TransactionName(1);
    let disposition = Disposition::Return;
    for (what, end) in [
        ("commit of a large transaction", Command::Commit { transaction }),
        ("rollback of a large transaction", Command::Rollback { transaction, disposition }),
    ] {
        let sent = (0..operations).map(|_| match send("transacted", None) {
            Command::Send { to, message } => {
                Command::Transact { transaction, work: Work::Send { to, message } }
            }
            other => other,
        });
        let whole = async |peer: &mut Peer| {
            peer.ask(Command::Begin { transaction }).await;
            peer.ask_all(sent).await;
            peer.ask(end).await;
        };
        bench.run(what, whole).await;
    }
}

/// One acknowledgement of as much as one subscription may hold, and a lost connection that holds
/// as much as four may.
async fn loans(bench: &mut Bench<'_>, held: usize) {
    let fill = (0..held + PREFETCH as usize).map(|_| send("lent", None));
    bench.run("sends to another queue", async |peer| peer.ask_all(fill).await).await;
    let covered = held.min(PREFETCH as usize);
    let consume = async |peer: &mut Peer| {
        let subscription = peer.subscribe("lent").await;
        let last = peer.deliveries(covered).await;
        let (which, outcome) = (Which::Through(last), Outcome::Accepted);
        peer.ask(Command::Settle { subscription, which, outcome }).await;
    };
    bench.run("acknowledgement of 32k at once", consume).await;
    let lose = async |peer: &mut Peer| {
        for _ in 0..held.div_ceil(PREFETCH as usize) {
            peer.subscribe("lent").await;
        }
        peer.deliveries(held).await;
        peer.reconnect().await;
        // What it held is back when somebody else can have all of it.
        for _ in 0..held.div_ceil(PREFETCH as usize) {
            peer.subscribe("lent").await;
        }
        peer.deliveries(held).await;
    };
    bench.run("a lost connection with 100k loans", lose).await;
}

async fn expiry(bench: &mut Bench<'_>, messages: usize) {
    // All of them end while the broker does not run.
    let soon = Millis(SystemClock::new().wall().0 + if messages > 10_000 { 60_000 } else { 2_000 });
    let fill = (0..messages).map(|_| send("expires", Some(soon)));
    bench.run("sends that expire", async |peer| peer.ask_all(fill).await).await;
    let wait = soon.0.saturating_sub(SystemClock::new().wall().0);
    tokio::task::spawn_blocking(move || std::thread::sleep(Duration::from_millis(wait)))
        .await
        .expect("a rest");
    let expire = async |peer: &mut Peer| {
        peer.subscribe("expires").await;
        loop {
            let queue = "expires".into();
            let Reply::Queue(queue) = peer.ask(Command::ShowQueue { queue }).await else {
                panic!("the queue is there");
            };
            if queue.info.depth == 0 {
                return;
            }
        }
    };
    bench.run("expiry", expire).await;
}

/// Very many queues: made, listed, and changed all at once.
async fn many_queues(bench: &mut Bench<'_>, queues: usize) {
    let fill = || (0..queues).map(|n| send(&format!("many.{n:06}"), None));
    bench.run("queues come into being", async |peer| peer.ask_all(fill()).await).await;
    let list = async |peer: &mut Peer| {
        let mut after = None;
        loop {
            match peer.ask(Command::ListQueues { after }).await {
                Reply::Queues(page) => match page.last() {
                    Some(last) => after = Some(last.name.clone()),
                    None => return,
                },
                other => panic!("{other:?}"),
            }
        }
    };
    bench.run("a list of them", list).await;
    bench.run("a checkpoint of them", async |peer| peer.ask_all(fill()).await).await;
}

/// A topic with very many subscribers.
async fn topic(bench: &mut Bench<'_>, subscribers: usize) {
    let publish = async |peer: &mut Peer| {
        for _ in 0..subscribers {
            peer.subscribe_to(Destination::Topic("t".into())).await;
        }
        for _ in 0..20 {
            let Command::Send { message, .. } = send("t", None) else { unreachable!() };
            peer.submit([Command::Send { to: Destination::Topic("t".into()), message }]).await;
            peer.deliveries(subscribers).await;
        }
    };
    bench.run("a topic with 10k subscribers", publish).await;
    let lose = async |peer: &mut Peer| {
        for number in 0..subscribers {
            // What one program subscribes to is some of both.
            let from = match number % 2 {
                0 => Destination::Topic("t".into()),
                _ => Destination::Queue(format!("many.{:03}", number % 1000).into()),
            };
            peer.subscribe_to(from).await;
        }
        peer.reconnect().await;
        // It has ended when what comes after it is answered.
        peer.ask(Command::ListQueues { after: None }).await;
    };
    bench.run("a lost connection with 10k subscriptions", lose).await;
}

/// A store, and the longest turns of each kind of work so far.
struct Bench<'a> {
    data: PathBuf,
    worst: &'a mut Vec<Worst>,
}

struct Worst {
    what: String,
    /// Milliseconds, per round.
    longest: Series,
    /// Turns of a thousand that were longer than they may be, per round.
    longer: Series,
}

impl Bench<'_> {
    async fn run(&mut self, what: &str, work: impl AsyncFnOnce(&mut Peer)) {
        let running = open(&self.data);
        let mut peer = Peer::new(&running);
        work(&mut peer).await;
        drop(peer);
        running.handle().stop();
        let handle = running.handle().clone();
        running.join().expect("a clean end");
        let turns = handle.gauges().turns.counted();
        let within = turns.buckets.iter().rfind(|(end, _)| end * 1000.0 <= TURN_MAX);
        let over = turns.count - within.map_or(0, |(_, count)| *count);
        let (longest, longer) = (turns.longest * 1000.0, over as f64 * 1000.0 / turns.count as f64);
        println!(
            "  {what:<36} {:>7} turns, {over} over 1 ms, the longest {longest:.2} ms",
            turns.count
        );
        let at = self.worst.iter().position(|worst| worst.what == what).unwrap_or_else(|| {
            let (what, longest, longer) = (what.to_owned(), Series::default(), Series::default());
            self.worst.push(Worst { what, longest, longer });
            self.worst.len() - 1
        });
        self.worst[at].longest.push(longest);
        self.worst[at].longer.push(longer);
    }
}

fn open(data: &Path) -> Running {
    let storage: Arc<dyn Storage> =
        Arc::new(DirStorage::open_or_create(data).expect("a data directory"));
    let clock: Arc<dyn Clock> = Arc::new(ThreadClock(SystemClock::new()));
    let nonce = SystemTime::UNIX_EPOCH.elapsed().expect("a clock after 1970").as_nanos();
    let (options, limits) =
        (wal::Options::default(), Limits { queues: 200_000, ..Limits::default() });
    let settings = Settings { limits, ..Settings::default() };
    let store = engine::open_store(&storage, options, &settings, nonce, clock.wall(), &mut |_| {});
    engine::start(store.expect("a store"), clock).expect("threads")
}

/// Tells the processor time of the thread that asks.
#[derive(Debug)]
struct ThreadClock(SystemClock);

impl Clock for ThreadClock {
    fn wall(&self) -> Millis {
        self.0.wall()
    }

    fn monotonic(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::try_from(time).expect("it counts from 0")
    }
}

/// How long a piece of work of a fifth of a millisecond seems to last at most, in milliseconds:
/// a virtual processor is taken away without its thread's clock noticing.
fn noise(times: usize) -> f64 {
    let clock = ThreadClock(SystemClock::new());
    let mut longest = Duration::ZERO;
    for _ in 0..times {
        let begun = clock.monotonic();
        let mut x = 1u64;
        for step in 0..100_000u64 {
            x = std::hint::black_box(x.wrapping_mul(31) ^ step);
        }
        longest = longest.max(clock.monotonic() - begun);
    }
    longest.as_secs_f64() * 1000.0
}

/// A connection.
struct Peer {
    running: engine::Handle,
    connection: Connection,
    subscriptions: u64,
    outputs: Vec<Output>,
}

impl Peer {
    fn new(running: &Running) -> Self {
        let running = running.handle().clone();
        let connection = running.connect().expect("a connection");
        Self { running, connection, subscriptions: 0, outputs: Vec::new() }
    }

    /// Breaks off and comes back.
    async fn reconnect(&mut self) {
        self.connection = self.running.connect().expect("a connection");
        self.outputs.clear();
    }

    async fn submit(&self, commands: impl IntoIterator<Item = Command>) {
        let request = |command| Request { token: NO_TOKEN, confirm: Confirm::Always, command };
        let requests = commands.into_iter().map(request).collect();
        self.connection.submit(requests).await.expect("the engine runs");
    }

    /// Has all of these done, many at a time.
    async fn ask_all(&mut self, commands: impl Iterator<Item = Command>) {
        let (mut commands, mut under_way) = (commands.peekable(), 0);
        while commands.peek().is_some() || under_way > 0 {
            let more: Vec<_> = commands.by_ref().take(UNDER_WAY - under_way).collect();
            under_way += more.len();
            self.submit(more).await;
            self.connection.receive(&mut self.outputs).await.expect("the engine runs");
            for output in self.outputs.drain(..) {
                assert!(matches!(output, Output::Answer { result: Ok(_), .. }), "{output:?}");
                under_way -= 1;
            }
        }
    }

    /// Asks, and waits for the answer; deliveries that come before it are dropped.
    async fn ask(&mut self, command: Command) -> Reply {
        self.submit([command]).await;
        loop {
            self.connection.receive(&mut self.outputs).await.expect("the engine runs");
            while !self.outputs.is_empty() {
                let output = self.outputs.remove(0);
                self.connection.written(Connection::window_bytes(&output));
                if let Output::Answer { result, .. } = output {
                    return result.expect("it is done");
                }
            }
        }
    }

    async fn subscribe(&mut self, queue: &str) -> SubscriptionId {
        self.subscribe_to(Destination::Queue(queue.into())).await
    }

    async fn subscribe_to(&mut self, from: Destination) -> SubscriptionId {
        self.subscriptions += 1;
        let subscription = SubscriptionId(self.subscriptions);
        let request = Command::Subscribe { subscription, from, prefetch: PREFETCH, selector: None };
        let request = Request { token: NO_TOKEN, confirm: Confirm::RefusalOnly, command: request };
        self.connection.submit(vec![request]).await.expect("the engine runs");
        subscription
    }

    /// Takes so many deliveries, and gives the tag of the last.
    async fn deliveries(&mut self, count: usize) -> Tag {
        let (mut taken, mut last) = (0, None);
        while taken < count {
            if self.outputs.is_empty() {
                self.connection.receive(&mut self.outputs).await.expect("the engine runs");
            }
            for output in self.outputs.drain(..) {
                self.connection.written(Connection::window_bytes(&output));
                if let Output::Delivery(delivery) = output {
                    taken += 1;
                    last = Some(delivery.tag);
                }
            }
        }
        last.expect("something was taken")
    }
}

/// A small persistent message.
fn send(queue: &str, expires: Option<Millis>) -> Command {
    let body = vec![b'x'; 100].into();
    let content = Content { kind: BodyKind::Bytes, properties: Vec::new(), body }.encode();
    let (durability, priority) = (Durability::Persistent, Priority::DEFAULT);
    let message =
        Message { durability, priority, expires, when: When::AtOnce, grouped: false, content };
    Command::Send { to: Destination::Queue(queue.into()), message }
}
