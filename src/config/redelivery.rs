//! The settings of what becomes of messages that come back, or end without a consumer.

use serde::Deserialize;

use super::{Config, ConfigError, in_range};
use crate::broker::redelivery::{Ending, Redelivery};
use crate::limits;

/// See `default.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedeliveryConfig {
    /// Which queues, perhaps with wildcards.
    pub name: String,
    /// Deliveries after the first at most.
    pub maximum: u32,
    /// Milliseconds before a message is delivered again.
    pub delay: u64,
    /// By how much each further delay is longer.
    pub backoff: u32,
    /// Milliseconds that a delay has at most.
    pub delay_max: u64,
    /// Where messages are set apart.
    pub dead_letters: String,
    /// What becomes of persistent messages whose time is over.
    pub when_expired: Ending,
    /// What becomes of non-persistent messages that came back too often.
    pub non_persistent: Ending,
}

impl Default for RedeliveryConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            maximum: 6,
            delay: 0,
            backoff: 1,
            delay_max: 3_600_000,
            dead_letters: limits::DEAD_LETTER_QUEUE.to_owned(),
            when_expired: Ending::DeadLetter,
            non_persistent: Ending::Drop,
        }
    }
}

impl RedeliveryConfig {
    pub(super) fn rules(&self) -> Redelivery {
        Redelivery {
            maximum: self.maximum,
            delay: self.delay,
            backoff: self.backoff,
            delay_max: self.delay_max,
            dead_letters: self.dead_letters.as_str().into(),
            expired: self.when_expired,
            non_persistent: self.non_persistent,
        }
    }
}

impl Config {
    pub(super) fn check_redelivery(&self) -> Result<(), ConfigError> {
        for rules in &self.redelivery {
            in_range(rules.backoff >= 1, "redelivery.backoff", rules.backoff, "at least 1")?;
            let year = 365 * 86_400_000;
            let must = "at most 31536000000, which is a year";
            in_range(rules.delay_max <= year, "redelivery.delay_max", rules.delay_max, must)?;
            let name = &rules.dead_letters;
            let fits = !name.is_empty() && name != "." && name.len() <= 256;
            let must = "the name of a queue, or its beginning with a `.` at the end";
            in_range(fits, "redelivery.dead_letters", name, must)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_for_what_comes_back_are_read_or_refused_with_a_reason() {
        let text = r#"
            [[redelivery]]
            name = "queue://orders.>"
            maximum = 2
            delay = 1000
            backoff = 5
            dead_letters = "DLQ."
        "#;
        let config: Config = toml::from_str(text).unwrap();
        config.check().unwrap();
        let policies = config.engine_settings().policies;
        let rules = policies.redelivery_of("orders.new");
        assert_eq!((rules.maximum, rules.delay, rules.delay_max), (2, 1000, 3_600_000));
        assert_eq!(&*rules.target("orders.new"), "DLQ.orders.new");
        // What has no rules of its own has the defaults, and what is set apart has none.
        assert_eq!(policies.redelivery_of("bills").maximum, 6);
        assert_eq!(policies.redelivery_of("ActiveMQ.DLQ").maximum, 0);
        assert_eq!(policies.redelivery_of("DLQ.orders.new").maximum, 0);
        for (old, new, part) in [
            ("queue://orders.>", "topic://orders", "do not come back"),
            ("queue://orders.>", "orders", "queue://"),
            ("backoff = 5", "backoff = 0", "redelivery.backoff"),
            ("\"DLQ.\"", "\"\"", "redelivery.dead_letters"),
        ] {
            let wrong: Config = toml::from_str(&text.replace(old, new)).unwrap();
            let error = wrong.check().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
