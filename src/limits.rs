//! Every bound that is not a setting, in one place, with its unit and reason.

/// Commands one engine turn takes from the inbox at most: bounds the turn's length.
pub const TURN_COMMANDS_MAX: usize = 256;

/// Bytes of one destination name at most.
pub const DESTINATION_NAME_BYTES_MAX: usize = 1024;

/// Bytes of one row of the index at most, where it has no fixed size: a destination name and some
/// hundred bytes beside it.
pub const INDEX_ROW_BYTES_MAX: u64 = 64 * 1024;
