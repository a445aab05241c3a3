//! Advisories of messages that expired or were set apart, of what the broker tells.
//!
//! The message is what the advisory is about, as it would be dispatched, but for its body.

use super::OpenWireSession;
use super::stored::{Leaving, Outgoing};
use crate::broker::command::MessageId as BrokerMessageId;
use crate::message::{JmsBody, JmsHead, MalformedContent, Notice, Value};
use crate::protocol::openwire::message::Message;
use crate::protocol::openwire::primitive::Value as Primitive;
use crate::protocol::openwire::table::{MessageId, ProducerId};
use crate::protocol::openwire::{Structure, Text};

impl OpenWireSession {
    /// The advisory for what the broker delivers under this id.
    pub(super) fn notice(
        &self,
        id: BrokerMessageId,
        notice: Notice,
    ) -> Result<Message, MalformedContent> {
        let config = &self.config;
        let leaving = Leaving {
            id: notice.id.parse().map_err(|_| MalformedContent)?,
            from: &notice.of,
            origin: None,
            returns: notice.returns,
            priority: notice.priority,
            persistent: notice.persistent,
            at: notice.at,
            expires: notice.expires,
            dead: None,
            sequence: 0,
            broker: &config.broker_id,
        };
        let Outgoing::Whole(mut about) = leaving.make(notice.content)? else {
            return Err(MalformedContent);
        };
        about.content = None;
        let head = JmsHead { message: about, body: JmsBody::default() };
        let of = notice.of.to_string();
        let mut properties = vec![("orignalDestination", Primitive::text(&of))];
        if let Some(Value::Text(id)) = head.value("JMSMessageID") {
            properties.push(("orignalMessageId", Primitive::text(&id)));
        }
        let about = Structure::Message(Box::new(head.message));
        let number = match id {
            BrokerMessageId::Volatile { number, .. } => number,
            BrokerMessageId::Durable(birth) => birth.0,
        };
        // One for all who hear of it.
        let name = format!("ID:{}-{:x}", config.broker_id, config.epoch);
        let producer = ProducerId { connection_id: Some(Text::cut(&name)), ..Default::default() };
        let id = MessageId {
            producer_id: Some(producer),
            producer_sequence_id: number.cast_signed(),
            ..MessageId::default()
        };
        Ok(self.advisory_under(id, about, properties))
    }
}
