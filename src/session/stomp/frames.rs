//! Frames of the client to requests.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use super::durable;
use super::fault::Fault;
use super::greeting::Agreement;
use super::receipts::Asked;
use super::send::Send;
use super::settle::find_delivery;
use super::subscription::{AckMode, Subscribe};
use super::upload::Upload;
use super::{Asking, Ending, Incoming, Phase, StompSession, Unsubscribing};
use crate::broker::command::{self, Outcome};
use crate::ids::SubscriptionId;
use crate::limits;
use crate::protocol::stomp::{Command, Head, Limits, Piece, Version};
use crate::session::Login;

impl StompSession {
    /// Reads from the front of `bytes` what it can and leaves the rest, in order: an unfinished
    /// head, or everything when [`wants_bytes`](Self::wants_bytes) says no. What comes later is to
    /// stand behind that.
    pub fn handle_bytes(&mut self, now: Duration, bytes: &mut BytesMut) {
        // What was left the last time says nothing new of the client.
        if bytes.len() > self.unread {
            self.beats.received(now);
        }
        while self.wants_bytes() {
            let step = match self.decoder.poll(bytes) {
                Ok(None) => break,
                Ok(Some(piece)) => self.piece(now, piece),
                Err(error) => Err(Fault::Decode(error)),
            };
            if let Err(fault) = step {
                self.fail(fault);
            }
        }
        // What comes after the end is nobody's.
        if matches!(self.phase, Phase::Ending(_) | Phase::Closed(_)) {
            bytes.clear();
        }
        self.unread = bytes.len();
    }

    fn piece(&mut self, now: Duration, piece: Piece) -> Result<(), Fault> {
        match piece {
            Piece::HeartBeat => {}
            Piece::Head(head) => self.begin(head)?,
            Piece::Body(piece) => self.body(piece)?,
            Piece::End => {
                self.end_upload();
                match self.incoming.take().expect("a head comes before its end") {
                    Incoming::Send(send) => {
                        let receipt = self.receipt.take();
                        let body = send.upload.as_deref().map(Upload::identity);
                        let command = send.finish();
                        self.transactions.note_send(&command, body);
                        self.submit(Asked::Send, receipt, command);
                    }
                    Incoming::Bodyless(head) => self.act(now, &head)?,
                }
                self.receipt = None;
            }
        }
        Ok(())
    }

    /// What can be refused by the head alone is, before a body is read.
    fn begin(&mut self, head: Head) -> Result<(), Fault> {
        let command = head.command;
        let greeting = matches!(command, Command::Connect | Command::Stomp);
        if !greeting {
            self.receipt = head.headers.get("receipt").map(str::to_owned);
            let long = |name: &String| name.len() > limits::RECEIPT_NAME_BYTES_MAX;
            if let Some(name) = self.receipt.take_if(|name| long(name)) {
                return Err(Fault::bad_header("receipt", &name, "512 bytes long at most"));
            }
        }
        match command {
            Command::Connected | Command::Message | Command::Receipt | Command::Error => {
                return Err(Fault::ServerFrame { command });
            }
            _ if matches!(self.phase, Phase::Greeting) && !greeting => {
                return Err(Fault::NotConnected { command });
            }
            _ if matches!(self.phase, Phase::Open) && greeting => {
                return Err(Fault::ConnectedAlready);
            }
            _ => {}
        }
        self.incoming = Some(match command {
            Command::Send => Incoming::Send(Send::begin(&head, self.transactions.of(&head)?)?),
            _ => Incoming::Bodyless(head),
        });
        self.begin_large()
    }

    fn act(&mut self, now: Duration, head: &Head) -> Result<(), Fault> {
        let Some(version) = self.version else { return self.connect(now, head) };
        match head.command {
            Command::Subscribe => self.subscribe(head, version),
            Command::Unsubscribe if let Some(name) = durable::name_in(&head.headers) => {
                self.end_durable(&head.headers, name)
            }
            Command::Unsubscribe => {
                let subscription = self.subscriptions.named_by(&head.headers, version)?;
                let receipt = self.receipt.take();
                if self.unwritten.contains_key(&subscription)
                    || self.writing.contains_key(&subscription)
                    || self.streams(subscription)
                {
                    self.unsubscribing = Some(Unsubscribing { subscription, receipt });
                } else {
                    self.unsubscribe(subscription, receipt);
                }
                Ok(())
            }
            Command::Begin | Command::Commit | Command::Abort => self.transact(head),
            Command::Ack => self.settle(head, version, Asked::Ack, Outcome::Accepted),
            Command::Nack => self.settle(head, version, Asked::Nack, Outcome::Returned),
            Command::Disconnect => {
                // Without a receipt nobody knows what of all that was sent has come through.
                if let Some(receipt) = self.receipt.take() {
                    let close = command::Command::CloseProducers;
                    self.submit(Asked::Disconnect, Some(receipt), close);
                }
                self.end(Ending::Disconnect);
                Ok(())
            }
            other => unreachable!("{other} is refused by its head"),
        }
    }

    fn connect(&mut self, now: Duration, head: &Head) -> Result<(), Fault> {
        let agreement = Agreement::reach(&head.headers, &self.config)?;
        self.client = head.headers.get("client-id").filter(|id| !id.is_empty()).map(Arc::from);
        if self.config.login {
            let header = |name| head.headers.get(name).map(str::to_owned);
            let password = header("passcode").unwrap_or_default();
            let login = Login { name: header("login"), password };
            self.phase = Phase::Login(agreement, Asking::New(login));
        } else {
            self.greet(now, agreement);
        }
        Ok(())
    }

    /// Lets the client in.
    pub(super) fn greet(&mut self, now: Duration, agreement: Agreement) {
        agreement.encode(&self.config, self.connection, &mut self.out);
        let limits = self.config.limits;
        self.decoder.set_version(agreement.version);
        self.decoder.set_limits(Limits { head_bytes: limits.head_bytes.min(65_535), ..limits });
        self.version = Some(agreement.version);
        self.beats = agreement.beats(now);
        self.phase = Phase::Open;
        if let Some(client) = self.client.clone() {
            self.submit(Asked::Subscribe, None, command::Command::Identify { client });
        }
    }

    fn subscribe(&mut self, head: &Head, version: Version) -> Result<(), Fault> {
        let asked = Subscribe::parse(&head.headers, version, self.config.prefetch)?;
        let subscription = self.subscriptions.add(&asked)?;
        let command = self.beginning(subscription, asked)?;
        let receipt = self.receipt.take();
        self.submit(Asked::Subscribe, receipt, command);
        Ok(())
    }

    /// Deliveries still under way are not for the client any more; the broker takes them back.
    pub(super) fn unsubscribe(&mut self, subscription: SubscriptionId, receipt: Option<String>) {
        self.subscriptions.remove(subscription);
        let command = command::Command::Unsubscribe { subscription };
        self.submit(Asked::Unsubscribe, receipt, command);
    }

    fn settle(
        &mut self,
        head: &Head,
        version: Version,
        asked: Asked,
        outcome: Outcome,
    ) -> Result<(), Fault> {
        let prefix = &self.config.id_prefix;
        let transaction = self.transactions.of(head)?;
        let (id, tag) = find_delivery(head, version, &self.subscriptions, prefix)?;
        let subscription = self.subscriptions.get_mut(id).expect("found just now");
        debug_assert!(subscription.mode != AckMode::Auto);
        let which = subscription.mode.which(tag);
        if let Some(transaction) = transaction {
            let messages = subscription.covered(which);
            self.transactions.note_settled(transaction, outcome, messages);
        }
        subscription.settle(which);
        let command = command::Command::Settle { subscription: id, which, outcome };
        let receipt = self.receipt.take();
        self.submit(asked, receipt, command.within(transaction));
        Ok(())
    }
}
