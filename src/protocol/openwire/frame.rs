//! Frames: a size, a type code and fields.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::cache::Cache;
use super::kinds::Object;
use super::table::Structure;
use super::write::Writer;
use super::{DecodeError, EncodeError, Format, Reader};

/// The size before each frame, in bytes; it does not count itself.
pub const SIZE_BYTES: usize = 4;

/// How the first frame begins behind its size: the type code of `WireFormatInfo`, and its magic.
const OPENING: &[u8; 9] = b"\x01ActiveMQ";

/// Finds frames in bytes that may be split anywhere.
///
/// The bytes of an unfinished frame stay in the caller's buffer, [`SIZE_BYTES`] and the limit at
/// most; none are set aside for what a size promises. A peer that speaks something else is told by
/// the first byte that cannot be.
#[derive(Debug)]
pub struct Splitter {
    limit: usize,
    first: bool,
    failed: Option<DecodeError>,
}

impl Splitter {
    /// A splitter at the start of a connection, for frames of up to `limit` bytes without size.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, first: true, failed: None }
    }

    /// The first frame has been seen already.
    pub(super) fn set_opened(&mut self) {
        self.first = false;
    }

    /// Whether the first frame has been seen.
    pub(super) fn is_opened(&self) -> bool {
        !self.first
    }

    /// From the next frame on this limit holds.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// The next frame without its size, taken from the front of `input`; `None` when more bytes are
    /// needed, which the caller appends behind those left.
    ///
    /// # Errors
    /// Where no frame begins, or one that is too large; every later call says the same.
    pub fn poll(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>, DecodeError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let found = self.next(input);
        self.failed = found.as_ref().err().cloned();
        found
    }

    fn next(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>, DecodeError> {
        // No honest first frame is so large that the upper byte of its size is in use: those of
        // HTTP, TLS and STOMP are.
        if self.first && input.first().is_some_and(|byte| *byte != 0) {
            return Err(DecodeError::NotOpenWire);
        }
        let Some(mut prefix) = input.get(..SIZE_BYTES) else { return Ok(None) };
        let size = prefix.get_i32();
        let bytes = match usize::try_from(size) {
            Ok(0) | Err(_) => return Err(DecodeError::BadSize { size }),
            Ok(bytes) => bytes,
        };
        if bytes > self.limit {
            return Err(DecodeError::FrameTooLarge { size: bytes, limit: self.limit });
        }
        // Each byte is judged after those before it, so that the verdict is the same in any split.
        let mut shown = input[SIZE_BYTES..].iter().zip(OPENING);
        if self.first && (bytes < OPENING.len() || shown.any(|(a, b)| a != b)) {
            return Err(DecodeError::NotOpenWire);
        }
        if input.len() - SIZE_BYTES < bytes {
            return Ok(None);
        }
        self.first = false;
        input.advance(SIZE_BYTES);
        Ok(Some(input.split_to(bytes).freeze()))
    }
}

/// Reads the frames of one direction of a connection.
#[derive(Debug)]
pub struct Decoder {
    format: Format,
    cache: Cache,
}

impl Decoder {
    /// A decoder for frames in this format.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self { format, cache: Cache::default() }
    }

    /// From the next frame on this is the format.
    pub fn set_format(&mut self, format: Format) {
        self.format = format;
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// A reader of some fields.
    pub(super) fn reader(&mut self, fields: Bytes) -> Result<Reader<'_>, DecodeError> {
        Reader::new(fields, self.format, &mut self.cache)
    }

    /// The structure that a frame is. Its texts and bytes share the frame's memory: what is kept
    /// longer than the frame is better copied.
    ///
    /// # Errors
    /// Where the frame is none; nothing that follows it can be read.
    pub fn decode(&mut self, mut frame: Bytes) -> Result<Structure, DecodeError> {
        let code = frame.try_get_u8().map_err(|_| DecodeError::Truncated)?;
        // What opens a connection has its format, in the midst of one too.
        let opening = code == OPENING[0];
        let format = if opening { Format::OPENING } else { self.format };
        let mut reader = Reader::new(frame, format, &mut self.cache)?;
        let structure = reader.object(code)?;
        reader.finish()?;
        Ok(structure)
    }
}

/// Writes a structure as a frame of up to `limit` bytes without size, behind what `out` has.
///
/// # Errors
/// Where it cannot be one; `out` is as before then.
pub fn encode<T: Object>(
    structure: &T,
    format: Format,
    limit: usize,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let opening = structure.code() == OPENING[0];
    let format = if opening { Format::OPENING } else { format };
    if format.tight {
        let mut writer = Writer::new(format);
        structure.write_fields(&mut writer);
        let (booleans, data) = writer.finish()?;
        put_size(1 + booleans.len() + data.len(), limit, out)?;
        out.put_u8(structure.code());
        out.put_slice(&booleans);
        out.put_slice(&data);
        return Ok(());
    }
    // Written in place: a body is copied once. The size is known behind it.
    let start = out.len();
    out.put_slice(&[0; SIZE_BYTES]);
    out.put_u8(structure.code());
    let mut writer = Writer::behind(std::mem::take(out), format);
    structure.write_fields(&mut writer);
    let (written, error) = writer.into_data();
    *out = written;
    let mut size = BytesMut::with_capacity(SIZE_BYTES);
    let fits = put_size(out.len() - start - SIZE_BYTES, limit, &mut size);
    if let Err(error) = error.map_or(fits, Err) {
        out.truncate(start);
        return Err(error);
    }
    out[start..start + SIZE_BYTES].copy_from_slice(&size);
    Ok(())
}

/// Writes the size of a frame, where it may be so large.
pub(super) fn put_size(size: usize, limit: usize, out: &mut BytesMut) -> Result<(), EncodeError> {
    let limit = limit.min(i32::MAX as usize);
    if size > limit {
        return Err(EncodeError::FrameTooLarge { size, limit });
    }
    out.put_u32(size as u32);
    Ok(())
}
