//! Plays a script on the real engine and log, crashes it, and compares what is found with the
//! model.
//!
//! Nothing beside the engine and the log runs: no checkpoint, no new segment. So every write is
//! one of the script's own, and each has four crash points: nothing of it has come to the disk,
//! some of it has, all of it has and nobody was told, and somebody was told.

use std::collections::BTreeMap;
use std::slice;
use std::sync::Arc;

use crate::broker::command::{
    Command, Confirm, EndAs, Outcome, Output, Refusal, Reply, Request, StartAs, Vote, Which, Work,
    XaCommand, XaError,
};
use crate::broker::delta::Resolution;
use crate::engine::{Input, Mailbox, Settings, Turn};
use crate::ids::{ConnectionId, Millis, SubscriptionId, Tag, Token, TransactionName, Xid};
use crate::io::sim::SimDisk;
use crate::limits;
use crate::message::{BodyKind, Content, Destination, Durability, Message, Priority};
use crate::schedule::When;

use super::model::{self, Delivered, Found, Model, Phase};
use super::{Operation, Script, Step};
use crate::simulation::node::{Node, abandon, number_of, settings};

pub(super) const NOW: Millis = Millis(1_000_000);
pub(super) const QUEUES: [&str; 2] = ["left", "right"];
pub(super) const NAME: TransactionName = TransactionName(1);
/// What the first queue begins with; all of it in the log.
const FIRST: [u64; 3] = [1, 2, 3];
/// What the second does, and whether it is in the log.
const SECOND: [(u64, bool); 3] = [(4, false), (5, true), (6, true)];
/// What scripts send is numbered from here.
const SENT: u64 = 10;

/// When what nobody waits for is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// At the end of each step: the next comes late.
    Single,
    /// With what somebody waits for: the steps follow each other quickly.
    Gathered,
}

/// Until when the last step may stay in memory.
fn lingers(turn: Turn) -> Option<Millis> {
    let Turn::Idle(deadline) = turn else { return None };
    deadline.filter(|deadline| deadline.0 <= NOW.0 + limits::LINGER_MILLIS)
}

/// What was tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tried {
    /// Crashes, each recovered and compared.
    pub(super) points: u64,
    /// Branches found prepared, each decided both ways.
    pub(super) decided: u64,
}

impl Tried {
    pub(super) fn and(self, other: Self) -> Self {
        Self { points: self.points + other.points, decided: self.decided + other.decided }
    }
}

type Checked = Result<(), String>;

/// The disk on which every script begins.
pub(super) struct Base {
    disk: SimDisk,
}

impl Base {
    pub(super) fn new() -> Self {
        let disk = SimDisk::new();
        let mut actor = Actor::open(&disk).expect("an empty disk");
        for number in FIRST {
            actor.ask(send(0, number, true)).expect("there is room");
        }
        Self { disk: actor.disk.snapshot_synced() }
    }

    pub(super) fn play(&self, script: &Script, pace: Pace, tried: &mut Tried) -> Checked {
        let mut actor = Actor::open(&self.disk.snapshot_synced())?;
        for queue in [0, 1] {
            let from = Destination::Queue(QUEUES[queue].into());
            let subscription = subscription(queue);
            actor.ask(Command::Subscribe { subscription, from, prefetch: 1, selector: None })?;
        }
        for (number, persistent) in SECOND {
            actor.ask(send(1, number, persistent))?;
        }
        let first = FIRST.map(|number| model::Message::new(number, true));
        let second = SECOND.map(|(number, logged)| model::Message::new(number, logged));
        let mut model = Model::new([first.into(), second.into()]);
        actor.pace = pace;
        // What the log has, and after it what is in memory alone.
        let mut since = vec![model.clone()];
        for (at, step) in script.steps.iter().enumerate() {
            let number = SENT + at as u64;
            let before = model.clone();
            model.take(*step, number);
            let tell = |problem| format!("{step:?} as step {at}: {problem}");
            let input = actor.input(*step, number, &before);
            since.push(model.clone());
            let mut wrote = false;
            let mut crash = |disk: SimDisk, moment: Moment| {
                wrote = true;
                if !script.crashed[at] {
                    return Ok(());
                }
                tried.points += 1;
                let works = matches!(step, Step::Do(_));
                let allowed = match moment {
                    // What is in memory alone waits for nothing.
                    Moment::Told if works => &since[..1],
                    Moment::Lost => &since[..1],
                    Moment::Torn => &since[..],
                    Moment::Told | Moment::Whole | Moment::Answered => slice::from_ref(&model),
                };
                let checked = check(&disk, allowed, tried);
                checked.map_err(|problem| format!("{moment:?}: {problem}"))
            };
            let answer = actor.drive(input, &mut crash).map_err(tell)?;
            if wrote {
                since.drain(..since.len() - 1);
            }
            if let Some(answer) = answer {
                expect(&answer, &expected_answer(*step, &before), "an answer").map_err(tell)?;
            }
        }
        if script.steps.last() != Some(&Step::Lose) {
            model.take(Step::Lose, 0);
            let close = actor.input(Step::Lose, 0, &model);
            actor.drive(close, &mut |_, _| Ok(()))?;
        }
        actor.connect();
        expect(&actor.drain()?, &model.delivered(), "without a crash")
    }
}

/// Where a crash fell in a write to the log.
#[derive(Clone, Copy, Debug)]
enum Moment {
    Lost,
    /// As `Lost`, though somebody was told already.
    Told,
    Torn,
    Whole,
    Answered,
}

/// Recovers a crashed disk, which must be as one of these models says.
fn check(disk: &SimDisk, allowed: &[Model], tried: &mut Tried) -> Checked {
    let again = disk.kill();
    let mut actor = Actor::recover(disk)?;
    let found = actor.found()?;
    let branches = actor.branches()?;
    let mut allowed: Vec<Model> = allowed.iter().map(Model::crashed).collect();
    let as_found = |it: &Model| it.found() == found && listed(it.phase) == branches;
    let Some(at) = allowed.iter().position(as_found) else {
        let allowed = allowed.iter().map(|it| (it.found(), listed(it.phase)));
        let allowed: Vec<_> = allowed.collect();
        return Err(format!("found {found:?} and {branches:?}; allowed is {allowed:?}"));
    };
    let mut model = allowed.swap_remove(at);
    let commit = Step::Outcome(Resolution::Commit, super::RETURN);
    let answer = actor.decide(commit)?;
    expect(&answer, &expected_answer(commit, &model), "asked to commit after a start")?;
    if model.phase == Phase::Prepared {
        tried.decided += 1;
        let mut other = model.clone();
        model.take(commit, 0);
        let rollback = Step::Outcome(Resolution::Rollback, super::RETURN);
        other.take(rollback, 0);
        let mut actor = Actor::recover(&again)?;
        expect(&actor.decide(rollback)?, &Ok(Reply::Done), "rolled back after a start")?;
        expect(&actor.drain()?, &other.delivered(), "rolled back after a start")?;
    }
    expect(&actor.drain()?, &model.delivered(), "after a start")
}

fn expect<T: PartialEq + std::fmt::Debug>(found: &T, expected: &T, what: &str) -> Checked {
    let same = found == expected;
    if same { Ok(()) } else { Err(format!("{what}: {found:?}, not {expected:?}")) }
}

pub(super) type Answer = Result<Reply, Refusal>;

/// What a step is answered, by the model before it.
fn expected_answer(step: Step, before: &Model) -> Answer {
    let xa = |error| Err(Refusal::Xa(error));
    match (step, before.phase) {
        (Step::Prepare, _) if before.is_empty() => Ok(Reply::Vote(Vote::ReadOnly)),
        (Step::Prepare, _) => Ok(Reply::Vote(Vote::Ok)),
        (Step::Outcome(..) | Step::Decide(_), Phase::None) => xa(XaError::NotA),
        // In two phases nobody commits what was rolled back: there is no such branch.
        (Step::Outcome(Resolution::Commit, _), Phase::Over(Resolution::Rollback)) => {
            xa(XaError::NotA)
        }
        (Step::Outcome(..), Phase::Over(Resolution::Rollback)) => xa(XaError::RbRollback),
        (Step::Outcome(..), Phase::Decided(Resolution::Commit)) => xa(XaError::HeurCommit),
        (Step::Outcome(..), Phase::Decided(Resolution::Rollback)) => xa(XaError::HeurRollback),
        _ => Ok(Reply::Done),
    }
}

/// What recovery lists.
fn listed(phase: Phase) -> Vec<(Xid, Option<Resolution>)> {
    let decided = match phase {
        Phase::Prepared => None,
        Phase::Decided(resolution) => Some(resolution),
        _ => return Vec::new(),
    };
    vec![(Xid::clone(&xid()), decided)]
}

pub(super) fn xid() -> Arc<Xid> {
    crate::simulation::branches::xid_of(1)
}

pub(super) fn subscription(queue: usize) -> SubscriptionId {
    SubscriptionId(1 + queue as u64)
}

pub(super) fn message(number: u64, persistent: bool) -> Message {
    let properties = vec![("number".to_owned(), number.to_string())];
    let body = vec![number as u8; 3].into();
    let content = Content { kind: BodyKind::Bytes, properties, body }.encode();
    let durability = if persistent { Durability::Persistent } else { Durability::NonPersistent };
    Message {
        durability,
        priority: Priority::DEFAULT,
        expires: None,
        when: When::AtOnce,
        grouped: false,
        content,
    }
}

pub(super) fn send(queue: usize, number: u64, persistent: bool) -> Command {
    let to = Destination::Queue(QUEUES[queue].into());
    Command::Send { to, message: message(number, persistent) }
}

/// A connection to a broker in steps.
pub(super) struct Actor {
    pub(super) disk: SimDisk,
    pub(super) node: Node,
    pace: Pace,
    connection: ConnectionId,
    mailbox: Arc<Mailbox>,
    last_token: u64,
    /// What has been delivered and was not yet settled or looked at.
    deliveries: [BTreeMap<u64, (Tag, Delivered)>; 2],
    order: [Vec<u64>; 2],
}

impl Drop for Actor {
    fn drop(&mut self) {
        abandon(&self.disk);
    }
}

impl Actor {
    /// Segments and log are as in the other simulations; no checkpoint comes between.
    fn open(disk: &SimDisk) -> Result<Self, String> {
        let settings = Settings {
            checkpoint_bytes: u64::MAX,
            checkpoint_changes: usize::MAX,
            checkpoint_millis: u64::MAX,
            ..settings()
        };
        Self::open_with(disk, &settings)
    }

    pub(super) fn open_with(disk: &SimDisk, settings: &Settings) -> Result<Self, String> {
        let nonce = disk.operations() << 32 | disk.used();
        let node =
            Node::open_with(disk, nonce, NOW, settings).map_err(|e| format!("start: {e}"))?;
        let (connection, mailbox) = (ConnectionId(0), Arc::default());
        let (deliveries, order) = Default::default();
        let disk = disk.clone();
        let pace = Pace::Single;
        let mut actor =
            Self { disk, node, pace, connection, mailbox, last_token: 0, deliveries, order };
        // Room for all that a script writes is made before it begins.
        while actor.node.room_step() {}
        actor.connect();
        Ok(actor)
    }

    fn recover(disk: &SimDisk) -> Result<Self, String> {
        let mut actor = Self::open(disk)?;
        actor.node.end_transactions(NOW)?;
        Ok(actor)
    }

    /// A new connection; the one before is left alone.
    pub(super) fn connect(&mut self) {
        self.connection = ConnectionId(self.connection.0 + 1);
        self.mailbox = Arc::default();
        (self.deliveries, self.order) = Default::default();
        self.node.inputs.push_back(Input::Connect(self.connection, Arc::clone(&self.mailbox)));
    }

    fn request(&mut self, command: Command) -> Input {
        self.last_token += 1;
        let (token, confirm) = (Token(self.last_token), Confirm::Always);
        let request = Request { token, confirm, command };
        Input::Requests(self.connection, [request].into(), None)
    }

    pub(super) fn ask(&mut self, command: Command) -> Result<Reply, String> {
        self.try_ask(command)?.map_err(|refusal| refusal.to_string())
    }

    pub(super) fn try_ask(&mut self, command: Command) -> Result<Answer, String> {
        let input = self.request(command);
        self.drive(input, &mut |_, _| Ok(()))?.ok_or("no answer".to_owned())
    }

    /// Asks, and does not wait for the answer.
    pub(super) fn leave(&mut self, command: Command) {
        let input = self.request(command);
        self.node.inputs.push_back(input);
    }

    /// What is told to the engine for a step.
    fn input(&mut self, step: Step, number: u64, before: &Model) -> Input {
        let (xid, transaction) = (xid(), NAME);
        let command = match step {
            Step::Begin => Command::Begin { transaction },
            Step::Start => {
                let (how, timeout, client) = (StartAs::New, None, "a script".into());
                Command::Xa(XaCommand::Start { xid, how, transaction, timeout, client })
            }
            Step::Do(operation) => {
                let work = self.work(operation, number, before);
                Command::Transact { transaction, work }
            }
            Step::Commit => Command::Commit { transaction },
            Step::Rollback(disposition) => Command::Rollback { transaction, disposition },
            Step::Lose => return Input::Close(self.connection),
            Step::End => Command::Xa(XaCommand::End { xid, transaction, how: EndAs::Success }),
            Step::Prepare => Command::Xa(XaCommand::Prepare { xid }),
            Step::OnePhase => Command::Xa(XaCommand::Commit { xid, one_phase: true }),
            Step::Outcome(Resolution::Commit, _) => {
                Command::Xa(XaCommand::Commit { xid, one_phase: false })
            }
            Step::Outcome(Resolution::Rollback, disposition) => {
                Command::Xa(XaCommand::Rollback { xid, disposition })
            }
            Step::Decide(resolution) => Command::Xa(XaCommand::Decide { xid, resolution }),
        };
        self.request(command)
    }

    fn work(&mut self, operation: Operation, number: u64, before: &Model) -> Work {
        match operation {
            Operation::Send { queue, persistent } => {
                let to = Destination::Queue(QUEUES[queue].into());
                Work::Send { to, message: message(number, persistent) }
            }
            Operation::Settle { queue, returned } => {
                let number = before.loan(queue).expect("there are enough");
                let (tag, _) = self.deliveries[queue][&number];
                let (subscription, which) = (subscription(queue), Which::One(tag));
                let outcome = if returned { Outcome::Returned } else { Outcome::Accepted };
                Work::Settle { subscription, which, outcome }
            }
        }
    }

    /// Lets the engine and the log run until nothing moves, and crashes each write to the log.
    fn drive(
        &mut self,
        input: Input,
        crash: &mut dyn FnMut(SimDisk, Moment) -> Checked,
    ) -> Result<Option<Answer>, String> {
        self.node.inputs.push_back(input);
        let (mut answer, mut wrote) = (None, false);
        let mut now = NOW;
        for _ in 0..1000 {
            let turn = self.node.turn(now).map_err(|error| error.to_string())?;
            if self.node.log_step() {
                wrote = true;
                // Written, and not synced.
                self.node.log_step();
                self.hear(&mut answer)?;
                let lost = if answer.is_some() { Moment::Told } else { Moment::Lost };
                crash(self.disk.snapshot_synced(), lost)?;
                crash(self.disk.snapshot_crash(self.last_token * 31 + 5), Moment::Torn)?;
                crash(self.disk.kill(), Moment::Whole)?;
                while self.node.log_step() {}
            } else if self.node.jobs.is_empty() && self.node.inputs.is_empty() {
                self.hear(&mut answer)?;
                if let (Pace::Single, Some(lingers)) = (self.pace, lingers(turn)) {
                    now = lingers;
                    continue;
                }
                if wrote {
                    crash(self.disk.snapshot_synced(), Moment::Answered)?;
                }
                return Ok(answer);
            } else {
                self.node.job_step(0);
            }
        }
        Err("the engine does not come to rest".to_owned())
    }

    fn hear(&mut self, answer: &mut Option<Answer>) -> Checked {
        let mut outputs = Vec::new();
        // Nothing comes to a connection that is gone.
        self.mailbox.take(&mut outputs).map_err(|why| why.to_string())?;
        for output in outputs {
            match output {
                Output::Answer { result, .. } => *answer = Some(result),
                Output::Delivery(it) => {
                    let (queue, number) = (it.subscription.0 as usize - 1, number_of(&it.content)?);
                    let (attempt, redelivered) = (it.attempt, it.redelivered);
                    let delivered = Delivered { number, attempt, redelivered };
                    self.deliveries[queue].insert(number, (it.tag, delivered));
                    self.order[queue].push(number);
                }
                other => return Err(format!("nobody expects {other:?}")),
            }
        }
        Ok(())
    }

    /// Takes everything that is free.
    pub(super) fn drain(&mut self) -> Result<[Vec<Delivered>; 2], String> {
        for queue in [0, 1] {
            let from = Destination::Queue(QUEUES[queue].into());
            let subscription = subscription(queue);
            self.ask(Command::Subscribe { subscription, from, prefetch: 100, selector: None })?;
        }
        self.ask(Command::Barrier)?;
        let all = [0, 1].map(|queue: usize| {
            let numbers = self.order[queue].iter();
            numbers.map(|number| self.deliveries[queue][number].1).collect()
        });
        Ok(all)
    }

    pub(super) fn decide(&mut self, step: Step) -> Result<Answer, String> {
        let input = self.input(step, 0, &Model::new(Default::default()));
        self.drive(input, &mut |_, _| Ok(()))?.ok_or("no answer".to_owned())
    }

    /// What the store holds, its own bookkeeping checked.
    pub(super) fn found(&self) -> Result<[Vec<Found>; 2], String> {
        let contents = self.node.contents()?;
        let mut all: Vec<_> = contents.messages.into_iter().collect();
        all.sort_by_key(|(_, found)| found.place);
        Ok(QUEUES.map(|queue| {
            let of_queue = all.iter().filter(|(_, found)| found.queue == queue);
            let found = of_queue.map(|(number, it)| Found {
                number: *number,
                returns: it.returns,
                redelivered: it.redelivered,
                held: it.held,
            });
            found.collect()
        }))
    }

    /// The branches that wait for their manager, and what an operator has decided of them.
    pub(super) fn branches(&mut self) -> Result<Vec<(Xid, Option<Resolution>)>, String> {
        match self.ask(Command::Xa(XaCommand::Recover { after: None }))? {
            Reply::Branches(all) => Ok(all.into_iter().map(|it| (it.xid, it.decided)).collect()),
            other => Err(format!("{other:?} is no list")),
        }
    }
}
