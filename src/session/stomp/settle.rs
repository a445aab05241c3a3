//! ACK and NACK to the delivery they name.

use super::fault::{Fault, excerpt};
use super::names::{AckName, parse_ack, parse_message};
use super::subscription::{AckMode, Subscription, Subscriptions};
use crate::ids::{SubscriptionId, Tag};
use crate::protocol::stomp::{Command, Head, Version};

/// The delivery that an ACK or NACK names: in 1.2 by `id`, in 1.1 by `subscription` and
/// `message-id`, in 1.0 by `message-id` and perhaps `subscription`.
pub(super) fn find_delivery(
    head: &Head,
    version: Version,
    subscriptions: &Subscriptions,
    id_prefix: &str,
) -> Result<(SubscriptionId, Tag), Fault> {
    if version == Version::V1_2 {
        return by_ack(head, subscriptions);
    }
    let command = head.command;
    let missing = |header| Fault::MissingHeader { command, header };
    let value = head.headers.get("message-id").ok_or_else(|| missing("message-id"))?;
    let message = parse_message(id_prefix, value);
    let find = |(id, subscription): (SubscriptionId, &Subscription)| {
        message.and_then(|message| subscription.tag_of(message)).map(|tag| (id, tag))
    };
    let found = match head.headers.get("subscription") {
        Some(name) => {
            let id = subscriptions.find("subscription", name)?;
            let subscription = subscriptions.get(id).expect("found by its name");
            if subscription.mode == AckMode::Auto {
                return Err(Fault::SettledBySending { command });
            }
            find((id, subscription))
        }
        None if version == Version::V1_0 => subscriptions.iter().find_map(find),
        None => return Err(missing("subscription")),
    };
    found.ok_or_else(|| not_outstanding(command, "message-id", value, subscriptions))
}

fn by_ack(head: &Head, subscriptions: &Subscriptions) -> Result<(SubscriptionId, Tag), Fault> {
    let command = head.command;
    let missing = Fault::MissingHeader { command, header: "id" };
    let value = head.headers.get("id").ok_or(missing)?;
    let found = parse_ack(value).and_then(|AckName(id, tag)| {
        subscriptions.get(id).filter(|subscription| subscription.holds(tag)).map(|_| (id, tag))
    });
    found.ok_or_else(|| not_outstanding(command, "id", value, subscriptions))
}

/// Where nothing on the connection waits for acknowledgement, that is what went wrong.
fn not_outstanding(
    command: Command,
    header: &'static str,
    value: &str,
    subscriptions: &Subscriptions,
) -> Fault {
    let mut modes = subscriptions.iter().map(|(_, subscription)| subscription.mode).peekable();
    if modes.peek().is_some() && modes.all(|mode| mode == AckMode::Auto) {
        return Fault::SettledBySending { command };
    }
    Fault::NotOutstanding { header, value: excerpt(value) }
}
