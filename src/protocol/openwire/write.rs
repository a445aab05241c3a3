//! Fields to the bytes of a frame, in the loose and in the tight encoding.
//!
//! Both go through the fields once: the tight encoding gathers its booleans beside the data, in the
//! same order. Always: what a length field cannot say is an error of the whole frame.

use bytes::{BufMut, Bytes, BytesMut};

use super::kinds::{Field, Object, is_marshal_aware};
use super::{EncodeError, Format};

/// Where the fields of one frame go.
#[derive(Debug)]
pub struct Writer {
    format: Format,
    data: BytesMut,
    booleans: Vec<u8>,
    /// Bits of `booleans` that are in use.
    bits: usize,
    error: Option<EncodeError>,
    /// Bytes of the body that is not written here, until its place comes.
    elsewhere: Option<usize>,
    /// Where in `data` that place is.
    hole: Option<usize>,
}

impl Writer {
    /// A writer for the fields of one frame.
    pub(super) fn new(format: Format) -> Self {
        Self::behind(BytesMut::new(), format)
    }

    /// A writer in a loose format, behind other bytes.
    pub(super) fn behind(data: BytesMut, format: Format) -> Self {
        let booleans = Vec::new();
        Self { format, data, booleans, bits: 0, error: None, elsewhere: None, hole: None }
    }

    /// A writer that leaves the body of the first message out, which has so many bytes.
    pub(super) fn around(format: Format, content_length: usize) -> Self {
        Self { elsewhere: Some(content_length), ..Self::new(format) }
    }

    /// Behind how many bytes of data the body was left out.
    pub(super) fn hole(&self) -> Option<usize> {
        self.hole
    }

    /// The body of a message.
    pub(super) fn content(&mut self, content: &Option<Bytes>) {
        match self.elsewhere.take() {
            None => content.write(self),
            Some(length) => {
                self.boolean(true);
                self.length(length);
                self.hole = Some(self.data.len());
            }
        }
    }

    /// Booleans, in their block, and data.
    ///
    /// # Errors
    /// Where something was too long for its length field.
    pub(super) fn finish(self) -> Result<(BytesMut, BytesMut), EncodeError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let mut block = BytesMut::new();
        if self.format.tight {
            match u16::try_from(self.booleans.len()) {
                Ok(length @ 0..64) => block.put_u8(length as u8),
                Ok(length @ 64..256) => block.put_slice(&[0xc0, length as u8]),
                Ok(length) => {
                    block.put_u8(0x80);
                    block.put_u16(length);
                }
                Err(_) => return Err(EncodeError::TooManyBooleans { count: self.bits }),
            }
            block.put_slice(&self.booleans);
        }
        Ok((block, self.data))
    }

    /// The data alone, which is everything in a loose format, and what was too long in it.
    pub(super) fn into_data(self) -> (BytesMut, Option<EncodeError>) {
        (self.data, self.error)
    }

    /// A structure inside another, from its type code on.
    pub(super) fn nested<T: Object>(&mut self, object: &T) {
        let code = object.code();
        self.byte(code);
        if self.format.tight && is_marshal_aware(code) {
            self.boolean(false);
        }
        object.write_fields(self);
    }

    /// A field that the cache could hold. Nothing is ever put there: slot -1 says so.
    pub(super) fn cached<T: Object>(&mut self, object: &Option<T>) {
        if self.format.cache_slots.is_some() {
            self.boolean(true);
            self.short(u16::MAX);
        }
        object.write(self);
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// Whether the version has a field that came with `since` and went after `until`.
    pub(super) fn has(&self, since: u8, until: u8) -> bool {
        (since..=until).contains(&self.format.version.number())
    }

    pub(super) fn boolean(&mut self, yes: bool) {
        if self.format.tight {
            if self.bits.is_multiple_of(8) {
                self.booleans.push(0);
            }
            self.booleans[self.bits / 8] |= u8::from(yes) << (self.bits % 8);
            self.bits += 1;
        } else {
            self.byte(u8::from(yes));
        }
    }

    pub(super) fn byte(&mut self, byte: u8) {
        self.data.put_u8(byte);
    }

    pub(super) fn short(&mut self, short: u16) {
        self.data.put_u16(short);
    }

    pub(super) fn int(&mut self, int: i32) {
        self.data.put_i32(int);
    }

    /// A number of eight bytes, in the shortest form that the encoding has for it.
    pub(super) fn long(&mut self, long: i64) {
        if !self.format.tight {
            return self.data.put_i64(long);
        }
        let (high, low) = match long {
            0 => (false, false),
            1..=0xffff => (false, true),
            0x1_0000..=0xffff_ffff => (true, false),
            _ => (true, true),
        };
        self.boolean(high);
        self.boolean(low);
        match (high, low) {
            (false, false) => {}
            (false, true) => self.data.put_u16(long as u16),
            (true, false) => self.data.put_u32(long as u32),
            (true, true) => self.data.put_i64(long),
        }
    }

    /// Bytes without their length.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.data.put_slice(bytes);
    }

    /// A sequence of bytes with its length of four bytes before it.
    pub(super) fn sized(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.raw(bytes);
    }

    fn length(&mut self, length: usize) {
        match i32::try_from(length) {
            Ok(length) => self.int(length),
            Err(_) => self.fail(EncodeError::BytesTooLong { length }),
        }
    }

    /// A count of two bytes.
    pub(super) fn count(&mut self, count: usize) {
        match i16::try_from(count) {
            Ok(short) => self.short(short.cast_unsigned()),
            Err(_) => self.fail(EncodeError::ArrayTooLong { count }),
        }
    }

    fn fail(&mut self, error: EncodeError) {
        self.error.get_or_insert(error);
    }
}
