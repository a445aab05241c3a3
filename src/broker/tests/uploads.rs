//! Promises of large bodies: pieces are counted, owned, and given back.

use super::*;
use crate::broker::command::{Pick, Returns};
use crate::broker::delta::UploadRow;
use crate::broker::policy::{Limit, Pattern, Policies, WhenFull};
use crate::ids::{Body, StageId, UploadId};
use crate::message::{BodyKind, LargeHead};

const STAGE: StageId = StageId(1);

fn piece(number: u32, bytes: usize) -> Command {
    Command::StagePiece { stage: STAGE, number, bytes: vec![7; bytes].into() }
}

fn begin(to: Destination) -> Command {
    begin_of(to, 0)
}

fn begin_of(to: Destination, bytes: u64) -> Command {
    Command::Stage { stage: STAGE, to, bytes }
}

fn end(bytes: u64, durability: Durability) -> Command {
    let head = LargeHead { kind: BodyKind::Bytes, properties: Vec::new(), bytes };
    let (priority, expires) = (Priority::DEFAULT, None);
    let message = Message {
        durability,
        priority,
        expires,
        when: When::AtOnce,
        grouped: false,
        content: head.encode(),
    };
    Command::SendStaged { stage: STAGE, to: queue("q"), message }
}

/// A message of three pieces in `q`.
fn with_large() -> Bench {
    let mut bench = Bench::new();
    bench.ask(1, &begin(queue("q"))).unwrap();
    for number in 1..=3 {
        bench.ask(1, &piece(number, 100)).unwrap();
    }
    bench.ask(1, &end(300, Durability::Persistent)).unwrap();
    bench
}

impl Bench {
    fn uploads(&self) -> (usize, usize) {
        let (open, dead) = self.broker.uploads();
        (open.len(), dead.len())
    }

    pub(super) fn live_bytes(&self) -> u64 {
        self.broker.live().values().sum()
    }
}

#[test]
fn the_pieces_of_a_body_live_as_long_as_its_message() {
    let mut bench = with_large();
    assert_eq!(bench.uploads(), (0, 0));
    let live = bench.live_bytes();
    assert!(live > 300, "{live}");
    bench.restart();
    assert_eq!(bench.live_bytes(), live);
    bench.subscribe(2, queue("q"), 1);
    let Lent::Durable { entry, .. } = &bench.delivered[0].message else { panic!("durable") };
    assert_eq!(entry.upload.map(Body::upload), UploadId::new(1));
    bench.settle(2, Which::One(Tag(1)), Outcome::Returned).unwrap();
    assert_eq!(bench.live_bytes(), live);
    bench.settle(2, Which::One(Tag(2)), Outcome::Accepted).unwrap();
    assert_eq!((bench.live_bytes(), bench.uploads()), (0, (0, 0)));
}

#[test]
fn a_body_without_message_goes_with_its_connection_its_stage_or_its_life() {
    for how in 0..3 {
        let mut bench = Bench::new();
        bench.ask(1, &begin(queue("q"))).unwrap();
        bench.ask(1, &piece(1, 100)).unwrap();
        assert_eq!(bench.uploads(), (1, 0));
        match how {
            0 => bench.close(1),
            1 => drop(bench.ask(1, &Command::Unstage { stage: STAGE }).unwrap()),
            _ => {
                bench.restart();
                assert_eq!(bench.uploads(), (0, 1));
                bench.settle_down(Effects::new());
            }
        }
        assert_eq!((bench.live_bytes(), bench.uploads()), (0, (0, 0)), "{how}");
        assert_eq!(bench.depth("q"), None);
    }
}

#[test]
fn a_body_with_a_gap_becomes_no_message() {
    let mut bench = Bench::new();
    bench.ask(1, &begin(queue("q"))).unwrap();
    assert_eq!(bench.ask(1, &end(0, Durability::Persistent)), Err(Refusal::PieceMissing));
    bench.ask(1, &piece(1, 100)).unwrap();
    assert_eq!(bench.ask(1, &piece(3, 100)), Err(Refusal::PieceMissing));
    assert_eq!(bench.ask(1, &end(200, Durability::Persistent)), Err(Refusal::PieceMissing));
    // It is another connection's, and nobody else's.
    assert_eq!(bench.ask(2, &piece(2, 100)), Err(Refusal::NoSuchStage(STAGE)));
    bench.ask(1, &end(100, Durability::Persistent)).unwrap();
    assert_eq!(bench.ask(1, &piece(2, 100)), Err(Refusal::NoSuchStage(STAGE)));
    assert_eq!(bench.depth("q").unwrap().depth, 1);
}

#[test]
fn a_large_message_is_durable_whatever_it_asks_for() {
    let mut bench = Bench::new();
    bench.ask(1, &begin(queue("q"))).unwrap();
    bench.ask(1, &piece(1, 100)).unwrap();
    bench.ask(1, &end(100, Durability::NonPersistent)).unwrap();
    bench.restart();
    assert_eq!(bench.depth("q").unwrap().depth, 1);
}

#[test]
fn what_is_too_large_is_refused_when_it_is_known() {
    let limits = Limits { message_bytes: 64, large_bytes: 200, ..Limits::default() };
    let mut bench = Bench::with(limits);
    let too_large = |size, limit| Err(Refusal::MessageTooLarge { size, limit });
    for to in [queue("q"), topic("t")] {
        let large = Command::Stage { stage: STAGE, to, bytes: 201 };
        assert_eq!(bench.ask(1, &large), too_large(201, 200));
    }
    bench.ask(1, &begin(queue("q"))).unwrap();
    assert_eq!(bench.ask(1, &begin(queue("q"))), Err(Refusal::StageExists(STAGE)));
    assert_eq!(bench.ask(1, &piece(1, 65)), too_large(65, 64));
    for number in 1..=3 {
        bench.ask(1, &piece(number, 60)).unwrap();
    }
    assert_eq!(bench.ask(1, &piece(4, 21)), too_large(201, 200));
    let limit = crate::limits::STAGES_MAX;
    for stage in 2..=limit as u64 + 1 {
        let stage = StageId(stage);
        let begun = bench.ask(1, &Command::Stage { stage, to: queue("q"), bytes: 0 });
        let last = stage.0 > limit as u64;
        assert_eq!(begun.err(), last.then_some(Refusal::TooManyStages { limit }));
    }
}

#[test]
fn records_of_uploads_that_contradict_the_state_are_refused_by_name() {
    let mut bench = with_large();
    let id = |number| UploadId::new(number).unwrap();
    let mut refused = |record: &Record, reason: &str| {
        let error = bench.broker.apply_record(Written::default(), record).unwrap_err();
        assert_eq!(error.reason, reason, "{record:?}");
    };
    let piece = |upload, number| Record::Piece { upload, number, bytes: 1 };
    refused(&piece(id(1), 4), "its upload is not open");
    refused(&piece(id(3), 1), "its upload is not open");
    refused(&piece(id(2), 2), "its upload is not open");
    refused(&Record::Abandoned { uploads: vec![id(1)] }, "an upload is not open, nor spare");
    let gone = Record::PiecesGone { upload: id(1), first: 1, gone: Vec::new(), last: true };
    refused(&gone, "the upload is not dead");
}

#[test]
fn the_index_tells_of_uploads_that_no_message_owns() {
    let mut bench = Bench::new();
    bench.ask(1, &begin(queue("q"))).unwrap();
    bench.ask(1, &piece(1, 100)).unwrap();
    let row = |bench: &mut Bench| {
        let through = bench.log.last().unwrap().0.lsn;
        bench.broker.freeze(through);
        let delta = bench.broker.freeze_rows(usize::MAX).unwrap();
        let _ = bench.broker.install();
        (delta.uploads.clone(), delta.pieces.len())
    };
    let id = UploadId::new(1).unwrap();
    let open = Some(UploadRow::Open { pieces: 1, bytes: 100 });
    assert_eq!(row(&mut bench), ([(id, open)].into(), 1));
    bench.ask(1, &end(100, Durability::Persistent)).unwrap();
    assert_eq!(row(&mut bench), ([(id, None)].into(), 0));
}

#[test]
fn a_limit_of_bytes_counts_bodies_wherever_their_messages_are() {
    let limit = Limit { messages: u64::MAX, bytes: 8000, when_full: WhenFull::Refuse };
    let limits = vec![(Pattern::parse("queue://q").unwrap(), limit)];
    let policies = Arc::new(Policies::new(limits, WhenFull::Refuse).unwrap());
    let mut bench = Bench::new();
    bench.broker.govern(Arc::clone(&policies));
    bench.ask(1, &begin(queue("q"))).unwrap();
    bench.ask(1, &piece(1, 5000)).unwrap();
    bench.ask(1, &end(5000, Durability::Persistent)).unwrap();
    let held = |bench: &Bench, id: u64| bench.broker.queues[&crate::ids::QueueId(id)].row.bytes;
    assert!((5120..6000).contains(&held(&bench, 1)), "{}", held(&bench, 1));
    let full = bench.ask(1, &begin_of(queue("q"), 3000));
    assert!(matches!(full, Err(Refusal::DestinationFull { .. })), "{full:?}");
    bench.restart();
    bench.broker.govern(policies);
    assert!(bench.ask(1, &begin_of(queue("q"), 3000)).is_err());
    let (from, to, returns) = ("q".into(), "other".into(), Returns::Keep);
    bench.ask(1, &Command::Move { from, to, pick: Pick::First(1), returns }).unwrap();
    assert_eq!(held(&bench, 1), 0);
    assert!(held(&bench, 2) > 5000);
    bench.ask(1, &begin_of(queue("q"), 3000)).unwrap();
    bench.subscribe(2, queue("other"), 1);
    bench.settle(2, Which::One(Tag(1)), Outcome::Accepted).unwrap();
    assert_eq!(held(&bench, 2), 0);
}
