//! The fuzzers' corpora, run as plain tests.

use std::path::Path;

use escrowmq::protocol::openwire::fuzz::fuzz_openwire;
use escrowmq::protocol::stomp::fuzz::fuzz_stomp;
use escrowmq::record::fuzz_record;
use escrowmq::selector::fuzz::fuzz_selector;
use escrowmq::session::stomp::fuzz::fuzz_stomp_session;
use escrowmq::wal::fuzz::fuzz_recovery;

/// Runs every file of a target's corpus; at least so many must be there.
fn run(target: &str, least: usize, body: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files = 0;
    for entry in std::fs::read_dir(&folder).expect("the corpus is part of the source") {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        body(&std::fs::read(&path).unwrap());
        files += 1;
    }
    assert!(files >= least, "{files} files in {}", folder.display());
}

#[test]
fn what_stomp_peers_send_never_panics_and_reads_alike_however_it_is_split() {
    run("stomp_decode", 20, |data| {
        fuzz_stomp(data);
        fuzz_stomp_session(data);
    });
}

#[test]
fn what_openwire_peers_send_never_panics_and_is_written_as_it_was_read() {
    run("openwire_decode", 200, fuzz_openwire);
}

#[test]
fn bytes_are_a_record_in_its_one_form_or_none() {
    run("record_decode", 10, fuzz_record);
}

#[test]
fn no_bytes_in_a_log_make_recovery_panic() {
    run("log_recovery", 10, fuzz_recovery);
}

#[test]
fn any_text_is_a_selector_that_reads_back_or_a_clear_no() {
    run("selector_parse", 20, fuzz_selector);
}
