//! placeholder
mod x {}
