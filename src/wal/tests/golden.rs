//! The first released form of the files stays readable, and is what the format page says.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use crate::ids::Lsn;
use crate::io::Storage;
use crate::io::sim::SimDisk;
use crate::wal::format::{
    BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHead, BatchHeader, FRAME_HEADER_BYTES, Identity, Seal,
    SegmentHeader, batch_walk, digest_next, frame_bytes, frame_encode,
};
use crate::wal::names::Name;
use crate::wal::tests::bench::payload;
use crate::wal::{Item, Log, Opened, Options, Recovered, RoomStep, TailVerdict, claim, survey};

const SEGMENT: u64 = 16 << 10;

pub(crate) fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

/// The frames of the golden log: kind, record, payload.
fn frames() -> Vec<(u16, Vec<u8>, Vec<u8>)> {
    let sizes = [(0, 0), (1, 0), (0, 1), (17, 100), (200, 3000), (8, 5000), (8, 9), (64, 4000)];
    let mut number = 0;
    let mut frame = |(record, body): (usize, usize)| {
        number += 1;
        (number, payload(u64::from(number) + 50, record), payload(number.into(), body))
    };
    let mut all: Vec<_> = sizes.into_iter().map(&mut frame).collect();
    all.extend(sizes.into_iter().rev().map(&mut frame));
    all.push((u16::MAX, b"largest kind".to_vec(), b"and the last frame".to_vec()));
    all
}

fn open(disk: &SimDisk, nonce: u128) -> Opened {
    let options = Options { batch_bytes_max: 8 << 10, ..Options::small(SEGMENT) };
    let claim = claim(Arc::new(disk.clone()), options, nonce).expect("free");
    let mut recovery = claim.recover(None).expect("readable");
    while recovery.next().expect("readable").is_some() {}
    let mut opened = recovery.finish(&BTreeMap::new(), &BTreeMap::new()).expect("opens");
    while opened.room.step().expect("works") == RoomStep::Worked {}
    opened
}

fn commit(log: &Log) {
    log.submit();
    let mut group = log.take().expect("gathered");
    let result = group.write().and_then(|()| group.sync());
    log.complete(group, result).expect("works");
}

/// Writes `tests/golden/v1` anew. Only for a new format version, into a directory of its own.
#[test]
#[ignore = "writes the golden log, by name; it is never rewritten within a format version"]
fn write_golden_log() {
    let disk = SimDisk::new();
    let all = frames();
    let (first, rest) = all.split_at(5);
    for (nonce, part) in [(0x1111, first), (0x2222, rest)] {
        let mut opened = open(&disk, nonce);
        for (number, (kind, record, body)) in part.iter().enumerate() {
            opened.log.append(*kind, record, body);
            if number % 3 != 1 {
                commit(&opened.log);
                while opened.room.step().expect("works") == RoomStep::Worked {}
            }
        }
        if opened.log.gathered() > 0 {
            commit(&opened.log);
        }
        if nonce == 0x1111 {
            assert!(opened.log.goodbye());
            commit(&opened.log);
        }
    }
    drop(open(&disk, 0x3333));
    fs::create_dir_all(directory()).expect("writable");
    for name in disk.list().expect("works") {
        fs::write(directory().join(&name), disk.read_file(&name)).expect("writable");
    }
}

pub(crate) fn golden() -> SimDisk {
    let disk = SimDisk::new();
    for entry in fs::read_dir(directory()).expect("the golden log") {
        let entry = entry.expect("readable");
        let name = entry.file_name().into_string().expect("plain names");
        disk.write_file(&name, &fs::read(entry.path()).expect("readable"));
    }
    disk
}

/// The golden log opened by a next owner, with its segment size and its records.
pub(crate) fn open_golden() -> (Opened, u64, Vec<Recovered>, SimDisk) {
    let disk = golden();
    let claim = claim(Arc::new(disk.clone()), Options::default(), 0x4444).expect("free");
    let mut recovery = claim.recover(None).expect("readable");
    let mut found = Vec::new();
    while let Some(record) = recovery.next().expect("readable") {
        found.push(record);
    }
    let opened = recovery.finish(&BTreeMap::new(), &BTreeMap::new()).expect("opens");
    (opened, SEGMENT, found, disk)
}

#[test]
fn the_first_version_is_read_frame_by_frame() {
    let disk = golden();
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let visit = &mut |item: Item<'_>| {
        assert!(!matches!(item, Item::Problem(_)), "{item:?}");
        ControlFlow::Continue(())
    };
    survey(&storage, None, &mut |_| {}, visit).expect("a store");
    let claim = claim(storage, Options::default(), 0x4444).expect("free");
    assert_eq!((claim.epoch(), claim.store_id(), claim.segment_size()), (4, 0x1111, SEGMENT));
    let mut recovery = claim.recover(None).expect("readable");
    let mut found = Vec::new();
    while let Some(record) = recovery.next().expect("readable") {
        found.push(record);
    }
    let opened = recovery.finish(&BTreeMap::new(), &BTreeMap::new()).expect("opens");
    assert!(matches!(opened.tail, TailVerdict::Ended { .. }), "{:?}", opened.tail);
    let all = frames();
    assert_eq!(found.len(), all.len());
    for (found, (kind, record, body)) in found.iter().zip(&all) {
        assert_eq!((found.kind, &found.record[..]), (*kind, &record[..]));
        let frame = opened.reader.read(found.lsn, found.frame_len).expect("whole");
        assert_eq!((&frame.record[..], &frame.payload[..]), (&record[..], &body[..]));
    }
}

#[test]
fn the_first_version_is_written_again_byte_for_byte() {
    let disk = golden();
    let mut kinds = BTreeMap::new();
    for name in disk.list().expect("works") {
        let bytes = disk.read_file(&name);
        let kind = match Name::parse(&name).expect("one of ours") {
            Name::Identity => {
                assert_eq!(Identity::decode(&bytes).expect("good").encode()[..], bytes[..]);
                "identity"
            }
            Name::Seal { .. } => {
                let (seal, sum) = Seal::decode(&bytes).expect("good");
                assert_eq!(seal.encode(), (bytes, sum));
                "seal"
            }
            Name::Segment { .. } | Name::Copy { .. } => {
                segment_again(&bytes, &mut kinds);
                "segment"
            }
            _ => "other",
        };
        *kinds.entry(kind).or_insert(0) += 1;
    }
    assert_eq!(kinds["frame"], frames().len());
    assert!(kinds["identity"] == 1 && kinds["seal"] >= 2 && kinds["segment"] >= 3, "{kinds:?}");
}

fn segment_again(bytes: &[u8], kinds: &mut BTreeMap<&str, usize>) {
    let head: &[u8; BLOCK_BYTES] = bytes[..BLOCK_BYTES].try_into().expect("a block");
    let segment = SegmentHeader::decode(head).expect("good");
    assert_eq!(segment.encode(), *head);
    let seed = segment.seed();
    let mut at = BLOCK_BYTES;
    while at < bytes.len() {
        let lsn = Lsn(segment.first_lsn().0 + at as u64);
        let BatchHead::Good(header, _) = BatchHeader::decode(seed, &bytes[at..], lsn) else {
            break;
        };
        let batch = &bytes[at..at + header.length as usize];
        let mut again = vec![0; BATCH_HEADER_BYTES];
        let mut digest = seed;
        batch_walk(seed, &header, batch, |at, view| {
            let (record, body) = (at + FRAME_HEADER_BYTES, at + view.header.payload_at());
            let end = body + view.header.payload_len as usize;
            let (kind, lsn) = (view.header.kind, view.header.lsn);
            let (record, body) = (&batch[record..body], &batch[body..end]);
            let at = again.len();
            again.resize(at + frame_bytes(record.len(), body.len()), 0);
            let sum = frame_encode(seed, lsn, kind, record, body, &mut again[at..]);
            digest = digest_next(digest, sum);
            *kinds.entry("frame").or_insert(0) += 1;
        })
        .expect("good");
        again.resize(again.len().next_multiple_of(BLOCK_BYTES), 0);
        BatchHeader { digest, ..header }.encode(seed, &mut again);
        assert_eq!(again, batch);
        at += batch.len();
    }
    assert!(bytes[at..].iter().all(|byte| *byte == 0));
}

/// The bytes of the code blocks marked `hex` of the format page: after the offset, before the bar.
fn page_examples() -> Vec<Vec<u8>> {
    let page = include_str!("../../../wal-format.md");
    let mut examples = Vec::new();
    for block in page.split("```hex\n").skip(1) {
        let lines = block.split("```").next().expect("the block ends").lines();
        let bytes = lines.flat_map(|line| {
            let (bytes, _) = line.split_once('|').expect("bytes, then a bar");
            let bytes: Vec<u8> = bytes
                .split_whitespace()
                .skip(1)
                .map(|byte| u8::from_str_radix(byte, 16).expect("hex"))
                .collect();
            bytes
        });
        examples.push(bytes.collect());
    }
    examples
}

#[test]
fn the_worked_example_of_the_format_page_is_what_the_code_writes() {
    let header = SegmentHeader {
        store: 0x0123_4567_89ab_cdef_0011_2233_4455_6677,
        epoch: 2,
        ordinal: 3,
        segment_size: 65536,
        nonce: 0x1122_3344_5566_7788,
    };
    let seed = header.seed();
    let lsn = Lsn(header.first_lsn().0 + BLOCK_BYTES as u64);
    let mut batch = vec![0; BATCH_HEADER_BYTES];
    let first = Lsn(lsn.0 + BATCH_HEADER_BYTES as u64);
    batch.resize(BATCH_HEADER_BYTES + frame_bytes(2, 5), 0);
    let frame = &mut batch[BATCH_HEADER_BYTES..];
    let sum = frame_encode(seed, first, 7, b"hi", b"hello", frame);
    BatchHeader {
        count: 1,
        epoch: header.epoch,
        lsn,
        durable: Lsn(0x2_0000 + 0x5000),
        previous_end: Lsn(0x2_0000 + 0x5000),
        length: BLOCK_BYTES as u32,
        digest: digest_next(seed, sum),
        previous: 0x5eed_cafe,
    }
    .encode(seed, &mut batch);
    let head = &header.encode()[..crate::wal::format::SEGMENT_HEADER_BYTES];
    let show = |bytes: &[u8]| {
        let lines = bytes.chunks(16).enumerate().map(|(line, bytes)| {
            let bytes: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{:04x}  {}", line * 16, bytes.join(" "))
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let code = format!("{}\n\n{}\nseed {seed:08x}", show(head), show(&batch));
    let page = page_examples();
    assert_eq!(page.len(), 2, "the page should show:\n{code}");
    assert_eq!(page[0], head, "the page should show:\n{code}");
    assert_eq!(page[1], batch, "the page should show:\n{code}");
    let page = include_str!("../../../wal-format.md");
    assert!(page.contains(&format!("`{seed:08x}`")), "the page should name the seed {seed:08x}");
}
