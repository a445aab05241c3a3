//! The bytes of every kind of record, held by `tests/golden/records.txt`: a line for each sample,
//! with the number of its kind, below the format of the store since which they are so. What was
//! written once is read for ever.
//!
//! `ESCROW_GOLDEN=write cargo test --lib golden` writes the file anew, where kinds are added: for
//! the next format, which the index has to say then (`row::FORMAT`).

use std::collections::BTreeSet;

use super::*;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/records.txt");

/// Samples of the kinds that the other tests take apart.
fn others() -> Vec<Record> {
    let (queue, place, upload) = (QueueId(3), Place { rank: 5, seq: 77 }, UploadId::new(7));
    let (transaction, at, size) = (TransactionId(4), Millis(9), 120);
    let upload = upload.expect("not 0");
    let entry = Entry {
        birth: Lsn(4096),
        size,
        at,
        expires: Some(Millis(11)),
        returns: 2,
        upload: Some(Body::new(upload, 70_000)),
        due: Some(DueTime::at(Millis(99))),
        note: NoteId::new(5),
        held: false,
        shared: false,
    };
    let piece = PieceAt { birth: Lsn(9), size: 8 };
    let Entry { birth, note, .. } = entry;
    let outcomes = vec![
        Settlement::Enter { queue, place, entry },
        Settlement::Leave { queue, gone: Gone::of(place, &entry) },
        Settlement::Free { queue, place, entry },
        Settlement::Drop { queue, birth, size, upload: entry.upload, note },
    ];
    let decided = |resolution| Record::Decided(Decided { transaction, resolution });
    let settled = |resolution, last| {
        let outcomes = outcomes.clone();
        Record::Settled(Settled { transaction, first: 6, resolution, last, outcomes })
    };
    let (connection, subscription) = (ConnectionId(8), SubscriptionId(10));
    let (first, messages) = (6, vec![(Tag(12), place, entry)]);
    let taken = |returned| {
        let messages = messages.clone();
        Taken { transaction, first, queue, connection, subscription, returned, messages }
    };
    let target = Target { queue, seq: 77, lent: true };
    let targets = vec![target, Target { queue: QueueId(4), lent: false, ..target }];
    let small = Entry { upload: None, due: None, note: None, shared: true, ..entry };
    let large = Entry { upload: entry.upload, ..small };
    let (expires, once) = (None, None);
    let published = Published { at, expires, rank: 4, once, targets: targets.clone() };
    let number = Numbered { producer: Identity([7; 16]), sequence: 5 };
    let once = |mark| Some(OnceThere::on("prices", mark));
    let numbered = Published { once: once(Mark::Number(number)), ..published.clone() };
    let named = Published { once: once(Mark::Name(Identity([8; 16]))), ..published.clone() };
    let scope = Scope::of_topic("prices");
    vec![
        Record::Published(published),
        Record::Published(numbered),
        Record::Published(named),
        Record::Forgotten(Forgotten { scope, through: 2 }),
        Record::Spread(Spread { from: queue, place, entry: small, targets: targets.clone() }),
        Record::Spread(Spread { from: queue, place, entry: large, targets }),
        Record::Piece { upload, number: 5, bytes: 6 },
        Record::Abandoned { uploads: vec![upload] },
        Record::PiecesGone { upload, first: 7, gone: vec![piece], last: true },
        Record::Taken(taken(false)),
        Record::Taken(taken(true)),
        decided(Resolution::Commit),
        decided(Resolution::Rollback),
        settled(Resolution::Commit, true),
        settled(Resolution::Rollback, false),
    ]
}

fn lines(records: &[Record]) -> String {
    let line = |record: &Record| {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{} {hex}\n", record.kind())
    };
    records.iter().map(line).collect()
}

#[test]
fn every_kind_of_record_keeps_its_bytes_and_is_read_from_them() {
    let mut records: Vec<_> = all_kinds().chain(others()).collect();
    records.sort_by_key(Record::kind);
    let known = (0..=u16::MAX)
        .filter(|kind| Record::decode(*kind, &[]) != Err(RecordError::UnknownKind(*kind)));
    let held = records.iter().map(Record::kind).collect::<BTreeSet<_>>();
    assert_eq!(held, known.collect(), "each kind that is known has a sample");
    let golden = std::fs::read_to_string(PATH).expect("it is part of the source");
    let (format, golden) = golden.split_once('\n').expect("lines");
    if std::env::var_os("ESCROW_GOLDEN").is_some() && lines(&records) != golden {
        let format: u32 = format.strip_prefix("format ").and_then(|it| it.parse().ok()).unwrap();
        let text = format!("format {}\n{}", format + 1, lines(&records));
        std::fs::write(PATH, text).expect("the worktree can be written");
    }
    assert_eq!(lines(&records), golden);
    for (line, record) in golden.lines().zip(&records) {
        let (kind, hex) = line.split_once(' ').expect("a kind and bytes");
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
        let bytes: Vec<_> = (0..hex.len()).step_by(2).map(byte).collect();
        assert_eq!(Record::decode(kind.parse().expect("a number"), &bytes).as_ref(), Ok(record));
    }
}
