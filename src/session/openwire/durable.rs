//! Durable subscriptions of the client.
//!
//! Their key is the client id of the connection and the name that the consumer gives. A consumer
//! that goes leaves its subscription, with what it has not acknowledged.

use std::sync::Arc;

use super::OpenWireSession;
use super::answers::Asked;
use super::consumer::ConsumerKey;
use super::fault::Problem;
use super::names;
use crate::broker::command::{Command, KeepAs};
use crate::ids::SubscriptionId;
use crate::message::Destination;
use crate::protocol::openwire::CommandHead;
use crate::protocol::openwire::table::{ConsumerInfo, RemoveSubscriptionInfo};

impl OpenWireSession {
    /// Tells the broker whose connection this is, before it publishes for the first time. A client
    /// whose name is too long has no durable subscriptions, and is told so when it asks for one.
    pub(super) fn identify(&mut self) {
        if std::mem::replace(&mut self.client.identified, true) {
            return;
        }
        let client: Arc<str> = self.client.words.as_str().into();
        if client.len() <= crate::limits::HELD_NAME_BYTES_MAX && !client.is_empty() {
            self.submit(None, Command::Identify { client });
        }
    }

    /// How a consumer begins to read what a durable subscription keeps, if that is what it wants.
    pub(super) fn durable(
        &self,
        key: &ConsumerKey,
        subscription: SubscriptionId,
        from: &Destination,
        prefetch: u32,
    ) -> Option<Command> {
        let consumer = self.consumers.get(key)?;
        let name = consumer.info.subscription_name.as_ref()?;
        let keep = KeepAs {
            client: self.client.words.as_str().into(),
            name: name.to_string().into(),
            topic: from.name().into(),
            prefetch,
            selector: consumer.selector.clone(),
            no_local: consumer.info.no_local,
            reader: None,
        };
        Some(Command::Keep { subscription, keep: Box::new(keep) })
    }

    /// The client wants a durable subscription no more.
    pub(super) fn end_durable(&mut self, head: CommandHead, info: &RemoveSubscriptionInfo) {
        let Some(name) = info.subscription_name.as_ref() else {
            return self.fail(head, &Problem::destination("a durable subscription has a name"));
        };
        // Another client's is not his to end, whatever he says.
        let client = self.client.words.as_str().into();
        let command = Command::EndKept { client, name: name.to_string().into(), reader: None };
        self.submit(Some(Asked::Command(head)), command);
    }
}

/// Whether a consumer that gives the name of a durable subscription can have one.
pub(super) fn check_durable(
    info: &ConsumerInfo,
    destinations: &[Destination],
) -> Result<(), Problem> {
    if info.subscription_name.is_none() {
        return Ok(());
    }
    match destinations {
        [topic @ Destination::Topic(_)]
            if !names::is_temporary(topic) && !names::is_pattern(topic) && !info.browser =>
        {
            Ok(())
        }
        _ => Err(Problem::destination("a durable subscription is of one topic that lasts")),
    }
}
