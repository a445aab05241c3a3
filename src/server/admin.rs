//! The admin socket: how an operator's command reaches the broker that runs on a store.
//!
//! Owns both ends of a Unix socket in the store's directory and the words spoken on it. Serves
//! only the user that runs the broker, and root. One request and one reply a connection, in lines
//! of UTF-8 that end with a line feed:
//!
//! ```text
//! request   purge NAME | delete NAME
//!           queue JSON                        everything else about queues: see `words`
//!           xa JSON                           everything about branches: see `words`
//!           backup RATE PATH                  see `backup`
//! reply     told JSON                         any number of times
//!           ok | error TEXT                   the last line; without it the reply is cut off
//! ```
//!
//! A name stands last in its line, so it may hold spaces; `\\`, `\n` and `\r` stand for what would
//! break the line. A reply comes when what was asked for is durable.
//! Leaves to others: what the commands do (`broker`), and who may be here (the directory's owner).

mod backup;

use std::fs;
use std::io::{self, BufRead, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

pub use backup::{Backups, ask_backup};

use super::operator::{self, Failure, Out};
use super::words::{QueueAsk, Told, XaAsk};
use super::{branches, stopped};
use crate::broker::command::{Command, Reply};
use crate::engine::Handle;
use crate::limits;

const SOCKET_MODE: u32 = 0o600;

/// What an operator can ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// What is told in lines.
    Queue(QueueAsk),
    /// What is told about branches of global transactions.
    Xa(XaAsk),
    /// Removes the messages of a queue that are not lent to a consumer.
    Purge(String),
    /// Removes a queue without consumers.
    Delete(String),
}

/// The broker's end, open and not yet served. Its file is removed when it ends.
#[derive(Debug)]
pub struct Admin {
    listener: UnixListener,
    file: SocketFile,
    /// Who may ask, beside root: the owner of the socket's file.
    owner: u32,
}

/// The name of the socket in the directory, for as long as it means something.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "the admin socket stays behind");
        }
    }
}

impl Admin {
    /// Opens the socket at `path` in place of one that a dead broker left. To be called inside a
    /// tokio runtime, by the holder of the store's lock alone.
    ///
    /// # Errors
    /// Those of the system; `InvalidInput` where `path` is longer than the address of a Unix
    /// socket may be (about 100 bytes).
    pub fn bind(path: &Path) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        let file = SocketFile(path.to_owned());
        fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
        let owner = fs::metadata(path)?.uid();
        Ok(Self { listener, file, owner })
    }

    /// Serves until `stop` turns true and those who have asked have their reply.
    pub async fn serve(self, handle: Handle, backups: Backups, mut stop: watch::Receiver<bool>) {
        let Self { listener, file, owner } = self;
        let room = Arc::new(Semaphore::new(limits::ADMIN_CONNECTIONS_MAX));
        let mut tasks = JoinSet::new();
        loop {
            let next = async {
                let permit = Arc::clone(&room).acquire_owned().await.expect("never closed");
                (permit, listener.accept().await)
            };
            tokio::select! {
                () = stopped(&mut stop) => break,
                Some(ended) = tasks.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "an operator's task failed");
                    }
                }
                (permit, accepted) = next => match accepted {
                    // The mode of the file comes a moment after the file: the peer is asked too.
                    Ok((socket, _)) if is_allowed(&socket, owner) => {
                        let (handle, backups) = (handle.clone(), backups.clone());
                        let stop = stop.clone();
                        tasks.spawn(async move {
                            serve_one(socket, &handle, &backups, stop).await;
                            drop(permit);
                        });
                    }
                    Ok(_) => tracing::warn!("refused an operator of another user"),
                    Err(error) => {
                        tracing::warn!(%error, "an operator's connection cannot be accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        }
        // First nobody new comes, then those who are here get their answers.
        drop((listener, file));
        while tasks.join_next().await.is_some() {}
    }
}

fn is_allowed(socket: &UnixStream, owner: u32) -> bool {
    socket.peer_cred().is_ok_and(|peer| peer.uid() == owner || peer.uid() == 0)
}

async fn serve_one(
    socket: UnixStream,
    handle: &Handle,
    backups: &Backups,
    stop: watch::Receiver<bool>,
) {
    let patience = Duration::from_millis(limits::ADMIN_PEER_MILLIS);
    let (read, mut write) = socket.into_split();
    let mut line = String::new();
    let mut input = tokio::io::BufReader::new(read.take(limits::ADMIN_REQUEST_BYTES_MAX));
    let read = timeout(patience, input.read_line(&mut line)).await;
    if let Some(ask) = backup::parse_request(&line) {
        return backup::serve(ask, backups, &mut write, stop).await;
    }
    let mut out = Out::new(write, stop);
    let last = match (read, parse_request(&line)) {
        (Err(_) | Ok(Err(_)), _) => return,
        (Ok(Ok(_)), None) => "error this is no request that this broker knows\n".to_owned(),
        (Ok(Ok(_)), Some(ask)) => {
            match &ask {
                Ask::Queue(
                    QueueAsk::Move { .. } | QueueAsk::Retry { .. } | QueueAsk::EndSchedule { .. },
                )
                | Ask::Purge(_)
                | Ask::Xa(XaAsk::Decide { .. } | XaAsk::Forget { .. })
                | Ask::Delete(_) => tracing::info!(?ask, "an operator asks"),
                Ask::Queue(_) | Ask::Xa(_) => tracing::debug!(?ask, "an operator looks"),
            }
            match perform(handle, ask, &mut out).await {
                Ok(()) => "ok\n".to_owned(),
                Err(failure) => format!("error {}\n", escape(&failure.to_string())),
            }
        }
    };
    // Whether the operator reads the reply or not, what was asked for is done.
    let _ = out.write(&last).await;
}

async fn perform(handle: &Handle, ask: Ask, out: &mut Out<OwnedWriteHalf>) -> Result<(), Failure> {
    let command = match ask {
        Ask::Queue(ask) => return operator::perform(handle, ask, out).await,
        Ask::Xa(ask) => return branches::perform(handle, ask, out).await,
        Ask::Purge(queue) => Command::Purge { queue: queue.into() },
        Ask::Delete(queue) => Command::Delete { queue: queue.into() },
    };
    match operator::request(&handle.connect()?, command).await? {
        Reply::Removed(count) => out.tell(&Told::Removed(count)).await,
        other => unreachable!("it was a removal that was asked, not {other:?}"),
    }
}

fn encode_request(ask: &Ask) -> String {
    match ask {
        Ask::Queue(ask) => {
            format!("queue {}\n", serde_json::to_string(ask).expect("strings and numbers are JSON"))
        }
        Ask::Xa(ask) => {
            format!("xa {}\n", serde_json::to_string(ask).expect("strings and numbers are JSON"))
        }
        Ask::Purge(name) => format!("purge {}\n", escape(name)),
        Ask::Delete(name) => format!("delete {}\n", escape(name)),
    }
}

/// A line that does not end was cut off: half a name is another name.
fn parse_request(line: &str) -> Option<Ask> {
    let line = line.strip_suffix('\n')?;
    match line.split_once(' ') {
        Some(("queue", json)) => Some(Ask::Queue(serde_json::from_str(json).ok()?)),
        Some(("xa", json)) => Some(Ask::Xa(serde_json::from_str(json).ok()?)),
        Some(("purge", name)) => Some(Ask::Purge(unescape(name)?)),
        Some(("delete", name)) => Some(Ask::Delete(unescape(name)?)),
        _ => None,
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r")
}

fn unescape(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        plain.push(match c {
            '\\' => match chars.next()? {
                '\\' => '\\',
                'n' => '\n',
                'r' => '\r',
                _ => return None,
            },
            c => c,
        });
    }
    Some(plain)
}

/// Why an operator has no answer, or not the one that was wanted.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens there.
    #[error("no broker listens on {}", path.display())]
    NobodyThere {
        /// The socket.
        path: PathBuf,
    },
    /// Nothing was asked.
    #[error(
        "this asks for too much at once ({bytes} bytes, {} at most): name fewer messages",
        limits::ADMIN_REQUEST_BYTES_MAX
    )]
    TooLong {
        /// Bytes that say it.
        bytes: usize,
    },
    /// The broker would not do it.
    #[error("{0}")]
    Refused(String),
    /// The broker ended, or is of another version.
    #[error("the broker's reply was cut off: what was asked for may have been done or not")]
    CutOff,
    /// What was told could not be printed.
    #[error("{0}")]
    Print(io::Error),
    /// The socket could not be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Asks the broker that listens at `path`, and waits as long as the answer takes. Gives each line
/// to `told` as it comes; what that fails with ends the asking.
///
/// # Errors
/// See [`AskError`].
pub fn ask(
    path: &Path,
    ask: &Ask,
    told: &mut dyn FnMut(Told) -> io::Result<()>,
) -> Result<(), AskError> {
    let mut socket = reach(path)?;
    // A broker that ends takes the connection with it, at any moment.
    let cut_off = |_: io::Error| AskError::CutOff;
    let request = encode_request(ask);
    if request.len() as u64 > limits::ADMIN_REQUEST_BYTES_MAX {
        return Err(AskError::TooLong { bytes: request.len() });
    }
    socket.write_all(request.as_bytes()).map_err(cut_off)?;
    for line in io::BufReader::new(socket).lines() {
        let line = line.map_err(cut_off)?;
        match line.split_once(' ') {
            None if line == "ok" => return Ok(()),
            Some(("error", text)) => {
                return Err(AskError::Refused(unescape(text).ok_or(AskError::CutOff)?));
            }
            Some(("told", json)) => {
                let line = serde_json::from_str(json).map_err(|_| AskError::CutOff)?;
                told(line).map_err(AskError::Print)?;
            }
            _ => return Err(AskError::CutOff),
        }
    }
    Err(AskError::CutOff)
}

fn reach(path: &Path) -> Result<std::os::unix::net::UnixStream, AskError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            AskError::NobodyThere { path: path.to_owned() }
        }
        _ => AskError::Io { path: path.to_owned(), source },
    };
    std::os::unix::net::UnixStream::connect(path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 5] = ["orders", "two words", "back\\slash\\n", "line\nfeed\r", " \\"];

    #[test]
    fn a_request_is_read_as_it_was_written_whatever_the_name() {
        for name in NAMES {
            let show = QueueAsk::Show { queue: name.to_owned() };
            let asks =
                [Ask::Purge(name.to_owned()), Ask::Delete(name.to_owned()), Ask::Queue(show)];
            for ask in asks {
                let line = encode_request(&ask);
                assert_eq!(line.lines().count(), 1, "{line:?}");
                assert_eq!(parse_request(&line), Some(ask));
            }
        }
    }

    #[test]
    fn what_is_no_whole_request_is_none() {
        for line in [
            "",
            "\n",
            "list\n",
            "queue {}\n",
            "purge orders",
            "purge\n",
            "lists\n",
            "delete a\\x\n",
        ] {
            assert_eq!(parse_request(line), None, "{line:?}");
        }
    }
}
