//! MESSAGE, ACK and NACK.

use super::*;

fn subscribed(version: &str, ack: &str) -> Wire {
    let mut wire = Wire::connected(version);
    wire.feed(&format!("SUBSCRIBE\nid:s\ndestination:/queue/a\nack:{ack}\n\n^"));
    wire
}

#[test]
fn a_message_says_everything_the_broker_knows() {
    let mut wire = subscribed("1.2", "client");
    wire.deliver(Delivery {
        redelivered: true,
        attempt: 3,
        first_of_group: false,
        priority: 9,
        persistent: false,
        message: MessageId::Volatile { epoch: 2, number: 17 },
        expires: Some(Millis(99)),
        content: content(&[("k", "a:b"), ("content-type", "text/plain"), ("k", "2")], "body"),
        ..delivery(1, 4)
    });
    assert_eq!(
        wire.written(),
        "MESSAGE\nsubscription:s\nmessage-id:ID\\ch-v2-11\ndestination:/queue/a\nack:1-4\n\
         redelivered:true\nJMSXDeliveryCount:3\npriority:9\npersistent:false\ntimestamp:5\n\
         expires:99\nk:a\\cb\ncontent-type:text/plain\nk:2\ncontent-length:4\n\nbody^"
    );
}

#[test]
fn each_version_has_its_own_headers_in_message() {
    let rest = "destination:/queue/a\nJMSXDeliveryCount:1\npriority:4\npersistent:true\n\
                timestamp:5\ncontent-length:2\n\nhi^";
    let mut wire = subscribed("1.1", "client");
    wire.deliver(delivery(1, 1));
    assert_eq!(wire.written(), format!("MESSAGE\nsubscription:s\nmessage-id:ID\\ch-d101\n{rest}"));
    let mut wire = Wire::connected("1.0");
    wire.feed("SUBSCRIBE\ndestination:/queue/a\nack:client\n\n^");
    wire.deliver(delivery(1, 1));
    assert_eq!(wire.written(), format!("MESSAGE\nmessage-id:ID:h-d101\n{rest}"));
}

#[test]
fn an_auto_delivery_is_settled_only_when_it_is_written() {
    let mut wire = subscribed("1.2", "auto");
    wire.deliver(delivery(1, 1));
    wire.deliver(delivery(1, 2));
    assert!(wire.requests().is_empty());
    assert!(!wire.taken().contains("\nack:"));
    // What comes after the bytes were taken is not part of that write.
    wire.deliver(delivery(1, 3));
    assert!(wire.requests().is_empty());
    wire.session.handle_written();
    assert_eq!(wire.requests(), ["Accepted 1 through 2"]);
    wire.session.handle_written();
    assert!(wire.requests().is_empty());
    wire.written();
    assert_eq!(wire.requests(), ["Accepted 1 through 3"]);
}

#[test]
fn unsubscribe_waits_until_auto_deliveries_under_way_are_settled() {
    let mut wire = subscribed("1.2", "auto");
    wire.deliver(delivery(1, 1));
    let send = "SEND\ndestination:/queue/b\n\n^";
    assert!(wire.feed(&format!("UNSUBSCRIBE\nid:s\nreceipt:u\n\n^{send}")).is_empty());
    assert!(!wire.session.wants_bytes());
    // This one is not written any more: the broker takes it back.
    wire.deliver(delivery(1, 2));
    assert_eq!(wire.written().matches("MESSAGE").count(), 1);
    assert_eq!(wire.requests(), ["Accepted 1 through 1", "unsubscribe 1!"]);
    assert_eq!(wire.feed(""), ["send queue://b p4 [] text ''"]);
    wire.deliver(delivery(1, 3));
    wire.answer(Ok(Reply::Done));
    assert_eq!(wire.written(), "RECEIPT\nreceipt-id:u\n\n^");
}

#[test]
fn unsubscribe_waits_for_every_write_under_way() {
    let mut wire = subscribed("1.2", "auto");
    wire.deliver(delivery(1, 1));
    wire.taken();
    assert!(wire.feed("UNSUBSCRIBE\nid:s\n\n^").is_empty());
    wire.session.handle_written();
    assert_eq!(wire.requests(), ["Accepted 1 through 1", "unsubscribe 1"]);
    // Here one write is under way, and a delivery after it is not taken yet.
    let mut wire = subscribed("1.2", "auto");
    wire.deliver(delivery(1, 1));
    wire.taken();
    wire.deliver(delivery(1, 2));
    assert!(wire.feed("UNSUBSCRIBE\nid:s\n\n^").is_empty());
    wire.session.handle_written();
    assert_eq!(wire.requests(), ["Accepted 1 through 1"]);
    wire.written();
    assert_eq!(wire.requests(), ["Accepted 1 through 2", "unsubscribe 1"]);
}

#[test]
fn client_acknowledgements_are_cumulative() {
    for outcome in [("ACK", "Accepted"), ("NACK", "Returned")] {
        let mut wire = subscribed("1.2", "client");
        for tag in 1..=4 {
            wire.deliver(delivery(1, tag));
        }
        wire.written();
        let requests = wire.feed(&format!("{}\nid:1-3\nreceipt:r\n\n^", outcome.0));
        assert_eq!(requests, [format!("{} 1 through 3!", outcome.1)]);
        let left = wire.session.subscriptions.get(SubscriptionId(1)).unwrap();
        assert_eq!(left.outstanding(), 1);
        wire.answer(Ok(Reply::Done));
        assert_eq!(wire.written(), "RECEIPT\nreceipt-id:r\n\n^");
        wire.feed("ACK\nid:1-2\n\n^");
        let message = "the header id is \"1-2\", which names no message that waits to be settled";
        assert_eq!(error_message(&wire.written()), message);
    }
}

#[test]
fn individual_acknowledgements_take_one_each_in_any_order() {
    let mut wire = subscribed("1.2", "client-individual");
    for tag in 1..=3 {
        wire.deliver(delivery(1, tag));
    }
    assert_eq!(wire.feed("ACK\nid:1-2\n\n^"), ["Accepted 1 one 2"]);
    assert_eq!(wire.feed("NACK\nid:1-1\n\n^"), ["Returned 1 one 1"]);
    // The message comes again: the same message-id, a new delivery.
    wire.deliver(Delivery { tag: Tag(4), redelivered: true, attempt: 2, ..delivery(1, 1) });
    assert_eq!(wire.feed("ACK\nid:1-4\n\n^"), ["Accepted 1 one 4"]);
    assert_eq!(wire.session.subscriptions.get(SubscriptionId(1)).unwrap().outstanding(), 1);
    assert_eq!(wire.closed(), None);
}

#[test]
fn version_1_1_settles_by_subscription_and_message_id() {
    let mut wire = subscribed("1.1", "client-individual");
    wire.feed("SUBSCRIBE\nid:t\ndestination:/topic/a\nack:client\n\n^");
    for tag in 1..=2 {
        wire.deliver(delivery(1, tag));
        wire.deliver(delivery(2, tag + 10));
    }
    let ack = |message: &str, subscription: &str| {
        format!("ACK\nmessage-id:{message}\nsubscription:{subscription}\n\n^")
    };
    assert_eq!(wire.feed(&ack("ID\\ch-d102", "s")), ["Accepted 1 one 2"]);
    assert_eq!(wire.feed(&ack("ID\\ch-d10c", "t")), ["Accepted 2 through 12"]);
    wire.feed(&ack("ID\\ch-d10b", "s"));
    let message =
        "the header message-id is \"ID:h-d10b\", which names no message that waits to be settled";
    assert_eq!(error_message(&wire.written()), message);
    let mut wire = subscribed("1.1", "client");
    wire.feed("ACK\nmessage-id:x\n\n^");
    assert_eq!(error_message(&wire.written()), "ACK needs the header subscription");
}

#[test]
fn version_1_0_settles_by_message_id_on_any_subscription() {
    let mut wire = Wire::connected("1.0");
    wire.feed("SUBSCRIBE\ndestination:/queue/x\nack:client\n\n^");
    wire.feed("SUBSCRIBE\ndestination:/queue/a\nack:client\n\n^");
    wire.deliver(delivery(2, 1));
    assert_eq!(wire.feed("ACK\nmessage-id:ID:h-d101\n\n^"), ["Accepted 2 through 1"]);
    wire.deliver(delivery(2, 2));
    let ack = "ACK\nmessage-id:ID:h-d102\nsubscription:/queue/a\n\n^";
    assert_eq!(wire.feed(ack), ["Accepted 2 through 2"]);
}

#[test]
fn to_acknowledge_on_an_auto_subscription_is_a_mistake_told_as_such() {
    let message = "ACK on a subscription with ack:auto, whose messages are settled when sent";
    for (version, ack) in [
        ("1.0", "message-id:ID:h-d101"),
        ("1.1", "subscription:s\nmessage-id:ID\\ch-d101"),
        ("1.2", "id:1-1"),
    ] {
        let mut wire = subscribed(version, "auto");
        wire.deliver(delivery(1, 1));
        wire.written();
        wire.feed(&format!("ACK\n{ack}\n\n^"));
        assert_eq!(error_message(&wire.written()), message, "in {version}");
    }
}

#[test]
fn a_property_of_another_client_cannot_forge_headers() {
    let mut wire = Wire::connected("1.0");
    wire.feed("SUBSCRIBE\ndestination:/queue/a\n\n^");
    let content = content(&[("k\nmessage-id", "v\nack:1\n\nbody\0")], "hi");
    wire.deliver(Delivery { content, ..delivery(1, 1) });
    let got = wire.written();
    assert!(got.contains("\nk_message-id:v ack:1  body \ncontent-length:2\n\nhi^"), "{got}");
}

#[test]
fn a_delivery_for_a_subscription_that_ended_is_left_to_the_broker() {
    let mut wire = subscribed("1.2", "client");
    assert_eq!(wire.feed("UNSUBSCRIBE\nid:s\n\n^"), ["unsubscribe 1"]);
    wire.deliver(delivery(1, 1));
    assert_eq!(wire.written(), "");
    // The name is free again, for a subscription of its own.
    let again = wire.feed("SUBSCRIBE\nid:s\ndestination:/queue/a\n\n^");
    assert_eq!(again, ["subscribe 2 queue://a 1000"]);
}
