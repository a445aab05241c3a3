//! Records of branches of global transactions, and their bytes.
//!
//! | kind | what | bytes |
//! |---|---|---|
//! | 54 | `Kept` | transaction, number, queue u64, rank u8, at, expires u64, returns u32, then D |
//! | 55 | `Prepared` | transaction u64, at u64, xid, then the client in UTF-8 |
//! | 56 | `Completed` | transaction u64 (0: none), outcome u8, operator u8 (0, 1), at u64, xid |
//! | 57 | `Forgotten` | xid |
//! | 58 | `OutcomesForgotten` | through u64 |
//! | 59 | `Begun` | xid |
//!
//! D is returned u8 (0, 1), connection u64, subscription u64, tag u64; the payload is the message.
//! An xid is format i32, length u8 and bytes of the global transaction, length u8 and bytes of the
//! branch. Outcomes have the codes of resolutions in `transacted`.

use super::{Reader, Record, Writer};
use crate::broker::delta::{Holder, Resolution};
use crate::ids::{ConnectionId, Millis, QueueId, SubscriptionId, Tag, TransactionId, Xid};

pub(super) const KEPT: u16 = 54;
pub(super) const PREPARED: u16 = 55;
pub(super) const COMPLETED: u16 = 56;
pub(super) const FORGOTTEN: u16 = 57;
pub(super) const OUTCOMES_FORGOTTEN: u16 = 58;
pub(super) const BEGUN: u16 = 59;

/// A durable fact about a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BranchRecord {
    /// A non-persistent message was settled in a branch that is being prepared.
    Kept(Kept),
    /// A branch has voted: only its outcome ends it from now on. One without operations begins its
    /// transaction so.
    Prepared {
        /// Its transaction.
        transaction: TransactionId,
        /// When.
        at: Millis,
        /// Its name.
        xid: Xid,
        /// Who began it, in words for operators.
        client: Box<str>,
    },
    /// A branch has its outcome, which is remembered; its operations get it by `Settled`.
    Completed {
        /// Its transaction, where it has one.
        transaction: Option<TransactionId>,
        /// The outcome.
        resolution: Resolution,
        /// An operator has decided, without the transaction manager.
        operator: bool,
        /// When.
        at: Millis,
        /// Its name.
        xid: Xid,
    },
    /// What an operator has decided of a branch is known to its manager, and forgotten.
    Forgotten {
        /// Which.
        xid: Xid,
    },
    /// Outcomes have been remembered long enough.
    OutcomesForgotten {
        /// Those up to this number.
        through: u64,
    },
    /// Something is done in a new branch whose name was perhaps used before: how the one before has
    /// ended is not remembered any more.
    Begun {
        /// The name.
        xid: Xid,
    },
}

/// A non-persistent message that was settled in a branch: it lies in the log from now on, which a
/// commit lets go and a rollback puts into its queue. Its content is the payload of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Of which transaction; the first operation begins it.
    pub transaction: TransactionId,
    /// The number of the operation in it, from 1.
    pub number: u64,
    /// From where it is.
    pub queue: QueueId,
    /// 9 minus its priority.
    pub rank: u8,
    /// When the broker took it.
    pub at: Millis,
    /// When it is no longer wanted.
    pub expires: Option<Millis>,
    /// How often it came back from a consumer.
    pub returns: u32,
    /// It is to come back, whatever the outcome.
    pub returned: bool,
    /// Who had it.
    pub holder: Holder,
}

impl BranchRecord {
    pub(super) fn kind(&self) -> u16 {
        match self {
            Self::Kept(_) => KEPT,
            Self::Prepared { .. } => PREPARED,
            Self::Completed { .. } => COMPLETED,
            Self::Forgotten { .. } => FORGOTTEN,
            Self::OutcomesForgotten { .. } => OUTCOMES_FORGOTTEN,
            Self::Begun { .. } => BEGUN,
        }
    }

    pub(super) fn size_max(&self) -> usize {
        const FIXED: usize = 192;
        match self {
            Self::Prepared { client, .. } => FIXED + client.len(),
            _ => FIXED,
        }
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Kept(kept) => w.kept(kept),
            Self::Prepared { transaction, at, xid, client } => {
                w.u64(transaction.0);
                w.u64(at.0);
                w.xid(xid);
                w.0.extend_from_slice(client.as_bytes());
            }
            Self::Completed { transaction, resolution, operator, at, xid } => {
                w.u64(transaction.map_or(0, |id| id.0));
                w.0.push(resolution.code());
                w.0.push(u8::from(*operator));
                w.u64(at.0);
                w.xid(xid);
            }
            Self::Forgotten { xid } | Self::Begun { xid } => w.xid(xid),
            Self::OutcomesForgotten { through } => w.u64(*through),
        }
    }
}

impl Writer<'_> {
    fn xid(&mut self, xid: &Xid) {
        self.0.extend_from_slice(&xid.to_bytes());
    }

    fn kept(&mut self, kept: &Kept) {
        self.u64(kept.transaction.0);
        self.u64(kept.number);
        self.u64(kept.queue.0);
        self.0.push(kept.rank);
        self.u64(kept.at.0);
        self.time(kept.expires);
        self.u32(kept.returns);
        self.0.push(u8::from(kept.returned));
        self.u64(kept.holder.connection.0);
        self.u64(kept.holder.subscription.0);
        self.u64(kept.holder.tag.0);
    }
}

impl Reader<'_> {
    fn xid(&mut self) -> Option<Xid> {
        let (xid, rest) = Xid::split(self.0)?;
        self.0 = rest;
        Some(xid)
    }

    /// `None` for a kind that is not of branches, too.
    pub(super) fn branch(&mut self, kind: u16) -> Option<Record> {
        let record = match kind {
            KEPT => BranchRecord::Kept(self.kept()?),
            PREPARED => {
                let (transaction, at, xid) = (self.transaction()?, self.millis()?, self.xid()?);
                let client = std::str::from_utf8(std::mem::take(&mut self.0)).ok()?.into();
                BranchRecord::Prepared { transaction, at, xid, client }
            }
            COMPLETED => BranchRecord::Completed {
                transaction: self.transaction().map(|id| (id.0 > 0).then_some(id))?,
                resolution: self.resolution()?,
                operator: self.flag()?,
                at: self.millis()?,
                xid: self.xid()?,
            },
            FORGOTTEN => BranchRecord::Forgotten { xid: self.xid()? },
            OUTCOMES_FORGOTTEN => BranchRecord::OutcomesForgotten { through: self.u64()? },
            BEGUN => BranchRecord::Begun { xid: self.xid()? },
            _ => return None,
        };
        Some(Record::Branch(record))
    }

    fn kept(&mut self) -> Option<Kept> {
        Some(Kept {
            transaction: self.transaction()?,
            number: self.u64()?,
            queue: self.queue()?,
            rank: self.rank()?,
            at: self.millis()?,
            expires: self.time()?,
            returns: self.u32()?,
            returned: self.flag()?,
            holder: Holder {
                connection: ConnectionId(self.u64()?),
                subscription: SubscriptionId(self.u64()?),
                tag: Tag(self.u64()?),
            },
        })
    }
}
