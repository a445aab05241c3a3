//! Stories of programs that embed the broker: what they send, keep, lose and are told.

#[path = "../support/mod.rs"]
mod support;

mod dead;
mod durable;
mod examples;
mod failures;
mod once;
mod operated;
mod parity;
mod producers;
mod refusals;
mod routing;
mod transactions;
mod xa;

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use escrowmq::io::Storage;
use escrowmq::io::sim::{Fault, SimDisk};
use escrowmq::{
    Broker, Builder, Connection, Consumer, Delivery, Destination, Ended, Limit, Message, OpenError,
    Outcome, SendError, SettleError, SubscribeError, WhenFull, blocking,
};
use support::stomp::{Frame, Stomp};
use support::{PATIENCE, fresh_dir, wait_until};
use tokio::time::timeout;

/// Small files, so that a test costs little disk.
fn small(directory: &Path) -> Builder {
    Broker::builder(directory).segment_size(1 << 20).disk_reserve(2 << 20).wait_for_store(PATIENCE)
}

fn on_disk(disk: &SimDisk) -> Builder {
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    small(Path::new("nowhere")).storage(storage)
}

/// Runs a story on a runtime that has no timers but tokio's, and one thread.
fn story<F: Future>(story: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.expect("a runtime").block_on(async { timeout(PATIENCE, story).await });
    result.expect("the story ends in time")
}

fn orders() -> Destination {
    Destination::queue("orders")
}

async fn next(consumer: &mut Consumer) -> Delivery {
    consumer.recv().await.expect("a delivery")
}

/// Everything a queue holds, consumed.
async fn drain(connection: &Connection, from: &Destination) -> Vec<String> {
    // The last message sent marks the end, behind everything else.
    connection.send(from, Message::text("end").priority(0)).await.unwrap();
    let mut consumer = connection.subscribe(from).await.unwrap();
    let mut bodies = Vec::new();
    loop {
        let delivery = next(&mut consumer).await;
        let body = delivery.text().expect("text").to_owned();
        delivery.acknowledge().await.unwrap();
        if body == "end" {
            return bodies;
        }
        bodies.push(body);
    }
}

#[test]
fn what_is_sent_is_received_as_it_was_and_what_is_acknowledged_does_not_come_again() {
    let dir = fresh_dir();
    story(async {
        let broker = small(dir.path()).open().await.unwrap();
        let connection = broker.connect().unwrap();
        let sent = Message::bytes(vec![1, 2, 255])
            .property("colour", "red")
            .property("size", "ä")
            .priority(7)
            .time_to_live(Duration::from_secs(3600));
        connection.send(orders(), sent).await.unwrap();
        connection.send(orders(), "plain").await.unwrap();
        let mut consumer = connection.subscribe(orders()).await.unwrap();
        let first = next(&mut consumer).await;
        assert_eq!(first.body()[..], [1, 2, 255]);
        assert_eq!((first.text(), first.priority(), first.attempt()), (None, 7, 1));
        assert!(!first.is_text());
        assert_eq!(first.properties().collect::<Vec<_>>(), [("colour", "red"), ("size", "ä")]);
        assert_eq!(first.property("colour"), Some("red"));
        assert!(first.is_persistent() && !first.is_redelivered());
        assert!(first.expires_at().unwrap() > first.sent_at() + Duration::from_secs(3000));
        assert_eq!(first.destination(), &orders());
        assert_eq!(first.id().to_string().parse(), Ok(first.id()));
        first.acknowledge().await.unwrap();
        assert_eq!(next(&mut consumer).await.text(), Some("plain"));
        drop(consumer);
        broker.close().await.unwrap();

        let broker = small(dir.path()).open().await.unwrap();
        assert_eq!(drain(&broker.connect().unwrap(), &orders()).await, ["plain"]);
        broker.close().await.unwrap();
    });
}

#[test]
fn a_broker_that_is_dropped_without_a_word_keeps_what_it_confirmed() {
    let dir = fresh_dir();
    story(async {
        for round in 0..3 {
            let broker = small(dir.path()).open().await.unwrap();
            let connection = broker.connect().unwrap();
            connection.send(orders(), format!("{round}")).await.unwrap();
            if round == 1 {
                // What holds the broker's things beyond its end does not hold the store.
                drop(broker);
                let error = connection.send(orders(), "too late").await.unwrap_err();
                assert!(matches!(error, SendError::Ended(Ended::Closed)), "{error:?}");
            }
        }
        let broker = small(dir.path()).open().await.unwrap();
        assert_eq!(drain(&broker.connect().unwrap(), &orders()).await, ["0", "1", "2"]);
    });
}

#[test]
fn a_directory_in_use_is_refused_and_free_again_after_close() {
    let (dir, other) = (fresh_dir(), fresh_dir());
    story(async {
        let one = small(dir.path()).open().await.unwrap();
        let connection = one.connect().unwrap();
        let error = small(dir.path()).wait_for_store(Duration::ZERO).open().await.unwrap_err();
        assert!(matches!(&error, OpenError::InUse { .. }), "{error:?}");
        assert!(error.to_string().contains("another broker has this store open"), "{error}");

        // Another directory is another broker.
        let two = small(other.path()).open().await.unwrap();
        two.connect().unwrap().send(orders(), "two").await.unwrap();
        connection.send(orders(), "one").await.unwrap();
        assert_eq!(drain(&two.connect().unwrap(), &orders()).await, ["two"]);
        one.close().await.unwrap();
        // The connection is still there; the store is not held by it.
        let one = small(dir.path()).wait_for_store(Duration::ZERO).open().await.unwrap();
        assert_eq!(drain(&one.connect().unwrap(), &orders()).await, ["one"]);
        drop(connection);
        one.close().await.unwrap();
        two.close().await.unwrap();
    });
}

#[test]
fn what_cannot_be_opened_says_why_and_leaves_it_alone() {
    let dir = fresh_dir();
    std::fs::write(dir.path().join("diary"), b"dear").unwrap();
    let opened = |builder: Builder| story(builder.open()).expect_err("it opened").to_string();
    let said = opened(small(dir.path()));
    assert!(said.contains("diary"), "{said}");
    let file = dir.path().join("diary");
    assert!(matches!(story(small(&file).open()), Err(OpenError::Directory(_))));
    let said = opened(small(dir.path()).segment_size(1));
    assert!(said.contains("log.segment_size"), "{said}");
    let said = opened(small(dir.path()).memory_limit(32 << 20));
    assert!(said.contains("memory.limit"), "{said}");
    let said = opened(small(dir.path()).limit("orders", Limit::messages(1)));
    assert!(said.contains("must begin with queue://"), "{said}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("stomp://{}", taken.local_addr().unwrap());
    let error = story(small(dir.path()).listen(url).open()).unwrap_err();
    assert!(matches!(&error, OpenError::Listen(_)), "{error:?}");
    let said = opened(small(dir.path()).listen("carrier-pigeon://roof"));
    assert!(said.contains("carrier-pigeon"), "{said}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing but diary and lock");
}

#[test]
fn the_smallest_memory_that_is_promised_is_enough() {
    let dir = fresh_dir();
    story(async {
        let broker = small(dir.path()).memory_limit(64 << 20).open().await.unwrap();
        broker.close().await.unwrap();
    });
}

#[test]
fn a_delivery_that_is_dropped_comes_again_and_says_so() {
    let dir = fresh_dir();
    story(async {
        let broker = small(dir.path()).open().await.unwrap();
        let connection = broker.connect().unwrap();
        connection.send(orders(), "one").await.unwrap();
        let mut consumer = connection.subscribe(orders()).await.unwrap();
        let id = next(&mut consumer).await.id();
        let again = next(&mut consumer).await;
        assert_eq!((again.id(), again.is_redelivered(), again.attempt()), (id, true, 2));
        again.give_back().await.unwrap();
        assert_eq!(next(&mut consumer).await.attempt(), 3);
        // An acknowledgement that was never polled is one that was never made.
        drop(next(&mut consumer).await.acknowledge());
        let last = next(&mut consumer).await;
        assert_eq!(last.attempt(), 5);
        // Polled once it is made, though nobody hears of it.
        {
            let mut acknowledging = pin!(last.acknowledge());
            let mut context = Context::from_waker(Waker::noop());
            let _ = acknowledging.as_mut().poll(&mut context);
        }
        drop(consumer);
        assert_eq!(drain(&connection, &orders()).await, Vec::<String>::new());
        broker.close().await.unwrap();
    });
}

#[test]
fn what_a_consumer_held_unseen_goes_back_as_if_it_had_never_come() {
    let dir = fresh_dir();
    story(async {
        let broker = small(dir.path()).open().await.unwrap();
        let connection = broker.connect().unwrap();
        for body in ["seen", "held", "held too"] {
            connection.send(orders(), body).await.unwrap();
        }
        let mut consumer = connection.subscribe(orders()).await.unwrap();
        let seen = next(&mut consumer).await;
        // The others are here as well: nothing else would come before them.
        connection.send(orders(), Message::text("last").priority(0)).await.unwrap();
        consumer.close().await.unwrap();
        let error = seen.acknowledge().await.unwrap_err();
        assert!(matches!(error, SettleError::NotLent(_)), "{error:?}");

        let mut consumer = connection.subscribe(orders()).await.unwrap();
        let mut found = Vec::new();
        for _ in 0..4 {
            let delivery = next(&mut consumer).await;
            found.push((delivery.text().unwrap().to_owned(), delivery.attempt()));
            delivery.acknowledge().await.unwrap();
        }
        let expected = [("seen", 2), ("held", 1), ("held too", 1), ("last", 1)];
        assert_eq!(found, expected.map(|(body, attempt)| (body.to_owned(), attempt)));
        broker.close().await.unwrap();
    });
}

#[test]
fn a_receive_that_is_dropped_loses_nothing() {
    let dir = fresh_dir();
    story(async {
        let broker = small(dir.path()).open().await.unwrap();
        let connection = broker.connect().unwrap();
        let mut consumer = connection.subscribe_with(orders(), 1).await.unwrap();
        for number in 0..200 {
            // Sometimes before the message is there, sometimes while it comes.
            let mut sending = pin!(connection.send(orders(), format!("{number}")));
            let mut sent = false;
            let delivery = loop {
                tokio::select! {
                    biased;
                    result = &mut sending, if !sent => { result.unwrap(); sent = true; }
                    delivery = consumer.recv() => break delivery.unwrap(),
                    () = tokio::task::yield_now() => {}
                }
            };
            assert_eq!(delivery.text().unwrap(), format!("{number}"));
            assert_eq!(delivery.attempt(), 1);
            delivery.acknowledge().await.unwrap();
            if !sent {
                sending.await.unwrap();
            }
        }
        assert!(consumer.try_recv().unwrap().is_none());
        broker.close().await.unwrap();
    });
}

#[test]
fn messages_posted_without_waiting_keep_their_order_and_each_gets_its_receipt() {
    story(async {
        let broker = on_disk(&SimDisk::new()).open().await.unwrap();
        let connection = broker.connect().unwrap();
        let expected: Vec<String> = (0..1200).map(|number| number.to_string()).collect();
        let mut receipts = Vec::new();
        for body in &expected {
            // More than may be unconfirmed: it waits by itself.
            receipts.push(connection.post(orders(), body.as_str()).await.unwrap());
        }
        // One that nobody waits for is sent all the same; the last says that all are durable.
        receipts.drain(..1190).for_each(drop);
        for receipt in receipts {
            receipt.await.unwrap();
        }
        assert_eq!(drain(&connection, &orders()).await, expected);
        broker.close().await.unwrap();
    });
}

#[test]
fn a_full_queue_holds_its_senders_and_their_own_acknowledgements_make_room() {
    let dir = fresh_dir();
    story(async {
        let builder = small(dir.path()).limit("queue://orders", Limit::messages(2));
        let refuses = Limit::messages(1).when_full(WhenFull::Refuse);
        let broker = builder.limit("queue://small", refuses).open().await.unwrap();
        let connection = broker.connect().unwrap();
        connection.send(orders(), "1").await.unwrap();
        connection.send(orders(), "2").await.unwrap();
        let mut held = Vec::new();
        for body in ["3", "4"] {
            held.push(connection.post(orders(), body).await.unwrap());
        }
        // A yes to something else does not wait for them, or this would wait for ever.
        let elsewhere = Destination::queue("small");
        connection.send(&elsewhere, "fits").await.unwrap();
        let error = connection.send(&elsewhere, "does not").await.unwrap_err();
        let SendError::Refused(refusal) = error else { panic!("{error:?}") };
        assert!(refusal.is_for_want_of_room(), "{refusal}");

        let mut consumer = connection.subscribe(orders()).await.unwrap();
        for body in ["1", "2", "3", "4"] {
            let delivery = next(&mut consumer).await;
            assert_eq!(delivery.text(), Some(body));
            delivery.acknowledge().await.unwrap();
        }
        for receipt in held {
            receipt.await.unwrap();
        }
        // One that still waits when the broker ends is told so.
        connection.send(orders(), "5").await.unwrap();
        connection.send(orders(), "6").await.unwrap();
        let waits = connection.post(orders(), "7").await.unwrap();
        broker.close().await.unwrap();
        let error = waits.await.unwrap_err();
        assert!(matches!(error, SendError::Ended(Ended::Closed)), "{error:?}");
    });
}

#[test]
fn a_large_message_comes_whole_and_one_beyond_the_limit_is_refused() {
    let dir = fresh_dir();
    let body: Vec<u8> = (0..1_500_000_u32).map(|number| (number % 251) as u8).collect();
    story(async {
        let broker = small(dir.path()).message_limit(2 << 20).open().await.unwrap();
        let connection = broker.connect().unwrap();
        // Given up half way, more often than may be on their way: as if they had never begun.
        for _ in 0..20 {
            let mut sending = pin!(connection.send(orders(), body.clone()));
            let mut context = Context::from_waker(Waker::noop());
            assert!(sending.as_mut().poll(&mut context).is_pending());
        }
        let rich = Message::bytes(body.clone()).property("kind", "large");
        let receipt = connection.post(orders(), rich).await.unwrap();
        connection.send(orders(), "small").await.unwrap();
        receipt.await.unwrap();
        let error = connection.send(orders(), vec![0; (2 << 20) + 1]).await.unwrap_err();
        assert!(matches!(error, SendError::TooLarge { size: 0x20_0001, limit: 0x20_0000 }));
        let again = Message::bytes(body.clone()).repeat(PATIENCE, None);
        let error = connection.send(orders(), again).await.unwrap_err();
        assert!(matches!(error, SendError::TooLarge { limit: 0x4_0000, .. }), "{error:?}");
        let news = Destination::topic("news");
        let mut reader = connection.subscribe(&news).await.unwrap();
        connection.send(&news, body.clone()).await.unwrap();
        assert!(next(&mut reader).await.body()[..] == body[..], "it is not what was published");

        let mut consumer = connection.subscribe(orders()).await.unwrap();
        // A receive that is dropped half way goes on with the next.
        let large = loop {
            match timeout(Duration::ZERO, consumer.recv()).await {
                Ok(delivery) => break delivery.unwrap(),
                Err(_not_yet) => tokio::task::yield_now().await,
            }
        };
        assert!(large.body()[..] == body[..], "{large:?} is not what was sent");
        assert_eq!((large.property("kind"), large.attempt()), (Some("large"), 1));
        large.acknowledge().await.unwrap();
        assert_eq!(next(&mut consumer).await.text(), Some("small"));
        broker.close().await.unwrap();
    });
}

#[test]
fn consumers_of_one_connection_do_not_wait_for_each_other() {
    let dir = fresh_dir();
    story(async {
        let broker = small(dir.path()).open().await.unwrap();
        let connection = broker.connect().unwrap();
        let idle = Destination::queue("idle");
        for _ in 0..50 {
            // More than the window of a connection.
            connection.send(&idle, vec![7; 100 << 10]).await.unwrap();
        }
        let _idle = connection.subscribe(&idle).await.unwrap();
        let mut busy = connection.subscribe(orders()).await.unwrap();
        connection.send(orders(), "hello").await.unwrap();
        assert_eq!(next(&mut busy).await.text(), Some("hello"));
        broker.close().await.unwrap();
    });
}

#[test]
fn tasks_and_threads_share_a_connection_and_every_message_comes_once() {
    const EACH: usize = 100;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(4).enable_all().build().unwrap();
    let broker = on_disk(&SimDisk::new()).open_blocking().unwrap();
    let connection = broker.broker().connect().unwrap();
    let (found, seen) = std::sync::mpsc::channel();
    for _ in 0..3 {
        let (connection, found) = (connection.clone(), found.clone());
        runtime.spawn(async move {
            let mut consumer = connection.subscribe_with(orders(), 5).await.unwrap();
            while let Ok(delivery) = consumer.recv().await {
                let text = delivery.text().unwrap().to_owned();
                delivery.acknowledge().await.unwrap();
                found.send(text).unwrap();
            }
        });
    }
    for producer in 0..3 {
        let connection = connection.clone();
        runtime.spawn(async move {
            for number in 0..EACH {
                connection.send(orders(), format!("{producer}-{number}")).await.unwrap();
            }
        });
    }
    // A thread beside them that knows no runtime.
    let blocking = broker.connect().unwrap();
    for number in 0..EACH {
        blocking.send(orders(), format!("3-{number}")).unwrap();
    }
    let mut all: Vec<String> =
        (0..4 * EACH).map(|_| seen.recv_timeout(PATIENCE).unwrap()).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 4 * EACH);
    broker.close().unwrap();
    drop(found);
    // The consumers end with their broker, and so nobody is left who could find anything.
    let end = seen.recv_timeout(PATIENCE);
    assert_eq!(end, Err(std::sync::mpsc::RecvTimeoutError::Disconnected));
}

#[test]
fn a_topic_reaches_those_who_listen() {
    let dir = fresh_dir();
    story(async {
        let broker = small(dir.path()).open().await.unwrap();
        let (one, two) = (broker.connect().unwrap(), broker.connect().unwrap());
        let news = Destination::topic("news");
        one.send(&news, "nobody hears").await.unwrap();
        let mut first = one.subscribe(&news).await.unwrap();
        let mut second = two.subscribe(&news).await.unwrap();
        one.send(&news, Message::text("hear").non_persistent()).await.unwrap();
        for consumer in [&mut first, &mut second] {
            let delivery = next(consumer).await;
            assert_eq!((delivery.text(), delivery.is_persistent()), (Some("hear"), false));
            delivery.acknowledge().await.unwrap();
        }
        broker.close().await.unwrap();
    });
}

#[test]
fn properties_that_no_wire_could_carry_are_refused() {
    let dir = fresh_dir();
    story(async {
        let broker = small(dir.path()).open().await.unwrap();
        let connection = broker.connect().unwrap();
        for name in ["", "content-length", "destination", "receipt"] {
            let message = Message::text("x").property(name, "5");
            let error = connection.send(orders(), message).await.unwrap_err();
            assert!(matches!(&error, SendError::Property { name: n, .. } if n == name));
        }
        let many = (0..257).fold(Message::text("x"), |it, n| it.property(n.to_string(), "v"));
        let long = Message::text("x").property("long", "v".repeat(64 << 10));
        for message in [many, long] {
            let error = connection.send(orders(), message).await.unwrap_err();
            assert!(matches!(error, SendError::Property { .. }), "{error:?}");
        }
        let error = connection.send(Destination::queue(""), "x").await.unwrap_err();
        assert!(matches!(error, SendError::Refused(_)), "{error:?}");
        let error = connection.subscribe(Destination::queue("")).await.unwrap_err();
        assert!(matches!(error, SubscribeError::Refused(_)), "{error:?}");
        broker.close().await.unwrap();
    });
}

#[test]
fn stomp_clients_and_the_program_exchange_messages() {
    let dir = fresh_dir();
    let broker = small(dir.path()).listen("stomp://127.0.0.1:0").open_blocking().unwrap();
    let connection = broker.connect().unwrap();
    let address = broker.broker().addresses()[0];
    let mut stomp = Stomp::connect(address.port(), "1.2").unwrap();
    let sent = Message::text("from the program").property("colour", "red").priority(6);
    connection.send(orders(), sent).unwrap();
    stomp.subscribe("s", "/queue/orders", "client-individual").unwrap();
    let message = stomp.message().unwrap();
    assert_eq!(message.text(), "from the program");
    assert_eq!(message.header("colour"), Some("red"));
    assert_eq!(message.header("priority"), Some("6"));
    stomp.ack(&message).unwrap();

    let back = Frame::new("SEND")
        .with("destination", "/queue/answers")
        .with("shape", "round")
        .body("from the client");
    stomp.confirm(back).unwrap();
    let mut consumer = connection.subscribe(Destination::queue("answers")).unwrap();
    let answer = consumer.recv().unwrap();
    // It was sent with its length, so as bytes.
    assert_eq!((answer.text(), answer.is_text()), (Some("from the client"), false));
    assert_eq!(answer.property("shape"), Some("round"));
    answer.acknowledge().unwrap();
    broker.close().unwrap();
    // The client was told that the broker is gone.
    assert!(stomp.message().is_err());
}

#[test]
fn the_blocking_form_works_without_a_runtime_and_inside_spawn_blocking() {
    fn work(directory: &Path) {
        let broker = small(directory).open_blocking().unwrap();
        let connection = broker.connect().unwrap();
        let receipts: Vec<blocking::Receipt> =
            (0..10).map(|n| connection.post(orders(), format!("{n}")).unwrap()).collect();
        receipts.into_iter().for_each(|receipt| receipt.wait().unwrap());
        let mut consumer = connection.subscribe_with(orders(), 3).unwrap();
        for number in 0..10 {
            let delivery = consumer.recv().unwrap();
            assert_eq!(delivery.text().unwrap(), number.to_string());
            delivery.acknowledge().unwrap();
        }
        let begun = Instant::now();
        let nothing = consumer.recv_timeout(Duration::from_millis(20)).unwrap();
        assert!(nothing.is_none() && begun.elapsed() >= Duration::from_millis(20));
        assert!(consumer.try_recv().unwrap().is_none());
        consumer.close().unwrap();
        broker.close().unwrap();
    }
    let dir = fresh_dir();
    work(dir.path());
    let path = dir.path().to_owned();
    story(async move { tokio::task::spawn_blocking(move || work(&path)).await.unwrap() });
}

#[test]
fn the_blocking_form_refuses_to_block_a_task() {
    let dir = fresh_dir();
    let broker = small(dir.path()).open_blocking().unwrap();
    let connection = broker.connect().unwrap();
    story(async {
        let task = tokio::spawn(async move { connection.send(orders(), "never").map(drop) });
        assert!(task.await.unwrap_err().is_panic());
    });
    broker.close().unwrap();
}

#[test]
fn a_broker_whose_opening_is_given_up_lets_go_of_its_directory() {
    let dir = fresh_dir();
    story(async {
        for _ in 0..5 {
            let mut opening = pin!(small(dir.path()).open());
            let mut context = Context::from_waker(Waker::noop());
            assert!(matches!(opening.as_mut().poll(&mut context), Poll::Pending));
        }
        let broker = small(dir.path()).open().await.unwrap();
        broker.close().await.unwrap();
    });
}

#[test]
fn a_broker_that_is_open_before_its_opener_has_looked_ends_when_that_gives_up() {
    struct Flag(AtomicBool);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let dir = fresh_dir();
    let told = Arc::new(Flag(AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&told));
    let mut opening = Box::pin(small(dir.path()).open());
    let polled = opening.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(matches!(polled, Poll::Pending));
    wait_until("the broker is open", || told.0.load(Ordering::SeqCst));
    drop(opening);
    story(async {
        let broker = small(dir.path()).open().await.unwrap();
        broker.close().await.unwrap();
    });
}
