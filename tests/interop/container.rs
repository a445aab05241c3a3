//! Spring's listener container: what most programs use the JMS through. It looks after consumers by
//! itself, so it is a second user of everything that a client does.

use std::io::{BufRead, BufReader, Write};

use super::jms::Server;
use super::support::java::{compile, java};

const JARS: [&str; 2] = ["javax", "spring"];

#[test]
fn containers_move_each_message_once_though_listeners_fail_and_the_broker_is_killed() {
    let mut broker = Server::start();
    let classes = compile(&JARS, "javax", |name| ["Container", "Stage"].contains(&name));
    let mut command = java(&JARS, &classes);
    let mut child = command.args(["Container", &broker.url()]).spawn().expect("missing peer: java");
    let mut stdin = child.stdin.take().expect("piped");
    let mut told = String::new();
    for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
        let line = line.expect("UTF-8");
        match &*line {
            "kill" => broker.kill(),
            "start" => broker.start_again(),
            _ => {
                told = line;
                continue;
            }
        }
        stdin.write_all(b"\n").expect("the container listens");
    }
    assert!(child.wait().expect("its end").success() && told == "true", "it told: {told}");
}
