//! What the broker says to frames for the client.

use std::time::Duration;

use super::deliver::encode_message;
use super::fault::Fault;
use super::names::MessageName;
use super::receipts::Asked;
use super::subscription::AckMode;
use super::{Phase, StompSession};
use crate::broker::command::{Command, Delivery, Output, Refusal, Reply};
use crate::ids::Token;
use crate::protocol::stomp::{self, FrameEncoder};

impl StompSession {
    /// Turns an output of the broker into bytes.
    pub fn handle_output(&mut self, now: Duration, output: Output) {
        let before = self.out.len();
        match output {
            Output::Answer { token, result } => self.answered(token, result),
            // A delivery under way when the session ended returns to its queue with it.
            Output::Delivery(delivery) if matches!(self.phase, Phase::Open) => {
                self.deliver(delivery);
            }
            Output::Cancelled { subscription, reason } if matches!(self.phase, Phase::Open) => {
                if let Some(subscription) = self.subscriptions.get(subscription) {
                    let id = super::fault::excerpt(&subscription.name);
                    self.fail_from_the_broker(Fault::Cancelled { id, reason }, None);
                }
            }
            Output::Delivery(_) | Output::Cancelled { .. } => {}
        }
        if self.out.len() > before {
            self.beats.sent(now);
        }
    }

    fn answered(&mut self, token: Token, result: Result<Reply, Refusal>) {
        if self.is_closing().is_some() {
            return;
        }
        let receipt = self.receipts.take(token);
        match result {
            Ok(_) => {
                if let Some(receipt) = receipt {
                    let command = stomp::Command::Receipt;
                    FrameEncoder::new(&mut self.out, self.version, command)
                        .header("receipt-id", &receipt)
                        .end();
                }
                self.close_if_nothing_is_owed();
            }
            Err(refusal) => {
                let asked = Asked::of(token).name();
                self.fail_from_the_broker(Fault::Refused { asked, refusal }, receipt);
            }
        }
    }

    /// Closes at once. A receipt for a later frame would confirm the one that was refused, so
    /// none goes out any more, and of the requests not yet submitted only those stay that tell
    /// what was consumed.
    pub(super) fn fail_from_the_broker(&mut self, fault: Fault, receipt: Option<String>) {
        self.requests.retain(|request| matches!(request.command, Command::Settle { .. }));
        self.request_bytes = 0;
        self.close_with(fault, receipt);
    }

    fn deliver(&mut self, delivery: Delivery) {
        let (id, tag, message) = (delivery.subscription, delivery.tag, delivery.message);
        // The broker had sent it before it heard of UNSUBSCRIBE, and takes it back then.
        let Some(subscription) = self.subscriptions.get_mut(id) else { return };
        if self.unsubscribing.as_ref().is_some_and(|it| it.subscription == id) {
            return;
        }
        let version = self.version.expect("agreed before a subscription");
        let prefix = &self.config.id_prefix;
        if encode_message(delivery, subscription, version, prefix, &mut self.out).is_err() {
            let message = MessageName { prefix, id: message }.to_string();
            self.fail_from_the_broker(Fault::Unreadable { message }, None);
            return;
        }
        if subscription.mode == AckMode::Auto {
            self.unwritten.insert(id, tag);
        } else {
            subscription.lend(tag, message);
        }
    }
}
