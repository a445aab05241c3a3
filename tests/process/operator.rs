//! The operator's view of the real process: what the queue commands show of a broker at work, and
//! what they do to it.

use crate::support::broker::{Broker, assert_no_damage, said};
use crate::support::fresh_dir;
use crate::support::stomp::{Frame, Stomp};
use serde_json::Value;

/// Runs a queue command that must succeed, and gives its lines.
#[track_caller]
fn lines(broker: &Broker, args: &[&str]) -> Vec<Value> {
    let output = broker.queue_command(&[args, &["--json"]].concat());
    assert!(output.status.success(), "{args:?}: {output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// The bodies of a queue as a browse shows them.
#[track_caller]
fn bodies(broker: &Broker, queue: &str) -> Vec<String> {
    let lines = lines(broker, &["browse", queue, "--body", "--count", "1000000"]);
    lines.iter().map(|line| line["body"]["text"].as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn moved(broker: &Broker, args: &[&str]) -> (u64, u64) {
    let lines = lines(broker, args);
    let last = lines.last().expect("the last line says how many");
    assert_eq!(last["done"], true, "{lines:?}");
    (last["moved"].as_u64().unwrap(), last["stayed"].as_u64().unwrap())
}

/// Sends messages whose bodies are these numbers; the last is confirmed.
fn send_numbers(stomp: &mut Stomp, queue: &str, numbers: std::ops::Range<u32>) {
    let destination = format!("/queue/{queue}");
    for number in numbers.start..numbers.end - 1 {
        let send = Frame::new("SEND").with("destination", &destination);
        stomp.send(&send.body(number.to_string())).unwrap();
    }
    stomp.publish(&destination, &(numbers.end - 1).to_string()).unwrap();
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

fn hold(stomp: &mut Stomp, queue: &str, count: usize) -> Vec<Frame> {
    let subscribe = Frame::new("SUBSCRIBE").with("id", "s").with("ack", "client-individual");
    let subscribe = subscribe.with("destination", &format!("/queue/{queue}"));
    stomp.confirm(subscribe.with("activemq.prefetchSize", &count.to_string())).unwrap();
    (0..count).map(|_| stomp.message().unwrap()).collect()
}

const NAMES: [&str; 4] = ["two words", "back\\slash", "quote\"s{}", "Grüße/世界"];

#[test]
fn every_name_is_shown_browsed_and_moved() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    for name in NAMES {
        stomp.publish(&format!("/queue/{name}"), "here").unwrap();
        let shown = lines(&broker, &["show", name]);
        assert_eq!((&shown[0]["name"], &shown[0]["depth"]), (&name.into(), &1.into()));
        assert_eq!(bodies(&broker, name), ["here"]);
        let to = format!("{name} too");
        assert_eq!(moved(&broker, &["move", name, &to]), (1, 0));
        assert_eq!(bodies(&broker, &to), ["here"]);
    }
    let listed = lines(&broker, &["list"]);
    let listed: Vec<&str> = listed.iter().map(|line| line["name"].as_str().unwrap()).collect();
    let mut sorted = listed.clone();
    sorted.sort_unstable();
    assert_eq!(listed, sorted);
    assert_eq!(listed.len(), 2 * NAMES.len());
}

#[test]
fn show_tells_what_waits_what_is_lent_and_who_holds_it() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    send_numbers(&mut stomp, "shown", 0..10);
    let held = hold(&mut stomp, "shown", 3);
    stomp.ack(&held[0]).unwrap();
    stomp.message().unwrap();
    let shown = &lines(&broker, &["show", "shown"])[0];
    let of = |field: &str| shown[field].as_u64().unwrap_or_else(|| panic!("{field}: {shown}"));
    assert_eq!((of("depth"), of("lent"), of("consumers")), (9, 3, 1));
    assert_eq!((of("sent"), of("delivered"), of("acknowledged")), (10, 4, 1));
    let reader = &shown["readers"][0];
    assert_eq!((&reader["prefetch"], &reader["outstanding"]), (&3.into(), &3.into()));
    assert!(of("oldest") > 1_500_000_000_000, "{shown}");

    let table = broker.queue_command(&["show", "shown", "--over", "0.01"]);
    let table = said(&table);
    assert!(table.contains("9 (6 wait, 3 are lent)") && table.contains("/s)"), "{table}");
    assert!(table.contains("3 of 3 outstanding"), "{table}");
}

#[test]
fn a_browse_shows_any_part_of_a_queue_and_disturbs_nobody() {
    let dir = fresh_dir();
    let settings = "[memory]\nqueue_window = 16\n[log]\ncheckpoint_changes = 500\n";
    let broker = Broker::start_configured(&dir.path().join("data"), settings);
    let mut stomp = broker.connect();
    send_numbers(&mut stomp, "b", 0..1500);
    let held = hold(&mut stomp, "b", 3);
    assert_eq!(bodies(&broker, "b"), numbers(0..1500));
    let all = lines(&broker, &["browse", "b", "--count", "1500", "--properties"]);
    let lent = all.iter().filter(|line| line["lent"] == true).count();
    assert_eq!(lent, 3, "those that the consumer holds are marked");
    assert!(all[1000]["properties"].is_array() && all[1000]["body"].is_null(), "{}", all[1000]);

    let part = lines(&broker, &["browse", "b", "--skip", "1000", "--count", "7", "--body"]);
    let part: Vec<&str> = part.iter().map(|line| line["body"]["text"].as_str().unwrap()).collect();
    assert_eq!(part, numbers(1000..1007));
    // By the id that a client has seen, whole or its end alone.
    let seen = held[2].header("message-id").unwrap();
    for id in [seen, all[2]["id"].as_str().unwrap()] {
        let from = lines(&broker, &["browse", "b", "--from", id, "--count", "1", "--body"]);
        assert_eq!(from[0]["body"]["text"], "2");
    }
    // The consumer still holds what it held, and what waits comes in order, unflagged.
    for frame in &held {
        stomp.ack(frame).unwrap();
    }
    let next = stomp.message().unwrap();
    assert_eq!((next.text(), next.is_redelivered()), ("3", false));
    let text = said(&broker.queue_command(&["browse", "b", "--skip", "1400", "--body"]));
    assert!(text.contains("| 1499"), "{text}");

    // What came in pieces is as large as its body, which is too large to be shown.
    let send = Frame::new("SEND").with("destination", "/queue/large");
    broker.connect().confirm(send.body("x".repeat(5_000_001))).unwrap();
    let large = lines(&broker, &["browse", "large"]);
    assert_eq!((&large[0]["bytes"], &large[0]["problem"]), (&5_000_001.into(), &Value::Null));
    let text = said(&broker.queue_command(&["browse", "large", "--body"]));
    assert!(text.contains("  5000001 bytes\n    its body has 5000001 bytes and is too"), "{text}");
}

#[test]
fn a_move_takes_what_waits_in_order_and_a_kill_finds_all_of_it_where_it_was_told_to_be() {
    let dir = fresh_dir();
    let settings = "[memory]\nqueue_window = 16\n[log]\ncheckpoint_changes = 500\n";
    let broker = Broker::start_configured(&dir.path().join("data"), settings);
    let mut stomp = broker.connect();
    send_numbers(&mut stomp, "from", 0..2000);
    let held = hold(&mut stomp, "from", 2);
    assert_eq!(moved(&broker, &["move", "from", "to", "--count", "0"]), (0, 0));
    assert_eq!(broker.queues().len(), 1, "no queue is made for nothing");
    assert_eq!(moved(&broker, &["move", "from", "to", "--count", "300"]), (300, 0));
    assert_eq!(bodies(&broker, "to"), numbers(2..302));
    assert_eq!(moved(&broker, &["move", "from", "to"]), (1698, 0));
    assert_eq!(bodies(&broker, "from"), ["0", "1"], "what is lent stays");
    stomp.ack(&held[0]).unwrap();
    drop(stomp);

    let data = broker.kill();
    let broker = Broker::start(&data);
    assert_eq!(bodies(&broker, "to"), numbers(2..2000));
    assert_eq!(bodies(&broker, "from"), ["1"]);
    let mut stomp = broker.connect();
    let first = hold(&mut stomp, "to", 1).remove(0);
    assert_eq!((first.text(), first.is_redelivered()), ("2", false));
    assert_no_damage(&broker.kill());
}

#[test]
fn a_move_by_id_takes_those_and_no_others_and_keeps_their_ids() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    send_numbers(&mut stomp, "ids", 0..600);
    let fleeting = Frame::new("SEND").with("destination", "/queue/ids").with("persistent", "false");
    stomp.confirm(fleeting.body("fleeting")).unwrap();
    let all = lines(&broker, &["browse", "ids", "--count", "1000"]);
    let id = |at: usize| all[at]["id"].as_str().unwrap();
    let args = ["move", "ids", "picked", "--id", id(500), id(3), id(600)];
    assert_eq!(moved(&broker, &args), (3, 0));
    assert_eq!(bodies(&broker, "picked"), ["3", "500", "fleeting"]);
    let picked = lines(&broker, &["browse", "picked"]);
    let ids: Vec<&Value> = picked.iter().map(|line| &line["id"]).collect();
    assert_eq!(ids, [id(3), id(500), id(600)]);
    assert_eq!(lines(&broker, &["show", "ids"])[0]["depth"], 598);
}

#[test]
fn a_retry_takes_each_message_back_to_where_it_came_from() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    let origins = [
        ("originalDestination", "queue://orders"),
        ("dlqOriginalDestination", "bills"),
        ("originalDestination", "queue://orders"),
        ("originalDestination", "topic://news"),
        ("other", "queue://orders"),
    ];
    for (number, (name, value)) in origins.iter().enumerate() {
        let send = Frame::new("SEND").with("destination", "/queue/ActiveMQ.DLQ").with(name, value);
        stomp.confirm(send.body(number.to_string())).unwrap();
    }
    assert_eq!(moved(&broker, &["retry"]), (3, 2));
    assert_eq!(bodies(&broker, "orders"), ["0", "2"]);
    assert_eq!(bodies(&broker, "bills"), ["1"]);
    assert_eq!(bodies(&broker, "ActiveMQ.DLQ"), ["3", "4"]);
    let said = said(&broker.queue_command(&["retry"]));
    assert!(said.contains("0 moved, 2 stayed"), "{said}");
}

#[test]
fn what_cannot_be_done_is_refused_with_what_to_do_next() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    broker.connect().publish("/queue/there", "one").unwrap();
    let check = |args: &[&str], expected: &str| {
        let output = broker.queue_command(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
        assert!(said(&output).contains(expected), "{args:?}: {output:?}");
    };
    check(&["show", "nowhere"], "no queue nowhere: `escrowmq queue list`");
    check(&["browse", "nowhere"], "no queue nowhere");
    check(&["browse", "there", "--from", "d99"], "no message d99 in there");
    check(&["browse", "there", "--from", "what"], "no message id");
    check(&["move", "nowhere", "there"], "no queue nowhere");
    check(&["move", "there", "there"], "to itself");
    check(&["move", "there", ""], "destination name");
    check(&["move", "there", "else", "--id", "d99"], "no message d99 in there");
    check(&["move", "nowhere", "else", "--count", "0"], "no queue nowhere");
    let many: Vec<String> = (0..10_000).map(|number| format!("d{number}")).collect();
    let many = ["move", "there", "else", "--id"].into_iter().chain(many.iter().map(|it| &**it));
    check(&many.collect::<Vec<_>>(), "asks for too much at once");
    check(&["retry", "nowhere"], "no queue nowhere");
    check(&["retry", "ActiveMQ.DLQ.Damaged"], "cannot be retried");
    assert_eq!(bodies(&broker, "there"), ["one"]);
    for over in ["nan", "inf", "1e300", "3601"] {
        let output = broker.queue_command(&["show", "there", "--over", over]);
        assert_eq!(output.status.code(), Some(2), "{over}: {output:?}");
        assert!(said(&output).contains("from 0 to 3600"), "{over}: {output:?}");
    }
}

#[test]
fn a_backlog_that_has_expired_frees_its_disk_without_a_consumer() {
    let dir = fresh_dir();
    let drop = "[[redelivery]]\nname = \"queue://old\"\nwhen_expired = \"drop\"\n";
    let settings = format!("{drop}[memory]\nqueue_window = 16\n");
    let broker = Broker::start_configured(&dir.path().join("data"), &settings);
    let mut stomp = broker.connect();
    for number in 0..500 {
        let send = Frame::new("SEND").with("destination", "/queue/old");
        // Expired long ago from the second life on: `expires` is a time.
        let at = std::time::SystemTime::now() + std::time::Duration::from_millis(1500);
        let at = at.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis().to_string();
        stomp.send(&send.with("expires", &at).body(number.to_string())).unwrap();
    }
    stomp.publish("/queue/old", "stays").unwrap();
    let broker = Broker::start_configured(&broker.kill(), drop);
    crate::support::wait_until("what has expired is gone", || broker.queues()[0].1 == 1);
    assert_eq!(bodies(&broker, "old"), ["stays"]);
}
