//! Settings of who is let in, and what they may do.

use std::path::PathBuf;

use serde::Deserialize;

use super::{Config, ConfigError, in_range};
use crate::security::access::{Access, Rule};
use crate::security::users::is_name;

/// See `default.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessConfig {
    /// Which destinations, perhaps with wildcards.
    pub name: String,
    /// Who may consume and browse.
    #[serde(default)]
    pub read: Vec<String>,
    /// Who may send.
    #[serde(default)]
    pub write: Vec<String>,
    /// Who may purge, delete and move.
    #[serde(default)]
    pub admin: Vec<String>,
}

/// See `default.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecurityConfig {
    /// The file of users; empty where nobody is asked who he is.
    pub users: PathBuf,
    /// Listen for other machines without users.
    pub open: bool,
    /// Show metrics to other machines.
    pub open_metrics: bool,
}

/// See `default.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// The broker's certificate and those that it is signed by, in PEM.
    pub certificate: PathBuf,
    /// The key of that certificate, in PEM.
    pub key: PathBuf,
    /// Those that certificates of clients are to be signed by, in PEM; empty where none is asked
    /// for.
    pub clients: PathBuf,
    /// A client without a certificate is not let in.
    pub require_client: bool,
}

impl SecurityConfig {
    /// Whether connections are asked who they are.
    #[must_use]
    pub fn has_users(&self) -> bool {
        !self.users.as_os_str().is_empty()
    }
}

impl Config {
    /// The rights of users.
    ///
    /// # Errors
    /// Where a rule is not understood, or two are for one pattern.
    pub fn rights(&self) -> Result<Access, ConfigError> {
        let rules = self.access.iter().map(|it| {
            let AccessConfig { name, read, write, admin } = it.clone();
            (name, Rule { read, write, admin })
        });
        Access::new(rules.collect()).map_err(ConfigError::Access)
    }

    /// Whether some listener is to speak TLS.
    ///
    /// # Errors
    /// Those of [`Config::listeners`].
    pub fn has_tls(&self) -> Result<bool, ConfigError> {
        Ok(self.listeners()?.iter().any(|listener| listener.tls))
    }

    pub(super) fn check_security(&self) -> Result<(), ConfigError> {
        self.rights()?;
        for rule in &self.access {
            let mut grantees = rule.read.iter().chain(&rule.write).chain(&rule.admin);
            if let Some(name) = grantees.find(|name| *name != "*" && !is_name(name)) {
                let (rule, name) = (rule.name.clone(), name.clone());
                return Err(ConfigError::Grantee { rule, name });
            }
        }
        let users = self.security.has_users();
        let must = "left out where security.users names no file: there is nobody to give rights to";
        in_range(users || self.access.is_empty(), "access", "given", must)?;
        for (listener, url) in self.listeners()?.iter().zip(&self.listen) {
            if !listener.is_local() && !users && !self.security.open {
                return Err(ConfigError::Open { url: url.clone() });
            }
        }
        // Users are no reason to show them: nobody logs in there.
        if let Some(address) = self.metrics_address()?
            && !address.ip().is_loopback()
            && !self.security.open_metrics
        {
            return Err(ConfigError::OpenMetrics { address });
        }
        let tls = &self.tls;
        let given = |path: &PathBuf| !path.as_os_str().is_empty();
        let complete = !self.has_tls()? || (given(&tls.certificate) && given(&tls.key));
        let must = "a file each, where a listener speaks TLS";
        in_range(complete, "tls.certificate or tls.key", "\"\"", must)?;
        let asked = !tls.require_client || given(&tls.clients);
        let must = "false where tls.clients names no file";
        in_range(asked, "tls.require_client", true, must)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        let config: Config = toml::from_str(text).expect(text);
        config.check().expect_err(text).to_string()
    }

    #[test]
    fn other_machines_are_served_only_with_users_or_when_told_so() {
        let beyond = "listen = [\"stomp://0.0.0.0:1\"]\n";
        assert!(problem(beyond).contains("security.open = true"));
        for more in ["[security]\nusers = \"u\"", "[security]\nopen = true"] {
            let config: Config = toml::from_str(&format!("{beyond}{more}")).unwrap();
            config.check().unwrap();
        }
    }

    #[test]
    fn metrics_are_shown_to_other_machines_only_when_told_so() {
        for address in ["0.0.0.0:9161", "[::]:9161", "192.0.2.1:9161"] {
            let beyond = format!("metrics = \"{address}\"\n");
            assert!(problem(&beyond).contains("security.open_metrics = true"));
            let others = "[security]\nopen = true\nusers = \"u\"";
            assert!(problem(&format!("{beyond}{others}")).contains(address));
            let told = format!("{beyond}[security]\nopen_metrics = true");
            toml::from_str::<Config>(&told).unwrap().check().unwrap();
        }
        for address in ["127.0.0.1:9161", "[::1]:9161"] {
            let here = format!("metrics = \"{address}\"");
            toml::from_str::<Config>(&here).unwrap().check().unwrap();
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let users = "[security]\nusers = \"u\"\n";
        for (text, part) in [
            ("access = [{ name = \"queue://a\" }]".to_owned(), "access is given"),
            (format!("access = [{{ name = \"a\" }}]\n{users}"), "queue://"),
            (
                format!("access = [{{ name = \"queue://a\", read = [\"a:b\"] }}]\n{users}"),
                "\"a:b\"",
            ),
            ("listen = [\"stomp+ssl://127.0.0.1\"]".to_owned(), "tls.certificate"),
            ("[tls]\nrequire_client = true".to_owned(), "tls.require_client"),
        ] {
            let problem = problem(&text);
            assert!(problem.contains(part), "{text}: {problem}");
        }
    }
}
