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
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(data, offset)
    }
}
