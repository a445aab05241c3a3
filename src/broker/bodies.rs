//! Large bodies of what was published: several queues hold one, and those who only listen read it.
//!
//! A publication enters every queue that keeps it as an entry of its own, and all of these name the
//! one upload in which its body lies. Always: how many do is a number in the durable state, and an
//! upload that none of them names any more is *spare*. While somebody listens to it, it stays, for
//! as long as the broker runs; then it is given up like one that was never finished. So a few bytes
//! of memory are kept for each such body that is there, and its pieces in the log. Leaves to
//! others: the pieces (`upload`), and the payloads that lie in the log as a whole (`shares`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::broker::Broker;
use crate::broker::delta::{Entry, UploadRow};
use crate::broker::durable::Durable;
use crate::broker::fact::Volatile;
use crate::broker::held::Role;
use crate::ids::{Body, QueueId, UploadId};
use crate::mutant::{self, Mutant};
use crate::record::Gone;

/// Bodies of publications in the durable state.
#[derive(Debug, Default)]
pub(crate) struct Bodies {
    /// How many entries name each.
    holders: BTreeMap<UploadId, u64>,
    /// Those of these that none does.
    spare: BTreeSet<UploadId>,
}

impl Bodies {
    /// One that is in the index.
    pub(super) fn learn(&mut self, upload: UploadId, holders: u64) {
        self.holders.insert(upload, holders);
        if holders == 0 {
            self.spare.insert(upload);
        } else {
            self.spare.remove(&upload);
        }
    }

    pub(super) fn is_spare(&self, upload: UploadId) -> bool {
        self.spare.contains(&upload)
    }

    /// It is given up.
    pub(super) fn forget(&mut self, upload: UploadId) {
        self.holders.remove(&upload);
        self.spare.remove(&upload);
    }
}

impl Durable {
    /// An entry names it no longer.
    fn leave_body(&mut self, upload: UploadId) {
        if mutant::is(Mutant::EndSharedBody) {
            return self.kill(upload);
        }
        let holders = self.bodies.holders.get(&upload).copied().unwrap_or(1);
        self.set_holders(upload, holders.saturating_sub(1));
    }

    fn set_holders(&mut self, upload: UploadId, holders: u64) {
        self.bodies.learn(upload, holders);
        self.delta.uploads.insert(upload, Some(UploadRow::Shared { holders }));
    }
}

impl Gone {
    /// Whether this is its body, and no other's.
    pub(super) fn owns(&self, body: Option<Body>) -> bool {
        !self.shared && self.upload == body
    }
}

/// Who reads bodies without holding them in a queue.
#[derive(Debug, Default)]
pub(crate) struct Listening {
    /// By how many each is to be read yet.
    readers: BTreeMap<UploadId, usize>,
    /// Those that may be spare and unread.
    left: VecDeque<UploadId>,
}

impl Listening {
    /// What an earlier life has left: nobody listens to that any more.
    pub(super) fn after(bodies: &Bodies) -> Self {
        Self { left: bodies.spare.iter().copied().collect(), ..Self::default() }
    }
}

/// What apply does.
impl Broker {
    /// A publication has gone to so many queues.
    pub(super) fn spread_body(&mut self, entry: &Entry, targets: usize) {
        let Some(upload) = entry.upload.map(Body::upload) else { return };
        self.durable.set_holders(upload, targets as u64);
        self.may_be_left(upload);
    }

    /// A message leaves a line as it is, and not for who keeps it: who listens may have its body.
    pub(super) fn moved_out(&mut self, from: QueueId, entry: Entry) -> Entry {
        let large = entry.upload.filter(|_| !entry.shared);
        let Some(body) = large.filter(|_| self.queues[&from].role == Role::Line) else {
            return entry;
        };
        self.durable.share(entry.birth, entry.size, 1);
        self.durable.set_holders(body.upload(), 1);
        Entry { shared: true, ..entry }
    }

    /// A message is gone from a queue for good, where others may have its body or not.
    pub(super) fn body_gone(&mut self, queue: QueueId, shared: bool, upload: UploadId) {
        if shared {
            self.durable.leave_body(upload);
        } else if self.queues[&queue].role == Role::Line {
            // As one that has left it for nobody.
            self.durable.set_holders(upload, 0);
        } else {
            self.durable.kill(upload);
        }
        self.may_be_left(upload);
    }

    fn may_be_left(&mut self, upload: UploadId) {
        if self.durable.bodies.is_spare(upload) {
            self.listening.left.push_back(upload);
        }
    }

    /// Somebody has a message in memory, or is to have it.
    pub(super) fn hold(&mut self, message: &Volatile) {
        self.volatile_bytes += message.charge();
        if let Some(body) = message.body {
            *self.listening.readers.entry(body.upload()).or_default() += 1;
        }
    }

    /// Somebody has it no longer.
    pub(super) fn let_go(&mut self, message: &Volatile) {
        self.volatile_bytes -= message.charge();
        let Some(upload) = message.body.map(Body::upload) else { return };
        let readers = self.listening.readers.get_mut(&upload).expect("it was held");
        *readers -= 1;
        if *readers == 0 {
            self.listening.readers.remove(&upload);
            self.listening.left.push_back(upload);
        }
    }
}

/// What follows by itself.
impl Broker {
    /// Whether bodies may be given up.
    pub(super) fn has_left_bodies(&self) -> bool {
        !self.listening.left.is_empty()
    }

    /// Bodies that nobody has any more, so many at most; some of the next ones may be in use.
    pub(super) fn left_bodies(&mut self, most: usize) -> Vec<UploadId> {
        let count = self.listening.left.len().min(most);
        let left: BTreeSet<_> = self.listening.left.drain(..count).collect();
        let read = |upload: &UploadId| self.listening.readers.contains_key(upload);
        let unread = |upload: &UploadId| !read(upload) || mutant::is(Mutant::ForgetListeners);
        let spare = |upload: &UploadId| self.durable.bodies.is_spare(*upload);
        left.into_iter().filter(|upload| spare(upload) && unread(upload)).collect()
    }

    /// Bodies of publications: by how many entries each is named; for checks.
    #[cfg(test)]
    pub(crate) fn bodies(&self) -> &BTreeMap<UploadId, u64> {
        &self.durable.bodies.holders
    }
}
