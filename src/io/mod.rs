//! The machine's edge: everything the broker asks of a disk and of a clock.
//!
//! Two small traits with a real form ([`real`]), one that reads and forgets what is written
//! ([`look`]), one that gives a file another name ([`alias`]), and a simulated one ([`sim`]).
//! Nothing else in the crate opens a file of a store or reads a clock for a decision that is
//! written down.

pub mod alias;
pub mod blocks;
pub mod look;
pub mod real;
pub mod sim;

#[cfg(test)]
mod contract;

use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use blocks::Blocks;

use crate::ids::Millis;

/// A directory of files: what a store needs of a file system, and no more.
///
/// Names are plain file names without a separator. A name that was created, renamed, linked or
/// removed is durable only after [`Storage::sync_dir`].
pub trait Storage: Debug + Send + Sync + 'static {
    /// Opens an existing file for reading and writing. `NotFound` if there is none.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Creates a new, empty file for reading and writing. `AlreadyExists` if the name is taken.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Gives `from` the name `to`, atomically, replacing what had that name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Gives the file `from` a second name `to`. `AlreadyExists` if the name is taken: of any
    /// number of callers exactly one succeeds.
    fn link(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a name. `NotFound` if there is none.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// All file names, sorted.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes all names, as they are now, durable.
    fn sync_dir(&self) -> io::Result<()>;

    /// Bytes that files may still take. Others may take them first: a guess, not a promise.
    fn free(&self) -> io::Result<u64>;
}

/// One open file. Calls may come from several threads at once.
pub trait File: Debug + Send + Sync + 'static {
    /// Length in bytes.
    fn size(&self) -> io::Result<u64>;

    /// Cuts or extends (with zeros) to `size` bytes, with room on the disk for all of them:
    /// `StorageFull` comes from here and not from a later write inside the length.
    fn set_size(&self, size: u64) -> io::Result<()>;

    /// Fills `buf` from `offset`. `UnexpectedEof` if the file ends before.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `buf` at `offset`, extending the file where needed. Durable after `sync`.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Writes whole blocks at a multiple of their size, past the page cache where the system can:
    /// the disk then takes them from where they lie, and they displace nothing in memory. Like
    /// `write_at` in every other way.
    fn write_blocks(&self, blocks: &Blocks, offset: u64) -> io::Result<()> {
        self.write_at(blocks, offset)
    }

    /// Makes the content and the length durable (`fdatasync`). After an error nothing is known
    /// of what was written since the last success, and trying again proves nothing.
    fn sync(&self) -> io::Result<()>;
}

/// The time, as an argument for those who may not ask for it.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Wall-clock time; may jump either way.
    fn wall(&self) -> Millis;

    /// Time since some fixed moment; never runs backwards.
    fn monotonic(&self) -> Duration;
}
