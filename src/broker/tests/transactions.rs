//! Promises of transactions: all or nothing, in every way they can end.

use super::*;
use crate::broker::command::{Disposition, EndAs, StartAs, Work, XaCommand};
use crate::ids::{TransactionName, Xid};

const T: TransactionName = TransactionName(1);
const SUBSCRIPTION: SubscriptionId = SubscriptionId(1);

fn text(durability: Durability) -> Message {
    let content = Bytes::from_static(b"content");
    Message {
        durability,
        priority: Priority::DEFAULT,
        expires: None,
        when: When::AtOnce,
        grouped: false,
        content,
    }
}

impl Bench {
    fn begin(&mut self, connection: u64) {
        self.ask(connection, &Command::Begin { transaction: T }).unwrap();
    }

    fn work(&mut self, connection: u64, work: Work) -> Result<Verdict, Refusal> {
        self.ask(connection, &Command::Transact { transaction: T, work })
    }

    fn send_in(&mut self, connection: u64, to: Destination) {
        let work = Work::Send { to, message: text(Durability::Persistent) };
        self.work(connection, work).unwrap();
    }

    fn take(&mut self, connection: u64, which: Which) -> Result<(), Refusal> {
        let (subscription, outcome) = (SUBSCRIPTION, Outcome::Accepted);
        let work = Work::Settle { subscription, which, outcome };
        while let Verdict::Part = self.work(connection, work.clone())? {}
        Ok(())
    }

    fn end(&mut self, connection: u64) -> Result<Verdict, Refusal> {
        self.ask(connection, &Command::Commit { transaction: T })
    }

    fn roll_back(&mut self, connection: u64, disposition: Disposition) {
        self.ask(connection, &Command::Rollback { transaction: T, disposition }).unwrap();
    }

    /// Messages that wait or are somebody's, and how many transactions are not over.
    fn left(&mut self, name: &str) -> (u64, usize) {
        let depth = self.depth(name).map_or(0, |queue| queue.depth);
        (depth, self.broker.transactions(&Default::default()).0.len())
    }

    pub(super) fn live_bytes_now(&self) -> u64 {
        self.broker.live().values().sum()
    }
}

#[test]
fn what_is_sent_in_a_transaction_is_seen_at_its_commit_and_not_before() {
    let mut bench = Bench::new();
    bench.subscribe(2, queue("q"), 10);
    bench.subscribe(3, topic("t"), 10);
    bench.begin(1);
    bench.send_in(1, queue("q"));
    bench.send_in(1, topic("t"));
    let work = Work::Send { to: queue("q"), message: text(Durability::NonPersistent) };
    bench.work(1, work).unwrap();
    assert_eq!(bench.handed_out(), []);
    assert_eq!(bench.left("q"), (0, 1));
    bench.end(1).unwrap();
    let mut given = bench.handed_out();
    given.sort_unstable();
    assert_eq!(given, [(2, 1), (2, 1002), (3, 2001)]);
    assert_eq!(bench.left("q"), (2, 0));
    assert_eq!(bench.end(1), Err(Refusal::NoSuchTransaction));
}

#[test]
fn a_rollback_leaves_nothing_of_what_was_sent() {
    let mut bench = Bench::new();
    bench.begin(1);
    for _ in 0..3 {
        bench.send_in(1, queue("q"));
    }
    let work = Work::Send { to: queue("q"), message: text(Durability::NonPersistent) };
    bench.work(1, work).unwrap();
    bench.roll_back(1, Disposition::Return);
    assert_eq!(bench.left("q"), (0, 0));
    assert_eq!(bench.live_bytes_now(), 0);
    assert_eq!(bench.broker.volatile_bytes(), 0);
}

#[test]
fn what_a_transaction_has_settled_is_nobody_elses_and_gives_credit_back() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 2);
    (0..4).for_each(|_| bench.send("q"));
    assert_eq!(bench.handed_out(), [(1, 1), (1, 2)]);
    bench.begin(1);
    bench.take(1, Which::Through(Tag(2))).unwrap();
    assert_eq!(bench.handed_out(), [(1, 3), (1, 4)]);
    bench.subscribe(2, queue("q"), 10);
    assert_eq!(bench.handed_out(), []);
    assert_eq!(bench.left("q"), (4, 1));
    bench.end(1).unwrap();
    assert_eq!(bench.left("q"), (2, 0));
    assert_eq!(bench.handed_out(), []);
}

#[test]
fn a_rollback_returns_what_was_settled_to_its_place_and_counts_it() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 10);
    (0..3).for_each(|_| bench.send("q"));
    bench.send_as("q", Durability::NonPersistent, 4, None);
    bench.delivered.clear();
    bench.begin(1);
    bench.take(1, Which::Through(Tag(2))).unwrap();
    bench.take(1, Which::One(Tag(4))).unwrap();
    bench.roll_back(1, Disposition::Return);
    let again: Vec<_> =
        bench.delivered.drain(..).map(|d| (seq(&d.message), d.redelivered, d.attempt)).collect();
    assert_eq!(again, [(1, true, 2), (2, true, 2), (1001, true, 2)]);
}

#[test]
fn a_rollback_that_keeps_leaves_deliveries_as_they_were() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 10);
    bench.subscribe(2, topic("t"), 10);
    (0..2).for_each(|_| bench.send("q"));
    bench.delivered.clear();
    bench.begin(1);
    bench.take(1, Which::Through(Tag(2))).unwrap();
    bench.roll_back(1, Disposition::Keep);
    assert_eq!(bench.handed_out(), []);
    // They can be settled again, by the same names, in another transaction or in none.
    bench.begin(1);
    bench.take(1, Which::One(Tag(1))).unwrap();
    bench.end(1).unwrap();
    bench.settle(1, Which::One(Tag(2)), Outcome::Accepted).unwrap();
    assert_eq!(bench.left("q"), (0, 0));
}

#[test]
fn a_rollback_that_keeps_returns_what_an_ended_subscription_had() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 10);
    bench.send("q");
    bench.delivered.clear();
    bench.begin(1);
    bench.take(1, Which::One(Tag(1))).unwrap();
    bench.ask(1, &Command::Unsubscribe { subscription: SUBSCRIPTION }).unwrap();
    bench.subscribe(2, queue("q"), 10);
    assert_eq!(bench.handed_out(), []);
    bench.roll_back(1, Disposition::Keep);
    let given = bench.delivered.pop_front().unwrap();
    assert_eq!((given.key.0.0, given.attempt), (2, 2));
}

#[test]
fn the_end_of_a_connection_rolls_its_transactions_back() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 10);
    bench.send("q");
    bench.send_as("q", Durability::NonPersistent, 4, None);
    bench.delivered.clear();
    bench.begin(1);
    bench.take(1, Which::Through(Tag(2))).unwrap();
    bench.send_in(1, queue("r"));
    bench.close(1);
    assert_eq!(bench.left("r"), (0, 0));
    bench.subscribe(2, queue("q"), 10);
    assert_eq!(bench.handed_out(), [(2, 1), (2, 1001)]);
}

#[test]
fn a_new_life_rolls_back_what_had_no_outcome_and_finishes_what_had() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 100);
    (0..30).for_each(|_| bench.send("q"));
    for connection in [1, 2] {
        bench.begin(connection);
        (0..20).for_each(|_| bench.send_in(connection, queue("r")));
    }
    bench.take(1, Which::Through(Tag(30))).unwrap();
    // The outcome is known, and none of the operations has had it.
    let mut facts = Vec::new();
    let commit = Command::Commit { transaction: T };
    let verdict = bench.broker.decide(bench.now, ConnectionId(1), Token(1), &commit, &mut facts);
    assert_eq!(verdict, Ok(Verdict::Fence));
    bench.commit(facts, &mut Effects::new());
    bench.restart();
    bench.settle_down(Effects::new());
    assert_eq!(bench.left("q"), (0, 0));
    assert_eq!(bench.left("r"), (20, 0));
    bench.subscribe(3, queue("r"), 100);
    assert_eq!(bench.handed_out(), (1..=20).map(|seq| (3, seq)).collect::<Vec<_>>());
}

#[test]
fn a_large_transaction_is_answered_when_all_of_it_is_done_and_in_order() {
    let mut bench = Bench::new();
    bench.begin(1);
    (0..100).for_each(|_| bench.send_in(1, queue("q")));
    assert_eq!(bench.end(1), Ok(Verdict::Fence));
    assert_eq!(bench.answers, [Ok(Reply::Done)]);
    assert_eq!(bench.left("q"), (100, 0));
    bench.subscribe(2, queue("q"), 1000);
    assert_eq!(bench.handed_out(), (1..=100).map(|seq| (2, seq)).collect::<Vec<_>>());
    let largest = bench.log.iter().map(|(_, record)| record.size_max()).max().unwrap();
    assert!(largest < 1000, "{largest}");
}

#[test]
fn a_refused_part_makes_a_transaction_rollback_only() {
    let mut bench = Bench::new();
    bench.begin(1);
    bench.send_in(1, queue("q"));
    let refusal = bench.take(1, Which::One(Tag(7))).unwrap_err();
    let mut facts = Vec::new();
    bench.broker.decide_doom(ConnectionId(1), T, &refusal, &mut facts);
    bench.commit(facts, &mut Effects::new());
    let because = Box::new(refusal);
    assert_eq!(bench.end(1), Err(Refusal::RollbackOnly { because }));
    bench.roll_back(1, Disposition::Return);
    assert_eq!(bench.left("q"), (0, 0));
}

#[test]
fn a_transaction_beyond_its_limit_is_refused() {
    let limits = Limits { transaction_operations: 3, ..Limits::default() };
    let mut bench = Bench::with(limits);
    bench.begin(1);
    (0..3).for_each(|_| bench.send_in(1, queue("q")));
    let work = Work::Send { to: queue("q"), message: text(Durability::Persistent) };
    assert_eq!(bench.work(1, work), Err(Refusal::TransactionTooLarge { limit: 3 }));
}

#[test]
fn a_branch_in_which_something_was_refused_says_what_at_its_end_and_its_vote() {
    let mut bench = Bench::new();
    let xid = Arc::new(Xid::new(1, b"global", b"branch").unwrap());
    let (how, client) = (StartAs::New, Arc::from("a client"));
    let start =
        XaCommand::Start { xid: Arc::clone(&xid), how, transaction: T, timeout: None, client };
    bench.xa(1, start).unwrap();
    bench.send_in(1, queue("q"));
    let refusal = Refusal::TransactionTooLarge { limit: 1 };
    let mut facts = Vec::new();
    bench.broker.decide_doom(ConnectionId(1), T, &refusal, &mut facts);
    bench.commit(facts, &mut Effects::new());
    let said = Err(Refusal::RollbackOnly { because: Box::new(refusal) });
    let end = XaCommand::End { xid: Arc::clone(&xid), transaction: T, how: EndAs::Success };
    assert_eq!(bench.xa(1, end), said);
    assert_eq!(bench.xa(2, XaCommand::Prepare { xid }), said);
    assert_eq!(bench.left("q"), (0, 0));
}

#[test]
fn names_belong_to_their_connection_and_are_used_once_at_a_time() {
    let mut bench = Bench::new();
    bench.begin(1);
    bench.begin(2);
    let again = bench.ask(1, &Command::Begin { transaction: T });
    assert_eq!(again, Err(Refusal::TransactionExists));
    assert_eq!(bench.end(3), Err(Refusal::NoSuchTransaction));
    bench.end(1).unwrap();
    bench.begin(1);
}

#[test]
fn a_queue_that_a_transaction_needs_is_not_deleted_and_a_purge_leaves_its_messages() {
    let mut bench = Bench::new();
    bench.begin(1);
    bench.send_in(1, queue("sent"));
    let delete = |name: &str| Command::Delete { queue: name.into() };
    let refused = |name: &str| Err(Refusal::QueueInTransactions(name.into()));
    assert_eq!(bench.ask(9, &delete("sent")), refused("sent"));
    bench.subscribe(1, queue("taken"), 1);
    bench.send("taken");
    bench.take(1, Which::One(Tag(1))).unwrap();
    bench.ask(1, &Command::Unsubscribe { subscription: SUBSCRIPTION }).unwrap();
    bench.ask(9, &Command::Purge { queue: "taken".into() }).unwrap();
    assert_eq!(bench.ask(9, &delete("taken")), refused("taken"));
    assert_eq!(bench.left("taken"), (1, 1));
    bench.roll_back(1, Disposition::Return);
    assert_eq!(bench.left("taken"), (1, 0));
}

#[test]
fn a_transaction_that_sends_to_too_many_queues_is_refused_so_that_its_commit_is_short() {
    let mut bench = Bench::new();
    bench.begin(1);
    let limit = crate::limits::TRANSACTION_WIDTH_MAX;
    (0..limit).for_each(|number| bench.send_in(1, queue(&format!("q{number}"))));
    let work = |to| Work::Send { to, message: text(Durability::Persistent) };
    let refused = Err(Refusal::TransactionTooWide { limit });
    assert_eq!(bench.work(1, work(queue("another"))), refused);
    let topic = Destination::Topic("t".into());
    assert_eq!(bench.work(1, work(topic)), refused);
    bench.send_in(1, queue("q0"));
}

#[test]
fn a_connection_with_many_transactions_ends_them_some_at_a_time() {
    let (mut bench, each, most) = (Bench::new(), 200, crate::limits::STEP_MESSAGES_MAX);
    bench.subscribe(1, queue("q"), 4000);
    for number in 0..10 {
        (0..each).for_each(|_| bench.send_as("q", Durability::NonPersistent, 4, None));
        let transaction = TransactionName(number);
        bench.ask(1, &Command::Begin { transaction }).unwrap();
        let which = Which::Range(Tag(number * each + 1), Tag((number + 1) * each));
        let (subscription, outcome) = (SUBSCRIPTION, Outcome::Accepted);
        let work = Work::Settle { subscription, which, outcome };
        bench.ask(1, &Command::Transact { transaction, work }).unwrap();
    }
    let (mut over, mut steps) = (false, 0);
    while !over {
        let (mut facts, mut effects) = (Vec::new(), Effects::new());
        over = bench.broker.decide_close(bench.now, ConnectionId(1), &mut facts);
        let touched: usize = facts.iter().map(Fact::messages).sum();
        assert!(touched <= 2 * most, "{touched} in one step");
        bench.commit(facts, &mut effects);
        bench.settle_down(effects);
        steps += 1;
    }
    assert!(steps > 5, "in {steps} steps");
    bench.delivered.clear();
    bench.subscribe(2, queue("q"), 4000);
    assert_eq!(bench.handed_out().len(), 2000);
}
