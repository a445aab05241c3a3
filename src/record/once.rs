//! Records of names that programs give to what they do, and their bytes.
//!
//! | kind | what | bytes |
//! |---|---|---|
//! | 60 | `Sent` | as 30, then the name |
//! | 61 | `Staged` | as 50, then the name |
//! | 62 | `Named` | the name, at u64, transaction u64 (0 is none), then perhaps a name |
//! | 63 | `Forgotten` | scope u64, through u64 |
//! | 64 | `Scheduled` | as 48, then the name |
//!
//! | 65 | `Sent` | as 60 with a number in place of the name |
//! | 66 | `Staged` | as 61 with a number in place of the name |
//! | 67 | `Scheduled` | as 64 with a number in place of the name |
//!
//! A name is the 16 bytes of its digest; a number is those of its producer's, then sequence u64.
//! What else there is to say of producers is in `producers`. A scope is the number of a queue, 0
//! for commits, or that of a topic: 63 bits of the digest of its name, and the highest bit set.
//! What stands at the end of 62 is the digest of what the transaction has done; a commit without it
//! will never be.

use super::form::Form;
use super::{FLAG_LENT, Reader, Record, Writer};
use crate::broker::delta::Scope;
use crate::identity::{Identity, Mark, Numbered};
use crate::ids::{Millis, TransactionId};

pub(super) const SENT_ONCE: u16 = 60;
pub(super) const STAGED_ONCE: u16 = 61;
pub(super) const NAMED: u16 = 62;
pub(super) const FORGOTTEN: u16 = 63;
pub(super) const SCHEDULED_ONCE: u16 = 64;
pub(super) const SENT_NUMBERED: u16 = 65;
pub(super) const STAGED_NUMBERED: u16 = 66;
pub(super) const SCHEDULED_NUMBERED: u16 = 67;

/// The kind of what is sent: without a mark, under a name, and with a number.
pub(super) fn marked([bare, named, numbered]: [u16; 3], once: Option<Mark>) -> u16 {
    match once {
        None => bare,
        Some(Mark::Name(_)) => named,
        Some(Mark::Number(_)) => numbered,
    }
}

/// A commit has a name from now on. It is true of a transaction once that is committed, and of
/// none at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// The name.
    pub id: Identity,
    /// When.
    pub at: Millis,
    /// Which transaction, where it has an operation in the log.
    pub transaction: Option<TransactionId>,
    /// What it has done; `None` where nothing will ever be done under this name.
    pub operations: Option<Identity>,
}

/// The oldest names of a scope are not remembered any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// Whose.
    pub scope: Scope,
    /// Up to this number.
    pub through: u64,
}

pub(super) fn encode(record: &Record, w: &mut Writer<'_>) {
    match record {
        Record::Named(Named { id, at, transaction, operations }) => {
            w.0.extend_from_slice(&id.0);
            w.u64(at.0);
            w.u64(transaction.map_or(0, |id| id.0));
            w.identity(*operations);
        }
        Record::Forgotten(Forgotten { scope, through }) => {
            w.u64(scope.number());
            w.u64(*through);
        }
        Record::Producers(record) => record.encode(w),
        _ => unreachable!("the other kinds have their bytes elsewhere"),
    }
}

impl Writer<'_> {
    pub(super) fn identity(&mut self, id: Option<Identity>) {
        id.iter().for_each(|id| self.0.extend_from_slice(&id.0));
    }

    pub(super) fn mark(&mut self, once: Option<Mark>) {
        match once {
            None => {}
            Some(Mark::Name(id)) => self.identity(Some(id)),
            Some(Mark::Number(Numbered { producer, sequence })) => {
                self.identity(Some(producer));
                self.u64(sequence);
            }
        }
    }
}

impl Reader<'_> {
    pub(super) fn identity(&mut self, once: bool) -> Option<Option<Identity>> {
        if once { self.array().map(|bytes| Some(Identity(bytes))) } else { Some(None) }
    }

    /// What is left of a record says of repetitions: a name and a number differ in their length.
    pub(super) fn mark_at_end(&mut self) -> Option<Option<Mark>> {
        match self.0.len() {
            0 => Some(None),
            16 => self.mark(SENT_ONCE),
            _ => self.mark(SENT_NUMBERED),
        }
    }

    /// What a record of this kind says of repetitions.
    pub(super) fn mark(&mut self, kind: u16) -> Option<Option<Mark>> {
        match kind {
            SENT_ONCE | STAGED_ONCE | SCHEDULED_ONCE => {
                self.array().map(|bytes| Some(Mark::Name(Identity(bytes))))
            }
            SENT_NUMBERED | STAGED_NUMBERED | SCHEDULED_NUMBERED => {
                let (producer, sequence) = (Identity(self.array()?), self.u64()?);
                Some(Some(Mark::Number(Numbered { producer, sequence })))
            }
            _ => Some(None),
        }
    }

    pub(super) fn sent(&mut self, form: Form, kind: u16) -> Option<Record> {
        Some(Record::Sent {
            queue: self.queue()?,
            place: self.place()?,
            at: self.millis()?,
            expires: self.time()?,
            lent: match self.u8()? {
                0 => false,
                FLAG_LENT => true,
                _ => return None,
            },
            upload: self.upload(form)?,
            once: self.mark(kind)?,
        })
    }

    pub(super) fn named(&mut self) -> Option<Record> {
        let (id, at) = (Identity(self.array()?), self.millis()?);
        let transaction = self.u64().map(|id| (id != 0).then_some(TransactionId(id)))?;
        let operations = self.identity(!self.0.is_empty())?;
        Some(Record::Named(Named { id, at, transaction, operations }))
    }

    pub(super) fn forgotten(&mut self) -> Option<Record> {
        let scope = Scope::of(self.u64()?);
        Some(Record::Forgotten(Forgotten { scope, through: self.u64()? }))
    }
}
