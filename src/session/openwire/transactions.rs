//! Local transactions, and the client's names for all of its transactions.
//!
//! An id means something on its own connection, from BEGIN to the outcome. What a client takes from
//! a consumer in a transaction is remembered until then: a rollback gives it back into the same
//! hands, and the client delivers it again by itself.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::OpenWireSession;
use super::answers::Asked;
use super::consumer::{ConsumerKey, Held, MessageKey};
use super::fault::Problem;
use super::said::Said;
use crate::broker::command::{Command, Disposition, Refusal, Reply};
use crate::ids::{SubscriptionId, Tag, TransactionName, Xid};
use crate::limits;
use crate::protocol::openwire::CommandHead;
use crate::protocol::openwire::message::Message;
use crate::protocol::openwire::table::{
    LocalTransactionId, TransactionId, TransactionVerb, XaTransactionId,
};

/// The transactions of a connection that have no outcome.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    pub(super) local: BTreeMap<i64, Work>,
    pub(super) branches: BTreeMap<Xid, Branch>,
    pub(super) last: u64,
    pub(super) said: Said,
    /// Those who wait to hear which branches there are: an answer may be long, and is made when the
    /// one before it has left.
    pub(super) recovers: VecDeque<CommandHead>,
    /// An answer to one of them is being made.
    pub(super) recovering: bool,
}

/// What is done in a transaction.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) name: TransactionName,
    /// Why it can only be rolled back, where the broker does not know that.
    pub(super) spoiled: Option<String>,
    /// The command that has begun it, where that may have been said before.
    pub(super) again: Option<i32>,
    /// What was taken from consumers.
    pub(super) taken: VecDeque<(ConsumerKey, i64, Held)>,
}

/// A branch that this connection works in, or has worked in.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) work: Work,
    /// Sessions of the connection that are associated with it: the wire does not say which begins
    /// or ends, and to the broker they are one association.
    pub(super) sessions: usize,
    /// It has voted.
    pub(super) prepared: bool,
}

impl Branch {
    /// An association has not ended.
    pub(super) fn is_associated(&self) -> bool {
        self.sessions > 0
    }
}

impl Work {
    pub(super) fn new(name: TransactionName) -> Self {
        Self { name, spoiled: None, again: None, taken: VecDeque::new() }
    }

    /// It can only be rolled back where something of it may be missing.
    pub(super) fn miss(&mut self, said: &Said) {
        if self.again.is_some_and(|since| !said.is_whole(since)) {
            let lost = "some of it was lost with the connection that it began on";
            self.spoiled.get_or_insert_with(|| lost.to_owned());
        }
    }

    /// It can only be rolled back, and may have been said before.
    pub(super) fn is_lost(&self) -> bool {
        self.spoiled.is_some() && self.again.is_some()
    }
}

impl Transactions {
    pub(super) fn next_name(&mut self) -> TransactionName {
        self.last += 1;
        TransactionName(self.last)
    }

    /// What is sent in that transaction can only be rolled back, and may have been sent before: if
    /// it was, and was committed, that stands. The broker is told of nothing new under its name.
    pub(super) fn is_in_vain(&self, id: &TransactionId) -> bool {
        self.work(id).is_some_and(Work::is_lost)
    }

    fn work(&self, id: &TransactionId) -> Option<&Work> {
        match id {
            TransactionId::Local(id) => self.local.get(&id.value),
            TransactionId::Xa(id) => {
                let branch = self.branches.get(&xid(id)?)?;
                branch.is_associated().then_some(&branch.work)
            }
        }
    }

    fn work_mut(&mut self, name: TransactionName) -> Option<&mut Work> {
        let branches = self.branches.values_mut().map(|branch| &mut branch.work);
        self.local.values_mut().chain(branches).find(|work| work.name == name)
    }

    /// The transaction that a message or an acknowledgement belongs to.
    pub(super) fn named(&self, id: &TransactionId) -> Result<TransactionName, Problem> {
        let found = self.work(id).map(|work| work.name);
        found.ok_or_else(|| match id {
            TransactionId::Local(id) => not_started(id),
            TransactionId::Xa(_) => Problem::xa(crate::broker::command::XaError::NotA),
        })
    }

    /// Remembers what a transaction has taken from a consumer.
    pub(super) fn note_taken(
        &mut self,
        name: TransactionName,
        key: &ConsumerKey,
        taken: Vec<(i64, Held)>,
    ) {
        if let Some(work) = self.work_mut(name) {
            let taken = taken.into_iter();
            work.taken.extend(taken.map(|(number, held)| (key.clone(), number, held)));
        }
    }
}

pub(super) fn not_started(id: &LocalTransactionId) -> Problem {
    let connection = id.connection_id.as_ref().and_then(|id| id.value.clone()).unwrap_or_default();
    Problem::jms(format!("Transaction 'TX:{connection}:{}' has not been started.", id.value))
}

pub(super) fn xid(id: &XaTransactionId) -> Option<Xid> {
    let part = |bytes: &Option<bytes::Bytes>| bytes.clone().unwrap_or_default();
    let (global, branch) = (part(&id.global_transaction_id), part(&id.branch_qualifier));
    Xid::new(id.format_id, &global, &branch).ok()
}

impl OpenWireSession {
    pub(super) fn local(
        &mut self,
        head: CommandHead,
        id: &LocalTransactionId,
        verb: TransactionVerb,
    ) {
        match verb {
            TransactionVerb::Begin => self.begin(head, id),
            TransactionVerb::CommitOnePhase | TransactionVerb::CommitTwoPhase => {
                self.transactions.said.is_new();
                self.commit(head, id);
            }
            TransactionVerb::Rollback => match self.transactions.local.remove(&id.value) {
                Some(work) => self.roll_back(Some(head), work),
                None => self.fail(head, &not_started(id)),
            },
            // Nothing is to be done before the outcome.
            TransactionVerb::End | TransactionVerb::Forget => self.done(head),
            TransactionVerb::Prepare | TransactionVerb::Recover => {
                self.fail(head, &Problem::jms("a local transaction is not prepared"));
            }
        }
    }

    fn begin(&mut self, head: CommandHead, id: &LocalTransactionId) {
        if self.transactions.local.contains_key(&id.value) {
            return self.done(head);
        }
        if self.transactions.local.len() >= limits::TRANSACTIONS_MAX {
            let limit = limits::TRANSACTIONS_MAX;
            return self.fail(head, &Problem::refused(&Refusal::TooManyTransactions { limit }));
        }
        let transaction = self.transactions.next_name();
        let again = self.transactions.said.is_again().then_some(head.command_id);
        self.transactions.said.began();
        self.transactions.local.insert(id.value, Work { again, ..Work::new(transaction) });
        let asked = head.response_required.then_some(Asked::Command(head));
        self.submit(asked, Command::Begin { transaction });
    }

    fn commit(&mut self, head: CommandHead, id: &LocalTransactionId) {
        let Transactions { local, said, .. } = &mut self.transactions;
        let Some(work) = local.get_mut(&id.value) else {
            return self.fail(head, &not_started(id));
        };
        work.miss(said);
        if let Some(because) = work.spoiled.clone() {
            let work = self.transactions.local.remove(&id.value).expect("just seen");
            // Whoever has come back in the midst of it is told as its own transport would.
            let problem = match work.again {
                Some(_) => Problem::rolled_back(&because),
                None => Problem::rollback_only(&because),
            };
            self.roll_back(None, work);
            return self.fail(head, &problem);
        }
        let transaction = work.name;
        let asked = Asked::Commit { head, transaction: id.value };
        self.submit(Some(asked), Command::Commit { transaction });
    }

    /// A commit is answered. One that was refused is over all the same: its client goes on with
    /// another, and delivers again what this one has taken.
    pub(super) fn committed(
        &mut self,
        head: CommandHead,
        transaction: i64,
        result: Result<Reply, Refusal>,
    ) {
        // It is not there where its client has gone meanwhile, or has asked for it twice.
        let work = self.transactions.local.remove(&transaction);
        match (result, work) {
            (Ok(_), _) => self.done(head),
            (Err(refusal), work) => {
                if let Some(work) = work {
                    self.roll_back(None, work);
                }
                self.fail(head, &Problem::refused(&refusal));
            }
        }
    }

    fn roll_back(&mut self, head: Option<CommandHead>, work: Work) {
        let (transaction, disposition) = (work.name, Disposition::Keep);
        self.give_back(work);
        let asked = head.filter(|head| head.response_required).map(Asked::Command);
        self.submit(asked, Command::Rollback { transaction, disposition });
    }

    /// What a transaction has taken is in the hands of its consumers again.
    pub(super) fn give_back(&mut self, work: Work) {
        for (key, number, held) in work.taken {
            if let Some(consumer) = self.consumers.get_mut(&key) {
                consumer.put(number, held);
            }
        }
    }

    /// A message comes to a consumer that has taken it in a branch: that was rolled back elsewhere,
    /// and its client delivers the message again by itself when it hears so, or has done so. It is
    /// in the hands of its consumer, and is not dispatched a second time. False where it was not
    /// taken so.
    pub(super) fn take_again(
        &mut self,
        key: &ConsumerKey,
        of: (SubscriptionId, Tag),
        message: &Message,
    ) -> bool {
        let Some(id) = message.head.message_id.as_ref().map(MessageKey::of) else { return false };
        let Some(consumer) = self.consumers.get_mut(key) else { return false };
        if consumer.confirm(&id, of) {
            return true;
        }
        let Transactions { local, branches, .. } = &mut self.transactions;
        // In another transaction it was doubted already, and so that can only be rolled back.
        let local = local.values_mut().map(|work| (true, work));
        let branches = branches.values_mut().map(|branch| (false, &mut branch.work));
        let found = local.chain(branches).find_map(|(doubtful, work)| {
            let is_it = |(consumer, _, held): &(ConsumerKey, i64, Held)| {
                consumer == key && held.is_of(&id, of.0) && (held.doubtful || !doubtful)
            };
            let place = work.taken.iter().position(is_it)?;
            work.taken.remove(place)
        });
        let Some((_, number, held)) = found else { return false };
        consumer.put(number, Held { delivery: Some(of), doubtful: false, ..held });
        consumer.singly = true;
        true
    }

    /// A part of a transaction was refused here: what is left of it must not be committed.
    pub(super) fn spoil(&mut self, id: Option<&TransactionId>, because: &Problem) {
        let local = &mut self.transactions.local;
        let work = match id {
            None => None,
            Some(TransactionId::Local(id)) => local.get_mut(&id.value),
            Some(TransactionId::Xa(id)) => {
                return xid(id).map_or((), |xid| self.spoil_branch(&xid, because.message()));
            }
        };
        if let Some(work) = work {
            work.spoiled.get_or_insert_with(|| because.message().to_owned());
        }
    }

    /// The same of a branch. Where nobody of this connection is in it, nobody ends its part: the
    /// broker is told at once, for others may be in it, and vote.
    pub(super) fn spoil_branch(&mut self, xid: &Xid, because: &str) {
        if let Some(branch) = self.transactions.branches.get_mut(xid) {
            let known = branch.work.spoiled.is_some();
            branch.work.spoiled.get_or_insert_with(|| because.to_owned());
            if known || branch.prepared || branch.is_associated() {
                return;
            }
        }
        self.doom(Arc::new(xid.clone()));
    }

    /// The client goes: what has no outcome has none of it happen.
    pub(super) fn abandon_transactions(&mut self) {
        for (_, work) in std::mem::take(&mut self.transactions.local) {
            let (transaction, disposition) = (work.name, Disposition::Return);
            self.submit(None, Command::Rollback { transaction, disposition });
        }
        self.abandon_branches();
    }
}
