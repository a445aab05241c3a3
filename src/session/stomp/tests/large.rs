//! Bodies that go through in pieces, both ways.

use super::*;
use crate::protocol::stomp::Limits;

const PIECES: Pieces = Pieces { whole_bytes: 10, piece_bytes: 4, ahead_bytes: 12 };

fn wire() -> Wire {
    let limits = Limits { body_bytes: 40, ..Limits::default() };
    let id_prefix = "h".to_owned();
    let config = SessionConfig { limits, pieces: PIECES, id_prefix, ..SessionConfig::default() };
    let mut wire = Wire::with(config);
    wire.feed("CONNECT\naccept-version:1.2\nhost:h\n\n^");
    wire.written();
    wire
}

fn head(length: Option<usize>) -> String {
    let length = length.map_or(String::new(), |length| format!("content-length:{length}\n"));
    format!("SEND\ndestination:/queue/a\nk:v\n{length}receipt:r\n\n")
}

#[test]
fn a_body_beyond_the_limit_goes_in_pieces_however_its_bytes_come() {
    for (length, kind) in [(None, "text"), (Some(11), "bytes")] {
        let bytes = format!("{}abcdefghijk\0", head(length));
        for size in [1, 3, 200] {
            let mut wire = wire();
            let mut requests = Vec::new();
            for part in bytes.as_bytes().chunks(size) {
                requests.extend(wire.feed_bytes(part));
            }
            let begin = format!("stage 1 queue://a {}!", length.unwrap_or(0));
            let end = format!("send staged 1 queue://a {kind} [k=v] 11!");
            let pieces =
                ["piece 1.1 'abcd'!", "piece 1.2 'efgh'!", "piece 1.3 'ijk'!"].map(str::to_owned);
            let expected: Vec<String> = [begin].into_iter().chain(pieces).chain([end]).collect();
            assert_eq!(requests, expected);
        }
    }
    // Up to the limit it is one request, as ever.
    let whole = wire().feed(&format!("{}abcdefghij^", head(None)));
    assert_eq!(whole, ["send queue://a p4 [k=v] text 'abcdefghij'!"]);
}

#[test]
fn no_more_of_a_body_is_read_than_the_broker_has_answered() {
    let mut wire = wire();
    let requests = wire.feed(&format!("{}{}", head(Some(40)), "x".repeat(14)));
    assert_eq!(requests.len(), 4, "{requests:?}");
    assert!(!wire.session.wants_bytes());
    wire.answer(Ok(Reply::Done));
    assert!(!wire.session.wants_bytes(), "the answer to the beginning is no piece");
    wire.answer(Ok(Reply::Done));
    assert!(wire.session.wants_bytes());
    assert_eq!(wire.written(), "");
}

#[test]
fn a_piece_that_is_refused_refuses_the_frame_it_belongs_to() {
    let mut wire = wire();
    wire.feed(&format!("{}{}", head(Some(40)), "x".repeat(5)));
    wire.answer(Ok(Reply::Done));
    wire.answer(Err(Refusal::StorageFull));
    let error = wire.written();
    assert!(error_message(&error).starts_with("SEND was refused: the store's disk is full"));
    assert!(error.contains("\nreceipt-id:r\n"), "{error}");
    assert!(wire.closed().is_some());
}

#[test]
fn a_large_message_to_a_topic_goes_as_one_to_a_queue_does() {
    let requests = wire().feed("SEND\ndestination:/topic/t\n\nabcdefghijk^");
    let pieces = ["piece 1.1 'abcd'!", "piece 1.2 'efgh'!", "piece 1.3 'ijk'!"];
    let [first, .., last] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!(first, "stage 1 topic://t 0!");
    assert_eq!(requests[1..4], pieces);
    assert!(last.starts_with("send staged 1 topic://t text"), "{last}");
}

fn large(bytes: u64) -> Delivery {
    let head = LargeHead { kind: BodyKind::Text, properties: Vec::new(), bytes };
    Delivery { content: head.encode(), ..delivery(1, 1) }
}

impl Wire {
    fn piece(&mut self, bytes: &'static str) {
        let bytes = Bytes::from_static(bytes.as_bytes());
        let output = Output::Piece { subscription: SubscriptionId(1), tag: Tag(1), bytes };
        self.session.handle_output(self.now, output);
    }
}

/// A wire with a message of ten bytes under way, four of them written.
fn streaming(ack: &str) -> Wire {
    let mut wire = wire();
    wire.feed(&format!("SUBSCRIBE\nid:s\ndestination:/queue/a\nack:{ack}\nreceipt:1\n\n^"));
    wire.deliver(large(10));
    wire.piece("abcd");
    let begun = wire.written();
    assert!(begun.ends_with("content-length:10\n\nabcd"), "{begun}");
    wire
}

#[test]
fn what_is_said_inside_a_frame_waits_for_its_end() {
    let mut wire = streaming("client");
    wire.answer(Ok(Reply::Done));
    wire.now += Duration::from_secs(60);
    wire.session.handle_timeout(wire.now);
    wire.piece("ef");
    assert_eq!(wire.written(), "ef");
    wire.piece("ghij");
    assert_eq!(wire.written(), "ghij^RECEIPT\nreceipt-id:1\n\n^");
    assert_eq!(wire.feed("ACK\nid:1-1\n\n^"), ["Accepted 1 through 1"]);
}

#[test]
fn a_message_is_settled_only_when_all_of_it_is_there() {
    let mut wire = streaming("auto");
    assert!(wire.requests().is_empty());
    wire.piece("efghij");
    wire.written();
    assert_eq!(wire.requests(), ["Accepted 1 through 1"]);
    // An ACK that comes before is a mistake, of which the client hears after the frame.
    let mut wire = streaming("client");
    wire.answer(Ok(Reply::Done));
    assert!(wire.feed("ACK\nid:1-1\n\n^").is_empty());
    assert_eq!(wire.closed(), None);
    wire.piece("efghij");
    let rest = wire.written();
    assert!(rest.starts_with("efghij^RECEIPT\n"), "{rest}");
    assert!(error_message(&rest).contains("names no message that waits"));
}

#[test]
fn an_unsubscribe_and_a_disconnect_wait_for_the_end_of_the_frame() {
    let mut wire = streaming("client");
    let goodbye = "UNSUBSCRIBE\nid:s\n\n^DISCONNECT\nreceipt:2\n\n^";
    assert!(wire.feed(goodbye).is_empty());
    wire.piece("efghij");
    wire.written();
    assert_eq!(wire.requests(), ["unsubscribe 1"]);
    let mut wire = streaming("client");
    wire.feed("DISCONNECT\nreceipt:2\n\n^");
    wire.answer(Ok(Reply::Done));
    wire.answer(Ok(Reply::Done));
    assert_eq!(wire.closed(), None);
    wire.piece("efghij");
    assert!(wire.written().ends_with("receipt-id:2\n\n^"));
    assert!(wire.closed().is_some());
}

#[test]
fn a_refusal_inside_a_frame_is_told_after_it_and_nothing_is_confirmed_any_more() {
    let mut wire = streaming("client");
    wire.feed("SEND\ndestination:/queue/a\nreceipt:2\n\n^");
    wire.answer(Err(Refusal::StorageFull));
    wire.answer(Ok(Reply::Done));
    assert_eq!((wire.written().as_str(), wire.closed()), ("", None));
    wire.piece("efghij");
    let rest = wire.written();
    assert!(rest.starts_with("efghij^ERROR\n") && !rest.contains("RECEIPT"), "{rest}");
}

#[test]
fn a_frame_that_cannot_be_completed_ends_the_connection_without_a_word() {
    let broken = Output::Broken { subscription: SubscriptionId(1), tag: Tag(1) };
    let mut wire = streaming("client");
    wire.session.handle_output(wire.now, broken);
    assert_eq!(wire.written(), "");
    let reason = wire.closed().unwrap();
    assert_eq!(reason, "the message ID:h-d101 cannot be read from the store");
    let mut wire = streaming("client");
    wire.session.handle_broker_gone("gone");
    assert_eq!((wire.written().as_str(), wire.closed().as_deref()), ("", Some("gone")));
}
