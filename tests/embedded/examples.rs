//! The examples, run as programs run them, and held to what they say.

use super::support::fresh_dir;

#[allow(dead_code, unreachable_pub, reason = "it is a program too, with a `main`")]
#[path = "../../examples/work_queue.rs"]
mod work_queue;

#[allow(dead_code, unreachable_pub, reason = "it is a program too, with a `main`")]
#[path = "../../examples/transfer.rs"]
mod transfer;

#[test]
fn transfers_move_money_and_make_none() {
    let dir = fresh_dir();
    // However often the balances are only looked at.
    let later = [(0, 200); 9];
    for expected in [(50, 150)].into_iter().chain(later) {
        let balances = super::story(transfer::run(&dir.path().join("accounts"))).unwrap();
        assert_eq!(balances, expected);
    }
}

#[test]
fn transfers_begin_where_a_first_run_ended_before_it_opened_the_accounts() {
    let dir = fresh_dir();
    let accounts = dir.path().join("accounts");
    super::story(async { escrowmq::Broker::open(&accounts).await.unwrap().close().await.unwrap() });
    assert_eq!(super::story(transfer::run(&accounts)).unwrap(), (50, 150));
}

#[test]
fn the_work_queue_does_every_job_once_and_sets_apart_what_cannot_be_done() {
    let dir = fresh_dir();
    let done = super::story(work_queue::run(&dir.path().join("jobs"))).unwrap();
    assert_eq!((done.finished, done.set_apart), (work_queue::JOBS - 1, 1));
}

#[allow(dead_code, unreachable_pub, reason = "it is a program too, with a `main`")]
#[path = "../../examples/xa_transfer.rs"]
mod xa_transfer;

#[test]
fn transfers_between_banks_move_money_and_make_none() {
    let dir = fresh_dir();
    let mut told = Vec::new();
    for expected in [(1000, 0), (249, 751), (61, 939)] {
        let transfers = if told.is_empty() { 0 } else { 2 };
        let banks = dir.path().join("banks");
        let balances = xa_transfer::run(&banks, transfers, &mut |line| told.push(line)).unwrap();
        assert_eq!(balances, expected, "{told:?}");
    }
}
