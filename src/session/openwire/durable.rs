//! Durable subscriptions of the client.
//!
//! Their key is the client id of the connection and the name that the consumer gives. A consumer
//! that goes leaves its subscription, with what it has not acknowledged.

use std::sync::Arc;

use super::OpenWireSession;
use super::answers::Asked;
use super::bridge::Lasting;
use super::consumer::ConsumerKey;
use super::fault::Problem;
use super::kept::KeptFor;
use super::names;
use crate::broker::command::{Command, KeepAs, KeptName, Refusal, Reply};
use crate::ids::{SubscriptionId, Token};
use crate::message::Destination;
use crate::protocol::openwire::table::{ConnectionId, ConsumerInfo, RemoveSubscriptionInfo};
use crate::protocol::openwire::{CommandHead, Text};

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
        let client = match (key.of_bridge(), &self.network) {
            (Some(_), Some(network)) => network.client.as_str().into(),
            _ => self.client.words.as_str().into(),
        };
        let keep = KeepAs {
            client,
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
        let of: KeptName = (self.client.words.as_str().into(), name.to_string().into());
        // The broker alone knows its topic, on which others are told of its end.
        let ends = Token(self.last_token + 2);
        self.list_kept(KeptFor::End(ends), of.clone());
        self.end_kept(Some(head), of, None);
    }

    /// What was kept here for another broker is for none of its subscriptions any more.
    pub(super) fn end_lasting(&mut self, lasting: Lasting) {
        let Some(network) = &self.network else { return };
        let of = (network.client.as_str().into(), lasting.name);
        self.end_kept(None, of, Some(lasting.topic));
    }

    fn end_kept(&mut self, head: Option<CommandHead>, of: KeptName, topic: Option<Arc<str>>) {
        let (client, name) = of.clone();
        let command = Command::EndKept { client, name, reader: None };
        self.submit(Some(Asked::EndKept { head, of, topic }), command);
    }

    /// A durable subscription has ended, or not.
    pub(super) fn kept_ended(
        &mut self,
        head: Option<CommandHead>,
        (client, name): KeptName,
        topic: Option<Arc<str>>,
        result: Result<Reply, Refusal>,
    ) {
        if let (Ok(_), Some(topic)) = (&result, topic) {
            let connection_id = Some(ConnectionId { value: Some(self.client.name.clone()) });
            let about = RemoveSubscriptionInfo {
                connection_id,
                subscription_name: Some(Text::cut(&name)),
                client_id: Some(Text::cut(&client)),
                ..RemoveSubscriptionInfo::default()
            };
            self.advise_no_subscription(&Destination::Topic(topic), about);
        }
        // Nobody waits for the end of what was kept for another broker.
        if let Some(head) = head {
            self.conclude(head, result.map(drop).map_err(|why| Problem::refused(&why)));
        }
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
        [topic @ Destination::Topic(_)] if !names::is_temporary(topic) && !info.browser => Ok(()),
        _ => Err(Problem::destination("a durable subscription is of one topic that lasts")),
    }
}
