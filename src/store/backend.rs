//! redb's view of one of our files.
//!
//! Always: what redb calls durable went through [`File::sync`], and room for growth is taken in
//! [`File::set_size`], so that a full disk shows there and nowhere later.
//! Leaves to others: exclusion. A store has one writing broker, and the store lock sees to it;
//! redb's own range locks are not offered.

use std::io;
use std::sync::Arc;

use crate::io::File;

#[derive(Debug)]
pub(super) struct Backend(pub(super) Arc<dyn File>);

impl redb::StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_size(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        known(self.0.sync())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(data, offset)
    }
}

/// A sync that finds no room, as on disks that promise more than they have, leaves nobody knowing
/// what is on the disk: that is no full disk on which nothing has changed.
fn known(synced: io::Result<()>) -> io::Result<()> {
    synced.map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull => io::Error::other(error),
        _ => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_for_which_there_is_no_room_is_not_taken_for_one_that_changed_nothing() {
        let synced = known(Err(io::ErrorKind::StorageFull.into()));
        assert_eq!(synced.unwrap_err().kind(), io::ErrorKind::Other);
        let synced = known(Err(io::ErrorKind::Interrupted.into()));
        assert_eq!(synced.unwrap_err().kind(), io::ErrorKind::Interrupted);
    }
}
