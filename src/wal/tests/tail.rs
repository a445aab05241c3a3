//! The end of the log after a crash, byte by byte.

use std::collections::BTreeMap;

use crate::ids::Lsn;
use crate::io::Storage;
use crate::io::sim::SimDisk;
use crate::wal::format::{
    BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHead, BatchHeader, FRAME_HEADER_BYTES, SegmentHeader,
};
use crate::wal::tests::bench::{Bench, SEGMENT, open, payload, try_open};
use crate::wal::{Corruption, RecoveryError, TailVerdict};

const FIRST: &str = "wal-0000000000000001-0000000000000001";
const SECOND: &str = "wal-0000000000000001-0000000000000002";
/// What the second owner makes of the segments that the first one stopped in.
const FIRST_COPY: &str = "copy-0000000000000002-0000000000000001";
const THIRD_COPY: &str = "copy-0000000000000002-0000000000000003";

/// A store that lost power with two durable batches and a third one written.
fn three_batches() -> (SimDisk, u64, u64) {
    let disk = SimDisk::new();
    let mut bench = open(&disk);
    bench.append(0, 700);
    bench.append(1, 300);
    bench.commit();
    bench.append(2, 900);
    let start = bench.commit().0 % SEGMENT;
    bench.append(3, 2500);
    bench.append(4, 1300);
    bench.append(5, 500);
    bench.write_unsynced();
    let end = bench.log.appended().0 % SEGMENT;
    (disk.kill(), start, end)
}

#[test]
fn a_tail_cut_at_any_byte_opens_with_exactly_what_was_durable() {
    let (disk, start, end) = three_batches();
    let whole = disk.read_file(FIRST);
    let mut used = whole[start as usize..end as usize].to_vec();
    while used.last() == Some(&0) {
        used.pop();
    }
    for cut in start..start + used.len() as u64 {
        let disk = disk.kill();
        let mut content = whole.clone();
        content[cut as usize..].fill(0);
        disk.write_file(FIRST, &content);
        let bench = open(&disk);
        assert_eq!(bench.numbers(), [0, 1, 2], "cut at {cut}");
        let TailVerdict::Torn { offset, .. } = bench.tail else {
            // Not even its own position arrived: nobody can tell that something was written.
            assert!(matches!(bench.tail, TailVerdict::Ended { .. }) && cut < start + 24);
            continue;
        };
        assert_eq!(offset, start);
    }
    assert_eq!(open(&disk).numbers(), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_tail_garbled_at_any_byte_opens_with_exactly_what_was_durable() {
    let (disk, start, end) = three_batches();
    let whole = disk.read_file(FIRST);
    let mut padding = 0;
    for at in start..end {
        let disk = disk.kill();
        disk.flip_bit(FIRST, at, (at % 8) as u8);
        let bench = open(&disk);
        // No checksum covers padding: there a flipped bit harms nothing.
        if bench.numbers() == [0, 1, 2, 3, 4, 5] {
            assert_eq!(whole[at as usize], 0);
            padding += 1;
        } else {
            assert_eq!(bench.numbers(), [0, 1, 2], "garbled at {at}");
        }
    }
    assert!(padding < BLOCK_BYTES, "{padding}");
}

#[test]
fn a_segment_cut_short_by_force_is_named() {
    let (disk, ..) = three_batches();
    let whole = disk.read_file(FIRST);
    disk.write_file(FIRST, &whole[..whole.len() - 1]);
    let refused = refusal(&disk);
    assert!(matches!(&refused, RecoveryError::ShortSegment { file, .. } if file == FIRST));
}

fn refusal(disk: &SimDisk) -> RecoveryError {
    match try_open(disk, None, &BTreeMap::new()) {
        Ok(bench) => panic!("opened with {:?}, {:?}", bench.numbers(), bench.tail),
        Err(refused) => refused,
    }
}

/// A store whose first batch is covered by the mark of its second.
fn covered_batch() -> (SimDisk, u64, u64) {
    let disk = SimDisk::new();
    let mut bench = open(&disk);
    bench.append(0, 700);
    bench.append(1, 300);
    let end = bench.commit().0 % SEGMENT;
    bench.append(2, 900);
    bench.commit();
    (disk, BLOCK_BYTES as u64, end)
}

#[test]
fn a_flipped_bit_before_a_mark_refuses_the_start_or_costs_one_payload_never_more() {
    let (disk, start, end) = covered_batch();
    // Frames of 8 bytes of record: header, record, payload.
    let first = start + BATCH_HEADER_BYTES as u64;
    let second = first + 32 + 8 + 704;
    let payloads = [first + 40..first + 740, second + 40..second + 340];
    for at in start..end {
        let disk = disk.kill();
        disk.flip_bit(FIRST, at, (at % 8) as u8);
        let hit = payloads.iter().position(|payload| payload.contains(&at));
        let padding = (first + 740..second).contains(&at) || at >= second + 340;
        match try_open(&disk, None, &BTreeMap::new()) {
            Ok(bench) => {
                assert_eq!(bench.numbers(), [0, 1, 2], "flipped at {at}");
                let bad: Vec<usize> =
                    (0..3).filter(|number| bench.recovered[*number].payload.is_err()).collect();
                assert_eq!(bad, Vec::from_iter(hit), "flipped at {at}");
                assert!(hit.is_some() || padding, "flipped at {at}");
                if let Some(hit) = hit {
                    let damage = bench.recovered[hit].payload.clone().expect_err("found bad");
                    assert_eq!(damage.file, FIRST);
                    assert_eq!(damage.offset, [first, second][hit]);
                }
            }
            Err(RecoveryError::Corrupt { file, offset, reason }) => {
                assert!(hit.is_none() && !padding, "flipped at {at}");
                assert_eq!(file, FIRST);
                let (wanted, why) = match at {
                    _ if at < first => (start, Corruption::Header),
                    _ if at < second => (first, Corruption::Structure),
                    _ => (second, Corruption::Structure),
                };
                assert_eq!((offset, reason), (wanted, why), "flipped at {at}");
            }
            Err(other) => panic!("flipped at {at}: {other}"),
        }
    }
}

#[test]
fn what_a_seal_covers_is_as_firm_as_what_a_mark_covers() {
    let (disk, start, end) = three_batches();
    drop(open(&disk));
    let broken = disk.kill();
    broken.flip_bit(FIRST_COPY, start + 70, 1);
    assert!(matches!(
        refusal(&broken),
        RecoveryError::Corrupt { file, offset, reason: Corruption::Structure }
            if file == FIRST_COPY && offset == start + BATCH_HEADER_BYTES as u64
    ));
    disk.flip_bit(FIRST_COPY, start + 64 + 40 + 5, 1);
    let bench = open(&disk);
    assert_eq!(bench.numbers(), [0, 1, 2, 3, 4, 5]);
    assert!(bench.recovered[3].payload.is_err() && bench.recovered[4].payload.is_ok());
    assert!(end > start);
}

#[test]
fn a_mark_beyond_the_index_point_is_not_needed_to_know_that_the_point_was_durable() {
    let disk = SimDisk::new();
    let mut bench = open(&disk);
    let placed = bench.append(0, 100);
    bench.commit();
    let point = crate::wal::ReplayPoint { batch: placed.batch, through: placed.lsn };
    disk.flip_bit(FIRST, placed.lsn.0 % SEGMENT + 33, 0);
    // Without the index it is a torn tail; the index knows better.
    let refused = try_open(&disk.kill(), Some(point), &BTreeMap::new()).map(|_| ());
    assert!(matches!(refused, Err(RecoveryError::Corrupt { .. })), "{refused:?}");
    assert_eq!(open(&disk).numbers(), [0; 0]);
}

/// Fills segments of the first owner until the log stands in the third.
fn three_segments(bench: &mut Bench) -> u64 {
    let mut number = 0;
    while bench.append(number, 3000).lsn.0 / SEGMENT < 3 {
        bench.commit();
        number += 1;
    }
    bench.commit();
    number + 1
}

#[test]
fn the_log_goes_on_over_segments_and_a_hole_between_them_is_named() {
    let disk = SimDisk::new();
    let mut bench = open(&disk);
    let count = three_segments(&mut bench);
    assert_eq!(open(&disk.kill()).numbers(), (0..count).collect::<Vec<_>>());
    for gone in [FIRST, SECOND] {
        let disk = disk.kill();
        disk.remove(gone).expect("works");
        let refused = refusal(&disk);
        assert!(
            matches!(&refused, RecoveryError::MissingSegment { file, .. } if file == gone),
            "{refused}"
        );
    }
    // After one more start they are sealed; a missing one is missing still.
    drop(open(&disk));
    for gone in [FIRST, SECOND, THIRD_COPY] {
        let disk = disk.kill();
        disk.remove(gone).expect("works");
        let refused = refusal(&disk);
        assert!(matches!(&refused, RecoveryError::MissingSegment { file, .. } if file == gone));
    }
}

#[test]
fn the_last_batch_of_a_segment_is_missed_when_the_next_segment_was_marked_after_it() {
    let disk = SimDisk::new();
    let mut bench = open(&disk);
    three_segments(&mut bench);
    let content = disk.read_file(FIRST);
    let last = (0..content.len()).rev().find(|at| content[*at] != 0).expect("it is used");
    let block = last / BLOCK_BYTES * BLOCK_BYTES;
    let mut lost = content.clone();
    lost[block..].fill(0);
    disk.write_file(FIRST, &lost);
    let refused = refusal(&disk);
    assert!(
        matches!(&refused, RecoveryError::Corrupt { file, offset, .. }
            if file == FIRST && *offset == block as u64),
        "{refused}"
    );
}

#[test]
fn swapped_foreign_and_unknown_segments_are_refused_by_name() {
    let disk = SimDisk::new();
    let mut bench = open(&disk);
    three_segments(&mut bench);
    let (first, second) = (disk.read_file(FIRST), disk.read_file(SECOND));

    let swapped = disk.kill();
    swapped.write_file(FIRST, &second);
    swapped.write_file(SECOND, &first);
    assert!(matches!(
        refusal(&swapped),
        RecoveryError::WrongSegment { file, epoch: 1, ordinal: 2 } if file == FIRST
    ));

    let mut block: [u8; BLOCK_BYTES] = first[..BLOCK_BYTES].try_into().expect("a block");
    let header = SegmentHeader::decode(&block).expect("good");
    let foreign = disk.kill();
    block = SegmentHeader { store: header.store + 1, ..header }.encode();
    foreign.write_file(FIRST, &[&block[..], &first[BLOCK_BYTES..]].concat());
    assert!(matches!(
        refusal(&foreign),
        RecoveryError::ForeignStore { file, .. } if file == FIRST
    ));

    let newer = disk.kill();
    for copy in [0, 2048] {
        newer.flip_bit(FIRST, copy + 8, 1);
    }
    assert!(matches!(
        refusal(&newer),
        RecoveryError::UnknownVersion { file, found: 3, newest: 1 } if file == FIRST
    ));

    let damaged = disk.kill();
    damaged.flip_bit(FIRST, 30, 1);
    open(&damaged.kill());
    damaged.flip_bit(FIRST, 2048 + 40, 1);
    assert!(matches!(refusal(&damaged), RecoveryError::BadHead { file } if file == FIRST));

    let nothing = disk.kill();
    nothing.write_file(FIRST, &vec![0; SEGMENT as usize]);
    assert!(matches!(refusal(&nothing), RecoveryError::NotASegment { file } if file == FIRST));
}

#[test]
fn what_an_earlier_life_left_in_a_recycled_file_never_comes_back() {
    let disk = SimDisk::new();
    let mut bench = open(&disk);
    three_segments(&mut bench);
    bench.make_room();
    bench.room.retire(&[1, 2]);
    bench.make_room();
    let point = {
        let mut number = 1000;
        loop {
            let placed = bench.append(number, 3000);
            bench.commit();
            number += 1;
            if placed.lsn.0 / SEGMENT == 6 {
                break crate::wal::ReplayPoint { batch: placed.batch, through: placed.lsn };
            }
        }
    };
    // Segments 6 and 7 are files that held the first life's 3000-byte frames at these very places.
    let last = bench.append(7777, 3000);
    bench.commit();
    let next = try_open(&disk.kill(), Some(point), &BTreeMap::new()).expect("opens");
    assert_eq!(next.numbers(), [7777]);
    assert!(matches!(next.tail, TailVerdict::Ended { .. }), "{:?}", next.tail);
    // The same with a torn batch, behind which the old life's batches still lie.
    bench.append(7778, 3000);
    bench.write_unsynced();
    let file = format!("wal-{:016x}-{:016x}", 1, last.lsn.0 / SEGMENT);
    disk.flip_bit(&file, last.lsn.0 % SEGMENT + 4096, 3);
    let next = try_open(&disk.kill(), Some(point), &BTreeMap::new()).expect("opens");
    assert_eq!(next.numbers(), [7777]);
}

#[test]
fn a_batch_forged_inside_a_payload_is_not_believed() {
    // A client knows the format and guesses epoch, position and marks right, but not the seed.
    for guess in [0, crc32fast::hash(b""), u32::MAX] {
        let disk = SimDisk::new();
        let mut bench = open(&disk);
        bench.append(0, 100);
        let start = bench.commit().0;
        let base = start + (BATCH_HEADER_BYTES + FRAME_HEADER_BYTES + 8) as u64;
        let mut forged = vec![0; 12 << 10];
        for block in 1..3 {
            let lsn = Lsn(start + block * BLOCK_BYTES as u64);
            let header = BatchHeader {
                count: 0,
                epoch: 1,
                lsn,
                durable: lsn,
                previous_end: lsn,
                length: BLOCK_BYTES as u32,
                digest: guess,
                previous: 0,
            };
            header.encode(guess, &mut forged[(lsn.0 - base) as usize..]);
        }
        bench.log.append(1, &9u64.to_le_bytes(), &forged);
        bench.write_unsynced();
        // The batch that carries it is torn; the forgery is whole.
        disk.flip_bit(FIRST, start % SEGMENT + 10, 1);
        assert_eq!(open(&disk).numbers(), [0]);
    }
}

/// Changes the header of the batch at `offset` of the first segment as a careful forger would.
fn rewrite(disk: &SimDisk, offset: u64, change: impl FnOnce(&mut BatchHeader)) {
    let mut content = disk.read_file(FIRST);
    let block = content[..BLOCK_BYTES].try_into().expect("a block");
    let segment = SegmentHeader::decode(block).expect("good");
    let lsn = Lsn(segment.first_lsn().0 + offset);
    let bytes = &mut content[offset as usize..];
    let BatchHead::Good(mut header, _) = BatchHeader::decode(segment.seed(), bytes, lsn) else {
        panic!("no batch at {offset}");
    };
    change(&mut header);
    header.encode(segment.seed(), bytes);
    disk.write_file(FIRST, &content);
}

#[test]
fn a_batch_must_follow_the_one_before_it() {
    for covered in [false, true] {
        let disk = SimDisk::new();
        let mut bench = open(&disk);
        bench.append(0, 100);
        let second = bench.commit().0 % SEGMENT;
        bench.append(1, 100);
        bench.commit();
        if covered {
            bench.append(2, 100);
            bench.commit();
        }
        type Change = fn(&mut BatchHeader);
        let changes: [(Change, Corruption); 6] = [
            (|header| header.previous ^= 1, Corruption::Chain),
            (|header| header.previous_end.0 -= 4096, Corruption::Chain),
            (|header| header.lsn.0 += 4096, Corruption::Position),
            (|header| header.epoch += 1, Corruption::Position),
            (|header| header.digest ^= 1, Corruption::Structure),
            (|header| header.count += 1, Corruption::Structure),
        ];
        for (change, reason) in changes {
            let disk = disk.kill();
            rewrite(&disk, second, change);
            match try_open(&disk, None, &BTreeMap::new()) {
                Ok(bench) => {
                    assert!(!covered);
                    assert_eq!(bench.numbers(), [0]);
                    assert!(matches!(bench.tail, TailVerdict::Torn { .. }));
                }
                Err(RecoveryError::Corrupt { reason: found, .. }) => {
                    assert!(covered);
                    assert_eq!(found, reason);
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[test]
fn damaged_payloads_are_told_by_readers_too() {
    let (disk, ..) = covered_batch();
    let bench = open(&disk);
    let found = &bench.recovered[0];
    disk.flip_bit(FIRST_COPY, found.lsn.0 % SEGMENT + 50, 2);
    let error = bench.reader.read(found.lsn, found.frame_len).expect_err("damaged");
    assert!(error.to_string().contains("payload"), "{error}");
    assert!(error.to_string().contains(FIRST_COPY), "{error}");
    let whole = &bench.recovered[1];
    let frame = bench.reader.read(whole.lsn, whole.frame_len).expect("whole");
    assert_eq!(frame.payload[..], payload(1, 300)[..]);
}
