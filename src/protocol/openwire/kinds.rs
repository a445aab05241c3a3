//! The kinds of fields, each a Rust type with one way to be read and one to be written.
//!
//! `bool`, `i8`, `i32` and `i64` are always there. An `Option` is a flag and what may follow it:
//! a [`Text`], bytes, a structure with its type code, an array, a [`Throwable`].

use bytes::Bytes;

#[cfg(test)]
use super::sample::Sampler;
use super::{DecodeError, Reader, Secret, Text, Throwable, Writer};

/// A field of a structure.
pub trait Field: Sized {
    #[doc(hidden)]
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
    #[doc(hidden)]
    fn write(&self, writer: &mut Writer);
    #[cfg(test)]
    #[doc(hidden)]
    fn sample(sampler: &mut Sampler) -> Self;
}

/// What an `Option` among the fields may hold, from behind its flag.
pub trait Nullable: Sized {
    #[doc(hidden)]
    fn read_present(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
    #[doc(hidden)]
    fn write_present(&self, writer: &mut Writer);
    #[cfg(test)]
    #[doc(hidden)]
    fn sample_present(sampler: &mut Sampler) -> Self;
}

/// A structure, or a choice between structures, that its type code announces.
pub trait Object: Sized {
    /// Whether a structure of that type code may stand here.
    #[must_use]
    fn takes(code: u8) -> bool;

    /// The type code.
    #[must_use]
    fn code(&self) -> u8;

    /// Number and wish for an answer, if this is a command.
    #[must_use]
    fn command(&self) -> Option<CommandHead> {
        None
    }

    #[doc(hidden)]
    fn read_fields(code: u8, reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
    #[doc(hidden)]
    fn write_fields(&self, writer: &mut Writer);
    #[cfg(test)]
    #[doc(hidden)]
    fn sample_fields(sampler: &mut Sampler) -> Self;
}

/// What every command begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandHead {
    /// The number by which an answer names it.
    pub command_id: i32,
    /// Whether the sender waits for an answer.
    pub response_required: bool,
}

/// Whether the tight encoding has one more boolean before a nested structure of that type: it would
/// say that the sender has kept the bytes of an earlier one. Nobody sets it.
pub(super) fn is_marshal_aware(code: u8) -> bool {
    matches!(code, 1 | 23..=29)
}

impl Field for bool {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.boolean()
    }

    fn write(&self, writer: &mut Writer) {
        writer.boolean(*self);
    }

    #[cfg(test)]
    fn sample(sampler: &mut Sampler) -> Self {
        sampler.chance(2)
    }
}

impl Field for i8 {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(reader.byte()?.cast_signed())
    }

    fn write(&self, writer: &mut Writer) {
        writer.byte(self.cast_unsigned());
    }

    #[cfg(test)]
    fn sample(sampler: &mut Sampler) -> Self {
        sampler.number() as Self
    }
}

impl Field for i32 {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.int()
    }

    fn write(&self, writer: &mut Writer) {
        writer.int(*self);
    }

    #[cfg(test)]
    fn sample(sampler: &mut Sampler) -> Self {
        sampler.number() as Self
    }
}

impl Field for i64 {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.long()
    }

    fn write(&self, writer: &mut Writer) {
        writer.long(*self);
    }

    #[cfg(test)]
    fn sample(sampler: &mut Sampler) -> Self {
        sampler.number()
    }
}

impl<T: Nullable> Field for Option<T> {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if reader.boolean()? { T::read_present(reader).map(Some) } else { Ok(None) }
    }

    fn write(&self, writer: &mut Writer) {
        writer.boolean(self.is_some());
        if let Some(present) = self {
            present.write_present(writer);
        }
    }

    #[cfg(test)]
    fn sample(sampler: &mut Sampler) -> Self {
        sampler.deeper(T::sample_present)
    }
}

impl Nullable for Text {
    fn read_present(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        // The tight encoding says whether there are but characters of one byte. Nothing depends on
        // it: those look alike in both forms.
        if reader.format().tight {
            reader.boolean()?;
        }
        let length = reader.short()?;
        Self::from_wire(reader.take(usize::from(length))?)
    }

    fn write_present(&self, writer: &mut Writer) {
        if writer.format().tight {
            // The length of the plain form is signed.
            let plain = |byte: &u8| (1..0x80).contains(byte);
            let short = self.as_bytes().len() <= usize::from(i16::MAX.cast_unsigned());
            writer.boolean(short && self.as_bytes().iter().all(plain));
        }
        writer.short(self.as_bytes().len() as u16);
        writer.raw(self.as_bytes());
    }

    #[cfg(test)]
    fn sample_present(sampler: &mut Sampler) -> Self {
        sampler.text()
    }
}

impl Nullable for Secret {
    fn read_present(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Text::read_present(reader).map(Self)
    }

    fn write_present(&self, writer: &mut Writer) {
        self.0.write_present(writer);
    }

    #[cfg(test)]
    fn sample_present(sampler: &mut Sampler) -> Self {
        Self(sampler.text())
    }
}

impl Nullable for Bytes {
    fn read_present(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.sized()
    }

    fn write_present(&self, writer: &mut Writer) {
        writer.sized(self);
    }

    #[cfg(test)]
    fn sample_present(sampler: &mut Sampler) -> Self {
        sampler.bytes()
    }
}

impl<T: Nullable> Nullable for Vec<Option<T>> {
    fn read_present(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = reader.count()?;
        let mut elements = Self::new();
        for _ in 0..count {
            reader.spend(size_of::<Option<T>>())?;
            elements.push(reader.field()?);
        }
        Ok(elements)
    }

    fn write_present(&self, writer: &mut Writer) {
        writer.count(self.len());
        for element in self {
            element.write(writer);
        }
    }

    #[cfg(test)]
    fn sample_present(sampler: &mut Sampler) -> Self {
        (0..sampler.up_to(3)).map(|_| Field::sample(sampler)).collect()
    }
}

impl<T: Object> Nullable for T {
    fn read_present(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.nested()
    }

    fn write_present(&self, writer: &mut Writer) {
        writer.nested(self);
    }

    #[cfg(test)]
    fn sample_present(sampler: &mut Sampler) -> Self {
        Self::sample_fields(sampler)
    }
}

impl<T: Object> Object for Box<T> {
    fn takes(code: u8) -> bool {
        T::takes(code)
    }

    fn code(&self) -> u8 {
        T::code(self)
    }

    fn command(&self) -> Option<CommandHead> {
        T::command(self)
    }

    fn read_fields(code: u8, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.spend(size_of::<T>())?;
        T::read_fields(code, reader).map(Self::new)
    }

    fn write_fields(&self, writer: &mut Writer) {
        T::write_fields(self, writer);
    }

    #[cfg(test)]
    fn sample_fields(sampler: &mut Sampler) -> Self {
        Self::new(T::sample_fields(sampler))
    }
}

impl Nullable for Throwable {
    fn read_present(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::read_chain(reader)
    }

    fn write_present(&self, writer: &mut Writer) {
        self.write_chain(writer);
    }

    #[cfg(test)]
    fn sample_present(sampler: &mut Sampler) -> Self {
        Self::sample_chain(sampler)
    }
}
