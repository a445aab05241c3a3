//! Residency is a cache: what is in memory never changes what is written.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use proptest::prelude::*;

use super::command::{Command, Disposition, Outcome, Which, Work};
use super::delta::{Delta, Entry, Operation, Place};
use super::fact::{Effect, Fact, OperationsPage, Page};
use super::{Base, Broker, Effects, Limits, Written};
use crate::ids::{
    ConnectionId, Lsn, Millis, QueueId, SubscriptionId, Tag, Token, TransactionId, TransactionName,
};
use crate::limits;
use crate::message::{Destination, Durability, Message, Priority};
use crate::record::{Cause, Record};
use crate::schedule::When;

/// One thing that happens to a broker, from outside or beside it.
#[derive(Clone, Debug)]
enum Step {
    Send {
        priority: u8,
        persistent: bool,
    },
    Subscribe {
        connection: u64,
        prefetch: u32,
    },
    Settle {
        connection: u64,
        pick: usize,
        through: bool,
        accepted: bool,
    },
    Unsubscribe {
        connection: u64,
    },
    Close {
        connection: u64,
    },
    Purge,
    Checkpoint,
    Begin {
        connection: u64,
    },
    /// The step after it happens in the transaction of its connection.
    Within {
        connection: u64,
        step: Box<Step>,
    },
    End {
        connection: u64,
        commit: bool,
        keep: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let connection = || 0u64..3;
    let within = (connection(), plain())
        .prop_map(|(connection, step)| Step::Within { connection, step: Box::new(step) });
    let end = (connection(), any::<bool>(), any::<bool>());
    prop_oneof![
        24 => plain(),
        4 => connection().prop_map(|connection| Step::Begin { connection }),
        10 => within,
        2 => end.prop_map(|(connection, commit, keep)| Step::End { connection, commit, keep }),
    ]
}

fn plain() -> impl Strategy<Value = Step> {
    let connection = || 0u64..3;
    let settle = (connection(), 0usize..6, any::<bool>(), any::<bool>());
    prop_oneof![
        12 => (3u8..6, prop::bool::weighted(0.9)).prop_map(|(priority, persistent)| Step::Send {
            priority,
            persistent,
        }),
        3 => (connection(), 1u32..6).prop_map(|(connection, prefetch)| Step::Subscribe {
            connection,
            prefetch,
        }),
        6 => settle.prop_map(|(connection, pick, through, accepted)| Step::Settle {
            connection,
            pick,
            through,
            accepted,
        }),
        1 => connection().prop_map(|connection| Step::Unsubscribe { connection }),
        1 => connection().prop_map(|connection| Step::Close { connection }),
        1 => Just(Step::Purge),
        3 => Just(Step::Checkpoint),
    ]
}

/// A broker with an index and a log that are only lists.
struct Bench {
    broker: Broker,
    index: BTreeMap<(QueueId, Place), Entry>,
    operations: BTreeMap<(TransactionId, u64), Operation>,
    /// Whether checkpoints happen: without them everything stays in the delta.
    checkpoints: bool,
    log: Vec<Record>,
    at: Lsn,
    /// What each connection holds.
    held: BTreeMap<u64, VecDeque<Tag>>,
}

const QUEUE: &str = "q";
const SUBSCRIPTION: SubscriptionId = SubscriptionId(1);
const UNIT: TransactionName = TransactionName(1);

impl Bench {
    fn new(resident: usize, checkpoints: bool) -> Self {
        // A large transaction ends step by step, and what is handed out meanwhile is chance.
        let transaction_operations = limits::STEP_MESSAGES_MAX as u64;
        let limits = Limits { resident, transaction_operations, ..Limits::default() };
        Self {
            broker: Broker::new(Base::default(), limits, 1 << 20),
            index: BTreeMap::new(),
            operations: BTreeMap::new(),
            checkpoints,
            log: Vec::new(),
            at: Lsn(4096),
            held: BTreeMap::new(),
        }
    }

    fn take(&mut self, step: &Step) {
        let (from, command) = match step {
            Step::Close { connection } => return self.close(*connection),
            Step::Checkpoint => return self.checkpoint(),
            step => match self.command(step) {
                Some(command) => command,
                None => return,
            },
        };
        let mut facts = Vec::new();
        let verdict =
            self.broker.decide(Millis(1), ConnectionId(from), Token(1), &command, &mut facts);
        if verdict.is_err() {
            return;
        }
        match (&command, self.held.get_mut(&from)) {
            (
                Command::Settle { which, .. }
                | Command::Transact { work: Work::Settle { which, .. }, .. },
                Some(held),
            ) => match which {
                Which::One(tag) => held.retain(|other| other != tag),
                Which::Through(tag) => held.retain(|other| other > tag),
                Which::Range(first, last) => {
                    held.retain(|other| !(first..=last).contains(&other));
                }
            },
            (Command::Unsubscribe { .. }, _) => drop(self.held.remove(&from)),
            _ => {}
        }
        self.settle_down(facts);
    }

    /// What a step asks, and who; nothing where it makes no sense now.
    fn command(&self, step: &Step) -> Option<(u64, Command)> {
        let queue = || Destination::Queue(QUEUE.into());
        Some(match step {
            Step::Send { priority, persistent } => {
                let durability =
                    if *persistent { Durability::Persistent } else { Durability::NonPersistent };
                let priority = Priority::new(*priority).unwrap();
                let content = Bytes::from_static(b"content");
                let message = Message {
                    durability,
                    priority,
                    expires: None,
                    when: When::AtOnce,
                    grouped: false,
                    content,
                };
                (9, Command::Send { to: queue(), message })
            }
            Step::Subscribe { connection, prefetch } => {
                let (subscription, prefetch) = (SUBSCRIPTION, *prefetch);
                (
                    *connection,
                    Command::Subscribe { subscription, from: queue(), prefetch, selector: None },
                )
            }
            Step::Settle { connection, pick, through, accepted } => {
                let held = self.held.get(connection).filter(|held| !held.is_empty())?;
                let tag = held[*pick % held.len()];
                let which = if *through { Which::Through(tag) } else { Which::One(tag) };
                let outcome = if *accepted { Outcome::Accepted } else { Outcome::Returned };
                (*connection, Command::Settle { subscription: SUBSCRIPTION, which, outcome })
            }
            Step::Unsubscribe { connection } => {
                (*connection, Command::Unsubscribe { subscription: SUBSCRIPTION })
            }
            Step::Purge => (9, Command::Purge { queue: QUEUE.into() }),
            Step::Close { .. } | Step::Checkpoint => return None,
            Step::Begin { connection } => (*connection, Command::Begin { transaction: UNIT }),
            Step::End { connection, commit: true, .. } => {
                (*connection, Command::Commit { transaction: UNIT })
            }
            Step::End { connection, keep, .. } => {
                let disposition = if *keep { Disposition::Keep } else { Disposition::Return };
                (*connection, Command::Rollback { transaction: UNIT, disposition })
            }
            Step::Within { connection, step } => {
                let (from, command) = self.command(step)?;
                let work = match command {
                    Command::Send { to, message } => Work::Send { to, message },
                    Command::Settle { subscription, which, outcome } if from == *connection => {
                        Work::Settle { subscription, which, outcome }
                    }
                    _ => return None,
                };
                (*connection, Command::Transact { transaction: UNIT, work })
            }
        })
    }

    fn close(&mut self, connection: u64) {
        let mut facts = Vec::new();
        assert!(self.broker.decide_close(Millis(1), ConnectionId(connection), &mut facts));
        self.held.remove(&connection);
        self.settle_down(facts);
    }

    /// Writes a record. The pieces in which a purge goes through a queue depend on what the index
    /// shows, and what they come to does not: they count as one.
    fn write(&mut self, record: Record) {
        match (self.log.last_mut(), record) {
            (
                Some(Record::Removed { cause: Cause::Purged, gone, .. }),
                Record::Removed { cause: Cause::Purged, gone: more, .. },
            ) => gone.extend(more),
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
                    self.write(record);
                }
                Fact::Memory(change) => self.broker.apply_change(change, effects),
            }
        }
    }

    /// Lets everything happen that follows by itself.
    fn settle_down(&mut self, facts: Vec<Fact>) {
        let mut effects = Effects::new();
        self.commit(facts, &mut effects);
        loop {
            for effect in std::mem::take(&mut effects) {
                match effect {
                    Effect::Deliver(assignment) => {
                        let (connection, _) = assignment.key;
                        self.held.entry(connection.0).or_default().push_back(assignment.tag);
                    }
                    Effect::Page(request) => {
                        let after = (request.queue, request.after);
                        let end = (request.queue, Place::END);
                        let range =
                            (std::ops::Bound::Excluded(after), std::ops::Bound::Included(end));
                        let rows = self.index.range(range).take(request.limit);
                        let rows = rows.map(|((_, place), entry)| (*place, *entry)).collect();
                        let mut facts = Vec::new();
                        self.broker.page_in(&Page { request, rows }, &mut facts);
                        self.commit(facts, &mut effects);
                    }
                    Effect::Pieces(_) => unreachable!("no body comes in pieces here"),
                    Effect::Outcome(_) => unreachable!("there are no branches here"),
                    // A search takes its time, so what it finds while something comes back is
                    // chance.
                    Effect::Select(_) => unreachable!("nobody has a selector here"),
                    Effect::Later(_) | Effect::Content(_) | Effect::Producers(_) => {
                        unreachable!("nothing is delayed here, and nobody counts")
                    }
                    Effect::Operations(request) => {
                        let after = (request.transaction, request.after + 1);
                        let all = after..=(request.transaction, u64::MAX);
                        let rows = self.operations.range(all).take(request.limit);
                        let rows = rows.map(|((_, number), it)| (*number, *it)).collect();
                        let mut facts = Vec::new();
                        let page = OperationsPage { request, rows };
                        self.broker.operations_in(Millis(0), &page, &mut facts);
                        self.commit(facts, &mut effects);
                    }
                    Effect::Answer { .. } => {}
                }
            }
            let mut facts = Vec::new();
            let more = self.broker.work(Millis(1), &mut facts, &mut effects);
            self.commit(facts, &mut effects);
            if !more && effects.is_empty() {
                return;
            }
        }
    }

    fn checkpoint(&mut self) {
        if !self.checkpoints {
            return;
        }
        self.broker.freeze(Lsn(self.at.0 - 64));
        let delta = self.broker.freeze_rows(usize::MAX).expect("all rows are taken");
        let Delta { entries, operations, .. } = &*delta;
        for (number, operation) in operations {
            match operation {
                Some(operation) => drop(self.operations.insert(*number, *operation)),
                None => drop(self.operations.remove(number)),
            }
        }
        for (place, entry) in entries.iter() {
            match entry {
                Some(entry) => drop(self.index.insert(place, *entry)),
                None => drop(self.index.remove(&place)),
            }
        }
        self.broker.install();
    }
}

proptest! {
    /// A broker that keeps everything in memory and one that keeps next to nothing write the same
    /// records, and hand out the same deliveries, whatever happens to them.
    #[test]
    fn what_is_resident_changes_no_record(
        steps in proptest::collection::vec(step(), 0..150),
        resident in 1usize..8,
    ) {
        let (mut all, mut few) = (Bench::new(100_000, false), Bench::new(resident, true));
        for step in &steps {
            all.take(step);
            few.take(step);
            prop_assert_eq!(&all.log, &few.log, "after {:?}", step);
            prop_assert_eq!(&all.held, &few.held);
        }
    }
}
