//! Who is at the other end when a proxy is between: what `Forwarded` (RFC 7239) or `X-Forwarded-For` says, if a proxy that
//! is trusted says so, and never else.
//!
//! Each proxy appends whom it saw. Read from the right, an entry is as good as whoever wrote it: it is believed as long as
//! the one before it is an address of a trusted proxy. The first address that is none is the caller; whatever stands left of
//! it the caller may have made up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use axum::extract::Request;
use http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;
use serde::Deserialize;

use crate::door::{Door, Peer};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// How much of a mapped address of IPv6 says that it is one of IPv4, in bits.
const MAPPED_BITS: u8 = 96;

/// Where callers are, of IPv4: all that is no multicast and not reserved.
const EVERYBODY_IPV4: [IpNet; 3] = [ipv4([0, 0, 0], 1), ipv4([128, 0, 0], 2), ipv4([192, 0, 0], 3)];

/// The same of IPv6: all that is global (RFC 4291, section 2.4).
const EVERYBODY_IPV6: IpNet = ipv6([0x2000, 0], 3);

/// What no caller on the Internet has (the registries of RFC 6890; 6to4 is over): a list that leaves it out has everybody all the same.
const NOT_GLOBAL: [IpNet; 17] = [
    ipv4([0, 0, 0], 8),
    ipv4([10, 0, 0], 8),
    ipv4([100, 64, 0], 10),
    ipv4([127, 0, 0], 8),
    ipv4([169, 254, 0], 16),
    ipv4([172, 16, 0], 12),
    ipv4([192, 0, 0], 24),
    ipv4([192, 0, 2], 24),
    ipv4([192, 88, 99], 24),
    ipv4([192, 168, 0], 16),
    ipv4([198, 18, 0], 15),
    ipv4([198, 51, 100], 24),
    ipv4([203, 0, 113], 24),
    ipv6([0x2001, 0], 23),
    ipv6([0x2001, 0xdb8], 32),
    ipv6([0x2002, 0], 16),
    ipv6([0x3fff, 0], 20),
];

const fn ipv4([first, second, third]: [u8; 3], prefix: u8) -> IpNet {
    IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(first, second, third, 0)), prefix)
}

const fn ipv6([first, second]: [u16; 2], prefix: u8) -> IpNet {
    IpNet::new_assert(IpAddr::V6(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0)), prefix)
}

/// The proxies that are trusted: networks, such as `10.0.0.0/8`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Listed")]
pub struct Proxies {
    networks: Vec<IpNet>,
    /// What they write; none: nobody says which of the fields it is.
    field: Option<ForwardedField>,
}

/// A field in which proxies say for whom they ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedField {
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// `X-Forwarded-For`.
    XForwardedFor,
}

/// Why networks are not taken for those of proxies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxiesError {
    /// Whoever calls would be a proxy.
    #[error(
        "with `{0}` everybody is a trusted proxy, and each caller says itself where it comes from: write the networks of your \
         proxies alone, trusted_proxies = [\"10.0.0.0/8\"]"
    )]
    Everybody(String),
    /// A line that would trust nobody.
    #[error(
        "`{network}` is a network of IPv4 in the form of IPv6, and addresses of IPv4 are compared as such: write \
         trusted_proxies = [\"{address}/{prefix}\"]"
    )]
    Mapped {
        /// What was written.
        network: IpNet,
        /// The address in it.
        address: Ipv4Addr,
        /// How many bits of that count.
        prefix: u8,
    },
}

impl Proxies {
    /// As they are written.
    pub fn networks(&self) -> &[IpNet] {
        &self.networks
    }
}

/// The networks as they are written.
#[derive(Deserialize)]
#[serde(transparent)]
struct Listed(#[serde(deserialize_with = "aral_contract::address::networks")] Vec<IpNet>);

impl TryFrom<Listed> for Proxies {
    type Error = ProxiesError;

    fn try_from(Listed(networks): Listed) -> Result<Self, ProxiesError> {
        networks.try_into()
    }
}

impl TryFrom<Vec<IpNet>> for Proxies {
    type Error = ProxiesError;

    fn try_from(networks: Vec<IpNet>) -> Result<Self, ProxiesError> {
        networks.iter().try_for_each(check)?;
        if let Some(lines) = everybody(&networks) {
            let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
            return Err(ProxiesError::Everybody(lines.join("`, `")));
        }
        Ok(Self { networks, field: None })
    }
}

fn check(network: &IpNet) -> Result<(), ProxiesError> {
    let mapped = match network {
        IpNet::V4(_) => None,
        IpNet::V6(network) => network.addr().to_ipv4_mapped(),
    };
    let Some(address) = mapped else { return Ok(()) };
    match network.prefix_len().saturating_sub(MAPPED_BITS) {
        0 => Err(ProxiesError::Everybody(network.to_string())),
        prefix => Err(ProxiesError::Mapped {
            network: *network,
            address,
            prefix,
        }),
    }
}

/// The lines with which everybody is a proxy; none: there are none. One with which that is so alone stands alone.
fn everybody(networks: &[IpNet]) -> Option<&[IpNet]> {
    let each = networks.iter().map(std::slice::from_ref);
    each.chain([networks]).find(|lines| have_everybody(lines))
}

/// Whether these have every address of callers, in however many lines.
fn have_everybody(networks: &[IpNet]) -> bool {
    let together = IpNet::aggregate(&[networks, &NOT_GLOBAL].concat());
    let have = |part: &IpNet| together.iter().any(|network| network.contains(part));
    EVERYBODY_IPV4.iter().all(have) || have(&EVERYBODY_IPV6)
}

impl Proxies {
    /// The same ones, which write this field; none: nobody says which one it is.
    #[must_use]
    pub fn writing(self, field: Option<ForwardedField>) -> Self {
        Self { field, ..self }
    }

    /// Whether this is one of them. An address of IPv4 must be written as such.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// Who asks, given who connected.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.trusts(peer) {
            return peer;
        }
        let forwarded = || self.walk(peer, headers, &header::FORWARDED, forwarded_for);
        let listed = || self.walk(peer, headers, &X_FORWARDED_FOR, address_of);
        let client = match self.field {
            // The other one may be as the caller wrote it.
            Some(ForwardedField::Forwarded) => forwarded(),
            Some(ForwardedField::XForwardedFor) => listed(),
            None => match (forwarded(), listed()) {
                // A proxy writes one of them and hands the other one on: which is which cannot be told.
                (Some(one), Some(other)) => (one == other).then_some(one),
                (one, other) => one.or(other),
            },
        };
        client.unwrap_or(peer)
    }

    /// None: there is no such field.
    fn walk(
        &self,
        peer: IpAddr,
        headers: &HeaderMap,
        name: &HeaderName,
        read: fn(&str) -> Option<IpAddr>,
    ) -> Option<IpAddr> {
        let mut lines = headers.get_all(name).iter().rev().peekable();
        lines.peek()?;
        let mut client = peer;
        for line in lines {
            let Ok(line) = line.to_str() else { break };
            for entry in line.rsplit(',') {
                // A proxy that does not say whom it saw is the last one that is known.
                let Some(address) = read(entry.trim()) else {
                    return Some(client);
                };
                client = address.to_canonical();
                if !self.trusts(client) {
                    return Some(client);
                }
            }
        }
        Some(client)
    }
}

/// Who asks. From here on that is the peer of the request.
pub(crate) fn forwarded(door: &Door, peer: Peer, request: &mut Request) -> Peer {
    let client = door.shared.proxies.client(peer.address(), request.headers());
    if client == peer.address() {
        return peer;
    }
    let client = Peer(SocketAddr::new(client, 0));
    request.extensions_mut().insert(client);
    client
}

/// `for=` of one element of `Forwarded`. A comma within quotes makes two parts that are no elements, which is a proxy that
/// does not say.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut found = None;
    for pair in element.split(';') {
        let (name, value) = pair.split_once('=')?;
        if name.trim().eq_ignore_ascii_case("for") {
            if found.is_some() {
                return None;
            }
            found = Some(value.trim());
        }
    }
    let value = found?;
    let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    address_of(quoted.unwrap_or(value))
}

/// An address, with or without a port; of IPv6 with or without brackets.
fn address_of(text: &str) -> Option<IpAddr> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = text.parse().ok();
    let address = address.or_else(|| text.parse().ok().map(|socket: SocketAddr| socket.ip()));
    address.or_else(|| bracketed?.parse().ok().map(IpAddr::V6))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, fields: &[(&'static str, &str)]) -> String {
        through(None, peer, fields)
    }

    /// The same through proxies that write this field.
    fn through(field: Option<ForwardedField>, peer: &str, fields: &[(&'static str, &str)]) -> String {
        let networks = ["10.0.0.0/8", "fd00::/8"];
        let networks: Vec<IpNet> = networks.iter().map(|network| network.parse().unwrap()).collect();
        let proxies = Proxies::try_from(networks).unwrap().writing(field);
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        proxies.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn networks_of_everybody_and_of_nobody_are_no_proxies() {
        let taken = |networks: &str| {
            let networks: Vec<IpNet> = networks.split(' ').map(|network| network.parse().unwrap()).collect();
            Proxies::try_from(networks).map_err(|error| error.to_string())
        };
        for good in [
            "10.0.0.0/8",
            "0.0.0.0/1",
            "0.0.0.0/1 128.0.0.0/2",
            "1.0.0.0/8 2.0.0.0/7 128.0.0.0/2 192.0.0.0/3",
            "10.0.0.0/8 100.64.0.0/10 172.16.0.0/12 192.168.0.0/16",
            "192.0.2.1/32",
            "fd00::/8",
            "2000::/4",
            "::1/128",
        ] {
            assert!(taken(good).is_ok(), "{good}");
        }
        for everybody in [
            "0.0.0.0/0",
            "10.0.0.0/0",
            "::/0",
            "::ffff:0.0.0.0/96",
            "::ffff:10.0.0.0/90",
            "2000::/3",
            "0.0.0.0/1 128.0.0.0/1",
            "0.0.0.0/1 128.0.0.0/2 192.0.0.0/3",
            "1.0.0.0/8 2.0.0.0/7 4.0.0.0/6 8.0.0.0/7 11.0.0.0/8 12.0.0.0/6 16.0.0.0/4 32.0.0.0/3 64.0.0.0/3 96.0.0.0/4 \
             112.0.0.0/5 120.0.0.0/6 124.0.0.0/7 126.0.0.0/8 128.0.0.0/2 192.0.0.0/3",
            "0.0.0.0/1 128.0.0.0/2 192.0.0.0/6 196.0.0.0/7 198.0.0.0/12 198.16.0.0/15 198.20.0.0/14 \
             198.24.0.0/13 198.32.0.0/11 198.64.0.0/10 198.128.0.0/9 199.0.0.0/8 200.0.0.0/5 208.0.0.0/4",
            "2000::/16 2001::/21 2001:800::/22 2001:c00::/24 2001:d00::/25 2001:d80::/27 2001:da0::/28 \
             2001:db0::/29 2001:db9::/32 2001:dba::/31 2001:dbc::/30 2001:dc0::/26 2001:e00::/23 \
             2001:1000::/20 2001:2000::/19 2001:4000::/18 2001:8000::/17 2002::/15 2004::/14 2008::/13 \
             2010::/12 2020::/11 2040::/10 2080::/9 2100::/8 2200::/7 2400::/6 2800::/5 3000::/4",
            "::/1",
            "2000::/4 3000::/5 3800::/5",
            "2000::/4 10.0.0.0/8 3000::/4",
        ] {
            let said = taken(everybody).unwrap_err();
            let lines = everybody.replace(' ', "`, `");
            assert!(said.contains(&format!("with `{lines}` everybody")), "{said}");
        }
        let said = taken("10.0.0.0/8 ::/0").unwrap_err();
        assert!(said.contains("with `::/0` everybody"), "{said}");
        let said = taken("::ffff:10.0.0.0/104").unwrap_err();
        assert!(said.contains("`::ffff:10.0.0.0/104`"), "{said}");
        assert!(said.ends_with("write trusted_proxies = [\"10.0.0.0/8\"]"), "{said}");
    }

    #[test]
    fn whoever_is_no_trusted_proxy_is_not_believed() {
        for field in ["forwarded", "x-forwarded-for"] {
            assert_eq!(client("192.0.2.1", &[(field, "203.0.113.1")]), "192.0.2.1");
        }
        assert_eq!(client("192.0.2.1", &[("forwarded", "for=203.0.113.1")]), "192.0.2.1");
        let none = Proxies::default();
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", "203.0.113.1".parse().unwrap());
        assert_eq!(
            none.client("10.0.0.1".parse().unwrap(), &headers).to_string(),
            "10.0.0.1"
        );
    }

    #[test]
    fn the_first_from_the_right_that_is_no_proxy_asks() {
        let list = |value| client("10.0.0.1", &[("x-forwarded-for", value)]);
        assert_eq!(list("203.0.113.1"), "203.0.113.1");
        assert_eq!(
            list("198.51.100.7, 203.0.113.1"),
            "203.0.113.1",
            "the left one is made up"
        );
        assert_eq!(list("198.51.100.7, 203.0.113.1, 10.9.9.9"), "203.0.113.1");
        assert_eq!(list("10.1.1.1, 10.2.2.2"), "10.1.1.1", "a proxy asks itself");
        assert_eq!(list("203.0.113.1:4711"), "203.0.113.1");
        assert_eq!(list("2001:db8::1"), "2001:db8::1");
        assert_eq!(list("[2001:db8::1]:4711"), "2001:db8::1");
        assert_eq!(list("::ffff:203.0.113.1"), "203.0.113.1");
        for nothing in ["", "unknown", "203.0.113.1,", "203.0.113.1, nonsense"] {
            assert_eq!(list(nothing), "10.0.0.1", "{nothing}: the proxy does not say");
        }
        let lines = [
            ("x-forwarded-for", "198.51.100.7"),
            ("x-forwarded-for", "203.0.113.1, 10.2.2.2"),
        ];
        assert_eq!(client("10.0.0.1", &lines), "203.0.113.1", "several lines are one list");
        assert_eq!(client("fd00::1", &[("x-forwarded-for", "203.0.113.1")]), "203.0.113.1");
        assert_eq!(
            client("::ffff:10.0.0.1", &[("x-forwarded-for", "203.0.113.1")]),
            "203.0.113.1"
        );
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_has_it() {
        let read = |value| client("10.0.0.1", &[("forwarded", value)]);
        assert_eq!(read("for=203.0.113.1"), "203.0.113.1");
        assert_eq!(read("For=\"[2001:db8:cafe::17]:4711\""), "2001:db8:cafe::17");
        assert_eq!(read("for=\"[2001:db8:cafe::17]\""), "2001:db8:cafe::17");
        assert_eq!(read("for=203.0.113.1;proto=http;by=203.0.113.43"), "203.0.113.1");
        assert_eq!(read("for=198.51.100.7, proto=https; for=203.0.113.1"), "203.0.113.1");
        for nothing in [
            "for=unknown",
            "for=_hidden",
            "proto=https",
            "for=203.0.113.1;for=203.0.113.2",
            "for=198.51.100.7, by=\"a, b\"",
            "203.0.113.1",
        ] {
            assert_eq!(read(nothing), "10.0.0.1", "{nothing}");
        }
    }

    #[test]
    fn two_fields_that_disagree_are_both_not_believed() {
        let both = |forwarded, listed| client("10.0.0.1", &[("forwarded", forwarded), ("x-forwarded-for", listed)]);
        assert_eq!(both("for=203.0.113.1", "203.0.113.1"), "203.0.113.1");
        assert_eq!(both("for=198.51.100.7", "203.0.113.1"), "10.0.0.1");
    }

    #[test]
    fn of_proxies_that_write_one_field_the_other_one_says_nothing() {
        let (forwarded, listed) = (ForwardedField::Forwarded, ForwardedField::XForwardedFor);
        let through = |field, fields: &[(&'static str, &str)]| through(Some(field), "10.0.0.1", fields);
        let both = [("forwarded", "for=198.51.100.7"), ("x-forwarded-for", "203.0.113.1")];
        assert_eq!(through(forwarded, &both), "198.51.100.7");
        assert_eq!(through(listed, &both), "203.0.113.1");
        let unreadable = [("forwarded", "for=x"), ("x-forwarded-for", "203.0.113.1")];
        assert_eq!(through(listed, &unreadable), "203.0.113.1");
        assert_eq!(through(forwarded, &unreadable), "10.0.0.1");
        assert_eq!(through(listed, &both[..1]), "10.0.0.1", "it is not there");
        assert_eq!(through(forwarded, &both[1..]), "10.0.0.1", "it is not there");
    }
}
