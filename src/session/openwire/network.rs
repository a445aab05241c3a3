//! What another broker says of the bridge that it has laid here, and what may cross a bridge.
//!
//! Pure: settings of the other side as it writes them, and the rules that keep messages and demand
//! from going in circles.

use crate::protocol::openwire::Text;
use crate::protocol::openwire::table::{BrokerId, BrokerInfo, ConsumerInfo};

/// The brokers that something has passed, in order.
pub(super) type Path = Option<Vec<Option<BrokerId>>>;

/// The bridge of another broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Network {
    /// The broker that has laid it.
    pub(super) peer: BrokerId,
    /// What it calls its bridge.
    pub(super) name: String,
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
}

impl Network {
    /// What a broker says; nothing where it lays no bridge.
    pub(super) fn read(info: &BrokerInfo) -> Option<Self> {
        let peer = info.broker_id.as_ref().filter(|_| info.network_connection)?;
        let value = peer.value.as_ref().map(|value| Text::cut(&value.to_str()));
        let text = info.network_properties.as_ref().map(Text::to_str).unwrap_or_default();
        let number = |name, other| {
            property(&text, name).and_then(|value| value.parse().ok()).unwrap_or(other)
        };
        let yes = |name| property(&text, name).is_none_or(|value| value == "true");
        let ttl = number("networkTTL", 1);
        let filter = property(&text, "destinationFilter").filter(|filter| !filter.is_empty());
        Some(Self {
            peer: BrokerId { value },
            name: property(&text, "name").unwrap_or_else(|| "NC".to_owned()),
            duplex: info.duplex_connection,
            message_ttl: number("messageTTL", ttl),
            consumer_ttl: number("consumerTTL", ttl),
            conduit: yes("conduitSubscriptions"),
            prefetch: number("prefetchSize", 1000).max(1),
            advisories: filter.unwrap_or_else(|| "ActiveMQ.Advisory.Consumer.>".to_owned()),
            temporary: yes("bridgeTempDestinations"),
        })
    }

    /// Whether a consumer of the other side counts as demand here.
    pub(super) fn wants(&self, info: &ConsumerInfo, own: &BrokerId) -> bool {
        let path = info.broker_path.as_deref().unwrap_or_default();
        let length = i32::try_from(path.len()).unwrap_or(i32::MAX);
        let near = self.consumer_ttl < 0 || length < self.consumer_ttl;
        !info.browser && near && !has(path, own)
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
            network_connection: true,
            network_properties: Text::new(properties),
            ..BrokerInfo::default()
        };
        Network::read(&info).unwrap()
    }

    #[test]
    fn a_bridge_is_read_as_java_writes_it() {
        let it = network("#\n#Fri\nname=A\\:B\nconduitSubscriptions=false\nmessageTTL=3\n");
        assert_eq!((&*it.name, it.conduit, it.message_ttl, it.consumer_ttl), ("A:B", false, 3, 1));
        assert_eq!(Network::read(&BrokerInfo::default()), None);
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
        }
    }
}
