//! `escrowmq queue` and its like: asks the broker that runs on a store about its queues, or to
//! change them.

pub(super) mod print;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::{CliError, DlqCommand, QueueCommand, Retry, print};
use crate::config::Config;
use crate::io::Clock;
use crate::io::look::LookStorage;
use crate::io::real::{ADMIN_SOCKET_NAME, LockError, SystemClock};
use crate::server::admin::{Ask, AskError, ask};
use crate::server::words::{Details, QueueAsk, Told};

#[derive(Debug, clap::Subcommand)]
pub(super) enum ScheduleCommand {
    /// Prints a table of all messages that are delivered again and again.
    ///
    /// LEFT is how often after the next time, of a series where CRON begins more than one. Messages
    /// that are delivered once, however late, are in their queues: `queue browse`.
    List {
        /// Directory of the broker's store. [default: ./escrowmq-data]
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// Prints a line of JSON for each.
        #[arg(long)]
        json: bool,
    },
    /// Ends one: it is not delivered again. What was delivered before stays where it is.
    Remove {
        /// Directory of the broker's store. [default: ./escrowmq-data]
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// Its number, as `schedule list` shows it.
        id: u32,
    },
}

/// What concerns messages that are delivered again and again.
pub(super) fn schedules(command: ScheduleCommand) -> Result<ExitCode, CliError> {
    let teller = |data: Option<PathBuf>, json| {
        let data = data.unwrap_or_else(|| Config::default().data);
        Teller { data, json }
    };
    match command {
        ScheduleCommand::List { data, json } => teller(data, json).schedules(),
        ScheduleCommand::Remove { data, id } => {
            teller(data, false).remove(Ask::Queue(QueueAsk::EndSchedule { id }))
        }
    }
}

/// Where the broker is, and how it is asked to answer.
pub(super) struct Teller {
    pub(super) data: PathBuf,
    pub(super) json: bool,
}

pub(super) fn queue(command: QueueCommand) -> Result<ExitCode, CliError> {
    let teller = |data: Option<PathBuf>, json| {
        let data = data.unwrap_or_else(|| Config::default().data);
        Teller { data, json }
    };
    match command {
        QueueCommand::List { data, json } => teller(data, json).list(),
        QueueCommand::Show { data, json, name, over } => teller(data, json).show(name, over),
        QueueCommand::Browse { data, json, name, from, skip, count, properties, body } => {
            let ask = QueueAsk::Browse { queue: name, from, skip, count, properties, body };
            teller(data, json).tell_all(ask)
        }
        QueueCommand::Purge { data, name } => teller(data, false).remove(Ask::Purge(name)),
        QueueCommand::Move { data, json, from, to, count, id } => {
            teller(data, json).tell_all(QueueAsk::Move { from, to, count, ids: id })
        }
        QueueCommand::Retry(Retry { data, json, name, count, origin }) => {
            teller(data, json).tell_all(QueueAsk::Retry { queue: name, count, origin })
        }
        QueueCommand::Delete { data, name } => teller(data, false).remove(Ask::Delete(name)),
    }
}

/// What concerns messages that were set apart.
pub(super) fn dead_letters(command: DlqCommand) -> Result<ExitCode, CliError> {
    queue(match command {
        DlqCommand::List { data, json, name, count } => {
            let (from, skip, properties, body) = (None, 0, true, false);
            QueueCommand::Browse { data, json, name, from, skip, count, properties, body }
        }
        DlqCommand::Retry(retry) => QueueCommand::Retry(retry),
    })
}

impl Teller {
    pub(super) fn asking(
        &self,
        what: Ask,
        told: &mut dyn FnMut(Told) -> io::Result<()>,
    ) -> Result<(), CliError> {
        match ask(&socket(&self.data), &what, told) {
            // A reader that has seen enough is no error.
            Err(AskError::Print(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result.map_err(|error| explain(error, &self.data)),
        }
    }

    fn remove(&self, what: Ask) -> Result<ExitCode, CliError> {
        let mut removed = 0;
        self.asking(what, &mut |told| {
            if let Told::Removed(count) = told {
                removed = count;
            }
            Ok(())
        })?;
        print(&format!("{removed} removed\n"))
    }

    fn list(&self) -> Result<ExitCode, CliError> {
        if self.json {
            return self.tell_all(QueueAsk::List);
        }
        let mut queues = Vec::new();
        self.asking(Ask::Queue(QueueAsk::List), &mut |told| {
            if let Told::Queue(queue) = told {
                queues.push(queue);
            }
            Ok(())
        })?;
        print(&print::table(&queues))
    }

    fn schedules(&self) -> Result<ExitCode, CliError> {
        if self.json {
            return self.tell_all(QueueAsk::Schedules);
        }
        let mut all = Vec::new();
        self.asking(Ask::Queue(QueueAsk::Schedules), &mut |told| {
            if let Told::Schedule(schedule) = told {
                all.push(schedule);
            }
            Ok(())
        })?;
        print(&print::schedules(&all))
    }

    fn show(&self, name: String, seconds: f64) -> Result<ExitCode, CliError> {
        let ask = QueueAsk::Show { queue: name };
        if self.json {
            return self.tell_all(ask);
        }
        let clock = SystemClock::new();
        let first = self.details(ask.clone())?;
        let begun = clock.monotonic();
        let later = if seconds > 0.0 {
            std::thread::sleep(Duration::from_secs_f64(seconds));
            let later = self.details(ask)?;
            Some((later, (clock.monotonic() - begun).as_secs_f64()))
        } else {
            None
        };
        let later = later.as_ref().map(|(later, seconds)| (later, *seconds));
        print(&print::details(clock.wall(), &first, later))
    }

    fn details(&self, ask: QueueAsk) -> Result<Details, CliError> {
        let mut details = None;
        self.asking(Ask::Queue(ask), &mut |told| {
            if let Told::Details(told) = told {
                details = Some(told);
            }
            Ok(())
        })?;
        details.ok_or_else(|| AskError::CutOff.into())
    }

    /// Prints each line as it comes.
    fn tell_all(&self, what: QueueAsk) -> Result<ExitCode, CliError> {
        let (mut out, json) = (io::stdout().lock(), self.json);
        self.asking(Ask::Queue(what), &mut |told| {
            let text = match &told {
                _ if json => one_line(&told)?,
                Told::Message(message) => print::message(message),
                Told::Progress(progress) if progress.done => {
                    let stayed = match progress.stayed {
                        0 => String::new(),
                        stayed => format!(
                            ", {stayed} stayed (lent to consumers, gone meanwhile, or without a \
                             queue that takes them back)"
                        ),
                    };
                    format!("{} moved{stayed}\n", progress.moved)
                }
                // For who watches: what is printed in the end is for who counts.
                Told::Progress(progress) => {
                    eprintln!("{} moved so far", progress.moved);
                    return Ok(());
                }
                _ => return Ok(()),
            };
            out.write_all(text.as_bytes())
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What was told, without the word for what it is.
pub(super) fn one_line(told: &Told) -> io::Result<String> {
    let line = match told {
        Told::Queue(queue) => serde_json::to_string(queue),
        Told::Details(details) => serde_json::to_string(details),
        Told::Message(message) => serde_json::to_string(message),
        Told::Progress(progress) => serde_json::to_string(progress),
        Told::Schedule(schedule) => serde_json::to_string(schedule),
        Told::Removed(count) => serde_json::to_string(count),
        Told::Branch(branch) => serde_json::to_string(branch),
        Told::BranchesEnd(end) => serde_json::to_string(end),
    };
    Ok(line? + "\n")
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
             on another machine, or in a program that lets no operators in? its log tells)"
        }
        Ok(_) => "no broker is running on this store",
        Err(_) => "there is no such store, so no broker is running on it",
    };
    format!("{}: {why}", data.display()).into()
}
