//! Stories of messages that come later, again and again, and what an operator does about them.

use std::time::Duration;

use crate::durable::connect_as;
use crate::support::broker::{Broker, assert_no_damage, said};
use crate::support::stomp::{Frame, Stomp};
use crate::support::{Moment, fresh_dir};
use serde_json::Value;

fn send_to(destination: &str) -> Frame {
    Frame::new("SEND").with("destination", destination)
}

/// What the broker says to a SEND on a connection of its own.
fn refusal(broker: &Broker, send: Frame) -> String {
    let mut stomp = broker.connect();
    stomp.send(&send).unwrap();
    let refused = stomp.receive().unwrap();
    refused.header("message").unwrap_or_else(|| panic!("{refused:?}")).to_owned()
}

fn depth(broker: &Broker, name: &str) -> u64 {
    let queues = broker.queues();
    queues.iter().find(|(queue, ..)| queue == name).map_or(0, |(_, depth, _)| *depth)
}

fn schedules(broker: &Broker) -> Vec<Value> {
    let output = broker.command(&["schedule", "list", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// Takes the next message and accepts it: its body, its id, and the schedule it is of.
fn take(stomp: &mut Stomp) -> (String, String, String) {
    let message = stomp.message().unwrap();
    assert!(!message.is_redelivered(), "{message:?}");
    for name in ["DELAY", "PERIOD", "REPEAT", "CRON"] {
        assert_eq!(message.header(&format!("AMQ_SCHEDULED_{name}")), None);
    }
    stomp.ack(&message).unwrap();
    let of = |name| message.header(name).unwrap_or_else(|| panic!("{message:?}")).to_owned();
    (message.text().to_owned(), of("message-id"), of("scheduledJobId"))
}

#[test]
fn what_is_repeated_comes_as_often_as_it_says_over_kills() {
    let dir = fresh_dir();
    let data = dir.path().join("data");
    let mut broker = Broker::start(&data);
    let mut stomp = broker.connect();
    let send = send_to("/queue/often").with("AMQ_SCHEDULED_DELAY", "300");
    let send = send.with("AMQ_SCHEDULED_PERIOD", "400").with("AMQ_SCHEDULED_REPEAT", "5");
    let began = Moment::now();
    stomp.confirm(send.body("tick")).unwrap();
    let mut came = Vec::new();
    for round in 0..3 {
        stomp.subscribe("s", "/queue/often", "client-individual").unwrap();
        came.extend([take(&mut stomp), take(&mut stomp)]);
        if round < 2 {
            // What was acknowledged stays so.
            stomp.confirm(send_to("/queue/other").body("barrier")).unwrap();
            broker = broker.kill_and_restart();
            stomp = broker.connect();
        }
    }
    began.assert_passed(Duration::from_millis(300 + 5 * 400));
    let job = &came[0].2;
    assert!(came.iter().all(|(body, _, of)| body == "tick" && of == job), "{came:?}");
    let mut ids: Vec<_> = came.iter().map(|(_, id, _)| id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 6, "each is a message of its own");
    assert!(ids.iter().any(|id| id.ends_with(job)), "the last is the message that was sent");
    stomp.disconnect().unwrap();
    crate::support::wait_until("nothing is left", || depth(&broker, "often") == 0);
    assert_eq!(schedules(&broker), Vec::<Value>::new());
    assert_no_damage(&broker.kill());
}

#[test]
fn an_operator_sees_and_ends_what_would_go_on_for_ever() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    let cron = send_to("/queue/nightly").with("AMQ_SCHEDULED_CRON", "30 2 * * mon-fri");
    stomp.confirm(cron.body("report")).unwrap();
    let endless = send_to("/queue/beat").with("AMQ_SCHEDULED_PERIOD", "50");
    stomp.confirm(endless.with("AMQ_SCHEDULED_REPEAT", "-1").body("beat")).unwrap();
    stomp.subscribe("s", "/queue/beat", "client-individual").unwrap();
    let (_, _, job) = take(&mut stomp);

    let listed = said(&broker.command(&["schedule", "list"]));
    assert!(listed.contains("cron 30 2 * * 1-5, nightly"), "{listed}");
    assert!(listed.contains("every 50 ms without end, beat"), "{listed}");
    let all = schedules(&broker);
    assert_eq!((all.len(), &all[0]["queue"], &all[1]["job"]), (2, &"nightly".into(), &job.into()));
    // A purge of its queue ends it, and so does its number.
    assert!(broker.queue_command(&["purge", "nightly"]).status.success());
    let id = all[1]["id"].to_string();
    assert!(said(&broker.command(&["schedule", "remove", &id])).contains("1 removed"));
    let again = broker.command(&["schedule", "remove", &id]);
    assert!(!again.status.success() && said(&again).contains("no schedule"), "{again:?}");
    let broker = broker.kill_and_restart();
    assert_eq!(schedules(&broker), Vec::<Value>::new());
}

#[test]
fn what_is_published_later_goes_to_all_who_are_there_then_over_a_kill() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    let publish = |body: &str| {
        send_to("/topic/news").with("AMQ_SCHEDULED_DELAY", "5000").with("marks", body).body(body)
    };
    let began = Moment::now();
    stomp.confirm(publish("plain")).unwrap();
    for end in ["ABORT", "COMMIT"] {
        stomp.send(&Frame::new("BEGIN").with("transaction", "t")).unwrap();
        stomp.confirm(publish(end).with("transaction", "t")).unwrap();
        stomp.confirm(Frame::new(end).with("transaction", "t")).unwrap();
    }
    let endless = send_to("/topic/beat").with("AMQ_SCHEDULED_PERIOD", "50");
    stomp.confirm(endless.with("AMQ_SCHEDULED_REPEAT", "-1").body("beat")).unwrap();
    let broker = broker.kill_and_restart();

    // Nobody was there when it was sent, and all who are there now have it.
    let mut kept = connect_as(&broker, "keeper");
    let durable = Frame::new("SUBSCRIBE").with("id", "s").with("destination", "/topic/news");
    let durable = durable.with("activemq.subscriptionName", "kept").with("ack", "auto");
    kept.confirm(durable.clone()).unwrap();
    kept.disconnect().unwrap();
    let (mut listener, mut chooser, mut pattern) =
        (broker.connect(), broker.connect(), broker.connect());
    listener.subscribe("s", "/topic/news", "auto").unwrap();
    let chosen = Frame::new("SUBSCRIBE").with("id", "s").with("destination", "/topic/news");
    chooser.confirm(chosen.with("selector", "marks = 'COMMIT'")).unwrap();
    pattern.subscribe("s", "/topic/>", "auto").unwrap();
    let texts = |stomp: &mut Stomp, count: usize| {
        let mut took = Vec::new();
        while took.len() < count {
            let message = stomp.message().unwrap();
            if message.text() != "beat" {
                took.push(message.text().to_owned());
            }
        }
        took.sort();
        took
    };
    assert_eq!(texts(&mut listener, 2), ["COMMIT", "plain"]);
    began.assert_passed(Duration::from_millis(5000));
    assert_eq!(texts(&mut chooser, 1), ["COMMIT"]);
    assert_eq!(texts(&mut pattern, 2), ["COMMIT", "plain"]);
    let broker = broker.kill_and_restart();
    let mut kept = connect_as(&broker, "keeper");
    kept.confirm(durable).unwrap();
    assert_eq!(texts(&mut kept, 2), ["COMMIT", "plain"]);

    // What waits is a queue to operators, and what goes on for ever ends as any other does.
    let all = schedules(&broker);
    assert_eq!((all.len(), &all[0]["queue"]), (1, &"scheduled-publications://beat".into()));
    let mut listener = broker.connect();
    listener.subscribe("s", "/topic/beat", "auto").unwrap();
    assert_eq!(listener.message().unwrap().text(), "beat");
    assert!(broker.command(&["schedule", "remove", &all[0]["id"].to_string()]).status.success());
    crate::support::wait_until("no line is left", || {
        !broker.queues().iter().any(|(queue, ..)| queue.starts_with("scheduled-publications://"))
    });
    assert_no_damage(&broker.kill());
}

#[test]
fn a_transaction_delays_from_its_commit() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    stomp.subscribe("s", "/queue/later", "client-individual").unwrap();
    stomp.subscribe("m", "/queue/marker", "client-individual").unwrap();
    for end in ["ABORT", "COMMIT"] {
        stomp.send(&Frame::new("BEGIN").with("transaction", "t")).unwrap();
        let send = send_to("/queue/later").with("transaction", "t");
        let send = send.with("AMQ_SCHEDULED_DELAY", "600").with("persistent", "false");
        stomp.confirm(send.body(end)).unwrap();
        // When this has come, a delay that had begun with the send would be over.
        let marker = send_to("/queue/marker").with("AMQ_SCHEDULED_DELAY", "700");
        stomp.confirm(marker.body("marker")).unwrap();
        assert_eq!(take(&mut stomp).0, "marker");
        let committed = Moment::now();
        stomp.confirm(Frame::new(end).with("transaction", "t")).unwrap();
        if end == "COMMIT" {
            assert_eq!(take(&mut stomp).0, end);
            committed.assert_passed(Duration::from_millis(600));
        }
    }
    crate::support::wait_until("nothing is left", || depth(&broker, "later") == 0);
}

#[test]
fn what_cannot_be_scheduled_is_refused_and_what_was_scheduled_once_goes_at_once() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let send = send_to("/queue/q");
    for (name, value, says) in [
        ("AMQ_SCHEDULED_DELAY", "soon", "a number of milliseconds"),
        ("AMQ_SCHEDULED_REPEAT", "3", "needs a delay, a period or a cron"),
        ("AMQ_SCHEDULED_REPEAT", "many", "a number of times"),
        ("AMQ_SCHEDULED_CRON", "61 * * * *", "minute"),
        ("AMQ_SCHEDULED_CRON", "0 0 31 2 *", "no day is ever"),
        ("AMQ_SCHEDULED_CRON", "hourly", "five fields"),
    ] {
        let said = refusal(&broker, send.clone().with(name, value).body("x"));
        assert!(said.contains(says), "{name}:{value} {said}");
    }
    let large = send.clone().with("AMQ_SCHEDULED_CRON", "* * * * *");
    let said = refusal(&broker, large.body("x".repeat(300 << 10)));
    assert!(said.contains("262144 bytes"), "{said}");
    let mut stomp = broker.connect();
    let forwarded = send.with("AMQ_SCHEDULED_DELAY", "100000").with("scheduledJobId", "other");
    stomp.confirm(forwarded.body("at once")).unwrap();
    stomp.subscribe("s", "/queue/q", "client-individual").unwrap();
    assert_eq!(stomp.message().unwrap().header("scheduledJobId"), Some("other"));
}
