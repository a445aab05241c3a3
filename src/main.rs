//! The `escrowmq` command; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    escrowmq::cli::main()
}
