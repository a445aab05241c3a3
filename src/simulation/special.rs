//! Clients that are not like others of their queues, and messages that belong to groups.

use crate::broker::command::{Command, Standing};
use crate::ids::SubscriptionId;
use crate::message::{Destination, GROUP_ID, GROUP_SEQUENCE};

use super::clients::{Asked, Client, Held, Surroundings, queue_named};

/// The group of a message, if it has one.
pub(super) fn group(number: u64) -> Option<&'static str> {
    ["red", "blue"].get((number / 3 % 4) as usize).copied()
}

/// What a message says.
pub(super) fn properties(number: u64) -> Vec<(String, String)> {
    let mut properties = vec![("number".to_owned(), number.to_string())];
    if let Some(group) = group(number) {
        let closes = if number % 10 == 9 { "-1" } else { "0" };
        properties.push((GROUP_ID.to_owned(), group.to_owned()));
        properties.push((GROUP_SEQUENCE.to_owned(), closes.to_owned()));
    }
    properties
}

impl Client {
    /// Subscribes to many queues at once, or as one that stands before others, or behind.
    pub(super) fn subscribe_specially(
        &mut self,
        around: &mut Surroundings<'_>,
        from: Destination,
        prefetch: u32,
    ) {
        if around.random.one_in(2) {
            return self.subscribe_to(around, queue_named("*"), prefetch, None);
        }
        self.last_subscription += 1;
        let subscription = SubscriptionId(self.last_subscription);
        self.subscriptions.insert(subscription, Held::default());
        let priority = around.random.below(3) as i8 - 1;
        let standing = Standing { priority, exclusive: around.random.one_in(2), pending: None };
        let selector = None;
        let command = Command::SubscribeAs { subscription, from, prefetch, selector, standing };
        self.ask(around, command, Asked::Other);
    }
}
