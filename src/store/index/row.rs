//! The rows of the index, to the byte.
//!
//! Every value begins with the version of its layout and ends with a CRC-32 over its key and all
//! before it: redb checks its pages only when told to, and a row must not be taken for another's.
//! Leaves to others: tables and transactions.

use bincode::Options;
use redb::TableDefinition;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ReplayPoint;
use crate::broker::delta::{Due, Entry, PieceAt, Place};
use crate::identity::Identity;
use crate::ids::{Body, DueTime, Lsn, Millis, NoteId, QueueId};
use crate::limits;
use crate::wal::PackId;

/// Queue, rank, sequence number: sorts in the order of delivery.
pub(super) type EntryKey = (u64, u8, u64);
/// Upload, number: sorts in the order of the body.
pub(super) type PieceKey = (u64, u32);
/// Due time, then the key of the entry.
pub(super) type DueKey = (u64, u64, u8, u64);
/// Transaction, number.
pub(super) type OperationKey = (u64, u64);
/// Scope, number.
pub(super) type NameKey = (u64, u64);
/// Transaction, producer: a number that sorts as the bytes of its identity do.
pub(super) type ProducerKey = (u64, u128);

pub(super) const ENTRIES: TableDefinition<'_, EntryKey, &[u8; ENTRY]> =
    TableDefinition::new("entries");
pub(super) const QUEUES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("queues");
/// Ordinal of a segment of the log -> its live bytes.
pub(super) const SEGMENTS: TableDefinition<'_, u64, u64> = TableDefinition::new("segments");
/// [`crate::broker::delta::Operation`] in bincode: what transactions have done that have no
/// outcome yet.
pub(super) const OPERATIONS: TableDefinition<'_, OperationKey, &[u8]> =
    TableDefinition::new("operations");
/// [`crate::broker::delta::TransactionRow`] in bincode.
pub(super) const TRANSACTIONS: TableDefinition<'_, u64, &[u8]> =
    TableDefinition::new("transactions");
/// [`crate::broker::delta::BranchRow`] in bincode, by the id of its transaction.
pub(super) const BRANCHES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("branches");
/// [`crate::broker::delta::HeuristicRow`] in bincode, by the bytes of the xid.
pub(super) const HEURISTICS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("heuristics");
/// [`crate::broker::delta::OutcomeRow`] in bincode, by the bytes of the xid.
pub(super) const OUTCOMES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("outcomes");
/// Number of an outcome -> the bytes of the xid whose newest it is, or was.
pub(super) const OUTCOME_NUMBERS: TableDefinition<'_, u64, &[u8]> =
    TableDefinition::new("outcome_numbers");
/// [`crate::broker::delta::NameRow`] in bincode, by the scope of the name and its number there.
/// Number 0 among those of commits is no name: its time is that of the newest commit forgotten.
pub(super) const NAMES: TableDefinition<'_, NameKey, &[u8]> = TableDefinition::new("names");
/// [`crate::broker::delta::ProducerRow`] in bincode, under the transaction 0; under another, the
/// [`crate::broker::delta::Sequences`] that a producer has sent in it.
pub(super) const PRODUCERS: TableDefinition<'_, ProducerKey, &[u8]> =
    TableDefinition::new("producers");
/// Where the pieces of large bodies lie.
pub(super) const PIECES: TableDefinition<'_, PieceKey, &[u8; PIECE]> =
    TableDefinition::new("pieces");
/// [`crate::broker::delta::UploadRow`] in bincode, by the id of its upload.
pub(super) const UPLOADS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("uploads");
/// Ordinal of a segment -> the pack in which its live frames lie.
pub(super) const PACKS: TableDefinition<'_, u64, &[u8; PACK]> = TableDefinition::new("packs");
/// What more there is to say of an entry that is delayed or was set apart.
pub(super) const LATE: TableDefinition<'_, EntryKey, &[u8; LATE_ROW]> =
    TableDefinition::new("late");
/// The delayed entries, the soonest first.
pub(super) const DUE: TableDefinition<'_, DueKey, ()> = TableDefinition::new("due");
/// [`crate::broker::delta::NoteRow`] in bincode, by the id of the note.
pub(super) const NOTES: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("notes");
/// Births of messages that lie elsewhere than the record there says.
pub(super) const MOVED: TableDefinition<'_, u64, ()> = TableDefinition::new("moved");
/// [`crate::broker::delta::Share`] in bincode, by the birth of what was published.
pub(super) const SHARES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("shares");
pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// u32: [`FORMAT`]. It and the next are plain little-endian numbers in every format there will be.
pub(super) const META_FORMAT: &str = "format";
/// u128: the store that the index belongs to.
pub(super) const META_STORE: &str = "store";
/// A [`Checkpoint`]; not there before the first.
pub(super) const META_CHECKPOINT: &str = "checkpoint";
/// [`crate::broker::delta::Scalars`] in bincode.
pub(super) const META_SCALARS: &str = "scalars";
/// [`crate::broker::delta::Remembered`] in bincode; not there before the first checkpoint.
pub(super) const META_REMEMBERED: &str = "remembered";

/// Version of the tables as a whole. In 3 there were no large bodies, in 4 no transactions and no
/// delayed messages, in 5 no names, in 6 no branches and no sizes of bodies, in 7 no producers and
/// nothing that comes again, in 9 no payloads that several entries hold, in 10 no ids of
/// publications, nothing that waits to be published and no durable subscriptions to patterns, in 11
/// no large bodies that several entries name, in 12 perhaps no time of what was forgotten of
/// commits.
///
/// It is the version of the records in the log, too: who writes these says so in the index first
/// ([`super::Index::raise`]).
pub(crate) const FORMAT: u32 = 13;
/// The oldest that is read. What it has means the same; the first start makes it [`FORMAT`].
pub(super) const OLDEST: u32 = 10;
/// Version of each row's layout.
const VERSION: u8 = 1;

/// Version u8, birth u64, size u32, at u64, flags u8 (1: it expires, 2: it is held, 4: there is
/// more of it in [`LATE`], 8: it was published and others may hold its payload), expiry u64,
/// returns u32, upload u64 (0 is none), CRC u32.
pub(super) const ENTRY: usize = 1 + 8 + 4 + 8 + 1 + 8 + 4 + 8 + CRC;
/// Version u8, birth u64, size u32, CRC u32.
pub(super) const PIECE: usize = 1 + 8 + 4 + CRC;
/// Version u8, due u64, note u32 (0 is none of either), CRC u32.
pub(super) const LATE_ROW: usize = 1 + 8 + 4 + CRC;
/// Where the flags of an entry are.
const FLAGS_AT: usize = 1 + 8 + 4 + 8;
const EXPIRES: u8 = 1;
const HELD: u8 = 2;
const IS_LATE: u8 = 4;
const SHARED: u8 = 8;
/// Version u8, number of the checkpoint u64, batch u64, through u64, CRC u32.
const CHECKPOINT: usize = 1 + 8 + 8 + 8 + CRC;
/// Version u8, epoch u64, number u64, CRC u32.
pub(super) const PACK: usize = 1 + 8 + 8 + CRC;
const CRC: usize = 4;

/// A row that does not hold what its key says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadRow;

/// How far the index has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// Grows by one with each; tells whether an interrupted commit came to be.
    pub(super) number: u64,
    pub(super) replay: ReplayPoint,
}

pub(super) fn entry_key(queue: QueueId, place: Place) -> EntryKey {
    (queue.0, place.rank, place.seq)
}

/// Whether a key is the very next one: no other can be between them.
pub(super) fn follows(before: EntryKey, key: EntryKey) -> bool {
    (key.0, key.1) == (before.0, before.1) && before.2.checked_add(1) == Some(key.2)
}

fn entry_key_bytes(key: EntryKey) -> [u8; 17] {
    let mut bytes = Bytes::default();
    bytes.put(key.0.to_le_bytes());
    bytes.put([key.1]);
    bytes.put(key.2.to_le_bytes());
    bytes.take()
}

pub(super) fn encode_entry(key: EntryKey, entry: &Entry) -> [u8; ENTRY] {
    let mut bytes = Bytes::default();
    bytes.put([VERSION]);
    bytes.put(entry.birth.0.to_le_bytes());
    bytes.put(entry.size.to_le_bytes());
    bytes.put(entry.at.0.to_le_bytes());
    let expires = if entry.expires.is_some() { EXPIRES } else { 0 };
    let held = if entry.held { HELD } else { 0 };
    let late = entry.due.is_some() || entry.note.is_some();
    let shared = if entry.shared { SHARED } else { 0 };
    bytes.put([expires | held | shared | if late { IS_LATE } else { 0 }]);
    bytes.put(entry.expires.unwrap_or_default().0.to_le_bytes());
    bytes.put(entry.returns.to_le_bytes());
    bytes.put(Body::word_of(entry.upload).to_le_bytes());
    let crc = checksum(&entry_key_bytes(key), bytes.written());
    bytes.put(crc.to_le_bytes());
    bytes.take()
}

/// Whether there is more of an entry in [`LATE`].
pub(super) fn is_late(row: &[u8; ENTRY]) -> bool {
    row[FLAGS_AT] & IS_LATE != 0
}

pub(super) fn encode_late(key: EntryKey, entry: &Entry) -> [u8; LATE_ROW] {
    let mut bytes = Bytes::default();
    bytes.put([VERSION]);
    bytes.put(entry.due.map_or(0, |due| due.millis().0).to_le_bytes());
    bytes.put(entry.note.map_or(0, NoteId::get).to_le_bytes());
    let crc = checksum(&entry_key_bytes(key), bytes.written());
    bytes.put(crc.to_le_bytes());
    bytes.take()
}

/// Adds to an entry what [`LATE`] has of it.
pub(super) fn decode_late(
    key: EntryKey,
    row: &[u8; LATE_ROW],
    entry: Entry,
) -> Result<Entry, BadRow> {
    let mut fields = Fields(verified(&entry_key_bytes(key), row)?);
    let due = u64::from_le_bytes(fields.get()?);
    let note = NoteId::new(u32::from_le_bytes(fields.get()?));
    let due = (due > 0).then(|| DueTime::at(Millis(due)));
    Ok(Entry { due, note, ..entry })
}

pub(super) fn due_key(due: &Due) -> DueKey {
    (due.at.millis().0, due.queue.0, due.place.rank, due.place.seq)
}

/// `None` where there is no such key.
pub(super) fn due_of(key: DueKey) -> Option<Due> {
    let at = (key.0 > 0).then(|| DueTime::at(Millis(key.0)))?;
    Some(Due { at, queue: QueueId(key.1), place: Place { rank: key.2, seq: key.3 } })
}

/// Without what [`LATE`] has of it.
pub(super) fn decode_entry(key: EntryKey, row: &[u8; ENTRY]) -> Result<Entry, BadRow> {
    let mut fields = Fields(verified(&entry_key_bytes(key), row)?);
    let birth = Lsn(u64::from_le_bytes(fields.get()?));
    let size = u32::from_le_bytes(fields.get()?);
    let at = Millis(u64::from_le_bytes(fields.get()?));
    let [flags] = fields.get()?;
    let expiry = Millis(u64::from_le_bytes(fields.get()?));
    let returns = u32::from_le_bytes(fields.get()?);
    let upload = Body::from_word(u64::from_le_bytes(fields.get()?)).ok_or(BadRow)?;
    if flags & !(EXPIRES | HELD | IS_LATE | SHARED) != 0 {
        return Err(BadRow);
    }
    let expires = (flags & EXPIRES != 0).then_some(expiry);
    let held = flags & HELD != 0;
    let (due, note, shared) = (None, None, flags & SHARED != 0);
    Ok(Entry { birth, size, at, expires, returns, upload, due, note, held, shared })
}

fn piece_key_bytes(key: PieceKey) -> [u8; 12] {
    let mut bytes = Bytes::default();
    bytes.put(key.0.to_le_bytes());
    bytes.put(key.1.to_le_bytes());
    bytes.take()
}

pub(super) fn operation_key_bytes(key: OperationKey) -> [u8; 16] {
    let mut bytes = Bytes::default();
    bytes.put(key.0.to_le_bytes());
    bytes.put(key.1.to_le_bytes());
    bytes.take()
}

pub(super) fn producer_key(transaction: u64, id: Identity) -> ProducerKey {
    (transaction, u128::from_le_bytes(id.0).swap_bytes())
}

pub(super) fn producer_of(key: ProducerKey) -> Identity {
    Identity(key.1.swap_bytes().to_le_bytes())
}

pub(super) fn producer_key_bytes(key: ProducerKey) -> [u8; 24] {
    let mut bytes = Bytes::default();
    bytes.put(key.0.to_le_bytes());
    bytes.put(key.1.to_le_bytes());
    bytes.take()
}

pub(super) fn encode_piece(key: PieceKey, piece: PieceAt) -> [u8; PIECE] {
    let mut bytes = Bytes::default();
    bytes.put([VERSION]);
    bytes.put(piece.birth.0.to_le_bytes());
    bytes.put(piece.size.to_le_bytes());
    let crc = checksum(&piece_key_bytes(key), bytes.written());
    bytes.put(crc.to_le_bytes());
    bytes.take()
}

pub(super) fn decode_piece(key: PieceKey, row: &[u8; PIECE]) -> Result<PieceAt, BadRow> {
    let mut fields = Fields(verified(&piece_key_bytes(key), row)?);
    let birth = Lsn(u64::from_le_bytes(fields.get()?));
    Ok(PieceAt { birth, size: u32::from_le_bytes(fields.get()?) })
}

pub(super) fn encode_checkpoint(checkpoint: &Checkpoint) -> [u8; CHECKPOINT] {
    let mut bytes = Bytes::default();
    bytes.put([VERSION]);
    bytes.put(checkpoint.number.to_le_bytes());
    bytes.put(checkpoint.replay.batch.0.to_le_bytes());
    bytes.put(checkpoint.replay.through.0.to_le_bytes());
    let crc = checksum(META_CHECKPOINT.as_bytes(), bytes.written());
    bytes.put(crc.to_le_bytes());
    bytes.take()
}

pub(super) fn decode_checkpoint(row: &[u8]) -> Result<Checkpoint, BadRow> {
    let mut fields = Fields(verified(META_CHECKPOINT.as_bytes(), row)?);
    let number = u64::from_le_bytes(fields.get()?);
    let batch = Lsn(u64::from_le_bytes(fields.get()?));
    let through = Lsn(u64::from_le_bytes(fields.get()?));
    Ok(Checkpoint { number, replay: ReplayPoint { batch, through } })
}

pub(super) fn encode_pack(ordinal: u64, id: PackId) -> [u8; PACK] {
    let mut bytes = Bytes::default();
    bytes.put([VERSION]);
    bytes.put(id.epoch.to_le_bytes());
    bytes.put(id.number.to_le_bytes());
    let crc = checksum(&ordinal.to_le_bytes(), bytes.written());
    bytes.put(crc.to_le_bytes());
    bytes.take()
}

pub(super) fn decode_pack(ordinal: u64, row: &[u8; PACK]) -> Result<PackId, BadRow> {
    let mut fields = Fields(verified(&ordinal.to_le_bytes(), row)?);
    let epoch = u64::from_le_bytes(fields.get()?);
    Ok(PackId { epoch, number: u64::from_le_bytes(fields.get()?) })
}

fn options() -> impl Options {
    // Without a limit a damaged length would be an allocation of any size.
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .with_limit(limits::INDEX_ROW_BYTES_MAX)
        .reject_trailing_bytes()
}

/// A row in bincode under the key whose bytes are `key`.
pub(super) fn encode(key: &[u8], value: &impl Serialize) -> Vec<u8> {
    let mut row = vec![VERSION];
    options().serialize_into(&mut row, value).expect("names are limited, so the row is small");
    row.extend(checksum(key, &row).to_le_bytes());
    row
}

pub(super) fn decode<T: DeserializeOwned>(key: &[u8], row: &[u8]) -> Result<T, BadRow> {
    options().deserialize(verified(key, row)?).map_err(|_| BadRow)
}

fn checksum(key: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(value);
    hasher.finalize()
}

/// What lies between version and CRC, if both are right.
fn verified<'a>(key: &[u8], row: &'a [u8]) -> Result<&'a [u8], BadRow> {
    let (rest, crc) = row.split_last_chunk().ok_or(BadRow)?;
    if u32::from_le_bytes(*crc) != checksum(key, rest) {
        return Err(BadRow);
    }
    match rest.split_first() {
        Some((&VERSION, fields)) => Ok(fields),
        _ => Err(BadRow),
    }
}

/// `N` bytes in the making.
struct Bytes<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Default for Bytes<N> {
    fn default() -> Self {
        Self { bytes: [0; N], length: 0 }
    }
}

impl<const N: usize> Bytes<N> {
    fn put<const M: usize>(&mut self, field: [u8; M]) {
        self.bytes[self.length..self.length + M].copy_from_slice(&field);
        self.length += M;
    }

    fn written(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn take(self) -> [u8; N] {
        assert_eq!(self.length, N, "the layout has a size, and this is not it");
        self.bytes
    }
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn get<const N: usize>(&mut self) -> Result<[u8; N], BadRow> {
        let (field, rest) = self.0.split_first_chunk().ok_or(BadRow)?;
        self.0 = rest;
        Ok(*field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::delta::{QueueRow, Scalars};
    use proptest::prelude::*;

    const KEY: EntryKey = (3, 4, 5);

    fn entry() -> Entry {
        let expires = Some(Millis(0x0807_0605));
        let (birth, at, upload) = (Lsn(0x0102), Millis(0x0506), Body::from_word(0x090a).unwrap());
        let (due, note, held) = (None, None, false);
        let shared = false;
        Entry { birth, size: 0x0304, at, expires, returns: 7, upload, due, note, held, shared }
    }

    #[test]
    fn an_entry_has_this_layout() {
        let row = encode_entry(KEY, &entry());
        let fields = "\
            01 0201000000000000 04030000 0605000000000000 01 0506070800000000 07000000\
            0a09000000000000";
        let hex: String = row[..ENTRY - CRC].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, fields.replace(' ', ""));
        assert_eq!(decode_entry(KEY, &row), Ok(entry()));
    }

    #[test]
    fn an_entry_that_is_late_says_so_and_the_rest_elsewhere() {
        let late =
            Entry { due: Some(DueTime::at(Millis(0x0102))), note: NoteId::new(0x0304), ..entry() };
        let (row, more) = (encode_entry(KEY, &late), encode_late(KEY, &late));
        assert_eq!(more[..LATE_ROW - CRC], [1, 2, 1, 0, 0, 0, 0, 0, 0, 4, 3, 0, 0]);
        assert!(is_late(&row) && !is_late(&encode_entry(KEY, &entry())));
        assert_eq!(decode_late(KEY, &more, decode_entry(KEY, &row).unwrap()), Ok(late));
        assert_eq!(decode_late((3, 4, 6), &more, entry()), Err(BadRow));
    }

    #[test]
    fn a_piece_has_this_layout_and_belongs_to_its_key() {
        let row = encode_piece((3, 4), PieceAt { birth: Lsn(0x0102), size: 0x0304 });
        assert_eq!(row[..PIECE - CRC], [1, 2, 1, 0, 0, 0, 0, 0, 0, 4, 3, 0, 0]);
        assert_eq!(decode_piece((3, 4), &row), Ok(PieceAt { birth: Lsn(0x0102), size: 0x0304 }));
        assert_eq!(decode_piece((3, 5), &row), Err(BadRow));
    }

    #[test]
    fn a_row_under_another_key_or_with_a_flipped_bit_is_refused() {
        let row = encode_entry(KEY, &entry());
        assert_eq!(decode_entry((3, 4, 6), &row), Err(BadRow));
        for bit in 0..ENTRY * 8 {
            let mut bad = row;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_entry(KEY, &bad), Err(BadRow), "bit {bit}");
        }
    }

    #[test]
    fn a_checkpoint_reads_back_as_written() {
        let replay = ReplayPoint { batch: Lsn(1), through: Lsn(u64::MAX) };
        let checkpoint = Checkpoint { number: 9, replay };
        let row = encode_checkpoint(&checkpoint);
        assert_eq!(decode_checkpoint(&row), Ok(checkpoint));
        assert_eq!(decode_checkpoint(&row[1..]), Err(BadRow));
    }

    #[test]
    fn a_pack_reads_back_under_its_own_ordinal() {
        let id = PackId { epoch: 3, number: 0x0102 };
        let row = encode_pack(7, id);
        assert_eq!(decode_pack(7, &row), Ok(id));
        assert_eq!(decode_pack(8, &row), Err(BadRow));
    }

    proptest! {
        #[test]
        fn queues_and_scalars_read_back_as_written(name: String, last_seq: u64, lent: [u64; 10]) {
            let row = QueueRow {
                name: name.into(),
                last_seq,
                depth: last_seq / 2,
                bytes: last_seq / 3,
                lent_through: lent.into(),
                redelivered_through: lent.map(|seq| seq / 2).into(),
                staged: last_seq / 4,
                staged_bytes: last_seq / 5,
                held: last_seq / 6,
                expiring: last_seq % 2 == 1,
                delayed: last_seq / 4, restored_through: last_seq / 5,
            };
            let scalars = Scalars {
                last_queue: last_seq,
                last_at: lent[0],
                epoch: lent[1],
                life_at: lent[4],
                last_upload: lent[2],
                last_note: 7,
                last_transaction: lent[3],
                restored: lent[4],
                restored_at: lent[5],
            };
            prop_assert_eq!(decode(b"q", &encode(b"q", &row)), Ok(row));
            prop_assert_eq!(decode(b"s", &encode(b"s", &scalars)), Ok(scalars));
        }

        #[test]
        fn any_bytes_are_a_row_or_a_clear_no(mut bytes: Vec<u8>) {
            prop_assert_eq!(decode::<QueueRow>(b"q", &bytes), Err(BadRow));
            // With the checksum right, what is inside must still be parsed with care.
            bytes.insert(0, VERSION);
            bytes.extend(checksum(b"q", &bytes).to_le_bytes());
            let _ = decode::<QueueRow>(b"q", &bytes);
            let _ = decode_checkpoint(&bytes);
        }
    }
}
