//! Becoming the owner of a store: its identity, and a claim that nobody else can have.
//!
//! A claim carries the epoch. It is published by `link`, so of any number of claimants exactly one
//! gets it, and it is never removed: a claimant that slept for a year must still find it taken.
//! Leaves to others: who may try (the lock, the lease), and looking for later claims before an
//! answer leaves.

use std::io;
use std::sync::Arc;

use crate::io::{File, Storage};
use crate::wal::Options;
use crate::wal::format::{self, HeadFault, IDENTITY_BYTES, Identity, VERSION};
use crate::wal::names::{self, Name};

/// Why a store could not be claimed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The directory has files and is not a store. Nothing was changed.
    #[error(
        "the directory holds {file} and no file `store`: it is not a store, or its identity \
             is lost; give an empty directory, or restore the file from a backup"
    )]
    NotAStore {
        /// One of the files found.
        file: String,
    },
    /// The directory holds a backup. Nothing was changed.
    #[error(
        "the directory is a backup and no store: make a store of it with `escrowmq store restore \
             BACKUP DIR`, and run the broker on that"
    )]
    Backup,
    /// A store was being made in the directory and is not whole. Nothing was changed.
    #[error(
        "the directory holds {}: a restore or repair into it has not ended; remove the directory \
             and begin it again",
        names::IDENTITY_UNFINISHED
    )]
    Unfinished,
    /// The identity file is damaged.
    #[error("the file `store` is damaged; restore it from a backup")]
    BadIdentity,
    /// A newer program made the store.
    #[error("the store has format version {found}; this program knows up to {newest}")]
    UnknownVersion {
        /// The version of the store.
        found: u32,
        /// The newest version known here.
        newest: u32,
    },
    /// Another process took the epoch at the same time: it is the owner.
    #[error("another process claimed epoch {epoch} of the store first")]
    LostRace {
        /// The epoch both wanted.
        epoch: u64,
    },
    /// The directory could not be read or written.
    #[error("{file}: {source}")]
    Io {
        /// The file concerned.
        file: String,
        /// What the system said.
        source: io::Error,
    },
}

impl ClaimError {
    fn io(file: &str) -> impl FnOnce(io::Error) -> ClaimError {
        let file = file.to_owned();
        move |source| ClaimError::Io { file, source }
    }
}

/// The ownership of a store for one epoch, before anything of it was read.
#[derive(Debug)]
pub struct Claim {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) options: Options,
    pub(crate) store: u128,
    pub(crate) epoch: u64,
    pub(crate) nonce: u128,
    pub(crate) names: Vec<Name>,
}

/// Makes the caller the owner of the store in `storage`, making the store where the directory is
/// empty. `nonce` is random: the id of a new store, and the source of all later nonces.
///
/// # Panics
///
/// Where `options` make no sense: a programmer's error, settings are checked where they are read.
pub fn claim(
    storage: Arc<dyn Storage>,
    options: Options,
    nonce: u128,
) -> Result<Claim, ClaimError> {
    assert!(format::segment_size_is_legal(options.segment_size), "{options:?}");
    assert!(options.ready_segments >= 1 && options.gather_bytes_max > 0, "{options:?}");
    let identity = match identity_read(&*storage)? {
        Some(identity) => identity,
        None => identity_create(&*storage, &options, nonce)?,
    };
    let options = Options { segment_size: identity.segment_size, ..options };
    let listed = storage.list().map_err(ClaimError::io("."))?;
    let claims = listed.iter().filter_map(|name| match Name::parse(name) {
        Some(Name::Claim { epoch }) => Some(epoch),
        _ => None,
    });
    let epoch = claims.max().unwrap_or(0) + 1;
    let content = format::claim_encode(identity.store, epoch, nonce);
    let name = names::claim(epoch);
    publish(&*storage, &name, &content, nonce).map_err(|source| match source.kind() {
        // `NotFound`: the winner has swept our temporary file away before we could link it.
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound => ClaimError::LostRace { epoch },
        _ => ClaimError::Io { file: name.clone(), source },
    })?;
    // Only now is the directory ours, so only now may what others left be removed.
    let mut names = Vec::with_capacity(listed.len());
    for name in storage.list().map_err(ClaimError::io("."))? {
        match Name::parse(&name) {
            Some(Name::Temporary) => remove(&*storage, &name).map_err(ClaimError::io(&name))?,
            Some(name) => names.push(name),
            None => {}
        }
    }
    Ok(Claim { storage, options, store: identity.store, epoch, nonce, names })
}

impl Claim {
    /// The number of this ownership; grows by at least one with each.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The store's id, for ever the same.
    pub fn store_id(&self) -> u128 {
        self.store
    }

    /// Bytes of each segment, as the store was made.
    pub fn segment_size(&self) -> u64 {
        self.options.segment_size
    }

    /// Whether nothing was ever logged in the store: no owner before this one sealed its past, so
    /// none wrote.
    pub fn is_new(&self) -> bool {
        !self.names.iter().any(|name| matches!(name, Name::Seal { .. } | Name::Segment { .. }))
    }
}

/// Whether someone has claimed the store after `epoch`. An error means that nobody may be answered.
pub fn is_superseded(storage: &dyn Storage, epoch: u64) -> io::Result<bool> {
    match storage.open(&names::claim(epoch + 1)) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// The identity of the store, or `None` where there is none.
///
/// # Errors
/// Where the file is damaged, of a newer version, or cannot be read.
pub fn identity_read(storage: &dyn Storage) -> Result<Option<Identity>, ClaimError> {
    let io = || ClaimError::io(names::IDENTITY);
    let file = match storage.open(names::IDENTITY) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io()(e)),
    };
    let bytes = read_whole(&*file, IDENTITY_BYTES).map_err(io())?;
    match Identity::decode(bytes.as_deref().unwrap_or_default()) {
        Ok(identity) => Ok(Some(identity)),
        Err(HeadFault::Version(found)) => {
            Err(ClaimError::UnknownVersion { found, newest: VERSION })
        }
        Err(HeadFault::Magic | HeadFault::Checksum) => Err(ClaimError::BadIdentity),
    }
}

fn identity_create(
    storage: &dyn Storage,
    options: &Options,
    nonce: u128,
) -> Result<Identity, ClaimError> {
    let listed = storage.list().map_err(ClaimError::io("."))?;
    if listed.iter().any(|file| file == names::IDENTITY_IN_BACKUP) {
        return Err(ClaimError::Backup);
    }
    if listed.iter().any(|file| file == names::IDENTITY_UNFINISHED) {
        return Err(ClaimError::Unfinished);
    }
    for file in listed {
        // Left by one who died making the store, or made by one who makes it now.
        let ours = matches!(Name::parse(&file), Some(Name::Temporary | Name::Identity));
        if !ours {
            return Err(ClaimError::NotAStore { file });
        }
    }
    let identity = Identity { store: nonce, segment_size: options.segment_size };
    match publish(storage, names::IDENTITY, &identity.encode(), nonce) {
        Ok(()) => Ok(identity),
        // Someone else makes the same store: theirs is the identity, and `claim` picks one owner.
        Err(e) if matches!(e.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {
            identity_read(storage)?.ok_or(ClaimError::LostRace { epoch: 1 })
        }
        Err(source) => Err(ClaimError::Io { file: names::IDENTITY.to_owned(), source }),
    }
}

/// Gives a small file its name, whole and durable, or fails where the name is taken.
pub(crate) fn publish(
    storage: &dyn Storage,
    name: &str,
    content: &[u8],
    nonce: u128,
) -> io::Result<()> {
    let temporary = names::temporary(name, nonce);
    remove(storage, &temporary)?;
    let file = storage.create(&temporary)?;
    let published = file
        .write_at(content, 0)
        .and_then(|()| file.sync())
        .and_then(|()| storage.link(&temporary, name));
    // A leftover is swept by the next owner; the answer is what happened to the name.
    let removed = remove(storage, &temporary);
    published?;
    removed?;
    storage.sync_dir()
}

/// Removes a name, content that it may be gone.
pub(crate) fn remove(storage: &dyn Storage, name: &str) -> io::Result<()> {
    match storage.remove(name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// All bytes of a small file, or `None` where it has more than `max`.
pub(crate) fn read_whole(file: &dyn File, max: usize) -> io::Result<Option<Vec<u8>>> {
    let size = file.size()?;
    if size > max as u64 {
        return Ok(None);
    }
    let mut bytes = vec![0; size as usize];
    file.read_at(&mut bytes, 0)?;
    Ok(Some(bytes))
}
