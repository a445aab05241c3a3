//! Bytes of a frame to fields, in the loose and in the tight encoding.
//!
//! Always: nothing is read beyond the frame, nothing is allocated by what a length or a count says
//! but only by what has been read, and what is allocated is bounded by the size of the frame. A
//! type code picks one of the structures that may stand at its place, and nothing else.

use bytes::{Buf, Bytes, TryGetError};

use super::cache::Cache;
use super::kinds::{Field, Object, is_marshal_aware};
use super::{DecodeError, Format};
use crate::limits::{OPENWIRE_FRAME_ROOM, OPENWIRE_NESTING_MAX, OPENWIRE_ROOM_PER_BYTE};

/// What is left of a frame, and how it is to be read.
#[derive(Debug)]
pub struct Reader<'a> {
    input: Bytes,
    booleans: Booleans,
    format: Format,
    /// How many structures stand around the one that is read.
    depth: usize,
    /// Bytes of memory that may still be taken for what the rest says.
    room: usize,
    cache: &'a mut Cache,
}

/// The block of booleans before the fields of a tight frame.
#[derive(Debug, Default)]
struct Booleans {
    block: Bytes,
    /// Bits taken so far, from the least significant of each byte on.
    taken: usize,
}

impl<'a> Reader<'a> {
    /// Reads what follows a frame's type code.
    ///
    /// # Errors
    /// Where the block of booleans of a tight frame is not there.
    pub fn new(input: Bytes, format: Format, cache: &'a mut Cache) -> Result<Self, DecodeError> {
        let room =
            OPENWIRE_FRAME_ROOM.saturating_add(input.len().saturating_mul(OPENWIRE_ROOM_PER_BYTE));
        let booleans = Booleans::default();
        let mut reader = Self { input, booleans, format, depth: 0, room, cache };
        if format.tight {
            let length = match reader.byte()? {
                0xc0 => usize::from(reader.byte()?),
                0x80 => usize::from(reader.short()?),
                length => usize::from(length),
            };
            reader.booleans.block = reader.take(length)?;
        }
        Ok(reader)
    }

    /// The structure whose type code has been read already.
    pub(super) fn object<T: Object>(&mut self, code: u8) -> Result<T, DecodeError> {
        if !T::takes(code) {
            return Err(DecodeError::UnexpectedType { code });
        }
        T::read_fields(code, self)
    }

    /// A structure inside another, from its type code on.
    pub(super) fn nested<T: Object>(&mut self) -> Result<T, DecodeError> {
        let code = self.byte()?;
        if self.format.tight && is_marshal_aware(code) && self.boolean()? {
            return Err(DecodeError::CachedForm);
        }
        self.deeper()?;
        let object = self.object(code)?;
        self.shallower();
        Ok(object)
    }

    /// A field that the cache may hold, where there is one.
    pub(super) fn cached<T: Object>(&mut self) -> Result<Option<T>, DecodeError> {
        if self.format.cache_slots.is_none() {
            return Field::read(self);
        }
        if self.boolean()? {
            let slot = self.short()?.cast_signed();
            let object = Field::read(self)?;
            self.cache.put(slot, &object, self.format)?;
            Ok(object)
        } else {
            let slot = self.short()?.cast_signed();
            let bytes = self.cache.get(slot)?;
            self.spend(bytes.len())?;
            Reader::new(bytes, Cache::format(self.format), &mut Cache::default())?.field()
        }
    }

    pub(super) fn field<T: Field>(&mut self) -> Result<T, DecodeError> {
        T::read(self)
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Where something is left.
    pub(super) fn finish(self) -> Result<(), DecodeError> {
        if self.booleans.taken.div_ceil(8) < self.booleans.block.len() {
            return Err(DecodeError::LongBooleans);
        }
        match self.input.len() {
            0 => Ok(()),
            count => Err(DecodeError::LeftOver { count }),
        }
    }

    /// One level down.
    pub(super) fn deeper(&mut self) -> Result<(), DecodeError> {
        if self.depth == OPENWIRE_NESTING_MAX {
            return Err(DecodeError::TooDeep { limit: OPENWIRE_NESTING_MAX });
        }
        self.depth += 1;
        Ok(())
    }

    /// One level up again.
    pub(super) fn shallower(&mut self) {
        self.depth -= 1;
    }

    /// Takes so many bytes of memory from what the frame may cost.
    pub(super) fn spend(&mut self, bytes: usize) -> Result<(), DecodeError> {
        self.room = self.room.checked_sub(bytes).ok_or(DecodeError::TooMuch)?;
        Ok(())
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// Whether the version has a field that came with `since` and went after `until`.
    pub(super) fn has(&self, since: u8, until: u8) -> bool {
        (since..=until).contains(&self.format.version.number())
    }

    pub(super) fn boolean(&mut self) -> Result<bool, DecodeError> {
        if self.format.tight {
            let at = self.booleans.taken;
            let byte = *self.booleans.block.get(at / 8).ok_or(DecodeError::Truncated)?;
            self.booleans.taken += 1;
            return Ok(byte >> (at % 8) & 1 == 1);
        }
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            byte => Err(DecodeError::NotABool { byte }),
        }
    }

    pub(super) fn byte(&mut self) -> Result<u8, DecodeError> {
        self.input.try_get_u8().map_err(truncated)
    }

    pub(super) fn short(&mut self) -> Result<u16, DecodeError> {
        self.input.try_get_u16().map_err(truncated)
    }

    pub(super) fn int(&mut self) -> Result<i32, DecodeError> {
        self.input.try_get_i32().map_err(truncated)
    }

    /// A number of eight bytes; the tight encoding has shorter forms of it.
    pub(super) fn long(&mut self) -> Result<i64, DecodeError> {
        let long = |input: &mut Bytes| input.try_get_i64().map_err(truncated);
        if !self.format.tight {
            return long(&mut self.input);
        }
        match (self.boolean()?, self.boolean()?) {
            (false, false) => Ok(0),
            (false, true) => Ok(i64::from(self.short()?)),
            (true, false) => Ok(i64::from(self.int()?.cast_unsigned())),
            (true, true) => long(&mut self.input),
        }
    }

    /// The next bytes, as many as a length said.
    pub(super) fn take(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        if length > self.input.len() {
            return Err(DecodeError::Truncated);
        }
        Ok(self.input.split_to(length))
    }

    /// A sequence of bytes with its length of four bytes before it.
    pub(super) fn sized(&mut self) -> Result<Bytes, DecodeError> {
        let length = self.length()?;
        self.take(length)
    }

    /// A length of four bytes.
    pub(super) fn length(&mut self) -> Result<usize, DecodeError> {
        let length = self.int()?;
        usize::try_from(length).map_err(|_| DecodeError::NegativeLength { length })
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.input.len()
    }

    /// A count of two bytes.
    pub(super) fn count(&mut self) -> Result<usize, DecodeError> {
        let count = self.short()?.cast_signed();
        let negative = |_| DecodeError::NegativeLength { length: i32::from(count) };
        usize::try_from(count).map_err(negative)
    }
}

fn truncated(_: TryGetError) -> DecodeError {
    DecodeError::Truncated
}
