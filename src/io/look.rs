//! A directory that is looked at and not changed: what is written stays in memory.
//!
//! Owns the reading of a store that belongs to no process. A database repairs itself when it is
//! opened, so it is given files that take writes; they are kept beside the file and end with it.
//! Always: nothing in the directory is made, changed or removed; files are opened for reading
//! only, so that a copy on a read-only disk can be looked at. Memory follows what is written.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::real::{self, LockError, StoreLock};
use super::{File, Storage};

const PAGE: usize = 4096;

/// A directory as a [`Storage`] whose changes are forgotten.
#[derive(Debug)]
pub struct LookStorage {
    path: PathBuf,
}

impl LookStorage {
    /// Looks at the directory `path`, which must exist.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref().to_owned();
        if !fs::metadata(&path).map_err(|e| real::about(&path, e))?.is_dir() {
            return Err(real::about(&path, io::ErrorKind::NotADirectory.into()));
        }
        Ok(Self { path })
    }

    /// Keeps brokers out while the lock lives, beside others who look. `None` where there is no
    /// lock file, and so nobody to keep out.
    ///
    /// # Errors
    /// [`LockError::Held`] while a broker has the store.
    pub fn try_lock(&self) -> Result<Option<StoreLock>, LockError> {
        StoreLock::to_look(&self.path)
    }
}

impl Storage for LookStorage {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let path = real::file_in(&self.path, name)?;
        let file = fs::File::open(&path).map_err(|e| real::about(&path, e))?;
        let size = file.metadata().map_err(|e| real::about(&path, e))?.len();
        let state = Mutex::new(Overlay { size, beneath: size, pages: BTreeMap::new() });
        Ok(Arc::new(LookFile { path, file, state }))
    }

    fn create(&self, _name: &str) -> io::Result<Arc<dyn File>> {
        Err(self.refusal())
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Err(self.refusal())
    }

    fn link(&self, _from: &str, _to: &str) -> io::Result<()> {
        Err(self.refusal())
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        Err(self.refusal())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        real::list(&self.path)
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn free(&self) -> io::Result<u64> {
        real::free(&self.path)
    }
}

impl LookStorage {
    fn refusal(&self) -> io::Error {
        real::about(&self.path, io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

#[derive(Debug)]
struct LookFile {
    path: PathBuf,
    file: fs::File,
    state: Mutex<Overlay>,
}

/// What was written since the file was opened.
#[derive(Debug)]
struct Overlay {
    size: u64,
    /// Bytes of the real file that are still to be seen: what was cut off reads as zeros.
    beneath: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
}

impl LookFile {
    fn state(&self) -> MutexGuard<'_, Overlay> {
        self.state.lock().expect("nothing panics while it is held")
    }

    /// Bytes of the real file from `offset`, and zeros after its end.
    fn read_beneath(&self, state: &Overlay, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let there = state.beneath.saturating_sub(offset).min(buf.len() as u64) as usize;
        let (there, beyond) = buf.split_at_mut(there);
        beyond.fill(0);
        self.file.read_exact_at(there, offset).map_err(|e| real::about(&self.path, e))
    }
}

impl File for LookFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.state().size)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let state = &mut *self.state();
        state.size = size;
        state.beneath = state.beneath.min(size);
        let (last, cut) = (size / PAGE as u64, (size % PAGE as u64) as usize);
        let _ = state.pages.split_off(&(last + 1));
        if let Some(page) = state.pages.get_mut(&last) {
            page[cut..].fill(0);
        }
        Ok(())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.state();
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= state.size);
        let end =
            end.ok_or_else(|| real::about(&self.path, io::ErrorKind::UnexpectedEof.into()))?;
        self.read_beneath(&state, buf, offset)?;
        for (&number, page) in state.pages.range(offset / PAGE as u64..end.div_ceil(PAGE as u64)) {
            let start = number * PAGE as u64;
            let (from, to) = (start.max(offset), (start + PAGE as u64).min(end));
            let written = &page[(from - start) as usize..(to - start) as usize];
            buf[(from - offset) as usize..(to - offset) as usize].copy_from_slice(written);
        }
        Ok(())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let state = &mut *self.state();
        let end = offset.checked_add(buf.len() as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        let mut at = offset;
        while at < end {
            let (number, inside) = (at / PAGE as u64, (at % PAGE as u64) as usize);
            let length = (PAGE - inside).min((end - at) as usize);
            if !state.pages.contains_key(&number) {
                let mut page = Box::new([0; PAGE]);
                self.read_beneath(state, &mut page[..], number * PAGE as u64)?;
                state.pages.insert(number, page);
            }
            let page = state.pages.get_mut(&number).expect("is there now");
            let from = (at - offset) as usize;
            page[inside..inside + length].copy_from_slice(&buf[from..from + length]);
            at += length as u64;
        }
        state.size = state.size.max(end);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_directory_that_is_looked_at_stays_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a"), b"before").unwrap();
        let look = LookStorage::open(directory.path()).unwrap();
        let file = look.open("a").unwrap();
        file.write_at(b"after, and longer", 2).unwrap();
        file.sync().unwrap();
        let mut seen = [0; 7];
        file.read_at(&mut seen, 0).unwrap();
        assert_eq!(&seen, b"beafter");
        assert!(look.create("b").is_err());
        assert!(look.remove("a").is_err());
        assert!(look.rename("a", "b").is_err());
        assert!(look.link("a", "b").is_err());
        assert!(look.try_lock().unwrap().is_none());
        assert_eq!(look.list().unwrap(), ["a"]);
        assert_eq!(fs::read(directory.path().join("a")).unwrap(), b"before");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn those_who_look_keep_a_broker_out_and_not_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let store = real::DirStorage::open_or_create(directory.path()).unwrap();
        drop(store.try_lock().unwrap());
        let look = LookStorage::open(directory.path()).unwrap();
        let (one, two) = (look.try_lock().unwrap(), look.try_lock().unwrap());
        assert!(matches!(store.try_lock(), Err(LockError::Held { .. })));
        drop((one, two));
        let _broker = store.try_lock().unwrap();
        assert!(matches!(look.try_lock(), Err(LockError::Held { .. })));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, Vec<u8>),
        Size(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let offset = || prop_oneof![0..20_000_u64, Just(4096), Just(8192)];
        prop_oneof![
            (offset(), proptest::collection::vec(any::<u8>(), 0..9000))
                .prop_map(|(at, bytes)| Step::Write(at, bytes)),
            offset().prop_map(Step::Size),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_written_in_memory_reads_like_what_is_written_to_a_file(
            first: Vec<u8>,
            steps in proptest::collection::vec(step(), 0..12),
        ) {
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join("a"), &first).unwrap();
            let file = LookStorage::open(directory.path()).unwrap().open("a").unwrap();
            let mut model = first;
            for step in steps {
                match step {
                    Step::Write(at, bytes) => {
                        let end = at as usize + bytes.len();
                        if !bytes.is_empty() {
                            model.resize(model.len().max(end), 0);
                            model[at as usize..end].copy_from_slice(&bytes);
                            file.write_at(&bytes, at).unwrap();
                        }
                    }
                    Step::Size(size) => {
                        model.resize(size as usize, 0);
                        file.set_size(size).unwrap();
                    }
                }
                let mut seen = vec![1; model.len()];
                file.read_at(&mut seen, 0).unwrap();
                prop_assert!(seen == model);
                prop_assert_eq!(file.size().unwrap(), model.len() as u64);
                prop_assert!(file.read_at(&mut [0], model.len() as u64).is_err());
            }
        }
    }
}
