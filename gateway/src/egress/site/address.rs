//! Addresses of registries as configurations write them: the host is kept, credentials are not.

use url::{Host, Url};

use super::{Origin, Site};

/// Prefixes before the actual scheme: cargo's `sparse+https`, apt's `mirror+http`, pip's `git+https`.
const PREFIXES: [&str; 5] = ["sparse+", "registry+", "git+", "mirror+", "tor+"];

/// An address of http or https.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// Host and port.
    pub site: Site,
    /// The address without user, password, query and fragment, and without what stands before the scheme.
    pub url: Url,
    /// The same with what stands before the scheme: as a tool is configured with it.
    pub plain: String,
    /// As it was.
    whole: Url,
    /// Whether something was cut that may be a secret.
    pub had_secret: bool,
}

impl Address {
    /// Reads an address; `None` when it is none of http or https.
    pub(super) fn read(text: &str) -> Option<Address> {
        let text = text.trim().trim_matches(['"', '\'']);
        let (prefix, rest) = PREFIXES
            .iter()
            .find_map(|prefix| text.strip_prefix(prefix).map(|rest| (*prefix, rest)))
            .unwrap_or(("", text));
        let whole = Url::parse(rest).ok()?;
        let tls = match whole.scheme() {
            "https" => true,
            "http" => false,
            _other => return None,
        };
        let host = whole.host()?;
        let site = Site {
            host: host.to_string().trim_end_matches('.').to_owned(),
            port: whole.port_or_known_default()?,
            tls,
            origin: Origin::Configured,
        };
        if site.host.is_empty() {
            return None;
        }
        let had_secret =
            !whole.username().is_empty() || whole.password().is_some() || whole.query().is_some();
        let mut url = whole.clone();
        url.set_username("").ok()?;
        url.set_password(None).ok()?;
        url.set_query(None);
        url.set_fragment(None);
        // The spelling of the configuration is kept where there is nothing to cut: tools compare it.
        let plain =
            if had_secret || whole.fragment().is_some() { format!("{prefix}{url}") } else { text.to_owned() };
        Some(Address { site, url, plain, whole, had_secret })
    }

    /// An address below this one, with its credential: for the one request that a server makes itself.
    pub(super) fn below(&self, path: &str) -> Option<Url> {
        let mut base = self.whole.clone();
        base.set_query(None);
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        base.join(path).ok()
    }

    /// The same host as a registry names it. Nothing that only this machine or its network knows by itself: a
    /// registry must not open a way into the private network.
    pub(super) fn learned(text: &str) -> Option<Site> {
        let site = Site { origin: Origin::Learned, ..Address::read(text)?.site };
        let name = match Host::parse(&site.host).ok()? {
            Host::Domain(name) => name,
            Host::Ipv4(_) | Host::Ipv6(_) => return None,
        };
        let local = [".localhost", ".local", ".internal"].iter().any(|end| name.ends_with(end));
        (name.contains('.') && !local).then_some(site)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let told = match Address::read(text) {
            Some(a) => format!("{} {} tls={} secret={}", a.site, a.plain, a.site.tls, a.had_secret),
            None => "none".into(),
        };
        assert_eq!(told, expected, "{text}");
    }

    #[test]
    fn credentials_are_cut_and_the_rest_is_kept() {
        check("https://a.example/simple", "a.example:443 https://a.example/simple tls=true secret=false");
        check(
            "https://me:pw@A.example:8443/simple/",
            "a.example:8443 https://a.example:8443/simple/ tls=true secret=true",
        );
        check("http://tok@a.example/x", "a.example:80 http://a.example/x tls=false secret=true");
        check("https://a.example/x?key=1#f", "a.example:443 https://a.example/x tls=true secret=true");
        check(
            "sparse+https://u:p@a.example/index/",
            "a.example:443 sparse+https://a.example/index/ tls=true secret=true",
        );
        check(
            "mirror+http://a.example/list",
            "a.example:80 mirror+http://a.example/list tls=false secret=false",
        );
        check("http://[::1]:8081/", "[::1]:8081 http://[::1]:8081/ tls=false secret=false");
        for none in
            ["", "file:///srv/wheels", "/opt/wheels", "cdrom:[x]/", "ssh://git@a.example/x", "https://"]
        {
            check(none, "none");
        }
    }

    #[test]
    fn a_registry_cannot_point_into_the_private_network() {
        for told in [
            "http://127.0.0.1:9/x",
            "https://[::1]/",
            "http://localhost/",
            "http://db/x",
            "http://a.internal/",
        ] {
            assert_eq!(Address::learned(told), None, "{told}");
        }
        assert_eq!(Address::learned("https://files.a.example/x").unwrap().to_string(), "files.a.example:443");
    }
}
