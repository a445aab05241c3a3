//! Stories of who gets which message.

use super::*;

#[test]
fn a_pattern_hears_of_all_topics_it_catches_each_under_its_own_name() {
    let dir = fresh_dir();
    story(async {
        let broker = small(dir.path()).open().await.unwrap();
        let connection = broker.connect().unwrap();
        let mut news = connection.subscribe(Destination::topic("news.*")).await.unwrap();
        for name in ["news", "news.sport", "news.sport.chess", "news.arts"] {
            connection.send(Destination::topic(name), Message::text(name)).await.unwrap();
        }
        for name in ["news.sport", "news.arts"] {
            let delivery = next(&mut news).await;
            assert_eq!(delivery.text().unwrap(), name);
            assert_eq!(delivery.destination(), &Destination::topic(name));
            delivery.acknowledge().await.unwrap();
        }
        let refused = connection.send(Destination::topic("news.>"), Message::text("x")).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("news.> is a pattern"), "{refused}");
        broker.close().await.unwrap();
    });
}

#[test]
fn a_pattern_reads_all_queues_it_catches_those_too_that_come_later() {
    story(async {
        let broker = on_disk(&SimDisk::new()).open().await.unwrap();
        let connection = broker.connect().unwrap();
        connection.send(Destination::queue("orders.old"), "first").await.unwrap();
        let mut all = connection.subscribe(Destination::queue("orders.>")).await.unwrap();
        assert_eq!(next(&mut all).await.destination(), &Destination::queue("orders.old"));
        next(&mut all).await.acknowledge().await.unwrap();
        connection.send(Destination::queue("bills"), "another").await.unwrap();
        connection.send(Destination::queue("orders.new.large"), "second").await.unwrap();
        let second = next(&mut all).await;
        assert_eq!(second.text(), Some("second"));
        assert_eq!(second.destination(), &Destination::queue("orders.new.large"));
        second.acknowledge().await.unwrap();
        broker.close().await.unwrap();
    });
}
