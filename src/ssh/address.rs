//! Which addresses may be contacted at all.
//!
//! Vendors report addresses and machines' owners choose names; neither may make the server knock at its own network.
//! Only what is routed on the public internet is contacted, unless private addresses are allowed for the target.
//! Addresses that carry an IPv4 address inside are judged by that one too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address may be contacted. `allow_private` lets in private, loopback, link-local, shared (CGNAT) and
/// unique local addresses; multicast, broadcast and unspecified ones never are.
pub(super) fn may_contact(address: IpAddr, allow_private: bool) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let a_host = !(v4.octets()[0] == 0 || v4.is_multicast() || v4.is_broadcast());
            a_host && (allow_private || is_public_v4(v4))
        }
        IpAddr::V6(v6) => {
            let a_host = !(v6.is_unspecified() || v6.is_multicast());
            a_host && (allow_private || is_public_v6(v6))
        }
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let reserved = match (a, b, c) {
        (0 | 10 | 127, ..) | (240.., ..) => true,
        (100, 64..=127, _) => true,                               // shared by carriers
        (169, 254, _) => true,                                    // link-local, cloud metadata
        (172, 16..=31, _) | (192, 168, _) => true,                // private
        (192, 0, 0 | 2) | (198, 51, 100) | (203, 0, 113) => true, // protocols, documentation
        (192, 88, 99) => true,                                    // relays to IPv6, given up
        (198, 18 | 19, _) => true,                                // benchmarks
        _ => address.is_multicast(),
    };
    !reserved
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match (a, b) {
        (0x64, 0xff9b) => (c, d, e, f) == (0, 0, 0, 0) && is_public_v4(v4(g, h)), // NAT64
        (0x2002, _) => is_public_v4(v4(b, c)),                                    // 6to4
        (0x2001, 0) | (0x2001, 0xdb8) => false,                                   // Teredo, documentation
        (0x3fff, 0..=0x0fff) => false,                                            // documentation
        _ => (0x2000..=0x3fff).contains(&a),                                      // the only range with public hosts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(address: &str, allow_private: bool) -> bool {
        may_contact(address.parse().unwrap(), allow_private)
    }

    #[test]
    fn public_addresses_are_contacted() {
        for address in ["1.1.1.1", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "192.169.0.1", "223.255.255.1"] {
            assert!(may(address, false), "{address}");
        }
        for address in ["2606:4700::1111", "2a00:1450::1", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1"] {
            assert!(may(address, false), "{address}");
        }
    }

    #[test]
    fn private_ones_only_where_allowed() {
        for address in [
            "10.0.0.1",
            "127.0.0.1",
            "127.255.0.9",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.127.255.255",
            "192.0.0.8",
            "198.18.0.1",
            "192.88.99.1",
            "240.0.0.1",
            "203.0.113.1",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12:3456::1",
            "fec0::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::1",
            "2001::1",
            "2001:db8::1",
            "100::1",
            "::10.0.0.1",
            "::ffff:0:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b:1::1",
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::1",
            "fe80::5efe:10.0.0.1",
        ] {
            assert!(!may(address, false), "{address}");
            assert!(may(address, true), "{address}");
        }
    }

    #[test]
    fn what_is_no_hosts_address_never() {
        for address in ["0.0.0.0", "0.1.2.3", "224.0.0.1", "239.1.2.3", "255.255.255.255", "::", "ff02::1", "::ffff:0.0.0.0", "::ffff:224.0.0.1"] {
            assert!(!may(address, false) && !may(address, true), "{address}");
        }
    }
}
