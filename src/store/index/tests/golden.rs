//! The bytes of every row of variable size, held by `tests/golden/rows.txt`: a line for each
//! sample. Those of a fixed size are told apart in `row`.
//!
//! A row that changes needs another `row::FORMAT`; then `ESCROW_GOLDEN=write cargo test --lib
//! golden` writes the file anew.

use serde::Serialize;

use super::row;
use crate::broker::delta::{
    Bond, BranchRow, Entry, HeuristicRow, Holder, NameRow, NoteRow, Operation, OutcomeRow, Phase,
    Place, ProducerRow, QueueRow, Remembered, Repeat, Resolution, Scalars, Sequences,
    TransactionRow, UploadRow, Why,
};
use crate::identity::Identity;
use crate::ids::{
    Body, ConnectionId, DueTime, Lsn, Millis, NoteId, QueueId, SubscriptionId, Tag, TransactionId,
    Xid,
};
use crate::schedule::{Cron, Plan, Turn};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/rows.txt");
const RECORDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/records.txt");
const KEY: &[u8] = b"key";

fn entry() -> Entry {
    Entry {
        birth: Lsn(4096),
        size: 120,
        at: Millis(9),
        expires: Some(Millis(11)),
        returns: 2,
        upload: Body::from_word(0x090a).expect("a body"),
        due: Some(DueTime::at(Millis(99))),
        note: NoteId::new(5),
        held: true,
        shared: false,
    }
}

struct Rows(String);

impl Rows {
    fn add(&mut self, name: &str, row: &impl Serialize) {
        let bytes = row::encode(KEY, row);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.0 += &format!("{name} {hex}\n");
    }

    fn operations(&mut self) {
        let (queue, rank, entry, place) = (QueueId(3), 4, entry(), Place { rank: 5, seq: 77 });
        let holder =
            Holder { connection: ConnectionId(8), subscription: SubscriptionId(10), tag: Tag(12) };
        let send = Operation::Send { queue, rank, delay: 6, entry };
        self.add("operation.send", &send);
        let bare = Entry { expires: None, upload: None, due: None, note: None, ..entry };
        self.add(
            "operation.take",
            &Operation::Take { queue, place, entry: bare, returned: true, holder },
        );
        let returned = false;
        self.add("operation.keep", &Operation::Keep { queue, rank, entry, returned, holder });
    }

    fn transactions(&mut self) {
        let row =
            |phase| TransactionRow { began: Lsn(4096), operations: 7, sends: 4, settled: 2, phase };
        self.add("transaction.open", &row(Phase::Open));
        self.add("transaction.prepared", &row(Phase::Prepared));
        for resolution in [Resolution::Commit, Resolution::Rollback] {
            self.add(&format!("transaction.{resolution:?}"), &row(Phase::Decided(resolution)));
            let (number, at, sent, settled) = (7, Millis(5), 3, 4);
            self.add(&format!("outcome.{resolution:?}"), &OutcomeRow { number, resolution, at });
            let client = "a client".into();
            let decided = HeuristicRow { resolution, at, sent, settled, client };
            self.add(&format!("heuristic.{resolution:?}"), &decided);
        }
        let xid = Xid::new(7, b"global", b"branch").expect("short");
        self.add("branch", &BranchRow { xid, at: Millis(5), client: "a client".into() });
        let marks = vec![(3, Millis(4)), (1003, Millis(5))];
        self.add("remembered", &Remembered { forgotten: 2, last: 1004, marks });
    }

    fn once(&mut self) {
        let (id, birth, at) = (Identity([7; 16]), Lsn(4096), Millis(5));
        let (transaction, operations) = (Some(TransactionId(4)), Some(Identity([8; 16])));
        self.add("name.message", &NameRow { id, birth, at, transaction: None, operations: None });
        self.add("name.commit", &NameRow { id, birth, at, transaction, operations });
        let mut seen = Sequences::default();
        (1..200).chain([7000]).for_each(|number| seen.insert(number));
        self.add("numbered", &seen);
        for bond in [Bond::Closed, Bond::Lost, Bond::There] {
            let row = ProducerRow { seen: seen.clone(), bond, at };
            self.add(&format!("producer.{bond:?}"), &row);
        }
    }

    fn notes(&mut self) {
        let row = |why, repeat| NoteRow { name: "orders".into(), why, count: 3, repeat };
        for why in [Why::Returned, Why::Expired, Why::Scheduled, Why::Rejected] {
            self.add(&format!("note.{why:?}"), &row(why, None));
        }
        let cron = Some(Cron::parse("1 2 3 4 5").expect("a plan"));
        let plan = Plan { cron, delay: 6, period: 7, repeat: Some(8) };
        let turn = Turn { due: Millis(11), base: Millis(12), left: Some(13) };
        let waits = Some((QueueId(3), Place { rank: 5, seq: 77 }, entry()));
        let repeat = Repeat { plan, turn, waits };
        self.add("note.repeated", &row(Why::Repeated, Some(repeat)));
        let plan = Plan { cron: None, repeat: None, ..plan };
        let turn = Turn { left: None, ..turn };
        let repeat = Repeat { plan, turn, waits: None };
        self.add("note.endless", &row(Why::Repeated, Some(repeat)));
    }

    fn others(&mut self) {
        let lent = std::array::from_fn(|rank| rank as u64 + 1);
        let row = QueueRow {
            last_seq: 9,
            depth: 8,
            bytes: 700,
            lent_through: lent.into(),
            redelivered_through: lent.map(|seq| seq / 2).into(),
            staged: 6,
            staged_bytes: 500,
            held: 4,
            expiring: true,
            delayed: 3,
            restored_through: 2,
            ..QueueRow::new("orders".into())
        };
        self.add("queue", &row);
        self.add("upload.open", &UploadRow::Open { pieces: 3, bytes: 70_000 });
        self.add("upload.dead", &UploadRow::Dead { gone: 2 });
        self.add("upload.shared", &UploadRow::Shared { holders: 3 });
        self.add(
            "scalars",
            &Scalars {
                last_queue: 1,
                last_at: 2,
                epoch: 3,
                life_at: 4,
                last_upload: 5,
                last_note: 6,
                last_transaction: 7,
                restored: 8,
                restored_at: 9,
            },
        );
    }
}

#[test]
fn every_row_keeps_its_bytes_while_the_format_has_its_number() {
    let mut rows = Rows(format!("format {}\n", row::FORMAT));
    rows.others();
    rows.operations();
    rows.transactions();
    rows.once();
    rows.notes();
    let read = |path| std::fs::read_to_string(path).expect("it is part of the source");
    let golden = read(PATH);
    if std::env::var_os("ESCROW_GOLDEN").is_some() {
        let format = golden.lines().next();
        assert_ne!(format, rows.0.lines().next(), "stores of this format are there");
        std::fs::write(PATH, &rows.0).expect("the worktree can be written");
    }
    assert_eq!(rows.0, golden);
    // A kind of record is as new to an older version as a row.
    assert_eq!(read(RECORDS).lines().next(), golden.lines().next());
}
