//! `escrowmq xa`: branches of global transactions that wait for their managers, and what an
//! operator decides of them.

mod print;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use super::queue::{Teller, one_line};
use super::{CliError, print as say, store};
use crate::config::Config;
use crate::ids::{Millis, Xid};
use crate::io::Clock;
use crate::io::real::SystemClock;
use crate::server::admin::{Ask, AskError};
use crate::server::words::{BranchLine, BranchesEnd, Told, XaAsk};

pub(super) use print::branch;

#[derive(Debug, Subcommand)]
pub(super) enum XaCommand {
    /// Shows the branches that wait for their transaction managers, by name.
    ///
    /// Of each it tells the xid, in the form that the other commands take; its state (prepared, or
    /// heuristically committed or rolled back, which is what an operator has decided); for how
    /// long; who began it; and how many messages it has sent and settled, by queue. Until a
    /// prepared branch ends, nobody gets the messages that it has sent or settled.
    List {
        /// Directory of the broker's store. [default: ./escrowmq-data]
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// Reads this store or backup instead, which no broker uses, and changes nothing.
        #[arg(long, value_name = "DIR", conflicts_with = "data")]
        store: Option<PathBuf>,
        /// Prints a line of JSON for each branch.
        #[arg(long)]
        json: bool,
        /// Shows so many branches at most.
        #[arg(long, value_name = "N", default_value = "100")]
        count: u64,
        /// Begins after this branch.
        #[arg(long, value_name = "XID", allow_hyphen_values = true)]
        after: Option<Xid>,
    },
    /// Commits a prepared branch without its transaction manager.
    ///
    /// This is a heuristic decision: other parts of the same global transaction may end otherwise,
    /// and then nothing is atomic any more. It is for a manager that never comes back. One that
    /// does is told what was decided (XA_HEURCOM). Without `--yes` nothing is changed: the command
    /// says what it would do, and exits with 1.
    Commit(Decide),
    /// Rolls a prepared branch back without its transaction manager.
    ///
    /// A heuristic decision, as `xa commit`; the manager is told XA_HEURRB. Without `--yes` nothing
    /// is changed: the command says what it would do, and exits with 1.
    Rollback(Decide),
    /// Forgets what an operator has decided of a branch.
    ///
    /// Managers do so themselves when they have been told. For one that never comes back. Without
    /// `--yes` nothing is changed: the command says what it would do, and exits with 1.
    Forget(Decide),
}

#[derive(Debug, clap::Args)]
pub(super) struct Decide {
    /// Directory of the broker's store. [default: ./escrowmq-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Does it.
    #[arg(long)]
    yes: bool,
    /// The branch, as `xa list` shows it: FORMAT:GLOBAL:BRANCH.
    #[arg(allow_hyphen_values = true)]
    xid: Xid,
}

/// What is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Commit,
    Rollback,
    Forget,
}

pub(super) fn xa(command: XaCommand) -> Result<ExitCode, CliError> {
    match command {
        XaCommand::List { store: Some(dir), json, count, after, .. } => {
            let mut lines = Lines::new(json);
            let end =
                store::branches(&dir, after.as_ref(), count, &mut |branch| lines.print(&branch));
            lines.end(end?)
        }
        XaCommand::List { data, json, count, after, store: None } => {
            let teller = teller(data);
            let after = after.map(|xid| xid.to_string());
            let (mut lines, mut end) = (Lines::new(json), BranchesEnd::default());
            teller.asking(Ask::Xa(XaAsk::List { after, count }), &mut |told| match told {
                Told::Branch(branch) => lines.print(&branch),
                Told::BranchesEnd(told) => {
                    end = told;
                    Ok(())
                }
                _ => Ok(()),
            })?;
            lines.end(end)
        }
        XaCommand::Commit(decide) => decide.make(Decision::Commit),
        XaCommand::Rollback(decide) => decide.make(Decision::Rollback),
        XaCommand::Forget(decide) => decide.make(Decision::Forget),
    }
}

fn teller(data: Option<PathBuf>) -> Teller {
    Teller { data: data.unwrap_or_else(|| Config::default().data), json: false }
}

/// Prints branches as they come.
struct Lines {
    json: bool,
    now: Millis,
    last: Option<String>,
}

impl Lines {
    fn new(json: bool) -> Self {
        Self { json, now: SystemClock::new().wall(), last: None }
    }

    fn print(&mut self, branch: &BranchLine) -> io::Result<()> {
        self.last = Some(branch.xid.clone());
        let text = if self.json {
            one_line(&Told::Branch(branch.clone()))?
        } else {
            print::branch(self.now, branch)
        };
        io::stdout().lock().write_all(text.as_bytes())
    }

    fn end(self, end: BranchesEnd) -> Result<ExitCode, CliError> {
        if !self.json {
            say(&print::counts(end))?;
        }
        if let Some(last) = self.last.filter(|_| end.more) {
            eprintln!("there are more: go on with --after {last}, or with a larger --count");
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Decide {
    fn make(self, decision: Decision) -> Result<ExitCode, CliError> {
        let Self { data, yes, xid } = self;
        let teller = teller(data);
        let xid = xid.to_string();
        let ask = match decision {
            _ if !yes => XaAsk::Show { xid },
            Decision::Commit => XaAsk::Decide { xid, commit: true },
            Decision::Rollback => XaAsk::Decide { xid, commit: false },
            Decision::Forget => XaAsk::Forget { xid },
        };
        let mut found = None;
        let result = teller.asking(Ask::Xa(ask), &mut |told| {
            if let Told::Branch(branch) = told {
                found = Some(branch);
            }
            Ok(())
        });
        if let Err(error) = &result
            && let Some(AskError::CutOff) = error.downcast_ref()
            && yes
        {
            return Err(format!("{error}; ask again, or see `escrowmq xa list`").into());
        }
        result?;
        let Some(branch) = found else { return say("done\n") };
        let now = SystemClock::new().wall();
        let text = print::branch(now, &branch);
        if yes {
            return say(&format!("{text}{}", print::done(decision, &branch)));
        }
        say(&format!("{text}{}", print::plan(decision, &branch)?))?;
        Ok(ExitCode::FAILURE)
    }
}
