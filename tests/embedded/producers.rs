//! What programs send under numbers is there once.

use escrowmq::io::sim::SimDisk;
use escrowmq::{Destination, Message, SendError};

use super::{drain, on_disk, orders, story};

fn order(sequence: u64) -> Message {
    Message::text(format!("order {sequence}")).numbered("shop", sequence)
}

#[test]
fn what_is_sent_again_under_its_number_is_there_once_over_a_restart_and_in_transactions() {
    story(async {
        let disk = SimDisk::new();
        let broker = on_disk(&disk).open().await.unwrap();
        let connection = broker.connect().unwrap();
        for sequence in [1, 2, 1, 2] {
            connection.send(orders(), order(sequence)).await.unwrap();
        }
        let large = || Message::bytes(vec![b'x'; 300 << 10]).numbered("shop", 3);
        connection.send(orders(), large()).await.unwrap();
        let transaction = connection.transaction().await.unwrap();
        transaction.send(orders(), order(2)).await.unwrap();
        transaction.send(orders(), order(4)).await.unwrap();
        transaction.rollback().await.unwrap();
        broker.close().await.unwrap();
        let broker = on_disk(&disk).open().await.unwrap();
        let connection = broker.connect().unwrap();
        let transaction = connection.transaction().await.unwrap();
        transaction.send(orders(), order(2)).await.unwrap();
        transaction.send(orders(), large()).await.unwrap();
        transaction.send(orders(), order(4)).await.unwrap();
        transaction.commit().await.unwrap();
        connection.send(orders(), order(4)).await.unwrap();
        connection.close_producers().await.unwrap();
        let there: Vec<_> = drain(&connection, &orders()).await;
        let sizes: Vec<_> = there.iter().map(String::len).collect();
        assert_eq!(sizes, [7, 7, 300 << 10, 7]);
        assert_eq!(there[3], "order 4");
        broker.close().await.unwrap();
    });
}

#[test]
fn a_numbered_message_to_a_topic_is_refused() {
    story(async {
        let broker = on_disk(&SimDisk::new()).open().await.unwrap();
        let connection = broker.connect().unwrap();
        let result = connection.send(Destination::topic("news"), order(1)).await;
        assert!(matches!(result, Err(SendError::Refused(_))), "{result:?}");
        broker.close().await.unwrap();
    });
}
