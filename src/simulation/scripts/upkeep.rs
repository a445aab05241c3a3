//! A branch that has voted, and what is done to a store to keep it small and in order meanwhile.

use crate::broker::command::{
    Command, EndAs, Outcome, Refusal, Reply, StartAs, Vote, Which, Work, XaCommand, XaError,
};
use crate::broker::delta::Resolution;
use crate::engine::Turn;
use crate::ids::{Millis, Tag};
use crate::io::Storage;
use crate::io::sim::SimDisk;
use crate::message::Destination;

use super::play::{Actor, NAME, NOW, QUEUES, message, send, subscription, xid};
use super::{RETURN, Step};
use crate::simulation::node::settings;

/// A store in which a branch has taken message 1 of `left`, sent 11 and 12 to `right`, and voted;
/// message 2 waits in `left`, and 3 in `right`.
fn with_a_vote() -> Actor {
    let mut actor = Actor::open_with(&SimDisk::new(), &settings()).unwrap();
    for (queue, number) in [(0, 1), (0, 2), (1, 3)] {
        actor.ask(send(queue, number, true)).unwrap();
    }
    let (subscription, transaction) = (subscription(0), NAME);
    let from = Destination::Queue(QUEUES[0].into());
    actor.ask(Command::Subscribe { subscription, from, prefetch: 1, selector: None }).unwrap();
    let (xid, how, timeout, client) = (xid(), StartAs::New, None, "a script".into());
    let start = XaCommand::Start { xid: xid.clone(), how, transaction, timeout, client };
    actor.ask(Command::Xa(start)).unwrap();
    let which = Which::One(Tag(1));
    let take = Work::Settle { subscription, which, outcome: Outcome::Accepted };
    actor.ask(Command::Transact { transaction, work: take }).unwrap();
    for number in [11, 12] {
        let to = Destination::Queue(QUEUES[1].into());
        let work = Work::Send { to, message: message(number, true) };
        actor.ask(Command::Transact { transaction, work }).unwrap();
    }
    let end = XaCommand::End { xid: xid.clone(), transaction, how: EndAs::Success };
    actor.ask(Command::Xa(end)).unwrap();
    let vote = actor.ask(Command::Xa(XaCommand::Prepare { xid })).unwrap();
    assert_eq!(vote, Reply::Vote(Vote::Ok));
    actor.ask(Command::Unsubscribe { subscription }).unwrap();
    actor
}

impl Actor {
    /// Lets everything run that keeps the store in order, until nothing moves and nothing is
    /// waited for but what is far away.
    fn rest(&mut self) {
        let (mut now, far) = (NOW, Millis(NOW.0 + 10 * settings().checkpoint_millis));
        loop {
            let turn = self.node.turn(now).unwrap();
            let mut moved = false;
            while self.node.log_step() || self.node.room_step() || self.node.compact_step() {
                moved = true;
            }
            moved |= self.node.job_step(0) || !self.node.inputs.is_empty();
            match turn {
                Turn::Idle(Some(deadline)) if !moved && deadline < far => now = deadline,
                Turn::Idle(_) if !moved => return,
                _ => {}
            }
        }
    }

    fn has_file(&self, prefix: &str) -> bool {
        self.disk.list().unwrap().iter().any(|name| name.starts_with(prefix))
    }

    /// So much goes through the store that the segments of all that came before are sparse.
    fn churn(&mut self) {
        for number in 1..=20 {
            let mut bulk = message(number, true);
            bulk.content = [bulk.content, vec![0; 30_000].into()].concat().into();
            self.leave(Command::Send { to: Destination::Queue("churn".into()), message: bulk });
            self.rest();
        }
        self.ask(Command::Purge { queue: "churn".into() }).unwrap();
        self.rest();
    }
}

#[test]
fn a_vote_outlives_checkpoints_compaction_purges_and_what_would_delete_its_queues() {
    let mut actor = with_a_vote();
    let began_in = "wal-0000000000000001-0000000000000001";
    assert!(actor.has_file(began_in));
    actor.churn();
    assert!(!actor.has_file(began_in), "{:?}", actor.disk);
    assert!(actor.has_file("pack-"), "the vote's segment is packed: {:?}", actor.disk);
    for queue in QUEUES {
        let queue: Box<str> = queue.into();
        let purged = actor.ask(Command::Purge { queue: queue.clone() }).unwrap();
        assert_eq!(purged, Reply::Removed(1), "{queue} loses what waits");
        let refused = actor.try_ask(Command::Delete { queue: queue.clone() }).unwrap();
        assert_eq!(refused, Err(Refusal::QueueInTransactions(queue)));
    }
    actor.rest();
    let disk = actor.disk.kill();
    for resolution in [Resolution::Commit, Resolution::Rollback] {
        let mut actor = Actor::open_with(&disk.kill(), &settings()).unwrap();
        let (known, _) = actor.branches().unwrap().remove(0);
        assert_eq!(known, *xid());
        let found = actor.found().unwrap();
        assert!(found[0].iter().all(|it| it.held && it.number == 1) && found[1].is_empty());
        actor.decide(Step::Outcome(resolution, RETURN)).unwrap().unwrap();
        let drained = actor.drain().unwrap();
        let numbers = drained.map(|all| all.iter().map(|it| it.number).collect::<Vec<_>>());
        let expected = match resolution {
            Resolution::Commit => [vec![], vec![11, 12]],
            Resolution::Rollback => [vec![1], vec![]],
        };
        assert_eq!(numbers, expected);
        // Nothing is left over of it.
        actor.found().unwrap();
    }
}

#[test]
fn who_asks_for_a_vote_again_hears_of_the_end_that_only_the_index_knows() {
    let (commit, rollback) = (Resolution::Commit, Resolution::Rollback);
    for (resolution, answer) in [(commit, XaError::Proto), (rollback, XaError::RbRollback)] {
        let mut actor = with_a_vote();
        assert_eq!(actor.decide(Step::Outcome(resolution, RETURN)), Ok(Ok(Reply::Done)));
        actor.rest();
        let again = actor.try_ask(Command::Xa(XaCommand::Prepare { xid: xid() }));
        assert_eq!(again, Ok(Err(Refusal::Xa(answer))));
    }
}
