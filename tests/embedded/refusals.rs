//! What a program hears that is refused, and can do about it.

use std::time::{Duration, UNIX_EPOCH};

use escrowmq::io::sim::SimDisk;
use escrowmq::{
    BranchError, Connection, Destination, Limit, Message, RefusalKind, SendError, TransactionError,
    WhenFull, Xid,
};

use super::{drain, on_disk, orders, story};

async fn refused(
    connection: &Connection,
    to: Destination,
    what: impl Into<Message>,
) -> RefusalKind {
    match connection.send(to, what).await.unwrap_err() {
        SendError::Refused(refusal) => {
            let kind = refusal.kind();
            assert_eq!(refusal.is_for_want_of_room(), kind == RefusalKind::Room, "{refusal}");
            kind
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refusal_says_whether_to_wait_to_divide_or_to_give_up() {
    story(async {
        let refuses = |limit: Limit| limit.when_full(WhenFull::Refuse);
        let broker = on_disk(&SimDisk::new())
            .limit("queue://full", refuses(Limit::messages(1)))
            .limit("queue://narrow", refuses(Limit::bytes(1000)))
            .open()
            .await
            .unwrap();
        let connection = broker.connect().unwrap();
        let (full, narrow) = (Destination::queue("full"), Destination::queue("narrow"));
        connection.send(&full, "fills it").await.unwrap();
        assert_eq!(refused(&connection, full.clone(), "another").await, RefusalKind::Room);
        let large = || Message::bytes(vec![0; 2000]);
        assert_eq!(refused(&connection, narrow.clone(), large()).await, RefusalKind::NeverFits);
        let bad = Destination::queue("");
        assert_eq!(refused(&connection, bad, "nowhere").await, RefusalKind::Invalid);

        let news = Destination::topic("news");
        let kind = refused(&connection, news, Message::text("new").once("an id")).await;
        assert_eq!(kind, RefusalKind::NobodyKeeps);
        let numbered = |number| Message::text("order").numbered("shop", number);
        let waits = connection.transaction().await.unwrap();
        waits.send(orders(), numbered(1)).await.unwrap();
        waits.send(orders(), Message::text("order").once("an id")).await.unwrap();
        let other = broker.connect().unwrap();
        for again in [numbered(1), Message::text("order").once("an id")] {
            assert_eq!(refused(&other, orders(), again).await, RefusalKind::Pending);
        }
        waits.rollback().await.unwrap();
        let nothing: [&str; 0] = [];
        assert_eq!(drain(&connection, &orders()).await, nothing);
        broker.close().await.unwrap();
    });
}

#[test]
fn a_transaction_or_branch_hears_what_became_of_its_part_or_that_it_is_too_large() {
    story(async {
        let limit = Limit::bytes(1000).when_full(WhenFull::Refuse);
        let broker = on_disk(&SimDisk::new()).limit("queue://orders", limit).open().await.unwrap();
        let connection = broker.connect().unwrap();
        let half = Message::bytes(vec![0; 600]);
        let transaction = connection.transaction().await.unwrap();
        let xid = Xid::new(7, b"a transaction", b"a branch").unwrap();
        let branch = connection.xa().start(&xid).await.unwrap();
        for _ in 0..2 {
            transaction.send(orders(), half.clone()).await.unwrap();
            branch.send(orders(), half.clone()).await.unwrap();
        }
        let error = transaction.commit().await.unwrap_err();
        let TransactionError::Refused(refusal) = error else { panic!("{error:?}") };
        assert_eq!(refusal.kind(), RefusalKind::TransactionTooLarge, "{refusal}");
        let error = branch.end().await.unwrap_err();
        let BranchError::Refused { why, .. } = error else { panic!("{error:?}") };
        assert_eq!(why.kind(), RefusalKind::TransactionTooLarge, "{why}");
        connection.send(orders(), half.clone()).await.unwrap();
        let transaction = connection.transaction().await.unwrap();
        transaction.send(orders(), half).await.unwrap();
        let TransactionError::Refused(refusal) = transaction.commit().await.unwrap_err() else {
            panic!("there is no room")
        };
        assert_eq!(refusal.kind(), RefusalKind::Room, "{refusal}");
        let mut open = Vec::new();
        let refusal = loop {
            match connection.transaction().await {
                Ok(transaction) => open.push(transaction),
                Err(TransactionError::Refused(refusal)) => break refusal,
                Err(other) => panic!("{other:?}"),
            }
        };
        assert_eq!((refusal.kind(), open.len()), (RefusalKind::TooMany, 256), "{refusal}");
        broker.close().await.unwrap();
    });
}

#[test]
fn what_expired_before_there_were_clocks_does_not_live_for_ever() {
    let disk = SimDisk::new();
    let disk = story(async {
        let broker = on_disk(&disk).open().await.unwrap();
        let connection = broker.connect().unwrap();
        connection.send(orders(), Message::text("old").expires_at(UNIX_EPOCH)).await.unwrap();
        let again =
            Message::text("old").expires_at(UNIX_EPOCH).repeat(Duration::from_secs(9), None);
        connection.send(orders(), again).await.unwrap();
        disk.snapshot_crash(7)
    });
    story(async {
        let broker = on_disk(&disk).open().await.unwrap();
        let connection = broker.connect().unwrap();
        let nothing: [&str; 0] = [];
        assert_eq!(drain(&connection, &orders()).await, nothing);
        broker.close().await.unwrap();
    });
}
