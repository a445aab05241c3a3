//! The bytes of a pack's own parts: its header and its directory.
//!
//! Frames inside a pack have the layout of those in a segment; only their seed is the pack's.
//! Leaves to others: files (`crate::wal::pack`), and which frames a pack holds
//! (`crate::wal::packing`).

use super::{
    BLOCK_BYTES, Cursor, FRAME_ALIGN, HeadFault, MAGIC, U32, U64, U128, VERSION, Writer, crc,
    head_check, head_finish, same, segment_size_is_legal,
};
use crate::ids::Lsn;

const PACK_MAGIC: [u8; MAGIC] = *b"EscMQpac";
const DIRECTORY_MAGIC: u32 = 0x4451_4d45; // "EMQD"

/// Segments that one pack stands for at most: so many ordinals fit beside each other twice into
/// the header block.
pub const PACK_ORDINALS_MAX: usize = 240;

/// A group is closed before it grows beyond this; only a single larger frame makes a larger one.
pub const GROUP_BYTES: usize = BLOCK_BYTES;

/// Groups that one block of the directory names at most.
pub const DIRECTORY_GROUPS_MAX: usize = (BLOCK_BYTES - DIRECTORY_HEAD_BYTES) / GROUP_ENTRY_BYTES;

/// `crc 4 | magic 4 | its number 4 | groups 4`
const DIRECTORY_HEAD_BYTES: usize = 4 * U32;

/// `birth 8 | offset 4 | length 4`, the last two in units of eight bytes.
const GROUP_ENTRY_BYTES: usize = U64 + 2 * U32;

/// One copy of a pack's header; the second follows it and fills the block.
const PACK_HEADER_BYTES: usize = BLOCK_BYTES / 2;

/// `magic 8 | version 4 | store 16 | epoch 8 | number 8 | nonce 8 | segment size 8 |
/// frames end 8 | directory blocks 4 | ordinals 4`
const PACK_FIXED_BYTES: usize = MAGIC + U32 + U128 + 5 * U64 + 2 * U32;

const _: () = assert!(DIRECTORY_GROUPS_MAX == 255);
const _: () = assert!(PACK_FIXED_BYTES + PACK_ORDINALS_MAX * U64 + U32 <= PACK_HEADER_BYTES);

/// Which pack: its owner's epoch, and its number among that owner's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackId {
    /// The owner that wrote it.
    pub epoch: u64,
    /// From 1.
    pub number: u64,
}

/// The first block of a pack: whose it is, where its parts lie, what seeds its checksums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackHeader {
    /// The store it belongs to.
    pub store: u128,
    /// Its name.
    pub id: PackId,
    /// Differs between any two files.
    pub nonce: u64,
    /// Bytes of the store's segments: with it a birth tells its ordinal.
    pub segment_size: u64,
    /// Where the last frame ends.
    pub frames_end: u64,
    /// Blocks of the directory, once.
    pub directory_blocks: u32,
    /// The segments for whose live frames it stands, ascending.
    pub ordinals: Vec<u64>,
}

impl PackHeader {
    /// What every checksum inside the pack starts from. The tag keeps it apart from the seed of
    /// any segment.
    pub fn seed(&self) -> u32 {
        let mut bytes = [0; U32 + U128 + 3 * U64];
        let mut writer = Writer::new(&mut bytes);
        writer.put(b"pack").u128(self.store).u64(self.id.epoch).u64(self.id.number);
        writer.u64(self.nonce);
        crc(0, &bytes)
    }

    /// Where copy 0 or copy 1 of the directory begins; copy 2 would begin where the file ends.
    pub fn directory_at(&self, copy: u64) -> u64 {
        let first = self.frames_end.next_multiple_of(BLOCK_BYTES as u64);
        first + copy * u64::from(self.directory_blocks) * BLOCK_BYTES as u64
    }

    /// Bytes of the file.
    pub fn file_bytes(&self) -> u64 {
        self.directory_at(2)
    }

    /// The whole first block, with both copies.
    pub fn encode(&self) -> [u8; BLOCK_BYTES] {
        assert!(self.ordinals.len() <= PACK_ORDINALS_MAX, "{} ordinals", self.ordinals.len());
        let mut block = [0; BLOCK_BYTES];
        let copy = &mut block[..PACK_HEADER_BYTES];
        let mut writer = Writer::new(copy);
        writer.put(&PACK_MAGIC).u32(VERSION).u128(self.store);
        writer.u64(self.id.epoch).u64(self.id.number).u64(self.nonce).u64(self.segment_size);
        writer.u64(self.frames_end).u32(self.directory_blocks).u32(self.ordinals.len() as u32);
        for ordinal in &self.ordinals {
            writer.u64(*ordinal);
        }
        head_finish(copy);
        block.copy_within(..PACK_HEADER_BYTES, PACK_HEADER_BYTES);
        block
    }

    /// The header, from whichever copy is good.
    pub fn decode(block: &[u8; BLOCK_BYTES]) -> Result<PackHeader, HeadFault> {
        let (first, second) = block.split_at(PACK_HEADER_BYTES);
        Self::decode_copy(first).or_else(|fault| match (fault, Self::decode_copy(second)) {
            (_, Ok(header)) => Ok(header),
            // The copy that came closer tells more, as with a segment's header.
            (HeadFault::Magic, Err(other)) => Err(other),
            (HeadFault::Checksum, Err(other @ HeadFault::Version(_))) => Err(other),
            (fault, Err(_)) => Err(fault),
        })
    }

    fn decode_copy(bytes: &[u8]) -> Result<PackHeader, HeadFault> {
        head_check(bytes, PACK_MAGIC)?;
        let mut cursor = Cursor::new(&bytes[MAGIC + U32..]);
        let store = cursor.u128();
        let id = PackId { epoch: cursor.u64(), number: cursor.u64() };
        let (nonce, segment_size, frames_end) = (cursor.u64(), cursor.u64(), cursor.u64());
        let (directory_blocks, count) = (cursor.u32(), cursor.u32() as usize);
        if count > PACK_ORDINALS_MAX {
            return Err(HeadFault::Checksum);
        }
        let ordinals: Vec<u64> = (0..count).map(|_| cursor.u64()).collect();
        let zeros = cursor.zeros(PACK_HEADER_BYTES - U32 - PACK_FIXED_BYTES - count * U64);
        let legal = segment_size_is_legal(segment_size)
            && frames_end >= BLOCK_BYTES as u64
            // An offset in the directory has so many bits.
            && frames_end <= u64::from(u32::MAX) * FRAME_ALIGN as u64
            && ordinals.is_sorted_by(|a, b| a < b);
        if !zeros || !legal {
            return Err(HeadFault::Checksum);
        }
        Ok(PackHeader { store, id, nonce, segment_size, frames_end, directory_blocks, ordinals })
    }
}

/// Frames that lie together and are read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// The birth of its first frame.
    pub birth: Lsn,
    /// Where in the file it begins: a multiple of eight.
    pub offset: u64,
    /// Its bytes: a multiple of eight.
    pub length: u64,
}

/// A block of the directory, by its number in it.
pub fn directory_encode(seed: u32, number: u32, groups: &[Group]) -> [u8; BLOCK_BYTES] {
    assert!((1..=DIRECTORY_GROUPS_MAX).contains(&groups.len()), "{} groups", groups.len());
    let unit = |bytes: u64| u32::try_from(bytes / FRAME_ALIGN as u64).expect("a pack is small");
    let mut block = [0; BLOCK_BYTES];
    let mut writer = Writer::new(&mut block);
    writer.u32(0).u32(DIRECTORY_MAGIC).u32(number).u32(groups.len() as u32);
    for group in groups {
        writer.u64(group.birth.0).u32(unit(group.offset)).u32(unit(group.length));
    }
    let sum = crc(seed, &block[U32..]);
    block[..U32].copy_from_slice(&sum.to_le_bytes());
    block
}

/// The groups of a block of the directory, or `None` where it is not that block.
pub fn directory_decode(seed: u32, number: u32, block: &[u8; BLOCK_BYTES]) -> Option<Vec<Group>> {
    let mut cursor = Cursor::new(block);
    let (sum, magic, own, count) = (cursor.u32(), cursor.u32(), cursor.u32(), cursor.u32());
    let count = count as usize;
    let head = magic == DIRECTORY_MAGIC && own == number;
    let fits = head && (1..=DIRECTORY_GROUPS_MAX).contains(&count);
    if !fits || !same(crc(seed, &block[U32..]), sum) {
        return None;
    }
    let unit = |value: u32| u64::from(value) * FRAME_ALIGN as u64;
    let group = |cursor: &mut Cursor<'_>| {
        let birth = Lsn(cursor.u64());
        Group { birth, offset: unit(cursor.u32()), length: unit(cursor.u32()) }
    };
    let groups: Vec<Group> = (0..count).map(|_| group(&mut cursor)).collect();
    groups.is_sorted_by(|a, b| a.birth < b.birth).then_some(groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(ordinals: Vec<u64>) -> PackHeader {
        PackHeader {
            store: 7,
            id: PackId { epoch: 2, number: 3 },
            nonce: 9,
            segment_size: 1 << 16,
            frames_end: 5000 * 8,
            directory_blocks: 2,
            ordinals,
        }
    }

    #[test]
    fn a_header_reads_back_with_either_copy_lost() {
        for header in [header(vec![]), header(vec![1, 4]), header((1..=240).collect())] {
            let block = header.encode();
            for lost in [0..0, 0..PACK_HEADER_BYTES, PACK_HEADER_BYTES..BLOCK_BYTES] {
                let mut block = block;
                block[lost].fill(0x5a);
                assert_eq!(PackHeader::decode(&block), Ok(header.clone()));
            }
            let mut newer = block;
            for copy in [0, PACK_HEADER_BYTES] {
                newer[copy + MAGIC] = 9;
            }
            assert_eq!(PackHeader::decode(&newer), Err(HeadFault::Version(9)));
        }
        assert_eq!(PackHeader::decode(&[0; BLOCK_BYTES]), Err(HeadFault::Magic));
    }

    #[test]
    fn a_directory_block_is_read_at_its_own_number_and_whole() {
        let group = |n: u64| Group { birth: Lsn(n * 10), offset: n * 4096, length: 4000 };
        let groups: Vec<Group> = (1..=255).map(group).collect();
        let block = directory_encode(5, 3, &groups);
        assert_eq!(directory_decode(5, 3, &block), Some(groups));
        assert_eq!(directory_decode(5, 4, &block), None);
        assert_eq!(directory_decode(6, 3, &block), None);
        for at in (0..BLOCK_BYTES).step_by(7) {
            let mut bad = block;
            bad[at] ^= 1;
            assert_eq!(directory_decode(5, 3, &bad), None, "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn any_block_is_a_header_a_directory_or_a_clear_no(
            bytes in proptest::collection::vec(any::<u8>(), 0..BLOCK_BYTES),
        ) {
            let mut block = [0; BLOCK_BYTES];
            block[..bytes.len()].copy_from_slice(&bytes);
            let _ = directory_decode(1, 0, &block);
            // With the checksum right, what is inside must still be parsed with care.
            let sum = crc(1, &block[U32..]);
            block[..U32].copy_from_slice(&sum.to_le_bytes());
            let _ = directory_decode(1, 0, &block);
            block[..MAGIC].copy_from_slice(&PACK_MAGIC);
            block[MAGIC..MAGIC + U32].copy_from_slice(&VERSION.to_le_bytes());
            head_finish(&mut block[..PACK_HEADER_BYTES]);
            if let Ok(header) = PackHeader::decode(&block) {
                prop_assert_eq!(&header.encode()[..PACK_HEADER_BYTES], &block[..PACK_HEADER_BYTES]);
            }
        }
    }
}
