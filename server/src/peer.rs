//! From which address a request comes. The other end of the connection says it, unless that is a proxy of the
//! configuration: then the last address in `X-Forwarded-For` that is no such proxy. Whoever else writes that header is not
//! believed.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use axum::http::{Extensions, HeaderMap};
use serde::{Deserialize, Deserializer};

/// The header that proxies add the address to which they answer to.
const FORWARDED: &str = "x-forwarded-for";
/// Entries of the header that are looked at, from its end.
const HOPS_MAX: usize = 32;

/// The other end of a connection, as an extension of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// Addresses that are written `10.0.0.1`, `10.0.0.0/8`, `::1` or `fd00::/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// `server.trusted_proxies`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Proxies(Vec<Network>);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        let bad = || {
            let text = domain::event::preview(text, 60);
            format!(
                "{text:?} is no address and no network; write it as 10.0.0.1, 10.0.0.0/8, ::1 or fd00::/8"
            )
        };
        let (address, bits) = match text.trim().split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text.trim(), None),
        };
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= most).ok_or_else(bad)?,
            None => most,
        };
        Ok(Network { address, bits })
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Network, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Network {
    fn has(&self, address: IpAddr) -> bool {
        let (a, b, width) = match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
        };
        let rest = width - u32::from(self.bits);
        a.checked_shr(rest).unwrap_or(0) == b.checked_shr(rest).unwrap_or(0)
    }
}

impl Proxies {
    /// These networks.
    pub fn new(networks: Vec<Network>) -> Proxies {
        Proxies(networks)
    }

    /// From where a request comes; `None` where the connection has no address.
    pub fn client(&self, extensions: &Extensions, headers: &HeaderMap) -> Option<IpAddr> {
        let Peer(peer) = extensions.get::<Peer>()?;
        Some(self.beyond(peer.to_canonical(), headers))
    }

    fn beyond(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut last = peer;
        // Each proxy appends, so the end is the nearest.
        let lines = headers.get_all(FORWARDED).iter().rev();
        let hops = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
        for hop in hops.take(HOPS_MAX) {
            if !self.trusts(last) {
                break;
            }
            // What is no address was not written by a proxy of ours: what stands before it means nothing.
            match hop.trim().parse::<IpAddr>() {
                Ok(address) => last = address.to_canonical(),
                Err(_) => break,
            }
        }
        last
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.has(address))
    }
}

/// What one caller can have at will is one address: of IPv6, a network of 64 bits.
pub fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(trusted: &[&str], peer: &str, forwarded: &[&str]) -> String {
        let proxies = Proxies::new(trusted.iter().map(|text| text.parse().unwrap()).collect());
        let mut headers = HeaderMap::new();
        forwarded.iter().for_each(|line| {
            headers.append(FORWARDED, line.parse().unwrap());
        });
        let mut extensions = Extensions::new();
        extensions.insert(Peer(peer.parse().unwrap()));
        proxies.client(&extensions, &headers).unwrap().to_string()
    }

    #[test]
    fn only_proxies_of_the_configuration_are_believed() {
        let ours = ["10.0.0.0/8", "fd00::/8"];
        for (trusted, peer, forwarded, want) in [
            (&[][..], "192.0.2.1", &["203.0.113.9"][..], "192.0.2.1"),
            (&ours, "192.0.2.1", &["203.0.113.9"], "192.0.2.1"),
            (&ours, "10.1.2.3", &[], "10.1.2.3"),
            (&ours, "10.1.2.3", &["203.0.113.9"], "203.0.113.9"),
            // What the client wrote itself stands before what the proxy saw.
            (&ours, "10.1.2.3", &["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
            (&ours, "10.1.2.3", &["1.1.1.1", "203.0.113.9, 10.9.9.9"], "203.0.113.9"),
            (&ours, "10.1.2.3", &["203.0.113.9, nonsense"], "10.1.2.3"),
            (&ours, "fd00::1", &["2001:db8::7"], "2001:db8::7"),
            (&ours, "::ffff:10.1.2.3", &["::ffff:203.0.113.9"], "203.0.113.9"),
            (&ours, "10.1.2.3", &["10.4.4.4, 10.5.5.5"], "10.4.4.4"),
        ] {
            assert_eq!(from(trusted, peer, forwarded), want, "{trusted:?} {peer} {forwarded:?}");
        }
        assert_eq!(Proxies::default().client(&Extensions::new(), &HeaderMap::new()), None);
    }

    #[test]
    fn networks_are_read_and_hold_what_they_should() {
        let has =
            |network: &str, address: &str| network.parse::<Network>().unwrap().has(address.parse().unwrap());
        assert!(has("10.0.0.0/8", "10.255.0.1") && !has("10.0.0.0/8", "11.0.0.0"));
        assert!(has("10.0.0.1", "10.0.0.1") && !has("10.0.0.1", "10.0.0.2"));
        assert!(has("0.0.0.0/0", "8.8.8.8") && !has("0.0.0.0/0", "::1") && has("::/0", "::1"));
        assert!(has("fd00::/8", "fdff::1") && !has("fd00::/8", "fe00::1"));
        for bad in ["", "10.0.0.0/33", "::/129", "example.com", "10.0.0.0/x", "10.0.0/8"] {
            assert!(bad.parse::<Network>().unwrap_err().contains("write it as"), "{bad}");
        }
    }

    #[test]
    fn who_has_a_network_is_one_neighbour() {
        let of = |text: &str| neighbourhood(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("203.0.113.9"), "203.0.113.9");
        assert_eq!(of("::ffff:203.0.113.9"), "203.0.113.9");
    }
}
