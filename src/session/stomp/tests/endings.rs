//! How a session ends, and what it may still say then.

use super::*;

const FULL: Refusal = Refusal::StorageFull;

#[test]
fn a_receipt_leaves_only_on_the_answer() {
    let mut wire = Wire::connected("1.2");
    wire.feed("SEND\ndestination:/queue/a\nreceipt:r\n\n^");
    assert_eq!(wire.written(), "");
    wire.answer(Ok(Reply::Done));
    assert_eq!(wire.written(), "RECEIPT\nreceipt-id:r\n\n^");
}

#[test]
fn nothing_is_confirmed_after_a_refusal() {
    let mut wire = Wire::connected("1.2");
    wire.feed(
        "SEND\ndestination:/queue/a\nreceipt:1\n\n^SEND\ndestination:/queue/a\nreceipt:2\n\n^",
    );
    wire.feed("DISCONNECT\nreceipt:3\n\n^");
    wire.answer(Err(FULL));
    wire.answer(Ok(Reply::Done));
    wire.answer(Ok(Reply::Done));
    let got = wire.written();
    let message = "SEND was refused: the store's disk is full: \
    nothing more is stored until there is \
                   room again";
    assert_eq!(error_message(&got), message);
    assert!(got.contains("\nreceipt-id:1\n"), "{got}");
    assert!(got.contains("What was confirmed before is safe."), "{got}");
    assert!(!got.contains("RECEIPT"), "{got}");
    assert_eq!(wire.closed().as_deref(), Some(message));
}

#[test]
fn a_refusal_of_a_frame_without_receipt_names_the_frame() {
    let mut wire = Wire::connected("1.2");
    wire.session.handle_bytes(
        Duration::ZERO,
        &mut BytesMut::from(&b"SUBSCRIBE\nid:1\ndestination:/queue/a\n\n\0"[..]),
    );
    let token = wire.session.poll_requests()[0].token;
    let result = Err(Refusal::TooManyDestinations { limit: 5 });
    wire.session.handle_output(Duration::ZERO, Output::Answer { token, result });
    let got = wire.written();
    let message = "SUBSCRIBE was refused: there are 5 destinations already, which is the limit";
    assert_eq!(error_message(&got), message);
    assert!(!got.contains("receipt-id"), "{got}");
}

#[test]
fn requests_not_yet_submitted_are_dropped_on_a_refusal_but_for_acknowledgements() {
    let mut wire = Wire::connected("1.2");
    wire.feed("SUBSCRIBE\nid:1\ndestination:/queue/a\nack:client\n\n^");
    wire.feed("SEND\ndestination:/queue/a\nreceipt:1\n\n^");
    wire.deliver(delivery(1, 1));
    let more = b"SEND\ndestination:/queue/a\nreceipt:2\n\n\0ACK\nid:1-1\n\n\0";
    wire.session.handle_bytes(Duration::ZERO, &mut BytesMut::from(&more[..]));
    wire.answer(Err(FULL));
    assert_eq!(wire.requests(), ["Accepted 1 through 1"]);
}

#[test]
fn an_error_waits_for_receipts_owed_to_frames_before_it() {
    let mut wire = Wire::connected("1.1");
    wire.feed("SEND\ndestination:/queue/a\nreceipt:1\n\n^GARBAGE\n");
    assert_eq!(wire.written(), "");
    assert_eq!(wire.closed(), None);
    assert!(!wire.session.wants_bytes());
    // What comes after the end is nobody's, and is not kept.
    wire.feed("SEND\ndestination:/queue/a\n\n^");
    assert!(wire.input.is_empty());
    wire.answer(Ok(Reply::Done));
    let got = wire.written();
    assert!(got.starts_with("RECEIPT\nreceipt-id:1\n\n^ERROR\n"), "{got}");
    assert_eq!(error_message(&got), "unknown command \"GARBAGE\"");
}

#[test]
fn a_subscription_ended_by_the_broker_ends_the_session() {
    let mut wire = Wire::connected("1.2");
    wire.feed("SUBSCRIBE\nid:mine\ndestination:/queue/a\n\n^");
    let subscription = SubscriptionId(1);
    let output = Output::Cancelled { subscription, reason: "the queue was deleted" };
    wire.session.handle_output(Duration::ZERO, output);
    let message = "the subscription \"mine\" has ended: the queue was deleted";
    assert_eq!(error_message(&wire.written()), message);
}

#[test]
fn deliveries_written_before_the_end_are_still_settled() {
    let mut wire = Wire::connected("1.2");
    wire.feed("SUBSCRIBE\nid:1\ndestination:/queue/a\n\n^");
    wire.deliver(delivery(1, 1));
    wire.feed("DISCONNECT\n\n^");
    wire.deliver(delivery(1, 2));
    assert_eq!(wire.closed().as_deref(), Some("the client disconnected"));
    assert_eq!(wire.written().matches("MESSAGE").count(), 1);
    assert_eq!(wire.requests(), ["Accepted 1 through 1"]);
}

#[test]
fn an_unreadable_message_is_not_given_out() {
    let mut wire = Wire::connected("1.2");
    wire.feed("SUBSCRIBE\nid:1\ndestination:/queue/a\n\n^");
    let content = Bytes::from_static(b"\xff\xff");
    wire.deliver(Delivery { content, ..delivery(1, 1) });
    let got = wire.written();
    assert!(got.starts_with("ERROR\n"), "{got}");
    assert_eq!(error_message(&got), "the message ID:h-d101 cannot be read from the store");
}
