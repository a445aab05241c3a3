//! Settings of branches of global transactions (XA).

use serde::Deserialize;

use super::{ConfigError, in_range};

/// See `default.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct XaConfig {
    /// Seconds until a branch that has not voted is rolled back.
    pub timeout: u64,
    /// Seconds for which a prepared branch may wait before operators are warned.
    pub warn_after: u64,
    /// Hours for which outcomes are remembered.
    pub outcome_hours: u64,
    /// Outcomes that are remembered at most.
    pub outcomes: u64,
}

impl Default for XaConfig {
    fn default() -> Self {
        Self { timeout: 300, warn_after: 600, outcome_hours: 24, outcomes: 1_000_000 }
    }
}

impl XaConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        const YEAR_SECONDS: u64 = 365 * 24 * 3600;
        for (name, value, most, must) in [
            ("xa.timeout", self.timeout, YEAR_SECONDS, "from 1 to 31536000"),
            ("xa.warn_after", self.warn_after, YEAR_SECONDS, "from 1 to 31536000"),
            ("xa.outcome_hours", self.outcome_hours, 8760, "from 1 to 8760"),
            ("xa.outcomes", self.outcomes, 10_000_000, "from 1 to 10000000"),
        ] {
            in_range((1..=most).contains(&value), name, value, must)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_named() {
        XaConfig::default().check().unwrap();
        for (config, name) in [
            (XaConfig { timeout: 0, ..XaConfig::default() }, "xa.timeout"),
            (XaConfig { warn_after: u64::MAX, ..XaConfig::default() }, "xa.warn_after"),
            (XaConfig { outcome_hours: 9000, ..XaConfig::default() }, "xa.outcome_hours"),
            (XaConfig { outcomes: 0, ..XaConfig::default() }, "xa.outcomes"),
        ] {
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
