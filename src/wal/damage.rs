//! What is wrong with stored bytes, and where: named so that a person can look.

use std::fmt;

use crate::ids::Lsn;

/// Which of a frame's two checksums is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The frame's head or its record: what the broker's state is made of.
    Structure,
    /// The payload: one message.
    Payload,
}

/// A frame that cannot be given back as it was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part} of the frame at {lsn} is damaged ({file}, offset {offset})")]
pub struct Damage {
    /// The segment's file name.
    pub file: String,
    /// The frame's first byte in the file.
    pub offset: u64,
    /// The frame's position.
    pub lsn: Lsn,
    /// What of it is bad.
    pub part: Part,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Structure => "structure",
            Part::Payload => "payload",
        })
    }
}

/// Why a place in the log that was durable once does not read as what was written there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corruption {
    /// No batch, or one whose header has a bad checksum.
    Header,
    /// A batch of another position, epoch or length.
    Position,
    /// A batch that does not follow the one before it.
    Chain,
    /// A frame whose head or record has a bad checksum, or frames that are not the batch's.
    Structure,
    /// The segment does not end as its seal says.
    Seal,
    /// A block of a pack's directory.
    Directory,
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Corruption::Header => "no good batch header",
            Corruption::Position => "a batch that belongs elsewhere",
            Corruption::Chain => "a batch that does not follow the one before it",
            Corruption::Structure => "a damaged record",
            Corruption::Seal => "an end that is not the sealed one",
            Corruption::Directory => "a damaged block of the directory",
        })
    }
}
