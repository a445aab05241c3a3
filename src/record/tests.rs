//! Promises of the records' bytes.

mod golden;

use super::*;
use crate::broker::delta::Scope;
use crate::broker::delta::{Holder, Resolution};
use crate::identity::{Identity, Numbered};
use crate::ids::{ConnectionId, SubscriptionId, Tag, TransactionId, Xid};
use crate::schedule::{Cron, Turn, Wait};
use proptest::prelude::*;

fn every_kind() -> Vec<Record> {
    let place = Place { rank: 5, seq: 77 };
    let entry = Entry {
        birth: Lsn(4096),
        size: 120,
        at: Millis(9),
        expires: Some(Millis(11)),
        returns: 2,
        upload: None,
        due: None,
        note: None,
        held: false,
        shared: false,
    };
    let queue = QueueId(3);
    let gone = Gone::of(place, &entry);
    let id = UploadId::new(7).unwrap();
    let body = Body::new(id, 70_000);
    let large = Entry { upload: Some(body), ..entry };
    let large_gone = Gone::of(place, &large);
    let piece = PieceAt { birth: Lsn(9), size: 8 };
    let (due, note) = (DueTime::at(Millis(99)), NoteId::new(5).unwrap());
    let delayed = Entry { due: Some(due), ..entry };
    let apart = Entry { note: Some(note), ..large };
    let apart_gone = Gone::of(place, &apart);
    let entries = vec![(place, delayed), (place, apart), (place, entry)];
    vec![
        Record::Started { epoch: 2, at: Millis(1) },
        Record::Restored { at: Millis(1) },
        Record::Forgotten(Forgotten { scope: Scope::Commits, through: 4 }),
        Record::Forgotten(Forgotten { scope: Scope::Queue(queue), through: 4 }),
        Record::QueueCreated { queue, name: "orders".into(), at: Millis(2) },
        Record::QueueDeleted { queue },
        Record::Sent {
            queue,
            place,
            at: Millis(3),
            expires: None,
            lent: true,
            upload: None,
            once: None,
        },
        Record::Lent { queue, rank: 9, through: 4 },
        Record::Returned { queue, entries: vec![(place, entry), (place, entry)] },
        Record::Removed { queue, cause: Cause::Expired, gone: vec![gone, gone] },
        Record::Moved { from: queue, gone, to: QueueId(4), place, at: Millis(5), upload: None },
        Record::Sent {
            queue,
            place,
            at: Millis(3),
            expires: None,
            lent: true,
            upload: Some(body),
            once: None,
        },
        Record::Returned { queue, entries: vec![(place, entry), (place, large)] },
        Record::Removed { queue, cause: Cause::Expired, gone: vec![gone, large_gone] },
        Record::Moved {
            from: queue,
            gone: large_gone,
            to: QueueId(4),
            place,
            at: Millis(5),
            upload: Some(body),
        },
        Record::Piece { upload: id, number: 3, bytes: 65_536 },
        Record::Abandoned { uploads: vec![id, id] },
        Record::PiecesGone { upload: id, first: 4, gone: vec![piece, piece], last: true },
        Record::Transferred {
            from: queue,
            to: QueueId(4),
            first: 8,
            entries: vec![(place, entry), (place, entry)],
        },
        Record::Transferred {
            from: queue,
            to: QueueId(4),
            first: 8,
            entries: vec![(place, entry), (place, large)],
        },
        Record::Branch(BranchRecord::Kept(kept())),
        Record::Branch(BranchRecord::Prepared {
            transaction: TransactionId(4),
            at: Millis(5),
            xid: xid(),
            client: "a client".into(),
        }),
        Record::Branch(completed(None)),
        Record::Branch(completed(Some(TransactionId(4)))),
        Record::Branch(BranchRecord::Forgotten { xid: xid() }),
        Record::Branch(BranchRecord::OutcomesForgotten { through: 8 }),
        Record::Branch(BranchRecord::Begun { xid: xid() }),
        Record::Returned { queue, entries: entries.clone() },
        Record::Removed { queue, cause: Cause::Purged, gone: vec![gone, apart_gone] },
        Record::Moved {
            from: queue,
            gone: apart_gone,
            to: QueueId(4),
            place,
            at: Millis(5),
            upload: None,
        },
        Record::Transferred { from: queue, to: QueueId(4), first: 8, entries: entries.clone() },
        Record::PutOff { queue, until: due, entries: entries.clone() },
        Record::Woken { queue, entries: entries.clone() },
        Record::Fired { queue, first: 3, at: Millis(4), entries: entries.clone() },
        Record::Scheduled {
            queue,
            place,
            at: Millis(3),
            expires: None,
            until: due,
            note,
            upload: Some(body),
            once: None,
            plan: None,
        },
        Record::DeadLettered {
            from: queue,
            to: QueueId(4),
            first: 8,
            note,
            why: Why::Expired,
            entries,
        },
    ]
}

fn all_kinds() -> impl Iterator<Item = Record> {
    let some = every_kind().into_iter().chain(every_kind_with_a_name());
    some.chain(every_kind_with_a_number()).chain(every_kind_that_waits())
}

/// Records with names, in each form.
fn every_kind_with_a_name() -> Vec<Record> {
    let (id, other) = (Identity([7; 16]), Identity([8; 16]));
    let (queue, place, upload) =
        (QueueId(3), Place { rank: 5, seq: 77 }, Body::from_word(7).unwrap());
    let (at, expires, once) = (Millis(3), Some(Millis(4)), Some(Mark::Name(id)));
    let (transaction, number, rank) = (TransactionId(5), 6, 4);
    let staged = |once| {
        let later = None;
        Staged { transaction, number, queue, rank, at, expires, upload, once, later }
    };
    let named = |transaction, operations| Record::Named(Named { id, at, transaction, operations });
    vec![
        Record::Sent { queue, place, at, expires, lent: true, upload: None, once },
        Record::Sent { queue, place, at, expires, lent: false, upload, once },
        Record::Scheduled {
            queue,
            place,
            at,
            expires,
            until: DueTime::at(Millis(9)),
            note: NoteId::new(2).unwrap(),
            upload,
            once,
            plan: None,
        },
        Record::Staged(staged(None)),
        Record::Staged(staged(once)),
        named(Some(transaction), Some(other)),
        named(None, Some(other)),
        named(None, None),
    ]
}

/// Records of what comes later or again, in each form.
fn every_kind_that_waits() -> Vec<Record> {
    let (queue, place, note) = (QueueId(3), Place { rank: 5, seq: 77 }, NoteId::new(2).unwrap());
    let (at, expires, due) = (Millis(3), Some(Millis(4)), DueTime::at(Millis(9)));
    let cron = Some(Cron::parse("1 2 3 4 5").unwrap());
    let plan = Plan { cron, delay: 6, period: 7, repeat: Some(8) };
    let endless = Plan { cron: None, repeat: None, ..plan };
    let scheduled = |plan, once| {
        let (until, upload) = (due, None);
        Record::Scheduled { queue, place, at, expires, until, note, upload, once, plan }
    };
    let staged = |wait, once| {
        let (transaction, number) = (TransactionId(5), 6);
        let (rank, upload, later) = (4, None, Some((note, wait)));
        Record::Staged(Staged {
            transaction,
            number,
            queue,
            rank,
            at,
            expires,
            upload,
            once,
            later,
        })
    };
    let entry = Entry {
        birth: Lsn(1),
        size: 2,
        at,
        expires,
        returns: 0,
        upload: None,
        due: Some(due),
        note: Some(note),
        held: false,
        shared: false,
    };
    let turn = Turn { due: Millis(11), base: Millis(12), left: Some(13) };
    let new = Place { rank: 5, seq: 78 };
    let occurred =
        Occurred { queue, from: place, entry, turn, place: new, at, expires, returns: 1 };
    let once = Some(Mark::Name(Identity([7; 16])));
    let producer = Identity([7; 16]);
    let numbered = Some(Mark::Number(Numbered { producer, sequence: 9 }));
    vec![
        scheduled(Some(plan), None),
        scheduled(Some(endless), once),
        staged(Wait::After(10), None),
        staged(Wait::After(10), once),
        staged(Wait::Again(plan), None),
        staged(Wait::Again(endless), once),
        Record::Occurred(occurred),
        Record::Occurred(Occurred { turn: Turn { left: None, ..turn }, ..occurred }),
        scheduled(Some(endless), numbered),
        staged(Wait::After(10), numbered),
    ]
}

fn hex_of(record: &Record) -> String {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn records_of_what_comes_later_or_again_have_these_bytes() {
    let u64 = |number: u8| format!("{number:02x}00000000000000");
    let check = |record: &Record, kind: u16, hex: &str| {
        assert_eq!((record.kind(), hex_of(record)), (kind, hex.replace(' ', "")));
    };
    let records = every_kind_that_waits();
    let (name, endless, none) = ("07".repeat(16), "ff".repeat(8), "00".repeat(19));
    let cron = format!("{} 04000000 08000000 1000 20", u64(2));
    let plan = format!("{cron} {} {} {}", u64(6), u64(7), u64(8));
    let forever = format!("{none} {} {} {endless}", u64(6), u64(7));
    let place = format!("05 {}", u64(77));
    let times = format!("{} {}", u64(3), u64(4));
    let scheduled = format!("{} {place} {times} {} 02000000 {}", u64(3), u64(9), u64(0));
    check(&records[0], 71, &format!("{scheduled} {plan}"));
    check(&records[1], 71, &format!("{scheduled} {forever} {name}"));
    let staged = format!("{} {} {} 04 {times} {} 02000000", u64(5), u64(6), u64(3), u64(0));
    check(&records[2], 70, &format!("{staged} {}", u64(10)));
    check(&records[3], 70, &format!("{staged} {} {name}", u64(10)));
    check(&records[4], 70, &format!("{staged} {} {plan}", u64(0)));
    check(&records[5], 70, &format!("{staged} {} {forever} {name}", u64(0)));
    let entry = format!("{} 02000000 {times} 00000000 {} {} 02000000", u64(1), u64(0), u64(9));
    let head = format!("{} {place} {entry} {} {}", u64(3), u64(11), u64(12));
    check(&records[6], 72, &format!("{head} {} 05 {} {times} 01000000", u64(13), u64(78)));
    check(&records[8], 71, &format!("{scheduled} {forever} {name} {}", u64(9)));
    check(&records[9], 70, &format!("{staged} {} {name} {}", u64(10), u64(9)));
    check(&records[7], 72, &format!("{head} {endless} 05 {} {times} 01000000", u64(78)));
}

fn xid() -> Xid {
    Xid::new(0x0102, &[0xaa; 2], &[0xbb]).unwrap()
}

fn kept() -> Kept {
    let (connection, subscription, tag) = (ConnectionId(8), SubscriptionId(9), Tag(10));
    Kept {
        transaction: TransactionId(1),
        number: 2,
        queue: QueueId(3),
        rank: 4,
        at: Millis(5),
        expires: Some(Millis(6)),
        returns: 7,
        returned: true,
        holder: Holder { connection, subscription, tag },
    }
}

fn completed(transaction: Option<TransactionId>) -> BranchRecord {
    let (resolution, at) = (Resolution::Rollback, Millis(5));
    BranchRecord::Completed { transaction, resolution, operator: true, at, xid: xid() }
}

#[test]
fn records_of_branches_have_these_bytes() {
    let check = |record: BranchRecord, kind: u16, hex: &str| {
        let (record, mut bytes) = (Record::Branch(record), Vec::new());
        record.encode(&mut bytes);
        let found: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((record.kind(), found), (kind, hex.replace(' ', "")));
    };
    let u64_of = |value: u8| format!("{value:02x}00000000000000");
    let [one, two, three, five, six] = [1, 2, 3, 5, 6].map(u64_of);
    let [eight, nine, ten] = [8, 9, 10].map(u64_of);
    let holder = format!("{eight}{nine}{ten}");
    let kept_hex = format!("{one}{two}{three} 04 {five}{six} 07000000 01 {holder}");
    check(BranchRecord::Kept(kept()), 54, &kept_hex);
    let xid_hex = "02010000 02 aaaa 01 bb";
    let client = "me".into();
    let prepared =
        BranchRecord::Prepared { transaction: TransactionId(1), at: Millis(5), xid: xid(), client };
    check(prepared, 55, &format!("{one}{five} {xid_hex} 6d65"));
    check(completed(Some(TransactionId(1))), 56, &format!("{one} 02 01 {five} {xid_hex}"));
    check(BranchRecord::Forgotten { xid: xid() }, 57, xid_hex);
    check(BranchRecord::OutcomesForgotten { through: 8 }, 58, &eight);
    check(BranchRecord::Begun { xid: xid() }, 59, xid_hex);
}

#[test]
fn records_with_names_have_these_bytes() {
    let check = |record: &Record, kind: u16, hex: &str| {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        let found: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((record.kind(), found), (kind, hex.replace(' ', "")));
    };
    let u64 = |number: u8| format!("{number:02x}00000000000000");
    let (id, other) = ("07".repeat(16), "08".repeat(16));
    let records = every_kind_with_a_name();
    let sent = format!("{} 05 {} {} {}", u64(3), u64(77), u64(3), u64(4));
    check(&records[0], 60, &format!("{sent} 01 {} {id}", u64(0)));
    check(&records[1], 60, &format!("{sent} 00 {} {id}", u64(7)));
    let head = format!("{} {} {} 04 {}", u64(5), u64(6), u64(3), u64(3));
    let scheduled = format!("{sent} {} 02000000 {} {id}", u64(9), u64(7));
    check(&records[2], 64, &scheduled);
    check(&records[4], 61, &format!("{head} {} {} {id}", u64(4), u64(7)));
    check(&records[5], 62, &format!("{id} {} {} {other}", u64(3), u64(5)));
    check(&records[7], 62, &format!("{id} {} {}", u64(3), u64(0)));
    let forgotten = Forgotten { scope: Scope::Queue(QueueId(9)), through: 2 };
    check(&Record::Forgotten(forgotten), 63, &format!("{} {}", u64(9), u64(2)));
}

/// The same with the number of a producer, and what else there is to say of producers.
fn every_kind_with_a_number() -> Vec<Record> {
    let (producer, other) = (Identity([7; 16]), Identity([8; 16]));
    let mark = Some(Mark::Number(Numbered { producer, sequence: 9 }));
    let mut records = every_kind_with_a_name();
    records.truncate(5);
    for record in &mut records {
        let (Record::Sent { once, .. }
        | Record::Scheduled { once, .. }
        | Record::Staged(Staged { once, .. })) = record
        else {
            unreachable!("the first of them are of messages")
        };
        *once = mark;
    }
    let producers = vec![producer, other];
    let parted =
        |closed| ProducersRecord::Parted { at: Millis(3), closed, producers: producers.clone() };
    records.extend([parted(true), parted(false)].map(Record::Producers));
    let forgotten = ProducersRecord::Forgotten { producers: producers.clone() };
    records.push(Record::Producers(forgotten));
    records
}

#[test]
fn records_with_numbers_have_these_bytes() {
    let hex = |record: &Record| {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let (id, other) = ("07".repeat(16), "08".repeat(16));
    let named = every_kind_with_a_name();
    let numbered = every_kind_with_a_number();
    for (at, kind) in [(0, 65), (1, 65), (2, 67), (4, 66)] {
        assert_eq!(hex(&numbered[at]), format!("{}0900000000000000", hex(&named[at])));
        assert_eq!(numbered[at].kind(), kind);
    }
    assert_eq!(hex(&numbered[5]), format!("030000000000000001{id}{other}"));
    assert_eq!(hex(&numbered[6]), format!("030000000000000000{id}{other}"));
    assert_eq!(hex(&numbered[7]), format!("{id}{other}"));
    assert_eq!((numbered[5].kind(), numbered[7].kind()), (68, 69));
}

#[test]
fn every_kind_reads_back_as_it_was_written() {
    for record in all_kinds() {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        assert!(bytes.len() <= record.size_max());
        assert_eq!(Record::decode(record.kind(), &bytes), Ok(record));
    }
}

#[test]
fn a_record_cut_short_is_refused_or_another_whole_record() {
    for record in all_kinds() {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        for end in 0..bytes.len() {
            if let Ok(shorter) = Record::decode(record.kind(), &bytes[..end]) {
                let mut again = Vec::new();
                shorter.encode(&mut again);
                assert_eq!(again, bytes[..end]);
            }
        }
    }
}

#[test]
fn records_of_uploads_have_these_bytes() {
    let (id, piece) = (UploadId::new(0x0102).unwrap(), PieceAt { birth: Lsn(3), size: 4 });
    let check = |record: Record, kind: u16, hex: &str| {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        let found: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((record.kind(), found), (kind, hex.replace(' ', "")));
    };
    let number = "0201000000000000";
    let record = Record::Piece { upload: id, number: 5, bytes: 6 };
    check(record, 34, &format!("{number} 05000000 06000000"));
    check(Record::Abandoned { uploads: vec![id] }, 35, number);
    let record = Record::PiecesGone { upload: id, first: 7, gone: vec![piece], last: true };
    check(record, 36, &format!("{number} 07000000 01 0300000000000000 04000000"));
    let (place, upload) = (Place { rank: 5, seq: 8 }, Some(Body::new(id, 2048)));
    let gone = Gone { place, birth: Lsn(3), size: 4, upload, due: None, note: None, shared: false };
    let record = Record::Removed { queue: QueueId(9), cause: Cause::Accepted, gone: vec![gone] };
    let message = "05 0800000000000000 0300000000000000 04000000";
    check(record, 32, &format!("0900000000000000 01 {message} 0201000000 020000"));
}

#[test]
fn records_of_delays_have_these_bytes() {
    let (place, due) = (Place { rank: 5, seq: 8 }, Some(DueTime::at(Millis(0x0a0b))));
    let note = NoteId::new(0x0c).unwrap();
    let (birth, at) = (Lsn(3), Millis(1));
    let entry = Entry {
        birth,
        size: 4,
        at,
        expires: None,
        returns: 7,
        upload: None,
        due,
        note: None,
        held: false,
        shared: false,
    };
    let why = Why::Returned;
    let (from, to) = (QueueId(1), QueueId(2));
    let record =
        Record::DeadLettered { from, to, first: 9, note, why, entries: vec![(place, entry)] };
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    let found: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let head = "0100000000000000 0200000000000000 0900000000000000 0c000000 01";
    let entry = "05 0800000000000000 0300000000000000 04000000 0100000000000000 \
                 0000000000000000 07000000 0000000000000000 0b0a000000000000 00000000";
    assert_eq!((record.kind(), found), (47, format!("{head}{entry}").replace(' ', "")));
}

#[test]
fn an_unknown_kind_is_named() {
    assert_eq!(Record::decode(999, &[]), Err(RecordError::UnknownKind(999)));
}

proptest! {
    #[test]
    fn any_bytes_are_one_record_in_its_one_form_or_none(data: Vec<u8>) {
        fuzz_record(&data);
    }
}
