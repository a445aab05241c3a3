//! `apply`: makes facts true. Nothing else changes the broker's state.
//!
//! A record is applied alike in recovery and in live work, and checked against the state first:
//! one that does not fit is a damaged log or a defect, and is refused by name, not guessed at.

use std::sync::Arc;

use crate::broker::command::{Outcome, Which};
use crate::broker::consumer::{Consumer, Ended};
use crate::broker::delta::{Entry, Place, QueueRow};
use crate::broker::fact::{
    Assignment, Change, ConsumerKey, Effect, Lent, Source, Spot, Volatile, VolatilePlace,
};
use crate::broker::held::Role;
use crate::broker::queue::Queue;
use crate::broker::selecting::{GroupId, Waiting};
use crate::broker::{Broker, Effects, Misfit, Written};
use crate::ids::{Body, Millis, QueueId, Tag};
use crate::limits;
use crate::mutant::{self, Mutant};
use crate::record::{Gone, Record};
use crate::selector::Selector;

impl Broker {
    /// Makes a durable fact true. `written` is where the log has it.
    ///
    /// # Errors
    /// Where the record does not fit the state. Then nothing has changed.
    pub fn apply_record(&mut self, written: Written, record: &Record) -> Result<(), Misfit> {
        self.fit(record).map_err(|reason| Misfit {
            lsn: written.lsn,
            record: Box::new(record.clone()),
            reason,
        })?;
        match record {
            Record::Started { epoch, at } => {
                self.durable.life_began = written.lsn;
                self.apply_started(*epoch, *at);
            }
            Record::Restored { at } => self.apply_restored(written, *at),
            Record::QueueCreated { queue, name, at } => self.apply_created(*queue, name, *at),
            Record::QueueDeleted { queue } => self.apply_deleted(*queue),
            Record::Sent { queue, place, at, expires, lent, upload, once } => {
                if let Some(upload) = upload {
                    self.durable.adopt(upload.upload());
                }
                let entry = Entry::born(written, *at, *expires, *upload);
                self.apply_birth(*queue, *place, entry);
                self.apply_sent_once(written, *queue, *once, *at, None);
                if *lent {
                    self.changing(*queue).mark_lent(place.rank, place.seq);
                }
                self.count(*queue, |c| c.sent += 1);
            }
            Record::Lent { queue, rank, through } => {
                self.changing(*queue).mark_lent(*rank, *through);
            }
            Record::Returned { queue, entries } => self.apply_returned(*queue, entries),
            Record::PutOff { queue, until, entries } => {
                self.apply_put_off(*queue, *until, entries);
            }
            Record::Woken { queue, entries } => self.apply_woken(*queue, entries),
            Record::Scheduled { .. } | Record::Fired { .. } => self.apply_schedule(written, record),
            Record::Occurred(occurred) => self.apply_occurred(written, occurred),
            Record::DeadLettered { from, to, first, note, why, entries } => {
                self.apply_dead((*from, *to), *first, (*note, *why), entries);
            }
            Record::Removed { queue, gone, cause } => {
                gone.iter().for_each(|gone| self.apply_gone(*queue, gone));
                self.count(*queue, |c| c.gone(*cause, gone.len() as u64));
            }
            Record::Moved { from, gone, to, place, at, upload } => {
                let entry = Entry::born(written, *at, None, *upload);
                self.apply_moved((*from, gone), (*to, *place, entry));
            }
            Record::Transferred { from, to, first, entries } => {
                self.apply_transferred(*from, *to, *first, entries);
            }
            Record::Piece { upload, number, bytes } => {
                self.durable.piece_born(*upload, *number, *bytes, written);
            }
            Record::Abandoned { uploads } => {
                uploads.iter().for_each(|upload| self.durable.kill(*upload));
            }
            Record::PiecesGone { upload, first, gone, last } => {
                self.durable.pieces_gone(*upload, *first, gone, *last);
            }
            Record::Branch(record) => self.apply_branch(written, record),
            Record::Named(named) => self.apply_named(written, named),
            Record::Forgotten(it) => self.durable.forget_names(it.scope, it.through),
            Record::Producers(record) => self.apply_producers(record),
            Record::Published(published) => self.apply_publication(written, published),
            Record::Spread(spread) => self.apply_spread(spread),
            _ => self.apply_transacted(written, record),
        }
        Ok(())
    }

    fn apply_created(&mut self, queue: QueueId, name: &str, at: Millis) {
        self.durable.scalars.last_queue = queue.0;
        self.saw(at);
        let rules = self.policies.redelivery_of(name);
        let mut known = Box::new(Queue::new(queue, QueueRow::new(Arc::from(name)), rules));
        known.limit = self.policies.of_queue(name);
        self.names.insert(Arc::clone(&known.row.name), queue);
        self.sorted.insert(Arc::clone(&known.row.name));
        let families = self.families_of(name);
        if !families.is_empty() {
            *known.families_mut() = families;
        }
        self.queues.insert(queue, known);
        self.learn_queue(queue, name);
        self.changing(queue);
    }

    fn apply_returned(&mut self, queue: QueueId, entries: &[(Place, Entry)]) {
        self.count(queue, |c| c.returned += entries.len() as u64);
        for (place, entry) in entries {
            self.apply_changed(queue, *place, *entry);
        }
    }

    fn apply_deleted(&mut self, id: QueueId) {
        self.free(id);
        self.stir_families_of(id);
        let queue = self.queues.remove(&id).expect("fits");
        self.resident -= queue.resident_len();
        self.names.remove(&*queue.row.name);
        self.held.gone(id, &queue.role);
        self.sorted.remove(&*queue.row.name);
        self.durable.queue_gone(queue.id, &queue.row);
        self.durable.forget_scope(queue.id);
    }

    fn apply_moved(&mut self, (from, gone): (QueueId, &Gone), to: (QueueId, Place, Entry)) {
        let (to, place, entry) = to;
        // A body that goes along is not left behind.
        self.apply_left(from, gone, gone.upload.filter(|_| entry.upload.is_none()));
        self.apply_birth(to, place, entry);
        self.count(from, |c| c.moved_out += 1);
        self.count(to, |c| c.moved_in += 1);
    }

    /// Whether a record fits the state, judged by durable facts that are always in memory.
    fn fit(&self, record: &Record) -> Result<(), &'static str> {
        let depth = |queue: &QueueId, gone: usize| {
            let known = self.queues.get(queue).ok_or("no such queue")?;
            let enough = known.row.depth >= gone as u64;
            if enough { Ok(()) } else { Err("more messages gone than there are") }
        };
        let bytes = |queue: &QueueId, gone: u64| {
            let enough = self.queues.get(queue).is_some_and(|known| known.row.bytes >= gone);
            if enough { Ok(()) } else { Err("more bytes gone than there are") }
        };
        let next = |queue: &QueueId, seq: u64| {
            let known = self.queues.get(queue).ok_or("no such queue")?;
            let next = known.row.last_seq + 1 == seq;
            if next { Ok(()) } else { Err("its sequence number is not the next") }
        };
        match record {
            Record::Started { epoch, .. } if *epoch > self.durable.scalars.epoch => Ok(()),
            Record::Started { .. } => Err("its epoch is not newer than the last"),
            Record::Restored { .. } => Ok(()),
            Record::QueueCreated { queue, name, .. } => {
                if queue.0 != self.durable.scalars.last_queue + 1 {
                    return Err("its id is not the next");
                }
                if self.names.contains_key(&**name) { Err("the name is taken") } else { Ok(()) }
            }
            Record::QueueDeleted { queue } => match self.queues.get(queue) {
                Some(known) if known.row.staged > 0 => Err("transactions have sent to it"),
                Some(known) if known.row.depth == 0 => Ok(()),
                Some(_) => Err("the queue is not empty"),
                None => Err("no such queue"),
            },
            Record::Sent { queue, place, upload, once, .. } => next(queue, place.seq)
                .and(self.durable.fit_sent(*upload))
                .and(self.fit_mark(*queue, *once)),
            Record::Lent { queue, .. } => depth(queue, 0),
            Record::Returned { queue, entries } => depth(queue, entries.len()),
            Record::PutOff { queue, entries, .. } | Record::Woken { queue, entries } => {
                depth(queue, entries.len())
            }
            Record::Removed { queue, gone, .. } => {
                let size = gone.iter().map(Gone::charge).sum();
                depth(queue, gone.len()).and_then(|()| bytes(queue, size))
            }
            Record::Moved { gone, upload, .. } if upload.is_some() && !gone.owns(*upload) => {
                Err("the upload that goes along is not that of the message alone")
            }
            Record::Moved { from, gone, to, place, .. } => {
                depth(from, 1).and_then(|()| bytes(from, gone.charge())).and(next(to, place.seq))
            }
            Record::DeadLettered { from, to, first, note, why, entries } => {
                self.fit_moved(*from, *to, *first, entries)?;
                self.durable.fit_note(*note, &self.queues[from].row.name, *why)
            }
            Record::Transferred { from, to, first, entries } => {
                self.fit_moved(*from, *to, *first, entries)
            }
            Record::Scheduled { .. } | Record::Fired { .. } => self.fit_schedule(record),
            Record::Occurred(occurred) => self.fit_occurred(occurred),
            Record::Piece { upload, number, .. } => self.durable.fit_piece(*upload, *number),
            Record::Abandoned { uploads } => self.durable.fit_abandoned(uploads),
            Record::PiecesGone { upload, first, .. } => self.durable.fit_gone(*upload, *first),
            Record::Branch(record) => self.fit_branch(record),
            Record::Named(named) => self.durable.fit_named(named),
            Record::Published(published) => self.fit_published(published),
            Record::Spread(spread) => self.fit_spread(spread),
            Record::Forgotten(_) | Record::Producers(_) => Ok(()),
            _ => self.fit_transacted(record),
        }
    }

    fn fit_moved(
        &self,
        from: QueueId,
        to: QueueId,
        first: u64,
        entries: &[(Place, Entry)],
    ) -> Result<(), &'static str> {
        let row = |id| self.queues.get(&id).map(|queue| &queue.row).ok_or("no such queue");
        let (source, target) = (row(from)?, row(to)?);
        let size: u64 = entries.iter().map(|(_, entry)| entry.charge()).sum();
        match () {
            () if from == to => Err("a queue is not another"),
            () if source.depth < entries.len() as u64 => Err("more messages gone than there are"),
            () if source.bytes < size => Err("more bytes gone than there are"),
            () if target.last_seq + 1 != first => Err("its sequence number is not the next"),
            () => Ok(()),
        }
    }

    fn apply_started(&mut self, epoch: u64, at: Millis) {
        self.durable.scalars.epoch = epoch;
        // After all that earlier lives have said, whatever the clock says.
        let began = at.max(Millis(self.durable.scalars.last_at.saturating_add(1)));
        self.saw(began);
        self.durable.scalars.life_at = began.0;
        self.durable.kill_open();
        self.durable.roll_back_open();
        self.durable.forget_all_names();
        for (id, queue) in self.queues.iter_mut() {
            queue.groups.unknown = queue.row.depth > 0 || queue.row.staged > 0;
            let news = queue.row.redelivered_through != queue.row.lent_through;
            if news && !mutant::is(Mutant::ForgetLent) {
                self.durable.change(id, &queue.row, &mut queue.changed);
                queue.row.redelivered_through = queue.row.lent_through.clone();
            }
        }
        self.count_anew();
    }

    /// A queue whose row is about to change. Every change of a row goes through here: a
    /// checkpoint that has begun keeps the row as it was.
    pub(super) fn changing(&mut self, id: QueueId) -> &mut Queue {
        let queue = self.queues.get_mut(&id).expect("checked when the fact was stated");
        self.durable.change(id, &queue.row, &mut queue.changed);
        queue
    }

    /// What is in the store may have been delivered by the one it is a copy of: the next life
    /// flags it all.
    fn apply_restored(&mut self, written: Written, at: Millis) {
        self.saw(at);
        self.durable.scalars.restored = written.lsn.0;
        self.durable.scalars.restored_at = at.0;
        for (id, queue) in self.queues.iter_mut() {
            if !mutant::is(Mutant::ForgetRestored) {
                self.durable.change(id, &queue.row, &mut queue.changed);
                queue.row.lent_through = [queue.row.last_seq; 10].into();
                queue.row.restored_through = queue.row.last_seq;
            }
        }
    }

    /// Something may be handed out from a queue.
    pub(super) fn stir(&mut self, id: QueueId) {
        if let Some(queue) = self.queues.get_mut(&id)
            && !std::mem::replace(&mut queue.restless, true)
        {
            self.restless.push_back(id);
        }
    }

    pub(super) fn saw(&mut self, at: Millis) {
        let last = &mut self.durable.scalars.last_at;
        *last = (*last).max(at.0);
    }

    pub(super) fn queue(&mut self, id: QueueId) -> &mut Queue {
        self.queues.get_mut(&id).expect("checked when the fact was stated")
    }

    pub(super) fn apply_birth(&mut self, id: QueueId, place: Place, entry: Entry) {
        self.saw(entry.at);
        self.durable.born(&entry);
        self.durable.put(id, place, entry);
        self.arrive(id, place, entry);
    }

    /// A durable message is in a queue from now on, behind all others of its rank.
    pub(super) fn arrive(&mut self, id: QueueId, place: Place, entry: Entry) {
        let max = self.window_max();
        let queue = self.queues.get_mut(&id).expect("fits");
        let max = if queue.is_left_alone(&entry) { max.min(limits::LONE_WINDOW) } else { max };
        self.durable.change(id, &queue.row, &mut queue.changed);
        queue.row.last_seq = place.seq;
        queue.row.depth += 1;
        queue.row.bytes += entry.charge();
        queue.row.expiring |= entry.expires.is_some();
        let before = queue.resident_len();
        queue.admit(place, entry, max, &mut self.expiries);
        self.resident = self.resident + queue.resident_len() - before;
        if let Some(selecting) = &mut queue.selecting {
            selecting.arrived(place.rank);
        }
        if queue.is_awaited() {
            self.stir(id);
        } else if queue.role == Role::Line {
            self.held.spreading.wake(id);
            self.came_into_line(id, place.seq);
        }
    }

    pub(super) fn apply_gone(&mut self, id: QueueId, gone: &Gone) {
        self.apply_left(id, gone, gone.upload);
    }

    /// A message is gone from a queue, and so is this body.
    fn apply_left(&mut self, id: QueueId, gone: &Gone, body: Option<Body>) {
        self.undelay(id, gone.place, gone.due);
        if let Some(note) = gone.note {
            self.durable.unrefer(note);
        }
        self.durable.gone(id, gone);
        if let Some(body) = body.filter(|_| !mutant::is(Mutant::ForgetPieces)) {
            self.body_gone(id, gone.shared, body.upload());
        }
        let queue = self.queues.get_mut(&id).expect("fits");
        self.durable.change(id, &queue.row, &mut queue.changed);
        queue.row.depth -= 1;
        queue.row.bytes -= gone.charge();
        queue.row.settle_hint();
        let waited = queue.release(gone.place, &mut self.expiries);
        self.resident -= usize::from(waited.is_some());
        self.knows_less(id);
        self.free(id);
    }

    /// A message is gone of those that are looked at for their groups: there may be room for more.
    pub(super) fn knows_less(&mut self, id: QueueId) {
        let selecting = self.queues.get(&id).and_then(|queue| queue.selecting.as_ref());
        if selecting.is_some_and(|selecting| selecting.plain().is_some()) {
            self.stir(id);
        }
    }

    /// Makes a fact true that lives as long as the process.
    pub fn apply_change(&mut self, change: Change, effects: &mut Effects) {
        match change {
            Change::Subscribe { key, source, prefetch, selector } => {
                self.apply_subscribe(key, source, prefetch, selector);
            }
            Change::Unlearn => self.apply_unlearnt(),
            Change::HasGroups { queue } => self.queue(queue).groups.seen = true,
            Change::Stand { key, standing } => self.apply_stand(key, standing),
            Change::Credit { key, prefetch } => self.apply_credit(key, prefetch, effects),
            Change::Unsubscribe { key, unsent_from } => self.apply_end(key, unsent_from),
            Change::Enqueue { queue, rank, message } => self.apply_enqueue(queue, rank, message),
            Change::Publish { topic, message, from, .. } => {
                self.apply_publish(&topic, message, from, effects);
            }
            Change::PublishOn { topic } => self.apply_publish_on(&topic, effects),
            Change::Lend { queue, spot, key } => self.apply_lend(queue, spot, key, effects),
            Change::Settle { key, which, outcome, .. } => {
                self.apply_settle(key, which, outcome, effects);
            }
            Change::TakeBack { key, count } => self.apply_take_back(key, count),
            Change::Forfeit { key, tag } => self.apply_forfeit(key, tag, effects),
            Change::StageBegin { key } => self.stages.begin(key),
            Change::StageUpload { key, upload } => self.stages.upload(key, upload),
            Change::StageEnd { key } => self.stages.end(key),
            Change::StageAbandon { key } => self.stages.abandon(key),
            Change::Drop { queue, cause, places } => {
                self.count(queue, |c| c.gone(cause, places.len() as u64));
                self.apply_drop(queue, places);
            }
            Change::Oust { queue, places } => {
                self.dropped.from_queues += places.len() as u64;
                self.apply_drop(queue, places);
            }
            Change::Sweep { queue, asker, delete } => self.apply_sweep(queue, asker, delete),
            Change::SweepTo { queue, cursor, removed } => {
                self.apply_sweep_to(queue, cursor, removed, effects);
            }
            it @ (Change::Identified { .. } | Change::Forsake { .. }) => self.apply_held(it),
            Change::Want(wish) => self.want(wish, effects),
            Change::Select(request) => effects.push(Effect::Select(request)),
            Change::Notice(notices) => self.apply_notices(notices, effects),
            Change::Tell { asker: to, result } => effects.push(Effect::Answer { to, result }),
            Change::Transfer(transfer) => self.apply_transfer(transfer, effects),
            Change::TransferTo { from, carried, moved, rest } => {
                self.apply_transfer_to(from, carried, moved, rest, effects);
            }
            Change::TransferOver { from } => drop(self.transfers.remove(&from)),
            Change::ScanTo(scanned) => self.apply_scan_to(scanned, effects),
            Change::Unit(key, change) => self.apply_unit(key, change, effects),
            Change::Branch(xid, change) => self.apply_branch_change(&xid, change, effects),
            Change::Recall(request) => self.apply_recall(request, effects),
            Change::Repeated => self.counts.repeated += 1,
            Change::Speaks { connection, producer } => self.apply_speaks(connection, producer),
            Change::Part { connection, closed } => self.apply_part(connection, closed),
            Change::EndProducers { producers, at } => self.apply_ended(&producers, at),
            Change::Rest { queue, places } => self.apply_rest(queue, places),
            Change::Rested { queue, places } => self.apply_rested(queue, places),
            Change::EndOn { number } => self.apply_end_on(number, effects),
            Change::EndSettled { transaction } => self.apply_end_settled(transaction, effects),
            Change::Relend { key, tag, queue, place, entry } => {
                self.apply_relend(key, tag, queue, (place, entry));
            }
        }
    }

    fn apply_enqueue(&mut self, queue: QueueId, rank: u8, message: Volatile) {
        self.last_volatile += 1;
        self.volatile_bytes += message.charge();
        self.count(queue, |c| c.sent += 1);
        let (number, known) = (self.last_volatile, self.queue(queue));
        known.volatile_bytes += message.charge();
        let before = known.row.last_seq + 1;
        self.enqueue(queue, VolatilePlace { rank, before, number }, message, 0);
    }

    fn apply_drop(&mut self, id: QueueId, places: Vec<VolatilePlace>) {
        let queue = self.queues.get_mut(&id).expect("stated of a queue");
        for place in places {
            if let Some((message, _)) = queue.dequeue(place, &mut self.expiries) {
                self.volatile_bytes -= message.charge();
                queue.volatile_bytes -= message.charge();
            }
        }
        self.knows_less(id);
        self.free(id);
    }

    pub(super) fn enqueue(
        &mut self,
        id: QueueId,
        place: VolatilePlace,
        message: Volatile,
        returns: u32,
    ) {
        let queue = self.queues.get_mut(&id).expect("stated of a queue");
        queue.enqueue(place, message, returns, &mut self.expiries);
        if let Some(selecting) = &mut queue.selecting {
            selecting.arrived(place.rank);
        }
        if queue.is_awaited() {
            self.stir(id);
        }
    }

    fn apply_subscribe(
        &mut self,
        key: ConsumerKey,
        source: Source,
        prefetch: u32,
        selector: Option<Arc<Selector>>,
    ) {
        let (mut seat, mut group) = (0, None);
        match &source {
            Source::Queue(queue) => {
                self.last_group += u64::from(selector.is_some());
                let new = GroupId(self.last_group);
                let queue = self.queue(*queue);
                queue.consumers.insert(key);
                let selecting = &mut queue.selecting;
                let join = |it: &_| selecting.get_or_insert_default().join(it, new);
                group = selector.as_ref().map(join);
            }
            Source::Topic(topic) => seat = self.join_topic(topic, key),
            Source::Pattern(name) => self.join_family(name, key),
        }
        let consumer = Consumer::new(source, prefetch, seat, selector, group);
        self.consumers.insert(key, consumer);
        self.connections.entry(key.0).or_default().insert(key);
        self.stand_in_line(key);
    }

    fn apply_end(&mut self, key: ConsumerKey, unsent_from: Option<Tag>) {
        let consumer = self.consumers.get_mut(&key).expect("stated of a living one");
        consumer.ended = Some(Ended { unsent_from });
        consumer.in_line = false;
        let (seat, weighed, group) = (consumer.seat, consumer.weighed.take(), consumer.group);
        match consumer.source.clone() {
            Source::Queue(id) => {
                let queue = self.queue(id);
                queue.consumers.remove(&key);
                match (group, &mut queue.selecting) {
                    (Some(group), Some(selecting)) => {
                        let over = selecting.leave(group, key);
                        let over = if over { queue.selecting.take() } else { None };
                        self.groups.discard(over);
                    }
                    _ => self.give_up_queue(id, key),
                }
                let over = self.queue(id).rest();
                self.discard(id, over);
            }
            Source::Topic(topic) => self.leave_topic(&topic, seat, weighed),
            Source::Pattern(name) => self.leave_family(&name, key),
        }
        let of_connection = self.connections.get_mut(&key.0).expect("it had this one");
        of_connection.remove(&key);
        if of_connection.is_empty() {
            self.connections.remove(&key.0);
        }
        self.waits_no_more(key);
        self.ended.push_back(key);
    }

    fn apply_lend(&mut self, id: QueueId, spot: Spot, key: ConsumerKey, effects: &mut Effects) {
        let group = self.consumers[&key].group;
        let queue = self.queues.get_mut(&id).expect("stated of a queue");
        let plain = queue.selecting.as_ref().filter(|_| group.is_none());
        let member = plain.and_then(|selecting| selecting.member(spot));
        let group = group.or_else(|| plain?.plain());
        // What a selector has found may lie beyond the window.
        let selecting = queue.selecting.as_ref().zip(group);
        let candidate = selecting.and_then(|(selecting, group)| selecting.candidate(group, spot));
        let (message, returns, before) = match spot {
            Spot::Durable(place) => {
                let waited = queue.release(place, &mut self.expiries);
                self.resident -= usize::from(waited.is_some());
                let known = candidate.and_then(Waiting::entry);
                debug_assert!(known.is_none() || waited.is_none() || known == waited);
                let entry = waited.or(known).expect("it waits");
                queue.on_loan.insert(place);
                let before = queue.lent_before(place);
                (Lent::Durable { queue: id, place, entry }, entry.returns, before)
            }
            Spot::Volatile(place) => {
                let (message, returns) =
                    queue.dequeue(place, &mut self.expiries).expect("it waits");
                (Lent::Volatile { queue: id, place, message, returns }, returns, false)
            }
        };
        let lent = queue.selecting.as_mut().zip(group);
        let unseen = queue.groups.unknown;
        let first_of_group =
            lent.map_or(unseen, |(it, group)| it.lent_to(key, group, spot, member));
        let redelivered = before || returns > 0;
        let (source, topic, origin) = queue.told_as(&message);
        let dead = match &message {
            Lent::Durable { entry, .. } if entry.note.is_some() => {
                let name = Arc::clone(&queue.row.name);
                self.dead_letter(&name, entry)
            }
            _ => None,
        };
        let queue = self.queues.get_mut(&id).expect("just seen");
        let consumer = self.consumers.get_mut(&key).expect("it stands in line");
        let tag = consumer.lend(message.clone());
        self.loans.lent_to(key.0);
        if let Lent::Volatile { place, .. } = message {
            queue.volatile_on_loan.insert(place, (key, tag));
        }
        for counters in [&mut queue.counters, &mut self.totals] {
            counters.delivered += 1;
            counters.redelivered += u64::from(redelivered);
        }
        consumer.in_line = consumer.credit() > 0;
        let again = consumer.in_line;
        self.has_had_its_turn(id, key, again);
        if first_of_group {
            self.owns_group(id, key);
        }
        effects.push(Effect::Deliver(Assignment {
            key,
            tag,
            source,
            topic,
            message,
            origin,
            redelivered,
            first_of_group,
            dead,
            // A consumer of JMS expects a second attempt at least when the mark is set.
            attempt: (returns + 1).max(1 + u32::from(redelivered)),
        }));
    }

    fn apply_settle(
        &mut self,
        key: ConsumerKey,
        which: Which,
        outcome: Outcome,
        effects: &mut Effects,
    ) {
        let consumer = self.consumers.get_mut(&key).expect("stated of a living one");
        let tags = consumer.named(which, usize::MAX).expect("stated of outstanding ones");
        let source = consumer.source_of(tags[0]);
        let loans: Vec<_> =
            tags.iter().map(|tag| consumer.loans.remove(tag).expect("named")).collect();
        let count = loans.len();
        for loan in &loans {
            if let Lent::Published { message, .. } = loan {
                consumer.loses(message);
            }
        }
        for loan in loans {
            match outcome {
                Outcome::Accepted => {
                    if let (Source::Queue(id), Lent::Volatile { .. }) = (&source, &loan) {
                        self.count(*id, |c| c.acknowledged += 1);
                    }
                    self.end_loan(&source, &loan);
                }
                Outcome::Expired if !matches!(loan, Lent::Durable { .. }) => {
                    self.end_expired(&source, &loan);
                }
                _ => self.take_back(&source, loan, true),
            }
        }
        self.loans_over(key, &source, count);
        match source {
            Source::Queue(_) | Source::Pattern(_) => self.stand_in_line(key),
            Source::Topic(_) => self.serve_subscriber(key, effects),
        }
    }
}
