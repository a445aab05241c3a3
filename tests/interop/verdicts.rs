//! What a transaction manager sees of two brokers, and of one that gives branches little time.

use super::jms::{JAKARTA, JAVAX, Server};
use super::support::broker::Broker;
use super::support::fresh_dir;

#[test]
fn two_brokers_are_not_one() {
    let (one, two) = (Server::start(), Server::start());
    for line in [&JAVAX, &JAKARTA] {
        let story = "Verdicts.two_brokers_are_not_one";
        line.tell_of_two(story, (&one.url(), &two.url()), &mut |_| {});
    }
}

#[test]
fn a_branch_that_takes_too_long_is_rolled_back() {
    let dir = fresh_dir();
    let settings = dir.path().join("settings.toml");
    std::fs::write(&settings, "[xa]\ntimeout = 1\n").expect("write the settings");
    let settings = settings.to_str().expect("UTF-8");
    let options = ["--config", settings, "--listen", "tcp://127.0.0.1:0"];
    let broker = Broker::start_with(&dir.path().join("data"), &options);
    let url = format!("tcp://127.0.0.1:{}", broker.port());
    for line in [&JAVAX, &JAKARTA] {
        let story = "Verdicts.a_branch_that_takes_too_long_is_rolled_back";
        line.tell_of_two(story, (&url, &url), &mut |_| {});
    }
}
