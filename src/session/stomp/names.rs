//! Names on the wire: destinations, message ids, acknowledgement ids.

use std::fmt;
use std::sync::Arc;

use super::fault::Fault;
use crate::broker::command::MessageId;
use crate::ids::{Lsn, SubscriptionId, Tag};
use crate::message::Destination;

const QUEUE: &str = "/queue/";
const TOPIC: &str = "/topic/";

/// The destination that a header names.
pub(super) fn parse_destination(value: &str) -> Result<Destination, Fault> {
    let named = |name: &str| (!name.is_empty()).then(|| Arc::from(name));
    let destination = if let Some(name) = value.strip_prefix(QUEUE) {
        named(name).map(Destination::Queue)
    } else if let Some(name) = value.strip_prefix(TOPIC) {
        named(name).map(Destination::Topic)
    } else {
        None
    };
    destination.ok_or_else(|| {
        Fault::bad_header("destination", value, "/queue/ or /topic/ followed by a name")
    })
}

/// A destination as a header names it.
pub(super) struct DestinationName<'a>(pub(super) &'a Destination);

impl fmt::Display for DestinationName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Destination::Queue(_) => QUEUE,
            Destination::Topic(_) => TOPIC,
        })?;
        f.write_str(self.0.name())
    }
}

/// A message id as the header `message-id` has it: the same at each redelivery.
pub(super) struct MessageName<'a> {
    pub(super) prefix: &'a str,
    pub(super) id: MessageId,
}

impl fmt::Display for MessageName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ID:{}-{}", self.prefix, self.id)
    }
}

/// The message that a `message-id` header names.
pub(super) fn parse_message(prefix: &str, value: &str) -> Option<MessageId> {
    let id = value.strip_prefix("ID:")?.strip_prefix(prefix)?.strip_prefix('-')?;
    let hex = |digits: &str| u64::from_str_radix(digits, 16).ok();
    if let Some(lsn) = id.strip_prefix('d') {
        return hex(lsn).map(|lsn| MessageId::Durable(Lsn(lsn)));
    }
    let (epoch, number) = id.strip_prefix('v')?.split_once('-')?;
    Some(MessageId::Volatile { epoch: hex(epoch)?, number: hex(number)? })
}

/// A delivery as the header `ack` of MESSAGE has it and `id` of ACK gives it back.
pub(super) struct AckName(pub(super) SubscriptionId, pub(super) Tag);

impl fmt::Display for AckName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.0, self.1.0)
    }
}

/// The delivery that an `id` header names.
pub(super) fn parse_ack(value: &str) -> Option<AckName> {
    let (subscription, tag) = value.split_once('-')?;
    Some(AckName(SubscriptionId(subscription.parse().ok()?), Tag(tag.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_as_they_were_written() {
        let ids = [MessageId::Durable(Lsn(0xbeef)), MessageId::Volatile { epoch: 3, number: 0x1a }];
        for id in ids {
            let name = MessageName { prefix: "a-d1-b", id }.to_string();
            assert_eq!(parse_message("a-d1-b", &name), Some(id));
            assert_eq!(parse_message("a", &name), None);
        }
        let AckName(subscription, tag) = parse_ack("7-12").unwrap();
        assert_eq!(AckName(subscription, tag).to_string(), "7-12");
        for bad in ["", "7", "-", "7-", "x-1", "7-12-1", "ID:a-d1"] {
            assert!(parse_ack(bad).is_none(), "{bad}");
        }
        for name in ["/queue/a", "/topic/a.b/c"] {
            let destination = parse_destination(name).unwrap();
            assert_eq!(DestinationName(&destination).to_string(), name);
        }
        for bad in ["", "a", "/queue/", "/topic", "/temp-queue/a", "/queue"] {
            assert!(parse_destination(bad).is_err(), "{bad}");
        }
    }
}
