//! The `escrowmq` command.

fn main() {}
