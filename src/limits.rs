//! Every bound that is not a setting, in one place, with its unit and reason.

/// Commands one engine turn takes from the inbox at most: bounds the turn's length.
pub const TURN_COMMANDS_MAX: usize = 256;

/// Bytes of one destination name at most.
pub const DESTINATION_NAME_BYTES_MAX: usize = 1024;

/// Messages one record names at most: bounds the length of a record and of its `apply`.
pub const RECORD_ENTRIES_MAX: usize = 1024;

/// Messages one step of background work (returns, expiry, sweeps) handles at most.
pub const STEP_MESSAGES_MAX: usize = 256;

/// Where messages go whose payload cannot be read any more.
pub const DAMAGED_QUEUE: &str = "ActiveMQ.DLQ.Damaged";

/// Payloads read ahead of one connection's window at most.
pub const LOADS_AHEAD_MAX: usize = 64;

/// Bytes of requests that may wait for the engine, over all connections; a larger request waits
/// until it is alone.
pub const INBOX_BYTES_MAX: usize = 32 << 20;

/// What a request is taken to cost beside its content.
pub const REQUEST_OVERHEAD_BYTES: usize = 256;

/// Steps of background work in one turn at most.
pub const TURN_STEPS_MAX: usize = 1024;

/// Steps of background work after one command at most; what is left waits for the turn's end.
pub const COMMAND_STEPS_MAX: usize = 16;

/// Bytes of log that one step of background work may need: its records name at most
/// [`RECORD_ENTRIES_MAX`] messages.
pub const STEP_LOG_BYTES_MAX: usize = 64 << 10;

/// How long the engine sleeps at most: bounds how late it sees that a full disk has room.
pub const SLEEP_MILLIS_MAX: u64 = 60_000;

/// How often a full disk is tried again.
pub const FULL_RETRY_MILLIS: u64 = 500;

/// A page or payload read that waits for its thread; more would only wait longer.
pub const READS_WAITING_MAX: usize = 4096;
