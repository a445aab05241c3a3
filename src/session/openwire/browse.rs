//! Browsers: consumers that see copies of what is in a queue, and then that this was all.
//!
//! Of a name that stands for several they see one queue after the other, in the order in which they
//! are named, and those of a pattern in that of names: what is there when its turn comes.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::OpenWireSession;
use super::answers::{Asked, NOBODY};
use super::consume::NONE_SEEN;
use super::consumer::ConsumerKey;
use super::fault::Problem;
use super::names;
use super::stored::Leaving;
use crate::broker::command::{
    Browsable, Browsed, Command, Envelope, Held, Refusal, Reply, Spot, is_reserved,
};
use crate::ids::Lsn;
use crate::limits;
use crate::message::Destination;
use crate::protocol::openwire::CommandHead;
use crate::protocol::openwire::table::MessageDispatch;

/// What a browser has still to look at.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// Where it is.
    at: Option<Arc<str>>,
    /// Queues of the pattern that it is at.
    queues: VecDeque<Arc<str>>,
    /// That pattern, where there may be more of them behind the name; from the first without.
    pattern: Option<(Destination, Option<Box<str>>)>,
    /// What comes behind those.
    destinations: VecDeque<Destination>,
}

/// How a browser goes on.
enum Next {
    /// With the head of the queue it is at.
    Queue,
    /// When it knows which queues there are behind that name.
    Names(Option<Box<str>>),
    /// It has seen all.
    End,
}

impl Look {
    fn next(&mut self) -> Next {
        loop {
            if let Some(queue) = self.queues.pop_front() {
                self.at = Some(queue);
                return Next::Queue;
            }
            if let Some((_, after)) = &self.pattern {
                return Next::Names(after.clone());
            }
            match self.destinations.pop_front() {
                Some(pattern) if names::is_pattern(&pattern) => {
                    self.pattern = Some((pattern, None))
                }
                Some(Destination::Queue(queue)) => self.queues.push_back(queue),
                Some(Destination::Topic(_)) | None => return Next::End,
            }
        }
    }

    /// Some queues that there are; none behind the last.
    fn names(&mut self, found: Vec<Box<str>>) {
        let Some((pattern, after)) = &mut self.pattern else { return };
        *after = found.last().cloned();
        let reads = |name: &str| !is_reserved(name) && names::reads(pattern, name);
        self.queues.extend(found.iter().filter(|name| reads(name)).map(|name| Arc::from(&**name)));
        if after.is_none() {
            self.pattern = None;
        }
    }
}

/// What is next for a browser.
#[derive(Debug)]
pub(super) enum Reading {
    /// A message, whose content may have to be read.
    Message(ConsumerKey, Box<Browsable>),
    /// What comes behind that.
    More(ConsumerKey, Spot),
    /// What comes behind this queue.
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
    /// A browser has come. Its client hears so when it is known that it may look.
    pub(super) fn begin_browsing(&mut self, head: CommandHead, key: &ConsumerKey) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        consumer.look.destinations.extend(consumer.destinations.iter().cloned());
        self.may_browse(head, key, 0);
    }

    /// Asks for next to nothing of a name, to hear whether it is refused.
    fn may_browse(&mut self, head: CommandHead, key: &ConsumerKey, nth: usize) {
        let Some(consumer) = self.consumers.get(key) else { return self.done(head) };
        let Some(from) = consumer.destinations.get(nth) else {
            self.done(head);
            return self.look_on(key);
        };
        let command = Command::Browse { queue: from.name().into(), after: None, limit: 1 };
        self.submit(Some(Asked::MayBrowse { head, consumer: key.clone(), nth }), command);
    }

    /// What has come of that.
    pub(super) fn may_be_browsed(
        &mut self,
        head: CommandHead,
        key: &ConsumerKey,
        nth: usize,
        result: &Result<Reply, Refusal>,
    ) {
        if let Err(refusal @ Refusal::NotAllowed { .. }) = result {
            self.remove_consumer(key, NONE_SEEN);
            return self.fail(head, &Problem::refused(refusal));
        }
        self.may_browse(head, key, nth + 1);
    }

    fn look_on(&mut self, key: &ConsumerKey) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        match consumer.look.next() {
            Next::Queue => self.browse(key, None),
            Next::Names(after) => {
                let asked = Asked::Browsed { consumer: key.clone() };
                self.submit(Some(asked), Command::ListQueues { after });
            }
            Next::End => {
                let consumer_id = consumer.info.consumer_id.clone();
                self.write(&MessageDispatch { consumer_id, ..MessageDispatch::default() });
            }
        }
    }

    fn browse(&mut self, key: &ConsumerKey, after: Option<Spot>) {
        let Some(queue) = self.consumers.get(key).and_then(|it| it.look.at.as_deref()) else {
            return;
        };
        let (queue, limit) = (queue.into(), limits::BROWSER_STEP.min(limits::STEP_MESSAGES_MAX));
        let command = Command::Browse { queue, after, limit };
        self.submit(Some(Asked::Browsed { consumer: key.clone() }), command);
    }

    /// A piece of a queue has come, or some names.
    pub(super) fn browsed(&mut self, key: &ConsumerKey, result: Result<Reply, Refusal>) {
        match result {
            Ok(Reply::Browsed(Browsed { messages, next, .. })) => {
                // What is not to be handed out yet is not there yet.
                let there = messages.into_iter().filter(|message| message.due.is_none());
                let there = there.map(|message| Reading::Message(key.clone(), Box::new(message)));
                self.reading.extend(there);
                self.reading.push_back(match next {
                    Some(spot) => Reading::More(key.clone(), spot),
                    None => Reading::End(key.clone()),
                });
            }
            Ok(Reply::Queues(found)) => {
                let Some(consumer) = self.consumers.get_mut(key) else { return };
                consumer.look.names(found.into_iter().map(|queue| queue.name).collect());
                return self.look_on(key);
            }
            // There is no such queue, or what is in it is not for this client.
            Err(Refusal::NoSuchQueue(_) | Refusal::NotAllowed { .. }) | Ok(_) => {
                self.reading.push_back(Reading::End(key.clone()));
            }
            // Its client hears that there may be more.
            Err(refusal) => {
                let Some(consumer) = self.consumers.get_mut(key) else { return };
                consumer.look = Look::default();
                self.fail(NOBODY, &Problem::refused(&refusal));
                self.reading.push_back(Reading::End(key.clone()));
            }
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
                Reading::More(key, after) => self.browse(&key, Some(after)),
                Reading::End(key) => self.look_on(&key),
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
        let Some(from) = consumer.look.at.clone().map(Destination::Queue) else { return };
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
