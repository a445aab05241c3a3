//! Who is let in.

use super::*;

const CONNECT: &str = "CONNECT\naccept-version:1.2\nhost:h\nlogin:ann\npasscode:s3cret\n\n^";

fn asking() -> Wire {
    Wire::with(SessionConfig { login: true, ..SessionConfig::default() })
}

#[test]
fn nothing_is_read_before_the_client_is_let_in() {
    let mut wire = asking();
    let send = "SEND\ndestination:/queue/q\n\nx^";
    assert!(wire.feed(&format!("{CONNECT}{send}")).is_empty());
    let login = wire.session.poll_login().unwrap();
    assert_eq!((login.name.as_deref(), login.password.as_str()), (Some("ann"), "s3cret"));
    assert!(!format!("{login:?}").contains("s3cret"));
    assert_eq!(wire.session.poll_login(), None);
    assert!(!wire.session.wants_bytes());
    assert_eq!(wire.written(), "");
    wire.session.handle_login(wire.now, Ok(()));
    assert!(wire.written().starts_with("CONNECTED\n"));
    assert_eq!(wire.feed("").len(), 1);
}

#[test]
fn who_is_not_let_in_hears_why_and_the_connection_closes() {
    let mut wire = asking();
    wire.feed(CONNECT);
    wire.session.poll_login().unwrap();
    wire.session.handle_login(wire.now, Err("no".to_owned()));
    assert!(wire.written().contains("message:no\n"));
    assert!(wire.session.is_closing().is_some());
}

#[test]
fn a_login_that_nobody_decides_ends_in_time() {
    let mut wire = asking();
    wire.feed(CONNECT);
    wire.session.poll_login().unwrap();
    let by = wire.session.poll_timeout().unwrap();
    wire.session.handle_timeout(by);
    assert!(wire.written().contains("login took longer"));
    assert!(wire.session.is_closing().is_some());
}

#[test]
fn a_login_is_asked_for_even_where_no_name_was_given() {
    let mut wire = asking();
    wire.feed("CONNECT\naccept-version:1.2\nhost:h\n\n^");
    assert_eq!(wire.session.poll_login(), Some(Login::default()));
}
