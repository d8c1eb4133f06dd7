//! Which addresses are of the public network. Everything else is refused to boxes after the name was resolved, whatever
//! name led to it, in every form that an address of version 4 has within version 6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is that is not public.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// The machine itself.
    Loopback,
    /// A private network, unique local or site local.
    Private,
    /// This link only.
    LinkLocal,
    /// The metadata service of a cloud: it hands out credentials.
    Metadata,
    /// The network of a carrier, shared by its customers.
    Carrier,
    /// Several machines.
    Multicast,
    /// Measurements, examples, and ranges that nobody may use.
    Reserved,
    /// No machine.
    Unspecified,
}

impl Special {
    /// A word for an event.
    pub fn as_str(self) -> &'static str {
        match self {
            Special::Loopback => "loopback",
            Special::Private => "private",
            Special::LinkLocal => "link-local",
            Special::Metadata => "metadata",
            Special::Carrier => "carrier",
            Special::Multicast => "multicast",
            Special::Reserved => "reserved",
            Special::Unspecified => "unspecified",
        }
    }
}

impl std::fmt::Display for Special {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Addresses at which clouds hand out credentials or control their machines.
const METADATA_V4: [Ipv4Addr; 4] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
];
const METADATA_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
];

/// What `ip` is; `None` when it is public.
pub fn special(ip: IpAddr) -> Option<Special> {
    match ip {
        IpAddr::V4(ip) => special_v4(ip),
        IpAddr::V6(ip) => special_v6(ip),
    }
}

fn special_v4(ip: Ipv4Addr) -> Option<Special> {
    let [a, b, c, _] = ip.octets();
    Some(match (a, b, c) {
        _ if METADATA_V4.contains(&ip) => Special::Metadata,
        _ if ip.is_unspecified() => Special::Unspecified,
        (0, ..) => Special::Reserved,
        (127, ..) => Special::Loopback,
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => Special::Private,
        (100, 64..=127, _) => Special::Carrier,
        (169, 254, _) => Special::LinkLocal,
        // Protocol assignments, the relays of 6to4, AS112, documentation, measurements.
        (192, 0, 0 | 2) | (192, 88, 99) | (192, 31, 196) | (192, 52, 193) | (192, 175, 48) => {
            Special::Reserved
        }
        (198, 18 | 19, _) | (198, 51, 100) | (203, 0, 113) => Special::Reserved,
        (224..=239, ..) => Special::Multicast,
        (240.., ..) => Special::Reserved,
        _ => return None,
    })
}

fn special_v6(ip: Ipv6Addr) -> Option<Special> {
    let s = ip.segments();
    if METADATA_V6.contains(&ip) {
        return Some(Special::Metadata);
    }
    if ip.is_unspecified() {
        return Some(Special::Unspecified);
    }
    if ip.is_loopback() {
        return Some(Special::Loopback);
    }
    if let Some(inner) = embedded(s) {
        return special_v4(inner).or(match s {
            // A host that is reached through a translator may be public. The other forms are not routed, or lead past
            // what is checked here.
            [0x64, 0xff9b, 0, 0, 0, 0, ..] => None,
            _ => Some(Special::Reserved),
        });
    }
    Some(match s[0] {
        0xff00..=0xffff => Special::Multicast,
        0xfe80..=0xfebf => Special::LinkLocal,
        0xfec0..=0xfeff | 0xfc00..=0xfdff => Special::Private,
        // Documentation, and everything that is assigned to no public use: only 2000::/3 is.
        0x2001 if s[1] == 0xdb8 || s[1] < 0x200 => Special::Reserved,
        0x3fff if s[1] < 0x1000 => Special::Reserved,
        0x2000..=0x3fff => return None,
        _ => Special::Reserved,
    })
}

/// The address of version 4 within: mapped, compatible, translated, NAT64 (well known and local use), 6to4, Teredo, ISATAP.
fn embedded(s: [u16; 8]) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match s {
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] => Some(v4(high, low)),
        [0, 0, 0, 0, 0xffff, 0, high, low] => Some(v4(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        // Networks choose where in these the address stands; the usual place is the end.
        [0x64, 0xff9b, 1, .., high, low] => Some(v4(high, low)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        [0x2001, 0, .., high, low] => Some(v4(!high, !low)),
        [.., 0 | 0x200, 0x5efe, high, low] => Some(v4(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// D-075: special addresses were not refused.
    #[test]
    fn addresses_that_are_not_public() {
        for (text, expected) in [
            ("127.0.0.1", "loopback"),
            ("127.255.255.254", "loopback"),
            ("10.1.2.3", "private"),
            ("172.16.0.1", "private"),
            ("172.31.255.255", "private"),
            ("192.168.1.1", "private"),
            ("169.254.1.1", "link-local"),
            ("169.254.169.254", "metadata"),
            ("169.254.170.2", "metadata"),
            ("168.63.129.16", "metadata"),
            ("100.100.100.200", "metadata"),
            ("100.64.0.1", "carrier"),
            ("100.127.255.255", "carrier"),
            ("0.0.0.0", "unspecified"),
            ("0.1.2.3", "reserved"),
            ("192.0.0.192", "reserved"),
            ("192.0.2.1", "reserved"),
            ("198.18.0.1", "reserved"),
            ("198.19.255.255", "reserved"),
            ("198.51.100.1", "reserved"),
            ("203.0.113.1", "reserved"),
            ("192.88.99.1", "reserved"),
            ("224.0.0.1", "multicast"),
            ("240.0.0.1", "reserved"),
            ("255.255.255.255", "reserved"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("::7f00:1", "loopback"),
            ("::ffff:127.0.0.1", "loopback"),
            ("::ffff:0:127.0.0.1", "loopback"),
            ("::ffff:8.8.8.8", "reserved"),
            ("::ffff:169.254.169.254", "metadata"),
            ("64:ff9b::10.0.0.1", "private"),
            ("64:ff9b::169.254.169.254", "metadata"),
            ("64:ff9b:1::10.0.0.1", "private"),
            ("64:ff9b:1::8.8.8.8", "reserved"),
            ("2002:7f00:1::", "loopback"),
            ("2002:a00:1::1", "private"),
            ("2002:808:808::1", "reserved"),
            ("2001:0:1::5601:5601", "metadata"),
            ("2001::f5ff:fffe", "private"),
            ("2001:db8::1", "reserved"),
            ("2001:2::1", "reserved"),
            ("2001:20::1", "reserved"),
            ("3fff::1", "reserved"),
            ("100::1", "reserved"),
            ("4000::1", "reserved"),
            ("fe80::1", "link-local"),
            ("fe80::a9fe:a9fe", "metadata"),
            ("fec0::1", "private"),
            ("fc00::1", "private"),
            ("fd00:ec2::254", "metadata"),
            ("fd20:ce::254", "metadata"),
            ("2a00:1450:4001::5efe:10.0.0.1", "private"),
            ("ff02::1", "multicast"),
        ] {
            assert_eq!(special(text.parse().unwrap()).map(Special::as_str), Some(expected), "{text}");
        }
    }

    #[test]
    fn public_addresses_are() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450:4001:80b::200e",
            "64:ff9b::8.8.8.8",
            "2001:4860:4860::8888",
        ] {
            assert_eq!(special(text.parse().unwrap()), None, "{text}");
        }
    }

    /// Networks and the lengths of their prefixes.
    const NETS: &[([u8; 4], u32)] = &[
        ([0, 0, 0, 0], 8),
        ([10, 0, 0, 0], 8),
        ([100, 64, 0, 0], 10),
        ([127, 0, 0, 0], 8),
        ([169, 254, 0, 0], 16),
        ([172, 16, 0, 0], 12),
        ([192, 0, 0, 0], 24),
        ([192, 0, 2, 0], 24),
        ([192, 168, 0, 0], 16),
        ([198, 18, 0, 0], 15),
        ([198, 51, 100, 0], 24),
        ([203, 0, 113, 0], 24),
        ([224, 0, 0, 0], 3),
    ];

    proptest! {
        /// D-075: special addresses were not refused.
        #[test]
        fn no_form_of_a_special_address_is_public((net, bits) in (proptest::sample::select(NETS), any::<u32>())) {
            let (net, length) = net;
            let bits = u32::from(Ipv4Addr::from(net)) | (bits & (u32::MAX >> length));
            prop_assert!(special_v4(Ipv4Addr::from(bits)).is_some());
            let (high, low) = ((bits >> 16) as u16, bits as u16);
            for form in [
                [0, 0, 0, 0, 0, 0xffff, high, low], [0, 0, 0, 0, 0, 0, high, low], [0, 0, 0, 0, 0xffff, 0, high, low],
                [0x64, 0xff9b, 0, 0, 0, 0, high, low], [0x64, 0xff9b, 1, 7, 7, 7, high, low],
                [0x2002, high, low, 1, 2, 3, 4, 5], [0x2001, 0, 9, 9, 9, 9, !high, !low],
                [0x2a00, 1, 2, 3, 0, 0x5efe, high, low], [0x2a00, 1, 2, 3, 0x200, 0x5efe, high, low],
            ] {
                prop_assert!(special(Ipv6Addr::from(form).into()).is_some(), "{}", Ipv6Addr::from(form));
            }
        }

        #[test]
        fn what_the_standard_library_calls_special_is(bits in any::<u32>()) {
            let ip = Ipv4Addr::from(bits);
            let theirs = ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_multicast()
                || ip.is_broadcast() || ip.is_documentation() || ip.is_unspecified();
            prop_assert!(!theirs || special_v4(ip).is_some());
        }
    }
}
