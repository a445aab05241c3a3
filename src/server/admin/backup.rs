//! The backup of a running broker's store, as an operator asks for it through the admin socket.
//!
//! ```text
//! request   backup RATE PATH         bytes a second (0: no limit); an absolute path
//! reply     progress DONE TOTAL      in bytes, now and then
//!           done FILES BYTES END     and then the last line
//! ```
//!
//! Runs on a thread of its own. One whose operator goes away is called off, as when the broker
//! ends: what was made is no backup.

use std::io::{BufRead, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{AskError, escape, unescape};
use crate::backup::{self, Place, Progress, Source, Summary};
use crate::ids::Lsn;
use crate::io::Clock;
use crate::limits;
use crate::server::stopped;

/// How often an operator is told how far a backup has come.
const TELL_PERIOD: Duration = Duration::from_millis(500);

/// What backups are made of.
#[derive(Clone, Debug)]
pub struct Backups {
    /// The store.
    pub source: Source,
    /// Its directory.
    pub data: PathBuf,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AskBackup {
    rate: u64,
    target: String,
}

pub(super) fn parse_request(line: &str) -> Option<AskBackup> {
    let rest = line.strip_suffix('\n')?.strip_prefix("backup ")?;
    let (rate, target) = rest.split_once(' ')?;
    Some(AskBackup { rate: rate.parse().ok()?, target: unescape(target)? })
}

fn encode_request(ask: &AskBackup) -> String {
    format!("backup {} {}\n", ask.rate, escape(&ask.target))
}

/// Makes the backup and tells the operator of it to the end.
pub(super) async fn serve(
    ask: AskBackup,
    backups: &Backups,
    write: &mut OwnedWriteHalf,
    mut stop: watch::Receiver<bool>,
) {
    let (told, news) = watch::channel(Progress::default());
    let called_off = Arc::new(AtomicBool::new(false));
    let (done, mut ended) = oneshot::channel();
    let (work, off) = (backups.clone(), Arc::clone(&called_off));
    let thread = std::thread::Builder::new().name("backup".to_owned()).spawn(move || {
        let progress = &mut |progress| {
            told.send_replace(progress);
            let off = off.load(Ordering::Relaxed);
            if off { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let _ = done.send(make(&ask, &work, progress));
    });
    if let Err(error) = thread {
        let _ = write.write_all(error_line(&error).as_bytes()).await;
        return;
    }
    let patience = Duration::from_millis(limits::ADMIN_PEER_MILLIS);
    let mut ticks = interval(TELL_PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let result = loop {
        tokio::select! {
            result = &mut ended => break result,
            () = stopped(&mut stop), if !called_off.load(Ordering::Relaxed) => {
                called_off.store(true, Ordering::Relaxed);
            }
            _ = ticks.tick() => {
                let Progress { done, total } = *news.borrow();
                let line = format!("progress {done} {total}\n");
                let written = timeout(patience, write.write_all(line.as_bytes())).await;
                if !matches!(written, Ok(Ok(()))) {
                    called_off.store(true, Ordering::Relaxed);
                }
            }
        }
    };
    let reply = match result {
        Ok(Ok(Summary { files, bytes, end })) => format!("done {files} {bytes} {}\nok\n", end.0),
        Ok(Err(error)) => error_line(&error),
        // The thread panicked, and has said so.
        Err(_) => error_line(&"the backup has failed: the broker's log says how"),
    };
    let _ = timeout(patience, write.write_all(reply.as_bytes())).await;
}

fn error_line(error: &dyn std::fmt::Display) -> String {
    format!("error {}\n", escape(&error.to_string()))
}

fn make(
    ask: &AskBackup,
    backups: &Backups,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Summary, Box<dyn std::error::Error + Send + Sync>> {
    let target = Path::new(&ask.target);
    tracing::info!(target = ask.target, "a backup begins");
    let made = Place::make(target, &backups.data).map_err(Into::into).and_then(|place| {
        let at = backups.clock.wall();
        backup::run(&backups.source, place.storage(), at, ask.rate, progress).map_err(Into::into)
    });
    let end: Result<&Summary, &Box<dyn std::error::Error + Send + Sync>> = made.as_ref();
    match end {
        Ok(summary) => tracing::info!(target = ask.target, bytes = summary.bytes, "backup made"),
        Err(error) => tracing::warn!(target = ask.target, %error, "no backup was made"),
    }
    made
}

/// Asks the broker that listens at `path` for a backup into the absolute path `target`, and waits
/// for it; `rate` is in bytes a second, 0 for no limit.
///
/// # Errors
/// See [`AskError`].
pub fn ask_backup(
    path: &Path,
    target: &str,
    rate: u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<Summary, AskError> {
    let mut socket = super::reach(path)?;
    // A broker that ends takes the connection with it, at any moment.
    let cut_off = |_: std::io::Error| AskError::CutOff;
    let ask = AskBackup { rate, target: target.to_owned() };
    socket.write_all(encode_request(&ask).as_bytes()).map_err(cut_off)?;
    let mut summary = None;
    for line in std::io::BufReader::new(socket).lines() {
        let line = line.map_err(cut_off)?;
        match line.split_once(' ') {
            None if line == "ok" => return summary.ok_or(AskError::CutOff),
            Some(("error", text)) => {
                return Err(AskError::Refused(unescape(text).ok_or(AskError::CutOff)?));
            }
            Some(("progress", rest)) => {
                let [done, total] = numbers(rest).ok_or(AskError::CutOff)?;
                progress(Progress { done, total });
            }
            Some(("done", rest)) => {
                let [files, bytes, end] = numbers(rest).ok_or(AskError::CutOff)?;
                summary = Some(Summary { files, bytes, end: Lsn(end) });
            }
            _ => return Err(AskError::CutOff),
        }
    }
    Err(AskError::CutOff)
}

fn numbers<const N: usize>(text: &str) -> Option<[u64; N]> {
    let numbers: Result<Vec<u64>, _> = text.split(' ').map(str::parse).collect();
    numbers.ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_was_written_whatever_the_path() {
        for target in ["/a", "/two words", "/back\\slash", "/line\nfeed"] {
            let ask = AskBackup { rate: 7, target: target.to_owned() };
            let line = encode_request(&ask);
            assert_eq!(line.lines().count(), 1, "{line:?}");
            assert_eq!(parse_request(&line), Some(ask));
        }
        for line in ["backup", "backup \n", "backup x /a\n", "backup 1 /a"] {
            assert_eq!(parse_request(line), None, "{line:?}");
        }
    }
}
