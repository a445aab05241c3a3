//! The names of the log's files, both ways.
//!
//! Numbers are sixteen hex digits, so that names sort as their numbers do. Everything else in the
//! directory belongs to others and is left alone.

use crate::wal::format::PackId;

/// The identity of the store.
pub const IDENTITY: &str = "store";

/// The name that the identity has in a backup, so that nobody takes a backup for a store.
pub const IDENTITY_IN_BACKUP: &str = "store.backup";

/// The name that the identity has in a store that is being restored or repaired.
pub const IDENTITY_UNFINISHED: &str = "store.unfinished";

/// The prefix of files that are being made. Whoever holds the newest claim may remove them.
pub(crate) const TEMPORARY: [&str; 6] =
    ["tmp-store-", "tmp-claim-", "tmp-seal-", "tmp-wal-", "tmp-copy-", "tmp-pack-"];

/// What a file of the log is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    /// The identity file.
    Identity,
    /// An owner's claim.
    Claim { epoch: u64 },
    /// Up to which epoch the store was another one.
    Origin { epoch: u64 },
    /// An owner's account of what was there before it.
    Seal { epoch: u64 },
    /// A segment of the log.
    Segment { epoch: u64, ordinal: u64 },
    /// What counts of an earlier owner's segment, copied by the owner `by`.
    Copy { by: u64, ordinal: u64 },
    /// A former segment, kept to become another.
    Spare { epoch: u64, ordinal: u64 },
    /// What is live of several segments, side by side.
    Pack(PackId),
    /// Something half made.
    Temporary,
}

impl Name {
    /// What `name` says, or `None` where it is not a name of ours.
    pub(crate) fn parse(name: &str) -> Option<Name> {
        if name == IDENTITY {
            return Some(Name::Identity);
        }
        if TEMPORARY.iter().any(|prefix| name.starts_with(prefix)) {
            return Some(Name::Temporary);
        }
        let (kind, numbers) = name.split_once('-')?;
        match kind {
            "claim" => Some(Name::Claim { epoch: number(numbers)? }),
            "origin" => Some(Name::Origin { epoch: number(numbers)? }),
            "seal" => Some(Name::Seal { epoch: number(numbers)? }),
            "wal" => pair(numbers).map(|(epoch, ordinal)| Name::Segment { epoch, ordinal }),
            "copy" => pair(numbers).map(|(by, ordinal)| Name::Copy { by, ordinal }),
            "spare" => pair(numbers).map(|(epoch, ordinal)| Name::Spare { epoch, ordinal }),
            "pack" => pair(numbers).map(|(epoch, number)| Name::Pack(PackId { epoch, number })),
            _ => None,
        }
    }
}

/// The name of the claim of `epoch`: whoever finds the claim after its own has lost the store.
pub fn claim(epoch: u64) -> String {
    format!("claim-{epoch:016x}")
}

pub(crate) fn seal(epoch: u64) -> String {
    format!("seal-{epoch:016x}")
}

/// The name of the file that says that up to `epoch` the store was another one.
pub fn origin(epoch: u64) -> String {
    format!("origin-{epoch:016x}")
}

pub(crate) fn segment(epoch: u64, ordinal: u64) -> String {
    format!("wal-{epoch:016x}-{ordinal:016x}")
}

pub(crate) fn copy(by: u64, ordinal: u64) -> String {
    format!("copy-{by:016x}-{ordinal:016x}")
}

pub(crate) fn spare(epoch: u64, ordinal: u64) -> String {
    format!("spare-{epoch:016x}-{ordinal:016x}")
}

/// The name of a pack.
pub fn pack(id: PackId) -> String {
    format!("pack-{:016x}-{:016x}", id.epoch, id.number)
}

pub(crate) fn temporary(name: &str, nonce: u128) -> String {
    // The nonce keeps two claimants of one epoch from writing the same file.
    format!("tmp-{name}-{nonce:032x}")
}

fn pair(text: &str) -> Option<(u64, u64)> {
    let (epoch, ordinal) = text.split_once('-')?;
    Some((number(epoch)?, number(ordinal)?))
}

/// Only the one spelling we write is a number of ours: else two names could mean one file.
fn number(text: &str) -> Option<u64> {
    let plain = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if plain { u64::from_str_radix(text, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back_and_others_are_left_alone() {
        assert_eq!(Name::parse("store"), Some(Name::Identity));
        assert_eq!(Name::parse(&claim(7)), Some(Name::Claim { epoch: 7 }));
        assert_eq!(Name::parse(&origin(7)), Some(Name::Origin { epoch: 7 }));
        assert_eq!(Name::parse(&seal(u64::MAX)), Some(Name::Seal { epoch: u64::MAX }));
        assert_eq!(Name::parse(&segment(2, 9)), Some(Name::Segment { epoch: 2, ordinal: 9 }));
        assert_eq!(Name::parse(&copy(2, 9)), Some(Name::Copy { by: 2, ordinal: 9 }));
        assert_eq!(Name::parse(&spare(2, 9)), Some(Name::Spare { epoch: 2, ordinal: 9 }));
        let id = PackId { epoch: 2, number: 9 };
        assert_eq!(Name::parse(&pack(id)), Some(Name::Pack(id)));
        assert_eq!(Name::parse(&temporary(&claim(3), 5)), Some(Name::Temporary));
        for foreign in ["lock", "index", "claim-7", "claim-000000000000000G", "wal-1-2", "tmp-x"] {
            assert_eq!(Name::parse(foreign), None, "{foreign}");
        }
    }
}
