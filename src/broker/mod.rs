//! The broker's rules: pure, no I/O, clock, thread or randomness.

pub mod command;
pub mod delta;
