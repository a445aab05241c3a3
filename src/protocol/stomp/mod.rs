//! STOMP 1.0, 1.1 and 1.2 as bytes.
//!
//! [`Decoder`] turns bytes, split anywhere, into [`Piece`]s; [`FrameEncoder`] writes frames.
//! Always: what the decoder keeps is bounded by [`Limits`], whatever the peer sends, and the
//! pieces do not depend on how the bytes were split. A body passes through and is never whole
//! in here. Leaves to others: the order of frames, and what their headers mean.

mod decode;
mod encode;
mod error;
mod frame;
pub mod fuzz;
mod head;

pub use decode::Decoder;
pub use encode::FrameEncoder;
pub use error::DecodeError;
pub use frame::{Command, Head, Headers, Limits, Piece, Version};

#[cfg(test)]
mod tests;
