//! Transactions and branches in any interleaving, against a plain model: several connections that
//! send, settle, begin, join, end, vote, decide, go, run out of time, and lives that end.
//!
//! The model knows no places and no records. It says what each question is answered, where every
//! message is, and who may get it; which consumer gets what, it takes from the broker and judges.

mod plain;

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use super::*;
use crate::broker::command::{Disposition, EndAs, StartAs, Vote, Work, XaCommand, XaError};
use crate::broker::delta::Resolution;
use crate::ids::{TransactionName, Xid};
use crate::mutant::{self, Mutant};
use crate::schedule::When;

use plain::{CLIENTS, Plain, QUEUES, Unit};

/// Milliseconds that a branch has for its vote.
const TIMEOUT: u64 = 1000;

const XIDS: usize = 3;

/// Deliveries that one consumer may have.
const PREFETCH: u32 = 2;

/// Where something is done: in the transaction of a connection, or in a branch.
type In = Option<usize>;

#[derive(Clone, Copy, Debug)]
enum Op {
    Send { queue: usize, persistent: bool },
    Settle { client: usize, queue: usize, returned: bool },
    Begin { client: usize },
    SendIn { client: usize, within: In, queue: usize, persistent: bool },
    SettleIn { client: usize, within: In, queue: usize, returned: bool },
    Commit { client: usize },
    Rollback { client: usize, disposition: Disposition },
    Xa(usize, Verb),
    Advance(u64),
    Close { client: usize },
    Restart,
}

/// What is asked of a branch.
#[derive(Clone, Copy, Debug)]
enum Verb {
    Start { client: usize, how: StartAs },
    End { client: usize, how: EndAs },
    Prepare,
    Commit { one_phase: bool },
    Rollback(Disposition),
    Decide(Resolution),
    Forget,
}

fn disposition() -> impl Strategy<Value = Disposition> {
    prop_oneof![Just(Disposition::Return), Just(Disposition::Keep)]
}

fn verb() -> impl Strategy<Value = Verb> {
    let client = || 0..CLIENTS;
    let how = prop_oneof![
        4 => Just(StartAs::New),
        2 => Just(StartAs::Join),
        2 => Just(StartAs::Either),
        1 => Just(StartAs::Resume),
    ];
    let end =
        prop_oneof![5 => Just(EndAs::Success), 1 => Just(EndAs::Fail), 1 => Just(EndAs::Suspend)];
    let resolution = prop_oneof![Just(Resolution::Commit), Just(Resolution::Rollback)];
    prop_oneof![
        6 => (client(), how).prop_map(|(client, how)| Verb::Start { client, how }),
        5 => (client(), end).prop_map(|(client, how)| Verb::End { client, how }),
        4 => Just(Verb::Prepare),
        3 => any::<bool>().prop_map(|one_phase| Verb::Commit { one_phase }),
        2 => disposition().prop_map(Verb::Rollback),
        1 => resolution.prop_map(Verb::Decide),
        1 => Just(Verb::Forget),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let (client, queue) = (|| 0..CLIENTS, || 0..QUEUES);
    let within = || prop_oneof![2 => Just(None), 3 => (0..XIDS).prop_map(Some)];
    prop_oneof![
        4 => (queue(), any::<bool>())
            .prop_map(|(queue, persistent)| Op::Send { queue, persistent }),
        2 => (client(), queue(), any::<bool>())
            .prop_map(|(client, queue, returned)| Op::Settle { client, queue, returned }),
        2 => client().prop_map(|client| Op::Begin { client }),
        5 => (client(), within(), queue(), any::<bool>()).prop_map(
            |(client, within, queue, persistent)| Op::SendIn { client, within, queue, persistent }
        ),
        7 => (client(), within(), queue(), any::<bool>()).prop_map(
            |(client, within, queue, returned)| Op::SettleIn { client, within, queue, returned }
        ),
        2 => client().prop_map(|client| Op::Commit { client }),
        1 => (client(), disposition())
            .prop_map(|(client, disposition)| Op::Rollback { client, disposition }),
        16 => (0..XIDS, verb()).prop_map(|(xid, verb)| Op::Xa(xid, verb)),
        1 => (1..2 * TIMEOUT).prop_map(Op::Advance),
        1 => client().prop_map(|client| Op::Close { client }),
        1 => Just(Op::Restart),
    ]
}

type Checked = Result<(), TestCaseError>;

/// The broker beside its model.
struct Pair {
    bench: Bench,
    plain: Plain,
}

impl Pair {
    fn new() -> Self {
        let mut pair = Self { bench: Bench::new(), plain: Plain::new() };
        (0..CLIENTS).for_each(|client| pair.subscribe(client));
        pair
    }

    /// A connection of that client, which consumes from every queue.
    fn subscribe(&mut self, client: usize) {
        for queue in 0..QUEUES {
            let (subscription, from) = (subscription(queue), queue_of(queue));
            let command =
                Command::Subscribe { subscription, from, prefetch: PREFETCH, selector: None };
            self.bench.ask(self.plain.connection(client), &command).unwrap();
        }
    }

    fn take(&mut self, op: Op) -> Checked {
        match op {
            Op::Send { queue, persistent } => {
                let message = sized(self.plain.next_number(), durability(persistent));
                let to = queue_of(queue);
                self.bench.ask(99, &Command::Send { to, message }).unwrap();
                self.plain.send(queue, persistent, None);
            }
            Op::Settle { client, queue, returned } => {
                let Some(loan) = self.plain.loan(client, queue) else { return Ok(()) };
                let work = settle(queue, self.plain.tag(loan), returned);
                let Work::Settle { subscription, which, outcome } = work else { unreachable!() };
                let command = Command::Settle { subscription, which, outcome };
                self.bench.ask(self.plain.connection(client), &command).unwrap();
                self.plain.settle(loan, returned, None);
            }
            Op::Begin { client } => {
                let transaction = name(None);
                let said = self.ask(client, &Command::Begin { transaction });
                prop_assert_eq!(said.is_ok(), self.plain.begin(client), "{:?}", said);
            }
            Op::SendIn { client, within, queue, persistent } => {
                let unit = self.plain.unit(client, within);
                let number = self.plain.next_number();
                let message = sized(number, durability(persistent));
                let work = Work::Send { to: queue_of(queue), message };
                self.work(client, within, work, &unit)?;
                if let Ok(unit) = unit {
                    let logged = persistent || matches!(unit, Unit::Branch(_));
                    self.plain.send(queue, logged, Some(unit));
                }
            }
            Op::SettleIn { client, within, queue, returned } => {
                let Some(loan) = self.plain.loan(client, queue) else { return Ok(()) };
                let unit = self.plain.unit(client, within);
                let work = settle(queue, self.plain.tag(loan), returned);
                self.work(client, within, work, &unit)?;
                if let Ok(unit) = unit {
                    self.plain.settle(loan, returned, Some(unit));
                }
            }
            Op::Commit { client } => {
                let transaction = name(None);
                let said = self.ask(client, &Command::Commit { transaction });
                prop_assert_eq!(said.is_ok(), self.plain.end(client, None), "{:?}", said);
            }
            Op::Rollback { client, disposition } => {
                let transaction = name(None);
                let said = self.ask(client, &Command::Rollback { transaction, disposition });
                let expected = self.plain.end(client, Some(disposition));
                prop_assert_eq!(said.is_ok(), expected, "{:?}", said);
            }
            Op::Xa(xid, verb) => self.xa(xid, verb)?,
            Op::Advance(millis) => {
                self.bench.now.0 += millis;
                self.bench.settle_down(Effects::new());
                self.plain.due(self.bench.now.0);
            }
            Op::Close { client } => {
                self.bench.close(self.plain.connection(client));
                self.plain.close(client, self.clock());
                self.absorb()?;
                self.subscribe(client);
            }
            Op::Restart => {
                self.bench.restart();
                self.bench.settle_down(Effects::new());
                self.plain.restart();
                (0..CLIENTS).for_each(|client| self.subscribe(client));
            }
        }
        self.absorb()?;
        self.compare()
    }

    fn clock(&self) -> u64 {
        self.bench.broker.time(Millis(0)).0
    }

    fn ask(&mut self, client: usize, command: &Command) -> Result<Verdict, Refusal> {
        self.bench.ask(self.plain.connection(client), command)
    }

    /// Something is done in a transaction, or refused.
    fn work(
        &mut self,
        client: usize,
        within: In,
        work: Work,
        unit: &Result<Unit, Option<XaError>>,
    ) -> Checked {
        let said = self.ask(client, &Command::Transact { transaction: name(within), work });
        match (said, unit) {
            (Ok(_), Ok(_))
            | (Err(Refusal::NoSuchTransaction), Err(None))
            | (Err(Refusal::RollbackOnly { .. }), Err(Some(_))) => {}
            (Err(Refusal::Xa(found)), Err(Some(expected))) => prop_assert_eq!(found, *expected),
            (said, unit) => prop_assert!(false, "{:?}, not {:?}", said, unit),
        }
        Ok(())
    }

    fn xa(&mut self, number: usize, verb: Verb) -> Checked {
        let xid = Arc::new(Xid::new(1, b"model", &[number as u8]).unwrap());
        let transaction = name(Some(number));
        let (connection, command) = match verb {
            Verb::Start { client, how } => {
                let (timeout, client_of) = (Some(TIMEOUT), "a client".into());
                let start = XaCommand::Start { xid, how, transaction, timeout, client: client_of };
                (self.plain.connection(client), start)
            }
            Verb::End { client, how } => {
                (self.plain.connection(client), XaCommand::End { xid, transaction, how })
            }
            Verb::Prepare => (98, XaCommand::Prepare { xid }),
            Verb::Commit { one_phase } => (98, XaCommand::Commit { xid, one_phase }),
            Verb::Rollback(disposition) => (98, XaCommand::Rollback { xid, disposition }),
            Verb::Decide(resolution) => (98, XaCommand::Decide { xid, resolution }),
            Verb::Forget => (98, XaCommand::Forget { xid }),
        };
        // Branches have their time by the clock as it is, whatever the broker has seen before.
        let expected = self.plain.xa(number, verb, self.bench.now.0);
        let said = match self.bench.xa(connection, command) {
            Ok(Some(Reply::Vote(vote))) => Ok(Some(vote)),
            Ok(Some(Reply::Done)) => Ok(None),
            Err(Refusal::Xa(error)) => Err(error),
            other => {
                prop_assert!(false, "{:?}, not {:?}", other, expected);
                unreachable!("asserted")
            }
        };
        prop_assert_eq!(said, expected, "{:?} of {}", verb, number);
        Ok(())
    }

    /// Takes what has been handed out into the model, which judges it.
    fn absorb(&mut self) -> Checked {
        for given in std::mem::take(&mut self.bench.delivered) {
            let number = match &given.message {
                Lent::Durable { entry, .. } => u64::from(entry.size) - 64,
                Lent::Volatile { message, .. } => message.content.len() as u64,
                Lent::Published { .. } => unreachable!("there is no topic"),
            };
            let by = (given.key.0.0, given.key.1.0 as usize - 1);
            let judged =
                self.plain.deliver(number, by, given.tag, (given.redelivered, given.attempt));
            judged.map_err(TestCaseError::fail)?;
        }
        Ok(())
    }

    fn compare(&mut self) -> Checked {
        self.plain.nobody_waits_in_vain().map_err(TestCaseError::fail)?;
        for queue in 0..QUEUES {
            let depth = self.bench.depth(&queue_name(queue)).map_or(0, |info| info.depth);
            prop_assert_eq!(depth, self.plain.depth(queue), "depth of {}", queue);
        }
        let known = self.bench.recover().into_iter();
        let known: Vec<_> = known.map(|it| (usize::from(it.xid.branch()[0]), it.decided)).collect();
        prop_assert_eq!(known, self.plain.to_recover());
        Ok(())
    }
}

fn subscription(queue: usize) -> SubscriptionId {
    SubscriptionId(1 + queue as u64)
}

fn queue_name(queue: usize) -> String {
    format!("q{queue}")
}

fn queue_of(name: usize) -> Destination {
    queue(&queue_name(name))
}

fn name(within: In) -> TransactionName {
    TransactionName(within.map_or(1, |xid| 10 + xid as u64))
}

fn durability(persistent: bool) -> Durability {
    if persistent { Durability::Persistent } else { Durability::NonPersistent }
}

/// A message that is known by its length.
fn sized(number: u64, durability: Durability) -> Message {
    let content = Bytes::from(vec![0; number as usize]);
    Message {
        durability,
        priority: Priority::DEFAULT,
        expires: None,
        when: When::AtOnce,
        grouped: false,
        content,
    }
}

fn settle(queue: usize, tag: Tag, returned: bool) -> Work {
    let (subscription, which) = (subscription(queue), Which::One(tag));
    let outcome = if returned { Outcome::Returned } else { Outcome::Accepted };
    Work::Settle { subscription, which, outcome }
}

fn play(ops: &[Op]) -> Checked {
    let mut pair = Pair::new();
    ops.iter().try_for_each(|op| pair.take(*op))
}

proptest! {
    #![proptest_config(Config::with_cases(400))]

    #[test]
    fn transactions_and_branches_do_what_a_plain_model_says(
        ops in prop::collection::vec(op(), 1..120),
    ) {
        play(&ops)?;
    }
}

#[test]
fn the_model_notices_defects_of_transactions() {
    for mutant in
        [Mutant::ForgetLent, Mutant::CommitOpen, Mutant::ForgetPrepared, Mutant::ForgetOutcomes]
    {
        mutant::set(Some(mutant));
        let config = Config { cases: 2000, max_shrink_iters: 0, ..Config::default() };
        let config = Config { failure_persistence: None, ..config };
        let ops = prop::collection::vec(op(), 1..120);
        let same = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let result = TestRunner::new_with_rng(config, same).run(&ops, |ops| play(&ops));
        mutant::set(None);
        assert!(result.is_err(), "nobody noticed {mutant:?}");
    }
}

/// A minute of new interleavings: `cargo test --release --lib a_minute -- --ignored --nocapture`.
/// `ESCROW_SECONDS` changes the time.
#[test]
#[ignore = "takes a minute; run it by name"]
fn a_minute_of_interleavings_does_what_a_plain_model_says() {
    let seconds = std::env::var("ESCROW_SECONDS").ok().and_then(|it| it.parse().ok());
    let (began, long) = (Instant::now(), Duration::from_secs(seconds.unwrap_or(60)));
    let mut cases = 0;
    while began.elapsed() < long {
        let config = Config { cases: 500, source_file: Some(file!()), ..Config::default() };
        let run =
            TestRunner::new(config).run(&prop::collection::vec(op(), 1..300), |ops| play(&ops));
        run.unwrap_or_else(|problem| panic!("{problem}"));
        cases += 500;
    }
    println!("{cases} interleavings");
}
