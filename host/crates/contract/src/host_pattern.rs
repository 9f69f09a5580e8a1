//! Where a request may go: `https://api.example.com`, `https://*.example.org:8443`, `http://127.0.0.1:8080` or `*`.
//! Matching is by whole labels, scheme and port; it never looks at a suffix of the text.

use std::cmp::Ordering;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::HOST_BYTES_MAX;

/// How a request travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// Clear text.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// 80 or 443.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// A checked host: a lower-case ASCII name of letters, digits, hyphens and dots, or an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A name, without a trailing dot.
    Name(String),
    /// An address literal.
    Address(IpAddr),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// A checked place to send a request to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// How.
    pub scheme: Scheme,
    /// Where.
    pub host: Host,
    /// On which port.
    pub port: u16,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.host)?;
        if self.port == self.scheme.default_port() {
            Ok(())
        } else {
            write!(f, ":{}", self.port)
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Pattern {
    Any,
    Exact(Origin),
    /// Any name with at least one more label in front of `parent`.
    Below {
        scheme: Scheme,
        parent: String,
        port: u16,
    },
}

/// One entry of a `hosts` list. `*` covers everything; `https://*.example.org` covers every name below `example.org`,
/// at any depth, but not `example.org` itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPattern(Pattern);

/// A text that should be an origin, without user information: that may be a password, and ends with the last `@`.
pub fn without_user(text: &str) -> String {
    let Some((before, host)) = text.rsplit_once('@') else {
        return text.to_owned();
    };
    match before.split_once("://") {
        Some((scheme, _user)) => format!("{scheme}://…@{host}"),
        None => format!("…@{host}"),
    }
}

/// Why a text is not a host pattern or an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a host: {reason}; write it like `https://api.example.com` or `https://*.example.org:8443`", .text.escape_debug())]
pub struct HostError {
    /// What was given, without user information.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl HostError {
    fn new(text: &str, reason: &'static str) -> Self {
        Self {
            text: without_user(text).chars().take(HOST_BYTES_MAX).collect(),
            reason,
        }
    }
}

fn parse_port(text: &str) -> Result<u16, &'static str> {
    let plain = !text.is_empty() && text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = if plain && !text.starts_with('0') {
        text.parse().ok()
    } else {
        None
    };
    port.ok_or("the port is not a number from 1 to 65535")
}

/// Checks a name label by label. Everything that a URL parser might read in a second way is refused here.
fn parse_name(text: &str) -> Result<String, &'static str> {
    if !text.is_ascii() {
        return Err("the name is not ASCII: write its xn-- form");
    }
    if text.len() > HOST_BYTES_MAX {
        return Err("the name is longer than 253 bytes");
    }
    let name = text.to_ascii_lowercase();
    let label_ok = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !name.split('.').all(label_ok) {
        return Err("a label is empty, over 63 bytes, or has a character outside a-z 0-9 - _");
    }
    // `127.1`, `0x7f000001` and `2130706433` are addresses to some resolvers: a last label that is a number is never a name.
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") {
        return Err("an address must be written as four decimal numbers or as [IPv6]");
    }
    Ok(name)
}

/// Splits `host[:port]` and checks both.
fn parse_host_port(text: &str, default_port: u16) -> Result<(Host, u16), &'static str> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, after) = rest.split_once(']').ok_or("a bracket is not closed")?;
        let address: Ipv6Addr = address
            .parse()
            .map_err(|_| "the text in brackets is not an IPv6 address")?;
        let port = match after.strip_prefix(':') {
            Some(port) => parse_port(port)?,
            None if after.is_empty() => default_port,
            None => return Err("text follows the closing bracket"),
        };
        return Ok((Host::Address(address.into()), port));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, parse_port(port)?),
        None => (text, default_port),
    };
    match host.parse::<Ipv4Addr>() {
        Ok(address) => Ok((Host::Address(address.into()), port)),
        Err(_) => Ok((Host::Name(parse_name(host)?), port)),
    }
}

fn split_scheme(text: &str) -> Result<(Scheme, &str), &'static str> {
    let (scheme, rest) = text.split_once("://").ok_or("the scheme is missing")?;
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return Err("the scheme is neither http nor https"),
    };
    if rest.contains('@') {
        return Err("user information is not allowed");
    }
    if rest.contains(['/', '?', '#', '\\']) {
        return Err("a path, query or fragment is not allowed");
    }
    Ok((scheme, rest))
}

impl Origin {
    /// Checks what a guest wants to reach: its scheme (`http` or `https`) and its authority (`host[:port]`).
    pub fn parse(scheme: &str, authority: &str) -> Result<Self, HostError> {
        let text = format!("{scheme}://{authority}");
        text.parse()
    }
}

impl FromStr for Origin {
    type Err = HostError;
    fn from_str(text: &str) -> Result<Self, HostError> {
        let parse = || {
            let (scheme, rest) = split_scheme(text)?;
            let (host, port) = parse_host_port(rest, scheme.default_port())?;
            Ok(Self { scheme, host, port })
        };
        parse().map_err(|reason| HostError::new(text, reason))
    }
}

impl FromStr for HostPattern {
    type Err = HostError;
    fn from_str(text: &str) -> Result<Self, HostError> {
        if text == "*" {
            return Ok(Self(Pattern::Any));
        }
        let parse = || {
            let (scheme, rest) = split_scheme(text)?;
            let Some(parent) = rest.strip_prefix("*.") else {
                let (host, port) = parse_host_port(rest, scheme.default_port())?;
                return Ok(Self(Pattern::Exact(Origin { scheme, host, port })));
            };
            match parse_host_port(parent, scheme.default_port())? {
                (Host::Name(parent), port) => Ok(Self(Pattern::Below { scheme, parent, port })),
                (Host::Address(_), _) => Err("an address has no names below it"),
            }
        };
        parse().map_err(|reason| HostError::new(text, reason))
    }
}

fn is_below(name: &str, parent: &str) -> bool {
    name.strip_suffix(parent)
        .is_some_and(|front| front.len() > 1 && front.ends_with('.'))
}

/// The bytes of a name from its end on. A dot is less than every other byte: else `-`, which is less than a dot, would stand between
/// a name and those below it.
fn from_the_end(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().rev().map(|byte| if byte == b'.' { 0 } else { byte })
}

/// How one gets there; an address is part of that.
type Way = (Scheme, u16, Option<IpAddr>);

impl HostPattern {
    /// Whether this is `*`.
    pub fn is_any(&self) -> bool {
        self.0 == Pattern::Any
    }

    /// The one host that it stands for; none: it stands for several.
    pub fn host(&self) -> Option<&Host> {
        match &self.0 {
            Pattern::Exact(origin) => Some(&origin.host),
            Pattern::Any | Pattern::Below { .. } => None,
        }
    }

    /// Whether a request to `origin` is covered.
    pub fn covers(&self, origin: &Origin) -> bool {
        match &self.0 {
            Pattern::Any => true,
            Pattern::Exact(exact) => exact == origin,
            Pattern::Below { scheme, parent, port } => {
                *scheme == origin.scheme
                    && *port == origin.port
                    && matches!(&origin.host, Host::Name(name) if is_below(name, parent))
            }
        }
    }

    /// Whether everything that `other` covers is covered by this one too.
    pub fn includes(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Pattern::Any, _) => true,
            (_, Pattern::Any) => false,
            (_, Pattern::Exact(origin)) => self.covers(origin),
            (Pattern::Exact(_), Pattern::Below { .. }) => false,
            (
                Pattern::Below { scheme, parent, port },
                Pattern::Below {
                    scheme: scheme_2,
                    parent: parent_2,
                    port: port_2,
                },
            ) => scheme == scheme_2 && port == port_2 && (parent == parent_2 || is_below(parent_2, parent)),
        }
    }

    /// An order in which what a pattern includes stands right behind it, and nothing else in between. Equal only to itself.
    pub fn tree_cmp(&self, other: &Self) -> Ordering {
        match (self.place(), other.place()) {
            (Some((way, name, is_below)), Some((way_2, name_2, is_below_2))) => way
                .cmp(&way_2)
                .then_with(|| from_the_end(name).cmp(from_the_end(name_2)))
                .then(is_below.cmp(&is_below_2)),
            (one, two) => one.is_some().cmp(&two.is_some()),
        }
    }

    /// What comes first where patterns are put in order: the way there, with an address, then the name, and whether it is only what
    /// lies below that. None: everything.
    fn place(&self) -> Option<(Way, &str, bool)> {
        match &self.0 {
            Pattern::Any => None,
            Pattern::Exact(Origin { scheme, host, port }) => Some(match host {
                Host::Name(name) => ((*scheme, *port, None), name.as_str(), false),
                Host::Address(address) => ((*scheme, *port, Some(*address)), "", false),
            }),
            Pattern::Below { scheme, parent, port } => Some(((*scheme, *port, None), parent.as_str(), true)),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Pattern::Any => f.write_str("*"),
            Pattern::Exact(origin) => origin.fmt(f),
            Pattern::Below { scheme, parent, port } => {
                write!(f, "{}://*.{parent}", scheme.as_str())?;
                if *port == scheme.default_port() {
                    Ok(())
                } else {
                    write!(f, ":{port}")
                }
            }
        }
    }
}

impl TryFrom<String> for HostPattern {
    type Error = HostError;
    fn try_from(text: String) -> Result<Self, HostError> {
        text.parse()
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> String {
        pattern.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(pattern: &str, origin: &str) -> bool {
        pattern.parse::<HostPattern>().unwrap().covers(&origin.parse().unwrap())
    }

    #[test]
    fn covers_by_whole_labels_scheme_and_port() {
        for (pattern, origin, expected) in [
            ("https://example.com", "https://example.com", true),
            ("https://example.com", "https://EXAMPLE.com:443", true),
            ("https://example.com", "https://evil-example.com", false),
            ("https://example.com", "https://a.example.com", false),
            ("https://example.com", "http://example.com:443", false),
            ("https://example.com", "https://example.com:8443", false),
            ("https://*.example.org:8443", "https://a.b.example.org:8443", true),
            ("https://*.example.org:8443", "https://a.example.org", false),
            ("https://*.example.org", "https://example.org", false),
            ("https://*.example.org", "https://evilexample.org", false),
            ("https://*.example.org", "https://example.org.evil.com", false),
            ("http://127.0.0.1:80", "http://127.0.0.1", true),
            ("http://[::1]:80", "http://[0:0::1]", true),
            ("http://[::1]", "http://[::ffff:127.0.0.1]", false),
            ("*", "http://anything.at.all:1", true),
        ] {
            assert_eq!(covers(pattern, origin), expected, "{pattern} covers {origin}");
        }
    }

    #[test]
    fn refuses_what_can_be_read_in_two_ways() {
        for bad in [
            "",
            "example.com",
            "ftp://example.com",
            "HTTPS://example.com",
            "https://",
            "https://user@example.com",
            "https://user:pw@example.com",
            "https://example.com@evil.com",
            "https://example.com/",
            "https://example.com/path",
            "https://example.com?x",
            "https://example.com#x",
            "https://example.com\\@evil.com",
            "https://exämple.com",
            "https://example\u{3002}com",
            "https://ⓔxample.com",
            "https://example.com.",
            "https://.example.com",
            "https://a..b",
            "https://-a.com",
            "https://a b.com",
            "https://a%2eb.com",
            "https://example.com:0",
            "https://example.com:99999",
            "https://example.com:080",
            "https://example.com:",
            "https://*",
            "https://a.*.com",
            "https://**.com",
            "https://*.127.0.0.1",
            "http://127.1",
            "http://2130706433",
            "http://0x7f000001",
            "http://0177.0.0.1",
            "http://[::1",
            "http://[::1]x",
            "http://[fe80::1%eth0]",
            "http://1.2.3.4.5",
            "https://a\tb.com",
            "https://a\0.com",
        ] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad:?} was taken");
        }
        assert!(
            format!("https://{}.com", "a.".repeat(130))
                .parse::<HostPattern>()
                .is_err()
        );
    }

    #[test]
    fn what_stands_before_the_host_is_not_repeated() {
        let long = format!("https://user:{}@a.example", "hunter2".repeat(100));
        for (bad, shown) in [
            ("https://user:hunter2@a.example", "https://…@a.example"),
            ("https://user:hunter2@hunter2/@a.example", "https://…@a.example"),
            ("https://hunter2://hunter2@a.example", "https://…@a.example"),
            ("user:hunter2@a.example", "…@a.example"),
            (&long, "https://…@a.example"),
            ("https://a.example/x", "https://a.example/x"),
            ("a.example", "a.example"),
        ] {
            assert_eq!(bad.parse::<Origin>().unwrap_err().text, shown);
            assert_eq!(bad.parse::<HostPattern>().unwrap_err().text, shown);
        }
    }

    #[test]
    fn a_pattern_includes_itself_and_what_is_narrower() {
        for (wide, narrow, includes) in [
            ("*", "https://a.com", true),
            ("https://*.a.com", "https://*.a.com", true),
            ("https://*.a.com", "https://x.a.com", true),
            ("https://*.a.com", "https://*.b.a.com", true),
            ("https://*.a.com", "https://*.a.com:1", false),
            ("https://*.a.com", "https://a.com", false),
            ("https://*.a.com", "https://*.ba.com", false),
        ] {
            let (left, right): (HostPattern, HostPattern) = (wide.parse().unwrap(), narrow.parse().unwrap());
            assert_eq!(left.includes(&right), includes, "{wide} and {narrow}");
            assert_eq!(right.includes(&left), left == right, "{narrow} and {wide}");
        }
    }

    #[test]
    fn in_the_order_of_the_tree_what_a_pattern_includes_stands_right_behind_it() {
        let mut patterns: Vec<HostPattern> = [
            "https://a-b.org",
            "https://*.x.a.org",
            "https://a.org:1",
            "http://a.org",
            "https://127.0.0.1",
            "https://a.org",
            "https://y-x.a.org",
            "*",
            "https://*.org",
            "https://ba.org",
            "https://y.x.a.org",
            "https://*.a.org",
            "https://[::1]",
            "https://x.a.org",
            "http://127.0.0.1",
            "https://*.a.org:1",
            "https://b.org",
        ]
        .map(|text| text.parse::<HostPattern>().unwrap())
        .to_vec();
        patterns.sort_by(HostPattern::tree_cmp);
        for (place, one) in patterns.iter().enumerate() {
            let behind = &patterns[place..];
            let included = behind.partition_point(|other| one.includes(other));
            let all = patterns.iter().filter(|other| one.includes(other)).count();
            assert_eq!(included, all, "{one} in {patterns:?}");
            for other in &patterns {
                assert_eq!(
                    one.tree_cmp(other) == Ordering::Equal,
                    one == other,
                    "{one} and {other}"
                );
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics_and_printing_round_trips(text in ".{0,60}") {
            if let Ok(pattern) = text.parse::<HostPattern>() {
                proptest::prop_assert_eq!(pattern.to_string().parse::<HostPattern>().unwrap(), pattern);
            }
        }
    }
}
