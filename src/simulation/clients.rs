//! Clients made of choices from a seed: they send, consume, settle, break off and come back, and
//! write into the model what they asked and what they were told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::broker::command::{
    Command, Confirm, Delivery, Outcome, Output, Refusal, Request, Which, Work,
};
use crate::broker::delta::Resolution;
use crate::engine::{Connection, Input, Mailbox};
use crate::ids::{ConnectionId, Millis, StageId, SubscriptionId, Tag, Token};
use crate::message::{
    BodyKind, Content, DLQ_FAILURE_CAUSE, Destination, Durability, Message, Priority,
};
use crate::schedule::When;

use super::again::AGAIN;
use super::bodies::{Bodies, Receiving, Sending};
use super::model::{Fate, Model, Step};
use super::node::{DEAD_LETTERS, number_of};
use super::random::Random;
use super::settled::settle_answered;
use super::special;
use super::taste::Taste;
use super::units::Unit;

/// The last of them is purged and deleted now and then.
pub(super) const QUEUES: [&str; 3] = ["a", "b", "swept"];
const TOPIC: &str = "t";

pub(super) struct Client {
    pub(super) index: u64,
    pub(super) connection: ConnectionId,
    mailbox: Arc<Mailbox>,
    last_token: u64,
    pub(super) last_subscription: u64,
    pub(super) subscriptions: BTreeMap<SubscriptionId, Held>,
    /// The transaction that it works in now and then.
    pub(super) unit: Option<Unit>,
    pub(super) last_unit: u64,
    pub(super) asked: BTreeMap<Token, Asked>,
    /// Taken from the mailbox, not yet acted on; with what each takes of the window.
    arrived: VecDeque<(Output, usize)>,
    bodies: Bodies,
}

/// A subscription's outstanding deliveries.
#[derive(Default)]
pub(super) struct Held {
    topic: bool,
    pub(super) messages: BTreeMap<Tag, u64>,
    /// What it wants of what there is.
    taste: Option<Taste>,
}

#[derive(Debug)]
pub(super) enum Asked {
    Send(u64),
    /// Of one that comes again.
    SendAgain(u64),
    /// The same again, under the same id.
    Resend(u64),
    /// A send, or the settlement of some, in the transaction of that name.
    SendIn(u64, u64),
    SettleIn(u64),
    Commit(Unit),
    /// A vote, or the end, of the branch of that number.
    Prepare(u64),
    Outcome(u64, Resolution),
    /// A heuristic outcome of this branch is to be forgotten.
    Forget(u64),
    /// A part of a large body.
    Part(StageId),
    Settle(Vec<u64>, Outcome),
    /// What an operator has asked for, by its number.
    Upkeep(u64),
    Other,
}

/// What a client may touch when it acts.
pub(super) struct Surroundings<'a> {
    pub(super) model: &'a mut Model,
    pub(super) random: &'a mut Random,
    pub(super) inputs: &'a mut VecDeque<Input>,
    pub(super) now: Millis,
    pub(super) last_number: &'a mut u64,
    pub(super) last_connection: &'a mut u64,
    /// Mailboxes of connections that have ended and that the engine may not have heard of.
    pub(super) ghosts: &'a mut Vec<Arc<Mailbox>>,
}

impl Client {
    pub(super) fn connect(index: u64, around: &mut Surroundings<'_>) -> Self {
        *around.last_connection += 1;
        let connection = ConnectionId(*around.last_connection);
        let mailbox = Arc::new(Mailbox::default());
        around.inputs.push_back(Input::Connect(connection, Arc::clone(&mailbox)));
        Self {
            index,
            connection,
            mailbox,
            last_token: 0,
            last_subscription: 0,
            subscriptions: BTreeMap::new(),
            unit: None,
            last_unit: 0,
            asked: BTreeMap::new(),
            arrived: VecDeque::new(),
            bodies: Bodies::default(),
        }
    }

    /// One thing that a client might do.
    pub(super) fn act(&mut self, around: &mut Surroundings<'_>) -> Result<(), String> {
        self.hear(around, 3)?;
        if self.bodies.sending.is_some() && around.random.one_in(2) {
            self.send_on(around);
            return Ok(());
        }
        match around.random.below(43) {
            0..12 => self.send(around),
            12..16 => self.subscribe(around),
            16..26 => self.settle(around),
            26..28 => self.unsubscribe(around),
            28 => self.reconnect(around),
            29 => self.sweep(around),
            30 => self.ask(around, Command::ListQueues { after: None }, Asked::Other),
            31 => self.shift(around),
            32 => self.browse(around),
            33..37 => self.begin_or_end(around),
            37..39 => self.resend(around),
            39..41 => self.finish_branch(around),
            41 => self.send_again(around),
            _ => self.ask(around, Command::Barrier, Asked::Other),
        }
        Ok(())
    }

    /// Takes what the broker has let out: from now on it counts as delivered, whatever becomes
    /// of this client.
    pub(super) fn collect(&mut self, model: &mut Model, first_life: bool) -> Result<(), String> {
        for output in take(&self.mailbox, model, first_life)? {
            if let Output::Delivery(delivery) = &output
                && !self.subscriptions.contains_key(&delivery.subscription)
            {
                model.comes_back_counted(&output);
            }
            let bytes = Connection::window_bytes(&output);
            self.arrived.push_back((output, bytes));
        }
        Ok(())
    }

    /// Acts on up to `count` things that have arrived.
    pub(super) fn hear(
        &mut self,
        around: &mut Surroundings<'_>,
        count: usize,
    ) -> Result<(), String> {
        for _ in 0..count {
            let Some((output, bytes)) = self.arrived.pop_front() else { return Ok(()) };
            if self.mailbox.written(bytes) {
                around.inputs.push_back(Input::Writable(self.connection));
            }
            match output {
                Output::Answer { token, result } => {
                    self.answered(around, token, result.err())?;
                }
                Output::Delivery(delivery) => {
                    let number = number_of(&delivery.content)?;
                    self.receive(&delivery, number)?;
                }
                Output::Piece { subscription, tag, bytes } => {
                    self.receive_piece(subscription, tag, &bytes)?;
                }
                Output::Broken { subscription, tag } => {
                    let held = self.subscriptions.get(&subscription);
                    let expected = held.is_some_and(|held| held.messages.contains_key(&tag));
                    let is = |it: &mut Receiving| (it.subscription, it.tag) == (subscription, tag);
                    if self.bodies.receiving.take_if(is).is_some() && expected {
                        return Err(format!("{tag} broke off without a cause"));
                    }
                }
                Output::Cancelled { .. } => return Err("cancelled without a cause".to_owned()),
            }
        }
        Ok(())
    }

    fn answered(
        &mut self,
        around: &mut Surroundings<'_>,
        token: Token,
        refusal: Option<Refusal>,
    ) -> Result<(), String> {
        let asked = self.asked.remove(&token).ok_or("an answer to what was not asked")?;
        let full = refusal.as_ref().is_some_and(Refusal::is_want_of_room);
        match asked {
            Asked::Part(stage) => {
                if refusal.is_some() && !full && !self.bodies.refused.contains(&stage) {
                    return Err(format!("a part of {stage} was refused: {refusal:?}"));
                }
                if refusal.is_some() {
                    self.bodies.refused.insert(stage);
                }
            }
            Asked::Send(number) => {
                let stage = self.bodies.sent.remove(&number);
                let lacks =
                    matches!(refusal, Some(Refusal::PieceMissing | Refusal::NoSuchStage(_)),);
                let gap = lacks && stage.is_some_and(|stage| self.bodies.refused.contains(&stage));
                // Others have counted on while it waited.
                let gap = gap || matches!(refusal, Some(Refusal::BelowWindow { .. }));
                if refusal.is_some() && !full && !gap {
                    return Err(format!("send refused: {refusal:?}"));
                }
                let fate = around.model.fates.get_mut(&number);
                let fate = fate.ok_or("an answer about nothing")?;
                let full = full || gap;
                around.model.once.heard(number, refusal.is_none());
                fate.send = if full { Step::Void } else { Step::Confirmed };
            }
            Asked::SendAgain(number) => around.model.again.answered(number, refusal)?,
            Asked::Resend(number) => self.resend_answered(around, number, refusal)?,
            Asked::SendIn(unit, number) => {
                self.part_of_unit_answered(around, unit, Some(number), refusal.as_ref())?;
            }
            Asked::SettleIn(unit) => {
                self.part_of_unit_answered(around, unit, None, refusal.as_ref())?;
            }
            Asked::Prepare(number) => self.prepare_answered(around, number, refusal.as_ref())?,
            Asked::Outcome(it, how) => self.outcome_answered(around, it, how, refusal.as_ref())?,
            Asked::Forget(number) => around.model.over.extend(refusal.is_none().then_some(number)),
            Asked::Commit(unit) => self.commit_answered(around, &unit, refusal.as_ref())?,
            Asked::Settle(numbers, outcome) => {
                settle_answered(around.model, &numbers, outcome, refusal.as_ref())?;
            }
            Asked::Upkeep(number) => around.model.upkeep.answered(number),
            Asked::Other => {}
        }
        Ok(())
    }

    pub(super) fn ask_barrier(&mut self, around: &mut Surroundings<'_>) {
        self.ask(around, Command::Barrier, Asked::Other);
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.asked.is_empty() || !self.arrived.is_empty() || self.bodies.receiving.is_some()
    }

    pub(super) fn has_arrived(&self) -> bool {
        !self.arrived.is_empty()
    }

    /// Something that it asked and was not told.
    pub(super) fn owed(&self) -> Option<String> {
        let (token, asked) = self.asked.first_key_value()?;
        Some(format!("{asked:?} as {token:?} of {}", self.connection))
    }

    /// Who sends, as far as the order of messages goes: what a connection that has ended has left
    /// may come after what its client sends by the next.
    fn producer(&self) -> u64 {
        self.connection.0 << 32
    }

    pub(super) fn ask(&mut self, around: &mut Surroundings<'_>, command: Command, asked: Asked) {
        self.last_token += 1;
        let token = Token(self.last_token);
        self.asked.insert(token, asked);
        // Some ask as an embedding program does, which is told of each request by itself.
        let confirm = if token.0.is_multiple_of(3) { Confirm::Alone } else { Confirm::Always };
        let request = Request { token, confirm, command };
        // Some requests come together, as they do from a socket.
        if around.random.one_in(2)
            && let Some(Input::Requests(id, requests, _)) = around.inputs.back_mut()
            && *id == self.connection
        {
            requests.push_back(request);
            return;
        }
        around.inputs.push_back(Input::Requests(self.connection, [request].into(), None));
    }

    fn send(&mut self, around: &mut Surroundings<'_>) {
        *around.last_number += 1;
        let number = *around.last_number;
        let topic = around.random.one_in(16);
        if self.bodies.sending.is_none() && around.random.one_in(10) {
            return self.send_large(around, number);
        }
        let queue = QUEUES[around.random.below(3) as usize];
        let name = if topic { TOPIC } else { queue };
        let persistent = !topic && !around.random.one_in(4);
        let priority = if around.random.one_in(4) { around.random.below(10) as u8 } else { 4 };
        let expires =
            around.random.one_in(16).then(|| Millis(around.now.0 + 1 + around.random.below(200)));
        let delay =
            if !topic && around.random.one_in(12) { 1 + around.random.below(200) } else { 0 };
        // What is to wait is durable whatever it asks for.
        let kept = persistent || delay > 0;
        let size = match around.random.below(40) {
            0 => around.random.below(40_000),
            1..10 => around.random.below(5_000),
            _ => around.random.below(300),
        };
        let fate = Fate {
            queues: [name.to_owned()].into(),
            producer: self.producer(),
            rank: 9 - priority,
            persistent: kept,
            // It takes its place when it fires.
            moved: delay > 0,
            not_before: Millis(if delay > 0 { around.now.0 + delay } else { 0 }),
            delay,
            // What is not persistent makes room for others in the queue that is swept.
            doomed: expires.is_some() || topic || (!kept && name == QUEUES[2]),
            ..Fate::asked()
        };
        around.model.is_sent(number, fate);
        let content = Content {
            kind: BodyKind::Bytes,
            properties: special::properties(number),
            body: Bytes::from(vec![number as u8; size as usize]),
        };
        let durability =
            if persistent { Durability::Persistent } else { Durability::NonPersistent };
        let message = Message {
            durability,
            priority: Priority::new(priority).expect("below 10"),
            expires,
            when: if delay > 0 { When::After(delay) } else { When::AtOnce },
            grouped: special::group(number).is_some(),
            content: content.encode(),
        };
        let to = if topic { Destination::Topic(name.into()) } else { queue_named(name) };
        if self.unit.is_some() && around.random.one_in(2) {
            let unit = self.unit.as_mut().expect("just seen");
            let fate = around.model.fates.get_mut(&number).expect("just put there");
            // Nobody may see it before the commit is asked.
            fate.send = Step::Void;
            // A place is given by the commit: so it counts as another producer's.
            fate.producer = 1000 + number;
            fate.persistent |= unit.branch.is_some() && !topic;
            unit.send(number);
            let asked = Asked::SendIn(unit.name, number);
            let command = self.within(Work::Send { to, message });
            let command = around.model.name(self.index, number, command);
            return self.ask(around, command, asked);
        }
        let command = around.model.name(self.index, number, Command::Send { to, message });
        self.ask(around, command, Asked::Send(number));
    }

    /// Begins a message whose body comes in pieces.
    fn send_large(&mut self, around: &mut Surroundings<'_>, number: u64) {
        self.bodies.last_stage += 1;
        let stage = StageId(self.bodies.last_stage);
        self.bodies.sending = Some(Sending::new(stage, number, around.random));
        let to = queue_named(QUEUES[(number % 3) as usize]);
        self.ask(around, Command::Stage { stage, to, bytes: 0 }, Asked::Part(stage));
    }

    /// Sends the next piece, or the message, or gives it up.
    fn send_on(&mut self, around: &mut Surroundings<'_>) {
        let Some(mut sending) = self.bodies.sending.take() else { return };
        let (stage, number) = (sending.stage, sending.number);
        if around.random.one_in(24) {
            return self.ask(around, Command::Unstage { stage }, Asked::Part(stage));
        }
        if around.random.one_in(40) {
            sending.lose_piece();
            self.bodies.refused.insert(stage);
        }
        if let Some(piece) = sending.piece(around.random) {
            self.bodies.sending = Some(sending);
            return self.ask(around, piece, Asked::Part(stage));
        }
        let queue = QUEUES[(number % 3) as usize];
        // A producer's messages keep the order of their numbers, and this number was given long
        // ago: so it counts as another producer's.
        let producer = self.producer() + 1;
        let priority = Priority::DEFAULT;
        let expires =
            around.random.one_in(8).then(|| Millis(around.now.0 + 1 + around.random.below(200)));
        let doomed = expires.is_some();
        let queues = [queue.to_owned()].into();
        let fate = Fate { queues, producer, doomed, ..Fate::asked() };
        around.model.is_sent(number, fate);
        self.bodies.sent.insert(number, stage);
        let (durability, content) = (Durability::Persistent, sending.content());
        let message =
            Message { durability, priority, expires, when: When::AtOnce, grouped: false, content };
        let command = Command::SendStaged { stage, to: queue_named(queue), message };
        self.ask(around, command, Asked::Send(number));
    }

    fn receive(&mut self, delivery: &Delivery, number: u64) -> Result<(), String> {
        let (subscription, tag) = (delivery.subscription, delivery.tag);
        if let Some(held) = self.subscriptions.get_mut(&subscription) {
            if let Some(taste) = held.taste.filter(|it| !it.wants(number, delivery.priority)) {
                return Err(format!("{number} does not match {}", taste.selector()));
            }
            if let Some(under_way) = &self.bodies.receiving {
                return Err(format!("{tag} came inside the body of {}", under_way.number));
            }
            self.bodies.receiving = Receiving::of(delivery, number);
            // Some settle a message before they have its body.
            if self.bodies.receiving.is_none() || self.index == 0 {
                held.messages.insert(tag, number);
            }
        }
        Ok(())
    }

    fn receive_piece(
        &mut self,
        subscription: SubscriptionId,
        tag: Tag,
        bytes: &[u8],
    ) -> Result<(), String> {
        let Some(held) = self.subscriptions.get_mut(&subscription) else { return Ok(()) };
        let receiving = self.bodies.receiving.as_mut();
        let receiving = receiving.filter(|it| (it.subscription, it.tag) == (subscription, tag));
        let receiving = receiving.ok_or("a piece of no delivery")?;
        if receiving.take(bytes)? {
            if self.index > 0 {
                held.messages.insert(tag, receiving.number);
            }
            self.bodies.receiving = None;
        }
        Ok(())
    }

    fn subscribe(&mut self, around: &mut Surroundings<'_>) {
        if self.subscriptions.len() >= 3 {
            return;
        }
        let topic = around.random.one_in(6);
        let from = if topic {
            Destination::Topic(TOPIC.into())
        } else if around.random.one_in(12) {
            queue_named(DEAD_LETTERS[around.random.below(2) as usize])
        } else if around.random.one_in(6) {
            queue_named(AGAIN)
        } else {
            queue_named(QUEUES[around.random.below(3) as usize])
        };
        let prefetch = 1 + around.random.below(12) as u32;
        if !topic && around.random.one_in(5) {
            return self.subscribe_specially(around, from, prefetch);
        }
        let taste = around.random.one_in(3).then(|| Taste::any(around.random));
        self.subscribe_to(around, from, prefetch, taste);
    }

    pub(super) fn subscribe_to(
        &mut self,
        around: &mut Surroundings<'_>,
        from: Destination,
        prefetch: u32,
        taste: Option<Taste>,
    ) {
        self.last_subscription += 1;
        let subscription = SubscriptionId(self.last_subscription);
        let topic = matches!(from, Destination::Topic(_));
        self.subscriptions.insert(subscription, Held { topic, messages: BTreeMap::new(), taste });
        let selector = taste.map(Taste::selector).map(Arc::new);
        let command = Command::Subscribe { subscription, from, prefetch, selector };
        self.ask(around, command, Asked::Other);
    }

    /// Subscribes to everything: as it is, or in parts by selectors that leave nothing out.
    pub(super) fn subscribe_to_all(&mut self, around: &mut Surroundings<'_>) {
        for name in QUEUES.into_iter().chain(DEAD_LETTERS).chain([AGAIN]) {
            if around.random.one_in(2) {
                self.subscribe_to(around, queue_named(name), 7, None);
                continue;
            }
            for taste in Taste::parts(around.random) {
                self.subscribe_to(around, queue_named(name), 4, Some(taste));
            }
        }
    }

    fn settle(&mut self, around: &mut Surroundings<'_>) {
        let outcome = if around.random.one_in(4) { Outcome::Returned } else { Outcome::Accepted };
        let holding: Vec<_> =
            self.subscriptions.iter().filter(|(_, held)| !held.messages.is_empty()).collect();
        if holding.is_empty() {
            return;
        }
        let pick = around.random.below(holding.len() as u64) as usize;
        let (subscription, held) = holding[pick];
        let nth = around.random.below(held.messages.len() as u64) as usize;
        let tag = *held.messages.keys().nth(nth).expect("in range");
        let first = around.random.below(nth as u64 + 1) as usize;
        let first = *held.messages.keys().nth(first).expect("in range");
        let which = match around.random.below(6) {
            0 | 1 => Which::Through(tag),
            2 => Which::Range(first, tag),
            _ => Which::One(tag),
        };
        self.settle_as(around, *subscription, which, outcome);
    }

    /// Accepts everything it holds.
    pub(super) fn accept_all(&mut self, around: &mut Surroundings<'_>) {
        let last = |held: &Held| held.messages.keys().next_back().copied();
        let all: Vec<_> =
            self.subscriptions.iter().filter_map(|(id, held)| Some((*id, last(held)?))).collect();
        for (subscription, tag) in all {
            self.settle_as(around, subscription, Which::Through(tag), Outcome::Accepted);
        }
    }

    fn settle_as(
        &mut self,
        around: &mut Surroundings<'_>,
        subscription: SubscriptionId,
        which: Which,
        outcome: Outcome,
    ) {
        let held = self.subscriptions.get_mut(&subscription).expect("it was picked");
        let settled: Vec<(Tag, u64)> = match which {
            Which::One(tag) => held.messages.remove_entry(&tag).into_iter().collect(),
            Which::Through(tag) => {
                let rest = held.messages.split_off(&Tag(tag.0 + 1));
                std::mem::replace(&mut held.messages, rest).into_iter().collect()
            }
            Which::Range(first, last) => {
                held.messages.extract_if(first..=last, |_, _| true).collect()
            }
        };
        let topic = held.topic;
        if outcome == Outcome::Accepted && !topic && self.unit.is_some() && around.random.one_in(2)
        {
            let unit = self.unit.as_mut().expect("just seen");
            for (_, number) in &settled {
                if let Some(fate) = around.model.fates.get_mut(number) {
                    fate.accept = Step::Held;
                }
            }
            unit.take(subscription, &settled);
            let asked = Asked::SettleIn(unit.name);
            let command = self.within(Work::Settle { subscription, which, outcome });
            return self.ask(around, command, asked);
        }
        let numbers: Vec<u64> = settled.into_iter().map(|(_, number)| number).collect();
        for number in numbers.iter().filter(|_| !topic) {
            let Some(fate) = around.model.fates.get_mut(number) else { continue };
            match outcome {
                Outcome::Accepted => fate.accept = Step::Asked,
                Outcome::Returned | Outcome::Rejected => {
                    fate.returns_asked += 1;
                    fate.may_be_dropped();
                }
                Outcome::Expired => unreachable!("no client here says so"),
            }
        }
        let asked = if topic { Asked::Other } else { Asked::Settle(numbers, outcome) };
        self.ask(around, Command::Settle { subscription, which, outcome }, asked);
    }

    fn unsubscribe(&mut self, around: &mut Surroundings<'_>) {
        let Some((subscription, held)) = self.subscriptions.pop_first() else { return };
        self.returns_by_end(around, &held);
        self.stop_receiving(around, Some(subscription));
        self.ask(around, Command::Unsubscribe { subscription }, Asked::Other);
    }

    /// What this client holds, or may have in its mailbox, comes back counted.
    fn returns_by_end(&self, around: &mut Surroundings<'_>, held: &Held) {
        for number in held.messages.values() {
            if let Some(fate) = around.model.fates.get_mut(number) {
                fate.comes_back();
            }
        }
        self.arrived.iter().for_each(|(output, _)| around.model.comes_back_counted(output));
    }

    /// A body that had begun to arrive comes back counted, where it is not held yet.
    fn stop_receiving(&mut self, around: &mut Surroundings<'_>, of: Option<SubscriptionId>) {
        let is_of = |it: &mut Receiving| of.is_none_or(|of| it.subscription == of);
        if let Some(receiving) = self.bodies.receiving.take_if(is_of)
            && let Some(fate) = around.model.fates.get_mut(&receiving.number)
        {
            fate.comes_back();
        }
    }

    fn reconnect(&mut self, around: &mut Surroundings<'_>) {
        self.close_producers(around);
        self.leave(around);
        *self = Self::connect(self.index, around);
        self.resend(around);
    }

    /// Breaks off.
    pub(super) fn leave(&mut self, around: &mut Surroundings<'_>) {
        for held in self.subscriptions.values() {
            self.returns_by_end(around, held);
        }
        self.stop_receiving(around, None);
        for asked in self.asked.values() {
            if let Asked::Send(number) | Asked::Resend(number) = asked {
                around.model.once.unsure(*number);
            }
        }
        self.leave_units(around);
        self.leave_branches(around);
        around.inputs.push_back(Input::Close(self.connection));
        around.ghosts.push(Arc::clone(&self.mailbox));
    }
}

/// A non-persistent message that was set apart is a new one, which says why; and it stays one,
/// wherever an operator moves it.
fn is_new_dead_letter(delivery: &Delivery) -> bool {
    let cause = DLQ_FAILURE_CAUSE.as_bytes();
    delivery.content.windows(cause.len()).any(|bytes| bytes == cause)
}

pub(super) fn queue_named(name: &str) -> Destination {
    Destination::Queue(name.into())
}

/// Takes everything out of a mailbox, checks each delivery and notes it in the model.
pub(super) fn take(
    mailbox: &Mailbox,
    model: &mut Model,
    first_life: bool,
) -> Result<Vec<Output>, String> {
    let mut outputs = Vec::new();
    // A mailbox that is closed has nothing more to give.
    let _ = mailbox.take(&mut outputs);
    for output in &outputs {
        if let Output::Delivery(delivery) = output {
            delivered(delivery, model, first_life)?;
        }
    }
    Ok(outputs)
}

fn delivered(delivery: &Delivery, model: &mut Model, first_life: bool) -> Result<(), String> {
    if model.again.delivered(delivery, model.now)? {
        return Ok(());
    }
    let number = number_of(&delivery.content)?;
    let now = model.now;
    let fate = model.fates.get_mut(&number).ok_or(format!("{number} was over, and came"))?;
    if matches!(delivery.from, Destination::Topic(_)) {
        return Ok(());
    }
    let problem = if now < fate.not_before {
        "it came before its time"
    } else if !fate.may_be_in(delivery.from.name()) {
        "it came from another queue"
    } else if (delivery.persistent != fate.persistent && !fate.kept)
        || 9 - delivery.priority != fate.rank
    {
        "it changed on its way"
    } else if fate.accept == Step::Held {
        "it came while a transaction held it"
    } else if matches!(fate.accept, Step::Asked | Step::Confirmed) {
        "it came after it was accepted"
    } else if fate.send == Step::Void {
        "it came after it was refused"
    } else if fate.delivered && !delivery.redelivered && !is_new_dead_letter(delivery) {
        "it came again without being flagged"
    } else if first_life && delivery.redelivered && !fate.delivered {
        "it came flagged for the first time"
    } else if delivery.attempt <= fate.returns_confirmed && !is_new_dead_letter(delivery) {
        "its count is too small"
    } else if (delivery.attempt > 1) != delivery.redelivered {
        "its count and its flag disagree"
    } else {
        fate.delivered = true;
        return Ok(());
    };
    Err(format!("{number}: {problem}: {fate:?} {delivery:?}"))
}
