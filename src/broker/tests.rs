//! Promises of the broker's rules, on plain values: no disk, no threads.

mod announcing;
mod bodies;
mod branches;
mod choice;
mod credit;
mod dead;
mod groups;
mod held;
mod model;
mod notices;
mod once;
mod producers;
mod schedule;
mod scheduled_topics;
mod select;
mod topics;
mod transactions;
mod uploads;
mod virtual_topics;
mod wildcards;
mod wildcards_held;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::command::{Command, Outcome, QueueInfo, Refusal, Reply, Which};
use super::fact::{Assignment, Effect, Fact, LaterPage, Lent, Page, PiecesPage, ProducersPage};
use super::select::{SelectRequest, judge};
use super::xa::OutcomePage;
use super::{Base, Broker, Effects, Limits, Verdict, Written};
use crate::ids::{ConnectionId, Lsn, Millis, SubscriptionId, Tag, Token};

use crate::message::{Destination, Durability, Message, Priority};
use crate::record::Record;
use crate::schedule::When;

/// A broker with a log that is only a list.
struct Bench {
    broker: Broker,
    log: Vec<(Written, Record)>,
    contents: BTreeMap<Lsn, Bytes>,
    /// Messages that were judged by selectors.
    judged: usize,
    /// Questions about messages that are not answered yet, where they are to be kept.
    withheld: Option<VecDeque<SelectRequest>>,
    delivered: VecDeque<Assignment>,
    answers: Vec<Result<Reply, Refusal>>,
    now: Millis,
}

impl Bench {
    fn new() -> Self {
        Self::with(Limits { resident: 4, topic_backlog: 2, ..Limits::default() })
    }

    fn with(limits: Limits) -> Self {
        Self {
            broker: Broker::new(Base::default(), limits, 1 << 20),
            log: Vec::new(),
            contents: BTreeMap::new(),
            judged: 0,
            withheld: None,
            delivered: VecDeque::new(),
            answers: Vec::new(),
            now: Millis(1000),
        }
    }

    fn commit(&mut self, facts: Vec<Fact>, effects: &mut Effects) {
        for fact in facts {
            match fact {
                Fact::Log(record, payload) => {
                    let lsn = Lsn(4096 + 64 * self.log.len() as u64);
                    let written = Written { lsn, frame_len: 64 + payload.len() as u32 };
                    self.broker.apply_record(written, &record).unwrap();
                    self.log.push((written, record));
                    self.contents.insert(lsn, payload);
                }
                Fact::Memory(change) => self.broker.apply_change(change, effects),
            }
        }
    }

    /// Lets everything happen that follows by itself.
    fn settle_down(&mut self, mut effects: Effects) {
        loop {
            for effect in std::mem::take(&mut effects) {
                match effect {
                    Effect::Deliver(assignment) => self.delivered.push_back(assignment),
                    Effect::Answer { result, .. } => self.answers.push(result),
                    Effect::Pieces(request) => {
                        let mut facts = Vec::new();
                        let page = PiecesPage { request, rows: Vec::new() };
                        self.broker.give_back(&page, &mut facts);
                        self.commit(facts, &mut effects);
                    }
                    Effect::Later(request) => {
                        self.broker.later_in(&LaterPage { request, rows: Vec::new() });
                    }
                    Effect::Content(request) => {
                        let mut facts = Vec::new();
                        let content = self.contents[&request.birth].clone();
                        self.broker.content_in(self.now, &request, &content, true, &mut facts);
                        self.commit(facts, &mut effects);
                    }
                    Effect::Producers(request) => {
                        self.broker.producers_in(ProducersPage { request, rows: Vec::new() });
                    }
                    Effect::Operations(_) => unreachable!("all of them are in the deltas"),
                    Effect::Select(request) => {
                        self.judged += request.messages.len();
                        match &mut self.withheld {
                            Some(withheld) => withheld.push_back(request),
                            None => self.answer(request),
                        }
                    }
                    Effect::Outcome(request) => {
                        let mut facts = Vec::new();
                        self.broker.outcome_in(OutcomePage { request, row: None }, &mut facts);
                        self.commit(facts, &mut effects);
                    }
                    Effect::Page(request) => {
                        // Nothing was ever checkpointed: the index is empty.
                        let mut facts = Vec::new();
                        self.broker.page_in(&Page { request, rows: Vec::new() }, &mut facts);
                        self.commit(facts, &mut effects);
                    }
                }
            }
            let mut facts = Vec::new();
            let more = self.broker.work(self.now, &mut facts, &mut effects);
            self.commit(facts, &mut effects);
            if !more && effects.is_empty() {
                return;
            }
        }
    }

    fn answer(&mut self, request: SelectRequest) {
        let contents = &self.contents;
        self.broker.selected_in(&judge(request, |lsn| contents[&lsn].clone()));
    }

    fn ask(&mut self, connection: u64, command: &Command) -> Result<Verdict, Refusal> {
        let (verdict, effects) = self.begin_to(connection, command)?;
        self.settle_down(effects);
        Ok(verdict)
    }

    /// Does all of what is asked, in as many parts as it takes.
    fn do_all(&mut self, connection: u64, command: &Command) -> Verdict {
        loop {
            match self.ask(connection, command).unwrap() {
                Verdict::Part => {}
                verdict => return verdict,
            }
        }
    }

    /// Does what is asked, and nothing of what follows by itself.
    fn begin_to(
        &mut self,
        connection: u64,
        command: &Command,
    ) -> Result<(Verdict, Effects), Refusal> {
        let mut facts = Vec::new();
        let id = ConnectionId(connection);
        let verdict = self.broker.decide(self.now, id, Token(1), command, &mut facts)?;
        let mut effects = Effects::new();
        self.commit(facts, &mut effects);
        Ok((verdict, effects))
    }

    fn send(&mut self, name: &str) {
        self.send_as(name, Durability::Persistent, 4, None);
    }

    fn send_as(&mut self, name: &str, durability: Durability, priority: u8, expires: Option<u64>) {
        let message = Message {
            durability,
            priority: Priority::new(priority).unwrap(),
            expires: expires.map(Millis),
            when: When::AtOnce,
            grouped: false,
            content: Bytes::from_static(b"content"),
        };
        self.ask(9, &Command::Send { to: queue(name), message }).unwrap();
    }

    fn subscribe(&mut self, connection: u64, from: Destination, prefetch: u32) {
        let subscription = SubscriptionId(1);
        self.ask(connection, &Command::Subscribe { subscription, from, prefetch, selector: None })
            .unwrap();
    }

    fn close(&mut self, connection: u64) {
        let (mut effects, mut over) = (Effects::new(), false);
        while !over {
            let mut facts = Vec::new();
            over = self.broker.decide_close(self.now, ConnectionId(connection), &mut facts);
            self.commit(facts, &mut effects);
        }
        self.settle_down(effects);
    }

    fn settle(&mut self, connection: u64, which: Which, outcome: Outcome) -> Result<(), Refusal> {
        let subscription = SubscriptionId(1);
        self.ask(connection, &Command::Settle { subscription, which, outcome }).map(drop)
    }

    /// The places handed out since the last call, with who got them.
    fn handed_out(&mut self) -> Vec<(u64, u64)> {
        self.delivered.drain(..).map(|given| (given.key.0.0, seq(&given.message))).collect()
    }

    fn depth(&mut self, name: &str) -> Option<QueueInfo> {
        match self.ask(9, &Command::ListQueues { after: None }) {
            Ok(Verdict::Answer(Reply::Queues(all))) => all.into_iter().find(|q| &*q.name == name),
            other => panic!("{other:?}"),
        }
    }

    /// The same log in a new life.
    fn restart(&mut self) {
        let mut next = Self::with(Limits { resident: 4, ..Limits::default() });
        for (written, record) in std::mem::take(&mut self.log) {
            next.broker.apply_record(written, &record).unwrap();
            next.log.push((written, record));
        }
        next.contents = std::mem::take(&mut self.contents);
        next.now = self.now;
        let epoch = next.broker.epoch() + 1;
        let started = Record::Started { epoch, at: self.now };
        next.commit(vec![Fact::Log(started, Bytes::new())], &mut Effects::new());
        *self = next;
    }
}

fn queue(name: &str) -> Destination {
    Destination::Queue(name.into())
}

fn topic(name: &str) -> Destination {
    Destination::Topic(name.into())
}

fn seq(message: &Lent) -> u64 {
    match message {
        Lent::Durable { place, .. } => place.seq,
        Lent::Volatile { place, .. } => 1000 + place.number,
        Lent::Published { number, .. } => 2000 + number,
    }
}

#[test]
fn competing_consumers_take_turns_within_their_credit() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 2);
    bench.subscribe(2, queue("q"), 1);
    (0..4).for_each(|_| bench.send("q"));
    assert_eq!(bench.handed_out(), [(1, 1), (2, 2), (1, 3)]);
    bench.settle(2, Which::One(Tag(1)), Outcome::Accepted).unwrap();
    assert_eq!(bench.handed_out(), [(2, 4)]);
}

#[test]
fn a_backlog_longer_than_the_window_comes_out_whole_and_in_order() {
    let mut bench = Bench::new();
    (0..20).for_each(|_| bench.send("q"));
    bench.subscribe(1, queue("q"), 100);
    let expected: Vec<_> = (1..=20).map(|seq| (1, seq)).collect();
    assert_eq!(bench.handed_out(), expected);
}

#[test]
fn the_more_urgent_goes_first_even_past_a_full_window() {
    let mut bench = Bench::new();
    (0..6).for_each(|_| bench.send("q"));
    bench.send_as("q", Durability::Persistent, 9, None);
    bench.send_as("q", Durability::NonPersistent, 7, None);
    bench.subscribe(1, queue("q"), 3);
    assert_eq!(bench.handed_out(), [(1, 7), (1, 1001), (1, 1)]);
}

#[test]
fn both_kinds_of_messages_of_one_producer_keep_their_order() {
    let mut bench = Bench::new();
    for durability in [
        Durability::Persistent,
        Durability::NonPersistent,
        Durability::Persistent,
        Durability::NonPersistent,
    ] {
        bench.send_as("q", durability, 4, None);
    }
    bench.subscribe(1, queue("q"), 10);
    assert_eq!(bench.handed_out(), [(1, 1), (1, 1001), (1, 2), (1, 1002)]);
}

#[test]
fn what_a_lost_consumer_held_comes_back_in_its_place_flagged_and_counted() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 2);
    (0..3).for_each(|_| bench.send("q"));
    bench.delivered.clear();
    bench.close(1);
    bench.subscribe(2, queue("q"), 10);
    let again: Vec<_> =
        bench.delivered.iter().map(|d| (seq(&d.message), d.redelivered, d.attempt)).collect();
    assert_eq!(again, [(1, true, 2), (2, true, 2), (3, false, 1)]);
}

#[test]
fn a_new_life_flags_what_was_lent_and_nothing_else() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 2);
    (0..3).for_each(|_| bench.send("q"));
    bench.settle(1, Which::One(Tag(1)), Outcome::Accepted).unwrap();
    bench.close(1);
    bench.send("q");
    bench.restart();
    bench.subscribe(1, queue("q"), 10);
    let again: Vec<_> =
        bench.delivered.iter().map(|d| (seq(&d.message), d.redelivered, d.attempt)).collect();
    assert_eq!(again, [(2, true, 2), (3, true, 2), (4, false, 1)]);
}

#[test]
fn a_cumulative_acknowledgement_covers_what_came_before_and_nothing_after() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 10);
    (0..3).for_each(|_| bench.send("q"));
    bench.settle(1, Which::Through(Tag(2)), Outcome::Accepted).unwrap();
    assert_eq!(bench.depth("q").unwrap().depth, 1);
    let again = bench.settle(1, Which::One(Tag(2)), Outcome::Accepted);
    assert_eq!(again, Err(Refusal::NotOutstanding(Tag(2))));
}

#[test]
fn an_expired_message_goes_by_itself_and_is_never_handed_out() {
    let mut bench = Bench::new();
    bench.send_as("q", Durability::Persistent, 4, Some(1010));
    bench.send_as("q", Durability::NonPersistent, 4, Some(1020));
    bench.send("q");
    assert_eq!(bench.broker.next_deadline(), Some(Millis(1010)));
    bench.now = Millis(1030);
    bench.settle_down(Effects::new());
    assert_eq!(bench.depth("q").unwrap().depth, 1);
    bench.subscribe(1, queue("q"), 10);
    assert_eq!(bench.handed_out(), [(1, 2)]);
}

#[test]
fn a_slow_subscriber_of_a_topic_misses_the_oldest_and_the_others_miss_nothing() {
    let mut bench = Bench::new();
    bench.subscribe(1, topic("t"), 1);
    bench.subscribe(2, topic("t"), 100);
    for _ in 0..5 {
        let message = Message {
            durability: Durability::Persistent,
            priority: Priority::DEFAULT,
            expires: None,
            when: When::AtOnce,
            grouped: false,
            content: Bytes::from_static(b"news"),
        };
        bench.ask(9, &Command::Send { to: topic("t"), message }).unwrap();
    }
    let given = bench.handed_out();
    assert_eq!(given.iter().filter(|(who, _)| *who == 2).count(), 5);
    assert_eq!(bench.broker.missed(), 2);
    bench.settle(1, Which::One(Tag(1)), Outcome::Accepted).unwrap();
    assert_eq!(bench.handed_out(), [(1, 2004)]);
    assert!(bench.log.is_empty(), "a topic without durable subscriptions needs no disk");
}

#[test]
fn a_subscriber_that_never_settles_holds_its_share_of_the_memory_and_no_more() {
    let mut bench = Bench::with(Limits { volatile_bytes: 1 << 20, ..Limits::default() });
    bench.subscribe(1, topic("t"), 30_000);
    for _ in 0..1000 {
        let message = Message {
            durability: Durability::NonPersistent,
            priority: Priority::DEFAULT,
            expires: None,
            when: When::AtOnce,
            grouped: false,
            content: Bytes::new(),
        };
        bench.ask(9, &Command::Send { to: topic("t"), message }).unwrap();
    }
    let held = bench.delivered.len() as u64 * crate::limits::VOLATILE_OVERHEAD_BYTES;
    assert!(held <= (1 << 20) / crate::limits::TOPIC_SHARE, "{held} bytes");
    // Others are served all the while.
    bench.send_as("q", Durability::NonPersistent, 4, None);
}

#[test]
fn a_purge_takes_what_waits_and_leaves_what_is_lent_and_what_comes_later() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 1);
    (0..1000).for_each(|_| bench.send("q"));
    bench.send_as("q", Durability::NonPersistent, 4, None);
    let verdict = bench.ask(9, &Command::Purge { queue: "q".into() });
    assert_eq!(verdict, Ok(Verdict::Later));
    assert_eq!(bench.answers, [Ok(Reply::Removed(1000))]);
    assert_eq!(bench.depth("q").unwrap().depth, 1);
    bench.send("q");
    bench.close(1);
    bench.delivered.clear();
    bench.subscribe(2, queue("q"), 10);
    assert_eq!(bench.handed_out(), [(2, 1), (2, 1001)]);
}

#[test]
fn a_queue_in_use_is_not_deleted_and_an_unused_one_goes_with_its_messages() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 1);
    (0..10).for_each(|_| bench.send("q"));
    let delete = Command::Delete { queue: "q".into() };
    assert_eq!(bench.ask(9, &delete), Err(Refusal::QueueInUse("q".into())));
    bench.close(1);
    bench.ask(9, &delete).unwrap();
    assert_eq!(bench.answers, [Ok(Reply::Removed(10))]);
    assert_eq!(bench.depth("q"), None);
    assert!(bench.broker.live().is_empty());
    assert_eq!(bench.ask(9, &delete), Err(Refusal::NoSuchQueue("q".into())));
    // A queue of the same name is a new one.
    bench.send("q");
    bench.restart();
    assert_eq!(bench.depth("q").unwrap().depth, 1);
}

#[test]
fn a_subscription_id_means_one_subscription() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 1);
    let subscription = SubscriptionId(1);
    let again = Command::Subscribe { subscription, from: queue("q"), prefetch: 1, selector: None };
    assert_eq!(bench.ask(1, &again), Err(Refusal::SubscriptionExists(subscription)));
    let other = Command::Unsubscribe { subscription: SubscriptionId(2) };
    assert_eq!(bench.ask(1, &other), Err(Refusal::NoSuchSubscription(SubscriptionId(2))));
}

#[test]
fn what_exceeds_a_bound_is_refused_and_changes_nothing() {
    let limits = Limits { queues: 1, volatile_bytes: 400, message_bytes: 8, ..Limits::default() };
    let mut bench = Bench::with(limits);
    let message = |size: usize, durability| Message {
        durability,
        priority: Priority::DEFAULT,
        expires: None,
        when: When::AtOnce,
        grouped: false,
        content: vec![0; size].into(),
    };
    let send = |name: &str, size, durability| Command::Send {
        to: queue(name),
        message: message(size, durability),
    };
    bench.ask(1, &send("q", 8, Durability::NonPersistent)).unwrap();
    for (command, refusal) in [
        (send("q", 3, Durability::NonPersistent), Refusal::MemoryFull { limit: 400 }),
        (send("q", 9, Durability::Persistent), Refusal::MessageTooLarge { size: 9, limit: 8 }),
        (send("r", 1, Durability::Persistent), Refusal::TooManyDestinations { limit: 1 }),
        (send("", 1, Durability::Persistent), Refusal::BadDestinationName { limit: 1024 }),
    ] {
        assert_eq!(bench.ask(1, &command), Err(refusal));
    }
    assert_eq!(bench.depth("q").unwrap().depth, 1);
    // What is consumed makes room.
    bench.subscribe(2, queue("q"), 1);
    bench.settle(2, Which::One(Tag(1)), Outcome::Accepted).unwrap();
    bench.ask(1, &send("q", 8, Durability::NonPersistent)).unwrap();
}

#[test]
fn time_in_records_never_runs_backwards() {
    let mut bench = Bench::new();
    bench.send("q");
    bench.now = Millis(10);
    bench.send("q");
    let times: Vec<_> = bench
        .log
        .iter()
        .filter_map(|(_, record)| match record {
            Record::Sent { at, .. } => Some(at.0),
            _ => None,
        })
        .collect();
    assert_eq!(times, [1000, 1000]);
}

#[test]
fn a_record_that_contradicts_the_state_is_refused_by_name() {
    let mut bench = Bench::new();
    bench.send("q");
    let (written, sent) = bench.log.last().cloned().unwrap();
    let error = bench.broker.apply_record(written, &sent).unwrap_err();
    assert_eq!(error.reason, "its sequence number is not the next");
    assert_eq!(bench.depth("q").unwrap().depth, 1);
}

#[test]
fn names_are_shared_not_copied() {
    let mut bench = Bench::new();
    bench.send("q");
    bench.send("q");
    bench.subscribe(1, queue("q"), 2);
    let [first, second] = [bench.delivered.pop_front(), bench.delivered.pop_front()];
    assert!(Arc::ptr_eq(&first.unwrap().source, &second.unwrap().source));
}
