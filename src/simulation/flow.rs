//! Flow control through the whole broker: what waits for room, in which order it gets it, and what
//! is told meanwhile.

mod votes;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use crate::broker::command::{
    Command, Confirm, Delivery, EndAs, Forbidden, Outcome, Output, Refusal, Reply, Request,
    StartAs, Which, Work, XaCommand,
};
use crate::broker::policy::{Limit, Measure, Pattern, Policies, WhenFull};
use crate::broker::{Limits, Room};
use crate::engine::{Input, Mailbox, ParkLimits, Settings};
use crate::ids::{ConnectionId, Millis, StageId, SubscriptionId, Token, TransactionName, Xid};
use crate::io::sim::SimDisk;
use crate::message::{BodyKind, Content, Destination, Durability, LargeHead, Message, Priority};
use crate::schedule::When;

use super::node::{Node, number_of, settings};

mod units;

const NOW: Millis = Millis(1);
const SUBSCRIPTION: SubscriptionId = SubscriptionId(1);

struct Bench {
    node: Node,
    peers: BTreeMap<u64, Peer>,
    /// What has been accepted, in that order.
    seen: Vec<u64>,
}

#[derive(Default)]
struct Peer {
    mailbox: Arc<Mailbox>,
    tokens: u64,
    /// Answers in the order in which they came.
    answers: Vec<(u64, Result<Reply, Refusal>)>,
    delivered: VecDeque<Delivery>,
}

impl Bench {
    fn new(limits: &[(&str, Limit)]) -> Self {
        Self::with(limits, |_| {})
    }

    /// A broker under these limits, and whatever else is to be set.
    fn with(limits: &[(&str, Limit)], set: impl FnOnce(&mut Settings)) -> Self {
        let pattern = |(name, limit): &(&str, Limit)| (Pattern::parse(name).unwrap(), *limit);
        let policies = Policies::new(limits.iter().map(pattern).collect(), WhenFull::Hold).unwrap();
        let mut settings =
            Settings { policies: Arc::new(policies), park: ParkLimits::default(), ..settings() };
        set(&mut settings);
        let disk = SimDisk::new();
        let node = Node::open_with(&disk, 7, NOW, &settings).unwrap();
        Self { node, peers: BTreeMap::new(), seen: Vec::new() }
    }

    fn peer(&mut self, who: u64) -> &mut Peer {
        let inputs = &mut self.node.inputs;
        self.peers.entry(who).or_insert_with(|| {
            let peer = Peer::default();
            inputs.push_back(Input::Connect(ConnectionId(who), Arc::clone(&peer.mailbox)));
            peer
        })
    }

    /// Asks, and gives the number of the question.
    fn ask(&mut self, who: u64, confirm: Confirm, command: Command) -> u64 {
        let peer = self.peer(who);
        peer.tokens += 1;
        let number = peer.tokens;
        let request = Request { token: Token(number), confirm, command };
        let input = Input::Requests(ConnectionId(who), [request].into(), None);
        self.node.inputs.push_back(input);
        number
    }

    fn send(&mut self, who: u64, to: &Destination, number: u64) -> u64 {
        self.ask(who, Confirm::Always, send(to, number, Durability::Persistent))
    }

    fn subscribe(&mut self, who: u64, from: &Destination, prefetch: u32) {
        let from = from.clone();
        let command =
            Command::Subscribe { subscription: SUBSCRIPTION, from, prefetch, selector: None };
        self.ask(who, Confirm::RefusalOnly, command);
        self.quiet();
    }

    /// Accepts the oldest delivery that is outstanding.
    fn accept(&mut self, who: u64) {
        let delivery = self.peer(who).delivered.pop_front().expect("something was delivered");
        let (which, outcome) = (Which::One(delivery.tag), Outcome::Accepted);
        let settle = Command::Settle { subscription: SUBSCRIPTION, which, outcome };
        self.ask(who, Confirm::RefusalOnly, settle);
        self.quiet();
    }

    fn close(&mut self, who: u64) {
        self.peers.remove(&who);
        self.node.inputs.push_back(Input::Close(ConnectionId(who)));
        self.quiet();
    }

    /// Lets everything run until nothing moves.
    fn quiet(&mut self) {
        let mut still = 0;
        while still < 3 {
            let node = &mut self.node;
            let busy = matches!(node.turn(NOW).unwrap(), crate::engine::Turn::Busy)
                | node.log_step()
                | node.room_step()
                | node.job_step(0)
                | !node.inputs.is_empty();
            self.collect();
            still = if busy { 0 } else { still + 1 };
        }
    }

    fn collect(&mut self) {
        for (who, peer) in &mut self.peers {
            let mut outputs = Vec::new();
            peer.mailbox.take(&mut outputs).unwrap();
            for output in outputs {
                match output {
                    Output::Answer { token, result } => peer.answers.push((token.0, result)),
                    Output::Delivery(delivery) => peer.delivered.push_back(delivery),
                    Output::Piece { .. } => {}
                    other => panic!("nobody asked for {other:?}"),
                }
            }
            if peer.mailbox.written(usize::MAX) {
                self.node.inputs.push_back(Input::Writable(ConnectionId(*who)));
            }
        }
    }

    /// The questions that were answered with yes since the last call; none may have been refused.
    fn yes(&mut self, who: u64) -> Vec<u64> {
        let answers = std::mem::take(&mut self.peer(who).answers);
        answers.into_iter().map(|(number, result)| result.map(|_| number).unwrap()).collect()
    }

    /// The one refusal since the last call.
    fn no(&mut self, who: u64) -> Refusal {
        let mut answers = std::mem::take(&mut self.peer(who).answers);
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers.remove(0).1.unwrap_err()
    }

    fn numbers(&mut self, who: u64) -> Vec<u64> {
        self.peer(who).delivered.iter().map(|it| number_of(&it.content).unwrap()).collect()
    }

    fn held(&self) -> (usize, usize) {
        let flow = self.node.engine.flow();
        (flow.held_producers, flow.held_messages)
    }
}

fn queue(name: &str) -> Destination {
    Destination::Queue(name.into())
}

fn send(to: &Destination, number: u64, durability: Durability) -> Command {
    sized(to, number, durability, 10)
}

fn sized(to: &Destination, number: u64, durability: Durability, size: usize) -> Command {
    let content = Content {
        kind: BodyKind::Bytes,
        properties: vec![("number".to_owned(), number.to_string())],
        body: Bytes::from(vec![number as u8; size]),
    };
    let content = content.encode();
    let priority = Priority::DEFAULT;
    Command::Send {
        to: to.clone(),
        message: Message {
            durability,
            priority,
            expires: None,
            when: When::AtOnce,
            grouped: false,
            content,
        },
    }
}

fn at_most(messages: u64, when_full: WhenFull) -> Limit {
    Limit { messages, bytes: u64::MAX, when_full }
}

fn holding(messages: u64) -> [(&'static str, Limit); 1] {
    [("queue://q", at_most(messages, WhenFull::Hold))]
}

#[test]
fn a_send_to_a_full_queue_is_confirmed_when_a_consumer_has_made_room() {
    let (mut bench, q) = (Bench::new(&holding(2)), queue("q"));
    let asked: Vec<_> = (1..=4).map(|number| bench.send(1, &q, number)).collect();
    bench.quiet();
    assert_eq!(bench.yes(1), asked[..2]);
    assert_eq!(bench.held(), (1, 2));
    bench.subscribe(2, &q, 1);
    bench.accept(2);
    assert_eq!(bench.yes(1), asked[2..3]);
    bench.accept(2);
    assert_eq!(bench.yes(1), asked[3..]);
    assert_eq!(bench.held(), (0, 0));
    assert_eq!(bench.numbers(2), [3]);
    bench.accept(2);
    assert_eq!(bench.numbers(2), [4]);
}

#[test]
fn a_vote_that_waited_for_room_and_takes_many_steps_is_heard() {
    let (mut bench, q, w) = (Bench::new(&holding(1)), queue("q"), queue("w"));
    for number in 1..=20 {
        bench.ask(3, Confirm::RefusalOnly, send(&w, number, Durability::NonPersistent));
    }
    bench.send(3, &q, 21);
    bench.subscribe(1, &w, 20);
    assert_eq!(bench.numbers(1).len(), 20);
    let (xid, transaction) = (Arc::new(Xid::new(1, b"g", b"b").unwrap()), TransactionName(7));
    let (how, client) = (StartAs::New, "one".into());
    let start = XaCommand::Start { xid: Arc::clone(&xid), how, transaction, timeout: None, client };
    let last = bench.peer(1).delivered.back().unwrap().tag;
    let (which, outcome) = (Which::Through(last), Outcome::Accepted);
    let settle = Work::Settle { subscription: SUBSCRIPTION, which, outcome };
    let Command::Send { to, message } = send(&q, 22, Durability::Persistent) else {
        unreachable!("it is one")
    };
    let end = XaCommand::End { xid: Arc::clone(&xid), transaction, how: EndAs::Success };
    for command in [
        Command::Xa(start),
        Command::Transact { transaction, work: settle },
        Command::Transact { transaction, work: Work::Send { to, message } },
        Command::Xa(end),
    ] {
        bench.ask(1, Confirm::RefusalOnly, command);
    }
    let vote = bench.ask(1, Confirm::Always, Command::Xa(XaCommand::Prepare { xid }));
    bench.quiet();
    assert_eq!(bench.yes(1), [0; 0], "there is no room for what it sends");
    bench.subscribe(2, &q, 1);
    bench.accept(2);
    assert_eq!(bench.yes(1), [vote]);
}

#[test]
fn a_connection_that_fills_a_queue_and_consumes_from_it_gets_on_by_its_own_acknowledgements() {
    let (mut bench, q) = (Bench::new(&holding(2)), queue("q"));
    bench.subscribe(1, &q, 1);
    let asked: Vec<_> = (1..=50).map(|number| bench.send(1, &q, number)).collect();
    bench.quiet();
    for number in 1..=50 {
        assert_eq!(bench.numbers(1), [number]);
        bench.accept(1);
    }
    assert_eq!(bench.yes(1), asked);
}

#[test]
fn no_yes_overtakes_a_send_that_waits_and_a_no_does() {
    let (mut bench, q, free) = (Bench::new(&holding(1)), queue("q"), queue("free"));
    let first = bench.send(1, &q, 1);
    let waits = bench.send(1, &q, 2);
    let elsewhere = bench.send(1, &free, 3);
    let barrier = bench.ask(1, Confirm::Always, Command::Barrier);
    bench.quiet();
    // What goes elsewhere is done and not said.
    bench.subscribe(2, &free, 10);
    assert_eq!(bench.numbers(2), [3]);
    assert_eq!(bench.yes(1), [first]);
    let subscription = SubscriptionId(9);
    bench.ask(1, Confirm::RefusalOnly, Command::Unsubscribe { subscription });
    bench.quiet();
    assert_eq!(bench.no(1), Refusal::NoSuchSubscription(subscription));
    bench.subscribe(3, &q, 1);
    bench.accept(3);
    assert_eq!(bench.yes(1), [waits, elsewhere, barrier]);
}

#[test]
fn a_yes_for_one_request_alone_waits_for_no_send_but_its_own() {
    let (mut bench, q, free) = (Bench::new(&holding(1)), queue("q"), queue("free"));
    let alone = |to, number| send(to, number, Durability::Persistent);
    let first = bench.ask(1, Confirm::Alone, alone(&q, 1));
    let waits = bench.ask(1, Confirm::Alone, alone(&q, 2));
    let elsewhere = bench.ask(1, Confirm::Alone, alone(&free, 3));
    bench.quiet();
    assert_eq!(bench.yes(1), [first, elsewhere]);
    assert_eq!(bench.held(), (1, 1));
    bench.subscribe(2, &q, 1);
    bench.accept(2);
    assert_eq!(bench.yes(1), [waits]);
    assert_eq!(bench.held(), (0, 0));
}

#[test]
fn whoever_was_parked_first_is_served_first_and_nobody_slips_past_the_line() {
    let (mut bench, q) = (Bench::new(&holding(1)), queue("q"));
    bench.send(1, &q, 1);
    for (who, number) in [(2, 2), (3, 3), (2, 4)] {
        bench.send(who, &q, number);
    }
    bench.subscribe(9, &q, 1);
    // Room comes into being in the same turn as another send.
    let tag = bench.peer(9).delivered[0].tag;
    let settle =
        |outcome| Command::Settle { subscription: SUBSCRIPTION, which: Which::One(tag), outcome };
    bench.ask(9, Confirm::RefusalOnly, settle(Outcome::Accepted));
    bench.send(4, &q, 5);
    bench.quiet();
    bench.peer(9).delivered.pop_front();
    for number in 2..=5 {
        assert_eq!(bench.numbers(9), [number]);
        bench.accept(9);
    }
}

#[test]
fn what_a_lost_connection_had_parked_is_never_stored_and_the_next_in_line_goes_on() {
    let (mut bench, q) = (Bench::new(&holding(1)), queue("q"));
    bench.send(1, &q, 1);
    bench.send(2, &q, 2);
    bench.send(3, &q, 3);
    bench.quiet();
    bench.close(2);
    assert_eq!(bench.held(), (1, 1));
    bench.subscribe(9, &q, 10);
    bench.accept(9);
    assert_eq!(bench.numbers(9), [3]);
    assert_eq!(bench.yes(3), [1]);
    bench.close(3);
    assert_eq!(bench.node.engine.flow().held_bytes, 0);
}

#[test]
fn sends_parked_on_a_queue_that_is_deleted_begin_it_anew() {
    let (mut bench, q) = (Bench::new(&holding(1)), queue("q"));
    bench.send(1, &q, 1);
    bench.send(2, &q, 2);
    bench.quiet();
    bench.ask(9, Confirm::Always, Command::Delete { queue: "q".into() });
    bench.quiet();
    assert_eq!(bench.yes(9), [1]);
    assert_eq!(bench.yes(2), [1]);
    bench.subscribe(3, &q, 10);
    assert_eq!(bench.numbers(3), [2]);
}

#[test]
fn what_waits_is_bounded_for_one_connection_and_for_all() {
    let q = queue("q");
    let five = 5 * send(&q, 1, Durability::Persistent).bytes();
    let park = ParkLimits { messages: 3, bytes: 100_000, bytes_of_all: five };
    let mut bench = Bench::with(&holding(1), |settings| settings.park = park);
    bench.send(9, &q, 0);
    for number in 1..=3 {
        let command = send(&q, number, Durability::Persistent);
        bench.ask(1, Confirm::RefusalOnly, command);
    }
    bench.quiet();
    assert_eq!(bench.held(), (1, 3));
    bench.send(1, &q, 4);
    bench.quiet();
    let limit = Measure::Messages(3);
    let refusal = Refusal::HeldFull { destination: q.clone(), limit, whose: "one connection" };
    assert_eq!(bench.no(1), refusal);
    (2..=4).for_each(|who| {
        bench.send(who, &q, who);
    });
    bench.quiet();
    let limit = Measure::Bytes(five as u64);
    let whose = "all connections together";
    let refusal = Refusal::HeldFull { destination: q, limit, whose };
    assert_eq!(bench.no(4), refusal);
    assert!(bench.node.engine.flow().held_bytes <= five);
    assert_eq!(bench.node.engine.flow().refused, 2);
}

#[test]
fn confirmations_that_wait_are_bounded_so_that_a_session_reads_on() {
    let (mut bench, q) = (Bench::new(&holding(1)), queue("q"));
    bench.send(1, &q, 1);
    bench.send(1, &q, 2);
    for _ in 1..crate::limits::HELD_ANSWERS_MAX {
        bench.ask(1, Confirm::Always, Command::Barrier);
    }
    bench.quiet();
    assert_eq!(bench.yes(1), [1]);
    bench.ask(1, Confirm::Always, Command::Barrier);
    bench.quiet();
    assert!(matches!(bench.no(1), Refusal::HeldFull { .. }));
}

#[test]
fn a_delete_into_which_a_held_send_comes_says_how_much_is_gone() {
    let (mut bench, q) = (Bench::new(&holding(300)), queue("q"));
    (1..=301).for_each(|number| _ = bench.send(1, &q, number));
    bench.quiet();
    assert_eq!(bench.held(), (1, 1));
    bench.ask(2, Confirm::Always, Command::Delete { queue: "q".into() });
    bench.quiet();
    assert_eq!(bench.no(2), Refusal::QueueUsedAgain { queue: "q".into(), removed: 300 });
    bench.subscribe(3, &q, 10);
    assert_eq!(bench.numbers(3).len(), 1);
}

#[test]
fn a_full_queue_refuses_where_its_limit_says_so_and_names_itself() {
    let limits = [("queue://q", at_most(1, WhenFull::Refuse))];
    let (mut bench, q) = (Bench::new(&limits), queue("q"));
    bench.send(1, &q, 1);
    bench.quiet();
    bench.yes(1);
    bench.send(1, &q, 2);
    bench.quiet();
    let said = bench.no(1).to_string();
    assert!(said.contains("queue://q is full") && said.contains("1 messages"), "{said}");
    bench.subscribe(2, &q, 1);
    bench.accept(2);
    bench.send(1, &q, 3);
    bench.quiet();
    assert_eq!(bench.yes(1), [3]);
}

#[test]
fn a_message_that_can_never_fit_is_refused_and_not_held() {
    let limit = Limit { messages: 9, bytes: 1000, when_full: WhenFull::Hold };
    let (mut bench, q) = (Bench::new(&[("queue://q", limit)]), queue("q"));
    bench.ask(1, Confirm::Always, sized(&q, 1, Durability::Persistent, 1000));
    bench.quiet();
    assert!(matches!(bench.no(1), Refusal::NeverFits { limit: 1000, .. }));
    bench.ask(1, Confirm::Always, sized(&q, 2, Durability::Persistent, 800));
    bench.quiet();
    assert_eq!(bench.yes(1), [2]);
    let room = bench.node.engine.broker().room_for(&q, Durability::Persistent, 500).unwrap();
    assert!(matches!(room, Room::Lacking(_)));
    assert!(bench.node.engine.broker().room_for(&q, Durability::Persistent, 5000).is_err());
}

#[test]
fn a_queue_that_drops_the_oldest_drops_what_is_not_persistent_and_counts_it() {
    let limits = [("queue://q", at_most(3, WhenFull::DropOldest))];
    let (mut bench, q) = (Bench::new(&limits), queue("q"));
    for (number, durability) in (1..).zip([
        Durability::NonPersistent,
        Durability::Persistent,
        Durability::NonPersistent,
        Durability::NonPersistent,
        Durability::Persistent,
        Durability::Persistent,
    ]) {
        bench.ask(1, Confirm::Always, send(&q, number, durability));
    }
    bench.quiet();
    assert_eq!(bench.yes(1), [1, 2, 3, 4, 5, 6]);
    assert_eq!(bench.node.engine.flow().dropped.from_queues, 3);
    bench.send(1, &q, 7);
    bench.quiet();
    assert!(matches!(bench.no(1), Refusal::DestinationFull { .. }));
    bench.subscribe(2, &q, 10);
    assert_eq!(bench.numbers(2), [2, 5, 6]);
}

#[test]
fn a_topic_may_hold_its_publishers_until_the_slowest_subscriber_has_room() {
    let limits = [("topic://t", at_most(2, WhenFull::Hold))];
    let (mut bench, t) = (Bench::new(&limits), Destination::Topic("t".into()));
    bench.subscribe(1, &t, 1);
    bench.subscribe(2, &t, 100);
    let asked: Vec<_> = (1..=5).map(|number| bench.send(3, &t, number)).collect();
    bench.quiet();
    assert_eq!(bench.yes(3), asked[..3]);
    bench.accept(1);
    assert_eq!(bench.yes(3), asked[3..4]);
    // Nobody else is as slow.
    bench.close(1);
    assert_eq!(bench.yes(3), asked[4..]);
    assert_eq!(bench.numbers(2), [1, 2, 3, 4, 5]);
    assert_eq!(bench.node.engine.flow().dropped.from_topics, 0);
}

#[test]
fn publishers_to_very_many_wait_for_the_last_of_them_and_everyone_gets_one_order() {
    let (mut bench, t) = (Bench::new(&[]), Destination::Topic("t".into()));
    for who in 1..=4 {
        bench.subscribe(who, &t, 100);
    }
    let mut asked: Vec<_> = (1..=3).map(|number| bench.send(9, &t, number)).collect();
    bench.ask(9, Confirm::RefusalOnly, send(&t, 4, Durability::NonPersistent));
    asked.push(bench.ask(9, Confirm::Alone, send(&t, 5, Durability::NonPersistent)));
    asked.push(bench.ask(9, Confirm::Always, send(&queue("q"), 6, Durability::NonPersistent)));
    bench.send(8, &t, 7);
    bench.quiet();
    assert_eq!(bench.yes(9), asked);
    let order = bench.numbers(1);
    assert!(order.iter().filter(|number| **number < 7).copied().eq(1..=5), "{order:?}");
    assert_eq!(order.len(), 6);
    for who in 2..=4 {
        assert_eq!(bench.numbers(who), order);
    }
}

#[test]
fn full_memory_holds_what_is_not_persistent_until_something_is_consumed() {
    let mut bench = Bench::with(&[], |settings| {
        settings.limits = Limits { volatile_bytes: 1000, ..settings.limits };
    });
    let (a, b) = (queue("a"), queue("b"));
    let asked: Vec<_> = [(&a, 1), (&a, 2), (&b, 3), (&a, 4)]
        .map(|(to, number)| {
            bench.ask(1, Confirm::Always, send(to, number, Durability::NonPersistent))
        })
        .into();
    bench.quiet();
    assert_eq!(bench.yes(1), asked[..2]);
    bench.subscribe(2, &a, 1);
    bench.accept(2);
    assert_eq!(bench.yes(1), asked[2..3]);
    bench.accept(2);
    assert_eq!(bench.yes(1), asked[3..]);
    let too_large = sized(&a, 5, Durability::NonPersistent, 1000);
    bench.ask(1, Confirm::Always, too_large);
    bench.quiet();
    assert!(matches!(bench.no(1), Refusal::MemoryFull { limit: 1000 }));
}

#[test]
fn a_queue_that_drops_the_oldest_does_not_wait_for_the_memory_of_others() {
    let limits = [("queue://ticker", at_most(9, WhenFull::DropOldest))];
    let mut bench = Bench::with(&limits, |settings| {
        settings.limits = Limits { volatile_bytes: 1000, ..settings.limits };
    });
    let (ticker, other) = (queue("ticker"), queue("other"));
    let asked = [(&ticker, 1), (&other, 2), (&other, 3), (&ticker, 4)].map(|(to, number)| {
        bench.ask(1, Confirm::Alone, send(to, number, Durability::NonPersistent))
    });
    bench.quiet();
    assert_eq!(bench.yes(1), [asked[0], asked[1], asked[3]]);
    assert_eq!(bench.held().0, 1, "the one to the other queue");
    bench.subscribe(2, &ticker, 9);
    assert_eq!(bench.numbers(2), [4]);
}

#[test]
fn the_pieces_of_a_large_body_are_taken_while_sends_wait_and_its_end_waits_behind_them() {
    let (mut bench, q) = (Bench::new(&holding(1)), queue("q"));
    let first = bench.send(1, &q, 1);
    let waits = bench.send(1, &q, 2);
    let (stage, bytes) = (StageId(1), 3000);
    bench.quiet();
    assert_eq!(bench.yes(1), [first]);
    let piece = |number| Command::StagePiece { stage, number, bytes: vec![3; 1000].into() };
    let stages = Command::Stage { stage, to: q.clone(), bytes };
    let mut paced = vec![bench.ask(1, Confirm::Always, stages)];
    paced.extend((1..=3).map(|number| bench.ask(1, Confirm::Always, piece(number))));
    let properties = vec![("number".to_owned(), "3".to_owned())];
    let content = LargeHead { kind: BodyKind::Bytes, properties, bytes }.encode();
    let (durability, priority) = (Durability::Persistent, Priority::DEFAULT);
    let message = Message {
        durability,
        priority,
        expires: None,
        when: When::AtOnce,
        grouped: false,
        content,
    };
    let ends = bench.ask(1, Confirm::Always, Command::SendStaged { stage, to: q.clone(), message });
    bench.quiet();
    // Their answers say nothing to the peer: the session reads on by them, and comes to its ACKs.
    assert_eq!(bench.yes(1), paced);
    assert_eq!(bench.held(), (1, 2));
    bench.subscribe(2, &q, 10);
    bench.accept(2);
    assert_eq!(bench.yes(1), [waits]);
    bench.accept(2);
    assert_eq!(bench.yes(1), [ends]);
}

#[test]
fn a_large_body_that_can_never_fit_is_refused_before_it_comes() {
    let limit = Limit { messages: 9, bytes: 5000, when_full: WhenFull::Hold };
    let (mut bench, to) = (Bench::new(&[("queue://q", limit)]), queue("q"));
    bench.ask(1, Confirm::Always, Command::Stage { stage: StageId(1), to, bytes: 6000 });
    bench.quiet();
    assert!(matches!(bench.no(1), Refusal::NeverFits { limit: 5000, .. }));
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Send { who: u64, queue: usize, persistent: bool, confirm: bool },
    Accept { who: u64 },
    Turns(u8),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0u64..4, 0usize..3, any::<bool>(), any::<bool>()).prop_map(
            |(who, queue, persistent, confirm)| Act::Send { who, queue, persistent, confirm }
        ),
        3 => (0u64..4).prop_map(|who| Act::Accept { who }),
        2 => (0u8..6).prop_map(Act::Turns),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Everyone sends to full queues and consumes from them on one connection each: nothing stands
    /// still for ever, every message comes out once, each producer's in order, no queue ever holds
    /// more than its limit, and every confirmation comes, in order.
    #[test]
    fn limited_queues_lose_nothing_and_never_stand_still(
        acts in proptest::collection::vec(act(), 1..150),
    ) {
        let bytes = Limit { messages: u64::MAX, bytes: 700, when_full: WhenFull::Hold };
        let limits = [
            ("queue://q0", at_most(1, WhenFull::Hold)),
            ("queue://q1", at_most(3, WhenFull::Hold)),
            ("queue://q2", bytes),
        ];
        let mut bench = Bench::new(&limits);
        let queues = [queue("q0"), queue("q1"), queue("q2")];
        for who in 0..3 {
            bench.subscribe(who, &queues[who as usize], 2);
        }
        let (mut sent, mut confirmed) = (0, BTreeMap::<u64, Vec<u64>>::new());
        let mut origin = BTreeMap::new();
        for act in acts {
            match act {
                Act::Send { who, queue, persistent, confirm } => {
                    sent += 1;
                    origin.insert(sent, (who, queue));
                    let durability =
                        if persistent { Durability::Persistent } else { Durability::NonPersistent };
                    let mode = if confirm { Confirm::Always } else { Confirm::RefusalOnly };
                    let number = bench.ask(who, mode, send(&queues[queue], sent, durability));
                    if confirm {
                        confirmed.entry(who).or_default().push(number);
                    }
                }
                Act::Accept { who } => settle_one(&mut bench, who),
                Act::Turns(count) => for _ in 0..count {
                    bench.node.turn(NOW).unwrap();
                    bench.node.log_step();
                    bench.collect();
                },
            }
            for (name, limit) in [("q0", 1), ("q1", 3)] {
                let held = bench.node.engine.broker().holds(name);
                prop_assert!(held.0 <= limit, "{name} holds {held:?}");
            }
            prop_assert!(bench.node.engine.broker().holds("q2").1 <= 700);
        }
        bench.quiet();
        while (0..4).any(|who| !bench.peer(who).delivered.is_empty()) {
            (0..4).for_each(|who| settle_one(&mut bench, who));
            bench.quiet();
        }
        prop_assert_eq!(bench.held(), (0, 0));
        for who in 0..4 {
            prop_assert_eq!(bench.yes(who), confirmed.remove(&who).unwrap_or_default());
        }
        let seen = &bench.seen;
        prop_assert_eq!(seen.len() as u64, sent, "all came out once");
        let mut last = BTreeMap::new();
        for number in seen {
            let before = last.insert(origin[number], *number);
            prop_assert!(before.is_none_or(|before| before < *number), "{seen:?} {origin:?}");
        }
    }
}

fn settle_one(bench: &mut Bench, who: u64) {
    if let Some(delivery) = bench.peer(who).delivered.pop_front() {
        bench.seen.push(number_of(&delivery.content).unwrap());
        let (which, outcome) = (Which::One(delivery.tag), Outcome::Accepted);
        let settle = Command::Settle { subscription: SUBSCRIPTION, which, outcome };
        bench.ask(who, Confirm::RefusalOnly, settle);
    }
}
