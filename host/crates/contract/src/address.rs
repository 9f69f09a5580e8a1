//! What counts as one address, and as one site: the same for whatever counts, limits or shares by where somebody comes from. And how
//! a network is written.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer};

/// Most characters that are shown of a text that is no network.
const SHOWN_MAX: usize = 64;

/// Why a text is not taken for a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Nobody can tell whether the one address is meant or all that begin like it.
    #[error("`{address}` is an address and no network: write `{}` for this address alone", IpNet::from(*address))]
    Address {
        /// The address.
        address: IpAddr,
    },
    /// Neither.
    #[error("`{}` is no network: write an address and how many of its bits count, as `10.0.0.0/8`", text.escape_debug())]
    Text {
        /// Its beginning.
        text: String,
    },
}

/// A network out of a text such as `10.0.0.0/8`.
///
/// # Errors
/// [`NetworkError`] says how it is written.
pub fn parse_network(text: &str) -> Result<IpNet, NetworkError> {
    if let Ok(address) = text.parse() {
        return Err(NetworkError::Address { address });
    }
    text.parse().map_err(|_| NetworkError::Text {
        text: text.chars().take(SHOWN_MAX).collect(),
    })
}

/// A network of a configuration.
struct Written(IpNet);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(AsText)
    }
}

/// Refuses a text while it is read, when the parser still knows in which line that is.
struct AsText;

impl Visitor<'_> for AsText {
    type Value = Written;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a network, as \"10.0.0.0/8\"")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Written, E> {
        parse_network(text).map(Written).map_err(E::custom)
    }
}

/// The networks of a configuration, for `deserialize_with`.
///
/// # Errors
/// What is no list of texts; and [`NetworkError`], as words.
pub fn networks<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<IpNet>, D::Error> {
    let written = Vec::<Written>::deserialize(from)?;
    Ok(written.into_iter().map(|Written(network)| network).collect())
}

/// What counts as one address: of IPv6 the first 64 bits, since whoever has one address there has all behind them.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// Who is one site for certain: of IPv6 a network of 48 bits, which one site usually has. Whoever has one has 65,536 of 64 bits.
#[must_use]
pub fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_network_is_told_how_one_is_written() {
        assert_eq!(parse_network("10.0.0.0/8"), Ok("10.0.0.0/8".parse().unwrap()));
        let long = "x".repeat(100);
        for (text, said) in [
            ("10.0.0.0", "write `10.0.0.0/32` for this address alone"),
            ("fd00::1", "write `fd00::1/128` for this address alone"),
            ("300.0.0.0/8", "`300.0.0.0/8` is no network"),
            ("10.0.0.0/33", "`10.0.0.0/33` is no network"),
            ("a\nb", "`a\\nb` is no network: write an address"),
            (&long, "xx` is no network"),
        ] {
            let error = parse_network(text).unwrap_err().to_string();
            assert!(error.contains(said) && error.len() < 160, "{error}");
        }
    }

    #[test]
    fn whoever_has_a_network_is_one_address_and_whoever_has_many_is_one_site() {
        for (address, of_network, of_site) in [
            ("2001:db8:1:2:ffff::9", "2001:db8:1:2::", "2001:db8:1::"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(network(address).to_string(), of_network);
            assert_eq!(site(address).to_string(), of_site);
        }
    }
}
