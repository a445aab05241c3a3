//! The command line: what a person asks of EscrowMQ in a shell.

mod queue;
mod run;
mod store;
mod user;
mod xa;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::limits;

/// A durable message broker.
#[derive(Debug, Parser)]
#[command(name = "escrowmq", version, about, long_about = LONG_ABOUT)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const LONG_ABOUT: &str = "\
A durable message broker.

`escrowmq run` starts a broker with its store in ./escrowmq-data, for STOMP clients on \
127.0.0.1:61613 and OpenWire clients on 127.0.0.1:61616. What it has confirmed survives a \
crash and a power cut. Logs go to standard error; ESCROWMQ_LOG=debug says more.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a broker until SIGTERM or Ctrl-C.
    ///
    /// Prints one line per listener, `listening on URL`, and then `ready`. Exits with 0 after a
    /// clean stop and with 1 when it cannot start or its store fails.
    Run(RunArgs),
    /// Shows, empties, moves and removes the queues of a running broker.
    ///
    /// Speaks with the broker that runs on a store through the socket `admin.sock` in the store's
    /// directory, as the user that runs the broker or as root.
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Shows messages that were set apart, and has them tried again.
    #[command(subcommand)]
    Dlq(DlqCommand),
    /// Shows what is delivered again and again (AMQ_SCHEDULED_PERIOD, _CRON), and ends it.
    #[command(subcommand)]
    Schedule(queue::ScheduleCommand),
    /// Shows branches of global transactions that wait for their managers, and decides of them.
    ///
    /// Speaks with a running broker as `queue` does. A branch that has voted (is prepared) ends by
    /// what its transaction manager says, and waits for it as long as that takes; these commands
    /// are for managers that do not come back.
    #[command(subcommand)]
    Xa(xa::XaCommand),
    /// Makes and changes the file of users that a broker lets in.
    ///
    /// The broker's settings name it (security.users). Passwords are kept as argon2 hashes.
    #[command(subcommand)]
    User(user::UserCommand),
    /// Looks into a store, copies it, and makes a store of a copy.
    ///
    /// No command changes anything in the store it is given. Those that read a store at rest will
    /// do with a copy on a read-only disk and with a backup; a store in use is refused, and while
    /// they run no broker starts on it. Exit codes: 0, done (`verify`: no damage); 1, not done
    /// (`verify`: damage), with the reason and what to do on standard error; 2, the command line
    /// makes no sense; 3, `repair` has changed nothing, and can with `--into`.
    #[command(subcommand)]
    Store(StoreCommand),
    /// Prints every setting with its default and its cost, as a configuration to start from.
    Config,
}

/// What to retry, and how that is told.
#[derive(Debug, clap::Args)]
struct Retry {
    /// Directory of the broker's store. [default: ./escrowmq-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Prints lines of JSON: how far it has come, and at last with `done`.
    #[arg(long)]
    json: bool,
    /// The queue where they are, without `/queue/`.
    #[arg(default_value = "ActiveMQ.DLQ")]
    name: String,
    /// Moves so many at most, from the head.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Moves only those that came from this queue, or from topic://NAME: what any subscription has
    /// kept of it.
    #[arg(long, value_name = "QUEUE")]
    origin: Option<String>,
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// Settings in TOML; `escrowmq config` prints them all. Other options win over the file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of the store; made if it does not exist. [default: ./escrowmq-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where to listen, once or more: stomp://HOST:PORT, or tcp://HOST:PORT for clients of
    /// ActiveMQ; stomp+ssl:// and ssl:// with the setting tls. Port 0 takes a free one.
    /// [default: stomp://127.0.0.1:61613 and tcp://127.0.0.1:61616]
    #[arg(long, value_name = "URL")]
    listen: Vec<String>,
    /// Where to show metrics for Prometheus: ADDRESS:PORT, like 127.0.0.1:9161. [default: nowhere]
    #[arg(long, value_name = "ADDR")]
    metrics: Option<String>,
    /// Name of this broker, for logs and clients. [default: escrowmq]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

#[derive(Debug, Subcommand)]
enum QueueCommand {
    /// Prints a table of all queues: name, messages (waiting or lent), consumers.
    List {
        /// Directory of the broker's store. [default: ./escrowmq-data]
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// Prints a line of JSON for each queue, with all that is counted.
        #[arg(long)]
        json: bool,
    },
    /// Tells everything about one queue: messages, age, rates, consumers, limits.
    ///
    /// Counts begin with the broker's start. Rates are those of one second; `--over` changes that,
    /// and 0 leaves them out. Exits with 1 if there is no such queue or no broker.
    Show {
        /// Directory of the broker's store. [default: ./escrowmq-data]
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// Prints one line of JSON, with counts and without rates.
        #[arg(long)]
        json: bool,
        /// The queue, without `/queue/`.
        name: String,
        /// Seconds over which rates are taken, 3600 at most.
        #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
        over: f64,
    },
    /// Shows messages of a queue in the order of delivery, and disturbs nobody.
    ///
    /// Shows those that wait, those that are lent to consumers, and those that transactions or
    /// branches have settled which have no outcome yet, marked. Messages that come and go meanwhile
    /// may be shown or not; none is shown twice. Mind who reads contents.
    Browse {
        /// Directory of the broker's store. [default: ./escrowmq-data]
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// Prints a line of JSON for each message.
        #[arg(long)]
        json: bool,
        /// The queue, without `/queue/`.
        name: String,
        /// Begins with this message: a `message-id`, or its end as shown here.
        #[arg(long, value_name = "ID", conflicts_with = "skip")]
        from: Option<String>,
        /// Passes over so many messages first.
        #[arg(long, value_name = "N", default_value = "0")]
        skip: u64,
        /// Shows so many messages at most.
        #[arg(long, value_name = "N", default_value = "100")]
        count: u64,
        /// Shows the properties of each.
        #[arg(long)]
        properties: bool,
        /// Shows the body of each: text as it is, other bytes in hex.
        #[arg(long)]
        body: bool,
    },
    /// Moves messages that wait in one queue to the end of another, in their order.
    ///
    /// Takes what is in the queue now; what is lent to a consumer stays. At any moment, a crash
    /// included, each message is in exactly one of the two queues, and keeps its id. Prints how
    /// many were moved, durably; how far it has come goes to standard error. Exits with 1 if there
    /// is no such queue, no such message, or no broker.
    Move {
        /// Directory of the broker's store. [default: ./escrowmq-data]
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// Prints lines of JSON: how far it has come, and at last with `done`.
        #[arg(long)]
        json: bool,
        /// The queue they leave, without `/queue/`.
        from: String,
        /// The queue they enter; made if it does not exist.
        to: String,
        /// Moves so many at most, from the head.
        #[arg(long, value_name = "N", conflicts_with = "id")]
        count: Option<u64>,
        /// Moves these messages alone: `message-id`s, or their ends as `browse` shows them.
        #[arg(long, value_name = "ID", num_args = 1..)]
        id: Vec<String>,
    },
    /// Moves messages that were set apart back to the queues they came from.
    ///
    /// Each goes to the queue from which the broker set it apart, or which its property
    /// originalDestination (or dlqOriginalDestination) names, to be tried as often as a new one;
    /// those without stay. Messages in
    /// ActiveMQ.DLQ.Damaged have lost their content and cannot be retried.
    Retry(Retry),
    /// Removes the messages that wait in a queue now.
    ///
    /// What is lent to a consumer stays and can still be acknowledged. When the command ends with
    /// 0, the messages are gone for good. Exits with 1 if there is no such queue or no broker.
    Purge {
        /// Directory of the broker's store. [default: ./escrowmq-data]
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// The queue, without `/queue/`.
        name: String,
    },
    /// Removes a queue with what is in it.
    ///
    /// A queue with consumers is refused. A later send or subscription makes it anew. Exits with 1
    /// if there is no such queue, if it is in use, or if there is no broker.
    Delete {
        /// Directory of the broker's store. [default: ./escrowmq-data]
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// The queue, without `/queue/`.
        name: String,
    },
}

#[derive(Debug, Subcommand)]
enum DlqCommand {
    /// Shows messages that were set apart, with why and from where: `queue browse --properties`.
    List {
        /// Directory of the broker's store. [default: ./escrowmq-data]
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// Prints a line of JSON for each message.
        #[arg(long)]
        json: bool,
        /// The queue where they are, without `/queue/`.
        #[arg(default_value = "ActiveMQ.DLQ")]
        name: String,
        /// Shows so many messages at most.
        #[arg(long, value_name = "N", default_value = "100")]
        count: u64,
    },
    /// Moves messages that were set apart back to the queues they came from: `queue retry`.
    Retry(Retry),
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Checks every byte of a store and names damage by file and offset.
    ///
    /// Reads the identity, claims and seals, every batch, record and payload of the log, and every
    /// page and row of the index; replays what a start would replay; and checks that log and index
    /// belong together. Prints a line `FILE at offset N: WHAT` for each damage (`FILE: WHAT` where
    /// it has no one place) and at the end `no damage` or how many there are; how far it has come
    /// goes to standard error. Exits with 0 if there is no damage, else with 1. What a crash left
    /// half written was never confirmed and is no damage.
    Verify {
        /// The store's directory.
        dir: PathBuf,
    },
    /// Tells what fills a store: live, dead and padding bytes of each segment of the log, what
    /// keeps each, and the depth and age of every queue.
    ///
    /// A segment is kept while a message lies in it that has not been consumed: the queues with
    /// the most bytes in it are named, and the oldest message there, with its position (Lsn). LIVE
    /// are such messages; DEAD is what was consumed, and the log's own records; PADDING are zeros
    /// between batches; UNUSED has not been written yet. Counts what a start would find, with the
    /// log after the last checkpoint. Needs memory for queues and segments, not for messages.
    ///
    /// Reads a store at rest, or a backup. Exits with 0, or with 1 where there is no store, where
    /// it is in use, or where a start would be refused.
    Stats {
        /// The store's directory.
        dir: PathBuf,
        /// Prints one JSON object: bytes as numbers, times in milliseconds since 1970.
        #[arg(long)]
        json: bool,
        /// Does not read the whole log: leaves out dead and padding bytes (null in JSON).
        #[arg(long)]
        quick: bool,
    },
    /// Makes a copy of a store in a new or empty directory, while its broker runs or while none
    /// does.
    ///
    /// Everything that was confirmed before the command began is in the copy, and it is consistent:
    /// one moment of the store. Where a broker runs, the broker writes it, as its own user, so
    /// TARGET is a path on the broker's machine; clients are served meanwhile. How far it has come
    /// goes to standard error. Interrupted, by Ctrl-C as well as by a crash, the copy is
    /// unfinished: it lacks the file `backup`, which is written last, and no command takes it for
    /// a backup.
    ///
    /// A backup is no store: make one of it with `escrowmq store restore`. `store verify`, `stats`
    /// and `dump` read a backup as it is. Exits with 0 when the backup is whole and durable, else
    /// with 1.
    Backup {
        /// The store's directory.
        dir: PathBuf,
        /// The directory of the backup: new, or empty.
        target: PathBuf,
        /// MiB a second that are written at most, but 64 of the index; 0: as fast as the disks go.
        #[arg(long, value_name = "MIB", default_value_t = 64)]
        rate: u64,
    },
    /// Makes a store of a backup, in a new or empty directory.
    ///
    /// Every file is compared with the checksum it had. The new store gets an id of its own, so
    /// that its files and those of the store it comes from are never mixed up. Every message in it
    /// is delivered with the redelivered flag: the other store may have delivered it since. Lists
    /// prepared transactions that wait for their outcome.
    ///
    /// Exits with 0 when the store is whole and durable, else with 1: where DIR has anything in it,
    /// or the backup is unfinished or damaged, which is named.
    Restore {
        /// The directory of the backup.
        backup: PathBuf,
        /// The directory of the new store: new, or empty.
        dir: PathBuf,
    },
    /// Says what a start of a damaged store would refuse and what going on without it would lose,
    /// and makes a store that does.
    ///
    /// Without `--into` it only looks. It names each damage by file and offset, and tells the
    /// records that would not count any more and the messages of each queue that would be lost or
    /// come back, as far as they can be read. With `--into NEW` it makes the repaired store in the
    /// new directory NEW, under an id of its own, every message in it flagged as redelivered. The
    /// damaged store is never changed: keep it until you are sure.
    ///
    /// It cuts the log before what cannot be replayed; sets messages apart, in
    /// ActiveMQ.DLQ.Damaged, whose segment cannot be opened; and makes an index that is damaged or
    /// gone again from a log that is there from its beginning. A single message with damaged
    /// content needs no repair: it is set apart when its turn comes. Prefer a backup that is new
    /// enough, where there is one.
    ///
    /// Exits with 0 if there is nothing to repair or NEW was made; with 1 if it cannot be repaired
    /// or failed; with 3 if it can be repaired and `--into` was not given.
    Repair {
        /// The damaged store's directory.
        dir: PathBuf,
        /// Makes the repaired store in this directory: new, or empty.
        #[arg(long, value_name = "NEW")]
        into: Option<PathBuf>,
    },
    /// Prints the log of a store for a person to read: segments, batches, records.
    ///
    /// A line per segment, batch and record, each with its position (Lsn); what is damaged is
    /// shown where it lies, and the dump goes on after it. Contents of messages are shown by their
    /// first characters: mind who reads it.
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
        Command::Queue(command) => queue::queue(command),
        Command::Xa(command) => xa::xa(command),
        Command::User(command) => user::user(command),
        Command::Dlq(command) => queue::dead_letters(command),
        Command::Schedule(command) => queue::schedules(command),
        Command::Store(StoreCommand::Verify { dir }) => store::verify(&dir),
        Command::Store(StoreCommand::Dump { dir }) => store::dump(&dir),
        Command::Store(StoreCommand::Stats { dir, json, quick }) => store::stats(&dir, json, quick),
        Command::Store(StoreCommand::Backup { dir, target, rate }) => {
            store::backup(&dir, &target, rate)
        }
        Command::Store(StoreCommand::Repair { dir, into }) => store::repair(&dir, into.as_deref()),
        Command::Store(StoreCommand::Restore { backup, dir }) => store::restore_into(&backup, &dir),
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

/// The argument of `--over`.
fn seconds(text: &str) -> Result<f64, String> {
    let most = limits::RATE_SECONDS_MAX;
    let seconds: Option<f64> = text.parse().ok();
    let fits = |seconds: &f64| (0.0..=most).contains(seconds);
    seconds.filter(fits).ok_or_else(|| format!("it must be a number of seconds from 0 to {most}"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_taken_over_a_time_that_ends() {
        for (text, expected) in [("0", 0.0), ("0.5", 0.5), ("3600", 3600.0)] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in ["nan", "inf", "-inf", "1e300", "3600.1", "-1", "soon", ""] {
            let refused = Err("it must be a number of seconds from 0 to 3600".to_owned());
            assert_eq!(seconds(text), refused, "{text}");
        }
    }
}
