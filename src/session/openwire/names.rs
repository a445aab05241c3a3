//! Destinations as OpenWire names them, and as the broker does.
//!
//! A temporary destination is one of an ordinary kind to the broker, under a name that says what it
//! is. A composite one is several, with commas between.

use std::sync::Arc;

use super::fault::Problem;
use crate::message::{Destination, TEMPORARY, TEMPORARY_TOPIC, Wildcard, has_wildcards};
use crate::protocol::openwire::Text;
use crate::protocol::openwire::message::{Destination as Wire, DestinationKind};

const KINDS: [(&str, DestinationKind); 4] = [
    ("queue://", DestinationKind::Queue),
    ("topic://", DestinationKind::Topic),
    ("temp-queue://", DestinationKind::TempQueue),
    ("temp-topic://", DestinationKind::TempTopic),
];

/// The destinations that one of the wire stands for: at least one.
pub(super) fn parse(destination: Option<&Wire>) -> Result<Vec<Destination>, Problem> {
    let nowhere = || Problem::destination("a destination with a name is needed");
    let destination = destination.ok_or_else(nowhere)?;
    let name = destination.physical_name.as_ref().ok_or_else(nowhere)?.to_str();
    let parts = name.split(',').map(|part| {
        let part = part.trim();
        let part = part.split_once('?').map_or(part, |(name, _)| name);
        let known =
            KINDS.iter().find_map(|(prefix, kind)| Some((part.strip_prefix(prefix)?, *kind)));
        let (name, kind) = known.unwrap_or((part, destination.kind));
        if name.is_empty() { Err(nowhere()) } else { Ok(named(name, kind)) }
    });
    parts.collect()
}

fn named(name: &str, kind: DestinationKind) -> Destination {
    match kind {
        DestinationKind::Queue => Destination::Queue(Arc::from(name)),
        DestinationKind::Topic => Destination::Topic(Arc::from(name)),
        DestinationKind::TempQueue => Destination::queue(format!("{TEMPORARY}{name}")),
        DestinationKind::TempTopic => Destination::topic(format!("{TEMPORARY_TOPIC}{name}")),
    }
}

/// A destination of the broker as the wire names it.
pub(super) fn wire(destination: &Destination) -> Wire {
    let (kind, name) = match destination {
        Destination::Queue(name) => match name.strip_prefix(TEMPORARY) {
            Some(name) => (DestinationKind::TempQueue, name),
            None => (DestinationKind::Queue, &**name),
        },
        Destination::Topic(name) => match name.strip_prefix(TEMPORARY_TOPIC) {
            Some(name) => (DestinationKind::TempTopic, name),
            None => (DestinationKind::Topic, &**name),
        },
    };
    Wire { kind, physical_name: Some(Text::cut(name)) }
}

/// The destination that a header of another wire names: `/queue/NAME` or `/topic/NAME`.
pub(super) fn of_address(address: &str) -> Option<Wire> {
    let queue = address.strip_prefix("/queue/").map(Destination::queue);
    let found = queue.or_else(|| address.strip_prefix("/topic/").map(Destination::topic));
    found.filter(|found| !found.name().is_empty()).map(|found| wire(&found))
}

/// Whether a destination ends with its connection.
pub(super) fn is_temporary(destination: &Destination) -> bool {
    destination.is_temporary()
}

/// Whether a name stands for many.
pub(super) fn is_pattern(destination: &Destination) -> bool {
    has_wildcards(destination.name())
}

/// Whether who reads from this reads from the topic of that name.
pub(super) fn reads(from: &Destination, topic: &str) -> bool {
    match Wildcard::of(from) {
        Ok(Some(pattern)) => pattern.catches(topic),
        _ => from.name() == topic,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_wire_come_back_as_they_were() {
        for kind in DestinationKind::ALL {
            let one = Wire { kind: *kind, physical_name: Text::new("ID:a-1:2") };
            let found = parse(Some(&one)).unwrap();
            assert_eq!(found.len(), 1);
            assert_eq!(wire(&found[0]), one);
            assert_eq!(is_temporary(&found[0]), kind.number() > 101);
        }
    }

    #[test]
    fn a_composite_name_is_several_of_mixed_kinds_without_their_options() {
        let name = Text::new("a, topic://b?x=1,temp-queue://c");
        let one = Wire { kind: DestinationKind::Queue, physical_name: name };
        let expected = [
            Destination::queue("a"),
            Destination::topic("b"),
            Destination::queue("temp-queue://c"),
        ];
        assert_eq!(parse(Some(&one)).unwrap(), expected);
        let bad = Wire { kind: DestinationKind::Queue, physical_name: Text::new("a,,b") };
        assert!(parse(Some(&bad)).is_err());
        assert!(parse(None).is_err());
    }
}
