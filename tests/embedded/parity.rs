//! The blocking form has what the async form has.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;

/// What a blocking program has in another way than by a method of the same name.
const OTHERWISE: &[(&str, &str, &str)] = &[
    ("Broker", "addresses", "`broker()` gives the broker itself, for what waits for nothing"),
    ("Broker", "builder", "`Builder::open_blocking` opens it"),
    ("Recovery", "all", "an iterator, to be collected"),
    ("Recovery", "next", "an iterator"),
];

/// What `impl`s in files of a room have in public, as type and method, and whether it is async.
fn methods_of(files: impl Iterator<Item = std::path::PathBuf>) -> BTreeSet<(String, String, bool)> {
    let mut found = BTreeSet::new();
    for file in files {
        let mut of = None;
        for line in std::fs::read_to_string(file).unwrap().lines() {
            if let Some(name) = line.strip_prefix("impl ") {
                of = name.strip_suffix(" {").filter(|name| !name.contains(' ')).map(str::to_owned);
            }
            let asynchronous = line.strip_prefix("    pub async fn ");
            let method = asynchronous.or_else(|| line.strip_prefix("    pub fn "));
            if let (Some(of), Some(method)) = (&of, method) {
                let name = method.split(['(', '<']).next().unwrap();
                found.insert((of.clone(), name.to_owned(), asynchronous.is_some()));
            }
        }
    }
    found
}

#[test]
fn whatever_waits_or_leads_to_what_waits_has_a_blocking_form() {
    let room = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/embedded");
    let files = |directory: &Path| {
        let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_file()).collect::<Vec<_>>()
    };
    let (own, others): (Vec<_>, Vec<_>) =
        files(&room).into_iter().partition(|path| path.ends_with("blocking.rs"));
    let asked = methods_of(others.into_iter());
    let there = methods_of(own.into_iter().chain(files(&room.join("blocking"))));
    let mut waits: BTreeSet<&str> = asked.iter().filter(|it| it.2).map(|it| &*it.0).collect();
    // Both forms have one builder.
    waits.remove("Builder");
    assert!(waits.len() >= 10 && asked.len() >= 80, "{waits:?} {asked:?}");
    let mut missing = Vec::new();
    for (of, method, asynchronous) in asked.iter().filter(|(of, ..)| waits.contains(of.as_str())) {
        // A blocking delivery can be looked at like the other one.
        let looked_at = of == "Delivery" && !asynchronous;
        let otherwise = OTHERWISE.iter().any(|(its, name, _)| its == of && name == method);
        if !looked_at && !otherwise && !there.contains(&(of.clone(), method.clone(), false)) {
            missing.push(format!("blocking::{of}::{method}"));
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn a_blocking_program_has_commits_under_ids_durable_subscriptions_and_news_of_failures() {
    let disk = SimDisk::new();
    let broker = on_disk(&disk).open_blocking().unwrap();
    let connection = broker.connect().unwrap();
    let billing = connection.durable("billing");
    let large = || billing.topic("orders").selecting("size = 'large'").unwrap().prefetch(1);
    large().without_local().subscribe("large").unwrap().close().unwrap();
    let transaction = connection.transaction().unwrap();
    for size in ["small", "large"] {
        let order = Message::text(size).property("size", size);
        transaction.send(Destination::topic("orders"), order).unwrap();
    }
    transaction.commit_as("two orders").unwrap();
    assert_eq!(connection.outcome_of("two orders").unwrap(), Outcome::Committed);
    assert_eq!(connection.outcome_of("three orders").unwrap(), Outcome::NotCommitted);
    connection.send(orders(), Message::text("counted").numbered("shop", 1)).unwrap();
    connection.close_producers().unwrap();
    // It left out what its own client has published, until that was another.
    let mut consumer = large().without_local().subscribe("large").unwrap();
    assert!(consumer.recv_timeout(Duration::ZERO).unwrap().is_none());
    let other = broker.connect().unwrap();
    let order = Message::text("theirs").property("size", "large");
    other.send(Destination::topic("orders"), order).unwrap();
    assert_eq!(consumer.recv().unwrap().text(), Some("theirs"));
    consumer.close().unwrap();
    billing.unsubscribe("large").unwrap();

    let mut first = connection.consumer(orders()).priority(1).prefetch(1).subscribe().unwrap();
    first.recv().unwrap().reject().unwrap();
    let dead = Destination::queue("ActiveMQ.DLQ");
    let mut dead = connection.consumer(dead).exclusive().subscribe().unwrap();
    assert_eq!(dead.recv().unwrap().text(), Some("counted"));

    assert!(broker.failed_timeout(Duration::ZERO).is_none());
    disk.fail_at(disk.operations(), Fault::Persistent);
    let error = connection.send(orders(), "lost").unwrap_err();
    assert!(matches!(error, SendError::Ended(Ended::Failed(_))), "{error:?}");
    let told = std::thread::scope(|threads| threads.spawn(|| broker.failed()).join().unwrap());
    assert_eq!(broker.close().unwrap_err().to_string(), told.to_string());
}
