//! A simulated disk and clock: deterministic, in memory, with the faults of real ones.
//!
//! Owns the rules of what a process sees, what a sync makes durable, and which faults strike when;
//! `crash` owns what a power cut leaves behind, `image` the bytes.
//! Always: the same calls in the same order give the same results, faults and crashes from the
//! same seed; a copy of a disk costs little, so that each of many crash points can be tried.
//! Leaves to others: what the files mean, and the choice of when to crash.

mod clock;
mod crash;
mod image;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

pub use self::clock::SimClock;

use self::crash::{Effect, NameChange, NameChangeKind, Weather, What, mix};
use self::image::{Image, zeros};
use super::{File, Storage};

/// A fault, to strike at one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The operation fails once. A failed write may have written its first part. After a failed
    /// sync what was unsynced is still seen by the process, but is not written by a later sync
    /// (as Linux does: the pages are marked clean).
    Io,
    /// This and every later operation that changes state fails; reads go on.
    Persistent,
    /// From this operation on nothing grows, until [`SimDisk::set_capacity`].
    Full,
    /// The power goes during this operation: it and every later call fail. What it was to do is
    /// as unsynced as the rest; see [`SimDisk::snapshot_crash`].
    PowerOff,
}

/// A disk in memory. Clones are handles to the same disk.
///
/// An *operation* is a call that changes state: create, write, `set_size`, sync, rename, link,
/// remove, `sync_dir`. They count from 0 on each disk, and on each disk that a crash leaves behind.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<Disk>>);

#[derive(Clone, Default)]
struct Disk {
    /// As the process sees them.
    names: BTreeMap<String, u64>,
    /// As they are after a power cut, before the dice.
    durable_names: BTreeMap<String, u64>,
    pending_names: Vec<NameChange>,
    inodes: BTreeMap<u64, Inode>,
    last_inode: u64,
    capacity: Option<u64>,
    operations: u64,
    reads: u64,
    bytes_read: u64,
    faults: BTreeMap<u64, Fault>,
    power_off: bool,
    broken: bool,
    lying_syncs: Vec<String>,
    lying_sync_dir: bool,
    last_verb: &'static str,
    last_class: String,
    fingerprint: u64,
    trace: Option<Vec<String>>,
    moments: Option<Vec<Moment>>,
}

/// The disk as it was just before an operation.
#[derive(Clone, Debug)]
pub struct Moment {
    /// What the operation was to be; see [`SimDisk::last_label`].
    pub label: String,
    /// The disk, to be crashed or killed.
    pub disk: SimDisk,
}

#[derive(Clone, Default)]
struct Inode {
    /// The last name it was given; for labels, and for syncs that lie.
    name: String,
    now: Image,
    durable: Image,
    pending: Vec<Effect>,
    /// A sync failed: what the process sees is not all that a later sync will write.
    dropped: bool,
}

/// How an operation goes.
enum Course {
    Normal,
    /// It happens, but nobody hears of it: the power goes.
    PowerGoes,
    Fails,
}

impl Course {
    fn result(self) -> io::Result<()> {
        match self {
            Self::Normal => Ok(()),
            Self::PowerGoes => Err(power_off()),
            Self::Fails => Err(io_error()),
        }
    }
}

impl SimDisk {
    /// An empty disk without a limit.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::default())
    }

    /// An empty disk with room for `bytes` of content, counted in pages of 4 KiB per file.
    #[must_use]
    pub fn with_capacity(bytes: u64) -> Self {
        let disk = Self::new();
        disk.set_capacity(bytes);
        disk
    }

    /// Changes the room; what is there stays, even if it is more.
    pub fn set_capacity(&self, bytes: u64) {
        self.disk().capacity = Some(bytes);
    }

    /// Bytes of content that the files take, in pages.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.disk().used()
    }

    /// How many operations there were: the number of the next one.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.disk().operations
    }

    /// How many reads there were, and the bytes they gave.
    #[must_use]
    pub fn reads(&self) -> (u64, u64) {
        let disk = self.disk();
        (disk.reads, disk.bytes_read)
    }

    /// Lets `fault` strike at the operation with the number `operation`.
    pub fn fail_at(&self, operation: u64, fault: Fault) {
        self.disk().faults.insert(operation, fault);
    }

    /// Whether the power went.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.disk().power_off
    }

    /// What the last operation was, by kind of file (the name up to the first digit or dot), for a
    /// histogram of where crashes fell: `write wal-`, `sync index`, `sync_dir`.
    #[must_use]
    pub fn last_label(&self) -> String {
        let disk = self.disk();
        format!("{} {}", disk.last_verb, disk.last_class).trim_end().to_owned()
    }

    /// A digest of all operations with their names, places and bytes: two runs that should be the
    /// same have the same.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.disk().fingerprint
    }

    /// Begins to keep a line for each operation; to find where two runs part.
    pub fn start_trace(&self) {
        self.disk().trace = Some(Vec::new());
    }

    /// The lines since [`SimDisk::start_trace`].
    #[must_use]
    pub fn trace(&self) -> Vec<String> {
        self.disk().trace.clone().unwrap_or_default()
    }

    /// Begins to keep the disk as it is before each operation at which a power cut could lose
    /// anything.
    pub fn start_moments(&self) {
        self.disk().moments = Some(Vec::new());
    }

    /// Takes the moments kept since the last call.
    #[must_use]
    pub fn take_moments(&self) -> Vec<Moment> {
        self.disk().moments.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Whether a power cut now could lose anything.
    #[must_use]
    pub fn has_unsynced(&self) -> bool {
        self.disk().has_unsynced()
    }

    /// The disk as it is found after a power cut now, chosen by `seed`. This disk is unharmed, so
    /// that many seeds can be tried on it. The other has its lies and capacity, but no faults.
    #[must_use]
    pub fn snapshot_crash(&self, seed: u64) -> Self {
        let disk = self.disk();
        disk.found_after(disk.weather(seed))
    }

    /// The same where the power cut loses everything that is not synced.
    #[must_use]
    pub fn snapshot_synced(&self) -> Self {
        self.disk().found_after(Weather::nothing_survives())
    }

    /// The disk as the next process finds it when this one was killed: all that it saw is there,
    /// and what was unsynced is still unsynced. Without faults.
    #[must_use]
    pub fn kill(&self) -> Self {
        let mut disk = self.disk().clone();
        disk.faults.clear();
        disk.power_off = false;
        disk.broken = false;
        disk.operations = 0;
        disk.fingerprint = 0;
        disk.trace = None;
        disk.moments = None;
        for change in &mut disk.pending_names {
            change.ordinal = 0;
        }
        for effect in disk.inodes.values_mut().flat_map(|inode| &mut inode.pending) {
            effect.ordinal = 0;
        }
        Self(Arc::new(Mutex::new(disk)))
    }

    /// Flips bit `bit` (0 to 7) of a byte of a file, as the process sees it and on the disk.
    pub fn flip_bit(&self, name: &str, offset: u64, bit: u8) {
        let mut disk = self.disk();
        let inode = disk.file_named(name);
        for image in [&mut inode.now, &mut inode.durable] {
            if offset < image.len() {
                let mut byte = [0];
                image.read(&mut byte, offset);
                image.write(&[byte[0] ^ (1 << bit)], offset);
            }
        }
    }

    /// The content of a file, as the process sees it; works without power.
    #[must_use]
    pub fn read_file(&self, name: &str) -> Vec<u8> {
        let mut disk = self.disk();
        let image = &disk.file_named(name).now;
        let mut content = vec![0; usize::try_from(image.len()).expect("fits into memory")];
        image.read(&mut content, 0);
        content
    }

    /// Makes `content` the whole, durable content of a file, with its name; is no operation.
    pub fn write_file(&self, name: &str, content: &[u8]) {
        let mut disk = self.disk();
        let number = disk.names.get(name).copied().unwrap_or_else(|| disk.new_inode(name));
        disk.names.insert(name.to_owned(), number);
        disk.durable_names.insert(name.to_owned(), number);
        let mut image = Image::default();
        image.write(content, 0);
        let name = name.to_owned();
        let inode = Inode { name, now: image.clone(), durable: image, ..Inode::default() };
        disk.inodes.insert(number, inode);
    }

    /// From now on a sync of files whose name begins so says yes and does nothing.
    pub fn ignore_sync(&self, name_prefix: &str) {
        self.disk().lying_syncs.push(name_prefix.to_owned());
    }

    /// From now on `sync_dir` says yes and does nothing.
    pub fn ignore_sync_dir(&self) {
        self.disk().lying_sync_dir = true;
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().expect("no call on a simulated disk panics half way")
    }

    fn handle(&self, inode: u64) -> Arc<dyn File> {
        Arc::new(SimFile { disk: self.clone(), inode })
    }
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let disk = self.disk();
        let files = disk.names.iter().map(|(name, inode)| (name, disk.inodes[inode].now.len()));
        f.debug_map().entries(files).finish()
    }
}

impl Disk {
    /// Counts and describes an operation, and says how it goes.
    fn begin(
        &mut self,
        verb: &'static str,
        name: &str,
        at: (u64, u64),
        bytes: &[u8],
    ) -> io::Result<Course> {
        self.powered()?;
        let operation = self.operations;
        self.operations += 1;
        self.last_verb = verb;
        self.last_class.clear();
        let class = name.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(name.len());
        self.last_class.push_str(&name[..class]);
        self.keep_moment();
        let digest = crc32fast::hash(bytes);
        let place = mix(at.0, at.1, u64::from(crc32fast::hash(name.as_bytes())));
        let what = u64::from(crc32fast::hash(verb.as_bytes())) << 32 | u64::from(digest);
        self.fingerprint = mix(self.fingerprint, place, what);
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{verb} {name} {}+{} {digest:08x}", at.0, at.1));
        }
        Ok(match self.faults.get(&operation) {
            Some(Fault::PowerOff) => {
                self.power_off = true;
                Course::PowerGoes
            }
            Some(Fault::Io) => Course::Fails,
            Some(Fault::Persistent) => {
                self.broken = true;
                Course::Fails
            }
            Some(Fault::Full) => {
                self.capacity = Some(self.used());
                Course::Normal
            }
            None if self.broken => Course::Fails,
            None => Course::Normal,
        })
    }

    fn keep_moment(&mut self) {
        if let Some(mut moments) = self.moments.take() {
            if self.has_unsynced() {
                let label = format!("{} {}", self.last_verb, self.last_class).trim_end().to_owned();
                let disk = SimDisk(Arc::new(Mutex::new(self.clone())));
                moments.push(Moment { label, disk });
            }
            self.moments = Some(moments);
        }
    }

    fn has_unsynced(&self) -> bool {
        !self.pending_names.is_empty() || self.inodes.values().any(|i| !i.pending.is_empty())
    }

    fn powered(&self) -> io::Result<()> {
        if self.power_off { Err(power_off()) } else { Ok(()) }
    }

    fn lookup(&self, name: &str) -> io::Result<u64> {
        self.names
            .get(name)
            .copied()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{name}: no such file")))
    }

    fn vacant(&self, name: &str) -> io::Result<()> {
        match self.names.get(name) {
            Some(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{name} exists"))),
            None => Ok(()),
        }
    }

    fn file_named(&mut self, name: &str) -> &mut Inode {
        let number = self.names.get(name).unwrap_or_else(|| panic!("no file {name}"));
        self.inodes.get_mut(number).expect("a name leads to a file")
    }

    fn inode(&mut self, number: u64) -> &mut Inode {
        self.inodes.get_mut(&number).expect("a file outlives its handles")
    }

    fn new_inode(&mut self, name: &str) -> u64 {
        self.last_inode += 1;
        let inode = Inode { name: name.to_owned(), ..Inode::default() };
        self.inodes.insert(self.last_inode, inode);
        self.last_inode
    }

    fn used(&self) -> u64 {
        let mut named: Vec<u64> = self.names.values().copied().collect();
        named.sort_unstable();
        named.dedup();
        named.iter().map(|number| pages(self.inodes[number].now.len())).sum::<u64>()
    }

    /// `StorageFull` if the disk cannot take `more` bytes.
    fn room(&self, more: u64) -> io::Result<()> {
        match self.capacity {
            Some(capacity) if more > 0 && self.used() + more > capacity => {
                Err(io::Error::new(io::ErrorKind::StorageFull, "the simulated disk is full"))
            }
            _ => Ok(()),
        }
    }

    fn change_names(&mut self, kind: NameChangeKind) {
        kind.apply(&mut self.names);
        self.pending_names.push(NameChange { ordinal: self.operations - 1, kind });
    }

    fn write(&mut self, number: u64, bytes: &[u8], offset: u64) {
        let ordinal = self.operations - 1;
        let inode = self.inode(number);
        let (from, to) = (inode.now.len(), offset + bytes.len() as u64);
        if to > from {
            inode.pending.push(Effect { ordinal, what: What::Length { from, to } });
        }
        inode.now.write(bytes, offset);
        let what = if zeros(bytes) {
            What::Zeros { offset, len: bytes.len() as u64 }
        } else {
            What::Data { offset, bytes: bytes.into() }
        };
        inode.pending.push(Effect { ordinal, what });
    }

    fn set_size(&mut self, number: u64, to: u64) {
        let ordinal = self.operations - 1;
        let inode = self.inode(number);
        let from = inode.now.len();
        if from != to {
            inode.now.set_len(to);
            inode.pending.push(Effect { ordinal, what: What::Length { from, to } });
        }
    }

    /// A failed sync: some of it may be on the disk, and none of it will be tried again.
    fn drop_unsynced(&mut self, number: u64) {
        let ordinal = self.operations - 1;
        let weather = self.weather(ordinal);
        let inode = self.inode(number);
        inode.durable = weather.file(number, &inode.durable, &inode.pending);
        inode.pending.clear();
        inode.dropped = true;
        // The length is no page: the next sync writes it.
        let (from, to) = (inode.durable.len(), inode.now.len());
        if from != to {
            inode.pending.push(Effect { ordinal, what: What::Length { from, to } });
        }
    }

    fn weather(&self, seed: u64) -> Weather {
        let effects = self.inodes.values().flat_map(|i| i.pending.iter().map(|e| e.ordinal));
        let changes = self.pending_names.iter().map(|change| change.ordinal);
        let (mut oldest, mut newest) = (u64::MAX, 0);
        for ordinal in effects.chain(changes) {
            (oldest, newest) = (oldest.min(ordinal), newest.max(ordinal));
        }
        Weather::new(seed, oldest.min(newest), newest)
    }
}

impl Inode {
    fn sync(&mut self) {
        if self.dropped {
            // Pages are written whole, so a dropped write that shares one with a later goes along.
            let len = self.now.len();
            self.durable.set_len(len);
            for effect in &self.pending {
                let (from, to) = effect.what.range();
                self.durable.take_pages(&self.now, from.min(len), to.min(len));
            }
        } else {
            self.durable = self.now.clone();
        }
        self.pending.clear();
    }
}

impl Storage for SimDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let disk = self.disk();
        disk.powered()?;
        Ok(self.handle(disk.lookup(name)?))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut disk = self.disk();
        let course = disk.begin("create", name, (0, 0), &[])?;
        if let Course::Fails = course {
            return Err(io_error());
        }
        disk.vacant(name)?;
        disk.room(1)?;
        let inode = disk.new_inode(name);
        disk.change_names(NameChangeKind::Add { name: name.to_owned(), inode });
        course.result()?;
        Ok(self.handle(inode))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk();
        let course = disk.begin("rename", to, (0, 0), from.as_bytes())?;
        if let Course::Fails = course {
            return Err(io_error());
        }
        let inode = disk.lookup(from)?;
        // Between two names of one file POSIX changes nothing.
        if disk.names.get(to) != Some(&inode) {
            let (from, to) = (from.to_owned(), to.to_owned());
            disk.inode(inode).name.clone_from(&to);
            disk.change_names(NameChangeKind::Rename { from, to, inode });
        }
        course.result()
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk();
        let course = disk.begin("link", to, (0, 0), from.as_bytes())?;
        if let Course::Fails = course {
            return Err(io_error());
        }
        let inode = disk.lookup(from)?;
        disk.vacant(to)?;
        disk.room(1)?;
        disk.inode(inode).name = to.to_owned();
        disk.change_names(NameChangeKind::Add { name: to.to_owned(), inode });
        course.result()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        let course = disk.begin("remove", name, (0, 0), &[])?;
        if let Course::Fails = course {
            return Err(io_error());
        }
        disk.lookup(name)?;
        disk.change_names(NameChangeKind::Remove { name: name.to_owned() });
        course.result()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let disk = self.disk();
        disk.powered()?;
        Ok(disk.names.keys().cloned().collect())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut disk = self.disk();
        disk.begin("sync_dir", "", (0, 0), &[])?.result()?;
        if !disk.lying_sync_dir {
            disk.durable_names = disk.names.clone();
            disk.pending_names.clear();
        }
        Ok(())
    }

    fn free(&self) -> io::Result<u64> {
        let disk = self.disk();
        disk.powered()?;
        Ok(disk.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(disk.used())))
    }
}

struct SimFile {
    disk: SimDisk,
    inode: u64,
}

impl SimFile {
    fn begin(
        &self,
        disk: &mut Disk,
        verb: &'static str,
        at: (u64, u64),
        bytes: &[u8],
    ) -> io::Result<Course> {
        let name = std::mem::take(&mut disk.inode(self.inode).name);
        let course = disk.begin(verb, &name, at, bytes);
        disk.inode(self.inode).name = name;
        course
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimFile").field(&self.inode).finish()
    }
}

impl File for SimFile {
    fn size(&self) -> io::Result<u64> {
        let mut disk = self.disk.disk();
        disk.powered()?;
        Ok(disk.inode(self.inode).now.len())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let mut disk = self.disk.disk();
        let course = self.begin(&mut disk, "set_size", (size, 0), &[])?;
        if let Course::Fails = course {
            return Err(io_error());
        }
        let old = disk.inode(self.inode).now.len();
        disk.room(pages(size).saturating_sub(pages(old)))?;
        disk.set_size(self.inode, size);
        course.result()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut disk = self.disk.disk();
        disk.powered()?;
        let image = &disk.inode(self.inode).now;
        if offset + buf.len() as u64 > image.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        image.read(buf, offset);
        disk.reads += 1;
        disk.bytes_read += buf.len() as u64;
        Ok(())
    }

    fn write_at(&self, mut buf: &[u8], offset: u64) -> io::Result<()> {
        let mut disk = self.disk.disk();
        let course = self.begin(&mut disk, "write", (offset, buf.len() as u64), buf)?;
        if let Course::Fails = course {
            let written = mix(disk.operations, self.inode, offset) % (buf.len() as u64 + 1);
            buf = &buf[..written as usize];
        }
        let old = disk.inode(self.inode).now.len();
        disk.room(pages(offset + buf.len() as u64).saturating_sub(pages(old)))?;
        if !buf.is_empty() {
            disk.write(self.inode, buf, offset);
        }
        course.result()
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.disk.disk();
        match self.begin(&mut disk, "sync", (0, 0), &[])? {
            Course::PowerGoes => return Err(power_off()),
            Course::Fails => {
                disk.drop_unsynced(self.inode);
                return Err(io_error());
            }
            Course::Normal => {}
        }
        let disk = &mut *disk;
        let inode = disk.inodes.get_mut(&self.inode).expect("a file outlives its handles");
        if !disk.lying_syncs.iter().any(|prefix| inode.name.starts_with(prefix)) {
            inode.sync();
        }
        Ok(())
    }
}

fn pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(image::PAGE as u64)
}

fn power_off() -> io::Error {
    io::Error::other("the simulated power is off")
}

fn io_error() -> io::Error {
    io::Error::other("a simulated I/O error")
}
