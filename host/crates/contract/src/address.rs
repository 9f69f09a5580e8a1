//! What counts as one address, and as one site: the same for whatever counts, limits or shares by where somebody comes from.

use std::net::{IpAddr, Ipv6Addr};

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
