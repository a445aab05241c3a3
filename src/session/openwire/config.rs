//! Settings that all OpenWire connections of a listener share.

use std::sync::Arc;
use std::time::Duration;

use super::registry::Registry;
use crate::limits;
use crate::protocol::openwire::{Version, WireFormat};
use crate::session::stomp::Pieces;

/// How OpenWire sessions behave.
#[derive(Clone, Debug)]
pub struct OpenWireConfig {
    /// The broker's name, for clients to show.
    pub broker_name: String,
    /// Stands in every id that is made here, so that those of two brokers differ; clients take two
    /// connections with the same for connections to the same resource manager.
    pub broker_id: String,
    /// Which life of the broker this is, so that no id is made twice.
    pub epoch: u64,
    /// Whether clients must be let in by a login.
    pub login: bool,
    /// Bytes of a message's body at most.
    pub body_bytes: u64,
    /// Time from the start of a connection until its client has said who it is.
    pub connect_timeout: Duration,
    /// Silence after which a peer is given up; zero is never.
    pub inactivity: Duration,
    /// How large bodies go through.
    pub pieces: Pieces,
    /// What the connections know of each other.
    pub registry: Arc<Registry>,
}

impl Default for OpenWireConfig {
    fn default() -> Self {
        Self {
            broker_name: "escrowmq".to_owned(),
            broker_id: "escrowmq".to_owned(),
            epoch: 0,
            login: false,
            body_bytes: 1 << 30,
            connect_timeout: Duration::from_secs(10),
            inactivity: Duration::from_secs(30),
            pieces: Pieces::default(),
            registry: Arc::default(),
        }
    }
}

impl OpenWireConfig {
    /// Bytes of a frame at most.
    pub(super) fn frame_bytes(&self) -> usize {
        let body = usize::try_from(self.body_bytes).unwrap_or(usize::MAX / 2);
        (body + limits::OPENWIRE_FRAME_EXTRA).min(i32::MAX as usize)
    }

    /// What this side says of itself.
    pub(super) fn wire_format(&self) -> WireFormat {
        WireFormat {
            version: i32::from(Version::NEWEST.number()),
            tcp_no_delay_enabled: true,
            cache_size: 1024,
            max_inactivity_duration: i64::try_from(self.inactivity.as_millis()).unwrap_or(0),
            max_inactivity_duration_initial_delay: 10_000,
            max_frame_size: self.frame_bytes() as i64,
            max_frame_size_enabled: true,
            provider_name: Some("EscrowMQ".to_owned()),
            provider_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            ..WireFormat::default()
        }
    }
}
