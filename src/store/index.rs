//! The index: the durable state up to a checkpoint, as ordered tables in a redb database.
//!
//! Owns the file `index.redb`: its life, its tables, and what an error of it means.
//! Always: a commit is one durable transaction that holds a delta and the point in the log where
//! replay goes on; what is found on opening is the state after exactly one of them. The file
//! appears whole: under its name it has at least one commit.
//! Leaves to others: when to commit, and that the log is durable to the replay point before
//! (`checkpoint`); what the rows mean (`crate::broker::delta`); bytes of a row (`row`).

mod branches;
mod check;
mod error;
mod late;
mod moved;
mod names;
mod operations;
mod packs;
mod pieces;
mod producers;
mod row;
mod shares;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::{Bound, RangeInclusive};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard};

use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    UntypedTableHandle,
};

pub use self::check::Report;
pub use self::error::{CommitError, IndexError};
use self::error::{bad_row, damaged, error, guarded, io_error};
use self::moved::Entries;
pub use self::packs::View;
pub(crate) use self::row::FORMAT;
use self::row::{
    BRANCHES, BadRow, Checkpoint, DUE, ENTRIES, HEURISTICS, LATE, META, MOVED, NAMES, NOTES,
    OPERATIONS, PACKS, PIECES, PRODUCERS, QUEUES, SEGMENTS, SHARES, TRANSACTIONS, UPLOADS,
};
use self::row::{OUTCOME_NUMBERS, OUTCOMES};
use self::shares::Sums;
pub use self::snapshot::{IndexCopy, Snapshot};
use super::backend::Backend;
use super::reserve;
use crate::broker::delta::Unshared;
use crate::broker::delta::{
    self, BranchRow, Delta, Entry, HeuristicRow, NameRow, NoteRow, Place, ProducerRow, QueueRow,
    Remembered, Scalars, Scope, Sequences, TransactionRow, UploadRow,
};
use crate::identity::Identity;
use crate::ids::{Lsn, NoteId, QueueId, TransactionId, UploadId, Xid};
use crate::io::Storage;
use crate::wal::{PackId, ReplayPoint};

/// The name of the file.
pub const INDEX_NAME: &str = "index.redb";
/// Two pages of redb.
const ROW_BYTES_MAX: u64 = 8 << 10;
/// The name while it is being made.
const TEMPORARY_NAME: &str = "index.redb.tmp";

/// What the index knew when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Base {
    /// Where replay goes on; `None` before the first commit. A caller who gets `None` needs the
    /// log from its very beginning, and must refuse a log that has lost its first segments: the
    /// file was removed by somebody else's hand.
    pub replay: Option<ReplayPoint>,
    /// All queues.
    pub queues: BTreeMap<QueueId, QueueRow>,
    /// Uploads that no message owns.
    pub uploads: BTreeMap<UploadId, UploadRow>,
    /// What is remembered of messages that were set apart.
    pub notes: BTreeMap<NoteId, NoteRow>,
    /// Some message is delayed.
    pub delayed: bool,
    /// Transactions that are not over.
    pub transactions: BTreeMap<TransactionId, TransactionRow>,
    /// Prepared branches, by their transactions.
    pub branches: BTreeMap<TransactionId, BranchRow>,
    /// What operators have decided of branches.
    pub heuristics: BTreeMap<Xid, HeuristicRow>,
    /// Which outcomes of branches are remembered.
    pub remembered: Remembered,
    /// Names that are taken, by scope and number.
    pub names: BTreeMap<(Scope, u64), NameRow>,
    /// There are producers that count what they send: see [`Index::producers`].
    pub has_producers: bool,
    /// Those that have been read already: see [`Base::with_producers`].
    pub producers: Vec<(Identity, ProducerRow)>,
    /// What producers have sent in transactions that are not over.
    pub numbered: BTreeMap<(TransactionId, Identity), Sequences>,
    /// Live bytes per segment, by ordinal; a segment without any is not there.
    pub live: BTreeMap<u64, u64>,
    /// The pack in which the live frames of a segment lie, by its ordinal, where they lie in one.
    pub packs: BTreeMap<u64, PackId>,
    /// The scalars.
    pub scalars: Scalars,
}

impl Base {
    /// What a broker begins with.
    #[must_use]
    pub fn into_durable(self) -> delta::Base {
        let through = self.replay.map_or(Lsn(0), |replay| replay.through);
        let Self { queues, uploads, transactions, notes, delayed, names, .. } = self;
        let Self { branches, heuristics, remembered, .. } = self;
        let Self { has_producers, producers, numbered, live, scalars, .. } = self;
        delta::Base {
            through,
            queues,
            uploads,
            transactions,
            branches,
            heuristics,
            remembered,
            notes,
            delayed,
            names,
            has_producers,
            producers,
            numbered,
            live,
            scalars,
        }
    }
}

/// Sizes, for an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexStats {
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Messages in the index.
    pub entries: u64,
    /// Queues in the index.
    pub queues: u64,
    /// Segments of the log with live bytes.
    pub segments: u64,
}

/// An open index. Reads and one commit at a time may run beside each other.
pub struct Index {
    storage: Arc<dyn Storage>,
    store_id: u128,
    cache_bytes: usize,
    /// The number of the last checkpoint; held during a commit.
    commits: Mutex<u64>,
    /// Bytes kept aside for a full disk at least; 0: none are.
    reserve_min: u64,
    state: RwLock<State>,
    /// How often it was opened again.
    opened: AtomicU64,
}

enum State {
    Open(Handle),
    /// The disk was too full to go on: to be opened again by whoever needs it next.
    Closed,
    Failed,
}

impl Index {
    /// Opens the index of the store `store_id`, or makes an empty one. `cache_bytes` bounds the
    /// memory for pages.
    ///
    /// # Errors
    /// See [`IndexError`]: each says what to do.
    pub fn open(
        storage: Arc<dyn Storage>,
        store_id: u128,
        cache_bytes: usize,
    ) -> Result<(Self, Base), IndexError> {
        let (database, (commits, base)) = guarded(|| {
            let database = match open_existing(&*storage, cache_bytes)? {
                Some(database) => database,
                None => create(&*storage, store_id, cache_bytes)?,
            };
            let base = read_base(&database, store_id)?;
            Ok((database, base))
        })?;
        let state = RwLock::new(State::Open(Handle(Some(database))));
        let commits = Mutex::new(commits);
        let opened = AtomicU64::new(0);
        let index = Self { storage, store_id, cache_bytes, commits, reserve_min: 0, state, opened };
        Ok((index, base))
    }

    /// Makes an older index one of this version, durably: for those who are to write to the log,
    /// which an older version could not read from then on. Who only looks leaves it as it is.
    ///
    /// # Errors
    /// Those of the disk; the index is as it was then.
    pub fn raise(&self) -> Result<(), IndexError> {
        let (state, this) = (self.database()?, FORMAT.to_le_bytes());
        guarded(|| {
            let read = state.database().begin_read().map_err(error)?;
            let found = read.open_table(META).map_err(error)?.get(row::META_FORMAT);
            if found.map_err(error)?.is_some_and(|found| found.value() == this) {
                return Ok(());
            }
            let write = begin_write(state.database())?;
            let mut meta = write.open_table(META).map_err(error)?;
            meta.insert(row::META_FORMAT, this.as_slice()).map_err(error)?;
            drop(meta);
            write.commit().map_err(error)
        })
    }

    /// Merges `delta` into the index and moves the replay point, as one durable transaction.
    ///
    /// The log must be durable through `replay.through` before. A queue that is gone takes all of
    /// its entries along, whether or not the delta names them. Gives the bytes of each segment of
    /// which it has found that nobody holds them any more.
    ///
    /// # Errors
    /// [`CommitError::Full`] changes nothing; after [`CommitError::Failed`] the index is closed
    /// for good.
    ///
    /// # Panics
    /// If the live bytes of a segment would fall below zero: that is a bug of the caller.
    pub fn commit(&self, delta: &Delta, replay: ReplayPoint) -> Result<Unshared, CommitError> {
        match self.try_commit(delta, replay) {
            // What it frees it can give back only once it is done: this is what the reserve is for.
            Err(CommitError::Full) if self.release_reserve() => self.try_commit(delta, replay),
            result => result,
        }
    }

    fn try_commit(&self, delta: &Delta, replay: ReplayPoint) -> Result<Unshared, CommitError> {
        let mut commits = self.commits.lock().expect("no commit panicked before");
        let checkpoint = Checkpoint { number: *commits + 1, replay };
        let mut unshared = Unshared::new();
        let result = match self.database() {
            Ok(state) => shares::add_up(state.database(), delta).and_then(|sums| {
                unshared.clone_from(&sums.unshared);
                write(state.database(), delta, &sums, &checkpoint)
            }),
            Err(error) => Err(error),
        };
        let result = match result {
            // redb goes no further after any error; only a new start tells what became of it.
            Err(IndexError::Full) => self.reopen().and_then(|found| match found - *commits {
                0 => Err(IndexError::Full),
                _ => Ok(()),
            }),
            result => result,
        };
        match result {
            Ok(()) => {
                *commits = checkpoint.number;
                Ok(unshared)
            }
            Err(IndexError::Full) => Err(CommitError::Full),
            Err(error) => {
                *self.state.write().expect(UNPOISONED) = State::Failed;
                Err(CommitError::Failed(error))
            }
        }
    }

    /// Keeps room aside from now on: `bytes`, and beside them as much as the file has, for redb
    /// doubles it when it grows; not where the file is so empty that it does not. It is given back
    /// to the file system when the disk is full.
    pub fn keep_reserve(&mut self, bytes: u64) {
        self.reserve_min = bytes;
    }

    /// Sets aside anew what was given back, as far as there is room.
    pub fn restore_reserve(&self) {
        if self.reserve_min == 0 {
            return;
        }
        let file = self.storage.open(INDEX_NAME).and_then(|file| file.size()).unwrap_or(0);
        let wanted = self.reserve_min + if self.is_roomy(file) { 0 } else { file };
        // A disk that refuses is asked again: it is a reserve, and not the store.
        if reserve::set_aside(&*self.storage, wanted).is_err() {
            let _ = reserve::set_aside(&*self.storage, self.reserve_min);
        }
    }

    /// Whether a commit that writes all of the index anew finds room for that in its file: no row
    /// takes more than a page and its share of those above. What cannot be read is not roomy.
    fn is_roomy(&self, file: u64) -> bool {
        let rows = || -> Result<u64, IndexError> {
            let state = self.database()?;
            let transaction = state.database().begin_read().map_err(error)?;
            let tables = transaction.list_tables().map_err(error)?;
            tables.map(|table| rows_of(&transaction, table)).sum()
        };
        rows().is_ok_and(|rows| rows.saturating_mul(ROW_BYTES_MAX) < file / 2)
    }

    /// Whether what is to be kept aside is.
    #[must_use]
    pub fn has_reserve(&self) -> bool {
        self.reserve_min == 0 || reserve::bytes(&*self.storage) >= self.reserve_min
    }

    fn release_reserve(&self) -> bool {
        self.reserve_min > 0 && reserve::release(&*self.storage)
    }

    /// At most `limit` entries of `queue`, in the order of delivery, strictly after `after`.
    ///
    /// # Errors
    /// [`IndexError::Damaged`] where a row is not what its key says, and those of the disk.
    pub fn page(
        &self,
        queue: QueueId,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Vec<(Place, Entry)>, IndexError> {
        let state = self.database()?;
        guarded(|| read_page(state.database(), queue, after, limit))
    }

    /// Sizes now.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn stats(&self) -> Result<IndexStats, IndexError> {
        let state = self.database()?;
        let read = state.database().begin_read().map_err(error)?;
        Ok(IndexStats {
            file_bytes: self.storage.open(INDEX_NAME).and_then(|f| f.size()).map_err(io_error)?,
            entries: read.open_table(ENTRIES).map_err(error)?.len().map_err(error)?,
            queues: read.open_table(QUEUES).map_err(error)?.len().map_err(error)?,
            segments: read.open_table(SEGMENTS).map_err(error)?.len().map_err(error)?,
        })
    }

    /// Closes it for good. Whoever embeds a broker may keep it long after its end, and what redb
    /// writes when it lets go of the file must not come behind a new owner's.
    pub fn close(&self) {
        *self.state.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = State::Failed;
    }

    /// The open database; opens it again where a full disk had closed it.
    fn database(&self) -> Result<OpenState<'_>, IndexError> {
        for _ in 0..2 {
            let state = self.state.read().expect(UNPOISONED);
            match &*state {
                State::Open(_) => return Ok(OpenState(state)),
                State::Failed => return Err(IndexError::Failed),
                State::Closed => {}
            }
            drop(state);
            match self.reopen() {
                Err(IndexError::Full) if self.release_reserve() => self.reopen()?,
                result => result?,
            };
        }
        Err(IndexError::Full)
    }

    /// Closes and opens; gives the number of the last checkpoint found.
    fn reopen(&self) -> Result<u64, IndexError> {
        let mut state = self.state.write().expect(UNPOISONED);
        if let State::Failed = *state {
            return Err(IndexError::Failed);
        }
        self.opened.fetch_add(1, Ordering::AcqRel);
        // The old handle must let go of the file before the new one reads it.
        *state = State::Closed;
        let (database, checkpoint) = guarded(|| {
            let database = open_existing(&*self.storage, self.cache_bytes)?
                .ok_or_else(|| damaged("it has vanished"))?;
            let checkpoint = read_head(&database, self.store_id)?;
            Ok((database, checkpoint))
        })?;
        *state = State::Open(Handle(Some(database)));
        Ok(checkpoint.map_or(0, |checkpoint| checkpoint.number))
    }
}

/// An open database that is closed without a panic, whatever is on the disk.
struct Handle(Option<Database>);

impl Handle {
    fn get(&mut self) -> &mut Database {
        self.0.as_mut().expect("is there until dropped")
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Closing keeps nothing that a commit did not: its failure is no one's loss.
        let _ = guarded(|| {
            drop(self.0.take());
            Ok(())
        });
    }
}

const UNPOISONED: &str = "nothing panics while the state changes";

/// Proof that the state is open, for as long as it is held.
struct OpenState<'a>(RwLockReadGuard<'a, State>);

impl OpenState<'_> {
    fn database(&self) -> &Database {
        match &*self.0 {
            State::Open(handle) => handle.0.as_ref().expect("is there until dropped"),
            State::Closed | State::Failed => unreachable!("was open and is held"),
        }
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("commits", &self.commits).finish_non_exhaustive()
    }
}

fn rows_of(transaction: &ReadTransaction, table: UntypedTableHandle) -> Result<u64, IndexError> {
    transaction.open_untyped_table(table).map_err(error)?.len().map_err(error)
}

fn builder(cache_bytes: usize) -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(cache_bytes);
    builder
}

/// `None` if there is no file.
fn open_existing(
    storage: &dyn Storage,
    cache_bytes: usize,
) -> Result<Option<Database>, IndexError> {
    let file = match storage.open(INDEX_NAME) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io_error(e)),
    };
    // redb would make a new database of an empty file; ours appears whole.
    if file.size().map_err(io_error)? == 0 {
        return Err(damaged("it is empty"));
    }
    builder(cache_bytes).create_with_backend(Backend(file)).map(Some).map_err(error)
}

/// Makes the file under another name first, so that it appears whole or not at all.
fn create(
    storage: &dyn Storage,
    store_id: u128,
    cache_bytes: usize,
) -> Result<Database, IndexError> {
    match storage.remove(TEMPORARY_NAME) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io_error(e)),
        _ => {}
    }
    let file = storage.create(TEMPORARY_NAME).map_err(io_error)?;
    let database =
        builder(cache_bytes).create_with_backend(Backend(Arc::clone(&file))).map_err(error)?;
    let write = begin_write(&database)?;
    {
        write.open_table(ENTRIES).map_err(error)?;
        write.open_table(QUEUES).map_err(error)?;
        write.open_table(SEGMENTS).map_err(error)?;
        write.open_table(PIECES).map_err(error)?;
        write.open_table(UPLOADS).map_err(error)?;
        write.open_table(OPERATIONS).map_err(error)?;
        write.open_table(TRANSACTIONS).map_err(error)?;
        write.open_table(BRANCHES).map_err(error)?;
        write.open_table(HEURISTICS).map_err(error)?;
        write.open_table(OUTCOMES).map_err(error)?;
        write.open_table(OUTCOME_NUMBERS).map_err(error)?;
        write.open_table(PACKS).map_err(error)?;
        write.open_table(NAMES).map_err(error)?;
        write.open_table(PRODUCERS).map_err(error)?;
        write.open_table(MOVED).map_err(error)?;
        write.open_table(SHARES).map_err(error)?;
        write.open_table(LATE).map_err(error)?;
        write.open_table(DUE).map_err(error)?;
        write.open_table(NOTES).map_err(error)?;
        let mut meta = write.open_table(META).map_err(error)?;
        let format = FORMAT.to_le_bytes();
        meta.insert(row::META_FORMAT, format.as_slice()).map_err(error)?;
        meta.insert(row::META_STORE, store_id.to_le_bytes().as_slice()).map_err(error)?;
        let scalars = row::encode(row::META_SCALARS.as_bytes(), &Scalars::default());
        meta.insert(row::META_SCALARS, scalars.as_slice()).map_err(error)?;
    }
    write.commit().map_err(error)?;
    file.sync().map_err(io_error)?;
    storage.rename(TEMPORARY_NAME, INDEX_NAME).map_err(io_error)?;
    storage.sync_dir().map_err(io_error)?;
    Ok(database)
}

fn begin_write(database: &Database) -> Result<redb::WriteTransaction, IndexError> {
    let mut write = database.begin_write().map_err(error)?;
    // Keeps the allocator's state with each commit, so that opening after a crash reads a few
    // pages instead of all; and commits in two phases, so that the newest commit is known good.
    write.set_quick_repair(true);
    Ok(write)
}

/// Checks that the database is ours, and tells how far it has come.
fn read_head(database: &Database, store_id: u128) -> Result<Option<Checkpoint>, IndexError> {
    read_head_in(&database.begin_read().map_err(error)?, store_id)
}

fn read_head_in(read: &ReadTransaction, store_id: u128) -> Result<Option<Checkpoint>, IndexError> {
    let foreign = |reason: &str| IndexError::Foreign { reason: reason.to_owned() };
    let meta = match read.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::Storage(e)) => return Err(error(e)),
        Err(_) => return Err(foreign("a redb database without our table `meta`")),
    };
    let get = |key: &str| meta.get(key).map_err(error);
    let format = get(row::META_FORMAT)?.ok_or_else(|| foreign("it names no format"))?;
    let format = format.value().try_into().map_err(|_| foreign("it names no format"))?;
    match u32::from_le_bytes(format) {
        row::OLDEST..=FORMAT => {}
        found => return Err(IndexError::UnknownVersion { found, newest: FORMAT }),
    }
    let store = get(row::META_STORE)?.ok_or_else(|| foreign("it names no store"))?;
    let store = store.value().try_into().map_err(|_| foreign("it names no store"))?;
    match u128::from_le_bytes(store) {
        found if found == store_id => {}
        found => return Err(IndexError::OtherStore { found, expected: store_id }),
    }
    let checkpoint = get(row::META_CHECKPOINT)?;
    checkpoint
        .map(|checkpoint| row::decode_checkpoint(checkpoint.value()))
        .transpose()
        .map_err(|BadRow| bad_row(&row::META_CHECKPOINT))
}

fn read_page(
    database: &Database,
    queue: QueueId,
    after: Option<Place>,
    limit: usize,
) -> Result<Vec<(Place, Entry)>, IndexError> {
    let read = database.begin_read().map_err(error)?;
    let table = read.open_table(ENTRIES).map_err(error)?;
    let late = read.open_table(LATE).map_err(error)?;
    let last = *entries_of(queue.0).end();
    let first = match after {
        Some(place) => Bound::Excluded(row::entry_key(queue, place)),
        None => Bound::Included(*entries_of(queue.0).start()),
    };
    let mut page = Vec::with_capacity(limit.min(1024));
    let range = table.range((first, Bound::Included(last))).map_err(error)?;
    for found in range.take(limit) {
        let (key, value) = found.map_err(error)?;
        let key = key.value();
        let entry = late::whole(&late, key, value.value())?;
        page.push((Place { rank: key.1, seq: key.2 }, entry));
    }
    Ok(page)
}

fn read_base(database: &Database, store_id: u128) -> Result<(u64, Base), IndexError> {
    read_base_in(&database.begin_read().map_err(error)?, store_id)
}

fn read_base_in(read: &ReadTransaction, store_id: u128) -> Result<(u64, Base), IndexError> {
    let checkpoint = read_head_in(read, store_id)?;
    let mut base = Base { replay: checkpoint.map(|c| c.replay), ..Base::default() };
    for found in read.open_table(QUEUES).map_err(error)?.iter().map_err(error)? {
        let (id, value) = found.map_err(error)?;
        let id = id.value();
        let queue = row::decode(&id.to_le_bytes(), value.value());
        base.queues.insert(QueueId(id), queue.map_err(|BadRow| bad_row(&QueueId(id)))?);
    }
    base.uploads = pieces::read_uploads(read)?;
    base.notes = late::read_notes(read)?;
    base.delayed = late::any_delayed(read)?;
    base.transactions = operations::read_transactions(read)?;
    branches::read(read, &mut base)?;
    base.names = names::read(read)?;
    producers::read(read, &mut base)?;
    for found in read.open_table(SEGMENTS).map_err(error)?.iter().map_err(error)? {
        let (ordinal, live) = found.map_err(error)?;
        base.live.insert(ordinal.value(), live.value());
    }
    for found in read.open_table(PACKS).map_err(error)?.iter().map_err(error)? {
        let (ordinal, pack) = found.map_err(error)?;
        let pack = row::decode_pack(ordinal.value(), pack.value());
        let pack = pack.map_err(|BadRow| bad_row(&ordinal.value()))?;
        base.packs.insert(ordinal.value(), pack);
    }
    let meta = read.open_table(META).map_err(error)?;
    let scalars = meta.get(row::META_SCALARS).map_err(error)?;
    base.scalars = scalars
        .and_then(|row| row::decode(row::META_SCALARS.as_bytes(), row.value()).ok())
        .ok_or_else(|| bad_row(&row::META_SCALARS))?;
    Ok((checkpoint.map_or(0, |c| c.number), base))
}

/// One transaction, its changes in the order of the keys: redb is fastest so, and the same delta
/// makes the same writes.
fn write(
    database: &Database,
    delta: &Delta,
    sums: &Sums,
    checkpoint: &Checkpoint,
) -> Result<(), IndexError> {
    let write = begin_write(database)?;
    {
        let mut entries = Entries::open(&write)?;
        let mut queues = write.open_table(QUEUES).map_err(error)?;
        for (id, queue) in &delta.queues {
            if let Some(queue) = queue {
                let row = row::encode(&id.0.to_le_bytes(), queue);
                queues.insert(id.0, row.as_slice()).map_err(error)?;
            } else {
                queues.remove(id.0).map_err(error)?;
                names::remove_all(&write, *id)?;
                entries.remove(entries_of(id.0))?;
            }
        }
        write_entries(&mut entries, delta)?;
        entries.note(&delta.moved)?;
        pieces::write(&write, delta)?;
        late::write(&write, delta)?;
        operations::write(&write, delta)?;
        branches::write(&write, delta)?;
        names::write(&write, delta)?;
        producers::write(&write, delta)?;
        shares::write(&write, sums)?;
        write_live(&write, &shares::live(delta, sums))?;
        let mut meta = write.open_table(META).map_err(error)?;
        let scalars = row::encode(row::META_SCALARS.as_bytes(), &delta.scalars);
        meta.insert(row::META_SCALARS, scalars.as_slice()).map_err(error)?;
        meta.insert(row::META_FORMAT, FORMAT.to_le_bytes().as_slice()).map_err(error)?;
        let checkpoint = row::encode_checkpoint(checkpoint);
        meta.insert(row::META_CHECKPOINT, checkpoint.as_slice()).map_err(error)?;
    }
    write.commit().map_err(error)
}

/// What is consumed goes in runs: a page at a time and not a row.
fn write_entries(entries: &mut Entries<'_>, delta: &Delta) -> Result<(), IndexError> {
    let mut gone: Option<RangeInclusive<row::EntryKey>> = None;
    for ((queue, place), entry) in delta.entries.iter() {
        let key = row::entry_key(queue, place);
        if let Some(entry) = entry {
            entries.put(key, &entry)?;
            continue;
        }
        gone = match gone {
            Some(run) if row::follows(*run.end(), key) => Some(*run.start()..=key),
            run => {
                run.map_or(Ok(()), |run| entries.remove(run))?;
                Some(key..=key)
            }
        };
    }
    gone.map_or(Ok(()), |run| entries.remove(run))
}

fn write_live(
    write: &redb::WriteTransaction,
    changes: &BTreeMap<u64, i64>,
) -> Result<(), IndexError> {
    let mut segments = write.open_table(SEGMENTS).map_err(error)?;
    let mut packs = write.open_table(PACKS).map_err(error)?;
    for (&ordinal, &change) in changes {
        let old = segments.get(ordinal).map_err(error)?.map_or(0, |live| live.value());
        let new = old.checked_add_signed(change);
        match new.unwrap_or_else(|| panic!("segment {ordinal}: {old} live bytes, {change:+}")) {
            0 => {
                segments.remove(ordinal).map_err(error)?;
                packs.remove(ordinal).map_err(error)?;
            }
            live => drop(segments.insert(ordinal, live).map_err(error)?),
        }
    }
    Ok(())
}

fn entries_of(queue: u64) -> RangeInclusive<row::EntryKey> {
    (queue, 0, 0)..=(queue, u8::MAX, u64::MAX)
}
