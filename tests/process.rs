//! Stories of the real process, from outside: what it keeps over a restart and a kill, how it
//! starts, ends and refuses, and what its store tools say.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

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

#[test]
fn verify_and_dump_leave_a_store_exactly_as_it_was() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    broker.connect().publish("/queue/untouched", "kept").unwrap();
    let data = broker.kill();
    // A copy has no lock file, and none shall be made in it.
    std::fs::remove_file(data.join("lock")).unwrap();
    let before = content_of(&data);
    assert_no_damage(&data);
    let dump = run_to_end(&["store", "dump", data.to_str().unwrap()]);
    assert!(dump.status.success(), "{dump:?}");
    assert!(content_of(&data) == before, "a byte, a name or a time has changed");
}

#[test]
fn verify_takes_a_segment_that_its_owner_removed_for_no_damage_and_any_other_for_one() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    broker.connect().publish("/queue/kept", "stays in the first segment").unwrap();
    let broker = broker.terminate_and_restart();
    broker.connect().publish("/queue/gone", "goes with the second segment").unwrap();
    let broker = broker.terminate_and_restart();
    assert_eq!(consume(&broker, "/queue/gone"), "goes with the second segment");
    let broker = broker.terminate_and_restart();
    let data = broker.data().to_owned();
    assert!(broker.terminate().success());

    let segment = |epoch: u64| {
        let prefix = format!("wal-{epoch:016x}-");
        let names = content_of(&data).into_keys();
        names.into_iter().find(|name| name.starts_with(&prefix))
    };
    assert_eq!(segment(2), None, "nothing needs the segment of the second life");
    assert_no_damage(&data);
    let first = segment(1).expect("a message lies in it");
    std::fs::rename(data.join(&first), dir.path().join("aside")).unwrap();
    let verify = run_to_end(&["store", "verify", data.to_str().unwrap()]);
    assert_eq!(verify.status.code(), Some(1), "{verify:?}");
    assert!(said(&verify).contains(&first), "does not name {first}: {verify:?}");
}

#[test]
fn verify_finds_damage_in_every_kind_of_file() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    broker.connect().publish("/queue/a.name.in.the.index", "sound").unwrap();
    let data = broker.data().to_owned();
    assert!(broker.terminate().success());
    let needles: [(&str, &[u8]); 5] = [
        ("store", b"EscMQsto"),
        ("claim-", b"EscMQcla"),
        ("seal-", b"EscMQsea"),
        ("wal-", b"a.name.in.the.index"),
        ("index.redb", b"a.name.in.the.index"),
    ];
    for (prefix, needle) in needles {
        let (name, bytes) = content_of(&data)
            .into_iter()
            .find(|(name, (bytes, _))| name.starts_with(prefix) && find(bytes, needle).is_some())
            .map(|(name, (bytes, _))| (name, bytes))
            .unwrap_or_else(|| panic!("no file {prefix}* holds {needle:?}"));
        let mut bad = bytes.clone();
        // Everywhere: the index keeps older versions of its pages.
        while let Some(at) = find(&bad, needle) {
            bad[at + 1] ^= 0x10;
        }
        std::fs::write(data.join(&name), bad).unwrap();
        let verify = run_to_end(&["store", "verify", data.to_str().unwrap()]);
        assert_eq!(verify.status.code(), Some(1), "{name}: {verify:?}");
        let out = String::from_utf8_lossy(&verify.stdout);
        let named = out.lines().any(|line| line.starts_with(&name) && line.contains(": "));
        assert!(named, "does not name {name}: {verify:?}");
        assert!(out.trim_end().ends_with("damage") || out.trim_end().ends_with("damages"));
        assert!(!out.contains("no damage"), "{verify:?}");
        assert_no_panic(&said(&verify));
        std::fs::write(data.join(&name), bytes).unwrap();
    }
    assert_no_damage(&data);
}

#[test]
fn dump_shows_damage_in_its_place_and_goes_on() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    for body in ["body before", "body to be damaged", "body after"] {
        stomp.publish("/queue/dump", body).unwrap();
    }
    let data = broker.data().to_owned();
    assert!(broker.terminate().success());
    flip_a_bit_of(&data, b"body to be damaged");
    let dump = run_to_end(&["store", "dump", data.to_str().unwrap()]);
    let said = said(&dump);
    let places = ["body before", "DAMAGED", "body after"].map(|word| said.find(word));
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{said}");
}

#[test]
fn a_reader_of_a_dump_may_go_away() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    for number in 0..2000 {
        let send = Frame::new("SEND").with("destination", "/queue/long");
        stomp.send(&send.body(format!("message {number}"))).unwrap();
    }
    stomp.publish("/queue/long", "the last").unwrap();
    let data = broker.data().to_owned();
    assert!(broker.terminate().success());
    let mut command = support::broker::escrowmq();
    command.args(["store", "dump"]).arg(&data);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn store_tools_refuse_a_store_in_use() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    for tool in ["verify", "dump"] {
        let output = run_to_end(&["store", tool, broker.data().to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{tool}: {output:?}");
        assert!(said(&output).contains("open"), "{tool}: {output:?}");
    }
}

#[test]
fn queues_are_listed_with_what_is_in_them_and_who_consumes() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    assert_eq!(queues(&broker), []);
    let mut stomp = broker.connect();
    stomp.publish("/queue/two words", "one").unwrap();
    stomp.publish("/queue/two words", "two").unwrap();
    let fleeting = Frame::new("SEND").with("destination", "/queue/b").with("persistent", "false");
    stomp.confirm(fleeting.body("fleeting")).unwrap();
    stomp.subscribe("s", "/queue/b", "client-individual").unwrap();
    stomp.message().unwrap();
    assert_eq!(queues(&broker), [row("b", 1, 1), row("two words", 2, 0)]);
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
    assert_eq!(queues(&broker), [row("purge", 2000, 1)]);

    let purge = queue_command(&broker, &["purge", "purge"]);
    assert!(purge.status.success() && said(&purge).is_empty(), "{purge:?}");
    assert_eq!(queues(&broker), [row("purge", 3, 1)]);
    stomp.ack(&lent[0]).unwrap();
    assert_eq!(queues(&broker), [row("purge", 2, 1)]);

    // It was told to be done, so it is durable.
    let broker = broker.kill_and_restart();
    assert_eq!(queues(&broker), [row("purge", 2, 0)]);
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
    let refused = queue_command(&broker, &["delete", "delete"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(said(&refused).contains("consumers"), "{refused:?}");
    assert_eq!(queues(&broker), [row("delete", 1, 1), row("other", 1, 0)]);

    stomp.disconnect().unwrap();
    // The end of a connection is noticed a moment later.
    support::wait_until("the consumer is gone", || queues(&broker)[0] == row("delete", 1, 0));
    let deleted = queue_command(&broker, &["delete", "delete"]);
    assert!(deleted.status.success(), "{deleted:?}");
    let broker = broker.kill_and_restart();
    assert_eq!(queues(&broker), [row("other", 1, 0)]);
}

#[test]
fn queue_commands_say_what_is_wrong() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    for command in ["purge", "delete"] {
        let output = queue_command(&broker, &[command, "no.such.queue"]);
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
    assert_eq!(queues(&broker), []);
    assert!(broker.terminate().success());
    assert!(!data.join("admin.sock").exists(), "a clean end leaves no socket");
}

#[test]
fn a_path_too_long_for_a_socket_costs_the_queue_commands_and_nothing_else() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("long-".repeat(30)));
    assert!(broker.log().contains("no admin socket"), "{}", broker.log());
    broker.connect().publish("/queue/long", "kept").unwrap();
    let output = queue_command(&broker, &["list"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(&output).contains("path"), "{output:?}");
    assert!(broker.terminate().success());
}

/// What is asked of the broker's admin socket.
fn queue_command(broker: &Broker, args: &[&str]) -> std::process::Output {
    let data = broker.data().to_str().unwrap();
    run_to_end(&[&["queue", args[0], "--data", data], &args[1..]].concat())
}

/// The table of `queue list` without its head: name, depth, consumers.
#[track_caller]
fn queues(broker: &Broker) -> Vec<(String, u64, u64)> {
    let list = queue_command(broker, &["list"]);
    assert!(list.status.success(), "{list:?}");
    let text = String::from_utf8(list.stdout).unwrap();
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    assert_eq!(head.split_whitespace().collect::<Vec<_>>(), ["NAME", "DEPTH", "CONSUMERS"]);
    let last_number = |line: &str| {
        let (rest, number) = line.rsplit_once(' ').unwrap();
        (rest.trim_end().to_owned(), number.parse().unwrap())
    };
    let row = |line: &str| {
        let (rest, consumers) = last_number(line);
        let (name, depth) = last_number(&rest);
        (name, depth, consumers)
    };
    lines.map(row).collect()
}

fn row(name: &str, depth: u64, consumers: u64) -> (String, u64, u64) {
    (name.to_owned(), depth, consumers)
}

/// Consumes the one message of a queue.
#[track_caller]
fn consume(broker: &Broker, queue: &str) -> String {
    let mut stomp = broker.connect();
    stomp.subscribe("s", queue, "client-individual").unwrap();
    let message = stomp.message().unwrap();
    stomp.ack(&message).unwrap();
    stomp.disconnect().unwrap();
    message.text().to_owned()
}

/// Every file of a store, with its bytes and the time of its last change.
#[track_caller]
fn content_of(dir: &Path) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).expect("the store") {
        let entry = entry.expect("an entry of the store");
        let name = entry.file_name().into_string().expect("a UTF-8 name");
        let changed = entry.metadata().and_then(|metadata| metadata.modified()).expect("a time");
        // A socket has no bytes to read.
        files.insert(name, (std::fs::read(entry.path()).unwrap_or_default(), changed));
    }
    files
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
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
        let found = find(&bytes, needle);
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
