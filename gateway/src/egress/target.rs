//! Where a request wants to go. Everything in it comes from a box, so it is read strictly: one spelling of a host is one
//! host, and what has two readings has none.

use std::fmt;
use std::net::IpAddr;

use url::Host;

/// Characters of a host name; DNS allows no more.
const NAME_MAX: usize = 253;
/// Characters of one label of it.
const LABEL_MAX: usize = 63;

/// A host and a port, in the one form that is compared: names in lower case and ASCII, without the root's dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Name or address.
    pub host: Host<String>,
    /// Port, never 0.
    pub port: u16,
}

/// A text that names no host and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum BadTarget {
    #[error("it is empty")]
    Empty,
    #[error("it has a user name or password")]
    UserInfo,
    #[error("the host has a character that no host name has")]
    Character,
    #[error("the host has an empty or too long label")]
    Label,
    #[error("the host is no name and no address")]
    Host,
    #[error("an address must be written plainly, as 192.0.2.1 or [2001:db8::1]")]
    OddAddress,
    #[error("the port is no number of 1 to 65535")]
    Port,
    #[error("a port must be named")]
    NoPort,
}

impl Target {
    /// Reads `host:port`; the port may be left out when there is a default for it.
    pub fn parse(authority: &str, default_port: Option<u16>) -> Result<Target, BadTarget> {
        let (host, port) = split(authority)?;
        let port = match port {
            Some(digits) => read_port(digits)?,
            None => default_port.ok_or(BadTarget::NoPort)?,
        };
        Ok(Target { host: read_host(host)?, port })
    }

    /// The address, when the target is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match &self.host {
            Host::Domain(_) => None,
            Host::Ipv4(ip) => Some((*ip).into()),
            Host::Ipv6(ip) => Some((*ip).into()),
        }
    }

    /// The `Host` header of a request to it.
    pub fn host_header(&self, default_port: u16) -> String {
        if self.port == default_port { self.host.to_string() } else { self.to_string() }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// The host and the port's digits.
pub(super) fn split(authority: &str) -> Result<(&str, Option<&str>), BadTarget> {
    if authority.is_empty() {
        return Err(BadTarget::Empty);
    }
    if authority.contains('@') {
        return Err(BadTarget::UserInfo);
    }
    if authority.starts_with('[') {
        let end = authority.find(']').ok_or(BadTarget::Host)? + 1;
        return match (&authority[..end], &authority[end..]) {
            (host, "") => Ok((host, None)),
            (host, rest) => Ok((host, Some(rest.strip_prefix(':').ok_or(BadTarget::Host)?))),
        };
    }
    match authority.split_once(':') {
        None => Ok((authority, None)),
        // An address of version 6 has brackets; two colons without are neither that nor a port.
        Some((_, port)) if port.contains(':') => Err(BadTarget::OddAddress),
        Some((host, port)) => Ok((host, Some(port))),
    }
}

/// A port: digits and nothing else, so that `+80` and `0080` are none.
pub(super) fn read_port(digits: &str) -> Result<u16, BadTarget> {
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    digits.parse().ok().filter(|_| plain).ok_or(BadTarget::Port)
}

/// A name or an address.
pub(super) fn read_host(text: &str) -> Result<Host<String>, BadTarget> {
    if text.is_empty() {
        return Err(BadTarget::Empty);
    }
    let odd = |c: char| c.is_whitespace() || c.is_control() || "%@/\\?#*\u{ad}".contains(c);
    if text.contains(odd) {
        return Err(BadTarget::Character);
    }
    // One dot at the end is the root's, and the same name.
    let name = text.strip_suffix('.').unwrap_or(text);
    match Host::parse(name).map_err(|_| BadTarget::Host)? {
        Host::Domain(name) => read_name(name).map(Host::Domain),
        // `127.1`, `0x7f.0.0.1` and `2130706433` are read by some as an address and by others as a name.
        Host::Ipv4(ip) if ip.to_string() == text => Ok(Host::Ipv4(ip)),
        Host::Ipv4(_) => Err(BadTarget::OddAddress),
        Host::Ipv6(ip) if name == text => Ok(Host::Ipv6(ip)),
        Host::Ipv6(_) => Err(BadTarget::OddAddress),
    }
}

fn read_name(name: String) -> Result<String, BadTarget> {
    if name.len() > NAME_MAX || name.split('.').any(|label| label.is_empty() || label.len() > LABEL_MAX) {
        return Err(BadTarget::Label);
    }
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
    if name.bytes().all(plain) { Ok(name) } else { Err(BadTarget::Character) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        match Target::parse(text, Some(80)) {
            Ok(target) => target.to_string(),
            Err(bad) => format!("{bad:?}"),
        }
    }

    #[test]
    fn a_host_has_one_form() {
        for (text, form) in [
            ("example.com", "example.com:80"),
            ("EXAMPLE.com.:443", "example.com:443"),
            ("bücher.example", "xn--bcher-kva.example:80"),
            ("ｅｘａｍｐｌｅ.com", "example.com:80"),
            ("example。com", "example.com:80"),
            ("_srv.a-b.example:1", "_srv.a-b.example:1"),
            ("localhost:65535", "localhost:65535"),
            ("192.0.2.1", "192.0.2.1:80"),
            ("[2001:DB8:0::1]:8080", "[2001:db8::1]:8080"),
            ("[::ffff:127.0.0.1]", "[::ffff:7f00:1]:80"),
        ] {
            assert_eq!(read(text), form, "{text}");
        }
    }

    #[test]
    fn what_has_two_readings_has_none() {
        for (text, bad) in [
            ("", "Empty"),
            (":80", "Empty"),
            (".", "Host"),
            ("a..b", "Label"),
            (".a", "Label"),
            ("a.b..", "Label"),
            ("user@example.com", "UserInfo"),
            ("example.com@evil.com:80", "UserInfo"),
            ("ex%61mple.com", "Character"),
            ("example.com%00.evil.com", "Character"),
            ("exam ple.com", "Character"),
            ("example.com\\.evil.com", "Character"),
            ("example.com/x", "Character"),
            ("*.example.com", "Character"),
            ("a,b", "Character"),
            ("a!b.com", "Character"),
            ("127.1", "OddAddress"),
            ("0x7f.0.0.1", "OddAddress"),
            ("0177.0.0.1", "OddAddress"),
            ("2130706433", "OddAddress"),
            ("127.0.0.1.", "OddAddress"),
            ("１２７.0.0.1", "OddAddress"),
            ("::1", "OddAddress"),
            ("[::1].", "Host"),
            ("[::1", "Host"),
            ("[::1%25eth0]", "Character"),
            ("[fe80::1%eth0]:80", "Character"),
            ("[::1]80", "Host"),
            ("1.2.3.4.5", "Host"),
            ("example.com:", "Port"),
            ("example.com:0", "Port"),
            ("example.com:+80", "Port"),
            ("example.com:080", "Port"),
            ("example.com:65536", "Port"),
            ("example.com:80:80", "OddAddress"),
            (&"a".repeat(64), "Label"),
            (&["a"; 130].join("."), "Label"),
        ] {
            assert_eq!(read(text), bad, "{text}");
        }
        assert_eq!(Target::parse("example.com", None), Err(BadTarget::NoPort));
    }
}
