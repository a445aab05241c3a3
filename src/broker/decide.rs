//! `decide`: from a command and the state to facts or a refusal.

use std::sync::Arc;

use bytes::Bytes;

use crate::broker::browse::Browse;
use crate::broker::choice::Standing;
use crate::broker::command::{Command, Confirm, Outcome, Refusal, Reply, Which};
use crate::broker::delta::{Entry, Place};
use crate::broker::fact::{Asker, Change, ConsumerKey, Fact, Lent, Publisher, Source, Volatile};
use crate::broker::policy::Shortage;
use crate::broker::publication::Way;
use crate::broker::queue::Queue;
use crate::broker::wildcards::check_no_wildcards;
use crate::broker::{Broker, Room, consumer::Consumer};
use crate::identity::Identity;
use crate::ids::{Body, ConnectionId, Millis, QueueId, Tag, Token};
use crate::limits;
use crate::message::{Destination, Durability, Message, has_wildcards};
use crate::mutant::{self, Mutant};
use crate::record::{Cause, Gone, Record};
use crate::schedule::When;
use crate::selector::Selector;

/// What becomes of a command that is not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its answer, once the facts are true.
    Answer(Reply),
    /// The answer comes by itself, as an effect, when the work is done.
    Later,
    /// Nothing yet: it is to be decided again when there may be room. No facts are stated.
    Hold(Shortage),
    /// As `Hold`, for want of room in this destination, which the command does not name. What is
    /// stated says where there was room.
    HoldFor(Destination, Shortage),
    /// The facts do a part of it; the same command again does the next.
    Part,
    /// As `Later`, and nothing that its connection asks after it is decided before that.
    Fence,
}

impl Verdict {
    /// Nothing is stated, and it is to be decided again.
    pub(super) fn is_hold(&self) -> bool {
        matches!(self, Self::Hold(_) | Self::HoldFor(..))
    }
}

pub(super) const DONE: Result<Verdict, Refusal> = Ok(Verdict::Answer(Reply::Done));

impl Broker {
    /// States in `facts` what `command` comes to. Changes nothing.
    ///
    /// # Errors
    /// The refusal for the peer; then `facts` is untouched.
    pub fn decide(
        &self,
        now: Millis,
        connection: ConnectionId,
        token: Token,
        command: &Command,
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        let asker = Asker { connection, token, confirm: Confirm::Always };
        self.decide_asked(now, asker, command, facts)
    }

    /// As [`Broker::decide`], for one who says how to answer what takes several turns.
    ///
    /// # Errors
    /// The refusal for the peer; then `facts` is untouched.
    pub fn decide_asked(
        &self,
        now: Millis,
        asker: Asker,
        command: &Command,
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        let connection = asker.connection;
        self.check_reserved(command)?;
        match command {
            Command::Send { to: Destination::Queue(name), message } => {
                self.decide_send(now, name, message, None, facts)
            }
            Command::Send { to: Destination::Topic(name), message } => {
                self.decide_publish(now, asker, name, (message, None), facts)
            }
            Command::Stage { stage, to, bytes } => {
                self.decide_stage((connection, *stage), to, *bytes, facts)
            }
            Command::StagePiece { stage, number, bytes } => {
                self.decide_piece((connection, *stage), *number, bytes, facts)
            }
            Command::SendStaged { stage, to, message } => {
                self.decide_send_staged(now, asker, *stage, (to, message), facts)
            }
            Command::Unstage { stage } => self.decide_unstage((connection, *stage), facts),
            Command::Subscribe { subscription, from, prefetch, selector } => {
                let (key, selector) = ((connection, *subscription), selector.clone());
                self.decide_subscribe(now, key, from, (*prefetch, selector), facts)
            }
            Command::SubscribeAs { subscription, from, prefetch, selector, standing } => {
                let (key, selector) = ((connection, *subscription), selector.clone());
                self.decide_subscribe_as(now, key, from, (*prefetch, selector, *standing), facts)
            }
            Command::Identify { client } => self.decide_identify(connection, client, facts),
            Command::Keep { subscription, keep } => {
                self.decide_keep(now, (connection, *subscription), keep, facts)
            }
            Command::EndKept { client, name, reader } => {
                self.decide_end_kept(asker, (client, name), reader.as_deref(), facts)
            }
            Command::Credit { subscription, prefetch } => {
                let change = |key| Change::Credit { key, prefetch: *prefetch };
                self.decide_of_living((connection, *subscription), change, facts)
            }
            Command::Unsubscribe { subscription } => {
                let change = |key| Change::Unsubscribe { key, unsent_from: None };
                self.decide_of_living((connection, *subscription), change, facts)
            }
            Command::Withdraw { subscription, unseen } => {
                let change = |key| Change::Unsubscribe { key, unsent_from: Some(*unseen) };
                self.decide_of_living((connection, *subscription), change, facts)
            }
            Command::Settle { subscription, which, outcome } => {
                let key = (connection, *subscription);
                self.decide_settle(now, key, *which, *outcome, facts)
            }
            Command::Once(once) => self.decide_once(now, asker, once, facts),
            Command::Barrier => DONE,
            Command::Forbidden(forbidden) => Err((*forbidden.refusal).clone()),
            Command::CloseProducers => self.decide_parting(connection, facts),
            Command::EndProducers { producers } => self.decide_ended(now, asker, producers, facts),
            Command::Begin { .. }
            | Command::Transact { .. }
            | Command::Commit { .. }
            | Command::Rollback { .. } => self.decide_transacted(now, asker, command, facts),
            Command::Xa(command) => self.decide_xa(now, asker, command, facts),
            other => self.decide_operator(now, asker, other, facts),
        }
    }

    pub(super) fn decide_publish(
        &self,
        now: Millis,
        asker: Asker,
        name: &Arc<str>,
        (message, body): (&Message, Option<Body>),
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        self.check(name, message)?;
        let connection = asker.connection;
        if let Some(wait) = message.when.wait() {
            let what = (message, body, wait);
            return self.decide_publish_later(now, connection, name, what, facts);
        }
        let size = (message.content.len() as u64, body.map_or(0, Body::bytes));
        if let Room::Lacking(shortage) = self.topic_room(name, size)? {
            return Ok(Verdict::Hold(shortage));
        }
        let way = match body {
            None => self.state_kept_publication(now, connection, name, message, facts)?,
            // The body of a large message is durable whatever its head asks for.
            Some(body) => {
                let message = Message { durability: Durability::Persistent, ..message.clone() };
                let what = (&message, body);
                self.state_large_publication(now, connection, name, what, facts)?
            }
        };
        match way {
            Way::Direct => {}
            Way::Line if body.is_none() && mutant::is(Mutant::AnnounceAtOnce) => {}
            Way::Line => return DONE,
            Way::Wait(shortage) => return Ok(Verdict::Hold(shortage)),
        }
        // Who listens hears of nothing that whoever keeps it might never have.
        let with_log = facts.iter().any(|fact| matches!(fact, Fact::Log(..)));
        let message = Volatile { with_log, ..self.volatile(now, message) };
        let (topic, reach, from) = (Arc::clone(name), self.reach(name), Publisher::Asker(asker));
        let at_once = reach.is_some();
        let reach = reach.unwrap_or(0);
        facts.push(Fact::Memory(Change::Publish { topic, message, from, reach }));
        if at_once { DONE } else { Ok(Verdict::Fence) }
    }

    /// What operators ask, and other brokers, not the programs they look after.
    fn decide_operator(
        &self,
        now: Millis,
        asker: Asker,
        command: &Command,
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        match command {
            Command::ListQueues { after } => {
                Ok(Verdict::Answer(Reply::Queues(self.list(after.as_deref()))))
            }
            Command::ListKept { from, reader } => {
                Ok(Verdict::Answer(Reply::Kept(self.list_kept(from, reader.as_deref()))))
            }
            Command::ShowQueue { queue } => {
                let id = self.names.get(&**queue);
                let id = *id.ok_or_else(|| Refusal::NoSuchQueue(queue.clone()))?;
                Ok(Verdict::Answer(Reply::Queue(Box::new(self.details(id)))))
            }
            Command::Browse { queue, after, limit } => {
                let browse = Browse { asker, after: *after };
                self.decide_browse(browse, queue, *limit, facts)?;
                Ok(Verdict::Later)
            }
            Command::Move { from, to, pick, returns } => {
                self.decide_move(now, asker, (from, to), (pick, *returns), facts)?;
                Ok(Verdict::Later)
            }
            Command::Purge { queue } => self.decide_sweep(asker, queue, false, facts),
            Command::Delete { queue } => self.decide_sweep(asker, queue, true, facts),
            Command::ListSchedules { after } => {
                Ok(Verdict::Answer(Reply::Schedules(self.list_schedules(*after))))
            }
            Command::EndSchedule(id) => self.decide_end_schedule(*id, facts),
            _ => unreachable!("the programs' commands are decided before"),
        }
    }

    /// States the end of a connection: of what it had begun, and of some of its subscriptions.
    /// False while there are more of these.
    pub fn decide_close(
        &self,
        now: Millis,
        connection: ConnectionId,
        facts: &mut Vec<Fact>,
    ) -> bool {
        self.abandon_stages(connection, facts);
        let mut left = limits::STEP_MESSAGES_MAX;
        if !self.decide_close_units(now, connection, &mut left, facts)
            || !self.decide_close_branches(now, connection, &mut left, facts)
        {
            return false;
        }
        self.state_parting(connection, false, facts);
        if self.client_of(connection).is_some() {
            facts.push(Fact::Memory(Change::Identified { connection, client: None }));
        }
        let Some(subscriptions) = self.connections.get(&connection) else { return true };
        for key in subscriptions.iter().take(limits::STEP_ENDS_MAX) {
            facts.push(Fact::Memory(Change::Unsubscribe { key: *key, unsent_from: None }));
        }
        subscriptions.len() <= limits::STEP_ENDS_MAX
    }

    /// States that the payload of a delivery cannot be read: the message moves, with the cause
    /// as its content, to the queue for damaged ones. Nothing if the delivery is over already.
    pub fn decide_damaged(
        &self,
        now: Millis,
        key: ConsumerKey,
        tag: Tag,
        content: Bytes,
        facts: &mut Vec<Fact>,
    ) {
        let Some(consumer) = self.consumers.get(&key) else { return };
        match consumer.loans.get(&tag) {
            Some(Lent::Durable { queue, place, entry }) => {
                self.state_damaged(now, *queue, (*place, entry), content, facts);
            }
            // A listener misses it.
            Some(Lent::Published { .. }) if consumer.ended.is_none() => {}
            Some(Lent::Published { .. } | Lent::Volatile { .. }) | None => return,
        }
        facts.push(Fact::Memory(Change::Forfeit { key, tag }));
    }

    /// States that a message cannot be read, and that another with the cause as its content is in
    /// the queue for such.
    pub(super) fn state_damaged(
        &self,
        now: Millis,
        from: QueueId,
        (place, entry): (Place, &Entry),
        content: Bytes,
        facts: &mut Vec<Fact>,
    ) {
        let (to, seq) = self.queue_or_new(now, limits::DAMAGED_QUEUE, facts);
        facts.push(Fact::Log(
            Record::Moved {
                from,
                gone: Gone::of(place, entry),
                to,
                place: Place { rank: 9 - crate::message::Priority::DEFAULT.get(), seq },
                at: self.time(now),
                upload: None,
            },
            content,
        ));
    }

    pub(super) fn check(&self, name: &str, message: &Message) -> Result<(), Refusal> {
        check_name(name)?;
        check_no_wildcards(name)?;
        let (size, limit) = (message.content.len() as u64, self.limits.message_bytes);
        if size > limit {
            return Err(Refusal::MessageTooLarge { size, limit });
        }
        Ok(())
    }

    pub(super) fn volatile(&self, now: Millis, message: &Message) -> Volatile {
        Volatile {
            at: self.time(now),
            expires: message.expires,
            priority: message.priority.get(),
            persistent: message.durability == Durability::Persistent,
            published: false,
            with_log: false,
            body: None,
            content: message.content.clone(),
        }
    }

    /// `upload` holds the body of a large message, which is durable whatever it asks for.
    pub(super) fn decide_send(
        &self,
        now: Millis,
        name: &Arc<str>,
        message: &Message,
        upload: Option<Body>,
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        // The name is looked up once: with very many queues that is among what a send takes most.
        let known = self.known(name);
        let durability = match self.judge_send(name, known, message, upload, facts)? {
            (_, Room::Lacking(shortage)) => return Ok(Verdict::Hold(shortage)),
            (durability, Room::Enough) => durability,
        };
        let rank = 9 - message.priority.get();
        let found = known.map(|(id, queue)| (id, queue.row.last_seq + 1));
        let (queue, seq) = found.unwrap_or_else(|| self.queue_or_new(now, name, facts));
        if durability == Durability::NonPersistent {
            let (sent, message) = (message, self.volatile(now, message));
            self.state_of_group(queue, sent, facts);
            facts.push(Fact::Memory(Change::Enqueue { queue, rank, message }));
            return DONE;
        }
        self.state_of_group(queue, message, facts);
        if let Some(wait) = message.when.wait() {
            let what = (message, upload, wait);
            self.state_scheduled(now, queue, name, Place { rank, seq }, what, facts);
            return DONE;
        }
        facts.push(Fact::Log(
            Record::Sent {
                queue,
                place: Place { rank, seq },
                at: self.time(now),
                expires: message.expires,
                lent: known.is_some_and(|(_, queue)| queue.is_idle() && !queue.ready.is_empty()),
                upload,
                once: None,
            },
            message.content.clone(),
        ));
        DONE
    }

    /// Whether a message may be sent to a queue now, and whether it is durable there.
    fn judge_send(
        &self,
        name: &Arc<str>,
        known: Option<(QueueId, &Queue)>,
        message: &Message,
        upload: Option<Body>,
        facts: &mut Vec<Fact>,
    ) -> Result<(Durability, Room), Refusal> {
        self.check(name, message)?;
        if known.is_none() {
            self.check_count(name)?;
        }
        // The body of a large message is durable whatever its head asks for.
        let (durability, body) = match upload {
            Some(body) => (Durability::Persistent, body.bytes()),
            None if !message.when.is_at_once() => (Durability::Persistent, 0),
            None => (message.durability, 0),
        };
        self.check_repeat(message, upload)?;
        let size = message.content.len() as u64 + body + overhead_of(&message.when);
        Ok((durability, self.room_in(name, known, (durability, size), facts)?))
    }

    /// The queue of that name.
    pub(super) fn known(&self, name: &str) -> Option<(QueueId, &Queue)> {
        self.names.get(name).map(|id| (*id, &*self.queues[id]))
    }

    pub(super) fn check_count(&self, name: &str) -> Result<(), Refusal> {
        let limit = self.limits.queues;
        if self.names.contains_key(name) {
            return Ok(());
        }
        if self.names.len() >= limit {
            return Err(Refusal::TooManyDestinations { limit });
        }
        self.check_reader(name)
    }

    /// The queue of that name and the next sequence number in it, stating first that it comes
    /// into being if there is none.
    pub(super) fn queue_or_new(
        &self,
        now: Millis,
        name: &str,
        facts: &mut Vec<Fact>,
    ) -> (QueueId, u64) {
        if let Some(id) = self.names.get(name) {
            return (*id, self.queues[id].row.last_seq + 1);
        }
        let stated = facts.iter().find_map(|fact| match fact {
            Fact::Log(Record::QueueCreated { queue, name: other, .. }, _) => {
                (**other == *name).then_some(*queue)
            }
            _ => None,
        });
        if let Some(queue) = stated {
            return (queue, 1);
        }
        let queue = QueueId(self.durable.scalars.last_queue + 1);
        let at = self.time(now);
        facts.push(Fact::Log(Record::QueueCreated { queue, name: name.into(), at }, Bytes::new()));
        (queue, 1)
    }

    fn decide_subscribe(
        &self,
        now: Millis,
        key: ConsumerKey,
        from: &Destination,
        (prefetch, selector): (u32, Option<Arc<Selector>>),
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        if self.consumers.contains_key(&key) {
            return Err(Refusal::SubscriptionExists(key.1));
        }
        check_name(from.name())?;
        let source = match from {
            Destination::Queue(name) if self.check_wildcard(from)?.is_some() => {
                if selector.is_some() {
                    return Err(Refusal::PlainPattern { what: "a selector" });
                }
                Source::Pattern(Arc::clone(name))
            }
            Destination::Queue(name) => {
                self.check_count(name)?;
                Source::Queue(self.queue_or_new(now, name, facts).0)
            }
            Destination::Topic(name) => {
                self.check_wildcard(from)?;
                Source::Topic(Arc::clone(name))
            }
        };
        let prefetch = prefetch.min(self.limits.prefetch);
        facts.push(Fact::Memory(Change::Subscribe { key, source, prefetch, selector }));
        DONE
    }

    fn decide_subscribe_as(
        &self,
        now: Millis,
        key: ConsumerKey,
        from: &Destination,
        (prefetch, selector, standing): (u32, Option<Arc<Selector>>, Standing),
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        let special = standing != Standing::default();
        if special && has_wildcards(from.name()) && matches!(from, Destination::Queue(_)) {
            return Err(Refusal::PlainPattern { what: "a priority, or an exclusive consumer" });
        }
        if standing.exclusive && selector.is_some() {
            return Err(Refusal::ExclusiveSelector);
        }
        let verdict = self.decide_subscribe(now, key, from, (prefetch, selector), facts)?;
        facts.push(Fact::Memory(Change::Stand { key, standing }));
        Ok(verdict)
    }

    /// States a change of a subscription that has not ended.
    fn decide_of_living(
        &self,
        key: ConsumerKey,
        change: impl FnOnce(ConsumerKey) -> Change,
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        let (key, _) = self.living(key)?;
        facts.push(Fact::Memory(change(key)));
        DONE
    }

    fn decide_parting(
        &self,
        connection: ConnectionId,
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        self.state_parting(connection, true, facts);
        DONE
    }

    fn decide_ended(
        &self,
        now: Millis,
        asker: Asker,
        producers: &[Identity],
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        self.state_ended(now, asker.connection, producers, facts);
        DONE
    }

    fn living(&self, key: ConsumerKey) -> Result<(ConsumerKey, &Consumer), Refusal> {
        let consumer = self.consumers.get(&key).filter(|consumer| consumer.ended.is_none());
        consumer.map(|consumer| (key, consumer)).ok_or(Refusal::NoSuchSubscription(key.1))
    }

    fn decide_settle(
        &self,
        now: Millis,
        key: ConsumerKey,
        which: Which,
        outcome: Outcome,
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        let (consumer, tags, which, all) = self.covered(key, which)?;
        let source = consumer.source_of(tags[0]);
        if let Source::Queue(queue) = source {
            let loans = tags.iter().map(|tag| &consumer.loans[tag]);
            match outcome {
                Outcome::Accepted => removed(queue, Cause::Accepted, gone(loans), facts),
                Outcome::Returned => self.state_returned(now, queue, loans, facts),
                Outcome::Rejected => self.state_rejected(now, queue, loans, facts),
                Outcome::Expired => self.state_overdue(now, queue, loans, facts),
            }
        }
        if outcome == Outcome::Expired {
            let loans = tags.iter().map(|tag| &consumer.loans[tag]);
            self.state_loans_expired(&source, loans, facts);
        }
        let in_memory = |tag: &&Tag| !matches!(consumer.loans[*tag], Lent::Durable { .. });
        let volatile = tags.iter().filter(in_memory).count();
        let effort = consumer.effort_of(which, volatile);
        facts.push(Fact::Memory(Change::Settle { key, which, outcome, effort }));
        if let (Source::Queue(queue), Outcome::Rejected) = (&source, outcome) {
            let loans = tags.iter().map(|tag| &consumer.loans[tag]);
            self.state_volatile_rejected(now, *queue, loans, facts);
        }
        if all { DONE } else { Ok(Verdict::Part) }
    }

    /// The deliveries that one step of a settlement covers, how to name them, and whether they are
    /// all.
    pub(super) fn covered(
        &self,
        key: ConsumerKey,
        which: Which,
    ) -> Result<(&Consumer, Vec<Tag>, Which, bool), Refusal> {
        let (_, consumer) = self.living(key)?;
        let tag = which.last();
        // However much one acknowledgement covers, one step settles a bounded part of it.
        let most = limits::STEP_MESSAGES_MAX;
        let tags = consumer.named(which, most).ok_or(Refusal::NotOutstanding(tag))?;
        let tags = consumer.of_one_source(tags);
        let last = *tags.last().expect("at least the one that was named");
        let which = match which {
            Which::Range(first, end) if last < end => Which::Range(first, last),
            Which::Through(end) if last < end => Which::Through(last),
            which => which,
        };
        Ok((consumer, tags, which, last == tag))
    }

    fn decide_sweep(
        &self,
        asker: Asker,
        name: &str,
        delete: bool,
        facts: &mut Vec<Fact>,
    ) -> Result<Verdict, Refusal> {
        let Some(id) = self.names.get(name) else {
            return Err(Refusal::NoSuchQueue(name.into()));
        };
        let target = self.transfers.values().any(|transfer| transfer.is_to(*id));
        if self.sweeps.contains_key(id) || self.transfers.contains_key(id) || target {
            return Err(Refusal::QueueBusy(name.into()));
        }
        let queue = &self.queues[id];
        let on_loan = !queue.on_loan.is_empty() || !queue.volatile_on_loan.is_empty();
        if delete && (queue.row.staged > 0 || queue.row.held > 0) {
            return Err(Refusal::QueueInTransactions(name.into()));
        }
        if delete && (!queue.consumers.is_empty() || on_loan) {
            return Err(Refusal::QueueInUse(name.into()));
        }
        facts.push(Fact::Memory(Change::Sweep { queue: *id, asker: Some(asker), delete }));
        Ok(Verdict::Later)
    }
}

/// What a message takes in the log beside what every message may.
pub(super) fn overhead_of(when: &When) -> u64 {
    if when.is_at_once() { 0 } else { limits::SCHEDULED_OVERHEAD_BYTES }
}

pub(super) fn check_name(name: &str) -> Result<(), Refusal> {
    let limit = limits::DESTINATION_NAME_BYTES_MAX;
    if name.is_empty() || name.len() > limit {
        return Err(Refusal::BadDestinationName { limit });
    }
    Ok(())
}

fn gone<'a>(loans: impl Iterator<Item = &'a Lent>) -> Vec<Gone> {
    loans
        .filter_map(|loan| match loan {
            Lent::Durable { place, entry, .. } => Some(Gone::of(*place, entry)),
            Lent::Volatile { .. } | Lent::Published { .. } => None,
        })
        .collect()
}

/// States that messages left a queue, in records of a bounded size.
pub(super) fn removed(queue: QueueId, cause: Cause, gone: Vec<Gone>, facts: &mut Vec<Fact>) {
    for part in gone.chunks(limits::RECORD_ENTRIES_MAX) {
        let record = Record::Removed { queue, cause, gone: part.to_vec() };
        facts.push(Fact::Log(record, Bytes::new()));
    }
}
