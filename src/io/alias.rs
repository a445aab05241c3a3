//! A directory in which one file goes by another name.
//!
//! For directories that are not to be taken for a store, a backup or one half made: what says that
//! a directory is a store has another name there, and only who knows that sees a store.

use std::io;
use std::sync::Arc;

use super::{File, Storage};

/// A [`Storage`] that shows the file `real` under the name `shown`.
#[derive(Debug)]
pub struct AliasStorage {
    inner: Arc<dyn Storage>,
    shown: &'static str,
    real: &'static str,
}

impl AliasStorage {
    /// Shows `real` as `shown`; a file that has that name already is not to be seen.
    pub fn new(inner: Arc<dyn Storage>, shown: &'static str, real: &'static str) -> Self {
        Self { inner, shown, real }
    }

    fn name<'a>(&self, name: &'a str) -> &'a str {
        if name == self.shown { self.real } else { name }
    }
}

impl Storage for AliasStorage {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.inner.open(self.name(name))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.inner.create(self.name(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(self.name(from), self.name(to))
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.link(self.name(from), self.name(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(self.name(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = self.inner.list()?;
        names.retain(|name| name != self.shown);
        for name in names.iter_mut().filter(|name| *name == self.real) {
            self.shown.clone_into(name);
        }
        names.sort_unstable();
        Ok(names)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.inner.sync_dir()
    }

    fn free(&self) -> io::Result<u64> {
        self.inner.free()
    }
}
