//! What a peer can make a session keep is bounded.

use super::*;
use crate::protocol::openwire::table::ProducerInfo;

#[test]
fn a_session_reads_no_further_than_the_broker_keeps_up() {
    let mut wire = Wire::alone();
    let mut frames = BytesMut::new();
    for number in 0..2 * limits::SESSION_REQUESTS_MAX as i64 {
        let mut message = text(number, queue("q"));
        message.head.response_required = true;
        encode(&message, wire.format, usize::MAX, &mut frames).unwrap();
    }
    wire.feed(&frames);
    assert!(!wire.session.wants_bytes());
    assert_eq!(wire.asks().len(), limits::SESSION_REQUESTS_MAX);
    wire.feed(&[]);
    assert_eq!(wire.asks().len(), limits::SESSION_REQUESTS_MAX);
}

#[test]
fn a_session_reads_no_further_than_it_is_answered() {
    let mut wire = Wire::alone();
    let mut message = text(1, queue("q"));
    message.head.response_required = true;
    let mut asked = 0;
    while wire.session.wants_bytes() {
        wire.say(&message);
        asked += wire.asks().len();
    }
    assert_eq!(asked, limits::SESSION_RECEIPTS_MAX);
    wire.answer(Ok(Reply::Done));
    assert!(wire.session.wants_bytes());
}

#[test]
fn a_client_has_so_many_producers_and_consumers_and_no_more() {
    let mut wire = Wire::alone();
    for value in 0..=limits::SESSION_PRODUCERS_MAX as i64 {
        let producer_id = Some(ProducerId { value, ..producer_id() });
        wire.say(&ProducerInfo { producer_id, response_required: true, ..Default::default() });
        let yes = matches!(wire.frames()[..], [Structure::Response(_)]);
        assert_eq!(yes, value < limits::SESSION_PRODUCERS_MAX as i64);
    }
    for value in 0..limits::SESSION_SUBSCRIPTIONS_MAX as i64 {
        wire.say(&consumer(value, queue("q"), 1));
        wire.answer(Ok(Reply::Done));
    }
    let _ = wire.frames();
    wire.say(&consumer(99_999, queue("q"), 1));
    assert!(exception(&wire.frames()[0]).1.contains("which is the limit"));
    // A browser that has seen all is one of them until its client takes it away.
    let mut wire = Wire::alone();
    for value in 0..=limits::SESSION_SUBSCRIPTIONS_MAX as i64 {
        wire.say(&ConsumerInfo { browser: true, ..consumer(value, queue("q"), 1) });
        while !wire.asks().is_empty() {
            wire.answer(Err(Refusal::NoSuchQueue("q".into())));
        }
        let frames = wire.frames();
        assert_eq!(
            frames.len(),
            if value < limits::SESSION_SUBSCRIPTIONS_MAX as i64 { 2 } else { 1 }
        );
    }
}

#[test]
fn the_selectors_of_a_connection_are_bounded_together() {
    let mut wire = Wire::alone();
    let text = format!("a = '{}'", "x".repeat(limits::SELECTOR_BYTES_MAX - 100));
    let mut value = 0;
    let told = loop {
        value += 1;
        let mut selecting = consumer(value, queue("q"), 1);
        (selecting.selector, selecting.response_required) = (Text::new(&text), true);
        wire.say(&selecting);
        if let Some(frame) = wire.frames().pop() {
            break frame;
        }
        assert!(value as usize * text.len() <= limits::SESSION_SELECTOR_BYTES_MAX);
    };
    assert_eq!(exception(&told).0, "javax.jms.InvalidSelectorException");
}
