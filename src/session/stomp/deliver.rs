//! A delivery to a MESSAGE frame.

use bytes::BytesMut;

use super::names::{AckName, DestinationName, MessageName};
use super::subscription::{AckMode, Subscription};
use crate::broker::command::Delivery;
use crate::message::{Content, GROUP_ID, LargeHead, MalformedContent, SCHEDULED_JOB};
use crate::protocol::stomp::{Command, FrameEncoder, Version};

/// What of a body is still to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// Nothing: the frame is complete.
    Whole,
    /// So many bytes, and a NUL.
    Follows(u64),
}

/// Writes MESSAGE, without its body where that comes in pieces: the broker's own headers first,
/// since the first of a name counts.
pub(super) fn encode_message(
    delivery: Delivery,
    subscription: &Subscription,
    version: Version,
    id_prefix: &str,
    out: &mut BytesMut,
) -> Result<Body, MalformedContent> {
    let apart = delivery
        .dead
        .as_ref()
        .map(|dead| (dead.destination(&delivery.content), dead.properties(&delivery.content)));
    let (properties, body, follows) = match LargeHead::decode(delivery.content.clone()) {
        Ok(head) => (head.properties, None, head.bytes),
        Err(MalformedContent) => {
            let content = Content::decode(delivery.content)?;
            (content.properties, Some(content.body), 0)
        }
    };
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
    if delivery.first_of_group && properties.iter().any(|(name, _)| name == GROUP_ID) {
        frame = frame.header("JMSXGroupFirstForConsumer", "true");
    }
    frame = frame
        .display("JMSXDeliveryCount", delivery.attempt)
        .display("priority", delivery.priority)
        .header("persistent", if delivery.persistent { "true" } else { "false" })
        .display("timestamp", delivery.at.0);
    if let Some(expires) = delivery.expires {
        frame = frame.display("expires", expires.0);
    }
    if let Some(topic) = &delivery.origin {
        frame = frame.header("original-destination", &format!("/topic/{topic}"));
    }
    if let Some((origin, said)) = &apart {
        frame = frame.display("original-destination", DestinationName(origin));
        for (name, value) in said {
            frame = frame.header(name, value);
        }
    }
    for (name, value) in &properties {
        frame = match name == SCHEDULED_JOB && value.is_empty() {
            true => frame.display(name, delivery.message),
            false => frame.header(name, value),
        };
    }
    Ok(match body {
        Some(body) => {
            frame.body(&body);
            Body::Whole
        }
        None => {
            frame.body_follows(follows);
            Body::Follows(follows)
        }
    })
}
