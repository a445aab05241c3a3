//! The codec against bytes of others, and its own promises.

use bytes::{Bytes, BytesMut};

use super::{Format, Object, SIZE_BYTES, Version, encode};

mod advisories;
mod golden;
mod handshake;
mod large;
mod primitives;
mod round_trip;
mod splitting;
mod table;

const NEWEST: Format =
    Format { version: Version::NEWEST, tight: false, cache_slots: None, stack_traces: true };

/// A structure's frame without its size.
fn frame_of<T: Object>(structure: &T, format: Format) -> Bytes {
    let mut out = BytesMut::new();
    encode(structure, format, usize::MAX, &mut out).unwrap();
    out.freeze().slice(SIZE_BYTES..)
}

/// Bytes written as hexadecimal digits.
fn unhex(digits: &str) -> Bytes {
    let digits = digits.as_bytes();
    assert!(digits.len().is_multiple_of(2));
    let value = |digit: u8| char::from(digit).to_digit(16).expect("a digit") as u8;
    digits.chunks(2).map(|pair| value(pair[0]) << 4 | value(pair[1])).collect()
}
