//! Residency is a cache: what is in memory never changes what is written, nor what is answered.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::command::{
    Command, Disposition, EndAs, KeepAs, Outcome, Pick, Refusal, Reply, Returns, StartAs, Which,
    Work, XaCommand,
};
use super::delta::{Delta, Due, Entry, Operation, OutcomeRow, Place};
use super::fact::{ConsumerKey, Effect, Fact, LaterPage, OperationsPage, Page};
use super::select::judge;
use super::xa::OutcomePage;
use super::{Base, Broker, Effects, Limits, Verdict, Written};
use crate::ids::{
    ConnectionId, Lsn, Millis, QueueId, SubscriptionId, Tag, Token, TransactionId, TransactionName,
    Xid,
};
use crate::limits;
use crate::message::{Destination, Durability, Message, Priority};
use crate::record::{BranchRecord, Cause, Gone, Record, Spread};
use crate::schedule::When;

/// One thing that happens to a broker, from outside or beside it. A minute goes by before it.
#[derive(Clone, Debug)]
enum Step {
    Send(Sent),
    Subscribe {
        connection: u64,
        prefetch: u32,
    },
    Keep {
        connection: u64,
        prefetch: u32,
    },
    Settle(Settled),
    Unsubscribe {
        connection: u64,
        kept: bool,
    },
    Close {
        connection: u64,
    },
    Purge,
    /// To a queue from which nobody consumes.
    Move {
        count: u64,
        reset: bool,
    },
    Browse {
        limit: usize,
    },
    Checkpoint,
    Begin {
        connection: u64,
    },
    /// The step in it happens in the transaction of its connection, or in the branch.
    Within {
        connection: u64,
        branch: bool,
        step: Box<Step>,
    },
    End {
        connection: u64,
        commit: bool,
        keep: bool,
    },
    Branch {
        connection: u64,
        verb: Verb,
    },
    NewLife,
}

/// What is sent, and to where.
#[derive(Clone, Copy, Debug)]
struct Sent {
    topic: bool,
    priority: u8,
    persistent: bool,
    /// In minutes from now.
    expires: Option<u64>,
    delay: Option<u64>,
}

/// Which deliveries are settled, and how.
#[derive(Clone, Copy, Debug)]
struct Settled {
    connection: u64,
    kept: bool,
    pick: usize,
    through: bool,
    accepted: bool,
}

/// What is asked of the branch.
#[derive(Clone, Copy, Debug)]
enum Verb {
    Start,
    End,
    Prepare,
    Commit { one_phase: bool },
    Rollback,
}

/// What an earlier life has left, or comes into a queue with its delay over, may belong to a group:
/// where several consume, the queue is looked through first. That takes its time, so it is chance
/// how much a record says is handed out. A single consumer waits for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Several,
    One,
    /// Several, over lives and with delays.
    SeveralThatLook,
}

impl Who {
    fn connection(self) -> std::ops::Range<u64> {
        if self == Self::One { 0..1 } else { 0..3 }
    }
}

fn step(who: Who) -> impl Strategy<Value = Step> {
    let within = (who.connection(), any::<bool>(), plain(who)).prop_map(
        move |(connection, branch, step)| {
            let step = match step {
                // What is published so waits in a line. Whether its queues hand out what they had
                // before it comes to the next may be decided by what is read for one of them.
                Step::Send(sent) if who != Who::SeveralThatLook => {
                    Step::Send(Sent { topic: false, ..sent })
                }
                step => step,
            };
            Step::Within { connection, branch, step: Box::new(step) }
        },
    );
    let end = (who.connection(), any::<bool>(), any::<bool>());
    let verb = (who.connection(), verb());
    let lives = u32::from(who != Who::Several);
    prop_oneof![
        30 => plain(who),
        4 => who.connection().prop_map(|connection| Step::Begin { connection }),
        12 => within,
        2 => end.prop_map(|(connection, commit, keep)| Step::End { connection, commit, keep }),
        6 => verb.prop_map(|(connection, verb)| Step::Branch { connection, verb }),
        lives => Just(Step::NewLife),
    ]
}

fn verb() -> impl Strategy<Value = Verb> {
    prop_oneof![
        3 => Just(Verb::Start),
        3 => Just(Verb::End),
        3 => Just(Verb::Prepare),
        2 => any::<bool>().prop_map(|one_phase| Verb::Commit { one_phase }),
        1 => Just(Verb::Rollback),
    ]
}

fn sent(who: Who) -> impl Strategy<Value = Sent> {
    let seldom = || prop::option::weighted(0.15, 1u64..40);
    let fields =
        (prop::bool::weighted(0.25), 3u8..6, prop::bool::weighted(0.9), seldom(), seldom());
    fields.prop_map(move |(topic, priority, persistent, expires, delay)| Sent {
        topic,
        priority,
        persistent,
        expires,
        // What is published later waits in a line of its own.
        delay: delay.filter(|_| !topic && who != Who::Several),
    })
}

fn plain(who: Who) -> impl Strategy<Value = Step> {
    let settle = (who.connection(), any::<bool>(), 0usize..6, any::<bool>(), any::<bool>());
    let settle = settle.prop_map(|(connection, kept, pick, through, accepted)| {
        Step::Settle(Settled { connection, kept, pick, through, accepted })
    });
    let consumer = || (who.connection(), 1u32..6);
    prop_oneof![
        14 => sent(who).prop_map(Step::Send),
        3 => consumer().prop_map(|(connection, prefetch)| Step::Subscribe { connection, prefetch }),
        2 => consumer().prop_map(|(connection, prefetch)| Step::Keep { connection, prefetch }),
        7 => settle,
        1 => (who.connection(), any::<bool>())
            .prop_map(|(connection, kept)| Step::Unsubscribe { connection, kept }),
        1 => who.connection().prop_map(|connection| Step::Close { connection }),
        1 => Just(Step::Purge),
        2 => (1u64..12, any::<bool>())
            .prop_map(|(count, reset)| Step::Move { count, reset }),
        1 => (1usize..9).prop_map(|limit| Step::Browse { limit }),
        3 => Just(Step::Checkpoint),
    ]
}

/// A broker with an index and a log that are only lists.
struct Bench {
    broker: Broker,
    limits: Limits,
    now: Millis,
    index: BTreeMap<(QueueId, Place), Entry>,
    due: BTreeMap<Due, ()>,
    operations: BTreeMap<(TransactionId, u64), Operation>,
    outcomes: BTreeMap<Xid, OutcomeRow>,
    /// Whether checkpoints happen: without them everything stays in the delta.
    checkpoints: bool,
    log: Vec<Record>,
    /// What has expired, which is found when it is looked at.
    expired: BTreeMap<(QueueId, Place), Gone>,
    /// As it was written, for the next life.
    history: Vec<(Written, Record)>,
    at: Lsn,
    /// What each consumer holds.
    held: BTreeMap<ConsumerKey, VecDeque<Tag>>,
    /// What was answered.
    said: Vec<Result<Reply, Refusal>>,
}

const QUEUES: [&str; 2] = ["q", "r"];
const TOPIC: &str = "t";
const SUBSCRIPTION: SubscriptionId = SubscriptionId(1);
const KEPT: SubscriptionId = SubscriptionId(2);
const UNIT: TransactionName = TransactionName(1);
const BRANCH: TransactionName = TransactionName(2);
/// Longer than a walk in search of what has expired rests.
const MINUTE: u64 = 60_000;

fn xid() -> Arc<Xid> {
    Arc::new(Xid::new(1, b"global", b"branch").unwrap())
}

fn subscription(kept: bool) -> SubscriptionId {
    if kept { KEPT } else { SUBSCRIPTION }
}

impl Bench {
    fn new(resident: usize, checkpoints: bool) -> Self {
        // A large transaction ends step by step, and what is handed out meanwhile is chance. A
        // branch is over when its manager says so.
        let transaction_operations = limits::STEP_MESSAGES_MAX as u64;
        let branch_millis = limits::BRANCH_MILLIS_MAX;
        let limits =
            Limits { resident, transaction_operations, branch_millis, ..Limits::default() };
        Self {
            broker: Broker::new(Base::default(), limits, 1 << 20),
            limits,
            now: Millis(1),
            index: BTreeMap::new(),
            due: BTreeMap::new(),
            operations: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            checkpoints,
            log: Vec::new(),
            expired: BTreeMap::new(),
            history: Vec::new(),
            at: Lsn(4096),
            held: BTreeMap::new(),
            said: Vec::new(),
        }
    }

    fn take(&mut self, step: &Step) {
        self.pass();
        match step {
            Step::Close { connection } => self.close(*connection),
            Step::Checkpoint => self.checkpoint(),
            Step::NewLife => self.restart(),
            Step::Browse { limit } => self.browse(*limit),
            step => {
                if let Some((from, command)) = self.command(step) {
                    self.ask(from, &command);
                }
            }
        }
        // What came back behind a walk that was under way is found by the next one.
        self.pass();
    }

    fn pass(&mut self) {
        self.now.0 += MINUTE;
        self.settle_down(Vec::new());
    }

    fn ask(&mut self, from: u64, command: &Command) {
        if let Command::Keep { keep, .. } = command {
            self.ask(from, &Command::Identify { client: Arc::clone(&keep.client) });
        }
        let mut facts = Vec::new();
        let verdict =
            self.broker.decide(self.now, ConnectionId(from), Token(1), command, &mut facts);
        match verdict {
            Err(refusal) => return self.said.push(Err(refusal)),
            Ok(Verdict::Answer(reply)) => self.said.push(Ok(reply)),
            Ok(_) => {}
        }
        let settled = match command {
            Command::Settle { subscription, which, .. }
            | Command::Transact { work: Work::Settle { subscription, which, .. }, .. } => {
                Some((*subscription, *which))
            }
            Command::Unsubscribe { subscription } => {
                self.held.remove(&(ConnectionId(from), *subscription));
                None
            }
            _ => None,
        };
        if let Some((subscription, which)) = settled
            && let Some(held) = self.held.get_mut(&(ConnectionId(from), subscription))
        {
            match which {
                Which::One(tag) => held.retain(|other| *other != tag),
                Which::Through(tag) => held.retain(|other| *other > tag),
                Which::Range(first, last) => held.retain(|it| !(first..=last).contains(it)),
            }
        }
        self.settle_down(facts);
    }

    /// What a step asks, and who; nothing where it makes no sense now.
    fn command(&self, step: &Step) -> Option<(u64, Command)> {
        let queue = || Destination::Queue(QUEUES[0].into());
        Some(match step {
            Step::Send(sent) => (9, self.send(sent)),
            Step::Subscribe { connection, prefetch } => {
                let (subscription, prefetch) = (SUBSCRIPTION, *prefetch);
                let from = queue();
                let subscribe = Command::Subscribe { subscription, from, prefetch, selector: None };
                (*connection, subscribe)
            }
            Step::Keep { connection, prefetch } => (*connection, keep(*connection, *prefetch)),
            Step::Settle(Settled { connection, kept, pick, through, accepted }) => {
                let subscription = subscription(*kept);
                let held = self.held.get(&(ConnectionId(*connection), subscription))?;
                let tag = *held.get(*pick % held.len().max(1))?;
                let which = if *through { Which::Through(tag) } else { Which::One(tag) };
                let outcome = if *accepted { Outcome::Accepted } else { Outcome::Returned };
                (*connection, Command::Settle { subscription, which, outcome })
            }
            Step::Unsubscribe { connection, kept } => {
                (*connection, Command::Unsubscribe { subscription: subscription(*kept) })
            }
            Step::Purge => (9, Command::Purge { queue: QUEUES[0].into() }),
            Step::Move { count, reset } => {
                let [from, to] = QUEUES.map(Box::from);
                let returns = if *reset { Returns::Reset } else { Returns::Keep };
                (9, Command::Move { from, to, pick: Pick::First(*count), returns })
            }
            Step::Close { .. } | Step::Checkpoint | Step::NewLife | Step::Browse { .. } => {
                return None;
            }
            Step::Begin { connection } => (*connection, Command::Begin { transaction: UNIT }),
            Step::End { connection, commit: true, .. } => {
                (*connection, Command::Commit { transaction: UNIT })
            }
            Step::End { connection, keep, .. } => {
                let disposition = if *keep { Disposition::Keep } else { Disposition::Return };
                (*connection, Command::Rollback { transaction: UNIT, disposition })
            }
            Step::Branch { connection, verb } => (*connection, of_branch(*verb)),
            Step::Within { connection, branch, step } => {
                let (from, command) = self.command(step)?;
                let transaction = if *branch { BRANCH } else { UNIT };
                match command.within(Some(transaction)) {
                    command @ Command::Transact { work: Work::Send { .. }, .. } => {
                        (*connection, command)
                    }
                    command @ Command::Transact { .. } if from == *connection => {
                        (*connection, command)
                    }
                    _ => return None,
                }
            }
        })
    }

    fn send(&self, sent: &Sent) -> Command {
        let Sent { topic, priority, persistent, expires, delay } = *sent;
        let durability =
            if persistent { Durability::Persistent } else { Durability::NonPersistent };
        let message = Message {
            durability,
            priority: Priority::new(priority).unwrap(),
            expires: expires.map(|minutes| Millis(self.now.0 + minutes * MINUTE)),
            when: delay.map_or(When::AtOnce, |minutes| When::After(minutes * MINUTE)),
            grouped: false,
            content: Bytes::from_static(b"content"),
        };
        let to = match topic {
            true => Destination::Topic(TOPIC.into()),
            false => Destination::Queue(QUEUES[0].into()),
        };
        Command::Send { to, message }
    }

    /// Looks through the queue, and takes all that is seen for one answer: where the pieces end is
    /// as chance has it.
    fn browse(&mut self, limit: usize) {
        let (queue, mut after, mut all) = (Box::from(QUEUES[0]), None, Vec::new());
        loop {
            let before = self.said.len();
            self.ask(9, &Command::Browse { queue: Box::clone(&queue), after, limit });
            assert_eq!(self.said.len(), before + 1, "it is answered");
            let Some(Ok(Reply::Browsed(mut piece))) = self.said.pop() else { return };
            all.append(&mut piece.messages);
            after = piece.next;
            if after.is_none() {
                piece.messages = all;
                return self.said.push(Ok(Reply::Browsed(piece)));
            }
        }
    }

    fn close(&mut self, connection: u64) {
        let connection = ConnectionId(connection);
        self.held.retain(|(of, _), _| *of != connection);
        let mut over = false;
        while !over {
            let mut facts = Vec::new();
            over = self.broker.decide_close(self.now, connection, &mut facts);
            self.commit(facts, &mut Effects::new());
        }
        self.settle_down(Vec::new());
    }

    /// The same log in a new life, which finds nothing in the index.
    fn restart(&mut self) {
        self.broker = Broker::new(Base::default(), self.limits, 1 << 20);
        for (written, record) in &self.history {
            self.broker.apply_record(*written, record).unwrap();
        }
        self.index.clear();
        self.due.clear();
        self.operations.clear();
        self.outcomes.clear();
        self.held.clear();
        let started = Record::Started { epoch: self.broker.epoch() + 1, at: self.now };
        self.settle_down(vec![Fact::Log(started, Bytes::new())]);
    }

    /// Writes a record. The pieces in which a purge or a move goes through a queue depend on what
    /// the index shows, and what they come to does not: they count as one. So it is with what has
    /// expired, in whatever order it is found. That a branch has begun is said where its name may
    /// be that of an older one, for all that memory knows.
    fn write(&mut self, record: Record) {
        match (self.log.last_mut(), record) {
            (_, Record::Removed { queue, cause: Cause::Expired, gone }) => {
                let gone = gone.into_iter().map(|gone| ((queue, gone.place), gone));
                self.expired.extend(gone);
            }
            // Where it was to go to those who keep it, and its time was over.
            (_, Record::Spread(Spread { from, place, entry, targets }))
                if targets.is_empty() && entry.expires.is_some_and(|at| at <= self.now) =>
            {
                self.expired.insert((from, place), Gone::of(place, &entry));
            }
            (_, Record::Branch(BranchRecord::Begun { .. })) => {}
            (
                Some(Record::Removed { cause: Cause::Purged, gone, .. }),
                Record::Removed { cause: Cause::Purged, gone: more, .. },
            ) => gone.extend(more),
            (
                Some(Record::Transferred { from, to, entries, .. }),
                Record::Transferred { from: same, to: as_well, entries: more, .. },
            ) if (*from, *to) == (same, as_well) => entries.extend(more),
            (_, record) => {
                self.log.push(record);
                self.at = Lsn(self.at.0 + 64);
            }
        }
    }

    fn commit(&mut self, facts: Vec<Fact>, effects: &mut Effects) {
        for fact in facts {
            match fact {
                Fact::Log(record, _) => {
                    let written = Written { lsn: self.at, frame_len: 64 };
                    self.broker.apply_record(written, &record).unwrap();
                    self.history.push((written, record.clone()));
                    self.write(record);
                }
                Fact::Memory(change) => self.broker.apply_change(change, effects),
            }
        }
    }

    /// What it has written. Of queues that hand something out one after the other, which is first
    /// may be decided by what is read for one of them meanwhile.
    fn in_turns(&self) -> Vec<Record> {
        let queue = |record: &Record| match record {
            Record::Lent { queue, .. } => Some(*queue),
            _ => None,
        };
        let mut log = self.log.clone();
        for run in log.chunk_by_mut(|one, next| queue(one).is_some() && queue(next).is_some()) {
            run.sort_by_key(queue);
        }
        log
    }

    /// Lets everything happen that follows by itself.
    fn settle_down(&mut self, facts: Vec<Fact>) {
        let mut effects = Effects::new();
        self.commit(facts, &mut effects);
        loop {
            for effect in std::mem::take(&mut effects) {
                let mut facts = Vec::new();
                self.follow(effect, &mut facts);
                self.commit(facts, &mut effects);
            }
            let mut facts = Vec::new();
            let more = self.broker.work(self.now, &mut facts, &mut effects);
            self.commit(facts, &mut effects);
            if !more && effects.is_empty() {
                return;
            }
        }
    }

    fn follow(&mut self, effect: Effect, facts: &mut Vec<Fact>) {
        match effect {
            Effect::Deliver(assignment) => {
                self.held.entry(assignment.key).or_default().push_back(assignment.tag);
            }
            Effect::Page(request) => {
                let after = (request.queue, request.after);
                let end = (request.queue, Place::END);
                let rows = self.index.range((Excluded(after), Included(end))).take(request.limit);
                let rows = rows.map(|((_, place), entry)| (*place, *entry)).collect();
                self.broker.page_in(&Page { request, rows }, facts);
            }
            Effect::Later(request) => {
                let rows = self.due.range((Excluded(request.after), Unbounded));
                let entry = |due: &Due| self.index[&(due.queue, due.place)];
                let rows = rows.take(request.limit).map(|(due, ())| (*due, entry(due))).collect();
                self.broker.later_in(&LaterPage { request, rows });
            }
            Effect::Operations(request) => {
                let after = (request.transaction, request.after + 1);
                let all = after..=(request.transaction, u64::MAX);
                let rows = self.operations.range(all).take(request.limit);
                let rows = rows.map(|((_, number), it)| (*number, *it)).collect();
                self.broker.operations_in(self.now, &OperationsPage { request, rows }, facts);
            }
            Effect::Outcome(request) => {
                let row = self.outcomes.get(&request.xid).copied();
                self.broker.outcome_in(OutcomePage { request, row }, facts);
            }
            Effect::Answer { result, .. } => self.said.push(result),
            Effect::Pieces(_) => unreachable!("no body comes in pieces here"),
            // Whether there are groups in what an earlier life has left.
            Effect::Select(request) => {
                self.broker.selected_in(&judge(request, |_| Bytes::from_static(b"content")));
            }
            Effect::Content(_) | Effect::Producers(_) => {
                unreachable!("nothing comes again here, and nobody counts")
            }
        }
    }

    fn checkpoint(&mut self) {
        if !self.checkpoints {
            return;
        }
        self.broker.freeze(Lsn(self.at.0 - 64));
        let delta = self.broker.freeze_rows(usize::MAX).expect("all rows are taken");
        let Delta { entries, operations, due, outcomes, .. } = &*delta;
        let taken = operations.iter().map(|(key, row)| (*key, *row));
        merge(&mut self.operations, taken);
        merge(&mut self.due, due.iter().map(|(key, row)| (*key, *row)));
        merge(&mut self.outcomes, outcomes.iter().map(|(key, row)| (key.clone(), *row)));
        merge(&mut self.index, entries.iter());
        self.broker.install();
    }
}

/// What a delta says of a table.
fn merge<K: Ord, V>(table: &mut BTreeMap<K, V>, delta: impl Iterator<Item = (K, Option<V>)>) {
    for (key, row) in delta {
        match row {
            Some(row) => drop(table.insert(key, row)),
            None => drop(table.remove(&key)),
        }
    }
}

fn keep(connection: u64, prefetch: u32) -> Command {
    let (client, name) = (format!("c{connection}").into(), "s".into());
    let (topic, selector, no_local, reader) = (TOPIC.into(), None, false, None);
    let keep = KeepAs { client, name, topic, prefetch, selector, no_local, reader };
    Command::Keep { subscription: KEPT, keep: Box::new(keep) }
}

fn of_branch(verb: Verb) -> Command {
    let (xid, transaction) = (xid(), BRANCH);
    Command::Xa(match verb {
        Verb::Start => {
            let (how, timeout, client) = (StartAs::Either, None, "a client".into());
            XaCommand::Start { xid, how, transaction, timeout, client }
        }
        Verb::End => XaCommand::End { xid, transaction, how: EndAs::Success },
        Verb::Prepare => XaCommand::Prepare { xid },
        Verb::Commit { one_phase } => XaCommand::Commit { xid, one_phase },
        Verb::Rollback => XaCommand::Rollback { xid, disposition: Disposition::Return },
    })
}

/// A broker that keeps everything in memory and one that keeps next to nothing write the same
/// records, hand out the same deliveries and answer the same, whatever happens to them.
fn compare(who: Who, steps: &[Step], resident: usize) -> Result<(), TestCaseError> {
    let (mut all, mut few) = (Bench::new(100_000, false), Bench::new(resident, true));
    for step in steps {
        all.take(step);
        few.take(step);
        if who != Who::SeveralThatLook {
            prop_assert_eq!(all.in_turns(), few.in_turns(), "after {:?}", step);
            prop_assert_eq!(&all.expired, &few.expired, "after {:?}", step);
        }
        // Where the log may differ, so may the births in it.
        let ended = |bench: &Bench| bench.expired.keys().copied().collect::<Vec<_>>();
        prop_assert_eq!(ended(&all), ended(&few), "after {:?}", step);
        prop_assert_eq!(&all.held, &few.held, "after {:?}", step);
        if who == Who::SeveralThatLook {
            let yes = |bench: &Bench| bench.said.iter().map(Result::is_ok).collect::<Vec<_>>();
            prop_assert_eq!(yes(&all), yes(&few), "after {:?}", step);
        } else {
            prop_assert_eq!(&all.said, &few.said, "after {:?}", step);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn what_is_resident_changes_no_record(
        steps in proptest::collection::vec(step(Who::Several), 0..150),
        resident in 1usize..8,
    ) {
        compare(Who::Several, &steps, resident)?;
    }

    #[test]
    fn what_is_resident_changes_no_record_over_lives_and_delays(
        steps in proptest::collection::vec(step(Who::One), 0..150),
        resident in 1usize..8,
    ) {
        compare(Who::One, &steps, resident)?;
    }

    #[test]
    fn what_is_resident_changes_no_delivery_where_groups_are_looked_for(
        steps in proptest::collection::vec(step(Who::SeveralThatLook), 0..150),
        resident in 1usize..8,
    ) {
        compare(Who::SeveralThatLook, &steps, resident)?;
    }
}
