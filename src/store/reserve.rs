//! A file that only takes room, to be given back to the file system while the disk is full.
//!
//! Owns the file `reserve`. A checkpoint that would set segments free may need room itself, and a
//! start needs some: both take it from here when the disk has none. Always: what the file holds
//! means nothing, and its absence neither; whoever misses it makes it anew when there is room.
//! Leaves to others: how much, and when.

use std::io;

use crate::io::Storage;

/// The name of the file.
pub const RESERVE_NAME: &str = "reserve";

/// Bytes set aside now.
pub(super) fn bytes(storage: &dyn Storage) -> u64 {
    storage.open(RESERVE_NAME).and_then(|file| file.size()).unwrap_or(0)
}

/// Gives back the room that a store has set aside; false if there was none.
pub fn release(storage: &dyn Storage) -> bool {
    storage.remove(RESERVE_NAME).is_ok()
}

/// What the file may have beyond what is wanted.
const SLACK: u64 = if cfg!(test) { 1 << 20 } else { 16 << 20 };

/// Sets `wanted` bytes aside; somewhat more may stay. A refusal leaves what there is.
///
/// # Errors
/// Those of the disk; `StorageFull` where it has no such room.
pub(super) fn set_aside(storage: &dyn Storage, wanted: u64) -> io::Result<()> {
    let file = match storage.open(RESERVE_NAME) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => storage.create(RESERVE_NAME)?,
        opened => opened?,
    };
    let size = file.size()?;
    if size >= wanted && size - wanted < SLACK {
        return Ok(());
    }
    file.set_size(wanted)?;
    file.sync()?;
    storage.sync_dir()
}
