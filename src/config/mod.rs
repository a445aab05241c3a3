//! Settings: read once, checked, and handed down to each part.
//!
//! `default.toml` beside this file is the one place where every setting is described, with its
//! default and its cost; a test holds that it says what the code does.

mod listener;
pub(crate) mod memory;
mod openwire;
mod redelivery;
mod security;
mod size;
mod xa;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::broker::policy::{Limit, Pattern, PatternError, Policies, WhenFull};
use crate::engine;
use crate::limits;
use crate::security::users::NAME_RULE;
use crate::wal;

pub use listener::{Listener, Wire};
pub use openwire::OpenWireSettings;
pub use redelivery::RedeliveryConfig;
pub use security::{AccessConfig, SecurityConfig, TlsConfig};
pub use size::Size;
pub use xa::XaConfig;

/// Every setting with its default, as text to read and to start from.
pub const DEFAULTS: &str = include_str!("default.toml");

/// All settings of a broker.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Name of the broker, for logs and clients.
    pub name: String,
    /// Directory of the store.
    pub data: PathBuf,
    /// Where to listen.
    pub listen: Vec<String>,
    /// Limits of single destinations.
    pub destinations: Vec<DestinationConfig>,
    /// What becomes of messages that come back.
    pub redelivery: Vec<RedeliveryConfig>,
    /// Who may do what with which destinations.
    pub access: Vec<AccessConfig>,
    /// Whether queues get what is published on the topic in their name.
    pub virtual_topics: bool,
    /// Where to show metrics; nowhere if it is empty.
    pub metrics: String,
    /// The log.
    pub log: LogConfig,
    /// What is kept in memory.
    pub memory: MemoryConfig,
    /// Bounds.
    pub limits: LimitsConfig,
    /// What is done once.
    pub duplicates: DuplicatesConfig,
    /// Branches of global transactions.
    pub xa: XaConfig,
    /// Who is let in.
    pub security: SecurityConfig,
    /// TLS of listeners.
    pub tls: TlsConfig,
    /// STOMP.
    pub stomp: StompConfig,
    /// OpenWire.
    pub openwire: OpenWireSettings,
}

/// See `default.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DestinationConfig {
    /// Which, perhaps with wildcards.
    pub name: String,
    /// Messages at most.
    pub messages: Option<u64>,
    /// Bytes at most.
    pub bytes: Option<Size>,
    /// What becomes of a send beyond that.
    pub when_full: WhenFull,
}

/// See `default.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Bytes of a segment of a new store.
    pub segment_size: Size,
    /// Log after which a checkpoint begins.
    pub checkpoint_bytes: Size,
    /// Changes after which a checkpoint begins.
    pub checkpoint_changes: usize,
    /// Seconds after which a checkpoint begins.
    pub checkpoint_seconds: u64,
    /// Dead segments kept for reuse.
    pub spare_segments: usize,
    /// Bytes of the disk kept free.
    pub disk_reserve: Size,
    /// What becomes of a send that the disk has no room for.
    pub when_disk_full: WhenFull,
    /// What compaction reads and writes in a second.
    pub compaction_rate: Size,
}

/// See `default.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryConfig {
    /// All that messages and their bookkeeping may take.
    pub limit: Size,
    /// The newest persistent messages.
    pub cache: Size,
    /// The index.
    pub index: Size,
    /// Non-persistent messages and those of topics.
    pub non_persistent: Size,
    /// Waiting messages per queue.
    pub queue_window: usize,
    /// Unwritten bytes per connection.
    pub connection_window: Size,
    /// Sends that wait for room.
    pub held: Size,
    /// Those of one connection.
    pub held_by_connection: Size,
    /// What becomes of a non-persistent send when memory is full.
    pub when_full: WhenFull,
}

/// See `default.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Connections.
    pub connections: usize,
    /// Queues.
    pub queues: usize,
    /// Bytes of a message.
    pub message: Size,
    /// Messages that wait for a slow subscriber of a topic.
    pub topic_backlog: usize,
    /// Sends of one connection that wait for room.
    pub held_messages: usize,
    /// Operations of one transaction at most.
    pub transaction_operations: u64,
}

/// See `default.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DuplicatesConfig {
    /// Ids remembered per queue, and of commits.
    pub ids: usize,
    /// All that is remembered of ids.
    pub memory: Size,
    /// Hours for which an id is remembered.
    pub hours: u64,
    /// All that is remembered of producers that count what they send.
    pub producer_memory: Size,
    /// Hours for which a producer is remembered whose connection was lost.
    pub producer_hours: u64,
}

/// See `default.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StompConfig {
    /// Outstanding deliveries of a subscription that does not choose.
    pub prefetch: u32,
    /// Seconds a peer has to connect.
    pub connect_timeout: u64,
    /// The shortest heart-beat the broker sends or expects, in milliseconds.
    pub heart_beat_min: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "escrowmq".to_owned(),
            data: PathBuf::from("./escrowmq-data"),
            listen: ["stomp://127.0.0.1:61613", "tcp://127.0.0.1:61616"].map(str::to_owned).into(),
            destinations: Vec::new(),
            redelivery: Vec::new(),
            access: Vec::new(),
            virtual_topics: true,
            metrics: String::new(),
            log: LogConfig::default(),
            memory: MemoryConfig::default(),
            limits: LimitsConfig::default(),
            duplicates: DuplicatesConfig::default(),
            xa: XaConfig::default(),
            security: SecurityConfig::default(),
            tls: TlsConfig::default(),
            stomp: StompConfig::default(),
            openwire: OpenWireSettings::default(),
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_size: Size::mib(64),
            checkpoint_bytes: Size::mib(128),
            checkpoint_changes: 120_000,
            checkpoint_seconds: 30,
            spare_segments: 4,
            disk_reserve: Size::mib(256),
            when_disk_full: WhenFull::Refuse,
            compaction_rate: Size::mib(64),
        }
    }
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            limit: Size::mib(1024),
            cache: Size::mib(32),
            index: Size::mib(16),
            non_persistent: Size::mib(256),
            queue_window: 1024,
            connection_window: Size::kib(256),
            held: Size::mib(64),
            held_by_connection: Size::mib(1),
            when_full: WhenFull::Refuse,
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            connections: 10_000,
            queues: 100_000,
            message: Size::mib(1024),
            topic_backlog: 1000,
            held_messages: 1000,
            transaction_operations: 4_000_000,
        }
    }
}

impl Default for DuplicatesConfig {
    fn default() -> Self {
        Self {
            ids: 100_000,
            memory: Size::mib(64),
            hours: 24,
            producer_memory: Size::mib(64),
            producer_hours: 24,
        }
    }
}

impl Default for StompConfig {
    fn default() -> Self {
        Self { prefetch: 1000, connect_timeout: 10, heart_beat_min: 100 }
    }
}

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {path} cannot be read: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML, or has a setting that does not exist or has the wrong type.
    #[error("the configuration {path} is wrong: {source}")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A value is out of its range.
    #[error("the setting {name} is {value}, and must be {must}")]
    Range {
        /// Which setting.
        name: &'static str,
        /// What it says.
        value: String,
        /// What it may say.
        must: &'static str,
    },
    /// A limit of destinations cannot be understood.
    #[error("a limit in destinations is wrong: {0}")]
    Destination(#[from] PatternError),
    /// A rule of access cannot be understood.
    #[error("a rule in access is wrong: {0}")]
    Access(PatternError),
    /// A name in a rule of access is none.
    #[error("the rule in access for {rule} gives a right to {name:?}: {}", NAME_RULE)]
    Grantee {
        /// Its destinations.
        rule: String,
        /// The name.
        name: String,
    },
    /// Others than this machine could reach a listener, and nobody is asked who he is.
    #[error(
        "{url} can be reached from other machines, and there are no users: whoever reaches it \
         could read and write every queue; name a file of users in security.users (`escrowmq user \
         set` makes one), or set security.open = true"
    )]
    Open {
        /// The listener.
        url: String,
    },
    /// Others than this machine could read the metrics, and nobody has said that they may.
    #[error(
        "metrics on {address} can be reached from other machines, and are shown to whoever asks, \
         names of queues too: use an address of this machine alone, or set security.open_metrics \
         = true"
    )]
    OpenMetrics {
        /// The address.
        address: SocketAddr,
    },
    /// A listener's address cannot be understood.
    #[error("cannot listen on {url}: {reason}")]
    Listen {
        /// As given.
        url: String,
        /// Why.
        reason: String,
    },
}

/// What a frame of the log may hold beside a message's body.
const FRAME_EXTRA: usize = 2 << 20;

/// What a message's head may take beside its body.
const HEAD_BYTES_MAX: u64 = 64 << 10;

impl Config {
    /// Reads a TOML file; what it does not say has its default.
    ///
    /// # Errors
    /// Where the file cannot be read, or says what is no setting.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        toml::from_str(&text)
            .map_err(|e| ConfigError::Parse { path: path.to_owned(), source: Box::new(e) })
    }

    /// The listeners, parsed.
    ///
    /// # Errors
    /// Where one is no URL, or names a protocol this version does not speak.
    pub fn listeners(&self) -> Result<Vec<Listener>, ConfigError> {
        self.listen.iter().map(|url| Listener::parse(url)).collect()
    }

    /// Where the page of metrics is to be, if anywhere.
    ///
    /// # Errors
    /// Where it is no address.
    pub fn metrics_address(&self) -> Result<Option<SocketAddr>, ConfigError> {
        if self.metrics.is_empty() {
            return Ok(None);
        }
        let wrong = || ConfigError::Range {
            name: "metrics",
            value: self.metrics.clone(),
            must: "an address and a port like 127.0.0.1:9161, or empty",
        };
        self.metrics.parse().map(Some).map_err(|_| wrong())
    }

    /// Checks what types cannot say.
    ///
    /// # Errors
    /// The first setting that is out of its range.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_sizes()?;
        self.check_flow()?;
        let printable = !self.name.is_empty() && self.name.chars().all(|c| c.is_ascii_graphic());
        let must = "1 to 64 printable ASCII characters without a space";
        in_range(printable && self.name.len() <= 64, "name", &self.name, must)?;
        let at_least_one = "at least 1";
        for (name, value) in [
            ("limits.connections", self.limits.connections),
            ("limits.queues", self.limits.queues),
            ("limits.topic_backlog", self.limits.topic_backlog),
            ("limits.held_messages", self.limits.held_messages),
            ("log.checkpoint_changes", self.log.checkpoint_changes),
        ] {
            in_range(value >= 1, name, value, at_least_one)?;
        }
        let window = self.memory.queue_window;
        in_range(window >= 16, "memory.queue_window", window, "at least 16")?;
        let prefetch = self.stomp.prefetch;
        let fits = (1..=limits::PREFETCH_MAX).contains(&prefetch);
        in_range(fits, "stomp.prefetch", prefetch, "from 1 to 32767")?;
        let (timeout, beat) = (self.stomp.connect_timeout, self.stomp.heart_beat_min);
        in_range(timeout >= 1, "stomp.connect_timeout", timeout, at_least_one)?;
        in_range(beat >= 1, "stomp.heart_beat_min", beat, at_least_one)?;
        let ids = self.duplicates.ids;
        let must = "from 1 to 10000000";
        in_range((1..=10_000_000).contains(&ids), "duplicates.ids", ids, must)?;
        let must = "from 1 to 8760";
        let duplicates = &self.duplicates;
        for (name, hours) in [
            ("duplicates.hours", duplicates.hours),
            ("duplicates.producer_hours", duplicates.producer_hours),
        ] {
            in_range((1..=8760).contains(&hours), name, hours, must)?;
        }
        self.xa.check()?;
        self.openwire.check()?;
        let seconds = self.log.checkpoint_seconds;
        let must = "from 1 to 86400";
        in_range((1..=86_400).contains(&seconds), "log.checkpoint_seconds", seconds, must)?;
        in_range(!self.listen.is_empty(), "listen", "[]", "at least one address")?;
        self.check_security()
    }

    fn check_sizes(&self) -> Result<(), ConfigError> {
        let segment = self.log.segment_size.bytes();
        let whole = segment.is_multiple_of(4096) && (1 << 20..=1 << 30).contains(&segment);
        let must = "a multiple of 4 KiB from 1 MiB to 1 GiB";
        in_range(whole, "log.segment_size", segment, must)?;
        // A send may have one made before anybody sees that the disk is short, and the next one is
        // for what helps to make room.
        let (reserve, must) = (self.log.disk_reserve.bytes(), "at least twice log.segment_size");
        in_range(reserve >= 2 * segment, "log.disk_reserve", reserve, must)?;
        let message = self.limits.message.bytes();
        let must = "at least 1 byte and at most 1 GiB";
        in_range((1..=1 << 30).contains(&message), "limits.message", message, must)?;
        for (name, size, least, must) in [
            ("log.checkpoint_bytes", self.log.checkpoint_bytes, 1 << 20, "at least 1 MiB"),
            ("log.compaction_rate", self.log.compaction_rate, 1 << 20, "at least 1 MiB"),
            ("memory.index", self.memory.index, 1 << 20, "at least 1 MiB"),
            ("duplicates.memory", self.duplicates.memory, 1 << 20, "at least 1 MiB"),
            (
                "duplicates.producer_memory",
                self.duplicates.producer_memory,
                1 << 20,
                "at least 1 MiB",
            ),
            ("memory.connection_window", self.memory.connection_window, 1 << 10, "at least 1 KiB"),
            (
                "memory.held_by_connection",
                self.memory.held_by_connection,
                1 << 10,
                "at least 1 KiB",
            ),
        ] {
            in_range(size.bytes() >= least, name, size.bytes(), must)?;
        }
        Ok(())
    }

    /// The largest body that is one record; a larger one comes in pieces.
    fn whole_bytes(&self) -> usize {
        let limit = usize::try_from(self.limits.message.bytes()).unwrap_or(usize::MAX);
        limit.min(limits::WHOLE_BODY_BYTES_MAX)
    }

    fn check_flow(&self) -> Result<(), ConfigError> {
        for (name, when_full) in [
            ("memory.when_full", self.memory.when_full),
            ("log.when_disk_full", self.log.when_disk_full),
        ] {
            let fits = when_full != WhenFull::DropOldest;
            in_range(fits, name, "drop-oldest", "hold or refuse")?;
        }
        for destination in &self.destinations {
            let limited = destination.messages.is_some() || destination.bytes.is_some();
            let must = "limited by messages, bytes or both, each at least 1";
            let some = limited && destination.messages != Some(0);
            let some = some && destination.bytes != Some(Size::kib(0));
            in_range(some, "destinations", &destination.name, must)?;
        }
        self.check_redelivery()?;
        self.policies()?;
        self.divided().map(drop)
    }

    fn policies(&self) -> Result<Policies, PatternError> {
        let limits = self.destinations.iter().map(|it| {
            let limit = Limit {
                messages: it.messages.unwrap_or(u64::MAX),
                bytes: it.bytes.map_or(u64::MAX, Size::bytes),
                when_full: it.when_full,
            };
            Ok((Pattern::parse(&it.name)?, limit))
        });
        let mut policies = Policies::new(limits.collect::<Result<_, _>>()?, self.memory.when_full)?;
        policies.virtual_topics = self.virtual_topics;
        let rules = self.redelivery.iter();
        let rules = rules.map(|it| Ok((Pattern::parse(&it.name)?, it.rules())));
        let others = RedeliveryConfig::default().rules();
        policies.with_redelivery(rules.collect::<Result<_, _>>()?, others)
    }

    /// What the log is to know.
    #[must_use]
    pub fn wal_options(&self) -> wal::Options {
        let segment_size = self.log.segment_size.bytes();
        // A frame holds a message's body and head, and the record of it.
        let frame = self.whole_bytes() + FRAME_EXTRA;
        wal::Options {
            segment_size,
            batch_bytes_max: frame,
            gather_bytes_max: limits::GATHER_BYTES_MAX,
            spare_segments_max: self.log.spare_segments,
            reserve_bytes: segment_size,
            ..wal::Options::default()
        }
    }

    /// What the engine is to know.
    #[must_use]
    pub fn engine_settings(&self) -> engine::Settings {
        let bytes = |size: Size| usize::try_from(size.bytes()).unwrap_or(usize::MAX);
        // One acknowledgement may settle so many deliveries, and must fit into one batch.
        let largest = self.wal_options().batch_bytes_max.min(bytes(self.log.segment_size));
        let prefetch = u32::try_from(largest / 64).unwrap_or(u32::MAX).min(limits::PREFETCH_MAX);
        let memory = self.divided().expect("checked");
        engine::Settings {
            limits: crate::broker::Limits {
                prefetch,
                queues: self.limits.queues,
                volatile_bytes: self.memory.non_persistent.bytes(),
                message_bytes: self.whole_bytes() as u64 + HEAD_BYTES_MAX,
                large_bytes: self.limits.message.bytes(),
                resident: self.memory.queue_window,
                topic_backlog: self.limits.topic_backlog,
                transaction_operations: self.limits.transaction_operations,
                names_per_scope: self.duplicates.ids,
                names_bytes: self.duplicates.memory.bytes(),
                names_millis: self.duplicates.hours * 3_600_000,
                producers_bytes: self.duplicates.producer_memory.bytes(),
                producers_millis: self.duplicates.producer_hours * 3_600_000,
                producers_closed_millis: limits::PRODUCER_CLOSED_MILLIS,
                branch_millis: self.xa.timeout * 1000,
                branch_warn_millis: self.xa.warn_after * 1000,
                outcome_millis: self.xa.outcome_hours * 3_600_000,
                outcomes: self.xa.outcomes,
                resident_of_all: memory.places,
                loans: limits::CONNECTION_LOANS_MAX,
                loans_of_all: memory.loans,
            },
            cache_bytes: bytes(self.memory.cache),
            window_bytes: bytes(self.memory.connection_window),
            windows_bytes: memory.windows,
            checkpoint_bytes: self.log.checkpoint_bytes.bytes(),
            checkpoint_changes: self.log.checkpoint_changes,
            checkpoint_millis: self.log.checkpoint_seconds * 1000,
            compaction_bytes: self.log.compaction_rate.bytes(),
            index_bytes: bytes(self.memory.index),
            policies: Arc::new(self.policies().expect("checked")),
            park: engine::ParkLimits {
                messages: self.limits.held_messages,
                bytes: bytes(self.memory.held_by_connection),
                bytes_of_all: bytes(self.memory.held),
            },
            disk_reserve: self.log.disk_reserve.bytes(),
            when_disk_full: self.log.when_disk_full,
        }
    }
}

fn in_range(
    ok: bool,
    name: &'static str,
    value: impl std::fmt::Display,
    must: &'static str,
) -> Result<(), ConfigError> {
    if ok { Ok(()) } else { Err(ConfigError::Range { name, value: value.to_string(), must }) }
}

#[cfg(test)]
mod tests;
