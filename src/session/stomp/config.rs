//! Settings that all STOMP connections of a listener share.

use std::time::Duration;

use crate::limits;
use crate::protocol::stomp::Limits;

/// How STOMP sessions behave.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// The `server` header of CONNECTED: name, slash, version.
    pub server: String,
    /// Stands in every message id and session id, so that those of two brokers differ.
    pub id_prefix: String,
    /// What a frame may have after the greeting. Heads beyond 65,535 bytes cannot be stored, so
    /// a larger limit counts as this.
    pub limits: Limits,
    /// Heart-beats offered to clients.
    pub heart_beat: HeartBeat,
    /// Whether a client must say who it is, and waits until somebody has decided about that.
    pub login: bool,
    /// Time from the start of a connection to its CONNECT frame, and until it is let in.
    pub connect_timeout: Duration,
    /// Deliveries outstanding on a subscription that does not say: at least 1. More keeps a far
    /// consumer busy, less spreads a queue evenly over its consumers.
    pub prefetch: u32,
    /// How large bodies go through.
    pub pieces: Pieces,
}

/// How a body that is too large for one request goes to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pieces {
    /// Bytes of a body up to which it goes whole.
    pub whole_bytes: usize,
    /// Bytes of a piece; at least 1.
    pub piece_bytes: usize,
    /// Bytes of a body held, or on their way to the disk, before no more is read; at least those
    /// of a piece.
    pub ahead_bytes: usize,
}

impl Default for Pieces {
    fn default() -> Self {
        Self {
            whole_bytes: limits::WHOLE_BODY_BYTES_MAX,
            piece_bytes: limits::PIECE_BYTES,
            ahead_bytes: limits::UPLOAD_BYTES_MAX,
        }
    }
}

/// What the broker says of heart-beats in CONNECTED; zero is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartBeat {
    /// The shortest interval at which it will send them.
    pub send: Duration,
    /// The shortest interval at which it wants to get them.
    pub receive: Duration,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            server: concat!("EscrowMQ/", env!("CARGO_PKG_VERSION")).to_owned(),
            id_prefix: "escrowmq".to_owned(),
            limits: Limits { head_bytes: 65_535, ..Limits::default() },
            heart_beat: HeartBeat {
                send: Duration::from_secs(1),
                receive: Duration::from_secs(10),
            },
            login: false,
            connect_timeout: Duration::from_secs(10),
            prefetch: 1000,
            pieces: Pieces::default(),
        }
    }
}
