//! The page of metrics of the real process: what it says, to whom, and whom it cuts off.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::broker::{ANY_PORT, Broker, run_to_end, said};
use crate::support::exposition::{ask, scrape};
use crate::support::stomp::Frame;
use crate::support::{PATIENCE, fresh_dir};

fn start(data: &std::path::Path) -> Broker {
    Broker::start_with(data, &["--listen", ANY_PORT, "--metrics", "127.0.0.1:0"])
}

#[test]
fn the_page_counts_what_happens() {
    let dir = fresh_dir();
    let broker = start(&dir.path().join("data"));
    let port = broker.metrics_port();
    let mut stomp = broker.connect();
    for body in ["one", "two", "three"] {
        stomp.publish("/queue/say \"hi\"\\n", body).unwrap();
    }
    stomp.subscribe("s", "/queue/say \"hi\"\\n", "client-individual").unwrap();
    let messages: Vec<Frame> = (0..3).map(|_| stomp.message().unwrap()).collect();
    stomp.ack(&messages[0]).unwrap();
    stomp.nack(&messages[1]).unwrap();
    stomp.message().unwrap();

    let page = scrape(port);
    let of = |name: &str| page.get(name).copied().unwrap_or_else(|| panic!("{name}: {page:#?}"));
    let queue = r#"{queue="say \"hi\"\\n"}"#;
    for (name, value) in [
        ("messages_sent_total", 3.0),
        ("messages_delivered_total", 4.0),
        ("messages_redelivered_total", 1.0),
        ("messages_acknowledged_total", 1.0),
        ("messages_returned_total", 1.0),
        ("messages_expired_total", 0.0),
        ("queues", 1.0),
        ("depth", 2.0),
        ("lent", 2.0),
        ("consumers", 1.0),
        ("refused_total", 0.0),
        ("log_lag_bytes", 0.0),
        ("other_queues", 0.0),
    ] {
        assert_eq!(of(&format!("escrowmq_{name}")), value, "{name}");
    }
    assert_eq!(of(&format!("escrowmq_queue_depth{queue}")), 2.0);
    assert_eq!(of(&format!("escrowmq_queue_sent_total{queue}")), 3.0);
    assert_eq!(of(&format!("escrowmq_queue_consumers{queue}")), 1.0);
    assert!(of("escrowmq_sync_seconds_count") > 0.0 && of("escrowmq_turn_seconds_sum") > 0.0);
    assert!(of("escrowmq_log_bytes{state=\"live\"}") > 0.0);
    assert!(of("escrowmq_memory_resident_bytes") > 1e6);
    assert!(of("escrowmq_connections") >= 1.0);
}

#[test]
fn only_the_deepest_queues_have_lines_of_their_own_and_the_others_are_in_one_sum() {
    let dir = fresh_dir();
    let broker = start(&dir.path().join("data"));
    let mut stomp = broker.connect();
    for number in 0..130 {
        let send = Frame::new("SEND").with("destination", &format!("/queue/n{number}"));
        stomp.send(&send.body("one")).unwrap();
    }
    for _ in 0..5 {
        stomp.publish("/queue/n77", "more").unwrap();
    }
    // The first page of a new life finds nothing in memory, and asks the index.
    let broker = broker.kill_and_restart_with(&["--listen", ANY_PORT, "--metrics", "127.0.0.1:0"]);
    let page = scrape(broker.metrics_port());
    let lines = |prefix: &str| page.keys().filter(|name| name.starts_with(prefix)).count();
    assert_eq!(lines("escrowmq_queue_depth{"), 50);
    assert_eq!(lines("escrowmq_queue_oldest_seconds{"), 50);
    assert_eq!(page["escrowmq_queue_depth{queue=\"n77\"}"], 6.0);
    assert_eq!(page["escrowmq_queues"], 130.0);
    assert_eq!(page["escrowmq_other_queues"], 80.0);
    assert_eq!(page["escrowmq_other_depth"], 80.0);
    assert_eq!(page["escrowmq_depth"], 135.0);
}

#[test]
fn what_is_not_a_get_of_the_page_is_refused_and_a_flood_of_headers_is_cut_off() {
    let dir = fresh_dir();
    let broker = start(&dir.path().join("data"));
    let port = broker.metrics_port();
    let status = |request: &str| ask(port, request).0.split("\r\n").next().unwrap().to_owned();
    assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), "HTTP/1.1 404 Not Found");
    assert_eq!(status("POST /metrics HTTP/1.1\r\n\r\n"), "HTTP/1.1 405 Method Not Allowed");
    assert_eq!(status("CONNECT\n\n\0"), "HTTP/1.1 400 Bad Request");

    let mut flood = TcpStream::connect(("127.0.0.1", port)).unwrap();
    flood.set_read_timeout(Some(PATIENCE)).unwrap();
    flood.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
    let mut sent = 0;
    while sent < 64 << 20 && flood.write_all(&[b'x'; 64 << 10]).is_ok() {
        sent += 64 << 10;
    }
    // It was told so, or cut off while it still sent.
    let mut answer = Vec::new();
    let told = flood.read_to_end(&mut answer);
    assert!(told.is_err() || answer.starts_with(b"HTTP/1.1 400"), "{told:?}");
    // Others are served whatever such peers do, and who says nothing holds up nobody.
    let silent: Vec<_> = (0..4).map(|_| TcpStream::connect(("127.0.0.1", port))).collect();
    assert_eq!(scrape(port)["escrowmq_queues"], 0.0);
    drop(silent);
}

#[test]
fn a_page_that_others_could_ask_for_is_refused_unless_that_is_said() {
    let dir = fresh_dir();
    let data = dir.path().join("data");
    let path = data.to_str().unwrap();
    let args = ["run", "--data", path, "--listen", ANY_PORT, "--metrics", "0.0.0.0:0"];
    let refused = run_to_end(&args);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("security.open_metrics = true"), "{refused:?}");
    assert!(!data.exists(), "the store was touched");
    let settings = "metrics = \"0.0.0.0:0\"\n[security]\nopen_metrics = true\n";
    let broker = Broker::start_configured(&data, settings);
    assert_eq!(scrape(broker.metrics_port())["escrowmq_queues"], 0.0);
}

#[test]
fn there_is_no_page_unless_it_is_asked_for_and_a_wrong_address_is_refused() {
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    assert!(broker.find_metrics_port().is_none());
    let other = dir.path().join("other");
    let args = ["run", "--data", other.to_str().unwrap(), "--metrics", "here"];
    let refused = run_to_end(&args);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("the setting metrics is here"), "{refused:?}");
}
