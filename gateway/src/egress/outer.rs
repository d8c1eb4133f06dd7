//! The proxy that this machine itself must use to leave. Through it names cannot be looked up here: it decides on
//! addresses, so what is plainly of this network is refused by name.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use http::HeaderValue;
use url::{Host, Url};

use super::policy::BadPolicy;
use super::target::Target;

/// The proxy, and what goes past it.
#[derive(Clone)]
pub struct OuterProxy {
    /// Where it is.
    pub target: Target,
    /// `Proxy-Authorization`, when its address had a user name.
    pub authorization: Option<HeaderValue>,
    bypass: Vec<Bypass>,
}

impl fmt::Debug for OuterProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OuterProxy({})", self.target)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Bypass {
    All,
    /// A name and everything under it, or an address.
    Host(String),
}

impl OuterProxy {
    /// The proxy that `setting` names: a URL, `none`, or empty for the one in the environment.
    pub fn from_setting(
        setting: &str,
        env: &BTreeMap<String, String>,
    ) -> Result<Option<OuterProxy>, BadPolicy> {
        let bad =
            |setting: &str, problem: &str| BadPolicy { setting: setting.into(), problem: problem.into() };
        let variable = |names: &[&'static str]| {
            names
                .iter()
                .copied()
                .find_map(|name| Some((name, env.get(name).filter(|v| !v.trim().is_empty())?.as_str())))
        };
        let found = match setting.trim() {
            "none" => None,
            "" => variable(&[
                "HTTPS_PROXY",
                "https_proxy",
                "HTTP_PROXY",
                "http_proxy",
                "ALL_PROXY",
                "all_proxy",
            ]),
            url => Some(("egress.upstream_proxy", url)),
        };
        let Some((name, url)) = found else { return Ok(None) };
        let full = if url.contains("://") { url.trim().to_owned() } else { format!("http://{}", url.trim()) };
        let url = Url::parse(&full).map_err(|_| bad(name, "it is no URL of a proxy, as http://host:port"))?;
        if url.scheme() != "http" {
            return Err(bad(name, "only a proxy that is spoken to over http:// can be chained"));
        }
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err(bad(name, "it names no host"));
        };
        let target = Target { host: host.to_owned(), port };
        let authorization = authorization(&url).ok_or_else(|| bad(name, "its password cannot be sent"))?;
        let bypass = variable(&["NO_PROXY", "no_proxy"]).map_or("", |(_, list)| list);
        let bypass = bypass.split([',', ' ']).filter(|entry| !entry.is_empty()).map(Bypass::read).collect();
        Ok(Some(OuterProxy { target, authorization, bypass }))
    }

    /// Whether `target` is reached without it.
    pub fn is_past(&self, target: &Target) -> bool {
        let host = target.host.to_string();
        self.bypass.iter().any(|bypass| match bypass {
            Bypass::All => true,
            Bypass::Host(name) => host
                .strip_suffix(name.as_str())
                .is_some_and(|sub| sub.is_empty() || (sub.ends_with('.') && target.ip().is_none())),
        })
    }
}

impl Bypass {
    fn read(entry: &str) -> Bypass {
        match entry {
            "*" => Bypass::All,
            name => Bypass::Host(name.trim_start_matches("*.").trim_start_matches('.').to_ascii_lowercase()),
        }
    }
}

/// The outer `None` is a password that no header can carry.
fn authorization(url: &Url) -> Option<Option<HeaderValue>> {
    if url.username().is_empty() && url.password().is_none() {
        return Some(None);
    }
    let plain = |text: &str| percent_decode(text);
    let pair = [&plain(url.username())[..], b":", &plain(url.password().unwrap_or_default())].concat();
    let text = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(Some(value))
}

fn percent_decode(text: &str) -> Vec<u8> {
    // A form has the same escapes, beside signs of its own.
    let plus = text.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    url::form_urlencoded::parse(plus.as_bytes())
        .next()
        .map(|(k, _)| k.as_bytes().to_vec())
        .unwrap_or_default()
}

/// Whether a name means something of this machine or network wherever it is asked.
pub fn is_local_name(host: &Host<String>) -> bool {
    let Host::Domain(name) = host else { return false };
    let last = name.rsplit('.').next().unwrap_or_default();
    !name.contains('.')
        || matches!(last, "localhost" | "local" | "internal" | "localdomain" | "lan" | "intranet" | "corp")
        || name.ends_with(".home.arpa")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outer(setting: &str, env: &[(&str, &str)]) -> Result<Option<OuterProxy>, String> {
        let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        OuterProxy::from_setting(setting, &env).map_err(|e| e.to_string())
    }

    #[test]
    fn the_setting_comes_before_the_environment() {
        let env =
            [("HTTPS_PROXY", "http://env.example:3128"), ("NO_PROXY", "*.a.example, .b.example,10.0.0.1")];
        let found = |setting: &str| outer(setting, &env).unwrap().map(|o| o.target.to_string());
        assert_eq!(found(""), Some("env.example:3128".into()));
        assert_eq!(found("none"), None);
        assert_eq!(found("own.example:8080"), Some("own.example:8080".into()));
        assert!(outer("", &[]).unwrap().is_none());
        let proxy = outer("", &env).unwrap().unwrap();
        let past = |text: &str| proxy.is_past(&Target::parse(text, Some(443)).unwrap());
        assert!(past("a.example") && past("x.a.example") && past("b.example") && past("10.0.0.1"));
        assert!(!past("evila.example") && !past("c.example") && !past("10.0.0.10"));
    }

    #[test]
    fn its_password_is_sent_and_not_shown() {
        let proxy = outer("http://me:p%40ss@proxy.example:1", &[]).unwrap().unwrap();
        let sent = proxy.authorization.clone().unwrap();
        assert_eq!(sent.to_str().unwrap(), "Basic bWU6cEBzcw==");
        assert!(!format!("{proxy:?}").contains("ss"));
        let told = outer("", &[("HTTPS_PROXY", "socks5://me:hush@h:1")]).unwrap_err();
        assert!(told.contains("HTTPS_PROXY") && !told.contains("hush"), "{told}");
    }

    #[test]
    fn names_of_this_network() {
        let local = |text: &str| is_local_name(&Target::parse(text, Some(80)).unwrap().host);
        for text in ["localhost", "x.localhost", "db", "db.internal", "printer.local", "nas.home.arpa"] {
            assert!(local(text), "{text}");
        }
        assert!(!local("example.com") && !local("local.example.com"));
    }
}
