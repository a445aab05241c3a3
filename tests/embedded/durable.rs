//! Stories of durable subscriptions: what a topic keeps for a program that is away.

use super::*;

#[test]
fn a_subscription_keeps_what_it_wants_over_the_end_of_the_broker_until_it_is_ended() {
    let dir = fresh_dir();
    let topic = Destination::topic("orders");
    story(async {
        let broker = small(dir.path()).open().await.unwrap();
        let connection = broker.connect().unwrap();
        let billing = connection.durable("billing");
        let large = billing.topic("orders").selecting("size = 'large'").unwrap();
        large.subscribe("large").await.unwrap().close().await.unwrap();
        for size in ["small", "large"] {
            let order = Message::text(size).property("size", size);
            connection.send(&topic, order).await.unwrap();
        }
        broker.close().await.unwrap();
    });
    story(async {
        let broker = small(dir.path()).open().await.unwrap();
        let connection = broker.connect().unwrap();
        let billing = connection.durable("billing");
        let large = || billing.topic("orders").selecting("size = 'large'").unwrap();
        let mut consumer = large().subscribe("large").await.unwrap();
        let order = next(&mut consumer).await;
        assert_eq!((order.text(), order.destination()), (Some("large"), &topic));
        order.acknowledge().await.unwrap();
        let second = large().subscribe("large").await.unwrap_err().to_string();
        assert!(second.contains("Durable consumer is in use"), "{second}");
        let used = billing.unsubscribe("large").await.unwrap_err().to_string();
        assert!(used.contains("in use"), "{used}");
        consumer.close().await.unwrap();
        billing.unsubscribe("large").await.unwrap();
        let gone = billing.unsubscribe("large").await.unwrap_err().to_string();
        assert!(gone.contains("No durable subscription exists"), "{gone}");
        broker.close().await.unwrap();
    });
}
