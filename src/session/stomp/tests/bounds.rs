//! Hostile peers: bounded memory, one ERROR, closed.

use super::*;
use crate::protocol::stomp::Limits;

const LIMITS: Limits = Limits { head_bytes: 16 << 10, headers: 64, body_bytes: 256 << 10 };

/// Feeds `head` and then `flood` over and over, as a shell would that reads up to 4 KiB at a time
/// while the session wants it, for 64 MiB or until the session closes. What all buffers held at
/// most, and what the peer heard.
fn flood(connected: bool, head: &str, flood: &str) -> (usize, String, Option<String>) {
    let mut wire = Wire::with(SessionConfig { limits: LIMITS, ..SessionConfig::default() });
    if connected {
        wire.feed("CONNECT\naccept-version:1.2\nhost:h\n\n^");
        wire.written();
    }
    let head = head.replace('^', "\0").into_bytes();
    let flood = flood.replace('^', "\0").into_bytes().repeat(4096 / flood.len() + 1);
    let (mut held, mut got) = (0, String::new());
    let mut stream = head.chunks(4096).chain(std::iter::repeat(&flood[..4096]));
    for _ in 0..(64 << 20) / 4096 {
        if wire.session.wants_bytes() {
            wire.input.extend_from_slice(stream.next().unwrap());
        }
        wire.session.handle_bytes(Duration::ZERO, &mut wire.input);
        let send = match &wire.session.incoming {
            Some(Incoming::Send(send)) => send.room(),
            _ => 0,
        };
        held = held.max(wire.input.capacity() + send + wire.session.out.capacity());
        wire.requests();
        got.push_str(&wire.written());
        while !wire.owed.is_empty() {
            wire.answer(Ok(Reply::Done));
        }
        if wire.session.is_closing().is_some() {
            break;
        }
    }
    got.push_str(&wire.written());
    (held, got, wire.closed())
}

fn refused(connected: bool, head: &str, more: &str, message: &str) {
    let (held, got, closed) = flood(connected, head, more);
    assert_eq!(error_message(&got), message, "of {head:?}");
    assert_eq!(closed.as_deref(), Some(message));
    assert!(held <= 1 << 20, "{held} bytes held for {head:?}");
}

#[test]
fn hostile_frames_get_an_error_within_bounded_memory() {
    let head_limit = "the frame's headers are longer than the limit of 16384 bytes";
    let body_limit = "the frame's body is longer than the limit of 262144 bytes";
    let send = "SEND\ndestination:/queue/a\n";
    refused(true, "SEND\na:", "x", head_limit);
    refused(true, "SEND\n", "a:b\n", "the frame has more than 64 headers, which is the limit");
    refused(true, &format!("{send}\n"), "x", body_limit);
    refused(true, &format!("{send}content-length:262145\n\n"), "x", body_limit);
    refused(true, &format!("{send}content-length:9223372036854775808\n\n"), "x", body_limit);
    refused(
        true,
        &format!("{send}content-length:-1\n\n"),
        "x",
        "the header content-length is \"-1\", which is not a number of bytes",
    );
    refused(
        true,
        &format!("{send}content-length:262144\n\n"),
        "x",
        "the body does not end with a NUL after the bytes that content-length says",
    );
    refused(
        true,
        "SEND\ndestination:/queue/a^",
        "x",
        "a NUL stands in the frame's headers: the blank line after them is missing",
    );
    refused(
        true,
        "SEND\nk:\\t\n\n",
        "x",
        "the header \"k:\\t\" has an undefined escape after a backslash",
    );
}

#[test]
fn hostile_greetings_get_an_error_within_bounded_memory() {
    let head = "the frame's headers are longer than the limit of 8192 bytes";
    refused(false, "CONNECT\na:", "x", head);
    refused(false, "GET / HTTP/1.1\r\n", "x", "the peer speaks HTTP, but this port speaks STOMP");
    refused(false, "\u{16}", "x", "the peer speaks TLS, but this port speaks plain STOMP");
    refused(
        false,
        "SEND\ndestination:/queue/a\n\n",
        "x",
        "the first frame must be CONNECT or STOMP, not SEND",
    );
}

#[test]
fn an_endless_stream_of_good_frames_is_taken_in_bounded_memory() {
    let frame = format!("SEND\ndestination:/queue/a\nreceipt:{}\n\nx^", "r".repeat(470));
    let (held, got, closed) = flood(true, "", &format!("{frame}{}", "\n".repeat(10)));
    assert_eq!(closed, None, "{}", &got[..got.len().min(500)]);
    assert!(held <= 1 << 20, "{held} bytes held");
}

#[test]
fn a_client_that_waits_for_no_answer_is_slowed_down() {
    let mut wire = Wire::connected("1.2");
    let frame = b"SEND\ndestination:/queue/a\n\n\0";
    let mut input = BytesMut::from(&frame.repeat(1000)[..]);
    wire.session.handle_bytes(Duration::ZERO, &mut input);
    assert!(!wire.session.wants_bytes());
    assert_eq!(wire.requests().len(), limits::SESSION_REQUESTS_MAX);
    assert_eq!(input.len(), frame.len() * (1000 - limits::SESSION_REQUESTS_MAX));
    // Receipts that the broker owes are bounded too.
    let mut wire = Wire::connected("1.2");
    let frame = b"SEND\ndestination:/queue/a\nreceipt:1\n\n\0";
    let mut input = BytesMut::from(&frame.repeat(5000)[..]);
    for _ in 0..100 {
        wire.session.handle_bytes(Duration::ZERO, &mut input);
        wire.requests();
    }
    assert_eq!(wire.owed.len(), limits::SESSION_RECEIPTS_MAX);
    // And so is what a client does not read.
    let mut wire = Wire::connected("1.2");
    wire.feed("SUBSCRIBE\nid:1\ndestination:/queue/a\n\n^");
    let large = content(&[], &"x".repeat(300 << 10));
    let mut tag = 0;
    while wire.session.wants_outputs() {
        tag += 1;
        wire.deliver(Delivery { content: large.clone(), ..delivery(1, tag) });
    }
    assert_eq!(tag, 4);
    assert!(!wire.session.wants_bytes());
    // The room goes with the bytes, and is not kept when the shell hands its buffer back.
    let mut out = BytesMut::new();
    wire.session.take_bytes(&mut out);
    assert!(out.capacity() > limits::SESSION_OUT_BYTES_MAX);
    out.clear();
    wire.session.take_bytes(&mut out);
    assert!(wire.session.out.capacity() <= limits::SESSION_OUT_BYTES_MAX);
}

#[test]
fn a_receipt_s_name_is_bounded_so_that_as_many_as_may_wait_never_stop_the_reading() {
    let mut wire = Wire::connected("1.2");
    wire.feed(&format!("SEND\ndestination:/queue/a\nreceipt:{}\n\n^", "r".repeat(512)));
    wire.answer(Ok(Reply::Done));
    assert!(wire.written().starts_with("RECEIPT"));
    wire.feed(&format!("SEND\ndestination:/queue/a\nreceipt:{}\n\n^", "r".repeat(513)));
    assert!(wire.closed().unwrap().ends_with("but must be 512 bytes long at most"));
}

#[test]
fn subscriptions_and_their_names_are_bounded() {
    let mut wire = Wire::connected("1.2");
    for id in 0..limits::SESSION_SUBSCRIPTIONS_MAX {
        wire.feed(&format!("SUBSCRIBE\nid:{id}\ndestination:/queue/a\n\n^"));
    }
    assert_eq!(wire.closed(), None);
    wire.feed("SUBSCRIBE\nid:x\ndestination:/queue/a\n\n^");
    let message = "the connection has 1024 subscriptions, which is the limit";
    assert_eq!(wire.closed().as_deref(), Some(message));
    let mut wire = Wire::connected("1.2");
    wire.feed(&format!("SUBSCRIBE\nid:{}\ndestination:/queue/a\n\n^", "x".repeat(1025)));
    assert!(wire.closed().unwrap().ends_with("but must be at most 1024 bytes long"));
}

#[test]
fn the_selectors_of_one_connection_are_bounded_together() {
    let mut wire = Wire::connected("1.2");
    let selector = format!("a = '{}'", "x".repeat(4000));
    let each = selector.len();
    for id in 0..limits::SESSION_SELECTOR_BYTES_MAX / each {
        wire.feed(&format!("SUBSCRIBE\nid:{id}\ndestination:/queue/a\nselector:{selector}\n\n^"));
    }
    assert_eq!(wire.closed(), None);
    wire.feed(&format!("SUBSCRIBE\nid:last\ndestination:/queue/a\nselector:{selector}\n\n^"));
    assert!(wire.closed().unwrap().starts_with("the selectors of the connection's"));
}
