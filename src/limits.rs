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
