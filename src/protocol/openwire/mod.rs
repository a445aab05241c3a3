//! OpenWire, versions 1 to 12, as bytes.
//!
//! [`Receiver`] makes structures of bytes that may be split anywhere, and pieces of what is too
//! large to be in memory whole; [`encode`] and [`encode_around`] write frames. Beneath it
//! [`Splitter`] finds frames, and [`Decoder`] makes a [`Structure`] of one. `table.rs` is the only
//! listing of what structures there are; their types, readers and writers are made of it.
//!
//! Every connection begins with a [`WireFormatInfo`](table::WireFormatInfo) from each side, in the
//! loose encoding; [`negotiate`] says what both make of it. The broker offers neither the tight
//! encoding nor the cache: every known client does without when asked. They would save a third of a
//! small message's bytes, and cost a pass over bits and memory that peers fill. This codec speaks
//! both nevertheless, as far as it takes to read what was captured of others: one reader and one
//! writer of a dozen small methods serve all.
//!
//! Always: no length, count or type from the wire is trusted. What a frame may cost is bounded by
//! its size, which is bounded before anything is kept of it; names of classes are texts. What was
//! read in the loose encoding without cache is written again to the very bytes.
//!
//! Bodies and properties stay bytes, which [`primitive`] and [`body`] read for who asks. Leaves to
//! others: the order of commands, and what they mean.

#[macro_use]
mod macros;

pub mod body;
mod cache;
mod error;
mod format;
mod frame;
pub mod fuzz;
mod kinds;
mod large;
pub mod message;
pub mod primitive;
mod read;
#[cfg(test)]
mod sample;
mod silence;
pub mod table;
mod text;
mod throwable;
mod wire_format;
mod write;

pub use error::{DecodeError, EncodeError};
pub use format::{Format, Version};
pub use frame::{Decoder, SIZE_BYTES, Splitter, encode};
pub use kinds::{CommandHead, Field, Object};
pub use large::{Around, LargeEnd, LargeHead, Limits, Piece, Receiver, encode_around};
pub use read::Reader;
pub use silence::{Silence, SilenceWatch};
pub use table::Structure;
pub use text::{Secret, Text, characters};
pub use throwable::{StackElement, Throwable, Thrown};
pub use wire_format::{Agreed, Inactivity, Magic, NegotiationError, WireFormat, negotiate};
pub use write::Writer;

#[cfg(test)]
mod tests;
