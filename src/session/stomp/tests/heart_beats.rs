//! Time: heart-beats both ways, and the wait for CONNECT.

use super::*;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Connected at 0 with the client's `heart-beat`; the broker sends every 1,000 ms at best and
/// wants something every 2,000 at best.
fn beating(heart_beat: &str) -> Wire {
    let mut wire = Wire::with(SessionConfig {
        heart_beat: HeartBeat { send: ms(1000), receive: ms(2000) },
        ..SessionConfig::default()
    });
    wire.feed(&format!("CONNECT\naccept-version:1.2\nhost:h\nheart-beat:{heart_beat}\n\n^"));
    assert!(wire.written().contains("heart-beat:1000,2000\n"));
    wire
}

fn timeout(wire: &mut Wire, at: Duration) -> String {
    wire.now = at;
    wire.session.handle_timeout(at);
    wire.written()
}

#[test]
fn the_longer_of_both_sides_intervals_is_agreed() {
    // Client can send, client wants; the deadlines of sending (3/4) and of silence (twice).
    for (heart_beat, send, silent) in [
        ("0,0", None, None),
        ("0,500", Some(750), None),
        ("0,4000", Some(3000), None),
        ("100,0", None, Some(4000)),
        ("5000,0", None, Some(10_000)),
        ("2000, 2000", Some(1500), Some(4000)),
    ] {
        let wire = beating(heart_beat);
        let deadline = [send, silent].into_iter().flatten().min().map(ms);
        assert_eq!(wire.session.poll_timeout(), deadline, "of {heart_beat}");
    }
}

#[test]
fn a_beat_is_sent_only_when_nothing_else_was() {
    let mut wire = beating("0,4000");
    assert_eq!(timeout(&mut wire, ms(2999)), "");
    assert_eq!(timeout(&mut wire, ms(3000)), "\n");
    assert_eq!(wire.session.poll_timeout(), Some(ms(6000)));
    wire.now = ms(5000);
    wire.feed("SUBSCRIBE\nid:1\ndestination:/queue/a\n\n^");
    wire.deliver(delivery(1, 1));
    assert_eq!(wire.session.poll_timeout(), Some(ms(8000)));
    // The message still waits for the socket: a beat behind it would tell nothing.
    wire.session.handle_timeout(ms(8000));
    assert!(wire.written().ends_with("hi^"));
}

#[test]
fn a_silent_client_is_told_and_closed() {
    let mut wire = beating("2000,0");
    wire.now = ms(3999);
    assert_eq!(timeout(&mut wire, ms(3999)), "");
    wire.feed("\n");
    assert_eq!(wire.session.poll_timeout(), Some(ms(7999)));
    assert_eq!(timeout(&mut wire, ms(7998)), "");
    let message = "nothing was received for 4s, against the heart-beats agreed";
    assert_eq!(error_message(&timeout(&mut wire, ms(7999))), message);
    assert_eq!(wire.closed().as_deref(), Some(message));
    assert_eq!(wire.session.poll_timeout(), None);
}

#[test]
fn half_a_frame_that_waits_to_be_read_is_no_sign_of_life() {
    let mut wire = beating("2000,0");
    wire.now = ms(1000);
    wire.feed("SEND\ndestination:/queue/q\n");
    // Whatever else happens on the connection, its bytes are shown again.
    wire.now = ms(4000);
    wire.feed("");
    assert_eq!(wire.session.poll_timeout(), Some(ms(5000)));
    assert_eq!(timeout(&mut wire, ms(4999)), "");
    let message = "nothing was received for 4s, against the heart-beats agreed";
    assert_eq!(error_message(&timeout(&mut wire, ms(5000))), message);
}

#[test]
fn a_closed_session_sends_no_beats() {
    let mut wire = beating("0,1000");
    wire.feed("DISCONNECT\n\n^");
    assert_eq!(wire.session.poll_timeout(), None);
    assert_eq!(timeout(&mut wire, ms(5000)), "");
}

#[test]
fn a_client_that_is_not_listened_to_is_not_called_silent() {
    let mut wire = beating("2000,0");
    let receipt = "r".repeat(512);
    while wire.session.wants_bytes() {
        wire.feed(&format!("SEND\ndestination:/queue/a\nreceipt:{receipt}\n\n^"));
    }
    assert_eq!(timeout(&mut wire, ms(4000)), "");
    assert_eq!(wire.closed(), None);
    assert_eq!(wire.session.poll_timeout(), Some(ms(8000)));
}

#[test]
fn connect_must_come_in_time() {
    let mut wire = Wire::new();
    wire.now = ms(9000);
    wire.feed("\n\nCONN");
    assert_eq!(wire.session.poll_timeout(), Some(ms(10_000)));
    assert_eq!(timeout(&mut wire, ms(9999)), "");
    let message = "no CONNECT frame came within 10s";
    assert_eq!(error_message(&timeout(&mut wire, ms(10_000))), message);
    assert_eq!(wire.closed().as_deref(), Some(message));
    // Once connected, nothing of it is left.
    let mut wire = Wire::connected("1.1");
    assert_eq!(wire.session.poll_timeout(), None);
    assert_eq!(timeout(&mut wire, ms(1 << 40)), "");
    assert_eq!(wire.closed(), None);
}

#[test]
fn malformed_heart_beats_are_refused() {
    for bad in ["", "1", "a,b", "-1,0", "1,", "99999999999999999999,0"] {
        let mut wire = Wire::new();
        wire.feed(&format!("CONNECT\naccept-version:1.1\nheart-beat:{bad}\n\n^"));
        let message = format!(
            "the header heart-beat is {bad:?}, but must be two numbers of milliseconds with a \
             comma between"
        );
        assert_eq!(error_message(&wire.written()), message);
    }
    // The largest numbers overflow nothing.
    let mut wire = beating("18446744073709551615,18446744073709551615");
    assert_eq!(timeout(&mut wire, ms(1 << 50)), "");
}
