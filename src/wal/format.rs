//! The bytes of the log's files: values in, bytes out, and back.
//!
//! Owns every offset in `wal-format.md`; no other file adds to a byte position inside a header.
//! Always: little-endian; zero bytes are never a valid anything; a length is checked against a
//! named maximum before anyone allocates by it.
//! Leaves to others: files (`segment`), hand-over (`log`), verdicts (`recovery`), meaning (the
//! owner of the records).

mod pack;

use crc32fast::Hasher;

use crate::mutant::{self, Mutant};

use crate::ids::Lsn;

pub use pack::{
    DIRECTORY_GROUPS_MAX, GROUP_BYTES, Group, PACK_ORDINALS_MAX, PackHeader, PackId,
    directory_decode, directory_encode,
};

/// Batches begin and end on multiples of this: no block of the disk is written twice.
pub const BLOCK_BYTES: usize = 4096;

/// The smallest segment: its header and three blocks.
pub const SEGMENT_BYTES_MIN: u64 = 4 * BLOCK_BYTES as u64;

/// The largest segment: batch lengths fit a `u32`, and a segment is read in seconds.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// The newest version of each kind of file that this program writes and reads.
pub const VERSION: u32 = 1;

/// Segments one seal can list: bounds what a damaged count makes a reader allocate (40 MiB).
pub const SEAL_SEGMENTS_MAX: usize = 1 << 20;

const U16: usize = size_of::<u16>();
const U32: usize = size_of::<u32>();
const U64: usize = size_of::<u64>();
const U128: usize = size_of::<u128>();
const MAGIC: usize = 8;

const SEGMENT_MAGIC: [u8; MAGIC] = *b"EscMQwal";
const IDENTITY_MAGIC: [u8; MAGIC] = *b"EscMQsto";
const CLAIM_MAGIC: [u8; MAGIC] = *b"EscMQcla";
const SEAL_MAGIC: [u8; MAGIC] = *b"EscMQsea";
const ORIGIN_MAGIC: [u8; MAGIC] = *b"EscMQori";
const BATCH_MAGIC: u32 = 0x4851_4d45; // "EMQH"

/// A CRC-32 (IEEE, reflected polynomial 0xEDB88320) that continues from `seed`.
pub fn crc(seed: u32, bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new_with_initial(seed);
    hasher.update(bytes);
    hasher.finalize()
}

fn same(found: u32, expected: u32) -> bool {
    found == expected || mutant::is(Mutant::IgnoreChecksum)
}

/// Why the head of a file is not what its name promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadFault {
    /// The file is of another kind, or was never written.
    Magic,
    /// A newer program wrote it.
    Version(u32),
    /// Its checksum, or a length in it, is wrong.
    Checksum,
}

/// Lays values one after the other.
struct Writer<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn put(&mut self, value: &[u8]) -> &mut Self {
        self.bytes[self.at..self.at + value.len()].copy_from_slice(value);
        self.at += value.len();
        self
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        self.put(&value.to_le_bytes())
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.put(&value.to_le_bytes())
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.put(&value.to_le_bytes())
    }

    fn u128(&mut self, value: u128) -> &mut Self {
        self.put(&value.to_le_bytes())
    }

    fn zeros(&mut self, count: usize) -> &mut Self {
        self.bytes[self.at..self.at + count].fill(0);
        self.at += count;
        self
    }
}

/// Reads values one after the other. The caller has checked that the bytes are enough.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let value = self.bytes[self.at..self.at + N].try_into().expect("a slice of N bytes");
        self.at += N;
        value
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn u128(&mut self) -> u128 {
        u128::from_le_bytes(self.take())
    }

    fn zeros(&mut self, count: usize) -> bool {
        let zero = self.bytes[self.at..self.at + count].iter().all(|b| *b == 0);
        self.at += count;
        zero
    }
}

/// Magic first, version second, checksum last: what all small files and headers share.
fn head_check(bytes: &[u8], magic: [u8; MAGIC]) -> Result<(), HeadFault> {
    if bytes.len() < MAGIC + U32 + U32 || bytes[..MAGIC] != magic {
        return Err(HeadFault::Magic);
    }
    let version = Cursor::new(&bytes[MAGIC..]).u32();
    if version != VERSION {
        return Err(HeadFault::Version(version));
    }
    let (body, sum) = bytes.split_at(bytes.len() - U32);
    if crc(0, body) != Cursor::new(sum).u32() { Err(HeadFault::Checksum) } else { Ok(()) }
}

fn head_finish(bytes: &mut [u8]) -> u32 {
    let body = bytes.len() - U32;
    let sum = crc(0, &bytes[..body]);
    bytes[body..].copy_from_slice(&sum.to_le_bytes());
    sum
}

/// What is fixed for the life of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Chosen at random when the store is made.
    pub store: u128,
    /// Bytes of each of its segments.
    pub segment_size: u64,
}

/// `magic 8 | version 4 | store 16 | segment size 8 | crc 4`
pub const IDENTITY_BYTES: usize = MAGIC + U32 + U128 + U64 + U32;

impl Identity {
    /// The whole file.
    pub fn encode(&self) -> [u8; IDENTITY_BYTES] {
        let mut bytes = [0; IDENTITY_BYTES];
        let mut writer = Writer::new(&mut bytes);
        writer.put(&IDENTITY_MAGIC).u32(VERSION).u128(self.store).u64(self.segment_size);
        head_finish(&mut bytes);
        bytes
    }

    /// The identity, or what is wrong with the file.
    pub fn decode(bytes: &[u8]) -> Result<Identity, HeadFault> {
        head_check(bytes, IDENTITY_MAGIC)?;
        if bytes.len() != IDENTITY_BYTES {
            return Err(HeadFault::Checksum);
        }
        let mut cursor = Cursor::new(&bytes[MAGIC + U32..]);
        let identity = Identity { store: cursor.u128(), segment_size: cursor.u64() };
        if !segment_size_is_legal(identity.segment_size) {
            return Err(HeadFault::Checksum);
        }
        Ok(identity)
    }
}

/// Whether segments may have this size: a multiple of the block within the two limits.
pub fn segment_size_is_legal(size: u64) -> bool {
    (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&size)
        && size.is_multiple_of(BLOCK_BYTES as u64)
}

/// `magic 8 | version 4 | store 16 | epoch 8 | nonce 16 | crc 4`
pub const CLAIM_BYTES: usize = MAGIC + U32 + U128 + U64 + U128 + U32;

/// The content of a claim. Its name alone is what counts; the content is for people.
pub fn claim_encode(store: u128, epoch: u64, nonce: u128) -> [u8; CLAIM_BYTES] {
    let mut bytes = [0; CLAIM_BYTES];
    let mut writer = Writer::new(&mut bytes);
    writer.put(&CLAIM_MAGIC).u32(VERSION).u128(store).u64(epoch).u128(nonce);
    head_finish(&mut bytes);
    bytes
}

/// The store and the epoch that a claim names, or what is wrong with the file.
pub fn claim_decode(bytes: &[u8]) -> Result<(u128, u64), HeadFault> {
    head_check(bytes, CLAIM_MAGIC)?;
    if bytes.len() != CLAIM_BYTES {
        return Err(HeadFault::Checksum);
    }
    let mut cursor = Cursor::new(&bytes[MAGIC + U32..]);
    Ok((cursor.u128(), cursor.u64()))
}

/// Where a store comes from: it was restored from a backup of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The store that was made.
    pub store: u128,
    /// The last epoch of the other: what it and those before wrote carries the other's id.
    pub epoch: u64,
    /// The id of the other.
    pub from: u128,
}

/// `magic 8 | version 4 | store 16 | epoch 8 | from 16 | crc 4`
pub const ORIGIN_BYTES: usize = MAGIC + U32 + U128 + U64 + U128 + U32;

impl Origin {
    /// The whole file.
    pub fn encode(&self) -> [u8; ORIGIN_BYTES] {
        let mut bytes = [0; ORIGIN_BYTES];
        let mut writer = Writer::new(&mut bytes);
        writer.put(&ORIGIN_MAGIC).u32(VERSION).u128(self.store).u64(self.epoch).u128(self.from);
        head_finish(&mut bytes);
        bytes
    }

    /// The origin, or what is wrong with the file.
    pub fn decode(bytes: &[u8]) -> Result<Origin, HeadFault> {
        head_check(bytes, ORIGIN_MAGIC)?;
        if bytes.len() != ORIGIN_BYTES {
            return Err(HeadFault::Checksum);
        }
        let mut cursor = Cursor::new(&bytes[MAGIC + U32..]);
        Ok(Origin { store: cursor.u128(), epoch: cursor.u64(), from: cursor.u128() })
    }
}

/// The first block of a segment: whose it is, and what seeds its checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The store it belongs to.
    pub store: u128,
    /// The owner that wrote it.
    pub epoch: u64,
    /// Its number; with the size it gives the first Lsn.
    pub ordinal: u64,
    /// Bytes of the file.
    pub segment_size: u64,
    /// Differs between two lives of one file.
    pub nonce: u64,
}

/// `magic 8 | version 4 | store 16 | epoch 8 | ordinal 8 | size 8 | first Lsn 8 | nonce 8 | crc 4`
pub const SEGMENT_HEADER_BYTES: usize = MAGIC + U32 + U128 + 5 * U64 + U32;

/// Where the second copy of the segment header lies.
pub const SEGMENT_HEADER_COPY: usize = BLOCK_BYTES / 2;

const _: () = assert!(SEGMENT_HEADER_BYTES <= SEGMENT_HEADER_COPY);

impl SegmentHeader {
    /// The Lsn of the segment's first byte.
    pub fn first_lsn(&self) -> Lsn {
        Lsn(self.ordinal * self.segment_size)
    }

    /// What every checksum inside the segment starts from: neither an earlier life of the file nor
    /// bytes that a client chose can fit it.
    pub fn seed(&self) -> u32 {
        let mut bytes = [0; U128 + 3 * U64];
        let mut writer = Writer::new(&mut bytes);
        writer.u128(self.store).u64(self.epoch).u64(self.ordinal).u64(self.nonce);
        crc(0, &bytes)
    }

    /// The whole first block, with both copies.
    pub fn encode(&self) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        let copy = &mut block[..SEGMENT_HEADER_BYTES];
        let mut writer = Writer::new(copy);
        writer.put(&SEGMENT_MAGIC).u32(VERSION).u128(self.store).u64(self.epoch);
        writer.u64(self.ordinal).u64(self.segment_size).u64(self.first_lsn().0).u64(self.nonce);
        head_finish(copy);
        block.copy_within(..SEGMENT_HEADER_BYTES, SEGMENT_HEADER_COPY);
        block
    }

    /// The header, from whichever copy is good.
    pub fn decode(block: &[u8; BLOCK_BYTES]) -> Result<SegmentHeader, HeadFault> {
        let first = Self::decode_copy(&block[..SEGMENT_HEADER_BYTES]);
        let second = &block[SEGMENT_HEADER_COPY..SEGMENT_HEADER_COPY + SEGMENT_HEADER_BYTES];
        match (first, Self::decode_copy(second)) {
            (Ok(header), _) | (Err(_), Ok(header)) => Ok(header),
            // The copy that came closer tells more: a foreign version beats a bad checksum, and
            // both beat a missing magic.
            (Err(fault @ HeadFault::Version(_)), _) | (_, Err(fault @ HeadFault::Version(_))) => {
                Err(fault)
            }
            (Err(HeadFault::Magic), Err(HeadFault::Magic)) => Err(HeadFault::Magic),
            _ => Err(HeadFault::Checksum),
        }
    }

    /// Where the copy lies that is not this header, if one is not.
    pub fn damaged_copy(&self, block: &[u8; BLOCK_BYTES]) -> Option<usize> {
        let copy = |at: usize| Self::decode_copy(&block[at..at + SEGMENT_HEADER_BYTES]).ok();
        [0, SEGMENT_HEADER_COPY].into_iter().find(|at| copy(*at) != Some(*self))
    }

    fn decode_copy(bytes: &[u8]) -> Result<SegmentHeader, HeadFault> {
        head_check(bytes, SEGMENT_MAGIC)?;
        let mut cursor = Cursor::new(&bytes[MAGIC + U32..]);
        let (store, epoch, ordinal) = (cursor.u128(), cursor.u64(), cursor.u64());
        let (segment_size, first, nonce) = (cursor.u64(), cursor.u64(), cursor.u64());
        let legal = segment_size_is_legal(segment_size)
            && ordinal >= 1
            && ordinal.checked_mul(segment_size) == Some(first);
        if !legal {
            return Err(HeadFault::Checksum);
        }
        Ok(SegmentHeader { store, epoch, ordinal, segment_size, nonce })
    }
}

/// One segment in a seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The owner that wrote it.
    pub epoch: u64,
    /// Its number.
    pub ordinal: u64,
    /// The owner that copied it, or 0 where the file is the one its writer wrote.
    pub copied_by: u64,
    /// Where it ends, or `None` where nobody needs to know any more: replay never enters it
    /// again, and its payloads are found by their own Lsns.
    pub end: Option<End>,
}

/// The end of what counts in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Bytes from the start of the file.
    pub length: u64,
    /// The chain value of its last batch.
    pub chain: u32,
}

/// An owner's account of the past: what of it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The store it belongs to.
    pub store: u128,
    /// The owner that states it.
    pub epoch: u64,
    /// The number of that owner's first segment: greater than all before.
    pub first_ordinal: u64,
    /// The segments of earlier owners, in the order of their numbers.
    pub segments: Vec<Sealed>,
}

/// `magic 8 | version 4 | store 16 | epoch 8 | first ordinal 8 | count 4`, entries, `crc 4`
const SEAL_HEAD_BYTES: usize = MAGIC + U32 + U128 + 2 * U64 + U32;

/// `epoch 8 | ordinal 8 | copied by 8 | length 8 (0: not known) | chain 4 | zeros 4`
const SEALED_BYTES: usize = 4 * U64 + 2 * U32;

/// The most bytes a seal can have.
pub const SEAL_BYTES_MAX: usize = SEAL_HEAD_BYTES + SEAL_SEGMENTS_MAX * SEALED_BYTES + U32;

impl Seal {
    /// The whole file, and its checksum: the first link of its owner's chain.
    pub fn encode(&self) -> (Vec<u8>, u32) {
        assert!(self.segments.len() <= SEAL_SEGMENTS_MAX);
        let mut bytes = vec![0; SEAL_HEAD_BYTES + self.segments.len() * SEALED_BYTES + U32];
        let mut writer = Writer::new(&mut bytes);
        writer.put(&SEAL_MAGIC).u32(VERSION).u128(self.store).u64(self.epoch);
        writer.u64(self.first_ordinal).u32(self.segments.len() as u32);
        for sealed in &self.segments {
            let end = sealed.end.unwrap_or(End { length: 0, chain: 0 });
            writer.u64(sealed.epoch).u64(sealed.ordinal).u64(sealed.copied_by);
            writer.u64(end.length).u32(end.chain).u32(0);
        }
        let sum = head_finish(&mut bytes);
        (bytes, sum)
    }

    /// The seal and its checksum, or what is wrong with the file.
    pub fn decode(bytes: &[u8]) -> Result<(Seal, u32), HeadFault> {
        head_check(bytes, SEAL_MAGIC)?;
        if bytes.len() < SEAL_HEAD_BYTES + U32 {
            return Err(HeadFault::Checksum);
        }
        let mut cursor = Cursor::new(&bytes[MAGIC + U32..]);
        let (store, epoch) = (cursor.u128(), cursor.u64());
        let (first_ordinal, count) = (cursor.u64(), cursor.u32() as usize);
        let fits = count <= SEAL_SEGMENTS_MAX
            && bytes.len() == SEAL_HEAD_BYTES + count * SEALED_BYTES + U32;
        if !fits {
            return Err(HeadFault::Checksum);
        }
        let mut segments: Vec<Sealed> = Vec::with_capacity(count);
        for _ in 0..count {
            let (epoch, ordinal, copied_by) = (cursor.u64(), cursor.u64(), cursor.u64());
            let (length, chain) = (cursor.u64(), cursor.u32());
            let end = (length != 0).then_some(End { length, chain });
            let sorted = segments.last().is_none_or(|last| last.ordinal < ordinal);
            if !sorted || !cursor.zeros(U32) {
                return Err(HeadFault::Checksum);
            }
            segments.push(Sealed { epoch, ordinal, copied_by, end });
        }
        let sum = cursor.u32();
        Ok((Seal { store, epoch, first_ordinal, segments }, sum))
    }
}

/// The head of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Frames in it; zero in the batch that says goodbye.
    pub count: u32,
    /// The owner that wrote it.
    pub epoch: u64,
    /// Its own position.
    pub lsn: Lsn,
    /// Everything before this was durable when the batch was finished.
    pub durable: Lsn,
    /// Where the batch before it ended; zero before the first batch of an owner.
    pub previous_end: Lsn,
    /// Bytes, padding included.
    pub length: u32,
    /// Over the structure checksums of its frames, in order.
    pub digest: u32,
    /// The chain value of the batch before it, or the checksum of the owner's seal.
    pub previous: u32,
}

/// `magic 4 | count 4 | epoch 8 | lsn 8 | durable 8 | previous end 8 | length 4 | digest 4 |
/// previous 4 | zeros 8 | crc 4`
pub const BATCH_HEADER_BYTES: usize = 2 * U32 + 4 * U64 + 3 * U32 + BATCH_ZEROS + U32;
const BATCH_ZEROS: usize = 8;

const _: () = assert!(BATCH_HEADER_BYTES == 64);

/// What the bytes are where a batch may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchHead {
    /// A header with a good checksum, and that checksum: the chain value of the batch.
    Good(BatchHeader, u32),
    /// It claims to be the batch of this position and is not whole.
    Broken,
    /// Zeros, or bytes that have nothing to do with this position.
    Blank,
}

impl BatchHeader {
    /// Writes the header and returns the chain value of the batch.
    pub fn encode(&self, seed: u32, bytes: &mut [u8]) -> u32 {
        let bytes = &mut bytes[..BATCH_HEADER_BYTES];
        let mut writer = Writer::new(bytes);
        writer.u32(BATCH_MAGIC).u32(self.count).u64(self.epoch).u64(self.lsn.0);
        writer.u64(self.durable.0).u64(self.previous_end.0).u32(self.length);
        writer.u32(self.digest).u32(self.previous).zeros(BATCH_ZEROS);
        let body = BATCH_HEADER_BYTES - U32;
        let chain = crc(seed, &bytes[..body]);
        bytes[body..].copy_from_slice(&chain.to_le_bytes());
        chain
    }

    /// What lies at the start of `bytes`, which are at least a header long, at position `lsn`.
    pub fn decode(seed: u32, bytes: &[u8], lsn: Lsn) -> BatchHead {
        let bytes = &bytes[..BATCH_HEADER_BYTES];
        let mut cursor = Cursor::new(bytes);
        let magic = cursor.u32();
        let count = cursor.u32();
        let (epoch, own, durable) = (cursor.u64(), Lsn(cursor.u64()), Lsn(cursor.u64()));
        let (previous_end, length) = (Lsn(cursor.u64()), cursor.u32());
        let (digest, previous) = (cursor.u32(), cursor.u32());
        let zeros = cursor.zeros(BATCH_ZEROS);
        let chain = cursor.u32();
        if magic == BATCH_MAGIC && zeros && chain == crc(seed, &bytes[..bytes.len() - U32]) {
            let header = BatchHeader {
                count,
                epoch,
                lsn: own,
                durable,
                previous_end,
                length,
                digest,
                previous,
            };
            return BatchHead::Good(header, chain);
        }
        if own == lsn { BatchHead::Broken } else { BatchHead::Blank }
    }

    /// Whether the header can stand at `lsn` of `epoch` with `room` bytes to the segment's end.
    pub fn fits(&self, epoch: u64, lsn: Lsn, room: u64) -> bool {
        let length = self.length as usize;
        let smallest =
            BATCH_HEADER_BYTES as u64 + u64::from(self.count) * FRAME_HEADER_BYTES as u64;
        self.epoch == epoch
            && self.lsn == lsn
            && length > 0
            && length.is_multiple_of(BLOCK_BYTES)
            && u64::from(self.length) <= room
            && smallest <= u64::from(self.length)
            && self.durable <= lsn
            && self.previous_end <= lsn
    }
}

/// Continues a batch's digest by one frame.
pub fn digest_next(digest: u32, structure_crc: u32) -> u32 {
    crc(digest, &structure_crc.to_le_bytes())
}

/// The head of a frame, checksums aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Its own position.
    pub lsn: Lsn,
    /// What the record is, to whom it concerns; never zero.
    pub kind: u16,
    /// Bytes of the record.
    pub record_len: u32,
    /// Bytes of the payload.
    pub payload_len: u32,
}

/// `structure crc 4 | payload crc 4 | record length 4 | payload length 4 | lsn 8 | kind 2 |
/// zeros 6`
pub const FRAME_HEADER_BYTES: usize = 4 * U32 + U64 + U16 + FRAME_ZEROS;
const FRAME_ZEROS: usize = 6;
/// Frames begin on multiples of this.
pub const FRAME_ALIGN: usize = 8;

const _: () = assert!(FRAME_HEADER_BYTES == 32);

/// Bytes a frame takes, padding included.
pub const fn frame_bytes(record: usize, payload: usize) -> usize {
    (FRAME_HEADER_BYTES + record + payload).next_multiple_of(FRAME_ALIGN)
}

/// Writes a frame into all of `frame`, which has [`frame_bytes`], and returns its structure
/// checksum.
pub fn frame_encode(
    seed: u32,
    lsn: Lsn,
    kind: u16,
    record: &[u8],
    payload: &[u8],
    frame: &mut [u8],
) -> u32 {
    let (head, rest) = frame.split_at_mut(FRAME_HEADER_BYTES);
    let mut writer = Writer::new(head);
    writer.u32(0).u32(crc(seed, payload)).u32(record.len() as u32).u32(payload.len() as u32);
    writer.u64(lsn.0).u16(kind).zeros(FRAME_ZEROS);
    let (its_record, rest) = rest.split_at_mut(record.len());
    its_record.copy_from_slice(record);
    let (its_payload, padding) = rest.split_at_mut(payload.len());
    its_payload.copy_from_slice(payload);
    padding.fill(0);
    let structure = crc(seed, &frame[U32..FRAME_HEADER_BYTES + record.len()]);
    frame[..U32].copy_from_slice(&structure.to_le_bytes());
    structure
}

/// A frame found whole, but for its payload perhaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameView {
    /// Its head.
    pub header: FrameHeader,
    /// Covers the head and the record.
    pub structure_crc: u32,
    /// Whether the payload's checksum is good.
    pub payload_good: bool,
}

impl FrameView {
    /// The payload, in the bytes of the frame.
    pub(crate) fn payload_of<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let at = self.header.payload_at();
        &bytes[at..at + self.header.payload_len as usize]
    }
}

impl FrameHeader {
    /// Bytes from the frame's start to its payload.
    pub fn payload_at(&self) -> usize {
        FRAME_HEADER_BYTES + self.record_len as usize
    }

    /// Bytes the frame takes, padding included.
    pub fn frame_len(&self) -> usize {
        frame_bytes(self.record_len as usize, self.payload_len as usize)
    }
}

/// The frame at the start of `bytes`, or `None` where its structure is not that of a frame at
/// `lsn`. Allocates nothing.
pub fn frame_decode(seed: u32, lsn: Lsn, bytes: &[u8]) -> Option<FrameView> {
    if bytes.len() < FRAME_HEADER_BYTES {
        return None;
    }
    let mut cursor = Cursor::new(bytes);
    let (structure_crc, payload_crc) = (cursor.u32(), cursor.u32());
    let (record_len, payload_len) = (cursor.u32(), cursor.u32());
    let (own, kind) = (Lsn(cursor.u64()), cursor.u16());
    let header = FrameHeader { lsn: own, kind, record_len, payload_len };
    // Summed as u64: two lengths of 4 GiB must not wrap where `usize` is small.
    let needed = FRAME_HEADER_BYTES as u64 + u64::from(record_len) + u64::from(payload_len);
    if own != lsn || kind == 0 || !cursor.zeros(FRAME_ZEROS) || needed > bytes.len() as u64 {
        return None;
    }
    let payload_at = header.payload_at();
    if !same(crc(seed, &bytes[U32..payload_at]), structure_crc) {
        return None;
    }
    let payload = &bytes[payload_at..payload_at + payload_len as usize];
    Some(FrameView { header, structure_crc, payload_good: same(crc(seed, payload), payload_crc) })
}

/// The Lsn that the frame at the start of `bytes`, if it is one, calls its own.
pub fn frame_born(bytes: &[u8]) -> Option<Lsn> {
    const LSN_AT: usize = 4 * U32;
    bytes.get(LSN_AT..LSN_AT + U64).map(|bytes| Lsn(Cursor::new(bytes).u64()))
}

/// Walks the frames of a batch whose header is good, calling `each` with the offset of every frame
/// inside the batch. `Err` is the offset of the first frame whose structure is bad; the batch's
/// own offset, zero, where the frames are whole but not those the header speaks of.
pub fn batch_walk(
    seed: u32,
    header: &BatchHeader,
    bytes: &[u8],
    mut each: impl FnMut(usize, FrameView),
) -> Result<(), usize> {
    let mut at = BATCH_HEADER_BYTES;
    let mut digest = seed;
    for _ in 0..header.count {
        let lsn = Lsn(header.lsn.0 + at as u64);
        let view = bytes.get(at..).and_then(|rest| frame_decode(seed, lsn, rest)).ok_or(at)?;
        digest = digest_next(digest, view.structure_crc);
        each(at, view);
        at += view.header.frame_len();
    }
    let whole = at.next_multiple_of(BLOCK_BYTES) == bytes.len();
    if whole && digest == header.digest { Ok(()) } else { Err(0) }
}
