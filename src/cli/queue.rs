//! `escrowmq queue`: asks the broker that runs on a store about its queues, or to empty them.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{CliError, QueueCommand, print};
use crate::broker::command::QueueInfo;
use crate::config::Config;
use crate::io::look::LookStorage;
use crate::io::real::{ADMIN_SOCKET_NAME, LockError};
use crate::server::admin::{Ask, AskError, ask};

pub(super) fn queue(command: QueueCommand) -> Result<ExitCode, CliError> {
    let (data, what) = match command {
        QueueCommand::List { data } => (data, Ask::List),
        QueueCommand::Purge { data, name } => (data, Ask::Purge(name)),
        QueueCommand::Delete { data, name } => (data, Ask::Delete(name)),
    };
    let data = data.unwrap_or_else(|| Config::default().data);
    let queues = ask(&socket(&data), &what).map_err(|error| explain(error, &data))?;
    match what {
        Ask::List => print(&table(&queues)),
        Ask::Purge(_) | Ask::Delete(_) => Ok(ExitCode::SUCCESS),
    }
}

/// Where the broker on `data` listens for operators.
pub(super) fn socket(data: &Path) -> PathBuf {
    data.join(ADMIN_SOCKET_NAME)
}

/// Whoever finds nobody there wants to know whether there is a broker at all.
fn explain(error: AskError, data: &Path) -> CliError {
    if !matches!(error, AskError::NobodyThere { .. }) {
        return error.into();
    }
    let held = LookStorage::open(data).map(|look| look.try_lock());
    let why = match held {
        Ok(Err(LockError::Held { .. })) => {
            "the store is in use, and its broker has no admin socket (is it starting? does it run \
             on another machine? its log tells)"
        }
        Ok(_) => "no broker is running on this store",
        Err(_) => "there is no such store, so no broker is running on it",
    };
    format!("{}: {why}", data.display()).into()
}

fn table(queues: &[QueueInfo]) -> String {
    let shown = |queue: &QueueInfo| queue.name.escape_debug().to_string();
    let names: Vec<String> = queues.iter().map(shown).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max("NAME".len());
    let mut text = format!("{:<width$}  {:>10}  {:>9}\n", "NAME", "DEPTH", "CONSUMERS");
    for (name, queue) in names.iter().zip(queues) {
        let (depth, consumers) = (queue.depth, queue.consumers);
        writeln!(text, "{name:<width$}  {depth:>10}  {consumers:>9}").expect("a string takes all");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_queues_has_aligned_columns_and_shows_no_control_characters() {
        let queue =
            |name: &str, depth, consumers| QueueInfo { name: name.into(), depth, consumers };
        let shown = table(&[queue("a\x1b[2J", 3, 0), queue("orders.of.the.day", 1_000_000, 12)]);
        let expected = "\
NAME                    DEPTH  CONSUMERS
a\\u{1b}[2J                  3          0
orders.of.the.day     1000000         12
";
        assert_eq!(shown, expected);
    }
}
