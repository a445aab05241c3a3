//! Commands of the client, each to what is done about it.

use std::time::Duration;

use bytes::BytesMut;

use super::answers::{Asked, NOBODY};
use super::consumer::ConsumerKey;
use super::fault::{CloseReason, Fault, Problem};
use super::network::Network;
use super::{OpenWireSession, Phase};
use crate::broker::command::Command;
use crate::protocol::openwire::table::{
    BrokerSubscriptionInfo, ExceptionResponse, KeepAliveInfo, RemoveInfo, RemovedId, TransactionId,
    TransactionInfo, TransactionVerb,
};
use crate::protocol::openwire::{CommandHead, Object, Piece, Structure, Throwable};

impl OpenWireSession {
    /// Reads from the front of `bytes` what it can and leaves the rest, in order. What comes later
    /// is to stand behind that.
    pub fn handle_bytes(&mut self, now: Duration, bytes: &mut BytesMut) {
        // What was left the last time says nothing new of the peer.
        if bytes.len() > self.unread
            && let Some(watch) = &mut self.watch
        {
            watch.received();
        }
        while self.wants_bytes() {
            let before = bytes.len();
            let step = match self.receiver.poll(bytes) {
                Ok(None) => break,
                Ok(Some(piece)) => {
                    self.greeted(before - bytes.len()).and_then(|()| self.piece(now, piece))
                }
                Err(error) => Err(Fault::Decode(error)),
            };
            if let Err(fault) = step {
                self.close(fault);
            }
        }
        // What comes after the end is nobody's.
        if self.is_closing().is_some() {
            bytes.clear();
        }
        self.unread = bytes.len();
    }

    fn piece(&mut self, now: Duration, piece: Piece) -> Result<(), Fault> {
        match piece {
            Piece::Whole(structure) => self.structure(now, structure)?,
            Piece::Head(head) => self.begin_large(*head),
            Piece::Body(bytes) => self.body(&bytes),
            Piece::End(end) => self.end_large(end),
        }
        Ok(())
    }

    fn structure(&mut self, now: Duration, structure: Structure) -> Result<(), Fault> {
        let code = structure.code();
        self.transactions.said.pass(now);
        if let Some(head) = structure.command() {
            self.transactions.said.note(head.command_id);
        }
        let unexpected = Err(Fault::Unexpected { code });
        match (&self.phase, structure) {
            (Phase::Opening, Structure::WireFormatInfo(info)) => self.negotiate(now, &info),
            (Phase::Opening, _) | (_, Structure::WireFormatInfo(_)) => unexpected,
            (_, Structure::KeepAliveInfo(info)) => {
                if info.response_required {
                    let answer = KeepAliveInfo { response_required: false, ..info };
                    self.write(&answer);
                }
                Ok(())
            }
            (Phase::Greeting, Structure::ConnectionInfo(info)) => {
                self.greet(info);
                Ok(())
            }
            (Phase::Greeting, Structure::BrokerInfo(info)) => {
                self.network = Network::read(&info, &self.config.broker_name);
                // Bridges do without a list that is longer than may be read.
                if self.network.is_some() {
                    self.receiver.pass_over::<BrokerSubscriptionInfo>();
                }
                Ok(())
            }
            // A broker says it before who it is, or when its bridge is up.
            (Phase::Greeting | Phase::Open, Structure::BrokerSubscriptionInfo(info))
                if self.network.is_some() =>
            {
                let head = info.command().unwrap_or(NOBODY);
                self.told_subscriptions(info);
                self.done(head);
                Ok(())
            }
            // A client that comes back says so before it says who it is.
            (
                _,
                structure @ (Structure::ConnectionControl(_)
                | Structure::BrokerInfo(_)
                | Structure::ControlCommand(_)),
            ) => {
                self.done(structure.command().unwrap_or(NOBODY));
                Ok(())
            }
            (_, Structure::ShutdownInfo(_)) => {
                self.phase = Phase::Closed(CloseReason::Disconnected);
                Ok(())
            }
            (Phase::Open, structure) => {
                self.command(now, structure);
                Ok(())
            }
            (_, _) => unexpected,
        }
    }

    /// A command of a client that is known.
    fn command(&mut self, now: Duration, structure: Structure) {
        let head = structure.command().unwrap_or(NOBODY);
        match structure {
            Structure::SessionInfo(_) => {
                self.transactions.said.session();
                self.done(head);
            }
            Structure::ProducerInfo(info) => self.add_producer(head, info),
            Structure::ConsumerInfo(info) => self.add_consumer(head, *info),
            Structure::Message(message) if self.hear(head, &message) => {}
            Structure::Message(message) => self.send(head, *message),
            Structure::Response(answer) => self.forwarded(answer.correlation_id, None),
            Structure::ExceptionResponse(ExceptionResponse {
                correlation_id, exception, ..
            }) => {
                let unknown = Throwable::new("java.lang.Exception", "no reason is told");
                let exception = exception.unwrap_or(unknown);
                self.forwarded(correlation_id, Some(&exception));
            }
            Structure::MessageAck(ack) => {
                self.transactions.said.is_new();
                self.acknowledge(head, &ack);
            }
            Structure::MessagePull(pull) => self.pull(now, head, &pull),
            Structure::ConsumerControl(control) => {
                let consumer = control.consumer_id.as_ref().map(ConsumerKey::of);
                if let Some(consumer) = consumer
                    && !control.close
                {
                    self.set_prefetch(&consumer, control.prefetch);
                }
                self.done(head);
            }
            Structure::TransactionInfo(info) => self.transaction(head, &info),
            Structure::DestinationInfo(info) => self.destination(head, &info),
            Structure::RemoveInfo(info) => self.remove(head, &info),
            Structure::RemoveSubscriptionInfo(info) => self.end_durable(head, &info),
            Structure::ConnectionInfo(info) if info.connection_id.is_some() => self.done(head),
            Structure::FlushCommand(_) => self.confirm(head),
            Structure::ConnectionError(_) | Structure::MessageDispatchNotification(_) => {
                self.done(head);
            }
            other => {
                let problem = format!("a command of type {} is not known here", other.code());
                self.fail(head, &Problem::jms(problem));
            }
        }
    }

    fn transaction(&mut self, head: CommandHead, info: &TransactionInfo) {
        let Some(verb) = TransactionVerb::new(info.verb) else {
            return self.fail(head, &Problem::jms("no such step of a transaction is known"));
        };
        match (&info.transaction_id, verb) {
            (_, TransactionVerb::Recover) => self.recover(head),
            (Some(TransactionId::Local(id)), verb) => self.local(head, id, verb),
            (Some(TransactionId::Xa(id)), verb) => self.branch(head, id, verb),
            (None, _) => self.fail(head, &Problem::jms("a transaction needs an id")),
        }
    }

    fn remove(&mut self, head: CommandHead, info: &RemoveInfo) {
        let last = info.last_delivered_sequence_id;
        match &info.object_id {
            Some(RemovedId::Producer(id)) => self.end_producer(id),
            Some(RemovedId::Consumer(id)) => self.remove_consumer(&ConsumerKey::of(id), last),
            Some(RemovedId::Session(id)) => {
                for consumer in self.consumers.of_session(id.value) {
                    self.remove_consumer(&consumer, last);
                }
                self.end_producers_of(id.value);
            }
            Some(RemovedId::Connection(_)) => {
                self.leave(last);
                // Everything that was sent before is safe when this is answered, and its producers
                // do not come back.
                return self.submit(Some(Asked::Command(head)), Command::CloseProducers);
            }
            None => {}
        }
        // What it has acknowledged, or sent without awaiting an answer, came before.
        self.confirm(head);
    }

    /// The client goes: what it had ends.
    fn leave(&mut self, last: i64) {
        self.abandon_transactions();
        for consumer in self.consumers.all() {
            self.remove_consumer(&consumer, last);
        }
        self.remove_all_temporary();
        self.advise_disconnection();
    }

    /// The connection to the broker is about to end, however it came to that: the requests made
    /// here are the last.
    pub fn handle_gone(&mut self) {
        if !self.client.name.as_bytes().is_empty() {
            self.abandon_branches();
            self.remove_all_temporary();
            self.advise_disconnection();
        }
    }
}
