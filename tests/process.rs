//! Stories of the real process, from outside: what it keeps over a restart and a kill, how it
//! starts, ends and refuses, and what its store tools say.

mod support;

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use support::broker::{Broker, assert_no_damage, run_to_end, said};
use support::fresh_dir;
use support::stomp::{Frame, Stomp};

#[test]
fn a_confirmed_message_outlives_a_clean_restart_and_an_acknowledged_one_does_not_come_back() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    for body in ["one", "two", "three"] {
        stomp.publish("/queue/restart", body).unwrap();
    }
    stomp.subscribe("s", "/queue/restart", "client-individual").unwrap();
    let first = stomp.message().unwrap();
    assert_eq!(first.text(), "one");
    assert!(!first.is_redelivered(), "nobody had it before: {first:?}");
    stomp.ack(&first).unwrap();
    stomp.disconnect().unwrap();

    // What is read and not acknowledged stays, over any number of restarts.
    let broker = broker.terminate_and_restart();
    assert_eq!(bodies_to_the_end(&broker, "/queue/restart"), ["two", "three"]);
    let broker = broker.terminate_and_restart();
    assert_eq!(bodies_to_the_end(&broker, "/queue/restart"), ["two", "three"]);
}

#[test]
fn a_kill_keeps_what_was_confirmed_and_flags_what_was_delivered() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    for body in ["acknowledged", "seen", "waiting"] {
        stomp.publish("/queue/kill", body).unwrap();
    }
    let subscribe = Frame::new("SUBSCRIBE").with("id", "s").with("destination", "/queue/kill");
    let subscribe = subscribe.with("ack", "client-individual").with("activemq.prefetchSize", "2");
    stomp.confirm(subscribe).unwrap();
    let first = stomp.message().unwrap();
    let seen = stomp.message().unwrap();
    assert_eq!((first.text(), seen.text()), ("acknowledged", "seen"));
    stomp.ack(&first).unwrap();

    let broker = broker.kill_and_restart();
    let mut stomp = broker.connect();
    stomp.subscribe("s", "/queue/kill", "client-individual").unwrap();
    let again = stomp.message().unwrap();
    assert_eq!(again.text(), "seen");
    assert!(again.is_redelivered(), "it was delivered before the kill: {again:?}");
    assert_eq!(again.header("message-id"), seen.header("message-id"), "one message, one name");
    assert_eq!(stomp.message().unwrap().text(), "waiting");
}

#[test]
fn a_message_given_back_comes_again_flagged_and_counted_under_the_same_name() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    stomp.publish("/queue/nack", "again").unwrap();
    stomp.subscribe("s", "/queue/nack", "client-individual").unwrap();
    let first = stomp.message().unwrap();
    assert!(matches!(first.header("JMSXDeliveryCount"), None | Some("1")), "{first:?}");
    stomp.nack(&first).unwrap();
    let second = stomp.message().unwrap();
    assert_eq!(second.text(), "again");
    assert!(second.is_redelivered(), "{second:?}");
    assert_eq!(second.header("JMSXDeliveryCount"), Some("2"), "{second:?}");
    assert_eq!(second.header("message-id"), first.header("message-id"));
    stomp.nack(&second).unwrap();
    stomp.disconnect().unwrap();

    // The count is durable, for it was confirmed with the NACK.
    let broker = broker.kill_and_restart();
    let mut stomp = broker.connect();
    stomp.subscribe("s", "/queue/nack", "client-individual").unwrap();
    let third = stomp.message().unwrap();
    let count = third.header("JMSXDeliveryCount").and_then(|count| count.parse::<u32>().ok());
    assert!(count >= Some(3), "given back twice before: {third:?}");
}

#[test]
fn a_non_persistent_message_goes_with_the_process_and_its_neighbours_stay() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    stomp.publish("/queue/mixed", "before").unwrap();
    let send = Frame::new("SEND").with("destination", "/queue/mixed").with("persistent", "false");
    stomp.confirm(send.body("fleeting")).unwrap();
    stomp.publish("/queue/mixed", "after").unwrap();

    let broker = broker.kill_and_restart();
    assert_eq!(bodies_to_the_end(&broker, "/queue/mixed"), ["before", "after"]);
}

#[test]
fn a_send_that_does_not_speak_of_persistence_is_persistent() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    let send = Frame::new("SEND").with("destination", "/queue/default");
    stomp.confirm(send.body("kept")).unwrap();

    let broker = broker.kill_and_restart();
    assert_eq!(bodies_to_the_end(&broker, "/queue/default"), ["kept"]);
}

#[test]
fn every_byte_and_header_of_a_message_outlives_a_kill() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    let body: Vec<u8> = (0..300_000_u32).map(|n| (n % 256) as u8).collect();
    let headers = [
        ("plain", "value"),
        ("marks", "a:b\\c\nd\re"),
        ("speech", "Grüße, 世界"),
        ("empty", ""),
        ("content-type", "application/octet-stream"),
    ];
    let mut send = Frame::new("SEND").with("destination", "/queue/bytes").body(body.clone());
    for (name, value) in headers {
        send = send.with(name, value);
    }
    stomp.confirm(send).unwrap();

    let broker = broker.kill_and_restart();
    let mut stomp = broker.connect();
    stomp.subscribe("s", "/queue/bytes", "auto").unwrap();
    let message = stomp.message().unwrap();
    assert!(message.body == body, "the body changed");
    for (name, value) in headers {
        assert_eq!(message.header(name), Some(value), "header {name}");
    }
}

#[test]
fn a_second_broker_on_the_same_store_is_refused_and_the_first_is_unharmed() {
    let dir = fresh_dir();
    let data = dir.path().join("data");
    let broker = Broker::start(&data);
    let mut stomp = broker.connect();
    stomp.publish("/queue/owner", "before").unwrap();

    let data = data.to_str().unwrap();
    let second = run_to_end(&["run", "--data", data, "--listen", "stomp://127.0.0.1:0"]);
    assert!(!second.status.success(), "{second:?}");
    assert!(said(&second).contains(data), "does not say which store: {}", said(&second));
    assert_no_panic(&said(&second));

    stomp.publish("/queue/owner", "after").unwrap();
    let broker = broker.kill_and_restart();
    assert_eq!(bodies_to_the_end(&broker, "/queue/owner"), ["before", "after"]);
}

#[test]
fn sigterm_and_ctrl_c_end_the_broker_cleanly_with_clients_connected() {
    let dir = fresh_dir();
    for signal in [Signal::TERM, Signal::INT] {
        let broker = Broker::start(&dir.path().join("data"));
        let mut stomp = broker.connect();
        stomp.publish("/queue/signal", "kept").unwrap();
        stomp.subscribe("s", "/queue/signal", "client-individual").unwrap();
        assert_eq!(stomp.message().unwrap().text(), "kept");
        let status = broker.end_by(signal);
        assert_eq!(status.code(), Some(0), "{signal:?}: {status}");
        stomp.wait_closed();
    }
    let broker = Broker::start(&dir.path().join("data"));
    assert_eq!(bodies_to_the_end(&broker, "/queue/signal"), ["kept", "kept"]);
}

#[test]
fn what_cannot_be_run_is_refused_by_name_and_starts_nothing() {
    let dir = fresh_dir();
    let unknown_key = write(&dir.path().join("unknown-key.toml"), "no_such_setting = 1\n");
    let no_toml = write(&dir.path().join("no-toml.toml"), "this is = = no TOML\n");
    let a_file = write(&dir.path().join("a-file"), "not a directory\n");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("stomp://{}", taken.local_addr().unwrap());
    let table: &[(&[&str], &str)] = &[
        (&["--no-such-flag"], "--no-such-flag"),
        (&["--listen", "gopher://127.0.0.1:0"], "gopher"),
        (&["--listen", "stomp://127.0.0.1:99999"], "99999"),
        (&["--listen", "no address at all"], "no address at all"),
        (&["--listen", &taken], &taken["stomp://".len()..]),
        (&["--config", "no-such-file.toml"], "no-such-file.toml"),
        (&["--config", &unknown_key], "no_such_setting"),
        (&["--config", &no_toml], "no-toml.toml"),
        (&["--data", &a_file], &a_file),
    ];
    for (number, (args, word)) in table.iter().enumerate() {
        let data = dir.path().join(format!("data-{number}"));
        let mut all = vec!["run"];
        if !args.contains(&"--data") {
            all.extend(["--data", data.to_str().unwrap()]);
        }
        if !args.contains(&"--listen") {
            all.extend(["--listen", "stomp://127.0.0.1:0"]);
        }
        all.extend(*args);
        let output = run_to_end(&all);
        assert!(!output.status.success(), "{args:?} was accepted: {output:?}");
        let said = said(&output);
        assert!(said.contains(word), "{args:?} is refused without the word {word:?}: {said}");
        assert!(!said.contains("ready\n"), "{args:?} was refused after `ready`: {said}");
        assert_no_panic(&said);
    }
}

#[test]
fn help_shows_every_option_with_its_default() {
    let output = run_to_end(&["run", "--help"]);
    assert!(output.status.success(), "{output:?}");
    let said = said(&output);
    let words =
        ["--config", "--data", "escrowmq-data", "--listen", "stomp://127.0.0.1:61613", "--name"];
    for word in words {
        assert!(said.contains(word), "does not speak of {word}: {said}");
    }
}

#[test]
fn verify_finds_no_damage_in_a_store_after_a_clean_end_or_a_kill() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    broker.connect().publish("/queue/verify", "sound").unwrap();
    let broker = broker.terminate_and_restart();
    broker.connect().publish("/queue/verify", "sound too").unwrap();
    assert_no_damage(&broker.kill());
}

#[test]
fn verify_names_the_file_of_a_flipped_bit() {
    let dir = fresh_dir();
    let (data, file, offset) = store_with_a_damaged_message(&dir.path().join("data"));
    let verify = run_to_end(&["store", "verify", data.to_str().unwrap()]);
    assert!(!verify.status.success(), "{verify:?}");
    let name = file.file_name().unwrap().to_string_lossy();
    assert!(said(&verify).contains(&*name), "does not name {name} ({offset}): {}", said(&verify));
    assert!(!said(&verify).contains("no damage"), "{verify:?}");
}

#[test]
fn a_damaged_message_is_set_apart_and_its_neighbours_are_delivered() {
    let dir = fresh_dir();
    let (data, ..) = store_with_a_damaged_message(&dir.path().join("data"));
    let broker = Broker::start(&data);
    assert_eq!(bodies_to_the_end(&broker, "/queue/damage"), ["sound before", "sound after"]);
    let apart = bodies_to_the_end(&broker, "/queue/ActiveMQ.DLQ.Damaged");
    assert_eq!(apart.len(), 1, "one message was damaged: {apart:?}");
    assert!(!apart[0].contains("a body to be damaged"), "delivered what is damaged: {apart:?}");
}

#[test]
fn dump_shows_what_the_log_of_a_store_says() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    broker.connect().publish("/queue/a.name.to.look.for", "dumped").unwrap();
    let data = broker.data().to_owned();
    assert!(broker.terminate().success());
    let dump = run_to_end(&["store", "dump", data.to_str().unwrap()]);
    assert!(dump.status.success(), "{dump:?}");
    assert!(said(&dump).contains("a.name.to.look.for"), "{dump:?}");
}

#[test]
fn store_tools_refuse_what_is_no_store() {
    let dir = fresh_dir();
    let nowhere = dir.path().join("nowhere");
    for tool in ["verify", "dump"] {
        let output = run_to_end(&["store", tool, nowhere.to_str().unwrap()]);
        assert!(!output.status.success(), "{tool}: {output:?}");
        assert!(said(&output).contains("nowhere"), "{tool}: {output:?}");
        assert!(!nowhere.exists(), "{tool} made a store where none was");
        assert_no_panic(&said(&output));
    }
}

/// Consumes a queue to its end, without acknowledging, and returns the bodies.
///
/// The end is a non-persistent mark sent behind everything else.
#[track_caller]
fn bodies_to_the_end(broker: &Broker, queue: &str) -> Vec<String> {
    let mut stomp: Stomp = broker.connect();
    let mark = Frame::new("SEND").with("destination", queue).with("persistent", "false");
    stomp.confirm(mark.body("the end")).unwrap();
    stomp.subscribe("to-the-end", queue, "client-individual").unwrap();
    let mut bodies = Vec::new();
    loop {
        let message = stomp.message().unwrap();
        if message.text() == "the end" {
            stomp.ack(&message).unwrap();
            stomp.disconnect().unwrap();
            return bodies;
        }
        bodies.push(message.text().to_owned());
    }
}

fn write(path: &Path, text: &str) -> String {
    std::fs::write(path, text).expect("write a file for the test");
    path.to_str().expect("a UTF-8 path").to_owned()
}

/// A store at rest with three messages, the second of which has lost a bit; where it lost it.
#[track_caller]
fn store_with_a_damaged_message(data: &Path) -> (PathBuf, PathBuf, usize) {
    let broker = Broker::start(data);
    let mut stomp = broker.connect();
    for body in ["sound before", "a body to be damaged on the disk", "sound after"] {
        stomp.publish("/queue/damage", body).unwrap();
    }
    stomp.disconnect().unwrap();
    assert!(broker.terminate().success());
    let (file, offset) = flip_a_bit_of(data, b"a body to be damaged on the disk");
    (data.to_owned(), file, offset)
}

/// Changes one bit in the one place below `dir` where `needle` stands.
#[track_caller]
fn flip_a_bit_of(dir: &Path, needle: &[u8]) -> (PathBuf, usize) {
    let mut places = Vec::new();
    for entry in std::fs::read_dir(dir).expect("the store") {
        let path = entry.expect("an entry of the store").path();
        let bytes = std::fs::read(&path).unwrap_or_default();
        let found = bytes.windows(needle.len()).position(|window| window == needle);
        places.extend(found.map(|offset| (path, bytes, offset)));
    }
    assert_eq!(places.len(), 1, "the body should lie in one file");
    let (path, mut bytes, offset) = places.remove(0);
    bytes[offset + 3] ^= 0x10;
    std::fs::write(&path, bytes).expect("write the damage");
    (path, offset)
}

#[track_caller]
fn assert_no_panic(said: &str) {
    assert!(!said.contains("panicked"), "a bug's words instead of a reason: {said}");
}
