//! What programs that embed a broker do in transactions: all of it happens, or nothing.

use escrowmq::io::sim::SimDisk;
use escrowmq::{Destination, Message, TransactionError};

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
