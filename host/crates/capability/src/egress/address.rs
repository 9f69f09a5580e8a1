//! Which addresses a guest may reach. A pure table: public unicast only, unless the operator's policy names the network.
//! It knows nothing of names and of resolving; whoever dials asks here first, with the very address it will dial.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// An address that must not be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`{address}` is {class}")]
pub struct Forbidden {
    /// The address, or the IPv4 address that it hides.
    pub address: IpAddr,
    /// What kind of address it is.
    pub class: &'static str,
}

impl Forbidden {
    /// The smallest network that the policy would have to name.
    pub fn network(&self) -> IpNet {
        IpNet::from(self.address)
    }
}

/// IPv4 blocks that are not public unicast (IANA special-purpose registry, multicast and reserved space), and those that by
/// their number are but within a cloud lead to the platform, which trusts whoever asks from a machine of its own.
const IPV4: &[([u8; 4], u8, &str)] = &[
    ([0, 0, 0, 0], 8, "unspecified or on this network"),
    ([10, 0, 0, 0], 8, "private"),
    ([100, 64, 0, 0], 10, "carrier-grade NAT"),
    ([127, 0, 0, 0], 8, "loopback"),
    // IBM Cloud: its services behind the private network.
    ([161, 26, 0, 0], 16, "a cloud platform's own"),
    ([166, 8, 0, 0], 14, "a cloud platform's own"),
    // Azure: the wire server, which hands out certificates and the settings of extensions.
    ([168, 63, 129, 16], 32, "a cloud platform's own"),
    ([169, 254, 0, 0], 16, "link-local"),
    ([172, 16, 0, 0], 12, "private"),
    ([192, 0, 0, 0], 24, "reserved for protocols"),
    ([192, 0, 2, 0], 24, "documentation"),
    // Packet, later Equinix Metal: its metadata service.
    ([192, 80, 8, 124], 32, "a cloud platform's own"),
    ([192, 88, 99, 0], 24, "a 6to4 relay"),
    ([192, 168, 0, 0], 16, "private"),
    ([198, 18, 0, 0], 15, "benchmarking"),
    ([198, 51, 100, 0], 24, "documentation"),
    ([203, 0, 113, 0], 24, "documentation"),
    ([224, 0, 0, 0], 4, "multicast"),
    ([255, 255, 255, 255], 32, "broadcast"),
    ([240, 0, 0, 0], 4, "reserved"),
];

/// IPv6 blocks by name. What lies outside `2000::/3` and is not listed is refused as well: see [`class_of_ipv6`].
const IPV6: &[([u16; 8], u8, &str)] = &[
    ([0, 0, 0, 0, 0, 0, 0, 0], 128, "unspecified"),
    ([0, 0, 0, 0, 0, 0, 0, 1], 128, "loopback"),
    ([0, 0, 0, 0, 0, 0xffff, 0, 0], 96, "an IPv4-mapped address"),
    ([0, 0, 0, 0, 0xffff, 0, 0, 0], 96, "an IPv4-translated address"),
    ([0, 0, 0, 0, 0, 0, 0, 0], 96, "an IPv4-compatible address"),
    ([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96, "a NAT64 address"),
    (
        [0x64, 0xff9b, 1, 0, 0, 0, 0, 0],
        48,
        "a local NAT64 address, which only a network of 96 bits or more names",
    ),
    ([0x100, 0, 0, 0, 0, 0, 0, 0], 64, "discard-only"),
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, "a Teredo address"),
    ([0x2001, 2, 0, 0, 0, 0, 0, 0], 48, "benchmarking"),
    ([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28, "an ORCHID"),
    ([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28, "an ORCHID"),
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, "reserved for protocols"),
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, "documentation"),
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, "a 6to4 address"),
    ([0x3ffe, 0, 0, 0, 0, 0, 0, 0], 16, "reserved"),
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, "documentation"),
    ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, "unique local"),
    ([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, "link-local"),
    ([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, "site-local"),
    ([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, "multicast"),
];

/// Length of the shortest network that names a local NAT64 address. Where in such an address IPv4 stands depends on how long the
/// prefix of the translator is, 48, 56, 64 or 96 bits (RFC 6052), which is not known here. Of a network of 96 bits or more, whoever
/// answers for a name can choose the last 32 bits alone, and those are looked at.
const LOCAL_NAT64_BITS_MIN: u8 = 96;

fn names(network: &IpNet, address: IpAddr) -> bool {
    let bits_min = match address {
        IpAddr::V6(address) if matches!(address.segments(), [0x64, 0xff9b, 1, ..]) => LOCAL_NAT64_BITS_MIN,
        IpAddr::V4(_) | IpAddr::V6(_) => 0,
    };
    network.prefix_len() >= bits_min && network.contains(&address)
}

fn class_of_ipv4(address: Ipv4Addr) -> Option<&'static str> {
    let bits = address.to_bits();
    IPV4.iter().find_map(|(base, length, class)| {
        let mask = u32::MAX.checked_shl(32 - u32::from(*length)).unwrap_or(0);
        (bits & mask == u32::from_be_bytes(*base)).then_some(*class)
    })
}

fn class_of_ipv6(address: Ipv6Addr) -> Option<&'static str> {
    let bits = address.to_bits();
    let listed = IPV6.iter().find_map(|(base, length, class)| {
        let mask = u128::MAX.checked_shl(128 - u32::from(*length)).unwrap_or(0);
        (bits & mask == Ipv6Addr::from(*base).to_bits()).then_some(*class)
    });
    let global_unicast = bits >> 125 == 0b001;
    listed.or((!global_unicast).then_some("outside global unicast"))
}

/// The IPv4 addresses that a translator or tunnel on the way would take out of an IPv6 address.
fn hidden_ipv4(address: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let [s0, s1, s2, s3, s4, s5, s6, s7] = address.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    let last = join(s6, s7);
    match (s0, s1) {
        (0, 0) if (s2, s3) == (0, 0) && matches!((s4, s5), (0, 0 | 0xffff) | (0xffff, 0)) => [Some(last), None],
        (0x64, 0xff9b) => [Some(last), None],
        (0x2002, _) => [Some(join(s1, s2)), None],
        // Teredo carries the server's address and, inverted, the client's.
        (0x2001, 0) => [Some(join(s2, s3)), Some(join(!s6, !s7))],
        // ISATAP puts it into the interface identifier of any prefix.
        _ if matches!(s4, 0 | 0x200) && s5 == 0x5efe => [Some(last), None],
        _ => [None, None],
    }
}

/// Whether `address` may be dialled. Each view of it, itself and any IPv4 address that it hides, must be public or lie in
/// one of `networks`: naming a NAT64 prefix does not open the loopback behind it.
pub fn check(address: IpAddr, networks: &[IpNet]) -> Result<(), Forbidden> {
    let named = |address: IpAddr| networks.iter().any(|network| names(network, address));
    let view = |address: IpAddr, class: Option<&'static str>| match class {
        Some(class) if !named(address) => Err(Forbidden { address, class }),
        Some(_) | None => Ok(()),
    };
    match address {
        IpAddr::V4(plain) => view(address, class_of_ipv4(plain)),
        IpAddr::V6(plain) => {
            view(address, class_of_ipv6(plain))?;
            // `::` and `::1` hide nothing: they are what the table says.
            if plain.is_loopback() || plain.is_unspecified() {
                return Ok(());
            }
            hidden_ipv4(plain)
                .into_iter()
                .flatten()
                .try_for_each(|hidden| view(hidden.into(), class_of_ipv4(hidden)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(address: &str, networks: &[&str]) -> bool {
        let networks: Vec<IpNet> = networks.iter().map(|text| text.parse().unwrap()).collect();
        check(address.parse().unwrap(), &networks).is_ok()
    }

    /// First and last address of each block that is not public unicast, and where that is written. Not taken from the tables above.
    /// It is not seen here where a block in the table is smaller and something else refuses the rest: what lies outside `2000::/3`, a
    /// larger block around it, or an IPv4 address that is hidden in each address asked for.
    const SPECIAL: &[(&str, &str, &str)] = &[
        ("0.0.0.0", "0.255.255.255", "RFC 791, this network"),
        ("10.0.0.0", "10.255.255.255", "RFC 1918, private"),
        ("100.64.0.0", "100.127.255.255", "RFC 6598, carrier-grade NAT"),
        ("127.0.0.0", "127.255.255.255", "RFC 1122, loopback"),
        ("169.254.0.0", "169.254.255.255", "RFC 3927, link-local"),
        ("172.16.0.0", "172.31.255.255", "RFC 1918, private"),
        ("192.0.0.0", "192.0.0.255", "RFC 6890, protocols"),
        ("192.0.2.0", "192.0.2.255", "RFC 5737, documentation"),
        ("192.88.99.0", "192.88.99.255", "RFC 7526, 6to4 relays"),
        ("192.168.0.0", "192.168.255.255", "RFC 1918, private"),
        ("198.18.0.0", "198.19.255.255", "RFC 2544, benchmarking"),
        ("198.51.100.0", "198.51.100.255", "RFC 5737, documentation"),
        ("203.0.113.0", "203.0.113.255", "RFC 5737, documentation"),
        ("224.0.0.0", "239.255.255.255", "RFC 5771, multicast"),
        ("240.0.0.0", "255.255.255.254", "RFC 1112, reserved"),
        ("255.255.255.255", "255.255.255.255", "RFC 919, broadcast"),
        ("161.26.0.0", "161.26.255.255", "IBM Cloud"),
        ("166.8.0.0", "166.11.255.255", "IBM Cloud"),
        ("168.63.129.16", "168.63.129.16", "Azure"),
        ("192.80.8.124", "192.80.8.124", "Equinix Metal"),
        ("::", "::", "RFC 4291, unspecified"),
        ("::1", "::1", "RFC 4291, loopback"),
        ("::2", "::ffff:ffff", "RFC 4291, IPv4-compatible"),
        ("::ffff:0:0", "::ffff:ffff:ffff", "RFC 4291, IPv4-mapped"),
        ("::ffff:0:0:0", "::ffff:0:ffff:ffff", "RFC 2765, IPv4-translated"),
        ("64:ff9b::", "64:ff9b::ffff:ffff", "RFC 6052, NAT64"),
        (
            "64:ff9b:1::",
            "64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
            "RFC 8215, local NAT64",
        ),
        ("100::", "100::ffff:ffff:ffff:ffff", "RFC 6666, discard-only"),
        ("2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff", "RFC 4380, Teredo"),
        (
            "2001:2::",
            "2001:2:0:ffff:ffff:ffff:ffff:ffff",
            "RFC 5180, benchmarking",
        ),
        ("2001:10::", "2001:1f:ffff:ffff:ffff:ffff:ffff:ffff", "RFC 4843, ORCHID"),
        ("2001:20::", "2001:2f:ffff:ffff:ffff:ffff:ffff:ffff", "RFC 7343, ORCHID"),
        (
            "2001::",
            "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
            "RFC 2928, protocols",
        ),
        (
            "2001:db8::",
            "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
            "RFC 3849, documentation",
        ),
        ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "RFC 3056, 6to4"),
        ("3ffe::", "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "RFC 3701, 6bone"),
        (
            "3fff::",
            "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
            "RFC 9637, documentation",
        ),
        ("5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "RFC 9602, SRv6"),
        (
            "fc00::",
            "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "RFC 4193, unique local",
        ),
        (
            "fe80::",
            "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "RFC 4291, link-local",
        ),
        (
            "fec0::",
            "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "RFC 3879, site-local",
        ),
        (
            "ff00::",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "RFC 4291, multicast",
        ),
    ];

    #[test]
    fn every_special_block_is_refused_from_its_first_to_its_last_address() {
        let middle = |first: IpAddr, last: IpAddr| match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                let (first, last) = (first.to_bits(), last.to_bits());
                IpAddr::V4(Ipv4Addr::from_bits(first + (last - first) / 2))
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                let (first, last) = (first.to_bits(), last.to_bits());
                IpAddr::V6(Ipv6Addr::from_bits(first + (last - first) / 2))
            }
            (first, last) => panic!("{first} and {last} are in no block"),
        };
        for (first, last, source) in SPECIAL {
            let (first, last) = (first.parse().unwrap(), last.parse().unwrap());
            for address in [first, middle(first, last), last] {
                assert!(check(address, &[]).is_err(), "{address} ({source}) was allowed");
            }
        }
    }

    /// By its number public or not, none of them is a service of the internet.
    #[test]
    fn what_a_cloud_keeps_for_its_own_machines_is_refused() {
        for own in [
            "169.254.169.254",
            "169.254.170.2",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "192.80.8.124",
            "161.26.0.10",
            "166.9.48.100",
            "fd00:ec2::254",
            "fd20:ce::254",
            "64:ff9b::a83f:8110",
        ] {
            assert!(!allowed(own, &[]), "{own} was allowed");
        }
        assert!(allowed("168.63.129.16", &["168.63.129.16/32"]));
        let error = check("168.63.129.16".parse().unwrap(), &[]).unwrap_err();
        assert_eq!(error.to_string(), "`168.63.129.16` is a cloud platform's own");
    }

    #[test]
    fn neighbours_of_the_blocks_are_public() {
        for public in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "161.25.255.255",
            "161.27.0.0",
            "166.7.255.255",
            "166.12.0.0",
            "168.63.129.15",
            "168.63.129.17",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "191.255.255.255",
            "192.0.1.0",
            "192.0.3.0",
            "192.80.8.123",
            "192.80.8.125",
            "192.88.98.255",
            "192.88.100.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "198.51.99.255",
            "198.51.101.0",
            "203.0.112.255",
            "203.0.114.0",
            "223.255.255.255",
            "93.184.216.34",
            "2000::1",
            "2001:200::1",
            "2001:db7:ffff::",
            "2001:db9::",
            "2003::1",
            "2606:4700::1111",
            "3fff:1000::",
            "2a00:1450:4001::200e",
        ] {
            assert!(allowed(public, &[]), "{public} was refused");
        }
    }

    #[test]
    fn ipv4_hidden_in_ipv6_is_refused_whatever_it_hides() {
        for hidden in [
            "::ffff:127.0.0.1",
            "::ffff:93.184.216.34",
            "::127.0.0.1",
            "::ffff:0:10.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::93.184.216.34",
            "64:ff9b:1::10.0.0.1",
            "2002:7f00:1::",
            "2002:5db8:d822::1",
            "2002:d8d8:d8d8::1",
            "2001:0:5db8:d822::80ff:fffe",
            "2606:4700::5efe:10.0.0.1",
            "2606:4700::200:5efe:169.254.169.254",
        ] {
            assert!(!allowed(hidden, &[]), "{hidden} was allowed");
        }
        assert!(
            allowed("2606:4700::5efe:93.184.216.34", &[]),
            "a public address behind a public prefix"
        );
    }

    #[test]
    fn nothing_outside_global_unicast_is_public() {
        for top in 0..=u16::MAX {
            let address = Ipv6Addr::new(top, 0x1234, 0, 1, 2, 3, 4, 5);
            if top >> 13 != 1 {
                assert!(check(address.into(), &[]).is_err(), "{address} was allowed");
            }
        }
    }

    #[test]
    fn a_named_network_opens_itself_and_nothing_else() {
        assert!(allowed("127.0.0.1", &["127.0.0.0/8"]));
        assert!(allowed("::1", &["::1/128"]));
        assert!(!allowed("127.0.0.1", &["10.0.0.0/8"]));
        assert!(
            !allowed("::ffff:127.0.0.1", &["127.0.0.0/8"]),
            "the mapped form is another address"
        );
        assert!(
            !allowed("64:ff9b::127.0.0.1", &["64:ff9b::/96"]),
            "the hidden address counts too"
        );
        assert!(allowed("64:ff9b::93.184.216.34", &["64:ff9b::/96"]));
        assert!(allowed("64:ff9b::127.0.0.1", &["64:ff9b::/96", "127.0.0.0/8"]));
    }

    /// Whoever answers for a name chooses what a tunnel or translator takes out of the address.
    #[test]
    fn what_a_tunnel_takes_out_of_an_address_has_to_be_named_as_well() {
        for (hidden, tunnel, inside) in [
            ("::ffff:127.0.0.1", "::ffff:0:0/96", "127.0.0.0/8"),
            ("::ffff:0:10.0.0.1", "::ffff:0:0:0/96", "10.0.0.0/8"),
            ("::127.0.0.1", "::/96", "127.0.0.0/8"),
            ("64:ff9b::169.254.169.254", "64:ff9b::/96", "169.254.0.0/16"),
            ("2002:7f00:1::", "2002::/16", "127.0.0.0/8"),
            // Teredo: the address of the server, and the inverted one of the client.
            ("2001:0:7f00:1::a247:27dd", "2001::/32", "127.0.0.0/8"),
            ("2001:0:5db8:d822::80ff:fffe", "2001::/32", "127.0.0.0/8"),
            ("2606:4700::5efe:10.0.0.1", "2606:4700::/32", "10.0.0.0/8"),
            ("2606:4700::200:5efe:10.0.0.1", "2606:4700::/32", "10.0.0.0/8"),
        ] {
            assert!(!allowed(hidden, &[tunnel]), "{hidden} was allowed by {tunnel}");
            assert!(allowed(hidden, &[tunnel, inside]), "{hidden} was refused");
        }
    }

    #[test]
    fn a_local_nat64_network_opens_nothing_where_the_place_of_ipv4_is_not_known() {
        for (network, is_open) in [
            ("::/0", false),
            ("64:ff9b:1::/48", false),
            ("64:ff9b:1::/64", false),
            ("64:ff9b:1::/95", false),
            ("64:ff9b:1::/96", true),
            ("64:ff9b:1::5db8:d822/128", true),
        ] {
            assert_eq!(allowed("64:ff9b:1::5db8:d822", &[network]), is_open, "{network}");
        }
        // 10.0.0.5 for a translator with a prefix of 64 bits, and with one of 48. The last 32 bits are public.
        for hidden in ["64:ff9b:1:0:a:0:508:808", "64:ff9b:1:a00:0:500:808:808"] {
            for network in ["64:ff9b:1::/48", "64:ff9b:1::/64", "64:ff9b:1::/96"] {
                assert!(!allowed(hidden, &[network]), "{hidden} was allowed by {network}");
            }
        }
        assert!(!allowed("64:ff9b:1::10.0.0.5", &["64:ff9b:1::/96"]));
        assert!(allowed("64:ff9b:1::10.0.0.5", &["64:ff9b:1::/96", "10.0.0.0/8"]));
        let error = check(
            "64:ff9b:1::5db8:d822".parse().unwrap(),
            &["64:ff9b:1::/48".parse().unwrap()],
        )
        .unwrap_err();
        assert!(error.to_string().contains("96 bits or more"), "{error}");
    }

    #[test]
    fn the_network_to_name_is_the_smallest() {
        let error = check("10.1.2.3".parse().unwrap(), &[]).unwrap_err();
        assert_eq!(error.network().to_string(), "10.1.2.3/32");
        assert_eq!(error.to_string(), "`10.1.2.3` is private");
    }
}
