//! Where the server listens, under which names it may be asked for there, and from which pages.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::str::FromStr;

use aral_contract::id::CallerName;
use aral_contract::limits::HOST_BYTES_MAX;
use serde::Deserialize;

use crate::tls::TlsOptions;

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerOptions {
    /// Where.
    pub address: SocketAddr,
    /// Names that a request may give as its host, besides those of the loopback for an address there.
    pub hosts: Vec<HostName>,
    /// Pages that may call from a browser.
    pub origins: Vec<Origin>,
    /// Who calls if they do not say; none: they have to say.
    pub anonymous: Option<CallerName>,
    /// Its TLS; none: what goes over its connections can be read and changed on its way.
    pub tls: Option<TlsOptions>,
    /// Whether it answers MCP at `/mcp` too.
    pub mcp: bool,
}

impl ListenerOptions {
    /// The authorities whose word on callers is believed here; none: callers are not asked for certificates.
    pub(crate) fn client_ca_file(&self) -> Option<&Path> {
        Some(self.tls.as_ref()?.clients.as_ref()?.ca_file.as_path())
    }
}

/// Why a text is no host or no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a name or an address alone.
    #[error("`{}` is not a host: write a name or an address without scheme, port or `*`", .0.escape_debug())]
    Host(String),
    /// Not what a browser sends.
    #[error("`{}` is not an origin: write it as a browser sends it, like `https://app.example.org` or `http://localhost:3000`; `*` is none", .0.escape_debug())]
    Origin(String),
}

/// A name or an address without a port, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct HostName(String);

impl HostName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let plain = match inner {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')),
        };
        if plain && !text.is_empty() && text.len() <= HOST_BYTES_MAX {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(NameError::Host(text.chars().take(HOST_BYTES_MAX).collect()))
        }
    }
}

impl TryFrom<String> for HostName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl TryFrom<String> for Origin {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An origin as browsers send it: scheme, host, and the port if it is not the scheme's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Origin(String);

impl Origin {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Origin {
    /// The same with the port that a browser leaves out.
    pub(crate) fn with_port(&self) -> String {
        let (scheme, authority) = self.0.split_once("://").unwrap_or_default();
        match split_port(authority) {
            Some((_, None)) if scheme == "http" => format!("{}:80", self.0),
            Some((_, None)) => format!("{}:443", self.0),
            _ => self.0.clone(),
        }
    }
}

impl FromStr for Origin {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = || NameError::Origin(text.chars().take(HOST_BYTES_MAX).collect());
        let (scheme, authority) = text.split_once("://").ok_or_else(wrong)?;
        let default_port = match scheme {
            "https" => "443",
            "http" => "80",
            _ => return Err(wrong()),
        };
        let (host, port) = split_port(authority).ok_or_else(wrong)?;
        let host: HostName = host.parse().map_err(|_: NameError| wrong())?;
        // A browser never sends what is implied, and never capitals: such a line would match nothing.
        let as_sent = host.as_str() == authority.get(..host.as_str().len()).unwrap_or_default();
        if !as_sent || port == Some(default_port) {
            return Err(wrong());
        }
        Ok(Self(text.to_owned()))
    }
}

/// Host and port of an authority; none if the port is none. What stands before the port may be anything.
pub(crate) fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    let (host, port) = match authority.rsplit_once(':') {
        // The last colon of an address in brackets is inside of them.
        Some((_, after)) if after.ends_with(']') => (authority, None),
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let numeric = |port: &str| port.parse::<u16>().is_ok() && port.bytes().all(|byte| byte.is_ascii_digit());
    port.is_none_or(numeric).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses_alone() {
        for good in ["localhost", "a.example", "127.0.0.1", "[::1]", "A.Example"] {
            assert!(good.parse::<HostName>().is_ok(), "{good}");
        }
        for bad in [
            "", "a:80", "http://a", "*", "*.a", "a/b", "a b", "u@a", "[::1", "::1", "é",
        ] {
            assert!(bad.parse::<HostName>().is_err(), "{bad}");
        }
        assert_eq!("A.Example".parse::<HostName>().unwrap().as_str(), "a.example");
    }

    #[test]
    fn origins_are_what_browsers_send() {
        for good in ["https://a.example", "http://localhost:3000", "http://[::1]:8080"] {
            assert!(good.parse::<Origin>().is_ok(), "{good}");
        }
        let with_port = |text: &str| text.parse::<Origin>().unwrap().with_port();
        assert_eq!(with_port("https://a.example"), "https://a.example:443");
        assert_eq!(with_port("http://[::1]"), "http://[::1]:80");
        assert_eq!(with_port("http://a:3000"), "http://a:3000");
        for bad in [
            "*",
            "null",
            "https://*",
            "https://a.example/",
            "https://a.example:443",
            "http://a:80",
            "https://A.example",
            "ftp://a",
            "a.example",
            "https://u@a",
            "https://a:+1",
            "https://a:99999",
        ] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
    }
}
