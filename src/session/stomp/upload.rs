//! The body of a SEND that is too large to be held: it goes to the broker in pieces as it comes.
//!
//! Always: of such a body the session holds, and has on its way to the disk, a few pieces at most;
//! the rest waits in the socket. How a body is cut does not depend on how its bytes came.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::fault::Fault;
use super::receipts::Asked;
use super::{Incoming, StompSession};
use crate::broker::command::{Command, Confirm, Refusal, Request};
use crate::identity::{Identity, Listing};
use crate::ids::{StageId, Token};

/// A body on its way.
#[derive(Debug)]
pub(super) struct Upload {
    stage: StageId,
    /// Pieces given to the broker.
    pieces: u32,
    /// Bytes so far, those of `part` included.
    bytes: u64,
    /// The beginning of the next piece.
    part: BytesMut,
    text: Utf8,
    /// What it is, piece by piece, where a transaction wants to know.
    listing: Listing,
}

impl Upload {
    pub(super) fn stage(&self) -> StageId {
        self.stage
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What it is, now that it is complete.
    pub(super) fn identity(&self) -> Identity {
        self.listing.identity()
    }

    /// Whether all of it, now that it is complete, is UTF-8.
    pub(super) fn is_text(&self) -> bool {
        self.text.is_complete()
    }

    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.part.capacity()
    }
}

/// What a session remembers of pieces.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    last_stage: u64,
    /// Pieces, and beginnings, that the broker has not answered, oldest first.
    unanswered: VecDeque<Unanswered>,
    unanswered_bytes: usize,
}

#[derive(Debug)]
struct Unanswered {
    token: Token,
    stage: StageId,
    bytes: usize,
}

impl Uploads {
    /// The broker has answered; it does so in order. Which body it spoke of, if of one.
    fn answered(&mut self, token: Token) -> Option<StageId> {
        let first = self.unanswered.pop_front_if(|first| first.token == token)?;
        self.unanswered_bytes -= first.bytes;
        Some(first.stage)
    }
}

impl StompSession {
    /// Whether more of a body may be read.
    pub(super) fn takes_body(&self) -> bool {
        let part = match &self.incoming {
            Some(Incoming::Send(send)) => send.upload.as_ref().map_or(0, |it| it.part.len()),
            _ => 0,
        };
        self.uploads.unanswered_bytes + part < self.config.pieces.ahead_bytes
    }

    /// Begins the upload of a body that is known to be too large to be held.
    pub(super) fn begin_large(&mut self) -> Result<(), Fault> {
        let Some(Incoming::Send(send)) = &self.incoming else { return Ok(()) };
        let limit = self.config.limits.body_bytes;
        match send.content_length {
            // The decoder refuses it with its next word.
            Some(length) if length > limit => Ok(()),
            Some(length) if length > self.config.pieces.whole_bytes as u64 => {
                self.begin_upload(length)
            }
            _ => Ok(()),
        }
    }

    fn begin_upload(&mut self, bytes: u64) -> Result<(), Fault> {
        let Some(Incoming::Send(send)) = &mut self.incoming else {
            unreachable!("only a SEND has a body")
        };
        if send.comes_again() {
            let refusal = Refusal::TooLargeToRepeat { limit: self.config.pieces.whole_bytes };
            return Err(Fault::Refused { asked: Asked::Send.name(), refusal });
        }
        self.uploads.last_stage += 1;
        let stage = StageId(self.uploads.last_stage);
        let (part, text, listing) = (BytesMut::new(), Utf8::default(), Listing::default());
        let upload = Upload { stage, pieces: 0, bytes: 0, part, text, listing };
        send.upload = Some(Box::new(upload));
        let command = Command::Stage { stage, to: send.to.clone(), bytes };
        self.submit_part(stage, 0, command);
        Ok(())
    }

    /// The answer, when a piece is durable, is what lets the next ones be read.
    fn submit_part(&mut self, stage: StageId, bytes: usize, command: Command) {
        let token = self.receipts.token(Asked::Piece, None);
        self.requests.push(Request { token, confirm: Confirm::Always, command });
        self.request_bytes += bytes;
        self.uploads.unanswered.push_back(Unanswered { token, stage, bytes });
        self.uploads.unanswered_bytes += bytes;
    }

    /// Takes note of an answer. The receipt of the frame being read, if that is what a refusal
    /// would be of.
    pub(super) fn part_answered(&mut self, token: Token, refused: bool) -> Option<String> {
        let stage = self.uploads.answered(token)?;
        let current = self.upload().is_some_and(|upload| upload.stage == stage);
        if refused && current { self.receipt.take() } else { None }
    }

    /// Takes the next bytes of a body.
    pub(super) fn body(&mut self, bytes: Bytes) -> Result<(), Fault> {
        let Some(Incoming::Send(send)) = &mut self.incoming else {
            unreachable!("the decoder refuses bodies of other frames of clients")
        };
        if send.upload.is_none() {
            if send.len() + bytes.len() <= self.config.pieces.whole_bytes {
                send.push(bytes);
                return Ok(());
            }
            let before = send.take_body();
            self.begin_upload(0)?;
            self.cut(&before);
        }
        self.cut(&bytes);
        Ok(())
    }

    fn upload(&mut self) -> Option<&mut Upload> {
        match &mut self.incoming {
            Some(Incoming::Send(send)) => send.upload.as_deref_mut(),
            _ => None,
        }
    }

    /// Adds to the body, and gives the broker each piece that becomes full.
    fn cut(&mut self, mut bytes: &[u8]) {
        let size = self.config.pieces.piece_bytes;
        while !bytes.is_empty() {
            let upload = self.upload().expect("begun before");
            let count = bytes.len().min(size - upload.part.len());
            let (head, rest) = bytes.split_at(count);
            upload.part.extend_from_slice(head);
            upload.bytes += count as u64;
            upload.text.push(head);
            bytes = rest;
            if upload.part.len() == size {
                self.submit_piece();
            }
        }
    }

    fn submit_piece(&mut self) {
        let transacted =
            matches!(&self.incoming, Some(Incoming::Send(it)) if it.transaction.is_some());
        let upload = self.upload().expect("begun before");
        let bytes = std::mem::take(&mut upload.part).freeze();
        if transacted {
            upload.listing.add(&bytes);
        }
        upload.pieces += 1;
        let (stage, number, length) = (upload.stage, upload.pieces, bytes.len());
        self.submit_part(stage, length, Command::StagePiece { stage, number, bytes });
    }

    /// The body is complete: the broker gets what is left of it.
    pub(super) fn end_upload(&mut self) {
        if self.upload().is_some_and(|upload| !upload.part.is_empty()) {
            self.submit_piece();
        }
    }
}

/// Whether bytes that come in parts are UTF-8.
#[derive(Clone, Copy, Debug, Default)]
struct Utf8 {
    /// They are not, whatever follows.
    broken: bool,
    /// The beginning of a character that the next part completes.
    tail: [u8; 4],
    tail_len: usize,
}

impl Utf8 {
    fn push(&mut self, mut part: &[u8]) {
        while self.tail_len > 0 && !self.broken {
            let Some((byte, rest)) = part.split_first() else { return };
            self.tail[self.tail_len] = *byte;
            self.tail_len += 1;
            part = rest;
            match std::str::from_utf8(&self.tail[..self.tail_len]) {
                Ok(_) => self.tail_len = 0,
                // No character has more than four bytes, so this ends.
                Err(error) => self.broken = error.error_len().is_some(),
            }
        }
        if let Err(error) = std::str::from_utf8(part) {
            let tail = &part[error.valid_up_to()..];
            self.broken |= error.error_len().is_some();
            if !self.broken {
                self.tail[..tail.len()].copy_from_slice(tail);
                self.tail_len = tail.len();
            }
        }
    }

    fn is_complete(&self) -> bool {
        !self.broken && self.tail_len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_are_text_where_the_whole_is(
            text in "[a-zä世🦀]{0,12}",
            noise in proptest::option::of((any::<u8>(), 0usize..40)),
            cuts in proptest::collection::vec(0usize..6, 1..8),
        ) {
            let mut bytes = text.into_bytes();
            if let Some((byte, at)) = noise {
                bytes.insert(at % (bytes.len() + 1), byte);
            }
            let (mut utf8, mut rest) = (Utf8::default(), &bytes[..]);
            for cut in cuts.iter().cycle().take(100) {
                let (head, tail) = rest.split_at((*cut).min(rest.len()));
                utf8.push(head);
                rest = tail;
            }
            utf8.push(rest);
            prop_assert_eq!(utf8.is_complete(), std::str::from_utf8(&bytes).is_ok());
        }
    }
}
