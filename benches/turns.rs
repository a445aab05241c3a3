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
//!
//! `ESCROW_TURNS=deep,taken cargo bench --bench turns` does these parts only.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use escrowmq::broker::Limits;
use escrowmq::broker::browse::Browsed;
use escrowmq::broker::command::{
    Command, Disposition, Outcome, Pick, Reply, Returns, Vote, Which, Work, XaCommand,
};
use escrowmq::engine::{self, Running, Settings};
use escrowmq::ids::{Millis, SubscriptionId, Tag, TransactionName};
use escrowmq::io::real::{DirStorage, SystemClock};
use escrowmq::io::{Clock, Storage};
use escrowmq::message::{Destination, Durability, Priority};
use escrowmq::wal;
use support::Size;
use support::peer::{PREFETCH, Peer, branch, message, send};
use support::process::fresh_dir;
use support::process::random::Random;
use support::report::{Goal, Series, figures, headline, hold_all};

/// Milliseconds that one turn may last.
const TURN_MAX: f64 = 1.0;
/// What may last longer, in a thousand turns: the system takes a while now and then.
const LONGER_MAX: f64 = 2.0;
/// Milliseconds that no turn may last, whatever the system does: no step is so long.
const STEP_MAX: f64 = 5.0;
/// How often everything is done.
const ROUNDS: usize = 3;
/// What a page of a browse shows at most.
const BROWSE_AT_ONCE: usize = 256;
/// Messages acknowledged together where that is not what is measured.
const TOGETHER: usize = 1000;
/// Outcomes remembered where most are to be forgotten.
const OUTCOMES_KEPT: u64 = 1000;

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
    let mut bench = Bench { data: PathBuf::new(), limits: limits(), worst };
    let bench = &mut bench;
    if bench.begins(dir, "one") {
        one_queue(bench, messages).await;
        loans(bench, messages / 10).await;
    }
    if bench.begins(dir, "expiry") {
        expiry(bench, messages).await;
    }
    if bench.begins(dir, "many") {
        many_queues(bench, queues).await;
    }
    if bench.begins(dir, "topic") {
        topic(bench, if full { 10_000 } else { 100 }).await;
    }
    if bench.begins(dir, "transactions") {
        transactions(bench, messages).await;
    }
    if bench.begins(dir, "deep") {
        deep(bench, messages).await;
    }
    if bench.begins(dir, "taken") {
        taken(bench, messages / 2).await;
    }
    if bench.begins(dir, "branches") {
        branches(bench, messages).await;
    }
    if bench.begins(dir, "outcomes") {
        outcomes(bench, messages / 4).await;
    }
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
    let together = async |peer: &mut Peer| {
        peer.subscribe_to(Destination::topic("t")).await;
        let published = (0..operations).map(|_| {
            let (to, message) = (Destination::topic("t"), message(None, &[]));
            Command::Transact { transaction, work: Work::Send { to, message } }
        });
        peer.ask(Command::Begin { transaction }).await;
        peer.ask_all(published).await;
        peer.ask(Command::Commit { transaction }).await;
        // Who listens has heard of all when nothing waits in the line.
        let waits = |reply: Reply| {
            let Reply::Queues(all) = reply else { panic!("a list is answered") };
            all.iter().any(|queue| queue.name.starts_with("publications://") && queue.depth > 0)
        };
        while waits(peer.ask(Command::ListQueues { after: None }).await) {}
    };
    bench.run("publications of a large transaction", together).await;
}

/// What lies deep in a backlog of messages of all priorities.
async fn deep(bench: &mut Bench<'_>, messages: usize) {
    let wanted = (messages / 100).min(10_000);
    // Of the priority that comes last the last: whoever looks for them passes all others.
    let fill = (0..messages).map(|nth| {
        let is_wanted = nth >= messages - wanted;
        let mut message = message(None, &[("wanted", if is_wanted { "yes" } else { "no" })]);
        let priority = if is_wanted { 0 } else { nth % 10 };
        message.priority = Priority::new(priority as u8).expect("a priority");
        Command::Send { to: Destination::queue("deep"), message }
    });
    bench.run("sends of all priorities", async |peer| peer.ask_all(fill).await).await;
    let choose = async |peer: &mut Peer| {
        let subscription = peer.choose("deep", "wanted = 'yes'").await;
        let tags = peer.take(wanted).await;
        peer.ask_all(each(subscription, shuffled(tags))).await;
    };
    bench.run("a selector deep in a backlog", choose).await;
    let third = async |peer: &mut Peer| {
        let (subscription, tags) = peer.hold("deep", messages / 2).await;
        let third = tags.into_iter().step_by(3).collect();
        peer.ask_all(each(subscription, shuffled(third))).await;
    };
    bench.run("acknowledgement of each third, anyhow", third).await;
    let left = messages - wanted - (messages / 2).div_ceil(3);
    let drain = async |peer: &mut Peer| {
        let subscription = peer.subscribe("deep").await;
        for taken in (0..left).step_by(TOGETHER) {
            let last = peer.deliveries(TOGETHER.min(left - taken)).await;
            peer.tell(accept(subscription, Which::Through(last))).await;
        }
        assert_eq!(peer.depth("deep").await, 0);
    };
    bench.run("all priorities, to the last", drain).await;
}

/// A transaction that has acknowledged so many messages, half of them in any order, rolled back
/// and another, committed.
async fn taken(bench: &mut Bench<'_>, messages: usize) {
    let fill = (0..messages).map(|_| send("taken", None));
    bench.run("sends to be taken", async |peer| peer.ask_all(fill).await).await;
    let transaction = TransactionName(1);
    let back = async |peer: &mut Peer| {
        let (subscription, tags) = peer.hold("taken", messages).await;
        peer.ask(Command::Begin { transaction }).await;
        peer.ask_all(half_and_all(transaction, subscription, tags)).await;
        let disposition = Disposition::Return;
        peer.tell(Command::Rollback { transaction, disposition }).await;
        peer.take(messages).await;
    };
    bench.run("rollback of acknowledgements", back).await;
    let gone = async |peer: &mut Peer| {
        let (subscription, tags) = peer.hold("taken", messages).await;
        peer.ask(Command::Begin { transaction }).await;
        peer.ask_all(half_and_all(transaction, subscription, tags)).await;
        peer.ask(Command::Commit { transaction }).await;
        assert_eq!(peer.depth("taken").await, 0, "all of them are gone");
    };
    bench.run("commit of acknowledgements", gone).await;
}

/// Branches of so many operations: of each, half have sent and half acknowledged, a tenth of them
/// what lies in memory alone, which the vote must write. One is committed in another life than that
/// of its vote, and another rolled back in the same.
async fn branches(bench: &mut Bench<'_>, operations: usize) {
    let (half, volatile) = (operations / 2, operations / 10);
    let fill = (0..half - volatile).map(|_| send("taken", None));
    bench.run("sends to be taken in a branch", async |peer| peer.ask_all(fill).await).await;
    let vote = async |peer: &mut Peer| {
        let fill = (0..volatile).map(|_| {
            let mut message = message(None, &[]);
            message.durability = Durability::NonPersistent;
            Command::Send { to: Destination::queue("taken"), message }
        });
        peer.ask_all(fill).await;
        let (subscription, tags) = peer.hold("taken", half).await;
        let transaction = TransactionName(1);
        let [start, end, prepare] = branch(transaction, |xid| XaCommand::Prepare { xid });
        peer.ask(start).await;
        let send = |_| match send("sent", None) {
            Command::Send { to, message } => {
                Command::Transact { transaction, work: Work::Send { to, message } }
            }
            other => other,
        };
        peer.ask_all((0..half).map(send)).await;
        peer.ask_all(half_and_all(transaction, subscription, tags)).await;
        peer.ask(end).await;
        assert_eq!(peer.ask(prepare).await, Reply::Vote(Vote::Ok));
    };
    bench.run("vote of a large branch", vote).await;
    let commit = async |peer: &mut Peer| {
        let commit = |xid| XaCommand::Commit { xid, one_phase: false };
        let [_, _, commit] = branch(TransactionName(1), commit);
        peer.ask(commit).await;
        assert_eq!((peer.depth("sent").await, peer.depth("taken").await), (half, 0));
    };
    bench.run("commit of it in another life", commit).await;
    let fill = (0..half - volatile).map(|_| send("taken", None));
    bench.run("sends to be taken in another branch", async |peer| peer.ask_all(fill).await).await;
    let both = async |peer: &mut Peer| {
        vote(peer).await;
        let disposition = Disposition::Return;
        let rollback = |xid| XaCommand::Rollback { xid, disposition };
        let [_, _, rollback] = branch(TransactionName(1), rollback);
        peer.tell(rollback).await;
        peer.take(half).await;
        assert_eq!((peer.depth("sent").await, peer.depth("taken").await), (half, half));
    };
    bench.run("vote and rollback of a large branch", both).await;
}

/// So many outcomes of branches, remembered, and then forgotten in another life.
async fn outcomes(bench: &mut Bench<'_>, outcomes: usize) {
    let come = async |peer: &mut Peer| {
        let all = (1..=outcomes as u64).flat_map(|number| {
            let transaction = TransactionName(number);
            let commit = |xid| XaCommand::Commit { xid, one_phase: true };
            let [start, end, commit] = branch(transaction, commit);
            let (to, message) = (Destination::topic("nobody"), message(None, &[]));
            let work = Work::Send { to, message };
            [start, Command::Transact { transaction, work }, end, commit]
        });
        peer.ask_all(all).await;
    };
    bench.run("outcomes that are remembered", come).await;
    bench.limits.outcomes = OUTCOMES_KEPT;
    // They go when the broker has begun, and from the index with the next checkpoint: that comes
    // with the end.
    let go = async |peer: &mut Peer| {
        for number in 0..TOGETHER {
            peer.ask(send(&format!("many.{number}"), None)).await;
        }
    };
    bench.run("outcomes that are forgotten", go).await;
    bench.limits = limits();
}

fn accept(subscription: SubscriptionId, which: Which) -> Command {
    Command::Settle { subscription, which, outcome: Outcome::Accepted }
}

fn each(subscription: SubscriptionId, tags: Vec<Tag>) -> impl Iterator<Item = Command> {
    tags.into_iter().map(move |tag| accept(subscription, Which::One(tag)))
}

/// Acknowledges in a transaction one by one half of these, in any order, and the others at once.
fn half_and_all(
    transaction: TransactionName,
    subscription: SubscriptionId,
    tags: Vec<Tag>,
) -> impl Iterator<Item = Command> {
    let last = *tags.last().expect("some");
    let half = tags[..tags.len() - 1].iter().copied().step_by(2).collect();
    let all = accept(subscription, Which::Through(last));
    let each = each(subscription, shuffled(half)).chain([all]);
    each.map(move |command| command.within(Some(transaction)))
}

/// In an order that is the same in every run.
fn shuffled(mut tags: Vec<Tag>) -> Vec<Tag> {
    let mut random = Random::new(7);
    for last in (1..tags.len()).rev() {
        tags.swap(last, random.below(last as u64 + 1) as usize);
    }
    tags
}

/// Acknowledgements of as much as one subscription may hold, and a lost connection that holds
/// as much as four may.
async fn loans(bench: &mut Bench<'_>, held: usize) {
    // Some of them: one would be so few turns that a single long one is more than may be long.
    let times = 4;
    let fill = (0..held + times * PREFETCH as usize).map(|_| send("lent", None));
    bench.run("sends to another queue", async |peer| peer.ask_all(fill).await).await;
    let covered = held.min(PREFETCH as usize);
    let consume = async |peer: &mut Peer| {
        let subscription = peer.subscribe("lent").await;
        for _ in 0..times {
            let last = peer.deliveries(covered).await;
            peer.tell(accept(subscription, Which::Through(last))).await;
        }
        assert_eq!(peer.depth("lent").await, held + times * (PREFETCH as usize - covered));
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
    limits: Limits,
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
    /// A part begins, with a store of its own; false where others are asked for.
    fn begins(&mut self, dir: &Path, part: &str) -> bool {
        self.data = dir.join(part);
        std::env::var("ESCROW_TURNS").map_or(true, |asked| asked.split(',').any(|it| it == part))
    }

    async fn run(&mut self, what: &str, work: impl AsyncFnOnce(&mut Peer)) {
        let running = open(&self.data, self.limits);
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

fn limits() -> Limits {
    Limits { queues: 200_000, ..Limits::default() }
}

fn open(data: &Path, limits: Limits) -> Running {
    let storage: Arc<dyn Storage> =
        Arc::new(DirStorage::open_or_create(data).expect("a data directory"));
    let clock: Arc<dyn Clock> = Arc::new(ThreadClock(SystemClock::new()));
    let nonce = SystemTime::UNIX_EPOCH.elapsed().expect("a clock after 1970").as_nanos();
    let options = wal::Options::default();
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
