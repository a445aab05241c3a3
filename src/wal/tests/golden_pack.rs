//! The first released form of a pack stays readable, and is written again byte for byte.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::io::Storage;
use crate::wal::format::{
    BLOCK_BYTES, DIRECTORY_GROUPS_MAX, FRAME_HEADER_BYTES, PackHeader, PackId, directory_decode,
    directory_encode, frame_encode,
};
use crate::wal::names;
use crate::wal::pack::{self, Pack};
use crate::wal::tests::golden::{directory, golden, open_golden};
use crate::wal::{Found, Item, Recovered, survey};

const ID: PackId = PackId { epoch: 3, number: 1 };
/// The segments that it stands for.
const ORDINALS: [u64; 3] = [1, 4, 5];

/// What of the golden log lies in the pack.
fn kept(recovered: &[Recovered]) -> Vec<&Recovered> {
    let size = open_golden().1;
    let inside = |found: &&Recovered| ORDINALS.contains(&(found.lsn.0 / size));
    recovered.iter().filter(inside).collect()
}

/// Writes the golden pack. Only for a new format version, into a directory of its own.
#[test]
#[ignore = "writes the golden pack, by name; it is never rewritten within a format version"]
fn write_golden_pack() {
    let (mut opened, _, recovered, disk) = open_golden();
    opened.packer.epoch = ID.epoch;
    let mut packing = opened.packer.begin(&ORDINALS).expect("works");
    let (mut count, mut ordinal) = (0, 0);
    loop {
        match packing.read() {
            Found::Begin(begun) => ordinal = begun,
            Found::Frames(frames) => {
                for frame in frames {
                    packing.keep(&frame).expect("works");
                    count += 1;
                }
            }
            Found::End => packing.cover(ordinal),
            Found::Lost(_, error) => panic!("{error}"),
            Found::All => break,
        }
    }
    assert_eq!(count, kept(&recovered).len());
    let made = packing.finish().expect("works").expect("it has frames");
    assert_eq!(made.id, ID);
    let name = names::pack(ID);
    fs::write(directory().join(&name), disk.read_file(&name)).expect("writable");
}

#[test]
fn the_first_version_of_a_pack_is_read_frame_by_frame() {
    let (opened, _, recovered, _) = open_golden();
    let disk = golden();
    let pack = Pack::open(&disk, 0x1111, ID).expect("it is good");
    assert_eq!(pack.header.ordinals, ORDINALS);
    let kept = kept(&recovered);
    assert!(kept.len() >= 5, "{}", kept.len());
    for found in &kept {
        let frame = pack.read(found.lsn, found.frame_len).expect("whole");
        assert_eq!(frame, opened.reader.read(found.lsn, found.frame_len).expect("whole"));
    }
    let storage: Arc<dyn Storage> = Arc::new(disk);
    let mut packed = Vec::new();
    let visit = &mut |item: Item<'_>| {
        match item {
            Item::Packed { lsn, .. } => packed.push(lsn),
            Item::Problem(finding) => panic!("{finding}"),
            _ => {}
        }
        ControlFlow::Continue(())
    };
    survey(&storage, None, &mut |_| {}, visit).expect("a store");
    assert_eq!(packed, kept.iter().map(|found| found.lsn).collect::<Vec<_>>());
}

#[test]
fn the_first_version_of_a_pack_is_written_again_byte_for_byte() {
    let disk = golden();
    let bytes = disk.read_file(&names::pack(ID));
    let head: &[u8; BLOCK_BYTES] = bytes[..BLOCK_BYTES].try_into().expect("a block");
    let header = PackHeader::decode(head).expect("good");
    assert_eq!(header.encode(), *head);
    assert_eq!(header.file_bytes(), bytes.len() as u64);
    let seed = header.seed();
    let (frames, mut again) = (&bytes[BLOCK_BYTES..header.frames_end as usize], Vec::new());
    let whole = pack::walk(seed, frames, |at, view| {
        let payload_at = at + view.header.payload_at();
        let end = payload_at + view.header.payload_len as usize;
        let (record, payload) = (&frames[at + FRAME_HEADER_BYTES..payload_at], payload_at..end);
        let (lsn, kind) = (view.header.lsn, view.header.kind);
        again.resize(at + view.header.frame_len(), 0);
        frame_encode(seed, lsn, kind, record, &frames[payload], &mut again[at..]);
    });
    assert!(whole && again == frames);
    let mut groups = BTreeMap::new();
    for copy in 0..2 {
        for number in 0..header.directory_blocks {
            let at = header.directory_at(copy) as usize + number as usize * BLOCK_BYTES;
            let block: &[u8; BLOCK_BYTES] = bytes[at..at + BLOCK_BYTES].try_into().expect("one");
            let read = directory_decode(seed, number, block).expect("good");
            assert!(read.len() <= DIRECTORY_GROUPS_MAX);
            assert_eq!(directory_encode(seed, number, &read), *block);
            groups.extend(read.into_iter().map(|group| (group.offset, group.length)));
        }
    }
    // The groups are the frames, without a gap.
    let end = groups.iter().fold(BLOCK_BYTES as u64, |end, (offset, length)| {
        assert_eq!(*offset, end);
        end + length
    });
    assert_eq!(end, header.frames_end);
}
