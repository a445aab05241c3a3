//! A world from a seed: a disk that crashes, a broker in steps, clients, and what they know.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::{Input, Mailbox, Turn};
use crate::ids::Millis;
use crate::io::sim::{Fault, Moment, SimDisk};
use crate::limits;

use super::backup::Backups;
use super::clients::{Client, Surroundings, take};
use super::falls::{DEEPEST, Falls, fall};
use super::model::{Model, Step};
use super::node::{Contents, Node, abandon};
use super::random::Random;

/// Of so many crashes, one is followed by starts that are cut off, as many as there may be.
const FALLS_EVERY: u64 = 40;

/// What a run is to be like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    /// Steps of the whole run.
    pub(super) steps: u64,
    /// Crashes tried at each moment at which a power cut could lose something.
    pub(super) crashes_per_moment: u64,
    /// The disk lies or fills, to see that this is noticed, or borne.
    pub(super) weather: Weather,
}

/// What is special about the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weather {
    Fair,
    /// The disk is full at times, and has room again.
    Filling,
    /// Writes and syncs fail at times.
    Failing,
    /// Syncs of the log do nothing.
    LyingSync,
    /// Syncs of the directory do nothing.
    LyingSyncDir,
}

/// What a run has gone through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// Distinct moments at which a crash was tried, by what was about to happen.
    pub(super) moments: BTreeMap<String, u64>,
    /// Crashed disks that were recovered and checked.
    pub(super) crashes: u64,
    /// Starts that were cut off.
    pub(super) falls: Falls,
    pub(super) lives: u64,
    pub(super) sent: u64,
    /// Backups restored and checked, and backups cut off.
    pub(super) backups: u64,
    pub(super) backups_cut_off: u64,
    /// A digest of everything that happened.
    pub(super) fingerprint: u64,
}

impl Report {
    pub(super) fn add(&mut self, other: &Self) {
        for (label, count) in &other.moments {
            *self.moments.entry(label.clone()).or_default() += count;
        }
        self.crashes += other.crashes;
        self.falls.add(&other.falls);
        self.lives += other.lives;
        self.sent += other.sent;
        self.backups += other.backups;
        self.backups_cut_off += other.backups_cut_off;
        self.fingerprint ^= other.fingerprint;
    }
}

pub(super) struct World {
    plan: Plan,
    random: Random,
    disk: SimDisk,
    node: Node,
    clients: Vec<Client>,
    ghosts: Vec<Arc<Mailbox>>,
    model: Model,
    now: Millis,
    last_number: u64,
    last_connection: u64,
    backups: Backups,
    pub(super) report: Report,
}

/// What went wrong, with the seed that shows it again.
pub(super) type Verdict = Result<Report, String>;

/// Runs a world to its end.
pub(super) fn run(plan: Plan) -> Verdict {
    let tell = |problem| format!("seed {}: {problem}; {plan:?}", plan.seed);
    let mut world = World::new(plan).map_err(tell)?;
    world.live().map_err(tell)?;
    Ok(world.report)
}

impl World {
    fn new(plan: Plan) -> Result<Self, String> {
        let mut random = Random::new(plan.seed);
        let disk = SimDisk::new();
        lie(&disk, plan.weather);
        disk.start_moments();
        let now = Millis(1_000_000);
        let node = Node::open(&disk, random.next(), now).map_err(|error| error.to_string())?;
        let mut world = Self {
            plan,
            random,
            disk,
            node,
            clients: Vec::new(),
            ghosts: Vec::new(),
            model: Model::default(),
            now,
            last_number: 0,
            last_connection: 0,
            backups: Backups::new(plan.seed),
            report: Report { lives: 1, ..Report::default() },
        };
        world.check_moments()?;
        world.connect_clients();
        Ok(world)
    }

    fn live(&mut self) -> Result<(), String> {
        for _ in 0..self.plan.steps {
            match self.random.below(1000) {
                0 => self.cut_power()?,
                1 => self.kill()?,
                2 => self.stop_cleanly()?,
                3 if self.plan.weather == Weather::Failing => {
                    let soon = self.disk.operations() + self.random.below(30);
                    self.disk.fail_at(soon, Fault::Io);
                }
                3 | 4 if self.plan.weather == Weather::Filling => self.fill_or_free(),
                _ => self.step()?,
            }
        }
        self.free();
        self.drain()?;
        self.report.sent = self.last_number;
        (self.report.backups, self.report.backups_cut_off) =
            (self.backups.whole, self.backups.cut_off);
        self.report.fingerprint ^= self.disk.fingerprint();
        Ok(())
    }

    fn step(&mut self) -> Result<(), String> {
        match self.random.below(17) {
            0..5 => self.client_step()?,
            5..9 => return self.turn().map(drop),
            9..12 => drop(self.node.log_step()),
            12..14 => drop(self.node.room_step()),
            14 => drop(self.node.compact_step()),
            15 => {
                let which = self.random.next() as usize;
                self.node.job_step(which);
            }
            _ => self.now.0 += self.random.below(20),
        }
        self.backup_step()?;
        self.check_moments()
    }

    fn backup_step(&mut self) -> Result<(), String> {
        let may_fail = match self.plan.weather {
            Weather::Fair => false,
            Weather::Filling | Weather::Failing => true,
            // A disk that lies would be blamed on the backup.
            Weather::LyingSync | Weather::LyingSyncDir => return Ok(()),
        };
        self.backups.step(&self.node.source, &self.model, self.now, may_fail)
    }

    fn client_step(&mut self) -> Result<(), String> {
        let pick = self.random.below(self.clients.len() as u64) as usize;
        let mut client = self.clients.swap_remove(pick);
        let result = client.act(&mut self.around());
        self.clients.push(client);
        result
    }

    fn around(&mut self) -> Surroundings<'_> {
        Surroundings {
            model: &mut self.model,
            random: &mut self.random,
            inputs: &mut self.node.inputs,
            now: self.now,
            last_number: &mut self.last_number,
            last_connection: &mut self.last_connection,
            ghosts: &mut self.ghosts,
        }
    }

    /// A turn of the engine. What it lets out is delivered at once; a broker that fails is
    /// followed by a new life. True if there is more to do.
    fn turn(&mut self) -> Result<bool, String> {
        match self.node.turn(self.now) {
            Ok(turn) => {
                self.collect()?;
                Ok(turn == Turn::Busy)
            }
            Err(error) if self.plan.weather == Weather::Failing => {
                self.collect()?;
                let _ = error;
                if self.random.one_in(2) {
                    self.cut_power()?
                } else {
                    self.kill()?
                }
                Ok(true)
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn collect(&mut self) -> Result<(), String> {
        let first_life = self.report.lives == 1;
        self.model.now = self.now;
        for client in &mut self.clients {
            client.collect(&mut self.model, first_life)?;
        }
        for ghost in &self.ghosts {
            for output in take(ghost, &mut self.model, first_life)? {
                self.model.comes_back_counted(&output);
            }
        }
        Ok(())
    }

    /// Tries crashes at every moment that has gone by since the last call.
    fn check_moments(&mut self) -> Result<(), String> {
        let moments = self.disk.take_moments();
        self.try_moments(&moments)
    }

    fn try_moments(&mut self, moments: &[Moment]) -> Result<(), String> {
        for moment in moments {
            *self.report.moments.entry(kind(&moment.label)).or_default() += 1;
            for _ in 0..self.plan.crashes_per_moment {
                let seed = self.random.next();
                let mut crashed = moment.disk.snapshot_crash(seed);
                crashed.set_capacity(u64::MAX);
                if self.random.one_in(FALLS_EVERY) {
                    for depth in 1..=DEEPEST {
                        crashed = self.fall(&crashed, depth)?.0;
                    }
                }
                self.check_crash(&crashed, seed)?;
            }
        }
        Ok(())
    }

    /// Starts on a disk and cuts the power in the middle: what is found then, and where it could
    /// have been cut.
    fn fall(&mut self, disk: &SimDisk, depth: usize) -> Result<(SimDisk, Vec<Moment>), String> {
        // A start needs some room; that it says so without is another test's business.
        disk.set_capacity(u64::MAX);
        let (random, falls) = (&mut self.random, &mut self.report.falls);
        let fall = fall(disk, depth, random, self.now, falls, kind)?;
        Ok((fall.disk, fall.moments))
    }

    /// Recovers a crashed disk, and sees whether every promise is kept.
    fn check_crash(&mut self, crashed: &SimDisk, seed: u64) -> Result<(), String> {
        self.report.crashes += 1;
        let mut node = Node::open(crashed, seed, self.now).map_err(|e| format!("start: {e}"))?;
        node.end_transactions(self.now)?;
        let contents = node.contents()?;
        self.model.check(&contents)?;
        self.report.fingerprint =
            self.report.fingerprint.rotate_left(5) ^ contents.messages.len() as u64 ^ seed;
        abandon(crashed);
        Ok(())
    }

    fn cut_power(&mut self) -> Result<(), String> {
        let seed = self.random.next();
        let crashed = self.disk.snapshot_crash(seed);
        self.begin_anew(crashed)
    }

    fn kill(&mut self) -> Result<(), String> {
        let disk = self.disk.kill();
        self.begin_anew(disk)
    }

    fn stop_cleanly(&mut self) -> Result<(), String> {
        self.free();
        self.node.inputs.push_back(Input::Stop);
        for _ in 0..10_000 {
            match self.node.turn(self.now) {
                Ok(Turn::Stopped) => {
                    self.collect()?;
                    self.node.log.goodbye();
                    while self.node.log_step() {}
                    self.check_moments()?;
                    let disk = self.disk.kill();
                    return self.begin_anew(disk);
                }
                Ok(_) => self.collect()?,
                Err(_) if self.plan.weather == Weather::Failing => return self.kill(),
                Err(error) => return Err(error.to_string()),
            }
            self.node.log_step();
            self.node.room_step();
            self.node.job_step(0);
            self.check_moments()?;
        }
        Err("a clean stop does not end".to_owned())
    }

    /// The next life on what a crash has left; the start itself may be cut off, again and again.
    fn begin_anew(&mut self, mut disk: SimDisk) -> Result<(), String> {
        self.backups.cut_off()?;
        // What the dead process still held must not write any more.
        self.disk.fail_at(self.disk.operations(), Fault::PowerOff);
        let depth = if self.random.one_in(4) { 1 + self.random.below(DEEPEST as u64) } else { 0 };
        for depth in 1..=depth as usize {
            let (found, moments) = self.fall(&disk, depth)?;
            self.try_moments(&moments)?;
            disk = found;
        }
        disk.set_capacity(u64::MAX);
        lie(&disk, self.plan.weather);
        disk.start_moments();
        let nonce = self.random.next();
        let mut node = Node::open(&disk, nonce, self.now).map_err(|e| format!("start: {e}"))?;
        node.end_transactions(self.now)?;
        self.report.fingerprint ^= self.disk.fingerprint().rotate_left(17);
        self.disk = disk;
        self.node = node;
        self.check_moments()?;
        let contents = self.node.contents()?;
        self.model.check(&contents)?;
        self.model.resolve(&contents);
        self.report.lives += 1;
        self.connect_clients();
        Ok(())
    }

    fn connect_clients(&mut self) {
        self.ghosts.clear();
        let clients = (0..4).map(|index| Client::connect(index, &mut self.around())).collect();
        self.clients = clients;
    }

    fn fill_or_free(&mut self) {
        if self.random.one_in(2) {
            self.disk.set_capacity(self.disk.used() + self.random.below(200_000));
        } else {
            self.free();
        }
    }

    fn free(&mut self) {
        self.disk.set_capacity(u64::MAX);
    }

    /// Everything that was confirmed comes out in the end, and then the store is empty. A fault
    /// that strikes meanwhile begins a new life, and the drain begins anew.
    fn drain(&mut self) -> Result<(), String> {
        for _ in 0..100 {
            let life = self.report.lives;
            if !self.answer_all(life)? {
                continue;
            }
            for mut client in std::mem::take(&mut self.clients) {
                client.leave(&mut self.around());
            }
            self.quiet()?;
            if self.report.lives == life && self.drain_in_life(life)? {
                return self.check_drained();
            }
        }
        Err("the drain is cut off again and again".to_owned())
    }

    /// Consumes until everyone has been told all that they asked; false if the life ended before.
    fn answer_all(&mut self, life: u64) -> Result<bool, String> {
        let mut helper = Client::connect(98, &mut self.around());
        helper.subscribe_to_all(&mut self.around());
        self.clients.push(helper);
        for _ in 0..10_000 {
            self.quiet()?;
            if self.report.lives != life {
                return Ok(false);
            }
            let mut arrived = false;
            for mut client in std::mem::take(&mut self.clients) {
                arrived |= client.has_arrived();
                client.hear(&mut self.around(), usize::MAX)?;
                // What a transaction holds makes room for nobody.
                client.roll_back(&mut self.around());
                client.accept_all(&mut self.around());
                self.clients.push(client);
            }
            if !arrived {
                let owed = self.clients.iter().find_map(Client::owed);
                return owed.map_or(Ok(true), |asked| Err(format!("{asked} was never answered")));
            }
        }
        Err("answers do not end".to_owned())
    }

    /// Consumes everything; false if the life ended before that was done.
    fn drain_in_life(&mut self, life: u64) -> Result<bool, String> {
        let index = 99;
        let mut drain = Client::connect(index, &mut self.around());
        drain.subscribe_to_all(&mut self.around());
        drain.finish_branches(&mut self.around());
        drain.ask_barrier(&mut self.around());
        // Among the clients, so that what it gets counts as delivered whatever happens.
        self.clients.push(drain);
        for _ in 0..10_000 {
            self.quiet()?;
            if self.report.lives != life {
                return Ok(false);
            }
            let mut drain = self.clients.pop().expect("it was pushed");
            let done = !drain.is_waiting();
            drain.hear(&mut self.around(), usize::MAX)?;
            drain.accept_all(&mut self.around());
            if done {
                // What an operator has decided, its manager has not yet heard.
                drain.finish_branches(&mut self.around());
            }
            let done = done && !drain.is_waiting() && self.node.delayed() == 0;
            self.clients.push(drain);
            // What is delayed comes in its time.
            self.now.0 += 20;
            if done {
                return Ok(true);
            }
        }
        Err("the drain does not end".to_owned())
    }

    fn check_drained(&self) -> Result<(), String> {
        let contents: Contents = self.node.contents()?;
        self.model.check(&contents)?;
        if let Some((number, found)) = contents.messages.first_key_value() {
            return Err(format!("{number} is stuck: {found:?} {:?}", self.model.fates[number]));
        }
        if let Some(left) = self.model.branches.first_key_value() {
            return Err(format!("a branch does not end: {left:?}"));
        }
        if contents.uploads > 0 || contents.live > 0 {
            let Contents { uploads, live, .. } = contents;
            return Err(format!("{uploads} bodies and {live} bytes are left of nothing"));
        }
        let unseen = self.model.fates.iter().find(|(_, fate)| {
            let open = matches!(fate.accept, Step::No | Step::Void);
            fate.send == Step::Confirmed && open && !fate.doomed
        });
        match unseen {
            Some((number, fate)) => Err(format!("{number} did not come out: {fate:?}")),
            None => Ok(()),
        }
    }

    /// Lets everything run until nothing moves.
    fn quiet(&mut self) -> Result<(), String> {
        let mut still = 0;
        for _ in 0..100_000 {
            if self.node.log.lingers() {
                self.now.0 += limits::LINGER_MILLIS;
            }
            let busy = self.turn()?
                | self.node.log_step()
                | self.node.room_step()
                | self.node.job_step(0)
                | self.node.compact_step()
                | !self.node.inputs.is_empty();
            self.check_moments()?;
            still = if busy { 0 } else { still + 1 };
            if still == 3 {
                return Ok(());
            }
        }
        Err("the broker does not come to rest".to_owned())
    }
}

/// The kind of an operation, without the random part of a temporary name.
fn kind(label: &str) -> String {
    match label.split_once("tmp-") {
        Some((verb, name)) => {
            let end = name.find('-').map_or(name.len(), |at| at + 1);
            format!("{verb}tmp-{}", &name[..end])
        }
        None => label.to_owned(),
    }
}

fn lie(disk: &SimDisk, weather: Weather) {
    match weather {
        Weather::LyingSync => disk.ignore_sync("wal-"),
        Weather::LyingSyncDir => disk.ignore_sync_dir(),
        Weather::Fair | Weather::Filling | Weather::Failing => {}
    }
}
