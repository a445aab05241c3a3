//! Clients of other makers against the real broker: stomp.py and stompit, in every version of
//! STOMP, and those of ActiveMQ for Java (`jms.rs`). Each test is one story in one version, told by
//! the peer's own script in this folder.
//!
//! `.ci/run` installs the peers under `target/ci`; `ESCROW_PEERS` names another place.

mod container;
mod entering;
mod jms;
mod money;
mod network;
#[path = "../support/mod.rs"]
mod support;
mod verdicts;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::broker::Broker;
use support::java::peers;

/// One peer: how it is called and started.
struct Peer {
    name: &'static str,
    script: &'static str,
    /// What must be there for it to run, below the folder of peers.
    needs: &'static str,
    program: fn(peers: &Path) -> PathBuf,
}

const STOMP_PY: Peer = Peer {
    name: "stomp.py",
    script: "tests/interop/stomp_py.py",
    needs: "python/bin/python",
    program: |peers| peers.join("python/bin/python"),
};

const STOMPIT: Peer = Peer {
    name: "stompit",
    script: "tests/interop/stompit.mjs",
    needs: "npm/node_modules/stompit",
    program: |_| PathBuf::from("node"),
};

/// Runs one story against a broker of its own.
#[track_caller]
fn tell(peer: &Peer, story: &str, version: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let peers = peers();
    assert!(peers.join(peer.needs).exists(), "missing peer: {} (run .ci/run)", peer.name);

    let dir = support::fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let mut command = Command::new((peer.program)(&peers));
    command.arg(root.join(peer.script)).args([story, version, &broker.port().to_string()]);
    command.env("ESCROW_PEERS_NPM", peers.join("npm")).stdin(Stdio::null());
    let output = command.output();
    let output = output.unwrap_or_else(|e| panic!("missing peer: {} ({e})", peer.name));
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    let status = output.status;
    assert!(status.success(), "{} tells {story} in {version}: {status}\n{out}{err}", peer.name);
}

/// One test for each version that a story is for.
macro_rules! stories {
    ($peer:ident: $($story:ident in $($test:ident = $version:literal),+;)+) => {
        $(mod $story {
            $(#[test]
            fn $test() {
                crate::tell(&crate::$peer, stringify!($story), $version);
            })+
        })+
    };
}

mod stomp_py {
    stories! { STOMP_PY:
        sends_and_receives in v1_0 = "1.0", v1_1 = "1.1", v1_2 = "1.2";
        auto_ack_consumes_on_delivery in v1_0 = "1.0", v1_1 = "1.1", v1_2 = "1.2";
        client_ack_covers_all_before in v1_0 = "1.0", v1_1 = "1.1", v1_2 = "1.2";
        individual_ack_covers_one in v1_0 = "1.0", v1_1 = "1.1", v1_2 = "1.2";
        a_commit_does_all_and_an_abort_nothing in v1_0 = "1.0", v1_1 = "1.1", v1_2 = "1.2";
        // There is no NACK in 1.0.
        nack_brings_a_message_back in v1_1 = "1.1", v1_2 = "1.2";
        unacknowledged_goes_to_the_next in v1_0 = "1.0", v1_1 = "1.1", v1_2 = "1.2";
        prefetch_limits_what_is_outstanding in v1_0 = "1.0", v1_1 = "1.1", v1_2 = "1.2";
        bodies_arrive_byte_by_byte in v1_0 = "1.0", v1_1 = "1.1", v1_2 = "1.2";
        large_body_arrives_whole in v1_0 = "1.0", v1_1 = "1.1", v1_2 = "1.2";
        headers_keep_their_marks in v1_0 = "1.0", v1_1 = "1.1", v1_2 = "1.2";
        // There are no heart-beats in 1.0.
        heart_beats_keep_an_idle_connection in v1_1 = "1.1", v1_2 = "1.2";
        topic_reaches_all_who_listen_now in v1_0 = "1.0", v1_1 = "1.1", v1_2 = "1.2";
        unsubscribed_gets_no_more in v1_0 = "1.0", v1_1 = "1.1", v1_2 = "1.2";
        errors_say_why in v1_0 = "1.0", v1_1 = "1.1", v1_2 = "1.2";
        error_names_the_receipt_it_answers in v1_0 = "1.0", v1_1 = "1.1", v1_2 = "1.2";
        a_schedule_repeats_and_a_transaction_delays in v1_0 = "1.0", v1_1 = "1.1", v1_2 = "1.2";
        many_messages_keep_their_order in v1_0 = "1.0", v1_1 = "1.1", v1_2 = "1.2";
    }
}

mod stompit {
    stories! { STOMPIT:
        sends_and_receives in v1_0 = "1.0", v1_1 = "1.1", v1_2 = "1.2";
        auto_ack_consumes_on_delivery in v1_0 = "1.0", v1_1 = "1.1", v1_2 = "1.2";
        client_ack_covers_all_before in v1_0 = "1.0", v1_1 = "1.1", v1_2 = "1.2";
        individual_ack_covers_one in v1_0 = "1.0", v1_1 = "1.1", v1_2 = "1.2";
        a_commit_does_all_and_an_abort_nothing in v1_0 = "1.0", v1_1 = "1.1", v1_2 = "1.2";
        nack_brings_a_message_back in v1_1 = "1.1", v1_2 = "1.2";
        bodies_arrive_byte_by_byte in v1_0 = "1.0", v1_1 = "1.1", v1_2 = "1.2";
        headers_keep_their_marks in v1_0 = "1.0", v1_1 = "1.1", v1_2 = "1.2";
        heart_beats_keep_an_idle_connection in v1_1 = "1.1", v1_2 = "1.2";
        topic_reaches_all_who_listen_now in v1_0 = "1.0", v1_1 = "1.1", v1_2 = "1.2";
        unsubscribed_gets_no_more in v1_0 = "1.0", v1_1 = "1.1", v1_2 = "1.2";
        errors_say_why in v1_0 = "1.0", v1_1 = "1.1", v1_2 = "1.2";
    }
}
