//! EscrowMQ: a durable message broker.
//!
//! `ARCHITECTURE.md` is the map of this crate. The modules are public for the binary, the
//! benchmarks and the fuzzers only; there is no interface for other programs yet.

#![forbid(unsafe_code)]

#[doc(hidden)]
pub mod backup;
#[doc(hidden)]
pub mod broker;
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod config;
#[doc(hidden)]
pub mod engine;
#[doc(hidden)]
pub mod identity;

pub mod ids;
#[doc(hidden)]
pub mod io;
#[doc(hidden)]
pub mod limits;
#[doc(hidden)]
pub mod message;
mod mutant;
#[doc(hidden)]
pub mod protocol;
#[doc(hidden)]
pub mod record;
#[doc(hidden)]
pub mod server;
#[doc(hidden)]
pub mod session;
#[cfg(test)]
mod simulation;
#[doc(hidden)]
pub mod store;
#[doc(hidden)]
pub mod wal;
