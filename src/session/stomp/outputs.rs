//! What the broker says to frames for the client.

use std::time::Duration;

use super::deliver::{Body, encode_message};
use super::fault::Fault;
use super::large::Streaming;
use super::names::MessageName;
use super::receipts::Asked;
use super::subscription::AckMode;
use super::{Ending, Phase, StompSession};
use crate::broker::command::{Command, Delivery, MessageId, Output, Refusal, Reply};
use crate::ids::{SubscriptionId, Tag, Token};
use crate::message::MalformedContent;
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
            Output::Piece { subscription, tag, bytes } => self.stream(subscription, tag, &bytes),
            Output::Broken { subscription, tag } => self.broken(subscription, tag),
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
        let of_a_part = self.part_answered(token, result.is_err());
        let receipt = self.receipts.take(token).or(of_a_part);
        if matches!(self.phase, Phase::Ending(Ending::Refused { .. })) {
            return;
        }
        match result {
            Ok(Reply::NotCommitted) => self.fail_from_the_broker(Fault::NotCommitted, receipt),
            Ok(Reply::OutcomeForgotten { millis }) => {
                let fault = Fault::OutcomeForgotten { seconds: millis / 1000 };
                self.fail_from_the_broker(fault, receipt);
            }
            Ok(_) => {
                if let Some(receipt) = receipt {
                    let command = stomp::Command::Receipt;
                    let version = self.version;
                    FrameEncoder::new(self.between_frames(), version, command)
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
        let goes_on = !matches!(fault, Fault::BrokerGone { .. } | Fault::Unreadable { .. });
        if self.streaming.is_some() && goes_on {
            return self.end(Ending::Refused { fault, receipt });
        }
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
        let body = match encode_message(delivery, subscription, version, prefix, &mut self.out) {
            Ok(body) => body,
            Err(MalformedContent) => return self.unreadable(message),
        };
        match body {
            Body::Whole => self.delivered(id, tag, message),
            Body::Follows(left) => {
                self.streaming = Some(Streaming::new(id, tag, message, left));
            }
        }
    }

    /// A MESSAGE is complete: it may be settled now.
    pub(super) fn delivered(&mut self, id: SubscriptionId, tag: Tag, message: MessageId) {
        let Some(subscription) = self.subscriptions.get_mut(id) else { return };
        if subscription.mode == AckMode::Auto {
            self.unwritten.insert(id, tag);
        } else {
            subscription.lend(tag, message);
        }
    }

    pub(super) fn unreadable(&mut self, id: MessageId) {
        let message = MessageName { prefix: &self.config.id_prefix, id }.to_string();
        self.fail_from_the_broker(Fault::Unreadable { message }, None);
    }
}
