//! A rule of the allowlist: `host`, `*.host`, either with `:port`. Names are compared in the one form that
//! [`Target`](super::target::Target) has, label by label.

use std::fmt;

use url::Host;

use super::target::{BadTarget, Target, read_host, read_port, split};

/// Ports that a rule without one is for.
pub const WEB_PORTS: [u16; 2] = [80, 443];

/// One line of an allowlist.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Hosts {
    /// This host and no other.
    One(Host<String>),
    /// Every name under this one, at any depth, but not itself.
    Under(String),
}

/// A rule that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum BadRule {
    #[error(
        "a rule that allows every host is none; name hosts, or set mode = \"observe\" to see which are used"
    )]
    Everything,
    #[error("`*` stands only at the beginning, as in *.example.com")]
    Star,
    #[error("`*.` goes before a name, not an address")]
    StarAddress,
    #[error("it is a URL; write only its host, as in example.com or example.com:8443")]
    Url,
    #[error("{0}")]
    Target(#[from] BadTarget),
}

impl Rule {
    /// Reads a rule as it is written in the configuration.
    pub fn parse(text: &str) -> Result<Rule, BadRule> {
        if text.contains("//") {
            return Err(BadRule::Url);
        }
        let (host, port) = split(text)?;
        let port = port.map(read_port).transpose()?;
        let hosts = match host.strip_prefix("*.") {
            Some(base) if base.contains('*') => return Err(BadRule::Star),
            Some(base) => match read_host(base)? {
                Host::Domain(base) => Hosts::Under(base),
                Host::Ipv4(_) | Host::Ipv6(_) => return Err(BadRule::StarAddress),
            },
            None if host == "*" => return Err(BadRule::Everything),
            None if host.contains('*') => return Err(BadRule::Star),
            None => Hosts::One(read_host(host)?),
        };
        Ok(Rule { hosts, port })
    }

    /// The rule for one host, and one port or those of the web.
    pub fn of(host: Host<String>, port: Option<u16>) -> Rule {
        Rule { hosts: Hosts::One(host), port }
    }

    /// The narrowest rule that allows `target`.
    pub fn for_target(target: &Target) -> Rule {
        Rule::of(target.host.clone(), Some(target.port).filter(|port| !WEB_PORTS.contains(port)))
    }

    /// Whether it is for this target.
    pub fn matches(&self, target: &Target) -> bool {
        let port = match self.port {
            Some(port) => port == target.port,
            None => WEB_PORTS.contains(&target.port),
        };
        port && match (&self.hosts, &target.host) {
            (Hosts::One(host), wanted) => host == wanted,
            (Hosts::Under(base), Host::Domain(name)) => {
                name.strip_suffix(base.as_str()).is_some_and(|sub| sub.len() > 1 && sub.ends_with('.'))
            }
            (Hosts::Under(_), Host::Ipv4(_) | Host::Ipv6(_)) => false,
        }
    }

    /// Whether it names its port.
    pub fn has_port(&self) -> bool {
        self.port.is_some()
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hosts {
            Hosts::One(host) => write!(f, "{host}")?,
            Hosts::Under(base) => write!(f, "*.{base}")?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn allows(rule: &str, target: &str) -> bool {
        let rule = Rule::parse(rule).unwrap_or_else(|e| panic!("{rule}: {e}"));
        Target::parse(target, Some(443)).is_ok_and(|target| rule.matches(&target))
    }

    #[test]
    fn a_rule_is_for_what_it_says() {
        for (rule, target, expected) in [
            ("example.com", "example.com", true),
            ("example.com", "EXAMPLE.COM.", true),
            ("Example.COM.", "example.com:80", true),
            ("example.com", "example.com:8080", false),
            ("example.com:8080", "example.com:8080", true),
            ("example.com:8080", "example.com", false),
            ("example.com", "www.example.com", false),
            ("example.com", "evil-example.com", false),
            ("example.com", "example.com.evil", false),
            ("example.com", "example.co", false),
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("*.example.com", "evilexample.com", false),
            ("*.example.com", "evil-example.com", false),
            ("*.example.com", "a.example.com.evil", false),
            ("*.example.com:8443", "a.example.com:8443", true),
            ("*.example.com:8443", "a.example.com", false),
            ("bücher.example", "xn--bcher-kva.example", true),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "[::ffff:192.0.2.1]", false),
            ("192.0.2.1", "3221225985", false),
            ("[2001:db8::1]:80", "[2001:db8:0:0::1]:80", true),
            ("*.2.com", "192.0.2.com", true),
        ] {
            assert_eq!(allows(rule, target), expected, "{rule} for {target}");
        }
    }

    #[test]
    fn a_bad_rule_is_told() {
        for (rule, bad) in [
            ("*", BadRule::Everything),
            ("*:443", BadRule::Everything),
            ("*.*.com", BadRule::Star),
            ("a*.com", BadRule::Star),
            ("a.*", BadRule::Star),
            ("**", BadRule::Star),
            ("*.10.0.0.1", BadRule::StarAddress),
            ("https://example.com", BadRule::Url),
            ("example.com/path", BadRule::Target(BadTarget::Character)),
            ("127.1", BadRule::Target(BadTarget::OddAddress)),
            ("", BadRule::Target(BadTarget::Empty)),
            ("*.", BadRule::Target(BadTarget::Empty)),
            ("example.com:web", BadRule::Target(BadTarget::Port)),
        ] {
            assert_eq!(Rule::parse(rule), Err(bad), "{rule}");
        }
    }

    fn label() -> impl Strategy<Value = String> {
        "[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,4})?"
    }

    fn name() -> impl Strategy<Value = String> {
        proptest::collection::vec(label(), 2..4).prop_map(|labels| labels.join("."))
    }

    /// One spelling of a name: cases, full width letters, a dot at the end.
    fn spelt(name: String) -> impl Strategy<Value = String> {
        let length = name.chars().count();
        (proptest::collection::vec(0..3u8, length), any::<bool>()).prop_map(move |(how, dot)| {
            let wide = |c: char| char::from_u32(c as u32 + 0xFEE0).filter(|_| c.is_ascii_alphanumeric());
            let mut text: String = name
                .chars()
                .zip(how)
                .map(|(c, how)| match how {
                    0 => c,
                    1 => c.to_ascii_uppercase(),
                    _ => wide(c).unwrap_or(c),
                })
                .collect();
            if dot {
                text.push('.');
            }
            text
        })
    }

    proptest! {
        #[test]
        fn every_spelling_of_a_name_is_that_name((name, text) in name().prop_flat_map(|n| (Just(n.clone()), spelt(n)))) {
            prop_assert!(allows(&name, &text), "{name} for {text}");
            let (under, sub) = (format!("*.{name}"), format!("x.{text}"));
            prop_assert!(allows(&under, &sub));
            prop_assert!(!allows(&under, &text));
        }

        #[test]
        fn no_spelling_of_another_name_is((name, other, text) in (name(), name()).prop_flat_map(|(n, o)| (Just(n), Just(o.clone()), spelt(o)))) {
            prop_assume!(name != other);
            prop_assert!(!allows(&name, &text));
            let under = other.ends_with(&format!(".{name}"));
            prop_assert_eq!(allows(&format!("*.{name}"), &text), under);
        }

        #[test]
        fn what_is_put_around_a_name_makes_another((name, before, after) in (name(), "[^.]{1,6}", ".{1,6}")) {
            prop_assume!(!before.ends_with('。') && !before.ends_with('．') && !before.ends_with('｡'));
            let (front, back) = (format!("{before}{name}"), format!("{name}{after}"));
            for text in [&front, &back] {
                let Ok(target) = Target::parse(text, Some(443)) else { continue };
                // What the standard maps to nothing (soft hyphens, joiners) may leave the name itself: then it is that.
                let same = target.host == Host::Domain(name.clone());
                let rule = Rule::parse(&name).unwrap();
                prop_assert_eq!(rule.matches(&target), same && WEB_PORTS.contains(&target.port), "{}", text);
            }
        }

        #[test]
        fn a_match_is_a_match_of_the_text_that_is_connected_to(rule in ".{0,20}", text in ".{0,30}") {
            let (Ok(rule), Ok(target)) = (Rule::parse(&rule), Target::parse(&text, Some(443))) else { return Ok(()) };
            let again = Target::parse(&target.to_string(), None).unwrap();
            prop_assert_eq!(&again, &target);
            prop_assert_eq!(Rule::parse(&rule.to_string()).unwrap().matches(&again), rule.matches(&target));
        }

        #[test]
        fn the_rule_for_a_target_allows_it_and_no_other((a, b) in (name(), name()), port in 1..u16::MAX) {
            let target = Target::parse(&format!("{a}:{port}"), None).unwrap();
            let rule = Rule::for_target(&target);
            prop_assert_eq!(Rule::parse(&rule.to_string()), Ok(rule.clone()));
            prop_assert!(rule.matches(&target));
            let other = Target::parse(&format!("{b}:{port}"), None).unwrap();
            prop_assert_eq!(rule.matches(&other), a == b);
        }
    }
}
