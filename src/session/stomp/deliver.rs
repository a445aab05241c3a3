//! A delivery to a MESSAGE frame.

use bytes::BytesMut;

use super::names::{AckName, DestinationName, MessageName};
use super::subscription::{AckMode, Subscription};
use crate::broker::command::Delivery;
use crate::message::{Content, MalformedContent};
use crate::protocol::stomp::{Command, FrameEncoder, Version};

/// Writes MESSAGE: the broker's own headers first, since the first of a name counts.
pub(super) fn encode_message(
    delivery: Delivery,
    subscription: &Subscription,
    version: Version,
    id_prefix: &str,
    out: &mut BytesMut,
) -> Result<(), MalformedContent> {
    let content = Content::decode(delivery.content)?;
    let message = MessageName { prefix: id_prefix, id: delivery.message };
    let mut frame = FrameEncoder::new(out, Some(version), Command::Message);
    if subscription.named {
        frame = frame.header("subscription", &subscription.name);
    }
    frame = frame
        .display("message-id", message)
        .display("destination", DestinationName(&delivery.from));
    if version == Version::V1_2 && subscription.mode != AckMode::Auto {
        frame = frame.display("ack", AckName(delivery.subscription, delivery.tag));
    }
    if delivery.redelivered {
        frame = frame.header("redelivered", "true");
    }
    frame = frame
        .display("JMSXDeliveryCount", delivery.attempt)
        .display("priority", delivery.priority)
        .header("persistent", if delivery.persistent { "true" } else { "false" })
        .display("timestamp", delivery.at.0);
    if let Some(expires) = delivery.expires {
        frame = frame.display("expires", expires.0);
    }
    for (name, value) in &content.properties {
        frame = frame.header(name, value);
    }
    frame.body(&content.body);
    Ok(())
}
