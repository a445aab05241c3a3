//! Durable subscriptions through crashes: each gets each publication that it wants once.
//!
//! One publisher, alone and in transactions, and a consumer for each of a few subscriptions, which
//! come and go, with checkpoints and compaction between. At every storage operation before which a
//! power cut could lose something the disk is crashed, recovered and compared with what was said:
//! what was confirmed is there for all who want it, what was not is there for all of them or for
//! none, what was acknowledged is gone, and a payload is live as long as somebody holds it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::broker::command::{
    Command, Confirm, KeepAs, Outcome, Output, Refusal, Request, Which, Work,
};
use crate::engine::{Input, Mailbox, Turn};
use crate::ids::{ConnectionId, Millis, SubscriptionId, Tag, Token, TransactionName};
use crate::io::sim::SimDisk;
use crate::message::{BodyKind, Content, Destination, Durability, Message, Priority};
use crate::mutant::{self, Mutant};
use crate::schedule::When;
use crate::selector::Selector;

use super::node::{Contents, Node, number_of};
use super::random::Random;

const SUBSCRIPTION: SubscriptionId = SubscriptionId(1);
const T: TransactionName = TransactionName(1);

/// Each by what it wants; the one with a selector wants even numbers.
const KEEPERS: [Option<&str>; 4] = [None, Some("JMSPriority = 6"), None, None];

/// What was said of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Asked,
    Confirmed,
}

/// Publications that happen together, and what became of each in each subscription.
#[derive(Debug)]
struct Group {
    numbers: Vec<u64>,
    said: Said,
    /// The subscriptions that were there.
    keepers: BTreeSet<usize>,
}

struct World {
    random: Random,
    disk: SimDisk,
    node: Node,
    now: Millis,
    connections: u64,
    publisher: Option<Peer>,
    consumers: BTreeMap<usize, Peer>,
    groups: Vec<Group>,
    acknowledged: BTreeMap<(usize, u64), Said>,
    /// Subscriptions that are there.
    there: BTreeSet<usize>,
    last_number: u64,
    crashes: usize,
}

struct Peer {
    id: ConnectionId,
    mailbox: Arc<Mailbox>,
    holds: Vec<(Tag, u64)>,
}

fn wants(keeper: usize, number: u64) -> bool {
    KEEPERS[keeper].is_none() || number.is_multiple_of(2)
}

fn message(number: u64) -> Message {
    let properties = vec![("number".to_owned(), number.to_string())];
    let body = vec![number as u8; 100 + (number as usize * 97) % 3000].into();
    let content = Content { kind: BodyKind::Bytes, properties, body }.encode();
    let priority = Priority::new(if number.is_multiple_of(2) { 6 } else { 4 }).unwrap();
    let (durability, when) = (Durability::Persistent, When::AtOnce);
    Message { durability, priority, expires: None, when, content }
}

impl World {
    fn new(seed: u64) -> Result<Self, String> {
        let (mut random, disk, now) = (Random::new(seed), SimDisk::new(), Millis(1_000_000));
        disk.start_moments();
        let node = Node::open(&disk, random.next() & !1, now).map_err(|e| e.to_string())?;
        Ok(Self {
            random,
            disk,
            node,
            now,
            connections: 0,
            publisher: None,
            consumers: BTreeMap::new(),
            groups: Vec::new(),
            acknowledged: BTreeMap::new(),
            there: BTreeSet::new(),
            last_number: 0,
            crashes: 0,
        })
    }

    fn live(&mut self, steps: usize) -> Result<(), String> {
        for _ in 0..steps {
            match self.random.below(30) {
                0..8 => self.publish()?,
                8..12 => self.publish_together()?,
                12..16 => self.come_or_go()?,
                16..28 => self.acknowledge()?,
                28 => {
                    let seed = self.random.next();
                    let crashed = self.disk.snapshot_crash(seed);
                    self.begin_anew(crashed)?;
                }
                _ => self.now.0 += 400,
            }
        }
        Ok(())
    }

    fn connect(&mut self) -> Peer {
        self.connections += 1;
        let (id, mailbox) = (ConnectionId(self.connections), Arc::new(Mailbox::default()));
        self.node.inputs.push_back(Input::Connect(id, Arc::clone(&mailbox)));
        Peer { id, mailbox, holds: Vec::new() }
    }

    /// Asks, and lets everything happen until there is an answer.
    fn ask(&mut self, peer: &mut Peer, command: Command) -> Result<Result<(), Refusal>, String> {
        let request = Request { token: Token(1), confirm: Confirm::Always, command };
        self.node.inputs.push_back(Input::Requests(peer.id, [request].into(), None));
        for _ in 0..10_000 {
            self.run_a_little()?;
            if let Some(result) = self.collect(peer)? {
                return Ok(result);
            }
        }
        Err("an answer never came".to_owned())
    }

    fn collect(&mut self, peer: &mut Peer) -> Result<Option<Result<(), Refusal>>, String> {
        let (mut outputs, mut answer) = (Vec::new(), None);
        peer.mailbox.take(&mut outputs).map_err(|e| format!("{e:?}"))?;
        for output in outputs {
            match output {
                Output::Answer { result, .. } => answer = Some(result.map(drop)),
                Output::Delivery(delivery) => {
                    peer.holds.push((delivery.tag, number_of(&delivery.content)?));
                }
                other => return Err(format!("nobody asked for {other:?}")),
            }
        }
        if peer.mailbox.written(usize::MAX) {
            self.node.inputs.push_back(Input::Writable(peer.id));
        }
        Ok(answer)
    }

    fn run_a_little(&mut self) -> Result<(), String> {
        match self.random.below(8) {
            0..3 => drop(self.node.turn(self.now).map_err(|e| e.to_string())?),
            3..5 => drop(self.node.log_step()),
            5 => drop(self.node.room_step()),
            6 => drop(self.node.compact_step()),
            _ => {
                let which = self.random.next() as usize;
                self.node.job_step(which);
            }
        }
        for moment in self.disk.take_moments() {
            if !self.random.one_in(3) {
                continue;
            }
            let seed = self.random.next();
            let crashed = moment.disk.snapshot_crash(seed);
            let mut node = Node::open(&crashed, seed & !1, self.now).map_err(|e| e.to_string())?;
            self.check(&mut node)?;
            self.crashes += 1;
        }
        Ok(())
    }

    fn publisher(&mut self) -> Peer {
        self.publisher.take().unwrap_or_else(|| self.connect())
    }

    fn begin(&mut self, count: u64) -> Vec<u64> {
        let numbers: Vec<_> = (1..=count).map(|n| self.last_number + n).collect();
        self.last_number += count;
        let keepers = self.there.clone();
        let (said, known) = (Said::Asked, numbers.clone());
        self.groups.push(Group { numbers: known, said, keepers });
        numbers
    }

    fn publish(&mut self) -> Result<(), String> {
        let mut peer = self.publisher();
        let number = self.begin(1)[0];
        let command = Command::Send { to: Destination::topic("t"), message: message(number) };
        self.ask(&mut peer, command)?.map_err(|e| e.to_string())?;
        self.groups.last_mut().expect("just begun").said = Said::Confirmed;
        self.publisher = Some(peer);
        Ok(())
    }

    fn publish_together(&mut self) -> Result<(), String> {
        let mut peer = self.publisher();
        let numbers = self.begin(3);
        let commit = self.random.below(4) > 0;
        let mut commands = vec![Command::Begin { transaction: T }];
        commands.extend(numbers.iter().map(|number| {
            let work = Work::Send { to: Destination::topic("t"), message: message(*number) };
            Command::Transact { transaction: T, work }
        }));
        for command in commands {
            self.ask(&mut peer, command)?.map_err(|e| e.to_string())?;
        }
        if commit {
            let command = Command::Commit { transaction: T };
            self.ask(&mut peer, command)?.map_err(|e| e.to_string())?;
            self.groups.last_mut().expect("just begun").said = Said::Confirmed;
            self.publisher = Some(peer);
        } else {
            // It goes, and what it did not commit never was.
            self.groups.pop();
            self.node.inputs.push_back(Input::Close(peer.id));
        }
        Ok(())
    }

    fn come_or_go(&mut self) -> Result<(), String> {
        let keeper = self.random.below(KEEPERS.len() as u64) as usize;
        if let Some(peer) = self.consumers.remove(&keeper) {
            self.node.inputs.push_back(Input::Close(peer.id));
            return Ok(());
        }
        let mut peer = self.connect();
        let selector = KEEPERS[keeper].map(|text| Arc::new(Selector::parse(text).unwrap()));
        let keep = KeepAs {
            client: format!("client {keeper}").into(),
            name: "s".into(),
            topic: "t".into(),
            prefetch: 3,
            selector,
            no_local: false,
        };
        let command = Command::Keep { subscription: SUBSCRIPTION, keep: Box::new(keep) };
        self.ask(&mut peer, command)?.map_err(|e| e.to_string())?;
        self.there.insert(keeper);
        self.consumers.insert(keeper, peer);
        Ok(())
    }

    fn acknowledge(&mut self) -> Result<(), String> {
        let keeper = self.random.below(KEEPERS.len() as u64) as usize;
        let Some(mut peer) = self.consumers.remove(&keeper) else { return Ok(()) };
        self.collect(&mut peer)?;
        if !peer.holds.is_empty() {
            let (tag, number) = peer.holds.remove(0);
            if !wants(keeper, number) {
                return Err(format!("{number} came to {keeper}, who does not want it"));
            }
            self.acknowledged.insert((keeper, number), Said::Asked);
            let (which, outcome) = (Which::One(tag), Outcome::Accepted);
            let command = Command::Settle { subscription: SUBSCRIPTION, which, outcome };
            self.ask(&mut peer, command)?.map_err(|e| e.to_string())?;
            self.acknowledged.insert((keeper, number), Said::Confirmed);
        }
        self.consumers.insert(keeper, peer);
        Ok(())
    }

    fn begin_anew(&mut self, disk: SimDisk) -> Result<(), String> {
        disk.start_moments();
        let nonce = self.random.next() & !1;
        let mut node = Node::open(&disk, nonce, self.now).map_err(|e| e.to_string())?;
        let kept = self.check(&mut node)?;
        (self.disk, self.node) = (disk, node);
        (self.publisher, self.consumers) = (None, BTreeMap::new());
        // What nobody was told of is as it was found.
        self.acknowledged.retain(|key, said| *said == Said::Confirmed || !kept.contains(key));
        for group in &mut self.groups {
            let all = || {
                group
                    .keepers
                    .iter()
                    .flat_map(|keeper| group.numbers.iter().map(|number| (*keeper, *number)))
            };
            let known =
                |key: &(usize, u64)| kept.contains(key) || self.acknowledged.contains_key(key);
            if group.said == Said::Asked && !all().any(|key| known(&key)) {
                group.keepers.clear();
            }
            group.said = Said::Confirmed;
        }
        Ok(())
    }

    /// What a store says, when everything that follows by itself has happened.
    fn check(&self, node: &mut Node) -> Result<BTreeSet<(usize, u64)>, String> {
        node.end_transactions(self.now)?;
        let mut still = 0;
        while still < 3 {
            let turn = node.turn(self.now).map_err(|e| e.to_string())?;
            let busy = (turn == Turn::Busy) | node.log_step() | node.room_step() | node.job_step(0);
            still = if busy { 0 } else { still + 1 };
        }
        let contents: Contents = node.contents()?;
        if let Some((number, found)) = contents.messages.first_key_value() {
            return Err(format!("{number} waits for nothing: {found:?}"));
        }
        let mut kept = BTreeSet::new();
        for ((queue, number), count) in &contents.kept {
            let keeper = (0..KEEPERS.len())
                .find(|keeper| queue.starts_with(&format!("subscription://client%20{keeper}/")))
                .ok_or_else(|| format!("{number} is stuck in {queue}"))?;
            if *count != 1 || !wants(keeper, *number) {
                return Err(format!("{number} is in {queue} {count} times"));
            }
            kept.insert((keeper, *number));
        }
        for group in &self.groups {
            let mut found = BTreeSet::new();
            for keeper in &group.keepers {
                for number in group.numbers.iter().filter(|number| wants(*keeper, **number)) {
                    let key = (*keeper, *number);
                    match (self.acknowledged.get(&key), kept.contains(&key)) {
                        (Some(Said::Confirmed), true) => {
                            return Err(format!("{key:?} is there again"));
                        }
                        (Some(_), _) => drop(found.insert(true)),
                        (None, there) => drop(found.insert(there)),
                    }
                }
            }
            if found.len() > 1 {
                return Err(format!("{group:?} is there in part"));
            }
            if group.said == Said::Confirmed && found.contains(&false) {
                return Err(format!("{group:?} is lost"));
            }
        }
        Ok(kept)
    }
}

fn run(seed: u64, steps: usize) -> Result<usize, String> {
    let tell = |e: String| format!("seed {seed}: {e}");
    let mut world = World::new(seed).map_err(tell)?;
    world.live(steps).map_err(tell)?;
    Ok(world.crashes)
}

#[test]
fn each_subscription_gets_each_publication_once_through_every_crash() {
    let seeds = std::env::var("ESCROW_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = seeds.map_or(1..4, |seed: u64| seed..seed + 1);
    let crashes: usize = seeds.map(|seed| run(seed, 150).unwrap()).sum();
    assert!(crashes > 100, "{crashes} crashes were tried");
}

#[test]
fn defects_of_what_subscriptions_keep_are_caught() {
    for (mutant, says) in
        [(Mutant::PublishToOne, "is there in part"), (Mutant::DropShared, "live bytes")]
    {
        let caught = (1..20).find_map(|seed| {
            mutant::set(Some(mutant));
            let verdict = run(seed, 150);
            mutant::set(None);
            verdict.err()
        });
        let caught = caught.unwrap_or_else(|| panic!("{mutant:?} was not caught"));
        assert!(caught.contains(says), "{mutant:?}: {caught}");
    }
}

#[test]
fn a_publication_to_a_thousand_is_one_sync_and_in_the_log_once() {
    let mut world = World::new(1).unwrap();
    for keeper in 0..1000 {
        let mut peer = world.connect();
        let keep = KeepAs {
            client: format!("client {keeper}").into(),
            name: "s".into(),
            topic: "t".into(),
            prefetch: 1,
            selector: None,
            no_local: false,
        };
        let command = Command::Keep { subscription: SUBSCRIPTION, keep: Box::new(keep) };
        let request = Request { token: Token(1), confirm: Confirm::Always, command };
        world.node.inputs.push_back(Input::Requests(peer.id, [request].into(), None));
        world.node.turn(world.now).unwrap();
        world.node.inputs.push_back(Input::Close(peer.id));
        world.collect(&mut peer).unwrap();
    }
    let quiet = |world: &mut World| {
        for _ in 0..300 {
            world.node.turn(world.now).unwrap();
            while world.node.log_step() || world.node.room_step() || world.node.job_step(0) {}
        }
    };
    quiet(&mut world);
    drop(world.disk.take_moments());
    let (before, mut peer) = (world.node.log.appended(), world.connect());
    let content =
        Content { kind: BodyKind::Bytes, properties: Vec::new(), body: vec![7; 20_000].into() };
    let message = Message { content: content.encode(), ..message(1) };
    let command = Command::Send { to: Destination::topic("t"), message };
    let request = Request { token: Token(1), confirm: Confirm::Always, command };
    world.node.inputs.push_back(Input::Requests(peer.id, [request].into(), None));
    world.node.turn(world.now).unwrap();
    while world.node.log_step() {}
    world.node.turn(world.now).unwrap();
    assert_eq!(world.collect(&mut peer).unwrap(), Some(Ok(())));
    let took = world.node.log.appended().0 - before.0;
    assert!(took < 40_000, "{took} bytes for one body and 1,000 places");
    let moments = world.disk.take_moments();
    let syncs = moments.iter().filter(|moment| moment.label.starts_with("sync wal")).count();
    assert!(syncs <= 1, "{syncs} syncs");
    let depth = |world: &World| {
        let rows = world.node.engine.broker().rows();
        let kept = rows.values().filter(|row| row.name.starts_with("subscription://"));
        kept.map(|row| row.depth).sum::<u64>()
    };
    assert_eq!(depth(&world), 1000);
}
