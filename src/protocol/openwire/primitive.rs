//! Primitive values, and maps and lists of them: properties, map and stream bodies.
//!
//! Always: what is read has the bytes it had, so writing it again gives the same; memory is bounded
//! by what the caller allows, and nesting by a limit. Texts of values are not looked at before
//! somebody does: Java writes them in modified UTF-8 and reads them as plain.

use std::borrow::Cow;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::text::characters;
use super::{DecodeError, Text};
use crate::limits::OPENWIRE_NESTING_MAX;

/// A value of a map or list.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A boolean; any byte but 0 is yes.
    Bool(u8),
    /// A number of one byte.
    Byte(i8),
    /// A UTF-16 unit.
    Char(u16),
    /// A number of two bytes.
    Short(i16),
    /// A number of four bytes.
    Int(i32),
    /// A number of eight bytes.
    Long(i64),
    /// A number of eight bytes with a point, by its bits.
    Double(u64),
    /// A number of four bytes with a point, by its bits.
    Float(u32),
    /// Text of up to [`Text::BYTES_MAX`] bytes, as it came.
    Text(Bytes),
    /// Bytes.
    Bytes(Bytes),
    /// A map in the map; it may be null.
    Map(Option<Map>),
    /// Values in a row.
    List(Vec<Value>),
    /// Text whose length has four bytes, as it came.
    BigText(Bytes),
}

/// Names with values in the order they came. A name may come twice: the last counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map(pub Vec<(Text, Value)>);

/// What a map or a body may cost to read.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Bytes of memory for entries, what they share with the frame not counted.
    pub bytes: usize,
    /// Maps and lists inside each other.
    pub nesting: usize,
}

impl Room {
    /// For so many bytes of map as much as any that is not made to cost takes.
    #[must_use]
    pub fn of(length: usize) -> Self {
        let entry = size_of::<(Text, Value)>();
        // The shortest entry has three bytes; a list of nulls has one for each, and is refused.
        Self { bytes: 1024 + length.saturating_mul(entry / 3 + 1), nesting: OPENWIRE_NESTING_MAX }
    }
}

impl Value {
    /// The characters, where this is a text.
    #[must_use]
    pub fn as_text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Text(bytes) | Self::BigText(bytes) => Some(characters(bytes)),
            _ => None,
        }
    }

    /// The whole number, where this is one.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        match *self {
            Self::Byte(number) => Some(number.into()),
            Self::Short(number) => Some(number.into()),
            Self::Int(number) => Some(number.into()),
            Self::Long(number) => Some(number),
            _ => None,
        }
    }

    /// The boolean, where this is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Self::Bool(byte) => Some(byte != 0),
            _ => None,
        }
    }

    /// A text in the form that its length asks for. Characters beyond the first plane are plain
    /// UTF-8: so the Java reader has them.
    #[must_use]
    pub fn text(characters: &str) -> Self {
        // Java writes what is shorter than this many characters with a length of two bytes.
        const BIG: usize = 8191;
        let bytes = Bytes::copy_from_slice(characters.as_bytes());
        if bytes.len() < BIG { Self::Text(bytes) } else { Self::BigText(bytes) }
    }

    /// Reads one value.
    ///
    /// # Errors
    /// Where the bytes are none, or cost more than `room`, which is lowered by what it costs.
    pub fn read(input: &mut Bytes, room: &mut Room) -> Result<Self, DecodeError> {
        let truncated = |_| DecodeError::Truncated;
        Ok(match input.try_get_u8().map_err(truncated)? {
            0 => Self::Null,
            1 => Self::Bool(input.try_get_u8().map_err(truncated)?),
            2 => Self::Byte(input.try_get_i8().map_err(truncated)?),
            3 => Self::Char(input.try_get_u16().map_err(truncated)?),
            4 => Self::Short(input.try_get_i16().map_err(truncated)?),
            5 => Self::Int(input.try_get_i32().map_err(truncated)?),
            6 => Self::Long(input.try_get_i64().map_err(truncated)?),
            7 => Self::Double(input.try_get_u64().map_err(truncated)?),
            8 => Self::Float(input.try_get_u32().map_err(truncated)?),
            9 => Self::Text(short_bytes(input)?),
            10 => Self::Bytes(long_bytes(input)?),
            11 => room.inside(|room| Map::read(input, room).map(Self::Map))?,
            12 => room.inside(|room| list(input, room).map(Self::List))?,
            13 => Self::BigText(long_bytes(input)?),
            code => return Err(DecodeError::UnexpectedValue { code }),
        })
    }

    /// Writes one value.
    pub fn write(&self, out: &mut BytesMut) {
        match self {
            Self::Null => out.put_u8(0),
            Self::Bool(byte) => out.put_slice(&[1, *byte]),
            Self::Byte(number) => out.put_slice(&[2, number.cast_unsigned()]),
            Self::Char(unit) => tag(3, out).put_u16(*unit),
            Self::Short(number) => tag(4, out).put_i16(*number),
            Self::Int(number) => tag(5, out).put_i32(*number),
            Self::Long(number) => tag(6, out).put_i64(*number),
            Self::Double(bits) => tag(7, out).put_u64(*bits),
            Self::Float(bits) => tag(8, out).put_u32(*bits),
            Self::Text(bytes) => put_short_bytes(bytes, tag(9, out)),
            Self::Bytes(bytes) => put_long_bytes(bytes, tag(10, out)),
            Self::Map(map) => {
                out.put_u8(11);
                match map {
                    Some(map) => map.write(out),
                    None => out.put_i32(-1),
                }
            }
            Self::List(values) => {
                out.put_u8(12);
                put_length(values.len(), out);
                for value in values {
                    value.write(out);
                }
            }
            Self::BigText(bytes) => put_long_bytes(bytes, tag(13, out)),
        }
    }
}

impl Map {
    /// The value of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().rev().find(|(key, _)| key.to_str() == name).map(|(_, value)| value)
    }

    /// The map that all of these bytes are; null is an empty one.
    ///
    /// # Errors
    /// Where they are none, or cost more than `room`.
    pub fn decode(mut bytes: Bytes, mut room: Room) -> Result<Self, DecodeError> {
        let map = Self::read(&mut bytes, &mut room)?;
        match bytes.len() {
            0 => Ok(map.unwrap_or_default()),
            count => Err(DecodeError::LeftOver { count }),
        }
    }

    /// The bytes of the map.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.write(&mut out);
        out.freeze()
    }

    fn read(input: &mut Bytes, room: &mut Room) -> Result<Option<Self>, DecodeError> {
        let count = input.try_get_i32().map_err(|_| DecodeError::Truncated)?;
        if count == -1 {
            return Ok(None);
        }
        let mut entries = Vec::new();
        for _ in 0..not_negative(count)? {
            room.spend(size_of::<(Text, Value)>())?;
            let name = Text::from_wire(short_bytes(input)?)?;
            entries.push((name, Value::read(input, room)?));
        }
        Ok(Some(Self(entries)))
    }

    fn write(&self, out: &mut BytesMut) {
        put_length(self.0.len(), out);
        for (name, value) in &self.0 {
            put_short_bytes(name.as_bytes(), out);
            value.write(out);
        }
    }
}

impl Room {
    fn spend(&mut self, bytes: usize) -> Result<(), DecodeError> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or(DecodeError::TooMuch)?;
        Ok(())
    }

    fn inside<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let too_deep = DecodeError::TooDeep { limit: OPENWIRE_NESTING_MAX };
        self.nesting = self.nesting.checked_sub(1).ok_or(too_deep)?;
        let found = read(self)?;
        self.nesting += 1;
        Ok(found)
    }
}

fn list(input: &mut Bytes, room: &mut Room) -> Result<Vec<Value>, DecodeError> {
    let count = input.try_get_i32().map_err(|_| DecodeError::Truncated)?;
    let mut values = Vec::new();
    for _ in 0..not_negative(count)? {
        room.spend(size_of::<Value>())?;
        values.push(Value::read(input, room)?);
    }
    Ok(values)
}

fn not_negative(length: i32) -> Result<usize, DecodeError> {
    usize::try_from(length).map_err(|_| DecodeError::NegativeLength { length })
}

fn short_bytes(input: &mut Bytes) -> Result<Bytes, DecodeError> {
    let length = input.try_get_u16().map_err(|_| DecodeError::Truncated)?;
    take(input, usize::from(length))
}

pub(super) fn long_bytes(input: &mut Bytes) -> Result<Bytes, DecodeError> {
    let length = input.try_get_i32().map_err(|_| DecodeError::Truncated)?;
    take(input, not_negative(length)?)
}

fn take(input: &mut Bytes, length: usize) -> Result<Bytes, DecodeError> {
    if length > input.len() {
        return Err(DecodeError::Truncated);
    }
    Ok(input.split_to(length))
}

/// Writes the number of a value, before what follows it.
fn tag(code: u8, out: &mut BytesMut) -> &mut BytesMut {
    out.put_u8(code);
    out
}

fn put_short_bytes(bytes: &[u8], out: &mut BytesMut) {
    let length =
        u16::try_from(bytes.len()).expect("a text whose length has four bytes is a BigText");
    out.put_u16(length);
    out.put_slice(bytes);
}

pub(super) fn put_long_bytes(bytes: &[u8], out: &mut BytesMut) {
    put_length(bytes.len(), out);
    out.put_slice(bytes);
}

fn put_length(length: usize, out: &mut BytesMut) {
    out.put_i32(i32::try_from(length).expect("what has 2 GiB fits into no frame"));
}
