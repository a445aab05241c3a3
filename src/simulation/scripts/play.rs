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
    Command, Confirm, EndAs, Once, Outcome, Output, Refusal, Reply, Request, StartAs, Which,
    XaCommand,
};
use crate::broker::delta::Resolution;
use crate::engine::{Input, Mailbox, Settings, Turn};
use crate::identity::{Identity, Numbered};
use crate::ids::{ConnectionId, Millis, SubscriptionId, Tag, Token, TransactionName, Xid};
use crate::io::sim::SimDisk;
use crate::limits;
use crate::message::{BodyKind, Content, Destination, Durability, Message, Priority};
use crate::schedule::When;

use super::check::{check, expect, expected_answer};
use super::model::{self, Delivered, Found, Model, Phase};
use super::{Operation, Script, Step};
use crate::simulation::node::{Node, abandon, number_of, settings};

pub(super) const NOW: Millis = Millis(1_000_000);
pub(super) const QUEUES: [&str; 2] = ["left", "right"];
const OTHER: ConnectionId = ConnectionId(100);
pub(super) const NAME: TransactionName = TransactionName(1);
/// Milliseconds within which a branch has voted, or is broken and given up.
const PATIENCE: u64 = 400_000;
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
fn lingers(turn: Turn, now: Millis) -> Option<Millis> {
    let Turn::Idle(deadline) = turn else { return None };
    deadline.filter(|deadline| deadline.0 <= now.0 + limits::LINGER_MILLIS)
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

pub(super) type Checked = Result<(), String>;

pub(super) type Answer = Result<Reply, Refusal>;

/// What every script begins with.
pub(super) fn beginning() -> Model {
    let first = FIRST.map(|number| model::Message::new(number, true));
    let second = SECOND.map(|(number, logged)| model::Message::new(number, logged));
    Model::new([first.into(), second.into()])
}

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
        let mut model = beginning();
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
                let works = !promises(*step);
                let allowed = match moment {
                    // What is in memory alone waits for nothing.
                    Moment::Told if works => &since[..1],
                    Moment::Lost => &since[..1],
                    Moment::Torn => &since[..],
                    Moment::Told | Moment::Whole | Moment::Answered => slice::from_ref(&model),
                };
                let checked = check(&disk, allowed, script, tried);
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
            let close = Input::Close(actor.connection);
            actor.drive(Some(close), &mut |_, _| Ok(()))?;
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

/// Whether the answer to a step promises something: what is done in a transaction does not, its
/// vote and its end do.
fn promises(step: Step) -> bool {
    use Step::{Do, End, Fail, Join, Leave, Resume, Suspend};
    !matches!(step, Do(_) | Join | Leave | Suspend | Resume | End | Fail)
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

pub(super) fn numbered(sequence: u64) -> Numbered {
    Numbered { producer: Identity::of(b"a producer"), sequence }
}

/// What the commits are called of which there is to be one.
pub(super) fn commit_name() -> Identity {
    Identity::of(b"a commit")
}

pub(super) fn commit_once() -> Command {
    Command::Once(Once::commit(commit_name(), NAME, Identity::of(b"what was done")))
}

fn end_as(how: EndAs) -> Command {
    Command::Xa(XaCommand::End { xid: xid(), transaction: NAME, how })
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
    now: Millis,
    connection: ConnectionId,
    mailbox: Arc<Mailbox>,
    /// Another connection, which joins the branch.
    other: (ConnectionId, Arc<Mailbox>),
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
        let other = (OTHER, Arc::default());
        let (deliveries, order) = Default::default();
        let (disk, pace, now, last_token) = (disk.clone(), Pace::Single, NOW, 0);
        let mut actor = Self {
            disk,
            node,
            pace,
            now,
            connection,
            mailbox,
            other,
            last_token,
            deliveries,
            order,
        };
        // Room for all that a script writes is made before it begins.
        while actor.node.room_step() {}
        actor.connect();
        Ok(actor)
    }

    pub(super) fn recover(disk: &SimDisk) -> Result<Self, String> {
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
        self.request_by(self.connection, command)
    }

    fn request_by(&mut self, connection: ConnectionId, command: Command) -> Input {
        self.last_token += 1;
        let (token, confirm) = (Token(self.last_token), Confirm::Always);
        let request = Request { token, confirm, command };
        Input::Requests(connection, [request].into(), None)
    }

    pub(super) fn ask(&mut self, command: Command) -> Result<Reply, String> {
        self.try_ask(command)?.map_err(|refusal| refusal.to_string())
    }

    pub(super) fn try_ask(&mut self, command: Command) -> Result<Answer, String> {
        let input = self.request(command);
        self.drive(Some(input), &mut |_, _| Ok(()))?.ok_or("no answer".to_owned())
    }

    /// Takes a step, and gives the answer.
    pub(super) fn step(&mut self, step: Step, model: &mut Model) -> Answer {
        let input = self.input(step, SENT, model);
        model.take(step, SENT);
        let answer = self.drive(input, &mut |_, _| Ok(())).expect("it comes to rest");
        answer.expect("it is answered")
    }

    /// Tells the engine of a step, and lets nothing run.
    pub(super) fn tell(&mut self, step: Step, model: &mut Model) {
        let input = self.input(step, SENT, model);
        model.take(step, SENT);
        self.node.inputs.extend(input);
    }

    /// What the first connection was answered since somebody looked.
    pub(super) fn answers(&mut self) -> Vec<Answer> {
        let mut outputs = Vec::new();
        self.mailbox.take(&mut outputs).expect("it is there");
        let answer = |output| match output {
            Output::Answer { result, .. } => Some(result),
            _ => None,
        };
        outputs.into_iter().filter_map(answer).collect()
    }

    /// Asks, and does not wait for the answer.
    pub(super) fn leave(&mut self, command: Command) {
        let input = self.request(command);
        self.node.inputs.push_back(input);
    }

    /// What is told to the engine for a step; nothing where only time goes by.
    fn input(&mut self, step: Step, number: u64, before: &Model) -> Option<Input> {
        let (xid, transaction) = (xid(), NAME);
        let command = match step {
            Step::Begin => Command::Begin { transaction },
            Step::Start => return Some(self.start(self.connection, StartAs::New)),
            Step::Join => {
                self.node.inputs.push_back(Input::Connect(self.other.0, Arc::clone(&self.other.1)));
                return Some(self.start(self.other.0, StartAs::Join));
            }
            Step::Resume => return Some(self.start(self.connection, StartAs::Resume)),
            Step::Do(operation) => return Some(self.operation(operation, number, before)),
            Step::Commit => Command::Commit { transaction },
            Step::CommitOnce => commit_once(),
            Step::Rollback(disposition) => Command::Rollback { transaction, disposition },
            Step::Lose => return Some(Input::Close(self.connection)),
            Step::LoseOther => return Some(Input::Close(self.other.0)),
            Step::Expire => {
                self.now.0 += PATIENCE;
                return None;
            }
            Step::End => end_as(EndAs::Success),
            Step::Suspend => end_as(EndAs::Suspend),
            Step::Fail => end_as(EndAs::Fail),
            Step::Leave => return Some(self.request_by(self.other.0, end_as(EndAs::Success))),
            Step::Prepare => Command::Xa(XaCommand::Prepare { xid }),
            Step::OnePhase => Command::Xa(XaCommand::Commit { xid, one_phase: true }),
            Step::Outcome(Resolution::Commit, _) => {
                Command::Xa(XaCommand::Commit { xid, one_phase: false })
            }
            Step::Outcome(Resolution::Rollback, disposition) => {
                Command::Xa(XaCommand::Rollback { xid, disposition })
            }
            Step::Decide(resolution) => Command::Xa(XaCommand::Decide { xid, resolution }),
            Step::Forget => Command::Xa(XaCommand::Forget { xid }),
        };
        Some(self.request(command))
    }

    fn start(&mut self, connection: ConnectionId, how: StartAs) -> Input {
        let (xid, transaction, timeout, client) = (xid(), NAME, None, "a script".into());
        let start = XaCommand::Start { xid, how, transaction, timeout, client };
        self.request_by(connection, Command::Xa(start))
    }

    fn operation(&mut self, operation: Operation, number: u64, before: &Model) -> Input {
        let to = |queue: usize| Destination::Queue(QUEUES[queue].into());
        let sends = |queue, persistent| Command::Send {
            to: to(queue),
            message: message(number, persistent),
        };
        let (command, sequence) = match operation {
            Operation::Send { queue, persistent } => (sends(queue, persistent), None),
            Operation::Number { queue, sequence } => (sends(queue, true), Some(sequence)),
            Operation::Settle { queue, returned } => {
                let number = before.loan(queue).expect("there are enough");
                let (tag, _) = self.deliveries[queue][&number];
                let (subscription, which) = (subscription(queue), Which::One(tag));
                let outcome = if returned { Outcome::Returned } else { Outcome::Accepted };
                (Command::Settle { subscription, which, outcome }, None)
            }
        };
        let sends = !matches!(operation, Operation::Settle { .. });
        let within = (before.phase != Phase::None).then_some(NAME);
        let command = command.within(within);
        let command = match sequence {
            Some(sequence) => Command::Once(Once::numbered(numbered(sequence), command)),
            None => command,
        };
        let by_other = sends && before.sends_by_other();
        let connection = if by_other { self.other.0 } else { self.connection };
        self.request_by(connection, command)
    }

    /// Lets the engine and the log run until nothing moves, and crashes each write to the log.
    fn drive(
        &mut self,
        input: Option<Input>,
        crash: &mut dyn FnMut(SimDisk, Moment) -> Checked,
    ) -> Result<Option<Answer>, String> {
        self.node.inputs.extend(input);
        let (mut answer, mut wrote) = (None, false);
        let mut now = self.now;
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
                if let (Pace::Single, Some(lingers)) = (self.pace, lingers(turn, now)) {
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
        self.other.1.take(&mut outputs).map_err(|why| why.to_string())?;
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
