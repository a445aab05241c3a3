//! Every bound that is not a setting, in one place, with its unit and reason.

/// Commands one engine turn takes from the inbox at most: bounds the turn's length.
pub const TURN_COMMANDS_MAX: usize = 256;

/// Bytes of one destination name at most.
pub const DESTINATION_NAME_BYTES_MAX: usize = 1024;
