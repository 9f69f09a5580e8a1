//! Where limits are kept that several servers share, and how it is spoken to. It connects to nothing.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use aral_contract::SecretValue;
use serde::Deserialize;
use url::Url;

/// How long one request to the server may take, by default, in milliseconds.
pub const TIMEOUT_MS_DEFAULT: u64 = 250;
/// What the names of keys begin with, by default.
const PREFIX_DEFAULT: &str = "aral";
/// Longest prefix, in bytes. It stands in every key.
const PREFIX_BYTES_MAX: usize = 64;

/// The server that keeps the limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisOptions {
    /// Where it is.
    pub url: RedisUrl,
    /// The password; none: it asks for none.
    pub password: Option<SecretValue>,
    /// Certificates to trust instead of the system's, as PEM.
    pub ca_pem: Option<Vec<u8>>,
    /// What the names of keys begin with. Servers that have the same one share their limits.
    pub prefix: Prefix,
    /// How long one request to it may take, in milliseconds.
    pub timeout_ms: u64,
    /// What holds while it does not answer.
    pub when_down: WhenDown,
}

impl RedisOptions {
    /// Whether they are the same but for what the password and the certificates are. Where those were read is not known here, and may be
    /// another file or variable than before.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let without = |options: &Self| Self {
            password: options.password.as_ref().map(|_| SecretValue::new(Vec::new())),
            ca_pem: options.ca_pem.as_ref().map(|_| Vec::new()),
            ..options.clone()
        };
        without(self) == without(other)
    }
}

/// What holds while the server does not answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenDown {
    /// Nobody gets in.
    #[default]
    Refuse,
    /// Each process keeps the limits for itself.
    Local,
}

impl WhenDown {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Local => "local",
        }
    }
}

/// Why a text is no place of limits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedisNameError {
    /// Not an address that may be spoken to.
    #[error("this is no address of a Redis: {0}")]
    Url(&'static str),
    /// Not a prefix.
    #[error("`{}` is no prefix: 1 to {PREFIX_BYTES_MAX} of A-Z a-z 0-9 . _ - {{ }} :", .0.escape_debug())]
    Prefix(String),
}

/// `rediss://HOST:PORT/DATABASE`, or `redis://` on the loopback; with a user if it needs one, and never with a password.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct RedisUrl(Url);

impl RedisUrl {
    pub(super) fn url(&self) -> Url {
        self.0.clone()
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl FromStr for RedisUrl {
    type Err = RedisNameError;

    fn from_str(text: &str) -> Result<Self, RedisNameError> {
        let url = Url::parse(text).map_err(|_| RedisNameError::Url("it is no URL"))?;
        if url.password().is_some() {
            return Err(RedisNameError::Url("its password belongs into `password_file`"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(RedisNameError::Url("it has a query or fragment"));
        }
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or(RedisNameError::Url("it has no host"))?;
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let local = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        let database = url.path().trim_start_matches('/');
        if !database.is_empty() && database.parse::<u16>().is_err() {
            return Err(RedisNameError::Url("its path is not the number of a database"));
        }
        match url.scheme() {
            "rediss" => Ok(Self(url)),
            "redis" if local => Ok(Self(url)),
            "redis" => Err(RedisNameError::Url(
                "without TLS whoever is on the way reads and changes the limits: write rediss://",
            )),
            _ => Err(RedisNameError::Url("its scheme is not rediss")),
        }
    }
}

/// What the names of keys begin with.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Prefix(String);

impl Prefix {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Prefix {
    fn default() -> Self {
        Self(PREFIX_DEFAULT.to_owned())
    }
}

impl FromStr for Prefix {
    type Err = RedisNameError;

    fn from_str(text: &str) -> Result<Self, RedisNameError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'{' | b'}' | b':');
        if (1..=PREFIX_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(RedisNameError::Prefix(text.chars().take(PREFIX_BYTES_MAX).collect()))
        }
    }
}

impl TryFrom<String> for RedisUrl {
    type Error = RedisNameError;
    fn try_from(text: String) -> Result<Self, RedisNameError> {
        text.parse()
    }
}

impl TryFrom<String> for Prefix {
    type Error = RedisNameError;
    fn try_from(text: String) -> Result<Self, RedisNameError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_goes_no_further_than_the_loopback() {
        for good in [
            "redis://127.0.0.1:6379",
            "redis://[::1]:6379/3",
            "redis://localhost",
            "rediss://limits.example.org:6380",
            "rediss://aral@limits.example.org/1",
        ] {
            assert!(good.parse::<RedisUrl>().is_ok(), "{good}");
        }
        for bad in [
            "redis://10.0.0.1:6379",
            "redis://localhost.example.org",
            "rediss://aral:secret@limits.example.org",
            "rediss://limits.example.org/#insecure",
            "rediss://limits.example.org/?protocol=resp3",
            "rediss://limits.example.org/a",
            "unix:///run/redis.sock",
            "https://limits.example.org",
            "rediss://",
            "limits.example.org",
        ] {
            let refused = bad.parse::<RedisUrl>().unwrap_err().to_string();
            assert!(!refused.contains("secret"), "{refused}");
        }
    }

    #[test]
    fn prefixes_are_short_and_plain() {
        for good in ["aral", "{aral}:blue", &"a".repeat(PREFIX_BYTES_MAX)] {
            assert!(good.parse::<Prefix>().is_ok(), "{good}");
        }
        for bad in ["", "a b", "é", &"a".repeat(PREFIX_BYTES_MAX + 1)] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
    }
}
