//! Large bodies of simulated clients: sent in pieces, broken off, and taken in again.
//!
//! A body's bytes are made from its message's number and their own place in it, so that a piece
//! that is missing, doubled or another's is noticed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::broker::command::{Command, Delivery};
use crate::broker::delta::{Entry, PieceAt};
use crate::ids::{StageId, SubscriptionId, Tag, UploadId};
use crate::message::{BodyKind, LargeHead, large_bytes};
use crate::wal::Reader;

use super::node::number_of;
use super::random::Random;

/// The byte at a place of the body of a message.
fn byte_at(number: u64, place: u64) -> u8 {
    (number.wrapping_mul(31).wrapping_add(place.wrapping_mul(7)) >> (place % 3)) as u8
}

/// Whether bytes are those of the body of a message from a place on.
pub(super) fn is_of(number: u64, place: u64, bytes: &[u8]) -> bool {
    bytes.iter().zip(place..).all(|(byte, place)| *byte == byte_at(number, place))
}

/// The number that the head of a message with a large body carries.
pub(super) fn number_of_large(content: &Bytes) -> Result<u64, String> {
    let head = LargeHead::decode(content.clone()).map_err(|error| error.to_string())?;
    let number = head.properties.iter().find(|(name, _)| name == "number");
    number.and_then(|(_, value)| value.parse().ok()).ok_or("nobody sent this".to_owned())
}

/// A body on its way to the broker.
pub(super) struct Sending {
    pub(super) stage: StageId,
    pub(super) number: u64,
    pieces: u32,
    bytes: u64,
    /// Pieces that are still to be sent.
    left: u64,
}

impl Sending {
    pub(super) fn new(stage: StageId, number: u64, random: &mut Random) -> Self {
        Self { stage, number, pieces: 0, bytes: 0, left: 1 + random.below(9) }
    }

    /// Loses a piece on the way, as if it had been refused.
    pub(super) fn lose_piece(&mut self) {
        self.pieces += 1;
        self.bytes += 100;
    }

    /// The next piece; `None` when there are no more.
    pub(super) fn piece(&mut self, random: &mut Random) -> Option<Command> {
        self.left = self.left.checked_sub(1)?;
        self.pieces += 1;
        let end = self.bytes + 1 + random.below(2500);
        let bytes = (self.bytes..end).map(|place| byte_at(self.number, place)).collect();
        self.bytes = end;
        Some(Command::StagePiece { stage: self.stage, number: self.pieces, bytes })
    }

    /// The content of the message.
    pub(super) fn content(&self) -> Bytes {
        let properties = vec![("number".to_owned(), self.number.to_string())];
        LargeHead { kind: BodyKind::Bytes, properties, bytes: self.bytes }.encode()
    }
}

/// A body on its way from the broker.
#[derive(Clone, Copy)]
pub(super) struct Receiving {
    pub(super) subscription: SubscriptionId,
    pub(super) tag: Tag,
    pub(super) number: u64,
    got: u64,
    total: u64,
}

impl Receiving {
    /// What follows a delivery, if anything does.
    pub(super) fn of(delivery: &Delivery, number: u64) -> Option<Self> {
        let total = large_bytes(&delivery.content)?;
        let (subscription, tag) = (delivery.subscription, delivery.tag);
        Some(Self { subscription, tag, number, got: 0, total })
    }

    /// Takes in a piece; true when it was the last.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<bool, String> {
        if !is_of(self.number, self.got, bytes) || bytes.is_empty() {
            return Err(format!("the body of message {} is another's", self.number));
        }
        self.got += bytes.len() as u64;
        if self.got > self.total {
            return Err(format!("the body of message {} is too long", self.number));
        }
        Ok(self.got == self.total)
    }
}

/// The pieces of large bodies that are there, and which messages have claimed them.
pub(super) struct Claims {
    pieces: BTreeMap<(UploadId, u32), PieceAt>,
    /// By how many entries each is claimed that was published.
    shared: BTreeMap<UploadId, u64>,
}

impl Claims {
    pub(super) fn of(pieces: BTreeMap<(UploadId, u32), PieceAt>) -> Self {
        Self { pieces, shared: BTreeMap::new() }
    }

    /// The bytes of each segment that they keep.
    pub(super) fn count(&self, segment_size: u64, live: &mut BTreeMap<u64, u64>) {
        for piece in self.pieces.values() {
            *live.entry(piece.birth.0 / segment_size).or_default() += u64::from(piece.size);
        }
    }

    /// Claims the body of a message, if it has one, reading all of it; the number of the message.
    pub(super) fn claim(
        &mut self,
        reader: &Reader,
        entry: &Entry,
        content: &Bytes,
    ) -> Result<u64, String> {
        let number = number_of(content)?;
        let (upload, total) = match (entry.upload, large_bytes(content)) {
            (None, None) => return Ok(number),
            (Some(body), Some(bytes)) => (body.upload(), bytes),
            (upload, bytes) => return Err(format!("{number}: {upload:?}, but {bytes:?} bytes")),
        };
        if entry.shared {
            let holders = self.shared.entry(upload).or_default();
            *holders += 1;
            if *holders > 1 {
                return Ok(number);
            }
        }
        let mut place = 0;
        for next in 1.. {
            let Some(at) = self.pieces.remove(&(upload, next)) else { break };
            let frame = reader.read(at.birth, at.size).map_err(|e| format!("{upload}: {e}"))?;
            if !is_of(number, place, &frame.payload) {
                return Err(format!("the body of message {number} is another's"));
            }
            place += frame.payload.len() as u64;
        }
        let whole = place == total;
        if whole { Ok(number) } else { Err(format!("{number}: {place} bytes of {total}")) }
    }

    /// What is left is being given back, and bodies are claimed as often as the broker says.
    pub(super) fn check(
        &self,
        dead: &[UploadId],
        said: &BTreeMap<UploadId, u64>,
    ) -> Result<(), String> {
        let mut left = self.pieces.keys().filter(|(upload, _)| !dead.contains(upload));
        if let Some((upload, number)) = left.next() {
            return Err(format!("piece {number} of {upload} belongs to nobody"));
        }
        if *said == self.shared {
            return Ok(());
        }
        Err(format!("bodies are named by {:?}, not {said:?}", self.shared))
    }
}

/// The large bodies of one client.
#[derive(Default)]
pub(super) struct Bodies {
    pub(super) last_stage: u64,
    pub(super) sending: Option<Sending>,
    pub(super) receiving: Option<Receiving>,
    /// Stages of which a part was refused.
    pub(super) refused: BTreeSet<StageId>,
    /// The stage of each message that was asked to be sent.
    pub(super) sent: BTreeMap<u64, StageId>,
}
