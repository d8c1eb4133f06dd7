//! What a provider says of itself (OpenID Connect Discovery 1.0), and which of its addresses are believed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Client;
use serde::Deserialize;
use url::{Host, Url};

pub use crate::http::FetchError;
use crate::http::{self, shown};

/// A provider's own description; only what is used here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Where its keys are.
    pub jwks: Url,
    /// Where tokens are had.
    pub token: Option<Url>,
    /// Where a browser is sent.
    pub authorization: Option<Url>,
    /// Where a device asks for a code.
    pub device: Option<Url>,
    /// Where a token is given back.
    pub revocation: Option<Url>,
}

#[derive(Deserialize)]
struct Raw {
    issuer: String,
    jwks_uri: String,
    token_endpoint: Option<String>,
    authorization_endpoint: Option<String>,
    device_authorization_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
}

/// Asks a provider for its description.
pub(crate) async fn fetch(http: &Client, issuer: &str) -> Result<Metadata, FetchError> {
    let url = self::issuer(issuer)
        .map_err(|why| FetchError::Answer { url: issuer.to_owned(), why: why.to_owned() })?;
    let address = document(&url);
    let body = http::get(http, &address).await?;
    read(issuer, &url, &body).map_err(|why| FetchError::Answer { url: shown(&address), why })
}

fn document(issuer: &Url) -> Url {
    let mut url = issuer.clone();
    let path = issuer.path().trim_end_matches('/');
    url.set_path(&format!("{path}/.well-known/openid-configuration"));
    url
}

fn read(issuer: &str, url: &Url, body: &[u8]) -> Result<Metadata, String> {
    let raw: Raw = serde_json::from_slice(body).map_err(|e| format!("no description of a provider: {e}"))?;
    // Mix-up: whoever answers for another issuer than the one asked is not believed.
    if raw.issuer != issuer {
        let said = domain::event::preview(&raw.issuer, 200);
        return Err(format!(
            "the issuer {said:?}, where {issuer:?} was asked; write the issuer as the provider does"
        ));
    }
    let one = |name: &str, text: &str| {
        endpoint(url, text).map_err(|why| format!("an address that is not believed: {name}: {why}"))
    };
    let optional =
        |name: &str, text: &Option<String>| text.as_deref().map(|text| one(name, text)).transpose();
    Ok(Metadata {
        jwks: one("jwks_uri", &raw.jwks_uri)?,
        token: optional("token_endpoint", &raw.token_endpoint)?,
        authorization: optional("authorization_endpoint", &raw.authorization_endpoint)?,
        device: optional("device_authorization_endpoint", &raw.device_authorization_endpoint)?,
        revocation: optional("revocation_endpoint", &raw.revocation_endpoint)?,
    })
}

/// An issuer that may be configured: `https`, or `http` on this machine.
pub fn issuer(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "it is no address; write it as https://HOST/PATH")?;
    if url.host().is_none() || url.query().is_some() || url.fragment().is_some() || named(&url) {
        return Err("it must be https://HOST/PATH, without a user, a query or a fragment");
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if loopback(&url) => Ok(url),
        _ => Err("it must begin with https:// (http:// is for a provider on this machine alone)"),
    }
}

/// An address that a provider names is believed when it is as safe as the issuer: encrypted, and not inside of a network
/// that the issuer is outside of.
pub fn endpoint(issuer: &Url, text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "it is no address")?;
    let Some(host) = url.host() else { return Err("it names no host") };
    if named(&url) {
        return Err("it holds a user or a password");
    }
    let same_host = Some(host.to_owned()) == issuer.host().map(|host| host.to_owned());
    match url.scheme() {
        "https" => (),
        "http" if issuer.scheme() == "http" && same_host => (),
        _ => return Err("it must begin with https://"),
    }
    if !same_host && private(&host) {
        return Err("it is a private address, and not the issuer's");
    }
    Ok(url)
}

/// Where a browser may be sent back to: this machine.
pub fn redirect(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "it is no address")?;
    let plain = url.query().is_none() && url.fragment().is_none() && !named(&url);
    if url.scheme() == "http" && loopback(&url) && url.port().is_some() && plain {
        return Ok(url);
    }
    Err("it must look like http://localhost:8400/callback: this machine, with a port")
}

fn named(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// Whether an address is of this machine.
pub fn loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => local_name(name),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

fn local_name(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name == "localhost" || name.ends_with(".localhost")
}

fn private(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => local_name(name),
        Host::Ipv4(ip) => private_v4(*ip),
        Host::Ipv6(ip) => match ip.to_canonical() {
            IpAddr::V4(ip) => private_v4(ip),
            IpAddr::V6(ip) => private_v6(ip),
        },
    }
}

fn private_v4(ip: Ipv4Addr) -> bool {
    let shared = ip.octets()[0] == 100 && (64..128).contains(&ip.octets()[1]);
    ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_unspecified()
        || ip.is_broadcast()
        || shared
}

fn private_v6(ip: Ipv6Addr) -> bool {
    ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn issuers_are_encrypted_or_on_this_machine() {
        for good in [
            "https://id.example",
            "https://id.example/realms/a/",
            "https://10.0.0.5:8443",
            "http://127.0.0.1:8080",
            "http://localhost:1/x",
            "http://[::1]:1",
        ] {
            assert!(issuer(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "id.example",
            "http://id.example",
            "http://10.0.0.5",
            "ftp://id.example",
            "https://u:p@id.example",
            "https://id.example?a=1",
            "https://id.example#a",
            "http://127.0.0.1.nip.example",
        ] {
            assert!(issuer(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_that_a_provider_names_are_as_safe_as_its_issuer() {
        let public = Url::parse("https://id.example/a").unwrap();
        let inside = Url::parse("https://10.0.0.5:8443").unwrap();
        let here = Url::parse("http://127.0.0.1:9000").unwrap();
        for (issuer, text, good) in [
            (&public, "https://id.example/keys", true),
            (&public, "https://keys.other.example/v3", true),
            (&public, "http://id.example/keys", false),
            (&public, "https://127.0.0.1/keys", false),
            (&public, "https://localhost/keys", false),
            (&public, "https://x.localhost./keys", false),
            (&public, "https://169.254.169.254/latest", false),
            (&public, "https://10.1.2.3/", false),
            (&public, "https://192.168.0.1/", false),
            (&public, "https://100.64.0.1/", false),
            (&public, "https://0.0.0.0/", false),
            (&public, "https://[::1]/", false),
            (&public, "https://[fd00::1]/", false),
            (&public, "https://[fe80::1]/", false),
            (&public, "https://[::ffff:10.0.0.1]/", false),
            (&public, "https://2130706433/", false),
            (&public, "https://u@id.example/keys", false),
            (&public, "file:///etc/passwd", false),
            (&public, "/keys", false),
            (&inside, "https://10.0.0.5:9443/keys", true),
            (&inside, "https://10.0.0.6/keys", false),
            (&here, "http://127.0.0.1:9001/keys", true),
            (&here, "http://127.0.0.2/keys", false),
            (&here, "http://id.example/keys", false),
            (&here, "https://id.example/keys", true),
        ] {
            assert_eq!(endpoint(issuer, text).is_ok(), good, "{issuer} {text}");
        }
    }

    #[test]
    fn a_description_of_another_issuer_is_not_believed() {
        let url = Url::parse("https://id.example").unwrap();
        let ask = |body: serde_json::Value| read("https://id.example", &url, body.to_string().as_bytes());
        let good = json!({ "issuer": "https://id.example", "jwks_uri": "https://id.example/k", "x": 1 });
        assert_eq!(ask(good).unwrap().jwks.as_str(), "https://id.example/k");
        for (body, word) in [
            (json!({ "issuer": "https://evil.example", "jwks_uri": "https://id.example/k" }), "evil.example"),
            (
                json!({ "issuer": "https://id.example/", "jwks_uri": "https://id.example/k" }),
                "as the provider does",
            ),
            (json!({ "issuer": "https://id.example" }), "jwks_uri"),
            (json!({ "issuer": 7, "jwks_uri": "https://id.example/k" }), "no description"),
            (json!({ "issuer": "https://id.example", "jwks_uri": "https://10.0.0.1/k" }), "private"),
            (json!([]), "no description"),
        ] {
            let told = ask(body).unwrap_err();
            assert!(told.contains(word), "{told}");
        }
    }

    #[test]
    fn the_document_is_below_the_issuers_path() {
        for (issuer, want) in [
            ("https://a.example", "https://a.example/.well-known/openid-configuration"),
            ("https://a.example/", "https://a.example/.well-known/openid-configuration"),
            ("https://a.example/realms/x", "https://a.example/realms/x/.well-known/openid-configuration"),
        ] {
            assert_eq!(document(&Url::parse(issuer).unwrap()).as_str(), want);
        }
    }
}
