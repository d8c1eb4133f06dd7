//! Credentials of hosts, added to a request when it leaves. A box never has them: what it sends itself in that header is
//! replaced, and an answer that leads elsewhere goes to the box, which follows it without.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::target::{BadTarget, Target};

/// `[[egress.credentials]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialSettings {
    /// `host`, for its port 443, or `host:port`. Port 80 must be written: there the credential goes unencrypted.
    pub host: String,
    /// The header, as `Authorization`.
    pub header: String,
    /// Its whole value, as `Bearer ...`.
    pub value: SecretString,
    /// Whether the host speaks TLS; it does when nothing is said, except on port 80.
    #[serde(default)]
    pub tls: Option<bool>,
    /// Further certificate authorities that the host's certificate may be from, as a PEM file.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// A credential that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum BadCredential {
    #[error("{0}")]
    Host(#[from] BadTarget),
    #[error("{0:?} is no header that a credential can go in; write one as Authorization or X-Api-Key")]
    Header(String),
    #[error("its value is empty or has a character that no header may have")]
    Value,
    #[error("ca_file {0}")]
    CaFile(String),
}

/// A credential of one host.
#[derive(Clone)]
pub struct Credential {
    /// The host and port it is for.
    pub target: Target,
    /// Whether the host speaks TLS.
    pub tls: bool,
    /// How TLS is spoken with the host; set when it is.
    pub client_config: Option<Arc<ClientConfig>>,
    header: HeaderName,
    value: HeaderValue,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({} for {})", self.header, self.target)
    }
}

impl Credential {
    /// Reads the settings.
    pub fn parse(settings: &CredentialSettings) -> Result<Credential, BadCredential> {
        let target = Target::parse(settings.host.trim(), Some(443))?;
        let header: Option<HeaderName> = settings.header.trim().parse().ok();
        let header = header
            .filter(|name| !super::forward::is_framing(name))
            .ok_or_else(|| BadCredential::Header(settings.header.clone()))?;
        let value = settings.value.expose_secret();
        let mut value = HeaderValue::from_str(value).map_err(|_| BadCredential::Value)?;
        if value.is_empty() {
            return Err(BadCredential::Value);
        }
        value.set_sensitive(true);
        let tls = settings.tls.unwrap_or(target.port != 80);
        let client_config = tls.then(|| client_config(settings.ca_file.as_deref())).transpose()?;
        Ok(Credential { target, tls, client_config, header, value })
    }

    /// Puts it into a request, in place of what the box sent.
    pub fn add(&self, headers: &mut http::HeaderMap) {
        headers.insert(self.header.clone(), self.value.clone());
    }
}

/// TLS to hosts whose certificates are from an authority of this machine, or from one in `ca_file`.
pub(super) fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, BadCredential> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let bad = |why: String| BadCredential::CaFile(format!("{}: {why}", path.display()));
        let certificates = CertificateDer::pem_file_iter(path).map_err(|e| bad(e.to_string()))?;
        let before = roots.len();
        for certificate in certificates {
            let certificate = certificate.map_err(|e| bad(e.to_string()))?;
            roots.add(certificate).map_err(|e| bad(e.to_string()))?;
        }
        if roots.len() == before {
            return Err(bad("it holds no certificate".into()));
        }
    }
    let config = ClientConfig::builder_with_provider(super::authority::provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| BadCredential::CaFile(e.to_string()))?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
