//! Frames that are not wanted in memory whole: large messages, piece by piece.
//!
//! The body stands between two runs of fields, each of which is read when all of it is there.
//! Always: what waits in the caller's buffer is bounded by [`Limits`], and what is found does not
//! depend on how the bytes were split. Only the loose encoding is taken apart: a tight frame has
//! its booleans for both runs at its beginning, and the broker speaks none.

use bytes::{Buf, Bytes, BytesMut};

use super::message::{Message, MessageKind};
use super::table::{BlobSource, MessageHead, MessageTail, Structure};
use super::write::Writer;
use super::{DecodeError, Decoder, EncodeError, Format, Object, SIZE_BYTES, Splitter};

/// How much of a frame may be where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a frame at most.
    pub frame_bytes: usize,
    /// Bytes of a frame up to which it is read whole, and of the fields behind a large body.
    pub whole_bytes: usize,
    /// Bytes of the fields before a large body; no more than `whole_bytes`.
    pub head_bytes: usize,
}

/// What a [`Receiver`] finds.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// A frame.
    Whole(Structure),
    /// A large message begins.
    Head(Box<LargeHead>),
    /// Some of its body; never empty.
    Body(Bytes),
    /// It ends.
    End(LargeEnd),
}

/// The beginning of a large message.
#[derive(Clone, Debug, PartialEq)]
pub struct LargeHead {
    /// What the body is.
    pub kind: MessageKind,
    /// What stands before the body.
    pub head: MessageHead,
    /// Bytes of the body; `None` where there is none, and other fields are large.
    pub content_length: Option<usize>,
}

/// What stands behind the body of a large message.
#[derive(Clone, Debug, PartialEq)]
pub struct LargeEnd {
    /// The fields of every message.
    pub tail: MessageTail,
    /// Those of a blob message.
    pub blob: Option<BlobSource>,
}

/// Reads what comes from one side of a connection.
#[derive(Debug)]
pub struct Receiver {
    limits: Limits,
    splitter: Splitter,
    decoder: Decoder,
    /// The type of which a frame that is too large is passed over.
    dispensable: Option<fn(u8) -> bool>,
    state: State,
}

#[derive(Debug)]
enum State {
    Between,
    /// Inside a frame that is passed over.
    Beside {
        left: usize,
    },
    /// Inside the body of a large message; then come `tail` bytes.
    Body {
        kind: MessageKind,
        left: usize,
        tail: usize,
    },
    Failed(DecodeError),
}

/// What begins in the bytes.
enum Upcoming {
    /// A frame that is read whole, or refused.
    Whole,
    /// A large message of that size.
    Large(MessageKind, usize),
    /// One that is passed over.
    Dispensable(usize),
    /// Too little is there to tell.
    Open,
}

impl Receiver {
    /// A receiver at the start of a connection.
    ///
    /// # Panics
    /// Where a head may be larger than what is read whole.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        assert!(limits.head_bytes <= limits.whole_bytes);
        let splitter = Splitter::new(limits.whole_bytes.min(limits.frame_bytes));
        let decoder = Decoder::new(Format::OPENING);
        Self { limits, splitter, decoder, dispensable: None, state: State::Between }
    }

    /// From the next frame on those of this type that are too large are passed over, instead of
    /// being refused: they take no memory.
    pub fn pass_over<T: Object>(&mut self) {
        self.dispensable = Some(T::takes);
    }

    /// From the next frame on this format and these limits hold.
    ///
    /// # Panics
    /// Where a head may be larger than what is read whole.
    pub fn agree(&mut self, format: Format, limits: Limits) {
        assert!(limits.head_bytes <= limits.whole_bytes);
        self.limits = limits;
        self.splitter.set_limit(limits.whole_bytes.min(limits.frame_bytes));
        self.decoder.set_format(format);
    }

    /// The next piece, its bytes taken from the front of `input`; `None` when more bytes are
    /// needed, which the caller appends behind those left.
    ///
    /// # Errors
    /// Where the bytes are no frame that may come; every later call says the same.
    pub fn poll(&mut self, input: &mut BytesMut) -> Result<Option<Piece>, DecodeError> {
        let found = match &mut self.state {
            State::Between => self.between(input),
            State::Beside { left } => {
                let take = input.len().min(*left);
                input.advance(take);
                *left -= take;
                if *left > 0 {
                    return Ok(None);
                }
                self.state = State::Between;
                return self.poll(input);
            }
            State::Body { left, .. } if *left > 0 => Ok(body(left, input)),
            State::Body { kind, tail, .. } => {
                let (kind, tail) = (*kind, *tail);
                self.end(kind, tail, input)
            }
            State::Failed(error) => Err(error.clone()),
        };
        if let Err(error) = &found {
            self.state = State::Failed(error.clone());
        }
        found
    }

    fn between(&mut self, input: &mut BytesMut) -> Result<Option<Piece>, DecodeError> {
        match self.upcoming(input)? {
            Upcoming::Open => Ok(None),
            Upcoming::Large(kind, size) => self.head(kind, size, input),
            Upcoming::Dispensable(size) => {
                input.advance(SIZE_BYTES);
                self.state = State::Beside { left: size };
                self.poll(input)
            }
            Upcoming::Whole => {
                let Some(frame) = self.splitter.poll(input)? else { return Ok(None) };
                self.decoder.decode(frame).map(Piece::Whole).map(Some)
            }
        }
    }

    /// What begins here, by its size and type.
    fn upcoming(&self, input: &[u8]) -> Result<Upcoming, DecodeError> {
        let Some(mut prefix) = input.get(..SIZE_BYTES) else { return Ok(Upcoming::Whole) };
        let size = usize::try_from(prefix.get_i32()).unwrap_or(0);
        let may_be_large = self.splitter.is_opened() && !self.decoder.format().tight;
        if !may_be_large || size <= self.limits.whole_bytes {
            return Ok(Upcoming::Whole);
        }
        match (self.dispensable, input.get(SIZE_BYTES)) {
            (Some(_), None) => return Ok(Upcoming::Open),
            (Some(is), Some(code)) if is(*code) => return Ok(Upcoming::Dispensable(size)),
            _ => {}
        }
        if size > self.limits.frame_bytes {
            return Err(DecodeError::FrameTooLarge { size, limit: self.limits.frame_bytes });
        }
        // Only a message may be so large.
        let Some(code) = input.get(SIZE_BYTES) else { return Ok(Upcoming::Open) };
        let kind = MessageKind::new(*code);
        Ok(kind.map_or(Upcoming::Whole, |kind| Upcoming::Large(kind, size)))
    }

    /// The head is looked at once, when as much is there as it may have: the frame is longer.
    fn head(
        &mut self,
        kind: MessageKind,
        size: usize,
        input: &mut BytesMut,
    ) -> Result<Option<Piece>, DecodeError> {
        let limit = self.limits.head_bytes;
        let Some(window) = input.get(SIZE_BYTES + 1..SIZE_BYTES + 1 + limit) else {
            return Ok(None);
        };
        let too_large = |error| match error {
            DecodeError::Truncated => DecodeError::HeadTooLarge { limit },
            other => other,
        };
        let mut reader = self.decoder.reader(Bytes::copy_from_slice(window))?;
        let head = reader.field().map_err(too_large)?;
        let content_length = match reader.boolean().map_err(too_large)? {
            true => Some(reader.length().map_err(too_large)?),
            false => None,
        };
        let read = limit - reader.left();
        // The type code is part of the size; so much is left for body and tail.
        let rest = size - 1 - read;
        let left = content_length.unwrap_or(0);
        let tail = rest.checked_sub(left).ok_or(DecodeError::Truncated)?;
        if tail > self.limits.whole_bytes {
            return Err(DecodeError::FrameTooLarge { size: tail, limit: self.limits.whole_bytes });
        }
        input.advance(SIZE_BYTES + 1 + read);
        self.state = State::Body { kind, left, tail };
        let head = Box::new(LargeHead { kind, head, content_length });
        Ok(Some(Piece::Head(head)))
    }

    fn end(
        &mut self,
        kind: MessageKind,
        length: usize,
        input: &mut BytesMut,
    ) -> Result<Option<Piece>, DecodeError> {
        if input.len() < length {
            return Ok(None);
        }
        let mut reader = self.decoder.reader(input.split_to(length).freeze())?;
        let tail = reader.field()?;
        let blob = match kind {
            MessageKind::Blob => Some(reader.field()?),
            _ => None,
        };
        reader.finish()?;
        self.state = State::Between;
        Ok(Some(Piece::End(LargeEnd { tail, blob })))
    }
}

fn body(left: &mut usize, input: &mut BytesMut) -> Option<Piece> {
    let take = input.len().min(*left);
    *left -= take;
    (take > 0).then(|| Piece::Body(input.split_to(take).freeze()))
}

impl LargeHead {
    /// The message, with its body in one piece.
    #[must_use]
    pub fn join(self, content: Bytes, end: LargeEnd) -> Message {
        let content = self.content_length.map(|_| content);
        Message { kind: self.kind, head: self.head, content, tail: end.tail, blob: end.blob }
    }
}

/// A frame but for the body of its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Around {
    /// What comes before the body.
    pub before: Bytes,
    /// What comes behind it.
    pub after: Bytes,
}

/// Writes a frame around a body of `content_length` bytes that the caller has elsewhere: that of
/// the message which `structure` is or holds, and whose own content does not count.
///
/// # Errors
/// Where it cannot be a frame of up to `limit` bytes without size.
///
/// # Panics
/// Where there is no message, or in the tight encoding.
pub fn encode_around<T: Object>(
    structure: &T,
    content_length: usize,
    format: Format,
    limit: usize,
) -> Result<Around, EncodeError> {
    assert!(!format.tight);
    let mut writer = Writer::around(format, content_length);
    structure.write_fields(&mut writer);
    let at = writer.hole().expect("a message whose body is elsewhere");
    let (_, mut after) = writer.finish()?;
    let size = 1 + after.len() + content_length;
    let mut before = BytesMut::with_capacity(SIZE_BYTES + 1 + at);
    super::frame::put_size(size, limit, &mut before)?;
    before.extend_from_slice(&[structure.code()]);
    before.unsplit(after.split_to(at));
    Ok(Around { before: before.freeze(), after: after.freeze() })
}
