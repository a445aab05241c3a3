//! What the operator's commands find of a broker inside a program.

use std::path::Path;

use escrowmq::{Broker, Message, Vote, Xid, blocking};

use super::support::broker::{run_to_end, said};
use super::support::fresh_dir;
use super::{orders, small};

fn run(words: &[&str]) -> (bool, String) {
    let output = run_to_end(words);
    (output.status.success(), said(&output))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

#[test]
fn an_operator_ends_branches_and_copies_the_store_of_a_program_that_lets_them_in() {
    let dir = fresh_dir();
    let (data, copy) = (dir.path().join("data"), dir.path().join("copy"));
    let broker = small(&data).operated().open_blocking().unwrap();
    let connection = broker.connect().unwrap();
    let xid = Xid::new(7, b"a transaction", b"a branch").unwrap();
    let branch = connection.xa().start(&xid).unwrap();
    branch.send(orders(), Message::text("order")).unwrap();
    branch.end().unwrap();
    assert_eq!(connection.xa().prepare(&xid).unwrap(), Vote::Ok);

    let (well, listed) = run(&["xa", "list", "--data", text(&data)]);
    assert!(well && listed.contains(&xid.to_string()), "{listed}");
    let (well, told) = run(&["store", "backup", text(&data), text(&copy)]);
    assert!(well, "{told}");
    let (well, told) = run(&["xa", "commit", &xid.to_string(), "--yes", "--data", text(&data)]);
    assert!(well, "{told}");
    let (well, queues) = run(&["queue", "list", "--data", text(&data)]);
    assert!(well && queues.contains("orders"), "{queues}");
    let mut consumer = connection.subscribe(orders()).unwrap();
    assert_eq!(consumer.recv().unwrap().text(), Some("order"));

    drop((consumer, connection));
    broker.close().unwrap();
    assert!(!data.join("admin.sock").exists(), "a clean end leaves no socket");
    let (well, told) = run(&["queue", "list", "--data", text(&data)]);
    assert!(!well && told.contains("broker"), "{told}");
}

#[test]
fn a_program_that_does_not_let_operators_in_has_no_socket_for_them() {
    let dir = fresh_dir();
    let broker: blocking::Broker = small(dir.path()).open_blocking().unwrap();
    assert!(!dir.path().join("admin.sock").exists());
    broker.close().unwrap();
    let far = dir.path().join("x".repeat(120));
    let error = Broker::builder(&far).operated().open_blocking().unwrap_err();
    assert!(error.to_string().contains("no socket for operators"), "{error}");
}
