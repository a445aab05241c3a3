//! What goes through queues in pieces (browsing, moves, searches, parts of an acknowledgement)
//! comes to the same as if it were done at once, whatever the index holds and whenever a crash
//! comes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::command::{
    Browsed, Command, MessageId, Outcome, Pick, Refusal, Reply, Returns, Spot, Which,
};
use super::delta::{Entry, Place};
use super::fact::{Effect, Fact, OperationsPage, Page};
use super::select::Finding;
use super::{Base, Broker, Effects, Limits, SelectRequest, Selected, Unjudged, Verdict, Written};
use crate::ids::{ConnectionId, Lsn, Millis, QueueId, SubscriptionId, Tag, Token};
use crate::limits::STEP_MESSAGES_MAX;
use crate::message::{Destination, Durability, Message, Priority};
use crate::record::Record;
use crate::schedule::When;

/// A broker with an index and a log that are only maps and lists.
struct Bench {
    broker: Broker,
    index: BTreeMap<(QueueId, Place), Entry>,
    log: Vec<(Written, Record)>,
    answers: Vec<Result<Reply, Refusal>>,
    held: Vec<Tag>,
    now: Millis,
}

const CONSUMER: u64 = 7;
const SUBSCRIPTION: SubscriptionId = SubscriptionId(1);

impl Bench {
    fn new(resident: usize) -> Self {
        let limits = Limits { resident, ..Limits::default() };
        Self {
            broker: Broker::new(Base::default(), limits, 1 << 20),
            index: BTreeMap::new(),
            log: Vec::new(),
            answers: Vec::new(),
            held: Vec::new(),
            now: Millis(1000),
        }
    }

    fn commit(&mut self, facts: Vec<Fact>, effects: &mut Effects) {
        for fact in facts {
            match fact {
                Fact::Log(record, _) => {
                    let lsn = Lsn(4096 + 64 * self.log.len() as u64);
                    let written = Written { lsn, frame_len: 64 };
                    self.broker.apply_record(written, &record).unwrap();
                    self.log.push((written, record));
                }
                Fact::Memory(change) => self.broker.apply_change(change, effects),
            }
        }
    }

    fn settle_down(&mut self, facts: Vec<Fact>) {
        let mut effects = Effects::new();
        self.commit(facts, &mut effects);
        loop {
            for effect in std::mem::take(&mut effects) {
                let mut facts = Vec::new();
                match effect {
                    Effect::Deliver(assignment) => self.held.push(assignment.tag),
                    Effect::Answer { result, .. } => self.answers.push(result),
                    Effect::Pieces(_) => unreachable!("no body comes in pieces here"),
                    Effect::Outcome(_) => unreachable!("there are no branches here"),
                    Effect::Select(SelectRequest { queue, group, messages, .. }) => {
                        let none = |it: &Unjudged| (it.spot, Finding::Group(None));
                        let verdicts = messages.iter().map(none).collect();
                        self.broker.selected_in(&Selected { queue, group, verdicts });
                    }
                    Effect::Later(_) | Effect::Content(_) | Effect::Producers(_) => {
                        unreachable!("nothing is delayed here, and nobody counts")
                    }
                    Effect::Operations(request) => {
                        let page = OperationsPage { request, rows: Vec::new() };
                        self.broker.operations_in(Millis(0), &page, &mut facts);
                    }
                    Effect::Page(request) => {
                        let after = Bound::Excluded((request.queue, request.after));
                        let end = Bound::Included((request.queue, Place::END));
                        let rows = self.index.range((after, end)).take(request.limit);
                        let rows = rows.map(|((_, place), entry)| (*place, *entry)).collect();
                        self.broker.page_in(&Page { request, rows }, &mut facts);
                    }
                }
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

    /// Asks until all of it is done; gives how many parts that took.
    fn ask(&mut self, connection: u64, command: &Command) -> usize {
        let mut parts = 1;
        loop {
            let (id, mut facts) = (ConnectionId(connection), Vec::new());
            let verdict = self.broker.decide(self.now, id, Token(1), command, &mut facts);
            self.settle_down(facts);
            match verdict {
                Ok(Verdict::Part) => parts += 1,
                Ok(Verdict::Later | Verdict::Fence) => return parts,
                Ok(Verdict::Hold(_) | Verdict::HoldFor(..)) => {
                    unreachable!("nothing here has a limit")
                }
                Ok(Verdict::Answer(reply)) => {
                    self.answers.push(Ok(reply));
                    return parts;
                }
                Err(refusal) => {
                    self.answers.push(Err(refusal));
                    return parts;
                }
            }
        }
    }

    fn send(&mut self, queue: &str, priority: u8, durability: Durability, expires: Option<u64>) {
        let message = Message {
            durability,
            priority: Priority::new(priority).unwrap(),
            expires: expires.map(Millis),
            when: When::AtOnce,
            grouped: false,
            content: Bytes::from_static(b"content"),
        };
        self.ask(9, &Command::Send { to: Destination::Queue(queue.into()), message });
    }

    fn shift(&mut self, from: &str, to: &str, pick: Pick) -> Result<Reply, Refusal> {
        let (from, to, returns) = (from.into(), to.into(), Returns::Keep);
        self.ask(8, &Command::Move { from, to, pick, returns });
        self.answers.pop().expect("a move is answered")
    }

    fn subscribe(&mut self, queue: &str, prefetch: u32) {
        let from = Destination::Queue(queue.into());
        self.ask(
            CONSUMER,
            &Command::Subscribe { subscription: SUBSCRIPTION, from, prefetch, selector: None },
        );
    }

    fn page(&mut self, queue: &str, after: Option<Spot>, limit: usize) -> Option<Browsed> {
        self.ask(8, &Command::Browse { queue: queue.into(), after, limit });
        match self.answers.pop() {
            Some(Ok(Reply::Browsed(browsed))) => Some(browsed),
            Some(Err(Refusal::NoSuchQueue(_))) => None,
            other => panic!("{other:?}"),
        }
    }

    /// Ids and whether they are lent, in pages of a size.
    fn browse(&mut self, queue: &str, limit: usize) -> Vec<(MessageId, bool)> {
        let (mut seen, mut after) = (Vec::new(), None);
        while let Some(page) = self.page(queue, after, limit) {
            assert!(page.messages.len() <= limit.clamp(1, STEP_MESSAGES_MAX));
            seen.extend(page.messages.iter().map(|message| (message.id, message.lent)));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        seen
    }

    fn checkpoint(&mut self) {
        let Some((last, _)) = self.log.last() else { return };
        self.broker.freeze(last.lsn);
        let delta = self.broker.freeze_rows(usize::MAX).expect("all rows are taken");
        for (place, entry) in delta.entries.iter() {
            match entry {
                Some(entry) => drop(self.index.insert(place, entry)),
                None => drop(self.index.remove(&place)),
            }
        }
        self.broker.install();
    }

    /// Every durable message of the broker that a crash leaves which keeps so much of the log.
    fn after_crash(&self, keeps: usize) -> Vec<(QueueId, Place, Lsn)> {
        let mut broker = Broker::new(Base::default(), Limits::default(), 1 << 20);
        for (written, record) in &self.log[..keeps] {
            broker.apply_record(*written, record).expect("what was applied before");
        }
        let mut all = Vec::new();
        for (id, row) in broker.rows() {
            let entries = broker.entries(id, &[]);
            assert_eq!(entries.len() as u64, row.depth, "the row tells how many there are");
            all.extend(entries.iter().map(|(place, entry)| (id, *place, entry.birth)));
        }
        all
    }
}

/// What is known of a message: its id, its rank, and whether it is lent.
#[derive(Clone, Debug)]
struct Known {
    id: MessageId,
    rank: u8,
    lent: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Send { queue: usize, priority: u8, persistent: bool },
    Move { from: usize, count: Option<u64> },
    Hold { queue: usize, count: u32 },
    GiveBack,
    Checkpoint,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0usize..2, 3u8..6, any::<bool>())
            .prop_map(|(queue, priority, persistent)| Step::Send { queue, priority, persistent }),
        4 => (0usize..2, proptest::option::of(1u64..20))
            .prop_map(|(from, count)| Step::Move { from, count }),
        2 => (0usize..2, 1u32..6).prop_map(|(queue, count)| Step::Hold { queue, count }),
        1 => Just(Step::GiveBack),
        2 => Just(Step::Checkpoint),
    ]
}

const QUEUES: [&str; 2] = ["a", "b"];

/// Queues as lists in the order of delivery.
#[derive(Default)]
struct Lists {
    queues: [Vec<Known>; 2],
    consumer: Option<(usize, u32)>,
}

impl Lists {
    fn add(&mut self, queue: usize, known: Known) {
        let at = self.queues[queue].partition_point(|other| other.rank <= known.rank);
        self.queues[queue].insert(at, known);
        self.lend();
    }

    /// A consumer that never settles holds what was first when it could take it.
    fn lend(&mut self) {
        let Some((queue, prefetch)) = self.consumer else { return };
        let held = self.queues[queue].iter().filter(|known| known.lent).count();
        let free = (prefetch as usize).saturating_sub(held);
        let waiting = self.queues[queue].iter_mut().filter(|known| !known.lent);
        waiting.take(free).for_each(|known| known.lent = true);
    }

    fn shift(&mut self, from: usize, count: u64) -> u64 {
        let mut moved = Vec::new();
        self.queues[from].retain(|known| {
            let goes = !known.lent && (moved.len() as u64) < count;
            if goes {
                moved.push(known.clone());
            }
            !goes
        });
        let count = moved.len() as u64;
        for known in moved {
            let at = self.queues[1 - from].partition_point(|other| other.rank <= known.rank);
            self.queues[1 - from].insert(at, known);
        }
        self.lend();
        count
    }
}

fn apply(bench: &mut Bench, lists: &mut Lists, step: &Step, volatile: bool) {
    match *step {
        Step::Send { queue, priority, persistent } => {
            // Only one queue takes non-persistent messages, and nothing moves them back: two that
            // come to lie between the same neighbours are sorted by age, and not by arrival.
            let persistent = persistent || !volatile || queue == 1;
            let durability =
                if persistent { Durability::Persistent } else { Durability::NonPersistent };
            bench.send(QUEUES[queue], priority, durability, None);
            let id = match bench.log.last() {
                Some((written, Record::Sent { .. })) if persistent => {
                    MessageId::Durable(written.lsn)
                }
                // A lent record may stand behind it.
                Some(_) if persistent => {
                    let sent = bench.log.iter().rev();
                    let mut sent = sent.filter(|(_, r)| matches!(r, Record::Sent { .. }));
                    MessageId::Durable(sent.next().expect("it was sent").0.lsn)
                }
                _ => MessageId::Volatile { epoch: 0, number: bench.broker.last_volatile },
            };
            lists.add(queue, Known { id, rank: 9 - priority, lent: false });
        }
        Step::Move { from, count } if !volatile || from == 0 => {
            let pick = Pick::First(count.unwrap_or(u64::MAX));
            let moved = match bench.shift(QUEUES[from], QUEUES[1 - from], pick) {
                Ok(Reply::Moved(reply)) => reply.moved,
                Err(Refusal::NoSuchQueue(_)) => 0,
                other => panic!("{other:?}"),
            };
            assert_eq!(moved, lists.shift(from, count.unwrap_or(u64::MAX)));
        }
        Step::Hold { queue, count } if !volatile && lists.consumer.is_none() => {
            bench.subscribe(QUEUES[queue], count);
            lists.consumer = Some((queue, count));
            lists.lend();
        }
        Step::GiveBack if lists.consumer.is_some() => {
            let mut facts = Vec::new();
            assert!(bench.broker.decide_close(bench.now, ConnectionId(CONSUMER), &mut facts));
            bench.settle_down(facts);
            lists.consumer = None;
            lists.queues.iter_mut().flatten().for_each(|known| known.lent = false);
        }
        Step::Checkpoint => bench.checkpoint(),
        Step::Move { .. } | Step::Hold { .. } | Step::GiveBack => {}
    }
}

#[test]
fn a_move_of_none_moves_none() {
    let mut bench = Bench::new(4);
    for _ in 0..3 {
        bench.send("q", 4, Durability::Persistent, None);
        bench.send("q", 4, Durability::NonPersistent, None);
    }
    let Ok(Reply::Moved(reply)) = bench.shift("q", "other", Pick::First(0)) else {
        panic!("moved")
    };
    assert_eq!(
        (reply.moved, bench.browse("q", 9).len(), bench.browse("other", 9).len()),
        (0, 6, 0)
    );
}

proptest! {
    /// Whatever was sent, lent and moved: a browse in pages of any size shows each queue as a list
    /// that saw it all has it, and after a crash at any record each message is in one queue.
    #[test]
    fn a_browse_of_any_part_and_a_crash_at_any_record_show_what_moves_have_left(
        steps in proptest::collection::vec(step(), 0..80),
        resident in 1usize..8,
        page in 1usize..10,
        volatile: bool,
        part in 0usize..1000,
    ) {
        let (mut bench, mut lists) = (Bench::new(resident), Lists::default());
        for step in &steps {
            apply(&mut bench, &mut lists, step, volatile);
        }
        for (name, list) in QUEUES.iter().zip(&lists.queues) {
            let list: Vec<_> = list.iter().map(|known| (known.id, known.lent)).collect();
            prop_assert_eq!(&bench.browse(name, page), &list);
            // Any part alone, from the spot that another page ended with.
            let first = bench.page(name, None, 1 + part % STEP_MESSAGES_MAX);
            if let Some(after) = first.as_ref().and_then(|first| first.next) {
                let seen = first.unwrap().messages.len();
                let next = bench.page(name, Some(after), page).unwrap();
                let next: Vec<_> = next.messages.iter().map(|m| (m.id, m.lent)).collect();
                prop_assert_eq!(&next[..], &list[seen..][..next.len()]);
            }
        }
        for keeps in 0..=bench.log.len() {
            let sent = bench.log[..keeps].iter();
            let sent = sent.filter(|(_, record)| matches!(record, Record::Sent { .. }));
            let sent: BTreeSet<Lsn> = sent.map(|(written, _)| written.lsn).collect();
            let found = bench.after_crash(keeps);
            let births: BTreeSet<Lsn> = found.iter().map(|(.., birth)| *birth).collect();
            prop_assert_eq!(found.len(), births.len(), "a message is in two queues");
            prop_assert_eq!(births, sent);
        }
    }
}

#[test]
fn a_move_takes_the_picked_and_nothing_else_however_far_apart_they_lie() {
    let mut bench = Bench::new(4);
    for _ in 0..100 {
        bench.send("a", 4, Durability::Persistent, None);
    }
    bench.send("a", 4, Durability::NonPersistent, None);
    bench.checkpoint();
    let all = bench.browse("a", 8);
    let (mut spots, mut after, mut queue) = (Vec::new(), None, QueueId(0));
    while let Some(page) = bench.page("a", after, 8) {
        queue = page.queue;
        spots.extend(page.messages.iter().map(|message| message.spot));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let these: BTreeSet<Spot> = [3, 4, 90, 100].map(|at: usize| spots[at]).into();
    let other = Pick::These(QueueId(queue.0 + 1), Arc::new(these.clone()));
    assert!(matches!(bench.shift("a", "b", other), Err(Refusal::NoSuchQueue(_))));
    let reply = bench.shift("a", "b", Pick::These(queue, Arc::new(these)));
    assert!(matches!(reply, Ok(Reply::Moved(reply)) if reply.moved == 4), "{reply:?}");
    assert_eq!(bench.browse("b", 8), [all[3], all[4], all[90], all[100]]);
    assert_eq!(bench.browse("a", 8).len(), 97);
}

#[test]
fn a_move_in_several_requests_takes_what_was_there_when_the_first_came() {
    let mut bench = Bench::new(4);
    (0..30).for_each(|_| bench.send("a", 4, Durability::Persistent, None));
    let mut pick = Pick::First(12);
    let mut moved = 0;
    loop {
        let Ok(Reply::Moved(reply)) = bench.shift("a", "b", pick) else { panic!("it is moved") };
        moved += reply.moved;
        let Some(rest) = reply.rest else { break };
        bench.send("a", 9, Durability::Persistent, None);
        pick = Pick::More(rest, 12);
    }
    assert_eq!(moved, 30);
    assert_eq!(bench.browse("a", 8).len(), 2, "what came meanwhile stays");
}

#[test]
fn a_message_that_was_perhaps_delivered_in_an_earlier_life_says_so_in_its_new_queue() {
    let mut bench = Bench::new(4);
    (0..3).for_each(|_| bench.send("a", 4, Durability::Persistent, None));
    bench.subscribe("a", 1);
    let mut later = Bench::new(4);
    for (written, record) in &bench.log {
        later.broker.apply_record(*written, record).unwrap();
    }
    later.log.clone_from(&bench.log);
    let started = Record::Started { epoch: 1, at: Millis(2000) };
    later.settle_down(vec![Fact::Log(started, Bytes::new())]);
    later.shift("a", "b", Pick::First(u64::MAX)).unwrap();
    let page = later.page("b", None, 8).unwrap();
    let flags: Vec<bool> = page.messages.iter().map(|message| message.redelivered).collect();
    assert_eq!(flags, [true, false, false]);
}

#[test]
fn an_acknowledgement_of_many_is_done_in_parts_and_answered_once() {
    let mut bench = Bench::new(100);
    let count = 3 * STEP_MESSAGES_MAX + 1;
    (0..count + 2).for_each(|_| bench.send("q", 4, Durability::Persistent, None));
    bench.subscribe("q", count as u32 + 1);
    bench.answers.clear();
    let which = Which::Through(bench.held[count - 1]);
    let outcome = Outcome::Accepted;
    let settle = Command::Settle { subscription: SUBSCRIPTION, which, outcome };
    let before = bench.log.len();
    assert_eq!(bench.ask(CONSUMER, &settle), 4);
    assert_eq!(bench.answers.len(), 1);
    let most = bench.log[before..].iter().map(|(_, record)| match record {
        Record::Removed { gone, .. } => gone.len(),
        _ => 0,
    });
    assert_eq!(most.max(), Some(STEP_MESSAGES_MAX));
    assert_eq!(bench.browse("q", 8).len(), 2);
}

#[test]
fn what_expires_beyond_the_window_goes_without_a_consumer() {
    let mut bench = Bench::new(4);
    for number in 0..60 {
        let expires = (number % 3 > 0).then_some(2000 + number);
        bench.send("q", 4, Durability::Persistent, expires);
    }
    bench.checkpoint();
    bench.now = Millis(1500);
    bench.settle_down(Vec::new());
    assert_eq!(bench.browse("q", 8).len(), 60);
    let due = bench.broker.next_deadline().expect("something expires");
    assert!(due <= Millis(2002), "{due:?}");
    bench.now = Millis(3000);
    bench.settle_down(Vec::new());
    assert_eq!(bench.browse("q", 8).len(), 20);
    assert_eq!(bench.broker.totals().counters.expired, 40);
}

#[test]
fn a_list_in_pages_names_every_queue_once_in_order() {
    let mut bench = Bench::new(4);
    let count = 2 * crate::limits::LIST_QUEUES_MAX + 3;
    for number in 0..count {
        bench.send(&format!("q{number}"), 4, Durability::Persistent, None);
    }
    let (mut names, mut after) = (Vec::new(), None::<Box<str>>);
    loop {
        let page = bench.broker.list(after.as_deref());
        assert!(page.len() <= crate::limits::LIST_QUEUES_MAX);
        let Some(last) = page.last() else { break };
        after = Some(last.name.clone());
        names.extend(page.into_iter().map(|queue| queue.name));
    }
    assert_eq!(names.len(), count);
    assert!(names.is_sorted());
}

#[test]
fn a_checkpoint_takes_rows_as_they_were_when_it_began_however_long_it_takes() {
    let mut bench = Bench::new(4);
    for queue in ["a", "b", "c"] {
        bench.send(queue, 4, Durability::Persistent, None);
    }
    bench.broker.freeze(bench.log.last().unwrap().0.lsn);
    assert!(bench.broker.freeze_rows(1).is_none());
    for queue in ["a", "b", "c"] {
        bench.send(queue, 4, Durability::Persistent, None);
    }
    bench.ask(8, &Command::Delete { queue: "c".into() });
    let delta = bench.broker.freeze_rows(2).expect("whole");
    let depths: Vec<_> = delta.queues.values().flatten().map(|row| row.depth).collect();
    assert_eq!(depths, [1, 1, 1]);
    bench.broker.install();
    bench.broker.freeze(bench.log.last().unwrap().0.lsn);
    let delta = bench.broker.freeze_rows(2).expect("whole");
    let depths = delta.queues.values().map(|row| row.as_ref().map(|row| row.depth));
    let depths: Vec<_> = depths.collect();
    assert_eq!(depths, [Some(2), Some(2), None]);
}
