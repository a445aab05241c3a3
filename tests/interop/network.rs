//! A network of brokers: ActiveMQ lays a bridge to EscrowMQ, for one direction and for both, and
//! messages go where consumers wait for them, each once.

use super::jms::JAVAX;
use super::support::broker::Broker;
use super::support::fresh_dir;
use super::support::java::Classic;

/// Any port for OpenWire.
const ANY: &str = "tcp://127.0.0.1:0";

/// ActiveMQ with a bridge to EscrowMQ.
struct Network {
    escrow: Option<Broker>,
    listen: String,
    classic: Classic,
    dir: tempfile::TempDir,
}

impl Network {
    /// Of a kind that ActiveMQ's starter knows.
    fn start(kind: &str) -> Self {
        let dir = fresh_dir();
        let escrow = Broker::start_with(&dir.path().join("escrow"), &["--listen", ANY]);
        let listen = format!("tcp://127.0.0.1:{}", escrow.port());
        let bridge = format!("{kind}={listen}");
        let classic = Classic::start(&dir.path().join("classic"), 0, &[&bridge]);
        Self { escrow: Some(escrow), listen, classic, dir }
    }

    fn classic(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.classic.port())
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
