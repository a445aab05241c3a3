//! The handshake: what both sides make of each other's words, and who the client is.

use std::time::Duration;

use super::fault::{CloseReason, Fault, Problem};
use super::registry::{Entry, Newcomer};
use super::{OpenWireSession, Phase, SMALL};
use crate::limits;
use crate::protocol::openwire::table::{
    BrokerInfo, ConnectionControl, ConnectionInfo, WireFormatInfo,
};
use crate::protocol::openwire::{CommandHead, Limits, SilenceWatch, Text, WireFormat, negotiate};
use crate::session::Login;

/// Who the client is.
#[derive(Debug, Default)]
pub(super) struct Client {
    /// What it calls the connection.
    pub(super) name: Text,
    /// What it calls itself, in words for operators.
    pub(super) words: String,
    /// It may be told what it did not ask.
    pub(super) manageable: bool,
    /// The broker knows what it calls itself.
    pub(super) identified: bool,
}

impl OpenWireSession {
    /// The first frame of the other side.
    pub(super) fn negotiate(&mut self, now: Duration, info: &WireFormatInfo) -> Result<(), Fault> {
        let ours = self.config.wire_format();
        let theirs = WireFormat::read(info).map_err(Fault::Decode)?;
        let agreed = negotiate(&ours, &theirs).map_err(Fault::Negotiation)?;
        self.format = agreed.format;
        let own = self.config.frame_bytes();
        self.frame_bytes =
            usize::try_from(agreed.frame_bytes_max).map_or(own, |size| size.min(own));
        self.receiver.agree(self.format, SMALL);
        self.watch = agreed.inactivity.map(|rules| SilenceWatch::new(now, rules));
        self.phase = Phase::Greeting;
        self.write(&BrokerInfo {
            broker_id: Some(self.own_broker()),
            broker_url: Some(Text::default()),
            broker_name: Some(Text::cut(&self.config.broker_name)),
            ..BrokerInfo::default()
        });
        Ok(())
    }

    /// A frame of so many bytes has come. Before the client is known there is room for a few.
    pub(super) fn greeted(&mut self, bytes: usize) -> Result<(), Fault> {
        if matches!(self.phase, Phase::Open) {
            return Ok(());
        }
        self.greeted += bytes;
        let limit = limits::OPENWIRE_GREETING_TOTAL_MAX;
        if self.greeted > limit { Err(Fault::LongGreeting { limit }) } else { Ok(()) }
    }

    /// Asks whether the client is let in, where that is asked.
    pub(super) fn greet(&mut self, info: Box<ConnectionInfo>) {
        if !self.config.login {
            return self.enter(info);
        }
        let text = |text: &Text| text.to_str().into_owned();
        let password = info.password.as_ref().map(|secret| text(&secret.0)).unwrap_or_default();
        let login = Login { name: info.user_name.as_ref().map(text), password };
        self.phase = Phase::Login(info, Some(login));
    }

    /// Who the client says that it is, to be verified; once.
    pub fn poll_login(&mut self) -> Option<Login> {
        match &mut self.phase {
            Phase::Login(_, login) => login.take(),
            _ => None,
        }
    }

    /// The client is let in, as this user, or why not.
    pub fn handle_login(&mut self, verdict: Result<String, String>) {
        let Phase::Login(..) = self.phase else { return };
        let Phase::Login(info, _) = std::mem::replace(&mut self.phase, Phase::Greeting) else {
            unreachable!("just seen")
        };
        match verdict {
            Ok(user) => {
                self.user = Some(user);
                self.enter(info);
            }
            Err(why) => {
                let head = head_of(&info);
                self.fail(head, &Problem::security(why.as_str()));
                self.phase = Phase::Closed(CloseReason::Fault(Fault::Refused { why }));
            }
        }
    }

    /// Takes a connection in, unless another of its name must go first.
    pub(super) fn enter(&mut self, info: Box<ConnectionInfo>) {
        let head =
            CommandHead { command_id: info.command_id, response_required: info.response_required };
        let name = info.connection_id.as_ref().and_then(|id| id.value.clone());
        let (Some(name), Some(client)) = (name, info.client_id.clone()) else {
            return self.refuse_connection(head, "a connection needs an id and a client id");
        };
        let (name_text, client_text) = (name.to_string(), client.to_string());
        let newcomer =
            Newcomer { name: &name_text, client: &client_text, user: self.user.as_deref() };
        match self.config.registry.enter(self.connection, newcomer, &self.waker) {
            Entry::Granted => {}
            Entry::Wait => {
                self.phase = Phase::Waiting(info);
                return;
            }
            Entry::Taken => {
                let broker = &self.config.broker_name;
                let why = format!("Broker: {broker} - Client: {client_text} already connected");
                return self.refuse_connection(head, &why);
            }
        }
        let (name, manageable, identified) = (Text::cut(&name_text), info.manageable, false);
        self.client = Client { name, words: client_text, manageable, identified };
        self.phase = Phase::Open;
        self.transactions.said.opened(info.failover_reconnect);
        let whole = self.config.pieces.whole_bytes + limits::OPENWIRE_WHOLE_EXTRA;
        let limits = Limits {
            frame_bytes: self.config.frame_bytes(),
            whole_bytes: whole,
            head_bytes: limits::OPENWIRE_HEAD_BYTES_MAX.min(whole),
        };
        self.receiver.agree(self.format, limits);
        self.done(head);
        if self.client.manageable {
            self.write(&ConnectionControl {
                connected_brokers: Some(Text::default()),
                reconnect_to: Some(Text::default()),
                ..ConnectionControl::default()
            });
        }
        self.advise_connection(&info);
        self.begin_bridge();
        self.tell_subscriptions();
    }

    /// The client does not get in: it is told, and closes.
    fn refuse_connection(&mut self, head: CommandHead, why: &str) {
        self.fail(head, &Problem::client_id(why));
        let fault = Fault::Refused { why: why.to_owned() };
        self.phase = Phase::Closed(CloseReason::Fault(fault));
    }
}

fn head_of(info: &ConnectionInfo) -> CommandHead {
    let (command_id, response_required) = (info.command_id, info.response_required);
    CommandHead { command_id, response_required }
}
