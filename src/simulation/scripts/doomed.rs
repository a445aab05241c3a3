//! A transaction of which a part was refused ends in nothing, however it is asked to end.

use crate::broker::command::{Command, Outcome, Refusal, Reply, Which, Work};
use crate::ids::Tag;
use crate::io::sim::SimDisk;
use crate::message::Destination;

use super::Step;
use super::model::Model;
use super::play::{Actor, NAME, QUEUES, message, send, subscription};
use crate::simulation::node::settings;

#[test]
fn who_settles_what_was_never_delivered_commits_nothing_and_hears_why() {
    let mut actor = Actor::open_with(&SimDisk::new(), &settings()).unwrap();
    for number in [1, 2] {
        actor.ask(send(0, number, true)).unwrap();
    }
    let (subscription, transaction) = (subscription(0), NAME);
    let from = Destination::Queue(QUEUES[0].into());
    actor.ask(Command::Subscribe { subscription, from, prefetch: 1, selector: None }).unwrap();
    actor.ask(Command::Begin { transaction }).unwrap();
    let settle = |tag| {
        let (which, outcome) = (Which::One(Tag(tag)), Outcome::Accepted);
        Command::Settle { subscription, which, outcome }.within(Some(transaction))
    };
    let sends = |number| {
        let to = Destination::Queue(QUEUES[1].into());
        Command::Transact { transaction, work: Work::Send { to, message: message(number, true) } }
    };
    assert_eq!(actor.try_ask(settle(1)), Ok(Ok(Reply::Done)));
    assert_eq!(actor.try_ask(sends(11)), Ok(Ok(Reply::Done)));
    // What another has, or nobody yet: this connection has heard of no such delivery.
    let because = actor.try_ask(settle(77)).unwrap().expect_err("it was never delivered");
    let doomed = Refusal::RollbackOnly { because: Box::new(because.clone()) };
    assert_eq!(actor.try_ask(sends(12)), Ok(Err(doomed.clone())));
    let told = doomed.to_string();
    assert!(
        told.contains("can only be rolled back") && told.contains(&because.to_string()),
        "{told}"
    );
    for _ in 0..2 {
        assert_eq!(actor.try_ask(Command::Commit { transaction }), Ok(Err(doomed.clone())));
        assert_eq!(depths(&mut actor), [2, 0], "nothing of it is there, and nothing is gone");
    }
    let disposition = super::RETURN;
    actor.ask(Command::Rollback { transaction, disposition }).unwrap();
    actor.tell(Step::Lose, &mut Model::new(Default::default()));
    actor.connect();
    let drained = actor.drain().unwrap();
    let drained = drained.map(|all| all.iter().map(|it| it.number).collect::<Vec<_>>());
    assert_eq!(drained, [vec![1, 2], vec![]]);
}

/// How many messages are in each queue.
fn depths(actor: &mut Actor) -> [u64; 2] {
    let Ok(Reply::Queues(queues)) = actor.ask(Command::ListQueues { after: None }) else {
        panic!("there are queues")
    };
    let depth = |name: &str| queues.iter().find(|it| &*it.name == name).map_or(0, |it| it.depth);
    QUEUES.map(depth)
}
