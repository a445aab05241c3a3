//! What a store must look like whose power was cut, by what was said of it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Group, KEEPERS, NO_LOCAL, SELECTS, Said, World, prefix_of};
use crate::engine::Turn;
use crate::io::sim::SimDisk;
use crate::limits;
use crate::simulation::node::{Contents, Node, WAITING};

/// What was found.
#[derive(Debug, Default)]
struct Found {
    /// By keeper and number.
    all: BTreeSet<(usize, u64)>,
    /// What of it still belongs to that.
    own: BTreeSet<(usize, u64)>,
    /// How often each is set apart.
    apart: BTreeMap<u64, usize>,
    /// What waits to be published.
    waiting: BTreeSet<u64>,
}

impl World {
    /// Goes on with what a power cut leaves.
    pub(super) fn begin_anew(&mut self, disk: SimDisk) -> Result<(), String> {
        disk.start_moments();
        let nonce = self.random.next() & !1;
        let mut node = Node::open(&disk, nonce, self.now).map_err(|e| e.to_string())?;
        self.check(&mut node)?;
        (self.disk, self.node) = (disk, node);
        (self.publisher, self.consumers, self.listener) = (None, BTreeMap::new(), None);
        Ok(())
    }

    pub(super) fn wants(&self, keeper: usize, number: u64) -> bool {
        let even = self.there.get(&keeper).is_none_or(|even| *even);
        keeper != SELECTS || number.is_multiple_of(2) == even
    }

    /// What a store says, when everything that follows by itself has happened.
    pub(super) fn check(&self, node: &mut Node) -> Result<(), String> {
        node.end_transactions(self.now)?;
        let (mut still, mut now) = (0, self.now);
        while still < 3 {
            if node.log.lingers() {
                now.0 += limits::LINGER_MILLIS;
            }
            let busy = node.turn(now).map_err(|e| e.to_string())? == Turn::Busy;
            // What waits for room in the log waits for ever where nobody makes any.
            let busy = busy | node.log_step() | node.room_step() | node.job_step(0);
            still = if busy { 0 } else { still + 1 };
        }
        let contents = node.contents()?;
        let report = node.index.check(&mut |_, _| {}).map_err(|error| error.to_string())?;
        if let Some(problem) = report.problems.first() {
            return Err(format!("the index: {problem}"));
        }
        if let Some((number, found)) = contents.messages.first_key_value() {
            return Err(format!("{number} waits for nothing: {found:?}"));
        }
        let found = find(&contents)?;
        for (keeper, number) in &found.own {
            let mut groups = self.groups.iter();
            let group = groups.find(|group| group.numbers.contains(number));
            let right = group.is_some_and(|group| {
                let there = group.keepers.contains(keeper) && self.gets(*keeper, group, *number);
                there || group.others.contains(keeper)
            });
            if !right {
                return Err(format!("{number} is there for {keeper}: {group:?}"));
            }
        }
        self.groups.iter().try_for_each(|group| self.check_waiting(group, &found, node))?;
        let published = |group: &&Group| group.due.is_none_or(|due| due <= self.now);
        let mut published = self.groups.iter().filter(published);
        published.try_for_each(|group| self.check_group(group, &found, &contents))?;
        let together = self.together.iter().filter(|(_, number)| !self.is_over(*number));
        let mut together = together.map(|key| found.all.contains(key));
        let first = together.next();
        if self.said_asked() && together.any(|there| Some(there) != first) {
            return Err(format!("{:?} were acknowledged in part", self.together));
        }
        self.check_apart(&found)
    }

    /// What was given up has left its subscription for where such messages are, and nothing else.
    fn check_apart(&self, found: &Found) -> Result<(), String> {
        let mut expected = BTreeMap::new();
        for (key, said) in &self.rejected {
            // What was not given up yet may have gone because its time is over.
            let gone = *said == Said::Asked && self.is_over(key.1);
            if gone && !found.apart.contains_key(&key.1) {
                continue;
            }
            if *said == Said::Confirmed || !found.all.contains(key) {
                *expected.entry(key.1).or_insert(0) += 1;
            }
        }
        let apart = &found.apart;
        if apart == &expected {
            Ok(())
        } else {
            Err(format!("{apart:?} are set apart, and {expected:?} were given up"))
        }
    }

    /// Whether the time of a message is over.
    fn is_over(&self, number: u64) -> bool {
        let group = self.groups.iter().find(|group| group.numbers.contains(&number));
        group.and_then(|group| group.expires).is_some_and(|at| at <= self.now)
    }

    fn said_asked(&self) -> bool {
        self.together.iter().all(|key| self.acknowledged.contains_key(key))
    }

    fn gets(&self, keeper: usize, group: &Group, number: u64) -> bool {
        self.wants(keeper, number) && (keeper != NO_LOCAL || group.client != Some(NO_LOCAL))
    }

    /// What is to be published later waits for that, and nobody has it before.
    fn check_waiting(&self, group: &Group, found: &Found, node: &Node) -> Result<(), String> {
        let waiting = group.numbers.iter().filter(|number| found.waiting.contains(number)).count();
        if group.due.is_none_or(|due| due <= self.now) {
            // Only where somebody had no room for it.
            let twice = found.all.iter().any(|(_, number)| found.waiting.contains(number));
            let rests = group.due.is_some() && node.engine.broker().publications_rest();
            let right = waiting == 0 || (rests && !twice);
            return if right { Ok(()) } else { Err(format!("{group:?} still waits")) };
        }
        let early = |(_, number): &&(usize, u64)| group.numbers.contains(number);
        if let Some(key) = found.all.iter().find(early) {
            return Err(format!("{key:?} is there before its time: {group:?}"));
        }
        let whole = waiting == group.numbers.len();
        match group.said {
            Said::Confirmed if whole => Ok(()),
            Said::Asked if whole || waiting == 0 => Ok(()),
            _ => Err(format!("{waiting} wait of {group:?}")),
        }
    }

    fn check_group(&self, group: &Group, all: &Found, contents: &Contents) -> Result<(), String> {
        if group.branch.is_some_and(|branch| !contents.prepared.contains(&branch)) {
            return Err(format!("the vote for {group:?} is forgotten"));
        }
        let mut found = BTreeSet::new();
        for keeper in &group.keepers {
            let published = group.numbers.iter().filter(|number| !all.waiting.contains(number));
            for number in published.filter(|it| self.gets(*keeper, group, **it)) {
                let key = (*keeper, *number);
                match (self.acknowledged.get(&key), all.all.contains(&key)) {
                    (Some(Said::Confirmed), true) => {
                        return Err(format!("{key:?} is there again"));
                    }
                    (Some(_), _) => drop(found.insert(true)),
                    (None, there) => drop(found.insert(there)),
                }
            }
        }
        if group.said == Said::Nothing && found.contains(&true) {
            return Err(format!("{group:?} is there before its commit"));
        }
        if group.expires.is_some_and(|at| at <= self.now) {
            return Ok(());
        }
        if found.len() > 1 {
            return Err(format!("{group:?} is there in part"));
        }
        if group.said == Said::Confirmed && found.contains(&false) {
            return Err(format!("{group:?} is lost"));
        }
        Ok(())
    }
}

fn find(contents: &Contents) -> Result<Found, String> {
    let Found { mut all, mut own, mut apart, mut waiting } = Found::default();
    for ((queue, number), count) in &contents.kept {
        if queue == limits::DEAD_LETTER_QUEUE {
            apart.insert(*number, *count);
            continue;
        }
        if queue.starts_with(WAITING) {
            if *count != 1 || !waiting.insert(*number) {
                return Err(format!("{number} waits {count} times"));
            }
            continue;
        }
        let is_own = !queue.starts_with("moved ");
        let keeper = (0..KEEPERS)
            .find(|keeper| {
                queue.starts_with(&prefix_of(*keeper)) || *queue == format!("moved {keeper}")
            })
            .ok_or_else(|| format!("{number} is stuck in {queue}"))?;
        if *count != 1 || !all.insert((keeper, *number)) {
            return Err(format!("{number} is in {queue} {count} times, or elsewhere too"));
        }
        if is_own {
            own.insert((keeper, *number));
        }
    }
    Ok(Found { all, own, apart, waiting })
}
