//! The fence: an owner that has lost the store finds out before it does harm.
//!
//! Make the justification durable, look for a later claim, then do the visible thing: answer,
//! commit the index, take a segment back. A claim that is made after the look reads everything
//! that was durable before it, so nothing confirmed is lost whoever comes next.

use std::io;
use std::sync::Arc;

use crate::io::Storage;
use crate::wal::claim::is_superseded;

/// Tells whether this process still owns the store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Fence {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) epoch: u64,
}

impl Fence {
    /// Looks for a later claim.
    ///
    /// # Errors
    /// When there is one, or nobody can tell: then nothing more may be confirmed or destroyed.
    pub fn check(&self) -> io::Result<()> {
        if is_superseded(&*self.storage, self.epoch)? {
            return Err(io::Error::other("another broker has taken over the store"));
        }
        Ok(())
    }
}
