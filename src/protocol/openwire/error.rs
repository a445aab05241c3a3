//! What can be wrong with the bytes of a frame, and with what is to become one.

/// Why bytes are not a frame, or a frame is nothing that is known. The connection cannot go on:
/// structures have no lengths, so nothing after the fault can be told apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The first frame is no `WireFormatInfo`.
    #[error("the peer does not speak OpenWire: its first frame is no WireFormatInfo")]
    NotOpenWire,
    /// The size of a frame is zero or negative.
    #[error("a frame says that it has {size} bytes")]
    BadSize {
        /// The size prefix.
        size: i32,
    },
    /// A frame is larger than the limit.
    #[error("a frame of {size} bytes is larger than the limit of {limit}")]
    FrameTooLarge {
        /// The size prefix.
        size: usize,
        /// The limit in bytes, without the prefix.
        limit: usize,
    },
    /// What stands before the body of a large message is larger than the limit.
    #[error("a message has more than {limit} bytes before its body")]
    HeadTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// A field, or a length in it, goes beyond its frame.
    #[error("the frame ends before its fields do")]
    Truncated,
    /// Bytes are left behind the last field.
    #[error("{count} bytes are left behind the last field of the frame")]
    LeftOver {
        /// How many.
        count: usize,
    },
    /// A length or a count is negative.
    #[error("a length of {length} is negative")]
    NegativeLength {
        /// The length found.
        length: i32,
    },
    /// A boolean is neither 0 nor 1.
    #[error("the byte {byte:#04x} stands where a boolean is expected")]
    NotABool {
        /// The byte found.
        byte: u8,
    },
    /// A string is not modified UTF-8.
    #[error("a string is not valid modified UTF-8")]
    NotText,
    /// No structure has this number, or none that may stand here.
    #[error("no structure of type {code} may stand here")]
    UnexpectedType {
        /// The number found.
        code: u8,
    },
    /// No value of a map or list has this number, or none that may stand here.
    #[error("no value of type {code} may stand here")]
    UnexpectedValue {
        /// The number found.
        code: u8,
    },
    /// Structures or values stand inside each other more deeply than the limit.
    #[error("more than {limit} levels stand inside each other")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// What the bytes say would take more memory than their number allows.
    #[error("the frame has more elements than its size allows")]
    TooMuch,
    /// A cache reference to a slot that is not there or was never filled.
    #[error("the cache has nothing in slot {slot}")]
    NoSuchSlot {
        /// The slot.
        slot: i16,
    },
    /// A nested message in a form that no known peer has ever sent.
    #[error("a nested message is in its cached form")]
    CachedForm,
    /// The block of booleans of a tight frame is longer than its fields need.
    #[error("the boolean block is longer than its fields need")]
    LongBooleans,
}

/// Why a structure cannot be written. Nothing of it has been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// An array has more elements than its count can say.
    #[error("an array of {count} elements is longer than 32767")]
    ArrayTooLong {
        /// How many it has.
        count: usize,
    },
    /// A byte sequence is longer than its length field can say.
    #[error("a sequence of {length} bytes is longer than 2147483647")]
    BytesTooLong {
        /// How many bytes it has.
        length: usize,
    },
    /// There are more booleans than the tight encoding has room for.
    #[error("{count} booleans are more than a tight frame has room for")]
    TooManyBooleans {
        /// How many there are.
        count: usize,
    },
    /// The frame would be larger than the peer takes.
    #[error("the frame of {size} bytes is larger than the {limit} that the peer takes")]
    FrameTooLarge {
        /// Its size, without the prefix.
        size: usize,
        /// The limit.
        limit: usize,
    },
}
