//! Promises of the large bodies of publications: they are there for who keeps them and for who
//! only listens, and no longer.

use super::held::text;
use super::*;
use crate::ids::StageId;
use crate::message::{BodyKind, LargeHead};

const STAGE: StageId = StageId(1);

impl Bench {
    /// Publishes a message of one piece.
    fn publish_large(&mut self, when: When) {
        let to = topic("t");
        self.ask(1, &Command::Stage { stage: STAGE, to: to.clone(), bytes: 100 }).unwrap();
        let piece = Command::StagePiece { stage: STAGE, number: 1, bytes: vec![7; 100].into() };
        self.ask(1, &piece).unwrap();
        let head = LargeHead { kind: BodyKind::Bytes, properties: Vec::new(), bytes: 100 };
        let message = text(Durability::Persistent, 4);
        let message = Message { content: head.encode(), when, ..message };
        self.ask(1, &Command::SendStaged { stage: STAGE, to, message }).unwrap();
    }

    fn ends(&mut self, connection: u64) {
        self.settle(connection, Which::Through(Tag(1)), Outcome::Accepted).unwrap();
    }
}

#[test]
fn the_body_of_a_publication_is_there_until_the_last_who_hears_it_has_it() {
    let mut bench = Bench::new();
    bench.subscribe(2, topic("t"), 1);
    bench.subscribe(3, topic("t"), 1);
    bench.publish_large(When::AtOnce);
    assert_eq!((bench.delivered.len(), bench.broker.bodies().len()), (2, 1));
    bench.ends(2);
    assert!(bench.live_bytes() > 100, "{}", bench.live_bytes());
    bench.close(3);
    assert_eq!((bench.live_bytes(), bench.broker.bodies().len()), (0, 0));
}

#[test]
fn a_new_life_gives_up_what_was_only_listened_to() {
    let mut bench = Bench::new();
    bench.subscribe(2, topic("t"), 1);
    bench.publish_large(When::AtOnce);
    assert!(bench.live_bytes() > 100, "{}", bench.live_bytes());
    bench.restart();
    bench.settle_down(Effects::new());
    assert_eq!((bench.live_bytes(), bench.broker.bodies().len()), (0, 0));
}

#[test]
fn the_body_of_what_is_purged_before_its_time_goes_with_it() {
    let mut bench = Bench::new();
    bench.publish_large(When::After(1000));
    assert!(bench.live_bytes() > 100, "{}", bench.live_bytes());
    bench.ask(1, &Command::Purge { queue: "scheduled-publications://t".into() }).unwrap();
    assert_eq!((bench.live_bytes(), bench.broker.bodies().len()), (0, 0));
}
