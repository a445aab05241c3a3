//! What a program reads of messages that were set apart, and what it says of when they are.

use escrowmq::{RecvError, Redelivery};

use super::*;

const CAUSE: &str = "dlqDeliveryFailureCause";
const ORIGIN: &str = "originalDestination";

fn dead_letters() -> Destination {
    Destination::queue("ActiveMQ.DLQ")
}

#[test]
fn a_message_that_was_set_apart_says_why_and_from_where_over_a_restart() {
    let dir = fresh_dir();
    // What its sender says there does not pass for what the broker says.
    let forged = |message: Message| message.property(CAUSE, "mine").property(ORIGIN, "queue://x");
    story(async {
        let broker = small(dir.path()).open().await.unwrap();
        let connection = broker.connect().unwrap();
        connection.send(orders(), forged(Message::text("given up"))).await.unwrap();
        let large = Message::bytes(vec![b'x'; 300 << 10]).property("colour", "red");
        connection.send(orders(), large).await.unwrap();
        let late = Message::text("late").time_to_live(Duration::ZERO);
        connection.send(orders(), late).await.unwrap();
        let mut consumer = connection.subscribe(orders()).await.unwrap();
        for _ in 0..2 {
            let delivery = next(&mut consumer).await;
            let own = delivery.properties().filter(|(name, _)| *name == CAUSE).count();
            assert_eq!(own, usize::from(delivery.is_text()), "nothing is said of it yet");
            delivery.reject().await.unwrap();
        }
        let mut dead = connection.subscribe(dead_letters()).await.unwrap();
        let mut there = Vec::new();
        while there.len() < 3 {
            there.push(next(&mut dead).await);
        }
        broker.close().await.unwrap();
    });
    story(async {
        let broker = small(dir.path()).open().await.unwrap();
        let connection = broker.connect().unwrap();
        let mut dead = connection.subscribe(dead_letters()).await.unwrap();
        let mut causes = Vec::new();
        for _ in 0..3 {
            let delivery = next(&mut dead).await;
            assert_eq!(delivery.property(ORIGIN), Some("queue://orders"));
            causes.push(delivery.property(CAUSE).unwrap().to_owned());
            if delivery.text() == Some("given up") {
                let all: Vec<_> = delivery.properties().collect();
                assert_eq!(all[2..], [(CAUSE, "mine"), (ORIGIN, "queue://x")]);
            }
            if !delivery.is_text() {
                assert_eq!(delivery.body().len(), 300 << 10);
                assert_eq!(delivery.property("colour"), Some("red"));
            }
            delivery.acknowledge().await.unwrap();
        }
        let count = |words| causes.iter().filter(|cause| cause.contains(words)).count();
        assert_eq!((count("gave it up"), count("time was over")), (2, 1), "{causes:?}");
        broker.close().await.unwrap();
    });
}

#[test]
fn a_program_says_how_often_a_message_comes_back_and_where_it_is_set_apart() {
    let rules = Redelivery::new().maximum(1).dead_letters("DLQ.").drop_expired();
    let builder = || {
        let kept = rules.clone().delay(Duration::from_millis(1)).backoff(2).keep_non_persistent();
        let kept = kept.delay_max(Duration::from_millis(2));
        let builder = on_disk(&SimDisk::new());
        builder.redelivery("queue://orders", rules.clone()).redelivery("queue://bills", kept)
    };
    story(async {
        let broker = builder().open().await.unwrap();
        let connection = broker.connect().unwrap();
        for queue in ["orders", "bills"] {
            let (from, dead) = (Destination::queue(queue), format!("DLQ.{queue}"));
            let late = Message::text("late").time_to_live(Duration::ZERO);
            connection.send(&from, late).await.unwrap();
            connection.send(&from, Message::text("memory").non_persistent()).await.unwrap();
            connection.send(&from, "disk").await.unwrap();
            let mut consumer = connection.subscribe(&from).await.unwrap();
            for _ in 0..4 {
                next(&mut consumer).await.give_back().await.unwrap();
            }
            let mut bodies = drain(&connection, &Destination::queue(dead)).await;
            bodies.sort();
            let kept: &[&str] = if queue == "bills" { &["disk", "memory"] } else { &["disk"] };
            assert_eq!(bodies, kept);
        }
        broker.close().await.unwrap();

        let never = Redelivery::new().backoff(0);
        let refused = on_disk(&SimDisk::new()).redelivery("queue://orders", never).open().await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("redelivery.backoff"), "{refused}");
    });
}

#[test]
fn consumers_of_higher_priority_and_exclusive_ones_go_before_others() {
    story(async {
        let broker = on_disk(&SimDisk::new()).open().await.unwrap();
        let connection = broker.connect().unwrap();
        let mut plain = connection.subscribe(orders()).await.unwrap();
        let higher = connection.consumer(orders()).prefetch(1).priority(1);
        let mut higher = higher.subscribe().await.unwrap();
        for body in ["1", "2"] {
            connection.send(orders(), body).await.unwrap();
        }
        let (first, second) = (next(&mut higher).await, next(&mut plain).await);
        assert_eq!((first.text(), second.text()), (Some("1"), Some("2")));
        first.acknowledge().await.unwrap();
        second.acknowledge().await.unwrap();
        let mut alone = connection.consumer(orders()).exclusive().subscribe().await.unwrap();
        for number in 0..5 {
            connection.send(orders(), format!("{number}")).await.unwrap();
            next(&mut alone).await.acknowledge().await.unwrap();
        }
        let nothing: Result<Option<Delivery>, RecvError> = plain.try_recv();
        assert!(nothing.unwrap().is_none() && higher.try_recv().unwrap().is_none());
        let error = connection.consumer(orders()).selecting("a =").map(drop).unwrap_err();
        assert!(matches!(error, SubscribeError::Selector(_)), "{error:?}");
        broker.close().await.unwrap();
    });
}

#[test]
fn the_first_message_of_a_group_says_so() {
    story(async {
        let broker = on_disk(&SimDisk::new()).open().await.unwrap();
        let connection = broker.connect().unwrap();
        let mut consumer = connection.subscribe(orders()).await.unwrap();
        for group in ["a", "a", "b"] {
            let message = Message::text(group).property("JMSXGroupID", group);
            connection.send(orders(), message).await.unwrap();
        }
        connection.send(orders(), "no group").await.unwrap();
        for first in [true, false, true, false] {
            let delivery = next(&mut consumer).await;
            assert_eq!(delivery.is_first_of_group(), first, "{delivery:?}");
            delivery.acknowledge().await.unwrap();
        }
        broker.close().await.unwrap();
    });
}
