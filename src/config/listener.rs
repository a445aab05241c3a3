//! Where to listen, and what is spoken there.

use std::net::IpAddr;

use url::Url;

use super::ConfigError;

/// A wire protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wire {
    /// STOMP 1.0, 1.1 and 1.2.
    Stomp,
    /// OpenWire 1 to 12, the protocol of ActiveMQ's own clients.
    OpenWire,
}

/// Where to listen, and in which wire protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// What is spoken.
    pub wire: Wire,
    /// Through TLS.
    pub tls: bool,
    /// Host name or address.
    pub host: String,
    /// Port; 0 lets the system choose.
    pub port: u16,
}

/// Each scheme: what is spoken, whether through TLS, and the port where none is given.
const SCHEMES: [(&str, Wire, bool, u16); 5] = [
    ("stomp", Wire::Stomp, false, 61613),
    ("stomp+ssl", Wire::Stomp, true, 61612),
    ("tcp", Wire::OpenWire, false, 61616),
    ("ssl", Wire::OpenWire, true, 61617),
    ("openwire", Wire::OpenWire, false, 61616),
];

impl Listener {
    /// From a URL like `stomp://127.0.0.1:61613`.
    pub(super) fn parse(text: &str) -> Result<Self, ConfigError> {
        let wrong = |reason: String| ConfigError::Listen { url: text.to_owned(), reason };
        let url = Url::parse(text).map_err(|error| {
            wrong(format!(
                "it is no URL ({error}); expected something like stomp://127.0.0.1:61613"
            ))
        })?;
        let known = SCHEMES.iter().find(|(scheme, ..)| *scheme == url.scheme());
        let (_, wire, tls, port) = known.ok_or_else(|| {
            let schemes = SCHEMES.map(|(scheme, ..)| scheme).join(", ");
            let scheme = url.scheme();
            wrong(format!("the scheme {scheme} is not served by this version; it serves {schemes}"))
        })?;
        let host = url.host_str().ok_or_else(|| wrong("it names no host".to_owned()))?;
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("it must end after the port".to_owned()));
        }
        // An IPv6 address stands in brackets in a URL, and without them elsewhere.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { wire: *wire, tls: *tls, host, port: url.port().unwrap_or(*port) })
    }

    /// The scheme of its URL.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        let is_it =
            |(_, wire, tls, _): &&(_, Wire, bool, _)| (*wire, *tls) == (self.wire, self.tls);
        SCHEMES.iter().find(is_it).expect("parsed from one").0
    }

    /// Whether only this machine can reach it. A name is looked up when it is listened on; only
    /// `localhost` is known here.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => self.host == "localhost",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_understood_or_refused_with_a_reason() {
        let good = |url: &str, host: &str, port, tls| {
            let found = Listener::parse(url).unwrap();
            assert_eq!((found.host.as_str(), found.port, found.tls), (host, port, tls), "{url}");
            assert!(url.starts_with(&format!("{}://", found.scheme())));
        };
        good("stomp://127.0.0.1:0", "127.0.0.1", 0, false);
        good("stomp://localhost", "localhost", 61613, false);
        good("stomp://[::1]:7", "::1", 7, false);
        good("stomp+ssl://h", "h", 61612, true);
        good("tcp://h", "h", 61616, false);
        good("ssl://h", "h", 61617, true);
        assert_eq!(Listener::parse("openwire://h").unwrap().scheme(), "tcp");
        for (url, part) in [
            ("http://127.0.0.1:61616", "http is not served"),
            ("127.0.0.1:61613", "no URL"),
            ("stomp://h:1/path", "end after the port"),
        ] {
            let error = Listener::parse(url).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn only_addresses_of_this_machine_alone_are_local() {
        let local = |url: &str| Listener::parse(url).unwrap().is_local();
        assert!(
            local("stomp://127.0.0.1:1") && local("stomp://localhost") && local("stomp://[::1]")
        );
        assert!(!local("stomp://0.0.0.0:1") && !local("stomp://[::]") && !local("stomp://h"));
    }
}
