//! What programs that embed a broker do in transactions: all of it happens, or nothing.

use escrowmq::io::sim::SimDisk;
use std::time::Duration;

use escrowmq::{
    Broker, Connection, Consumer, Destination, Limit, Message, SendError, Transaction,
    TransactionError, Xid,
};
use tokio::time::timeout;

use super::support::Moment;
use super::{drain, next, on_disk, orders, story};

#[test]
fn what_a_transaction_sends_and_acknowledges_happens_with_its_commit() {
    story(async {
        let broker = on_disk(&SimDisk::new()).open().await.unwrap();
        let connection = broker.connect().unwrap();
        let invoices = Destination::queue("invoices");
        connection.send(orders(), "order").await.unwrap();
        let mut consumer = connection.subscribe(orders()).await.unwrap();
        let mut reader = connection.subscribe(&invoices).await.unwrap();
        let order = next(&mut consumer).await;
        let transaction = connection.transaction().await.unwrap();
        transaction.send(&invoices, "small").await.unwrap();
        transaction.send(&invoices, Message::bytes(vec![b'x'; 300 << 10])).await.unwrap();
        transaction.acknowledge(&order).await.unwrap();
        drop(order);
        connection.send(&invoices, "outside").await.unwrap();
        assert_eq!(next(&mut reader).await.text(), Some("outside"));
        transaction.commit().await.unwrap();
        let mut sizes = Vec::new();
        while sizes.len() < 2 {
            let delivery = next(&mut reader).await;
            // What was dropped above comes again as well.
            if delivery.text() != Some("outside") {
                sizes.push(delivery.body().len());
            }
            delivery.acknowledge().await.unwrap();
        }
        assert_eq!(sizes, [5, 300 << 10]);
        drop(consumer);
        assert_eq!(drain(&connection, &orders()).await, Vec::<String>::new());
        broker.close().await.unwrap();
    });
}

/// A transaction that can only be rolled back takes no delivery, and so no end of it returns one.
#[test]
fn a_delivery_that_a_transaction_or_branch_has_refused_to_take_comes_back() {
    story(async {
        let broker = on_disk(&SimDisk::new()).open().await.unwrap();
        let connection = broker.connect().unwrap();
        connection.send(orders(), "order").await.unwrap();
        let mut consumer = connection.subscribe_with(orders(), 1).await.unwrap();
        let nowhere = Destination::queue("");
        for attempt in 1..=3 {
            let order = next(&mut consumer).await;
            assert_eq!(order.attempt(), attempt);
            let transaction = connection.transaction().await.unwrap();
            // Refusals wait until this is durable.
            transaction.send(Destination::queue("invoices"), "first").await.unwrap();
            transaction.send(nowhere.clone(), "to nowhere").await.unwrap();
            transaction.acknowledge(&order).await.unwrap();
            match attempt {
                1 => drop(transaction.commit().await.unwrap_err()),
                2 => transaction.rollback().await.unwrap(),
                _ => drop(transaction),
            }
        }
        let order = next(&mut consumer).await;
        let branch = connection.xa().start(&Xid::new(1, b"g", b"b").unwrap()).await.unwrap();
        branch.send(Destination::queue("invoices"), "first").await.unwrap();
        branch.send(nowhere, "to nowhere").await.unwrap();
        branch.acknowledge(&order).await.unwrap();
        drop((order, branch));
        let order = next(&mut consumer).await;
        assert_eq!(order.attempt(), 5);
        order.acknowledge().await.unwrap();
        broker.close().await.unwrap();
    });
}

fn inputs() -> Destination {
    Destination::queue("inputs")
}

/// A transaction that takes an input, and sends an order for which there is no room.
async fn order_without_room() -> (Broker, Connection, Consumer, Transaction) {
    let builder = on_disk(&SimDisk::new()).limit("queue://orders", Limit::messages(1));
    let broker = builder.open().await.unwrap();
    let connection = broker.connect().unwrap();
    connection.send(orders(), "before").await.unwrap();
    connection.send(inputs(), "input").await.unwrap();
    let mut consumer = connection.subscribe(inputs()).await.unwrap();
    let input = next(&mut consumer).await;
    let transaction = connection.transaction().await.unwrap();
    transaction.acknowledge(&input).await.unwrap();
    transaction.send(orders(), "in a transaction").await.unwrap();
    (broker, connection, consumer, transaction)
}

#[test]
fn a_commit_that_waits_for_room_happens_though_its_future_is_dropped_meanwhile() {
    story(async {
        let (broker, connection, consumer, transaction) = order_without_room().await;
        assert!(timeout(Duration::from_millis(50), transaction.commit()).await.is_err());
        let mut reader = connection.subscribe(orders()).await.unwrap();
        for expected in ["before", "in a transaction"] {
            let order = next(&mut reader).await;
            assert_eq!(order.text(), Some(expected));
            order.acknowledge().await.unwrap();
        }
        drop(consumer);
        assert_eq!(drain(&connection, &inputs()).await, Vec::<String>::new());
        broker.close().await.unwrap();
    });
}

#[test]
fn a_commit_that_nobody_awaits_any_more_is_rolled_back_when_it_is_refused() {
    story(async {
        let (broker, connection, mut consumer, transaction) = order_without_room().await;
        let commit = transaction.commit_as("an id");
        assert!(timeout(Duration::from_millis(50), commit).await.is_err());
        // Another has that id before there is room.
        let other = connection.transaction().await.unwrap();
        other.send(Destination::queue("others"), "other").await.unwrap();
        other.commit_as("an id").await.unwrap();
        let mut reader = connection.subscribe(orders()).await.unwrap();
        next(&mut reader).await.acknowledge().await.unwrap();
        let again = next(&mut consumer).await;
        assert_eq!((again.text(), again.attempt()), (Some("input"), 2));
        again.acknowledge().await.unwrap();
        broker.close().await.unwrap();
    });
}

#[test]
fn what_is_rolled_back_dropped_or_refused_has_not_happened() {
    story(async {
        let broker = on_disk(&SimDisk::new()).open().await.unwrap();
        let connection = broker.connect().unwrap();
        let other = broker.connect().unwrap();
        connection.send(orders(), "order").await.unwrap();
        let mut consumer = connection.subscribe(orders()).await.unwrap();
        for (round, end) in ["rolled back", "dropped", "refused"].iter().enumerate() {
            let order = next(&mut consumer).await;
            assert_eq!(order.attempt() as usize, round + 1);
            let transaction = connection.transaction().await.unwrap();
            transaction.send(Destination::queue("invoices"), *end).await.unwrap();
            transaction.acknowledge(&order).await.unwrap();
            match *end {
                "rolled back" => transaction.rollback().await.unwrap(),
                "dropped" => drop(transaction),
                _ => {
                    transaction.send(Destination::queue(""), "to nowhere").await.unwrap();
                    let error = transaction.commit().await.unwrap_err();
                    assert!(matches!(error, TransactionError::Refused(_)), "{error:?}");
                }
            }
        }
        let order = next(&mut consumer).await;
        let foreign = other.transaction().await.unwrap();
        let error = foreign.acknowledge(&order).await.unwrap_err();
        assert!(matches!(error, TransactionError::OtherConnection), "{error:?}");
        order.acknowledge().await.unwrap();
        let found = drain(&connection, &Destination::queue("invoices")).await;
        assert_eq!(found, Vec::<String>::new());
        broker.close().await.unwrap();
    });
}

#[test]
fn a_crash_leaves_all_of_a_committed_transaction_and_nothing_of_an_open_one() {
    let disk = SimDisk::new();
    let after = story(async {
        let broker = on_disk(&disk).open().await.unwrap();
        let connection = broker.connect().unwrap();
        let (open, done) = (connection.transaction().await, connection.transaction().await);
        let (open, done) = (open.unwrap(), done.unwrap());
        for body in ["1", "2"] {
            done.send(orders(), body).await.unwrap();
            open.send(orders(), "never").await.unwrap();
        }
        done.commit().await.unwrap();
        disk.snapshot_crash(3)
    });
    story(async {
        let broker = on_disk(&after).open().await.unwrap();
        assert_eq!(drain(&broker.connect().unwrap(), &orders()).await, ["1", "2"]);
        broker.close().await.unwrap();
    });
}

#[test]
fn a_message_comes_later_and_again_and_in_a_transaction_from_its_commit() {
    story(async {
        let broker = on_disk(&SimDisk::new()).open().await.unwrap();
        let connection = broker.connect().unwrap();
        let mut consumer = connection.subscribe(orders()).await.unwrap();
        let wait = Duration::from_millis(100);
        let began = Moment::now();
        let twice = Message::text("twice").non_persistent().repeat(wait, Some(1));
        connection.send(orders(), twice).await.unwrap();
        let first = next(&mut consumer).await;
        let job = first.property("scheduledJobId").unwrap().to_owned();
        first.acknowledge().await.unwrap();
        let last = next(&mut consumer).await;
        began.assert_passed(2 * wait);
        assert_eq!(
            (last.property("scheduledJobId"), last.id().to_string()),
            (Some(&*job), job.clone())
        );
        last.acknowledge().await.unwrap();

        let transaction = connection.transaction().await.unwrap();
        transaction.send(orders(), Message::text("later").delay(wait)).await.unwrap();
        let began = Moment::now();
        transaction.commit().await.unwrap();
        let later = next(&mut consumer).await;
        began.assert_passed(wait);
        assert_eq!(later.text(), Some("later"));
        later.acknowledge().await.unwrap();

        let never = Message::text("never").cron("0 0 31 2 *");
        let refused = connection.send(orders(), never).await;
        assert!(matches!(refused, Err(SendError::Schedule { .. })), "{refused:?}");

        // To a topic it is published then.
        let topic = || Destination::topic("t");
        connection.send(topic(), Message::text("late").delay(5 * wait)).await.unwrap();
        let mut listener = connection.subscribe(topic()).await.unwrap();
        let late = next(&mut listener).await;
        assert_eq!(late.text(), Some("late"));
        late.acknowledge().await.unwrap();
        broker.close().await.unwrap();
    });
}
