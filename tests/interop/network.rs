//! A network of brokers: ActiveMQ lays a bridge to EscrowMQ, for one direction and for both, and
//! messages go where consumers wait for them, each once.

use super::jms::JAVAX;
use super::support::broker::Broker;
use super::support::fresh_dir;
use super::support::java::Classic;
use super::support::security::{Authority, set_user};

/// Any port for OpenWire.
const ANY: &str = "tcp://127.0.0.1:0";

/// ActiveMQ with a bridge to EscrowMQ.
struct Network {
    escrow: Option<Broker>,
    listen: String,
    classic: Option<Classic>,
    /// What it was started with.
    options: Vec<String>,
    dir: tempfile::TempDir,
}

fn classic(dir: &tempfile::TempDir, port: u16, options: &[String]) -> Classic {
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    Classic::start(&dir.path().join("classic"), port, &options)
}

impl Network {
    /// Of a kind that ActiveMQ's starter knows.
    fn start(kind: &str) -> Self {
        Self::start_after(kind, &[], &[])
    }

    /// With these properties of the bridge, and after these stories of EscrowMQ alone.
    fn start_after(kind: &str, properties: &[&str], stories: &[&str]) -> Self {
        let dir = fresh_dir();
        let escrow = Broker::start_with(&dir.path().join("escrow"), &["--listen", ANY]);
        let listen = format!("tcp://127.0.0.1:{}", escrow.port());
        for story in stories {
            JAVAX.tell_of_two(&format!("Across.{story}"), (&listen, &listen), &mut |_| {});
        }
        let bridge = format!("{kind}={listen}");
        let options: Vec<_> =
            [&*bridge].iter().chain(properties).map(|it| (*it).to_owned()).collect();
        let classic = Some(classic(&dir, 0, &options));
        Self { escrow: Some(escrow), listen, classic, options, dir }
    }

    fn classic(&self) -> String {
        let classic = self.classic.as_ref().expect("it runs");
        format!("tcp://127.0.0.1:{}", classic.port())
    }

    /// Tells a story of messages that go from here to there.
    #[track_caller]
    fn tell(&mut self, story: &str, here: &str, there: &str) {
        let (story, data) = (format!("Across.{story}"), self.dir.path().join("escrow"));
        JAVAX.tell_of_two(&story, (here, there), &mut |what| match what {
            "kill" => drop(self.escrow.take()),
            _ => self.escrow = Some(Broker::start_with(&data, &["--listen", &self.listen])),
        });
    }

    /// The same, where it is the other broker that is killed.
    #[track_caller]
    fn tell_without_classic(&mut self, story: &str, here: &str, there: &str) {
        let port = self.classic.as_ref().expect("it runs").port();
        JAVAX.tell_of_two(&format!("Across.{story}"), (here, there), &mut |what| match what {
            "kill" => drop(self.classic.take()),
            _ => self.classic = Some(classic(&self.dir, port, &self.options)),
        });
    }
}

#[test]
fn a_bridge_for_one_direction_brings_what_is_waited_for() {
    let mut network = Network::start("network");
    let (classic, escrow) = (network.classic(), network.listen.clone());
    for story in ["a_queue", "a_topic", "a_large_message"] {
        network.tell(story, &classic, &escrow);
    }
}

#[test]
fn a_bridge_for_both_directions_brings_what_is_waited_for_and_answers() {
    let mut network = Network::start("duplex");
    let (classic, escrow) = (network.classic(), network.listen.clone());
    for story in ["a_queue", "a_topic", "a_large_message", "an_answer"] {
        network.tell(story, &classic, &escrow);
        network.tell(story, &escrow, &classic);
    }
}

#[test]
fn a_crash_loses_and_doubles_nothing_of_what_crosses() {
    let mut network = Network::start("duplex");
    let (classic, escrow) = (network.classic(), network.listen.clone());
    network.tell("a_crash", &classic, &escrow);
}

/// What a bridge needs to tell of durable subscriptions.
const SYNC: &[&str] = &["syncDurableSubs=true", "dynamicallyIncludedDestinations=[topic://>]"];

#[test]
fn durable_subscribers_get_what_is_published_beyond_a_bridge_while_they_are_away() {
    let mut network = Network::start_after("network", SYNC, &[]);
    let (classic, escrow) = (network.classic(), network.listen.clone());
    network.tell("a_durable_subscription", &classic, &escrow);
    let mut network = Network::start("duplex");
    let (classic, escrow) = (network.classic(), network.listen.clone());
    network.tell("a_durable_subscription", &classic, &escrow);
    network.tell("a_durable_subscription", &escrow, &classic);
}

#[test]
fn a_bridge_that_comes_up_is_told_of_durable_subscriptions_whose_clients_are_away() {
    for kind in ["network", "duplex"] {
        let mut network = Network::start_after(kind, SYNC, &["a_subscription_is_left"]);
        let (classic, escrow) = (network.classic(), network.listen.clone());
        network.tell("a_subscription_is_known", &classic, &escrow);
    }
}

#[test]
fn what_is_published_while_a_bridge_is_down_is_kept_for_durable_subscribers_beyond_it() {
    for properties in [&[], SYNC] {
        let mut network = Network::start_after("duplex", properties, &[]);
        let (classic, escrow) = (network.classic(), network.listen.clone());
        let story = "a_durable_subscription_without_a_bridge";
        network.tell_without_classic(story, &escrow, &classic);
    }
}

#[test]
fn selectors_hold_beyond_a_bridge_that_keeps_consumers_apart() {
    let mut network = Network::start_after("duplex", &["conduitSubscriptions=false"], &[]);
    let (classic, escrow) = (network.classic(), network.listen.clone());
    network.tell("what_a_selector_wants", &classic, &escrow);
    network.tell("what_a_selector_wants", &escrow, &classic);
}

/// Another broker of ActiveMQ, with bridges to these for both directions.
fn third(dir: &tempfile::TempDir, to: &[&str]) -> Classic {
    let bridges = to.iter().flat_map(|to| [format!("duplex={to}"), "networkTTL=3".to_owned()]);
    let options: Vec<_> = ["named=far".to_owned()].into_iter().chain(bridges).collect();
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    Classic::start(&dir.path().join("far"), 0, &options)
}

#[test]
fn what_is_waited_for_behind_two_bridges_comes_through_the_broker_between() {
    let mut network = Network::start_after("duplex", &["networkTTL=3"], &[]);
    let (near, escrow) = (network.classic(), network.listen.clone());
    let third = third(&network.dir, &[&escrow]);
    let far = format!("tcp://127.0.0.1:{}", third.port());
    for story in ["a_queue", "a_topic", "an_answer"] {
        network.tell(story, &near, &far);
        network.tell(story, &far, &near);
    }
}

#[test]
fn in_a_circle_of_three_brokers_each_publication_comes_once() {
    let mut network = Network::start_after("duplex", &["networkTTL=3"], &[]);
    let (near, escrow) = (network.classic(), network.listen.clone());
    let third = third(&network.dir, &[&escrow, &near]);
    let far = format!("tcp://127.0.0.1:{}", third.port());
    for (here, there) in [(&escrow, &far), (&near, &far), (&far, &escrow), (&escrow, &near)] {
        network.tell("a_topic_in_a_circle", here, there);
    }
}

/// The bridge may send to the queue, and ann there may read it.
const RIGHTS: &str = r#"
[[access]]
name = "topic://ActiveMQ.Advisory.>"
read = ["bridge"]
[[access]]
name = "queue://across.queue"
read = ["ann"]
write = ["bridge"]
"#;

#[test]
fn a_bridge_says_who_it_is_and_comes_through_tls() {
    let dir = fresh_dir();
    let authority = Authority::new(dir.path());
    authority.sign("broker");
    let users = dir.path().join("users");
    set_user(&users, "bridge", Some("b"), &[]);
    set_user(&users, "ann", Some("a"), &[]);
    let (certificate, key) = (authority.file("broker", "pem"), authority.file("broker", "key"));
    let settings = format!(
        "[security]\nusers = {users:?}\n\
         [tls]\ncertificate = {certificate:?}\nkey = {key:?}\n{RIGHTS}"
    );
    let file = dir.path().join("settings.toml");
    std::fs::write(&file, settings).expect("write the settings");
    let secure = "ssl://127.0.0.1:0";
    let config = file.to_str().expect("UTF-8");
    let options = ["--config", config, "--listen", ANY, "--listen", secure];
    let escrow = Broker::start_with(&dir.path().join("escrow"), &options);
    let [plain, secure] = escrow.ports() else { panic!("two listeners") };
    let trusts = format!("trusts={}", authority.file("ca", "pem").display());
    let there = format!("tcp://127.0.0.1:{plain}");
    for (number, to) in [there.clone(), format!("ssl://localhost:{secure}")].iter().enumerate() {
        let lays = format!("network={to}");
        let options = [&*trusts, &lays, "userName=bridge", "password=b"];
        let classic = Classic::start(&dir.path().join(number.to_string()), 0, &options);
        let here = format!("tcp://127.0.0.1:{}", classic.port());
        JAVAX.tell_of_two("Across.a_queue_of_users", (&here, &there), &mut |_| {});
    }
}
