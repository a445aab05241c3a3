//! Nothing comes twice to one consumer in the life of its connection, whatever its client, another
//! consumer and a transaction manager do with what it has; and nothing is lost or doubled.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use escrowmq::protocol::openwire::message::Message;
use escrowmq::protocol::openwire::table::{
    ConnectionId, ConsumerId, LocalTransactionId, MessageAck, TransactionId,
};
use escrowmq::protocol::openwire::{Structure, Text, Throwable};

use crate::support::broker::Broker;
use crate::support::openwire::{OpenWire, branch, queue};
use crate::support::random::Random;
use crate::support::{fresh_dir, wait_until};

const BOTH: &[&str] = &["--listen", "stomp://127.0.0.1:0", "--listen", "tcp://127.0.0.1:0"];
const BEGIN: i8 = 0;
const PREPARE: i8 = 1;
const COMMIT: i8 = 2;
const COMMIT_TWO_PHASE: i8 = 3;
const ROLLBACK: i8 = 4;
const RECOVER: i8 = 5;
const END: i8 = 7;
const DELIVERED: i8 = 0;
const POISON: i8 = 1;
const INDIVIDUAL: i8 = 4;
const EXPIRED: i8 = 6;

/// A client with one consumer, which delivers again by itself what it has rolled back.
struct Worker {
    wire: OpenWire,
    name: String,
    /// What its consumer has been sent, ever.
    seen: BTreeSet<i64>,
    /// What it has in its hands: only a transaction tells whether that is so.
    held: BTreeMap<i64, (Message, bool)>,
}

/// A transaction's outcome for the messages in it.
#[derive(Clone, Copy, PartialEq)]
enum Told {
    Consumed,
    Kept,
    /// Somebody else has rolled it back.
    Unknown,
}

impl Worker {
    fn begin(port: u16, name: String) -> Self {
        let mut wire = OpenWire::connect(port, &name);
        wire.consume("q", 8, false);
        Self { wire, name, seen: BTreeSet::new(), held: BTreeMap::new() }
    }

    /// Takes in what has come, each for the first time.
    #[track_caller]
    fn look(&mut self) {
        for message in self.wire.came() {
            let id = message.head.message_id.as_ref().expect("it has one").producer_sequence_id;
            assert!(self.seen.insert(id), "{} is sent {id} a second time", self.name);
            self.held.insert(id, (message, false));
        }
    }

    fn any(&self, random: &mut Random) -> Option<i64> {
        let ids: Vec<_> = self.held.keys().copied().collect();
        (!ids.is_empty()).then(|| ids[random.below(ids.len() as u64) as usize])
    }

    #[track_caller]
    fn ack(&mut self, id: i64, kind: i8, within: Option<&TransactionId>) {
        let (message, _) = &self.held[&id];
        let audit = "Suppressing duplicate delivery on connection, consumer ID:c:1:1";
        let connection_id = Text::new(&self.name);
        let ack = MessageAck {
            command_id: self.wire.number(),
            response_required: true,
            consumer_id: Some(ConsumerId { connection_id, session_id: 1, value: 1 }),
            destination: message.head.destination.clone(),
            transaction_id: within.cloned(),
            kind,
            first_message_id: message.head.message_id.clone(),
            last_message_id: message.head.message_id.clone(),
            message_count: 1,
            poison_cause: (kind == POISON).then(|| Throwable::new("java.lang.Throwable", audit)),
        };
        let answer = self.wire.ask(&ack);
        assert!(matches!(answer, Structure::Response(_)), "{answer:?}");
    }

    /// Some of what it has, in a transaction of its own; what came of them.
    fn transact(&mut self, random: &mut Random, manager: &mut OpenWire, number: u8) -> Vec<i64> {
        let xa = random.one_in(2);
        let connection_id = Some(ConnectionId { value: Text::new(&self.name) });
        let local = LocalTransactionId { value: number.into(), connection_id };
        let id = if xa { branch(number) } else { local.into() };
        let _ = self.wire.transaction(Some(&id), BEGIN);
        let mut parts: Vec<_> = (0..3).filter_map(|_| self.any(random)).collect();
        parts.sort_unstable();
        parts.dedup();
        parts.iter().for_each(|part| self.ack(*part, INDIVIDUAL, Some(&id)));
        let told =
            if xa { self.end_branch(random, manager, &id) } else { self.end_local(random, &id) };
        for part in &parts {
            match told {
                Told::Consumed => drop(self.held.remove(part)),
                Told::Kept => {}
                Told::Unknown => self.held.get_mut(part).expect("it was there").1 = true,
            }
        }
        if told == Told::Consumed { parts } else { Vec::new() }
    }

    fn end_local(&mut self, random: &mut Random, id: &TransactionId) -> Told {
        if random.one_in(3) {
            let _ = self.wire.transaction(Some(id), ROLLBACK);
            return Told::Kept;
        }
        match self.wire.transaction(Some(id), COMMIT) {
            Structure::Response(_) => Told::Consumed,
            // Something in it was another's meanwhile.
            _ => Told::Unknown,
        }
    }

    fn end_branch(
        &mut self,
        random: &mut Random,
        manager: &mut OpenWire,
        id: &TransactionId,
    ) -> Told {
        let _ = self.wire.transaction(Some(id), END);
        let voted = random.one_in(2).then(|| self.wire.transaction(Some(id), PREPARE));
        let elsewhere = random.one_in(2);
        if elsewhere {
            // Nobody has told the worker, who hears so when it goes on; what was in the branch has
            // come back by then.
            let _ = manager.transaction(Some(id), ROLLBACK);
            let _ = self.wire.transaction(None, RECOVER);
        }
        let verb = match voted {
            Some(Structure::IntegerResponse(vote)) if vote.result == 3 => return Told::Kept,
            _ if random.one_in(3) => ROLLBACK,
            Some(_) => COMMIT_TWO_PHASE,
            None => COMMIT,
        };
        match self.wire.transaction(Some(id), verb) {
            Structure::Response(_) if verb == ROLLBACK && !elsewhere => Told::Kept,
            Structure::Response(_) if verb != ROLLBACK => Told::Consumed,
            _ => Told::Unknown,
        }
    }
}

/// All that is told of messages.
#[derive(Default)]
struct Books {
    sent: BTreeSet<i64>,
    consumed: BTreeSet<i64>,
    /// Those that a client took for expired long before they are.
    resting: BTreeSet<i64>,
}

impl Books {
    fn send(&mut self, wire: &mut OpenWire, expires: i64) {
        let id = i64::try_from(self.sent.len()).unwrap() + 1;
        let mut message = wire.text(id, queue("q"), "a message");
        message.head.expiration = expires;
        assert!(matches!(wire.ask(&message), Structure::Response(_)));
        self.sent.insert(id);
    }

    #[track_caller]
    fn consume(&mut self, id: i64) {
        assert!(self.consumed.insert(id), "{id} is consumed a second time");
    }
}

#[test]
fn nothing_is_sent_twice_to_one_consumer_and_nothing_lost_whatever_is_done_with_it() {
    let dir = fresh_dir();
    let broker = Broker::start_with(&dir.path().join("data"), BOTH);
    let (port, mut random, mut books) = (broker.ports()[1], Random::from_env(), Books::default());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let later = i64::try_from(now).unwrap() + 3_600_000;
    let (mut sender, mut manager) = (OpenWire::connect(port, "s"), OpenWire::connect(port, "m"));
    let mut workers = ["a", "b"].map(|name| Worker::begin(port, name.to_owned()));
    for step in 0..240 {
        let worker = &mut workers[random.below(2) as usize];
        let _ = worker.wire.transaction(None, RECOVER);
        worker.look();
        let one = worker.any(&mut random).filter(|id| !worker.held[id].1);
        match (random.below(12), one) {
            (0..=3, _) => (0..2).for_each(|_| books.send(&mut sender, later)),
            (4, Some(id)) => {
                worker.ack(id, INDIVIDUAL, None);
                worker.held.remove(&id);
                books.consume(id);
            }
            (5, Some(id)) => {
                worker.ack(id, EXPIRED, None);
                worker.held.remove(&id);
                books.resting.insert(id);
            }
            (6, Some(id)) => worker.ack(id, DELIVERED, None),
            (7, Some(id)) if random.one_in(2) => {
                worker.ack(id, POISON, None);
                worker.held.remove(&id);
            }
            (8, _) if random.one_in(3) => *worker = Worker::begin(port, format!("{step}")),
            _ => {
                let number = u8::try_from(step).unwrap();
                let consumed = worker.transact(&mut random, &mut manager, number);
                consumed.into_iter().for_each(|id| books.consume(id));
            }
        }
    }
    drop(workers);
    let of = |name: &str| broker.queues().into_iter().find(|(known, ..)| known == name);
    wait_until("the workers have gone", || of("q").is_some_and(|(_, _, readers)| readers == 0));
    // What a manager has taken away too often is set apart, and is all there too.
    let (mut last, dead) = (OpenWire::connect(port, "last"), of("ActiveMQ.DLQ"));
    let dead = dead.map_or(0, |(_, depth, _)| depth as usize);
    let left = books.sent.len() - books.consumed.len() - dead;
    assert_eq!(of("q").unwrap().1, left as u64);
    for (from, count) in [("q", left - books.resting.len()), ("ActiveMQ.DLQ", dead)] {
        last.consume(from, 1000, false);
        for _ in 0..count {
            let id = last.message().0.head.message_id.unwrap().producer_sequence_id;
            assert!(!books.resting.contains(&id), "{id} is not over");
            books.consume(id);
        }
        last = OpenWire::connect(port, "next");
    }
}
