//! Who is let in by OpenWire and what he may do there: ActiveMQ's own clients, of both lines, with
//! passwords, with certificates, and without.

use super::jms::{JAKARTA, JAVAX, Line};
use super::support::broker::Broker;
use super::support::fresh_dir;
use super::support::security::{Authority, set_user};

/// What ann may do, and bob.
const RIGHTS: &str = r#"
[[access]]
name = "queue://in"
write = ["ann"]
[[access]]
name = "queue://out"
read = ["ann"]
[[access]]
name = "queue://own"
read = ["ann"]
write = ["ann"]
admin = ["ann"]
[[access]]
name = "topic://VirtualTopic.prices"
write = ["ann"]
[[access]]
name = "queue://Consumer.desk.VirtualTopic.>"
read = ["ann"]
[[access]]
name = "queue://open.>"
read = ["ann"]
write = ["ann", "bob"]
"#;

const PLAIN: &str = "tcp://127.0.0.1:0";

#[track_caller]
fn tell(line: &'static Line, story: &str, listen: &str) {
    let dir = fresh_dir();
    let authority = Authority::new(dir.path());
    ["broker", "ann"].into_iter().for_each(|name| authority.sign(name));
    // Somebody who calls herself ann, and is known to another authority.
    let elsewhere = fresh_dir();
    Authority::new(elsewhere.path()).sign("ann");
    for kind in ["pem", "key"] {
        let theirs = elsewhere.path().join(format!("ann.{kind}"));
        std::fs::copy(theirs, authority.file("stranger", kind)).expect("copy a certificate");
    }
    let users = dir.path().join("users");
    set_user(&users, "ann", Some("a"), &[]);
    set_user(&users, "bob", Some("b"), &[]);
    let settings = format!(
        "[security]\nusers = {users:?}\n[tls]\ncertificate = {:?}\nkey = {:?}\nclients = {:?}\n{}",
        authority.file("broker", "pem"),
        authority.file("broker", "key"),
        authority.file("ca", "pem"),
        RIGHTS
    );
    let file = dir.path().join("settings.toml");
    std::fs::write(&file, settings).expect("write the settings");
    let options = ["--config", file.to_str().expect("UTF-8"), "--listen", listen];
    let broker = Broker::start_with(&dir.path().join("data"), &options);
    let scheme = listen.split(':').next().expect("a scheme");
    let url = format!("{scheme}://localhost:{}", broker.port());
    let folder = dir.path().to_str().expect("UTF-8");
    line.tell_of_two(&format!("Entering.{story}"), (&url, folder), &mut |_| {});
}

#[test]
fn passwords_are_asked_for() {
    tell(&JAVAX, "passwords_are_asked_for", PLAIN);
    tell(&JAKARTA, "passwords_are_asked_for", PLAIN);
}

#[test]
fn rights_are_kept_to() {
    tell(&JAVAX, "rights_are_kept_to", PLAIN);
    tell(&JAKARTA, "rights_are_kept_to", PLAIN);
}

#[test]
fn rights_reach_names_of_many_and_what_is_temporary() {
    tell(&JAVAX, "rights_reach_names_of_many_and_what_is_temporary", PLAIN);
    tell(&JAKARTA, "rights_reach_names_of_many_and_what_is_temporary", PLAIN);
}

#[test]
fn certificates_are_looked_at() {
    tell(&JAVAX, "certificates_are_looked_at", "ssl://127.0.0.1:0");
    tell(&JAKARTA, "certificates_are_looked_at", "ssl://127.0.0.1:0");
}
