//! The command line: what a person asks of EscrowMQ in a shell.

mod run;
mod store;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A transactional, durable message broker.
#[derive(Debug, Parser)]
#[command(name = "escrowmq", version, about, long_about = LONG_ABOUT)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const LONG_ABOUT: &str = "\
A transactional, durable message broker.

`escrowmq run` starts a broker with its store in ./escrowmq-data, for STOMP clients on \
127.0.0.1:61613. What it has confirmed survives a crash and a power cut. Logs go to standard \
error; ESCROWMQ_LOG=debug says more.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a broker until SIGTERM or Ctrl-C.
    ///
    /// Prints one line per listener, `listening on URL`, and then `ready`. Exits with 0 after a
    /// clean stop and with 1 when it cannot start or its store fails.
    Run(RunArgs),
    /// Looks into a store that no broker is using.
    #[command(subcommand)]
    Store(StoreCommand),
    /// Prints every setting with its default and its cost, as a configuration to start from.
    Config,
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// Settings in TOML; `escrowmq config` prints them all. Other options win over the file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of the store; made if it does not exist. [default: ./escrowmq-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where to listen, once or more: stomp://HOST:PORT. Port 0 takes a free one.
    /// [default: stomp://127.0.0.1:61613]
    #[arg(long, value_name = "URL")]
    listen: Vec<String>,
    /// Name of this broker, for logs and clients. [default: escrowmq]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Checks every byte of a store and names damage by file and offset.
    ///
    /// Changes nothing. Exits with 0 if there is no damage, else with 1.
    Verify {
        /// The store's directory.
        dir: PathBuf,
    },
    /// Prints the log of a store for a person to read: segments, batches, records.
    Dump {
        /// The store's directory.
        dir: PathBuf,
    },
}

/// Runs the command of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Store(StoreCommand::Verify { dir }) => store::verify(&dir),
        Command::Store(StoreCommand::Dump { dir }) => store::dump(&dir),
        Command::Config => print(crate::config::DEFAULTS),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("escrowmq: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Why a command could not do its work; the text is for the person who gave it.
type CliError = Box<dyn std::error::Error>;

/// Prints to standard output; a reader that has gone away is no error.
fn print(text: &str) -> Result<ExitCode, CliError> {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}
