//! The real process is killed under load, again and again, and must keep every promise.
//!
//! `ESCROW_CRASH_ROUNDS` sets how often (6 unless told), `ESCROW_SEED` brings a run's choices
//! back; the moment at which a kill meets the broker is the machine's own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::broker::{Broker, assert_no_damage};
use crate::support::ledger::Ledger;
use crate::support::load::{Clients, Errors, drain};
use crate::support::random::{Random, number_from_env};

#[test]
fn killed_under_load_again_and_again_it_loses_repeats_and_invents_nothing() {
    let rounds = number_from_env("ESCROW_CRASH_ROUNDS").unwrap_or(6);
    let mut random = Random::from_env();
    let dir = crate::support::fresh_dir();
    let data = dir.path().join("data");
    let log = dir.path().join("log");
    let ledger = Arc::new(Ledger::default());
    let mut kills = Kills::default();
    let started = Instant::now();

    for _ in 0..rounds {
        if random.one_in(3) {
            // Most of the risk of a start lies in its first instants: recovery, seal, first write.
            let starting = Broker::spawn(&data, &log);
            std::thread::sleep(Duration::from_micros(random.below(40_000)));
            starting.kill();
            kills.in_start += 1;
        }
        let broker = Broker::spawn(&data, &log).wait_ready();
        let clean = random.one_in(5);
        let errors = if clean { Errors::Allowed } else { Errors::Violate };
        let clients = Clients::start(&ledger, broker.port(), errors, &mut random);
        wait_for_work(&ledger, &mut random);
        if clean {
            let status = broker.terminate();
            assert!(status.success(), "SIGTERM under load ends with {status}");
            kills.clean += 1;
        } else {
            broker.kill();
            kills.under_load += 1;
        }
        clients.join();
        ledger.check();
    }

    let broker = Broker::spawn(&data, &log).wait_ready();
    drain(&ledger, broker.port());
    ledger.check_drained();
    // What the drain consumed must stay consumed: the second finds nothing but its own marks.
    let before = ledger.counts().deliveries;
    broker.kill();
    let broker = Broker::spawn(&data, &log).wait_ready();
    drain(&ledger, broker.port());
    ledger.check_drained();
    let marks = ledger.counts().deliveries - before;
    assert_eq!(
        marks,
        crate::support::load::QUEUES.len() as u64,
        "messages came back after the drain"
    );
    assert!(broker.terminate().success());
    assert_no_damage(&data);

    println!("{kills:?} in {:.1?}: {}", started.elapsed(), ledger.counts());
}

#[test]
fn a_clean_end_waits_for_no_client_that_never_pauses() {
    let mut random = Random::from_env();
    let dir = crate::support::fresh_dir();
    let data = dir.path().join("data");
    let ledger = Arc::new(Ledger::default());
    for _ in 0..5 {
        let broker = Broker::start(&data);
        let clients = Clients::start(&ledger, broker.port(), Errors::Allowed, &mut random);
        wait_for_work(&ledger, &mut random);
        let before = ledger.counts().confirmed;
        let status = broker.terminate();
        clients.join();
        ledger.check();
        assert!(status.success(), "SIGTERM under load ends with {status}");
        // What had arrived may still be done; a broker that takes on more may never end.
        let after = ledger.counts().confirmed - before;
        assert!(after < 1_000, "{after} more sends were taken and confirmed after SIGTERM");
    }
}

/// How the lives of the broker ended.
#[derive(Debug, Default)]
struct Kills {
    under_load: u32,
    in_start: u32,
    clean: u32,
}

/// Waits until the clients have got some random amount of work through.
fn wait_for_work(ledger: &Ledger, random: &mut Random) {
    let before = ledger.counts();
    let sends = before.confirmed + 20 + random.below(800);
    let acks = before.acked + random.below(200);
    crate::support::wait_until("the clients got work through", || {
        let now = ledger.counts();
        ledger.has_violations() || (now.confirmed >= sends && now.acked >= acks)
    });
    // Counts move when confirmations arrive; a kill a little later meets the broker elsewhere.
    std::thread::sleep(Duration::from_micros(random.below(5_000)));
}
