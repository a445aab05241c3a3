//! What another broker says of the bridge that it has laid here, and what may cross a bridge.
//!
//! Pure: settings of the other side as it writes them, and the rules that keep messages and demand
//! from going in circles.

use super::names;
use crate::message::Destination;
use crate::protocol::openwire::Text;
use crate::protocol::openwire::message::{Destination as Wire, DestinationKind};
use crate::protocol::openwire::table::{BrokerId, BrokerInfo, ConsumerInfo};

/// How the names of durable subscriptions begin that bridges keep.
pub(super) const LASTING: &str = "NC-DS_";

/// The brokers that something has passed, in order.
pub(super) type Path = Option<Vec<Option<BrokerId>>>;

/// The bridge of another broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Network {
    /// The broker that has laid it.
    pub(super) peer: BrokerId,
    /// What it calls its bridge.
    pub(super) name: String,
    /// What others are told of that broker.
    pub(super) about: BrokerInfo,
    /// It is for both directions.
    pub(super) duplex: bool,
    /// Brokers that a message, and a consumer's demand, may come through; negative is any number.
    message_ttl: i32,
    consumer_ttl: i32,
    /// Consumers of one destination are one there, and get all of it.
    pub(super) conduit: bool,
    pub(super) prefetch: i32,
    /// The topics of advisories on which its consumers are told of.
    pub(super) advisories: String,
    /// Its temporary destinations are known here.
    pub(super) temporary: bool,
    /// A consumer that is waited for over another bridge already is no demand: of topics, and of
    /// queues.
    one_way: (bool, bool),
    /// Each side tells the other of its durable subscriptions when the bridge comes up.
    pub(super) syncs: bool,
    /// Only consumers that are there make demand, not subscriptions that have been.
    pub(super) dynamic_only: bool,
    /// The destinations of which it tells so.
    included: Vec<Included>,
    /// As whom the other side's durable subscriptions are kept here.
    pub(super) client: String,
}

/// Destinations of which a bridge is to tell, by name or pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Included {
    destination: Destination,
    /// Consumers that are not durable count as if they were.
    forced: bool,
}

impl Network {
    /// What a broker says to the one that calls itself `own`; nothing where it lays no bridge.
    pub(super) fn read(info: &BrokerInfo, own: &str) -> Option<Self> {
        let peer = info.broker_id.as_ref().filter(|_| info.network_connection)?;
        let value = peer.value.as_ref().map(|value| Text::cut(&value.to_str()));
        let text = info.network_properties.as_ref().map(Text::to_str).unwrap_or_default();
        let number = |name, other| {
            property(&text, name).and_then(|value| value.parse().ok()).unwrap_or(other)
        };
        let yes = |name| property(&text, name).is_none_or(|value| value == "true");
        let word = |name, other: &str| property(&text, name).unwrap_or_else(|| other.to_owned());
        let ttl = number("networkTTL", 1);
        let filter = property(&text, "destinationFilter").filter(|filter| !filter.is_empty());
        let (name, between) = (word("name", "NC"), word("clientIdToken", "_"));
        let theirs = info.broker_name.as_ref().map(Text::to_str).unwrap_or_default();
        let peer = BrokerId { value };
        let copy = |text: &Option<Text>| text.as_ref().map(|text| Text::cut(&text.to_str()));
        let about = BrokerInfo {
            broker_id: Some(peer.clone()),
            broker_url: copy(&info.broker_url),
            broker_name: copy(&info.broker_name),
            network_connection: true,
            ..BrokerInfo::default()
        };
        Some(Self {
            peer,
            about,
            client: [&name, &*theirs, "inbound", own].join(&between),
            name,
            duplex: info.duplex_connection,
            message_ttl: number("messageTTL", ttl),
            consumer_ttl: number("consumerTTL", ttl),
            conduit: yes("conduitSubscriptions"),
            prefetch: number("prefetchSize", 1000).max(1),
            advisories: filter.unwrap_or_else(|| "ActiveMQ.Advisory.Consumer.>".to_owned()),
            temporary: yes("bridgeTempDestinations"),
            one_way: (
                yes("suppressDuplicateTopicSubscriptions"),
                word("suppressDuplicateQueueSubscriptions", "false") == "true",
            ),
            syncs: word("syncDurableSubs", "false") == "true",
            dynamic_only: word("dynamicOnly", "false") == "true",
            included: included(&word("dynamicallyIncludedDestinations", "")),
        })
    }

    /// Whether a consumer of the other side counts as demand here.
    pub(super) fn wants(&self, info: &ConsumerInfo, own: &BrokerId) -> bool {
        let path = info.broker_path.as_deref().unwrap_or_default();
        let length = i32::try_from(path.len()).unwrap_or(i32::MAX);
        let near = self.consumer_ttl < 0 || length < self.consumer_ttl;
        !info.browser && near && !has(path, own)
    }

    /// Whether one bridge alone waits for what a consumer of such a destination does.
    pub(super) fn is_one_way(&self, destination: Option<&Wire>) -> bool {
        let is_topic = |it: &Wire| it.kind == DestinationKind::Topic;
        if destination.is_some_and(is_topic) { self.one_way.0 } else { self.one_way.1 }
    }

    /// Whether the other side is told of a durable subscription: not of what this very bridge
    /// keeps, nor of another's, where those are too far away to be heard of.
    pub(super) fn tells_of(&self, client: &str, name: &str, topic: &str) -> bool {
        let bridges = name.starts_with(LASTING);
        let own = bridges && client.starts_with(&self.name);
        let far = bridges && self.consumer_ttl == 1;
        self.consumer_ttl != 0 && !own && !far && self.includes(topic)
    }

    /// Whether the other side is told of those who listen to a topic as if they were durable.
    pub(super) fn forces(&self, topic: &str) -> bool {
        self.included(topic).is_some_and(|included| included.forced)
    }

    /// Whether there may be such topics.
    pub(super) fn forces_some(&self) -> bool {
        self.included.iter().any(|included| included.forced)
    }

    /// Whether the other side is told of durable subscriptions to a topic at all.
    pub(super) fn includes(&self, topic: &str) -> bool {
        self.included(topic).is_some()
    }

    fn included(&self, topic: &str) -> Option<&Included> {
        let is_of = |it: &&Included| {
            matches!(it.destination, Destination::Topic(_)) && names::reads(&it.destination, topic)
        };
        self.included.iter().find(is_of)
    }

    /// Whether a message that has come through these brokers may go over to the other side: what
    /// [`condition`](Self::condition) says, for what is kept whatever it says.
    pub(super) fn passes(&self, path: &Path) -> bool {
        let path = path.as_deref().unwrap_or_default();
        let near = usize::try_from(self.message_ttl).is_ok_and(|ttl| path.len() >= ttl);
        !near && !has(path, &self.peer)
    }

    /// The condition on messages that may go over to the other side: those that have not been
    /// there, and have not come through too many brokers.
    pub(super) fn condition(&self) -> String {
        let path = "JMSActiveMQBrokerPath";
        let Ok(ttl) = usize::try_from(self.message_ttl) else {
            return format!("{path} IS NULL OR {path} NOT LIKE {}", self.with_peer());
        };
        match ttl {
            0 => "1 = 0".to_owned(),
            1 => format!("{path} IS NULL"),
            // There is a comma between two brokers, and none in their names.
            ttl => format!(
                "{path} IS NULL OR ({path} NOT LIKE {} AND {path} NOT LIKE '%{}')",
                self.with_peer(),
                ",%".repeat(ttl - 1)
            ),
        }
    }

    fn with_peer(&self) -> String {
        let name = self.peer.value.as_ref().map(Text::to_string).unwrap_or_default();
        let mut pattern = String::new();
        for c in name.chars() {
            match c {
                '%' | '_' | '!' => pattern.extend(['!', c]),
                '\'' => pattern.push_str("''"),
                c => pattern.push(c),
            }
        }
        format!("'%{pattern}%' ESCAPE '!'")
    }
}

fn has(path: &[Option<BrokerId>], broker: &BrokerId) -> bool {
    path.iter().flatten().any(|passed| passed == broker)
}

/// What a connector lists: `[queue://A, topic://B.>?forceDurable=true]`. What cannot be read is
/// nothing here.
fn included(text: &str) -> Vec<Included> {
    let parts = text.trim_matches(['[', ']']).split(',').filter_map(|part| {
        let physical_name = Text::new(part);
        let wire = Wire { kind: DestinationKind::Queue, physical_name };
        let destination = names::parse(Some(&wire)).ok()?.pop()?;
        Some(Included { destination, forced: part.contains("forceDurable=true") })
    });
    parts.collect()
}

/// A path that goes on through another broker.
pub(super) fn through(path: &Path, broker: &BrokerId) -> Path {
    let passed = path.iter().flatten().cloned();
    Some(passed.chain([Some(broker.clone())]).collect())
}

/// A value of a Java properties file: one a line, and what would end a name or value escaped.
fn property(text: &str, name: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    let mut plain = String::new();
    let mut escaped = false;
    for c in value.trim_end().chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            plain.push(c);
            escaped = false;
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selector::{Selector, Subject, Value};

    /// The brokers that a message has passed.
    struct Passed(Option<&'static str>);

    impl Subject for Passed {
        fn value(&self, name: &str) -> Value<'_> {
            assert_eq!(name, "JMSActiveMQBrokerPath");
            self.0.map_or(Value::Null, Value::Text)
        }
    }

    fn network(properties: &str) -> Network {
        let info = BrokerInfo {
            broker_id: Some(BrokerId { value: Text::new("ID:b_1%'x") }),
            broker_name: Text::new("other"),
            network_connection: true,
            network_properties: Text::new(properties),
            ..BrokerInfo::default()
        };
        Network::read(&info, "own").unwrap()
    }

    #[test]
    fn a_bridge_is_read_as_java_writes_it() {
        let it = network("#\n#Fri\nname=A\\:B\nconduitSubscriptions=false\nmessageTTL=3\n");
        assert_eq!((&*it.name, it.conduit, it.message_ttl, it.consumer_ttl), ("A:B", false, 3, 1));
        assert_eq!(Network::read(&BrokerInfo::default(), "own"), None);
    }

    #[test]
    fn demand_does_not_go_in_circles() {
        let own = BrokerId { value: Text::new("own") };
        let consumer = |path: &[&BrokerId]| ConsumerInfo {
            broker_path: Some(path.iter().map(|it| Some((*it).clone())).collect()),
            ..ConsumerInfo::default()
        };
        let other = BrokerId { value: Text::new("other") };
        let near = network("");
        assert!(near.wants(&consumer(&[]), &own) && !near.wants(&consumer(&[&other]), &own));
        let far = network("consumerTTL=-1");
        assert!(far.wants(&consumer(&[&other]), &own) && !far.wants(&consumer(&[&own]), &own));
        let browser = ConsumerInfo { browser: true, ..ConsumerInfo::default() };
        assert!(!near.wants(&browser, &own));
    }

    #[test]
    fn no_message_goes_back_or_too_far() {
        let crosses = |properties: &str, path: Option<&'static str>| {
            let condition = network(properties).condition();
            let selector = Selector::parse_optional(&condition).unwrap().unwrap();
            selector.matches(&Passed(path))
        };
        for (ttl, path, expected) in [
            ("1", None, true),
            ("1", Some("[ID:a]"), false),
            ("2", Some("[ID:a]"), true),
            ("2", Some("[ID:a, ID:c]"), false),
            ("3", Some("[ID:b_1%'x]"), false),
            ("3", Some("[ID:bc1%'x]"), true),
            ("-1", Some("[ID:a, ID:c, ID:d]"), true),
            ("-1", Some("[ID:a, ID:b_1%'x]"), false),
            ("0", None, false),
        ] {
            let properties = format!("messageTTL={ttl}");
            assert_eq!(crosses(&properties, path), expected, "{ttl} {path:?}");
            let passed = path.map(|path| {
                let of = |name| Some(BrokerId { value: Text::new(name) });
                path.trim_matches(['[', ']']).split(", ").map(of).collect()
            });
            assert_eq!(network(&properties).passes(&passed), expected, "{ttl} {path:?}");
        }
    }

    #[test]
    fn the_other_side_is_told_of_what_it_includes_and_not_of_its_own() {
        let words = "name=N\nsyncDurableSubs=true\ndynamicallyIncludedDestinations=";
        let list = "[queue\\://q, topic\\://a.>, topic\\://b?forceDurable\\=true]\n";
        let it = network(&format!("{words}{list}"));
        assert!(it.syncs && !it.dynamic_only && it.client == "N_other_inbound_own");
        for (client, name, topic, expected) in [
            ("c", "s", "a.b", true),
            ("c", "s", "b", true),
            ("c", "s", "q", false),
            ("c", "s", "c", false),
            ("N_other_inbound_own", "NC-DS_own_b", "b", false),
            ("M_third_inbound_own", "NC-DS_own_b", "b", false),
        ] {
            assert_eq!(it.tells_of(client, name, topic), expected, "{client} {name} {topic}");
        }
        assert!(it.forces("b") && !it.forces("a.b"));
        let far = network(&format!("consumerTTL=2\n{words}{list}"));
        assert!(far.tells_of("M_third_inbound_own", "NC-DS_own_b", "b"));
        assert!(!network("").tells_of("c", "s", "b"), "nothing is told where nothing is listed");
    }
}
