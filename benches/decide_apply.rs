//! The pure broker: what one message costs to decide and to apply, in nanoseconds of
//! processor time.
//!
//! A: an insertion and, for what is consumed, a removal in a map of the standard library with
//! keys and values of the size that the broker keeps for a message: the least that any ordered
//! queue costs on this machine. B: decide and apply of a persistent send. C: the same with a
//! consumer in line, and the message handed to it. D: decide and apply of its acceptance.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use escrowmq::broker::command::{Command, Outcome, Which};
use escrowmq::broker::delta::{Delta, Entry, Place};
use escrowmq::broker::fact::{Effect, Fact};
use escrowmq::broker::{Base, Broker, Effects, Limits, Written};
use escrowmq::engine::NO_TOKEN;
use escrowmq::ids::{ConnectionId, Lsn, Millis, QueueId, SubscriptionId, Tag};
use escrowmq::message::{BodyKind, Content, Destination, Durability, Message, Priority};
use escrowmq::record::Record;
use escrowmq::schedule::When;
use support::cpu::thread_time;
use support::report::{Goal, Series, figures, headline, verdict};
use support::{BODY_BYTES, Size};

/// Messages between two checkpoints, as in the engine's default settings.
const CHECKPOINT_MESSAGES: usize = 100_000;

/// Messages sent before they are accepted: a consumer's prefetch.
const LENT: usize = 256;

const FRAME_BYTES: u32 = 1200;
const NOW: Millis = Millis(1_000_000);
const PEER: ConnectionId = ConnectionId(1);
const SUBSCRIPTION: SubscriptionId = SubscriptionId(1);

pub(crate) fn main() {
    let Some(size) = Size::asked("decide_apply") else { return };
    let messages = if size.is_full() { CHECKPOINT_MESSAGES } else { 4 * LENT };
    let mut bench = Bench::new();
    let mut figures_of = Figures::default();
    for _ in 0..size.rounds {
        figures_of.map.push(nanos(map(messages), messages));
        figures_of.send.push(nanos(bench.send(messages), messages));
        let (handed, accepted) = bench.hand_over(messages);
        figures_of.hand_over.push(nanos(handed, messages));
        figures_of.accept.push(nanos(accepted, messages));
    }
    figures_of.print(size);
}

fn nanos(time: Duration, messages: usize) -> f64 {
    time.as_nanos() as f64 / messages as f64
}

/// Nanoseconds a message.
#[derive(Debug, Default)]
struct Figures {
    map: Series,
    send: Series,
    hand_over: Series,
    accept: Series,
}

impl Figures {
    fn print(&self, size: Size) {
        headline("decide_apply: one persistent message through the pure broker", size.rounds);
        figures("A: one insertion into a map", "ns", &self.map);
        figures("B: send, no consumer", "ns", &self.send);
        figures("C: send and hand over, a consumer in line", "ns", &self.hand_over);
        figures("D: acceptance", "ns", &self.accept);
        figures("B / A", "ratio", &self.send.per(&self.map));
        let microsecond = |series: &Series| {
            let mut whole = Series::default();
            (0..size.rounds).for_each(|_| whole.push(1000.0));
            series.per(&whole)
        };
        verdict("B / 1 us", &microsecond(&self.send), Goal::AtMost(1.0));
        verdict("C / 1 us", &microsecond(&self.hand_over), Goal::AtMost(1.0));
    }
}

fn map(messages: usize) -> Duration {
    let mut map = BTreeMap::new();
    let began = thread_time();
    for seq in 0..messages as u64 {
        let birth = Lsn(seq);
        let entry = Entry {
            birth,
            size: FRAME_BYTES,
            at: NOW,
            expires: None,
            returns: 0,
            upload: None,
            due: None,
            note: None,
            held: false,
            shared: false,
        };
        map.insert((QueueId(1), Place { rank: 5, seq }), Some(entry));
    }
    let took = thread_time() - began;
    assert_eq!(map.len(), messages);
    took
}

/// A broker, and a log that only counts positions.
struct Bench {
    broker: Broker,
    end: u64,
    facts: Vec<Fact>,
    effects: Effects,
    /// Kept so that they are freed outside the measurement, as the engine's checkpointer does.
    frozen: Option<Arc<Delta>>,
}

impl Bench {
    fn new() -> Self {
        let broker = Broker::new(Base::default(), Limits::default(), 64 << 20);
        let (facts, effects) = (Vec::new(), Effects::new());
        let mut bench = Self { broker, end: 4096, facts, effects, frozen: None };
        bench.facts.push(Fact::Log(Record::Started { epoch: 1, at: NOW }, Vec::new().into()));
        bench.apply();
        let from = Destination::Queue("consumed".into());
        let prefetch = LENT as u32;
        bench.command(&Command::Subscribe {
            subscription: SUBSCRIPTION,
            from,
            prefetch,
            selector: None,
        });
        bench
    }

    fn send(&mut self, messages: usize) -> Duration {
        let send = send_to("kept");
        let began = thread_time();
        for _ in 0..messages {
            self.command(&send);
        }
        let took = thread_time() - began;
        assert!(self.effects.is_empty());
        self.checkpoint();
        took
    }

    /// How long it took to send and hand over, and to accept.
    fn hand_over(&mut self, messages: usize) -> (Duration, Duration) {
        let send = send_to("consumed");
        let (mut handed, mut accepted) = (Duration::ZERO, Duration::ZERO);
        for batch in (0..messages).step_by(LENT) {
            let count = LENT.min(messages - batch);
            let began = thread_time();
            for _ in 0..count {
                self.command(&send);
            }
            handed += thread_time() - began;
            let lent: Vec<Tag> = self.effects.drain(..).map(tag_of).collect();
            assert_eq!(lent.len(), count);
            let began = thread_time();
            for tag in lent {
                let which = Which::One(tag);
                let outcome = Outcome::Accepted;
                self.command(&Command::Settle { subscription: SUBSCRIPTION, which, outcome });
            }
            accepted += thread_time() - began;
        }
        self.checkpoint();
        (handed, accepted)
    }

    /// What the engine does with a command, without log and outbox.
    fn command(&mut self, command: &Command) {
        let verdict = self.broker.decide(NOW, PEER, NO_TOKEN, command, &mut self.facts);
        verdict.expect("nothing here is refused");
        self.apply();
        while self.broker.work(NOW, &mut self.facts, &mut self.effects) {
            self.apply();
        }
    }

    fn apply(&mut self) {
        for fact in self.facts.drain(..) {
            match fact {
                Fact::Log(record, _) => {
                    let written = Written { lsn: Lsn(self.end), frame_len: FRAME_BYTES };
                    self.end += u64::from(FRAME_BYTES);
                    self.broker.apply_record(written, &record).expect("decided from this state");
                }
                Fact::Memory(change) => self.broker.apply_change(change, &mut self.effects),
            }
        }
    }

    fn checkpoint(&mut self) {
        self.broker.freeze(Lsn(self.end - 1));
        self.frozen = Some(self.broker.freeze_rows(usize::MAX).expect("all rows are taken"));
        self.broker.install();
    }
}

fn send_to(queue: &str) -> Command {
    let body = vec![b'x'; BODY_BYTES].into();
    let content = Content { kind: BodyKind::Bytes, properties: Vec::new(), body }.encode();
    let (durability, priority) = (Durability::Persistent, Priority::DEFAULT);
    let message = Message {
        durability,
        priority,
        expires: None,
        when: When::AtOnce,
        grouped: false,
        content,
    };
    Command::Send { to: Destination::Queue(queue.into()), message }
}

fn tag_of(effect: Effect) -> Tag {
    let Effect::Deliver(assignment) = effect else { panic!("{effect:?}") };
    assignment.tag
}
