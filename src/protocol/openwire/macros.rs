//! What makes structs and their codec of the table of structures.

/// Defines structures from a listing of their fields, in the order of the wire.
///
/// - `data Name = code { ... }` has a type code; `command` is one that begins with number and wish
///   for an answer; `part` is a run of fields inside other structures and has no code.
/// - `name: Kind;` is a field; its [`Kind`](super::kinds::Field) says how it is read and written.
/// - `name [cached]: Kind;` is one that the marshalling cache may hold.
/// - `, since 6` and `, until 9` bound the versions that have the field; in the others it is not on
///   the wire, and reads as nothing, or as what `or` says.
macro_rules! structures {
    ($(
        $(#[$meta:meta])*
        $form:ident $name:ident $(= $code:literal)? { $($fields:tt)* }
    )+) => {
        $(structure! { $(#[$meta])* $form $name $(= $code)? { $($fields)* } })+
    };
}

macro_rules! structure {
    ($(#[$meta:meta])* command $name:ident = $code:literal { $($fields:tt)* }) => {
        structure! {
            $(#[$meta])*
            part $name {
                /// The number by which an answer names it.
                command_id: i32;
                /// Whether the sender waits for an answer.
                response_required: bool;
                $($fields)*
            }
        }
        object! { $name = $code {
            fn command(&self) -> Option<CommandHead> {
                let Self { command_id, response_required, .. } = *self;
                Some(CommandHead { command_id, response_required })
            }
        } }
    };
    ($(#[$meta:meta])* data $name:ident = $code:literal { $($fields:tt)* }) => {
        structure! { $(#[$meta])* part $name { $($fields)* } }
        object! { $name = $code {} }
    };
    ($(#[$meta:meta])* part $name:ident { $(
        $(#[$field_meta:meta])*
        $field:ident $([$how:ident])? : $kind:ty
            $(, since $since:literal $(or $absent:literal)?)? $(, until $until:literal)? ;
    )* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name { $($(#[$field_meta])* pub $field: $kind,)* }

        impl $name {
            /// The fields' names with the first and the last version that has each.
            #[cfg(test)]
            pub(super) const FIELDS: &[(&str, u8, u8)] = &[$((
                stringify!($field),
                either!($($since)?, 1),
                either!($($until)?, u8::MAX),
            )),*];
        }

        impl Default for $name {
            /// Everything absent, no and 0.
            fn default() -> Self {
                Self { $($field: absent!($($($absent)?)?)),* }
            }
        }

        impl Field for $name {
            fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                $(let $field = if reader.has(either!($($since)?, 1), either!($($until)?, u8::MAX)) {
                    read_field!(reader, $($how)?)?
                } else {
                    absent!($($($absent)?)?)
                };)*
                Ok(Self { $($field),* })
            }

            fn write(&self, writer: &mut Writer) {
                $(if writer.has(either!($($since)?, 1), either!($($until)?, u8::MAX)) {
                    write_field!(writer, &self.$field, $($how)?);
                })*
            }

            #[cfg(test)]
            fn sample(sampler: &mut Sampler) -> Self {
                Self { $($field: sample_field!(sampler, $($until)?)),* }
            }
        }
    };
}

/// A structure with a type code, whose fields are a [`Field`](super::kinds::Field) together.
macro_rules! object {
    ($name:ident = $code:literal { $($more:item)* }) => {
        impl Object for $name {
            fn takes(code: u8) -> bool {
                code == $code
            }

            fn code(&self) -> u8 {
                $code
            }

            $($more)*

            fn read_fields(_: u8, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Field::read(reader)
            }

            fn write_fields(&self, writer: &mut Writer) {
                Field::write(self, writer);
            }

            #[cfg(test)]
            fn sample_fields(sampler: &mut Sampler) -> Self {
                Field::sample(sampler)
            }
        }
    };
}

/// Defines an enum of the structures that may stand at one place.
macro_rules! choices {
    ($(
        $(#[$meta:meta])*
        pub enum $name:ident { $($variant:ident($held:ty)),+ $(,)? }
    )+) => { $(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $name {
            $(#[doc = concat!("See [`", stringify!($held), "`].")] $variant($held),)+
        }

        $(impl From<$held> for $name {
            fn from(held: $held) -> Self {
                Self::$variant(held)
            }
        })+

        impl Object for $name {
            fn takes(code: u8) -> bool {
                $(<$held as Object>::takes(code))||+
            }

            fn code(&self) -> u8 {
                match self { $(Self::$variant(held) => held.code()),+ }
            }

            fn command(&self) -> Option<CommandHead> {
                match self { $(Self::$variant(held) => held.command()),+ }
            }

            fn read_fields(code: u8, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                $(if <$held as Object>::takes(code) {
                    return Object::read_fields(code, reader).map(Self::$variant);
                })+
                Err(DecodeError::UnexpectedType { code })
            }

            fn write_fields(&self, writer: &mut Writer) {
                match self { $(Self::$variant(held) => held.write_fields(writer)),+ }
            }

            #[cfg(test)]
            fn sample_fields(sampler: &mut Sampler) -> Self {
                let variants: &[fn(&mut Sampler) -> Self] =
                    &[$(|sampler| Self::$variant(Object::sample_fields(sampler))),+];
                variants[sampler.up_to(variants.len() - 1)](sampler)
            }
        }
    )+ };
}

/// Defines an enum of the values that a number on the wire may have.
macro_rules! numbers {
    ($(
        $(#[$meta:meta])*
        pub enum $name:ident: $number:ty {
            $($(#[$variant_meta:meta])* $variant:ident = $value:literal),+ $(,)?
        }
    )+) => { $(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_meta])* $variant = $value,)+
        }

        impl $name {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The one with that number on the wire.
            #[must_use]
            pub fn new(number: $number) -> Option<Self> {
                match number {
                    $($value => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// The number on the wire.
            #[must_use]
            pub const fn number(self) -> $number {
                match self { $(Self::$variant => $value),+ }
            }
        }
    )+ };
}

macro_rules! either {
    (, $otherwise:expr) => {
        $otherwise
    };
    ($given:literal, $otherwise:expr) => {
        $given
    };
}

macro_rules! absent {
    () => {
        Default::default()
    };
    ($given:literal) => {
        $given
    };
}

macro_rules! read_field {
    ($reader:ident,) => {
        $reader.field()
    };
    ($reader:ident, cached) => {
        $reader.cached()
    };
}

/// Made up for the newest version: a field that went before it is nothing.
#[cfg(test)]
macro_rules! sample_field {
    ($sampler:ident,) => {
        Field::sample($sampler)
    };
    ($sampler:ident, $until:literal) => {
        Default::default()
    };
}

macro_rules! write_field {
    ($writer:ident, $field:expr,) => {
        Field::write($field, $writer)
    };
    ($writer:ident, $field:expr, cached) => {
        $writer.cached($field)
    };
}
