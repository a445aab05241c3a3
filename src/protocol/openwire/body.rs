//! Message bodies: the field `content`, looked into.
//!
//! The broker hands bodies on as they are; this is for who must see them. A compressed body is
//! inflated by others, within bounds, before it comes here: only that of bytes has a length of its
//! own before it.

use bytes::{Bytes, BytesMut};

use super::DecodeError;
use super::primitive::{Room, Value, long_bytes, put_long_bytes};
use super::text::characters;

/// The characters of a text body; `None` is the body of a message without text.
///
/// # Errors
/// Where the bytes are no such body.
pub fn decode_text(content: &Bytes) -> Result<Option<String>, DecodeError> {
    let mut rest = content.clone();
    // A length of -1 is another way to say null.
    if content[..] == [0xff; 4] {
        return Ok(None);
    }
    let bytes = long_bytes(&mut rest)?;
    match rest.len() {
        0 => Ok(Some(characters(&bytes).into_owned())),
        count => Err(DecodeError::LeftOver { count }),
    }
}

/// The body of a text message. Java reads it as modified UTF-8 and fails at anything else.
#[must_use]
pub fn encode_text(text: &str) -> Bytes {
    let mut out = BytesMut::new();
    put_long_bytes(&super::text::modified(text), &mut out);
    out.freeze()
}

/// The values of a stream body, in order.
///
/// # Errors
/// Where the bytes are none, or cost more than `room`.
pub fn decode_stream(mut content: Bytes, mut room: Room) -> Result<Vec<Value>, DecodeError> {
    // Values stand side by side, and may not be maps or lists.
    room.nesting = 0;
    let mut values = Vec::new();
    while !content.is_empty() {
        room.bytes = room.bytes.checked_sub(size_of::<Value>()).ok_or(DecodeError::TooMuch)?;
        match content[0] {
            code @ (11 | 12) => return Err(DecodeError::UnexpectedValue { code }),
            _ => values.push(Value::read(&mut content, &mut room)?),
        }
    }
    Ok(values)
}
