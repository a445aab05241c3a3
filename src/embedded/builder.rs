//! Settings of an embedded broker.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::broker::Broker;
use super::error::OpenError;
use super::life;
use crate::broker::policy::WhenFull;
use crate::config::memory::CHANGE_BYTES;
use crate::config::{AccessConfig, Config, DestinationConfig, Size};
use crate::io::real::SystemClock;
use crate::io::{Clock, Storage};
use crate::limits;

/// Settings of a broker, made by [`Broker::builder`]. The defaults fit most programs.
///
/// ```
/// use escrowmq::{Broker, Limit};
///
/// # async fn example() -> Result<(), escrowmq::OpenError> {
/// let broker = Broker::builder("./orders-data")
///     .memory_limit(128 << 20)
///     .limit("queue://orders.>", Limit::messages(100_000))
///     .open()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder opens nothing before `open`"]
pub struct Builder(Plan);

/// What a life is to be like.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) config: Config,
    pub(super) patience: Duration,
    pub(super) listens: bool,
    /// An operator's commands reach it.
    pub(super) operated: bool,
    /// Ids that are remembered, if that is said.
    ids: Option<u32>,
    /// Instead of the directory.
    pub(super) storage: Option<Arc<dyn Storage>>,
    pub(super) clock: Arc<dyn Clock>,
}

const MIB: u64 = 1 << 20;

/// The parts of the memory limit, as what it is divided by: four sixteenths are named here (one of
/// them is divided once more), four are non-persistent messages, and the rest is for queues and
/// consumers.
const PARTS: u64 = 16;

impl Builder {
    pub(super) fn new(directory: PathBuf) -> Self {
        let mut config = Config { data: directory, ..Config::default() };
        config.log.segment_size = Size::mib(16);
        config.log.checkpoint_bytes = Size::mib(32);
        let clock = Arc::new(SystemClock::new());
        let patience = Duration::ZERO;
        let (listens, operated, ids, storage) = (false, false, None, None);
        let plan = Plan { config, patience, listens, operated, ids, storage, clock };
        Self(plan).memory_limit(256 * MIB)
    }

    pub(super) fn config(&mut self) -> &mut Config {
        &mut self.0.config
    }

    /// Bytes that messages and what is remembered of them may take in memory, at least 64 MiB; 256
    /// MiB by default. What consumers hold comes on top: their prefetch bounds it.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        let part = (bytes / PARTS).max(2 * MIB);
        let memory = &mut self.0.config.memory;
        memory.limit = Size::new(bytes);
        (memory.cache, memory.index) = (Size::new(part), Size::new(part));
        // What is pending of names and producers may take half of their memory again.
        let small = (part / 4).max(MIB);
        memory.held = Size::new(part / 2);
        memory.non_persistent = Size::new(4 * part - small);
        let duplicates = &mut self.0.config.duplicates;
        (duplicates.memory, duplicates.producer_memory) = (Size::new(small), Size::new(small));
        let changes = usize::try_from(part / CHANGE_BYTES).unwrap_or(usize::MAX);
        self.0.config.log.checkpoint_changes = changes.clamp(1, 100_000);
        self
    }

    /// How many ids of [messages](crate::Message::once) and
    /// [commits](crate::Transaction::commit_as) are remembered, for 24 hours at most; beyond it the
    /// oldest are forgotten. Each is taken to cost 200 bytes of the memory limit, and half as much
    /// again is for those in transactions. By default it is as many as a 64th of that limit holds,
    /// about 20,000; at most ten million, where the limit allows it.
    pub fn ids(mut self, ids: u32) -> Self {
        self.0.ids = Some(ids);
        self
    }

    /// Bytes of a message's body at most, up to 1 GiB, which is the default. One of more than
    /// 256 KiB goes to the disk in pieces; but the program holds all of it, when it sends it and
    /// when it receives it.
    pub fn message_limit(mut self, bytes: u64) -> Self {
        self.0.config.limits.message = Size::new(bytes);
        self
    }

    /// Bytes of the files of the log: a multiple of 4 KiB from 1 MiB to 1 GiB, 16 MiB by default.
    /// Counts only when the store is made. An empty store takes about four of them; larger ones
    /// stall less where much is written.
    pub fn segment_size(mut self, bytes: u64) -> Self {
        self.0.config.log.segment_size = Size::new(bytes);
        self
    }

    /// Bytes of the disk kept free, 256 MiB by default. With less, no messages are taken: the rest
    /// is for acknowledgements and clean-up, which then make room. At least twice what
    /// [`Builder::segment_size`] says.
    pub fn disk_reserve(mut self, bytes: u64) -> Self {
        self.0.config.log.disk_reserve = Size::new(bytes);
        self
    }

    /// Lets destinations hold so much at most. `pattern` is `queue://` or `topic://` and a name, of
    /// which `*` stands for any one part between dots and `>` at the end for all that follow. The
    /// most specific pattern counts, and it alone.
    pub fn limit(mut self, pattern: impl Into<String>, limit: Limit) -> Self {
        let Limit { messages, bytes, when_full } = limit;
        let bytes = bytes.map(Size::new);
        let name = pattern.into();
        self.0.config.destinations.push(DestinationConfig { name, messages, bytes, when_full });
        self
    }

    /// Serves other programs too, at a URL like `stomp://127.0.0.1:61613`, or
    /// `tcp://127.0.0.1:61616` for ActiveMQ's own clients, which speak OpenWire; port 0 takes a
    /// free one, which [`Broker::addresses`] tells. Without [`Builder::users`] whoever reaches the
    /// address may read and write every queue: so it must be one that this machine alone can reach.
    pub fn listen(mut self, url: impl Into<String>) -> Self {
        if !std::mem::replace(&mut self.0.listens, true) {
            self.0.config.listen.clear();
        }
        self.0.config.listen.push(url.into());
        self
    }

    /// Lets the operator of this machine at the running broker, with the commands `queue`, `dlq`,
    /// `xa`, `schedule` and `store backup` of `escrowmq`, which are given the broker's directory:
    /// through a socket there that the program's own user and root alone may use. The path of that
    /// socket, `admin.sock` in the directory, may have about 100 bytes at most.
    pub fn operated(mut self) -> Self {
        self.0.operated = true;
        self
    }

    /// Lets other programs in only as one of the users in that file, which `escrowmq user` makes.
    pub fn users(mut self, path: impl Into<PathBuf>) -> Self {
        self.0.config.security.users = path.into();
        self
    }

    /// Says what these users may do with destinations, `pattern` as in [`Builder::limit`]: who may
    /// consume and who may send, as users, groups, or `*` for all. What no pattern covers is
    /// allowed to nobody, once there is one.
    pub fn rights(mut self, pattern: impl Into<String>, read: &[&str], write: &[&str]) -> Self {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let (name, read, write) = (pattern.into(), names(read), names(write));
        let rule = AccessConfig { name, read, write, admin: Vec::new() };
        self.0.config.access.push(rule);
        self
    }

    /// The certificate and its key, in PEM, of listeners like `stomp+ssl://127.0.0.1:61612` and
    /// `ssl://127.0.0.1:61617`.
    pub fn tls(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.0.config.tls.certificate = certificate.into();
        self.0.config.tls.key = key.into();
        self
    }

    /// The name of the broker for STOMP clients: it begins their message ids. `escrowmq` by
    /// default.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.0.config.name = name.into();
        self
    }

    /// How long to wait for a directory that another broker has open, before
    /// [`OpenError::InUse`]; not at all by default. A broker that was dropped, and not closed, ends
    /// beside the program, and has its directory until then.
    pub fn wait_for_store(mut self, patience: Duration) -> Self {
        self.0.patience = patience;
        self
    }

    /// Keeps the store there instead of in the directory, for tests.
    #[doc(hidden)]
    pub fn storage(mut self, storage: Arc<dyn Storage>) -> Self {
        self.0.storage = Some(storage);
        self
    }

    /// Reads the time there, for tests.
    #[doc(hidden)]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.0.clock = clock;
        self
    }

    /// Opens the broker, and its store, which is made where the directory is empty or missing. That
    /// reads what was written since the last checkpoint, on a thread of the broker's own.
    ///
    /// # Errors
    /// See [`OpenError`]: each says what to do.
    ///
    /// # Dropping the future
    /// The broker ends as soon as it is open.
    pub async fn open(mut self) -> Result<Broker, OpenError> {
        if let Some(ids) = self.0.ids {
            let duplicates = &mut self.0.config.duplicates;
            duplicates.ids = usize::try_from(ids).unwrap_or(usize::MAX);
            duplicates.memory = Size::new((u64::from(ids) * limits::NAME_BYTES).max(MIB));
        }
        let opened = life::begin(self.0)?;
        let panicked = || OpenError::Start("opening the store has panicked".to_owned());
        Ok(Broker::new(opened.await.map_err(|_| panicked())??))
    }
}

/// How much a queue may hold, or a topic for each of its subscribers; for [`Builder::limit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a limit counts where it is given to a builder"]
pub struct Limit {
    messages: Option<u64>,
    bytes: Option<u64>,
    when_full: WhenFull,
}

impl Limit {
    /// So many messages, those at consumers included. What is sent beyond waits for room.
    pub fn messages(messages: u64) -> Self {
        Self { messages: Some(messages), bytes: None, when_full: WhenFull::Hold }
    }

    /// So many bytes, of the log or of memory. What is sent beyond waits for room.
    pub fn bytes(bytes: u64) -> Self {
        Self { messages: None, bytes: Some(bytes), when_full: WhenFull::Hold }
    }

    /// So many bytes as well.
    pub fn and_bytes(self, bytes: u64) -> Self {
        Self { bytes: Some(bytes), ..self }
    }

    /// What becomes of a send beyond the limit, if it is not to wait.
    pub fn when_full(self, when_full: WhenFull) -> Self {
        Self { when_full, ..self }
    }
}
