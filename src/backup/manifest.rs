//! The manifest of a backup: what belongs to it, with lengths and checksums.
//!
//! Owns the file `backup`, to the byte (`wal-format.md`). It is the last to be written, so a
//! directory without one is no backup, whatever else lies in it.

use std::io;

use crate::ids::{Lsn, Millis};
use crate::io::Storage;

/// The name of the manifest.
pub const MANIFEST_NAME: &str = "backup";
/// Its name while it is written.
const TEMPORARY_NAME: &str = "backup.tmp";

const MAGIC: [u8; 8] = *b"EscMQbak";
const VERSION: u32 = 1;
/// Bounds what a damaged length makes a reader allocate: a million files and more.
const BYTES_MAX: u64 = 128 << 20;

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The store it was made of.
    pub store: u128,
    /// Bytes of each of its segments.
    pub segment_size: u64,
    /// The owner of the store then.
    pub epoch: u64,
    /// What lies before this in the log is in it; 0 where nothing was in the log.
    pub end: Lsn,
    /// When it was begun.
    pub at: Millis,
    /// Its files.
    pub files: Vec<FileOf>,
}

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOf {
    /// Its name.
    pub name: String,
    /// Bytes it has; what lies behind `content` of them is zeros.
    pub size: u64,
    /// Bytes that the checksum covers.
    pub content: u64,
    /// Plain CRC-32 of them.
    pub sum: u32,
}

/// Why there is no manifest to be had.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// There is none.
    #[error("there is no file `{MANIFEST_NAME}`")]
    Missing,
    /// A newer program wrote it.
    #[error("`{MANIFEST_NAME}` has version {0}; this program knows up to {VERSION}")]
    UnknownVersion(u32),
    /// It is not as it was written.
    #[error("the file `{MANIFEST_NAME}` is damaged")]
    Damaged,
    /// It cannot be read.
    #[error("{MANIFEST_NAME}: {0}")]
    Io(io::Error),
}

impl Manifest {
    /// The whole file.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(self.store.to_le_bytes());
        for value in [self.segment_size, self.epoch, self.end.0, self.at.0] {
            bytes.extend(value.to_le_bytes());
        }
        bytes.extend((self.files.len() as u32).to_le_bytes());
        for file in &self.files {
            bytes.extend(file.size.to_le_bytes());
            bytes.extend(file.content.to_le_bytes());
            bytes.extend(file.sum.to_le_bytes());
            bytes.extend((file.name.len() as u32).to_le_bytes());
            bytes.extend(file.name.as_bytes());
        }
        let sum = crc32fast::hash(&bytes);
        bytes.extend(sum.to_le_bytes());
        bytes
    }

    /// The inverse of [`Manifest::encode`].
    ///
    /// # Errors
    /// Where the bytes are not exactly those of a manifest.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let head: Option<(&[u8; 8], &[u8])> = bytes.split_first_chunk();
        let rest = head.filter(|(magic, _)| **magic == MAGIC).ok_or(ManifestError::Damaged)?.1;
        let mut fields = Fields(rest);
        let version = fields.u32().ok_or(ManifestError::Damaged)?;
        if version != VERSION {
            return Err(ManifestError::UnknownVersion(version));
        }
        let (body, sum) = bytes.split_last_chunk().ok_or(ManifestError::Damaged)?;
        if crc32fast::hash(body) != u32::from_le_bytes(*sum) {
            return Err(ManifestError::Damaged);
        }
        fields.0 = fields.0.strip_suffix(sum).ok_or(ManifestError::Damaged)?;
        fields.manifest().filter(|_| fields.0.is_empty()).ok_or(ManifestError::Damaged)
    }

    /// Reads the manifest of the backup in `storage`.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn read(storage: &dyn Storage) -> Result<Self, ManifestError> {
        let file = match storage.open(MANIFEST_NAME) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(ManifestError::Missing),
            Err(e) => return Err(ManifestError::Io(e)),
        };
        let size = file.size().map_err(ManifestError::Io)?;
        if size > BYTES_MAX {
            return Err(ManifestError::Damaged);
        }
        let mut bytes = vec![0; size as usize];
        file.read_at(&mut bytes, 0).map_err(ManifestError::Io)?;
        Self::decode(&bytes)
    }

    /// Writes it, so that it is there whole and durable, or not at all. All else must be durable
    /// before.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn write(&self, storage: &dyn Storage) -> io::Result<()> {
        let file = storage.create(TEMPORARY_NAME)?;
        file.write_at(&self.encode(), 0)?;
        file.sync()?;
        storage.rename(TEMPORARY_NAME, MANIFEST_NAME)?;
        storage.sync_dir()
    }
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn get<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn u32(&mut self) -> Option<u32> {
        self.get().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.get().map(u64::from_le_bytes)
    }

    fn manifest(&mut self) -> Option<Manifest> {
        let store = u128::from_le_bytes(self.get()?);
        let (segment_size, epoch) = (self.u64()?, self.u64()?);
        let (end, at) = (Lsn(self.u64()?), Millis(self.u64()?));
        let count = self.u32()?;
        let mut files = Vec::new();
        for _ in 0..count {
            files.push(self.file()?);
        }
        Some(Manifest { store, segment_size, epoch, end, at, files })
    }

    fn file(&mut self) -> Option<FileOf> {
        let (size, content, sum) = (self.u64()?, self.u64()?, self.u32()?);
        let length = self.u32()? as usize;
        let (name, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        let name = std::str::from_utf8(name).ok()?.to_owned();
        (content <= size).then_some(FileOf { name, size, content, sum })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn manifest() -> Manifest {
        let file = |name: &str, size| FileOf { name: name.into(), size, content: size / 2, sum: 9 };
        let files = vec![file("index.redb", 100), file("wal-0-1", 1 << 40)];
        let (end, at) = (Lsn(77), Millis(5));
        Manifest { store: 3, segment_size: 4096, epoch: 2, end, at, files }
    }

    #[test]
    fn a_manifest_reads_back_as_it_was_written() {
        assert_eq!(Manifest::decode(&manifest().encode()).unwrap(), manifest());
    }

    #[test]
    fn a_manifest_with_a_flipped_bit_or_cut_short_is_refused() {
        let bytes = manifest().encode();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::decode(&bad).is_err(), "bit {bit}");
        }
        for end in 0..bytes.len() {
            assert!(Manifest::decode(&bytes[..end]).is_err(), "cut at {end}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_with_a_good_checksum_are_a_manifest_or_a_clear_no(rest: Vec<u8>) {
            let mut bytes = [&MAGIC[..], &VERSION.to_le_bytes(), &rest].concat();
            bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
            if let Ok(manifest) = Manifest::decode(&bytes) {
                prop_assert_eq!(manifest.encode(), bytes);
            }
        }
    }
}
