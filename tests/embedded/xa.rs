//! What programs that embed a broker do in branches of global transactions, and what managers hear.

use std::time::Duration;

use escrowmq::io::sim::SimDisk;
use escrowmq::{
    Branch, BranchError, Connection, Destination, Limit, Message, Vote, WhenFull, XaError, Xid,
    blocking,
};

use super::support::fresh_dir;
use super::{drain, next, on_disk, orders, small, story};

fn xid(branch: u8) -> Xid {
    Xid::new(7, b"a transaction", &[branch]).unwrap()
}

fn code<T: std::fmt::Debug>(result: Result<T, BranchError>) -> XaError {
    result.unwrap_err().code()
}

async fn start(connection: &Connection, branch: u8) -> Branch {
    connection.xa().start(&xid(branch)).await.unwrap()
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_branch_that_has_voted_survives_power_cuts_and_ends_by_its_outcome() {
    for commits in [true, false] {
        let disk = SimDisk::new();
        let invoices = Destination::queue("invoices");
        let disk = story(async {
            let broker = on_disk(&disk).open().await.unwrap();
            let connection = broker.connect().unwrap();
            connection.send(orders(), "order").await.unwrap();
            let mut consumer = connection.subscribe(orders()).await.unwrap();
            let order = next(&mut consumer).await;
            let branch = start(&connection, 1).await;
            branch.acknowledge(&order).await.unwrap();
            branch.send(&invoices, Message::text("small").non_persistent()).await.unwrap();
            branch.send(&invoices, Message::bytes(vec![b'x'; 300 << 10])).await.unwrap();
            branch.end().await.unwrap();
            assert_eq!(connection.xa().prepare(&xid(1)).await.unwrap(), Vote::Ok);
            disk.snapshot_crash(7)
        });
        let disk = story(async {
            let broker = on_disk(&disk).open().await.unwrap();
            let connection = broker.connect().unwrap();
            assert_eq!(drain(&connection, &orders()).await, NOTHING);
            assert_eq!(drain(&connection, &invoices).await, NOTHING);
            let xa = connection.xa();
            let found = xa.recover().all().await.unwrap();
            assert_eq!((found.len(), found[0].xid(), found[0].heuristic()), (1, &xid(1), None));
            assert_eq!(code(xa.start(&xid(1)).await), XaError::DupId);
            if commits { xa.commit(&xid(1)).await } else { xa.rollback(&xid(1)).await }.unwrap();
            disk.snapshot_crash(8)
        });
        story(async {
            let broker = on_disk(&disk).open().await.unwrap();
            let connection = broker.connect().unwrap();
            let xa = connection.xa();
            assert_eq!(xa.recover().all().await.unwrap(), []);
            // The answer may have been lost: it is given again.
            if commits { xa.commit(&xid(1)).await } else { xa.rollback(&xid(1)).await }.unwrap();
            let (left, sent) = (["order"], drain(&connection, &invoices).await);
            let expected = if commits { &NOTHING[..] } else { &left[..] };
            assert_eq!(drain(&connection, &orders()).await, expected);
            assert_eq!(sent.len(), if commits { 2 } else { 0 });
        });
    }
}

#[test]
fn work_rests_goes_on_and_is_joined_by_other_connections() {
    story(async {
        let broker = on_disk(&SimDisk::new()).open().await.unwrap();
        let (one, other) = (broker.connect().unwrap(), broker.connect().unwrap());
        let branch = start(&one, 1).await;
        branch.send(orders(), "first").await.unwrap();
        let joined = other.xa().join(&xid(1)).await.unwrap();
        joined.send(orders(), "second").await.unwrap();
        let resting = branch.suspend().await.unwrap();
        assert_eq!(code(one.xa().prepare(&xid(1)).await), XaError::Proto, "others work in it");
        joined.end().await.unwrap();
        assert_eq!(code(one.xa().prepare(&xid(1)).await), XaError::Proto, "one work rests");
        let branch = resting.resume().await.unwrap();
        branch.send(orders(), "third").await.unwrap();
        branch.suspend().await.unwrap().end().await.unwrap();
        one.xa().commit_one_phase(&xid(1)).await.unwrap();
        let mut all = drain(&one, &orders()).await;
        all.sort();
        assert_eq!(all, ["first", "second", "third"]);
        assert_eq!(code(other.xa().join(&xid(2)).await), XaError::NotA);
    });
}

#[test]
fn work_that_fails_is_dropped_or_takes_too_long_is_rolled_back_and_its_manager_hears_why() {
    story(async {
        let broker = on_disk(&SimDisk::new()).open().await.unwrap();
        let connection = broker.connect().unwrap();
        let xa = connection.xa();
        connection.send(orders(), "order").await.unwrap();
        let mut consumer = connection.subscribe(orders()).await.unwrap();
        for end in ["failed", "dropped", "dropped at rest", "too late"] {
            let order = next(&mut consumer).await;
            let late = end == "too late";
            let patience = if late { Duration::from_millis(1) } else { Duration::from_secs(3600) };
            let branch = xa.clone().timeout(patience).start(&xid(1)).await.unwrap();
            branch.acknowledge(&order).await.unwrap();
            branch.send(orders(), "never").await.unwrap();
            let mut why = XaError::RbRollback;
            match end {
                "failed" => branch.fail().await.unwrap(),
                "dropped" => drop(branch),
                "dropped at rest" => drop(branch.suspend().await.unwrap()),
                _ => {
                    why = XaError::RbTimeout;
                    let other = broker.connect().unwrap();
                    while let Ok(joined) = other.xa().join(&xid(1)).await {
                        let _ = joined.end().await;
                    }
                    assert_eq!(code(branch.end().await), why);
                }
            }
            assert_eq!(code(xa.prepare(&xid(1)).await), why, "{end}");
            assert_eq!(code(xa.prepare(&xid(1)).await), XaError::NotA, "{end}");
        }
        let order = next(&mut consumer).await;
        assert_eq!((order.text(), order.attempt()), (Some("order"), 5));
    });
}

#[test]
fn a_branch_takes_no_delivery_of_another_connection_and_can_go_on_without() {
    story(async {
        let broker = on_disk(&SimDisk::new()).open().await.unwrap();
        let (one, other) = (broker.connect().unwrap(), broker.connect().unwrap());
        one.send(orders(), "order").await.unwrap();
        let mut consumer = one.subscribe(orders()).await.unwrap();
        let order = next(&mut consumer).await;
        let branch = start(&other, 1).await;
        let error = branch.acknowledge(&order).await.unwrap_err();
        assert!(matches!(error, BranchError::OtherConnection), "{error}");
        order.acknowledge().await.unwrap();
        branch.end().await.unwrap();
        assert_eq!(other.xa().prepare(&xid(1)).await.unwrap(), Vote::ReadOnly);
        assert_eq!(other.xa().recover().all().await.unwrap(), []);
    });
}

#[test]
fn a_part_that_was_refused_is_a_no_at_the_vote_with_its_reason() {
    story(async {
        let limit = Limit::messages(1).when_full(WhenFull::Refuse);
        let builder = on_disk(&SimDisk::new()).limit("queue://orders", limit);
        let broker = builder.open().await.unwrap();
        let connection = broker.connect().unwrap();
        let xa = connection.xa();
        connection.send(orders(), "fills it").await.unwrap();
        for one_phase in [false, true] {
            let branch = start(&connection, 1).await;
            branch.send(orders(), "one too many").await.unwrap();
            branch.end().await.unwrap();
            let error = if one_phase {
                xa.commit_one_phase(&xid(1)).await.unwrap_err()
            } else {
                xa.prepare(&xid(1)).await.unwrap_err()
            };
            assert_eq!(error.code(), XaError::RbTransient, "{error:?}");
            assert!(error.to_string().contains("orders is full"), "{error}");
            assert_eq!(code(xa.rollback(&xid(1)).await), XaError::NotA, "it is over");
        }
        let mut consumer = connection.subscribe(orders()).await.unwrap();
        next(&mut consumer).await.acknowledge().await.unwrap();
    });
}

#[test]
fn a_branch_without_futures_is_the_same() {
    let dir = fresh_dir();
    let open = || small(dir.path()).open_blocking().unwrap();
    let broker = open();
    let connection = broker.connect().unwrap();
    connection.send(orders(), "order").unwrap();
    let mut consumer = connection.subscribe(orders()).unwrap();
    let order = consumer.recv().unwrap();
    let xa = connection.xa().named("a test").timeout(Duration::from_secs(60));
    let branch: blocking::Branch = xa.start(&xid(1)).unwrap();
    branch.acknowledge(&order).unwrap();
    branch.send(orders(), "changed").unwrap();
    branch.suspend().unwrap().resume().unwrap().end().unwrap();
    assert_eq!(xa.prepare(&xid(1)).unwrap(), Vote::Ok);
    broker.close().unwrap();
    let broker = open();
    let connection = broker.connect().unwrap();
    let xa = connection.xa();
    let waiting: Vec<_> = xa.recover().collect::<Result<_, _>>().unwrap();
    assert_eq!(waiting.iter().map(|it| it.xid()).collect::<Vec<_>>(), [&xid(1)]);
    assert_eq!(xa.forget(&xid(1)).unwrap_err().code(), XaError::Proto);
    xa.commit(&xid(1)).unwrap();
    let mut consumer = connection.subscribe(orders()).unwrap();
    assert_eq!(consumer.recv().unwrap().text(), Some("changed"));
}
