//! How much a record says of each message, and takes: a kind has a short form and longer ones.

use super::{
    Record, SENT_LARGE, SENT_NUMBERED, SENT_ONCE, TRANSFERRED_LARGE, delay, published, transacted,
};

/// How much a record says of each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    /// Nothing of uploads, delays and notes: there are none.
    Small,
    /// Where its body lies.
    Large,
    /// All of it.
    Full,
}

pub(super) fn form_of(kind: u16) -> Form {
    match kind {
        delay::RETURNED..=delay::TRANSFERRED => Form::Full,
        SENT_LARGE..=TRANSFERRED_LARGE | SENT_ONCE | SENT_NUMBERED => Form::Large,
        _ => Form::Small,
    }
}

impl Record {
    /// Bytes it takes at most, cheaply known.
    #[must_use]
    pub fn size_max(&self) -> usize {
        const FIXED: usize = 96;
        match self {
            Self::QueueCreated { name, .. } => FIXED + name.len(),
            Self::Returned { entries, .. }
            | Self::Transferred { entries, .. }
            | Self::PutOff { entries, .. }
            | Self::Woken { entries, .. }
            | Self::Fired { entries, .. }
            | Self::DeadLettered { entries, .. } => FIXED + entries.len() * (42 + 20),
            Self::Removed { gone, .. } => FIXED + gone.len() * (21 + 20),
            Self::Abandoned { uploads } => FIXED + uploads.len() * 8,
            Self::PiecesGone { gone, .. } => FIXED + gone.len() * 12,
            Self::Staged(_) | Self::Taken(_) | Self::Decided(_) | Self::Settled(_) => {
                transacted::size_max(self)
            }
            Self::Published(_) | Self::Spread(_) => published::size_max(self),
            Self::Occurred(_) | Self::Scheduled { .. } => FIXED + 96,
            Self::Branch(record) => record.size_max(),
            Self::Producers(record) => FIXED + record.producers().len() * 16,
            _ => FIXED,
        }
    }

    pub(super) fn kind_of(&self, [small, large, full]: [u16; 3]) -> u16 {
        match self.form() {
            Form::Small => small,
            Form::Large => large,
            Form::Full => full,
        }
    }

    /// How much it says of each message: the least that says it all.
    pub(super) fn form(&self) -> Form {
        match self {
            _ if self.is_full() => Form::Full,
            _ if self.is_large() => Form::Large,
            _ => Form::Small,
        }
    }

    /// Whether it names an upload of a message.
    fn is_large(&self) -> bool {
        match self {
            Self::Sent { upload, once, .. } => upload.is_some() || once.is_some(),
            Self::Returned { entries, .. } | Self::Transferred { entries, .. } => {
                entries.iter().any(|(_, entry)| entry.upload.is_some())
            }
            Self::Removed { gone, .. } => gone.iter().any(|gone| gone.upload.is_some()),
            Self::Moved { gone, upload, .. } => gone.upload.is_some() || upload.is_some(),
            _ => false,
        }
    }
}
