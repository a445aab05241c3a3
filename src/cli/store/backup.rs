//! `escrowmq store backup` and `restore`: a copy of a store, and a store from a copy.

use std::fmt::Write as _;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{INDEX_CACHE_BYTES, Ticker, describe, look};
use crate::backup::{self, MANIFEST_NAME, Place, Progress, Source, Summary, restore};
use crate::cli::xa::branch as describe_branch;
use crate::cli::{CliError, print};
use crate::io::Clock;
use crate::io::look::LookStorage;
use crate::io::real::{LockError, SystemClock};
use crate::server::admin::{AskError, ask_backup};
use crate::server::words::BranchesEnd;
use crate::wal::names;

/// Branches that a restore names.
const BRANCHES_SHOWN: u64 = 100;

/// Makes a backup of the store `dir` in `target`, by its broker if one runs.
pub(in crate::cli) fn backup(dir: &Path, target: &Path, rate: u64) -> Result<ExitCode, CliError> {
    let rate = rate.saturating_mul(1 << 20);
    let made = match look(dir) {
        Ok(store) => {
            let source = Source::resting(&store.storage, INDEX_CACHE_BYTES)
                .map_err(|error| format!("{}: {error}", dir.display()))?;
            let place = Place::make(target, dir)?;
            let mut ticker = Ticker::new();
            let progress = &mut |progress| {
                tell(&mut ticker, "backup", progress);
                ControlFlow::Continue(())
            };
            backup::run(&source, place.storage(), SystemClock::new().wall(), rate, progress)?
        }
        Err(error) => match error.downcast_ref::<LockError>() {
            Some(LockError::Held { .. }) => online(dir, target, rate)?,
            _ => return Err(error),
        },
    };
    let Summary { files, bytes, end } = made;
    let mib = bytes.div_ceil(1 << 20);
    let mut text =
        format!("backup of {} in {}: {files} files, {mib} MiB", dir.display(), target.display());
    if end.0 > 0 {
        write!(text, ", the log to {end}")?;
    }
    text.push('\n');
    print(&text)
}

fn online(dir: &Path, target: &Path, rate: u64) -> Result<Summary, CliError> {
    let absolute = std::path::absolute(target)?;
    let target = absolute.to_str().ok_or("the path of the backup is no UTF-8")?;
    let mut ticker = Ticker::new();
    let progress = &mut |progress| tell(&mut ticker, "backup", progress);
    let socket = super::super::queue::socket(dir);
    ask_backup(&socket, target, rate, progress).map_err(|error| match error {
        AskError::NobodyThere { .. } => format!(
            "{}: the store is in use, and its broker has no admin socket (is it starting? does it \
             run on another machine?): wait, or stop it",
            dir.display()
        )
        .into(),
        AskError::CutOff => format!(
            "the broker has ended or was cut off: {target} is no whole backup unless it has a \
             file `{MANIFEST_NAME}`; remove it and begin again"
        )
        .into(),
        error => error.into(),
    })
}

/// Makes a store of a backup in the new or empty directory `dir`.
pub(in crate::cli) fn restore_into(from: &Path, dir: &Path) -> Result<ExitCode, CliError> {
    let from_path: PathBuf = from.to_owned();
    let look = LookStorage::open(from)?;
    let mut id = [0; 16];
    getrandom::fill(&mut id)?;
    // Asked before a directory is made for nothing.
    check(&look, &from_path)?;
    let place = Place::make(dir, from)?;
    let mut ticker = Ticker::new();
    let progress = &mut |progress| tell(&mut ticker, "restore", progress);
    let made = restore(&look, &*place.storage(), u128::from_le_bytes(id), progress)
        .map_err(|error| format!("{}: {error}", from.display()))?;
    let mib = made.bytes.div_ceil(1 << 20);
    let mut text = format!("store in {}: {} files, {mib} MiB\n", dir.display(), made.files);
    let at = describe::time(made.at);
    writeln!(text, "from the backup of {at} of the store {:032x}", made.from)?;
    writeln!(text, "with the new id {:032x}", made.store)?;
    writeln!(text, "every message in it will be flagged as redelivered")?;
    print(&text)?;
    tell_branches(dir)
}

/// What waits for an outcome that only its transaction manager, or an operator, can give it here.
fn tell_branches(dir: &Path) -> Result<ExitCode, CliError> {
    let now = SystemClock::new().wall();
    let mut text = String::new();
    let told = super::branches(dir, None, BRANCHES_SHOWN, &mut |branch| {
        text.push_str(&describe_branch(now, &branch));
        Ok(())
    });
    let dir = dir.display();
    let end =
        told.map_err(|error| format!("the store is made, and not all of it told: {error}"))?;
    if end.prepared + end.decided == 0 {
        return print("prepared transactions: none\n");
    }
    if end.more {
        writeln!(text, "and more: `escrowmq xa list --store {dir}` shows all")?;
    }
    let BranchesEnd { prepared, decided, .. } = end;
    print(&format!(
        "prepared transactions that wait for their outcome: {prepared} (and {decided} that an \
         operator has decided); the store they come from may have ended them otherwise since\n\
         {text}"
    ))
}

fn check(look: &LookStorage, path: &Path) -> Result<(), CliError> {
    use crate::io::Storage;
    match look.open(names::IDENTITY_IN_BACKUP) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err(format!("{}: {}", path.display(), backup::RestoreError::NotABackup).into())
        }
        result => Ok(result.map(drop)?),
    }
}

fn tell(ticker: &mut Ticker, what: &str, progress: Progress) {
    let (done, total) = (progress.done >> 20, progress.total >> 20);
    ticker.tick(|| format!("{what}: {done} of {total} MiB"));
}
