//! Stories of the real process, from outside: what it keeps over a restart and a kill, how it
//! starts, ends and refuses, and what its queue commands say.

use std::path::Path;

use crate::support::broker::{
    ANY_PORT, Broker, assert_no_damage, assert_no_panic, run_to_end, said,
};
use crate::support::damage::store_with_a_damaged_message;
use crate::support::fresh_dir;
use crate::support::stomp::{Frame, Stomp};
use rustix::process::Signal;

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

/// The lock is a convenience: what keeps two brokers apart is the claim, even where a lock was
/// removed, or a file system has none that works.
#[test]
fn a_broker_that_was_taken_over_confirms_nothing_more() {
    let dir = fresh_dir();
    let data = dir.path().join("data");
    let first = Broker::start(&data);
    let mut stomp = first.connect();
    stomp.publish("/queue/owner", "by the first").unwrap();
    std::fs::remove_file(data.join("lock")).unwrap();
    let second = Broker::start(&data);
    assert!(stomp.publish("/queue/owner", "too late").is_err(), "confirmed by who lost the store");
    second.connect().publish("/queue/owner", "by the second").unwrap();
    assert_eq!(bodies_to_the_end(&second, "/queue/owner"), ["by the first", "by the second"]);
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
fn a_broker_that_has_just_said_that_it_is_ready_ends_cleanly() {
    let dir = fresh_dir();
    for _ in 0..10 {
        let status = Broker::start(&dir.path().join("data")).terminate();
        assert!(status.success(), "SIGTERM right after `ready` ends with {status}");
    }
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
fn a_configuration_file_names_the_broker_and_every_place_where_it_listens() {
    let dir = fresh_dir();
    let settings = format!("name = \"north.pole\"\nlisten = [\"{ANY_PORT}\", \"{ANY_PORT}\"]\n");
    let file = write(&dir.path().join("settings.toml"), &settings);
    let broker = Broker::start_with(&dir.path().join("data"), &["--config", &file]);
    let [one, other] = broker.ports() else { panic!("two listeners: {:?}", broker.ports()) };
    Stomp::connect(*one, "1.2").unwrap().publish("/queue/config", "from one door").unwrap();
    let mut stomp = Stomp::connect(*other, "1.2").unwrap();
    stomp.subscribe("s", "/queue/config", "auto").unwrap();
    let message = stomp.message().unwrap();
    assert_eq!(message.text(), "from one door");
    let id = message.header("message-id").unwrap_or_default();
    assert!(id.starts_with("ID:north.pole-"), "the id {id} does not show the broker's name");
}

#[test]
fn an_option_wins_over_the_configuration_file() {
    let dir = fresh_dir();
    let settings = format!("name = \"loser\"\nlisten = [\"{ANY_PORT}\", \"{ANY_PORT}\"]\n");
    let file = write(&dir.path().join("settings.toml"), &settings);
    let options = ["--config", &file, "--listen", ANY_PORT, "--name", "winner"];
    let broker = Broker::start_with(&dir.path().join("data"), &options);
    assert_eq!(broker.ports().len(), 1);
    assert!(id_of_a_message(&broker).starts_with("ID:winner-"));
}

#[test]
fn the_configuration_that_config_prints_is_one_to_start_from() {
    let dir = fresh_dir();
    let output = run_to_end(&["config"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    // Edited where it says the name: what the broker then reads is this text and no other.
    let edited = printed.replace("\nname = \"escrowmq\"\n", "\nname = \"edited\"\n");
    assert_ne!(edited, printed, "no line with the default name");
    let broker = Broker::start_configured(&dir.path().join("data"), &edited);
    assert!(id_of_a_message(&broker).starts_with("ID:edited-"));
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
fn queues_are_listed_with_what_is_in_them_and_who_consumes() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    assert_eq!(broker.queues(), []);
    let mut stomp = broker.connect();
    stomp.publish("/queue/two words", "one").unwrap();
    stomp.publish("/queue/two words", "two").unwrap();
    let fleeting = Frame::new("SEND").with("destination", "/queue/b").with("persistent", "false");
    stomp.confirm(fleeting.body("fleeting")).unwrap();
    stomp.subscribe("s", "/queue/b", "client-individual").unwrap();
    stomp.message().unwrap();
    assert_eq!(broker.queues(), [row("b", 1, 1), row("two words", 2, 0)]);
}

#[test]
fn a_purge_removes_for_good_what_waits_and_leaves_what_is_lent() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    for number in 0..1999 {
        let send = Frame::new("SEND").with("destination", "/queue/purge");
        stomp.send(&send.body(format!("message {number}"))).unwrap();
    }
    stomp.publish("/queue/purge", "the last").unwrap();
    let subscribe = Frame::new("SUBSCRIBE").with("id", "s").with("destination", "/queue/purge");
    let subscribe = subscribe.with("ack", "client-individual").with("activemq.prefetchSize", "3");
    stomp.confirm(subscribe).unwrap();
    let lent: Vec<Frame> = (0..3).map(|_| stomp.message().unwrap()).collect();
    assert_eq!(broker.queues(), [row("purge", 2000, 1)]);

    let purge = broker.queue_command(&["purge", "purge"]);
    assert!(purge.status.success(), "{purge:?}");
    assert_eq!(said(&purge), "1997 removed\n");
    assert_eq!(broker.queues(), [row("purge", 3, 1)]);
    stomp.ack(&lent[0]).unwrap();
    assert_eq!(broker.queues(), [row("purge", 2, 1)]);

    // It was told to be done, so it is durable.
    let broker = broker.kill_and_restart();
    assert_eq!(broker.queues(), [row("purge", 2, 0)]);
    assert_eq!(bodies_to_the_end(&broker, "/queue/purge"), ["message 1", "message 2"]);
    assert_no_damage(&broker.kill());
}

#[test]
fn a_queue_is_deleted_with_what_is_in_it_and_only_without_consumers() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    stomp.publish("/queue/delete", "one").unwrap();
    stomp.publish("/queue/other", "stays").unwrap();
    stomp.subscribe("s", "/queue/delete", "client-individual").unwrap();
    stomp.message().unwrap();
    let refused = broker.queue_command(&["delete", "delete"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(said(&refused).contains("consumers"), "{refused:?}");
    assert_eq!(broker.queues(), [row("delete", 1, 1), row("other", 1, 0)]);

    stomp.disconnect().unwrap();
    // The end of a connection is noticed a moment later.
    crate::support::wait_until("the consumer is gone", || {
        broker.queues()[0] == row("delete", 1, 0)
    });
    let deleted = broker.queue_command(&["delete", "delete"]);
    assert!(deleted.status.success(), "{deleted:?}");
    let broker = broker.kill_and_restart();
    assert_eq!(broker.queues(), [row("other", 1, 0)]);
}

#[test]
fn queue_commands_say_what_is_wrong() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    for command in ["purge", "delete"] {
        let output = broker.queue_command(&[command, "no.such.queue"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(said(&output).contains("no queue no.such.queue"), "{output:?}");
    }
    // A dead broker leaves its socket, which hinders neither the next broker nor the commands.
    let data = broker.kill();
    assert!(data.join("admin.sock").exists());
    let list = ["queue", "list", "--data", data.to_str().unwrap()];
    let output = run_to_end(&list);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(&output).contains("no broker is running"), "{output:?}");
    let broker = Broker::start(&data);
    assert_eq!(broker.queues(), []);
    assert!(broker.terminate().success());
    assert!(!data.join("admin.sock").exists(), "a clean end leaves no socket");
}

#[test]
fn a_path_too_long_for_a_socket_costs_the_queue_commands_and_nothing_else() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("long-".repeat(30)));
    assert!(broker.log().contains("no admin socket"), "{}", broker.log());
    broker.connect().publish("/queue/long", "kept").unwrap();
    let output = broker.queue_command(&["list"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(&output).contains("path"), "{output:?}");
    assert!(broker.terminate().success());
}

/// An id that the broker gives to a message: the broker's name is in it.
#[track_caller]
fn id_of_a_message(broker: &Broker) -> String {
    let mut stomp = broker.connect();
    stomp.publish("/queue/whose", "?").unwrap();
    stomp.subscribe("s", "/queue/whose", "auto").unwrap();
    stomp.message().unwrap().header("message-id").unwrap_or_default().to_owned()
}

fn row(name: &str, depth: u64, consumers: u64) -> (String, u64, u64) {
    (name.to_owned(), depth, consumers)
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
