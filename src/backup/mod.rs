//! Copies of a store: made while its broker runs or while it rests, and made a store again.
//!
//! A backup is a directory with the files that one moment of a store needs, as they are in the
//! store: the index as a checkpoint left it, the segments of the log that it refers to and those
//! from its replay point up to what is durable, and the small files that say what counts. Two
//! things keep it from being taken for a store: its identity lies in `store.backup`, and the
//! manifest, written last, says that it is whole.
//!
//! Always: everything that was confirmed before a backup began is in it. The broker is not held
//! up: a backup goes in steps, on a thread of its own, at a bounded rate; dead segments that it
//! still needs wait until they are copied.
//! Leaves to others: what records mean, and who may ask for one (`crate::server`).

mod copy;
mod manifest;
mod restore;
mod run;
mod source;

pub use copy::{Backup, BackupError, Progress, Step, Summary};
pub use manifest::{FileOf, MANIFEST_NAME, Manifest, ManifestError};
pub use restore::{RestoreError, Restored, restore};
pub use run::{Place, PlaceError, run};
pub use source::{Source, SourceError};
