//! Small transactions and branches against what they need of the disk.
//!
//! A: sixteen threads append a record of 1 KiB each to the bare log, group-committed, and wait
//! until it is durable. B: sixteen sessions do transactions of one receive and one send of 1 KiB
//! each, and wait for each commit. C: one session sends 1 KiB and waits for the answer. D: one
//! session has a branch prepared in which it has sent 1 KiB, and commits it. E: the same with the
//! beginning of the branch and the send, as one.

mod support;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use escrowmq::broker::command::{
    Command, Confirm, EndAs, Outcome, Output, Request, StartAs, Which, Work, XaCommand,
};
use escrowmq::engine::{Connection, NO_TOKEN, Running, Settings};
use escrowmq::ids::{SubscriptionId, Tag, TransactionName, Xid};
use escrowmq::message::Destination;
use support::cpu::CpuTimes;
use support::crowd::Done;
use support::engine::{open, send};
use support::log::BareLog;
use support::process::fresh_dir;
use support::report::{Goal, Series, figures, headline, hold_all, quantile};
use support::{BODY_BYTES, Size, wait_for_room_ahead};
use tokio::task::JoinSet;

const SESSIONS: usize = 16;

/// Messages that wait in the queue of each session, so that none waits for its own.
const AHEAD: usize = 4;

/// Operations of one side before the other's turn: few, because a disk's mood changes quickly.
const BLOCK: usize = 20;

pub(crate) fn main() {
    let Some(size) = Size::asked("commits") else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(measure(size));
}

async fn measure(size: Size) {
    let dir = fresh_dir();
    let data = dir.path().join("data");
    let running = open(&data, &Settings::default());
    let bare = BareLog::open(&dir.path().join("bare"));
    let mut sessions = Vec::new();
    for number in 0..SESSIONS {
        sessions.push(Session::new(&running, &format!("bench.{number}")).await);
    }
    let mut single = Session::new(&running, "bench.single").await;
    wait_for_room_ahead(&data);
    let (mut appends, mut commits) = (Series::default(), Series::default());
    let (mut sends, mut votes) = (Series::default(), Series::default());
    let mut branches = Series::default();
    let (mut cpu, mut committed) = (CpuTimes::default(), 0);
    // Before the crowd: what it leaves to the checkpoint and to compaction is not a branch's.
    for _ in 0..size.rounds {
        let (mut send_times, mut vote_times) = (Vec::new(), Vec::new());
        let mut branch_times = Vec::new();
        for _ in 0..size.operations / BLOCK {
            for _ in 0..BLOCK {
                send_times.push(single.send_alone().await.as_secs_f64() * 1e6);
            }
            for _ in 0..BLOCK {
                vote_times.push(single.branch(true).await.as_secs_f64() * 1e6);
            }
            for _ in 0..BLOCK {
                branch_times.push(single.branch(false).await.as_secs_f64() * 1e6);
            }
        }
        sends.push(quantile(&mut send_times, 0.5));
        votes.push(quantile(&mut vote_times, 0.5));
        branches.push(quantile(&mut branch_times, 0.5));
    }
    for _ in 0..size.rounds {
        appends.push(bare.append(SESSIONS, BODY_BYTES, size.turn).rate());
        let before = CpuTimes::of(std::process::id());
        let done;
        (sessions, done) = commit_all(sessions, size.turn).await;
        cpu.add(&CpuTimes::of(std::process::id()).since(&before));
        committed += done.messages;
        commits.push(done.rate());
    }
    drop((sessions, single));
    bare.close();
    running.handle().stop();
    running.join().expect("a clean end");
    headline("commits: small transactions and branches", size.rounds);
    figures("A: 16 threads, a record each, durable", "records/s", &appends);
    figures("B: 16 sessions, receive and send, committed", "commits/s", &commits);
    figures("C: a synchronous send, median", "us", &sends);
    figures("D: prepare and commit of a branch, median", "us", &votes);
    figures("E: start, send, end, prepare and commit, median", "us", &branches);
    println!("E / C: {:.2}", branches.per(&sends).median());
    cpu.print("B: this process", committed);
    hold_all(&[
        ("B / A", "ratio", commits.per(&appends), Goal::AtLeast(0.4)),
        ("D / C", "ratio", votes.per(&sends), Goal::AtMost(2.3)),
    ]);
}

/// Lets all of them commit for so long.
async fn commit_all(sessions: Vec<Session>, turn: Duration) -> (Vec<Session>, Done) {
    let began = Instant::now();
    let mut all = JoinSet::new();
    for mut session in sessions {
        all.spawn(async move {
            let mut commits = 0;
            while began.elapsed() < turn {
                session.receive_and_send().await;
                commits += 1;
            }
            (session, commits)
        });
    }
    let (mut sessions, mut messages) = (Vec::new(), 0);
    while let Some(joined) = all.join_next().await {
        let (session, commits) = joined.expect("no panic");
        sessions.push(session);
        messages += commits;
    }
    (sessions, Done { messages, elapsed: began.elapsed() })
}

const SUBSCRIPTION: SubscriptionId = SubscriptionId(1);

/// A connection with a queue of its own, from which it receives what it sends.
#[derive(Debug)]
struct Session {
    connection: Connection,
    send: Request,
    transactions: u64,
    deliveries: VecDeque<Tag>,
    outputs: Vec<Output>,
}

impl Session {
    async fn new(running: &Running, queue: &str) -> Self {
        let connection = running.handle().connect().expect("a connection");
        let (deliveries, outputs) = (VecDeque::new(), Vec::new());
        let send = send(queue);
        let mut session = Self { connection, send, transactions: 0, deliveries, outputs };
        let from = Destination::Queue(queue.into());
        let prefetch = AHEAD as u32;
        let subscribe =
            Command::Subscribe { subscription: SUBSCRIPTION, from, prefetch, selector: None };
        session.ask(vec![asked(subscribe)]).await;
        for _ in 0..AHEAD {
            session.ask(vec![session.send.clone()]).await;
        }
        session
    }

    /// Hands requests in of which the last is answered, and waits for that.
    async fn ask(&mut self, requests: Vec<Request>) {
        self.connection.submit(requests).await.expect("the engine runs");
        while !self.hear().await {}
    }

    /// Takes what has come; true if an answer is among it.
    async fn hear(&mut self) -> bool {
        self.connection.receive(&mut self.outputs).await.expect("the engine runs");
        let (mut answered, mut window) = (false, 0);
        for output in self.outputs.drain(..) {
            window += Connection::window_bytes(&output);
            match output {
                Output::Delivery(delivery) => self.deliveries.push_back(delivery.tag),
                Output::Answer { result: Ok(_), .. } => answered = true,
                other => panic!("{other:?}"),
            }
        }
        self.connection.written(window);
        answered
    }

    async fn next_delivery(&mut self) -> Tag {
        loop {
            if let Some(tag) = self.deliveries.pop_front() {
                return tag;
            }
            assert!(!self.hear().await, "nothing was asked");
        }
    }

    fn next_transaction(&mut self) -> TransactionName {
        self.transactions += 1;
        TransactionName(self.transactions)
    }

    fn sent_in(&self, transaction: TransactionName) -> Request {
        let Command::Send { to, message } = self.send.command.clone() else { unreachable!() };
        unasked(Command::Transact { transaction, work: Work::Send { to, message } })
    }

    async fn receive_and_send(&mut self) {
        let (tag, transaction) = (self.next_delivery().await, self.next_transaction());
        let (subscription, which) = (SUBSCRIPTION, Which::One(tag));
        let work = Work::Settle { subscription, which, outcome: Outcome::Accepted };
        let requests = vec![
            unasked(Command::Begin { transaction }),
            unasked(Command::Transact { transaction, work }),
            self.sent_in(transaction),
            asked(Command::Commit { transaction }),
        ];
        self.ask(requests).await;
    }

    async fn send_alone(&mut self) -> Duration {
        let began = Instant::now();
        self.ask(vec![self.send.clone()]).await;
        began.elapsed()
    }

    /// From the start of a branch to the answer to its commit; where it `rests` before its vote,
    /// until what was done in it is durable, from there.
    async fn branch(&mut self, rests: bool) -> Duration {
        let mut began = Instant::now();
        let transaction = self.next_transaction();
        let xid = Xid::new(1, b"bench", &transaction.0.to_le_bytes()).expect("short");
        let (xid, client) = (Arc::new(xid), "bench".into());
        let of = || Arc::clone(&xid);
        let start =
            XaCommand::Start { xid: of(), how: StartAs::New, transaction, timeout: None, client };
        let end = Command::Xa(XaCommand::End { xid: of(), transaction, how: EndAs::Success });
        let mut requests =
            vec![unasked(Command::Xa(start)), self.sent_in(transaction), unasked(end)];
        if rests {
            // What tells of the state waits for all that made it.
            requests.push(asked(Command::Xa(XaCommand::Find { xid: of() })));
            self.ask(std::mem::take(&mut requests)).await;
            began = Instant::now();
        }
        requests.push(asked(Command::Xa(XaCommand::Prepare { xid: of() })));
        self.ask(requests).await;
        self.ask(vec![asked(Command::Xa(XaCommand::Commit { xid, one_phase: false }))]).await;
        began.elapsed()
    }
}

fn asked(command: Command) -> Request {
    Request { token: NO_TOKEN, confirm: Confirm::Always, command }
}

fn unasked(command: Command) -> Request {
    Request { token: NO_TOKEN, confirm: Confirm::RefusalOnly, command }
}
