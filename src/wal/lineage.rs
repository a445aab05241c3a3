//! Which store wrote what: a store that was restored from a backup goes on under an id of its own,
//! and what it has from before carries the id of the other.
//!
//! Owns the files `origin-*`. Each says up to which epoch the store was another one; so the ids of
//! a store form a chain that ends in its file `store`, and a file of the log is checked against
//! the id of its epoch. Nothing that was written is ever written again for it.

use std::io;

use crate::io::Storage;
use crate::wal::claim::read_whole;
use crate::wal::error::RecoveryError;
use crate::wal::format::{HeadFault, ORIGIN_BYTES, Origin, VERSION};
use crate::wal::names::{self, Name};

/// The ids of a store, by epoch.
#[derive(Clone, Debug)]
pub(crate) struct Lineage {
    store: u128,
    /// The newest first.
    origins: Vec<Origin>,
}

impl Lineage {
    /// A store that was never another one, or of which that is not known.
    pub(crate) fn of(store: u128) -> Self {
        Self { store, origins: Vec::new() }
    }

    /// Reads the origins among `names`.
    pub(crate) fn read(
        storage: &dyn Storage,
        store: u128,
        names: &[Name],
    ) -> Result<Self, RecoveryError> {
        let mut epochs: Vec<u64> = names
            .iter()
            .filter_map(|name| match name {
                Name::Origin { epoch } => Some(*epoch),
                _ => None,
            })
            .collect();
        epochs.sort_unstable_by(|a, b| b.cmp(a));
        let mut lineage = Self::of(store);
        for epoch in epochs {
            let expected = lineage.origins.last().map_or(store, |origin| origin.from);
            let origin = origin_read(storage, epoch)?;
            if origin.store != expected {
                let (file, found) = (names::origin(epoch), origin.store);
                return Err(RecoveryError::ForeignStore { file, found, expected });
            }
            lineage.origins.push(origin);
        }
        Ok(lineage)
    }

    /// The id that the owner of `epoch` wrote under.
    pub(crate) fn store_of(&self, epoch: u64) -> u128 {
        let origins = self.origins.iter().take_while(|origin| epoch <= origin.epoch);
        origins.last().map_or(self.store, |origin| origin.from)
    }

    /// The last epoch of the store that this one was restored from.
    pub(crate) fn restored_at(&self) -> Option<u64> {
        self.origins.first().map(|origin| origin.epoch)
    }
}

fn origin_read(storage: &dyn Storage, epoch: u64) -> Result<Origin, RecoveryError> {
    let file = names::origin(epoch);
    let io = |source: io::Error| RecoveryError::io(&file, source);
    let bytes = storage.open(&file).and_then(|f| read_whole(&*f, ORIGIN_BYTES)).map_err(io)?;
    match Origin::decode(bytes.as_deref().unwrap_or_default()) {
        Ok(origin) if origin.epoch == epoch => Ok(origin),
        Err(HeadFault::Version(found)) => {
            Err(RecoveryError::UnknownVersion { file, found, newest: VERSION })
        }
        _ => Err(RecoveryError::BadHead { file }),
    }
}
