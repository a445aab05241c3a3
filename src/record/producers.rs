//! Records of producers that count what they send, and their bytes.
//!
//! | kind | what | bytes |
//! |---|---|---|
//! | 68 | `Parted` | at u64, closed u8 (0, 1), then producers |
//! | 69 | `Forgotten` | producers |
//!
//! A producer is the 16 bytes of the digest of its name. What they send is in `once`.

use super::{OnceThere, Reader, Record, Writer};
use crate::identity::{Identity, Mark};
use crate::ids::Millis;

pub(super) const PRODUCERS_PARTED: u16 = 68;
pub(super) const PRODUCERS_FORGOTTEN: u16 = 69;

/// Something about producers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProducersRecord {
    /// Their connection has ended.
    Parted {
        /// When.
        at: Millis,
        /// It said that it would: they do not come back, unless its answer was lost.
        closed: bool,
        /// Which.
        producers: Vec<Identity>,
    },
    /// What they have sent is not remembered any more.
    Forgotten {
        /// Which.
        producers: Vec<Identity>,
    },
}

impl Record {
    /// The producers that count of which it tells. The outcome of a transaction tells of none:
    /// those that count in it were told of before.
    #[must_use]
    pub fn producers(&self) -> &[Identity] {
        let once = match self {
            Self::Producers(record) => return record.producers(),
            Self::Sent { once, .. } | Self::Scheduled { once, .. } => once,
            Self::Staged(staged) => &staged.once,
            Self::Published(published) => {
                return match &published.once {
                    Some(OnceThere::Number(it)) => std::slice::from_ref(&it.producer),
                    Some(OnceThere::Name(..)) | None => &[],
                };
            }
            _ => &None,
        };
        match once {
            Some(Mark::Number(it)) => std::slice::from_ref(&it.producer),
            Some(Mark::Name(_)) | None => &[],
        }
    }
}

impl ProducersRecord {
    pub(super) fn kind(&self) -> u16 {
        match self {
            Self::Parted { .. } => PRODUCERS_PARTED,
            Self::Forgotten { .. } => PRODUCERS_FORGOTTEN,
        }
    }

    /// Those that it is about.
    #[must_use]
    pub fn producers(&self) -> &[Identity] {
        match self {
            Self::Parted { producers, .. } | Self::Forgotten { producers } => producers,
        }
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        if let Self::Parted { at, closed, .. } = self {
            w.u64(at.0);
            w.0.push(u8::from(*closed));
        }
        self.producers().iter().for_each(|id| w.identity(Some(*id)));
    }
}

impl Reader<'_> {
    pub(super) fn producers(&mut self, kind: u16) -> Option<Record> {
        let parted = match kind {
            PRODUCERS_PARTED => Some((self.millis()?, self.flag()?)),
            _ => None,
        };
        let mut producers = Vec::new();
        while !self.0.is_empty() {
            producers.push(Identity(self.array()?));
        }
        Some(Record::Producers(match parted {
            Some((at, closed)) => ProducersRecord::Parted { at, closed, producers },
            None => ProducersRecord::Forgotten { producers },
        }))
    }
}
