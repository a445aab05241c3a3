//! Settings of OpenWire.

use serde::Deserialize;

use super::{ConfigError, in_range};

/// See `default.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OpenWireSettings {
    /// Seconds a peer has to say who it is.
    pub connect_timeout: u64,
    /// Milliseconds of silence after which a peer is given up; 0 is never.
    pub inactivity: u64,
}

impl Default for OpenWireSettings {
    fn default() -> Self {
        Self { connect_timeout: 10, inactivity: 30_000 }
    }
}

impl OpenWireSettings {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let timeout = self.connect_timeout;
        in_range(timeout >= 1, "openwire.connect_timeout", timeout, "at least 1")?;
        let silence = self.inactivity;
        let fits = silence == 0 || (300..=86_400_000).contains(&silence);
        in_range(fits, "openwire.inactivity", silence, "0, or from 300 to 86400000")
    }
}
