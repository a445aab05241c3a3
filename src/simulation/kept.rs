//! Durable subscriptions, and queues that read the topic, through crashes: each gets each
//! publication that it wants once.
//!
//! Publishers, alone, in transactions and in branches that vote, and a consumer for each of a few
//! keepers, which come and go, are made anew, end, are purged and moved from, with limits
//! that are reached, checkpoints and compaction between. At every storage operation before which a
//! power cut could lose something the disk is crashed, recovered and compared with what was said:
//! what was confirmed is there for all who want it, what was not is there for all of them or for
//! none, what was acknowledged is gone, and a payload is live as long as somebody holds it.

mod check;
mod groups;
mod large;
mod listening;
mod readers;
mod shares;

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::sync::Arc;

use crate::broker::command::{
    Command, Confirm, Disposition, EndAs, KeepAs, Outcome, Output, Pick, Refusal, Request, Returns,
    StartAs, Which, Work, XaCommand,
};
use crate::engine::{Input, Mailbox, Turn};
use crate::ids::{ConnectionId, Millis, SubscriptionId, Tag, Token, TransactionName};
use crate::io::sim::SimDisk;
use crate::message::{BodyKind, Content, Destination, Message};
use crate::mutant::{self, Mutant};
use crate::selector::Selector;

use self::groups::{Group, Said, message};
use super::bodies::Receiving;
use super::branches::xid_of;
use super::node::Node;
use super::random::Random;

const SUBSCRIPTION: SubscriptionId = SubscriptionId(1);
const T: TransactionName = TransactionName(1);

/// How many keepers there may be: subscriptions, and behind them queues that read the topic.
const KEEPERS: usize = SUBSCRIPTIONS + 2;
const SUBSCRIPTIONS: usize = 4;
/// The one with a selector, which changes now and then.
const SELECTS: usize = 1;
/// The one that keeps the topic by a pattern.
const CATCHES: usize = 2;
/// The one that wants nothing of its own client.
const NO_LOCAL: usize = 3;

/// The topic; what a subscription of it may keep is limited.
pub(super) const TOPIC: &str = "VirtualTopic.kept";
/// What catches it.
pub(super) const PATTERN: &str = "*.kept";
/// Messages.
pub(super) const KEEPS_AT_MOST: u64 = 25;

struct World {
    random: Random,
    disk: SimDisk,
    node: Node,
    now: Millis,
    connections: u64,
    publisher: Option<(Peer, Option<usize>)>,
    consumers: BTreeMap<usize, Peer>,
    /// Who only listens, and how often it has taken something.
    listener: Option<listening::Listener>,
    heard: usize,
    groups: Vec<Group>,
    acknowledged: BTreeMap<(usize, u64), Said>,
    /// What a subscription has given up, which is set apart.
    rejected: BTreeMap<(usize, u64), Said>,
    /// What is acknowledged as one at this moment.
    together: Vec<(usize, u64)>,
    /// Keepers that are there, and whether each wants even numbers.
    there: BTreeMap<usize, bool>,
    last_number: u64,
    last_branch: u64,
    refused: usize,
    crashes: usize,
}

struct Peer {
    id: ConnectionId,
    mailbox: Arc<Mailbox>,
    holds: Vec<(Tag, u64)>,
    /// All that ever came.
    came: Vec<u64>,
    /// A large body on its way.
    taking: Option<Receiving>,
}

/// A subscription as its client describes it.
fn words(keeper: usize, even: bool) -> KeepAs {
    let selector = match even {
        _ if keeper != SELECTS => None,
        true => Some("JMSPriority = 6"),
        false => Some("JMSPriority = 4"),
    };
    KeepAs {
        client: client(keeper),
        name: "s".into(),
        topic: if keeper == CATCHES { PATTERN } else { TOPIC }.into(),
        prefetch: 3,
        selector: selector.map(|text| Arc::new(Selector::parse(text).unwrap())),
        no_local: keeper == NO_LOCAL,
        reader: None,
    }
}

/// How the names of its queues begin.
fn prefix_of(keeper: usize) -> String {
    readers::queue_of(keeper).unwrap_or(format!("subscription://client%20{keeper}/"))
}

fn client(keeper: usize) -> Arc<str> {
    format!("client {keeper}").into()
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
            listener: None,
            heard: 0,
            groups: Vec::new(),
            acknowledged: BTreeMap::new(),
            rejected: BTreeMap::new(),
            together: Vec::new(),
            there: BTreeMap::new(),
            last_number: 0,
            last_branch: 0,
            refused: 0,
            crashes: 0,
        })
    }

    fn live(&mut self, steps: usize) -> Result<(), String> {
        for _ in 0..steps {
            match self.random.below(52) {
                0..8 => self.publish()?,
                8..12 => self.publish_together()?,
                12..14 => self.vote()?,
                14..16 => self.decide()?,
                16..20 => self.come_or_go()?,
                20..31 => self.acknowledge()?,
                31..34 => self.acknowledge_together()?,
                34 => self.give_back()?,
                35 => self.end()?,
                36 => self.operate()?,
                37 => {
                    let seed = self.random.next();
                    let crashed = self.disk.snapshot_crash(seed);
                    self.begin_anew(crashed)?;
                }
                38..50 => self.listen()?,
                _ => self.now.0 += 400,
            }
        }
        Ok(())
    }

    fn any_keeper(&mut self) -> usize {
        self.random.below(KEEPERS as u64) as usize
    }

    fn connect(&mut self) -> Peer {
        self.connections += 1;
        let (id, mailbox) = (ConnectionId(self.connections), Arc::new(Mailbox::default()));
        self.node.inputs.push_back(Input::Connect(id, Arc::clone(&mailbox)));
        Peer { id, mailbox, holds: Vec::new(), came: Vec::new(), taking: None }
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

    /// The same of something that is not refused.
    fn must(&mut self, peer: &mut Peer, command: Command) -> Result<(), String> {
        let what = format!("{command:?}");
        self.ask(peer, command)?.map_err(|e| format!("{e}: {what}"))
    }

    fn collect(&mut self, peer: &mut Peer) -> Result<Option<Result<(), Refusal>>, String> {
        let (mut outputs, mut answer) = (Vec::new(), None);
        peer.mailbox.take(&mut outputs).map_err(|e| format!("{e:?}"))?;
        for output in outputs {
            match output {
                Output::Answer { result, .. } => answer = Some(result.map(drop)),
                Output::Delivery(delivery) => {
                    if matches!(&delivery.from, Destination::Topic(topic) if **topic != *TOPIC) {
                        return Err(format!("it came from {}", delivery.from));
                    }
                    peer.take(&delivery)?;
                }
                Output::Piece { tag, bytes, .. } => peer.take_piece(tag, &bytes)?,
                // It was settled before all of it was here.
                Output::Broken { tag, .. } if !peer.has(tag) => peer.taking = None,
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

    /// Who publishes: some client without subscriptions, or one that has one.
    fn publisher(&mut self) -> Result<(Peer, Option<usize>), String> {
        if let Some(known) = self.publisher.take() {
            return Ok(known);
        }
        let mut peer = self.connect();
        if self.random.one_in(2) {
            return Ok((peer, None));
        }
        let client = client(NO_LOCAL);
        self.must(&mut peer, Command::Identify { client })?;
        Ok((peer, Some(NO_LOCAL)))
    }

    fn publish(&mut self) -> Result<(), String> {
        let (mut peer, client) = self.publisher()?;
        let number = self.begin(1, client)[0];
        self.delay();
        self.asked();
        match self.send(&mut peer, number, false)? {
            Ok(()) => self.last().said = Said::Confirmed,
            Err(Refusal::DestinationFull { .. }) => {
                self.refused += 1;
                self.groups.pop();
            }
            Err(other) => return Err(other.to_string()),
        }
        self.publisher = Some((peer, client));
        Ok(())
    }

    fn publish_in(&mut self, peer: &mut Peer, numbers: &[u64]) -> Result<(), String> {
        for number in numbers {
            self.send(peer, *number, true)?.map_err(|refusal| refusal.to_string())?;
        }
        Ok(())
    }

    fn publish_together(&mut self) -> Result<(), String> {
        let (mut peer, client) = self.publisher()?;
        let numbers = self.begin(3, client);
        self.delay();
        self.must(&mut peer, Command::Begin { transaction: T })?;
        self.publish_in(&mut peer, &numbers)?;
        if self.random.below(4) > 0 {
            self.asked();
            match self.ask(&mut peer, Command::Commit { transaction: T })? {
                Ok(()) => {
                    self.last().said = Said::Confirmed;
                    self.publisher = Some((peer, client));
                }
                Err(Refusal::DestinationFull { .. }) => {
                    self.refused += 1;
                    self.groups.pop();
                    self.node.inputs.push_back(Input::Close(peer.id));
                }
                Err(other) => return Err(other.to_string()),
            }
        } else {
            // It goes, and what it did not commit never was.
            self.groups.pop();
            self.node.inputs.push_back(Input::Close(peer.id));
        }
        Ok(())
    }

    /// Publishes in a branch, up to its vote.
    fn vote(&mut self) -> Result<(), String> {
        let (mut peer, client) = self.publisher()?;
        self.last_branch += 1;
        let numbers = self.begin(2, client);
        let (xid, transaction) = (xid_of(self.last_branch), T);
        let (how, timeout, who) = (StartAs::New, None, "manager".into());
        let start =
            XaCommand::Start { xid: Arc::clone(&xid), how, transaction, timeout, client: who };
        self.must(&mut peer, Command::Xa(start))?;
        self.publish_in(&mut peer, &numbers)?;
        let end = XaCommand::End { xid: Arc::clone(&xid), transaction, how: EndAs::Success };
        self.must(&mut peer, Command::Xa(end))?;
        match self.ask(&mut peer, Command::Xa(XaCommand::Prepare { xid }))? {
            Ok(()) => {
                let branch = Some(self.last_branch);
                (self.last().branch, self.last().voted) = (branch, true);
            }
            Err(Refusal::DestinationFull { .. }) => {
                self.refused += 1;
                self.groups.pop();
            }
            Err(other) => return Err(other.to_string()),
        }
        self.publisher = Some((peer, client));
        Ok(())
    }

    /// Ends a branch that has voted.
    fn decide(&mut self) -> Result<(), String> {
        let voted: Vec<_> =
            (0..self.groups.len()).filter(|group| self.groups[*group].branch.is_some()).collect();
        if voted.is_empty() {
            return Ok(());
        }
        let at = voted[self.random.below(voted.len() as u64) as usize];
        let mut peer = self.connect();
        let xid = xid_of(self.groups[at].branch.take().expect("just seen"));
        if self.random.one_in(4) {
            self.groups.remove(at);
            let disposition = Disposition::Return;
            self.must(&mut peer, Command::Xa(XaCommand::Rollback { xid, disposition }))?;
        } else {
            let group = &mut self.groups[at];
            group.said = Said::Asked;
            group.others.extend(self.there.keys().filter(|it| !group.keepers.contains(it)));
            self.must(&mut peer, Command::Xa(XaCommand::Commit { xid, one_phase: false }))?;
            self.groups[at].said = Said::Confirmed;
        }
        self.node.inputs.push_back(Input::Close(peer.id));
        Ok(())
    }

    fn come_or_go(&mut self) -> Result<(), String> {
        let keeper = self.any_keeper();
        if let Some(peer) = self.consumers.remove(&keeper) {
            self.node.inputs.push_back(Input::Close(peer.id));
            return Ok(());
        }
        let mut peer = self.connect();
        let even = self.there.get(&keeper).is_none_or(|even| *even);
        let even = even ^ (keeper == SELECTS && self.random.one_in(4));
        let is_new = self.there.get(&keeper) != Some(&even);
        if is_new {
            self.loosen(keeper);
        }
        let early = is_new && self.comes_early(keeper);
        self.expect_later(keeper);
        let command = match readers::queue_of(keeper) {
            Some(queue) => readers::consume(&queue),
            None => {
                let keep = Box::new(words(keeper, even));
                Command::Keep { subscription: SUBSCRIPTION, keep }
            }
        };
        self.must(&mut peer, command)?;
        self.there.insert(keeper, even);
        if is_new && !early {
            self.forget(keeper);
            self.expect_later(keeper);
        }
        self.consumers.insert(keeper, peer);
        Ok(())
    }

    /// What a subscription has kept may be there or not from now on.
    fn loosen(&mut self, keeper: usize) {
        for group in &mut self.groups {
            if group.keepers.remove(&keeper) {
                group.others.insert(keeper);
            }
        }
    }

    /// It is not there.
    fn forget(&mut self, keeper: usize) {
        for group in &mut self.groups {
            group.others.remove(&keeper);
        }
        self.acknowledged.retain(|(of, _), _| *of != keeper);
    }

    fn end(&mut self) -> Result<(), String> {
        let keeper = self.any_keeper();
        if self.consumers.contains_key(&keeper) || !self.there.contains_key(&keeper) {
            return Ok(());
        }
        self.loosen(keeper);
        let mut peer = self.connect();
        let over = match readers::queue_of(keeper) {
            // It may be busy, or a branch have something of it.
            Some(queue) => self.ask(&mut peer, Command::Delete { queue: queue.into() })?.is_ok(),
            None => {
                let (client, name) = (client(keeper), "s".into());
                self.must(&mut peer, Command::EndKept { client, name, reader: None })?;
                true
            }
        };
        if over {
            self.there.remove(&keeper);
            self.forget(keeper);
        }
        self.node.inputs.push_back(Input::Close(peer.id));
        Ok(())
    }

    /// What operators do with the queue of a keeper that has no consumer.
    fn operate(&mut self) -> Result<(), String> {
        let keeper = self.any_keeper();
        let prefix = prefix_of(keeper);
        let rows = self.node.engine.broker().rows();
        let queue = rows.values().rev().find(|row| row.name.starts_with(&prefix));
        let Some(queue) = queue.map(|row| Box::<str>::from(&*row.name)) else { return Ok(()) };
        if self.consumers.contains_key(&keeper) {
            return Ok(());
        }
        let command = if self.random.one_in(3) {
            self.loosen(keeper);
            Command::Purge { queue }
        } else {
            let (to, pick) = (format!("moved {keeper}").into(), Pick::First(2));
            Command::Move { from: queue, to, pick, returns: Returns::Keep }
        };
        let mut peer = self.connect();
        // It may be busy, or on its way out.
        drop(self.ask(&mut peer, command)?);
        self.node.inputs.push_back(Input::Close(peer.id));
        Ok(())
    }

    /// Takes a consumer that has at least so many messages, and these.
    fn consumer(&mut self, count: usize) -> Result<Option<(usize, Peer, Vec<Tag>)>, String> {
        let keeper = self.any_keeper();
        let Some(mut peer) = self.consumers.remove(&keeper) else { return Ok(None) };
        self.collect(&mut peer)?;
        if peer.holds.len() < count {
            self.consumers.insert(keeper, peer);
            return Ok(None);
        }
        let mut tags = Vec::new();
        for (tag, number) in peer.holds.drain(..count) {
            if !self.wants(keeper, number) {
                return Err(format!("{number} came to {keeper}, who does not want it"));
            }
            if let Some(said) = self.acknowledged.get(&(keeper, number)) {
                return Err(format!("{number} came to {keeper} again: {said:?}"));
            }
            self.together.push((keeper, number));
            tags.push(tag);
        }
        Ok(Some((keeper, peer, tags)))
    }

    fn said(&mut self, said: Option<Said>) {
        for key in &self.together {
            match said {
                Some(said) => drop(self.acknowledged.insert(*key, said)),
                None => drop(self.acknowledged.remove(key)),
            }
        }
        if said != Some(Said::Asked) {
            self.together.clear();
        }
    }

    fn acknowledge(&mut self) -> Result<(), String> {
        let Some((keeper, mut peer, tags)) = self.consumer(1)? else { return Ok(()) };
        self.said(Some(Said::Asked));
        let (which, outcome) = (Which::One(tags[0]), Outcome::Accepted);
        self.must(&mut peer, Command::Settle { subscription: SUBSCRIPTION, which, outcome })?;
        self.said(Some(Said::Confirmed));
        self.consumers.insert(keeper, peer);
        Ok(())
    }

    fn acknowledge_together(&mut self) -> Result<(), String> {
        let Some((keeper, mut peer, tags)) = self.consumer(2)? else { return Ok(()) };
        self.must(&mut peer, Command::Begin { transaction: T })?;
        for tag in tags {
            let (which, outcome) = (Which::One(tag), Outcome::Accepted);
            let work = Work::Settle { subscription: SUBSCRIPTION, which, outcome };
            self.must(&mut peer, Command::Transact { transaction: T, work })?;
        }
        if self.random.below(3) > 0 {
            self.said(Some(Said::Asked));
            self.must(&mut peer, Command::Commit { transaction: T })?;
            self.said(Some(Said::Confirmed));
        } else {
            let disposition = Disposition::Return;
            self.must(&mut peer, Command::Rollback { transaction: T, disposition })?;
            self.said(None);
        }
        self.consumers.insert(keeper, peer);
        Ok(())
    }

    /// Gives something back, or up.
    fn give_back(&mut self) -> Result<(), String> {
        let Some((keeper, mut peer, tags)) = self.consumer(1)? else { return Ok(()) };
        let (which, key) = (Which::One(tags[0]), self.together[0]);
        let mut outcome = Outcome::Returned;
        if self.random.one_in(3) {
            outcome = Outcome::Rejected;
            self.said(Some(Said::Asked));
            self.rejected.insert(key, Said::Asked);
        }
        self.must(&mut peer, Command::Settle { subscription: SUBSCRIPTION, which, outcome })?;
        if outcome == Outcome::Rejected {
            self.rejected.insert(key, Said::Confirmed);
            self.said(Some(Said::Confirmed));
        } else {
            self.said(None);
        }
        self.consumers.insert(keeper, peer);
        Ok(())
    }
}

/// How many crashes were tried, and how many publications refused.
fn run(seed: u64, steps: usize) -> Result<(usize, usize), String> {
    let tell = |e: String| format!("seed {seed}: {e}");
    let mut world = World::new(seed).map_err(tell)?;
    world.live(steps).map_err(tell)?;
    println!("somebody who listened has taken something {} times", world.heard);
    Ok((world.crashes, world.refused))
}

#[test]
fn each_subscription_gets_each_publication_once_through_every_crash() {
    let seeds = std::env::var("ESCROW_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = seeds.map_or(1..4, |seed: u64| seed..seed + 1);
    let steps = std::env::var("ESCROW_STEPS").ok().and_then(|steps| steps.parse().ok());
    let (mut crashes, mut refused) = (0, 0);
    for seed in seeds {
        let (tried, full) = run(seed, steps.unwrap_or(150)).unwrap();
        (crashes, refused) = (crashes + tried, refused + full);
    }
    println!("{crashes} crashes were tried, and {refused} publications refused");
    assert!(crashes > 100);
}

#[test]
fn defects_of_what_subscriptions_keep_are_caught() {
    for (mutant, says) in [
        (Mutant::ForgetKept, "is lost"),
        (Mutant::PublishToOne, "is there in part"),
        (Mutant::DropShared, "is held by"),
        (Mutant::LoseShares, "is held"),
        (Mutant::SpreadToNobody, "is lost"),
        (Mutant::PackUnshared, "not understood"),
        (Mutant::ForgetReaders, "is there in part"),
        (Mutant::FireWithoutLeaving, "are named by"),
        (Mutant::EndSharedBody, "bytes of"),
        (Mutant::ForgetListeners, "nobody asked for Broken"),
        (Mutant::ForgetToAnnounce, "was never heard"),
        (Mutant::AnnounceAtOnce, "was heard"),
    ] {
        let caught = (1..20).find_map(|seed| {
            mutant::set(Some(mutant));
            // The node itself panics where compaction leaves something behind.
            let verdict = catch_unwind(|| run(seed, 150).map(drop));
            mutant::set(None);
            verdict.unwrap_or_else(|panic| Err(*panic.downcast().expect("a text"))).err()
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
            reader: None,
        };
        let command = Command::Keep { subscription: SUBSCRIPTION, keep: Box::new(keep) };
        let request = Request { token: Token(1), confirm: Confirm::Always, command };
        world.node.inputs.push_back(Input::Requests(peer.id, [request].into(), None));
        world.node.turn(world.now).unwrap();
        world.node.inputs.push_back(Input::Close(peer.id));
        world.collect(&mut peer).unwrap();
    }
    let quiet = |world: &mut World| {
        let mut still = 0;
        while still < 3 {
            let busy = world.node.turn(world.now).unwrap() == Turn::Busy;
            let busy = busy | world.node.log_step() | world.node.room_step();
            still = if busy | world.node.job_step(0) { 0 } else { still + 1 };
        }
    };
    let content =
        Content { kind: BodyKind::Bytes, properties: Vec::new(), body: vec![7; 20_000].into() };
    let message = Message { content: content.encode(), ..message(1, &Group::default()) };
    let command = Command::Send { to: Destination::topic("t"), message };
    let mut peer = world.connect();
    // One of them may be the first of a segment, with what the one before has left empty.
    let took = (0..2).map(|_| {
        quiet(&mut world);
        drop(world.disk.take_moments());
        let before = world.node.log.appended();
        let request =
            Request { token: Token(1), confirm: Confirm::Always, command: command.clone() };
        world.node.inputs.push_back(Input::Requests(peer.id, [request].into(), None));
        world.node.turn(world.now).unwrap();
        while world.node.log_step() {}
        world.node.turn(world.now).unwrap();
        assert_eq!(world.collect(&mut peer).unwrap(), Some(Ok(())));
        let moments = world.disk.take_moments();
        let syncs = moments.iter().filter(|moment| moment.label.starts_with("sync wal")).count();
        assert!(syncs <= 1, "{syncs} syncs");
        world.node.log.appended().0 - before.0
    });
    let took = took.min().expect("two");
    assert!(took < 40_000, "{took} bytes for one body and 1,000 places");
    let rows = world.node.engine.broker().rows();
    let kept = rows.values().filter(|row| row.name.starts_with("subscription://"));
    assert_eq!(kept.map(|row| row.depth).sum::<u64>(), 2000);
}
