//! Large bodies in the index: where their pieces lie, and which of them no message owns.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included, Unbounded};

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, WriteTransaction};

use super::error::{bad_row, error, guarded};
use super::row::{self, BadRow, PIECES, PieceKey, UPLOADS};
use super::{Index, IndexError};
use crate::broker::delta::{Delta, PieceAt, UploadRow};
use crate::ids::UploadId;

impl Index {
    /// At most `limit` pieces of `upload`, in their order, strictly after the one numbered
    /// `after`.
    ///
    /// # Errors
    /// [`IndexError::Damaged`] where a row is not what its key says, and those of the disk.
    pub fn pieces(
        &self,
        upload: UploadId,
        after: u32,
        limit: usize,
    ) -> Result<Vec<(u32, PieceAt)>, IndexError> {
        let state = self.database()?;
        guarded(|| {
            let read = state.database().begin_read().map_err(error)?;
            let table = read.open_table(PIECES).map_err(error)?;
            let id = upload.get();
            let range = (Excluded((id, after)), Included((id, u32::MAX)));
            let mut page = Vec::with_capacity(limit.min(1024));
            for found in table.range::<PieceKey>(range).map_err(error)?.take(limit) {
                let (key, value) = found.map_err(error)?;
                let key = key.value();
                page.push((key.1, decode(key, value.value())?));
            }
            Ok(page)
        })
    }

    /// Shows every piece there is, by upload and number.
    ///
    /// # Errors
    /// As [`Index::pieces`].
    pub fn each_piece(
        &self,
        visit: &mut dyn FnMut((UploadId, u32), PieceAt),
    ) -> Result<(), IndexError> {
        let state = self.database()?;
        guarded(|| {
            let read = state.database().begin_read().map_err(error)?;
            let table = read.open_table(PIECES).map_err(error)?;
            for found in
                table.range::<PieceKey>((Unbounded::<PieceKey>, Unbounded)).map_err(error)?
            {
                let (key, value) = found.map_err(error)?;
                let key = key.value();
                let id = UploadId::new(key.0).ok_or_else(|| bad_row(&key))?;
                visit((id, key.1), decode(key, value.value())?);
            }
            Ok(())
        })
    }
}

fn decode(key: PieceKey, row: &[u8; row::PIECE]) -> Result<PieceAt, IndexError> {
    row::decode_piece(key, row).map_err(|BadRow| bad_row(&key))
}

pub(super) fn read_uploads(
    read: &ReadTransaction,
) -> Result<BTreeMap<UploadId, UploadRow>, IndexError> {
    let mut uploads = BTreeMap::new();
    for found in read.open_table(UPLOADS).map_err(error)?.iter().map_err(error)? {
        let (id, value) = found.map_err(error)?;
        let id = id.value();
        let row = row::decode(&id.to_le_bytes(), value.value()).ok();
        let known = UploadId::new(id).zip(row).ok_or_else(|| bad_row(&format!("upload-{id}")))?;
        uploads.insert(known.0, known.1);
    }
    Ok(uploads)
}

/// Merges what a delta says of pieces and uploads.
pub(super) fn write(write: &WriteTransaction, delta: &Delta) -> Result<(), IndexError> {
    let mut pieces = write.open_table(PIECES).map_err(error)?;
    for ((upload, number), piece) in &delta.pieces {
        let key = (upload.get(), *number);
        if let Some(piece) = piece {
            pieces.insert(key, &row::encode_piece(key, *piece)).map_err(error)?;
        } else {
            pieces.remove(key).map_err(error)?;
        }
    }
    let mut uploads = write.open_table(UPLOADS).map_err(error)?;
    for (upload, row) in &delta.uploads {
        let id = upload.get();
        if let Some(row) = row {
            let row = row::encode(&id.to_le_bytes(), row);
            uploads.insert(id, row.as_slice()).map_err(error)?;
        } else {
            uploads.remove(id).map_err(error)?;
        }
    }
    Ok(())
}

/// Tells of every piece that does not hold what its key says, of every one that belongs to nobody,
/// and of every body that lacks one of those before its last. Which is the last the message says,
/// and that is in the log.
pub(super) fn check(
    database: &Database,
    owned: &BTreeSet<UploadId>,
    others: &BTreeMap<UploadId, UploadRow>,
    problem: &mut dyn FnMut(String),
) -> Result<(), IndexError> {
    let pieces = database.begin_read().map_err(error)?.open_table(PIECES).map_err(error)?;
    let (mut last, mut seen) = ((0, 0), BTreeSet::new());
    for found in pieces.iter().map_err(error)? {
        let (key, value) = found.map_err(error)?;
        let key = key.value();
        if row::decode_piece(key, value.value()).is_err() {
            problem(format!("the piece {key:?} does not hold what it should"));
        }
        let (id, number) = key;
        let upload = UploadId::new(id);
        let gone = match upload.and_then(|upload| others.get(&upload)) {
            Some(UploadRow::Dead { gone }) => *gone,
            _ => 0,
        };
        let before = if last.0 == id { last.1 } else { gone };
        if number != before + 1 {
            problem(format!("of the body upload-{id} piece {} is missing", before + 1));
        }
        last = key;
        let Some(upload) = upload else { continue };
        if !owned.contains(&upload) && !others.contains_key(&upload) {
            problem(format!("piece {number} of {upload} belongs to no message"));
        }
        seen.insert(upload);
    }
    for upload in owned.difference(&seen) {
        problem(format!("of the body {upload} nothing is there"));
    }
    Ok(())
}
