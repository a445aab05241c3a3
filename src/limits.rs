//! Every bound that is not a setting, in one place, with its unit and reason.

/// Commands one engine turn takes from the inbox at most: bounds the turn's length.
pub const TURN_COMMANDS_MAX: usize = 256;

/// Bytes of one destination name at most.
pub const DESTINATION_NAME_BYTES_MAX: usize = 1024;

/// Requests a STOMP session holds for the engine before it stops reading: one engine turn's worth.
pub const SESSION_REQUESTS_MAX: usize = 256;

/// Bytes of message content a session holds for the engine before it stops reading.
pub const SESSION_REQUEST_BYTES_MAX: usize = 1 << 20;

/// Bytes a session holds for the socket before it takes no further input or output.
pub const SESSION_OUT_BYTES_MAX: usize = 1 << 20;

/// Receipts a peer may wait for before the session stops reading.
pub const SESSION_RECEIPTS_MAX: usize = 1024;

/// Bytes of the receipts' names a peer may wait for before the session stops reading.
pub const SESSION_RECEIPT_BYTES_MAX: usize = 256 << 10;

/// Subscriptions of one connection.
pub const SESSION_SUBSCRIPTIONS_MAX: usize = 1024;

/// Bytes of the name a peer gives a subscription.
pub const SUBSCRIPTION_NAME_BYTES_MAX: usize = 1024;

/// Deliveries outstanding on one subscription: a larger prefetch counts as this, since the session
/// remembers each.
pub const PREFETCH_MAX: u32 = 65_535;

/// Bytes of a frame's headers before the connection is greeted.
pub const GREETING_HEAD_BYTES_MAX: usize = 8 << 10;
