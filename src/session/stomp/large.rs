//! A MESSAGE whose body comes in pieces: its frame is begun, filled and ended here.
//!
//! Always: between the first byte of such a frame and its last nothing else is written; what is to
//! be said meanwhile waits, and a frame that cannot be completed ends the connection without
//! another word, since STOMP has no way to take one back.

use bytes::{BufMut, BytesMut};

use super::{Phase, StompSession};
use crate::broker::command::MessageId;
use crate::ids::{SubscriptionId, Tag};

/// The frame under way.
#[derive(Debug)]
pub(super) struct Streaming {
    pub(super) subscription: SubscriptionId,
    tag: Tag,
    message: MessageId,
    /// Bytes of the body that are not written.
    left: u64,
    /// Frames that wait for its end.
    behind: BytesMut,
}

impl Streaming {
    pub(super) fn new(
        subscription: SubscriptionId,
        tag: Tag,
        message: MessageId,
        left: u64,
    ) -> Self {
        Self { subscription, tag, message, left, behind: BytesMut::new() }
    }
}

impl StompSession {
    /// Where a frame may be written now: behind the one under way.
    pub(super) fn between_frames(&mut self) -> &mut BytesMut {
        match &mut self.streaming {
            Some(streaming) => &mut streaming.behind,
            None => &mut self.out,
        }
    }

    /// Whether a delivery to that subscription is under way.
    pub(super) fn streams(&self, subscription: SubscriptionId) -> bool {
        self.streaming.as_ref().is_some_and(|streaming| streaming.subscription == subscription)
    }

    fn is_streaming(&self, subscription: SubscriptionId, tag: Tag) -> bool {
        self.streams(subscription) && self.streaming.as_ref().is_some_and(|it| it.tag == tag)
    }

    /// The next piece of a body; one of a delivery that nobody wants any more is dropped.
    pub(super) fn stream(&mut self, subscription: SubscriptionId, tag: Tag, piece: &[u8]) {
        if !self.is_streaming(subscription, tag) || matches!(self.phase, Phase::Closed(_)) {
            return;
        }
        let Some(streaming) = &mut self.streaming else { unreachable!("just seen") };
        self.out.put_slice(piece);
        streaming.left = streaming
            .left
            .checked_sub(piece.len() as u64)
            .expect("the engine gives no more than the message says");
        if streaming.left > 0 {
            return;
        }
        let Streaming { message, behind, .. } = self.streaming.take().expect("just seen");
        self.out.put_u8(0);
        self.delivered(subscription, tag, message);
        self.out.extend_from_slice(&behind);
        self.close_if_nothing_is_owed();
    }

    /// The rest of a body cannot be read.
    pub(super) fn broken(&mut self, subscription: SubscriptionId, tag: Tag) {
        if self.is_streaming(subscription, tag)
            && let Some(streaming) = &self.streaming
        {
            self.unreadable(streaming.message);
        }
    }
}
