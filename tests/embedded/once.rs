//! What programs send and commit under ids happens once, and what has not happened never will.

use std::future::poll_fn;
use std::task::Poll;

use escrowmq::{OutcomeError, Transaction, TransactionError};

use super::*;

/// A transaction of two sends, one of them large.
async fn pair(connection: &Connection, large: u8) -> Transaction {
    let transaction = connection.transaction().await.unwrap();
    transaction.send(orders(), "small").await.unwrap();
    let large = Message::bytes(vec![large; 300 << 10]).property("colour", "red");
    transaction.send(orders(), large).await.unwrap();
    transaction
}

async fn sizes(connection: &Connection) -> Vec<usize> {
    drain(connection, &orders()).await.iter().map(String::len).collect()
}

/// Hands in what a future asks for, and loses the answer.
async fn lose_the_answer<F: Future>(asking: F) {
    let mut asking = pin!(asking);
    poll_fn(|context| {
        let _ = asking.as_mut().poll(context);
        Poll::Ready(())
    })
    .await;
}

#[test]
fn a_commit_under_an_id_happens_once_and_is_remembered_over_crashes() {
    let disk = SimDisk::new();
    let after = story(async {
        let broker = on_disk(&disk).open().await.unwrap();
        let connection = broker.connect().unwrap();
        pair(&connection, b'x').await.commit_as("one").await.unwrap();
        disk.snapshot_crash(5)
    });
    let after = story(async {
        let broker = on_disk(&after).open().await.unwrap();
        let connection = broker.connect().unwrap();
        assert_eq!(connection.outcome_of("one").await.unwrap(), Outcome::Committed);
        // Who does not ask does it again.
        pair(&connection, b'x').await.commit_as("one").await.unwrap();
        after.snapshot_crash(6)
    });
    story(async {
        let broker = on_disk(&after).open().await.unwrap();
        let connection = broker.connect().unwrap();
        assert_eq!(connection.outcome_of("one").await.unwrap(), Outcome::Committed);
        assert_eq!(sizes(&connection).await, [5, 300 << 10]);
        broker.close().await.unwrap();
    });
}

#[test]
fn who_heard_that_nothing_was_committed_can_rely_on_it_over_crashes() {
    let disk = SimDisk::new();
    let after = story(async {
        let broker = on_disk(&disk).open().await.unwrap();
        let connection = broker.connect().unwrap();
        let late = pair(&connection, b'x').await;
        let other = broker.connect().unwrap();
        assert_eq!(other.outcome_of("one").await.unwrap(), Outcome::NotCommitted);
        // The commit was still on its way.
        let error = late.commit_as("one").await.unwrap_err();
        assert!(matches!(error, TransactionError::IdVoid), "{error:?}");
        disk.snapshot_crash(5)
    });
    story(async {
        let broker = on_disk(&after).open().await.unwrap();
        let connection = broker.connect().unwrap();
        assert_eq!(connection.outcome_of("one").await.unwrap(), Outcome::NotCommitted);
        let error = pair(&connection, b'x').await.commit_as("one").await.unwrap_err();
        assert!(matches!(error, TransactionError::IdVoid), "{error:?}");
        pair(&connection, b'x').await.commit_as("another").await.unwrap();
        assert_eq!(sizes(&connection).await, [5, 300 << 10]);
        broker.close().await.unwrap();
    });
}

/// The power goes while a commit is on its way, in its write, its sync, or after; what of them the
/// disk has then is another each time.
#[test]
fn whenever_the_power_goes_the_outcome_that_is_told_is_the_one_that_is_there() {
    let (mut told, invoices) = (Vec::new(), Destination::queue("invoices"));
    for round in 0..24 {
        let disk = SimDisk::new();
        let (answer, after) = story(async {
            let broker = on_disk(&disk).open().await.unwrap();
            let connection = broker.connect().unwrap();
            connection.send(orders(), "order").await.unwrap();
            let mut consumer = connection.subscribe(orders()).await.unwrap();
            let transaction = connection.transaction().await.unwrap();
            transaction.acknowledge(&next(&mut consumer).await).await.unwrap();
            transaction.send(&invoices, "invoice").await.unwrap();
            disk.fail_at(disk.operations() + round / 8, Fault::PowerOff);
            let answer = transaction.commit_as("one").await;
            (answer, disk.snapshot_crash(round))
        });
        let (outcome, after) = story(async {
            let broker = on_disk(&after).open().await.unwrap();
            let outcome = broker.connect().unwrap().outcome_of("one").await.unwrap();
            (outcome, after.snapshot_crash(round))
        });
        assert!(answer.is_err() || outcome == Outcome::Committed, "{answer:?} {outcome:?}");
        story(async {
            let broker = on_disk(&after).open().await.unwrap();
            let connection = broker.connect().unwrap();
            assert_eq!(connection.outcome_of("one").await.unwrap(), outcome);
            let there = [drain(&connection, &orders()).await, drain(&connection, &invoices).await];
            match outcome {
                Outcome::Committed => assert_eq!(there, [vec![], vec!["invoice"]]),
                Outcome::NotCommitted => assert_eq!(there, [vec!["order"], vec![]]),
                Outcome::Forgotten { .. } => panic!("there is room for all of them"),
            }
        });
        told.push((answer.is_ok(), outcome));
    }
    for outcome in [Outcome::Committed, Outcome::NotCommitted] {
        assert!(told.contains(&(false, outcome)), "{told:?}");
    }
}

#[test]
fn another_transaction_under_the_id_of_a_commit_is_refused_and_has_not_happened() {
    story(async {
        let broker = on_disk(&SimDisk::new()).open().await.unwrap();
        let connection = broker.connect().unwrap();
        pair(&connection, b'x').await.commit_as("one").await.unwrap();
        let larger = pair(&connection, b'x').await;
        larger.send(orders(), "and more").await.unwrap();
        let acknowledging = pair(&connection, b'x').await;
        connection.send(Destination::queue("bills"), "bill").await.unwrap();
        let mut bills = connection.subscribe(Destination::queue("bills")).await.unwrap();
        acknowledging.acknowledge(&next(&mut bills).await).await.unwrap();
        let turned = connection.transaction().await.unwrap();
        let large = Message::bytes(vec![b'x'; 300 << 10]).property("colour", "red");
        turned.send(orders(), large).await.unwrap();
        turned.send(orders(), "small").await.unwrap();
        let other_body = pair(&connection, b'y').await;
        let nothing = connection.transaction().await.unwrap();
        for other in [larger, acknowledging, turned, other_body, nothing] {
            let error = other.commit_as("one").await.unwrap_err();
            assert!(matches!(error, TransactionError::IdTaken), "{error:?}");
        }
        assert_eq!(next(&mut bills).await.attempt(), 2);
        assert_eq!(sizes(&connection).await, [5, 300 << 10]);

        let unnamed = pair(&connection, b'x').await.commit_as("").await.unwrap_err();
        assert!(matches!(unnamed, TransactionError::NoId), "{unnamed:?}");
        let unnamed = connection.outcome_of("").await.unwrap_err();
        assert!(matches!(unnamed, OutcomeError::NoId), "{unnamed:?}");
        assert_eq!(sizes(&connection).await, Vec::<usize>::new());
        broker.close().await.unwrap();
    });
}

#[test]
fn a_commit_whose_answer_was_lost_is_told_of_once_all_of_it_has_happened() {
    const COUNT: usize = 1000;
    story(async {
        let broker = on_disk(&SimDisk::new()).open().await.unwrap();
        let connection = broker.connect().unwrap();
        let transaction = connection.transaction().await.unwrap();
        for _ in 0..COUNT {
            transaction.send(orders(), "many").await.unwrap();
        }
        lose_the_answer(transaction.commit_as("many")).await;
        // It is settled in steps; between them nobody knows.
        let other = broker.connect().unwrap();
        let outcome = loop {
            match other.outcome_of("many").await {
                Err(OutcomeError::Pending) => tokio::task::yield_now().await,
                outcome => break outcome.unwrap(),
            }
        };
        assert_eq!(outcome, Outcome::Committed);
        assert_eq!(sizes(&other).await.len(), COUNT);
        broker.close().await.unwrap();
    });
}

#[test]
fn a_commit_of_a_stomp_client_is_the_same_as_one_of_the_program_that_did_the_same() {
    let dir = fresh_dir();
    let broker = small(dir.path()).listen("stomp://127.0.0.1:0").open_blocking().unwrap();
    let connection = broker.connect().unwrap();
    connection.send(Destination::queue("bills"), "bill").unwrap();
    let mut stomp = Stomp::connect(broker.broker().addresses()[0].port(), "1.2").unwrap();
    let within = |command: &str| Frame::new(command).with("transaction", "t");
    let send = |body: Vec<u8>| {
        let send = within("SEND").with("destination", "/queue/orders").with("colour", "red");
        send.body(body)
    };
    stomp.send(&within("BEGIN")).unwrap();
    stomp.send(&send(b"small".to_vec())).unwrap();
    stomp.send(&send(vec![b'x'; 300 << 10])).unwrap();
    stomp.confirm(within("COMMIT").with("commit-id", "one")).unwrap();

    assert_eq!(connection.outcome_of("one").unwrap(), Outcome::Committed);
    let again = connection.transaction().unwrap();
    for body in [b"small".to_vec(), vec![b'x'; 300 << 10]] {
        again.send(orders(), Message::bytes(body).property("colour", "red")).unwrap();
    }
    again.commit_as("one").unwrap();
    let mut consumer = connection.subscribe(orders()).unwrap();
    for _ in 0..2 {
        consumer.recv().unwrap().acknowledge().unwrap();
    }
    connection.send(orders(), "the next").unwrap();
    assert_eq!(consumer.recv().unwrap().text(), Some("the next"));
    broker.close().unwrap();
}

#[test]
fn what_is_sent_again_under_its_id_is_there_once_over_a_crash_and_in_transactions() {
    let disk = SimDisk::new();
    let order = |id: &str| Message::text(format!("order {id}")).once(id).non_persistent();
    let large = || Message::bytes(vec![b'x'; 300 << 10]).numbered("shop", 1).once("large");
    let after = story(async {
        let broker = on_disk(&disk).open().await.unwrap();
        let connection = broker.connect().unwrap();
        for id in ["1", "2", "1"] {
            connection.send(orders(), order(id)).await.unwrap();
        }
        connection.send(orders(), large()).await.unwrap();
        connection.send(Destination::queue("elsewhere"), order("1")).await.unwrap();
        let transaction = connection.transaction().await.unwrap();
        transaction.send(orders(), order("3")).await.unwrap();
        let pending = connection.send(orders(), order("3")).await;
        assert!(matches!(pending, Err(SendError::Refused(_))), "{pending:?}");
        transaction.rollback().await.unwrap();
        disk.snapshot_crash(9)
    });
    story(async {
        let broker = on_disk(&after).open().await.unwrap();
        let connection = broker.connect().unwrap();
        let transaction = connection.transaction().await.unwrap();
        transaction.send(orders(), order("2")).await.unwrap();
        transaction.send(orders(), large()).await.unwrap();
        transaction.send(orders(), order("3")).await.unwrap();
        transaction.commit().await.unwrap();
        let mut consumer = connection.subscribe(orders()).await.unwrap();
        for (id, size) in [("1", 7), ("2", 7), ("large", 300 << 10), ("3", 7)] {
            let delivery = next(&mut consumer).await;
            assert_eq!(delivery.property("_AMQ_DUPL_ID"), Some(id));
            assert_eq!((delivery.body().len(), delivery.is_persistent()), (size, true));
            delivery.acknowledge().await.unwrap();
        }
        // One that was consumed is known all the same.
        connection.send(orders(), order("1")).await.unwrap();
        drop(consumer);
        assert_eq!(sizes(&connection).await, Vec::<usize>::new());
        broker.close().await.unwrap();
    });
}

#[test]
fn an_id_that_is_empty_or_on_a_topic_is_refused_and_one_that_is_a_mere_property_is_none() {
    story(async {
        let broker = on_disk(&SimDisk::new()).open().await.unwrap();
        let connection = broker.connect().unwrap();
        let result = connection.send(orders(), Message::text("x").once("")).await;
        assert!(matches!(result, Err(SendError::Property { .. })), "{result:?}");
        let topic = Destination::topic("news");
        let result = connection.send(topic, Message::text("x").once("one")).await;
        assert!(matches!(result, Err(SendError::Refused(_))), "{result:?}");
        for _ in 0..2 {
            let message = Message::text("x").property("_AMQ_DUPL_ID", "one");
            connection.send(orders(), message).await.unwrap();
        }
        assert_eq!(sizes(&connection).await, [1, 1]);
        broker.close().await.unwrap();
    });
}

#[test]
fn a_program_says_how_many_ids_are_remembered_as_far_as_memory_allows() {
    story(async {
        let opened =
            |ids, memory: u64| on_disk(&SimDisk::new()).ids(ids).memory_limit(memory << 20).open();
        opened(200_000, 256).await.unwrap().close().await.unwrap();
        opened(1, 64).await.unwrap().close().await.unwrap();
        for (ids, memory, setting) in [(0, 256, "duplicates.ids"), (1_000_000, 256, "memory.limit")]
        {
            let refused = opened(ids, memory).await.unwrap_err().to_string();
            assert!(refused.contains(setting), "{refused}");
        }
    });
}
