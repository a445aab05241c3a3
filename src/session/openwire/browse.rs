//! Browsers: consumers that see copies of what is in a queue, and then that this was all.

use bytes::Bytes;

use super::OpenWireSession;
use super::answers::Asked;
use super::consume::NONE_SEEN;
use super::consumer::ConsumerKey;
use super::fault::Problem;
use super::stored::Leaving;
use crate::broker::command::{Browsable, Browsed, Command, Envelope, Held, Refusal, Reply, Spot};
use crate::ids::Lsn;
use crate::limits;
use crate::message::Destination;
use crate::protocol::openwire::CommandHead;
use crate::protocol::openwire::table::MessageDispatch;

/// What is next for a browser.
#[derive(Debug)]
pub(super) enum Reading {
    /// A message, whose content may have to be read.
    Message(ConsumerKey, Box<Browsable>),
    /// What comes behind that.
    More(ConsumerKey, Spot),
    /// Nothing: it has seen all.
    End(ConsumerKey),
}

impl Reading {
    /// Where the content is to be read.
    pub(super) fn place(&self) -> Option<(Lsn, u32)> {
        match self {
            Self::Message(_, message) => match message.content {
                Held::Log { birth, size } => Some((birth, size)),
                Held::Memory(_) => None,
            },
            Self::More(..) | Self::End(_) => None,
        }
    }

    pub(super) fn is_for(&self, key: &ConsumerKey) -> bool {
        let (Self::Message(own, _) | Self::More(own, _) | Self::End(own)) = self;
        own == key
    }
}

impl OpenWireSession {
    /// A browser has come; its client hears so with the first piece.
    pub(super) fn begin_browsing(&mut self, head: CommandHead, key: &ConsumerKey) {
        self.browse(key, None, Some(head));
    }

    fn browse(&mut self, key: &ConsumerKey, after: Option<Spot>, head: Option<CommandHead>) {
        let Some(consumer) = self.consumers.get(key) else { return };
        let [Destination::Queue(name)] = &consumer.destinations[..] else { return };
        let (queue, limit) = ((**name).into(), limits::BROWSER_STEP.min(limits::STEP_MESSAGES_MAX));
        let command = Command::Browse { queue, after, limit };
        self.submit(Some(Asked::Browse { consumer: key.clone(), head }), command);
    }

    /// A piece of a queue has come.
    pub(super) fn browsed(
        &mut self,
        head: Option<CommandHead>,
        key: &ConsumerKey,
        result: Result<Reply, Refusal>,
    ) {
        if let (Some(head), Err(refusal @ Refusal::NotAllowed { .. })) = (head, &result) {
            self.remove_consumer(key, NONE_SEEN);
            return self.fail(head, &Problem::refused(refusal));
        }
        if let Some(head) = head {
            self.done(head);
        }
        if let Ok(Reply::Browsed(Browsed { messages, next, .. })) = result {
            // What is not to be handed out yet is not there yet.
            let there = messages.into_iter().filter(|message| message.due.is_none());
            let there = there.map(|message| Reading::Message(key.clone(), Box::new(message)));
            self.reading.extend(there);
            self.reading.push_back(match next {
                Some(spot) => Reading::More(key.clone(), spot),
                None => Reading::End(key.clone()),
            });
        } else {
            // There is no such queue, and so nothing in it.
            self.reading.push_back(Reading::End(key.clone()));
        }
        self.read_on();
    }

    /// Does what needs no content from the disk.
    fn read_on(&mut self) {
        while let Some(reading) = self.reading.pop_front_if(|first| first.place().is_none()) {
            match reading {
                Reading::Message(key, message) => {
                    let Held::Memory(content) = message.content.clone() else { continue };
                    self.show(&key, &message, content);
                }
                Reading::More(key, after) => self.browse(&key, Some(after), None),
                Reading::End(key) => {
                    let Some(consumer) = self.consumers.get(&key) else { continue };
                    let consumer_id = consumer.info.consumer_id.clone();
                    self.write(&MessageDispatch { consumer_id, ..MessageDispatch::default() });
                }
            }
        }
    }

    /// The content that was asked for; one that is gone meanwhile is not seen.
    pub(super) fn seen_by_browser(&mut self, content: Option<Bytes>) {
        let first = self.reading.pop_front_if(|first| first.place().is_some());
        if let (Some(Reading::Message(key, message)), Some(content)) = (first, content) {
            self.show(&key, &message, content);
        }
        self.read_on();
    }

    fn show(&mut self, key: &ConsumerKey, message: &Browsable, content: Bytes) {
        let Some(consumer) = self.consumers.get(key) else { return };
        let Some(from) = consumer.destinations.first().cloned() else { return };
        let persistent = matches!(message.content, Held::Log { .. });
        let Browsable { id, priority, at, expires, .. } = *message;
        let envelope = Envelope { id, persistent, priority, at, expires };
        if consumer.selector.as_ref().is_some_and(|it| !envelope.is_selected(it, &content)) {
            return;
        }
        let leaving = Leaving {
            id: message.id,
            from: &from,
            origin: message.origin.as_ref(),
            returns: message.returns.max(u32::from(message.redelivered)),
            priority: message.priority,
            persistent,
            at: message.at,
            expires: message.expires,
            dead: message.dead.as_deref(),
            sequence: self.dispatched + 1,
            broker: &self.config.broker_id,
        };
        if let Ok(outgoing) = leaving.make(content) {
            self.dispatch(key, &from, outgoing, None);
        }
    }
}
