//! The real disk and the real clock: a directory of the operating system.
//!
//! Owns the store lock: an exclusive lock of the operating system on a file that is never
//! unlinked, so that all who ask for it ask for the same file. It is a hint about who is alive and
//! carries no safety.
//! Always: an error names its file; a full disk or quota is `StorageFull` and nothing else is.
//! Leaves to others: what the files mean.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::blocks::{BLOCK, Blocks};
use super::{Clock, File, Storage};
use crate::ids::Millis;

/// The file that carries the store lock.
const LOCK_NAME: &str = "lock";

/// The socket through which a running broker is asked and told things.
pub const ADMIN_SOCKET_NAME: &str = "admin.sock";

/// What lies in the directory and is no part of the store: [`Storage`] neither lists nor touches
/// it.
const BESIDE_THE_STORE: [&str; 2] = [LOCK_NAME, ADMIN_SOCKET_NAME];

/// Messages are for the broker's own user and group.
const FILE_MODE: u32 = 0o640;
const DIRECTORY_MODE: u32 = 0o750;

/// Zeros written at once where the file system cannot reserve room by itself.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// A directory as a [`Storage`].
#[derive(Debug)]
pub struct DirStorage {
    path: PathBuf,
    /// Kept open to be synced: the handle stays good when the path is moved.
    directory: fs::File,
}

impl DirStorage {
    /// Opens the directory `path`, creating it and its missing parents, durably, if needed.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn open_or_create(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        create_durably(path)?;
        let directory = fs::File::open(path).map_err(|e| about(path, e))?;
        if !directory.metadata().map_err(|e| about(path, e))?.is_dir() {
            return Err(about(path, io::ErrorKind::NotADirectory.into()));
        }
        Ok(Self { path: path.to_owned(), directory })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the store lock without waiting, or says that another holds it.
    ///
    /// # Errors
    /// [`LockError::Held`] while another process, or another [`StoreLock`] of this one, has it.
    pub fn try_lock(&self) -> Result<StoreLock, LockError> {
        let path = self.path.join(LOCK_NAME);
        let io = |source| LockError::Io { path: path.clone(), source };
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(&path)
            .map_err(io)?;
        // Fully qualified: `std::fs::File` has methods of like names with other results.
        match fs2::FileExt::try_lock_exclusive(&file) {
            Ok(()) => Ok(StoreLock { _file: file }),
            Err(e) if e.kind() == fs2::lock_contended_error().kind() => {
                Err(LockError::Held { path })
            }
            Err(e) => Err(io(e)),
        }
    }

    fn file(&self, name: &str) -> io::Result<PathBuf> {
        file_in(&self.path, name)
    }

    fn open_with(&self, name: &str, options: &mut fs::OpenOptions) -> io::Result<Arc<dyn File>> {
        let path = self.file(name)?;
        let file = options
            .read(true)
            .write(true)
            .mode(FILE_MODE)
            .open(&path)
            .map_err(|e| about(&path, e))?;
        Ok(Arc::new(DirFile::new(path, file)))
    }
}

/// Creates the missing directories of `path`, each durable in its parent before the next.
fn create_durably(path: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    for ancestor in path.ancestors() {
        if ancestor.as_os_str().is_empty() || ancestor.exists() {
            break;
        }
        missing.push(ancestor);
    }
    for directory in missing.into_iter().rev() {
        match fs::DirBuilder::new().mode(DIRECTORY_MODE).create(directory) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(about(directory, e)),
            _ => {}
        }
        let parent = match directory.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let sync = fs::File::open(parent).and_then(|parent| parent.sync_all());
        sync.map_err(|e| about(parent, e))?;
    }
    Ok(())
}

/// The path of `name`, which must be one file's name inside `directory`.
pub(super) fn file_in(directory: &Path, name: &str) -> io::Result<PathBuf> {
    let plain = Path::new(name).file_name() == Some(OsStr::new(name));
    if !plain || BESIDE_THE_STORE.contains(&name) {
        let what = format!("{name:?} cannot name a file of a store");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    Ok(directory.join(name))
}

/// The names of the store's files in `directory`, sorted.
pub(super) fn list(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(|e| about(directory, e))? {
        let entry = entry.map_err(|e| about(directory, e))?;
        // What is no regular file or no text was not made by a store.
        let regular = entry.file_type().map_err(|e| about(&entry.path(), e))?.is_file();
        if let (true, Ok(name)) = (regular, entry.file_name().into_string()) {
            names.push(name);
        }
    }
    names.retain(|name| !BESIDE_THE_STORE.contains(&name.as_str()));
    names.sort_unstable();
    Ok(names)
}

/// Holds the store lock until dropped, or until the process ends in whatever way.
#[derive(Debug)]
pub struct StoreLock {
    _file: fs::File,
}

impl StoreLock {
    /// The lock of those who read a store without owning it: it keeps its owner out, and not
    /// others who read. Makes no file; `None` where there is none, for an owner would have made it.
    pub(super) fn to_look(directory: &Path) -> Result<Option<Self>, LockError> {
        let path = directory.join(LOCK_NAME);
        let file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LockError::Io { path, source }),
        };
        match fs2::FileExt::try_lock_shared(&file) {
            Ok(()) => Ok(Some(StoreLock { _file: file })),
            Err(e) if e.kind() == fs2::lock_contended_error().kind() => {
                Err(LockError::Held { path })
            }
            Err(source) => Err(LockError::Io { path, source }),
        }
    }
}

/// Why the store lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another broker has the store, or someone looks into it.
    #[error("{}: another process has this store open", path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
    },
    /// The lock file could not be opened or locked.
    #[error("{}: the store lock cannot be taken: {source}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
}

impl Storage for DirStorage {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.open_with(name, &mut fs::OpenOptions::new())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.open_with(name, fs::OpenOptions::new().create_new(true))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.file(from)?, self.file(to)?);
        fs::rename(&from, to).map_err(|e| about(&from, e))
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.file(from)?, self.file(to)?);
        fs::hard_link(&from, to).map_err(|e| about(&from, e))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.file(name)?;
        fs::remove_file(&path).map_err(|e| about(&path, e))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        list(&self.path)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.directory.sync_all().map_err(|e| about(&self.path, e))
    }
}

#[derive(Debug)]
struct DirFile {
    /// As it was when opened: for messages only.
    path: PathBuf,
    file: fs::File,
    /// The same file opened once more, for writes past the page cache; nothing where the system
    /// has no such thing or refused it.
    direct: OnceLock<Option<fs::File>>,
}

impl DirFile {
    fn new(path: PathBuf, file: fs::File) -> Self {
        Self { path, file, direct: OnceLock::new() }
    }

    fn direct(&self) -> Option<&fs::File> {
        self.direct.get_or_init(|| open_direct(&self.file).ok()).as_ref()
    }

    fn about<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|e| about(&self.path, e))
    }

    /// Extends with zeros, with room for every byte below `size`.
    fn extend(&self, old: u64, size: u64) -> io::Result<()> {
        let result = loop {
            match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, size) {
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => break self.extend_by_writing(old, size),
                result => break result.map_err(io::Error::from),
            }
        };
        if result.is_err() {
            // Part of the room may be taken by now; a caller who is refused has changed nothing.
            self.file.set_len(old)?;
        }
        result
    }

    fn extend_by_writing(&self, old: u64, size: u64) -> io::Result<()> {
        let mut at = old;
        while at < size {
            let length = (size - at).min(ZEROS.len() as u64);
            self.file.write_all_at(&ZEROS[..length as usize], at)?;
            at += length;
        }
        Ok(())
    }
}

/// Opens a file that is open once more, for writes past the page cache. By way of the descriptor,
/// since the name may be another by now.
#[cfg(target_os = "linux")]
fn open_direct(file: &fs::File) -> io::Result<fs::File> {
    use std::os::fd::AsRawFd;
    let flags = rustix::fs::OFlags::DIRECT.bits();
    let flags = flags.try_into().map_err(|_| io::ErrorKind::Unsupported)?;
    let name = format!("/proc/self/fd/{}", file.as_raw_fd());
    fs::OpenOptions::new().write(true).custom_flags(flags).open(name)
}

#[cfg(not(target_os = "linux"))]
fn open_direct(_file: &fs::File) -> io::Result<fs::File> {
    Err(io::ErrorKind::Unsupported.into())
}

impl File for DirFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.about(self.file.metadata())?.len())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let old = self.size()?;
        self.about(if size > old { self.extend(old, size) } else { self.file.set_len(size) })
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.about(self.file.read_exact_at(buf, offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.about(self.file.write_all_at(buf, offset))
    }

    fn write_blocks(&self, blocks: &Blocks, offset: u64) -> io::Result<()> {
        if blocks.is_whole()
            && offset.is_multiple_of(BLOCK as u64)
            && let Some(direct) = self.direct()
        {
            match direct.write_all_at(blocks, offset) {
                // The file system says so only now, or wants another alignment.
                Err(e) if e.kind() == io::ErrorKind::InvalidInput => {}
                done => return self.about(done),
            }
        }
        self.write_at(blocks, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.about(self.file.sync_data())
    }
}

/// Adds the path, and makes one kind of all that means "no room".
pub(super) fn about(path: &Path, error: io::Error) -> io::Error {
    let kind = match error.kind() {
        io::ErrorKind::QuotaExceeded => io::ErrorKind::StorageFull,
        kind => kind,
    };
    io::Error::new(kind, format!("{}: {error}", path.display()))
}

/// The clocks of the operating system.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// Monotonic time counts from here.
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn wall(&self) -> Millis {
        // A clock set before 1970 reads as 1970: a wrong time is no reason to stop.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_lock_has_one_holder_and_is_no_file_of_the_store() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/store");
        let (one, two) = (DirStorage::open_or_create(&path), DirStorage::open_or_create(&path));
        let (one, two) = (one.unwrap(), two.unwrap());
        let held = one.try_lock().unwrap();
        assert!(matches!(two.try_lock(), Err(LockError::Held { .. })));
        drop(held);
        let _held = two.try_lock().unwrap();
        assert_eq!(one.list().unwrap(), Vec::<String>::new());
        assert_eq!(one.remove("lock").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_name_that_leads_out_of_the_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let storage = DirStorage::open_or_create(directory.path()).unwrap();
        for name in ["", ".", "..", "a/b", "../a", "/a", "a/"] {
            assert_eq!(storage.create(name).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn an_extended_file_has_room_for_all_of_its_bytes() {
        use std::os::unix::fs::MetadataExt;
        let directory = tempfile::tempdir().unwrap();
        let storage = DirStorage::open_or_create(directory.path()).unwrap();
        let file = storage.create("a").unwrap();
        file.write_at(b"x", 300_000).unwrap();
        file.set_size(1 << 20).unwrap();
        let taken = fs::metadata(directory.path().join("a")).unwrap().blocks() * 512;
        assert!(taken >= 1 << 20, "{taken} bytes reserved");
    }

    #[test]
    fn where_room_cannot_be_reserved_it_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::write(&path, b"one").unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        DirFile::new(path.clone(), file).extend_by_writing(3, 200_000).unwrap();
        let content = fs::read(&path).unwrap();
        assert_eq!((&content[..3], content.len()), (&b"one"[..], 200_000));
        assert!(content[3..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn the_system_clock_tells_this_century_and_does_not_run_backwards() {
        let clock = SystemClock::new();
        assert!(clock.wall() > Millis(1_700_000_000_000));
        let first = clock.monotonic();
        assert!(clock.monotonic() >= first);
    }
}
