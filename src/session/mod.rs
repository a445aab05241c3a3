//! One connection's life, per wire: pieces of frames to requests, and the broker's outputs to
//! bytes.
//!
//! Pure: no socket, task or clock; time is an argument, and bytes come and go in buffers. The
//! shell around a session moves bytes, requests and outputs, and knows no protocol.

mod done;
mod login;
pub mod openwire;
pub mod stomp;

pub use done::Done;
pub use login::Login;
