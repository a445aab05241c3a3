//! Promises about messages that are sent to be delivered later.

use super::*;
use crate::broker::command::{Disposition, MessageId, Pick, Returns, ScheduleInfo, WhenFull, Work};
use crate::broker::policy::{Limit, Pattern, Policies};
use crate::ids::TransactionName;
use crate::limits;
use crate::message::{BodyKind, Content, SCHEDULED_JOB};

const BEGIN: fn(TransactionName) -> Command = |transaction| Command::Begin { transaction };
const COMMIT: fn(TransactionName) -> Command = |transaction| Command::Commit { transaction };
const ROLLBACK: fn(TransactionName) -> Command =
    |transaction| Command::Rollback { transaction, disposition: Disposition::Return };

/// What comes each 100 milliseconds, so often after the first time.
fn each_100(times: Option<u32>) -> When {
    When::of(None, 0, 100, times).unwrap()
}

impl Bench {
    fn send_later(&mut self, name: &str, delay: u64, expires: Option<u64>) {
        let message = Message {
            durability: Durability::NonPersistent,
            priority: Priority::new(4).unwrap(),
            expires: expires.map(Millis),
            when: When::After(delay),
            grouped: false,
            content: Bytes::from_static(b"content"),
        };
        self.ask(9, &Command::Send { to: queue(name), message }).unwrap();
    }

    fn send_when(&mut self, name: &str, when: When, in_unit: bool) -> Result<Verdict, Refusal> {
        let content = Content {
            kind: BodyKind::Text,
            properties: vec![(SCHEDULED_JOB.to_owned(), String::new())],
            body: Bytes::from_static(b"again"),
        };
        let message = Message {
            durability: Durability::NonPersistent,
            priority: Priority::DEFAULT,
            expires: Some(Millis(self.now.0 + 10_000)),
            when,
            grouped: false,
            content: content.encode(),
        };
        let to = queue(name);
        let (transaction, work) = (TransactionName(1), Work::Send { to: to.clone(), message });
        let command = match work {
            work if in_unit => Command::Transact { transaction, work },
            Work::Send { message, .. } => Command::Send { to, message },
            _ => unreachable!("it is a send"),
        };
        self.ask(9, &command)
    }

    fn unit(&mut self, command: fn(TransactionName) -> Command) {
        self.ask(9, &command(TransactionName(1))).unwrap();
    }

    /// What was handed out since: place, when it was sent, and the schedule it is of.
    fn occurred(&mut self) -> Vec<(u64, u64, String)> {
        let all = std::mem::take(&mut self.delivered);
        let of = |given: Assignment| {
            let Lent::Durable { place, entry, .. } = given.message else { panic!("it is durable") };
            assert!(!given.redelivered && given.attempt == 1 && entry.expires.is_some());
            let content = Content::decode(self.contents[&entry.birth].clone()).unwrap();
            self.settle(1, Which::One(given.tag), Outcome::Accepted).unwrap();
            (place.seq, entry.at.0, content.property(SCHEDULED_JOB).unwrap().to_owned())
        };
        all.into_iter().map(of).collect()
    }

    fn schedules(&mut self) -> Vec<ScheduleInfo> {
        match self.ask(8, &Command::ListSchedules { after: None }).unwrap() {
            Verdict::Answer(Reply::Schedules(all)) => all,
            other => panic!("{other:?}"),
        }
    }

    fn is_empty(&mut self, name: &str) -> bool {
        let nothing = self.depth(name).is_none_or(|queue| queue.depth == 0 && queue.delayed == 0);
        nothing
            && self.broker.notes().is_empty()
            && self.broker.all_delayed(&[]).is_empty()
            && self.broker.next_deadline().is_none()
    }

    fn pass_to(&mut self, now: u64) {
        self.now = Millis(now);
        self.settle_down(Effects::new());
    }
}

#[test]
fn a_scheduled_message_fires_once_at_its_time_as_if_it_were_sent_then() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 10);
    bench.send_later("q", 500, Some(1600));
    bench.send("q");
    assert_eq!(bench.handed_out(), [(1, 2)], "what is sent later goes before it");
    for _ in 0..2 {
        // A crash neither fires nor forgets it.
        bench.restart();
        bench.subscribe(1, queue("q"), 10);
        assert_eq!(bench.broker.next_deadline(), Some(Millis(1500)));
        bench.handed_out();
        bench.pass_to(1499);
        assert!(bench.handed_out().is_empty());
    }
    // It fires late, and its expiry counts from then: it has as long as it had when it was sent.
    bench.pass_to(1700);
    let given = bench.delivered.pop_front().expect("it has fired");
    let Lent::Durable { place, entry, .. } = &given.message else { panic!("it is durable") };
    assert_eq!((place.seq, entry.at, entry.expires), (3, Millis(1700), Some(Millis(2300))));
    assert!(!given.redelivered && given.attempt == 1 && given.dead.is_none());
    bench.settle(1, Which::One(given.tag), Outcome::Accepted).unwrap();
    bench.restart();
    bench.pass_to(1_000_000);
    assert!(bench.broker.notes().is_empty() && bench.broker.all_delayed(&[]).is_empty());
    assert_eq!(bench.depth("q").map(|queue| queue.depth), Some(1), "only the other is left");
}

#[test]
fn scheduled_messages_fire_in_the_order_of_their_times() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 100);
    for number in 0..30 {
        bench.send_later("q", 30 - number, None);
    }
    bench.pass_to(1010);
    let fired: Vec<_> = bench.delivered.iter().map(|given| given.message.in_log()).collect();
    bench.pass_to(1030);
    let all: Vec<_> = bench.delivered.drain(..).map(|given| given.message.in_log()).collect();
    assert_eq!((fired.len(), all.len()), (10, 30));
    assert!(all.is_sorted_by(|one, other| one > other), "the last sent is the first due");
}

#[test]
fn a_purge_takes_what_is_scheduled() {
    let mut bench = Bench::new();
    (0..20).for_each(|number| bench.send_later("q", 100 + number, None));
    assert_eq!(bench.depth("q").map(|queue| (queue.depth, queue.delayed)), Some((20, 20)));
    bench.ask(8, &Command::Purge { queue: "q".into() }).unwrap();
    assert_eq!(bench.depth("q").map(|queue| (queue.depth, queue.delayed)), Some((0, 0)));
    assert!(bench.broker.notes().is_empty());
    assert_eq!(bench.broker.next_deadline(), None);
}

#[test]
fn a_message_that_is_moved_there_and_back_waits_no_more_and_keeps_its_flag() {
    let mut bench = Bench::new();
    bench.send_later("q", 500, None);
    let shift = |bench: &mut Bench, from: &str, to: &str| {
        let (pick, returns) = (Pick::First(9), Returns::Keep);
        let (from, to) = (from.into(), to.into());
        bench.ask(8, &Command::Move { from, to, pick, returns }).unwrap();
    };
    shift(&mut bench, "q", "r");
    shift(&mut bench, "r", "q");
    bench.subscribe(1, queue("q"), 1);
    assert_eq!(bench.handed_out(), [(1, 2)]);
    bench.restart();
    shift(&mut bench, "q", "r");
    bench.subscribe(1, queue("r"), 1);
    assert!(bench.delivered.pop_front().expect("it is there").redelivered);
}

#[test]
fn what_is_repeated_comes_as_often_as_it_says_each_a_message_of_its_own() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 10);
    bench.send_when("q", each_100(Some(2)), false).unwrap();
    assert_eq!((bench.schedules().len(), bench.broker.next_deadline()), (1, Some(Millis(1100))));
    let job = MessageId::Durable(bench.schedules()[0].message).to_string();
    bench.pass_to(1100);
    assert_eq!(bench.occurred(), [(2, 1100, job.clone())]);
    // A crash repeats none and forgets none, and what was missed meanwhile comes once.
    bench.restart();
    bench.subscribe(1, queue("q"), 10);
    assert_eq!(bench.schedules()[0].left, Some(1));
    bench.pass_to(1450);
    assert_eq!(bench.occurred(), [(3, 1450, job)]);
    assert_eq!(bench.broker.next_deadline(), Some(Millis(1500)), "on the grid");
    bench.pass_to(1499);
    assert!(bench.occurred().is_empty());
    bench.pass_to(1500);
    // The last is the message itself.
    assert_eq!(bench.occurred(), [(4, 1500, String::new())]);
    assert!(bench.schedules().is_empty() && bench.is_empty("q"));
}

#[test]
fn a_cron_expression_goes_on_until_it_is_ended() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 10);
    let minutely = When::of(Some("* * * * *"), 10, 20, Some(1)).unwrap();
    bench.send_when("q", minutely, false).unwrap();
    for minute in 1..5 {
        for late in [10, 30] {
            bench.pass_to(minute * 60_000 + late - 1);
            assert!(bench.occurred().is_empty());
            bench.pass_to(minute * 60_000 + late);
            assert_eq!(bench.occurred().len(), 1);
        }
        bench.restart();
        bench.subscribe(1, queue("q"), 10);
    }
    let id = bench.schedules()[0].id;
    bench.ask(8, &Command::EndSchedule(id)).unwrap();
    assert_eq!(
        bench.ask(8, &Command::EndSchedule(id)),
        Err(Refusal::NoSuchSchedule(id)),
        "it is gone"
    );
    assert!(bench.is_empty("q"));
    bench.restart();
    assert!(bench.is_empty("q"));
}

#[test]
fn a_transaction_delays_from_its_commit_and_a_rollback_leaves_nothing() {
    for when in [When::After(100), each_100(Some(1)), each_100(None)] {
        let mut bench = Bench::new();
        bench.subscribe(1, queue("q"), 10);
        for (end, committed) in [(ROLLBACK, false), (COMMIT, true)] {
            bench.unit(BEGIN);
            bench.send_when("q", when.clone(), true).unwrap();
            bench.pass_to(bench.now.0 + 1000);
            assert!(bench.occurred().is_empty() && bench.schedules().is_empty());
            assert_eq!(bench.broker.next_deadline(), None, "it waits for nothing yet");
            bench.unit(end);
            assert!(committed || bench.is_empty("q"));
        }
        let commit = bench.now.0;
        bench.restart();
        bench.subscribe(1, queue("q"), 10);
        bench.pass_to(commit + 99);
        assert!(bench.occurred().is_empty());
        bench.pass_to(commit + 100);
        let first = bench.occurred();
        assert_eq!((first.len(), first[0].1), (1, commit + 100));
        bench.pass_to(commit + 200);
        assert_eq!(bench.occurred().len(), usize::from(when != When::After(100)));
    }
}

#[test]
fn a_transaction_that_a_crash_ends_leaves_nothing_that_waits() {
    let mut bench = Bench::new();
    bench.unit(BEGIN);
    for when in [When::After(10), When::After(20), each_100(Some(3))] {
        bench.send_when("q", when, true).unwrap();
    }
    bench.restart();
    bench.settle_down(Effects::new());
    assert!(bench.is_empty("q"));
}

#[test]
fn a_purge_ends_what_is_repeated_and_a_move_leaves_it() {
    let mut bench = Bench::new();
    bench.send_when("q", each_100(None), false).unwrap();
    bench.send("q");
    let (from, to, pick) = ("q".into(), "r".into(), Pick::First(9));
    bench.ask(8, &Command::Move { from, to, pick, returns: Returns::Keep }).unwrap();
    assert_eq!((bench.schedules().len(), bench.depth("r").unwrap().depth), (1, 1));
    bench.ask(8, &Command::Purge { queue: "q".into() }).unwrap();
    assert!(bench.schedules().is_empty() && bench.is_empty("q"));
}

#[test]
fn what_is_repeated_into_a_full_queue_waits_for_room_and_is_not_lost() {
    let mut bench = Bench::new();
    let limits = vec![(Pattern::parse("queue://q").unwrap(), Limit { messages: 3, ..Limit::NONE })];
    bench.broker.govern(Arc::new(Policies::new(limits, WhenFull::Refuse).unwrap()));
    bench.send_when("q", each_100(Some(9)), false).unwrap();
    for now in (1100..3000).step_by(50) {
        bench.pass_to(now);
    }
    assert_eq!(bench.depth("q").unwrap().depth, 3, "two have come, and it goes on");
    assert_eq!(bench.schedules()[0].left, Some(7));
    bench.subscribe(1, queue("q"), 10);
    let mut count = bench.occurred().len();
    for now in (3000..6000).step_by(50) {
        bench.pass_to(now);
        count += bench.occurred().len();
    }
    assert_eq!(count, 10);
    assert!(bench.is_empty("q"));
}

#[test]
fn no_more_is_repeated_than_fits_into_memory() {
    let mut bench = Bench::new();
    let limit = limits::REPEATED_MAX;
    (0..limit).for_each(|_| drop(bench.send_when("q", each_100(None), false).unwrap()));
    let refused = bench.send_when("q", each_100(None), false);
    assert_eq!(refused, Err(Refusal::TooManySchedules { limit }));
    assert_eq!(bench.schedules().len(), limit);
}

#[test]
fn what_a_restored_store_commits_and_repeats_may_have_come_in_the_other() {
    let mut bench = Bench::new();
    bench.send_when("q", each_100(Some(9)), false).unwrap();
    bench.pass_to(1250);
    let restored = Record::Restored { at: bench.now };
    bench.commit(vec![Fact::Log(restored, Bytes::new())], &mut Effects::new());
    bench.restart();
    bench.subscribe(1, queue("q"), 10);
    let flags = |bench: &mut Bench| -> Vec<bool> {
        bench.delivered.drain(..).map(|given| given.redelivered).collect()
    };
    bench.pass_to(1299);
    assert_eq!(flags(&mut bench), [true], "it was there");
    bench.pass_to(1300);
    assert_eq!(flags(&mut bench), [false], "its time came later");
}
