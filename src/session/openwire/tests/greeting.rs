//! Who gets in, how soon, and under which name.

use super::*;
use crate::protocol::openwire::table::{BrokerInfo, ConnectionControl};

#[test]
fn a_client_is_known_when_it_has_said_who_it_is() {
    let mut wire = Wire::opened(&Arc::default(), 1);
    assert!(matches!(wire.frames()[..], [Structure::BrokerInfo(_)]));
    wire.connect("c", "client");
    let [Structure::Response(yes), Structure::ConnectionControl(_)] = &wire.frames()[..] else {
        panic!("an answer, and what else there are for brokers")
    };
    assert_eq!(yes.correlation_id, 1);
    assert_eq!(wire.session.poll_timeout(), Some(Duration::from_secs(20)));
}

#[test]
fn nothing_is_done_for_who_has_not_said_so() {
    let mut wire = Wire::opened(&Arc::default(), 1);
    wire.say(&text(1, queue("q")));
    assert!(wire.asks().is_empty());
    let closed = wire.session.is_closing().unwrap().to_string();
    assert!(closed.contains("before the connection was begun"), "{closed}");
}

#[test]
fn who_says_nothing_or_too_much_is_given_up() {
    for opened in [false, true] {
        let mut wire = match opened {
            false => Wire::new(&Arc::default(), 1),
            true => Wire::opened(&Arc::default(), 1),
        };
        wire.session.handle_timeout(Duration::from_secs(9));
        assert!(wire.session.is_closing().is_none());
        wire.session.handle_timeout(Duration::from_secs(10));
        assert!(wire.session.is_closing().unwrap().to_string().contains("within 10s"));
    }
    let mut wire = Wire::opened(&Arc::default(), 1);
    wire.feed(&[0, 0, 0x40, 1, 3]);
    assert!(wire.session.is_closing().unwrap().to_string().contains("larger than the limit"));
}

#[test]
fn who_goes_on_greeting_is_given_up_at_the_limit_of_all_its_frames_together() {
    fn say_for_ever<T: Object>(structure: &T) {
        let mut wire = Wire::opened(&Arc::default(), 1);
        let mut frame = BytesMut::new();
        encode(structure, wire.format, usize::MAX, &mut frame).unwrap();
        let first = Wire::client_format().to_info();
        let mut opening = BytesMut::new();
        encode(&first, Format::OPENING, usize::MAX, &mut opening).unwrap();
        let fit = (limits::OPENWIRE_GREETING_TOTAL_MAX - opening.len()) / frame.len();
        (0..fit).for_each(|_| wire.feed(&frame));
        assert_eq!(wire.session.is_closing(), None, "{fit} frames are within the limit");
        let _ = wire.frames();
        wire.feed(&frame);
        let limit = limits::OPENWIRE_GREETING_TOTAL_MAX;
        let fault = Fault::LongGreeting { limit };
        assert_eq!(wire.session.is_closing(), Some(&CloseReason::Fault(fault)));
        assert_eq!(wire.frames(), [], "what comes too late is not answered");
    }
    let (command_id, response_required) = (1, true);
    say_for_ever(&KeepAliveInfo { command_id, response_required });
    say_for_ever(&BrokerInfo { command_id, response_required, ..BrokerInfo::default() });
    say_for_ever(&ConnectionControl {
        command_id,
        response_required,
        ..ConnectionControl::default()
    });
}

#[test]
fn what_a_known_client_says_does_not_count_as_greeting() {
    let mut wire = Wire::alone();
    let info = BrokerInfo { broker_name: Some(Text::cut(&"x".repeat(1000))), ..Default::default() };
    (0..100).for_each(|_| wire.say(&info));
    assert_eq!(wire.session.is_closing(), None);
}

#[test]
fn a_silent_client_is_given_up_and_a_living_one_hears_that_we_live() {
    let mut wire = Wire::alone();
    wire.session.handle_timeout(Duration::from_secs(20));
    assert!(matches!(wire.frames()[..], [] | [Structure::KeepAliveInfo(_)]));
    wire.session.handle_timeout(Duration::from_secs(40));
    wire.session.handle_timeout(Duration::from_secs(71));
    assert_eq!(wire.session.is_closing(), Some(&CloseReason::Fault(Fault::Silent)));
}

#[test]
fn half_a_frame_that_waits_to_be_read_is_no_sign_of_life() {
    let mut wire = Wire::alone();
    wire.feed(&[0, 0, 0, 99, 10]);
    wire.session.handle_timeout(Duration::from_secs(40));
    assert_eq!(wire.session.is_closing(), None, "something came in the first forty seconds");
    // Whatever else happens on the connection, its bytes are shown again.
    wire.feed(&[]);
    wire.session.handle_timeout(Duration::from_secs(71));
    assert_eq!(wire.session.is_closing(), Some(&CloseReason::Fault(Fault::Silent)));
}

#[test]
fn a_wish_for_a_sign_of_life_is_granted_by_its_own_number() {
    let mut wire = Wire::alone();
    let wish = KeepAliveInfo { command_id: 77, response_required: true };
    wire.say(&wish);
    let answer = KeepAliveInfo { response_required: false, ..wish };
    assert_eq!(wire.frames(), [Structure::KeepAliveInfo(answer)]);
}

#[test]
fn a_clients_name_is_refused_to_another_and_free_when_it_has_gone() {
    let config = Arc::default();
    let first = Wire::connected(&config, 1, "a");
    let mut second = Wire::opened(&config, 2);
    let _ = second.frames();
    second.connect("b", "a");
    let frames = second.frames();
    assert_eq!(exception(&frames[0]).0, "javax.jms.InvalidClientIDException");
    assert!(second.session.is_closing().is_some());
    drop(first);
    Wire::connected(&config, 3, "a");
}

#[test]
fn who_comes_back_under_its_connections_name_ends_the_one_it_had_and_waits_for_that() {
    let config = Arc::default();
    let mut first = Wire::connected(&config, 1, "a");
    let mut second = Wire::opened(&config, 2);
    let _ = second.frames();
    second.connect("a", "a");
    assert_eq!(second.frames(), []);
    assert!(!second.session.wants_bytes(), "what comes next waits");
    first.session.handle_wake();
    assert_eq!(first.session.is_closing(), Some(&CloseReason::Fault(Fault::Replaced)));
    second.session.handle_wake();
    assert_eq!(second.frames(), [], "the first has not gone");
    drop(first);
    assert!(second.bell.0.load(std::sync::atomic::Ordering::Relaxed) > 0);
    second.session.handle_wake();
    assert!(matches!(second.frames()[0], Structure::Response(_)));
    assert!(second.session.wants_bytes());
}

#[test]
fn a_session_that_a_defect_ends_gives_its_name_back_and_others_go_on() {
    let config = Arc::default();
    let mut other = Wire::connected(&config, 1, "other");
    let theirs = Arc::clone(&config);
    let defect = std::thread::spawn(move || {
        let _wire = Wire::connected(&theirs, 2, "a");
        panic!("a defect");
    });
    assert!(defect.join().is_err());
    Wire::connected(&config, 3, "a");
    other.consume(1, queue("q"), 10);
    other.deliver(1, 1, stored("text"));
    assert_eq!(other.dispatched().len(), 1);
}

#[test]
fn what_is_not_known_is_refused_and_the_connection_goes_on() {
    let mut wire = Wire::alone();
    let unknown = crate::protocol::openwire::table::ProducerAck {
        command_id: 5,
        response_required: true,
        ..Default::default()
    };
    wire.say(&unknown);
    assert!(exception(&wire.frames()[0]).1.contains("not known here"));
    assert!(wire.session.is_closing().is_none());
}

#[test]
fn a_goodbye_is_answered_when_all_before_it_is_safe_and_its_producers_are_let_go() {
    let mut wire = Wire::alone();
    wire.say(&removal(WireConnectionId { value: Text::new("c") }, -2));
    assert!(matches!(wire.asks()[..], [Command::CloseProducers]));
    assert_eq!(wire.frames(), []);
    wire.answer(Ok(Reply::Done));
    assert!(matches!(wire.frames()[..], [Structure::Response(_)]));
}

#[test]
fn another_user_does_not_end_a_connection_whose_name_it_knows() {
    let config = Arc::new(OpenWireConfig { login: true, ..OpenWireConfig::default() });
    let enter = |connection, client: &str, user: &str| {
        let mut wire = Wire::opened(&config, connection);
        wire.connect("c", client);
        assert!(wire.session.poll_login().is_some());
        wire.session.handle_login(Ok(user.to_owned()));
        wire
    };
    let mut ann = enter(1, "a", "ann");
    assert!(ann.frames().iter().any(|frame| matches!(frame, Structure::Response(_))));
    let mut bob = enter(2, "b", "bob");
    assert_eq!(exception(bob.frames().last().unwrap()).0, "javax.jms.InvalidClientIDException");
    ann.session.handle_wake();
    assert_eq!(ann.session.is_closing(), None);
    // She herself may come back.
    let _again = enter(3, "a", "ann");
    ann.session.handle_wake();
    assert!(ann.session.is_closing().is_some());
}
