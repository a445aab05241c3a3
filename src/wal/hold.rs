//! Keeping segments and packs for one who copies them, while the log goes on.
//!
//! Owns what is held: first everything, so that nothing goes before it is known what is wanted,
//! then those alone, each until it is copied. A held segment that dies waits; it is taken back
//! with the next that dies. Holds no file open, so the number of segments does not matter.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::mutant::{self, Mutant};
use crate::wal::format::PackId;
use crate::wal::reader::Catalog;
use crate::wal::segment::Expected;

/// A file of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFile {
    /// The number of the segment.
    pub ordinal: u64,
    /// The owner that wrote it.
    pub epoch: u64,
    /// Its name.
    pub name: String,
}

impl SegmentFile {
    pub(crate) fn of(file: &Expected) -> Self {
        Self { ordinal: file.ordinal, epoch: file.epoch, name: file.name() }
    }
}

/// What is held.
#[derive(Debug, Default)]
pub(crate) enum Held {
    #[default]
    Nothing,
    All,
    Only {
        ordinals: BTreeSet<u64>,
        packs: BTreeSet<PackId>,
    },
}

impl Held {
    pub(crate) fn holds(&self, ordinal: u64) -> bool {
        match self {
            Held::Nothing => false,
            Held::All => true,
            Held::Only { .. } if mutant::is(Mutant::LoseHold) => false,
            Held::Only { ordinals, .. } => ordinals.contains(&ordinal),
        }
    }

    pub(crate) fn holds_pack(&self, id: PackId) -> bool {
        match self {
            Held::Nothing => false,
            Held::All => true,
            Held::Only { .. } if mutant::is(Mutant::LoseHold) => false,
            Held::Only { packs, .. } => packs.contains(&id),
        }
    }
}

/// Keeps segments from being taken back while it lives; see [`crate::wal::Reader::hold`].
#[derive(Debug)]
pub struct Hold {
    catalog: Arc<Catalog>,
}

impl Hold {
    pub(crate) fn take(catalog: &Arc<Catalog>) -> Option<Hold> {
        let free = catalog.held(|held| {
            let free = matches!(held, Held::Nothing);
            if free {
                *held = Held::All;
            }
            free
        });
        free.then(|| Hold { catalog: Arc::clone(catalog) })
    }

    /// Every segment there is now, oldest first.
    pub fn files(&self) -> Vec<SegmentFile> {
        self.catalog.files().iter().map(SegmentFile::of).collect()
    }

    /// Holds these from now on, and no others.
    pub fn keep(&self, ordinals: BTreeSet<u64>, packs: BTreeSet<PackId>) {
        self.catalog.held(|held| *held = Held::Only { ordinals, packs });
    }

    /// Lets one go.
    pub fn release(&self, ordinal: u64) {
        self.catalog.held(|held| {
            if let Held::Only { ordinals, .. } = held {
                ordinals.remove(&ordinal);
            }
        });
    }

    /// Lets a pack go.
    pub fn release_pack(&self, id: PackId) {
        self.catalog.held(|held| {
            if let Held::Only { packs, .. } = held {
                packs.remove(&id);
            }
        });
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.catalog.held(|held| *held = Held::Nothing);
    }
}
