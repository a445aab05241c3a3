//! A dispatch whose body comes in pieces: its frame is begun, filled and ended here.
//!
//! Always: between the first byte of such a frame and its last nothing else is written; what is to
//! be said meanwhile waits, and a frame that cannot be completed ends the connection.

use bytes::{BufMut, Bytes, BytesMut};

use super::OpenWireSession;
use super::fault::Fault;
use crate::ids::{SubscriptionId, Tag};
use crate::protocol::openwire::{Object, encode_around};

/// The frame under way.
#[derive(Debug)]
pub(super) struct Streaming {
    subscription: SubscriptionId,
    tag: Tag,
    /// Bytes of the body that are not written.
    left: u64,
    /// What stands behind the body.
    after: Bytes,
    /// Frames that wait for its end.
    behind: BytesMut,
}

impl OpenWireSession {
    /// Where a frame may be written now: behind the one under way.
    pub(super) fn between_frames(&mut self) -> &mut BytesMut {
        match &mut self.streaming {
            Some(streaming) => &mut streaming.behind,
            None => &mut self.out,
        }
    }

    pub(super) fn behind_bytes(&self) -> usize {
        self.streaming.as_ref().map_or(0, |streaming| streaming.behind.len())
    }

    /// Begins a frame whose body follows; where it is `counted` its length stands before it.
    pub(super) fn begin_stream<T: Object>(
        &mut self,
        (subscription, tag): (SubscriptionId, Tag),
        dispatch: &T,
        bytes: u64,
        counted: bool,
    ) {
        let count = usize::try_from(bytes).unwrap_or(usize::MAX / 2);
        let length = count + if counted { 4 } else { 0 };
        match encode_around(dispatch, length, self.format, self.frame_bytes) {
            Ok(around) => {
                self.out.extend_from_slice(&around.before);
                if counted {
                    self.out.put_i32(i32::try_from(count).expect("the frame has a size"));
                }
                let (after, behind) = (around.after, BytesMut::new());
                let streaming = Streaming { subscription, tag, left: bytes, after, behind };
                self.streaming = Some(streaming);
                if bytes == 0 {
                    self.end_stream();
                }
            }
            Err(error) => self.close(Fault::Encode(error)),
        }
    }

    fn streams(&self, subscription: SubscriptionId, tag: Tag) -> bool {
        let of = |it: &Streaming| (it.subscription, it.tag) == (subscription, tag);
        self.streaming.as_ref().is_some_and(of)
    }

    /// The next piece of a body.
    pub(super) fn stream(&mut self, subscription: SubscriptionId, tag: Tag, piece: &[u8]) {
        if !self.streams(subscription, tag) || self.is_closing().is_some() {
            return;
        }
        let Some(streaming) = &mut self.streaming else { unreachable!("just seen") };
        self.out.put_slice(piece);
        streaming.left = streaming
            .left
            .checked_sub(piece.len() as u64)
            .expect("the engine gives no more than the message says");
        if streaming.left == 0 {
            self.end_stream();
        }
        if let Some(watch) = &mut self.watch {
            watch.sent();
        }
    }

    fn end_stream(&mut self) {
        let Some(Streaming { after, behind, .. }) = self.streaming.take() else { return };
        self.out.extend_from_slice(&after);
        self.out.extend_from_slice(&behind);
    }

    /// The rest of a body cannot be read: a frame cannot be taken back.
    pub(super) fn broken(&mut self, subscription: SubscriptionId, tag: Tag) {
        if self.streams(subscription, tag) {
            self.close(Fault::Unreadable { message: format!("of {subscription}, {tag}") });
        }
    }
}
