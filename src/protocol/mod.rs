//! Wires: bytes to pieces and back, a folder for each.
//!
//! Sans-IO: no socket, clock or task. A codec knows what its specification says of bytes, and
//! nothing of queues; what frames mean is the business of [`crate::session`].

pub mod openwire;
pub mod stomp;
