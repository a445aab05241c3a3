//! Durable subscriptions of the client.
//!
//! Their key is the `client-id` of CONNECT and the name that SUBSCRIBE gives. A SUBSCRIBE that
//! ends, by UNSUBSCRIBE or with its connection, leaves its subscription; UNSUBSCRIBE with the name
//! ends that as well.

use super::StompSession;
use super::fault::Fault;
use super::receipts::Asked;
use super::subscription::Subscribe;
use crate::broker::command::{Command, KeepAs};
use crate::ids::SubscriptionId;
use crate::message::Destination;
use crate::protocol::stomp::{self, Headers};

/// The ways in which clients give the name.
const NAMES: [&str; 3] =
    ["activemq.subscriptionName", "activemq.subcriptionName", "durable-subscription-name"];
const NO_LOCAL: [&str; 2] = ["no-local", "activemq.noLocal"];

/// What SUBSCRIBE says of a durable subscription.
#[derive(Clone, Debug)]
pub(super) struct Durable {
    name: String,
    no_local: bool,
}

impl Durable {
    pub(super) fn parse(headers: &Headers, from: &Destination) -> Result<Option<Self>, Fault> {
        let wants =
            |header: &&&str| headers.get(header).is_some_and(|it| !matches!(it, "" | "false"));
        let no_local = NO_LOCAL.iter().find(wants).copied();
        let Some(name) = name_in(headers) else {
            return match no_local {
                Some(header) => {
                    let what = "subscriptions without the connection's own messages";
                    Err(Fault::Unsupported { header, what })
                }
                None => Ok(None),
            };
        };
        match from {
            Destination::Topic(_) => {
                Ok(Some(Self { name: name.to_owned(), no_local: no_local.is_some() }))
            }
            Destination::Queue(_) => {
                let what = "durable subscriptions of queues, which keep everything by themselves";
                Err(Fault::Unsupported { header: NAMES[0], what })
            }
        }
    }
}

/// The name of a durable subscription in the headers of a frame.
pub(super) fn name_in(headers: &Headers) -> Option<&str> {
    NAMES.iter().find_map(|header| headers.get(header)).filter(|name| !name.is_empty())
}

impl StompSession {
    /// How a subscription begins.
    pub(super) fn beginning(
        &self,
        subscription: SubscriptionId,
        asked: Subscribe,
    ) -> Result<Command, Fault> {
        let Subscribe { from, prefetch, selector, standing, durable, .. } = asked;
        let Some(Durable { name, no_local }) = durable else {
            return Ok(match standing {
                None => Command::Subscribe { subscription, from, prefetch, selector },
                Some(standing) => {
                    Command::SubscribeAs { subscription, from, prefetch, selector, standing }
                }
            });
        };
        let client = self.client.clone().ok_or(Fault::MissingHeader {
            command: stomp::Command::Connect,
            header: "client-id",
        })?;
        let (name, topic) = (name.into(), from.name().into());
        let reader = None;
        let keep = Box::new(KeepAs { client, name, topic, prefetch, selector, no_local, reader });
        Ok(Command::Keep { subscription, keep })
    }

    /// UNSUBSCRIBE names a durable subscription: it ends, and before it the SUBSCRIBE of this
    /// connection that the frame names, if it names one.
    pub(super) fn end_durable(&mut self, headers: &Headers, name: &str) -> Result<(), Fault> {
        let client = self.client.clone().ok_or(Fault::MissingHeader {
            command: stomp::Command::Connect,
            header: "client-id",
        })?;
        let living = headers.get("id").and_then(|id| self.subscriptions.find("id", id).ok());
        if let Some(subscription) = living {
            self.unsubscribe(subscription, None);
        }
        let receipt = self.receipt.take();
        let command = Command::EndKept { client, name: name.into(), reader: None };
        self.submit(Asked::Unsubscribe, receipt, command);
        Ok(())
    }
}
