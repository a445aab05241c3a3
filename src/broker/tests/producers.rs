//! Promises of producers that count: each number is there once, and forgotten when it may be.

use super::*;
use crate::broker::command::{Disposition, Once, Work};
use crate::broker::delta::Delta;
use crate::broker::sequences::Seen;
use crate::identity::{Identity, Numbered};
use crate::ids::TransactionName;
use crate::limits;
use crate::record::ProducersRecord;
use crate::schedule::When;

const T: TransactionName = TransactionName(1);
const ONCE: Result<Verdict, Refusal> = Ok(Verdict::Answer(Reply::Done));
const AGAIN: Result<Verdict, Refusal> = Ok(Verdict::Answer(Reply::Repeated));
const HOUR: u64 = 3_600_000;

fn message() -> Message {
    let content = Bytes::from_static(b"content");
    let durability = Durability::NonPersistent;
    Message {
        durability,
        priority: Priority::DEFAULT,
        expires: None,
        when: When::AtOnce,
        grouped: false,
        content,
    }
}

fn number(producer: &str, sequence: u64) -> Numbered {
    Numbered { producer: Identity::of(producer.as_bytes()), sequence }
}

fn send(name: &str, producer: &str, sequence: u64) -> Command {
    let command = Command::Send { to: queue(name), message: message() };
    Command::Once(Once::numbered(number(producer, sequence), command))
}

fn send_in(name: &str, producer: &str, sequence: u64) -> Command {
    let work = Work::Send { to: queue(name), message: message() };
    let command = Command::Transact { transaction: T, work };
    Command::Once(Once::numbered(number(producer, sequence), command))
}

fn rollback() -> Command {
    Command::Rollback { transaction: T, disposition: Disposition::Return }
}

impl Bench {
    fn rest(&mut self) {
        self.settle_down(Effects::new());
    }

    fn messages(&mut self) -> u64 {
        self.depth("q").map_or(0, |queue| queue.depth)
    }

    fn begin_it(&mut self) {
        self.ask(1, &Command::Begin { transaction: T }).unwrap();
    }

    fn commit_it(&mut self) {
        assert_eq!(self.ask(1, &Command::Commit { transaction: T }), ONCE);
    }

    /// A crash, and a new life from the log alone.
    fn live_on(&mut self, limits: Limits) {
        self.broker = Broker::new(Base::default(), limits, 1 << 20);
        for (written, record) in std::mem::take(&mut self.log) {
            self.broker.apply_record(written, &record).unwrap();
            self.log.push((written, record));
        }
        self.now = Millis(self.now.0 + 1);
        let epoch = self.broker.epoch() + 1;
        let mut effects = Effects::new();
        let started = Fact::Log(Record::Started { epoch, at: self.now }, Bytes::new());
        self.commit(vec![started], &mut effects);
        self.rest();
    }

    fn producers(&self) -> usize {
        assert!(self.broker.producers_agree(&BTreeMap::new(), &BTreeMap::new()));
        self.broker.producer_counts().known
    }

    fn pass(&mut self, millis: u64) {
        self.now = Millis(self.now.0 + millis);
        self.rest();
    }
}

#[test]
fn a_number_sent_again_is_there_once_wherever_it_goes_and_whoever_sends_it() {
    let mut bench = Bench::new();
    assert_eq!(bench.ask(1, &send("q", "p", 7)), ONCE);
    assert_eq!(bench.ask(1, &send("q", "p", 7)), AGAIN);
    assert_eq!(bench.ask(2, &send("other", "p", 7)), AGAIN);
    assert_eq!(bench.ask(2, &send("q", "another", 7)), ONCE);
    // What comes late is new.
    assert_eq!(bench.ask(1, &send("q", "p", 3)), ONCE);
    assert_eq!(bench.messages(), 3);
    bench.live_on(Limits::default());
    for (producer, sequence) in [("p", 7), ("p", 3), ("another", 7)] {
        assert_eq!(bench.ask(1, &send("q", producer, sequence)), AGAIN);
    }
    assert_eq!(bench.ask(1, &send("q", "p", 5)), ONCE);
    assert_eq!((bench.messages(), bench.producers()), (4, 2));
    assert_eq!(bench.broker.name_counts().repeated, 3);
}

#[test]
fn a_number_on_a_topic_is_refused_where_nobody_keeps_what_is_published() {
    let mut bench = Bench::new();
    let command = Command::Send { to: topic("t"), message: message() };
    let once = Once::numbered(number("p", 1), command);
    let refused = bench.ask(1, &Command::Once(once.clone()));
    assert_eq!(refused, Err(Refusal::NobodyKeeps));
    let lenient = Command::Once(once.leniently());
    assert_eq!(bench.ask(1, &lenient), ONCE);
    assert_eq!(bench.ask(1, &lenient), ONCE);
}

#[test]
fn a_message_that_is_to_wait_has_its_number_too() {
    let mut bench = Bench::new();
    let message = Message { when: When::After(1000), ..message() };
    let command = Command::Send { to: queue("q"), message };
    let command = Command::Once(Once::numbered(number("p", 1), command));
    assert_eq!(bench.ask(1, &command), ONCE);
    bench.live_on(Limits::default());
    assert_eq!(bench.ask(1, &command), AGAIN);
    assert_eq!(bench.messages(), 1);
}

#[test]
fn a_number_in_a_transaction_is_taken_by_its_commit_and_free_after_its_rollback() {
    let mut bench = Bench::new();
    bench.begin_it();
    assert_eq!(bench.ask(1, &send_in("q", "p", 1)), ONCE);
    assert_eq!(bench.ask(1, &send_in("q", "p", 1)), AGAIN);
    assert_eq!(bench.ask(2, &send("q", "p", 1)), Err(Refusal::NumberPending));
    assert_eq!(bench.ask(2, &send("q", "p", 2)), ONCE);
    bench.ask(1, &rollback()).unwrap();
    assert_eq!(bench.ask(2, &send("q", "p", 1)), ONCE);
    bench.begin_it();
    assert_eq!(bench.ask(1, &send_in("q", "p", 1)), AGAIN);
    assert_eq!(bench.ask(1, &send_in("q", "p", 3)), ONCE);
    bench.commit_it();
    assert_eq!(bench.ask(2, &send("q", "p", 3)), AGAIN);
    assert_eq!(bench.messages(), 3);
    bench.live_on(Limits::default());
    assert_eq!(bench.ask(2, &send("q", "p", 3)), AGAIN);
    // What the end of a life cuts short is free in the next.
    bench.begin_it();
    assert_eq!(bench.ask(1, &send_in("q", "p", 4)), ONCE);
    bench.live_on(Limits::default());
    assert_eq!(bench.ask(2, &send("q", "p", 4)), ONCE);
    assert_eq!((bench.messages(), bench.producers()), (4, 1));
}

#[test]
fn a_large_transaction_is_sent_again_whole_whether_it_was_committed_or_not() {
    let mut bench = Bench::new();
    let count = 3 * limits::STEP_MESSAGES_MAX as u64;
    for end in [rollback(), Command::Commit { transaction: T }] {
        bench.begin_it();
        for sequence in 0..count {
            assert_eq!(bench.ask(1, &send_in("q", "p", sequence)), ONCE);
        }
        assert_eq!(bench.ask(1, &end), Ok(Verdict::Fence));
    }
    assert_eq!(bench.ask(2, &send("q", "p", count)), ONCE);
    bench.begin_it();
    for sequence in 0..count {
        assert_eq!(bench.ask(1, &send_in("q", "p", sequence)), AGAIN);
    }
    bench.commit_it();
    assert_eq!((bench.messages(), bench.producers()), (count + 1, 1));
}

#[test]
fn a_number_below_the_window_is_neither_new_nor_a_repetition() {
    let mut bench = Bench::new();
    let many = limits::PRODUCER_SPANS_MAX as u64 + 1;
    for sequence in (0..many).map(|it| it * 1000) {
        assert_eq!(bench.ask(1, &send("q", "p", sequence)), ONCE);
    }
    for old in [0, 1, 63] {
        let refused = Err(Refusal::BelowWindow { sequence: old, floor: 64 });
        assert_eq!(bench.ask(1, &send("q", "p", old)), refused);
    }
    assert_eq!(bench.ask(1, &send("q", "p", 64)), ONCE);
    assert_eq!(bench.messages(), many + 1);
    // A transaction must not lose what it has sent itself.
    bench.begin_it();
    for sequence in (0..many - 1).map(|it| (many + it) * 1000) {
        assert_eq!(bench.ask(1, &send_in("q", "p", sequence)), ONCE);
    }
    let refused = bench.ask(1, &send_in("q", "p", 4000 * many));
    assert_eq!(refused, Err(Refusal::TooManyGaps { limit: limits::PRODUCER_SPANS_MAX }));
}

#[test]
fn a_transaction_goes_on_without_the_numbers_of_a_library_for_which_it_has_no_room() {
    let lenient = |producer: &str, sequence| {
        let Command::Once(once) = send_in("q", producer, sequence) else { unreachable!() };
        Command::Once(once.leniently())
    };
    let gaps = (0..3 * limits::PRODUCER_SPANS_MAX as u64).map(|it| ("gaps".to_owned(), it * 1000));
    let many = (0..3 * limits::TRANSACTION_WIDTH_MAX).map(|it| (it.to_string(), 1));
    let cases: [(Vec<_>, u64); 3] =
        [(gaps.collect(), 1 << 20), (many.clone().collect(), 1 << 20), (many.collect(), 1 << 10)];
    for (sends, producers_bytes) in cases {
        let mut bench = Bench::with(Limits { producers_bytes, ..Limits::default() });
        bench.begin_it();
        let (last, first) = (sends.last().unwrap(), &sends[0]);
        for (producer, sequence) in &sends {
            assert_eq!(bench.ask(1, &lenient(producer, *sequence)), ONCE);
        }
        assert_eq!(bench.ask(1, &lenient(&first.0, first.1)), AGAIN, "for it there was room");
        bench.ask(1, &Command::Commit { transaction: T }).unwrap();
        bench.rest();
        assert_eq!(bench.messages(), sends.len() as u64);
        bench.live_on(Limits::default());
        assert_eq!(bench.ask(2, &send("q", &first.0, first.1)), AGAIN);
        assert_eq!(bench.ask(2, &send("q", &last.0, last.1)), ONCE, "it went without");
        assert_eq!(bench.messages(), sends.len() as u64 + 1);
    }
}

#[test]
fn a_producer_is_forgotten_a_while_after_its_connection_and_not_before() {
    let mut bench = Bench::new();
    bench.ask(1, &send("q", "lost", 1)).unwrap();
    bench.ask(2, &send("q", "closed", 1)).unwrap();
    bench.ask(3, &send("q", "there", 1)).unwrap();
    bench.ask(1, &send("q", "shared", 1)).unwrap();
    bench.ask(3, &send("q", "shared", 2)).unwrap();
    bench.pass(100 * HOUR);
    assert_eq!(bench.producers(), 4, "while they are there");
    bench.close(1);
    assert_eq!(bench.ask(2, &Command::CloseProducers), ONCE);
    bench.close(2);
    bench.rest();
    // The answer to the end of a connection may be lost, too.
    bench.pass(limits::PRODUCER_CLOSED_MILLIS / 2);
    assert_eq!(bench.ask(4, &send("q", "closed", 1)), AGAIN);
    bench.pass(HOUR);
    assert_eq!(bench.producers(), 3, "what was closed is forgotten");
    bench.pass(22 * HOUR);
    assert_eq!(bench.ask(4, &send("q", "lost", 1)), AGAIN);
    assert_eq!(bench.producers(), 3);
    bench.pass(2 * HOUR);
    assert_eq!(bench.producers(), 2, "what was lost is, after a day");
    // All connections end with a life.
    bench.live_on(Limits::default());
    bench.pass(23 * HOUR);
    assert_eq!(bench.ask(4, &send("q", "shared", 1)), AGAIN);
    assert_eq!(bench.producers(), 2);
    bench.pass(2 * HOUR);
    assert_eq!(bench.producers(), 0);
    assert_eq!(bench.broker.producer_counts().forgotten_early, 0);
    assert_eq!(bench.ask(4, &send("q", "there", 1)), ONCE);
}

#[test]
fn for_want_of_room_those_go_first_that_are_the_least_likely_to_come_back() {
    let producers_bytes = 4 * (limits::PRODUCER_BYTES + 16);
    let limits = Limits { producers_bytes, ..Limits::default() };
    let mut bench = Bench::with(limits);
    for (connection, producer) in [(1, "there"), (2, "lost"), (3, "closed"), (4, "later")] {
        bench.ask(connection, &send("q", producer, 1)).unwrap();
    }
    bench.close(2);
    bench.ask(3, &Command::CloseProducers).unwrap();
    bench.rest();
    bench.ask(5, &send("q", "fifth", 1)).unwrap();
    bench.rest();
    assert_eq!((bench.producers(), bench.broker.producer_counts().forgotten_early), (4, 0));
    bench.ask(5, &send("q", "sixth", 1)).unwrap();
    bench.rest();
    assert_eq!((bench.producers(), bench.broker.producer_counts().forgotten_early), (4, 1));
    for producer in ["there", "later", "fifth", "sixth"] {
        assert_eq!(bench.ask(6, &send("q", producer, 1)), AGAIN);
    }
    assert_eq!(bench.ask(6, &send("q", "lost", 1)), ONCE);
    bench.rest();
    // What remembers less now has forgotten the same.
    bench.live_on(Limits::default());
    assert_eq!((bench.producers(), bench.broker.producer_counts().forgotten_early), (4, 0));
}

#[test]
fn many_producers_of_one_connection_part_some_at_a_time() {
    let mut bench = Bench::new();
    let count = 3 * limits::STEP_MESSAGES_MAX;
    for producer in 0..count {
        bench.ask(1, &send("q", &producer.to_string(), 1)).unwrap();
    }
    let before = bench.log.len();
    bench.close(1);
    bench.rest();
    let parted = bench.log[before..].iter().filter_map(|(_, record)| match record {
        Record::Producers(record) => Some(record.producers().len()),
        _ => None,
    });
    assert_eq!(parted.collect::<Vec<_>>(), [limits::STEP_MESSAGES_MAX; 3]);
}

#[test]
fn a_producer_that_speaks_elsewhere_meanwhile_does_not_part_with_the_connection_it_came_from() {
    let mut bench = Bench::new();
    for producer in ["a", "b"] {
        bench.ask(1, &send("q", producer, 1)).unwrap();
    }
    let (mut facts, mut effects) = (Vec::new(), Effects::new());
    assert!(bench.broker.decide_close(bench.now, ConnectionId(1), &mut facts));
    bench.commit(facts, &mut effects);
    let before = bench.log.len();
    bench.ask(2, &send("q", "a", 2)).unwrap();
    bench.rest();
    let parted = bench.log[before..].iter().filter_map(|(_, record)| match record {
        Record::Producers(record) => Some(record.producers().to_vec()),
        _ => None,
    });
    assert_eq!(parted.collect::<Vec<_>>(), [[Identity::of(b"b")]]);
}

fn end(producers: &[&str]) -> Command {
    let producers = producers.iter().map(|name| Identity::of(name.as_bytes())).collect();
    Command::EndProducers { producers }
}

/// Whether they were said to have closed, and how many, in the records since.
fn parted(bench: &Bench, since: usize) -> Vec<(bool, usize)> {
    let parted = bench.log[since..].iter().filter_map(|(_, record)| match record {
        Record::Producers(ProducersRecord::Parted { closed, producers, .. }) => {
            Some((*closed, producers.len()))
        }
        _ => None,
    });
    parted.collect()
}

#[test]
fn producers_that_have_ended_part_together_when_their_connection_has_lived_on_for_a_while() {
    let mut bench = Bench::new();
    for producer in ["a", "b", "c", "moved"] {
        bench.ask(1, &send("q", producer, 1)).unwrap();
    }
    let before = bench.log.len();
    assert_eq!(bench.ask(1, &end(&["a", "b", "moved", "unknown"])), ONCE);
    assert_eq!(bench.ask(2, &end(&["c"])), ONCE, "it is not that connection's");
    bench.ask(2, &send("q", "moved", 2)).unwrap();
    let wait = limits::PRODUCER_CLOSED_MILLIS + limits::FORGET_REST_MILLIS;
    let at = bench.broker.next_deadline();
    assert_eq!(at, Some(Millis(bench.now.0 + wait)));
    bench.pass(wait - 1);
    assert_eq!(parted(&bench, before), []);
    bench.pass(1);
    assert_eq!(parted(&bench, before), [(true, 2)]);
    assert_eq!(bench.ask(3, &send("q", "a", 1)), AGAIN, "answers may still be on their way");
    bench.pass(wait);
    assert_eq!(bench.producers(), 2);
    // What is sent late is a word of its producer as any other.
    assert_eq!(bench.ask(1, &send("q", "a", 2)), ONCE);
    bench.pass(2 * HOUR);
    assert_eq!(bench.producers(), 3);
}

#[test]
fn producers_that_have_ended_are_lost_with_a_connection_that_is_lost_soon() {
    let mut bench = Bench::new();
    bench.ask(1, &send("q", "p", 1)).unwrap();
    bench.ask(1, &end(&["p"])).unwrap();
    bench.pass(limits::PRODUCER_CLOSED_MILLIS);
    let before = bench.log.len();
    bench.close(1);
    bench.rest();
    bench.pass(20 * HOUR);
    assert_eq!(parted(&bench, before), [(false, 1)]);
    assert_eq!(bench.ask(2, &send("q", "p", 1)), AGAIN);
}

#[test]
fn a_connection_with_a_producer_for_each_send_pushes_out_none_that_may_come_back() {
    let producers_bytes = 4 * (limits::PRODUCER_BYTES + 16);
    let mut bench = Bench::with(Limits { producers_bytes, ..Limits::default() });
    bench.ask(1, &send("q", "lost", 1)).unwrap();
    bench.close(1);
    bench.rest();
    for producer in 0..20 {
        let producer = producer.to_string();
        bench.ask(2, &send("q", &producer, 1)).unwrap();
        bench.ask(2, &end(&[&producer])).unwrap();
        bench.rest();
    }
    assert_eq!((bench.producers(), bench.broker.producer_counts().forgotten_early), (4, 0));
    assert_eq!(bench.ask(3, &send("q", "lost", 1)), AGAIN);
}

#[test]
fn what_a_producer_that_has_ended_commits_is_remembered_from_the_commit_on() {
    let mut bench = Bench::new();
    let wait = limits::PRODUCER_CLOSED_MILLIS + limits::FORGET_REST_MILLIS;
    bench.begin_it();
    assert_eq!(bench.ask(1, &send_in("q", "p", 1)), ONCE);
    bench.ask(1, &end(&["p"])).unwrap();
    bench.pass(wait);
    bench.pass(limits::PRODUCER_CLOSED_MILLIS);
    bench.ask(2, &send("q", "another", 1)).unwrap();
    bench.commit_it();
    bench.pass(limits::PRODUCER_CLOSED_MILLIS);
    assert_eq!(bench.ask(2, &send("q", "p", 1)), AGAIN);
    bench.pass(wait);
    assert_eq!(bench.producers(), 1);
}

#[test]
fn a_checkpoint_takes_producers_as_they_were_when_it_began() {
    let mut bench = Bench::new();
    for producer in ["a", "b", "c"] {
        bench.ask(1, &send("q", producer, 1)).unwrap();
    }
    let through = bench.log.last().unwrap().0.lsn;
    bench.broker.freeze(through);
    assert!(bench.broker.freeze_rows(1).is_none());
    bench.ask(1, &send("q", "c", 2)).unwrap();
    let frozen = bench.broker.freeze_rows(100).expect("all of them");
    assert!(bench.broker.producers_agree(&BTreeMap::new(), &BTreeMap::new()));
    let row = &frozen.producers[&Identity::of(b"c")].as_ref().unwrap();
    assert_eq!((row.seen.seen(1), row.seen.seen(2)), (Seen::Yes, Seen::No));
    assert_eq!(bench.broker.durable.delta.producers, Delta::default().producers);
    let taken: BTreeMap<_, _> =
        frozen.producers.iter().map(|(id, it)| (*id, it.clone().unwrap())).collect();
    drop(frozen);
    bench.broker.install();
    assert!(bench.broker.producers_agree(&taken, &BTreeMap::new()));
}

#[test]
fn what_waits_for_a_transaction_pushes_no_producer_out_and_is_bounded() {
    let producers_bytes = 8 * (limits::PRODUCER_BYTES + 16);
    let mut bench = Bench::with(Limits { producers_bytes, ..Limits::default() });
    bench.ask(2, &send("q", "kept", 1)).unwrap();
    bench.begin_it();
    for producer in 0..4 {
        assert_eq!(bench.ask(1, &send_in("q", &producer.to_string(), 1)), ONCE);
    }
    let refused = bench.ask(1, &send_in("q", "fifth", 1));
    assert_eq!(refused, Err(Refusal::PendingFull { limit: producers_bytes / 2 }));
    bench.rest();
    assert_eq!((bench.producers(), bench.broker.producer_counts().forgotten_early), (5, 0));
    assert_eq!(bench.ask(3, &send("q", "kept", 1)), AGAIN);
    bench.ask(1, &rollback()).unwrap();
    assert_eq!(bench.ask(3, &send("q", "fifth", 1)), ONCE);
    bench.producers();
}

#[test]
fn those_of_an_earlier_life_have_parted_though_the_clock_is_behind_it() {
    let mut bench = Bench::new();
    bench.ask(1, &send("q", "a", 1)).unwrap();
    bench.now = Millis(bench.now.0 - 500);
    let before = bench.log.len();
    bench.live_on(Limits::default());
    bench.rest();
    let parted = bench.log[before..].iter().filter_map(|(_, record)| match record {
        Record::Producers(record) => Some(record.producers().to_vec()),
        _ => None,
    });
    assert_eq!(parted.collect::<Vec<_>>(), [[Identity::of(b"a")]]);
    // Who speaks again is of this life.
    bench.ask(1, &send("q", "a", 2)).unwrap();
    let before = bench.log.len();
    bench.rest();
    assert_eq!(bench.log.len(), before);
}

#[test]
fn those_of_an_earlier_life_are_read_though_nothing_happens_or_the_clock_was_set_back() {
    for back in [0, 1000] {
        let mut bench = Bench::new();
        bench.now = Millis(1_000_000);
        let base = Base { has_producers: true, ..Base::default() };
        bench.broker = Broker::new(base, Limits::default(), 1 << 20);
        let started = Fact::Log(Record::Started { epoch: 2, at: bench.now }, Bytes::new());
        let (mut facts, mut effects) = (Vec::new(), Effects::new());
        bench.commit(vec![started], &mut effects);
        let at = bench.broker.next_deadline().expect("it wakes for them");
        assert_eq!(at, Millis(bench.now.0 + limits::PRODUCERS_REST_MILLIS));
        let now = Millis(at.0 - back);
        assert!(bench.broker.has_work(now));
        assert!(bench.broker.work(now, &mut facts, &mut effects));
        let asked = effects.iter().filter(|effect| matches!(effect, Effect::Producers(_)));
        assert_eq!((asked.count(), bench.broker.next_deadline()), (1, None));
    }
}
